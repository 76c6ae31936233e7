//! What the load was told, and the judge of everything that it is told later.

use super::draft::Draft;
use bytes::Bytes;
use leasehold_client::{Commit, ConsistencyToken, CurrentPage, Depth, RequestId};
use leasehold_fleet::now;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;

/// Shared by all tasks of the load. Every method panics where a promise was broken.
#[derive(Default)]
pub(crate) struct Ledger {
    entries: Mutex<HashMap<String, Record>>,
    tally: Mutex<Tally>,
}

/// How much was tried: a test that tried nothing proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) committed: usize,
    pub(crate) committed_stale: usize,
    pub(crate) superseded: usize,
    pub(crate) fenced: usize,
    /// Commits that got no answer at first.
    pub(crate) in_doubt: usize,
    /// Of these, those that turned out to have been applied by then or later.
    pub(crate) settled_as_committed: usize,
    pub(crate) invalidations: usize,
    pub(crate) pages_checked: usize,
    pub(crate) sidecars_checked: usize,
    pub(crate) commits_repeated: usize,
    /// Calls of clients that repeat nothing, which got no answer.
    pub(crate) gave_up_at_once: usize,
    /// Bodies that broke off.
    pub(crate) bodies_cut: usize,
    /// Calls that got no answer, however often they were repeated.
    pub(crate) calls_failed: usize,
}

#[derive(Default)]
struct Record {
    attempts: BTreeMap<u64, Attempt>,
    invalidations: Vec<Invalidation>,
}

/// A grant that was heard of, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) request_id: RequestId,
    pub(crate) draft: Draft,
    asked_at: Instant,
    heard_at: Instant,
    answer: Option<Commit>,
    was_served: bool,
}

#[derive(Clone, Debug)]
struct Invalidation {
    called_at: Instant,
    depth: Depth,
    acknowledged_at: Option<Instant>,
    /// `None` until it is acknowledged.
    token: Option<ConsistencyToken>,
}

/// What was known of an entry before a call was sent: the call may be told something newer, never something
/// older.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The highest generation that was granted.
    granted: u64,
    /// The highest generation whose commit was acknowledged.
    acknowledged: u64,
    /// The invalidations that were acknowledged, which no page may have forgotten.
    invalidations: Vec<Invalidation>,
    pub(crate) token: Option<ConsistencyToken>,
    asked_at: Instant,
}

impl Ledger {
    pub(crate) fn known(&self, key: &str) -> Known {
        self.with(key, |record| {
            let acknowledged =
                record.attempts.iter().rev().find(|(_, attempt)| attempt.is_acknowledged()).map(|(g, _)| *g);
            let invalidations: Vec<_> =
                record.invalidations.iter().filter(|told| told.token.is_some()).cloned().collect();
            Known {
                granted: record.attempts.keys().next_back().copied().unwrap_or(0),
                acknowledged: acknowledged.unwrap_or(0),
                token: invalidations.last().and_then(|told| told.token.clone()),
                invalidations,
                asked_at: now(),
            }
        })
    }

    /// A grant was heard of: its generation is nobody else's, and above all that were granted before it was
    /// asked for.
    pub(crate) fn granted(
        &self,
        key: &str,
        known: &Known,
        request_id: RequestId,
        generation: u64,
        draft: Draft,
    ) {
        assert!(generation > known.granted, "{key}: {generation} was granted after {}", known.granted);
        let attempt = Attempt {
            request_id,
            draft,
            asked_at: known.asked_at,
            heard_at: now(),
            answer: None,
            was_served: false,
        };
        let before = self.with(key, |record| record.attempts.insert(generation, attempt));
        assert!(before.is_none(), "{key}: {generation} was granted twice");
    }

    /// A commit was answered: for the first time or again.
    pub(crate) fn answered(&self, key: &str, generation: u64, answer: &Commit, was_in_doubt: bool) {
        let before = self.with(key, |record| {
            let attempt = record.attempts.get_mut(&generation)?;
            let before = attempt.clone();
            if !attempt.is_acknowledged() {
                attempt.answer = Some(answer.clone());
            }
            Some(before)
        });
        let before = before.unwrap_or_else(|| panic!("{key}: {generation} was never granted"));
        let applied = before.is_acknowledged() || before.was_served;
        match answer {
            Commit::Committed { .. } | Commit::CommittedStale { .. } => assert!(
                before.answer.is_none() || before.is_acknowledged(),
                "{key}: {generation} is {answer:?} after {:?}",
                before.answer
            ),
            Commit::Superseded { current_generation } => {
                assert!(
                    *current_generation > generation,
                    "{key}: {generation} is superseded by {current_generation}"
                );
            }
            Commit::Fenced { .. } => assert!(
                !applied,
                "{key}: {generation} is called fenced, although it was applied: answered {:?}, served: {}",
                before.answer, before.was_served
            ),
        }
        self.count(|tally| match answer {
            _ if before.answer.is_some() => tally.commits_repeated += 1,
            Commit::Committed { .. } | Commit::CommittedStale { .. } => {
                tally.committed += 1;
                tally.committed_stale += usize::from(matches!(answer, Commit::CommittedStale { .. }));
                tally.settled_as_committed += usize::from(was_in_doubt);
            }
            Commit::Superseded { .. } => tally.superseded += 1,
            Commit::Fenced { .. } => tally.fenced += 1,
        });
    }

    /// An invalidation of this entry is about to be called; gives its place in the ledger.
    pub(crate) fn invalidating(&self, key: &str, depth: Depth) -> usize {
        let told = Invalidation { called_at: now(), depth, acknowledged_at: None, token: None };
        self.with(key, |record| {
            record.invalidations.push(told);
            record.invalidations.len() - 1
        })
    }

    /// It was acknowledged: for the first time or, with the same request id, again.
    pub(crate) fn invalidated(&self, key: &str, nth: usize, token: ConsistencyToken) {
        let before = self.with(key, |record| {
            let told = &mut record.invalidations[nth];
            told.acknowledged_at.get_or_insert_with(now);
            told.token.replace(token.clone())
        });
        match before {
            None => self.count(|tally| tally.invalidations += 1),
            Some(before) => assert_eq!(before, token, "{key}: one invalidation took two places in the log"),
        }
    }

    /// A page was served, as fresh or stale, with these bodies where they were asked for.
    pub(crate) fn served(
        &self,
        key: &str,
        known: &Known,
        current: &CurrentPage,
        html: Option<&Bytes>,
    ) -> Attempt {
        let generation = current.page().generation;
        assert!(
            generation >= known.acknowledged,
            "{key}: {} was acknowledged, and {generation} is served",
            known.acknowledged
        );
        let attempt = self.with(key, |record| {
            let attempt = record.attempts.get_mut(&generation)?;
            attempt.was_served = true;
            Some(attempt.clone())
        });
        let attempt =
            attempt.unwrap_or_else(|| panic!("{key}: {generation} is served, and was never granted"));
        assert!(
            !matches!(attempt.answer, Some(Commit::Fenced { .. })),
            "{key}: {generation} was called fenced, and is served"
        );
        for told in known.invalidations.iter().filter(|told| told.called_at > attempt.heard_at) {
            assert!(
                matches!(current, CurrentPage::Stale(_)),
                "{key}: {generation} is fresh, although rendered before an invalidation: {told:?}"
            );
            assert_eq!(told.depth, Depth::Soft, "{key}: {generation} is served, although purged");
        }
        if let Some(html) = html {
            assert_eq!(*html, attempt.draft.html(key), "{key}: {generation} is served with other bytes");
            self.count(|tally| tally.pages_checked += 1);
        }
        attempt
    }

    /// No page was served: nothing may have been acknowledged, or what was has been purged.
    pub(crate) fn missing(&self, key: &str, known: &Known) {
        let may_be_purged = self.with(key, |record| {
            let kept = record.attempts.get(&known.acknowledged)?;
            let purged = |told: &Invalidation| told.depth == Depth::Hard && told.called_at > kept.asked_at;
            Some(record.invalidations.iter().any(purged))
        });
        assert!(may_be_purged != Some(false), "{key}: {} was acknowledged, and is lost", known.acknowledged);
    }

    /// The sidecar of a page that was just served was not: it must have been purged since. Of a page that has been superseded
    /// since, an earlier purge counts in doubt; and one that was uploaded ahead of its commit does not say which tags its page
    /// had, so that a purge of any other page counts.
    pub(crate) fn sidecar_missing(&self, key: &str, generation: u64) {
        let (is_purged, is_unlabelled) = self.with(key, |record| {
            let Some(attempt) = record.attempts.get(&generation) else { return (false, false) };
            let is_superseded = record.attempts.keys().next_back() > Some(&generation);
            let purged = |told: &Invalidation| {
                let is_later = told.acknowledged_at.is_none_or(|at| at > attempt.asked_at);
                told.depth == Depth::Hard && (is_superseded || is_later)
            };
            let is_unlabelled = is_superseded && attempt.draft.is_sidecar_uploaded(key);
            (record.invalidations.iter().any(purged), is_unlabelled)
        });
        let may_be_purged = is_purged || is_unlabelled && self.was_anything_purged();
        assert!(may_be_purged, "{key}: {generation} was served, and its sidecar is lost");
    }

    fn was_anything_purged(&self) -> bool {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = entries.values().flat_map(|record| &record.invalidations);
        told.any(|told| told.depth == Depth::Hard)
    }

    /// The newest attempts that got an answer, to be committed once more.
    pub(crate) fn newest_answered(&self, key: &str, most: usize) -> Vec<(u64, Attempt)> {
        self.with(key, |record| {
            let answered = record.attempts.iter().rev().filter(|(_, attempt)| attempt.answer.is_some());
            answered.take(most).map(|(generation, attempt)| (*generation, attempt.clone())).collect()
        })
    }

    pub(crate) fn newest_draft(&self, key: &str) -> Option<Draft> {
        self.with(key, |record| record.attempts.values().next_back().map(|attempt| attempt.draft))
    }

    pub(crate) fn tally(&self) -> Tally {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, add: impl FnOnce(&mut Tally)) {
        add(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn with<T>(&self, key: &str, read: impl FnOnce(&mut Record) -> T) -> T {
        let mut entries: MutexGuard<'_, HashMap<String, Record>> =
            self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        read(entries.entry(key.to_owned()).or_default())
    }
}

impl Known {
    /// The invalidations alone.
    pub(crate) fn but_for_commits(self) -> Self {
        Self { acknowledged: 0, ..self }
    }
}

impl Attempt {
    fn is_acknowledged(&self) -> bool {
        matches!(self.answer, Some(Commit::Committed { .. } | Commit::CommittedStale { .. }))
    }
}
