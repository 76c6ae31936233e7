//! `leasehold explain`: how things stand with an entry, why, and what happens next.

use super::{
    ClientFlags, Ending, Session,
    lease::failures,
    lookup::{HowCurrent, StandingShape, standing_text},
    next::{self, Next},
};
use crate::{
    exit::Failure,
    output::Rows,
    quantity::rough,
    shape::{self, PageShape, ScopeShape, rfc3339},
};
use clap::Args;
use leasehold_client::{
    BackoffState, EntryState, InvalidationState, LeaseState, Lookup, LookupOptions, LookupReply,
};
use leasehold_service::time::{Clock as _, SystemClock};
use serde::Serialize;
use std::time::{Duration, SystemTime};

pub(crate) const JSON: &str = "\
JSON:
  {tenant, deployment, key, generation: the latest granted, or 0,
   outcome, reason, fresh_for_ms, stale_while_revalidate_for_ms, stale_if_error_for_ms:
     as in lookup,
   page: as in lookup, also where it may not be served | null,
   fresh_since, fresh_until, body_gone, seen: log position when the page's lease was granted,
   lease: {owner, generation, granted_at, expires_at, hold_until, remaining_ms, expired,
           overtaken} | null,
   backoff: {failures, not_before, remaining_ms, failed_at, reason} | null,
   invalidation: {seq, at, depth, scopes: [{tenant, scope, value}],
                  applies: whether the page is older} | null,
   log: {position, age_ms, verified},
   next: {text, code: fresh|fresh_until_invalidated|rendering|overtaken|lease_expired|
                      backing_off|unverified|render}}";

#[derive(Args, Clone, Debug)]
pub(crate) struct ExplainFlags {
    /// The entry's key
    key: String,
    #[command(flatten)]
    how: HowCurrent,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

/// What `explain` answers.
#[derive(Debug, Serialize)]
struct ExplainShape {
    tenant: String,
    deployment: Option<String>,
    key: String,
    #[serde(flatten)]
    standing: StandingShape,
    generation: u64,
    page: Option<PageShape>,
    fresh_since: Option<String>,
    fresh_until: Option<String>,
    body_gone: bool,
    seen: u64,
    lease: Option<LeaseShape>,
    backoff: Option<BackoffShape>,
    invalidation: Option<InvalidationShape>,
    log: LogShape,
    next: Next,
}

#[derive(Debug, Serialize)]
struct LeaseShape {
    owner: String,
    generation: u64,
    granted_at: Option<String>,
    expires_at: Option<String>,
    hold_until: Option<String>,
    remaining_ms: u64,
    expired: bool,
    overtaken: bool,
}

#[derive(Debug, Serialize)]
struct BackoffShape {
    failures: u32,
    not_before: Option<String>,
    remaining_ms: u64,
    failed_at: Option<String>,
    reason: String,
}

#[derive(Debug, Serialize)]
struct InvalidationShape {
    seq: u64,
    at: Option<String>,
    depth: &'static str,
    scopes: Vec<ScopeShape>,
    applies: bool,
}

#[derive(Debug, Serialize)]
struct LogShape {
    position: u64,
    age_ms: Option<u64>,
    verified: bool,
}

impl ExplainFlags {
    pub(super) async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let Self { key, how, client: _ } = self;
        let options = LookupOptions {
            consistency: how.consistency(),
            consistency_token: how.token(),
            explain: true,
            ..LookupOptions::default()
        };
        let reply = session.coordinator.lookup(&session.entry(&key), &options).await;
        let reply = reply.map_err(|error| session.failed(&error))?;
        let Some(state) = reply.state.as_deref() else {
            let message = "the coordinator sent no explanation";
            return Err(Failure::local(message, "is it of an older release?"));
        };
        let now = coordinators_now(&reply, state);
        let shape = ExplainShape::new(&reply.outcome, state, now);
        session.output.result(&shape, || for_people(&reply.outcome, state, &shape, now))?;
        Ok(Ending::Done)
    }
}

/// The coordinator's time when it answered. Its times are compared with no other clock, where an age of its
/// own tells it; else this machine's clock has to do.
fn coordinators_now(reply: &LookupReply, state: &EntryState) -> SystemTime {
    let by_page = state.pointer.as_ref().and_then(|page| page.generated_at?.checked_add(page.age));
    let by_lease = || {
        let expires_at = state.lease.as_ref()?.expires_at?;
        expires_at.checked_sub(reply.regeneration.as_ref()?.remaining)
    };
    by_page.or_else(by_lease).unwrap_or_else(|| {
        SystemTime::UNIX_EPOCH + Duration::from_millis(SystemClock::start().now().wall.as_millis())
    })
}

/// What is left until then; zero when it is over.
pub(super) fn left(until: Option<SystemTime>, now: SystemTime) -> Duration {
    until.and_then(|until| until.duration_since(now).ok()).unwrap_or_default()
}

impl ExplainShape {
    fn new(outcome: &Lookup, state: &EntryState, now: SystemTime) -> Self {
        let pointer = state.pointer.as_ref();
        Self {
            tenant: state.tenant.clone(),
            deployment: state.deployment.clone(),
            key: state.key.clone(),
            standing: outcome.into(),
            generation: state.generation,
            page: pointer.map(PageShape::from),
            fresh_since: pointer.and_then(|page| page.generated_at).map(rfc3339),
            fresh_until: state.fresh_until.map(rfc3339),
            body_gone: state.body_gone,
            seen: state.seen,
            lease: state.lease.as_ref().map(|lease| LeaseShape {
                owner: lease.owner.clone(),
                generation: lease.generation,
                granted_at: lease.granted_at.map(rfc3339),
                expires_at: lease.expires_at.map(rfc3339),
                hold_until: lease.hold_until.map(rfc3339),
                remaining_ms: shape::millis(left(lease.expires_at, now)),
                expired: lease.expired,
                overtaken: lease.overtaken,
            }),
            backoff: state.backoff.as_ref().map(|backoff| BackoffShape {
                failures: backoff.failures,
                not_before: backoff.not_before.map(rfc3339),
                remaining_ms: shape::millis(left(backoff.not_before, now)),
                failed_at: backoff.failed_at.map(rfc3339),
                reason: backoff.reason.clone(),
            }),
            invalidation: state.invalidation.as_ref().map(|invalidation| InvalidationShape {
                seq: invalidation.seq,
                at: invalidation.at.map(rfc3339),
                depth: shape::depth(invalidation.depth),
                scopes: invalidation.scopes.iter().map(ScopeShape::from).collect(),
                applies: invalidation.applies,
            }),
            log: LogShape {
                position: state.log_position,
                age_ms: state.log_age.map(shape::millis),
                verified: state.log_verified,
            },
            next: next::of(outcome, state, now),
        }
    }
}

fn for_people(outcome: &Lookup, state: &EntryState, shape: &ExplainShape, now: SystemTime) -> String {
    let mut rows = Rows::default();
    let release = state.deployment.as_deref().map(|name| format!(", release {name}")).unwrap_or_default();
    rows.add("entry", format!("{} (tenant {}{release})", state.key, state.tenant));
    rows.add("now", standing_text(outcome));
    match &shape.page {
        None => rows.add("page", "none"),
        Some(page) => rows
            .add("page", format!("generation {}, {}", page.generation, page.summary()))
            .add("rendered", page.rendered())
            .add("fresh", fresh_text(shape)),
    };
    if let Some(page) = shape.page.as_ref().filter(|page| !page.tags.is_empty()) {
        rows.add("tags", page.tags.join(" "));
    }
    if state.body_gone {
        rows.add("body", "gone from the store: the page will be rendered again");
    }
    rows.add("lease", state.lease.as_ref().map_or("none".to_owned(), |lease| lease_text(lease, now)));
    rows.add(
        "invalidated",
        match &state.invalidation {
            None => "by nothing that is known".to_owned(),
            Some(invalidation) => invalidation_text(invalidation, state.pointer.is_some(), now),
        },
    );
    rows.add(
        "failures",
        match &state.backoff {
            None => "none since the last commit".to_owned(),
            Some(backoff) => backoff_text(backoff, now),
        },
    );
    let age =
        state.log_age.map_or("never read to its head".to_owned(), |age| format!("read {} ago", rough(age)));
    let doubt = if state.log_verified { "" } else { ": too long to call anything fresh" };
    rows.add("log", format!("at position {}, {age}{doubt}", state.log_position));
    rows.add("next", shape.next.text.clone());
    rows.text()
}

/// Since when, and until when or what.
fn fresh_text(shape: &ExplainShape) -> String {
    let since = shape.fresh_since.as_deref().unwrap_or("an unknown time");
    let by_age = shape.fresh_until.as_deref().map(|until| format!("until {until}"));
    match shape.standing.reason {
        Some("invalidated" | "purged") => {
            let by_age = by_age.map(|until| format!("; by its age, {until}")).unwrap_or_default();
            format!("from {since} until it was invalidated{by_age}")
        }
        _ => format!("from {since} {}", by_age.as_deref().unwrap_or("until it is invalidated")),
    }
}

/// `3s ago (2026-01-01T00:00:00.000Z)`.
fn since(at: Option<SystemTime>, now: SystemTime) -> String {
    let Some(at) = at else { return "at an unknown time".to_owned() };
    format!("{} ago ({})", rough(now.duration_since(at).unwrap_or_default()), rfc3339(at))
}

fn lease_text(lease: &LeaseState, now: SystemTime) -> String {
    let LeaseState { owner, generation, granted_at, expires_at, hold_until, expired, overtaken } = lease;
    let end = if *expired {
        format!("expired {}", since(*expires_at, now))
    } else {
        let (expiry, renewable) = (rough(left(*expires_at, now)), rough(left(*hold_until, now)));
        format!("expires in {expiry}, renewable for {renewable}")
    };
    let overtaken = if *overtaken { ", overtaken by an invalidation" } else { "" };
    format!("{owner}, generation {generation}, granted {}, {end}{overtaken}", since(*granted_at, now))
}

fn invalidation_text(invalidation: &InvalidationState, has_page: bool, now: SystemTime) -> String {
    let InvalidationState { seq, at, scopes, depth, applies } = invalidation;
    let scopes: Vec<_> = scopes.iter().map(|scope| ScopeShape::from(scope).text()).collect();
    let consequence = match (has_page, applies) {
        (false, _) => "",
        (true, true) => "; the page is older than it",
        (true, false) => "; the page is newer than it",
    };
    let at = since(*at, now);
    format!("by {}, {}, seq {seq}, {at}{consequence}", scopes.join(", "), shape::depth(*depth))
}

fn backoff_text(backoff: &BackoffState, now: SystemTime) -> String {
    let failures = failures(backoff.failures);
    let last = since(backoff.failed_at, now);
    let pause = match left(backoff.not_before, now) {
        Duration::ZERO => "the pause is over".to_owned(),
        pause => format!("no lease for {}", rough(pause)),
    };
    format!("{failures} in a row, the last one {last}: {}; {pause}", backoff.reason)
}
