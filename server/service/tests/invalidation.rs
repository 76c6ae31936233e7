//! Invalidation wins: over renders in progress, and on every coordinator.

use crate::harness::*;
use futures::future::join_all;
use leasehold_core::identity::Seq;
use leasehold_service::settings::Settings;
use v1::{
    MissingReason, StaleReason, commit_pointer_response::Outcome as Committed, invalidation_scope::Scope,
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

/// Not even where everything else fails.
#[tokio::test]
async fn a_purged_page_is_not_served_where_a_stale_one_would_be_on_an_error() {
    let world = World::new();
    let node = world.start().await;
    for (key, invalidate) in [("soft", invalidation as fn(_) -> _), ("hard", purge)] {
        let page = entry(key);
        let metadata = v1::PageMetadata { stale_if_error: Some(wire(secs(3600))), ..tagged(&[key]) };
        let generation = node.publish_with(&page, "html", metadata).await;
        node.invalidate(invalidate([tag(key)])).await.unwrap();
        let failed = node.grant(&page).await;
        node.release(failed.failure("503")).await.unwrap();
        let Took::BackingOff { previous, .. } = node.took(acquire(&page)).await else { panic!("it failed") };
        let is_purged = key == "hard";
        assert_eq!(previous, (!is_purged).then_some(generation));
        node.faults.add(Rule::on_any(Fault::Refuse));
        assert_eq!(node.seen(&page).await == Seen::Missing(MissingReason::Purged), is_purged);
        node.faults.clear();
    }
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

#[tokio::test]
async fn an_invalidation_whose_caller_goes_away_before_its_turn_is_not_appended() {
    let world = World::new();
    let node = world.start().await;
    let appends = node.faults.hold(Operation::Append);
    let invalidating = |name: &str| {
        let (mut client, request) = (node.client(), invalidation([tag(name)]));
        tokio::spawn(async move { client.invalidate(request).await })
    };
    let first = invalidating("first");
    appends.arrived(1).await;
    let given_up = invalidating("given up");
    let behind = async || {
        // On the same connection.
        for _ in 0..10 {
            node.seen(&entry("news")).await;
        }
    };
    behind().await;
    given_up.abort();
    behind().await;
    let last = invalidating("last");
    behind().await;
    appends.open();
    for call in [first, last] {
        soon(call).await.unwrap().unwrap();
    }
    let events = world.stores().log.events(Seq::START, 10).await.unwrap();
    let appended: Vec<_> =
        events.iter().flat_map(|event| &event.invalidations).map(|one| &one.scopes).collect();
    let said = |name: &str| format!("{appended:?}").contains(name);
    assert_eq!(["first", "given up", "last"].map(said), [true, false, true]);
}
