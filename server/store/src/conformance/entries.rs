//! The clauses of [`crate::port::EntryStore`].

use super::{
    Fixture, drop_after,
    samples::{LATER, entry, extreme_entry, full_entry, id, identity},
};
use crate::port::{EntryStore, Expected, Swap};
use leasehold_core::{
    entry::Entry,
    identity::{EntryId, Generation, Version},
    time::Timestamp,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::task::JoinSet;

type Entries = Arc<dyn EntryStore>;

async fn read(entries: &Entries, id: &EntryId) -> Option<Entry> {
    entries.read(id).await.expect("read an entry")
}

async fn swap(entries: &Entries, id: &EntryId, expected: Expected, entry: &Entry) -> Swap {
    entries.swap(id, expected, entry, LATER).await.expect("swap an entry")
}

async fn create(entries: &Entries, id: &EntryId, entry: &Entry) {
    assert_eq!(swap(entries, id, Expected::Absent, entry).await, Swap::Applied);
}

/// A read of what was never put.
pub async fn an_absent_entry_reads_as_none(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    assert_eq!(read(&entries, &id("a")).await, None);
}

/// Creation, and a read after it.
pub async fn a_created_entry_is_read_back(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    create(&entries, &id("a"), &full_entry(1, 7)).await;
    assert_eq!(read(&entries, &id("a")).await, Some(full_entry(1, 7)));
}

/// Creation of what is there already.
pub async fn a_creation_is_refused_by_the_record_that_is_there(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    create(&entries, &id("a"), &full_entry(1, 7)).await;
    let refused = swap(&entries, &id("a"), Expected::Absent, &entry(2, 8)).await;
    assert_eq!(refused, Swap::Refused(Some(full_entry(1, 7))));
}

/// The condition holds: the record is the new one, all of it, also where it is smaller than the old one.
pub async fn a_swap_from_the_current_version_replaces_the_record(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    create(&entries, &id("a"), &full_entry(1, 7)).await;
    let applied = swap(&entries, &id("a"), Expected::Version(Version(1)), &entry(2, 8)).await;
    assert_eq!(applied, Swap::Applied);
    assert_eq!(read(&entries, &id("a")).await, Some(entry(2, 8)));
}

/// Another version is there, be it newer or older: versions have no order.
pub async fn a_swap_from_another_version_is_refused_by_the_record(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    create(&entries, &id("a"), &full_entry(5, 7)).await;
    for version in [0, 4, 6, u128::MAX] {
        let refused = swap(&entries, &id("a"), Expected::Version(Version(version)), &entry(9, 9)).await;
        assert_eq!(refused, Swap::Refused(Some(full_entry(5, 7))), "from version {version}");
    }
}

/// No record is there.
pub async fn a_swap_from_a_version_is_refused_where_there_is_no_record(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    for version in [0, 1] {
        let refused = swap(&entries, &id("a"), Expected::Version(Version(version)), &entry(9, 9)).await;
        assert_eq!(refused, Swap::Refused(None), "from version {version}");
    }
    assert_eq!(read(&entries, &id("a")).await, None);
}

/// Refused swaps of both kinds, and what is there after them.
pub async fn a_refused_swap_changes_nothing(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    create(&entries, &id("a"), &full_entry(1, 7)).await;
    for expected in [Expected::Absent, Expected::Version(Version(2))] {
        assert!(matches!(swap(&entries, &id("a"), expected, &entry(3, 9)).await, Swap::Refused(_)));
        assert_eq!(read(&entries, &id("a")).await, Some(full_entry(1, 7)));
    }
    let applied = swap(&entries, &id("a"), Expected::Version(Version(1)), &entry(4, 8)).await;
    assert_eq!(applied, Swap::Applied, "the version is still what it was");
}

/// Many rivals create one entry; whoever loses is shown the winner.
pub async fn of_many_creations_at_once_exactly_one_is_applied(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    for round in 0..8u64 {
        let id = id(&format!("round {round}"));
        exactly_one(&entries, &id, Expected::Absent).await;
    }
}

/// Many rivals swap from one version; whoever loses is shown the winner.
pub async fn of_many_swaps_from_one_version_exactly_one_is_applied(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    let id = id("a");
    create(&entries, &id, &entry(1, 0)).await;
    let mut version = Version(1);
    for _ in 0..8 {
        version = exactly_one(&entries, &id, Expected::Version(version)).await;
    }
}

async fn exactly_one(entries: &Entries, id: &EntryId, expected: Expected) -> Version {
    let base = match expected {
        Expected::Absent => 1,
        Expected::Version(version) => version.0 + 1,
    };
    let mut rivals = JoinSet::new();
    for rival in 0..32 {
        let (entries, id) = (entries.clone(), id.clone());
        rivals.spawn(async move {
            let mine = entry(base + rival, rival as u64);
            (mine.clone(), swap(&entries, &id, expected, &mine).await)
        });
    }
    let outcomes = rivals.join_all().await;
    let winners: Vec<&Entry> =
        outcomes.iter().filter(|(_, swap)| *swap == Swap::Applied).map(|(mine, _)| mine).collect();
    let [winner] = winners[..] else { panic!("{} of 32 swaps were applied", winners.len()) };
    for (_, swap) in &outcomes {
        assert!(matches!(swap, Swap::Applied) || *swap == Swap::Refused(Some(winner.clone())), "{swap:?}");
    }
    assert_eq!(read(entries, id).await.as_ref(), Some(winner));
    winner.version
}

/// Many tasks count one entry's generation up. A lost update would show in the sum.
pub async fn no_concurrent_increment_is_lost(fixture: &dyn Fixture) {
    const TASKS: u64 = 12;
    const INCREMENTS: u64 = 20;
    let id = id("counter");
    create(&fixture.open().await.entries, &id, &entry(1, 0)).await;
    let mut tasks = JoinSet::new();
    for task in 1..=TASKS {
        let (entries, id) = (fixture.open().await.entries, id.clone());
        tasks.spawn(async move {
            let mut version = u128::from(task) << 64;
            let mut current = read(&entries, &id).await.expect("the counter");
            for _ in 0..INCREMENTS {
                loop {
                    version += 1;
                    let next = entry(version, current.generation.0 + 1);
                    match swap(&entries, &id, Expected::Version(current.version), &next).await {
                        Swap::Applied => {
                            current = next;
                            break;
                        }
                        Swap::Refused(Some(other)) => {
                            assert_ne!(
                                other.version, current.version,
                                "refused by the very version it expected"
                            );
                            assert!(other.generation > current.generation, "shown an older record");
                            current = other;
                        }
                        Swap::Refused(None) => panic!("the record vanished"),
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    let entries = fixture.open().await.entries;
    let counted = read(&entries, &id).await.expect("the counter").generation;
    assert_eq!(counted, Generation(TASKS * INCREMENTS));
}

/// While one handle swaps, reads through other handles never miss what was acknowledged before they were sent, and never go
/// back.
pub async fn a_read_sees_what_was_acknowledged_before_it_through_any_handle(fixture: &dyn Fixture) {
    let id = id("a");
    let writer = fixture.open().await.entries;
    create(&writer, &id, &entry(1, 1)).await;
    let acknowledged = Arc::new(AtomicU64::new(1));
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..6 {
        let (entries, id) = (fixture.open().await.entries, id.clone());
        let (acknowledged, done) = (acknowledged.clone(), done.clone());
        readers.spawn(async move {
            let mut newest = 0;
            while !done.load(Ordering::SeqCst) {
                let at_least = newest.max(acknowledged.load(Ordering::SeqCst));
                newest = read(&entries, &id).await.expect("the entry").generation.0;
                assert!(newest >= at_least, "read generation {newest} after {at_least} was acknowledged");
            }
        });
    }
    for generation in 2..=100u64 {
        let expected = Expected::Version(Version(u128::from(generation) - 1));
        let next = entry(generation.into(), generation);
        assert_eq!(swap(&writer, &id, expected, &next).await, Swap::Applied);
        acknowledged.store(generation, Ordering::SeqCst);
    }
    done.store(true, Ordering::SeqCst);
    readers.join_all().await;
}

/// What arrives together may be written together; each caller still gets its own answer, and each entry its own record.
pub async fn swaps_of_many_entries_at_once_do_not_mix(fixture: &dyn Fixture) {
    const ENTRIES: u64 = 200;
    let entries = fixture.open().await.entries;
    let key = |n: u64| id(&format!("key {n}"));
    // Every fourth entry is there already, so that its creation is refused amid others that are applied.
    for n in (0..ENTRIES).step_by(4) {
        create(&entries, &key(n), &full_entry(u128::from(n) + 1000, n)).await;
    }
    let mut tasks = JoinSet::new();
    for n in 0..ENTRIES {
        let (entries, key) = (entries.clone(), key(n));
        tasks.spawn(async move { (n, swap(&entries, &key, Expected::Absent, &entry(n.into(), n)).await) });
    }
    for (n, swap) in tasks.join_all().await {
        let there = if n % 4 == 0 { full_entry(u128::from(n) + 1000, n) } else { entry(n.into(), n) };
        let outcome = if n % 4 == 0 { Swap::Refused(Some(there.clone())) } else { Swap::Applied };
        assert_eq!(swap, outcome, "entry {n}");
        assert_eq!(read(&entries, &key(n)).await, Some(there), "entry {n}");
    }
}

/// Small, full and extreme records, through reads and through refusals.
pub async fn every_field_of_a_record_is_returned_as_it_was_put(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    let full = full_entry(3, 8);
    let samples = [
        entry(0, 0),
        entry(u128::MAX, u64::MAX),
        full.clone(),
        extreme_entry(4),
        Entry { pointer: None, ..full.clone() },
        Entry { lease: None, ..full.clone() },
        Entry { released: None, ..full.clone() },
        Entry { backoff: None, ..full },
    ];
    for (at, sample) in samples.iter().enumerate() {
        let id = id(&format!("sample {at}"));
        create(&entries, &id, sample).await;
        assert_eq!(read(&entries, &id).await.as_ref(), Some(sample));
        let refused = swap(&entries, &id, Expected::Absent, &entry(9, 9)).await;
        assert_eq!(refused, Swap::Refused(Some(sample.clone())));
    }
}

/// Text moved between the parts, separators, quotes, wildcards, case, composed and decomposed letters, the longest key.
pub async fn identities_that_differ_in_one_part_never_touch(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    let longest = "k".repeat(4096);
    let longest_but_last = format!("{}j", "k".repeat(4095));
    let ids = [
        identity("a", None, "bc"),
        identity("ab", None, "c"),
        identity("a", Some("b"), "c"),
        identity("a", Some("bc"), "c"),
        identity("a", Some("c"), "bc"),
        identity("A", None, "bc"),
        identity("a", None, "BC"),
        identity("a", None, "a#bc"),
        identity("a#", None, "bc"),
        identity("a#CACHE", None, "bc"),
        identity("a::bc", None, "bc"),
        identity("a", None, "a::bc"),
        identity("default", None, "bc"),
        identity("a", Some("default"), "bc"),
        identity("a", None, "' OR 1 = 1 --"),
        identity("a", None, "%"),
        identity("a", None, "_"),
        identity("a", None, "../bc"),
        identity("a", None, "é"),
        identity("a", None, "e\u{301}"),
        identity("a", None, &longest),
        identity("a", None, &longest_but_last),
    ];
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(read(&entries, id).await, None, "{id:?} is there before it was put");
        create(&entries, id, &entry(at as u128, at as u64)).await;
    }
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(read(&entries, id).await, Some(entry(at as u128, at as u64)), "{id:?}");
    }
}

/// Callers that go away in the middle: the record is the old or the new one, and can be swapped on.
pub async fn a_dropped_swap_is_applied_whole_or_not_at_all(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    let id = id("a");
    create(&entries, &id, &full_entry(1, 0)).await;
    let mut current = full_entry(1, 0);
    for turn in 1..=40u64 {
        let dropped = full_entry(u128::from(turn) << 64, turn);
        let expected = Expected::Version(current.version);
        let outcome = drop_after(turn as usize % 8, swap(&entries, &id, expected, &dropped)).await;
        let seen = read(&entries, &id).await.expect("the entry");
        match outcome {
            Some(swap) => assert_eq!((swap, &seen), (Swap::Applied, &dropped)),
            None => assert!(seen == current || seen == dropped, "neither the old record nor the new one"),
        }
        // What was dropped may still be applied now; but then it is what refuses this one.
        let next = full_entry((u128::from(turn) << 64) + 1, turn);
        match swap(&entries, &id, Expected::Version(seen.version), &next).await {
            Swap::Applied => current = next,
            Swap::Refused(Some(other)) if seen == current && other == dropped => current = dropped,
            Swap::Refused(other) => panic!("refused by {other:?}"),
        }
    }
}

/// A store that deletes what is old must not delete early.
pub async fn entries_are_kept_until_their_forget_after(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    let at = Timestamp::from_millis;
    let kept = [(at(5_000), "a"), (at(2_001), "b"), (at(u64::MAX), "c")];
    for (forget_after, key) in kept {
        let applied = entries.swap(&id(key), Expected::Absent, &entry(1, 1), forget_after).await;
        assert_eq!(applied.expect("swap an entry"), Swap::Applied);
    }
    fixture.forget(at(2_000)).await;
    for (forget_after, key) in kept {
        assert_eq!(read(&entries, &id(key)).await, Some(entry(1, 1)), "to be kept until {forget_after:?}");
    }
}

/// Each swap says anew until when the record is kept.
pub async fn a_later_forget_after_replaces_an_earlier_one(fixture: &dyn Fixture) {
    let entries = fixture.open().await.entries;
    let first = entries.swap(&id("a"), Expected::Absent, &entry(1, 1), Timestamp::from_millis(1_000)).await;
    assert_eq!(first.expect("swap an entry"), Swap::Applied);
    let second = swap(&entries, &id("a"), Expected::Version(Version(1)), &entry(2, 1)).await;
    assert_eq!(second, Swap::Applied);
    fixture.forget(Timestamp::from_millis(2_000)).await;
    assert_eq!(read(&entries, &id("a")).await, Some(entry(2, 1)));
}

/// An orderly end.
pub async fn acknowledged_swaps_survive_a_restart(fixture: &dyn Fixture) {
    write_much(&fixture.open().await.entries).await;
    read_much(&fixture.restart().await.entries).await;
}

/// A sudden end, twice, with writes between.
pub async fn acknowledged_swaps_survive_a_crash(fixture: &dyn Fixture) {
    write_much(&fixture.open().await.entries).await;
    let entries = fixture.crash().await.entries;
    read_much(&entries).await;
    create(&entries, &id("after the crash"), &entry(1, 1)).await;
    let entries = fixture.crash().await.entries;
    read_much(&entries).await;
    assert_eq!(read(&entries, &id("after the crash")).await, Some(entry(1, 1)));
}

async fn write_much(entries: &Entries) {
    let mut tasks = JoinSet::new();
    for n in 0..100u64 {
        let entries = entries.clone();
        tasks.spawn(async move {
            let id = id(&format!("key {n}"));
            create(&entries, &id, &full_entry(1, n)).await;
            let second = full_entry(2, n);
            assert_eq!(swap(&entries, &id, Expected::Version(Version(1)), &second).await, Swap::Applied);
        });
    }
    tasks.join_all().await;
}

async fn read_much(entries: &Entries) {
    for n in 0..100u64 {
        assert_eq!(read(entries, &id(&format!("key {n}"))).await, Some(full_entry(2, n)), "entry {n}");
    }
}
