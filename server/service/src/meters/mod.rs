//! What a coordinator counts: for those who watch over it, and for nothing else. No rule and no answer depends on it.
//!
//! Outcomes are counted at the edge, where they are known; in the engine only what is known nowhere else: waits, what a grant
//! took the place of, and the requests to the store, by a decorator. What a hit counts is there before it comes: a hit takes
//! no lock and allocates nothing for it.
//!
//! Labels come from this code, from the contract, or are tenants, whose number is bounded. Never a key, a path, a tag, an
//! owner.

mod gauges;
pub(crate) mod purpose;
mod store;
pub(crate) mod tenants;

pub use gauges::register;

use crate::{
    engine::{Places, Uploaded},
    settings::MetricsSettings,
    time::Clock,
    traces::{self, Tracing},
};
use leasehold_core::{
    freshness::{Absence, Freshness, Staleness},
    identity::TenantId,
    invalidation::{Depth, Verdict},
    transition::{Committed, Release, ReleaseOutcome, Renewed},
};
use leasehold_store::{decorators::observing::observed, port::Stores};
use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use store::StoreMeters;
use tenants::Tenants;

/// Of a counter with so many labels, whose values this code or the contract has.
type Labels<const N: usize> = [(&'static str, &'static str); N];
/// Counters with so many labels.
type Counters<const N: usize> = Family<Labels<N>, Counter>;

/// From half a millisecond, which is less than any store takes, to longer than any call may last.
const CALL_SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Of waits, which last as long as renders do.
const WAIT_SECONDS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// By which call a page was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// `Lookup`.
    Lookup,
    /// `LookupStream`.
    Stream,
    /// `ServePage`.
    Page,
}

/// How an acquire ended, as its caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    Granted,
    Ready,
    Held,
    BackingOff,
    Ended,
}

/// How a wait for another's lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// With the answer that the caller is given: *held* where its time was over.
    For(Acquired),
    /// With an error, as when the coordinator goes down.
    Failed,
    /// The caller went away.
    Abandoned,
}

/// What a grant took the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TookOver {
    /// Nobody's lease.
    Nothing,
    /// One whose time was over: its holder died, was cut off, or was too slow.
    Expired,
    /// One that ran, and that an invalidation overtook.
    Overtaken,
}

/// Which body was streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    Page,
    Sidecar,
    Object,
}

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upload {
    Stored,
    Fenced,
    Superseded,
}

/// Every counter of one coordinator.
pub struct Meters {
    /// Of the calls: the layer in front of the service has these.
    pub(crate) calls: Arc<CallMeters>,
    /// Of the tenants.
    pub(crate) tenants: Arc<Tenants>,
    lookups: Counters<3>,
    /// The same, to be found without a lock: by [`Via`] and [`state_index`].
    lookups_at: [[Counter; STATES.len()]; 3],
    acquires: Counters<1>,
    leases_granted: Counters<1>,
    leases_unheard: Counter,
    waits: Counters<1>,
    wait_seconds: Histogram,
    commits: Counters<1>,
    commit_seconds: Histogram,
    uploads: Counters<1>,
    renewals: Counters<1>,
    releases: Counters<1>,
    bodies_served: Counters<1>,
    invalidations: Counters<1>,
    /// Of connections: whoever accepts them has this.
    pub(crate) connections_refused: Counter,
    store: Arc<StoreMeters>,
    places: Mutex<Vec<(&'static str, Arc<Places>)>>,
}

/// State and reason of what a lookup can find.
const STATES: [(&str, &str); 7] = [
    ("fresh", "none"),
    ("stale", "expired"),
    ("stale", "invalidated"),
    ("stale", "unverified"),
    ("missing", "never_rendered"),
    ("missing", "purged"),
    ("missing", "body_gone"),
];

const fn state_index(freshness: Freshness) -> usize {
    match freshness {
        Freshness::Fresh => 0,
        Freshness::Stale(Staleness::Expired) => 1,
        Freshness::Stale(Staleness::Invalidated) => 2,
        Freshness::Stale(Staleness::Unverified) => 3,
        Freshness::Missing(Absence::NeverRendered) => 4,
        Freshness::Missing(Absence::Purged) => 5,
        Freshness::Missing(Absence::BodyGone) => 6,
    }
}

impl Meters {
    pub(crate) fn new(settings: &MetricsSettings, clock: Arc<dyn Clock>, tracing: Option<Tracing>) -> Self {
        let lookups = Counters::default();
        let lookups_at = ["lookup", "stream", "page"].map(|via| {
            STATES.map(|(state, reason)| {
                lookups.get_or_create_owned(&[("via", via), ("state", state), ("reason", reason)])
            })
        });
        Self {
            calls: Arc::new(CallMeters::new()),
            tenants: Arc::new(Tenants::new(settings.tenants)),
            lookups,
            lookups_at,
            acquires: outcomes(["granted", "ready", "held", "backing_off", "ended"]),
            leases_granted: counters("over", ["nothing", "expired", "overtaken"]),
            leases_unheard: Counter::default(),
            waits: outcomes(["granted", "ready", "held", "backing_off", "ended", "failed", "abandoned"]),
            wait_seconds: Histogram::new(WAIT_SECONDS),
            commits: outcomes(["committed", "committed_stale", "committed_purged", "superseded", "fenced"]),
            commit_seconds: Histogram::new(CALL_SECONDS),
            uploads: outcomes(["stored", "superseded", "fenced"]),
            renewals: outcomes(["renewed", "lost"]),
            releases: outcomes(["unused", "failed_render", "not_held"]),
            bodies_served: counters("kind", ["page", "sidecar", "object"]),
            invalidations: counters("depth", ["soft", "hard"]),
            connections_refused: Counter::default(),
            store: Arc::new(StoreMeters::new(clock, tracing)),
            places: Mutex::default(),
        }
    }

    /// The stores, with every request counted.
    pub(crate) fn observe(&self, stores: Stores) -> Stores {
        observed(stores, Arc::clone(&self.store) as _)
    }

    /// Places that are limited, to be shown as such.
    pub(crate) fn show_places<const N: usize>(&self, places: [(&'static str, &Arc<Places>); N]) {
        self.places.lock().extend(places.map(|(what, places)| (what, Arc::clone(places))));
    }

    pub(crate) fn looked_up(&self, via: Via, freshness: Freshness) {
        let state = state_index(freshness);
        traces::outcome(STATES[state].0);
        self.lookups_at[via as usize][state].inc();
    }

    pub(crate) fn acquired(&self, outcome: Acquired) {
        traces::outcome(outcome.as_str());
        self.acquires.get_or_create(&[("outcome", outcome.as_str())]).inc();
    }

    pub(crate) fn granted(&self, over: TookOver) {
        let over = match over {
            TookOver::Nothing => "nothing",
            TookOver::Expired => "expired",
            TookOver::Overtaken => "overtaken",
        };
        self.leases_granted.get_or_create(&[("over", over)]).inc();
    }

    /// A grant was given back, as its caller had gone away.
    pub(crate) fn unheard(&self) {
        self.leases_unheard.inc();
    }

    pub(crate) fn waited(&self, outcome: Waited, time: Duration) {
        let outcome = match outcome {
            Waited::For(outcome) => outcome.as_str(),
            Waited::Failed => "failed",
            Waited::Abandoned => "abandoned",
        };
        self.waits.get_or_create(&[("outcome", outcome)]).inc();
        self.wait_seconds.observe(time.as_secs_f64());
    }

    pub(crate) fn committed(&self, outcome: &Committed, time: Duration) {
        let outcome = match outcome {
            Committed::Committed => "committed",
            Committed::CommittedStale(Verdict::Purged) => "committed_purged",
            Committed::CommittedStale(Verdict::Valid | Verdict::Invalidated) => "committed_stale",
            Committed::Superseded { .. } => "superseded",
            Committed::Fenced { .. } => "fenced",
        };
        traces::outcome(outcome);
        self.commits.get_or_create(&[("outcome", outcome)]).inc();
        self.commit_seconds.observe(time.as_secs_f64());
    }

    pub(crate) fn uploaded(&self, outcome: Upload) {
        let outcome = match outcome {
            Upload::Stored => "stored",
            Upload::Fenced => "fenced",
            Upload::Superseded => "superseded",
        };
        traces::outcome(outcome);
        self.uploads.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(crate) fn renewed(&self, outcome: &Renewed) {
        let outcome = match outcome {
            Renewed::Renewed(_) => "renewed",
            Renewed::Lost => "lost",
        };
        traces::outcome(outcome);
        self.renewals.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(crate) fn released(&self, why: &Release, outcome: &ReleaseOutcome) {
        let outcome = match (outcome, why) {
            (ReleaseOutcome::NotHeld, _) => "not_held",
            (ReleaseOutcome::Released, Release::Failed { .. }) => "failed_render",
            (ReleaseOutcome::Released, Release::Unused | Release::Unheard) => "unused",
        };
        traces::outcome(outcome);
        self.releases.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(crate) fn served(&self, kind: Served) {
        let kind = match kind {
            Served::Page => "page",
            Served::Sidecar => "sidecar",
            Served::Object => "object",
        };
        self.bodies_served.get_or_create(&[("kind", kind)]).inc();
    }

    /// `tenants` are those that it is confined to.
    pub(crate) fn invalidated(&self, depth: Depth, tenants: &BTreeSet<TenantId>) {
        for tenant in tenants {
            self.tenants.of(tenant).invalidated();
        }
        let depth = match depth {
            Depth::Soft => "soft",
            Depth::Hard => "hard",
        };
        self.invalidations.get_or_create(&[("depth", depth)]).inc();
    }

    /// Every family of these, under the names that are documented for operators.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Self {
            calls,
            tenants,
            lookups,
            lookups_at: _,
            acquires,
            leases_granted,
            leases_unheard,
            waits,
            wait_seconds,
            commits,
            commit_seconds,
            uploads,
            renewals,
            releases,
            bodies_served,
            invalidations,
            connections_refused,
            store,
            places: _,
        } = self;
        registry.register("lookups", "Pages looked up, by call, state and reason", lookups.clone());
        registry.register("acquires", "Answers to AcquireLease", acquires.clone());
        registry.register(
            "leases_granted",
            "Leases granted here, by what they took the place of: nothing, an expired lease, one overtaken by an invalidation",
            leases_granted.clone(),
        );
        registry.register(
            "leases_unheard",
            "Leases given back here because their caller had gone away",
            leases_unheard.clone(),
        );
        registry.register("waits", "Waits for the lease of another that ended", waits.clone());
        registry.register_with_unit("wait", "How long they lasted", Unit::Seconds, wait_seconds.clone());
        registry.register("commits", "Answers to CommitPointer", commits.clone());
        registry.register_with_unit(
            "commit",
            "From the arrival of a commit to its answer",
            Unit::Seconds,
            commit_seconds.clone(),
        );
        registry.register("uploads", "Answers to UploadBody", uploads.clone());
        registry.register("renewals", "Answers to RenewLease", renewals.clone());
        registry.register("releases", "Answers to ReleaseLease", releases.clone());
        registry.register("bodies_served", "Bodies streamed to readers", bodies_served.clone());
        registry.register("invalidations", "Invalidations acknowledged here", invalidations.clone());
        registry.register(
            "connections_refused",
            "Connections that were closed because there were as many as there may be",
            connections_refused.clone(),
        );
        calls.register(registry);
        store.register(registry);
        tenants.register(registry);
    }
}

impl Upload {
    pub(crate) const fn of(uploaded: &Uploaded) -> Self {
        match uploaded {
            Uploaded::Stored(_) => Self::Stored,
            Uploaded::Fenced { .. } => Self::Fenced,
            Uploaded::Superseded { .. } => Self::Superseded,
        }
    }
}

impl Acquired {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Ready => "ready",
            Self::Held => "held",
            Self::BackingOff => "backing_off",
            Self::Ended => "ended",
        }
    }
}

/// A counter for each value of a label: what never happened is zero, and not absent.
fn counters<const N: usize>(label: &'static str, values: [&'static str; N]) -> Counters<1> {
    let counters = Counters::default();
    for value in values {
        drop(counters.get_or_create(&[(label, value)]));
    }
    counters
}

fn outcomes<const N: usize>(values: [&'static str; N]) -> Counters<1> {
    counters("outcome", values)
}

/// The methods of the service, as the contract names them.
pub(crate) const METHODS: [&str; 12] = [
    "Lookup",
    "LookupStream",
    "AcquireLease",
    "RenewLease",
    "ReleaseLease",
    "CommitPointer",
    "UploadBody",
    "ServeSidecar",
    "ServeObject",
    "ServePage",
    "Invalidate",
    "Watch",
];

/// Calls, whatever they are about.
pub(crate) struct CallMeters {
    calls: Counters<1>,
    calls_at: [Counter; METHODS.len()],
    failed: Family<[(&'static str, String); 2], Counter>,
    let_go: Counters<1>,
}

impl CallMeters {
    pub(crate) fn new() -> Self {
        let calls = Counters::default();
        let calls_at = METHODS.map(|method| calls.get_or_create_owned(&[("method", method)]));
        let let_go =
            counters("method", ["LookupStream", "ServeSidecar", "ServeObject", "ServePage", "Watch"]);
        Self { calls, calls_at, failed: Family::default(), let_go }
    }

    /// A call of the method at this place among [`METHODS`] came.
    pub(crate) fn came(&self, method: usize) {
        self.calls_at[method].inc();
    }

    /// It was refused, or failed. `reason` is one of the contract's, or the name of a status.
    pub(crate) fn failed(&self, method: &'static str, reason: &str) {
        self.failed.get_or_create(&[("method", method.into()), ("reason", reason.to_lowercase())]).inc();
    }

    /// Of streams with the answers of this method.
    pub(crate) fn streams_let_go(&self, method: &'static str) -> Counter {
        self.let_go.get_or_create_owned(&[("method", method)])
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("calls", "Calls that came, by method", self.calls.clone());
        registry.register(
            "calls_failed",
            "Calls, and lookups on a stream, that got no outcome, by method and reason of the error",
            self.failed.clone(),
        );
        registry.register(
            "streams_let_go",
            "Streams of answers that were let go as nobody read them, without their connections, by method",
            self.let_go.clone(),
        );
    }
}
