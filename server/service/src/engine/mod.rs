//! The engine: the coordinator's operations, without a wire.
//!
//! It keeps views of entries and of the log, asks the core, and carries decisions out through the ports. All state that
//! matters is in the store; what is here can be lost at any moment.

mod acquire;
mod bodies;
mod caller;
mod cleaner;
mod commit;
mod error;
mod foreign;
mod limit;
mod log;
mod lookup;
mod placing;
mod running;
mod staged;
mod transitions;
mod turns;
mod view;
mod watch;

pub use acquire::{AcquireOutcome, AcquireRequest, Acquisition, Receipt};
pub use commit::{CommitRequest, PageInput, UploadRequest, Uploaded};
pub use error::EngineError;
pub use limit::{Place, Places, TenantPlace, TenantsPlace};
pub use lookup::{Consistency, LogStanding, Looked, ReadObject};
pub use placing::{BodyInput, GivenNames};
pub use running::{RunningLease, RunningLeases};
pub use watch::{Cursor, Next, WatchEvent, WatchFilter, WatchHub};

use crate::{
    meters::{
        Meters,
        purpose::{self, Event, Purpose},
    },
    random::Entropy,
    settings::Settings,
    time::{Clock, Moment},
    traces::Tracing,
};
use bodies::Bodies;
use caller::StoreCaller;
use cleaner::Cleaner;
use leasehold_core::{
    entry::{Entry, Lease},
    identity::{EntryId, Generation, LeaseToken, Seq, TenantId},
    invalidation::{Invalidation, Verdict},
    named::{GivenName, NamedObject},
    object::{self, ObjectName, PageObjects},
    page::Pointer,
    transition::{self, Context, Decision, Release, ReleaseOutcome, Renewed},
};
use leasehold_store::port::Stores;
use log::{LogDependencies, LogHandle};
use staged::{Attempt, Staged};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transitions::{Settled, Transitions, Trust};
use view::Views;

/// What the engine gets from outside.
#[derive(Clone)]
pub struct Dependencies {
    /// Entries, log, bodies.
    pub stores: Stores,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random values.
    pub entropy: Arc<Entropy>,
    /// Where spans go, if anywhere.
    pub tracing: Option<Tracing>,
}

/// One coordinator. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    settings: Settings,
    clock: Arc<dyn Clock>,
    views: Arc<Views>,
    log: LogHandle,
    transitions: Arc<Transitions>,
    bodies: Arc<Bodies>,
    cleaner: Arc<Cleaner>,
    staged: Arc<Staged>,
    hub: Arc<WatchHub>,
    meters: Meters,
    tracing: Option<Tracing>,
    waiters: Arc<Places>,
    draining: CancellationToken,
    stopped: CancellationToken,
    tasks: TaskTracker,
}

/// Figures about this coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineStats {
    /// Entries whose state is in memory.
    pub entries: usize,
    /// Bytes that these take, about.
    pub entry_bytes: u64,
    /// Bytes of bodies in memory.
    pub body_bytes: u64,
    /// Bytes of invalidations in memory, about.
    pub log_bytes: usize,
    /// Calls that wait for another's lease.
    pub waiters: usize,
    /// Superseded bodies that wait for deletion.
    pub pending_deletions: usize,
    /// The position in the invalidation log.
    pub log_position: Seq,
    /// How long ago a read of the log that reached its head was sent; `None` for never.
    pub log_age: Option<Duration>,
    /// Whether that is recent enough to call anything fresh.
    pub log_verified: bool,
}

impl Engine {
    /// Reads the invalidation log and starts to follow it.
    pub async fn start(dependencies: Dependencies, settings: Settings) -> Result<Self, EngineError> {
        let Dependencies { stores, clock, entropy, tracing } = dependencies;
        let meters = Meters::new(&settings.metrics, Arc::clone(&clock), tracing.clone());
        let stores = meters.observe(stores);
        let caller = StoreCaller::new(&settings.store, Arc::clone(&entropy));
        let stopped = CancellationToken::new();
        let tasks = TaskTracker::new();
        let hub = Arc::new(WatchHub::new(entropy.bits(), settings.memory.watch_events));
        let log = LogDependencies {
            store: stores.log,
            caller: caller.clone(),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            hub: Arc::clone(&hub),
        };
        let log = LogHandle::start(log, &settings, stopped.clone(), &tasks).await?;
        let tenants = Arc::clone(&meters.tenants);
        let views = Views::new(stores.entries, caller.clone(), tenants, settings.memory.entry_bytes);
        let views = Arc::new(views);
        let bodies = Arc::new(Bodies::new(stores.objects, caller.clone(), settings.memory.body_bytes));
        let cleaner = Arc::new(Cleaner::new(
            settings.deletion_grace,
            settings.memory.pending_deletions,
            Arc::clone(&clock),
        ));
        let deleting = Arc::clone(&cleaner).run(Arc::clone(&bodies), stopped.clone());
        tokio::spawn(tasks.track_future(Purpose::of(Event::Deletion).cover(deleting)));
        let staged = Arc::new(Staged::new(settings.memory.pending_deletions, Arc::clone(&clock)));
        let looking = Arc::clone(&staged).run(Arc::clone(&views), Arc::clone(&cleaner), stopped.clone());
        tokio::spawn(tasks.track_future(Purpose::of(Event::Deletion).cover(looking)));
        let transitions = Arc::new(Transitions {
            views: Arc::clone(&views),
            log: Arc::clone(log.state()),
            clock: Arc::clone(&clock),
            entropy,
            caller,
            rules: settings.rules.clone(),
        });
        Ok(Self(Arc::new(Inner {
            waiters: Places::new("waiting calls", settings.limits.waiters),
            settings,
            clock,
            views,
            log,
            transitions,
            bodies,
            cleaner,
            staged,
            hub,
            meters,
            tracing,
            draining: CancellationToken::new(),
            stopped,
            tasks,
        })))
    }

    /// The settings it runs with.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock)
    }

    /// Reads the clock: when a request arrives, and again after every wait.
    pub fn now(&self) -> Moment {
        self.0.clock.now()
    }

    /// What the worker that named an object of this tenant calls it; `None` for one that none did.
    pub fn given_name(&self, tenant: &TenantId, object: &ObjectName) -> Option<GivenName> {
        self.0.given_name(tenant, object)
    }

    /// Commits and invalidations, to watch.
    pub fn watch_hub(&self) -> &Arc<WatchHub> {
        &self.0.hub
    }

    /// What this coordinator counts.
    pub(crate) fn meters(&self) -> &Meters {
        &self.0.meters
    }

    /// Places for calls that wait for another's lease.
    pub(crate) fn waiters(&self) -> &Arc<Places> {
        &self.0.waiters
    }

    pub(crate) fn tracing(&self) -> Option<&Tracing> {
        self.0.tracing.as_ref()
    }

    /// Figures about this coordinator.
    pub fn stats(&self) -> EngineStats {
        let (now, log) = (self.now(), self.0.log.state());
        EngineStats {
            entries: self.0.views.len(),
            entry_bytes: self.0.views.bytes(),
            body_bytes: self.0.bodies.cached_bytes(),
            log_bytes: log.bytes(),
            waiters: self.0.waiters.taken(),
            pending_deletions: self.0.cleaner.pending(),
            log_position: log.position(),
            log_age: log.age(now),
            log_verified: log.is_verified(now),
        }
    }

    /// From here on no call waits for another's lease; those that do are sent elsewhere.
    pub fn drain(&self) {
        self.0.draining.cancel();
    }

    /// Whether [`Engine::drain`] was called.
    pub fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }

    /// Ends the engine's tasks, when no call is in progress any more.
    pub async fn stop(&self) {
        self.drain();
        self.0.tasks.close();
        self.0.stopped.cancel();
        self.0.tasks.wait().await;
    }

    /// Tells the engine's tasks to end, without waiting for them: calls are still in progress, and their time is over.
    pub fn cut_off(&self) {
        self.drain();
        self.0.tasks.close();
        self.0.stopped.cancel();
    }

    /// Appends an invalidation; the position is its consistency token. Repeatable by its id. It has the places until it is
    /// answered, or left out because its caller has gone away.
    pub async fn invalidate(
        &self,
        invalidation: Invalidation,
        places: Option<TenantsPlace>,
    ) -> Result<Seq, EngineError> {
        self.0.log.append(invalidation, places).await
    }

    /// Moves the expiry of a lease.
    pub async fn renew(
        &self,
        id: &EntryId,
        token: LeaseToken,
        generation: Generation,
        ttl: Duration,
    ) -> Result<Renewed, EngineError> {
        let settled = self
            .settle(
                id,
                // Also that it still is, without a swap that would prove it.
                |_| Trust::ReadAfterArrival,
                move |entry, context| transition::renew(entry, token, generation, ttl, context),
            )
            .await?;
        Ok(settled.answer)
    }

    /// Ends a lease without a page.
    pub async fn release(
        &self,
        id: &EntryId,
        token: LeaseToken,
        generation: Generation,
        outcome: Release,
    ) -> Result<ReleaseOutcome, EngineError> {
        let settled = self
            .settle(
                id,
                |answer| match answer {
                    ReleaseOutcome::Released => Trust::Remembered,
                    ReleaseOutcome::NotHeld => Trust::ReadAfterArrival,
                },
                move |entry, context| transition::release(entry, token, generation, &outcome, context),
            )
            .await?;
        Ok(settled.answer)
    }

    /// Runs a transition in a task of its own, so that it is finished and remembered also when its caller goes away.
    async fn settle<T: Send + 'static>(
        &self,
        id: &EntryId,
        trust: impl Fn(&T) -> Trust + Send + Sync + 'static,
        decide: impl Fn(Option<&Entry>, Context<'_>) -> Decision<T> + Send + Sync + 'static,
    ) -> Result<Settled<T>, EngineError> {
        let slot = self.0.views.slot(id);
        let inner = Arc::clone(&self.0);
        let task = self.0.spawn(async move {
            let settled = inner.transitions.carry_out(&slot, trust, decide).await?;
            inner.retire_replaced(&slot.id, &settled);
            Ok(settled)
        })?;
        task.await.unwrap_or(Err(EngineError::Internal("a transition ended without an answer")))
    }
}

impl Inner {
    /// Runs a task that a stop waits for, for the purpose of whoever begins it.
    fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<JoinHandle<T>, EngineError> {
        let (purpose, place) = purpose::begin()?;
        let task = purpose.cover(task);
        Ok(tokio::spawn(self.tasks.track_future(async move {
            let _place = place;
            task.await
        })))
    }

    /// The names under which a lease's bodies are stored. They follow from the lease, so that every repetition of the
    /// grant names the same.
    fn objects_of(&self, id: &EntryId, lease: &Lease) -> PageObjects {
        object::names_for(&self.settings.object_prefix, id, lease)
    }

    /// What a worker of this tenant calls an object. `None` for one that cannot be read by a name here: the coordinator named it,
    /// or it is another tenant's, or under another prefix.
    fn given_name(&self, tenant: &TenantId, object: &ObjectName) -> Option<GivenName> {
        let named = NamedObject::of(object)?;
        (named.is_under(&self.settings.object_prefix) && named.is_of(tenant)).then(|| named.given().clone())
    }

    /// Hands over for deletion what an attempt that can no longer commit has stored under names of its worker's, but for what
    /// is current.
    fn retire_staged(&self, attempt: &Attempt, current: Option<&Pointer>) {
        self.staged.retire(attempt, current, &self.cleaner);
    }

    /// Hands over for deletion what a swap left behind: the bodies of a page that is no longer current, and what a lease
    /// that can no longer commit may have uploaded.
    fn retire_replaced<T>(&self, id: &EntryId, settled: &Settled<T>) {
        let Some(before) = settled.replaced.as_ref().and_then(|replaced| replaced.0.as_ref()) else { return };
        let after = settled.entry.as_ref();
        let current = after.and_then(|entry| entry.pointer.as_ref());
        if let Some(lease) = &before.lease {
            let lives_on = after
                .and_then(|entry| entry.lease.as_ref())
                .is_some_and(|now| now.generation == lease.generation);
            let is_committed = current.is_some_and(|pointer| pointer.generation == lease.generation);
            if !lives_on && !is_committed {
                let PageObjects { html, sidecar } = self.objects_of(id, lease);
                self.cleaner.retire([html, sidecar]);
            }
            if !lives_on {
                self.retire_staged(&Attempt::of(id, lease), current);
            }
        }
        if let Some(pointer) = &before.pointer {
            let is_current =
                |name: &ObjectName| current.is_some_and(|now| now.objects().any(|kept| kept == name));
            let beside = foreign::sidecar_of(pointer);
            let left = pointer.objects().cloned().chain(beside).filter(|name| !is_current(name));
            match self.log.state().verdict(id, pointer) {
                Verdict::Purged => self.cleaner.retire_purged(left),
                Verdict::Valid | Verdict::Invalidated => self.cleaner.retire(left),
            }
        }
    }
}
