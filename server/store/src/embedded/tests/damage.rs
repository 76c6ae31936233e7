//! Stored bytes that are not what was written.

use super::*;

#[tokio::test]
async fn an_undecodable_entry_is_corrupt_to_reads_and_refusals_and_harms_no_other() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    for key in ["a", "b"] {
        create(&store, key, &full_entry(1, 1)).await.unwrap();
    }
    let damaged = sqlite(&dir)
        .execute("UPDATE entries SET record = x'ff00ff' WHERE digest = ?1", [id("a").digest()])
        .unwrap();
    assert_eq!(damaged, 1);
    assert!(matches!(store.read(&id("a")).await, Err(ReadError::Corrupt(_))));
    for expected in [Expected::Absent, Expected::Version(Version(9))] {
        let swap = store.swap(&id("a"), expected, &entry(2, 2), LATER).await;
        assert!(matches!(swap, Err(WriteError::Corrupt(_))), "{swap:?}");
    }
    assert_eq!(store.read(&id("b")).await.unwrap(), Some(full_entry(1, 1)));
}

#[tokio::test]
async fn a_record_under_the_digest_of_another_identity_is_corrupt() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    create(&store, "a", &full_entry(1, 1)).await.unwrap();
    sqlite(&dir).execute("UPDATE entries SET digest = ?1", [id("b").digest()]).unwrap();
    assert!(matches!(store.read(&id("b")).await, Err(ReadError::Corrupt(_))));
    assert_eq!(store.read(&id("a")).await.unwrap(), None);
}

#[tokio::test]
async fn a_log_with_damage_is_corrupt_rather_than_shorter() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    for seq in 1..=3 {
        store.append(Seq(seq - 1), &event(seq, 1)).await.unwrap();
    }
    let connection = sqlite(&dir);
    connection.execute("UPDATE events SET record = x'00' WHERE seq = 2", []).unwrap();
    assert!(matches!(store.events(Seq(0), 10).await, Err(ReadError::Corrupt(_))));
    assert_eq!(store.events(Seq(2), 10).await.unwrap(), [event(3, 1)]);
    connection
        .execute("UPDATE events SET record = (SELECT record FROM events WHERE seq = 1) WHERE seq = 2", [])
        .unwrap();
    assert!(matches!(store.events(Seq(0), 10).await, Err(ReadError::Corrupt(_))), "event 1 at position 2");
    connection.execute("UPDATE log_head SET seq = ?1", [i64::MAX]).unwrap();
    let head = store.head().await;
    assert!(matches!(&head, Err(ReadError::Corrupt(why)) if why.contains("can follow")), "{head:?}");
    connection.execute("UPDATE log_head SET last_event = x'00'", []).unwrap();
    assert!(matches!(store.head().await, Err(ReadError::Corrupt(_))));
    connection.execute("DELETE FROM log_head", []).unwrap();
    assert!(matches!(store.head().await, Err(ReadError::Corrupt(_))));
}

#[tokio::test]
async fn a_body_that_changed_on_the_disk_is_corrupt() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let body = body(1, 1000);
    store.put(&object_name(1), body.clone(), digest(&body), &object_meta()).await.unwrap();
    sqlite(&dir).execute("UPDATE objects SET body = zeroblob(1000)", []).unwrap();
    assert!(matches!(store.get(&object_name(1)).await, Err(ReadError::Corrupt(_))));
}

/// A crash in the middle of a write leaves SQLite's log cut anywhere: what is read back is a prefix of what was written.
#[tokio::test]
async fn a_log_file_that_is_cut_anywhere_gives_back_a_prefix() {
    const EVENTS: u64 = 12;
    let dir = tempdir().unwrap();
    let store = open(&dir);
    for seq in 1..=EVENTS {
        store.append(Seq(seq - 1), &event(seq, seq.into())).await.unwrap();
        create(&store, &format!("key {seq}"), &full_entry(1, seq)).await.unwrap();
    }
    let written_ahead = fs::read(dir.path().join("leasehold.db-wal")).unwrap();
    let mut prefixes = std::collections::BTreeSet::new();
    for cut in (0..=16).map(|sixteenth| written_ahead.len() * sixteenth / 16) {
        let crashed = tempdir().unwrap();
        fs::copy(dir.path().join("leasehold.db"), crashed.path().join("leasehold.db")).unwrap();
        fs::write(crashed.path().join("leasehold.db-wal"), &written_ahead[..cut]).unwrap();
        let Ok(store) = EmbeddedStore::open(crashed.path()) else {
            panic!("does not open with {cut} of {} bytes", written_ahead.len())
        };
        let head = store.head().await.unwrap();
        let events = store.events(Seq(0), 100).await.unwrap();
        assert_eq!(events, (1..=head.seq.0).map(|seq| event(seq, seq.into())).collect::<Vec<_>>());
        for seq in 1..=EVENTS {
            let there = store.read(&id(&format!("key {seq}"))).await.unwrap().is_some();
            // Each entry was acknowledged after its event and before the next one was appended.
            assert!(there || seq >= head.seq.0, "entry {seq} is missing below the head at {}", head.seq);
            assert!(!there || seq <= head.seq.0, "entry {seq} is there before its event");
        }
        prefixes.insert(head.seq.0);
    }
    assert!(prefixes.len() > 3 && prefixes.contains(&EVENTS), "the cuts show nothing: {prefixes:?}");
}
