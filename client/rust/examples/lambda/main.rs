//! A render Lambda: a function URL or an HTTP API calls it, and it asks the coordinator first.
//!
//! ```text
//! LEASEHOLD_ENDPOINT=http://coordinator.internal:7420 cargo lambda watch --example lambda
//! ```
//!
//! A Lambda is frozen between invocations. The client finds out when it wakes up that its connection is gone, and makes another
//! one; what is to be regenerated in the background is finished before the invocation ends, for afterwards nothing runs.

use anyhow::Context as _;
use http::{Request, Response, request::Parts};
use leasehold_client::{
    CookieVariance, Coordinator, EntryRef, PageMetadata,
    runtime::{IsrLayer, Policy, RenderContext, Runtime, page_request},
};
use std::{convert::Infallible, env, time::Duration};
use tower::{Layer as _, ServiceExt as _};

/// Pages are fresh for so long,
const REVALIDATE: Duration = Duration::from_secs(2);
/// and for so long after that they are served while they are regenerated.
const WINDOW: Duration = Duration::from_secs(600);
/// How long an invocation goes on for what is done in the background: well within the function's own time limit.
const BACKGROUND: Duration = Duration::from_millis(2_500);

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    let endpoint =
        env::var("LEASEHOLD_ENDPOINT").context("LEASEHOLD_ENDPOINT says where the coordinator is")?;
    let coordinator = Coordinator::builder()
        .endpoint(endpoint)
        // Of the many that run at a time, this one.
        .owner(env::var("AWS_LAMBDA_LOG_STREAM_NAME").unwrap_or_else(|_| "render lambda".to_owned()))
        .build()?;
    let runtime = Runtime::new(coordinator);
    let pages = IsrLayer::new(runtime.clone(), page).layer(tower::service_fn(render));
    lambda_http::run(lambda_http::service_fn(move |request| {
        let (pages, runtime) = (pages.clone(), runtime.clone());
        async move {
            let response = pages.oneshot(request).await;
            // The page is there: what takes too long is given up, and tried again at the next request.
            drop(tokio::time::timeout(BACKGROUND, runtime.finish_background()).await);
            response
        }
    }))
    .await
}

/// A page is the same for everybody, whatever their cookies and credentials; its query makes it another one.
fn page(request: &Parts) -> Option<(EntryRef, Policy)> {
    let page = page_request(&request.uri, &request.headers)
        .ignore_credentials()
        .cookie_variance(CookieVariance::None);
    let entry = EntryRef::request(page).path(request.uri.path());
    Some((entry, Policy::stale_while_revalidate(REVALIDATE, WINDOW)))
}

/// What takes its time.
async fn render(request: Request<lambda_http::Body>) -> Result<Response<String>, Infallible> {
    let context = request.extensions().get::<RenderContext>();
    let generation = context.and_then(|context| context.generation);
    let generation = generation.map_or_else(|| "none".to_owned(), |number| number.to_string());
    let html = format!("<h1>{}</h1>\n<p>generation {generation}</p>\n", escape(request.uri().path()));
    let mut response = Response::new(html);
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/html; charset=utf-8"));
    response
        .extensions_mut()
        .insert(PageMetadata { tags: vec!["pages".to_owned()], ..PageMetadata::default() });
    Ok(response)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
