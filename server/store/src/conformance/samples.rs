//! Sample values, made from numbers: equal arguments give equal values.

use crate::port::ObjectMeta;
use bytes::Bytes;
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
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// A `forget_after` beyond every clause: in the year 2100.
pub const LATER: Timestamp = Timestamp::from_millis(4_102_444_800_000);

/// The identity of `key`, of tenant `t`, without a deployment.
pub fn id(key: &str) -> EntryId {
    identity("t", None, key)
}

/// An identity of all its parts.
pub fn identity(tenant: &str, deployment: Option<&str>, key: &str) -> EntryId {
    EntryId {
        tenant: TenantId::parse(tenant).expect("a tenant"),
        deployment: deployment.map(|deployment| DeploymentId::parse(deployment).expect("a deployment")),
        key: EntryKey::parse(key).expect("a key"),
    }
}

/// An entry with nothing in it.
pub fn entry(version: u128, generation: u64) -> Entry {
    Entry {
        version: Version(version),
        generation: Generation(generation),
        pointer: None,
        lease: None,
        released: None,
        backoff: None,
    }
}

/// An entry with everything in it.
pub fn full_entry(version: u128, generation: u64) -> Entry {
    Entry {
        pointer: Some(pointer(generation)),
        lease: Some(Lease {
            generation: Generation(generation),
            token: LeaseToken::from_bits(version ^ 0xff),
            owner: Owner::parse("worker 7 / eu-west-1 — “blue”").expect("an owner"),
            granted_at: Timestamp::from_millis(1_800_000_000_001),
            expires_at: Timestamp::from_millis(1_800_000_030_002),
            ttl: Duration::from_millis(30_001),
            hold_until: Timestamp::from_millis(1_800_000_300_003),
            seen: Seq(41),
            repeated: true,
        }),
        released: Some(Released {
            generation: Generation(generation.saturating_sub(1)),
            token: LeaseToken::from_bits(u128::MAX - version),
        }),
        backoff: Some(Backoff {
            failures: 3,
            not_before: Timestamp::from_millis(1_800_000_001_000),
            failed_at: Timestamp::from_millis(1_800_000_000_000),
            reason: "upstream answered 503 – “busy”\nsecond line\t🦀".into(),
        }),
        ..entry(version, generation)
    }
}

/// A pointer with everything in it.
pub fn pointer(generation: u64) -> Pointer {
    Pointer {
        generation: Generation(generation),
        token: LeaseToken::from_bits(u128::from(generation) << 64 | 5),
        html: BodyRef { object: object_name(generation), digest: digest(b"html"), size_bytes: 4 },
        sidecar: Some(BodyRef {
            object: ObjectName::parse(&format!("isr/sidecars/{generation}.hydration.json")).expect("a name"),
            digest: digest(b"{}"),
            size_bytes: 2,
        }),
        meta: PageMeta {
            status: PageStatus::new(404).expect("a status"),
            content_type: "text/html; charset=utf-8".into(),
            headers: vec![
                ("x-b".into(), "2".into()),
                ("x-a".into(), "1, \"quoted\"".into()),
                ("x-b".into(), "repeated".into()),
                ("x-empty".into(), String::new()),
            ],
            etag: "\"abc\"".into(),
            revalidate: Some(Duration::from_secs(60)),
            stale_while_revalidate: Some(Duration::ZERO),
            stale_if_error: Some(Duration::from_millis(1_500)),
            tags: vec![Tag::parse("blog").expect("a tag"), Tag::parse("post:日本").expect("a tag")],
            path: Some(PagePath::parse("/blog/2026").expect("a path")),
            render_time: Some(Duration::from_nanos(123_456_789)),
        },
        generated_at: Timestamp::from_millis(1_799_999_999_999),
        committed_at: Timestamp::from_millis(1_800_000_000_999),
        seen: Seq(40),
        gone: false,
    }
}

/// An entry in which every number and length of time is as large as its type allows.
pub fn extreme_entry(version: u128) -> Entry {
    let end = Timestamp::from_millis(u64::MAX);
    let mut entry = full_entry(version, u64::MAX);
    if let Some(lease) = &mut entry.lease {
        (lease.granted_at, lease.expires_at, lease.hold_until, lease.seen) = (end, end, end, Seq(u64::MAX));
        lease.ttl = Duration::MAX;
    }
    if let Some(backoff) = &mut entry.backoff {
        (backoff.failures, backoff.not_before, backoff.failed_at) = (u32::MAX, end, end);
        backoff.reason = String::new();
    }
    if let Some(pointer) = &mut entry.pointer {
        (pointer.generated_at, pointer.committed_at) = (end, end);
        (pointer.seen, pointer.gone) = (Seq(u64::MAX), true);
        pointer.sidecar = None;
        pointer.html.size_bytes = u64::MAX;
        pointer.meta.status = PageStatus::new(499).expect("a status");
        pointer.meta.revalidate = Some(Duration::MAX);
        pointer.meta.stale_while_revalidate = Some(Duration::MAX);
        pointer.meta.stale_if_error = None;
        pointer.meta.render_time = Some(Duration::MAX);
        pointer.meta.headers.clear();
        pointer.meta.tags.clear();
        pointer.meta.etag.clear();
    }
    entry
}

/// An event of one invalidation, kept until [`LATER`].
pub fn event(seq: u64, id: u128) -> LogEvent {
    LogEvent {
        seq: Seq(seq),
        id: RequestId(id),
        at: Timestamp::from_millis(seq.saturating_add(1_800_000_000_000)),
        forget_after: LATER,
        invalidations: vec![Invalidation {
            id: RequestId(id ^ 1 << 127),
            scopes: vec![Scope::Tenant(TenantId::parse("t").expect("a tenant"))],
            depth: Depth::Soft,
        }],
    }
}

/// An event with every kind of scope in it.
pub fn full_event(seq: u64, id: u128) -> LogEvent {
    let tenant = || TenantId::parse("t::x#é").expect("a tenant");
    let scopes = vec![
        Scope::Everything,
        Scope::Tenant(tenant()),
        Scope::Deployment(tenant(), DeploymentId::parse("2026-01").expect("a deployment")),
        Scope::PathPrefix(tenant(), PagePath::parse("/").expect("a path")),
        Scope::PathPrefix(tenant(), PagePath::parse("/blog/日本").expect("a path")),
        Scope::Tag(tenant(), Tag::parse("post:42").expect("a tag")),
        Scope::Key(tenant(), EntryKey::parse("t::/blog?slug=a%20b#auth=0").expect("a key")),
    ];
    LogEvent {
        invalidations: vec![
            Invalidation { id: RequestId(0), scopes: scopes.clone(), depth: Depth::Hard },
            Invalidation { id: RequestId(u128::MAX), scopes, depth: Depth::Soft },
        ],
        at: Timestamp::from_millis(u64::MAX),
        forget_after: Timestamp::from_millis(u64::MAX),
        ..event(seq, id)
    }
}

/// The name of the `n`th object, in the form of the engine's own.
pub fn object_name(n: u64) -> ObjectName {
    let text = format!("isr/0123456789abcdef01234567/{n}-00000000-0000-4000-8000-{n:012x}.html");
    ObjectName::parse(&text).expect("an object name")
}

/// Metadata of an HTML page.
pub fn object_meta() -> ObjectMeta {
    ObjectMeta {
        content_type: "text/html; charset=utf-8".into(),
        attributes: vec![("generation".into(), "42".into()), ("etag".into(), "\"a b\", =;".into())],
    }
}

/// A body of `size` bytes, every byte value among them from 256 on; another one for every `seed`.
pub fn body(seed: u8, size: usize) -> Bytes {
    // Neither even nor periodic in a power of two, so that a piece in the wrong place shows.
    (0..size)
        .map(|at| (at as u8).wrapping_mul(31).wrapping_add((at / 251) as u8).wrapping_add(seed))
        .collect()
}

/// The digest of bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}
