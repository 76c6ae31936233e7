//! Waits out what passes. The ports leave that to the engine, which knows a deadline and a budget; a sweep and a preflight have
//! neither, and only their own calls to repeat.

use crate::error::Cause;
use std::{iter, time::Duration};

/// How long what passes is waited for, call by call. The pauses double, without jitter: there is one sweep or start of this
/// process, and few calls of it at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    first_pause: Duration,
    longest_pause: Duration,
    repetitions: usize,
}

impl Patience {
    /// Some half a minute.
    pub(crate) const OF_A_SWEEP: Self = Self {
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(5),
        repetitions: 11,
    };
    /// Three seconds: who waits for a start wants to be told what is wrong.
    pub(crate) const OF_A_START: Self = Self {
        first_pause: Duration::from_millis(200),
        longest_pause: Duration::from_secs(5),
        repetitions: 4,
    };

    /// The answer of the first attempt that is not in the way of something that passes. For calls that may be repeated.
    pub(crate) async fn repeat<T, E: Into<Cause>, F: Future<Output = Result<T, E>>>(
        self,
        mut call: impl FnMut() -> F,
    ) -> Result<T, Cause> {
        let pauses =
            iter::successors(Some(self.first_pause), |pause| Some((*pause * 2).min(self.longest_pause)));
        for pause in pauses.take(self.repetitions) {
            match call().await.map_err(Into::into) {
                Err(cause) if cause.may_pass() => tokio::time::sleep(pause).await,
                settled => return settled,
            }
        }
        call().await.map_err(Into::into)
    }
}
