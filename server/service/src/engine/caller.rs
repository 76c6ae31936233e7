//! How the engine calls the store: each request with a time limit, and repeated within a budget.
//!
//! Adapters do not repeat anything: here alone it is known what a repetition would do. Reads are repeated here. A write that
//! failed is decided about anew by whoever wanted it, who asks for [`StoreCaller::may_repeat`] first.

use crate::{random::Entropy, settings::StoreSettings};
use leasehold_store::port::{ReadError, WriteError};
use std::{sync::Arc, time::Duration};
use tower::retry::budget::{Budget as _, TpsBudget};

/// How often a read is tried.
const READ_ATTEMPTS: u32 = 3;
/// The longest pause before a repetition.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// For how long a request lets another be repeated.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);
/// Repetitions a second that are always allowed.
const BUDGET_FLOOR: u32 = 10;
/// Repetitions allowed for each request. Where a store is throttled or down, this is what all callers together add to its
/// load, however many of them try.
const BUDGET_SHARE: f32 = 1.0;

/// Puts the limits on requests. Cheap to clone; clones share the budget.
#[derive(Clone)]
pub(crate) struct StoreCaller {
    timeout: Duration,
    retry_pause: Duration,
    entropy: Arc<Entropy>,
    budget: Arc<TpsBudget>,
}

impl StoreCaller {
    pub(crate) fn new(settings: &StoreSettings, entropy: Arc<Entropy>) -> Self {
        Self {
            timeout: settings.request_timeout,
            retry_pause: settings.retry_pause,
            entropy,
            budget: Arc::new(TpsBudget::new(BUDGET_WINDOW, BUDGET_FLOOR, BUDGET_SHARE)),
        }
    }

    /// A read that takes too long, repetitions included, failed, without consequence.
    pub(crate) async fn read<T, F: Future<Output = Result<T, ReadError>>>(
        &self,
        mut request: impl FnMut() -> F,
    ) -> Result<T, ReadError> {
        let attempts = async {
            for failures in 1.. {
                if failures == 1 {
                    self.budget.deposit();
                }
                match request().await {
                    Err(ReadError::Unavailable(why)) => {
                        if failures == READ_ATTEMPTS || !self.may_repeat(failures).await {
                            return Err(ReadError::Unavailable(why));
                        }
                    }
                    result => return result,
                }
            }
            unreachable!("left by its last attempt")
        };
        match tokio::time::timeout(self.timeout, attempts).await {
            Ok(result) => result,
            Err(_) => Err(ReadError::Unavailable(format!("no answer within {:?}", self.timeout))),
        }
    }

    /// A write that takes too long may be applied, now or a little later. `failures`: how many attempts were made before it;
    /// only the first lets another be repeated.
    pub(crate) async fn write<T>(
        &self,
        failures: u32,
        request: impl Future<Output = Result<T, WriteError>>,
    ) -> Result<T, WriteError> {
        if failures == 0 {
            self.budget.deposit();
        }
        match tokio::time::timeout(self.timeout, request).await {
            Ok(result) => result,
            Err(_) => Err(WriteError::Unknown(format!("no answer within {:?}", self.timeout))),
        }
    }

    /// Waits before a repetition, longer after every failure; `false` where the budget is used up, so that a store in
    /// trouble is left alone.
    pub(crate) async fn may_repeat(&self, failures: u32) -> bool {
        if !self.budget.withdraw() {
            return false;
        }
        let pause = self.retry_pause * 2_u32.pow(failures.saturating_sub(1).min(10));
        tokio::time::sleep(self.entropy.jitter(pause.min(MAX_PAUSE))).await;
        true
    }
}
