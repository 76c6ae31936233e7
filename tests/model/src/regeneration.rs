//! One entry: two coordinators that remember it and follow the log, workers that render it, and what is invalidated
//! meanwhile.
//!
//! A call comes to a coordinator any number of times, also long after its worker has heard an answer or has given up. The
//! coordinator asks the real transition on what it remembers, and swaps; the swap reaches the store later. It is applied or
//! refused, its answer is heard or lost, it is sent again by itself, given up and applied after that, and the coordinator
//! may start anew at any time. Data changes and its invalidation is appended in one step, which asks for more than calling,
//! appending and acknowledging it one after the other.

mod asking;
mod carrying;
mod occurrence;
mod state;
mod truth;

pub use asking::{Request, Said};
pub use occurrence::Happening;
pub use state::{Coordinator, MAX_FLOATING, MAX_WORKERS, State, Worker};

use crate::{
    events::Kind,
    promise::{Occurrences, Promise},
    scenery::Moment,
};
use asking::Ask;
use stateright::{Model, Property};

/// How much of everything there is. What is not given does not happen.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Workers, each with one attempt to render.
    pub workers: u8,
    /// How often each acquire arrives: once and its duplicates.
    pub acquires: u8,
    /// How often each commit arrives.
    pub commits: u8,
    /// How often each renewal arrives.
    pub renewals: u8,
    /// How often each release arrives: of a lease that is not needed, or of a failed render.
    pub releases: u8,
    /// Whether a release says that the render failed.
    pub failing: bool,
    /// Whether coordinators give back leases that nobody heard of.
    pub undoing: bool,
    /// How often a body is found missing.
    pub heals: u8,
    /// Whether workers wait for a page newer than one they know.
    pub waiting: bool,
    /// Whether answers to workers may get lost.
    pub deaf: bool,
    /// What may be invalidated.
    pub invalidations: Vec<Kind>,
    /// How often in all.
    pub events: u8,
    /// Swaps that were given up and may still arrive, at once.
    pub floating: u8,
    /// How many of the store's answers to one call may get lost.
    pub losses: u8,
    /// Whether coordinators start anew.
    pub restarts: bool,
    /// Whether the staleness bound may pass.
    pub bound: bool,
    /// At which moments an acquire comes.
    pub moments: Vec<Moment>,
}

/// The model.
#[derive(Clone)]
pub struct Regeneration {
    /// Within these.
    pub bounds: Bounds,
    /// What states are judged by: all, unless a test is after one of them.
    pub promises: Vec<Promise>,
    /// What has happened.
    pub happened: Occurrences<Happening>,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A worker's call arrives, for the first time or again.
    Arrive {
        /// What it asks.
        request: Request,
        /// Whose it is.
        worker: u8,
        /// At which coordinator.
        on: u8,
        /// When.
        moment: Moment,
        /// Whether its worker hears the answer, if there is one at once.
        heard: bool,
    },
    /// The swap that a coordinator has sent reaches the store, for the first time or again, and its answer comes back.
    Land {
        /// Whose.
        on: u8,
        /// Whether the worker hears what comes of it.
        heard: bool,
    },
    /// The same, but the store's answer is lost.
    LandUnheard {
        /// Whose.
        on: u8,
    },
    /// A coordinator gives up on its swap, which is still under way.
    GiveUp {
        /// Which.
        on: u8,
    },
    /// A coordinator that does not know what came of its swap reads the entry.
    Look {
        /// Which.
        on: u8,
        /// Whether the worker hears what comes of it.
        heard: bool,
    },
    /// A swap that was given up reaches the store.
    Surface {
        /// Which of them.
        floating: u8,
    },
    /// Data changes, and is invalidated.
    Invalidate {
        /// By which coordinator.
        on: u8,
        /// How.
        kind: Kind,
    },
    /// A coordinator reads the log to its head.
    CatchUp {
        /// Which.
        on: u8,
    },
    /// A coordinator reads the entry, as for a lookup.
    Refresh {
        /// Which.
        on: u8,
    },
    /// A coordinator takes back a lease whose caller has gone away.
    Undo {
        /// Which.
        on: u8,
    },
    /// A coordinator finds the body of the page that it remembers missing.
    Heal {
        /// Which.
        on: u8,
    },
    /// A coordinator starts anew: it remembers nothing, and reads the log first.
    Restart {
        /// Which.
        on: u8,
    },
    /// Time passes, more than the staleness bound.
    Wait,
}

impl Regeneration {
    /// Within these bounds, judged by everything.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, promises: Promise::ALL.to_vec(), happened: Occurrences::default() }
    }

    fn arrivals(&self, state: &State, on: u8, actions: &mut Vec<Action>) {
        let hearings: &[bool] = if self.bounds.deaf { &[true, false] } else { &[true] };
        for (worker, at) in (0..self.bounds.workers).zip(&state.workers) {
            // All workers are alike: they begin in their order.
            let may_begin = worker == 0 || state.workers[usize::from(worker) - 1].acquires > 0;
            if may_begin && at.acquires < self.bounds.acquires {
                for &moment in &self.bounds.moments {
                    for &heard in hearings {
                        actions.push(Action::Arrive { request: Request::Acquire, worker, on, moment, heard });
                    }
                }
            }
            if at.render.is_none() {
                continue;
            }
            let mut arrive = |request, moment| {
                actions.push(Action::Arrive { request, worker, on, moment, heard: true });
            };
            // In time, and when everything is over that can be: no expiry is asked for.
            for moment in [Moment::Early, Moment::HoldOver] {
                if at.commits < self.bounds.commits {
                    arrive(Request::Commit, moment);
                }
                if at.releases < self.bounds.releases {
                    arrive(Request::Release, moment);
                }
            }
            if at.renewals < self.bounds.renewals {
                arrive(Request::Renew, Moment::Early);
                arrive(Request::Renew, Moment::PageOld);
                arrive(Request::Renew, Moment::HoldOver);
            }
        }
    }
}

impl Model for Regeneration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let bounds = &self.bounds;
        for (on, coordinator) in (0..).zip(&state.coordinators) {
            match &coordinator.swapping {
                None => {
                    self.arrivals(state, on, actions);
                    let page = coordinator.view.flatten().and_then(|record| record.page);
                    if page.is_some_and(|page| !page.gone) && state.heals < bounds.heals {
                        actions.push(Action::Heal { on });
                    }
                    if coordinator.unheard.is_some() {
                        actions.push(Action::Undo { on });
                    }
                }
                Some(swapping) => {
                    let hearings: &[bool] = if bounds.deaf && swapping.ask.request == Request::Acquire {
                        &[true, false]
                    } else {
                        &[true]
                    };
                    for &heard in hearings {
                        actions.push(Action::Land { on, heard });
                        if swapping.is_unsure {
                            actions.push(Action::Look { on, heard });
                        }
                    }
                    if !swapping.is_unsure && swapping.losses < bounds.losses {
                        actions.push(Action::LandUnheard { on });
                        if state.floats() < bounds.floating {
                            actions.push(Action::GiveUp { on });
                        }
                    }
                }
            }
            if state.log.len() < bounds.events {
                actions.extend(bounds.invalidations.iter().map(|&kind| Action::Invalidate { on, kind }));
            }
            if coordinator.position < state.log.len() || !coordinator.is_verified {
                actions.push(Action::CatchUp { on });
            }
            if coordinator.view != Some(state.stored) {
                actions.push(Action::Refresh { on });
            }
            if bounds.restarts {
                actions.push(Action::Restart { on });
            }
        }
        actions.extend((0..state.floats()).map(|floating| Action::Surface { floating }));
        if bounds.bound && (state.due < state.log.len() || state.coordinators.iter().any(|it| it.is_verified))
        {
            actions.push(Action::Wait);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        if !before.broken.is_none() {
            return None;
        }
        let mut state = before.clone();
        match action {
            Action::Arrive { request, worker, on, moment, heard } => {
                let at = &mut state.workers[usize::from(worker)];
                at.count_arrival(request);
                let generation = at.generation().filter(|_| request != Request::Acquire).unwrap_or_default();
                self.begin(&mut state, on.into(), Ask { request, worker, generation, moment }, heard);
            }
            Action::Land { on, heard } => self.land(&mut state, on.into(), heard),
            Action::LandUnheard { on } => self.land_unheard(&mut state, on.into()),
            Action::GiveUp { on } => state.give_up(on.into()),
            Action::Look { on, heard } => self.look(&mut state, on.into(), heard),
            Action::Surface { floating } => self.surface(&mut state, floating.into()),
            Action::Invalidate { on, kind } => {
                state.log.push(kind);
                state.catch_up(on.into());
            }
            Action::CatchUp { on } => state.catch_up(on.into()),
            Action::Refresh { on } => state.coordinators[usize::from(on)].view = Some(state.stored),
            Action::Undo { on } => self.undo(&mut state, on.into()),
            Action::Heal { on } => self.heal(&mut state, on.into()),
            Action::Restart { on } => state.restart(on.into(), self.bounds.floating),
            Action::Wait => {
                state.due = state.log.len();
                state.coordinators.iter_mut().for_each(|coordinator| coordinator.is_verified = false);
            }
        }
        self.judge_what_is_served(&mut state);
        state.settle();
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::explore::properties()
    }
}
