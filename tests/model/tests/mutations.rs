//! With any one rule taken out, a promise breaks, and the way there is found. Without that the model would show nothing.

use leasehold_core::mutation::{self, Mutation};
use leasehold_model::{
    appending::{self, Log},
    events::Kind,
    explore::{Explored, Judged, explore},
    promise::Promise,
    reading::{self, Reading},
    regeneration::{self, Regeneration},
    scenery::Moment,
};
use std::fmt::Debug;

#[test]
fn a_commit_without_a_look_at_the_token_is_refuted() {
    let bounds = regeneration::Bounds { workers: 2, ..one_worker() };
    refute(Mutation::CommitWithoutToken, Promise::OneWinner, regenerating(bounds));
}

#[test]
fn a_token_without_its_generation_is_refuted() {
    let bounds = regeneration::Bounds { workers: 2, acquires: 2, events: 1, ..one_worker() };
    refute(Mutation::TokenWithoutGeneration, Promise::InvalidationWins, regenerating(bounds));
}

#[test]
fn a_position_that_is_taken_at_the_commit_is_refuted() {
    let bounds = regeneration::Bounds { events: 1, ..one_worker() };
    refute(Mutation::SeenTakenAtCommit, Promise::InvalidationWins, regenerating(bounds));
}

#[test]
fn a_position_that_already_yours_refreshes_is_refuted() {
    let bounds = regeneration::Bounds { acquires: 2, events: 1, ..one_worker() };
    refute(Mutation::SeenRefreshedByAlreadyYours, Promise::InvalidationWins, regenerating(bounds));
}

#[test]
fn a_position_that_a_renewal_refreshes_is_refuted() {
    let bounds = regeneration::Bounds { renewals: 1, events: 1, ..one_worker() };
    refute(Mutation::SeenRefreshedByRenewal, Promise::InvalidationWins, regenerating(bounds));
}

#[test]
fn a_refused_swap_taken_as_a_rivals_win_is_refuted() {
    let bounds = regeneration::Bounds { losses: 1, ..one_worker() };
    refute(Mutation::RefusedSwapIsARivalsWin, Promise::TurnedAwayForGood, regenerating(bounds));
}

#[test]
fn fenced_on_the_word_of_a_remembered_entry_is_refuted() {
    refute(Mutation::FencedFromMemory, Promise::TurnedAwayForGood, regenerating(one_worker()));
}

#[test]
fn a_generation_used_as_the_version_is_refuted() {
    let bounds = regeneration::Bounds { acquires: 2, ..one_worker() };
    refute(Mutation::GenerationAsVersion, Promise::NothingLost, regenerating(bounds));
}

#[test]
fn a_strict_read_that_joins_one_in_flight_is_refuted() {
    let explore_with = |promises| {
        let bounds = reading::Bounds { strict: 2, commits: 1, ..Default::default() };
        explore(Reading { promises, ..Reading::new(bounds) }, 1)
    };
    refute(Mutation::StrictReadJoinsInFlight, Promise::StrictIsLinearizable, explore_with);
}

#[test]
fn an_append_to_an_empty_slot_is_refuted() {
    let explore_with = |promises| {
        let bounds = appending::Bounds { requests: 2, arrivals: 1, expiring: true, ..Default::default() };
        explore(Log { promises, ..Log::new(bounds) }, 1)
    };
    refute(Mutation::AppendOnEmptySlot, Promise::NoEventIsMissed, explore_with);
}

#[test]
fn a_late_append_to_a_slot_that_was_emptied_is_refuted() {
    let explore_with = |promises| {
        let bounds = appending::Bounds {
            requests: 1,
            arrivals: 1,
            losses: 1,
            floating: 1,
            expiring: true,
            ..Default::default()
        };
        explore(Log { promises, ..Log::new(bounds) }, 1)
    };
    refute(Mutation::AppendOnEmptySlot, Promise::PositionsAreFinal, explore_with);
}

#[test]
fn a_verdict_stamped_at_the_end_of_its_load_is_refuted() {
    let explore_with = |promises| {
        let bounds = reading::Bounds {
            bounded: 2,
            commits: 1,
            invalidations: vec![Kind::SoftTag],
            events: 1,
            ..Default::default()
        };
        explore(Reading { promises, ..Reading::new(bounds) }, 1)
    };
    refute(Mutation::VerdictStampedAtEndOfLoad, Promise::InvalidationWins, explore_with);
}

/// The least in which anything can go wrong.
fn one_worker() -> regeneration::Bounds {
    regeneration::Bounds {
        workers: 1,
        acquires: 1,
        commits: 1,
        invalidations: vec![Kind::SoftTag],
        moments: vec![Moment::Early, Moment::LeaseOver],
        ..Default::default()
    }
}

fn regenerating(
    bounds: regeneration::Bounds,
) -> impl Fn(Vec<Promise>) -> Explored<regeneration::State, regeneration::Action> {
    // By one thread: the counterexample is then the shortest.
    move |promises| explore(Regeneration { promises, ..Regeneration::new(bounds.clone()) }, 1)
}

/// Within the same bounds, the promise is kept with the rule, and broken without it.
fn refute<S: Judged + Debug, A: Debug>(
    mutation: Mutation,
    promise: Promise,
    explore_with: impl Fn(Vec<Promise>) -> Explored<S, A>,
) {
    let rules_hold = mutation::only(None);
    let explored = explore_with(vec![promise]);
    assert!(explored.counterexample.is_none(), "{promise:?} does not hold with every rule in force");
    drop(rules_hold);
    let _one_is_out = mutation::only(Some(mutation));
    let found = explore_with(vec![promise]);
    let counterexample =
        found.counterexample.unwrap_or_else(|| panic!("{promise:?} holds without the rule: {mutation:?}"));
    println!("{mutation:?}, after {} states, {counterexample}", found.states);
    assert!(counterexample.end.broken().has(promise));
}
