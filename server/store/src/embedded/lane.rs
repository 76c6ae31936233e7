//! Threads that own connections, and the bounded queue in front of them. SQLite blocks; no task of the runtime does.

use parking_lot::{Mutex, RwLock};
use std::{io, thread};
use tokio::sync::{mpsc, watch};

/// A queue and the threads that serve it.
pub(super) struct Lane<J> {
    /// Taken when the lane closes: the threads end when the last sender is gone and everything accepted is done.
    sender: RwLock<Option<mpsc::Sender<J>>>,
    /// Closed by the end of the last thread.
    ended: watch::Receiver<()>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

/// The lane takes nothing any more: it was closed, or its threads died.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed;

impl<J: Send + 'static> Lane<J> {
    /// Starts one thread per body. Every body ends when its queue says so.
    pub(super) fn start<B>(
        name: &str,
        capacity: usize,
        bodies: impl FnOnce(mpsc::Receiver<J>) -> Vec<B>,
    ) -> io::Result<Self>
    where
        B: FnOnce() + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(capacity);
        let (alive, ended) = watch::channel(());
        let mut threads = Vec::new();
        for body in bodies(receiver) {
            let alive = alive.clone();
            threads.push(thread::Builder::new().name(name.to_owned()).spawn(move || {
                // Dropped last, also when the body panics: by then the body's connection is closed.
                let _alive = alive;
                body();
            })?);
        }
        Ok(Self { sender: RwLock::new(Some(sender)), ended, threads: Mutex::new(threads) })
    }

    /// Hands a job over; waits while the queue is full. A caller that goes away while it waits has handed over nothing.
    pub(super) async fn send(&self, job: J) -> Result<(), Closed> {
        let sender = self.sender.read().clone().ok_or(Closed)?;
        sender.send(job).await.map_err(|_| Closed)
    }

    /// Takes no more jobs from now on. The threads go on until those accepted are done and the answer is dropped.
    pub(super) fn stop(&self) -> Stopping<J> {
        Stopping(self.sender.write().take())
    }

    /// Waits until the threads have ended, and their connections with them.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error says that the last thread's end of the channel is gone. Nothing is ever sent.
        while ended.changed().await.is_ok() {}
    }
}

/// Keeps the threads of a lane that was stopped from ending.
pub(super) struct Stopping<J>(#[expect(dead_code, reason = "held, not read")] Option<mpsc::Sender<J>>);

impl<J> Drop for Lane<J> {
    fn drop(&mut self) {
        drop(self.sender.get_mut().take());
        for thread in self.threads.get_mut().drain(..) {
            if thread.join().is_err() {
                tracing::error!(name: "store.embedded.thread_panicked", "a thread of the embedded store panicked");
            }
        }
    }
}
