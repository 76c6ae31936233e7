//! Work that goes on after its request was answered.

use futures::{FutureExt as _, future::BoxFuture};
use std::{fmt, time::Duration};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Where pages are regenerated that were served stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Background {
    /// In tasks of the runtime's. On a server, nothing else is needed; where the process is frozen between invocations, as
    /// in a Lambda, [`finish_background`](super::Runtime::finish_background) belongs before the end of each.
    #[default]
    Spawn,
    /// By whoever asked: [`Served::background`](super::Served::background) has the work.
    HandOver,
}

/// A regeneration that was handed over: nothing happens unless it is awaited, or spawned. Dropped before, it is as if the
/// request had not come; dropped while the page is rendered, that goes on in a task of the runtime's.
#[must_use = "a regeneration that nobody awaits does not happen"]
pub struct Handed(pub(super) BoxFuture<'static, ()>);

impl Future for Handed {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.0.poll_unpin(context)
    }
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handed")
    }
}

/// The tasks of a runtime.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    pub(super) all: TaskTracker,
    /// The visitors who wait for a lease, or for another's page, each with a token.
    waiting: TaskTracker,
    /// Told when renders are to be given up, and waiting for them.
    pub(super) stop: CancellationToken,
}

impl Tasks {
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.all.spawn(leasehold_traces::inherited(task))
    }

    /// A visitor waits until it is dropped, or `stop` is told.
    pub(super) fn waiting(&self) -> TaskTrackerToken {
        self.waiting.token()
    }

    /// Until nobody waits or renders any more, and all that follows from it is done.
    pub(super) async fn stop(&self, patience: Duration) {
        self.stop.cancel();
        // What one of them is about to be granted is given back by a task that begins when it goes. One who does not look is not
        // waited for any longer than an answer.
        self.waiting.close();
        drop(tokio::time::timeout(patience, self.waiting.wait()).await);
        self.finish().await;
    }

    /// Until none is left, those that begin meanwhile included.
    pub(super) async fn finish(&self) {
        // Closed, it takes tasks all the same, and tells those that wait.
        self.all.close();
        self.all.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::Tasks;
    use tokio::sync::oneshot;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_the_end_hears_of_it() {
        let tasks = Tasks::default();
        let (end_first, ended_first) = oneshot::channel::<()>();
        let (end_second, ended_second) = oneshot::channel::<()>();
        let first = tasks.spawn(ended_first);
        let mut early = std::pin::pin!(tasks.finish());
        assert!(futures::poll!(&mut early).is_pending());
        drop(end_first);
        assert!(first.await.unwrap().is_err());
        let second = tasks.spawn(ended_second);
        let mut late = std::pin::pin!(tasks.finish());
        assert!(futures::poll!(&mut late).is_pending());
        early.await;
        drop(end_second);
        assert!(second.await.unwrap().is_err());
        let within = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(within, late).await.is_ok());
    }
}
