//! How long a call may take.

use super::error::EdgeError;
use crate::engine::EngineError;
use std::time::Duration;
use tonic::metadata::MetadataMap;

/// An answer is given so much before the caller stops listening.
const MARGIN: Duration = Duration::from_millis(25);

/// The longest that a call may take, whatever its caller asks for: a place is not to be held for good.
const MAX_TIME: Duration = Duration::from_secs(10 * 60);

/// What is left of a call's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    /// As the caller set it, less the margin for the way back; `None` where it set none.
    asked: Option<Duration>,
    default: Duration,
}

impl Deadline {
    /// Reads `grpc-timeout`, as the gRPC protocol writes it: up to eight digits and a unit.
    pub(crate) fn of(metadata: &MetadataMap, default: Duration) -> Self {
        let asked =
            metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_timeout);
        Self { asked: asked.map(|asked| less_margin(asked.min(MAX_TIME))), default }
    }

    /// A time limit that is given in a message.
    pub(crate) fn within(asked: Option<Duration>, default: Duration) -> Self {
        Self { asked, default }
    }

    /// The longest that this call may wait for others, at most `wish`.
    pub(crate) fn cap(self, wish: Duration) -> Duration {
        // The wait ends before the call is cut off: "still held" is a better answer than none.
        self.asked.map_or(wish, |left| less_margin(left).min(wish))
    }

    /// The time for a call that may also wait for so long.
    pub(crate) fn and_wait(self, wait: Duration) -> Self {
        Self { default: self.default.saturating_add(wait), ..self }
    }

    /// The whole time of the call, from its arrival.
    pub(crate) fn time(self) -> Duration {
        self.asked.unwrap_or(self.default)
    }

    /// Cuts off a call that changes nothing.
    pub(crate) async fn read<T>(
        self,
        call: impl Future<Output = Result<T, EdgeError>>,
    ) -> Result<T, EdgeError> {
        match tokio::time::timeout(self.time(), call).await {
            Ok(result) => result,
            Err(_) => Err(EngineError::Deadline("the store").into()),
        }
    }

    /// Cuts off a call that may have changed something by then.
    pub(crate) async fn change<T>(
        self,
        call: impl Future<Output = Result<T, EdgeError>>,
    ) -> Result<T, EdgeError> {
        match tokio::time::timeout(self.time(), call).await {
            Ok(result) => result,
            Err(_) => Err(EdgeError::CutOff),
        }
    }
}

fn less_margin(timeout: Duration) -> Duration {
    timeout.saturating_sub(MARGIN).max(timeout / 2)
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeout_is_read_in_every_unit_and_nothing_else() {
        let table = [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("", None),
            ("S", None),
            ("-1S", None),
            ("100000000S", None),
            ("1s", None),
            ("1é", None),
        ];
        for (text, timeout) in table {
            assert_eq!(parse_timeout(text), timeout, "{text:?}");
        }
    }

    #[test]
    fn the_margin_never_takes_more_than_half() {
        assert_eq!(less_margin(Duration::from_secs(1)), Duration::from_millis(975));
        assert_eq!(less_margin(Duration::from_millis(10)), Duration::from_millis(5));
    }
}
