//! The one place where this crate reads a clock. It is tokio's, so that a simulation and a test of paused time govern it.

use std::time::Duration;
use tokio::time::Instant;

/// Now, by the runtime's clock.
#[expect(clippy::disallowed_methods, reason = "the seam: everything else in this crate asks here")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// `start + span`, or the far future where that does not exist.
pub(crate) fn later(start: Instant, span: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    start + span.min(FAR)
}
