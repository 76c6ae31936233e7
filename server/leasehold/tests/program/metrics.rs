//! What Prometheus sees of a coordinator.

mod shown;
mod story;

use crate::{
    admin::on_doubles,
    process::{Coordinator, get},
};
use leasehold_aws::testing::{Doubles, Listening};
use std::collections::{BTreeMap, BTreeSet};

/// What `/metrics` said.
pub(super) struct Scrape {
    /// The families, by the kind of each.
    families: BTreeMap<String, String>,
    /// By name and labels, as they were written.
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    pub(super) fn of(admin: &str) -> Self {
        let (status, text) = get(admin, "/metrics");
        assert_eq!(status, 200, "{text}");
        let text = text.strip_suffix("# EOF\n").expect("it ends as OpenMetrics does");
        let (mut families, mut samples) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, kind) = family.split_once(' ').unwrap();
                assert_eq!(families.insert(name.to_owned(), kind.to_owned()), None, "{name} came twice");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert_eq!(samples.insert(name.to_owned(), value), None, "{name} came twice");
            }
        }
        Self { families, samples }
    }

    /// From among asynchronous work.
    async fn soon(coordinator: &Coordinator) -> Self {
        let admin = coordinator.admin().to_owned();
        tokio::task::spawn_blocking(move || Self::of(&admin)).await.unwrap()
    }

    /// Of one sample.
    pub(super) fn value(&self, name: &str) -> f64 {
        *self.samples.get(name).unwrap_or_else(|| panic!("no {name} among {:?}", self.samples.keys()))
    }
}

/// So that what is counted depends on nothing but the story.
const QUIET: [&str; 8] =
    ["--tail-interval", "60s", "--staleness-bound", "10m", "--backoff-base", "1h", "--backoff-max", "1h"];

/// A coordinator on DynamoDB and S3, and its way there.
async fn on_aws() -> (Coordinator, Doubles, Listening) {
    let doubles = Doubles::new();
    doubles.ready().await;
    let network = doubles.beside();
    let listening = network.listen().await;
    let (command, dir) = (on_doubles(&listening, &QUIET), tempfile::tempdir().unwrap());
    let started = tokio::task::spawn_blocking(|| Coordinator::started(dir, command));
    (started.await.unwrap(), network, listening)
}

const EXPECTED: &str = include_str!("metrics/expected.txt");

/// What depends on how long things took, or on how memory is laid out, is held against what else is known of it.
const MEASURED: [&str; 6] = [
    "leasehold_places_taken{what=\"connections\"}",
    "leasehold_log_lag_seconds",
    "leasehold_cache_bytes",
    "_seconds_sum",
    "_seconds_bucket",
    "leasehold_coordinator_info",
];

#[tokio::test(flavor = "multi_thread")]
async fn after_a_story_every_number_is_as_it_must_be() {
    let coordinator = tokio::task::spawn_blocking(|| {
        let settings = ["--admin-listen", "127.0.0.1:0", "--metrics-tenants", "2"];
        Coordinator::start(&[&settings[..], &QUIET].concat())
    });
    let coordinator = coordinator.await.unwrap();
    story::tell(&coordinator).await;
    tokio::task::spawn_blocking(move || {
        let scrape = Scrape::of(coordinator.admin());
        let status = coordinator.get_json("/statusz");
        let is_measured = |name: &&String| MEASURED.iter().any(|part| name.contains(part));
        let counted: BTreeSet<String> = scrape
            .samples
            .iter()
            .filter(|(name, _)| !is_measured(name))
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let expected: BTreeSet<String> =
            EXPECTED.lines().filter(|line| line.starts_with("leasehold_")).map(str::to_owned).collect();
        let missing: Vec<_> = expected.difference(&counted).collect();
        let others: Vec<_> = counted.difference(&expected).collect();
        assert!(missing.is_empty() && others.is_empty(), "expected {missing:#?}, found {others:#?}");
        scrape.is_measured_rightly(&status);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn capacity_units_are_those_that_dynamodb_bills_and_add_up_by_event() {
    let (coordinator, network, _listening) = on_aws().await;
    let before = Scrape::soon(&coordinator).await;
    network.counters.reset();
    story::tell(&coordinator).await;
    let after = Scrape::soon(&coordinator).await;
    let units = |family: &str, labels: &[&str]| after.sum(family, labels) - before.sum(family, labels);
    let by_event = |labels: &[&str]| units("leasehold_store_consumed_units_total", labels);
    let billed = |operations: &[&str]| -> f64 {
        operations.iter().map(|operation| network.counters.capacity_units(operation)).sum()
    };
    // Four invalidations, four units each.
    assert_eq!(by_event(&["event=\"invalidate\"", "kind=\"write\""]), 16.0);
    assert_eq!(billed(&["TransactWriteItems"]), 16.0);
    let (read, write) = (billed(&["GetItem", "Query"]), billed(&["PutItem", "TransactWriteItems"]));
    assert_eq!((by_event(&["kind=\"read\""]), by_event(&["kind=\"write\""])), (read, write));
    assert!(read > 0.0);
    // Each of the calls is for a tenant; the log is for all of them.
    let by_tenant = |kind| units("leasehold_tenant_consumed_units_total", &[kind]);
    let log = by_event(&["event=\"invalidate\"", "kind=\"read\""]);
    assert_eq!((by_tenant("kind=\"read\""), by_tenant("kind=\"write\"")), (read - log, write - 16.0));
    assert_eq!(
        after.sum("leasehold_store_requests_total", &["event=\"other\""]),
        0.0,
        "all are accounted for"
    );
}

#[test]
fn no_tenant_is_told_apart_where_that_is_not_wanted() {
    let coordinator = Coordinator::start(&["--admin-listen", "127.0.0.1:0", "--metrics-tenants", "0"]);
    for tenant in ["acme", "zeta"] {
        coordinator.json(&format!("lookup page --tenant {tenant}"), 3);
    }
    let scrape = Scrape::of(coordinator.admin());
    assert_eq!(scrape.value("leasehold_tenants_told_apart"), 0.0);
    assert_eq!(scrape.sum("leasehold_tenant_lookups_total", &["tenant=\"other\"", "state=\"missing\""]), 2.0);
    let is_named = |name: &&String| name.contains("acme") || name.contains("zeta");
    assert_eq!(scrape.samples.keys().find(is_named), None);
}

impl Scrape {
    /// Of all samples of a family that have these labels.
    fn sum(&self, family: &str, labels: &[&str]) -> f64 {
        let of_family = self.samples.iter().filter(|(name, _)| name.split('{').next() == Some(family));
        of_family
            .filter(|(name, _)| labels.iter().all(|label| name.contains(label)))
            .map(|(_, value)| value)
            .sum()
    }

    fn is_measured_rightly(&self, status: &serde_json::Value) {
        let uptime = status["uptime_ms"].as_f64().unwrap() / 1e3;
        let lag = self.value("leasehold_log_lag_seconds");
        assert!(lag > 0.0 && lag < uptime, "{lag} s behind, after {uptime} s");
        for (cache, key) in [("entries", "entry_bytes"), ("bodies", "body_bytes"), ("log", "log_bytes")] {
            let bytes = self.value(&format!("leasehold_cache_bytes{{cache=\"{cache}\"}}"));
            assert!(bytes > 0.0 && Some(bytes) == status["memory"][key].as_f64(), "{cache}: {bytes}");
        }
        let about = format!("version=\"{}\",store=\"embedded\"", env!("CARGO_PKG_VERSION"));
        assert_eq!(self.value(&format!("leasehold_coordinator_info{{{about}}}")), 1.0);
        let waited = self.value("leasehold_wait_seconds_sum");
        assert!(waited > 0.0 && waited < uptime, "{waited}");
        self.histograms_add_up(uptime);
    }

    fn histograms_add_up(&self, uptime: f64) {
        let counts: Vec<_> =
            self.samples.iter().filter(|(name, _)| name.contains("_seconds_count")).collect();
        assert!(counts.len() > 5);
        for (name, count) in counts {
            let (family, labels) = name.split_once("_seconds_count").unwrap();
            let labels = labels.trim_start_matches('{').trim_end_matches('}');
            let sum = self.value(&name.replace("_count", "_sum"));
            assert!((0.0..uptime * count).contains(&sum), "{name}: {sum} s in {count}");
            let prefix = format!("{family}_seconds_bucket{{");
            let mut buckets: Vec<(f64, f64)> = self
                .samples
                .iter()
                .filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?, value)))
                .filter(|(bucket, _)| bucket.contains(labels))
                .map(|(bucket, value)| {
                    let le = bucket.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
                    (le.parse().unwrap_or(f64::INFINITY), *value)
                })
                .collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.len() >= 10 && buckets.is_sorted_by(|a, b| a.1 <= b.1), "{name}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{name}");
        }
    }
}
