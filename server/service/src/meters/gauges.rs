//! How a coordinator stands when somebody looks.

use super::Meters;
use crate::engine::{Engine, EngineStats};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use std::{fmt, sync::Arc};

/// Everything that a coordinator counts, and how it stands, for a registry whose prefix says whose they are.
pub fn register(engine: &Engine, registry: &mut Registry) {
    engine.meters().register(registry);
    registry.register_collector(Box::new(Standing(engine.clone())));
}

/// Asked at every look.
struct Standing(Engine);

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Standing")
    }
}

impl Collector for Standing {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let EngineStats {
            entries,
            entry_bytes,
            body_bytes,
            log_bytes,
            waiters: _,
            pending_deletions,
            log_position,
            log_age,
            log_verified,
        } = self.0.stats();
        let (memory, meters) = (&self.0.settings().memory, self.0.meters());
        let mut gauges = Gauges(encoder);
        gauges.one("entries_cached", "Entries in memory", count(entries))?;
        let bytes = [("entries", entry_bytes), ("bodies", body_bytes), ("log", log_bytes as u64)];
        gauges.each("cache_bytes", "Bytes in memory, about", "cache", bytes)?;
        let limits = [
            ("entries", memory.entry_bytes),
            ("bodies", memory.body_bytes),
            ("log", memory.log_bytes as u64),
        ];
        gauges.each("cache_limit_bytes", "Bytes that there may be in memory", "cache", limits)?;
        gauges.one(
            "pending_deletions",
            "Superseded bodies that wait for their deletion",
            count(pending_deletions),
        )?;
        gauges.one("log_position", "How far the invalidation log is read", log_position.0)?;
        gauges.one(
            "log_verified",
            "Whether the log was read recently enough to call anything fresh",
            u64::from(log_verified),
        )?;
        if let Some(age) = log_age {
            gauges.seconds(
                "log_lag",
                "Since a read of the log that reached its head was sent",
                age.as_secs_f64(),
            )?;
        }
        gauges.one("draining", "Whether it is going down", u64::from(self.0.draining().is_cancelled()))?;
        gauges.one(
            "tenants_told_apart",
            "Tenants with a label of their own",
            count(meters.tenants.known()),
        )?;
        let places = meters.places();
        let taken = places.iter().map(|(what, places)| (*what, count(places.taken())));
        gauges.each("places_taken", "What is in progress, of what is limited", "what", taken)?;
        let limits = places.iter().map(|(what, places)| (*what, count(places.limit())));
        gauges.each("places", "The limits of these", "what", limits)
    }
}

struct Gauges<'a>(DescriptorEncoder<'a>);

impl Gauges<'_> {
    fn one(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.gauge(name, help, None, value)
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauge(name, help, Some(&Unit::Seconds), value)
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn each<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (value, number) in values {
            ConstGauge::new(number).encode(encoder.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }
}

fn count(number: usize) -> u64 {
    number as u64
}

impl Meters {
    fn places(&self) -> Vec<(&'static str, Arc<crate::engine::Places>)> {
        self.places.lock().clone()
    }
}
