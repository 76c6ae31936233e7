//! What one tenant may use: it is told when to come back, and nobody else notices.

use crate::harness::*;
use bytes::Bytes;
use leasehold_core::{
    identity::{EntryId, EntryKey, Generation, LeaseToken, TenantId},
    object::BodyKind,
};
use leasehold_proto::v1::invalidation_scope::Scope;
use leasehold_service::{
    engine::{UploadRequest, Uploaded},
    settings::{Settings, TenantLimits},
};
use std::num::NonZeroU32;
use tokio::{sync::mpsc, task::JoinHandle};
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

/// Of what there is for all, a tenant may have a half: so of two, one.
async fn halved(world: &World) -> Coordinator {
    world
        .start_with(|settings, _| {
            let limits = &mut settings.limits;
            limits.concurrent_calls = 2;
            limits.waiters = 2;
            limits.watches = 2;
            limits.uploads = 2;
            limits.body_bytes = 64 << 10;
            limits.message_bytes = 64 << 10;
            limits.upload_bytes = 128 << 10;
            limits.stall_timeout = secs(3600);
            limits.tenant = TenantLimits { share_percent: NonZeroU32::new(50), ..TenantLimits::default() };
        })
        .await
}

fn look_up(node: &Coordinator, page: v1::EntryRef) -> JoinHandle<Result<(), Status>> {
    let mut client = node.client();
    tokio::spawn(async move { client.lookup(lookup(&page)).await.map(drop) })
}

#[tokio::test]
async fn a_tenant_leaves_others_their_calls_and_what_memory_answers_needs_none() {
    let world = World::new();
    let node = halved(&world).await;
    let remembered = of("loud", "remembered");
    node.seen(&remembered).await;
    let render = node.grant(&of("loud", "rendered")).await;
    let reads = node.faults.hold(Operation::EntryRead);
    let first = look_up(&node, of("loud", "a"));
    reads.arrived(1).await;
    limited(node.lookup(lookup(&of("loud", "b"))).await, "1 concurrent calls of one tenant");
    limited(node.page(serve(&of("loud", "b"))).await, "1 concurrent calls of one tenant");
    limited(node.acquire(acquire(&of("loud", "b"))).await, "1 concurrent calls of one tenant");
    let tag = scope_of("loud", Scope::Tag("t".to_owned()));
    limited(node.invalidate(invalidation([tag])).await, "1 concurrent calls of one tenant");
    node.seen(&remembered).await;
    node.commit_fresh(render.page("html")).await;
    let other = look_up(&node, of("quiet", "a"));
    reads.arrived(2).await;
    reads.open();
    for call in [first, other] {
        soon(call).await.unwrap().unwrap();
    }
    node.lookup(lookup(&of("loud", "b"))).await.unwrap();
}

#[tokio::test]
async fn a_tenant_with_all_its_calls_and_all_those_of_its_renders_leaves_others_theirs() {
    let world = World::new();
    let node = halved(&world).await;
    let [loud, again, quiet] = [
        node.grant(&of("loud", "x")).await,
        node.grant(&of("loud", "y")).await,
        node.grant(&of("quiet", "x")).await,
    ];
    let (reads, puts) = (node.faults.hold(Operation::EntryRead), node.faults.hold(Operation::Put));
    let commit = |render: &Render| {
        let (mut client, commit) = (node.client(), render.page("html"));
        tokio::spawn(async move { client.commit_pointer(commit).await.map(drop) })
    };
    let mut calls = vec![look_up(&node, of("loud", "a")), commit(&loud)];
    reads.arrived(1).await;
    puts.arrived(1).await;
    limited(node.lookup(lookup(&of("loud", "b"))).await, "1 concurrent calls of one tenant");
    limited(node.renew(again.renewal(secs(10))).await, "1 concurrent calls of renders of one tenant");
    limited(node.release(again.release()).await, "1 concurrent calls of renders of one tenant");
    limited(node.commit(again.page("html")).await, "1 concurrent calls of renders of one tenant");
    calls.extend([look_up(&node, of("quiet", "a")), commit(&quiet)]);
    reads.arrived(2).await;
    puts.arrived(2).await;
    reads.open();
    puts.open();
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
}

/// A coordinator for four calls, and so for eight reads and changes, of which one tenant may have half; and as many of renders.
async fn for_four_calls(world: &World) -> Coordinator {
    world
        .start_with(|settings, _| {
            let limits = &mut settings.limits;
            (limits.concurrent_calls, limits.waiters, limits.uploads) = (4, 0, 0);
            limits.tenant.share_percent = NonZeroU32::new(50);
        })
        .await
}

const OPERATIONS: &str = "4 reads and changes in progress of one tenant";
const RENDER_OPERATIONS: &str = "4 reads and changes of renders in progress of one tenant";
const INVALIDATIONS: &str = "4 invalidations in progress of one tenant";

/// Whose caller does not wait for the answer.
fn given_up<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ms(400));
    request
}

/// Of a page that the store is slow to tell of.
async fn give_up_a_lookup(node: &Coordinator, page: &v1::EntryRef) {
    let refused = node.client().lookup(given_up(lookup(page))).await.unwrap_err();
    // The coordinator says so, or the caller's own transport, whichever is first.
    assert!(refused.code() == Code::DeadlineExceeded || is_of_the_transport(&refused), "{refused:?}");
}

#[tokio::test]
async fn reads_whose_callers_went_away_are_limited_and_others_go_on() {
    let world = World::new();
    let node = for_four_calls(&world).await;
    let remembered = of("loud", "remembered");
    node.seen(&remembered).await;
    let renders = [node.grant(&of("loud", "rendered")).await, node.grant(&of("quiet", "rendered")).await];
    let reads = node.faults.hold(Operation::EntryRead);
    for key in 0..4_u64 {
        give_up_a_lookup(&node, &of("loud", &key.to_string())).await;
        reads.arrived(key + 1).await;
    }
    limited(node.lookup(lookup(&of("loud", "4"))).await, OPERATIONS);
    limited(node.acquire(acquire(&of("loud", "4"))).await, OPERATIONS);
    // What needs no store, what was rendered, what is purged, and whoever has given nothing up.
    node.seen(&remembered).await;
    for render in renders {
        node.commit_fresh(render.page("html")).await;
    }
    let everything = scope_of("loud", Scope::WholeTenant(v1::WholeTenant {}));
    node.invalidate(invalidation([everything])).await.unwrap();
    give_up_a_lookup(&node, &of("quiet", "a")).await;
    reads.open();
    until(async || node.lookup(lookup(&of("loud", "4"))).await.is_ok()).await;
}

#[tokio::test]
async fn of_callers_that_went_away_from_one_read_the_read_is_left() {
    let world = World::new();
    let node = for_four_calls(&world).await;
    let warm = of("loud", "warm");
    node.seen(&warm).await;
    let reads = node.faults.hold(Operation::EntryRead);
    for (page, arrived) in [("popular", 1), ("popular", 1), ("popular", 1), ("popular", 1), ("other", 2)] {
        give_up_a_lookup(&node, &of("loud", page)).await;
        reads.arrived(arrived).await;
    }
    assert!(matches!(node.took(acquire(&warm)).await, Took::Granted { .. }));
    reads.open();
    until(async || node.lookup(lookup(&of("loud", "popular"))).await.is_ok()).await;
}

#[tokio::test]
async fn changes_whose_callers_went_away_are_limited_and_others_go_on() {
    let world = World::new();
    let node = for_four_calls(&world).await;
    let pages: Vec<_> = (0..5).map(|key| of("loud", &key.to_string())).collect();
    for page in &pages {
        node.seen(page).await;
    }
    let renders = [node.grant(&of("loud", "rendered")).await, node.grant(&of("loud", "also")).await];
    let swaps = node.faults.hold(Operation::Swap);
    for (page, arrived) in pages[..4].iter().zip(1..) {
        let nothing = node.client().acquire_lease(given_up(acquire(page))).await;
        assert!(nothing.is_err(), "{nothing:?}");
        swaps.arrived(arrived).await;
    }
    limited(node.acquire(acquire(&pages[4])).await, OPERATIONS);
    // Four times the same one, in turns.
    for _ in 0..4 {
        let nothing = node.client().commit_pointer(given_up(renders[0].page("html"))).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }
    limited(node.commit(renders[1].page("html")).await, RENDER_OPERATIONS);
    swaps.open();
    until(async || node.commit(renders[1].page("html")).await.is_ok()).await;
    // All four are given back, as nobody has heard of them.
    let is_granted = |outcome| matches!(outcome, v1::acquire_lease_response::Outcome::Granted(_));
    for page in &pages {
        until(async || node.acquire(acquire(page)).await.is_ok_and(is_granted)).await;
    }
}

#[tokio::test]
async fn invalidations_whose_callers_went_away_are_limited_until_their_turn() {
    let world = World::new();
    let node = for_four_calls(&world).await;
    let appends = node.faults.hold(Operation::Append);
    let everything = |tenant| invalidation([scope_of(tenant, Scope::WholeTenant(v1::WholeTenant {}))]);
    for _ in 0..4 {
        let nothing = node.client().invalidate(given_up(everything("loud"))).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }
    appends.arrived(1).await;
    limited(node.invalidate(everything("loud")).await, INVALIDATIONS);
    assert!(node.lookup(lookup(&of("loud", "a"))).await.is_ok());
    let mut client = node.client();
    let other = tokio::spawn(async move { client.invalidate(everything("quiet")).await });
    appends.open();
    soon(other).await.unwrap().unwrap();
    until(async || node.invalidate(everything("loud")).await.is_ok()).await;
}

#[tokio::test]
async fn large_invalidations_of_a_tenant_keep_no_small_ones_of_others_waiting() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.store.default_deadline = secs(600)).await;
    let appends = node.faults.hold(Operation::Append);
    let invalidate = |tenant: &str, scopes: usize| {
        // A hundred of them are more than half of what one event may hold.
        let key = |at: usize| scope_of(tenant, Scope::Key(format!("{at:04}{}", "x".repeat(1296))));
        let (mut client, request) = (node.client(), invalidation((0..scopes).map(key).collect::<Vec<_>>()));
        tokio::spawn(async move { client.invalidate(request).await.map(drop) })
    };
    let mut calls = vec![invalidate("loud", 1)];
    appends.arrived(1).await;
    calls.extend((0..8).map(|_| invalidate("loud", 100)));
    until(async || taken(&node, "invalidations") == 9).await;
    let quiet: Vec<_> = (0..20).map(|_| invalidate("quiet", 1)).collect();
    until(async || taken(&node, "invalidations") == 29).await;
    // What is under way, and the next one.
    appends.release(2);
    for call in quiet {
        soon(call).await.unwrap().unwrap();
    }
    appends.open();
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_acquire_is_a_call_in_progress_until_its_page_has_been_fetched() {
    let world = World::new();
    let page = of("loud", "a");
    world.start().await.publish(&page, "html").await;
    let node = world.start_with(|settings, _| settings.limits.concurrent_calls = 1).await;
    let gets = node.faults.hold(Operation::Get);
    let acquiring = v1::AcquireLeaseRequest { body: v1::BodyDelivery::Inline.into(), ..acquire(&page) };
    let mut client = node.client();
    let first = tokio::spawn(async move { client.acquire_lease(acquiring).await });
    gets.arrived(1).await;
    limited(node.lookup(lookup(&page)).await, "1 concurrent calls");
    gets.open();
    soon(first).await.unwrap().unwrap();
    until(async || node.lookup(lookup(&page)).await.is_ok()).await;
}

#[tokio::test]
async fn a_tenant_leaves_others_their_waits_and_watches() {
    let world = World::new();
    let node = halved(&world).await;
    let wait = |page: &v1::EntryRef| {
        let (mut client, request) = (node.client(), acquire_waiting(page, secs(60)));
        tokio::spawn(async move { client.acquire_lease(request).await })
    };
    for tenant in ["loud", "quiet"] {
        node.grant(&of(tenant, "a")).await;
    }
    let waiting = wait(&of("loud", "a"));
    until(async || node.engine.stats().waiters == 1).await;
    limited(node.acquire(acquire_waiting(&of("loud", "a"), secs(60))).await, "1 waiting calls of one tenant");
    let other = wait(&of("quiet", "a"));
    until(async || node.engine.stats().waiters == 2).await;
    for call in [waiting, other] {
        call.abort();
    }

    let watch = |tenants: &[&str]| {
        let filter = || Some(v1::watch_filter::Filter::WholeTenant(v1::WholeTenant {}));
        let of = |tenant: &&str| v1::WatchFilter { tenant: (*tenant).to_owned(), filter: filter() };
        let filters = tenants.iter().flat_map(|tenant| [of(tenant), of(tenant)]).collect();
        let mut client = node.client();
        async move {
            let request = v1::WatchRequest { filters, resume_token: String::new() };
            soon(client.watch(request)).await.map(tonic::Response::into_inner)
        }
    };
    let watched = watch(&["loud"]).await.unwrap();
    limited(watch(&["quiet", "loud"]).await.map(drop), "1 watches of one tenant");
    // The refused one has not kept what it had of the other.
    let _other = watch(&["quiet"]).await.unwrap();
    drop(watched);
    until(async || watch(&["loud"]).await.is_ok()).await;
}

#[tokio::test]
async fn a_tenant_leaves_others_their_uploads_and_their_bytes() {
    let world = World::new();
    let node = halved(&world).await;
    let (loud, more) = (node.grant(&of("loud", "a")).await, node.grant(&of("loud", "b")).await);
    let quiet = node.grant(&of("quiet", "a")).await;
    let body = vec![b'x'; 40 << 10];
    let uploading = |render: &Render| {
        let (mut client, parts) = (node.client(), upload_parts(render, v1::BodyKind::Html, &body));
        tokio::spawn(async move { client.upload_body(tokio_stream::iter(parts)).await })
    };
    let puts = node.faults.hold(Operation::Put);
    let first = uploading(&loud);
    puts.arrived(1).await;
    let second = node.upload(upload_parts(&more, v1::BodyKind::Html, &body)).await;
    limited(second, "1 uploads of one tenant");
    let bytes = "65536 bytes of uploads and commits in progress of one tenant";
    limited(node.commit(more.page(&"x".repeat(40 << 10))).await, bytes);
    let other = uploading(&quiet);
    puts.arrived(2).await;
    puts.open();
    for upload in [first, other] {
        soon(upload).await.unwrap().unwrap();
    }
    until(async || node.upload(upload_parts(&more, v1::BodyKind::Html, &body)).await.is_ok()).await;
}

#[tokio::test]
async fn a_tenant_leaves_others_the_bytes_on_their_way_to_readers() {
    let world = World::new();
    let node = world
        .start_with(|settings, _| {
            settings.limits.body_bytes = 512 << 10;
            settings.limits.message_bytes = 512 << 10;
            settings.limits.streamed_bytes = 1 << 20;
            settings.limits.stall_timeout = secs(3600);
            settings.limits.tenant.share_percent = NonZeroU32::new(50);
        })
        .await;
    let mut pages = Vec::new();
    for (tenant, key) in [("loud", "a"), ("loud", "b"), ("quiet", "a")] {
        let page = of(tenant, key);
        let render = node.grant(&page).await;
        node.commit_fresh(render.page(&format!("{tenant} {key} {}", "x".repeat(400 << 10)))).await;
        pages.push(page);
    }
    // It takes the head, and no more.
    let mut narrow = node.narrow_client().await;
    let mut reading = soon(narrow.serve_page(serve(&pages[0]))).await.unwrap().into_inner();
    assert!(soon(reading.message()).await.unwrap().is_some());
    let bytes = "524288 bytes of bodies being streamed of one tenant";
    limited(node.page(serve(&pages[1])).await.map(drop), bytes);
    node.page(serve(&pages[2])).await.unwrap();
    drop(reading);
    until(async || node.page(serve(&pages[1])).await.is_ok()).await;
}

#[tokio::test]
async fn a_tenant_leaves_others_their_readers_of_bodies() {
    let world = World::new();
    let node = world
        .start_with(|settings, _| {
            settings.limits.concurrent_calls = 2;
            settings.limits.stall_timeout = secs(3600);
            settings.limits.tenant.share_percent = NonZeroU32::new(50);
        })
        .await;
    let [loud, quiet] = [of("loud", "a"), of("quiet", "a")];
    for page in [&loud, &quiet] {
        node.publish(page, &"x".repeat(400 << 10)).await;
    }
    // It takes the head, and no more.
    let mut narrow = node.narrow_client().await;
    let mut reading = soon(narrow.serve_page(serve(&loud))).await.unwrap().into_inner();
    assert!(soon(reading.message()).await.unwrap().is_some());
    limited(node.page(serve(&loud)).await.map(drop), "1 bodies being streamed of one tenant");
    node.page(serve(&quiet)).await.unwrap();
    drop(reading);
    until(async || node.page(serve(&loud)).await.is_ok()).await;
}

#[tokio::test]
async fn a_page_over_the_tenants_bytes_is_refused_before_its_body_is_read() {
    let world = World::new();
    let page = of("loud", "a");
    world.start().await.publish(&page, &"x".repeat(40 << 10)).await;
    world.clock.stand_still();
    let node = world.start_with(|settings, _| of_small_bodies(settings)).await;
    let other = of("loud", "b");
    let render = node.grant(&other).await;
    node.commit_fresh(render.page(&"y".repeat(40 << 10))).await;
    let before = node.counts().gets;
    limited(node.page(serve(&page)).await, BYTES);
    assert_eq!(node.counts().gets, before);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_keeps_no_calls() {
    let world = World::new();
    let node = world
        .start_with(|settings, _| {
            settings.limits.concurrent_calls = 1;
            settings.limits.stall_timeout = secs(3600);
        })
        .await;
    let reads = node.faults.hold(Operation::EntryRead);
    let (questions, stream) = mpsc::channel(16);
    let ask = |id, entry| v1::LookupStreamRequest {
        id,
        lookup: Some(v1::LookupRequest { entry, ..Default::default() }),
        timeout: None,
    };
    let mut deaf = node.client_that_takes(0).await;
    let _answers = soon(deaf.lookup_stream(ReceiverStream::new(stream))).await.unwrap();
    questions.send(ask(1, Some(of("loud", "a")))).await.unwrap();
    reads.arrived(1).await;
    // Answered at once, and stuck: from here on nobody asks the stream for more.
    questions.send(ask(2, None)).await.unwrap();
    for _ in 0..10 {
        // Behind it on the same connection. What is refused comes without a body.
        limited(deaf.lookup(lookup(&of("quiet", "a"))).await, "1 concurrent calls");
    }
    reads.open();
    until(async || node.lookup(lookup(&of("quiet", "a"))).await.is_ok()).await;
}

#[tokio::test]
async fn lookups_on_a_stream_take_of_all_calls_only_those_of_their_tenants_share() {
    let world = World::new();
    let node = for_four_calls(&world).await;
    let reads = node.faults.hold(Operation::EntryRead);
    let asked = (0..8_u64).map(|id| {
        let lookup = Some(lookup(&of("loud", &id.to_string())));
        v1::LookupStreamRequest { id, lookup, timeout: None }
    });
    // All in one message: they are read in one turn, before what they begin.
    let asked = tokio_stream::iter(asked.collect::<Vec<_>>());
    let mut answers = soon(node.client().lookup_stream(asked)).await.unwrap().into_inner();
    let mut next = async || {
        let answer = soon(answers.message()).await.unwrap().expect("an answer");
        match answer.result {
            Some(v1::lookup_stream_response::Result::Error(error)) => {
                Err(Status::with_details(error.code.into(), error.message, error.status_details))
            }
            _ => Ok(()),
        }
    };
    for _ in 0..6 {
        limited(next().await, "2 concurrent calls of one tenant");
    }
    reads.arrived(2).await;
    reads.open();
    for _ in 0..2 {
        next().await.unwrap();
    }
}

#[tokio::test]
async fn answers_on_a_stream_that_nobody_reads_are_bounded_in_bytes() {
    const ANSWERS: u64 = 64;
    let world = World::new();
    // Of answers, that is 64 KiB, beside what these lookups take.
    let node = world
        .start_with(|settings, _| {
            settings.limits.concurrent_calls = 64;
            settings.limits.message_bytes = 4 << 10;
            settings.limits.inline_body_bytes = 4 << 10;
        })
        .await;
    let page = of("loud", "a");
    let long = v1::NameValue { name: "x-long".to_owned(), value: "x".repeat(3000) };
    let metadata = v1::PageMetadata { headers: vec![long], ..v1::PageMetadata::default() };
    let render = node.grant(&page).await;
    node.commit_fresh(render.page_with("html", metadata)).await;
    let reads = node.faults.hold(Operation::EntryRead);
    let asked = (0..ANSWERS).map(|id| {
        let lookup = Some(lookup_strictly(&page));
        v1::LookupStreamRequest { id, lookup, timeout: None }
    });
    let mut answers = soon(node.client().lookup_stream(tokio_stream::iter(asked.collect::<Vec<_>>())))
        .await
        .unwrap()
        .into_inner();
    reads.arrived(1).await;
    reads.open();
    let (mut told, mut refused) = (0, 0);
    while let Some(answer) = soon(answers.message()).await.unwrap() {
        match answer.result {
            Some(v1::lookup_stream_response::Result::Error(error)) => {
                assert_eq!(error.code, Code::ResourceExhausted as i32, "{error:?}");
                refused += 1;
            }
            _ => told += 1,
        }
    }
    assert_eq!(told + refused, ANSWERS);
    assert!(told >= 20 && refused > 0, "{told} and {refused}");
}

#[tokio::test]
async fn a_body_is_kept_without_the_message_that_it_came_in() {
    let world = World::new();
    let node = world.start().await;
    let render = node.grant(&of("loud", "a")).await;
    let message = Bytes::from("html and much more".to_owned().into_bytes());
    let request = UploadRequest {
        id: EntryId {
            tenant: TenantId::parse("loud").unwrap(),
            deployment: None,
            key: EntryKey::parse("a").unwrap(),
        },
        token: LeaseToken::from_bits(u128::from_be_bytes(render.lease.request_id[..].try_into().unwrap())),
        generation: Generation(render.generation()),
        kind: BodyKind::Html,
        name: None,
        content_type: String::new(),
    };
    let uploaded = node.engine.upload(request, message.slice(..4)).await;
    assert!(matches!(uploaded, Ok(Uploaded::Stored(_))), "{uploaded:?}");
    until(async || message.is_unique()).await;
}
