//! The right to render, in the hands of its holder.

use crate::{
    Coordinator, EntryRef, Error, RequestId, SidecarToken, StalePage, clock,
    link::Client,
    wire::{self, FromWire, Malformed},
};
use leasehold_proto::v1 as pb;
use parking_lot::Mutex;
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The right to render the next generation of an entry. Cheap to clone; clones are one and the same lease.
///
/// It ends by [`commit`](Self::commit), [`release`](Self::release) or [`fail`](Self::fail). Dropping it does nothing: the
/// entry then stays held until the lease expires. Safety does not depend on the deadline that is kept here, which only
/// says when to renew: a late commit is accepted if nobody was granted the lease since, and fenced otherwise.
///
/// `Debug` does not show the request id.
#[derive(Clone)]
pub struct Lease(pub(crate) Arc<Held>);

pub(crate) struct Held {
    pub(crate) coordinator: Coordinator,
    pub(crate) entry: EntryRef,
    request_id: RequestId,
    generation: u64,
    html_object: String,
    sidecar_object: String,
    sidecar_token: Option<SidecarToken>,
    previous: Option<StalePage>,
    terms: Mutex<Terms>,
}

/// How long it lasts, counted from before the call was sent that said so.
#[derive(Clone, Copy, Debug)]
struct Terms {
    since: Instant,
    deadline: Instant,
    renewable_until: Instant,
}

impl Terms {
    fn new(since: Instant, remaining: Duration, renewable_for: Duration) -> Self {
        Self {
            since,
            deadline: clock::later(since, remaining),
            renewable_until: clock::later(since, renewable_for),
        }
    }

    /// A third into it: two more renewals may fail.
    fn renew_at(&self) -> Instant {
        self.since + (self.deadline - self.since) / 3
    }
}

/// What became of a wish for more time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lasts on.
    Renewed {
        /// Until when, by this process's clock; never later than by the coordinator's.
        deadline: Instant,
    },
    /// It is another's, has ended, or was held as long as one may be. A commit is likely to be fenced.
    Lost,
}

/// What became of a lease that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is free.
    Released,
    /// It was not this caller's any more; nothing changed.
    NotHeld,
}

impl Coordinator {
    /// The lease of an acquire that was granted elsewhere, such as in a process that has died. What the grant said of
    /// times and objects is not known; nothing is asked until a call is made on it.
    pub fn adopt_lease(&self, entry: EntryRef, request_id: RequestId, generation: u64) -> Lease {
        let terms = Terms::new(clock::now(), Duration::ZERO, Duration::ZERO);
        Lease(Arc::new(Held {
            coordinator: self.clone(),
            entry,
            request_id,
            generation,
            html_object: String::new(),
            sidecar_object: String::new(),
            sidecar_token: None,
            previous: None,
            terms: Mutex::new(terms),
        }))
    }
}

impl Lease {
    pub(crate) fn granted(
        (coordinator, entry, request_id, since): (Coordinator, EntryRef, RequestId, Instant),
        grant: pb::LeaseGrant,
    ) -> Result<Self, Malformed> {
        let pb::LeaseGrant {
            generation,
            remaining,
            renewable_for,
            html_object,
            sidecar_object,
            sidecar_token,
            previous,
        } = grant;
        let terms = Terms::new(since, wire::duration(remaining)?, wire::duration(renewable_for)?);
        Ok(Self(Arc::new(Held {
            coordinator,
            entry,
            request_id,
            generation,
            html_object,
            sidecar_object,
            sidecar_token: SidecarToken::from_wire(sidecar_token),
            previous: previous.map(StalePage::from_wire).transpose()?,
            terms: Mutex::new(terms),
        })))
    }

    /// The entry.
    pub fn entry(&self) -> &EntryRef {
        &self.0.entry
    }

    /// The fence.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// The request id that it was acquired with: whoever knows it can commit.
    pub fn request_id(&self) -> RequestId {
        self.0.request_id
    }

    /// When it expires unless renewed, by this process's clock and never later than by the coordinator's. In the past
    /// for a repetition of an acquire whose lease has expired.
    pub fn deadline(&self) -> Instant {
        self.0.terms.lock().deadline
    }

    /// What is left until [`deadline`](Self::deadline).
    pub fn remaining(&self) -> Duration {
        self.deadline().saturating_duration_since(clock::now())
    }

    /// For how long it can still be held by renewing.
    pub fn renewable_for(&self) -> Duration {
        self.0.terms.lock().renewable_until.saturating_duration_since(clock::now())
    }

    /// Where the HTML will be stored: for workers that write to the object store themselves.
    pub fn html_object(&self) -> &str {
        &self.0.html_object
    }

    /// Where the sidecar will be stored. Write it before the HTML.
    pub fn sidecar_object(&self) -> &str {
        &self.0.sidecar_object
    }

    /// The token for the sidecar's URL, to be put into the HTML. `None` for an adopted lease.
    pub fn sidecar_token(&self) -> Option<&SidecarToken> {
        self.0.sidecar_token.as_ref()
    }

    /// The page so far, to serve while rendering. `None`: there is none that may be served.
    pub fn previous(&self) -> Option<&StalePage> {
        self.0.previous.as_ref()
    }

    /// Asks for `ttl` from now on; `None`: the coordinator's default.
    ///
    /// # Errors
    /// `INVALID_FIELD`; or no answer in time, and the lease may or may not last on.
    pub async fn renew(&self, ttl: Option<Duration>) -> Result<Renewal, Error> {
        use pb::renew_lease_response::Outcome;
        let message = pb::RenewLeaseRequest {
            entry: self.0.entry.to_wire(),
            lease: self.to_wire(),
            ttl: ttl.map(wire::to_wire),
        };
        let send = |mut client: Client, request| async move { client.renew_lease(request).await };
        let answered = self.0.coordinator.shared.prompt(message, send).await?;
        let pb::RenewLeaseResponse { outcome } = answered.answer;
        match wire::required(outcome, "the outcome of a renewal")? {
            Outcome::Renewed(pb::LeaseRenewed { remaining, renewable_for }) => {
                let terms =
                    Terms::new(answered.started, wire::duration(remaining)?, wire::duration(renewable_for)?);
                *self.0.terms.lock() = terms;
                Ok(Renewal::Renewed { deadline: terms.deadline })
            }
            Outcome::Lost(pb::LeaseLost {}) => Ok(Renewal::Lost),
        }
    }

    /// Runs `render` to its end, and renews the lease meanwhile, each time for `ttl`. A lease that is lost does not stop
    /// it, for its page may still be of use to this very request: the commit will tell.
    pub async fn renew_while<F: Future>(&self, ttl: Option<Duration>, render: F) -> F::Output {
        const RESPITE: Duration = Duration::from_millis(50);
        let mut render = std::pin::pin!(render);
        let mut earliest = clock::now();
        loop {
            let renew_at = self.0.terms.lock().renew_at().max(earliest);
            tokio::select! {
                output = &mut render => return output,
                () = tokio::time::sleep_until(renew_at) => {}
            }
            tokio::select! {
                output = &mut render => return output,
                renewal = self.renew(ttl) => match renewal {
                    Ok(Renewal::Renewed { .. }) => {}
                    Err(error) if error.is_retryable() => {
                        tracing::debug!(lease.generation = self.generation(), %error, "lease not renewed");
                    }
                    Ok(Renewal::Lost) | Err(_) => return render.await,
                },
            }
            earliest = clock::now() + RESPITE;
        }
    }

    /// Gives it back without a page: it was not needed, and nothing is wrong.
    ///
    /// # Errors
    /// No answer in time: it may be free, and else expires.
    pub async fn release(&self) -> Result<Release, Error> {
        self.give_back(None).await
    }

    /// Gives it back after a failed render. Nobody is granted the lease for a while that doubles with each failure in a
    /// row; the current page stays. Operators see `reason`, of which 512 bytes are kept: it must hold no secrets.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub async fn fail(&self, reason: &str) -> Result<Release, Error> {
        let reason = if reason.is_empty() { "unspecified" } else { reason };
        self.give_back(Some(reason.to_owned())).await
    }

    async fn give_back(&self, failure: Option<String>) -> Result<Release, Error> {
        use pb::release_lease_response::Outcome;
        let message =
            pb::ReleaseLeaseRequest { entry: self.0.entry.to_wire(), lease: self.to_wire(), failure };
        let send = |mut client: Client, request| async move { client.release_lease(request).await };
        let pb::ReleaseLeaseResponse { outcome } =
            self.0.coordinator.shared.prompt(message, send).await?.answer;
        Ok(match wire::required(outcome, "the outcome of a release")? {
            Outcome::Released(pb::LeaseReleased {}) => Release::Released,
            Outcome::NotHeld(pb::LeaseNotHeld {}) => Release::NotHeld,
        })
    }

    pub(crate) fn to_wire(&self) -> Option<pb::LeaseRef> {
        Some(pb::LeaseRef { request_id: self.0.request_id.to_wire(), generation: self.0.generation })
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("entry", &self.0.entry)
            .field("generation", &self.0.generation)
            .field("deadline", &self.deadline())
            .finish_non_exhaustive()
    }
}
