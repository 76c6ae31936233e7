//! Work that goes on after its request was answered.

use futures::{FutureExt as _, future::BoxFuture};
use std::fmt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

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

/// A regeneration that was handed over: nothing happens unless it is awaited, or spawned. Dropped, it is as if the request
/// had not come.
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
    all: TaskTracker,
    /// Told when renders are to be given up.
    pub(super) stop: CancellationToken,
}

impl Tasks {
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.all.spawn(task)
    }

    /// Until none is left, those that begin meanwhile included.
    pub(super) async fn finish(&self) {
        self.all.close();
        self.all.wait().await;
        self.all.reopen();
    }
}
