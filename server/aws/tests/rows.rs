//! A table that is shared with FaceTheory, which keeps its rows through TableTheory.

use leasehold_aws::{
    Aws, AwsSettings, Layout,
    testing::{Doubles, Fault, Rule},
};
use leasehold_core::{
    entry::Entry,
    identity::{Generation, Version},
    object::ObjectName,
    page::Pointer,
};
use leasehold_store::{
    conformance::samples::{LATER, entry, full_entry, id, identity, pointer},
    port::{Expected, ReadError, Stores, Swap, WriteError},
};
use serde_json::{Value, json};

const KEY: &str = "t::/blog/{slug}?slug=a";
const PK: &str = "CACHE#t::/blog/{slug}?slug=a";

const fn version(n: u128) -> Version {
    Version(n << 100 | 7)
}

async fn shared() -> (Doubles, Stores) {
    let doubles = Doubles::new();
    doubles.ready().await;
    let layout = Layout { s3_key_prefix: "html/".into(), ..Layout::table_theory() };
    let aws: Aws = doubles.connect(AwsSettings { layout, ..Doubles::settings() });
    doubles.counters.reset();
    (doubles, aws.stores())
}

/// As `FaceTheoryIsrMetaStore` commits: a put of the whole row, whatever is there.
fn facetheory_commits(doubles: &Doubles, s3_key: &str, generated_at: u64) {
    let item = json!({
        "pk": { "S": PK },
        "sk": { "S": "META" },
        "s3_key": { "S": s3_key },
        "generated_at": { "N": generated_at.to_string() },
        "revalidate_seconds": { "N": "60" },
        "etag": { "S": "W/\"e\"" },
    });
    doubles.dynamodb.call("PutItem", &json!({ "TableName": "leasehold-test", "Item": item }));
}

/// As it reads.
fn facetheory_reads(doubles: &Doubles) -> Value {
    let key = json!({ "pk": { "S": PK }, "sk": { "S": "META" } });
    let request = json!({ "TableName": "leasehold-test", "Key": key, "ConsistentRead": true });
    doubles.dynamodb.call("GetItem", &request)["Item"].clone()
}

fn object(entry: &Entry) -> &str {
    entry.pointer.as_ref().expect("a page").html.object.as_str()
}

#[tokio::test]
async fn a_page_of_facetheory_is_served_and_then_regenerated_by_us() {
    let (doubles, stores) = shared().await;
    facetheory_commits(&doubles, "a/1.html", 1_800_000_000);
    let found = stores.entries.read(&id(KEY)).await.unwrap().unwrap();
    assert_eq!(object(&found), "html/a/1.html");
    assert_eq!(found.generation, Generation(1_800_000_000));
    // A grant: the page stays, under a generation above it.
    let granted = Entry { version: version(1), generation: Generation(1_800_000_001), ..found.clone() };
    let expected = Expected::Version(found.version);
    assert_eq!(stores.entries.swap(&id(KEY), expected, &granted, LATER).await.unwrap(), Swap::Applied);
    assert_eq!(stores.entries.read(&id(KEY)).await.unwrap(), Some(granted.clone()));
    assert_eq!(facetheory_reads(&doubles)["s3_key"], json!({ "S": "a/1.html" }), "still its page");
    assert_eq!(facetheory_reads(&doubles)["etag"], json!({ "S": "W/\"e\"" }));
    // Late, the same swap is refused by what came of it.
    let late = Entry { version: version(2), ..granted.clone() };
    let refused = stores.entries.swap(&id(KEY), expected, &late, LATER).await.unwrap();
    assert_eq!(refused, Swap::Refused(Some(granted)));
}

#[tokio::test]
async fn a_page_of_ours_is_read_through_table_theorys_attributes() {
    let (doubles, stores) = shared().await;
    let name = ObjectName::parse("html/0123/1800000000123-x.html").unwrap();
    let mut page = pointer(7);
    page.html.object = name;
    let mine = Entry { pointer: Some(page), ..full_entry(version(1).0, 7) };
    stores.entries.swap(&id(KEY), Expected::Absent, &mine, LATER).await.unwrap();
    let row = facetheory_reads(&doubles);
    assert_eq!(row["s3_key"], json!({ "S": "0123/1800000000123-x.html" }));
    assert_eq!(row["generated_at"], json!({ "N": "1799999999" }));
    assert_eq!(row["revalidate_seconds"], json!({ "N": "60" }));
    assert_eq!(row["etag"], json!({ "S": "\"abc\"" }));
    assert_eq!(row["ttl"], json!({ "N": "4102444800" }));
}

#[tokio::test]
async fn coordinators_with_other_s3_key_prefixes_read_and_swap_each_others_pages() {
    let (doubles, stores) = shared().await;
    let mut page = pointer(7);
    page.html.object = ObjectName::parse("html/0123/1800000000123-x.html").unwrap();
    let mine = Entry { pointer: Some(page), ..full_entry(version(1).0, 7) };
    stores.entries.swap(&id(KEY), Expected::Absent, &mine, LATER).await.unwrap();
    let other =
        doubles.connect(AwsSettings { layout: Layout::table_theory(), ..Doubles::settings() }).stores();
    assert_eq!(other.entries.read(&id(KEY)).await.unwrap(), Some(mine.clone()));
    let next = Entry { version: version(2), ..mine };
    let swap = other.entries.swap(&id(KEY), Expected::Version(version(1)), &next, LATER).await;
    assert_eq!(swap.unwrap(), Swap::Applied);
    assert_eq!(facetheory_reads(&doubles)["s3_key"], json!({ "S": "html/0123/1800000000123-x.html" }));
    assert_eq!(stores.entries.read(&id(KEY)).await.unwrap(), Some(next));
}

#[tokio::test]
async fn a_page_that_facetheory_commits_over_ours_refuses_our_next_swap() {
    let (doubles, stores) = shared().await;
    let mine = full_entry(version(1).0, 7);
    stores.entries.swap(&id(KEY), Expected::Absent, &mine, LATER).await.unwrap();
    facetheory_commits(&doubles, "a/2.html", 1_800_000_100);
    let next = full_entry(version(2).0, 8);
    let refused = stores.entries.swap(&id(KEY), Expected::Version(version(1)), &next, LATER).await.unwrap();
    let Swap::Refused(Some(theirs)) = refused else { panic!("{refused:?}") };
    assert_eq!(object(&theirs), "html/a/2.html");
    assert_eq!(stores.entries.read(&id(KEY)).await.unwrap(), Some(theirs));
}

/// Between the read and the swap; and between the swap's own read and its put.
#[tokio::test]
async fn a_swap_from_a_page_that_facetheory_replaced_meanwhile_is_refused_by_the_new_one() {
    let (doubles, stores) = shared().await;
    facetheory_commits(&doubles, "a/1.html", 1_800_000_000);
    let first = stores.entries.read(&id(KEY)).await.unwrap().unwrap();
    facetheory_commits(&doubles, "a/2.html", 1_800_000_100);
    let mine = Entry { version: version(1), ..first.clone() };
    let refused =
        stores.entries.swap(&id(KEY), Expected::Version(first.version), &mine, LATER).await.unwrap();
    assert!(matches!(&refused, Swap::Refused(Some(theirs)) if object(theirs) == "html/a/2.html"));

    let second = stores.entries.read(&id(KEY)).await.unwrap().unwrap();
    let gate = doubles.faults.hold("PutItem");
    let swap = tokio::spawn({
        let (stores, mine) = (stores.clone(), mine.clone());
        async move { stores.entries.swap(&id(KEY), Expected::Version(second.version), &mine, LATER).await }
    });
    gate.arrived(1).await;
    facetheory_commits(&doubles, "a/3.html", 1_800_000_200);
    gate.open();
    let refused = swap.await.unwrap().unwrap();
    assert!(matches!(&refused, Swap::Refused(Some(theirs)) if object(theirs) == "html/a/3.html"));
}

#[tokio::test]
async fn of_many_swaps_from_a_page_of_facetheory_exactly_one_is_applied() {
    let (doubles, stores) = shared().await;
    facetheory_commits(&doubles, "a/1.html", 1_800_000_000);
    let theirs = stores.entries.read(&id(KEY)).await.unwrap().unwrap();
    let mut rivals = tokio::task::JoinSet::new();
    for n in 1..=16 {
        let (stores, theirs) = (stores.clone(), theirs.clone());
        rivals.spawn(async move {
            let mine = Entry { version: version(n), ..theirs.clone() };
            stores.entries.swap(&id(KEY), Expected::Version(theirs.version), &mine, LATER).await.unwrap()
        });
    }
    let outcomes = rivals.join_all().await;
    assert_eq!(outcomes.iter().filter(|swap| **swap == Swap::Applied).count(), 1);
}

#[tokio::test]
async fn a_swap_from_a_page_of_facetheory_whose_answer_was_lost_is_settled_by_its_repetition() {
    let (doubles, stores) = shared().await;
    facetheory_commits(&doubles, "a/1.html", 1_800_000_000);
    let theirs = stores.entries.read(&id(KEY)).await.unwrap().unwrap();
    let mine = Entry { version: version(1), ..theirs.clone() };
    let expected = Expected::Version(theirs.version);
    doubles.faults.add(Rule::on("PutItem", Fault::FailAfter).nth(1));
    let lost = stores.entries.swap(&id(KEY), expected, &mine, LATER).await;
    assert!(matches!(lost, Err(WriteError::Unknown(_))));
    assert_eq!(stores.entries.swap(&id(KEY), expected, &mine, LATER).await.unwrap(), Swap::Applied);
    // Where the row could not even be read, nothing was written.
    doubles.faults.add(Rule::on("GetItem", Fault::FailAfter).nth(1));
    let unread = stores.entries.swap(&id(KEY), expected, &mine, LATER).await;
    assert!(matches!(unread, Err(WriteError::NotApplied(_))));
}

#[tokio::test]
async fn a_page_under_a_key_that_another_tenant_names_is_never_its_page() {
    let (doubles, stores) = shared().await;
    facetheory_commits(&doubles, "a/1.html", 1_800_000_000);
    for stranger in [identity("stranger", None, KEY), identity("t", Some("blue"), KEY)] {
        let read = stores.entries.read(&stranger).await;
        assert!(matches!(read, Err(ReadError::Corrupt(_))), "{read:?}");
        let swap = stores.entries.swap(&stranger, Expected::Absent, &entry(version(1).0, 1), LATER).await;
        assert!(matches!(swap, Err(WriteError::TooLarge(_))), "{swap:?}");
    }
    // Nor can such an entry take the key: whoever reads the row by it alone would take it for the other's page.
    let before = doubles.counters.total();
    let free = identity("stranger", None, "t::/free?");
    let swap = stores.entries.swap(&free, Expected::Absent, &entry(version(1).0, 1), LATER).await;
    assert!(matches!(swap, Err(WriteError::TooLarge(_))), "{swap:?}");
    assert_eq!(doubles.counters.total(), before);
}

/// FaceTheory's page of tenant `t::b`, asked for by tenant `t` under a ready key.
#[tokio::test]
async fn a_page_of_a_tenant_whose_name_begins_with_anothers_is_not_the_others() {
    let (doubles, stores) = shared().await;
    let key = "t::b::/blog?";
    let item = json!({
        "pk": { "S": format!("CACHE#{key}") },
        "sk": { "S": "META" },
        "s3_key": { "S": "secret/of/b.html" },
        "generated_at": { "N": "1800000000" },
        "revalidate_seconds": { "N": "60" },
    });
    doubles.dynamodb.call("PutItem", &json!({ "TableName": "leasehold-test", "Item": item }));
    let (own, stranger) = (identity("t::b", None, key), identity("t", None, key));
    let reads = [stores.entries.read(&own).await, stores.entries.read(&stranger).await];
    assert!(reads.iter().filter(|read| matches!(read, Ok(Some(_)))).count() <= 1, "both read it: {reads:?}");
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_absent_and_cannot_be_put() {
    let (doubles, stores) = shared().await;
    let long = id(&"k".repeat(4_096));
    assert_eq!(stores.entries.read(&long).await.unwrap(), None);
    let put = stores.entries.swap(&long, Expected::Absent, &entry(version(1).0, 1), LATER).await;
    assert!(matches!(put, Err(WriteError::TooLarge(_))));
    assert_eq!(doubles.counters.total(), 0);
}

/// What the engine does when it finds an object missing.
#[tokio::test]
async fn a_page_of_facetheory_that_is_gone_is_none_to_facetheory_afterwards() {
    let (doubles, stores) = shared().await;
    facetheory_commits(&doubles, "a/1.html", 1_800_000_000);
    let theirs = stores.entries.read(&id(KEY)).await.unwrap().unwrap();
    let gone = Pointer { gone: true, ..theirs.pointer.clone().unwrap() };
    let mine = Entry { version: version(1), pointer: Some(gone), ..theirs.clone() };
    let swap = stores.entries.swap(&id(KEY), Expected::Version(theirs.version), &mine, LATER).await;
    assert_eq!(swap.unwrap(), Swap::Applied);
    assert_eq!(facetheory_reads(&doubles)["s3_key"], Value::Null);
    assert_eq!(stores.entries.read(&id(KEY)).await.unwrap(), Some(mine));
}
