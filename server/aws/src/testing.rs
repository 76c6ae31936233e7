//! DynamoDB and S3 in the process, behind the real SDK: what a test needs to see every answer that the services may give.
//! Without a socket, or on loopback for coordinators that are processes of their own.
//!
//! ```text
//! let doubles = Doubles::new();
//! let aws = doubles.ready().await;                 // table and bucket are there
//! doubles.faults.add(Rule::on("PutItem", Fault::FailAfter).nth(1));
//! aws.stores().entries.swap(...).await             // applied, and answered with 500
//! doubles.counters.of("PutItem")                   // 1
//! let network = doubles.beside();                  // the same services, faults and counts of its own
//! let listening = network.listen().await;          // until it is dropped
//! ```
//!
//! Strict where strictness finds bugs: signatures, checksums and conditions are verified, and DynamoDB's expressions are
//! parsed. Test doubles all the same, not authorities: there are no eventual reads and no conflicts of transactions, and
//! nothing is throttled by itself.

mod connector;
mod counting;
mod dynamodb;
#[cfg(feature = "endpoints")]
pub mod endpoints;
mod faults;
mod fixture;
mod s3;
pub mod samples;
mod sockets;

pub use counting::Counters;
pub use dynamodb::DynamoDbDouble;
pub use faults::{Fault, Faults, Rule};
pub use fixture::AwsFixture;
pub use s3::S3Double;
pub use sockets::Listening;

use crate::{
    check::Service,
    connect::Aws,
    item::{RECORD, SK},
    log::EVENT,
    row::META,
    settings::AwsSettings,
};
use aws_credential_types::Credentials;
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_runtime_api::client::{
    http::SharedHttpClient,
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use connector::Server;
use leasehold_core::{entry::Entry, identity::EntryId, invalidation::LogEvent};
use leasehold_store::record;
use serde_json::Value;
use std::sync::Arc;

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
    /// The name of the key that the doubles know.
    pub const ACCESS_KEY: &str = "AKIDLEASEHOLD";
    /// The key itself.
    pub const SECRET_KEY: &str = "a secret of no consequence";

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
        let credentials = Credentials::new(Self::ACCESS_KEY, Self::SECRET_KEY, None, None, "fixed");
        let [dynamodb, s3] = self.servers().map(connector::client);
        Aws::through(settings, dynamodb, s3, credentials, SharedTimeSource::default())
    }

    /// A handle on these services through HTTP clients of the caller's, at that caller's time: for a simulated network, the
    /// far end of which hands what arrives to [`Doubles::answer`].
    pub fn connect_through(
        settings: AwsSettings,
        [dynamodb, s3]: [SharedHttpClient; 2],
        time: SharedTimeSource,
    ) -> Aws {
        let credentials = Credentials::new(Self::ACCESS_KEY, Self::SECRET_KEY, None, None, "fixed");
        Aws::through(settings, dynamodb, s3, credentials, time)
    }

    /// What a service answers to a request that has arrived there, under the script, and counted.
    ///
    /// # Errors
    /// When the connection is to break without an answer.
    pub async fn answer(
        &self,
        service: Service,
        request: HttpRequest,
    ) -> Result<HttpResponse, ConnectorError> {
        let [dynamodb, s3] = self.servers();
        match service {
            Service::DynamoDb => dynamodb(request).await,
            Service::S3 => s3(request).await,
        }
    }

    /// The entries in the table of [`Doubles::settings`], read past adapter and SDK.
    ///
    /// # Panics
    /// When there is no table, or a row of an entry in it that is not ours or does not decode.
    pub fn entries(&self) -> Vec<(EntryId, Entry)> {
        let rows = self.dynamodb.items(&Self::settings().table);
        let records = rows.iter().filter(|row| row[SK]["S"] == META).map(|row| row[RECORD]["B"].as_str());
        records
            .map(|record| {
                let record = STANDARD.decode(record.expect("a row of ours")).expect("base64");
                record::decode_any_entry(&record).expect("an entry")
            })
            .collect()
    }

    /// The events of the invalidation log in that table, likewise.
    ///
    /// # Panics
    /// When there is no table, or an event in it does not decode.
    pub fn events(&self) -> Vec<LogEvent> {
        let rows = self.dynamodb.items(&Self::settings().table);
        let is_event = |row: &&Value| row[SK]["S"].as_str().is_some_and(|sk| sk.starts_with(EVENT));
        let records = rows.iter().filter(is_event).map(|row| row[RECORD]["B"].as_str());
        records
            .map(|record| {
                let record = STANDARD.decode(record.expect("a record")).expect("base64");
                record::decode_event(&record).expect("an event")
            })
            .collect()
    }

    /// The SDK's own client of the bucket, without anything of ours: what somebody else has who shares it.
    pub fn s3_client(&self) -> aws_sdk_s3::Client {
        self.connect(Self::settings()).s3
    }

    /// Listens on loopback, at ports that the system picks. There, [`Fault::Refuse`] breaks a connection that stood already:
    /// who asked cannot know whether that had an effect.
    ///
    /// # Panics
    /// When there are no sockets.
    pub async fn listen(&self) -> Listening {
        let [dynamodb, s3] = self.servers();
        Listening::start(dynamodb, s3).await
    }

    /// The same services under a script and counts of their own: what another coordinator, which has a network of its own,
    /// sees of them.
    #[must_use]
    pub fn beside(&self) -> Self {
        let Self { dynamodb, s3, .. } = self.clone();
        Self { dynamodb, s3, faults: Faults::new(), counters: Arc::default() }
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

    /// Both services, under the script, and counted.
    fn servers(&self) -> [Server; 2] {
        let Self { dynamodb, s3, faults, counters } = self;
        [dynamodb.server(), s3.server()].map(|server| counting::count(faults.in_front_of(server), counters))
    }
}
