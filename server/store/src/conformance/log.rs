//! The clauses of [`crate::port::InvalidationLog`].

use super::{
    Fixture, drop_after,
    samples::{event, full_event},
};
use crate::port::{Append, Head, InvalidationLog};
use leasehold_core::{
    identity::{EntryKey, RequestId, Seq, TenantId},
    invalidation::{LogEvent, Scope},
    time::Timestamp,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::task::JoinSet;

type Log = Arc<dyn InvalidationLog>;

async fn head(log: &Log) -> Head {
    log.head().await.expect("read the head")
}

async fn events(log: &Log, after: u64, limit: usize) -> Vec<LogEvent> {
    log.events(Seq(after), limit).await.expect("read events")
}

async fn append(log: &Log, event: &LogEvent) -> Append {
    log.append(Seq(event.seq.0 - 1), event).await.expect("append an event")
}

/// Appends events 1 to `count`, the id of each being its position.
async fn fill(log: &Log, count: u64) {
    for seq in 1..=count {
        assert_eq!(append(log, &event(seq, seq.into())).await, Append::Appended, "event {seq}");
    }
}

fn head_at(seq: u64, id: u128) -> Head {
    Head { seq: Seq(seq), last_event: Some(RequestId(id)) }
}

/// Appends one event with this id, wherever the head is by then; answers with its position.
async fn append_somewhere(log: &Log, id: u128) -> u64 {
    loop {
        let seq = head(log).await.seq.next().expect("a position").0;
        if append(log, &event(seq, id)).await == Append::Appended {
            return seq;
        }
    }
}

/// Before anything was appended.
pub async fn a_fresh_log_is_empty(fixture: &dyn Fixture) {
    let log = fixture.open().await.log;
    assert_eq!(head(&log).await, Head::EMPTY);
    assert_eq!(events(&log, 0, 100).await, []);
    assert_eq!(events(&log, 7, 100).await, [], "after a position that was never reached");
}

/// One after the other.
pub async fn an_append_moves_the_head_by_one_and_writes_the_event(fixture: &dyn Fixture) {
    let log = fixture.open().await.log;
    for seq in 1..=3 {
        let id = 100 + u128::from(seq);
        assert_eq!(append(&log, &event(seq, id)).await, Append::Appended);
        assert_eq!(head(&log).await, head_at(seq, id));
        assert_eq!(events(&log, seq - 1, 100).await, [event(seq, id)]);
    }
}

/// Behind the head, where an event is already, and ahead of it, which would leave a hole.
pub async fn an_append_elsewhere_than_at_the_head_changes_nothing(fixture: &dyn Fixture) {
    let log = fixture.open().await.log;
    assert_eq!(append(&log, &event(2, 50)).await, Append::HeadMoved, "ahead of an empty log");
    assert_eq!(head(&log).await, Head::EMPTY);
    fill(&log, 3).await;
    for elsewhere in [1, 2, 3, 5, 100, u64::MAX] {
        assert_eq!(append(&log, &event(elsewhere, 50)).await, Append::HeadMoved, "at {elsewhere}");
    }
    assert_eq!(head(&log).await, head_at(3, 3));
    assert_eq!(events(&log, 0, 100).await, [event(1, 1), event(2, 2), event(3, 3)]);
}

/// Many rivals append at one position.
pub async fn of_many_appends_to_one_position_exactly_one_is_applied(fixture: &dyn Fixture) {
    let log = fixture.open().await.log;
    for seq in 1..=8 {
        let mut rivals = JoinSet::new();
        for rival in 0..24u128 {
            let log = log.clone();
            rivals.spawn(async move { (rival, append(&log, &event(seq, rival)).await) });
        }
        let outcomes = rivals.join_all().await;
        let winners: Vec<u128> = outcomes
            .iter()
            .filter(|(_, outcome)| *outcome == Append::Appended)
            .map(|(rival, _)| *rival)
            .collect();
        let [winner] = winners[..] else { panic!("{} of 24 appends were applied", winners.len()) };
        assert_eq!(head(&log).await, head_at(seq, winner));
        assert_eq!(events(&log, seq - 1, 100).await, [event(seq, winner)]);
    }
}

/// Many appenders, each of which tries until its events are in: none is lost, none is there twice, no position is empty.
pub async fn positions_are_contiguous_under_many_appenders(fixture: &dyn Fixture) {
    const APPENDERS: u128 = 8;
    const EVENTS: u128 = 12;
    let mut appenders = JoinSet::new();
    for appender in 0..APPENDERS {
        let log = fixture.open().await.log;
        appenders.spawn(async move {
            let mut appended = Vec::new();
            for n in 0..EVENTS {
                let id = appender << 64 | n;
                appended.push((append_somewhere(&log, id).await, id));
            }
            appended
        });
    }
    let mut appended: Vec<(u64, u128)> = appenders.join_all().await.into_iter().flatten().collect();
    appended.sort_unstable();
    let log = fixture.open().await.log;
    let read: Vec<(u64, u128)> =
        events(&log, 0, 10_000).await.iter().map(|event| (event.seq.0, event.id.0)).collect();
    assert_eq!(read, appended, "what is read is what was acknowledged, at its position");
    assert!(
        (1..).zip(&read).all(|(position, (seq, _))| position == *seq),
        "positions from 1, without a hole"
    );
    let (last, id) = *read.last().expect("events");
    assert_eq!((u128::from(last), head(&log).await), (APPENDERS * EVENTS, head_at(last, id)));
}

/// While others append, a reader that follows the head misses nothing and never sees it go back.
pub async fn events_up_to_a_head_that_was_read_can_be_read(fixture: &dyn Fixture) {
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..3 {
        let (log, done) = (fixture.open().await.log, done.clone());
        readers.spawn(async move {
            let mut position = 0;
            loop {
                let last_round = done.load(Ordering::SeqCst);
                let head = head(&log).await;
                assert!(head.seq.0 >= position, "the head went back from {position} to {}", head.seq);
                let read = events(&log, position, 10_000).await;
                for event in &read {
                    assert_eq!(event.seq.0, position + 1, "an event was missed");
                    position = event.seq.0;
                    if event.seq == head.seq {
                        assert_eq!(head.last_event, Some(event.id), "the head names another event");
                    }
                }
                assert!(position >= head.seq.0, "the head is at {}, events end at {position}", head.seq);
                if last_round {
                    return position;
                }
            }
        });
    }
    let mut appenders = JoinSet::new();
    for appender in 0..4u128 {
        let log = fixture.open().await.log;
        appenders.spawn(async move {
            for n in 0..15 {
                append_somewhere(&log, appender << 64 | n).await;
            }
        });
    }
    appenders.join_all().await;
    done.store(true, Ordering::SeqCst);
    assert_eq!(readers.join_all().await, [60, 60, 60]);
}

/// What one handle was told, every other one sees from then on.
pub async fn an_acknowledged_append_is_read_through_any_handle(fixture: &dyn Fixture) {
    let writer = fixture.open().await.log;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let log = fixture.open().await.log;
        let (acknowledged, done) = (acknowledged.clone(), done.clone());
        readers.spawn(async move {
            while !done.load(Ordering::SeqCst) {
                let at_least = acknowledged.load(Ordering::SeqCst);
                let seq = head(&log).await.seq.0;
                assert!(seq >= at_least, "the head was read at {seq} after {at_least} was acknowledged");
            }
        });
    }
    for seq in 1..=60 {
        assert_eq!(append(&writer, &event(seq, seq.into())).await, Append::Appended);
        acknowledged.store(seq, Ordering::SeqCst);
    }
    done.store(true, Ordering::SeqCst);
    readers.join_all().await;
}

/// Pages of several sizes, from several positions.
pub async fn events_are_returned_in_order_up_to_the_limit(fixture: &dyn Fixture) {
    let log = fixture.open().await.log;
    fill(&log, 25).await;
    for (after, limit) in [(0, 1), (0, 10), (0, 25), (0, 1000), (7, 5), (20, 10), (24, 1), (25, 10), (99, 10)]
    {
        let read: Vec<u64> = events(&log, after, limit).await.iter().map(|event| event.seq.0).collect();
        let expected: Vec<u64> = (after + 1..=25).take(limit).collect();
        assert_eq!(read, expected, "after {after}, at most {limit}");
    }
    assert_eq!(events(&log, u64::MAX, 10).await, []);
}

/// More than a store returns in one of its own pages: a reader that is given less than its limit asks for what follows.
pub async fn several_megabytes_of_events_are_returned_completely(fixture: &dyn Fixture) {
    const EVENTS: u64 = 40;
    let log = fixture.open().await.log;
    let large = |seq: u64| {
        let mut event = event(seq, seq.into());
        event.invalidations[0].scopes = (0..20)
            .map(|n| {
                let key = format!("{seq}/{n}/{}", "k".repeat(3000));
                Scope::Key(TenantId::parse("t").expect("a tenant"), EntryKey::parse(&key).expect("a key"))
            })
            .collect();
        event
    };
    for seq in 1..=EVENTS {
        assert_eq!(append(&log, &large(seq)).await, Append::Appended);
    }
    let mut read = 0;
    while read < EVENTS {
        let page = events(&log, read, 1000).await;
        assert_ne!(page, [], "there is more");
        for event in page {
            read += 1;
            assert_eq!(event, large(read));
        }
    }
    assert_eq!(events(&log, read, 1000).await, []);
}

/// Every kind of scope, both depths, extreme times.
pub async fn every_field_of_an_event_is_returned_as_it_was_put(fixture: &dyn Fixture) {
    let log = fixture.open().await.log;
    for (seq, id) in [(1, 0), (2, u128::MAX)] {
        assert_eq!(append(&log, &full_event(seq, id)).await, Append::Appended);
        assert_eq!(head(&log).await, head_at(seq, id));
    }
    assert_eq!(events(&log, 0, 10).await, [full_event(1, 0), full_event(2, u128::MAX)]);
}

/// Callers that go away in the middle: the head moved with the event, or neither did.
pub async fn a_dropped_append_is_applied_whole_or_not_at_all(fixture: &dyn Fixture) {
    let log = fixture.open().await.log;
    let mut kept = Vec::new();
    for turn in 1..=40u64 {
        let seq = head(&log).await.seq.next().expect("a position").0;
        let dropped = event(seq, u128::from(turn) << 64);
        let outcome = drop_after(turn as usize % 8, append(&log, &dropped)).await;
        assert!(outcome.is_none_or(|outcome| outcome == Append::Appended));
        // Settles it: at its position is either what was dropped or this one.
        let next = event(seq, u128::from(turn));
        kept.push(match append(&log, &next).await {
            Append::Appended => next,
            Append::HeadMoved => dropped,
        });
        let last = kept.last().expect("an event");
        assert_eq!(head(&log).await, Head { seq: last.seq, last_event: Some(last.id) });
    }
    assert_eq!(events(&log, 0, 1000).await, kept);
}

async fn fill_short_lived(log: &Log, forget_after: &[u64]) -> Vec<LogEvent> {
    let mut appended = Vec::new();
    for (seq, forget_after) in (1..).zip(forget_after) {
        let event =
            LogEvent { forget_after: Timestamp::from_millis(*forget_after), ..event(seq, seq.into()) };
        assert_eq!(append(log, &event).await, Append::Appended);
        appended.push(event);
    }
    appended
}

/// A store may empty the log, but not its head: the next event follows the last one, not none.
pub async fn the_head_stays_when_every_event_is_forgotten(fixture: &dyn Fixture) {
    let log = fixture.open().await.log;
    fill_short_lived(&log, &[1_000; 5]).await;
    fixture.forget(Timestamp::from_millis(2_000)).await;
    assert_eq!(head(&log).await, head_at(5, 5));
    assert_eq!(append(&log, &event(6, 6)).await, Append::Appended);
    assert_eq!(events(&log, 5, 10).await, [event(6, 6)]);
    fixture.forget(Timestamp::from_millis(2_000)).await;
    assert_eq!(head(&fixture.restart().await.log).await, head_at(6, 6));
}

/// A late duplicate of an append whose event is long gone finds the head elsewhere.
pub async fn an_emptied_position_cannot_be_filled_again(fixture: &dyn Fixture) {
    let log = fixture.open().await.log;
    let appended = fill_short_lived(&log, &[1_000; 3]).await;
    fixture.forget(Timestamp::from_millis(2_000)).await;
    for event in &appended {
        assert_eq!(append(&log, event).await, Append::HeadMoved);
    }
    assert_eq!(head(&log).await, head_at(3, 3));
}

/// An event that is to be kept is there, and so is every later one, whatever its own time: what is left has no holes.
pub async fn events_are_forgotten_oldest_first_and_never_early(fixture: &dyn Fixture) {
    let log = fixture.open().await.log;
    let appended = fill_short_lived(&log, &[1_000, 1_500, 5_000, 1_000, 5_000, 1_000]).await;
    fixture.forget(Timestamp::from_millis(2_000)).await;
    let left = events(&log, 0, 100).await;
    assert!(left.len() >= 4, "the third is to be kept, and with it all later ones");
    assert_eq!(left, appended[appended.len() - left.len()..]);
    assert_eq!(events(&log, 2, 100).await, appended[2..]);
}

/// An orderly end.
pub async fn acknowledged_appends_survive_a_restart(fixture: &dyn Fixture) {
    fill(&fixture.open().await.log, 50).await;
    all_there(&fixture.restart().await.log, 50).await;
}

/// A sudden end, twice, with appends between.
pub async fn acknowledged_appends_survive_a_crash(fixture: &dyn Fixture) {
    fill(&fixture.open().await.log, 50).await;
    let log = fixture.crash().await.log;
    all_there(&log, 50).await;
    assert_eq!(append(&log, &event(51, 51)).await, Append::Appended);
    all_there(&fixture.crash().await.log, 51).await;
}

async fn all_there(log: &Log, count: u64) {
    assert_eq!(head(log).await, head_at(count, count.into()));
    let expected: Vec<LogEvent> = (1..=count).map(|seq| event(seq, seq.into())).collect();
    assert_eq!(events(log, 0, 1000).await, expected);
}
