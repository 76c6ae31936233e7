//! A coordinator, from its first socket to its last byte.

use crate::{
    access::{Access, AccessError, AccessSettings, Auth},
    admin::Admin,
    banner,
    cli::variable,
    exit::Failure,
    incoming::connections,
    logs::Logging,
    place::{Place, PlaceError},
    traces::{Spans, TraceSettings},
};
use leasehold_service::{
    connections::ConnectionPlaces,
    engine::{Dependencies, Engine, EngineError},
    random::Entropy,
    server::{self, Stopped, TransportSettings},
    settings::Settings,
    time::{Clock, SystemClock},
};
use std::{ffi::OsString, io, net::SocketAddr, path::Path, process::ExitCode, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What a coordinator is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where its state is.
    pub place: Place,
    /// Who may call.
    pub access: AccessSettings,
    /// The engine's settings.
    pub settings: Settings,
    /// The transport's.
    pub transport: TransportSettings,
    /// Where its admin port is, if it has one.
    pub admin: Option<SocketAddr>,
    /// Where its spans go, if anywhere.
    pub traces: Option<TraceSettings>,
    pub(crate) logging: Logging,
    /// How it was called, for the commands that it suggests.
    pub(crate) program: OsString,
}

/// A coordinator that answers calls.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where it listens, with the port that it got.
    pub address: SocketAddr,
    /// Where its data is, for people.
    pub place: String,
    /// Whether it speaks TLS.
    pub is_encrypted: bool,
    /// Who may call it.
    pub auth: Auth,
    /// Where its admin port is, with the port that it got.
    pub admin: Option<SocketAddr>,
}

/// Why a coordinator did not run. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; {}", listen_advice(source, flag))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that named it, without its dashes.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The place of its state cannot be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// It cannot be told who may call.
    #[error("{0}")]
    Access(#[from] AccessError),
    /// The invalidation log could not be read.
    #[error(
        "the store does not answer: {0}; see whether its disk is full or failing, or whether it is throttled"
    )]
    Engine(#[source] EngineError),
    /// Its spans cannot be sent.
    #[error(
        "spans cannot be sent to {endpoint}: {cause}; mend --otlp-endpoint or {}",
        variable("otlp-endpoint")
    )]
    Traces {
        /// Where they were to go.
        endpoint: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The transport failed.
    #[error("the server failed: {0}")]
    Transport(String),
}

fn listen_advice(error: &io::Error, flag: &str) -> String {
    let variable = variable(flag);
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "another coordinator may run there: stop it, or choose another port by --{flag} or {variable}"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("choose a port from 1024 on with --{flag} IP:PORT or {variable}")
        }
        _ => format!("choose an address of this machine with --{flag} IP:PORT or {variable}"),
    }
}

async fn listen(address: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, flag, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// How long the threads that are still busy get after everything else has ended.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

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
    let Config { listen: address, place, access, settings, transport, admin, traces, logging: _, program: _ } =
        config;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    // First, so that a second start in the same place says so before it looks at the data.
    let (listener, address) = listen(address, "listen").await?;
    // Then the admin port, which answers until this function ends: that it starts, and why it takes so long, is seen there.
    let admin = match admin {
        Some(address) => {
            let (listener, address) = listen(address, "admin-listen").await?;
            Some(Admin::start(
                listener,
                address,
                Arc::clone(&clock),
                place.kind(),
                access.auth.name(),
                shutdown.clone(),
            ))
        }
        None => None,
    };
    let auth = access.auth.clone();
    let is_encrypted = access.tls.is_some();
    let access = Access::load(access, Arc::clone(&clock)).await?;
    let (guard, tls) = (access.guard.clone(), access.tls.clone());
    let spans = match &traces {
        Some(settings) => Some(
            Spans::start(settings)
                .map_err(|cause| ServeError::Traces { endpoint: settings.endpoint.clone(), cause })?,
        ),
        None => None,
    };
    let tracing = spans.as_ref().map(|spans| spans.tracing(&place));
    let place = Arc::new(place.open(&settings.object_prefix).await?);
    let dependencies = Dependencies {
        stores: place.stores(),
        clock: Arc::clone(&clock),
        entropy: Arc::new(Entropy::from_os()),
        tracing,
    };
    let engine = match Engine::start(dependencies, settings).await {
        Ok(engine) => engine,
        Err(error) => {
            place.close().await;
            return Err(ServeError::Engine(error));
        }
    };
    let keeping_house = CancellationToken::new();
    let doorkeeper_clock = Arc::clone(&clock);
    let housekeeper = {
        let (place, settings, stop) = (Arc::clone(&place), engine.settings().clone(), keeping_house.clone());
        tokio::spawn(async move { place.keep_house(clock, &settings, stop).await })
    };
    let keeping_up = tokio::spawn(access.keep_up(keeping_house.clone()));
    tracing::info!(server.address = %address, store = %place, access.mode = auth.name(), tls = is_encrypted, "serving");
    warn_of_strangers(address, &auth, is_encrypted);
    if let Some(admin) = &admin {
        admin.serves(engine.clone());
    }
    let admin_address = admin.as_ref().map(Admin::address);
    started(&Started { address, place: place.to_string(), admin: admin_address, is_encrypted, auth });
    let places = ConnectionPlaces::new(&engine, transport.connections);
    let incoming = connections(listener, tls, places, doorkeeper_clock);
    let served = server::run(incoming, engine, guard, transport, shutdown).await;

    keeping_house.cancel();
    if housekeeper.await.is_err() {
        tracing::error!("housekeeping died");
    }
    if keeping_up.await.is_err() {
        tracing::error!("what watches policy, tokens and certificates died");
    }
    place.close().await;
    if let Some(spans) = spans {
        spans.close().await;
    }
    drop(admin);
    match &served {
        Ok(Stopped::Drained) => tracing::info!("stopped; every call was finished"),
        Ok(Stopped::CutOff) => tracing::warn!(
            "stopped at the drain timeout; calls in progress, or peers that did not answer, were cut off"
        ),
        Err(_) => {}
    }
    served.map_err(|error| ServeError::Transport(error.to_string()))
}

/// Says at every start what was allowed by a flag only.
fn warn_of_strangers(address: SocketAddr, auth: &Auth, is_encrypted: bool) {
    if address.ip().to_canonical().is_loopback() {
        return;
    }
    match auth {
        Auth::None => tracing::warn!(
            server.address = %address,
            "other machines can reach this coordinator, and there is no authentication: whoever reaches it \
             can read, replace and purge every page"
        ),
        Auth::Token { .. } if !is_encrypted => tracing::warn!(
            server.address = %address,
            "other machines can reach this coordinator, and there is no TLS: whoever sees its traffic has the \
             tokens of its callers"
        ),
        Auth::Token { .. } | Auth::Mtls { .. } => {}
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
