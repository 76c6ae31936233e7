//! The embedded store as a fixture, in directories below one that is given.

use super::Fixture;
use crate::{
    embedded::{EmbeddedStore, Keep},
    port::Stores,
};
use async_trait::async_trait;
use leasehold_core::time::Timestamp;
use parking_lot::Mutex;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// An embedded store that can be restarted and crashed. Also a ready store for tests of other crates.
pub struct EmbeddedFixture<R> {
    // Before the root, so that the stores are closed when a temporary directory is removed.
    state: Mutex<State>,
    root: R,
}

struct State {
    store: Arc<EmbeddedStore>,
    /// How often it crashed; each time it goes on in a directory of its own.
    crashes: usize,
    /// What a crash left behind: kept, because ending it in the orderly way would be no crash.
    abandoned: Vec<Arc<EmbeddedStore>>,
}

impl<R: AsRef<Path> + Send + Sync> EmbeddedFixture<R> {
    /// A store in a directory below `root`: a path, or the owner of a temporary directory, which is kept as long as the
    /// fixture.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn new(root: R) -> Self {
        let store = open(&directory(root.as_ref(), 0));
        Self { state: Mutex::new(State { store, crashes: 0, abandoned: Vec::new() }), root }
    }

    /// The store as it is open now.
    pub fn store(&self) -> Arc<EmbeddedStore> {
        self.state.lock().store.clone()
    }
}

#[async_trait]
impl<R: AsRef<Path> + Send + Sync> Fixture for EmbeddedFixture<R> {
    async fn open(&self) -> Stores {
        // There is one handle per process by design: a second one is refused.
        self.store().stores()
    }

    async fn restart(&self) -> Stores {
        self.store().close().await;
        let mut state = self.state.lock();
        state.store = open(&directory(self.root.as_ref(), state.crashes));
        state.store.clone().stores()
    }

    async fn crash(&self) -> Stores {
        let mut state = self.state.lock();
        // What a killed process leaves is what is in its files. The suite has an answer to all that it asked, so that
        // nothing is being written while these are copied.
        let (from, to) =
            (directory(self.root.as_ref(), state.crashes), directory(self.root.as_ref(), state.crashes + 1));
        fs::create_dir_all(&to).expect("create a directory");
        for file in fs::read_dir(&from).expect("list the directory of the store") {
            let file = file.expect("list the directory of the store");
            // The index is shared memory, which does not outlive a process.
            if !file.file_name().to_string_lossy().ends_with("-shm") {
                fs::copy(file.path(), to.join(file.file_name())).expect("copy a file of the store");
            }
        }
        state.crashes += 1;
        let reopened = open(&to);
        let abandoned = std::mem::replace(&mut state.store, reopened);
        state.abandoned.push(abandoned);
        state.store.clone().stores()
    }

    async fn forget(&self, now: Timestamp) {
        // As hasty as can be, so that the suite sees whatever would be taken too early.
        let keep = Keep { max_hold: Duration::ZERO, grace: Duration::ZERO };
        self.store().housekeep(now, keep).await.expect("housekeeping");
    }
}

fn directory(root: &Path, crashes: usize) -> PathBuf {
    root.join(format!("after-{crashes}-crashes"))
}

fn open(directory: &Path) -> Arc<EmbeddedStore> {
    Arc::new(EmbeddedStore::open(directory).expect("open the embedded store"))
}
