//! What this coordinator remembers of entries: enough that a warm hit asks no store.
//!
//! What is remembered is bounded in bytes. One [`Slot`] for each entry that is remembered or in use; two slots for one entry never live at once, so whoever waits
//! on a slot hears of every change that this coordinator makes or sees.

use super::{caller::StoreCaller, error::EngineError, foreign, limit::TenantPlace, log::LogState};
use crate::{
    meters::{
        purpose::{self, Event, Purpose},
        tenants::{TenantMeters, Tenants},
    },
    time::Moment,
};
use leasehold_core::{
    entry::{Entry, Lease},
    freshness::{self, Freshness},
    identity::{EntryId, Generation, LeaseToken, Seq, Version},
    invalidation::Verdict,
    mutation::{self, Mutation},
    page::PageMeta,
    time::Timestamp,
};
use leasehold_store::port::{EntryStore, ObjectMeta, ReadError};
use parking_lot::{Mutex, RwLock};
use quick_cache::{Weighter, sync::Cache};
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
    /// When the first request that showed it in this version was sent, as far as that is remembered.
    known_since: Duration,
    /// The position in the log that the verdict was reached at, and the verdict, in one word, so that a hit reads both
    /// at once without a lock.
    verdict: AtomicU64,
}

impl View {
    fn new(entry: Option<Arc<Entry>>, seen_at: Duration, known_since: Duration) -> Self {
        Self { entry, seen_at, known_since, verdict: AtomicU64::new(NO_VERDICT) }
    }

    /// A view that is not remembered.
    pub(crate) fn of(entry: Option<Arc<Entry>>, now: Moment) -> Self {
        Self::new(entry, now.elapsed, now.elapsed)
    }

    /// A foreign page with what its object tells of it.
    pub(crate) fn completed(&self, object: &ObjectMeta, now: Moment) -> Arc<Self> {
        let entry = self.entry.as_ref().map(|entry| {
            let pointer = entry.pointer.as_ref().map(|pointer| foreign::complete(pointer, object));
            Arc::new(Entry { pointer, ..Entry::clone(entry) })
        });
        Arc::new(Self::of(entry, now))
    }

    /// For how long it is known to be as it is.
    pub(crate) fn known_for(&self, now: Moment) -> Duration {
        now.elapsed.saturating_sub(self.known_since)
    }

    fn page_generation(&self) -> Option<Generation> {
        self.entry.as_ref()?.pointer.as_ref().map(|pointer| pointer.generation)
    }

    /// When the lease of the page was granted.
    pub(crate) fn page_generated_at(&self) -> Option<Timestamp> {
        self.entry.as_ref()?.pointer.as_ref().map(|pointer| pointer.generated_at)
    }

    fn version(&self) -> Option<Version> {
        self.entry.as_ref().map(|entry| entry.version)
    }

    /// What [`Mutation::VerdictStampedAtEndOfLoad`] does when a body was loaded: the verdict of before counts as one that was
    /// reached by the log as it is now.
    pub(crate) fn stamp_again(&self, log: &LogState) {
        if !mutation::is_active(Mutation::VerdictStampedAtEndOfLoad) {
            return;
        }
        if let Some((_, verdict)) = unpack(self.verdict.load(Ordering::Acquire)) {
            self.verdict.store(pack(log.position(), verdict), Ordering::Release);
        }
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
                let verdict = freshness::verdict(id, pointer, log.view);
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
    /// What its tenant's pages cost, to be counted without looking for the tenant.
    pub(crate) tenant: Arc<TenantMeters>,
    /// One swap at a time: rivals on this coordinator would only refuse each other's.
    pub(crate) gate: Arc<tokio::sync::Mutex<()>>,
    state: RwLock<SlotState>,
    changed: watch::Sender<()>,
    reads: Mutex<ReadQueue>,
    /// When the store was asked last because another coordinator might know better, whatever came of it: in microseconds
    /// of elapsed time.
    reread_at: AtomicU64,
    /// How the store was asked last whether another coordinator has committed what is not current as far as is remembered.
    /// Locked while it is asked: who comes meanwhile waits for its answer.
    pub(crate) doubted: tokio::sync::Mutex<Option<Doubt>>,
    /// The grant that this coordinator made last.
    granted_here: Mutex<Option<(LeaseToken, Generation)>>,
    /// One waiter at a time looks for all whether another coordinator has changed the entry.
    pub(crate) poller: tokio::sync::Mutex<()>,
    registry: Weak<Registry>,
}

/// A question after the page, for the sake of a body.
#[derive(Clone, Copy)]
pub(crate) struct Doubt {
    /// When, in elapsed time.
    pub(crate) at: Duration,
    /// When the lease of the body was granted: the newest of those that were asked for within one interval.
    pub(crate) granted_at: Option<Timestamp>,
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
    waiting: Vec<WaitingRead>,
}

struct WaitingRead {
    /// When it arrived.
    now: Moment,
    /// What it is for.
    purpose: Purpose,
    reply: oneshot::Sender<Result<Arc<View>, ReadError>>,
    /// Its caller's; whoever asks for its sake has it too.
    place: Option<Weak<TenantPlace>>,
}

impl ReadQueue {
    /// From time to time without those whose callers have gone away.
    fn push(&mut self, read: WaitingRead) {
        if self.waiting.len() == self.waiting.capacity() {
            self.waiting.retain(|read| !read.reply.is_closed());
            // Not again before as many have come as are left.
            self.waiting.reserve(self.waiting.len() + 1);
        }
        self.waiting.push(read);
    }
}

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

    /// How many wait here for the entry to change.
    pub(crate) fn waiters(&self) -> usize {
        self.changed.receiver_count()
    }

    /// When this coordinator last saw the entry, or asked for it because another might know better, whatever came of it:
    /// a store that does not answer is not asked by every call.
    pub(crate) fn asked_at(&self, view: &View) -> Duration {
        view.seen_at.max(self.reread_at())
    }

    /// When it was asked for so; of an entry that is not remembered, too.
    pub(crate) fn reread_at(&self) -> Duration {
        Duration::from_micros(self.reread_at.load(Ordering::Acquire))
    }

    /// Notes that the store is asked for what is remembered already.
    pub(crate) fn note_reread(&self, now: Moment) {
        let micros = u64::try_from(now.elapsed.as_micros()).unwrap_or(u64::MAX);
        self.reread_at.fetch_max(micros, Ordering::AcqRel);
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
        let mut state = self.state.write();
        let version = entry.as_ref().map(|entry| entry.version);
        // The same version is the same entry, and has been since it was first seen: versions are never used again.
        let known_since = match &state.view {
            Some(known) if known.version() == version => known.known_since.min(sent.at),
            _ => sent.at,
        };
        let view = Arc::new(View::new(entry.map(Arc::new), sent.at, known_since));
        // Something was installed after the request was sent: which of the two is newer cannot be told. The caller's view
        // is good for the caller; the one that is remembered stays.
        if state.epoch == sent.epoch {
            let is_news = state.view.as_ref().is_none_or(|known| known.version() != version);
            state.view = Some(Arc::clone(&view));
            state.epoch += 1;
            drop(state);
            if is_news {
                self.changed.send_replace(());
            }
        } else if state.view.as_ref().is_some_and(|known| known.page_generation() < view.page_generation()) {
            // Its commit is applied, and not remembered yet. Whoever is told of the page now must find it when he asks again.
            state.view = None;
            state.epoch += 1;
        }
        view
    }

    /// Remembers the entry that a swap put in place of the one with version `before`.
    pub(crate) fn install_swapped(&self, before: Option<Version>, entry: Entry, sent: Sent) -> Arc<View> {
        let view = Arc::new(View::new(Some(Arc::new(entry)), sent.at, sent.at));
        let mut state = self.state.write();
        let follows =
            state.epoch == sent.epoch || state.view.as_ref().is_some_and(|known| known.version() == before);
        // Otherwise others were installed meanwhile, older or newer ones: the next request reads again.
        state.view = follows.then(|| Arc::clone(&view));
        state.epoch += 1;
        drop(state);
        self.changed.send_replace(());
        view
    }
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

/// What a slot takes without its entry, about.
const SLOT_BYTES: usize = 1024;
/// What each part of an entry takes besides its text, about.
const PART_BYTES: usize = 32;

/// A slot as the cache keeps it.
#[derive(Clone)]
struct Kept {
    slot: Arc<Slot>,
    /// What it took when it was put there: the cache asks again when it takes it out, and must get the same answer.
    bytes: u64,
}

impl Kept {
    /// The most of it is what renderers say of their pages, tags and headers above all.
    fn of(slot: &Arc<Slot>) -> Self {
        let name = slot.id.tenant.as_str().len() + slot.id.key.as_str().len();
        let entry = slot.view().and_then(|view| view.entry.as_deref().map(entry_bytes)).unwrap_or_default();
        Self { slot: Arc::clone(slot), bytes: (SLOT_BYTES + name + entry) as u64 }
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<EntryId, Kept> for ByBytes {
    fn weight(&self, _: &EntryId, kept: &Kept) -> u64 {
        kept.bytes
    }
}

type Slots = Cache<EntryId, Kept, ByBytes>;

fn entry_bytes(entry: &Entry) -> usize {
    let Entry { version: _, generation: _, pointer, lease, released: _, backoff } = entry;
    let page = pointer.as_ref().map_or(0, |pointer| {
        let PageMeta { content_type, headers, etag, tags, path, .. } = &pointer.meta;
        let names: usize = pointer.objects().map(|name| name.as_str().len() + PART_BYTES).sum();
        let headers: usize =
            headers.iter().map(|(name, value)| name.len() + value.len() + 2 * PART_BYTES).sum();
        let tags: usize = tags.iter().map(|tag| tag.as_str().len() + PART_BYTES).sum();
        let path = path.as_ref().map_or(0, |path| path.as_str().len());
        names + headers + tags + path + content_type.len() + etag.len()
    });
    let lease = lease.as_ref().map_or(0, |lease| lease.owner.as_str().len());
    let backoff = backoff.as_ref().map_or(0, |backoff| backoff.reason.len());
    size_of::<Entry>() + page + lease + backoff
}

/// All slots of this coordinator, the most used ones kept.
pub(crate) struct Views {
    kept: Arc<Slots>,
    registry: Arc<Registry>,
    store: Arc<dyn EntryStore>,
    caller: StoreCaller,
    tenants: Arc<Tenants>,
}

impl Views {
    pub(crate) fn new(
        store: Arc<dyn EntryStore>,
        caller: StoreCaller,
        tenants: Arc<Tenants>,
        capacity_bytes: u64,
    ) -> Self {
        // An estimate for the cache's tables: what an entry of a page with a few tags takes.
        let estimate = usize::try_from(capacity_bytes / 2048).unwrap_or(usize::MAX).clamp(64, 1 << 22);
        let kept = Arc::new(Cache::with_weighter(estimate, capacity_bytes, ByBytes));
        Self { kept, registry: Arc::default(), store, caller, tenants }
    }

    /// Weighs a slot again after its entry has changed.
    pub(crate) fn weigh(&self, slot: &Arc<Slot>) {
        self.kept.insert(slot.id.clone(), Kept::of(slot));
    }

    pub(crate) fn store(&self) -> &Arc<dyn EntryStore> {
        &self.store
    }

    /// How many entries are remembered.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// What these take, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.kept.weight()
    }

    /// Every entry that is remembered with a lease, that of each as it is at some moment of the call.
    pub(crate) fn leased(&self) -> Vec<Arc<Slot>> {
        let is_leased = |slot: &Slot| {
            slot.view().is_some_and(|view| view.entry.as_ref().is_some_and(|entry| entry.lease.is_some()))
        };
        self.kept.iter().map(|(_, kept)| kept.slot).filter(|slot| is_leased(slot)).collect()
    }

    /// The slot of an entry.
    pub(crate) fn slot(&self, id: &EntryId) -> Arc<Slot> {
        if let Some(kept) = self.kept.get(id) {
            return kept.slot;
        }
        let tenant = self.tenants.of(&id.tenant);
        let slot = {
            let mut slots = self.registry.slots.lock();
            match slots.get(id).and_then(Weak::upgrade) {
                Some(slot) => slot,
                None => {
                    let slot = Arc::new(Slot {
                        id: id.clone(),
                        tenant,
                        gate: Arc::default(),
                        state: RwLock::default(),
                        changed: watch::Sender::new(()),
                        reads: Mutex::default(),
                        reread_at: AtomicU64::new(0),
                        doubted: tokio::sync::Mutex::default(),
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
        self.kept.insert(id.clone(), Kept::of(&slot));
        slot
    }

    /// The entry as it is after this call began. Calls that arrive before a read is sent share it; those that come while
    /// one is under way get the next. The read is a task of its own: a caller that goes away strands nobody.
    pub(crate) async fn read(&self, slot: &Arc<Slot>, now: Moment) -> Result<Arc<View>, EngineError> {
        let (purpose, place) = purpose::begin()?;
        let own_place = place.map(Arc::new);
        let place = own_place.as_ref().map(Arc::downgrade);
        let (reply, answer) = oneshot::channel();
        let lead = {
            let mut reads = slot.reads.lock();
            reads.push(WaitingRead { now, purpose, reply, place });
            !std::mem::replace(&mut reads.running, true)
        };
        if lead {
            let reader = Reader {
                slot: Arc::clone(slot),
                kept: Arc::clone(&self.kept),
                store: Arc::clone(&self.store),
                caller: self.caller.clone(),
            };
            tokio::spawn(reader.run());
        }
        let answer = answer.await;
        drop(own_place);
        match answer {
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

/// Reads an entry as long as somebody waits for it. Dropped before that, by a panic of the store's, it lets the next caller
/// begin anew; those that wait are told.
struct Reader {
    slot: Arc<Slot>,
    kept: Arc<Slots>,
    store: Arc<dyn EntryStore>,
    caller: StoreCaller,
}

impl Reader {
    async fn run(self) {
        while let Some(mut waiting) = self.next_batch() {
            // What nobody waits for any more is not begun.
            waiting.retain(|read| !read.reply.is_closed());
            // The age of what is read is counted from the first of these requests: it can only look older than it is.
            let Some(now) = waiting.iter().map(|read| read.now).min_by_key(|now| now.elapsed) else {
                continue;
            };
            // For one of those who wait for it, and of them one that is traced: none of an earlier batch.
            let traced = waiting.iter().find(|read| read.purpose.call.is_some()).or(waiting.first());
            let purpose = traced.map_or(Purpose::of(Event::Other), |read| read.purpose.clone());
            let place = waiting.iter().find_map(|read| read.place.as_ref()?.upgrade());
            let sent = self.slot.sending(now);
            let result = purpose.cover(self.caller.read(|| self.store.read(&self.slot.id))).await;
            let late = if mutation::is_active(Mutation::StrictReadJoinsInFlight) {
                std::mem::take(&mut self.slot.reads.lock().waiting)
            } else {
                Vec::new()
            };
            let result = result.map(|entry| self.slot.install_seen(entry, sent));
            self.kept.insert(self.slot.id.clone(), Kept::of(&self.slot));
            // Whoever has its answer and asks for more at once is not to be refused for what has ended.
            drop(place);
            for WaitingRead { reply, .. } in waiting.into_iter().chain(late) {
                let _ = reply.send(result.clone());
            }
        }
    }

    fn next_batch(&self) -> Option<Vec<WaitingRead>> {
        let mut reads = self.slot.reads.lock();
        // In the same turn: who comes after this either is in the next batch or begins a reader of its own.
        reads.running = !reads.waiting.is_empty();
        reads.running.then(|| std::mem::take(&mut reads.waiting))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut reads = self.slot.reads.lock();
            reads.running = false;
            reads.waiting.clear();
        }
    }
}
