//! What a run has shown, and what a series of runs must have shown to mean anything.

use crate::{
    plan::{LOAD_ENDS, Plan},
    trace::Trace,
    world::{self, Ran},
};
use leasehold_checker::history::{
    Absence, Audit, Call, History, Need, Operation, Outcome, Reason, Scope, Time, Told,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// A run, in figures.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Report {
    /// What it can be repeated by.
    pub seed: u64,
    /// Lines of its trace.
    pub lines: u64,
    /// Digest of its trace, in hex.
    pub digest: String,
    /// How long it took in the simulation, in milliseconds.
    pub simulated_ms: u64,
    /// Calls that were made.
    pub operations: u64,
    /// How often each outcome occurred.
    pub outcomes: BTreeMap<String, u64>,
    /// How often each fault occurred.
    pub faults: BTreeMap<String, u64>,
    /// Promises that were broken: the rule, and what happened.
    pub violations: Vec<(String, String)>,
}

/// Runs one seed in this process, and judges it. Its trace goes into a file, where one is named.
///
/// # Errors
/// When the file cannot be written.
pub fn run(seed: u64, trace: Option<&Path>) -> std::io::Result<Report> {
    // What the SDK makes its ids with is seeded for each thread, and there is only this one.
    fastrand::seed(seed);
    let panics = Arc::new(Mutex::new(Vec::new()));
    let heard = panics.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| heard.lock().push(panic.to_string())));
    let trace = Trace::new(trace)?;
    let Ran { mut history, faults } = world::run(seed, &Plan::of(seed), &trace);
    std::panic::set_hook(before);
    history.panics = std::mem::take(&mut *panics.lock());
    let (lines, digest) = trace.finish();
    let violations = leasehold_checker::violations(&history);
    Ok(Report {
        seed,
        lines,
        digest,
        simulated_ms: history.ended,
        operations: history.operations.len() as u64,
        outcomes: outcomes(&history),
        faults,
        violations: violations.into_iter().map(|found| (found.rule.to_owned(), found.what)).collect(),
    })
}

impl Report {
    /// Adds another one's figures.
    pub fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.simulated_ms += other.simulated_ms;
        self.operations += other.operations;
        for (total, part) in [(&mut self.outcomes, &other.outcomes), (&mut self.faults, &other.faults)] {
            for (name, times) in part {
                *total.entry(name.clone()).or_default() += times;
            }
        }
    }

    /// What must have occurred over a long series and did not: without it, that no promise was broken says little.
    pub fn never_seen(&self) -> Vec<String> {
        let faults = world::fault_names();
        let times =
            |counts: &BTreeMap<String, u64>, name: &str| counts.get(name).copied().unwrap_or_default();
        let seen = |name: &str| times(&self.faults, name) + times(&self.outcomes, name) > 0;
        OUTCOMES.into_iter().map(str::to_owned).chain(faults).filter(|name| !seen(name)).collect()
    }
}

/// What every promise is about: a series in which one of these never occurs has not shown it.
const OUTCOMES: [&str; 65] = [
    "lookup: fresh",
    "lookup: stale, expired",
    "lookup: stale, invalidated",
    "lookup: stale, unverified",
    "lookup: never rendered",
    "lookup: purged",
    "lookup: failed",
    "strict lookup: fresh",
    "strict lookup: stale, expired",
    "strict lookup: stale, invalidated",
    "strict lookup: purged",
    "strict lookup: failed",
    "sidecar: served",
    "sidecar: not found",
    "sidecar of another entry: not found",
    "by name: served",
    "by name: not found",
    "by name: failed",
    "lookup: no page to serve",
    "strict lookup: never rendered",
    "invalidated in mid-render: everything",
    "invalidated in mid-render: tenant",
    "invalidated in mid-render: deployment",
    "invalidated in mid-render: path prefix",
    "invalidated in mid-render: tag",
    "invalidated in mid-render: key",
    "acquire: granted",
    "acquire: fresh",
    "acquire: held",
    "acquire: backing off",
    "acquire: ended",
    "acquire: failed",
    "acquire: abandoned",
    "waiting acquire: granted",
    "waiting acquire: fresh",
    "waiting when the faults ended: granted",
    "waiting when the faults ended: fresh",
    "commit: committed",
    "commit: committed stale",
    "commit: committed and purged",
    "commit: superseded",
    "commit: fenced",
    "commit: name is taken",
    "commit: failed, in doubt",
    "renewal: renewed",
    "renewal: lost",
    "release: released",
    "release: not held",
    "invalidate: done",
    "invalidate: failed, in doubt",
    "watch: told of commits",
    "watch: told of invalidations",
    "watch: told of a gap",
    "sweep amid writers: deleted",
    "sweep amid writers: found nothing",
    "sweep amid writers: refused",
    "sweep amid writers: abandoned",
    "last sweep: deleted",
    "log: invalidation",
    "row: page with a sidecar",
    "row: page without a sidecar",
    "row: page with a name",
    "object: named",
    "object: leased",
    "object: left to the last sweep",
];

/// How often each outcome occurred in a history, by what was asked.
pub fn outcomes(history: &History) -> BTreeMap<String, u64> {
    let mut outcomes = BTreeMap::new();
    for operation in &history.operations {
        let mut add = |name: String| *outcomes.entry(name).or_default() += 1;
        if let Some(Outcome::Watched(told)) = operation.outcome() {
            let kinds = [
                ("commits", told.iter().any(|told| matches!(told, Told::Committed { .. }))),
                ("invalidations", told.contains(&Told::Invalidated)),
                ("a gap", told.contains(&Told::Resync)),
            ];
            kinds.iter().filter(|(_, was)| *was).for_each(|(kind, _)| add(format!("watch: told of {kind}")));
            continue;
        }
        if let Some(Outcome::Failed { why, .. }) = operation.outcome() {
            add(format!("failure: {why}"));
        }
        if is_waiting_at(operation, history.faults_ended) {
            add(format!("waiting when the faults ended: {}", answered(operation)));
        }
        add(format!("{}: {}", asked(operation), answered(operation)));
    }
    for (name, times) in invalidated_in_mid_render(history) {
        outcomes.insert(format!("invalidated in mid-render: {name}"), times);
    }
    let Some(Audit { rows, objects, invalidations }) = &history.audit else { return outcomes };
    let mut add = |name: &str| *outcomes.entry(name.to_owned()).or_default() += 1;
    invalidations.iter().for_each(|_| add("log: invalidation"));
    for row in rows {
        add(if row.sidecar.is_some() { "row: page with a sidecar" } else { "row: page without a sidecar" });
        if row.html.given.is_some() {
            add("row: page with a name");
        }
    }
    for object in objects {
        add(match object.needed {
            Need::Named => "object: named",
            Need::Leased => "object: leased",
            Need::Nobody => "object: left to the last sweep",
        });
    }
    outcomes
}

/// How often a page was committed that had been invalidated between its grant and its commit, by the kind of scope.
fn invalidated_in_mid_render(history: &History) -> BTreeMap<&'static str, u64> {
    let mut granted = BTreeMap::new();
    let mut invalidations = Vec::new();
    let mut times = BTreeMap::new();
    for operation in &history.operations {
        match (&operation.call, operation.outcome()) {
            (Call::Acquire { entry, .. }, Some(Outcome::Granted { generation, .. })) => {
                granted.entry((*entry, *generation)).or_insert(operation.answered());
            }
            (Call::Invalidate { scopes, .. }, Some(Outcome::Invalidated)) => {
                invalidations.push((operation.began, operation.answered(), scopes));
            }
            (Call::Commit { entry, generation, page, .. }, Some(Outcome::CommittedStale { .. })) => {
                let Some(since) = granted.get(&(*entry, *generation)) else { continue };
                let amid = invalidations
                    .iter()
                    .filter(|(began, answered, _)| began > since && *answered < operation.began);
                for scope in amid.flat_map(|(_, _, scopes)| *scopes) {
                    if scope.covers(&history.entries[*entry], &page.tags) {
                        *times.entry(kind_of(scope)).or_default() += 1;
                    }
                }
            }
            _ => {}
        }
    }
    times
}

fn kind_of(scope: &Scope) -> &'static str {
    match scope {
        Scope::Everything => "everything",
        Scope::Tenant(_) => "tenant",
        Scope::Deployment(..) => "deployment",
        Scope::Path(..) => "path prefix",
        Scope::Tag(..) => "tag",
        Scope::Key(..) => "key",
    }
}

fn asked(operation: &Operation) -> &'static str {
    match operation.call {
        Call::Lookup { strict: false, .. } => "lookup",
        Call::Lookup { strict: true, .. } => "strict lookup",
        Call::Sidecar { .. } => "sidecar",
        Call::ForeignSidecar { .. } => "sidecar of another entry",
        Call::Object { .. } => "by name",
        Call::Acquire { wait: 0, .. } => "acquire",
        Call::Acquire { .. } => "waiting acquire",
        Call::Commit { .. } => "commit",
        Call::Renew { .. } => "renewal",
        Call::Release { .. } => "release",
        Call::Invalidate { .. } => "invalidate",
        Call::Watch => "watch",
        Call::Sweep { is_last: false } if operation.began < LOAD_ENDS => "sweep amid writers",
        Call::Sweep { is_last: false } => "sweep",
        Call::Sweep { is_last: true } => "last sweep",
    }
}

fn answered(operation: &Operation) -> &'static str {
    let Some(outcome) = operation.outcome() else {
        return if operation.abandoned { "abandoned" } else { "unanswered" };
    };
    match outcome {
        Outcome::Fresh(_) => "fresh",
        Outcome::Stale(_, Reason::Expired) => "stale, expired",
        Outcome::Stale(_, Reason::Invalidated) => "stale, invalidated",
        Outcome::Stale(_, Reason::Unverified) => "stale, unverified",
        Outcome::Missing(Absence::NeverRendered) => "never rendered",
        Outcome::Missing(Absence::Purged) => "purged",
        Outcome::Missing(Absence::BodyGone) => "body gone",
        Outcome::Missing(Absence::Untold) => "no page to serve",
        Outcome::Sidecar(_) => "served",
        Outcome::NoSidecar | Outcome::NoObject => "not found",
        Outcome::Object { .. } => "served",
        Outcome::Granted { .. } => "granted",
        Outcome::Held { .. } => "held",
        Outcome::BackingOff { .. } => "backing off",
        Outcome::Ended => "ended",
        Outcome::Committed { .. } => "committed",
        Outcome::CommittedStale { purged: false, .. } => "committed stale",
        Outcome::CommittedStale { purged: true, .. } => "committed and purged",
        Outcome::NameTaken => "name is taken",
        Outcome::Superseded { .. } => "superseded",
        Outcome::Fenced { .. } => "fenced",
        Outcome::Renewed => "renewed",
        Outcome::Lost => "lost",
        Outcome::Released => "released",
        Outcome::NotHeld => "not held",
        Outcome::Invalidated => "done",
        Outcome::Watched(_) => "told",
        Outcome::Swept { failed: 1.., .. } => "deleted not all",
        Outcome::Swept { deleted: 1.., .. } => "deleted",
        Outcome::Swept { .. } => "found nothing",
        Outcome::SweptNothing => "refused",
        Outcome::Failed { in_doubt: true, .. } if is_write(operation) => "failed, in doubt",
        Outcome::Failed { .. } => "failed",
    }
}

fn is_waiting_at(operation: &Operation, time: Option<Time>) -> bool {
    let waits = matches!(operation.call, Call::Acquire { wait: 1.., .. }) && !operation.abandoned;
    waits && time.is_some_and(|time| operation.began < time && time < operation.answered())
}

fn is_write(operation: &Operation) -> bool {
    matches!(
        operation.call,
        Call::Commit { .. } | Call::Invalidate { .. } | Call::Renew { .. } | Call::Release { .. }
    )
}
