//! A table that FaceTheory keeps through TableTheory, and that a coordinator takes over page by page.

use crate::*;
use bytes::Bytes;
use leasehold_aws::{AwsSettings, Layout};
use leasehold_core::{object::ObjectName, page::Digest};
use leasehold_service::time::{Clock as _, SystemClock};
use leasehold_store::port::ObjectMeta;
use serde_json::json;
use sha2::Digest as _;
use v1::lookup_response::Outcome as Looked;

const KEY: &str = "default::/about?";

const HTML: Bytes = Bytes::from_static(b"<p>by FaceTheory");

fn settings() -> AwsSettings {
    AwsSettings { layout: Layout::table_theory(), ..Doubles::settings() }
}

/// As FaceTheory writes a page through TableTheory: an object with such metadata, and a row that names it. Answers when it was
/// generated, in epoch seconds.
async fn facetheory_renders(world: &World, attributes: &[(&str, &str)]) -> u64 {
    facetheory_renders_as(world, "isr/about.html", attributes).await
}

async fn facetheory_renders_as(world: &World, name: &str, attributes: &[(&str, &str)]) -> u64 {
    let name = ObjectName::parse(name).unwrap();
    let attributes =
        attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let meta = ObjectMeta { content_type: "text/html; charset=utf-8".to_owned(), attributes };
    let digest = Digest(sha2::Sha256::digest(&HTML).into());
    let stores = world.0.connect(settings()).stores();
    stores.objects.put(&name, HTML, digest, &meta).await.unwrap();
    let generated_at = SystemClock::start().now().wall.as_secs();
    let item = json!({
        "pk": { "S": format!("CACHE#{KEY}") },
        "sk": { "S": "META" },
        "s3_key": { "S": name.as_str() },
        "generated_at": { "N": generated_at.to_string() },
        "revalidate_seconds": { "N": "60" },
        "etag": { "S": "\"e\"" },
    });
    world.0.dynamodb.call("PutItem", &json!({ "TableName": settings().table, "Item": item }));
    generated_at
}

#[tokio::test]
async fn the_response_that_facetheory_cached_is_restored_from_its_object() {
    let world = World::new().await;
    let node = world.start_on(settings(), |_| {}).await;
    facetheory_renders(
        &world,
        &[
            ("facetheory-status", "404"),
            ("facetheory-content-type", "text/plain"),
            ("facetheory-content-security-policy", "default-src 'none'"),
        ],
    )
    .await;
    for body in [v1::BodyDelivery::Inline, v1::BodyDelivery::Unspecified] {
        let Looked::Fresh(fresh) = node.lookup_with(KEY, body).await else {
            panic!("it was generated just now")
        };
        let metadata = fresh.page.unwrap().metadata.unwrap();
        assert_eq!((metadata.status, metadata.content_type.as_str()), (404, "text/plain"), "{body:?}");
        let csp = v1::NameValue {
            name: "content-security-policy".to_owned(),
            value: "default-src 'none'".to_owned(),
        };
        assert_eq!(metadata.headers, [csp], "{body:?}");
        assert_eq!(metadata.etag, "\"e\"");
    }
}

#[tokio::test]
async fn an_error_page_that_facetheory_cached_is_rendered_again() {
    let world = World::new().await;
    let node = world.start_on(settings(), |_| {}).await;
    let generated_at = facetheory_renders(&world, &[("facetheory-status", "503")]).await;
    let Looked::Missing(missing) = node.lookup(KEY).await else { panic!("an error is no page") };
    assert_eq!(missing.reason(), v1::MissingReason::BodyGone);
    let generation = node.render(KEY, "by us").await;
    assert!(generation > generated_at);
    // Expired at once, as these renders are.
    let Looked::Stale(stale) = node.lookup(KEY).await else { panic!("there is a page now") };
    assert_eq!(stale.page.unwrap().generation, generation);
}

#[tokio::test]
async fn a_page_of_facetheory_is_served_and_regenerated_and_read_by_it_again() {
    let world = World::new().await;
    let settings = settings();
    let stores = world.0.connect(settings.clone()).stores();
    let generated_at = facetheory_renders(&world, &[]).await;

    let node = world.start_on(settings, |_| {}).await;
    let Looked::Fresh(fresh) = node.lookup(KEY).await else { panic!("it was generated just now") };
    let page = fresh.page.unwrap();
    assert_eq!(page.body, Some(v1::page::Body::Inline(HTML)));
    assert_eq!((page.generation, page.size_bytes), (generated_at, 0));
    assert!(page.digest.is_empty(), "not known");
    assert_eq!(page.metadata.unwrap().etag, "\"e\"");

    let scope = v1::invalidation_scope::Scope::Key(KEY.to_owned());
    let request = v1::InvalidateRequest {
        request_id: request_id(),
        scopes: vec![v1::InvalidationScope { tenant: String::new(), scope: Some(scope) }],
        ..Default::default()
    };
    node.coordinator.client().invalidate(request).await.unwrap();
    let generation = node.render(KEY, "by us").await;
    assert!(generation > generated_at);
    let key = json!({ "pk": { "S": format!("CACHE#{KEY}") }, "sk": { "S": "META" } });
    let request = json!({ "TableName": "leasehold-test", "Key": key, "ConsistentRead": true });
    let row = world.0.dynamodb.call("GetItem", &request)["Item"].clone();
    let object = ObjectName::parse(row["s3_key"]["S"].as_str().unwrap()).unwrap();
    assert_eq!(stores.objects.get(&object).await.unwrap().unwrap().body, "by us");
    assert_eq!(row["revalidate_seconds"], json!({ "N": "0" }));
}

/// What FaceTheory makes of a page: the row under TableTheory's attributes, the rest from the object that it names.
#[derive(Debug, PartialEq)]
struct Restored {
    status: Option<String>,
    content_type: Option<String>,
    content_security_policy: Option<String>,
    revalidate_seconds: String,
    etag: String,
    body: Bytes,
}

/// The object through the AWS SDK and nothing of ours, with the key prefix that its store was told.
async fn facetheory_reads(doubles: &Doubles, key_prefix: &str) -> Restored {
    let request = json!({
        "TableName": "leasehold-test",
        "Key": { "pk": { "S": format!("CACHE#{KEY}") }, "sk": { "S": "META" } },
        "ProjectionExpression": "s3_key, generated_at, revalidate_seconds, etag",
        "ConsistentRead": true,
    });
    let row = doubles.dynamodb.call("GetItem", &request)["Item"].clone();
    let text = |attribute: &str, kind: &str| row[attribute][kind].as_str().unwrap().to_owned();
    let object = format!("{key_prefix}{}", text("s3_key", "S"));
    let object = doubles.s3_client().get_object().bucket("leasehold-test").key(object).send().await.unwrap();
    let mut metadata = object.metadata.unwrap_or_default();
    Restored {
        status: metadata.remove("facetheory-status"),
        content_type: metadata.remove("facetheory-content-type"),
        content_security_policy: metadata.remove("facetheory-content-security-policy"),
        revalidate_seconds: text("revalidate_seconds", "N"),
        etag: text("etag", "S"),
        body: object.body.collect().await.unwrap().into_bytes(),
    }
}

#[tokio::test]
async fn a_page_of_ours_is_restored_by_facetheory_with_status_content_type_and_policy() {
    for (layout, key_prefix) in [
        (Layout::table_theory(), ""),
        (Layout { s3_key_prefix: "isr".to_owned(), ..Layout::table_theory() }, "isr/"),
    ] {
        let world = World::new().await;
        let node = world.start_on(AwsSettings { layout, ..Doubles::settings() }, |_| {}).await;
        let header =
            |name: &str, value: &str| v1::NameValue { name: name.to_owned(), value: value.to_owned() };
        let page = v1::PageMetadata {
            status: 404,
            content_type: "text/html; charset=iso-8859-1".to_owned(),
            headers: vec![
                header("x-robots-tag", "noindex"),
                header("content-security-policy", "default-src 'self'; script-src 'none'"),
            ],
            etag: "\"ours\"".to_owned(),
            ..expired()
        };
        let strict = Restored {
            status: Some("404".to_owned()),
            content_type: Some("text/html; charset=iso-8859-1".to_owned()),
            content_security_policy: Some("default-src 'self'; script-src 'none'".to_owned()),
            revalidate_seconds: "0".to_owned(),
            etag: "\"ours\"".to_owned(),
            body: Bytes::from_static(b"<p>nothing here"),
        };
        let commit = async |page| {
            let (lease, _) = node.coordinator.grant(entry(KEY)).await;
            node.coordinator.commit(entry(KEY), lease, "<p>nothing here", page).await.unwrap();
            facetheory_reads(&world.0, key_prefix).await
        };
        assert_eq!(commit(page.clone()).await, strict);
        // The same bytes, which are not the same response.
        let open = v1::PageMetadata { status: 200, headers: Vec::new(), ..page };
        let expected = Restored { status: Some("200".to_owned()), content_security_policy: None, ..strict };
        assert_eq!(commit(open).await, expected);
    }
}

/// FaceTheory says neither tags nor path: in doubt, its page had every one of them.
#[tokio::test]
async fn a_page_of_facetheory_is_reached_by_the_invalidation_of_a_prefix_of_its_path() {
    let world = World::new().await;
    let node = world.start_on(settings(), |_| {}).await;
    facetheory_renders(&world, &[]).await;
    let scope = v1::invalidation_scope::Scope::PathPrefix("/about".to_owned());
    let request = v1::InvalidateRequest {
        request_id: request_id(),
        scopes: vec![v1::InvalidationScope { tenant: String::new(), scope: Some(scope) }],
        ..Default::default()
    };
    node.coordinator.client().invalidate(request).await.unwrap();
    let looked = node.lookup(KEY).await;
    assert!(!matches!(looked, Looked::Fresh(_)), "{looked:?}");
}

/// FaceTheory's page names its sidecar in its HTML. As long as the page is served, the sidecar is.
#[tokio::test]
async fn a_page_of_facetheory_is_served_with_its_sidecar() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let world = World::new().await;
    let node = world.start_on(settings(), |_| {}).await;
    let digits = &hex::encode(sha2::Sha256::digest(KEY))[..24];
    let stem = format!("isr/{digits}/1800000000000-6f1c2d9e-7a41-4c0b-9d55-0a2b3c4d5e6f");
    let sidecar = ObjectName::parse(&format!("{stem}.hydration.json")).unwrap();
    facetheory_renders_as(&world, &format!("{stem}.html"), &[]).await;
    world.0.s3.put_plainly(&settings().bucket, &sidecar, "{}");
    assert!(matches!(node.lookup(KEY).await, Looked::Fresh(_)));
    let request = v1::ServeSidecarRequest {
        entry: Some(entry(KEY)),
        sidecar_token: URL_SAFE_NO_PAD.encode(sidecar.as_str()),
        ..Default::default()
    };
    let served = node.coordinator.client().serve_sidecar(request).await;
    assert!(served.is_ok(), "{served:?}");
}
