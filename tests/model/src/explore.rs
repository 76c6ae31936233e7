//! Explores every state of a model within its bounds, and tells of the first that breaks a promise.

use crate::promise::Broken;
use stateright::{Checker, Model, Path, Property};
use std::{
    fmt::{self, Debug, Display},
    hash::Hash,
};

/// The only property that the checker knows: states say themselves which promise they have broken.
const PROMISES_HOLD: &str = "the promises hold";

/// A state that knows what has gone wrong on the way to it.
pub trait Judged {
    /// What has.
    fn broken(&self) -> Broken;
}

/// What every model has as its properties.
pub(crate) fn properties<M>() -> Vec<Property<M>>
where
    M: Model<State: Judged>,
{
    vec![Property::always(PROMISES_HOLD, |_, state: &M::State| state.broken().is_none())]
}

/// What came of an exploration.
#[derive(Clone, Debug)]
pub struct Explored<S, A> {
    /// States that differ.
    pub states: usize,
    /// Steps that were tried between them.
    pub steps: usize,
    /// The longest way to one of them.
    pub depth: usize,
    /// How a promise was broken. Without one, every state within the bounds was visited, and kept them all.
    pub counterexample: Option<Counterexample<S, A>>,
}

/// A way to a state that has broken a promise.
#[derive(Clone, Debug)]
pub struct Counterexample<S, A> {
    /// The steps, to be replayed by [`replay`].
    pub steps: Vec<A>,
    /// Where they lead.
    pub end: S,
}

impl<S: Judged + Debug, A: Debug> Display for Counterexample<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "breaks {:?} after", self.end.broken())?;
        self.steps.iter().try_for_each(|step| writeln!(f, "    {step:?},"))?;
        write!(f, "at {:#?}", self.end)
    }
}

/// Visits every state, or as many as it takes to find one that breaks a promise: by one thread that is the nearest, by more
/// any.
pub fn explore<M>(model: M, threads: usize) -> Explored<M::State, M::Action>
where
    M: Model + Send + Sync + 'static,
    M::State: Judged + Clone + PartialEq + Hash + Send + Sync + 'static,
    M::Action: Clone + PartialEq + Send + Sync + 'static,
{
    let checker = model.checker().threads(threads).spawn_bfs().join();
    let counterexample = checker
        .discovery(PROMISES_HOLD)
        .map(|path| Counterexample { end: path.last_state().clone(), steps: path.into_actions() });
    Explored {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        counterexample,
    }
}

/// Takes these steps from the beginning, and answers with where they lead.
///
/// # Panics
/// Where one of them is not possible.
pub fn replay<M>(model: &M, steps: &[M::Action]) -> M::State
where
    M: Model<State: Clone + PartialEq, Action: Clone + PartialEq + Debug>,
{
    let [start] = &model.init_states()[..] else { panic!("every model has one beginning") };
    for taken in 1..=steps.len() {
        let is_possible = Path::from_actions(model, start.clone(), &steps[..taken]).is_some();
        assert!(is_possible, "step {taken} is not possible: {:?}", steps[taken - 1]);
    }
    Path::from_actions(model, start.clone(), steps)
        .map_or_else(|| start.clone(), |path| path.last_state().clone())
}
