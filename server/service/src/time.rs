//! The clock, handed in from outside.

use leasehold_core::time::Timestamp;
use std::{fmt::Debug, time::Duration};

/// One reading of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock, which decides when.
    pub wall: Timestamp,
    /// Time since some fixed point, which never goes back: for ages and rates within this process.
    pub elapsed: Duration,
}

/// Tells the time. The engine asks once for each request, before any I/O.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Moment;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock(std::time::Instant);

impl SystemClock {
    /// Counts elapsed time from here.
    #[expect(clippy::disallowed_methods, reason = "the one place where time comes in")]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where time comes in")]
    fn now(&self) -> Moment {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Moment { wall: Timestamp::EPOCH.plus(since_epoch), elapsed: self.0.elapsed() }
    }
}
