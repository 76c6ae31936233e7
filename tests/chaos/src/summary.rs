//! What a run has shown, and what it must have shown to mean anything.

use crate::{
    history::{Found, Run},
    setting, trouble,
};
use leasehold_checker::{
    Violation,
    history::{Call, History, Operation, Outcome, Time},
};
use leasehold_sim::report;
use std::{collections::BTreeMap, fmt};

/// A run, in figures.
pub(crate) struct Summary {
    run: Run,
    operations: usize,
    lasted: Time,
    outcomes: BTreeMap<String, u64>,
    events: BTreeMap<&'static str, u64>,
    longest_stall: Time,
    /// Promises that were broken.
    pub(crate) violations: Vec<Violation>,
    /// What did not occur, and had to.
    pub(crate) missing: Vec<String>,
}

/// From so many milliseconds of storm on, rare things must have occurred too.
const LONG: Time = 300_000;

const TAKEOVERS: &str = "leases that another took over";
const UNHEARD: &str = "calls whose caller was killed before the answer";
const OVERTAKEN: &str = "commits of those who were overtaken";
const IN_DOUBT: &str = "writes of unknown outcome";
const SLEPT: &str = "calls whose caller stood still meanwhile";
const EVENTS: [&str; 5] = [TAKEOVERS, UNHEARD, OVERTAKEN, IN_DOUBT, SLEPT];

/// What every run is about.
const OUTCOMES: [&str; 12] = [
    "lookup: fresh",
    "lookup: stale, invalidated",
    "lookup: purged",
    "strict lookup: fresh",
    "strict lookup: stale, invalidated",
    "sidecar: served",
    "acquire: granted",
    "waiting acquire: granted",
    "waiting acquire: fresh",
    "commit: committed",
    "invalidate: done",
    "watch: told of commits",
];

/// What a long one is about besides.
const RARE_OUTCOMES: [&str; 12] = [
    "lookup: stale, expired",
    "lookup: stale, unverified",
    "lookup: failed",
    "strict lookup: failed",
    "acquire: held",
    "acquire: backing off",
    "commit: committed stale",
    "commit: superseded",
    "commit: fenced",
    "commit: failed, in doubt",
    "release: released",
    "watch: told of invalidations",
];

impl Summary {
    /// Judges the history of a run.
    pub(crate) fn of(found: &Found) -> Self {
        let Found { run, history, longest_stall } = found;
        let outcomes = report::outcomes(history);
        let events = events(history);
        let mut wanted: Vec<&str> = OUTCOMES.into_iter().chain(trouble::ALL).chain(EVENTS).collect();
        if run.calm_from >= LONG {
            wanted.extend(RARE_OUTCOMES);
        }
        let occurred = |name: &str| {
            let counted = outcomes.get(name).or(run.faults.get(name)).or(events.get(name));
            counted.is_some_and(|times| *times > 0)
        };
        let mut violations = leasehold_checker::violations(history);
        violations.extend(
            run.deaths.iter().map(|what| Violation {
                rule: "a coordinator goes on until it is ended",
                what: what.clone(),
            }),
        );
        let missing = wanted.into_iter().filter(|name| !occurred(name)).map(str::to_owned).collect();
        Self {
            run: run.clone(),
            operations: history.operations.len(),
            lasted: history.ended,
            longest_stall: *longest_stall,
            violations,
            missing,
            outcomes,
            events,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, operations, lasted, outcomes, events, longest_stall, violations, missing } = self;
        writeln!(f, "seed {}: {operations} operations in {} s", run.seed, lasted / 1_000)?;
        write_counts(f, "outcomes", outcomes)?;
        write_counts(f, "faults", &run.faults)?;
        write_counts(f, "what came of them", events)?;
        writeln!(f)?;
        if *longest_stall < setting::CALM_STALL {
            writeln!(f, "in the calm, no process stood still for more than {longest_stall} ms")?;
        } else {
            writeln!(
                f,
                "in the calm, a process stood still for {longest_stall} ms: what is owed in the calm is not judged"
            )?;
        }
        for name in missing {
            writeln!(f, "never seen: {name}")?;
        }
        for Violation { rule, what } in violations.iter().take(20) {
            writeln!(f, "{rule}: {what}")?;
        }
        write!(f, "{} violations", violations.len())
    }
}

fn write_counts<K: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    counts: &BTreeMap<K, u64>,
) -> fmt::Result {
    writeln!(f, "\n{what}")?;
    counts.iter().try_for_each(|(name, times)| writeln!(f, "{times:>10}  {name}"))
}

fn events(history: &History) -> BTreeMap<&'static str, u64> {
    let count = |is_it: &dyn Fn(&Operation) -> bool| {
        history.operations.iter().filter(|operation| is_it(operation)).count() as u64
    };
    [
        (TAKEOVERS, takeovers(history)),
        (UNHEARD, count(&|operation| operation.answer.is_none() && operation.abandoned)),
        (
            OVERTAKEN,
            count(&|operation| {
                matches!(operation.outcome(), Some(Outcome::Superseded { .. } | Outcome::Fenced { .. }))
            }),
        ),
        (
            IN_DOUBT,
            count(&|operation| matches!(operation.outcome(), Some(Outcome::Failed { in_doubt: true, .. }))),
        ),
        (SLEPT, count(&|operation| operation.paused > 0)),
    ]
    .into()
}

/// Grants after a grant to somebody else, who had neither committed nor given back by then.
fn takeovers(history: &History) -> u64 {
    let mut grants: BTreeMap<usize, BTreeMap<u64, (u128, Time)>> = BTreeMap::new();
    let mut tried: BTreeMap<(usize, u64), Time> = BTreeMap::new();
    for operation in &history.operations {
        match (&operation.call, operation.outcome()) {
            (Call::Acquire { entry, attempt, .. }, Some(Outcome::Granted { generation, .. })) => {
                let granted = (*attempt, operation.answered());
                grants.entry(*entry).or_default().entry(*generation).or_insert(granted);
            }
            (Call::Commit { entry, generation, .. } | Call::Release { entry, generation }, _) => {
                tried.entry((*entry, *generation)).or_insert(operation.began);
            }
            _ => {}
        }
    }
    let mut takeovers = 0;
    for (entry, grants) in &grants {
        for ((before, (holder, _)), (_, (heir, at))) in grants.iter().zip(grants.iter().skip(1)) {
            let tried = tried.get(&(*entry, *before)).copied().unwrap_or(Time::MAX);
            takeovers += u64::from(holder != heir && tried > *at);
        }
    }
    takeovers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{history, journal::Line};

    fn acquire(number: usize, at: Time, attempt: u128, generation: u64) -> [Line; 2] {
        let call = Call::Acquire { entry: 0, attempt, wait: 0, ttl: 300, knows: None };
        let outcome = Outcome::Granted { generation, previous: None };
        [Line::Begins { number, at, may_take: 400, call }, Line::Ends { number, at: at + 10, outcome }]
    }

    #[test]
    fn run_in_which_nothing_happened_shows_nothing() {
        let shown = |run: Run| Summary::of(&history::merged(run, BTreeMap::new()).unwrap());
        let short = shown(Run::default());
        assert!(short.violations.is_empty());
        assert_eq!(short.missing.len(), OUTCOMES.len() + trouble::ALL.len() + EVENTS.len());
        let long = shown(Run { calm_from: LONG, ..Run::default() });
        assert_eq!(long.missing.len(), short.missing.len() + RARE_OUTCOMES.len());
        let one = shown(Run { faults: [(trouble::ALL[0].to_owned(), 1)].into(), ..Run::default() });
        assert_eq!(one.missing.len(), short.missing.len() - 1);
    }

    #[test]
    fn lease_is_taken_over_where_its_holder_had_not_come_to_an_end() {
        let counted = |lines: Vec<Line>| {
            takeovers(&history::merged(Run::default(), [("w".to_owned(), lines)].into()).unwrap().history)
        };
        let [mine, granted] = acquire(0, 100, 1, 7);
        let repeated = acquire(1, 150, 1, 7);
        assert_eq!(counted([vec![mine.clone(), granted.clone()], repeated.to_vec()].concat()), 0);
        let [next, its] = acquire(2, 500, 2, 8);
        let lines = [vec![mine.clone(), granted.clone()], repeated.to_vec(), vec![next, its]].concat();
        assert_eq!(counted(lines), 1);
        let release = Call::Release { entry: 0, generation: 7 };
        let given_back = Line::Begins { number: 1, at: 200, may_take: 400, call: release };
        let lines = [vec![mine, granted, given_back], acquire(2, 500, 2, 8).to_vec()].concat();
        assert_eq!(counted(lines), 0);
    }
}
