//! Calls of the bare echo, of the same sizes as the lookups that they stand beside.

use crate::{
    drive::{Calls, Streams},
    echo::wire::{self, echo_service_client::EchoServiceClient},
    pages::PAGES,
};
use anyhow::ensure;
use bytes::Bytes;
use futures::Stream;
use prost::Message as _;
use tonic::{Streaming, transport::Channel};

/// Encoded bytes of a message in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Sizes {
    pub(crate) request_bytes: usize,
    pub(crate) response_bytes: usize,
}

/// Echoes of one size, on one connection.
#[derive(Clone)]
pub(crate) struct Echoes {
    client: EchoServiceClient<Channel>,
    unary: wire::EchoRequest,
    stream: wire::EchoStreamRequest,
}

impl Echoes {
    pub(crate) fn new(client: EchoServiceClient<Channel>, unary: Sizes, stream: Sizes) -> Self {
        let padding = |size: usize| Bytes::from(vec![b'x'; size]);
        let count = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let answer =
            fitting(unary.response_bytes, |size| wire::EchoResponse { answer: padding(size) }.encoded_len());
        let ask = |size| wire::EchoRequest {
            padding: padding(size),
            answer_bytes: count(answer),
            which: which(PAGES - 1),
        };
        let stream_answer = fitting(stream.response_bytes, |size| {
            wire::EchoStreamResponse { id: 1, answer: padding(size) }.encoded_len()
        });
        let item = |size| wire::EchoStreamRequest {
            id: 1,
            padding: padding(size),
            answer_bytes: count(stream_answer),
            which: which(PAGES - 1),
        };
        Self {
            client,
            unary: ask(fitting(unary.request_bytes, |size| ask(size).encoded_len())),
            stream: item(fitting(stream.request_bytes, |size| item(size).encoded_len())),
        }
    }
}

/// As many different ones as there are pages.
fn which(at: usize) -> u32 {
    (at % PAGES) as u32
}

/// The padding that makes a message as long as `target`, or one byte less where none does.
fn fitting(target: usize, encoded: impl Fn(usize) -> usize) -> usize {
    (0..=target).rev().find(|padding| encoded(*padding) <= target).unwrap_or_default()
}

impl Calls for Echoes {
    async fn call(&mut self, at: usize) -> anyhow::Result<()> {
        let ask = wire::EchoRequest { which: which(at), ..self.unary.clone() };
        let response = self.client.echo(ask).await?.into_inner();
        ensure!(response.answer.len() == self.unary.answer_bytes as usize, "an echo of another size");
        Ok(())
    }
}

impl Streams for Echoes {
    type Request = wire::EchoStreamRequest;
    type Response = wire::EchoStreamResponse;

    fn request(&self, id: u64, at: usize) -> wire::EchoStreamRequest {
        wire::EchoStreamRequest { id, which: which(at), ..self.stream.clone() }
    }

    async fn open(
        &mut self,
        requests: impl Stream<Item = wire::EchoStreamRequest> + Send + 'static,
    ) -> anyhow::Result<Streaming<wire::EchoStreamResponse>> {
        Ok(self.client.echo_stream(requests).await?.into_inner())
    }

    fn verify(&self, response: wire::EchoStreamResponse) -> anyhow::Result<u64> {
        ensure!(response.answer.len() == self.stream.answer_bytes as usize, "an echo of another size");
        Ok(response.id)
    }
}
