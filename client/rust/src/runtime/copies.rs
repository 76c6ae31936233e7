//! The last known pages of this process, for when the coordinator cannot be reached.

use super::request::{CREDENTIALS, TENANT_HEADERS};
use crate::{EntryRef, Page, clock};
use bytes::Bytes;
use leasehold_proto::v1 as pb;
use parking_lot::Mutex;
use prost::Message as _;
use quick_cache::{Weighter, sync::Cache};
use sha2::{Digest as _, Sha256};
use std::{fmt, time::Duration};
use tokio::time::Instant;

/// What an entry is known by in this process. Entries that the coordinator tells apart have different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LocalKey([u8; 32]);

impl LocalKey {
    /// A digest, so that no credentials of a request stay in memory.
    pub(super) fn of(entry: &EntryRef) -> Self {
        let mut wire = entry.to_wire().unwrap_or_default();
        if let Some(pb::entry_ref::Name::Request(request)) = &mut wire.name {
            // What the page does not depend on.
            let ignores_credentials = request.ignore_credentials;
            request.headers.retain(|header| {
                let name = header.name.trim().to_ascii_lowercase();
                let is_credential = CREDENTIALS.contains(&&*name);
                TENANT_HEADERS.contains(&&*name) || (is_credential && !ignores_credentials)
            });
            match request.cookie_variance() {
                pb::CookieVariance::None => request.cookies.clear(),
                pb::CookieVariance::Allowlist => {
                    // One too many is one more copy; one too few would be another visitor's page.
                    let blank = |c: char| c.is_whitespace() || c == '\u{feff}';
                    let listed = &request.cookie_allowlist;
                    let may_count =
                        |name: &str| listed.iter().any(|one| name.contains(one.trim_matches(blank)));
                    request.cookies.retain(|cookie| may_count(&cookie.name));
                }
                pb::CookieVariance::All | pb::CookieVariance::Unspecified => {}
            }
            // The order of names makes no difference to the page, that of one name's values does.
            request.params.sort_by(|a, b| a.name.cmp(&b.name));
            request.query.sort_by(|a, b| a.name.cmp(&b.name));
            request.headers.sort_by(|a, b| a.name.cmp(&b.name));
            request.cookies.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Self(Sha256::digest(wire.encode_to_vec()).into())
    }
}

/// A page that was current when the coordinator was last asked.
#[derive(Clone)]
pub(super) struct Copy {
    /// Without its body.
    pub(super) page: Page,
    pub(super) html: Bytes,
    /// When it was asked.
    seen: Instant,
}

/// Bounded by bytes, the most used ones kept.
pub(super) struct Copies {
    kept: Cache<LocalKey, Copy, ByBytes>,
    max_age: Duration,
    /// Raised by every invalidation of one's own: what was asked for before it may be what it is about. Held by whoever looks
    /// before it keeps something: else an older page could replace a newer one that is kept at the same moment, or
    /// what an invalidation has just forgotten.
    epoch: Mutex<u64>,
}

/// When something was asked for, as far as invalidations of one's own are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch(u64);

/// A body of up to so many bytes is copied: it may be a slice of a message, or of a buffer of its render's, that is many times as
/// large, and would stay in memory with it, uncounted. What comes with a larger one is a few messages at most.
const SMALL: usize = 64 << 10;

/// What a copy takes besides its text, about.
const OVERHEAD: u64 = 512;

#[derive(Clone)]
struct ByBytes;

impl Weighter<LocalKey, Copy> for ByBytes {
    fn weight(&self, _: &LocalKey, copy: &Copy) -> u64 {
        let metadata = &copy.page.metadata;
        let headers: usize = metadata.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let tags: usize = metadata.tags.iter().map(String::len).sum();
        OVERHEAD + (copy.html.len() + headers + tags) as u64
    }
}

impl Copies {
    pub(super) fn new(capacity_bytes: u64, max_age: Duration) -> Self {
        let estimate = usize::try_from(capacity_bytes / (16 << 10)).unwrap_or(usize::MAX).clamp(16, 1 << 20);
        Self { kept: Cache::with_weighter(estimate, capacity_bytes, ByBytes), max_age, epoch: Mutex::new(0) }
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch(*self.epoch.lock())
    }

    /// Keeps a page that was asked for at `since`, unless a newer one is kept.
    pub(super) fn keep(&self, key: LocalKey, page: &Page, html: &Bytes, since: Epoch) {
        let epoch = self.epoch.lock();
        let known = self.kept.get(&key);
        if Epoch(*epoch) != since || known.as_ref().is_some_and(|kept| kept.page.generation > page.generation)
        {
            return;
        }
        let html = match known {
            Some(kept) if kept.page.generation == page.generation => kept.html,
            _ if html.len() <= SMALL => Bytes::copy_from_slice(html),
            _ => html.clone(),
        };
        let page = Page { body: crate::PageBody::Omitted, ..page.clone() };
        self.kept.insert(key, Copy { page, html, seen: clock::now() });
    }

    /// The page, where it was current not too long ago.
    pub(super) fn get(&self, key: LocalKey) -> Option<Copy> {
        self.kept.get(&key).filter(|copy| copy.age() <= self.max_age)
    }

    /// The body, if it is that of this generation.
    pub(super) fn html(&self, key: LocalKey, generation: u64) -> Option<Bytes> {
        self.kept.get(&key).filter(|copy| copy.page.generation == generation).map(|copy| copy.html)
    }

    pub(super) fn generation(&self, key: LocalKey) -> Option<u64> {
        self.kept.get(&key).map(|copy| copy.page.generation)
    }

    /// The coordinator says that there is no page: it was purged, or forgotten.
    pub(super) fn forget(&self, key: LocalKey) {
        self.kept.remove(&key);
    }

    /// What an invalidation of one's own is about: this one, or any of them; and what is on its way.
    pub(super) fn invalidate(&self, key: Option<LocalKey>) {
        let mut epoch = self.epoch.lock();
        *epoch += 1;
        match key {
            Some(key) => self.forget(key),
            None => self.kept.clear(),
        }
    }
}

impl Copy {
    /// How long ago it was known to be current.
    pub(super) fn age(&self) -> Duration {
        clock::now().saturating_duration_since(self.seen)
    }
}

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = format_args!("{} bytes", self.html.len());
        f.debug_struct("Copy").field("page", &self.page).field("html", &size).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PageBody, PageMetadata};

    fn page(generation: u64) -> Page {
        Page {
            generation,
            metadata: PageMetadata::default(),
            generated_at: None,
            age: Duration::ZERO,
            body: PageBody::Omitted,
            size_bytes: 0,
            digest: Bytes::new(),
            html_object_name: None,
            sidecar_token: None,
            sidecar_object_name: None,
        }
    }

    fn copies() -> (Copies, LocalKey) {
        (Copies::new(1 << 24, Duration::from_secs(60)), LocalKey::of(&EntryRef::key("k")))
    }

    #[tokio::test]
    async fn an_older_page_does_not_replace_a_newer_one() {
        let (copies, key) = copies();
        for (generation, expected) in [(5, 5), (4, 5), (6, 6)] {
            copies.keep(key, &page(generation), &Bytes::from("x"), copies.epoch());
            assert_eq!(copies.generation(key), Some(expected));
        }
    }

    #[tokio::test]
    async fn what_was_asked_for_before_an_invalidation_is_not_kept_after_it() {
        let (copies, key) = copies();
        let before = copies.epoch();
        copies.invalidate(Some(LocalKey::of(&EntryRef::key("other"))));
        copies.keep(key, &page(5), &Bytes::from("x"), before);
        assert_eq!(copies.generation(key), None);
    }

    #[tokio::test]
    async fn a_small_body_does_not_keep_the_message_in_memory_that_it_came_with() {
        let (copies, key) = copies();
        let message = Bytes::from(vec![b'x'; 4 << 20]);
        for (length, is_copied) in [(1, true), (SMALL, true), (SMALL + 1, false)] {
            let html = message.slice(7..7 + length);
            copies.forget(key);
            copies.keep(key, &page(5), &html, copies.epoch());
            let kept = copies.get(key).unwrap().html;
            assert_eq!((kept == html, kept.as_ptr() != html.as_ptr()), (true, is_copied), "{length}");
            // Once, not at every request.
            copies.keep(key, &page(5), &html, copies.epoch());
            assert_eq!(copies.get(key).unwrap().html.as_ptr(), kept.as_ptr());
        }
    }
}
