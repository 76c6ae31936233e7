//! The time by which a sweep judges ages: no machine's alone.

use crate::{connect::Aws, patience::Patience};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeDeserializationInterceptorContextRef},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{DateTime, config_bag::ConfigBag, date_time::Format};
use leasehold_core::time::Timestamp;
use parking_lot::Mutex;
use std::{fmt, sync::Arc, time::Duration};

/// How far the clock of this machine may be from that of S3. An answer that was long on its way counts too.
const TOLERANCE: Duration = Duration::from_secs(60);

/// Why nothing is deleted by the clock of this machine. `Display` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untimely {
    /// It is another time than S3's, by more than a minute.
    Apart {
        /// What this machine says.
        here: Timestamp,
        /// What S3 said, in whole seconds.
        s3: Timestamp,
    },
    /// S3 does not say what time it is.
    Untold,
}

impl fmt::Display for Untimely {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apart { here, s3 } => write!(
                f,
                "it is {} by the clock of this machine and {} by that of S3: they are more than {} s apart",
                rfc3339(*here),
                rfc3339(*s3),
                TOLERANCE.as_secs()
            ),
            Self::Untold => {
                f.write_str("S3 does not say what time it is, which this machine cannot be trusted with")
            }
        }
    }
}

fn rfc3339(at: Timestamp) -> String {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    DateTime::from_secs(seconds).fmt(Format::DateTime).unwrap_or_else(|_| format!("{seconds} s after 1970"))
}

/// The earlier of the two, so that nothing is taken for older than it is; and what is wrong with it.
///
/// # Errors
/// Why S3 could not be asked. Where clocks are far apart, that may be the reason: it refuses what was signed at another time.
pub(super) async fn now(
    aws: &Aws,
    here: impl Fn() -> Timestamp,
) -> Result<(Timestamp, Option<Untimely>), String> {
    let told = Arc::default();
    // What needs the same right as a list does.
    let answer = Patience::OF_A_SWEEP
        .repeat(|| {
            let ask = aws.s3.head_bucket().bucket(&aws.settings.bucket).customize();
            ask.interceptor(ReadDate(Arc::clone(&told))).send()
        })
        .await;
    // Read when S3 has answered, so that what had to be waited for before is no difference.
    let here = here();
    let told = *told.lock();
    let now = told.map_or(here, |s3| here.min(s3));
    let untimely = match told {
        None => Some(Untimely::Untold),
        Some(s3) if here.max(s3).since(now) > TOLERANCE => Some(Untimely::Apart { here, s3 }),
        Some(_) => None,
    };
    match (answer, untimely) {
        (Ok(_), untimely) => Ok((now, untimely)),
        (Err(cause), Some(apart @ Untimely::Apart { .. })) => Err(format!("{cause}; {apart}")),
        (Err(cause), _) => Err(cause.to_string()),
    }
}

/// Notes the `Date` of the last answer.
#[derive(Debug)]
struct ReadDate(Arc<Mutex<Option<Timestamp>>>);

impl Intercept for ReadDate {
    fn name(&self) -> &'static str {
        "ReadDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        let seconds = date.and_then(|date| u64::try_from(date.secs()).ok());
        *self.0.lock() = seconds.map(|seconds| Timestamp::EPOCH.plus(Duration::from_secs(seconds)));
        Ok(())
    }
}
