//! The invalidation log: two coordinators that append to it and follow it, while its events expire.
//!
//! A request comes to a coordinator any number of times. What has arrived is appended together; the append reaches the store
//! later, its answer may get lost, it may be sent again, or given up and applied after that. A read tells the head first and
//! the events later. Events expire at any moment, the oldest first: in a real log an append is never so late, but the promise
//! is not to depend on that.

mod reader;
mod state;
mod truth;

pub use state::{Append, Appending, Coordinator, Event, MAX_POSITIONS, MAX_REQUESTS, Read, Request, State};

use crate::promise::{Occurrence, Occurrences, Promise};
use leasehold_core::mutation::{self, Mutation};
use stateright::{Model, Property};

/// How much of everything there is. What is not given does not happen.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Invalidations, each of a tag of its own.
    pub requests: u8,
    /// How many of them arrive once more, whichever.
    pub repeats: u8,
    /// How many of the store's answers to the appends of one coordinator may get lost.
    pub losses: u8,
    /// Appends that were given up and may still arrive, at once.
    pub floating: u8,
    /// Whether events expire.
    pub expiring: bool,
    /// Whether coordinators start anew.
    pub restarts: bool,
    /// Whether the staleness bound may pass.
    pub bound: bool,
}

/// The model.
#[derive(Clone)]
pub struct Log {
    /// Within these.
    pub bounds: Bounds,
    /// What states are judged by: all, unless a test is after one of them.
    pub promises: Vec<Promise>,
    /// What has happened.
    pub happened: Occurrences<Happening>,
}

/// What has to happen for an exploration to show anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they say it themselves")]
pub enum Happening {
    Appended,
    AppendedTogether,
    HeadMoved,
    MovedByItself,
    AppliedUnheard,
    AppliedLate,
    FoundInTheView,
    OwnEventFolded,
    EventFolded,
    ExpiredBeforeItWasRead,
    Forgotten,
    Fresh,
    Unverified,
    Invalidated,
}

impl Occurrence for Happening {
    const ALL: &'static [Self] = &[
        Self::Appended,
        Self::AppendedTogether,
        Self::HeadMoved,
        Self::MovedByItself,
        Self::AppliedUnheard,
        Self::AppliedLate,
        Self::FoundInTheView,
        Self::OwnEventFolded,
        Self::EventFolded,
        Self::ExpiredBeforeItWasRead,
        Self::Forgotten,
        Self::Fresh,
        Self::Unverified,
        Self::Invalidated,
    ];

    fn index(self) -> usize {
        self as usize
    }
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A caller's request arrives, for the first time or again.
    Arrive {
        /// Which.
        request: u8,
        /// At which coordinator.
        on: u8,
    },
    /// A coordinator answers what it finds in its view, and proposes the rest as one event.
    Propose {
        /// Which.
        on: u8,
    },
    /// The append that a coordinator has sent reaches the store, for the first time or again, and its answer comes back.
    Land {
        /// Whose.
        on: u8,
    },
    /// The same, but the store's answer is lost.
    LandUnheard {
        /// Whose.
        on: u8,
    },
    /// A coordinator gives up on its append, which is still under way.
    GiveUp {
        /// Which.
        on: u8,
    },
    /// An append that was given up reaches the store.
    Surface {
        /// Which of them.
        floating: u8,
    },
    /// A read of the log is sent, and shows the head.
    ReadHead {
        /// Of which coordinator.
        on: u8,
        /// Whether it is the appender's, to learn what came of its append, or the follower's.
        is_appenders: bool,
    },
    /// The same read fetches the events up to the head, and has arrived.
    ReadEvents {
        /// Of which coordinator.
        on: u8,
        /// Whether it is the appender's.
        is_appenders: bool,
    },
    /// The oldest event expires, and the store deletes it.
    Expire,
    /// A coordinator forgets its oldest event, which has expired.
    Forget {
        /// Which.
        on: u8,
    },
    /// A coordinator starts anew, and reads the log first.
    Restart {
        /// Which.
        on: u8,
    },
    /// Time passes, more than the staleness bound.
    Wait,
}

impl Log {
    /// Within these bounds, judged by everything.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, promises: Promise::ALL.to_vec(), happened: Occurrences::default() }
    }

    fn of_coordinator(&self, state: &State, on: u8, actions: &mut Vec<Action>) {
        let bounds = &self.bounds;
        let coordinator = &state.coordinators[usize::from(on)];
        for (request, at) in (0..bounds.requests).zip(&state.requests) {
            // All requests are alike: they begin in their order.
            let may_begin = request == 0 || state.requests[usize::from(request) - 1].arrivals > 0;
            if may_begin && (at.arrivals == 0 || state.repeats() < bounds.repeats) {
                actions.push(Action::Arrive { request, on });
            }
        }
        match &coordinator.appending {
            None if coordinator.waiting != 0 => actions.push(Action::Propose { on }),
            None => {}
            Some(appending) => {
                // Also again, by itself, where its answer was lost.
                if !appending.is_refused {
                    actions.push(Action::Land { on });
                }
                if !appending.is_refused && !appending.is_unsure && coordinator.losses < bounds.losses {
                    actions.push(Action::LandUnheard { on });
                    if state.floating.iter().flatten().count() < usize::from(bounds.floating) {
                        actions.push(Action::GiveUp { on });
                    }
                }
            }
        }
        let must_read = coordinator
            .appending
            .as_ref()
            .is_some_and(|appending| appending.is_unsure || appending.is_refused);
        for (is_appenders, read) in [(false, &coordinator.tail), (true, &coordinator.check)] {
            match read {
                Some(_) => actions.push(Action::ReadEvents { on, is_appenders }),
                None if is_appenders && !must_read => {}
                None => actions.push(Action::ReadHead { on, is_appenders }),
            }
        }
        if coordinator.oldest_retained().is_some_and(|seq| !state.is_kept(seq)) {
            actions.push(Action::Forget { on });
        }
        if bounds.restarts {
            actions.push(Action::Restart { on });
        }
    }

    /// What came of an append is not known, or somebody else was first.
    fn stay_unsure(&self, state: &mut State, on: usize) {
        let coordinator = &mut state.coordinators[on];
        if let Some(appending) = &mut coordinator.appending {
            appending.is_unsure = true;
            coordinator.losses += 1;
        }
    }

    fn land(&self, state: &mut State, on: usize) {
        let Some(appending) = state.coordinators[on].appending.clone() else { return };
        let is_own = state.head_event == Some(appending.append.event.id);
        if self.apply(state, &appending.append) {
            self.happened.note(Happening::Appended);
            let coordinator = &mut state.coordinators[on];
            coordinator.fold(appending.append.seq(), appending.append.event);
            coordinator.position = coordinator.position.max(appending.append.seq());
            coordinator.is_verified = true;
            self.answer_known(state, on);
            state.coordinators[on].appending = None;
            return;
        }
        self.happened.note(if is_own { Happening::MovedByItself } else { Happening::HeadMoved });
        state.coordinators[on].appending = Some(Appending { is_refused: true, ..appending });
    }

    /// The store's part.
    fn apply(&self, state: &mut State, append: &Append) -> bool {
        let seq = append.seq();
        let may = if mutation::is_active(Mutation::AppendOnEmptySlot) {
            !state.is_kept(seq)
        } else {
            state.head == append.expected
        };
        if may {
            self.judge_append(state, append);
            state.events[usize::from(seq) - 1] = Some(append.event);
            state.deleted &= !(1 << seq);
            if seq > state.head {
                state.head = seq;
                state.head_event = Some(append.event.id);
            }
        }
        may
    }

    /// Answers those that are in the log, by this coordinator's hand or another's.
    fn answer_known(&self, state: &mut State, on: usize) {
        for request in 0..self.bounds.requests {
            let coordinator = &state.coordinators[on];
            if coordinator.waiting & 1 << request == 0 {
                continue;
            }
            if let Some(seq) = coordinator.seq_of(request) {
                self.happened.note(Happening::FoundInTheView);
                self.acknowledge(state, request, seq);
                state.coordinators[on].waiting &= !(1 << request);
            }
        }
    }

    fn propose(&self, state: &mut State, on: usize) {
        self.answer_known(state, on);
        let id = state.next_event_id();
        let coordinator = &mut state.coordinators[on];
        if coordinator.waiting == 0 {
            return;
        }
        if coordinator.waiting.count_ones() > 1 {
            self.happened.note(Happening::AppendedTogether);
        }
        let event = Event { id, requests: coordinator.waiting };
        let append = Append { expected: coordinator.position, event };
        coordinator.appending = Some(Appending { append, is_unsure: false, is_refused: false });
    }
}

impl Model for Log {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        (0..2).for_each(|on| self.of_coordinator(state, on, actions));
        let floats = state.floating.iter().flatten().count() as u8;
        actions.extend((0..floats).map(|floating| Action::Surface { floating }));
        if self.bounds.expiring && (1..=state.head).any(|seq| state.is_kept(seq)) {
            actions.push(Action::Expire);
        }
        if self.bounds.bound {
            actions.push(Action::Wait);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        if !before.broken.is_none() {
            return None;
        }
        let mut state = before.clone();
        match action {
            Action::Arrive { request, on } => state.arrive(request, on.into()),
            Action::Propose { on } => self.propose(&mut state, on.into()),
            Action::Land { on } => self.land(&mut state, on.into()),
            Action::LandUnheard { on } => {
                let append = state.coordinators[usize::from(on)].appending.as_ref()?.append;
                if self.apply(&mut state, &append) {
                    self.happened.note(Happening::AppliedUnheard);
                }
                self.stay_unsure(&mut state, on.into());
            }
            Action::GiveUp { on } => {
                let append = state.coordinators[usize::from(on)].appending.as_ref()?.append;
                state.float(append);
                self.stay_unsure(&mut state, on.into());
            }
            Action::Surface { floating } => {
                let append = state.floating[usize::from(floating)].take()?;
                if self.apply(&mut state, &append) {
                    self.happened.note(Happening::AppliedLate);
                }
            }
            Action::ReadHead { on, is_appenders } => self.read_head(&mut state, on.into(), is_appenders),
            Action::ReadEvents { on, is_appenders } => self.read_events(&mut state, on.into(), is_appenders),
            Action::Expire => state.expire_oldest(),
            Action::Forget { on } => {
                state.coordinators[usize::from(on)].forgotten += 1;
                self.happened.note(Happening::Forgotten);
            }
            Action::Restart { on } => self.restart(&mut state, on.into()),
            Action::Wait => state.wait(),
        }
        self.judge_views(&mut state);
        self.judge_positions(&mut state);
        state.settle();
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::explore::properties()
    }
}
