//! A coordinator on a store under test, served on a socket of its own.

use crate::{
    access::Guard,
    engine::{Dependencies, Engine},
    random::Entropy,
    server::{self, TransportSettings},
    settings::Settings,
    time::SystemClock,
};
use bytes::Bytes;
use leasehold_proto::v1::{self, coordinator_service_client::CoordinatorServiceClient};
use leasehold_store::port::Stores;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

/// Every coordinator of a test run draws other random values, and every request has an id of its own.
static SEED: AtomicU64 = AtomicU64::new(1);

/// A running coordinator and a client of it. Dropping it ends it.
pub struct Coordinator {
    engine: Engine,
    client: CoordinatorServiceClient<Channel>,
    shutdown: CancellationToken,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Coordinator {
    /// Starts one on these stores.
    ///
    /// # Panics
    /// When it cannot be started: the test is over.
    pub async fn start(stores: Stores) -> Self {
        Self::start_with(stores, Settings::default()).await
    }

    /// Starts one with settings of its own.
    ///
    /// # Panics
    /// When it cannot be started: the test is over.
    pub async fn start_with(stores: Stores, settings: Settings) -> Self {
        let dependencies = Dependencies {
            stores,
            clock: Arc::new(SystemClock::start()),
            entropy: Arc::new(Entropy::from_seed(SEED.fetch_add(1, Ordering::Relaxed))),
            tracing: None,
        };
        let engine = Engine::start(dependencies, settings).await.expect("start an engine");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let served = engine.clone();
        let serving = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            server::run(incoming, served, Guard::open(), TransportSettings::default(), stop)
                .await
                .expect("serve");
        });
        let channel = Channel::from_shared(format!("http://{address}"))
            .expect("a URI")
            .connect()
            .await
            .expect("connect");
        let client = CoordinatorServiceClient::new(channel);
        Self { engine, client, shutdown, serving: Some(serving) }
    }

    /// Stops it in the orderly way, and waits until it has.
    ///
    /// # Panics
    /// When it died before.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(serving) = self.serving.take() {
            serving.await.expect("a coordinator died");
        }
    }

    /// The generated client, for calls that have no shorthand here.
    pub fn client(&self) -> CoordinatorServiceClient<Channel> {
        self.client.clone()
    }

    /// How many calls wait for another's lease.
    pub fn waiters(&self) -> usize {
        self.engine.stats().waiters
    }

    /// Asks for a lease, without waiting.
    pub async fn acquire(
        &self,
        entry: v1::EntryRef,
        request_id: &Bytes,
    ) -> Result<v1::acquire_lease_response::Outcome, Status> {
        let request = v1::AcquireLeaseRequest {
            entry: Some(entry),
            request_id: request_id.clone(),
            owner: "conformance".into(),
            ..Default::default()
        };
        let response = self.client().acquire_lease(request).await?.into_inner();
        response.outcome.ok_or_else(|| Status::internal("no outcome"))
    }

    /// Is granted a lease.
    ///
    /// # Panics
    /// When it is not.
    pub async fn grant(&self, entry: v1::EntryRef) -> (v1::LeaseRef, v1::LeaseGrant) {
        let request_id = request_id();
        match self.acquire(entry, &request_id).await.expect("acquire") {
            v1::acquire_lease_response::Outcome::Granted(grant) => {
                (v1::LeaseRef { request_id, generation: grant.generation }, grant)
            }
            other => panic!("expected a grant: {other:?}"),
        }
    }

    /// Commits a page with a sidecar under a lease.
    pub async fn commit(
        &self,
        entry: v1::EntryRef,
        lease: v1::LeaseRef,
        html: &str,
        metadata: v1::PageMetadata,
    ) -> Result<v1::commit_pointer_response::Outcome, Status> {
        let request = v1::CommitPointerRequest {
            entry: Some(entry),
            lease: Some(lease),
            html: Some(inline(html)),
            sidecar: Some(inline(&sidecar_of(html))),
            metadata: Some(metadata),
        };
        let response = self.client().commit_pointer(request).await?.into_inner();
        response.outcome.ok_or_else(|| Status::internal("no outcome"))
    }

    /// Renders a page: lease and commit.
    ///
    /// # Panics
    /// When either is refused.
    pub async fn render(&self, entry: v1::EntryRef, html: &str, tags: &[&str]) -> v1::LeaseRef {
        let (lease, _) = self.grant(entry.clone()).await;
        let metadata =
            v1::PageMetadata { tags: tags.iter().map(ToString::to_string).collect(), ..Default::default() };
        let outcome = self.commit(entry, lease.clone(), html, metadata).await.expect("commit");
        assert!(
            matches!(outcome, v1::commit_pointer_response::Outcome::Committed(_)),
            "expected a commit: {outcome:?}"
        );
        lease
    }

    /// Looks a page up, with its body, as it is after this call began.
    pub async fn look(
        &self,
        entry: v1::EntryRef,
        token: &str,
    ) -> Result<v1::lookup_response::Outcome, Status> {
        let request = v1::LookupRequest {
            entry: Some(entry),
            consistency: v1::Consistency::Strict.into(),
            consistency_token: token.to_owned(),
            body: v1::BodyDelivery::Inline.into(),
            ..Default::default()
        };
        let response = self.client().lookup(request).await?.into_inner();
        response.outcome.ok_or_else(|| Status::internal("no outcome"))
    }

    /// The HTML of a fresh page and the sidecar that belongs to it.
    ///
    /// # Panics
    /// When the page is not fresh, or its sidecar is not served.
    pub async fn fresh(&self, entry: v1::EntryRef) -> (String, String) {
        let page = match self.look(entry.clone(), "").await.expect("look up") {
            v1::lookup_response::Outcome::Fresh(fresh) => fresh.page.expect("a page"),
            other => panic!("expected a fresh page: {other:?}"),
        };
        let Some(v1::page::Body::Inline(html)) = page.body else { panic!("expected a body: {page:?}") };
        let request = v1::ServeSidecarRequest {
            entry: Some(entry),
            sidecar_token: page.sidecar_token,
            ..Default::default()
        };
        let sidecar = self.sidecar(request).await.expect("a sidecar");
        (text(&html), text(&sidecar))
    }

    /// The bytes of a sidecar.
    pub async fn sidecar(&self, request: v1::ServeSidecarRequest) -> Result<Vec<u8>, Status> {
        let mut parts = self.client().serve_sidecar(request).await?.into_inner();
        let mut sidecar = Vec::new();
        while let Some(message) = parts.message().await? {
            if let Some(v1::serve_sidecar_response::Part::Chunk(chunk)) = message.part {
                sidecar.extend_from_slice(&chunk);
            }
        }
        Ok(sidecar)
    }

    /// Invalidates a tag softly; answers with the token.
    pub async fn invalidate_tag(&self, tag: &str, request_id: Bytes) -> Result<String, Status> {
        let scope = v1::InvalidationScope {
            tenant: String::new(),
            scope: Some(v1::invalidation_scope::Scope::Tag(tag.to_owned())),
        };
        let request = v1::InvalidateRequest { request_id, scopes: vec![scope], ..Default::default() };
        Ok(self.client().invalidate(request).await?.into_inner().consistency_token)
    }
}

/// An id that no other request of this run has.
pub(super) fn request_id() -> Bytes {
    let id = u128::from(SEED.fetch_add(1, Ordering::Relaxed)) | 1 << 127;
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// The entry of a key, of the unnamed tenant.
pub(super) fn entry(key: &str) -> v1::EntryRef {
    v1::EntryRef { name: Some(v1::entry_ref::Name::Key(key.to_owned())), ..Default::default() }
}

/// The sidecar that belongs to a page here: tells which page it is of.
pub(super) fn sidecar_of(html: &str) -> String {
    format!("{{\"of\":{html:?}}}")
}

pub(super) fn inline(text: &str) -> v1::BodySource {
    let inline = v1::body_source::Source::Inline(Bytes::copy_from_slice(text.as_bytes()));
    v1::BodySource { source: Some(inline), ..Default::default() }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
