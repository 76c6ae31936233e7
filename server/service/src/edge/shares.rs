//! What each tenant may use of a coordinator, so that none uses up what is there for all.

use super::{
    error::EdgeError,
    places::{Held, KINDS},
};
use crate::{
    engine::{Place, Places},
    settings::{Limits, TenantLimits},
    time::Clock,
};
use governor::{Quota, RateLimiter, clock::Clock as _, middleware::NoOpMiddleware, nanos::Nanos};
use leasehold_core::identity::TenantId;
use quick_cache::{DefaultHashBuilder, Lifecycle, UnitWeighter, sync::Cache};
use std::{collections::BTreeSet, convert::Infallible, num::NonZeroU32, sync::Arc};

/// So many tenants' shares are known. Whoever is forgotten begins anew, but not while it has a place: only who makes up as many
/// tenants gains by that, and a caller may be held to his own by policy.
const KNOWN_TENANTS: usize = 100_000;

/// Bytes are counted in these, rounded up: a rate of single bytes would be a period of too few nanoseconds.
const UNIT: u64 = 1024;

/// Divides a coordinator among its tenants. What has no limit is not looked up.
pub(crate) struct Shares {
    limits: TenantLimits,
    /// By [`Held`]: how it is told, and how many, where that is limited.
    held: [Option<(&'static str, usize)>; KINDS],
    /// The bytes that one call may carry are let through at once, however low the rate.
    carried: NonZeroU32,
    clock: ShareClock,
    of: Cache<TenantId, Arc<Share>, UnitWeighter, DefaultHashBuilder, KeepHeld>,
}

/// A share of which something is held, or about to be, is not forgotten: it would be there twice.
#[derive(Clone, Copy, Debug)]
struct KeepHeld;

impl Lifecycle<TenantId, Arc<Share>> for KeepHeld {
    type RequestState = ();

    fn is_pinned(&self, _: &TenantId, share: &Arc<Share>) -> bool {
        share.places.iter().flatten().any(|places| Arc::strong_count(places) > 1)
    }
}

/// What one tenant may use.
struct Share {
    requests: Option<Rate>,
    render_requests: Option<Rate>,
    bytes: Option<Rate>,
    /// By [`Held`].
    places: [Option<Arc<Places>>; KINDS],
}

struct Rate {
    limiter: RateLimiter<
        governor::state::NotKeyed,
        governor::state::InMemoryState,
        ShareClock,
        NoOpMiddleware<Nanos>,
    >,
    /// How it is told.
    what: &'static str,
    limit: u32,
}

#[derive(Clone, Debug)]
struct ShareClock(Arc<dyn Clock>);

impl governor::clock::Clock for ShareClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.now().elapsed.into()
    }
}

impl Shares {
    pub(crate) fn new(limits: &Limits, clock: Arc<dyn Clock>) -> Self {
        let carried = units(limits.body_bytes.max(limits.message_bytes) as u64);
        let of = Cache::with(
            KNOWN_TENANTS,
            KNOWN_TENANTS as u64,
            UnitWeighter,
            DefaultHashBuilder::default(),
            KeepHeld,
        );
        let held = Held::ALL.map(|held| Some((held.kind(limits).of_tenant, held.share(limits)?)));
        Self { limits: limits.tenant.clone(), held, carried, clock: ShareClock(clock), of }
    }

    /// Counts a request for a tenant's pages, before anything is done for it.
    ///
    /// # Errors
    /// [`EdgeError::TenantLimit`], where there were as many as are allowed; then it is not counted. So do all others here.
    pub(crate) fn request(&self, tenant: &TenantId) -> Result<(), EdgeError> {
        self.count(self.limits.requests, tenant, NonZeroU32::MIN, |share| share.requests.as_ref())
    }

    /// Counts a request that concerns several tenants as one of each.
    pub(crate) fn requests(&self, tenants: &BTreeSet<TenantId>) -> Result<(), EdgeError> {
        tenants.iter().try_for_each(|tenant| self.request(tenant))
    }

    /// Counts a request of a render that goes on: a renewal, an upload, a commit, a release. Apart from the others, and as many of
    /// them: lookups must not keep a page that was rendered from its commit.
    pub(crate) fn render_request(&self, tenant: &TenantId) -> Result<(), EdgeError> {
        self.count(self.limits.requests, tenant, NonZeroU32::MIN, |share| share.render_requests.as_ref())
    }

    /// Counts bytes of a body that came from a caller, or is to go to one.
    pub(crate) fn bytes(&self, tenant: &TenantId, count: u64) -> Result<(), EdgeError> {
        let limit = self.limits.bytes.filter(|_| count > 0);
        self.count(limit, tenant, units(count), |share| share.bytes.as_ref())
    }

    /// Where the tenant takes its places of this kind, if there is a limit to them.
    pub(crate) fn places(&self, tenant: &TenantId, held: Held) -> Option<Arc<Places>> {
        self.held[held as usize].and_then(|_| self.of(tenant).places[held as usize].clone())
    }

    /// Takes one of the tenant's places, if there is a limit to them.
    ///
    /// # Errors
    /// Where it has as many as it may.
    pub(crate) fn take(&self, tenant: &TenantId, held: Held) -> Result<Option<Place>, EdgeError> {
        self.take_many(tenant, held, 1)
    }

    /// Takes several or none.
    ///
    /// # Errors
    /// Where it would have more than it may.
    pub(crate) fn take_many(
        &self,
        tenant: &TenantId,
        held: Held,
        count: usize,
    ) -> Result<Option<Place>, EdgeError> {
        Ok(self.places(tenant, held).map(|places| places.take_many(count)).transpose()?)
    }

    /// One place of each tenant's.
    ///
    /// # Errors
    /// Where one of them has as many as it may; then none is taken.
    pub(crate) fn take_of_each(
        &self,
        tenants: &BTreeSet<TenantId>,
        held: Held,
    ) -> Result<Vec<Place>, EdgeError> {
        tenants.iter().filter_map(|tenant| self.take(tenant, held).transpose()).collect()
    }

    fn count(
        &self,
        limit: Option<NonZeroU32>,
        tenant: &TenantId,
        number: NonZeroU32,
        which: fn(&Share) -> Option<&Rate>,
    ) -> Result<(), EdgeError> {
        if limit.is_none() {
            return Ok(());
        }
        which(&self.of(tenant)).map_or(Ok(()), |rate| rate.count(number))
    }

    fn of(&self, tenant: &TenantId) -> Arc<Share> {
        let found = self.of.get_or_insert_with(tenant, || Ok::<_, Infallible>(Arc::new(self.fresh())));
        match found {
            Ok(share) => share,
        }
    }

    fn fresh(&self) -> Share {
        let TenantLimits { requests, bytes, .. } = self.limits;
        let rate = |what, limit: NonZeroU32, quota| Rate {
            limiter: RateLimiter::direct_with_clock(quota, self.clock.clone()),
            what,
            limit: limit.get(),
        };
        Share {
            requests: requests.map(|limit| rate("requests in a second", limit, Quota::per_second(limit))),
            render_requests: requests
                .map(|limit| rate("requests of renders in a second", limit, Quota::per_second(limit))),
            bytes: bytes.map(|limit| {
                let in_units = units(limit.get().into());
                let quota = Quota::per_second(in_units).allow_burst(in_units.max(self.carried));
                rate("bytes in a second", limit, quota)
            }),
            places: self.held.map(|limited| limited.map(|(what, limit)| Places::new(what, limit))),
        }
    }
}

impl Rate {
    fn count(&self, number: NonZeroU32) -> Result<(), EdgeError> {
        let counted = self.limiter.check_n(number).or_else(|governor::InsufficientCapacity(all)| {
            // More than any call may carry, which a body of another system's may be: all there is.
            self.limiter.check_n(NonZeroU32::new(all).unwrap_or(NonZeroU32::MIN))
        });
        match counted {
            Ok(Err(until)) => Err(EdgeError::TenantLimit {
                what: self.what,
                limit: self.limit,
                retry_after: until.wait_time_from(self.limiter.clock().now()),
            }),
            Ok(Ok(())) | Err(governor::InsufficientCapacity(_)) => Ok(()),
        }
    }
}

fn units(bytes: u64) -> NonZeroU32 {
    let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
    NonZeroU32::new(units).unwrap_or(NonZeroU32::MIN)
}
