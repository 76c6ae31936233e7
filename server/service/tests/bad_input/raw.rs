//! Calls whose messages are bytes of the test's choosing.

use crate::harness::soon;
use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

/// Sends bytes as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}

fn path(method: &str) -> PathAndQuery {
    format!("/leasehold.v1.CoordinatorService/{method}").parse().expect("a path")
}

/// One message, one answer or the end of a stream of answers.
pub(super) async fn raw_unary(channel: Channel, method: &str, message: &[u8]) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    soon(grpc.ready()).await.expect("a connection");
    let request = Request::new(Bytes::copy_from_slice(message));
    soon(grpc.unary(request, path(method), Raw)).await.map(drop)
}

/// A stream of one message, and answers until they end.
pub(super) async fn raw_stream(channel: Channel, method: &str, message: &[u8]) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    soon(grpc.ready()).await.expect("a connection");
    let messages = tokio_stream::iter([Bytes::copy_from_slice(message)]);
    let answers = soon(grpc.streaming(Request::new(messages), path(method), Raw)).await?;
    let mut answers = answers.into_inner();
    while soon(answers.message()).await?.is_some() {}
    Ok(())
}
