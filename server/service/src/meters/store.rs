//! Requests to the store, by what they were made for.

use super::{CALL_SECONDS, Labels, purpose::Purpose};
use crate::{time::Clock, traces::Tracing};
use leasehold_store::decorators::observing::{Observed, Observer};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

pub(super) struct StoreMeters {
    clock: Arc<dyn Clock>,
    tracing: Option<Tracing>,
    requests: Family<Labels<3>, Counter>,
    seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    units: Family<Labels<2>, Counter<f64, AtomicU64>>,
}

impl StoreMeters {
    pub(super) fn new(clock: Arc<dyn Clock>, tracing: Option<Tracing>) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(CALL_SECONDS);
        Self {
            clock,
            tracing,
            requests: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            units: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "store_requests",
            "Requests to the store, by the event that they were made for, by operation and outcome",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "store_request",
            "How long requests to the store took",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "store_consumed_units",
            "Capacity units that the store says were consumed, by event; of writes that their condition refused it says nothing",
            self.units.clone(),
        );
    }
}

impl Observer for StoreMeters {
    fn elapsed(&self) -> Duration {
        self.clock.now().elapsed
    }

    fn ended(&self, request: &Observed) {
        let purpose = Purpose::current();
        if let Some(tracing) = &self.tracing {
            tracing.asked_the_store(&purpose, request);
        }
        let (operation, outcome) = (request.operation.as_str(), request.outcome.as_str());
        let Purpose { event, tenant, .. } = purpose;
        let labels = [("event", event.as_str()), ("operation", operation), ("outcome", outcome)];
        self.requests.get_or_create(&labels).inc();
        self.seconds.get_or_create(&[("operation", operation)]).observe(request.took.as_secs_f64());
        for (kind, units) in [("read", request.consumed.read_units), ("write", request.consumed.write_units)]
        {
            if units > 0.0 {
                self.units.get_or_create(&[("event", event.as_str()), ("kind", kind)]).inc_by(units);
            }
        }
        if let Some(tenant) = tenant {
            tenant.asked_the_store(request);
        }
    }
}
