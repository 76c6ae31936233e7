//! The one clock of a run.

use leasehold_checker::history::Time;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since a run began, by the machine's monotonic clock: the same in every process of the run, and it goes on while
/// one does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: Time,
}

impl Clock {
    /// That of a run which begins now.
    pub(crate) fn start() -> Self {
        Self { began: monotonic() }
    }

    /// That of a run which [began](Self::began) then.
    pub(crate) fn of_run(began: Time) -> Self {
        Self { began }
    }

    /// What another process of the run makes its clock of.
    pub(crate) fn began(self) -> Time {
        self.began
    }

    /// Whole milliseconds: what is earlier by this clock was earlier.
    pub(crate) fn now(self) -> Time {
        monotonic().saturating_sub(self.began)
    }
}

fn monotonic() -> Time {
    let now = clock_gettime(ClockId::Monotonic);
    // Since the machine started, and so neither of them is negative.
    now.tv_sec.unsigned_abs() * 1_000 + now.tv_nsec.unsigned_abs() / 1_000_000
}
