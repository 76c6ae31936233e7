//! The JSON of the commands: parts that several of them share.
//!
//! Every key is always there, `null` where there is nothing to say. Durations are whole milliseconds in keys
//! that end in `_ms`, times are RFC 3339 in UTC, sizes are bytes, digests are hex.

use crate::quantity::{bytes, exact, rough};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use leasehold_client::{
    BackingOff, Depth, MissingReason, Page, Regeneration, Scope, StalePage, StaleReason, Target,
};
use serde::Serialize;
use std::time::{Duration, SystemTime};

/// A page that is current.
#[derive(Debug, Serialize)]
pub(crate) struct PageShape {
    pub(crate) generation: u64,
    pub(crate) etag: Option<String>,
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) size_bytes: u64,
    pub(crate) digest: String,
    pub(crate) generated_at: Option<String>,
    pub(crate) age_ms: u64,
    pub(crate) revalidate_ms: Option<u64>,
    pub(crate) stale_while_revalidate_ms: Option<u64>,
    pub(crate) stale_if_error_ms: Option<u64>,
    pub(crate) render_time_ms: Option<u64>,
    pub(crate) tags: Vec<String>,
    pub(crate) path: Option<String>,
    pub(crate) headers: Vec<HeaderShape>,
    pub(crate) sidecar_token: Option<String>,
    pub(crate) html_object_name: Option<String>,
    pub(crate) sidecar_object_name: Option<String>,
}

/// A response header of a page.
#[derive(Debug, Serialize)]
pub(crate) struct HeaderShape {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Who renders.
#[derive(Debug, Serialize)]
pub(crate) struct RegenerationShape {
    pub(crate) owner: String,
    pub(crate) generation: u64,
    pub(crate) remaining_ms: u64,
}

/// A pause after failed renders.
#[derive(Debug, Serialize)]
pub(crate) struct PauseShape {
    pub(crate) remaining_ms: u64,
    pub(crate) failures: u32,
    pub(crate) reason: String,
}

/// What an invalidation is about.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ScopeShape {
    /// `null` for `everything`.
    pub(crate) tenant: Option<String>,
    /// `everything`, `tenant`, `deployment`, `prefix`, `tag` or `key`.
    pub(crate) scope: &'static str,
    pub(crate) value: Option<String>,
}

/// A body: as text where it is UTF-8, else as base64.
#[derive(Debug, Default, Serialize)]
pub(crate) struct BodyShape {
    pub(crate) body: Option<String>,
    pub(crate) body_base64: Option<String>,
}

impl From<&Page> for PageShape {
    fn from(page: &Page) -> Self {
        let metadata = &page.metadata;
        Self {
            generation: page.generation,
            etag: metadata.etag.clone(),
            status: metadata.status,
            content_type: metadata.content_type.clone(),
            size_bytes: page.size_bytes,
            digest: hex::encode(&page.digest),
            generated_at: page.generated_at.map(rfc3339),
            age_ms: millis(page.age),
            revalidate_ms: metadata.revalidate.map(millis),
            stale_while_revalidate_ms: metadata.stale_while_revalidate.map(millis),
            stale_if_error_ms: metadata.stale_if_error.map(millis),
            render_time_ms: metadata.render_time.map(millis),
            tags: metadata.tags.clone(),
            path: metadata.path.clone(),
            headers: metadata
                .headers
                .iter()
                .map(|(name, value)| HeaderShape { name: name.clone(), value: value.clone() })
                .collect(),
            sidecar_token: page.sidecar_token.as_ref().map(|token| token.as_str().to_owned()),
            html_object_name: page.html_object_name.clone(),
            sidecar_object_name: page.sidecar_object_name.clone(),
        }
    }
}

impl From<&Regeneration> for RegenerationShape {
    fn from(Regeneration { owner, generation, remaining }: &Regeneration) -> Self {
        Self { owner: owner.clone(), generation: *generation, remaining_ms: millis(*remaining) }
    }
}

impl From<&BackingOff> for PauseShape {
    fn from(pause: &BackingOff) -> Self {
        let BackingOff { remaining, failures, reason, previous: _ } = pause;
        Self { remaining_ms: millis(*remaining), failures: *failures, reason: reason.clone() }
    }
}

impl From<&Scope> for ScopeShape {
    fn from(Scope { tenant, target }: &Scope) -> Self {
        let (scope, value) = match target {
            Target::Everything => return Self { tenant: None, scope: "everything", value: None },
            Target::WholeTenant => ("tenant", None),
            Target::Deployment(deployment) => ("deployment", Some(deployment)),
            Target::PathPrefix(prefix) => ("prefix", Some(prefix)),
            Target::Tag(tag) => ("tag", Some(tag)),
            Target::Key(key) => ("key", Some(key)),
        };
        let tenant = tenant.as_deref().filter(|tenant| !tenant.is_empty()).unwrap_or("default");
        Self { tenant: Some(tenant.to_owned()), scope, value: value.cloned() }
    }
}

impl ScopeShape {
    /// For people: `tag news`.
    pub(crate) fn text(&self) -> String {
        match &self.value {
            Some(value) => format!("{} {value}", self.scope),
            None => self.scope.to_owned(),
        }
    }
}

impl From<&[u8]> for BodyShape {
    fn from(body: &[u8]) -> Self {
        match std::str::from_utf8(body) {
            Ok(text) => Self { body: Some(text.to_owned()), body_base64: None },
            Err(_) => Self { body: None, body_base64: Some(STANDARD.encode(body)) },
        }
    }
}

impl PageShape {
    /// For people, in rows that follow one that says how fresh it is.
    pub(crate) fn rows(&self, rows: &mut crate::output::Rows) {
        rows.add("generation", self.generation.to_string());
        rows.add("rendered", self.rendered());
        rows.add("page", self.summary());
        if let Some(policy) = self.policy() {
            rows.add("policy", policy);
        }
        if !self.tags.is_empty() {
            rows.add("tags", self.tags.join(" "));
        }
        rows.add_some("path", self.path.clone());
        for HeaderShape { name, value } in &self.headers {
            rows.add("header", format!("{name}: {value}"));
        }
        rows.add_some("sidecar", self.sidecar_token.clone());
        rows.add_some("html name", self.html_object_name.clone());
        rows.add_some("sidecar name", self.sidecar_object_name.clone());
    }

    /// When its render began.
    pub(crate) fn rendered(&self) -> String {
        let age = rough(Duration::from_millis(self.age_ms));
        let at = self.generated_at.as_deref().map(|at| format!(" ({at})")).unwrap_or_default();
        format!("{age} ago{at}")
    }

    /// What it is, in one line.
    pub(crate) fn summary(&self) -> String {
        let etag = self.etag.as_deref().unwrap_or("no etag");
        let content_type = self.content_type.as_deref().unwrap_or("text/html");
        format!("{}, {content_type}, status {}, etag {etag}", bytes(self.size_bytes), self.status)
    }

    fn policy(&self) -> Option<String> {
        let parts = [
            ("revalidate", self.revalidate_ms),
            ("stale-while-revalidate", self.stale_while_revalidate_ms),
            ("stale-if-error", self.stale_if_error_ms),
        ];
        let set = parts
            .iter()
            .filter_map(|(name, span)| Some(format!("{name} {}", exact(Duration::from_millis((*span)?)))));
        let set: Vec<_> = set.collect();
        (!set.is_empty()).then(|| set.join(", "))
    }
}

impl RegenerationShape {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let remaining = rough(Duration::from_millis(self.remaining_ms));
        format!("by {} for up to {remaining}, as generation {}", self.owner, self.generation)
    }
}

/// Why a page is stale, as it stands in JSON.
pub(crate) fn stale_reason(reason: StaleReason) -> &'static str {
    match reason {
        StaleReason::Expired => "expired",
        StaleReason::Invalidated => "invalidated",
        StaleReason::Unverified => "unverified",
        _ => "other",
    }
}

/// Why there is no page, as it stands in JSON.
pub(crate) fn missing_reason(reason: MissingReason) -> &'static str {
    match reason {
        MissingReason::NeverRendered => "never_rendered",
        MissingReason::Purged => "purged",
        MissingReason::BodyGone => "body_gone",
        _ => "other",
    }
}

/// Why a page is stale, for people.
pub(crate) fn stale_text(stale: &StalePage) -> String {
    let why = match stale.reason {
        StaleReason::Expired => "its revalidate time is over",
        StaleReason::Invalidated => "it was invalidated after its render began",
        StaleReason::Unverified => "the coordinator cannot read its invalidation log",
        _ => "for a reason that this release does not know",
    };
    format!("stale: {why}")
}

/// Why there is no page, for people.
pub(crate) fn missing_text(reason: MissingReason) -> &'static str {
    match reason {
        MissingReason::NeverRendered => "missing: never rendered, or forgotten",
        MissingReason::Purged => "missing: purged by a hard invalidation",
        MissingReason::BodyGone => "missing: its stored body is gone",
        _ => "missing, for a reason that this release does not know",
    }
}

/// How deep an invalidation goes, as it stands in JSON.
pub(crate) fn depth(depth: Depth) -> &'static str {
    match depth {
        Depth::Soft => "soft",
        Depth::Hard => "hard",
    }
}

/// Whole milliseconds.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC, with milliseconds.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
