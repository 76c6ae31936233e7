//! Tenants stay apart: their entries, their bodies, and what an error tells of them.

use crate::harness::*;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use v1::{
    MissingReason, StaleReason, commit_pointer_response::Outcome as Committed, entry_ref::Name,
    invalidation_scope::Scope, release_lease_response::Outcome as Released,
};

fn values(name: &str, value: &str) -> v1::NameValues {
    v1::NameValues { name: name.to_owned(), values: vec![value.to_owned()] }
}

fn asked_with(tenant: &str, headers: Vec<v1::NameValues>) -> v1::EntryRef {
    let request = v1::PageRequest { route: "/news".to_owned(), headers, ..Default::default() };
    v1::EntryRef { tenant: tenant.to_owned(), name: Some(Name::Request(request)), ..Default::default() }
}

async fn publish_with_sidecar(node: &Coordinator, page: &v1::EntryRef, sidecar: &str) -> String {
    let render = node.grant(page).await;
    let commit = v1::CommitPointerRequest { sidecar: inline(sidecar.to_owned()), ..render.page("html") };
    node.commit_fresh(commit).await.sidecar_token
}

#[tokio::test]
async fn a_boundary_header_without_a_tenant_is_refused_by_every_call_and_its_value_is_not_told() {
    let world = World::new();
    let node = world
        .start_with(|settings, _| {
            settings.boundary = leasehold_core::key::TenantBoundary::extended(["x-org"]).unwrap();
        })
        .await;
    for header in ["x-tenant-id", "X-FaceTheory-Tenant", "x-org"] {
        let page = asked_with("", vec![values(header, "a-secret-tenant")]);
        let render = Render {
            entry: page.clone(),
            lease: v1::LeaseRef { request_id: request_id(), generation: 1 },
            grant: v1::LeaseGrant::default(),
        };
        let before = node.counts().swaps;
        let refusals = [
            node.lookup(lookup(&page)).await.map(drop),
            node.acquire(acquire(&page)).await.map(drop),
            node.renew(render.renewal(secs(10))).await.map(drop),
            node.release(render.release()).await.map(drop),
            node.commit(render.page("html")).await.map(drop),
            node.upload(upload_parts(&render, v1::BodyKind::Html, b"html")).await.map(drop),
            node.page(serve(&page)).await.map(drop),
            node.sidecar(&page, "token").await.map(drop),
        ];
        for refused in refusals {
            let status = assert_refused(refused, Code::FailedPrecondition, "TENANT_BOUNDARY");
            assert_eq!(metadata(&status, "header"), Some(header.to_lowercase()));
            assert!(!format!("{status:?}").contains("a-secret-tenant"));
            assert!(!String::from_utf8_lossy(status.details()).contains("a-secret-tenant"));
        }
        assert_eq!(node.counts().swaps, before);
        // Blank, or with a declared tenant, it is no boundary that anybody crosses.
        node.lookup(lookup(&asked_with("", vec![values(header, " ")]))).await.unwrap();
        node.lookup(lookup(&asked_with("acme", vec![values(header, "a-secret-tenant")]))).await.unwrap();
    }
}

#[tokio::test]
async fn the_same_name_is_another_page_for_every_tenant_release_and_variant() {
    let world = World::new();
    let node = world.start().await;
    let signed_in = |who: &str| asked_with("acme", vec![values("authorization", who)]);
    let pages = [
        entry_of("acme", "", "k"),
        entry_of("globex", "", "k"),
        entry_of("", "", "k"),
        entry_of("acme", "green", "k"),
        entry_of("acme", "blue", "k"),
        entry_of("ac", "", "mek"),
        entry_of("acme", "", "greenk"),
        asked_with("acme", vec![]),
        asked_with("globex", vec![]),
        signed_in("Bearer one"),
        signed_in("Bearer two"),
    ];
    for (at, page) in pages.iter().enumerate() {
        assert_eq!(node.seen(page).await, Seen::Missing(MissingReason::NeverRendered), "{page:?}");
        node.publish(page, &format!("page {at}")).await;
    }
    for node in [&node, &world.start().await] {
        for (at, page) in pages.iter().enumerate() {
            assert_eq!(node.page(serve(page)).await.unwrap().1, format!("page {at}").as_bytes());
        }
    }
}

#[tokio::test]
async fn a_lease_is_worth_nothing_on_the_same_key_of_another_tenant() {
    let world = World::new();
    let node = world.start().await;
    let (ours, theirs) = (entry_of("acme", "", "k"), entry_of("globex", "", "k"));
    let render = node.grant(&ours).await;
    let victim = node.grant(&theirs).await;
    let crossing = Render { entry: theirs.clone(), ..render };
    let outcome = node.commit(crossing.page("ours")).await.unwrap();
    assert!(matches!(outcome, Committed::Fenced(_)), "{outcome:?}");
    assert!(matches!(node.release(crossing.release()).await.unwrap(), Released::NotHeld(_)));
    node.commit_fresh(victim.page("theirs")).await;
    assert_eq!(node.page(serve(&theirs)).await.unwrap().1, b"theirs");
}

#[tokio::test]
async fn every_sidecar_token_that_is_not_this_pages_gets_the_same_answer() {
    let world = World::new();
    let node = world.start().await;
    let page = entry_of("acme", "green", "k");
    let token = publish_with_sidecar(&node, &page, "ours").await;
    assert_eq!(node.sidecar(&page, &token).await.unwrap().1, b"ours");
    let signed_in = |who: &str| asked_with("acme", vec![values("authorization", who)]);
    let mut foreign = Vec::new();
    for other in [
        entry_of("globex", "green", "k"),
        entry_of("acme", "blue", "k"),
        entry_of("acme", "", "k"),
        entry_of("acme", "green", "K"),
        signed_in("Bearer one"),
        signed_in("Bearer two"),
    ] {
        let token = publish_with_sidecar(&node, &other, "theirs").await;
        assert_eq!(node.sidecar(&other, &token).await.unwrap().1, b"theirs");
        foreign.push((page.clone(), token.clone()));
        foreign.push((other, token_of(&page, &node).await));
    }
    foreign.push((signed_in("Bearer one"), token_of(&signed_in("Bearer two"), &node).await));
    let elsewhere = world
        .start_with(|settings, _| {
            settings.object_prefix = leasehold_core::object::ObjectPrefix::parse("other").unwrap();
        })
        .await;
    let other_prefix = entry_of("acme", "green", "under another prefix");
    foreign.push((other_prefix.clone(), publish_with_sidecar(&elsewhere, &other_prefix, "x").await));
    let name = String::from_utf8(URL_SAFE_NO_PAD.decode(&token).unwrap()).unwrap();
    let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    for forged in [
        String::new(),
        "?".to_owned(),
        "a".to_owned(),
        "A".repeat(100_000),
        "\u{e9}\u{fffd}".to_owned(),
        token[..token.len() - 4].to_owned(),
        token[..token.len() - 1].to_owned(),
        format!("{token}="),
        format!("{token}AAAA"),
        format!(" {token}"),
        token.to_lowercase(),
        URL_SAFE_NO_PAD.encode([0xff, 0xfe]),
        encoded(&name.replace(".hydration.json", ".html")),
        encoded(&name.replace("isr/", "other/")),
        encoded(&name.replace("isr/", "isr/../isr/")),
        encoded(&format!("/{name}")),
        encoded(&name.replace('-', "-0")),
        // Well-formed, of this very entry, and never stored.
        encoded(&format!("{}0000.hydration.json", &name[..name.len() - ".hydration.json".len() - 4])),
        encoded("isr/../../etc/passwd"),
        encoded(""),
    ] {
        foreign.push((page.clone(), forged));
    }
    let never_rendered = entry_of("acme", "green", "never rendered");
    foreign.push((never_rendered, token.clone()));
    let mut answers = Vec::new();
    for (page, token) in foreign {
        let status = node.sidecar(&page, &token).await.expect_err(&token);
        assert_eq!(refusal(&status).reason, "SIDECAR_NOT_FOUND", "{token}");
        let mut headers = status.metadata().clone().into_headers();
        headers.remove("date");
        answers.push((status.code(), status.message().to_owned(), status.details().to_vec(), headers));
    }
    assert_eq!(answers[0].0, Code::NotFound);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

async fn token_of(page: &v1::EntryRef, node: &Coordinator) -> String {
    page_of(&node.lookup(lookup(page)).await.unwrap()).sidecar_token.clone()
}

#[tokio::test]
async fn a_sidecar_of_an_older_generation_is_served_to_the_page_that_still_asks_for_it() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let old = publish_with_sidecar(&node, &page, "old").await;
    let key = v1::invalidation_scope::Scope::Key("news".to_owned());
    node.invalidate(invalidation([scope(key)])).await.unwrap();
    let new = publish_with_sidecar(&node, &page, "new").await;
    for node in [&node, &world.start().await] {
        assert_eq!(node.sidecar(&page, &old).await.unwrap().1, b"old");
        assert_eq!(node.sidecar(&page, &new).await.unwrap().1, b"new");
    }
}

/// On every coordinator, also on one that starts afterwards.
#[tokio::test]
async fn a_flood_of_purges_of_one_tenant_takes_its_own_older_pages_and_no_others() {
    let world = World::new();
    let start = || world.start_with(|settings, _| settings.memory.log_bytes = 512 * 1024);
    let (node, other) = (start().await, start().await);
    let [older, newer] = ["older", "newer"].map(|key| entry_of("flooder", "", key));
    let [theirs, theirs_stale] = ["news", "prices"].map(|key| entry_of("quiet", "", key));
    node.publish(&older, "html").await;
    let fresh = node.publish(&theirs, "html").await;
    let stale = node.publish_with(&theirs_stale, "html", tagged(&["price"])).await;
    let price = scope_of("quiet", Scope::Tag("price".to_owned()));
    node.invalidate(invalidation([price])).await.unwrap();
    for number in 0..200 {
        let keys = (0..100).map(|key| scope_of("flooder", Scope::Key(format!("none-{number}-{key}"))));
        node.invalidate(purge(keys.collect::<Vec<_>>())).await.unwrap();
    }
    let since = node.publish(&newer, "html").await;
    let last = scope_of("flooder", Scope::Key("none".to_owned()));
    let token = node.invalidate(purge([last])).await.unwrap();
    for node in [node, other, start().await] {
        let seen = async |page: &v1::EntryRef| node.seen_by(lookup_as_of(page, &token)).await;
        assert_eq!(seen(&theirs).await, Seen::Fresh(fresh));
        assert_eq!(seen(&theirs_stale).await, Seen::Stale(stale, StaleReason::Invalidated));
        assert_eq!(seen(&older).await, Seen::Missing(MissingReason::Purged));
        assert_eq!(seen(&newer).await, Seen::Fresh(since));
    }
}
