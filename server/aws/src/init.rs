//! Creates what is missing, for development and tests. In production, table and bucket belong to whoever owns the data.

use crate::{
    connect::Aws,
    error::Cause,
    item::{PK, SK, TTL},
};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
    TimeToLiveSpecification,
};
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::{fmt, time::Duration};

/// How often it is asked whether a new table is ready, and how many times at most: a minute in all.
const TABLE_POLL: Duration = Duration::from_millis(500);
const TABLE_POLLS: u32 = 120;
/// The region whose buckets are created without naming it.
const FIRST_REGION: &str = "us-east-1";

/// One thing that was created or set, in the order in which it was done. `Display` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// A table with keys `pk` and `sk`, billed by request.
    CreatedTable(String),
    /// The table deletes by `ttl`.
    SetTimeToLive(String),
    /// A bucket.
    CreatedBucket(String),
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreatedTable(table) => write!(f, "created table `{table}`, billed by request"),
            Self::SetTimeToLive(table) => {
                write!(f, "set the time to live of table `{table}` to attribute {TTL}")
            }
            Self::CreatedBucket(bucket) => write!(f, "created bucket `{bucket}`"),
        }
    }
}

/// What could not be done. What was done before it stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// It is not known in which region.
    #[error("no region is set: name it, or set AWS_REGION")]
    NoRegion,
    /// A call failed.
    #[error("{operation} of `{resource}` failed: {why}")]
    Call {
        /// The call.
        operation: &'static str,
        /// Table or bucket.
        resource: String,
        /// What the service said.
        why: String,
    },
    /// The table did not become ready in time.
    #[error("table `{0}` was created, but is not ready yet; try again")]
    NotReady(String),
}

impl Aws {
    /// Creates table, time to live and bucket where they are missing; what is there is left as it is. Can be repeated, also
    /// by several at once. Answers with what it did.
    ///
    /// # Errors
    /// [`InitError`], at the first call that fails.
    pub async fn init(&self) -> Result<Vec<Done>, InitError> {
        if self.region.is_none() {
            return Err(InitError::NoRegion);
        }
        let mut done = Vec::new();
        done.extend(self.create_table().await?);
        done.extend(self.set_time_to_live().await?);
        done.extend(self.create_bucket().await?);
        Ok(done)
    }

    async fn create_table(&self) -> Result<Option<Done>, InitError> {
        let table = &self.table.name;
        if self.table_status().await?.is_some() {
            return Ok(None);
        }
        let mut create =
            self.table.client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in [(PK, KeyType::Hash), (SK, KeyType::Range)] {
            let key = KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
            let attribute = AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S)
                .build();
            create = create
                .key_schema(key.expect("a key with its parts"))
                .attribute_definitions(attribute.expect("an attribute with its parts"));
        }
        let created = match create.send().await {
            Ok(_) => Some(Done::CreatedTable(table.clone())),
            // Somebody else was faster.
            Err(SdkError::ServiceError(error)) if error.err().is_resource_in_use_exception() => None,
            Err(error) => return Err(failed("CreateTable", table, &error)),
        };
        for _ in 0..TABLE_POLLS {
            if self.table_status().await? == Some(TableStatus::Active) {
                return Ok(created);
            }
            tokio::time::sleep(TABLE_POLL).await;
        }
        Err(InitError::NotReady(table.clone()))
    }

    async fn table_status(&self) -> Result<Option<TableStatus>, InitError> {
        let table = &self.table.name;
        match self.table.client.describe_table().table_name(table).send().await {
            Ok(described) => Ok(described.table.and_then(|table| table.table_status)),
            Err(SdkError::ServiceError(error)) if error.err().is_resource_not_found_exception() => Ok(None),
            Err(error) => Err(failed("DescribeTable", table, &error)),
        }
    }

    async fn set_time_to_live(&self) -> Result<Option<Done>, InitError> {
        let table = &self.table.name;
        let call = |operation, why: String| InitError::Call { operation, resource: table.clone(), why };
        let set = self.time_to_live().await.map_err(|cause| call("DescribeTimeToLive", cause.to_string()))?;
        if set.is_some() {
            return Ok(None);
        }
        let on = TimeToLiveSpecification::builder().enabled(true).attribute_name(TTL).build();
        let update = self.table.client.update_time_to_live().table_name(table);
        match update.time_to_live_specification(on.expect("a specification with its parts")).send().await {
            Ok(_) => Ok(Some(Done::SetTimeToLive(table.clone()))),
            // Somebody else was faster: what is set already is refused.
            Err(_) if matches!(self.time_to_live().await, Ok(Some(_))) => Ok(None),
            Err(error) => Err(failed("UpdateTimeToLive", table, &error)),
        }
    }

    async fn create_bucket(&self) -> Result<Option<Done>, InitError> {
        let bucket = &self.settings.bucket;
        match self.s3.head_bucket().bucket(bucket).send().await {
            Ok(_) => return Ok(None),
            // Answered without a body, so that there is only the status to go by.
            Err(SdkError::ServiceError(error)) if error.raw().status().as_u16() == 404 => {}
            Err(error) => return Err(failed("HeadBucket", bucket, &error)),
        }
        let elsewhere = self.region.as_deref().filter(|region| *region != FIRST_REGION).map(|region| {
            let region = BucketLocationConstraint::from(region);
            CreateBucketConfiguration::builder().location_constraint(region).build()
        });
        let create = self.s3.create_bucket().bucket(bucket).set_create_bucket_configuration(elsewhere);
        match create.send().await {
            Ok(_) => Ok(Some(Done::CreatedBucket(bucket.clone()))),
            Err(SdkError::ServiceError(error)) if error.err().is_bucket_already_owned_by_you() => Ok(None),
            Err(error) => Err(failed("CreateBucket", bucket, &error)),
        }
    }
}

fn failed<E: ProvideErrorMetadata>(
    operation: &'static str,
    resource: &str,
    error: &SdkError<E, HttpResponse>,
) -> InitError {
    InitError::Call { operation, resource: resource.into(), why: Cause::of(error).to_string() }
}
