//! Which pages came out as one request's only, or as none that can be kept: what Varnish calls hit-for-miss.
//!
//! Such a page is never committed. Were each of its requests to take the lease, they would be rendered one after the other in the
//! whole fleet, and those who wait would wait for a page that never comes. So the requests after it are rendered at once, without
//! the lease, until one comes out for everybody: that one cannot be committed either, but the next one takes the usual way.
//!
//! Where most renders of a page are for everybody and a few are not, such as the first of each visitor, that is also how long the
//! page goes unprotected: for one render, and not for the whole span.
//!
//! Likewise of a page that the coordinator refuses, such as one of too many tags. That a render of it is for everybody shows nothing
//! then: only a commit does, and so it lasts for the whole span.

use super::copies::LocalKey;
use crate::clock;
use parking_lot::Mutex;
use quick_cache::unsync::Cache;
use std::{fmt, time::Duration};
use tokio::{sync::Notify, time::Instant};

/// Entries beyond so many are forgotten, the least used ones first: they take the usual way.
const ENTRIES: usize = 4096;

/// Remembers them for a while.
pub(super) struct Uncached {
    span: Duration,
    known: Mutex<Cache<LocalKey, Known>>,
    /// Told when there is one more.
    more: Notify,
}

#[derive(Clone, Copy)]
struct Known {
    until: Instant,
    /// Whether it was for everybody, and refused.
    is_refused: bool,
    /// Somebody takes the usual way, to find out.
    is_tried: bool,
}

/// How a request is to be rendered.
pub(super) enum Way<'a> {
    /// Under the lease.
    Usual,
    /// Under the lease, and while it lasts the others go on without it: nobody waits for what may be no page.
    FindingOut(#[expect(dead_code, reason = "it counts for as long as it is kept")] Finding<'a>),
    /// Without.
    AtOnce,
}

/// The turn to find out: another's when it is dropped.
pub(super) struct Finding<'a> {
    uncached: &'a Uncached,
    key: LocalKey,
}

impl Uncached {
    /// For so long after the last one; zero: not at all.
    pub(super) fn new(span: Duration) -> Self {
        Self { span, known: Mutex::new(Cache::new(ENTRIES)), more: Notify::new() }
    }

    pub(super) fn way(&self, key: LocalKey) -> Way<'_> {
        let now = clock::now();
        let mut all = self.known.lock();
        let Some(known) = all.get(&key).copied() else { return Way::Usual };
        if now < known.until || known.is_tried {
            return Way::AtOnce;
        }
        if now >= clock::later(known.until, self.span) {
            // Too long ago for a crowd of requests to be rendered all at once.
            all.remove(&key);
            return Way::Usual;
        }
        all.insert(key, Known { is_tried: true, ..known });
        Way::FindingOut(Finding { uncached: self, key })
    }

    pub(super) fn is_known(&self, key: LocalKey) -> bool {
        let now = clock::now();
        self.known.lock().get(&key).is_some_and(|known| now < known.until)
    }

    /// A render came out as one request's only.
    pub(super) fn remember(&self, key: LocalKey) {
        self.insert(key, false);
    }

    /// A page was refused that was for everybody.
    pub(super) fn remember_refused(&self, key: LocalKey) {
        self.insert(key, true);
    }

    fn insert(&self, key: LocalKey, is_refused: bool) {
        if self.span.is_zero() {
            return;
        }
        let until = clock::later(clock::now(), self.span);
        self.known.lock().insert(key, Known { until, is_refused, is_tried: false });
        self.more.notify_waiters();
    }

    /// A render came out for everybody, and may be kept unless such a one was refused before.
    pub(super) fn forget_unless_refused(&self, key: LocalKey) {
        let mut all = self.known.lock();
        if all.get(&key).is_some_and(|known| !known.is_refused) {
            all.remove(&key);
        }
    }

    /// There is a page for everybody, or it may be that there is.
    pub(super) fn forget(&self, key: LocalKey) {
        self.known.lock().remove(&key);
    }

    pub(super) fn forget_all(&self) {
        self.known.lock().clear();
    }

    /// Waits until it is known of an entry.
    pub(super) async fn until_known(&self, key: LocalKey) {
        loop {
            let mut more = std::pin::pin!(self.more.notified());
            // Before the look: what comes after it, wakes.
            more.as_mut().enable();
            if self.is_known(key) {
                return;
            }
            more.await;
        }
    }
}

impl fmt::Debug for Uncached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uncached").field("span", &self.span).finish_non_exhaustive()
    }
}

impl Drop for Finding<'_> {
    fn drop(&mut self) {
        let mut all = self.uncached.known.lock();
        if let Some(known) = all.get(&self.key).copied().filter(|known| known.is_tried) {
            all.insert(self.key, Known { is_tried: false, ..known });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EntryRef;

    #[tokio::test(start_paused = true)]
    async fn is_remembered_of_a_limited_number_of_entries() {
        let uncached = Uncached::new(Duration::from_secs(10));
        let keys: Vec<_> =
            (0..ENTRIES * 2).map(|number| LocalKey::of(&EntryRef::key(format!("{number}")))).collect();
        keys.iter().for_each(|key| uncached.remember(*key));
        let known = keys.iter().filter(|key| uncached.is_known(**key)).count();
        assert!((1..=ENTRIES).contains(&known), "{known}");
    }
}
