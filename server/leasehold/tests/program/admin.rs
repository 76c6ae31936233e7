//! The admin port, as those see it who watch over the process.

use crate::process::{Coordinator, Ended, PATIENCE, get, keys, program, serving};
use leasehold_aws::{
    AwsSettings,
    testing::{Doubles, Fault, Listening, Rule},
};
use std::{net::TcpListener, process::Command, time::Duration};
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];

#[test]
fn there_is_no_admin_port_unless_it_is_asked_for_and_then_it_is_not_that_of_the_service() {
    let without = Coordinator::start(&[]);
    assert!(!without.banner.iter().any(|line| line.contains("admin")), "{:?}", without.banner);
    let coordinator = Coordinator::start(&ADMIN);
    assert_ne!(coordinator.admin(), coordinator.endpoint);
    let (status, index) = coordinator.get("/");
    assert_eq!(status, 200);
    for path in ["/livez", "/readyz", "/statusz", "/leases", "/metrics"] {
        assert!(index.contains(path), "{index}");
        assert_eq!(coordinator.get(path).0, 200, "{path}");
    }
    assert_eq!(coordinator.get("/leasehold.v1.CoordinatorService/Lookup").0, 404);
    assert_eq!(coordinator.get("/livez").1, "alive\n");
    assert_eq!(coordinator.get("/readyz").1, "ready\n");
    assert!(!coordinator.process.errors().iter().any(|line| line.contains("WARN")), "loopback is private");
}

#[test]
fn an_admin_port_that_others_reach_is_warned_of() {
    let coordinator = Coordinator::start(&["--admin-listen", "0.0.0.0:0"]);
    let warning = coordinator.process.wait_for_log("WARN");
    assert!(warning.contains("admin port") && warning.contains("no authentication"), "{warning}");
}

#[test]
fn a_taken_admin_port_is_refused_and_told_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let refused = Ended::of(serving(dir.path(), &["--admin-listen", &address]), "");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for part in [&*address, "in use", "--admin-listen", "LEASEHOLD_ADMIN_LISTEN"] {
        assert!(refused.stderr.contains(part), "{part} is missing from {refused:?}");
    }
    assert!(!dir.path().join("data").exists(), "nothing is made for a coordinator that does not run");
}

#[test]
fn statusz_tells_how_it_stands() {
    let settings = ["--cache-bytes", "3MiB", "--entry-bytes", "2MiB", "--log-bytes", "64MiB"];
    let coordinator = Coordinator::start(&[&ADMIN[..], &settings].concat());
    let before = coordinator.get_json("/statusz");
    assert_eq!(
        keys(&before),
        ["auth", "log", "memory", "pending_deletions", "state", "store", "uptime_ms", "version", "waiters"]
    );
    assert_eq!(
        [&before["version"], &before["state"], &before["store"], &before["auth"]],
        [env!("CARGO_PKG_VERSION"), "ready", "embedded", "none"]
    );
    assert_eq!((&before["log"]["position"], &before["log"]["verified"]), (&0.into(), &true.into()));
    let memory = &before["memory"];
    let expected = serde_json::json!({
        "entries": 0, "entry_bytes": 0, "entry_bytes_limit": 2 << 20, "body_bytes": 0,
        "body_bytes_limit": 3 << 20, "log_bytes": 0, "log_bytes_limit": 64 << 20,
    });
    assert_eq!(memory, &expected);

    coordinator.commit("page --tag t", "<p>a page</p>");
    coordinator.json("invalidate tag t", 0);
    let after = coordinator.get_json("/statusz");
    assert_eq!((&after["log"]["position"], &after["memory"]["entries"]), (&1.into(), &1.into()));
    for bytes in ["entry_bytes", "body_bytes", "log_bytes"] {
        assert!(after["memory"][bytes].as_u64() > Some(0), "{bytes}: {after}");
    }
    assert!(after["uptime_ms"].as_u64() > before["uptime_ms"].as_u64());
    assert!(after["log"]["lag_ms"].as_u64() < after["uptime_ms"].as_u64());
}

#[test]
fn leases_are_listed_without_anything_that_could_be_used() {
    let coordinator = Coordinator::start(&ADMIN);
    assert_eq!(coordinator.get_json("/leases"), serde_json::json!({"total": 0, "leases": []}));
    coordinator.commit("done", "<p>a page</p>");
    let first = &coordinator.json("lease acquire s3cret-key --tenant acme --ttl 5m", 0)["lease"];
    let second = &coordinator.json("lease acquire other --deployment r7 --ttl 5m", 0)["lease"];
    coordinator.json("lease acquire short --ttl 100ms", 0);
    coordinator.json("invalidate tenant --tenant acme --yes", 0);

    let (listed, text) = loop {
        let (_, text) = coordinator.get("/leases");
        let listed: serde_json::Value = serde_json::from_str(&text).unwrap();
        // The short one ends by itself.
        if listed["total"] == 2 {
            break (listed, text);
        }
    };
    let leases = listed["leases"].as_array().unwrap();
    let expected_keys = [
        "deployment",
        "entry",
        "generation",
        "granted_here",
        "overtaken",
        "owner",
        "remaining_ms",
        "renewable_for_ms",
        "tenant",
        "waiters",
    ];
    assert_eq!(keys(&leases[0]), expected_keys);
    let told = |lease: &serde_json::Value| {
        (
            lease["tenant"].clone(),
            lease["deployment"].clone(),
            lease["generation"].clone(),
            lease["overtaken"].clone(),
        )
    };
    assert_eq!(told(&leases[0]), ("acme".into(), ().into(), first["generation"].clone(), true.into()));
    assert_eq!(told(&leases[1]), ("default".into(), "r7".into(), second["generation"].clone(), false.into()));
    for lease in leases {
        assert_eq!(lease["granted_here"], true);
        let remaining = lease["remaining_ms"].as_u64().unwrap();
        assert!((1..=300_000).contains(&remaining), "{lease}");
        assert!(lease["renewable_for_ms"].as_u64() >= Some(remaining), "{lease}");
        assert_eq!(lease["waiters"], 0);
    }
    // The digest by which the bodies of the first are named, so that an operator finds it again.
    let object = first["html_object"].as_str().unwrap();
    assert!(object.contains(&leases[0]["entry"].as_str().unwrap()[..24]), "{object}");
    let token = first["request_id"].as_str().unwrap();
    for secret in ["s3cret", token] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

/// The word of the health service, as it changes.
async fn health(endpoint: &str) -> tonic::Streaming<tonic_health::pb::HealthCheckResponse> {
    let channel = Channel::from_shared(endpoint.to_owned()).unwrap().connect().await.unwrap();
    let request = HealthCheckRequest { service: "leasehold.v1.CoordinatorService".into() };
    HealthClient::new(channel).watch(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_word_to_stop_on_it_is_not_ready_and_the_port_stays_until_the_end() {
    let mut coordinator = Coordinator::start(&[&ADMIN[..], &["--drain-timeout", "60s"]].concat());
    let mut health = health(&coordinator.endpoint).await;
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    // A caller that does not read what it is told keeps the coordinator from its end.
    let frozen = coordinator.spawn("watch --tenant-wide --json");
    assert_eq!(frozen.json_line()["event"], "started");
    frozen.signal("STOP");

    coordinator.process.signal("TERM");
    coordinator.process.wait_for_log("asked to stop");
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(coordinator.get("/readyz"), (503, "draining\n".to_owned()));
    assert_eq!(coordinator.get("/livez").0, 200);
    assert_eq!(coordinator.get_json("/statusz")["state"], "draining");
    let admin = coordinator.admin().to_owned();
    let check = Ended::of(program(["healthcheck", "--json", "--admin", &admin]), "");
    assert_eq!(check.code, Some(1), "{check:?}");
    assert_eq!(check.json()["health"], "not_serving");

    drop((frozen, health));
    assert_eq!(coordinator.process.end_within(PATIENCE).code(), Some(0));
    assert!(std::net::TcpStream::connect(admin.strip_prefix("http://").unwrap()).is_err());
}

#[test]
fn healthcheck_asks_an_admin_port_and_says_what_is_none() {
    let coordinator = Coordinator::start(&ADMIN);
    // Whatever is there of the service.
    let nobody = "http://127.0.0.1:1";
    let check = |admin: &str| Ended::of(program(["healthcheck", "--endpoint", nobody, "--admin", admin]), "");
    let healthy = check(coordinator.admin());
    assert_eq!((healthy.code, healthy.stdout.as_str(), healthy.stderr.as_str()), (Some(0), "", ""));
    let mut by_variable = program(["healthcheck", "--json"]);
    by_variable.env("LEASEHOLD_ADMIN", coordinator.admin());
    assert_eq!(Ended::of(by_variable, "").json(), serde_json::json!({"health": "serving", "error": null}));

    let refused = check(nobody);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains(nobody) && refused.stderr.contains("refused"), "{refused:?}");
    for (url, code) in [("https://127.0.0.1:1", 2), ("127.0.0.1:7421", 2), ("http://127.0.0.1:1/livez", 2)] {
        let wrong = check(url);
        assert_eq!(wrong.code, Some(code), "{url}: {wrong:?}");
        assert!(wrong.stderr.contains("--admin") && wrong.stderr.contains("http://HOST:PORT"), "{wrong:?}");
    }
}

/// `leasehold` with an admin port, on these services.
pub(crate) fn on_doubles(listening: &Listening, args: &[&str]) -> Command {
    let AwsSettings { table, bucket, .. } = Doubles::settings();
    let mut command = program(["--listen", "127.0.0.1:0", "--store", "aws", "--s3-path-style"]);
    command.args(ADMIN).args(["--table", &table, "--bucket", &bucket, "--region", "eu-west-1"]).args(args);
    command.args(["--dynamodb-endpoint", &listening.dynamodb_url, "--s3-endpoint", &listening.s3_url]);
    // Nothing of an account that the developer may have is used.
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command.env("AWS_ACCESS_KEY_ID", Doubles::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", Doubles::SECRET_KEY);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_store_leaves_it_ready() {
    let doubles = Doubles::new();
    doubles.ready().await;
    let network = doubles.beside();
    let listening = network.listen().await;
    let dir = tempfile::tempdir().unwrap();
    let command = on_doubles(&listening, &["--tail-interval", "20ms", "--staleness-bound", "200ms"]);
    let coordinator = tokio::task::spawn_blocking(|| Coordinator::started(dir, command)).await.unwrap();
    let admin = coordinator.admin().to_owned();
    let verified = || async {
        let url = admin.clone();
        let (_, text) = tokio::task::spawn_blocking(move || get(&url, "/statusz")).await.unwrap();
        let status: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status["store"], "aws");
        status["log"]["verified"].as_bool().unwrap()
    };
    let until = async |expected: bool| {
        let waiting = async {
            while verified().await != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("what was waited for did not come");
    };
    until(true).await;
    network.faults.add(Rule::on("GetItem", Fault::Refuse));
    until(false).await;
    let (url, asking) = (admin.clone(), coordinator.command("healthcheck"));
    let ready = tokio::task::spawn_blocking(move || (get(&url, "/readyz"), Ended::of(asking, "")));
    let (ready, health) = ready.await.unwrap();
    assert_eq!(ready, (200, "ready\n".to_owned()));
    assert_eq!(health.code, Some(0), "the health service says the same: {health:?}");
    network.faults.clear();
    until(true).await;
}
