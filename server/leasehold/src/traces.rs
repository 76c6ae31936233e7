//! Where spans go: to a receiver of OTLP, such as a collector beside the coordinator.
//!
//! They are sent in batches by a thread of their own, and are dropped where the receiver does not keep up: no call waits
//! for them. Queue, batches, headers and timeouts are those of `OTEL_BSP_…`, `OTEL_EXPORTER_OTLP_…` and
//! `OTEL_RESOURCE_ATTRIBUTES`, as the SDK reads them.

use crate::place::Place;
use leasehold_aws::AwsSettings;
use leasehold_service::traces::{StoreSpan, Tracing};
use leasehold_store::decorators::Operation;
use leasehold_traces::Traces;
use opentelemetry::{Array, Key, KeyValue, StringValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use std::time::Duration;
use tonic::transport::ClientTlsConfig;

/// Where spans go, and of how many calls.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// The receiver: an `http` or `https` URL.
    pub endpoint: String,
    /// The part of the calls to begin a trace with, among those that are in none: from 0 to 1.
    pub ratio: f64,
}

/// How long the last spans may take to be sent.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Spans on their way.
pub(crate) struct Spans(SdkTracerProvider);

impl Spans {
    /// Called within the runtime. That the receiver cannot be reached is logged when it is tried.
    pub(crate) fn start(settings: &TraceSettings) -> Result<Self, String> {
        let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(&settings.endpoint);
        if settings.endpoint.starts_with("https://") {
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
        }
        let exporter = exporter.build().map_err(|error| error.to_string())?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource())
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.ratio))))
            .with_batch_exporter(exporter)
            .build();
        Ok(Self(provider))
    }

    /// For a coordinator whose state is in `place`.
    pub(crate) fn tracing(&self, place: &Place) -> Tracing {
        let traces = Traces::new(&self.0, TraceContextPropagator::new(), "leasehold");
        match place {
            Place::Embedded { .. } => Tracing::new(traces, on_this_machine),
            Place::Aws(settings) => {
                let AwsSettings { table, bucket, .. } = &**settings;
                let (table, bucket) = (StringValue::from(table.clone()), StringValue::from(bucket.clone()));
                Tracing::new(traces, move |operation| on_aws(operation, &table, &bucket))
            }
        }
    }

    /// Sends what is left.
    pub(crate) async fn close(self) {
        // It waits for the thread that sends.
        let closing = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST_SPANS));
        match closing.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans could not be sent"),
            Err(_) => tracing::error!("what sends spans died"),
        }
    }
}

fn resource() -> Resource {
    const NAME: Key = Key::from_static_str("service.name");
    // With what the environment says.
    let known = Resource::builder().build();
    let is_named = known.get(&NAME).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_attribute(version);
    if is_named { resource.build() } else { resource.with_service_name("leasehold").build() }
}

/// By the conventions for databases.
fn on_this_machine(operation: Operation) -> StoreSpan {
    let name = operation.as_str();
    let attributes =
        vec![KeyValue::new("db.system.name", "sqlite"), KeyValue::new("db.operation.name", name)];
    StoreSpan { name: name.into(), attributes }
}

/// By the conventions for the AWS SDK, for DynamoDB and for S3.
fn on_aws(operation: Operation, table: &StringValue, bucket: &StringValue) -> StoreSpan {
    let (service, method) = match operation {
        Operation::EntryRead | Operation::HeadRead => ("DynamoDB", "GetItem"),
        Operation::EventRead => ("DynamoDB", "Query"),
        Operation::Swap => ("DynamoDB", "PutItem"),
        Operation::Append => ("DynamoDB", "TransactWriteItems"),
        Operation::Put => ("S3", "PutObject"),
        Operation::Get => ("S3", "GetObject"),
        Operation::Info => ("S3", "HeadObject"),
        Operation::Delete => ("S3", "DeleteObjects"),
        // It is signed here: nobody is asked.
        Operation::Url => return StoreSpan { name: operation.as_str().into(), attributes: Vec::new() },
    };
    let mut attributes = vec![
        KeyValue::new("rpc.system.name", "aws-api"),
        KeyValue::new("rpc.method", format!("{service}/{method}")),
    ];
    if service == "DynamoDB" {
        let tables = Value::Array(Array::String(vec![table.clone()]));
        attributes.extend([
            KeyValue::new("db.system.name", "aws.dynamodb"),
            KeyValue::new("db.operation.name", method),
            KeyValue::new("aws.dynamodb.table_names", tables),
        ]);
    } else {
        attributes.push(KeyValue::new("aws.s3.bucket", bucket.clone()));
    }
    StoreSpan { name: format!("{service}.{method}").into(), attributes }
}
