//! Why the engine gave no outcome.

use leasehold_core::object::{BodyKind, ObjectName};
use leasehold_store::port::{ReadError, WriteError};

/// A failure of an operation of the engine. Each says by its kind whether it can have had an effect.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The store could not be reached; nothing was applied.
    #[error("the store is unavailable; nothing was applied: {0}")]
    StoreUnavailable(String),
    /// The store did not say whether it applied the change; repeating the call with its request id settles it.
    #[error("the store did not confirm the change; it may have been applied: {0}")]
    OutcomeUnknown(String),
    /// What is stored does not decode.
    #[error("stored data does not decode: {0}")]
    Corrupt(String),
    /// The store refuses the size.
    #[error("over a limit of the store: {0}")]
    TooLarge(String),
    /// The deadline passed; nothing was applied.
    #[error("the deadline passed while waiting for {0}")]
    Deadline(&'static str),
    /// Too many of something at once.
    #[error("over the limit of {limit} {what}")]
    LimitReached {
        /// What there are too many of.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// A consistency token from beyond the head.
    #[error("the consistency token is from beyond the head of the invalidation log")]
    TokenBeyondHead,
    /// A commit names a body that is not there.
    #[error("the body {0} is not stored")]
    ObjectMissing(ObjectName),
    /// Another body is stored under the same lease, or the same of a page with other tags or another path; or another lease's
    /// under the name that its worker gave.
    #[error(
        "the body {0} is stored already, with other bytes, under another lease, or of a page with other tags or another path"
    )]
    ObjectConflict(ObjectName),
    /// The lease has stored another body of this kind, that its commit is to name.
    #[error("the lease has stored a body of this kind under another name already: {0}")]
    OtherNameStaged(ObjectName),
    /// The attempt's page is current, and has no body of this kind.
    #[error("the page of this lease is committed already, without this body")]
    CommittedWithout(BodyKind),
    /// The store serves no URLs.
    #[error("this store serves no URLs of bodies")]
    UrlUnsupported,
    /// No such sidecar, for whatever reason.
    #[error("no such sidecar")]
    SidecarNotFound,
    /// No body of the name that its worker gave, for whatever reason.
    #[error("no such object")]
    ObjectNotFound,
    /// The coordinator goes down.
    #[error("the coordinator is going down")]
    Draining,
    /// A task of the coordinator died: a defect.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl From<ReadError> for EngineError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(why) => Self::StoreUnavailable(why),
            ReadError::Corrupt(why) => Self::Corrupt(why),
        }
    }
}

impl From<WriteError> for EngineError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NotApplied(why) => Self::StoreUnavailable(why),
            WriteError::Unknown(why) => Self::OutcomeUnknown(why),
            WriteError::Corrupt(why) => Self::Corrupt(why),
            WriteError::TooLarge(why) => Self::TooLarge(why),
        }
    }
}
