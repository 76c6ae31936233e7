//! Objects that no entry names: bodies of uploads that were never committed, and superseded ones whose deletion was still
//! pending when the process ended.
//!
//! Readers walk through the names and look for them; the writer judges each again, in the transaction that deletes it, so
//! that nothing can be committed in between. The walk itself keeps no write waiting.

use super::{
    Keep, operations,
    reader::read_error,
    writer::{atomically, write_error},
};
use crate::{
    port::{ReadError, WriteError},
    record::{self, InvalidRecord},
};
use leasehold_core::{
    entry::Entry,
    object::{self, ENTRY_DIGEST_BYTES, ObjectName},
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row};

/// A step of the walk ends when what it found has so many bytes: to delete a body is to visit all its pages.
const STEP_BYTES: u64 = 8 << 20;

/// What one step of the walk found.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Objects that nobody needs, as far as a reader can see.
    pub(super) orphans: Vec<ObjectName>,
    /// Objects that stay because their entry does not decode.
    pub(super) undecided: u64,
    /// Why the last of these entries does not.
    pub(super) why: Option<InvalidRecord>,
    /// The name to go on after; `None` at the end of the walk.
    pub(super) last: Option<String>,
}

/// Looks at up to `limit` objects after the name `after`, in the order of their names. Reads no bodies.
pub(super) fn find(
    connection: &Connection,
    after: &str,
    limit: usize,
    now: Timestamp,
    keep: Keep,
) -> Result<Step, ReadError> {
    let names: Vec<String> = connection
        .prepare_cached("SELECT name FROM objects WHERE name > ?1 ORDER BY name LIMIT ?2")
        .and_then(|mut select| select.query_map(rusqlite::params![after, limit], |row| row.get(0))?.collect())
        .map_err(read_error)?;
    let mut last = names.last().filter(|_| names.len() == limit).cloned();
    let mut step = Step::default();
    let mut bytes = 0;
    for text in names {
        // What is no object name is not ours either.
        let Ok(name) = ObjectName::parse(&text) else { continue };
        match judge(connection, &name, now, keep).map_err(read_error)? {
            Verdict::Kept => {}
            Verdict::Undecided(why) => {
                step.undecided += 1;
                step.why = Some(why);
            }
            Verdict::Orphan => {
                bytes += size(connection, &name).map_err(read_error)?;
                step.orphans.push(name);
                if bytes >= STEP_BYTES {
                    last = Some(text);
                    break;
                }
            }
        }
    }
    Ok(Step { last, ..step })
}

/// Deletes those of `names` that are orphans still, and answers how many.
pub(super) fn delete(
    connection: &Connection,
    names: &[ObjectName],
    now: Timestamp,
    keep: Keep,
) -> Result<u64, WriteError> {
    atomically(connection, || {
        let mut orphans = Vec::with_capacity(names.len());
        for name in names {
            if let Verdict::Orphan =
                judge(connection, name, now, keep).map_err(|error| write_error(&error))?
            {
                orphans.push(name.clone());
            }
        }
        operations::delete_objects(connection, &orphans)
    })
}

enum Verdict {
    Kept,
    Orphan,
    /// What its entry says of it cannot be read.
    Undecided(InvalidRecord),
}

fn judge(
    connection: &Connection,
    name: &ObjectName,
    now: Timestamp,
    keep: Keep,
) -> rusqlite::Result<Verdict> {
    let (Some(digest), Some(granted_at)) = (object::entry_digest_of(name), object::granted_at_of(name))
    else {
        return Ok(Verdict::Kept);
    };
    if granted_at.plus(keep.max_hold).plus(keep.grace) >= now {
        return Ok(Verdict::Kept);
    }
    for entry in entries_of(connection, digest)? {
        match entry {
            Ok(entry) if is_needed(name, granted_at, &entry, now, keep) => return Ok(Verdict::Kept),
            Ok(_) => {}
            Err(why) => return Ok(Verdict::Undecided(why)),
        }
    }
    Ok(Verdict::Orphan)
}

fn is_needed(name: &ObjectName, granted_at: Timestamp, entry: &Entry, now: Timestamp, keep: Keep) -> bool {
    // Whatever its age: a commit asks for no expiry, so that what was uploaded under this lease may still become current.
    let is_leased = entry.lease.as_ref().is_some_and(|lease| lease.granted_at == granted_at);
    let Some(pointer) = &entry.pointer else { return is_leased };
    let is_current = pointer.objects().any(|current| current == name);
    // It may be what this commit superseded, and was current until then however old it is.
    let may_be_read = pointer.committed_at.plus(keep.grace) >= now;
    is_leased || is_current || may_be_read
}

/// The entries whose digest begins so: one, or none, unless somebody made two collide, whose objects nobody may lose.
fn entries_of(
    connection: &Connection,
    digest: [u8; ENTRY_DIGEST_BYTES],
) -> rusqlite::Result<Vec<Result<Entry, InvalidRecord>>> {
    let (mut first, mut last) = ([0; 32], [0xff; 32]);
    first[..ENTRY_DIGEST_BYTES].copy_from_slice(&digest);
    last[..ENTRY_DIGEST_BYTES].copy_from_slice(&digest);
    let columns = |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?));
    let rows: Vec<(Vec<u8>, Vec<u8>)> = connection
        .prepare_cached("SELECT digest, record FROM entries WHERE digest BETWEEN ?1 AND ?2")?
        .query_map([first, last], columns)?
        .collect::<Result<_, _>>()?;
    Ok(rows.into_iter().map(|(digest, record)| decode(&digest, &record)).collect())
}

/// A record under the digest of another identity says nothing of what that one needs.
fn decode(digest: &[u8], record: &[u8]) -> Result<Entry, InvalidRecord> {
    let (id, entry) = record::decode_any_entry(record)?;
    if id.digest() == digest { Ok(entry) } else { Err(InvalidRecord::OtherIdentity) }
}

fn size(connection: &Connection, name: &ObjectName) -> rusqlite::Result<u64> {
    let size: Option<i64> = connection
        .prepare_cached("SELECT size FROM objects WHERE name = ?1")?
        .query_row([name.as_str()], |row| row.get(0))
        .optional()?;
    // It may be gone meanwhile.
    Ok(size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0))
}
