use super::*;
use crate::conformance::samples::{
    LATER, body, digest, entry, event, full_entry, id, object_meta, object_name,
};
use leasehold_core::identity::{RequestId, Version};
use std::{fs, pin::Pin};
use tempfile::{TempDir, tempdir};

mod damage;
mod failures;
mod housekeeping;
mod opening;

type Writing = Pin<Box<dyn Future<Output = Result<Swap, WriteError>> + Send>>;

fn open(dir: &TempDir) -> Arc<EmbeddedStore> {
    Arc::new(EmbeddedStore::open(dir.path()).unwrap())
}

/// Another connection to the same file: an operator's tool, or damage.
fn sqlite(dir: &TempDir) -> rusqlite::Connection {
    rusqlite::Connection::open(dir.path().join("leasehold.db")).unwrap()
}

async fn create(store: &EmbeddedStore, key: &str, entry: &Entry) -> Result<Swap, WriteError> {
    store.swap(&id(key), Expected::Absent, entry, LATER).await
}

/// A creation that has been handed to the writer's queue, but not awaited.
async fn begin_create(store: &Arc<EmbeddedStore>, key: String, version: u128) -> Writing {
    let store = store.clone();
    let mut writing: Writing = Box::pin(async move { create(&store, &key, &entry(version, 1)).await });
    tokio::select! {
        biased;
        outcome = &mut writing => panic!("answered at once: {outcome:?}"),
        () = std::future::ready(()) => {}
    }
    writing
}

#[tokio::test]
async fn reads_do_not_wait_for_the_writer() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    create(&store, "a", &entry(1, 1)).await.unwrap();
    let other = sqlite(&dir);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let blocked = begin_create(&store, "b".into(), 1).await;
    assert_eq!(store.read(&id("a")).await.unwrap(), Some(entry(1, 1)));
    assert_eq!(store.read(&id("b")).await.unwrap(), None);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(blocked.await.unwrap(), Swap::Applied);
    assert_eq!(store.read(&id("b")).await.unwrap(), Some(entry(1, 1)));
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait_and_loses_nothing() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let other = sqlite(&dir);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // More than the queue and a group hold together.
    let mut writings = Vec::new();
    for n in 0..3_000 {
        writings.push(begin_create(&store, format!("key {n}"), 1).await);
    }
    other.execute_batch("ROLLBACK").unwrap();
    let tasks: Vec<_> = writings.into_iter().map(tokio::spawn).collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), Swap::Applied);
    }
    assert_eq!(store.stats().await.unwrap().entries, 3_000);
}

#[tokio::test]
async fn what_is_over_a_limit_is_refused_without_effect() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let body = Bytes::from(vec![0; MAX_OBJECT_BYTES + 1]);
    let put = store.put(&object_name(1), body.clone(), digest(&body), &object_meta()).await;
    assert!(matches!(put, Err(WriteError::TooLarge(_))), "{put:?}");
    assert_eq!(store.info(&object_name(1)).await.unwrap(), None);
    let mut large = full_entry(1, 1);
    large.backoff.as_mut().unwrap().reason = "x".repeat(MAX_RECORD_BYTES);
    let swap = create(&store, "a", &large).await;
    assert!(matches!(swap, Err(WriteError::TooLarge(_))), "{swap:?}");
    assert_eq!(store.read(&id("a")).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_just_within_a_limit_is_kept() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let body = Bytes::from(vec![1; MAX_OBJECT_BYTES]);
    let put = store.put(&object_name(1), body.clone(), digest(&body), &object_meta()).await;
    assert_eq!(put.unwrap(), Put::Created);
    let mut large = full_entry(1, 1);
    let mut of_reason = |bytes: usize| {
        large.backoff.as_mut().unwrap().reason = "x".repeat(bytes);
        large.clone()
    };
    let over = crate::record::encode_entry(&id("a"), &of_reason(MAX_RECORD_BYTES)).len() - MAX_RECORD_BYTES;
    let swap = create(&store, "a", &of_reason(MAX_RECORD_BYTES - over + 1)).await;
    assert!(matches!(swap, Err(WriteError::TooLarge(_))), "{swap:?}");
    let longest = of_reason(MAX_RECORD_BYTES - over);
    assert_eq!(create(&store, "a", &longest).await.unwrap(), Swap::Applied);
    assert_eq!(store.read(&id("a")).await.unwrap(), Some(longest));
}

#[tokio::test]
async fn an_event_that_does_not_follow_its_head_is_refused() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    for (expected, seq) in [(Seq(0), 2), (Seq(1), 1), (Seq(u64::MAX), 0)] {
        let append = store.append(expected, &event(seq, 1)).await;
        assert!(matches!(append, Err(WriteError::NotApplied(_))), "{append:?}");
    }
    assert_eq!(store.head().await.unwrap(), Head::EMPTY);
}

#[tokio::test]
async fn bodies_are_never_served_by_the_store_itself() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let body = body(1, 10);
    store.put(&object_name(1), body.clone(), digest(&body), &object_meta()).await.unwrap();
    assert_eq!(store.url(&object_name(1), Duration::from_secs(60)).await.unwrap(), None);
}

#[tokio::test]
async fn stats_tell_what_is_in_the_store() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let before = store.stats().await.unwrap();
    assert_eq!((before.entries, before.events, before.objects), (0, 0, 0));
    for n in 0..3u64 {
        create(&store, &format!("key {n}"), &entry(1, 1)).await.unwrap();
    }
    for seq in 1..=2 {
        store.append(Seq(seq - 1), &event(seq, 1)).await.unwrap();
    }
    let body = body(1, 1_000_000);
    store.put(&object_name(1), body.clone(), digest(&body), &object_meta()).await.unwrap();
    let after = store.stats().await.unwrap();
    assert_eq!((after.entries, after.events, after.objects), (3, 2, 1));
    assert!(after.used_bytes > before.used_bytes + 900_000, "{before:?} {after:?}");
}
