//! The load: tasks that render, commit, invalidate and read without end, each by the rules of a worker. A ledger judges
//! everything that they are told.

mod calls;
mod draft;
mod ledger;

use draft::Shape;
use leasehold_client::{Builder, Commit, Coordinator, EntryRef, RetryPolicy};
use leasehold_fleet::until;
use ledger::{Ledger, Tally};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

/// What is larger goes ahead of its commit: half of the pages, where these may have twice as much.
const INLINE_LIMIT_BYTES: usize = 32 << 10;

/// Makes a client that calls itself so, configured so.
pub(crate) type Connect<'a> = &'a dyn Fn(&str, &dyn Fn(Builder) -> Builder) -> Coordinator;

/// The tasks, and what they were told.
pub(crate) struct Load {
    tasks: JoinSet<()>,
    /// Of all entries that they work on.
    pub(crate) keys: Vec<String>,
    /// Whose work they do.
    pub(crate) worker: Worker,
}

impl Load {
    /// Starts the tasks, each with clients of its own, which repeat calls by this policy.
    pub(crate) fn start(asked: Asked, retry: &RetryPolicy, connect: Connect<'_>) -> Self {
        let (ledger, stop) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
        let client = |name, retry: &RetryPolicy| {
            connect(name, &|b| b.retry(retry.clone()).inline_limit(INLINE_LIMIT_BYTES))
        };
        let worker = |seed| Worker {
            ledger: Arc::clone(&ledger),
            stop: Arc::clone(&stop),
            asked,
            patient: client("patient", retry),
            hasty: client("hasty", &RetryPolicy::never()),
            seed,
        };
        let (mut tasks, mut keys) = (JoinSet::new(), Vec::new());
        let mut seeds = 1..;
        let mut seeded = || worker(seeds.next().unwrap_or_default());
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
        Self { tasks, keys, worker: worker(0) }
    }

    /// Waits for so many further commits.
    ///
    /// # Panics
    /// When a promise was broken: at once.
    pub(crate) async fn goes_on(&mut self, commits: usize) {
        let target = self.tally().committed + commits;
        until("the load goes on", Duration::from_secs(30), async || {
            if let Some(Err(panic)) = self.tasks.try_join_next() {
                resume_unwind(panic.into_panic());
            }
            (self.tally().committed >= target).then_some(())
        })
        .await;
    }

    /// Ends the tasks, each after the call that it is in.
    pub(crate) async fn stop(&mut self) {
        self.worker.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap_or_else(|panic| resume_unwind(panic.into_panic()));
        }
    }

    /// Reads every entry, and commits the newest attempts of each once more.
    pub(crate) async fn check(&self, by: &Worker, most: usize) {
        for key in &self.keys {
            by.read(key, true).await;
            by.repeat_commits(key, most).await;
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.worker.ledger.tally()
    }
}

/// What a task of the load works with.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    pub(crate) asked: Asked,
    /// Retries until the coordinator is back.
    pub(crate) patient: Coordinator,
    /// Gives up at once, and so learns of unknown outcomes.
    pub(crate) hasty: Coordinator,
    pub(crate) seed: u64,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// One coordinator, which knows of every commit.
    One,
    /// Several. A bounded read may be behind in what was committed through another.
    Several,
}

/// The entry of a key, which is also its tag and its path.
pub(crate) fn entry(key: &str) -> EntryRef {
    EntryRef::key(key).path(format!("/{key}"))
}

/// A lease that no crash outlasts.
const LONG: Duration = Duration::from_secs(60);

impl Worker {
    /// The same, asking another.
    pub(crate) fn asking(&self, coordinator: Coordinator) -> Self {
        Self { patient: coordinator.clone(), hasty: coordinator, ..self.clone() }
    }

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
