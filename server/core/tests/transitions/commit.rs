//! Commit, and the marking of a page whose object is gone.

use super::*;
use leasehold_core::{
    freshness::{self, Absence, Freshness, Staleness},
    invalidation::Verdict,
    page::Pointer,
    transition::{Healed, Standing},
};

fn judge(world: &World, entry: &Entry, now: Timestamp) -> Freshness {
    let log = Log { view: &world.view, verified: world.verified };
    freshness::judge(&world.id, entry.pointer.as_ref(), log, now, RETENTION)
}

// --- committed ---

#[test]
fn a_commit_moves_the_pointer_and_ends_the_lease() {
    let mut world = World::new();
    world.invalidate(Scope::Everything, Depth::Soft);
    let (entry, lease) = world.granted(START, token(1));
    let (next, answer) = swap(world.commit(&entry, &lease, &page(), after(secs(4))));
    assert_eq!(answer, Committed::Committed);
    let Page { html, sidecar, meta } = page();
    let pointer = Pointer {
        generation: FIRST,
        token: token(1),
        html,
        sidecar,
        meta,
        generated_at: START,
        committed_at: after(secs(4)),
        seen: Seq(1),
        gone: false,
    };
    let wanted = Entry {
        version: VERSION,
        generation: FIRST,
        pointer: Some(pointer),
        lease: None,
        released: None,
        backoff: None,
    };
    assert_eq!(next, wanted);
    assert_eq!(judge(&world, &next, after(secs(4))), Freshness::Fresh);
}

#[test]
fn a_page_is_as_old_as_its_grant_however_long_the_render_took() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = swap(world.commit(&entry, &lease, &page(), after(secs(45))));
    assert_eq!(judge(&world, &entry, after(REVALIDATE).minus(millis(1))), Freshness::Fresh);
    assert_eq!(judge(&world, &entry, after(REVALIDATE)), Freshness::Stale(Staleness::Expired));
}

#[test]
fn a_late_commit_without_a_successor_is_accepted() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (_, answer) = swap(world.commit(&entry, &lease, &page(), after(secs(24 * 3600))));
    assert_eq!(answer, Committed::Committed);
}

#[test]
fn a_repeated_commit_is_told_that_it_is_committed() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = swap(world.commit(&entry, &lease, &page(), START));
    let mut other = page();
    other.html = body(9);
    for again in [page(), other] {
        assert_eq!(answer(world.commit(&entry, &lease, &again, after(secs(9)))), Committed::Committed);
    }
}

#[test]
fn a_repeated_commit_is_told_that_it_is_committed_while_another_renders() {
    let world = World::new();
    let (entry, next) = world.regenerating(after(REVALIDATE), token(2));
    let pointer = entry.pointer.clone().unwrap();
    let first = Lease { token: pointer.token, generation: pointer.generation, ..next };
    let again = world.commit(&entry, &first, &page(), after(REVALIDATE));
    assert_eq!(answer(again), Committed::Committed);
}

// --- committed stale ---

#[test]
fn a_commit_overtaken_by_a_soft_invalidation_is_servable_as_stale() {
    let mut world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    world.invalidate_key(Depth::Soft);
    let (entry, told) = swap(world.commit(&entry, &lease, &page(), START));
    assert_eq!(told, Committed::CommittedStale(Verdict::Invalidated));
    assert_eq!(judge(&world, &entry, START), Freshness::Stale(Staleness::Invalidated));
    assert_eq!(answer(world.commit(&entry, &lease, &page(), START)), told);
}

#[test]
fn a_commit_overtaken_by_a_hard_invalidation_is_not_servable() {
    let mut world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    world.invalidate_key(Depth::Hard);
    world.invalidate_key(Depth::Soft);
    let (entry, told) = swap(world.commit(&entry, &lease, &page(), START));
    assert_eq!(told, Committed::CommittedStale(Verdict::Purged));
    assert_eq!(judge(&world, &entry, START), Freshness::Missing(Absence::Purged));
    assert_eq!(answer(world.commit(&entry, &lease, &page(), START)), told);
}

#[test]
fn an_invalidated_tag_that_only_the_commit_names_makes_it_stale() {
    for (depth, verdict) in [(Depth::Soft, Verdict::Invalidated), (Depth::Hard, Verdict::Purged)] {
        let mut world = World::new();
        let (entry, lease) = world.granted(START, token(1));
        world.invalidate(Scope::Tag(tenant(), tag("news")), depth);
        let (_, answer) = swap(world.commit(&entry, &lease, &page(), START));
        assert_eq!(answer, Committed::CommittedStale(verdict));
    }
}

#[test]
fn an_invalidated_path_that_only_the_commit_names_makes_it_stale() {
    let mut world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    world.invalidate(Scope::PathPrefix(tenant(), path("/blog")), Depth::Soft);
    let (_, answer) = swap(world.commit(&entry, &lease, &page(), START));
    assert_eq!(answer, Committed::CommittedStale(Verdict::Invalidated));
}

#[test]
fn what_the_new_page_does_not_carry_any_more_does_not_make_it_stale() {
    let mut world = World::new();
    let (entry, lease) = world.regenerating(after(REVALIDATE), token(2));
    world.invalidate(Scope::Tag(tenant(), tag("news")), Depth::Hard);
    let mut untagged = page();
    untagged.meta.tags.clear();
    let (_, answer) = swap(world.commit(&entry, &lease, &untagged, after(REVALIDATE)));
    assert_eq!(answer, Committed::Committed);
}

#[test]
fn an_invalidation_before_the_grant_does_not_make_its_commit_stale() {
    let mut world = World::new();
    world.invalidate_key(Depth::Hard);
    let (entry, lease) = world.granted(START, token(1));
    let (_, answer) = swap(world.commit(&entry, &lease, &page(), START));
    assert_eq!(answer, Committed::Committed);
}

#[test]
fn an_invalidation_that_a_lagging_grantor_had_not_read_makes_the_page_too_old_never_too_fresh() {
    let lagging = World::new();
    let mut world = World::new();
    world.invalidate_key(Depth::Soft);
    let (entry, lease) = lagging.granted(START, token(1));
    let (entry, answer) = swap(lagging.commit(&entry, &lease, &page(), START));
    assert_eq!(answer, Committed::Committed);
    assert_eq!(judge(&lagging, &entry, START), Freshness::Fresh, "it has not read so far");
    assert_eq!(judge(&world, &entry, START), Freshness::Stale(Staleness::Invalidated));
}

#[test]
fn a_repeated_commit_is_told_of_an_invalidation_that_came_after_it() {
    let mut world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = swap(world.commit(&entry, &lease, &page(), START));
    world.invalidate_key(Depth::Soft);
    let again = answer(world.commit(&entry, &lease, &page(), START));
    assert_eq!(again, Committed::CommittedStale(Verdict::Invalidated));
}

// --- superseded, fenced ---

#[test]
fn a_commit_behind_a_newer_page_is_superseded() {
    let world = World::new();
    let (entry, slow) = world.granted(START, token(1));
    let (entry, quick) = grant(world.acquire(&entry, &ask(token(2)), after(secs(11))));
    let (entry, _) = swap(world.commit(&entry, &quick, &page(), after(secs(12))));
    let superseded = Committed::Superseded { current: quick.generation };
    assert_eq!(answer(world.commit(&entry, &slow, &page(), after(secs(13)))), superseded);
}

#[test]
fn a_repeated_commit_behind_a_newer_page_is_superseded() {
    let world = World::new();
    let (entry, second) = world.regenerating(after(REVALIDATE), token(2));
    let (entry, _) = swap(world.commit(&entry, &second, &page(), after(REVALIDATE)));
    let first = Lease { token: token(1), generation: FIRST, ..second.clone() };
    let superseded = Committed::Superseded { current: second.generation };
    assert_eq!(answer(world.commit(&entry, &first, &page(), after(REVALIDATE))), superseded);
}

#[test]
fn a_commit_overtaken_by_another_grant_is_fenced() {
    let world = World::new();
    let (entry, slow) = world.granted(START, token(1));
    let (entry, quick) = grant(world.acquire(&entry, &ask(token(2)), after(secs(11))));
    let fenced = Committed::Fenced { latest: Some(quick.generation) };
    assert_eq!(answer(world.commit(&entry, &slow, &page(), after(secs(12)))), fenced);
}

#[test]
fn a_commit_stays_fenced_after_its_successor_gave_up() {
    let world = World::new();
    let (entry, slow) = world.granted(START, token(1));
    let (entry, quick) = grant(world.acquire(&entry, &ask(token(2)), after(secs(11))));
    let (entry, _) = swap(world.release(&entry, &quick, &Release::Unused, after(secs(12))));
    let fenced = Committed::Fenced { latest: Some(quick.generation) };
    assert_eq!(answer(world.commit(&entry, &slow, &page(), after(secs(13)))), fenced);
}

#[test]
fn a_commit_after_its_own_release_is_fenced() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    for how in [Release::Unused, Release::Failed { reason: "x".to_owned() }, Release::Unheard] {
        let (entry, _) = swap(world.release(&entry, &lease, &how, START));
        let fenced = Committed::Fenced { latest: Some(FIRST) };
        assert_eq!(answer(world.commit(&entry, &lease, &page(), START)), fenced);
    }
}

#[test]
fn a_commit_without_an_entry_is_fenced() {
    let world = World::new();
    let decision = transition::commit(None, token(1), FIRST, &page(), world.at(START));
    assert_eq!(answer(decision), Committed::Fenced { latest: None });
}

#[test]
fn a_commit_needs_the_generation_of_its_lease_as_well_as_the_token() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let fenced = Committed::Fenced { latest: Some(FIRST) };
    for other in [
        Lease { generation: Generation(FIRST.0 - 1), ..lease.clone() },
        Lease { generation: Generation(FIRST.0 + 1), ..lease.clone() },
        Lease { token: token(2), ..lease.clone() },
    ] {
        assert_eq!(answer(world.commit(&entry, &other, &page(), START)), fenced);
    }
}

#[test]
fn a_repeated_commit_needs_the_generation_of_its_page_as_well_as_the_token() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = swap(world.commit(&entry, &lease, &page(), START));
    let fenced = Committed::Fenced { latest: Some(FIRST) };
    for other in [
        Lease { generation: Generation(FIRST.0 + 1), ..lease.clone() },
        Lease { token: token(2), ..lease.clone() },
    ] {
        assert_eq!(answer(world.commit(&entry, &other, &page(), START)), fenced);
    }
}

#[test]
fn standing_is_what_a_commit_would_be_judged_by() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let standing = |entry| transition::standing(entry, token(1), FIRST, world.at(START));
    assert_eq!(standing(Some(&entry)), Standing::Holder(&entry, &lease));
    assert_eq!(standing(None), Standing::Settled(Committed::Fenced { latest: None }));
    let (entry, _) = swap(world.commit(&entry, &lease, &page(), START));
    assert_eq!(standing(Some(&entry)), Standing::Settled(Committed::Committed));
}

#[test]
fn a_failed_render_cannot_be_written_down_as_a_page() {
    for status in [200, 204, 301, 404, 410, 499] {
        assert_eq!(PageStatus::new(status).map(PageStatus::get), Some(status));
    }
    for status in [0, 100, 199, 500, 502, 503, 599, 999, u16::MAX] {
        assert_eq!(PageStatus::new(status), None, "{status}");
    }
}

// --- gone ---

#[test]
fn a_page_whose_object_is_gone_is_missing_and_keeps_all_else() {
    let world = World::new();
    let entry = world.rendered(&page());
    let (gone, healed) = swap(transition::mark_gone(Some(&entry), FIRST, world.at(START)));
    assert_eq!(healed, Healed::Gone);
    assert_eq!(judge(&world, &gone, START), Freshness::Missing(Absence::BodyGone));
    let pointer = Pointer { gone: true, ..entry.pointer.clone().unwrap() };
    assert_eq!(gone, Entry { version: VERSION, pointer: Some(pointer), ..entry });
}

#[test]
fn a_repeated_commit_of_a_page_that_is_gone_is_still_told_that_it_is_committed() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = swap(world.commit(&entry, &lease, &page(), START));
    let (entry, _) = swap(transition::mark_gone(Some(&entry), FIRST, world.at(START)));
    assert_eq!(answer(world.commit(&entry, &lease, &page(), START)), Committed::Committed);
    assert_eq!(answer(world.acquire(&entry, &ask(token(1)), START)), Acquired::Ended);
}

#[test]
fn marking_again_changes_nothing() {
    let world = World::new();
    let (gone, _) = swap(transition::mark_gone(Some(&world.rendered(&page())), FIRST, world.at(START)));
    assert_eq!(answer(transition::mark_gone(Some(&gone), FIRST, world.at(START))), Healed::Gone);
}

#[test]
fn a_page_of_another_generation_is_never_marked() {
    let world = World::new();
    let entry = world.rendered(&page());
    for generation in [Generation(FIRST.0 - 1), Generation(FIRST.0 + 1)] {
        let decision = transition::mark_gone(Some(&entry), generation, world.at(START));
        assert_eq!(answer(decision), Healed::Superseded);
    }
    let (unrendered, _) = world.granted(START, token(1));
    for entry in [None, Some(&unrendered)] {
        assert_eq!(answer(transition::mark_gone(entry, FIRST, world.at(START))), Healed::Superseded);
    }
}

#[test]
fn marking_leaves_a_running_lease_alone_and_its_commit_heals_the_page() {
    let world = World::new();
    let now = after(REVALIDATE);
    let (entry, lease) = world.regenerating(now, token(2));
    let (gone, _) = swap(transition::mark_gone(Some(&entry), FIRST, world.at(now)));
    assert_eq!(gone.lease, entry.lease);
    let (healed, answer) = swap(world.commit(&gone, &lease, &page(), now));
    assert_eq!(answer, Committed::Committed);
    assert_eq!(judge(&world, &healed, now), Freshness::Fresh);
}

// --- the order in which a page is judged ---

#[test]
fn of_several_reasons_the_gravest_is_told() {
    let mut world = World::new();
    let entry = world.rendered(&page());
    let (gone, _) = swap(transition::mark_gone(Some(&entry), FIRST, world.at(START)));
    let late = after(REVALIDATE);
    assert_eq!(judge(&world, &entry, START), Freshness::Fresh);
    world.verified = false;
    assert_eq!(judge(&world, &entry, START), Freshness::Stale(Staleness::Unverified));
    assert_eq!(judge(&world, &entry, late), Freshness::Stale(Staleness::Expired));
    world.invalidate_key(Depth::Soft);
    assert_eq!(judge(&world, &entry, late), Freshness::Stale(Staleness::Invalidated));
    assert_eq!(judge(&world, &gone, late), Freshness::Missing(Absence::BodyGone));
    world.invalidate_key(Depth::Hard);
    assert_eq!(judge(&world, &gone, late), Freshness::Missing(Absence::Purged));
    assert_eq!(judge(&world, &gone, after(RETENTION)), Freshness::Missing(Absence::NeverRendered));
}
