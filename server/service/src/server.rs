//! Serves an engine until it is told to stop, and then stops without hurting anybody.

use crate::{
    access::{Guard, Guarded},
    edge::{Edge, calls::CountCalls},
    engine::Engine,
    lines::{Attended, KeepLines, Lines},
    traces::Tracing,
};
use futures::{Stream, StreamExt as _};
use leasehold_proto::v1::{FILE_DESCRIPTOR_SET, coordinator_service_server::CoordinatorServiceServer};
use leasehold_traces::TraceCalls;
use std::{io, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::{
    server::NamedService as _,
    transport::{Server, server::Connected},
};
use tonic_health::ServingStatus;
use tower::Layer as _;

/// The largest message to the health and reflection services, which answer everybody: they are asked by name.
const QUESTION_BYTES: usize = 16 * 1024;

/// How the transport behaves.
#[derive(Clone, Debug)]
pub struct TransportSettings {
    /// A connection that is silent for so long is asked whether it lives.
    pub keepalive_interval: Duration,
    /// One that does not answer within this is closed: a frozen peer must not hold up a stop.
    pub keepalive_timeout: Duration,
    /// Connections on which something was said.
    pub connections: usize,
    /// Bytes of requests that have not come to their end. One connection may have a quarter, or one message where that is more.
    pub receiving_bytes: usize,
    /// Bytes of answers that are not read. One connection may have a quarter, or one message where that is more.
    pub unread_bytes: usize,
    /// Open streams of the health and reflection services, which everybody may open. One connection may have a quarter.
    pub other_streams: usize,
    /// Calls in progress on one connection, those that wait included.
    pub streams_per_connection: u32,
    /// From the word to stop until the end, whatever is still in progress.
    pub drain_timeout: Duration,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            connections: 10_000,
            receiving_bytes: 64 * 1024 * 1024,
            unread_bytes: 192 * 1024 * 1024,
            other_streams: 1024,
            streams_per_connection: 8192,
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// How the serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every call was finished.
    Drained,
    /// The time was over; calls were cut off.
    CutOff,
}

/// Answers calls on `incoming` of those whom the guard lets in, until `shutdown`; health and reflection answer everybody.
/// Then: not serving by the health service, waits and streams ended with word to go elsewhere, calls in progress finished,
/// all within the drain timeout.
pub async fn run<I, IO>(
    incoming: I,
    engine: Engine,
    guard: Guard,
    transport: TransportSettings,
    shutdown: CancellationToken,
) -> Result<Stopped, tonic::transport::Error>
where
    I: Stream<Item = io::Result<IO>>,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let message_bytes = engine.settings().limits.message_bytes;
    // An inline body and its metadata must fit, whatever is accepted.
    let sent_bytes = message_bytes.max(engine.settings().limits.inline_body_bytes + 64 * 1024);
    let coordinator = CoordinatorServiceServer::new(Edge::new(engine.clone(), guard.clone()))
        .max_decoding_message_size(message_bytes)
        .max_encoding_message_size(sent_bytes);
    let traces = TraceCalls::of_server(engine.tracing().map(Tracing::calls));
    let coordinator = Guarded::new(guard, traces.layer(coordinator));
    let (mut health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<CoordinatorServiceServer<Edge>>().await;
    let health = health.max_decoding_message_size(QUESTION_BYTES);
    let lines = Lines::new(&engine, &transport, sent_bytes);
    let mut server = Server::builder()
        .layer(CountCalls::new(&engine))
        .layer(KeepLines::<IO::ConnectInfo>::new(Arc::clone(&lines)))
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(transport.keepalive_interval))
        .http2_keepalive_timeout(Some(transport.keepalive_timeout))
        .max_concurrent_streams(Some(transport.streams_per_connection))
        .initial_stream_window_size(Some(1024 * 1024))
        .initial_connection_window_size(Some(4 * 1024 * 1024));
    let mut router = server.add_service(health).add_service(coordinator);
    for reflection in [tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()]
    .into_iter()
    .flatten()
    {
        router = router.add_service(reflection.max_decoding_message_size(QUESTION_BYTES));
    }
    let drained = CancellationToken::new();
    let drain = {
        let (shutdown, drained, engine) = (shutdown.clone(), drained.clone(), engine.clone());
        async move {
            shutdown.cancelled().await;
            tracing::info!("stopping: no longer serving; calls in progress are finished");
            for service in ["", CoordinatorServiceServer::<Edge>::NAME] {
                health_reporter.set_service_status(service, ServingStatus::NotServing).await;
                // Whoever watches has been told, and is told no more: a stream left open would hold up the stop.
                health_reporter.clear_service_status(service).await;
                health_reporter.set_service_status(service, ServingStatus::NotServing).await;
            }
            engine.drain();
            drained.cancel();
        }
    };
    let incoming =
        incoming.map(|connection| connection.map(|connection| Attended::new(connection, lines.line())));
    let serving = router.serve_with_incoming_shutdown(incoming, drain);
    let cap = async {
        drained.cancelled().await;
        tokio::time::sleep(transport.drain_timeout).await;
    };
    let finishing = async {
        serving.await?;
        engine.stop().await;
        Ok(Stopped::Drained)
    };
    tokio::select! {
        result = finishing => result,
        () = cap => {
            engine.cut_off();
            Ok(Stopped::CutOff)
        }
    }
}
