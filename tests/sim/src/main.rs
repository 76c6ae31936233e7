//! Runs the simulation: one seed, or many in processes of their own.

use anyhow::{Context as _, bail};
use clap::Parser;
use leasehold_core::mutation::{self, Mutation};
use leasehold_sim::{many, mutants, report};
use std::{ops::Range, path::PathBuf, time::Duration};

/// Simulates the whole system, deterministically.
#[derive(Parser)]
struct Arguments {
    /// Runs this seed, in this process
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Writes the trace of the seed into a file
    #[arg(long, requires = "seed", value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Prints the report of the seed as JSON
    #[arg(long, requires = "seed")]
    json: bool,
    /// Takes one rule out while the seed runs; of `--mutants`, only this one
    #[arg(long, value_name = "RULE", value_parser = mutants::by_name)]
    without: Option<Mutation>,
    /// Takes out one rule after the other, and looks how many seeds it takes to notice
    #[arg(long, conflicts_with = "seed")]
    mutants: bool,
    /// Prints what the parts log while the seed runs: a filter, as `debug` or `leasehold_service=debug`
    #[arg(long, requires = "seed", value_name = "FILTER")]
    log: Option<String>,
    /// Runs these seeds, each in a process of its own
    #[arg(long, value_name = "A..B", value_parser = range, default_value = "0..200")]
    seeds: Range<u64>,
    /// So many at a time. Default: as many as there are processors
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> anyhow::Result<()> {
    let Arguments { seed, trace, json, log, without, mutants, seeds, jobs } = Arguments::parse();
    let Some(seed) = seed else {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = jobs.unwrap_or(processors);
        return match (mutants, without) {
            (true, Some(rule)) => mutants::run(&[rule], seeds, jobs),
            (true, None) => mutants::run(&Mutation::ALL, seeds, jobs),
            (false, Some(_)) => bail!("--without is for --seed and --mutants"),
            (false, None) => many::run(seeds, jobs, "tests/sim/run"),
        };
    };
    let _only = mutation::only(without);
    if let Some(filter) = log {
        // Without the time, which would be the machine's.
        let subscriber = tracing_subscriber::fmt().without_time().with_writer(std::io::stderr);
        subscriber.with_env_filter(filter).init();
    }
    give_up_after(LIMIT);
    let report = report::run(seed, trace.as_deref()).context("the trace cannot be written")?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    println!(
        "seed {seed}: {} ms simulated, {} operations, {} lines of trace, digest {}",
        report.simulated_ms, report.operations, report.lines, report.digest
    );
    for (rule, what) in &report.violations {
        println!("{rule}: {what}");
    }
    if !report.violations.is_empty() {
        bail!("{} violations", report.violations.len());
    }
    Ok(())
}

/// By the machine's clock, a seed takes a second or two; whatever takes this long does not end.
const LIMIT: Duration = Duration::from_secs(600);

/// Ends the process when its time is over: a part that never waits keeps simulated time from going on, so that nothing in the
/// simulation could.
fn give_up_after(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("still not over after {} s", limit.as_secs());
        std::process::exit(2);
    });
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("a range is A..B, without B")?;
    let number = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
    Ok(number(from)?..number(to)?)
}
