//! Names of stored bodies, and the tokens under which pages ask for their sidecars.
//!
//! A name is public: pages carry it, and it says whose it is only through a digest. Nothing in it grants
//! anything.

use crate::{
    entry::Lease,
    identity::{EntryId, Generation, LeaseToken, Seq},
    time::Timestamp,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};

/// The longest object name, in bytes of UTF-8: S3's limit.
pub const MAX_OBJECT_NAME_BYTES: usize = 1024;
/// The longest prefix of object names, in bytes.
pub const MAX_PREFIX_BYTES: usize = 200;
/// How much of an entry's digest is in its objects' names, in bytes: 24 hex digits.
pub const ENTRY_DIGEST_BYTES: usize = 12;
/// The segment under which the objects are that workers name: [`named`](crate::named). No prefix has it.
pub const NAMED_DIRECTORY: &str = "by-name";
/// The longest sidecar token: the base64url of the longest name.
const MAX_TOKEN_BYTES: usize = (MAX_OBJECT_NAME_BYTES * 4).div_ceil(3);

/// Why a text is no object name or prefix. `Display` completes the sentence "`field` …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidObjectName {
    /// Nothing.
    #[error("must not be empty")]
    Empty,
    /// Over the limit.
    #[error("is {actual} bytes long; the limit is {limit}")]
    TooLong {
        /// Bytes given.
        actual: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A character that some store, log or tool reads as something else.
    #[error("contains the character U+{0:04X}")]
    Character(u32),
    /// A segment that is empty, `.` or `..`, also by a slash at either end.
    #[error("has a segment between slashes that is empty, '.' or '..'")]
    Segment,
    /// A prefix with the segment [`NAMED_DIRECTORY`].
    #[error("has the segment '{NAMED_DIRECTORY}', under which are the objects that workers name")]
    Reserved,
}

/// The name of an immutable object. At most [`MAX_OBJECT_NAME_BYTES`]; segments between single slashes, none
/// of them `.` or `..`, without control characters, backslashes and what XML cannot carry, as which S3 is told what to
/// delete. Names that [`names_for`] did not make,
/// such as those of a FaceTheory cache, are names too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Arc<str>);

impl ObjectName {
    /// Accepts text of the form above.
    ///
    /// # Errors
    /// [`InvalidObjectName`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidObjectName> {
        if text.is_empty() {
            return Err(InvalidObjectName::Empty);
        }
        check(text, MAX_OBJECT_NAME_BYTES, |c| is_plain(c) && is_in_xml(c))?;
        Ok(Self(text.into()))
    }

    /// The same of a name that is on file, where another writer may have left one that XML cannot carry: an entry that has it
    /// can still be read, and the object deleted.
    ///
    /// # Errors
    /// As [`ObjectName::parse`].
    pub fn parse_stored(text: &str) -> Result<Self, InvalidObjectName> {
        if text.is_empty() {
            return Err(InvalidObjectName::Empty);
        }
        check(text, MAX_OBJECT_NAME_BYTES, is_plain)?;
        Ok(Self(text.into()))
    }

    /// Of text that is put together from valid parts.
    pub(crate) fn from_parts(text: String) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the object holds, by its name's ending; `None` for an ending that is not ours.
    pub fn kind(&self) -> Option<BodyKind> {
        [BodyKind::Sidecar, BodyKind::Html].into_iter().find(|kind| self.0.ends_with(kind.suffix()))
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyKind {
    /// A page.
    Html,
    /// The data that a page hydrates with.
    Sidecar,
}

impl BodyKind {
    /// The ending of the names of such objects.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Html => ".html",
            Self::Sidecar => ".hydration.json",
        }
    }
}

/// Under which all objects of a deployment of the coordinator are, so that it can share a bucket. Segments of
/// `[A-Za-z0-9._-]` joined by slashes, none of them [`NAMED_DIRECTORY`], at most [`MAX_PREFIX_BYTES`]; empty for none; `isr`
/// by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPrefix(Arc<str>);

impl ObjectPrefix {
    /// Accepts text of the form above.
    ///
    /// # Errors
    /// [`InvalidObjectName`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidObjectName> {
        if !text.is_empty() {
            check(text, MAX_PREFIX_BYTES, |c| c.is_ascii_alphanumeric() || "._-/".contains(c))?;
        }
        if text.split('/').any(|segment| segment == NAMED_DIRECTORY) {
            return Err(InvalidObjectName::Reserved);
        }
        Ok(Self(text.into()))
    }

    /// The text, without a slash at either end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a name is one that [`names_for`] gives under this prefix, and not under another one that begins alike: `isr`
    /// and `isr/blue` may be the prefixes of two deployments that share a bucket and no entries.
    pub fn is_of(&self, name: &ObjectName) -> bool {
        let directory = name.as_str().rsplit_once('/').map(|(directory, _)| directory);
        let prefix = directory.map(|directory| directory.rsplit_once('/').map_or("", |(prefix, _)| prefix));
        entry_digest_of(name).is_some() && prefix == Some(self.as_str())
    }

    /// The directory of an entry's objects, with its slash.
    fn directory(&self, entry: &EntryId) -> String {
        let slash = if self.0.is_empty() { "" } else { "/" };
        format!("{}{slash}{}/", self.0, hex::encode(&entry.digest()[..ENTRY_DIGEST_BYTES]))
    }
}

impl Default for ObjectPrefix {
    fn default() -> Self {
        Self("isr".into())
    }
}

/// The names that one grant may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageObjects {
    /// The page.
    pub html: ObjectName,
    /// Its sidecar.
    pub sidecar: ObjectName,
}

/// How much of a position in the invalidation log an object's name tells, in bits.
const SEEN_BITS: u32 = 48;

/// The names for what is rendered under a lease: `{prefix}/{24 hex}/{granted_at ms}-{uuid}` and an ending, as
/// the design's "Bodies and sidecars" has it.
///
/// Of the same lease always the same, so that a repeated acquire is told the same names; of another grant of
/// the entry always others, so that no object is ever written twice with different bytes. The first 48 bits of
/// the UUID are the lease's `seen`, so that of an object alone it can be told what it cannot have heard of; the
/// others are a digest of token and generation: who reads it in a page cannot commit with it.
pub fn names_for(prefix: &ObjectPrefix, entry: &EntryId, lease: &Lease) -> PageObjects {
    let mut bits = attempt_digest(lease.token, lease.generation);
    // Where it does not fit, the object looks older than it is, which is the safe side.
    let seen = lease.seen.0.min((1 << SEEN_BITS) - 1).to_be_bytes();
    bits[..6].copy_from_slice(&seen[2..]);
    let uuid = uuid::Builder::from_custom_bytes(bits).into_uuid();
    let stem = format!("{}{}-{uuid}", prefix.directory(entry), lease.granted_at.as_millis());
    let name = |kind: BodyKind| ObjectName(format!("{stem}{}", kind.suffix()).into());
    PageObjects { html: name(BodyKind::Html), sidecar: name(BodyKind::Sidecar) }
}

/// Says of which attempt to render something is, and nothing that one could commit with.
pub(crate) fn attempt_digest(token: LeaseToken, generation: Generation) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(b"leasehold object name v1\0");
    hash.update(token.bits().to_be_bytes());
    hash.update(generation.0.to_be_bytes());
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

/// The name of the sidecar that may be beside an HTML: of a page of another system, whose row names the HTML alone.
pub fn sidecar_beside(html: &ObjectName) -> Option<ObjectName> {
    let stem = html.as_str().strip_suffix(BodyKind::Html.suffix())?;
    Some(ObjectName(format!("{stem}{}", BodyKind::Sidecar.suffix()).into()))
}

/// Whether `name` has exactly the structure that [`names_for`] gives to objects of this entry. A worker may
/// write and commit no other.
pub fn belongs_to(name: &ObjectName, prefix: &ObjectPrefix, entry: &EntryId) -> bool {
    name.as_str()
        .strip_prefix(&prefix.directory(entry))
        .is_some_and(|file| !file.contains('/') && canonical_grant(name).is_some())
}

/// The first bytes of the digest of the entry that an object is of, by its name; `None` for a name that [`names_for`]
/// gives to no object, whatever the prefix: it is another writer's, and only that one knows what it is for.
pub fn entry_digest_of(name: &ObjectName) -> Option<[u8; ENTRY_DIGEST_BYTES]> {
    let uuid = canonical_grant(name)?;
    if uuid.get_version() != Some(uuid::Version::Custom) {
        return None;
    }
    let (directory, _) = name.as_str().rsplit_once('/')?;
    let (prefix, digits) = directory.rsplit_once('/').unwrap_or(("", directory));
    ObjectPrefix::parse(prefix).ok()?;
    let mut digest = [0; ENTRY_DIGEST_BYTES];
    hex::decode_to_slice(digits, &mut digest).ok()?;
    (hex::encode(digest) == digits).then_some(digest)
}

/// When the lease of an object was granted, by its name; `None` for a name that [`names_for`] does not give.
pub fn granted_at_of(name: &ObjectName) -> Option<Timestamp> {
    entry_digest_of(name)?;
    let (millis, _) = grant_of(name)?;
    millis.parse().ok().map(Timestamp::from_millis)
}

/// The position in the invalidation log that the lease of an object had seen, by its name; [`Seq::START`] for a
/// name that [`names_for`] does not give.
pub fn seen_of(name: &ObjectName) -> Seq {
    // Of what other writers named, nothing is known of what they had seen.
    let uuid = entry_digest_of(name).and_then(|_| canonical_grant(name));
    uuid.map_or(Seq::START, |uuid| Seq(uuid.as_u64_pair().0 >> (u64::BITS - SEEN_BITS)))
}

/// The UUID of a name whose last segment is exactly as [`names_for`] spells it, but for the UUID's version.
fn canonical_grant(name: &ObjectName) -> Option<uuid::Uuid> {
    let (millis, uuid) = grant_of(name)?;
    let number = millis.parse::<u64>().ok()?;
    let id = uuid::Uuid::parse_str(uuid).ok()?;
    let suffix = name.kind()?.suffix();
    let file = format!("{number}-{}{suffix}", id.hyphenated());
    (name.as_str().rsplit('/').next() == Some(file.as_str())).then_some(id)
}

/// What the name of an object says of its grant: the milliseconds and the UUID.
fn grant_of(name: &ObjectName) -> Option<(&str, &str)> {
    let (_, file) = name.as_str().rsplit_once('/')?;
    let (stem, _) = file.split_once('.')?;
    stem.split_once('-')
}

/// The token under which a page asks for its sidecar: the base64url of the sidecar's name, without padding.
pub enum SidecarToken {}

impl SidecarToken {
    /// The token of a sidecar. That of any other object is well-formed and resolves to nothing.
    pub fn encode(name: &ObjectName) -> String {
        URL_SAFE_NO_PAD.encode(name.as_str())
    }

    /// The sidecar that a page of `entry` asked for.
    ///
    /// `None` for a token that is malformed, over-long, spelt in another way than [`SidecarToken::encode`]
    /// spells it, of an object that is no sidecar, or of another entry (tenant, deployment or variant). Which
    /// of these is not told, so that nobody learns what exists.
    pub fn resolve(token: &str, prefix: &ObjectPrefix, entry: &EntryId) -> Option<ObjectName> {
        Self::decode(token).filter(|name| belongs_to(name, prefix, entry))
    }

    /// The sidecar that a token names, whosever it is: not to be served before that is known.
    ///
    /// `None` for a token that is malformed, over-long, or spelt in another way than [`SidecarToken::encode`] spells it.
    pub fn decode(token: &str) -> Option<ObjectName> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        ObjectName::parse_stored(&text).ok().filter(|name| name.kind() == Some(BodyKind::Sidecar))
    }
}

fn is_plain(c: char) -> bool {
    !c.is_control() && c != '\\'
}

/// Whether XML 1.0 has a way to say it. Of the others it has none for, controls are refused already.
fn is_in_xml(c: char) -> bool {
    !matches!(c, '\u{fffe}' | '\u{ffff}')
}

fn check(text: &str, limit: usize, allowed: fn(char) -> bool) -> Result<(), InvalidObjectName> {
    if text.len() > limit {
        return Err(InvalidObjectName::TooLong { actual: text.len(), limit });
    }
    if let Some(c) = text.chars().find(|c| !allowed(*c)) {
        return Err(InvalidObjectName::Character(c as u32));
    }
    if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(InvalidObjectName::Segment);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{entry_id, lease};
    use proptest::prelude::*;

    fn named(prefix: &str, entry: &EntryId) -> (ObjectPrefix, PageObjects) {
        let prefix = ObjectPrefix::parse(prefix).unwrap();
        let names =
            names_for(&prefix, entry, &Lease { seen: Seq(0x63_dcc9), ..lease(0x0123_4567_89ab_cdef, 7) });
        (prefix, names)
    }

    #[test]
    fn names_are_as_the_design_writes_them() {
        // Computed by a Node.js program of its own.
        let (_, names) = named("isr", &entry_id("acme", Some("v1"), "acme::/about?"));
        assert_eq!(
            names.html.as_str(),
            "isr/02abc42a4cbd3f0029338c76/1767225600123-00000063-dcc9-8d20-9264-91df3e6db293.html"
        );
        assert_eq!(
            names.sidecar.as_str(),
            "isr/02abc42a4cbd3f0029338c76/1767225600123-00000063-dcc9-8d20-9264-91df3e6db293.hydration.json"
        );
        let (_, names) = named("", &entry_id("acme", None, "acme::/about?"));
        assert_eq!(
            names.html.as_str(),
            "f9495dcf3a6832e8b6b963d7/1767225600123-00000063-dcc9-8d20-9264-91df3e6db293.html"
        );
        assert_eq!(
            SidecarToken::encode(&names.sidecar),
            "Zjk0OTVkY2YzYTY4MzJlOGI2Yjk2M2Q3LzE3NjcyMjU2MDAxMjMtMDAwMDAwNjMtZGNjOS04ZDIwLTkyNjQtOTFkZjNlNmRiMjkzLmh5ZHJhdGlvbi5qc29u"
        );
    }

    #[test]
    fn names_differ_by_token_and_by_generation_and_hide_the_token() {
        let (prefix, entry) = (ObjectPrefix::default(), entry_id("a", None, "k"));
        let token = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        let of = |token, generation| names_for(&prefix, &entry, &lease(token, generation)).html.to_string();
        assert_eq!(of(token, 1), of(token, 1));
        assert_ne!(of(token, 1), of(token, 2));
        assert_ne!(of(token, 1), of(1, 1));
        let digits = of(token, 1).replace('-', "");
        assert!(!digits.contains("0123456789abcdef"));
    }

    #[test]
    fn a_name_tells_when_its_lease_was_granted_and_what_it_had_seen() {
        let (prefix, entry) = (ObjectPrefix::default(), entry_id("a", None, "k"));
        for (seen, told) in
            [(0, 0), (1, 1), (0xffff_ffff_fffe, 0xffff_ffff_fffe), (u64::MAX, 0xffff_ffff_ffff)]
        {
            let lease = Lease { seen: Seq(seen), ..lease(u128::MAX, 7) };
            let PageObjects { html, sidecar } = names_for(&prefix, &entry, &lease);
            for name in [html, sidecar] {
                assert_eq!((granted_at_of(&name), seen_of(&name)), (Some(lease.granted_at), Seq(told)));
            }
        }
        for other in [
            "isr/02abc42a4cbd3f0029338c76/1767225600123-9d0f63dc-c9b0-4d20-9264-91df3e6db293.html",
            "isr/02abc42a4cbd3f0029338c76/x.html",
            "isr/02abc42a4cbd3f0029338c76/+7-00000063-dcc9-8d20-9264-91df3e6db293.html",
            "isr/02abc42a4cbd3f0029338c76/7-00000063dcc98d20926491df3e6db293.html",
            "isr/02abc42a4cbd3f0029338c76/7-00000063-dcc9-8d20-9264-91df3e6db293.json",
            "isr/other/7-00000063-dcc9-8d20-9264-91df3e6db293.html",
            "x",
        ] {
            let name = ObjectName::parse(other).unwrap();
            assert_eq!((granted_at_of(&name), seen_of(&name)), (None, Seq::START), "{other}");
        }
    }

    #[test]
    fn a_name_tells_whose_it_is_unless_another_writer_gave_it() {
        let owner = entry_id("a", None, "k");
        for prefix in ["isr", "", "0123456789abcdef01234567", "a.b/C_d-1"] {
            let (_, names) = named(prefix, &owner);
            for name in [names.html, names.sidecar] {
                let digest = entry_digest_of(&name).unwrap();
                assert_eq!(digest, owner.digest()[..ENTRY_DIGEST_BYTES], "{name}");
            }
        }
        let (_, names) = named("isr", &owner);
        let name = names.html.as_str();
        let (directory, file) = name.rsplit_once('/').unwrap();
        let (_, digits) = directory.rsplit_once('/').unwrap();
        let (millis, uuid) = file.split_once('-').unwrap();
        for other in [
            format!("{directory}/{millis}-9d0f63dc-c9b0-4d20-9264-91df3e6db293.html"),
            format!("isr/{}/{file}", digits.to_uppercase()),
            format!("isr/{}/{file}", &digits[..22]),
            format!("isr/{digits}00/{file}"),
            format!("isr/{}g/{file}", &digits[..23]),
            format!("isr/{digits}/x/{file}"),
            format!("i r/{digits}/{file}"),
            format!("{}/{digits}/{file}", "p".repeat(MAX_PREFIX_BYTES + 1)),
            format!("{directory}/0{file}"),
            format!("{directory}/{millis}-{}", uuid.to_uppercase().replace(".HTML", ".html")),
            format!("{directory}/{millis}-{}", uuid.replacen('-', "", 4)),
            format!("{directory}/x.{file}"),
            name.replace(".html", ".json"),
            name.replace(".html", ".x.html"),
            file.to_owned(),
            digits.to_owned(),
        ] {
            assert_eq!(entry_digest_of(&ObjectName::parse(&other).unwrap()), None, "{other}");
        }
    }

    #[test]
    fn a_name_is_of_one_prefix_only() {
        for own in ["", "isr", "isr/blue"] {
            let (_, names) = named(own, &entry_id("a", None, "k"));
            for prefix in ["", "isr", "isr/blue", "is", "blue"] {
                let is_of = ObjectPrefix::parse(prefix).unwrap().is_of(&names.sidecar);
                assert_eq!(is_of, prefix == own, "{own} {prefix}");
            }
        }
        let foreign = "isr/02abc42a4cbd3f0029338c76/1767225600123-9d0f63dc-c9b0-4d20-9264-91df3e6db293.html";
        assert!(!ObjectPrefix::default().is_of(&ObjectName::parse(foreign).unwrap()));
    }

    #[test]
    fn only_the_exact_structure_belongs() {
        let owner = entry_id("a", None, "k");
        let (prefix, names) = named("a/isr", &owner);
        let name = names.html.as_str();
        let (directory, file) = name.rsplit_once('/').unwrap();
        let (millis, uuid) = file.split_once('-').unwrap();
        assert!(belongs_to(&names.html, &prefix, &owner) && belongs_to(&names.sidecar, &prefix, &owner));
        for other in [
            directory.to_owned(),
            format!("x/{name}"),
            format!("{name}.html"),
            name.replace(".html", ".json"),
            name.replace(".html", ""),
            name.to_uppercase(),
            format!("{directory}/x/{file}"),
            format!("{directory}/0{file}"),
            format!("{directory}/+{file}"),
            format!("{directory}/99999999999999999999-{uuid}"),
            format!("{directory}/-{uuid}"),
            format!("{directory}/{millis}-{}", uuid.replacen('-', "", 4)),
            format!("{directory}/{millis}-{}", uuid.to_uppercase().replace(".HTML", ".html")),
            format!("{directory}/{millis}-{{{}}}.html", uuid.trim_end_matches(".html")),
            format!("{directory}/{millis}-urn:uuid:{uuid}"),
        ] {
            let other = ObjectName::parse(&other).unwrap();
            assert!(!belongs_to(&other, &prefix, &owner), "{other}");
        }
        assert!(!belongs_to(&names.html, &ObjectPrefix::default(), &owner));
        assert!(!belongs_to(&names.html, &ObjectPrefix::parse("").unwrap(), &owner));
    }

    #[test]
    fn names_refuse_what_stores_read_as_something_else() {
        use InvalidObjectName as No;
        for (text, why) in [
            (String::new(), No::Empty),
            ("/a".into(), No::Segment),
            ("a/".into(), No::Segment),
            ("a//b".into(), No::Segment),
            ("a/../b".into(), No::Segment),
            ("./a".into(), No::Segment),
            ("a\\b".into(), No::Character(0x5c)),
            ("a\0".into(), No::Character(0)),
            ("a".repeat(1025), No::TooLong { actual: 1025, limit: 1024 }),
        ] {
            assert_eq!(ObjectName::parse(&text), Err(why));
        }
        assert!(ObjectName::parse(&"a".repeat(1024)).is_ok());
        for (text, why) in [
            ("/".into(), No::Segment),
            ("isr/".into(), No::Segment),
            ("..".into(), No::Segment),
            ("a b".into(), No::Character(0x20)),
            ("a".repeat(201), No::TooLong { actual: 201, limit: 200 }),
        ] {
            assert_eq!(ObjectPrefix::parse(&text), Err(why));
        }
        assert!(ObjectPrefix::parse("a.b/C_d-1").is_ok());
    }

    #[test]
    fn kinds_go_by_the_ending() {
        let kind = |text| ObjectName::parse(text).unwrap().kind();
        assert_eq!(kind("a/b.html"), Some(BodyKind::Html));
        assert_eq!(kind("a/b.hydration.json"), Some(BodyKind::Sidecar));
        assert_eq!(kind("a/b.json"), None);
    }

    #[test]
    fn every_unfit_token_looks_the_same() {
        let owner = entry_id("a", Some("v1"), "k");
        let (prefix, names) = named("isr", &owner);
        let token = SidecarToken::encode(&names.sidecar);
        assert_eq!(SidecarToken::resolve(&token, &prefix, &owner), Some(names.sidecar.clone()));
        for token in [
            String::new(),
            "!".into(),
            " ".to_owned() + &token,
            format!("{token}="),
            format!("{token}\n"),
            "A".repeat(1367),
            "A".repeat(10_000_000),
            URL_SAFE_NO_PAD.encode([0xff, 0xfe]),
            URL_SAFE_NO_PAD.encode(format!("/{}", names.sidecar)),
            SidecarToken::encode(&names.html),
        ] {
            assert_eq!(SidecarToken::resolve(&token, &prefix, &owner), None);
        }
        for foreign in [
            entry_id("b", Some("v1"), "k"),
            entry_id("a", Some("v2"), "k"),
            entry_id("a", None, "k"),
            entry_id("a", Some("v1"), "k#auth=000000000000000000000000"),
        ] {
            assert_eq!(SidecarToken::resolve(&token, &prefix, &foreign), None);
        }
    }

    #[test]
    fn the_longest_name_has_a_token_too() {
        let suffix = BodyKind::Sidecar.suffix();
        let name = format!("{}{suffix}", "a".repeat(MAX_OBJECT_NAME_BYTES - suffix.len()));
        let name = ObjectName::parse(&name).unwrap();
        assert_eq!(SidecarToken::decode(&SidecarToken::encode(&name)), Some(name));
    }

    proptest! {
        #[test]
        fn tokens_and_names_survive_the_round_trip(
            prefix in "([A-Za-z0-9_-]{1,8}(/[A-Za-z0-9_-]{1,8}){0,2})?",
            key in "[!-~]{1,40}",
            (millis, bits, generation, seen) in any::<(u64, u128, u64, u64)>(),
        ) {
            let (prefix, owner) = (ObjectPrefix::parse(&prefix).unwrap(), entry_id("a", None, &key));
            let granted_at = Timestamp::from_millis(millis);
            let lease = Lease { granted_at, seen: Seq(seen), ..lease(bits, generation) };
            let names = names_for(&prefix, &owner, &lease);
            for (name, kind) in [(&names.html, BodyKind::Html), (&names.sidecar, BodyKind::Sidecar)] {
                prop_assert_eq!(&ObjectName::parse(name.as_str()).unwrap(), name);
                prop_assert_eq!(name.kind(), Some(kind));
                prop_assert!(belongs_to(name, &prefix, &owner));
            }
            let token = SidecarToken::encode(&names.sidecar);
            prop_assert_eq!(SidecarToken::resolve(&token, &prefix, &owner), Some(names.sidecar));
        }

        #[test]
        fn a_mutated_token_never_leaves_its_entry(
            at in any::<prop::sample::Index>(),
            with in ".",
            how in 0..3,
        ) {
            let owner = entry_id("a", None, "k");
            let (prefix, names) = named("isr", &owner);
            let mut token = SidecarToken::encode(&names.sidecar);
            let at = at.index(token.len());
            match how {
                0 => token.replace_range(at..=at, &with),
                1 => token.insert_str(at, &with),
                _ => token.truncate(at),
            }
            if let Some(name) = SidecarToken::resolve(&token, &prefix, &owner) {
                prop_assert!(name.as_str().starts_with(&prefix.directory(&owner)));
                prop_assert!(belongs_to(&name, &prefix, &owner));
                prop_assert_eq!(SidecarToken::encode(&name), token);
            }
        }

        #[test]
        fn a_token_resolves_for_one_entry_only(
            one in ("[ab]{1,2}", prop::option::of("[ab]{1,2}"), "[ab]{1,2}"),
            other in ("[ab]{1,2}", prop::option::of("[ab]{1,2}"), "[ab]{1,2}"),
        ) {
            let [one, other] = [one, other].map(|(t, d, k)| entry_id(&t, d.as_deref(), &k));
            let (prefix, names) = named("isr", &one);
            let resolved = SidecarToken::resolve(&SidecarToken::encode(&names.sidecar), &prefix, &other);
            prop_assert_eq!(resolved.is_some(), one == other);
        }
    }
}
