//! How a coordinator carries a decision out, as the engine does: it swaps, and asks again until the answer is true. One
//! swap at a time for each entry and coordinator.

use super::{
    Regeneration,
    asking::{Ask, Decided, Request, Said},
    occurrence::Happening,
    state::{State, Swap, Swapping},
};
use crate::{record::Record, scenery::Moment};
use leasehold_core::mutation::{self, Mutation};

impl Regeneration {
    /// A call has its turn.
    pub(super) fn begin(&self, state: &mut State, on: usize, ask: Ask, heard: bool) {
        let (record, is_strong) = match state.coordinators[on].view {
            Some(view) => (view, false),
            None => (read(state, on), true),
        };
        self.carry_on(state, on, ask, Known { record, is_strong, losses: 0 }, heard);
    }

    pub(super) fn undo(&self, state: &mut State, on: usize) {
        let Some(attempt) = state.coordinators[on].unheard.take() else { return };
        let ask = Ask {
            request: Request::Undo,
            worker: attempt.worker,
            generation: attempt.generation,
            moment: Moment::Early,
        };
        self.begin(state, on, ask, true);
    }

    /// The body of the page that this coordinator remembers is not there.
    pub(super) fn heal(&self, state: &mut State, on: usize) {
        let view = state.coordinators[on].view.flatten();
        let Some(by) = view.and_then(|record| record.page).map(|page| page.by) else { return };
        state.heals += 1;
        let ask = Ask {
            request: Request::Heal,
            worker: by.worker,
            generation: by.generation,
            moment: Moment::Early,
        };
        self.begin(state, on, ask, true);
    }

    fn carry_on(&self, state: &mut State, on: usize, ask: Ask, known: Known, heard: bool) {
        let Known { mut record, mut is_strong, losses } = known;
        state.coordinators[on].swapping = None;
        loop {
            match self.decide(state, on, ask, record.as_ref()) {
                Decided::Answer(said) if is_strong || said.may_be_remembered(ask.request) => {
                    return self.conclude(state, on, ask, said, heard);
                }
                Decided::Answer(_) => {
                    record = read(state, on);
                    is_strong = true;
                }
                Decided::Swap(next, said) => {
                    let expected = record.map(|record| record.version);
                    let swap = Swap { expected, next, request: ask.request, worker: ask.worker };
                    state.coordinators[on].swapping =
                        Some(Swapping { ask, swap, said, is_unsure: false, losses });
                    return;
                }
            }
        }
    }

    /// The swap arrives, and so does the store's answer.
    pub(super) fn land(&self, state: &mut State, on: usize, heard: bool) {
        let Some(Swapping { ask, swap, said, losses, .. }) = state.coordinators[on].swapping.take() else {
            return;
        };
        if self.apply(state, &swap) {
            state.coordinators[on].view = Some(state.stored);
            return self.conclude(state, on, ask, said, heard);
        }
        let record = read(state, on);
        let is_own = record.is_some_and(|record| record.version == swap.next.version);
        self.happened.note(if is_own { Happening::RefusedByItself } else { Happening::Refused });
        if mutation::is_active(Mutation::RefusedSwapIsARivalsWin) {
            return self.conclude(state, on, ask, lost_to_a_rival(ask.request), heard);
        }
        self.carry_on(state, on, ask, Known { record, is_strong: true, losses }, heard);
    }

    pub(super) fn land_unheard(&self, state: &mut State, on: usize) {
        let Some(swapping) = state.coordinators[on].swapping.clone() else { return };
        let is_applied = self.apply(state, &swapping.swap);
        self.happened.note(if is_applied { Happening::AppliedUnheard } else { Happening::RefusedUnheard });
        state.coordinators[on].swapping =
            Some(Swapping { is_unsure: true, losses: swapping.losses + 1, ..swapping });
    }

    /// What is on file decides what happened.
    pub(super) fn look(&self, state: &mut State, on: usize, heard: bool) {
        let Some(Swapping { ask, swap, said, losses, .. }) = state.coordinators[on].swapping.take() else {
            return;
        };
        let record = read(state, on);
        if record.is_some_and(|record| record.version == swap.next.version) {
            self.happened.note(Happening::FoundApplied);
            return self.conclude(state, on, ask, said, heard);
        }
        self.carry_on(state, on, ask, Known { record, is_strong: true, losses }, heard);
    }

    pub(super) fn surface(&self, state: &mut State, floating: usize) {
        let Some(swap) = state.floating[floating].take() else { return };
        if self.apply(state, &swap) {
            self.happened.note(Happening::AppliedLate);
        }
    }

    /// The store's part.
    fn apply(&self, state: &mut State, swap: &Swap) -> bool {
        if state.stored.map(|record| record.version) != swap.expected {
            return false;
        }
        self.judge_swap(state, swap);
        state.stored = Some(swap.next);
        true
    }
}

/// What a coordinator goes by.
struct Known {
    record: Option<Record>,
    /// Whether it was read after the call arrived.
    is_strong: bool,
    losses: u8,
}

/// The entry as it is now, which is remembered from then on.
fn read(state: &mut State, on: usize) -> Option<Record> {
    state.coordinators[on].view = Some(state.stored);
    state.stored
}

fn lost_to_a_rival(request: Request) -> Said {
    match request {
        Request::Acquire => Said::Held,
        Request::Renew => Said::Lost,
        Request::Release | Request::Undo => Said::NotHeld,
        Request::Commit => Said::Fenced,
        Request::Heal => Said::NotCurrent,
    }
}
