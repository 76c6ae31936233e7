//! What housekeeping takes, and what it must leave.

use super::*;
use crate::conformance::samples::pointer;
use leasehold_core::{
    entry::Lease,
    identity::Generation,
    named::{GivenName, ORIGIN_ATTRIBUTE, Origin},
    object::{ObjectPrefix, PageObjects, names_for},
    page::Pointer,
};

const KEEP: Keep = Keep { max_hold: Duration::from_millis(100), grace: Duration::from_millis(1_000) };

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

async fn create_until(store: &EmbeddedStore, key: &str, entry: &Entry, forget_after: u64) {
    let swap = store.swap(&id(key), Expected::Absent, entry, at(forget_after)).await;
    assert_eq!(swap.unwrap(), Swap::Applied);
}

async fn keys(store: &EmbeddedStore, keys: &[&str]) -> Vec<bool> {
    let mut there = Vec::new();
    for key in keys {
        there.push(store.read(&id(key)).await.unwrap().is_some());
    }
    there
}

#[tokio::test]
async fn entries_past_their_time_are_forgotten_with_the_objects_of_their_pointers() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let page = |generation: u64| {
        let mut entry = full_entry(1, generation);
        entry.lease = None;
        entry
    };
    let put = async |pointer: &Pointer| {
        for name in pointer.objects() {
            let body = body(1, 100);
            store.put(name, body.clone(), digest(&body), &object_meta()).await.unwrap();
        }
    };
    for (key, generation, forget_after) in [("old", 1, 1_000), ("young", 2, 3_000), ("due now", 3, 2_000)] {
        put(page(generation).pointer.as_ref().unwrap()).await;
        create_until(&store, key, &page(generation), forget_after).await;
    }
    let done = store.housekeep(at(2_000), KEEP).await.unwrap();
    assert_eq!((done.entries, done.objects), (1, 2));
    assert_eq!(
        keys(&store, &["old", "young", "due now"]).await,
        [false, true, true],
        "after its time, not at it"
    );
    let objects = |generation: u64| page(generation).pointer.unwrap().objects().cloned().collect::<Vec<_>>();
    for name in objects(1) {
        assert_eq!(store.info(&name).await.unwrap(), None);
    }
    for name in objects(2).into_iter().chain(objects(3)) {
        assert!(store.info(&name).await.unwrap().is_some());
    }
    assert_eq!(
        store.housekeep(at(2_000), KEEP).await.unwrap(),
        Housekept::default(),
        "nothing is left to do"
    );
}

#[tokio::test]
async fn events_are_forgotten_after_their_time_and_not_at_it() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    for (seq, forget_after) in [(1, 1_000), (2, 2_000)] {
        let event = LogEvent { forget_after: at(forget_after), ..event(seq, 1) };
        store.append(Seq(seq - 1), &event).await.unwrap();
    }
    for (now, forgotten) in [(1_000, 0), (2_000, 1), (2_001, 1)] {
        assert_eq!(store.housekeep(at(now), KEEP).await.unwrap().events, forgotten, "{now}");
    }
    assert_eq!(store.head().await.unwrap().seq, Seq(2));
}

#[tokio::test]
async fn an_entry_whose_lease_may_live_is_kept_whatever_its_forget_after() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let leased = |expires_at: u64, hold_until: u64| {
        let mut entry = full_entry(1, 1);
        let lease = entry.lease.as_mut().unwrap();
        (lease.expires_at, lease.hold_until) = (at(expires_at), at(hold_until));
        entry
    };
    create_until(&store, "live", &leased(3_000, 3_000), 1_000).await;
    create_until(&store, "renewable", &leased(1_500, 3_000), 1_000).await;
    create_until(&store, "held", &leased(3_000, 1_500), 1_000).await;
    create_until(&store, "over", &leased(1_500, 1_900), 1_000).await;
    create_until(&store, "for ever", &leased(u64::MAX, u64::MAX), 1_000).await;
    let all = ["live", "renewable", "held", "over", "for ever"];
    assert_eq!(store.housekeep(at(2_000), KEEP).await.unwrap().entries, 1);
    assert_eq!(keys(&store, &all).await, [true, true, true, false, true]);
    assert_eq!(store.housekeep(at(4_000), KEEP).await.unwrap().entries, 3);
    assert_eq!(keys(&store, &all).await, [false, false, false, false, true]);
}

#[tokio::test]
async fn more_than_a_batch_is_forgotten_in_one_run_while_others_write() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let count = HOUSEKEEPING_BATCH as u64 * 3;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..count {
        let store = store.clone();
        tasks.spawn(async move { create_until(&store, &format!("old {n}"), &entry(1, 1), 1_000).await });
    }
    tasks.join_all().await;
    for seq in 1..=count {
        let event = LogEvent { forget_after: at(1_000), ..event(seq, 1) };
        store.append(Seq(seq - 1), &event).await.unwrap();
    }
    let (done, ()) = tokio::join!(store.housekeep(at(2_000), KEEP), async {
        for n in 0..50 {
            create_until(&store, &format!("young {n}"), &entry(1, 1), 9_000).await;
        }
    });
    let done = done.unwrap();
    assert_eq!((done.entries, done.events), (count, count));
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.entries, stats.events), (50, 0));
    assert_eq!(store.head().await.unwrap().seq, Seq(count));
}

#[tokio::test]
async fn space_is_given_back_but_for_a_spare() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let large = body(1, 1_000_000);
    let names: Vec<ObjectName> = (0..40).map(object_name).collect();
    for name in &names {
        store.put(name, large.clone(), digest(&large), &object_meta()).await.unwrap();
    }
    store.delete(&names).await.unwrap();
    let before = store.stats().await.unwrap();
    assert!(before.unused_bytes > 39_000_000, "{before:?}");
    let freed = store.housekeep(at(0), KEEP).await.unwrap().freed_bytes;
    let after = store.stats().await.unwrap();
    assert_eq!(freed, before.unused_bytes - after.unused_bytes);
    assert_eq!(after.unused_bytes, SPARE_PAGES * 4096);
    assert!(after.used_bytes <= before.used_bytes && after.used_bytes > 0);
}

#[tokio::test]
async fn an_undecodable_entry_past_its_time_is_forgotten_too() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    create_until(&store, "a", &entry(1, 1), 1_000).await;
    sqlite(&dir).execute("UPDATE entries SET record = x'ff'", []).unwrap();
    assert_eq!(store.housekeep(at(2_000), KEEP).await.unwrap().entries, 1);
    assert_eq!(store.read(&id("a")).await.unwrap(), None);
}

/// A lease of `key` that was granted at `granted_at`, and has long expired.
fn lease(granted_at: u64) -> Lease {
    let lease = full_entry(1, granted_at).lease.unwrap();
    Lease { granted_at: at(granted_at), expires_at: at(granted_at), hold_until: at(granted_at), ..lease }
}

/// What is written under the lease of `key` that was granted at `granted_at`.
fn objects(key: &str, granted_at: u64) -> [ObjectName; 2] {
    let PageObjects { html, sidecar } = names_for(&ObjectPrefix::default(), &id(key), &lease(granted_at));
    [html, sidecar]
}

/// The entry of a page that was rendered under the lease of `granted_at`, and committed at `committed_at`.
fn committed(key: &str, granted_at: u64, committed_at: u64) -> Entry {
    let [html, sidecar] = objects(key, granted_at);
    let mut pointer = Pointer { committed_at: at(committed_at), ..pointer(granted_at) };
    pointer.html.object = html;
    pointer.sidecar.as_mut().unwrap().object = sidecar;
    Entry { pointer: Some(pointer), ..entry(granted_at.into(), granted_at) }
}

async fn upload(store: &EmbeddedStore, names: &[ObjectName]) {
    for name in names {
        let body = body(1, 100);
        store.put(name, body.clone(), digest(&body), &object_meta()).await.unwrap();
    }
}

/// Which of the objects are in the store.
async fn there(store: &EmbeddedStore, names: impl AsRef<[ObjectName]>) -> Vec<bool> {
    let mut there = Vec::new();
    for name in names.as_ref() {
        there.push(store.info(name).await.unwrap().is_some());
    }
    there
}

#[tokio::test]
async fn a_body_that_was_uploaded_and_never_committed_goes_after_its_time() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    // Its lease was released, overtaken by another one, or forgotten with the entry.
    create(&store, "released", &entry(1, 1)).await.unwrap();
    let overtaken = Entry { lease: Some(lease(1_001)), ..entry(1, 2) };
    create(&store, "overtaken", &overtaken).await.unwrap();
    for key in ["released", "overtaken", "forgotten"] {
        upload(&store, &objects(key, 1_000)).await;
    }
    assert_eq!(store.housekeep(at(2_100), KEEP).await.unwrap().orphans, 0, "after its time, not at it");
    assert_eq!(
        store.housekeep(at(2_101), KEEP).await.unwrap(),
        Housekept { orphans: 6, ..Default::default() }
    );
    for key in ["released", "overtaken", "forgotten"] {
        assert_eq!(there(&store, objects(key, 1_000)).await, [false, false], "{key}");
    }
    assert_eq!(
        store.housekeep(at(2_101), KEEP).await.unwrap(),
        Housekept::default(),
        "nothing is left to do"
    );
}

#[tokio::test]
async fn superseded_bodies_that_a_crash_left_behind_go_and_current_ones_never() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    create(&store, "page", &committed("page", 3_000, 3_010)).await.unwrap();
    for granted_at in [1_000, 2_000, 3_000] {
        upload(&store, &objects("page", granted_at)).await;
    }
    let mut gone = committed("gone", 1_000, 1_010);
    gone.pointer.as_mut().unwrap().gone = true;
    create(&store, "gone", &gone).await.unwrap();
    upload(&store, &objects("gone", 1_000)).await;
    // Nothing of this store has another way to know of them.
    store.close().await;
    let store = open(&dir);
    assert_eq!(store.housekeep(LATER, KEEP).await.unwrap().orphans, 4);
    for granted_at in [1_000, 2_000] {
        assert_eq!(there(&store, objects("page", granted_at)).await, [false, false]);
    }
    assert_eq!(there(&store, objects("page", 3_000)).await, [true, true]);
    assert_eq!(there(&store, objects("gone", 1_000)).await, [true, true]);
}

#[tokio::test]
async fn what_is_written_under_the_lease_on_record_stays_however_old_it_is() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let first = Entry { lease: Some(lease(1_000)), ..entry(1, 1) };
    create(&store, "first", &first).await.unwrap();
    let next = Entry { lease: Some(lease(1_000)), ..committed("next", 900, 910) };
    create(&store, "next", &next).await.unwrap();
    for key in ["first", "next"] {
        upload(&store, &objects(key, 1_000)).await;
    }
    assert_eq!(store.housekeep(LATER, KEEP).await.unwrap().orphans, 0);
    for key in ["first", "next"] {
        assert_eq!(there(&store, objects(key, 1_000)).await, [true, true], "{key}");
    }
}

#[tokio::test]
async fn what_was_superseded_a_moment_ago_keeps_its_grace() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    create(&store, "page", &committed("page", 8_990, 9_000)).await.unwrap();
    upload(&store, &objects("page", 1_000)).await;
    assert_eq!(store.housekeep(at(10_000), KEEP).await.unwrap().orphans, 0);
    assert_eq!(there(&store, objects("page", 1_000)).await, [true, true]);
    assert_eq!(store.housekeep(at(10_001), KEEP).await.unwrap().orphans, 2);
}

#[tokio::test]
async fn what_another_writer_named_is_never_touched() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let [html, _] = objects("page", 1_000);
    let (directory, file) = html.as_str().rsplit_once('/').unwrap();
    let foreign = [
        "x".to_owned(),
        "isr/0123456789abcdef01234567/1000-9d0f63dc-c9b0-4d20-9264-91df3e6db293.html".to_owned(),
        format!("{directory}/0{file}"),
        format!("{directory}/{file}.gz"),
        format!("{}/{file}", directory.to_uppercase()),
        format!("isr/{file}"),
    ]
    .map(|name| ObjectName::parse(&name).unwrap());
    upload(&store, &foreign).await;
    // But another prefix than today's is our own.
    let ours = names_for(&ObjectPrefix::parse("b/c").unwrap(), &id("page"), &lease(1_000));
    upload(&store, &[html, ours.html]).await;
    assert_eq!(store.housekeep(LATER, KEEP).await.unwrap().orphans, 2);
    assert_eq!(there(&store, foreign).await, [true; 6]);
}

/// Puts a body of `key` that its worker named, under the lease that was granted at `granted_at`.
async fn upload_named(store: &EmbeddedStore, key: &str, given: &str, granted_at: u64) -> ObjectName {
    let (name, body) = (stored_as(key, given), body(1, 100));
    let origin = Origin::of(&id(key), &lease(granted_at), digest(&body)).encode();
    let meta = ObjectMeta { attributes: vec![(ORIGIN_ATTRIBUTE.to_owned(), origin)], ..object_meta() };
    store.put(&name, body.clone(), digest(&body), &meta).await.unwrap();
    name
}

fn stored_as(key: &str, given: &str) -> ObjectName {
    GivenName::of_any_kind(given).unwrap().stored(&ObjectPrefix::default(), &id(key).tenant)
}

#[tokio::test]
async fn bodies_that_their_worker_named_go_by_the_lease_that_is_written_on_them() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let mut page = committed("page", 3_000, 3_010);
    page.pointer.as_mut().unwrap().html.object = stored_as("page", "current.html");
    create(&store, "page", &page).await.unwrap();
    let leased = Entry { lease: Some(lease(1_000)), ..entry(1, 1) };
    create(&store, "leased", &leased).await.unwrap();
    // Named like a body of another entry, whose page is current.
    let [of_another, _] = objects("page", 3_000);
    let kept = [
        upload_named(&store, "page", "current.html", 3_000).await,
        upload_named(&store, "leased", "leased.html", 1_000).await,
    ];
    let orphans = [
        upload_named(&store, "page", "superseded.html", 1_000).await,
        upload_named(&store, "page", "superseded.hydration.json", 1_000).await,
        upload_named(&store, "never committed", of_another.as_str(), 1_000).await,
    ];
    let silent = stored_as("page", "silent.html");
    upload(&store, std::slice::from_ref(&silent)).await;
    assert_eq!(store.housekeep(at(2_100), KEEP).await.unwrap().orphans, 0, "after its time, not at it");
    assert_eq!(store.housekeep(LATER, KEEP).await.unwrap().orphans, 3);
    assert_eq!((there(&store, kept).await, there(&store, orphans).await), (vec![true; 2], vec![false; 3]));
    assert_eq!(there(&store, [silent.clone()]).await, [true], "nobody can tell whose it is");
    // Nor where it does not decode at all.
    let damage = "UPDATE objects SET meta = x'ff' WHERE name = ?1";
    let [_, leased] = [stored_as("page", "current.html"), stored_as("leased", "leased.html")];
    assert_eq!(sqlite(&dir).execute(damage, [leased.as_str()]).unwrap(), 1);
    let id = id("leased");
    let version = store.read(&id).await.unwrap().unwrap().version;
    let swap = store.swap(&id, Expected::Version(version), &entry(2, 1), LATER).await;
    assert_eq!(swap.unwrap(), Swap::Applied);
    assert_eq!(store.housekeep(LATER, KEEP).await.unwrap().orphans, 0);
    assert_eq!(there(&store, [silent, leased]).await, [true, true]);
}

#[tokio::test]
async fn objects_of_an_undecodable_entry_stay_until_it_is_forgotten() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    for key in ["damaged", "exchanged"] {
        create_until(&store, key, &committed(key, 1_000, 1_010), 50_000).await;
        upload(&store, &objects(key, 1_000)).await;
    }
    upload(&store, &objects("orphan", 1_000)).await;
    let connection = sqlite(&dir);
    let other = crate::record::encode_entry(&id("other"), &entry(1, 1));
    for (key, record) in [("damaged", vec![0xff]), ("exchanged", other)] {
        let update = "UPDATE entries SET record = ?2 WHERE digest = ?1";
        assert_eq!(connection.execute(update, rusqlite::params![id(key).digest(), record]).unwrap(), 1);
    }
    assert_eq!(store.housekeep(at(50_000), KEEP).await.unwrap().orphans, 2, "others are not held up by them");
    for key in ["damaged", "exchanged"] {
        assert_eq!(there(&store, objects(key, 1_000)).await, [true, true], "{key}");
    }
    let done = store.housekeep(at(50_001), KEEP).await.unwrap();
    assert_eq!((done.entries, done.orphans), (2, 4));
}

#[tokio::test]
async fn more_orphans_than_a_step_go_in_one_run() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let count = HOUSEKEEPING_BATCH as u64;
    let mut current = Vec::new();
    for n in 0..count {
        // Some entries keep theirs, so that the walk must get past these.
        let key = format!("page {n}");
        upload(&store, &objects(&key, 1_000)).await;
        if n % 2 == 0 {
            create(&store, &key, &committed(&key, 1_000, 1_010)).await.unwrap();
            current.extend(objects(&key, 1_000));
        }
        upload(&store, &objects(&key, 900)).await;
    }
    let large = body(1, 5 << 20);
    for granted_at in 0..5 {
        let [name, _] = objects("large", granted_at);
        store.put(&name, large.clone(), digest(&large), &object_meta()).await.unwrap();
    }
    assert_eq!(store.housekeep(LATER, KEEP).await.unwrap().orphans, 3 * count + 5);
    assert_eq!(store.stats().await.unwrap().objects, count);
    assert!(there(&store, &current).await.into_iter().all(|there| there));
}

#[tokio::test]
async fn an_orphan_that_is_committed_before_it_is_deleted_stays() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let names = objects("page", 1_000);
    upload(&store, &names).await;
    let found =
        store.readers.read(|connection| orphans::find(connection, "", 10, LATER, KEEP)).await.unwrap();
    assert_eq!(found.orphans.len(), 2);
    create(&store, "page", &committed("page", 1_000, 1_010)).await.unwrap();
    let deleted = store
        .writer
        .write(0, move |connection| orphans::delete(connection, &found.orphans, LATER, KEEP))
        .await;
    assert_eq!(deleted.unwrap(), 0);
    assert_eq!(there(&store, names).await, [true, true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn housekeeping_beside_commits_loses_no_current_body() {
    const PAGES: u64 = 8;
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let hasty = Keep { max_hold: Duration::ZERO, grace: Duration::ZERO };
    let mut workers = tokio::task::JoinSet::new();
    for page in 0..PAGES {
        let store = store.clone();
        workers.spawn(async move {
            let key = format!("page {page}");
            let mut current = entry(1, 0);
            create(&store, &key, &current).await.unwrap();
            for granted_at in 1..=50 {
                let leased = Entry {
                    lease: Some(Lease { generation: Generation(granted_at), ..lease(granted_at) }),
                    version: Version(u128::from(granted_at) << 64),
                    ..current.clone()
                };
                let next = committed(&key, granted_at, granted_at);
                swap(&store, &key, &current, &leased).await;
                upload(&store, &objects(&key, granted_at)).await;
                swap(&store, &key, &leased, &next).await;
                assert_eq!(there(&store, objects(&key, granted_at)).await, [true, true]);
                current = next;
            }
        });
    }
    let mut orphans = 0;
    while !workers.is_empty() {
        orphans += store.housekeep(LATER, hasty).await.unwrap().orphans;
        while let Some(worker) = workers.try_join_next() {
            worker.unwrap();
        }
    }
    orphans += store.housekeep(LATER, hasty).await.unwrap().orphans;
    assert_eq!(orphans, PAGES * 49 * 2);
    for page in 0..PAGES {
        assert_eq!(there(&store, objects(&format!("page {page}"), 50)).await, [true, true]);
    }
}

async fn swap(store: &EmbeddedStore, key: &str, expected: &Entry, next: &Entry) {
    let swap = store.swap(&id(key), Expected::Version(expected.version), next, LATER).await;
    assert_eq!(swap.unwrap(), Swap::Applied);
}
