//! The one place where errors become a status.

use crate::{access::Unauthenticated, engine::EngineError};
use leasehold_core::{
    access::Right,
    identity::TenantId,
    key::{KeyError, TenantError},
};
use leasehold_proto::{ERROR_DOMAIN, v1::ErrorReason};
use std::{collections::HashMap, time::Duration};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Why a call fails.
#[derive(Clone, Debug)]
pub(crate) enum EdgeError {
    /// A field is wrong. `rule` completes the sentence "`field` …".
    Field { field: String, rule: String },
    /// A tenant boundary header without a declared tenant.
    TenantBoundary { header: String },
    /// There is no page to serve.
    PageNotFound { cause: &'static str },
    /// A change was cut off by the deadline, and may be applied.
    CutOff,
    /// Nobody is known by what the call came with.
    Unauthenticated(Unauthenticated),
    /// The caller may not do this to this tenant, or, where none is named, to every one.
    PermissionDenied { right: Right, tenant: Option<TenantId> },
    /// The tenant has used what it may.
    TenantLimit { what: &'static str, limit: u32, retry_after: Duration },
    /// The engine gave no outcome.
    Engine(EngineError),
}

/// When a caller may try again, where it is the load that is in the way.
const RETRY_WHEN_LOADED: Duration = Duration::from_millis(500);
/// When a caller may try again, where it is the store.
const RETRY_STORE: Duration = Duration::from_millis(100);
/// When a caller may try again, on another coordinator.
const RETRY_ELSEWHERE: Duration = Duration::ZERO;

impl EdgeError {
    pub(crate) fn field(field: impl Into<String>, rule: impl ToString) -> Self {
        Self::Field { field: field.into(), rule: rule.to_string() }
    }

    /// A tenant that does not resolve, in the request's field `field`.
    pub(crate) fn tenant(error: TenantError, field: &str) -> Self {
        match error {
            TenantError::Boundary { header } => Self::TenantBoundary { header: header.into() },
            TenantError::Invalid(rule) => Self::field(field, rule),
        }
    }

    /// A request that gives no key; its sentences begin with the field already.
    pub(crate) fn key(error: &KeyError, entry: &str) -> Self {
        let field = error.field();
        let sentence = error.to_string();
        let rule = sentence.strip_prefix(field).unwrap_or(&sentence).trim_start_matches(['`', ' ', ':']);
        Self::field(format!("{entry}.{}", wire_field(field)), rule)
    }

    fn code(&self) -> Code {
        match self {
            Self::Field { .. } => Code::InvalidArgument,
            Self::TenantBoundary { .. } => Code::FailedPrecondition,
            Self::PageNotFound { .. } => Code::NotFound,
            Self::CutOff => Code::Unavailable,
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::PermissionDenied { .. } => Code::PermissionDenied,
            Self::TenantLimit { .. } => Code::ResourceExhausted,
            Self::Engine(error) => match error {
                EngineError::StoreUnavailable(_) | EngineError::OutcomeUnknown(_) | EngineError::Draining => {
                    Code::Unavailable
                }
                EngineError::Corrupt(_) => Code::DataLoss,
                EngineError::TooLarge(_) => Code::InvalidArgument,
                EngineError::Deadline(_) => Code::DeadlineExceeded,
                EngineError::LimitReached { .. } => Code::ResourceExhausted,
                EngineError::TokenBeyondHead
                | EngineError::ObjectMissing(_)
                | EngineError::ObjectConflict(_)
                | EngineError::OtherNameStaged(_)
                | EngineError::CommittedWithout(_) => Code::FailedPrecondition,
                EngineError::UrlUnsupported => Code::Unimplemented,
                EngineError::SidecarNotFound | EngineError::ObjectNotFound => Code::NotFound,
                EngineError::Internal(_) => Code::Internal,
            },
        }
    }

    fn reason(&self) -> ErrorReason {
        match self {
            Self::Field { .. } => ErrorReason::InvalidField,
            Self::TenantBoundary { .. } => ErrorReason::TenantBoundary,
            Self::PageNotFound { .. } => ErrorReason::PageNotFound,
            Self::CutOff => ErrorReason::OutcomeUnknown,
            Self::Unauthenticated(_) => ErrorReason::Unauthenticated,
            Self::PermissionDenied { .. } => ErrorReason::PermissionDenied,
            Self::TenantLimit { .. } => ErrorReason::LimitReached,
            Self::Engine(error) => match error {
                EngineError::StoreUnavailable(_) => ErrorReason::StoreUnavailable,
                EngineError::OutcomeUnknown(_) => ErrorReason::OutcomeUnknown,
                EngineError::Draining => ErrorReason::Draining,
                EngineError::Corrupt(_) => ErrorReason::StoredDataCorrupt,
                EngineError::TooLarge(_) => ErrorReason::InvalidField,
                EngineError::Deadline(_) => ErrorReason::Deadline,
                EngineError::LimitReached { .. } => ErrorReason::LimitReached,
                EngineError::TokenBeyondHead => ErrorReason::ConsistencyTokenUnknown,
                EngineError::ObjectMissing(_) => ErrorReason::ObjectMissing,
                EngineError::ObjectConflict(_)
                | EngineError::OtherNameStaged(_)
                | EngineError::CommittedWithout(_) => ErrorReason::ObjectConflict,
                EngineError::UrlUnsupported => ErrorReason::BodyUrlUnsupported,
                EngineError::SidecarNotFound => ErrorReason::SidecarNotFound,
                EngineError::ObjectNotFound => ErrorReason::ObjectNotFound,
                EngineError::Internal(_) => ErrorReason::Internal,
            },
        }
    }

    /// The reason as the contract's `ErrorInfo` has it.
    pub(crate) fn reason_name(&self) -> &'static str {
        let name = self.reason().as_str_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }

    fn message(&self) -> String {
        match self {
            Self::Field { field, rule } => format!("{field} {rule}"),
            Self::TenantBoundary { header } => {
                format!("the request carries the tenant boundary header {header} but declares no tenant")
            }
            Self::PageNotFound { cause } => format!("there is no page to serve: {cause}"),
            Self::CutOff => {
                "the deadline passed; the change may have been applied: repeat the call with the same request id"
                    .to_owned()
            }
            Self::Unauthenticated(why) => why.to_string(),
            Self::PermissionDenied { right, tenant: Some(tenant) } => {
                format!("the caller has no right to {} pages of tenant \"{tenant}\"", verb(*right))
            }
            Self::PermissionDenied { right, tenant: None } => {
                format!("the caller has no right to {} the pages of every tenant", verb(*right))
            }
            Self::TenantLimit { what, limit, .. } => format!("over the tenant's limit of {limit} {what}"),
            Self::Engine(error) => error.to_string(),
        }
    }

    fn metadata(&self) -> HashMap<String, String> {
        let pair = match self {
            Self::TenantBoundary { header } => ("header", header.clone()),
            Self::PageNotFound { cause } => ("cause", (*cause).to_owned()),
            Self::PermissionDenied { right, .. } => ("right", right.as_str().to_owned()),
            Self::TenantLimit { what, limit, .. } => ("limit", format!("{limit} {what} of one tenant")),
            Self::Engine(EngineError::LimitReached { what, limit }) => ("limit", format!("{limit} {what}")),
            Self::Engine(
                EngineError::ObjectMissing(name)
                | EngineError::ObjectConflict(name)
                | EngineError::OtherNameStaged(name),
            ) => ("object", name.to_string()),
            Self::Field { .. } | Self::CutOff | Self::Unauthenticated(_) | Self::Engine(_) => {
                return HashMap::new();
            }
        };
        HashMap::from([(pair.0.to_owned(), pair.1)])
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::CutOff => Some(RETRY_STORE),
            Self::TenantLimit { retry_after, .. } => Some(*retry_after),
            Self::Engine(error) => match error {
                EngineError::StoreUnavailable(_) | EngineError::OutcomeUnknown(_) => Some(RETRY_STORE),
                EngineError::LimitReached { .. } => Some(RETRY_WHEN_LOADED),
                EngineError::Draining => Some(RETRY_ELSEWHERE),
                EngineError::Corrupt(_)
                | EngineError::TooLarge(_)
                | EngineError::Deadline(_)
                | EngineError::TokenBeyondHead
                | EngineError::ObjectMissing(_)
                | EngineError::ObjectConflict(_)
                | EngineError::OtherNameStaged(_)
                | EngineError::CommittedWithout(_)
                | EngineError::UrlUnsupported
                | EngineError::SidecarNotFound
                | EngineError::ObjectNotFound
                | EngineError::Internal(_) => None,
            },
            Self::Field { .. }
            | Self::TenantBoundary { .. }
            | Self::PageNotFound { .. }
            | Self::Unauthenticated(_)
            | Self::PermissionDenied { .. } => None,
        }
    }
}

fn verb(right: Right) -> &'static str {
    match right {
        Right::Read => "read",
        Right::Render => "render",
        Right::Invalidate => "invalidate",
        Right::Admin => "administer",
    }
}

/// The dotted path of a key's part as the wire names it.
fn wire_field(field: &str) -> &str {
    match field {
        "request.variant.cookies.only" => "request.cookie_allowlist",
        field => field,
    }
}

impl From<EngineError> for EdgeError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<Unauthenticated> for EdgeError {
    fn from(why: Unauthenticated) -> Self {
        Self::Unauthenticated(why)
    }
}

impl From<EdgeError> for Status {
    fn from(error: EdgeError) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(error.reason_name(), ERROR_DOMAIN, error.metadata());
        if let EdgeError::Field { field, rule } = &error {
            details.add_bad_request_violation(field, rule);
        }
        if let Some(pause) = error.retry_after() {
            details.set_retry_info(Some(pause));
        }
        if let EdgeError::Engine(error @ (EngineError::Corrupt(_) | EngineError::Internal(_))) = &error {
            tracing::error!(%error, "a call failed that should not have");
        }
        Self::with_error_details(error.code(), error.message(), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leasehold_core::object::ObjectName;

    #[test]
    fn every_error_has_its_code_its_reason_and_its_advice() {
        let object = ObjectName::parse("isr/a.html").unwrap();
        let limit = EdgeError::TenantLimit { what: "x", limit: 1, retry_after: Duration::from_millis(1) };
        let table: [(EdgeError, Code, &str, bool); 22] = [
            (limit, Code::ResourceExhausted, "LIMIT_REACHED", true),
            (EdgeError::field("ttl", "is wrong"), Code::InvalidArgument, "INVALID_FIELD", false),
            (
                EdgeError::TenantBoundary { header: "x-tenant-id".into() },
                Code::FailedPrecondition,
                "TENANT_BOUNDARY",
                false,
            ),
            (EdgeError::PageNotFound { cause: "PURGED" }, Code::NotFound, "PAGE_NOT_FOUND", false),
            (EdgeError::CutOff, Code::Unavailable, "OUTCOME_UNKNOWN", true),
            (Unauthenticated::because("x").into(), Code::Unauthenticated, "UNAUTHENTICATED", false),
            (
                EdgeError::PermissionDenied { right: Right::Read, tenant: Some(TenantId::unnamed()) },
                Code::PermissionDenied,
                "PERMISSION_DENIED",
                false,
            ),
            (
                EdgeError::PermissionDenied { right: Right::Admin, tenant: None },
                Code::PermissionDenied,
                "PERMISSION_DENIED",
                false,
            ),
            (EngineError::StoreUnavailable("x".into()).into(), Code::Unavailable, "STORE_UNAVAILABLE", true),
            (EngineError::OutcomeUnknown("x".into()).into(), Code::Unavailable, "OUTCOME_UNKNOWN", true),
            (EngineError::Corrupt("x".into()).into(), Code::DataLoss, "STORED_DATA_CORRUPT", false),
            (EngineError::TooLarge("x".into()).into(), Code::InvalidArgument, "INVALID_FIELD", false),
            (EngineError::Deadline("x").into(), Code::DeadlineExceeded, "DEADLINE", false),
            (
                EngineError::LimitReached { what: "x", limit: 1 }.into(),
                Code::ResourceExhausted,
                "LIMIT_REACHED",
                true,
            ),
            (
                EngineError::TokenBeyondHead.into(),
                Code::FailedPrecondition,
                "CONSISTENCY_TOKEN_UNKNOWN",
                false,
            ),
            (
                EngineError::ObjectMissing(object.clone()).into(),
                Code::FailedPrecondition,
                "OBJECT_MISSING",
                false,
            ),
            (EngineError::ObjectConflict(object).into(), Code::FailedPrecondition, "OBJECT_CONFLICT", false),
            (EngineError::UrlUnsupported.into(), Code::Unimplemented, "BODY_URL_UNSUPPORTED", false),
            (EngineError::SidecarNotFound.into(), Code::NotFound, "SIDECAR_NOT_FOUND", false),
            (EngineError::ObjectNotFound.into(), Code::NotFound, "OBJECT_NOT_FOUND", false),
            (EngineError::Draining.into(), Code::Unavailable, "DRAINING", true),
            (EngineError::Internal("x").into(), Code::Internal, "INTERNAL", false),
        ];
        for (error, code, reason, has_advice) in table {
            let status = Status::from(error);
            assert_eq!(status.code(), code, "{reason}");
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "leasehold"));
            assert_eq!(details.retry_info().is_some(), has_advice, "{reason}");
            assert_eq!(
                details.bad_request().is_some(),
                code == Code::InvalidArgument && !status.message().contains("store"),
                "{reason}"
            );
        }
    }
}
