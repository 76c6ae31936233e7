//! Waiting for another's render: everybody is answered, nobody waits beyond what was asked, and nobody is stranded by
//! others who go away.

use crate::harness::*;
use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use leasehold_core::{
    identity::{LeaseToken, Owner},
    object::ObjectName,
};
use leasehold_service::{
    engine::{AcquireOutcome, AcquireRequest},
    server::Stopped,
};
use std::pin::pin;
use tokio::task::JoinHandle;
use v1::{
    StaleReason, acquire_lease_response::Outcome as Acquired, commit_pointer_response::Outcome as Committed,
};

/// Longer than any test: who is answered earlier was not helped by its expiry.
const LONG: Duration = secs(300);

fn acquire_for_long(entry: &v1::EntryRef) -> v1::AcquireLeaseRequest {
    v1::AcquireLeaseRequest { ttl: Some(wire(LONG)), ..acquire(entry) }
}

/// Calls that wait, and are known to.
async fn waiting(node: &Coordinator, page: &v1::EntryRef, count: usize) -> Vec<JoinHandle<Took>> {
    let before = node.engine.stats().waiters;
    let client = node.client();
    let calls = (0..count)
        .map(|_| {
            let (mut client, request) = (client.clone(), acquire_waiting(page, secs(50)));
            tokio::spawn(async move {
                let response = client.acquire_lease(request).await.expect("an acquire");
                Took::of(&response.into_inner().outcome.expect("an outcome"))
            })
        })
        .collect();
    until(async || node.engine.stats().waiters == before + count).await;
    calls
}

async fn answers(calls: Vec<JoinHandle<Took>>) -> Vec<Took> {
    soon(join_all(calls)).await.into_iter().map(|call| call.expect("a call")).collect()
}

/// The index of the first call that is answered, and its answer.
async fn first_answer(calls: &mut Vec<JoinHandle<Took>>) -> Took {
    let (took, at, _) = soon(futures::future::select_all(calls.iter_mut())).await;
    drop(calls.remove(at));
    took.expect("a call")
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process's status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the resident size");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a size") * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_waiters_cost_one_render_and_no_reads_and_leave_nothing_behind() {
    const WAITERS: usize = 10_000;
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(node.another_client().await);
    }
    let metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..Default::default() };
    let mut resident = Vec::new();
    for _ in 0..2 {
        let render = node.grant_to(acquire_for_long(&page)).await;
        let before = node.counts();
        let calls: Vec<_> = (0..WAITERS)
            .map(|at| {
                let (mut client, request) = (clients[at % 4].clone(), acquire_waiting(&page, secs(60)));
                tokio::spawn(async move {
                    let response = client.acquire_lease(request).await.expect("an acquire");
                    Took::of(&response.into_inner().outcome.expect("an outcome"))
                })
            })
            .collect();
        until(async || node.engine.stats().waiters == WAITERS).await;
        node.commit_fresh(render.page_with("html", metadata.clone())).await;
        let ready = Took::Stale(render.generation(), StaleReason::Expired);
        for took in answers(calls).await {
            assert_eq!(took, ready);
        }
        let counts = node.counts().since(before);
        assert_eq!((counts.entry_reads, counts.swaps), (0, 1));
        until(async || node.engine.stats().waiters == 0).await;
        assert_eq!(node.engine.stats().entries, 1);
        resident.push(resident_bytes());
    }
    let grown = resident[1].saturating_sub(resident[0]);
    assert!(grown < 64 << 20, "the second round left {grown} bytes behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_who_miss_on_eight_coordinators_are_served_by_one_render() {
    const NODES: usize = 8;
    const CALLS: usize = 10_000;
    let world = World::new();
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(world.start_one_of_many().await);
    }
    let page = entry("news");
    let mut calls: FuturesUnordered<_> = (0..CALLS)
        .map(|at| {
            let mut client = nodes[at % NODES].client();
            let request = v1::AcquireLeaseRequest { wait: Some(wire(secs(60))), ..acquire_for_long(&page) };
            tokio::spawn(async move {
                let answer = client.acquire_lease(request.clone()).await.expect("an acquire").into_inner();
                (request, answer.outcome.expect("an outcome"))
            })
        })
        .collect();
    let (request, Acquired::Granted(grant)) = soon(calls.next()).await.unwrap().unwrap() else {
        panic!("nobody renders")
    };
    let waiters = || nodes.iter().map(|node| node.engine.stats().waiters).sum::<usize>();
    until(async || waiters() == CALLS - 1).await;
    let render = Render::of(&request, grant);
    nodes[0].commit_fresh(render.page("html")).await;
    while let Some(call) = soon(calls.next()).await {
        assert_eq!(Took::of(&call.unwrap().1), Took::Fresh(render.generation()));
    }
}

#[tokio::test]
async fn more_waiters_than_the_limit_are_told_to_come_back_later() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.limits.waiters = 3).await;
    let page = entry("news");
    let render = node.grant(&page).await;
    let calls = waiting(&node, &page, 3).await;
    let refused = node.acquire(acquire_waiting(&page, secs(50))).await;
    let status = assert_refused(refused, Code::ResourceExhausted, "LIMIT_REACHED");
    assert!(refusal(&status).has_retry_info);
    assert_eq!(metadata(&status, "limit").as_deref(), Some("3 waiting calls"));
    // Who does not wait needs no place.
    assert!(matches!(node.took(acquire(&page)).await, Took::Held { .. }));
    node.commit_fresh(render.page("html")).await;
    assert!(answers(calls).await.iter().all(|took| *took == Took::Fresh(render.generation())));
    until(async || node.engine.stats().waiters == 0).await;
}

#[tokio::test]
async fn a_wait_ends_in_time_for_the_callers_deadline_and_says_who_renders() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..Default::default() };
    let previous = node.publish_with(&page, "html", metadata).await;
    let render = node.grant_to(acquire_for_long(&page)).await;
    let held = Took::Held { generation: render.generation(), previous: Some(previous) };
    let calls = (0..10).map(async |at| {
        let acquiring = async |request| node.client().acquire_lease(request).await;
        let answer = answered_within(ms(300 + at * 7), acquire_waiting(&page, secs(60)), acquiring).await;
        Took::of(&answer.expect("an answer").into_inner().outcome.expect("an outcome"))
    });
    for took in soon(join_all(calls)).await {
        assert_eq!(took, held);
    }
    assert_eq!(node.took(acquire_waiting(&page, ms(50))).await, held, "the wait is over before the deadline");
    until(async || node.engine.stats().waiters == 0).await;
}

#[tokio::test]
async fn a_wait_is_cut_down_to_the_coordinators_limit() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.leases.max_wait = ms(100)).await;
    let page = entry("news");
    node.grant_to(acquire_for_long(&page)).await;
    assert!(matches!(node.took(acquire_waiting(&page, secs(3600))).await, Took::Held { .. }));
}

#[tokio::test]
async fn an_expired_lease_frees_exactly_one_waiter() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let dead = node.grant_to(v1::AcquireLeaseRequest { ttl: Some(wire(secs(1))), ..acquire(&page) }).await;
    let mut calls = Vec::new();
    let requests: Vec<_> = (0..20).map(|_| acquire_waiting(&page, secs(50))).collect();
    for request in requests {
        let mut client = node.client();
        calls.push(tokio::spawn(async move {
            let outcome =
                client.acquire_lease(request.clone()).await.expect("an acquire").into_inner().outcome;
            (Took::of(outcome.as_ref().expect("an outcome")), request, outcome)
        }));
    }
    let (first, _, rest) = soon(futures::future::select_all(calls)).await;
    let (took, request, outcome) = first.unwrap();
    assert_eq!(took, Took::Granted { generation: dead.generation() + 1, previous: None });
    let Some(v1::acquire_lease_response::Outcome::Granted(grant)) = outcome else { panic!("not granted") };
    until(async || node.engine.stats().waiters == 19).await;
    assert!(rest.iter().all(|call| !call.is_finished()));
    let render = Render::of(&request, grant);
    node.commit_fresh(render.page("html")).await;
    for call in soon(join_all(rest)).await {
        assert_eq!(call.unwrap().0, Took::Fresh(render.generation()));
    }
}

/// By the clock that wrote it, an hour ahead, it would hold the entry for that hour.
#[tokio::test]
async fn a_lease_written_by_a_clock_that_is_ahead_delays_others_by_no_more_than_its_ttl() {
    let world = World::new();
    let (ahead, node) = (world.start_ahead(secs(3600)).await, world.start_one_of_many().await);
    let page = entry("news");
    let request = v1::AcquireLeaseRequest { ttl: Some(wire(ms(300))), ..acquire(&page) };
    let dead = ahead.grant_to(request.clone()).await;
    let took = Took::of(&soon(node.acquire(acquire_waiting(&page, secs(60)))).await.unwrap());
    assert_eq!(took, Took::Granted { generation: dead.generation() + 1, previous: None });
    // Whoever repeats the call there is told of no more time than it was granted.
    let again = ahead.grant_to(acquire(&entry("other"))).await;
    let told = node.grant_to(v1::AcquireLeaseRequest {
        request_id: again.lease.request_id.clone(),
        ..acquire(&entry("other"))
    });
    assert!(unwire(told.await.grant.remaining) <= Some(secs(10)));
}

#[tokio::test]
async fn a_lease_that_was_not_needed_is_granted_to_a_waiter_at_once() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let render = node.grant_to(acquire_for_long(&page)).await;
    let mut calls = waiting(&node, &page, 5).await;
    node.release(render.release()).await.unwrap();
    let took = first_answer(&mut calls).await;
    assert_eq!(took, Took::Granted { generation: render.generation() + 1, previous: None });
    until(async || node.engine.stats().waiters == 4).await;
}

#[tokio::test]
async fn a_failed_render_sends_the_waiters_away_with_the_previous_page() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..Default::default() };
    let previous = node.publish_with(&page, "html", metadata).await;
    let render = node.grant_to(acquire_for_long(&page)).await;
    let calls = waiting(&node, &page, 20).await;
    node.release(render.failure("upstream answered 503")).await.unwrap();
    let reason = "upstream answered 503".to_owned();
    let backing_off = Took::BackingOff { failures: 1, reason, previous: Some(previous) };
    assert!(answers(calls).await.iter().all(|took| *took == backing_off));
}

#[tokio::test]
async fn an_overtaken_lease_is_granted_to_a_waiter_at_once() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let slow = node.grant_to(acquire_for_long(&page)).await;
    let mut calls = waiting(&node, &page, 5).await;
    let key = v1::invalidation_scope::Scope::Key("news".to_owned());
    node.invalidate(invalidation([scope(key)])).await.unwrap();
    let took = first_answer(&mut calls).await;
    assert_eq!(took, Took::Granted { generation: slow.generation() + 1, previous: None });
    until(async || node.engine.stats().waiters == 4).await;
}

#[tokio::test]
async fn a_page_that_was_invalidated_in_mid_render_is_not_what_a_waiter_waited_for() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let slow = node.grant_to(acquire_for_long(&page)).await;
    let mut calls = waiting(&node, &page, 5).await;
    node.invalidate(invalidation([tag("t")])).await.unwrap();
    let metadata = v1::PageMetadata { tags: tags(&["t"]), ..Default::default() };
    let outcome = node.commit(slow.page_with("old", metadata)).await.unwrap();
    assert!(matches!(outcome, Committed::CommittedStale(_)), "{outcome:?}");
    let took = first_answer(&mut calls).await;
    let granted = Took::Granted { generation: slow.generation() + 1, previous: Some(slow.generation()) };
    assert_eq!(took, granted);
}

#[tokio::test]
async fn waiters_on_another_coordinator_hear_of_the_page_long_before_the_lease_expires() {
    let world = World::new();
    let (one, other) = (world.start_one_of_many().await, world.start_one_of_many().await);
    let page = entry("news");
    let render = one.grant_to(acquire_for_long(&page)).await;
    let calls = waiting(&other, &page, 50).await;
    one.commit_fresh(render.page("html")).await;
    assert!(answers(calls).await.iter().all(|took| *took == Took::Fresh(render.generation())));
}

#[tokio::test]
async fn waiters_hear_of_a_page_that_was_committed_through_another_coordinator() {
    let world = World::new();
    let (one, other) = (world.start_one_of_many().await, world.start_one_of_many().await);
    let page = entry("news");
    let render = one.grant_to(acquire_for_long(&page)).await;
    let calls = waiting(&one, &page, 50).await;
    other.commit_fresh(render.page("html")).await;
    assert!(answers(calls).await.iter().all(|took| *took == Took::Fresh(render.generation())));
}

#[tokio::test]
async fn a_waiter_that_reads_for_all_is_replaced_when_it_goes_away() {
    let world = World::new();
    let (one, other) = (world.start_one_of_many().await, world.start_one_of_many().await);
    let page = entry("news");
    let render = one.grant_to(acquire_for_long(&page)).await;
    let mut calls = waiting(&other, &page, 1).await;
    calls.extend(waiting(&other, &page, 3).await);
    calls.remove(0).abort();
    until(async || other.engine.stats().waiters == 3).await;
    one.commit_fresh(render.page("html")).await;
    assert!(answers(calls).await.iter().all(|took| *took == Took::Fresh(render.generation())));
}

#[tokio::test]
async fn waiters_outlast_a_store_that_does_not_answer_for_a_while() {
    let world = World::new();
    let (one, other) = (world.start_one_of_many().await, world.start_one_of_many().await);
    let page = entry("news");
    let render = one.grant_to(acquire_for_long(&page)).await;
    let calls = waiting(&other, &page, 5).await;
    let before = other.counts().entry_reads;
    other.faults.add(Rule::on(Operation::EntryRead, Fault::Refuse));
    one.commit_fresh(render.page("html")).await;
    until(async || other.counts().entry_reads >= before + 3).await;
    other.faults.clear();
    assert!(answers(calls).await.iter().all(|took| *took == Took::Fresh(render.generation())));
}

#[tokio::test]
async fn a_grant_whose_caller_went_away_is_given_back() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let gate = node.faults.hold(Operation::Swap);
    let (mut client, request) = (node.client(), acquire_for_long(&page));
    let call = tokio::spawn(async move { client.acquire_lease(request).await });
    gate.arrived(1).await;
    call.abort();
    call.await.expect_err("aborted");
    // On the same connection, after the reset: when these are answered, the reset has arrived.
    for _ in 0..3 {
        node.seen(&entry("other")).await;
    }
    gate.open();
    until(async || matches!(node.took(acquire_for_long(&page)).await, Took::Granted { .. })).await;
}

#[tokio::test]
async fn a_grant_that_a_repetition_was_told_of_is_kept_though_the_first_caller_went_away() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let gate = node.faults.hold(Operation::Swap);
    let request = acquire_for_long(&page);
    let (mut client, first) = (node.client(), request.clone());
    let first = tokio::spawn(async move { client.acquire_lease(first).await });
    gate.arrived(1).await;
    let repetition = node.grant_to(request.clone());
    let resetting = async {
        for _ in 0..3 {
            node.seen(&entry("other")).await;
        }
        first.abort();
        for _ in 0..3 {
            node.seen(&entry("other")).await;
        }
        gate.open();
    };
    let (render, ()) = tokio::join!(repetition, resetting);
    // Whatever was still to be undone has had its turn on the entry before these.
    for _ in 0..3 {
        let held = Took::Held { generation: render.generation(), previous: None };
        assert_eq!(node.took(acquire(&page)).await, held);
        assert_eq!(node.grant_to(request.clone()).await.generation(), render.generation());
    }
    node.commit_fresh(render.page("html")).await;
}

/// It would ask again, and be granted the lease: so it is at once.
#[tokio::test]
async fn a_caller_whose_page_is_purged_while_its_body_is_read_renders_it() {
    let world = World::new();
    let page = entry("news");
    let before = world.start().await.publish(&page, "html").await;
    let node = world.start().await;
    let gets = node.faults.hold(Operation::Get);
    let acquiring =
        node.acquire(v1::AcquireLeaseRequest { body: v1::BodyDelivery::Inline.into(), ..acquire(&page) });
    let purging = async {
        gets.arrived(1).await;
        node.invalidate(purge([key_scope("news")])).await.unwrap();
        gets.open();
    };
    let (acquired, ()) = tokio::join!(acquiring, soon(purging));
    let Acquired::Granted(grant) = acquired.unwrap() else { panic!("there is nothing to serve") };
    assert!(grant.generation > before && grant.previous.is_none(), "{grant:?}");
}

#[tokio::test]
async fn a_grant_that_a_repetition_elsewhere_was_told_of_is_kept_though_the_first_caller_went_away() {
    let world = World::new();
    let page = entry("news");
    let expired = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..Default::default() };
    world.start().await.publish_with(&page, "html", expired).await;
    let mut here = world.start_one_of_many().await;
    let there = world.start_one_of_many().await;
    // The caller goes away while its answer waits for the body of the previous page.
    let gets = here.faults.hold(Operation::Get);
    let request =
        v1::AcquireLeaseRequest { body: v1::BodyDelivery::Inline.into(), ..acquire_for_long(&page) };
    let (mut client, first) = (here.client(), request.clone());
    let first = tokio::spawn(async move { client.acquire_lease(first).await });
    gets.arrived(1).await;
    // To give the lease back takes its time, and meanwhile the call is repeated elsewhere.
    let swaps = here.faults.hold(Operation::Swap);
    first.abort();
    swaps.arrived(1).await;
    let render = there.grant_to(request).await;
    swaps.open();
    gets.open();
    // It stops when all that it has begun is done.
    assert_eq!(here.stop().await, Stopped::Drained);
    let held = Took::Held { generation: render.generation(), previous: Some(render.generation() - 1) };
    assert_eq!(there.took(acquire(&page)).await, held);
    there.commit_fresh(render.page("rendered")).await;
}

#[tokio::test]
async fn a_grant_that_nobody_hears_of_is_given_back_also_where_the_page_before_is_gone() {
    let world = World::new();
    let writer = world.start().await;
    let page = entry("news");
    let before = writer.grant(&page).await;
    writer
        .commit_fresh(
            before
                .page_with("html", v1::PageMetadata { revalidate: Some(wire(ms(0))), ..Default::default() }),
        )
        .await;
    let name = ObjectName::parse(&before.grant.html_object).unwrap();
    world.stores().objects.delete(&[name]).await.unwrap();
    let mut node = world.start().await;
    // The grant's swap goes through; the one that marks the previous page as gone is applied, and answered late.
    let gate = Gate::new();
    node.faults.add(Rule::on(Operation::Swap, Fault::HoldAnswer(gate.clone())).nth(2));
    let request = v1::AcquireLeaseRequest { body: v1::BodyDelivery::Inline.into(), ..acquire(&page) };
    let mut client = node.client();
    let call = tokio::spawn(async move { client.acquire_lease(request).await });
    soon(gate.arrived(1)).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // On the same connection, after the reset: when these are answered, the reset has arrived.
    for _ in 0..3 {
        node.client().lookup(v1::LookupRequest::default()).await.expect_err("no entry");
    }
    gate.open();
    // It stops when all that it has begun is done.
    assert_eq!(node.stop().await, Stopped::Drained);
    let took = writer.took(acquire(&page)).await;
    assert!(matches!(took, Took::Granted { .. }), "{took:?}, by a caller that has gone away");
}

#[tokio::test]
async fn whoever_goes_away_in_mid_request_strands_nobody() {
    for operation in [Operation::EntryRead, Operation::Swap] {
        let world = World::new();
        let node = world.start().await;
        let page = entry("news");
        let gate = node.faults.hold(operation);
        let (mut client, request) = (node.client(), acquire_for_long(&page));
        let leader = tokio::spawn(async move { client.acquire_lease(request).await });
        gate.arrived(1).await;
        let mut followers: Vec<_> = (0..5)
            .map(|_| {
                let (mut client, request) = (node.client(), acquire_waiting(&page, secs(50)));
                tokio::spawn(async move {
                    let response = client.acquire_lease(request).await.expect("an acquire");
                    Took::of(&response.into_inner().outcome.expect("an outcome"))
                })
            })
            .collect();
        leader.abort();
        leader.await.expect_err("aborted");
        let mut client = node.client();
        let lookup_cut_off = tokio::spawn(async move { client.lookup(lookup(&entry("news"))).await });
        tokio::task::yield_now().await;
        lookup_cut_off.abort();
        // On the same connection, after the resets, and without a store: when these are answered, the resets have arrived.
        for _ in 0..3 {
            node.client().lookup(v1::LookupRequest::default()).await.expect_err("no entry");
        }
        gate.open();
        let took = first_answer(&mut followers).await;
        assert!(matches!(took, Took::Granted { .. }), "{operation:?}: {took:?}");
        until(async || node.engine.stats().waiters == 4).await;
    }
}

#[tokio::test]
async fn whoever_goes_away_while_a_body_is_read_strands_nobody() {
    let world = World::new();
    let page = entry("news");
    world.start().await.publish(&page, "html").await;
    let node = world.start().await;
    let gate = node.faults.hold(Operation::Get);
    let mut client = node.client();
    let request = lookup_with_body(&page);
    let leader = tokio::spawn(async move { client.lookup(request).await });
    gate.arrived(1).await;
    let follower = node.lookup(lookup_with_body(&page));
    let going = async {
        node.seen(&page).await;
        leader.abort();
        gate.open();
    };
    let (response, ()) = tokio::join!(follower, going);
    assert_eq!(html_of(page_of(&response.unwrap())), Some("html"));
}

#[tokio::test]
async fn a_call_dropped_at_any_of_its_steps_leaves_the_lease_free() {
    let world = World::new();
    let node = world.start().await;
    for steps in 0..60 {
        let key = format!("dropped after {steps}");
        let request = AcquireRequest {
            id: id(&key),
            token: LeaseToken::from_bits(u128::MAX - steps),
            owner: Owner::parse("gone").unwrap(),
            ttl: LONG,
            wait: Duration::ZERO,
            path: None,
            at_least: None,
            retry: false,
            waiters: None,
        };
        {
            let mut place = None;
            let mut call = pin!(node.engine.acquire(request, &mut place));
            for _ in 0..steps {
                // The store has threads of its own: without a pause it would never come to the later steps.
                if steps % 2 == 0 {
                    tokio::time::sleep(Duration::from_micros(100)).await;
                } else {
                    tokio::task::yield_now().await;
                }
                if let std::task::Poll::Ready(acquired) = futures::poll!(call.as_mut()) {
                    let acquired = acquired.unwrap_or_else(|error| panic!("after {steps}: {error}"));
                    assert!(matches!(acquired.outcome, AcquireOutcome::Granted { .. }));
                    break;
                }
            }
        }
        let took = node.took(acquire_waiting(&entry(&key), secs(10))).await;
        assert!(matches!(took, Took::Granted { .. }), "after {steps}: {took:?}");
    }
}
