//! A sidecar is purged with its page, also once another page has taken its place.

use crate::harness::*;
use v1::{MissingReason, upload_body_response::Outcome as Uploaded};

#[tokio::test]
async fn a_purge_takes_page_and_sidecars_away_also_those_of_older_generations() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let mut tokens = Vec::new();
    for html in ["first", "second"] {
        let render = node.grant(&page).await;
        let metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..tagged(&["t"]) };
        let commit = v1::CommitPointerRequest { sidecar: inline(html), ..render.page_with(html, metadata) };
        tokens.push(node.commit_fresh(commit).await.sidecar_token);
    }
    for token in &tokens {
        node.sidecar(&page, token).await.unwrap();
    }
    node.invalidate(purge([tag("t")])).await.unwrap();
    assert_eq!(node.seen(&page).await, Seen::Missing(MissingReason::Purged));
    let refused = node.page(serve(&page)).await;
    let status = assert_refused(refused, Code::NotFound, "PAGE_NOT_FOUND");
    assert_eq!(metadata(&status, "cause").as_deref(), Some("PURGED"));
    for token in &tokens {
        assert_refused(node.sidecar(&page, token).await, Code::NotFound, "SIDECAR_NOT_FOUND");
    }
    // A page rendered after the purge is served with its sidecar, whatever went before.
    world.clock.step(secs(1));
    let render = node.grant(&page).await;
    assert_eq!(render.grant.previous, None);
    let commit =
        v1::CommitPointerRequest { sidecar: inline("third"), ..render.page_with("third", tagged(&["t"])) };
    let token = node.commit_fresh(commit).await.sidecar_token;
    assert_eq!(node.sidecar(&page, &token).await.unwrap().1, b"third");
}

#[tokio::test]
async fn a_purged_sidecar_stays_purged_when_its_page_loses_the_tag() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let old = node.grant(&page).await;
    let commit =
        v1::CommitPointerRequest { sidecar: inline("{old}"), ..old.page_with("old", tagged(&["t"])) };
    node.commit_fresh(commit).await;
    // A clock that is behind the one that granted the lease must not bring it back.
    node.invalidate(purge([tag("t")])).await.unwrap();
    for html in ["new", "newer"] {
        assert_refused(
            node.sidecar(&page, &old.grant.sidecar_token).await,
            Code::NotFound,
            "SIDECAR_NOT_FOUND",
        );
        let new = node.grant(&page).await;
        node.commit_fresh(v1::CommitPointerRequest { sidecar: inline("{new}"), ..new.page(html) }).await;
        assert_eq!(node.sidecar(&page, &new.grant.sidecar_token).await.unwrap().1, b"{new}");
        node.invalidate(invalidation([key_scope("news")])).await.unwrap();
    }
}

/// The entry does not know any more which tags and path it had: the sidecar itself says so, unless it was uploaded ahead of
/// its commit; then it counts as purged with every tag.
#[tokio::test]
async fn a_sidecar_of_an_older_generation_is_purged_by_what_its_page_had() {
    let world = World::new();
    let node = world.start().await;
    for uploaded in [false, true] {
        let page = entry(if uploaded { "uploaded" } else { "inline" });
        let mut tokens = Vec::new();
        for html in ["one", "two"] {
            let render = node.grant(&page).await;
            let metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..tagged(&[html]) };
            let sidecar = if uploaded {
                let parts = upload_parts(&render, v1::BodyKind::Sidecar, b"{}");
                let Uploaded::Uploaded(body) = node.upload(parts).await.unwrap() else {
                    panic!("not stored")
                };
                stored(body.digest, body.size_bytes)
            } else {
                inline("{}")
            };
            let commit = v1::CommitPointerRequest { sidecar, ..render.page_with(html, metadata) };
            node.commit_fresh(commit).await;
            tokens.push(render.grant.sidecar_token);
        }
        let served = async || {
            let [old, new] = [&tokens[0], &tokens[1]].map(|token| node.sidecar(&page, token));
            (old.await.is_ok(), new.await.is_ok())
        };
        node.invalidate(purge([key_scope("other")])).await.unwrap();
        assert_eq!(served().await, (true, true));
        node.invalidate(purge([tag("another")])).await.unwrap();
        assert_eq!(served().await, (!uploaded, true));
        node.invalidate(purge([tag("one")])).await.unwrap();
        assert_eq!(served().await, (false, true));
        node.invalidate(purge([tag("two")])).await.unwrap();
        assert_eq!(served().await, (false, false));
    }
}

/// A page rendered after a purge shares the sidecar of the purged page, which is named by what that one had seen.
#[tokio::test]
async fn a_sidecar_that_a_purged_page_had_too_is_served_after_its_own_page_is_superseded() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let with_sidecar = |render: &Render, html: &str| v1::CommitPointerRequest {
        sidecar: inline("{same}"),
        ..render.page_with(html, tagged(&["t"]))
    };
    let first = node.grant(&page).await;
    node.commit_fresh(with_sidecar(&first, "html")).await;
    node.invalidate(purge([tag("t")])).await.unwrap();
    assert_eq!(node.seen(&page).await, Seen::Missing(MissingReason::Purged));
    // Rendered after the purge: nothing is wrong with it.
    let second = node.grant(&page).await;
    let token = node.commit_fresh(with_sidecar(&second, "html")).await.sidecar_token;
    assert_eq!(node.sidecar(&page, &token).await.unwrap().1, b"{same}");
    node.invalidate(invalidation([tag("t")])).await.unwrap();
    let third = node.grant(&page).await;
    node.commit_fresh(with_sidecar(&third, "other html")).await;
    // Softly invalidated and superseded, within the grace: a browser that has it still asks.
    let served = node.sidecar(&page, &token).await;
    assert!(served.is_ok(), "never purged, and not served: {:?}", served.unwrap_err());
}

/// It would not know that it is purged by them.
#[tokio::test]
async fn a_sidecar_is_not_committed_with_other_tags_than_it_was_stored_with() {
    let world = World::new();
    let (node, other) = (world.start().await, world.start().await);
    let render = node.grant(&entry("news")).await;
    let with_tags = |names: &[&str], html: &str| v1::CommitPointerRequest {
        sidecar: inline("{data}"),
        ..render.page_with(html, tagged(names))
    };
    // Sidecar stored, HTML not: "surely nothing was applied".
    node.faults.add(Rule::on(Operation::Put, Fault::Refuse).after(1));
    assert_refused(node.commit(with_tags(&["a"], "html")).await, Code::Unavailable, "STORE_UNAVAILABLE");
    node.faults.clear();
    // Rendered again under the same lease, which is still its own.
    // The stored one would say that it is not of this tag.
    for node in [&node, &other] {
        let refused = node.commit(with_tags(&["b"], "html 2")).await;
        assert_refused(refused, Code::FailedPrecondition, "OBJECT_CONFLICT");
    }
    other.commit_fresh(with_tags(&["a"], "html")).await;
}
