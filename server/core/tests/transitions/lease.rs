//! Renew and release.

use super::*;
use leasehold_core::{
    entry::{Backoff, MAX_REASON_BYTES, Released},
    transition::Renewed,
};

fn renew(world: &World, entry: &Entry, lease: &Lease, ttl: Duration, now: Timestamp) -> Decision<Renewed> {
    transition::renew(Some(entry), lease.token, lease.generation, ttl, world.at(now))
}

fn failed(reason: &str) -> Release {
    Release::Failed { reason: reason.to_owned() }
}

// --- renew ---

#[test]
fn a_renewal_moves_the_expiry_and_nothing_else() {
    let world = World::new();
    let (entry, lease) = world.regenerating(after(REVALIDATE), token(2));
    let now = after(REVALIDATE + secs(8));
    let (next, renewed) = swap(renew(&world, &entry, &lease, TTL, now));
    let wanted = Lease { expires_at: now.plus(TTL), ..lease };
    assert_eq!(renewed, Renewed::Renewed(wanted.clone()));
    assert_eq!(next, Entry { version: VERSION, lease: Some(wanted), ..entry });
}

#[test]
fn a_renewal_keeps_what_the_lease_had_seen_of_the_log() {
    let mut world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    world.invalidate_key(Depth::Soft);
    let (next, _) = swap(renew(&world, &entry, &lease, TTL, after(SECOND)));
    assert_eq!(next.lease.unwrap().seen, Seq::START);
    assert_eq!(world.view.position(), Seq(1));
}

#[test]
fn a_renewal_never_reaches_beyond_the_longest_hold() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (next, renewed) = swap(renew(&world, &entry, &lease, secs(3600), after(SECOND)));
    let ttl = MAX_HOLD - SECOND;
    assert_eq!(renewed, Renewed::Renewed(Lease { expires_at: after(MAX_HOLD), ttl, ..lease.clone() }));
    let again = renew(&world, &next, &lease, secs(3600), after(MAX_HOLD).minus(millis(1)));
    assert_eq!(answer(again), renewed);
}

#[test]
fn a_lease_that_was_held_for_as_long_as_one_may_be_is_lost_to_renewals() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = swap(renew(&world, &entry, &lease, secs(3600), after(SECOND)));
    for now in [after(MAX_HOLD), after(secs(3600))] {
        assert_eq!(answer(renew(&world, &entry, &lease, TTL, now)), Renewed::Lost);
    }
    let (_, late) = swap(world.commit(&entry, &lease, &page(), after(MAX_HOLD)));
    assert_eq!(late, Committed::Committed, "its render is not lost with it");
}

#[test]
fn a_renewal_never_shortens_a_lease() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    for (ttl, now) in
        [(SECOND, after(SECOND)), (Duration::ZERO, START), (TTL, START), (TTL, START.minus(secs(3600)))]
    {
        assert_eq!(answer(renew(&world, &entry, &lease, ttl, now)), Renewed::Renewed(lease.clone()));
    }
}

#[test]
fn a_renewal_after_expiry_is_good_as_long_as_nobody_overtook() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let late = after(secs(30));
    let (entry, renewed) = swap(renew(&world, &entry, &lease, TTL, late));
    assert_eq!(renewed, Renewed::Renewed(Lease { expires_at: late.plus(TTL), ..lease }));
    let until = late.plus(TTL).plus(TOLERANCE);
    assert_eq!(answer(world.acquire(&entry, &ask(token(2)), late)), Acquired::Held { until });
}

#[test]
fn a_lease_is_lost_to_whoever_overtook_it() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = grant(world.acquire(&entry, &ask(token(2)), after(TTL + TOLERANCE)));
    assert_eq!(answer(renew(&world, &entry, &lease, TTL, after(TTL + TOLERANCE))), Renewed::Lost);
}

#[test]
fn a_lease_is_lost_by_ending_it() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (committed, _) = swap(world.commit(&entry, &lease, &page(), START));
    assert_eq!(answer(renew(&world, &committed, &lease, TTL, START)), Renewed::Lost);
    for how in [Release::Unused, failed("x"), Release::Unheard] {
        let (released, _) = swap(world.release(&entry, &lease, &how, START));
        assert_eq!(answer(renew(&world, &released, &lease, TTL, START)), Renewed::Lost);
    }
}

#[test]
fn a_renewal_is_bound_to_the_generation_as_well_as_to_the_token() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    for generation in [Generation(FIRST.0 - 1), Generation(FIRST.0 + 1)] {
        let other = Lease { generation, ..lease.clone() };
        assert_eq!(answer(renew(&world, &entry, &other, secs(30), START)), Renewed::Lost);
    }
    let none = transition::renew(None, token(1), FIRST, TTL, world.at(START));
    assert_eq!(answer(none), Renewed::Lost);
}

// --- release ---

#[test]
fn a_release_frees_the_entry_at_once_and_keeps_the_page() {
    let world = World::new();
    let now = after(REVALIDATE);
    let (entry, lease) = world.regenerating(now, token(2));
    let (next, outcome) = swap(world.release(&entry, &lease, &Release::Unused, now));
    assert_eq!(outcome, ReleaseOutcome::Released);
    let released = Some(Released { generation: lease.generation, token: lease.token });
    assert_eq!(next, Entry { version: VERSION, lease: None, released, ..entry });
    let (_, after_it) = grant(world.acquire(&next, &ask(token(3)), now));
    assert_eq!(after_it.generation, Generation(lease.generation.0 + 1));
}

#[test]
fn a_repeated_release_is_told_that_it_is_released_and_has_no_second_effect() {
    let world = World::new();
    for how in [Release::Unused, failed("x")] {
        let (entry, lease) = world.granted(START, token(1));
        let (entry, _) = swap(world.release(&entry, &lease, &how, START));
        for again in [Release::Unused, failed("y")] {
            let outcome = answer(world.release(&entry, &lease, &again, after(secs(9))));
            assert_eq!(outcome, ReleaseOutcome::Released);
        }
        let (entry, _) = grant(world.acquire(&entry, &ask(token(2)), after(secs(9))));
        assert_eq!(answer(world.release(&entry, &lease, &how, after(secs(9)))), ReleaseOutcome::Released);
    }
}

#[test]
fn a_release_repeated_after_the_commit_of_the_next_holder_is_still_told_that_it_was_released() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = swap(world.release(&entry, &lease, &Release::Unused, START));
    let (entry, next) = grant(world.acquire(&entry, &ask(token(2)), START));
    let (entry, _) = swap(world.commit(&entry, &next, &page(), START));
    assert_eq!(answer(world.release(&entry, &lease, &Release::Unused, START)), ReleaseOutcome::Released);
}

#[test]
fn a_release_of_another_attempt_has_no_effect() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    for other in [
        Lease { token: token(2), ..lease.clone() },
        Lease { generation: Generation(FIRST.0 + 1), ..lease.clone() },
        Lease { generation: Generation(FIRST.0 - 1), ..lease.clone() },
    ] {
        assert_eq!(answer(world.release(&entry, &other, &failed("x"), START)), ReleaseOutcome::NotHeld);
    }
    let none = transition::release(None, token(1), FIRST, &Release::Unused, world.at(START));
    assert_eq!(answer(none), ReleaseOutcome::NotHeld);
}

#[test]
fn a_release_after_the_commit_has_no_effect() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = swap(world.commit(&entry, &lease, &page(), START));
    assert_eq!(answer(world.release(&entry, &lease, &failed("late"), START)), ReleaseOutcome::NotHeld);
}

#[test]
fn a_release_of_an_overtaken_lease_has_no_effect() {
    let mut world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    world.invalidate_key(Depth::Soft);
    let (entry, _) = grant(world.acquire(&entry, &ask(token(2)), START));
    assert_eq!(answer(world.release(&entry, &lease, &failed("x"), START)), ReleaseOutcome::NotHeld);
}

#[test]
fn an_expired_lease_can_still_be_released_as_failed() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, outcome) = swap(world.release(&entry, &lease, &failed("slow"), after(secs(3600))));
    assert_eq!(outcome, ReleaseOutcome::Released);
    assert_eq!(entry.backoff.unwrap().not_before, after(secs(3601)));
}

/// Fails `times` in a row, each as soon as a lease is granted; answers the pauses.
fn pauses(world: &World, times: u128) -> Vec<Duration> {
    let (mut entry, mut lease) = world.granted(START, token(0));
    let mut now = START;
    let mut pauses = Vec::new();
    for next in 1..=times {
        let (failed, _) = swap(world.release(&entry, &lease, &failed("503"), now));
        let backoff = failed.backoff.clone().unwrap();
        assert_eq!((u128::from(backoff.failures), backoff.failed_at), (next, now));
        pauses.push(backoff.not_before.since(now));
        now = backoff.not_before;
        (entry, lease) = grant(world.acquire(&failed, &ask(token(next)), now));
    }
    pauses
}

#[test]
fn the_pause_after_a_failure_doubles_and_is_capped() {
    assert_eq!(pauses(&World::new(), 8), [1, 2, 4, 8, 16, 30, 30, 30].map(secs));
}

#[test]
fn a_row_of_failures_of_any_length_stays_at_the_cap() {
    let mut world = World::new();
    world.rules.backoff_max = Duration::MAX;
    world.rules.backoff_base = millis(1);
    let pauses = pauses(&world, 40);
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert_eq!(pauses[31], millis(1 << 31));
    let (entry, lease) = world.granted(START, token(1));
    let backoff = Backoff { failures: u32::MAX, not_before: START, failed_at: START, reason: String::new() };
    let entry = Entry { backoff: Some(backoff), ..entry };
    let (entry, _) = swap(world.release(&entry, &lease, &failed("x"), START));
    assert_eq!(entry.backoff.unwrap().failures, u32::MAX);
}

#[test]
fn a_commit_ends_the_row_of_failures() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = swap(world.release(&entry, &lease, &failed("x"), START));
    let (entry, lease) = grant(world.acquire(&entry, &ask(token(2)), after(SECOND)));
    let (entry, _) = swap(world.commit(&entry, &lease, &page(), after(SECOND)));
    assert_eq!(entry.backoff, None);
}

#[test]
fn a_release_that_is_no_failure_leaves_the_row_of_failures_as_it_is() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = swap(world.release(&entry, &lease, &failed("x"), START));
    let before = entry.backoff.clone();
    for how in [Release::Unused, Release::Unheard] {
        let (entry, lease) = grant(world.acquire(&entry, &ask(token(2)), after(SECOND)));
        let (entry, _) = swap(world.release(&entry, &lease, &how, after(SECOND)));
        assert_eq!(entry.backoff, before);
    }
}

#[test]
fn the_reason_of_a_failure_is_cut_at_a_character_boundary() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let reason_of = |reason: &str| {
        let (entry, _) = swap(world.release(&entry, &lease, &failed(reason), START));
        entry.backoff.unwrap().reason
    };
    assert_eq!(reason_of(""), "");
    let limit = "x".repeat(MAX_REASON_BYTES);
    assert_eq!(reason_of(&limit), limit);
    assert_eq!(reason_of(&format!("{limit}y")), limit);
    let straddling = "x".repeat(MAX_REASON_BYTES - 2) + "€";
    assert_eq!(reason_of(&straddling), "x".repeat(MAX_REASON_BYTES - 2));
    let fitting = "x".repeat(MAX_REASON_BYTES - 3) + "€";
    assert_eq!(reason_of(&(fitting.clone() + "z")), fitting);
}

#[test]
fn a_grant_that_nobody_heard_of_leaves_no_trace_but_its_generation() {
    let world = World::new();
    let entry = world.rendered(&page());
    let (granted, lease) = grant(world.acquire(&entry, &ask(token(2)), after(REVALIDATE)));
    let (undone, outcome) = swap(world.release(&granted, &lease, &Release::Unheard, after(REVALIDATE)));
    assert_eq!(outcome, ReleaseOutcome::Released);
    assert_eq!(undone, Entry { version: VERSION, generation: lease.generation, ..entry });
}

#[test]
fn a_grant_that_a_repetition_was_told_of_is_not_taken_back() {
    let world = World::new();
    let (granted, lease) = world.granted(START, token(1));
    let (told, _) = swap(world.acquire(&granted, &ask(token(1)), START));
    assert_eq!(answer(world.release(&told, &lease, &Release::Unheard, START)), ReleaseOutcome::NotHeld);
}

#[test]
fn a_grant_that_nobody_heard_of_is_taken_back_whatever_else_has_changed() {
    let world = World::new();
    let (granted, lease) = world.regenerating(after(REVALIDATE), token(2));
    let generation = granted.pointer.as_ref().unwrap().generation;
    let (changed, _) = swap(transition::mark_gone(Some(&granted), generation, world.at(START)));
    let (undone, _) = swap(world.release(&changed, &lease, &Release::Unheard, START));
    assert_eq!(undone.lease, None);
}
