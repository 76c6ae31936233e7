//! A coordinator that dies again and again under load.

use crate::load::{Asked, Load};
use leasehold_client::{RetryBudget, RetryPolicy};
use leasehold_fleet::{CoordinatorProcess, now, since};
use std::time::Duration;

const CRASHES: usize = 20;
/// Between two crashes. Where in its work a commit is hit is left to chance, so there are many.
const COMMITS_PER_LIFE: usize = 40;

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
    let mut load =
        Load::start(Asked::One, &retry, &|owner, configure| coordinator.client_by(owner, configure));
    let mut restarts = Vec::new();
    for _ in 0..CRASHES {
        load.goes_on(COMMITS_PER_LIFE).await;
        coordinator.kill();
        let down = now();
        coordinator.restart().await;
        restarts.push(since(down));
        load.check(&load.worker, 3).await;
    }
    load.stop().await;
    let before = load.tally();
    load.check(&load.worker, 50).await;
    let tally = load.tally();
    println!(
        "{CRASHES} crashes in {:?}, back after {:?} at most: {tally:#?}",
        since(start),
        restarts.iter().max()
    );
    assert!(tally.in_doubt > 0 && tally.settled_as_committed > 0, "no commit was hit: {tally:?}");
    assert!(tally.invalidations > CRASHES && tally.committed_stale > 0, "{tally:?}");
    assert!(tally.superseded + tally.fenced > 0, "no lease was overtaken: {tally:?}");
    assert!(tally.pages_checked >= before.pages_checked + load.keys.len(), "{before:?} {tally:?}");
    assert!(tally.sidecars_checked > CRASHES && tally.commits_repeated > CRASHES, "{tally:?}");
}
