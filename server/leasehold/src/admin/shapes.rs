//! The JSON of the admin port. Keys are as in that of the commands: always there, `null` where there is nothing to say,
//! durations in whole milliseconds where they end in `_ms`, sizes in bytes.

use super::Watched;
use leasehold_service::engine::{Engine, EngineStats, RunningLease, RunningLeases};
use serde::Serialize;
use std::time::Duration;

/// What `/statusz` answers.
#[derive(Debug, Serialize)]
pub(super) struct StatusShape {
    version: &'static str,
    /// As `/readyz` has it.
    state: &'static str,
    uptime_ms: u64,
    store: &'static str,
    /// Who may call: `none` stands for everybody.
    auth: &'static str,
    /// `null` while it starts.
    log: Option<LogShape>,
    memory: Option<MemoryShape>,
    waiters: Option<usize>,
    pending_deletions: Option<usize>,
}

/// Where it stands in the invalidation log.
#[derive(Debug, Serialize)]
struct LogShape {
    position: u64,
    /// Since a read that reached the head was sent.
    lag_ms: Option<u64>,
    /// Whether that is recent enough to call anything fresh.
    verified: bool,
}

/// What it remembers, and how much it may.
#[derive(Debug, Serialize)]
struct MemoryShape {
    entries: usize,
    entry_bytes: u64,
    entry_bytes_limit: u64,
    body_bytes: u64,
    body_bytes_limit: u64,
    log_bytes: usize,
    log_bytes_limit: usize,
}

impl StatusShape {
    pub(super) fn of(watched: &Watched) -> Self {
        let stats = watched.engine().map(|engine| (engine, engine.stats()));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            state: watched.readiness().as_str(),
            uptime_ms: millis(watched.clock.now().elapsed),
            store: watched.store,
            auth: watched.auth,
            log: stats.map(|(_, stats)| LogShape {
                position: stats.log_position.0,
                lag_ms: stats.log_age.map(millis),
                verified: stats.log_verified,
            }),
            memory: stats.map(|(engine, stats)| MemoryShape::of(engine, stats)),
            waiters: stats.map(|(_, stats)| stats.waiters),
            pending_deletions: stats.map(|(_, stats)| stats.pending_deletions),
        }
    }
}

impl MemoryShape {
    fn of(engine: &Engine, stats: EngineStats) -> Self {
        let limits = &engine.settings().memory;
        Self {
            entries: stats.entries,
            entry_bytes: stats.entry_bytes,
            entry_bytes_limit: limits.entry_bytes,
            body_bytes: stats.body_bytes,
            body_bytes_limit: limits.body_bytes,
            log_bytes: stats.log_bytes,
            log_bytes_limit: limits.log_bytes,
        }
    }
}

/// What `/leases` answers.
#[derive(Debug, Default, Serialize)]
pub(super) struct LeasesShape {
    /// How many run, those included that are not listed.
    total: usize,
    /// Those that were granted first.
    leases: Vec<LeaseShape>,
}

#[derive(Debug, Serialize)]
struct LeaseShape {
    tenant: String,
    deployment: Option<String>,
    /// The digest of the entry's identity, in hex: what its row is called, and, in its first 24 digits, its bodies.
    entry: String,
    generation: u64,
    owner: String,
    granted_here: bool,
    remaining_ms: u64,
    renewable_for_ms: u64,
    overtaken: bool,
    waiters: usize,
}

impl LeasesShape {
    /// `None` while there is nobody who grants any.
    pub(super) fn of(running: Option<RunningLeases>) -> Self {
        let Some(RunningLeases { total, longest }) = running else { return Self::default() };
        Self { total, leases: longest.into_iter().map(LeaseShape::from).collect() }
    }
}

impl From<RunningLease> for LeaseShape {
    fn from(lease: RunningLease) -> Self {
        let RunningLease {
            tenant,
            deployment,
            entry,
            generation,
            owner,
            granted_at: _,
            remaining,
            renewable_for,
            granted_here,
            overtaken,
            waiters,
        } = lease;
        Self {
            tenant: tenant.to_string(),
            deployment: deployment.map(|deployment| deployment.to_string()),
            entry: hex::encode(entry),
            generation: generation.0,
            owner: owner.to_string(),
            granted_here,
            remaining_ms: millis(remaining),
            renewable_for_ms: millis(renewable_for),
            overtaken,
            waiters,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
