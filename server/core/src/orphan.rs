//! Objects that no entry needs: bodies of uploads that were never committed, and superseded ones whose deletion was lost.
//!
//! An object is an orphan when it can neither become current any more nor was current until a moment ago:
//!
//! - It has a name that [`names_for`](object::names_for) gives, or was named by its worker and says of which lease it is
//!   ([`Origin`]). What another writer named is never judged, nor what says nothing.
//! - The lease that it was written under was granted longer ago than [`Keep::max_hold`] and [`Keep::grace`] together.
//! - That lease is not in its entry's record. A commit asks for no expiry: as long as it is there, it may be committed.
//! - Its entry's pointer does not name it.
//! - Its entry's last commit, which may be what superseded it, is longer ago than [`Keep::grace`]. So a page that is
//!   committed more often than that loses its orphans only once it has come to rest.
//!
//! Once an orphan, always one: leases are granted with the time of their grant, so that the one it is of never comes into
//! the record again, and a commit names only what its own lease wrote or what was current. Hence what was judged on entries
//! as they once were may be deleted later.

use crate::{
    entry::Entry,
    named::Origin,
    object::{self, ENTRY_DIGEST_BYTES, ObjectName},
    time::Timestamp,
};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// How long an object is left alone that no entry names: the rules of the coordinators that write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The longest that a lease can be held: so long after its grant its holder may still be about to commit.
    pub max_hold: Duration,
    /// How long a superseded body is kept for those who still read it.
    pub grace: Duration,
}

impl Keep {
    /// Whether something of this age may be an orphan: later than both times together, not at them.
    pub fn is_over(&self, since: Timestamp, now: Timestamp) -> bool {
        since.plus(self.max_hold).plus(self.grace) < now
    }
}

/// What is to become of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays: somebody needs it, or may, or it is not ours.
    Kept,
    /// Nobody needs it any more.
    Orphan,
}

/// What one entry needs of its objects. Small, of the same size for every entry: a sweep holds those of a
/// whole store at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    current: [Option<NameHash>; 2],
    committed_at: Option<Timestamp>,
    leased_at: Option<Timestamp>,
}

impl Claims {
    /// Those of an entry.
    pub fn of(entry: &Entry) -> Self {
        let mut current = [None; 2];
        let named = entry.pointer.iter().flat_map(|pointer| pointer.objects());
        for (claimed, name) in current.iter_mut().zip(named) {
            *claimed = Some(NameHash::of(name));
        }
        Self {
            current,
            committed_at: entry.pointer.as_ref().map(|pointer| pointer.committed_at),
            leased_at: entry.lease.as_ref().map(|lease| lease.granted_at),
        }
    }

    /// Those of an entry of which only is known that what was current was superseded then.
    pub fn of_superseded(at: Timestamp) -> Self {
        Self { committed_at: Some(at), ..Self::default() }
    }

    fn need(&self, name: &ObjectName, granted_at: Timestamp, now: Timestamp, keep: Keep) -> bool {
        // Whatever its age: what was uploaded under this lease may still become current.
        let is_leased = self.leased_at == Some(granted_at);
        let is_current = self.current.contains(&Some(NameHash::of(name)));
        // It may be what this commit superseded, and was current until then however old it is.
        let may_be_read = self.committed_at.is_some_and(|at| at.plus(keep.grace) >= now);
        is_leased || is_current || may_be_read
    }
}

/// A name in 8 bytes. An orphan that shares it with a current object is kept, which is the safe side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameHash([u8; 8]);

impl NameHash {
    /// That of a name.
    pub fn of(name: &ObjectName) -> Self {
        let mut hash = [0; 8];
        hash.copy_from_slice(&Sha256::digest(name.as_str())[..8]);
        Self(hash)
    }
}

/// The lease that an object was written under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The first bytes of the digest of its entry.
    pub entry: [u8; ENTRY_DIGEST_BYTES],
    /// When it was granted.
    pub granted_at: Timestamp,
}

impl Written {
    /// As the object's name tells; `None` for a name that [`names_for`](object::names_for) does not give.
    pub fn by_name(name: &ObjectName) -> Option<Self> {
        Some(Self { entry: object::entry_digest_of(name)?, granted_at: object::granted_at_of(name)? })
    }
}

impl From<&Origin> for Written {
    fn from(origin: &Origin) -> Self {
        Self { entry: origin.short_entry(), granted_at: origin.granted_at }
    }
}

/// Judges an object by the rule above, that was written under this lease.
///
/// `claims_of` gives the claims of all entries whose digest begins so: one, or none, unless somebody made two collide, whose
/// objects nobody may lose. It is asked only where the age leaves it open.
///
/// # Errors
/// That of `claims_of`. Then the object is to be kept.
pub fn judge<I, E>(
    name: &ObjectName,
    written: Written,
    now: Timestamp,
    keep: Keep,
    claims_of: impl FnOnce([u8; ENTRY_DIGEST_BYTES]) -> Result<I, E>,
) -> Result<Verdict, E>
where
    I: IntoIterator<Item = Claims>,
{
    let Written { entry, granted_at } = written;
    if !keep.is_over(granted_at, now) {
        return Ok(Verdict::Kept);
    }
    let needed = claims_of(entry)?.into_iter().any(|claims| claims.need(name, granted_at, now, keep));
    Ok(if needed { Verdict::Kept } else { Verdict::Orphan })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::Lease,
        identity::{EntryId, Generation, LeaseToken, Seq, Version},
        named::GivenName,
        object::{ObjectPrefix, PageObjects, names_for},
        page::{self, BodyRef, PageMeta, PageStatus, Pointer},
        samples::{entry_id, lease_at},
    };
    use std::convert::Infallible;

    const KEEP: Keep = Keep { max_hold: Duration::from_millis(100), grace: Duration::from_millis(1_000) };
    /// When an object of a lease granted at 1000 may go, and not before.
    const OVER: u64 = 2_101;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn id() -> EntryId {
        entry_id("t", None, "k")
    }

    fn lease(granted_at: u64) -> Lease {
        lease_at(at(granted_at), granted_at.into(), granted_at)
    }

    fn objects(granted_at: u64) -> [ObjectName; 2] {
        let PageObjects { html, sidecar } = names_for(&ObjectPrefix::default(), &id(), &lease(granted_at));
        [html, sidecar]
    }

    fn entry(lease: Option<Lease>, pointer: Option<Pointer>) -> Entry {
        let (version, generation) = (Version(1), Generation(1));
        Entry { version, generation, pointer, lease, released: None, backoff: None }
    }

    fn pointer(granted_at: u64, committed_at: u64) -> Pointer {
        let [html, sidecar] = objects(granted_at).map(|object| BodyRef {
            object,
            digest: page::Digest([0; 32]),
            size_bytes: 1,
        });
        Pointer {
            generation: Generation(granted_at),
            token: LeaseToken::from_bits(1),
            html,
            sidecar: Some(sidecar),
            meta: PageMeta {
                status: PageStatus::OK,
                content_type: String::new(),
                headers: Vec::new(),
                etag: String::new(),
                revalidate: None,
                stale_while_revalidate: None,
                stale_if_error: None,
                tags: Vec::new(),
                path: None,
                render_time: None,
            },
            generated_at: at(granted_at),
            committed_at: at(committed_at),
            seen: Seq::START,
            gone: false,
        }
    }

    /// The verdicts on both objects of the lease of 1000, which are always alike.
    fn verdict(now: u64, claims: &[Claims]) -> Verdict {
        let [html, sidecar] = objects(1_000).map(|name| {
            let claims_of = |digest: [u8; ENTRY_DIGEST_BYTES]| {
                assert_eq!(digest, id().digest()[..ENTRY_DIGEST_BYTES]);
                Ok::<_, Infallible>(claims.to_vec())
            };
            let Ok(verdict) = judge(&name, Written::by_name(&name).unwrap(), at(now), KEEP, claims_of);
            verdict
        });
        assert_eq!(html, sidecar);
        html
    }

    #[test]
    fn what_no_entry_claims_is_an_orphan_after_its_time_and_not_at_it() {
        assert_eq!(verdict(OVER, &[]), Verdict::Orphan);
        assert_eq!(verdict(OVER - 1, &[]), Verdict::Kept);
        assert_eq!(verdict(0, &[]), Verdict::Kept, "a clock that is behind");
        assert_eq!(verdict(OVER, &[Claims::of(&entry(None, None))]), Verdict::Orphan);
    }

    #[test]
    fn what_is_current_or_leased_is_kept_however_old_it_is() {
        let current = entry(None, Some(pointer(1_000, 1_010)));
        let gone = entry(None, Some(Pointer { gone: true, ..pointer(1_000, 1_010) }));
        let first = entry(Some(lease(1_000)), None);
        let next = entry(Some(lease(1_000)), Some(pointer(900, 910)));
        for entry in [current, gone, first, next] {
            assert_eq!(verdict(u64::MAX, &[Claims::of(&entry)]), Verdict::Kept, "{entry:?}");
        }
        let others = entry(Some(lease(1_002)), Some(pointer(1_001, 1_010)));
        assert_eq!(verdict(OVER, &[Claims::of(&others)]), Verdict::Orphan);
    }

    #[test]
    fn what_was_superseded_a_moment_ago_keeps_its_grace() {
        for claims in
            [Claims::of(&entry(None, Some(pointer(8_990, 9_000)))), Claims::of_superseded(at(9_000))]
        {
            assert_eq!(verdict(10_000, &[claims]), Verdict::Kept);
            assert_eq!(verdict(10_001, &[claims]), Verdict::Orphan);
        }
    }

    #[test]
    fn of_entries_that_share_a_digest_each_keeps_its_own() {
        let mine = Claims::of(&entry(None, Some(pointer(1_000, 1_010))));
        let other = Claims::of(&entry(None, Some(pointer(1_001, 1_011))));
        assert_eq!(verdict(OVER, &[other, mine]), Verdict::Kept);
        assert_eq!(verdict(OVER, &[mine, other]), Verdict::Kept);
    }

    #[test]
    fn what_another_writer_named_is_of_no_lease_and_what_is_young_is_kept_without_asking_for_entries() {
        let asked = |_| -> Result<Vec<Claims>, &str> { Err("asked") };
        for foreign in [
            "x",
            "isr/0123456789abcdef01234567/1000-9d0f63dc-c9b0-4d20-9264-91df3e6db293.html",
            "isr/0123456789abcdef01234567/x/1000-9d0f63dc-c9b0-8d20-9264-91df3e6db293.html",
            "isr/0123456789abcdef01234567/1000-9d0f63dc-c9b0-8d20-9264-91df3e6db293.html.gz",
        ] {
            let name = ObjectName::parse(foreign).unwrap();
            assert_eq!(Written::by_name(&name), None, "{foreign}");
        }
        let [html, _] = objects(1_000);
        let written = Written::by_name(&html).unwrap();
        assert_eq!(judge(&html, written, at(OVER - 1), KEEP, asked), Ok(Verdict::Kept));
        assert_eq!(
            judge(&html, written, at(OVER), KEEP, asked),
            Err("asked"),
            "an entry that cannot be read"
        );
    }

    /// By what is written on it, not by its name, which may look like anything.
    #[test]
    fn what_its_worker_named_is_judged_by_the_lease_that_is_written_on_it() {
        let given = GivenName::of_any_kind("isr/0123456789abcdef01234567/1-x.html").unwrap();
        let name = given.stored(&ObjectPrefix::default(), &id().tenant);
        assert_eq!(Written::by_name(&name), None);
        let origin = Origin::of(&id(), &lease(1_000), page::Digest([1; 32]));
        let verdict = |now: u64, claims: &[Claims]| {
            let Ok(verdict) = judge(&name, Written::from(&origin), at(now), KEEP, |digest| {
                assert_eq!(digest, id().digest()[..ENTRY_DIGEST_BYTES]);
                Ok::<_, Infallible>(claims.to_vec())
            });
            verdict
        };
        assert_eq!((verdict(OVER - 1, &[]), verdict(OVER, &[])), (Verdict::Kept, Verdict::Orphan));
        let mut current = pointer(1_000, 1_010);
        current.html.object = name.clone();
        for needed in [entry(None, Some(current)), entry(Some(lease(1_000)), None)] {
            assert_eq!(verdict(u64::MAX, &[Claims::of(&needed)]), Verdict::Kept);
        }
        let superseded = Claims::of(&entry(None, Some(pointer(8_990, 9_000))));
        assert_eq!(
            (verdict(10_000, &[superseded]), verdict(10_001, &[superseded])),
            (Verdict::Kept, Verdict::Orphan)
        );
    }
}
