//! An entry in a few bytes, so that millions of states fit: what the real one says, without names and times.

use crate::scenery::{GENERATION_BASE, MAX_HOLD, NOW, PAGE_LEFT, PAUSE, REVALIDATE, SCENERY, TTL};
use leasehold_core::{
    entry::{Backoff, Entry, Lease, Released},
    identity::{Generation, LeaseToken, Seq, Version},
    page::{BodyRef, Digest, Page, PageMeta, PageStatus, Pointer},
};

/// What a worker is bound to before it begins to render.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The worker, whose request id is its token.
    pub worker: u8,
    /// The generation it was given.
    pub generation: u8,
}

impl Attempt {
    pub(crate) fn token(self) -> LeaseToken {
        token(self.worker)
    }

    pub(crate) fn core_generation(self) -> Generation {
        Generation(GENERATION_BASE + u64::from(self.generation))
    }

    fn of(token: LeaseToken, generation: Generation) -> Self {
        Self { worker: small(token.bits()) - 1, generation: small_generation(generation) }
    }
}

pub(crate) fn token(worker: u8) -> LeaseToken {
    LeaseToken::from_bits(u128::from(worker) + 1)
}

pub(crate) fn small_generation(generation: Generation) -> u8 {
    small(generation.0 - GENERATION_BASE)
}

fn small<T: TryInto<u8>>(number: T) -> u8 {
    number.try_into().unwrap_or_else(|_| panic!("more than the model has room for"))
}

/// A stored entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// What swaps are conditional on.
    pub version: u8,
    /// Of the latest grant.
    pub generation: u8,
    /// What is current.
    pub page: Option<PageOf>,
    /// Who renders.
    pub lease: Option<LeaseOf>,
    /// Which lease was released last.
    pub released: Option<Attempt>,
    /// Whether the last render failed.
    pub failed: bool,
}

/// A pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageOf {
    /// By whom.
    pub by: Attempt,
    /// How many invalidations had been called when its render began: what a page does not show is invisible to the rules,
    /// so it is written in its digest.
    pub began: u8,
    /// What the rules go by instead.
    pub seen: u8,
    /// Whether its body was found missing.
    pub gone: bool,
}

impl PageOf {
    /// Whether the data it shows is older than this invalidation, counted from 1.
    pub fn is_older_than(&self, invalidation: u8) -> bool {
        self.began < invalidation
    }
}

/// A lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseOf {
    /// Whose.
    pub by: Attempt,
    /// The grantor's position.
    pub seen: u8,
    /// Whether a repetition was told of it.
    pub repeated: bool,
}

impl Record {
    pub(crate) fn of(entry: &Entry) -> Self {
        let Entry { version, generation, pointer, lease, released, backoff } = entry;
        Self {
            version: small(version.0),
            generation: small_generation(*generation),
            page: pointer.as_ref().map(PageOf::of),
            lease: lease.as_ref().map(LeaseOf::of),
            released: released.map(|released| Attempt::of(released.token, released.generation)),
            failed: backoff.is_some(),
        }
    }

    pub(crate) fn entry(&self) -> Entry {
        Entry {
            version: Version(self.version.into()),
            generation: Generation(GENERATION_BASE + u64::from(self.generation)),
            pointer: self.page.as_ref().map(PageOf::pointer),
            lease: self.lease.as_ref().map(LeaseOf::lease),
            released: self
                .released
                .map(|attempt| Released { generation: attempt.core_generation(), token: attempt.token() }),
            backoff: self.failed.then(|| Backoff {
                failures: 1,
                not_before: NOW.plus(PAUSE),
                failed_at: NOW,
                reason: String::new(),
            }),
        }
    }
}

impl PageOf {
    fn of(pointer: &Pointer) -> Self {
        Self {
            by: Attempt::of(pointer.token, pointer.generation),
            began: pointer.html.digest.0[0],
            seen: small(pointer.seen.0),
            gone: pointer.gone,
        }
    }

    pub(crate) fn pointer(&self) -> Pointer {
        let Page { html, sidecar, meta } = rendered(self.began);
        Pointer {
            generation: self.by.core_generation(),
            token: self.by.token(),
            html,
            sidecar,
            meta,
            generated_at: NOW.minus(REVALIDATE).plus(PAGE_LEFT),
            committed_at: NOW,
            seen: Seq(self.seen.into()),
            gone: self.gone,
        }
    }
}

impl LeaseOf {
    pub(crate) fn of(lease: &Lease) -> Self {
        Self {
            by: Attempt::of(lease.token, lease.generation),
            seen: small(lease.seen.0),
            repeated: lease.repeated,
        }
    }

    fn lease(&self) -> Lease {
        Lease {
            generation: self.by.core_generation(),
            token: self.by.token(),
            owner: SCENERY.owner.clone(),
            granted_at: NOW,
            expires_at: NOW.plus(TTL),
            ttl: TTL,
            hold_until: NOW.plus(MAX_HOLD),
            seen: Seq(self.seen.into()),
            repeated: self.repeated,
        }
    }
}

/// What a render that began after so many invalidations makes. Its tag is named at the commit, and never before.
pub(crate) fn rendered(began: u8) -> Page {
    let mut digest = [1; 32];
    digest[0] = began;
    Page {
        html: BodyRef { object: SCENERY.html.clone(), digest: Digest(digest), size_bytes: 1 },
        sidecar: None,
        meta: PageMeta {
            status: PageStatus::OK,
            content_type: String::new(),
            headers: Vec::new(),
            etag: String::new(),
            revalidate: Some(REVALIDATE),
            stale_while_revalidate: None,
            stale_if_error: None,
            tags: vec![SCENERY.tag.clone()],
            path: None,
            render_time: None,
        },
    }
}
