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
    let name = ObjectName::parse("isr/about.html").unwrap();
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
