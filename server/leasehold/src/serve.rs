//! A coordinator over the embedded store, from its first socket to its last byte.

use crate::{banner, cli::variable, exit::Failure, logs::Logging};
use futures::{Stream, StreamExt as _, stream};
use leasehold_service::{
    engine::{Dependencies, Engine, EngineError},
    random::Entropy,
    server::{self, Stopped, TransportSettings},
    settings::Settings,
    time::{Clock, SystemClock},
};
use leasehold_store::embedded::{EmbeddedStore, Keep, OpenError};
use std::{
    ffi::OsString,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What a coordinator is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where its data is.
    pub data_dir: PathBuf,
    /// The engine's settings.
    pub settings: Settings,
    /// The transport's.
    pub transport: TransportSettings,
    pub(crate) logging: Logging,
    /// How it was called, for the commands that it suggests.
    pub(crate) program: OsString,
}

/// A coordinator that answers calls.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where it listens, with the port that it got.
    pub address: SocketAddr,
    /// Where its data is, from the root.
    pub data_dir: PathBuf,
}

/// Why a coordinator did not run. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; {}", listen_advice(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// What is to be the data directory is something else.
    #[error("{} is a file, not a directory; {}", _0.display(), another_directory())]
    NotADirectory(PathBuf),
    /// The data directory cannot be used.
    #[error("{source}; {}", open_advice(source))]
    Open {
        /// What is wrong with it.
        #[source]
        source: OpenError,
    },
    /// The invalidation log could not be read.
    #[error("the store does not answer: {0}; see whether its disk is full or failing")]
    Engine(#[source] EngineError),
    /// The transport failed.
    #[error("the server failed: {0}")]
    Transport(String),
    /// A thread of the process died: a defect.
    #[error("a thread died while {0}; see the log")]
    Died(&'static str),
}

fn listen_advice(error: &io::Error) -> String {
    let variable = variable("listen");
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "another coordinator may run there: stop it, or choose another port by --listen or {variable}"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("choose a port from 1024 on with --listen IP:PORT or {variable}")
        }
        _ => format!("choose an address of this machine with --listen IP:PORT or {variable}"),
    }
}

fn another_directory() -> String {
    format!("choose another directory with --data-dir DIR or {}", variable("data-dir"))
}

fn open_advice(error: &OpenError) -> String {
    let another = another_directory();
    match error {
        OpenError::InUse { .. } => format!("stop the process that has it open, or {another}"),
        OpenError::Directory { .. } => format!("make it writable for this user, or {another}"),
        OpenError::NewerVersion { .. } | OpenError::NotOurs { .. } => another,
        OpenError::Database { .. } => format!("restore it from a backup, or {another}"),
    }
}

/// How often what is past its retention, or named by no entry, is deleted.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How long the threads that are still busy get after everything else has ended.
const LAST_MOMENTS: Duration = Duration::from_secs(1);
/// The pause when no more connections can be accepted: they wait in the system's queue meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer that has said nothing for so long is no gRPC client: those begin with a preface.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// With so many connections on which nothing was said yet, further ones wait in the system's queue.
const SILENT_CONNECTIONS: usize = 4096;

/// Runs a coordinator until `shutdown`, and calls `started` as soon as it can be reached. Ends in order:
/// calls in progress are finished, the engine's tasks are ended, the store is closed.
///
/// # Errors
/// When it cannot start, or the transport fails.
pub async fn run(
    config: Config,
    shutdown: CancellationToken,
    started: impl FnOnce(&Started),
) -> Result<Stopped, ServeError> {
    let Config { listen: address, data_dir, settings, transport, logging: _, program: _ } = config;
    // First, so that a second start in the same place says so before it looks at the data.
    let listener =
        TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    let address = listener.local_addr().map_err(|source| ServeError::Listen { address, source })?;
    let store = open(data_dir.clone()).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let dependencies = Dependencies {
        stores: Arc::clone(&store).stores(),
        clock: Arc::clone(&clock),
        entropy: Arc::new(Entropy::from_os()),
    };
    let keep = Keep { max_hold: settings.rules.max_hold, grace: settings.deletion_grace };
    let engine = match Engine::start(dependencies, settings).await {
        Ok(engine) => engine,
        Err(error) => {
            store.close().await;
            return Err(ServeError::Engine(error));
        }
    };
    let keeping_house = CancellationToken::new();
    let housekeeper = tokio::spawn(keep_house(Arc::clone(&store), clock, keep, keeping_house.clone()));

    let data_dir = std::path::absolute(&data_dir).unwrap_or(data_dir);
    tracing::info!(server.address = %address, data.dir = %data_dir.display(), "serving");
    if !address.ip().to_canonical().is_loopback() {
        tracing::warn!(
            server.address = %address,
            "other machines can reach this coordinator, and there is no authentication: whoever reaches it \
             can read, replace and purge every page"
        );
    }
    started(&Started { address, data_dir });
    let served = server::run(connections(listener), engine, transport, shutdown).await;

    keeping_house.cancel();
    if housekeeper.await.is_err() {
        tracing::error!("housekeeping died");
    }
    store.close().await;
    match &served {
        Ok(Stopped::Drained) => tracing::info!("stopped; every call was finished"),
        Ok(Stopped::CutOff) => tracing::warn!(
            "stopped at the drain timeout; calls in progress, or peers that did not answer, were cut off"
        ),
        Err(_) => {}
    }
    served.map_err(|error| ServeError::Transport(error.to_string()))
}

/// Off the threads of the runtime: it reads back what the last process left.
async fn open(dir: PathBuf) -> Result<Arc<EmbeddedStore>, ServeError> {
    let opening = tokio::task::spawn_blocking(move || {
        if dir.is_file() {
            return Err(ServeError::NotADirectory(dir));
        }
        EmbeddedStore::open(&dir).map(Arc::new).map_err(|source| ServeError::Open { source })
    });
    opening.await.unwrap_or(Err(ServeError::Died("opening the store")))
}

/// Connections as they come, each once its peer has said something. One that stays silent is closed after a
/// while, and at once by a stop, which would else wait for its first word until the drain timeout. Accepting
/// does not end with a connection that fails, nor spin when there are too many.
fn connections(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> + Send {
    stream::unfold(listener, |listener| async move { Some((accept(&listener).await, listener)) })
        .map(|connection| async move {
            // Not `readable`, which may say so of a connection that nothing has come on.
            let spoken = tokio::time::timeout(FIRST_WORD, connection.peek(&mut [0])).await;
            matches!(spoken, Ok(Ok(1))).then_some(Ok(connection))
        })
        .buffer_unordered(SILENT_CONNECTIONS)
        .filter_map(std::future::ready)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                // Without it small answers wait for acknowledgements. It fails only for a peer that has gone.
                if connection.set_nodelay(true).is_ok() {
                    return connection;
                }
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn keep_house(store: Arc<EmbeddedStore>, clock: Arc<dyn Clock>, keep: Keep, stop: CancellationToken) {
    let mut turns = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = turns.tick() => {}
        }
        let kept = tokio::select! {
            biased;
            // What it has under way is done whole or not at all.
            () = stop.cancelled() => return,
            kept = store.housekeep(clock.now().wall, keep) => kept,
        };
        match kept {
            Ok(kept) => tracing::debug!(
                entries.forgotten = kept.entries,
                objects.deleted = kept.objects,
                events.forgotten = kept.events,
                orphans.deleted = kept.orphans,
                freed_bytes = kept.freed_bytes,
                "housekeeping done"
            ),
            Err(error) => tracing::warn!(%error, "housekeeping failed; trying again later"),
        }
    }
}

/// Serves until a signal says otherwise: the whole of `leasehold serve`.
pub fn to_the_end(config: Config) -> ExitCode {
    config.logging.install();
    let failed = |message: String| Failure::local(message, "").report(false);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(format!("cannot start the runtime: {error}")),
    };
    let program = config.program.clone();
    let ended = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        stop_on_signals(shutdown.clone()).map_err(|error| format!("cannot listen for signals: {error}"))?;
        run(config, shutdown, |started| banner::print(started, Path::new(&program)))
            .await
            .map_err(|error| error.to_string())
    });
    // Calls that were cut off may still hold threads; they get no more than this.
    runtime.shutdown_timeout(LAST_MOMENTS);
    match ended {
        Ok(Stopped::Drained | Stopped::CutOff) => ExitCode::SUCCESS,
        Err(message) => failed(message),
    }
}

/// The first signal asks to stop, the second ends the process at once.
#[cfg(unix)]
fn stop_on_signals(shutdown: CancellationToken) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        loop {
            let (name, number) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
                _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
            };
            if shutdown.is_cancelled() {
                eprintln!("leasehold: a second signal ({name}): exiting at once");
                std::process::exit(128 + number);
            }
            tracing::info!(signal = name, "asked to stop; a second signal ends it at once");
            shutdown.cancel();
        }
    });
    Ok(())
}

/// The first Ctrl-C asks to stop, the second ends the process at once.
#[cfg(not(unix))]
fn stop_on_signals(shutdown: CancellationToken) -> io::Result<()> {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if shutdown.is_cancelled() {
                std::process::exit(130);
            }
            shutdown.cancel();
        }
    });
    Ok(())
}
