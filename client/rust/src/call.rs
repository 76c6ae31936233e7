//! One call: its attempts, its deadlines, and what is known of its effect when it fails.

use crate::{
    Error, clock,
    coordinator::Shared,
    link::{Client, Link},
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

/// A call under way: counts its attempts.
pub(crate) struct Call<'a> {
    shared: &'a Shared,
    limits: Limits,
    begun: Instant,
    deadline: Instant,
    attempts: u32,
    in_doubt: bool,
    is_renewed: bool,
    last: Option<Box<Error>>,
}

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// One attempt.
    pub(crate) attempt: Duration,
    /// All of them, with the pauses.
    pub(crate) overall: Duration,
    /// What the coordinator may take on purpose, on top of both. A later attempt has what the earlier ones left of it.
    pub(crate) wait: Duration,
}

impl Limits {
    pub(crate) fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }
}

/// One attempt of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// When it began, before anything was sent: what the coordinator's durations are counted from.
    pub(crate) started: Instant,
    /// When it is given up.
    pub(crate) until: Instant,
    /// How long the coordinator may wait on purpose.
    pub(crate) wait: Duration,
    /// Whether there was one before it.
    pub(crate) is_retry: bool,
}

impl Attempt {
    pub(crate) fn timeout(&self) -> Duration {
        self.until - self.started
    }

    /// `message`, with the deadline that the coordinator is to keep.
    pub(crate) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.remote_timeout());
        request
    }

    /// A little shorter than the attempt: that the coordinator ran out of time is to be heard from it, for a connection
    /// on which nothing is heard is replaced.
    pub(crate) fn remote_timeout(&self) -> Duration {
        self.timeout() - (self.timeout() / 10).min(Duration::from_millis(200))
    }

    /// Waits for `call`, until the attempt is given up. tonic's own timeouts do not cover an endpoint that is not ready.
    pub(crate) async fn settle<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        match timeout_at(self.until, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Error::from_status(status)),
            Err(_) => Err(Error::TimedOut { after: self.timeout() }),
        }
    }
}

impl<'a> Call<'a> {
    pub(crate) fn begin(shared: &'a Shared, limits: Limits) -> Self {
        shared.retries.deposit();
        let begun = clock::now();
        let deadline = clock::later(begun, limits.overall.saturating_add(limits.wait));
        Self { shared, limits, begun, deadline, attempts: 0, in_doubt: false, is_renewed: false, last: None }
    }

    /// The next attempt, or the end of the overall timeout.
    pub(crate) fn attempt(&mut self) -> Result<Attempt, Error> {
        let started = clock::now();
        if started >= self.deadline {
            return Err(self.too_late());
        }
        self.attempts += 1;
        let wait = self.limits.wait.saturating_sub(started - self.begun);
        let until = clock::later(started, self.limits.attempt.saturating_add(wait)).min(self.deadline);
        Ok(Attempt { started, until, wait, is_retry: self.attempts > 1 })
    }

    /// Pauses after a failed attempt, or gives the call up.
    pub(crate) async fn retry_after(&mut self, error: Error) -> Result<(), Error> {
        let policy = &self.shared.retry;
        self.in_doubt |= error.may_have_been_applied();
        let now = clock::now();
        if now >= self.deadline && error.is_retryable() {
            self.last = Some(Box::new(error));
            return Err(self.too_late());
        }
        if self.shared.may_renew_identity(&error) && !self.is_renewed {
            self.is_renewed = true;
            self.last = Some(Box::new(error));
            return Ok(());
        }
        if !error.is_retryable() || self.attempts >= policy.max_attempts || !self.shared.retries.withdraw(now)
        {
            return Err(error.after_attempts(self.in_doubt));
        }
        let backoff = self.shared.random.jittered(policy.backoff(self.attempts));
        // A little later than asked: those that were refused together should not come back together.
        let pause = error.retry_after().map_or(backoff, |asked| asked + backoff);
        if pause >= self.deadline - now {
            self.last = Some(Box::new(error));
            return Err(self.too_late());
        }
        tracing::debug!(attempt = self.attempts, pause_ms = pause.as_millis() as u64, %error, "call is retried");
        self.last = Some(Box::new(error));
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn too_late(&mut self) -> Error {
        Error::DeadlineExceeded {
            limit: self.deadline - self.begun,
            attempts: self.attempts,
            in_doubt: self.in_doubt,
            last: self.last.take(),
        }
    }
}

/// The answer to a call, and when the attempt that got it began.
pub(crate) struct Answered<T> {
    pub(crate) answer: T,
    pub(crate) started: Instant,
}

impl Shared {
    /// Whether the call was refused for what its caller presented, and may present something else.
    pub(crate) fn may_renew_identity(&self, error: &Error) -> bool {
        error.is_unauthenticated() && self.lanes.may_renew_identity()
    }

    /// A call with one answer. `message` makes the request of each attempt, always with the same request id.
    pub(crate) async fn unary<M, T, F>(
        &self,
        link: &Arc<Link>,
        limits: Limits,
        mut message: impl FnMut(&Attempt) -> M,
        send: impl Fn(Client, Request<M>) -> F,
    ) -> Result<Answered<T>, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut call = Call::begin(self, limits);
        loop {
            let attempt = call.attempt()?;
            let (generation, client) = link.client();
            let request = attempt.request(message(&attempt));
            match attempt.settle(send(client, request)).await {
                Ok(answer) => return Ok(Answered { answer, started: attempt.started }),
                Err(error) => {
                    if self.lanes.are_suspect(&error) {
                        link.replace(generation);
                    }
                    call.retry_after(error).await?;
                }
            }
        }
    }

    /// A call that is answered promptly.
    pub(crate) async fn prompt<M: Clone, T, F>(
        &self,
        message: M,
        send: impl Fn(Client, Request<M>) -> F,
    ) -> Result<Answered<T>, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.unary(self.lanes.prompt(), self.limits, |_| message.clone(), send).await
    }
}
