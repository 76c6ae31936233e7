//! Pages of another system, which knows nothing of the invalidation log: they can be compared with its events by time only.

use super::*;
use leasehold_core::{
    freshness::Absence,
    freshness::{FOREIGN_RENDER_TIME, Freshness, Staleness, judge},
    page::Pointer,
};

/// A page that another system says it rendered at `generated_at`.
fn foreign(generated_at: Timestamp) -> Pointer {
    let mut page = page();
    page.html.digest = Digest::UNKNOWN;
    page.meta.revalidate = None;
    Pointer {
        generation: Generation(generated_at.as_secs()),
        token: token(0),
        html: page.html,
        sidecar: None,
        meta: page.meta,
        generated_at,
        committed_at: generated_at,
        seen: Seq::START,
        gone: false,
    }
}

fn judged(world: &World, pointer: &Pointer) -> Freshness {
    let log = Log { view: &world.view, verified: true };
    judge(&world.id, Some(pointer), log, pointer.generated_at, RETENTION)
}

/// A log with one event about the key at [`START`].
fn invalidated(depth: Depth) -> World {
    let mut world = World::new();
    world.invalidate_key(depth);
    world
}

#[test]
fn what_another_system_rendered_well_after_an_invalidation_is_fresh() {
    let page = foreign(START.plus(FOREIGN_RENDER_TIME).plus(millis(1)));
    for depth in [Depth::Soft, Depth::Hard] {
        assert_eq!(judged(&invalidated(depth), &page), Freshness::Fresh);
    }
}

#[test]
fn what_another_system_may_have_begun_to_render_before_an_invalidation_is_reached_by_it() {
    for page in [foreign(START.minus(SECOND)), foreign(START.plus(FOREIGN_RENDER_TIME))] {
        let soft = judged(&invalidated(Depth::Soft), &page);
        assert_eq!(soft, Freshness::Stale(Staleness::Invalidated));
        let hard = judged(&invalidated(Depth::Hard), &page);
        assert_eq!(hard, Freshness::Missing(Absence::Purged));
    }
}

#[test]
fn an_event_that_is_forgotten_reaches_what_another_system_rendered_before_it_alone() {
    let mut world = invalidated(Depth::Hard);
    let forgotten = world.view.forget(Timestamp::from_millis(u64::MAX), 10);
    assert_eq!(forgotten, 1);
    let older = foreign(START.minus(SECOND));
    assert_eq!(judged(&world, &older), Freshness::Missing(Absence::Purged));
    let newer = foreign(START.plus(FOREIGN_RENDER_TIME).plus(SECOND));
    assert_eq!(judged(&world, &newer), Freshness::Fresh);
}

fn log_of(times: &[Timestamp], depth: Depth) -> World {
    let mut world = World::new();
    for at in times {
        let seq = world.view.position().next().unwrap();
        let invalidation = leasehold_core::invalidation::Invalidation {
            id: RequestId(u128::from(seq.0)),
            scopes: vec![Scope::Key(tenant(), EntryKey::parse("k").unwrap())],
            depth,
        };
        world.view.fold(&LogEvent {
            seq,
            id: RequestId(u128::from(seq.0) << 64),
            at: *at,
            forget_after: at.plus(RETENTION),
            invalidations: vec![invalidation],
        });
    }
    world
}

/// By a coordinator whose clock is two minutes behind. The first of them alone would reach the page.
#[test]
fn an_invalidation_is_not_undone_by_a_later_one_of_a_slow_clock() {
    let page = foreign(START.plus(secs(5)));
    for depth in [Depth::Soft, Depth::Hard] {
        let alone = judged(&log_of(&[START], depth), &page);
        assert_ne!(alone, Freshness::Fresh);
        let both = judged(&log_of(&[START, START.minus(secs(120))], depth), &page);
        assert_eq!(both, alone);
    }
}

/// By a renderer whose clock is an hour ahead, or that gave another unit: whenever it is invalidated, it is not fresh.
#[test]
fn a_page_of_a_time_that_is_not_yet_is_never_out_of_reach_of_invalidations() {
    let now = START;
    let page = foreign(now.plus(secs(3600)));
    let world = log_of(&[now], Depth::Hard);
    let log = Log { view: &world.view, verified: true };
    let freshness = judge(&world.id, Some(&page), log, now.plus(SECOND), RETENTION);
    assert_ne!(freshness, Freshness::Fresh);
}

/// As another clock may be: so far ahead, invalidations still reach it, and what it says is taken as it is.
#[test]
fn a_page_of_a_time_that_is_almost_now_is_fresh() {
    let world = World::new();
    let log = Log { view: &world.view, verified: true };
    let ahead = |by| judge(&world.id, Some(&foreign(START.plus(by))), log, START, RETENTION);
    assert_eq!(ahead(FOREIGN_RENDER_TIME), Freshness::Fresh);
    assert_eq!(ahead(FOREIGN_RENDER_TIME + millis(1)), Freshness::Missing(Absence::NeverRendered));
}

/// By a clock that was never set.
#[test]
fn a_page_of_the_beginning_of_time_is_not_invalidated_by_a_log_without_events() {
    assert_eq!(judged(&World::new(), &foreign(Timestamp::EPOCH)), Freshness::Fresh);
}

/// A worker renders under the first grant; another system replaces the row, and with it all memory of that grant; the page is
/// invalidated; a late duplicate of the worker's acquire arrives. What the worker commits was rendered before the invalidation.
#[test]
fn a_duplicate_that_is_granted_over_another_systems_row_is_another_generation() {
    let request = Acquire {
        token: token(7),
        owner: Owner::parse("worker").unwrap(),
        ttl: TTL,
        path: None,
        after: None,
    };
    let world = World::new();
    let Decision::Swap(_, Acquired::Granted(first)) = transition::acquire(None, &request, world.at(START))
    else {
        panic!("it is new")
    };
    // Its render began in the second before.
    let pointer = foreign(START.minus(SECOND));
    let replaced = Entry {
        version: Version(9),
        generation: pointer.generation,
        pointer: Some(pointer),
        lease: None,
        released: None,
        backoff: None,
    };
    let invalidated = log_of(&[after(secs(2))], Depth::Soft);
    let late = transition::acquire(Some(&replaced), &request, invalidated.at(after(secs(3))));
    let Decision::Swap(granted, Acquired::Granted(second)) = late else { panic!("{late:?}") };
    assert_ne!((first.generation, first.seen), (second.generation, second.seen));
    let mut page = page();
    page.meta.revalidate = None;
    let (token, generation) = (request.token, first.generation);
    let committed =
        transition::commit(Some(&granted), token, generation, &page, invalidated.at(after(secs(4))));
    assert!(!matches!(committed, Decision::Swap(_, Committed::Committed)), "{committed:?}");
}
