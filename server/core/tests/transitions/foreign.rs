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
