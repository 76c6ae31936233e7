//! What this coordinator remembers of entries: enough that a warm hit asks no store.
//!
//! One [`Slot`] for each entry that is remembered or in use; two slots for one entry never live at once, so whoever waits
//! on a slot hears of every change that this coordinator makes or sees.

use super::{caller::StoreCaller, error::EngineError, log::LogState};
use crate::time::Moment;
use leasehold_core::{
    entry::{Entry, Lease},
    freshness::{self, Freshness},
    identity::{EntryId, Generation, LeaseToken, Seq, Version},
    invalidation::Verdict,
};
use leasehold_store::port::{EntryStore, ReadError};
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{oneshot, watch};

/// An entry as it was at some moment, with the last verdict about it.
pub(crate) struct View {
    pub(crate) entry: Option<Arc<Entry>>,
    /// When the request that showed it was sent, in elapsed time.
    pub(crate) seen_at: Duration,
    /// The position in the log that the verdict was reached at, and the verdict, in one word, so that a hit reads both
    /// at once without a lock.
    verdict: AtomicU64,
}

impl View {
    fn new(entry: Option<Arc<Entry>>, seen_at: Duration) -> Self {
        Self { entry, seen_at, verdict: AtomicU64::new(NO_VERDICT) }
    }

    /// A view that is not remembered.
    pub(crate) fn of(entry: Option<Arc<Entry>>, now: Moment) -> Self {
        Self::new(entry, now.elapsed)
    }

    /// The state of the page. Scans scopes only when the log has moved since the last time.
    pub(crate) fn judge(&self, id: &EntryId, log: &LogState, now: Moment, retention: Duration) -> Freshness {
        let Some(pointer) = self.entry.as_ref().and_then(|entry| entry.pointer.as_ref()) else {
            return freshness::judge_with(None, Verdict::Valid, true, now.wall, retention);
        };
        let known = unpack(self.verdict.load(Ordering::Acquire));
        let verdict = match known {
            Some((at, verdict)) if at == log.position() => verdict,
            _ => log.with(now, |log| {
                let verdict = freshness::marks(id, pointer, log.view).verdict(pointer.seen);
                // The position of the very view that was scanned, not of the log when this is stored.
                self.verdict.store(pack(log.view.position(), verdict), Ordering::Release);
                verdict
            }),
        };
        freshness::judge_with(Some(pointer), verdict, log.is_verified(now), now.wall, retention)
    }
}

const NO_VERDICT: u64 = u64::MAX;

fn pack(at: Seq, verdict: Verdict) -> u64 {
    let verdict = match verdict {
        Verdict::Valid => 0,
        Verdict::Invalidated => 1,
        Verdict::Purged => 2,
    };
    at.0 << 2 | verdict
}

fn unpack(word: u64) -> Option<(Seq, Verdict)> {
    let verdict = match word & 3 {
        0 => Verdict::Valid,
        1 => Verdict::Invalidated,
        2 => Verdict::Purged,
        _ => return None,
    };
    Some((Seq(word >> 2), verdict))
}

/// One entry on this coordinator.
pub(crate) struct Slot {
    pub(crate) id: EntryId,
    /// One swap at a time: rivals on this coordinator would only refuse each other's.
    pub(crate) gate: Arc<tokio::sync::Mutex<()>>,
    state: RwLock<SlotState>,
    changed: watch::Sender<()>,
    reads: Mutex<ReadQueue>,
    /// The grant that a repetition of its call was told of last: it must not be undone because the first call went away.
    /// Looked at and changed only while the gate is held.
    confirmed: Mutex<Option<Confirmed>>,
    /// The grant that this coordinator made last.
    granted_here: Mutex<Option<Confirmed>>,
    /// One waiter at a time looks for all whether another coordinator has changed the entry.
    pub(crate) poller: tokio::sync::Mutex<()>,
    registry: Weak<Registry>,
}

#[derive(Default)]
struct SlotState {
    view: Option<Arc<View>>,
    /// Raised whenever the view changes: a request that was sent under an older one may be late.
    epoch: u64,
}

#[derive(Default)]
struct ReadQueue {
    running: bool,
    waiting: Vec<oneshot::Sender<Result<Arc<View>, ReadError>>>,
}

/// Names a grant.
type Confirmed = (LeaseToken, Generation);

/// When a request to the store was sent, as far as this slot is concerned.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    epoch: u64,
    at: Duration,
}

impl Slot {
    /// What is remembered.
    pub(crate) fn view(&self) -> Option<Arc<View>> {
        self.state.read().view.clone()
    }

    /// Wakes on every change that is installed after this call.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Notes that a repetition was told of its grant. To be called while the gate is held.
    pub(crate) fn confirm(&self, lease: &Lease) {
        *self.confirmed.lock() = Some((lease.token, lease.generation));
    }

    /// Whether a repetition was told of this grant. To be called while the gate is held.
    pub(crate) fn is_confirmed(&self, lease: &Lease) -> bool {
        *self.confirmed.lock() == Some((lease.token, lease.generation))
    }

    /// Notes that this coordinator granted a lease.
    pub(crate) fn note_grant(&self, lease: &Lease) {
        *self.granted_here.lock() = Some((lease.token, lease.generation));
    }

    /// Whether it was this coordinator that granted a lease: its holder's calls are likely to come here too.
    pub(crate) fn is_granted_here(&self, lease: &Lease) -> bool {
        *self.granted_here.lock() == Some((lease.token, lease.generation))
    }

    /// To be called before a request to the store is sent.
    pub(crate) fn sending(&self, now: Moment) -> Sent {
        Sent { epoch: self.state.read().epoch, at: now.elapsed }
    }

    /// Remembers what a read, or a refused swap, showed.
    pub(crate) fn install_seen(&self, entry: Option<Entry>, sent: Sent) -> Arc<View> {
        let view = Arc::new(View::new(entry.map(Arc::new), sent.at));
        let mut state = self.state.write();
        // Something was installed after the request was sent: which of the two is newer cannot be told. The caller's view
        // is good for the caller; the one that is remembered stays.
        if state.epoch == sent.epoch {
            let is_news = state.view.as_ref().is_none_or(|known| version(known) != version(&view));
            state.view = Some(Arc::clone(&view));
            state.epoch += 1;
            drop(state);
            if is_news {
                self.changed.send_replace(());
            }
        }
        view
    }

    /// Remembers the entry that a swap put in place of the one with version `before`.
    pub(crate) fn install_swapped(&self, before: Option<Version>, entry: Entry, sent: Sent) -> Arc<View> {
        let view = Arc::new(View::new(Some(Arc::new(entry)), sent.at));
        let mut state = self.state.write();
        let follows =
            state.epoch == sent.epoch || state.view.as_ref().is_some_and(|known| version(known) == before);
        // Otherwise others were installed meanwhile, older or newer ones: the next request reads again.
        state.view = follows.then(|| Arc::clone(&view));
        state.epoch += 1;
        drop(state);
        self.changed.send_replace(());
        view
    }
}

fn version(view: &View) -> Option<Version> {
    view.entry.as_ref().map(|entry| entry.version)
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            let mut slots = registry.slots.lock();
            // A new slot may stand there already: only a dead one is removed.
            if slots.get(&self.id).is_some_and(|slot| slot.strong_count() == 0) {
                slots.remove(&self.id);
            }
        }
    }
}

/// Every slot that lives.
#[derive(Default)]
struct Registry {
    slots: Mutex<HashMap<EntryId, Weak<Slot>>>,
}

/// All slots of this coordinator, the most used ones kept.
pub(crate) struct Views {
    kept: Cache<EntryId, Arc<Slot>>,
    registry: Arc<Registry>,
    store: Arc<dyn EntryStore>,
    caller: StoreCaller,
}

impl Views {
    pub(crate) fn new(store: Arc<dyn EntryStore>, caller: StoreCaller, capacity: usize) -> Self {
        Self { kept: Cache::new(capacity), registry: Arc::default(), store, caller }
    }

    pub(crate) fn store(&self) -> &Arc<dyn EntryStore> {
        &self.store
    }

    /// How many entries are remembered.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The slot of an entry.
    pub(crate) fn slot(&self, id: &EntryId) -> Arc<Slot> {
        if let Some(slot) = self.kept.get(id) {
            return slot;
        }
        let slot = {
            let mut slots = self.registry.slots.lock();
            match slots.get(id).and_then(Weak::upgrade) {
                Some(slot) => slot,
                None => {
                    let slot = Arc::new(Slot {
                        id: id.clone(),
                        gate: Arc::default(),
                        state: RwLock::default(),
                        changed: watch::Sender::new(()),
                        reads: Mutex::default(),
                        confirmed: Mutex::default(),
                        granted_here: Mutex::default(),
                        poller: tokio::sync::Mutex::default(),
                        registry: Arc::downgrade(&self.registry),
                    });
                    slots.insert(id.clone(), Arc::downgrade(&slot));
                    slot
                }
            }
        };
        // Outside the lock: an evicted slot takes it when it is dropped.
        self.kept.insert(id.clone(), Arc::clone(&slot));
        slot
    }

    /// The entry as it is after this call began. Calls that arrive before a read is sent share it; those that come while
    /// one is under way get the next. The read is a task of its own: a caller that goes away strands nobody.
    pub(crate) async fn read(&self, slot: &Arc<Slot>, now: Moment) -> Result<Arc<View>, EngineError> {
        let (reply, answer) = oneshot::channel();
        let lead = {
            let mut reads = slot.reads.lock();
            reads.waiting.push(reply);
            !std::mem::replace(&mut reads.running, true)
        };
        if lead {
            let reader = Reader {
                slot: Arc::clone(slot),
                store: Arc::clone(&self.store),
                caller: self.caller.clone(),
            };
            tokio::spawn(reader.run(now));
        }
        match answer.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(EngineError::Internal("a read ended without an answer")),
        }
    }

    /// What is remembered, else what the store says.
    pub(crate) async fn view(&self, slot: &Arc<Slot>, now: Moment) -> Result<Arc<View>, EngineError> {
        match slot.view() {
            Some(view) => Ok(view),
            None => self.read(slot, now).await,
        }
    }
}

struct Reader {
    slot: Arc<Slot>,
    store: Arc<dyn EntryStore>,
    caller: StoreCaller,
}

impl Reader {
    async fn run(self, now: Moment) {
        loop {
            let waiting = {
                let mut reads = self.slot.reads.lock();
                if reads.waiting.is_empty() {
                    reads.running = false;
                    return;
                }
                std::mem::take(&mut reads.waiting)
            };
            // The age of what is read is counted from the first caller's request: it can only look older than it is.
            let sent = self.slot.sending(now);
            let result = self.caller.read(self.store.read(&self.slot.id)).await;
            let result = result.map(|entry| self.slot.install_seen(entry, sent));
            for reply in waiting {
                let _ = reply.send(result.clone());
            }
        }
    }
}
