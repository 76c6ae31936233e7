//! What the rows of a table protect.

use super::{Illegible, MAX_NAMED};
use crate::{
    item::{self, Item, PK, RECORD, SK, bits, required, string},
    row::{self, GENERATED_AT, InvalidRow, META, S3_KEY, VERSION},
    settings::Layout,
};
use leasehold_core::{
    entry::Entry,
    identity::EntryId,
    named::NamedObject,
    object::{ENTRY_DIGEST_BYTES, ObjectName, entry_digest_of},
    orphan::{Claims, Keep, NameHash},
    time::Timestamp,
};
use leasehold_store::record::{self, InvalidRecord};
use std::{
    collections::{HashMap, HashSet, hash_map},
    time::Duration,
};

/// The beginning of an entry's digest, as names of objects have it.
type Short = [u8; ENTRY_DIGEST_BYTES];

/// Of so many pages one must be in the bucket, for it to be that of the table.
const MAX_SAMPLES: usize = 32;

/// FaceTheory gives the time of a page in whole seconds.
const GENERATED_AT_PRECISION: Duration = Duration::from_secs(1);

/// What is known of who needs which objects.
pub(super) struct Protected {
    layout: Layout,
    now: Timestamp,
    keep: Keep,
    claims: HashMap<Short, Claims>,
    /// Of rows that share a digest with one before them: of a layout from before a migration, say.
    more: HashMap<Short, Vec<Claims>>,
    /// Entries that may need any of their objects.
    whole: HashSet<Short>,
    /// Objects that a row names whose own names do not say that they are of its entry: those that workers named, and next to
    /// none besides. FaceTheory's own are not kept here, because no name like theirs is ever judged.
    named: HashSet<NameHash>,
    /// Some of the pages that our entries name.
    pub(super) samples: Vec<ObjectName>,
    pub(super) entries: u64,
    pub(super) illegible: u64,
    pub(super) unidentified: u64,
    pub(super) illegible_rows: Vec<Illegible>,
}

/// An entry that may be in need of the object does not decode.
#[derive(Debug)]
pub(super) struct Undecided;

impl Protected {
    pub(super) fn new(layout: &Layout, now: Timestamp, keep: Keep) -> Self {
        Self {
            layout: layout.clone(),
            now,
            keep,
            claims: HashMap::new(),
            more: HashMap::new(),
            whole: HashSet::new(),
            named: HashSet::new(),
            samples: Vec::new(),
            entries: 0,
            illegible: 0,
            unidentified: 0,
            illegible_rows: Vec::new(),
        }
    }

    /// Whether a row names this object that is not of its own entry by its name.
    pub(super) fn names(&self, name: &ObjectName) -> bool {
        self.named.contains(&NameHash::of(name))
    }

    /// What the entries whose digest begins so need.
    pub(super) fn claims_of(&self, digest: Short) -> Result<impl Iterator<Item = Claims>, Undecided> {
        if self.whole.contains(&digest) {
            return Err(Undecided);
        }
        let more = self.more.get(&digest).into_iter().flatten();
        Ok(self.claims.get(&digest).into_iter().chain(more).copied())
    }

    /// Takes a row into account: of an entry, of the log, or of somebody else.
    pub(super) fn add(&mut self, row: &Item) {
        if string(row, SK) != Ok(Some(META)) {
            self.name_in_attributes(row, &[]);
            return;
        }
        self.entries += 1;
        if !row.contains_key(RECORD) && !row.contains_key(VERSION) {
            self.name_in_attributes(row, &[]);
            self.add_foreign(row);
            return;
        }
        match decode(row) {
            Ok((id, entry)) => self.add_entry(row, &id, &entry),
            Err(why) => {
                self.name_in_attributes(row, &[]);
                self.add_illegible(row, &why);
            }
        }
    }

    fn add_entry(&mut self, row: &Item, id: &EntryId, entry: &Entry) {
        let digest = short(&id.digest());
        self.claim(digest, Claims::of(entry));
        if let Some(pointer) = &entry.pointer
            && self.samples.len() < MAX_SAMPLES
        {
            self.samples.push(pointer.html.object.clone());
        }
        let (own, others): (Vec<_>, Vec<_>) = entry
            .pointer
            .iter()
            .flat_map(|pointer| pointer.objects())
            .partition(|name| entry_digest_of(name) == Some(digest));
        others.into_iter().for_each(|name| self.name(name));
        self.name_in_attributes(row, &own);
        let is_in_its_place = row::key(&self.layout, id).is_ok_and(|key| key.get(PK) == row.get(PK));
        // Under a key that this layout never makes, it is of another layout. Otherwise it is in the place of another entry,
        // of which it says nothing.
        if !is_in_its_place && self.layout.entry_key.owners(pk(row)).matched {
            self.add_illegible(row, &InvalidRow::Record(InvalidRecord::OtherIdentity));
        }
        // Written into by TableTheory: what is current by the record was superseded then.
        let ours = entry.pointer.as_ref().map(|pointer| pointer.generated_at.as_secs());
        if item::whole_number(row, GENERATED_AT) != Ok(ours)
            && let Some(at) = self.superseded_at(row)
        {
            self.claim(digest, Claims::of_superseded(at));
        }
    }

    /// A row that holds nothing of ours. It may have taken the place of one that did.
    fn add_foreign(&mut self, row: &Item) {
        let Some(at) = self.superseded_at(row) else { return };
        for digest in self.layout.entry_key.owners(pk(row)).digests {
            self.claim(short(&digest), Claims::of_superseded(at));
        }
    }

    fn add_illegible(&mut self, row: &Item, why: &InvalidRow) {
        let mut owners = self.layout.entry_key.owners(pk(row));
        let mut identified = owners.matched && owners.complete;
        if !identified && let Some(id) = self.identity_in(row) {
            owners.digests.push(id.digest());
            identified = true;
        }
        self.whole.extend(owners.digests.iter().map(short));
        self.illegible += 1;
        self.unidentified += u64::from(!identified);
        let found = Illegible { pk: pk(row).into(), why: why.to_string(), identified };
        if self.illegible_rows.len() < MAX_NAMED {
            self.illegible_rows.push(found);
        } else if !identified
            && let Some(other) = self.illegible_rows.iter_mut().rev().find(|row| row.identified)
        {
            *other = found;
        }
        self.illegible_rows.sort_by_key(|row| row.identified);
    }

    /// The identity in a record that does not decode otherwise, where the row's key agrees.
    fn identity_in(&self, row: &Item) -> Option<EntryId> {
        let record = item::bytes(row, RECORD).ok()??;
        let id = record::identity_of_entry(record).ok()?;
        let key = row::key(&self.layout, &id).ok()?;
        (key.get(PK) == row.get(PK)).then_some(id)
    }

    /// When a page of the row's attributes became current at the latest, if that matters still. FaceTheory notes when its
    /// render began.
    fn superseded_at(&self, row: &Item) -> Option<Timestamp> {
        let generated_at = row::parse_decimal(item::number(row, GENERATED_AT).ok()??)?;
        let at = Timestamp::EPOCH.plus(generated_at).plus(GENERATED_AT_PRECISION).plus(self.keep.max_hold);
        (at.plus(self.keep.grace) >= self.now).then_some(at)
    }

    fn claim(&mut self, digest: Short, claims: Claims) {
        match self.claims.entry(digest) {
            hash_map::Entry::Vacant(first) => {
                first.insert(claims);
            }
            hash_map::Entry::Occupied(_) => self.more.entry(digest).or_default().push(claims),
        }
    }

    /// Whoever wrote the row reads the object by this name; with which prefix, only the writer knows. Those of `own` are
    /// protected by the entry's claims.
    fn name_in_attributes(&mut self, row: &Item, own: &[&ObjectName]) {
        let Ok(Some(s3_key)) = string(row, S3_KEY) else { return };
        let names = [self.layout.object_of(s3_key), ObjectName::parse_stored(s3_key).ok()];
        names.iter().flatten().filter(|name| !own.contains(name)).for_each(|name| self.name(name));
    }

    fn name(&mut self, name: &ObjectName) {
        if entry_digest_of(name).is_some() || NamedObject::of(name).is_some() {
            self.named.insert(NameHash::of(name));
        }
    }
}

fn decode(row: &Item) -> Result<(EntryId, Entry), InvalidRow> {
    let record = required(RECORD, item::bytes(row, RECORD)?)?;
    let (id, entry) = record::decode_any_entry(record)?;
    if required(VERSION, bits(row, VERSION)?)? != entry.version.0 {
        return Err(InvalidRow::OtherVersion);
    }
    Ok((id, entry))
}

fn pk(row: &Item) -> &str {
    string(row, PK).ok().flatten().unwrap_or_default()
}

fn short(digest: &[u8; 32]) -> Short {
    let mut short = [0; ENTRY_DIGEST_BYTES];
    short.copy_from_slice(&digest[..ENTRY_DIGEST_BYTES]);
    short
}
