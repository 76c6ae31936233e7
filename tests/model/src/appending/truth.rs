//! What the promises make of every append, of every acknowledgement, and of what would be served.

use super::{
    Happening, Log,
    state::{Append, Coordinator, State, Viewed, tag_of},
};
use crate::{
    digest::Memo,
    promise::Promise,
    record::{Attempt, PageOf},
    scenery::{NOW, SCENERY},
};
use leasehold_core::freshness::{self, Freshness, Staleness};
use std::cell::RefCell;

impl Log {
    fn break_if(&self, is_broken: bool, state: &mut State, promise: Promise) {
        if is_broken && self.promises.contains(&promise) {
            state.broken.note(promise);
        }
    }

    /// An append is about to be applied.
    pub(super) fn judge_append(&self, state: &mut State, append: &Append) {
        let is_taken = state.events[usize::from(append.seq()) - 1].is_some();
        self.break_if(is_taken, state, Promise::PositionsAreFinal);
        // What has expired may be appended again: nobody remembers it, and it costs a render at most.
        let kept = (1..=state.head).filter(|seq| state.is_kept(*seq));
        let known =
            kept.filter_map(|seq| state.events[usize::from(seq) - 1]).fold(0, |all, it| all | it.requests);
        self.break_if(known & append.event.requests != 0, state, Promise::OneEffect);
    }

    /// A caller is told where its invalidation is.
    pub(super) fn acknowledge(&self, state: &mut State, request: u8, seq: u8) {
        let is_there = seq > 0
            && state.events[usize::from(seq) - 1].is_some_and(|event| event.requests & 1 << request != 0);
        self.break_if(!is_there, state, Promise::AcknowledgedIsAppended);
        let at = &mut state.requests[usize::from(request)];
        at.acknowledged = at.acknowledged.max(Some(seq));
    }

    /// What each coordinator would answer for the youngest page that an acknowledged invalidation must reach.
    pub(super) fn judge_views(&self, state: &mut State) {
        for on in 0..state.coordinators.len() {
            for request in 0..self.bounds.requests {
                let at = &state.requests[usize::from(request)];
                let Some(seq) = at.acknowledged else { continue };
                let (called_at, is_due) = (at.called_at, at.is_due);
                let coordinator = &state.coordinators[on];
                let is_past = coordinator.position >= seq;
                let is_fresh = self.judge_page(coordinator, request, called_at);
                self.break_if(is_past && is_fresh, state, Promise::NoEventIsMissed);
                self.break_if(is_due && is_fresh, state, Promise::InvalidationWins);
            }
        }
    }

    /// Whoever is past a position has what was appended there in its view, or counts every page before it as invalidated.
    pub(super) fn judge_positions(&self, state: &mut State) {
        for on in 0..state.coordinators.len() {
            for seq in 1..=state.coordinators[on].position {
                let Some(event) = state.events[usize::from(seq) - 1] else { continue };
                let mut requests =
                    (0..self.bounds.requests).filter(|request| event.requests & 1 << request != 0);
                let coordinator = &state.coordinators[on];
                let is_missed = requests.any(|request| self.judge_page(coordinator, request, seq - 1));
                self.break_if(is_missed, state, Promise::NoEventIsMissed);
            }
        }
    }

    fn judge_page(&self, coordinator: &Coordinator, request: u8, seen: u8) -> bool {
        thread_local! {
            // A page is judged anew in millions of states.
            static KNOWN: RefCell<Memo<(Viewed, bool, u8, u8), Freshness>> = RefCell::default();
        }
        let known = (coordinator.what_is_viewed(), coordinator.is_verified, request, seen);
        let served = KNOWN.with_borrow_mut(|judged| {
            *judged.entry(known).or_insert_with(|| served(coordinator, request, seen))
        });
        self.happened.note(match served {
            Freshness::Fresh => Happening::Fresh,
            Freshness::Stale(Staleness::Unverified) => Happening::Unverified,
            Freshness::Stale(_) | Freshness::Missing(_) => Happening::Invalidated,
        });
        served == Freshness::Fresh
    }
}

/// What becomes of a page with the tag of this request, whose grantor had read so far.
fn served(coordinator: &Coordinator, request: u8, seen: u8) -> Freshness {
    let page = PageOf { by: Attempt { worker: 0, generation: 1 }, began: 0, seen, gone: false };
    let mut pointer = page.pointer();
    pointer.meta.tags = vec![tag_of(request)];
    coordinator.viewed(|view| {
        let log = freshness::Log { view, verified: coordinator.is_verified };
        freshness::judge(&SCENERY.id, Some(&pointer), log, NOW, SCENERY.rules.retention)
    })
}
