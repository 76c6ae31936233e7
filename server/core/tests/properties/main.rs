//! The promises of the design over random histories: workers that stall, repeat and give up, coordinators
//! that lag and whose clocks leap, calls and replies that are lost, delayed and duplicated, swaps that land
//! late.
//!
//! `world` carries calls out on one register with a compare-and-swap; `truth` keeps its own record of what
//! happened, in other terms than the entry's, and judges every answer and every swap by it.

mod scenery;
mod steps;
mod truth;
mod whole_log;
mod world;

use proptest::test_runner::{Config, TestError, TestRunner};
use std::{cell::RefCell, collections::BTreeMap};
use world::World;

/// How often each thing happened, over all histories.
type Counts = RefCell<BTreeMap<&'static str, u64>>;

/// What has to happen at least once for the histories to show anything.
const OCCURRENCES: [&str; 55] = [
    "acquire: already yours",
    "acquire: already yours, expired",
    "acquire: already yours, overtaken",
    "acquire: ended",
    "acquire: ready, fresh",
    "acquire: ready, awaited though expired",
    "acquire: ready, though unverified",
    "acquire: held",
    "acquire: backing off",
    "acquire: granted for the first time",
    "acquire: granted after an expiry",
    "acquire: granted by overtaking",
    "acquire: granted when free",
    "acquire: granted to the same token again",
    "renew: moved",
    "renew: moved after expiry",
    "renew: left as it was",
    "renew: lost to another",
    "renew: lost to the longest hold",
    "release: unused",
    "release: failed",
    "release: failed again",
    "release: unheard",
    "release: kept, as somebody heard of it",
    "release: repeated",
    "release: not held",
    "commit: committed",
    "commit: committed late",
    "commit: committed stale, soft",
    "commit: committed stale, hard",
    "commit: repeated, committed",
    "commit: repeated, stale by now",
    "commit: superseded",
    "commit: superseded after it was current",
    "commit: fenced",
    "commit: fenced while its token has another generation",
    "gone: marked",
    "gone: repeated",
    "gone: superseded",
    "judge: fresh",
    "judge: fresh, rendered after an invalidation of it",
    "judge: expired",
    "judge: invalidated",
    "judge: unverified",
    "judge: never rendered",
    "judge: purged",
    "judge: gone",
    "judge: forgotten by age",
    "judge: kept from being fresh by an event that is forgotten",
    "log: forgotten",
    "log: expired in the store before it was read",
    "swap: refused",
    "swap: landed late",
    "swap: refused late",
    "answer: from a remembered copy",
];

#[test]
fn promises_hold_over_histories_of_lost_late_and_repeated_calls() {
    let counts = Counts::default();
    // A history that breaks a promise is printed whole: it becomes a named test, not a file of seeds.
    let config = Config { cases: 512, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&steps::history(), |history| {
        let mut world = World::new(&counts);
        for step in history {
            world.play(step)?;
            world.look_around()?;
        }
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, history)) => panic!("{reason}\nafter {history:#?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
    let counts = counts.into_inner();
    for (what, times) in &counts {
        println!("{times:8}  {what}");
    }
    let never: Vec<_> = OCCURRENCES.iter().filter(|what| !counts.contains_key(**what)).collect();
    assert!(never.is_empty(), "never happened: {never:?}");
    let unlisted: Vec<_> = counts.keys().filter(|what| !OCCURRENCES.contains(what)).collect();
    assert!(unlisted.is_empty(), "not asked for: {unlisted:?}");
}
