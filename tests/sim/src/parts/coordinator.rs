//! A coordinator: the real engine and its edge, on the adapters for DynamoDB and S3.

use super::services::{self, Whereabouts};
use crate::machine::{Context, Software};
use futures::stream;
use leasehold_core::transition::Rules;
use leasehold_service::{
    access::Guard,
    engine::{Dependencies, Engine},
    random::Entropy,
    server::{self, TransportSettings},
    settings::{LeaseSettings, Limits, LogSettings, Settings, StoreSettings},
};
use std::{io, sync::Arc, time::Duration};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A coordinator that has not read the log for so long calls nothing fresh.
pub const STALENESS_BOUND: Duration = ms(400);
/// The ttl of a lease whose caller names none.
pub const DEFAULT_TTL: Duration = ms(600);
/// How much clocks may differ without costing a second render.
pub const EXPIRY_TOLERANCE: Duration = ms(50);
/// The first failed render keeps others away for so long, and each further one in a row for twice as long,
pub const FIRST_BACKOFF: Duration = ms(100);
/// but not longer than this.
pub const LONGEST_BACKOFF: Duration = ms(500);

/// A hundred times as fast as in production, so that there are as many more races in a second.
pub fn settings() -> Settings {
    let defaults = Settings::default();
    Settings {
        rules: Rules {
            expiry_tolerance: EXPIRY_TOLERANCE,
            max_hold: ms(3_000),
            staleness_bound: STALENESS_BOUND,
            backoff_base: FIRST_BACKOFF,
            backoff_max: LONGEST_BACKOFF,
            ..defaults.rules
        },
        leases: LeaseSettings { default_ttl: DEFAULT_TTL, max_ttl: ms(2_000), max_wait: ms(5_000) },
        log: LogSettings { tail_interval: ms(50), ..defaults.log },
        limits: Limits { stall_timeout: ms(1_000), ..defaults.limits },
        store: StoreSettings { request_timeout: ms(500), default_deadline: ms(2_000), retry_pause: ms(5) },
        deletion_grace: ms(2_000),
        reread_interval: Some(ms(50)),
        watch_progress_interval: ms(500),
        ..defaults
    }
}

fn transport() -> TransportSettings {
    TransportSettings {
        keepalive_interval: ms(500),
        keepalive_timeout: ms(500),
        drain_timeout: ms(1_000),
        ..TransportSettings::default()
    }
}

/// What runs on a coordinator's machine. Ends when it cannot read the log, or was asked to: whoever watches over it starts
/// it again.
pub fn software(services: Whereabouts) -> Software {
    Box::new(move |context| Box::pin(run(context, services)))
}

async fn run(context: Context, services: Whereabouts) {
    let aws = services::connect(&context, services);
    let dependencies = Dependencies {
        stores: aws.stores(),
        clock: Arc::new(context.clock.clone()),
        entropy: Arc::new(Entropy::from_seed(context.seed)),
        tracing: None,
    };
    let Ok(engine) = Engine::start(dependencies, settings()).await else { return };
    let listener = context.network.listen(context.address);
    let incoming = stream::unfold(listener, |mut listener| async move {
        let (stream, _) = listener.accept().await;
        Some((io::Result::Ok(stream), listener))
    });
    // However it ended: its process is over.
    let _ended =
        server::run(Box::pin(incoming), engine, Guard::open(), transport(), context.shutdown.clone()).await;
}
