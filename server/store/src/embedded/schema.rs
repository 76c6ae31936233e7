//! The database file: how connections are set up, what is in it, and which versions of it this release reads.

use super::{OpenError, directory::Directory};
use rusqlite::{Connection, OpenFlags};
use std::time::Duration;

/// Marks a SQLite file as ours: "LSHD".
const APPLICATION_ID: i32 = 0x4C53_4844;
/// The version that this release writes. A newer one is refused: it may keep what this release would lose.
const SCHEMA_VERSION: i32 = 1;
/// Nobody else writes, so that this is waited for only when an operator looks into the file with other tools.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept per connection: more than there are.
const STATEMENTS: usize = 64;
/// The log of SQLite is folded into the database file when it is this long; in pages of 4 KiB. Longer: fewer page writes
/// for pages that change often; shorter: less to read back after a crash.
const CHECKPOINT_PAGES: i64 = 4096;
/// To what SQLite's log is cut after it has grown beyond that, in bytes.
const LOG_FILE_BYTES: i64 = 64 << 20;
/// Page cache per connection, in KiB (negative is SQLite's way to say so).
const WRITER_CACHE_KIB: i64 = -32_768;
const READER_CACHE_KIB: i64 = -8_192;

const SCHEMA: &str = "
    CREATE TABLE entries (
        digest     BLOB    NOT NULL PRIMARY KEY,  -- of the identity, which is also in the record
        version    BLOB    NOT NULL,              -- 16 bytes
        keep_until INTEGER NOT NULL,              -- ms; the latest of forget_after and the end of any lease
        record     BLOB    NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX entries_by_keep_until ON entries (keep_until);
    CREATE TABLE log_head (
        id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 0),
        seq        INTEGER NOT NULL,
        last_event BLOB                           -- 16 bytes; NULL while there was none
    ) STRICT;
    INSERT INTO log_head (id, seq, last_event) VALUES (0, 0, NULL);
    CREATE TABLE events (
        seq          INTEGER NOT NULL PRIMARY KEY,
        forget_after INTEGER NOT NULL,            -- ms
        record       BLOB    NOT NULL
    ) STRICT;
    CREATE TABLE objects (
        id     INTEGER NOT NULL PRIMARY KEY,
        name   TEXT    NOT NULL UNIQUE,
        digest BLOB    NOT NULL,                  -- SHA-256 of the body
        size   INTEGER NOT NULL,                  -- bytes
        meta   BLOB    NOT NULL,
        body   BLOB    NOT NULL                   -- last, so that the columns before it are read without it
    ) STRICT;
";

/// Opens the writer's connection and brings the file to this release's version.
pub(super) fn open_writer(directory: &Directory) -> Result<Connection, OpenError> {
    let failed = |error: rusqlite::Error| OpenError::database(directory.path(), &error);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(directory.database(), flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let version = check_version(&connection, directory)?;
    set_up_writer(&connection, version).map_err(failed)?;
    directory.sync()?;
    Ok(connection)
}

/// Opens a connection that can only read. Each of its statements sees what was committed before it began.
pub(super) fn open_reader(directory: &Directory) -> Result<Connection, OpenError> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(directory.database(), flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "cache_size", READER_CACHE_KIB)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| OpenError::database(directory.path(), &error))
}

/// The version of the file, 0 for one that was just created. Comes before anything is written: a file that is refused
/// stays as it is.
fn check_version(connection: &Connection, directory: &Directory) -> Result<i32, OpenError> {
    let read = || -> rusqlite::Result<(i32, i32, i64)> {
        Ok((
            connection.pragma_query_value(None, "application_id", |row| row.get(0))?,
            connection.pragma_query_value(None, "user_version", |row| row.get(0))?,
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
        ))
    };
    let (application, version, tables) =
        read().map_err(|error| OpenError::database(directory.path(), &error))?;
    match (application, version) {
        (APPLICATION_ID, 0..=SCHEMA_VERSION) => Ok(version),
        (APPLICATION_ID, found) => Err(OpenError::NewerVersion {
            dir: directory.path().to_owned(),
            found,
            supported: SCHEMA_VERSION,
        }),
        (0, 0) if tables == 0 => Ok(0),
        _ => Err(OpenError::NotOurs { dir: directory.path().to_owned() }),
    }
}

fn set_up_writer(connection: &Connection, version: i32) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    if version == 0 {
        // Only a file without tables can be told to give pages back.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(format!("the file system does not support a write-ahead log (journal mode {mode})")),
        ));
    }
    // FULL: what COMMIT has answered is on the disk. With NORMAL a crash of the machine loses acknowledged writes.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // macOS only: a plain fsync there leaves the data in the disk's own cache.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    // There are none in the schema; off is only the default for the sake of old files. Tests make COMMIT fail by one.
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", WRITER_CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", LOG_FILE_BYTES)?;
    if version == 0 {
        // One transaction, the version in it: a crash in the middle leaves an empty file, which is set up again.
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()?;
    }
    Ok(())
}
