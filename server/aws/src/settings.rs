//! What the adapters are told: where table and bucket are, how long to wait, and how the table is laid out.

use crate::key::{InvalidTemplate, PkTemplate};
use leasehold_core::object::ObjectName;
use std::time::Duration;

/// Where the state is, and how to talk to it. Credentials are not in it: they are found where every AWS tool finds them.
#[derive(Clone, Debug)]
pub struct AwsSettings {
    /// The region; `None` for that of the environment or the profile.
    pub region: Option<String>,
    /// The name of the table.
    pub table: String,
    /// The name of the bucket.
    pub bucket: String,
    /// Another DynamoDB than that of the region, as a URL.
    pub dynamodb_endpoint: Option<String>,
    /// Another S3 than that of the region, as a URL.
    pub s3_endpoint: Option<String>,
    /// Whether the bucket is named in the path of URLs rather than in the host: what most other S3 servers want.
    pub s3_path_style: bool,
    /// How long to wait. [`Timeouts::within`] makes them of what the engine waits for.
    pub timeouts: Timeouts,
    /// How the table is laid out.
    pub layout: Layout,
    /// Asks DynamoDB to say what each call consumed. For measuring; it changes nothing else.
    pub report_capacity: bool,
}

impl AwsSettings {
    /// The usual settings for a table and a bucket.
    pub fn new(table: impl Into<String>, bucket: impl Into<String>) -> Self {
        Self {
            region: None,
            table: table.into(),
            bucket: bucket.into(),
            dynamodb_endpoint: None,
            s3_endpoint: None,
            s3_path_style: false,
            timeouts: Timeouts::default(),
            layout: Layout::default(),
            report_capacity: false,
        }
    }
}

/// How long one call may take. There is one attempt per call: who repeats it decides when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect. What fails in it was surely not applied.
    pub connect: Duration,
    /// A call to DynamoDB, as a whole. A write that takes longer is of unknown outcome.
    pub table: Duration,
    /// A call to S3, as a whole, the transfer of the body included.
    pub objects: Duration,
}

impl Timeouts {
    /// Those that fit into what a request to the store may take as a whole, repetitions included, after which nobody waits for
    /// an answer: a call to the table that is not answered leaves time for another one, and one for a body has all of it.
    pub fn within(request: Duration) -> Self {
        Self { connect: request / 5, table: request * 2 / 5, objects: request }
    }
}

/// Within five seconds, which is what the engine waits by default.
impl Default for Timeouts {
    fn default() -> Self {
        Self::within(Duration::from_secs(5))
    }
}

/// How the table is laid out. Coordinators that share a table must have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The partition key of an entry.
    pub entry_key: PkTemplate,
    /// The partition key of the log: `LEASEHOLD#LOG` by default. Deployments of the coordinator that share a table, but
    /// not their pages, each need one of their own.
    pub log_key: String,
    /// What FaceTheory's `S3HtmlStore` is told as `keyPrefix`: an `s3_key` is the name of an object without it. Slashes
    /// around it make no difference. Empty by default. Rows of coordinators that are told another one are understood all the
    /// same; pages of FaceTheory are only found under their own.
    pub s3_key_prefix: String,
}

impl Layout {
    /// The layout of a table that FaceTheory keeps through TableTheory with its defaults: `CACHE#` and the raw key.
    ///
    /// # Panics
    /// Never: the template is known to be sound.
    pub fn table_theory() -> Self {
        let entry_key: Result<PkTemplate, InvalidTemplate> = "CACHE#{key}".parse();
        Self { entry_key: entry_key.expect("a sound template"), ..Self::default() }
    }

    /// The `s3_key` of an object.
    pub(crate) fn s3_key_of<'a>(&self, object: &'a ObjectName) -> &'a str {
        let inside = object.as_str().strip_prefix(self.prefix()).and_then(|rest| rest.strip_prefix('/'));
        inside.filter(|_| !self.prefix().is_empty()).unwrap_or(object.as_str())
    }

    /// The object of an `s3_key`, as FaceTheory's store would find it.
    pub(crate) fn object_of(&self, s3_key: &str) -> Option<ObjectName> {
        let (prefix, key) = (self.prefix(), s3_key.trim_start_matches('/'));
        let name = if prefix.is_empty() { key.into() } else { format!("{prefix}/{key}") };
        ObjectName::parse_stored(&name).ok()
    }

    fn prefix(&self) -> &str {
        self.s3_key_prefix.trim().trim_matches('/')
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            entry_key: PkTemplate::default(),
            log_key: "LEASEHOLD#LOG".into(),
            s3_key_prefix: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_to_the_table_that_hangs_leaves_time_for_a_second() {
        for request in [100, 5_000, 600_000].map(Duration::from_millis) {
            let Timeouts { connect, table, objects } = Timeouts::within(request);
            assert!(connect < table && table * 2 < request && objects == request, "{request:?}");
        }
        let Timeouts { connect, table, objects } = Timeouts::default();
        assert_eq!([connect, table, objects].map(|limit| limit.as_secs()), [1, 2, 5]);
    }
}
