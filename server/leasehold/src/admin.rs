//! The admin port: HTTP for those who watch over the process, on a listener of its own.
//!
//! | path | what |
//! |---|---|
//! | `/livez` | 200 as long as the process can answer |
//! | `/readyz` | 200 when it serves; 503 while it starts, and from the word to stop on |
//! | `/statusz` | how it stands, as JSON |
//! | `/leases` | who renders, as far as it knows, as JSON |
//! | `/metrics` | what it has counted, and how it stands, for Prometheus: the text of OpenMetrics |
//!
//! Nobody is asked who he is. So nothing here changes anything, and nothing is told that could be used: no lease's token, no
//! entry's key, path or tags, no page.

mod metrics;
mod shapes;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use leasehold_service::{engine::Engine, time::Clock};
use prometheus_client::registry::Registry;
use shapes::{LeasesShape, StatusShape};
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The most leases that are listed.
const MAX_LEASES: usize = 1_000;

const INDEX: &str =
    "The admin port of a Leasehold coordinator.\n\n/livez\n/readyz\n/statusz\n/leases\n/metrics\n";

/// An admin port. Dropped, it is closed.
pub(crate) struct Admin {
    watched: Arc<Watched>,
    address: SocketAddr,
    _open: DropGuard,
}

/// The coordinator as it is seen from here.
pub(crate) struct Watched {
    clock: Arc<dyn Clock>,
    store: &'static str,
    auth: &'static str,
    engine: OnceLock<(Engine, Registry)>,
    stopping: CancellationToken,
}

/// Whether it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Not yet.
    Starting,
    /// It does. Also while the store cannot be reached: what it remembers it goes on serving, as stale, and where all
    /// coordinators share a store, to be not ready without it would take away every one of them at once.
    Ready,
    /// Not any more.
    Draining,
}

impl Readiness {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

impl Watched {
    fn engine(&self) -> Option<&Engine> {
        self.engine.get().map(|(engine, _)| engine)
    }

    fn readiness(&self) -> Readiness {
        // The very word to stop, on which the health service says that it does not serve, and calls are sent elsewhere.
        if self.stopping.is_cancelled() {
            Readiness::Draining
        } else if self.engine.get().is_none() {
            Readiness::Starting
        } else {
            Readiness::Ready
        }
    }
}

impl Admin {
    /// Answers on `listener` until it is dropped.
    pub(crate) fn start(
        listener: TcpListener,
        address: SocketAddr,
        clock: Arc<dyn Clock>,
        store: &'static str,
        auth: &'static str,
        stopping: CancellationToken,
    ) -> Self {
        tracing::info!(admin.address = %address, "the admin port is open");
        if !address.ip().to_canonical().is_loopback() {
            tracing::warn!(
                admin.address = %address,
                "other machines can reach the admin port, and there is no authentication on it: whoever reaches it \
                 sees tenants, who renders, and how much"
            );
        }
        let watched = Arc::new(Watched { clock, store, auth, engine: OnceLock::new(), stopping });
        let closing = CancellationToken::new();
        let serving = axum::serve(listener, routes(Arc::clone(&watched)));
        let closed = closing.clone().cancelled_owned();
        tokio::spawn(async move {
            tokio::select! {
                // It ends with nothing but this.
                () = closed => {}
                result = serving => if let Err(error) = result {
                    tracing::error!(%error, "the admin port failed");
                },
            }
        });
        Self { watched, address, _open: closing.drop_guard() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From here on there is a coordinator to be asked about.
    pub(crate) fn serves(&self, engine: Engine) {
        let registry = metrics::registry(&engine, self.watched.store);
        // There is one in the life of a process.
        let _ = self.watched.engine.set((engine, registry));
    }
}

fn routes(watched: Arc<Watched>) -> Router {
    Router::new()
        .route("/", get(INDEX))
        .route("/livez", get("alive\n"))
        .route("/readyz", get(readyz))
        .route("/statusz", get(statusz))
        .route("/leases", get(leases))
        .route("/metrics", get(metrics::answer))
        .with_state(watched)
}

async fn readyz(State(watched): State<Arc<Watched>>) -> Response {
    let readiness = watched.readiness();
    let status = if readiness == Readiness::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, current(), format!("{}\n", readiness.as_str())).into_response()
}

async fn statusz(State(watched): State<Arc<Watched>>) -> Response {
    (current(), Json(StatusShape::of(&watched))).into_response()
}

async fn leases(State(watched): State<Arc<Watched>>) -> Response {
    let running = watched.engine().map(|engine| engine.running_leases(MAX_LEASES));
    (current(), Json(LeasesShape::of(running))).into_response()
}

/// It is about this moment.
fn current() -> [(header::HeaderName, &'static str); 1] {
    [(header::CACHE_CONTROL, "no-store")]
}
