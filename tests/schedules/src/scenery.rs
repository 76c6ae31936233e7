//! What all explorations begin with.

use crate::{
    engine::{
        AcquireOutcome, AcquireRequest, Acquisition, BodyInput, CommitRequest, Consistency, Dependencies,
        Engine, GivenNames,
    },
    memory::Memory,
    random::Entropy,
    settings::Settings,
    time::{Clock, Moment},
};
use bytes::Bytes;
use leasehold_core::{
    entry::Lease,
    freshness::Freshness,
    identity::{EntryId, EntryKey, LeaseToken, Owner, RequestId, Tag, TenantId},
    invalidation::{Depth, Invalidation, Scope},
    page::{PageMeta, PageStatus},
    time::Timestamp,
    transition::Committed,
};
use parking_lot::Mutex;
use shuttle::{
    rand::{Rng as _, thread_rng},
    scheduler::{PctScheduler, RandomScheduler},
};
use std::{sync::Arc, task::Poll, time::Duration};
use tokio::time::NEVER;

/// Explores a story by chance, and then by seldom changing its mind, which finds other orders. How often: the variable
/// `LEASEHOLD_SCHEDULES`, or so that the whole takes a few seconds; which ones: `LEASEHOLD_SCHEDULES_SEED`, or always the same.
/// A failure prints the schedule that shows it, to be handed to `shuttle::replay`.
///
/// # Panics
/// When one of these variables is no number.
pub(crate) fn explore<F: Future<Output = ()> + Send + 'static>(story: fn() -> F) {
    let number = |variable: &str, default: u64| {
        std::env::var(variable).map_or(default, |number| number.parse().expect(variable))
    };
    let count = number("LEASEHOLD_SCHEDULES", 400) as usize;
    let seed = number("LEASEHOLD_SCHEDULES_SEED", 1);
    let run = move || shuttle::future::block_on(story());
    let config = || {
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 20;
        config
    };
    shuttle::Runner::new(RandomScheduler::new_from_seed(seed, count), config()).run(run);
    shuttle::Runner::new(PctScheduler::new_from_seed(seed, 3, count), config()).run(run);
}

/// Drops a future between any two of its steps, or lets it come to its end.
pub(crate) async fn impatient<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let patience = thread_rng().gen_range(0..24);
    let mut call = Box::pin(call);
    for _ in 0..patience {
        if let Poll::Ready(value) = futures::poll!(&mut call) {
            return Some(value);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// A clock that goes a millisecond further whenever it is read.
#[derive(Debug, Default)]
struct Ticking(Mutex<u64>);

impl Clock for Ticking {
    fn now(&self) -> Moment {
        let mut millis = self.0.lock();
        *millis += 1;
        let elapsed = Duration::from_millis(*millis);
        Moment { wall: Timestamp::from_millis(1_800_000_000_000).plus(elapsed), elapsed }
    }
}

/// Leases, reads of the log and waits that outlast every story.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.rules.max_hold = NEVER * 2;
    settings.rules.staleness_bound = NEVER * 8;
    settings.leases.max_wait = NEVER * 2;
    settings.leases.max_ttl = NEVER * 2;
    settings.log.tail_interval = NEVER * 2;
    settings.store.request_timeout = NEVER * 2;
    settings
}

/// A coordinator on a store.
pub(crate) async fn start(memory: &Arc<Memory>) -> Engine {
    start_with(memory, |_| {}).await
}

pub(crate) async fn start_with(memory: &Arc<Memory>, change: impl FnOnce(&mut Settings)) -> Engine {
    let mut settings = settings();
    change(&mut settings);
    let entropy = Arc::new(Entropy::from_seed(thread_rng().r#gen()));
    let (stores, clock) = (memory.stores(), Arc::new(Ticking::default()));
    let dependencies = Dependencies { stores, clock, entropy, tracing: None };
    Engine::start(dependencies, settings).await.unwrap()
}

pub(crate) fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

pub(crate) fn entry(key: &str) -> EntryId {
    EntryId { tenant: tenant(), deployment: None, key: EntryKey::parse(key).unwrap() }
}

pub(crate) fn acquire(token: u128) -> AcquireRequest {
    AcquireRequest {
        id: entry("news"),
        token: LeaseToken::from_bits(token),
        owner: Owner::parse("worker").unwrap(),
        ttl: NEVER * 2,
        wait: NEVER * 2,
        path: None,
        at_least: None,
        retry: false,
        waiters: None,
    }
}

/// The page of a lease, with the tag `t`.
pub(crate) fn page(lease: &Lease) -> CommitRequest {
    CommitRequest {
        id: entry("news"),
        token: lease.token,
        generation: lease.generation,
        html: BodyInput::Inline(Bytes::from(lease.generation.to_string())),
        sidecar: None,
        names: GivenNames::default(),
        meta: PageMeta {
            status: PageStatus::OK,
            content_type: "text/html".to_owned(),
            headers: Vec::new(),
            etag: String::new(),
            revalidate: None,
            stale_while_revalidate: None,
            stale_if_error: None,
            tags: vec![Tag::parse("t").unwrap()],
            path: None,
            render_time: None,
        },
    }
}

/// Of the tag that [`page`] has.
pub(crate) fn invalidation(id: u128) -> Invalidation {
    invalidation_of("t", id)
}

pub(crate) fn invalidation_of(tag: &str, id: u128) -> Invalidation {
    let scopes = vec![Scope::Tag(tenant(), Tag::parse(tag).unwrap())];
    Invalidation { id: RequestId(id), scopes, depth: Depth::Soft }
}

/// A lease that its caller has heard of.
pub(crate) fn granted(acquisition: Acquisition) -> Option<Lease> {
    match acquisition.outcome {
        AcquireOutcome::Granted { lease, receipt, .. } => {
            receipt.delivered();
            Some(lease)
        }
        _ => None,
    }
}

pub(crate) async fn commit(engine: &Engine, lease: &Lease) -> Committed {
    engine.commit(page(lease)).await.unwrap().0
}

pub(crate) async fn freshness(engine: &Engine, consistency: Consistency) -> Freshness {
    engine.lookup(&entry("news"), consistency, None, engine.now()).await.unwrap().freshness
}
