//! Entries as they are in production.

use leasehold_core::{
    entry::{Entry, Lease, Released},
    identity::{EntryId, Generation, LeaseToken, Owner, PagePath, Seq, Tag},
    object::{ObjectPrefix, names_for},
    page::{BodyRef, Digest, PageMeta, PageStatus, Pointer},
    time::Timestamp,
};
use leasehold_store::conformance::samples::{entry, identity, pointer};

/// A page of five tags with a sidecar, and a lease on its next generation.
pub fn page_of_five_tags() -> (EntryId, Entry) {
    let id = identity("acme", Some("2026-11-21"), "acme::/blog/{slug}?slug=a-title-of-some-length");
    let lease = Lease {
        generation: Generation(1_800_000_000),
        token: LeaseToken::from_bits(1 << 127),
        owner: Owner::parse("render-7f9c/eu-west-1b").unwrap(),
        granted_at: Timestamp::from_millis(1_800_000_000_123),
        expires_at: Timestamp::from_millis(1_800_000_030_123),
        ttl: std::time::Duration::from_secs(10),
        hold_until: Timestamp::from_millis(1_800_000_300_123),
        seen: Seq(123_456),
        repeated: false,
    };
    let objects = names_for(&ObjectPrefix::default(), &id, &lease);
    let body = |object, size_bytes| BodyRef { object, digest: Digest([7; 32]), size_bytes };
    let tags = ["author:jane", "blog", "category:engineering", "layout:v2", "post:4711"];
    let pointer = Pointer {
        html: body(objects.html, 48_213),
        sidecar: Some(body(objects.sidecar, 9_512)),
        meta: PageMeta {
            status: PageStatus::OK,
            headers: vec![("x-robots-tag".into(), "noindex".into())],
            etag: format!("\"{}\"", "0".repeat(32)),
            tags: tags.map(|tag| Tag::parse(tag).unwrap()).into(),
            path: Some(PagePath::parse("/blog/a-title-of-some-length").unwrap()),
            ..pointer(1).meta
        },
        ..pointer(1_800_000_000)
    };
    let released = Released { generation: lease.generation, token: lease.token };
    let entry = Entry { pointer: Some(pointer), lease: Some(lease), ..entry(1 << 127, 1_800_000_001) };
    (id, Entry { released: Some(released), ..entry })
}
