//! What operations of one group are told when its transaction fails and they are tried again, each on its own.

use super::*;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tempfile::{TempDir, tempdir};

type Answer = oneshot::Receiver<Result<(), WriteError>>;

fn room() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
}

fn database() -> (TempDir, Connection) {
    let dir = tempdir().unwrap();
    let connection = connect(&dir);
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE rows (name TEXT NOT NULL);
             CREATE TABLE parents (id INTEGER PRIMARY KEY);
             CREATE TABLE orphans (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED);",
        )
        .unwrap();
    (dir, connection)
}

fn connect(dir: &TempDir) -> Connection {
    let connection = Connection::open(dir.path().join("db")).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    connection
}

/// An operation that executes the next of these with each call.
fn executes<const N: usize>(calls: [&'static str; N]) -> (Box<dyn Job>, Answer) {
    let mut calls = calls.into_iter();
    pending(0, room(), move |connection| {
        let sql = calls.next().expect("called too often");
        connection.execute(sql, []).map(drop).map_err(|error| write_error(&error))
    })
}

const WRITES: &str = "INSERT INTO rows VALUES ('a row')";
const READS: &str = "UPDATE rows SET name = '' WHERE false";
const MAKES_COMMIT_FAIL: &str = "INSERT INTO orphans VALUES (1)";
const FAILS: &str = "INSERT INTO rows VALUES (NULL)";

async fn run<const N: usize>(
    connection: &Connection,
    group: [(Box<dyn Job>, Answer); N],
) -> [&'static str; N] {
    let (mut jobs, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
    assert!(commit_group(connection, &mut jobs).is_ok());
    jobs.into_iter().for_each(|job| job.answer());
    let mut told = Vec::new();
    for answer in answers {
        told.push(match answer.await.unwrap() {
            Ok(()) => "done",
            Err(WriteError::NotApplied(_)) => "not applied",
            Err(WriteError::Unknown(_)) => "unknown",
            Err(error) => panic!("{error}"),
        });
    }
    told.try_into().unwrap()
}

fn rows(connection: &Connection) -> u64 {
    connection.query_row("SELECT count(*) FROM rows", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn an_operation_in_doubt_stays_so_while_nothing_else_is_committed() {
    let (_dir, connection) = database();
    let group = [executes([MAKES_COMMIT_FAIL, FAILS]), executes([WRITES, FAILS]), executes([WRITES, READS])];
    assert_eq!(run(&connection, group).await, ["unknown", "unknown", "unknown"]);
}

#[tokio::test]
async fn a_later_commit_settles_what_was_in_doubt() {
    let (_dir, connection) = database();
    let group = [executes([MAKES_COMMIT_FAIL, FAILS]), executes([WRITES, WRITES]), executes([WRITES, FAILS])];
    // The first is judged before there is a commit, the last one after it.
    assert_eq!(run(&connection, group).await, ["unknown", "done", "not applied"]);
    assert_eq!(rows(&connection), 1);
}

#[tokio::test]
async fn what_wrote_nothing_is_never_in_doubt() {
    let (_dir, connection) = database();
    let group = [executes([READS, FAILS]), executes([MAKES_COMMIT_FAIL, MAKES_COMMIT_FAIL])];
    assert_eq!(run(&connection, group).await, ["not applied", "unknown"]);
}

#[tokio::test]
async fn nothing_of_a_transaction_that_was_rolled_back_is_called_done_and_a_lock_is_waited_for_once() {
    static WAITED: AtomicU32 = AtomicU32::new(0);
    let (dir, connection) = database();
    let other = connect(&dir);
    connection
        .busy_handler(Some(|_| {
            WAITED.fetch_add(1, Ordering::SeqCst);
            false
        }))
        .unwrap();
    let (locks, told) = pending(0, room(), move |connection| {
        connection.execute_batch("ROLLBACK").unwrap();
        // So that there is no second attempt.
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        Err(WriteError::NotApplied("rolled back".into()))
    });
    let group = [executes([WRITES]), executes([WRITES]), (locks, told), executes([])];
    assert_eq!(run(&connection, group).await, ["not applied"; 4]);
    assert_eq!(WAITED.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_group_that_cannot_begin_is_not_applied() {
    let (dir, connection) = database();
    let other = connect(&dir);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let group = [executes([]), executes([]), executes([])];
    assert_eq!(run(&connection, group).await, ["not applied", "not applied", "not applied"]);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_begun() {
    let (_dir, connection) = database();
    let (abandoned, answer) = executes([]);
    drop(answer);
    let mut group = vec![abandoned];
    assert!(commit_group(&connection, &mut group).is_ok());
    assert_eq!(rows(&connection), 0);
}

/// Of operations that wait together: how many rows were committed when each of them ran, which are those of the groups before.
fn committed_before_each(operations: usize, bytes: usize) -> Vec<u64> {
    let (dir, connection) = database();
    let reader = Arc::new(Mutex::new(connect(&dir)));
    let (sender, queue) = mpsc::channel(operations);
    let mut answers = Vec::new();
    for _ in 0..operations {
        let reader = Arc::clone(&reader);
        let (job, answer) = pending(bytes, room(), move |connection| {
            let before = rows(&reader.lock().unwrap());
            connection.execute(WRITES, []).map_err(|error| write_error(&error))?;
            Ok(before)
        });
        assert!(sender.try_send(job).is_ok());
        answers.push(answer);
    }
    drop(sender);
    serve(connection, queue);
    answers.into_iter().map(|mut answer| answer.try_recv().unwrap().unwrap()).collect()
}

#[test]
fn what_waits_is_committed_together_up_to_a_number_of_operations() {
    let most = MAX_GROUP_OPERATIONS;
    let groups = [(0, most), (most, most), (2 * most, 10)];
    let expected: Vec<u64> =
        groups.iter().flat_map(|(before, operations)| vec![*before as u64; *operations]).collect();
    assert_eq!(committed_before_each(2 * most + 10, 0), expected);
}

#[test]
fn what_waits_is_committed_together_up_to_a_number_of_bytes() {
    assert_eq!(committed_before_each(7, MAX_GROUP_BYTES / 3 + 1), [0, 0, 0, 3, 3, 3, 6]);
    assert_eq!(committed_before_each(5, MAX_GROUP_BYTES / 2), [0, 0, 2, 2, 4], "full, and not over");
}
