//! What is current for an entry.

use crate::{
    BodyDelivery, ConsistencyToken, Coordinator, CurrentPage, EntryRef, EntryState, Error, FreshPage,
    Regeneration, StalePage,
    wire::{self, FromWire, Malformed, Parse},
};
use leasehold_proto::v1 as pb;

/// How a lookup is to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LookupOptions {
    /// How current the answer must be.
    pub consistency: Consistency,
    /// The answer takes this invalidation into account, and waits for it where need be.
    pub consistency_token: Option<ConsistencyToken>,
    /// Whether to send the HTML along.
    pub body: BodyDelivery,
    /// The generation that the caller has a copy of: its body is left out.
    pub known_generation: Option<u64>,
    /// Whether to add [`LookupReply::state`], for operators. Costs the coordinator more.
    pub explain: bool,
}

impl LookupOptions {
    /// With the HTML in the message.
    pub fn with_body() -> Self {
        Self { body: BodyDelivery::Inline, ..Self::default() }
    }
}

/// How current an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// At most one tail interval (default 200 ms) behind the invalidations. Costs the store nothing when warm.
    #[default]
    Bounded,
    /// Reads the log and the entry first.
    Strict,
}

impl Consistency {
    pub(crate) fn to_wire(self) -> i32 {
        match self {
            Self::Bounded => pb::Consistency::Bounded,
            Self::Strict => pb::Consistency::Strict,
        }
        .into()
    }
}

/// The answer to a lookup.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupReply {
    /// What is current.
    pub outcome: Lookup,
    /// Who renders the entry now. `None`: nobody, as far as the coordinator that was asked knows.
    pub regeneration: Option<Regeneration>,
    /// How things stand in detail, where `explain` was asked for.
    pub state: Option<Box<EntryState>>,
}

/// What is current.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// May be served without a second thought.
    Fresh(FreshPage),
    /// May be served where the caller accepts stale pages.
    Stale(StalePage),
    /// There is nothing to serve.
    Missing(MissingReason),
}

impl Lookup {
    /// The page, fresh or stale.
    pub fn into_page(self) -> Option<CurrentPage> {
        match self {
            Self::Fresh(fresh) => Some(CurrentPage::Fresh(fresh)),
            Self::Stale(stale) => Some(CurrentPage::Stale(stale)),
            Self::Missing(_) => None,
        }
    }
}

/// Why there is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingReason {
    /// Never committed, or not regenerated for the whole retention.
    NeverRendered,
    /// Purged by a hard invalidation.
    Purged,
    /// Its stored body is gone; it heals by being rendered again.
    BodyGone,
    /// One that this version does not know.
    Other(i32),
}

impl Coordinator {
    /// Tells what is current for an entry. Changes nothing.
    ///
    /// A lone lookup is a call of its own; when several are in flight they travel over one stream, which costs a
    /// fraction. The answers are the same.
    ///
    /// # Errors
    /// `INVALID_FIELD`, `TENANT_BOUNDARY`, `CONSISTENCY_TOKEN_UNKNOWN`, `BODY_URL_UNSUPPORTED`; or no answer in time.
    pub async fn lookup(&self, entry: &EntryRef, options: &LookupOptions) -> Result<LookupReply, Error> {
        let answer = self.shared.lookup(|| options.request(entry)).await?;
        Ok(LookupReply::from_wire(answer)?)
    }
}

impl LookupOptions {
    fn request(&self, entry: &EntryRef) -> pb::LookupRequest {
        let Self { consistency, consistency_token, body, known_generation, explain } = self;
        pb::LookupRequest {
            entry: entry.to_wire(),
            consistency: consistency.to_wire(),
            consistency_token: token_text(consistency_token.as_ref()),
            body: body.to_wire(),
            known_generation: *known_generation,
            explain: *explain,
        }
    }
}

/// The wire says "none" by the empty text.
pub(crate) fn token_text(token: Option<&ConsistencyToken>) -> String {
    token.map(|token| token.as_str().to_owned()).unwrap_or_default()
}

impl FromWire<pb::LookupResponse> for LookupReply {
    fn from_wire(wire: pb::LookupResponse) -> Result<Self, Malformed> {
        use pb::lookup_response::Outcome;
        let pb::LookupResponse { outcome, regeneration, state } = wire;
        Ok(Self {
            outcome: match wire::required(outcome, "the outcome of a lookup")? {
                Outcome::Fresh(fresh) => Lookup::Fresh(fresh.parse()?),
                Outcome::Stale(stale) => Lookup::Stale(stale.parse()?),
                Outcome::Missing(pb::MissingPage { reason }) => Lookup::Missing(missing_reason(reason)),
            },
            regeneration: regeneration.map(Regeneration::from_wire).transpose()?,
            state: state.map(|state| EntryState::from_wire(*state).map(Box::new)).transpose()?,
        })
    }
}

fn missing_reason(wire: i32) -> MissingReason {
    match pb::MissingReason::try_from(wire) {
        Ok(pb::MissingReason::NeverRendered) => MissingReason::NeverRendered,
        Ok(pb::MissingReason::Purged) => MissingReason::Purged,
        Ok(pb::MissingReason::BodyGone) => MissingReason::BodyGone,
        Ok(pb::MissingReason::Unspecified) | Err(_) => MissingReason::Other(wire),
    }
}
