//! What a failed call to AWS means to the ports: the only place that judges it.
//!
//! The one question is whether a write can have had its effect. Where that cannot be excluded, it is
//! [`WriteError::Unknown`]: a caller that took a lost answer for a refusal would render again what is committed, or call its
//! own commit fenced.
//!
//! What is said of a failure names the call, the table or bucket, and the service's code. The service's own message is left
//! out: it may quote keys and values.

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::{
    orchestrator::HttpResponse,
    result::{ConnectorError, SdkError},
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use hyper_util::client::legacy::Error as ClientError;
use leasehold_store::port::{ReadError, WriteError};
use std::{error::Error, fmt, io};

#[cfg(test)]
mod tests;

/// One call, as messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call<'a> {
    /// The API's name of the operation, which is also that of the right it needs.
    pub(crate) operation: &'static str,
    /// What it is about.
    pub(crate) resource: Resource<'a>,
}

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    Table(&'a str),
    Bucket(&'a str),
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resource {
            Resource::Table(table) => write!(f, "{} on table {table}", self.operation),
            Resource::Bucket(bucket) => write!(f, "{} on bucket {bucket}", self.operation),
        }
    }
}

impl Call<'_> {
    pub(crate) fn read<E: ProvideErrorMetadata>(self, error: &SdkError<E, HttpResponse>) -> ReadError {
        ReadError::Unavailable(self.say(error))
    }

    pub(crate) fn write<E: ProvideErrorMetadata>(self, error: &SdkError<E, HttpResponse>) -> WriteError {
        let said = self.say(error);
        match effect(error) {
            Effect::None => WriteError::NotApplied(said),
            Effect::Unknown => WriteError::Unknown(said),
            Effect::TooLarge => WriteError::TooLarge(said),
        }
    }

    /// For what the service says of one part of a call: a key of a batch, an action of a transaction.
    pub(crate) fn write_part(self, code: &str) -> WriteError {
        let said = format!("{self}: {code}");
        match effect_of_code(code) {
            Some(Effect::TooLarge) => WriteError::TooLarge(said),
            Some(Effect::None) => WriteError::NotApplied(said),
            Some(Effect::Unknown) | None => WriteError::Unknown(said),
        }
    }

    /// Whether it was S3 that answered, which gives every object an entity tag. A success without one is that of something
    /// in between: what it sends would be served as a page, and what it says is stored may not be.
    pub(crate) fn answered(self, e_tag: Option<&str>) -> Result<(), String> {
        e_tag.map(|_| ()).ok_or_else(|| format!("{self}: {}", Cause::Answer))
    }

    pub(crate) fn corrupt_read(self, why: impl fmt::Display) -> ReadError {
        ReadError::Corrupt(format!("{self}: {why}"))
    }

    pub(crate) fn corrupt_write(self, why: impl fmt::Display) -> WriteError {
        WriteError::Corrupt(format!("{self}: {why}"))
    }

    pub(crate) fn too_large(self, why: impl fmt::Display) -> WriteError {
        WriteError::TooLarge(format!("{self}: {why}"))
    }

    fn say<E: ProvideErrorMetadata>(self, error: &SdkError<E, HttpResponse>) -> String {
        format!("{self}: {}", Cause::of(error))
    }
}

/// Whether a failed write can have had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Surely none.
    None,
    /// It may have.
    Unknown,
    /// None, and a repetition will have none either.
    TooLarge,
}

fn effect<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Effect {
    match error {
        SdkError::ConstructionFailure(_) => Effect::None,
        SdkError::DispatchFailure(failure) => {
            if failure.as_connector_error().is_some_and(never_sent) {
                Effect::None
            } else {
                Effect::Unknown
            }
        }
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status();
            match answer.err().code() {
                Some(code) => match effect_of_code(code) {
                    Some(effect) => effect,
                    None if status.is_client_error() => Effect::None,
                    None => Effect::Unknown,
                },
                // An answer without a code is not the service's own: whatever stands in between may have passed the
                // request on.
                None => Effect::Unknown,
            }
        }
        // No answer, or one that is none; and the SDK may add kinds: of one that nobody judged, nothing is known.
        _ => Effect::Unknown,
    }
}

/// Codes whose meaning is not that of their status, or that come without one. `None` for all others.
fn effect_of_code(code: &str) -> Option<Effect> {
    match code {
        // S3 and its likes refuse with 503 or 501 what they never began to do.
        "SlowDown" | "NotImplemented" => Some(Effect::None),
        // Reasons of a cancelled transaction: by then the service has undone it.
        "TransactionConflict"
        | "ThrottlingError"
        | "ProvisionedThroughputExceeded"
        | "ValidationError"
        | "AccessDenied" => Some(Effect::None),
        // Another attempt with the same token has not ended yet.
        "TransactionInProgressException" => Some(Effect::Unknown),
        "ItemCollectionSizeLimitExceededException"
        | "ItemCollectionSizeLimitExceeded"
        | "EntityTooLarge"
        | "MetadataTooLarge"
        | "KeyTooLongError" => Some(Effect::TooLarge),
        _ => None,
    }
}

/// Whether a request surely did not leave this process: without credentials nothing is signed, without a connection nothing
/// is sent. Everything else that goes wrong on the way may have reached the service.
fn never_sent(error: &ConnectorError) -> bool {
    causes(error).any(|cause| {
        cause.is::<CredentialsError>()
            || cause.downcast_ref().is_some_and(ClientError::is_connect)
            || cause
                .downcast_ref::<io::Error>()
                .is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused)
    })
}

/// An error and what it came from.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Why a call failed, in words for a log, and in kinds for the preflight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The request could not be made. The SDK's own words are left out: they may quote what was to be sent.
    Request,
    /// Nothing to sign it with.
    Credentials,
    /// Nobody there.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke.
    Connection,
    /// An answer that is none.
    Answer,
    /// The service's answer: its code, where it gives one, and status.
    Service {
        /// The service's name of the error.
        code: Option<String>,
        /// The HTTP status.
        status: u16,
    },
}

impl Cause {
    pub(crate) fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Self {
        match error {
            SdkError::ConstructionFailure(_) => Self::Request,
            SdkError::TimeoutError(_) => Self::Timeout,
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(error) if causes(error).any(|cause| cause.is::<CredentialsError>()) => Self::Credentials,
                Some(error) if never_sent(error) => Self::Connect,
                _ if failure.is_timeout() => Self::Timeout,
                _ => Self::Connection,
            },
            SdkError::ServiceError(answer) => Self::Service {
                code: answer.err().code().map(str::to_owned),
                status: answer.raw().status().as_u16(),
            },
            // And kinds that the SDK may add.
            _ => Self::Answer,
        }
    }

    /// Of what a service says of one part of a call that it answered: it names no status then.
    pub(crate) fn of_code(code: Option<&str>) -> Self {
        let status = match code {
            Some("InternalError") => 500,
            Some("SlowDown") => 503,
            _ => 400,
        };
        Self::Service { code: code.map(str::to_owned), status }
    }

    /// Whether the same call may do better a moment later: the service has no capacity left, is in trouble, or was not
    /// reached. Says nothing of what became of this one: for calls that may be repeated whatever that was.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Timeout | Self::Connect | Self::Connection | Self::Answer => true,
            Self::Service { status: 501, .. } => false,
            Self::Service { status: 408 | 429 | 500.., .. } => true,
            Self::Service { code: Some(code), .. } => matches!(
                &**code,
                "ThrottlingException"
                    | "ProvisionedThroughputExceededException"
                    | "RequestLimitExceeded"
                    | "SlowDown"
                    | "RequestTimeout"
            ),
            Self::Request | Self::Credentials | Self::Service { code: None, .. } => false,
        }
    }

    /// Whether a call about many keys may have been refused, as a whole, for the sake of one of them.
    pub(crate) fn may_be_for_one_key(&self) -> bool {
        matches!(self, Self::Service { code: Some(code), .. }
            if matches!(&**code, "MalformedXML" | "InvalidArgument" | "InvalidRequest" | "KeyTooLongError"))
    }

    /// Whether the service refused it for want of a right.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::Service { status: 401 | 403, .. })
            || matches!(self, Self::Service { code: Some(code), .. }
                if matches!(&**code, "AccessDeniedException" | "AccessDenied"))
    }
}

impl<E: ProvideErrorMetadata> From<SdkError<E, HttpResponse>> for Cause {
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        Self::of(&error)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => {
                f.write_str("no request could be made: is a region set, and is the endpoint a URL?")
            }
            Self::Credentials => f.write_str("no credentials could be loaded"),
            Self::Connect => f.write_str("no connection"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Connection => f.write_str("the connection broke"),
            Self::Answer => f.write_str("an answer that is none"),
            Self::Service { code: Some(code), status } => write!(f, "{code} ({status})"),
            Self::Service { code: None, status } => write!(f, "status {status}"),
        }
    }
}
