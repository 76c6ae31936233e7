//! What one tenant may use: it is told when to come back, and nobody else notices.

use crate::harness::*;
use leasehold_proto::v1::invalidation_scope::Scope;
use leasehold_service::settings::{Settings, TenantLimits};
use std::num::NonZeroU32;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic_types::StatusExt as _;

fn of(tenant: &str, key: &str) -> v1::EntryRef {
    entry_of(tenant, "", key)
}

/// Tells after which time to come back.
#[track_caller]
fn limited<T: std::fmt::Debug>(result: Result<T, Status>, limit: &str) -> Duration {
    let status = assert_refused(result, Code::ResourceExhausted, "LIMIT_REACHED");
    assert_eq!(metadata(&status, "limit").as_deref(), Some(limit));
    let details = status.get_error_details();
    details.retry_info().and_then(|info| info.retry_delay).expect("when to come back")
}

fn requests(limit: u32) -> TenantLimits {
    TenantLimits { requests: NonZeroU32::new(limit), ..TenantLimits::default() }
}

/// On bodies and messages of 64 KiB at most.
fn of_small_bodies(settings: &mut Settings) {
    settings.limits.body_bytes = 64 << 10;
    settings.limits.inline_body_bytes = 64 << 10;
    settings.limits.message_bytes = 64 << 10;
    settings.limits.tenant = TenantLimits { bytes: NonZeroU32::new(64 << 10), ..TenantLimits::default() };
}

const BYTES: &str = "65536 bytes in a second of one tenant";

#[tokio::test]
async fn a_tenant_that_asks_too_often_is_told_when_to_come_back_before_anything_is_read() {
    let world = World::new();
    world.clock.stand_still();
    let node = world
        .start_with(|settings, _| {
            settings.limits.tenant = requests(4);
            settings.log.tail_interval = secs(3600);
        })
        .await;
    for at in 0..4 {
        node.lookup(lookup(&of("loud", &at.to_string()))).await.unwrap();
    }
    let before = node.counts();
    let pause = limited(node.lookup(lookup(&of("loud", "5"))).await, "4 requests in a second of one tenant");
    assert_eq!(pause, ms(250));
    limited(node.acquire(acquire(&of("loud", "5"))).await, "4 requests in a second of one tenant");
    let everything = scope_of("loud", Scope::WholeTenant(v1::WholeTenant {}));
    limited(node.invalidate(invalidation([everything])).await, "4 requests in a second of one tenant");
    assert_eq!(node.counts(), before);
    // Another one is not concerned.
    for at in 0..4 {
        node.lookup(lookup(&of("quiet", &at.to_string()))).await.unwrap();
    }
    world.clock.step(pause);
    node.lookup(lookup(&of("loud", "5"))).await.unwrap();
    limited(node.lookup(lookup(&of("loud", "5"))).await, "4 requests in a second of one tenant");
}

#[tokio::test]
async fn a_request_of_many_scopes_is_one_of_each_of_their_tenants() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| settings.limits.tenant = requests(1)).await;
    let tags =
        |tenant: &str| (0..50).map(|at| scope_of(tenant, Scope::Tag(at.to_string()))).collect::<Vec<_>>();
    node.invalidate(invalidation([tags("one"), tags("other")].concat())).await.unwrap();
    for tenant in ["one", "other"] {
        let again = node.invalidate(invalidation(tags(tenant))).await;
        assert_eq!(limited(again, "1 requests in a second of one tenant"), secs(1));
    }
}

#[tokio::test]
async fn who_asks_too_often_can_still_end_what_it_renders() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| settings.limits.tenant = requests(1)).await;
    let page = of("loud", "a");
    let render = node.grant(&page).await;
    limited(node.lookup(lookup(&page)).await, "1 requests in a second of one tenant");
    node.commit_fresh(render.page("html")).await;
    // These are not endless either.
    let again = node.commit(render.page("html")).await;
    limited(again, "1 requests of renders in a second of one tenant");
}

#[tokio::test]
async fn each_lookup_on_a_stream_is_a_request_and_the_stream_goes_on() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| settings.limits.tenant = requests(2)).await;
    let (questions, stream) = mpsc::channel(16);
    let mut answers = node.client().lookup_stream(ReceiverStream::new(stream)).await.unwrap().into_inner();
    let mut told = Vec::new();
    for id in 1..=4 {
        let tenant = if id < 4 { "loud" } else { "quiet" };
        let lookup = Some(lookup(&of(tenant, "a")));
        questions.send(v1::LookupStreamRequest { id, lookup, timeout: None }).await.unwrap();
        told.push(soon(answers.message()).await.unwrap().expect("an answer"));
    }
    let refused: Vec<_> = told
        .iter()
        .filter_map(|answer| match &answer.result {
            Some(v1::lookup_stream_response::Result::Error(error)) => Some((answer.id, error.code)),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [(3, Code::ResourceExhausted as i32)]);
}

#[tokio::test]
async fn a_tenant_has_no_more_waiting_calls_than_its_limit() {
    let world = World::new();
    let node = world
        .start_with(|settings, _| {
            settings.limits.tenant = TenantLimits { waiters: Some(1), ..TenantLimits::default() };
        })
        .await;
    let (loud, quiet) = (of("loud", "a"), of("quiet", "a"));
    let render = node.grant(&loud).await;
    let _rendered = node.grant(&quiet).await;
    let waiting = |page: &v1::EntryRef| {
        let (mut client, request) = (node.client(), acquire_waiting(page, secs(60)));
        tokio::spawn(async move { client.acquire_lease(request).await })
    };
    let first = waiting(&loud);
    until(async || node.engine.stats().waiters == 1).await;
    limited(node.acquire(acquire_waiting(&loud, secs(60))).await, "1 waiting calls of one tenant");
    // Who does not wait needs no place, nor does anybody else's.
    assert!(matches!(node.took(acquire(&loud)).await, Took::Held { .. }));
    let other = waiting(&quiet);
    until(async || node.engine.stats().waiters == 2).await;
    other.abort();
    node.commit_fresh(render.page("html")).await;
    soon(first).await.unwrap().unwrap();
    until(async || node.engine.stats().waiters == 0).await;
    // The place has come back.
    let render = node.grant(&of("loud", "b")).await;
    let again = waiting(&of("loud", "b"));
    until(async || node.engine.stats().waiters == 1).await;
    node.commit_fresh(render.page("html")).await;
    soon(again).await.unwrap().unwrap();
}

#[tokio::test]
async fn bytes_that_are_stored_count_and_what_is_refused_is_not_applied() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| of_small_bodies(settings)).await;
    let html = "x".repeat(40 << 10);
    let render = node.grant(&of("loud", "a")).await;
    node.commit_fresh(render.page(&html)).await;
    let second = node.grant(&of("loud", "b")).await;
    let pause = limited(node.commit(second.page(&html)).await, BYTES);
    limited(node.upload(upload_parts(&second, v1::BodyKind::Html, html.as_bytes())).await, BYTES);
    assert!(!node.seen(&of("loud", "b")).await.is_fresh());
    let other = node.grant(&of("quiet", "b")).await;
    node.commit_fresh(other.page(&html)).await;
    world.clock.step(pause);
    node.commit_fresh(second.page(&html)).await;
}

#[tokio::test]
async fn bytes_that_are_served_count_however_they_are_asked_for() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| of_small_bodies(settings)).await;
    let page = of("loud", "a");
    let render = node.grant(&page).await;
    node.commit_fresh(render.page(&"x".repeat(40 << 10))).await;
    world.clock.step(secs(1));
    let with_body = || node.lookup(lookup_with_body(&page));
    with_body().await.unwrap();
    limited(with_body().await, BYTES);
    limited(node.page(serve(&page)).await, BYTES);
    let acquiring = v1::AcquireLeaseRequest { body: v1::BodyDelivery::Inline.into(), ..acquire(&page) };
    let pause = limited(node.acquire(acquiring).await, BYTES);
    // What carries no body goes on, and a grant is never refused for the page before.
    for _ in 0..100 {
        assert!(node.seen(&page).await.is_fresh());
    }
    node.invalidate(invalidation([scope_of("loud", Scope::WholeTenant(v1::WholeTenant {}))])).await.unwrap();
    let acquiring = v1::AcquireLeaseRequest { body: v1::BodyDelivery::Inline.into(), ..acquire(&page) };
    assert!(matches!(node.took(acquiring).await, Took::Granted { .. }));
    world.clock.step(pause);
    node.page(serve(&page)).await.unwrap();
}
