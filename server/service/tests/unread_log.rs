//! A coordinator that cannot read the invalidation log, or was long in answering, calls nothing fresh.

use crate::harness::*;
use leasehold_proto::v1::coordinator_service_client::CoordinatorServiceClient;
use leasehold_service::settings::Settings;
use tonic::{Response, transport::Channel};
use v1::{
    MissingReason, StaleReason, acquire_lease_response::Outcome as Acquired,
    commit_pointer_response::Outcome as Committed,
};

#[tokio::test]
async fn while_the_log_cannot_be_read_nothing_is_fresh_stale_pages_are_served_and_purged_ones_are_not() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| settings.rules.staleness_bound = secs(2)).await;
    let (page, purged) = (entry("page"), entry("purged"));
    let generation = node.publish(&page, "html").await;
    node.publish_with(&purged, "html", tagged(&["t"])).await;
    node.invalidate(purge([tag("t")])).await.unwrap();
    node.faults.add(Rule::on(Operation::HeadRead, Fault::Refuse));
    world.clock.step(ms(1900));
    assert_eq!(node.seen(&page).await, Seen::Fresh(generation), "within the staleness bound");
    world.clock.step(ms(200));
    let unverified = Seen::Stale(generation, StaleReason::Unverified);
    assert_eq!(node.seen(&page).await, unverified);
    assert_eq!(node.page(serve(&page)).await.unwrap().1, b"html");
    assert_eq!(node.seen(&purged).await, Seen::Missing(MissingReason::Purged));
    let strict = node.lookup(lookup_strictly(&page)).await;
    let refused = refusal(&assert_refused(strict, Code::Unavailable, "STORE_UNAVAILABLE"));
    assert!(refused.has_retry_info);
    // Rendering goes on, but its pages cannot be called fresh either.
    let render = node.grant(&page).await;
    node.commit(render.page("newer")).await.unwrap();
    assert_eq!(node.seen(&page).await, Seen::Stale(render.generation(), StaleReason::Unverified));
    node.faults.clear();
    until(async || node.seen(&page).await == Seen::Fresh(render.generation())).await;
    assert_eq!(node.seen(&purged).await, Seen::Missing(MissingReason::Purged));
}

#[tokio::test]
async fn what_was_invalidated_while_the_log_could_not_be_read_is_never_fresh_afterwards() {
    let world = World::new();
    let bounded = |settings: &mut Settings| {
        settings.reread_interval = Some(ms(50));
        settings.rules.staleness_bound = secs(2);
    };
    let one = world.start_with(|settings, _| bounded(settings)).await;
    let cut_off = world.start_with(|settings, _| bounded(settings)).await;
    let page = entry("news");
    let generation = one.publish_with(&page, "html", tagged(&["t"])).await;
    assert_eq!(cut_off.seen(&page).await, Seen::Fresh(generation));
    cut_off.faults.add(Rule::on(Operation::HeadRead, Fault::Refuse));
    one.invalidate(invalidation([tag("t")])).await.unwrap();
    world.clock.step(secs(3));
    assert_eq!(cut_off.seen(&page).await, Seen::Stale(generation, StaleReason::Unverified));
    cut_off.faults.clear();
    let mut was_fresh = false;
    until(async || {
        let seen = cut_off.seen(&page).await;
        was_fresh |= seen.is_fresh();
        seen == Seen::Stale(generation, StaleReason::Invalidated)
    })
    .await;
    assert!(!was_fresh);
}

/// An append that takes its time must not look like a log that cannot be read.
#[tokio::test]
async fn an_append_under_way_does_not_keep_the_log_from_being_read() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.rules.staleness_bound = secs(2)).await;
    let page = entry("news");
    let generation = node.publish(&page, "html").await;
    let appends = node.faults.hold(Operation::Append);
    let (mut client, request) = (node.client(), invalidation([tag("unrelated")]));
    let appending = tokio::spawn(async move { client.invalidate(request).await });
    appends.arrived(1).await;
    world.clock.step(secs(3));
    until(async || node.seen(&page).await == Seen::Fresh(generation)).await;
    // Also one that another coordinator appended meanwhile is seen, and takes the position.
    world.start().await.invalidate(invalidation([tag("other")])).await.unwrap();
    until(async || node.engine.stats().log_position.0 == 1).await;
    appends.open();
    soon(appending).await.unwrap().unwrap();
    assert_eq!(node.engine.stats().log_position.0, 2);
}

/// Otherwise every request would render the page while the log cannot be read.
#[tokio::test]
async fn while_the_log_cannot_be_read_a_page_is_rendered_once_per_staleness_bound() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| settings.rules.staleness_bound = secs(2)).await;
    let page = entry("news");
    node.publish(&page, "html").await;
    node.faults.add(Rule::on(Operation::HeadRead, Fault::Refuse));
    world.clock.step(secs(3));
    let render = node.grant(&page).await;
    node.commit(render.page("newer")).await.unwrap();
    for _ in 0..3 {
        let Acquired::Ready(ready) = node.acquire(acquire(&page)).await.unwrap() else { panic!("not ready") };
        let Some(v1::page_ready::Page::Stale(stale)) = ready.page else { panic!("not stale") };
        assert_eq!(stale.reason(), StaleReason::Unverified);
        world.clock.step(ms(600));
    }
    world.clock.step(ms(200));
    assert_eq!(node.grant(&page).await.generation(), render.generation() + 1);
}

/// While the log cannot be read, a page whose render takes longer than the staleness bound is rendered for every request.
#[tokio::test]
async fn a_page_that_was_just_committed_is_not_rendered_again_for_want_of_the_log() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.rules.staleness_bound = secs(2)).await;
    let page = entry("news");
    node.publish(&page, "html").await;
    cut_off_from_the_log(&node).await;
    world.clock.step(secs(10));
    let render = node.grant(&page).await;
    world.clock.step(secs(3));
    let committed = node.commit(render.page("html 2")).await.unwrap();
    assert!(matches!(committed, Committed::Committed(_)));
    let took = node.took(acquire(&page)).await;
    assert!(!matches!(took, Took::Granted { .. }), "{took:?}: as unverified as the one before");
}

/// From here on it does not know what happens.
async fn cut_off_from_the_log(node: &Coordinator) {
    node.faults.add(Rule::on(Operation::HeadRead, Fault::Refuse));
    let before = node.counts().head_reads;
    // One may have been under way.
    until(async || node.counts().head_reads > before + 1).await;
}

/// A page with the tag `t`, and a coordinator with a staleness bound of 2 s whose answer about it is held up in the store.
struct SlowAnswer<T> {
    world: World,
    writer: Coordinator,
    node: Coordinator,
    gate: Gate,
    answer: tokio::task::JoinHandle<Result<T, Status>>,
}

impl<T: Send + 'static> SlowAnswer<T> {
    /// `ask` stays in `operation` until the gate is opened.
    async fn held_in<F>(
        operation: Operation,
        ask: impl FnOnce(CoordinatorServiceClient<Channel>, v1::EntryRef) -> F,
    ) -> Self
    where
        F: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let world = World::new();
        let writer = world.start().await;
        let page = entry("news");
        writer.publish_with(&page, "html", tagged(&["t"])).await;
        let node = world.start_with(|settings, _| settings.rules.staleness_bound = secs(2)).await;
        let gate = node.faults.hold(operation);
        let answer = tokio::spawn(ask(node.client(), page));
        soon(gate.arrived(1)).await;
        Self { world, writer, node, gate, answer }
    }

    /// While it waits, the log cannot be read any more, and a second later somebody invalidates the page elsewhere and is
    /// told so. The store answers four times the bound after that.
    async fn invalidated_unheard(self) -> T {
        cut_off_from_the_log(&self.node).await;
        self.world.clock.step(secs(1));
        self.writer.invalidate(invalidation([tag("t")])).await.unwrap();
        self.world.clock.step(secs(8));
        self.gate.open();
        soon(self.answer).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn an_answer_that_took_longer_than_the_staleness_bound_is_not_fresh() {
    let slow = SlowAnswer::held_in(Operation::EntryRead, |mut client, page| async move {
        client.lookup(lookup(&page)).await.map(Response::into_inner)
    });
    let answer = slow.await.invalidated_unheard().await;
    assert!(!seen(&answer).is_fresh(), "{:?}, 8 s after the invalidation was acknowledged", seen(&answer));
}

#[tokio::test]
async fn an_acquire_that_took_longer_than_the_staleness_bound_is_not_ready_as_fresh() {
    let slow = SlowAnswer::held_in(Operation::EntryRead, |mut client, page| async move {
        client.acquire_lease(acquire(&page)).await.map(Response::into_inner)
    });
    let took = Took::of(&slow.await.invalidated_unheard().await.outcome.unwrap());
    assert!(!matches!(took, Took::Fresh(_)), "{took:?}, 8 s after the invalidation was acknowledged");
}

#[tokio::test]
async fn a_page_that_is_purged_while_its_body_is_read_is_not_served() {
    let slow = SlowAnswer::held_in(Operation::Get, |mut client, page| async move {
        client.lookup(lookup_with_body(&page)).await.map(Response::into_inner)
    });
    let SlowAnswer { world, writer, node, gate, answer } = slow.await;
    // The log can be read here all the time, and is.
    let token = writer.invalidate(purge([tag("t")])).await.unwrap();
    let seen_here = node.seen_by(lookup_as_of(&entry("news"), &token)).await;
    assert_eq!(seen_here, Seen::Missing(MissingReason::Purged));
    world.clock.step(secs(4));
    gate.open();
    let answer = soon(answer).await.unwrap().unwrap();
    assert!(!seen(&answer).is_fresh(), "{:?}, 4 s after the purge was read here", seen(&answer));
}
