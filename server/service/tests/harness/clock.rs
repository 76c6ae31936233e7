//! A clock that a test can put forward, and stop.

use leasehold_core::time::Timestamp;
use leasehold_service::time::{Clock, Moment, SystemClock};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// The beginning of time for every test.
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Runs as the machine's clock does, plus what it was put forward by; or stands still.
#[derive(Debug)]
pub(crate) struct TestClock {
    machine: SystemClock,
    stepped_micros: AtomicU64,
    stands: AtomicBool,
    stood_at_micros: AtomicU64,
}

impl TestClock {
    pub(crate) fn start() -> Self {
        Self {
            machine: SystemClock::start(),
            stepped_micros: AtomicU64::new(0),
            stands: AtomicBool::new(false),
            stood_at_micros: AtomicU64::new(0),
        }
    }

    /// Puts it forward.
    pub(crate) fn step(&self, by: Duration) {
        self.stepped_micros.fetch_add(u64::try_from(by.as_micros()).expect("a step"), Ordering::SeqCst);
    }

    /// From here on it moves only by steps.
    pub(crate) fn stand_still(&self) {
        self.stood_at_micros.store(self.machine_micros(), Ordering::SeqCst);
        self.stands.store(true, Ordering::SeqCst);
    }

    fn machine_micros(&self) -> u64 {
        u64::try_from(self.machine.now().elapsed.as_micros()).expect("a time")
    }
}

impl Clock for TestClock {
    fn now(&self) -> Moment {
        let stands = self.stands.load(Ordering::SeqCst);
        let base = if stands { self.stood_at_micros.load(Ordering::SeqCst) } else { self.machine_micros() };
        let elapsed = Duration::from_micros(base + self.stepped_micros.load(Ordering::SeqCst));
        Moment { wall: START.plus(elapsed), elapsed }
    }
}

/// A clock that is ahead of the others'.
#[derive(Debug)]
pub(crate) struct Ahead(pub(crate) Arc<TestClock>, pub(crate) Duration);

impl Clock for Ahead {
    fn now(&self) -> Moment {
        let Moment { wall, elapsed } = self.0.now();
        Moment { wall: wall.plus(self.1), elapsed }
    }
}
