//! Bodies that their worker named, and that are read back by these names.

mod deletion;
mod names;
mod purges;

use crate::harness::*;
use leasehold_core::{
    identity::TenantId,
    named::GivenName,
    object::{ObjectName, ObjectPrefix},
};
use leasehold_service::settings::Settings;
use leasehold_store::port::ObjectMeta;
use v1::{
    MissingReason, commit_pointer_response::Outcome as Committed, invalidation_scope::Scope,
    upload_body_response::Outcome as Uploaded,
};

const HTML: &str = "isr/0123456789abcdef01234567/1767225600123-a.html";
const SIDECAR: &str = "isr/0123456789abcdef01234567/1767225600123-a.hydration.json";

fn named(source: Option<v1::BodySource>, name: &str) -> Option<v1::BodySource> {
    source.map(|source| v1::BodySource { object_name: name.to_owned(), ..source })
}

/// A page and its sidecar, called by one stem.
fn page_as(render: &Render, stem: &str, html: &str, metadata: v1::PageMetadata) -> v1::CommitPointerRequest {
    v1::CommitPointerRequest {
        html: named(inline(html.to_owned()), &format!("{stem}.html")),
        sidecar: named(inline(sidecar_of(html)), &format!("{stem}.hydration.json")),
        ..render.page_with(html, metadata)
    }
}

fn sidecar_of(html: &str) -> String {
    format!("{{{html}}}")
}

/// Where it is stored.
fn stored_as(name: &str) -> ObjectName {
    let tenant = TenantId::parse(TENANT).expect("a tenant");
    GivenName::of_any_kind(name).expect("a name").stored(&ObjectPrefix::default(), &tenant)
}

fn name_upload(parts: &mut [v1::UploadBodyRequest], name: &str) {
    let Some(v1::upload_body_request::Part::Head(head)) = &mut parts[0].part else { panic!("no head") };
    name.clone_into(&mut head.object_name);
}

impl Coordinator {
    async fn object_of(&self, tenant: &str, name: &str) -> Result<(v1::ObjectHead, Vec<u8>), Status> {
        self.object_by(serve_object(tenant, name)).await
    }

    async fn object_by(&self, request: v1::ServeObjectRequest) -> Result<(v1::ObjectHead, Vec<u8>), Status> {
        use tokio_stream::StreamExt as _;
        use v1::serve_object_response::Part;
        let mut parts = soon(self.client().serve_object(request)).await?.into_inner();
        let (mut head, mut body) = (None, Vec::new());
        while let Some(part) = soon(parts.next()).await {
            match part?.part.expect("a part") {
                Part::Head(first) => assert!(head.replace(first).is_none(), "the head came twice"),
                Part::Chunk(chunk) => body.extend_from_slice(&chunk),
            }
        }
        Ok((head.expect("a head"), body))
    }

    /// The bytes of an object of the usual tenant; `None` where there is none.
    async fn object(&self, name: &str) -> Option<String> {
        match self.object_of(TENANT, name).await {
            Ok((_, body)) => Some(String::from_utf8(body).expect("text")),
            Err(status) => {
                assert_refused(Err::<(), _>(status), Code::NotFound, "OBJECT_NOT_FOUND");
                None
            }
        }
    }

    /// What the current page calls its bodies.
    async fn names(&self, entry: &v1::EntryRef) -> (String, String) {
        let response = self.lookup(lookup_strictly(entry)).await.expect("a lookup");
        let page = page_of(&response);
        (page.html_object_name.clone(), page.sidecar_object_name.clone())
    }

    /// Renders and commits a page and its sidecar, called by one stem.
    async fn publish_as(&self, entry: &v1::EntryRef, stem: &str, html: &str, names: &[&str]) -> Render {
        let render = self.grant(entry).await;
        let metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..tagged(names) };
        self.commit_fresh(page_as(&render, stem, html, metadata)).await;
        render
    }
}

impl World {
    /// Whether a body is stored under a name, whether it can be read or not.
    async fn is_stored(&self, name: &str) -> bool {
        self.stores().objects.info(&stored_as(name)).await.unwrap().is_some()
    }
}

impl Render {
    fn upload_as(&self, kind: v1::BodyKind, name: &str) -> Vec<v1::UploadBodyRequest> {
        let mut parts = upload_parts(self, kind, name.as_bytes());
        name_upload(&mut parts, name);
        parts
    }
}
