//! A request's way through the coordinator: look up, acquire, render, commit.

use crate::content::{Content, PagePath, Rendered, Source};
use axum::body::Bytes;
use leasehold_client::{
    Acquire, AcquireOptions, BodyDelivery, Commit, Consistency, Coordinator, CurrentPage, EntryRef, Error,
    Lease, Lookup, LookupOptions, NewPage, Page, PageBody, PageMetadata, PageRequest, Reason, ServeOptions,
    StalePage,
};
use std::{collections::BTreeMap, sync::Arc, sync::Mutex, time::Duration};

/// The query parameter that carries a sidecar's token.
pub(crate) const SIDECAR_PARAM: &str = "__facetheory_isr_hydration";
/// No page is larger.
const MAX_BODY_BYTES: u64 = 16 << 20;

/// How often a request that is overtaken tries again.
const ROUNDS: u32 = 3;

/// The site, and how it is to behave.
pub(crate) struct Site {
    pub(crate) coordinator: Coordinator,
    pub(crate) content: Content,
    pub(crate) renders: Renders,
    pub(crate) tenant: Option<String>,
    pub(crate) worker: String,
    pub(crate) revalidate: Duration,
    pub(crate) render_delay: Duration,
    pub(crate) lease_ttl: Duration,
    pub(crate) wait: Duration,
}

/// How a page came about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State {
    /// Rendered by this request.
    Miss,
    Hit,
    /// Rendered by another while this one waited.
    WaitHit,
    /// The previous one.
    Stale,
    /// Rendered by this request, and not kept: the coordinator could not be asked.
    Bypass,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Hit => "hit",
            Self::WaitHit => "wait-hit",
            Self::Stale => "stale",
            Self::Bypass => "bypass",
        }
    }
}

/// A page as it is to be sent.
pub(crate) struct Served {
    pub(crate) state: State,
    pub(crate) html: Bytes,
    /// `None`: it is not kept, and so has none.
    pub(crate) generation: Option<u64>,
    pub(crate) etag: Option<String>,
    pub(crate) revalidate: Duration,
}

/// Why there is no page.
#[derive(Debug)]
pub(crate) enum Failure {
    NotFound,
    /// The request carries a tenant header, and this site has no tenant.
    TenantBoundary,
    /// The render failed, and there is no previous page.
    Render(String),
    /// The last render failed, and there is no previous page; it will be tried again after so long.
    BackingOff(Duration),
}

impl Site {
    /// The entry of a page. It is the same for all visitors of a tenant; whose it is, is not for them to say.
    pub(crate) fn entry(&self, path: &PagePath, tenant_headers: Vec<(String, String)>) -> EntryRef {
        let mut request = PageRequest::new(path.as_str())
            .ignore_credentials()
            .cookie_variance(leasehold_client::CookieVariance::None);
        for (name, value) in tenant_headers {
            request = request.header(name, [value]);
        }
        let entry = EntryRef::request(request).path(path.as_str());
        match &self.tenant {
            Some(tenant) => entry.tenant(tenant),
            None => entry,
        }
    }

    pub(crate) async fn serve(
        self: &Arc<Self>,
        path: &PagePath,
        entry: &EntryRef,
    ) -> Result<Served, Failure> {
        if !self.content.exists(path).await {
            return Err(Failure::NotFound);
        }
        match self.through_coordinator(path, entry).await {
            Ok(served) => Ok(served),
            Err(Obstacle::Failure(failure)) => Err(failure),
            Err(Obstacle::Coordinator(error)) if error.reason() == Some(&Reason::TenantBoundary) => {
                Err(Failure::TenantBoundary)
            }
            Err(Obstacle::Coordinator(error)) => {
                eprintln!("{}: not through the coordinator: {error}", path.as_str());
                self.bypass(path).await
            }
        }
    }

    async fn through_coordinator(
        self: &Arc<Self>,
        path: &PagePath,
        entry: &EntryRef,
    ) -> Result<Served, Obstacle> {
        let reply = self.coordinator.lookup(entry, &LookupOptions::with_body()).await?;
        if let Lookup::Fresh(fresh) = reply.outcome {
            return self.kept(State::Hit, entry, fresh.page).await;
        }
        let strict = LookupOptions { consistency: Consistency::Strict, ..LookupOptions::with_body() };
        for _ in 0..ROUNDS {
            let mine = match self.acquire(path, entry).await? {
                Turn::Served(served) => return Ok(served),
                Turn::Overtaken(generation) => generation,
            };
            // This process slept, and another took over: its page counts. Where it is not there yet, it is waited for.
            match self.coordinator.lookup(entry, &strict).await?.outcome {
                Lookup::Fresh(fresh) => return self.kept(State::WaitHit, entry, fresh.page).await,
                Lookup::Stale(stale) if stale.page.generation > mine => {
                    return self.kept(State::Stale, entry, stale.page).await;
                }
                Lookup::Stale(_) | Lookup::Missing(_) => {}
            }
        }
        Ok(self.bypass(path).await?)
    }

    async fn acquire(self: &Arc<Self>, path: &PagePath, entry: &EntryRef) -> Result<Turn, Obstacle> {
        let options = AcquireOptions {
            ttl: Some(self.lease_ttl),
            wait: self.wait,
            body: BodyDelivery::Inline,
            ..AcquireOptions::default()
        };
        let served = match self.coordinator.acquire(entry, &options).await? {
            Acquire::Granted(lease) => {
                // As a task of its own: a visitor who goes away does not leave the lease behind.
                let (site, path) = (Arc::clone(self), path.clone());
                let task = tokio::spawn(async move { site.regenerate(&path, lease).await });
                return task.await.unwrap_or_else(|panic| Err(Failure::Render(panic.to_string()).into()));
            }
            Acquire::Ready(current) => self.kept(State::WaitHit, entry, into_page(current)).await?,
            Acquire::Held(held) => match held.previous {
                Some(previous) => self.kept(State::Stale, entry, previous.page).await?,
                None => self.bypass(path).await?,
            },
            Acquire::BackingOff(pause) => match pause.previous {
                Some(previous) => self.kept(State::Stale, entry, previous.page).await?,
                None => return Err(Failure::BackingOff(pause.remaining).into()),
            },
            // The answer to the first attempt was lost, and the lease ended meanwhile.
            Acquire::Ended => return Ok(Turn::Overtaken(0)),
        };
        Ok(Turn::Served(served))
    }

    /// Renders under a lease, and commits.
    async fn regenerate(&self, path: &PagePath, lease: Lease) -> Result<Turn, Obstacle> {
        let render = self.render(path, Some(&lease));
        let (source, rendered) = match lease.renew_while(Some(self.lease_ttl), render).await {
            Ok(Some(page)) => page,
            Ok(None) => {
                lease.release().await.ok();
                return Err(Failure::NotFound.into());
            }
            Err(error) => {
                lease.fail(&format!("{error:#}")).await.ok();
                return match lease.previous() {
                    Some(StalePage { page, .. }) => {
                        self.kept(State::Stale, lease.entry(), page.clone()).await.map(Turn::Served)
                    }
                    None => Err(Failure::Render(format!("{error:#}")).into()),
                };
            }
        };
        let revalidate = source.revalidate.unwrap_or(self.revalidate);
        let html = Bytes::from(rendered.html);
        let page = NewPage::new(html.clone()).sidecar(rendered.sidecar).metadata(PageMetadata {
            revalidate: Some(revalidate),
            stale_if_error: Some(revalidate),
            tags: source.tags,
            ..PageMetadata::default()
        });
        let mine = |state, generation, etag| {
            Turn::Served(Served { state, html: html.clone(), generation, etag, revalidate })
        };
        Ok(match lease.commit(&page).await {
            Ok(Commit::Committed { etag, .. } | Commit::CommittedStale { etag, .. }) => {
                mine(State::Miss, Some(lease.generation()), Some(etag))
            }
            Ok(
                Commit::Superseded { current_generation: newer }
                | Commit::Fenced { latest_generation: newer },
            ) => {
                let (path, mine) = (path.as_str(), lease.generation());
                eprintln!(
                    "{path}: committed too late: generation {mine} was rendered, {newer} is the latest"
                );
                Turn::Overtaken(mine)
            }
            Err(error) => {
                eprintln!("{}: rendered, not committed: {error}", path.as_str());
                mine(State::Bypass, None, None)
            }
        })
    }

    /// A page that the coordinator keeps.
    async fn kept(&self, state: State, entry: &EntryRef, page: Page) -> Result<Served, Obstacle> {
        let (page, html) = match page.body {
            PageBody::Inline(ref html) => (page.clone(), html.clone()),
            _ => {
                let served = self.coordinator.serve_page(entry, &ServeOptions::default()).await?;
                let html = served.body.collect(MAX_BODY_BYTES).await?;
                (into_page(served.current), html)
            }
        };
        Ok(Served {
            state,
            html,
            generation: Some(page.generation),
            etag: page.metadata.etag,
            revalidate: page.metadata.revalidate.unwrap_or(self.revalidate),
        })
    }

    async fn bypass(&self, path: &PagePath) -> Result<Served, Failure> {
        match self.render(path, None).await {
            Ok(Some((source, rendered))) => Ok(Served {
                state: State::Bypass,
                html: rendered.html.into(),
                generation: None,
                etag: None,
                revalidate: source.revalidate.unwrap_or(self.revalidate),
            }),
            Ok(None) => Err(Failure::NotFound),
            Err(error) => Err(Failure::Render(format!("{error:#}"))),
        }
    }

    async fn render(
        &self,
        path: &PagePath,
        lease: Option<&Lease>,
    ) -> anyhow::Result<Option<(Source, Rendered)>> {
        self.renders.count(path);
        tokio::time::sleep(self.render_delay).await;
        let Some(source) = self.content.read(path).await? else { return Ok(None) };
        let url = lease
            .and_then(Lease::sidecar_token)
            .map(|token| format!("{}?{SIDECAR_PARAM}={}", path.as_str(), token.as_str()));
        let generation = lease.map_or_else(|| "none".to_owned(), |lease| lease.generation().to_string());
        let origin = format!("rendered by {}, generation {generation}", self.worker);
        let rendered = source.render(path, url.as_deref(), &origin);
        Ok(Some((source, rendered)))
    }
}

/// What came of one wish to render.
enum Turn {
    Served(Served),
    /// The page of this generation was rendered for nothing: another's counts.
    Overtaken(u64),
}

/// Why the coordinator's way led nowhere.
enum Obstacle {
    Coordinator(Error),
    Failure(Failure),
}

impl From<Error> for Obstacle {
    fn from(error: Error) -> Self {
        Self::Coordinator(error)
    }
}

impl From<Failure> for Obstacle {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn into_page(current: CurrentPage) -> Page {
    match current {
        CurrentPage::Fresh(fresh) => fresh.page,
        CurrentPage::Stale(stale) => stale.page,
    }
}

/// How often each page was rendered.
#[derive(Default)]
pub(crate) struct Renders(Mutex<BTreeMap<String, u64>>);

impl Renders {
    fn count(&self, path: &PagePath) {
        let mut pages = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *pages.entry(path.as_str().to_owned()).or_default() += 1;
    }

    pub(crate) fn by_page(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
