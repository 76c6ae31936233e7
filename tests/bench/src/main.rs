//! What a lookup and a regeneration cost, next to a bare gRPC echo.
//!
//! ```text
//! cargo run --release -p leasehold-bench              some 5 minutes, a Markdown table on standard output
//! cargo run --release -p leasehold-bench -- --quick   some 10 seconds, to see that it works
//! cargo run --release -p leasehold-bench -- neighbours   what others notice of a tenant far beyond its limit
//! ```
//!
//! Three processes on one machine: this one, which drives; the coordinator on its embedded store; and a tonic
//! server that does nothing but answer with as many bytes, of as many different pages. Runs drift by a third
//! on a shared machine, so the two servers are driven in turns within one run, figures are compared round by
//! round, and the steadiest of them is the server's CPU time for each call. Every answer is decoded and
//! verified: a page that is not fresh, or not whole, ends the run. No figure does.
//!
//! `--help` lists the flags: the length of a run, which cells, another binary, where the store is, JSON.

mod cells;
mod clock;
mod drive;
mod echo;
mod echoes;
mod machine;
mod neighbours;
mod pages;
mod process;
mod report;

use anyhow::Context as _;
use cells::{Cell, Clients, MANY};
use clap::{Parser, Subcommand};
use drive::Turn;
use process::ServerProcess;
use report::{LookupFigures, RegenerationFigures, Report};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

/// Measures lookups and regenerations of a coordinator beside a bare gRPC echo, in turns.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// A short run: one round of a fraction of a second. To see that everything works, not to measure.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"], global = true)]
    quick: bool,

    /// Rounds; each cell has one turn in every one of them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..), global = true)]
    rounds: u16,

    /// Seconds that each turn is measured for.
    #[arg(long, default_value_t = 2.0, global = true)]
    seconds: f64,

    /// Only cells whose name contains this, such as "LookupStream with 20 KB" or "Regeneration".
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// The coordinator's binary. By default it is built from this workspace, with its release profile. Its
    /// settings come from LEASEHOLD_* variables, except for where it listens and where its data is.
    #[arg(long, value_name = "PATH", global = true)]
    server: Option<PathBuf>,

    /// Where the store's temporary directory is made: regenerations are as fast as the disk under it.
    #[arg(long, value_name = "PATH", global = true)]
    dir: Option<PathBuf>,

    /// Writes every figure of every round there.
    #[arg(long, value_name = "PATH", global = true)]
    json: Option<PathBuf>,

    #[command(subcommand)]
    role: Option<Role>,
}

/// What else this executable does.
#[derive(Debug, Subcommand)]
enum Role {
    /// What eight tenants within their limit notice of a ninth that sends twenty times what it may.
    Neighbours,
    /// The bare echo.
    #[command(hide = true)]
    Echo,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match &args.role {
        Some(Role::Echo) => runtime.block_on(echo::serve()),
        Some(Role::Neighbours) => runtime.block_on(neighbours(&args)),
        None => runtime.block_on(bench(&args)),
    }
}

impl Args {
    /// Where the store is, until the run is over.
    fn directory(&self) -> anyhow::Result<TempDir> {
        let directory = match &self.dir {
            Some(parent) => tempfile::tempdir_in(parent),
            None => tempfile::tempdir(),
        };
        directory.context("cannot make a directory for the store")
    }

    fn rounds(&self) -> usize {
        if self.quick { 1 } else { usize::from(self.rounds) }
    }

    fn turn(&self) -> anyhow::Result<Turn> {
        if self.quick {
            return Ok(Turn { warm_up: Duration::from_millis(50), measured: Duration::from_millis(200) });
        }
        let measured = Duration::try_from_secs_f64(self.seconds).context("--seconds is no time")?;
        Ok(Turn { warm_up: Duration::from_millis(250), measured })
    }

    /// Every figure of every round, where it is to be.
    fn write_json(&self, report: &impl serde::Serialize) -> anyhow::Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let json = serde_json::to_vec_pretty(report)?;
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }
}

async fn neighbours(args: &Args) -> anyhow::Result<()> {
    let directory = args.directory()?;
    let mut command = coordinator_command(args, directory.path())?;
    command.args(["--tenant-max-requests", &neighbours::LIMIT.to_string()]);
    let mut coordinator = ServerProcess::start(command)?;
    let report = neighbours::measure(args.rounds(), args.turn()?, &mut coordinator).await?;
    println!("{}", report.markdown());
    args.write_json(&report)
}

async fn bench(args: &Args) -> anyhow::Result<()> {
    let directory = args.directory()?;
    let machine = machine::Machine::look(directory.path())?;
    let mut coordinator = ServerProcess::start(coordinator_command(args, directory.path())?)?;
    let mut echo_command = Command::new(env::current_exe()?);
    echo_command.arg("echo");
    let mut echo = ServerProcess::start(echo_command)?;
    eprintln!("coordinator: {coordinator}; bare echo: {echo}");

    let clients = Clients::connect(&coordinator, &echo).await?;
    let (mut seeding, next) = clients.seeding();
    pages::seed(&mut seeding, pages::TENANT, pages::PAGES, next).await?;

    let is_wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let mut lookups = Vec::new();
    for cell in Cell::all() {
        let name = cell.to_string();
        if is_wanted(&name) {
            let sizes = clients.sizes(cell).await?;
            lookups.push(LookupFigures { name, cell, sizes, coordinator: Vec::new(), echo: Vec::new() });
        }
    }
    let mut regenerations = Vec::new();
    for in_flight in [1, MANY] {
        if is_wanted(&format!("Regeneration, {in_flight} in flight")) {
            regenerations.push(RegenerationFigures { in_flight, coordinator: Vec::new() });
        }
    }

    let (rounds, turn) = (args.rounds(), args.turn()?);
    for round in 0..rounds {
        for figures in &mut lookups {
            eprintln!("round {} of {rounds}: {}", round + 1, figures.name);
            let LookupFigures { cell, sizes, .. } = *figures;
            // Who goes first changes, in case one is at a disadvantage.
            if round % 2 == 0 {
                figures.echo.push(clients.echo(cell, sizes, turn, &mut echo).await?);
            }
            figures.coordinator.push(clients.look_up(cell, turn, &mut coordinator).await?);
            if round % 2 == 1 {
                figures.echo.push(clients.echo(cell, sizes, turn, &mut echo).await?);
            }
        }
    }
    // Last: the disk is still busy with what they wrote for a while.
    for round in 0..rounds {
        for figures in &mut regenerations {
            eprintln!("round {} of {rounds}: regenerations, {} in flight", round + 1, figures.in_flight);
            let measured = clients.regenerate(figures.in_flight, turn, &mut coordinator).await?;
            figures.coordinator.push(measured);
        }
    }

    let aims = report::aims(&lookups);
    let seconds = turn.measured.as_secs_f64();
    let report = Report { machine, rounds, seconds, lookups, regenerations, aims };
    println!("{}", report.markdown());
    args.write_json(&report)
}

fn coordinator_command(args: &Args, directory: &Path) -> anyhow::Result<Command> {
    let mut command = match &args.server {
        Some(path) => Command::new(path),
        None => {
            eprintln!("building the coordinator");
            let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
            let build =
                escargot::CargoBuild::new().manifest_path(workspace).package("leasehold").bin("leasehold");
            build.release().run().context("cannot build the coordinator")?.command()
        }
    };
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(directory.join("store"));
    Ok(command)
}
