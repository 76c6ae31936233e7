//! `leasehold commit`: a page from files.

use super::{
    ClientFlags, Ending, Session,
    lease::{self, AcquireShape, WaitFlag, any_duration, request_id},
};
use crate::{
    exit::{Exit, Failure},
    quantity::bytes,
};
use bytes::Bytes;
use clap::Args;
use leasehold_client::{
    Acquire, AcquireOptions, Commit, Error, Lease, NewPage, PageMetadata, RequestId, SidecarToken,
};
use serde::Serialize;
use std::{
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) const JSON: &str = "\
JSON:
  {outcome: committed|committed_stale|superseded|fenced|ready|held|backing_off|ended,
   generation, size_bytes, etag, sidecar_token, html_object_name, sidecar_object_name,
   purged, newer_generation,
   page, regeneration, backoff: as in lease acquire}
html_object_name: of a body that did not change, that of the commit before.
committed_stale: an invalidation overtook it, so it is not fresh.
ready: the page is fresh already; invalidate it first.
Exits with 3 when the page did not become current.";

#[derive(Args, Clone, Debug)]
pub(crate) struct CommitFlags {
    /// The entry's key
    key: String,
    /// The HTML. `-` reads stdin
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
    /// The hydration sidecar that belongs to it. `-` reads stdin
    #[arg(long, value_name = "FILE")]
    sidecar: Option<PathBuf>,
    /// What the HTML is to be called, for `leasehold object`; a name that no other page ever had. Without it, the coordinator
    /// names it
    #[arg(long, value_name = "NAME.html")]
    html_name: Option<String>,
    /// What the sidecar is to be called
    #[arg(long, value_name = "NAME.hydration.json", requires = "sidecar")]
    sidecar_name: Option<String>,
    #[command(flatten)]
    wait: WaitFlag,
    #[command(flatten)]
    metadata: MetadataFlags,
    #[command(flatten)]
    held: HeldFlags,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Page")]
struct MetadataFlags {
    /// The content type
    #[arg(long, value_name = "TYPE", default_value = "text/html; charset=utf-8")]
    content_type: String,
    /// The status. 500 or more is a failed render, which is never committed
    #[arg(long, value_name = "STATUS", default_value = "200",
        value_parser = status)]
    status: u16,
    /// Fresh for so long. Without it, until invalidated; 0s: never
    #[arg(long, value_name = "DURATION", value_parser = any_duration())]
    revalidate: Option<Duration>,
    /// stale-while-revalidate: servable for so long after that, while it is regenerated
    #[arg(long, value_name = "DURATION", value_parser = any_duration())]
    swr: Option<Duration>,
    /// stale-if-error: servable for so long after --revalidate, when regeneration fails
    #[arg(long, value_name = "DURATION", value_parser = any_duration())]
    sie: Option<Duration>,
    /// A label to invalidate it by. May be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Its URL path, for invalidation by prefix
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// A response header. May be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
}

/// A lease that is held already.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Lease")]
struct HeldFlags {
    /// Commit under this lease of `lease acquire`, rather than acquire one
    #[arg(long, env = "LEASEHOLD_REQUEST_ID", hide_env_values = true, value_name = "HEX",
        value_parser = request_id, requires = "generation")]
    request_id: Option<RequestId>,
    /// Its generation
    #[arg(long, value_name = "NUMBER", requires = "request_id")]
    generation: Option<u64>,
}

fn status(text: &str) -> Result<u16, String> {
    let status = text.parse().ok().filter(|status| (200..500).contains(status));
    status.ok_or_else(|| "is no status that is committed; allowed: 200 to 499".to_owned())
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("is no header; allowed: 'name: value'".to_owned()),
    }
}

/// What `commit` answers.
#[derive(Debug, Serialize)]
struct CommitShape {
    generation: Option<u64>,
    size_bytes: usize,
    etag: Option<String>,
    sidecar_token: Option<String>,
    html_object_name: Option<String>,
    sidecar_object_name: Option<String>,
    purged: bool,
    newer_generation: Option<u64>,
    outcome: &'static str,
    #[serde(flatten)]
    why: lease::WhyNot,
}

impl CommitFlags {
    pub(super) async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let Self { key, html, sidecar, html_name, sidecar_name, metadata, wait, held, client: _ } = self;
        let stdin = Path::new("-");
        if html == stdin && sidecar.as_deref() == Some(stdin) {
            let message = "only one of --html and --sidecar can be stdin";
            return Err(Failure::new(Exit::Usage, message, "name a file for the other"));
        }
        let files = (html.clone(), sidecar.clone());
        // Before anything is acquired: a file that cannot be read must not keep others waiting.
        let html = read(&html)?;
        let sidecar = sidecar.as_deref().map(read).transpose()?;
        let (size_bytes, sidecar_bytes) = (html.len(), sidecar.as_ref().map_or(0, Bytes::len));
        let entry = session.entry(&key).path(metadata.path.clone().unwrap_or_default());
        let lease = match (held.request_id, held.generation) {
            (Some(request_id), Some(generation)) => {
                session.coordinator.adopt_lease(entry, request_id, generation)
            }
            _ => {
                let options = AcquireOptions { wait: wait.get(), ..AcquireOptions::default() };
                match session
                    .coordinator
                    .acquire(&entry, &options)
                    .await
                    .map_err(|error| session.failed(&error))?
                {
                    Acquire::Granted(lease) => lease,
                    other => return refused(session, &other, options.wait, size_bytes),
                }
            }
        };
        let mut page = NewPage::new(html).metadata(metadata.into());
        page.sidecar = sidecar.map(Into::into);
        (page.html_name, page.sidecar_name) = (html_name, sidecar_name);
        let committed = match lease.renew_while(None, lease.commit(&page)).await {
            Ok(committed) => committed,
            Err(error) => {
                let mut failure = session.failed(&error);
                if let Some(limit) = body_limit(&error) {
                    let (flag, file, size) = match files {
                        (_, Some(sidecar)) if size_bytes <= limit => ("--sidecar", sidecar, sidecar_bytes),
                        (html, _) => ("--html", html, size_bytes),
                    };
                    failure.message = format!(
                        "{flag} {} is too large: it has {size} bytes, and the coordinator takes up to {limit}",
                        file.display()
                    );
                    failure.advice =
                        Some("shrink it, or raise --max-body-bytes of the coordinator".to_owned());
                }
                // Else it would be held until it expires, for nothing. When this fails too, that is what
                // happens.
                if !error.may_have_been_applied() {
                    let _ = lease.release().await;
                }
                return Err(failure);
            }
        };
        report(session, &lease, committed, size_bytes)
    }
}

/// The most that the coordinator takes, where it refused a body for its size.
fn body_limit(error: &Error) -> Option<usize> {
    error.refusal()?.fields.iter().find_map(|wrong| {
        wrong.description.strip_prefix("is over the limit of ")?.strip_suffix(" bytes")?.parse().ok()
    })
}

fn read(path: &Path) -> Result<Bytes, Failure> {
    let read = if path == Path::new("-") {
        let mut all = Vec::new();
        std::io::stdin().lock().read_to_end(&mut all).map(|_| all)
    } else {
        std::fs::read(path)
    };
    read.map(Bytes::from).map_err(|error| {
        Failure::local(format!("cannot read {}: {error}", path.display()), "nothing was acquired or changed")
    })
}

impl From<MetadataFlags> for PageMetadata {
    fn from(flags: MetadataFlags) -> Self {
        let MetadataFlags { content_type, status, revalidate, swr, sie, tags, path, headers } = flags;
        Self {
            status,
            content_type: Some(content_type),
            headers,
            etag: None,
            revalidate,
            stale_while_revalidate: swr,
            stale_if_error: sie,
            tags,
            path,
            render_time: None,
        }
    }
}

fn refused(
    session: &Session,
    acquired: &Acquire,
    waited: Duration,
    size_bytes: usize,
) -> Result<Ending, Failure> {
    let AcquireShape { outcome, why, .. } = AcquireShape::from(acquired);
    let shape = CommitShape {
        outcome,
        generation: None,
        size_bytes,
        etag: None,
        sidecar_token: None,
        html_object_name: None,
        sidecar_object_name: None,
        purged: false,
        newer_generation: None,
        why,
    };
    session.output.result(&shape, || format!("not committed; {}", lease::why_not_text(acquired, waited)))?;
    Ok(Ending::NotReached)
}

fn report(session: &Session, lease: &Lease, committed: Commit, size_bytes: usize) -> Result<Ending, Failure> {
    let mut shape = CommitShape {
        outcome: "committed",
        generation: Some(lease.generation()),
        size_bytes,
        etag: None,
        sidecar_token: None,
        html_object_name: None,
        sidecar_object_name: None,
        purged: false,
        newer_generation: None,
        why: lease::WhyNot::default(),
    };
    let text_of = |token: Option<SidecarToken>| token.map(|token| token.as_str().to_owned());
    let (generation, size) = (lease.generation(), bytes(size_bytes as u64));
    let (text, ending) = match committed {
        Commit::Committed { etag, sidecar_token, html_object_name, sidecar_object_name } => {
            (shape.html_object_name, shape.sidecar_object_name) = (html_object_name, sidecar_object_name);
            let text = format!("committed generation {generation}, {size}, etag {etag}");
            (shape.etag, shape.sidecar_token) = (Some(etag), text_of(sidecar_token));
            (text, Ending::Done)
        }
        Commit::CommittedStale { etag, sidecar_token, purged, html_object_name, sidecar_object_name } => {
            (shape.html_object_name, shape.sidecar_object_name) = (html_object_name, sidecar_object_name);
            (shape.outcome, shape.purged) = ("committed_stale", purged);
            (shape.etag, shape.sidecar_token) = (Some(etag), text_of(sidecar_token));
            let served = if purged { "not served at all" } else { "only servable as stale" };
            (
                format!("committed generation {generation}, but an invalidation overtook it: it is {served}"),
                Ending::Done,
            )
        }
        Commit::Superseded { current_generation } => {
            (shape.outcome, shape.newer_generation) = ("superseded", Some(current_generation));
            (format!("superseded: generation {current_generation} is current"), Ending::NotReached)
        }
        Commit::Fenced { latest_generation } => {
            (shape.outcome, shape.newer_generation) = ("fenced", Some(latest_generation));
            let why = if latest_generation == 0 {
                "the entry is not known: another key, tenant or deployment?".to_owned()
            } else if latest_generation == generation {
                "it was given back or failed before".to_owned()
            } else {
                format!("latest generation {latest_generation}")
            };
            (format!("fenced: the lease is not held any more ({why})"), Ending::NotReached)
        }
    };
    session.output.result(&shape, || {
        let beside = [
            ("sidecar token", &shape.sidecar_token),
            ("html name", &shape.html_object_name),
            ("sidecar name", &shape.sidecar_object_name),
        ];
        let lines =
            beside.into_iter().filter_map(|(what, value)| Some(format!("\n{what} {}", value.as_ref()?)));
        lines.fold(text, |text, line| text + &line)
    })?;
    Ok(ending)
}
