//! What may be called by a name, and what is found by it.

use super::*;

#[tokio::test]
async fn bodies_are_read_back_by_their_names_and_through_their_entry() {
    let world = World::new();
    let (one, other) = (world.start().await, world.start().await);
    let page = entry("news");
    let render = one.grant(&page).await;
    let commit = page_as(&render, HTML.strip_suffix(".html").unwrap(), "html", tagged(&["t"]));
    let token = one.commit_fresh(commit).await.sidecar_token;
    for node in [&one, &other] {
        let (head, body) = node.object_of(TENANT, HTML).await.unwrap();
        assert_eq!(body, b"html");
        assert_eq!(
            head,
            v1::ObjectHead {
                content_type: "text/html; charset=utf-8".to_owned(),
                size_bytes: 4,
                kind: v1::BodyKind::Html.into(),
                digest: sha256(b"html"),
            }
        );
        let (head, body) = node.object_of(TENANT, SIDECAR).await.unwrap();
        assert_eq!(body, b"{html}");
        assert_eq!((head.content_type.as_str(), head.kind()), ("application/json", v1::BodyKind::Sidecar));
        assert_eq!(node.names(&page).await, (HTML.to_owned(), SIDECAR.to_owned()));
        assert_eq!(node.page(serve(&page)).await.unwrap().1, b"html");
        assert_eq!(node.sidecar(&page, &token).await.unwrap().1, b"{html}");
    }
    // One of the two may be left to the coordinator.
    let render = one.grant(&entry("half")).await;
    let half = v1::CommitPointerRequest {
        sidecar: named(inline("{}"), "half.hydration.json"),
        ..render.page("unnamed")
    };
    one.commit_fresh(half).await;
    assert_eq!(one.names(&entry("half")).await, (String::new(), "half.hydration.json".to_owned()));
}

#[tokio::test]
async fn whatever_is_not_there_is_refused_alike() {
    let world = World::new();
    let node = world.start().await;
    let render = node.grant(&entry("unnamed")).await;
    node.commit_fresh(render.page("html")).await;
    node.publish_as(&entry("news"), "a", "html", &[]).await;
    let stored = stored_as("a.html");
    for (tenant, name) in [
        (TENANT, ""),
        (TENANT, "a"),
        (TENANT, "/a.html"),
        (TENANT, "../a.html"),
        (TENANT, "a.html\n"),
        (TENANT, "b.html"),
        (TENANT, "A.html"),
        (TENANT, "a.named.html"),
        (TENANT, stored.as_str()),
        // That of a body which the coordinator named.
        (TENANT, &render.grant.html_object),
        (TENANT, &format!("../../{}", render.grant.html_object)),
        (TENANT, &"x".repeat(100_000)),
        ("other", "a.html"),
        ("", "a.html"),
    ] {
        let refused = node.object_of(tenant, name).await;
        let status = assert_refused(refused, Code::NotFound, "OBJECT_NOT_FOUND");
        assert_eq!(status.message(), "no such object", "{tenant} {name}");
        assert!(metadata(&status, "object").is_none());
    }
    let refused = node.object_of(" ", "a.html").await;
    assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
}

/// What two entries shared would be deleted with either, and purged with neither.
#[tokio::test]
async fn a_name_is_one_leases_alone() {
    let world = World::new();
    let (one, other) = (world.start().await, world.start().await);
    one.publish_as(&entry("first"), "a", "html", &[]).await;
    for (node, key) in [(&one, "second"), (&other, "third")] {
        let render = node.grant(&entry(key)).await;
        for html in ["html", "other"] {
            let refused = node.commit(page_as(&render, "a", html, v1::PageMetadata::default())).await;
            let status = assert_refused(refused, Code::FailedPrecondition, "OBJECT_CONFLICT");
            let object = metadata(&status, "object").unwrap();
            assert!(object.contains("by-name/") && object.contains("/a.named."), "{object}");
        }
        let mut parts = upload_parts(&render, v1::BodyKind::Html, b"html");
        name_upload(&mut parts, "a.html");
        assert_refused(node.upload(parts).await, Code::FailedPrecondition, "OBJECT_CONFLICT");
        // Nor as one that is there already.
        let html = named(stored(sha256(b"html"), 4), "a.html");
        let refused = node.commit(v1::CommitPointerRequest { html, ..render.page("") }).await;
        assert_refused(refused, Code::FailedPrecondition, "OBJECT_CONFLICT");
        // The lease is none the worse for it.
        node.commit_fresh(page_as(&render, key, "html", v1::PageMetadata::default())).await;
    }
    // Another render of the same entry is another lease.
    let render = one.grant(&entry("first")).await;
    let refused = one.commit(page_as(&render, "a", "newer", v1::PageMetadata::default())).await;
    assert_refused(refused, Code::FailedPrecondition, "OBJECT_CONFLICT");
    assert_eq!(one.object("a.html").await.as_deref(), Some("html"));
    // Another tenant's is another name.
    let foreign = entry_of("other", "", "first");
    let render = one.grant(&foreign).await;
    one.commit_fresh(page_as(&render, "a", "theirs", v1::PageMetadata::default())).await;
    assert_eq!(one.object_of("other", "a.html").await.unwrap().1, b"theirs");
    assert_eq!(one.object("a.html").await.as_deref(), Some("html"));
}

#[tokio::test]
async fn a_name_is_taken_also_where_its_body_is_deleted_while_it_is_looked_at() {
    let world = World::new();
    let node = world.start().await;
    node.publish_as(&entry("first"), "a", "html", &[]).await;
    let render = node.grant(&entry("second")).await;
    let gate = node.faults.hold(Operation::Info);
    let (refused, ()) =
        tokio::join!(node.commit(page_as(&render, "a", "other", v1::PageMetadata::default())), async {
            soon(gate.arrived(1)).await;
            world
                .stores()
                .objects
                .delete(&[stored_as("a.html"), stored_as("a.hydration.json")])
                .await
                .unwrap();
            gate.open();
        });
    assert_refused(refused, Code::FailedPrecondition, "OBJECT_CONFLICT");
}

#[tokio::test]
async fn a_repeated_commit_finds_its_bodies() {
    let world = World::new();
    let (one, other) = (world.start().await, world.start().await);
    let page = entry("news");
    let render = one.grant(&page).await;
    let commit = page_as(&render, "a", "html", v1::PageMetadata::default());
    // Both bodies stored, and then nothing swapped.
    one.faults.add(Rule::on(Operation::Swap, Fault::Refuse));
    assert_refused(one.commit(commit.clone()).await, Code::Unavailable, "STORE_UNAVAILABLE");
    one.faults.clear();
    let before = other.counts();
    for node in [&other, &one, &other] {
        node.commit_fresh(commit.clone()).await;
    }
    assert_eq!(other.counts().since(before).swaps, 1);
    assert_eq!(other.names(&page).await, ("a.html".to_owned(), "a.hydration.json".to_owned()));
}

/// Who gave a name would else look for its body in vain.
#[tokio::test]
async fn a_commit_is_told_which_names_its_bodies_have() {
    let world = World::new();
    let (node, other) = (world.start().await, world.start().await);
    let page = entry("news");
    let both = |stem: &str| (format!("{stem}.html"), format!("{stem}.hydration.json"));
    let told = async |stem: &str, html: &str, invalidated: bool| {
        let render = node.grant(&page).await;
        let metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..tagged(&["t"]) };
        let commit = page_as(&render, stem, html, metadata);
        if invalidated {
            node.invalidate(invalidation([tag("t")])).await.unwrap();
        }
        let mut told = Vec::new();
        // Also by a repetition, and through another coordinator.
        for node in [&node, &node, &other] {
            told.push(match node.commit(commit.clone()).await.unwrap() {
                Committed::Committed(page) => (page.html_object_name, page.sidecar_object_name),
                Committed::CommittedStale(page) => (page.html_object_name, page.sidecar_object_name),
                late => panic!("{late:?}"),
            });
        }
        assert!(told.iter().all(|names| *names == told[0]), "{told:?}");
        told.swap_remove(0)
    };
    assert_eq!(told("a", "same", false).await, both("a"));
    assert_eq!(told("b", "same", false).await, both("a"), "kept");
    assert_eq!(told("c", "same", true).await, both("a"), "kept, and stale");
    assert_eq!(told("d", "other", true).await, both("d"));
    let render = node.grant(&page).await;
    let unnamed = node.commit(render.page("unnamed")).await.unwrap();
    let names = match unnamed {
        Committed::Committed(page) => (page.html_object_name, page.sidecar_object_name),
        late => panic!("{late:?}"),
    };
    assert_eq!(names, (String::new(), String::new()));
}

/// Two deployments of the coordinator share a table by mistake, or one was given another prefix.
#[tokio::test]
async fn no_name_is_told_by_which_the_body_cannot_be_read_here() {
    let world = World::new();
    let blue = ObjectPrefix::parse("blue").unwrap();
    let blue = world.start_with(|settings, _| settings.object_prefix = blue).await;
    let node = world.start().await;
    let page = entry("news");
    blue.publish_as(&page, "a", "same", &[]).await;
    assert_eq!(blue.names(&page).await.0, "a.html");
    assert_eq!(node.names(&page).await, (String::new(), String::new()));
    assert_eq!(node.object("a.html").await, None);
    let told = node.commit_fresh(page_as(&node.grant(&page).await, "b", "same", tagged(&[]))).await;
    assert_eq!((&*told.html_object_name, &*told.sidecar_object_name), ("b.html", "b.hydration.json"));
    assert_eq!(node.object("b.html").await.as_deref(), Some("same"));
}

/// It would not know that it is purged by them.
#[tokio::test]
async fn a_named_body_is_not_committed_with_other_tags_than_it_was_stored_with() {
    let world = World::new();
    let (node, other) = (world.start().await, world.start().await);
    let render = node.grant(&entry("news")).await;
    let with_tags = |names: &[&str]| v1::CommitPointerRequest {
        html: named(inline("html"), "a.html"),
        ..render.page_with("", tagged(names))
    };
    node.faults.add(Rule::on(Operation::Swap, Fault::Refuse));
    assert_refused(node.commit(with_tags(&["a"])).await, Code::Unavailable, "STORE_UNAVAILABLE");
    node.faults.clear();
    let many: Vec<String> = (0..64).map(|at| format!("{at:0>40}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let source = named(stored(sha256(b"html"), 4), "a.html");
    for node in [&node, &other] {
        for request in [
            with_tags(&["b"]),
            with_tags(&many),
            v1::CommitPointerRequest { html: source.clone(), ..with_tags(&["b"]) },
        ] {
            assert_refused(node.commit(request).await, Code::FailedPrecondition, "OBJECT_CONFLICT");
        }
    }
    other.commit_fresh(v1::CommitPointerRequest { html: source, ..with_tags(&["a"]) }).await;
}

/// Nobody is to do so; but a page must never be served with another one's body.
#[tokio::test]
async fn a_name_that_is_used_again_after_its_body_was_deleted_brings_no_old_body_back() {
    let world = World::new();
    let (one, other) = (world.start_one_of_many().await, world.start_one_of_many().await);
    let page = entry("news");
    one.publish_as(&page, "a", "old", &[]).await;
    assert_eq!(other.page(serve(&page)).await.unwrap().1, b"old");
    one.publish_as(&page, "b", "between", &[]).await;
    for name in ["a.html", "a.hydration.json"] {
        world.stores().objects.delete(&[stored_as(name)]).await.unwrap();
    }
    // A third one, which remembers nothing of it.
    let third = world.start_one_of_many().await;
    third.publish_as(&page, "a", "new", &[]).await;
    assert_eq!(other.names(&page).await.0, "a.html");
    assert_eq!(other.page(serve(&page)).await.unwrap().1, b"new");
    let response = other.lookup(lookup_with_body(&page)).await.unwrap();
    assert_eq!(html_of(page_of(&response)), Some("new"));
    let token = page_of(&response).sidecar_token.clone();
    assert_eq!(other.sidecar(&page, &token).await.unwrap().1, b"{new}");
}

#[tokio::test]
async fn a_body_that_does_not_say_whose_it_is_is_not_served_by_its_name() {
    let world = World::new();
    let node = world.start().await;
    let meta = ObjectMeta { content_type: "text/html".to_owned(), attributes: Vec::new() };
    let digest = leasehold_core::page::Digest(sha256(b"html").to_vec().try_into().unwrap());
    let objects = world.stores().objects;
    objects.put(&stored_as("a.html"), "html".into(), digest, &meta).await.unwrap();
    assert_eq!(node.object("a.html").await, None);
    let render = node.grant(&entry("news")).await;
    let refused = node.commit(page_as(&render, "a", "html", v1::PageMetadata::default())).await;
    assert_refused(refused, Code::FailedPrecondition, "OBJECT_CONFLICT");
}

#[tokio::test]
async fn a_page_whose_named_body_is_gone_is_rendered_again_under_another_name() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    node.publish_as(&page, "a", "html", &[]).await;
    world.stores().objects.delete(&[stored_as("a.html")]).await.unwrap();
    let node = world.start().await;
    assert_eq!(node.object("a.html").await, None);
    let status = assert_refused(node.page(serve(&page)).await, Code::NotFound, "PAGE_NOT_FOUND");
    assert_eq!(metadata(&status, "cause").as_deref(), Some("BODY_GONE"));
    assert_eq!(node.seen(&page).await, Seen::Missing(MissingReason::BodyGone));
    // The same bytes as before: known, but not there.
    node.publish_as(&page, "b", "html", &[]).await;
    assert_eq!(node.object("b.html").await.as_deref(), Some("html"));
    assert_eq!(node.names(&page).await.0, "b.html");
}

/// As any warm hit.
#[tokio::test]
async fn a_named_body_that_is_in_memory_costs_no_store_anything() {
    let world = World::new();
    let node = world.start().await;
    let before = node.counts();
    node.publish_as(&entry("news"), "a", "html", &["t"]).await;
    let used = node.counts().since(before);
    assert_eq!((used.swaps, used.puts, used.gets, used.infos), (2, 2, 0, 0), "nor more to store it");
    let before = node.counts();
    for name in ["a.html", "a.hydration.json"] {
        node.object(name).await.expect("served");
    }
    let used = node.counts().since(before);
    assert_eq!((used.gets, used.infos, used.entry_reads), (0, 0, 0));
}

/// Of many small bodies they are the most of it.
#[tokio::test]
async fn bodies_in_memory_are_weighed_with_their_names_and_what_is_written_on_them() {
    let world = World::new();
    let node = world.start().await;
    let before = node.engine.stats().body_bytes;
    node.publish_as(&entry(&"k".repeat(900)), &"n".repeat(480), "x", &[]).await;
    let bytes = node.engine.stats().body_bytes - before;
    assert!(bytes > 2 * (900 + 480 + 256), "{bytes}");
}

/// It remembers the body that had the name before.
#[tokio::test]
async fn a_commit_is_repeated_on_a_coordinator_that_remembers_another_body_of_its_name() {
    let world = World::new();
    let (one, other) = (world.start_one_of_many().await, world.start_one_of_many().await);
    let page = entry("news");
    one.publish_as(&page, "a", "old", &[]).await;
    assert_eq!(other.object("a.html").await.as_deref(), Some("old"));
    assert_eq!(other.object("a.hydration.json").await.as_deref(), Some("{old}"));
    one.publish_as(&page, "b", "between", &[]).await;
    for name in ["a.html", "a.hydration.json"] {
        world.stores().objects.delete(&[stored_as(name)]).await.unwrap();
    }
    let third = world.start_one_of_many().await;
    let render = third.grant(&page).await;
    let commit = page_as(&render, "a", "new", v1::PageMetadata::default());
    third.faults.add(Rule::on(Operation::Swap, Fault::Refuse));
    assert_refused(third.commit(commit.clone()).await, Code::Unavailable, "STORE_UNAVAILABLE");
    other.lookup(lookup_strictly(&page)).await.unwrap();
    other.commit_fresh(commit).await;
    assert_eq!(other.page(serve(&page)).await.unwrap().1, b"new");
}

#[tokio::test]
async fn a_changed_body_is_stored_without_a_look_at_the_one_before() {
    let world = World::new();
    let node = world.start().await;
    node.publish_as(&entry("news"), "a", "old", &["t"]).await;
    node.invalidate(purge([tag("t")])).await.unwrap();
    let cold = world.start().await;
    let render = cold.grant(&entry("news")).await;
    let before = cold.counts();
    cold.commit_fresh(page_as(&render, "b", "changed", tagged(&["t"]))).await;
    let used = cold.counts().since(before);
    assert_eq!((used.gets, used.infos, used.puts), (0, 0, 2));
}

/// Of what is gone, anybody may ask.
#[tokio::test]
async fn names_of_what_is_gone_hide_no_body_that_another_coordinator_commits() {
    let world = World::new();
    // Nothing is read again for its age, and all of this is in one interval.
    world.clock.stand_still();
    let (one, other) = (world.start_one_of_many().await, world.start_one_of_many().await);
    let page = entry("news");
    one.publish_as(&page, "a", "old", &["t"]).await;
    let gone = page_of(&one.lookup(lookup(&page)).await.unwrap()).sidecar_token.clone();
    one.publish_as(&page, "b", "newer", &["t"]).await;
    for stem in ["c", "d"] {
        world.clock.step(ms(1));
        let render = one.grant(&page).await;
        let (html, sidecar) = (format!("{stem}.html"), format!("{stem}.hydration.json"));
        one.upload(render.upload_as(v1::BodyKind::Html, &html)).await.unwrap();
        one.upload(render.upload_as(v1::BodyKind::Sidecar, &sidecar)).await.unwrap();
        let purged = one.invalidate(purge([tag("t")])).await.unwrap();
        other.seen_by(lookup_as_of(&page, &purged)).await;
        assert_eq!(other.object("a.html").await, None);
        assert_refused(other.sidecar(&page, &gone).await, Code::NotFound, "SIDECAR_NOT_FOUND");
        let uploaded = |name: &str| named(stored(sha256(name.as_bytes()), name.len() as u64), name);
        let commit = v1::CommitPointerRequest {
            html: uploaded(&html),
            sidecar: uploaded(&sidecar),
            ..render.page_with("", v1::PageMetadata { revalidate: Some(wire(ms(0))), ..tagged(&["u"]) })
        };
        let applied = one.commit_fresh(commit).await;
        assert_eq!(other.object(&html).await.as_deref(), Some(&*html));
        assert_eq!(other.object(&sidecar).await.as_deref(), Some(&*sidecar));
        let served = other.sidecar(&page, &applied.sidecar_token).await.unwrap().1;
        assert_eq!(served, sidecar.as_bytes());
    }
}
