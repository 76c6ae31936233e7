//! What is current: the pointer, and the page that a commit proposes as the next one.

use crate::{
    identity::{Generation, LeaseToken, PagePath, Seq, Tag},
    object::ObjectName,
    time::Timestamp,
};
use std::time::Duration;

/// The most tags on one page.
pub const MAX_TAGS: usize = 64;
/// The most headers kept with one page.
pub const MAX_HEADERS: usize = 32;
/// The most bytes of all header names and values of one page.
pub const MAX_HEADER_BYTES: usize = 8192;
/// The longest of `revalidate`, `stale_while_revalidate` and `stale_if_error`: ten years.
pub const MAX_WINDOW: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// SHA-256 of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of a body that another system wrote, neither digest nor length are known. No body has this digest, so that none is
    /// ever taken for an unchanged one.
    pub const UNKNOWN: Self = Self([0; 32]);
}

/// A stored body and what is known of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyRef {
    /// The object that holds it. Immutable.
    pub object: ObjectName,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
}

/// An HTTP status that may be cached: 200 to 499. A status of 500 or more is a failed render, which is never committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageStatus(u16);

impl PageStatus {
    /// 200 OK.
    pub const OK: Self = Self(200);

    /// Accepts 200 to 499.
    pub const fn new(status: u16) -> Option<Self> {
        if status >= 200 && status < 500 { Some(Self(status)) } else { None }
    }

    /// The status code.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// What the renderer says of its page, apart from the bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageMeta {
    /// The response's status.
    pub status: PageStatus,
    /// The response's content type.
    pub content_type: String,
    /// Further response headers, names in lower case, in their order.
    pub headers: Vec<(String, String)>,
    /// The entity tag to serve; the engine makes one from the digest where the renderer gives none.
    pub etag: String,
    /// Fresh for so long after `generated_at`. `None`: until invalidated.
    pub revalidate: Option<Duration>,
    /// After that, servable while it is regenerated.
    pub stale_while_revalidate: Option<Duration>,
    /// After that, servable when regeneration fails.
    pub stale_if_error: Option<Duration>,
    /// Labels to invalidate it by. Sorted, without repetition.
    pub tags: Vec<Tag>,
    /// Its URL path, for invalidation by prefix.
    pub path: Option<PagePath>,
    /// How long the render took, as the worker says.
    pub render_time: Option<Duration>,
}

/// What is current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The generation of the lease that committed it.
    pub generation: Generation,
    /// The token of that lease. Together they let a repeated commit recognise its own earlier attempt.
    pub token: LeaseToken,
    /// The HTML.
    pub html: BodyRef,
    /// The hydration sidecar of the same generation.
    pub sidecar: Option<BodyRef>,
    /// What the renderer said of it.
    pub meta: PageMeta,
    /// When its lease was granted, which is before its render began. Of a foreign page, when it was rendered, by the clock
    /// of who rendered it.
    pub generated_at: Timestamp,
    /// When its commit was applied: from then on, what it replaced is superseded. For housekeeping; no rule of the
    /// service depends on it.
    pub committed_at: Timestamp,
    /// The position in the invalidation log when its lease was granted; [`Seq::START`] of a foreign page.
    pub seen: Seq,
    /// Its object was found missing: nothing to serve, but its generation and token still answer retries.
    pub gone: bool,
}

impl Pointer {
    /// Whether it is another system's, which knows nothing of leases and of the invalidation log.
    pub fn is_foreign(&self) -> bool {
        self.html.digest == Digest::UNKNOWN
    }

    /// When it stops being fresh by age; `None` if only an invalidation ends it.
    pub fn fresh_until(&self) -> Option<Timestamp> {
        self.meta.revalidate.map(|revalidate| self.generated_at.plus(revalidate))
    }

    /// The names of its objects.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectName> {
        std::iter::once(&self.html.object).chain(self.sidecar.as_ref().map(|sidecar| &sidecar.object))
    }
}

/// What a commit proposes: bodies that are stored already, and their metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The HTML.
    pub html: BodyRef,
    /// The hydration sidecar.
    pub sidecar: Option<BodyRef>,
    /// What the renderer says of it.
    pub meta: PageMeta,
}
