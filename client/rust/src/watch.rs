//! Commits and invalidations as they happen.

use crate::{
    ConsistencyToken, Coordinator, Depth, Error, ResumeToken, Scope, clock,
    link::Place,
    wire::{self, FromWire, Malformed},
};
use futures::{Stream, stream};
use leasehold_proto::v1 as pb;
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use tokio::time::timeout;
use tonic::{Request, Streaming};

/// What to watch. Of the tenant `default`, until [`tenant`](Self::tenant) says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchFilter {
    tenant: String,
    what: Watched,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Watched {
    WholeTenant,
    Tag(String),
    Key(String),
}

impl WatchFilter {
    /// All of the tenant.
    pub fn whole_tenant(tenant: impl Into<String>) -> Self {
        Self { tenant: tenant.into(), what: Watched::WholeTenant }
    }

    /// Pages with this tag.
    pub fn tag(tag: impl Into<String>) -> Self {
        Self { tenant: String::new(), what: Watched::Tag(tag.into()) }
    }

    /// The entry of this key, in every release.
    pub fn key(key: impl Into<String>) -> Self {
        Self { tenant: String::new(), what: Watched::Key(key.into()) }
    }

    /// Of this tenant.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }

    fn to_wire(&self) -> pb::WatchFilter {
        use pb::watch_filter::Filter;
        let filter = match &self.what {
            Watched::WholeTenant => Filter::WholeTenant(pb::WholeTenant {}),
            Watched::Tag(tag) => Filter::Tag(tag.clone()),
            Watched::Key(key) => Filter::Key(key.clone()),
        };
        pb::WatchFilter { tenant: self.tenant.clone(), filter: Some(filter) }
    }
}

/// Something that happened, and where the watch stands after it.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchMessage {
    /// Present it to [`Coordinator::watch`] to go on after this message, also in another process.
    pub resume_token: ResumeToken,
    /// What happened.
    pub event: WatchEvent,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WatchEvent {
    /// The watch stands; everything from here on comes. Also each time that it stands again.
    Started,
    /// Events were missed: look up what matters.
    Resync(ResyncReason),
    /// A page became current.
    Committed(PageCommitted),
    /// Pages were invalidated.
    Invalidated(PagesInvalidated),
    /// Nothing happened for a while.
    Progress,
}

/// Why a watch has a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResyncReason {
    /// The resume token is of another coordinator, or of another run of it.
    OtherRun,
    /// What came after the resume token is no longer kept.
    TooOld,
    /// This watcher read too slowly.
    Slow,
    /// One that this version does not know.
    Other(i32),
}

/// A page that became current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageCommitted {
    /// Whose.
    pub tenant: String,
    /// Of which release.
    pub deployment: Option<String>,
    /// Its key.
    pub key: String,
    /// Its generation.
    pub generation: u64,
    /// Its tags.
    pub tags: Vec<String>,
    /// An invalidation overtook it: it is not fresh.
    pub stale: bool,
}

/// Pages that were invalidated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PagesInvalidated {
    /// The scopes, as far as they concern what is watched.
    pub scopes: Vec<Scope>,
    /// How deep.
    pub depth: Depth,
    /// When, by the coordinator's clock: for people.
    pub at: Option<SystemTime>,
    /// Present it to see pages as of this invalidation.
    pub consistency_token: ConsistencyToken,
}

impl Coordinator {
    /// Watches commits and invalidations: 1 to 100 filters. With `resume`, goes on after the message that carried it;
    /// else begins now. Nothing is sent until [`Watch::next`] is called.
    pub fn watch(&self, filters: &[WatchFilter], resume: Option<ResumeToken>) -> Watch {
        Watch {
            coordinator: self.clone(),
            filters: filters.iter().map(WatchFilter::to_wire).collect(),
            resume,
            open: None,
            failures: 0,
            is_renewed: false,
            asked_pause: None,
            over: false,
        }
    }
}

/// A watch. Reconnects by itself, and goes on where it stood; where it cannot, [`WatchEvent::Resync`] says so.
pub struct Watch {
    coordinator: Coordinator,
    filters: Vec<pb::WatchFilter>,
    resume: Option<ResumeToken>,
    open: Option<(Streaming<pb::WatchResponse>, Place, u64)>,
    /// In a row.
    failures: u32,
    /// Refused for its token, which was renewed since.
    is_renewed: bool,
    asked_pause: Option<Duration>,
    over: bool,
}

/// A coordinator says every 15 s, by default, that it is there.
const SILENCE: Duration = Duration::from_secs(60);

impl Watch {
    /// The next message. Nothing is lost when the future is dropped. `None`: after an error that is not retryable.
    ///
    /// # Errors
    /// A retryable one says that there has been no watch for the overall timeout: call again to go on trying.
    pub async fn next(&mut self) -> Option<Result<WatchMessage, Error>> {
        let patience = self.coordinator.shared.limits.overall;
        let deadline = clock::later(clock::now(), patience);
        while !self.over {
            let error = match self.step().await {
                Ok(Some(message)) => return Some(Ok(message)),
                Ok(None) => continue,
                Err(error) => error,
            };
            self.failures = self.failures.saturating_add(1);
            self.asked_pause = error.retry_after();
            if let Some((_, place, generation)) = self.open.take() {
                let lanes = &self.coordinator.shared.lanes;
                let is_over = error.is_unauthenticated() && lanes.identity_is_over();
                if is_over || error.suspects_connection() {
                    place.link().replace(generation);
                }
            }
            let renews = self.coordinator.shared.may_renew_identity(&error) && !self.is_renewed;
            self.is_renewed |= renews;
            self.over = !error.is_retryable() && !renews;
            if self.over || clock::now() >= deadline {
                return Some(Err(error));
            }
            tracing::debug!(failures = self.failures, %error, "watch is resumed");
        }
        None
    }

    /// Where the watch stands.
    pub fn resume_token(&self) -> Option<&ResumeToken> {
        self.resume.as_ref()
    }

    /// The messages as a stream, which ends after an error that is not retryable.
    pub fn into_stream(self) -> impl Stream<Item = Result<WatchMessage, Error>> + Send {
        stream::unfold(self, |mut watch| async move { watch.next().await.map(|message| (message, watch)) })
    }

    /// Connects, or reads one message.
    async fn step(&mut self) -> Result<Option<WatchMessage>, Error> {
        let Some((messages, ..)) = &mut self.open else {
            return self.connect().await.map(|()| None);
        };
        let message = match timeout(SILENCE, messages.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return Err(Error::Broken("the coordinator ended the watch".into())),
            Ok(Err(status)) => return Err(Error::from_status(status)),
            Err(_) => return Err(Error::TimedOut { after: SILENCE }),
        };
        let pb::WatchResponse { resume_token, event } = message;
        let resume_token = ResumeToken::new(resume_token);
        if !resume_token.as_str().is_empty() {
            self.resume = Some(resume_token.clone());
        }
        let event = match wire::required(event, "the event of a watch")? {
            pb::watch_response::Event::Ended(pb::WatchEnded {}) => {
                return Err(Error::Broken("the coordinator goes down".into()));
            }
            event => WatchEvent::from_wire(event)?,
        };
        self.is_renewed = false;
        if event != WatchEvent::Started {
            self.failures = 0;
        }
        Ok(Some(WatchMessage { resume_token, event }))
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let shared = &self.coordinator.shared;
        if self.failures > 0 {
            let pause = shared.random.jittered(shared.retry.backoff(self.failures));
            tokio::time::sleep(self.asked_pause.map_or(pause, |asked| asked + pause)).await;
        }
        let place = shared.lanes.waiting();
        let (generation, mut client) = place.link().client();
        let resume_token = self.resume.as_ref().map(|token| token.as_str().to_owned()).unwrap_or_default();
        let request = Request::new(pb::WatchRequest { filters: self.filters.clone(), resume_token });
        let limit = shared.limits.attempt;
        let error = match timeout(limit, client.watch(request)).await {
            Ok(Ok(response)) => {
                self.open = Some((response.into_inner(), place, generation));
                return Ok(());
            }
            Ok(Err(status)) => Error::from_status(status),
            Err(_) => Error::TimedOut { after: limit },
        };
        if shared.lanes.are_suspect(&error) {
            place.link().replace(generation);
        }
        Err(error)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("filters", &self.filters.len())
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}

impl FromWire<pb::watch_response::Event> for WatchEvent {
    fn from_wire(wire: pb::watch_response::Event) -> Result<Self, Malformed> {
        use pb::watch_response::Event;
        Ok(match wire {
            Event::Started(pb::WatchStarted {}) => Self::Started,
            Event::Resync(pb::WatchResync { reason }) => Self::Resync(resync_reason(reason)),
            Event::Committed(committed) => {
                let pb::PageCommitted { tenant, deployment, key, generation, tags, stale } = committed;
                let deployment = wire::non_empty(deployment);
                Self::Committed(PageCommitted { tenant, deployment, key, generation, tags, stale })
            }
            Event::Invalidated(pb::PagesInvalidated { scopes, depth, at, consistency_token }) => {
                Self::Invalidated(PagesInvalidated {
                    scopes: scopes.into_iter().map(Scope::from_wire).collect::<Result<_, _>>()?,
                    depth: Depth::from_wire(depth),
                    at: wire::timestamp(at)?,
                    consistency_token: ConsistencyToken::new(consistency_token),
                })
            }
            Event::Progress(pb::WatchProgress {}) => Self::Progress,
            Event::Ended(pb::WatchEnded {}) => return Err(Malformed("the end of a watch")),
        })
    }
}

fn resync_reason(wire: i32) -> ResyncReason {
    match pb::ResyncReason::try_from(wire) {
        Ok(pb::ResyncReason::OtherRun) => ResyncReason::OtherRun,
        Ok(pb::ResyncReason::TooOld) => ResyncReason::TooOld,
        Ok(pb::ResyncReason::Slow) => ResyncReason::Slow,
        Ok(pb::ResyncReason::Unspecified) | Err(_) => ResyncReason::Other(wire),
    }
}
