//! One seed, so that the simulation is seen to work by `cargo test` too. Many, and their repetition: `tests/sim/run`.

use leasehold_sim::report;

#[test]
fn a_seed_runs_to_its_end_and_breaks_no_promise() {
    let report = report::run(4, None).unwrap();
    assert_eq!(report.violations, []);
    assert!(report.operations > 500, "{report:?}");
    assert!(report.faults.values().sum::<u64>() > 0, "{report:?}");
}
