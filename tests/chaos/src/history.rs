//! One history of many journals.

use crate::{
    journal::{self, Line},
    setting,
};
use anyhow::Context as _;
use leasehold_checker::history::{Audit, Call, History, Operation, Time};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, path::Path};

/// What only the driver of a run knows of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Run {
    /// What its choices were made by.
    pub(crate) seed: u64,
    /// How often each fault happened.
    pub(crate) faults: BTreeMap<String, u64>,
    /// When nothing went wrong any more.
    pub(crate) calm_from: Time,
    /// When nobody asked any more.
    pub(crate) calm_until: Time,
    /// For how long the driver itself, and table and bucket with it, did not run in the calm.
    pub(crate) longest_stall: Time,
    /// When all was over.
    pub(crate) ended: Time,
    /// What table and log held. Not what the bucket did: coordinators that were killed leave what they had to delete.
    pub(crate) audit: Option<Audit>,
    /// What tasks of coordinators panicked with.
    pub(crate) panics: Vec<String>,
    /// Coordinators that ended where nobody ended them, and how.
    pub(crate) deaths: Vec<String>,
    /// The processes that did not end when they were let go.
    pub(crate) hung: Vec<String>,
}

/// What was found in the folder of a run.
pub(crate) struct Found {
    pub(crate) run: Run,
    pub(crate) history: History,
    /// The longest time for which a process of the run did not run in the calm.
    pub(crate) longest_stall: Time,
}

const RUN: &str = "run.json";
const JOURNAL: &str = "journal";

/// The name of the journal of a process.
pub(crate) fn journal_of(process: &str) -> String {
    format!("{process}.{JOURNAL}")
}

impl Run {
    /// Leaves it in the folder of the run.
    pub(crate) fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        fs::write(folder.join(RUN), text).context("the run cannot be kept")
    }
}

/// Everything in the folder of a run.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Found> {
    let text = fs::read(folder.join(RUN)).with_context(|| format!("no run in {}", folder.display()))?;
    let run: Run = serde_json::from_slice(&text)?;
    let mut journals = BTreeMap::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|kind| kind == JOURNAL) {
            let process = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            journals.insert(process, journal::read(&path)?);
        }
    }
    merged(run, journals)
}

/// A call of a process.
type Made = (usize, usize);

/// The journals of a run, by process, in the order in which calls began.
pub(crate) fn merged(run: Run, journals: BTreeMap<String, Vec<Line>>) -> anyhow::Result<Found> {
    let mut operations: Vec<(Made, Operation)> = Vec::new();
    let mut panics = run.panics.clone();
    let mut longest_stall = run.longest_stall;
    for (nth, (process, lines)) in journals.into_iter().enumerate() {
        let mut calls: Vec<Operation> = Vec::new();
        let mut stalls = Vec::new();
        for line in lines {
            let unknown = || format!("{process} tells of a call that it did not make");
            match line {
                Line::Begins { number, at, may_take, call } => {
                    anyhow::ensure!(number == calls.len(), "{process} has lost lines before call {number}");
                    calls.push(Operation {
                        actor: process.clone(),
                        began: at,
                        answer: None,
                        call,
                        may_take,
                        paused: 0,
                        abandoned: false,
                    });
                }
                Line::Ends { number, at, outcome } => {
                    calls.get_mut(number).with_context(unknown)?.answer = Some((at, outcome));
                }
                Line::Abandons { number } => {
                    calls.get_mut(number).with_context(unknown)?.abandoned = true;
                }
                Line::Stalled { from, to } => {
                    if from.max(run.calm_from) < to.min(run.calm_until) {
                        longest_stall = longest_stall.max(to - from);
                    }
                    stalls.push((from, to));
                }
                Line::Panics { what } => panics.push(format!("{process}: {what}")),
            }
        }
        let is_hung = run.hung.contains(&process);
        for (number, mut call) in calls.into_iter().enumerate() {
            call.paused = stalls.iter().map(|stall| overlap(&call, *stall)).sum();
            // Whoever was killed, or ended before its answer, does not know what became of it. Whoever did not end waits still.
            call.abandoned |= call.answer.is_none() && !is_hung;
            operations.push(((nth, number), call));
        }
    }
    operations.sort_by_key(|(made, operation)| (operation.began, *made));
    let places: BTreeMap<Made, usize> =
        operations.iter().enumerate().map(|(place, (made, _))| (*made, place)).collect();
    for ((nth, _), operation) in &mut operations {
        // A call that another one is about is of the same process.
        let place = |number: &mut usize| {
            let found = places.get(&(*nth, *number)).copied();
            *number = found.context("a call is about another one that was not made")?;
            anyhow::Ok(())
        };
        match &mut operation.call {
            Call::Lookup { knows, .. } | Call::Acquire { knows, .. } => {
                knows.iter_mut().try_for_each(place)?
            }
            Call::Sidecar { of, .. } | Call::ForeignSidecar { of, .. } => place(of)?,
            Call::Object { .. }
            | Call::Commit { .. }
            | Call::Renew { .. }
            | Call::Release { .. }
            | Call::Invalidate { .. }
            | Call::Watch
            | Call::Sweep { .. } => {}
        }
    }
    let history = History {
        entries: setting::entries(),
        operations: operations.into_iter().map(|(_, operation)| operation).collect(),
        audit: run.audit.clone(),
        terms: setting::TERMS,
        // Whoever waited in the storm is let go with it.
        faults_ended: None,
        quiet_from: (longest_stall < setting::CALM_STALL).then_some(run.calm_from),
        ended: run.ended,
        panics,
    };
    Ok(Found { run, history, longest_stall })
}

/// For how long of a call its process stood still.
fn overlap(call: &Operation, (from, to): (Time, Time)) -> Time {
    to.min(call.answered()).saturating_sub(from.max(call.began))
}

#[cfg(test)]
mod tests {
    use super::*;
    use leasehold_checker::history::{Names, Outcome, Rendered, Seen};

    fn begins(number: usize, at: Time, call: Call) -> Line {
        Line::Begins { number, at, may_take: 400, call }
    }

    fn ends(number: usize, at: Time, outcome: Outcome) -> Line {
        Line::Ends { number, at, outcome }
    }

    fn acquire(attempt: u128) -> Call {
        Call::Acquire { entry: 0, attempt, wait: 0, ttl: 300, knows: None }
    }

    fn commit(attempt: u128, generation: u64) -> Call {
        Call::Commit { entry: 0, attempt, generation, page: page(generation) }
    }

    fn page(generation: u64) -> Rendered {
        Rendered {
            html: format!("page {generation}"),
            sidecar: None,
            is_sidecar_ahead: false,
            is_html_ahead: false,
            names: Names::default(),
            tags: [].into(),
            revalidate: None,
        }
    }

    fn fresh(generation: u64) -> Outcome {
        let told = format!("page {generation}");
        Outcome::Fresh(Seen { generation, told, bytes: None, sidecar: false, names: Names::default() })
    }

    fn granted(generation: u64) -> Outcome {
        Outcome::Granted { generation, previous: None }
    }

    const STRICT: Call = Call::Lookup { entry: 0, strict: true, knows: None };

    /// One worker is granted 7, stands still, and is overtaken; another is granted 8 and commits it, and asks again; its next
    /// call was under way when it was killed.
    fn journals() -> BTreeMap<String, Vec<Line>> {
        let sleeper = vec![
            begins(0, 100, acquire(1)),
            ends(0, 110, granted(7)),
            begins(1, 120, commit(1, 7)),
            Line::Stalled { from: 121, to: 5_000 },
            ends(1, 5_010, Outcome::Superseded { current: 8 }),
        ];
        let heir = vec![
            begins(0, 900, acquire(2)),
            ends(0, 910, granted(8)),
            begins(1, 920, commit(2, 8)),
            ends(1, 930, Outcome::Committed { names: Names::default() }),
            begins(2, 940, STRICT),
            ends(2, 950, fresh(8)),
            begins(3, 960, Call::Sidecar { entry: 0, generation: 8, of: 2 }),
        ];
        [("heir".to_owned(), heir), ("sleeper".to_owned(), sleeper)].into()
    }

    fn run() -> Run {
        Run { calm_from: 6_000, calm_until: 8_000, ended: 60_000, ..Run::default() }
    }

    fn broken(run: Run, journals: BTreeMap<String, Vec<Line>>) -> Vec<&'static str> {
        let history = merged(run, journals).unwrap().history;
        leasehold_checker::violations(&history).into_iter().map(|found| found.rule).collect()
    }

    #[test]
    fn calls_of_all_processes_are_in_the_order_in_which_they_began() {
        let history = merged(run(), journals()).unwrap().history;
        let began: Vec<_> = history.operations.iter().map(|operation| operation.began).collect();
        assert_eq!(began, [100, 120, 900, 920, 940, 960]);
        // Counted in the heir's journal it was the third one.
        assert!(matches!(history.operations[5].call, Call::Sidecar { of: 4, .. }));
        assert!(history.operations[5].abandoned, "its process was killed");
        assert_eq!(history.operations[1].paused, 4_879);
        assert_eq!(broken(run(), journals()), [] as [&str; 0]);
    }

    #[test]
    fn history_that_was_tampered_with_is_noticed() {
        let mut journals = journals();
        *journals.get_mut("heir").unwrap().last_mut().unwrap() = begins(3, 960, STRICT);
        journals.get_mut("heir").unwrap().push(ends(3, 970, fresh(7)));
        assert_eq!(
            broken(run(), journals),
            ["what was acknowledged is there, or something newer", "strict lookups never go back",]
        );
    }

    #[test]
    fn late_answer_is_only_excused_by_a_process_that_did_not_run() {
        let mut journals = journals();
        journals.get_mut("sleeper").unwrap().retain(|line| !matches!(line, Line::Stalled { .. }));
        assert_eq!(broken(run(), journals), ["calls end within their deadlines"]);
    }

    #[test]
    fn call_of_a_process_that_never_ended_is_found() {
        let hung = Run { hung: vec!["heir".to_owned()], ..run() };
        assert_eq!(broken(hung, journals()), ["calls end within their deadlines"]);
    }

    #[test]
    fn times_are_not_judged_where_the_machine_stood_still_in_the_calm() {
        let mut journals = journals();
        assert_eq!(merged(run(), journals.clone()).unwrap().history.quiet_from, Some(6_000));
        journals.get_mut("heir").unwrap().push(Line::Stalled { from: 7_000, to: 7_500 });
        assert_eq!(merged(run(), journals).unwrap().history.quiet_from, None);
    }
}
