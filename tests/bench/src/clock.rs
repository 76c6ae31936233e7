//! The driver's clock.

use std::time::Instant;

/// Now.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time; everything here asks this function"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
