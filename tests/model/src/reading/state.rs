//! Where everything stands.

use crate::{
    events::Events,
    explore::Judged,
    promise::Broken,
    record::{Attempt, Record, rendered, token},
    scenery::{Moment, SCENERY, TTL},
};
use leasehold_core::{
    freshness::Log,
    identity::Version,
    invalidation::{LogView, Verdict},
    transition::{self, Acquire, Context, Decision},
};
use std::time::Duration;

/// So many lookups at most.
pub const MAX_LOOKUPS: usize = 4;

/// Everything that matters for what may happen next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The store's record.
    pub stored: Option<Record>,
    /// What was invalidated.
    pub log: Events,
    /// Who renders elsewhere, and after how many invalidations it began.
    pub render: Option<(Attempt, u8)>,
    /// How often a lease was granted.
    pub granted: u8,
    /// How far the coordinator has read the log.
    pub position: u8,
    /// What it remembers of the entry.
    pub view: Option<Remembered>,
    /// Reads of the log: where they found the head.
    pub log_reads: Queue<u8>,
    /// Reads of the entry: what they found.
    pub entry_reads: Queue<Option<Record>>,
    /// The lookups.
    pub lookups: [Lookup; MAX_LOOKUPS],
    /// What has gone wrong.
    pub broken: Broken,
}

/// An entry as it was when it was read, with the last verdict about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Remembered {
    /// The record.
    pub record: Option<Record>,
    /// The position that its verdict is stamped with, and the verdict.
    pub verdict: Option<(u8, Verdict)>,
}

/// Reads that lookups share, one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Queue<T> {
    /// What the read that is under way has found.
    pub sent: Option<T>,
    /// Whom it serves, a bit each.
    pub served: u8,
    /// Who waits for the next.
    pub waiting: u8,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { sent: None, served: 0, waiting: 0 }
    }
}

impl<T> Queue<T> {
    pub(super) fn send(&mut self, found: T) {
        self.sent = Some(found);
        self.served = std::mem::take(&mut self.waiting);
    }
}

/// One lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lookup {
    /// How far it has come.
    pub phase: Phase,
    /// Fact: the log's head when it arrived, which is its token if it is a bounded one.
    pub log: u8,
    /// Fact: the generation that was current then.
    pub generation: u8,
}

/// How far a lookup has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It has not arrived.
    #[default]
    Outside,
    /// It waits for the log.
    Log,
    /// It waits for the entry.
    Entry,
    /// It has this to be judged.
    Judging {
        /// The entry.
        record: Option<Record>,
    },
    /// It has scanned the log, and remembers the verdict next.
    Scanned {
        /// The entry.
        record: Option<Record>,
        /// By which position.
        at: u8,
        /// What it found.
        verdict: Verdict,
    },
    /// It is answered.
    Answered,
}

impl State {
    /// Elsewhere: by a coordinator that has read all of the log.
    pub(super) fn grant_elsewhere(&mut self) {
        let worker = self.granted;
        let ask =
            Acquire { token: token(worker), owner: SCENERY.owner.clone(), ttl: TTL, path: None, after: None };
        let decision = self.decide(|entry, context| transition::acquire(entry, &ask, context));
        if let Decision::Swap(entry, _) = decision {
            self.granted += 1;
            let lease = self.put(Record::of(&entry)).lease.expect("an acquire leaves a lease");
            self.render = Some((lease.by, self.log.len()));
        }
    }

    pub(super) fn commit_elsewhere(&mut self) {
        let Some((by, began)) = self.render.take() else { return };
        let page = rendered(began);
        let decision = self.decide(|entry, context| {
            transition::commit(entry, by.token(), by.core_generation(), &page, context)
        });
        if let Decision::Swap(entry, _) = decision {
            self.put(Record::of(&entry));
        }
    }

    fn put(&mut self, record: Record) -> Record {
        self.stored = Some(record);
        record
    }

    fn decide<T>(
        &self,
        decide: impl FnOnce(Option<&leasehold_core::entry::Entry>, Context<'_>) -> Decision<T>,
    ) -> Decision<T> {
        let entry = self.stored.map(|record| record.entry());
        let version = self.stored.map_or(0, |record| record.version) + 1;
        self.log.viewed(self.log.len(), |view: &LogView| {
            let context = Context {
                id: &SCENERY.id,
                log: Log { view, verified: true },
                // Whatever was rendered before, the next is due.
                now: Moment::PageOld.time(),
                known_for: Duration::ZERO,
                rules: &SCENERY.rules,
                version: Version(version.into()),
            };
            decide(entry.as_ref(), context)
        })
    }
}

impl Judged for State {
    fn broken(&self) -> Broken {
        self.broken
    }
}
