//! How the edge reads what callers send, without an engine behind it.

use super::{admission::Admission, deadline::Deadline, error::EdgeError, parse, streams};
use crate::settings::Settings;
use leasehold_core::{
    access::Permissions,
    identity::{EntryId, Owner, PagePath, Seq},
    invalidation::Invalidation,
    page::PageMeta,
    transition::Release,
};
use leasehold_proto::v1;
use prost::Message;
use std::time::Duration;
use tonic::{
    Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::StatusExt as _;

/// The calls of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `Lookup`.
    Lookup,
    /// One message of `LookupStream`.
    LookupStream,
    /// `AcquireLease`.
    AcquireLease,
    /// `RenewLease`.
    RenewLease,
    /// `ReleaseLease`.
    ReleaseLease,
    /// `CommitPointer`.
    CommitPointer,
    /// The first message of `UploadBody`.
    UploadBody,
    /// `ServeSidecar`, up to its token, which the core resolves.
    ServeSidecar,
    /// `ServeObject`, up to its name, which the core resolves.
    ServeObject,
    /// `ServePage`.
    ServePage,
    /// `Invalidate`.
    Invalidate,
    /// `Watch`.
    Watch,
}

impl Call {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 12] = [
        Self::Lookup,
        Self::LookupStream,
        Self::AcquireLease,
        Self::RenewLease,
        Self::ReleaseLease,
        Self::CommitPointer,
        Self::UploadBody,
        Self::ServeSidecar,
        Self::ServeObject,
        Self::ServePage,
        Self::Invalidate,
        Self::Watch,
    ];
}

/// What became of a message.
#[derive(Clone, Debug)]
pub enum Parsed {
    /// No message at all: gRPC's own affair.
    NotAMessage,
    /// Refused before anything was asked of the engine.
    Refused(Refusal),
    /// What the engine would be handed, as far as it is to be stored.
    Accepted(Box<Accepted>),
}

/// What a caller is told of a message that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The number of the status.
    pub code: i32,
    /// Its message.
    pub message: String,
    /// The reason in its details.
    pub reason: String,
    /// The fields that are named in its details.
    pub fields: Vec<String>,
    /// The header that is named in its details, where a tenant's boundary was crossed.
    pub header: Option<String>,
}

/// The parts of an accepted message that end up in the store.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    /// Whose entry it is about.
    pub entry: Option<EntryId>,
    /// The path of that entry.
    pub path: Option<PagePath>,
    /// The owner of a lease.
    pub owner: Option<Owner>,
    /// Why a render failed.
    pub failure: Option<String>,
    /// The metadata of a page.
    pub page: Option<PageMeta>,
    /// An invalidation.
    pub invalidation: Option<Invalidation>,
}

/// Reads a message of a call as the edge does.
pub fn parse(call: Call, message: &[u8], settings: &Settings) -> Parsed {
    let admission = &Admission::new(Permissions::unrestricted().into(), &settings.boundary);
    let about =
        |target: parse::Target| Accepted { entry: Some(target.id), path: target.path, ..Accepted::default() };
    let held = |lease: parse::LeaseAsk| Accepted { entry: Some(lease.id), ..Accepted::default() };
    match call {
        Call::Lookup => read(message, |request| Ok(about(parse::lookup(request, admission)?.target))),
        Call::LookupStream => read(message, |request: v1::LookupStreamRequest| {
            let (_, lookup) = parse::lookup_on_stream(request.lookup, request.timeout, admission)?;
            Ok(about(lookup.target))
        }),
        Call::AcquireLease => read(message, |request| {
            let ask = parse::acquire(request, admission, settings)?.request;
            Ok(Accepted {
                entry: Some(ask.id),
                path: ask.path,
                owner: Some(ask.owner),
                ..Accepted::default()
            })
        }),
        Call::RenewLease => read(message, |request| Ok(held(parse::renew(request, admission, settings)?.0))),
        Call::ReleaseLease => read(message, |request| {
            let (lease, release) = parse::release(request, admission)?;
            let failure = match release {
                Release::Failed { reason } => Some(reason),
                _ => None,
            };
            Ok(Accepted { failure, ..held(lease) })
        }),
        Call::CommitPointer => read(message, |request| {
            let ask = parse::commit(request, admission, settings)?;
            Ok(Accepted { entry: Some(ask.id), page: Some(ask.meta), ..Accepted::default() })
        }),
        Call::UploadBody => read(message, |request: v1::UploadBodyRequest| {
            let ask = parse::upload(parse::upload_head(Some(request))?, admission)?;
            Ok(Accepted { entry: Some(ask.id), ..Accepted::default() })
        }),
        Call::ServeSidecar => {
            read(message, |request| Ok(about(parse::serve_sidecar(request, admission)?.target)))
        }
        Call::ServeObject => read(message, |request| {
            parse::serve_object(request, admission)?;
            Ok(Accepted::default())
        }),
        Call::ServePage => read(message, |request| Ok(about(parse::serve_page(request, admission)?.target))),
        Call::Invalidate => read(message, |request| {
            Ok(Accepted { invalidation: Some(parse::invalidate(request, admission)?), ..Accepted::default() })
        }),
        Call::Watch => read(message, |request: v1::WatchRequest| {
            parse::filters(request.filters, admission)?;
            streams::resume_token(&request.resume_token)?;
            Ok(Accepted::default())
        }),
    }
}

/// The position in a consistency token.
///
/// # Errors
/// What a caller is told of a text that is none.
pub fn consistency_token(text: &str) -> Result<Option<Seq>, Refusal> {
    parse::token(text).map_err(refusal)
}

/// The consistency token of a position.
pub fn write_consistency_token(seq: Seq) -> String {
    parse::write_token(seq)
}

/// The run and the position in a resume token.
///
/// # Errors
/// What a caller is told of a text that is none.
pub fn resume_token(text: &str) -> Result<Option<(u128, u64)>, Refusal> {
    let token = streams::resume_token(text).map_err(refusal)?;
    Ok(token.map(|(run, cursor)| (run, cursor.0)))
}

/// The resume token of a run and a position.
pub fn write_resume_token(run: u128, cursor: u64) -> String {
    streams::write_resume_token(run, crate::engine::Cursor(cursor))
}

/// The headers of a call.
#[derive(Clone, Debug)]
pub struct Headers(MetadataMap);

impl Headers {
    /// With this `grpc-timeout`; `None` for bytes that no header can have.
    pub fn with_timeout(value: &[u8]) -> Option<Self> {
        let mut headers = MetadataMap::new();
        headers.insert("grpc-timeout", MetadataValue::try_from(value).ok()?);
        Some(Self(headers))
    }
}

/// How long a call may take whose headers these are, and how long it may wait for others.
pub fn times(headers: &Headers, default: Duration, wait: Duration) -> (Duration, Duration) {
    let deadline = Deadline::of(&headers.0, default);
    let wait = deadline.cap(wait);
    (deadline.and_wait(wait).time(), wait)
}

fn read<M: Message + Default>(
    message: &[u8],
    parse: impl FnOnce(M) -> Result<Accepted, EdgeError>,
) -> Parsed {
    match M::decode(message).map(parse) {
        Err(_) => Parsed::NotAMessage,
        Ok(Ok(accepted)) => Parsed::Accepted(Box::new(accepted)),
        Ok(Err(error)) => Parsed::Refused(refusal(error)),
    }
}

fn refusal(error: EdgeError) -> Refusal {
    let status = Status::from(error);
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.iter());
    let info = details.error_info();
    Refusal {
        code: status.code().into(),
        message: status.message().to_owned(),
        reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
        fields: violations.into_iter().flatten().map(|violation| violation.field.clone()).collect(),
        header: info.and_then(|info| info.metadata.get("header").cloned()),
    }
}
