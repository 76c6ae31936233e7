//! A call with a span, from its request to the end of its answer.

use crate::{Headers, HeadersMut, Traces};
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanBuilder, SpanKind, Status, TraceContextExt as _},
};
use pin_project_lite::pin_project;
use std::{
    convert::Infallible,
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};
use tonic::{Code, TimeoutExpired, body::Body, server::NamedService};
use tower::{Layer, Service};

/// The calls that are traced: those of the coordinator's service that end when they are answered. A watch, or a stream of
/// lookups, lasts for hours, and how it ends says nothing.
const TRACED: [&str; 10] = [
    "leasehold.v1.CoordinatorService/AcquireLease",
    "leasehold.v1.CoordinatorService/CommitPointer",
    "leasehold.v1.CoordinatorService/Invalidate",
    "leasehold.v1.CoordinatorService/Lookup",
    "leasehold.v1.CoordinatorService/ReleaseLease",
    "leasehold.v1.CoordinatorService/RenewLease",
    "leasehold.v1.CoordinatorService/ServeObject",
    "leasehold.v1.CoordinatorService/ServePage",
    "leasehold.v1.CoordinatorService/ServeSidecar",
    "leasehold.v1.CoordinatorService/UploadBody",
];

/// The layer. Without [`Traces`] it does nothing. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TraceCalls(Option<Arc<Tracer>>);

#[derive(Debug)]
struct Tracer {
    traces: Traces,
    side: Side,
    /// Of the server, as its caller knows it.
    address: Vec<KeyValue>,
}

/// On which side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Caller,
    Server,
}

impl TraceCalls {
    /// On the side that calls: host and port of the endpoint are told with every span.
    pub fn of_caller(traces: Option<Traces>, endpoint: &http::Uri) -> Self {
        Self(traces.map(|traces| {
            let host = endpoint.host().unwrap_or_default().trim_matches(['[', ']']);
            let default_port = if endpoint.scheme_str() == Some("https") { 443 } else { 80 };
            let port = i64::from(endpoint.port_u16().unwrap_or(default_port));
            let address =
                vec![KeyValue::new("server.address", host.to_owned()), KeyValue::new("server.port", port)];
            Arc::new(Tracer { traces, side: Side::Caller, address })
        }))
    }

    /// On the side that answers. To be put behind what refuses strangers: whoever calls decides whether a call is recorded.
    pub fn of_server(traces: Option<Traces>) -> Self {
        Self(traces.map(|traces| Arc::new(Tracer { traces, side: Side::Server, address: Vec::new() })))
    }

    /// The span of a call, begun.
    fn begin<B>(&self, request: &mut Request<B>) -> Option<Open> {
        let Tracer { traces, side, address } = &**self.0.as_ref()?;
        let path = request.uri().path().strip_prefix('/')?;
        let method = TRACED.into_iter().find(|method| *method == path)?;
        let propagator = &traces.0.propagator;
        let current = Context::current();
        let (kind, parent) = match side {
            Side::Caller => (SpanKind::Client, current),
            Side::Server => {
                (SpanKind::Server, propagator.extract_with_context(&current, &Headers(request.headers())))
            }
        };
        let mut attributes =
            vec![KeyValue::new("rpc.system.name", "grpc"), KeyValue::new("rpc.method", method)];
        attributes.extend_from_slice(address);
        let span = SpanBuilder::from_name(method).with_kind(kind).with_attributes(attributes);
        let context = parent.with_span(traces.begin(span, &parent));
        if *side == Side::Caller {
            propagator.inject_context(&context, &mut HeadersMut(request.headers_mut()));
        }
        Some(Open { context, side: *side, code: Code::Cancelled })
    }
}

impl<S> Layer<S> for TraceCalls {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, layer: self.clone() }
    }
}

/// A service whose calls are traced.
#[derive(Clone, Debug)]
pub struct Traced<S> {
    inner: S,
    layer: TraceCalls,
}

impl<S: NamedService> NamedService for Traced<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error: Failure>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let span = self.layer.begin(&mut request);
        let call = {
            let _current = span.as_ref().map(|open| open.context.clone().attach());
            self.inner.call(request)
        };
        Answer { call, span }
    }
}

/// Why there is no answer at all.
pub trait Failure {
    /// As a status.
    fn code(&self) -> Code;
}

impl Failure for Infallible {
    fn code(&self) -> Code {
        match *self {}
    }
}

/// As tonic takes it: what failed may be within what tells of it.
impl Failure for Box<dyn Error + Send + Sync> {
    fn code(&self) -> Code {
        let mut next: Option<&(dyn Error + 'static)> = Some(&**self);
        while let Some(error) = next {
            if let Some(status) = error.downcast_ref::<tonic::Status>() {
                return status.code();
            }
            if error.is::<TimeoutExpired>() {
                return Code::DeadlineExceeded;
            }
            next = error.source();
        }
        Code::Unavailable
    }
}

/// The span of a call that is under way; ended when it is dropped.
struct Open {
    context: Context,
    side: Side,
    /// How the call ended. Until that is known: nobody waits for it any longer.
    code: Code,
}

impl Open {
    fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let code = if std::thread::panicking() { Code::Internal } else { self.code };
        let (span, name) = (self.context.span(), name(code));
        span.set_attribute(KeyValue::new("rpc.response.status_code", name));
        if is_error(self.side, code) {
            span.set_attribute(KeyValue::new("error.type", name));
            // Without the message, which may name what is nobody else's business.
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// On the server's side, what its caller has to mend is none.
fn is_error(side: Side, code: Code) -> bool {
    match code {
        Code::Ok => false,
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => side == Side::Caller,
    }
}

const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// As it stands in headers, or in trailers.
fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

pin_project! {
    /// A call under way.
    pub struct Answer<F> {
        #[pin]
        call: F,
        span: Option<Open>,
    }
}

impl<F, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
    E: Failure,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(open) = this.span else { return this.call.poll(context) };
        let answer = {
            let _current = open.context.clone().attach();
            ready!(this.call.poll(context))
        };
        let Some(open) = this.span.take() else { return Poll::Ready(answer) };
        Poll::Ready(match answer {
            Ok(response) => Ok(match code_in(response.headers()) {
                // What fails before its first message is told in the headers.
                Some(code) => {
                    open.end(code);
                    response
                }
                None => response.map(|body| Body::new(TracedBody { body, span: Some(open) })),
            }),
            Err(error) => {
                open.end(error.code());
                Err(error)
            }
        })
    }
}

/// An answer under way.
struct TracedBody {
    body: Body,
    span: Option<Open>,
}

impl http_body::Body for TracedBody {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let code = match &frame {
            Some(Ok(frame)) => {
                frame.trailers_ref().map(|trailers| code_in(trailers).unwrap_or(Code::Unknown))
            }
            // The connection broke, or there are no trailers where they must be.
            Some(Err(status)) => Some(status.code()),
            None => Some(Code::Unknown),
        };
        if let Some(code) = code
            && let Some(open) = self.span.take()
        {
            open.end(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leasehold_proto::v1::FILE_DESCRIPTOR_SET;
    use prost::Message as _;

    #[test]
    fn every_call_of_the_contract_that_ends_when_it_is_answered_is_traced() {
        let files = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let mut expected: Vec<_> = files
            .iter()
            .flat_map(|file| file.service.iter().map(|service| (file.package(), service)))
            .flat_map(|(package, service)| {
                service
                    .method
                    .iter()
                    .map(move |method| format!("{package}.{}/{}", service.name(), method.name()))
            })
            .filter(|method| !method.ends_with("/LookupStream") && !method.ends_with("/Watch"))
            .collect();
        expected.sort();
        assert_eq!(expected, TRACED);
    }
}
