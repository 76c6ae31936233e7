//! Lookups of a busy handle, over one stream instead of a call each.
//!
//! The way of a lookup: its caller takes a slot and puts the request into a queue; the connection's own task drains the
//! queue, so that all requests that gathered meanwhile leave in one write; one reader per stream hands each answer to the
//! slot of its id. No task, and no lock held across an await, per lookup.

use crate::{
    Error,
    call::{Attempt, Call},
    clock,
    coordinator::Shared,
    link::Client,
    slots::{Slot, Slots},
    wire,
};
use futures::{Stream, StreamExt as _};
use leasehold_proto::v1 as pb;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};
use tonic::{Code, Status};

/// From so many lookups under way on, they use the stream: a lone one is answered sooner by a call of its own after the
/// process was frozen, and keeps no stream open.
const BUSY: usize = 3;
/// A stream that carried nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(15);
/// How long an old coordinator, or a proxy that carries no streams, is spared them.
const UNSUPPORTED_FOR: Duration = Duration::from_secs(60);
/// After the second stream in a row that answered nothing; doubles with each.
const FRUITLESS_FOR: Duration = Duration::from_secs(1);
/// Answers that are handed out under one lock.
const BATCH: usize = 128;

/// The lookups of one handle.
pub(crate) struct Lookups {
    max_in_flight: usize,
    under_way: AtomicUsize,
    current: Mutex<Current>,
}

struct Current {
    stream: Option<Arc<Carrier>>,
    fruitless: u32,
    not_before: Option<Instant>,
}

impl Lookups {
    pub(crate) fn new(max_in_flight: usize) -> Self {
        let current = Mutex::new(Current { stream: None, fruitless: 0, not_before: None });
        Self { max_in_flight, under_way: AtomicUsize::new(0), current }
    }

    fn enter(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(&self.under_way)
    }

    /// A stream is over: how soon is the next one worth trying?
    fn ended(&self, why: &Ended, answers: u64) {
        let mut current = self.current.lock();
        let spared = match why {
            Ended::Unsupported => UNSUPPORTED_FOR,
            _ if answers > 0 || matches!(why, Ended::Closed) => {
                current.fruitless = 0;
                return;
            }
            _ => {
                current.fruitless += 1;
                match current.fruitless {
                    1 => return,
                    streams => FRUITLESS_FOR.saturating_mul(1 << (streams - 2).min(6)).min(UNSUPPORTED_FOR),
                }
            }
        };
        current.not_before = Some(clock::now() + spared);
    }
}

/// Counts a lookup while it is under way.
struct UnderWay<'a>(&'a AtomicUsize);

impl UnderWay<'_> {
    fn is_busy(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= BUSY
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(crate) async fn lookup(
        self: &Arc<Self>,
        request: impl Fn() -> pb::LookupRequest,
    ) -> Result<pb::LookupResponse, Error> {
        let under_way = self.lookups.enter();
        let mut call = Call::begin(self, self.limits);
        loop {
            let attempt = call.attempt()?;
            let carrier = if under_way.is_busy() { self.lookup_stream() } else { None };
            let streamed = match carrier {
                Some(carrier) => self.ask(&carrier, &attempt, request()).await,
                None => None,
            };
            let result = match streamed {
                Some(result) => result,
                None => self.lone_lookup(&attempt, request()).await,
            };
            match result {
                Ok(response) => return Ok(response),
                Err(error) => call.retry_after(error).await?,
            }
        }
    }

    async fn lone_lookup(
        &self,
        attempt: &Attempt,
        request: pb::LookupRequest,
    ) -> Result<pb::LookupResponse, Error> {
        let link = self.lanes.prompt();
        let (generation, mut client) = link.client();
        let result = attempt.settle(client.lookup(attempt.request(request))).await;
        if result.as_ref().is_err_and(|error| self.lanes.are_suspect(error)) {
            link.replace(generation);
        }
        result
    }

    async fn ask(&self, carrier: &Carrier, attempt: &Attempt, lookup: pb::LookupRequest) -> Streamed {
        let multiplex = &carrier.0;
        let answers = multiplex.answers.load(Ordering::Relaxed);
        let asking = multiplex.ask(lookup, attempt.remote_timeout());
        match timeout_at(attempt.until, asking).await {
            Ok(asked) => asked,
            Err(_) => {
                // Not a word since: it is the connection, not the lookup.
                if multiplex.answers.load(Ordering::Relaxed) == answers {
                    self.lanes.prompt().replace(multiplex.generation);
                }
                Some(Err(Error::TimedOut { after: attempt.timeout() }))
            }
        }
    }

    /// The stream in use, or a new one; none where streams are not worth trying for now.
    fn lookup_stream(self: &Arc<Self>) -> Option<Arc<Carrier>> {
        if self.lookups.max_in_flight == 0 {
            return None;
        }
        let generation = self.lanes.prompt().generation();
        let mut current = self.lookups.current.lock();
        if let Some(stream) = &current.stream
            && stream.0.generation == generation
            && !stream.0.is_over()
        {
            return Some(Arc::clone(stream));
        }
        // One on a connection that was replaced lives on until its last caller has gone.
        current.stream = None;
        if let Some(not_before) = current.not_before {
            if clock::now() < not_before {
                return None;
            }
            current.not_before = None;
        }
        let (generation, client) = self.lanes.prompt().client();
        let multiplex = Arc::new(Multiplex::new(generation, self.lookups.max_in_flight));
        let until = clock::later(clock::now(), self.limits.attempt);
        tokio::spawn(read(Arc::clone(&multiplex), client, until, Arc::downgrade(self)));
        let carrier = Arc::new(Carrier(multiplex));
        current.stream = Some(Arc::clone(&carrier));
        Some(carrier)
    }
}

/// Keeps a stream open for as long as somebody may ask on it.
struct Carrier(Arc<Multiplex>);

impl Drop for Carrier {
    fn drop(&mut self) {
        self.0.end(Ended::Closed);
    }
}

/// What became of a lookup on a stream. `None`: it is to be a call of its own.
type Streamed = Option<Result<pb::LookupResponse, Error>>;

/// Why a stream is over.
#[derive(Clone, Debug)]
enum Ended {
    /// Nobody needs it.
    Closed,
    /// The other side has no such call.
    Unsupported,
    /// It could not be opened.
    NeverOpened(String),
    /// It broke, or the coordinator ended it.
    Broken(String),
}

/// One stream.
struct Multiplex {
    /// Of the connection that it is on.
    generation: u64,
    permits: Semaphore,
    answers: AtomicU64,
    inner: Mutex<Inner>,
}

type Answer = Result<pb::LookupResponse, pb::LookupError>;

struct Inner {
    queue: VecDeque<pb::LookupStreamRequest>,
    slots: Slots<oneshot::Sender<Answer>>,
    /// Of the connection's task, when it has found the queue empty.
    writer: Option<Waker>,
    /// Something was asked since the last look.
    used: bool,
    ended: Option<Ended>,
}

impl Multiplex {
    fn new(generation: u64, max_in_flight: usize) -> Self {
        let slots = Slots::default();
        let inner = Inner { queue: VecDeque::new(), slots, writer: None, used: true, ended: None };
        let permits = Semaphore::new(max_in_flight);
        Self { generation, permits, answers: AtomicU64::new(0), inner: Mutex::new(inner) }
    }

    async fn ask(&self, lookup: pb::LookupRequest, timeout: Duration) -> Streamed {
        let Ok(_permit) = self.permits.acquire().await else { return self.lost() };
        let (sender, receiver) = oneshot::channel();
        let (slot, writer) = {
            let mut inner = self.inner.lock();
            if inner.ended.is_some() {
                drop(inner);
                return self.lost();
            }
            let slot = inner.slots.insert(sender);
            inner.queue.push_back(pb::LookupStreamRequest {
                id: slot.to_wire(),
                lookup: Some(lookup),
                timeout: Some(wire::to_wire(timeout)),
            });
            inner.used = true;
            (slot, inner.writer.take())
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        let given_up = GivenUp { multiplex: self, slot };
        match receiver.await {
            Ok(answer) => {
                std::mem::forget(given_up);
                Some(answer.map_err(lookup_error))
            }
            Err(_) => self.lost(),
        }
    }

    fn lost(&self) -> Streamed {
        match self.inner.lock().ended.clone() {
            None | Some(Ended::Closed | Ended::Unsupported) => None,
            Some(Ended::NeverOpened(why)) => Some(Err(Error::NotSent(why.into()))),
            Some(Ended::Broken(why)) => Some(Err(Error::Broken(why.into()))),
        }
    }

    fn answer(&self, messages: Vec<pb::LookupStreamResponse>) {
        use pb::lookup_stream_response::Result as Wire;
        self.answers.fetch_add(messages.len() as u64, Ordering::Relaxed);
        let mut due = Vec::with_capacity(messages.len());
        {
            let mut inner = self.inner.lock();
            for pb::LookupStreamResponse { id, result } in messages {
                // Whose caller has gone, the slot is empty.
                if let (Some(sender), Some(result)) = (inner.slots.remove(Slot::from_wire(id)), result) {
                    due.push((sender, result));
                }
            }
        }
        for (sender, result) in due {
            let _gone = sender.send(match result {
                Wire::Response(response) => Ok(response),
                Wire::Error(error) => Err(error),
            });
        }
    }

    fn is_over(&self) -> bool {
        self.inner.lock().ended.is_some()
    }

    /// Ends it for this reason, unless it has one already. The unanswered learn of it by their dropped senders.
    fn end(&self, why: Ended) {
        let (slots, writer) = {
            let mut inner = self.inner.lock();
            inner.ended.get_or_insert(why);
            inner.queue.clear();
            (std::mem::take(&mut inner.slots), inner.writer.take())
        };
        self.permits.close();
        drop(slots);
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// Ends it if nobody has asked since the last time this was called, and nobody waits.
    fn end_if_idle(&self) {
        let mut inner = self.inner.lock();
        let idle = !std::mem::take(&mut inner.used) && inner.slots.is_empty();
        if idle {
            inner.ended.get_or_insert(Ended::Closed);
            drop(inner);
            self.end(Ended::Closed);
        }
    }
}

/// Frees the slot of a lookup whose caller went away before the answer came.
struct GivenUp<'a> {
    multiplex: &'a Multiplex,
    slot: Slot,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.multiplex.inner.lock().slots.remove(self.slot);
    }
}

fn lookup_error(pb::LookupError { code, message, status_details }: pb::LookupError) -> Error {
    Error::from_status(Status::with_details(Code::from(code), message, status_details))
}

/// The requests of a stream, as its connection's task takes them.
struct Outgoing {
    multiplex: Arc<Multiplex>,
    taken: VecDeque<pb::LookupStreamRequest>,
}

impl Stream for Outgoing {
    type Item = pb::LookupStreamRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(message) = this.taken.pop_front() {
            return Poll::Ready(Some(message));
        }
        let mut inner = this.multiplex.inner.lock();
        if inner.ended.is_some() {
            return Poll::Ready(None);
        }
        std::mem::swap(&mut inner.queue, &mut this.taken);
        // Whose caller has gone meanwhile need not be asked.
        let slots = &inner.slots;
        this.taken.retain(|message| slots.contains(Slot::from_wire(message.id)));
        match this.taken.pop_front() {
            Some(message) => Poll::Ready(Some(message)),
            None => {
                inner.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// What is to blame for the end of a stream.
enum Fault {
    None,
    Connection,
    /// Its caller is not known any more.
    Identity,
}

impl Fault {
    fn of(error: &Error) -> Self {
        if error.is_unauthenticated() {
            Self::Identity
        } else if error.suspects_connection() {
            Self::Connection
        } else {
            Self::None
        }
    }
}

/// Opens a stream and reads it to its end.
async fn read(multiplex: Arc<Multiplex>, mut client: Client, until: Instant, shared: Weak<Shared>) {
    // However this task ends, with the runtime or by a panic, nobody is left waiting.
    let _end = Carrier(Arc::clone(&multiplex));
    let outgoing = Outgoing { multiplex: Arc::clone(&multiplex), taken: VecDeque::new() };
    let (why, fault) = match timeout_at(until, client.lookup_stream(outgoing)).await {
        Err(_) => {
            (Ended::NeverOpened("the lookup stream was not opened in time".to_owned()), Fault::Connection)
        }
        Ok(Err(status)) if status.code() == Code::Unimplemented => (Ended::Unsupported, Fault::None),
        Ok(Err(status)) => {
            let error = Error::from_status(status);
            (Ended::NeverOpened(error.to_string()), Fault::of(&error))
        }
        Ok(Ok(response)) => read_answers(&multiplex, response.into_inner()).await,
    };
    multiplex.end(why.clone());
    tracing::debug!(?why, "lookup stream ended");
    if let Some(shared) = shared.upgrade() {
        shared.lookups.ended(&why, multiplex.answers.load(Ordering::Relaxed));
        let replaces = match fault {
            Fault::None => false,
            Fault::Connection => true,
            Fault::Identity => shared.lanes.identity_is_over(),
        };
        if replaces {
            shared.lanes.prompt().replace(multiplex.generation);
        }
    }
}

async fn read_answers(
    multiplex: &Multiplex,
    answers: tonic::Streaming<pb::LookupStreamResponse>,
) -> (Ended, Fault) {
    let mut answers = answers.ready_chunks(BATCH);
    let mut idle = tokio::time::interval(IDLE);
    loop {
        tokio::select! {
            chunk = answers.next() => {
                let Some(chunk) = chunk else {
                    let over = multiplex.inner.lock().ended.clone();
                    let gone = Ended::Broken("the coordinator ended the lookup stream".to_owned());
                    return (over.unwrap_or(gone), Fault::None);
                };
                let mut messages = Vec::with_capacity(chunk.len());
                let mut failure = None;
                for message in chunk {
                    match message {
                        Ok(message) => messages.push(message),
                        Err(status) => failure = Some(status),
                    }
                }
                multiplex.answer(messages);
                if let Some(status) = failure {
                    if status.code() == Code::Unimplemented {
                        return (Ended::Unsupported, Fault::None);
                    }
                    let error = Error::from_status(status);
                    return (Ended::Broken(error.to_string()), Fault::of(&error));
                }
            }
            _ = idle.tick() => multiplex.end_if_idle(),
        }
    }
}
