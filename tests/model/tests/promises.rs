//! Every state within the bounds keeps every promise, and what can happen does.

use leasehold_core::mutation;
use leasehold_model::focus::{ALL, Size};

/// One test for each focus; a filter runs one alone, and `--show-output` prints the figures.
macro_rules! foci {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                keeps_every_promise(stringify!($name));
            }
        )*

        #[test]
        fn no_focus_is_left_out() {
            assert_eq!(ALL.map(|focus| focus.name), [$(stringify!($name)),*]);
        }
    };
}

foci! {
    duplicates,
    overtaken,
    losses,
    releases,
    renewals,
    late_renewals,
    unheard,
    depths,
    bound,
    waiters,
    bodies,
    three,
    log,
    unverified,
    expiry,
    restarts,
    lookups,
}

fn keeps_every_promise(name: &str) {
    let focus = ALL.into_iter().find(|focus| focus.name == name).expect("a focus of this name");
    // No test takes a rule out meanwhile, and they have their turn one after the other: each uses every core.
    let _rules_hold = mutation::only(None);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let outcome = focus.explore(Size::Usual, threads);
    println!("{name}: {} states, {} steps, {} deep", outcome.states, outcome.steps, outcome.depth);
    if let Some(counterexample) = outcome.counterexample {
        panic!("{name} {counterexample}");
    }
    assert!(outcome.never.is_empty(), "{name}: never happened: {:?}", outcome.never);
}
