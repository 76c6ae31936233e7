//! Traces, as a receiver of OTLP gets them.

use crate::{
    admin::on_doubles,
    process::{Coordinator, Ended, PATIENCE, serving},
};
use leasehold_aws::testing::Doubles;
use leasehold_client::{
    Acquire, AcquireOptions, EntryRef, NewPage, PageMetadata, Traces,
    runtime::{Policy, Runtime},
};
use opentelemetry::{
    Context,
    trace::{FutureExt as _, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value},
    trace::v1::{Span, span::SpanKind},
};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A span, and the name of the service that it is of.
#[derive(Clone, Debug)]
struct Received {
    service: String,
    span: Span,
}

impl Received {
    fn told(&self, key: &str) -> Option<String> {
        text(&self.span.attributes, key)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    use any_value::Value;
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<Received>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.unwrap_or_default();
            let service = text(&resource.attributes, "service.name").unwrap_or_default();
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| Received { service: service.clone(), span }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    /// One on a socket of its own, and its URL.
    async fn start() -> (Self, String) {
        let (receiver, listener) = (Self::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder().add_service(TraceServiceServer::new(receiver.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (receiver, url)
    }

    fn spans(&self) -> Vec<Received> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until so many have come: what is left when a process stops has little time.
    async fn received(&self, spans: usize) {
        for _ in 0..PATIENCE.as_millis() / 20 {
            if self.spans().len() >= spans {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{spans} spans did not come: {:#?}", self.trees());
    }

    /// What came, as trees: each span on a line, below the one that it is part of, by the time that it began.
    fn trees(&self) -> Vec<String> {
        let spans = self.spans();
        let mut children: BTreeMap<&[u8], Vec<&Received>> = BTreeMap::new();
        for received in &spans {
            children.entry(&received.span.parent_span_id).or_default().push(received);
        }
        let mut lines = Vec::new();
        let mut left: Vec<(usize, &Received)> = Vec::new();
        let push = |left: &mut Vec<_>, depth, id: &[u8]| {
            let mut below = children.get(id).cloned().unwrap_or_default();
            below.sort_by_key(|received| std::cmp::Reverse(received.span.start_time_unix_nano));
            left.extend(below.into_iter().map(|received| (depth, received)));
        };
        push(&mut left, 0, &[]);
        while let Some((depth, received)) = left.pop() {
            lines.push(format!("{}{} {}", "  ".repeat(depth), received.service, received.span.name));
            push(&mut left, depth + 1, &received.span.span_id);
        }
        lines
    }
}

/// Stops it, and with it every span is sent.
async fn stop(mut coordinator: Coordinator) {
    let stopping = tokio::task::spawn_blocking(move || {
        coordinator.process.signal("TERM");
        assert!(coordinator.process.end_within(PATIENCE).success());
    });
    stopping.await.unwrap();
}

/// Spans are sent so soon, in milliseconds, by the SDK's own variable.
const PROMPTLY: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");

/// A worker that traces, as a service of this name.
struct Worker {
    client: leasehold_client::Coordinator,
    provider: SdkTracerProvider,
}

impl Worker {
    fn new(endpoint: &str, receiver: &str) -> Self {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(receiver).build().unwrap();
        let resource = Resource::builder().with_service_name("worker").build();
        let provider =
            SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        let traces = Traces::new(&provider, TraceContextPropagator::new(), "leasehold-client");
        let client = leasehold_client::Coordinator::builder().endpoint(endpoint).owner("secret-owner");
        Self { client: client.traces(traces).build().unwrap(), provider }
    }

    /// Does this within a span of this name.
    async fn within<T>(&self, name: &'static str, work: impl Future<Output = T>) -> T {
        let context = Context::new().with_span(self.provider.tracer("worker").start(name));
        let done = work.with_context(context.clone()).await;
        context.span().end();
        done
    }

    async fn regenerate(&self) {
        let entry = EntryRef::key("secret-key").path("/secret/path");
        let acquired = self.client.acquire(&entry, &AcquireOptions::default()).await.unwrap();
        let Acquire::Granted(lease) = acquired else { panic!("{acquired:?}") };
        let metadata = PageMetadata { tags: vec!["secret-tag".to_owned()], ..PageMetadata::default() };
        lease.commit(&NewPage::new("<h1>secret</h1>").metadata(metadata)).await.unwrap();
    }

    /// Sends what is left.
    async fn close(self) {
        tokio::task::spawn_blocking(move || self.provider.shutdown().unwrap()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_regeneration_is_one_trace_from_the_worker_through_the_coordinator_to_the_store() {
    let (receiver, url) = Receiver::start().await;
    let doubles = Doubles::new();
    doubles.ready().await;
    let listening = doubles.listen().await;
    let quiet = ["--tail-interval", "60s", "--staleness-bound", "10m", "--otlp-endpoint", &url];
    let (mut command, dir) = (on_doubles(&listening, &quiet), tempfile::tempdir().unwrap());
    command.env(PROMPTLY.0, PROMPTLY.1);
    let coordinator = tokio::task::spawn_blocking(|| Coordinator::started(dir, command)).await.unwrap();

    let worker = Worker::new(&coordinator.endpoint, &url);
    worker.within("regenerate", worker.regenerate()).await;
    worker.close().await;
    receiver.received(9).await;
    stop(coordinator).await;

    assert_eq!(
        receiver.trees(),
        [
            "worker regenerate",
            "  worker leasehold.v1.CoordinatorService/AcquireLease",
            "    leasehold leasehold.v1.CoordinatorService/AcquireLease",
            "      leasehold DynamoDB.GetItem",
            "      leasehold DynamoDB.PutItem",
            "  worker leasehold.v1.CoordinatorService/CommitPointer",
            "    leasehold leasehold.v1.CoordinatorService/CommitPointer",
            "      leasehold S3.PutObject",
            "      leasehold DynamoDB.PutItem",
        ]
    );
    let spans = receiver.spans();
    let trace = &spans[0].span.trace_id;
    for received in &spans {
        assert_eq!(&received.span.trace_id, trace);
        assert!(received.span.end_time_unix_nano >= received.span.start_time_unix_nano);
        assert!(!format!("{received:?}").contains("secret"), "{received:?}");
    }
    let of = |service: &str, name: &str| -> Vec<&Received> {
        spans
            .iter()
            .filter(|received| received.service == service && received.span.name.ends_with(name))
            .collect()
    };
    for (service, kind) in [("worker", SpanKind::Client), ("leasehold", SpanKind::Server)] {
        for (method, outcome) in [("AcquireLease", "granted"), ("CommitPointer", "committed")] {
            let [call] = of(service, method)[..] else { panic!("{spans:?}") };
            assert_eq!(call.span.kind(), kind);
            assert_eq!(call.told("rpc.system.name").as_deref(), Some("grpc"));
            let full = format!("leasehold.v1.CoordinatorService/{method}");
            assert_eq!(call.told("rpc.method"), Some(full));
            assert_eq!(call.told("rpc.response.status_code").as_deref(), Some("OK"));
            let told = (service == "leasehold").then_some(outcome);
            assert_eq!(call.told("leasehold.outcome").as_deref(), told);
            let address = (service == "worker").then_some("127.0.0.1");
            assert_eq!(call.told("server.address").as_deref(), address);
        }
    }
    for write in of("leasehold", "DynamoDB.PutItem") {
        assert_eq!(write.span.kind(), SpanKind::Client);
        assert_eq!(write.told("rpc.system.name").as_deref(), Some("aws-api"));
        assert_eq!(write.told("rpc.service").as_deref(), Some("DynamoDB"));
        assert_eq!(write.told("rpc.method").as_deref(), Some("PutItem"));
        assert_eq!(write.told("db.system.name").as_deref(), Some("aws.dynamodb"));
        assert_eq!(write.told("leasehold.store.operation").as_deref(), Some("swap"));
        assert_eq!(write.told("leasehold.store.outcome").as_deref(), Some("done"));
        assert_eq!(write.told("leasehold.store.write_units").as_deref(), Some("1"));
        let tables = write.told("aws.dynamodb.table_names").unwrap();
        assert!(tables.contains(&Doubles::settings().table), "{tables}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_is_one_trace_with_the_render_and_the_commit_that_are_tasks_of_their_own() {
    let (receiver, url) = Receiver::start().await;
    let coordinator = tokio::task::spawn_blocking(|| Coordinator::start(&[])).await.unwrap();
    let worker = Worker::new(&coordinator.endpoint, &url);
    let runtime = Runtime::new(worker.client.clone());
    let (entry, policy) = (EntryRef::key("page"), Policy::blocking(Duration::from_secs(60)));
    let rendered_in = Arc::new(Mutex::new(None));
    let render = {
        let rendered_in = Arc::clone(&rendered_in);
        move |_| async move {
            *rendered_in.lock().unwrap() = Some(Context::current().span().span_context().trace_id());
            Ok::<_, std::io::Error>("html")
        }
    };
    worker.within("visit", async { runtime.serve(&entry, &policy, render).await.unwrap() }).await;
    runtime.finish_background().await;
    worker.close().await;
    let trees = receiver.trees();
    let begins: Vec<_> = trees.iter().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(begins, ["worker visit"], "{trees:?}");
    assert!(
        trees.contains(&"  worker leasehold.v1.CoordinatorService/CommitPointer".to_owned()),
        "{trees:?}"
    );
    let rendered_in = rendered_in.lock().unwrap().expect("a render").to_bytes();
    assert_eq!(receiver.spans()[0].span.trace_id, rendered_in);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_a_trace_decides_and_of_the_other_calls_a_part_is_traced() {
    for (ratio, begun_here) in [("0", false), ("1", true)] {
        let (receiver, url) = Receiver::start().await;
        let args = ["--otlp-endpoint".to_owned(), url.clone(), "--trace-ratio".to_owned(), ratio.to_owned()];
        let starting = tokio::task::spawn_blocking(move || {
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            let coordinator = Coordinator::start(&args);
            coordinator.json("lookup page", 3);
            coordinator
        });
        let coordinator = starting.await.unwrap();
        let worker = Worker::new(&coordinator.endpoint, &url);
        worker.within("regenerate", worker.regenerate()).await;
        worker.close().await;
        stop(coordinator).await;
        let trees = receiver.trees();
        let begins = |line: &&String| !line.starts_with(' ');
        let roots: Vec<_> = trees.iter().filter(begins).map(String::as_str).collect();
        let expected: &[&str] = match begun_here {
            true => &["leasehold leasehold.v1.CoordinatorService/Lookup", "worker regenerate"],
            false => &["worker regenerate"],
        };
        assert_eq!(
            {
                let mut roots = roots;
                roots.sort_unstable();
                roots
            },
            expected
        );
        assert!(trees.iter().any(|line| line.ends_with("leasehold swap")), "{trees:?}");
    }
}

#[test]
fn a_receiver_that_does_not_answer_holds_up_no_call_and_no_stop() {
    // It takes connections, and says nothing on them; nobody is where the other one should be.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoints = [format!("http://{}", silent.local_addr().unwrap()), "http://127.0.0.1:9".to_owned()];
    for endpoint in endpoints {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serving(dir.path(), &["--otlp-endpoint", &endpoint]);
        command.env(PROMPTLY.0, PROMPTLY.1);
        // Longer than anybody would wait for a stop.
        command.env("OTEL_EXPORTER_OTLP_TIMEOUT", "60000");
        let mut coordinator = Coordinator::started(dir, command);
        for _ in 0..3 {
            coordinator.commit("page", "html");
            assert_eq!(coordinator.json("lookup page", 0)["outcome"], "fresh");
            coordinator.json("invalidate key page", 0);
        }
        coordinator.process.signal("TERM");
        assert!(coordinator.process.end_within(Duration::from_secs(30)).success());
        let warnings = coordinator.process.errors();
        let warnings = warnings.iter().filter(|line| line.contains("spans are lost")).count();
        assert!(warnings <= 1, "not of every batch: {warnings}");
    }
}

#[test]
fn where_spans_go_is_checked_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    for flags in [["--otlp-endpoint", "collector:4317"], ["--trace-ratio", "2"], ["--trace-ratio", "half"]] {
        let refused = Ended::of(serving(dir.path(), &flags), "");
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(flags[0]) && refused.stderr.contains("allowed"), "{refused:?}");
    }
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    for variables in [
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")],
        vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), endpoint],
    ] {
        let mut command = serving(dir.path(), &[]);
        command.envs(variables.iter().copied());
        let refused = Ended::of(command, "");
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(variables[0].0), "{refused:?}");
    }
    assert!(!dir.path().join("data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn opentelemetrys_own_variables_switch_it_on_and_off() {
    for (switch, is_on) in [
        (("OTEL_SDK_DISABLED", "false"), true),
        (("OTEL_SDK_DISABLED", "true"), false),
        (("OTEL_TRACES_EXPORTER", "none"), false),
        (("LEASEHOLD_OTLP_ENDPOINT", ""), false),
    ] {
        let (receiver, url) = Receiver::start().await;
        let using = tokio::task::spawn_blocking(move || {
            let dir = tempfile::tempdir().unwrap();
            let mut command = serving(dir.path(), &[]);
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", url).env("OTEL_SERVICE_NAME", "pages");
            command.env(PROMPTLY.0, PROMPTLY.1).env(switch.0, switch.1);
            let coordinator = Coordinator::started(dir, command);
            coordinator.json("lookup page", 3);
            coordinator
        });
        let coordinator = using.await.unwrap();
        if is_on {
            receiver.received(2).await;
        }
        stop(coordinator).await;
        let expected = is_on.then_some("pages leasehold.v1.CoordinatorService/Lookup");
        assert_eq!(receiver.trees().first().map(String::as_str), expected, "{switch:?}");
    }
}
