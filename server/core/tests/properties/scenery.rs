//! The entry that every history is about, the pages that are rendered for it, and the scopes that are
//! invalidated.

use leasehold_core::{
    identity::{DeploymentId, EntryId, EntryKey, PagePath, Tag, TenantId},
    invalidation::Scope,
    object::ObjectName,
    page::{BodyRef, Digest, Page, PageMeta, PageStatus},
};
use std::time::Duration;

/// How many kinds of pages the workers render.
pub(crate) const PAGES: usize = 4;

pub(crate) fn entry_id() -> EntryId {
    EntryId {
        tenant: tenant("acme"),
        deployment: Some(DeploymentId::parse("v1").unwrap()),
        key: EntryKey::parse("k").unwrap(),
    }
}

fn tenant(text: &str) -> TenantId {
    TenantId::parse(text).unwrap()
}

pub(crate) fn path(text: &str) -> PagePath {
    PagePath::parse(text).unwrap()
}

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

/// Scopes that reach the entry, some of its pages, or none of them.
pub(crate) fn scopes() -> Vec<Scope> {
    let (acme, other) = (|| tenant("acme"), || tenant("other"));
    let release = |text| DeploymentId::parse(text).unwrap();
    let key = |text| EntryKey::parse(text).unwrap();
    vec![
        Scope::Everything,
        Scope::Tenant(acme()),
        Scope::Tenant(other()),
        Scope::Deployment(acme(), release("v1")),
        Scope::Deployment(acme(), release("v2")),
        Scope::PathPrefix(acme(), path("/")),
        Scope::PathPrefix(acme(), path("/shop")),
        Scope::PathPrefix(acme(), path("/sho")),
        Scope::PathPrefix(acme(), path("/blog")),
        Scope::Tag(acme(), tag("a")),
        Scope::Tag(acme(), tag("b")),
        Scope::Tag(acme(), tag("c")),
        Scope::Tag(other(), tag("a")),
        Scope::Key(acme(), key("k")),
        Scope::Key(other(), key("k")),
    ]
}

/// What a render makes; the digest of its body says which render it was.
pub(crate) fn rendered(kind: usize, render: u64) -> Page {
    // Not zero, which no body has.
    let mut digest = [kind as u8 + 1; 32];
    digest[..8].copy_from_slice(&render.to_be_bytes());
    let html = BodyRef {
        object: ObjectName::parse(&format!("isr/{render}-{kind}.html")).unwrap(),
        digest: Digest(digest),
        size_bytes: 1,
    };
    let (tags, at, revalidate) = [
        (&["a"][..], Some("/shop/1"), Some(10)),
        (&["a", "b"], Some("/blog"), None),
        (&[], None, Some(60)),
        (&["b"], Some("/shop"), None),
    ][kind];
    Page {
        html,
        sidecar: None,
        meta: PageMeta {
            status: PageStatus::OK,
            content_type: "text/html".to_owned(),
            headers: Vec::new(),
            etag: String::new(),
            revalidate: revalidate.map(Duration::from_secs),
            stale_while_revalidate: None,
            stale_if_error: None,
            tags: tags.iter().copied().map(tag).collect(),
            path: at.map(path),
            render_time: None,
        },
    }
}
