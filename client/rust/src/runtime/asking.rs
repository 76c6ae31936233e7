//! What a request asks of the coordinator, and what it makes of the answers, or of their absence.

use super::{Inner, answer::ServeError, event::Event, pages::PageCall};
use crate::{
    Acquire, AcquireOptions, BodyDelivery, Consistency, ConsistencyToken, CurrentPage, Error, LookupOptions,
    LookupReply, Page, Reason, ServeOptions,
};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use std::time::Duration;

/// What there is instead of an answer.
pub(super) enum Obstacle {
    /// The coordinator could not be asked, or could not answer: the last known page will do.
    Outage(&'static str),
    /// It was asked, and nothing is to be kept under this entry now.
    Uncached(&'static str),
    /// There is no page.
    Failure(ServeError),
}

impl From<ServeError> for Obstacle {
    fn from(error: ServeError) -> Self {
        Self::Failure(error)
    }
}

impl PageCall {
    pub(super) async fn lookup(&self, consistency: Consistency) -> Result<LookupReply, Obstacle> {
        let lookup = |token| {
            let options = self.lookup_options(consistency, token);
            let asking = async move { self.runtime.coordinator.lookup(&self.entry, &options).await };
            self.answer(Duration::ZERO, asking).boxed()
        };
        self.ask(lookup).await
    }

    /// Of a coordinator that did not answer before. The visitor waits for it a short while only; whether it answers is still
    /// of interest after that.
    pub(super) async fn try_lookup(&self) -> Result<LookupReply, Obstacle> {
        let token = self.runtime.invalidations.token();
        let (call, options) = (self.clone(), self.lookup_options(self.consistency, token.clone()));
        let trial = tokio::spawn(leasehold_traces::inherited(async move {
            let patience = call.runtime.settings.patience;
            let asking = call.runtime.coordinator.lookup(&call.entry, &options);
            let result = within(patience, asking).await;
            if !result.as_ref().is_err_and(Error::is_outage) {
                call.runtime.heard();
            }
            result
        }));
        let limit = self.runtime.settings.trial();
        let result = match tokio::time::timeout(limit, trial).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(Error::TimedOut { after: limit }),
        };
        if self.runtime.forgets(token.as_ref(), &result) {
            return self.lookup(self.consistency).await;
        }
        self.judge(result)
    }

    fn lookup_options(
        &self,
        consistency: Consistency,
        consistency_token: Option<ConsistencyToken>,
    ) -> LookupOptions {
        LookupOptions {
            consistency,
            body: BodyDelivery::Inline,
            known_generation: self.runtime.copies.generation(self.key),
            consistency_token,
            explain: false,
        }
    }

    pub(super) async fn ask_for_lease(&self, wait: Duration) -> Result<Acquire, Obstacle> {
        let acquire = |consistency_token| {
            let options = AcquireOptions {
                ttl: self.policy.lease_ttl,
                wait,
                body: BodyDelivery::Inline,
                known_generation: self.runtime.copies.generation(self.key),
                consistency_token,
                ..AcquireOptions::default()
            };
            let Inner { coordinator, tasks, .. } = &*self.runtime;
            let asking = async move { coordinator.acquire_among(&tasks.all, &self.entry, &options).await };
            self.answer(wait, asking).boxed()
        };
        self.ask(acquire).await
    }

    /// What does not fit a message.
    pub(super) async fn fetch(&self) -> Result<(Page, Bytes), Obstacle> {
        let fetch = |consistency_token| {
            let options = ServeOptions { consistency: Consistency::Bounded, consistency_token };
            let asking = async move { self.runtime.coordinator.serve_page(&self.entry, &options).await };
            self.answer(Duration::ZERO, asking).boxed()
        };
        let served = self.ask(fetch).await?;
        // It was answered: how long the body takes is a matter of its size. A silence in its midst ends it.
        let html = self.judge(served.body.collect(self.runtime.settings.max_body_bytes).await)?;
        let page = match served.current {
            CurrentPage::Fresh(fresh) => fresh.page,
            CurrentPage::Stale(stale) => stale.page,
        };
        Ok((page, html))
    }

    /// Asks the coordinator with the token of one's own invalidations. One that it does not know is presented once.
    async fn ask<'a, T>(
        &self,
        call: impl Fn(Option<ConsistencyToken>) -> BoxFuture<'a, Result<Result<T, Error>, Obstacle>>,
    ) -> Result<T, Obstacle> {
        let token = self.runtime.invalidations.token();
        let mut result = call(token.clone()).await?;
        if self.runtime.forgets(token.as_ref(), &result) {
            result = call(self.runtime.invalidations.token()).await?;
        }
        self.judge(result)
    }

    /// What comes of a call, for as long as patience and `wait` last, and as others get answers.
    async fn answer<T>(
        &self,
        wait: Duration,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, Obstacle> {
        let limit = wait.saturating_add(self.runtime.settings.patience);
        tokio::select! {
            biased;
            result = within(limit, call) => Ok(result),
            () = self.runtime.circuit.opened() => Err(Obstacle::Outage("coordinator-lost")),
        }
    }

    /// What an answer, or the lack of one, means for this request and for those to come.
    fn judge<T>(&self, result: Result<T, Error>) -> Result<T, Obstacle> {
        let error = match result {
            Ok(answer) => {
                self.runtime.heard();
                return Ok(answer);
            }
            Err(error) => error,
        };
        if error.is_outage() {
            self.runtime.unheard(&error);
            return Err(Obstacle::Outage("no-answer"));
        }
        // An answer, if not one to this request.
        self.runtime.heard();
        let obstacle = match error.reason() {
            // Such as a path that is too long: what a visitor has asked for, and the site may have an answer to.
            Some(Reason::InvalidField) if is_about("entry", &error) => Obstacle::Uncached("unnameable"),
            Some(Reason::TenantBoundary | Reason::InvalidField) => {
                return Err(ServeError::Refused(error).into());
            }
            Some(Reason::PageNotFound) => {
                self.runtime.copies.forget(self.key);
                Obstacle::Outage("refused")
            }
            _ => Obstacle::Outage("refused"),
        };
        self.runtime.tell(Event::NoAnswer { why: error.with_cause() });
        Err(obstacle)
    }
}

impl Inner {
    /// Whether the call was refused for its token: then the log is another one than that of the invalidation, and has lost it.
    pub(super) fn forgets<T>(&self, token: Option<&ConsistencyToken>, result: &Result<T, Error>) -> bool {
        let (Some(token), Err(error)) = (token, result) else { return false };
        let is_unknown = match error.reason() {
            Some(Reason::ConsistencyTokenUnknown) => true,
            Some(Reason::InvalidField) => is_about("consistency_token", error),
            _ => false,
        };
        if is_unknown {
            self.invalidations.forget(token);
            self.tell(Event::NoAnswer { why: error.with_cause() });
        }
        is_unknown
    }

    pub(super) fn heard(&self) {
        if self.circuit.answered() {
            self.tell(Event::CoordinatorFound);
        }
    }

    pub(super) fn unheard(&self, error: &Error) {
        self.tell(Event::NoAnswer { why: error.with_cause() });
        if self.circuit.failed() {
            self.tell(Event::CoordinatorLost);
        }
    }
}

/// Whether this field, or a part of it, is what a call was refused for.
fn is_about(name: &str, error: &Error) -> bool {
    let fields = error.refusal().map(|refusal| refusal.fields.as_slice()).unwrap_or_default();
    fields.iter().any(|violation| {
        // A lookup on a stream is a part of its message.
        let field = violation.field.strip_prefix("lookup.").unwrap_or(&violation.field);
        field.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

/// The answer to a call, within so long.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(Error::TimedOut { after: limit }))
}
