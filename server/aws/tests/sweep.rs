//! What the sweep takes, and what it must leave.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use leasehold_aws::{
    Aws, AwsSettings, Layout, MAX_NAMED, Progress, SweepError, SweepOptions, Swept, Untimely,
    testing::{Doubles, Fault, Rule},
};
use leasehold_core::{
    entry::{Entry, Lease},
    identity::{EntryId, Version},
    named::{GivenName, ORIGIN_ATTRIBUTE, Origin},
    object::{ObjectName, ObjectPrefix, PageObjects, names_for},
    orphan::Keep,
    page::Pointer,
    time::Timestamp,
};
use leasehold_store::{
    conformance::samples::{LATER, body, digest, entry, full_entry, id, object_meta, pointer},
    port::{Expected, ObjectMeta, Put, Swap},
    record,
};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const NAME: &str = "leasehold-test";
const KEEP: Keep = Keep { max_hold: Duration::from_secs(60), grace: Duration::from_secs(600) };
/// When sweeps begin, in seconds. Whole ones, as S3 has them.
const START: u64 = 1_900_000_000;
/// Long before.
const OLD: u64 = START - 10_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn dry() -> SweepOptions {
    SweepOptions { prefix: ObjectPrefix::default(), keep: KEEP, delete: false, force: true }
}

fn wet() -> SweepOptions {
    SweepOptions { delete: true, force: true, ..dry() }
}

async fn ready() -> (Doubles, Aws) {
    with(Layout::default()).await
}

async fn with(layout: Layout) -> (Doubles, Aws) {
    let doubles = Doubles::new();
    doubles.ready().await;
    doubles.dynamodb.allow_scan(3);
    doubles.s3.set_time(at(OLD));
    doubles.s3.set_date(at(START));
    let aws = doubles.connect(AwsSettings { layout, ..Doubles::settings() });
    (doubles, aws)
}

async fn sweep(aws: &Aws, options: &SweepOptions) -> Swept {
    on_any_thread(aws.sweep(options, || at(START), |_| {})).await.unwrap()
}

fn on_any_thread<F: Future + Send>(future: F) -> F {
    future
}

/// A lease that was granted at `granted_at`, and has long expired.
fn lease(granted_at: u64) -> Lease {
    let lease = full_entry(1, granted_at).lease.unwrap();
    let then = at(granted_at);
    Lease { granted_at: then, expires_at: then, hold_until: then, ..lease }
}

/// What is written under the lease of `key` that was granted at `granted_at`.
fn objects(key: &str, granted_at: u64) -> [ObjectName; 2] {
    objects_of(&ObjectPrefix::default(), &id(key), granted_at)
}

fn objects_of(prefix: &ObjectPrefix, id: &EntryId, granted_at: u64) -> [ObjectName; 2] {
    let PageObjects { html, sidecar } = names_for(prefix, id, &lease(granted_at));
    [html, sidecar]
}

/// The entry of a page that was rendered under the lease of `granted_at`, and committed at `committed_at`.
fn committed(key: &str, granted_at: u64, committed_at: u64) -> Entry {
    let [html, sidecar] = objects(key, granted_at);
    let mut pointer =
        Pointer { generated_at: at(granted_at), committed_at: at(committed_at), ..pointer(granted_at) };
    pointer.html.object = html;
    pointer.sidecar.as_mut().unwrap().object = sidecar;
    Entry { pointer: Some(pointer), ..entry(u128::from(granted_at) << 100, granted_at) }
}

async fn create(aws: &Aws, key: &str, entry: &Entry) {
    let swap = aws.stores().entries.swap(&id(key), Expected::Absent, entry, LATER).await;
    assert_eq!(swap.unwrap(), Swap::Applied);
}

fn upload(doubles: &Doubles, names: &[ObjectName]) {
    for name in names {
        doubles.s3.put_plainly(NAME, name, vec![7; 100]);
    }
}

/// Whether all of them are there. Half of them is neither.
fn there(doubles: &Doubles, names: &[ObjectName]) -> bool {
    let all = doubles.s3.names(NAME);
    let found = names.iter().filter(|name| all.iter().any(|there| there == name.as_str())).count();
    assert!(found == 0 || found == names.len(), "{names:?}");
    found > 0
}

fn pk(key: &str) -> String {
    format!("TENANT#t#CACHE#{}", hex::encode(id(key).digest()))
}

fn put_row(doubles: &Doubles, pk: &str, attributes: &Value) {
    let mut item = json!({ "pk": { "S": pk }, "sk": { "S": "META" } });
    for (name, value) in attributes.as_object().unwrap() {
        item[name] = value.clone();
    }
    doubles.dynamodb.call("PutItem", &json!({ "TableName": NAME, "Item": item }));
}

fn set(doubles: &Doubles, pk: &str, attribute: &str, value: &Value) {
    let request = json!({
        "TableName": NAME,
        "Key": { "pk": { "S": pk }, "sk": { "S": "META" } },
        "UpdateExpression": "SET #name = :value",
        "ExpressionAttributeNames": { "#name": attribute },
        "ExpressionAttributeValues": { ":value": value },
    });
    doubles.dynamodb.call("UpdateItem", &request);
}

fn no_record() -> Value {
    json!({ "B": "bm90IGEgcmVjb3Jk" })
}

#[tokio::test]
async fn a_dry_run_deletes_nothing_and_says_what_it_would() {
    let (doubles, aws) = ready().await;
    create(&aws, "page", &committed("page", OLD + 1, OLD + 2)).await;
    let lost = objects("page", OLD);
    upload(&doubles, &objects("page", OLD + 1));
    upload(&doubles, &lost);
    let swept = sweep(&aws, &dry()).await;
    let mut names = lost.to_vec();
    names.sort();
    assert_eq!(
        swept,
        Swept {
            total: Progress { entries: 1, objects: 4, orphans: 2, orphan_bytes: 200, deleted: 0 },
            orphans: names,
            ..Swept::default()
        }
    );
    assert!(there(&doubles, &lost));
    assert_eq!(doubles.counters.of("DeleteObjects"), 0);
    // And then it does.
    let total = Progress { deleted: 2, ..swept.total };
    assert_eq!(sweep(&aws, &wet()).await, Swept { total, ..swept });
    assert!(!there(&doubles, &lost) && there(&doubles, &objects("page", OLD + 1)));
    assert_eq!(sweep(&aws, &wet()).await.total.orphans, 0, "nothing is left to do");
}

#[tokio::test]
async fn uploads_that_were_never_committed_and_superseded_bodies_go() {
    let (doubles, aws) = ready().await;
    create(&aws, "released", &entry(1 << 100, 1)).await;
    create(&aws, "overtaken", &Entry { lease: Some(lease(OLD + 1)), ..entry(2 << 100, 2) }).await;
    create(&aws, "superseded", &committed("superseded", OLD + 1, OLD + 2)).await;
    let keys = ["released", "overtaken", "superseded", "forgotten"];
    for key in keys {
        upload(&doubles, &objects(key, OLD));
    }
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.total.orphans, swept.total.deleted), (8, 8));
    for key in keys {
        assert!(!there(&doubles, &objects(key, OLD)), "{key}");
    }
}

#[tokio::test]
async fn what_is_current_leased_or_in_its_grace_stays() {
    let (doubles, aws) = ready().await;
    let gone = committed("gone", OLD, OLD);
    let gone = Entry { pointer: gone.pointer.map(|pointer| Pointer { gone: true, ..pointer }), ..gone };
    let grace = START - KEEP.grace.as_secs();
    for (key, entry) in [
        ("current", committed("current", OLD, OLD)),
        ("gone", gone),
        ("first", Entry { lease: Some(lease(OLD)), ..entry(1 << 100, 1) }),
        ("next", Entry { lease: Some(lease(OLD)), ..committed("next", OLD - 1, OLD - 1) }),
        ("superseded", committed("superseded", grace - 1, grace)),
    ] {
        create(&aws, key, &entry).await;
        upload(&doubles, &objects(key, OLD));
    }
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.total.objects, swept.total.orphans), (10, 0));
    // Its grace ends.
    doubles.s3.set_date(at(START + 1));
    let swept = aws.sweep(&wet(), || at(START).plus(Duration::from_millis(1)), |_| {}).await.unwrap();
    assert_eq!(swept.total.deleted, 2);
    assert!(!there(&doubles, &objects("superseded", OLD)));
}

#[tokio::test]
async fn what_is_young_by_its_name_or_by_the_bucket_stays() {
    let (doubles, aws) = ready().await;
    let limit = START - (KEEP.max_hold + KEEP.grace).as_secs();
    upload(&doubles, &objects("young by name", limit));
    upload(&doubles, &objects("old", limit - 1));
    // S3 cuts fractions of its seconds off.
    doubles.s3.set_time(at(limit - 1));
    upload(&doubles, &objects("young by the bucket", OLD));
    doubles.s3.set_time(at(limit - 2));
    upload(&doubles, &objects("old too", OLD));
    assert_eq!(sweep(&aws, &wet()).await.total.deleted, 4);
    for (key, granted_at, stays) in [
        ("young by name", limit, true),
        ("young by the bucket", OLD, true),
        ("old", limit - 1, false),
        ("old too", OLD, false),
    ] {
        assert_eq!(there(&doubles, &objects(key, granted_at)), stays, "{key}");
    }
}

#[tokio::test]
async fn what_others_named_or_keep_under_another_prefix_is_never_touched() {
    let (doubles, aws) = ready().await;
    let [html, _] = objects("page", OLD);
    let (directory, file) = html.as_str().rsplit_once('/').unwrap();
    let foreign = [
        format!("isr/0123456789abcdef01234567/{OLD}000-9d0f63dc-c9b0-4d20-9264-91df3e6db293.html"),
        format!("{directory}/0{file}"),
        format!("{directory}/{file}.gz"),
        format!("isr/{file}"),
        "isr/é & <b>.html".into(),
        "isr/x".into(),
    ]
    .map(|name| ObjectName::parse(&name).unwrap());
    let nested = objects_of(&ObjectPrefix::parse("isr/blue").unwrap(), &id("page"), OLD);
    let beside = objects_of(&ObjectPrefix::parse("isr-blue").unwrap(), &id("page"), OLD);
    let bare = objects_of(&ObjectPrefix::parse("").unwrap(), &id("page"), OLD);
    for names in [&foreign[..], &nested, &beside, &bare] {
        upload(&doubles, names);
    }
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.total.objects, swept.foreign, swept.total.orphans), (8, 8, 0));
    let options = SweepOptions { prefix: ObjectPrefix::parse("").unwrap(), ..wet() };
    let swept = sweep(&aws, &options).await;
    assert_eq!((swept.total.objects, swept.foreign, swept.total.deleted), (12, 10, 2), "the whole bucket");
    assert!(there(&doubles, &foreign) && there(&doubles, &nested) && there(&doubles, &beside));
    assert!(!there(&doubles, &bare));
}

/// Puts a body of `key` that its worker named, under the lease that was granted at `granted_at`.
async fn upload_named(
    aws: &Aws,
    prefix: &str,
    key: &str,
    given: &str,
    granted_at: u64,
    says_so: bool,
) -> ObjectName {
    let prefix = ObjectPrefix::parse(prefix).unwrap();
    let name = GivenName::of_any_kind(given).unwrap().stored(&prefix, &id(key).tenant);
    let body = body(1, 100);
    let origin = Origin::of(&id(key), &lease(granted_at), digest(&body)).encode();
    let attributes = if says_so { vec![(ORIGIN_ATTRIBUTE.to_owned(), origin)] } else { Vec::new() };
    let meta = ObjectMeta { attributes, ..object_meta() };
    let put = aws.stores().objects.put(&name, body.clone(), digest(&body), &meta).await;
    assert_eq!(put.unwrap(), Put::Created);
    name
}

#[tokio::test]
async fn bodies_that_their_worker_named_go_by_the_lease_that_is_written_on_them() {
    let (doubles, aws) = ready().await;
    let named = |key: &'static str, given: &'static str, at| upload_named(&aws, "isr", key, given, at, true);
    let current = named("page", "isr/é & +<b>%2B.html", OLD + 1).await;
    let mut page = committed("page", OLD + 1, OLD + 1);
    page.pointer.as_mut().unwrap().html.object = current.clone();
    create(&aws, "page", &page).await;
    create(&aws, "leased", &Entry { lease: Some(lease(OLD)), ..entry(1 << 100, 1) }).await;
    create(&aws, "damaged", &committed("damaged", OLD, OLD)).await;
    set(&doubles, &pk("damaged"), "r", &no_record());
    let limit = START - (KEEP.max_hold + KEEP.grace).as_secs();
    let kept = [
        current,
        named("leased", "leased.html", OLD).await,
        named("damaged", "damaged.html", OLD).await,
        named("page", "young.html", limit).await,
        upload_named(&aws, "isr", "page", "silent.html", OLD, false).await,
        upload_named(&aws, "isr/blue", "page", "beside.html", OLD, true).await,
    ];
    let [of_another, _] = objects("page", OLD + 1);
    let mut orphans = [
        named("page", "isr/é & +<b>%2B/superseded.html", OLD).await,
        named("page", "superseded.hydration.json", OLD).await,
        upload_named(&aws, "isr", "never committed", of_another.as_str(), OLD, true).await,
    ];
    orphans.sort();
    // Changed a moment ago: not asked about.
    doubles.s3.set_time(at(limit));
    let young = named("page", "young by the bucket.html", OLD).await;
    doubles.counters.reset();
    let swept = sweep(&aws, &dry()).await;
    assert_eq!(doubles.counters.of("HeadObject"), 7, "of old ones that no row names");
    assert_eq!((swept.total.objects, swept.foreign, swept.undecided), (10, 1, 2));
    let mut told = swept.orphans;
    told.sort();
    assert_eq!(told, orphans);
    assert_eq!(sweep(&aws, &wet()).await.total.deleted, 3);
    assert!(there(&doubles, &kept) && there(&doubles, &[young]) && !there(&doubles, &orphans));
}

#[tokio::test]
async fn a_name_that_xml_cannot_carry_is_swept_with_all_the_others() {
    let (doubles, aws) = ready().await;
    let names = objects("lost", OLD);
    upload(&doubles, &names);
    let given =
        GivenName::of_any_kind("x.html").unwrap().stored(&ObjectPrefix::default(), &id("lost").tenant);
    let odd = ObjectName::parse_stored(&given.as_str().replace("x.", "\u{ffff}.")).unwrap();
    let body = body(1, 100);
    let origin = Origin::of(&id("lost"), &lease(OLD), digest(&body)).encode();
    let meta = ObjectMeta { attributes: vec![(ORIGIN_ATTRIBUTE.to_owned(), origin)], ..object_meta() };
    aws.stores().objects.put(&odd, body.clone(), digest(&body), &meta).await.unwrap();
    // The table is that of the bucket.
    create(&aws, "page", &committed("page", OLD + 1, OLD + 1)).await;
    upload(&doubles, &objects("page", OLD + 1));
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.total.orphans, swept.total.deleted, swept.failed), (3, 3, 0));
    assert!(!there(&doubles, &names) && !there(&doubles, &[odd]));
}

/// Neither may a failure take away what cannot be asked about.
#[tokio::test]
async fn a_body_that_its_worker_named_stays_where_it_cannot_be_asked_what_is_written_on_it() {
    let (doubles, aws) = ready().await;
    let name = upload_named(&aws, "isr", "page", "x.html", OLD, true).await;
    doubles.faults.add(Rule::on("HeadObject", Fault::Deny));
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.total.deleted, swept.undecided, swept.failed), (0, 1, 0));
    assert_eq!((&swept.failures[0].name, &*swept.failures[0].why), (&name, "HeadObject: AccessDenied (403)"));
    assert!(there(&doubles, std::slice::from_ref(&name)));
    doubles.faults.clear();
    assert_eq!(sweep(&aws, &wet()).await.orphans, [name]);
}

/// A coordinator deletes what it superseded while the sweep goes on.
#[tokio::test]
async fn objects_are_asked_a_few_at_a_time_and_one_that_is_gone_by_then_is_no_riddle() {
    let (doubles, aws) = ready().await;
    let mut names = Vec::new();
    for n in 0..20 {
        names.push(upload_named(&aws, "isr", "page", &format!("{n:0>2}.html"), OLD, true).await);
    }
    let gate = doubles.faults.hold("HeadObject");
    let options = wet();
    let (swept, ()) = tokio::join!(sweep(&aws, &options), async {
        gate.arrived(8).await;
        aws.stores().objects.delete(&names[..1]).await.unwrap();
        gate.open();
    });
    assert_eq!((swept.total.orphans, swept.total.deleted, swept.undecided), (19, 19, 0));
    assert_eq!(swept.failures, []);
    assert!(!there(&doubles, &names));
}

/// It stands where a row of ours was, or anywhere else, and names an object of ours.
#[tokio::test]
async fn a_row_of_facetheorys_keeps_the_object_it_names() {
    let (doubles, aws) = with(Layout { s3_key_prefix: "isr/".into(), ..Layout::default() }).await;
    let row = |name: &ObjectName| {
        let key = name.as_str().strip_prefix("isr/").unwrap();
        json!({ "s3_key": { "S": key }, "generated_at": { "N": OLD.to_string() } })
    };
    let [html, sidecar] = objects("page", OLD);
    let [elsewhere, _] = objects("elsewhere", OLD);
    upload(&doubles, &[html.clone(), sidecar.clone(), elsewhere.clone()]);
    put_row(&doubles, &pk("page"), &row(&html));
    put_row(&doubles, "CACHE#something", &row(&elsewhere));
    // And with its whole name, as where FaceTheory has another prefix than ours.
    let [whole, _] = objects("whole", OLD);
    upload(&doubles, std::slice::from_ref(&whole));
    put_row(&doubles, "CACHE#another", &json!({ "s3_key": { "S": whole.as_str() } }));
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.total.entries, swept.orphans), (3, vec![sidecar]));
    assert!(there(&doubles, &[html, elsewhere, whole]));
}

#[tokio::test]
async fn what_a_row_of_facetheorys_took_the_place_of_keeps_its_grace() {
    for layout in [Layout::default(), Layout::table_theory()] {
        let default = layout == Layout::default();
        let (doubles, aws) = with(layout).await;
        let begun = START - (KEEP.max_hold + KEEP.grace).as_secs();
        let ids = [("new", begun - 1), ("old", begun - 2)];
        for (name, generated_at) in ids {
            let id = id(&format!("t::/{name}?"));
            upload(&doubles, &objects(id.key.as_str(), OLD));
            let pk = if default { pk(id.key.as_str()) } else { format!("CACHE#{}", id.key.as_str()) };
            let attributes = json!({
                "s3_key": { "S": "isr/x.html" },
                "generated_at": { "N": generated_at.to_string() },
            });
            put_row(&doubles, &pk, &attributes);
        }
        assert_eq!(sweep(&aws, &wet()).await.total.deleted, 2);
        assert!(there(&doubles, &objects("t::/new?", OLD)) && !there(&doubles, &objects("t::/old?", OLD)));
    }
}

/// TableTheory changed attributes of a row of ours: its page is current, and the record's was until then.
#[tokio::test]
async fn a_row_of_ours_that_was_written_into_keeps_both_pages() {
    let (doubles, aws) = ready().await;
    create(&aws, "page", &committed("page", OLD + 1, OLD + 1)).await;
    let [named, lost] = objects("page", OLD);
    let own = objects("page", OLD + 1);
    upload(&doubles, &own);
    upload(&doubles, &[named.clone(), lost.clone()]);
    set(&doubles, &pk("page"), "s3_key", &json!({ "S": named.as_str() }));
    set(&doubles, &pk("page"), "generated_at", &json!({ "N": (START - 600).to_string() }));
    assert_eq!(sweep(&aws, &wet()).await.total.deleted, 0, "superseded a moment ago");
    set(&doubles, &pk("page"), "generated_at", &json!({ "N": (OLD + 5).to_string() }));
    assert_eq!(sweep(&aws, &wet()).await.orphans, [lost]);
    assert!(there(&doubles, &own) && there(&doubles, &[named]));
}

#[tokio::test]
async fn a_row_that_does_not_decode_keeps_every_object_of_its_entry() {
    let (doubles, aws) = ready().await;
    for key in ["damaged", "other version", "exchanged", "no record"] {
        create(&aws, key, &committed(key, OLD, OLD)).await;
        upload(&doubles, &objects(key, OLD + 1));
    }
    set(&doubles, &pk("damaged"), "r", &no_record());
    set(&doubles, &pk("other version"), "v", &json!({ "B": "AAAAAAAAAAAAAAAAAAAAAA==" }));
    let key = |key: &str| json!({ "pk": { "S": pk(key) }, "sk": { "S": "META" } });
    let get = json!({ "TableName": NAME, "Key": key("other version") });
    let other = doubles.dynamodb.call("GetItem", &get)["Item"].clone();
    let v = doubles.dynamodb.call("GetItem", &json!({ "TableName": NAME, "Key": key("damaged") }));
    let exchanged = json!({ "r": other["r"], "v": v["Item"]["v"] });
    put_row(&doubles, &pk("exchanged"), &exchanged);
    put_row(&doubles, &pk("no record"), &json!({ "v": exchanged["v"] }));
    upload(&doubles, &objects("lost", OLD));
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.illegible, swept.unidentified, swept.undecided), (4, 0, 8));
    assert!(!swept.is_refused() && swept.illegible_rows.iter().all(|row| row.identified));
    let mut pks: Vec<_> = swept.illegible_rows.iter().map(|row| row.pk.clone()).collect();
    let mut expected: Vec<_> = ["damaged", "other version", "exchanged", "no record"].map(pk).into();
    pks.sort();
    expected.sort();
    assert_eq!(pks, expected);
    assert_eq!(swept.total.deleted, 2, "others are not held up by them");
    for key in ["damaged", "other version", "exchanged", "no record"] {
        assert!(there(&doubles, &objects(key, OLD + 1)), "{key}");
    }
}

#[tokio::test]
async fn a_row_of_which_nobody_can_tell_whose_it_is_stops_every_deletion() {
    let (doubles, aws) = with(Layout::table_theory()).await;
    // The key of the row says neither tenant nor deployment.
    put_row(&doubles, "CACHE#/damaged", &json!({ "r": no_record() }));
    upload(&doubles, &objects("lost", OLD));
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.total.orphans, swept.total.deleted, swept.unidentified), (2, 0, 1));
    assert!(swept.is_refused());
    let [row] = &swept.illegible_rows[..] else { panic!("one row") };
    assert!(row.pk == "CACHE#/damaged" && !row.identified && !row.why.is_empty(), "{row:?}");
    assert_eq!(doubles.counters.of("DeleteObjects"), 0);
    // Mended, it goes on.
    doubles.dynamodb.call(
        "DeleteItem",
        &json!({ "TableName": NAME, "Key": { "pk": { "S": "CACHE#/damaged" }, "sk": { "S": "META" } } }),
    );
    assert_eq!(sweep(&aws, &wet()).await.total.deleted, 2);
}

/// Whoever reads the first of them, in a table that has far more, must see those that keep everything from going.
#[tokio::test]
async fn rows_of_which_nobody_can_tell_whose_they_are_are_named_before_others() {
    let (doubles, aws) = with(Layout::table_theory()).await;
    let put = |key: &str, version: &Value| {
        let record = record::encode_entry(&id(key), &committed(key, OLD, OLD));
        let attributes = json!({ "r": { "B": STANDARD.encode(record) }, "v": version });
        put_row(&doubles, &format!("CACHE#{key}"), &attributes);
    };
    let nobodys = |n: usize| format!("CACHE#/{n:0>3}/nobody's");
    for n in 0..2 * MAX_NAMED {
        put(&format!("/{n:0>3}/known"), &json!({ "S": "no version" }));
        if n % 4 == 0 {
            put_row(&doubles, &nobodys(n), &json!({ "r": no_record() }));
        }
    }
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.illegible, swept.unidentified), (250, 50));
    let (known, unknown): (Vec<_>, Vec<_>) = swept.illegible_rows.iter().partition(|row| row.identified);
    assert_eq!((known.len(), unknown.len()), (MAX_NAMED - 50, 50));
    assert!(swept.illegible_rows.is_sorted_by_key(|row| row.identified));
    let mut pks: Vec<_> = unknown.iter().map(|row| row.pk.clone()).collect();
    pks.sort();
    assert_eq!(pks, (0..2 * MAX_NAMED).step_by(4).map(nobodys).collect::<Vec<_>>());
}

/// The key of the row does not say it, but its record still does.
#[tokio::test]
async fn a_row_that_does_not_decode_is_identified_by_its_record_where_its_key_agrees() {
    let (doubles, aws) = with(Layout::table_theory()).await;
    let record = record::encode_entry(&id("/damaged"), &committed("/damaged", OLD, OLD));
    let record = json!({ "B": STANDARD.encode(record) });
    put_row(&doubles, "CACHE#/damaged", &json!({ "r": record, "v": { "S": "no version" } }));
    upload(&doubles, &objects("/damaged", OLD + 1));
    upload(&doubles, &objects("lost", OLD));
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.illegible, swept.unidentified, swept.undecided), (1, 0, 2));
    assert_eq!(swept.total.deleted, 2);
    // The same record under the key of another entry says nothing of that one.
    let key = json!({ "pk": { "S": "CACHE#/damaged" }, "sk": { "S": "META" } });
    let row = doubles.dynamodb.call("GetItem", &json!({ "TableName": NAME, "Key": key }))["Item"].clone();
    put_row(&doubles, "CACHE#/other", &json!({ "r": row["r"], "v": row["v"] }));
    assert_eq!(sweep(&aws, &wet()).await.unidentified, 1);
}

/// Two coordinators with partition keys of their own on one table.
#[tokio::test]
async fn entries_of_another_layout_are_protected_too() {
    let (doubles, aws) = ready().await;
    let layout = Layout { entry_key: "OTHER#{key}".parse().unwrap(), ..Layout::default() };
    let other = doubles.connect(AwsSettings { layout, ..Doubles::settings() });
    let key = "t::/page?";
    create(&other, key, &committed(key, OLD, OLD)).await;
    create(&aws, key, &committed(key, OLD + 1, OLD + 1)).await;
    for granted_at in [OLD, OLD + 1, OLD + 2] {
        upload(&doubles, &objects(key, granted_at));
    }
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.total.deleted, swept.illegible), (2, 0));
    assert!(there(&doubles, &objects(key, OLD)) && there(&doubles, &objects(key, OLD + 1)));
}

#[tokio::test]
async fn all_pages_of_table_and_bucket_are_gone_through() {
    let (doubles, aws) = ready().await;
    for n in 0..10 {
        let key = format!("page {n}");
        create(&aws, &key, &committed(&key, OLD, OLD)).await;
        upload(&doubles, &objects(&key, OLD));
    }
    for n in 0..1_200 {
        upload(&doubles, &objects(&format!("lost {n}"), OLD));
    }
    doubles.counters.reset();
    let mut told = Vec::new();
    let swept = aws.sweep(&wet(), || at(START), |progress| told.push(*progress)).await.unwrap();
    let total =
        Progress { entries: 10, objects: 2_420, orphans: 2_400, orphan_bytes: 240_000, deleted: 2_400 };
    assert_eq!((swept.total, swept.orphans.len(), swept.failed), (total, MAX_NAMED, 0));
    assert_eq!(doubles.s3.names(NAME).len(), 20);
    assert_eq!(
        doubles.counters.requests(),
        [("DeleteObjects", 3), ("HeadBucket", 1), ("ListObjectsV2", 3), ("Scan", 4)]
            .map(|(operation, requests)| (operation.to_owned(), requests))
            .into()
    );
    assert_eq!(told.len(), 10, "after every page and every deletion");
    assert_eq!(told.last(), Some(&total));
    assert!(told.is_sorted_by_key(|told| (told.entries, told.objects, told.orphans, told.deleted)));
    assert_eq!(told[3], Progress { entries: 10, ..Progress::default() });
}

#[tokio::test(start_paused = true)]
async fn throttled_pages_and_deletions_are_waited_out() {
    let (doubles, aws) = ready().await;
    upload(&doubles, &objects("lost", OLD));
    create(&aws, "page", &committed("page", OLD, OLD)).await;
    for operation in ["Scan", "ListObjectsV2", "DeleteObjects"] {
        doubles.faults.add(Rule::on(operation, Fault::Throttle).times(2));
        doubles.faults.add(Rule::on(operation, Fault::FailBefore).nth(1));
    }
    doubles.counters.reset();
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.total.entries, swept.total.deleted, swept.failed), (1, 2, 0));
    for operation in ["Scan", "ListObjectsV2", "DeleteObjects"] {
        assert_eq!(doubles.counters.of(operation), 4, "{operation}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_ends_the_sweep_with_the_name_of_the_call() {
    let (doubles, aws) = ready().await;
    for (operation, fault, said) in [
        ("HeadBucket", Fault::Deny, "HeadBucket of `leasehold-test` failed: AccessDenied (403)"),
        ("Scan", Fault::Deny, "Scan of `leasehold-test` failed: AccessDeniedException (400)"),
        ("ListObjectsV2", Fault::Deny, "ListObjectsV2 of `leasehold-test` failed: AccessDenied (403)"),
        ("Scan", Fault::Throttle, "Scan of `leasehold-test` failed: ThrottlingException (400)"),
        ("ListObjectsV2", Fault::Throttle, "ListObjectsV2 of `leasehold-test` failed: SlowDown (503)"),
    ] {
        doubles.counters.reset();
        let attempts = if matches!(fault, Fault::Throttle) { 12 } else { 1 };
        doubles.faults.add(Rule::on(operation, fault));
        let ended = aws.sweep(&wet(), || at(START), |_| {}).await;
        assert!(matches!(ended, Err(SweepError::Call { .. })));
        assert_eq!(ended.unwrap_err().to_string(), said);
        assert_eq!(doubles.counters.of(operation), attempts, "{said}");
        doubles.faults.clear();
    }
}

#[tokio::test]
async fn deletions_that_fail_are_counted_and_the_others_go_on() {
    let (doubles, aws) = ready().await;
    for n in 0..600 {
        let names = objects(&format!("lost {n}"), OLD);
        upload(&doubles, &names);
        doubles.s3.refuse_to_delete(&names[0]);
    }
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.total.orphans, swept.total.deleted, swept.failed), (1_200, 600, 600));
    assert_eq!(swept.failures.len(), MAX_NAMED);
    assert!(swept.failures.iter().all(|failure| failure.why == "InternalError"));
    assert_eq!(doubles.s3.names(NAME).len(), 600);
    let left = doubles.s3.names(NAME);
    assert!(swept.failures.iter().all(|failure| left.contains(&failure.name.to_string())));
}

#[tokio::test]
async fn a_batch_that_is_refused_as_a_whole_does_not_hold_up_the_next() {
    let (doubles, aws) = ready().await;
    for n in 0..600 {
        upload(&doubles, &objects(&format!("lost {n}"), OLD));
    }
    doubles.faults.add(Rule::on("DeleteObjects", Fault::Deny).nth(1));
    let swept = sweep(&aws, &wet()).await;
    assert_eq!((swept.total.orphans, swept.total.deleted, swept.failed), (1_200, 200, 1_000));
    assert_eq!(swept.failures[0].why, "AccessDenied (403)");
}

/// The lease expired long ago, and its commit comes while the sweep is between reading entries and listing objects.
#[tokio::test]
async fn a_late_commit_between_reading_and_deleting_keeps_its_objects() {
    let (doubles, aws) = ready().await;
    let leased = Entry { lease: Some(lease(OLD)), ..entry(1 << 100, 1) };
    create(&aws, "page", &leased).await;
    upload(&doubles, &objects("page", OLD));
    upload(&doubles, &objects("lost", OLD));
    let gate = doubles.faults.hold("ListObjectsV2");
    let options = wet();
    let (swept, ()) = tokio::join!(sweep(&aws, &options), async {
        gate.arrived(1).await;
        let entries = aws.stores().entries;
        let expected = Expected::Version(Version(1 << 100));
        let swap = entries.swap(&id("page"), expected, &committed("page", OLD, START), LATER).await;
        assert_eq!(swap.unwrap(), Swap::Applied);
        gate.open();
    });
    assert_eq!(swept.total.deleted, 2);
    assert!(there(&doubles, &objects("page", OLD)) && !there(&doubles, &objects("lost", OLD)));
}

/// Granted, uploaded and committed after the entries were read.
#[tokio::test]
async fn a_page_that_is_created_between_reading_and_deleting_keeps_its_objects() {
    let (doubles, aws) = ready().await;
    upload(&doubles, &objects("page", OLD));
    let gate = doubles.faults.hold("ListObjectsV2");
    let options = wet();
    let (swept, ()) = tokio::join!(sweep(&aws, &options), async {
        gate.arrived(1).await;
        doubles.s3.set_time(at(START));
        upload(&doubles, &objects("page", START));
        create(&aws, "page", &committed("page", START, START)).await;
        gate.open();
    });
    assert_eq!(swept.total.deleted, 2);
    assert!(there(&doubles, &objects("page", START)) && !there(&doubles, &objects("page", OLD)));
}

#[tokio::test]
async fn a_sweep_that_is_dropped_before_its_deletion_deletes_nothing() {
    let (doubles, aws) = ready().await;
    upload(&doubles, &objects("lost", OLD));
    let gate = doubles.faults.hold("DeleteObjects");
    let options = wet();
    tokio::select! {
        _ = sweep(&aws, &options) => panic!("it is held"),
        () = gate.arrived(1) => {}
    }
    gate.open();
    assert!(there(&doubles, &objects("lost", OLD)));
    doubles.faults.clear();
    assert_eq!(sweep(&aws, &options).await.total.deleted, 2);
}

#[tokio::test]
async fn a_coordinator_that_scans_is_refused_by_the_double() {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    let ended = aws.sweep(&dry(), || at(START), |_| {}).await;
    assert!(ended.unwrap_err().to_string().contains("ValidationException"));
}

/// An hour ahead, it would take what was uploaded a moment ago for an hour old.
#[tokio::test]
async fn a_clock_that_is_not_that_of_s3_deletes_nothing_and_says_both_times() {
    let (doubles, aws) = ready().await;
    let lost = objects("lost", OLD);
    upload(&doubles, &lost);
    for here in [START - 61, START + 61] {
        let swept = aws.sweep(&wet(), || at(here), |_| {}).await.unwrap();
        assert_eq!(swept.untimely, Some(Untimely::Apart { here: at(here), s3: at(START) }));
        assert!(swept.is_refused());
        assert_eq!((swept.total.orphans, swept.total.deleted), (2, 0));
        assert!(there(&doubles, &lost));
    }
    let said = Untimely::Apart { here: at(START + 3600), s3: at(START) }.to_string();
    assert!(said.contains("2030-03-17T18:46:40Z") && said.contains("2030-03-17T17:46:40Z"), "{said}");
    let swept = aws.sweep(&wet(), || at(START + 60), |_| {}).await.unwrap();
    assert_eq!((swept.untimely, swept.total.deleted), (None, 2));
}

/// S3 refuses what is signed at another time than its own. Here, for want of a bucket.
#[tokio::test]
async fn a_refusal_by_an_s3_of_another_time_says_both_times() {
    let (doubles, _) = ready().await;
    let aws = doubles.connect(AwsSettings { bucket: "nowhere".into(), ..Doubles::settings() });
    let refused = async |here| aws.sweep(&wet(), || at(here), |_| {}).await.unwrap_err().to_string();
    let said = refused(START + 3600).await;
    assert!(said.contains("404") && said.contains("T18:46:40Z") && said.contains("T17:46:40Z"), "{said}");
    assert!(!refused(START).await.contains("clock"));
}

#[tokio::test]
async fn ages_are_judged_by_the_earlier_of_two_clocks() {
    let limit = START - (KEEP.max_hold + KEEP.grace).as_secs();
    for (here, s3) in [(START + 30, START), (START, START + 30)] {
        let (doubles, aws) = ready().await;
        doubles.s3.set_date(at(s3));
        upload(&doubles, &objects("young", limit));
        upload(&doubles, &objects("old", limit - 1));
        let swept = aws.sweep(&wet(), || at(here), |_| {}).await.unwrap();
        assert_eq!(swept.total.deleted, 2, "{here} {s3}");
        assert!(there(&doubles, &objects("young", limit)));
    }
}

#[tokio::test]
async fn an_s3_that_tells_no_time_gets_nothing_deleted() {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    doubles.dynamodb.allow_scan(3);
    upload(&doubles, &objects("lost", OLD));
    let swept = sweep(&aws, &wet()).await;
    assert_eq!(swept.untimely, Some(Untimely::Untold));
    assert_eq!((swept.total.orphans, swept.total.deleted), (2, 0));
}

/// The answer comes an hour late.
#[tokio::test]
async fn what_had_to_be_waited_for_is_no_difference_of_clocks() {
    let (doubles, aws) = ready().await;
    let here = AtomicU64::new(START);
    let gate = doubles.faults.hold("HeadBucket");
    let options = wet();
    let swept = aws.sweep(&options, || at(here.load(Ordering::Relaxed)), |_| {});
    let (swept, ()) = tokio::join!(swept, async {
        gate.arrived(1).await;
        here.store(START + 3600, Ordering::Relaxed);
        doubles.s3.set_date(at(START + 3600));
        gate.open();
    });
    assert_eq!(swept.unwrap().untimely, None);
}

/// In a bucket of another table every page would be an orphan.
#[tokio::test]
async fn a_table_that_is_not_that_of_the_bucket_deletes_nothing() {
    let (doubles, aws) = ready().await;
    let careful = SweepOptions { force: false, ..wet() };
    let pages = objects("page", OLD);
    upload(&doubles, &pages);
    let swept = sweep(&aws, &careful).await;
    assert!(swept.is_refused() && swept.unrelated, "no entries: {swept:?}");
    assert_eq!((swept.total.orphans, swept.total.deleted), (2, 0));
    // Its pages are elsewhere.
    create(&aws, "other", &committed("other", OLD + 1, OLD + 2)).await;
    assert!(sweep(&aws, &careful).await.unrelated);
    assert!(there(&doubles, &pages));
    upload(&doubles, &objects("other", OLD + 1));
    assert!(!sweep(&aws, &careful).await.is_refused());
    assert!(!there(&doubles, &pages));
}

/// A fleet is swept from its first day on, and the sweep of an empty table is no failure.
#[tokio::test]
async fn a_table_and_a_bucket_that_are_new_are_swept_without_a_refusal() {
    let (doubles, aws) = ready().await;
    let careful = SweepOptions { force: false, ..wet() };
    let swept = sweep(&aws, &careful).await;
    assert!(!swept.is_refused() && !swept.unrelated, "empty: {swept:?}");
    // The first page is being rendered: its body is there, and nothing names it yet.
    let pages = objects("page", START - 1);
    doubles.s3.set_time(at(START - 1));
    upload(&doubles, &pages);
    let swept = sweep(&aws, &careful).await;
    assert!(!swept.is_refused() && there(&doubles, &pages), "the first: {swept:?}");
}

#[tokio::test]
async fn only_some_of_the_pages_of_a_large_table_are_looked_for_in_the_bucket() {
    let (doubles, aws) = ready().await;
    for n in 0..40 {
        let key = format!("page {n}");
        create(&aws, &key, &committed(&key, OLD, OLD)).await;
    }
    upload(&doubles, &objects("of another table", OLD));
    doubles.counters.reset();
    let swept = sweep(&aws, &SweepOptions { force: false, ..wet() }).await;
    assert!(swept.unrelated);
    assert_eq!((doubles.counters.of("HeadObject"), swept.total.deleted), (32, 0));
}

/// A table that names no page at all says nothing of the bucket: its only entry was granted and never committed.
#[tokio::test]
async fn a_table_that_names_no_page_deletes_nothing() {
    let (doubles, aws) = ready().await;
    let pages = objects("page", OLD);
    upload(&doubles, &pages);
    let granted = Entry { lease: Some(lease(OLD)), ..entry(u128::from(OLD) << 100, OLD) };
    create(&aws, "other", &Entry { pointer: None, ..granted }).await;
    let swept = sweep(&aws, &SweepOptions { force: false, ..wet() }).await;
    assert!(there(&doubles, &pages), "pages of another table are deleted: {swept:?}");
    assert!(swept.unrelated);
}
