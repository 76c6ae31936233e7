//! Bodies in chunks, with what they belong to first.

use crate::{
    BodyKind, Consistency, ConsistencyToken, Coordinator, CurrentPage, EntryRef, Error, SidecarToken,
    link::{Client, Place},
    lookup::token_text,
    wire::{self, Parse},
};
use bytes::{Bytes, BytesMut};
use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use leasehold_proto::v1 as pb;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tonic::{Request, Response, Status, Streaming};

/// How a page is to be served.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServeOptions {
    /// As in [`LookupOptions`](crate::LookupOptions).
    pub consistency: Consistency,
    /// As in [`LookupOptions`](crate::LookupOptions).
    pub consistency_token: Option<ConsistencyToken>,
}

/// A page and its HTML.
#[derive(Debug)]
pub struct ServedPage {
    /// What is current, without its body.
    pub current: CurrentPage,
    /// The HTML.
    pub body: BodyStream,
}

/// A hydration sidecar.
#[derive(Debug)]
pub struct ServedSidecar {
    /// Its content type.
    pub content_type: String,
    /// Its length.
    pub size_bytes: u64,
    /// Its bytes.
    pub body: BodyStream,
}

/// A body that was read by the name that its worker gave it.
#[derive(Debug)]
pub struct ServedObject {
    /// Which body of its page.
    pub kind: BodyKind,
    /// Its content type.
    pub content_type: String,
    /// Its length.
    pub size_bytes: u64,
    /// SHA-256 of its bytes.
    pub digest: Bytes,
    /// Its bytes.
    pub body: BodyStream,
}

/// A body in chunks, in order. Ends with an error when the connection breaks, or when no chunk came within the attempt
/// timeout: what has been passed on by then cannot be taken back, so it is not retried.
pub struct BodyStream(BoxStream<'static, Result<Bytes, Error>>);

impl BodyStream {
    /// All of it.
    ///
    /// # Errors
    /// [`Error::BodyTooLarge`] beyond `limit_bytes`; and what the stream ends with.
    pub async fn collect(mut self, limit_bytes: u64) -> Result<Bytes, Error> {
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(chunk) = self.0.next().await {
            let chunk = chunk?;
            let so_far = first.len() + all.len() + chunk.len();
            if so_far as u64 > limit_bytes {
                return Err(Error::BodyTooLarge { limit_bytes });
            }
            match (first.is_empty(), all.is_empty()) {
                (true, true) => first = chunk,
                _ => {
                    all.extend_from_slice(&std::mem::take(&mut first));
                    all.extend_from_slice(&chunk);
                }
            }
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }
}

impl Stream for BodyStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyStream(..)")
    }
}

impl Coordinator {
    /// Streams a hydration sidecar by the token in its page's URL; `entry` is what the request for it resolves to. Also
    /// that of an older generation, for as long as it is stored. With a consistency token, one that was purged by then is not
    /// served.
    ///
    /// # Errors
    /// `SIDECAR_NOT_FOUND`, whatever is wrong with the token; `TENANT_BOUNDARY`; `CONSISTENCY_TOKEN_UNKNOWN`; or no answer in
    /// time.
    pub async fn serve_sidecar(
        &self,
        entry: &EntryRef,
        token: &SidecarToken,
        as_of: Option<&ConsistencyToken>,
    ) -> Result<ServedSidecar, Error> {
        use pb::serve_sidecar_response::Part;
        let message = pb::ServeSidecarRequest {
            entry: entry.to_wire(),
            sidecar_token: token.as_str().to_owned(),
            consistency_token: token_text(as_of),
        };
        let send = |mut client: Client, request| async move {
            first_part(client.serve_sidecar(without_deadline(request)).await?).await
        };
        let (first, rest, place) = self.open(message, send).await?;
        let Some(Part::Head(pb::SidecarHead { content_type, size_bytes })) = first.part else {
            return Err(Error::Protocol("the head of a sidecar"));
        };
        let chunk = |message: pb::ServeSidecarResponse| match message.part {
            Some(Part::Chunk(chunk)) => Some(chunk),
            Some(Part::Head(_)) | None => None,
        };
        Ok(ServedSidecar { content_type, size_bytes, body: self.body(rest, place, chunk) })
    }

    /// Streams a body by the name that its worker gave it: [`NewPage::html_name`](crate::NewPage::html_name),
    /// [`NewPage::sidecar_name`](crate::NewPage::sidecar_name). Also that of an older generation, for as long as it is stored.
    /// An empty `tenant` is `default`. With a consistency token, one that was purged by then is not served. Never by a name that
    /// comes from a browser: whoever knows a name is given the body, whichever variant of a page it is of.
    ///
    /// # Errors
    /// `OBJECT_NOT_FOUND`, whatever is wrong with the name; `CONSISTENCY_TOKEN_UNKNOWN`; or no answer in time.
    pub async fn serve_object(
        &self,
        tenant: &str,
        name: &str,
        as_of: Option<&ConsistencyToken>,
    ) -> Result<ServedObject, Error> {
        use pb::serve_object_response::Part;
        let message = pb::ServeObjectRequest {
            tenant: tenant.to_owned(),
            object_name: name.to_owned(),
            consistency_token: token_text(as_of),
        };
        let send = |mut client: Client, request| async move {
            first_part(client.serve_object(without_deadline(request)).await?).await
        };
        let (first, rest, place) = self.open(message, send).await?;
        let Some(Part::Head(pb::ObjectHead { content_type, size_bytes, kind, digest })) = first.part else {
            return Err(Error::Protocol("the head of an object"));
        };
        let kind = match pb::BodyKind::try_from(kind) {
            Ok(pb::BodyKind::Html) => BodyKind::Html,
            Ok(pb::BodyKind::Sidecar) => BodyKind::Sidecar,
            Ok(pb::BodyKind::Unspecified) | Err(_) => return Err(Error::Protocol("the kind of an object")),
        };
        let chunk = |message: pb::ServeObjectResponse| match message.part {
            Some(Part::Chunk(chunk)) => Some(chunk),
            Some(Part::Head(_)) | None => None,
        };
        let body = self.body(rest, place, chunk);
        Ok(ServedObject { kind, content_type, size_bytes, digest, body })
    }

    /// Streams the current page, fresh or stale, however large.
    ///
    /// # Errors
    /// `PAGE_NOT_FOUND` where there is none; as [`lookup`](Self::lookup); or no answer in time.
    pub async fn serve_page(&self, entry: &EntryRef, options: &ServeOptions) -> Result<ServedPage, Error> {
        use pb::{serve_page_head::Page, serve_page_response::Part};
        let ServeOptions { consistency, consistency_token } = options;
        let message = pb::ServePageRequest {
            entry: entry.to_wire(),
            consistency: consistency.to_wire(),
            consistency_token: token_text(consistency_token.as_ref()),
        };
        let send = |mut client: Client, request| async move {
            first_part(client.serve_page(without_deadline(request)).await?).await
        };
        let (first, rest, place) = self.open(message, send).await?;
        let Some(Part::Head(pb::ServePageHead { page })) = first.part else {
            return Err(Error::Protocol("the head of a page"));
        };
        let current = match wire::required(page, "the page in a head")? {
            Page::Fresh(fresh) => CurrentPage::Fresh(fresh.parse()?),
            Page::Stale(stale) => CurrentPage::Stale(stale.parse()?),
        };
        let chunk = |message: pb::ServePageResponse| match message.part {
            Some(Part::Chunk(chunk)) => Some(chunk),
            Some(Part::Head(_)) | None => None,
        };
        Ok(ServedPage { current, body: self.body(rest, place, chunk) })
    }

    /// Retries until the head is there.
    async fn open<M: Clone, T, F>(
        &self,
        message: M,
        send: impl Fn(Client, Request<M>) -> F,
    ) -> Result<(T, Streaming<T>, Place), Error>
    where
        F: Future<Output = Result<Response<(Option<T>, Streaming<T>)>, Status>>,
    {
        let place = self.shared.lanes.waiting();
        let limits = self.shared.limits;
        let answered = self.shared.unary(place.link(), limits, |_| message.clone(), send).await?;
        let (first, rest) = answered.answer;
        Ok((wire::required(first, "the first part of a body")?, rest, place))
    }

    fn body<T: Send + 'static>(
        &self,
        rest: Streaming<T>,
        place: Place,
        chunk: fn(T) -> Option<Bytes>,
    ) -> BodyStream {
        let silence = self.shared.limits.attempt;
        let chunks = stream::unfold(Some((rest, place)), move |open| async move {
            let (mut rest, place) = open?;
            match next_part(&mut rest, silence).await {
                Ok(None) => None,
                Ok(Some(part)) => match chunk(part) {
                    Some(chunk) => Some((Ok(chunk), Some((rest, place)))),
                    None => Some((Err(Error::Protocol("a chunk of a body")), None)),
                },
                Err(error) => Some((Err(error), None)),
            }
        });
        BodyStream(chunks.boxed())
    }
}

/// A deadline would be that of the whole stream, which lasts as long as its reader takes.
pub(crate) fn without_deadline<M>(mut request: Request<M>) -> Request<M> {
    request.metadata_mut().remove("grpc-timeout");
    request
}

pub(crate) async fn first_part<T>(
    response: Response<Streaming<T>>,
) -> Result<Response<(Option<T>, Streaming<T>)>, Status> {
    let mut rest = response.into_inner();
    let first = rest.message().await?;
    Ok(Response::new((first, rest)))
}

async fn next_part<T>(parts: &mut Streaming<T>, silence: Duration) -> Result<Option<T>, Error> {
    match tokio::time::timeout(silence, parts.message()).await {
        Ok(Ok(part)) => Ok(part),
        Ok(Err(status)) => Err(Error::from_status(status)),
        Err(_) => Err(Error::TimedOut { after: silence }),
    }
}
