//! Streams of answers that are kept as long as they are read.
//!
//! The transport asks a stream for its next answer when it has sent the one before. Of one whose reader stalls it asks nothing any
//! more, not even whether it has ended: neither a deadline nor a right that is taken away would end it, and all that it keeps
//! would be kept as long as its connection lasts. So a task of its own looks at each of them now and then, and lets it go when it
//! was to be asked for so long, and was not.

use super::error::EdgeError;
use crate::engine::EngineError;
use futures::{Stream, StreamExt as _, task::AtomicWaker};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

/// A stream, and what it keeps, until it ends or its reader stalls. Then it ends with an error.
pub struct WhileRead<S> {
    kept: Arc<Mutex<Kept<S>>>,
    turn: Arc<Turn>,
    /// Of `turn`.
    waker: Waker,
    _watchdog: AbortOnDropHandle<()>,
}

/// For how long a stream waits for its reader.
pub(crate) struct Patience {
    /// What the stream has to say may be left unread for so long.
    pub(crate) silence: Duration,
    /// Counts the streams that were let go.
    pub(crate) let_go: Counter,
}

/// A stream that is let go when nobody asks for what it has to say for `patience.silence`, or, as it is looked at once in that
/// time, for up to twice as long. One that has nothing to say may be silent for ever.
pub(super) fn while_read<S: Send + 'static>(stream: S, patience: Patience) -> WhileRead<S> {
    let kept = Arc::new(Mutex::new(Kept::Open { stream, asked: 0 }));
    let turn = Arc::new(Turn { has_come: AtomicBool::new(true), transport: AtomicWaker::new() });
    let watchdog = let_go_if_stalled(Arc::downgrade(&kept), Arc::clone(&turn), patience);
    WhileRead {
        kept,
        waker: Waker::from(Arc::clone(&turn)),
        turn,
        _watchdog: AbortOnDropHandle::new(tokio::spawn(watchdog)),
    }
}

enum Kept<S> {
    Open {
        stream: S,
        /// So often.
        asked: u64,
    },
    /// Which its reader has not been told yet.
    LetGo,
    Over,
}

/// Whether the stream is to be asked: it has just answered, or has said that it may have something to say.
struct Turn {
    has_come: AtomicBool,
    transport: AtomicWaker,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_come.store(true, Ordering::Release);
        self.transport.wake();
    }
}

impl<S, T> Stream for WhileRead<S>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
{
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut kept = this.kept.lock();
        let (stream, asked) = match &mut *kept {
            Kept::Open { stream, asked } => (stream, asked),
            Kept::LetGo => {
                *kept = Kept::Over;
                let error = EdgeError::from(EngineError::Deadline("its reader"));
                return Poll::Ready(Some(Err(error.into())));
            }
            Kept::Over => return Poll::Ready(None),
        };
        *asked += 1;
        this.turn.transport.register(context.waker());
        // Before it is asked: what wakes it meanwhile must not be forgotten.
        this.turn.has_come.store(false, Ordering::Release);
        let answer = stream.poll_next_unpin(&mut Context::from_waker(&this.waker));
        match &answer {
            Poll::Ready(Some(_)) => this.turn.has_come.store(true, Ordering::Release),
            Poll::Ready(None) => *kept = Kept::Over,
            Poll::Pending => {}
        }
        answer
    }
}

/// Keeps nothing by itself: what is kept goes with the stream, not when this has noticed.
async fn let_go_if_stalled<S>(kept: Weak<Mutex<Kept<S>>>, turn: Arc<Turn>, patience: Patience) {
    let mut since = None;
    loop {
        tokio::time::sleep(patience.silence).await;
        let Some(kept) = kept.upgrade() else { return };
        let let_go = {
            let mut kept = kept.lock();
            let Kept::Open { asked, .. } = *kept else { return };
            let waits = turn.has_come.load(Ordering::Acquire).then_some(asked);
            let is_stalled = waits.is_some() && waits == since;
            since = waits;
            is_stalled.then(|| std::mem::replace(&mut *kept, Kept::LetGo))
        };
        // Outside the lock: whatever it keeps goes with it.
        if let_go.is_some() {
            patience.let_go.inc();
            turn.transport.wake();
            return;
        }
    }
}
