//! In-memory connections to a [`Mock`](super::Mock), which can be refused, cut and black-holed.

use super::Mock;
use hyper_util::rt::TokioIo;
use leasehold_client::{Builder, Coordinator};
use leasehold_proto::v1::coordinator_service_server::CoordinatorServiceServer;
use parking_lot::Mutex;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::mpsc,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Server;

#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    accept: mpsc::UnboundedSender<io::Result<DuplexStream>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    refuse: usize,
    unreachable: bool,
    attempts: usize,
    lines: Vec<Arc<Mutex<Line>>>,
}

impl Network {
    /// Serves `mock`.
    pub fn new(mock: &Mock) -> Self {
        let (accept, accepted) = mpsc::unbounded_channel();
        let serve = Server::builder()
            .add_service(CoordinatorServiceServer::new(mock.clone()))
            .serve_with_incoming(UnboundedReceiverStream::new(accepted));
        tokio::spawn(serve);
        Self(Arc::new(Inner { accept, state: Mutex::default() }))
    }

    /// A handle whose connections are all here.
    pub fn client(&self, builder: Builder) -> Coordinator {
        let network = self.clone();
        builder
            .connect_by(move |endpoint| {
                let network = network.clone();
                endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
                    let network = network.clone();
                    async move { network.connect().await.map(TokioIo::new) }
                }))
            })
            .expect("a good endpoint")
    }

    /// Refuses the next so many connections.
    pub fn refuse(&self, connections: usize) {
        self.0.state.lock().refuse = connections;
    }

    /// From now on, connections are neither made nor refused.
    pub fn become_unreachable(&self) {
        self.0.state.lock().unreachable = true;
    }

    /// The attempts to connect, successful or not.
    pub fn attempts(&self) -> usize {
        self.0.state.lock().attempts
    }

    /// Those that were made.
    pub fn connections(&self) -> usize {
        self.0.state.lock().lines.len()
    }

    /// Cuts all connections that there are.
    pub fn cut(&self) {
        self.set_all(Mode::Cut);
    }

    /// Swallows all that is sent on the connections that there are: as after a freeze, or behind a dead router.
    pub fn black_hole(&self) {
        self.set_all(Mode::BlackHole);
    }

    fn set_all(&self, mode: Mode) {
        for line in &self.0.state.lock().lines {
            let mut line = line.lock();
            line.mode = mode;
            if let Some(reader) = line.reader.take() {
                reader.wake();
            }
        }
    }

    async fn connect(&self) -> io::Result<Pipe> {
        let unreachable = {
            let mut state = self.0.state.lock();
            state.attempts += 1;
            if state.refuse > 0 {
                state.refuse -= 1;
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            state.unreachable
        };
        if unreachable {
            std::future::pending::<()>().await;
        }
        let (near, far) = tokio::io::duplex(256 << 10);
        self.0.accept.send(Ok(far)).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        let line = Arc::new(Mutex::new(Line { mode: Mode::Works, reader: None }));
        self.0.state.lock().lines.push(Arc::clone(&line));
        Ok(Pipe { near, line })
    }
}

struct Line {
    mode: Mode,
    reader: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Works,
    Cut,
    BlackHole,
}

struct Pipe {
    near: DuplexStream,
    line: Arc<Mutex<Line>>,
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mode = {
            let mut line = self.line.lock();
            line.reader = Some(cx.waker().clone());
            line.mode
        };
        match mode {
            Mode::Works => Pin::new(&mut self.near).poll_read(cx, buf),
            Mode::Cut => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Mode::BlackHole => Poll::Pending,
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mode = self.line.lock().mode;
        match mode {
            Mode::Works => Pin::new(&mut self.near).poll_write(cx, buf),
            Mode::Cut => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Mode::BlackHole => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_shutdown(cx)
    }
}
