//! Requests to the store, by what they were made for.

use super::{CALL_SECONDS, Labels, purpose::Purpose};
use crate::time::Clock;
use leasehold_store::decorators::{
    Operation,
    observing::{Observed, Observer, Outcome},
};
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
    requests: Family<Labels<3>, Counter>,
    seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    units: Family<Labels<2>, Counter<f64, AtomicU64>>,
}

impl StoreMeters {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(CALL_SECONDS);
        Self {
            clock,
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
        let Purpose { event, tenant } = Purpose::current();
        let operation = operation(request.operation);
        let labels =
            [("event", event.as_str()), ("operation", operation), ("outcome", outcome(request.outcome))];
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

const fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::EntryRead => "entry_read",
        Operation::Swap => "swap",
        Operation::HeadRead => "head_read",
        Operation::EventRead => "event_read",
        Operation::Append => "append",
        Operation::Put => "put",
        Operation::Get => "get",
        Operation::Info => "info",
        Operation::Delete => "delete",
        Operation::Url => "url",
    }
}

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Refused => "refused",
        Outcome::Unavailable => "unavailable",
        Outcome::Unknown => "unknown",
        Outcome::Corrupt => "corrupt",
        Outcome::TooLarge => "too_large",
        Outcome::Abandoned => "abandoned",
    }
}
