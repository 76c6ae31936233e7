//! The worker in Rust of the interop test: it does what it reads, a line of JSON each, and says what came of it in lines of
//! JSON.

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, stream};
use leasehold_client::{
    Acquire, AcquireOptions, BackingOff, BodyDelivery, Commit, Consistency, ConsistencyToken, CookieVariance,
    Coordinator, Depth, EntryRef, Error, Held, Lease, Lookup, LookupOptions, NewPage, Page, PageBody,
    PageMetadata, PageRequest, Scope, Security, ServeOptions, SidecarToken, Target, Watch, WatchEvent,
    WatchFilter,
};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, Write as _},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::sync::watch;

const LANGUAGE: &str = "rust";
const SIDECAR_LIMIT_BYTES: u64 = 1 << 20;
const PAGE_LIMIT_BYTES: u64 = 16 << 20;

#[derive(Deserialize)]
struct Command {
    #[serde(rename = "do")]
    action: String,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    tag: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    ttl_ms: u64,
    #[serde(default)]
    wait_ms: u64,
    #[serde(default)]
    render_ms: u64,
    #[serde(default = "one")]
    in_flight: usize,
    #[serde(default)]
    pages: Vec<TablePage>,
}

/// One of the table.
#[derive(Deserialize)]
struct TablePage {
    id: String,
    entry: TableEntry,
    #[serde(default)]
    html: String,
    #[serde(default)]
    token: String,
    #[serde(flatten)]
    response: Option<Response>,
}

/// What is to be rendered for a page of the table, and how that is to fail, where it is.
#[derive(Deserialize)]
struct Response {
    size: usize,
    status: u16,
    content_type: String,
    headers: Vec<(String, String)>,
    tag: String,
    failure: String,
}

/// The contract's `EntryRef` as JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[derive(Default)]
struct TableEntry {
    tenant: String,
    deployment: String,
    path: String,
    key: String,
    request: Option<TableRequest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[derive(Default)]
struct TableRequest {
    route: String,
    params: Vec<NameValue>,
    query: Vec<NameValues>,
    headers: Vec<NameValues>,
    cookies: Vec<NameValue>,
    ignore_credentials: bool,
    cookie_variance: String,
    cookie_allowlist: Vec<String>,
}

#[derive(Deserialize)]
struct NameValue {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct NameValues {
    name: String,
    values: Vec<String>,
}

/// A page that was served, and where from.
struct Served {
    how: &'static str,
    generation: u64,
    html: String,
    sidecar_token: SidecarToken,
}

/// What a watch has told so far.
#[derive(Clone, Default)]
struct Heard {
    has_started: bool,
    /// Of the invalidations, in their order.
    tags: Vec<String>,
    resyncs: u64,
}

struct Worker {
    coordinator: Coordinator,
    renders: AtomicU64,
    heard: watch::Sender<Heard>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).context("the coordinator's URL")?;
    let coordinator =
        Coordinator::builder().endpoint(url).owner(LANGUAGE).security(Security::from_env()?).build()?;
    let worker = Worker { coordinator, renders: AtomicU64::new(0), heard: watch::Sender::default() };
    say(&json!({"event": "ready"}));
    for line in io::stdin().lock().lines() {
        worker.carry_out(&serde_json::from_str(&line?)?).await?;
        say(&json!({"event": "done"}));
    }
    Ok(())
}

/// Notes what it tells, for as long as there is a watch.
async fn follow(mut watch: Watch, heard: watch::Sender<Heard>) {
    while let Some(message) = watch.next().await {
        // Without a watch for a while; it goes on trying.
        let Ok(message) = message else { continue };
        heard.send_modify(|heard| match message.event {
            WatchEvent::Started => heard.has_started = true,
            WatchEvent::Resync(_) => heard.resyncs += 1,
            WatchEvent::Invalidated(invalidated) => {
                let tags = invalidated.scopes.into_iter().filter_map(|scope| match scope.target {
                    Target::Tag(tag) => Some(tag),
                    _ => None,
                });
                heard.tags.extend(tags);
            }
            _ => {}
        });
    }
}

impl Worker {
    async fn carry_out(&self, command: &Command) -> anyhow::Result<()> {
        let keys = stream::iter(&command.keys);
        let pages = stream::iter(&command.pages);
        let limit = command.in_flight;
        match command.action.as_str() {
            "serve" => keys.for_each_concurrent(limit, |key| self.serve(command, key)).await,
            "hold" => keys.for_each_concurrent(limit, |key| self.hold(command, key)).await,
            "invalidate" => {
                let token = self.coordinator.invalidate(&[Scope::tag(&command.tag)], Depth::Soft).await?;
                say(&json!({"event": "invalidated", "token": token.as_str()}));
            }
            "watch" => {
                let watch = self.coordinator.watch(&[WatchFilter::whole_tenant("default")], None);
                tokio::spawn(follow(watch, self.heard.clone()));
                self.heard.subscribe().wait_for(|heard| heard.has_started).await?;
                say(&json!({"event": "watching"}));
            }
            "watched" => {
                let mut heard = self.heard.subscribe();
                let heard = heard.wait_for(|heard| heard.tags.contains(&command.tag)).await?.clone();
                say(&json!({"event": "watched", "tags": heard.tags, "resyncs": heard.resyncs}));
            }
            "commit" => {
                pages.for_each_concurrent(limit, async |page| tell(page, self.commit(page).await)).await;
            }
            "look_up" => {
                pages.for_each_concurrent(limit, async |page| tell(page, self.look_up(page).await)).await;
            }
            "sidecar" => {
                pages.for_each_concurrent(limit, async |page| tell(page, self.sidecar_of(page).await)).await;
            }
            "show" => {
                pages
                    .for_each_concurrent(limit, async |page| tell(page, self.show(command, page).await))
                    .await;
            }
            other => bail!("what is {other}?"),
        }
        Ok(())
    }

    async fn serve(&self, command: &Command, key: &str) {
        let answer = async {
            let served = self.page(command, key).await?;
            let sidecar = self.sidecar(&EntryRef::key(key), &served.sidecar_token).await?;
            anyhow::Ok((served, sidecar))
        };
        match answer.await {
            Ok((served, sidecar)) => say(&json!({
                "event": "served", "key": key, "how": served.how, "generation": served.generation,
                "html": served.html, "sidecar": sidecar, "sidecar_token": served.sidecar_token.as_str(),
            })),
            Err(error) => say(&json!({"event": "failed", "key": key, "why": format!("{error:#}")})),
        }
    }

    async fn page(&self, command: &Command, key: &str) -> anyhow::Result<Served> {
        let entry = EntryRef::key(key);
        let token = token(&command.token);
        loop {
            let options = LookupOptions { consistency_token: token.clone(), ..LookupOptions::with_body() };
            if let Lookup::Fresh(fresh) = self.coordinator.lookup(&entry, &options).await?.outcome {
                return Served::of("hit", fresh.page);
            }
            let options = AcquireOptions {
                ttl: Some(Duration::from_millis(command.ttl_ms)),
                wait: Duration::from_millis(command.wait_ms),
                consistency_token: token.clone(),
                body: BodyDelivery::Inline,
                ..AcquireOptions::default()
            };
            let lease = match self.coordinator.acquire(&entry, &options).await? {
                Acquire::Granted(lease) => lease,
                Acquire::Ready(current) => return Served::of("wait", current.page().clone()),
                other => bail!("acquired: {other:?}"),
            };
            tokio::time::sleep(Duration::from_millis(command.render_ms)).await;
            let generation = lease.generation();
            let render = format!("{LANGUAGE}-{}", 1 + self.renders.fetch_add(1, Ordering::Relaxed));
            let in_html = lease.sidecar_token().context("a grant names its sidecar")?.as_str();
            let html = format!(
                "<!doctype html><h1 data-generation=\"{generation}\" data-render=\"{render}\" \
                 data-sidecar=\"{in_html}\">{key}</h1>"
            );
            let sidecar = format!(r#"{{"key":"{key}","generation":{generation},"render":"{render}"}}"#);
            let metadata = PageMetadata { tags: vec![command.tag.clone()], ..PageMetadata::default() };
            let page = NewPage::new(html.clone()).sidecar(sidecar).metadata(metadata);
            if let Commit::Committed { sidecar_token, .. } = lease.commit(&page).await? {
                say(&json!({"event": "rendered", "key": key, "generation": generation, "render": render}));
                let sidecar_token = sidecar_token.context("a page with a sidecar has its token")?;
                return Ok(Served { how: "render", generation, html, sidecar_token });
            }
            say(&json!({"event": "overtaken", "key": key}));
        }
    }

    /// Acquires, and never commits.
    async fn hold(&self, command: &Command, key: &str) {
        let options =
            AcquireOptions { ttl: Some(Duration::from_millis(command.ttl_ms)), ..AcquireOptions::default() };
        match self.coordinator.acquire(&EntryRef::key(key), &options).await {
            Ok(Acquire::Granted(lease)) => {
                say(&json!({"event": "holding", "key": key, "generation": lease.generation()}));
            }
            other => say(&json!({"event": "failed", "key": key, "why": format!("{other:?}")})),
        }
    }

    async fn commit(&self, page: &TablePage) -> anyhow::Result<Value> {
        let Acquire::Granted(lease) =
            self.coordinator.acquire(&page.entry(), &AcquireOptions::default()).await?
        else {
            bail!("there is a page already");
        };
        let new = NewPage::new(page.html.clone()).sidecar(page.html.clone());
        let Commit::Committed { sidecar_token: Some(token), .. } = lease.commit(&new).await? else {
            bail!("overtaken");
        };
        Ok(json!({
            "event": "committed", "id": page.id, "how": "render", "html": page.html, "sidecar_token": token.as_str(),
        }))
    }

    async fn look_up(&self, page: &TablePage) -> anyhow::Result<Value> {
        let options = LookupOptions {
            consistency: Consistency::Strict,
            consistency_token: token(&page.token),
            ..LookupOptions::with_body()
        };
        let html = match self.coordinator.lookup(&page.entry(), &options).await?.outcome {
            Lookup::Fresh(fresh) => html_of(&fresh.page)?,
            Lookup::Stale(_) | Lookup::Missing(_) => String::new(),
        };
        Ok(json!({"event": "found", "id": page.id, "html": html}))
    }

    async fn show(&self, command: &Command, page: &TablePage) -> anyhow::Result<Value> {
        let entry = page.entry();
        let token = token(&page.token);
        let options = LookupOptions { consistency_token: token.clone(), ..LookupOptions::with_body() };
        if let Lookup::Fresh(fresh) = self.coordinator.lookup(&entry, &options).await?.outcome {
            return self.shown(page, "hit", fresh.page).await;
        }
        let options = AcquireOptions {
            ttl: Some(Duration::from_millis(command.ttl_ms)),
            consistency_token: token,
            body: BodyDelivery::Inline,
            ..AcquireOptions::default()
        };
        match self.coordinator.acquire(&entry, &options).await? {
            Acquire::Granted(lease) => {
                let outcome = page.render_under(&lease).await;
                if !matches!(&outcome, Ok(report) if report["event"] == "shown") {
                    lease.fail("the render failed").await?;
                }
                outcome
            }
            Acquire::Held(Held { previous: Some(stale), .. })
            | Acquire::BackingOff(BackingOff { previous: Some(stale), .. }) => {
                self.shown(page, "stale", stale.page).await
            }
            Acquire::BackingOff(_) => Ok(json!({"event": "backing_off", "id": page.id})),
            other => bail!("acquired: {other:?}"),
        }
    }

    /// A page with its body, wherever that is.
    async fn shown(&self, asked: &TablePage, how: &str, page: Page) -> anyhow::Result<Value> {
        match page.body {
            PageBody::Inline(html) => Ok(asked.shown(how, &html, &page.metadata)),
            _ => {
                let served = self.coordinator.serve_page(&asked.entry(), &ServeOptions::default()).await?;
                let html = served.body.collect(PAGE_LIMIT_BYTES).await?;
                Ok(asked.shown(how, &html, &served.current.page().metadata))
            }
        }
    }

    async fn sidecar_of(&self, page: &TablePage) -> anyhow::Result<Value> {
        let html = self.sidecar(&page.entry(), &SidecarToken::new(&page.token)).await?;
        Ok(json!({"event": "found", "id": page.id, "html": html}))
    }

    async fn sidecar(&self, entry: &EntryRef, token: &SidecarToken) -> anyhow::Result<String> {
        let read = async || {
            let served = self.coordinator.serve_sidecar(entry, token, None).await?;
            served.body.collect(SIDECAR_LIMIT_BYTES).await
        };
        let bytes = match read().await {
            // A stream that breaks off in the middle is for its reader to begin again.
            Err(error) if error.is_retryable() => read().await?,
            first => first?,
        };
        Ok(String::from_utf8(bytes.to_vec())?)
    }
}

impl Served {
    fn of(how: &'static str, page: Page) -> anyhow::Result<Self> {
        let html = html_of(&page)?;
        let sidecar_token = page.sidecar_token.context("the page has a sidecar")?;
        Ok(Self { how, generation: page.generation, html, sidecar_token })
    }
}

impl TablePage {
    fn entry(&self) -> EntryRef {
        let TableEntry { tenant, deployment, path, key, request } = &self.entry;
        let named = match request {
            Some(request) => EntryRef::request(request.page_request()),
            None => EntryRef::key(key),
        };
        named.tenant(tenant).deployment(deployment).path(path)
    }
}

impl TablePage {
    /// Renders and commits it, or fails to.
    async fn render_under(&self, lease: &Lease) -> anyhow::Result<Value> {
        let id = &self.id;
        let Response { size, status, content_type, headers, tag, failure } =
            self.response.as_ref().context("what to render")?;
        if !matches!(failure.as_str(), "" | "refused") {
            return Ok(json!({"event": "failed", "id": id, "error": format!("no {id} today")}));
        }
        let mut html = id.repeat(1 + size / id.len());
        html.truncate(*size);
        let metadata = PageMetadata {
            status: if failure.is_empty() { *status } else { 503 },
            content_type: Some(content_type.clone()).filter(|text| !text.is_empty()),
            headers: headers.clone(),
            tags: vec![tag.clone()],
            ..PageMetadata::default()
        };
        lease.commit(&NewPage::new(html.clone()).metadata(metadata.clone())).await?;
        Ok(self.shown("render", html.as_bytes(), &metadata))
    }

    fn shown(&self, how: &str, html: &[u8], metadata: &PageMetadata) -> Value {
        json!({
            "event": "shown", "id": self.id, "how": how, "size": html.len(),
            "digest": hex::encode(Sha256::digest(html)), "status": metadata.status,
            "content_type": metadata.content_type.as_deref().unwrap_or("text/html; charset=utf-8"),
            "headers": metadata.headers.iter().cloned().collect::<BTreeMap<_, _>>(),
        })
    }
}

impl TableRequest {
    fn page_request(&self) -> PageRequest {
        let mut request =
            PageRequest::new(&self.route).cookie_variance(match self.cookie_variance.as_str() {
                "COOKIE_VARIANCE_NONE" => CookieVariance::None,
                "COOKIE_VARIANCE_ALLOWLIST" => CookieVariance::Allowlist(self.cookie_allowlist.clone()),
                _ => CookieVariance::All,
            });
        for NameValue { name, value } in &self.params {
            request = request.param(name, value);
        }
        for NameValues { name, values } in &self.query {
            request = request.query(name, values);
        }
        for NameValues { name, values } in &self.headers {
            request = request.header(name, values);
        }
        for NameValue { name, value } in &self.cookies {
            request = request.cookie(name, value);
        }
        if self.ignore_credentials { request.ignore_credentials() } else { request }
    }
}

/// Says what came of a page of the table: what was found, or how the coordinator refused.
fn tell(page: &TablePage, outcome: anyhow::Result<Value>) {
    let error = match outcome {
        Ok(report) => return say(&report),
        Err(error) => error,
    };
    let refusal = error.downcast_ref::<Error>().and_then(Error::refusal);
    let fields = refusal.into_iter().flat_map(|refusal| &refusal.fields);
    say(&json!({
        "event": "refused", "id": page.id,
        "reason": refusal.map_or("", |refusal| refusal.reason.as_str()),
        "metadata": refusal.map(|refusal| &refusal.metadata),
        "fields": fields.map(|violation| violation.field.as_str()).collect::<Vec<_>>(),
        "why": format!("{error:#}"),
    }));
}

fn html_of(page: &Page) -> anyhow::Result<String> {
    match &page.body {
        PageBody::Inline(html) => Ok(String::from_utf8(html.to_vec())?),
        other => bail!("no body: {other:?}"),
    }
}

fn token(text: &str) -> Option<ConsistencyToken> {
    (!text.is_empty()).then(|| ConsistencyToken::new(text))
}

fn say(report: &Value) {
    // Nobody reads any more: there is nobody to tell.
    let _ = writeln!(io::stdout(), "{report}");
}

fn one() -> usize {
    1
}
