//! The invalidation log: one task follows it, another appends to it.
//!
//! Two tasks, so that a slow append keeps nobody from knowing that there is nothing new. Both fold what they learn into one
//! view, under its lock and by position: events are folded and published in their order, each once. What arrives while an
//! append is under way is appended together by the next one, or, where that is too much, by those that follow, in turns by
//! tenant. Callers only wait for a task's word; one that goes away changes nothing, but that its invalidation is not appended if
//! its turn has not come.

use super::{caller::StoreCaller, error::EngineError, limit::TenantsPlace, turns::Turns, watch::WatchHub};
use crate::{
    meters::purpose::{Event, Purpose},
    random::Entropy,
    settings::Settings,
    time::{Clock, Moment},
};
use leasehold_core::{
    freshness::{self, Log},
    identity::{EntryId, PagePath, RequestId, Seq, Tag},
    invalidation::{Invalidation, LogEvent, LogView, Marks, Verdict},
    page::Pointer,
};
use leasehold_store::port::{Append, Head, InvalidationLog, ReadError, WriteError};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::MissedTickBehavior,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Invalidations in one event at most: keeps an event well within the limits of every store.
const MAX_BATCH: usize = 64;
/// Bytes of scopes in one event at most, likewise.
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// What a scope takes besides its text, about.
const SCOPE_OVERHEAD_BYTES: usize = 16;
/// Events in one read at most.
const EVENT_PAGE: usize = 500;
/// How often rivals may win before the callers of an append are told.
const APPEND_ATTEMPTS: u32 = 64;
/// How often an append may fail, or its outcome be unknown, before its callers are told.
const APPEND_FAILURES: u32 = 6;
/// Calls that may wait for each task.
const QUEUE: usize = 8192;
/// Events dropped at once.
const FORGET_PART: usize = 1000;
/// How often expired events are dropped from memory.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// What this coordinator knows of the log, for all who judge by it.
pub(crate) struct LogState {
    view: RwLock<LogView>,
    /// The view's position, to be compared without a lock on every hit.
    position: AtomicU64,
    /// When the last read that reached the head was sent, in microseconds of elapsed time, plus one; zero for never.
    verified_at: AtomicU64,
    staleness_bound: Duration,
    moved: watch::Sender<Seq>,
}

impl LogState {
    pub(crate) fn position(&self) -> Seq {
        Seq(self.position.load(Ordering::Acquire))
    }

    /// Whether the log was read recently enough to call anything fresh.
    pub(crate) fn is_verified(&self, now: Moment) -> bool {
        self.age(now).is_some_and(|age| age <= self.staleness_bound)
    }

    /// How long ago a read that reached the head was sent; `None` for never.
    pub(crate) fn age(&self, now: Moment) -> Option<Duration> {
        let micros = self.verified_at.load(Ordering::Acquire).checked_sub(1)?;
        Some(now.elapsed.saturating_sub(Duration::from_micros(micros)))
    }

    /// Judges by the log as it is known now. The lock is held meanwhile: `judge` must not wait for anything.
    pub(crate) fn with<T>(&self, now: Moment, judge: impl FnOnce(Log<'_>) -> T) -> T {
        let view = self.view.read();
        judge(Log { view: &view, verified: self.is_verified(now) })
    }

    /// The newest events about a page.
    pub(crate) fn marks(&self, id: &EntryId, tags: &[Tag], path: Option<&PagePath>) -> Marks {
        self.view.read().marks_for(id, tags, path)
    }

    /// What invalidations leave of a page.
    pub(crate) fn verdict(&self, id: &EntryId, pointer: &Pointer) -> Verdict {
        freshness::verdict(id, pointer, &self.view.read())
    }

    /// What is remembered of the log takes about so many bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.view.read().retained_bytes()
    }

    /// Wakes when the log has moved.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Seq> {
        self.moved.subscribe()
    }
}

/// Whom to tell what became of an invalidation, and the places that it has until then.
struct AppendReply {
    to: oneshot::Sender<Result<Seq, EngineError>>,
    places: Option<TenantsPlace>,
}

impl AppendReply {
    fn send(self, result: Result<Seq, EngineError>) {
        let Self { to, places } = self;
        // Whoever has its answer and asks for more at once is not to be refused for what has ended.
        drop(places);
        let _ = to.send(result);
    }
}

type Waiting = (Invalidation, AppendReply);
type ReadReply = oneshot::Sender<Result<(), EngineError>>;

/// What the tasks get from outside.
pub(crate) struct LogDependencies {
    pub(crate) store: Arc<dyn InvalidationLog>,
    pub(crate) caller: StoreCaller,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<Entropy>,
    /// Where what was read is published.
    pub(crate) hub: Arc<WatchHub>,
}

/// Speaks to the tasks.
pub(crate) struct LogHandle {
    state: Arc<LogState>,
    appends: mpsc::Sender<Waiting>,
    reads: mpsc::Sender<ReadReply>,
}

impl LogHandle {
    /// Reads the log to its head and starts following it until `shutdown`, by tasks that are given to `tasks`.
    pub(crate) async fn start(
        log: LogDependencies,
        settings: &Settings,
        shutdown: CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<Self, EngineError> {
        let LogDependencies { store, caller, clock, entropy, hub } = log;
        let state = Arc::new(LogState {
            view: RwLock::default(),
            position: AtomicU64::new(0),
            verified_at: AtomicU64::new(0),
            staleness_bound: settings.rules.staleness_bound,
            moved: watch::Sender::new(Seq::START),
        });
        let reader = Arc::new(Reader {
            store: Arc::clone(&store),
            caller: caller.clone(),
            clock: Arc::clone(&clock),
            hub,
            state: Arc::clone(&state),
            memory_bytes: settings.memory.log_bytes,
            proposed: Mutex::default(),
            failing: AtomicBool::new(false),
        });
        // What happened before this run began is no news to anybody who watches.
        Purpose::of(Event::Tail).cover(reader.catch_up(Publish::No)).await?;
        let (reads, read_inbox) = mpsc::channel(QUEUE);
        let follower = Follower { reader: Arc::clone(&reader), tail_interval: settings.log.tail_interval };
        let following = follower.run(read_inbox, shutdown.clone());
        tokio::spawn(tasks.track_future(Purpose::of(Event::Tail).cover(following)));
        let (appends, append_inbox) = mpsc::channel(QUEUE);
        let appender = Appender {
            store,
            reader,
            caller,
            keep_for: settings.rules.retention + settings.log.retention_margin,
            entropy,
        };
        let appending = appender.run(append_inbox, shutdown);
        tokio::spawn(tasks.track_future(Purpose::of(Event::Invalidate).cover(appending)));
        Ok(Self { state, appends, reads })
    }

    pub(crate) fn state(&self) -> &Arc<LogState> {
        &self.state
    }

    /// Appends, and answers with the position from which on it holds.
    pub(crate) async fn append(
        &self,
        invalidation: Invalidation,
        places: Option<TenantsPlace>,
    ) -> Result<Seq, EngineError> {
        let (to, answer) = oneshot::channel();
        self.appends
            .send((invalidation, AppendReply { to, places }))
            .await
            .map_err(|_| EngineError::Draining)?;
        // The task took it and died: nobody knows how far it came.
        answer.await.unwrap_or_else(|_| Err(EngineError::OutcomeUnknown("the log's task ended".to_owned())))
    }

    /// Reads the log to the head as it is after this call began.
    pub(crate) async fn read_now(&self) -> Result<(), EngineError> {
        let (reply, answer) = oneshot::channel();
        self.reads.send(reply).await.map_err(|_| EngineError::Draining)?;
        answer.await.unwrap_or(Err(EngineError::Draining))
    }

    /// Waits until the log is read up to `seq`; refused if the head is not that far.
    pub(crate) async fn reach(&self, seq: Seq) -> Result<(), EngineError> {
        if self.state.position() >= seq {
            return Ok(());
        }
        self.read_now().await?;
        if self.state.position() >= seq { Ok(()) } else { Err(EngineError::TokenBeyondHead) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Publish {
    Yes,
    No,
}

/// Reads the log into the view. Used by both tasks, also at the same time.
struct Reader {
    store: Arc<dyn InvalidationLog>,
    caller: StoreCaller,
    clock: Arc<dyn Clock>,
    hub: Arc<WatchHub>,
    state: Arc<LogState>,
    memory_bytes: usize,
    /// The event that was proposed here last: where the head shows it, it need not be read.
    proposed: Mutex<Option<LogEvent>>,
    failing: AtomicBool,
}

impl Reader {
    /// Reads the head, and the events up to it if it moved.
    async fn catch_up(&self, publish: Publish) -> Result<(), EngineError> {
        let result = self.read_to_head(publish).await;
        match &result {
            Err(error) if !self.failing.swap(true, Ordering::AcqRel) => {
                tracing::warn!(%error, "invalidation log cannot be read; nothing is called fresh before it can");
            }
            Ok(()) if self.failing.swap(false, Ordering::AcqRel) => {
                tracing::info!("invalidation log is read again");
            }
            _ => {}
        }
        result
    }

    async fn read_to_head(&self, publish: Publish) -> Result<(), EngineError> {
        // Before the head is read: what is folded meanwhile may be newer than what this read shows.
        let mut position = self.state.position();
        let sent = self.clock.now();
        let head = self.caller.read(|| self.read_head()).await?;
        if head.seq < position {
            return Err(EngineError::Corrupt(format!(
                "the log's head is at {}, but it was read up to {position} before: was the store replaced?",
                head.seq
            )));
        }
        self.fold_own(head);
        position = position.max(self.state.position());
        while position < head.seq {
            let mut limit = self.staleness_limit();
            let read = || {
                let events = self.in_time("the log", limit, self.store.events(position, EVENT_PAGE));
                // What was only slow has its time in the end.
                limit *= 2;
                events
            };
            let events = self.caller.read(read).await?;
            let last = events.last().map_or(head.seq, |event| event.seq);
            self.fold(&events, publish);
            // No more events: those below the head are forgotten.
            position = if events.is_empty() { head.seq } else { last };
            self.advance_to(position);
        }
        self.verify(sent);
        Ok(())
    }

    async fn read_head(&self) -> Result<Head, ReadError> {
        self.in_time("the head of the log", self.staleness_limit(), self.store.head()).await
    }

    /// What may be given up early, to be asked for again within the staleness bound: one answer that is lost must not make
    /// every page unverified.
    fn staleness_limit(&self) -> Duration {
        self.state.staleness_bound / 4
    }

    async fn in_time<T>(
        &self,
        what: &str,
        limit: Duration,
        answer: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(ReadError::Unavailable(format!("{what} was not told within {limit:?}"))),
        }
    }

    /// Folds what was proposed here, where it is all that is new: its own answer may still be on the way.
    fn fold_own(&self, head: Head) {
        let own = self.proposed.lock().clone();
        let is_news = |event: &LogEvent| {
            (head.seq, head.last_event) == (event.seq, Some(event.id))
                && self.state.position().next() == Some(event.seq)
        };
        if let Some(event) = own.filter(is_news) {
            self.fold(std::slice::from_ref(&event), Publish::Yes);
            self.advance_to(event.seq);
        }
    }

    fn fold(&self, events: &[LogEvent], publish: Publish) {
        let mut crowded_out = 0;
        let mut view = self.state.view.write();
        for event in events {
            let is_new = event.seq > view.position();
            view.fold(event);
            if is_new && publish == Publish::Yes {
                self.hub.publish_invalidations(event);
            }
            crowded_out += view.forget_beyond(self.memory_bytes);
        }
        drop(view);
        if crowded_out > 0 {
            tracing::warn!(
                events = crowded_out,
                limit_bytes = self.memory_bytes,
                "more invalidations are to be remembered than there is memory for: the oldest of the tenant with most of \
                 them are forgotten, and its pages that are older than these are rendered again"
            );
        }
    }

    fn advance_to(&self, seq: Seq) {
        let mut view = self.state.view.write();
        view.advance_to(seq);
        // While the view is locked: whoever sees the position sees the events up to it.
        self.state.position.store(view.position().0, Ordering::Release);
        drop(view);
        self.state.moved.send_replace(seq);
    }

    fn verify(&self, sent: Moment) {
        let micros = u64::try_from(sent.elapsed.as_micros()).unwrap_or(u64::MAX - 1);
        self.state.verified_at.fetch_max(micros + 1, Ordering::AcqRel);
    }
}

/// Reads the log whenever it is time to, or somebody asks for it.
struct Follower {
    reader: Arc<Reader>,
    tail_interval: Duration,
}

impl Follower {
    async fn run(self, mut inbox: mpsc::Receiver<ReadReply>, shutdown: CancellationToken) {
        let mut tail = tokio::time::interval(self.tail_interval);
        tail.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // It was read just before this task began.
        tail.reset();
        let mut forget = tokio::time::interval(FORGET_INTERVAL);
        forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = forget.tick() => {
                    let now = self.reader.clock.now().wall;
                    // In parts: those who judge by the view have their turn in between.
                    while self.reader.state.view.write().forget(now, FORGET_PART) == FORGET_PART {
                        tokio::task::yield_now().await;
                    }
                    continue;
                }
                _ = tail.tick() => {}
                received = inbox.recv_many(&mut waiting, QUEUE) => if received == 0 { return },
            }
            while let Ok(reply) = inbox.try_recv() {
                waiting.push(reply);
            }
            // Sent after these reads arrived, so it may answer them. Those that come now wait for the next one.
            let result = self.reader.catch_up(Publish::Yes).await;
            for reply in waiting {
                // A caller that went away needs no answer.
                let _ = reply.send(result.clone());
            }
            tail.reset();
        }
    }
}

/// Whether its caller went away before its turn: others must not wait for what nobody waits for.
fn is_given_up((_, reply): &Waiting) -> bool {
    reply.to.is_closed()
}

/// Appends what is handed in, one event after the other.
struct Appender {
    store: Arc<dyn InvalidationLog>,
    reader: Arc<Reader>,
    caller: StoreCaller,
    /// Events are kept so long.
    keep_for: Duration,
    entropy: Arc<Entropy>,
}

impl Appender {
    async fn run(self, mut inbox: mpsc::Receiver<Waiting>, shutdown: CancellationToken) {
        let mut waiting = Turns::new();
        while !shutdown.is_cancelled() {
            if waiting.is_empty() {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    received = inbox.recv() => match received {
                        Some(first) => line_up(&mut waiting, first),
                        None => return,
                    },
                }
            }
            while let Ok(next) = inbox.try_recv() {
                line_up(&mut waiting, next);
            }
            let batch = next_batch(&mut waiting);
            if !batch.is_empty() {
                self.append(batch).await;
            }
        }
    }

    /// Appends what arrived together as one event.
    async fn append(&self, batch: Vec<Waiting>) {
        let mut waiting: BTreeMap<RequestId, (Invalidation, Vec<AppendReply>)> = BTreeMap::new();
        let mut order = Vec::with_capacity(batch.len());
        for (invalidation, reply) in batch {
            let id = invalidation.id;
            let slot = waiting.entry(id).or_insert_with(|| {
                order.push(id);
                (invalidation, Vec::new())
            });
            slot.1.push(reply);
        }
        let mut event: Option<LogEvent> = None;
        let mut unknown = None;
        let mut last_error = EngineError::StoreUnavailable("the log changes too fast".to_owned());
        let mut failures = 0;
        for _ in 0..APPEND_ATTEMPTS {
            self.answer_known(&mut waiting);
            if waiting.is_empty() {
                return;
            }
            let expected = self.reader.state.position();
            let Some(seq) = expected.next() else {
                last_error =
                    EngineError::Corrupt(format!("no event can follow position {expected} of the log"));
                break;
            };
            // The same event again while the position is the same: whichever attempt is applied, it is this one.
            let proposal = match event.take().filter(|event| event.seq == seq) {
                Some(event) => event,
                None => self.propose(seq, &order, &waiting),
            };
            let sent = self.reader.clock.now();
            *self.reader.proposed.lock() = Some(proposal.clone());
            match self.caller.write(failures, self.store.append(expected, &proposal)).await {
                Ok(Append::Appended) => {
                    self.reader.fold(std::slice::from_ref(&proposal), Publish::Yes);
                    self.reader.advance_to(proposal.seq);
                    self.reader.verify(sent);
                    self.answer_known(&mut waiting);
                    return;
                }
                // By a rival, or by an earlier attempt of this.
                Ok(Append::HeadMoved) => match self.reader.catch_up(Publish::Yes).await {
                    Ok(()) => {}
                    Err(error) => {
                        last_error = error;
                        failures += 1;
                    }
                },
                Err(WriteError::Unknown(why)) => {
                    unknown = Some(why);
                    failures += 1;
                    if let Err(error) = self.reader.catch_up(Publish::Yes).await {
                        last_error = error;
                    }
                }
                Err(error @ WriteError::NotApplied(_)) => {
                    last_error = error.into();
                    failures += 1;
                }
                Err(error @ (WriteError::Corrupt(_) | WriteError::TooLarge(_))) => {
                    last_error = error.into();
                    break;
                }
            }
            event = Some(proposal);
            if failures > 0 && (failures == APPEND_FAILURES || !self.caller.may_repeat(failures).await) {
                break;
            }
        }
        self.answer_known(&mut waiting);
        let error = unknown.map_or(last_error, EngineError::OutcomeUnknown);
        if !waiting.is_empty() {
            tracing::warn!(%error, invalidations = waiting.len(), "invalidations could not be appended");
        }
        for (_, (_, replies)) in waiting {
            for reply in replies {
                reply.send(Err(error.clone()));
            }
        }
    }

    /// Answers those that are in the log, by this coordinator's hand or another's.
    fn answer_known(&self, waiting: &mut BTreeMap<RequestId, (Invalidation, Vec<AppendReply>)>) {
        let view = self.reader.state.view.read();
        waiting.retain(|id, (_, replies)| match view.seq_of(*id) {
            Some(seq) => {
                for reply in replies.drain(..) {
                    reply.send(Ok(seq));
                }
                false
            }
            None => true,
        });
    }

    fn propose(
        &self,
        seq: Seq,
        order: &[RequestId],
        waiting: &BTreeMap<RequestId, (Invalidation, Vec<AppendReply>)>,
    ) -> LogEvent {
        let now = self.reader.clock.now().wall;
        LogEvent {
            seq,
            id: RequestId(self.entropy.bits()),
            at: now,
            forget_after: now.plus(self.keep_for),
            invalidations: order
                .iter()
                .filter_map(|id| waiting.get(id).map(|(invalidation, _)| invalidation.clone()))
                .collect(),
        }
    }
}

/// What names several tenants has the turn of the first that it names.
fn line_up(waiting: &mut Turns<Waiting>, next: Waiting) {
    let tenant = next.0.scopes.iter().find_map(|scope| scope.tenant().cloned());
    waiting.push(tenant, next);
}

/// What the next event holds.
fn next_batch(waiting: &mut Turns<Waiting>) -> Vec<Waiting> {
    waiting.retain(|next| !is_given_up(next));
    let (mut many, mut bytes) = (0, 0);
    waiting.take(|(next, _)| {
        let weight = weight_bytes(next);
        let fits = many == 0 || (many < MAX_BATCH && bytes + weight <= MAX_BATCH_BYTES);
        if fits {
            many += 1;
            bytes += weight;
        }
        fits
    })
}

fn weight_bytes(invalidation: &Invalidation) -> usize {
    invalidation.scopes.iter().map(|scope| scope.text_bytes() + SCOPE_OVERHEAD_BYTES).sum()
}
