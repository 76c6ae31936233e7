//! Objects that a worker named, and that are read back by that name.
//!
//! Other bodies are found through their entry. These are found by tenant and name alone, so what else must be known of them
//! is written on them: whose they are, and what can purge them. Nothing of that is in their names, of which only the ending
//! is looked at: a worker cannot make one body look like another entry's.

use crate::{
    entry::Lease,
    identity::{DeploymentId, EntryId, EntryKey, Generation, LeaseToken, Seq, TenantId},
    object::{
        self, BodyKind, ENTRY_DIGEST_BYTES, InvalidObjectName, NAMED_DIRECTORY, ObjectName, ObjectPrefix,
    },
    page::Digest,
    time::Timestamp,
};
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use std::{fmt, fmt::Write as _, sync::Arc};

/// The longest name that a worker can give, in bytes of UTF-8: with the longest prefix still an object's name.
pub const MAX_GIVEN_NAME_BYTES: usize = 512;
/// The most bytes of an [`Origin`]: with what else is stored with an object, within S3's two KiB of metadata.
pub const MAX_ORIGIN_BYTES: usize = 1400;
/// The metadata that holds an [`Origin`].
pub const ORIGIN_ATTRIBUTE: &str = "leasehold-origin";

/// Between stem and ending: [`names_for`](object::names_for) gives no such name.
const MARK: &str = ".named";
/// The first of the comma-separated parts, so that a later form is told from this one.
const FORM: &str = "v1";
const KEY: &str = "k:";
const DEPLOYMENT: &str = "d:";

/// Why a text is no name that a worker can give. `Display` completes the sentence "`field` …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGivenName {
    /// It is no object's name, or too long for one that is given.
    #[error(transparent)]
    Name(#[from] InvalidObjectName),
    /// It does not tell what the object holds.
    #[error("must end with '{0}'")]
    Ending(&'static str),
}

/// What a worker calls a body, within its tenant. An [`ObjectName`] of at most [`MAX_GIVEN_NAME_BYTES`], with the ending of
/// what it holds.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct GivenName {
    text: Arc<str>,
    kind: BodyKind,
}

impl GivenName {
    /// Accepts text of the form above, for a body of this kind.
    ///
    /// # Errors
    /// [`InvalidGivenName`] says what is wrong with it.
    pub fn parse(text: &str, kind: BodyKind) -> Result<Self, InvalidGivenName> {
        let (actual, limit) = (text.len(), MAX_GIVEN_NAME_BYTES);
        if actual > limit {
            return Err(InvalidObjectName::TooLong { actual, limit }.into());
        }
        Self::of_name(&ObjectName::parse(text)?, kind)
    }

    fn of_name(name: &ObjectName, kind: BodyKind) -> Result<Self, InvalidGivenName> {
        if name.kind() != Some(kind) {
            return Err(InvalidGivenName::Ending(kind.suffix()));
        }
        Ok(Self { text: name.as_str().into(), kind })
    }

    /// The same, of a body of any kind; `None` for what is no such name.
    pub fn of_any_kind(text: &str) -> Option<Self> {
        [BodyKind::Html, BodyKind::Sidecar].into_iter().find_map(|kind| Self::parse(text, kind).ok())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it names.
    pub fn kind(&self) -> BodyKind {
        self.kind
    }

    /// Where the body is stored: `{prefix}/by-name/{24 hex of the tenant}/{name}`, with `.named` before its ending. No two
    /// tenants and no two names share one.
    pub fn stored(&self, prefix: &ObjectPrefix, tenant: &TenantId) -> ObjectName {
        let slash = if prefix.as_str().is_empty() { "" } else { "/" };
        let suffix = self.kind.suffix();
        let stem = self.text.strip_suffix(suffix).unwrap_or(&self.text);
        let tenant = hex::encode(tenant_digest(tenant));
        let text = format!("{}{slash}{NAMED_DIRECTORY}/{tenant}/{stem}{MARK}{suffix}", prefix.as_str());
        ObjectName::from_parts(text)
    }
}

impl fmt::Debug for GivenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl fmt::Display for GivenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the name of a stored object says, where [`GivenName::stored`] made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedObject {
    prefix: ObjectPrefix,
    tenant: [u8; ENTRY_DIGEST_BYTES],
    given: GivenName,
}

impl NamedObject {
    /// `None` for every other name. No prefix has the segment that this directory is called by, so it is clear where the
    /// prefix ends, whatever the worker's name is.
    pub fn of(name: &ObjectName) -> Option<Self> {
        let kind = name.kind()?;
        let stem = name.as_str().strip_suffix(kind.suffix())?.strip_suffix(MARK)?;
        let mut rest = stem;
        let mut prefix_bytes = 0;
        loop {
            let (segment, after) = rest.split_once('/')?;
            rest = after;
            if segment == NAMED_DIRECTORY {
                break;
            }
            prefix_bytes += segment.len() + 1;
        }
        let prefix = ObjectPrefix::parse(&stem[..prefix_bytes.saturating_sub(1)]).ok()?;
        let (digits, given) = rest.split_once('/')?;
        let mut tenant = [0; ENTRY_DIGEST_BYTES];
        hex::decode_to_slice(digits, &mut tenant).ok().filter(|()| hex::encode(tenant) == digits)?;
        // As it is on file, where it may be one that no worker can give any more.
        let given = ObjectName::parse_stored(&format!("{given}{}", kind.suffix())).ok()?;
        let given = GivenName::of_name(&given, kind).ok()?;
        if given.as_str().len() > MAX_GIVEN_NAME_BYTES {
            return None;
        }
        Some(Self { prefix, tenant, given })
    }

    /// Whether the name is one that a deployment with this prefix gives, and not another one whose prefix begins alike.
    pub fn is_under(&self, prefix: &ObjectPrefix) -> bool {
        self.prefix == *prefix
    }

    /// Whether it is this tenant's.
    pub fn is_of(&self, tenant: &TenantId) -> bool {
        self.tenant == tenant_digest(tenant)
    }

    /// What its worker calls it.
    pub fn given(&self) -> &GivenName {
        &self.given
    }
}

/// Says whose a name is, and nothing else of the tenant.
fn tenant_digest(tenant: &TenantId) -> [u8; ENTRY_DIGEST_BYTES] {
    let mut hash = Sha256::new();
    hash.update(b"leasehold tenant of named objects v1\0");
    hash.update((tenant.as_str().len() as u64).to_be_bytes());
    hash.update(tenant.as_str());
    let mut digest = [0; ENTRY_DIGEST_BYTES];
    digest.copy_from_slice(&hash.finalize()[..ENTRY_DIGEST_BYTES]);
    digest
}

/// What is written on an object that its worker named: under which lease of which entry it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The digest of its entry.
    pub entry: [u8; 32],
    /// When its lease was granted.
    pub granted_at: Timestamp,
    /// The position in the invalidation log that its lease had seen.
    pub seen: Seq,
    /// Of token and generation of its lease: who reads it cannot commit with it.
    pub attempt: [u8; 16],
    /// Of its bytes.
    pub digest: Digest,
    /// Its entry's name, where that is short enough: for what invalidates it.
    name: Option<(Option<DeploymentId>, EntryKey)>,
}

impl Origin {
    /// That of a body which is stored under a lease of an entry.
    pub fn of(id: &EntryId, lease: &Lease, digest: Digest) -> Self {
        let attempt = object::attempt_digest(lease.token, lease.generation);
        let name = Some((id.deployment.clone(), id.key.clone()));
        let mut origin = Self {
            entry: id.digest(),
            granted_at: lease.granted_at,
            seen: lease.seen,
            attempt,
            digest,
            name,
        };
        if origin.encode().len() > MAX_ORIGIN_BYTES {
            origin.name = None;
        }
        origin
    }

    /// As printable ASCII, of at most [`MAX_ORIGIN_BYTES`].
    pub fn encode(&self) -> String {
        let Self { entry, granted_at, seen, attempt, digest, name } = self;
        let (entry, attempt, digest) = (hex::encode(entry), hex::encode(attempt), hex::encode(digest.0));
        let mut text = format!("{FORM},{entry},{},{seen},{attempt},{digest}", granted_at.as_millis());
        if let Some((deployment, key)) = name {
            let mut add = |kind: &str, name: &str| {
                let _ = write!(text, ",{kind}{}", utf8_percent_encode(name, crate::labels::ESCAPED));
            };
            add(KEY, key.as_str());
            if let Some(deployment) = deployment {
                add(DEPLOYMENT, deployment.as_str());
            }
        }
        text
    }

    /// What [`Origin::encode`] wrote; `None` for anything else, which says nothing.
    pub fn parse(text: &str) -> Option<Self> {
        fn bytes<const N: usize>(part: Option<&str>) -> Option<[u8; N]> {
            let mut bytes = [0; N];
            hex::decode_to_slice(part?, &mut bytes).ok()?;
            Some(bytes)
        }
        let named = |part: &str, kind: &str| {
            let text = percent_decode_str(part.strip_prefix(kind)?).decode_utf8().ok()?;
            Some(text.into_owned())
        };
        // What follows the form, which is held against the text at the end.
        let mut parts = text.split(',').skip(1);
        let entry = bytes(parts.next())?;
        let granted_at = Timestamp::from_millis(parts.next()?.parse().ok()?);
        let seen = Seq(parts.next()?.parse().ok()?);
        let attempt = bytes(parts.next())?;
        let digest = Digest(bytes(parts.next())?);
        let name = match parts.next() {
            None => None,
            Some(part) => {
                let key = EntryKey::parse(&named(part, KEY)?).ok()?;
                let deployment = match parts.next() {
                    None => None,
                    Some(part) => Some(DeploymentId::parse(&named(part, DEPLOYMENT)?).ok()?),
                };
                Some((deployment, key))
            }
        };
        let origin = Self { entry, granted_at, seen, attempt, digest, name };
        // Spelt in one way only.
        (text.len() <= MAX_ORIGIN_BYTES && origin.encode() == text).then_some(origin)
    }

    /// Whether the text of an origin tells this digest. For every hit of a page, at less than it takes to parse all of it.
    pub fn tells(text: &str, digest: Digest) -> bool {
        let mut told = [0; 32];
        let part = text.split(',').nth(5);
        part.is_some_and(|part| hex::decode_to_slice(part, &mut told).is_ok()) && Digest(told) == digest
    }

    /// That of an object with these attributes; `None` where nothing is written on it that can be read.
    pub fn in_attributes(attributes: &[(String, String)]) -> Option<Self> {
        let (_, text) = attributes.iter().find(|(name, _)| name == ORIGIN_ATTRIBUTE)?;
        Self::parse(text)
    }

    /// Whether it is that of a body which was stored under this lease of this entry.
    pub fn is_by(&self, id: &EntryId, token: LeaseToken, generation: Generation) -> bool {
        (self.entry, self.attempt) == (id.digest(), object::attempt_digest(token, generation))
    }

    /// The first bytes of the digest of its entry, as names of other objects have it.
    pub fn short_entry(&self) -> [u8; ENTRY_DIGEST_BYTES] {
        let mut short = [0; ENTRY_DIGEST_BYTES];
        short.copy_from_slice(&self.entry[..ENTRY_DIGEST_BYTES]);
        short
    }

    /// Its entry; `None` where only the digest of that is known, or where this is no entry of the tenant.
    pub fn id(&self, tenant: &TenantId) -> Option<EntryId> {
        let (deployment, key) = self.name.clone()?;
        let id = EntryId { tenant: tenant.clone(), deployment, key };
        (id.digest() == self.entry).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        object::{SidecarToken, belongs_to, entry_digest_of, granted_at_of, names_for, seen_of},
        samples::{entry_id, lease},
    };
    use proptest::prelude::*;

    fn tenant(text: &str) -> TenantId {
        TenantId::parse(text).unwrap()
    }

    fn prefix(text: &str) -> ObjectPrefix {
        ObjectPrefix::parse(text).unwrap()
    }

    fn given(text: &str) -> GivenName {
        GivenName::of_any_kind(text).unwrap()
    }

    #[test]
    fn a_given_name_has_the_ending_of_what_it_holds() {
        for (text, kind) in [
            ("isr/0123/1-a.html", BodyKind::Html),
            ("a.hydration.json", BodyKind::Sidecar),
            (".html", BodyKind::Html),
            ("é & <b>/x.html", BodyKind::Html),
        ] {
            assert_eq!(GivenName::parse(text, kind).unwrap().as_str(), text);
            assert_eq!(given(text).kind(), kind);
        }
        let ending = |suffix| Err(InvalidGivenName::Ending(suffix));
        assert_eq!(GivenName::parse("a.html", BodyKind::Sidecar), ending(".hydration.json"));
        assert_eq!(GivenName::parse("a.hydration.json", BodyKind::Html), ending(".html"));
        assert_eq!(GivenName::parse("a.HTML", BodyKind::Html), ending(".html"));
        for text in ["", "/a.html", "a//b.html", "../a.html", "a\\b.html", "a\n.html", "a", "a.json"] {
            assert_eq!(GivenName::of_any_kind(text), None, "{text:?}");
        }
        let refused = GivenName::parse("a\u{ffff}.html", BodyKind::Html).unwrap_err();
        assert_eq!(refused.to_string(), "contains the character U+FFFF");
        let longest = format!("{}.html", "a".repeat(MAX_GIVEN_NAME_BYTES - 5));
        assert!(GivenName::parse(&longest, BodyKind::Html).is_ok());
        let too_long = GivenName::parse(&format!("a{longest}"), BodyKind::Html).unwrap_err();
        assert_eq!(too_long.to_string(), "is 513 bytes long; the limit is 512");
    }

    #[test]
    fn stored_names_are_pinned() {
        // The digest was computed by a Python program of its own.
        assert_eq!(
            given("isr/a/1-x.html").stored(&prefix("isr"), &tenant("acme")).as_str(),
            "isr/by-name/5f73b7e2eb630f1a759bbfb7/isr/a/1-x.named.html"
        );
        assert_eq!(
            given("1-x.hydration.json").stored(&prefix(""), &tenant("acme")).as_str(),
            "by-name/5f73b7e2eb630f1a759bbfb7/1-x.named.hydration.json"
        );
    }

    #[test]
    fn the_longest_name_under_the_longest_prefix_is_an_objects_name() {
        let name = given(&format!("{}.html", "a".repeat(MAX_GIVEN_NAME_BYTES - 5)));
        let stored = name.stored(&prefix(&"p".repeat(object::MAX_PREFIX_BYTES)), &tenant("acme"));
        assert_eq!(ObjectName::parse(stored.as_str()), Ok(stored.clone()));
        assert_eq!(NamedObject::of(&stored).unwrap().given(), &name);
    }

    /// Two deployments may share a bucket, one's prefix within the other's.
    #[test]
    fn a_prefix_never_reaches_into_the_directory_of_given_names() {
        assert_eq!(ObjectPrefix::parse("by-name"), Err(InvalidObjectName::Reserved));
        assert_eq!(
            ObjectPrefix::parse("isr/by-name/0123456789abcdef01234567"),
            Err(InvalidObjectName::Reserved)
        );
        let outer =
            given("blue/by-name/0123456789abcdef01234567/x.html").stored(&prefix("isr"), &tenant("a"));
        let named = NamedObject::of(&outer).unwrap();
        assert!(named.is_under(&prefix("isr")) && named.is_of(&tenant("a")));
        let inner = NamedObject::of(&given("x.html").stored(&prefix("isr/blue"), &tenant("a"))).unwrap();
        assert!(inner.is_under(&prefix("isr/blue")) && !inner.is_under(&prefix("isr")));
        assert!(!inner.is_under(&prefix("")) && !inner.is_of(&tenant("b")));
    }

    #[test]
    fn no_other_name_is_taken_for_a_given_one() {
        let digits = "0123456789abcdef01234567";
        for text in [
            "x.named.html".to_owned(),
            format!("by-name/{digits}.named.html"),
            format!("isr/by-name/{digits}/x.html"),
            format!("isr/by-name/{digits}/x.named.json"),
            format!("isr/by-name/{digits}/x.named.html.gz"),
            format!("isr/by-name/{}/x.named.html", digits.to_uppercase()),
            format!("isr/by-name/{digits}0/x.named.html"),
            format!("i r/by-name/{digits}/x.named.html"),
            format!("isr/by-name/{digits}/{}.named.html", "a".repeat(MAX_GIVEN_NAME_BYTES - 4)),
        ] {
            assert_eq!(NamedObject::of(&ObjectName::parse(&text).unwrap()), None, "{text}");
        }
        let ours = names_for(&prefix("isr"), &entry_id("acme", None, "k"), &lease(1, 2));
        assert_eq!((NamedObject::of(&ours.html), NamedObject::of(&ours.sidecar)), (None, None));
    }

    /// Nobody can give such a name any more; what has it is still its tenant's, and can be swept.
    #[test]
    fn what_is_stored_under_a_name_that_xml_cannot_carry_is_known_for_what_it_is() {
        let text = given("x.html").stored(&prefix("isr"), &tenant("acme")).as_str().replace('x', "\u{ffff}");
        assert!(ObjectName::parse(&text).is_err());
        let named = NamedObject::of(&ObjectName::parse_stored(&text).unwrap()).unwrap();
        assert!(named.is_under(&prefix("isr")) && named.is_of(&tenant("acme")));
        assert_eq!(named.given().as_str(), "\u{ffff}.html");
    }

    #[test]
    fn an_origin_says_which_lease_it_was_and_hides_its_token() {
        let token = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        let of = |token, generation| {
            Origin::of(&entry_id("acme", None, "k"), &lease(token, generation), Digest([7; 32]))
        };
        assert_eq!(of(token, 1), of(token, 1));
        assert_ne!(of(token, 1).attempt, of(token, 2).attempt);
        assert_ne!(of(token, 1).attempt, of(1, 1).attempt);
        assert!(!of(token, 1).encode().contains("0123456789abcdef"));
        assert_eq!(of(1, 1).id(&tenant("acme")), Some(entry_id("acme", None, "k")));
        assert_eq!(of(1, 1).id(&tenant("other")), None, "not an entry of that tenant");
        assert_eq!(of(1, 1).entry[..ENTRY_DIGEST_BYTES], of(1, 1).short_entry());
    }

    #[test]
    fn a_name_that_is_too_long_to_be_written_is_left_out_whole() {
        let origin = |bytes: usize| {
            Origin::of(&entry_id("acme", Some("blue"), &"k".repeat(bytes)), &lease(1, 1), Digest([7; 32]))
        };
        let fixed = Origin { name: None, ..origin(1) }.encode().len();
        let fits = MAX_ORIGIN_BYTES - fixed - ",k:,d:blue".len();
        assert_eq!(origin(fits).encode().len(), MAX_ORIGIN_BYTES);
        assert_eq!(origin(fits + 1).encode().len(), fixed);
        for bytes in [fits, fits + 1] {
            let origin = origin(bytes);
            assert_eq!(Origin::parse(&origin.encode()), Some(origin.clone()));
            assert_eq!(origin.id(&tenant("acme")).is_some(), bytes == fits);
        }
    }

    #[test]
    fn an_origin_is_by_its_own_lease_of_its_own_entry_only() {
        let id = entry_id("acme", Some("blue"), "k");
        let origin = Origin::of(&id, &lease(1, 2), Digest([7; 32]));
        let is_by = |id: &EntryId, token, generation| {
            origin.is_by(id, LeaseToken::from_bits(token), Generation(generation))
        };
        assert!(is_by(&id, 1, 2));
        assert!(!is_by(&id, 1, 3) && !is_by(&id, 2, 2));
        assert!(!is_by(&entry_id("acme", None, "k"), 1, 2));
    }

    #[test]
    fn what_is_none_of_ours_says_nothing() {
        let lease = Lease { seen: Seq(42), ..lease(1, 1) };
        let good = Origin::of(&entry_id("acme", Some("blue"), "k"), &lease, Digest([7; 32])).encode();
        assert!(Origin::parse(&good).is_some());
        for bad in [
            String::new(),
            good.replace("v1,", "v2,"),
            good.to_uppercase(),
            good.replace(",42,", ",+42,"),
            good.replace(",42,", ",042,"),
            good.replace(",k:k", ",k:"),
            good.replace(",k:k", ",k:%6B"),
            good.replace(",k:k", &format!(",k:{}", "k".repeat(MAX_ORIGIN_BYTES))),
            good.replace(",k:k,d:blue", ",d:blue,k:k"),
            good.replace("d:blue", "d:blue,d:green"),
            good[..good.len() / 2].to_owned(),
        ] {
            assert_eq!(Origin::parse(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn stored_names_give_back_tenant_and_name_and_are_never_taken_for_others(
            directory in "([A-Za-z0-9_-]{1,8}(/[A-Za-z0-9_-]{1,8}){0,2})?",
            name in "((by-name|[a-f0-9]{24}|[^\\p{C}/\\\\]{1,8})/){0,3}([0-9]{1,13}-[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|[^\\p{C}/\\\\]{1,8})",
            ending in prop::sample::select(vec![".html", ".hydration.json", ".named.html", ".named.hydration.json"]),
            owner in "[ab]{1,2}",
            other in "[ab]{1,2}",
        ) {
            let (Ok(directory), Some(name)) =
                (ObjectPrefix::parse(&directory), GivenName::of_any_kind(&format!("{name}{ending}")))
            else {
                return Ok(());
            };
            let stored = name.stored(&directory, &tenant(&owner));
            prop_assert_eq!(ObjectName::parse(stored.as_str()), Ok(stored.clone()));
            prop_assert_eq!(stored.kind(), Some(name.kind()));
            let named = NamedObject::of(&stored).unwrap();
            prop_assert_eq!(named.given(), &name);
            prop_assert!(named.is_under(&directory));
            prop_assert_eq!(named.is_of(&tenant(&other)), owner == other);
            // Whatever it looks like, it is nobody's by its name alone.
            prop_assert_eq!(entry_digest_of(&stored), None);
            prop_assert_eq!(granted_at_of(&stored), None);
            prop_assert_eq!(seen_of(&stored), Seq::START);
            prop_assert!(!directory.is_of(&stored) && !belongs_to(&stored, &directory, &entry_id("acme", None, "k")));
            if name.kind() == BodyKind::Sidecar {
                let token = SidecarToken::encode(&stored);
                prop_assert_eq!(SidecarToken::decode(&token), Some(stored.clone()));
                prop_assert_eq!(SidecarToken::resolve(&token, &directory, &entry_id("acme", None, "k")), None);
            }
        }

        #[test]
        fn origins_survive_the_round_trip(
            deployment in prop::option::of("[a-zé,%:]{1,12}"),
            key in "[!-~é]{1,60}",
            (token, generation, seen, millis) in any::<(u128, u64, u64, u64)>(),
            digest in any::<[u8; 32]>(),
        ) {
            let id = entry_id("acme", deployment.as_deref(), &key);
            let granted_at = Timestamp::from_millis(millis);
            let lease = Lease { granted_at, seen: Seq(seen), ..lease(token, generation) };
            let origin = Origin::of(&id, &lease, Digest(digest));
            let text = origin.encode();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert!(text.len() <= MAX_ORIGIN_BYTES);
            prop_assert_eq!(Origin::parse(&text), Some(origin.clone()));
            prop_assert!(Origin::tells(&text, Digest(digest)) && !Origin::tells(&text, Digest([7; 32])));
            let attributes = [("other".to_owned(), String::new()), (ORIGIN_ATTRIBUTE.to_owned(), text)];
            prop_assert_eq!(Origin::in_attributes(&attributes), Some(origin));
            prop_assert_eq!(Origin::in_attributes(&attributes[..1]), None);
        }
    }
}
