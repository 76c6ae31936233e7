//! With any one rule taken out a promise breaks, and the way there is found. Without that the model would show nothing.

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

/// One test for each line, which prints its counterexample (`--show-output`), and one that no line is missing.
macro_rules! refuted {
    ($($name:ident: $mutation:ident breaks $promise:ident in $explored:expr;)*) => {
        $(
            #[test]
            fn $name() {
                refute(Mutation::$mutation, Promise::$promise, $explored);
            }
        )*

        #[test]
        fn every_rule_is_taken_out_once_and_every_promise_broken_once() {
            let rules = [$(Mutation::$mutation),*];
            let promises = [$(Promise::$promise),*];
            let kept: Vec<_> = Mutation::ALL.into_iter().filter(|rule| !rules.contains(rule)).collect();
            assert!(kept.is_empty(), "never taken out: {kept:?}");
            let whole: Vec<_> = Promise::ALL.into_iter().filter(|it| !promises.contains(it)).collect();
            assert!(whole.is_empty(), "never broken: {whole:?}");
        }
    };
}

refuted! {
    a_commit_without_a_look_at_its_token:
        CommitWithoutToken breaks OneWinner in regenerating(two_workers());
    a_token_without_its_generation:
        TokenWithoutGeneration breaks InvalidationWins in
            regenerating(regeneration::Bounds { acquires: 2, events: 1, ..two_workers() });
    a_position_taken_at_the_commit:
        SeenTakenAtCommit breaks InvalidationWins in
            regenerating(regeneration::Bounds { events: 1, ..one_worker() });
    a_position_taken_at_the_commit_of_a_page_that_was_purged:
        SeenTakenAtCommit breaks PurgedStaysPurged in
            regenerating(regeneration::Bounds { events: 1, invalidations: vec![Kind::HardTag], ..one_worker() });
    a_position_that_is_not_that_of_the_grant:
        SeenTakenAtCommit breaks SeenIsKept in
            regenerating(regeneration::Bounds { events: 1, ..one_worker() });
    a_position_refreshed_by_already_yours:
        SeenRefreshedByAlreadyYours breaks InvalidationWins in
            regenerating(regeneration::Bounds { acquires: 2, events: 1, ..one_worker() });
    a_position_refreshed_by_a_renewal:
        SeenRefreshedByRenewal breaks InvalidationWins in
            regenerating(regeneration::Bounds { renewals: 1, events: 1, ..one_worker() });
    a_refused_swap_taken_as_a_rivals_win:
        RefusedSwapIsARivalsWin breaks TurnedAwayForGood in
            regenerating(regeneration::Bounds { losses: 1, ..one_worker() });
    fenced_on_the_word_of_a_remembered_entry:
        FencedFromMemory breaks TurnedAwayForGood in regenerating(one_worker());
    a_generation_used_as_the_version_where_a_page_is_lost:
        GenerationAsVersion breaks NothingLost in
            regenerating(regeneration::Bounds { acquires: 2, ..one_worker() });
    a_generation_used_as_the_version_where_another_swap_is_taken_for_ones_own:
        GenerationAsVersion breaks SaidAndDone in
            regenerating(regeneration::Bounds { renewals: 1, losses: 1, floating: 1, ..one_worker() });
    a_generation_used_as_the_version_where_a_lease_is_taken_back:
        GenerationAsVersion breaks HeardIsKept in
            regenerating(regeneration::Bounds { acquires: 2, deaf: true, undoing: true, ..one_worker() });
    a_strict_read_that_joins_one_in_flight:
        StrictReadJoinsInFlight breaks StrictIsLinearizable in
            reading(reading::Bounds { strict: 2, commits: 1, ..Default::default() });
    an_append_to_an_empty_slot_behind_the_readers:
        AppendOnEmptySlot breaks NoEventIsMissed in
            appending(appending::Bounds { requests: 2, expiring: true, ..Default::default() });
    an_append_to_an_empty_slot_that_comes_late:
        AppendOnEmptySlot breaks PositionsAreFinal in appending(appending::Bounds {
            requests: 1, losses: 1, floating: 1, expiring: true, ..Default::default()
        });
    an_append_to_an_empty_slot_of_what_was_appended_already:
        AppendOnEmptySlot breaks OneEffect in
            appending(appending::Bounds { requests: 2, repeats: 1, expiring: true, ..Default::default() });
    an_append_to_an_empty_slot_that_replaces_another:
        AppendOnEmptySlot breaks AcknowledgedIsAppended in
            appending(appending::Bounds { requests: 2, repeats: 1, expiring: true, ..Default::default() });
    a_verdict_stamped_at_the_end_of_its_load:
        VerdictStampedAtEndOfLoad breaks InvalidationWins in reading(reading::Bounds {
            bounded: 2, commits: 1, invalidations: vec![Kind::SoftTag], events: 1, ..Default::default()
        });
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

fn two_workers() -> regeneration::Bounds {
    regeneration::Bounds { workers: 2, ..one_worker() }
}

// By one thread, each: the counterexample is then the shortest.

fn regenerating(
    bounds: regeneration::Bounds,
) -> impl Fn(Vec<Promise>) -> Explored<regeneration::State, regeneration::Action> {
    move |promises| explore(Regeneration { promises, ..Regeneration::new(bounds.clone()) }, 1)
}

fn appending(
    bounds: appending::Bounds,
) -> impl Fn(Vec<Promise>) -> Explored<appending::State, appending::Action> {
    move |promises| explore(Log { promises, ..Log::new(bounds.clone()) }, 1)
}

fn reading(bounds: reading::Bounds) -> impl Fn(Vec<Promise>) -> Explored<reading::State, reading::Action> {
    move |promises| explore(Reading { promises, ..Reading::new(bounds.clone()) }, 1)
}

/// Within the same bounds, the promise is kept with the rule, and broken without it.
fn refute<S: Judged + Debug, A: Debug>(
    mutation: Mutation,
    promise: Promise,
    explore_with: impl Fn(Vec<Promise>) -> Explored<S, A>,
) {
    let rules_hold = mutation::only(None);
    let explored = explore_with(vec![promise]);
    if let Some(counterexample) = explored.counterexample {
        panic!("with every rule in force, it {counterexample}");
    }
    drop(rules_hold);
    let _one_is_out = mutation::only(Some(mutation));
    let found = explore_with(vec![promise]);
    let counterexample =
        found.counterexample.unwrap_or_else(|| panic!("{promise:?} holds without the rule: {mutation:?}"));
    println!("{mutation:?}, after {} states, {counterexample}", found.states);
    assert!(counterexample.end.broken().has(promise));
}
