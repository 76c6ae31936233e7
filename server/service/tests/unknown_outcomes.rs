//! The store does not say what it did, refuses, or is broken: the answers stay truthful, and repetitions are harmless.

use crate::harness::*;
use leasehold_core::{
    entry::Entry,
    identity::{Generation, Version},
    time::Timestamp,
};
use leasehold_service::time::{Clock as _, SystemClock};
use leasehold_store::{
    conformance::samples::extreme_entry,
    port::{Expected, Swap},
};
use v1::{
    MissingReason, StaleReason, acquire_lease_response::Outcome as Acquired,
    commit_pointer_response::Outcome as Committed, release_lease_response::Outcome as Released,
    renew_lease_response::Outcome as Renewed,
};

/// Longer than any test.
const FOREVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// What may become of a write whose answer is lost.
const LOST: [Fault; 2] = [Fault::TimeOutAfter, Fault::TimeOutBefore];

/// The first write gets lost and is applied late, between the second one's departure and its arrival. To be awaited while
/// the call is under way.
fn overtaking(node: &Coordinator, operation: Operation) -> impl Future<Output = ()> + use<> {
    let (late, second) = (Gate::new(), Gate::new());
    node.faults.add(Rule::on(operation, Fault::ApplyLater(late.clone())).nth(1));
    node.faults.add(Rule::on(operation, Fault::Hold(second.clone())).times(1));
    async move {
        second.arrived(1).await;
        late.open();
        late.applied(1).await;
        second.open();
    }
}

/// The store loses every answer and then answers nothing at all.
fn cut_off(node: &Coordinator, fault: Fault) {
    for operation in [Operation::Swap, Operation::Append] {
        node.faults.add(Rule::on(operation, fault.clone()));
    }
    for operation in [Operation::EntryRead, Operation::HeadRead] {
        node.faults.add(Rule::on(operation, Fault::Refuse));
    }
}

fn assert_unknown<T: std::fmt::Debug>(result: Result<T, Status>) {
    let status = assert_refused(result, Code::Unavailable, "OUTCOME_UNKNOWN");
    assert!(refusal(&status).has_retry_info);
}

fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, Status>) {
    let status = assert_refused(result, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(refusal(&status).has_retry_info);
}

#[tokio::test]
async fn a_lost_answer_to_a_swap_is_settled_by_what_is_on_file() {
    for fault in LOST {
        let world = World::new();
        let node = world.start().await;
        let lose = || node.faults.add(Rule::on(Operation::Swap, fault.clone()).nth(1));
        let page = entry("news");
        lose();
        let render = node.grant(&page).await;
        lose();
        assert!(matches!(node.renew(render.renewal(secs(60))).await.unwrap(), Renewed::Renewed(_)));
        lose();
        node.commit_fresh(render.page("html")).await;
        assert_eq!(node.seen_by(lookup_strictly(&page)).await, Seen::Fresh(render.generation()));
        let other = node.grant(&entry("other")).await;
        lose();
        assert!(matches!(node.release(other.release()).await.unwrap(), Released::Released(_)));
        assert!(matches!(node.took(acquire(&entry("other"))).await, Took::Granted { .. }));
    }
}

#[tokio::test]
async fn a_swap_that_is_refused_by_its_own_first_attempt_has_succeeded() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let request = acquire(&page);
    let late = overtaking(&node, Operation::Swap);
    let (render, ()) = tokio::join!(node.grant_to(request.clone()), soon(late));
    node.faults.clear();
    let late = overtaking(&node, Operation::Swap);
    let (renewed, ()) = tokio::join!(node.renew(render.renewal(secs(60))), soon(late));
    assert!(matches!(renewed.unwrap(), Renewed::Renewed(_)));
    node.faults.clear();
    let late = overtaking(&node, Operation::Swap);
    let (committed, ()) = tokio::join!(node.commit(render.page("html")), soon(late));
    assert!(matches!(committed.unwrap(), Committed::Committed(_)));
    node.faults.clear();
    assert_eq!(node.seen_by(lookup_strictly(&page)).await, Seen::Fresh(render.generation()));
    let failed = node.grant(&entry("failed")).await;
    let late = overtaking(&node, Operation::Swap);
    let (released, ()) = tokio::join!(node.release(failed.failure("503")), soon(late));
    assert!(matches!(released.unwrap(), Released::Released(_)));
    node.faults.clear();
    let backing_off = Took::BackingOff { failures: 1, reason: "503".to_owned(), previous: None };
    assert_eq!(node.took(acquire(&entry("failed"))).await, backing_off);
}

/// The repetition of an acquire notes in the lease that it was told of it: that is a swap of its own.
#[tokio::test]
async fn what_a_first_attempt_replaced_is_deleted_although_a_second_swap_was_needed() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    node.grant(&page).await;
    world.clock.step(secs(11));
    assert_eq!(node.engine.stats().pending_deletions, 0);
    let late = overtaking(&node, Operation::Swap);
    let (_, ()) = tokio::join!(node.grant_to(acquire(&page)), soon(late));
    assert_eq!(node.engine.stats().pending_deletions, 2, "what the first holder may have uploaded");
}

#[tokio::test]
async fn damage_that_a_repetition_meets_says_nothing_of_the_first_attempt() {
    let world = World::new();
    let node = world.start().await;
    let render = node.grant(&entry("news")).await;
    node.faults.add(Rule::on(Operation::Swap, Fault::TimeOutBefore).nth(1));
    node.faults.add(Rule::on(Operation::Swap, Fault::Corrupt));
    assert_unknown(node.commit(render.page("html")).await);
    node.faults.clear();
    node.faults.add(Rule::on(Operation::Put, Fault::TimeOutBefore).nth(1));
    node.faults.add(Rule::on(Operation::Put, Fault::Corrupt));
    assert_unknown(node.upload(upload_parts(&render, v1::BodyKind::Html, b"one")).await);
    node.faults.clear();
    node.faults.add(Rule::on(Operation::Append, Fault::TimeOutBefore).nth(1));
    node.faults.add(Rule::on(Operation::Append, Fault::Corrupt));
    assert_unknown(node.invalidate(invalidation([tag("t")])).await);
}

#[tokio::test]
async fn a_swap_that_arrives_long_after_its_caller_gave_it_up_changes_nothing() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let render = node.grant(&page).await;
    let late = Gate::new();
    node.faults.add(Rule::on(Operation::Swap, Fault::ApplyLater(late.clone())).nth(1));
    node.commit_fresh(render.page("html")).await;
    late.open();
    soon(late.applied(1)).await;
    assert_eq!(node.seen_by(lookup_strictly(&page)).await, Seen::Fresh(render.generation()));
}

#[tokio::test]
async fn a_lost_answer_to_an_append_is_settled_by_the_log() {
    for fault in LOST {
        let world = World::new();
        let node = world.start().await;
        let page = entry("news");
        let generation = node
            .publish_with(&page, "html", v1::PageMetadata { tags: tags(&["t"]), ..Default::default() })
            .await;
        node.faults.add(Rule::on(Operation::Append, fault).nth(1));
        let token = node.invalidate(invalidation([tag("t")])).await.unwrap();
        let stale = Seen::Stale(generation, StaleReason::Invalidated);
        assert_eq!(node.seen_by(lookup_as_of(&page, &token)).await, stale);
        assert_eq!(world.stores().log.head().await.unwrap().seq.0, 1);
    }
}

#[tokio::test]
async fn an_append_that_is_refused_by_its_own_first_attempt_has_succeeded_once() {
    let world = World::new();
    let node = world.start().await;
    let late = overtaking(&node, Operation::Append);
    let (token, ()) = tokio::join!(node.invalidate(invalidation([tag("t")])), soon(late));
    token.unwrap();
    assert_eq!(world.stores().log.head().await.unwrap().seq.0, 1);
}

#[tokio::test]
async fn an_append_that_nobody_can_settle_is_of_unknown_outcome_and_repeated_once() {
    for fault in LOST {
        let world = World::new();
        let (here, there) = (world.start().await, world.start_one_of_many().await);
        let request = invalidation([tag("t")]);
        cut_off(&here, fault);
        assert_unknown(here.invalidate(request.clone()).await);
        let token = there.invalidate(request.clone()).await.unwrap();
        assert_eq!(world.stores().log.head().await.unwrap().seq.0, 1);
        here.faults.clear();
        assert_eq!(here.invalidate(request).await.unwrap(), token);
        assert_eq!(world.stores().log.head().await.unwrap().seq.0, 1);
    }
}

#[tokio::test]
async fn a_call_of_unknown_outcome_is_repeated_on_another_coordinator() {
    for fault in LOST {
        let world = World::new();
        let (here, there) = (world.start_one_of_many().await, world.start_one_of_many().await);
        let page = entry("news");
        let request = acquire(&page);
        here.seen(&page).await;
        cut_off(&here, fault.clone());
        assert_unknown(here.acquire(request.clone()).await);
        let render = there.grant_to(request.clone()).await;
        here.faults.clear();
        assert_eq!(here.grant_to(request).await.generation(), render.generation());

        cut_off(&here, fault.clone());
        assert_unknown(here.renew(render.renewal(secs(60))).await);
        assert!(matches!(there.renew(render.renewal(secs(60))).await.unwrap(), Renewed::Renewed(_)));

        let commit = render.page("html");
        assert_unknown(here.commit(commit.clone()).await);
        let applied = there.commit_fresh(commit.clone()).await;
        here.faults.clear();
        assert_eq!(here.commit_fresh(commit).await, applied);
        assert_eq!(here.seen_by(lookup_strictly(&page)).await, Seen::Fresh(render.generation()));

        let failed = here.grant(&entry("failed")).await;
        cut_off(&here, fault);
        assert_unknown(here.release(failed.failure("503")).await);
        for node in [&there, &here] {
            here.faults.clear();
            assert!(matches!(node.release(failed.failure("503")).await.unwrap(), Released::Released(_)));
            let backing_off = Took::BackingOff { failures: 1, reason: "503".to_owned(), previous: None };
            assert_eq!(node.took(acquire(&entry("failed"))).await, backing_off, "counted once");
        }
    }
}

#[tokio::test]
async fn a_repeated_commit_that_others_overtook_is_fenced_and_then_superseded() {
    let world = World::new();
    let (here, there) = (world.start_one_of_many().await, world.start_one_of_many().await);
    let page = entry("news");
    let slow = here.grant(&page).await;
    cut_off(&here, Fault::TimeOutBefore);
    assert_unknown(here.commit(slow.page("late")).await);
    here.faults.clear();
    world.clock.step(secs(60));
    let next = there.grant(&page).await;
    let fenced = here.commit(slow.page("late")).await.unwrap();
    assert!(
        matches!(&fenced, Committed::Fenced(by) if by.latest_generation == next.generation()),
        "{fenced:?}"
    );
    there.commit_fresh(next.page("html")).await;
    let superseded = here.commit(slow.page("late")).await.unwrap();
    assert!(
        matches!(&superseded, Committed::Superseded(by) if by.current_generation == next.generation()),
        "{superseded:?}"
    );
    assert_eq!(here.seen_by(lookup_strictly(&page)).await, Seen::Fresh(next.generation()));
}

/// Its bodies are gone because it was applied, and its page purged and superseded since.
#[tokio::test]
async fn a_repeated_commit_or_upload_of_a_body_that_is_gone_is_told_of_its_successor() {
    let world = World::new();
    let (here, there) = (world.start_one_of_many().await, world.start_one_of_many().await);
    let page = entry("news");
    let render = here.grant(&page).await;
    let upload = || upload_parts(&render, v1::BodyKind::Html, b"html");
    there.upload(upload()).await.unwrap();
    let commit =
        v1::CommitPointerRequest { html: stored(sha256(b"html"), 4), ..render.page_with("", tagged(&["t"])) };
    there.commit_fresh(commit.clone()).await;
    there.invalidate(purge([tag("t")])).await.unwrap();
    let next = there.publish(&page, "next").await;
    until(async || there.engine.stats().pending_deletions == 0).await;
    let told = here.commit(commit).await.unwrap();
    assert!(matches!(&told, Committed::Superseded(by) if by.current_generation == next), "{told:?}");
    let told = here.upload(upload()).await.unwrap();
    assert!(
        matches!(&told, v1::upload_body_response::Outcome::Superseded(by) if by.current_generation == next),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_lost_answer_to_a_put_costs_nothing_but_a_repetition() {
    for fault in LOST {
        let world = World::new();
        let node = world.start().await;
        let page = entry("news");
        node.faults.add(Rule::on(Operation::Put, fault).nth(1));
        node.publish(&page, "html").await;
        assert_eq!(world.start().await.page(serve(&page)).await.unwrap().1, b"html");
    }
}

#[tokio::test]
async fn a_store_that_refuses_is_unavailable_and_nothing_has_happened() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    node.faults.add(Rule::on_any(Fault::Refuse));
    assert_unavailable(node.lookup(lookup(&page)).await);
    assert_unavailable(node.lookup(lookup_strictly(&page)).await);
    assert_unavailable(node.page(serve(&page)).await);
    assert_unavailable(node.acquire(acquire(&page)).await);
    assert_unavailable(node.invalidate(invalidation([tag("t")])).await);
    node.faults.clear();
    let render = node.grant(&page).await;
    for operation in [Operation::Swap, Operation::Put] {
        node.faults.add(Rule::on(operation, Fault::Refuse));
        assert_unavailable(node.commit(render.page("html")).await);
        node.faults.clear();
    }
    node.faults.add(Rule::on(Operation::Swap, Fault::Refuse));
    assert_unavailable(node.renew(render.renewal(secs(60))).await);
    assert_unavailable(node.release(render.release()).await);
    node.faults.clear();
    assert_eq!(world.stores().log.head().await.unwrap().seq.0, 0);
    node.commit_fresh(render.page("html")).await;
}

/// As where a worker tidies up after its commit, and the store is away just then.
#[tokio::test]
async fn a_release_that_fails_after_a_good_commit_costs_the_page_nothing() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let render = node.grant(&page).await;
    node.commit_fresh(render.page("html")).await;
    for fault in [Fault::Refuse, Fault::TimeOutBefore, Fault::TimeOutAfter] {
        for release in [render.release(), render.failure("503")] {
            node.faults.add(Rule::on_any(fault.clone()));
            assert_unavailable(node.release(release).await);
            node.faults.clear();
            assert_eq!(node.seen_by(lookup_strictly(&page)).await, Seen::Fresh(render.generation()));
            assert_eq!(node.took(acquire(&page)).await, Took::Fresh(render.generation()));
        }
    }
    assert!(matches!(node.release(render.failure("503")).await.unwrap(), Released::NotHeld(_)));
    assert_eq!(node.took(acquire(&page)).await, Took::Fresh(render.generation()));
}

#[tokio::test]
async fn a_store_that_refuses_now_and_then_is_asked_again() {
    let world = World::new();
    let node = world.start().await;
    for operation in [Operation::Swap, Operation::Put, Operation::Append] {
        node.faults.add(Rule::on(operation, Fault::Refuse).times(2));
    }
    let page = entry("news");
    let generation = node.publish(&page, "html").await;
    node.invalidate(invalidation([tag("t")])).await.unwrap();
    assert_eq!(node.seen(&page).await, Seen::Fresh(generation));
}

#[tokio::test]
async fn a_page_that_is_known_is_served_while_the_store_does_not_answer() {
    let world = World::new();
    let node = world.start_one_of_many().await;
    let page = entry("news");
    let metadata = v1::PageMetadata { revalidate: Some(wire(secs(1))), ..Default::default() };
    let generation = node.publish_with(&page, "html", metadata).await;
    node.faults.add(Rule::on_any(Fault::Refuse));
    assert_eq!(node.seen(&page).await, Seen::Fresh(generation));
    world.clock.step(ms(1500));
    let response = node.lookup(lookup_with_body(&page)).await.unwrap();
    assert_eq!(seen(&response), Seen::Stale(generation, StaleReason::Expired));
    assert_eq!(html_of(page_of(&response)), Some("html"));
}

#[tokio::test]
async fn a_store_that_hangs_costs_a_call_no_more_than_its_deadline() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let render = node.grant(&page).await;
    let (reads, swaps) = (node.faults.hold(Operation::EntryRead), node.faults.hold(Operation::Swap));
    let looking = async |request| node.client().lookup(request).await;
    let looked = answered_within(ms(300), lookup(&entry("unknown")), looking).await;
    assert_refused(looked, Code::DeadlineExceeded, "DEADLINE");
    let commit = render.page("html");
    let committing = async |request| node.client().commit_pointer(request).await;
    assert_unknown(answered_within(ms(300), commit.clone(), committing).await);
    reads.open();
    swaps.open();
    // What was cut off goes on, and the repetition learns of it.
    node.commit_fresh(commit).await;
    assert_eq!(node.seen(&page).await, Seen::Fresh(render.generation()));
}

#[tokio::test]
async fn a_store_that_hangs_counts_as_of_unknown_outcome_for_writes_and_unavailable_for_reads() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.store.request_timeout = secs(1)).await;
    let page = entry("news");
    let render = node.grant(&page).await;
    node.faults.hold(Operation::EntryRead);
    assert_unavailable(node.lookup(lookup(&entry("unknown"))).await);
    let swaps = node.faults.hold(Operation::Swap);
    assert_unknown(node.commit(render.page("html")).await);
    node.faults.clear();
    swaps.open();
    node.commit_fresh(render.page("html")).await;
}

#[tokio::test]
async fn stored_bytes_that_do_not_decode_are_data_loss() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let render = node.grant(&page).await;
    let corrupt = |operation| node.faults.add(Rule::on(operation, Fault::Corrupt));
    let lost = |result: Result<(), Status>| {
        let status = assert_refused(result, Code::DataLoss, "STORED_DATA_CORRUPT");
        assert!(!refusal(&status).has_retry_info, "a retry does not help");
    };
    corrupt(Operation::Swap);
    lost(node.commit(render.page("html")).await.map(drop));
    node.faults.clear();
    node.commit_fresh(render.page("html")).await;
    corrupt(Operation::EntryRead);
    lost(node.lookup(lookup_strictly(&page)).await.map(drop));
    lost(node.acquire(acquire(&entry("other"))).await.map(drop));
    node.faults.clear();
    corrupt(Operation::HeadRead);
    lost(node.lookup(lookup_strictly(&page)).await.map(drop));
    node.faults.clear();
    corrupt(Operation::Append);
    lost(node.invalidate(invalidation([tag("t")])).await.map(drop));
    // A page that is known does not suffer.
    assert_eq!(node.seen(&page).await, Seen::Fresh(render.generation()));
}

/// No coordinator counts so far: a record is damaged, or another system's.
#[tokio::test]
async fn a_generation_that_none_can_follow_is_data_loss_for_who_would_render() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let generation = node.publish(&page, "html").await;
    let entries = world.stores().entries;
    let current = entries.read(&id("news")).await.unwrap().unwrap();
    let last = Entry { version: Version(1), generation: Generation(u64::MAX), ..current.clone() };
    let swap = entries.swap(&id("news"), Expected::Version(current.version), &last, FOREVER).await;
    assert_eq!(swap.unwrap(), Swap::Applied);
    assert_eq!(node.seen_by(lookup_strictly(&page)).await, Seen::Fresh(generation));
    node.invalidate(invalidation([key_scope("news")])).await.unwrap();
    let status = assert_refused(node.acquire(acquire(&page)).await, Code::DataLoss, "STORED_DATA_CORRUPT");
    assert!(status.message().contains("generation"), "{status:?}");
    let stale = Seen::Stale(generation, StaleReason::Invalidated);
    assert_eq!(node.seen_by(lookup_strictly(&page)).await, stale, "it stays servable");
}

#[tokio::test]
async fn an_entry_of_the_largest_numbers_there_are_breaks_no_call() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let entries = world.stores().entries;
    let swap = entries.swap(&id("news"), Expected::Absent, &extreme_entry(1), FOREVER).await;
    assert_eq!(swap.unwrap(), Swap::Applied);
    assert_eq!(node.seen(&page).await, Seen::Missing(MissingReason::BodyGone));
    assert!(matches!(node.took(acquire(&page)).await, Took::Held { generation: u64::MAX, .. }));
}

#[tokio::test]
async fn a_late_duplicate_of_an_ended_lease_is_told_so() {
    let world = World::new();
    let node = world.start().await;
    for ends_by_commit in [true, false] {
        let page = entry(if ends_by_commit { "committed" } else { "released" });
        let request = acquire(&page);
        let render = node.grant_to(request.clone()).await;
        if ends_by_commit {
            node.commit_fresh(render.page("html")).await;
        } else {
            node.release(render.release()).await.unwrap();
        }
        assert!(matches!(node.acquire(request).await.unwrap(), Acquired::Ended(_)));
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_had_in_time_does_not_cost_the_grant() {
    let world = World::new();
    let writer = world.start().await;
    for hangs in [false, true] {
        let page = entry(if hangs { "hangs" } else { "is refused" });
        let expired = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..Default::default() };
        let generation = writer.publish_with(&page, "html", expired).await;
        let node = world.start().await;
        if hangs {
            node.faults.hold(Operation::Get);
        } else {
            node.faults.add(Rule::on(Operation::Get, Fault::Refuse));
        }
        let base = v1::AcquireLeaseRequest { body: v1::BodyDelivery::Inline.into(), ..acquire(&page) };
        let mut request = Request::new(base);
        request.set_timeout(secs(2));
        let response = node.client().acquire_lease(request).await.unwrap();
        let Some(Acquired::Granted(grant)) = response.into_inner().outcome else { panic!("not granted") };
        let previous = grant.previous.expect("the page so far").page.expect("a page");
        assert_eq!((previous.generation, previous.body), (generation, None));
        let request = v1::AcquireLeaseRequest { body: v1::BodyDelivery::Inline.into(), ..acquire(&page) };
        let Acquired::Held(held) = node.acquire(request).await.unwrap() else { panic!("not held") };
        assert_eq!(held.previous.expect("the page so far").page.expect("a page").body, None);
    }
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_again_in_time_is_served_as_it_is_known() {
    let world = World::new();
    let node = world.start_one_of_many().await;
    let page = entry("news");
    let expired = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..Default::default() };
    let generation = node.publish_with(&page, "html", expired).await;
    world.clock.step(secs(1));
    let reads = node.faults.hold(Operation::EntryRead);
    let before = node.counts().entry_reads;
    world.clock.stand_still();
    for _ in 0..20 {
        assert_eq!(node.seen(&page).await, Seen::Stale(generation, StaleReason::Expired));
    }
    reads.arrived(1).await;
    assert_eq!(
        node.counts().entry_reads - before,
        1,
        "a store that does not answer is not asked by every call"
    );
}

/// Repetitions for which nobody else has to have asked: 10 a second, those of the 10 seconds before too. By the time that
/// really passed; ten more at the ends.
fn always_allowed(real_time: &SystemClock) -> u64 {
    10 * (real_time.now().elapsed.as_secs() + 10) + 10
}

#[tokio::test]
async fn a_store_in_trouble_is_asked_no_more_than_its_retry_budget_allows() {
    const CALLS: u64 = 500;
    let world = World::new();
    let node = world.start_with(|settings, _| settings.log.tail_interval = secs(3600)).await;
    node.faults.add(Rule::on(Operation::EntryRead, Fault::Refuse));
    let real_time = SystemClock::start();
    let before = node.counts().entry_reads;
    for at in 0..CALLS {
        assert_unavailable(node.lookup(lookup(&entry(&format!("{at}")))).await);
    }
    let reads = node.counts().entry_reads - before;
    // One repetition for each call, of the start too.
    let allowed = 2 * CALLS + always_allowed(&real_time);
    assert!((CALLS + 1..=allowed).contains(&reads), "{reads} reads for {CALLS} calls, {allowed} allowed");
    node.faults.clear();
    assert!(node.lookup(lookup(&entry("0"))).await.is_ok(), "when the trouble is over, it is over");
}

/// "Surely nothing was applied", and then what was applied is in the way.
#[tokio::test]
async fn an_upload_whose_outcome_is_unknown_says_so() {
    let world = World::new();
    let node = world.start().await;
    let render = node.grant(&entry("news")).await;
    node.faults.add(Rule::on(Operation::Put, Fault::TimeOutAfter));
    let status = node.upload(upload_parts(&render, v1::BodyKind::Html, b"one")).await.unwrap_err();
    node.faults.clear();
    let again = node.upload(upload_parts(&render, v1::BodyKind::Html, b"two")).await;
    assert!(
        refusal(&status).reason != "STORE_UNAVAILABLE" || again.is_ok(),
        "surely nothing was applied, but: {:?}",
        again.map_err(|status| refusal(&status).reason)
    );
}

#[tokio::test]
async fn an_upload_that_may_be_stored_is_of_unknown_outcome_also_where_it_cannot_be_looked_at() {
    let world = World::new();
    let node = world.start().await;
    let render = node.grant(&entry("news")).await;
    node.faults.add(Rule::on(Operation::Put, Fault::TimeOutAfter).nth(1));
    node.faults.add(Rule::on(Operation::Info, Fault::Refuse));
    assert_unknown(node.upload(upload_parts(&render, v1::BodyKind::Html, b"one")).await);
}

#[tokio::test]
async fn a_write_of_unknown_outcome_is_repeated_a_few_times_only() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let before = node.counts().swaps;
    node.faults.add(Rule::on(Operation::Swap, Fault::TimeOutBefore));
    assert_unknown(node.acquire(acquire(&page)).await);
    let swaps = node.counts().swaps - before;
    assert!((2..=4).contains(&swaps), "{swaps} swaps for one call");
}

/// Also where it is the writes alone that fail.
#[tokio::test]
async fn writes_are_repeated_within_the_budget_too() {
    const CALLS: u64 = 300;
    let world = World::new();
    let node = world.start_with(|settings, _| settings.log.tail_interval = secs(3600)).await;
    node.faults.add(Rule::on(Operation::Swap, Fault::Refuse));
    let real_time = SystemClock::start();
    let before = node.counts().swaps;
    for at in 0..CALLS {
        assert_unavailable(node.acquire(acquire(&entry(&format!("{at}")))).await);
    }
    let swaps = node.counts().swaps - before;
    // Each call reads, which lets one be repeated, and swaps, which lets another.
    let allowed = 3 * CALLS + always_allowed(&real_time);
    assert!((CALLS + 1..=allowed).contains(&swaps), "{swaps} swaps for {CALLS} calls, {allowed} allowed");
}
