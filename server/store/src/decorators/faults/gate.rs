//! Where calls wait for a test to let them go on.

use std::{fmt, sync::Arc};
use tokio::sync::{Semaphore, watch};

/// Parks calls, and tells when they have come: a test decides who goes first, without sleeping and hoping. Clones are the
/// same gate.
#[derive(Clone)]
pub struct Gate(Arc<State>);

struct State {
    arrived: watch::Sender<u64>,
    finished: watch::Sender<u64>,
    permits: Semaphore,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        let (arrived, finished) = (watch::Sender::new(0), watch::Sender::new(0));
        Self(Arc::new(State { arrived, finished, permits: Semaphore::new(0) }))
    }

    /// Waits until so many calls have come to the gate since it was made; those that went on, or whose callers went away,
    /// count too.
    pub async fn arrived(&self, calls: u64) {
        reached(&self.0.arrived, calls).await;
    }

    /// Waits until so many calls of [`Fault::ApplyLater`](super::Fault::ApplyLater) are done, whatever came of them.
    pub async fn applied(&self, calls: u64) {
        reached(&self.0.finished, calls).await;
    }

    /// Lets `calls` of them through, in the order in which they came; where fewer are waiting, the next to come.
    pub fn release(&self, calls: usize) {
        self.0.permits.add_permits(calls);
    }

    /// Lets all of them through, also those that come later.
    pub fn open(&self) {
        self.0.permits.close();
    }

    /// Comes to the gate, and waits until it lets the caller through.
    pub async fn pass(&self) {
        self.0.arrived.send_modify(|arrived| *arrived += 1);
        // An error says that the gate is open for good.
        if let Ok(permit) = self.0.permits.acquire().await {
            permit.forget();
        }
    }

    pub(super) fn done(&self) {
        self.0.finished.send_modify(|finished| *finished += 1);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("arrived", &*self.0.arrived.borrow()).finish_non_exhaustive()
    }
}

async fn reached(counter: &watch::Sender<u64>, count: u64) {
    // Fails only without a sender, which is in this gate.
    let _ = counter.subscribe().wait_for(|reached| *reached >= count).await;
}
