//! Reads: a few threads with a read-only connection each.

use super::{OpenError, directory::Directory, lane::Lane, schema};
use crate::port::ReadError;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Reads that wait for a thread; beyond that, callers wait.
const QUEUE: usize = 1024;
/// More threads than this gain nothing: reads are short and in memory for the most part.
const MOST_THREADS: usize = 4;

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// The pool.
pub(super) struct Readers(Lane<Read>);

impl Readers {
    pub(super) fn start(directory: &Directory) -> Result<Self, OpenError> {
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, MOST_THREADS));
        let connections: Vec<Connection> =
            (0..threads).map(|_| schema::open_reader(directory)).collect::<Result<_, _>>()?;
        let lane = Lane::start("leasehold-read", QUEUE, |queue| {
            let queue = Arc::new(Mutex::new(queue));
            connections
                .into_iter()
                .map(|connection| {
                    let queue = queue.clone();
                    move || serve(&connection, &queue)
                })
                .collect()
        })
        .map_err(|source| OpenError::Directory { dir: directory.path().to_owned(), source })?;
        Ok(Self(lane))
    }

    /// Runs a read on one of the threads. Whatever was committed before this call is seen by it: a statement's snapshot is
    /// taken when it begins.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let (reply, answer) = oneshot::channel();
        let job: Read = Box::new(move |connection| {
            // A caller that has gone away needs no answer: under overload this is what lets the queue catch up.
            if !reply.is_closed() {
                let _ = reply.send(read(connection));
            }
        });
        self.0.send(job).await.map_err(|_| ReadError::Unavailable("the embedded store is closed".into()))?;
        answer
            .await
            .unwrap_or_else(|_| Err(ReadError::Unavailable("a reader of the embedded store failed".into())))
    }

    pub(super) async fn close(&self) {
        drop(self.0.stop());
        self.0.ended().await;
    }
}

fn serve(connection: &Connection, queue: &Mutex<mpsc::Receiver<Read>>) {
    loop {
        // The threads take turns at the queue: one waits in it, the others wait for the lock.
        let Some(read) = queue.lock().blocking_recv() else { return };
        read(connection);
    }
}

/// What a failure of SQLite means to a reader.
pub(super) fn read_error(error: rusqlite::Error) -> ReadError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ReadError::Corrupt(error.to_string()),
        Some(_) => ReadError::Unavailable(error.to_string()),
        // Not from SQLite: a column does not have the type it was created with.
        None => ReadError::Corrupt(error.to_string()),
    }
}
