//! The store on one machine, with no cloud: one directory, SQLite in it, one writer that commits in groups.
//!
//! ```text
//! swap, append, put, delete ─► bounded queue ─► writer thread: takes what waits, one transaction, COMMIT, then answers
//! read, head, events, get   ─► bounded queue ─► reader threads: one statement each, on what was committed before it
//! ```
//!
//! Durable and crash-safe: SQLite's write-ahead log is synced before a write is acknowledged. One process at a time has the
//! directory open; a second one is refused. No task of the runtime ever waits for the disk.

use crate::port::{
    Append, EntryStore, Expected, Head, InvalidationLog, ObjectInfo, ObjectMeta, ObjectStore, Put, ReadError,
    StoredObject, Stores, Swap, WriteError,
};
use async_trait::async_trait;
use bytes::Bytes;
use leasehold_core::{
    entry::Entry,
    identity::{EntryId, Seq},
    invalidation::LogEvent,
    object::ObjectName,
    page::Digest,
    time::Timestamp,
};
use parking_lot::Mutex;
use std::{io, path::Path, path::PathBuf, sync::Arc, time::Duration};

pub use leasehold_core::orphan::Keep;

mod directory;
mod lane;
mod operations;
mod orphans;
mod reader;
mod schema;
mod writer;

#[cfg(test)]
mod tests;

/// The largest entry or event, encoded, in bytes: room for an invalidation of the most scopes with the longest keys.
pub const MAX_RECORD_BYTES: usize = 1 << 20;
/// The largest body, in bytes. The writer is busy with one of this size for some 100 ms.
pub const MAX_OBJECT_BYTES: usize = 64 << 20;

/// Entries, events or objects per step of housekeeping, so that it never keeps others waiting for long.
const HOUSEKEEPING_BATCH: usize = 200;
/// Pages per transaction that housekeeping gives back to the file system.
const GIVE_BACK_PAGES: u64 = 1024;
/// Unused pages that are kept for what comes next.
const SPARE_PAGES: u64 = 4096;

/// Why a directory could not be opened as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or its lock file cannot be created, opened or written.
    #[error("cannot use the directory {}: {source}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process, or another handle in this one, has it open.
    #[error("the store in {} is already open{}", dir.display(), by(*holder))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that has it open, where its lock file says so.
        holder: Option<u32>,
    },
    /// Written by a newer release, whose data this one could lose. Nothing was changed.
    #[error(
        "the store in {} has version {found}, this release knows versions up to {supported}: run a newer release",
        dir.display()
    )]
    NewerVersion {
        /// The directory.
        dir: PathBuf,
        /// The version in the file.
        found: i32,
        /// The newest version that this release reads.
        supported: i32,
    },
    /// There is a database, but not one of ours. Nothing was changed.
    #[error("the database in {} is not a Leasehold store", dir.display())]
    NotOurs {
        /// The directory.
        dir: PathBuf,
    },
    /// The database cannot be opened or read.
    #[error("cannot open the database in {}: {why}", dir.display())]
    Database {
        /// The directory.
        dir: PathBuf,
        /// What the database said.
        why: String,
    },
}

impl OpenError {
    fn database(dir: &Path, error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => Self::NotOurs { dir: dir.to_owned() },
            _ => Self::Database { dir: dir.to_owned(), why: error.to_string() },
        }
    }
}

fn by(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" (by process {pid})")).unwrap_or_default()
}

/// What one run of housekeeping did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Housekept {
    /// Entries forgotten.
    pub entries: u64,
    /// Objects of their pointers, deleted with them.
    pub objects: u64,
    /// Events forgotten.
    pub events: u64,
    /// Objects that no entry named, deleted.
    pub orphans: u64,
    /// Bytes given back to the file system.
    pub freed_bytes: u64,
}

/// What is in the store, for operators. The numbers are read one after the other, so they may be of different moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries.
    pub entries: u64,
    /// Events of the invalidation log.
    pub events: u64,
    /// Bodies.
    pub objects: u64,
    /// Bytes in use in the database file.
    pub used_bytes: u64,
    /// Bytes of it that are free for what comes next.
    pub unused_bytes: u64,
}

/// A store in one directory, open until it is closed or dropped.
///
/// Its reads and writes can be called from any runtime; a future of them that is dropped does no harm: its operation is done
/// whole or not at all.
pub struct EmbeddedStore {
    // In the order in which they end: the readers' connections, the writer's, the lock on the directory.
    readers: reader::Readers,
    writer: writer::Writer,
    directory: Mutex<Option<directory::Directory>>,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, and creates both where there is none. Blocks: reads back what the last process had not yet
    /// folded into the database file.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while another process or handle has it open; the others say what is wrong with the directory
    /// or with what is in it.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let directory = directory::Directory::open(dir)?;
        let connection = schema::open_writer(&directory)?;
        let readers = reader::Readers::start(&directory)?;
        let writer = writer::Writer::start(connection)
            .map_err(|source| OpenError::Directory { dir: dir.to_owned(), source })?;
        Ok(Self { readers, writer, directory: Mutex::new(Some(directory)) })
    }

    /// This store as the three ports.
    pub fn stores(self: Arc<Self>) -> Stores {
        Stores { entries: self.clone(), log: self.clone(), objects: self }
    }

    /// Deletes what may be forgotten at `now`: entries past their `forget_after`, with the objects of their pointers, but
    /// none whose lease may still live or be renewed; events past theirs, oldest first; and objects that no entry names.
    /// Then gives unused space back to the file system. In small transactions, between which others have their turn.
    ///
    /// Of the objects that no entry names, only those go that are orphans by the rule in [`leasehold_core::orphan`].
    ///
    /// # Errors
    /// That of the first step that fails; what the steps before it did stays.
    pub async fn housekeep(&self, now: Timestamp, keep: Keep) -> Result<Housekept, WriteError> {
        let (entries, objects) = self.forget_entries(now).await?;
        let events = self.forget_events(now).await?;
        let orphans = self.delete_orphans(now, keep).await?;
        let freed_bytes = self.give_back_pages().await?;
        Ok(Housekept { entries, objects, events, orphans, freed_bytes })
    }

    async fn forget_entries(&self, now: Timestamp) -> Result<(u64, u64), WriteError> {
        let (mut entries, mut objects) = (0, 0);
        loop {
            let batch = self
                .writer
                .write(0, move |connection| operations::forget_entries(connection, now, HOUSEKEEPING_BATCH))
                .await?;
            entries += batch.entries;
            objects += batch.objects;
            if batch.entries < HOUSEKEEPING_BATCH as u64 {
                return Ok((entries, objects));
            }
        }
    }

    async fn forget_events(&self, now: Timestamp) -> Result<u64, WriteError> {
        let mut forgotten = 0;
        loop {
            let events = self
                .writer
                .write(0, move |connection| operations::forget_events(connection, now, HOUSEKEEPING_BATCH))
                .await?;
            forgotten += events;
            if events < HOUSEKEEPING_BATCH as u64 {
                return Ok(forgotten);
            }
        }
    }

    async fn delete_orphans(&self, now: Timestamp, keep: Keep) -> Result<u64, WriteError> {
        let (mut deleted, mut undecided, mut why) = (0, 0, None);
        let mut after = Some(String::new());
        while let Some(name) = after {
            let step = self
                .readers
                .read(move |connection| orphans::find(connection, &name, HOUSEKEEPING_BATCH, now, keep))
                .await
                .map_err(|error| match error {
                    ReadError::Unavailable(why) => WriteError::NotApplied(why),
                    ReadError::Corrupt(why) => WriteError::Corrupt(why),
                })?;
            if !step.orphans.is_empty() {
                deleted += self
                    .writer
                    .write(0, move |connection| orphans::delete(connection, &step.orphans, now, keep))
                    .await?;
            }
            undecided += step.undecided;
            why = step.why.or(why);
            after = step.last;
        }
        if let Some(error) = why {
            // Once for each run: a damaged page is one line, however many bodies it has.
            tracing::warn!(
                name: "store.embedded.orphans_undecided",
                objects = undecided,
                error = %error,
                "objects are kept because their entries do not decode, or what is written on them"
            );
        }
        Ok(deleted)
    }

    async fn give_back_pages(&self) -> Result<u64, WriteError> {
        let mut freed_bytes = 0;
        loop {
            let freed = self
                .writer
                .write(0, |connection| operations::give_back_pages(connection, GIVE_BACK_PAGES, SPARE_PAGES))
                .await?;
            freed_bytes += freed;
            if freed == 0 {
                return Ok(freed_bytes);
            }
        }
    }

    /// What is in the store. Counts by reading through its indexes: for people and for slow metrics, not for every request.
    ///
    /// # Errors
    /// As for any read.
    pub async fn stats(&self) -> Result<Stats, ReadError> {
        let operations::Size { entries, events, objects, used_bytes, unused_bytes } =
            self.readers.read(operations::size).await?;
        Ok(Stats { entries, events, objects, used_bytes, unused_bytes })
    }

    /// Takes no more calls, commits what it had accepted, and lets go of the directory. Calls that come later fail, without
    /// effect. Dropping the store does the same, but blocks the thread meanwhile.
    pub async fn close(&self) {
        // The readers' connections first: the last one to go folds SQLite's log into the file, and theirs cannot write.
        self.writer.close(self.readers.close()).await;
        drop(self.directory.lock().take());
    }
}

fn fitting(record: &[u8]) -> Result<(), WriteError> {
    if record.len() > MAX_RECORD_BYTES {
        let size = record.len();
        return Err(WriteError::TooLarge(format!(
            "a record of {size} bytes; the limit is {MAX_RECORD_BYTES}"
        )));
    }
    Ok(())
}

#[async_trait]
impl EntryStore for EmbeddedStore {
    async fn read(&self, id: &EntryId) -> Result<Option<Entry>, ReadError> {
        let id = id.clone();
        self.readers.read(move |connection| operations::read_entry(connection, &id)).await
    }

    async fn swap(
        &self,
        id: &EntryId,
        expected: Expected,
        entry: &Entry,
        forget_after: Timestamp,
    ) -> Result<Swap, WriteError> {
        let row = operations::EntryRow::new(id, entry, forget_after);
        fitting(&row.record)?;
        self.writer
            .write(row.record.len(), move |connection| operations::swap(connection, expected, &row))
            .await
    }
}

#[async_trait]
impl InvalidationLog for EmbeddedStore {
    async fn head(&self) -> Result<Head, ReadError> {
        self.readers.read(operations::read_head).await
    }

    async fn events(&self, after: Seq, limit: usize) -> Result<Vec<LogEvent>, ReadError> {
        self.readers.read(move |connection| operations::read_events(connection, after, limit)).await
    }

    async fn append(&self, expected: Seq, event: &LogEvent) -> Result<Append, WriteError> {
        if expected.0.checked_add(1) != Some(event.seq.0) {
            return Err(WriteError::NotApplied(format!(
                "event {} cannot follow a head at {expected}",
                event.seq
            )));
        }
        // The head never gets beyond what SQLite can count to, so it is elsewhere.
        let Ok(seq) = i64::try_from(event.seq.0) else { return Ok(Append::HeadMoved) };
        let row = operations::EventRow {
            seq,
            id: event.id.0.to_be_bytes(),
            forget_after: operations::millis(event.forget_after),
            record: crate::record::encode_event(event),
        };
        fitting(&row.record)?;
        self.writer.write(row.record.len(), move |connection| operations::append(connection, &row)).await
    }
}

#[async_trait]
impl ObjectStore for EmbeddedStore {
    async fn put(
        &self,
        name: &ObjectName,
        body: Bytes,
        digest: Digest,
        meta: &ObjectMeta,
    ) -> Result<Put, WriteError> {
        let (name, meta) = (name.clone(), crate::record::encode_meta(meta));
        fitting(&meta)?;
        if body.len() > MAX_OBJECT_BYTES {
            let size = body.len();
            return Err(WriteError::TooLarge(format!(
                "a body of {size} bytes; the limit is {MAX_OBJECT_BYTES}"
            )));
        }
        self.writer
            .write(body.len(), move |connection| {
                operations::put_object(connection, &name, &body, digest, &meta)
            })
            .await
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<StoredObject>, ReadError> {
        let name = name.clone();
        self.readers.read(move |connection| operations::get_object(connection, &name)).await
    }

    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, ReadError> {
        let name = name.clone();
        self.readers.read(move |connection| operations::object_info(connection, &name)).await
    }

    async fn delete(&self, names: &[ObjectName]) -> Result<(), WriteError> {
        if names.is_empty() {
            return Ok(());
        }
        let names = names.to_vec();
        self.writer.write(0, move |connection| operations::delete_objects(connection, &names).map(drop)).await
    }

    async fn url(&self, _: &ObjectName, _: Duration) -> Result<Option<String>, ReadError> {
        Ok(None)
    }
}
