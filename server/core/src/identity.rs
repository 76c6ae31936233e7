//! Names that requests carry. A value of one of these types is valid by being one: the only way in is `parse`.

use sha2::{Digest, Sha256};
use std::{
    fmt,
    sync::{Arc, LazyLock},
};

/// The longest tenant or deployment name, in bytes of UTF-8.
pub const MAX_TENANT_BYTES: usize = 128;
/// The longest key, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 4096;
/// The longest page path, in bytes of UTF-8.
pub const MAX_PATH_BYTES: usize = 2048;
/// The longest tag, in bytes of UTF-8.
pub const MAX_TAG_BYTES: usize = 256;
/// The longest name of a principal, in bytes of UTF-8.
pub const MAX_PRINCIPAL_BYTES: usize = 2048;
/// The longest owner of a lease, in bytes of UTF-8.
pub const MAX_OWNER_BYTES: usize = 256;

/// Why a name is not one. `Display` completes the sentence "`field` …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing, or nothing but white space.
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
    /// A control character, which would break logs and line-based tools.
    #[error("contains the control character U+{0:04X}")]
    ControlCharacter(u32),
    /// White space at either end, which no two systems treat alike.
    #[error("begins or ends with white space")]
    Padded,
    /// A path that does not begin with a slash.
    #[error("must begin with '/'")]
    NotAbsolute,
}

fn check(text: &str, limit: usize) -> Result<(), InvalidName> {
    if text.trim().is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > limit {
        return Err(InvalidName::TooLong { actual: text.len(), limit });
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(InvalidName::ControlCharacter(control as u32));
    }
    if text.trim().len() != text.len() {
        return Err(InvalidName::Padded);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $limit:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts text that is not empty, within the limit, free of control characters and not padded.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                check(text, $limit)?;
                Ok(Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// Whose pages these are. At most [`MAX_TENANT_BYTES`].
    TenantId,
    MAX_TENANT_BYTES
);
name!(
    /// A release whose pages are kept apart from those of other releases. At most [`MAX_TENANT_BYTES`].
    DeploymentId,
    MAX_TENANT_BYTES
);
name!(
    /// The name of an entry within its tenant and deployment. At most [`MAX_KEY_BYTES`].
    EntryKey,
    MAX_KEY_BYTES
);
name!(
    /// A label under which pages are invalidated together, within one tenant. At most [`MAX_TAG_BYTES`].
    Tag,
    MAX_TAG_BYTES
);
name!(
    /// Who calls, as their token or certificate says: a SPIFFE id has at most [`MAX_PRINCIPAL_BYTES`].
    Principal,
    MAX_PRINCIPAL_BYTES
);
name!(
    /// Who asked for a lease, for people to read; it grants nothing. At most [`MAX_OWNER_BYTES`].
    Owner,
    MAX_OWNER_BYTES
);

impl TenantId {
    /// The tenant of requests that declare none.
    pub fn unnamed() -> Self {
        // Made once: every hit of theirs asks for it.
        static UNNAMED: LazyLock<TenantId> = LazyLock::new(|| TenantId("default".into()));
        UNNAMED.clone()
    }
}

/// A page's URL path, or a prefix of such: one leading slash, no trailing one, no empty segments. `/` is the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PagePath(Arc<str>);

impl PagePath {
    /// Accepts an absolute path of at most [`MAX_PATH_BYTES`]; repeated and trailing slashes are dropped.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        check(text, MAX_PATH_BYTES)?;
        if !text.starts_with('/') {
            return Err(InvalidName::NotAbsolute);
        }
        let mut path = String::with_capacity(text.len());
        for segment in text.split('/').filter(|segment| !segment.is_empty()) {
            path.push('/');
            path.push_str(segment);
        }
        if path.is_empty() {
            path.push('/');
        }
        // Stored, it would be refused when it is read: dropping slashes can lay bare what is padded.
        if path.ends_with(char::is_whitespace) {
            return Err(InvalidName::Padded);
        }
        Ok(Self(path.into()))
    }

    /// The normalised text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This path and every path above it by whole segments, up to and including `/`.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        let path = &*self.0;
        let inner = path.char_indices().skip(1).filter(|(_, c)| *c == '/').map(|(at, _)| &path[..at]);
        std::iter::once("/").chain(inner).chain((path != "/").then_some(path))
    }
}

impl fmt::Debug for PagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for PagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of an entry. Two entries are the same only if all three parts are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EntryId {
    /// Whose entry.
    pub tenant: TenantId,
    /// Of which release, where releases are kept apart.
    pub deployment: Option<DeploymentId>,
    /// Its name.
    pub key: EntryKey,
}

impl EntryId {
    /// SHA-256 over all parts, framed by their lengths so that no two identities run into each other. Safe to log.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        frame(&mut hash, self.tenant.as_str());
        match &self.deployment {
            None => hash.update([0]),
            Some(deployment) => {
                hash.update([1]);
                frame(&mut hash, deployment.as_str());
            }
        }
        frame(&mut hash, self.key.as_str());
        hash.finalize().into()
    }
}

fn frame(hash: &mut Sha256, part: &str) {
    hash.update((part.len() as u64).to_be_bytes());
    hash.update(part.as_bytes());
}

/// 128 random bits that name one attempt to render. The caller's request id of the acquire becomes the lease's token; it is
/// a capability, so its `Debug` shows nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseToken(u128);

impl LeaseToken {
    /// From 128 random bits.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseToken(…)")
    }
}

/// 128 random bits that name one mutating call, the same for every repetition of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u128);

/// What a swap of an entry is conditional on: random, fresh with every swap, whatever it changes. It orders nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u128);

/// The fence: raised by every grant. Commits of an entry are ordered by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one; `None` after the last there is, which only damage or another system can have written.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in the invalidation log. The empty log is at 0, its first event at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// Before every event.
    pub const START: Self = Self(0);

    /// The position after this one; `None` after the last there is, which only damage can have written.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(tenant: &str, deployment: Option<&str>, key: &str) -> EntryId {
        EntryId {
            tenant: TenantId::parse(tenant).unwrap(),
            deployment: deployment.map(|d| DeploymentId::parse(d).unwrap()),
            key: EntryKey::parse(key).unwrap(),
        }
    }

    #[test]
    fn prefixes_go_by_whole_segments() {
        let path = PagePath::parse("//blog/2026//post/").unwrap();
        assert_eq!(path.prefixes().collect::<Vec<_>>(), ["/", "/blog", "/blog/2026", "/blog/2026/post"]);
        assert_eq!(PagePath::parse("///").unwrap().prefixes().collect::<Vec<_>>(), ["/"]);
    }

    #[test]
    fn no_two_identities_share_a_digest_by_moving_text_between_their_parts() {
        let digests = [
            id("a", None, "bc"),
            id("ab", None, "c"),
            id("a", Some("b"), "c"),
            id("a", Some("bc"), "c"),
            id("a", Some("c"), "bc"),
            id("abc", None, "c"),
        ]
        .map(|id| id.digest());
        for (at, digest) in digests.iter().enumerate() {
            assert!(!digests[..at].contains(digest));
        }
    }

    #[test]
    fn names_reject_what_no_two_systems_treat_alike() {
        assert_eq!(TenantId::parse(" "), Err(InvalidName::Empty));
        assert_eq!(TenantId::parse("a\n"), Err(InvalidName::ControlCharacter(10)));
        assert_eq!(TenantId::parse(" a"), Err(InvalidName::Padded));
        assert_eq!(Tag::parse(&"x".repeat(257)), Err(InvalidName::TooLong { actual: 257, limit: 256 }));
        assert_eq!(PagePath::parse("a/b"), Err(InvalidName::NotAbsolute));
    }

    /// Stored as it is here, it is parsed again when it is read.
    #[test]
    fn a_path_is_refused_where_its_normal_form_would_be() {
        for text in ["/a ", "/a /", "/ /", "/a\u{3000}//"] {
            assert_eq!(PagePath::parse(text), Err(InvalidName::Padded), "{text:?}");
        }
        assert_eq!(PagePath::parse("/a / b/").unwrap().as_str(), "/a / b");
    }
}
