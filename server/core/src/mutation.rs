//! Deliberate faults, for tests of the tests: a model or a simulation that finds none of them proves nothing.
//!
//! Each is the service with one of its rules taken out. One at a time is active, in the whole process. Those of the rules
//! are applied here, each at the one line that keeps its rule; the others where the doc comment says: they ask
//! [`is_active`] too. Without the feature `mutations` that is a constant `false`, and a release has nothing of them.

/// One rule taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mutation {
    /// A commit is accepted under whatever lease is in the record. In [`crate::transition::standing`].
    CommitWithoutToken = 1,
    /// A commit is bound to the token of the lease alone: a late duplicate of the acquire, granted a second time, lets
    /// the old render in. In [`crate::transition::standing`].
    TokenWithoutGeneration,
    /// The page's `seen` is the position at its commit, not at its grant. In [`crate::transition::commit`].
    SeenTakenAtCommit,
    /// A repetition of an acquire moves its lease's `seen`. In [`crate::transition::acquire`].
    SeenRefreshedByAlreadyYours,
    /// A renewal moves its lease's `seen`. In [`crate::transition::renew`].
    SeenRefreshedByRenewal,
    /// A swap that is refused is taken as somebody else's win, without a look at the record that refused it: it may be the
    /// caller's own earlier attempt. Applied where decisions are carried out: by the engine, and by the model.
    RefusedSwapIsARivalsWin,
    /// *Fenced*, *superseded*, *lost* and *not held* are answered from a remembered entry too. Applied where decisions are
    /// carried out: by the engine, and by the model.
    FencedFromMemory,
    /// Swaps are conditional on the generation, which not every swap raises. Applied where decisions are carried out: by the
    /// engine, and by the model.
    GenerationAsVersion,
    /// A strict lookup joins a read that was sent before it arrived. Applied where reads are shared: by the engine, and by
    /// the model.
    StrictReadJoinsInFlight,
    /// An append is conditional on an empty slot, not on the head: slots are empty again once their events expired. Applied
    /// by the adapter of DynamoDB, and by the model's store.
    AppendOnEmptySlot,
    /// A verdict is remembered with the log's position when it is stored, not with that of the view it was reached by.
    /// Applied where something is waited for in between: by the engine where a body is loaded, and by the model.
    VerdictStampedAtEndOfLoad,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::CommitWithoutToken,
        Self::TokenWithoutGeneration,
        Self::SeenTakenAtCommit,
        Self::SeenRefreshedByAlreadyYours,
        Self::SeenRefreshedByRenewal,
        Self::RefusedSwapIsARivalsWin,
        Self::FencedFromMemory,
        Self::GenerationAsVersion,
        Self::StrictReadJoinsInFlight,
        Self::AppendOnEmptySlot,
        Self::VerdictStampedAtEndOfLoad,
    ];
}

/// Whether this rule is taken out.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
pub const fn is_active(_: Mutation) -> bool {
    false
}

#[cfg(feature = "mutations")]
pub use switch::{Only, is_active, only};

#[cfg(feature = "mutations")]
mod switch {
    use super::Mutation;
    use std::sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    };

    /// The active one; zero for none.
    static ACTIVE: AtomicU8 = AtomicU8::new(0);
    static TURN: Mutex<()> = Mutex::new(());

    /// Whether this rule is taken out.
    #[inline]
    pub fn is_active(mutation: Mutation) -> bool {
        ACTIVE.load(Ordering::Relaxed) == mutation as u8
    }

    /// Takes one rule out, or none, until the guard is dropped. Waits while another guard lives, also one of `None`: tests of
    /// one process run at the same time, and those that expect the rules to hold must not meet another's fault.
    pub fn only(mutation: Option<Mutation>) -> Only {
        // A test that failed under its guard has put things right when that was dropped.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        ACTIVE.store(mutation.map_or(0, |mutation| mutation as u8), Ordering::SeqCst);
        Only(turn)
    }

    /// While it lives, nothing else is active than what [`only`] was given.
    #[must_use]
    pub struct Only(#[expect(dead_code, reason = "held until dropped")] MutexGuard<'static, ()>);

    impl Drop for Only {
        fn drop(&mut self) {
            ACTIVE.store(0, Ordering::SeqCst);
        }
    }
}
