//! What the ports ask for, as SQL. Each function runs within one of the writer's transactions, or as one read.

use super::{
    reader::read_error,
    writer::{atomically, write_error},
};
use crate::{
    port::{Append, Expected, Head, ObjectInfo, ObjectMeta, Put, ReadError, StoredObject, Swap, WriteError},
    record,
};
use bytes::Bytes;
use leasehold_core::{
    entry::Entry,
    identity::{EntryId, RequestId, Seq},
    invalidation::LogEvent,
    object::ObjectName,
    page::Digest,
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest as _, Sha256};

/// An entry's row, ready to be written.
pub(super) struct EntryRow {
    pub(super) id: EntryId,
    pub(super) digest: [u8; 32],
    pub(super) version: [u8; 16],
    pub(super) keep_until: i64,
    pub(super) record: Vec<u8>,
}

impl EntryRow {
    pub(super) fn new(id: &EntryId, entry: &Entry, forget_after: Timestamp) -> Self {
        // An entry whose lease may live is never deleted, whatever its caller says of it: its next generation would begin
        // anew, and the holder of the old lease would no longer be fenced.
        let end_of_lease = entry.lease.as_ref().map(|lease| lease.expires_at.max(lease.hold_until));
        Self {
            id: id.clone(),
            digest: id.digest(),
            version: entry.version.0.to_be_bytes(),
            keep_until: millis(end_of_lease.map_or(forget_after, |end| end.max(forget_after))),
            record: record::encode_entry(id, entry),
        }
    }
}

/// SQLite's integers are signed. Times beyond that are only ever compared with the present, so they are cut.
pub(super) fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn read_entry(connection: &Connection, id: &EntryId) -> Result<Option<Entry>, ReadError> {
    let record: Option<Vec<u8>> = connection
        .prepare_cached("SELECT record FROM entries WHERE digest = ?1")
        .and_then(|mut select| select.query_row([id.digest()], |row| row.get(0)).optional())
        .map_err(read_error)?;
    record
        .map(|record| record::decode_entry(id, &record))
        .transpose()
        .map_err(|error| ReadError::Corrupt(error.to_string()))
}

pub(super) fn swap(connection: &Connection, expected: Expected, row: &EntryRow) -> Result<Swap, WriteError> {
    let EntryRow { id, digest, version, keep_until, record } = row;
    let changed = match expected {
        Expected::Absent => connection
            .prepare_cached(
                "INSERT INTO entries (digest, version, keep_until, record) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (digest) DO NOTHING",
            )
            .and_then(|mut insert| insert.execute(params![digest, version, keep_until, record])),
        Expected::Version(expected) => connection
            .prepare_cached(
                "UPDATE entries SET version = ?2, keep_until = ?3, record = ?4 WHERE digest = ?1 AND version = ?5",
            )
            .and_then(|mut update| {
                update.execute(params![digest, version, keep_until, record, expected.0.to_be_bytes()])
            }),
    };
    if changed.map_err(|error| write_error(&error))? == 1 {
        return Ok(Swap::Applied);
    }
    match read_entry(connection, id) {
        Ok(current) => Ok(Swap::Refused(current)),
        Err(ReadError::Corrupt(why)) => Err(WriteError::Corrupt(why)),
        Err(ReadError::Unavailable(why)) => Err(WriteError::NotApplied(why)),
    }
}

pub(super) fn read_head(connection: &Connection) -> Result<Head, ReadError> {
    let (seq, last_event): (i64, Option<Vec<u8>>) = connection
        .prepare_cached("SELECT seq, last_event FROM log_head WHERE id = 0")
        .and_then(|mut select| select.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .map_err(read_error)?
        .ok_or_else(|| ReadError::Corrupt("the head of the log is missing".into()))?;
    let corrupt = |what: &str| ReadError::Corrupt(format!("the head of the log has {what}"));
    if seq == i64::MAX {
        return Err(corrupt("a position that no event can follow"));
    }
    Ok(Head {
        seq: Seq(u64::try_from(seq).map_err(|_| corrupt("a position below zero"))?),
        last_event: last_event
            .map(|id| id.try_into().map(u128::from_be_bytes).map(RequestId))
            .transpose()
            .map_err(|_| corrupt("an event id that is not 16 bytes long"))?,
    })
}

pub(super) fn read_events(
    connection: &Connection,
    after: Seq,
    limit: usize,
) -> Result<Vec<LogEvent>, ReadError> {
    // No event is beyond what SQLite can count to.
    let Ok(after) = i64::try_from(after.0) else { return Ok(Vec::new()) };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows: Vec<(i64, Vec<u8>)> = connection
        .prepare_cached("SELECT seq, record FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2")
        .and_then(|mut select| {
            select.query_map([after, limit], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(read_error)?;
    rows.into_iter()
        .map(|(seq, record)| {
            let event =
                record::decode_event(&record).map_err(|error| ReadError::Corrupt(error.to_string()))?;
            if i64::try_from(event.seq.0) == Ok(seq) {
                Ok(event)
            } else {
                Err(ReadError::Corrupt(format!("event {} is stored at {seq}", event.seq)))
            }
        })
        .collect()
}

/// An event's row, ready to be written.
pub(super) struct EventRow {
    pub(super) seq: i64,
    pub(super) id: [u8; 16],
    pub(super) forget_after: i64,
    pub(super) record: Vec<u8>,
}

pub(super) fn append(connection: &Connection, row: &EventRow) -> Result<Append, WriteError> {
    let EventRow { seq, id, forget_after, record } = row;
    let sqlite = |error: rusqlite::Error| write_error(&error);
    // Both or neither: a head without its event would be a hole that every reader passes without knowing.
    atomically(connection, || {
        let moved = connection
            .prepare_cached("UPDATE log_head SET seq = ?1, last_event = ?2 WHERE id = 0 AND seq = ?1 - 1")
            .and_then(|mut update| update.execute(params![seq, id]))
            .map_err(sqlite)?;
        if moved == 0 {
            return Ok(Append::HeadMoved);
        }
        connection
            .prepare_cached("INSERT INTO events (seq, forget_after, record) VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| insert.execute(params![seq, forget_after, record]))
            .map_err(sqlite)?;
        Ok(Append::Appended)
    })
}

pub(super) fn put_object(
    connection: &Connection,
    name: &ObjectName,
    body: &Bytes,
    digest: Digest,
    meta: &[u8],
) -> Result<Put, WriteError> {
    let size = i64::try_from(body.len()).map_err(|error| WriteError::TooLarge(error.to_string()))?;
    let created = connection
        .prepare_cached(
            "INSERT INTO objects (name, digest, size, meta, body) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (name) DO NOTHING",
        )
        .and_then(|mut insert| insert.execute(params![name.as_str(), digest.0, size, meta, &body[..]]))
        .map_err(|error| write_error(&error))?;
    Ok(if created == 1 { Put::Created } else { Put::Exists })
}

pub(super) fn get_object(
    connection: &Connection,
    name: &ObjectName,
) -> Result<Option<StoredObject>, ReadError> {
    let found: Option<(Vec<u8>, Vec<u8>, Vec<u8>)> = connection
        .prepare_cached("SELECT digest, meta, body FROM objects WHERE name = ?1")
        .and_then(|mut select| {
            select.query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
        })
        .map_err(read_error)?;
    let Some((digest, meta, body)) = found else { return Ok(None) };
    // SQLite keeps no checksums of its own: a page that rotted on the disk would be served as it is.
    if digest != Sha256::digest(&body).as_slice() {
        return Err(ReadError::Corrupt("an object's bytes do not have its digest".into()));
    }
    let meta: ObjectMeta =
        record::decode_meta(&meta).map_err(|error| ReadError::Corrupt(error.to_string()))?;
    Ok(Some(StoredObject { body: body.into(), meta }))
}

pub(super) fn object_info(
    connection: &Connection,
    name: &ObjectName,
) -> Result<Option<ObjectInfo>, ReadError> {
    let found: Option<(Vec<u8>, i64)> = connection
        .prepare_cached("SELECT digest, size FROM objects WHERE name = ?1")
        .and_then(|mut select| {
            select.query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(read_error)?;
    let Some((digest, size)) = found else { return Ok(None) };
    let corrupt = |what: &str| ReadError::Corrupt(format!("an object's {what}"));
    Ok(Some(ObjectInfo {
        size_bytes: u64::try_from(size).map_err(|_| corrupt("size is below zero"))?,
        digest: Some(Digest(digest.try_into().map_err(|_| corrupt("digest is not 32 bytes long"))?)),
    }))
}

pub(super) fn delete_objects(connection: &Connection, names: &[ObjectName]) -> Result<u64, WriteError> {
    atomically(connection, || {
        let mut deleted = 0;
        let mut delete = connection
            .prepare_cached("DELETE FROM objects WHERE name = ?1")
            .map_err(|error| write_error(&error))?;
        for name in names {
            deleted += delete.execute([name.as_str()]).map_err(|error| write_error(&error))? as u64;
        }
        Ok(deleted)
    })
}

/// What housekeeping took away, or one batch of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forgotten {
    pub(super) entries: u64,
    pub(super) objects: u64,
}

/// Deletes up to `limit` entries that may be forgotten, and the objects of their pointers, which nothing else names.
pub(super) fn forget_entries(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
) -> Result<Forgotten, WriteError> {
    let sqlite = |error: rusqlite::Error| write_error(&error);
    atomically(connection, || {
        let columns = |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?));
        let due: Vec<(Vec<u8>, Vec<u8>)> = connection
            .prepare_cached(
                "SELECT digest, record FROM entries WHERE keep_until < ?1 ORDER BY keep_until LIMIT ?2",
            )
            .and_then(|mut select| select.query_map(params![millis(now), limit], columns)?.collect())
            .map_err(sqlite)?;
        let mut forgotten = Forgotten::default();
        let mut delete =
            connection.prepare_cached("DELETE FROM entries WHERE digest = ?1").map_err(sqlite)?;
        for (digest, record) in due {
            forgotten.entries += delete.execute([digest]).map_err(sqlite)? as u64;
            match record::decode_any_entry(&record) {
                Ok((_, entry)) => {
                    let names: Vec<ObjectName> =
                        entry.pointer.iter().flat_map(|pointer| pointer.objects()).cloned().collect();
                    forgotten.objects += delete_objects(connection, &names)?;
                }
                // It is past its time all the same; its objects are then found as orphans.
                Err(error) => tracing::warn!(
                    name: "store.embedded.forgot_undecodable",
                    error = %error,
                    "a forgotten entry did not decode; its objects are left to be found as orphans"
                ),
            }
        }
        Ok(forgotten)
    })
}

/// Deletes up to `limit` of the oldest events, up to the first that is still to be kept: an event is never deleted before
/// an older one, so that what is left has no holes.
pub(super) fn forget_events(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
) -> Result<u64, WriteError> {
    let sqlite = |error: rusqlite::Error| write_error(&error);
    let oldest: Vec<(i64, i64)> = connection
        .prepare_cached("SELECT seq, forget_after FROM events ORDER BY seq LIMIT ?1")
        .and_then(|mut select| select.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .map_err(sqlite)?;
    let due = oldest.iter().take_while(|(_, forget_after)| *forget_after < millis(now));
    let Some((last, _)) = due.last() else { return Ok(0) };
    let deleted = connection
        .prepare_cached("DELETE FROM events WHERE seq <= ?1")
        .and_then(|mut delete| delete.execute([last]))
        .map_err(sqlite)?;
    Ok(deleted as u64)
}

/// Gives up to `limit` unused pages back to the file system, but leaves a tenth of the file, and at least `spare`, for
/// what is written next. Answers how many bytes it gave back.
pub(super) fn give_back_pages(connection: &Connection, limit: u64, spare: u64) -> Result<u64, WriteError> {
    let sqlite = |error: rusqlite::Error| write_error(&error);
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let unused = pragma("freelist_count").map_err(sqlite)?;
    let spare = spare.max(pragma("page_count").map_err(sqlite)? / 10);
    let give = unused.saturating_sub(spare).min(limit);
    if give == 0 {
        return Ok(0);
    }
    // One page per step: the statement has to be run to its end.
    let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({give})")).map_err(sqlite)?;
    let mut rows = vacuum.query([]).map_err(sqlite)?;
    while rows.next().map_err(sqlite)?.is_some() {}
    let left = pragma("freelist_count").map_err(sqlite)?;
    Ok(unused.saturating_sub(left) * pragma("page_size").map_err(sqlite)?)
}

/// Rows per table and bytes of the file.
pub(super) struct Size {
    pub(super) entries: u64,
    pub(super) events: u64,
    pub(super) objects: u64,
    pub(super) used_bytes: u64,
    pub(super) unused_bytes: u64,
}

pub(super) fn size(connection: &Connection) -> Result<Size, ReadError> {
    let count = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, u64>(0));
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let read = || {
        let page_bytes = pragma("page_size")?;
        let unused = pragma("freelist_count")?;
        Ok(Size {
            // The index is a tenth of the table.
            entries: count("SELECT count(*) FROM entries INDEXED BY entries_by_keep_until")?,
            events: count("SELECT count(*) FROM events")?,
            objects: count("SELECT count(*) FROM objects")?,
            used_bytes: pragma("page_count")?.saturating_sub(unused) * page_bytes,
            unused_bytes: unused * page_bytes,
        })
    };
    read().map_err(read_error)
}
