//! Traces: below the span of a call, one for each request to the store that is made for it.
//!
//! The call's span is begun in front of the service, by [`TraceCalls`](leasehold_traces::TraceCalls), from the context that
//! its caller sent. What follows from the call finds its context with its [purpose](crate::meters), in whichever task it
//! runs. Spans have no keys, paths, tags or owners, and no lease tokens: what a trace is kept for needs none of them.

use crate::meters::purpose::Purpose;
use leasehold_store::decorators::{
    Operation,
    observing::{Observed, Outcome},
};
use leasehold_traces::Traces;
use opentelemetry::{
    Context, KeyValue,
    trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _},
};
use std::{borrow::Cow, fmt, sync::Arc};

/// Where the spans of a coordinator go, and what its store is called in them. Cheap to clone.
#[derive(Clone)]
pub struct Tracing {
    traces: Traces,
    store: Arc<dyn Fn(Operation) -> Option<StoreSpan> + Send + Sync>,
}

/// How the span of a request to the store begins.
#[derive(Clone, Debug)]
pub struct StoreSpan {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What OpenTelemetry's conventions want to know of this kind of store.
    pub attributes: Vec<KeyValue>,
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracing").finish_non_exhaustive()
    }
}

impl Tracing {
    /// Spans to `traces`; those of the store as `store` has them, which has none for what asks nobody.
    pub fn new(
        traces: Traces,
        store: impl Fn(Operation) -> Option<StoreSpan> + Send + Sync + 'static,
    ) -> Self {
        Self { traces, store: Arc::new(store) }
    }

    pub(crate) fn calls(&self) -> Traces {
        self.traces.clone()
    }

    /// The span of a request that has ended, for a call that is traced.
    pub(crate) fn asked_the_store(&self, purpose: &Purpose, request: &Observed) {
        let Some(call) = &purpose.call else { return };
        let outcome = request.outcome.as_str();
        let Some(StoreSpan { name, mut attributes }) = (self.store)(request.operation) else { return };
        attributes.extend([
            KeyValue::new("leasehold.event", purpose.event.as_str()),
            KeyValue::new("leasehold.store.operation", request.operation.as_str()),
            KeyValue::new("leasehold.store.outcome", outcome),
        ]);
        for (key, units) in [
            ("leasehold.store.read_units", request.consumed.read_units),
            ("leasehold.store.write_units", request.consumed.write_units),
        ] {
            if units > 0.0 {
                attributes.push(KeyValue::new(key, units));
            }
        }
        let is_failure = match request.outcome {
            Outcome::Done | Outcome::Refused | Outcome::Abandoned => false,
            Outcome::Unavailable | Outcome::Unknown | Outcome::Corrupt | Outcome::TooLarge => true,
        };
        if is_failure {
            attributes.push(KeyValue::new("error.type", outcome));
        }
        // By the clock that the other spans are stamped with.
        let ended = opentelemetry::time::now();
        let span = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Client)
            .with_start_time(ended - request.took)
            .with_attributes(attributes);
        let mut span = self.traces.begin(span, call);
        if is_failure {
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(ended);
    }
}

/// The span of the call that is answered, where it is recorded.
pub(crate) fn current_call() -> Option<Context> {
    Context::map_current(|current| current.span().is_recording().then(|| current.clone()))
}

/// How the call that is answered ended, in its span: as its meter says.
pub(crate) fn outcome(outcome: &'static str) {
    Context::map_current(|current| {
        let span = current.span();
        if span.is_recording() {
            span.set_attribute(KeyValue::new("leasehold.outcome", outcome));
        }
    });
}
