//! How many connections there may be.

use crate::{
    engine::{Engine, Place, Places},
    time::Clock,
};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use std::{fmt, sync::Arc, time::Duration};

/// That connections are refused is logged at most so often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Places for the connections that calls come on. Whoever accepts connections takes one for each, and keeps it as long as the
/// connection.
pub struct ConnectionPlaces {
    places: Arc<Places>,
    refused: Counter,
    clock: Arc<dyn Clock>,
    logged: Mutex<Option<Duration>>,
}

impl fmt::Debug for ConnectionPlaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionPlaces").field("places", &self.places).finish_non_exhaustive()
    }
}

impl ConnectionPlaces {
    /// So many for this coordinator, shown and counted among its metrics.
    pub fn new(engine: &Engine, limit: usize) -> Self {
        let places = Places::new("connections", limit);
        engine.meters().show_places([("connections", &places)]);
        let refused = engine.meters().connections_refused.clone();
        Self { places, refused, clock: engine.clock(), logged: Mutex::default() }
    }

    /// One, or `None` where the connection is to be closed: it is counted, and now and then logged.
    pub fn take(&self) -> Option<Place> {
        let place = self.places.take().ok();
        if place.is_none() {
            self.refused.inc();
            self.log_now_and_then();
        }
        place
    }

    fn log_now_and_then(&self) {
        let now = self.clock.now().elapsed;
        let mut logged = self.logged.lock();
        if logged.is_none_or(|before| now.saturating_sub(before) >= LOG_INTERVAL) {
            *logged = Some(now);
            drop(logged);
            tracing::warn!(limit = self.places.limit(), "over the limit of connections: new ones are closed");
        }
    }
}
