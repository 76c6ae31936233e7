//! Coordinators: with the embedded store, one directory each, or on a table and a bucket.

use crate::{Process, binaries};
use leasehold_aws::{
    AwsSettings,
    testing::{Doubles, Listening},
};
use leasehold_client::{Builder, Coordinator};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};
use tempfile::TempDir;

/// What a coordinator is started by: the binary of this build, or another one that takes the same flags after these arguments.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// What comes before the flags.
    pub arguments: Vec<String>,
}

impl Default for Program {
    fn default() -> Self {
        Self { path: binaries::coordinator().to_owned(), arguments: Vec::new() }
    }
}

impl Program {
    /// What carries out an operator's commands: the same, unless its arguments make something else of it.
    fn for_operators(&self) -> &Path {
        if self.arguments.is_empty() { &self.path } else { binaries::coordinator() }
    }
}

/// A coordinator, what it stores in, and its address, which outlive its process.
#[derive(Debug)]
pub struct CoordinatorProcess {
    // Before its store, so that it has ended when that is removed.
    process: Process,
    program: Program,
    store: Store,
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
        Self::start_on(Program::default(), Store::Embedded(directory), settings).await
    }

    /// One on table and bucket of the doubles, which must be there.
    pub(crate) async fn start_on_aws(
        program: Program,
        listening: Listening,
        settings: &[&'static str],
    ) -> Self {
        Self::start_on(program, Store::Aws(listening), settings).await
    }

    async fn start_on(program: Program, store: Store, settings: &[&'static str]) -> Self {
        let wanted = SocketAddr::new(own_address().into(), 0);
        let mut process = spawn(&program, &store, wanted, settings, 1);
        let address = process.announced(listening).await;
        Self { program, store, settings: settings.to_vec(), address, process, starts: 1 }
    }

    /// Starts it again, on the same store and the same address, after [`kill`](Self::kill) or
    /// [`ended`](Self::ended).
    ///
    /// # Panics
    /// When it ends before it listens.
    pub async fn restart(&mut self) {
        let started = self.try_restart().await;
        started.unwrap_or_else(|status| {
            panic!("the coordinator on {} ended before it listened: {status}", self.address)
        });
    }

    /// The same, for whoever watches over it and may start it once more.
    ///
    /// # Errors
    /// How it ended before it listened.
    pub async fn try_restart(&mut self) -> Result<(), ExitStatus> {
        self.starts += 1;
        self.process = spawn(&self.program, &self.store, self.address, &self.settings, self.starts);
        let address = self.process.announced_unless_ended(listening).await?;
        assert_eq!(address, self.address, "it listens where it was told to");
        Ok(())
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

    /// Its process: another one after every [`restart`](Self::restart).
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
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
        client_of(self.endpoint(), owner, configure)
    }

    /// Where it listens, also when it is down.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

pub(crate) fn client_of(
    endpoint: String,
    owner: &str,
    configure: impl FnOnce(Builder) -> Builder,
) -> Coordinator {
    let builder = Coordinator::builder().endpoint(&endpoint).owner(owner);
    configure(builder).build().unwrap_or_else(|error| panic!("a client of {endpoint}: {error}"))
}

/// Creates table and bucket of the doubles, as an operator does.
pub(crate) async fn init(program: &Program, listening: &Listening) {
    let mut command = Command::new(program.for_operators());
    command.arg("init");
    on_aws(&mut command, listening);
    let mut process = Process::start("init", &mut command);
    let status = process.ended(Duration::from_secs(30)).await;
    assert!(status.success(), "table and bucket were not created: {status}");
}

/// Sweeps table and bucket of the doubles, as an operator does; gives the summary.
pub(crate) async fn sweep(listening: &Listening, flags: &[&str]) -> String {
    let mut command = Command::new(binaries::coordinator());
    command.args(["sweep", "--json"]).args(flags);
    on_aws(&mut command, listening);
    let running = tokio::task::spawn_blocking(move || command.output());
    let output = running.await.expect("a sweep").expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Where a coordinator keeps its state.
#[derive(Debug)]
enum Store {
    Embedded(TempDir),
    Aws(Listening),
}

impl Store {
    fn tell(&self, command: &mut Command) {
        match self {
            Self::Embedded(directory) => drop(command.arg("--data-dir").arg(directory.path())),
            Self::Aws(listening) => {
                command.args(["--store", "aws"]);
                on_aws(command, listening);
            }
        }
    }
}

/// Nothing of an account that the developer may have is used.
fn on_aws(command: &mut Command, listening: &Listening) {
    let AwsSettings { table, bucket, region, .. } = Doubles::settings();
    command.args(["--table", &table, "--bucket", &bucket]);
    command.args(["--region", &region.expect("the doubles name one"), "--s3-path-style"]);
    command.args(["--dynamodb-endpoint", &listening.dynamodb_url, "--s3-endpoint", &listening.s3_url]);
    command.env("AWS_ACCESS_KEY_ID", Doubles::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", Doubles::SECRET_KEY);
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
}

fn spawn(program: &Program, store: &Store, listen: SocketAddr, settings: &[&str], start: u32) -> Process {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).arg("--listen").arg(listen.to_string()).args(settings);
    store.tell(&mut command);
    Process::start(format!("coordinator {start} on {listen}"), &mut command)
}

/// Where it says in this line that it listens.
fn listening(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("Leasehold listens on ")?.split(';').next()?.parse().ok()
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
