//! Spans of gRPC calls, on both sides of them, by OpenTelemetry's [conventions for RPC](https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/)
//! (those of `rpc.system.name`, of version 1.38 and later).
//!
//! A caller's [`TraceCalls`] makes a span for every attempt of a call and sends its context along, as the headers that the
//! caller's propagator writes (W3C's `traceparent` and `tracestate`); a server's takes it up from there. What a server does
//! for a call finds the call's span in [`Context::current`]; a task that is begun for it takes it along by [`inherited`].

mod call;

pub use call::{Answer, Failure, TraceCalls, Traced};

use http::HeaderMap;
use opentelemetry::{
    Context, InstrumentationScope,
    global::{BoxedSpan, BoxedTracer, ObjectSafeTracerProvider},
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{FutureExt as _, SpanBuilder, Tracer as _},
};
use std::{fmt, sync::Arc};

/// Where spans go, and how their context is carried. Cheap to clone. As long as it is there, so is what sends spans: a provider
/// is to be shut down, as dropping it sends nothing then.
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

    /// Begins a span below the one of `parent`: for coordinators.
    #[doc(hidden)]
    pub fn begin(&self, span: SpanBuilder, parent: &Context) -> BoxedSpan {
        self.0.tracer.build_with_context(span, parent)
    }
}

/// A task that is begun for the sake of whoever begins it: its spans are below the one that is current here and now.
pub fn inherited<F: Future>(task: F) -> impl Future<Output = F::Output> {
    task.with_current_context()
}

/// What a vendor adds to a context, and everything below it carries along, is left out where it is longer. W3C's
/// recommendation has it that so much is carried.
const MAX_TRACESTATE_BYTES: usize = 512;

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key)?.to_str().ok()?;
        (key != "tracestate" || value.len() <= MAX_TRACESTATE_BYTES).then_some(value)
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
