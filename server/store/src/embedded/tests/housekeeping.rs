//! What housekeeping takes, and what it must leave.

use super::*;
use leasehold_core::page::Pointer;

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
    let done = store.housekeep(at(2_000)).await.unwrap();
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
    assert_eq!(store.housekeep(at(2_000)).await.unwrap(), Housekept::default(), "nothing is left to do");
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
    assert_eq!(store.housekeep(at(2_000)).await.unwrap().entries, 1);
    assert_eq!(keys(&store, &all).await, [true, true, true, false, true]);
    assert_eq!(store.housekeep(at(4_000)).await.unwrap().entries, 3);
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
    let (done, ()) = tokio::join!(store.housekeep(at(2_000)), async {
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
    let freed = store.housekeep(at(0)).await.unwrap().freed_bytes;
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
    assert_eq!(store.housekeep(at(2_000)).await.unwrap().entries, 1);
    assert_eq!(store.read(&id("a")).await.unwrap(), None);
}
