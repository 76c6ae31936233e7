//! The servers under test: processes of their own, so that what they cost can be told from what the driver
//! costs.

use anyhow::{Context as _, bail};
use std::{
    collections::HashMap,
    ffi::OsString,
    fmt, fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A server that is killed when this is dropped.
pub(crate) struct ServerProcess {
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts it, and waits until a line on its standard output names the address that it listens on.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let output = child.stdout.take().context("a child without a standard output")?;
        let mut lines = BufReader::new(output).lines();
        // From here on: whatever fails must not leave the process behind.
        let mut server = Self { child, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        let address = loop {
            let Some(line) = lines.next() else { bail!("{command:?} ended without naming its address") };
            if let Some(address) = address_in(&line?) {
                break address;
            }
        };
        server.address = address;
        // A full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What each of its threads has spent on a CPU so far, user and system, in nanoseconds.
    pub(crate) fn cpu(&self) -> anyhow::Result<CpuTimes> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut times = HashMap::new();
        for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
            let task = task?;
            // A thread may end between the two.
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
            times.insert(task.file_name(), nanos.context("a schedstat without its first number")?);
        }
        Ok(CpuTimes(times))
    }

    /// Whether it still runs.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server at {} has ended: {status}", self.address),
        }
    }
}

impl fmt::Display for ServerProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} at {}", self.child.id(), self.address)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU times of a process, by thread. `/proc/<pid>/stat` has them in ticks of 10 ms, too coarse for short
/// rounds.
pub(crate) struct CpuTimes(HashMap<OsString, u64>);

impl CpuTimes {
    /// What was spent since. Threads that have ended meanwhile are left out.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let spent = self
            .0
            .iter()
            .map(|(thread, nanos)| nanos.saturating_sub(earlier.0.get(thread).copied().unwrap_or_default()));
        Duration::from_nanos(spent.sum())
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    line.split(|c: char| c.is_whitespace() || "\"',;=".contains(c))
        .map(|word| word.trim_start_matches("http://").trim_end_matches(['.', '/']))
        .find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_prose_and_in_json() {
        let address = "127.0.0.1:4711".parse().ok();
        for line in [
            "listening on 127.0.0.1:4711",
            r#"{"level":"INFO","server.address":"127.0.0.1:4711"}"#,
            "serving at http://127.0.0.1:4711/.",
            "address=127.0.0.1:4711",
        ] {
            assert_eq!(address_in(line), address, "{line}");
        }
        assert_eq!(address_in("starting 0.1.0 at 12:30:00"), None);
    }
}
