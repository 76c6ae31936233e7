//! What the preflight asks for.

use super::{Problem, Report, Service, Warning};
use crate::{
    connect::Aws,
    error::Cause,
    item::{Item, PK, SK, TTL, number_value, text_value},
};
use aws_sdk_dynamodb::types::{
    KeyType, ScalarAttributeType, TableDescription, TableStatus, TimeToLiveStatus, TransactWriteItem, Update,
};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// The row and the object that are asked for. Neither ever exists.
const PROBE: &str = "leasehold-preflight";
/// A condition that nothing meets.
const NEVER: &str = "attribute_exists(pk) AND attribute_not_exists(pk)";

impl Aws {
    /// Asks for everything that the coordinator needs, and changes nothing. Answers with all that is wrong, not only with
    /// the first of it.
    pub async fn check(&self) -> Report {
        let mut report = Report::default();
        if self.region.is_none() {
            report.problems.push(Problem::NoRegion);
            return report;
        }
        if self.check_table(&mut report).await {
            report.warnings.extend(self.check_time_to_live().await);
            self.check_rights_on_table(&mut report).await;
        }
        if self.check_bucket(&mut report).await {
            self.check_rights_on_bucket(&mut report).await;
        }
        report
    }

    /// Whether there is a table worth asking further.
    async fn check_table(&self, report: &mut Report) -> bool {
        let table = &self.table.name;
        match self.table.client.describe_table().table_name(table).send().await {
            Ok(described) => {
                let Some(description) = described.table else { return true };
                let problem = judge_table(table, &description);
                let usable = problem.is_none();
                report.problems.extend(problem);
                usable
            }
            Err(SdkError::ServiceError(error)) if error.err().is_resource_not_found_exception() => {
                report.problems.push(Problem::NoTable { table: table.clone(), region: self.region() });
                false
            }
            Err(error) => goes_on(report, on_table(table, "dynamodb:DescribeTable").judge(&error)),
        }
    }

    async fn check_time_to_live(&self) -> Option<Warning> {
        let table = self.table.name.clone();
        match self.time_to_live().await {
            Err(cause) => Some(Warning::UnknownTimeToLive { table, why: cause.to_string() }),
            Ok(None) => Some(Warning::NoTimeToLive { table }),
            Ok(Some(attribute)) if attribute != TTL => Some(Warning::OtherTimeToLive { table, attribute }),
            Ok(Some(_)) => None,
        }
    }

    /// The attribute by which the table deletes, if it does.
    pub(crate) async fn time_to_live(&self) -> Result<Option<String>, Cause> {
        let asked = self.table.client.describe_time_to_live().table_name(&self.table.name).send().await;
        let description = asked.map_err(|error| Cause::of(&error))?.time_to_live_description;
        Ok(description.and_then(|description| match description.time_to_live_status {
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling) => {
                Some(description.attribute_name.unwrap_or_default())
            }
            _ => None,
        }))
    }

    async fn check_rights_on_table(&self, report: &mut Report) {
        let (client, table) = (&self.table.client, &self.table.name);
        let get = client.get_item().table_name(table).set_key(Some(probe("META"))).consistent_read(true);
        report.problems.extend(on_table(table, "dynamodb:GetItem").allowed(get.send().await));
        let query = client
            .query()
            .table_name(table)
            .key_condition_expression(format!("{PK} = :pk"))
            .expression_attribute_values(":pk", text_value(PROBE))
            .consistent_read(true)
            .limit(1);
        report.problems.extend(on_table(table, "dynamodb:Query").allowed(query.send().await));
        let put =
            client.put_item().table_name(table).set_item(Some(probe("META"))).condition_expression(NEVER);
        report.problems.extend(on_table(table, "dynamodb:PutItem").allowed(put.send().await));
        let update = Update::builder()
            .table_name(table)
            .set_key(Some(probe("HEAD")))
            .update_expression("SET seq = :seq")
            .expression_attribute_values(":seq", number_value(0))
            .condition_expression(NEVER)
            .build()
            .expect("an update with all its parts");
        // In a transaction, as an append has it; the right to one is that to its parts.
        let append =
            client.transact_write_items().transact_items(TransactWriteItem::builder().update(update).build());
        report.problems.extend(on_table(table, "dynamodb:UpdateItem").allowed(append.send().await));
        report.problems.dedup();
    }

    /// Whether there is a bucket worth asking further.
    async fn check_bucket(&self, report: &mut Report) -> bool {
        let bucket = &self.settings.bucket;
        let Err(error) = self.s3.head_bucket().bucket(bucket).send().await else { return true };
        // Answered without a body, so that there is only the status to go by.
        let problem = match Cause::of(&error) {
            Cause::Service { status: 404, .. } => Problem::NoBucket { bucket: bucket.clone() },
            Cause::Service { status: 301 | 307 | 400, .. } => {
                Problem::BucketElsewhere { bucket: bucket.clone(), region: self.region() }
            }
            _ => on_bucket(bucket, "s3:ListBucket").judge(&error),
        };
        goes_on(report, problem)
    }

    async fn check_rights_on_bucket(&self, report: &mut Report) {
        let bucket = &self.settings.bucket;
        // Without the right to list, S3 calls an absent object forbidden: that is told already, and hides this one.
        let lists = !report
            .problems
            .iter()
            .any(|problem| matches!(problem, Problem::NoRight { right: "s3:ListBucket", .. }));
        if lists {
            let get = self.s3.get_object().bucket(bucket).key(PROBE).send().await;
            report.problems.extend(on_bucket(bucket, "s3:GetObject").allowed(get));
        }
        // Only over an object that is there, which it is not.
        let put = self.s3.put_object().bucket(bucket).key(PROBE).if_match("\"0\"").send().await;
        report.problems.extend(on_bucket(bucket, "s3:PutObject").allowed(put));
        let object = ObjectIdentifier::builder().key(PROBE).build().expect("an object with a key");
        let batch = Delete::builder().objects(object).build().expect("a batch with an object");
        match self.s3.delete_objects().bucket(bucket).delete(batch).send().await {
            // Denied key by key.
            Ok(answer) if answer.errors().iter().any(|error| error.code() == Some("AccessDenied")) => {
                report.problems.push(on_bucket(bucket, "s3:DeleteObject").missing());
            }
            answer => report.problems.extend(on_bucket(bucket, "s3:DeleteObject").allowed(answer)),
        }
    }

    pub(crate) fn region(&self) -> String {
        self.region.clone().unwrap_or_else(|| "(none set)".into())
    }
}

/// Whether more can be learned in spite of a problem: a missing right to look hides nothing else.
fn goes_on(report: &mut Report, problem: Problem) -> bool {
    let goes_on = matches!(problem, Problem::NoRight { .. });
    report.problems.push(problem);
    goes_on
}

fn probe(sk: &str) -> Item {
    Item::from([(PK.into(), text_value(PROBE)), (SK.into(), text_value(sk))])
}

/// One right, and on what.
#[derive(Clone, Copy)]
struct Right<'a> {
    service: Service,
    right: &'static str,
    resource: &'a str,
}

fn on_table<'a>(table: &'a str, right: &'static str) -> Right<'a> {
    Right { service: Service::DynamoDb, right, resource: table }
}

fn on_bucket<'a>(bucket: &'a str, right: &'static str) -> Right<'a> {
    Right { service: Service::S3, right, resource: bucket }
}

impl Right<'_> {
    /// What the answer to a probe says is wrong. That nothing is there, or that the condition does not hold, is said only
    /// to who has the right.
    fn allowed<T, E: ProvideErrorMetadata>(
        self,
        answer: Result<T, SdkError<E, HttpResponse>>,
    ) -> Option<Problem> {
        const ALLOWED: [&str; 5] = [
            "ConditionalCheckFailedException",
            "TransactionCanceledException",
            "NoSuchKey",
            "PreconditionFailed",
            // A server like S3 that has no such condition for puts says nothing about rights.
            "NotImplemented",
        ];
        let error = answer.err()?;
        match Cause::of(&error) {
            Cause::Service { code: Some(code), .. } if ALLOWED.contains(&&*code) => None,
            _ => Some(self.judge(&error)),
        }
    }

    fn judge<E: ProvideErrorMetadata>(self, error: &SdkError<E, HttpResponse>) -> Problem {
        let Self { service, right, resource } = self;
        let cause = Cause::of(error);
        if cause.is_denied() {
            return self.missing();
        }
        match cause {
            Cause::Credentials => Problem::NoCredentials { service },
            Cause::Request | Cause::Connect | Cause::Timeout | Cause::Connection | Cause::Answer => {
                Problem::Unreachable { service, why: cause.to_string() }
            }
            Cause::Service { .. } => {
                Problem::Fails { right, resource: resource.into(), why: cause.to_string() }
            }
        }
    }

    fn missing(self) -> Problem {
        Problem::NoRight { right: self.right, resource: self.resource.into() }
    }
}

fn judge_table(table: &str, description: &TableDescription) -> Option<Problem> {
    match &description.table_status {
        None | Some(TableStatus::Active | TableStatus::Updating) => {}
        Some(status) => {
            let status = status.as_str().to_owned();
            return Some(Problem::TableNotActive { table: table.into(), status });
        }
    }
    let kind = |name: &str| {
        description
            .attribute_definitions()
            .iter()
            .find(|attribute| attribute.attribute_name() == name)
            .map(|attribute| attribute.attribute_type())
    };
    let found: Vec<(&str, &KeyType, Option<&ScalarAttributeType>)> = description
        .key_schema()
        .iter()
        .map(|key| (key.attribute_name(), key.key_type(), kind(key.attribute_name())))
        .collect();
    let text = Some(&ScalarAttributeType::S);
    if found == [(PK, &KeyType::Hash, text), (SK, &KeyType::Range, text)] {
        return None;
    }
    let said: Vec<String> = found
        .iter()
        .map(|(name, _, kind)| format!("{name} ({})", kind.map_or("unknown", |kind| kind.as_str())))
        .collect();
    Some(Problem::KeySchema { table: table.into(), found: said.join(" and ") })
}
