//! What the promises make of every swap, of every answer, and of what would be served.

use super::{
    Regeneration,
    asking::{Ask, Request, Said},
    occurrence::Happening,
    state::{State, Swap},
};
use crate::{
    digest::Memo,
    events::Events,
    promise::Promise,
    record::{Attempt, PageOf},
    scenery::{NOW, SCENERY},
};
use leasehold_core::freshness::{self, Absence, Freshness, Log};
use std::cell::RefCell;

impl Regeneration {
    pub(super) fn break_if(&self, is_broken: bool, state: &mut State, promise: Promise) {
        if is_broken && self.promises.contains(&promise) {
            state.broken.note(promise);
        }
    }

    /// A swap is about to be applied.
    pub(super) fn judge_swap(&self, state: &mut State, swap: &Swap) {
        let before = state.stored;
        let after = &swap.next;
        let page_before = before.and_then(|record| record.page);
        let own = |generation| Attempt { worker: swap.worker, generation };
        match swap.request {
            Request::Acquire => {
                let lease = after.lease.expect("an acquire leaves a lease");
                if before.and_then(|record| record.lease).is_none_or(|known| known.by != lease.by) {
                    let newest = state.granted.map_or(0, |(attempt, _)| attempt.generation);
                    self.break_if(lease.by.generation <= newest, state, Promise::OneWinner);
                    let is_repeated = state.workers[usize::from(swap.worker)].render.is_some();
                    if is_repeated {
                        self.happened.note(Happening::GrantedAgain);
                    }
                    state.granted = Some((lease.by, lease.seen));
                }
            }
            Request::Commit => {
                let page = after.page.expect("a commit leaves a page");
                let granted = state.granted.map(|(attempt, _)| attempt);
                let is_ordered = page.by.generation > state.committed;
                self.break_if(!is_ordered || granted != Some(page.by), state, Promise::OneWinner);
                let worker = &mut state.workers[usize::from(swap.worker)];
                let is_over = worker.is_committed || worker.is_released;
                worker.is_committed = true;
                self.break_if(is_over, state, Promise::OneWinner);
                state.committed = page.by.generation;
                self.break_if(
                    state.granted.is_some_and(|(_, seen)| seen != page.seen),
                    state,
                    Promise::SeenIsKept,
                );
            }
            Request::Release => {
                let worker = &mut state.workers[usize::from(swap.worker)];
                let is_over = std::mem::replace(&mut worker.is_released, true) || worker.is_committed;
                self.break_if(is_over, state, Promise::OneEffect);
            }
            Request::Undo => {
                let lease = before.and_then(|record| record.lease);
                let heard = state.workers[usize::from(swap.worker)].generation();
                let is_heard = lease.is_some_and(|lease| heard.map(own) == Some(lease.by));
                self.break_if(is_heard, state, Promise::HeardIsKept);
                self.happened.note(Happening::Undone);
            }
            Request::Renew | Request::Heal => {}
        }
        if swap.request != Request::Commit {
            // Marked as gone it stays what it was, so that a repeated commit is told the truth.
            let healed =
                page_before.map(|page| PageOf { gone: swap.request == Request::Heal || page.gone, ..page });
            self.break_if(after.page != healed, state, Promise::NothingLost);
        }
        if swap.request != Request::Acquire {
            let lease_before = before.and_then(|record| record.lease).map(|lease| lease.by);
            let is_revived = after.lease.is_some_and(|lease| Some(lease.by) != lease_before);
            self.break_if(is_revived, state, Promise::OneWinner);
        }
        if let Some((lease, (by, seen))) = after.lease.zip(state.granted) {
            self.break_if(lease.by == by && lease.seen != seen, state, Promise::SeenIsKept);
        }
    }

    /// A call has its answer.
    pub(super) fn conclude(&self, state: &mut State, on: usize, ask: Ask, said: Said, heard: bool) {
        let own = ask.attempt();
        let worker = state.workers[usize::from(ask.worker)].clone();
        let lease = state.stored.and_then(|record| record.lease).map(|lease| lease.by);
        let current = state.stored.and_then(|record| record.page).map_or(0, |page| page.by.generation);
        self.happened.note(Happening::of(said, ask.request, worker.is_committed));
        match said {
            Said::Granted(given) | Said::AlreadyYours(given) => {
                let is_granted = state.granted.is_some_and(|(by, seen)| by == given.by && seen == given.seen);
                let is_newer = state.granted.is_some_and(|(by, _)| by.generation > given.by.generation);
                self.break_if(!is_granted && !is_newer, state, Promise::SaidAndDone);
                let began = state.log.len();
                if heard {
                    // It is bound to what it hears of first, whatever else is told it later.
                    state.workers[usize::from(ask.worker)].render.get_or_insert((given.by.generation, began));
                } else if self.bounds.undoing && matches!(said, Said::Granted(_)) {
                    state.coordinators[on].unheard = Some(given.by);
                }
            }
            Said::Ended => {
                self.break_if(!worker.is_committed && !worker.is_released, state, Promise::SaidAndDone);
            }
            Said::Committed | Said::CommittedStale | Said::CommittedPurged => {
                self.break_if(!worker.is_committed, state, Promise::SaidAndDone);
                self.break_if(current < own.generation, state, Promise::NothingLost);
            }
            Said::Superseded(newer) => {
                let is_so = current >= newer && newer > own.generation;
                self.break_if(!is_so, state, Promise::TurnedAwayForGood);
            }
            Said::Fenced => {
                // As long as the lease is there, a repetition of the commit would be applied.
                self.break_if(worker.is_committed || lease == Some(own), state, Promise::TurnedAwayForGood);
            }
            Said::Lost => {
                let is_its_time_over = ask.moment == crate::scenery::Moment::HoldOver;
                self.break_if(lease == Some(own) && !is_its_time_over, state, Promise::TurnedAwayForGood);
            }
            Said::NotHeld => {
                // It is said too once another lease was released after it: held it is not, and never will be.
                let is_known =
                    state.stored.and_then(|record| record.released) == Some(own) || lease == Some(own);
                self.break_if(is_known && ask.request == Request::Release, state, Promise::TurnedAwayForGood);
            }
            Said::Renewed => {
                self.break_if(
                    state.granted.is_none_or(|(by, _)| by.generation < own.generation),
                    state,
                    Promise::SaidAndDone,
                );
            }
            Said::Released => {
                self.break_if(
                    !worker.is_released && ask.request == Request::Release,
                    state,
                    Promise::SaidAndDone,
                );
            }
            Said::Gone | Said::NotCurrent => {
                let page = state.stored.and_then(|record| record.page);
                let is_servable = page.is_some_and(|page| page.by == own && !page.gone);
                self.break_if(is_servable, state, Promise::SaidAndDone);
            }
            Said::Fresh | Said::Unverified | Said::Awaited => self.judge_ready(state, on, said),
            Said::Held | Said::BackingOff => {}
        }
    }

    /// A caller is told that there is nothing to render.
    fn judge_ready(&self, state: &mut State, on: usize, said: Said) {
        let coordinator = &state.coordinators[on];
        let page = coordinator.view.flatten().and_then(|record| record.page).expect("a page that is ready");
        let is_asked_for =
            |seq: &u8| *seq <= coordinator.position || said == Said::Fresh && *seq <= state.due;
        let is_broken = (1..=state.log.len()).filter(is_asked_for).any(|seq| page.is_older_than(seq));
        self.break_if(is_broken, state, Promise::InvalidationWins);
    }

    /// What each coordinator would answer to a lookup now, from memory.
    pub(super) fn judge_what_is_served(&self, state: &mut State) {
        for on in 0..state.coordinators.len() {
            let coordinator = &state.coordinators[on];
            let page = coordinator.view.flatten().and_then(|record| record.page);
            let Some(page) = page else { continue };
            let (position, is_verified) = (coordinator.position, coordinator.is_verified);
            let served = served(&state.log, position, is_verified, page);
            let known = |seq: u8| seq <= position;
            if served == Freshness::Fresh {
                self.happened.note(Happening::ServedFresh);
                let is_broken = (1..=state.log.len())
                    .any(|seq| page.is_older_than(seq) && (known(seq) || seq <= state.due));
                self.break_if(is_broken, state, Promise::InvalidationWins);
            } else if let Freshness::Stale(_) = served {
                self.happened.note(Happening::ServedStale);
            }
            let is_purged = state.log.hard().any(|seq| known(seq) && page.is_older_than(seq));
            if is_purged {
                self.happened.note(Happening::Purged);
            }
            let is_withheld = served == Freshness::Missing(Absence::Purged);
            self.break_if(is_purged && !is_withheld, state, Promise::PurgedStaysPurged);
        }
    }
}

fn served(log: &Events, position: u8, is_verified: bool, page: PageOf) -> Freshness {
    type Known = Memo<(Events, u8, bool, PageOf), Freshness>;
    thread_local! {
        // A page is judged anew in millions of states.
        static KNOWN: RefCell<Known> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        *known.entry((*log, position, is_verified, page)).or_insert_with(|| {
            log.viewed(position, |view| {
                let log = Log { view, verified: is_verified };
                let pointer = page.pointer();
                freshness::judge(&SCENERY.id, Some(&pointer), log, NOW, SCENERY.rules.retention)
            })
        })
    })
}
