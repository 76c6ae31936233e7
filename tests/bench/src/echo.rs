//! The bare server: what a gRPC call costs that does nothing, with the transport settings of the coordinator.

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use leasehold_service::server::TransportSettings;
use std::net::Ipv4Addr;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};
use wire::echo_service_server::{EchoService, EchoServiceServer};

/// Package `leasehold.bench.v1`.
#[allow(missing_docs, clippy::doc_markdown, unreachable_pub)]
pub(crate) mod wire {
    tonic::include_proto!("leasehold.bench.v1");
}

/// All answers together.
const SOURCE_BYTES: usize = 8 * 1024 * 1024;

struct Echo {
    /// Answers are slices of this: a coordinator that is warm does not make its bodies either.
    source: Bytes,
}

/// The answer, or why there is none.
fn answer(source: &Bytes, size_bytes: u32, which: u32) -> Result<Bytes, Status> {
    let (size, which) = (size_bytes as usize, which as usize);
    let begin = size.saturating_mul(which);
    let end = begin.saturating_add(size);
    if end > source.len() {
        return Err(Status::invalid_argument("asks for more than there is"));
    }
    Ok(source.slice(begin..end))
}

#[tonic::async_trait]
impl EchoService for Echo {
    type EchoStreamStream = BoxStream<'static, Result<wire::EchoStreamResponse, Status>>;

    async fn echo(
        &self,
        request: Request<wire::EchoRequest>,
    ) -> Result<Response<wire::EchoResponse>, Status> {
        let wire::EchoRequest { padding: _, answer_bytes, which } = request.into_inner();
        Ok(Response::new(wire::EchoResponse { answer: answer(&self.source, answer_bytes, which)? }))
    }

    async fn echo_stream(
        &self,
        request: Request<Streaming<wire::EchoStreamRequest>>,
    ) -> Result<Response<Self::EchoStreamStream>, Status> {
        let source = self.source.clone();
        let answers = request.into_inner().map(move |request| {
            let wire::EchoStreamRequest { id, padding: _, answer_bytes, which } = request?;
            Ok(wire::EchoStreamResponse { id, answer: answer(&source, answer_bytes, which)? })
        });
        Ok(Response::new(answers.boxed()))
    }
}

/// Serves on a free port of this machine, which it prints, until the process is killed.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("listening on {}", listener.local_addr()?);
    // As in `leasehold_service::server::run`: the two must differ in what they do only.
    let transport = TransportSettings::default();
    Server::builder()
        .http2_keepalive_interval(Some(transport.keepalive_interval))
        .http2_keepalive_timeout(Some(transport.keepalive_timeout))
        .max_concurrent_streams(Some(transport.streams_per_connection))
        .initial_stream_window_size(Some(1024 * 1024))
        .initial_connection_window_size(Some(4 * 1024 * 1024))
        .add_service(EchoServiceServer::new(Echo { source: vec![b'x'; SOURCE_BYTES].into() }))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}
