//! Writes: one thread, which commits what waits in one transaction and answers after its COMMIT.
//!
//! What a failure leaves behind, and what is therefore answered:
//!
//! - A statement fails: SQLite undoes that statement (operations of several statements use a savepoint). The operation
//!   answers that it was not applied; the others of its group go on.
//! - The transaction ends by itself (a full disk, an I/O error): nothing of it was committed. Its operations are tried
//!   again, each in a transaction of its own, so that the one that cannot be done spoils none of the others.
//! - COMMIT fails: the frames of the transaction may be complete in SQLite's log although its sync failed. This process
//!   does not see them, and the next commit overwrites them; but a crash before that commit brings them to life. So an
//!   operation that wrote is in doubt until a later commit succeeds. Each is tried again on its own; what then still
//!   fails answers that its outcome is unknown.

use super::lane::Lane;
use crate::port::WriteError;
use rusqlite::{Connection, ErrorCode};
use std::{io, slice, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

#[cfg(test)]
mod tests;

/// Operations that wait for the writer; beyond that, callers wait.
const QUEUE: usize = 1024;
/// The most operations in one transaction: bounds how long the first of them waits for the last.
const MAX_GROUP_OPERATIONS: usize = 256;
/// A group that has this many bytes takes no more operations.
const MAX_GROUP_BYTES: usize = 8 << 20;

/// About the most bytes in the queue; beyond that, callers wait. Those that gave up count until their turn comes: what they
/// wanted written is in memory until then.
const QUEUE_BYTES: u32 = 256 << 20;

/// The writer's thread and its queue.
pub(super) struct Writer {
    lane: Lane<Box<dyn Job>>,
    room: Arc<Semaphore>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let lane = Lane::start("leasehold-write", QUEUE, |queue| vec![move || serve(connection, queue)])?;
        Ok(Self { lane, room: Arc::new(Semaphore::new(QUEUE_BYTES as usize)) })
    }

    /// Runs an operation and answers when it is durable. `bytes` is about what it writes. The operation is called again
    /// when its first transaction fails, and must then do the same; it undoes by itself what it did when it answers with an
    /// error.
    ///
    /// A caller that goes away before its turn has no effect; later, its operation is done whole.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        operation: impl FnMut(&Connection) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, WriteError> {
        let closed =
            || WriteError::NotApplied("the embedded store is closed, or its writer has failed".into());
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(QUEUE_BYTES);
        let room = Arc::clone(&self.room).acquire_many_owned(wanted).await.map_err(|_| closed())?;
        let (job, answer) = pending(bytes, room, operation);
        self.lane.send(job).await.map_err(|_| closed())?;
        answer
            .await
            .unwrap_or_else(|_| Err(WriteError::Unknown("the writer of the embedded store failed".into())))
    }

    /// Takes no more operations from now on, and ends when those accepted are done and `first` has come to its end.
    pub(super) async fn close(&self, first: impl Future<Output = ()>) {
        let stopping = self.lane.stop();
        first.await;
        drop(stopping);
        self.lane.ended().await;
    }
}

/// One operation in the queue, whatever it answers with.
trait Job: Send {
    /// About what it writes.
    fn bytes(&self) -> usize;
    /// Runs it in the open transaction and keeps its outcome.
    fn run(&mut self, connection: &Connection);
    /// Whether it succeeded, and changed something.
    fn wrote(&self) -> bool;
    /// Whether it succeeded.
    fn succeeded(&self) -> bool;
    /// Whether its outcome is unknown.
    fn in_doubt(&self) -> bool;
    /// Replaces its outcome.
    fn fail(&mut self, error: WriteError);
    /// Tells the caller, if there still is one.
    fn answer(self: Box<Self>);
}

struct Pending<T, F> {
    operation: F,
    bytes: usize,
    _room: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<T, WriteError>>,
    wrote: bool,
    outcome: Result<T, WriteError>,
}

/// A job, and where its answer comes.
fn pending<T: Send + 'static>(
    bytes: usize,
    room: OwnedSemaphorePermit,
    operation: impl FnMut(&Connection) -> Result<T, WriteError> + Send + 'static,
) -> (Box<dyn Job>, oneshot::Receiver<Result<T, WriteError>>) {
    let (reply, answer) = oneshot::channel();
    // Stays where the caller goes away before the job's turn.
    let outcome = Err(WriteError::NotApplied("the caller has gone away".into()));
    (Box::new(Pending { operation, bytes, _room: room, reply, wrote: false, outcome }), answer)
}

impl<T, F> Job for Pending<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> Result<T, WriteError> + Send,
{
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn run(&mut self, connection: &Connection) {
        if self.reply.is_closed() {
            return;
        }
        let before = connection.total_changes();
        self.outcome = (self.operation)(connection);
        self.wrote = connection.total_changes() != before;
    }

    fn wrote(&self) -> bool {
        self.succeeded() && self.wrote
    }

    fn succeeded(&self) -> bool {
        self.outcome.is_ok()
    }

    fn in_doubt(&self) -> bool {
        matches!(self.outcome, Err(WriteError::Unknown(_)))
    }

    fn fail(&mut self, error: WriteError) {
        self.outcome = Err(error);
    }

    fn answer(self: Box<Self>) {
        let _ = self.reply.send(self.outcome);
    }
}

/// The connection is stuck in a transaction that can be neither committed nor rolled back.
struct Stuck;

fn serve(connection: Connection, mut queue: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = queue.blocking_recv() {
        let mut bytes = first.bytes();
        let mut group = vec![first];
        while group.len() < MAX_GROUP_OPERATIONS && bytes < MAX_GROUP_BYTES {
            let Ok(job) = queue.try_recv() else { break };
            bytes += job.bytes();
            group.push(job);
        }
        let committed = commit_group(&connection, &mut group);
        // Only now: an answer before COMMIT would acknowledge what a crash can still take back.
        group.into_iter().for_each(|job| job.answer());
        if committed.is_err() {
            // Whoever waits in the queue is told that the outcome is unknown, whoever comes later that nothing was done.
            tracing::error!(
                name: "store.embedded.writer_stuck",
                "the writer of the embedded store cannot end a transaction and stops; restart the process"
            );
            return;
        }
    }
    checkpoint(&connection);
}

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Committed,
    /// It began, and nothing of it was committed, as far as this process can see.
    Failed,
    /// It could not even begin: somebody else holds SQLite's lock, or the file cannot be read.
    NotBegun,
}

/// Runs a group in one transaction, and each of it on its own when that fails.
fn commit_group(connection: &Connection, group: &mut [Box<dyn Job>]) -> Result<(), Stuck> {
    if attempt(connection, group)? != Attempt::Failed || group.len() == 1 {
        return Ok(());
    }
    // Whether a later commit has overwritten the failed one.
    let mut overwritten = false;
    // Whether to go on: who holds the lock is waited for once, not once for each operation.
    let mut begins = true;
    for job in group {
        let was_in_doubt = job.in_doubt();
        if begins {
            let attempt = attempt(connection, slice::from_mut(job))?;
            overwritten |= attempt == Attempt::Committed && job.wrote();
            begins = attempt != Attempt::NotBegun;
        }
        if was_in_doubt && !overwritten {
            // Whatever this attempt says, the first one may still come to life.
            job.fail(WriteError::Unknown("the database could not commit".into()));
        }
    }
    Ok(())
}

/// Runs jobs in one transaction. Where it is not committed, no job is left with an outcome that the transaction alone
/// made true.
fn attempt(connection: &Connection, jobs: &mut [Box<dyn Job>]) -> Result<Attempt, Stuck> {
    if let Err(error) = execute(connection, "BEGIN IMMEDIATE") {
        jobs.iter_mut().for_each(|job| job.fail(write_error(&error)));
        return Ok(Attempt::NotBegun);
    }
    for at in 0..jobs.len() {
        jobs[at].run(connection);
        if connection.is_autocommit() {
            for job in jobs.iter_mut().filter(|job| job.succeeded()) {
                job.fail(WriteError::NotApplied("the database rolled the transaction back".into()));
            }
            return Ok(Attempt::Failed);
        }
    }
    let Err(error) = execute(connection, "COMMIT") else { return Ok(Attempt::Committed) };
    tracing::error!(
        name: "store.embedded.commit_failed",
        operations = jobs.len(),
        error = %error,
        "the embedded store could not commit"
    );
    for job in jobs.iter_mut().filter(|job| job.succeeded()) {
        let error = error.to_string();
        job.fail(if job.wrote() { WriteError::Unknown(error) } else { WriteError::NotApplied(error) });
    }
    // Whatever it answers: where the failure has ended the transaction already, there is none to roll back.
    let _ = execute(connection, "ROLLBACK");
    if connection.is_autocommit() { Ok(Attempt::Failed) } else { Err(Stuck) }
}

/// Runs `operation` so that it is done whole or, when it fails, not at all, within the open transaction.
pub(super) fn atomically<T>(
    connection: &Connection,
    operation: impl FnOnce() -> Result<T, WriteError>,
) -> Result<T, WriteError> {
    let sqlite = |error: rusqlite::Error| write_error(&error);
    execute(connection, "SAVEPOINT operation").map_err(sqlite)?;
    let outcome = operation();
    if outcome.is_err() {
        if connection.is_autocommit() {
            // The whole transaction is gone, the savepoint with it.
            return outcome;
        }
        execute(connection, "ROLLBACK TO operation").map_err(sqlite)?;
    }
    execute(connection, "RELEASE operation").map_err(sqlite)?;
    outcome
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// Folds SQLite's log into the database file, so that the next start has nothing to read back. What fails here is done
/// by the next start.
fn checkpoint(connection: &Connection) {
    let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    if let Err(error) = done {
        tracing::warn!(
            name: "store.embedded.checkpoint_failed",
            error = %error,
            "the embedded store was closed without a checkpoint; the next start makes up for it"
        );
    }
}

/// What a failure of SQLite within a transaction means. Its statement had no effect.
pub(super) fn write_error(error: &rusqlite::Error) -> WriteError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => WriteError::Corrupt(error.to_string()),
        Some(ErrorCode::TooBig) => WriteError::TooLarge(error.to_string()),
        Some(_) => WriteError::NotApplied(error.to_string()),
        // Not from SQLite: a column does not have the type it was created with.
        None => WriteError::Corrupt(error.to_string()),
    }
}
