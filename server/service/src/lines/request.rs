//! Requests as they come in.

use super::{HEAD_BYTES, Line};
use crate::{edge::EdgeError, engine::EngineError};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::time::Sleep;
use tonic::{Status, body::Body};

/// The body of a request. It has places for its bytes until it is finished: one message of a stream with its last byte, any
/// other request with its end, as nobody is called before that. What takes too long for that ends with an error.
pub(crate) struct Received {
    body: Body,
    line: Arc<Line>,
    progress: Progress,
    /// Bytes of what is not finished, which have places.
    unfinished: usize,
    /// There only where it was waited for more of something that was not finished.
    limit: Option<Pin<Box<Sleep>>>,
    is_over: bool,
}

impl Received {
    pub(super) fn new(body: Body, line: Arc<Line>, is_stream: bool) -> Self {
        let progress = if is_stream { Progress::Stream(Messages::default()) } else { Progress::Whole };
        Self { body, line, progress, unfinished: 0, limit: None, is_over: false }
    }

    /// Takes places for what is not finished with these bytes.
    fn note(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        if self.body.is_end_stream() {
            self.finish();
            return Ok(());
        }
        let unfinished = match &mut self.progress {
            Progress::Whole => bytes.len(),
            Progress::Stream(messages) => match messages.read(bytes) {
                Read::Part => bytes.len(),
                Read::Ends { then } => {
                    self.finish();
                    then
                }
            },
        };
        if unfinished > 0 {
            self.line.receive(unfinished)?;
            self.unfinished += unfinished;
        }
        Ok(())
    }

    fn finish(&mut self) {
        if self.unfinished > 0 {
            self.line.received(self.unfinished);
            self.unfinished = 0;
        }
        self.limit = None;
    }

    /// Waits no longer than it may.
    fn poll_limit(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let is_finished = match &self.progress {
            Progress::Whole => false,
            Progress::Stream(_) => self.unfinished == 0,
        };
        if is_finished {
            return Poll::Pending;
        }
        let time = self.line.stall_timeout();
        self.limit.get_or_insert_with(|| Box::pin(tokio::time::sleep(time))).as_mut().poll(context)
    }

    fn cut_off(&mut self, error: EngineError) -> Status {
        self.finish();
        self.is_over = true;
        self.body = Body::empty();
        EdgeError::from(error).into()
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            ready!(this.poll_limit(context));
            return Poll::Ready(Some(Err(this.cut_off(EngineError::Deadline("the rest of the request")))));
        };
        match frame {
            Some(Ok(frame)) => {
                let noted = match frame.data_ref() {
                    Some(bytes) => this.note(bytes),
                    // Trailers, which are the end.
                    None => {
                        this.finish();
                        Ok(())
                    }
                };
                Poll::Ready(Some(noted.map(|()| frame).map_err(|error| this.cut_off(error))))
            }
            end => {
                this.finish();
                this.is_over = true;
                Poll::Ready(end)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.finish();
    }
}

enum Progress {
    Whole,
    Stream(Messages),
}

/// Where a stream of messages stands: how much of the head has come, and how much of the message after it is to come.
#[derive(Debug, Default)]
struct Messages {
    head: [u8; HEAD_BYTES],
    head_read: usize,
    left: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// They are all of one message, which is not at its end.
    Part,
    /// A message ends with them; so many after it are of the next one.
    Ends { then: usize },
}

impl Messages {
    fn read(&mut self, mut bytes: &[u8]) -> Read {
        let mut then = None;
        while !bytes.is_empty() {
            if self.head_read < HEAD_BYTES {
                let part = bytes.len().min(HEAD_BYTES - self.head_read);
                self.head[self.head_read..self.head_read + part].copy_from_slice(&bytes[..part]);
                self.head_read += part;
                bytes = &bytes[part..];
                if self.head_read < HEAD_BYTES {
                    break;
                }
                let [_, length @ ..] = self.head;
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            }
            let part = bytes.len().min(self.left);
            self.left -= part;
            bytes = &bytes[part..];
            if self.left == 0 {
                self.head_read = 0;
                then = Some(bytes.len());
            }
        }
        then.map_or(Read::Part, |then| Read::Ends { then })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_messages_are_found_however_they_are_cut() {
        let message = |length: u8| [vec![0, 0, 0, 0, length], vec![b'x'; usize::from(length)]].concat();
        let stream = [message(3), message(0), message(7)].concat();
        let ends = [8, 13, 25];
        for size in 1..=stream.len() {
            let (mut messages, mut at) = (Messages::default(), 0);
            for piece in stream.chunks(size) {
                let (from, to) = (at, at + piece.len());
                let last = ends.iter().rfind(|end| (from + 1..=to).contains(*end));
                let expected = last.map_or(Read::Part, |end| Read::Ends { then: to - end });
                assert_eq!(messages.read(piece), expected, "{from} to {to}");
                at = to;
            }
        }
    }
}
