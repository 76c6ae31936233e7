//! The clauses, as a client sees them.

use super::coordinator::{Coordinator, entry, inline, request_id, sidecar_of};
use bytes::Bytes;
use leasehold_proto::v1::{
    self, acquire_lease_response::Outcome as Acquired, commit_pointer_response::Outcome as Committed,
    lookup_response::Outcome as Looked, upload_body_request::Part, upload_body_response::Outcome as Uploaded,
};
use leasehold_store::conformance::Fixture;
use std::{collections::HashSet, sync::Arc};
use tokio::task::JoinSet;
use tonic::Code;

async fn coordinator(fixture: &dyn Fixture) -> Coordinator {
    Coordinator::start(fixture.open().await).await
}

/// Of 32 rivals on two coordinators, one renders.
pub async fn of_many_acquires_at_once_exactly_one_is_granted(fixture: &dyn Fixture) {
    let nodes = [Arc::new(coordinator(fixture).await), Arc::new(coordinator(fixture).await)];
    for round in 0..8 {
        let mut rivals = JoinSet::new();
        for rival in 0..32 {
            let node = Arc::clone(&nodes[rival % 2]);
            rivals.spawn(async move {
                node.acquire(entry(&format!("contended-{round}")), &request_id()).await.expect("acquire")
            });
        }
        let outcomes = rivals.join_all().await;
        let granted = outcomes.iter().filter(|outcome| matches!(outcome, Acquired::Granted(_))).count();
        let held = outcomes.iter().filter(|outcome| matches!(outcome, Acquired::Held(_))).count();
        assert_eq!((granted, held), (1, 31));
    }
}

/// What one acknowledged, the other serves.
pub async fn an_acknowledged_commit_is_seen_through_any_coordinator(fixture: &dyn Fixture) {
    let (one, other) = (coordinator(fixture).await, coordinator(fixture).await);
    for round in 0..4 {
        let html = format!("<p>{round}</p>");
        let key = format!("page-{round}");
        assert!(matches!(other.look(entry(&key), "").await, Ok(Looked::Missing(_))));
        one.render(entry(&key), &html, &[]).await;
        assert_eq!(other.fresh(entry(&key)).await, (html.clone(), sidecar_of(&html)));
    }
}

/// Metadata and bodies come back as they were given.
pub async fn every_field_of_a_page_is_returned_as_it_was_committed(fixture: &dyn Fixture) {
    let node = coordinator(fixture).await;
    let pair = |name: &str, value: &str| v1::NameValue { name: name.into(), value: value.into() };
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 250_000_000 });
    let metadata = v1::PageMetadata {
        status: 404,
        content_type: "text/html; charset=iso-8859-1".into(),
        headers: vec![
            pair("content-security-policy", "default-src 'self'"),
            pair("x-a", "ä"),
            pair("x-a", ""),
        ],
        etag: "W/\"abc\"".into(),
        revalidate: seconds(3600),
        stale_while_revalidate: seconds(60),
        stale_if_error: seconds(86_400),
        tags: vec!["a".into(), "b#c".into(), "ü".into()],
        path: "/blog/ü".into(),
        render_time: seconds(1),
    };
    let (lease, _) = node.grant(entry("full")).await;
    let outcome =
        node.commit(entry("full"), lease.clone(), "<p>ü</p>", metadata.clone()).await.expect("commit");
    assert!(matches!(outcome, Committed::Committed(_)));
    let other = coordinator(fixture).await;
    let Ok(Looked::Fresh(fresh)) = other.look(entry("full"), "").await else {
        panic!("expected a fresh page")
    };
    let page = fresh.page.expect("a page");
    assert_eq!(page.metadata, Some(metadata));
    assert_eq!(page.generation, lease.generation);
    assert_eq!(page.body, Some(v1::page::Body::Inline(Bytes::from_static("<p>ü</p>".as_bytes()))));
}

/// Tenants, deployments and keys, with text that could run from one part into another.
pub async fn identities_that_differ_in_one_part_never_touch(fixture: &dyn Fixture) {
    let node = coordinator(fixture).await;
    let of = |tenant: &str, deployment: &str, key: &str| v1::EntryRef {
        tenant: tenant.into(),
        deployment: deployment.into(),
        ..entry(key)
    };
    let entries = [
        of("", "", "k"),
        of("t", "", "k"),
        of("t", "d", "k"),
        of("t", "", "dk"),
        of("td", "", "k"),
        of("t#d", "", "k"),
        of("t", "#d", "k"),
        of("t", "", "#d#k"),
        of("T", "", "k"),
        of("t", "", "K"),
    ];
    for (at, entry) in entries.iter().enumerate() {
        node.render(entry.clone(), &format!("<p>{at}</p>"), &[]).await;
    }
    let other = coordinator(fixture).await;
    for (at, entry) in entries.into_iter().enumerate() {
        let html = format!("<p>{at}</p>");
        assert_eq!(other.fresh(entry).await, (html.clone(), sidecar_of(&html)));
    }
}

/// A lease that was given back commits nothing.
pub async fn a_fenced_commit_changes_nothing(fixture: &dyn Fixture) {
    let (one, other) = (coordinator(fixture).await, coordinator(fixture).await);
    let (lost, _) = one.grant(entry("fenced")).await;
    let release =
        v1::ReleaseLeaseRequest { entry: Some(entry("fenced")), lease: Some(lost.clone()), failure: None };
    one.client().release_lease(release).await.expect("release");
    other.render(entry("fenced"), "<p>new</p>", &[]).await;
    let outcome = one.commit(entry("fenced"), lost, "<p>old</p>", v1::PageMetadata::default()).await;
    assert!(matches!(outcome, Ok(Committed::Superseded(_))), "{outcome:?}");
    assert_eq!(one.fresh(entry("fenced")).await.0, "<p>new</p>");
}

/// The reply was lost, and the caller asks elsewhere.
pub async fn a_repeated_acquire_is_told_of_its_grant_by_any_coordinator(fixture: &dyn Fixture) {
    let (one, other) = (coordinator(fixture).await, coordinator(fixture).await);
    let id = request_id();
    let Ok(Acquired::Granted(first)) = one.acquire(entry("again"), &id).await else {
        panic!("expected a grant")
    };
    let Ok(Acquired::Granted(second)) = other.acquire(entry("again"), &id).await else {
        panic!("expected the same grant")
    };
    assert_eq!(
        (first.generation, first.html_object, first.sidecar_object),
        (second.generation, second.html_object, second.sidecar_object)
    );
}

/// The reply was lost, and the caller asks elsewhere.
pub async fn a_repeated_commit_is_told_of_its_success_by_any_coordinator(fixture: &dyn Fixture) {
    let (one, other) = (coordinator(fixture).await, coordinator(fixture).await);
    let lease = one.render(entry("again"), "<p>1</p>", &[]).await;
    let outcome = other.commit(entry("again"), lease, "<p>1</p>", v1::PageMetadata::default()).await;
    assert!(matches!(outcome, Ok(Committed::Committed(_))), "{outcome:?}");
}

/// Pages and their sidecars are there after an orderly end.
pub async fn acknowledged_commits_survive_a_restart(fixture: &dyn Fixture) {
    let node = coordinator(fixture).await;
    let generations = render_some(&node).await;
    node.stop().await;
    let node = Coordinator::start(fixture.restart().await).await;
    check_some(&node, &generations).await;
}

/// Pages and their sidecars are there after a crash.
pub async fn acknowledged_commits_survive_a_crash(fixture: &dyn Fixture) {
    let node = coordinator(fixture).await;
    let generations = render_some(&node).await;
    let revived = Coordinator::start(fixture.crash().await).await;
    check_some(&revived, &generations).await;
}

async fn render_some(node: &Coordinator) -> Vec<u64> {
    let mut generations = Vec::new();
    for at in 0..8 {
        let lease = node.render(entry(&format!("page-{at}")), &format!("<p>{at}</p>"), &[]).await;
        generations.push(lease.generation);
    }
    generations
}

async fn check_some(node: &Coordinator, generations: &[u64]) {
    for (at, generation) in generations.iter().enumerate() {
        let (html, key) = (format!("<p>{at}</p>"), format!("page-{at}"));
        assert_eq!(node.fresh(entry(&key)).await, (html.clone(), sidecar_of(&html)));
        let scope = v1::InvalidationScope {
            tenant: String::new(),
            scope: Some(v1::invalidation_scope::Scope::Key(key.clone())),
        };
        let request = v1::InvalidateRequest { request_id: request_id(), scopes: vec![scope], depth: 0 };
        node.client().invalidate(request).await.expect("invalidate");
        let (next, _) = node.grant(entry(&key)).await;
        assert!(next.generation > *generation, "a generation was used twice");
    }
}

/// Who rendered before the crash renders on, and commits.
pub async fn a_lease_survives_a_crash(fixture: &dyn Fixture) {
    let node = coordinator(fixture).await;
    let (lease, _) = node.grant(entry("leased")).await;
    let node = Coordinator::start(fixture.crash().await).await;
    assert!(matches!(node.acquire(entry("leased"), &request_id()).await, Ok(Acquired::Held(_))));
    let outcome = node.commit(entry("leased"), lease, "<p>1</p>", v1::PageMetadata::default()).await;
    assert!(matches!(outcome, Ok(Committed::Committed(_))), "{outcome:?}");
}

/// The token makes the other coordinator read on.
pub async fn an_invalidation_is_seen_at_once_with_its_token_through_any_coordinator(fixture: &dyn Fixture) {
    let (one, other) = (coordinator(fixture).await, coordinator(fixture).await);
    for round in 0..4 {
        let key = format!("page-{round}");
        one.render(entry(&key), "<p>1</p>", &["news"]).await;
        other.fresh(entry(&key)).await;
        let token = one.invalidate_tag("news", request_id()).await.expect("invalidate");
        let request =
            v1::LookupRequest { entry: Some(entry(&key)), consistency_token: token, ..Default::default() };
        let response = other.client().lookup(request).await.expect("look up").into_inner();
        assert!(matches!(response.outcome, Some(Looked::Stale(_))), "{response:?}");
    }
}

/// From two coordinators at once: each takes effect, at a position of its own or a shared one, none is lost.
pub async fn many_invalidations_at_once_all_take_effect(fixture: &dyn Fixture) {
    const COUNT: usize = 24;
    let nodes = [Arc::new(coordinator(fixture).await), Arc::new(coordinator(fixture).await)];
    for at in 0..COUNT {
        nodes[0].render(entry(&format!("page-{at}")), "<p>1</p>", &[&format!("tag-{at}")]).await;
    }
    let mut invalidations = JoinSet::new();
    for at in 0..COUNT {
        let node = Arc::clone(&nodes[at % 2]);
        invalidations.spawn(async move { node.invalidate_tag(&format!("tag-{at}"), request_id()).await });
    }
    for result in invalidations.join_all().await {
        result.expect("invalidate");
    }
    for at in 0..COUNT {
        for node in &nodes {
            let outcome = node.look(entry(&format!("page-{at}")), "").await;
            assert!(matches!(outcome, Ok(Looked::Stale(_))), "{at}: {outcome:?}");
        }
    }
}

/// However often, wherever: one event.
pub async fn a_repeated_invalidation_has_one_position(fixture: &dyn Fixture) {
    let (one, other) = (coordinator(fixture).await, coordinator(fixture).await);
    let id = request_id();
    let mut tokens = HashSet::new();
    for node in [&one, &one, &other, &one] {
        tokens.insert(node.invalidate_tag("t", id.clone()).await.expect("invalidate"));
    }
    assert_eq!(tokens.len(), 1);
    one.invalidate_tag("t", request_id()).await.expect("invalidate");
    assert!(tokens.contains(&other.invalidate_tag("t", id).await.expect("invalidate")));
}

/// A token of another store would otherwise be waited for until the deadline, or be taken for seen.
pub async fn a_token_from_beyond_the_head_is_refused(fixture: &dyn Fixture) {
    let node = coordinator(fixture).await;
    let status = node.look(entry("any"), "c1-1000000").await.expect_err("must be refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
}

/// A page that was stale stays so.
pub async fn acknowledged_invalidations_survive_a_restart(fixture: &dyn Fixture) {
    let node = coordinator(fixture).await;
    let token = render_and_invalidate(&node).await;
    node.stop().await;
    check_invalidated(&Coordinator::start(fixture.restart().await).await, &token).await;
}

/// A page that was stale stays so.
pub async fn acknowledged_invalidations_survive_a_crash(fixture: &dyn Fixture) {
    let node = coordinator(fixture).await;
    let token = render_and_invalidate(&node).await;
    check_invalidated(&Coordinator::start(fixture.crash().await).await, &token).await;
}

async fn render_and_invalidate(node: &Coordinator) -> String {
    for at in 0..4 {
        node.render(entry(&format!("page-{at}")), "<p>1</p>", &["t"]).await;
    }
    node.invalidate_tag("t", request_id()).await.expect("invalidate")
}

async fn check_invalidated(node: &Coordinator, token: &str) {
    for at in 0..4 {
        let outcome = node.look(entry(&format!("page-{at}")), token).await;
        assert!(matches!(outcome, Ok(Looked::Stale(_))), "{outcome:?}");
    }
}

/// From nothing to several messages.
pub async fn bodies_of_any_size_are_served_as_they_were_uploaded(fixture: &dyn Fixture) {
    let (one, other) = (coordinator(fixture).await, coordinator(fixture).await);
    for size in [0, 1, 65_536, 1_000_003, 6 * 1024 * 1024] {
        let key = format!("size-{size}");
        let html = Bytes::from_iter((0..size).map(|at| b'a' + u8::try_from(at % 23).unwrap_or(0)));
        let (lease, _) = one.grant(entry(&key)).await;
        let uploaded = match upload(&one, &key, &lease, &html).await {
            Uploaded::Uploaded(uploaded) => uploaded,
            refused => panic!("refused: {refused:?}"),
        };
        assert_eq!(uploaded.size_bytes, size as u64);
        commit_stored(&one, &key, lease, uploaded.digest, uploaded.size_bytes).await.expect("commit");
        let request = v1::ServePageRequest { entry: Some(entry(&key)), ..Default::default() };
        let mut parts = other.client().serve_page(request).await.expect("a page").into_inner();
        let mut served = Vec::new();
        while let Some(message) = parts.message().await.expect("a part") {
            if let Some(v1::serve_page_response::Part::Chunk(chunk)) = message.part {
                served.extend_from_slice(&chunk);
            }
        }
        assert!(served == html, "{size} bytes came back as {}, or changed", served.len());
    }
}

/// The same bytes again are welcome, others are refused, and change nothing.
pub async fn an_upload_never_changes_a_body_that_is_stored(fixture: &dyn Fixture) {
    let (one, other) = (coordinator(fixture).await, coordinator(fixture).await);
    let (lease, _) = one.grant(entry("once")).await;
    let first = Bytes::from_static(b"<p>first</p>");
    let Uploaded::Uploaded(stored) = upload(&one, "once", &lease, &first).await else { panic!("fenced") };
    let Uploaded::Uploaded(again) = upload(&other, "once", &lease, &first).await else { panic!("fenced") };
    assert_eq!(stored, again);
    let status = try_upload(&other, "once", &lease, &Bytes::from_static(b"<p>other</p>")).await;
    assert_eq!(status.expect_err("must be refused").code(), Code::FailedPrecondition);
    commit_stored(&other, "once", lease, stored.digest, stored.size_bytes).await.expect("commit");
    let Ok(Looked::Fresh(fresh)) = one.look(entry("once"), "").await else { panic!("expected a fresh page") };
    assert_eq!(fresh.page.and_then(|page| page.body), Some(v1::page::Body::Inline(first)));
}

/// A pointer to nothing is never put in place.
pub async fn a_commit_of_a_body_that_is_not_there_is_refused(fixture: &dyn Fixture) {
    let node = coordinator(fixture).await;
    let (lease, _) = node.grant(entry("hollow")).await;
    let digest = Bytes::copy_from_slice(&[7; 32]);
    let status =
        commit_stored(&node, "hollow", lease.clone(), digest, 10).await.expect_err("must be refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(matches!(node.look(entry("hollow"), "").await, Ok(Looked::Missing(_))));
    let request = v1::CommitPointerRequest {
        entry: Some(entry("hollow")),
        lease: Some(lease),
        html: Some(inline("<p>1</p>")),
        sidecar: None,
        metadata: Some(v1::PageMetadata::default()),
    };
    let outcome = node.client().commit_pointer(request).await.expect("commit").into_inner().outcome;
    assert!(matches!(outcome, Some(Committed::Committed(_))), "the lease must still commit: {outcome:?}");
}

/// By tenant and name alone, with the bytes and the kind that were committed, whatever the characters in the name.
pub async fn a_named_body_is_served_by_its_name_through_any_coordinator(fixture: &dyn Fixture) {
    let (one, other) = (coordinator(fixture).await, coordinator(fixture).await);
    for (at, stem) in ["isr/0123456789abcdef01234567/1-a", "é & +<b>%2B/?#", "by-name/x"].iter().enumerate()
    {
        let key = format!("named-{at}");
        let (lease, _) = one.grant(entry(&key)).await;
        assert!(matches!(
            commit_as(&one, &key, lease, stem, "<p>1</p>", &[]).await,
            Ok(Committed::Committed(_))
        ));
        let (name, sidecar) = (format!("{stem}.html"), format!("{stem}.hydration.json"));
        for node in [&other, &one] {
            let (head, body) = object(node, "", &name).await.expect("the HTML");
            assert_eq!((head.kind(), &body[..]), (v1::BodyKind::Html, &b"<p>1</p>"[..]));
            assert_eq!(head.size_bytes, body.len() as u64);
            let (head, body) = object(node, "default", &sidecar).await.expect("the sidecar");
            assert_eq!((head.kind(), body), (v1::BodyKind::Sidecar, sidecar_of("<p>1</p>").into_bytes()));
            for (tenant, name) in
                [("other", &name), ("", &format!("{name}.html")), ("", &format!("x/{name}"))]
            {
                let refused = object(node, tenant, name).await.expect_err("must be refused");
                assert_eq!(refused.code(), Code::NotFound, "{tenant} {name}");
            }
        }
        let Ok(Looked::Fresh(fresh)) = other.look(entry(&key), "").await else {
            panic!("expected a fresh page")
        };
        let page = fresh.page.expect("a page");
        assert_eq!((page.html_object_name, page.sidecar_object_name), (name, sidecar));
        assert_eq!(other.fresh(entry(&key)).await, ("<p>1</p>".to_owned(), sidecar_of("<p>1</p>")));
    }
}

/// Two entries never share a body, not even one of the same bytes.
pub async fn of_many_commits_under_one_name_exactly_one_is_applied(fixture: &dyn Fixture) {
    let nodes = [Arc::new(coordinator(fixture).await), Arc::new(coordinator(fixture).await)];
    let mut rivals = JoinSet::new();
    for rival in 0..8 {
        let node = Arc::clone(&nodes[rival % 2]);
        rivals.spawn(async move {
            let key = format!("rival-{rival}");
            let (lease, _) = node.grant(entry(&key)).await;
            let committed = commit_as(&node, &key, lease, "contended", "<p>same</p>", &[]).await;
            (key, committed)
        });
    }
    let (applied, refused): (Vec<_>, Vec<_>) =
        rivals.join_all().await.into_iter().partition(|(_, committed)| committed.is_ok());
    assert_eq!((applied.len(), refused.len()), (1, 7));
    for (key, refused) in refused {
        assert_eq!(refused.expect_err("refused").code(), Code::FailedPrecondition);
        assert!(matches!(nodes[0].look(entry(&key), "").await, Ok(Looked::Missing(_))));
    }
    assert_eq!(nodes[1].fresh(entry(&applied[0].0)).await.0, "<p>same</p>");
}

/// What is written on it survives as long as it does.
pub async fn a_purged_body_is_not_served_by_its_name_after_its_page_was_superseded(fixture: &dyn Fixture) {
    let (one, other) = (coordinator(fixture).await, coordinator(fixture).await);
    for (stem, tag) in [("old", "t"), ("new", "u")] {
        let (lease, _) = one.grant(entry("purged")).await;
        let committed = commit_as(&one, "purged", lease, stem, stem, &[tag]).await;
        assert!(matches!(committed, Ok(Committed::Committed(_))));
        one.invalidate_tag(tag, request_id()).await.expect("invalidate");
    }
    let scope = |tag: &str| v1::InvalidationScope {
        tenant: String::new(),
        scope: Some(v1::invalidation_scope::Scope::Tag(tag.to_owned())),
    };
    for (tag, left) in [("other", [true, true]), ("t", [false, true]), ("u", [false, false])] {
        let purge = v1::InvalidateRequest {
            request_id: request_id(),
            scopes: vec![scope(tag)],
            depth: v1::InvalidationDepth::Hard.into(),
        };
        let purged = one.client().invalidate(purge).await.expect("purge").into_inner().consistency_token;
        other.look(entry("purged"), &purged).await.expect("look up");
        for node in [&one, &other] {
            for (name, left) in ["old.html", "new.html"].into_iter().zip(left) {
                assert_eq!(object(node, "", name).await.is_ok(), left, "{name} after a purge of {tag}");
            }
        }
    }
}

/// A body that was purged by then is not served, whichever coordinator was told of it; and one of a log that is not this one is
/// refused.
pub async fn bodies_are_served_as_of_an_invalidation_through_any_coordinator(fixture: &dyn Fixture) {
    let (one, other) = (coordinator(fixture).await, coordinator(fixture).await);
    let (lease, _) = one.grant(entry("as-of")).await;
    let committed = commit_as(&one, "as-of", lease, "as-of", "<p>1</p>", &["t"]).await;
    let Ok(Committed::Committed(v1::CommitApplied { sidecar_token, .. })) = committed else {
        panic!("expected a commit: {committed:?}")
    };
    let by_name = async |consistency_token: &str| {
        let consistency_token = consistency_token.to_owned();
        let request = object_request("", "as-of.html");
        object_by(&other, v1::ServeObjectRequest { consistency_token, ..request }).await.map(|_| ())
    };
    let by_token = async |consistency_token: &str| {
        let (entry, sidecar_token) = (Some(entry("as-of")), sidecar_token.clone());
        let consistency_token = consistency_token.to_owned();
        other.sidecar(v1::ServeSidecarRequest { entry, sidecar_token, consistency_token }).await.map(drop)
    };
    let soft = one.invalidate_tag("t", request_id()).await.expect("invalidate");
    by_name(&soft).await.expect("it is stale, and no more than that");
    by_token(&soft).await.expect("it is stale, and no more than that");
    let scope = v1::invalidation_scope::Scope::Tag("t".to_owned());
    let purge = v1::InvalidateRequest {
        request_id: request_id(),
        scopes: vec![v1::InvalidationScope { scope: Some(scope), ..Default::default() }],
        depth: v1::InvalidationDepth::Hard.into(),
    };
    let purged = one.client().invalidate(purge).await.expect("purge").into_inner().consistency_token;
    for (token, code) in [(&*purged, Code::NotFound), ("c1-1000000", Code::FailedPrecondition)] {
        assert_eq!(by_name(token).await.expect_err("must be refused").code(), code, "{token}");
        assert_eq!(by_token(token).await.expect_err("must be refused").code(), code, "{token}");
    }
}

/// Commits a page and its sidecar under names of one stem.
async fn commit_as(
    node: &Coordinator,
    key: &str,
    lease: v1::LeaseRef,
    stem: &str,
    html: &str,
    tags: &[&str],
) -> Result<Committed, tonic::Status> {
    let named = |body: &str, ending: &str| {
        Some(v1::BodySource { object_name: format!("{stem}{ending}"), ..inline(body) })
    };
    let tags = tags.iter().map(ToString::to_string).collect();
    let request = v1::CommitPointerRequest {
        entry: Some(entry(key)),
        lease: Some(lease),
        html: named(html, ".html"),
        sidecar: named(&sidecar_of(html), ".hydration.json"),
        metadata: Some(v1::PageMetadata { tags, ..Default::default() }),
    };
    let response = node.client().commit_pointer(request).await?.into_inner();
    response.outcome.ok_or_else(|| tonic::Status::internal("no outcome"))
}

async fn object(
    node: &Coordinator,
    tenant: &str,
    name: &str,
) -> Result<(v1::ObjectHead, Vec<u8>), tonic::Status> {
    object_by(node, object_request(tenant, name)).await
}

fn object_request(tenant: &str, name: &str) -> v1::ServeObjectRequest {
    v1::ServeObjectRequest { tenant: tenant.to_owned(), object_name: name.to_owned(), ..Default::default() }
}

async fn object_by(
    node: &Coordinator,
    request: v1::ServeObjectRequest,
) -> Result<(v1::ObjectHead, Vec<u8>), tonic::Status> {
    let mut parts = node.client().serve_object(request).await?.into_inner();
    let (mut head, mut body) = (None, Vec::new());
    while let Some(message) = parts.message().await? {
        match message.part {
            Some(v1::serve_object_response::Part::Head(first)) => head = Some(first),
            Some(v1::serve_object_response::Part::Chunk(chunk)) => body.extend_from_slice(&chunk),
            None => {}
        }
    }
    Ok((head.ok_or_else(|| tonic::Status::internal("no head"))?, body))
}

async fn upload(node: &Coordinator, key: &str, lease: &v1::LeaseRef, html: &Bytes) -> Uploaded {
    try_upload(node, key, lease, html).await.expect("upload")
}

async fn try_upload(
    node: &Coordinator,
    key: &str,
    lease: &v1::LeaseRef,
    html: &Bytes,
) -> Result<Uploaded, tonic::Status> {
    let head = v1::UploadHead {
        entry: Some(entry(key)),
        lease: Some(lease.clone()),
        kind: v1::BodyKind::Html.into(),
        ..Default::default()
    };
    let mut parts = vec![Part::Head(head)];
    parts.extend(html.chunks(256 * 1024).map(|chunk| Part::Chunk(html.slice_ref(chunk))));
    let messages = parts.into_iter().map(|part| v1::UploadBodyRequest { part: Some(part) });
    let response = node.client().upload_body(futures::stream::iter(messages.collect::<Vec<_>>())).await?;
    response.into_inner().outcome.ok_or_else(|| tonic::Status::internal("no outcome"))
}

async fn commit_stored(
    node: &Coordinator,
    key: &str,
    lease: v1::LeaseRef,
    digest: Bytes,
    size_bytes: u64,
) -> Result<(), tonic::Status> {
    let stored = v1::body_source::Source::Stored(v1::StoredBody { digest, size_bytes });
    let request = v1::CommitPointerRequest {
        entry: Some(entry(key)),
        lease: Some(lease),
        html: Some(v1::BodySource { source: Some(stored), ..Default::default() }),
        sidecar: None,
        metadata: Some(v1::PageMetadata::default()),
    };
    let outcome = node.client().commit_pointer(request).await?.into_inner().outcome;
    assert!(matches!(outcome, Some(Committed::Committed(_))), "{outcome:?}");
    Ok(())
}
