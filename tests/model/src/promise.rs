//! What must hold in every state, and what is asked for at least once.

use std::{
    fmt::Debug,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What every state is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    /// Commits are ordered by generation, and applied only under the latest grant, once each.
    OneWinner,
    /// No page that was ever current is gone, unless a newer one took its place.
    NothingLost,
    /// A page whose render began before an invalidation was called is not called fresh once that is acknowledged: by a
    /// coordinator that has read so far, as after a request with its token, at once; by any other within the bound.
    InvalidationWins,
    /// A page that a hard invalidation reached is not served, not even as stale.
    PurgedStaysPurged,
    /// *Fenced*, *superseded*, *lost* and *not held*: nothing of it was applied, or it is over; nor will it ever be.
    TurnedAwayForGood,
    /// *Committed*, *renewed*, *released*, *already yours*, *ended*: what is said has happened.
    SaidAndDone,
    /// A lease that its worker knows of is not taken back as unheard of.
    HeardIsKept,
    /// What a grant had seen is what its lease and its page have seen.
    SeenIsKept,
    /// A strict lookup answers with what the store held after it arrived.
    StrictIsLinearizable,
    /// A coordinator whose position is past an event has it in its view, or counts every page before it as invalidated.
    NoEventIsMissed,
    /// What was appended at a position is never replaced, also when it has expired.
    PositionsAreFinal,
    /// A request is appended once, as long as what was appended is remembered.
    OneEffect,
    /// What is acknowledged is in the log, where it is said to be.
    AcknowledgedIsAppended,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::OneWinner,
        Self::NothingLost,
        Self::InvalidationWins,
        Self::PurgedStaysPurged,
        Self::TurnedAwayForGood,
        Self::SaidAndDone,
        Self::HeardIsKept,
        Self::SeenIsKept,
        Self::StrictIsLinearizable,
        Self::NoEventIsMissed,
        Self::PositionsAreFinal,
        Self::OneEffect,
        Self::AcknowledgedIsAppended,
    ];
}

/// Promises that a state has broken.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Broken(u16);

impl Broken {
    /// Notes it.
    pub fn note(&mut self, promise: Promise) {
        self.0 |= 1 << promise as u16;
    }

    /// Whether this one is broken.
    pub fn has(self, promise: Promise) -> bool {
        self.0 & 1 << promise as u16 != 0
    }

    /// Whether none is.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl Debug for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(Promise::ALL.into_iter().filter(|promise| self.has(*promise))).finish()
    }
}

/// Something that happens on the way from one state to the next, in at most 64 variants.
pub trait Occurrence: Copy + Debug + 'static {
    /// All of them.
    const ALL: &'static [Self];
    /// Its place among them.
    fn index(self) -> usize;
}

/// What has happened in an exploration. No part of a state: it would multiply them.
pub struct Occurrences<O>(Arc<AtomicU64>, PhantomData<O>);

impl<O> Clone for Occurrences<O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), PhantomData)
    }
}

impl<O> Default for Occurrences<O> {
    fn default() -> Self {
        Self(Arc::default(), PhantomData)
    }
}

impl<O: Occurrence> Occurrences<O> {
    /// Notes it.
    pub fn note(&self, what: O) {
        let bit = 1 << what.index();
        // Mostly known already: threads that only read it do not wait for each other.
        if self.0.load(Ordering::Relaxed) & bit == 0 {
            self.0.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether it has happened.
    pub fn has(&self, what: O) -> bool {
        self.0.load(Ordering::Relaxed) & 1 << what.index() != 0
    }
}
