//! What happens, for those who measure and those who are called at night.

use super::{Inner, State};
use std::{sync::Arc, time::Duration};

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A page or a piece of data was served.
    Served {
        /// How it came about.
        state: State,
        /// In so long.
        took: Duration,
    },
    /// There was none to serve.
    NotServed {
        /// Why.
        why: String,
        /// After so long.
        took: Duration,
    },
    /// A render failed, whether or not anybody waited for it.
    RenderFailed {
        /// Why.
        why: String,
    },
    /// A page was rendered, and is not kept: another's counts, or the coordinator could not be asked.
    NotCommitted {
        /// Why.
        why: String,
    },
    /// A page was rendered, and no coordinator takes one like it, such as one of too many tags: until it is another one, it is
    /// rendered for every request.
    Refused {
        /// Why.
        why: String,
    },
    /// The coordinator gave no answer.
    NoAnswer {
        /// Why.
        why: String,
    },
    /// The coordinator is asked only from time to time, from now on.
    CoordinatorLost,
    /// The coordinator answers again.
    CoordinatorFound,
}

/// Who is told.
pub(super) type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

impl Inner {
    pub(super) fn tell(&self, event: Event) {
        match &event {
            Event::Served { state, took } => tracing::debug!(
                isr.state = state.as_str(),
                monotonic_counter.isr_served = 1_u64,
                histogram.isr_seconds = took.as_secs_f64(),
                "served"
            ),
            Event::NotServed { why, took } => tracing::debug!(
                why,
                monotonic_counter.isr_not_served = 1_u64,
                histogram.isr_seconds = took.as_secs_f64(),
                "not served"
            ),
            Event::RenderFailed { why } => {
                tracing::warn!(why, monotonic_counter.isr_renders_failed = 1_u64, "a render failed");
            }
            Event::NotCommitted { why } => {
                tracing::info!(why, monotonic_counter.isr_not_committed = 1_u64, "rendered, and not kept");
            }
            Event::Refused { why } => {
                tracing::warn!(why, monotonic_counter.isr_refused = 1_u64, "a page is refused, and not kept");
            }
            Event::NoAnswer { why } => {
                tracing::info!(why, monotonic_counter.isr_no_answer = 1_u64, "no answer of the coordinator");
            }
            Event::CoordinatorLost => tracing::warn!("going on without the coordinator"),
            Event::CoordinatorFound => tracing::info!("the coordinator answers again"),
        }
        if let Some(listener) = &self.settings.listener {
            listener(&event);
        }
    }
}
