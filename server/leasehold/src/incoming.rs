//! Connections as they come: in plain text or by TLS, each once its peer has said something.

use crate::access::Tls;
use futures::{Stream, StreamExt as _, stream};
use leasehold_service::access::Peer;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::Connected;

/// The pause when no more connections can be accepted: they wait in the system's queue meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer that has said nothing for so long is no gRPC client: those begin with a preface. Nor is one that has not agreed
/// on TLS by then.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// With so many connections on which nothing was said yet, further ones wait in the system's queue.
const SILENT_CONNECTIONS: usize = 4096;

/// One connection. It tells calls whom the certificate of its peer names.
#[derive(Debug)]
pub(crate) enum Connection {
    /// Without TLS.
    Plain(TcpStream),
    /// With it.
    Tls(Box<TlsStream<TcpStream>>, Option<Peer>),
}

/// Connections as they come. One that stays silent is closed after a while, and at once by a stop, which would else wait
/// for its first word until the drain timeout. Accepting does not end with a connection that fails, nor spin when there
/// are too many.
pub(crate) fn connections(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    stream::unfold(listener, |listener| async move { Some((accept(&listener).await, listener)) })
        .map(move |connection| {
            let tls = tls.clone();
            async move {
                // In tasks of their own: agreeing on TLS takes its time on a processor.
                let begun = tokio::spawn(tokio::time::timeout(FIRST_WORD, begin(connection, tls)));
                AbortOnDropHandle::new(begun).await.ok()?.ok().flatten().map(Ok)
            }
        })
        .buffer_unordered(SILENT_CONNECTIONS)
        .filter_map(std::future::ready)
}

async fn begin(connection: TcpStream, tls: Option<Arc<Tls>>) -> Option<Connection> {
    // Not `readable`, which may say so of a connection that nothing has come on.
    if !matches!(connection.peek(&mut [0]).await, Ok(1)) {
        return None;
    }
    let Some(tls) = tls else { return Some(Connection::Plain(connection)) };
    match TlsAcceptor::from(tls.config()).accept(connection).await {
        Ok(stream) => {
            let peer = crate::access::peer(stream.get_ref().1);
            Some(Connection::Tls(Box::new(stream), peer))
        }
        Err(error) => {
            // Whoever scans a network does this all the time.
            tracing::debug!(%error, "a peer did not agree on TLS");
            None
        }
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                // Without it small answers wait for acknowledgements. It fails only for a peer that has gone.
                if connection.set_nodelay(true).is_ok() {
                    return connection;
                }
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

impl Connected for Connection {
    type ConnectInfo = Option<Peer>;

    fn connect_info(&self) -> Self::ConnectInfo {
        match self {
            Self::Plain(_) => None,
            Self::Tls(_, peer) => peer.clone(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream, _) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream, _) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream, _) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream, _) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream, _) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream, _) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
