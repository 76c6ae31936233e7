//! Asking for the right to render.

use crate::{
    BodyDelivery, ConsistencyToken, Coordinator, CurrentPage, EntryRef, Error, Lease, Regeneration,
    RequestId, StalePage, clock,
    link::Client,
    lookup::token_text,
    wire::{self, FromWire, Malformed, Parse},
};
use futures::{FutureExt as _, future::BoxFuture};
use leasehold_proto::v1 as pb;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{runtime::Handle, time::Instant};
use tokio_util::task::TaskTracker;

/// How a lease is to be acquired.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AcquireOptions {
    /// How long the lease is to last without renewal: 100 ms to the coordinator's limit (default 5 min). `None`: its
    /// default (10 s).
    pub ttl: Option<Duration>,
    /// How long to wait, when another holds the lease, for its page or for the lease to fall free. Cut down to the
    /// coordinator's limit (default 60 s). Default: no wait.
    pub wait: Duration,
    /// As in [`LookupOptions`](crate::LookupOptions).
    pub consistency_token: Option<ConsistencyToken>,
    /// Whether to send the HTML along with a page that is ready, or of the previous page.
    pub body: BodyDelivery,
    /// As in [`LookupOptions`](crate::LookupOptions).
    pub known_generation: Option<u64>,
    /// The name to acquire it under. `None`: the builder's.
    pub owner: Option<String>,
    /// The identity of this attempt to render. `None`: a new one.
    pub request_id: Option<RequestId>,
}

/// What became of the wish to render.
#[derive(Clone, Debug)]
pub enum Acquire {
    /// Render the page.
    Granted(Lease),
    /// Nothing to do: here is the page. Fresh; or, after a wait, the one that was regenerated meanwhile.
    Ready(CurrentPage),
    /// Another renders, and still did so when the wait was over.
    Held(Held),
    /// The last render failed; nobody is granted the lease for a while.
    BackingOff(BackingOff),
    /// The lease of this very request id was committed or released before.
    Ended,
}

/// Another's lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Who renders.
    pub regeneration: Regeneration,
    /// The page so far. `None`: there is none that may be served.
    pub previous: Option<StalePage>,
}

/// A pause after a failed render.
#[derive(Clone, Debug, PartialEq)]
pub struct BackingOff {
    /// Ask again after so long.
    pub remaining: Duration,
    /// Failures in a row.
    pub failures: u32,
    /// What the last worker said.
    pub reason: String,
    /// The page so far. `None`: there is none that may be served.
    pub previous: Option<StalePage>,
}

impl Coordinator {
    /// Asks for the right to render the next generation of an entry. Of all callers at a time, one is granted it.
    ///
    /// The timeouts of the handle are on top of `options.wait`. Dropping the future ends the wait at the coordinator too, and a
    /// grant that was on its way is given back, unless `options.request_id` is named: then somebody may ask for it again.
    ///
    /// # Errors
    /// `INVALID_FIELD`, `TENANT_BOUNDARY`, `CONSISTENCY_TOKEN_UNKNOWN`, `LIMIT_REACHED` beyond all retries; or no answer
    /// in time: what was granted meanwhile, unheard, expires after its ttl.
    pub async fn acquire(&self, entry: &EntryRef, options: &AcquireOptions) -> Result<Acquire, Error> {
        self.acquire_among(&TaskTracker::new(), entry, options).await
    }

    /// As [`acquire`](Self::acquire). What a dropped future leaves to be done is one of these tasks.
    pub(crate) async fn acquire_among(
        &self,
        tasks: &TaskTracker,
        entry: &EntryRef,
        options: &AcquireOptions,
    ) -> Result<Acquire, Error> {
        let (coordinator, entry, options) = (self.clone(), entry.clone(), options.clone());
        let heard_until = match options {
            AcquireOptions { request_id: Some(_), .. } => None,
            AcquireOptions { wait: Duration::ZERO, .. } => {
                Some(clock::later(clock::now(), self.shared.limits.attempt))
            }
            _ => Some(clock::later(clock::now(), PROMPT)),
        };
        let call = async move { coordinator.ask_for_lease(&entry, &options).await };
        Asking { call: Some(call.boxed()), heard_until, tasks: tasks.clone() }.await
    }

    async fn ask_for_lease(&self, entry: &EntryRef, options: &AcquireOptions) -> Result<Acquire, Error> {
        let AcquireOptions { ttl, wait, consistency_token, body, known_generation, owner, request_id } =
            options;
        // Whoever names one may have sent it before.
        let is_named = request_id.is_some();
        let request_id = request_id.unwrap_or_else(|| self.new_request_id());
        let request = pb::AcquireLeaseRequest {
            entry: entry.to_wire(),
            request_id: request_id.to_wire(),
            owner: owner.as_ref().unwrap_or(&self.shared.owner).clone(),
            ttl: ttl.map(wire::to_wire),
            wait: None,
            consistency_token: token_text(consistency_token.as_ref()),
            body: body.to_wire(),
            known_generation: *known_generation,
            retry: is_named,
        };
        let place = (!wait.is_zero()).then(|| self.shared.lanes.waiting());
        let link = place.as_ref().map_or(self.shared.lanes.prompt(), |place| place.link());
        let limits = self.shared.limits.waiting(*wait);
        let message = |attempt: &crate::call::Attempt| {
            let wait = (!attempt.wait.is_zero()).then(|| wire::to_wire(attempt.wait));
            pb::AcquireLeaseRequest { wait, retry: is_named || attempt.is_retry, ..request.clone() }
        };
        let send = |mut client: Client, request| async move { client.acquire_lease(request).await };
        let answered = self.shared.unary(link, limits, message, send).await?;
        let pb::AcquireLeaseResponse { outcome } = answered.answer;

        use pb::acquire_lease_response::Outcome;
        Ok(match wire::required(outcome, "the outcome of an acquire")? {
            Outcome::Granted(grant) => {
                let granted = (self.clone(), entry.clone(), request_id, answered.started);
                Acquire::Granted(Lease::granted(granted, grant)?)
            }
            Outcome::Ready(pb::PageReady { page }) => Acquire::Ready(ready(page)?),
            Outcome::Held(held) => Acquire::Held(held.parse()?),
            Outcome::BackingOff(pause) => Acquire::BackingOff(pause.parse()?),
            Outcome::Ended(pb::LeaseEnded {}) => Acquire::Ended,
        })
    }
}

/// A call that has not been answered for so long waits. Dropped before, its answer may be on its way, and nobody would hear
/// of it: the entry would be held for a ttl. Dropped later, the coordinator hears that the caller has gone, and takes back
/// what it grants at that moment; what crosses that word on its way expires.
const PROMPT: Duration = Duration::from_millis(500);

/// A call whose answer is heard even if the caller goes away.
struct Asking {
    call: Option<BoxFuture<'static, Result<Acquire, Error>>>,
    /// Until then. `None`: it is not.
    heard_until: Option<Instant>,
    /// Where that is done.
    tasks: TaskTracker,
}

impl Future for Asking {
    type Output = Result<Acquire, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(call) = &mut self.call else { return Poll::Pending };
        let answer = std::task::ready!(call.poll_unpin(context));
        self.call = None;
        Poll::Ready(answer)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let (Some(call), Some(until)) = (self.call.take(), self.heard_until) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let given_back = async move {
            // Looked at once in any case: the answer may have come while nobody did.
            if let Ok(Ok(Acquire::Granted(lease))) = tokio::time::timeout_at(until, call).await
                && let Err(error) = lease.release().await
            {
                tracing::debug!(%error, "a lease that nobody waited for was not given back");
            }
        };
        drop(self.tasks.spawn_on(leasehold_traces::inherited(given_back), &runtime));
    }
}

fn ready(page: Option<pb::page_ready::Page>) -> Result<CurrentPage, Malformed> {
    Ok(match wire::required(page, "the page that is ready")? {
        pb::page_ready::Page::Fresh(fresh) => CurrentPage::Fresh(fresh.parse()?),
        pb::page_ready::Page::Stale(stale) => CurrentPage::Stale(stale.parse()?),
    })
}

impl FromWire<pb::LeaseHeld> for Held {
    fn from_wire(pb::LeaseHeld { regeneration, previous }: pb::LeaseHeld) -> Result<Self, Malformed> {
        Ok(Self {
            regeneration: wire::required(regeneration, "the holder of a lease")?.parse()?,
            previous: previous.map(StalePage::from_wire).transpose()?,
        })
    }
}

impl FromWire<pb::BackingOff> for BackingOff {
    fn from_wire(wire: pb::BackingOff) -> Result<Self, Malformed> {
        let pb::BackingOff { remaining, failures, reason, previous } = wire;
        Ok(Self {
            remaining: wire::duration(remaining)?,
            failures,
            reason,
            previous: previous.map(StalePage::from_wire).transpose()?,
        })
    }
}
