//! The design's budget, row by row: requests at the SDK, and the capacity units that DynamoDB bills.

use crate::*;
use futures::{StreamExt as _, future::join_all};
use leasehold_aws::testing::samples::page_of_five_tags;
use leasehold_core::{
    identity::{EntryId, EntryKey, Tag, Version},
    time::Timestamp,
};
use leasehold_service::time::{Clock as _, SystemClock};
use leasehold_store::port::{Expected, Swap};
use std::collections::BTreeMap;
use v1::{
    InvalidationDepth, acquire_lease_response::Outcome as Acquired, lookup_response::Outcome as Looked,
};

fn requests<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected.map(|(operation, count)| (operation.to_owned(), count)).into()
}

#[tokio::test]
async fn a_warm_hit_costs_nothing() {
    let world = World::new().await;
    let node = world.start().await;
    let (lease, _) = node.coordinator.grant(entry("page")).await;
    node.coordinator.commit(entry("page"), lease.clone(), "html", five_tags()).await.unwrap();
    node.counters.reset();
    for _ in 0..1000 {
        assert_eq!(served(&node.lookup("page").await), Some((lease.generation, true)));
    }
    assert_eq!(node.counters.requests(), requests([]));
}

#[tokio::test]
async fn a_cold_hit_costs_one_read_unit_and_one_get() {
    let world = World::new().await;
    world.start().await.render("page", "html").await;
    let node = world.start().await;
    assert!(served(&node.lookup("page").await).is_some());
    assert_eq!(node.counters.requests(), requests([("GetItem", 1), ("GetObject", 1)]));
    assert_eq!(node.counters.capacity_units("GetItem"), 1.0);
}

#[tokio::test]
async fn a_regeneration_costs_two_write_units_at_most_one_read_and_a_put_per_changed_body() {
    let world = World::new().await;
    let node = world.start().await;
    node.render("page", "one").await;
    assert_eq!(node.counters.requests(), requests([("GetItem", 1), ("PutItem", 2), ("PutObject", 2)]));
    node.counters.reset();
    node.render("page", "two").await;
    assert_eq!(node.counters.requests(), requests([("PutItem", 2), ("PutObject", 2)]));
    assert_eq!(node.counters.capacity_units("PutItem"), 2.0);
    node.counters.reset();
    node.render("page", "two").await;
    let unchanged = requests([("HeadObject", 2), ("PutItem", 2)]);
    assert_eq!(
        node.counters.requests(),
        unchanged,
        "bodies that are left where they are are only looked for"
    );
    assert_eq!(node.counters.capacity_units("PutItem"), 2.0);
}

#[tokio::test]
async fn waiters_cost_a_read_a_second_where_the_lease_was_granted_and_elsewhere_four_at_most() {
    let world = World::new().await;
    let (here, elsewhere) = (world.start().await, world.start().await);
    let (lease, _) = here.coordinator.grant(entry("page")).await;
    let waiting = |node: &Node| {
        let client = node.coordinator.client();
        let calls = (0..100).map(|_| {
            let mut client = client.clone();
            let request = v1::AcquireLeaseRequest {
                entry: Some(entry("page")),
                request_id: request_id(),
                owner: "waiter".to_owned(),
                wait: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
                ..Default::default()
            };
            async move { client.acquire_lease(request).await.unwrap().into_inner().outcome.unwrap() }
        });
        join_all(calls.collect::<Vec<_>>())
    };
    let render = async {
        // Those that arrive after the others may read once more.
        until(async || [&here, &elsewhere].iter().all(|node| node.coordinator.waiters() == 100)).await;
        here.counters.reset();
        elsewhere.counters.reset();
        let all_wait = SystemClock::start();
        tokio::time::sleep(Duration::from_millis(900)).await;
        here.commit("page", &lease, "html").await.unwrap();
        all_wait
    };
    let (near, far, all_wait) = tokio::join!(waiting(&here), waiting(&elsewhere), render);
    for outcome in near.into_iter().chain(far) {
        assert!(matches!(outcome, Acquired::Ready(_)), "{outcome:?}");
    }
    // By the time that really passed, and one that was due when the count began.
    let waited = all_wait.now().elapsed.as_millis();
    for (place, node, interval) in [("here", &here, 1000), ("elsewhere", &elsewhere, 250)] {
        let (reads, allowed) = (u128::from(node.counters.of("GetItem")), waited / interval + 1);
        assert!(
            reads <= allowed,
            "{reads} reads for 100 waiters {place} within {waited} ms, {allowed} allowed"
        );
    }
}

#[tokio::test]
async fn an_invalidation_of_a_tag_on_ten_thousand_pages_costs_four_write_units() {
    const PAGES: usize = 10_000;
    let world = World::new().await;
    let node = world.start().await;
    let stores = world.0.connect(Doubles::settings()).stores();
    let (_, mut sample) = page_of_five_tags();
    sample.lease = None;
    let pointer = sample.pointer.as_mut().unwrap();
    (pointer.seen, pointer.meta.tags) =
        (leasehold_core::identity::Seq::START, vec![Tag::parse("t").unwrap()]);
    pointer.generated_at = SystemClock::start().now().wall;
    pointer.meta.revalidate = None;
    let forget_after = Timestamp::from_millis(u64::MAX);
    let key = |at: usize| format!("page {at}");
    let id = |at: usize| EntryId {
        tenant: leasehold_core::identity::TenantId::parse("default").unwrap(),
        deployment: None,
        key: EntryKey::parse(&key(at)).unwrap(),
    };
    let puts = futures::stream::iter(0..PAGES).map(|at| {
        let (entries, id, mut entry) = (stores.entries.clone(), id(at), sample.clone());
        entry.version = Version(1 << 100 | at as u128);
        async move { entries.swap(&id, Expected::Absent, &entry, forget_after).await.unwrap() }
    });
    assert!(puts.buffer_unordered(64).all(async |swap| swap == Swap::Applied).await);
    let look = async |at: usize| {
        let request = v1::LookupRequest { entry: Some(entry(&key(at))), ..Default::default() };
        node.coordinator.client().lookup(request).await.unwrap().into_inner().outcome.unwrap()
    };
    for at in (0..PAGES).step_by(997) {
        assert!(matches!(look(at).await, Looked::Fresh(_)));
    }
    node.counters.reset();
    node.invalidate("t", InvalidationDepth::Soft).await;
    assert_eq!(node.counters.capacity_units("TransactWriteItems"), 4.0);
    let head = node.counters.of("GetItem");
    assert!(head <= 1, "the first append of a process reads the head once, not {head} times");
    for at in (0..PAGES).step_by(997) {
        assert!(matches!(look(at).await, Looked::Stale(_)));
    }
    node.counters.reset();
    node.invalidate("t", InvalidationDepth::Hard).await;
    assert_eq!(node.counters.requests(), requests([("TransactWriteItems", 1)]));
    assert_eq!(node.counters.capacity_units("TransactWriteItems"), 4.0);
}

#[tokio::test]
async fn an_idle_coordinator_costs_one_small_read_per_tail_interval() {
    let world = World::new().await;
    let node = world.start_with(|settings| settings.log.tail_interval = Duration::from_millis(100)).await;
    let clock = SystemClock::start();
    until(async || node.counters.of("GetItem") >= 10).await;
    let elapsed = clock.now().elapsed;
    assert!(elapsed >= Duration::from_millis(850), "10 reads within {elapsed:?}");
    let reads = node.counters.of("GetItem");
    assert_eq!(node.counters.total(), node.counters.of("GetItem"));
    assert!(node.counters.capacity_units("GetItem") <= (reads + 1) as f64);
}
