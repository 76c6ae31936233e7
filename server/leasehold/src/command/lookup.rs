//! `leasehold lookup`: what is current.

use super::{ClientFlags, Ending, Session};
use crate::{
    exit::Failure,
    output::Rows,
    quantity::rough,
    shape::{self, BodyShape, PageShape, RegenerationShape},
};
use clap::Args;
use leasehold_client::{
    BodyDelivery, Consistency, ConsistencyToken, Lookup, LookupOptions, LookupReply, Page, PageBody,
};
use serde::Serialize;

pub(crate) const JSON: &str = "\
JSON, every key always there, durations in ms, times RFC 3339:
  {outcome: fresh|stale|missing, fresh_for_ms,
   reason: expired|invalidated|unverified|never_rendered|purged|body_gone|null,
   stale_while_revalidate_for_ms, stale_if_error_for_ms,
   page: {generation, etag, status, content_type, size_bytes, digest, generated_at, age_ms,
          revalidate_ms, stale_while_revalidate_ms, stale_if_error_ms, render_time_ms,
          tags, path, headers: [{name, value}], sidecar_token, html_object_name,
          sidecar_object_name} | null,
   regeneration: {owner, generation, remaining_ms} | null,
   body, body_base64, body_too_large}
Exits with 3 when the page is missing.";

#[derive(Args, Clone, Debug)]
pub(crate) struct LookupFlags {
    /// The entry's key
    key: String,
    #[command(flatten)]
    how: HowCurrent,
    /// Print the HTML too
    #[arg(long)]
    body: bool,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

/// How current an answer must be.
#[derive(Args, Clone, Debug)]
pub(super) struct HowCurrent {
    /// Read the log and the entry first, rather than answer from memory
    #[arg(long)]
    strict: bool,
    /// Take the invalidation into account that answered with this consistency token
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

impl HowCurrent {
    pub(super) fn consistency(&self) -> Consistency {
        if self.strict { Consistency::Strict } else { Consistency::Bounded }
    }

    pub(super) fn token(&self) -> Option<ConsistencyToken> {
        self.token.as_deref().map(ConsistencyToken::new)
    }
}

/// What `lookup` answers.
#[derive(Debug, Serialize)]
struct LookupShape {
    #[serde(flatten)]
    standing: StandingShape,
    page: Option<PageShape>,
    regeneration: Option<RegenerationShape>,
    #[serde(flatten)]
    body: BodyShape,
    body_too_large: bool,
}

/// Whether a page may be served, as in several commands.
#[derive(Debug, Serialize)]
pub(super) struct StandingShape {
    pub(super) outcome: &'static str,
    pub(super) reason: Option<&'static str>,
    pub(super) fresh_for_ms: Option<u64>,
    pub(super) stale_while_revalidate_for_ms: Option<u64>,
    pub(super) stale_if_error_for_ms: Option<u64>,
}

impl From<&Lookup> for StandingShape {
    fn from(outcome: &Lookup) -> Self {
        let nothing = Self {
            outcome: "missing",
            reason: None,
            fresh_for_ms: None,
            stale_while_revalidate_for_ms: None,
            stale_if_error_for_ms: None,
        };
        match outcome {
            Lookup::Fresh(fresh) => {
                Self { outcome: "fresh", fresh_for_ms: fresh.fresh_for.map(shape::millis), ..nothing }
            }
            Lookup::Stale(stale) => Self {
                outcome: "stale",
                reason: Some(shape::stale_reason(stale.reason)),
                stale_while_revalidate_for_ms: stale.stale_while_revalidate_for.map(shape::millis),
                stale_if_error_for_ms: stale.stale_if_error_for.map(shape::millis),
                ..nothing
            },
            Lookup::Missing(reason) => Self { reason: Some(shape::missing_reason(*reason)), ..nothing },
        }
    }
}

/// Whether a page may be served, for people.
pub(super) fn standing_text(outcome: &Lookup) -> String {
    match outcome {
        Lookup::Fresh(fresh) => match fresh.fresh_for {
            Some(span) => format!("fresh for {}", rough(span)),
            None => "fresh until invalidated".to_owned(),
        },
        Lookup::Stale(stale) => shape::stale_text(stale),
        Lookup::Missing(reason) => shape::missing_text(*reason).to_owned(),
    }
}

pub(super) fn page_of(outcome: &Lookup) -> Option<&Page> {
    match outcome {
        Lookup::Fresh(fresh) => Some(&fresh.page),
        Lookup::Stale(stale) => Some(&stale.page),
        Lookup::Missing(_) => None,
    }
}

impl LookupFlags {
    pub(super) async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let Self { key, how, body, client: _ } = self;
        let options = LookupOptions {
            consistency: how.consistency(),
            consistency_token: how.token(),
            body: if body { BodyDelivery::Inline } else { BodyDelivery::None },
            ..LookupOptions::default()
        };
        let reply = session.coordinator.lookup(&session.entry(&key), &options).await;
        let LookupReply { outcome, regeneration, state: _ } =
            reply.map_err(|error| session.failed(&error))?;
        let page = page_of(&outcome);
        let delivered = page.map(|page| &page.body);
        let shape = LookupShape {
            standing: (&outcome).into(),
            page: page.map(PageShape::from),
            regeneration: regeneration.as_ref().map(RegenerationShape::from),
            body: match delivered {
                Some(PageBody::Inline(bytes)) => BodyShape::from(&bytes[..]),
                _ => BodyShape::default(),
            },
            body_too_large: matches!(delivered, Some(PageBody::TooLarge)),
        };
        session.output.result(&shape, || for_people(&outcome, &shape, &key))?;
        if !session.output.as_json
            && let Some(PageBody::Inline(bytes)) = delivered
        {
            session.output.bytes(b"\n")?;
            session.output.bytes(bytes)?;
        }
        Ok(if page.is_some() { Ending::Done } else { Ending::NotReached })
    }
}

fn for_people(outcome: &Lookup, shape: &LookupShape, key: &str) -> String {
    let mut rows = Rows::default();
    rows.add("outcome", standing_text(outcome));
    if let Some(page) = &shape.page {
        page.rows(&mut rows);
    }
    rows.add_some("rendering", shape.regeneration.as_ref().map(RegenerationShape::text));
    if shape.body_too_large {
        rows.add("body", format!("too large for a message: leasehold page {key}"));
    }
    rows.text()
}
