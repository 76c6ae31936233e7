//! A search for the order in which everything happened, written by somebody else (Wing, Gong and Lowe's, in `todc-utils`). The
//! rules come to the same by looking at two answers at a time (see `register`); here is who would notice if they did not.

use super::history::{Absence, Call, EntryIndex, History, Operation, Outcome, Scope, Time, Told};
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
    /// Somebody is told that this one is current, or was.
    Was(u64),
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
            Step::Was(generation) => (generation <= current, *current),
            Step::IsBelow(generation) => (current < generation, *current),
        }
    }
}

/// The entries whose answers no order explains. Takes long where there are any: for histories in which no rule found anything.
pub(super) fn unexplained(history: &History) -> impl Iterator<Item = EntryIndex> {
    (0..history.entries.len()).filter(|entry| !is_linearizable(history, *entry))
}

/// Whether an order of steps, each between invocation and answer, explains what was answered of an entry.
fn is_linearizable(history: &History, entry: EntryIndex) -> bool {
    let mut steps: Vec<(Time, Time, Step)> = Vec::new();
    let mut commits: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
    let mut was = BTreeSet::new();
    for operation in &history.operations {
        if let Call::Commit { entry: of, generation, .. } = operation.call
            && of == entry
        {
            commits.entry(generation).or_default().push(operation);
        }
        for step in told(history, entry, operation) {
            if let Step::Was(generation) = step {
                was.insert(generation);
            }
            if let Step::Is(generations) = &step
                && generations.len() == 1
            {
                was.extend(generations);
            }
            steps.push((operation.began, operation.answered(), step));
        }
    }
    for (generation, attempts) in commits {
        let had_none =
            |outcome: Option<&Outcome>| matches!(outcome, Some(Outcome::Failed { in_doubt: false, .. }));
        let may_have_had = attempts.iter().filter(|attempt| !had_none(attempt.outcome()));
        let is_fenced =
            attempts.iter().any(|attempt| matches!(attempt.outcome(), Some(Outcome::Fenced { .. })));
        if let Some(began) = may_have_had.map(|attempt| attempt.began).min().filter(|_| !is_fenced) {
            let step = if was.remove(&generation) { Step::Become } else { Step::BecomeOrNot };
            // At any time from then on: by when it had, what is told of it says.
            steps.push((began, Time::MAX, step(generation)));
        }
    }
    // What never became current was told of all the same.
    if was.iter().any(|generation| *generation > 0) {
        return false;
    }
    steps.is_empty() || WGLChecker::<Entry>::is_linearizable(in_order(steps))
}

/// What an answer says of an entry.
fn told(history: &History, entry: EntryIndex, operation: &Operation) -> Vec<Step> {
    if operation.entry().is_some_and(|of| of != entry) {
        return Vec::new();
    }
    let is = |generations: &[u64]| vec![Step::Is(generations.iter().copied().collect())];
    match (&operation.call, operation.outcome()) {
        (Call::Commit { generation, .. }, Some(Outcome::Committed | Outcome::CommittedStale { .. })) => {
            vec![Step::Was(*generation)]
        }
        (Call::Commit { generation, .. }, Some(Outcome::Superseded { current })) => {
            if current > generation {
                is(&[*current])
            } else {
                is(&[])
            }
        }
        (Call::Commit { generation, .. }, Some(Outcome::Fenced { .. })) => vec![Step::IsBelow(*generation)],
        (Call::Lookup { strict: true, .. }, Some(Outcome::Fresh(seen) | Outcome::Stale(seen, _))) => {
            is(&[seen.generation])
        }
        (Call::Lookup { strict: true, .. }, Some(Outcome::Missing(absence))) => match absence {
            Absence::NeverRendered => is(&[0]),
            Absence::Purged => is(&purged(history, entry, operation)),
            Absence::BodyGone => is(&[]),
            Absence::Untold => is(&[purged(history, entry, operation), vec![0]].concat()),
        },
        (Call::Watch, Some(Outcome::Watched(all))) => all
            .iter()
            .filter_map(|told| match told {
                Told::Committed { entry: of, generation } if *of == entry => Some(Step::Was(*generation)),
                _ => None,
            })
            .collect(),
        (_, outcome) => {
            let seen = outcome.and_then(Outcome::seen);
            seen.map(|seen| Step::Was(seen.generation)).into_iter().collect()
        }
    }
}

/// What may have been purged by the answer of an operation.
fn purged(history: &History, entry: EntryIndex, by: &Operation) -> Vec<u64> {
    let purges = history.operations.iter().filter(|purge| purge.began <= by.answered());
    let purges: Vec<_> = purges
        .filter_map(|purge| match &purge.call {
            Call::Invalidate { scopes, hard: true } => Some((purge, scopes)),
            _ => None,
        })
        .collect();
    let granted = |wanted: u64| {
        let grants = history.operations.iter().filter(|grant| match (&grant.call, grant.outcome()) {
            (Call::Acquire { entry: of, .. }, Some(Outcome::Granted { generation, .. })) => {
                (*of, *generation) == (entry, wanted)
            }
            _ => false,
        });
        grants.map(|grant| grant.began).min()
    };
    let commits = history.operations.iter().filter_map(|commit| match &commit.call {
        Call::Commit { entry: of, generation, page, .. } if *of == entry => Some((generation, page)),
        _ => None,
    });
    commits
        .filter(|(generation, page)| {
            let known = history.known_at(granted(**generation));
            let mut since = purges.iter().filter(|(purge, _)| !purge.is_acknowledged_before(known));
            let covers = |scope: &Scope| scope.covers(&history.entries[entry], &page.tags);
            since.any(|(_, scopes)| scopes.iter().any(covers))
        })
        .map(|(generation, _)| *generation)
        .collect()
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
