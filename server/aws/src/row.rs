//! An entry as an item, and an item as an entry: also one that somebody else wrote.
//!
//! Our rows are pages to TableTheory: what its model of FaceTheory's metadata has is there under its names. And its rows are
//! pages to us. It knows nothing of our attributes, so it either replaces the row, and they are gone, or changes its own and
//! leaves ours as they were. Either way its attributes are the newer truth about the page, and ours about everything else.

use crate::{
    item::{
        self, InvalidAttribute, Item, PK, RECORD, SK, TTL, bits, bytes_value, number_value, required, string,
        text_value,
    },
    key::PkTooLong,
    settings::Layout,
};
use aws_sdk_dynamodb::types::AttributeValue;
use leasehold_core::{
    entry::Entry,
    identity::{EntryId, Generation, LeaseToken, Seq, Version},
    page::{BodyRef, Digest, MAX_WINDOW, PageMeta, PageStatus, Pointer},
    time::Timestamp,
};
use leasehold_store::record::{self, InvalidRecord};
use sha2::{Digest as _, Sha256};
use std::{collections::HashMap, time::Duration};

/// The sort key of an entry's row, here and in TableTheory.
pub(crate) const META: &str = "META";
/// The version, 16 bytes.
pub(crate) const VERSION: &str = "v";

pub(crate) const S3_KEY: &str = "s3_key";
pub(crate) const GENERATED_AT: &str = "generated_at";
const REVALIDATE_SECONDS: &str = "revalidate_seconds";
const ETAG: &str = "etag";

/// Whatever says what a row is: a swap from somebody else's row is conditional on all of these being as they were read.
const TELLING: [&str; 5] = [S3_KEY, GENERATED_AT, REVALIDATE_SECONDS, ETAG, VERSION];

/// The last of the year 9999. What is beyond is no time in seconds, but in milliseconds, or damage; as a generation, it could
/// never be raised above.
const LAST_SECOND: u64 = 253_402_300_799;

/// What FaceTheory itself assumes of a page of which only the row is known.
const HTML: &str = "text/html; charset=utf-8";

/// Why a row is no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidRow {
    #[error(transparent)]
    Attribute(#[from] InvalidAttribute),
    #[error(transparent)]
    Record(#[from] InvalidRecord),
    /// The version that swaps are conditional on is not that of the record.
    #[error("the version beside the record is another one's")]
    OtherVersion,
    /// Somebody else's, and its key could be that of another tenant's page.
    #[error("a row that is not ours, under a key that does not say whose page it is")]
    Anonymous,
}

/// A row, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) entry: Entry,
    /// Whether the page in it is somebody else's. Then the entry's version is made from the row; see [`foreign_version`].
    pub(crate) foreign: bool,
}

/// The key of an entry's row.
pub(crate) fn key(layout: &Layout, id: &EntryId) -> Result<Item, PkTooLong> {
    Ok(HashMap::from([(PK.into(), text_value(layout.entry_key.render(id)?)), (SK.into(), text_value(META))]))
}

/// The row of an entry.
pub(crate) fn write(
    layout: &Layout,
    id: &EntryId,
    entry: &Entry,
    forget_after: Timestamp,
) -> Result<Item, PkTooLong> {
    let mut row = key(layout, id)?;
    row.insert(VERSION.into(), bytes_value(entry.version.0.to_be_bytes()));
    row.insert(RECORD.into(), bytes_value(record::encode_entry(id, entry)));
    row.insert(TTL.into(), number_value(keep_until(entry, forget_after)));
    let page = PageAttributes::of(layout, entry);
    let PageAttributes { s3_key, generated_at, revalidate_seconds, etag } = page;
    let mut put = |name: &str, value: Option<AttributeValue>| {
        if let Some(value) = value {
            row.insert(name.into(), value);
        }
    };
    put(S3_KEY, s3_key.map(text_value));
    put(GENERATED_AT, generated_at.map(number_value));
    put(REVALIDATE_SECONDS, revalidate_seconds.map(number_value));
    put(ETAG, etag.map(text_value));
    Ok(row)
}

/// In seconds. An entry whose lease may live is never deleted, whatever its caller says of it: its next generation would
/// begin anew, and the holder of the old lease would no longer be fenced.
fn keep_until(entry: &Entry, forget_after: Timestamp) -> u64 {
    let end_of_lease = entry.lease.as_ref().map(|lease| lease.expires_at.max(lease.hold_until));
    whole_seconds(end_of_lease.map_or(forget_after, |end| end.max(forget_after)))
}

/// Rounded up: rounded down, it would be deleted early.
pub(crate) fn whole_seconds(at: Timestamp) -> u64 {
    at.as_millis().div_ceil(1000)
}

/// The entry in a row.
pub(crate) fn read(layout: &Layout, id: &EntryId, row: &Item) -> Result<Row, InvalidRow> {
    let page = PageAttributes::read(row)?;
    let Some(record) = item::bytes(row, RECORD)? else {
        if !layout.entry_key.identifies(id) {
            return Err(InvalidRow::Anonymous);
        }
        let pointer = page.pointer(layout)?;
        let entry = Entry {
            version: foreign_version(row),
            generation: pointer.generation,
            pointer: Some(pointer),
            lease: None,
            released: None,
            backoff: None,
        };
        return Ok(Row { entry, foreign: true });
    };
    let entry = record::decode_entry(id, record)?;
    if required(VERSION, bits(row, VERSION)?)? != entry.version.0 {
        return Err(InvalidRow::OtherVersion);
    }
    if page.is_as_written(layout, &entry) {
        return Ok(Row { entry, foreign: false });
    }
    let pointer = page.pointer(layout)?;
    let entry = Entry {
        version: foreign_version(row),
        // Above both: the next grant must fence the lease that is in the record, and be newer than the page in the row.
        generation: entry.generation.max(pointer.generation),
        pointer: Some(pointer),
        backoff: None,
        ..entry
    };
    Ok(Row { entry, foreign: true })
}

/// Whether a version is of the form that [`foreign_version`] gives. One of ours, being random, is not, save once in 2^64.
pub(crate) fn may_be_foreign(version: Version) -> bool {
    version.0 >> 64 == 0
}

/// The version of a row that somebody else wrote, who gives none: the same as long as the row is the same.
fn foreign_version(row: &Item) -> Version {
    let mut hash = Sha256::new();
    hash.update(b"leasehold foreign row v1\0");
    for name in TELLING {
        let value: Option<&[u8]> = match row.get(name) {
            Some(AttributeValue::S(text) | AttributeValue::N(text)) => Some(text.as_bytes()),
            Some(AttributeValue::B(blob)) => Some(blob.as_ref()),
            _ => None,
        };
        match value {
            None => hash.update([0]),
            Some(value) => {
                hash.update([1]);
                hash.update((value.len() as u64).to_be_bytes());
                hash.update(value);
            }
        }
    }
    let mut low = [0; 8];
    low.copy_from_slice(&hash.finalize()[..8]);
    Version(u64::from_be_bytes(low).into())
}

/// The condition that a row still is as it was read, and the values that are named in it.
pub(crate) fn unchanged(row: &Item) -> (String, Item) {
    let mut conditions = vec![format!("attribute_exists({PK})")];
    let mut values = Item::new();
    for name in TELLING {
        match row.get(name) {
            Some(value) => {
                conditions.push(format!("{name} = :{name}"));
                values.insert(format!(":{name}"), value.clone());
            }
            None => conditions.push(format!("attribute_not_exists({name})")),
        }
    }
    (conditions.join(" AND "), values)
}

/// A page as TableTheory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PageAttributes {
    s3_key: Option<String>,
    /// Epoch seconds.
    generated_at: Option<String>,
    /// Ten years where only an invalidation ends it: FaceTheory takes a page without this for stale at once.
    revalidate_seconds: Option<String>,
    etag: Option<String>,
}

impl PageAttributes {
    const NONE: Self = Self { s3_key: None, generated_at: None, revalidate_seconds: None, etag: None };

    /// Those that we write for an entry. None for a page whose object is gone: a reader of the row would look for it.
    fn of(layout: &Layout, entry: &Entry) -> Self {
        let Some(pointer) = entry.pointer.as_ref().filter(|pointer| !pointer.gone) else { return Self::NONE };
        Self {
            s3_key: Some(layout.s3_key_of(&pointer.html.object).into()),
            generated_at: Some(pointer.generated_at.as_secs().to_string()),
            revalidate_seconds: Some(decimal_seconds(pointer.meta.revalidate.unwrap_or(MAX_WINDOW))),
            etag: Some(pointer.meta.etag.clone()).filter(|etag| !etag.is_empty()),
        }
    }

    /// Whether a coordinator wrote these for this entry, with whichever prefix left out of the `s3_key`: one that was told
    /// another prefix than we are is no other system, and its page is not without its tags. Somebody else's page never has
    /// the name of ours, because each render chooses a new one.
    fn is_as_written(&self, layout: &Layout, entry: &Entry) -> bool {
        let mut written = Self::of(layout, entry);
        if let (Some(pointer), Some(_), Some(s3_key)) = (&entry.pointer, &written.s3_key, &self.s3_key) {
            let left_out = pointer.html.object.as_str().strip_suffix(s3_key.trim_start_matches('/'));
            if left_out.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('/')) {
                written.s3_key = Some(s3_key.clone());
            }
        }
        *self == written
    }

    fn read(row: &Item) -> Result<Self, InvalidAttribute> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok(Self {
            s3_key: owned(string(row, S3_KEY)?),
            generated_at: owned(item::number(row, GENERATED_AT)?),
            revalidate_seconds: owned(item::number(row, REVALIDATE_SECONDS)?),
            etag: owned(string(row, ETAG)?).filter(|etag| !etag.is_empty()),
        })
    }

    /// The page, as far as its row tells. `seen` is the start of the log: every invalidation that there ever was may have
    /// come after its render.
    fn pointer(&self, layout: &Layout) -> Result<Pointer, InvalidAttribute> {
        let Self { s3_key, generated_at, revalidate_seconds, etag } = self;
        let invalid = |name, why| InvalidAttribute { name, why };
        let object = layout
            .object_of(required(S3_KEY, s3_key.as_deref())?)
            .ok_or(invalid(S3_KEY, "is not the name of an object"))?;
        let generated_at = parse_decimal(required(GENERATED_AT, generated_at.as_deref())?)
            .filter(|at| at.as_secs() <= LAST_SECOND)
            .ok_or(invalid(GENERATED_AT, "is not a time in seconds"))?;
        // FaceTheory takes a page without one for stale at once.
        let revalidate = parse_decimal(revalidate_seconds.as_deref().unwrap_or("0"))
            .ok_or(invalid(REVALIDATE_SECONDS, "is not a number of seconds"))?;
        let at = Timestamp::EPOCH.plus(Duration::from_secs(generated_at.as_secs()));
        Ok(Pointer {
            generation: Generation(generated_at.as_secs()),
            token: LeaseToken::from_bits(0),
            meta: PageMeta {
                status: PageStatus::OK,
                content_type: HTML.into(),
                headers: Vec::new(),
                // Objects are never written twice, so that the same name is the same page.
                etag: etag.clone().unwrap_or_else(|| {
                    format!("\"{}\"", hex::encode(&Sha256::digest(object.as_str())[..16]))
                }),
                revalidate: Some(revalidate),
                stale_while_revalidate: None,
                stale_if_error: None,
                tags: Vec::new(),
                path: None,
                render_time: None,
            },
            html: BodyRef { object, digest: Digest::UNKNOWN, size_bytes: 0 },
            sidecar: None,
            generated_at: at,
            committed_at: at,
            seen: Seq::START,
            gone: false,
        })
    }
}

/// As DynamoDB writes numbers itself, so that what is read back is equal.
fn decimal_seconds(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if nanos == 0 {
        return seconds.to_string();
    }
    format!("{seconds}.{nanos:09}").trim_end_matches('0').into()
}

/// A number of seconds that is not below zero, down to nanoseconds.
pub(crate) fn parse_decimal(text: &str) -> Option<Duration> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}")[..9].parse().ok()?;
    Some(Duration::new(seconds.parse().ok()?, nanos))
}

#[cfg(test)]
mod tests;
