//! DynamoDB and S3 in the process, behind the real SDK, without a socket: what a test needs to see every answer that the
//! services may give.
//!
//! ```text
//! let doubles = Doubles::new();
//! let aws = doubles.ready().await;                 // table and bucket are there
//! doubles.faults.add(Rule::on("PutItem", Fault::FailAfter).nth(1));
//! aws.stores().entries.swap(...).await             // applied, and answered with 500
//! doubles.counters.of("PutItem")                   // 1
//! ```
//!
//! Strict where strictness finds bugs: signatures, checksums and conditions are verified, and DynamoDB's expressions are
//! parsed. Test doubles all the same, not authorities: there are no eventual reads and no conflicts of transactions, and
//! nothing is throttled by itself.

mod connector;
mod counting;
mod dynamodb;
mod faults;
mod fixture;
mod s3;
pub mod samples;

pub use counting::Counters;
pub use dynamodb::DynamoDbDouble;
pub use faults::{Fault, Faults, Rule};
pub use fixture::AwsFixture;
pub use s3::S3Double;

use crate::{connect::Aws, settings::AwsSettings};
use aws_credential_types::Credentials;
use std::sync::Arc;

/// The key that the doubles know.
const ACCESS_KEY: &str = "AKIDLEASEHOLD";
const SECRET_KEY: &str = "a secret of no consequence";

/// Both doubles, with faults and counts in front of them. Clones are the same.
#[derive(Clone, Default)]
pub struct Doubles {
    /// The table's side.
    pub dynamodb: DynamoDbDouble,
    /// The bucket's side.
    pub s3: S3Double,
    /// What goes wrong on the way. Nothing, at first.
    pub faults: Faults,
    /// What was asked for, also of what went wrong.
    pub counters: Arc<Counters>,
}

impl Doubles {
    /// Empty: neither a table nor a bucket.
    pub fn new() -> Self {
        Self::default()
    }

    /// Table and bucket `leasehold-test`, and reports of what is consumed.
    pub fn settings() -> AwsSettings {
        AwsSettings {
            region: Some("eu-west-1".into()),
            s3_path_style: true,
            report_capacity: true,
            ..AwsSettings::new("leasehold-test", "leasehold-test")
        }
    }

    /// A handle on the doubles, as if another coordinator had made it.
    pub fn connect(&self, settings: AwsSettings) -> Aws {
        let Self { dynamodb, s3, faults, counters } = self;
        let in_front = |server| connector::client(counting::count(faults.in_front_of(server), counters));
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "fixed");
        Aws::through(settings, in_front(dynamodb.server()), in_front(s3.server()), credentials)
    }

    /// A handle on a table and a bucket that are there, with [`Doubles::settings`].
    ///
    /// # Panics
    /// When they cannot be created.
    pub async fn ready(&self) -> Aws {
        let aws = self.connect(Self::settings());
        aws.init().await.expect("create table and bucket");
        aws
    }
}
