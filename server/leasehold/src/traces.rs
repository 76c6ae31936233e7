//! Where spans go: to a receiver of OTLP, such as a collector beside the coordinator.
//!
//! They are sent in batches by a thread of their own, and are dropped where the receiver does not keep up: no call waits
//! for them. Queue, batches, headers, timeouts and names are those of `OTEL_BSP_…`, `OTEL_EXPORTER_OTLP_…`,
//! `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, as the SDK reads them.

use crate::place::Place;
use leasehold_aws::AwsSettings;
use leasehold_service::traces::{StoreSpan, Tracing};
use leasehold_store::decorators::Operation;
use leasehold_traces::Traces;
use opentelemetry::{Array, Key, KeyValue, StringValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider, SpanData},
};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
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
            .with_batch_exporter(Told { exporter, failed: AtomicUsize::new(0) })
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

/// An exporter that tells when spans begin to be lost, and when they are sent again, and not of every batch.
#[derive(Debug)]
struct Told {
    exporter: SpanExporter,
    /// Spans, since the last ones that were sent.
    failed: AtomicUsize,
}

impl opentelemetry_sdk::trace::SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        match &result {
            Ok(()) => {
                let lost = self.failed.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::info!(spans.lost = lost, "spans are sent again");
                }
            }
            Err(error) => {
                if self.failed.fetch_add(spans, Ordering::Relaxed) == 0 {
                    tracing::warn!(%error, "spans are lost: their receiver does not take them");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// What the environment says of this process; else our names.
fn resource() -> Resource {
    let said = Resource::builder().build();
    let is_said = |key: &'static str| {
        let value = said.get(&Key::from_static_str(key));
        value.is_some_and(|value| !value.as_str().starts_with("unknown_service"))
    };
    let ours = [("service.name", "leasehold"), ("service.version", env!("CARGO_PKG_VERSION"))];
    let missing = ours.into_iter().filter(|(key, _)| !is_said(key));
    Resource::builder().with_attributes(missing.map(|(key, value)| KeyValue::new(key, value))).build()
}

/// By the conventions for databases.
fn on_this_machine(operation: Operation) -> Option<StoreSpan> {
    let name = operation.as_str();
    let attributes =
        vec![KeyValue::new("db.system.name", "sqlite"), KeyValue::new("db.operation.name", name)];
    Some(StoreSpan { name: name.into(), attributes })
}

/// By the conventions for the AWS SDK, for DynamoDB and for S3.
fn on_aws(operation: Operation, table: &StringValue, bucket: &StringValue) -> Option<StoreSpan> {
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
        Operation::Url => return None,
    };
    let mut attributes = vec![
        KeyValue::new("rpc.system.name", "aws-api"),
        KeyValue::new("rpc.service", service),
        KeyValue::new("rpc.method", method),
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
    Some(StoreSpan { name: format!("{service}.{method}").into(), attributes })
}
