//! The one place where the fleet reads a clock.

use std::time::Duration;
use tokio::time::Instant;

/// Now. All processes of a fleet are on one machine, so a test may time what happens between them.
#[expect(clippy::disallowed_methods, reason = "the seam: everything else in this crate asks here")]
pub fn now() -> Instant {
    Instant::now()
}

/// How long ago that was.
pub fn since(start: Instant) -> Duration {
    now().saturating_duration_since(start)
}
