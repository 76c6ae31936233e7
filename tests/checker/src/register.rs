//! What is current of an entry, as a register that only rises: whether all that was answered of it can be true at once.
//!
//! Every commit is of a generation of its own, and what is current only rises. So a history is linearizable if there is a
//! moment for each generation that ever was current, at which it became so, later than those of all below it, such that every
//! call finds a moment between its invocation and its answer at which the answer was true. What an answer says are bounds. From
//! below: this generation, or one above it, had become current *before the answer*. From above: the next one *had not when the
//! call began*. Moments that keep to such bounds, and rise, exist unless one of them has to be later than one above it may be:
//! unless one answer told of a generation before another call began, and that one still told of a lower one. So whatever cannot
//! be explained shows in two answers that contradict each other, and it is enough to look at all pairs.
//!
//! That a page is missing leaves open which generation was current. Each such answer is judged by itself, because what explains
//! one explains all later ones, unless something newer was shown between.

use super::{
    history::{Absence, Call, EntryIndex, History, Operation, Outcome, Time, Told},
    index::{Index, may_be_purged, of_entry},
};
use std::collections::{BTreeMap, BTreeSet};

/// What was answered of one entry.
struct Register {
    entry: EntryIndex,
    sightings: Vec<Sighting>,
    /// What was not surely refused, and when it was first asked to be committed.
    committed: BTreeMap<u64, Time>,
    /// What was surely current once, and when it was first asked to be committed.
    applied: BTreeMap<u64, Time>,
}

/// What one operation tells of it.
struct Sighting {
    number: usize,
    began: Time,
    answered: Time,
    shown: Shown,
}

/// Which generation was current; zero for no page at all.
enum Shown {
    /// This one had become so by the answer, as who committed it was told.
    Acknowledged(u64),
    /// So had this one, as others were told.
    Seen(u64),
    /// This one was.
    Current(u64),
    /// One below this was, and this one never will be.
    Fenced(u64),
    /// One of these was.
    OneOf(BTreeSet<u64>),
}

pub(super) fn accepted_in_order(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for register in Register::all(history, index) {
        for (generation, first) in &register.applied {
            let newest = register.newest_before(*first, |_| true);
            if let Some((newer, number)) = newest.filter(|(newer, _)| newer > generation) {
                let entry = register.entry;
                let (by, how) = index.applied[&(entry, *generation)];
                found.push(format!(
                    "entry {entry}: {generation} was first committed at {first}, when operation {number} had \
                     shown {newer}, and still {how} (operation {by})"
                ));
            }
        }
    }
    found
}

pub(super) fn acknowledged_is_there(history: &History, index: &Index) -> Vec<String> {
    went_back(history, index, |shown| matches!(shown, Shown::Acknowledged(_)))
}

pub(super) fn strict_never_goes_back(history: &History, index: &Index) -> Vec<String> {
    went_back(history, index, |shown| !matches!(shown, Shown::Acknowledged(_)))
}

fn went_back(history: &History, index: &Index, behind: impl Fn(&Shown) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for register in Register::all(history, index) {
        for Sighting { number, began, shown, .. } in &register.sightings {
            let Shown::Current(generation) = shown else { continue };
            let newest = register.newest_before(*began, &behind);
            if let Some((newer, before)) = newest.filter(|(newer, _)| newer > generation) {
                found.push(format!(
                    "entry {}: operation {number} at {began} told of {generation}, after {newer} had been shown \
                     by operation {before}",
                    register.entry
                ));
            }
        }
    }
    found
}

pub(super) fn superseded_is_not_fenced(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for register in Register::all(history, index) {
        for Sighting { number, began, shown, .. } in &register.sightings {
            let Shown::Fenced(generation) = shown else { continue };
            let newest = register.newest_before(*began, |_| true);
            if let Some((newer, before)) = newest.filter(|(newer, _)| newer > generation) {
                found.push(format!(
                    "({}, {generation}) was fenced by operation {number} at {began}, after {newer} had been \
                     shown by operation {before}",
                    register.entry
                ));
            }
        }
    }
    found
}

pub(super) fn missing_for_a_reason(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for register in Register::all(history, index) {
        for seen in &register.sightings {
            let Shown::OneOf(candidates) = &seen.shown else { continue };
            if !candidates.iter().any(|generation| register.allows(*generation, seen)) {
                found.push(format!(
                    "entry {}: operation {} at {} found no page, which none of {candidates:?} explains",
                    register.entry, seen.number, seen.began
                ));
            }
        }
    }
    found
}

impl Register {
    fn all(history: &History, index: &Index) -> Vec<Self> {
        let mut registers: Vec<_> =
            (0..history.entries.len()).map(|entry| Self::without_sightings(history, index, entry)).collect();
        for (number, operation) in history.operations.iter().enumerate() {
            let (began, answered) = (operation.began, operation.answered());
            if let Some(Outcome::Watched(told)) = operation.outcome() {
                for told in told {
                    let Told::Committed { entry, generation } = told else { continue };
                    let shown = Shown::Seen(*generation);
                    registers[*entry].sightings.push(Sighting { number, began, answered, shown });
                }
            } else if let Some(entry) = operation.entry()
                && let Some(shown) = registers[entry].shown_by(history, index, operation)
            {
                registers[entry].sightings.push(Sighting { number, began, answered, shown });
            }
        }
        registers
    }

    fn without_sightings(history: &History, index: &Index, entry: EntryIndex) -> Self {
        let of = |generation| Some((generation, index.first_commit(history, (entry, generation))?));
        let committed = of_entry(&index.commits, entry)
            .filter(|(generation, _)| !index.refused.contains(&(entry, *generation)))
            .filter_map(|(generation, _)| of(generation))
            .collect();
        let applied = of_entry(&index.applied, entry).filter_map(|(generation, _)| of(generation)).collect();
        Self { entry, sightings: Vec::new(), committed, applied }
    }

    fn shown_by(&self, history: &History, index: &Index, operation: &Operation) -> Option<Shown> {
        let outcome = operation.outcome()?;
        let purged = || {
            let by = operation.answered();
            let may_be = |generation: &u64| may_be_purged(history, index, (self.entry, *generation), by);
            self.committed.keys().copied().filter(may_be).collect::<BTreeSet<_>>()
        };
        let is_at_risk = |generation: &u64| index.at_risk.contains(&(self.entry, *generation));
        let lost = || self.committed.keys().copied().filter(is_at_risk);
        Some(match (&operation.call, outcome) {
            (Call::Commit { generation, .. }, Outcome::Committed { .. } | Outcome::CommittedStale { .. }) => {
                Shown::Acknowledged(*generation)
            }
            (Call::Commit { .. }, Outcome::Superseded { current }) => Shown::Current(*current),
            (Call::Commit { generation, .. }, Outcome::Fenced { .. }) => Shown::Fenced(*generation),
            (Call::Lookup { strict: true, .. }, Outcome::Fresh(seen) | Outcome::Stale(seen, _)) => {
                Shown::Current(seen.generation)
            }
            (Call::Lookup { strict: true, .. }, Outcome::Missing(absence)) => match absence {
                Absence::NeverRendered => Shown::Current(0),
                Absence::Purged => Shown::OneOf(purged()),
                Absence::BodyGone => Shown::OneOf(lost().collect()),
                Absence::Untold => Shown::OneOf(purged().into_iter().chain(lost()).chain([0]).collect()),
            },
            (_, outcome) => Shown::Seen(outcome.seen()?.generation),
        })
    }

    /// The newest generation that was shown to have been current before a moment, and by which operation.
    fn newest_before(&self, moment: Time, by: impl Fn(&Shown) -> bool) -> Option<(u64, usize)> {
        let before = self.sightings.iter().filter(|seen| seen.answered < moment && by(&seen.shown));
        before.filter_map(|seen| Some((seen.shown.at_least()?, seen.number))).max()
    }

    /// Whether this generation may have been current at some moment of an operation, by all answers that leave nothing open.
    fn allows(&self, generation: u64, seen: &Sighting) -> bool {
        let committed = self.committed.get(&generation).copied().unwrap_or_default();
        let (from, to) = (seen.began.max(committed), seen.answered);
        from <= to
            && self.newest_before(from, |_| true).is_none_or(|(newest, _)| newest <= generation)
            && self.sightings.iter().all(|later| later.began <= to || generation <= later.shown.at_most())
            && self.applied.iter().all(|(other, first)| *first <= to || generation < *other)
    }
}

impl Shown {
    fn at_least(&self) -> Option<u64> {
        match self {
            Self::Acknowledged(generation) | Self::Seen(generation) | Self::Current(generation) => {
                Some(*generation)
            }
            Self::Fenced(_) | Self::OneOf(_) => None,
        }
    }

    fn at_most(&self) -> u64 {
        match self {
            Self::Current(generation) => *generation,
            Self::Fenced(generation) => generation.saturating_sub(1),
            Self::Acknowledged(_) | Self::Seen(_) | Self::OneOf(_) => u64::MAX,
        }
    }
}
