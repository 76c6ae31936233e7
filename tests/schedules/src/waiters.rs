//! Waiters for another's lease: nobody is stranded, and nobody renders what another renders.

use crate::{
    engine::{AcquireOutcome, Consistency},
    memory::Memory,
    scenery::*,
};
use futures::future::join_all;
use leasehold_core::{
    freshness::Freshness,
    transition::{Committed, Release},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::spawn;

#[test]
fn everybody_who_asks_at_once_is_served_by_one_render() {
    explore(|| async {
        let memory = Arc::default();
        let engine = start(&memory).await;
        let renders = Arc::new(AtomicUsize::new(0));
        let calls = (1..=4).map(|token| {
            let (engine, renders) = (engine.clone(), Arc::clone(&renders));
            spawn(async move {
                let acquisition = engine.acquire(acquire(token), &mut None).await.unwrap();
                match granted(acquisition) {
                    Some(lease) => {
                        renders.fetch_add(1, Ordering::Relaxed);
                        assert_eq!(commit(&engine, &lease).await, Committed::Committed);
                    }
                    None => assert_eq!(freshness(&engine, Consistency::Bounded).await, Freshness::Fresh),
                }
            })
        });
        join_all(calls).await.into_iter().for_each(Result::unwrap);
        assert_eq!(renders.load(Ordering::Relaxed), 1);
        engine.stop().await;
    });
}

/// Also a holder whose grant was never heard of, a waiter that leads the others' read, and one that was just woken.
#[test]
fn callers_that_go_away_strand_nobody() {
    explore(|| async {
        let memory = Arc::default();
        let engine = start(&memory).await;
        let hasty = (1..=3).map(|token| {
            let engine = engine.clone();
            spawn(async move {
                let call = {
                    let engine = engine.clone();
                    async move { engine.acquire(acquire(token), &mut None).await.unwrap() }
                };
                // Whoever has heard of its lease keeps its word.
                if let Some(lease) = impatient(call).await.and_then(granted) {
                    commit(&engine, &lease).await;
                }
            })
        });
        let patient = (4..=5).map(|token| {
            let engine = engine.clone();
            spawn(async move {
                if let Some(lease) = granted(engine.acquire(acquire(token), &mut None).await.unwrap()) {
                    commit(&engine, &lease).await;
                }
                assert_eq!(freshness(&engine, Consistency::Strict).await, Freshness::Fresh);
            })
        });
        join_all(hasty.chain(patient)).await.into_iter().for_each(Result::unwrap);
        engine.stop().await;
    });
}

#[test]
fn a_release_lets_exactly_one_waiter_render() {
    explore(|| async {
        let memory = Arc::default();
        let engine = start(&memory).await;
        let first = granted(engine.acquire(acquire(1), &mut None).await.unwrap()).unwrap();
        let waiting = (2..=4).map(|token| {
            let engine = engine.clone();
            spawn(async move {
                let lease = granted(engine.acquire(acquire(token), &mut None).await.unwrap());
                if let Some(lease) = &lease {
                    commit(&engine, lease).await;
                }
                lease.is_some()
            })
        });
        let waiting: Vec<_> = waiting.collect();
        engine.release(&entry("news"), first.token, first.generation, Release::Unused).await.unwrap();
        let renders =
            join_all(waiting).await.into_iter().filter(|rendered| *rendered.as_ref().unwrap()).count();
        assert_eq!(renders, 1);
        engine.stop().await;
    });
}

/// A waiter hears of what happens to its entry also where there is no room to remember it.
#[test]
fn a_waiter_on_an_entry_that_is_crowded_out_is_woken() {
    explore(|| async {
        let memory: Arc<Memory> = Arc::default();
        let engine = start_with(&memory, |settings| settings.memory.entry_bytes = 1).await;
        let first = granted(engine.acquire(acquire(1), &mut None).await.unwrap()).unwrap();
        let waiter = {
            let engine = engine.clone();
            spawn(async move { engine.acquire(acquire(2), &mut None).await.unwrap() })
        };
        let others = (0..3).map(|other| {
            let engine = engine.clone();
            let id = entry(&format!("other {other}"));
            spawn(async move { engine.lookup(&id, Consistency::Bounded, None, engine.now()).await.unwrap() })
        });
        let others: Vec<_> = others.collect();
        assert_eq!(commit(&engine, &first).await, Committed::Committed);
        let woken = waiter.await.unwrap();
        assert!(matches!(woken.outcome, AcquireOutcome::Ready(Freshness::Fresh)));
        join_all(others).await.into_iter().for_each(|looked| drop(looked.unwrap()));
        engine.stop().await;
    });
}

#[test]
fn an_invalidation_in_mid_render_wakes_those_who_wait() {
    explore(|| async {
        let memory = Arc::default();
        let engine = start(&memory).await;
        let first = granted(engine.acquire(acquire(1), &mut None).await.unwrap()).unwrap();
        assert_eq!(commit(&engine, &first).await, Committed::Committed);
        engine.invalidate(invalidation(1), None).await.unwrap();
        let slow = granted(engine.acquire(acquire(2), &mut None).await.unwrap()).unwrap();
        let waiter = {
            let engine = engine.clone();
            spawn(async move { granted(engine.acquire(acquire(3), &mut None).await.unwrap()).unwrap() })
        };
        engine.invalidate(invalidation(2), None).await.unwrap();
        let next = waiter.await.unwrap();
        assert!(next.generation > slow.generation);
        engine.stop().await;
    });
}
