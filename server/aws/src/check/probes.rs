//! What the preflight asks for.

use super::{Problem, Report, Service, Warning};
use crate::{
    connect::Aws,
    error::Cause,
    item::{Item, PK, SK, TTL, number_value, text_value},
    patience::Patience,
    row,
};
use aws_sdk_dynamodb::types::{
    KeyType, ScalarAttributeType, TableDescription, TableStatus, TimeToLiveStatus, TransactWriteItem, Update,
};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use leasehold_core::{
    identity::{EntryId, EntryKey, TenantId},
    object::ObjectPrefix,
};

/// What is asked for, beside what is asked for in earnest: under the object prefix, as an entry, and in the partition of the
/// log. None of these ever exists.
const PROBE: &str = "leasehold-preflight";
/// A condition that nothing meets.
const NEVER: &str = "attribute_exists(pk) AND attribute_not_exists(pk)";
/// The entity tag of no object.
const NO_ETAG: &str = "\"0\"";

impl Aws {
    /// Asks for everything that the coordinator needs, and changes nothing. Answers with all that is wrong, not only with
    /// the first of it. What passes by itself is waited out for three seconds, call by call.
    ///
    /// `prefix` is the one under which the coordinator keeps its objects.
    pub async fn check(&self, prefix: &ObjectPrefix) -> Report {
        if self.region.is_none() {
            return Report { problems: vec![Problem::NoRegion], warnings: Vec::new() };
        }
        let (mut table, mut bucket) = (Report::default(), Report::default());
        let of_table = async {
            if self.check_table(&mut table).await {
                table.warnings.extend(self.check_time_to_live().await);
                self.check_rights_on_table(&mut table).await;
            }
        };
        let of_bucket = async {
            if self.check_bucket(&mut bucket).await {
                self.check_rights_on_bucket(prefix, &mut bucket).await;
            }
        };
        // At once, so that two services that do not answer take no longer to be told than one.
        tokio::join!(of_table, of_bucket);
        table.problems.extend(bucket.problems);
        table
    }

    /// Whether there is a table worth asking further.
    async fn check_table(&self, report: &mut Report) -> bool {
        let table = &self.table.name;
        let describe = || self.table.client.describe_table().table_name(table).send();
        match Patience::OF_A_START.repeat(describe).await {
            Ok(described) => {
                let Some(description) = described.table else { return true };
                let problem = judge_table(table, &description);
                let usable = problem.is_none();
                report.problems.extend(problem);
                usable
            }
            Err(Cause::Service { code: Some(code), .. }) if code == "ResourceNotFoundException" => {
                report.problems.push(Problem::NoTable { table: table.clone(), region: self.region() });
                false
            }
            Err(cause) => goes_on(report, on_table(table, "dynamodb:DescribeTable").judge(&cause)),
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
        let ask = || self.table.client.describe_time_to_live().table_name(&self.table.name).send();
        let description = Patience::OF_A_START.repeat(ask).await?.time_to_live_description;
        Ok(description.and_then(|description| match description.time_to_live_status {
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling) => {
                Some(description.attribute_name.unwrap_or_default())
            }
            _ => None,
        }))
    }

    /// In the partitions that the coordinator uses: a role may be kept to these.
    async fn check_rights_on_table(&self, report: &mut Report) {
        let (client, table) = (&self.table.client, &self.table.name);
        let patience = Patience::OF_A_START;
        let (row, of_log) = (self.row_of_nothing(), self.item_of_log(PROBE));
        let get = client.get_item().table_name(table).set_key(Some(row.clone())).consistent_read(true);
        let got = patience.repeat(|| get.clone().send()).await;
        report.problems.extend(on_table(table, "dynamodb:GetItem").allowed(got));
        let query = client
            .query()
            .table_name(table)
            .key_condition_expression(format!("{PK} = :pk AND {SK} = :sk"))
            .expression_attribute_values(":pk", of_log[PK].clone())
            .expression_attribute_values(":sk", of_log[SK].clone())
            .consistent_read(true)
            .limit(1);
        let queried = patience.repeat(|| query.clone().send()).await;
        report.problems.extend(on_table(table, "dynamodb:Query").allowed(queried));
        let put = client.put_item().table_name(table).set_item(Some(row)).condition_expression(NEVER);
        let put = patience.repeat(|| put.clone().send()).await;
        report.problems.extend(on_table(table, "dynamodb:PutItem").allowed(put));
        let update = Update::builder()
            .table_name(table)
            .set_key(Some(of_log))
            .update_expression("SET seq = :seq")
            .expression_attribute_values(":seq", number_value(0))
            .condition_expression(NEVER)
            .build()
            .expect("an update with all its parts");
        // In a transaction, as an append has it; the right to one is that to its parts.
        let append =
            client.transact_write_items().transact_items(TransactWriteItem::builder().update(update).build());
        let appended = patience.repeat(|| append.clone().send()).await;
        report.problems.extend(on_table(table, "dynamodb:UpdateItem").allowed(appended));
        report.problems.dedup();
    }

    /// The key of an entry that nobody has. Begins with its tenant, as every layout takes it.
    fn row_of_nothing(&self) -> Item {
        let id = EntryId {
            tenant: TenantId::parse("default").expect("a tenant"),
            deployment: None,
            key: EntryKey::parse(&format!("default::{PROBE}")).expect("a key"),
        };
        row::key(&self.table.layout, &id).unwrap_or_else(|_| self.item_of_log(PROBE))
    }

    fn item_of_log(&self, sk: &str) -> Item {
        Item::from([(PK.into(), text_value(&self.table.layout.log_key)), (SK.into(), text_value(sk))])
    }

    /// Whether there is a bucket worth asking further.
    async fn check_bucket(&self, report: &mut Report) -> bool {
        let bucket = &self.settings.bucket;
        let asked = Patience::OF_A_START.repeat(|| self.s3.head_bucket().bucket(bucket).send()).await;
        let Err(cause) = asked else { return true };
        // Answered without a body, so that there is only the status to go by.
        let problem = match cause {
            Cause::Service { status: 404, .. } => Problem::NoBucket { bucket: bucket.clone() },
            Cause::Service { status: 301 | 307 | 400, .. } => {
                Problem::BucketElsewhere { bucket: bucket.clone(), region: self.region() }
            }
            cause => on_bucket(bucket, "s3:ListBucket").judge(&cause),
        };
        goes_on(report, problem)
    }

    /// Under the prefix: a role may be kept to it. Nothing is written, and nothing deleted, not even a name that is free, which
    /// a bucket with versions would note.
    async fn check_rights_on_bucket(&self, prefix: &ObjectPrefix, report: &mut Report) {
        let (bucket, patience) = (&self.settings.bucket, Patience::OF_A_START);
        let directory = match prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let (name, objects) = (format!("{directory}{PROBE}"), format!("{bucket}/{directory}*"));
        // Without the right to list, S3 calls an absent object forbidden: that is told already, and hides this one.
        let lists = !report
            .problems
            .iter()
            .any(|problem| matches!(problem, Problem::NoRight { right: "s3:ListBucket", .. }));
        if lists {
            let got = patience.repeat(|| self.s3.get_object().bucket(bucket).key(&name).send()).await;
            report.problems.extend(on_bucket(&objects, "s3:GetObject").allowed(got));
        }
        // Only over an object that is there, which it is not.
        let put = || self.s3.put_object().bucket(bucket).key(&name).if_match(NO_ETAG).send();
        let put = patience.repeat(put).await;
        let is_there = put.is_ok();
        report.problems.extend(on_bucket(&objects, "s3:PutObject").allowed(put));
        // A server like S3 that heeds no such condition has it now.
        let condition = (!is_there).then_some(NO_ETAG);
        let deleted = patience.repeat(|| self.delete_probe(&name, condition)).await;
        report.problems.extend(on_bucket(&objects, "s3:DeleteObject").allowed(deleted));
    }

    /// As the coordinator deletes, and only the object of this entity tag. What is denied, or fails, is said key by key.
    async fn delete_probe(&self, name: &str, etag: Option<&str>) -> Result<(), Cause> {
        let object = ObjectIdentifier::builder().key(name).set_e_tag(etag.map(str::to_owned)).build();
        let batch = Delete::builder().objects(object.expect("an object with a key")).build();
        let batch = batch.expect("a batch with an object");
        let answer = self.s3.delete_objects().bucket(&self.settings.bucket).delete(batch).send().await?;
        match answer.errors() {
            [] => Ok(()),
            [error, ..] => Err(Cause::of_code(error.code())),
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
    fn allowed<T>(self, answer: Result<T, Cause>) -> Option<Problem> {
        const ALLOWED: [&str; 5] = [
            "ConditionalCheckFailedException",
            "TransactionCanceledException",
            "NoSuchKey",
            "PreconditionFailed",
            // A server like S3 that has no such condition says nothing about rights.
            "NotImplemented",
        ];
        match answer.err()? {
            Cause::Service { code: Some(code), .. } if ALLOWED.contains(&&*code) => None,
            cause => Some(self.judge(&cause)),
        }
    }

    fn judge(self, cause: &Cause) -> Problem {
        let Self { service, right, resource } = self;
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
