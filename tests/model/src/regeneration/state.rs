//! Where everything stands.

use super::asking::{Ask, Request, Said};
use crate::{
    digest::digest,
    events::Events,
    explore::Judged,
    promise::Broken,
    record::{Attempt, Record},
};
use leasehold_core::mutation::{self, Mutation};
use std::hash::{Hash, Hasher};

/// So many workers at most.
pub const MAX_WORKERS: usize = 3;
/// So many swaps that were given up, at most.
pub const MAX_FLOATING: usize = 2;

/// Everything that matters for what may happen next, and a few facts about the past that promises are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The store's record.
    pub stored: Option<Record>,
    /// What was invalidated.
    pub log: Events,
    /// The coordinators.
    pub coordinators: [Coordinator; 2],
    /// The workers.
    pub workers: [Worker; MAX_WORKERS],
    /// Swaps that nobody waits for any more.
    pub floating: [Option<Swap>; MAX_FLOATING],
    /// So many invalidations were acknowledged longer ago than the staleness bound.
    pub due: u8,
    /// How often a body was found missing.
    pub heals: u8,
    /// Fact: the latest lease that was granted, and what it had seen.
    pub granted: Option<(Attempt, u8)>,
    /// Fact: the newest generation that was ever current.
    pub committed: u8,
    /// What has gone wrong.
    pub broken: Broken,
}

/// One coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    /// What it remembers of the entry: nothing, that there is none, or the record.
    pub view: Option<Option<Record>>,
    /// How far it has read the log.
    pub position: u8,
    /// Whether it has read it within the staleness bound.
    pub is_verified: bool,
    /// What it is about to swap, one at a time.
    pub swapping: Option<Swapping>,
    /// A grant of its own of which nobody has heard.
    pub unheard: Option<Attempt>,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self { view: None, position: 0, is_verified: true, swapping: None, unheard: None }
    }
}

/// A swap as the store sees it, and on whose behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Swap {
    /// What it is conditional on; `None` for no record.
    pub expected: Option<u8>,
    /// What is to be there.
    pub next: Record,
    /// Why.
    pub request: Request,
    /// For whom.
    pub worker: u8,
}

/// A swap as its coordinator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Swapping {
    /// What was asked.
    pub ask: Ask,
    /// What was sent.
    pub swap: Swap,
    /// What to say once it is applied.
    pub said: Said,
    /// Whether the store did not answer.
    pub is_unsure: bool,
    /// How often it did not, since the call arrived.
    pub losses: u8,
}

/// One worker, with one attempt to render.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Worker {
    /// How often its acquire has arrived.
    pub acquires: u8,
    /// How often its commit has.
    pub commits: u8,
    /// How often its renewal has.
    pub renewals: u8,
    /// How often its release has.
    pub releases: u8,
    /// What it renders under: the generation it heard of first, and how many invalidations had been called by then.
    pub render: Option<(u8, u8)>,
    /// Fact: its commit was applied.
    pub is_committed: bool,
    /// Fact: its release was.
    pub is_released: bool,
}

impl Worker {
    /// The generation it renders under.
    pub(super) fn generation(&self) -> Option<u8> {
        self.render.map(|(generation, _)| generation)
    }

    /// How many invalidations had been called when it began to.
    pub(super) fn began(&self) -> u8 {
        self.render.map_or(0, |(_, began)| began)
    }

    pub(super) fn count_arrival(&mut self, request: Request) {
        match request {
            Request::Acquire => self.acquires += 1,
            Request::Commit => self.commits += 1,
            Request::Renew => self.renewals += 1,
            Request::Release => self.releases += 1,
            Request::Undo | Request::Heal => {}
        }
    }
}

impl State {
    /// How many swaps nobody waits for.
    pub(super) fn floats(&self) -> u8 {
        self.floating.iter().flatten().count() as u8
    }

    pub(super) fn catch_up(&mut self, on: usize) {
        let coordinator = &mut self.coordinators[on];
        coordinator.position = self.log.len();
        coordinator.is_verified = true;
    }

    pub(super) fn give_up(&mut self, on: usize) {
        let Some(swapping) = &mut self.coordinators[on].swapping else { return };
        swapping.is_unsure = true;
        swapping.losses += 1;
        let swap = swapping.swap;
        self.float(swap);
    }

    /// The log is read before anything is served.
    pub(super) fn restart(&mut self, on: usize, floating: u8) {
        let position = self.log.len();
        let before =
            std::mem::replace(&mut self.coordinators[on], Coordinator { position, ..Default::default() });
        if let Some(swapping) = before.swapping
            && !swapping.is_unsure
            && self.floats() < floating
        {
            self.float(swapping.swap);
        }
    }

    fn float(&mut self, swap: Swap) {
        if let Some(free) = self.floating.iter_mut().find(|free| free.is_none()) {
            *free = Some(swap);
        }
    }

    /// Brings what differs in nothing that matters to the same state: swaps that float have no order, and versions none
    /// either, so they are numbered as they are found.
    pub(super) fn settle(&mut self) {
        let stored = self.stored.map(|record| record.version);
        if !mutation::is_active(Mutation::GenerationAsVersion) {
            // The condition of such a swap never holds again: versions are not used twice.
            let is_alive = |swap: &Swap| swap.expected == stored;
            for place in &mut self.floating {
                *place = place.filter(is_alive);
            }
        }
        self.floating.sort_by_key(|swap| std::cmp::Reverse(swap.as_ref().map(unversioned)));
        if !mutation::is_active(Mutation::GenerationAsVersion) {
            self.number_versions();
        }
    }

    fn number_versions(&mut self) {
        // In an order that does not depend on which coordinator is called the first.
        let [one, other] = [0, 1].map(|on| unversioned_coordinator(&self.coordinators[on], self.stored));
        let order = if one > other { [1, 0] } else { [0, 1] };
        let mut known: [u8; 16] = [u8::MAX; 16];
        let mut count = 0;
        let mut number = |version: &mut u8| {
            let at = known[..count].iter().position(|known| known == version).unwrap_or_else(|| {
                known[count] = *version;
                count += 1;
                count - 1
            });
            *version = at as u8;
        };
        if let Some(record) = &mut self.stored {
            number(&mut record.version);
        }
        for on in order {
            let Coordinator { view, swapping, .. } = &mut self.coordinators[on];
            if let Some(Some(record)) = view {
                number(&mut record.version);
            }
            if let Some(Swapping { swap, .. }) = swapping {
                swap.versions().for_each(&mut number);
            }
        }
        self.floating.iter_mut().flatten().for_each(|swap| swap.versions().for_each(&mut number));
    }
}

impl Judged for State {
    fn broken(&self) -> Broken {
        self.broken
    }
}

impl Swap {
    fn versions(&mut self) -> impl Iterator<Item = &mut u8> {
        self.expected.iter_mut().chain([&mut self.next.version])
    }
}

fn unversioned(swap: &Swap) -> u64 {
    digest(&Swap { expected: None, next: Record { version: 0, ..swap.next }, ..*swap })
}

/// With no more of its versions than which of them are those of the stored record.
fn unversioned_coordinator(coordinator: &Coordinator, stored: Option<Record>) -> u64 {
    let stored = stored.map(|record| record.version);
    let mut copy = coordinator.clone();
    if let Some(Some(record)) = &mut copy.view {
        record.version = (stored == Some(record.version)).into();
    }
    if let Some(Swapping { swap, .. }) = &mut copy.swapping {
        swap.expected = Some((stored == swap.expected).into());
        swap.next.version = (stored == Some(swap.next.version)).into();
    }
    digest(&copy)
}

/// Two states that differ only in which coordinator is called the first count as one.
impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { stored, log, coordinators, workers, floating, due, heals, granted, committed, broken } =
            self;
        let [one, other] = [digest(&coordinators[0]), digest(&coordinators[1])];
        let rest = (stored, log, workers, floating, due, heals, granted, committed, broken);
        state.write_u64(digest(&(rest, one.min(other), one.max(other))));
    }
}
