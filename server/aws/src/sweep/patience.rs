//! Waits out what passes. The ports leave that to the engine, which knows a deadline and a budget; a sweep has neither, and
//! only its own calls to repeat.

use crate::error::Cause;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::{iter, time::Duration};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Some half a minute in all.
const REPETITIONS: usize = 11;

/// The answer of the first attempt that is not in the way of something that passes. For calls that may be repeated.
pub(super) async fn repeat<T, E, F>(mut call: impl FnMut() -> F) -> Result<T, Cause>
where
    E: ProvideErrorMetadata,
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
{
    // Without jitter: there is one sweep, and one call of it at a time.
    let pauses = iter::successors(Some(FIRST_PAUSE), |pause| Some((*pause * 2).min(LONGEST_PAUSE)));
    for pause in pauses.take(REPETITIONS) {
        match call().await.map_err(|error| Cause::of(&error)) {
            Err(cause) if cause.may_pass() => tokio::time::sleep(pause).await,
            settled => return settled,
        }
    }
    call().await.map_err(|error| Cause::of(&error))
}
