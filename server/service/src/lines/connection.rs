//! A connection that looks at itself now and then.

use super::Line;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};
use tonic::transport::server::Connected;

/// A connection with its line. It fails when it has taken no bytes for a whole period, or when what it holds is not read.
pub(crate) struct Attended<IO> {
    inner: IO,
    line: Arc<Line>,
    /// The end of this period.
    period: Pin<Box<Sleep>>,
    /// Since before this period, or within it.
    blocked: Option<Blocked>,
    /// Bytes, in this period.
    written: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocked {
    Within,
    Before,
}

/// What a connection tells of itself, and its line.
#[derive(Clone)]
pub(crate) struct OfLine<I> {
    pub(super) told: I,
    pub(super) line: Arc<Line>,
}

impl<IO> Attended<IO> {
    pub(crate) fn new(inner: IO, line: Arc<Line>) -> Self {
        let period = Box::pin(tokio::time::sleep(line.stall_timeout()));
        Self { inner, line, period, blocked: None, written: 0 }
    }

    /// Whenever the transport goes to sleep it comes by here, and this wakes it.
    fn attend<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            return outcome;
        }
        while self.period.as_mut().poll(context).is_ready() {
            let is_blocked = self.blocked == Some(Blocked::Before);
            self.blocked = self.blocked.map(|_| Blocked::Before);
            // Both are asked: the period of the line ends in any case.
            if self.line.is_stalled(std::mem::take(&mut self.written)) || is_blocked {
                tracing::info!("a connection is closed: its peer does not read what it was sent");
                let error = io::Error::new(io::ErrorKind::TimedOut, "the peer does not read");
                return Poll::Ready(Err(error));
            }
            self.period.set(tokio::time::sleep(self.line.stall_timeout()));
        }
        outcome
    }

    fn note_bytes(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.written = self.written.saturating_add(*bytes);
        }
        self.note(written);
    }

    fn note<T>(&mut self, written: &Poll<T>) {
        self.blocked = match (written, self.blocked) {
            (Poll::Ready(_), _) => None,
            (Poll::Pending, None) => Some(Blocked::Within),
            (Poll::Pending, blocked) => blocked,
        };
    }
}

impl<IO: Connected> Connected for Attended<IO> {
    type ConnectInfo = OfLine<IO::ConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        OfLine { told: self.inner.connect_info(), line: Arc::clone(&self.line) }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Attended<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.inner).poll_read(context, buffer);
        this.attend(context, read)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Attended<IO> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.note_bytes(&written);
        this.attend(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        this.note_bytes(&written);
        this.attend(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(context);
        this.note(&flushed);
        this.attend(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.inner).poll_shutdown(context);
        this.attend(context, shut)
    }
}
