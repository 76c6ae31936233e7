//! Bodies that are gone, and bodies that are to go.

use crate::harness::*;
use leasehold_core::object::ObjectName;
use v1::{MissingReason, commit_pointer_response::Outcome as Committed};

async fn is_stored(world: &World, name: &str) -> bool {
    let name = ObjectName::parse(name).expect("a name");
    world.stores().objects.info(&name).await.expect("a store").is_some()
}

async fn delete(world: &World, name: &str) {
    let name = ObjectName::parse(name).expect("a name");
    world.stores().objects.delete(&[name]).await.expect("a store");
}

/// Its clock stands, so that nothing is deleted before the test says so.
async fn with_grace(world: &World) -> Coordinator {
    world.clock.stand_still();
    world.start_with(|settings, _| settings.deletion_grace = ms(50)).await
}

async fn publish_with_sidecar(node: &Coordinator, page: &v1::EntryRef, html: &str) -> Render {
    let render = node.grant(page).await;
    let metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..Default::default() };
    let commit = v1::CommitPointerRequest {
        sidecar: inline(format!("{{{html}}}")),
        ..render.page_with(html, metadata)
    };
    node.commit_fresh(commit).await;
    render
}

#[tokio::test]
async fn a_page_whose_body_is_gone_is_missing_and_rendered_again() {
    let world = World::new();
    let writer = world.start().await;
    let page = entry("news");
    let render = writer.grant(&page).await;
    writer.commit_fresh(render.page("html")).await;
    delete(&world, &render.grant.html_object).await;
    let node = world.start().await;
    let response = node.lookup(lookup_with_body(&page)).await.unwrap();
    assert_eq!(seen(&response), Seen::Missing(MissingReason::BodyGone));
    assert_eq!(node.seen(&page).await, Seen::Missing(MissingReason::BodyGone));
    let status = assert_refused(node.page(serve(&page)).await, Code::NotFound, "PAGE_NOT_FOUND");
    assert_eq!(metadata(&status, "cause").as_deref(), Some("BODY_GONE"));
    // A repetition of its commit still gets a truthful answer.
    node.commit_fresh(render.page("html")).await;
    let again = node.grant(&page).await;
    assert_eq!(again.grant.previous, None);
    // The same bytes as before: known, but not there.
    node.commit_fresh(again.page("html")).await;
    assert_eq!(world.start().await.page(serve(&page)).await.unwrap().1, b"html");
    assert_eq!(node.seen(&page).await, Seen::Fresh(again.generation()));
}

#[tokio::test]
async fn a_page_whose_body_is_gone_is_found_out_also_by_whoever_streams_it_or_acquires() {
    let world = World::new();
    let writer = world.start().await;
    for key in ["streamed", "acquired"] {
        let page = entry(key);
        let render = writer.grant(&page).await;
        writer.commit_fresh(render.page("html")).await;
        delete(&world, &render.grant.html_object).await;
        let node = world.start().await;
        let mut request = acquire(&page);
        if key == "streamed" {
            assert_refused(node.page(serve(&page)).await, Code::NotFound, "PAGE_NOT_FOUND");
        } else {
            // Whoever finds out is granted the lease.
            request.body = v1::BodyDelivery::Inline.into();
        }
        let took = node.took(request).await;
        assert_eq!(took, Took::Granted { generation: render.generation() + 1, previous: None }, "{key}");
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_not_taken_for_gone() {
    let world = World::new();
    let page = entry("news");
    let generation = world.start().await.publish(&page, "html").await;
    let node = world.start().await;
    node.faults.add(Rule::on(Operation::Get, Fault::Refuse));
    assert_refused(node.lookup(lookup_with_body(&page)).await, Code::Unavailable, "STORE_UNAVAILABLE");
    node.faults.clear();
    let response = node.lookup(lookup_with_body(&page)).await.unwrap();
    assert_eq!(seen(&response), Seen::Fresh(generation));
    assert_eq!(html_of(page_of(&response)), Some("html"));
}

#[tokio::test]
async fn a_body_that_is_rotten_counts_as_gone() {
    let world = World::new();
    let page = entry("news");
    let generation = world.start().await.publish(&page, "html").await;
    let node = world.start().await;
    node.faults.add(Rule::on(Operation::Get, Fault::Corrupt));
    let response = node.lookup(lookup_with_body(&page)).await.unwrap();
    assert_eq!(seen(&response), Seen::Missing(MissingReason::BodyGone));
    node.faults.clear();
    let again = node.grant(&page).await;
    assert_eq!(again.generation(), generation + 1);
    node.commit_fresh(again.page("html")).await;
    assert_eq!(node.page(serve(&page)).await.unwrap().1, b"html");
}

/// Its digest says that nothing has changed, and so it would be named again, and never be there.
#[tokio::test]
async fn an_unchanged_body_that_is_not_there_any_more_is_stored_again() {
    let world = World::new();
    let page = entry("news");
    let node = world.start().await;
    let first = publish_with_sidecar(&node, &page, "same").await;
    for object in [&first.grant.html_object, &first.grant.sidecar_object] {
        delete(&world, object).await;
        let again = publish_with_sidecar(&node, &page, "same").await;
        let cold = world.start().await;
        assert_eq!(cold.page(serve(&page)).await.unwrap().1, b"same");
        let token = page_of(&cold.lookup(lookup(&page)).await.unwrap()).sidecar_token.clone();
        assert_eq!(cold.sidecar(&page, &token).await.unwrap().1, b"{same}", "{again:?}");
    }
}

#[tokio::test]
async fn an_unchanged_body_that_is_found_missing_in_mid_commit_is_stored_again() {
    let world = World::new();
    let page = entry("news");
    let node = world.start().await;
    let first = publish_with_sidecar(&node, &page, "same").await;
    let render = node.grant(&page).await;
    let swaps = node.faults.hold(Operation::Swap);
    let (mut client, commit) = (node.client(), render.page("same"));
    let committing = tokio::spawn(async move { client.commit_pointer(commit).await });
    swaps.arrived(1).await;
    delete(&world, &first.grant.html_object).await;
    let other = world.start().await;
    assert_refused(other.page(serve(&page)).await, Code::NotFound, "PAGE_NOT_FOUND");
    swaps.open();
    let outcome = soon(committing).await.unwrap().unwrap().into_inner().outcome;
    assert!(matches!(outcome, Some(Committed::Committed(_))), "{outcome:?}");
    assert_eq!(world.start().await.page(serve(&page)).await.unwrap().1, b"same");
    assert!(is_stored(&world, &render.grant.html_object).await);
}

#[tokio::test]
async fn purged_bodies_are_deleted_without_grace_once_they_are_replaced() {
    let world = World::new();
    let node = with_grace(&world).await;
    let page = entry("news");
    let superseded = publish_with_sidecar(&node, &page, "superseded").await;
    let purged = publish_with_sidecar(&node, &page, "purged").await;
    node.invalidate(purge([key_scope("news")])).await.unwrap();
    publish_with_sidecar(&node, &page, "new").await;
    until(async || node.engine.stats().pending_deletions == 2).await;
    for object in [&purged.grant.html_object, &purged.grant.sidecar_object] {
        assert!(!is_stored(&world, object).await);
    }
    for object in [&superseded.grant.html_object, &superseded.grant.sidecar_object] {
        assert!(is_stored(&world, object).await);
    }
}

#[tokio::test]
async fn superseded_bodies_are_deleted_after_the_grace_period_and_the_current_ones_never() {
    let world = World::new();
    let node = with_grace(&world).await;
    let page = entry("news");
    let first = publish_with_sidecar(&node, &page, "first").await;
    let second = publish_with_sidecar(&node, &page, "second").await;
    assert_eq!(node.engine.stats().pending_deletions, 2);
    let before = node.counts().deletes;
    world.clock.step(ms(49));
    node.seen(&page).await;
    for object in [&first.grant.html_object, &first.grant.sidecar_object] {
        assert!(is_stored(&world, object).await);
    }
    assert_eq!(node.counts().deletes, before);
    world.clock.step(ms(1));
    until(async || node.engine.stats().pending_deletions == 0).await;
    for object in [&first.grant.html_object, &first.grant.sidecar_object] {
        assert!(!is_stored(&world, object).await);
    }
    for object in [&second.grant.html_object, &second.grant.sidecar_object] {
        assert!(is_stored(&world, object).await);
    }
    let token = first.grant.sidecar_token;
    assert_refused(node.sidecar(&page, &token).await, Code::NotFound, "SIDECAR_NOT_FOUND");
}

/// A browser that has had the page open for a while.
#[tokio::test]
async fn the_sidecar_of_a_page_is_served_for_the_grace_however_often_the_page_changes() {
    let world = World::new();
    let node = with_grace(&world).await;
    let page = entry("news");
    let old = publish_with_sidecar(&node, &page, "old").await;
    for n in 1..=5 {
        publish_with_sidecar(&node, &page, &n.to_string()).await;
    }
    let other = world.start().await;
    for node in [&node, &other] {
        assert_eq!(node.sidecar(&page, &old.grant.sidecar_token).await.unwrap().1, b"{old}");
    }
    world.clock.step(ms(50));
    until(async || !is_stored(&world, &old.grant.sidecar_object).await).await;
    let refused = node.sidecar(&page, &old.grant.sidecar_token).await;
    assert_refused(refused, Code::NotFound, "SIDECAR_NOT_FOUND");
}

/// The page that it reads is superseded and deleted before its first byte.
#[tokio::test]
async fn a_reader_that_the_cleaner_overtakes_is_given_the_page_that_came_after() {
    let world = World::new();
    let node = with_grace(&world).await;
    let page = entry("news");
    publish_with_sidecar(&node, &page, "old").await;
    let reader = world.start_one_of_many().await;
    let gate = reader.faults.hold(Operation::Get);
    let reading = {
        let (mut client, request) = (reader.client(), lookup_with_body(&page));
        tokio::spawn(async move { client.lookup(request).await.map(tonic::Response::into_inner) })
    };
    soon(gate.arrived(1)).await;
    publish_with_sidecar(&node, &page, "new").await;
    world.clock.step(ms(50));
    until(async || node.engine.stats().pending_deletions == 0).await;
    gate.open();
    let read = soon(reading).await.unwrap().unwrap();
    assert_eq!(html_of(page_of(&read)), Some("new"));
}

/// Whoever was told nothing may still be applied.
#[tokio::test]
async fn the_bodies_of_a_commit_of_unknown_outcome_are_there_when_it_lands() {
    let world = World::new();
    let node = with_grace(&world).await;
    let page = entry("news");
    let render = node.grant(&page).await;
    let late = Gate::new();
    node.faults.add(Rule::on(Operation::Swap, Fault::ApplyLater(late.clone())).nth(1));
    node.faults.add(Rule::on(Operation::Swap, Fault::Refuse));
    node.faults.add(Rule::on(Operation::EntryRead, Fault::Refuse));
    let unknown = node.commit(render.page("html")).await;
    assert_refused(unknown, Code::Unavailable, "OUTCOME_UNKNOWN");
    node.faults.clear();
    world.clock.step(secs(3600));
    publish_with_sidecar(&node, &entry("other"), "one").await;
    let other = publish_with_sidecar(&node, &entry("other"), "two").await;
    world.clock.step(secs(3600));
    until(async || node.engine.stats().pending_deletions == 0).await;
    assert!(is_stored(&world, &other.grant.html_object).await);
    late.open();
    soon(late.applied(1)).await;
    let served = world.start().await.page(serve(&page)).await.unwrap();
    assert_eq!(served.1, b"html");
}

#[tokio::test]
async fn a_body_that_the_next_page_shares_is_kept_however_long() {
    let world = World::new();
    let node = with_grace(&world).await;
    let page = entry("news");
    let first = publish_with_sidecar(&node, &page, "same").await;
    for _ in 0..3 {
        publish_with_sidecar(&node, &page, "same").await;
    }
    let other = publish_with_sidecar(&node, &entry("other"), "one").await;
    publish_with_sidecar(&node, &entry("other"), "two").await;
    world.clock.step(secs(3600));
    // Whatever was to be deleted before it has been.
    until(async || !is_stored(&world, &other.grant.html_object).await).await;
    until(async || node.engine.stats().pending_deletions == 0).await;
    assert!(is_stored(&world, &first.grant.html_object).await);
    assert!(is_stored(&world, &first.grant.sidecar_object).await);
    assert_eq!(world.start().await.page(serve(&page)).await.unwrap().1, b"same");
}

#[tokio::test]
async fn what_was_uploaded_under_a_lease_that_cannot_commit_any_more_is_deleted() {
    let world = World::new();
    let node = with_grace(&world).await;
    let upload = async |render: &Render| {
        node.upload(upload_parts(render, v1::BodyKind::Html, b"late")).await.unwrap();
        assert!(is_stored(&world, &render.grant.html_object).await);
    };
    let (fenced, released) = (entry("fenced"), entry("released"));
    let slow = node.grant(&fenced).await;
    upload(&slow).await;
    world.clock.step(secs(11));
    // Expired, but it may still commit: its upload stays.
    assert_eq!(node.engine.stats().pending_deletions, 0);
    let next = node.grant(&fenced).await;
    node.commit_fresh(next.page("html")).await;
    let html = stored(sha256(b"late"), 4);
    let outcome = node.commit(v1::CommitPointerRequest { html, ..slow.page("") }).await.unwrap();
    assert!(matches!(outcome, Committed::Superseded(_)), "{outcome:?}");
    let unused = node.grant(&released).await;
    upload(&unused).await;
    node.release(unused.release()).await.unwrap();
    world.clock.step(ms(50));
    for object in [&slow.grant.html_object, &unused.grant.html_object] {
        until(async || !is_stored(&world, object).await).await;
    }
    assert!(is_stored(&world, &next.grant.html_object).await);
    assert_eq!(node.page(serve(&fenced)).await.unwrap().1, b"html");
}
