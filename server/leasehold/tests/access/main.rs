//! Who may call a coordinator, with real tokens, certificates and files, through the real client.

#![cfg(unix)]
#![allow(missing_docs, reason = "tests are named by what they show")]

mod authority;
mod jwt;
mod mtls;
mod table;
mod tokens;

use leasehold::{
    cli::{self, Invocation},
    serve::{self, Started},
};
use leasehold_client::{
    Acquire, AcquireOptions, Coordinator, EntryRef, Error, LookupOptions, Reason, Security,
};
use leasehold_service::time::{Clock as _, SystemClock};
use std::{
    ffi::OsString,
    path::PathBuf,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Only ever reached by a test that fails.
const PATIENCE: Duration = Duration::from_secs(30);

const POLICY: &str = r#"
[[rule]]
principal = "render-{tenant}"
tenant = "{tenant}"
rights = ["read", "render"]

[[rule]]
principal = "spiffe://shop/{tenant}/render"
tenant = "{tenant}"
rights = ["read", "render"]

[[rule]]
principal = "reader.shop"
tenants = ["acme"]
rights = ["read"]

[[rule]]
principal = "reader"
tenants = ["acme"]
rights = ["read"]
"#;

/// Files for a coordinator, and the coordinator.
struct World {
    dir: TempDir,
    running: Option<Running>,
}

struct Running {
    started: Started,
    shutdown: CancellationToken,
    ended: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap(), running: None };
        world.write("policy.toml", POLICY);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// In one step, as whoever rotates files does: nobody reads half of one.
    fn write(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    /// A coordinator with these flags, in which `@` stands for the directory of the files.
    async fn start(&mut self, flags: &str) {
        let dir = self.dir.path().to_str().unwrap();
        let line =
            format!("leasehold --listen 127.0.0.1:0 --data-dir @/data --reload-interval 100ms {flags}");
        let args = line.split_whitespace().map(|word| OsString::from(word.replace('@', dir)));
        let config = match cli::parse(args) {
            Ok(Invocation::Serve(config)) => *config,
            other => panic!("{other:?}"),
        };
        let shutdown = CancellationToken::new();
        let (tell, told) = oneshot::channel();
        let stop = shutdown.clone();
        let ended = tokio::spawn(async move {
            let started = |started: &Started| tell.send(started.clone()).unwrap();
            serve::run(config, stop, started).await.unwrap();
        });
        let started = told.await.expect("it did not start");
        self.running = Some(Running { started, shutdown, ended });
    }

    fn endpoint(&self) -> String {
        let Started { address, is_encrypted, .. } = &self.running.as_ref().unwrap().started;
        let scheme = if *is_encrypted { "https" } else { "http" };
        format!("{scheme}://localhost:{}", address.port())
    }

    /// A caller that tries once.
    fn caller(&self, security: Security) -> Coordinator {
        Coordinator::builder().endpoint(self.endpoint()).security(security).build().unwrap()
    }

    async fn stop(mut self) {
        let Running { shutdown, ended, .. } = self.running.take().unwrap();
        shutdown.cancel();
        tokio::time::timeout(PATIENCE, ended).await.expect("it did not stop").unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.shutdown.cancel();
        }
    }
}

/// By the machine's clock.
fn now() -> SystemTime {
    let wall = SystemClock::start().now().wall;
    SystemTime::UNIX_EPOCH + Duration::from_millis(wall.as_millis())
}

fn page_of(tenant: &str) -> EntryRef {
    EntryRef::key("page").tenant(tenant)
}

/// What a caller gets who looks up and who renders a page of acme: nothing, or why not.
async fn tried(caller: &Coordinator) -> [Option<Reason>; 2] {
    let lookup = caller.lookup(&page_of("acme"), &LookupOptions::default()).await;
    let options = AcquireOptions { wait: Duration::ZERO, ..Default::default() };
    let acquire = caller.acquire(&page_of("acme"), &options).await;
    if let Ok(Acquire::Granted(lease)) = &acquire {
        // It may be refused by now: rights change while these tests try.
        let _ = lease.release().await;
    }
    [why(lookup.map(drop)), why(acquire.map(drop))]
}

fn why(result: Result<(), Error>) -> Option<Reason> {
    result.err().map(|error| error.reason().cloned().unwrap_or_else(|| panic!("{error:?}")))
}

const MAY_BOTH: [Option<Reason>; 2] = [None, None];
const MAY_READ: [Option<Reason>; 2] = [None, Some(Reason::PermissionDenied)];
const DENIED: [Option<Reason>; 2] = [Some(Reason::PermissionDenied), Some(Reason::PermissionDenied)];
const UNKNOWN: [Option<Reason>; 2] = [Some(Reason::Unauthenticated), Some(Reason::Unauthenticated)];

/// Tries again until that is what comes of it.
async fn becomes(caller: &Coordinator, expected: [Option<Reason>; 2]) {
    let trying = async {
        while tried(caller).await != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, trying).await.expect("what was waited for did not come");
}
