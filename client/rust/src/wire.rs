//! What all messages of the wire have in common, and what an answer that breaks the contract becomes.

use crate::Error;
use std::time::{Duration, SystemTime};

/// An answer that breaks the contract.
pub(crate) struct Malformed(pub(crate) &'static str);

impl From<Malformed> for Error {
    fn from(Malformed(what): Malformed) -> Self {
        Error::Protocol(what)
    }
}

/// A type of the wire becomes one of the domain, once, at the edge. Not `TryFrom`: that would make the generated types
/// part of the public interface.
pub(crate) trait FromWire<W>: Sized {
    fn from_wire(wire: W) -> Result<Self, Malformed>;
}

/// [`FromWire`], from the other side.
pub(crate) trait Parse<T> {
    fn parse(self) -> Result<T, Malformed>;
}

impl<W, T: FromWire<W>> Parse<T> for W {
    fn parse(self) -> Result<T, Malformed> {
        T::from_wire(self)
    }
}

/// A required part of an answer.
pub(crate) fn required<T>(part: Option<T>, name: &'static str) -> Result<T, Malformed> {
    part.ok_or(Malformed(name))
}

/// A duration that may be absent.
pub(crate) fn optional_duration(wire: Option<prost_types::Duration>) -> Result<Option<Duration>, Malformed> {
    wire.map(|wire| Duration::try_from(wire).map_err(|_| Malformed("a duration"))).transpose()
}

/// A duration for which absent means zero.
pub(crate) fn duration(wire: Option<prost_types::Duration>) -> Result<Duration, Malformed> {
    Ok(optional_duration(wire)?.unwrap_or_default())
}

/// A timestamp that may be absent.
pub(crate) fn timestamp(wire: Option<prost_types::Timestamp>) -> Result<Option<SystemTime>, Malformed> {
    wire.map(|wire| SystemTime::try_from(wire).map_err(|_| Malformed("a timestamp"))).transpose()
}

/// To the wire. What is beyond its range is cut: no coordinator accepts such a span anyway.
pub(crate) fn to_wire(span: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(span)
        .unwrap_or(prost_types::Duration { seconds: 315_576_000_000, nanos: 0 })
}

/// A text for which the wire says "none" by the empty one.
pub(crate) fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
