//! Chaos: real coordinators and real workers, each a process of its own on real sockets, killed and paused at random. What
//! workers asked and were answered is judged by the rules of the simulation's checker.
//!
//! The driver keeps the doubles of DynamoDB and S3, and starts everybody else: coordinators as the fleet tests do, and itself
//! once more for every process of workers. These write down each call before they make it and each answer before they use it,
//! by a clock that all processes of the machine have in common, so that a process that was killed has left all that it knew.
//!
//! A seed decides what goes wrong and what is asked for, but not when a process gets its turn: no run is like another.

mod clock;
mod drive;
mod history;
mod journal;
mod setting;
mod summary;
mod trouble;
mod worker;
mod workers;

use anyhow::bail;
use clap::{Parser, Subcommand};
use leasehold::cli::{self, Invocation};
use leasehold_core::mutation::{self, Mutation};
use leasehold_fleet::Program;
use leasehold_sim::mutants;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use summary::Summary;

/// Kills and pauses real coordinators and workers at random, and judges what these were told.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// For so many seconds things go wrong
    #[arg(long, env = "CHAOS_SECONDS", default_value_t = 60)]
    seconds: u64,
    /// What choices are made by. Without it, by the time
    #[arg(long)]
    seed: Option<u64>,
    /// Takes one rule out of every coordinator, to see that it is noticed
    #[arg(long, value_name = "RULE", value_parser = mutants::by_name)]
    without: Option<Mutation>,
    /// Where everything is kept that was written down: emptied at first
    #[arg(long, default_value = "target/chaos")]
    folder: PathBuf,
}

#[derive(Subcommand)]
enum Action {
    /// Judges the histories of the last run again
    Judge,
    /// Is a process of workers
    #[command(hide = true)]
    Worker(worker::Arguments),
    /// Is a coordinator without this rule
    #[command(hide = true)]
    Coordinator {
        #[arg(value_parser = mutants::by_name)]
        without: Mutation,
        #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
        flags: Vec<OsString>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { action, seconds, seed, without, folder } = Arguments::parse();
    match action {
        Some(Action::Worker(arguments)) => worker::run(arguments).map(|()| ExitCode::SUCCESS),
        Some(Action::Coordinator { without, flags }) => coordinator(without, flags),
        Some(Action::Judge) => Ok(conclude(&drive::judge(&folder)?, &folder)),
        None => {
            let seed = seed.unwrap_or_else(|| clock::Clock::start().began());
            let program = match without {
                None => Program::default(),
                Some(rule) => Program {
                    path: std::env::current_exe()?,
                    arguments: vec!["coordinator".into(), format!("{rule:?}")],
                },
            };
            let storm = Duration::from_secs(seconds);
            let plan = drive::Plan { seed, storm, calm: (storm / 6).max(Duration::from_secs(10)), program };
            println!("seed {seed}: {seconds} s of storm; journals and logs are in {}", folder.display());
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            Ok(conclude(&runtime.block_on(drive::run(plan, &folder))?, &folder))
        }
    }
}

fn conclude(summary: &Summary, folder: &Path) -> ExitCode {
    println!("{summary}");
    if !summary.violations.is_empty() {
        println!("what led to this is in {}", folder.display());
        return ExitCode::FAILURE;
    }
    if !summary.missing.is_empty() {
        println!("{} things never happened: this run shows little", summary.missing.len());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn coordinator(without: Mutation, flags: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let _only = mutation::only(Some(without));
    match cli::parse([OsString::from("leasehold")].into_iter().chain(flags)) {
        Ok(Invocation::Serve(config)) => Ok(leasehold::serve::to_the_end(*config)),
        Ok(_) => bail!("not the flags of a coordinator"),
        Err(refused) => Ok(refused.report()),
    }
}
