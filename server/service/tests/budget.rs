//! What is asked of the store: the design's budget, row by row.

use crate::harness::*;
use futures::future::join_all;
use leasehold_service::time::{Clock as _, SystemClock};
use v1::{StaleReason, upload_body_response::Outcome as Uploaded};

/// A coordinator that reads the log once, so that its tail is not counted.
async fn quiet(world: &World) -> Coordinator {
    world
        .start_with(|settings, _| {
            settings.log.tail_interval = secs(3600);
            settings.rules.staleness_bound = secs(3600);
        })
        .await
}

/// What the store was asked meanwhile, the tail of the log left out.
async fn cost(node: &Coordinator, work: impl Future<Output = ()>) -> Counts {
    let before = node.counts();
    work.await;
    Counts { head_reads: 0, ..node.counts().since(before) }
}

const NOTHING: Counts = Counts {
    entry_reads: 0,
    swaps: 0,
    head_reads: 0,
    event_reads: 0,
    appends: 0,
    puts: 0,
    gets: 0,
    infos: 0,
    deletes: 0,
    urls: 0,
};

fn with_64_tags() -> v1::PageMetadata {
    v1::PageMetadata {
        tags: (0..64).map(|at| format!("tag {at}")).collect(),
        path: "/a/b/c/d".to_owned(),
        revalidate: Some(wire(secs(60))),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_warm_hit_asks_the_store_nothing_whatever_the_tags_and_unrelated_invalidations() {
    let world = World::new();
    let node = world.start_one_of_many().await;
    let page = entry("news");
    node.publish_with(&page, "html", with_64_tags()).await;
    let hits = async || {
        for _ in 0..100 {
            let response = node.lookup(lookup_with_body(&page)).await.unwrap();
            assert_eq!(html_of(page_of(&response)), Some("html"));
            assert!(seen(&response).is_fresh());
            assert!(node.seen(&page).await.is_fresh());
        }
        assert_eq!(node.page(serve(&page)).await.unwrap().1, b"html");
        assert!(matches!(node.took(acquire(&page)).await, Took::Fresh(_)));
    };
    assert_eq!(cost(&node, hits()).await, NOTHING);
    for at in 0..5 {
        node.invalidate(invalidation([tag(&format!("unrelated {at}"))])).await.unwrap();
        assert_eq!(cost(&node, hits()).await, NOTHING);
    }
}

#[tokio::test]
async fn a_page_that_stays_stale_costs_nothing_where_nobody_else_can_have_regenerated_it() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    node.publish_with(&page, "html", with_64_tags()).await;
    world.clock.step(secs(61));
    let stale = cost(&node, async {
        for _ in 0..100 {
            assert!(matches!(node.seen(&page).await, Seen::Stale(_, StaleReason::Expired)));
            assert!(!node.seen(&entry("never rendered")).await.is_fresh());
        }
    });
    assert_eq!(stale.await, Counts { entry_reads: 1, ..NOTHING });
}

#[tokio::test]
async fn a_cold_hit_costs_one_read_and_one_get_however_many_come_at_once() {
    let world = World::new();
    let page = entry("news");
    world.start().await.publish_with(&page, "html", with_64_tags()).await;
    let node = quiet(&world).await;
    let cold = cost(&node, async {
        let response = node.lookup(lookup_with_body(&page)).await.unwrap();
        assert_eq!(html_of(page_of(&response)), Some("html"));
    });
    assert_eq!(cold.await, Counts { entry_reads: 1, gets: 1, ..NOTHING });
    let node = quiet(&world).await;
    let gates = [node.faults.hold(Operation::EntryRead), node.faults.hold(Operation::Get)];
    let together = cost(&node, async {
        let calls = join_all((0..50).map(|_| node.lookup(lookup_with_body(&page))));
        let opening = async {
            for gate in &gates {
                gate.arrived(1).await;
                gate.open();
            }
        };
        let (responses, ()) = tokio::join!(calls, opening);
        assert!(responses.iter().all(|response| seen(response.as_ref().unwrap()).is_fresh()));
    });
    let Counts { entry_reads, gets, .. } = together.await;
    // Those that arrive while a read is under way share the next one.
    assert!((1..=2).contains(&entry_reads), "{entry_reads} reads");
    assert_eq!(gets, 1);
}

#[tokio::test]
async fn a_regeneration_costs_two_swaps_at_most_one_read_and_a_put_per_changed_body() {
    let world = World::new();
    let node = quiet(&world).await;
    let page = entry("news");
    let render = async |html: &str, sidecar: Option<&str>| {
        let before = node.counts();
        let render = node.grant(&page).await;
        let metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..Default::default() };
        let sidecar = sidecar.and_then(|sidecar| inline(sidecar.to_owned()));
        let commit = v1::CommitPointerRequest { sidecar, ..render.page_with(html, metadata) };
        node.commit_fresh(commit).await;
        Counts { head_reads: 0, ..node.counts().since(before) }
    };
    let first = Counts { entry_reads: 1, swaps: 2, puts: 2, ..NOTHING };
    assert_eq!(render("one", Some("{1}")).await, first);
    // Whether a body that is left where it is still is there costs a question, which is cheaper than a put.
    let unchanged = Counts { swaps: 2, infos: 2, ..NOTHING };
    assert_eq!(render("one", Some("{1}")).await, unchanged);
    // New HTML names its sidecar by a new token: the same bytes are stored again under it.
    assert_eq!(render("two", Some("{1}")).await, Counts { swaps: 2, puts: 2, ..NOTHING });
    assert_eq!(render("two", Some("{2}")).await, Counts { swaps: 2, puts: 1, infos: 1, ..NOTHING });
    assert_eq!(render("three", None).await, Counts { swaps: 2, puts: 1, ..NOTHING });
    assert_eq!(render("three", None).await, Counts { swaps: 2, infos: 1, ..NOTHING });
}

#[tokio::test]
async fn a_regeneration_of_an_uploaded_body_costs_a_question_for_it_more() {
    let world = World::new();
    let node = quiet(&world).await;
    let page = entry("news");
    let regeneration = cost(&node, async {
        let render = node.grant(&page).await;
        let Uploaded::Uploaded(body) =
            node.upload(upload_parts(&render, v1::BodyKind::Html, b"html")).await.unwrap()
        else {
            panic!("not stored")
        };
        let html = stored(body.digest, body.size_bytes);
        node.commit_fresh(v1::CommitPointerRequest { html, ..render.page("") }).await;
    });
    assert_eq!(regeneration.await, Counts { entry_reads: 1, swaps: 2, puts: 1, infos: 1, ..NOTHING });
}

#[tokio::test]
async fn two_hundred_waiters_on_the_holders_coordinator_cost_nothing() {
    let world = World::new();
    let node = quiet(&world).await;
    let page = entry("news");
    let render = node.grant(&page).await;
    let waiting = cost(&node, async {
        let calls = join_all((0..200).map(|_| node.acquire(acquire_waiting(&page, secs(60)))));
        let commit = async {
            until(async || node.engine.stats().waiters == 200).await;
            node.commit_fresh(render.page("html")).await;
        };
        let (outcomes, ()) = tokio::join!(calls, commit);
        for outcome in outcomes {
            assert_eq!(Took::of(&outcome.unwrap()), Took::Fresh(render.generation()));
        }
    });
    assert_eq!(waiting.await, Counts { swaps: 1, puts: 1, ..NOTHING });
}

#[tokio::test]
async fn waiters_elsewhere_cost_four_reads_a_second_at_most_however_many() {
    let world = World::new();
    let one = world.start().await;
    let other = world.start_with(|settings, _| settings.reread_interval = Some(ms(250))).await;
    let page = entry("news");
    one.grant(&page).await;
    let real_time = SystemClock::start();
    let waiting = cost(&other, async {
        let calls = join_all((0..200).map(|_| other.acquire(acquire_waiting(&page, secs(2)))));
        for outcome in calls.await {
            assert!(matches!(Took::of(&outcome.unwrap()), Took::Held { .. }));
        }
    });
    let reads = u128::from(waiting.await.entry_reads);
    // By the time it really took: on a busy machine the calls do not all come, and go, at once. Two more at the ends.
    let allowed = real_time.now().elapsed.as_millis() / 250 + 2;
    assert!((2..=allowed).contains(&reads), "{reads} reads, {allowed} allowed");
}

#[tokio::test]
async fn lookups_of_a_page_that_is_rendered_cost_the_holders_coordinator_a_quarter_of_the_others_reads() {
    let world = World::new();
    let one_of_many = || {
        world.start_with(|settings, _| {
            settings.log.tail_interval = secs(3600);
            settings.reread_interval = Some(ms(250));
        })
    };
    let (holders, other) = (one_of_many().await, one_of_many().await);
    world.clock.stand_still();
    let page = entry("news");
    holders.grant(&page).await;
    let missing = Seen::Missing(v1::MissingReason::NeverRendered);
    assert_eq!(other.seen(&page).await, missing);
    for passed in 1..=8 {
        world.clock.step(ms(250));
        for (node, reads) in [(&holders, u64::from(passed % 4 == 0)), (&other, 1)] {
            let asked = cost(node, async {
                for _ in 0..20 {
                    assert_eq!(node.seen(&page).await, missing);
                }
            });
            assert_eq!(asked.await, Counts { entry_reads: reads, ..NOTHING }, "after {passed} intervals");
        }
    }
}

#[tokio::test]
async fn an_invalidation_costs_one_append_whatever_its_scopes() {
    let world = World::new();
    let node = quiet(&world).await;
    let scopes: Vec<_> = (0..100).map(|at| tag(&format!("tag {at}"))).collect();
    let appended = cost(&node, async {
        node.invalidate(invalidation(scopes)).await.unwrap();
    });
    assert_eq!(appended.await, Counts { appends: 1, ..NOTHING });
    let everything = scope_of("", v1::invalidation_scope::Scope::Everything(v1::Everything {}));
    let appended = cost(&node, async {
        node.invalidate(purge([everything])).await.unwrap();
    });
    assert_eq!(appended.await, Counts { appends: 1, ..NOTHING });
}

#[tokio::test]
async fn an_idle_coordinator_reads_the_head_once_per_tail_interval_and_nothing_else() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.log.tail_interval = ms(100)).await;
    let page = entry("news");
    node.publish_with(&page, "html", with_64_tags()).await;
    let before = node.counts();
    let clock = leasehold_service::time::SystemClock::start();
    until(async || node.counts().since(before).head_reads >= 10).await;
    let elapsed = leasehold_service::time::Clock::now(&clock).elapsed;
    assert!(elapsed >= ms(850), "10 reads within {elapsed:?}");
    assert_eq!(Counts { head_reads: 0, ..node.counts().since(before) }, NOTHING);
}

#[tokio::test]
async fn another_coordinators_invalidation_costs_one_read_of_events() {
    let world = World::new();
    let (one, other) = (world.start().await, world.start().await);
    let before = other.counts();
    one.invalidate(invalidation([tag("t")])).await.unwrap();
    until(async || other.engine.stats().log_position.0 == 1).await;
    let counts = other.counts().since(before);
    assert_eq!((counts.event_reads, counts.entry_reads, counts.gets), (1, 0, 0));
}

#[tokio::test]
async fn a_body_that_the_caller_has_is_not_fetched() {
    let world = World::new();
    let page = entry("news");
    let generation = world.start().await.publish(&page, "html").await;
    let node = quiet(&world).await;
    let hit = cost(&node, async {
        let request = v1::LookupRequest { known_generation: Some(generation), ..lookup_with_body(&page) };
        assert!(page_of(&node.lookup(request).await.unwrap()).body_unchanged);
    });
    assert_eq!(hit.await, Counts { entry_reads: 1, ..NOTHING });
}

#[tokio::test]
async fn an_invalidation_is_not_read_back_also_where_its_answer_comes_late() {
    let world = World::new();
    let node = world.start().await;
    let gate = Gate::new();
    node.faults.add(Rule::on(Operation::Append, Fault::HoldAnswer(gate.clone())));
    let before = node.counts();
    let (mut client, request) = (node.client(), invalidation([tag("t")]));
    let appending = tokio::spawn(async move { client.invalidate(request).await });
    soon(gate.arrived(1)).await;
    until(async || node.engine.stats().log_position.0 == 1).await;
    gate.open();
    soon(appending).await.unwrap().unwrap();
    let counts = node.counts().since(before);
    assert_eq!((counts.appends, counts.event_reads), (1, 0));
}
