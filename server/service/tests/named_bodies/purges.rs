//! What a purge takes away with a named body, and what it leaves.

use super::*;

#[tokio::test]
async fn a_purge_that_reaches_their_page_takes_them_away_also_when_it_is_superseded() {
    let scopes: [(Scope, bool); 9] = [
        (Scope::Tag("t".to_owned()), true),
        (Scope::Tag("u".to_owned()), false),
        (Scope::Key("news".to_owned()), true),
        (Scope::Key("other".to_owned()), false),
        (Scope::PathPrefix("/blog".to_owned()), true),
        (Scope::PathPrefix("/shop".to_owned()), false),
        (Scope::Deployment("blue".to_owned()), true),
        (Scope::Deployment("green".to_owned()), false),
        (Scope::WholeTenant(v1::WholeTenant {}), true),
    ];
    for superseded in [false, true] {
        for (scope, reaches) in scopes.clone() {
            let world = World::new();
            let (one, other) = (world.start().await, world.start().await);
            let page = v1::EntryRef { path: "/blog/1".to_owned(), ..entry_of(TENANT, "blue", "news") };
            one.publish_as(&page, "a", "html", &["t"]).await;
            let token = page_of(&one.lookup(lookup(&page)).await.unwrap()).sidecar_token.clone();
            if superseded {
                let plain = v1::EntryRef { path: "/elsewhere".to_owned(), ..page.clone() };
                one.publish_as(&plain, "b", "newer", &["v"]).await;
            }
            other.object("a.html").await.expect("not purged yet");
            one.invalidate(invalidation([crate::harness::scope(scope.clone())])).await.unwrap();
            assert!(one.object("a.html").await.is_some(), "softly: {scope:?}");
            let purged = one.invalidate(purge([crate::harness::scope(scope.clone())])).await.unwrap();
            other.seen_by(lookup_as_of(&page, &purged)).await;
            for node in [&one, &other] {
                let told = [node.object("a.html").await, node.object("a.hydration.json").await];
                assert_eq!(told.map(|body| body.is_some()), [!reaches; 2], "{superseded} {scope:?}");
                assert_eq!(node.sidecar(&page, &token).await.is_ok(), !reaches, "{superseded} {scope:?}");
            }
        }
    }
}

/// Served by its name, it is purged by what is written on it.
#[tokio::test]
async fn an_unchanged_body_keeps_its_name_unless_another_purge_would_reach_it() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let published = async |stem: &str, names: &[&str]| {
        node.publish_as(&page, stem, "same", names).await;
        node.names(&page).await
    };
    let both = |stem: &str| (format!("{stem}.html"), format!("{stem}.hydration.json"));
    assert_eq!(published("a", &["t"]).await, both("a"));
    assert_eq!(published("b", &["t"]).await, both("a"));
    assert_eq!((node.object("a.html").await.is_some(), node.object("b.html").await), (true, None));
    assert_eq!(published("c", &["u"]).await, both("c"), "of another tag");
    node.invalidate(purge([tag("u")])).await.unwrap();
    assert_eq!(published("d", &["u"]).await, both("d"), "after a purge");
    assert_eq!(node.object("d.html").await.as_deref(), Some("same"));
    assert_eq!(published("e", &["u"]).await, both("d"));
    // One that the coordinator named cannot be read by a name, and the other way about.
    let render = node.grant(&page).await;
    let metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..tagged(&["u"]) };
    let unnamed = v1::CommitPointerRequest {
        sidecar: inline(sidecar_of("same")),
        ..render.page_with("same", metadata)
    };
    node.commit_fresh(unnamed).await;
    assert_eq!(node.names(&page).await, (String::new(), String::new()));
    assert_eq!(published("f", &["u"]).await, both("f"));
}

#[tokio::test]
async fn a_body_that_was_uploaded_under_a_name_is_in_doubt_only_once_it_is_superseded() {
    let world = World::new();
    let (node, other) = (world.start().await, world.start().await);
    let page = entry("news");
    for html in ["one", "two"] {
        // The other one committed the page before.
        node.lookup(lookup_strictly(&page)).await.unwrap();
        let render = node.grant(&page).await;
        let mut parts = upload_parts(&render, v1::BodyKind::Html, html.as_bytes());
        name_upload(&mut parts, &format!("{html}.html"));
        let Uploaded::Uploaded(body) = node.upload(parts.clone()).await.unwrap() else {
            panic!("not stored")
        };
        assert_eq!(other.upload(parts).await.unwrap(), Uploaded::Uploaded(body.clone()), "repeated");
        let source = stored(body.digest.clone(), body.size_bytes);
        // Under the grant's name there is nothing.
        let unnamed = v1::CommitPointerRequest { html: source.clone(), ..render.page("") };
        assert_refused(other.commit(unnamed).await, Code::FailedPrecondition, "OBJECT_MISSING");
        let metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..tagged(&[html]) };
        let html = named(source, &format!("{html}.html"));
        other.commit_fresh(v1::CommitPointerRequest { html, ..render.page_with("", metadata) }).await;
    }
    let there = async || (node.object("one.html").await.is_some(), node.object("two.html").await.is_some());
    node.lookup(lookup_strictly(&page)).await.unwrap();
    assert_eq!(there().await, (true, true));
    node.invalidate(purge([key_scope("other")])).await.unwrap();
    assert_eq!(there().await, (true, true));
    node.invalidate(purge([tag("another")])).await.unwrap();
    assert_eq!(there().await, (false, true), "what is current is judged by its pointer");
    node.invalidate(purge([tag("two")])).await.unwrap();
    assert_eq!(there().await, (false, false));
}

/// One that remembers the page before would else refuse what the other says is current.
#[tokio::test]
async fn a_body_in_doubt_is_served_by_a_coordinator_that_has_not_heard_of_its_commit() {
    let world = World::new();
    // Nothing is read again for its age.
    world.clock.stand_still();
    let (one, other) = (world.start_one_of_many().await, world.start_one_of_many().await);
    let page = entry("news");
    one.publish_as(&page, "a", "old", &[]).await;
    other.lookup(lookup(&page)).await.unwrap();
    let render = one.grant(&page).await;
    let mut parts = upload_parts(&render, v1::BodyKind::Html, b"new");
    name_upload(&mut parts, "b.html");
    one.upload(parts).await.unwrap();
    let purged = one.invalidate(purge([tag("unrelated")])).await.unwrap();
    other.seen_by(lookup_as_of(&entry("elsewhere"), &purged)).await;
    assert_eq!(other.object("b.html").await, None, "not committed yet");
    let html = named(stored(sha256(b"new"), 3), "b.html");
    one.commit_fresh(v1::CommitPointerRequest { html, ..render.page("") }).await;
    // It has asked a moment ago.
    world.clock.step(ms(60));
    other.faults.add(Rule::on(Operation::EntryRead, Fault::Refuse));
    for _ in 0..2 {
        let unknown = other.object_of(TENANT, "b.html").await;
        assert_refused(unknown, Code::Unavailable, "STORE_UNAVAILABLE");
    }
    other.faults.clear();
    assert_eq!(other.object("b.html").await.as_deref(), Some("new"));
}

/// Where there is no room for it, what is not written counts against the body.
#[tokio::test]
async fn a_body_of_a_page_with_too_long_a_key_or_too_many_tags_is_purged_when_in_doubt() {
    let world = World::new();
    let node = world.start().await;
    let many: Vec<String> = (0..64).map(|at| format!("{at:0>40}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "k".repeat(4096);
    node.publish_as(&entry(&long), "key", "html", &[]).await;
    node.publish_as(&entry("tags"), "tags", "html", &many).await;
    let there = async || (node.object("key.html").await.is_some(), node.object("tags.html").await.is_some());
    let elsewhere = scope_of("other", Scope::WholeTenant(v1::WholeTenant {}));
    node.invalidate(purge([elsewhere])).await.unwrap();
    assert_eq!(there().await, (true, true));
    node.publish_as(&entry("tags"), "tags again", "newer", &many).await;
    node.invalidate(purge([key_scope("other")])).await.unwrap();
    assert_eq!(there().await, (false, true));
    node.invalidate(purge([tag("other")])).await.unwrap();
    assert_eq!(there().await, (false, false));
    assert!(node.object("tags again.html").await.is_some(), "current");
    node.invalidate(purge([tag(many[63])])).await.unwrap();
    assert_eq!(node.object("tags again.html").await, None);
}

#[tokio::test]
async fn while_the_log_cannot_be_read_named_bodies_are_served_and_purged_ones_are_not() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| settings.rules.staleness_bound = secs(2)).await;
    node.publish_as(&entry("page"), "a", "html", &[]).await;
    node.publish_as(&entry("purged"), "b", "html", &["t"]).await;
    node.invalidate(purge([tag("t")])).await.unwrap();
    node.faults.add(Rule::on(Operation::HeadRead, Fault::Refuse));
    world.clock.step(secs(3));
    assert_eq!((node.object("a.html").await.is_some(), node.object("b.html").await), (true, None));
}

/// What its pointer says of a purge is said of the new body.
#[tokio::test]
async fn a_name_that_is_used_again_brings_no_purged_body_back() {
    let world = World::new();
    let (one, other) = (world.start_one_of_many().await, world.start_one_of_many().await);
    let page = entry("news");
    one.publish_as(&page, "a", "old", &["t"]).await;
    assert_eq!(other.object("a.html").await.as_deref(), Some("old"));
    one.publish_as(&page, "b", "between", &["t"]).await;
    for name in ["a.html", "a.hydration.json"] {
        world.stores().objects.delete(&[stored_as(name)]).await.unwrap();
    }
    let purged = one.invalidate(purge([tag("t")])).await.unwrap();
    other.seen_by(lookup_as_of(&page, &purged)).await;
    assert_eq!(other.object("a.html").await, None);
    let third = world.start_one_of_many().await;
    third.seen_by(lookup_as_of(&page, &purged)).await;
    third.publish_as(&page, "a", "new", &["t"]).await;
    other.lookup(lookup_strictly(&page)).await.unwrap();
    assert_eq!(other.object("a.html").await.as_deref(), Some("new"));
}

/// Nobody can tell which page it is of, so that its pointer cannot speak for it.
#[tokio::test]
async fn an_unchanged_body_with_too_long_a_key_has_a_new_name_once_anything_was_purged() {
    let world = World::new();
    let node = world.start().await;
    let page = entry(&"k".repeat(4096));
    let both = |stem: &str| (format!("{stem}.html"), format!("{stem}.hydration.json"));
    node.publish_as(&page, "a", "same", &["t"]).await;
    node.publish_as(&page, "b", "same", &["t"]).await;
    assert_eq!(node.names(&page).await, both("a"));
    node.invalidate(purge([tag("other")])).await.unwrap();
    assert_eq!(node.object("a.html").await, None, "in doubt");
    node.publish_as(&page, "c", "same", &["t"]).await;
    assert_eq!(node.names(&page).await, both("c"));
    assert_eq!(node.object("c.html").await.as_deref(), Some("same"));
    node.publish_as(&page, "d", "same", &["t"]).await;
    assert_eq!(node.names(&page).await, both("c"));
    assert_eq!(node.object("c.hydration.json").await.as_deref(), Some("{same}"));
}

/// Who asks for them without end must not be able to keep the store busy.
#[tokio::test]
async fn names_of_what_is_purged_or_was_never_there_cost_the_store_one_request_in_an_interval() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_one_of_many().await;
    let page = entry("news");
    node.publish_as(&page, "a", "old", &["t"]).await;
    node.publish_as(&page, "b", "new", &["t"]).await;
    node.invalidate(purge([tag("t")])).await.unwrap();
    for _ in 0..3 {
        let before = node.counts();
        for _ in 0..50 {
            assert_eq!(node.object("a.html").await, None);
            assert_eq!(node.object("nowhere.html").await, None);
        }
        let used = node.counts().since(before);
        assert_eq!((used.gets, used.infos), (1, 0), "of the one that is nowhere");
        assert!((1..=2).contains(&used.entry_reads), "as of the page and as of its name: {used:?}");
        world.clock.step(ms(60));
    }
    // A name that had no body finds the one that is stored here at once.
    assert_eq!(node.object("c.html").await, None);
    node.publish_as(&page, "c", "newer", &["t"]).await;
    assert_eq!(node.object("c.html").await.as_deref(), Some("newer"));
}

/// By its token as by its name.
#[tokio::test]
async fn a_sidecar_in_doubt_is_served_by_a_coordinator_that_has_not_heard_of_its_commit() {
    let world = World::new();
    // Nothing is read again for its age.
    world.clock.stand_still();
    let (one, other) = (world.start_one_of_many().await, world.start_one_of_many().await);
    for (key, name) in [("news", "b.hydration.json"), ("unnamed", "")] {
        let page = entry(key);
        one.publish_as(&page, key, "old", &[]).await;
        other.lookup(lookup(&page)).await.unwrap();
        let render = one.grant(&page).await;
        let mut parts = upload_parts(&render, v1::BodyKind::Sidecar, b"{}");
        name_upload(&mut parts, name);
        one.upload(parts).await.unwrap();
        let purged = one.invalidate(purge([tag("unrelated")])).await.unwrap();
        other.seen_by(lookup_as_of(&entry("elsewhere"), &purged)).await;
        let sidecar = named(stored(sha256(b"{}"), 2), name);
        let commit = v1::CommitPointerRequest { sidecar, ..render.page("new") };
        let token = one.commit_fresh(commit).await.sidecar_token;
        for node in [&one, &other] {
            assert_eq!(node.sidecar(&page, &token).await.unwrap().1, b"{}", "{name}");
        }
    }
}

/// It has not heard yet of the purge that the grant has seen.
#[tokio::test]
async fn a_coordinator_that_lags_behind_the_grant_keeps_no_purged_body() {
    // The log is read in time, or not.
    for is_slow in [false, true] {
        let world = World::new();
        let one = world.start_one_of_many().await;
        let other = world
            .start_with(|settings, _| {
                settings.reread_interval = Some(ms(50));
                settings.log.tail_interval = secs(3600);
            })
            .await;
        let page = entry("news");
        one.publish_as(&page, "a", "same", &["t"]).await;
        other.lookup(lookup(&page)).await.unwrap();
        one.invalidate(purge([tag("t")])).await.unwrap();
        let render = one.grant(&page).await;
        let gate = Gate::new();
        if is_slow {
            other.faults.add(Rule::on(Operation::HeadRead, Fault::Hold(gate.clone())));
        }
        let metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..tagged(&["t"]) };
        let applied = other.commit_fresh(page_as(&render, "b", "same", metadata)).await;
        gate.open();
        assert_eq!(applied.html_object_name, "b.html", "{is_slow}");
        assert_eq!(applied.sidecar_object_name, "b.hydration.json", "{is_slow}");
        // No purge has reached its page, and it is there for the grace.
        one.lookup(lookup_strictly(&page)).await.unwrap();
        one.publish_as(&page, "c", "newer", &["t"]).await;
        assert_eq!(one.object("b.html").await.as_deref(), Some("same"));
        assert_eq!(one.object("b.hydration.json").await.as_deref(), Some("{same}"));
    }
}

/// By its name as by its token.
#[tokio::test]
async fn a_body_is_not_served_as_of_a_purge_that_this_coordinator_has_not_heard_of() {
    for superseded in [false, true] {
        let world = World::new();
        let lag = |settings: &mut Settings| settings.log.tail_interval = secs(3600);
        let one = world.start().await;
        let (by_name, by_token) = (
            world.start_with(|settings, _| lag(settings)).await,
            world.start_with(|settings, _| lag(settings)).await,
        );
        let page = entry("news");
        one.publish_as(&page, "a", "html", &["t"]).await;
        let token = page_of(&one.lookup(lookup(&page)).await.unwrap()).sidecar_token.clone();
        if superseded {
            one.publish_as(&page, "b", "newer", &["u"]).await;
        }
        let purged = one.invalidate(purge([tag("t")])).await.unwrap();
        let beyond = "c1-2";
        assert_ne!(purged, beyond);
        let object_as_of = async |as_of: &str| {
            let request = serve_object(TENANT, "a.html");
            by_name.object_by(v1::ServeObjectRequest { consistency_token: as_of.to_owned(), ..request }).await
        };
        assert_eq!(object_as_of("").await.unwrap().1, b"html", "it lags, and nobody told it");
        assert_refused(object_as_of(&purged).await, Code::NotFound, "OBJECT_NOT_FOUND");
        assert_refused(object_as_of(beyond).await, Code::FailedPrecondition, "CONSISTENCY_TOKEN_UNKNOWN");
        let sidecar_as_of = async |as_of: &str| {
            let request = serve_sidecar(&page, &token);
            by_token
                .sidecar_by(v1::ServeSidecarRequest { consistency_token: as_of.to_owned(), ..request })
                .await
        };
        assert_eq!(sidecar_as_of("").await.unwrap().1, b"{html}", "it lags, and nobody told it");
        assert_refused(sidecar_as_of(&purged).await, Code::NotFound, "SIDECAR_NOT_FOUND");
        assert_refused(sidecar_as_of(beyond).await, Code::FailedPrecondition, "CONSISTENCY_TOKEN_UNKNOWN");
    }
}
