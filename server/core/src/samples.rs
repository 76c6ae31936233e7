//! What the unit tests of several modules name.

use crate::{
    entry::Lease,
    identity::{DeploymentId, EntryId, EntryKey, Generation, LeaseToken, Owner, Seq, TenantId},
    time::Timestamp,
};
use std::time::Duration;

pub(crate) fn entry_id(tenant: &str, deployment: Option<&str>, key: &str) -> EntryId {
    EntryId {
        tenant: TenantId::parse(tenant).unwrap(),
        deployment: deployment.map(|name| DeploymentId::parse(name).unwrap()),
        key: EntryKey::parse(key).unwrap(),
    }
}

/// Granted at 2026-01-01T00:00:00.123Z, and for no time.
pub(crate) fn lease(token: u128, generation: u64) -> Lease {
    lease_at(Timestamp::from_millis(1_767_225_600_123), token, generation)
}

pub(crate) fn lease_at(granted_at: Timestamp, token: u128, generation: u64) -> Lease {
    Lease {
        generation: Generation(generation),
        token: LeaseToken::from_bits(token),
        owner: Owner::parse("worker").unwrap(),
        granted_at,
        expires_at: granted_at,
        ttl: Duration::ZERO,
        hold_until: granted_at,
        seen: Seq::START,
        repeated: false,
    }
}
