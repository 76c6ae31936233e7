//! What dashboard and alarms name, and whether there is such a thing.

use super::{Scrape, on_aws, story};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

fn deployed(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every query of the dashboard.
fn queries(dashboard: &Value) -> Vec<String> {
    let of_this = ["expr", "query", "definition"].iter().filter_map(|key| dashboard[*key].as_str());
    let inside: Vec<&Value> = match dashboard {
        Value::Array(values) => values.iter().collect(),
        Value::Object(values) => values.values().collect(),
        _ => Vec::new(),
    };
    of_this.map(str::to_owned).chain(inside.into_iter().flat_map(queries)).collect()
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The coordinator's metrics in a text, each with the labels that it is asked for by there.
fn named(text: &str) -> Vec<(String, BTreeSet<String>)> {
    text.match_indices("leasehold_")
        .filter(|(at, _)| !text[..*at].ends_with(is_of_name))
        .map(|(at, _)| {
            let name = &text[at..];
            let end = name.find(|c| !is_of_name(c)).unwrap_or(name.len());
            let (name, rest) = name.split_at(end);
            let selector =
                rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(s, _)| s);
            // Values have no commas: they are joined by `|`.
            let labels = selector.split(',').filter_map(|part| {
                let label = part.split(['=', '!']).next()?.trim();
                (!label.is_empty()).then(|| label.to_owned())
            });
            (name.to_owned(), labels.collect())
        })
        .collect()
}

/// What a scrape adds to every sample.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

fn labels(scrape: &Scrape) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for sample in scrape.samples.keys() {
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let keys =
            labels.split("=\"").filter_map(|part| part.rsplit(['"', ',']).next().filter(|key| *key != "}"));
        known.entry(name).or_default().extend(keys);
    }
    known
}

#[test]
fn names_are_found_with_the_labels_that_they_are_asked_for_by() {
    let text =
        "sum by (a) (rate(leasehold_b_total{c=~\"d|e\",f!=\"g\"}[5m])) / my_leasehold_x - leasehold_y > 1";
    let labels = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect::<BTreeSet<_>>();
    let expected =
        [("leasehold_b_total".to_owned(), labels(&["c", "f"])), ("leasehold_y".to_owned(), labels(&[]))];
    assert_eq!(named(text), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dashboard_and_alarms_name_a_running_coordinator_has() {
    let (coordinator, _network, _listening) = on_aws().await;
    story::tell(&coordinator).await;
    let scrape = Scrape::soon(&coordinator).await;
    let known = labels(&scrape);

    let dashboard: Value = serde_json::from_str(&deployed("grafana/dashboard.json")).unwrap();
    let queries = queries(&dashboard);
    assert!(
        queries.len() > 40
            && queries.iter().all(|query| query.contains("leasehold_") || query == "prometheus")
    );
    let alarms = deployed("prometheus/alarms.yaml");
    let mut named_in_all = BTreeSet::new();
    for text in queries.iter().chain([&alarms]) {
        for (name, labels) in named(text) {
            let has = known.get(&*name).unwrap_or_else(|| panic!("no coordinator has {name}: {text}"));
            for label in labels.iter().filter(|label| !OF_PROMETHEUS.contains(&label.as_str())) {
                assert!(has.contains(&**label), "{name} has no label {label}, only {has:?}: {text}");
            }
            named_in_all.insert(name);
        }
    }
    assert!(named_in_all.len() > 30, "{named_in_all:?}");
    // And the other way round: nothing is counted that nobody is shown.
    for family in scrape.families.keys() {
        assert!(named_in_all.iter().any(|name| name.starts_with(&**family)), "{family} is shown nowhere");
    }
}
