//! The record of one cached page: one compare-and-swap register in the store.

use crate::{
    identity::{Generation, LeaseToken, Owner, Seq, Version},
    page::Pointer,
    time::Timestamp,
};
use std::time::Duration;

/// One entry, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Fresh and random with every swap: what the next swap is conditional on.
    pub version: Version,
    /// The generation of the latest grant, kept when its lease ends.
    pub generation: Generation,
    /// What is current.
    pub pointer: Option<Pointer>,
    /// Who renders now. Present also when expired, until somebody else is granted one or it ends.
    pub lease: Option<Lease>,
    /// The lease that was released last. A repeated release is told so, and a late duplicate of its acquire is not
    /// granted a lease that nobody would use.
    pub released: Option<Released>,
    /// Failures since the last commit.
    pub backoff: Option<Backoff>,
}

/// The right to commit the next generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The fence.
    pub generation: Generation,
    /// The holder's capability.
    pub token: LeaseToken,
    /// The holder's name, for people.
    pub owner: Owner,
    /// When it was granted: becomes the page's `generated_at`.
    pub granted_at: Timestamp,
    /// From when on others may be granted the next one.
    pub expires_at: Timestamp,
    /// How long it was to last when it was granted or last renewed.
    pub ttl: Duration,
    /// The latest that renewals can move `expires_at` to.
    pub hold_until: Timestamp,
    /// The grantor's position in the invalidation log at the grant. Never changed afterwards: what is invalidated later
    /// than this may have been read by the render before the change.
    pub seen: Seq,
    /// Whether a repetition of its acquire was told of it: then somebody may hold it, whatever became of the first call.
    pub repeated: bool,
}

impl Lease {
    /// Whether it is this attempt's lease: the token alone could have been granted twice.
    pub fn is(&self, token: LeaseToken, generation: Generation) -> bool {
        self.token == token && self.generation == generation
    }
}

/// A lease that its holder gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// Its generation.
    pub generation: Generation,
    /// Its token.
    pub token: LeaseToken,
}

/// Why nobody is granted a lease for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Failed renders since the last commit.
    pub failures: u32,
    /// No grant before this.
    pub not_before: Timestamp,
    /// When the last one failed.
    pub failed_at: Timestamp,
    /// What the last holder said of its failure. At most [`MAX_REASON_BYTES`].
    pub reason: String,
}

/// The longest reason of a failure, in bytes; what is longer is cut at a character boundary.
pub const MAX_REASON_BYTES: usize = 512;
