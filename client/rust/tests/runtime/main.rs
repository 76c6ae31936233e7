//! What a worker's runtime makes of the coordinator's answers, and of their absence.

#[path = "../mock/mod.rs"]
mod mock;

mod background;
mod data;
mod invalidation;
mod layer;
mod outage;
mod rendering;
mod table;
mod uncached;

use bytes::Bytes;
use leasehold_client::{
    Builder as CallBuilder, Coordinator, EntryRef, RetryPolicy,
    runtime::{Builder, Event, Policy, Runtime, ServeError, Served},
};
use leasehold_proto::v1 as pb;
use mock::{Mock, Network, Reply, Step, seconds};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A runtime before a scripted coordinator, and what it tells.
struct Stage {
    mock: Mock,
    runtime: Runtime,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Stage {
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(configure: impl FnOnce(Builder) -> Builder) -> Self {
        Self::before(Coordinator::builder(), configure)
    }

    /// Every scripted refusal is heard: none is answered by a repetition of the call.
    fn without_retries() -> Self {
        Self::before(Coordinator::builder().retry(RetryPolicy::never()), |builder| builder)
    }

    fn before(coordinator: CallBuilder, configure: impl FnOnce(Builder) -> Builder) -> Self {
        let mock = Mock::default();
        let coordinator = Network::new(&mock).client(coordinator);
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = events.clone();
        let builder = Runtime::builder(coordinator).on_event(move |event| told.lock().push(event.clone()));
        Self { mock, runtime: configure(builder).build(), events }
    }

    async fn serve(&self, policy: &Policy) -> Result<Served, ServeError> {
        self.runtime.serve(&entry(), policy, |_| async { Ok::<_, std::io::Error>("rendered") }).await
    }

    fn script_lookup(&self, replies: impl IntoIterator<Item = pb::lookup_response::Outcome>) {
        let reply = |outcome| pb::LookupResponse { outcome: Some(outcome), ..Default::default() };
        self.mock
            .script("lookup", replies.into_iter().map(|outcome| Step::Reply(Reply::Lookup(reply(outcome)))));
    }

    fn script_acquire(&self, outcome: pb::acquire_lease_response::Outcome) {
        self.mock.script("acquire", [Step::Reply(Reply::Acquire(outcome))]);
    }

    fn told(&self, which: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().iter().filter(|event| which(event)).count()
    }
}

fn entry() -> EntryRef {
    EntryRef::key("k").path("/p")
}

/// A page of a minute, that is so many seconds old.
fn page(html: &str, age: i64) -> pb::Page {
    pb::Page {
        generation: 5,
        metadata: Some(pb::PageMetadata {
            etag: "\"v5\"".into(),
            revalidate: seconds(60),
            content_type: "text/html; charset=utf-8".into(),
            ..Default::default()
        }),
        age: seconds(age),
        body: Some(pb::page::Body::Inline(Bytes::copy_from_slice(html.as_bytes()))),
        ..Default::default()
    }
}

fn fresh(html: &str) -> pb::lookup_response::Outcome {
    pb::lookup_response::Outcome::Fresh(pb::FreshPage { page: Some(page(html, 20)), fresh_for: seconds(40) })
}

/// Expired 20 s ago, with so much left of its windows.
fn expired(html: &str, while_revalidating: Option<i64>, if_error: Option<i64>) -> pb::StalePage {
    pb::StalePage {
        page: Some(page(html, 80)),
        reason: pb::StaleReason::Expired.into(),
        stale_while_revalidate_for: while_revalidating.and_then(seconds),
        stale_if_error_for: if_error.and_then(seconds),
    }
}

fn stale(html: &str) -> pb::lookup_response::Outcome {
    pb::lookup_response::Outcome::Stale(expired(html, None, Some(40)))
}

fn missing() -> pb::lookup_response::Outcome {
    let reason = pb::MissingReason::NeverRendered.into();
    pb::lookup_response::Outcome::Missing(pb::MissingPage { reason })
}

fn held(previous: Option<pb::StalePage>) -> pb::acquire_lease_response::Outcome {
    pb::acquire_lease_response::Outcome::Held(pb::LeaseHeld {
        regeneration: Some(pb::Regeneration { owner: "other".into(), generation: 6, remaining: seconds(3) }),
        previous,
    })
}

fn backing_off(previous: Option<pb::StalePage>) -> pb::acquire_lease_response::Outcome {
    pb::acquire_lease_response::Outcome::BackingOff(pb::BackingOff {
        remaining: Some(prost_types::Duration { seconds: 2, nanos: 500_000_000 }),
        failures: 3,
        reason: "no database".into(),
        previous,
    })
}

/// A grant of generation 7, with what was there before.
fn granted(previous: Option<pb::StalePage>) -> pb::acquire_lease_response::Outcome {
    pb::acquire_lease_response::Outcome::Granted(pb::LeaseGrant {
        generation: 7,
        remaining: seconds(10),
        renewable_for: seconds(300),
        sidecar_token: "c2lkZWNhcg".into(),
        previous,
        ..Default::default()
    })
}

fn ready(html: &str) -> pb::acquire_lease_response::Outcome {
    let page =
        pb::FreshPage { page: Some(pb::Page { generation: 6, ..page(html, 0) }), fresh_for: seconds(60) };
    pb::acquire_lease_response::Outcome::Ready(pb::PageReady {
        page: Some(pb::page_ready::Page::Fresh(page)),
    })
}

fn text(served: &Served) -> &str {
    std::str::from_utf8(&served.html).unwrap()
}
