//! Domain types become wire types here.

use super::{
    error::EdgeError,
    parse::{Delivery, write_token},
};
use crate::engine::{AcquireOutcome, Acquisition, Engine, LogStanding, Looked, WatchEvent};
use bytes::Bytes;
use leasehold_core::{
    entry::{Backoff, Lease},
    freshness::{Absence, Freshness, Staleness},
    identity::{Generation, TenantId},
    invalidation::{Depth, Scope, Verdict},
    object::{BodyKind, PageObjects, SidecarToken},
    page::{BodyRef, Digest, PageMeta, Pointer},
    time::Timestamp,
};
use leasehold_proto::v1;
use std::time::Duration;

/// For how long the URL of a body can be fetched.
const URL_TTL: Duration = Duration::from_secs(5 * 60);

/// The longest that an answer waits for the body of a previous page.
const PREVIOUS_TIME: Duration = Duration::from_millis(500);

/// What is known of a page's body when its message is put together.
enum BodyPart {
    None,
    Unchanged,
    TooLarge,
    Inline(Bytes),
    Url(String),
}

/// How a caller wants the body.
#[derive(Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) delivery: Delivery,
    pub(crate) known: Option<Generation>,
    pub(crate) inline_limit: usize,
}

impl Wish {
    /// How many bytes the answer will carry of the page's body. That of a page that another system wrote is not known before it is
    /// read, and is none here.
    pub(crate) fn carries(self, looked: &Looked) -> u64 {
        let Some(pointer) = looked.servable() else { return 0 };
        let is_carried = self.delivery == Delivery::Inline
            && self.known != Some(pointer.generation)
            && !pointer.is_foreign()
            && pointer.html.size_bytes <= self.inline_limit as u64;
        if is_carried { pointer.html.size_bytes } else { 0 }
    }

    /// By what it really takes: the length of a page that another system wrote is not known before.
    fn inline(self, body: Bytes) -> BodyPart {
        if body.len() > self.inline_limit { BodyPart::TooLarge } else { BodyPart::Inline(body) }
    }

    /// What can be said of the body without asking a store; `None` where one must be asked.
    fn without_store(self, engine: &Engine, pointer: &Pointer) -> Option<BodyPart> {
        if self.delivery == Delivery::None {
            return Some(BodyPart::None);
        }
        if self.known == Some(pointer.generation) {
            return Some(BodyPart::Unchanged);
        }
        if self.delivery == Delivery::Url {
            return None;
        }
        if pointer.html.size_bytes > self.inline_limit as u64 {
            return Some(BodyPart::TooLarge);
        }
        engine.remembered_body(&pointer.html).map(|object| self.inline(object.body))
    }
}

/// Puts the answer to a lookup together from memory; `None` where a store must be asked for the body.
pub(crate) fn lookup_remembered(engine: &Engine, looked: &Looked, wish: Wish) -> Option<v1::LookupResponse> {
    let body = match looked.servable() {
        Some(pointer) if pointer.is_foreign() => return None,
        Some(pointer) => wish.without_store(engine, pointer)?,
        None => BodyPart::None,
    };
    Some(lookup_response(engine, looked, body))
}

/// Puts the answer to a lookup together, with its body.
pub(crate) async fn lookup(
    engine: &Engine,
    looked: Looked,
    wish: Wish,
) -> Result<(Looked, v1::LookupResponse), EdgeError> {
    let (looked, body) = fetch(engine, looked, wish).await?;
    let response = lookup_response(engine, &looked, body);
    Ok((looked, response))
}

async fn fetch(engine: &Engine, looked: Looked, wish: Wish) -> Result<(Looked, BodyPart), EdgeError> {
    let is_told_by_object = looked.servable().is_some_and(Pointer::is_foreign);
    let (looked, object) = if is_told_by_object { engine.page_body(looked).await? } else { (looked, None) };
    let Some(pointer) = looked.servable() else { return Ok((looked, BodyPart::None)) };
    if let Some(body) = wish.without_store(engine, pointer) {
        return Ok((looked, body));
    }
    if wish.delivery == Delivery::Url {
        let url = engine.page_url(pointer, URL_TTL).await?;
        return Ok((looked, BodyPart::Url(url)));
    }
    let (looked, object) = match object {
        Some(object) => (looked, Some(object)),
        None => engine.page_body(looked).await?,
    };
    let body = match object {
        // A newer page may have taken its place meanwhile, of another size.
        Some(object) => wish.inline(object.body),
        None => BodyPart::None,
    };
    Ok((looked, body))
}

fn lookup_response(engine: &Engine, looked: &Looked, body: BodyPart) -> v1::LookupResponse {
    use v1::lookup_response::Outcome;
    let outcome = match (looked.freshness, looked.pointer()) {
        (Freshness::Fresh, Some(pointer)) => Outcome::Fresh(fresh(engine, looked, pointer, body)),
        (Freshness::Stale(why), Some(pointer)) => Outcome::Stale(stale(engine, looked, pointer, why, body)),
        (Freshness::Missing(why), _) => Outcome::Missing(missing(why)),
        (Freshness::Fresh | Freshness::Stale(_), None) => Outcome::Missing(missing(Absence::NeverRendered)),
    };
    v1::LookupResponse { outcome: Some(outcome), regeneration: regeneration(looked), state: None }
}

/// When an acquire came, and what time is left to answer it.
pub(crate) struct AcquireTime {
    /// What is left of a grant is counted from when the call arrived, as its caller counts from when it sent it: a wait in
    /// between must not look like time that was used up.
    pub(crate) arrived: Timestamp,
    /// Until the call is cut off.
    pub(crate) left: Duration,
}

/// Puts the answer to an acquire together; `None` where the page that was ready is gone by now. The grant is marked as
/// delivered by the caller, who sends it.
pub(crate) async fn acquire(
    engine: &Engine,
    acquisition: Acquisition,
    AcquireTime { arrived, left }: AcquireTime,
    wish: Wish,
) -> Result<Option<(v1::AcquireLeaseResponse, Option<crate::engine::Receipt>)>, EdgeError> {
    use v1::acquire_lease_response::Outcome;
    let Acquisition { outcome, looked, waited: _until_it_is_answered } = acquisition;
    let mut receipt_of_grant = None;
    let previous_time = PREVIOUS_TIME.min(left / 2);
    let outcome = match outcome {
        AcquireOutcome::Granted { lease, objects, receipt } => {
            receipt_of_grant = Some(receipt);
            let previous = previous(engine, looked, wish, previous_time).await;
            Outcome::Granted(grant(&lease, &objects, arrived, previous))
        }
        AcquireOutcome::Ready(_) => {
            let (looked, body) = fetch(engine, looked, wish).await?;
            match (looked.freshness, looked.pointer()) {
                (Freshness::Fresh, Some(pointer)) => {
                    let page = v1::page_ready::Page::Fresh(fresh(engine, &looked, pointer, body));
                    Outcome::Ready(v1::PageReady { page: Some(page) })
                }
                (Freshness::Stale(why), Some(pointer)) => {
                    let page = v1::page_ready::Page::Stale(stale(engine, &looked, pointer, why, body));
                    Outcome::Ready(v1::PageReady { page: Some(page) })
                }
                // It was purged, or found missing, while its body was fetched.
                _ => return Ok(None),
            }
        }
        AcquireOutcome::Held { until } => {
            let lease = looked.entry().and_then(|entry| entry.lease.as_ref());
            // Also in the tolerance after its time, when nothing of it remains.
            let regeneration = lease.map(|lease| regenerating(lease, until.since(looked.now.wall)));
            let previous = previous(engine, looked, wish, previous_time).await;
            Outcome::Held(v1::LeaseHeld { regeneration, previous })
        }
        AcquireOutcome::BackingOff { until } => {
            let remaining = Some(wire_duration(until.since(looked.now.wall)));
            let backoff = looked.entry().and_then(|entry| entry.backoff.clone());
            let (failures, reason) =
                backoff.map_or((0, String::new()), |Backoff { failures, reason, .. }| (failures, reason));
            let previous = previous(engine, looked, wish, previous_time).await;
            Outcome::BackingOff(v1::BackingOff { remaining, failures, reason, previous })
        }
        AcquireOutcome::Ended => Outcome::Ended(v1::LeaseEnded {}),
    };
    Ok(Some((v1::AcquireLeaseResponse { outcome: Some(outcome) }, receipt_of_grant)))
}

/// The page so far. Its body is left out where it cannot be had in time: that must cost neither a grant nor an answer.
async fn previous(engine: &Engine, looked: Looked, wish: Wish, time: Duration) -> Option<v1::StalePage> {
    let (looked, body) = match tokio::time::timeout(time, fetch(engine, looked.clone(), wish)).await {
        Ok(Ok(fetched)) => fetched,
        Ok(Err(_)) | Err(_) => (looked, BodyPart::None),
    };
    match (looked.freshness, looked.pointer()) {
        (Freshness::Stale(why), Some(pointer)) => Some(stale(engine, &looked, pointer, why, body)),
        _ => None,
    }
}

fn grant(
    lease: &Lease,
    objects: &PageObjects,
    arrived: Timestamp,
    previous: Option<v1::StalePage>,
) -> v1::LeaseGrant {
    v1::LeaseGrant {
        generation: lease.generation.0,
        remaining: Some(wire_duration(remaining(lease, arrived))),
        renewable_for: Some(wire_duration(renewable_for(lease, arrived))),
        html_object: objects.html.to_string(),
        sidecar_object: objects.sidecar.to_string(),
        sidecar_token: SidecarToken::encode(&objects.sidecar),
        previous,
    }
}

pub(crate) fn renewed(lease: &Lease, now: Timestamp) -> v1::LeaseRenewed {
    v1::LeaseRenewed {
        remaining: Some(wire_duration(remaining(lease, now))),
        renewable_for: Some(wire_duration(renewable_for(lease, now))),
    }
}

/// What is left of a lease: no more than it had at first, whatever the clock that wrote it said.
fn remaining(lease: &Lease, now: Timestamp) -> Duration {
    lease.expires_at.since(now).min(lease.ttl)
}

/// Likewise, with all renewals.
fn renewable_for(lease: &Lease, now: Timestamp) -> Duration {
    lease.hold_until.since(now).min(lease.hold_until.since(lease.granted_at))
}

/// The head of a page that is streamed; `None` where there is nothing to serve.
pub(crate) fn serve_page_head(engine: &Engine, looked: &Looked) -> Option<v1::ServePageHead> {
    use v1::serve_page_head::Page;
    let page = match (looked.freshness, looked.pointer()?) {
        (Freshness::Fresh, pointer) => Page::Fresh(fresh(engine, looked, pointer, BodyPart::None)),
        (Freshness::Stale(why), pointer) => Page::Stale(stale(engine, looked, pointer, why, BodyPart::None)),
        (Freshness::Missing(_), _) => return None,
    };
    Some(v1::ServePageHead { page: Some(page) })
}

fn fresh(engine: &Engine, looked: &Looked, pointer: &Pointer, body: BodyPart) -> v1::FreshPage {
    let now = looked.now.wall;
    v1::FreshPage {
        page: Some(page(engine, looked, pointer, body)),
        fresh_for: pointer.fresh_until().map(|until| wire_duration(until.since(now))),
    }
}

fn stale(
    engine: &Engine,
    looked: &Looked,
    pointer: &Pointer,
    why: Staleness,
    body: BodyPart,
) -> v1::StalePage {
    let now = looked.now.wall;
    // Windows count from the end of `revalidate`. A page that was invalidated before has all of them ahead.
    let from = pointer.fresh_until().map_or(now, |until| until.min(now));
    let left = |window: Option<Duration>| window.map(|window| wire_duration(from.plus(window).since(now)));
    let reason = match why {
        Staleness::Expired => v1::StaleReason::Expired,
        Staleness::Invalidated => v1::StaleReason::Invalidated,
        Staleness::Unverified => v1::StaleReason::Unverified,
    };
    v1::StalePage {
        page: Some(page(engine, looked, pointer, body)),
        reason: reason.into(),
        stale_while_revalidate_for: left(pointer.meta.stale_while_revalidate),
        stale_if_error_for: left(pointer.meta.stale_if_error),
    }
}

fn missing(why: Absence) -> v1::MissingPage {
    v1::MissingPage { reason: missing_reason(why).into() }
}

/// Why there is no page, on the wire.
pub(crate) fn missing_reason(why: Absence) -> v1::MissingReason {
    match why {
        Absence::NeverRendered => v1::MissingReason::NeverRendered,
        Absence::Purged => v1::MissingReason::Purged,
        Absence::BodyGone => v1::MissingReason::BodyGone,
    }
}

fn page(engine: &Engine, looked: &Looked, pointer: &Pointer, body: BodyPart) -> v1::Page {
    let (body, body_unchanged, body_too_large) = match body {
        BodyPart::None => (None, false, false),
        BodyPart::Unchanged => (None, true, false),
        BodyPart::TooLarge => (None, false, true),
        BodyPart::Inline(bytes) => (Some(v1::page::Body::Inline(bytes)), false, false),
        BodyPart::Url(url) => (Some(v1::page::Body::Url(url)), false, false),
    };
    let (html_object_name, sidecar_object_name) = given_names(engine, &looked.id().tenant, pointer);
    v1::Page {
        generation: pointer.generation.0,
        metadata: Some(metadata(&pointer.meta)),
        generated_at: Some(wire_timestamp(pointer.generated_at)),
        age: Some(wire_duration(looked.now.wall.since(pointer.generated_at))),
        body,
        body_unchanged,
        body_too_large,
        size_bytes: pointer.html.size_bytes,
        digest: digest(pointer.html.digest),
        sidecar_token: sidecar_token(pointer),
        html_object_name,
        sidecar_object_name,
    }
}

/// What their worker calls HTML and sidecar of a page; empty where the coordinator named them.
pub(crate) fn given_names(engine: &Engine, tenant: &TenantId, pointer: &Pointer) -> (String, String) {
    let name = |body: &BodyRef| engine.given_name(tenant, &body.object).map(|given| given.to_string());
    (name(&pointer.html).unwrap_or_default(), pointer.sidecar.as_ref().and_then(name).unwrap_or_default())
}

/// Which body, on the wire.
pub(crate) fn body_kind(kind: BodyKind) -> v1::BodyKind {
    match kind {
        BodyKind::Html => v1::BodyKind::Html,
        BodyKind::Sidecar => v1::BodyKind::Sidecar,
    }
}

fn digest(digest: Digest) -> Bytes {
    if digest == Digest::UNKNOWN { Bytes::new() } else { Bytes::copy_from_slice(&digest.0) }
}

/// The token of a page's sidecar; empty where it has none.
pub(crate) fn sidecar_token(pointer: &Pointer) -> String {
    pointer.sidecar.as_ref().map(|sidecar| SidecarToken::encode(&sidecar.object)).unwrap_or_default()
}

fn metadata(meta: &PageMeta) -> v1::PageMetadata {
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
    v1::PageMetadata {
        status: u32::from(status.get()),
        content_type: content_type.clone(),
        headers: headers
            .iter()
            .map(|(name, value)| v1::NameValue { name: name.clone(), value: value.clone() })
            .collect(),
        etag: etag.clone(),
        revalidate: revalidate.map(wire_duration),
        stale_while_revalidate: stale_while_revalidate.map(wire_duration),
        stale_if_error: stale_if_error.map(wire_duration),
        tags: tags.iter().map(ToString::to_string).collect(),
        path: path.as_ref().map(ToString::to_string).unwrap_or_default(),
        render_time: render_time.map(wire_duration),
    }
}

fn regeneration(looked: &Looked) -> Option<v1::Regeneration> {
    let lease = looked.entry()?.lease.as_ref()?;
    let remaining = remaining(lease, looked.now.wall);
    (!remaining.is_zero()).then(|| regenerating(lease, remaining))
}

fn regenerating(lease: &Lease, remaining: Duration) -> v1::Regeneration {
    v1::Regeneration {
        owner: lease.owner.to_string(),
        generation: lease.generation.0,
        remaining: Some(wire_duration(remaining)),
    }
}

/// How things stand with an entry.
pub(crate) fn state(engine: &Engine, looked: &Looked) -> v1::EntryState {
    let LogStanding { position, age, verified, marks, decisive, scopes, verdict } =
        engine.log_standing(looked);
    let entry = looked.entry();
    let pointer = looked.pointer();
    let lease = entry.and_then(|entry| entry.lease.as_ref());
    let backoff = entry.and_then(|entry| entry.backoff.as_ref());
    let depth = if decisive.seq == marks.hard.seq { Depth::Hard } else { Depth::Soft };
    let applies = verdict != Verdict::Valid;
    // Of an event that is forgotten by now, only that there was one is known.
    let is_told = applies || !scopes.is_empty();
    let invalidation = is_told.then(|| v1::InvalidationState {
        seq: decisive.seq.0,
        at: Some(wire_timestamp(decisive.at)),
        scopes: scopes.iter().map(|(scope, _)| self::scope(scope)).collect(),
        depth: self::depth(depth).into(),
        applies,
    });
    v1::EntryState {
        tenant: looked.id().tenant.to_string(),
        deployment: looked.id().deployment.as_ref().map(ToString::to_string).unwrap_or_default(),
        key: looked.id().key.to_string(),
        generation: entry.map_or(0, |entry| entry.generation.0),
        pointer: pointer.map(|pointer| page(engine, looked, pointer, BodyPart::None)),
        fresh_until: pointer.and_then(Pointer::fresh_until).map(wire_timestamp),
        body_gone: pointer.is_some_and(|pointer| pointer.gone),
        lease: lease.map(|lease| lease_state(engine, looked, lease)),
        backoff: backoff.map(|backoff| v1::BackoffState {
            failures: backoff.failures,
            not_before: Some(wire_timestamp(backoff.not_before)),
            failed_at: Some(wire_timestamp(backoff.failed_at)),
            reason: backoff.reason.clone(),
        }),
        invalidation,
        log_position: position.0,
        log_age: age.map(wire_duration),
        log_verified: verified,
        seen: pointer.map_or(0, |pointer| pointer.seen.0),
    }
}

fn lease_state(engine: &Engine, looked: &Looked, lease: &Lease) -> v1::LeaseState {
    v1::LeaseState {
        owner: lease.owner.to_string(),
        generation: lease.generation.0,
        granted_at: Some(wire_timestamp(lease.granted_at)),
        expires_at: Some(wire_timestamp(lease.expires_at)),
        hold_until: Some(wire_timestamp(lease.hold_until)),
        expired: engine.is_expired(looked, lease),
        overtaken: engine.is_overtaken(looked, lease),
    }
}

/// An event as watchers get it.
pub(crate) fn watch_event(event: WatchEvent) -> v1::watch_response::Event {
    use v1::watch_response::Event;
    match event {
        WatchEvent::Committed { id, generation, tags, stale } => Event::Committed(v1::PageCommitted {
            tenant: id.tenant.to_string(),
            deployment: id.deployment.as_ref().map(ToString::to_string).unwrap_or_default(),
            key: id.key.to_string(),
            generation: generation.0,
            tags: tags.iter().map(ToString::to_string).collect(),
            stale,
        }),
        WatchEvent::Invalidated { seq, at, scopes, depth } => Event::Invalidated(v1::PagesInvalidated {
            scopes: scopes.iter().map(scope).collect(),
            depth: self::depth(depth).into(),
            at: Some(wire_timestamp(at)),
            consistency_token: write_token(seq),
        }),
    }
}

fn scope(scope: &Scope) -> v1::InvalidationScope {
    use v1::invalidation_scope::Scope as Wire;
    let tenant = scope.tenant().map(ToString::to_string).unwrap_or_default();
    let scope = match scope {
        Scope::Everything => Wire::Everything(v1::Everything {}),
        Scope::Tenant(_) => Wire::WholeTenant(v1::WholeTenant {}),
        Scope::Deployment(_, deployment) => Wire::Deployment(deployment.to_string()),
        Scope::PathPrefix(_, path) => Wire::PathPrefix(path.to_string()),
        Scope::Tag(_, tag) => Wire::Tag(tag.to_string()),
        Scope::Key(_, key) => Wire::Key(key.to_string()),
    };
    v1::InvalidationScope { tenant, scope: Some(scope) }
}

fn depth(depth: Depth) -> v1::InvalidationDepth {
    match depth {
        Depth::Soft => v1::InvalidationDepth::Soft,
        Depth::Hard => v1::InvalidationDepth::Hard,
    }
}

fn wire_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().cast_signed(),
    }
}

fn wire_timestamp(timestamp: Timestamp) -> prost_types::Timestamp {
    let millis = timestamp.as_millis();
    prost_types::Timestamp {
        seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(millis % 1000 * 1_000_000).unwrap_or(0),
    }
}

/// The body that comes in an answer to a lookup.
pub(crate) fn inline_body(response: &v1::LookupResponse) -> Option<&Bytes> {
    use v1::lookup_response::Outcome;
    let page = match response.outcome.as_ref()? {
        Outcome::Fresh(fresh) => fresh.page.as_ref(),
        Outcome::Stale(stale) => stale.page.as_ref(),
        Outcome::Missing(_) => None,
    };
    match page?.body.as_ref()? {
        v1::page::Body::Inline(bytes) => Some(bytes),
        v1::page::Body::Url(_) => None,
    }
}
