//! The site over HTTP.

use crate::{
    content::PagePath,
    isr::{Failure, SIDECAR_PARAM, Served, Site, State},
};
use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State as Extract},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use leasehold_client::{EntryRef, Health, SidecarToken};
use serde_json::json;
use std::{collections::HashMap, sync::Arc, time::Duration};

pub(crate) fn routes(site: Arc<Site>) -> Router {
    Router::new()
        .route("/_site/renders", get(renders))
        .route("/_site/health", get(health))
        .fallback(get(page))
        .with_state(site)
}

async fn renders(Extract(site): Extract<Arc<Site>>) -> Response {
    let pages = site.renders.by_page();
    Json(json!({ "total": pages.values().sum::<u64>(), "pages": pages })).into_response()
}

/// The site is well as long as it answers: without a coordinator it renders.
async fn health(Extract(site): Extract<Arc<Site>>) -> Response {
    let coordinator = tokio::time::timeout(Duration::from_secs(1), site.coordinator.health()).await;
    let coordinator = match coordinator {
        Ok(Ok(Health::Serving)) => "serving",
        Ok(Ok(Health::NotServing)) => "not serving",
        Ok(Ok(Health::Unknown)) => "unknown",
        Ok(Err(_)) | Err(_) => "unreachable",
    };
    Json(json!({ "status": "ok", "worker": site.worker, "coordinator": coordinator })).into_response()
}

async fn page(
    Extract(site): Extract<Arc<Site>>,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let Some(path) = PagePath::parse(uri.path()) else { return not_found() };
    let entry = site.entry(&path, tenant_headers(&headers));
    if let Some(token) = query.get(SIDECAR_PARAM) {
        return sidecar(&site, &entry, token).await;
    }
    match site.serve(&path, &entry).await {
        Ok(served) => send(served, headers.get(header::IF_NONE_MATCH)),
        Err(Failure::NotFound) => not_found(),
        Err(Failure::TenantBoundary) => plain(StatusCode::BAD_REQUEST, "This site is of no tenant.\n"),
        Err(Failure::Render(reason)) => {
            eprintln!("{}: {reason}", path.as_str());
            plain(StatusCode::INTERNAL_SERVER_ERROR, "This page could not be rendered.\n")
        }
        Err(Failure::BackingOff(pause)) => {
            let mut response =
                plain(StatusCode::SERVICE_UNAVAILABLE, "This page could not be rendered; try again later.\n");
            set(&mut response, "retry-after", &pause.as_secs().max(1).to_string());
            response
        }
    }
}

/// The coordinator refuses those that nobody has vouched for.
fn tenant_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    ["x-tenant-id", "x-facetheory-tenant"]
        .into_iter()
        .filter_map(|name| {
            let value = String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned();
            Some((name.to_owned(), value))
        })
        .collect()
}

async fn sidecar(site: &Site, entry: &EntryRef, token: &str) -> Response {
    match site.coordinator.serve_sidecar(entry, &SidecarToken::new(token)).await {
        Ok(served) => {
            let mut response = Body::from_stream(served.body).into_response();
            set(&mut response, "content-type", &served.content_type);
            // The token names one generation, which never changes.
            set(&mut response, "cache-control", "public, max-age=31536000, immutable");
            response
        }
        Err(error) if error.is_outage() => plain(StatusCode::SERVICE_UNAVAILABLE, "Try again later.\n"),
        Err(_) => not_found(),
    }
}

fn send(served: Served, if_none_match: Option<&HeaderValue>) -> Response {
    let matches = |etag: &str| {
        let known = if_none_match.and_then(|value| value.to_str().ok()).unwrap_or_default();
        known.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == "*" || tag == etag)
    };
    let mut response = if served.etag.as_deref().is_some_and(matches) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Html(served.html).into_response()
    };
    set(&mut response, "x-isr-state", served.state.as_str());
    if let Some(generation) = served.generation {
        set(&mut response, "x-isr-generation", &generation.to_string());
    }
    if let Some(etag) = &served.etag {
        set(&mut response, "etag", etag);
    }
    let cache_control = match served.state {
        State::Bypass => "no-store".to_owned(),
        _ => format!(
            "public, max-age=0, s-maxage=0, stale-if-error={}, must-revalidate",
            served.revalidate.as_secs()
        ),
    };
    set(&mut response, "cache-control", &cache_control);
    response
}

fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "There is no such page.\n")
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = (status, text).into_response();
    set(&mut response, "cache-control", "no-store");
    response
}

/// A value that is no header value is left out.
fn set(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
