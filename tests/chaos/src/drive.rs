//! A run, from its first process to its judgement.

use crate::{
    clock::Clock,
    history::{self, Run},
    setting::{self, Part},
    summary::Summary,
    trouble::{self, Doomed, Log},
    workers::Workers,
};
use anyhow::{Context as _, ensure};
use leasehold_checker::history::{Audit, Time};
use leasehold_fleet::{Node, Program};
use leasehold_sim::{audit, machine::derived};
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Processes of workers, in the storm and in the calm.
const WORKERS: u64 = 3;

/// What is to be run.
pub(crate) struct Plan {
    /// What choices are made by.
    pub(crate) seed: u64,
    /// For how long things go wrong.
    pub(crate) storm: Duration,
    /// For how long all is well afterwards.
    pub(crate) calm: Duration,
    /// What coordinators are started by.
    pub(crate) program: Program,
}

/// Runs it in a folder of its own, which is emptied first, and judges what is in the folder then.
pub(crate) async fn run(plan: Plan, folder: &Path) -> anyhow::Result<Summary> {
    if folder.exists() {
        let is_ours = folder.join(trouble::LOG).exists() || fs::read_dir(folder)?.next().is_none();
        ensure!(is_ours, "{} has something else in it than a run", folder.display());
        fs::remove_dir_all(folder).context("the last run's folder cannot be emptied")?;
    }
    fs::create_dir_all(folder)?;
    let Plan { seed, storm, calm, program } = plan;
    let clock = Clock::start();
    let log = Log::new(folder, clock)?;
    let nodes: [Node; 3] = Node::start_by(program, setting::COORDINATOR).await;
    let addresses = nodes.each_ref().map(|node| node.coordinator.address());
    let mut coordinators = nodes
        .into_iter()
        .zip(1..)
        .map(|(node, number)| Doomed::new(format!("coordinator {number}"), node, folder))
        .collect::<Vec<_>>();
    let mut hung = Vec::new();

    let mut stormy = several(Part::Storm, WORKERS, seed, clock, &addresses, folder);
    log.note(format_args!("the storm begins"));
    let until = clock.now() + storm.as_millis() as Time;
    let doomed = coordinators
        .iter_mut()
        .zip(0..)
        .map(|(coordinator, number)| coordinator.suffer(derived(seed, &[1, number]), until, &log));
    let plagued = stormy
        .iter_mut()
        .zip(0..)
        .map(|(workers, number)| trouble::plague(workers, derived(seed, &[2, number]), until, &log));
    futures::join!(futures::future::join_all(doomed), futures::future::join_all(plagued));
    log.note(format_args!("the storm is over"));
    hung.extend(finished(&mut stormy).await);
    drop(stormy);
    tokio::time::sleep(setting::SETTLING).await;

    log.note(format_args!("the calm begins"));
    let longest_stall = Arc::new(AtomicU64::new(0));
    let noticed = longest_stall.clone();
    let watching = tokio::spawn(setting::watch_for_stalls(clock, move |from, to| {
        noticed.fetch_max(to - from, Ordering::Relaxed);
    }));
    let calm_from = clock.now();
    let mut calming = several(Part::Calm, WORKERS, seed, clock, &addresses, folder);
    tokio::time::sleep(calm).await;
    hung.extend(finished(&mut calming).await);
    drop(calming);

    log.note(format_args!("the audit begins"));
    tokio::time::sleep(setting::DELETING).await;
    let mut auditors = several(Part::Audit, 1, seed, clock, &addresses, folder);
    hung.extend(finished(&mut auditors).await);
    let calm_until = clock.now();
    watching.abort();
    let stores = &coordinators[0].node().network;
    let audit = Audit {
        rows: audit::rows(stores, &setting::entries()),
        objects: Vec::new(),
        invalidations: audit::invalidations(stores),
    };
    coordinators.iter_mut().for_each(Doomed::end);
    let run = Run {
        seed,
        faults: log.counts(),
        calm_from,
        calm_until,
        longest_stall: longest_stall.load(Ordering::Relaxed),
        ended: clock.now(),
        audit: Some(audit),
        panics: coordinators.iter().flat_map(|coordinator| coordinator.panics.clone()).collect(),
        deaths: coordinators.iter().flat_map(|coordinator| coordinator.deaths.clone()).collect(),
        hung,
    };
    run.save(folder)?;
    judge(folder)
}

/// Judges what is in the folder of a run.
pub(crate) fn judge(folder: &Path) -> anyhow::Result<Summary> {
    Ok(Summary::of(&history::read(folder)?))
}

fn several(
    part: Part,
    many: u64,
    seed: u64,
    clock: Clock,
    coordinators: &[SocketAddr],
    folder: &Path,
) -> Vec<Workers> {
    (1..=many).map(|number| Workers::new(part, number, seed, clock, coordinators, folder)).collect()
}

/// Those that do not end when they are let go.
async fn finished(workers: &mut [Workers]) -> Vec<String> {
    let ending = futures::future::join_all(workers.iter_mut().map(Workers::finish)).await;
    ending.into_iter().filter_map(Result::err).collect()
}
