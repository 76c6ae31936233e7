//! Acquire: already yours, ended, ready, held, backing off, granted; each is judged before those that follow.

use super::*;
use leasehold_core::{
    freshness::{Absence, Freshness, Staleness},
    transition::expired_from,
};

const NOBODY: Generation = Generation(0);

fn held(lease: &Lease) -> Acquired {
    Acquired::Held { until: lease.expires_at.plus(TOLERANCE) }
}

fn waiting(token: LeaseToken, known: Generation) -> Acquire {
    Acquire { after: Some(known), ..ask(token) }
}

// --- already yours ---

/// The lease that a repetition is told: by a swap that notes the first one and changes nothing else, then without.
#[track_caller]
fn again_yours(world: &World, entry: &Entry, ask: &Acquire, now: Timestamp) -> Lease {
    let (next, told) = swap(world.acquire(entry, ask, now));
    let Acquired::AlreadyYours(lease) = told else {
        panic!("expected to be told of its lease, not {told:?}")
    };
    assert!(lease.repeated);
    assert_eq!(next, Entry { version: VERSION, lease: Some(lease.clone()), ..entry.clone() });
    assert_eq!(answer(world.acquire(&next, ask, now)), Acquired::AlreadyYours(lease.clone()));
    Lease { repeated: false, ..lease }
}

#[test]
fn a_repeated_acquire_is_told_its_stored_lease() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let again = Acquire { ttl: secs(55), ..ask(token(1)) };
    assert_eq!(again_yours(&world, &entry, &again, after(secs(3))), lease);
}

#[test]
fn a_repeated_acquire_is_told_its_lease_even_after_it_expired() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    assert_eq!(again_yours(&world, &entry, &ask(token(1)), after(secs(3600))), lease);
}

#[test]
fn a_repeated_acquire_is_told_its_old_seen_even_after_an_invalidation_overtook_it() {
    let mut world = World::new();
    world.invalidate(Scope::Everything, Depth::Soft);
    let (entry, lease) = world.granted(START, token(1));
    world.invalidate_key(Depth::Hard);
    let told = again_yours(&world, &entry, &ask(token(1)), after(SECOND));
    assert_eq!((told.generation, told.seen), (FIRST, Seq(1)));
    assert_eq!(told, lease);
}

#[test]
fn a_repeated_acquire_is_told_its_lease_even_when_the_page_is_fresh() {
    let world = World::new();
    let (mut entry, lease) = world.regenerating(after(REVALIDATE), token(2));
    entry.pointer.as_mut().unwrap().meta.revalidate = None;
    let fresh = world.acquire(&entry, &ask(token(3)), after(REVALIDATE));
    assert_eq!(answer(fresh), Acquired::Ready(Freshness::Fresh));
    assert_eq!(again_yours(&world, &entry, &ask(token(2)), after(REVALIDATE)), lease);
}

// --- ended ---

#[test]
fn a_late_duplicate_of_an_acquire_that_was_committed_is_told_that_it_ended() {
    let world = World::new();
    let entry = world.rendered(&page());
    for now in [START, after(REVALIDATE), after(RETENTION)] {
        assert_eq!(answer(world.acquire(&entry, &ask(token(1)), now)), Acquired::Ended);
    }
}

#[test]
fn a_late_duplicate_of_an_acquire_that_was_released_is_told_that_it_ended() {
    let world = World::new();
    for how in [Release::Unused, Release::Failed { reason: "503".to_owned() }] {
        let (entry, lease) = world.granted(START, token(1));
        let (entry, _) = swap(world.release(&entry, &lease, &how, START));
        assert_eq!(answer(world.acquire(&entry, &ask(token(1)), after(secs(120)))), Acquired::Ended);
    }
}

#[test]
fn a_released_acquire_stays_ended_while_another_renders() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = swap(world.release(&entry, &lease, &Release::Unused, START));
    let (entry, _) = grant(world.acquire(&entry, &ask(token(2)), START));
    for now in [START, after(secs(120))] {
        assert_eq!(answer(world.acquire(&entry, &ask(token(1)), now)), Acquired::Ended);
    }
}

#[test]
fn an_acquire_whose_grant_nobody_heard_of_may_be_granted_again() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = swap(world.release(&entry, &lease, &Release::Unheard, START));
    let (_, again) = grant(world.acquire(&entry, &ask(token(1)), after(SECOND)));
    assert_eq!(again.generation, Generation(FIRST.0 + 1));
}

// --- ready ---

#[test]
fn a_fresh_page_needs_no_lease() {
    let world = World::new();
    let entry = world.rendered(&page());
    let last = after(REVALIDATE).minus(millis(1));
    assert_eq!(answer(world.acquire(&entry, &ask(token(2)), last)), Acquired::Ready(Freshness::Fresh));
    grant(world.acquire(&entry, &ask(token(2)), after(REVALIDATE)));
}

#[test]
fn a_page_without_revalidate_is_fresh_until_it_is_invalidated() {
    let mut world = World::new();
    let mut page = page();
    page.meta.revalidate = None;
    let entry = world.rendered(&page);
    let late = after(RETENTION).minus(millis(1));
    assert_eq!(answer(world.acquire(&entry, &ask(token(2)), late)), Acquired::Ready(Freshness::Fresh));
    world.invalidate_key(Depth::Soft);
    grant(world.acquire(&entry, &ask(token(2)), late));
}

#[test]
fn a_page_not_regenerated_for_the_whole_retention_is_forgotten_even_without_revalidate() {
    let world = World::new();
    let mut page = page();
    page.meta.revalidate = None;
    let entry = world.rendered(&page);
    let (next, _) = grant(world.acquire(&entry, &ask(token(2)), after(RETENTION)));
    assert_eq!(next.pointer, entry.pointer, "its generation and token still answer retries");
}

#[test]
fn a_coordinator_that_cannot_know_of_invalidations_calls_nothing_fresh_and_grants() {
    let mut world = World::new();
    let entry = world.rendered(&page());
    world.verified = false;
    grant(world.acquire(&entry, &ask(token(2)), after(BOUND)));
}

/// Otherwise every request of a page would render it while the log cannot be read.
#[test]
fn a_page_that_only_cannot_be_verified_is_not_rendered_again_within_the_staleness_bound() {
    let mut world = World::new();
    let entry = world.rendered(&page());
    world.verified = false;
    let unverified = Acquired::Ready(Freshness::Stale(Staleness::Unverified));
    for now in [START, after(BOUND - Duration::from_millis(1))] {
        assert_eq!(answer(world.acquire(&entry, &ask(token(2)), now)), unverified);
    }
    world.invalidate_key(Depth::Soft);
    grant(world.acquire(&entry, &ask(token(2)), START));
}

#[test]
fn freshness_is_judged_before_the_lease() {
    let world = World::new();
    let (mut entry, _) = world.regenerating(after(REVALIDATE), token(2));
    entry.pointer.as_mut().unwrap().meta.revalidate = None;
    let decision = world.acquire(&entry, &ask(token(3)), after(REVALIDATE));
    assert_eq!(answer(decision), Acquired::Ready(Freshness::Fresh));
}

#[test]
fn freshness_is_judged_before_the_backoff() {
    let world = World::new();
    let (entry, lease) = world.regenerating(after(REVALIDATE), token(2));
    let failed = Release::Failed { reason: "x".to_owned() };
    let (mut entry, _) = swap(world.release(&entry, &lease, &failed, after(REVALIDATE)));
    entry.pointer.as_mut().unwrap().meta.revalidate = None;
    let decision = world.acquire(&entry, &ask(token(3)), after(REVALIDATE));
    assert_eq!(answer(decision), Acquired::Ready(Freshness::Fresh));
}

#[test]
fn a_waiter_is_served_a_newer_generation_even_if_it_expired_meanwhile() {
    let world = World::new();
    let entry = world.rendered(&page());
    let decision = world.acquire(&entry, &waiting(token(2), NOBODY), after(secs(3600)));
    assert_eq!(answer(decision), Acquired::Ready(Freshness::Stale(Staleness::Expired)));
}

#[test]
fn a_waiter_is_served_a_newer_generation_by_a_coordinator_that_cannot_know_of_invalidations() {
    let mut world = World::new();
    let entry = world.rendered(&page());
    world.verified = false;
    let decision = world.acquire(&entry, &waiting(token(2), NOBODY), START);
    assert_eq!(answer(decision), Acquired::Ready(Freshness::Stale(Staleness::Unverified)));
}

#[test]
fn a_waiter_is_not_served_the_generation_that_it_knew() {
    let world = World::new();
    let entry = world.rendered(&page());
    grant(world.acquire(&entry, &waiting(token(2), FIRST), after(secs(3600))));
}

#[test]
fn a_waiter_is_not_served_a_newer_generation_that_was_invalidated() {
    for depth in [Depth::Soft, Depth::Hard] {
        let mut world = World::new();
        let entry = world.rendered(&page());
        world.invalidate_key(depth);
        grant(world.acquire(&entry, &waiting(token(2), NOBODY), START));
    }
}

#[test]
fn a_waiter_is_not_served_a_newer_generation_whose_object_is_gone() {
    let world = World::new();
    let (entry, _) = swap(transition::mark_gone(Some(&world.rendered(&page())), FIRST, world.at(START)));
    grant(world.acquire(&entry, &waiting(token(2), NOBODY), START));
}

#[test]
fn a_waiter_is_not_served_a_newer_generation_that_is_forgotten() {
    let world = World::new();
    grant(world.acquire(&world.rendered(&page()), &waiting(token(2), NOBODY), after(RETENTION)));
}

#[test]
fn a_waiter_is_served_before_it_competes_for_a_lease_that_runs() {
    let world = World::new();
    let (entry, _) = world.regenerating(after(REVALIDATE), token(2));
    let decision = world.acquire(&entry, &waiting(token(3), NOBODY), after(REVALIDATE));
    assert_eq!(answer(decision), Acquired::Ready(Freshness::Stale(Staleness::Expired)));
}

// --- held ---

#[test]
fn a_lease_holds_the_entry_until_it_expires_and_the_tolerance_is_over() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let until = START.plus(TTL).plus(TOLERANCE);
    assert_eq!(expired_from(&lease, world.at(START)), until);
    for now in [START, START.plus(TTL), until.minus(millis(1))] {
        assert_eq!(answer(world.acquire(&entry, &ask(token(2)), now)), Acquired::Held { until });
    }
    let (_, next) = grant(world.acquire(&entry, &ask(token(2)), until));
    assert_eq!(next.generation, Generation(FIRST.0 + 1));
}

/// As no coordinator grants it: a lease of another system, or a damaged one.
#[test]
fn a_lease_longer_than_any_time_holds_the_entry_until_it_expires() {
    let world = World::new();
    let (mut entry, _) = world.granted(START, token(1));
    let lease = entry.lease.as_mut().unwrap();
    lease.ttl = Duration::MAX;
    let lease = lease.clone();
    assert_eq!(answer(world.acquire(&entry, &ask(token(2)), START)), held(&lease));
    grant(world.acquire(&entry, &ask(token(2)), lease.expires_at.plus(TOLERANCE)));
}

/// Its grantor's clock is an hour ahead: it ends when it has been known for as long as it was to last.
#[test]
fn a_lease_written_by_a_clock_that_is_ahead_holds_the_entry_no_longer_than_its_ttl() {
    let mut world = World::new();
    let (entry, _) = world.granted(after(secs(3600)), token(1));
    for known_for in [Duration::ZERO, secs(4), TTL] {
        world.known_for = known_for;
        let until = START.plus(TTL + TOLERANCE - known_for);
        assert_eq!(answer(world.acquire(&entry, &ask(token(2)), START)), Acquired::Held { until });
    }
    world.known_for = TTL + TOLERANCE;
    grant(world.acquire(&entry, &ask(token(2)), START));
}

#[test]
fn a_renewal_that_is_known_for_long_ends_by_its_own_ttl() {
    let mut world = World::new();
    let (entry, lease) = world.granted(after(secs(3600)), token(1));
    let now = after(secs(3601));
    let renewed = transition::renew(Some(&entry), lease.token, lease.generation, secs(30), world.at(now));
    let (entry, _) = swap(renewed);
    world.known_for = secs(30);
    let until = START.plus(TOLERANCE);
    assert_eq!(answer(world.acquire(&entry, &ask(token(2)), START)), Acquired::Held { until });
}

#[test]
fn a_lease_is_judged_before_the_backoff() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let failed = Release::Failed { reason: "x".to_owned() };
    let (entry, _) = swap(world.release(&entry, &lease, &failed, START));
    let (entry, lease) = grant(world.acquire(&entry, &ask(token(2)), after(SECOND)));
    // Another coordinator's clock is behind: by it, the backoff is not over.
    let until = START.plus(TTL).plus(TOLERANCE);
    assert_eq!(lease.granted_at, after(SECOND));
    assert_eq!(answer(world.acquire(&entry, &ask(token(3)), START)), Acquired::Held { until });
}

// --- overtaken: granted at once ---

/// Asks once more after `scope` was invalidated while a lease runs on an entry that has a page.
fn while_regenerating(scope: Scope, ask: &Acquire) -> (Acquired, Lease) {
    let mut world = World::new();
    let now = after(REVALIDATE);
    let (entry, lease) = world.regenerating(now, token(2));
    assert_eq!(answer(world.acquire(&entry, ask, now)), held(&lease));
    world.invalidate(scope, Depth::Soft);
    match world.acquire(&entry, ask, now) {
        Decision::Answer(answer) => (answer, lease),
        Decision::Swap(next, answer) => {
            assert_eq!(next.pointer, entry.pointer);
            (answer, lease)
        }
    }
}

#[track_caller]
fn assert_overtaken(scope: Scope, ask: &Acquire) {
    let (answer, lease) = while_regenerating(scope, ask);
    let Acquired::Granted(next) = answer else { panic!("expected a grant, not {answer:?}") };
    assert_eq!((next.generation, next.token), (Generation(lease.generation.0 + 1), ask.token));
    assert_eq!(next.seen, Seq(1));
}

#[track_caller]
fn assert_still_held(scope: Scope, ask: &Acquire) {
    let (answer, lease) = while_regenerating(scope, ask);
    assert_eq!(answer, held(&lease));
}

#[test]
fn a_lease_is_overtaken_by_its_key() {
    let key = |text| Scope::Key(tenant(), EntryKey::parse(text).unwrap());
    assert_overtaken(key("k"), &ask(token(3)));
    assert_still_held(key("other"), &ask(token(3)));
}

#[test]
fn a_lease_is_overtaken_by_the_path_of_the_previous_page() {
    let prefix = |text| Scope::PathPrefix(tenant(), path(text));
    assert_overtaken(prefix("/blog"), &ask(token(3)));
    assert_overtaken(prefix("/"), &ask(token(3)));
    assert_still_held(prefix("/blo"), &ask(token(3)));
}

#[test]
fn a_lease_is_overtaken_by_the_path_that_the_caller_names() {
    let prefix = |text| Scope::PathPrefix(tenant(), path(text));
    let ask = Acquire { path: Some(path("/shop/1")), ..ask(token(3)) };
    assert_overtaken(prefix("/shop"), &ask);
    assert_overtaken(prefix("/blog"), &ask);
    assert_still_held(prefix("/sho"), &ask);
}

#[test]
fn a_first_render_is_overtaken_by_the_path_that_the_caller_names() {
    let mut world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    world.invalidate(Scope::PathPrefix(tenant(), path("/shop")), Depth::Soft);
    assert_eq!(answer(world.acquire(&entry, &ask(token(2)), START)), held(&lease));
    let named = Acquire { path: Some(path("/shop/1")), ..ask(token(2)) };
    grant(world.acquire(&entry, &named, START));
}

#[test]
fn a_lease_is_overtaken_by_its_tenant() {
    assert_overtaken(Scope::Tenant(tenant()), &ask(token(3)));
    assert_still_held(Scope::Tenant(TenantId::parse("other").unwrap()), &ask(token(3)));
}

#[test]
fn a_lease_is_overtaken_by_its_deployment() {
    let release = |text| Scope::Deployment(tenant(), DeploymentId::parse(text).unwrap());
    assert_overtaken(release("v1"), &ask(token(3)));
    assert_still_held(release("v2"), &ask(token(3)));
}

#[test]
fn a_lease_is_overtaken_by_a_tag_of_the_previous_page() {
    assert_overtaken(Scope::Tag(tenant(), tag("news")), &ask(token(3)));
    assert_still_held(Scope::Tag(tenant(), tag("sport")), &ask(token(3)));
    assert_still_held(Scope::Tag(TenantId::parse("other").unwrap(), tag("news")), &ask(token(3)));
}

#[test]
fn a_lease_is_overtaken_by_everything() {
    assert_overtaken(Scope::Everything, &ask(token(3)));
}

#[test]
fn a_lease_granted_after_an_invalidation_is_not_overtaken_by_it() {
    let mut world = World::new();
    world.invalidate(Scope::Everything, Depth::Hard);
    let (entry, lease) = world.granted(START, token(1));
    assert_eq!(answer(world.acquire(&entry, &ask(token(2)), START)), held(&lease));
}

// --- backing off ---

#[test]
fn nobody_is_granted_a_lease_for_a_while_after_a_failure() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let failed = Release::Failed { reason: "503".to_owned() };
    let (entry, _) = swap(world.release(&entry, &lease, &failed, START));
    let until = after(SECOND);
    for now in [START, until.minus(millis(1))] {
        assert_eq!(answer(world.acquire(&entry, &ask(token(2)), now)), Acquired::BackingOff { until });
    }
    let (entry, _) = grant(world.acquire(&entry, &ask(token(2)), until));
    assert_eq!(entry.backoff.unwrap().failures, 1, "a grant does not end a row of failures");
}

#[test]
fn a_backoff_written_by_a_clock_that_is_ahead_lasts_no_longer_than_its_pause() {
    let mut world = World::new();
    let (entry, lease) = world.granted(after(secs(3600)), token(1));
    let failed = Release::Failed { reason: "503".to_owned() };
    let (entry, _) = swap(world.release(&entry, &lease, &failed, after(secs(3600))));
    let until = START.plus(SECOND);
    assert_eq!(answer(world.acquire(&entry, &ask(token(2)), START)), Acquired::BackingOff { until });
    world.known_for = SECOND;
    grant(world.acquire(&entry, &ask(token(2)), START));
}

#[test]
fn an_invalidation_does_not_end_a_backoff() {
    let mut world = World::new();
    let (entry, lease) = world.regenerating(after(REVALIDATE), token(2));
    let failed = Release::Failed { reason: "503".to_owned() };
    let (entry, _) = swap(world.release(&entry, &lease, &failed, after(REVALIDATE)));
    world.invalidate_key(Depth::Hard);
    let decision = world.acquire(&entry, &ask(token(3)), after(REVALIDATE));
    assert_eq!(answer(decision), Acquired::BackingOff { until: after(REVALIDATE + SECOND) });
}

// --- granted ---

#[test]
fn the_first_generation_of_an_entry_is_the_unix_time_in_seconds() {
    let mut world = World::new();
    world.invalidate(Scope::Tenant(TenantId::parse("other").unwrap()), Depth::Soft);
    let (entry, lease) = world.granted(START, token(1));
    let wanted = Lease {
        generation: FIRST,
        token: token(1),
        owner: Owner::parse("worker").unwrap(),
        granted_at: START,
        expires_at: START.plus(TTL),
        ttl: TTL,
        hold_until: START.plus(MAX_HOLD),
        seen: Seq(1),
        repeated: false,
    };
    assert_eq!(lease, wanted);
    let wanted = Entry {
        version: VERSION,
        generation: FIRST,
        pointer: None,
        lease: Some(lease),
        released: None,
        backoff: None,
    };
    assert_eq!(entry, wanted);
}

#[test]
fn no_generation_is_zero_even_at_the_epoch() {
    let (_, lease) = World::new().granted(Timestamp::EPOCH, token(1));
    assert_eq!(lease.generation, Generation(1));
}

#[test]
fn every_further_grant_raises_the_generation_by_one_and_keeps_the_page() {
    let world = World::new();
    let mut entry = world.rendered(&page());
    let pointer = entry.pointer.clone();
    let mut now = after(REVALIDATE);
    for (expected, bits) in (FIRST.0 + 1..).zip(2..6) {
        let (next, lease) = grant(world.acquire(&entry, &ask(token(bits)), now));
        assert_eq!((lease.generation, lease.granted_at), (Generation(expected), now));
        assert_eq!(next.pointer, pointer);
        entry = next;
        now = expired_from(&lease, world.at(now));
    }
}

#[test]
fn a_clock_that_went_back_does_not_lower_the_generation() {
    let world = World::new();
    let (entry, lease) = world.granted(START, token(1));
    let (entry, _) = swap(world.release(&entry, &lease, &Release::Unused, START));
    let (_, next) = grant(world.acquire(&entry, &ask(token(2)), Timestamp::EPOCH));
    assert_eq!(next.generation, Generation(FIRST.0 + 1));
}

/// Nobody counts so far: another system wrote it, or something broke. One more would be no number, or the first again.
#[test]
fn nothing_is_granted_above_the_last_generation_there_is() {
    let world = World::new();
    let rendered = world.rendered(&page());
    let mut foreign = rendered.clone();
    foreign.pointer.as_mut().unwrap().html.digest = Digest::UNKNOWN;
    for entry in [rendered, foreign] {
        let at = |generation| Entry { generation: Generation(generation), ..entry.clone() };
        let (next, _) = grant(world.acquire(&at(u64::MAX - 1), &ask(token(2)), after(REVALIDATE)));
        assert_eq!(next.generation, Generation(u64::MAX));
        let last = world.acquire(&at(u64::MAX), &ask(token(2)), after(REVALIDATE));
        assert_eq!(answer(last), Acquired::Exhausted);
        let fresh = world.acquire(&at(u64::MAX), &ask(token(2)), after(REVALIDATE).minus(millis(1)));
        assert_eq!(answer(fresh), Acquired::Ready(Freshness::Fresh), "the page suffers nothing");
    }
}

#[test]
fn a_ttl_is_cut_to_the_longest_that_a_lease_may_be_held() {
    let world = World::new();
    let long = Acquire { ttl: secs(3600), ..ask(token(1)) };
    let (_, lease) = grant(transition::acquire(None, &long, world.at(START)));
    assert_eq!((lease.expires_at, lease.hold_until), (after(MAX_HOLD), after(MAX_HOLD)));
}

#[test]
fn a_page_that_is_purged_or_gone_is_rendered_again() {
    let mut world = World::new();
    let entry = world.rendered(&page());
    let (gone, _) = swap(transition::mark_gone(Some(&entry), FIRST, world.at(START)));
    let log = Log { view: &world.view, verified: true };
    let judge = |entry: &Entry, log| {
        leasehold_core::freshness::judge(&world.id, entry.pointer.as_ref(), log, START, RETENTION)
    };
    assert_eq!(judge(&gone, log), Freshness::Missing(Absence::BodyGone));
    grant(world.acquire(&gone, &ask(token(2)), START));
    world.invalidate_key(Depth::Hard);
    grant(world.acquire(&entry, &ask(token(2)), START));
}
