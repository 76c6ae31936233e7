//! A service of tower behind the runtime.

use super::*;
use http::{Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full};
use leasehold_client::{
    PageMetadata,
    runtime::{FailureReason, IsrLayer, RenderContext, Sidecar, page_request},
};
use std::convert::Infallible;
use tower::{Layer as _, Service, ServiceExt as _};

type Body = Full<Bytes>;
/// What a site makes of its response.
type Change = fn(Request<Body>, &mut Response<Body>);

/// What renders: it says so, and whatever `change` makes of that.
fn site(
    change: Change,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send {
    tower::service_fn(move |request: Request<Body>| async move {
        let mut response = Response::new(Full::from(format!("{} {}", request.method(), request.uri())));
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html"));
        change(request, &mut response);
        Ok(response)
    })
}

fn pages(parts: &Parts) -> Option<(EntryRef, Policy)> {
    let path = parts.uri.path();
    path.starts_with("/p")
        .then(|| (EntryRef::request(page_request(&parts.uri, &parts.headers)).path(path), Policy::default()))
}

async fn ask(stage: &Stage, change: Change, request: Request<Body>) -> (Response<()>, String) {
    let service = IsrLayer::new(stage.runtime.clone(), pages).layer(site(change));
    let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
}

/// The status of the answer to a request for a sidecar.
pub(super) async fn ask_for_sidecar(stage: &Stage) -> u16 {
    ask(stage, |_, _| {}, get("/p?__facetheory_isr_hydration=token")).await.0.status().as_u16()
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).header("if-none-match", "\"x\"").body(Full::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_page_is_rendered_by_the_service_behind_and_committed_with_what_it_says() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let change = |request: Request<Body>, response: &mut Response<Body>| {
        assert_eq!(request.extensions().get::<RenderContext>().unwrap().generation, Some(7));
        assert!(!request.headers().contains_key("if-none-match"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        response.headers_mut().insert("link", header::HeaderValue::from_static("</a.css>"));
        response.headers_mut().insert("cache-control", header::HeaderValue::from_static("max-age=5"));
        let metadata = PageMetadata { tags: vec!["news".into()], ..PageMetadata::default() };
        response.extensions_mut().insert(metadata);
        response.extensions_mut().insert(Sidecar("{}".into()));
    };
    let (response, body) = ask(&stage, change, get("/p?a=1")).await;
    assert_eq!((response.status().as_u16(), body.as_str()), (404, "GET /p?a=1"));
    assert_eq!(response.headers()["x-isr-state"], "miss");
    assert_eq!(response.headers()["link"], "</a.css>");
    assert!(response.headers()["cache-control"].to_str().unwrap().starts_with("public"));

    let mock::Message::Commit(commit) = &stage.mock.arrived("commit")[0].message else { unreachable!() };
    let metadata = commit.metadata.as_ref().unwrap();
    assert_eq!((metadata.status, metadata.content_type.as_str()), (404, "text/html"));
    assert_eq!(metadata.tags, ["news"]);
    let headers: Vec<_> = metadata.headers.iter().map(|header| header.name.as_str()).collect();
    assert_eq!(headers, ["link"]);
    assert!(commit.sidecar.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_head_request_is_answered_as_the_page_is_without_its_body() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let request = Request::head("/p").body(Full::default()).unwrap();
    let (response, body) = ask(&stage, |_, _| {}, request).await;
    assert_eq!((response.status().as_u16(), body.as_str()), (200, ""));
    let mock::Message::Commit(commit) = &stage.mock.arrived("commit")[0].message else { unreachable!() };
    let html = commit.html.as_ref().and_then(|html| html.source.clone());
    assert_eq!(html, Some(pb::body_source::Source::Inline("GET /p".into())));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_page_is_passed_on_whole() {
    let stage = Stage::new();
    let change = |request: Request<Body>, response: &mut Response<Body>| {
        assert!(request.extensions().get::<RenderContext>().is_none());
        *response.body_mut() = request.into_body();
    };
    for request in [Request::post("/p"), Request::get("/elsewhere")] {
        let request = request.body(Full::from("sent")).unwrap();
        let (response, body) = ask(&stage, change, request).await;
        assert_eq!((response.status().as_u16(), body.as_str()), (200, "sent"));
        assert!(!response.headers().contains_key("x-isr-state"));
    }
    assert_eq!(stage.mock.count("lookup"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_response_for_one_visitor_is_served_to_that_one_only() {
    let changes: [Change; 4] = [
        |_, response| *response.status_mut() = StatusCode::FORBIDDEN,
        |_, response| {
            drop(response.headers_mut().insert("set-cookie", header::HeaderValue::from_static("a=1")))
        },
        |_, response| {
            let value = header::HeaderValue::from_static("max-age=60, Private=\"x\"");
            response.headers_mut().insert("cache-control", value);
        },
        |_, response| {
            response.headers_mut().insert("cache-control", header::HeaderValue::from_static("no-store"));
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let stage = Stage::new();
        stage.script_lookup([missing()]);
        let (response, _) = ask(&stage, change, get("/p")).await;
        assert_eq!(response.headers()["x-isr-state"], "bypass", "{number}");
        assert_eq!(response.headers()["cache-control"], "no-store", "{number}");
        assert_eq!(stage.mock.count("commit"), 0, "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_error_is_a_render_that_failed() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let change = |_, response: &mut Response<Body>| *response.status_mut() = StatusCode::BAD_GATEWAY;
    let (response, body) = ask(&stage, change, get("/p")).await;
    assert_eq!(response.status(), 500);
    assert!(!body.contains("502"), "{body}");
    let mock::Message::Release(release) = &stage.mock.arrived("release")[0].message else { unreachable!() };
    assert_eq!(release.failure.as_deref(), Some("answered with 502"));

    stage.script_lookup([missing()]);
    let change = |_, response: &mut Response<Body>| {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response.extensions_mut().insert(FailureReason("no database".to_owned()));
    };
    ask(&stage, change, get("/p")).await;
    let mock::Message::Release(release) = &stage.mock.arrived("release")[1].message else { unreachable!() };
    assert_eq!(release.failure.as_deref(), Some("no database"));
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_is_served_under_the_url_of_its_page() {
    use pb::serve_sidecar_response::Part;
    let stage = Stage::new();
    let head = pb::SidecarHead { content_type: "application/json".into(), size_bytes: 2 };
    let parts = [Part::Head(head), Part::Chunk("{}".into())];
    stage.mock.script("serve_sidecar", [Step::Messages(parts.map(Reply::Sidecar).into(), None)]);
    stage
        .mock
        .script("serve_sidecar", [Step::Fail(mock::refusal(tonic::Code::NotFound, "SIDECAR_NOT_FOUND"))]);
    let uri = "/p?a=1&__facetheory_isr_hydration=token";
    let (response, body) = ask(&stage, |_, _| {}, get(uri)).await;
    assert_eq!((response.status().as_u16(), body.as_str()), (200, "{}"));
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    let (response, _) = ask(&stage, |_, _| {}, get(uri)).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["cache-control"]),
        (404, &header::HeaderValue::from_static("no-store"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_page_of_one_visitor_is_no_shared_caches() {
    for (name, value) in [("cookie", "session=a"), ("authorization", "Bearer xyzzy"), ("accept", "*/*")] {
        let stage = Stage::new();
        stage.script_lookup([missing()]);
        let request = Request::get("/p").header(name, value).body(Full::default()).unwrap();
        let (response, _) = ask(&stage, |_, _| {}, request).await;
        assert_eq!(response.headers()["x-isr-state"], "miss");
        let is_private = response.headers()["cache-control"] == "private, no-store";
        assert_eq!(is_private, name != "accept", "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_renders_for_everybody_does_not_see_who_asked() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let route = |parts: &Parts| {
        let variance = leasehold_client::CookieVariance::Allowlist(vec!["lang".into()]);
        let request = page_request(&parts.uri, &parts.headers).ignore_credentials().cookie_variance(variance);
        Some((EntryRef::request(request), Policy::default()))
    };
    let change: Change = |request, _| {
        assert_eq!(request.headers()["cookie"], "lang=de");
        assert!(!request.headers().contains_key("authorization"));
        assert!(!request.headers().contains_key("accept-encoding"));
    };
    let service = IsrLayer::new(stage.runtime.clone(), route).layer(site(change));
    let request =
        Request::get("/p").header("cookie", "session=a; lang=de").header("authorization", "Bearer xyzzy");
    let request = request.header("accept-encoding", "gzip").body(Full::default()).unwrap();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["x-isr-state"], "miss");
}

#[tokio::test(start_paused = true)]
async fn what_depends_on_a_header_is_not_told_to_shared_caches_as_a_page_of_its_url() {
    use pb::serve_sidecar_response::Part;
    let of_tenant = |parts: &Parts| {
        let entry = EntryRef::request(page_request(&parts.uri, &parts.headers)).tenant("acme");
        Some((entry, Policy::stale_while_revalidate(MINUTE, MINUTE)))
    };
    let change: Change = |_, response| {
        drop(response.headers_mut().insert("vary", header::HeaderValue::from_static("accept-encoding")));
    };
    for (name, value, told) in [
        ("x-tenant-id", "acme", Some("x-tenant-id")),
        ("x-facetheory-tenant", "acme", Some("x-facetheory-tenant")),
        ("x-tenant-id", " ", None),
        ("accept", "*/*", None),
    ] {
        let stage = Stage::new();
        stage.script_lookup([missing(), fresh("kept")]);
        let head = pb::SidecarHead { content_type: "application/json".into(), size_bytes: 0 };
        let parts = vec![Reply::Sidecar(Part::Head(head))];
        stage.mock.script("serve_sidecar", [Step::Messages(parts, None)]);
        let service = IsrLayer::new(stage.runtime.clone(), of_tenant).layer(site(change));
        let told = Vec::from_iter(told);
        let of_page = [vec!["accept-encoding"], told.clone()].concat();
        let sidecar = "/p?__facetheory_isr_hydration=token";
        for (uri, expected) in [("/p", of_page), ("/p", told.clone()), (sidecar, told)] {
            let request = Request::get(uri).header(name, value).body(Full::default()).unwrap();
            let response = service.clone().oneshot(request).await.unwrap();
            assert!(!response.headers()["cache-control"].to_str().unwrap().contains("no-store"), "{uri}");
            let vary: Vec<_> = response.headers().get_all("vary").iter().collect();
            assert_eq!(vary, expected, "{uri} with {name}: {value}");
        }
    }
}

/// What the service behind is shown of a request for `/p/1`: its URI, its cookies and an API key.
async fn shown(route: fn(&Parts) -> EntryRef, query: &str) -> String {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let site = tower::service_fn(|request: Request<Body>| async move {
        let header = |name| request.headers().get(name).map_or("none", |value| value.to_str().unwrap());
        let shown = format!("{} {} {}", request.uri(), header("cookie"), header("x-api-key"));
        Ok::<_, Infallible>(Response::new(Full::from(shown)))
    });
    let pages = move |parts: &Parts| Some((route(parts), Policy::default()));
    let request = Request::get(format!("https://example.com/p/1{query}"));
    let request = request.header("cookie", "session=a; lang=de").header("x-api-key", "xyzzy");
    let service = IsrLayer::new(stage.runtime.clone(), pages).layer(site);
    let response = service.oneshot(request.body(Full::default()).unwrap()).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let mock::Message::Commit(commit) = &stage.mock.arrived("commit")[0].message else { unreachable!() };
    let html = commit.html.as_ref().and_then(|html| html.source.clone());
    assert_eq!(html, Some(pb::body_source::Source::Inline(body.clone())), "everybody is served the same");
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_the_entry_does_not_depend_on_is_hidden_from_the_render() {
    use leasehold_client::PageRequest;
    let by_pattern = |_: &Parts| EntryRef::request(PageRequest::new("/p/{id}").param("id", "1"));
    assert_eq!(shown(by_pattern, "?utm=mallory").await, "https://example.com/p/1 none none");
    let by_page = |_: &Parts| EntryRef::request(PageRequest::new("/p/1").query("page", ["2"]));
    assert_eq!(shown(by_page, "?utm=mallory&page=2").await, "https://example.com/p/1?page=2 none none");
    let of_language = |_: &Parts| {
        EntryRef::request(PageRequest::new("/p/1").cookie("lang", "de").header("X-Api-Key", ["xyzzy"]))
    };
    assert_eq!(shown(of_language, "").await, "https://example.com/p/1 lang=de xyzzy");

    let all = |parts: &Parts| EntryRef::request(page_request(&parts.uri, &parts.headers));
    // However it was spelled.
    for query in ["?b=%C3%BC+y&a=2&a=1", "?a=%32&b=%c3%bc%20y&a=1"] {
        let expected = "https://example.com/p/1?a=2&a=1&b=%C3%BC+y session=a; lang=de xyzzy";
        assert_eq!(shown(all, query).await, expected);
    }
    let by_key = |_: &Parts| EntryRef::key("k");
    let expected = "https://example.com/p/1?utm=mallory session=a; lang=de xyzzy";
    assert_eq!(shown(by_key, "?utm=mallory").await, expected, "what the key was made of is not known");
}

#[tokio::test(start_paused = true)]
async fn a_page_is_kept_where_all_that_it_varies_by_tells_pages_apart() {
    for (vary, commits) in [
        ("accept-encoding", 1),
        ("Accept-Encoding, Cookie,, authorization", 1),
        ("x-tenant-id", 0),
        ("accept-language", 0),
        ("cookie, user-agent", 0),
        ("*", 0),
    ] {
        let stage = Stage::new();
        stage.script_lookup([missing()]);
        let service = tower::service_fn(move |_: Request<Body>| async move {
            let response = Response::builder().header("vary", "cookie").header("vary", vary);
            Ok::<_, Infallible>(response.body(Body::default()).unwrap())
        });
        let service = IsrLayer::new(stage.runtime.clone(), pages).layer(service);
        assert_eq!(service.oneshot(get("/p")).await.unwrap().status(), 200);
        assert_eq!(stage.mock.count("commit"), commits, "{vary}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirection_to_another_spelling_of_the_same_page_is_not_kept() {
    for (asked, location, commits) in [
        ("/p/", "/p", 0),
        ("/p", "/p/", 0),
        ("/p", "https://example.com/p/", 0),
        ("/p", "//elsewhere.example/p", 0),
        ("/p", "/q", 1),
    ] {
        let stage = Stage::new();
        stage.script_lookup([missing()]);
        let service = tower::service_fn(move |_: Request<Body>| async move {
            let response = Response::builder().status(308).header("location", location);
            Ok::<_, Infallible>(response.body(Body::default()).unwrap())
        });
        let service = IsrLayer::new(stage.runtime.clone(), pages).layer(service);
        assert_eq!(service.oneshot(get(asked)).await.unwrap().status(), 308);
        assert_eq!(stage.mock.count("commit"), commits, "{asked} to {location}");
    }
}

#[tokio::test(start_paused = true)]
async fn lengths_are_those_of_the_page_where_its_body_is_left_out() {
    use axum::{Router, routing::get as routed};
    let stage = Stage::new();
    stage.script_lookup([fresh("kept"), fresh("kept")]);
    let router = Router::new()
        .fallback(routed(async || "rendered"))
        .layer(IsrLayer::new(stage.runtime.clone(), pages));
    let head = Request::head("/p").body(axum::body::Body::empty()).unwrap();
    let known = Request::get("/p").header("if-none-match", "\"v5\"").body(axum::body::Body::empty()).unwrap();
    for (request, status) in [(head, 200), (known, 304)] {
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-length"], "4");
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_named_is_for_the_service_behind() {
    let stage = Stage::new();
    stage.mock.script("lookup", [Step::Fail(mock::invalid("entry.path"))]);
    let long = format!("/p/{}", "x".repeat(3000));
    let (response, body) = ask(&stage, |_, _| {}, get(&long)).await;
    assert_eq!((response.status().as_u16(), body), (200, format!("GET {long}")));
    assert_eq!(response.headers()["x-isr-state"], "bypass");
    assert_eq!(response.headers()["cache-status"], "leasehold; fwd=bypass; detail=unnameable");
    assert_eq!(response.headers()["cache-control"], "no-store");
}
