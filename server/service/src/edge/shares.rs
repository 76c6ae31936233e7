//! What each tenant may use of a coordinator, so that none uses up what is there for all.

use super::error::EdgeError;
use crate::{
    engine::{EngineError, Place, Places},
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

/// What a tenant has for a time and gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// A call in progress, but not one that is answered from memory.
    Call,
    /// One of a render that goes on: a renewal, a commit, a release. Apart from the others, also among those of all, and as many:
    /// these must not keep a page from its commit, nor may one tenant's of both kinds together keep all others out.
    RenderCall,
    /// A call that waits for another's lease.
    Waiter,
    Watch,
    LookupStream,
    Upload,
    /// What is begun for a call and may end after it: a read or a grant of an entry.
    Operation,
    /// The same for a render that goes on. Apart from the others.
    RenderOperation,
    /// An invalidation, likewise.
    Invalidation,
    /// Bytes of lookups on streams and of their answers, without bodies, until these are sent.
    AnswerBytes,
    /// Bytes of uploads and commits in progress.
    UploadBytes,
    /// A body on its way to a reader, by a stream of its own or within an answer on a lookup stream.
    StreamedBody,
    /// Bytes of bodies on their way to a reader.
    StreamedBytes,
}

/// Of how many kinds these are.
const KINDS: usize = 13;

impl Held {
    const ALL: [Self; KINDS] = [
        Self::Call,
        Self::RenderCall,
        Self::Waiter,
        Self::Watch,
        Self::LookupStream,
        Self::Upload,
        Self::Operation,
        Self::RenderOperation,
        Self::Invalidation,
        Self::AnswerBytes,
        Self::UploadBytes,
        Self::StreamedBody,
        Self::StreamedBytes,
    ];

    /// How it is told.
    fn what(self) -> &'static str {
        match self {
            Self::Call => "concurrent calls of one tenant",
            Self::RenderCall => "concurrent calls of one tenant's renders",
            Self::Waiter => "waiting calls of one tenant",
            Self::Watch => "watches of one tenant",
            Self::LookupStream => "lookup streams of one tenant",
            Self::Upload => "uploads of one tenant",
            Self::Operation => "reads and changes in progress of one tenant",
            Self::RenderOperation => "reads and changes of renders in progress of one tenant",
            Self::Invalidation => "invalidations in progress of one tenant",
            Self::AnswerBytes => "bytes of answers on lookup streams of one tenant",
            Self::UploadBytes => "bytes of uploads and commits in progress of one tenant",
            Self::StreamedBody => "bodies being streamed of one tenant",
            Self::StreamedBytes => "bytes of bodies being streamed of one tenant",
        }
    }

    /// Of what there is for all, what one tenant may have. A body of any size that is allowed passes.
    fn limit(self, limits: &Limits) -> Option<usize> {
        let all = match self {
            Self::Call | Self::RenderCall | Self::StreamedBody => limits.concurrent_calls,
            Self::Waiter => limits.waiters,
            Self::Watch => limits.watches,
            Self::LookupStream => limits.lookup_streams,
            Self::Upload => limits.uploads,
            Self::Operation => limits.operations(),
            Self::RenderOperation => limits.render_operations(),
            Self::Invalidation => limits.invalidations(),
            Self::AnswerBytes => limits.answer_bytes(),
            Self::UploadBytes => limits.upload_bytes,
            Self::StreamedBytes => limits.streamed_bytes,
        };
        let least = match self {
            Self::UploadBytes | Self::StreamedBytes => limits.body_bytes.max(limits.message_bytes),
            Self::AnswerBytes => limits.message_bytes,
            Self::Call
            | Self::RenderCall
            | Self::Waiter
            | Self::Watch
            | Self::LookupStream
            | Self::Upload
            | Self::Operation
            | Self::RenderOperation
            | Self::Invalidation
            | Self::StreamedBody => 1,
        };
        let share = limits
            .tenant
            .share_percent
            .map(|percent| (all.saturating_mul(percent.get() as usize) / 100).max(least));
        match self {
            Self::Waiter => share.into_iter().chain(limits.tenant.waiters).min(),
            _ => share,
        }
    }
}

/// Divides a coordinator among its tenants. What has no limit is not looked up.
pub(crate) struct Shares {
    limits: TenantLimits,
    /// By [`Held`].
    held: [Option<usize>; KINDS],
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
        let held = Held::ALL.map(|kind| kind.limit(limits));
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

    /// Where the tenant takes a place of this kind, if there is a limit to them.
    pub(crate) fn places(&self, tenant: &TenantId, kind: Held) -> Option<Arc<Places>> {
        self.held[kind as usize].and_then(|_| self.of(tenant).places[kind as usize].clone())
    }

    /// Takes so many of the tenant's places, if there is a limit to them.
    ///
    /// # Errors
    /// Where it has as many as it may.
    pub(crate) fn take(
        &self,
        tenant: &TenantId,
        kind: Held,
        count: usize,
    ) -> Result<Option<Place>, EngineError> {
        self.places(tenant, kind).map(|places| places.take_many(count)).transpose()
    }

    /// One place of each tenant's.
    ///
    /// # Errors
    /// Where one of them has as many as it may; then none is taken.
    pub(crate) fn take_of_each(
        &self,
        tenants: &BTreeSet<TenantId>,
        kind: Held,
    ) -> Result<Vec<Place>, EngineError> {
        tenants.iter().filter_map(|tenant| self.take(tenant, kind, 1).transpose()).collect()
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
            places: Held::ALL
                .map(|kind| self.held[kind as usize].map(|limit| Places::new(kind.what(), limit))),
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
