//! When to try again, and when an outage has had enough of us.

use crate::clock;
use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// How calls are repeated. Every call can be: those that change something carry a request id.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// At most so many attempts of one call, the first included. Default: 100, which leaves it to the overall timeout and
    /// to the budget.
    pub max_attempts: u32,
    /// The pause before the second attempt, of which a random half to whole is taken; each one after is twice as long.
    /// Default: 25 ms.
    pub initial_backoff: Duration,
    /// No pause is longer, unless the coordinator asks for it. Default: 1 s.
    pub max_backoff: Duration,
    /// How many retries all calls of one [`Coordinator`](crate::Coordinator) share.
    pub budget: RetryBudget,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 100,
            initial_backoff: Duration::from_millis(25),
            max_backoff: Duration::from_secs(1),
            budget: RetryBudget::default(),
        }
    }
}

impl RetryPolicy {
    /// One attempt and no more.
    pub fn never() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }

    /// Before jitter: the pause after so many failed attempts.
    pub(crate) fn backoff(&self, failed: u32) -> Duration {
        let doublings = failed.saturating_sub(1).min(20);
        self.initial_backoff.saturating_mul(1 << doublings).min(self.max_backoff)
    }
}

/// A bucket of retries. Without it, an outage makes every call `max_attempts` calls, which keeps it going.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryBudget {
    /// What the bucket holds, and begins with. Default: 1000.
    pub burst: u32,
    /// What flows in with time. Default: 50.
    pub per_second: f64,
    /// What flows in with every call, whatever becomes of it. Default: 0.2.
    pub per_call: f64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { burst: 1000, per_second: 50.0, per_call: 0.2 }
    }
}

/// The bucket in use.
pub(crate) struct Bucket {
    limits: RetryBudget,
    calls: AtomicU64,
    level: Mutex<Level>,
}

struct Level {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(limits: RetryBudget) -> Self {
        let level = Level { tokens: limits.burst.into(), at: clock::now() };
        Self { limits, calls: AtomicU64::new(0), level: Mutex::new(level) }
    }

    /// A call begins.
    pub(crate) fn deposit(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a retry is in the budget, which is then one less.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        let mut level = self.level.lock();
        let calls = self.calls.swap(0, Ordering::Relaxed) as f64;
        let seconds = now.saturating_duration_since(level.at).as_secs_f64();
        let income = calls * self.limits.per_call + seconds * self.limits.per_second;
        level.tokens = (level.tokens + income).min(self.limits.burst.into());
        level.at = now;
        let granted = level.tokens >= 1.0;
        if granted {
            level.tokens -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_limit() {
        let policy = RetryPolicy::default();
        let pauses: Vec<_> = (1..=8).map(|failed| policy.backoff(failed).as_millis()).collect();
        assert_eq!(pauses, [25, 50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(policy.backoff(u32::MAX), policy.max_backoff);
    }

    #[test]
    fn budget_is_spent_and_flows_back_with_time_and_calls() {
        let bucket = Bucket::new(RetryBudget { burst: 2, per_second: 1.0, per_call: 0.5 });
        let start = clock::now();
        assert!(bucket.withdraw(start) && bucket.withdraw(start) && !bucket.withdraw(start));
        assert!(bucket.withdraw(start + Duration::from_secs(1)));
        assert!(!bucket.withdraw(start + Duration::from_secs(1)));
        bucket.deposit();
        bucket.deposit();
        assert!(bucket.withdraw(start + Duration::from_secs(1)));
        assert!(!bucket.withdraw(start + Duration::from_secs(1)));
    }
}
