//! Lookups at one coordinator that share their reads, while pages are committed and invalidated elsewhere.
//!
//! A lookup waits for the log, then for the entry, then it is judged, by a verdict that is remembered where it was reached
//! at the log's present position. Reads show what the store holds when they are sent, and arrive later. Which reads answer
//! whom is the engine's, not a rule of the core: it is modelled as the engine has it. What changes meanwhile is changed by
//! the real transitions.

mod state;
mod truth;

pub use state::{Lookup, MAX_LOOKUPS, Phase, Queue, Remembered, State};

use crate::{
    events::Kind,
    promise::{Occurrence, Occurrences, Promise},
};
use leasehold_core::mutation::{self, Mutation};
use stateright::{Model, Property};

/// How much of everything there is. What is not given does not happen.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Strict lookups.
    pub strict: u8,
    /// Bounded lookups, which bring the token of what was acknowledged before.
    pub bounded: u8,
    /// Pages that are committed elsewhere.
    pub commits: u8,
    /// What may be invalidated.
    pub invalidations: Vec<Kind>,
    /// How often in all.
    pub events: u8,
}

/// The model.
#[derive(Clone)]
pub struct Reading {
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
    Shared,
    CameTooLateToShare,
    FromMemory,
    Scanned,
    VerdictRemembered,
    VerdictOutdated,
    Fresh,
    Stale,
    Missing,
}

impl Occurrence for Happening {
    const ALL: &'static [Self] = &[
        Self::Shared,
        Self::CameTooLateToShare,
        Self::FromMemory,
        Self::Scanned,
        Self::VerdictRemembered,
        Self::VerdictOutdated,
        Self::Fresh,
        Self::Stale,
        Self::Missing,
    ];

    fn index(self) -> usize {
        self as usize
    }
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A lookup arrives.
    Arrive {
        /// Which.
        lookup: u8,
    },
    /// A read of the log is sent, for those that wait or because it is time to.
    SendLog,
    /// It arrives.
    ReceiveLog,
    /// A read of the entry is sent.
    SendEntry,
    /// It arrives.
    ReceiveEntry,
    /// A lookup is judged: by the remembered verdict, or by a scan of the log.
    Judge {
        /// Which.
        lookup: u8,
    },
    /// The verdict that a lookup has scanned for is remembered, and it is answered.
    Remember {
        /// Which.
        lookup: u8,
    },
    /// Elsewhere, a lease is granted.
    Grant,
    /// Elsewhere, its page is committed.
    Commit,
    /// Elsewhere, data changes and is invalidated.
    Invalidate {
        /// How.
        kind: Kind,
    },
}

impl Reading {
    /// Within these bounds, judged by everything.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, promises: Promise::ALL.to_vec(), happened: Occurrences::default() }
    }

    fn is_strict(&self, lookup: u8) -> bool {
        lookup < self.bounds.strict
    }

    /// Lookups of one kind are alike: they arrive in their order.
    fn may_arrive(&self, state: &State, lookup: u8) -> bool {
        let is_first = lookup == 0 || lookup == self.bounds.strict;
        is_first || state.lookups[usize::from(lookup) - 1].phase != Phase::Outside
    }

    fn arrive(&self, state: &mut State, lookup: u8) {
        let page = state.stored.and_then(|record| record.page).map_or(0, |page| page.by.generation);
        let (log, position) = (state.log.len(), state.position);
        let at = &mut state.lookups[usize::from(lookup)];
        at.log = log;
        at.generation = page;
        if self.is_strict(lookup) || position < log {
            at.phase = Phase::Log;
            self.queue(&mut state.log_reads, lookup);
        } else {
            self.want_entry(state, lookup);
        }
    }

    /// A read serves those that came before it was sent.
    fn queue<T>(&self, queue: &mut Queue<T>, lookup: u8) {
        if queue.sent.is_some() {
            self.happened.note(Happening::CameTooLateToShare);
            if mutation::is_active(Mutation::StrictReadJoinsInFlight) {
                queue.served |= 1 << lookup;
                return;
            }
        } else if queue.waiting != 0 {
            self.happened.note(Happening::Shared);
        }
        queue.waiting |= 1 << lookup;
    }

    fn want_entry(&self, state: &mut State, lookup: u8) {
        let remembered = state.view.map(|view| view.record);
        let at = &mut state.lookups[usize::from(lookup)];
        match remembered {
            Some(record) if !self.is_strict(lookup) => {
                self.happened.note(Happening::FromMemory);
                at.phase = Phase::Judging { record };
            }
            _ => {
                at.phase = Phase::Entry;
                self.queue(&mut state.entry_reads, lookup);
            }
        }
    }

    fn receive_log(&self, state: &mut State) -> Option<()> {
        let head = state.log_reads.sent.take()?;
        state.position = state.position.max(head);
        let served = std::mem::take(&mut state.log_reads.served);
        for lookup in (0..self.lookups()).filter(|lookup| served & 1 << lookup != 0) {
            self.want_entry(state, lookup);
        }
        Some(())
    }

    fn receive_entry(&self, state: &mut State) -> Option<()> {
        let record = state.entry_reads.sent.take()?;
        let is_news = state.view.is_none_or(|view| view.record != record);
        if is_news {
            state.view = Some(Remembered { record, verdict: None });
        }
        let served = std::mem::take(&mut state.entry_reads.served);
        for lookup in (0..self.lookups()).filter(|lookup| served & 1 << lookup != 0) {
            state.lookups[usize::from(lookup)].phase = Phase::Judging { record };
        }
        Some(())
    }

    fn lookups(&self) -> u8 {
        self.bounds.strict + self.bounds.bounded
    }
}

impl Model for Reading {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (lookup, at) in (0..self.lookups()).zip(&state.lookups) {
            match at.phase {
                Phase::Outside if self.may_arrive(state, lookup) => actions.push(Action::Arrive { lookup }),
                Phase::Judging { .. } => actions.push(Action::Judge { lookup }),
                Phase::Scanned { .. } => actions.push(Action::Remember { lookup }),
                Phase::Outside | Phase::Log | Phase::Entry | Phase::Answered => {}
            }
        }
        match state.log_reads.sent {
            None => actions.push(Action::SendLog),
            Some(_) => actions.push(Action::ReceiveLog),
        }
        match state.entry_reads.sent {
            None if state.entry_reads.waiting != 0 => actions.push(Action::SendEntry),
            None => {}
            Some(_) => actions.push(Action::ReceiveEntry),
        }
        match state.render {
            None if state.granted < self.bounds.commits => actions.push(Action::Grant),
            None => {}
            Some(_) => actions.push(Action::Commit),
        }
        if state.log.len() < self.bounds.events {
            actions.extend(self.bounds.invalidations.iter().map(|&kind| Action::Invalidate { kind }));
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        if !before.broken.is_none() {
            return None;
        }
        let mut state = before.clone();
        match action {
            Action::Arrive { lookup } => self.arrive(&mut state, lookup),
            Action::SendLog => state.log_reads.send(state.log.len()),
            Action::ReceiveLog => self.receive_log(&mut state)?,
            Action::SendEntry => state.entry_reads.send(state.stored),
            Action::ReceiveEntry => self.receive_entry(&mut state)?,
            Action::Judge { lookup } => self.judge(&mut state, lookup),
            Action::Remember { lookup } => self.remember(&mut state, lookup),
            Action::Grant => state.grant_elsewhere(),
            Action::Commit => state.commit_elsewhere(),
            Action::Invalidate { kind } => state.log.push(kind),
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::explore::properties()
    }
}
