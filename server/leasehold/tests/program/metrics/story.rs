//! What workers do in the life of a few pages: everything that is counted happens in it, and so often.

use super::Scrape;
use crate::process::{Coordinator, PATIENCE};
use bytes::Bytes;
use leasehold_proto::v1::{
    self, acquire_lease_response::Outcome as Acquired, commit_pointer_response::Outcome as Committed,
    coordinator_service_client::CoordinatorServiceClient, invalidation_scope::Scope,
};
use sha2::{Digest as _, Sha256};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tonic::{Code, transport::Channel};

/// How long the lease of a worker that dies lasts: time enough for another to begin to wait for it.
const SHORT_TTL: Duration = Duration::from_secs(3);
const LONG_WAIT: Duration = Duration::from_secs(60);

/// A worker, and what it works with.
struct Worker {
    client: CoordinatorServiceClient<Channel>,
    admin: String,
}

/// Tells the story to a coordinator that tells two tenants apart, and reads its log by itself only at its start.
pub(super) async fn tell(coordinator: &Coordinator) {
    let channel = Channel::from_shared(coordinator.endpoint.clone()).unwrap().connect().await.unwrap();
    let client = CoordinatorServiceClient::new(channel);
    let mut worker = Worker { client, admin: coordinator.admin().to_owned() };
    worker.renders_a_page_while_another_waits().await;
    worker.is_overtaken_by_invalidations().await;
    worker.is_too_slow().await;
    worker.uploads_ahead().await;
    worker.fails_and_gives_back().await;
    worker.goes_away().await;
    worker.reads_bodies().await;
    worker.purges().await;
    worker.works_for_others_too().await;
}

impl Worker {
    async fn renders_a_page_while_another_waits(&mut self) {
        assert_eq!(self.looks_up("acme", "page").await, "missing");
        let lease = self.grant("page", Duration::from_secs(60)).await;
        let mut other = self.client.clone();
        let waiting = tokio::spawn(async move { other.acquire_lease(acquire("page", LONG_WAIT)).await });
        self.waits(1).await;
        let committed = self.commit(&lease, page("<p>one</p>", &["t"], None)).await;
        assert!(matches!(committed, Committed::Committed(_)), "{committed:?}");
        let ready = waiting.await.unwrap().unwrap().into_inner().outcome.unwrap();
        assert!(matches!(ready, Acquired::Ready(_)), "{ready:?}");
        for _ in 0..3 {
            assert_eq!(self.looks_up("acme", "page").await, "fresh");
        }
        // Over a stream: one that is a hit, one that nobody can answer.
        let lookups = [lookup("acme", "page"), v1::LookupRequest::default()];
        let requests = (1..).zip(lookups).map(|(id, lookup)| v1::LookupStreamRequest {
            id,
            lookup: Some(lookup),
            timeout: None,
        });
        let requests: Vec<_> = requests.collect();
        let mut answers = self.client.lookup_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
        let mut answered = 0;
        while answers.message().await.unwrap().is_some() {
            answered += 1;
        }
        assert_eq!(answered, 2);
    }

    async fn is_overtaken_by_invalidations(&mut self) {
        self.invalidate(Scope::Tag("t".into()), v1::InvalidationDepth::Soft).await;
        assert_eq!(self.looks_up("acme", "page").await, "stale");
        let overtaken = self.grant("page", Duration::from_secs(60)).await;
        self.invalidate(Scope::Key("page".into()), v1::InvalidationDepth::Soft).await;
        let next = self.grant("page", Duration::from_secs(60)).await;
        let fenced = self.commit(&overtaken, page("<p>too late</p>", &[], None)).await;
        assert!(matches!(fenced, Committed::Fenced(_)), "{fenced:?}");
        self.invalidate(Scope::Tag("t".into()), v1::InvalidationDepth::Soft).await;
        let stale = self.commit(&next, page("<p>two</p>", &["t"], None)).await;
        assert!(matches!(stale, Committed::CommittedStale(_)), "{stale:?}");
    }

    async fn is_too_slow(&mut self) {
        let slow = self.grant("page", SHORT_TTL).await;
        let request = acquire("page", LONG_WAIT);
        let faster = self.granted(request).await;
        let expired_at_once = Some(prost_types::Duration::default());
        let committed = self.commit(&faster, page("<p>three</p>", &["t"], expired_at_once)).await;
        assert!(matches!(committed, Committed::Committed(_)), "{committed:?}");
        let superseded = self.commit(&slow, page("<p>slow</p>", &[], None)).await;
        assert!(matches!(superseded, Committed::Superseded(_)), "{superseded:?}");
        assert_eq!(self.looks_up("acme", "page").await, "stale");
    }

    async fn uploads_ahead(&mut self) {
        use v1::{body_source::Source, upload_body_request::Part};
        let lease = self.grant("page", Duration::from_secs(60)).await;
        let html = Bytes::from_static(b"<p>four</p>");
        let head = v1::UploadHead {
            entry: Some(entry("acme", "page")),
            lease: Some(lease.clone()),
            kind: v1::BodyKind::Html.into(),
            content_type: "text/html".into(),
            ..Default::default()
        };
        let parts = [Part::Head(head), Part::Chunk(html.clone())];
        let parts = parts.map(|part| v1::UploadBodyRequest { part: Some(part) });
        self.client.upload_body(tokio_stream::iter(parts)).await.unwrap();
        let digest = Bytes::copy_from_slice(&Sha256::digest(&html));
        let stored = Source::Stored(v1::StoredBody { digest, size_bytes: html.len() as u64 });
        let mut request = page("", &["t"], None);
        request.html = Some(v1::BodySource { source: Some(stored), ..Default::default() });
        let committed = self.commit(&lease, request).await;
        assert!(matches!(committed, Committed::Committed(_)), "{committed:?}");
    }

    async fn fails_and_gives_back(&mut self) {
        use v1::{release_lease_response::Outcome as Released, renew_lease_response::Outcome as Renewed};
        let lease = self.grant("broken", Duration::from_secs(60)).await;
        let ttl = Some(prost_types::Duration { seconds: 90, nanos: 0 });
        let renew =
            v1::RenewLeaseRequest { entry: Some(entry("acme", "broken")), lease: Some(lease.clone()), ttl };
        let renewed = self.client.renew_lease(renew.clone()).await.unwrap().into_inner().outcome.unwrap();
        assert!(matches!(renewed, Renewed::Renewed(_)), "{renewed:?}");
        let release = v1::ReleaseLeaseRequest {
            entry: Some(entry("acme", "broken")),
            lease: Some(lease),
            failure: Some("out of paper".into()),
        };
        self.client.release_lease(release).await.unwrap();
        let lost = self.client.renew_lease(renew).await.unwrap().into_inner().outcome.unwrap();
        assert!(matches!(lost, Renewed::Lost(_)), "{lost:?}");
        let backing_off = self.acquire(acquire("broken", Duration::ZERO)).await;
        assert!(matches!(backing_off, Acquired::BackingOff(_)), "{backing_off:?}");

        let request = acquire("spare", Duration::ZERO);
        let unused = self.granted(request.clone()).await;
        let spare = Some(entry("acme", "spare"));
        let release =
            |lease| v1::ReleaseLeaseRequest { entry: spare.clone(), lease: Some(lease), failure: None };
        self.client.release_lease(release(unused.clone())).await.unwrap();
        let ended = self.acquire(request).await;
        assert!(matches!(ended, Acquired::Ended(_)), "{ended:?}");
        let nobodys = v1::LeaseRef { request_id: request_id(), ..unused };
        let not_held =
            self.client.release_lease(release(nobodys)).await.unwrap().into_inner().outcome.unwrap();
        assert!(matches!(not_held, Released::NotHeld(_)), "{not_held:?}");
    }

    async fn goes_away(&mut self) {
        self.grant("long", Duration::from_secs(300)).await;
        let held = self.acquire(acquire("long", Duration::ZERO)).await;
        assert!(matches!(held, Acquired::Held(_)), "{held:?}");
        let mut other = self.client.clone();
        let waiting = tokio::spawn(async move { other.acquire_lease(acquire("long", LONG_WAIT)).await });
        self.waits(1).await;
        waiting.abort();
        self.waits(0).await;
    }

    async fn reads_bodies(&mut self) {
        let request = v1::ServePageRequest { entry: Some(entry("acme", "page")), ..Default::default() };
        let mut parts = self.client.serve_page(request).await.unwrap().into_inner();
        while parts.message().await.unwrap().is_some() {}
        let request = v1::ServeSidecarRequest {
            entry: Some(entry("acme", "page")),
            sidecar_token: "bm9uZQ".into(),
            ..Default::default()
        };
        assert_eq!(self.client.serve_sidecar(request).await.unwrap_err().code(), Code::NotFound);
        let request = v1::ServeObjectRequest {
            tenant: "acme".into(),
            object_name: "none.html".into(),
            ..Default::default()
        };
        assert_eq!(self.client.serve_object(request).await.unwrap_err().code(), Code::NotFound);
    }

    async fn purges(&mut self) {
        self.invalidate(Scope::Tag("t".into()), v1::InvalidationDepth::Hard).await;
        assert_eq!(self.looks_up("acme", "page").await, "missing");
    }

    async fn works_for_others_too(&mut self) {
        for tenant in ["a \"quoted\" tenant", "of too many", "of too many", "other"] {
            assert_eq!(self.looks_up(tenant, "page").await, "missing");
        }
        let nothing = self.client.lookup(v1::LookupRequest::default()).await.unwrap_err();
        assert_eq!(nothing.code(), Code::InvalidArgument);
    }

    async fn looks_up(&mut self, tenant: &str, key: &str) -> &'static str {
        use v1::lookup_response::Outcome;
        let answer = self.client.lookup(lookup(tenant, key)).await.unwrap().into_inner();
        match answer.outcome.unwrap() {
            Outcome::Fresh(_) => "fresh",
            Outcome::Stale(_) => "stale",
            Outcome::Missing(_) => "missing",
        }
    }

    async fn acquire(&mut self, request: v1::AcquireLeaseRequest) -> Acquired {
        self.client.acquire_lease(request).await.unwrap().into_inner().outcome.unwrap()
    }

    async fn granted(&mut self, request: v1::AcquireLeaseRequest) -> v1::LeaseRef {
        let request_id = request.request_id.clone();
        match self.acquire(request).await {
            Acquired::Granted(grant) => v1::LeaseRef { request_id, generation: grant.generation },
            other => panic!("not granted: {other:?}"),
        }
    }

    async fn grant(&mut self, key: &str, ttl: Duration) -> v1::LeaseRef {
        let ttl = Some(wire(ttl));
        self.granted(v1::AcquireLeaseRequest { ttl, ..acquire(key, Duration::ZERO) }).await
    }

    async fn commit(&mut self, lease: &v1::LeaseRef, mut page: v1::CommitPointerRequest) -> Committed {
        page.lease = Some(lease.clone());
        self.client.commit_pointer(page).await.unwrap().into_inner().outcome.unwrap()
    }

    async fn invalidate(&mut self, scope: Scope, depth: v1::InvalidationDepth) {
        let scope = v1::InvalidationScope { tenant: "acme".into(), scope: Some(scope) };
        let request =
            v1::InvalidateRequest { request_id: request_id(), scopes: vec![scope], depth: depth.into() };
        self.client.invalidate(request).await.unwrap();
    }

    /// Until so many calls wait.
    async fn waits(&self, calls: u64) {
        let asking = async {
            loop {
                let url = self.admin.clone();
                let scrape = tokio::task::spawn_blocking(move || Scrape::of(&url)).await.unwrap();
                if scrape.value("leasehold_places_taken{what=\"waiters\"}") == calls as f64 {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("nobody begins, or ends, to wait");
    }
}

fn request_id() -> Bytes {
    static LAST: AtomicU64 = AtomicU64::new(1);
    let number = u128::from(LAST.fetch_add(1, Ordering::Relaxed));
    Bytes::copy_from_slice(&(number << 64 | 0x5eed).to_be_bytes())
}

fn entry(tenant: &str, key: &str) -> v1::EntryRef {
    v1::EntryRef {
        tenant: tenant.to_owned(),
        name: Some(v1::entry_ref::Name::Key(key.to_owned())),
        ..Default::default()
    }
}

fn lookup(tenant: &str, key: &str) -> v1::LookupRequest {
    let body = v1::BodyDelivery::Inline.into();
    v1::LookupRequest { entry: Some(entry(tenant, key)), body, ..Default::default() }
}

fn acquire(key: &str, wait: Duration) -> v1::AcquireLeaseRequest {
    v1::AcquireLeaseRequest {
        entry: Some(entry("acme", key)),
        request_id: request_id(),
        owner: "worker".into(),
        wait: Some(wire(wait)),
        ..Default::default()
    }
}

fn page(
    html: &'static str,
    tags: &[&str],
    revalidate: Option<prost_types::Duration>,
) -> v1::CommitPointerRequest {
    let inline = v1::body_source::Source::Inline(Bytes::from_static(html.as_bytes()));
    let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
    v1::CommitPointerRequest {
        entry: Some(entry("acme", "page")),
        html: Some(v1::BodySource { source: Some(inline), ..Default::default() }),
        metadata: Some(v1::PageMetadata { tags, revalidate, ..Default::default() }),
        ..Default::default()
    }
}

fn wire(duration: Duration) -> prost_types::Duration {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    prost_types::Duration { seconds: seconds.try_into().unwrap(), nanos: nanos.try_into().unwrap() }
}
