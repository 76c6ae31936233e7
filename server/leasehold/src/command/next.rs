//! What happens next with an entry, in a sentence: derived from how things stand, by the rules of the core.

use super::{explain::left, lease::failures};
use crate::{quantity::rough, shape::rfc3339};
use leasehold_client::{EntryState, Lookup, StaleReason};
use serde::Serialize;
use std::time::SystemTime;

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Next {
    /// For programs.
    pub(super) code: &'static str,
    /// For people.
    pub(super) text: String,
}

/// Judged in the order in which an acquire judges.
pub(super) fn of(outcome: &Lookup, state: &EntryState, now: SystemTime) -> Next {
    let say = |code, text| Next { code, text };
    if let Lookup::Fresh(fresh) = outcome {
        return match fresh.fresh_for {
            Some(span) => say(
                "fresh",
                format!("fresh for {}, then the next request renders it{}", rough(span), meanwhile(state)),
            ),
            None => say("fresh_until_invalidated", "fresh until it is invalidated".to_owned()),
        };
    }
    if let Some(lease) = state.lease.as_ref().filter(|lease| !lease.expired && !lease.overtaken) {
        let text = format!(
            "held by {} for up to {} unless renewed; {}",
            lease.owner,
            rough(left(lease.expires_at, now)),
            others(outcome)
        );
        return say("rendering", text);
    }
    if let Some(backoff) = &state.backoff
        && let Some(until) = backoff.not_before.filter(|until| *until > now)
    {
        let text = format!(
            "backing off until {}, for {}, after {}: until then no lease is granted, and {}",
            rfc3339(until),
            rough(left(Some(until), now)),
            failures(backoff.failures),
            served(outcome)
        );
        return say("backing_off", text);
    }
    if let Some(lease) = &state.lease {
        let late = format!("a late commit of {} counts as long as nobody is", lease.owner);
        return if lease.overtaken {
            let seq =
                state.invalidation.as_ref().map(|newest| format!(" {}", newest.seq)).unwrap_or_default();
            say(
                "overtaken",
                format!(
                    "overtaken by invalidation{seq}: the next acquire is granted at once; {late}, as stale"
                ),
            )
        } else {
            say("lease_expired", format!("the lease has expired: the next acquire is granted; {late}"))
        };
    }
    if let Lookup::Stale(stale) = outcome
        && stale.reason == StaleReason::Unverified
    {
        let text = "the coordinator must read its invalidation log before it calls anything fresh; the page \
                    is servable as stale meanwhile";
        return say("unverified", text.to_owned());
    }
    say("render", format!("the next request renders it; until then {}", served(outcome)))
}

fn meanwhile(state: &EntryState) -> String {
    let metadata = state.pointer.as_ref().map(|page| &page.metadata);
    match metadata.and_then(|metadata| metadata.stale_while_revalidate) {
        Some(window) => {
            format!(", and the page stays servable for {} meanwhile", crate::quantity::exact(window))
        }
        None => String::new(),
    }
}

fn others(outcome: &Lookup) -> &'static str {
    match outcome {
        Lookup::Fresh(_) | Lookup::Stale(_) => "others wait for its page, or serve the stale one",
        Lookup::Missing(_) => "others wait for its page",
    }
}

fn served(outcome: &Lookup) -> &'static str {
    match outcome {
        Lookup::Fresh(_) | Lookup::Stale(_) => "the page is servable as stale",
        Lookup::Missing(_) => "there is nothing to serve",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use leasehold_client::{
        BackoffState, Depth, FreshPage, InvalidationState, LeaseState, MissingReason, Page, PageBody,
        PageMetadata, StalePage,
    };
    use std::time::Duration;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn after(seconds: u64) -> Option<SystemTime> {
        Some(NOW + Duration::from_secs(seconds))
    }

    fn page() -> Page {
        Page {
            generation: 1,
            metadata: PageMetadata::default(),
            generated_at: Some(NOW),
            age: Duration::ZERO,
            body: PageBody::Omitted,
            size_bytes: 0,
            digest: Bytes::new(),
            sidecar_token: None,
            html_object_name: None,
            sidecar_object_name: None,
        }
    }

    fn fresh(seconds: Option<u64>) -> Lookup {
        Lookup::Fresh(FreshPage { page: page(), fresh_for: seconds.map(Duration::from_secs) })
    }

    fn stale(reason: StaleReason) -> Lookup {
        let (stale_while_revalidate_for, stale_if_error_for) = (None, None);
        Lookup::Stale(StalePage { page: page(), reason, stale_while_revalidate_for, stale_if_error_for })
    }

    const MISSING: Lookup = Lookup::Missing(MissingReason::NeverRendered);

    fn state() -> EntryState {
        EntryState {
            tenant: "default".into(),
            deployment: None,
            key: "k".into(),
            generation: 1,
            pointer: None,
            fresh_until: None,
            body_gone: false,
            lease: None,
            backoff: None,
            invalidation: Some(InvalidationState {
                seq: 7,
                at: after(0),
                scopes: Vec::new(),
                depth: Depth::Soft,
                applies: true,
            }),
            log_position: 7,
            log_age: None,
            log_verified: true,
            seen: 0,
        }
    }

    fn leased(expired: bool, overtaken: bool) -> EntryState {
        let lease = LeaseState {
            owner: "w1".into(),
            generation: 2,
            granted_at: after(0),
            expires_at: after(4),
            hold_until: after(900),
            expired,
            overtaken,
        };
        EntryState { lease: Some(lease), ..state() }
    }

    fn failed(pause: u64, state: EntryState) -> EntryState {
        let backoff = BackoffState {
            failures: 2,
            not_before: after(pause),
            failed_at: after(0),
            reason: "boom".into(),
        };
        EntryState { backoff: Some(backoff), ..state }
    }

    #[test]
    fn every_state_says_what_happens_next() {
        let expired = || stale(StaleReason::Expired);
        let table = [
            (fresh(Some(12)), state(), "fresh", "fresh for 12s, then the next request renders it"),
            (fresh(None), state(), "fresh_until_invalidated", "until it is invalidated"),
            (MISSING, state(), "render", "the next request renders it; until then there is nothing to serve"),
            (expired(), state(), "render", "servable as stale"),
            (
                expired(),
                leased(false, false),
                "rendering",
                "held by w1 for up to 4s unless renewed; others wait",
            ),
            (MISSING, leased(false, false), "rendering", "others wait for its page"),
            (
                expired(),
                leased(false, true),
                "overtaken",
                "invalidation 7: the next acquire is granted at once",
            ),
            (
                expired(),
                leased(true, false),
                "lease_expired",
                "the next acquire is granted; a late commit of w1 counts",
            ),
            (
                expired(),
                failed(3, state()),
                "backing_off",
                "until 1970-01-01T00:00:03.000Z, for 3s, after 2 failed renders",
            ),
            (MISSING, failed(3, leased(true, false)), "backing_off", "there is nothing to serve"),
            (expired(), failed(0, state()), "render", "the next request renders it"),
            (stale(StaleReason::Unverified), state(), "unverified", "must read its invalidation log"),
        ];
        for (outcome, state, code, part) in table {
            let next = of(&outcome, &state, NOW);
            assert_eq!(next.code, code, "{next:?}");
            assert!(next.text.contains(part), "{part} is missing from {next:?}");
        }
    }
}
