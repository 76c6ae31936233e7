//! Invalidation wins: over renders in progress, on every coordinator, and while the log cannot be read.

use crate::harness::*;
use futures::future::join_all;
use leasehold_service::settings::Settings;
use v1::{
    MissingReason, StaleReason, acquire_lease_response::Outcome as Acquired,
    commit_pointer_response::Outcome as Committed, invalidation_scope::Scope,
    upload_body_response::Outcome as Uploaded,
};

/// A coordinator that reads the log only when it is asked to.
async fn lagging(world: &World) -> Coordinator {
    world.start_with(|settings, _| lag(settings)).await
}

fn lag(settings: &mut Settings) {
    settings.log.tail_interval = secs(3600);
    settings.rules.staleness_bound = secs(3600);
    settings.reread_interval = Some(ms(50));
}

fn tagged(names: &[&str]) -> v1::PageMetadata {
    v1::PageMetadata { tags: tags(names), ..Default::default() }
}

#[tokio::test]
async fn a_render_overtaken_by_an_invalidation_is_committed_stale_and_rendered_again() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let render = node.grant(&page).await;
    // No page has named the tag before: only the commit below does.
    node.invalidate(invalidation([tag("first-named-by-the-commit")])).await.unwrap();
    let outcome = node.commit(render.page_with("old", tagged(&["first-named-by-the-commit"]))).await.unwrap();
    assert!(matches!(&outcome, Committed::CommittedStale(stale) if !stale.purged), "{outcome:?}");
    let stale = Seen::Stale(render.generation(), StaleReason::Invalidated);
    assert_eq!(node.seen(&page).await, stale);
    assert_eq!(node.seen_by(lookup_strictly(&page)).await, stale);
    let again = node.grant(&page).await;
    assert_eq!(again.generation(), render.generation() + 1);
    node.commit_fresh(again.page_with("new", tagged(&["first-named-by-the-commit"]))).await;
    assert_eq!(node.seen(&page).await, Seen::Fresh(again.generation()));
}

#[tokio::test]
async fn a_render_overtaken_by_a_purge_is_committed_but_never_served() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let render = node.grant(&page).await;
    node.invalidate(purge([tag("t")])).await.unwrap();
    let outcome = node.commit(render.page_with("old", tagged(&["t"]))).await.unwrap();
    assert!(matches!(&outcome, Committed::CommittedStale(stale) if stale.purged), "{outcome:?}");
    assert_eq!(node.seen(&page).await, Seen::Missing(MissingReason::Purged));
    assert_refused(node.page(serve(&page)).await, Code::NotFound, "PAGE_NOT_FOUND");
    let again = node.took(acquire(&page)).await;
    assert_eq!(again, Took::Granted { generation: render.generation() + 1, previous: None });
}

#[tokio::test]
async fn the_answer_to_a_repeated_commit_stays_stale() {
    let world = World::new();
    let node = world.start().await;
    let render = node.grant(&entry("news")).await;
    let commit = render.page_with("old", tagged(&["t"]));
    node.commit_fresh(commit.clone()).await;
    node.invalidate(invalidation([tag("t")])).await.unwrap();
    let outcome = node.commit(commit).await.unwrap();
    assert!(matches!(outcome, Committed::CommittedStale(_)), "{outcome:?}");
}

#[tokio::test]
async fn an_invalidation_in_mid_render_lets_another_render_at_once() {
    let world = World::new();
    let node = world.start().await;
    let by_key = entry("by-key");
    let by_path = v1::EntryRef { path: "/shop/shoes".to_owned(), ..entry("by-path") };
    let by_tag = entry("by-tag");
    node.publish_with(
        &by_tag,
        "tagged",
        v1::PageMetadata { revalidate: Some(wire(ms(0))), ..tagged(&["t"]) },
    )
    .await;
    for (page, scope) in [
        (&by_key, scope(Scope::Key("by-key".to_owned()))),
        (&by_path, scope(Scope::PathPrefix("/shop".to_owned()))),
        (&by_tag, tag("t")),
    ] {
        let slow = node.grant(page).await;
        assert!(matches!(node.took(acquire(page)).await, Took::Held { .. }));
        node.invalidate(invalidation([scope])).await.unwrap();
        let next = node.grant(page).await;
        assert_eq!(next.generation(), slow.generation() + 1);
        // Whoever was overtaken has lost its lease, whatever it does next.
        let late = node.commit(slow.page("late")).await.unwrap();
        assert!(matches!(late, Committed::Fenced(_)), "{late:?}");
        node.commit_fresh(next.page("new")).await;
    }
}

#[tokio::test]
async fn every_kind_of_scope_reaches_its_pages_and_no_others() {
    let world = World::new();
    let node = world.start().await;
    let page = |tenant: &str, deployment: &str, key: &str, path: &str, tag: &str| {
        let metadata = v1::PageMetadata { path: path.to_owned(), ..tagged(&[tag]) };
        (entry_of(tenant, deployment, key), metadata)
    };
    let pages = [
        page("acme", "", "k1", "/blog/one", "t1"),
        page("acme", "", "k2", "/blog-two", "t2"),
        page("acme", "green", "k1", "/blog/one/more", "t2"),
        page("globex", "green", "k1", "/blog/one", "t1"),
    ];
    let acme = |scope| scope_of("acme", scope);
    let table = [
        (scope_of("", Scope::Everything(v1::Everything {})), vec![0, 1, 2, 3]),
        (acme(Scope::WholeTenant(v1::WholeTenant {})), vec![0, 1, 2]),
        (acme(Scope::Deployment("green".to_owned())), vec![2]),
        (acme(Scope::Deployment("blue".to_owned())), vec![]),
        (acme(Scope::PathPrefix("/".to_owned())), vec![0, 1, 2]),
        (acme(Scope::PathPrefix("/blog".to_owned())), vec![0, 2]),
        (acme(Scope::PathPrefix("/blog/one/".to_owned())), vec![0, 2]),
        (acme(Scope::PathPrefix("/blo".to_owned())), vec![]),
        (acme(Scope::Tag("t1".to_owned())), vec![0]),
        (acme(Scope::Tag("t2".to_owned())), vec![1, 2]),
        (acme(Scope::Key("k1".to_owned())), vec![0, 2]),
        (acme(Scope::Key("K1".to_owned())), vec![]),
        (scope_of("globex", Scope::Tag("t1".to_owned())), vec![3]),
        (scope_of("", Scope::Tag("t1".to_owned())), vec![]),
        (scope_of("globex", Scope::Tag("t2".to_owned())), vec![]),
    ];
    for (scope, reached) in table {
        for (page, metadata) in &pages {
            if !node.seen(page).await.is_fresh() {
                node.publish_with(page, "html", metadata.clone()).await;
            }
        }
        node.invalidate(invalidation([scope.clone()])).await.unwrap();
        for (at, (page, _)) in pages.iter().enumerate() {
            assert_eq!(node.seen(page).await.is_fresh(), !reached.contains(&at), "{scope:?} and page {at}");
        }
    }
}

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
async fn a_soft_invalidation_after_a_purge_does_not_bring_the_page_back() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    node.publish_with(&page, "html", tagged(&["t"])).await;
    node.invalidate(purge([tag("t")])).await.unwrap();
    node.invalidate(invalidation([tag("t")])).await.unwrap();
    assert_eq!(node.seen(&page).await, Seen::Missing(MissingReason::Purged));
}

#[tokio::test]
async fn a_consistency_token_from_beyond_the_head_is_refused() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    node.publish(&page, "html").await;
    let token = node.invalidate(invalidation([tag("t")])).await.unwrap();
    let beyond = "c1-2".to_owned();
    assert_ne!(token, beyond);
    let refused = |result: Result<(), Status>| {
        assert_refused(result, Code::FailedPrecondition, "CONSISTENCY_TOKEN_UNKNOWN");
    };
    refused(node.lookup(lookup_as_of(&page, &beyond)).await.map(drop));
    let request = v1::AcquireLeaseRequest { consistency_token: beyond.clone(), ..acquire(&page) };
    refused(node.acquire(request).await.map(drop));
    refused(node.page(v1::ServePageRequest { consistency_token: beyond, ..serve(&page) }).await.map(drop));
    assert!(node.seen_by(lookup_as_of(&page, &token)).await.is_fresh());
}

#[tokio::test]
async fn a_repeated_invalidation_has_one_effect_also_concurrently_and_elsewhere() {
    let world = World::new();
    let (one, other) = (lagging(&world).await, lagging(&world).await);
    let page = entry("news");
    one.publish_with(&page, "old", tagged(&["t"])).await;
    let request = invalidation([tag("t")]);
    let calls = (0..20).map(|_| one.invalidate(request.clone()));
    let tokens: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    one.publish_with(&page, "new", tagged(&["t"])).await;
    // The other has not read the log, so it finds out by being refused.
    assert_eq!(other.invalidate(request.clone()).await.unwrap(), tokens[0]);
    assert_eq!(one.invalidate(request).await.unwrap(), tokens[0]);
    assert!(one.seen_by(lookup_strictly(&page)).await.is_fresh(), "invalidated by a repetition");
    assert_eq!(one.counts().appends, 1);
}

#[tokio::test]
async fn invalidations_that_arrive_together_are_appended_together() {
    let world = World::new();
    let node = world.start().await;
    let gate = node.faults.hold(Operation::Append);
    let before = node.counts();
    let client = node.client();
    let calls: Vec<_> = (0..50)
        .map(|at| {
            let mut client = client.clone();
            tokio::spawn(async move { client.invalidate(invalidation([tag(&format!("t{at}"))])).await })
        })
        .collect();
    gate.arrived(1).await;
    // The calls before these on the same connection have been taken up when these are answered.
    for _ in 0..3 {
        node.seen(&entry("any")).await;
    }
    gate.open();
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    let appends = node.counts().since(before).appends;
    assert!(appends <= 3, "50 invalidations took {appends} appends");
}

#[tokio::test]
async fn coordinators_see_each_others_invalidations_and_commits() {
    let world = World::new();
    let (one, other) = (world.start_one_of_many().await, world.start_one_of_many().await);
    let page = entry("news");
    for (here, there) in [(&one, &other), (&other, &one)] {
        let generation = here.publish_with(&page, "html", tagged(&["t"])).await;
        until(async || there.seen(&page).await == Seen::Fresh(generation)).await;
        here.invalidate(invalidation([tag("t")])).await.unwrap();
        let stale = Seen::Stale(generation, StaleReason::Invalidated);
        assert_eq!(here.seen(&page).await, stale);
        until(async || there.seen(&page).await == stale).await;
    }
}

#[tokio::test]
async fn a_consistency_token_makes_an_invalidation_seen_at_once_elsewhere() {
    let world = World::new();
    let (one, other) = (lagging(&world).await, lagging(&world).await);
    let page = entry("news");
    let generation = one.publish_with(&page, "html", tagged(&["t"])).await;
    assert_eq!(other.seen(&page).await, Seen::Fresh(generation));
    let token = one.invalidate(invalidation([tag("t")])).await.unwrap();
    assert_eq!(other.seen(&page).await, Seen::Fresh(generation), "it lags, and nobody told it");
    let stale = Seen::Stale(generation, StaleReason::Invalidated);
    assert_eq!(other.seen_by(lookup_as_of(&page, &token)).await, stale);
    // From then on it knows.
    assert_eq!(other.seen(&page).await, stale);
    let token = one.invalidate(purge([tag("t")])).await.unwrap();
    let request = v1::AcquireLeaseRequest { consistency_token: token, ..acquire(&page) };
    let granted = other.took(request).await;
    assert_eq!(granted, Took::Granted { generation: generation + 1, previous: None });
}

#[tokio::test]
async fn a_strict_lookup_sees_what_happened_before_it_was_sent() {
    let world = World::new();
    let (one, other) = (lagging(&world).await, lagging(&world).await);
    let page = entry("news");
    assert_eq!(other.seen(&page).await, Seen::Missing(MissingReason::NeverRendered));
    let generation = one.publish_with(&page, "html", tagged(&["t"])).await;
    assert_eq!(other.seen_by(lookup_strictly(&page)).await, Seen::Fresh(generation));
    one.invalidate(invalidation([tag("t")])).await.unwrap();
    let stale = Seen::Stale(generation, StaleReason::Invalidated);
    assert_eq!(other.seen_by(lookup_strictly(&page)).await, stale);
    let strictly = v1::ServePageRequest { consistency: v1::Consistency::Strict.into(), ..serve(&page) };
    one.invalidate(purge([tag("t")])).await.unwrap();
    assert_refused(other.page(strictly).await, Code::NotFound, "PAGE_NOT_FOUND");
}

#[tokio::test]
async fn a_render_granted_by_a_coordinator_that_lags_is_never_fresh() {
    let world = World::new();
    let (one, other) = (lagging(&world).await, lagging(&world).await);
    let page = entry("news");
    one.invalidate(invalidation([tag("t")])).await.unwrap();
    let render = other.grant(&page).await;
    let outcome = one.commit(render.page_with("html", tagged(&["t"]))).await.unwrap();
    assert!(matches!(outcome, Committed::CommittedStale(_)), "{outcome:?}");
}

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

#[tokio::test]
async fn a_restarted_coordinator_knows_the_invalidations_before_it() {
    let world = World::new();
    let page = entry("news");
    let generation = {
        let node = world.start().await;
        let generation = node.publish_with(&page, "html", tagged(&["t"])).await;
        node.invalidate(purge([tag("t")])).await.unwrap();
        generation
    };
    let node = world.start().await;
    assert_eq!(node.seen(&page).await, Seen::Missing(MissingReason::Purged));
    assert_eq!(node.grant(&page).await.generation(), generation + 1);
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

/// From here on it does not know what happens.
async fn cut_off_from_the_log(node: &Coordinator) {
    node.faults.add(Rule::on(Operation::HeadRead, Fault::Refuse));
    let before = node.counts().head_reads;
    // One may have been under way.
    until(async || node.counts().head_reads > before + 1).await;
}

/// P3: the answer is given long after the staleness bound, on a log that nobody could read since.
#[tokio::test]
async fn an_answer_that_took_longer_than_the_staleness_bound_is_not_fresh() {
    let world = World::new();
    let writer = world.start().await;
    let page = entry("news");
    writer.publish_with(&page, "html", tagged(&["t"])).await;
    let node = world.start_with(|settings, _| settings.rules.staleness_bound = secs(2)).await;
    let gate = node.faults.hold(Operation::EntryRead);
    let asked = {
        let (mut client, request) = (node.client(), lookup(&page));
        tokio::spawn(async move { client.lookup(request).await.unwrap().into_inner() })
    };
    soon(gate.arrived(1)).await;
    // From here on the log cannot be read here; a second later somebody invalidates elsewhere, and is told so.
    cut_off_from_the_log(&node).await;
    world.clock.step(secs(1));
    writer.invalidate(invalidation([tag("t")])).await.unwrap();
    // Four times the bound after that the read is answered.
    world.clock.step(secs(8));
    gate.open();
    let answer = soon(asked).await.unwrap();
    assert!(!seen(&answer).is_fresh(), "{:?}, 8 s after the invalidation was acknowledged", seen(&answer));
}

/// The same by way of an acquire.
#[tokio::test]
async fn an_acquire_that_took_longer_than_the_staleness_bound_is_not_ready_as_fresh() {
    let world = World::new();
    let writer = world.start().await;
    let page = entry("news");
    writer.publish_with(&page, "html", tagged(&["t"])).await;
    let node = world.start_with(|settings, _| settings.rules.staleness_bound = secs(2)).await;
    let gate = node.faults.hold(Operation::EntryRead);
    let asked = {
        let (mut client, request) = (node.client(), acquire(&page));
        tokio::spawn(async move { client.acquire_lease(request).await.unwrap().into_inner() })
    };
    soon(gate.arrived(1)).await;
    cut_off_from_the_log(&node).await;
    world.clock.step(secs(1));
    writer.invalidate(invalidation([tag("t")])).await.unwrap();
    world.clock.step(secs(8));
    gate.open();
    let took = Took::of(&soon(asked).await.unwrap().outcome.unwrap());
    assert!(!matches!(took, Took::Fresh(_)), "{took:?}, 8 s after the invalidation was acknowledged");
}

#[tokio::test]
async fn a_page_that_is_purged_while_its_body_is_read_is_not_served() {
    let world = World::new();
    let writer = world.start().await;
    let page = entry("news");
    writer.publish_with(&page, "html", tagged(&["t"])).await;
    let node = world.start_with(|settings, _| settings.rules.staleness_bound = secs(2)).await;
    let gate = node.faults.hold(Operation::Get);
    let asked = {
        let (mut client, request) = (node.client(), lookup_with_body(&page));
        tokio::spawn(async move { client.lookup(request).await.unwrap().into_inner() })
    };
    soon(gate.arrived(1)).await;
    // The log can be read here all the time, and is.
    let token = writer.invalidate(purge([tag("t")])).await.unwrap();
    assert_eq!(node.seen_by(lookup_as_of(&page, &token)).await, Seen::Missing(MissingReason::Purged));
    world.clock.step(secs(4));
    gate.open();
    let answer = soon(asked).await.unwrap();
    assert!(
        !seen(&answer).is_fresh(),
        "{:?}, 4 s after the purge was acknowledged, and read here",
        seen(&answer)
    );
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
