//! Stopping without hurting anybody; and what is served beside the coordinator itself.

use crate::harness::*;
use futures::StreamExt as _;
use leasehold_service::server::Stopped;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use v1::{lookup_stream_response::Result as Answer, watch_response::Event};

const SERVICE: &str = "leasehold.v1.CoordinatorService";

fn check(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_says_serving_for_the_server_and_the_service() {
    let world = World::new();
    let node = world.start().await;
    let mut health = HealthClient::new(node.channel());
    for service in ["", SERVICE] {
        let status = health.check(check(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving);
    }
    let unknown = health.check(check("leasehold.v1.NoSuchService")).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_the_service_and_describes_it() {
    let world = World::new();
    let node = world.start().await;
    let mut reflection = ServerReflectionClient::new(node.channel());
    let mut ask = async |message| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let answers = reflection.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
        soon(answers.into_inner().message()).await.unwrap().unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(services) =
        ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list")
    };
    let names: Vec<_> = services.service.iter().map(|service| &*service.name).collect();
    assert!(names.contains(&SERVICE) && names.contains(&"grpc.health.v1.Health"), "{names:?}");
    let symbol = MessageRequest::FileContainingSymbol(SERVICE.to_owned());
    let MessageResponse::FileDescriptorResponse(files) = ask(symbol).await else { panic!("no descriptor") };
    assert!(!files.file_descriptor_proto.is_empty());
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_flight_and_sends_those_that_wait_elsewhere() {
    let world = World::new();
    let mut node = world.start().await;
    let (page, other) = (entry("news"), entry("other"));
    let render = node.grant(&page).await;
    let to_commit = node.grant(&other).await;

    // In flight: a wait, a commit, a stream of lookups with one unanswered, a watch, a health watch.
    let (mut client, request) = (node.client(), acquire_waiting(&page, secs(60)));
    let waiter = tokio::spawn(async move { client.acquire_lease(request).await });
    until(async || node.engine.stats().waiters == 1).await;
    let swaps = node.faults.hold(Operation::Swap);
    let (mut client, request) = (node.client(), to_commit.page("html"));
    let commit = tokio::spawn(async move { client.commit_pointer(request).await });
    swaps.arrived(1).await;
    let reads = node.faults.hold(Operation::EntryRead);
    let (questions, stream) = mpsc::channel(8);
    let mut answers =
        soon(node.client().lookup_stream(ReceiverStream::new(stream))).await.unwrap().into_inner();
    let ask = |id, key| v1::LookupStreamRequest { id, lookup: Some(lookup(&entry(key))), timeout: None };
    questions.send(ask(1, "news")).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap().unwrap().id, 1);
    questions.send(ask(2, "cold")).await.unwrap();
    reads.arrived(1).await;
    let tenant = v1::watch_filter::Filter::WholeTenant(v1::WholeTenant {});
    let filters = vec![v1::WatchFilter { tenant: TENANT.to_owned(), filter: Some(tenant) }];
    let request = v1::WatchRequest { filters, resume_token: String::new() };
    let mut watch = soon(node.client().watch(request)).await.unwrap().into_inner();
    assert!(matches!(soon(watch.message()).await.unwrap().unwrap().event, Some(Event::Started(_))));
    let mut health = HealthClient::new(node.channel());
    let mut statuses = health.watch(check(SERVICE)).await.unwrap().into_inner();
    assert_eq!(soon(statuses.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);

    node.shutdown.cancel();
    assert_eq!(soon(statuses.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    drop(statuses);
    let status = assert_refused(soon(waiter).await.unwrap(), Code::Unavailable, "DRAINING");
    assert!(refusal(&status).has_retry_info);
    let last = soon(watch.message()).await.unwrap().unwrap();
    assert!(matches!(last.event, Some(Event::Ended(_))) && !last.resume_token.is_empty(), "{last:?}");
    assert!(soon(watch.message()).await.unwrap().is_none());
    assert!(!node.serving.is_finished(), "stopped with calls in flight");
    reads.open();
    let answer = soon(answers.message()).await.unwrap().unwrap();
    assert!(answer.id == 2 && matches!(answer.result, Some(Answer::Response(_))), "{answer:?}");
    assert_refused(soon(answers.message()).await, Code::Unavailable, "DRAINING");
    swaps.open();
    let committed = soon(commit).await.unwrap().unwrap().into_inner().outcome.unwrap();
    assert!(matches!(committed, v1::commit_pointer_response::Outcome::Committed(_)), "{committed:?}");
    drop((questions, answers));
    assert_eq!(node.stop().await, Stopped::Drained);
    // Another takes over where it stopped.
    let next = world.start().await;
    assert_eq!(next.seen(&other).await, Seen::Fresh(to_commit.generation()));
    next.commit_fresh(render.page("html")).await;
}

#[tokio::test]
async fn a_stop_without_calls_is_over_at_once_and_refuses_new_connections() {
    let world = World::new();
    let mut node = world.start().await;
    node.seen(&entry("news")).await;
    let clock = leasehold_service::time::SystemClock::start();
    assert_eq!(node.stop().await, Stopped::Drained);
    assert!(leasehold_service::time::Clock::now(&clock).elapsed < secs(5));
    let refused = node.lookup(lookup(&entry("news"))).await.expect_err("stopped");
    assert!(matches!(refused.code(), Code::Unavailable | Code::Unknown | Code::Cancelled), "{refused:?}");
}

#[tokio::test]
async fn a_client_that_never_ends_its_call_is_cut_off_when_the_time_is_over() {
    let world = World::new();
    let mut node = world.start_with(|_, transport| transport.drain_timeout = ms(300)).await;
    let render = node.grant(&entry("news")).await;
    let (parts, stream) = mpsc::channel(8);
    let mut client = node.client();
    let call = tokio::spawn(async move { client.upload_body(ReceiverStream::new(stream)).await });
    for part in upload_parts(&render, v1::BodyKind::Html, b"half a body") {
        parts.send(part).await.unwrap();
    }
    node.seen(&entry("other")).await;
    assert_eq!(node.stop().await, Stopped::CutOff);
    drop(parts);
    soon(call).await.unwrap().ok();
}

#[tokio::test]
async fn a_client_that_watches_health_does_not_hold_up_a_stop() {
    let world = World::new();
    let mut node = world.start_with(|_, transport| transport.drain_timeout = secs(8)).await;
    let mut health = HealthClient::new(node.channel());
    let mut statuses = health.watch(check(SERVICE)).await.unwrap().into_inner();
    assert_eq!(soon(statuses.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(node.stop().await, Stopped::Drained);
    assert_eq!(soon(statuses.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn a_coordinator_that_goes_down_opens_no_watch_and_no_wait() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    node.grant(&page).await;
    node.engine.drain();
    let tenant = v1::watch_filter::Filter::WholeTenant(v1::WholeTenant {});
    let filters = vec![v1::WatchFilter { tenant: String::new(), filter: Some(tenant) }];
    let request = v1::WatchRequest { filters, resume_token: String::new() };
    assert_refused(soon(node.client().watch(request)).await.map(drop), Code::Unavailable, "DRAINING");
    let waiting = node.acquire(acquire_waiting(&page, secs(60))).await;
    assert_refused(waiting, Code::Unavailable, "DRAINING");
    let lookups = tokio_stream::iter([]);
    let mut answers = soon(node.client().lookup_stream(lookups)).await.unwrap().into_inner();
    assert_refused(
        soon(answers.next()).await.unwrap_or(Ok(v1::LookupStreamResponse::default())),
        Code::Unavailable,
        "DRAINING",
    );
    // What needs no wait is still answered.
    assert!(matches!(node.took(acquire(&page)).await, Took::Held { .. }));
    assert!(!node.seen(&page).await.is_fresh());
}
