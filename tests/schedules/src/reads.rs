//! Reads that are shared, and verdicts that are remembered.

use crate::{engine::Consistency, scenery::*};
use futures::future::join_all;
use leasehold_core::{freshness::Freshness, transition::Committed};
use std::sync::Arc;
use tokio::spawn;

/// Who reads strictly is never given what was read before it asked.
#[test]
fn a_strict_lookup_shows_what_another_coordinator_committed_before_it_was_sent() {
    explore(|| async {
        let memory = Arc::default();
        let (here, there) = (start(&memory).await, start(&memory).await);
        let lease = granted(here.acquire(acquire(1), &mut None).await.unwrap()).unwrap();
        let hasty = (0..2).map(|_| {
            let there = there.clone();
            spawn(async move {
                impatient(async move { freshness(&there, Consistency::Strict).await }).await;
            })
        });
        let hasty: Vec<_> = hasty.collect();
        assert_eq!(commit(&here, &lease).await, Committed::Committed);
        assert_eq!(freshness(&there, Consistency::Strict).await, Freshness::Fresh);
        join_all(hasty).await.into_iter().for_each(Result::unwrap);
        here.stop().await;
        there.stop().await;
    });
}

/// It is judged anew whenever the log moves, while the log goes on moving.
#[test]
fn a_page_is_never_fresh_to_who_knows_of_an_invalidation() {
    explore(|| async {
        let memory = Arc::default();
        let engine = start(&memory).await;
        let lease = granted(engine.acquire(acquire(1), &mut None).await.unwrap()).unwrap();
        assert_eq!(commit(&engine, &lease).await, Committed::Committed);
        let readers = (0..3).map(|_| {
            let engine = engine.clone();
            spawn(async move {
                for _ in 0..6 {
                    freshness(&engine, Consistency::Bounded).await;
                    tokio::task::yield_now().await;
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        engine.invalidate(invalidation_of("other", 1), None).await.unwrap();
        engine.invalidate(invalidation(2), None).await.unwrap();
        for _ in 0..2 {
            assert_ne!(freshness(&engine, Consistency::Bounded).await, Freshness::Fresh);
        }
        join_all(readers).await.into_iter().for_each(Result::unwrap);
        assert_ne!(freshness(&engine, Consistency::Bounded).await, Freshness::Fresh);
        engine.stop().await;
    });
}

/// Its render began before: whichever of commit and invalidation comes first, and however late the verdict is reached.
#[test]
fn a_commit_that_an_invalidation_overtakes_is_never_fresh() {
    explore(|| async {
        let memory = Arc::default();
        let engine = start(&memory).await;
        let lease = granted(engine.acquire(acquire(1), &mut None).await.unwrap()).unwrap();
        let committing = {
            let engine = engine.clone();
            spawn(async move { commit(&engine, &lease).await })
        };
        engine.invalidate(invalidation(1), None).await.unwrap();
        committing.await.unwrap();
        assert!(matches!(freshness(&engine, Consistency::Bounded).await, Freshness::Stale(_)));
        engine.stop().await;
    });
}
