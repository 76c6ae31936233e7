//! What a coordinator keeps for its peers: requests that have not come to their end, and answers that have not been read.
//!
//! Neither is a call in progress: a request is no call yet, and an answer is none any more. So nothing of the calls' limits and
//! deadlines holds for them, and whoever may connect could fill the memory with them. Each connection is a [`Line`], with a
//! quarter of what there is for all, and a little that others cannot take from it:
//!
//! - The body of a request is wrapped ([`request::Received`]). As long as it is not finished, its bytes have places, and when it
//!   takes too long it is cut off. One that comes in one piece, as most do, takes none.
//! - Of the body of an answer each piece has places until the transport has written it to the connection, or has let go of it
//!   ([`answer::Unread`]): the piece itself holds them, as nobody is told how far the transport is. While a connection has much
//!   to send, its answers wait. When others have taken all there is, and it has nothing to wait for, the answer ends with an error.
//! - The connection looks at itself now and then ([`connection::Attended`]). Where it takes no bytes, or holds much that its peer
//!   does not read, or anything when there is little left for others, it is closed, and everything that it holds is let go.

mod answer;
mod connection;
mod layer;
mod request;

pub(crate) use connection::Attended;
pub(crate) use layer::KeepLines;

use crate::{
    edge::calls::reason,
    engine::{Engine, EngineError, Place, Places},
    meters::CallMeters,
    server::TransportSettings,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;
use tonic::Status;

/// Of what there is for all, one connection may take this part.
const SHARE: usize = 4;
/// So many bytes each connection has for itself: enough for small calls, whatever others do.
const OWN_BYTES: usize = 16 * 1024;
/// What precedes a message on the wire: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// What there is for all connections.
pub(crate) struct Lines {
    receiving: Budget,
    unread: Budget,
    streams: Arc<Places>,
    stall_timeout: Duration,
    meters: Arc<CallMeters>,
}

/// Bytes that connections may keep.
#[derive(Debug)]
struct Budget {
    /// Without what each has for itself.
    all: Arc<Places>,
    /// For one connection. `what` completes the sentence "over the limit of `share` …".
    share: usize,
    what: &'static str,
}

/// One connection, and what is kept for it.
pub(crate) struct Line {
    lines: Arc<Lines>,
    receiving: AtomicUsize,
    unread: AtomicUsize,
    /// The same, by the period in which they were given to the transport: this or the one before. What is older is counted with
    /// either.
    unread_since: [AtomicUsize; 2],
    period: AtomicUsize,
    /// Told when some of it was read.
    room: Arc<Notify>,
    streams: Arc<Places>,
}

/// A place for a stream that is not the coordinator's own.
#[derive(Debug)]
pub(crate) struct OpenStream {
    _all: Place,
    _line: Place,
}

impl Lines {
    /// For a coordinator, whose metrics show them from here on. One message of those that are allowed always has room on an
    /// idle connection.
    pub(crate) fn new(engine: &Engine, settings: &TransportSettings, sent_bytes: usize) -> Arc<Self> {
        let limits = &engine.settings().limits;
        let receiving = Budget::new(
            ["bytes of requests being received", "bytes of requests being received on one connection"],
            settings.receiving_bytes,
            limits.message_bytes,
        );
        let unread = Budget::new(
            ["bytes of answers not read", "bytes of answers not read on one connection"],
            settings.unread_bytes,
            sent_bytes,
        );
        let streams = Places::new("streams of health and reflection", settings.other_streams);
        engine.meters().show_places([
            ("receiving_bytes", &receiving.all),
            ("unread_bytes", &unread.all),
            ("other_streams", &streams),
        ]);
        let (stall_timeout, meters) = (limits.stall_timeout, Arc::clone(&engine.meters().calls));
        Arc::new(Self { receiving, unread, streams, stall_timeout, meters })
    }

    /// For one more connection.
    pub(crate) fn line(self: &Arc<Self>) -> Arc<Line> {
        let streams = self.streams.limit().div_ceil(SHARE);
        Arc::new(Line {
            lines: Arc::clone(self),
            receiving: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            unread_since: Default::default(),
            period: AtomicUsize::new(0),
            room: Arc::default(),
            streams: Places::new("streams of health and reflection on one connection", streams),
        })
    }
}

impl Line {
    /// The longest that a request may take from its first byte to its last, and that an answer waits without any being read.
    fn stall_timeout(&self) -> Duration {
        self.lines.stall_timeout
    }

    /// An answer that had begun ends with this.
    fn failed(&self, method: Option<&'static str>, status: &Status) {
        if let Some(method) = method {
            self.lines.meters.failed(method, &reason(status));
        }
    }

    fn receive(&self, bytes: usize) -> Result<(), EngineError> {
        self.lines.receiving.take(&self.receiving, bytes)
    }

    fn received(&self, bytes: usize) {
        self.lines.receiving.give_back(&self.receiving, bytes);
    }

    fn open_stream(&self) -> Result<OpenStream, EngineError> {
        Ok(OpenStream { _line: self.streams.take()?, _all: self.lines.streams.take()? })
    }

    /// Notes that so many bytes are given to the transport, and says in which period.
    fn give(&self, bytes: usize) -> Result<usize, EngineError> {
        self.lines.unread.take(&self.unread, bytes)?;
        let period = self.period.load(Ordering::Relaxed) % 2;
        self.unread_since[period].fetch_add(bytes, Ordering::Relaxed);
        Ok(period)
    }

    fn read(&self, bytes: usize, period: usize) {
        self.unread_since[period].fetch_sub(bytes, Ordering::Relaxed);
        let left = self.lines.unread.give_back(&self.unread, bytes);
        if left <= self.lines.unread.much() {
            self.room.notify_waiters();
        }
    }

    /// Whether the transport has so much to send that it is given nothing more before some of it is read.
    fn is_full(&self) -> bool {
        let Lines { unread, .. } = &*self.lines;
        let kept = self.unread.load(Ordering::Acquire);
        kept > unread.much() || (of_all(kept) > 0 && unread.all.taken() >= unread.all.limit())
    }

    /// What an answer is told that has waited for room in vain.
    fn no_room(&self) -> EngineError {
        let Budget { what, share, .. } = self.lines.unread;
        EngineError::LimitReached { what, limit: share }
    }

    /// Whether the transport has anything to send, after which there may be room.
    fn keeps_answers(&self) -> bool {
        self.unread.load(Ordering::Acquire) > 0
    }

    /// A period is over, in which so many bytes were written. Whether so much that was given to the transport before it has still
    /// not been read that the connection is to be closed. It is left alone where as much was read of others, and a little is as
    /// long as there is enough for others: whoever does not read one stream may well read those beside it.
    fn is_stalled(&self, written: usize) -> bool {
        let before = self.period.load(Ordering::Relaxed).wrapping_add(1) % 2;
        let stalled = self.unread_since[before].load(Ordering::Relaxed);
        self.period.fetch_add(1, Ordering::Relaxed);
        let much = self.lines.unread.much();
        (stalled > much && written < much) || (of_all(stalled) > 0 && self.lines.unread.is_scarce())
    }
}

impl Budget {
    /// `what` there is for all, and for one connection.
    fn new(what: [&'static str; 2], limit: usize, message_bytes: usize) -> Self {
        let share = (limit / SHARE).max(message_bytes + HEAD_BYTES);
        Self { all: Places::new(what[0], limit.max(share)), share, what: what[1] }
    }

    /// Takes some for a connection that keeps so many.
    fn take(&self, kept: &AtomicUsize, bytes: usize) -> Result<(), EngineError> {
        let before = kept.fetch_add(bytes, Ordering::AcqRel);
        let after = before + bytes;
        let of_all = of_all(after) - of_all(before);
        let is_there = of_all == 0 || self.all.take_anyway(of_all);
        if is_there && after <= self.share {
            return Ok(());
        }
        self.give_back(kept, bytes);
        Err(match after <= self.share {
            true => self.all.reached(),
            false => EngineError::LimitReached { what: self.what, limit: self.share },
        })
    }

    /// Answers what is left.
    fn give_back(&self, kept: &AtomicUsize, bytes: usize) -> usize {
        let before = kept.fetch_sub(bytes, Ordering::AcqRel);
        let left = before - bytes;
        let of_all = of_all(before) - of_all(left);
        if of_all > 0 {
            self.all.give_back(of_all);
        }
        left
    }

    /// For one connection: half of what it may have.
    fn much(&self) -> usize {
        self.share / 2
    }

    fn is_scarce(&self) -> bool {
        self.all.taken() > self.all.limit() / 2
    }
}

/// What a connection takes of what there is for all.
fn of_all(kept: usize) -> usize {
    kept.saturating_sub(OWN_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    /// Room for 100 KiB on one connection.
    fn lines() -> Arc<Lines> {
        let budget = || Budget::new(["bytes", "bytes of one"], 400 * KIB, KIB);
        let (streams, stall_timeout) = (Places::new("streams", 4), Duration::ZERO);
        let meters = Arc::new(CallMeters::new());
        Arc::new(Lines { receiving: budget(), unread: budget(), streams, stall_timeout, meters })
    }

    #[test]
    fn line_is_stalled_by_much_that_was_there_before_the_period() {
        let line = lines().line();
        let period = line.give(60 * KIB).unwrap();
        assert!(!line.is_stalled(0), "it came within it");
        line.give(40 * KIB).unwrap();
        assert!(!line.is_stalled(50 * KIB), "much was read");
        // What was left alone counts as new, for a period.
        assert!(!line.is_stalled(49 * KIB));
        assert!(line.is_stalled(49 * KIB));
        line.read(60 * KIB, period);
        assert!(!line.is_stalled(0) && !line.is_stalled(0), "40 are no more than half");
    }

    #[test]
    fn little_stalls_a_line_only_where_there_is_little_left_for_others() {
        let lines = lines();
        let [line, idle] = [lines.line(), lines.line()];
        line.give(OWN_BYTES + 1).unwrap();
        idle.give(OWN_BYTES).unwrap();
        assert!(!line.is_stalled(0) && !line.is_stalled(0) && !line.is_stalled(0));
        assert!(lines.unread.all.take_anyway(201 * KIB));
        // What was left alone counts as new, for a period.
        assert!(line.is_stalled(0) || line.is_stalled(0));
        assert!(!idle.is_stalled(0) && !idle.is_stalled(0), "others have nothing of what it keeps");
    }

    #[test]
    fn what_does_not_fit_leaves_nothing_behind() {
        let lines = lines();
        let line = lines.line();
        let limit = |taken: Result<(), EngineError>| match taken {
            Err(EngineError::LimitReached { what, limit }) => (what, limit / KIB),
            other => panic!("{other:?}"),
        };
        assert_eq!(limit(line.receive(101 * KIB)), ("bytes of one", 100));
        assert_eq!(limit(line.give(101 * KIB).map(drop)), ("bytes of one", 100));
        for budget in [&lines.receiving, &lines.unread] {
            assert!(budget.all.take_anyway(350 * KIB));
        }
        assert_eq!(limit(line.receive(67 * KIB)), ("bytes", 400));
        assert_eq!(limit(line.give(67 * KIB).map(drop)), ("bytes", 400));
        assert_eq!(lines.receiving.all.taken(), 350 * KIB);
        assert_eq!(lines.unread.all.taken(), 350 * KIB);
        assert!(line.receive(66 * KIB).is_ok() && line.give(66 * KIB).is_ok());
    }

    #[test]
    fn what_a_line_has_for_itself_is_there_whatever_others_take() {
        let lines = lines();
        assert!(lines.receiving.all.take_anyway(400 * KIB));
        let line = lines.line();
        line.receive(10 * KIB).unwrap();
        line.receive(6 * KIB).unwrap();
        assert!(line.receive(1).is_err());
        line.received(10 * KIB);
        line.receive(10 * KIB).unwrap();
        assert_eq!(lines.receiving.all.taken(), 400 * KIB);
    }
}
