//! The site over HTTP: a handler that renders, behind the layer that asks the coordinator first.

use crate::content::{Content, PagePath, Rendered, Source};
use axum::{
    Extension, Json, Router,
    extract::State as Extract,
    http::{HeaderName, StatusCode, Uri, header, request::Parts},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use leasehold_client::{
    CookieVariance, Coordinator, EntryRef, Health, PageMetadata, PageRequest,
    runtime::{
        FailureReason, IsrLayer, Policy, RenderContext, Runtime, SIDECAR_PARAM, Sidecar, TENANT_HEADERS,
    },
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The site, and how it is to behave.
pub(crate) struct Site {
    pub(crate) coordinator: Coordinator,
    pub(crate) content: Content,
    pub(crate) renders: Renders,
    pub(crate) tenant: Option<String>,
    pub(crate) worker: String,
    pub(crate) policy: Policy,
    pub(crate) render_delay: Duration,
}

/// How often each page was rendered.
#[derive(Default)]
pub(crate) struct Renders(Mutex<BTreeMap<String, u64>>);

pub(crate) fn routes(site: Arc<Site>, runtime: Runtime) -> Router {
    let pages = {
        let site = Arc::clone(&site);
        IsrLayer::new(runtime, move |request: &Parts| site.page(request))
    };
    Router::new()
        .fallback(get(render))
        .layer(pages)
        .route("/_site/renders", get(renders))
        .route("/_site/health", get(health))
        .with_state(site)
}

impl Site {
    /// A page is the same for all visitors of a tenant, whatever their query; whose it is, is not for them to say.
    fn page(&self, request: &Parts) -> Option<(EntryRef, Policy)> {
        let path = PagePath::parse(request.uri.path())?;
        let mut page =
            PageRequest::new(path.as_str()).ignore_credentials().cookie_variance(CookieVariance::None);
        for name in TENANT_HEADERS {
            if let Some(value) = request.headers.get(name) {
                page = page.header(name, [String::from_utf8_lossy(value.as_bytes())]);
            }
        }
        let entry = EntryRef::request(page).path(path.as_str());
        let entry = match &self.tenant {
            Some(tenant) => entry.tenant(tenant),
            None => entry,
        };
        Some((entry, self.policy.clone()))
    }

    async fn read(
        &self,
        path: &PagePath,
        context: &RenderContext,
    ) -> anyhow::Result<Option<(Source, Rendered)>> {
        tokio::time::sleep(self.render_delay).await;
        let Some(source) = self.content.read(path).await? else { return Ok(None) };
        let url = context
            .sidecar_token
            .as_ref()
            .map(|token| format!("{}?{SIDECAR_PARAM}={}", path.as_str(), token.as_str()));
        let generation = context.generation.map_or_else(|| "none".to_owned(), |number| number.to_string());
        let origin = format!("rendered by {}, generation {generation}", self.worker);
        let rendered = source.render(path, url.as_deref(), &origin);
        Ok(Some((source, rendered)))
    }
}

/// Renders a page: called when it is missing or out of date, by one worker at a time.
async fn render(
    Extract(site): Extract<Arc<Site>>,
    context: Option<Extension<RenderContext>>,
    uri: Uri,
) -> Response {
    let (Some(path), Some(Extension(context))) = (PagePath::parse(uri.path()), context) else {
        return not_found();
    };
    if !site.content.exists(&path).await {
        return not_found();
    }
    site.renders.count(&path);
    match site.read(&path, &context).await {
        Ok(Some((source, Rendered { html, sidecar }))) => {
            let metadata =
                PageMetadata { tags: source.tags, revalidate: source.revalidate, ..PageMetadata::default() };
            let generation = context
                .generation
                .map(|number| [(HeaderName::from_static("x-isr-generation"), number.to_string())]);
            (generation, Extension(metadata), Extension(Sidecar(sidecar.into())), Html(html)).into_response()
        }
        Ok(None) => not_found(),
        Err(error) => {
            eprintln!("{}: {error:#}", path.as_str());
            let reason = Extension(FailureReason(format!("{error:#}")));
            (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response()
        }
    }
}

/// Not kept: there are more paths without a page than the coordinator should remember.
fn not_found() -> Response {
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    (StatusCode::NOT_FOUND, no_store, "There is no such page.\n").into_response()
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

impl Renders {
    fn count(&self, path: &PagePath) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *pages.entry(path.as_str().to_owned()).or_default() += 1;
    }

    fn by_page(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
