//! The invalidations that this process made itself.

use crate::ConsistencyToken;
use parking_lot::Mutex;

/// What all calls present: whoever has invalidated sees that. Several may be under way at a time, and are answered in any order.
#[derive(Debug, Default)]
pub(super) struct Invalidations(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Of the latest one that was answered.
    token: Option<ConsistencyToken>,
    /// How many were answered.
    answers: u64,
}

/// An invalidation that is about to be asked for.
pub(super) struct Begun {
    /// How many were answered before.
    after: u64,
}

impl Invalidations {
    pub(super) fn begin(&self) -> Begun {
        Begun { after: self.0.lock().answers }
    }

    pub(super) fn answered(&self, begun: Begun, token: ConsistencyToken) {
        let mut known = self.0.lock();
        // One that began when all others were answered is later than they are, even where its position is not: then the log
        // has begun anew, and the token of the old one would be refused, and nothing be seen of this one.
        let is_after_all = begun.after == known.answers;
        if is_after_all || known.token.as_ref().is_none_or(|newest| token.is_after(newest)) {
            known.token = Some(token);
        }
        known.answers += 1;
    }

    pub(super) fn token(&self) -> Option<ConsistencyToken> {
        self.0.lock().token.clone()
    }

    /// A coordinator did not know it: its log is another one. Whatever was invalidated since is not concerned.
    pub(super) fn forget(&self, unknown: &ConsistencyToken) {
        let mut known = self.0.lock();
        if known.token.as_ref() == Some(unknown) {
            known.token = None;
        }
    }
}
