//! How it stops, whoever is connected.

use crate::process::{Coordinator, Ended, PATIENCE, program};
use leasehold::{
    cli::{self, Invocation},
    serve,
};
use leasehold_proto::v1::{
    EntryRef, LookupRequest, LookupStreamRequest, coordinator_service_client::CoordinatorServiceClient,
    entry_ref::Name,
};
use std::{ffi::OsString, io::Write as _, net::TcpStream, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming, transport::Channel};

/// Far below the drain timeout of these tests, and far above what a stop takes.
const PROMPTLY: Duration = Duration::from_secs(15);

async fn open_lookup_stream(
    endpoint: &str,
) -> (tokio::sync::mpsc::Sender<LookupStreamRequest>, Streaming<leasehold_proto::v1::LookupStreamResponse>) {
    let channel = Channel::from_shared(endpoint.to_owned()).unwrap().connect().await.unwrap();
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let entry = EntryRef { name: Some(Name::Key("k".into())), ..Default::default() };
    let lookup = LookupRequest { entry: Some(entry), ..Default::default() };
    sender.send(LookupStreamRequest { id: 1, lookup: Some(lookup), timeout: None }).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers =
        CoordinatorServiceClient::new(channel).lookup_stream(requests).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().id, 1);
    (sender, answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn open_watches_streams_and_idle_clients_do_not_delay_a_stop() {
    let mut coordinator = Coordinator::start(&["--drain-timeout", "60s"]);
    let watch = coordinator.spawn("watch --tenant-wide --json --timeout 200ms");
    assert_eq!(watch.json_line()["event"], "started");
    let (_requests, mut answers) = open_lookup_stream(&coordinator.endpoint).await;
    let idle = Channel::from_shared(coordinator.endpoint.clone()).unwrap().connect().await.unwrap();

    coordinator.process.signal("TERM");
    assert_eq!(coordinator.process.end_within(PROMPTLY).code(), Some(0));
    let refused = answers.message().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "the stream's caller is sent elsewhere: {refused}");
    let ended = std::iter::repeat_with(|| watch.json_line()).find(|line| line["event"] == "end").unwrap();
    assert!(ended["resume_token"].is_string());
    drop(idle);
}

#[test]
fn waiter_is_sent_elsewhere_by_a_stop() {
    let mut coordinator = Coordinator::start(&["--drain-timeout", "60s", "--max-waiters", "1"]);
    coordinator.json("lease acquire k --ttl 5m", 0);
    let mut waiter = coordinator.spawn("lease acquire k --wait 5m");
    let asked = || coordinator.run("lease acquire k --wait 1ms --log leasehold_client=debug");
    // There is one place to wait in: when no other finds it free, the waiter is in it.
    assert!((0..1000).any(|_| asked().stderr.contains("LIMIT_REACHED")), "it never waits");
    coordinator.process.signal("INT");
    assert_eq!(coordinator.process.end_within(PROMPTLY).code(), Some(0));
    assert_eq!(waiter.end_within(PATIENCE).code(), Some(1), "there is no other coordinator");
}

#[test]
fn frozen_client_delays_a_stop_by_no_more_than_the_drain_timeout() {
    let mut coordinator = Coordinator::start(&["--drain-timeout", "1s"]);
    let frozen = coordinator.spawn("watch --tenant-wide --json");
    assert_eq!(frozen.json_line()["event"], "started");
    frozen.signal("STOP");

    coordinator.process.signal("TERM");
    assert_eq!(coordinator.process.end_within(PROMPTLY).code(), Some(0));
    coordinator.process.wait_for_log("cut off");
}

#[test]
fn connection_that_says_nothing_does_not_delay_a_stop() {
    let mut coordinator = Coordinator::start(&["--drain-timeout", "60s"]);
    let silent = TcpStream::connect(coordinator.endpoint.strip_prefix("http://").unwrap()).unwrap();
    assert_eq!(coordinator.run("healthcheck").code, Some(0), "accepted after it");
    coordinator.process.signal("TERM");
    assert_eq!(coordinator.process.end_within(PROMPTLY).code(), Some(0));
    drop(silent);
}

#[test]
fn connection_that_says_less_than_a_preface_does_not_delay_a_stop() {
    let mut coordinator = Coordinator::start(&["--drain-timeout", "60s"]);
    let begun = ["P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"].map(|said| {
        let mut connection =
            TcpStream::connect(coordinator.endpoint.strip_prefix("http://").unwrap()).unwrap();
        connection.write_all(said.as_bytes()).unwrap();
        connection
    });
    assert_eq!(coordinator.run("healthcheck").code, Some(0), "accepted after them");
    coordinator.process.signal("TERM");
    assert_eq!(coordinator.process.end_within(PROMPTLY).code(), Some(0));
    drop(begun);
}

#[test]
fn second_signal_ends_it_at_once() {
    let mut coordinator = Coordinator::start(&["--drain-timeout", "1h"]);
    let frozen = coordinator.spawn("watch --tenant-wide --json");
    assert_eq!(frozen.json_line()["event"], "started");
    frozen.signal("STOP");
    coordinator.process.signal("TERM");
    coordinator.process.wait_for_log("asked to stop");
    coordinator.process.signal("INT");
    assert_eq!(coordinator.process.end_within(PROMPTLY).code(), Some(130));
}

#[test]
fn healthcheck_tells_by_its_exit_code_and_is_quiet() {
    let coordinator = Coordinator::start(&[]);
    let healthy = coordinator.run("healthcheck");
    assert_eq!((healthy.code, healthy.stdout.as_str(), healthy.stderr.as_str()), (Some(0), "", ""));
    assert_eq!(coordinator.json("healthcheck", 0), serde_json::json!({"health": "serving", "error": null}));

    let nobody = "http://127.0.0.1:1";
    let refused = Ended::of(program(["healthcheck", "--json", "--endpoint", nobody]), "");
    assert_eq!((refused.code, &refused.json()["health"]), (Some(1), &serde_json::json!("unreachable")));
    let quiet = Ended::of(program(["healthcheck", "--endpoint", nobody]), "");
    assert_eq!((quiet.code, quiet.stdout.as_str()), (Some(1), ""));
    assert!(quiet.stderr.contains(nobody), "{quiet:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wiring_runs_in_process_and_lets_go_of_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut args: Vec<OsString> =
            ["leasehold", "--listen", "127.0.0.1:0", "--data-dir"].map(Into::into).into();
        args.push(dir.path().into());
        let Ok(Invocation::Serve(config)) = cli::parse(args) else { panic!("not to serve") };
        let (shutdown, mut started) = (CancellationToken::new(), None);
        let stopped = serve::run(*config, shutdown.clone(), |coordinator| {
            started = Some(coordinator.address);
            shutdown.cancel();
        });
        stopped.await.unwrap();
        assert_ne!(started.unwrap().port(), 0);
    }
}
