//! When what was stored under a name is deleted again.

use super::*;

const SHORT_GRACE: Duration = ms(50);

/// Who granted the lease learns that it was overtaken only once the bodies are stored: no page names them, and they go.
#[tokio::test]
async fn bodies_of_a_fenced_or_superseded_commit_are_named_by_no_page_and_go() {
    let world = World::new();
    world.clock.stand_still();
    let one = world.start_with(|settings, _| settings.deletion_grace = ms(50)).await;
    let other = world.start().await;
    let page = entry("news");
    let late = one.grant(&page).await;
    world.clock.step(secs(60));
    let next = other.grant(&page).await;
    let commit = page_as(&late, "late", "late", v1::PageMetadata::default());
    let there = async || [one.object("late.html").await, one.object("late.hydration.json").await];
    let fenced = other.commit(commit.clone()).await.unwrap();
    assert!(matches!(fenced, Committed::Fenced(_)), "{fenced:?}");
    assert_eq!(there().await, [None, None]);
    let fenced = one.commit(commit.clone()).await.unwrap();
    assert!(matches!(fenced, Committed::Fenced(_)), "{fenced:?}");
    assert_eq!(one.seen(&page).await, Seen::Missing(MissingReason::NeverRendered));
    // Nor can the lease that overtook it take them for its own.
    let refused = one.commit(page_as(&next, "late", "late", v1::PageMetadata::default())).await;
    assert_refused(refused, Code::FailedPrecondition, "OBJECT_CONFLICT");
    world.clock.step(ms(60));
    until(async || there().await == [None, None]).await;
    other.commit_fresh(page_as(&next, "next", "newer", v1::PageMetadata::default())).await;
    for node in [&one, &other] {
        let superseded = node.commit(commit.clone()).await.unwrap();
        assert!(matches!(superseded, Committed::Superseded(_)), "{superseded:?}");
        assert_eq!(node.names(&page).await.0, "next.html");
    }
    world.clock.step(ms(60));
    until(async || there().await == [None, None]).await;
}

#[tokio::test]
async fn superseded_bodies_are_there_until_their_grace_is_over() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| settings.deletion_grace = ms(50)).await;
    let page = entry("news");
    node.publish_as(&page, "a", "old", &[]).await;
    let token = page_of(&node.lookup(lookup(&page)).await.unwrap()).sidecar_token.clone();
    node.publish_as(&page, "b", "new", &[]).await;
    assert_eq!(node.object("a.html").await.as_deref(), Some("old"));
    assert_eq!(node.object("a.hydration.json").await.as_deref(), Some("{old}"));
    assert_eq!(node.sidecar(&page, &token).await.unwrap().1, b"{old}");
    // Its token is not another entry's, who reads the same names.
    let refused = node.sidecar(&entry("other"), &token).await;
    assert_refused(refused, Code::NotFound, "SIDECAR_NOT_FOUND");
    let refused = node.sidecar(&entry_of("other", "", "news"), &token).await;
    assert_refused(refused, Code::NotFound, "SIDECAR_NOT_FOUND");
    world.clock.step(ms(60));
    until(async || node.object("a.html").await.is_none()).await;
    assert_eq!(node.object("a.hydration.json").await, None);
    assert_refused(node.sidecar(&page, &token).await, Code::NotFound, "SIDECAR_NOT_FOUND");
    assert_eq!(node.object("b.html").await.as_deref(), Some("new"));
}

/// As those do that the coordinator named.
#[tokio::test]
async fn what_was_uploaded_under_names_goes_with_its_lease() {
    for end in ["overtaken", "given back", "failed"] {
        let world = World::new();
        world.clock.stand_still();
        let node = world.start_with(|settings, _| settings.deletion_grace = SHORT_GRACE).await;
        let render = node.grant(&entry("news")).await;
        let named = [(v1::BodyKind::Html, "a.html"), (v1::BodyKind::Sidecar, "a.hydration.json")];
        for (kind, name) in named {
            node.upload(render.upload_as(kind, name)).await.unwrap();
        }
        match end {
            "overtaken" => {
                world.clock.step(secs(60));
                let next = node.grant(&entry("news")).await;
                node.commit_fresh(next.page("other")).await;
            }
            "given back" => drop(node.release(render.release()).await.unwrap()),
            _ => drop(node.release(render.failure("it rains")).await.unwrap()),
        }
        world.clock.step(SHORT_GRACE + ms(10));
        for (_, name) in named {
            until(async || !world.is_stored(name).await).await;
        }
    }
}

/// By another coordinator, of which this one hears nothing.
#[tokio::test]
async fn what_was_uploaded_under_a_name_goes_also_where_another_coordinator_ended_its_lease() {
    let world = World::new();
    world.clock.stand_still();
    let one = world.start_with(|settings, _| settings.deletion_grace = SHORT_GRACE).await;
    let other = world.start().await;
    let (late, kept, leased) =
        (one.grant(&entry("late")).await, one.grant(&entry("kept")).await, one.grant(&entry("leased")).await);
    for (render, name) in [(&late, "late.html"), (&kept, "kept.html"), (&leased, "leased.html")] {
        one.upload(render.upload_as(v1::BodyKind::Html, name)).await.unwrap();
    }
    let html = named(stored(sha256(b"kept.html"), 9), "kept.html");
    other.commit_fresh(v1::CommitPointerRequest { html, ..kept.page("") }).await;
    world.clock.step(secs(24 * 60 * 60));
    let next = other.grant(&entry("late")).await;
    other.commit_fresh(next.page("other")).await;
    // Whatever is stored under a name has it look at what is due.
    let render = one.grant(&entry("elsewhere")).await;
    one.upload(render.upload_as(v1::BodyKind::Html, "elsewhere.html")).await.unwrap();
    until(async || one.engine.stats().pending_deletions == 1).await;
    world.clock.step(SHORT_GRACE + ms(10));
    until(async || !world.is_stored("late.html").await).await;
    assert_eq!(other.object("kept.html").await.as_deref(), Some("kept.html"), "current");
    let html = named(stored(sha256(b"leased.html"), 11), "leased.html");
    one.commit_fresh(v1::CommitPointerRequest { html, ..leased.page("") }).await;
    assert_eq!(one.object("leased.html").await.as_deref(), Some("leased.html"), "late, and not overtaken");
}

/// The first ones may be those that were committed, as far as whoever repeats it knows.
#[tokio::test]
async fn a_commit_that_is_repeated_under_other_names_leaves_nothing_under_the_first() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| settings.deletion_grace = SHORT_GRACE).await;
    let render = node.grant(&entry("news")).await;
    let commit = |stem: &str| page_as(&render, stem, "html", v1::PageMetadata::default());
    node.faults.add(Rule::on(Operation::Swap, Fault::Refuse));
    for stem in ["first", "second", "third", "fourth"] {
        assert_refused(node.commit(commit(stem)).await, Code::Unavailable, "STORE_UNAVAILABLE");
    }
    let refused = node.commit(commit("fifth")).await;
    let status = assert_refused(refused, Code::FailedPrecondition, "OBJECT_CONFLICT");
    assert!(status.message().contains("under another name already"), "{}", status.message());
    assert!(!world.is_stored("fifth.html").await && !world.is_stored("fifth.hydration.json").await);
    node.faults.clear();
    node.commit_fresh(commit("second")).await;
    world.clock.step(SHORT_GRACE + ms(10));
    for stem in ["first", "third", "fourth"] {
        for ending in [".html", ".hydration.json"] {
            until(async || !world.is_stored(&format!("{stem}{ending}")).await).await;
        }
    }
    assert_eq!(node.object("second.html").await.as_deref(), Some("html"));
    assert_eq!(node.object("second.hydration.json").await.as_deref(), Some("{html}"));
}

#[tokio::test]
async fn a_lease_uploads_a_body_of_a_kind_under_one_name() {
    let world = World::new();
    let node = world.start().await;
    let render = node.grant(&entry("news")).await;
    let html = render.upload_as(v1::BodyKind::Html, "a.html");
    let sidecar = render.upload_as(v1::BodyKind::Sidecar, "b.hydration.json");
    for parts in [&html, &html, &sidecar, &html] {
        let uploaded = node.upload(parts.clone()).await.unwrap();
        assert!(matches!(uploaded, Uploaded::Uploaded(_)), "{uploaded:?}");
    }
    for (kind, name) in [(v1::BodyKind::Html, "b.html"), (v1::BodyKind::Sidecar, "a.hydration.json")] {
        let refused = node.upload(render.upload_as(kind, name)).await;
        let status = assert_refused(refused, Code::FailedPrecondition, "OBJECT_CONFLICT");
        assert!(status.message().contains("under another name already"), "{}", status.message());
        assert!(!world.is_stored(name).await);
    }
    // Another render is another lease.
    let other = node.grant(&entry("other")).await;
    node.upload(other.upload_as(v1::BodyKind::Html, "b.html")).await.unwrap();
}

/// What was refused is another's, and stays.
#[tokio::test]
async fn a_name_that_another_lease_has_taken_is_not_deleted_with_the_one_that_asked_for_it() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| settings.deletion_grace = SHORT_GRACE).await;
    node.publish_as(&entry("first"), "a", "html", &[]).await;
    let render = node.grant(&entry("second")).await;
    for request in
        [render.upload_as(v1::BodyKind::Html, "a.html"), render.upload_as(v1::BodyKind::Html, "own.html")]
    {
        drop(node.upload(request).await);
    }
    drop(node.commit(page_as(&render, "a", "html", v1::PageMetadata::default())).await);
    node.release(render.release()).await.unwrap();
    world.clock.step(SHORT_GRACE + ms(10));
    until(async || !world.is_stored("own.html").await).await;
    assert!(world.is_stored("a.html").await && world.is_stored("a.hydration.json").await);
}

/// The worker hears that it may be stored, and gives up.
#[tokio::test]
async fn what_may_have_been_stored_under_a_name_goes_with_its_lease() {
    // The coordinator's own name, a worker's, and a worker's that the store takes only once the lease has ended.
    for (name, is_late) in [("", false), ("a.html", false), ("a.html", true)] {
        let world = World::new();
        world.clock.stand_still();
        let node = world.start_with(|settings, _| settings.deletion_grace = SHORT_GRACE).await;
        let render = node.grant(&entry("news")).await;
        let gate = Gate::new();
        let lost = if is_late { Fault::ApplyLater(gate.clone()) } else { Fault::TimeOutAfter };
        node.faults.add(Rule::on(Operation::Put, lost).nth(1));
        node.faults.add(Rule::on(Operation::Put, Fault::Refuse));
        let refused = node.upload(render.upload_as(v1::BodyKind::Html, name)).await;
        assert_refused(refused, Code::Unavailable, "OUTCOME_UNKNOWN");
        node.faults.clear();
        let object = match name {
            "" => ObjectName::parse(&render.grant.html_object).unwrap(),
            name => stored_as(name),
        };
        let is_stored = async || world.stores().objects.info(&object).await.unwrap().is_some();
        assert_eq!(is_stored().await, !is_late);
        node.release(render.release()).await.unwrap();
        if is_late {
            gate.open();
            soon(gate.applied(1)).await;
            assert!(is_stored().await);
        }
        world.clock.step(SHORT_GRACE + ms(10));
        until(async || !is_stored().await).await;
    }
}

/// Its deadline, or itself: nobody hears of the store's answer.
#[tokio::test]
async fn what_is_stored_under_a_name_while_its_caller_goes_away_goes_with_its_lease() {
    for has_deadline in [true, false] {
        let world = World::new();
        world.clock.stand_still();
        let node = world
            .start_with(|settings, _| {
                settings.deletion_grace = SHORT_GRACE;
                settings.limits.uploads = 1;
            })
            .await;
        let (render, other) = (node.grant(&entry("news")).await, node.grant(&entry("other")).await);
        let gate = Gate::new();
        node.faults.add(Rule::on(Operation::Put, Fault::HoldAnswer(gate.clone())).nth(1));
        let parts = render.upload_as(v1::BodyKind::Html, "a.html");
        let mut client = node.client();
        if has_deadline {
            let mut request = Request::new(tokio_stream::iter(parts));
            request.set_timeout(secs(1));
            assert!(soon(client.upload_body(request)).await.is_err());
        } else {
            let uploading =
                tokio::spawn(async move { client.upload_body(tokio_stream::iter(parts)).await.map(drop) });
            soon(gate.arrived(1)).await;
            uploading.abort();
        }
        // There is a place again once it is given up.
        until(async || node.upload(other.upload_as(v1::BodyKind::Html, "b.html")).await.is_ok()).await;
        assert!(world.is_stored("a.html").await, "{has_deadline}");
        node.release(render.release()).await.unwrap();
        world.clock.step(SHORT_GRACE + ms(10));
        until(async || !world.is_stored("a.html").await).await;
        assert!(world.is_stored("b.html").await, "its lease lives on");
    }
}

/// It was not stored after all, and the name was free.
#[tokio::test]
async fn a_name_that_another_lease_took_meanwhile_is_not_deleted_with_one_that_may_have_stored_it() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| settings.deletion_grace = SHORT_GRACE).await;
    let render = node.grant(&entry("first")).await;
    node.upload(render.upload_as(v1::BodyKind::Sidecar, "own.hydration.json")).await.unwrap();
    node.faults.add(Rule::on(Operation::Put, Fault::TimeOutBefore));
    let refused = node.upload(render.upload_as(v1::BodyKind::Html, "a.html")).await;
    assert_refused(refused, Code::Unavailable, "OUTCOME_UNKNOWN");
    node.faults.clear();
    node.publish_as(&entry("second"), "a", "theirs", &[]).await;
    // While nobody can be asked whose it is, nothing is deleted.
    node.faults.add(Rule::on(Operation::Get, Fault::Refuse));
    node.release(render.release()).await.unwrap();
    world.clock.step(SHORT_GRACE + ms(10));
    until(async || !world.is_stored("own.hydration.json").await).await;
    assert!(world.is_stored("a.html").await);
    node.faults.clear();
    world.clock.step(secs(60));
    until(async || node.engine.stats().pending_deletions == 0).await;
    assert_eq!(node.object("a.html").await.as_deref(), Some("theirs"));
    assert!(world.is_stored("a.html").await);
}

/// Else a worker could leave as many behind as it likes.
#[tokio::test]
async fn a_name_that_may_be_taken_counts_as_taken_and_one_that_is_not_does_not() {
    let world = World::new();
    let node = world.start().await;
    let render = node.grant(&entry("news")).await;
    let upload = async |name: &str| {
        let kind = if name.ends_with(".html") { v1::BodyKind::Html } else { v1::BodyKind::Sidecar };
        node.upload(render.upload_as(kind, name)).await
    };
    let refused_for_another = |refused: Result<Uploaded, Status>| {
        let status = assert_refused(refused, Code::FailedPrecondition, "OBJECT_CONFLICT");
        assert!(status.message().contains("under another name already"), "{}", status.message());
    };
    let is_uploaded = |uploaded: Result<Uploaded, Status>| matches!(uploaded, Ok(Uploaded::Uploaded(_)));
    node.faults.add(Rule::on(Operation::Put, Fault::Refuse));
    assert_refused(upload("a.html").await, Code::Unavailable, "STORE_UNAVAILABLE");
    node.faults.clear();
    // While it is on its way.
    let gate = node.faults.hold(Operation::Put);
    let second = async {
        soon(gate.arrived(1)).await;
        refused_for_another(upload("c.html").await);
        gate.open();
    };
    let (first, ()) = tokio::join!(upload("b.html"), second);
    assert!(is_uploaded(first));
    node.faults.clear();
    // And when nobody knows what became of it.
    node.faults.add(Rule::on(Operation::Put, Fault::TimeOutBefore));
    assert_refused(upload("a.hydration.json").await, Code::Unavailable, "OUTCOME_UNKNOWN");
    node.faults.clear();
    refused_for_another(upload("b.hydration.json").await);
    assert!(is_uploaded(upload("a.hydration.json").await));
}
