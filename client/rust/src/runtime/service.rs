//! The runtime as a layer of tower: what is behind it renders pages.

use super::{
    BoxError, Inner, Runtime,
    asking::within,
    policy::Policy,
    render::{RenderContext, Rendered},
    request::{OF_ONE_VISITOR, hide_what_does_not_matter, is_personal, sidecar_token, varies_by_page, vary},
};
use crate::{EntryRef, Error, PageMetadata, ServedSidecar, SidecarToken};
use bytes::Bytes;
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service, ServiceExt as _};

/// Which page a request is for, and how it is to be served. `None`: it is none that is cached, and is passed on as it is.
pub trait PageRoute: Send + Sync + 'static {
    /// Decides for a GET or HEAD request. The entry must be the same for all whom the page is the same for:
    /// [`page_request`](super::page_request) takes what matters of a request.
    ///
    /// Of query, cookies and credentials, what renders the page is shown what an entry by request holds, and no more: else one
    /// visitor's would be in the page of all. With an entry by key nothing is hidden, as nobody can tell what the key was made
    /// of: what renders must not look at anything else. Other headers, and the extensions of the request, are passed on as they
    /// are.
    fn page(&self, request: &Parts) -> Option<(EntryRef, Policy)>;
}

impl<F: Fn(&Parts) -> Option<(EntryRef, Policy)> + Send + Sync + 'static> PageRoute for F {
    fn page(&self, request: &Parts) -> Option<(EntryRef, Policy)> {
        self(request)
    }
}

/// The hydration sidecar of a response: put into its extensions by what renders it. `Debug` shows how large it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Sidecar(pub Bytes);

impl fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sidecar({} bytes)", self.0.len())
    }
}

/// Why a render failed, in the extensions of a response of status 500 or more: operators see it, and so it must hold no secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureReason(pub String);

/// Serves the pages of a service through a [`Runtime`].
///
/// For each page that is missing or out of date, the service behind it is called: with the request, without its body and what the
/// page does not depend on ([`PageRoute::page`]), and with a [`RenderContext`] in its extensions. Its response is the page, of which everybody is served the same: status, body,
/// and headers, without those that are of the connection, and `Cache-Control`, which is the policy's. Into the response's extensions, it may put
/// [`PageMetadata`], for tags and times, and a [`Sidecar`].
///
/// For this request only, and kept by nobody: what says `no-store` or `private`, what sets a cookie, and statuses that caches
/// do not keep by themselves (RFC 9110, section 15.1); and what answers a request that the coordinator has no name for, such
/// as one whose path is over its limit. A status of 500 or more is a render that failed, for the [`FailureReason`] in its
/// extensions.
///
/// Requests whose query has [`SIDECAR_PARAM`](super::SIDECAR_PARAM) are for the page's sidecar. Regeneration in the background is always in tasks of the
/// runtime's.
#[derive(Clone)]
pub struct IsrLayer {
    runtime: Runtime,
    route: Arc<dyn PageRoute>,
}

impl IsrLayer {
    /// Serves what `route` says that is a page.
    pub fn new(runtime: Runtime, route: impl PageRoute) -> Self {
        Self { runtime, route: Arc::new(route) }
    }
}

impl<S> Layer<S> for IsrLayer {
    type Service = Isr<S>;

    fn layer(&self, inner: S) -> Isr<S> {
        Isr { layer: self.clone(), inner }
    }
}

/// A service behind an [`IsrLayer`].
#[derive(Clone)]
pub struct Isr<S> {
    layer: IsrLayer,
    inner: S,
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl<S, In, Out> Service<Request<In>> for Isr<S>
where
    S: Service<Request<In>, Response = Response<Out>> + Clone + Send + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
    In: Default + Send + 'static,
    Out: Body<Data = Bytes> + Send + 'static,
    Out::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Answer, S::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // Most requests never come to the inner service: those that do, wait for it then.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let Self { layer, inner } = self.clone();
        async move {
            let (parts, body) = request.into_parts();
            let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
            let page = if is_read { layer.route.page(&parts) } else { None };
            let Some((entry, policy)) = page else {
                let answer = inner.oneshot(Request::from_parts(parts, body)).await?;
                return Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()));
            };
            let is_head = parts.method == Method::HEAD;
            let mut answer = match sidecar_token(&parts.uri) {
                Some(token) => layer.runtime.sidecar(&entry, &token).await,
                None => layer.page(inner, &entry, &policy, parts).await,
            };
            if is_head {
                // Its length is the page's (RFC 9110, section 8.6).
                if let Some(length) = answer.body().size_hint().exact() {
                    answer.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
                }
                answer = answer.map(|_| empty());
            }
            Ok(answer)
        }
        .boxed()
    }
}

impl IsrLayer {
    async fn page<S, In, Out>(&self, inner: S, entry: &EntryRef, policy: &Policy, parts: Parts) -> Answer
    where
        S: Service<Request<In>, Response = Response<Out>> + Send + 'static,
        S::Error: Into<BoxError> + Send,
        S::Future: Send,
        In: Default + Send + 'static,
        Out: Body<Data = Bytes> + Send + 'static,
        Out::Error: Into<BoxError>,
    {
        let (asked, path) = (parts.headers.clone(), parts.uri.path().to_owned());
        let for_render = as_for_everybody(parts, entry);
        let of = entry.clone();
        let limit = self.runtime.0.settings.max_body_bytes;
        let render = move |context: RenderContext| async move {
            let mut request = Request::from_parts(for_render, In::default());
            request.extensions_mut().insert(context);
            let response = inner.oneshot(request).await.map_err(Into::into)?;
            rendered(response, &of, &path, usize::try_from(limit).unwrap_or(usize::MAX)).await
        };
        match self.runtime.serve(entry, policy, render).await {
            Ok(mut served) => {
                if let Some(background) = served.background.take() {
                    drop(self.runtime.0.tasks.spawn(background));
                }
                served.into_response(self.runtime.state_header(), &asked).map(whole)
            }
            Err(error) => error.into_response().map(whole),
        }
    }
}

impl Runtime {
    /// A sidecar's token names one generation, which never changes.
    async fn sidecar(&self, entry: &EntryRef, token: &SidecarToken) -> Answer {
        let served = match self.0.circuit.permit() {
            Some(permit) => {
                let settings = &self.0.settings;
                let patience = if permit.is_trial() { settings.trial() } else { settings.patience };
                let served = self.ask_for_sidecar(entry, token, patience).await;
                match &served {
                    Err(error) if error.is_outage() => self.0.unheard(error),
                    Ok(_) | Err(_) => self.0.heard(),
                }
                served
            }
            None => Err(Error::TimedOut { after: Duration::ZERO }),
        };
        match served {
            Ok(served) => {
                let chunks = served.body.map_ok(http_body::Frame::data).map_err(BoxError::from);
                let mut answer = Response::new(StreamBody::new(chunks).boxed_unsync());
                let headers = answer.headers_mut();
                if let Ok(value) = HeaderValue::from_str(&served.content_type) {
                    headers.insert(header::CONTENT_TYPE, value);
                }
                let forever = HeaderValue::from_static(if is_personal(entry) {
                    "private, max-age=31536000, immutable"
                } else {
                    "public, max-age=31536000, immutable"
                });
                headers.insert(header::CACHE_CONTROL, forever);
                if let Some(vary) = vary(entry) {
                    headers.insert(header::VARY, vary);
                }
                answer
            }
            Err(error) => {
                let status =
                    if error.is_outage() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NOT_FOUND };
                let mut answer = Response::new(empty());
                *answer.status_mut() = status;
                answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                answer
            }
        }
    }

    /// As of one's own invalidations: what they purged is not to be kept for good by whoever asks for it now.
    async fn ask_for_sidecar(
        &self,
        entry: &EntryRef,
        token: &SidecarToken,
        patience: Duration,
    ) -> Result<ServedSidecar, Error> {
        let Inner { coordinator, invalidations, .. } = &*self.0;
        let as_of = invalidations.token();
        let served = within(patience, coordinator.serve_sidecar(entry, token, as_of.as_ref())).await;
        if !self.0.forgets(as_of.as_ref(), &served) {
            return served;
        }
        let as_of = invalidations.token();
        within(patience, coordinator.serve_sidecar(entry, token, as_of.as_ref())).await
    }
}

/// The page must not depend on what this visitor has in the cache, wants a part of, or can decode; nor on what the entry says
/// that it does not depend on.
fn as_for_everybody(mut parts: Parts, entry: &EntryRef) -> Parts {
    parts.method = Method::GET;
    hide_what_does_not_matter(entry, &mut parts);
    for name in OF_ONE_VISITOR {
        parts.headers.remove(name);
    }
    parts
}

async fn rendered<Out>(
    response: Response<Out>,
    entry: &EntryRef,
    path: &str,
    limit: usize,
) -> Result<Rendered, BoxError>
where
    Out: Body<Data = Bytes> + Send + 'static,
    Out::Error: Into<BoxError>,
{
    let (mut parts, body) = response.into_parts();
    if parts.status.is_server_error() {
        let reason = parts.extensions.remove::<FailureReason>();
        let status = || format!("answered with {}", parts.status.as_u16());
        return Err(reason.map_or_else(status, |FailureReason(reason)| reason).into());
    }
    let html = Limited::new(body, limit).collect().await?.to_bytes();
    let is_for_everybody = is_kept(parts.status, &parts.headers) && varies_by_page(entry, &parts.headers);
    let uncached = !is_for_everybody || is_about_spelling(path, &parts.headers);
    let mut metadata = parts.extensions.remove::<PageMetadata>().unwrap_or_default();
    metadata.status = parts.status.as_u16();
    let mut etag = None;
    for (name, value) in &parts.headers {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        match *name {
            header::CONTENT_TYPE => metadata.content_type = Some(text),
            header::ETAG => etag = Some(text),
            // Of the connection, or of this response alone; or the policy's.
            header::CONTENT_LENGTH
            | header::TRANSFER_ENCODING
            | header::CONNECTION
            | header::PROXY_AUTHENTICATE
            | header::TE
            | header::TRAILER
            | header::UPGRADE
            | header::DATE
            | header::AGE
            | header::CACHE_CONTROL => {}
            _ if ["keep-alive", "proxy-connection"].contains(&name.as_str()) => {}
            _ => metadata.headers.push((name.as_str().to_owned(), text)),
        }
    }
    metadata.etag = metadata.etag.or(etag);
    let sidecar = parts.extensions.remove::<Sidecar>().map(|Sidecar(bytes)| bytes);
    Ok(Rendered { html, sidecar, metadata, uncached })
}

/// Whether a response is for everybody.
fn is_kept(status: StatusCode, headers: &HeaderMap) -> bool {
    const KEPT: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451];
    let forbids = |value: &HeaderValue| {
        let directives = value.to_str().unwrap_or("no-store").to_ascii_lowercase();
        directives.split([',', '=']).any(|word| matches!(word.trim(), "no-store" | "private"))
    };
    KEPT.contains(&status.as_u16())
        && !headers.contains_key(header::SET_COOKIE)
        // Not every visitor can decode it.
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.get_all(header::CACHE_CONTROL).iter().any(forbids)
}

/// Whether a response sends its visitor to the same page in another spelling: the spellings are one page here, and whoever comes
/// by the other one would be sent in a circle.
fn is_about_spelling(path: &str, headers: &HeaderMap) -> bool {
    let Some(location) = headers.get(header::LOCATION) else { return false };
    let Ok(location) = location.to_str() else { return true };
    let bare = |path: &str| {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        segments.map(str::to_owned).collect::<Vec<_>>()
    };
    let to = location.parse::<http::Uri>().ok();
    let to = to.as_ref().map_or(location, http::Uri::path);
    location.starts_with("//") || bare(to) == bare(path)
}

fn whole(body: Bytes) -> UnsyncBoxBody<Bytes, BoxError> {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

fn empty() -> UnsyncBoxBody<Bytes, BoxError> {
    whole(Bytes::new())
}
