//! Who renders, as far as this coordinator knows: for people who look at it.

use super::{Engine, view::Slot};
use crate::time::Moment;
use leasehold_core::{
    identity::{DeploymentId, Generation, Owner, TenantId},
    time::Timestamp,
    transition,
};
use std::time::Duration;

/// A lease that runs, without what could be used: neither its token, nor the entry's key, which may hold what is nobody's
/// business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningLease {
    /// Whose page.
    pub tenant: TenantId,
    /// Of which release.
    pub deployment: Option<DeploymentId>,
    /// The digest of the entry's identity: what its row is called, and, in its first 24 hex digits, its bodies.
    pub entry: [u8; 32],
    /// The fence.
    pub generation: Generation,
    /// Who renders, by their own name for themselves.
    pub owner: Owner,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// Until others may be granted the next one.
    pub remaining: Duration,
    /// The longest that renewals can make of it.
    pub renewable_for: Duration,
    /// Whether this coordinator granted it.
    pub granted_here: bool,
    /// Whether something of the page was invalidated since: then the next caller is granted a lease at once.
    pub overtaken: bool,
    /// Calls here that wait for the page, or are about to.
    pub waiters: usize,
}

/// Leases that run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningLeases {
    /// How many there are.
    pub total: usize,
    /// Those that were granted first, up to the limit that was asked for.
    pub longest: Vec<RunningLease>,
}

impl Engine {
    /// The leases that run as far as is remembered here. Asks no store: of what other coordinators granted, only what was
    /// looked at here is known, and as it was then. Looks at every entry in memory.
    pub fn running_leases(&self, limit: usize) -> RunningLeases {
        let now = self.now();
        let leased = self.0.views.leased();
        let mut running: Vec<_> = leased.iter().filter_map(|slot| self.running_lease(slot, now)).collect();
        running.sort_by_key(|lease| lease.granted_at);
        let total = running.len();
        running.truncate(limit);
        RunningLeases { total, longest: running }
    }

    fn running_lease(&self, slot: &Slot, now: Moment) -> Option<RunningLease> {
        let view = slot.view()?;
        let lease = view.entry.as_ref()?.lease.as_ref()?;
        let (ends, overtaken) = self.0.transitions.ask(slot, &view, now, |entry, context| {
            let pointer = entry.and_then(|entry| entry.pointer.as_ref());
            let overtaken = transition::is_overtaken(lease, pointer, None, context);
            (transition::expired_from(lease, context), overtaken)
        });
        (now.wall < ends).then(|| RunningLease {
            tenant: slot.id.tenant.clone(),
            deployment: slot.id.deployment.clone(),
            entry: slot.id.digest(),
            generation: lease.generation,
            owner: lease.owner.clone(),
            granted_at: lease.granted_at,
            remaining: ends.since(now.wall),
            renewable_for: lease.hold_until.since(now.wall),
            granted_here: slot.is_granted_here(lease),
            overtaken,
            waiters: slot.waiters(),
        })
    }
}
