//! A page as it is to be sent, with the headers that say how it came about.

use super::{
    background::Handed,
    policy::{Mode, Policy},
    render::{RenderError, Rendered},
    request,
};
use crate::{EntryRef, Error, Page, Reason, SidecarToken, StaleReason};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use std::{fmt, time::Duration};

/// How a page came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// This request rendered it.
    Miss,
    /// It was there, and fresh.
    Hit,
    /// Another rendered it while this request waited.
    WaitHit,
    /// The previous page: it is being regenerated, or could not be.
    Stale,
    /// The last page that this process knows, for the coordinator could not be reached.
    StaleMetadataError,
    /// This request rendered it, and nobody keeps it.
    Bypass,
}

impl State {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Miss, Self::Hit, Self::WaitHit, Self::Stale, Self::StaleMetadataError, Self::Bypass];

    /// As it stands in the state header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Hit => "hit",
            Self::WaitHit => "wait-hit",
            Self::Stale => "stale",
            Self::StaleMetadataError => "stale-metadata-error",
            Self::Bypass => "bypass",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A page that is to be sent. `Debug` shows how large it is, and not the page.
pub struct Served {
    /// How it came about.
    pub state: State,
    /// Its status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// What its render added, in lower case.
    pub headers: Vec<(String, String)>,
    /// The HTML, or whatever else it is.
    pub html: Bytes,
    /// `None`: nobody keeps it.
    pub generation: Option<u64>,
    /// With its quotes.
    pub etag: Option<String>,
    /// How old it was when the coordinator answered, counted from when its render began: what is newer was not seen by it. Zero
    /// for what was rendered now.
    pub age: Duration,
    /// For the sidecar's URL, where it has one.
    pub sidecar_token: Option<SidecarToken>,
    /// The regeneration that a stale page needs, where the runtime hands work over.
    pub background: Option<Handed>,
    revalidate: Duration,
    mode: Mode,
    detail: Option<&'static str>,
    was_there_before: bool,
    is_personal: bool,
    vary: Option<HeaderValue>,
    /// Whether it was not rendered for this request.
    is_stored: bool,
}

/// Why there is no page. None of these is an outage of the coordinator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The render failed, and no previous page may be served instead.
    #[error("{0}")]
    Render(#[from] RenderError),
    /// The last render failed, and no previous page may be served instead: nobody renders for a while.
    #[error("rendering failed {failures} times, and is tried again in {remaining:?}: {reason}")]
    BackingOff {
        /// So long.
        remaining: Duration,
        /// Failures in a row.
        failures: u32,
        /// What the last worker said.
        reason: String,
    },
    /// The coordinator refuses it: the entry crosses a tenant's boundary, or the policy is malformed.
    #[error(transparent)]
    Refused(Error),
    /// The request has a header that marks a tenant, and the entry has none.
    #[error("the request is meant for a tenant, and none is declared")]
    TenantBoundary,
}

impl ServeError {
    /// The status that answers it best: 500, 503 while backing off or stopping, 400 where the request crosses a tenant's boundary.
    pub fn status(&self) -> u16 {
        match self {
            Self::Render(RenderError::Stopped) | Self::BackingOff { .. } => 503,
            Self::Render(_) => 500,
            Self::TenantBoundary => 400,
            Self::Refused(error) => match error.reason() {
                Some(Reason::TenantBoundary) => 400,
                _ => 500,
            },
        }
    }

    /// When it is worth trying again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::BackingOff { remaining, .. } => Some(*remaining),
            Self::Render(RenderError::Stopped) => Some(Duration::from_secs(1)),
            Self::Render(_) | Self::Refused(_) | Self::TenantBoundary => None,
        }
    }

    /// A response without a word on the cause, that nobody keeps.
    pub fn into_response(self) -> Response<Bytes> {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::new(Bytes::from_static(match status {
            StatusCode::SERVICE_UNAVAILABLE => b"This page is not available; try again later.\n",
            StatusCode::BAD_REQUEST => b"This site serves no tenants.\n",
            _ => b"This page could not be rendered.\n",
        }));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(pause) = self.retry_after() {
            let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// What a page is served with that is not its own.
pub(super) struct Circumstances {
    pub(super) state: State,
    pub(super) detail: Option<&'static str>,
    pub(super) was_there_before: bool,
}

impl Circumstances {
    pub(super) fn new(state: State) -> Self {
        Self { state, detail: None, was_there_before: false }
    }

    pub(super) fn because(self, detail: &'static str) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// A previous page, for this reason.
    pub(super) fn stale(reason: StaleReason) -> Self {
        Self::new(State::Stale).because(match reason {
            StaleReason::Expired => "expired",
            StaleReason::Invalidated => "invalidated",
            StaleReason::Unverified => "unverified",
            StaleReason::Other(_) => "stale",
        })
    }
}

/// What the coordinator has made of a page that was rendered for a request.
pub(super) struct Committed {
    pub(super) generation: u64,
    pub(super) etag: String,
    /// Not the lease's, where the sidecar of the page before was kept.
    pub(super) sidecar_token: Option<SidecarToken>,
}

impl Served {
    /// A page that the coordinator keeps.
    pub(super) fn kept(how: Circumstances, page: Page, html: Bytes, policy: &Policy) -> Self {
        let Page { generation, metadata, age, sidecar_token, .. } = page;
        Self {
            state: how.state,
            status: metadata.status,
            content_type: metadata.content_type.unwrap_or_else(|| DEFAULT_TYPE.to_owned()),
            headers: metadata.headers,
            html,
            generation: Some(generation),
            etag: metadata.etag,
            age,
            sidecar_token,
            background: None,
            revalidate: metadata.revalidate.unwrap_or(policy.revalidate),
            mode: policy.mode,
            detail: how.detail,
            was_there_before: how.was_there_before,
            is_personal: false,
            vary: None,
            is_stored: true,
        }
    }

    /// A page that was rendered for this request. `None`: nobody keeps it.
    pub(super) fn rendered(
        how: Circumstances,
        rendered: Rendered,
        committed: Option<Committed>,
        policy: &Policy,
    ) -> Self {
        let Rendered { html, metadata, .. } = rendered;
        let (generation, etag, sidecar_token) = match committed {
            Some(Committed { generation, etag, sidecar_token }) => {
                (Some(generation), Some(etag), sidecar_token)
            }
            None => (None, metadata.etag, None),
        };
        Self {
            state: how.state,
            status: metadata.status,
            content_type: metadata.content_type.unwrap_or_else(|| DEFAULT_TYPE.to_owned()),
            headers: metadata.headers,
            html,
            generation,
            etag,
            age: Duration::ZERO,
            sidecar_token,
            background: None,
            revalidate: metadata.revalidate.unwrap_or(policy.revalidate),
            mode: policy.mode,
            detail: how.detail,
            was_there_before: how.was_there_before,
            is_personal: false,
            vary: None,
            is_stored: false,
        }
    }

    /// As the page of this entry, of which a shared cache knows the URL only.
    pub(super) fn of(self, entry: &EntryRef) -> Self {
        Self { is_personal: request::is_personal(entry), vary: request::vary(entry), ..self }
    }

    /// `Cache-Control`, as FaceTheory has it. What nobody keeps is not to be kept by others either; what is served for
    /// want of something better is asked for again; and what is one visitor's, by cookies or credentials, is no shared cache's,
    /// which knows its URL only.
    pub fn cache_control(&self) -> String {
        let revalidate = self.revalidate.as_secs();
        match (self.state, self.mode) {
            (State::Bypass, _) => "no-store".to_owned(),
            _ if self.is_personal => "private, no-store".to_owned(),
            (_, Mode::Blocking) => {
                format!("public, max-age=0, s-maxage=0, stale-if-error={revalidate}, must-revalidate")
            }
            (State::Miss | State::Hit | State::WaitHit, Mode::StaleWhileRevalidate { window }) => {
                format!("s-maxage={revalidate}, stale-while-revalidate={}", window.as_secs())
            }
            (State::Stale | State::StaleMetadataError, Mode::StaleWhileRevalidate { window }) => {
                format!("s-maxage=0, stale-while-revalidate={}", window.as_secs())
            }
        }
    }

    /// `Cache-Status` by RFC 9211.
    pub fn cache_status(&self) -> String {
        let what = match self.state {
            State::Hit | State::Stale | State::StaleMetadataError => {
                let left = i128::from(self.revalidate.as_secs()) - i128::from(self.age.as_secs());
                // One that was invalidated has no time left, whatever its age.
                let left = if self.state == State::Hit { left.max(0) } else { left.min(0) };
                format!("hit; ttl={left}")
            }
            State::Miss if self.was_there_before => "fwd=stale; stored".to_owned(),
            State::Miss => "fwd=miss; stored".to_owned(),
            State::WaitHit if self.was_there_before => "fwd=stale; collapsed".to_owned(),
            State::WaitHit => "fwd=miss; collapsed".to_owned(),
            State::Bypass => "fwd=bypass".to_owned(),
        };
        match self.detail {
            Some(detail) => format!("{CACHE_NAME}; {what}; detail={detail}"),
            None => format!("{CACHE_NAME}; {what}"),
        }
    }

    /// Every header of the response but those of its length.
    pub fn header_map(&self, state_header: &HeaderName) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers.iter().filter(|(name, _)| !name.starts_with(OF_CLIENTS)) {
            // A render cannot have committed any that is none.
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.append(name, value);
            }
        }
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set(header::CONTENT_TYPE, &self.content_type);
        set(header::CACHE_CONTROL, &self.cache_control());
        set(state_header.clone(), self.state.as_str());
        if let Some(etag) = &self.etag {
            set(header::ETAG, etag);
        }
        // It says that the page was not rendered for this request (RFC 9111, section 5.1).
        if self.is_stored {
            set(header::AGE, &self.age.as_secs().to_string());
        }
        if let Some(vary) = &self.vary {
            headers.append(header::VARY, vary.clone());
        }
        // After those of the caches that its render had the page from: the last one is next to the visitor (RFC 9211, section 2).
        if let Ok(value) = HeaderValue::from_str(&self.cache_status()) {
            headers.append(HeaderName::from_static("cache-status"), value);
        }
        headers
    }

    /// The response: 304 without a body, where the request's `If-None-Match` names this page.
    pub fn into_response(self, state_header: &HeaderName, request: &HeaderMap) -> Response<Bytes> {
        let mut headers = self.header_map(state_header);
        let is_known = self.status == 200
            && self.etag.as_deref().is_some_and(|etag| {
                let mut known = request.get_all(header::IF_NONE_MATCH).iter();
                known.any(|value| value.to_str().is_ok_and(|value| names(value, etag)))
            });
        let (status, body) = if is_known {
            headers.remove(header::CONTENT_TYPE);
            // Of the page, not of this response (RFC 9110, section 8.6).
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.html.len()));
            (StatusCode::NOT_MODIFIED, Bytes::new())
        } else {
            (StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK), self.html)
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("state", &self.state)
            .field("detail", &self.detail)
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .field("html", &format_args!("{} bytes", self.html.len()))
            .field("generation", &self.generation)
            .field("etag", &self.etag)
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

const CACHE_NAME: &str = "leasehold";
/// How the names of headers begin that clients leave for one another, and no visitor gets.
const OF_CLIENTS: &str = "leasehold-";
const DEFAULT_TYPE: &str = "text/html; charset=utf-8";

/// Whether an `If-None-Match` names an entity tag, by the weak comparison of RFC 9110, section 8.8.3.2.
fn names(mut list: &str, etag: &str) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    if list.trim() == "*" {
        return true;
    }
    let etag = opaque(etag);
    // A comma may be within the quotes.
    while let Some(begin) = list.find('"') {
        let Some(length) = list[begin + 1..].find('"') else { return false };
        let end = begin + length + 2;
        if list[begin..end] == *etag {
            return true;
        }
        list = &list[end..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn an_entity_tag_is_found_in_a_list_by_the_weak_comparison() {
        for (list, etag, expected) in [
            ("\"a\"", "\"a\"", true),
            ("W/\"a\"", "\"a\"", true),
            ("\"a\"", "W/\"a\"", true),
            ("\"b\", W/\"a\" ", "\"a\"", true),
            ("\"x,\", \"a\"", "\"a\"", true),
            (" * ", "\"a\"", true),
            ("\"ab\"", "\"a\"", false),
            ("a", "\"a\"", false),
            ("\"a", "\"a\"", false),
            ("", "\"a\"", false),
        ] {
            assert_eq!(names(list, etag), expected, "{list} names {etag}");
        }
    }
}
