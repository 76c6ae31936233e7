//! What the pages of each tenant cost.

use leasehold_core::{freshness::Freshness, identity::TenantId};
use leasehold_store::{
    consumed::Consumed,
    decorators::{Operation, observing::Observed},
};
use parking_lot::RwLock;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
};

/// The label of all tenants that are not told apart. A tenant of this name is one of them.
pub(crate) const OTHER: &str = "other";

type Labels<const N: usize> = [(&'static str, String); N];
type Units = Counter<f64, AtomicU64>;

/// The tenants that are told apart: the first that were seen, as many as are allowed, because whoever calls may think of as
/// many as he likes. The rest are counted together.
pub(crate) struct Tenants {
    limit: usize,
    known: RwLock<HashMap<TenantId, Arc<TenantMeters>>>,
    rest: Arc<TenantMeters>,
    families: Families,
}

#[derive(Default)]
struct Families {
    lookups: Family<Labels<2>, Counter>,
    grants: Family<Labels<1>, Counter>,
    commits: Family<Labels<1>, Counter>,
    invalidations: Family<Labels<1>, Counter>,
    requests: Family<Labels<2>, Counter>,
    units: Family<Labels<2>, Units>,
    body_bytes: Family<Labels<2>, Counter>,
}

/// The counters of one tenant, or of the rest.
pub(crate) struct TenantMeters {
    /// Fresh, stale, missing.
    lookups: [Counter; 3],
    grants: Counter,
    commits: Counter,
    invalidations: Counter,
    /// To the entries and the objects.
    requests: [Counter; 2],
    read_units: Units,
    write_units: Units,
    stored_bytes: Counter,
    fetched_bytes: Counter,
}

impl Tenants {
    pub(crate) fn new(limit: usize) -> Self {
        let families = Families::default();
        let rest = Arc::new(families.of(OTHER));
        Self { limit, known: RwLock::default(), rest, families }
    }

    /// The counters of a tenant. Takes a lock: what a hit needs is kept beside its entry.
    pub(crate) fn of(&self, tenant: &TenantId) -> Arc<TenantMeters> {
        if let Some(meters) = self.known.read().get(tenant) {
            return Arc::clone(meters);
        }
        if tenant.as_str() == OTHER {
            return Arc::clone(&self.rest);
        }
        let mut known = self.known.write();
        if let Some(meters) = known.get(tenant) {
            return Arc::clone(meters);
        }
        if known.len() >= self.limit {
            return Arc::clone(&self.rest);
        }
        let meters = Arc::new(self.families.of(tenant.as_str()));
        known.insert(tenant.clone(), Arc::clone(&meters));
        meters
    }

    /// How many are told apart.
    pub(crate) fn known(&self) -> usize {
        self.known.read().len()
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let Families { lookups, grants, commits, invalidations, requests, units, body_bytes } =
            &self.families;
        registry.register("tenant_lookups", "Pages looked up, by tenant and state", lookups.clone());
        registry.register("tenant_grants", "Leases granted to callers, by tenant: renders", grants.clone());
        registry.register("tenant_commits", "Pages committed, by tenant", commits.clone());
        registry.register(
            "tenant_invalidations",
            "Invalidations that name a tenant, by tenant",
            invalidations.clone(),
        );
        registry.register(
            "tenant_store_requests",
            "Requests to the store for a tenant, by port: those of calls that share one are counted for the first",
            requests.clone(),
        );
        registry.register(
            "tenant_consumed_units",
            "Capacity units consumed for a tenant, as far as the store tells",
            units.clone(),
        );
        registry.register(
            "tenant_body_bytes",
            "Bytes of bodies that were stored for a tenant, or fetched from the store",
            body_bytes.clone(),
        );
    }
}

impl Families {
    fn of(&self, tenant: &str) -> TenantMeters {
        let Self { lookups, grants, commits, invalidations, requests, units, body_bytes } = self;
        let named = || ("tenant", tenant.to_owned());
        let with = |label: &'static str, value: &str| [named(), (label, value.to_owned())];
        TenantMeters {
            lookups: ["fresh", "stale", "missing"]
                .map(|state| lookups.get_or_create_owned(&with("state", state))),
            grants: grants.get_or_create_owned(&[named()]),
            commits: commits.get_or_create_owned(&[named()]),
            invalidations: invalidations.get_or_create_owned(&[named()]),
            requests: ["entries", "objects"].map(|port| requests.get_or_create_owned(&with("port", port))),
            read_units: units.get_or_create_owned(&with("kind", "read")),
            write_units: units.get_or_create_owned(&with("kind", "write")),
            stored_bytes: body_bytes.get_or_create_owned(&with("direction", "stored")),
            fetched_bytes: body_bytes.get_or_create_owned(&with("direction", "fetched")),
        }
    }
}

impl TenantMeters {
    pub(crate) fn looked_up(&self, freshness: Freshness) {
        let state = match freshness {
            Freshness::Fresh => 0,
            Freshness::Stale(_) => 1,
            Freshness::Missing(_) => 2,
        };
        self.lookups[state].inc();
    }

    pub(crate) fn granted(&self) {
        self.grants.inc();
    }

    pub(crate) fn committed(&self) {
        self.commits.inc();
    }

    pub(crate) fn invalidated(&self) {
        self.invalidations.inc();
    }

    /// A request to the store for the sake of this tenant.
    pub(super) fn asked_the_store(&self, request: &Observed) {
        let Consumed { read_units, write_units } = request.consumed;
        self.read_units.inc_by(read_units);
        self.write_units.inc_by(write_units);
        let port = match request.operation {
            Operation::EntryRead | Operation::Swap => 0,
            // Of everybody: no call for a tenant asks for them.
            Operation::HeadRead | Operation::EventRead | Operation::Append => return,
            Operation::Put | Operation::Get | Operation::Info | Operation::Delete | Operation::Url => 1,
        };
        self.requests[port].inc();
        match request.operation {
            Operation::Put => self.stored_bytes.inc_by(request.body_bytes),
            _ => self.fetched_bytes.inc_by(request.body_bytes),
        };
    }
}
