//! A coordinator that dies again and again under load.

mod calls;
mod draft;
mod ledger;
mod load;

use leasehold_client::{RetryBudget, RetryPolicy};
use leasehold_fleet::{CoordinatorProcess, now, since, until};
use ledger::Ledger;
use load::Worker;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

const CRASHES: usize = 20;
/// Between two crashes. Where in its work a commit is hit is left to chance, so there are many.
const COMMITS_PER_LIFE: usize = 40;
/// What is larger goes ahead of its commit: half of the pages, where these may have twice as much.
const INLINE_LIMIT_BYTES: usize = 32 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_twenty_crashes_under_load() {
    let start = now();
    let mut coordinator = CoordinatorProcess::start().await;
    // An outage is what this is about: no budget is to end it early.
    let budget = RetryBudget { burst: 100_000, per_second: 1000.0, per_call: 1.0 };
    let retry = RetryPolicy {
        max_attempts: 1000,
        max_backoff: Duration::from_millis(50),
        budget,
        ..Default::default()
    };
    let worker = Worker {
        ledger: Arc::new(Ledger::default()),
        stop: Arc::new(AtomicBool::new(false)),
        patient: coordinator.client_by("patient", |b| b.retry(retry).inline_limit(INLINE_LIMIT_BYTES)),
        hasty: coordinator
            .client_by("hasty", |b| b.retry(RetryPolicy::never()).inline_limit(INLINE_LIMIT_BYTES)),
        seed: 0,
    };
    let (mut tasks, keys) = under_load(&worker);
    let mut restarts = Vec::new();
    for _ in 0..CRASHES {
        let target = worker.ledger.tally().committed + COMMITS_PER_LIFE;
        until("the load goes on", Duration::from_secs(30), async || {
            fail_with(&mut tasks);
            (worker.ledger.tally().committed >= target).then_some(())
        })
        .await;
        coordinator.kill();
        let down = now();
        coordinator.restart().await;
        restarts.push(since(down));
        for key in &keys {
            worker.read(key, true).await;
            worker.repeat_commits(key, 3).await;
        }
    }
    worker.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    }
    let before = worker.ledger.tally();
    for key in &keys {
        worker.read(key, true).await;
        worker.repeat_commits(key, 50).await;
    }
    let tally = worker.ledger.tally();
    println!(
        "{CRASHES} crashes in {:?}, back after {:?} at most: {tally:#?}",
        since(start),
        restarts.iter().max()
    );
    assert!(tally.in_doubt > 0 && tally.settled_as_committed > 0, "no commit was hit: {tally:?}");
    assert!(tally.invalidations > CRASHES && tally.committed_stale > 0, "{tally:?}");
    assert!(tally.superseded + tally.fenced > 0, "no lease was overtaken: {tally:?}");
    assert!(tally.pages_checked >= before.pages_checked + keys.len(), "{before:?} {tally:?}");
    assert!(tally.sidecars_checked > CRASHES && tally.commits_repeated > CRASHES, "{tally:?}");
}

/// Starts the tasks; gives the keys of all entries that they work on.
fn under_load(worker: &Worker) -> (JoinSet<()>, Vec<String>) {
    let mut tasks = JoinSet::new();
    let mut keys = Vec::new();
    let mut seeds = 1..;
    let mut seeded = || Worker { seed: seeds.next().unwrap_or_default(), ..worker.clone() };
    for nth in 0..3 {
        let (writer, uploader) = (format!("writer-{nth}"), format!("uploader-{nth}"));
        tasks.spawn(seeded().writer(writer.clone(), INLINE_LIMIT_BYTES / 2));
        tasks.spawn(seeded().writer(uploader.clone(), INLINE_LIMIT_BYTES * 2));
        keys.extend([writer, uploader]);
    }
    for nth in 0..2 {
        let editor = format!("editor-{nth}");
        tasks.spawn(seeded().editor(editor.clone(), INLINE_LIMIT_BYTES * 2));
        keys.push(editor);
    }
    for _ in 0..3 {
        tasks.spawn(seeded().rival("contested".to_owned(), INLINE_LIMIT_BYTES * 2));
    }
    keys.push("contested".to_owned());
    tasks.spawn(seeded().reader(keys.clone()));
    (tasks, keys)
}

/// A broken promise ends the test at once, not after the last crash.
fn fail_with(tasks: &mut JoinSet<()>) {
    if let Some(Err(panic)) = tasks.try_join_next() {
        std::panic::resume_unwind(panic.into_panic());
    }
}
