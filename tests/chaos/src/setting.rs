//! The times and the names of a run: those of the simulation, where they need not be longer on a real machine.

use crate::clock::Clock;
use leasehold_checker::history::{Identity, Terms, Time};
use leasehold_sim::load::{LONGEST_CALM_RENDER, LONGEST_LEASE, LONGEST_RENDER, Pace};
use std::time::Duration;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What coordinators are started with: leases and bounds as short as the simulation's, or nearly so, that there are many races
/// in a minute.
pub(crate) const COORDINATOR: &[&str] = &[
    "--lease-default-ttl=600ms",
    "--lease-max-ttl=2s",
    "--lease-max-hold=3s",
    "--expiry-tolerance=50ms",
    "--reread-interval=50ms",
    "--max-wait=30s",
    "--backoff-base=100ms",
    "--backoff-max=500ms",
    "--tail-interval=50ms",
    "--staleness-bound=1s",
    "--deletion-grace=2s",
    "--store-timeout=2s",
    "--default-deadline=5s",
    "--keepalive-interval=500ms",
    "--keepalive-timeout=1s",
    "--drain-timeout=2s",
    "--watch-progress=500ms",
];

/// What they were told about time. Where a rule asks whether something came in time, it allows for a machine that is busy with
/// something else; where it asks what was before what, there is nothing to allow for: all use one clock.
pub(crate) const TERMS: Terms = Terms {
    staleness_bound: 1_000,
    // They are on one machine.
    clocks_apart: 0,
    // Besides the time for which the caller did not run, which its journal has. It also takes what the machine's wall clock is
    // set back by meanwhile.
    slack: 2_000,
    longest_lease: LONGEST_LEASE,
    longest_hold: 3_000,
    // A render of 100 ms may take as long on a busy machine.
    longest_render: LONGEST_CALM_RENDER + 10_000,
    longest_render_amid_faults: LONGEST_RENDER + 10_000,
    deletion_grace: 2_000,
    // Somebody looks once a second, and is granted the processor some time.
    hearsay: 14_000,
    reread: 50,
};

/// From the last fault to the calm: leases, backoffs and connections of before are over.
pub(crate) const SETTLING: Duration = ms(4_000);
/// Until everything that was superseded is deleted.
pub(crate) const DELETING: Duration = ms(2 * TERMS.deletion_grace);
/// Who has been let go has ended by then: every call has a deadline.
pub(crate) const LONGEST_END: Duration = ms(120_000);
/// What is owed in the calm is judged where no process of the run stood still for so long: a quarter of the staleness bound, the
/// shortest time that any of it rests on.
pub(crate) const CALM_STALL: Time = 250;

/// A process finds that it did not run when it wakes up so much later than it wanted to.
const NOTICED_STALL: Time = 30;
const TICK: Duration = ms(20);

/// Which part a process plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Asks while things go wrong, and is not patient.
    Storm,
    /// Asks when all is well, and is owed an answer.
    Calm,
    /// Looks at every entry when nobody else asks, and ends.
    Audit,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Storm => "storm",
            Self::Calm => "calm",
            Self::Audit => "audit",
        }
    }

    pub(crate) fn pace(self) -> Pace {
        match self {
            Self::Storm => Pace {
                patience: [ms(400), ms(1_500), ms(6_000)],
                body: ms(1_000),
                waits: [Duration::ZERO, ms(200), ms(1_000), ms(4_000)],
            },
            // Whoever waits for so long is served before, also on a busy machine.
            Self::Calm | Self::Audit => Pace {
                patience: [ms(30_000); 3],
                body: ms(5_000),
                waits: [Duration::ZERO, ms(200), ms(20_000), ms(20_000)],
            },
        }
    }

    /// How long one attempt may take, and how long a connection may be silent.
    pub(crate) fn attempts(self) -> (Duration, Duration) {
        match self {
            Self::Storm => (ms(700), ms(300)),
            Self::Calm | Self::Audit => (ms(5_000), ms(3_000)),
        }
    }
}

/// A few entries that differ in as little as entries can.
pub(crate) fn entries() -> Vec<Identity> {
    let all: [(&str, Option<&str>, &str, &str); 5] = [
        ("acme", None, "acme::/a?", "/blog/a"),
        ("acme", None, "acme::/b?", "/blog/b"),
        ("acme", Some("v2"), "acme::/a?", "/blog/a"),
        ("zen", None, "acme::/a?", "/blog/a"),
        ("zen", None, "zen::/c?", "/blogs"),
    ];
    all.into_iter()
        .map(|(tenant, deployment, key, path)| Identity {
            tenant: tenant.into(),
            deployment: deployment.map(Into::into),
            key: key.into(),
            path: path.into(),
        })
        .collect()
}

/// Tells from when to when this process did not run, as it finds out.
pub(crate) async fn watch_for_stalls(clock: Clock, tell: impl Fn(Time, Time)) {
    loop {
        let before = clock.now();
        tokio::time::sleep(TICK).await;
        let now = clock.now();
        if now > before + TICK.as_millis() as Time + NOTICED_STALL {
            tell(before, now);
        }
    }
}
