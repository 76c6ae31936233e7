//! What each tenant may use of a coordinator, so that none uses up what is there for all.

use super::error::EdgeError;
use crate::{
    engine::Places,
    settings::{Limits, TenantLimits},
    time::Clock,
};
use governor::{Quota, RateLimiter, clock::Clock as _, middleware::NoOpMiddleware, nanos::Nanos};
use leasehold_core::identity::TenantId;
use quick_cache::sync::Cache;
use std::{convert::Infallible, num::NonZeroU32, sync::Arc, time::Duration};

/// So many tenants' shares are known. Whoever is forgotten begins anew, with a burst: only who makes up as many tenants gains
/// by that, and a caller may be held to his own by policy.
const KNOWN_TENANTS: usize = 100_000;

/// Bytes are counted in these: a rate of single bytes would be a period of too few nanoseconds.
const UNIT: usize = 1024;

/// Divides a coordinator among its tenants.
pub(crate) struct Shares {
    limits: TenantLimits,
    /// What one call may carry is let through at once, however low the rate.
    unit_burst: NonZeroU32,
    clock: ShareClock,
    of: Cache<TenantId, Arc<Share>>,
}

/// What one tenant may use.
pub(crate) struct Share {
    requests: Option<(Limiter, u32)>,
    bytes: Option<(Limiter, u32)>,
    waiters: Option<Arc<Places>>,
}

type Limiter =
    RateLimiter<governor::state::NotKeyed, governor::state::InMemoryState, ShareClock, NoOpMiddleware<Nanos>>;

#[derive(Clone, Debug)]
struct ShareClock(Arc<dyn Clock>);

impl governor::clock::Clock for ShareClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.now().elapsed.into()
    }
}

impl Shares {
    /// `None` where tenants are not limited, so that nothing is looked up for a call.
    pub(crate) fn new(limits: &Limits, clock: Arc<dyn Clock>) -> Option<Self> {
        let TenantLimits { requests, waiters, bytes } = limits.tenant;
        if requests.is_none() && waiters.is_none() && bytes.is_none() {
            return None;
        }
        let carried = units(limits.body_bytes.max(limits.message_bytes));
        let of = Cache::new(KNOWN_TENANTS);
        Some(Self { limits: limits.tenant.clone(), unit_burst: carried, clock: ShareClock(clock), of })
    }

    /// A tenant's.
    pub(crate) fn of(&self, tenant: &TenantId) -> Arc<Share> {
        let found = self.of.get_or_insert_with(tenant, || Ok::<_, Infallible>(Arc::new(self.fresh())));
        match found {
            Ok(share) => share,
        }
    }

    fn fresh(&self) -> Share {
        let TenantLimits { requests, waiters, bytes } = self.limits;
        let limiter = |quota| RateLimiter::direct_with_clock(quota, self.clock.clone());
        Share {
            requests: requests.map(|rate| (limiter(Quota::per_second(rate)), rate.get())),
            bytes: bytes.map(|rate| {
                let rate_units = units(rate.get() as usize);
                let quota = Quota::per_second(rate_units).allow_burst(rate_units.max(self.unit_burst));
                (limiter(quota), rate.get())
            }),
            waiters: waiters.map(|limit| Places::new("waiting calls of one tenant", limit)),
        }
    }
}

impl Share {
    /// Counts a request.
    ///
    /// # Errors
    /// [`EdgeError::TenantLimit`], where there were as many as are allowed; then it is not counted.
    pub(crate) fn request(&self) -> Result<(), EdgeError> {
        let Some((limiter, limit)) = &self.requests else { return Ok(()) };
        limiter.check().map_err(|until| {
            over("requests in a second", *limit, until.wait_time_from(limiter.clock().now()))
        })
    }

    /// Counts bytes that came from a caller, or are to go to one.
    ///
    /// # Errors
    /// [`EdgeError::TenantLimit`], where there were as many as are allowed; then none is counted.
    pub(crate) fn bytes(&self, count: usize) -> Result<(), EdgeError> {
        let Some((limiter, limit)) = &self.bytes else { return Ok(()) };
        if count == 0 {
            return Ok(());
        }
        let counted = match limiter.check_n(units(count)) {
            Ok(counted) => counted,
            // More than any call may carry, as another system's page may be: all there is.
            Err(governor::InsufficientCapacity(all)) => {
                match NonZeroU32::new(all).map(|all| limiter.check_n(all)) {
                    Some(Ok(counted)) => counted,
                    Some(Err(_)) | None => return Ok(()),
                }
            }
        };
        counted
            .map_err(|until| over("bytes in a second", *limit, until.wait_time_from(limiter.clock().now())))
    }

    /// Where the tenant's calls wait, if there is a limit to them.
    pub(crate) fn waiters(&self) -> Option<Arc<Places>> {
        self.waiters.clone()
    }
}

fn units(bytes: usize) -> NonZeroU32 {
    let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
    NonZeroU32::new(units).unwrap_or(NonZeroU32::MIN)
}

fn over(what: &'static str, limit: u32, retry_after: Duration) -> EdgeError {
    EdgeError::TenantLimit { what, limit, retry_after }
}
