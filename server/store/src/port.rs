//! The ports: what the engine asks of a store. Rules live in the core; an adapter only keeps and swaps.
//!
//! Every adapter and every decorator passes the suite in `crate::conformance`, which has one test per clause below.
//!
//! Of every port: a caller may drop a call's future at any time; a write is then done whole or not at all, then or a
//! little later, as with [`WriteError::Unknown`].

use async_trait::async_trait;
use bytes::Bytes;
use leasehold_core::{
    entry::Entry,
    identity::{EntryId, RequestId, Seq, Version},
    invalidation::LogEvent,
    object::ObjectName,
    page::Digest,
    time::Timestamp,
};

/// Why a read gave no answer. Repeating it is always harmless.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The store could not be asked, or did not answer in time. May be retried.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// What is stored does not decode. A retry will not help.
    #[error("stored bytes do not decode: {0}")]
    Corrupt(String),
}

/// Why a write gave no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// Surely without effect. May be retried.
    #[error("store unavailable, nothing written: {0}")]
    NotApplied(String),
    /// It may or may not have had its effect, now or a little later. Read before deciding anything.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The stored record that it was to be compared with does not decode. Without effect.
    #[error("stored bytes do not decode: {0}")]
    Corrupt(String),
    /// Over a limit of the store. Without effect; a retry will not help.
    #[error("over a limit of the store: {0}")]
    TooLarge(String),
}

/// What a swap of an entry is conditional on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// There is no record.
    Absent,
    /// The record has this version.
    Version(Version),
}

/// What became of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "returned once per store request, and taken apart at once")]
pub enum Swap {
    /// The record is now as given.
    Applied,
    /// The condition did not hold; nothing changed. The record as it was at that very moment.
    Refused(Option<Entry>),
}

/// Registers of entries.
///
/// - A read that is sent after a swap was acknowledged, through any handle on the same store, shows that swap or a later one.
/// - A swap is atomic: of several with the same expectation, exactly one is applied.
/// - A refused swap changes nothing and returns the record that refused it.
/// - An acknowledged swap survives a crash of the process and of the machine.
/// - A record is returned as it was put, every field of it.
/// - Records of different identities never touch, whatever the characters in their parts.
/// - A record is kept until the `forget_after` of its last swap.
#[async_trait]
pub trait EntryStore: Send + Sync + 'static {
    /// The record as it is now; `None` where there is none.
    async fn read(&self, id: &EntryId) -> Result<Option<Entry>, ReadError>;

    /// Puts `entry` in place if the record is as `expected`. `entry.version` is one that the record never had. After
    /// `forget_after` the store may delete the record, at any time or never; the caller chooses it later than the end of
    /// any lease in the record.
    async fn swap(
        &self,
        id: &EntryId,
        expected: Expected,
        entry: &Entry,
        forget_after: Timestamp,
    ) -> Result<Swap, WriteError>;
}

/// The head of the log: a record that is never deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The position of the last event; [`Seq::START`] while there was none.
    pub seq: Seq,
    /// The last event's id, which outlives the event.
    pub last_event: Option<RequestId>,
}

impl Head {
    /// The head of a log that nothing was ever appended to.
    pub const EMPTY: Self = Self { seq: Seq::START, last_event: None };
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// The event is in the log and the head is at it.
    Appended,
    /// The head is elsewhere; nothing changed.
    HeadMoved,
}

/// The invalidation log.
///
/// - An append moves the head by one and writes the event, both or neither.
/// - Of several appends to the same position, exactly one is applied; positions are contiguous.
/// - A read that is sent after an append was acknowledged, through any handle on the same store, shows it.
/// - A reader that has read the head at `seq` can read every event up to `seq` that is not forgotten.
/// - An event is returned as it was put, every field of it.
/// - Events may be deleted after their `forget_after`, oldest first, never earlier; the head never goes back, also when
///   every event is deleted.
/// - An acknowledged append survives a crash of the process and of the machine.
#[async_trait]
pub trait InvalidationLog: Send + Sync + 'static {
    /// The head as it is now, strongly consistent.
    async fn head(&self) -> Result<Head, ReadError>;

    /// The events after `after` that are still kept, in order, at most `limit`, which is not zero, and at least one where
    /// there is one. Fewer than `limit` also where they are large: as many as one request to the store brings.
    async fn events(&self, after: Seq, limit: usize) -> Result<Vec<LogEvent>, ReadError>;

    /// Appends `event`, whose `seq` is `expected + 1`, if the head is at `expected`.
    async fn append(&self, expected: Seq, event: &LogEvent) -> Result<Append, WriteError>;
}

/// What is stored with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The content type that a reader of the bare object is to see.
    pub content_type: String,
    /// Further metadata: a set, whose order is not kept. Names of lower-case letters, digits and hyphens, each once;
    /// values of printable ASCII, not padded. Two KiB at most for all of it.
    pub attributes: Vec<(String, String)>,
}

/// A stored body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// The bytes.
    pub body: Bytes,
    /// What was stored with them.
    pub meta: ObjectMeta,
}

/// What is known of a stored body without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its length.
    pub size_bytes: u64,
    /// SHA-256 of its bytes, where the store knows it: an object that a worker wrote itself may have none.
    pub digest: Option<Digest>,
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Stored now.
    Created,
    /// There was an object of that name already; it was left as it is.
    Exists,
}

/// Immutable objects.
///
/// - A put never changes an object that exists: of several puts to one name, exactly one creates it.
/// - An acknowledged put survives a crash; a failed one leaves nothing or the whole object, never a part of it.
/// - What is read is what was put, bytes and metadata.
/// - A read that is sent after a put or a delete was acknowledged, through any handle on the same store, shows it.
/// - Objects of different names never touch, whatever the characters in these.
/// - A deleted object is absent; deleting an absent one is not an error.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Stores a body under a name that has none. `digest` is that of `body`, and is kept with it: where it is not, the
    /// put may fail, or a later read say that what is stored is corrupt.
    async fn put(
        &self,
        name: &ObjectName,
        body: Bytes,
        digest: Digest,
        meta: &ObjectMeta,
    ) -> Result<Put, WriteError>;

    /// The body and what was stored with it; `None` where there is none.
    async fn get(&self, name: &ObjectName) -> Result<Option<StoredObject>, ReadError>;

    /// Size and digest; `None` where there is no such object.
    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, ReadError>;

    /// Deletes objects, any number of them; those that are absent count as deleted. A failed call may have deleted some.
    async fn delete(&self, names: &[ObjectName]) -> Result<(), WriteError>;

    /// A URL from which the body can be fetched until `ttl` is over, for stores that serve bodies themselves; `None`
    /// for those that do not.
    async fn url(&self, name: &ObjectName, ttl: std::time::Duration) -> Result<Option<String>, ReadError>;
}

/// The three ports of one store.
#[derive(Clone)]
pub struct Stores {
    /// Entries.
    pub entries: std::sync::Arc<dyn EntryStore>,
    /// The invalidation log.
    pub log: std::sync::Arc<dyn InvalidationLog>,
    /// Bodies.
    pub objects: std::sync::Arc<dyn ObjectStore>,
}
