//! The spans of calls, as an exporter gets them.

#![allow(missing_docs, reason = "tests are named by what they show")]

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use leasehold_traces::{TraceCalls, Traces, inherited};
use opentelemetry::{
    Context,
    trace::{SpanKind, Status, TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};
use std::convert::Infallible;
use tonic::body::Body;
use tower::{Layer as _, ServiceExt as _, service_fn};

const PATH: &str = "/leasehold.v1.CoordinatorService/Lookup";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

struct World {
    exporter: InMemorySpanExporter,
    provider: SdkTracerProvider,
}

impl World {
    fn new() -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        Self { exporter, provider }
    }

    fn traces(&self) -> Option<Traces> {
        Some(Traces::new(&self.provider, TraceContextPropagator::new(), "test"))
    }

    fn server(&self) -> TraceCalls {
        TraceCalls::of_server(self.traces())
    }

    fn caller(&self) -> TraceCalls {
        TraceCalls::of_caller(self.traces(), &"http://coordinator.internal:7420".parse().unwrap())
    }

    fn ended(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().unwrap()
    }

    fn only(&self) -> SpanData {
        let mut spans = self.ended();
        assert_eq!(spans.len(), 1, "{spans:?}");
        spans.remove(0)
    }
}

fn told(span: &SpanData, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.to_string())
}

fn request(path: &str) -> Request<()> {
    Request::builder().uri(path).header("traceparent", PARENT).body(()).unwrap()
}

fn trailers(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static(code))])
}

/// An answer that ends with this code.
fn answer(code: &'static str) -> Response<Body> {
    with_trailers(Bytes::from_static(b"page"), code)
}

fn with_trailers(body: Bytes, code: &'static str) -> Response<Body> {
    Response::new(Body::new(Full::new(body).with_trailers(async move { Some(Ok(trailers(code))) })))
}

#[tokio::test]
async fn a_call_is_a_span_below_its_callers_until_its_answer_has_ended() {
    let world = World::new();
    let service = world.server().layer(service_fn(async |_: Request<()>| {
        assert_eq!(
            Context::current().span().span_context().trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c",
            "what the call does finds its span"
        );
        Ok::<_, Infallible>(answer("0"))
    }));
    let response = service.oneshot(request(PATH)).await.unwrap();
    assert_eq!(world.ended().len(), 0, "the answer is still under way");
    response.into_body().collect().await.unwrap();
    let span = world.only();
    assert_eq!(span.name, "leasehold.v1.CoordinatorService/Lookup");
    assert_eq!(span.span_kind, SpanKind::Server);
    assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
    assert!(span.parent_span_is_remote);
    assert_eq!(told(&span, "rpc.system.name").as_deref(), Some("grpc"));
    assert_eq!(told(&span, "rpc.method").as_deref(), Some("leasehold.v1.CoordinatorService/Lookup"));
    assert_eq!(told(&span, "rpc.response.status_code").as_deref(), Some("OK"));
    assert_eq!((told(&span, "error.type"), span.status), (None, Status::Unset));
}

#[tokio::test]
async fn a_callers_span_is_below_the_current_one_and_goes_along() {
    use opentelemetry::trace::{FutureExt as _, Tracer as _};
    let world = World::new();
    let service = world.caller().layer(service_fn(async |request: Request<()>| {
        let sent = request.headers()["traceparent"].to_str().unwrap().to_owned();
        Ok::<_, Infallible>(with_trailers(Bytes::from(sent), "0"))
    }));
    let render = Context::new().with_span(world.provider.tracer("worker").start("render"));
    let request = Request::builder().uri(PATH).body(()).unwrap();
    let response = service.oneshot(request).with_context(render.clone()).await.unwrap();
    let sent = response.into_body().collect().await.unwrap().to_bytes();
    let span = world.only();
    assert_eq!(span.span_kind, SpanKind::Client);
    assert_eq!(span.parent_span_id, render.span().span_context().span_id());
    let context = &span.span_context;
    assert_eq!(sent, format!("00-{}-{}-01", context.trace_id(), context.span_id()));
    assert_eq!(told(&span, "server.address").as_deref(), Some("coordinator.internal"));
    assert_eq!(told(&span, "server.port").as_deref(), Some("7420"));
}

#[tokio::test]
async fn a_refusal_before_the_first_message_ends_the_span_and_is_an_error_of_whose_it_is() {
    for (code, name, is_the_servers) in
        [("3", "INVALID_ARGUMENT", false), ("7", "PERMISSION_DENIED", false), ("14", "UNAVAILABLE", true)]
    {
        let world = World::new();
        for layer in [world.server(), world.caller()] {
            let service = layer.layer(service_fn(async move |_: Request<()>| {
                let mut response = Response::new(Body::empty());
                *response.headers_mut() = trailers(code);
                Ok::<_, Infallible>(response)
            }));
            let _response = service.oneshot(request(PATH)).await.unwrap();
        }
        let spans = world.ended();
        for (span, is_error) in spans.iter().zip([is_the_servers, true]) {
            assert_eq!(told(span, "rpc.response.status_code").as_deref(), Some(name));
            assert_eq!(told(span, "error.type").is_some(), is_error, "{name}: {:?}", span.span_kind);
            assert_eq!(matches!(span.status, Status::Error { .. }), is_error);
        }
        assert_eq!(spans.len(), 2);
    }
}

#[tokio::test]
async fn whoever_goes_away_ends_the_span_as_cancelled() {
    let world = World::new();
    let service = world.server().layer(service_fn(async |_: Request<()>| Ok::<_, Infallible>(answer("0"))));
    drop(service.oneshot(request(PATH)).await.unwrap());
    assert_eq!(told(&world.only(), "rpc.response.status_code").as_deref(), Some("CANCELLED"));

    let world = World::new();
    let never =
        service_fn(async |_: Request<()>| std::future::pending::<Result<Response<Body>, Infallible>>().await);
    let mut call = Box::pin(world.server().layer(never).oneshot(request(PATH)));
    assert!(futures_poll(&mut call).await.is_none());
    drop(call);
    assert_eq!(told(&world.only(), "rpc.response.status_code").as_deref(), Some("CANCELLED"));
}

/// What a future has after one look.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn what_is_not_answered_is_told_as_what_it_is() {
    use tonic::Status;
    type BoxError = Box<dyn std::error::Error + Send + Sync>;
    for (failure, name) in [
        (BoxError::from("broken"), "UNAVAILABLE"),
        (BoxError::from(Status::unauthenticated("no token")), "UNAUTHENTICATED"),
        (BoxError::from(Status::deadline_exceeded("too late")), "DEADLINE_EXCEEDED"),
    ] {
        let (world, mut failure) = (World::new(), Some(failure));
        let broken = service_fn(move |_: Request<()>| {
            let failure = failure.take().unwrap();
            async move { Err::<Response<Body>, _>(failure) }
        });
        assert!(world.caller().layer(broken).oneshot(request(PATH)).await.is_err());
        assert_eq!(told(&world.only(), "error.type").as_deref(), Some(name));
    }
    let world = World::new();
    let endless = service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Body::new(Full::new(Bytes::from_static(b"half")))))
    });
    let response = world.caller().layer(endless).oneshot(request(PATH)).await.unwrap();
    response.into_body().collect().await.unwrap();
    assert_eq!(told(&world.only(), "error.type").as_deref(), Some("UNKNOWN"), "there was no end");
}

#[tokio::test]
async fn what_is_no_call_of_ours_or_lasts_for_hours_has_no_span_and_goes_as_it_came() {
    let world = World::new();
    let untraced = TraceCalls::of_caller(None, &http::Uri::default());
    let strange = "/leasehold.v1.CoordinatorService/whatever-somebody-likes";
    let endless = "/leasehold.v1.CoordinatorService/Watch";
    for (layer, path) in [
        (world.caller(), "/grpc.health.v1.Health/Check"),
        (world.caller(), strange),
        (world.caller(), endless),
        (untraced, PATH),
    ] {
        let service = layer.layer(service_fn(async |request: Request<()>| {
            assert_eq!(request.headers()["traceparent"], PARENT);
            Ok::<_, Infallible>(answer("0"))
        }));
        service.oneshot(request(path)).await.unwrap().into_body().collect().await.unwrap();
    }
    assert_eq!(world.ended().len(), 0);
}

#[tokio::test]
async fn what_is_no_context_begins_a_trace() {
    let world = World::new();
    for bad in ["", "00-0-0-01", "rubbish", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
        let service =
            world.server().layer(service_fn(async |_: Request<()>| Ok::<_, Infallible>(answer("0"))));
        let request = Request::builder().uri(PATH).header("traceparent", bad).body(()).unwrap();
        service.oneshot(request).await.unwrap().into_body().collect().await.unwrap();
        let span = world.only();
        assert!(!span.parent_span_is_remote && span.span_context.is_valid(), "{bad}");
        world.exporter.reset();
    }
}

#[tokio::test]
async fn what_a_vendor_adds_is_carried_within_bounds() {
    for (length, is_carried) in [(500, true), (1000, false)] {
        let world = World::new();
        let service =
            world.server().layer(service_fn(async |_: Request<()>| Ok::<_, Infallible>(answer("0"))));
        let vendors: Vec<_> = (0..length / 100).map(|at| format!("v{at}={}", "x".repeat(96))).collect();
        let mut request = request(PATH);
        request.headers_mut().insert("tracestate", vendors.join(",").parse().unwrap());
        service.oneshot(request).await.unwrap().into_body().collect().await.unwrap();
        let span = world.only();
        assert!(span.parent_span_is_remote);
        assert_eq!(!span.span_context.trace_state().header().is_empty(), is_carried, "{length}");
    }
}

#[tokio::test]
async fn a_task_that_is_begun_for_a_call_is_below_it() {
    use opentelemetry::trace::{FutureExt as _, Tracer as _};
    let world = World::new();
    let render = Context::new().with_span(world.provider.tracer("worker").start("render"));
    let begun = async {
        let current = async { Context::current().span().span_context().span_id() };
        tokio::spawn(inherited(current)).await.unwrap()
    };
    assert_eq!(begun.with_context(render.clone()).await, render.span().span_context().span_id());
}
