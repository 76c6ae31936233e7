//! Wire types become domain types here, once. Every field is looked at; what is wrong is named by its path.

use super::{admission::Admission, error::EdgeError};
use crate::{
    engine::{AcquireRequest, BodyInput, CommitRequest, Consistency, GivenNames, UploadRequest, WatchFilter},
    settings::{LeaseSettings, Limits, MIN_TTL, Settings},
};
use bytes::Bytes;
use leasehold_core::{
    access::Right,
    identity::{
        DeploymentId, EntryId, EntryKey, Generation, InvalidName, LeaseToken, MAX_OWNER_BYTES, Owner,
        PagePath, RequestId, Seq, Tag, TenantId,
    },
    invalidation::{Depth, Invalidation, MAX_SCOPE_BYTES, MAX_SCOPES, Scope},
    key::{self, CookieAllowlist, CookieVariant, KeyError, RequestParts, VariantPolicy},
    named::GivenName,
    object::BodyKind,
    page::{Digest, MAX_HEADER_BYTES, MAX_HEADERS, MAX_TAGS, MAX_WINDOW, PageMeta, PageStatus},
    transition::Release,
};
use leasehold_proto::v1;
use std::time::Duration;

/// The most filters of one watch.
pub(crate) const MAX_FILTERS: usize = 100;
/// The longest content type and entity tag, in bytes.
const MAX_VALUE_BYTES: usize = 256;
/// The content type of pages that name none.
const DEFAULT_CONTENT_TYPE: &str = "text/html; charset=utf-8";
/// Headers that belong to a connection or to one response, or that have a field of their own.
const REFUSED_HEADERS: [&str; 13] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "etag",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

type Parsed<T> = Result<T, EdgeError>;

/// The entry that a request is about, and its path.
pub(crate) struct Target {
    pub(crate) id: EntryId,
    pub(crate) path: Option<PagePath>,
}

/// How a page's HTML is to come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    None,
    Inline,
    Url,
}

pub(crate) struct LookupAsk {
    pub(crate) target: Target,
    pub(crate) consistency: Consistency,
    pub(crate) at_least: Option<Seq>,
    pub(crate) delivery: Delivery,
    pub(crate) known: Option<Generation>,
    pub(crate) explain: bool,
}

pub(crate) fn lookup(request: v1::LookupRequest, admission: &Admission<'_>) -> Parsed<LookupAsk> {
    let v1::LookupRequest { entry, consistency, consistency_token, body, known_generation, explain } =
        request;
    Ok(LookupAsk {
        target: target(entry, admission, Right::Read)?,
        consistency: self::consistency(consistency)?,
        at_least: token(&consistency_token)?,
        delivery: delivery(body)?,
        known: known_generation.map(Generation),
        explain,
    })
}

/// One lookup of a stream, and the time that it is given.
pub(crate) fn lookup_on_stream(
    lookup: Option<v1::LookupRequest>,
    timeout: Option<prost_types::Duration>,
    admission: &Admission<'_>,
) -> Parsed<(Option<Duration>, LookupAsk)> {
    let timeout = duration("timeout", timeout)?;
    let lookup = lookup.ok_or_else(|| EdgeError::field("lookup", "is required"))?;
    Ok((timeout, self::lookup(lookup, admission)?))
}

pub(crate) struct AcquireAsk {
    pub(crate) request: AcquireRequest,
    pub(crate) delivery: Delivery,
    pub(crate) known: Option<Generation>,
}

pub(crate) fn acquire(
    request: v1::AcquireLeaseRequest,
    admission: &Admission<'_>,
    settings: &Settings,
) -> Parsed<AcquireAsk> {
    let v1::AcquireLeaseRequest {
        entry,
        request_id,
        owner,
        ttl,
        wait,
        consistency_token,
        body,
        known_generation,
        retry,
    } = request;
    let Target { id, path } = target(entry, admission, Right::Render)?;
    let request = AcquireRequest {
        id,
        token: LeaseToken::from_bits(bits("request_id", &request_id)?),
        owner: self::owner(&owner)?,
        ttl: self::ttl("ttl", ttl, &settings.leases)?,
        wait: duration("wait", wait)?.unwrap_or_default(),
        path,
        at_least: token(&consistency_token)?,
        retry,
        waiters: None,
    };
    Ok(AcquireAsk { request, delivery: delivery(body)?, known: known_generation.map(Generation) })
}

pub(crate) struct LeaseAsk {
    pub(crate) id: EntryId,
    pub(crate) token: LeaseToken,
    pub(crate) generation: Generation,
}

pub(crate) fn renew(
    request: v1::RenewLeaseRequest,
    admission: &Admission<'_>,
    settings: &Settings,
) -> Parsed<(LeaseAsk, Duration)> {
    let v1::RenewLeaseRequest { entry, lease, ttl } = request;
    let lease = held(entry, lease, admission)?;
    Ok((lease, self::ttl("ttl", ttl, &settings.leases)?))
}

pub(crate) fn release(
    request: v1::ReleaseLeaseRequest,
    admission: &Admission<'_>,
) -> Parsed<(LeaseAsk, Release)> {
    let v1::ReleaseLeaseRequest { entry, lease, failure } = request;
    let lease = held(entry, lease, admission)?;
    let release = match failure {
        None => Release::Unused,
        Some(reason) if reason.trim().is_empty() => {
            return Err(EdgeError::field("failure", "must not be empty; leave it out where nothing failed"));
        }
        // Operators read it in one line.
        Some(reason) => Release::Failed { reason: reason.replace(char::is_control, " ") },
    };
    Ok((lease, release))
}

pub(crate) fn commit(
    request: v1::CommitPointerRequest,
    admission: &Admission<'_>,
    settings: &Settings,
) -> Parsed<CommitRequest> {
    let v1::CommitPointerRequest { entry, lease, html, sidecar, metadata } = request;
    let Target { id, path } = target(entry, admission, Right::Render)?;
    let (token, generation) = lease_ref(lease)?;
    let html = html.ok_or_else(|| EdgeError::field("html", "is required"))?;
    let (html, html_name) = body_source("html", html, BodyKind::Html, &settings.limits)?;
    let metadata = metadata.ok_or_else(|| EdgeError::field("metadata", "is required"))?;
    let (sidecar, sidecar_name) = match sidecar {
        None => (None, None),
        Some(sidecar) => {
            let (sidecar, name) = body_source("sidecar", sidecar, BodyKind::Sidecar, &settings.limits)?;
            (Some(sidecar), name)
        }
    };
    Ok(CommitRequest {
        id,
        token,
        generation,
        html,
        sidecar,
        names: GivenNames { html: html_name, sidecar: sidecar_name },
        meta: page_meta(metadata, path)?,
    })
}

/// What an upload begins with.
pub(crate) fn upload_head(first: Option<v1::UploadBodyRequest>) -> Parsed<v1::UploadHead> {
    use v1::upload_body_request::Part;
    match first {
        Some(v1::UploadBodyRequest { part: Some(Part::Head(head)) }) => Ok(head),
        _ => Err(EdgeError::field("head", "must come first")),
    }
}

pub(crate) fn upload(head: v1::UploadHead, admission: &Admission<'_>) -> Parsed<UploadRequest> {
    let v1::UploadHead { entry, lease, kind, content_type, object_name } = head;
    let LeaseAsk { id, token, generation } =
        held(entry, lease, admission).map_err(|error| within("head", error))?;
    let kind = match v1::BodyKind::try_from(kind) {
        Ok(v1::BodyKind::Html) => BodyKind::Html,
        Ok(v1::BodyKind::Sidecar) => BodyKind::Sidecar,
        Ok(v1::BodyKind::Unspecified) | Err(_) => {
            return Err(EdgeError::field("head.kind", "must be BODY_KIND_HTML or BODY_KIND_SIDECAR"));
        }
    };
    let default = match kind {
        BodyKind::Html => DEFAULT_CONTENT_TYPE,
        BodyKind::Sidecar => "application/json",
    };
    let content_type = header_value("head.content_type", &content_type, default)?;
    let name = given_name("head.object_name", &object_name, kind)?;
    Ok(UploadRequest { id, token, generation, kind, name, content_type })
}

pub(crate) fn invalidate(request: v1::InvalidateRequest, admission: &Admission<'_>) -> Parsed<Invalidation> {
    let v1::InvalidateRequest { request_id, scopes, depth } = request;
    let id = RequestId(bits("request_id", &request_id)?);
    if scopes.is_empty() || scopes.len() > MAX_SCOPES {
        let rule = format!("must have 1 to {MAX_SCOPES} items; it has {}", scopes.len());
        return Err(EdgeError::field("scopes", rule));
    }
    let depth = match v1::InvalidationDepth::try_from(depth) {
        Ok(v1::InvalidationDepth::Unspecified | v1::InvalidationDepth::Soft) => Depth::Soft,
        Ok(v1::InvalidationDepth::Hard) => Depth::Hard,
        Err(_) => return Err(unknown_enum("depth", depth)),
    };
    let scopes = scopes
        .into_iter()
        .enumerate()
        .map(|(at, item)| scope(item, admission).map_err(|error| within(&format!("scopes[{at}]"), error)))
        .collect::<Parsed<Vec<_>>>()?;
    let bytes: usize = scopes.iter().map(Scope::text_bytes).sum();
    if bytes > MAX_SCOPE_BYTES {
        let rule = format!("are {bytes} bytes in all; the limit is {MAX_SCOPE_BYTES}");
        return Err(EdgeError::field("scopes", rule));
    }
    Ok(Invalidation { id, scopes, depth })
}

pub(crate) fn filters(filters: Vec<v1::WatchFilter>, admission: &Admission<'_>) -> Parsed<Vec<WatchFilter>> {
    if filters.is_empty() || filters.len() > MAX_FILTERS {
        let rule = format!("must have 1 to {MAX_FILTERS} items; it has {}", filters.len());
        return Err(EdgeError::field("filters", rule));
    }
    filters
        .into_iter()
        .enumerate()
        .map(|(at, item)| filter(item, admission).map_err(|error| within(&format!("filters[{at}]"), error)))
        .collect()
}

pub(crate) fn target(entry: Option<v1::EntryRef>, admission: &Admission<'_>, right: Right) -> Parsed<Target> {
    use v1::entry_ref::Name;
    let entry = entry.ok_or_else(|| EdgeError::field("entry", "is required"))?;
    let v1::EntryRef { tenant, deployment, name, path } = entry;
    let deployment = optional("entry.deployment", &deployment, DeploymentId::parse)?;
    let given_path = optional("entry.path", &path, PagePath::parse)?;
    match name {
        None => Err(EdgeError::field("entry.key", "or entry.request is required")),
        Some(Name::Key(key)) => {
            let tenant = admission.tenant("entry.tenant", &tenant, right)?;
            let key = EntryKey::parse(&key).map_err(|rule| EdgeError::field("entry.key", rule))?;
            Ok(Target { id: EntryId { tenant, deployment, key }, path: given_path })
        }
        Some(Name::Request(request)) => {
            let parts = request_parts(request)?;
            let tenant = admission.tenant_within_boundary("entry.tenant", &tenant, &parts.headers, right)?;
            let key = key::derive_key(&tenant, &parts).map_err(|error| EdgeError::key(&error, "entry"))?;
            let path = given_path.or_else(|| key::path_of(&parts));
            Ok(Target { id: EntryId { tenant, deployment, key }, path })
        }
    }
}

fn request_parts(request: v1::PageRequest) -> Parsed<RequestParts> {
    let v1::PageRequest {
        route,
        params,
        query,
        headers,
        cookies,
        ignore_credentials,
        cookie_variance,
        cookie_allowlist,
    } = request;
    if route.trim().is_empty() {
        return Err(EdgeError::field("entry.request.route", InvalidName::Empty));
    }
    let cookie_variant = match v1::CookieVariance::try_from(cookie_variance) {
        Ok(v1::CookieVariance::Allowlist) => {
            let list = CookieAllowlist::new(cookie_allowlist)
                .map_err(|error: KeyError| EdgeError::key(&error, "entry"))?;
            CookieVariant::Only(list)
        }
        Ok(_) if !cookie_allowlist.is_empty() => {
            let rule = "must be empty unless cookie_variance is COOKIE_VARIANCE_ALLOWLIST";
            return Err(EdgeError::field("entry.request.cookie_allowlist", rule));
        }
        Ok(v1::CookieVariance::Unspecified | v1::CookieVariance::All) => CookieVariant::All,
        Ok(v1::CookieVariance::None) => CookieVariant::None,
        Err(_) => return Err(unknown_enum("entry.request.cookie_variance", cookie_variance)),
    };
    let pair = |v1::NameValue { name, value }| (name, value);
    let pairs = |v1::NameValues { name, values }| (name, values);
    Ok(RequestParts {
        route,
        params: params.into_iter().map(pair).collect(),
        query: query.into_iter().map(pairs).collect(),
        headers: headers.into_iter().map(pairs).collect(),
        cookies: cookies.into_iter().map(pair).collect(),
        variant: VariantPolicy { auth: !ignore_credentials, cookies: cookie_variant },
    })
}

fn held(
    entry: Option<v1::EntryRef>,
    lease: Option<v1::LeaseRef>,
    admission: &Admission<'_>,
) -> Parsed<LeaseAsk> {
    let Target { id, path: _ } = target(entry, admission, Right::Render)?;
    let (token, generation) = lease_ref(lease)?;
    Ok(LeaseAsk { id, token, generation })
}

fn lease_ref(lease: Option<v1::LeaseRef>) -> Parsed<(LeaseToken, Generation)> {
    let lease = lease.ok_or_else(|| EdgeError::field("lease", "is required"))?;
    let v1::LeaseRef { request_id, generation } = lease;
    let token = LeaseToken::from_bits(bits("lease.request_id", &request_id)?);
    if generation == 0 {
        return Err(EdgeError::field("lease.generation", "is required: give back that of the grant"));
    }
    Ok((token, Generation(generation)))
}

fn body_source(
    field: &str,
    source: v1::BodySource,
    kind: BodyKind,
    limits: &Limits,
) -> Parsed<(BodyInput, Option<GivenName>)> {
    use v1::body_source::Source;
    let v1::BodySource { source, object_name } = source;
    let source = source.ok_or_else(|| EdgeError::field(field, "must have inline or stored"))?;
    let name = given_name(&format!("{field}.object_name"), &object_name, kind)?;
    let input = match source {
        Source::Inline(body) => {
            check_body_size(&format!("{field}.inline"), body.len(), limits)?;
            BodyInput::Inline(body)
        }
        Source::Stored(v1::StoredBody { digest, size_bytes }) => {
            let bytes = <[u8; 32]>::try_from(&*digest).map_err(|_| {
                let rule = format!("must have 32 bytes; it has {}", digest.len());
                EdgeError::field(format!("{field}.stored.digest"), rule)
            })?;
            let digest = Digest(bytes);
            if digest == Digest::UNKNOWN {
                return Err(EdgeError::field(
                    format!("{field}.stored.digest"),
                    "is of no body: all of it is zero",
                ));
            }
            BodyInput::Stored { digest, size_bytes }
        }
    };
    Ok((input, name))
}

/// What a worker calls a body; `None` where it leaves that to the coordinator.
fn given_name(field: &str, text: &str, kind: BodyKind) -> Parsed<Option<GivenName>> {
    if text.is_empty() {
        return Ok(None);
    }
    GivenName::parse(text, kind).map(Some).map_err(|rule| EdgeError::field(field, rule))
}

/// That a body is within the limit.
pub(crate) fn check_body_size(field: &str, size: usize, limits: &Limits) -> Parsed<()> {
    if size > limits.body_bytes {
        let rule = format!("is over the limit of {} bytes", limits.body_bytes);
        return Err(EdgeError::field(field, rule));
    }
    Ok(())
}

fn page_meta(metadata: v1::PageMetadata, entry_path: Option<PagePath>) -> Parsed<PageMeta> {
    let v1::PageMetadata {
        status,
        content_type,
        headers,
        etag,
        revalidate,
        stale_while_revalidate,
        stale_if_error,
        tags,
        path,
        render_time,
    } = metadata;
    let status = match status {
        0 => PageStatus::OK,
        status => u16::try_from(status).ok().and_then(PageStatus::new).ok_or_else(|| {
            let rule = format!(
                "is {status}; only 200 to 499 can be committed: 500 and more is a failed render, for which the lease \
                 is released"
            );
            EdgeError::field("metadata.status", rule)
        })?,
    };
    let etag = header_value("metadata.etag", &etag, "")?;
    if !etag.is_empty() && !is_entity_tag(&etag) {
        return Err(EdgeError::field(
            "metadata.etag",
            "must be an entity tag with its quotes, such as \"abc\"",
        ));
    }
    Ok(PageMeta {
        status,
        content_type: header_value("metadata.content_type", &content_type, DEFAULT_CONTENT_TYPE)?,
        headers: page_headers(headers)?,
        etag,
        revalidate: window("metadata.revalidate", revalidate)?,
        stale_while_revalidate: window("metadata.stale_while_revalidate", stale_while_revalidate)?,
        stale_if_error: window("metadata.stale_if_error", stale_if_error)?,
        tags: page_tags(&tags)?,
        path: optional("metadata.path", &path, PagePath::parse)?.or(entry_path),
        render_time: window("metadata.render_time", render_time)?,
    })
}

fn page_headers(headers: Vec<v1::NameValue>) -> Parsed<Vec<(String, String)>> {
    if headers.len() > MAX_HEADERS {
        let rule = format!("must have at most {MAX_HEADERS} items; it has {}", headers.len());
        return Err(EdgeError::field("metadata.headers", rule));
    }
    let bytes: usize = headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    if bytes > MAX_HEADER_BYTES {
        let rule = format!("are {bytes} bytes in all; the limit is {MAX_HEADER_BYTES}");
        return Err(EdgeError::field("metadata.headers", rule));
    }
    headers
        .into_iter()
        .enumerate()
        .map(|(at, v1::NameValue { name, value })| {
            let field = |part: &str| format!("metadata.headers[{at}].{part}");
            let name = http::HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| EdgeError::field(field("name"), "is no HTTP header name"))?;
            if REFUSED_HEADERS.contains(&name.as_str()) {
                let rule = format!("is {name}, which cannot be kept with a page");
                return Err(EdgeError::field(field("name"), rule));
            }
            http::HeaderValue::from_str(&value)
                .map_err(|_| EdgeError::field(field("value"), "is no HTTP header value"))?;
            Ok((name.as_str().to_owned(), value))
        })
        .collect()
}

fn page_tags(tags: &[String]) -> Parsed<Vec<Tag>> {
    if tags.len() > MAX_TAGS {
        let rule = format!("must have at most {MAX_TAGS} items; it has {}", tags.len());
        return Err(EdgeError::field("metadata.tags", rule));
    }
    let parse = |(at, tag): (usize, &String)| {
        Tag::parse(tag).map_err(|rule| EdgeError::field(format!("metadata.tags[{at}]"), rule))
    };
    let mut tags = tags.iter().enumerate().map(parse).collect::<Parsed<Vec<_>>>()?;
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

fn scope(item: v1::InvalidationScope, admission: &Admission<'_>) -> Parsed<Scope> {
    use v1::invalidation_scope::Scope as Wire;
    let v1::InvalidationScope { tenant, scope } = item;
    let scope = scope.ok_or_else(|| EdgeError::field("scope", "is required"))?;
    if let Wire::Everything(v1::Everything {}) = scope {
        if !tenant.is_empty() {
            return Err(EdgeError::field("tenant", "must be empty with everything"));
        }
        admission.everything(Right::Admin)?;
        return Ok(Scope::Everything);
    }
    let tenant = admission.tenant("tenant", &tenant, Right::Invalidate)?;
    Ok(match scope {
        Wire::Everything(v1::Everything {}) => Scope::Everything,
        Wire::WholeTenant(v1::WholeTenant {}) => Scope::Tenant(tenant),
        Wire::Deployment(name) => Scope::Deployment(tenant, named("deployment", &name, DeploymentId::parse)?),
        Wire::PathPrefix(path) => Scope::PathPrefix(tenant, named("path_prefix", &path, PagePath::parse)?),
        Wire::Tag(tag) => Scope::Tag(tenant, named("tag", &tag, Tag::parse)?),
        Wire::Key(key) => Scope::Key(tenant, named("key", &key, EntryKey::parse)?),
    })
}

fn filter(item: v1::WatchFilter, admission: &Admission<'_>) -> Parsed<WatchFilter> {
    use v1::watch_filter::Filter;
    let v1::WatchFilter { tenant, filter } = item;
    let filter = filter.ok_or_else(|| EdgeError::field("filter", "is required"))?;
    let tenant = admission.tenant("tenant", &tenant, Right::Read)?;
    match filter {
        Filter::WholeTenant(v1::WholeTenant {}) => Ok(WatchFilter::Tenant(tenant)),
        Filter::Tag(tag) => Ok(WatchFilter::Tag(tenant, named("tag", &tag, Tag::parse)?)),
        Filter::Key(key) => Ok(WatchFilter::Key(tenant, named("key", &key, EntryKey::parse)?)),
    }
}

fn named<T>(field: &str, text: &str, parse: fn(&str) -> Result<T, InvalidName>) -> Parsed<T> {
    parse(text).map_err(|rule| EdgeError::field(field, rule))
}

fn optional<T>(field: &str, text: &str, parse: fn(&str) -> Result<T, InvalidName>) -> Parsed<Option<T>> {
    if text.is_empty() { Ok(None) } else { named(field, text, parse).map(Some) }
}

fn owner(text: &str) -> Parsed<Owner> {
    Owner::parse(text).map_err(|rule| match rule {
        InvalidName::Empty => EdgeError::field(
            "owner",
            format!("is required: 1 to {MAX_OWNER_BYTES} bytes, such as a worker's name"),
        ),
        rule => EdgeError::field("owner", rule),
    })
}

fn bits(field: &str, bytes: &Bytes) -> Parsed<u128> {
    let array = <[u8; 16]>::try_from(&**bytes)
        .map_err(|_| EdgeError::field(field, format!("must have 16 random bytes; it has {}", bytes.len())))?;
    match u128::from_be_bytes(array) {
        0 => Err(EdgeError::field(field, "is all zero; it must be random")),
        bits => Ok(bits),
    }
}

fn ttl(field: &str, value: Option<prost_types::Duration>, settings: &LeaseSettings) -> Parsed<Duration> {
    let ttl = duration(field, value)?.unwrap_or(settings.default_ttl);
    if ttl < MIN_TTL || ttl > settings.max_ttl {
        let rule = format!("is {ttl:?}; it must be {MIN_TTL:?} to {:?}", settings.max_ttl);
        return Err(EdgeError::field(field, rule));
    }
    Ok(ttl)
}

fn window(field: &str, value: Option<prost_types::Duration>) -> Parsed<Option<Duration>> {
    let window = duration(field, value)?;
    if window.is_some_and(|window| window > MAX_WINDOW) {
        return Err(EdgeError::field(field, format!("is over the limit of {} s", MAX_WINDOW.as_secs())));
    }
    Ok(window)
}

/// A duration that is valid and not negative.
fn duration(field: &str, value: Option<prost_types::Duration>) -> Parsed<Option<Duration>> {
    let Some(prost_types::Duration { seconds, nanos }) = value else { return Ok(None) };
    let valid = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok());
    match valid {
        Some((seconds, nanos)) if nanos < 1_000_000_000 => Ok(Some(Duration::new(seconds, nanos))),
        _ => Err(EdgeError::field(field, "must be a valid duration, not negative")),
    }
}

fn consistency(value: i32) -> Parsed<Consistency> {
    match v1::Consistency::try_from(value) {
        Ok(v1::Consistency::Unspecified | v1::Consistency::Bounded) => Ok(Consistency::Bounded),
        Ok(v1::Consistency::Strict) => Ok(Consistency::Strict),
        Err(_) => Err(unknown_enum("consistency", value)),
    }
}

fn delivery(value: i32) -> Parsed<Delivery> {
    match v1::BodyDelivery::try_from(value) {
        Ok(v1::BodyDelivery::Unspecified | v1::BodyDelivery::None) => Ok(Delivery::None),
        Ok(v1::BodyDelivery::Inline) => Ok(Delivery::Inline),
        Ok(v1::BodyDelivery::Url) => Ok(Delivery::Url),
        Err(_) => Err(unknown_enum("body", value)),
    }
}

pub(crate) struct ServeAsk {
    pub(crate) target: Target,
    pub(crate) consistency: Consistency,
    pub(crate) at_least: Option<Seq>,
}

pub(crate) fn serve_page(request: v1::ServePageRequest, admission: &Admission<'_>) -> Parsed<ServeAsk> {
    let v1::ServePageRequest { entry, consistency, consistency_token } = request;
    Ok(ServeAsk {
        target: target(entry, admission, Right::Read)?,
        consistency: self::consistency(consistency)?,
        at_least: token(&consistency_token)?,
    })
}

pub(crate) struct SidecarAsk {
    pub(crate) target: Target,
    /// Which the core resolves.
    pub(crate) token: String,
    pub(crate) at_least: Option<Seq>,
}

pub(crate) fn serve_sidecar(
    request: v1::ServeSidecarRequest,
    admission: &Admission<'_>,
) -> Parsed<SidecarAsk> {
    let v1::ServeSidecarRequest { entry, sidecar_token, consistency_token } = request;
    Ok(SidecarAsk {
        target: target(entry, admission, Right::Read)?,
        token: sidecar_token,
        at_least: token(&consistency_token)?,
    })
}

pub(crate) struct ObjectAsk {
    pub(crate) tenant: TenantId,
    /// Which the core resolves.
    pub(crate) name: String,
    pub(crate) at_least: Option<Seq>,
}

pub(crate) fn serve_object(request: v1::ServeObjectRequest, admission: &Admission<'_>) -> Parsed<ObjectAsk> {
    let v1::ServeObjectRequest { tenant, object_name, consistency_token } = request;
    Ok(ObjectAsk {
        tenant: admission.tenant("tenant", &tenant, Right::Read)?,
        name: object_name,
        at_least: token(&consistency_token)?,
    })
}

/// What consistency tokens begin with: a later form can be told from this one. Clients compare tokens by their length, then
/// by their bytes, and so a later form must be longer, or begin with something greater.
const TOKEN_PREFIX: &str = "c1-";

/// The consistency token of a position.
pub(crate) fn write_token(seq: Seq) -> String {
    format!("{TOKEN_PREFIX}{seq}")
}

/// The position in a consistency token; `None` where there is no token.
pub(crate) fn token(text: &str) -> Parsed<Option<Seq>> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.strip_prefix(TOKEN_PREFIX).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let seq = digits.and_then(|digits| digits.parse().ok());
    seq.map(|seq| Some(Seq(seq)))
        .ok_or_else(|| EdgeError::field("consistency_token", "is none that Invalidate answers with"))
}

fn header_value(field: &str, text: &str, default: &str) -> Parsed<String> {
    if text.is_empty() {
        return Ok(default.to_owned());
    }
    if text.len() > MAX_VALUE_BYTES {
        let rule = format!("is {} bytes long; the limit is {MAX_VALUE_BYTES}", text.len());
        return Err(EdgeError::field(field, rule));
    }
    match http::HeaderValue::from_str(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(EdgeError::field(field, "is no HTTP header value")),
    }
}

/// RFC 9110, section 8.8.3.
fn is_entity_tag(text: &str) -> bool {
    let opaque = text.strip_prefix("W/").unwrap_or(text);
    let inner = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.is_some_and(|inner| inner.bytes().all(|b| b == 0x21 || (0x23..=0x7e).contains(&b) || b >= 0x80))
}

fn unknown_enum(field: &str, value: i32) -> EdgeError {
    EdgeError::field(field, format!("has the unknown value {value}"))
}

/// The same error, one level deeper.
fn within(outer: &str, error: EdgeError) -> EdgeError {
    match error {
        EdgeError::Field { field, rule } => EdgeError::Field { field: format!("{outer}.{field}"), rule },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_later_positions_are_longer_or_greater() {
        let in_order =
            [0, 1, 9, 10, 11, 99, 100, 1_000_000, u64::MAX / 10, u64::MAX].map(Seq).map(write_token);
        for pair in in_order.windows(2) {
            assert!((pair[0].len(), &pair[0]) < (pair[1].len(), &pair[1]), "{pair:?}");
        }
    }
}
