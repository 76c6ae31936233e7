//! Bodies that their worker named, and that are read back by these names.

use crate::harness::*;
use leasehold_core::{
    identity::TenantId,
    named::GivenName,
    object::{ObjectName, ObjectPrefix},
};
use leasehold_service::settings::Settings;
use leasehold_store::port::ObjectMeta;
use v1::{
    MissingReason, commit_pointer_response::Outcome as Committed, invalidation_scope::Scope,
    upload_body_response::Outcome as Uploaded,
};

const HTML: &str = "isr/0123456789abcdef01234567/1767225600123-a.html";
const SIDECAR: &str = "isr/0123456789abcdef01234567/1767225600123-a.hydration.json";

fn named(source: Option<v1::BodySource>, name: &str) -> Option<v1::BodySource> {
    source.map(|source| v1::BodySource { object_name: name.to_owned(), ..source })
}

/// A page and its sidecar, called by one stem.
fn page_as(render: &Render, stem: &str, html: &str, metadata: v1::PageMetadata) -> v1::CommitPointerRequest {
    v1::CommitPointerRequest {
        html: named(inline(html.to_owned()), &format!("{stem}.html")),
        sidecar: named(inline(sidecar_of(html)), &format!("{stem}.hydration.json")),
        ..render.page_with(html, metadata)
    }
}

fn sidecar_of(html: &str) -> String {
    format!("{{{html}}}")
}

/// Where it is stored.
fn stored_as(name: &str) -> ObjectName {
    let tenant = TenantId::parse(TENANT).expect("a tenant");
    GivenName::of_any_kind(name).expect("a name").stored(&ObjectPrefix::default(), &tenant)
}

impl Coordinator {
    async fn object_of(&self, tenant: &str, name: &str) -> Result<(v1::ObjectHead, Vec<u8>), Status> {
        self.object_by(serve_object(tenant, name)).await
    }

    async fn object_by(&self, request: v1::ServeObjectRequest) -> Result<(v1::ObjectHead, Vec<u8>), Status> {
        use tokio_stream::StreamExt as _;
        use v1::serve_object_response::Part;
        let mut parts = soon(self.client().serve_object(request)).await?.into_inner();
        let (mut head, mut body) = (None, Vec::new());
        while let Some(part) = soon(parts.next()).await {
            match part?.part.expect("a part") {
                Part::Head(first) => assert!(head.replace(first).is_none(), "the head came twice"),
                Part::Chunk(chunk) => body.extend_from_slice(&chunk),
            }
        }
        Ok((head.expect("a head"), body))
    }

    /// The bytes of an object of the usual tenant; `None` where there is none.
    async fn object(&self, name: &str) -> Option<String> {
        match self.object_of(TENANT, name).await {
            Ok((_, body)) => Some(String::from_utf8(body).expect("text")),
            Err(status) => {
                assert_refused(Err::<(), _>(status), Code::NotFound, "OBJECT_NOT_FOUND");
                None
            }
        }
    }

    /// What the current page calls its bodies.
    async fn names(&self, entry: &v1::EntryRef) -> (String, String) {
        let response = self.lookup(lookup_strictly(entry)).await.expect("a lookup");
        let page = page_of(&response);
        (page.html_object_name.clone(), page.sidecar_object_name.clone())
    }

    /// Renders and commits a page and its sidecar, called by one stem.
    async fn publish_as(&self, entry: &v1::EntryRef, stem: &str, html: &str, names: &[&str]) -> Render {
        let render = self.grant(entry).await;
        let metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..tagged(names) };
        self.commit_fresh(page_as(&render, stem, html, metadata)).await;
        render
    }
}

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

fn name_upload(parts: &mut [v1::UploadBodyRequest], name: &str) {
    let Some(v1::upload_body_request::Part::Head(head)) = &mut parts[0].part else { panic!("no head") };
    name.clone_into(&mut head.object_name);
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

impl World {
    /// Whether a body is stored under a name, whether it can be read or not.
    async fn is_stored(&self, name: &str) -> bool {
        self.stores().objects.info(&stored_as(name)).await.unwrap().is_some()
    }
}

impl Render {
    fn upload_as(&self, kind: v1::BodyKind, name: &str) -> Vec<v1::UploadBodyRequest> {
        let mut parts = upload_parts(self, kind, name.as_bytes());
        name_upload(&mut parts, name);
        parts
    }
}

const SHORT_GRACE: Duration = ms(50);

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
