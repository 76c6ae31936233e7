//! From settings to stores.

use crate::{
    entries::DynamoEntries,
    log::DynamoLog,
    objects::S3Objects,
    settings::{AwsSettings, Timeouts},
    table::Table,
};
use aws_config::{
    BehaviorVersion, Region, SdkConfig,
    retry::RetryConfig,
    timeout::{TimeoutConfig, TimeoutConfigBuilder},
};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use leasehold_store::port::Stores;
use std::{sync::Arc, time::Duration};

/// Where a region is needed and none is told: for servers that are in none.
const REGION_OF_NONE: &str = "us-east-1";

/// A table and a bucket, ready to be used, checked or created. Clones share their connections.
#[derive(Clone)]
pub struct Aws {
    pub(crate) table: Arc<Table>,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) settings: Arc<AwsSettings>,
    pub(crate) region: Option<String>,
}

impl Aws {
    /// Region and credentials come from where every AWS tool finds them: environment, profile, container, instance. Asks
    /// neither DynamoDB nor S3 for anything yet: [`Aws::check`] does.
    pub async fn connect(settings: AwsSettings) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(region) = &settings.region {
            loader = loader.region(Region::new(region.clone()));
        }
        let config = loader.load().await;
        Self::on(&config, None, settings)
    }

    /// Through HTTP clients that are handed in, with fixed credentials, by a clock that is handed in, and with nothing from
    /// the environment: what a test or a simulation connects its own servers by.
    pub fn through(
        settings: AwsSettings,
        dynamodb: SharedHttpClient,
        s3: SharedHttpClient,
        credentials: Credentials,
        time: SharedTimeSource,
    ) -> Self {
        let region = settings.region.clone().unwrap_or_else(|| REGION_OF_NONE.into());
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .time_source(time)
            .build();
        Self::on(&config, Some((dynamodb, s3)), settings)
    }

    pub(crate) fn on(
        config: &SdkConfig,
        clients: Option<(SharedHttpClient, SharedHttpClient)>,
        settings: AwsSettings,
    ) -> Self {
        let Timeouts { connect, table, objects } = settings.timeouts;
        // One attempt per call: only the engine knows the caller's deadline, and an attempt that was repeated in here would
        // hide from it that the first may have been applied.
        let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(config)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts(connect, table));
        // Only where they are named: what the environment says for this service is in the configuration already.
        if let Some(endpoint) = &settings.dynamodb_endpoint {
            dynamodb = dynamodb.endpoint_url(endpoint);
        }
        let mut s3 = aws_sdk_s3::config::Builder::from(config)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts(connect, objects))
            .force_path_style(settings.s3_path_style);
        if let Some(endpoint) = &settings.s3_endpoint {
            s3 = s3.endpoint_url(endpoint);
        }
        if let Some((for_dynamodb, for_s3)) = clients {
            dynamodb = dynamodb.http_client(for_dynamodb);
            s3 = s3.http_client(for_s3);
        }
        let table = Table {
            client: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
            name: settings.table.clone(),
            layout: settings.layout.clone(),
            report_capacity: settings.report_capacity,
        };
        Self {
            table: Arc::new(table),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            region: config.region().map(|region| region.as_ref().to_owned()),
            settings: Arc::new(settings),
        }
    }

    /// What it was connected with.
    pub fn settings(&self) -> &AwsSettings {
        &self.settings
    }

    /// The ports.
    pub fn stores(&self) -> Stores {
        let AwsSettings { bucket, timeouts, .. } = &*self.settings;
        Stores {
            entries: Arc::new(DynamoEntries::new(self.table.clone())),
            log: Arc::new(DynamoLog::new(self.table.clone())),
            objects: Arc::new(S3Objects::new(self.s3.clone(), bucket.clone(), *timeouts)),
        }
    }
}

fn timeouts(connect: Duration, call: Duration) -> TimeoutConfig {
    TimeoutConfigBuilder::new().connect_timeout(connect).operation_attempt_timeout(call).build()
}
