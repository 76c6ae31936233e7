//! Coordinators with the embedded store, one directory each.

use crate::{Process, binaries};
use leasehold_client::{Builder, Coordinator};
use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Command, ExitStatus},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};
use tempfile::TempDir;

/// A coordinator, its directory, and its address, which outlive its process.
#[derive(Debug)]
pub struct CoordinatorProcess {
    // Before its directory, so that it has ended when that is removed.
    process: Process,
    directory: TempDir,
    settings: Vec<&'static str>,
    address: SocketAddr,
    starts: u32,
}

impl CoordinatorProcess {
    /// One with an empty store, on a port that the system picks.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`start`](Self::start), with these flags besides.
    pub async fn start_with(settings: &[&'static str]) -> Self {
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("no directory: {error}"));
        let wanted = SocketAddr::new(own_address().into(), 0);
        let (process, address) = spawn(&directory, wanted, settings, 1).await;
        Self { directory, settings: settings.to_vec(), address, process, starts: 1 }
    }

    /// Starts it again, on the same directory and the same address, after [`kill`](Self::kill) or
    /// [`ended`](Self::ended).
    pub async fn restart(&mut self) {
        self.starts += 1;
        let (process, address) = spawn(&self.directory, self.address, &self.settings, self.starts).await;
        assert_eq!(address, self.address, "it listens where it was told to");
        self.process = process;
    }

    /// As `kill -9` does: it is gone when this returns.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Waits for its end, at most for `limit`.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        self.process.ended(limit).await
    }

    /// Waits until it has printed a line that holds `text`; gives that line.
    pub async fn printed(&self, text: &str, limit: Duration) -> String {
        self.process.printed(text, limit).await
    }

    /// Where it serves, also when it is down.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of it, named `owner`, with the defaults.
    pub fn client(&self, owner: &str) -> Coordinator {
        self.client_by(owner, |builder| builder)
    }

    /// A client of it, named `owner`.
    pub fn client_by(&self, owner: &str, configure: impl FnOnce(Builder) -> Builder) -> Coordinator {
        let builder = Coordinator::builder().endpoint(self.endpoint()).owner(owner);
        configure(builder).build().unwrap_or_else(|error| panic!("a client of {}: {error}", self.address))
    }
}

async fn spawn(
    directory: &TempDir,
    listen: SocketAddr,
    settings: &[&str],
    start: u32,
) -> (Process, SocketAddr) {
    let mut command = Command::new(binaries::coordinator());
    command.arg("--data-dir").arg(directory.path()).arg("--listen").arg(listen.to_string()).args(settings);
    let mut process = Process::start(format!("coordinator {start} on {listen}"), &mut command);
    let address = |line: &str| line.strip_prefix("Leasehold listens on ")?.split(';').next()?.parse().ok();
    let address = process.announced(address).await;
    (process, address)
}

/// A coordinator that comes back needs its port again, which is gone if it was handed to somebody else
/// meanwhile. Linux has 16 million loopback addresses; on one that nobody else uses, no port is ever taken.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    if !cfg!(target_os = "linux") {
        return Ipv4Addr::LOCALHOST;
    }
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let nth = NEXT.fetch_add(1, Ordering::Relaxed) % 200 + 20;
    Ipv4Addr::new(127, nth.to_be_bytes()[1], high, low)
}
