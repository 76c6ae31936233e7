//! What goes wrong in a group, and who is told what. Triggers make SQLite fail in each of its ways.

use super::*;

/// The version that the triggers below wait for.
const POISON: u128 = 0xbad;

/// Fails the one statement that puts the poison in.
const STATEMENT_FAILS: &str = "SELECT RAISE(ABORT, 'poison')";
/// Ends the whole transaction in the middle, as a full disk does.
const TRANSACTION_FAILS: &str = "SELECT RAISE(ROLLBACK, 'poison')";
/// Lets every statement pass and fails COMMIT.
const COMMIT_FAILS: &str = "INSERT INTO orphans VALUES (1)";

fn poison(dir: &TempDir, failure: &str) {
    let connection = sqlite(dir);
    connection
        .execute_batch(&format!(
            "CREATE TABLE parents (id INTEGER PRIMARY KEY);
             CREATE TABLE orphans (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER poisoned AFTER INSERT ON entries WHEN NEW.version = x'{POISON:032x}'
             BEGIN {failure}; END;",
        ))
        .unwrap();
}

/// Creates 40 entries in one group, one of them poisoned; answers with what the poisoned one was told, and checks the
/// others.
async fn poisoned_group(failure: &str) -> WriteError {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    poison(&dir, failure);
    create(&store, "taken", &entry(7, 7)).await.unwrap();
    let other = sqlite(&dir);
    // The writer gets the first operation and waits; the others gather behind it.
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let first = begin_create(&store, "first".into(), 1).await;
    let mut group = Vec::new();
    for n in 0..40 {
        group.push(begin_create(&store, format!("key {n}"), if n == 20 { POISON } else { 1 }).await);
    }
    let refused = begin_create(&store, "taken".into(), 1).await;
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(first.await.unwrap(), Swap::Applied);
    let mut told = None;
    for (n, writing) in group.into_iter().enumerate() {
        match writing.await {
            Ok(swap) => assert_eq!((swap, n == 20), (Swap::Applied, false), "operation {n}"),
            Err(error) => {
                assert_eq!(n, 20, "spoiled by the poisoned one: {error}");
                told = Some(error);
            }
        }
    }
    assert_eq!(refused.await.unwrap(), Swap::Refused(Some(entry(7, 7))));
    let entries: Vec<bool> = {
        let mut there = Vec::new();
        for n in 0..40 {
            there.push(store.read(&id(&format!("key {n}"))).await.unwrap().is_some());
        }
        there
    };
    assert!(entries.iter().enumerate().all(|(n, there)| *there == (n != 20)));
    assert_eq!(create(&store, "afterwards", &entry(1, 1)).await.unwrap(), Swap::Applied);
    drop(store);
    assert_eq!(open(&dir).stats().await.unwrap().entries, 42);
    told.unwrap()
}

#[tokio::test]
async fn a_failed_statement_spoils_no_other_operation_of_its_group() {
    let told = poisoned_group(STATEMENT_FAILS).await;
    assert!(matches!(told, WriteError::NotApplied(_)), "{told:?}");
}

#[tokio::test]
async fn a_failed_transaction_spoils_no_other_operation_of_its_group() {
    let told = poisoned_group(TRANSACTION_FAILS).await;
    assert!(matches!(told, WriteError::NotApplied(_)), "{told:?}");
}

#[tokio::test]
async fn a_failed_commit_is_of_unknown_outcome_and_spoils_no_other_operation_of_its_group() {
    let told = poisoned_group(COMMIT_FAILS).await;
    assert!(matches!(told, WriteError::Unknown(_)), "{told:?}");
}

#[tokio::test]
async fn a_lone_operation_whose_commit_fails_is_of_unknown_outcome() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    poison(&dir, COMMIT_FAILS);
    let told = create(&store, "a", &entry(POISON, 1)).await;
    assert!(matches!(told, Err(WriteError::Unknown(_))), "{told:?}");
    assert_eq!(store.read(&id("a")).await.unwrap(), None);
}

#[tokio::test]
async fn an_append_whose_event_cannot_be_written_leaves_the_head_where_it_was() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    store.append(Seq(0), &event(1, 1)).await.unwrap();
    sqlite(&dir)
        .execute_batch(
            "CREATE TRIGGER poisoned BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'poison'); END;",
        )
        .unwrap();
    let told = store.append(Seq(1), &event(2, 2)).await;
    assert!(matches!(told, Err(WriteError::NotApplied(_))), "{told:?}");
    assert_eq!(store.head().await.unwrap(), Head { seq: Seq(1), last_event: Some(RequestId(1)) });
    sqlite(&dir).execute_batch("DROP TRIGGER poisoned").unwrap();
    assert_eq!(store.append(Seq(1), &event(2, 2)).await.unwrap(), Append::Appended);
}

#[tokio::test]
async fn a_writer_that_died_leaves_what_it_did_in_doubt_and_refuses_the_rest() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    create(&store, "a", &entry(1, 1)).await.unwrap();
    let told: Result<(), WriteError> = store.writer.write(0, |_| panic!("a bug, for this test")).await;
    assert!(matches!(told, Err(WriteError::Unknown(_))), "{told:?}");
    let told = create(&store, "b", &entry(1, 1)).await;
    assert!(matches!(told, Err(WriteError::NotApplied(_) | WriteError::Unknown(_))), "{told:?}");
    let told = create(&store, "c", &entry(1, 1)).await;
    assert!(matches!(told, Err(WriteError::NotApplied(_))), "{told:?}");
    assert_eq!(store.read(&id("a")).await.unwrap(), Some(entry(1, 1)), "reads go on");
    store.close().await;
    let store = open(&dir);
    assert_eq!(store.read(&id("a")).await.unwrap(), Some(entry(1, 1)));
    assert_eq!(store.read(&id("b")).await.unwrap(), None);
}

/// Set in the process that [`a_disk_that_takes_no_more`] starts: where its store is.
#[cfg(target_os = "linux")]
const LIMITED: &str = "LEASEHOLD_TEST_LIMITED_STORE";

/// A real one: the process may not write files beyond some megabytes.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_disk_that_takes_no_more_fails_calls_and_harms_nothing() {
    let dir = tempdir().unwrap();
    let output = std::process::Command::new("/bin/sh")
        // Without the trap the system ends a process that writes beyond its limit. 8,000 blocks of 512 or 1,024 bytes.
        .args(["-c", "trap '' XFSZ; ulimit -f 8000; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg("embedded::tests::failures::fill_a_limited_disk")
        .env(LIMITED, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let acknowledged: u64 = text
        .lines()
        .find_map(|line| line.split("acknowledged=").nth(1))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or_else(|| panic!("the other process said nothing of its writes: {text}"));
    assert!(acknowledged > 0);
    let store = open(&dir);
    for n in 0..acknowledged {
        let stored = store.get(&object_name(n)).await.unwrap().unwrap();
        assert_eq!(stored.body, body(n as u8, 100_000), "object {n} of {acknowledged}");
    }
    assert_eq!(create(&store, "afterwards", &entry(1, 1)).await.unwrap(), Swap::Applied);
}

/// The other process of the test above; nothing on its own.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn fill_a_limited_disk() {
    let Some(dir) = std::env::var_os(LIMITED) else { return };
    let store = EmbeddedStore::open(Path::new(&dir)).unwrap();
    let put = |n: u64| {
        let (store, body) = (&store, body(n as u8, 100_000));
        async move { store.put(&object_name(n), body.clone(), digest(&body), &object_meta()).await }
    };
    let mut acknowledged = 0;
    let told = loop {
        match put(acknowledged).await {
            Ok(put) => assert_eq!(put, Put::Created),
            Err(error) => break error,
        }
        acknowledged += 1;
        assert!(acknowledged < 1_000, "the limit does not limit");
    };
    assert!(matches!(told, WriteError::NotApplied(_) | WriteError::Unknown(_)), "{told:?}");
    for n in 2_000..2_020 {
        assert!(put(n).await.is_err());
    }
    for n in 0..acknowledged {
        assert!(store.get(&object_name(n)).await.unwrap().is_some(), "object {n}");
    }
    println!("acknowledged={acknowledged}");
    drop(store);
}
