//! The invalidation log as it is folded and remembered.

mod forgetting;
mod model;
mod reach;

use leasehold_core::{
    identity::{DeploymentId, EntryId, EntryKey, PagePath, RequestId, Seq, Tag, TenantId},
    invalidation::{Depth, Invalidation, LogEvent, LogView, Mark, Marks, Scope, Verdict},
    time::Timestamp,
};

fn tenant(text: &str) -> TenantId {
    TenantId::parse(text).unwrap()
}

fn deployment(text: &str) -> DeploymentId {
    DeploymentId::parse(text).unwrap()
}

fn key(text: &str) -> EntryKey {
    EntryKey::parse(text).unwrap()
}

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

fn path(text: &str) -> PagePath {
    PagePath::parse(text).unwrap()
}

fn entry(of: &str, release: Option<&str>, name: &str) -> EntryId {
    EntryId { tenant: tenant(of), deployment: release.map(deployment), key: key(name) }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// An event at second `seq`, to be forgotten at second `seq + 100`.
fn event(seq: u64, scope: Scope, depth: Depth) -> LogEvent {
    LogEvent {
        seq: Seq(seq),
        id: RequestId(u128::from(seq)),
        at: at(seq * 1000),
        forget_after: at((seq + 100) * 1000),
        invalidations: vec![Invalidation {
            id: RequestId(1000 + u128::from(seq)),
            scopes: vec![scope],
            depth,
        }],
    }
}

fn soft(seq: u64) -> LogEvent {
    event(seq, Scope::Tag(tenant("a"), tag("t")), Depth::Soft)
}

/// The events of which a view remembers something about a page with the tag of [`soft`].
fn remembered(view: &LogView) -> Vec<u64> {
    let is_told =
        |seq: &u64| !view.scopes_at(Seq(*seq), &entry("a", None, "k"), &[tag("t")], None).is_empty();
    (0..=view.position().0).filter(is_told).collect()
}

/// All that a view holds, apart from how large the numbers are: two empty views have the same, wherever they
/// stand.
fn shape(view: &LogView) -> Vec<String> {
    let text = format!("{view:#?}").replace(|c: char| c.is_ascii_digit(), "");
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    // The order of a map's entries is chance.
    lines.sort();
    lines
}

/// A view that has forgotten all that it was told about these tenants.
fn bare<'a>(tenants: impl IntoIterator<Item = &'a TenantId>) -> LogView {
    let mut view = LogView::default();
    for (seq, of) in (1..).zip(tenants) {
        view.fold(&event(seq, Scope::Tenant(of.clone()), Depth::Soft));
    }
    view.forget(at(u64::MAX), usize::MAX);
    view
}
