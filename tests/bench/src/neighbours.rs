//! What other tenants notice of one that asks for twenty times what it may.
//!
//! In turns on one coordinator: eight tenants within their limit, alone; and the same eight beside a ninth that sends, from
//! a thread and over a connection of its own, twenty times what the limit allows, without heeding that it is refused. Calls
//! are sent by the clock, however long the answers to earlier ones take. That one of the eight is refused, or gets another
//! page than it should, ends the run.

use crate::{
    cells::channel,
    clock,
    drive::{Calls as _, Quantiles, Turn},
    pages::{self, Lookups, Naming},
    process::ServerProcess,
    report::{Spread, micros},
};
use anyhow::Context as _;
use leasehold_proto::v1::coordinator_service_client::CoordinatorServiceClient;
use std::{
    fmt::{self, Write as _},
    net::SocketAddr,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tonic::Code;

/// What a tenant may ask for in a second.
pub(crate) const LIMIT: u32 = 100;
/// How far the loud one goes beyond it.
const LOUD: u32 = 20;
/// The others.
const QUIET_TENANTS: usize = 8;
/// What each of them asks for in a second.
const QUIET_RATE: u32 = 50;

/// What a turn showed of the eight, and of the ninth.
#[derive(Clone, Copy, Debug, serde::Serialize)]
struct Noticed {
    calls: usize,
    p50_micros: f64,
    p99_micros: f64,
    loud: Option<Loud>,
}

/// What became of the calls of the loud one.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
struct Loud {
    calls_per_second: f64,
    refused_per_second: f64,
}

/// Everything that one run found.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Neighbours {
    seconds: f64,
    alone: Vec<Noticed>,
    beside: Vec<Noticed>,
}

/// So many rounds of both, who goes first changing.
pub(crate) async fn measure(
    rounds: usize,
    turn: Turn,
    coordinator: &mut ServerProcess,
) -> anyhow::Result<Neighbours> {
    let quiet: Vec<_> = (0..QUIET_TENANTS).map(|at| format!("quiet-{at}")).collect();
    let mut seeding = CoordinatorServiceClient::new(channel(coordinator.address()).await?);
    let next = AtomicU64::new(0);
    for tenant in quiet.iter().map(String::as_str).chain(["loud"]) {
        pages::seed(&mut seeding, tenant, SEEDED, &next).await?;
    }
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for is_beside in [round % 2 == 1, round % 2 == 0] {
            // The loud one has its whole limit again.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let noticed = one_turn(&quiet, is_beside, turn, coordinator).await?;
            if is_beside { &mut beside } else { &mut alone }.push(noticed);
        }
    }
    Ok(Neighbours { seconds: turn.measured.as_secs_f64(), alone, beside })
}

/// Pages of each tenant: their renders too are within its limit.
const SEEDED: usize = 16;

async fn one_turn(
    quiet: &[String],
    is_beside: bool,
    turn: Turn,
    coordinator: &mut ServerProcess,
) -> anyhow::Result<Noticed> {
    let from = clock::now() + turn.warm_up;
    let measured = Measured { from, until: from + turn.measured };
    let loud = is_beside.then(|| {
        let address = coordinator.address();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(be_loud(address, measured))
        })
    });
    let mut tenants = JoinSet::new();
    for tenant in quiet {
        let client = CoordinatorServiceClient::new(channel(coordinator.address()).await?);
        let lookups = Lookups::new(client, tenant, SEEDED, Naming::Key, true);
        tenants.spawn(by_the_clock(QUIET_RATE, measured, move |at| {
            let (mut lookups, sent) = (lookups.clone(), clock::now());
            async move {
                lookups.call(at).await.context("a lookup of a tenant within its limit")?;
                let nanos = clock::now().duration_since(sent).as_nanos();
                Ok(u32::try_from(nanos).unwrap_or(u32::MAX))
            }
        }));
    }
    let mut nanos = Vec::new();
    while let Some(tenant) = tenants.join_next().await {
        nanos.extend(tenant??);
    }
    let loud = match loud {
        Some(thread) => {
            let joined = tokio::task::spawn_blocking(|| thread.join()).await?;
            Some(joined.map_err(|_| anyhow::anyhow!("the loud one died"))??)
        }
        None => None,
    };
    coordinator.check()?;
    let quantiles = Quantiles::of(nanos)?;
    let Quantiles { calls, p50_micros, p99_micros } = quantiles;
    Ok(Noticed { calls, p50_micros, p99_micros, loud })
}

/// Calls for twenty times what the limit allows, and tells what became of them.
async fn be_loud(address: SocketAddr, measured: Measured) -> anyhow::Result<Loud> {
    let client = CoordinatorServiceClient::new(channel(address).await?);
    let lookups = Lookups::new(client, "loud", SEEDED, Naming::Key, true);
    let refusals = by_the_clock(LIMIT * LOUD, measured, move |at| {
        let lookups = lookups.clone();
        async move {
            match lookups.ask(at).await {
                Ok(_) => Ok(false),
                Err(status) if status.code() == Code::ResourceExhausted => Ok(true),
                Err(status) => Err(status.into()),
            }
        }
    });
    let refusals = refusals.await?;
    let seconds = measured.until.duration_since(measured.from).as_secs_f64();
    let refused = refusals.iter().filter(|is_refused| **is_refused).count();
    Ok(Loud {
        calls_per_second: refusals.len() as f64 / seconds,
        refused_per_second: refused as f64 / seconds,
    })
}

/// The part of a turn that counts.
#[derive(Clone, Copy)]
struct Measured {
    from: Instant,
    until: Instant,
}

/// Calls so many times in a second, until the turn is over, and gives what came of those that count.
async fn by_the_clock<T: Send + 'static, F>(
    rate: u32,
    measured: Measured,
    mut call: impl FnMut(usize) -> F + Send,
) -> anyhow::Result<Vec<T>>
where
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let mut turns = tokio::time::interval(Duration::from_secs(1) / rate);
    let (mut under_way, mut found) = (JoinSet::new(), Vec::new());
    for at in 0.. {
        turns.tick().await;
        let now = clock::now();
        if now >= measured.until {
            break;
        }
        let (call, counts) = (call(at), now >= measured.from);
        under_way.spawn(async move { anyhow::Ok(Some(call.await?).filter(|_| counts)) });
        while let Some(ended) = under_way.try_join_next() {
            found.extend(ended??);
        }
    }
    while let Some(ended) = under_way.join_next().await {
        found.extend(ended??);
    }
    Ok(found)
}

impl Neighbours {
    /// As it stands in a README.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_markdown(&mut text);
        text
    }

    fn write_markdown(&self, out: &mut String) -> fmt::Result {
        let rounds = self.alone.len();
        writeln!(
            out,
            "{QUIET_TENANTS} tenants with {QUIET_RATE} lookups of 20 KB a second each, by the clock, where a tenant may have \
             {LIMIT}; medians of {rounds} rounds of {} s, with least and most, in turns without and with a ninth that sends \
             {LOUD} times what it may. None of the {QUIET_TENANTS} was refused.\n",
            self.seconds
        )?;
        writeln!(out, "| | lookups in a turn | p50 | p99 |")?;
        writeln!(out, "|---|--:|--:|--:|")?;
        for (name, turns) in [("alone", &self.alone), ("beside the loud one", &self.beside)] {
            let of = |figure: fn(&Noticed) -> f64| {
                Spread::of(turns.iter().map(figure)).map_or(f64::NAN, |spread| spread.median)
            };
            writeln!(
                out,
                "| {name} | {:.0} | {} | {} |",
                of(|turn| turn.calls as f64),
                micros(of(|turn| turn.p50_micros)),
                micros(of(|turn| turn.p99_micros)),
            )?;
        }
        let ratios =
            self.beside.iter().zip(&self.alone).map(|(beside, alone)| beside.p99_micros / alone.p99_micros);
        if let Some(ratio) = Spread::of(ratios) {
            let verdict = if ratio.median <= 2.0 { "reached" } else { "missed" };
            writeln!(out, "\np99 beside it, × p99 alone: {ratio}; aim: at most 2: {verdict}.")?;
        }
        let loud = |figure: fn(&Loud) -> f64| {
            Spread::of(self.beside.iter().filter_map(|turn| turn.loud.as_ref().map(figure)))
        };
        if let Some((calls, refused)) =
            loud(|loud| loud.calls_per_second).zip(loud(|loud| loud.refused_per_second))
        {
            writeln!(out, "The loud one sent {calls} lookups a second, of which {refused} were refused.")?;
        }
        Ok(())
    }
}
