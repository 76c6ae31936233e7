//! The answers that are streams.

use super::{
    admission,
    error::EdgeError,
    render,
    rpc::{Edge, SlowAnswer},
    while_read::{Patience, WhileRead, while_read},
};
use crate::access::{Caller, Lost};
use crate::engine::{
    Cursor, EngineError, Next, TenantPlace, TenantsPlace, WatchEvent, WatchFilter, WatchHub,
};
use futures::{
    Stream, StreamExt as _,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use leasehold_core::access::Right;
use leasehold_proto::v1;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::AbortOnDropHandle,
};
use tonic::{Status, Streaming};

/// What most streaming calls answer with.
pub(crate) type Answers<T> = WhileRead<BoxStream<'static, Result<T, Status>>>;

/// The answers to the lookups on one stream. Those that memory can answer are answered as they are read, without a task or
/// a queue between; the others are tasks, a bounded number of them.
pub struct LookupAnswers {
    edge: Edge,
    caller: Caller,
    /// Where nothing can be lost, there is nothing to wait for.
    loses: Option<BoxFuture<'static, Lost>>,
    requests: Streaming<v1::LookupStreamRequest>,
    slow: FuturesUnordered<AbortOnDropHandle<SlowAnswer>>,
    max_slow: usize,
    is_read: bool,
    /// Why nothing more can be read, where that is not the caller's own end.
    failure: Option<Status>,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
    is_draining: bool,
    _places: TenantPlace,
}

impl LookupAnswers {
    pub(crate) fn start(
        edge: Edge,
        caller: Caller,
        requests: Streaming<v1::LookupStreamRequest>,
        max_slow: usize,
        draining: CancellationToken,
        places: TenantPlace,
        patience: Patience,
    ) -> WhileRead<Self> {
        let loses = caller.clone().loses_everywhere(Right::Read);
        let answers = Self {
            edge,
            caller,
            loses,
            requests,
            slow: FuturesUnordered::new(),
            max_slow,
            is_read: false,
            failure: None,
            draining: Box::pin(draining.cancelled_owned()),
            is_draining: false,
            _places: places,
        };
        while_read(answers, patience)
    }
}

impl Stream for LookupAnswers {
    type Item = Result<v1::LookupStreamResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !this.is_draining && this.draining.as_mut().poll(context).is_ready() {
            this.is_draining = true;
        }
        // One that asks nothing must not keep its place when it may ask nothing any more.
        if !this.is_read
            && let Some(loses) = &mut this.loses
            && let Poll::Ready(lost) = loses.as_mut().poll(context)
        {
            this.is_read = true;
            this.failure = Some(admission::lost(lost, Right::Read).into());
        }
        loop {
            // First: a caller that sends without pause must not keep these from being answered.
            if let Poll::Ready(Some(answer)) = this.slow.poll_next_unpin(context) {
                let lost =
                    |_| EdgeError::from(EngineError::Internal("a lookup ended without an answer")).into();
                return Poll::Ready(Some(answer.map(|answer| answer.answer).map_err(lost)));
            }
            if this.is_draining && this.slow.is_empty() {
                if this.is_read {
                    return Poll::Ready(this.failure.take().map(Err));
                }
                this.is_read = true;
                let error = EdgeError::from(EngineError::Draining);
                return Poll::Ready(Some(Err(error.into())));
            }
            if this.is_read && this.slow.is_empty() {
                return Poll::Ready(this.failure.take().map(Err));
            }
            if this.is_read || this.is_draining || this.slow.len() >= this.max_slow {
                return Poll::Pending;
            }
            match this.requests.poll_next_unpin(context) {
                Poll::Pending => return Poll::Pending,
                // The caller is done, or gone, or sent what is no message; what it asked before is still answered.
                Poll::Ready(None) => this.is_read = true,
                Poll::Ready(Some(Err(status))) => {
                    this.is_read = true;
                    this.failure = Some(status);
                }
                Poll::Ready(Some(Ok(request))) => {
                    let permissions = match this.caller.permissions() {
                        Ok(permissions) => permissions,
                        // Not of this lookup alone: its caller must come again as somebody.
                        Err(why) => {
                            this.is_read = true;
                            this.failure = Some(EdgeError::from(why).into());
                            continue;
                        }
                    };
                    match this.edge.lookup_on_stream(permissions, request) {
                        Ok(answer) => return Poll::Ready(Some(Ok(answer))),
                        Err(slow) => this.slow.push(slow),
                    }
                }
            }
        }
    }
}

/// Where a watch begins.
pub(crate) enum Start {
    /// Here, without a gap.
    At(Cursor),
    /// Here, and what came before is lost.
    After(v1::ResyncReason, Cursor),
}

/// Reads a resume token, and sees whether the hub can go on from it.
pub(crate) fn start(hub: &WatchHub, resume_token: &str) -> Result<Start, EdgeError> {
    let Some((run, cursor)) = self::resume_token(resume_token)? else { return Ok(Start::At(hub.now())) };
    Ok(if run != hub.run() {
        Start::After(v1::ResyncReason::OtherRun, hub.now())
    } else if hub.can_resume(cursor) {
        Start::At(cursor)
    } else {
        Start::After(v1::ResyncReason::TooOld, hub.now())
    })
}

const RESUME_PREFIX: &str = "w1";

/// The run and the position in a resume token; `None` where there is no token.
pub(crate) fn resume_token(text: &str) -> Result<Option<(u128, Cursor)>, EdgeError> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = read_resume_token(text);
    read.map(Some).ok_or_else(|| EdgeError::field("resume_token", "is none that a watch has sent"))
}

pub(crate) fn write_resume_token(run: u128, cursor: Cursor) -> String {
    format!("{RESUME_PREFIX}-{run:032x}-{}", cursor.0)
}

fn read_resume_token(text: &str) -> Option<(u128, Cursor)> {
    let mut parts = text.split('-');
    let (prefix, run, at) = (parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    if prefix != RESUME_PREFIX || parts.next().is_some() || run.len() != 32 || !run.chars().all(is_hex) {
        return None;
    }
    if !at.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((u128::from_str_radix(run, 16).ok()?, Cursor(at.parse().ok()?)))
}

/// What is watched, and how.
pub(crate) struct Watched {
    pub(crate) caller: Caller,
    pub(crate) filters: Vec<WatchFilter>,
    /// It is told so often that it is alive.
    pub(crate) progress: Duration,
    /// It is let go when nothing is read for so long as this lasts.
    pub(crate) patience: Patience,
    pub(crate) draining: CancellationToken,
    /// Among all watches, and among those of each tenant that it names.
    pub(crate) places: TenantsPlace,
}

struct Watch {
    hub: Arc<WatchHub>,
    filters: Vec<WatchFilter>,
    cursor: Cursor,
    /// What is sent first.
    first: VecDeque<v1::watch_response::Event>,
    /// What is known to have happened after the cursor.
    happened: VecDeque<Arc<WatchEvent>>,
    progress: Duration,
    draining: CancellationToken,
    is_over: bool,
    _places: TenantsPlace,
}

/// The answers to one watch. It ends when its caller may no longer read one of the tenants that it names.
pub(crate) fn watch(hub: Arc<WatchHub>, start: Start, watched: Watched) -> Answers<v1::WatchResponse> {
    use v1::watch_response::Event;
    let Watched { caller, filters, progress, patience, draining, places } = watched;
    let (cursor, resync) = match start {
        Start::At(cursor) => (cursor, None),
        Start::After(reason, cursor) => (cursor, Some(reason)),
    };
    let mut first = VecDeque::from([Event::Started(v1::WatchStarted {})]);
    first.extend(resync.map(|reason| Event::Resync(v1::WatchResync { reason: reason.into() })));
    let happened = VecDeque::new();
    let tenants: Vec<_> = filters.iter().map(|filter| filter.tenant().clone()).collect();
    let loses: BoxFuture<'static, Lost> = Box::pin(async move { caller.loses(Right::Read, &tenants).await });
    let watch =
        Watch { hub, filters, cursor, first, happened, progress, draining, is_over: false, _places: places };
    let events = futures::stream::unfold(Some((watch, loses)), |state| async move {
        let (mut watch, mut loses) = state?;
        let next = tokio::select! {
            // First: what happens after a right was lost is not told.
            biased;
            lost = &mut loses => return Some((Err(admission::lost(lost, Right::Read).into()), None)),
            next = watch.next() => next,
        };
        let (cursor, event) = next?;
        let resume_token = write_resume_token(watch.hub.run(), cursor);
        Some((Ok(v1::WatchResponse { resume_token, event: Some(event) }), Some((watch, loses))))
    });
    while_read(events.boxed(), patience)
}

impl Watch {
    async fn next(&mut self) -> Option<(Cursor, v1::watch_response::Event)> {
        use v1::watch_response::Event;
        loop {
            if let Some(event) = self.first.pop_front() {
                return Some((self.cursor, event));
            }
            while let Some(event) = self.happened.pop_front() {
                self.cursor = Cursor(self.cursor.0 + 1);
                if let Some(event) = WatchFilter::narrow(&self.filters, &event) {
                    return Some((self.cursor, render::watch_event(event)));
                }
            }
            if self.is_over {
                return None;
            }
            let next = tokio::select! {
                biased;
                () = self.draining.cancelled() => {
                    self.is_over = true;
                    return Some((self.cursor, Event::Ended(v1::WatchEnded {})));
                }
                next = self.hub.next(self.cursor) => next,
                () = tokio::time::sleep(self.progress) => {
                    return Some((self.cursor, Event::Progress(v1::WatchProgress {})));
                }
            };
            match next {
                Next::Missed(cursor) => {
                    self.cursor = cursor;
                    let reason = v1::ResyncReason::Slow.into();
                    return Some((cursor, Event::Resync(v1::WatchResync { reason })));
                }
                Next::Events(events) => self.happened = events,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resume_tokens_are_read_back_and_nothing_else_is() {
        let token = write_resume_token(7, Cursor(42));
        assert_eq!(read_resume_token(&token), Some((7, Cursor(42))));
        for text in [
            "",
            "w1",
            "w1-7-42",
            "w2-00000000000000000000000000000007-1",
            &format!("{token}-"),
            &format!("{token}x"),
        ] {
            assert_eq!(read_resume_token(text), None, "{text}");
        }
    }
}
