//! `leasehold watch`: commits and invalidations as they happen.

use super::{ClientFlags, Ending, Session};
use crate::{
    exit::Failure,
    shape::{self, ScopeShape},
};
use clap::Args;
use leasehold_client::{
    PageCommitted, PagesInvalidated, ResumeToken, ResyncReason, WatchEvent, WatchFilter, WatchMessage,
};
use serde::Serialize;

pub(crate) const JSON: &str = "\
JSON, one object per line; each has `event` and `resume_token`:
  {event: started}
  {event: committed, tenant, deployment, key, generation, tags, stale}
  {event: invalidated, scopes: [{tenant, scope, value}], depth: soft|hard, at,
   consistency_token}
  {event: resync, reason: other_run|too_old|slow}
  {event: progress}
  {event: end}, last: on Ctrl-C and SIGTERM, or when there has been no coordinator for the
   whole --timeout
Commits are those that go through the coordinator that is asked; invalidations are those of all
coordinators.";

#[derive(Args, Clone, Debug)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub(crate) struct WatchFlags {
    /// Pages with this tag. May be repeated
    #[arg(long = "tag", value_name = "TAG", group = "what")]
    tags: Vec<String>,
    /// The entry of this key, in every release. May be repeated
    #[arg(long = "key", value_name = "KEY", group = "what")]
    keys: Vec<String>,
    /// Every page of the tenant
    #[arg(long, group = "what")]
    tenant_wide: bool,
    /// Go on after the message with this resume token
    #[arg(long, value_name = "TOKEN")]
    resume: Option<String>,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

/// One line.
#[derive(Debug, Serialize)]
struct LineShape {
    #[serde(flatten)]
    event: EventShape,
    resume_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum EventShape {
    Started,
    Progress,
    Resync {
        reason: &'static str,
    },
    Committed {
        tenant: String,
        deployment: Option<String>,
        key: String,
        generation: u64,
        tags: Vec<String>,
        stale: bool,
    },
    Invalidated {
        scopes: Vec<ScopeShape>,
        depth: &'static str,
        at: Option<String>,
        consistency_token: String,
    },
    /// One that this release does not know.
    Other,
    End,
}

impl WatchFlags {
    pub(super) async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let Self { tags, keys, tenant_wide, resume, client: _ } = self;
        let tenant = session.tenant();
        let mut filters: Vec<_> = tags.into_iter().map(|tag| WatchFilter::tag(tag).tenant(tenant)).collect();
        filters.extend(keys.into_iter().map(|key| WatchFilter::key(key).tenant(tenant)));
        if tenant_wide {
            filters.push(WatchFilter::whole_tenant(tenant));
        }
        let mut interrupted = std::pin::pin!(interruption()?);
        let mut watch = session.coordinator.watch(&filters, resume.map(ResumeToken::new));
        let failure = loop {
            let next = tokio::select! {
                biased;
                () = &mut interrupted => break None,
                next = watch.next() => next,
            };
            match next {
                Some(Ok(message)) => LineShape::from(message).print(session)?,
                Some(Err(error)) => break Some(session.failed(&error)),
                None => break None,
            }
        };
        let resume_token = watch.resume_token().map(|token| token.as_str().to_owned());
        LineShape { event: EventShape::End, resume_token }.print(session)?;
        failure.map_or(Ok(Ending::Done), Err)
    }
}

/// Ctrl-C, or a polite word from whoever started this. Listened for before the watch begins.
#[cfg(unix)]
fn interruption() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let deaf = |error| Failure::local(format!("cannot listen for signals: {error}"), "");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(deaf)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(deaf)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Ctrl-C.
#[cfg(not(unix))]
fn interruption() -> Result<impl Future<Output = ()>, Failure> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

impl From<WatchMessage> for LineShape {
    fn from(WatchMessage { resume_token, event }: WatchMessage) -> Self {
        let event = match event {
            WatchEvent::Started => EventShape::Started,
            WatchEvent::Progress => EventShape::Progress,
            WatchEvent::Resync(reason) => EventShape::Resync { reason: resync_reason(reason) },
            WatchEvent::Committed(PageCommitted { tenant, deployment, key, generation, tags, stale }) => {
                EventShape::Committed { tenant, deployment, key, generation, tags, stale }
            }
            WatchEvent::Invalidated(PagesInvalidated { scopes, depth, at, consistency_token }) => {
                EventShape::Invalidated {
                    scopes: scopes.iter().map(ScopeShape::from).collect(),
                    depth: shape::depth(depth),
                    at: at.map(shape::rfc3339),
                    consistency_token: consistency_token.as_str().to_owned(),
                }
            }
            _ => EventShape::Other,
        };
        Self { event, resume_token: Some(resume_token.as_str().to_owned()) }
    }
}

fn resync_reason(reason: ResyncReason) -> &'static str {
    match reason {
        ResyncReason::OtherRun => "other_run",
        ResyncReason::TooOld => "too_old",
        ResyncReason::Slow => "slow",
        _ => "other",
    }
}

impl LineShape {
    fn print(&self, session: &Session) -> Result<(), Failure> {
        session.output.result(self, || self.text())
    }

    /// For people; nothing where nothing happened.
    fn text(&self) -> String {
        match &self.event {
            EventShape::Started => "started".to_owned(),
            EventShape::Progress | EventShape::Other => String::new(),
            EventShape::Resync { reason } => {
                format!("resync       events were missed ({reason}): look up what matters")
            }
            EventShape::Committed { key, generation, tags, stale, deployment, .. } => {
                let release =
                    deployment.as_deref().map(|name| format!(" of release {name}")).unwrap_or_default();
                let tags = if tags.is_empty() { String::new() } else { format!(", tags {}", tags.join(" ")) };
                let stale = if *stale { ", stale: an invalidation overtook it" } else { "" };
                format!("committed    {key}{release}, generation {generation}{tags}{stale}")
            }
            EventShape::Invalidated { scopes, depth, consistency_token, .. } => {
                let scopes: Vec<_> = scopes.iter().map(ScopeShape::text).collect();
                format!("invalidated  {}, {depth}, token {consistency_token}", scopes.join(", "))
            }
            EventShape::End => match &self.resume_token {
                Some(token) => format!("ended; go on with --resume {token}"),
                None => "ended".to_owned(),
            },
        }
    }
}
