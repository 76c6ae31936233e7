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
    port::{ObjectMeta, ReadError, WriteError},
    record::{self, InvalidRecord},
};
use leasehold_core::{
    entry::Entry,
    named::{NamedObject, Origin},
    object::{ENTRY_DIGEST_BYTES, ObjectName},
    orphan::{self, Claims, Verdict, Written},
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
    /// Objects that stay because their entry does not decode, or what is written on them.
    pub(super) undecided: u64,
    /// Why the last of these does not.
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
        let Ok(name) = ObjectName::parse_stored(&text) else { continue };
        match judge(connection, &name, now, keep) {
            Err(Undecided::Database(error)) => return Err(read_error(error)),
            Err(Undecided::Record(why)) => {
                step.undecided += 1;
                step.why = Some(why);
            }
            Ok(Verdict::Kept) => {}
            Ok(Verdict::Orphan) => {
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
            match judge(connection, name, now, keep) {
                Err(Undecided::Database(error)) => return Err(write_error(&error)),
                Err(Undecided::Record(_)) | Ok(Verdict::Kept) => {}
                Ok(Verdict::Orphan) => orphans.push(name.clone()),
            }
        }
        operations::delete_objects(connection, &orphans)
    })
}

/// Why an object cannot be judged.
enum Undecided {
    Database(rusqlite::Error),
    /// What its entry says of it cannot be read, or what it says itself.
    Record(InvalidRecord),
}

fn judge(
    connection: &Connection,
    name: &ObjectName,
    now: Timestamp,
    keep: Keep,
) -> Result<Verdict, Undecided> {
    match written(connection, name)? {
        Some(written) => orphan::judge(name, written, now, keep, |digest| claims_of(connection, digest)),
        // Another writer's, or one that says nothing.
        None => Ok(Verdict::Kept),
    }
}

/// The lease that an object was written under: by its name, or by what is written on it where its worker named it.
fn written(connection: &Connection, name: &ObjectName) -> Result<Option<Written>, Undecided> {
    if let Some(written) = Written::by_name(name) {
        return Ok(Some(written));
    }
    if NamedObject::of(name).is_none() {
        return Ok(None);
    }
    let meta: Option<Vec<u8>> = connection
        .prepare_cached("SELECT meta FROM objects WHERE name = ?1")
        .and_then(|mut select| select.query_row([name.as_str()], |row| row.get(0)).optional())
        .map_err(Undecided::Database)?;
    // It may be gone meanwhile.
    let Some(meta) = meta else { return Ok(None) };
    let ObjectMeta { attributes, .. } = record::decode_meta(&meta).map_err(Undecided::Record)?;
    Ok(Origin::in_attributes(&attributes).as_ref().map(Written::from))
}

/// The entries whose digest begins so: one, or none, unless somebody made two collide, whose objects nobody may lose.
fn claims_of(connection: &Connection, digest: [u8; ENTRY_DIGEST_BYTES]) -> Result<Vec<Claims>, Undecided> {
    let (mut first, mut last) = ([0; 32], [0xff; 32]);
    first[..ENTRY_DIGEST_BYTES].copy_from_slice(&digest);
    last[..ENTRY_DIGEST_BYTES].copy_from_slice(&digest);
    let columns = |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?));
    let rows: Vec<(Vec<u8>, Vec<u8>)> = connection
        .prepare_cached("SELECT digest, record FROM entries WHERE digest BETWEEN ?1 AND ?2")
        .and_then(|mut select| select.query_map([first, last], columns)?.collect())
        .map_err(Undecided::Database)?;
    let claims = rows.iter().map(|(digest, record)| Ok(Claims::of(&decode(digest, record)?)));
    claims.collect::<Result<_, _>>().map_err(Undecided::Record)
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
