//! Records as stored: protobuf, add-only, each with a number of its format.
//!
//! Every value of a core type can be encoded, and decodes to an equal value. Decoding builds core types through their
//! own `parse` functions and refuses what these refuse. What no type enforces (how many tags, say) is not enforced here
//! either: a record that can be put but not read would block its page, or the whole log, for good.
//!
//! A field that an older release does not know is dropped when that release swaps the record. A change that must not be
//! dropped raises the format number, which older releases refuse to read.

use crate::port::ObjectMeta;
use leasehold_core::{
    entry::{Backoff, Entry, Lease, Released},
    identity::{
        DeploymentId, EntryId, EntryKey, Generation, LeaseToken, Owner, PagePath, RequestId, Seq, Tag,
        TenantId, Version,
    },
    invalidation::{Depth, Invalidation, LogEvent, Scope},
    object::ObjectName,
    page::{BodyRef, Digest, PageMeta, PageStatus, Pointer},
    time::Timestamp,
};
use prost::Message;
use std::time::Duration;

mod wire;

#[cfg(test)]
mod tests;

/// The format that this release writes, and the only one so far. Zero is what an absent number reads as, so that no
/// arbitrary bytes pass for a record.
pub const FORMAT: u32 = 1;

/// Why stored bytes are not the record they should be. Names fields, never shows what is in them: records hold lease
/// tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecord {
    /// Not a message at all.
    #[error("not a record: {0}")]
    Undecodable(String),
    /// Written in a format that this release does not know, by a newer one or by somebody else.
    #[error("a record of format {found}; this release reads format {FORMAT}")]
    Format {
        /// The number in the record.
        found: u32,
    },
    /// A field is missing, or holds what its type refuses.
    #[error("field `{field}` {why}")]
    Field {
        /// Its name in the record.
        field: &'static str,
        /// Completes the sentence.
        why: String,
    },
    /// A sound record, but not the one that was asked for.
    #[error("the record of another identity")]
    OtherIdentity,
}

/// The stored form of an entry. It carries its identity, so that a record under a wrong key is noticed.
pub fn encode_entry(id: &EntryId, entry: &Entry) -> Vec<u8> {
    let Entry { version, generation, pointer, lease, released, backoff } = entry;
    let EntryId { tenant, deployment, key } = id;
    wire::Entry {
        format: FORMAT,
        id: Some(wire::Identity {
            tenant: tenant.as_str().into(),
            deployment: deployment.as_ref().map(|deployment| deployment.as_str().into()),
            key: key.as_str().into(),
        }),
        version: bytes(version.0),
        generation: generation.0,
        pointer: pointer.as_ref().map(pointer_out),
        lease: lease.as_ref().map(lease_out),
        released: released.as_ref().map(|Released { generation, token }| wire::Released {
            generation: generation.0,
            token: bytes(token.bits()),
        }),
        backoff: backoff.as_ref().map(|Backoff { failures, not_before, failed_at, reason }| wire::Backoff {
            failures: *failures,
            not_before: not_before.as_millis(),
            failed_at: failed_at.as_millis(),
            reason: reason.clone(),
        }),
    }
    .encode_to_vec()
}

/// The entry in a record, which must be that of `id`.
///
/// # Errors
/// [`InvalidRecord`] for anything that [`encode_entry`] does not write for this identity.
pub fn decode_entry(id: &EntryId, record: &[u8]) -> Result<Entry, InvalidRecord> {
    let wire::Entry { format, id: stored, version, generation, pointer, lease, released, backoff } =
        decode(record, |entry: &wire::Entry| entry.format)?;
    debug_assert_eq!(format, FORMAT);
    if identity_in(required("id", stored)?)? != *id {
        return Err(InvalidRecord::OtherIdentity);
    }
    Ok(Entry {
        version: Version(bits("version", &version)?),
        generation: Generation(generation),
        pointer: pointer.map(pointer_in).transpose()?,
        lease: lease.map(lease_in).transpose()?,
        released: released
            .map(|wire::Released { generation, token }| {
                Ok(Released {
                    generation: Generation(generation),
                    token: LeaseToken::from_bits(bits("released.token", &token)?),
                })
            })
            .transpose()?,
        backoff: backoff.map(|wire::Backoff { failures, not_before, failed_at, reason }| Backoff {
            failures,
            not_before: Timestamp::from_millis(not_before),
            failed_at: Timestamp::from_millis(failed_at),
            reason,
        }),
    })
}

/// The identity and the entry in a record, whosever it is: for housekeeping, which meets records by their age.
///
/// # Errors
/// [`InvalidRecord`] for anything that [`encode_entry`] does not write.
pub fn decode_any_entry(record: &[u8]) -> Result<(EntryId, Entry), InvalidRecord> {
    let id = identity_of_entry(record)?;
    decode_entry(&id, record).map(|entry| (id, entry))
}

/// The identity in a record of an entry, also of one whose other parts do not decode: for housekeeping, which then knows at
/// least whose it is.
///
/// # Errors
/// [`InvalidRecord`] where there is none, or in a format whose identity may be something else.
pub fn identity_of_entry(record: &[u8]) -> Result<EntryId, InvalidRecord> {
    let stored = decode(record, |entry: &wire::Entry| entry.format)?;
    identity_in(required("id", stored.id)?)
}

/// The stored form of an event of the log.
pub fn encode_event(event: &LogEvent) -> Vec<u8> {
    let LogEvent { seq, id, at, forget_after, invalidations } = event;
    wire::Event {
        format: FORMAT,
        seq: seq.0,
        id: bytes(id.0),
        at: at.as_millis(),
        forget_after: forget_after.as_millis(),
        invalidations: invalidations
            .iter()
            .map(|Invalidation { id, scopes, depth }| wire::Invalidation {
                id: bytes(id.0),
                depth: match depth {
                    Depth::Soft => wire::Depth::Soft,
                    Depth::Hard => wire::Depth::Hard,
                }
                .into(),
                scopes: scopes.iter().map(|scope| wire::Scope { kind: Some(scope_out(scope)) }).collect(),
            })
            .collect(),
    }
    .encode_to_vec()
}

/// The event in a record. A scope or depth that this release does not know is an error, never skipped: a reader that
/// passed over an invalidation would serve its pages as fresh.
///
/// # Errors
/// [`InvalidRecord`] for anything that [`encode_event`] does not write.
pub fn decode_event(record: &[u8]) -> Result<LogEvent, InvalidRecord> {
    let wire::Event { format, seq, id, at, forget_after, invalidations } =
        decode(record, |event: &wire::Event| event.format)?;
    debug_assert_eq!(format, FORMAT);
    Ok(LogEvent {
        seq: Seq(seq),
        id: RequestId(bits("id", &id)?),
        at: Timestamp::from_millis(at),
        forget_after: Timestamp::from_millis(forget_after),
        invalidations: invalidations.into_iter().map(invalidation_in).collect::<Result<_, _>>()?,
    })
}

/// The stored form of an object's metadata.
pub fn encode_meta(meta: &ObjectMeta) -> Vec<u8> {
    let ObjectMeta { content_type, attributes } = meta;
    wire::ObjectMeta { format: FORMAT, content_type: content_type.clone(), attributes: pairs_out(attributes) }
        .encode_to_vec()
}

/// The metadata in a record.
///
/// # Errors
/// [`InvalidRecord`] for anything that [`encode_meta`] does not write.
pub fn decode_meta(record: &[u8]) -> Result<ObjectMeta, InvalidRecord> {
    let wire::ObjectMeta { format, content_type, attributes } =
        decode(record, |meta: &wire::ObjectMeta| meta.format)?;
    debug_assert_eq!(format, FORMAT);
    Ok(ObjectMeta { content_type, attributes: pairs_in(attributes) })
}

fn decode<M: Message + Default>(record: &[u8], format: impl Fn(&M) -> u32) -> Result<M, InvalidRecord> {
    let message = M::decode(record).map_err(|error| InvalidRecord::Undecodable(error.to_string()))?;
    match format(&message) {
        FORMAT => Ok(message),
        found => Err(InvalidRecord::Format { found }),
    }
}

fn pointer_out(pointer: &Pointer) -> wire::Pointer {
    let Pointer { generation, token, html, sidecar, meta, generated_at, committed_at, seen, gone } = pointer;
    let PageMeta {
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
    } = meta;
    wire::Pointer {
        generation: generation.0,
        token: bytes(token.bits()),
        html: Some(body_out(html)),
        sidecar: sidecar.as_ref().map(body_out),
        generated_at: generated_at.as_millis(),
        committed_at: committed_at.as_millis(),
        seen: seen.0,
        gone: *gone,
        status: status.get().into(),
        content_type: content_type.clone(),
        headers: pairs_out(headers),
        etag: etag.clone(),
        revalidate: revalidate.map(span_out),
        stale_while_revalidate: stale_while_revalidate.map(span_out),
        stale_if_error: stale_if_error.map(span_out),
        tags: tags.iter().map(|tag| tag.as_str().into()).collect(),
        path: path.as_ref().map(|path| path.as_str().into()),
        render_time: render_time.map(span_out),
    }
}

fn pointer_in(pointer: wire::Pointer) -> Result<Pointer, InvalidRecord> {
    let wire::Pointer {
        generation,
        token,
        html,
        sidecar,
        generated_at,
        committed_at,
        seen,
        gone,
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
    } = pointer;
    Ok(Pointer {
        generation: Generation(generation),
        token: LeaseToken::from_bits(bits("pointer.token", &token)?),
        html: body_in("pointer.html", required("pointer.html", html)?)?,
        sidecar: sidecar.map(|sidecar| body_in("pointer.sidecar", sidecar)).transpose()?,
        meta: PageMeta {
            status: u16::try_from(status)
                .ok()
                .and_then(PageStatus::new)
                .ok_or_else(|| field("pointer.status", "is not a status that may be cached"))?,
            content_type,
            headers: pairs_in(headers),
            etag,
            revalidate: span_in("pointer.revalidate", revalidate)?,
            stale_while_revalidate: span_in("pointer.stale_while_revalidate", stale_while_revalidate)?,
            stale_if_error: span_in("pointer.stale_if_error", stale_if_error)?,
            tags: tags.iter().map(|tag| name("pointer.tags", Tag::parse(tag))).collect::<Result<_, _>>()?,
            path: path.map(|path| path_in("pointer.path", &path)).transpose()?,
            render_time: span_in("pointer.render_time", render_time)?,
        },
        generated_at: Timestamp::from_millis(generated_at),
        committed_at: Timestamp::from_millis(committed_at),
        seen: Seq(seen),
        gone,
    })
}

fn lease_out(lease: &Lease) -> wire::Lease {
    let Lease { generation, token, owner, granted_at, expires_at, ttl, hold_until, seen, repeated } = lease;
    wire::Lease {
        generation: generation.0,
        token: bytes(token.bits()),
        owner: owner.as_str().into(),
        granted_at: granted_at.as_millis(),
        expires_at: expires_at.as_millis(),
        ttl: Some(span_out(*ttl)),
        hold_until: hold_until.as_millis(),
        seen: seen.0,
        repeated: *repeated,
    }
}

fn lease_in(lease: wire::Lease) -> Result<Lease, InvalidRecord> {
    let wire::Lease { generation, token, owner, granted_at, expires_at, hold_until, seen, ttl, repeated } =
        lease;
    Ok(Lease {
        generation: Generation(generation),
        token: LeaseToken::from_bits(bits("lease.token", &token)?),
        owner: name("lease.owner", Owner::parse(&owner))?,
        granted_at: Timestamp::from_millis(granted_at),
        expires_at: Timestamp::from_millis(expires_at),
        ttl: required("lease.ttl", span_in("lease.ttl", ttl)?)?,
        hold_until: Timestamp::from_millis(hold_until),
        seen: Seq(seen),
        repeated,
    })
}

fn identity_in(identity: wire::Identity) -> Result<EntryId, InvalidRecord> {
    let wire::Identity { tenant, deployment, key } = identity;
    Ok(EntryId {
        tenant: name("id.tenant", TenantId::parse(&tenant))?,
        deployment: deployment
            .map(|deployment| name("id.deployment", DeploymentId::parse(&deployment)))
            .transpose()?,
        key: name("id.key", EntryKey::parse(&key))?,
    })
}

fn invalidation_in(invalidation: wire::Invalidation) -> Result<Invalidation, InvalidRecord> {
    let wire::Invalidation { id, depth, scopes } = invalidation;
    Ok(Invalidation {
        id: RequestId(bits("invalidations.id", &id)?),
        depth: match wire::Depth::try_from(depth) {
            Ok(wire::Depth::Soft) => Depth::Soft,
            Ok(wire::Depth::Hard) => Depth::Hard,
            Ok(wire::Depth::Unspecified) | Err(_) => {
                return Err(field("invalidations.depth", "is not a depth that this release knows"));
            }
        },
        scopes: scopes.into_iter().map(scope_in).collect::<Result<_, _>>()?,
    })
}

fn scope_out(scope: &Scope) -> wire::ScopeKind {
    let within =
        |tenant: &TenantId, name: &str| wire::Within { tenant: tenant.as_str().into(), name: name.into() };
    match scope {
        Scope::Everything => wire::ScopeKind::Everything(wire::Everything {}),
        Scope::Tenant(tenant) => wire::ScopeKind::Tenant(tenant.as_str().into()),
        Scope::Deployment(tenant, deployment) => {
            wire::ScopeKind::Deployment(within(tenant, deployment.as_str()))
        }
        Scope::PathPrefix(tenant, path) => wire::ScopeKind::PathPrefix(within(tenant, path.as_str())),
        Scope::Tag(tenant, tag) => wire::ScopeKind::Tag(within(tenant, tag.as_str())),
        Scope::Key(tenant, key) => wire::ScopeKind::Key(within(tenant, key.as_str())),
    }
}

fn scope_in(scope: wire::Scope) -> Result<Scope, InvalidRecord> {
    const FIELD: &str = "invalidations.scopes";
    let tenant = |tenant: &str| name(FIELD, TenantId::parse(tenant));
    let kind =
        scope.kind.ok_or_else(|| field(FIELD, "has a scope of a kind that this release does not know"))?;
    Ok(match kind {
        wire::ScopeKind::Everything(wire::Everything {}) => Scope::Everything,
        wire::ScopeKind::Tenant(name) => Scope::Tenant(tenant(&name)?),
        wire::ScopeKind::Deployment(within) => {
            Scope::Deployment(tenant(&within.tenant)?, name(FIELD, DeploymentId::parse(&within.name))?)
        }
        wire::ScopeKind::PathPrefix(within) => {
            Scope::PathPrefix(tenant(&within.tenant)?, path_in(FIELD, &within.name)?)
        }
        wire::ScopeKind::Tag(within) => {
            Scope::Tag(tenant(&within.tenant)?, name(FIELD, Tag::parse(&within.name))?)
        }
        wire::ScopeKind::Key(within) => {
            Scope::Key(tenant(&within.tenant)?, name(FIELD, EntryKey::parse(&within.name))?)
        }
    })
}

fn body_out(body: &BodyRef) -> wire::Body {
    let BodyRef { object, digest, size_bytes } = body;
    wire::Body { object: object.as_str().into(), digest: digest.0.to_vec(), size_bytes: *size_bytes }
}

fn body_in(field_name: &'static str, body: wire::Body) -> Result<BodyRef, InvalidRecord> {
    let wire::Body { object, digest, size_bytes } = body;
    Ok(BodyRef {
        object: name(field_name, ObjectName::parse_stored(&object))?,
        digest: Digest(
            digest.try_into().map_err(|_| field(field_name, "has a digest that is not 32 bytes long"))?,
        ),
        size_bytes,
    })
}

/// Parsing normalises a path, so a stored one that is not in its normal form was not written by us.
fn path_in(field_name: &'static str, text: &str) -> Result<PagePath, InvalidRecord> {
    let path = name(field_name, PagePath::parse(text))?;
    if path.as_str() == text { Ok(path) } else { Err(field(field_name, "is not a normalised path")) }
}

fn span_out(duration: Duration) -> wire::Span {
    wire::Span { seconds: duration.as_secs(), nanos: duration.subsec_nanos() }
}

fn span_in(field_name: &'static str, span: Option<wire::Span>) -> Result<Option<Duration>, InvalidRecord> {
    match span {
        None => Ok(None),
        Some(wire::Span { seconds, nanos }) if nanos < 1_000_000_000 => {
            Ok(Some(Duration::new(seconds, nanos)))
        }
        Some(_) => Err(field(field_name, "has a second or more of nanoseconds")),
    }
}

fn pairs_out(pairs: &[(String, String)]) -> Vec<wire::Pair> {
    pairs.iter().map(|(name, value)| wire::Pair { name: name.clone(), value: value.clone() }).collect()
}

fn pairs_in(pairs: Vec<wire::Pair>) -> Vec<(String, String)> {
    pairs.into_iter().map(|wire::Pair { name, value }| (name, value)).collect()
}

fn bytes(bits: u128) -> Vec<u8> {
    bits.to_be_bytes().to_vec()
}

fn bits(field_name: &'static str, bytes: &[u8]) -> Result<u128, InvalidRecord> {
    bytes.try_into().map(u128::from_be_bytes).map_err(|_| field(field_name, "is not 16 bytes long"))
}

fn required<T>(field_name: &'static str, value: Option<T>) -> Result<T, InvalidRecord> {
    value.ok_or_else(|| field(field_name, "is missing"))
}

fn name<T, E: std::fmt::Display>(field_name: &'static str, parsed: Result<T, E>) -> Result<T, InvalidRecord> {
    parsed.map_err(|error| field(field_name, error))
}

fn field(field: &'static str, why: impl std::fmt::Display) -> InvalidRecord {
    InvalidRecord::Field { field, why: why.to_string() }
}
