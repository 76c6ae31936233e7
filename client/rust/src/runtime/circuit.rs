//! Keeps an outage from costing every request a timeout.

use crate::clock;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::{sync::watch, time::Instant};

/// So many calls in a row without an answer open it.
const FAILURES: u32 = 3;
/// After so long, one call is tried: so that all is well again within a second of the coordinator's return.
const PAUSE: Duration = Duration::from_millis(500);
/// So long the visitor waits whose request is that call: with the pause, less than that second.
pub(super) const TRIAL: Duration = Duration::from_millis(400);

/// Closed, calls are made. Open, none is, except for one from time to time, which closes it when it is answered.
#[derive(Debug)]
pub(super) struct Circuit {
    state: Mutex<State>,
    /// For those whose call is under way. Changed under the lock of the state only.
    is_open: watch::Sender<bool>,
}

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

impl Default for Circuit {
    fn default() -> Self {
        let state = Mutex::new(State::Closed { failures: 0 });
        Self { state, is_open: watch::Sender::new(false) }
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
        let mut state = self.state.lock();
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
        let mut state = self.state.lock();
        match *state {
            State::Closed { failures } if failures + 1 < FAILURES => {
                *state = State::Closed { failures: failures + 1 };
                false
            }
            State::Closed { .. } => {
                *state = open();
                self.is_open.send_replace(true);
                true
            }
            State::Trying => {
                *state = open();
                false
            }
            State::Open { .. } => false,
        }
    }

    /// There was an answer. Returns whether that closed it.
    pub(super) fn answered(&self) -> bool {
        let mut state = self.state.lock();
        let was = std::mem::replace(&mut *state, State::Closed { failures: 0 });
        let closes = !matches!(was, State::Closed { .. });
        if closes {
            self.is_open.send_replace(false);
        }
        closes
    }

    /// Waits until it is open.
    pub(super) async fn opened(&self) {
        if self.is_open.subscribe().wait_for(|is_open| *is_open).await.is_err() {
            // It is gone with the runtime, and opens no more.
            std::future::pending::<()>().await;
        }
    }
}

impl Permit<'_> {
    /// Whether all depends on this call.
    pub(super) fn is_trial(&self) -> bool {
        self.is_trial
    }
}

fn open() -> State {
    State::Open { until: clock::now() + PAUSE }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.circuit.state.lock();
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
        assert!(trial.as_ref().is_some_and(Permit::is_trial) && circuit.permit().is_none());
        assert!(!circuit.failed(), "it was open before");
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

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_hear_that_it_opens() {
        let circuit = Circuit::default();
        let mut early = std::pin::pin!(circuit.opened());
        for _ in 0..FAILURES {
            assert!(futures::poll!(&mut early).is_pending());
            circuit.failed();
        }
        early.await;
        circuit.opened().await;
        assert!(circuit.answered());
        assert!(futures::poll!(std::pin::pin!(circuit.opened())).is_pending());
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
