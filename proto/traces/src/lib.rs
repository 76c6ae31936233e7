//! Spans of gRPC calls, on both sides of them, by OpenTelemetry's [conventions for RPC](https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/)
//! (those of `rpc.system.name`, of version 1.38 and later).
//!
//! A caller's [`TraceCalls`] makes a span for every attempt of a call and sends its context along, as the headers that the
//! caller's propagator writes (W3C's `traceparent` and `tracestate`); a server's takes it up from there. What a server does
//! for a call finds the call's span in [`Context::current`].

mod call;

pub use call::{Answer, TraceCalls, Traced, TracedBody};

use http::HeaderMap;
use opentelemetry::{
    Context, InstrumentationScope, KeyValue,
    global::{BoxedSpan, BoxedTracer, ObjectSafeTracerProvider},
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanBuilder, SpanKind, Tracer as _},
};
use std::{fmt, sync::Arc};

/// Where spans go, and how their context is carried. Cheap to clone.
#[derive(Clone)]
pub struct Traces(Arc<Shared>);

struct Shared {
    tracer: BoxedTracer,
    propagator: Box<dyn TextMapPropagator + Send + Sync>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

impl Traces {
    /// Spans of this provider, in the name of the library or program `scope`. Their context goes along as `propagator` has it:
    /// `TraceContextPropagator` of `opentelemetry_sdk` is what coordinators read.
    pub fn new(
        provider: &impl ObjectSafeTracerProvider,
        propagator: impl TextMapPropagator + Send + Sync + 'static,
        scope: &'static str,
    ) -> Self {
        let tracer = BoxedTracer::new(provider.boxed_tracer(InstrumentationScope::builder(scope).build()));
        Self(Arc::new(Shared { tracer, propagator: Box::new(propagator) }))
    }

    /// Begins a span below the one of `parent`.
    pub fn begin(&self, span: SpanBuilder, parent: &Context) -> BoxedSpan {
        self.0.tracer.build_with_context(span, parent)
    }
}

/// On which side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Caller,
    Server,
}

/// The span of a call to the method at `path`, begun.
fn begin(traces: &Traces, side: Side, path: &str, address: &[KeyValue], parent: &Context) -> Context {
    use opentelemetry::trace::TraceContextExt as _;
    let method = path.strip_prefix('/').unwrap_or(path).to_owned();
    let kind = match side {
        Side::Caller => SpanKind::Client,
        Side::Server => SpanKind::Server,
    };
    let mut attributes =
        vec![KeyValue::new("rpc.system.name", "grpc"), KeyValue::new("rpc.method", method.clone())];
    attributes.extend_from_slice(address);
    let span = SpanBuilder::from_name(method).with_kind(kind).with_attributes(attributes);
    parent.with_span(traces.begin(span, parent))
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        let header = http::HeaderName::from_bytes(key.as_bytes()).ok().zip(value.try_into().ok());
        // Without a value it says nothing.
        if let Some((name, value)) = header.filter(|(_, value): &(_, http::HeaderValue)| !value.is_empty()) {
            self.0.insert(name, value);
        }
    }
}
