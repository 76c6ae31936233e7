//! The layer around all services that keeps account of what they are sent, and what they answer.

use super::{Line, Lines, OpenStream, answer::Answer, connection::OfLine, request::Received};
use crate::{
    edge::{EdgeError, calls},
    meters::METHODS,
};
use http::{Request, Response};
use pin_project_lite::pin_project;
use std::{
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

/// The layer, for connections that tell this of themselves.
pub(crate) struct KeepLines<I> {
    lines: Arc<Lines>,
    told: PhantomData<fn() -> I>,
}

impl<I> KeepLines<I> {
    pub(crate) fn new(lines: Arc<Lines>) -> Self {
        Self { lines, told: PhantomData }
    }
}

impl<I> Clone for KeepLines<I> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.lines))
    }
}

impl<S, I> Layer<S> for KeepLines<I> {
    type Service = Kept<S, I>;

    fn layer(&self, inner: S) -> Kept<S, I> {
        Kept { inner, keep: self.clone() }
    }
}

/// A service of whose requests and answers account is kept.
pub(crate) struct Kept<S, I> {
    inner: S,
    keep: KeepLines<I>,
}

impl<S: Clone, I> Clone for Kept<S, I> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), keep: self.keep.clone() }
    }
}

impl<S, I> Service<Request<Body>> for Kept<S, I>
where
    S: Service<Request<Received>, Response = Response<Body>>,
    I: Clone + Send + Sync + 'static,
{
    type Response = Response<Answer>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let line = match request.extensions_mut().remove::<OfLine<I>>() {
            Some(OfLine { told, line }) => {
                // As the connection tells it, for those who look for that.
                request.extensions_mut().insert(told);
                line
            }
            None => self.keep.lines.line(),
        };
        let method = Method::of(request.uri().path());
        let stream = match method.is_others_stream.then(|| line.open_stream()).transpose() {
            Ok(stream) => stream,
            Err(error) => {
                let refused = Status::from(EdgeError::from(error)).into_http();
                return Answering {
                    state: State::Refused {
                        answer: Some(refused.map(|body| Answer::new(body, line, method, None))),
                    },
                };
            }
        };
        let call = self
            .inner
            .call(request.map(|body| Received::new(body, Arc::clone(&line), method.is_sent_stream)));
        let kept = Some((line, method, stream));
        Answering { state: State::Called { call, kept } }
    }
}

pin_project! {
    /// A call under way.
    pub(crate) struct Answering<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjected]
    enum State<F> {
        Called {
            #[pin]
            call: F,
            kept: Option<(Arc<Line>, Method, Option<OpenStream>)>,
        },
        Refused {
            answer: Option<Response<Answer>>,
        },
    }
}

impl<F, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Answer>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjected::Called { call, kept } => {
                let answer = ready!(call.poll(context))?;
                let Some((line, method, stream)) = kept.take() else { return Poll::Pending };
                Poll::Ready(Ok(answer.map(|body| Answer::new(body, line, method, stream))))
            }
            StateProjected::Refused { answer } => match answer.take() {
                Some(answer) => Poll::Ready(Ok(answer)),
                None => Poll::Pending,
            },
        }
    }
}

/// What is to be known of a method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Method {
    /// As it is counted, where it is one of the coordinator's own.
    pub(super) name: Option<&'static str>,
    /// Its caller sends any number of messages.
    is_sent_stream: bool,
    /// It may change something.
    pub(super) may_change: bool,
    /// Everybody may open it, and leave it open.
    is_others_stream: bool,
}

impl Method {
    fn of(path: &str) -> Self {
        let Some(at) = calls::method(path) else { return Self::of_others(path) };
        let name = METHODS[at];
        let is_sent_stream = matches!(name, "LookupStream" | "UploadBody");
        let reads = ["Lookup", "LookupStream", "ServeSidecar", "ServeObject", "ServePage", "Watch"];
        let may_change = !reads.contains(&name);
        Self { name: Some(name), is_sent_stream, may_change, is_others_stream: false }
    }

    fn of_others(path: &str) -> Self {
        match path.rsplit_once('/').map(|(_, method)| method) {
            Some("Watch") => Self { is_others_stream: true, ..Self::default() },
            Some("ServerReflectionInfo") => {
                Self { is_sent_stream: true, is_others_stream: true, ..Self::default() }
            }
            _ => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leasehold_proto::v1::coordinator_service_server::SERVICE_NAME;
    use prost::Message as _;

    const CHANGES: [&str; 6] =
        ["AcquireLease", "RenewLease", "ReleaseLease", "CommitPointer", "UploadBody", "Invalidate"];

    #[test]
    fn methods_are_known_for_what_the_descriptors_say() {
        let descriptors = [
            leasehold_proto::v1::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        ];
        let mut seen = 0;
        for file in
            descriptors.iter().flat_map(|set| prost_types::FileDescriptorSet::decode(*set).unwrap().file)
        {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                let is_this = name == SERVICE_NAME;
                for method in &service.method {
                    let found = Method::of(&format!("/{name}/{}", method.name()));
                    let expected = Method {
                        name: METHODS.into_iter().find(|known| is_this && *known == method.name()),
                        is_sent_stream: method.client_streaming(),
                        may_change: is_this && CHANGES.contains(&method.name()),
                        is_others_stream: !is_this && method.server_streaming(),
                    };
                    assert_eq!(found, expected, "{name} {}", method.name());
                    seen += 1;
                }
            }
        }
        assert!(seen > 12, "{seen}");
    }
}
