//! Answers in short, to be compared.

use super::{Code, Coordinator, Status};
use leasehold_proto::v1::{
    self, MissingReason, StaleReason, acquire_lease_response::Outcome as Acquired,
    lookup_response::Outcome as Looked, page_ready,
};
use prometheus_client::registry::Registry;
use tonic_types::StatusExt as _;

/// An answer to a lookup: what it says, and of which generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Fresh(u64),
    Stale(u64, StaleReason),
    Missing(MissingReason),
}

impl Seen {
    pub(crate) fn is_fresh(self) -> bool {
        matches!(self, Self::Fresh(_))
    }
}

pub(crate) fn seen(response: &v1::LookupResponse) -> Seen {
    match response.outcome.as_ref().expect("an outcome") {
        Looked::Fresh(fresh) => Seen::Fresh(fresh.page.as_ref().expect("a page").generation),
        Looked::Stale(stale) => Seen::Stale(stale_generation(stale), stale.reason()),
        Looked::Missing(missing) => Seen::Missing(missing.reason()),
    }
}

/// The page in an answer to a lookup.
pub(crate) fn page_of(response: &v1::LookupResponse) -> &v1::Page {
    let page = match response.outcome.as_ref().expect("an outcome") {
        Looked::Fresh(fresh) => fresh.page.as_ref(),
        Looked::Stale(stale) => stale.page.as_ref(),
        Looked::Missing(_) => None,
    };
    page.expect("a page")
}

/// The body that came along with a page.
pub(crate) fn html_of(page: &v1::Page) -> Option<&str> {
    match page.body.as_ref()? {
        v1::page::Body::Inline(bytes) => Some(std::str::from_utf8(bytes).expect("text")),
        v1::page::Body::Url(_) => None,
    }
}

fn stale_generation(stale: &v1::StalePage) -> u64 {
    stale.page.as_ref().expect("a page").generation
}

/// An answer to an acquire, with the generations in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    Granted { generation: u64, previous: Option<u64> },
    Fresh(u64),
    Stale(u64, StaleReason),
    Held { generation: u64, previous: Option<u64> },
    BackingOff { failures: u32, reason: String, previous: Option<u64> },
    Ended,
}

impl Took {
    pub(crate) fn of(outcome: &Acquired) -> Self {
        let previous = |page: &Option<v1::StalePage>| page.as_ref().map(stale_generation);
        match outcome {
            Acquired::Granted(grant) => {
                Self::Granted { generation: grant.generation, previous: previous(&grant.previous) }
            }
            Acquired::Ready(ready) => match ready.page.as_ref().expect("a page") {
                page_ready::Page::Fresh(fresh) => {
                    Self::Fresh(fresh.page.as_ref().expect("a page").generation)
                }
                page_ready::Page::Stale(stale) => Self::Stale(stale_generation(stale), stale.reason()),
            },
            Acquired::Held(held) => Self::Held {
                generation: held.regeneration.as_ref().map_or(0, |regeneration| regeneration.generation),
                previous: previous(&held.previous),
            },
            Acquired::BackingOff(backing_off) => Self::BackingOff {
                failures: backing_off.failures,
                reason: backing_off.reason.clone(),
                previous: previous(&backing_off.previous),
            },
            Acquired::Ended(_) => Self::Ended,
        }
    }
}

/// An error as callers branch on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) reason: String,
    /// The field of bad input.
    pub(crate) field: Option<String>,
    /// Whether it says when to try again.
    pub(crate) has_retry_info: bool,
}

pub(crate) fn refusal(status: &Status) -> Refusal {
    let details = status.get_error_details();
    let info = details.error_info();
    if let Some(info) = info {
        assert_eq!(info.domain, "leasehold");
    }
    let violation = details.bad_request().and_then(|bad| bad.field_violations.first());
    Refusal {
        code: status.code(),
        reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
        field: violation.map(|violation| violation.field.clone()),
        has_retry_info: details.retry_info().is_some(),
    }
}

/// Something in the metadata of an error.
pub(crate) fn metadata(status: &Status, name: &str) -> Option<String> {
    status.get_error_details().error_info()?.metadata.get(name).cloned()
}

/// That a call failed with this code and reason.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(
    result: Result<T, Status>,
    code: Code,
    reason: &str,
) -> Status {
    let status = result.expect_err("a refusal");
    let refusal = refusal(&status);
    assert_eq!((refusal.code, refusal.reason.as_str()), (code, reason), "{status:?}");
    status
}

/// How many places are taken, as the metrics show it.
pub(crate) fn taken(node: &Coordinator, what: &str) -> usize {
    shown(node, &format!("places_taken{{what=\"{what}\"}}")).expect("a limit")
}

/// A number of the metrics.
pub(crate) fn shown(node: &Coordinator, sample: &str) -> Option<usize> {
    let mut registry = Registry::default();
    leasehold_service::meters::register(&node.engine, &mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}
