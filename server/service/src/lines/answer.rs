//! Answers on their way out.

use super::{Line, OpenStream, layer::Method};
use crate::{edge::EdgeError, engine::EngineError};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{sync::futures::OwnedNotified, time::Sleep};
use tonic::{Status, body::Body};

/// The body of an answer. Its pieces have places until they are read. It waits as long as its connection has much to send; where
/// there are none left, it ends with an error.
pub(crate) struct Answer {
    body: Body,
    line: Arc<Line>,
    method: Method,
    /// A piece that there was no room for.
    piece: Option<Bytes>,
    /// There only where it waits for room.
    room: Option<Room>,
    is_cut_off: bool,
    _stream: Option<OpenStream>,
}

impl Answer {
    /// Of a call of this method.
    pub(super) fn new(body: Body, line: Arc<Line>, method: Method, stream: Option<OpenStream>) -> Self {
        Self { body, line, method, piece: None, room: None, is_cut_off: false, _stream: stream }
    }

    /// Gives a piece to the transport, where there is room; keeps it where there may be some later.
    fn give(&mut self, bytes: Bytes) -> Option<Result<Frame<Bytes>, Status>> {
        match self.line.give(bytes.len()) {
            Ok(period) => {
                let unread = Unread { bytes, line: Arc::clone(&self.line), period };
                Some(Ok(Frame::data(Bytes::from_owner(unread))))
            }
            Err(_) if self.line.keeps_answers() => {
                self.piece = Some(bytes);
                None
            }
            Err(error) => Some(self.cut_off(error)),
        }
    }

    /// Ready when it is worth another look, and at once where it has not waited yet: there may be room since the last one. False
    /// where nothing was read for too long.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let Some(Room { told, limit }) = &mut self.room else {
            self.room = Some(Room::of(&self.line));
            return Poll::Ready(true);
        };
        if told.as_mut().poll(context).is_pending() {
            return limit.as_mut().poll(context).map(|()| false);
        }
        self.room = None;
        Poll::Ready(true)
    }

    fn cut_off(&mut self, error: EngineError) -> Result<Frame<Bytes>, Status> {
        self.is_cut_off = true;
        self.body = Body::empty();
        let error = match error {
            // The limit would say that nothing was done.
            error if self.method.may_change => EngineError::OutcomeUnknown(error.to_string()),
            error => error,
        };
        let status = Status::from(EdgeError::from(error));
        self.line.failed(self.method.name, &status);
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Ok(Frame::trailers(trailers))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.is_cut_off {
            return Poll::Ready(None);
        }
        loop {
            if let Some(bytes) = this.piece.take() {
                if let Some(frame) = this.give(bytes) {
                    this.room = None;
                    return Poll::Ready(Some(frame));
                }
            } else if !this.line.is_full() {
                this.room = None;
                let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                    Some(Ok(frame)) => frame,
                    end => return Poll::Ready(end),
                };
                match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => this.piece = Some(bytes),
                    Ok(empty) => return Poll::Ready(Some(Ok(Frame::data(empty)))),
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                }
                continue;
            }
            if !ready!(this.poll_room(context)) {
                return Poll::Ready(Some(this.cut_off(this.line.no_room())));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_cut_off || (self.piece.is_none() && self.body.is_end_stream())
    }

    // Its size is not told: it may be cut off.
}

/// Waits until some of what the connection has to send was read, but not for ever.
struct Room {
    told: Pin<Box<OwnedNotified>>,
    limit: Pin<Box<Sleep>>,
}

impl Room {
    fn of(line: &Line) -> Self {
        let mut told = Box::pin(Arc::clone(&line.room).notified_owned());
        // From here on, not from the first poll.
        told.as_mut().enable();
        Self { told, limit: Box::pin(tokio::time::sleep(line.stall_timeout())) }
    }
}

/// A piece of an answer that was given to the transport. It has its places as long as it is kept there.
struct Unread {
    bytes: Bytes,
    line: Arc<Line>,
    period: usize,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.line.read(self.bytes.len(), self.period);
    }
}
