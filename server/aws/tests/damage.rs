//! What is stored, but not as we store it: told as such, never guessed at, never passed over.

use leasehold_aws::testing::{Doubles, Fault, Rule};
use leasehold_core::identity::{Seq, Version};
use leasehold_store::{
    conformance::samples::{LATER, entry, event, id},
    decorators::faults::Gate,
    port::{Append, Expected, ReadError, Stores, WriteError},
};
use serde_json::{Value, json};
use std::sync::Arc;

const TABLE: &str = "leasehold-test";
const LOG: &str = "LEASEHOLD#LOG";

async fn ready() -> (Doubles, Stores) {
    let doubles = Doubles::new();
    let stores = doubles.ready().await.stores();
    (doubles, stores)
}

async fn filled(events: u64) -> (Doubles, Stores) {
    let (doubles, stores) = ready().await;
    for seq in 1..=events {
        let appended = stores.log.append(Seq(seq - 1), &event(seq, seq.into())).await;
        assert_eq!(appended.unwrap(), Append::Appended);
    }
    (doubles, stores)
}

fn event_key(seq: u64) -> Value {
    json!({ "pk": { "S": LOG }, "sk": { "S": format!("EVENT#{seq:020}") } })
}

fn set(doubles: &Doubles, key: &Value, attribute: &str, value: &Value) {
    let request = json!({
        "TableName": TABLE,
        "Key": key,
        "UpdateExpression": "SET #name = :value",
        "ExpressionAttributeNames": { "#name": attribute },
        "ExpressionAttributeValues": { ":value": value },
    });
    doubles.dynamodb.call("UpdateItem", &request);
}

#[tokio::test]
async fn a_record_that_does_not_decode_is_corrupt_in_reads_and_refusals() {
    let (doubles, stores) = ready().await;
    let mine = entry(1 << 127, 1);
    stores.entries.swap(&id("a"), Expected::Absent, &mine, LATER).await.unwrap();
    let digest = hex::encode(id("a").digest());
    let key = json!({ "pk": { "S": format!("TENANT#t#CACHE#{digest}") }, "sk": { "S": "META" } });
    set(&doubles, &key, "r", &json!({ "B": "bm90IGEgcmVjb3Jk" }));
    assert!(matches!(stores.entries.read(&id("a")).await, Err(ReadError::Corrupt(_))));
    let next = entry(2 << 100, 2);
    let expected = Expected::Version(Version(3 << 100));
    let refused = stores.entries.swap(&id("a"), expected, &next, LATER).await;
    assert!(matches!(refused, Err(WriteError::Corrupt(_))), "{refused:?}");
}

#[tokio::test]
async fn an_event_that_does_not_decode_or_lies_elsewhere_is_corrupt() {
    let (doubles, stores) = filled(3).await;
    set(&doubles, &event_key(2), "r", &json!({ "B": "bm90IGEgcmVjb3Jk" }));
    assert!(matches!(stores.log.events(Seq::START, 10).await, Err(ReadError::Corrupt(_))));
    assert_eq!(stores.log.events(Seq(2), 10).await.unwrap(), [event(3, 3)]);

    let (doubles, stores) = filled(1).await;
    let get = json!({ "TableName": TABLE, "Key": event_key(1) });
    let record = doubles.dynamodb.call("GetItem", &get)["Item"]["r"].clone();
    set(&doubles, &event_key(2), "r", &record);
    assert!(matches!(stores.log.events(Seq(1), 10).await, Err(ReadError::Corrupt(_))));
}

#[tokio::test]
async fn a_head_that_is_none_is_corrupt() {
    let (doubles, stores) = filled(1).await;
    let key = json!({ "pk": { "S": LOG }, "sk": { "S": "HEAD" } });
    set(&doubles, &key, "seq", &json!({ "S": "one" }));
    assert!(matches!(stores.log.head().await, Err(ReadError::Corrupt(_))));
    let append = stores.log.append(Seq::START, &event(1, 9)).await;
    assert!(matches!(append, Err(WriteError::Corrupt(_))), "{append:?}");
}

/// The next event would have no number, or the first one again.
#[tokio::test]
async fn a_head_that_no_event_can_follow_is_corrupt() {
    let (doubles, stores) = filled(1).await;
    let key = json!({ "pk": { "S": LOG }, "sk": { "S": "HEAD" } });
    set(&doubles, &key, "seq", &json!({ "N": u64::MAX.to_string() }));
    let head = stores.log.head().await;
    assert!(matches!(&head, Err(ReadError::Corrupt(why)) if why.contains("can follow")), "{head:?}");
    let append = stores.log.append(Seq(1), &event(2, 9)).await;
    assert!(matches!(append, Err(WriteError::Corrupt(_))), "{append:?}");
}

/// A head that was restored from a backup, say: what is there was acknowledged, and is not written over.
#[tokio::test]
async fn an_event_beyond_the_head_is_corrupt_and_stays() {
    let (doubles, stores) = filled(2).await;
    let key = json!({ "pk": { "S": LOG }, "sk": { "S": "HEAD" } });
    set(&doubles, &key, "seq", &json!({ "N": "1" }));
    assert_eq!(stores.log.head().await.unwrap().seq, Seq(1));
    let append = stores.log.append(Seq(1), &event(2, 9)).await;
    assert!(matches!(append, Err(WriteError::Corrupt(_))), "{append:?}");
    assert_eq!(stores.log.events(Seq(1), 10).await.unwrap(), [event(2, 2)]);
}

/// DynamoDB deletes what has expired in any order. What is before a hole has expired as well.
#[tokio::test]
async fn events_before_one_that_is_deleted_already_are_deleted_too() {
    let (doubles, stores) = filled(5).await;
    doubles.dynamodb.call("DeleteItem", &json!({ "TableName": TABLE, "Key": event_key(3) }));
    assert_eq!(stores.log.events(Seq::START, 10).await.unwrap(), [event(4, 4), event(5, 5)]);
    assert_eq!(stores.log.events(Seq(3), 10).await.unwrap(), [event(4, 4), event(5, 5)]);
}

/// Where a query shows one item of a transaction and not the other, the hole is none.
#[tokio::test]
async fn an_event_that_a_query_misses_although_it_is_there_does_not_count_as_expired() {
    for missed in [2, 3] {
        let (doubles, stores) = filled(3).await;
        stores.log.head().await.unwrap();
        let row = json!({ "TableName": TABLE, "Key": event_key(missed), "ConsistentRead": true });
        let item = doubles.dynamodb.call("GetItem", &row)["Item"].clone();
        doubles.dynamodb.call("DeleteItem", &json!({ "TableName": TABLE, "Key": event_key(missed) }));
        let gate = Gate::new();
        doubles.faults.add(Rule::on("Query", Fault::HoldAnswer(gate.clone())).nth(1));
        let log = Arc::clone(&stores.log);
        let reading = tokio::spawn(async move { log.events(Seq(1), 10).await });
        gate.arrived(1).await;
        doubles.dynamodb.call("PutItem", &json!({ "TableName": TABLE, "Item": item }));
        gate.open();
        let read = reading.await.unwrap();
        assert!(matches!(read, Err(ReadError::Unavailable(_))), "{missed}: {read:?}");
        assert_eq!(stores.log.events(Seq(1), 10).await.unwrap(), [event(2, 2), event(3, 3)]);
    }
}
