//! Which spans are below which call.

use crate::{access::closed, harness::*};
use leasehold_service::traces::{StoreSpan, Tracing};
use leasehold_traces::Traces;
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{InMemorySpanExporter, SdkTracerProvider},
};
use tonic::Request;

/// A world whose coordinators trace, and what they have told of.
fn traced() -> (World, InMemorySpanExporter) {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let traces = Traces::new(&provider, TraceContextPropagator::new(), "test");
    let tracing = Tracing::new(traces, |operation| {
        Some(StoreSpan { name: operation.as_str().into(), attributes: Vec::new() })
    });
    let mut world = World::new();
    world.tracing = Some(tracing);
    (world, exporter)
}

fn in_trace<T>(number: u8, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let context = format!("00-{:032x}-00000000000000ff-01", u128::from(number));
    request.metadata_mut().insert("traceparent", context.parse().unwrap());
    request
}

/// The names of the spans in a trace, of calls and of requests to the store.
fn names(exporter: &InMemorySpanExporter, number: u8) -> Vec<String> {
    let spans = exporter.get_finished_spans().unwrap();
    let of = spans
        .iter()
        .filter(|span| u128::from_be_bytes(span.span_context.trace_id().to_bytes()) == u128::from(number));
    let mut names: Vec<_> =
        of.map(|span| span.name.rsplit('/').next().unwrap_or_default().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_read_is_below_a_call_that_waits_for_it_and_not_below_one_of_before() {
    let (world, exporter) = traced();
    let node = world.start().await;
    let page = entry("news");
    let gate = node.faults.hold(Operation::EntryRead);
    let look = |number| {
        let mut client = node.client();
        let request = in_trace(number, lookup_strictly(&page));
        async move { client.lookup(request).await.unwrap() }
    };
    let one_after_the_other = async {
        gate.arrived(1).await;
        // The first read is under way: this one gets the next, by the task that reads for the first; or, were it late, by
        // one of its own.
        let second = tokio::spawn(look(2));
        tokio::time::sleep(ms(100)).await;
        gate.open();
        second.await.unwrap();
    };
    tokio::join!(look(1), one_after_the_other);
    assert_eq!(names(&exporter, 1), ["Lookup", "entry_read"]);
    assert_eq!(names(&exporter, 2), ["Lookup", "entry_read"]);
}

#[tokio::test]
async fn whoever_is_not_let_in_is_in_no_trace() {
    let (world, exporter) = traced();
    let node = world.start_guarded(closed(&world)).await;
    let refused = node.client().lookup(in_trace(1, lookup(&entry("news")))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    assert!(exporter.get_finished_spans().unwrap().is_empty());
}
