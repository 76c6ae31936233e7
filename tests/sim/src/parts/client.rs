//! The real client, on the simulated network.

use crate::{
    load::{INLINE_LIMIT, Pace},
    machine::{Address, Context},
};
use hyper_util::rt::TokioIo;
use leasehold_client::{Coordinator, RetryPolicy};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{sync::Arc, time::Duration};
use tower::service_fn;

/// One attempt of a call.
pub const ATTEMPT: Duration = Duration::from_millis(700);
/// A call with all its attempts, where nobody is in a hurry.
pub const OVERALL: Duration = Duration::from_millis(4_000);

/// How patient the load is.
pub const PACE: Pace = Pace {
    patience: [Duration::from_millis(400), Duration::from_millis(1_500), OVERALL],
    body: ATTEMPT,
    waits: [
        Duration::ZERO,
        Duration::from_millis(200),
        Duration::from_millis(1_000),
        Duration::from_millis(4_000),
    ],
};

/// A handle whose every connection goes to one of these coordinators, as behind a balancer that knows nothing of their
/// health.
///
/// # Panics
/// When the client does not take its own endpoint.
pub fn connect(context: &Context, coordinators: &[Address], number: u64) -> Coordinator {
    connect_by(retries(), OVERALL, context, coordinators, number)
}

/// As [`connect`], of another patience; a quarter of them repeat nothing, and are told what repetitions would cover up.
///
/// # Panics
/// As [`connect`].
pub fn connect_within(
    overall: Duration,
    context: &Context,
    coordinators: &[Address],
    number: u64,
) -> Coordinator {
    let is_told = crate::machine::derived(context.seed, &[5, number]).is_multiple_of(4);
    let retry = if is_told { RetryPolicy::never() } else { retries() };
    connect_by(retry, overall, context, coordinators, number)
}

fn retries() -> RetryPolicy {
    RetryPolicy {
        initial_backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(200),
        ..RetryPolicy::default()
    }
}

fn connect_by(
    retry: RetryPolicy,
    overall: Duration,
    context: &Context,
    coordinators: &[Address],
    number: u64,
) -> Coordinator {
    let seed = crate::machine::derived(context.seed, &[1, number]);
    let rng =
        Arc::new(Mutex::new(StdRng::seed_from_u64(crate::machine::derived(context.seed, &[2, number]))));
    let (network, from) = (context.network.clone(), context.address);
    let coordinators: Arc<[Address]> = coordinators.into();
    let connector = service_fn(move |_: http::Uri| {
        let to = coordinators[rng.lock().random_range(0..coordinators.len())];
        let network = network.clone();
        async move { network.connect(from, to).await.map(TokioIo::new) }
    });
    Coordinator::builder()
        .endpoint("http://coordinators")
        .attempt_timeout(ATTEMPT)
        .overall_timeout(overall)
        .connect_timeout(Duration::from_millis(150))
        .keepalive(Duration::from_millis(300), Duration::from_millis(300))
        .inline_limit(INLINE_LIMIT)
        .retry(retry)
        .owner(format!("machine {from}"))
        .seed(seed)
        .connect_by(move |endpoint| endpoint.connect_with_connector_lazy(connector.clone()))
        .expect("a good endpoint")
}
