//! Several transitions in a row, as they went wrong in a model of the design.

use super::*;
use leasehold_core::{
    freshness::{self, Freshness},
    invalidation::Verdict,
};

/// The counterexample of a model checker, and the reason why commits are bound to token **and** generation.
#[test]
fn a_render_that_a_late_duplicate_of_its_acquire_outlived_never_becomes_fresh() {
    let mut world = World::new();
    // A is granted T1 and reads its data. The network keeps a copy of its acquire.
    let (entry, old) = world.granted(START, token(1));
    // The data changes, and the page is invalidated. A's render is now of the old data.
    world.invalidate_key(Depth::Soft);
    // B overtakes with T2, and gives up.
    let (entry, overtaking) = grant(world.acquire(&entry, &ask(token(2)), after(SECOND)));
    let (entry, _) = swap(world.release(&entry, &overtaking, &Release::Unused, after(secs(2))));
    // The copy of A's acquire arrives, and is granted: under T1 again, with a `seen` after the invalidation.
    let (entry, again) = grant(world.acquire(&entry, &ask(token(1)), after(secs(3))));
    assert_eq!((again.token, again.seen), (old.token, Seq(1)));
    assert_eq!((old.seen, again.generation), (Seq::START, Generation(old.generation.0 + 2)));
    // A commits its old render under what it was granted before it began to render.
    let told = answer(world.commit(&entry, &old, &page(), after(secs(4))));
    assert_eq!(told, Committed::Fenced { latest: Some(again.generation) });
    assert_eq!(entry.pointer, None);
    // It can neither prolong nor end the lease that its duplicate got.
    let renewal = transition::renew(Some(&entry), old.token, old.generation, TTL, world.at(after(secs(4))));
    assert_eq!(answer(renewal), transition::Renewed::Lost);
    let release = world.release(&entry, &old, &Release::Unused, after(secs(4)));
    assert_eq!(answer(release), ReleaseOutcome::NotHeld);
    // Once that lease is over, C renders the new data, and A's repeated commit learns of it.
    let (entry, next) = grant(world.acquire(&entry, &ask(token(3)), after(secs(14))));
    let (entry, _) = swap(world.commit(&entry, &next, &page(), after(secs(15))));
    let told = answer(world.commit(&entry, &old, &page(), after(secs(16))));
    assert_eq!(told, Committed::Superseded { current: next.generation });
    assert_eq!(entry.pointer.as_ref().map(|pointer| pointer.token), Some(token(3)));
}

/// The same with the commit of the second lease: whoever renders under it began after the invalidation.
#[test]
fn whoever_began_to_render_under_the_second_grant_of_a_token_commits_fresh() {
    let mut world = World::new();
    let (entry, lost) = world.granted(START, token(1));
    world.invalidate_key(Depth::Soft);
    let (entry, overtaking) = grant(world.acquire(&entry, &ask(token(2)), after(SECOND)));
    let (entry, _) = swap(world.release(&entry, &overtaking, &Release::Unused, after(SECOND)));
    let (entry, heard) = grant(world.acquire(&entry, &ask(token(1)), after(secs(2))));
    let (entry, told) = swap(world.commit(&entry, &heard, &page(), after(secs(3))));
    assert_eq!(told, Committed::Committed);
    let told = answer(world.commit(&entry, &lost, &page(), after(secs(3))));
    assert_eq!(told, Committed::Superseded { current: heard.generation });
}

#[test]
fn a_refused_commit_learns_from_the_entry_that_its_own_earlier_attempt_was_applied() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    // Two coordinators carry the same commit; one swap wins, the other is shown the entry that refused it.
    let (applied, _) = swap(world.commit(&entry, &lease, &page(), START));
    let (_, _) = swap(world.commit(&entry, &lease, &page(), START));
    assert_eq!(answer(world.commit(&applied, &lease, &page(), START)), Committed::Committed);
}

#[test]
fn a_refused_acquire_waits_for_the_rival_that_won() {
    let world = World::new();
    let entry = world.rendered(&page());
    let now = after(REVALIDATE);
    let (won, winner) = grant(world.acquire(&entry, &ask(token(2)), now));
    let (_, loser) = grant(world.acquire(&entry, &ask(token(3)), now));
    assert_eq!(winner.generation, loser.generation, "only the swap decides between them");
    let told = answer(world.acquire(&won, &ask(token(3)), now));
    assert_eq!(told, Acquired::Held { until: now.plus(TTL).plus(TOLERANCE) });
}

#[test]
fn an_invalidation_in_mid_render_is_followed_by_one_render_that_began_after_it() {
    let mut world = World::new();
    let entry = world.rendered(&page());
    let now = after(REVALIDATE);
    let (entry, old) = grant(world.acquire(&entry, &ask(token(2)), now));
    world.invalidate(Scope::Tag(tenant(), tag("news")), Depth::Soft);
    // The old render ends before anybody overtakes: kept as the stale page, and the next caller renders.
    let (entry, told) = swap(world.commit(&entry, &old, &page(), now));
    assert_eq!(told, Committed::CommittedStale(Verdict::Invalidated));
    let (entry, new) = grant(world.acquire(&entry, &ask(token(3)), now));
    let (entry, told) = swap(world.commit(&entry, &new, &page(), now));
    assert_eq!(told, Committed::Committed);
    let log = Log { view: &world.view, verified: true };
    let state = freshness::judge(&world.id, entry.pointer.as_ref(), log, now, RETENTION);
    assert_eq!(state, Freshness::Fresh);
}

#[test]
fn a_row_of_failures_leaves_the_last_good_page_as_it_is() {
    let world = World::new();
    let mut entry = world.rendered(&page());
    let pointer = entry.pointer.clone();
    let mut now = after(REVALIDATE);
    for bits in 2..20 {
        let (granted, lease) = grant(world.acquire(&entry, &ask(token(bits)), now));
        let failed = Release::Failed { reason: "502".to_owned() };
        (entry, _) = swap(world.release(&granted, &lease, &failed, now));
        assert_eq!(entry.pointer, pointer);
        now = entry.backoff.as_ref().unwrap().not_before;
    }
}

#[test]
fn an_entry_that_the_store_forgot_begins_above_every_generation_it_had() {
    let world = World::new();
    let mut entry = world.rendered(&page());
    let mut now = after(REVALIDATE);
    for bits in 2..100 {
        let (granted, lease) = grant(world.acquire(&entry, &ask(token(bits)), now));
        let (committed, _) = swap(world.commit(&granted, &lease, &page(), now));
        (entry, now) = (committed, now.plus(REVALIDATE));
    }
    let (_, lease) = world.granted(now.plus(RETENTION), token(1000));
    assert!(lease.generation > entry.generation);
}
