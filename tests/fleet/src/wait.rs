//! Waiting for what is bound to happen.

use crate::{now, since};
use std::time::Duration;

/// Asks `probe` until it has an answer.
///
/// # Panics
/// When there is none within `limit`; says `what` was waited for.
pub async fn until<T>(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    const PAUSE: Duration = Duration::from_millis(10);
    let start = now();
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(since(start) < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(PAUSE).await;
    }
}
