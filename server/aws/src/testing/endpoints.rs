//! Endpoints that the environment names, as a fixture of the suites: emulators, other servers, AWS itself.
//!
//! | variable | what it says |
//! |---|---|
//! | `LEASEHOLD_TEST_DYNAMODB_ENDPOINT` | the URL of a DynamoDB, or `aws` for the region's own |
//! | `LEASEHOLD_TEST_S3_ENDPOINT` | the URL of an S3, which is asked with the bucket in the path, or `aws` for the region's own |
//! | `LEASEHOLD_TEST_REGION` | the region of both |
//! | `LEASEHOLD_TEST_NAME` | how the names of tables and buckets begin; another one for every run |
//!
//! All are required: a suite that asked nobody must not look as if it had passed. Credentials are found where every AWS tool
//! finds them.

use crate::{
    connect::Aws,
    settings::{AwsSettings, Timeouts},
};
use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::types::AttributeValue;
use leasehold_core::time::Timestamp;
use leasehold_store::{conformance::Fixture, port::Stores};
use retrying::Retrying;
use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::runtime::Handle;

mod retrying;

/// The value of an endpoint that means the region's own.
const OF_THE_REGION: &str = "aws";
/// Long enough for an emulator in an interpreter on a machine with other work: what is tested is what is answered, not when.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(10),
    table: Duration::from_secs(30),
    objects: Duration::from_secs(60),
};
/// How often a bucket is emptied before it is given up: what a clause dropped may still arrive meanwhile.
const EMPTYINGS: usize = 10;
const BETWEEN_EMPTYINGS: Duration = Duration::from_millis(300);

/// A table and a bucket for one clause alone, deleted when it is dropped.
pub struct EndpointFixture {
    settings: AwsSettings,
    repeats: bool,
    /// Draws the seeds of the handles' delays.
    handles: AtomicU64,
}

impl EndpointFixture {
    /// For the ports themselves: what a service refuses without deciding it is repeated, as an engine would.
    ///
    /// # Panics
    /// Where a variable is missing, or table and bucket cannot be created.
    pub async fn new() -> Self {
        Self::with(true).await
    }

    /// For an engine, which repeats by itself.
    ///
    /// # Panics
    /// As [`EndpointFixture::new`].
    pub async fn for_an_engine() -> Self {
        Self::with(false).await
    }

    async fn with(repeats: bool) -> Self {
        static CLAUSES: AtomicU64 = AtomicU64::new(1);
        let name = format!("{}-{}", required("LEASEHOLD_TEST_NAME"), CLAUSES.fetch_add(1, Ordering::Relaxed));
        let endpoint = |variable| Some(required(variable)).filter(|value| value != OF_THE_REGION);
        let s3_endpoint = endpoint("LEASEHOLD_TEST_S3_ENDPOINT");
        let settings = AwsSettings {
            region: Some(required("LEASEHOLD_TEST_REGION")),
            dynamodb_endpoint: endpoint("LEASEHOLD_TEST_DYNAMODB_ENDPOINT"),
            // A server that is not the region's has no names for its buckets in the DNS.
            s3_path_style: s3_endpoint.is_some(),
            s3_endpoint,
            timeouts: TIMEOUTS,
            ..AwsSettings::new(&*name, &*name)
        };
        // Before anything is created, so that what is created is deleted also when something else cannot be.
        let fixture = Self { settings, repeats, handles: AtomicU64::new(0) };
        fixture.connect().await.init().await.expect("create table and bucket");
        fixture
    }

    /// A handle of its own on table and bucket.
    pub async fn connect(&self) -> Aws {
        Aws::connect(self.settings.clone()).await
    }

    /// For what the adapters never do.
    async fn config(&self) -> SdkConfig {
        let region = self.settings.region.clone().map(Region::new);
        aws_config::defaults(BehaviorVersion::latest()).region(region).load().await
    }
}

#[async_trait]
impl Fixture for EndpointFixture {
    async fn open(&self) -> Stores {
        let stores = self.connect().await.stores();
        let seed = self.handles.fetch_add(1, Ordering::Relaxed);
        if self.repeats { Retrying::around(stores, seed) } else { stores }
    }

    /// Coordinators end; the services go on.
    async fn restart(&self) -> Stores {
        self.open().await
    }

    /// As for a restart: a handle has nothing of its own to lose. That the services lose nothing is their promise.
    async fn crash(&self) -> Stores {
        self.open().await
    }

    /// Deletes what has expired, which the service does by itself within days at best.
    async fn forget(&self, now: Timestamp) {
        let settings = &self.settings;
        let config = self.config().await;
        expire(&dynamodb(&config, settings), &settings.table, now).await.expect("delete what has expired");
    }
}

impl Drop for EndpointFixture {
    /// Waits for the deletions, so that they are done when the last test ends. Says what it could not delete, and does not
    /// fail for it: what the clause showed counts.
    fn drop(&mut self) {
        let settings = &self.settings;
        let deletions = async {
            let config = self.config().await;
            let deleted = dynamodb(&config, settings).delete_table().table_name(&settings.table).send().await;
            if let Err(error) = deleted.map_err(aws_sdk_dynamodb::Error::from) {
                eprintln!("table {} is left behind: {error}", settings.table);
            }
            if let Err(error) = delete_bucket(&s3(&config, settings), &settings.bucket).await {
                eprintln!("bucket {} is left behind: {error}", settings.bucket);
            }
        };
        tokio::task::block_in_place(|| Handle::current().block_on(deletions));
    }
}

fn required(variable: &str) -> String {
    env::var(variable).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| {
        panic!(
            "{variable} is not set: these tests ask the servers that the environment names; see tests/aws/run"
        )
    })
}

fn dynamodb(config: &SdkConfig, settings: &AwsSettings) -> aws_sdk_dynamodb::Client {
    let mut builder = aws_sdk_dynamodb::config::Builder::from(config);
    builder.set_endpoint_url(settings.dynamodb_endpoint.clone());
    aws_sdk_dynamodb::Client::from_conf(builder.build())
}

fn s3(config: &SdkConfig, settings: &AwsSettings) -> aws_sdk_s3::Client {
    let mut builder = aws_sdk_s3::config::Builder::from(config).force_path_style(settings.s3_path_style);
    builder.set_endpoint_url(settings.s3_endpoint.clone());
    aws_sdk_s3::Client::from_conf(builder.build())
}

/// By the attribute that the table's time to live is set to.
async fn expire(
    client: &aws_sdk_dynamodb::Client,
    table: &str,
    now: Timestamp,
) -> Result<(), aws_sdk_dynamodb::Error> {
    let mut pages = client
        .scan()
        .table_name(table)
        .consistent_read(true)
        .projection_expression("pk, sk")
        .filter_expression("#ttl < :now")
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":now", AttributeValue::N(now.as_secs().to_string()))
        .into_paginator()
        .send();
    while let Some(page) = pages.next().await {
        for key in page?.items() {
            client.delete_item().table_name(table).set_key(Some(key.clone())).send().await?;
        }
    }
    Ok(())
}

async fn delete_bucket(client: &aws_sdk_s3::Client, bucket: &str) -> Result<(), aws_sdk_s3::Error> {
    let mut emptyings = 1;
    loop {
        empty(client, bucket).await?;
        match client.delete_bucket().bucket(bucket).send().await {
            Ok(_) => return Ok(()),
            Err(error) if emptyings == EMPTYINGS => return Err(error.into()),
            Err(_) => tokio::time::sleep(BETWEEN_EMPTYINGS).await,
        }
        emptyings += 1;
    }
}

async fn empty(client: &aws_sdk_s3::Client, bucket: &str) -> Result<(), aws_sdk_s3::Error> {
    let mut pages = client.list_objects_v2().bucket(bucket).into_paginator().send();
    while let Some(page) = pages.next().await {
        for object in page?.contents() {
            client.delete_object().bucket(bucket).key(object.key().unwrap_or_default()).send().await?;
        }
    }
    Ok(())
}
