//! What each call of a port costs: requests, and the capacity units that DynamoDB bills.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use leasehold_aws::{
    Aws, AwsSettings,
    testing::{Doubles, samples::page_of_five_tags},
};
use leasehold_core::{
    identity::{EntryKey, Seq, TenantId, Version},
    invalidation::{LogEvent, Scope},
};
use leasehold_store::{
    conformance::samples::{LATER, body, digest, entry, event, id, object_meta, object_name},
    consumed::{Consumed, measured},
    port::{Append, Expected, Put, Stores, Swap},
    record,
};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

/// Random versions, as the engine draws them, are not small.
const fn version(n: u128) -> Version {
    Version(n << 100 | 7)
}

async fn ready() -> (Doubles, Aws) {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    doubles.counters.reset();
    (doubles, aws)
}

fn requests<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected.map(|(operation, count)| (operation.to_owned(), count)).into()
}

#[tokio::test]
async fn a_swap_is_one_request_and_one_write_unit() {
    let (doubles, aws) = ready().await;
    let entries = aws.stores().entries;
    let (id, mut entry) = page_of_five_tags();
    entry.version = version(1);
    assert_eq!(entries.swap(&id, Expected::Absent, &entry, LATER).await.unwrap(), Swap::Applied);
    assert_eq!(doubles.counters.capacity_units("PutItem"), 1.0);
    entry.version = version(2);
    let swap = entries.swap(&id, Expected::Version(version(1)), &entry, LATER).await.unwrap();
    assert_eq!(swap, Swap::Applied);
    assert_eq!(doubles.counters.capacity_units("PutItem"), 2.0);
    // Refused, and answered with the rival, without another request.
    entry.version = version(3);
    let refused = entries.swap(&id, Expected::Version(version(1)), &entry, LATER).await.unwrap();
    assert!(matches!(refused, Swap::Refused(Some(rival)) if rival.version == version(2)));
    assert_eq!(doubles.counters.requests(), requests([("PutItem", 3)]));
}

#[tokio::test]
async fn a_read_is_one_request_and_one_read_unit() {
    let (doubles, aws) = ready().await;
    let entries = aws.stores().entries;
    let (id, entry) = page_of_five_tags();
    entries.swap(&id, Expected::Absent, &entry, LATER).await.unwrap();
    doubles.counters.reset();
    assert_eq!(entries.read(&id).await.unwrap(), Some(entry));
    assert_eq!(doubles.counters.requests(), requests([("GetItem", 1)]));
    assert_eq!(doubles.counters.capacity_units("GetItem"), 1.0, "strong, of less than 4 KB");
}

#[tokio::test]
async fn an_append_is_one_transaction_of_four_write_units() {
    let (doubles, aws) = ready().await;
    let log = aws.stores().log;
    assert_eq!(log.append(Seq::START, &event(1, 1)).await.unwrap(), Append::Appended);
    assert_eq!(doubles.counters.capacity_units("TransactWriteItems"), 4.0);
    assert_eq!(log.append(Seq(1), &event(2, 2)).await.unwrap(), Append::Appended);
    assert_eq!(doubles.counters.requests(), requests([("TransactWriteItems", 2)]));
    assert_eq!(doubles.counters.capacity_units("TransactWriteItems"), 8.0);
}

/// The engine reads the head all the time; who has not read it yet does so once.
#[tokio::test]
async fn an_append_by_a_handle_that_never_saw_the_head_is_one_read_more() {
    let (doubles, aws) = ready().await;
    aws.stores().log.append(Seq::START, &event(1, 1)).await.unwrap();
    doubles.counters.reset();
    let other = aws.stores().log;
    assert_eq!(other.append(Seq(1), &event(2, 2)).await.unwrap(), Append::Appended);
    assert_eq!(doubles.counters.requests(), requests([("GetItem", 1), ("TransactWriteItems", 1)]));
}

/// What could only be refused is not sent: a transaction that is refused costs as much as one that is not.
#[tokio::test]
async fn an_append_to_a_position_that_was_passed_is_one_read() {
    let (doubles, aws) = ready().await;
    let log = aws.stores().log;
    for seq in 1..=2 {
        log.append(Seq(seq - 1), &event(seq, seq.into())).await.unwrap();
    }
    doubles.counters.reset();
    let other = aws.stores().log;
    assert_eq!(other.append(Seq(1), &event(2, 9)).await.unwrap(), Append::HeadMoved);
    assert_eq!(doubles.counters.requests(), requests([("GetItem", 1)]));
}

#[tokio::test]
async fn following_an_idle_log_is_one_small_read() {
    let (doubles, aws) = ready().await;
    let log = aws.stores().log;
    log.append(Seq::START, &event(1, 1)).await.unwrap();
    doubles.counters.reset();
    log.head().await.unwrap();
    assert_eq!(doubles.counters.requests(), requests([("GetItem", 1)]));
    assert_eq!(doubles.counters.capacity_units("GetItem"), 1.0);
}

/// As an append writes it, without the head, which takes much longer.
fn put_event(doubles: &Doubles, event: &LogEvent) {
    let item = json!({
        "pk": { "S": "LEASEHOLD#LOG" },
        "sk": { "S": format!("EVENT#{:020}", event.seq.0) },
        "r": { "B": STANDARD.encode(record::encode_event(event)) },
    });
    doubles.dynamodb.call("PutItem", &json!({ "TableName": "leasehold-test", "Item": item }));
}

/// What a coordinator does that starts on a long log: however much it asks for at once, a page is a megabyte.
#[tokio::test]
async fn many_events_are_one_request_for_each_megabyte() {
    const EVENTS: u64 = 1_200;
    let (doubles, aws) = ready().await;
    let log = aws.stores().log;
    let large = |seq: u64| {
        let key = EntryKey::parse(&format!("{seq}/{}", "k".repeat(2_400))).unwrap();
        let mut event = event(seq, seq.into());
        event.invalidations[0].scopes = vec![Scope::Key(TenantId::parse("t").unwrap(), key)];
        event
    };
    (1..=EVENTS).for_each(|seq| put_event(&doubles, &large(seq)));
    for (after, limit, requests) in
        [(0, 10_000, 3..=4), (0, usize::MAX, 3..=4), (0, 300, 4..=5), (700, 300, 2..=3)]
    {
        doubles.counters.reset();
        let mut last = after;
        while last < EVENTS {
            for event in log.events(Seq(last), limit).await.unwrap() {
                last += 1;
                assert!(event == large(last), "{last}, {limit} asked for");
            }
        }
        let sent = doubles.counters.of("Query");
        assert!(requests.contains(&sent), "{sent} requests for the events after {after}");
    }
}

#[tokio::test]
async fn each_call_for_an_object_is_one_request() {
    let (doubles, aws) = ready().await;
    let objects = aws.stores().objects;
    let (name, body) = (object_name(1), body(1, 1000));
    let put = objects.put(&name, body.clone(), digest(&body), &object_meta()).await.unwrap();
    assert_eq!(put, Put::Created);
    objects.get(&name).await.unwrap();
    objects.info(&name).await.unwrap();
    objects.url(&name, Duration::from_secs(60)).await.unwrap();
    let names: Vec<_> = (0..2_001).map(object_name).collect();
    objects.delete(&names).await.unwrap();
    let expected = requests([("DeleteObjects", 3), ("GetObject", 1), ("HeadObject", 1), ("PutObject", 1)]);
    assert_eq!(doubles.counters.requests(), expected, "a URL needs no request");
}

#[tokio::test]
async fn nothing_is_asked_for_before_a_port_is_called() {
    let (doubles, aws) = ready().await;
    let _stores = aws.stores();
    assert_eq!(doubles.counters.total(), 0);
    let small = aws.stores().entries;
    small.swap(&id("a"), Expected::Absent, &entry(version(1).0, 1), LATER).await.unwrap();
    assert_eq!(doubles.counters.total(), 1);
}

/// By whoever counts requests: it is what the service bills.
#[tokio::test]
async fn what_a_call_consumed_is_told_to_whoever_measures() {
    let (doubles, aws) = ready().await;
    let Stores { entries, log, .. } = aws.stores();
    let id = id("a");
    let (swapped, consumed) = measured(entries.swap(&id, Expected::Absent, &entry(1, 1), LATER)).await;
    assert_eq!(swapped.unwrap(), Swap::Applied);
    assert_eq!(consumed, Consumed::by_writing(doubles.counters.capacity_units("PutItem")));
    let (_, consumed) = measured(entries.read(&id)).await;
    assert_eq!(consumed, Consumed::by_reading(doubles.counters.capacity_units("GetItem")));
    doubles.counters.reset();
    let (_, consumed) = measured(log.append(Seq::START, &event(1, 1))).await;
    let told = Consumed {
        read_units: doubles.counters.capacity_units("GetItem"),
        write_units: doubles.counters.capacity_units("TransactWriteItems"),
    };
    assert_eq!(consumed, told);
    assert_eq!(consumed.write_units, 4.0);
    let (_, consumed) = measured(log.events(Seq::START, 10)).await;
    assert_eq!(consumed, Consumed::by_reading(doubles.counters.capacity_units("Query")));
    assert!(consumed.read_units > 0.0);

    let silent = doubles.connect(AwsSettings { report_capacity: false, ..Doubles::settings() });
    let (_, consumed) = measured(silent.stores().entries.read(&id)).await;
    assert_eq!(consumed, Consumed::NOTHING, "it was not asked to tell");
}
