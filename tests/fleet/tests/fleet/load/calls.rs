//! The calls that the load makes. What is answered goes to the ledger, which judges it; an outage is no
//! answer.

use super::{
    Asked, Worker,
    draft::{Draft, Shape},
    entry,
    ledger::Known,
};
use bytes::Bytes;
use leasehold_client::{
    Acquire, AcquireOptions, BodyDelivery, Commit, Consistency, ConsistencyToken, Depth, Error, Lease,
    LookupOptions, PageBody, Reason, RequestId, Scope, ServeOptions,
};
use rand::{Rng as _, rngs::StdRng};
use std::time::Duration;

/// A lease, and what is to be committed under it.
pub(crate) struct Render {
    lease: Lease,
    request_id: RequestId,
    draft: Draft,
}

impl Worker {
    /// `None`: no answer, another's lease, or a page that is fresh.
    pub(crate) async fn acquire(
        &self,
        key: &str,
        ttl: Duration,
        shape: Shape,
        consistency_token: Option<ConsistencyToken>,
        random: &mut StdRng,
    ) -> Option<Render> {
        let request_id = self.patient.new_request_id();
        let options = AcquireOptions {
            ttl: Some(ttl),
            wait: Duration::from_secs(1),
            consistency_token,
            request_id: Some(request_id),
            ..Default::default()
        };
        let previous = self.ledger.newest_draft(key);
        let known = self.ledger.known(key);
        match self.heard(key, self.patient.acquire(&entry(key), &options).await)? {
            Acquire::Granted(lease) => {
                let draft = Draft::new(lease.generation(), previous, shape, random);
                self.ledger.granted(key, &known, request_id, lease.generation(), draft);
                Some(Render { lease, request_id, draft })
            }
            Acquire::Ready(current) => {
                self.ledger.served(key, &known, &current, None);
                None
            }
            Acquire::Held(_) => None,
            other => panic!("{key}: an acquire that nobody repeated is {other:?}"),
        }
    }

    /// Repeats the acquire of a lease that nobody else can have taken: the answer is the same. It waits, as the first one did:
    /// another coordinator may have to look first whether what it remembers has ended.
    pub(crate) async fn acquire_again(&self, key: &str, render: &Render) {
        let wait = Duration::from_secs(5);
        let options = AcquireOptions { wait, request_id: Some(render.request_id), ..Default::default() };
        match self.heard(key, self.patient.acquire(&entry(key), &options).await) {
            Some(Acquire::Granted(lease)) => {
                assert_eq!(lease.generation(), render.lease.generation(), "{key}")
            }
            Some(other) => panic!("{key}: {:?}, asked for again, is {other:?}", render.lease),
            None => {}
        }
    }

    /// Commits until it has an answer: at first, in one turn of two, with a client that gives up at once.
    pub(crate) async fn commit(&self, key: &str, render: &Render, random: &mut StdRng) -> Commit {
        let Render { lease, request_id, draft } = render;
        let page = draft.page(key);
        let hasty = self.hasty.adopt_lease(entry(key), *request_id, lease.generation());
        let mut is_hasty = random.random_ratio(1, 2);
        let mut was_in_doubt = false;
        loop {
            let outcome = if is_hasty { hasty.commit(&page).await } else { lease.commit(&page).await };
            if is_hasty && outcome.is_err() {
                self.ledger.count(|tally| tally.gave_up_at_once += 1);
            }
            if outcome.as_ref().is_err_and(Error::may_have_been_applied) {
                was_in_doubt = true;
                self.ledger.count(|tally| tally.in_doubt += 1);
            }
            let heard = match outcome {
                Err(error) if is_hasty && error.is_retryable() => None,
                outcome => self.heard(key, outcome),
            };
            is_hasty = false;
            let Some(answer) = heard else { continue };
            self.ledger.answered(key, lease.generation(), &answer, was_in_doubt);
            return answer;
        }
    }

    /// Commits the newest attempts once more, as a worker does that has forgotten the answer.
    pub(crate) async fn repeat_commits(&self, key: &str, most: usize) {
        for (generation, attempt) in self.ledger.newest_answered(key, most) {
            let lease = self.patient.adopt_lease(entry(key), attempt.request_id, generation);
            if let Some(answer) = self.heard(key, lease.commit(&attempt.draft.page(key)).await) {
                self.ledger.answered(key, generation, &answer, false);
            }
        }
    }

    /// Invalidates until it is acknowledged, and in one turn of three once more: that is the same
    /// invalidation.
    pub(crate) async fn invalidate(&self, key: &str, random: &mut StdRng) {
        let depth = if random.random_ratio(1, 4) { Depth::Hard } else { Depth::Soft };
        let scope = match random.random_range(0..3) {
            0 => Scope::key(key),
            1 => Scope::tag(key),
            _ => Scope::path_prefix(format!("/{key}")),
        };
        let request_id = self.patient.new_request_id();
        let nth = self.ledger.invalidating(key, depth);
        let mut wanted = if random.random_ratio(1, 3) { 2 } else { 1 };
        while wanted > 0 {
            let scopes = std::slice::from_ref(&scope);
            if let Some(token) = self.heard(key, self.patient.invalidate_as(request_id, scopes, depth).await)
            {
                self.ledger.invalidated(key, nth, token);
                wanted -= 1;
            }
        }
    }

    /// Looks up what is current, then serves it with its sidecar.
    pub(crate) async fn read(&self, key: &str, is_strict: bool) {
        let consistency = if is_strict { Consistency::Strict } else { Consistency::Bounded };
        let known = self.known(key, consistency);
        let consistency_token = known.token.clone();
        let body = BodyDelivery::Inline;
        let options = LookupOptions { consistency, consistency_token, body, ..Default::default() };
        let Some(reply) = self.heard(key, self.patient.lookup(&entry(key), &options).await) else { return };
        match reply.outcome.into_page() {
            None => self.ledger.missing(key, &known),
            Some(current) => {
                let PageBody::Inline(html) = &current.page().body else {
                    panic!("{key}: no body in {current:?}");
                };
                self.ledger.served(key, &known, &current, Some(html));
            }
        }
        self.serve(key, consistency).await;
    }

    async fn serve(&self, key: &str, consistency: Consistency) {
        const LIMIT_BYTES: u64 = 16 << 20;
        let known = self.known(key, consistency);
        let options = ServeOptions { consistency, consistency_token: known.token.clone() };
        let served = match self.patient.serve_page(&entry(key), &options).await {
            Err(error) if error.reason() == Some(&Reason::PageNotFound) => {
                return self.ledger.missing(key, &known);
            }
            other => self.heard(key, other),
        };
        let Some(served) = served else { return };
        let Some(html) = self.whole(key, served.body.collect(LIMIT_BYTES).await) else { return };
        let attempt = self.ledger.served(key, &known, &served.current, Some(&html));
        let expected = attempt.draft.sidecar(key);
        let token = &served.current.page().sidecar_token;
        assert_eq!(token.is_some(), expected.is_some(), "{key}: a sidecar is lost, or is another's");
        let (Some(token), Some(expected)) = (token, expected) else { return };
        let sidecar = match self.patient.serve_sidecar(&entry(key), token, None).await {
            Err(error) if error.reason() == Some(&Reason::SidecarNotFound) => {
                return self.ledger.sidecar_missing(key, served.current.page().generation);
            }
            other => self.heard(key, other),
        };
        let Some(sidecar) = sidecar else { return };
        let Some(bytes) = self.whole(key, sidecar.body.collect(LIMIT_BYTES).await) else { return };
        assert_eq!(bytes, expected, "{key}: the sidecar is of another generation");
        self.ledger.count(|tally| tally.sidecars_checked += 1);
    }

    /// A body, if all of it came. Who was cut off in the middle of one asks anew, as this load does in its next round.
    fn whole(&self, key: &str, body: Result<Bytes, Error>) -> Option<Bytes> {
        match body {
            Err(error) if error.is_retryable() => {
                self.ledger.count(|tally| tally.bodies_cut += 1);
                None
            }
            body => self.heard(key, body),
        }
    }

    /// What the answer may not be behind of.
    fn known(&self, key: &str, consistency: Consistency) -> Known {
        let known = self.ledger.known(key);
        match (self.asked, consistency) {
            (Asked::Several, Consistency::Bounded) => known.but_for_commits(),
            (Asked::One, _) | (_, Consistency::Strict) => known,
        }
    }

    /// The answer, if there is one. A refusal for good is a broken promise: nothing here is asked wrongly.
    fn heard<T>(&self, key: &str, outcome: Result<T, Error>) -> Option<T> {
        match outcome {
            Ok(answer) => Some(answer),
            Err(error) if error.is_retryable() => {
                self.ledger.count(|tally| tally.calls_failed += 1);
                None
            }
            Err(error) => panic!("{key}: refused for good: {error:?}"),
        }
    }
}
