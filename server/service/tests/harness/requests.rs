//! What a worker asks, with what it usually says already filled in.

use super::{Coordinator, Took, seen, soon, views::Seen, wire};
use bytes::Bytes;
use leasehold_core::identity::{EntryId, EntryKey, TenantId};
use leasehold_proto::v1::{
    self, acquire_lease_response::Outcome as Acquired, commit_pointer_response::Outcome as Committed,
    invalidation_scope::Scope,
};
use sha2::{Digest as _, Sha256};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio_stream::StreamExt as _;
use tonic::Status;

/// The tenant of most entries.
pub(crate) const TENANT: &str = "acme";

/// 16 bytes that no other call has.
pub(crate) fn request_id() -> Bytes {
    static LAST: AtomicU64 = AtomicU64::new(1);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    Bytes::copy_from_slice(&(u128::from(number) << 64 | 0x5eed).to_be_bytes())
}

/// An entry of the usual tenant, by a ready key.
pub(crate) fn entry(key: &str) -> v1::EntryRef {
    entry_of(TENANT, "", key)
}

/// The identity under which the store keeps the [`entry`] of this key.
pub(crate) fn id(key: &str) -> EntryId {
    EntryId {
        tenant: TenantId::parse(TENANT).expect("a tenant"),
        deployment: None,
        key: EntryKey::parse(key).expect("a key"),
    }
}

pub(crate) fn entry_of(tenant: &str, deployment: &str, key: &str) -> v1::EntryRef {
    v1::EntryRef {
        tenant: tenant.to_owned(),
        deployment: deployment.to_owned(),
        name: Some(v1::entry_ref::Name::Key(key.to_owned())),
        path: String::new(),
    }
}

pub(crate) fn lookup(entry: &v1::EntryRef) -> v1::LookupRequest {
    v1::LookupRequest { entry: Some(entry.clone()), ..Default::default() }
}

pub(crate) fn lookup_with_body(entry: &v1::EntryRef) -> v1::LookupRequest {
    v1::LookupRequest { body: v1::BodyDelivery::Inline.into(), ..lookup(entry) }
}

pub(crate) fn lookup_strictly(entry: &v1::EntryRef) -> v1::LookupRequest {
    v1::LookupRequest { consistency: v1::Consistency::Strict.into(), ..lookup(entry) }
}

pub(crate) fn lookup_as_of(entry: &v1::EntryRef, token: &str) -> v1::LookupRequest {
    v1::LookupRequest { consistency_token: token.to_owned(), ..lookup(entry) }
}

pub(crate) fn acquire(entry: &v1::EntryRef) -> v1::AcquireLeaseRequest {
    v1::AcquireLeaseRequest {
        entry: Some(entry.clone()),
        request_id: request_id(),
        owner: "worker".to_owned(),
        ..Default::default()
    }
}

pub(crate) fn acquire_waiting(entry: &v1::EntryRef, wait: Duration) -> v1::AcquireLeaseRequest {
    v1::AcquireLeaseRequest { wait: Some(wire(wait)), ..acquire(entry) }
}

pub(crate) fn scope(scope: Scope) -> v1::InvalidationScope {
    scope_of(TENANT, scope)
}

pub(crate) fn scope_of(tenant: &str, scope: Scope) -> v1::InvalidationScope {
    v1::InvalidationScope { tenant: tenant.to_owned(), scope: Some(scope) }
}

pub(crate) fn tag(tag: &str) -> v1::InvalidationScope {
    scope(Scope::Tag(tag.to_owned()))
}

pub(crate) fn key_scope(key: &str) -> v1::InvalidationScope {
    scope(Scope::Key(key.to_owned()))
}

pub(crate) fn invalidation(scopes: impl Into<Vec<v1::InvalidationScope>>) -> v1::InvalidateRequest {
    v1::InvalidateRequest {
        request_id: request_id(),
        scopes: scopes.into(),
        depth: v1::InvalidationDepth::Soft.into(),
    }
}

pub(crate) fn purge(scopes: impl Into<Vec<v1::InvalidationScope>>) -> v1::InvalidateRequest {
    v1::InvalidateRequest { depth: v1::InvalidationDepth::Hard.into(), ..invalidation(scopes) }
}

pub(crate) fn inline(body: impl Into<Bytes>) -> Option<v1::BodySource> {
    Some(v1::BodySource { source: Some(v1::body_source::Source::Inline(body.into())), ..Default::default() })
}

pub(crate) fn stored(digest: impl Into<Bytes>, size_bytes: u64) -> Option<v1::BodySource> {
    let stored = v1::StoredBody { digest: digest.into(), size_bytes };
    Some(v1::BodySource { source: Some(v1::body_source::Source::Stored(stored)), ..Default::default() })
}

pub(crate) fn sha256(body: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(body))
}

pub(crate) fn tags(tags: &[&str]) -> Vec<String> {
    tags.iter().map(|&tag| tag.to_owned()).collect()
}

pub(crate) fn tagged(names: &[&str]) -> v1::PageMetadata {
    v1::PageMetadata { tags: tags(names), ..Default::default() }
}

/// A lease that was granted: what its holder says from then on.
#[derive(Clone, Debug)]
pub(crate) struct Render {
    pub(crate) entry: v1::EntryRef,
    pub(crate) lease: v1::LeaseRef,
    pub(crate) grant: v1::LeaseGrant,
}

impl Render {
    pub(crate) fn of(request: &v1::AcquireLeaseRequest, grant: v1::LeaseGrant) -> Self {
        let lease = v1::LeaseRef { request_id: request.request_id.clone(), generation: grant.generation };
        Self { entry: request.entry.clone().expect("an entry"), lease, grant }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.grant.generation
    }

    /// A page that is fresh until invalidated.
    pub(crate) fn page(&self, html: &str) -> v1::CommitPointerRequest {
        self.page_with(html, v1::PageMetadata::default())
    }

    pub(crate) fn page_with(&self, html: &str, metadata: v1::PageMetadata) -> v1::CommitPointerRequest {
        v1::CommitPointerRequest {
            entry: Some(self.entry.clone()),
            lease: Some(self.lease.clone()),
            html: inline(html.to_owned()),
            sidecar: None,
            metadata: Some(metadata),
        }
    }

    pub(crate) fn renewal(&self, ttl: Duration) -> v1::RenewLeaseRequest {
        v1::RenewLeaseRequest {
            entry: Some(self.entry.clone()),
            lease: Some(self.lease.clone()),
            ttl: Some(wire(ttl)),
        }
    }

    pub(crate) fn release(&self) -> v1::ReleaseLeaseRequest {
        v1::ReleaseLeaseRequest {
            entry: Some(self.entry.clone()),
            lease: Some(self.lease.clone()),
            failure: None,
        }
    }

    pub(crate) fn failure(&self, why: &str) -> v1::ReleaseLeaseRequest {
        v1::ReleaseLeaseRequest { failure: Some(why.to_owned()), ..self.release() }
    }
}

impl Coordinator {
    pub(crate) async fn lookup(&self, request: v1::LookupRequest) -> Result<v1::LookupResponse, Status> {
        soon(self.client().lookup(request)).await.map(tonic::Response::into_inner)
    }

    /// What a plain lookup says, in short.
    pub(crate) async fn seen(&self, entry: &v1::EntryRef) -> Seen {
        seen(&self.lookup(lookup(entry)).await.expect("a lookup"))
    }

    pub(crate) async fn seen_by(&self, request: v1::LookupRequest) -> Seen {
        seen(&self.lookup(request).await.expect("a lookup"))
    }

    pub(crate) async fn acquire(&self, request: v1::AcquireLeaseRequest) -> Result<Acquired, Status> {
        let response = soon(self.client().acquire_lease(request)).await?;
        Ok(response.into_inner().outcome.expect("an outcome"))
    }

    /// What an acquire comes to, in short.
    pub(crate) async fn took(&self, request: v1::AcquireLeaseRequest) -> Took {
        Took::of(&self.acquire(request).await.expect("an acquire"))
    }

    /// A lease that must be granted.
    pub(crate) async fn grant(&self, entry: &v1::EntryRef) -> Render {
        self.grant_to(acquire(entry)).await
    }

    pub(crate) async fn grant_to(&self, request: v1::AcquireLeaseRequest) -> Render {
        match self.acquire(request.clone()).await.expect("an acquire") {
            Acquired::Granted(grant) => Render::of(&request, grant),
            other => panic!("not granted: {other:?}"),
        }
    }

    pub(crate) async fn commit(&self, request: v1::CommitPointerRequest) -> Result<Committed, Status> {
        let response = soon(self.client().commit_pointer(request)).await?;
        Ok(response.into_inner().outcome.expect("an outcome"))
    }

    /// A commit that must be applied, and its page fresh.
    pub(crate) async fn commit_fresh(&self, request: v1::CommitPointerRequest) -> v1::CommitApplied {
        match self.commit(request).await.expect("a commit") {
            Committed::Committed(applied) => applied,
            other => panic!("not committed: {other:?}"),
        }
    }

    /// Renders and commits a page that is fresh until invalidated.
    pub(crate) async fn publish(&self, entry: &v1::EntryRef, html: &str) -> u64 {
        self.publish_with(entry, html, v1::PageMetadata::default()).await
    }

    pub(crate) async fn publish_with(
        &self,
        entry: &v1::EntryRef,
        html: &str,
        metadata: v1::PageMetadata,
    ) -> u64 {
        let render = self.grant(entry).await;
        self.commit_fresh(render.page_with(html, metadata)).await;
        render.generation()
    }

    pub(crate) async fn renew(
        &self,
        request: v1::RenewLeaseRequest,
    ) -> Result<v1::renew_lease_response::Outcome, Status> {
        let response = soon(self.client().renew_lease(request)).await?;
        Ok(response.into_inner().outcome.expect("an outcome"))
    }

    pub(crate) async fn release(
        &self,
        request: v1::ReleaseLeaseRequest,
    ) -> Result<v1::release_lease_response::Outcome, Status> {
        let response = soon(self.client().release_lease(request)).await?;
        Ok(response.into_inner().outcome.expect("an outcome"))
    }

    /// The consistency token.
    pub(crate) async fn invalidate(&self, request: v1::InvalidateRequest) -> Result<String, Status> {
        let response = soon(self.client().invalidate(request)).await?;
        Ok(response.into_inner().consistency_token)
    }

    pub(crate) async fn upload(
        &self,
        parts: Vec<v1::UploadBodyRequest>,
    ) -> Result<v1::upload_body_response::Outcome, Status> {
        let response = soon(self.client().upload_body(tokio_stream::iter(parts))).await?;
        Ok(response.into_inner().outcome.expect("an outcome"))
    }

    /// A sidecar: its head and its bytes.
    pub(crate) async fn sidecar(
        &self,
        entry: &v1::EntryRef,
        token: &str,
    ) -> Result<(v1::SidecarHead, Vec<u8>), Status> {
        self.sidecar_by(serve_sidecar(entry, token)).await
    }

    pub(crate) async fn sidecar_by(
        &self,
        request: v1::ServeSidecarRequest,
    ) -> Result<(v1::SidecarHead, Vec<u8>), Status> {
        use v1::serve_sidecar_response::Part;
        let mut parts = soon(self.client().serve_sidecar(request)).await?.into_inner();
        let (mut head, mut body) = (None, Vec::new());
        while let Some(part) = soon(parts.next()).await {
            match part?.part.expect("a part") {
                Part::Head(first) => assert!(head.replace(first).is_none(), "the head came twice"),
                Part::Chunk(chunk) => body.extend_from_slice(&chunk),
            }
        }
        Ok((head.expect("a head"), body))
    }

    /// A page: its head and its bytes.
    pub(crate) async fn page(
        &self,
        request: v1::ServePageRequest,
    ) -> Result<(v1::serve_page_head::Page, Vec<u8>), Status> {
        use v1::serve_page_response::Part;
        let mut parts = soon(self.client().serve_page(request)).await?.into_inner();
        let (mut head, mut body) = (None, Vec::new());
        while let Some(part) = soon(parts.next()).await {
            match part?.part.expect("a part") {
                Part::Head(first) => assert!(head.replace(first).is_none(), "the head came twice"),
                Part::Chunk(chunk) => {
                    assert!(head.is_some(), "a chunk came before the head");
                    body.extend_from_slice(&chunk);
                }
            }
        }
        Ok((head.and_then(|head| head.page).expect("a head"), body))
    }
}

pub(crate) fn serve_sidecar(entry: &v1::EntryRef, token: &str) -> v1::ServeSidecarRequest {
    v1::ServeSidecarRequest {
        entry: Some(entry.clone()),
        sidecar_token: token.to_owned(),
        ..Default::default()
    }
}

pub(crate) fn serve_object(tenant: &str, name: &str) -> v1::ServeObjectRequest {
    v1::ServeObjectRequest { tenant: tenant.to_owned(), object_name: name.to_owned(), ..Default::default() }
}

pub(crate) fn serve(entry: &v1::EntryRef) -> v1::ServePageRequest {
    v1::ServePageRequest { entry: Some(entry.clone()), ..Default::default() }
}

/// The parts of an upload, in pieces of some bytes.
pub(crate) fn upload_parts(render: &Render, kind: v1::BodyKind, body: &[u8]) -> Vec<v1::UploadBodyRequest> {
    use v1::upload_body_request::Part;
    let head = v1::UploadHead {
        entry: Some(render.entry.clone()),
        lease: Some(render.lease.clone()),
        kind: kind.into(),
        ..Default::default()
    };
    let chunks = body.chunks(1 << 20).map(|chunk| Part::Chunk(Bytes::copy_from_slice(chunk)));
    std::iter::once(Part::Head(head))
        .chain(chunks)
        .map(|part| v1::UploadBodyRequest { part: Some(part) })
        .collect()
}
