//! What can go wrong with a call, and what that means for its effect.

use std::{collections::HashMap, error::Error as StdError, time::Duration};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

type Source = Box<dyn StdError + Send + Sync>;

/// A call that got no outcome.
///
/// The two questions that matter have answers: [`is_retryable`](Self::is_retryable) and
/// [`may_have_been_applied`](Self::may_have_been_applied). Calls retry by themselves; an error that says it is retryable
/// has outlasted that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The coordinator, or something on the way to it, refused.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// No coordinator was reached; the call was surely not sent.
    #[error("no coordinator was reached")]
    NotSent(#[source] Source),
    /// The connection broke after the call may have been sent.
    #[error("the connection broke during the call")]
    Broken(#[source] Source),
    /// No answer in time.
    #[error("no answer within {after:?}")]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The overall timeout passed, whatever was tried.
    #[error("not done within {limit:?} and {attempts} attempts")]
    DeadlineExceeded {
        /// The overall timeout.
        limit: Duration,
        /// How often it was tried.
        attempts: u32,
        /// One of the attempts may have been applied.
        in_doubt: bool,
        /// How the last attempt that failed did so.
        #[source]
        last: Option<Box<Error>>,
    },
    /// The last attempt was surely not applied, but an earlier one may have been.
    #[error("gave up; an earlier attempt may have been applied")]
    InDoubt(#[source] Box<Error>),
    /// An answer that breaks the contract; names what was missing or malformed.
    #[error("the answer breaks the contract: {0}")]
    Protocol(&'static str),
    /// A body is larger than the caller accepts.
    #[error("the body is larger than {limit_bytes} bytes")]
    BodyTooLarge {
        /// What the caller accepts.
        limit_bytes: u64,
    },
    /// What the client was built with is of no use, such as a malformed URI.
    #[error("configuration: {0}")]
    Configuration(String),
}

impl Error {
    /// Whether the same call, with the same request id, may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_retryable(),
            Self::NotSent(_) | Self::Broken(_) | Self::TimedOut { .. } => true,
            Self::DeadlineExceeded { .. } | Self::InDoubt(_) => true,
            Self::Protocol(_) | Self::BodyTooLarge { .. } | Self::Configuration(_) => false,
        }
    }

    /// Whether the call, if it is one that changes something, may have done so. To learn the truth, repeat it with the
    /// same request id. Without meaning for calls that change nothing.
    pub fn may_have_been_applied(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.may_have_been_applied(),
            Self::NotSent(_) | Self::BodyTooLarge { .. } | Self::Configuration(_) => false,
            Self::Broken(_) | Self::TimedOut { .. } | Self::InDoubt(_) | Self::Protocol(_) => true,
            Self::DeadlineExceeded { in_doubt, .. } => *in_doubt,
        }
    }

    /// What happened, with what is at the bottom of it, in one line for logs.
    pub fn with_cause(&self) -> String {
        let mut cause: &dyn StdError = self;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let (what, why) = (self.to_string(), cause.to_string());
        if what == why { what } else { format!("{what}: {why}") }
    }

    /// What the coordinator refused last, also when the call ended for another reason.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::DeadlineExceeded { last: Some(last), .. } | Self::InDoubt(last) => last.refusal(),
            _ => None,
        }
    }

    /// The reason of [`refusal`](Self::refusal).
    pub fn reason(&self) -> Option<&Reason> {
        self.refusal().map(|refusal| &refusal.reason)
    }

    /// No coordinator could be asked, or none was able to answer: what a worker falls back from. In contrast to a
    /// coordinator that understood the call and refused it.
    pub fn is_outage(&self) -> bool {
        self.is_retryable() || matches!(self.reason(), Some(Reason::Internal))
    }

    /// Judges by the source, not by the code: tonic gives one code to what was never sent and to what may have been.
    pub(crate) fn from_status(status: Status) -> Self {
        let mut source = StdError::source(&status);
        if source.is_none() {
            return Self::Refused(Box::new(Refusal::from_status(&status)));
        }
        while let Some(error) = source {
            let never_sent = error.is::<tonic::ConnectError>()
                || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
            if never_sent {
                return Self::NotSent(Box::new(status));
            }
            source = error.source();
        }
        Self::Broken(Box::new(status))
    }

    /// Whether the coordinator does not know the caller, or not any more.
    pub(crate) fn is_unauthenticated(&self) -> bool {
        self.reason() == Some(&Reason::Unauthenticated)
    }

    /// Whether another connection, maybe to another coordinator, is the better place to try again.
    pub(crate) fn suspects_connection(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Broken(_) | Self::TimedOut { .. } => true,
            Self::Refused(refusal) => match refusal.reason {
                Reason::Draining => true,
                Reason::Unstated => {
                    matches!(refusal.code, Code::Unavailable | Code::Unknown | Code::Cancelled)
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// When the coordinator said that it is worth trying again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.refusal().and_then(|refusal| refusal.retry_after)
    }

    /// With what is known of the attempts before this one.
    pub(crate) fn after_attempts(self, in_doubt: bool) -> Self {
        // A refusal for good is the coordinator's truthful answer about all attempts; but one of the caller looked at none.
        let is_of_the_caller =
            matches!(self.reason(), Some(Reason::Unauthenticated | Reason::PermissionDenied));
        if in_doubt && (self.is_retryable() || is_of_the_caller) && !self.may_have_been_applied() {
            Self::InDoubt(Box::new(self))
        } else {
            self
        }
    }
}

/// A call that was answered with an error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("refused ({reason}): {message}")]
#[non_exhaustive]
pub struct Refusal {
    /// The gRPC code. Branch on `reason`, which is finer.
    pub code: Code,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// More about the reason, such as the `limit` or the `object`.
    pub metadata: HashMap<String, String>,
    /// What is wrong with which field of the request.
    pub fields: Vec<FieldViolation>,
    /// When it is worth trying again.
    pub retry_after: Option<Duration>,
}

/// A field of a request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Its dotted path in the wire's request.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl Refusal {
    pub(crate) fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        Self {
            code: status.code(),
            reason: info.map_or(Reason::Unstated, |info| Reason::parse(&info.domain, &info.reason)),
            message: status.message().to_owned(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            fields: details
                .bad_request()
                .map(|bad| bad.field_violations.iter())
                .into_iter()
                .flatten()
                .map(|violation| FieldViolation {
                    field: violation.field.clone(),
                    description: violation.description.clone(),
                })
                .collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }

    /// As [`Error::is_retryable`].
    pub fn is_retryable(&self) -> bool {
        match &self.reason {
            Reason::LimitReached
            | Reason::StoreUnavailable
            | Reason::OutcomeUnknown
            | Reason::Draining
            | Reason::Deadline => true,
            Reason::InvalidField
            | Reason::TenantBoundary
            | Reason::ObjectMissing
            | Reason::ObjectConflict
            | Reason::ConsistencyTokenUnknown
            | Reason::SidecarNotFound
            | Reason::ObjectNotFound
            | Reason::PageNotFound
            | Reason::StoredDataCorrupt
            | Reason::BodyUrlUnsupported
            | Reason::Unauthenticated
            | Reason::PermissionDenied
            | Reason::Internal => false,
            Reason::Unstated | Reason::Unknown(_) => matches!(
                self.code,
                Code::Unavailable
                    | Code::DeadlineExceeded
                    | Code::Cancelled
                    | Code::Aborted
                    | Code::ResourceExhausted
                    | Code::Unknown
            ),
        }
    }

    /// As [`Error::may_have_been_applied`].
    pub fn may_have_been_applied(&self) -> bool {
        match &self.reason {
            Reason::OutcomeUnknown | Reason::Deadline | Reason::Internal => true,
            Reason::InvalidField
            | Reason::TenantBoundary
            | Reason::ObjectMissing
            | Reason::ObjectConflict
            | Reason::ConsistencyTokenUnknown
            | Reason::SidecarNotFound
            | Reason::ObjectNotFound
            | Reason::PageNotFound
            | Reason::LimitReached
            | Reason::StoreUnavailable
            | Reason::Draining
            | Reason::StoredDataCorrupt
            | Reason::BodyUrlUnsupported
            | Reason::Unauthenticated
            | Reason::PermissionDenied => false,
            Reason::Unstated | Reason::Unknown(_) => !matches!(
                self.code,
                Code::InvalidArgument
                    | Code::NotFound
                    | Code::PermissionDenied
                    | Code::Unauthenticated
                    | Code::FailedPrecondition
                    | Code::Unimplemented
            ),
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// Why a call was refused: the reason of its `google.rpc.ErrorInfo`.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// No reason was given: the refusal is not the coordinator's own, but its framework's or a proxy's.
            Unstated,
            /// A reason that this version does not know, or of another domain.
            Unknown(String),
        }

        impl Reason {
            fn parse(domain: &str, reason: &str) -> Self {
                if domain != leasehold_proto::ERROR_DOMAIN {
                    return Self::Unknown(format!("{domain}/{reason}"));
                }
                match reason {
                    $($text => Self::$name,)*
                    other => Self::Unknown(other.to_owned()),
                }
            }

            /// As on the wire, without the prefix `ERROR_REASON_`.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unstated => "UNSTATED",
                    Self::Unknown(text) => text,
                }
            }
        }
    };
}

reasons! {
    /// A field is missing, malformed or over its limit: see [`Refusal::fields`].
    InvalidField = "INVALID_FIELD",
    /// A tenant boundary header without a declared tenant.
    TenantBoundary = "TENANT_BOUNDARY",
    /// A commit names a stored body that is not there.
    ObjectMissing = "OBJECT_MISSING",
    /// A body differs from what is stored under the same lease already. Render under a new lease.
    ObjectConflict = "OBJECT_CONFLICT",
    /// A consistency token from beyond the head of the log.
    ConsistencyTokenUnknown = "CONSISTENCY_TOKEN_UNKNOWN",
    /// No such sidecar, whatever the cause.
    SidecarNotFound = "SIDECAR_NOT_FOUND",
    /// No body of this name, whatever the cause.
    ObjectNotFound = "OBJECT_NOT_FOUND",
    /// No page to serve.
    PageNotFound = "PAGE_NOT_FOUND",
    /// Over a limit of the coordinator.
    LimitReached = "LIMIT_REACHED",
    /// The store could not be reached; surely nothing was applied.
    StoreUnavailable = "STORE_UNAVAILABLE",
    /// The call may have been applied.
    OutcomeUnknown = "OUTCOME_UNKNOWN",
    /// The coordinator goes down.
    Draining = "DRAINING",
    /// The deadline passed at the coordinator.
    Deadline = "DEADLINE",
    /// Stored bytes do not decode.
    StoredDataCorrupt = "STORED_DATA_CORRUPT",
    /// This store serves no URLs.
    BodyUrlUnsupported = "BODY_URL_UNSUPPORTED",
    /// The call comes with no token or certificate, or with one that is not accepted, or not any more.
    Unauthenticated = "UNAUTHENTICATED",
    /// The caller has no such right over this tenant.
    PermissionDenied = "PERMISSION_DENIED",
    /// A defect of the coordinator.
    Internal = "INTERNAL",
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leasehold_proto::v1 as pb;
    use tonic_types::{ErrorDetails, FieldViolation as WireViolation};

    fn refused(code: Code, reason: &str) -> Error {
        let details = ErrorDetails::with_error_info(reason, "leasehold", HashMap::new());
        Error::from_status(Status::with_error_details(code, "m", details))
    }

    #[test]
    fn every_reason_of_the_contract_says_whether_to_retry_and_whether_it_may_have_been_applied() {
        let table = [
            ("INVALID_FIELD", Code::InvalidArgument, false, false),
            ("TENANT_BOUNDARY", Code::FailedPrecondition, false, false),
            ("OBJECT_MISSING", Code::FailedPrecondition, false, false),
            ("OBJECT_CONFLICT", Code::FailedPrecondition, false, false),
            ("CONSISTENCY_TOKEN_UNKNOWN", Code::FailedPrecondition, false, false),
            ("SIDECAR_NOT_FOUND", Code::NotFound, false, false),
            ("OBJECT_NOT_FOUND", Code::NotFound, false, false),
            ("PAGE_NOT_FOUND", Code::NotFound, false, false),
            ("LIMIT_REACHED", Code::ResourceExhausted, true, false),
            ("STORE_UNAVAILABLE", Code::Unavailable, true, false),
            ("OUTCOME_UNKNOWN", Code::Unavailable, true, true),
            ("DRAINING", Code::Unavailable, true, false),
            ("DEADLINE", Code::DeadlineExceeded, true, true),
            ("STORED_DATA_CORRUPT", Code::DataLoss, false, false),
            ("BODY_URL_UNSUPPORTED", Code::Unimplemented, false, false),
            ("UNAUTHENTICATED", Code::Unauthenticated, false, false),
            ("PERMISSION_DENIED", Code::PermissionDenied, false, false),
            ("INTERNAL", Code::Internal, false, true),
        ];
        for (reason, code, retryable, applied) in table {
            let error = refused(code, reason);
            assert_eq!(error.reason().map(Reason::as_str), Some(reason));
            assert!(!matches!(error.reason(), Some(Reason::Unknown(_))), "{reason}");
            assert_eq!(error.is_retryable(), retryable, "{reason}");
            assert_eq!(error.may_have_been_applied(), applied, "{reason}");
        }
        for value in 1.. {
            let Ok(reason) = pb::ErrorReason::try_from(value) else { break };
            let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
            assert!(table.iter().any(|row| row.0 == name), "{name} is missing from the table");
        }
    }

    #[test]
    fn reasons_from_elsewhere_are_kept_as_text_and_judged_by_code() {
        let error = refused(Code::Unavailable, "NEW_REASON");
        assert_eq!(error.reason(), Some(&Reason::Unknown("NEW_REASON".into())));
        assert!(error.is_retryable() && error.may_have_been_applied());
        let details = ErrorDetails::with_error_info("DRAINING", "other.example", HashMap::new());
        let foreign = Error::from_status(Status::with_error_details(Code::Internal, "m", details));
        assert_eq!(foreign.reason(), Some(&Reason::Unknown("other.example/DRAINING".into())));
        assert!(!foreign.is_retryable());
    }

    #[test]
    fn statuses_without_a_reason_are_judged_by_code() {
        let table = [
            (Code::Unavailable, true, true),
            (Code::Cancelled, true, true),
            (Code::Unknown, true, true),
            (Code::DeadlineExceeded, true, true),
            (Code::Unimplemented, false, false),
            (Code::InvalidArgument, false, false),
            (Code::OutOfRange, false, true),
            (Code::Internal, false, true),
        ];
        for (code, retryable, applied) in table {
            let error = Error::from_status(Status::new(code, "m"));
            assert_eq!(error.reason(), Some(&Reason::Unstated));
            assert_eq!(
                (error.is_retryable(), error.may_have_been_applied()),
                (retryable, applied),
                "{code:?}"
            );
        }
    }

    #[test]
    fn fields_and_retry_delay_are_read() {
        let mut details = ErrorDetails::with_bad_request(vec![WireViolation::new("entry.key", "empty")]);
        details.set_retry_info(Some(Duration::from_millis(250)));
        details.set_error_info("LIMIT_REACHED", "leasehold", [("limit".to_owned(), "waiters".to_owned())]);
        let error = Error::from_status(Status::with_error_details(Code::ResourceExhausted, "m", details));
        let refusal = error.refusal().unwrap();
        let expected = FieldViolation { field: "entry.key".into(), description: "empty".into() };
        assert_eq!(refusal.fields, [expected]);
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(250)));
        assert_eq!(refusal.metadata["limit"], "waiters");
    }

    #[test]
    fn connection_that_failed_was_never_sent_and_other_sources_are_ambiguous() {
        let refused = Status::from_error(Box::new(tonic::ConnectError("refused".into())));
        let never = Error::from_status(refused);
        assert!(matches!(never, Error::NotSent(_)) && !never.may_have_been_applied() && never.is_retryable());
        let pipe = std::io::Error::new(std::io::ErrorKind::BrokenPipe, "pipe");
        let broken = Error::from_status(Status::from_error(Box::new(pipe)));
        assert!(matches!(broken, Error::Broken(_)) && broken.may_have_been_applied());
    }

    #[test]
    fn doubt_about_an_earlier_attempt_sticks_unless_the_answer_is_final() {
        let never = || Error::NotSent("refused".into());
        assert!(never().after_attempts(true).may_have_been_applied());
        assert!(!never().after_attempts(false).may_have_been_applied());
        assert!(
            !refused(Code::InvalidArgument, "INVALID_FIELD").after_attempts(true).may_have_been_applied()
        );
        // A caller who is refused as such is told nothing of what it did before.
        for (code, reason) in
            [(Code::Unauthenticated, "UNAUTHENTICATED"), (Code::PermissionDenied, "PERMISSION_DENIED")]
        {
            assert!(refused(code, reason).after_attempts(true).may_have_been_applied(), "{reason}");
            assert!(!refused(code, reason).after_attempts(false).may_have_been_applied(), "{reason}");
        }
    }
}
