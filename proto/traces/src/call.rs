//! A call with a span, from its request to the end of its answer.

use crate::{Headers, HeadersMut, Side, Traces, begin};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::{
    Context, KeyValue,
    trace::{Status, TraceContextExt as _},
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{self, Poll, ready},
};
use tonic::Code;
use tower::{Layer, Service};

/// The layer. Without [`Traces`] it does nothing.
#[derive(Clone, Debug)]
pub struct TraceCalls {
    traces: Option<Traces>,
    side: Side,
    /// Only calls of this service: those after a server's health, of which there are many, tell nothing.
    service: &'static str,
    address: Vec<KeyValue>,
}

impl TraceCalls {
    /// On the side that calls: `host` and `port` of the endpoint are told with every span.
    pub fn of_caller(traces: Option<Traces>, service: &'static str, host: &str, port: Option<u16>) -> Self {
        let mut address = vec![KeyValue::new("server.address", host.to_owned())];
        address.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
        Self { traces, side: Side::Caller, service, address }
    }

    /// On the side that answers.
    pub fn of_server(traces: Option<Traces>, service: &'static str) -> Self {
        Self { traces, side: Side::Server, service, address: Vec::new() }
    }

    fn begin<B>(&self, request: &mut Request<B>) -> Option<Context> {
        let traces = self.traces.as_ref()?;
        let path = request.uri().path();
        let is_ours = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        is_ours.filter(|(service, _)| *service == self.service)?;
        let propagator = &traces.0.propagator;
        let current = Context::current();
        Some(match self.side {
            Side::Caller => {
                let context = begin(traces, self.side, path, &self.address, &current);
                propagator.inject_context(&context, &mut HeadersMut(request.headers_mut()));
                context
            }
            Side::Server => {
                let parent = propagator.extract_with_context(&current, &Headers(request.headers()));
                begin(traces, self.side, path, &self.address, &parent)
            }
        })
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

impl<S, B, R> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<TracedBody<R>>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Some(context) = self.layer.begin(&mut request) else {
            return Answer { call: self.inner.call(request), span: None };
        };
        let call = {
            let _current = context.clone().attach();
            self.inner.call(request)
        };
        Answer { call, span: Some(Open { context, side: self.layer.side, code: Code::Cancelled }) }
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
        let (span, name) = (self.context.span(), name(self.code));
        span.set_attribute(KeyValue::new("rpc.response.status_code", name));
        if is_error(self.side, self.code) {
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

impl<F, R, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<TracedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = {
            let _current = this.span.as_ref().map(|open| open.context.clone().attach());
            ready!(this.call.poll(context))
        };
        let mut span = this.span.take();
        let code = match &answer {
            // What fails before its first message is told in the headers.
            Ok(response) => code_in(response.headers()),
            Err(_) => Some(Code::Unavailable),
        };
        if let Some(code) = code
            && let Some(open) = span.take()
        {
            open.end(code);
        }
        Poll::Ready(answer.map(|response| response.map(|body| TracedBody { body, span })))
    }
}

pin_project! {
    /// An answer under way.
    pub struct TracedBody<B> {
        #[pin]
        body: B,
        span: Option<Open>,
    }
}

impl<B: Body> Body for TracedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(context));
        let code = match &frame {
            Some(Ok(frame)) => {
                frame.trailers_ref().map(|trailers| code_in(trailers).unwrap_or(Code::Unknown))
            }
            // The connection broke, or there are no trailers where they must be.
            Some(Err(_)) | None => Some(Code::Unknown),
        };
        if let Some(code) = code
            && let Some(open) = this.span.take()
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
