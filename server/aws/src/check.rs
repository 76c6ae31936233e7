//! The preflight: what is wrong with table, bucket and rights, all of it at once, and how to mend it.
//!
//! Rights are found out by asking for what is needed where it is needed, in ways that change nothing: objects that do not
//! exist, and writes and deletions whose condition cannot hold. They are those of the key `leasehold-preflight`, which nobody
//! has:
//!
//! | right | by | on |
//! |---|---|---|
//! | `dynamodb:DescribeTable` `DescribeTimeToLive` | the calls themselves | the table |
//! | `dynamodb:GetItem` `PutItem` | a read, and a put whose condition cannot hold | the partition of that key |
//! | `dynamodb:Query` `UpdateItem` | a query, and a transaction whose condition cannot hold | the partition of the log |
//! | `s3:ListBucket` | HeadBucket | the bucket |
//! | `s3:GetObject` | a GET of nothing | the object prefix |
//! | `s3:PutObject` | a PUT over the object of an entity tag that none has | the object prefix |
//! | `s3:DeleteObject` | the same for a deletion, so that none is noted where there are versions | the object prefix |

use std::fmt;

mod probes;

/// What the preflight found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// With any of these, the coordinator cannot serve.
    pub problems: Vec<Problem>,
    /// It serves, but something will be missed later.
    pub warnings: Vec<Warning>,
}

impl Report {
    /// Whether the coordinator can serve.
    pub fn is_ready(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What is wrong. `Display` says it, [`Problem::remedy`] how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A service cannot be asked at all.
    #[error("{service} cannot be reached: {why}")]
    Unreachable {
        /// Which one.
        service: Service,
        /// Why.
        why: String,
    },
    /// It is not known which DynamoDB and S3 to ask.
    #[error("no region is set")]
    NoRegion,
    /// Nothing to sign requests with.
    #[error("no credentials were found for {service}")]
    NoCredentials {
        /// For which service.
        service: Service,
    },
    /// There is no such table.
    #[error("table `{table}` does not exist in region {region}")]
    NoTable {
        /// Its name.
        table: String,
        /// Where it was looked for.
        region: String,
    },
    /// It is being created, deleted or restored.
    #[error("table `{table}` is {status}")]
    TableNotActive {
        /// Its name.
        table: String,
        /// DynamoDB's word for it.
        status: String,
    },
    /// Its key is another one than ours.
    #[error("the key of table `{table}` is {found}, not pk (string) and sk (string)")]
    KeySchema {
        /// Its name.
        table: String,
        /// What its key is.
        found: String,
    },
    /// There is no such bucket.
    #[error("bucket `{bucket}` does not exist")]
    NoBucket {
        /// Its name.
        bucket: String,
    },
    /// It is in another region than the one asked.
    #[error("bucket `{bucket}` is in another region than {region}")]
    BucketElsewhere {
        /// Its name.
        bucket: String,
        /// Where it was looked for.
        region: String,
    },
    /// A right is missing.
    #[error("no right to {right} on `{resource}`")]
    NoRight {
        /// As IAM policies name it.
        right: &'static str,
        /// Table, bucket, or `bucket/prefix/*`.
        resource: String,
    },
    /// A call failed in a way that says nothing about the reason.
    #[error("{right} on `{resource}` fails: {why}")]
    Fails {
        /// What was tried, as IAM policies name it.
        right: &'static str,
        /// Table, bucket, or `bucket/prefix/*`.
        resource: String,
        /// What the service said.
        why: String,
    },
}

impl Problem {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unreachable { service, .. } => {
                format!("Check the region and the endpoint of {service}, and the way there: VPC endpoint, proxy, security group.")
            }
            Self::NoRegion => "Name it with --region or LEASEHOLD_REGION, or set AWS_REGION.".into(),
            Self::NoCredentials { .. } => {
                "Give the task or instance a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.".into()
            }
            Self::NoTable { .. } => {
                "Check name and region, or create it with `leasehold init`: keys pk and sk, both strings.".into()
            }
            Self::TableNotActive { .. } => "Wait until it is ACTIVE.".into(),
            Self::KeySchema { .. } => {
                "The key of a table cannot be changed. Use another table, with partition key pk and sort key sk.".into()
            }
            Self::NoBucket { .. } => "Check its name, or create it with `leasehold init`.".into(),
            Self::BucketElsewhere { .. } => "Set the region to that of the bucket, where the table must be too.".into(),
            Self::NoRight { right, resource } => {
                format!("Allow {right} on `{resource}` in the policy of the role that the coordinator runs under.")
            }
            Self::Fails { .. } => "See what the service says of it; throttling passes by itself.".into(),
        }
    }
}

/// What will be missed. `Display` says it, [`Warning::remedy`] how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Nothing is ever deleted from the table.
    #[error("table `{table}` deletes nothing: its time to live is off")]
    NoTimeToLive {
        /// Its name.
        table: String,
    },
    /// The table deletes by another attribute than the one we write.
    #[error("table `{table}` takes its time to live from `{attribute}`, not from `ttl`")]
    OtherTimeToLive {
        /// Its name.
        table: String,
        /// The attribute that it takes it from.
        attribute: String,
    },
    /// The setting could not be read.
    #[error("whether table `{table}` deletes what is old could not be found out: {why}")]
    UnknownTimeToLive {
        /// Its name.
        table: String,
        /// What the service said.
        why: String,
    },
}

impl Warning {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoTimeToLive { .. } => "Turn it on, with attribute ttl, or with `leasehold init`.".into(),
            Self::OtherTimeToLive { .. } => {
                "Entries and events of the log stay for good, unless the table's setting is changed to ttl."
                    .into()
            }
            Self::UnknownTimeToLive { .. } => {
                "Allow dynamodb:DescribeTimeToLive, or make sure that it is on, with attribute ttl.".into()
            }
        }
    }
}

/// One of the two services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Entries and the log.
    DynamoDb,
    /// Bodies.
    S3,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DynamoDb => "DynamoDB",
            Self::S3 => "S3",
        })
    }
}
