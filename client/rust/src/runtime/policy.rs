//! How pages are to be served.

use std::time::Duration;

/// How a page is served, and regenerated.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Whether a request waits for a page that is out of date.
    pub mode: Mode,
    /// How long a page stays fresh, unless its render says otherwise; zero: not at all. Default: 60 s.
    pub revalidate: Duration,
    /// For how long after that a page may be served when it cannot be regenerated. Default: as long as `revalidate`.
    pub stale_if_error: Option<Duration>,
    /// What a request does while another renders. Default: waits for 30 s.
    pub on_contention: OnContention,
    /// What a request gets when its render fails. Default: the previous page.
    pub on_failure: OnFailure,
    /// How long the lease lasts without renewal: 100 ms to the coordinator's limit. `None`: the coordinator's default
    /// (10 s). It is renewed while the page is rendered, and until its commit is answered.
    pub lease_ttl: Option<Duration>,
    /// How long a render may take; one that takes longer counts as failed. `None`: as long as it likes.
    pub render_timeout: Option<Duration>,
}

/// Whether a request waits for a page that is out of date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It waits: nobody is served a stale page while it can be regenerated.
    #[default]
    Blocking,
    /// It is served the stale page, and the page is regenerated in the background: until so long after the end of its
    /// `revalidate`, also where it was invalidated before that. Beyond that, it waits.
    StaleWhileRevalidate {
        /// So long.
        window: Duration,
    },
}

/// What a request does while another renders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnContention {
    /// Waits for the other's page, at most so long, cut down to the coordinator's limit; then it is served the previous one.
    Wait(Duration),
    /// Is served the previous page. Where there is none, it waits for 30 s.
    ServeStale,
}

/// What a request gets when its render fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The previous page, as long as its stale-if-error lasts; else the error.
    #[default]
    ServeStale,
    /// The error.
    Error,
}

/// How long a request waits for another's render by default.
pub(super) const WAIT: Duration = Duration::from_secs(30);

impl Default for Policy {
    fn default() -> Self {
        Self::blocking(Duration::from_secs(60))
    }
}

impl Policy {
    /// Pages are fresh for so long, and nobody is served a stale one while it can be regenerated.
    pub fn blocking(revalidate: Duration) -> Self {
        Self {
            mode: Mode::Blocking,
            revalidate,
            stale_if_error: None,
            on_contention: OnContention::Wait(WAIT),
            on_failure: OnFailure::ServeStale,
            lease_ttl: None,
            render_timeout: None,
        }
    }

    /// Pages are fresh for so long, and for the time of the window after that they are served while they are regenerated.
    pub fn stale_while_revalidate(revalidate: Duration, window: Duration) -> Self {
        Self { mode: Mode::StaleWhileRevalidate { window }, ..Self::blocking(revalidate) }
    }

    pub(super) fn window(&self) -> Option<Duration> {
        match self.mode {
            Mode::Blocking => None,
            Mode::StaleWhileRevalidate { window } => Some(window),
        }
    }

    pub(super) fn stale_if_error(&self) -> Duration {
        self.stale_if_error.unwrap_or(self.revalidate)
    }
}
