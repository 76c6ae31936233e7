//! A table that FaceTheory keeps through TableTheory, and that a coordinator takes over page by page.

use crate::*;
use leasehold_aws::{AwsSettings, Layout};
use leasehold_core::{object::ObjectName, page::Digest};
use leasehold_service::time::{Clock as _, SystemClock};
use leasehold_store::port::ObjectMeta;
use serde_json::json;
use sha2::Digest as _;
use v1::lookup_response::Outcome as Looked;

const KEY: &str = "default::/about?";

#[tokio::test]
async fn a_page_of_facetheory_is_served_and_regenerated_and_read_by_it_again() {
    let world = World::new().await;
    let settings = AwsSettings { layout: Layout::table_theory(), ..Doubles::settings() };
    let name = ObjectName::parse("isr/about.html").unwrap();
    let meta = ObjectMeta { content_type: "text/html; charset=utf-8".to_owned(), attributes: Vec::new() };
    let html = bytes::Bytes::from_static(b"<p>by FaceTheory");
    let digest = Digest(sha2::Sha256::digest(&html).into());
    let stores = world.0.connect(settings.clone()).stores();
    stores.objects.put(&name, html.clone(), digest, &meta).await.unwrap();
    let generated_at = SystemClock::start().now().wall.as_secs();
    let item = json!({
        "pk": { "S": format!("CACHE#{KEY}") },
        "sk": { "S": "META" },
        "s3_key": { "S": name.as_str() },
        "generated_at": { "N": generated_at.to_string() },
        "revalidate_seconds": { "N": "60" },
        "etag": { "S": "\"e\"" },
    });
    world.0.dynamodb.call("PutItem", &json!({ "TableName": settings.table, "Item": item }));

    let node = world.start_on(settings, |_| {}).await;
    let Looked::Fresh(fresh) = node.lookup(KEY).await else { panic!("it was generated just now") };
    let page = fresh.page.unwrap();
    assert_eq!(page.body, Some(v1::page::Body::Inline(html)));
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
