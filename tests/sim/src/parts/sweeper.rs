//! An operator's machine: sweeps the bucket again and again while everybody writes, and hangs up in the middle now and then.

use super::{
    coordinator,
    services::{self, Whereabouts},
};
use crate::{
    machine::{Context, Software},
    recorder::Recorder,
};
use leasehold_aws::{SweepError, SweepOptions, Swept};
use leasehold_checker::history::{Call, Outcome};
use leasehold_core::orphan::Keep;
use leasehold_service::time::Clock as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::time::Duration;

/// What passes is waited out for half a minute in each of a few calls.
const MAY_TAKE: Duration = Duration::from_secs(120);

/// Sweeps until it is asked to end.
pub fn software(services: Whereabouts, recorder: Recorder) -> Software {
    Box::new(move |context| Box::pin(run(context, services, recorder.clone())))
}

/// Sweeps once, and ends.
pub fn once(services: Whereabouts, recorder: Recorder) -> Software {
    Box::new(move |context| {
        let recorder = recorder.clone();
        Box::pin(async move { sweep(&context, services, &recorder, None).await })
    })
}

/// By the rules of the coordinators, as the operator is told to give them.
pub fn options() -> SweepOptions {
    let settings = coordinator::settings();
    let keep = Keep { max_hold: settings.rules.max_hold, grace: settings.deletion_grace };
    SweepOptions { prefix: settings.object_prefix, keep, delete: true, force: false }
}

async fn run(context: Context, services: Whereabouts, recorder: Recorder) {
    let mut rng = StdRng::seed_from_u64(context.seed);
    while !context.shutdown.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..600))).await;
        let patience = if rng.random_range(0..4) == 0 { rng.random_range(1..100) } else { 60_000 };
        sweep(&context, services, &recorder, Some(Duration::from_millis(patience))).await;
    }
}

/// Within the operator's patience; for the last one, there is no end to it.
async fn sweep(context: &Context, services: Whereabouts, recorder: &Recorder, patience: Option<Duration>) {
    let aws = services::connect(context, services);
    let is_last = patience.is_none();
    let journal = recorder.journal_of(context.address);
    let operation = journal.begin(Call::Sweep { is_last }, MAY_TAKE);
    let options = options();
    let sweeping = aws.sweep(&options, || context.clock.now().wall, |_| {});
    match tokio::time::timeout(patience.unwrap_or(MAY_TAKE), sweeping).await {
        Ok(swept) => journal.end(operation, outcome(swept)),
        Err(_) => journal.abandon(operation),
    }
}

fn outcome(swept: Result<Swept, SweepError>) -> Outcome {
    match swept {
        Ok(swept) if swept.is_refused() => Outcome::SweptNothing,
        Ok(swept) => Outcome::Swept { deleted: swept.total.deleted, failed: swept.failed },
        Err(SweepError::Call { .. }) => Outcome::Failed { in_doubt: true, why: "StoreUnavailable".into() },
    }
}
