//! What goes wrong between the coordinator and AWS, and what its callers see of it.

use crate::*;
use leasehold_aws::{
    Timeouts,
    testing::{Fault, Rule},
};
use leasehold_service::time::{Clock as _, SystemClock};
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::{Code, Request};
use v1::{
    InvalidationDepth, StaleReason, acquire_lease_response::Outcome as Acquired,
    commit_pointer_response::Outcome as Committed, lookup_response::Outcome as Looked,
};

#[tokio::test]
async fn a_commit_that_was_applied_and_answered_with_500_is_committed() {
    for fault in [Fault::FailAfter, Fault::DropAnswer, Fault::Garble] {
        let world = World::new().await;
        let node = world.start().await;
        let (lease, _) = node.coordinator.grant(entry("page")).await;
        node.faults.add(Rule::on("PutItem", fault).nth(1));
        let reads = node.counters.of("GetItem");
        let outcome = node.commit("page", &lease, "html").await.unwrap();
        assert!(matches!(outcome, Committed::Committed(_)), "{outcome:?}");
        assert_eq!(node.counters.of("GetItem"), reads + 1, "it had to look what became of its write");
        // Also to another coordinator, when the worker asks again.
        let again = world.start().await.commit("page", &lease, "html").await.unwrap();
        assert!(matches!(again, Committed::Committed(_)), "{again:?}");
    }
}

#[tokio::test]
async fn a_read_that_is_not_answered_is_tried_again_while_its_caller_waits() {
    let world = World::new().await;
    world.start().await.render("page", "html").await;
    let request = Duration::from_millis(2500);
    let aws = AwsSettings { timeouts: Timeouts::within(request), ..Doubles::settings() };
    let node = world.start_on(aws, |settings| settings.store.request_timeout = request).await;
    node.faults.add(Rule::on("GetItem", Fault::HangBefore).nth(1));
    assert!(served(&node.lookup("page").await).is_some());
    assert_eq!(node.counters.of("GetItem"), 2);
}

#[tokio::test]
async fn an_acquire_that_was_applied_and_timed_out_is_answered_by_another_node() {
    let world = World::new().await;
    let hasty = |settings: &mut Settings| settings.store.request_timeout = Duration::from_millis(300);
    let (one, other) = (world.start_with(hasty).await, world.start().await);
    one.faults.add(Rule::on("PutItem", Fault::HangAfter).nth(1));
    // And then it cannot find out what became of it.
    one.faults.add(Rule::on("GetItem", Fault::HangBefore).after(1));
    let id = request_id();
    let mut request = Request::new(v1::AcquireLeaseRequest {
        entry: Some(entry("page")),
        request_id: id.clone(),
        owner: "worker".to_owned(),
        ..Default::default()
    });
    request.set_timeout(Duration::from_secs(5));
    let status = one.coordinator.client().acquire_lease(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("may have been applied"), "{status:?}");
    let Acquired::Granted(grant) = other.coordinator.acquire(entry("page"), &id).await.unwrap() else {
        panic!("it was granted by the first call")
    };
    let lease = v1::LeaseRef { request_id: id, generation: grant.generation };
    let outcome = other.commit("page", &lease, "html").await.unwrap();
    assert!(matches!(outcome, Committed::Committed(_)), "{outcome:?}");
    assert_eq!(other.counters.of("PutItem"), 2, "told of the first grant, which is noted; and the commit");
}

#[tokio::test]
async fn a_put_that_fails_between_sidecar_and_html_changes_nothing() {
    let world = World::new().await;
    let node = world.start().await;
    let before = node.render("page", "before").await;
    let (lease, _) = node.coordinator.grant(entry("page")).await;
    node.faults.add(Rule::on("PutObject", Fault::FailBefore).after(1));
    let known = world.objects();
    let status = node.commit("page", &lease, "after").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("nothing was applied"), "{status:?}");
    let stored: Vec<_> = world.objects().into_iter().filter(|name| !known.contains(name)).collect();
    assert!(matches!(&stored[..], [only] if only.ends_with(".hydration.json")), "{stored:?}");
    assert_eq!(served(&node.lookup("page").await), Some((before, false)));
    node.faults.clear();
    let outcome = node.commit("page", &lease, "after").await.unwrap();
    assert!(matches!(outcome, Committed::Committed(_)), "{outcome:?}");
    assert_eq!(served(&world.start().await.lookup("page").await), Some((lease.generation, false)));
}

#[tokio::test]
async fn while_the_log_cannot_be_read_nothing_is_fresh_and_what_was_purged_is_not_served() {
    let world = World::new().await;
    let node = world
        .start_with(|settings| {
            settings.log.tail_interval = Duration::from_millis(50);
            settings.rules.staleness_bound = Duration::from_millis(500);
        })
        .await;
    let publish = async |key: &str, tags: &[&str]| node.coordinator.render(entry(key), "html", tags).await;
    let (page, _) = (publish("page", &[]).await, publish("purged", &["t"]).await);
    node.invalidate("t", InvalidationDepth::Hard).await;
    assert_eq!(served(&node.lookup("page").await), Some((page.generation, true)));
    node.faults.add(Rule::on("GetItem", Fault::Throttle));
    until(async || match node.lookup("page").await {
        Looked::Stale(stale) => stale.reason() == StaleReason::Unverified,
        Looked::Fresh(_) => false,
        Looked::Missing(missing) => panic!("{missing:?}"),
    })
    .await;
    assert_eq!(served(&node.lookup("purged").await), None);
    node.faults.clear();
    until(async || served(&node.lookup("page").await) == Some((page.generation, true))).await;
    assert_eq!(served(&node.lookup("purged").await), None);
}

/// For `LEASEHOLD_THROTTLED_SECONDS`, 5 by default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_throttled_gets_a_bounded_load_and_is_used_again_when_it_is_over() {
    let seconds = std::env::var("LEASEHOLD_THROTTLED_SECONDS").ok();
    let throttled: u64 = seconds.map_or(5, |seconds| seconds.parse().expect("a number of seconds"));
    let world = World::new().await;
    let node = world.start().await;
    let offered = AtomicU64::new(0);
    let clock = SystemClock::start();
    node.faults.add(Rule::on("GetItem", Fault::Throttle));
    node.faults.add(Rule::on("PutItem", Fault::Throttle));
    // Cold entries, at a hundred a second: each needs a request.
    while clock.now().elapsed < Duration::from_secs(throttled) {
        let key = format!("page {}", offered.fetch_add(1, Ordering::Relaxed));
        let request = v1::LookupRequest { entry: Some(entry(&key)), ..Default::default() };
        let status = node.coordinator.client().lookup(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (offered, sent) = (offered.into_inner(), node.counters.total());
    println!("{sent} requests for {offered} calls in {throttled} s");
    assert!(sent <= 3 * offered + 150, "{sent} requests for {offered} calls");
    node.faults.clear();
    let over = clock.now().elapsed;
    until(async || {
        let request = v1::LookupRequest { entry: Some(entry("page")), ..Default::default() };
        node.coordinator.client().lookup(request).await.is_ok()
    })
    .await;
    println!("used again {:?} after it was over", clock.now().elapsed - over);
}

/// A bulk purge: few events, each as large as they get. DynamoDB gives them a megabyte at a time.
#[tokio::test]
async fn a_coordinator_starts_on_a_log_that_takes_longer_to_read_than_one_request() {
    let world = World::new().await;
    let node = world.start().await;
    for n in 0..40 {
        let scopes = (0..100).map(|scope| v1::InvalidationScope {
            tenant: String::new(),
            scope: Some(v1::invalidation_scope::Scope::Key(format!("{n}-{scope}-{}", "k".repeat(1200)))),
        });
        let request = v1::InvalidateRequest {
            request_id: request_id(),
            scopes: scopes.collect(),
            depth: InvalidationDepth::Hard.into(),
        };
        node.coordinator.client().invalidate(request).await.unwrap();
    }
    // As always, 100 ms for each megabyte; and what a request may take as a whole is a little less than all of them together.
    let mut settings = Settings::default();
    settings.store.request_timeout = Duration::from_millis(400);
    let doubles = world.0.beside();
    doubles.faults.add(Rule::on("Query", Fault::Delay(Duration::from_millis(100))));
    let stores = doubles.connect(Doubles::settings()).stores();
    let starting =
        tokio::time::timeout(Duration::from_secs(20), Coordinator::start_with(stores, settings)).await;
    assert!(starting.is_ok());
}

/// Names that the role may not delete, as those of FaceTheory's pages under another prefix: they must not keep the others.
#[tokio::test]
async fn superseded_bodies_that_cannot_be_deleted_keep_no_others_from_it() {
    let world = World::new().await;
    let node = world.start_with(|settings| settings.deletion_grace = Duration::from_millis(50)).await;
    let bucket = Doubles::settings().bucket;
    for n in 0..60 {
        node.render(&format!("page {n}"), "before").await;
    }
    for name in world.0.s3.names(&bucket) {
        world.0.s3.refuse_to_delete(&leasehold_core::object::ObjectName::parse(&name).unwrap());
    }
    for n in 0..60 {
        node.render(&format!("page {n}"), "after").await;
    }
    let before = world.0.s3.names(&bucket);
    node.render("last", "before").await;
    let after = world.0.s3.names(&bucket);
    let own: Vec<_> = after.iter().filter(|name| !before.contains(name)).cloned().collect();
    assert!(!own.is_empty());
    node.render("last", "after").await;
    let deleted = async || !world.0.s3.names(&bucket).iter().any(|name| own.contains(name));
    let waiting = tokio::time::timeout(Duration::from_secs(20), until(deleted)).await;
    assert!(waiting.is_ok(), "{own:?} is still there");
}

/// As for an answer about the head. Large bodies want a long `--store-timeout`, of which a query gets two fifths.
#[tokio::test]
async fn one_query_that_is_never_answered_makes_no_page_unverified() {
    let world = World::new().await;
    let request = Duration::from_secs(30);
    let aws = AwsSettings { timeouts: Timeouts::within(request), ..Doubles::settings() };
    let node = world
        .start_on(aws, |settings| {
            settings.store.request_timeout = request;
            settings.log.tail_interval = Duration::from_millis(200);
            settings.rules.staleness_bound = Duration::from_secs(2);
        })
        .await;
    let other = world.start().await;
    let page = node.coordinator.render(entry("page"), "html", &[]).await;
    node.faults.add(Rule::on("Query", Fault::HangBefore).nth(1));
    other.invalidate("another", InvalidationDepth::Soft).await;
    let clock = SystemClock::start();
    while clock.now().elapsed < Duration::from_secs(5) {
        let looked = node.lookup("page").await;
        assert_eq!(
            served(&looked),
            Some((page.generation, true)),
            "after {:?}: {looked:?}",
            clock.now().elapsed
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
