//! What the rules look up again and again.

use super::{
    history::{Attempt, Call, EntryIndex, History, Operation, Outcome, Rendered, Scope, Seen, Time, Told},
    names::at_risk,
};
use std::collections::{BTreeMap, BTreeSet};

/// A generation of an entry.
pub(super) type Edition = (EntryIndex, u64);

#[derive(Default)]
pub(super) struct Index {
    /// Grants that were heard of, by what they granted.
    pub(super) grants: BTreeMap<Edition, Vec<Grant>>,
    /// Commits, whatever became of them.
    pub(super) commits: BTreeMap<Edition, Vec<usize>>,
    /// What shows that a commit was applied: the operation that told, and how.
    pub(super) applied: BTreeMap<Edition, (usize, &'static str)>,
    /// What surely was not applied, nor will be: it was fenced, or every commit of it failed without effect.
    pub(super) refused: BTreeSet<Edition>,
    /// What may be lost for the sake of a name.
    pub(super) at_risk: BTreeSet<Edition>,
    /// Acknowledged invalidations.
    pub(super) invalidations: Vec<usize>,
    /// All of them, acknowledged or not.
    called: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) attempt: Attempt,
    pub(super) began: Time,
    pub(super) answered: Time,
    pub(super) ttl: Time,
}

impl Index {
    pub(super) fn of(history: &History) -> Self {
        let mut index = Self::default();
        for (number, operation) in history.operations.iter().enumerate() {
            index.add(number, operation);
        }
        index.refused = index
            .commits
            .iter()
            .filter(|(_, commits)| is_refused(history, commits))
            .map(|(edition, _)| *edition)
            .collect();
        index.at_risk = at_risk(history);
        index
    }

    fn add(&mut self, number: usize, operation: &Operation) {
        let Operation { call, began, .. } = operation;
        let answered = operation.answered();
        if let Call::Commit { entry, generation, .. } = call {
            self.commits.entry((*entry, *generation)).or_default().push(number);
        }
        if let Call::Invalidate { .. } = call {
            self.called.push(number);
        }
        let Some(outcome) = operation.outcome() else { return };
        if let (Some(entry), Some(seen)) = (operation.entry(), outcome.seen()) {
            self.applied.entry((entry, seen.generation)).or_insert((number, "it was served"));
        }
        match (call, outcome) {
            (Call::Acquire { entry, attempt, ttl, .. }, Outcome::Granted { generation, .. }) => {
                let grant = Grant { attempt: *attempt, began: *began, answered, ttl: *ttl };
                self.grants.entry((*entry, *generation)).or_default().push(grant);
            }
            (
                Call::Commit { entry, generation, .. },
                Outcome::Committed { .. } | Outcome::CommittedStale { .. },
            ) => {
                self.applied.entry((*entry, *generation)).or_insert((number, "it was acknowledged"));
            }
            (Call::Commit { entry, .. }, Outcome::Superseded { current }) => {
                self.applied.entry((*entry, *current)).or_insert((number, "it superseded another"));
            }
            (Call::Watch, Outcome::Watched(told)) => {
                for told in told {
                    if let Told::Committed { entry, generation } = told {
                        self.applied.entry((*entry, *generation)).or_insert((number, "a watch told of it"));
                    }
                }
            }
            (Call::Invalidate { .. }, Outcome::Invalidated) => self.invalidations.push(number),
            _ => {}
        }
    }

    /// What was rendered for a generation, where a worker came so far.
    pub(super) fn rendered<'a>(&self, history: &'a History, edition: Edition) -> Option<&'a Rendered> {
        let number = *self.commits.get(&edition)?.first()?;
        match &history.operations[number].call {
            Call::Commit { page, .. } => Some(page),
            _ => None,
        }
    }

    /// When a generation was first asked for.
    pub(super) fn first_grant(&self, edition: Edition) -> Option<Time> {
        self.grants.get(&edition)?.iter().map(|grant| grant.began).min()
    }

    /// Every invalidation, acknowledged or not: what it is about, and whether it is a hard one.
    fn called<'a>(
        &'a self,
        history: &'a History,
    ) -> impl Iterator<Item = (&'a Operation, &'a [Scope], bool)> + 'a {
        self.called.iter().filter_map(|number| {
            let operation = &history.operations[*number];
            match &operation.call {
                Call::Invalidate { scopes, hard, .. } => Some((operation, &**scopes, *hard)),
                _ => None,
            }
        })
    }

    /// By when the render of a generation had surely begun: the first word of its grant.
    pub(super) fn render_began(&self, edition: Edition) -> Option<Time> {
        self.grants.get(&edition)?.iter().map(|grant| grant.answered).min()
    }

    /// When a generation was first asked to be committed, by a call that may have been applied; where there is none such,
    /// by any.
    pub(super) fn first_commit(&self, history: &History, edition: Edition) -> Option<Time> {
        let commits = self.commits.get(&edition)?.iter().map(|number| &history.operations[*number]);
        let may_be = commits.clone().filter(|operation| !surely_failed(operation));
        may_be.map(|operation| operation.began).min().or(commits.map(|operation| operation.began).min())
    }
}

/// Whether this call to acquire may have been granted a lease after this one of its entry, be it that its caller never heard
/// of that.
pub(super) fn may_have_overtaken(
    history: &History,
    index: &Index,
    operation: &Operation,
    (entry, generation): Edition,
) -> bool {
    operation.entry() == Some(entry)
        && match operation.outcome() {
            Some(Outcome::Granted { generation: later, .. }) => *later > generation,
            Some(Outcome::Failed { .. }) | None => true,
            // Where the store takes long to answer, it may have been granted one that was over before anybody was told,
            // and is told of what came after.
            Some(_) => {
                let is_well = history.quiet_from.is_some_and(|quiet| operation.began > quiet);
                let granted = index.first_grant((entry, generation)).unwrap_or_default();
                !is_well && operation.answered() > granted
            }
        }
}

/// Whether a call was told that it had no effect.
pub(super) fn surely_failed(operation: &Operation) -> bool {
    matches!(operation.outcome(), Some(Outcome::Failed { in_doubt: false, .. } | Outcome::NameTaken))
}

fn is_refused(history: &History, commits: &[usize]) -> bool {
    let mut operations = commits.iter().map(|number| &history.operations[*number]);
    let is_fenced = |operation: &Operation| matches!(operation.outcome(), Some(Outcome::Fenced { .. }));
    operations.clone().any(is_fenced) || operations.all(surely_failed)
}

/// Every page that was served, by the operation that served it.
pub(super) fn served(history: &History) -> impl Iterator<Item = (usize, &Operation, EntryIndex, &Seen)> {
    history.operations.iter().enumerate().filter_map(|(number, operation)| {
        Some((number, operation, operation.entry()?, operation.outcome()?.seen()?))
    })
}

/// Whether a hard invalidation that was called by then, acknowledged or not, may have purged a page.
pub(super) fn may_be_purged(history: &History, index: &Index, edition: Edition, by: Time) -> bool {
    may_be_invalidated(history, index, edition, by, true)
}

/// As [`may_be_purged`], by any hard invalidation of something of its tenant.
pub(super) fn may_be_purged_in_doubt(history: &History, index: &Index, edition: Edition, by: Time) -> bool {
    let known = history.known_at(index.first_grant(edition));
    index.called(history).any(|(operation, scopes, hard)| {
        hard && operation.began <= by
            && !operation.is_acknowledged_before(known)
            && scopes.iter().any(|scope| scope.is_about(&history.entries[edition.0].tenant))
    })
}

/// Whether an invalidation that was called by then, acknowledged or not, may be about a page: it covers it, and was not
/// known already when its lease was granted.
pub(super) fn may_be_invalidated(
    history: &History,
    index: &Index,
    edition: Edition,
    by: Time,
    hard_only: bool,
) -> bool {
    let Some(rendered) = index.rendered(history, edition) else { return false };
    let identity = &history.entries[edition.0];
    let known = history.known_at(index.first_grant(edition));
    index.called(history).any(|(operation, scopes, hard)| {
        (hard || !hard_only)
            && operation.began <= by
            && !operation.is_acknowledged_before(known)
            && scopes.iter().any(|scope| scope.covers(identity, &rendered.tags))
    })
}

/// What there is of one entry, by generation.
pub(super) fn of_entry<T>(
    editions: &BTreeMap<Edition, T>,
    entry: EntryIndex,
) -> impl Iterator<Item = (u64, &T)> {
    editions.range((entry, 0)..=(entry, u64::MAX)).map(|((_, generation), value)| (*generation, value))
}
