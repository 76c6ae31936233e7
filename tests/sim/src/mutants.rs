//! Takes the rules of the system out, one after the other: a simulation that does not notice shows nothing.

use crate::many::alone;
use anyhow::bail;
use leasehold_core::mutation::Mutation;
use std::{
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// A rule by its name.
///
/// # Errors
/// When there is none of that name: what there are.
pub fn by_name(name: &str) -> Result<Mutation, String> {
    Mutation::ALL
        .into_iter()
        .find(|rule| format!("{rule:?}") == name)
        .ok_or_else(|| format!("there are {:?}", Mutation::ALL))
}

/// For each of these rules, runs these seeds without it until a promise is broken, and prints which seed that was.
///
/// # Errors
/// When the seeds are not enough for one of them, or one of them cannot be run.
pub fn run(rules: &[Mutation], seeds: Range<u64>, jobs: usize) -> anyhow::Result<()> {
    let mut unnoticed = Vec::new();
    for &rule in rules {
        match noticed(rule, seeds.clone(), jobs)? {
            Some((tried, what)) => println!("{rule:?}: noticed within {tried} seeds: {what}"),
            None => {
                println!("{rule:?}: not noticed");
                unnoticed.push(rule);
            }
        }
    }
    if !unnoticed.is_empty() {
        bail!("not noticed within {} seeds: {unnoticed:?}", seeds.end - seeds.start);
    }
    Ok(())
}

/// After how many seeds, and what was wrong.
fn noticed(rule: Mutation, seeds: Range<u64>, jobs: usize) -> anyhow::Result<Option<(u64, String)>> {
    let (next, found) = (AtomicU64::new(seeds.start), OnceLock::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while found.get().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    // Without a report nothing was noticed.
                    let wrong = alone(seed, Some(rule)).map(|report| report.violations.into_iter().next());
                    let told = wrong.map(|wrong| {
                        wrong.map(|(kind, what)| {
                            (seed - seeds.start + 1, format!("seed {seed}: {kind}: {what}"))
                        })
                    });
                    if let Some(told) = told.transpose() {
                        let _ = found.set(told);
                    }
                }
            });
        }
    });
    found.into_inner().transpose()
}
