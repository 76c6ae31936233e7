//! Keeps an outage from costing every request a timeout.

use crate::clock;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// So many calls in a row without an answer open it.
const FAILURES: u32 = 3;
/// After so long, one call is tried: so that all is well again within a second of the coordinator's return.
const PAUSE: Duration = Duration::from_millis(500);

/// Closed, calls are made. Open, none is, except for one from time to time, which closes it when it is answered.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Clone, Copy, Debug)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// One call is being tried.
    Trying,
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// The right to make calls. Dropped without a word, it has shown nothing.
pub(super) struct Permit<'a> {
    circuit: &'a Circuit,
    is_trial: bool,
}

impl Circuit {
    /// `None`: the coordinator is not asked now.
    pub(super) fn permit(&self) -> Option<Permit<'_>> {
        let mut state = self.0.lock();
        let is_trial = match *state {
            State::Closed { .. } => false,
            State::Open { until } if until <= clock::now() => {
                *state = State::Trying;
                true
            }
            State::Open { .. } | State::Trying => return None,
        };
        Some(Permit { circuit: self, is_trial })
    }

    /// Nobody was there, or able to answer. Returns whether that opened it.
    pub(super) fn failed(&self) -> bool {
        let mut state = self.0.lock();
        let failures = match *state {
            State::Closed { failures } => failures + 1,
            State::Open { .. } => return false,
            State::Trying => FAILURES,
        };
        let opens = failures >= FAILURES;
        *state = if opens { open() } else { State::Closed { failures } };
        opens
    }

    /// There was an answer. Returns whether that closed it.
    pub(super) fn answered(&self) -> bool {
        let was = std::mem::take(&mut *self.0.lock());
        !matches!(was, State::Closed { .. })
    }
}

fn open() -> State {
    State::Open { until: clock::now() + PAUSE }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.circuit.0.lock();
        if self.is_trial && matches!(*state, State::Trying) {
            // Whoever tried went away: the next one tries.
            *state = State::Open { until: clock::now() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_three_failures_one_call_at_a_time_is_tried() {
        let circuit = Circuit::default();
        assert!(!circuit.failed() && !circuit.failed());
        assert!(circuit.permit().is_some());
        assert!(circuit.failed());
        assert!(circuit.permit().is_none());

        tokio::time::advance(PAUSE).await;
        let trial = circuit.permit();
        assert!(trial.is_some() && circuit.permit().is_none());
        assert!(circuit.failed());
        drop(trial);
        assert!(circuit.permit().is_none());

        tokio::time::advance(PAUSE).await;
        let trial = circuit.permit();
        assert!(circuit.answered());
        drop(trial);
        assert!(circuit.permit().is_some() && circuit.permit().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_is_given_up_leaves_the_next_call_its_turn() {
        let circuit = Circuit::default();
        for _ in 0..FAILURES {
            circuit.failed();
        }
        tokio::time::advance(PAUSE).await;
        drop(circuit.permit());
        assert!(circuit.permit().is_some());
    }

    #[test]
    fn an_answer_forgets_the_failures_before_it() {
        let circuit = Circuit::default();
        for _ in 0..10 {
            circuit.failed();
            assert!(!circuit.answered());
        }
        assert!(circuit.permit().is_some());
    }
}
