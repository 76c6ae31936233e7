//! How things stand with an entry in detail: for operators, not for programs to branch on.

use crate::{
    Depth, Page, Scope,
    wire::{self, FromWire, Malformed},
};
use leasehold_proto::v1 as pb;
use std::time::{Duration, SystemTime};

/// Everything that one coordinator knows of an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryState {
    /// The tenant that the request resolved to.
    pub tenant: String,
    /// The release.
    pub deployment: Option<String>,
    /// The key that the request resolved to.
    pub key: String,
    /// The latest generation granted. Zero: the entry is not known.
    pub generation: u64,
    /// What is current, also where it may not be served.
    pub pointer: Option<Page>,
    /// From when on the page is not fresh by its age.
    pub fresh_until: Option<SystemTime>,
    /// Its object was found missing; it will be rendered again.
    pub body_gone: bool,
    /// The lease, also when expired.
    pub lease: Option<LeaseState>,
    /// The pause after failed renders. `None`: none failed since the last commit.
    pub backoff: Option<BackoffState>,
    /// The newest invalidation that concerns the entry, whether or not the page is newer than it.
    pub invalidation: Option<InvalidationState>,
    /// Where this coordinator stands in the invalidation log.
    pub log_position: u64,
    /// How long ago this coordinator last read the log to its head. `None`: never.
    pub log_age: Option<Duration>,
    /// Whether that is recent enough to call anything fresh.
    pub log_verified: bool,
    /// The position in the log when the current page's lease was granted.
    pub seen: u64,
}

/// A lease in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// The holder, by its own word.
    pub owner: String,
    /// The fence.
    pub generation: u64,
    /// When it was granted.
    pub granted_at: Option<SystemTime>,
    /// When it expires or expired.
    pub expires_at: Option<SystemTime>,
    /// The latest that it can be renewed to.
    pub hold_until: Option<SystemTime>,
    /// Others may be granted the next one: it has expired.
    pub expired: bool,
    /// Others may be granted the next one: what it renders was invalidated after its grant.
    pub overtaken: bool,
}

/// Failed renders in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackoffState {
    /// In a row.
    pub failures: u32,
    /// No grant before this.
    pub not_before: Option<SystemTime>,
    /// When the last one failed.
    pub failed_at: Option<SystemTime>,
    /// What its worker said.
    pub reason: String,
}

/// An invalidation in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidationState {
    /// Its position in the log.
    pub seq: u64,
    /// When it was appended.
    pub at: Option<SystemTime>,
    /// Its scopes that concern the entry.
    pub scopes: Vec<Scope>,
    /// How deep it went.
    pub depth: Depth,
    /// Whether the current page is older than it.
    pub applies: bool,
}

impl FromWire<pb::EntryState> for EntryState {
    fn from_wire(wire: pb::EntryState) -> Result<Self, Malformed> {
        let pb::EntryState {
            tenant,
            deployment,
            key,
            generation,
            pointer,
            fresh_until,
            body_gone,
            lease,
            backoff,
            invalidation,
            log_position,
            log_age,
            log_verified,
            seen,
        } = wire;
        Ok(Self {
            tenant,
            deployment: wire::non_empty(deployment),
            key,
            generation,
            pointer: pointer.map(Page::from_wire).transpose()?,
            fresh_until: wire::timestamp(fresh_until)?,
            body_gone,
            lease: lease.map(LeaseState::from_wire).transpose()?,
            backoff: backoff.map(BackoffState::from_wire).transpose()?,
            invalidation: invalidation.map(InvalidationState::from_wire).transpose()?,
            log_position,
            log_age: wire::optional_duration(log_age)?,
            log_verified,
            seen,
        })
    }
}

impl FromWire<pb::LeaseState> for LeaseState {
    fn from_wire(wire: pb::LeaseState) -> Result<Self, Malformed> {
        let pb::LeaseState { owner, generation, granted_at, expires_at, hold_until, expired, overtaken } =
            wire;
        Ok(Self {
            owner,
            generation,
            granted_at: wire::timestamp(granted_at)?,
            expires_at: wire::timestamp(expires_at)?,
            hold_until: wire::timestamp(hold_until)?,
            expired,
            overtaken,
        })
    }
}

impl FromWire<pb::BackoffState> for BackoffState {
    fn from_wire(wire: pb::BackoffState) -> Result<Self, Malformed> {
        let pb::BackoffState { failures, not_before, failed_at, reason } = wire;
        let (not_before, failed_at) = (wire::timestamp(not_before)?, wire::timestamp(failed_at)?);
        Ok(Self { failures, not_before, failed_at, reason })
    }
}

impl FromWire<pb::InvalidationState> for InvalidationState {
    fn from_wire(wire: pb::InvalidationState) -> Result<Self, Malformed> {
        let pb::InvalidationState { seq, at, scopes, depth, applies } = wire;
        Ok(Self {
            seq,
            at: wire::timestamp(at)?,
            scopes: scopes.into_iter().map(Scope::from_wire).collect::<Result<_, _>>()?,
            depth: Depth::from_wire(depth),
            applies,
        })
    }
}
