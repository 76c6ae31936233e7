//! The coordinator on DynamoDB and S3, behind the real SDK, through the wire: what it costs, and what faults do to it.

#![allow(missing_docs, reason = "tests are named by what they show")]

mod budget;
mod faults;
mod sharing;

use leasehold_aws::{
    AwsSettings,
    testing::{Counters, Doubles, Faults},
};
use leasehold_proto::v1;
use leasehold_service::{conformance::Coordinator, settings::Settings};
use std::{sync::Arc, time::Duration};

/// The wire's part of the conformance suite.
mod wire {
    leasehold_service::wire_conformance_suite!(leasehold_aws::testing::AwsFixture::new().await);
}

/// One table and one bucket.
struct World(Doubles);

/// A coordinator with a way of its own to them.
struct Node {
    coordinator: Coordinator,
    faults: Faults,
    counters: Arc<Counters>,
}

impl World {
    async fn new() -> Self {
        let doubles = Doubles::new();
        doubles.ready().await;
        Self(doubles)
    }

    /// The names of all objects.
    fn objects(&self) -> Vec<String> {
        self.0.s3.names(&Doubles::settings().bucket)
    }

    async fn start(&self) -> Node {
        self.start_with(|_| {}).await
    }

    /// As one of a fleet, that reads the log only at its start unless `change` says otherwise: so that the tail is counted,
    /// or fails, only where that is the subject.
    async fn start_with(&self, change: impl FnOnce(&mut Settings)) -> Node {
        self.start_on(Doubles::settings(), change).await
    }

    async fn start_on(&self, aws: AwsSettings, change: impl FnOnce(&mut Settings)) -> Node {
        let mut settings = Settings::default();
        settings.rules.expiry_tolerance = Duration::from_millis(500);
        settings.reread_interval = Some(Duration::from_millis(250));
        settings.log.tail_interval = Duration::from_secs(3600);
        settings.rules.staleness_bound = Duration::from_secs(3600);
        change(&mut settings);
        let doubles = Doubles { faults: Faults::new(), counters: Arc::default(), ..self.0.clone() };
        let stores = doubles.connect(aws).stores();
        let coordinator = Coordinator::start_with(stores, settings).await;
        doubles.counters.reset();
        Node { coordinator, faults: doubles.faults, counters: doubles.counters }
    }
}

impl Node {
    async fn lookup(&self, key: &str) -> v1::lookup_response::Outcome {
        self.lookup_with(key, v1::BodyDelivery::Inline).await
    }

    async fn lookup_with(&self, key: &str, body: v1::BodyDelivery) -> v1::lookup_response::Outcome {
        let request = v1::LookupRequest { entry: Some(entry(key)), body: body.into(), ..Default::default() };
        let response = self.coordinator.client().lookup(request).await.expect("a lookup").into_inner();
        response.outcome.expect("an outcome")
    }

    async fn commit(
        &self,
        key: &str,
        lease: &v1::LeaseRef,
        html: &str,
    ) -> Result<v1::commit_pointer_response::Outcome, tonic::Status> {
        self.coordinator.commit(entry(key), lease.clone(), html, expired()).await
    }

    /// Renders a page with a sidecar, that is expired at once; answers with its generation.
    async fn render(&self, key: &str, html: &str) -> u64 {
        let (lease, _) = self.coordinator.grant(entry(key)).await;
        let outcome = self.commit(key, &lease, html).await.expect("a commit");
        assert!(matches!(outcome, v1::commit_pointer_response::Outcome::Committed(_)), "{outcome:?}");
        lease.generation
    }

    async fn invalidate(&self, tag: &str, depth: v1::InvalidationDepth) -> String {
        let scope = v1::InvalidationScope {
            tenant: String::new(),
            scope: Some(v1::invalidation_scope::Scope::Tag(tag.to_owned())),
        };
        let request =
            v1::InvalidateRequest { request_id: request_id(), scopes: vec![scope], depth: depth.into() };
        let response = self.coordinator.client().invalidate(request).await.expect("an invalidation");
        response.into_inner().consistency_token
    }
}

fn entry(key: &str) -> v1::EntryRef {
    v1::EntryRef { name: Some(v1::entry_ref::Name::Key(key.to_owned())), ..Default::default() }
}

fn five_tags() -> v1::PageMetadata {
    v1::PageMetadata {
        tags: ["author:jane", "blog", "category:engineering", "layout:v2", "post:4711"]
            .map(str::to_owned)
            .into(),
        path: "/blog/a-title".to_owned(),
        ..Default::default()
    }
}

fn expired() -> v1::PageMetadata {
    v1::PageMetadata { revalidate: Some(prost_types::Duration::default()), ..five_tags() }
}

fn request_id() -> bytes::Bytes {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = u128::from(NEXT.fetch_add(1, Ordering::Relaxed)) | 1 << 126;
    bytes::Bytes::copy_from_slice(&id.to_be_bytes())
}

/// The generation of what may be served, and whether it is fresh.
fn served(outcome: &v1::lookup_response::Outcome) -> Option<(u64, bool)> {
    use v1::lookup_response::Outcome;
    match outcome {
        Outcome::Fresh(fresh) => Some((fresh.page.as_ref()?.generation, true)),
        Outcome::Stale(stale) => Some((stale.page.as_ref()?.generation, false)),
        Outcome::Missing(_) => None,
    }
}

/// Asks again and again until the answer is yes.
async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking).await.expect("what was waited for did not come");
}
