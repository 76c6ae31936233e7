//! Connections as they come: in plain text or by TLS, each once its peer has begun to speak HTTP/2.

use crate::access::Tls;
use futures::{Stream, stream};
use leasehold_service::{access::Peer, connections::ConnectionPlaces, engine::Place, time::Clock};
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

/// The pause when no more connections can be accepted: they wait in the system's queue meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer that has not agreed on TLS and sent the whole preface by then is no gRPC client: those begin with both.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// With so many connections whose preface has not come yet, new ones wait in the system's queue, and the oldest are closed.
const SILENT_CONNECTIONS: usize = 4096;
/// But none that is younger: where many come at once, as to a coordinator that was started again, TLS takes some time.
const GRACE: Duration = Duration::from_secs(1);
/// What every HTTP/2 client says first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One connection, which has its place among all. It tells calls whom the certificate of its peer names.
#[derive(Debug)]
pub(crate) struct Connection {
    /// What was read of the preface already is read again from here.
    preface: &'static [u8],
    line: Line,
    peer: Option<Peer>,
    _place: Place,
}

#[derive(Debug)]
enum Line {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connections as they come. One whose preface does not come is closed after a while, and at once by a stop, which would else
/// wait for it until the drain timeout. Such connections keep nobody out: they have no place among those that serve, and where
/// they are many, the oldest are the first to go. Accepting does not end with a connection that fails, nor spin when there are
/// too many.
pub(crate) fn connections(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    places: ConnectionPlaces,
    clock: Arc<dyn Clock>,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let silent = Silent { connections: VecDeque::new(), limit: SILENT_CONNECTIONS };
    let door = Door { listener, tls, places, clock, beginning: JoinSet::new(), silent };
    stream::unfold(door, |mut door| async move { Some((Ok(door.next().await), door)) })
}

struct Door {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    places: ConnectionPlaces,
    clock: Arc<dyn Clock>,
    beginning: JoinSet<Option<(Line, Option<Peer>)>>,
    silent: Silent,
}

impl Door {
    /// The next one whose peer has begun, and for which there is a place.
    async fn next(&mut self) -> Connection {
        loop {
            let wait = self.silent.make_room(self.now());
            tokio::select! {
                Some(begun) = self.beginning.join_next() => {
                    if let Ok(Some((line, peer))) = begun && let Some(place) = self.places.take() {
                        return Connection { preface: PREFACE, line, peer, _place: place };
                    }
                }
                accepted = self.listener.accept(), if wait.is_none() => self.accepted(accepted).await,
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    async fn accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            // Without it small answers wait for acknowledgements. It fails only for a peer that has gone.
            Ok((connection, _)) if connection.set_nodelay(true).is_ok() => {
                let tls = self.tls.clone();
                // In tasks of their own: agreeing on TLS takes its time on a processor.
                let begin = async move {
                    tokio::time::timeout(FIRST_WORD, begin(connection, tls)).await.ok().flatten()
                };
                self.silent.connections.push_back((self.now(), self.beginning.spawn(begin)));
            }
            Ok(_) => {}
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; trying again");
                self.silent.drop_old(self.now());
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn now(&self) -> Duration {
        self.clock.now().elapsed
    }
}

/// Connections whose preface has not come yet, the oldest first; among them some where it has, or that have ended.
struct Silent {
    connections: VecDeque<(Duration, AbortHandle)>,
    limit: usize,
}

impl Silent {
    /// For one more: drops the oldest if need be. Where that is too young, says when it is not.
    fn make_room(&mut self, now: Duration) -> Option<Duration> {
        if self.connections.len() >= self.limit {
            self.connections.retain(|(_, beginning)| !beginning.is_finished());
        }
        if self.connections.len() < self.limit {
            return None;
        }
        let (since, oldest) = self.connections.front()?;
        let wait = GRACE.saturating_sub(now.saturating_sub(*since));
        if !wait.is_zero() {
            return Some(wait);
        }
        oldest.abort();
        self.connections.pop_front();
        None
    }

    /// The system has no room for more: what there is is not for these.
    fn drop_old(&mut self, now: Duration) {
        let young = self.connections.partition_point(|(since, _)| now.saturating_sub(*since) >= GRACE);
        for (_, beginning) in self.connections.drain(..young) {
            beginning.abort();
        }
    }
}

async fn begin(connection: TcpStream, tls: Option<Arc<Tls>>) -> Option<(Line, Option<Peer>)> {
    let Some(tls) = tls else {
        let mut connection = connection;
        read_preface(&mut connection).await?;
        return Some((Line::Plain(connection), None));
    };
    match TlsAcceptor::from(tls.config()).accept(connection).await {
        Ok(mut stream) => {
            read_preface(&mut stream).await?;
            let peer = crate::access::peer(stream.get_ref().1);
            Some((Line::Tls(Box::new(stream)), peer))
        }
        Err(error) => {
            // Whoever scans a network does this all the time.
            tracing::debug!(%error, "a peer did not agree on TLS");
            None
        }
    }
}

/// The whole of it, and nothing after it; `None` as soon as something else comes.
async fn read_preface(connection: &mut (impl AsyncRead + Unpin)) -> Option<()> {
    let mut said = [0; PREFACE.len()];
    let mut length = 0;
    while length < said.len() {
        let read = connection.read(&mut said[length..]).await.ok().filter(|read| *read > 0)?;
        length += read;
        if !PREFACE.starts_with(&said[..length]) {
            return None;
        }
    }
    Some(())
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

impl Connected for Connection {
    type ConnectInfo = Option<Peer>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.preface.is_empty() {
            let (again, rest) = this.preface.split_at(this.preface.len().min(buffer.remaining()));
            buffer.put_slice(again);
            this.preface = rest;
            return Poll::Ready(Ok(()));
        }
        match &mut this.line {
            Line::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Line::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().line {
            Line::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Line::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().line {
            Line::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Line::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.line {
            Line::Plain(stream) => stream.is_write_vectored(),
            Line::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().line {
            Line::Plain(stream) => Pin::new(stream).poll_flush(context),
            Line::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().line {
            Line::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Line::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that says nothing, and is older than others.
    fn silent(tasks: &mut JoinSet<()>, since: u64) -> (Duration, AbortHandle) {
        (Duration::from_secs(since), tasks.spawn(std::future::pending()))
    }

    #[tokio::test]
    async fn silent_connections_make_room_the_oldest_first_and_none_too_soon() {
        let mut tasks = JoinSet::new();
        let connections =
            VecDeque::from([silent(&mut tasks, 1), silent(&mut tasks, 2), silent(&mut tasks, 9)]);
        let mut silent = Silent { connections, limit: 2 };
        assert_eq!(silent.make_room(Duration::from_millis(1_700)), Some(Duration::from_millis(300)));
        assert_eq!(silent.make_room(Duration::from_secs(2)), None);
        assert_eq!(silent.make_room(Duration::from_secs(9)), None);
        assert_eq!(silent.connections.len(), 1, "the youngest is left");
        assert_eq!(silent.make_room(Duration::from_secs(9)), None);
        silent.drop_old(Duration::from_millis(9_900));
        assert_eq!(silent.connections.len(), 1, "it is too young");
        silent.drop_old(Duration::from_secs(10));
        assert_eq!(silent.connections.len(), 0);
        while let Some(ended) = tasks.join_next().await {
            assert!(ended.is_err_and(|error| error.is_cancelled()));
        }
    }

    #[tokio::test]
    async fn connections_that_have_begun_take_no_room_from_silent_ones() {
        let mut tasks = JoinSet::new();
        let begun = tasks.spawn(async {});
        while !begun.is_finished() {
            tokio::task::yield_now().await;
        }
        let connections = VecDeque::from([(Duration::ZERO, begun), silent(&mut tasks, 0)]);
        let mut silent = Silent { connections, limit: 2 };
        assert_eq!(silent.make_room(Duration::from_secs(60)), None);
        assert_eq!(silent.connections.len(), 1);
    }

    #[tokio::test]
    async fn preface_is_read_whole_and_alone_and_nothing_else_is_waited_for() {
        let read = async |said: &[u8]| {
            let (mut near, mut far) = tokio::io::duplex(64);
            tokio::io::AsyncWriteExt::write_all(&mut far, said).await.unwrap();
            let begun = tokio::time::timeout(Duration::ZERO, read_preface(&mut near)).await;
            (begun, near)
        };
        let (begun, mut rest) = read(&[PREFACE, b"x".as_slice()].concat()).await;
        assert_eq!(begun, Ok(Some(())));
        assert_eq!(rest.read_u8().await.unwrap(), b'x');
        assert_eq!(read(b"PRI * HTTP/1").await.0, Ok(None));
        assert_eq!(read(b"G").await.0, Ok(None));
        assert!(read(b"PRI * HTTP/2.0\r\n").await.0.is_err(), "there may be more to come");
    }
}
