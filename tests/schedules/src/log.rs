//! The tail of the log: appended once, folded in order, and told to everybody.

use crate::{
    engine::{Consistency, Cursor, Next},
    memory::Memory,
    scenery::*,
};
use futures::future::join_all;
use leasehold_core::identity::{RequestId, Seq};
use std::{collections::HashSet, sync::Arc};
use tokio::spawn;

/// Two coordinators append at once; some callers go away, some repeat themselves.
#[test]
fn every_invalidation_is_appended_once_and_acknowledged_where_it_is() {
    explore(|| async {
        let memory: Arc<Memory> = Arc::default();
        let engines = [start(&memory).await, start(&memory).await];
        let calls = (0..6_u128).map(|call| {
            let engine = engines[call as usize % 2].clone();
            spawn(async move {
                let id = 1 + call / 2;
                let append = {
                    let engine = engine.clone();
                    async move { engine.invalidate(invalidation(id), None).await.unwrap() }
                };
                impatient(append).await;
                let seq = engine.invalidate(invalidation(id), None).await.unwrap();
                assert!(engine.stats().log_position >= seq, "who is told of it can rely on it");
                (id, seq)
            })
        });
        let acknowledged: HashSet<(u128, Seq)> =
            join_all(calls).await.into_iter().map(Result::unwrap).collect();
        let events = memory.events();
        assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == Seq(seq)));
        for (id, seq) in acknowledged {
            let holds = |event: &&leasehold_core::invalidation::LogEvent| {
                event.invalidations.iter().any(|invalidation| invalidation.id == RequestId(id))
            };
            let places: Vec<Seq> = events.iter().filter(holds).map(|event| event.seq).collect();
            assert_eq!(places, [seq]);
        }
        for engine in engines {
            engine.stop().await;
        }
    });
}

/// Reads of the log share one task; what each is told was read after it asked.
#[test]
fn a_read_of_the_log_reaches_what_was_appended_before_it_whoever_goes_away() {
    explore(|| async {
        let memory = Arc::default();
        let (here, there) = (start(&memory).await, start(&memory).await);
        let hasty = (0..3).map(|_| {
            let there = there.clone();
            spawn(async move {
                impatient(async move { freshness(&there, Consistency::Strict).await }).await;
            })
        });
        let hasty: Vec<_> = hasty.collect();
        for id in 1..=2 {
            let seq = here.invalidate(invalidation(id), None).await.unwrap();
            freshness(&there, Consistency::Strict).await;
            assert!(there.stats().log_position >= seq);
        }
        join_all(hasty).await.into_iter().for_each(Result::unwrap);
        here.stop().await;
        there.stop().await;
    });
}

#[test]
fn a_watch_is_told_of_every_invalidation_once_and_in_order() {
    explore(|| async {
        let memory = Arc::default();
        let engine = start(&memory).await;
        let watching = {
            let hub = Arc::clone(engine.watch_hub());
            let from = hub.now();
            spawn(async move {
                let (mut cursor, mut told) = (from, Vec::new());
                while told.len() < 3 {
                    let Next::Events(events) = hub.next(cursor).await else { panic!("nothing was dropped") };
                    cursor = Cursor(cursor.0 + events.len() as u64);
                    told.extend(events.iter().map(|event| match &**event {
                        crate::engine::WatchEvent::Invalidated { seq, .. } => *seq,
                        other => panic!("{other:?}"),
                    }));
                }
                told
            })
        };
        let mut acknowledged = Vec::new();
        let appends = (1..=3).map(|id| {
            let engine = engine.clone();
            spawn(async move { engine.invalidate(invalidation(id), None).await.unwrap() })
        });
        for append in join_all(appends).await {
            acknowledged.push(append.unwrap());
        }
        acknowledged.sort_unstable();
        assert_eq!(watching.await.unwrap(), acknowledged);
        engine.stop().await;
    });
}
