//! Deletes bodies that no page names any more, after a grace period.
//!
//! What is handed in can never become current again: it was superseded by a swap that is known to be applied, or belonged
//! to a lease that can no longer commit, also under names that its worker gave ([`staged`](super::staged)). Where it is not
//! known whose a body is, the store is asked, and another's stays. What is pending when the process ends is found again as
//! named by no entry: by the embedded store's housekeeping, or by a sweep.

use super::{bodies::Bodies, staged::Attempt};
use crate::time::Clock;
use leasehold_core::object::ObjectName;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Names in one delete at most.
const BATCH: usize = 100;
/// The pause after a delete that failed; it doubles with each further failure.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// How often a name is tried. After that it is left to those who look for what no entry names.
const MAX_FAILURES: u32 = 8;

/// Names that wait for their time.
pub(crate) struct Cleaner {
    grace: Duration,
    capacity: usize,
    clock: Arc<dyn Clock>,
    pending: Mutex<Pending>,
    /// How many are being deleted.
    deleting: AtomicUsize,
    added: Notify,
}

/// In the order of their time, and in that of their arrival.
#[derive(Default)]
struct Pending {
    names: BTreeMap<(Duration, u64), Retired>,
    arrivals: u64,
}

struct Retired {
    name: ObjectName,
    /// Whose it must be, where that is not known.
    must_be_of: Option<Attempt>,
    failures: u32,
}

impl Pending {
    fn add(&mut self, due: Duration, retired: Retired) {
        self.names.insert((due, self.arrivals), retired);
        self.arrivals += 1;
    }

    fn next_due(&self) -> Option<Duration> {
        self.names.first_key_value().map(|((due, _), _)| *due)
    }

    fn take_due(&mut self, now: Duration) -> Vec<Retired> {
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(first) = self.names.first_entry().filter(|first| first.key().0 <= now)
        {
            batch.push(first.remove());
        }
        batch
    }
}

/// Until the first of what is pending is due; for good, where nothing is.
pub(super) async fn until_due(clock: &dyn Clock, first: Option<Duration>) {
    match first {
        Some(due) => tokio::time::sleep(due.saturating_sub(clock.now().elapsed)).await,
        None => std::future::pending().await,
    }
}

impl Cleaner {
    pub(crate) fn new(grace: Duration, capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            grace,
            capacity,
            clock,
            pending: Mutex::default(),
            deleting: AtomicUsize::new(0),
            added: Notify::new(),
        }
    }

    /// How many are not deleted yet.
    pub(crate) fn pending(&self) -> usize {
        // Under the lock, as they are moved: none is missed on its way from one to the other.
        let pending = self.pending.lock();
        pending.names.len() + self.deleting.load(Ordering::Acquire)
    }

    /// Hands in what was superseded: readers of the page before may still ask for it.
    pub(crate) fn retire(&self, names: impl IntoIterator<Item = ObjectName>) {
        self.add(names, None, self.clock.now().elapsed + self.grace);
    }

    /// Hands in what an attempt may have stored, or another: the store is asked when its time has come, and what is on its way
    /// has arrived.
    pub(crate) fn retire_doubtful(&self, attempt: &Attempt, names: impl IntoIterator<Item = ObjectName>) {
        self.add(names, Some(attempt), self.clock.now().elapsed + self.grace);
    }

    /// Hands in what was purged: nobody is to see it any more.
    pub(crate) fn retire_purged(&self, names: impl IntoIterator<Item = ObjectName>) {
        self.add(names, None, self.clock.now().elapsed);
    }

    fn add(&self, names: impl IntoIterator<Item = ObjectName>, must_be_of: Option<&Attempt>, due: Duration) {
        let mut pending = self.pending.lock();
        let mut left = 0_usize;
        for name in names {
            if pending.names.len() < self.capacity {
                pending.add(due, Retired { name, must_be_of: must_be_of.cloned(), failures: 0 });
            } else {
                left += 1;
            }
        }
        drop(pending);
        if left > 0 {
            tracing::warn!(
                objects = left,
                "too many superseded bodies wait for deletion; these are left to those who look for what no entry names"
            );
        }
        self.added.notify_one();
    }

    /// Each later than before: names that cannot be deleted must not keep others from it.
    fn put_back(&self, batch: Vec<Retired>, now: Duration) {
        let mut pending = self.pending.lock();
        self.deleting.fetch_sub(batch.len(), Ordering::AcqRel);
        let mut given_up = 0_usize;
        for retired in batch {
            let failures = retired.failures + 1;
            if failures < MAX_FAILURES {
                let due = now + RETRY_PAUSE * 2_u32.pow(retired.failures);
                pending.add(due, Retired { failures, ..retired });
            } else {
                given_up += 1;
            }
        }
        drop(pending);
        if given_up > 0 {
            tracing::warn!(
                objects = given_up,
                "superseded bodies cannot be deleted; these are left to those who look for what no entry names"
            );
        }
    }

    /// Deletes what is due until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, bodies: Arc<Bodies>, shutdown: CancellationToken) {
        loop {
            let next_due = self.pending.lock().next_due();
            let is_due = next_due.is_some_and(|due| due <= self.clock.now().elapsed);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                // What was handed in may be due before all others, but what is due does not wait for that.
                () = self.added.notified(), if !is_due => continue,
                () = until_due(&*self.clock, next_due) => {}
            }
            let now = self.clock.now().elapsed;
            let batch = {
                let mut pending = self.pending.lock();
                let batch = pending.take_due(now);
                self.deleting.store(batch.len(), Ordering::Release);
                batch
            };
            if batch.is_empty() {
                continue;
            }
            let batch = self.own(batch, &bodies, &shutdown).await;
            if !batch.is_empty() {
                self.delete(batch, &bodies).await;
            }
        }
    }

    /// Without those that are another's, or nobody's, and those of which that cannot be told now.
    async fn own(&self, batch: Vec<Retired>, bodies: &Bodies, shutdown: &CancellationToken) -> Vec<Retired> {
        let mut own = Vec::with_capacity(batch.len());
        for retired in batch {
            let Some(attempt) = &retired.must_be_of else {
                own.push(retired);
                continue;
            };
            if shutdown.is_cancelled() {
                // A stop waits for one answer of the store at most, not for one after the other.
                return Vec::new();
            }
            match bodies.origin_of(&retired.name).await {
                Ok(Some(origin)) if attempt.has_stored(&origin) => own.push(retired),
                Ok(_) => {
                    self.deleting.fetch_sub(1, Ordering::AcqRel);
                }
                Err(error) => {
                    tracing::warn!(%error, "nobody can tell whose a body is that is to be deleted; trying again");
                    self.put_back(vec![retired], self.clock.now().elapsed);
                }
            }
        }
        own
    }

    async fn delete(&self, batch: Vec<Retired>, bodies: &Bodies) {
        let names: Vec<ObjectName> = batch.iter().map(|retired| retired.name.clone()).collect();
        match bodies.delete(&names).await {
            Ok(()) => {
                self.deleting.fetch_sub(batch.len(), Ordering::AcqRel);
                tracing::debug!(objects = batch.len(), "superseded bodies deleted");
            }
            Err(error) => {
                tracing::warn!(%error, objects = batch.len(), "superseded bodies could not be deleted; trying again");
                self.put_back(batch, self.clock.now().elapsed);
            }
        }
    }
}
