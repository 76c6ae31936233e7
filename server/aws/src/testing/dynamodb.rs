//! DynamoDB, as dynoxide has it, over a database in memory.

use super::{
    connector::{Server, operation_of},
    faults::{dynamodb_error, response},
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use dynoxide::{Database, DynoxideError, actions::scan::ScanRequest, storage_backend::ManualClock};
use leasehold_core::time::Timestamp;
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A DynamoDB in the process. Clones are the same one. Its clock stands at the epoch until [`DynamoDbDouble::expire`] sets
/// it: nothing expires by itself.
#[derive(Clone)]
pub struct DynamoDbDouble {
    database: Database,
    clock: ManualClock,
    /// How many items a page of a Scan has at most; zero where nobody may scan.
    scan_page: Arc<AtomicUsize>,
    /// What partition keys begin with that may be touched; any, where there is nothing.
    allowed: Arc<Mutex<Vec<String>>>,
}

impl DynamoDbDouble {
    /// One without tables.
    ///
    /// # Panics
    /// When the database cannot be opened.
    pub fn new() -> Self {
        let clock = ManualClock::new(0);
        let database = Database::memory_with_clock(clock.arc()).expect("open a database in memory");
        Self { database, clock, scan_page: Arc::default(), allowed: Arc::default() }
    }

    /// Lets the SDK scan from now on, in pages of at most so many items. Until then a Scan is refused: it is an operator's
    /// tool, and a coordinator that scans has left its budget.
    pub fn allow_scan(&self, page: usize) {
        self.scan_page.store(page, Ordering::Relaxed);
    }

    /// From now on, partitions whose keys begin otherwise are forbidden, as to a role with a condition on leading keys.
    pub fn allow_only(&self, beginnings: &[&str]) {
        *self.allowed.lock() = beginnings.iter().map(|text| (*text).into()).collect();
    }

    /// Deletes what has expired by `now`, as DynamoDB does some time.
    ///
    /// # Panics
    /// When the database fails.
    pub fn expire(&self, now: Timestamp) {
        self.clock.set(now.as_secs());
        self.database.sweep_ttl().expect("delete what has expired");
    }

    /// Creates a table with another key than ours: names and types, the partition key first.
    ///
    /// # Panics
    /// When DynamoDB would refuse it.
    pub fn create_table(&self, table: &str, key: &[(&str, &str)]) {
        let named = |(name, kind): &(&str, &str)| json!({ "AttributeName": name, "AttributeType": kind });
        let keyed =
            |((name, _), role): (&(&str, &str), &str)| json!({ "AttributeName": name, "KeyType": role });
        self.call(
            "CreateTable",
            &json!({
                "TableName": table,
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": key.iter().map(named).collect::<Vec<_>>(),
                "KeySchema": key.iter().zip(["HASH", "RANGE"]).map(keyed).collect::<Vec<_>>(),
            }),
        );
    }

    /// Calls an operation as somebody else would who uses the table: request and answer are DynamoDB's JSON.
    ///
    /// # Panics
    /// When DynamoDB would refuse it.
    pub fn call(&self, operation: &str, request: &Value) -> Value {
        let request = serde_json::to_vec(request).expect("JSON");
        let answer = self.dispatch(operation, &request).expect("an answer");
        serde_json::from_slice(&answer).expect("JSON")
    }

    /// Every item of a table, as DynamoDB's JSON has them, whoever may scan.
    ///
    /// # Panics
    /// When there is no such table.
    pub fn items(&self, table: &str) -> Vec<Value> {
        let (mut items, mut start) = (Vec::new(), Value::Null);
        loop {
            let mut request = json!({ "TableName": table, "ConsistentRead": true });
            if !start.is_null() {
                request["ExclusiveStartKey"] = start;
            }
            let request = serde_json::to_vec(&request).expect("JSON");
            let answer = answered(&request, |request| self.database.scan(request)).expect("a table");
            let mut page: Value = serde_json::from_slice(&answer).expect("JSON");
            items.extend(page["Items"].as_array().cloned().unwrap_or_default());
            start = page["LastEvaluatedKey"].take();
            if start.is_null() {
                return items;
            }
        }
    }

    pub(super) fn server(&self) -> Server {
        let double = self.clone();
        Arc::new(move |request| {
            let double = double.clone();
            Box::pin(async move {
                // Somewhere else than the caller, so that a caller that goes away finds it before, in, or after the call.
                tokio::task::yield_now().await;
                let answer = double.answer(&request);
                tokio::task::yield_now().await;
                Ok(answer)
            })
        })
    }

    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let body = request.body().bytes().expect("the SDK sends JSON from memory");
        let operation = operation_of(request);
        if !self.allows(&serde_json::from_slice(body).unwrap_or_default()) {
            return dynamodb_error(400, "AccessDeniedException");
        }
        match strongly(&operation, body).and_then(|()| self.dispatch(&operation, body)) {
            Ok(answer) => response(200, SdkBody::from(answer)),
            Err(error) => response(error.status_code(), SdkBody::from(error.to_json())),
        }
    }

    /// Looks at whatever in a request stands for a partition key.
    fn allows(&self, request: &Value) -> bool {
        let allowed = self.allowed.lock().clone();
        let is_allowed =
            |pk: &str| allowed.is_empty() || allowed.iter().any(|beginning| pk.starts_with(beginning));
        match request {
            Value::Object(parts) => parts.iter().all(|(name, part)| match (&**name, part["S"].as_str()) {
                ("pk" | ":pk", Some(pk)) => is_allowed(pk),
                _ => self.allows(part),
            }),
            Value::Array(parts) => parts.iter().all(|part| self.allows(part)),
            _ => true,
        }
    }

    fn dispatch(&self, operation: &str, body: &[u8]) -> dynoxide::Result<Vec<u8>> {
        let db = &self.database;
        match operation {
            "CreateTable" => answered(body, |request| db.create_table(request)),
            "DescribeTable" => answered(body, |request| db.describe_table(request)),
            "DeleteTable" => answered(body, |request| db.delete_table(request)),
            "UpdateTimeToLive" if self.deletes_by_time(body)? => {
                Err(DynoxideError::ValidationException("TimeToLive is already enabled".into()))
            }
            "UpdateTimeToLive" => answered(body, |request| db.update_time_to_live(request)),
            "DescribeTimeToLive" => answered(body, |request| db.describe_time_to_live(request)),
            "GetItem" => answered(body, |request| db.get_item(request)),
            "PutItem" => answered(body, |request| db.put_item(request)),
            "UpdateItem" => answered(body, |request| db.update_item(request)),
            "DeleteItem" => answered(body, |request| db.delete_item(request)),
            "Query" => answered(body, |request| db.query(request)),
            "Scan" if self.scan_page.load(Ordering::Relaxed) > 0 => {
                answered(body, |mut request: ScanRequest| {
                    let page = self.scan_page.load(Ordering::Relaxed);
                    request.limit = Some(request.limit.map_or(page, |limit| limit.min(page)));
                    db.scan(request)
                })
            }
            "TransactWriteItems" => answered(body, |request| db.transact_write_items(request)),
            _ => Err(DynoxideError::ValidationException(format!("{operation} is not for the coordinator"))),
        }
    }
}

impl DynamoDbDouble {
    /// Whether the table of a request has a time to live, which DynamoDB then refuses to set again.
    fn deletes_by_time(&self, request: &[u8]) -> dynoxide::Result<bool> {
        let request: Value = serde_json::from_slice(request).unwrap_or_default();
        let describe = json!({ "TableName": request["TableName"] }).to_string();
        let described = self.dispatch("DescribeTimeToLive", describe.as_bytes())?;
        let described: Value = serde_json::from_slice(&described).unwrap_or_default();
        Ok(described["TimeToLiveDescription"]["TimeToLiveStatus"] == json!("ENABLED"))
    }
}

/// Every read here is consistent, so that one that does not ask for it would pass every test and fail in production.
fn strongly(operation: &str, body: &[u8]) -> dynoxide::Result<()> {
    let reads = matches!(operation, "GetItem" | "Query" | "Scan");
    let asked = || {
        serde_json::from_slice::<Value>(body).is_ok_and(|request| request["ConsistentRead"] == json!(true))
    };
    if reads && !asked() {
        return Err(DynoxideError::ValidationException(format!("{operation} without ConsistentRead")));
    }
    Ok(())
}

impl Default for DynamoDbDouble {
    fn default() -> Self {
        Self::new()
    }
}

fn answered<Q: DeserializeOwned, A: Serialize>(
    body: &[u8],
    call: impl FnOnce(Q) -> dynoxide::Result<A>,
) -> dynoxide::Result<Vec<u8>> {
    let malformed = |error: serde_json::Error| DynoxideError::SerializationException(error.to_string());
    let answer = call(serde_json::from_slice(body).map_err(malformed)?)?;
    serde_json::to_vec(&answer).map_err(malformed)
}
