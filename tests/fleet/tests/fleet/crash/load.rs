//! The load: tasks that render, commit, invalidate and read without end, each by the rules of a worker.

use super::{draft::Shape, ledger::Ledger};
use leasehold_client::{Commit, Coordinator, EntryRef};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// What a task of the load works with.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Retries until the coordinator is back.
    pub(crate) patient: Coordinator,
    /// Gives up at once, and so learns of unknown outcomes.
    pub(crate) hasty: Coordinator,
    pub(crate) seed: u64,
}

/// The entry of a key, which is also its tag and its path.
pub(crate) fn entry(key: &str) -> EntryRef {
    EntryRef::key(key).path(format!("/{key}"))
}

/// A lease that no crash outlasts.
const LONG: Duration = Duration::from_secs(60);

impl Worker {
    /// Renders one entry of its own, again and again. Nobody else asks for the lease, so every commit is
    /// applied.
    pub(crate) async fn writer(self, key: String, most_bytes: usize) {
        let mut random = self.random();
        let shape = Shape { most_bytes, revalidate: Some(Duration::ZERO) };
        while self.goes_on() {
            let Some(render) = self.acquire(&key, LONG, shape, None, &mut random).await else { continue };
            if random.random_ratio(1, 4) {
                self.acquire_again(&key, &render).await;
            }
            let answer = self.commit(&key, &render, &mut random).await;
            assert!(
                matches!(answer, Commit::Committed { .. }),
                "{key}: the only writer's commit is {answer:?}"
            );
        }
    }

    /// Competes for an entry with others, at times for longer than its lease lasts.
    pub(crate) async fn rival(self, key: String, most_bytes: usize) {
        let mut random = self.random();
        let shape = Shape { most_bytes, revalidate: Some(Duration::ZERO) };
        while self.goes_on() {
            let ttl = Duration::from_millis(if random.random_ratio(1, 2) { 100 } else { 2_000 });
            let Some(render) = self.acquire(&key, ttl, shape, None, &mut random).await else { continue };
            if random.random_ratio(1, 4) {
                tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
            }
            self.commit(&key, &render, &mut random).await;
        }
    }

    /// Invalidates a page that is fresh until then, sees it go, and renders it anew; in one turn of four it
    /// invalidates while it renders.
    pub(crate) async fn editor(self, key: String, most_bytes: usize) {
        let mut random = self.random();
        let shape = Shape { most_bytes, revalidate: None };
        while self.goes_on() {
            self.invalidate(&key, &mut random).await;
            self.read(&key, false).await;
            let token = self.ledger.known(&key).token;
            let Some(render) = self.acquire(&key, LONG, shape, token, &mut random).await else { continue };
            if random.random_ratio(1, 4) {
                self.invalidate(&key, &mut random).await;
            }
            self.commit(&key, &render, &mut random).await;
            self.read(&key, true).await;
        }
    }

    /// Reads all entries in turn, with their sidecars.
    pub(crate) async fn reader(self, keys: Vec<String>) {
        for key in keys.iter().cycle() {
            if !self.goes_on() {
                return;
            }
            self.read(key, true).await;
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn random(&self) -> StdRng {
        StdRng::seed_from_u64(self.seed)
    }
}
