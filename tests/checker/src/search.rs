//! A search for the order in which everything happened, written by somebody else (Wing, Gong and Lowe's, in `todc-utils`). The
//! rules come to the same by looking at two answers at a time (see `register`); here is who would notice if they did not.

use super::{
    history::{Absence, Call, EntryIndex, History, Operation, Outcome, Scope, Time, Told},
    names::at_risk,
};
use std::collections::{BTreeMap, BTreeSet};
use todc_utils::{
    linearizability::{WGLChecker, history::Action},
    specifications::Specification,
};

#[cfg(test)]
mod tests;

/// What happens to an entry, one after the other. Zero is the generation of no page.
#[derive(Clone, Debug)]
enum Step {
    /// A generation becomes current.
    Become(u64),
    /// As above, if nothing newer is; else nobody ever heard of it.
    BecomeOrNot(u64),
    /// Somebody is told that one of these is current.
    Is(BTreeSet<u64>),
    /// Somebody is told that this is not, nor will be.
    IsBelow(u64),
}

enum Entry {}

impl Specification for Entry {
    type State = u64;
    type Operation = Step;

    fn init() -> u64 {
        0
    }

    fn apply(step: &Step, current: &u64) -> (bool, u64) {
        match step {
            Step::Become(generation) => (generation > current, *generation),
            Step::BecomeOrNot(generation) => (true, *current.max(generation)),
            Step::Is(generations) => (generations.contains(current), *current),
            Step::IsBelow(generation) => (current < generation, *current),
        }
    }
}

/// The entries whose answers no order explains. Takes long where there are any: for histories in which no rule found anything.
pub(super) fn unexplained(history: &History) -> impl Iterator<Item = EntryIndex> {
    (0..history.entries.len()).filter(|entry| !is_linearizable(history, *entry))
}

/// What an answer says of an entry.
#[derive(Default)]
struct Heard {
    /// What was the case at some time between call and answer.
    steps: Vec<Step>,
    /// What is current by the answer, or was.
    was: Vec<u64>,
}

/// Whether an order of steps, each between invocation and answer, explains what was answered of an entry.
fn is_linearizable(history: &History, entry: EntryIndex) -> bool {
    let gone = Gone::of(history, entry);
    let mut steps: Vec<(Time, Time, Step)> = Vec::new();
    let mut commits: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
    // By when somebody had heard that it is current, or was.
    let mut was: BTreeMap<u64, Time> = BTreeMap::new();
    let mut may_have_been: BTreeSet<u64> = BTreeSet::new();
    for operation in &history.operations {
        if let Call::Commit { entry: of, generation, .. } = operation.call
            && of == entry
        {
            commits.entry(generation).or_default().push(operation);
        }
        let answered = operation.answered();
        let heard = heard(&gone, entry, operation);
        for generation in heard.was {
            was.entry(generation).and_modify(|by| *by = answered.min(*by)).or_insert(answered);
        }
        for step in heard.steps {
            if let Step::Is(generations) = &step {
                may_have_been.extend(generations);
            }
            steps.push((operation.began, answered, step));
        }
    }
    for (generation, attempts) in commits {
        let had_none = |outcome: Option<&Outcome>| {
            matches!(outcome, Some(Outcome::Failed { in_doubt: false, .. } | Outcome::NameTaken))
        };
        let may_have_had = attempts.iter().filter(|attempt| !had_none(attempt.outcome()));
        let is_fenced =
            attempts.iter().any(|attempt| matches!(attempt.outcome(), Some(Outcome::Fenced { .. })));
        if let Some(began) = may_have_had.map(|attempt| attempt.began).min().filter(|_| !is_fenced) {
            // What somebody had heard of had become current by then: that is all that such an answer says, because what was
            // current once stays below whatever is. And what nobody can have heard of may as well have become so last of
            // all. As steps, and without an end, each of them would double the orders to be tried.
            if let Some(by) = was.remove(&generation) {
                if by < began {
                    return false;
                }
                steps.push((began, by, Step::Become(generation)));
            } else if may_have_been.contains(&generation) {
                steps.push((began, Time::MAX, Step::BecomeOrNot(generation)));
            }
        }
    }
    // What never became current was told of all the same.
    if was.keys().any(|generation| *generation > 0) {
        return false;
    }
    steps.is_empty() || WGLChecker::<Entry>::is_linearizable(in_order(steps))
}

fn heard(gone: &Gone, entry: EntryIndex, operation: &Operation) -> Heard {
    if operation.entry().is_some_and(|of| of != entry) {
        return Heard::default();
    }
    let was = |was: Vec<u64>| Heard { was, ..Heard::default() };
    let is = |generations: &[u64]| {
        let generations: BTreeSet<_> = generations.iter().copied().collect();
        let was = if generations.len() == 1 { generations.iter().copied().collect() } else { Vec::new() };
        Heard { steps: vec![Step::Is(generations)], was }
    };
    match (&operation.call, operation.outcome()) {
        (
            Call::Commit { generation, .. },
            Some(Outcome::Committed { .. } | Outcome::CommittedStale { .. }),
        ) => was(vec![*generation]),
        (Call::Commit { generation, .. }, Some(Outcome::Superseded { current })) => {
            if current > generation {
                is(&[*current])
            } else {
                is(&[])
            }
        }
        (Call::Commit { generation, .. }, Some(Outcome::Fenced { .. })) => {
            Heard { steps: vec![Step::IsBelow(*generation)], ..Heard::default() }
        }
        (Call::Lookup { strict: true, .. }, Some(Outcome::Fresh(seen) | Outcome::Stale(seen, _))) => {
            is(&[seen.generation])
        }
        (Call::Lookup { strict: true, .. }, Some(Outcome::Missing(absence))) => match absence {
            Absence::NeverRendered => is(&[0]),
            Absence::Purged => is(&gone.purged(operation)),
            Absence::BodyGone => is(&gone.lost),
            Absence::Untold => is(&[gone.purged(operation), gone.lost.clone(), vec![0]].concat()),
        },
        (Call::Watch, Some(Outcome::Watched(all))) => was(all
            .iter()
            .filter_map(|told| match told {
                Told::Committed { entry: of, generation } if *of == entry => Some(*generation),
                _ => None,
            })
            .collect()),
        (_, outcome) => {
            let seen = outcome.and_then(Outcome::seen);
            was(seen.map(|seen| seen.generation).into_iter().collect())
        }
    }
}

/// What of an entry may have gone without a successor. Every answer asks for it.
struct Gone {
    /// Since when a purge may have reached a page.
    purged_since: BTreeMap<u64, Time>,
    /// What may be lost for the sake of its name.
    lost: Vec<u64>,
}

impl Gone {
    fn of(history: &History, entry: EntryIndex) -> Self {
        let purges: Vec<_> = history
            .operations
            .iter()
            .filter_map(|purge| match &purge.call {
                Call::Invalidate { scopes, hard: true, .. } => Some((purge, scopes)),
                _ => None,
            })
            .collect();
        let mut granted: BTreeMap<u64, Time> = BTreeMap::new();
        for grant in &history.operations {
            if let (Call::Acquire { entry: of, .. }, Some(Outcome::Granted { generation, .. })) =
                (&grant.call, grant.outcome())
                && *of == entry
            {
                let first = granted.entry(*generation).or_insert(grant.began);
                *first = grant.began.min(*first);
            }
        }
        let mut purged_since: BTreeMap<u64, Time> = BTreeMap::new();
        for commit in &history.operations {
            let Call::Commit { entry: of, generation, page, .. } = &commit.call else { continue };
            if *of != entry {
                continue;
            }
            let known = history.known_at(granted.get(generation).copied());
            let covers = |scope: &Scope| scope.covers(&history.entries[entry], &page.tags);
            let since = purges
                .iter()
                .filter(|(purge, _)| !purge.is_acknowledged_before(known))
                .filter(|(_, scopes)| scopes.iter().any(covers))
                .map(|(purge, _)| purge.began)
                .min();
            if let Some(since) = since {
                let first = purged_since.entry(*generation).or_insert(since);
                *first = since.min(*first);
            }
        }
        let lost = at_risk(history).into_iter().filter(|(of, _)| *of == entry);
        Self { purged_since, lost: lost.map(|(_, generation)| generation).collect() }
    }

    /// What may have been purged by the answer of an operation.
    fn purged(&self, by: &Operation) -> Vec<u64> {
        let purged = self.purged_since.iter().filter(|(_, since)| **since <= by.answered());
        purged.map(|(generation, _)| *generation).collect()
    }
}

/// As the search has it: calls and responses in the order of their times, calls first, because in the same step none is
/// before another.
fn in_order(steps: Vec<(Time, Time, Step)>) -> todc_utils::History<Step> {
    let mut actions = Vec::new();
    for (process, (began, answered, step)) in steps.into_iter().enumerate() {
        actions.push(((began, 0), (process, Action::Call(step.clone()))));
        actions.push(((answered, 1), (process, Action::Response(step))));
    }
    actions.sort_by_key(|(at, _)| *at);
    todc_utils::History::from_actions(actions.into_iter().map(|(_, action)| action).collect())
}
