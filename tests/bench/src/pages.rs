//! The pages that are looked up and regenerated, and the calls that do so.

use crate::drive::{Calls, Streams};
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures::Stream;
use leasehold_proto::v1::{self, coordinator_service_client::CoordinatorServiceClient};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tonic::{Status, Streaming, transport::Channel};

/// Pages of a tenant that are looked up, in turn.
pub(crate) const PAGES: usize = 256;
/// Bytes of the HTML of each.
pub(crate) const HTML_BYTES: usize = 20 * 1024;
/// Bytes of the hydration sidecar of each.
const SIDECAR_BYTES: usize = 1024;
/// Bytes of the HTML of a page that is regenerated.
pub(crate) const REGENERATED_HTML_BYTES: usize = 2048;
/// Whose pages these are, where only one tenant calls.
pub(crate) const TENANT: &str = "acme";

type Client = CoordinatorServiceClient<Channel>;

/// How a lookup names its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By a ready key.
    Key,
    /// By the request, from which the coordinator derives the key.
    Request,
}

/// Lookups of pages that are fresh and warm, on one connection.
#[derive(Clone)]
pub(crate) struct Lookups {
    client: Client,
    asks: Arc<Vec<v1::LookupRequest>>,
    html_bytes: Option<usize>,
}

impl Lookups {
    /// Of the first so many pages of a tenant.
    pub(crate) fn new(client: Client, tenant: &str, pages: usize, naming: Naming, with_body: bool) -> Self {
        let body = if with_body { v1::BodyDelivery::Inline } else { v1::BodyDelivery::None };
        let asks = (0..pages).map(|at| v1::LookupRequest {
            entry: Some(entry(tenant, at, naming)),
            body: body.into(),
            ..v1::LookupRequest::default()
        });
        Self { client, asks: Arc::new(asks.collect()), html_bytes: with_body.then_some(HTML_BYTES) }
    }

    /// A request and its answer as they are: for their sizes.
    pub(crate) async fn exchange(&self) -> anyhow::Result<(v1::LookupRequest, v1::LookupResponse)> {
        let ask = self.asks[0].clone();
        let response = self.client.clone().lookup(ask.clone()).await?.into_inner();
        self.verify(&response)?;
        Ok((ask, response))
    }

    /// One lookup, whatever is answered.
    pub(crate) async fn ask(&self, at: usize) -> Result<v1::LookupResponse, Status> {
        let ask = self.asks[at % self.asks.len()].clone();
        Ok(self.client.clone().lookup(ask).await?.into_inner())
    }

    fn verify(&self, response: &v1::LookupResponse) -> anyhow::Result<()> {
        let Some(v1::lookup_response::Outcome::Fresh(fresh)) = &response.outcome else {
            bail!("a page is not fresh: {:?}", response.outcome);
        };
        let page = fresh.page.as_ref().context("a fresh answer without a page")?;
        let inline = match &page.body {
            Some(v1::page::Body::Inline(body)) => Some(body.len()),
            Some(v1::page::Body::Url(_)) | None => None,
        };
        let is_right = inline == self.html_bytes && page.size_bytes == HTML_BYTES as u64;
        ensure!(is_right, "a body of {inline:?} bytes where {:?} were asked for", self.html_bytes);
        Ok(())
    }
}

impl Calls for Lookups {
    async fn call(&mut self, at: usize) -> anyhow::Result<()> {
        self.verify(&self.ask(at).await?)
    }
}

impl Streams for Lookups {
    type Request = v1::LookupStreamRequest;
    type Response = v1::LookupStreamResponse;

    fn request(&self, id: u64, at: usize) -> v1::LookupStreamRequest {
        let lookup = Some(self.asks[at % self.asks.len()].clone());
        v1::LookupStreamRequest { id, lookup, timeout: None }
    }

    async fn open(
        &mut self,
        requests: impl Stream<Item = v1::LookupStreamRequest> + Send + 'static,
    ) -> anyhow::Result<Streaming<v1::LookupStreamResponse>> {
        Ok(self.client.lookup_stream(requests).await?.into_inner())
    }

    fn verify(&self, response: v1::LookupStreamResponse) -> anyhow::Result<u64> {
        use v1::lookup_stream_response::Result as Wire;
        let v1::LookupStreamResponse { id, result } = response;
        match result.context("an answer without a result")? {
            Wire::Response(response) => self.verify(&response)?,
            Wire::Error(error) => bail!("a lookup failed: {error:?}"),
        }
        Ok(id)
    }
}

/// Regenerations, each of a page that never was there, on one connection: a lease, and the commit under it.
#[derive(Clone)]
pub(crate) struct Regenerations {
    client: Client,
    next: Arc<AtomicU64>,
}

impl Regenerations {
    pub(crate) fn new(client: Client, next: Arc<AtomicU64>) -> Self {
        Self { client, next }
    }
}

impl Calls for Regenerations {
    async fn call(&mut self, _: usize) -> anyhow::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = v1::entry_ref::Name::Key(format!("{TENANT}::/product/{{id}}?id={number:08}"));
        let entry = v1::EntryRef {
            tenant: TENANT.to_owned(),
            name: Some(name),
            path: format!("/product/{number:08}"),
            ..v1::EntryRef::default()
        };
        let html = text(&format!("<!doctype html><title>Product {number}</title>"), REGENERATED_HTML_BYTES);
        regenerate(&mut self.client, entry, number, html, None).await
    }
}

/// Stores the first so many pages of a tenant, that [`Lookups`] asks for. They are warm from then on.
pub(crate) async fn seed(
    client: &mut Client,
    tenant: &str,
    pages: usize,
    next: &AtomicU64,
) -> anyhow::Result<()> {
    for at in 0..pages {
        let html = text(&format!("<!doctype html><title>Post {at}</title>"), HTML_BYTES);
        let sidecar = text(&format!("{{\"post\":{at}}}"), SIDECAR_BYTES);
        let number = next.fetch_add(1, Ordering::Relaxed);
        // By the request, so that both namings are known to lead to it.
        regenerate(client, entry(tenant, at, Naming::Request), number, html, Some(sidecar)).await?;
    }
    Ok(())
}

fn entry(tenant: &str, at: usize, naming: Naming) -> v1::EntryRef {
    let slug = format!("a-page-of-the-benchmark-{at:04}");
    let name = match naming {
        Naming::Key => v1::entry_ref::Name::Key(format!("{tenant}::/blog/{{slug}}?slug={slug}&page=2")),
        Naming::Request => v1::entry_ref::Name::Request(v1::PageRequest {
            route: "/blog/{slug}".to_owned(),
            params: vec![v1::NameValue { name: "slug".to_owned(), value: slug }],
            query: vec![v1::NameValues { name: "page".to_owned(), values: vec!["2".to_owned()] }],
            headers: vec![
                v1::NameValues { name: "host".to_owned(), values: vec!["www.example.org".to_owned()] },
                v1::NameValues { name: "accept".to_owned(), values: vec!["text/html".to_owned()] },
            ],
            cookie_variance: v1::CookieVariance::None.into(),
            ..v1::PageRequest::default()
        }),
    };
    v1::EntryRef { tenant: tenant.to_owned(), name: Some(name), ..v1::EntryRef::default() }
}

async fn regenerate(
    client: &mut Client,
    entry: v1::EntryRef,
    number: u64,
    html: Bytes,
    sidecar: Option<Bytes>,
) -> anyhow::Result<()> {
    use v1::{acquire_lease_response::Outcome as Acquired, commit_pointer_response::Outcome as Committed};
    // The store is new with every run, so this need not be random, only different each time.
    let request_id = Bytes::copy_from_slice(&[*b"regenera", number.to_be_bytes()].concat());
    let ask = v1::AcquireLeaseRequest {
        entry: Some(entry.clone()),
        request_id: request_id.clone(),
        owner: "leasehold-bench".to_owned(),
        ..v1::AcquireLeaseRequest::default()
    };
    let acquired = client.acquire_lease(ask).await?.into_inner().outcome;
    let Some(Acquired::Granted(grant)) = acquired else { bail!("no lease was granted: {acquired:?}") };
    let inline =
        |body| v1::BodySource { source: Some(v1::body_source::Source::Inline(body)), ..Default::default() };
    let commit = v1::CommitPointerRequest {
        entry: Some(entry),
        lease: Some(v1::LeaseRef { request_id, generation: grant.generation }),
        html: Some(inline(html)),
        sidecar: sidecar.map(inline),
        metadata: Some(metadata(number)),
    };
    match client.commit_pointer(commit).await?.into_inner().outcome {
        Some(Committed::Committed(_)) => Ok(()),
        other => bail!("a page was not committed: {other:?}"),
    }
}

fn metadata(number: u64) -> v1::PageMetadata {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    v1::PageMetadata {
        headers: vec![v1::NameValue {
            name: "content-security-policy".to_owned(),
            value: "default-src 'self'; img-src *".to_owned(),
        }],
        revalidate: seconds(24 * 60 * 60),
        stale_while_revalidate: seconds(60 * 60),
        tags: vec!["blog".to_owned(), format!("post:{number}")],
        render_time: Some(prost_types::Duration { seconds: 0, nanos: 120_000_000 }),
        ..v1::PageMetadata::default()
    }
}

/// So many bytes of text that begin like this.
fn text(beginning: &str, size_bytes: usize) -> Bytes {
    let mut text = beginning.to_owned();
    while text.len() < size_bytes {
        text.push_str(" Lorem ipsum dolor sit amet, consectetur adipisici elit.");
    }
    text.truncate(size_bytes);
    text.into()
}
