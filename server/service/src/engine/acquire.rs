//! Who renders now.

use super::{
    Engine, Inner,
    error::EngineError,
    limit::{Places, TenantPlace},
    lookup::Looked,
    transitions::{Settled, Trust},
    view::{Slot, View},
};
use crate::meters::{
    Acquired as Told, TookOver, Waited,
    purpose::{Event, Purpose},
};
use leasehold_core::{
    entry::Lease,
    freshness::Freshness,
    identity::{EntryId, Generation, LeaseToken, Owner, PagePath, Seq},
    invalidation::Verdict,
    object::PageObjects,
    time::Timestamp,
    transition::{self, Acquire, Acquired, Decision, Release},
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// The shortest sleep of a waiter: clocks that disagree by less than this must not make it spin.
const MIN_SLEEP: Duration = Duration::from_millis(1);

/// Asks for a lease.
#[derive(Clone, Debug)]
pub struct AcquireRequest {
    /// Of which entry.
    pub id: EntryId,
    /// The request id, which becomes the token.
    pub token: LeaseToken,
    /// Who asks.
    pub owner: Owner,
    /// For how long.
    pub ttl: Duration,
    /// How long to wait for another's.
    pub wait: Duration,
    /// The page's path, if known.
    pub path: Option<PagePath>,
    /// The log must be read so far.
    pub at_least: Option<Seq>,
    /// Whether it may have been sent before: then the entry is read first, as another coordinator may have granted it.
    pub retry: bool,
    /// Where it takes a place while it waits, beside the one among all calls that do: its tenant's.
    pub waiters: Option<Arc<Places>>,
}

/// What became of it.
pub enum AcquireOutcome {
    /// The caller renders.
    Granted {
        /// Its lease.
        lease: Lease,
        /// Where its bodies go.
        objects: PageObjects,
        /// To be marked as delivered when the answer is on its way.
        receipt: Receipt,
    },
    /// The page is there.
    Ready(Freshness),
    /// Another renders.
    Held {
        /// Until then at the longest, if nothing changes.
        until: Timestamp,
    },
    /// The last render failed.
    BackingOff {
        /// From when on a lease is granted again.
        until: Timestamp,
    },
    /// This attempt's lease has ended before.
    Ended,
}

/// An outcome, and the entry that it was judged on.
pub struct Acquisition {
    /// The outcome.
    pub outcome: AcquireOutcome,
    /// The entry.
    pub looked: Looked,
    /// Where the call has waited, its places among those that do: it has given back that among the calls in progress.
    pub waited: Option<TenantPlace>,
}

/// Stands for a grant that its caller has not heard of yet. Dropped without [`Receipt::delivered`], the caller went away:
/// the lease is given back, so that it does not hold the entry for a ttl with nobody rendering.
#[must_use]
pub struct Receipt(Option<oneshot::Sender<()>>);

impl Receipt {
    /// The caller hears of it.
    pub fn delivered(mut self) {
        if let Some(heard) = self.0.take() {
            let _ = heard.send(());
        }
    }
}

impl AcquireOutcome {
    /// As it is counted.
    pub(crate) const fn told(&self) -> Told {
        match self {
            Self::Granted { .. } => Told::Granted,
            Self::Ready(_) => Told::Ready,
            Self::Held { .. } => Told::Held,
            Self::BackingOff { .. } => Told::BackingOff,
            Self::Ended => Told::Ended,
        }
    }
}

/// A call that waits, in a place among those that do. Dropped, its caller has gone away.
struct Waiting<'a> {
    engine: &'a Engine,
    since: Duration,
    outcome: Waited,
    places: Option<TenantPlace>,
}

impl<'a> Waiting<'a> {
    fn begin(engine: &'a Engine, tenant: Option<&Arc<Places>>) -> Result<Self, EngineError> {
        let places = (engine.0.waiters.take()?, tenant.map(Places::take).transpose()?);
        let since = engine.now().elapsed;
        Ok(Self { engine, since, outcome: Waited::Abandoned, places: Some(places) })
    }

    fn end(mut self, outcome: Waited) -> Option<TenantPlace> {
        self.outcome = outcome;
        self.places.take()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let time = self.engine.now().elapsed.saturating_sub(self.since);
        self.engine.0.meters.waited(self.outcome, time);
    }
}

type Reply = Result<(Settled<Acquired>, Receipt), EngineError>;

impl Engine {
    /// Asks for the right to render; waits while another has it. Repeatable by its token. Dropping the call ends the wait,
    /// and gives back a lease that was granted meanwhile.
    ///
    /// `place` is the call's among those in progress. It is given back when the call begins to wait: those that wait have a
    /// limit of their own, and must not keep others out.
    pub async fn acquire(
        &self,
        request: AcquireRequest,
        place: &mut Option<TenantPlace>,
    ) -> Result<Acquisition, EngineError> {
        let mut waiting = None;
        let mut result = self.acquire_or_wait(request, place, &mut waiting).await;
        if let Some(waiting) = waiting {
            let waited = waiting.end(match &result {
                Ok(acquisition) => Waited::For(acquisition.outcome.told()),
                Err(_) => Waited::Failed,
            });
            if let Ok(acquisition) = &mut result {
                acquisition.waited = waited;
            }
        }
        result
    }

    async fn acquire_or_wait<'a>(
        &'a self,
        request: AcquireRequest,
        place: &mut Option<TenantPlace>,
        waiting: &mut Option<Waiting<'a>>,
    ) -> Result<Acquisition, EngineError> {
        let inner = &self.0;
        let give_up_at = self.now().elapsed + request.wait.min(inner.settings.leases.max_wait);
        if let Some(seq) = request.at_least {
            inner.log.reach(seq).await?;
        }
        let slot = inner.views.slot(&request.id);
        // Before the first look: what changes after it, wakes.
        let mut changed = slot.subscribe();
        let mut log_moved = inner.log.state().subscribe();
        let mut ask = Acquire {
            token: request.token,
            owner: request.owner,
            ttl: request.ttl,
            path: request.path,
            after: None,
        };
        if request.retry {
            inner.views.read(&slot, self.now()).await?;
        }
        // Those that wait leave it to one of them to read the entry again, until the lease is over or the wait is.
        let mut may_reread = true;
        loop {
            changed.mark_unchanged();
            log_moved.mark_unchanged();
            let acquisition = self.attempt(&slot, &ask, may_reread).await?;
            let AcquireOutcome::Held { until } = acquisition.outcome else { return Ok(acquisition) };
            let left = give_up_at.saturating_sub(self.now().elapsed);
            if left.is_zero() {
                return Ok(acquisition);
            }
            if inner.draining.is_cancelled() {
                return Err(EngineError::Draining);
            }
            if waiting.is_none() {
                *waiting = Some(Waiting::begin(self, request.waiters.as_ref())?);
                *place = None;
            }
            let seen = acquisition.looked.pointer().map_or(Generation(0), |pointer| pointer.generation);
            ask.after.get_or_insert(seen);
            let free_in = until.since(self.now().wall).max(MIN_SLEEP);
            drop(acquisition);
            debug_assert!(place.is_none(), "a call that waits must not keep others out");
            may_reread = false;
            tokio::select! {
                biased;
                () = inner.draining.cancelled() => {}
                _ = changed.changed() => {}
                _ = log_moved.changed() => {}
                () = tokio::time::sleep(left.min(free_in)) => may_reread = true,
                never = Purpose::now_of(Event::Wait).cover(self.poll(&slot)) => match never {},
            }
        }
    }

    /// Looks now and then whether another coordinator has changed the entry, for all who wait for it here: they are woken
    /// by what is found.
    async fn poll(&self, slot: &Arc<Slot>) -> Infallible {
        let inner = &self.0;
        let Some(interval) = inner.settings.reread_interval else { return std::future::pending().await };
        let _turn = slot.poller.lock().await;
        loop {
            let now = self.now();
            let view = slot.view();
            let due =
                view.and_then(|view| Some(slot.asked_at(&view) + self.reread_interval(slot, &view, now)?));
            let due = due.unwrap_or_else(|| slot.reread_at() + interval);
            tokio::time::sleep(due.saturating_sub(now.elapsed)).await;
            let now = self.now();
            slot.note_reread(now);
            // What cannot be read now is asked for again when its time comes.
            let _ = inner.views.read(slot, now).await;
        }
    }

    /// Judges once; takes the lease where it is free.
    async fn attempt(
        &self,
        slot: &Arc<Slot>,
        ask: &Acquire,
        may_reread: bool,
    ) -> Result<Acquisition, EngineError> {
        let inner = &self.0;
        let view = match may_reread {
            true => self.current_view(slot, self.now()).await?,
            false => inner.views.view(slot, self.now()).await?,
        };
        let now = self.now();
        let preview = inner
            .transitions
            .ask(slot, &view, now, |entry, context| transition::acquire(entry, ask, context));
        // Whoever only waits, or finds the page, needs no turn: thousands may.
        let outcome = match preview {
            Decision::Answer(Acquired::Ready(freshness)) => AcquireOutcome::Ready(freshness),
            Decision::Answer(Acquired::Held { until }) => AcquireOutcome::Held { until },
            Decision::Answer(Acquired::BackingOff { until }) => AcquireOutcome::BackingOff { until },
            Decision::Answer(
                Acquired::AlreadyYours(_) | Acquired::Ended | Acquired::Exhausted | Acquired::Granted(_),
            )
            | Decision::Swap(..) => return self.take_turn(slot, ask.clone()).await,
        };
        Ok(Acquisition { outcome, looked: self.judge(Arc::clone(slot), view, now), waited: None })
    }

    async fn take_turn(&self, slot: &Arc<Slot>, ask: Acquire) -> Result<Acquisition, EngineError> {
        let (reply, answer) = oneshot::channel::<Reply>();
        let inner = Arc::clone(&self.0);
        let turn_slot = Arc::clone(slot);
        self.0.spawn(async move { inner.grant(turn_slot, ask, reply).await })?;
        let (settled, receipt) =
            answer.await.unwrap_or(Err(EngineError::Internal("a grant ended without an answer")))?;
        let outcome = match settled.answer {
            Acquired::Granted(lease) | Acquired::AlreadyYours(lease) => {
                let objects = self.0.objects_of(&slot.id, &lease);
                AcquireOutcome::Granted { lease, objects, receipt }
            }
            Acquired::Ready(freshness) => AcquireOutcome::Ready(freshness),
            Acquired::Held { until } => AcquireOutcome::Held { until },
            Acquired::BackingOff { until } => AcquireOutcome::BackingOff { until },
            Acquired::Ended => AcquireOutcome::Ended,
            Acquired::Exhausted => {
                return Err(EngineError::Corrupt(
                    "the entry's generation is the last number there is, and nothing can be granted above it"
                        .to_owned(),
                ));
            }
        };
        let now = self.now();
        let view = Arc::new(View::of(settled.entry, now));
        Ok(Acquisition { outcome, looked: self.judge(Arc::clone(slot), view, now), waited: None })
    }
}

impl Inner {
    /// Takes the turn on the entry, in a task of its own: what was swapped is remembered, and undone if nobody hears of it.
    async fn grant(&self, slot: Arc<Slot>, ask: Acquire, reply: oneshot::Sender<Reply>) {
        let result = self
            .transitions
            .carry_out(
                &slot,
                |answer| match answer {
                    Acquired::Ended | Acquired::AlreadyYours(_) | Acquired::Exhausted => {
                        Trust::ReadAfterArrival
                    }
                    Acquired::Ready(_)
                    | Acquired::Held { .. }
                    | Acquired::BackingOff { .. }
                    | Acquired::Granted(_) => Trust::Remembered,
                },
                |entry, context| {
                    // It went away while it queued for its turn: nothing is granted that would have to be undone.
                    if reply.is_closed() {
                        return Decision::Answer(Acquired::Held { until: context.now });
                    }
                    transition::acquire(entry, &ask, context)
                },
            )
            .await;
        let settled = match result {
            Ok(settled) => settled,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        self.retire_replaced(&slot.id, &settled);
        let Acquired::Granted(lease) = settled.answer.clone() else {
            let _ = reply.send(Ok((settled, Receipt(None))));
            return;
        };
        slot.note_grant(&lease);
        self.meters.granted(self.took_over(&slot.id, &settled, ask.path.as_ref()));
        let (receipt, heard) = oneshot::channel();
        // Where nobody takes it, it is dropped with its receipt.
        let _ = reply.send(Ok((settled, Receipt(Some(receipt)))));
        if heard.await.is_err() {
            self.undo(&slot, lease).await;
        }
    }

    /// What a grant took the place of.
    fn took_over(&self, id: &EntryId, settled: &Settled<Acquired>, path: Option<&PagePath>) -> TookOver {
        let before = settled.replaced.as_ref().and_then(|replaced| replaced.0.as_ref());
        let Some((entry, lease)) = before.and_then(|entry| Some((entry, entry.lease.as_ref()?))) else {
            return TookOver::Nothing;
        };
        if self.clock.now().wall >= lease.expires_at {
            return TookOver::Expired;
        }
        let meta = entry.pointer.as_ref().map(|pointer| &pointer.meta);
        let tags = meta.map_or(&[][..], |meta| &meta.tags);
        let paths = [meta.and_then(|meta| meta.path.as_ref()), path];
        let is_overtaken =
            |path| self.log.state().marks(id, tags, path).verdict(lease.seen) != Verdict::Valid;
        // Else it is over by a clock that is behind the one that its end was written by.
        if paths.into_iter().any(is_overtaken) { TookOver::Overtaken } else { TookOver::Expired }
    }

    /// Gives back a lease whose caller went away, unless a repetition of the call, here or on another coordinator, was told
    /// of it meanwhile.
    async fn undo(&self, slot: &Arc<Slot>, lease: Lease) {
        let result = self
            .transitions
            .carry_out(
                slot,
                |_| Trust::Remembered,
                |entry, context| {
                    transition::release(entry, lease.token, lease.generation, &Release::Unheard, context)
                },
            )
            .await;
        match result {
            Ok(settled) => {
                if settled.replaced.is_some() {
                    self.meters.unheard();
                }
                self.retire_replaced(&slot.id, &settled);
            }
            Err(error) => {
                tracing::warn!(%error, "a lease that nobody heard of could not be given back; it expires by itself");
            }
        }
    }
}
