//! Ids that this crate makes, and opaque tokens that the coordinator makes.

use bytes::Bytes;
use parking_lot::Mutex;
use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use std::{fmt, time::Duration};

/// The identity of one intent: 16 random bytes, new for every intent, the same for every repetition of its call.
///
/// That of an acquire becomes the token of the lease: whoever knows it can commit. It is therefore a secret, and shows
/// in neither `Debug` nor `Display`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// One that was made before, by [`Coordinator::new_request_id`](crate::Coordinator::new_request_id) or elsewhere.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The secret itself, to hand it to another process. Keep it out of logs.
    pub fn expose(&self) -> [u8; 16] {
        self.0
    }

    pub(crate) fn to_wire(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestId(..)")
    }
}

/// What [`Coordinator::invalidate`](crate::Coordinator::invalidate) answers: whoever presents it with a lookup or an
/// acquire sees that invalidation, and all before it, at once, on any coordinator. Opaque, but for the order of those of one
/// store; not a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConsistencyToken(String);

/// Where a watch stands, to go on from there. Opaque; not a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResumeToken(String);

/// Names a hydration sidecar in the URL that its page's HTML holds. Whoever knows it can read the sidecar, if the page's
/// entry resolves for them too: it does not show in `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SidecarToken(String);

impl fmt::Debug for SidecarToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SidecarToken(..)")
    }
}

macro_rules! opaque {
    ($($name:ident),*) => {$(
        impl $name {
            /// As it was received, for instance from another process.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// As it is to be passed on.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    )*};
}

opaque!(ConsistencyToken, ResumeToken, SidecarToken);

impl ConsistencyToken {
    /// Whether it is that of a later invalidation than `other`, of the same store: of the two, it is the one to present.
    pub fn is_after(&self, other: &Self) -> bool {
        (self.0.len(), &self.0) > (other.0.len(), &other.0)
    }
}

impl SidecarToken {
    /// The wire says "none" by the empty text.
    pub(crate) fn from_wire(text: String) -> Option<Self> {
        (!text.is_empty()).then_some(Self(text))
    }
}

/// Random values, from a source seeded at construction.
pub(crate) struct RandomSource(Mutex<StdRng>);

impl RandomSource {
    /// From `seed`, or from the operating system.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(Mutex::new(seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64)))
    }

    pub(crate) fn request_id(&self) -> RequestId {
        let mut bytes = [0; 16];
        self.0.lock().fill_bytes(&mut bytes);
        RequestId(bytes)
    }

    /// A random part, at least half, of `span`: callers that failed together do not come back together.
    pub(crate) fn jittered(&self, span: Duration) -> Duration {
        let share = f64::from(self.0.lock().next_u32()) / f64::from(u32::MAX);
        span.mul_f64(0.5 + share / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_the_same_ids() {
        let (a, b) = (RandomSource::new(Some(7)), RandomSource::new(Some(7)));
        assert_eq!(a.request_id(), b.request_id());
        assert_ne!(a.request_id(), a.request_id());
    }

    #[test]
    fn secrets_do_not_show() {
        let id = RequestId::from_bytes([0xab; 16]);
        assert!(!format!("{id:?}").contains("ab"));
        assert_eq!(format!("{:?}", SidecarToken::new("c2VjcmV0")), "SidecarToken(..)");
    }

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let source = RandomSource::new(Some(1));
        for _ in 0..1000 {
            let span = source.jittered(Duration::from_millis(100));
            assert!((50..=100).contains(&span.as_millis()), "{span:?}");
        }
    }
}
