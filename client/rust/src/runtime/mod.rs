//! What a render worker embeds: it serves pages and data through the coordinator, renders what is missing or out of date, and
//! goes on without the coordinator where it has to.
//!
//! ```no_run
//! # async fn page() -> Result<(), Box<dyn std::error::Error>> {
//! use leasehold_client::{Coordinator, EntryRef, runtime::{Policy, Runtime}};
//! use std::time::Duration;
//!
//! let runtime = Runtime::new(Coordinator::new("http://127.0.0.1:7420")?);
//! let policy = Policy::stale_while_revalidate(Duration::from_secs(60), Duration::from_secs(600));
//! let entry = EntryRef::key("acme::/about?").tenant("acme").path("/about");
//! let served = runtime
//!     .serve(&entry, &policy, |_context| async { Ok::<_, std::io::Error>("<h1>About</h1>") })
//!     .await?;
//! println!("{}: {} bytes", served.state, served.html.len());
//! # Ok(())
//! # }
//! ```
//!
//! What becomes of a request, and what it is told in the state header:
//!
//! | the page is | [`Mode::Blocking`] | [`Mode::StaleWhileRevalidate`] |
//! |---|---|---|
//! | fresh | `hit` | `hit` |
//! | stale | renders it: `miss`; or waits for whoever does: `wait-hit` | `stale`, and it is rendered in the background; once its window is over, as on the left |
//! | missing | renders it: `miss`; or waits: `wait-hit` | the same |
//! | being rendered by another for longer than [`OnContention`] allows | `stale`; there is none: rendered without being kept, `bypass` | the same |
//! | not to be rendered, or the render failed | [`OnFailure`]: `stale`, or [`ServeError`] | the same |
//! | not to be asked for, as the coordinator cannot be reached or does not answer | `stale-metadata-error`: the last one that this process knows; there is none: rendered without being kept, `bypass` | the same |
//! | for one request only ([`Rendered::uncached`]) | rendered without being kept, `bypass`; and so are those after it, at once and without waiting for one another ([`Builder::remember_uncached`]) | the same |
//! | not to be kept, as the coordinator refuses what comes of its render, such as one of too many tags or headers | the same as for one request only, for as long | the same |
//! | not to be named, such as one whose path is over the limit | rendered without being kept, `bypass` | the same |
//!
//! An outage of the coordinator never makes an error of a page that can be rendered. After three calls in a row without an
//! answer, the coordinator is asked only every half second until it answers again, by one request that waits for it 400 ms at
//! most, and those that wait for an answer, or for another's page, go on without: so that an outage does not cost every request a
//! timeout.
//!
//! A visitor who goes away does not end the render: it has a task of its own, in which the lease is renewed and given back,
//! with the reason when the render fails, panics, or takes too long. Nor does a visitor wait for the commit any longer than for
//! any answer: that goes on as a task too, under the lease, for as long as the body takes on its way.
//!
//! Everything is told to `tracing`, under the target `leasehold_client::runtime`: an event for each request, with its state and
//! how long it took, as fields by the names that `tracing-opentelemetry` makes metrics of; a warning for each render that failed,
//! in the background too, for each page that the coordinator refused, and when it is lost and found. [`Builder::on_event`] gets the
//! same.

mod answer;
mod asking;
mod background;
mod circuit;
mod committing;
mod copies;
mod data;
mod event;
mod invalidations;
mod pages;
mod policy;
mod render;
mod request;
mod service;
mod uncached;

pub use answer::{ServeError, Served, State};
pub use background::{Background, Handed};
pub use data::{Data, DataError, InvalidNamespace};
pub use event::Event;
pub use policy::{Mode, OnContention, OnFailure, Policy};
pub use render::{BoxError, RenderContext, RenderError, Rendered};
pub use request::{SIDECAR_PARAM, TENANT_HEADERS, page_request};
pub use service::{FailureReason, Isr, IsrLayer, PageRoute, Sidecar};

use crate::{Coordinator, Depth, Error, Scope};
use background::Tasks;
use circuit::Circuit;
use copies::{Copies, LocalKey};
use event::Listener;
use http::HeaderName;
use invalidations::Invalidations;
use parking_lot::Mutex;
use std::{collections::HashSet, fmt, sync::Arc, time::Duration};
use uncached::Uncached;

/// Serves pages and data through a coordinator. Cheap to clone; clones are the same one.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    coordinator: Coordinator,
    settings: Settings,
    circuit: Circuit,
    copies: Copies,
    uncached: Uncached,
    tasks: Tasks,
    /// What is being regenerated in the background: once at a time for each entry.
    refreshing: Mutex<HashSet<LocalKey>>,
    invalidations: Invalidations,
    /// What is being replaced, because it cannot be read.
    replacing: data::Turns,
}

/// What the builder settles.
struct Settings {
    patience: Duration,
    background: Background,
    state_header: HeaderName,
    max_body_bytes: u64,
    listener: Option<Listener>,
}

impl Inner {
    /// What is known of this entry, or of any; and what is on its way.
    fn forget(&self, only: Option<LocalKey>) {
        self.copies.invalidate(only);
        match only {
            Some(key) => self.uncached.forget(key),
            None => self.uncached.forget_all(),
        }
    }
}

impl Settings {
    /// How long a visitor waits for a coordinator that did not answer before.
    fn trial(&self) -> Duration {
        self.patience.min(circuit::TRIAL)
    }
}

/// Configures a [`Runtime`].
pub struct Builder {
    coordinator: Coordinator,
    settings: Settings,
    copies_bytes: u64,
    copies_max_age: Duration,
    uncached_span: Duration,
}

impl Builder {
    /// How long the coordinator has to answer, before a request goes on without it. Waits for others' renders come on top of
    /// that, and so does the time that a large page takes to arrive; one that takes longer on its way to the coordinator is
    /// served as `bypass` by who rendered it, and committed after that. While the coordinator is lost, a request that tries it
    /// again waits for 400 ms at most. Default: 2 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }

    /// Where pages are regenerated that were served stale. Default: in tasks of the runtime's.
    pub fn background(mut self, background: Background) -> Self {
        self.settings.background = background;
        self
    }

    /// The header that tells the [`State`]. Default: `x-isr-state`.
    pub fn state_header(mut self, name: HeaderName) -> Self {
        self.settings.state_header = name;
        self
    }

    /// The largest page to read, in bytes. Default: 16 MiB.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.settings.max_body_bytes = bytes;
        self
    }

    /// How much of the last known pages is kept in memory, in bytes, and for how long after the coordinator was last heard
    /// of them they may be served; zero bytes: none. They may have been invalidated since, hard too. Default: 64 MiB, an hour.
    pub fn last_known_pages(mut self, bytes: u64, max_age: Duration) -> Self {
        (self.copies_bytes, self.copies_max_age) = (bytes, max_age);
        self
    }

    /// For how long it is remembered that the render of an entry came out as [`Rendered::uncached`], or was refused by the
    /// coordinator, of at most 4096 entries. For so long, requests for it that find no page to serve are rendered at once, without the lease: as `bypass`, and as
    /// many at a time as there are. The first render that comes out for everybody ends that, unless such a one was refused; and
    /// so do one that fails, a page that another worker has committed, and an invalidation by this runtime. After the span, one request takes the lease to
    /// find out, while the others go on without. Zero: each takes the lease, and so they are rendered one after the other in
    /// the whole fleet. Default: 10 s, which is long enough for one in many to be the only one that takes the lease; what
    /// Varnish calls hit-for-miss lasts 120 s there.
    pub fn remember_uncached(mut self, span: Duration) -> Self {
        self.uncached_span = span;
        self
    }

    /// Is told of everything that happens, at once and in the task in which it does: it must not block.
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.settings.listener = Some(Arc::new(listener));
        self
    }

    /// The runtime. Nothing is asked of the coordinator yet.
    pub fn build(self) -> Runtime {
        let Self { coordinator, settings, copies_bytes, copies_max_age, uncached_span } = self;
        Runtime(Arc::new(Inner {
            coordinator,
            settings,
            circuit: Circuit::default(),
            copies: Copies::new(copies_bytes, copies_max_age),
            uncached: Uncached::new(uncached_span),
            tasks: Tasks::default(),
            refreshing: Mutex::default(),
            invalidations: Invalidations::default(),
            replacing: data::Turns::default(),
        }))
    }
}

impl Runtime {
    /// With the defaults.
    pub fn new(coordinator: Coordinator) -> Self {
        Self::builder(coordinator).build()
    }

    /// A builder, with the defaults until told otherwise.
    pub fn builder(coordinator: Coordinator) -> Builder {
        Builder {
            coordinator,
            settings: Settings {
                patience: Duration::from_secs(2),
                background: Background::Spawn,
                state_header: HeaderName::from_static("x-isr-state"),
                max_body_bytes: 16 << 20,
                listener: None,
            },
            copies_bytes: 64 << 20,
            copies_max_age: Duration::from_secs(3600),
            uncached_span: Duration::from_secs(10),
        }
    }

    /// What it asks.
    pub fn coordinator(&self) -> &Coordinator {
        &self.0.coordinator
    }

    /// The header that tells the [`State`].
    pub fn state_header(&self) -> &HeaderName {
        &self.0.settings.state_header
    }

    /// Invalidates, as [`Coordinator::invalidate`] does. All that this runtime serves afterwards takes it into account; and
    /// no copy that it kept before is served any more. Any number may be under way at a time: none waits for another.
    ///
    /// # Errors
    /// As [`Coordinator::invalidate`].
    pub async fn invalidate(&self, scopes: &[Scope], depth: Depth) -> Result<(), Error> {
        self.invalidate_known(scopes, depth, None).await
    }

    /// Of the copies, only this one is concerned; `None`: any may be.
    async fn invalidate_known(
        &self,
        scopes: &[Scope],
        depth: Depth,
        only: Option<LocalKey>,
    ) -> Result<(), Error> {
        // Before the call, which may have been applied whatever comes of it; and after it, for what was asked meanwhile.
        self.0.forget(only);
        let begun = self.0.invalidations.begin();
        let token = self.0.coordinator.invalidate(scopes, depth).await?;
        self.0.invalidations.answered(begun, token);
        self.0.forget(only);
        Ok(())
    }

    /// Waits until nothing is left to do in the background: in a Lambda, before the invocation ends. That includes leases that
    /// may yet be granted to calls whose caller has gone, which are given back.
    pub async fn finish_background(&self) {
        self.0.tasks.finish().await;
    }

    /// Gives up every render, and waiting for those of others; gives back their leases, and waits for that. What is asked later is
    /// rendered no more.
    pub async fn stop(&self) {
        self.0.tasks.stop(self.0.settings.patience).await;
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("coordinator", &self.0.coordinator).finish_non_exhaustive()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("coordinator", &self.coordinator).finish_non_exhaustive()
    }
}
