//! Ways through the model that are worth their names.

use leasehold_core::mutation::{self, Mutation};
use leasehold_model::{
    events::Kind,
    explore::replay,
    promise::Promise,
    record::Attempt,
    regeneration::{Action, Bounds, Regeneration, Request},
    scenery::Moment,
};

const A: u8 = 0;
const B: u8 = 1;

fn acquire(worker: u8, on: u8, moment: Moment) -> Action {
    Action::Arrive { request: Request::Acquire, worker, on, moment, heard: true }
}

/// A render of old data, for which a late duplicate of its acquire is granted a second lease after the invalidation.
fn late_duplicate() -> (Regeneration, Vec<Action>) {
    let model = Regeneration::new(Bounds {
        workers: 2,
        acquires: 2,
        commits: 1,
        invalidations: vec![Kind::SoftTag],
        events: 1,
        moments: vec![Moment::Early, Moment::LeaseOver],
        ..Default::default()
    });
    let steps = vec![
        // A is granted its lease and begins to render. The network keeps a copy of its acquire.
        acquire(A, 0, Moment::Early),
        Action::Land { on: 0, heard: true },
        // The data changes, and what A renders is invalidated, by a tag that its commit will be the first to name.
        Action::Invalidate { on: 1, kind: Kind::SoftTag },
        // A stalls, B overtakes it, and stalls too.
        acquire(B, 1, Moment::LeaseOver),
        Action::Land { on: 1, heard: true },
        // The copy arrives, and is granted: the same token, a newer generation, a newer `seen`.
        acquire(A, 1, Moment::LeaseOver),
        Action::Land { on: 1, heard: true },
        // A commits its old render, under the generation that it was given before it began.
        Action::Arrive { request: Request::Commit, worker: A, on: 1, moment: Moment::Early, heard: true },
    ];
    (model, steps)
}

/// The counterexample by which a model checker found that a token is not enough.
#[test]
fn a_late_duplicate_of_an_acquire_does_not_let_the_old_render_in() {
    let _rules_hold = mutation::only(None);
    let (model, steps) = late_duplicate();
    let end = replay(&model, &steps);
    let lease = end.stored.and_then(|record| record.lease).expect("the duplicate's lease");
    assert_eq!((lease.by, lease.seen), (Attempt { worker: A, generation: 3 }, 1));
    assert_eq!(end.workers[usize::from(A)].render, Some((1, 0)));
    assert!(end.broken.is_none());
    // It is fenced: there is nothing to swap, and no page.
    assert_eq!(end.coordinators[1].swapping, None);
    assert_eq!(end.stored.and_then(|record| record.page), None);
}

#[test]
fn a_late_duplicate_of_an_acquire_lets_the_old_render_in_as_fresh_where_generations_are_not_compared() {
    let _one_is_out = mutation::only(Some(Mutation::TokenWithoutGeneration));
    let (model, mut steps) = late_duplicate();
    steps.push(Action::Land { on: 1, heard: true });
    let end = replay(&model, &steps);
    let page = end.stored.and_then(|record| record.page).expect("the old render");
    assert!(page.is_older_than(1) && page.seen == 1);
    assert!(end.broken.has(Promise::InvalidationWins), "{:?}", end.broken);
}
