//! Calls by the real client, written down in the checker's types.

use super::{Load, Seat, named};
use crate::{
    machine::derived,
    recorder::{Journal, millis},
};
use bytes::Bytes;
use leasehold_checker::history::{Absence, Call, EntryIndex, Names, Outcome, Reason, Rendered, Scope, Seen};
use leasehold_client::{
    Acquire, AcquireOptions, BodyDelivery, Commit, Consistency, Coordinator, CurrentPage, Depth, Error,
    FreshPage, Lease, Lookup, LookupOptions, MissingReason, NewPage, Page, PageBody, Reason as Why, Release,
    Renewal, RequestId, ServeOptions, SidecarToken, StalePage, StaleReason, Target,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// Somebody who asks: two handles of their own, which rarely meet the same coordinator.
pub struct Caller {
    pub(super) load: Load,
    pub(super) seat: Seat,
    pub(super) rng: StdRng,
    handles: [Coordinator; 2],
    /// How long a call of its may take, waiting aside.
    overall: Duration,
}

/// A page that was looked up, and what its sidecar is asked for by.
pub(super) struct Found {
    pub(super) operation: usize,
    pub(super) page: Option<Page>,
    pub(super) is_fresh: bool,
}

impl Caller {
    /// The caller of this number in its seat.
    pub fn new(load: &Load, seat: &Seat, number: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(derived(seat.seed, &[3, number]));
        let overall = seat.pace.patience.choose(&mut rng).copied().unwrap_or_default();
        let handle = |which| (seat.connect)(overall, 2 * number + which);
        Self { load: load.clone(), seat: seat.clone(), rng, handles: [0, 1].map(handle), overall }
    }

    /// For something that goes on beside this one.
    pub(super) fn beside(&mut self) -> Self {
        Self {
            load: self.load.clone(),
            seat: self.seat.clone(),
            rng: StdRng::seed_from_u64(self.rng.random()),
            handles: self.handles.clone(),
            overall: self.overall,
        }
    }

    pub(super) fn an_entry(&mut self) -> EntryIndex {
        self.rng.random_range(0..self.load.entries.len())
    }

    pub(super) fn a_request_id(&self) -> RequestId {
        self.handles[0].new_request_id()
    }

    fn begin(&self, call: Call, wait: Duration) -> usize {
        self.seat.journal.begin(call, self.overall + wait)
    }

    fn end(&self, operation: usize, outcome: Outcome) {
        self.seat.journal.end(operation, outcome);
    }

    /// Looks an entry up, by a call or by the stream, or has its page served: the answers are the same.
    pub(super) async fn lookup(&mut self, entry: EntryIndex, strict: bool) -> Found {
        let consistency = if strict { Consistency::Strict } else { Consistency::Bounded };
        let token = if super::one_in(&mut self.rng, 4) { self.load.token(&mut self.rng) } else { None };
        let (knows, token) = token.unzip();
        let with_body = super::one_in(&mut self.rng, 2);
        let is_served = super::one_in(&mut self.rng, 6);
        let reference = named(&self.load.entries[entry]);
        let operation = self.begin(
            Call::Lookup { entry, strict, knows },
            if is_served { self.seat.pace.body } else { Duration::ZERO },
        );
        let (outcome, page) = if is_served {
            let options = ServeOptions { consistency, consistency_token: token };
            match self.handles[0].serve_page(&reference, &options).await {
                Ok(served) => match served.body.collect(1 << 20).await {
                    Ok(bytes) => current(served.current, Some(&bytes)),
                    Err(error) => (failed(&error), None),
                },
                // Whether it was never there or must not be served any more, it does not say.
                Err(error) if error.reason() == Some(&Why::PageNotFound) => {
                    (Outcome::Missing(Absence::Untold), None)
                }
                Err(error) => (failed(&error), None),
            }
        } else {
            let options = LookupOptions {
                consistency,
                consistency_token: token,
                body: if with_body { BodyDelivery::Inline } else { BodyDelivery::None },
                ..LookupOptions::default()
            };
            match self.handles[0].lookup(&reference, &options).await {
                Ok(reply) => match reply.outcome {
                    Lookup::Fresh(fresh) => current(CurrentPage::Fresh(fresh), None),
                    Lookup::Stale(stale) => current(CurrentPage::Stale(stale), None),
                    Lookup::Missing(MissingReason::NeverRendered) => {
                        (Outcome::Missing(Absence::NeverRendered), None)
                    }
                    Lookup::Missing(MissingReason::Purged) => (Outcome::Missing(Absence::Purged), None),
                    Lookup::Missing(_) => (Outcome::Missing(Absence::BodyGone), None),
                },
                Err(error) => (failed(&error), None),
            }
        };
        let is_fresh = matches!(outcome, Outcome::Fresh(_));
        self.end(operation, outcome);
        Found { operation, page, is_fresh }
    }

    /// Fetches the sidecar of a page that was looked up.
    pub(super) async fn sidecar(
        &mut self,
        entry: EntryIndex,
        of: usize,
        generation: u64,
        token: &SidecarToken,
    ) {
        self.fetch(entry, Call::Sidecar { entry, generation, of }, token).await;
    }

    /// Asks for it as if it were the sidecar of another entry.
    pub(super) async fn foreign_sidecar(&mut self, entry: EntryIndex, of: usize, token: &SidecarToken) {
        self.fetch(entry, Call::ForeignSidecar { entry, of }, token).await;
    }

    async fn fetch(&mut self, entry: EntryIndex, call: Call, token: &SidecarToken) {
        let reference = named(&self.load.entries[entry]);
        let operation = self.begin(call, self.seat.pace.body);
        let outcome = match self.handles[0].serve_sidecar(&reference, token, None).await {
            Ok(served) => match served.body.collect(1 << 20).await {
                Ok(bytes) => Outcome::Sidecar(digest(&bytes)),
                Err(error) => failed(&error),
            },
            Err(error) if error.reason() == Some(&Why::SidecarNotFound) => Outcome::NoSidecar,
            Err(error) => failed(&error),
        };
        self.end(operation, outcome);
    }

    /// Asks for a body by its name.
    pub(super) async fn object(&mut self, tenant: &str, name: &str) {
        let call = Call::Object { tenant: tenant.to_owned(), name: name.to_owned() };
        let operation = self.begin(call, self.seat.pace.body);
        let handle = self.rng.random_range(0..self.handles.len());
        let outcome = match self.handles[handle].serve_object(tenant, name, None).await {
            Ok(served) => {
                let told = hex::encode(&served.digest);
                match served.body.collect(1 << 20).await {
                    Ok(bytes) => Outcome::Object { told, bytes: digest(&bytes) },
                    Err(error) => failed(&error),
                }
            }
            Err(error) if error.reason() == Some(&Why::ObjectNotFound) => Outcome::NoObject,
            Err(error) => failed(&error),
        };
        self.end(operation, outcome);
    }

    /// Asks for a lease by a request id, through one of the handles.
    pub(super) async fn acquire(
        &mut self,
        handle: usize,
        entry: EntryIndex,
        attempt: RequestId,
        (wait, ttl): (Duration, Duration),
    ) -> Option<Lease> {
        let token = if super::one_in(&mut self.rng, 5) { self.load.token(&mut self.rng) } else { None };
        let (knows, consistency_token) = token.unzip();
        let options = AcquireOptions {
            ttl: Some(ttl),
            wait,
            consistency_token,
            body: if super::one_in(&mut self.rng, 2) { BodyDelivery::Inline } else { BodyDelivery::None },
            request_id: Some(attempt),
            ..AcquireOptions::default()
        };
        let reference = named(&self.load.entries[entry]);
        let call =
            Call::Acquire { entry, attempt: number(attempt), wait: millis(wait), ttl: millis(ttl), knows };
        let operation = self.begin(call, wait);
        // Whoever loses interest drops the call.
        let abandoning = Abandon { journal: &*self.seat.journal, operation, armed: true };
        let answer = self.handles[handle].acquire(&reference, &options).await;
        abandoning.disarm();
        let (outcome, lease) = match answer {
            Ok(Acquire::Granted(lease)) => {
                let previous = lease.previous().map(|stale| seen(&stale.page, None));
                (Outcome::Granted { generation: lease.generation(), previous }, Some(lease))
            }
            Ok(Acquire::Ready(page)) => (current(page, None).0, None),
            Ok(Acquire::Held(held)) => (Outcome::Held { previous: previous(held.previous) }, None),
            Ok(Acquire::BackingOff(pause)) => {
                (Outcome::BackingOff { previous: previous(pause.previous) }, None)
            }
            Ok(Acquire::Ended) => (Outcome::Ended, None),
            Err(error) => (failed(&error), None),
        };
        self.end(operation, outcome);
        lease
    }

    /// The same lease, by way of the other handle.
    pub(super) fn elsewhere(&self, entry: EntryIndex, lease: &Lease) -> Lease {
        self.handles[1].adopt_lease(named(&self.load.entries[entry]), lease.request_id(), lease.generation())
    }

    /// Whether it was refused for the sake of its names.
    pub(super) async fn commit(
        &self,
        entry: EntryIndex,
        lease: &Lease,
        page: &NewPage,
        rendered: &Rendered,
    ) -> bool {
        let call = Call::Commit {
            entry,
            attempt: number(lease.request_id()),
            generation: lease.generation(),
            page: rendered.clone(),
        };
        // Its bodies may be uploaded first, each by a call of its own.
        let operation = self.begin(call, 2 * (self.overall + Duration::from_secs(1)));
        let outcome = match lease.commit(page).await {
            Ok(Commit::Committed { html_object_name: html, sidecar_object_name: sidecar, .. }) => {
                Outcome::Committed { names: Names { html, sidecar } }
            }
            Ok(Commit::CommittedStale {
                purged,
                html_object_name: html,
                sidecar_object_name: sidecar,
                ..
            }) => Outcome::CommittedStale { purged, names: Names { html, sidecar } },
            Ok(Commit::Superseded { current_generation }) => {
                Outcome::Superseded { current: current_generation }
            }
            Ok(Commit::Fenced { latest_generation }) => Outcome::Fenced { latest: latest_generation },
            Err(error) if is_for_its_names(&error) => Outcome::NameTaken,
            Err(error) => failed(&error),
        };
        if let Outcome::Committed { names } | Outcome::CommittedStale { names, .. } = &outcome {
            self.load.names.lock().committed(&self.load.entries[entry].tenant, names);
        }
        let is_refused = outcome == Outcome::NameTaken;
        self.end(operation, outcome);
        is_refused
    }

    /// Whether it is worth while to ask again.
    pub(super) async fn renew(&self, entry: EntryIndex, lease: &Lease, ttl: Duration) -> bool {
        let call = Call::Renew { entry, generation: lease.generation(), ttl: millis(ttl) };
        let operation = self.begin(call, Duration::ZERO);
        // It is dropped when the render ends.
        let abandoning = Abandon { journal: &*self.seat.journal, operation, armed: true };
        let answer = lease.renew(Some(ttl)).await;
        abandoning.disarm();
        let (outcome, may_last) = match answer {
            Ok(Renewal::Renewed { .. }) => (Outcome::Renewed, true),
            Ok(Renewal::Lost) => (Outcome::Lost, false),
            Err(error) => (failed(&error), error.is_retryable()),
        };
        self.end(operation, outcome);
        may_last
    }

    pub(super) async fn give_back(&self, entry: EntryIndex, lease: &Lease, is_failure: bool) {
        let operation = self.begin(Call::Release { entry, generation: lease.generation() }, Duration::ZERO);
        let released = if is_failure { lease.fail("it rained").await } else { lease.release().await };
        let outcome = match released {
            Ok(Release::Released) => Outcome::Released,
            Ok(Release::NotHeld) => Outcome::NotHeld,
            Err(error) => failed(&error),
        };
        self.end(operation, outcome);
    }

    pub(super) async fn invalidate(&self, handle: usize, id: RequestId, scopes: &[Scope], hard: bool) {
        let operation = self
            .begin(Call::Invalidate { attempt: number(id), scopes: scopes.to_vec(), hard }, Duration::ZERO);
        let depth = if hard { Depth::Hard } else { Depth::Soft };
        let wire: Vec<_> = scopes.iter().map(scope).collect();
        match self.handles[handle].invalidate_as(id, &wire, depth).await {
            Ok(token) => {
                self.end(operation, Outcome::Invalidated);
                self.load.tokens.lock().push((operation, token));
            }
            Err(error) => self.end(operation, failed(&error)),
        }
    }

    pub(super) fn handle(&self) -> &Coordinator {
        &self.handles[0]
    }

    pub(super) fn begin_watch(&self, lasting: Duration) -> usize {
        self.begin(Call::Watch, lasting)
    }

    pub(super) fn end_watch(&self, operation: usize, outcome: Outcome) {
        self.end(operation, outcome);
    }
}

/// Tells the history that a call was dropped.
struct Abandon<'a> {
    journal: &'a dyn Journal,
    operation: usize,
    armed: bool,
}

impl Abandon<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.journal.abandon(self.operation);
        }
    }
}

pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(super) fn failed(error: &Error) -> Outcome {
    let why = match (error.reason(), error) {
        (Some(reason), _) => format!("{reason:?}"),
        (None, Error::NotSent(_)) => "NotSent".into(),
        (None, Error::Broken(_)) => "Broken".into(),
        (None, Error::TimedOut { .. }) => "TimedOut".into(),
        (None, Error::DeadlineExceeded { .. }) => "DeadlineExceeded".into(),
        (None, Error::InDoubt(_)) => "InDoubt".into(),
        (None, other) => format!("{other:?}"),
    };
    Outcome::Failed { in_doubt: error.may_have_been_applied(), why }
}

/// Whether a commit was refused, without effect, as a body of another lease has one of the names, or had it a moment ago.
fn is_for_its_names(error: &Error) -> bool {
    error.reason() == Some(&Why::ObjectConflict) && !error.may_have_been_applied()
}

/// A request id as the history has it.
fn number(id: RequestId) -> u128 {
    u128::from_be_bytes(id.expose())
}

fn current(page: CurrentPage, bytes: Option<&Bytes>) -> (Outcome, Option<Page>) {
    match page {
        CurrentPage::Fresh(FreshPage { page, .. }) => (Outcome::Fresh(seen(&page, bytes)), Some(page)),
        CurrentPage::Stale(StalePage { page, reason, .. }) => {
            let reason = match reason {
                StaleReason::Expired => Reason::Expired,
                StaleReason::Unverified => Reason::Unverified,
                _ => Reason::Invalidated,
            };
            (Outcome::Stale(seen(&page, bytes), reason), Some(page))
        }
    }
}

fn previous(page: Option<StalePage>) -> Option<Seen> {
    page.map(|stale| seen(&stale.page, None))
}

fn seen(page: &Page, bytes: Option<&Bytes>) -> Seen {
    let inline = match &page.body {
        PageBody::Inline(bytes) => Some(bytes),
        _ => None,
    };
    Seen {
        generation: page.generation,
        told: hex::encode(&page.digest),
        bytes: bytes.or(inline).map(|bytes| digest(bytes)),
        sidecar: page.sidecar_token.is_some(),
        names: Names { html: page.html_object_name.clone(), sidecar: page.sidecar_object_name.clone() },
    }
}

fn scope(scope: &Scope) -> leasehold_client::Scope {
    let of = |tenant: &str, target| leasehold_client::Scope { tenant: Some(tenant.to_owned()), target };
    match scope {
        Scope::Everything => leasehold_client::Scope::everything(),
        Scope::Tenant(tenant) => of(tenant, Target::WholeTenant),
        Scope::Deployment(tenant, deployment) => of(tenant, Target::Deployment(deployment.clone())),
        Scope::Path(tenant, prefix) => of(tenant, Target::PathPrefix(prefix.clone())),
        Scope::Tag(tenant, tag) => of(tenant, Target::Tag(tag.clone())),
        Scope::Key(tenant, key) => of(tenant, Target::Key(key.clone())),
    }
}
