//! Many seeds, each in a process of its own, as many at a time as there are processors.

use crate::report::Report;
use anyhow::{Context as _, bail};
use leasehold_core::mutation::Mutation;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    ops::Range,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Every so manieth seed is run twice: the traces must be the same.
const AGAIN_EVERY: u64 = 20;
/// From so many seeds on, everything that is listed must have occurred.
const LONG_SERIES: u64 = 200;

/// What a series has shown.
#[derive(Default)]
struct Series {
    total: Report,
    seeds: u64,
    repeated: u64,
    /// What went wrong, by seed.
    wrong: BTreeMap<u64, Vec<String>>,
}

/// Runs all of these seeds, prints what was seen, and how to see it again.
///
/// # Errors
/// When a promise was broken, a seed did not give the same trace twice, or something was never seen in a long series.
pub fn run(seeds: Range<u64>, jobs: usize, replay: &str) -> anyhow::Result<()> {
    let next = AtomicU64::new(seeds.start);
    let series = Mutex::new(Series::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let wrong = one(seed, &series);
                    if !wrong.is_empty() {
                        eprintln!("seed {seed}: {}", wrong[0]);
                        series.lock().wrong.insert(seed, wrong);
                    }
                }
            });
        }
    });
    let series = series.into_inner();
    print(&series);
    let missing = if series.seeds >= LONG_SERIES { series.total.never_seen() } else { Vec::new() };
    for name in &missing {
        println!("never seen: {name}");
    }
    for (seed, wrong) in &series.wrong {
        for what in wrong.iter().take(5) {
            println!("seed {seed}: {what}");
        }
        println!("seed {seed}: to see it again: {replay} --seed {seed}");
    }
    if !series.wrong.is_empty() {
        bail!("{} of {} seeds went wrong", series.wrong.len(), series.seeds);
    }
    if !missing.is_empty() {
        bail!("{} things never happened", missing.len());
    }
    Ok(())
}

/// One seed, in a process of its own; now and then in two. What went wrong.
fn one(seed: u64, series: &Mutex<Series>) -> Vec<String> {
    let report = match alone(seed, None) {
        Ok(report) => report,
        Err(error) => return vec![format!("{error:#}")],
    };
    let mut wrong: Vec<_> = report.violations.iter().map(|(rule, what)| format!("{rule}: {what}")).collect();
    let is_repeated = seed.is_multiple_of(AGAIN_EVERY);
    if is_repeated {
        match alone(seed, None) {
            Ok(again) if again.digest == report.digest => println!("seed {seed}, twice: {}", report.digest),
            Ok(again) => wrong.push(format!("not deterministic: {} and {}", report.digest, again.digest)),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    let mut series = series.lock();
    series.total.add(&report);
    series.seeds += 1;
    series.repeated += u64::from(is_repeated);
    wrong
}

/// The report of a process of its own: whatever is global in it, no other seed has touched.
pub(crate) fn alone(seed: u64, without: Option<Mutation>) -> anyhow::Result<Report> {
    let output = Command::new(std::env::current_exe().context("no program to start")?)
        .args(["--seed", &seed.to_string(), "--json"])
        .args(without.map(|rule| format!("--without={rule:?}")))
        .stdin(Stdio::null())
        .output()
        .context("a process cannot be started")?;
    serde_json::from_slice(&output.stdout).with_context(|| {
        format!("{}, without a report: {}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}

fn print(series: &Series) {
    let Report { lines, simulated_ms, operations, outcomes, faults, .. } = &series.total;
    let simulated = Duration::from_millis(*simulated_ms);
    println!(
        "{} seeds, {} of them twice with the same trace; {} s simulated, {operations} operations, {lines} lines of trace",
        series.seeds,
        series.repeated,
        simulated.as_secs()
    );
    for (what, counts) in [("outcomes", outcomes), ("faults", faults)] {
        println!("\n{what}");
        for (name, times) in counts {
            println!("{times:>10}  {name}");
        }
    }
    println!("\n{} violations", series.wrong.values().map(Vec::len).sum::<usize>());
}
