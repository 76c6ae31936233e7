//! A request's way through the coordinator: look up, acquire, render, commit.

use super::{
    Inner, Runtime,
    answer::{Circumstances, ServeError, Served, State},
    background::{Background, Handed},
    copies::{Epoch, LocalKey},
    event::Event,
    policy::{OnContention, OnFailure, Policy, WAIT},
    render::{BoxError, RenderContext, RenderError, Rendered, Renderer},
    request,
    uncached::Way,
};
use crate::{
    Acquire, AcquireOptions, BackingOff, BodyDelivery, Commit, Consistency, ConsistencyToken, CurrentPage,
    EntryRef, Error, Lease, Lookup, LookupOptions, LookupReply, MissingReason, Page, PageBody, PageMetadata,
    Reason, ServeOptions, StalePage, StaleReason, clock,
};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How often a request asks for the lease when its answer was lost and the lease had ended by then.
const ROUNDS: u32 = 3;

impl Runtime {
    /// Serves the page of an entry, and renders it where that is this request's turn. See the [module](super) for what comes
    /// of it.
    ///
    /// # Errors
    /// When the render failed and nothing else may be served; or when the coordinator refuses the request for good.
    pub async fn serve<R, F, P, E>(
        &self,
        entry: &EntryRef,
        policy: &Policy,
        render: R,
    ) -> Result<Served, ServeError>
    where
        R: FnOnce(RenderContext) -> F + Send + 'static,
        F: Future<Output = Result<P, E>> + Send + 'static,
        P: Into<Rendered>,
        E: Into<BoxError>,
    {
        let request = PageCall::new(self, entry, policy);
        request.serve(Renderer::new(render)).await
    }
}

/// One request for one page.
#[derive(Clone)]
pub(super) struct PageCall {
    runtime: Arc<Inner>,
    entry: EntryRef,
    key: LocalKey,
    policy: Policy,
    /// When it came.
    since: Epoch,
    was_there_before: bool,
    /// How closely the coordinator is to look.
    consistency: Consistency,
    background: Background,
}

/// What there is instead of an answer.
enum Obstacle {
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

type Turn = Result<Served, Obstacle>;

impl PageCall {
    pub(super) fn new(runtime: &Runtime, entry: &EntryRef, policy: &Policy) -> Self {
        Self {
            runtime: runtime.0.clone(),
            key: LocalKey::of(entry),
            entry: entry.clone(),
            policy: policy.clone(),
            since: runtime.0.copies.epoch(),
            was_there_before: false,
            consistency: Consistency::Bounded,
            background: runtime.0.settings.background,
        }
    }

    /// The coordinator is to read what is current.
    pub(super) fn strictly(self) -> Self {
        Self { consistency: Consistency::Strict, ..self }
    }

    /// What is left to do is handed over, whatever the runtime's setting.
    pub(super) fn handing_over(self) -> Self {
        Self { background: Background::HandOver, ..self }
    }

    pub(super) async fn serve(self, render: Renderer) -> Result<Served, ServeError> {
        let (begun, runtime) = (clock::now(), self.runtime.clone());
        let result = self.page(render).await;
        let took = clock::now().saturating_duration_since(begun);
        runtime.tell(match &result {
            Ok(served) => Event::Served { state: served.state, took },
            Err(error) => Event::NotServed { why: error.to_string(), took },
        });
        result
    }

    async fn page(mut self, render: Renderer) -> Result<Served, ServeError> {
        if request::crosses_tenants(&self.entry) {
            // The coordinator would refuse it too, if it could be asked.
            return Err(ServeError::TenantBoundary);
        }
        let mut render = Some(render);
        let served = match self.through_coordinator(&mut render).await {
            Ok(served) => served,
            Err(Obstacle::Failure(error)) => return Err(error),
            Err(Obstacle::Outage(why)) => match self.last_known(why) {
                Some(served) => served,
                None => self.uncached(render, why).await?,
            },
            Err(Obstacle::Uncached(why)) => self.uncached(render, why).await?,
        };
        Ok(served.personal(request::is_personal(&self.entry)))
    }

    async fn through_coordinator(&mut self, render: &mut Option<Renderer>) -> Turn {
        let runtime = self.runtime.clone();
        let Some(permit) = runtime.circuit.permit() else {
            return Err(Obstacle::Outage("coordinator-lost"));
        };
        let reply =
            if permit.is_trial() { self.try_lookup().await? } else { self.lookup(self.consistency).await? };
        // What was to be tried has been tried.
        drop(permit);
        let is_rendered = reply.regeneration.is_some();
        let previous = match reply.outcome {
            Lookup::Fresh(fresh) => {
                runtime.uncached.forget(self.key);
                return self.kept(Circumstances::new(State::Hit), fresh.page).await;
            }
            Lookup::Stale(stale) => {
                self.was_there_before = true;
                if self.may_be_served_while_revalidating(&stale) {
                    let reason = stale.reason;
                    let mut served = self.kept(Circumstances::stale(reason), stale.page).await?;
                    // Of what cannot be verified, the next one could not be either.
                    let is_wanted = !is_rendered
                        && reason != StaleReason::Unverified
                        && !runtime.uncached.is_known(self.key);
                    served.background = render
                        .take()
                        .filter(|_| is_wanted)
                        .and_then(|render| self.regenerate_in_background(render));
                    return Ok(served);
                }
                self.remember(&stale.page);
                Some(stale)
            }
            Lookup::Missing(reason) => {
                // One whose body is gone may still be known here.
                if reason != MissingReason::BodyGone {
                    runtime.copies.forget(self.key);
                }
                None
            }
        };
        let way = runtime.uncached.way(self.key);
        if matches!(way, Way::AtOnce) {
            return self.at_once(render, previous).await;
        }
        self.acquire(render, previous).await
    }

    /// Whether nobody has to wait for the next one.
    fn may_be_served_while_revalidating(&self, stale: &StalePage) -> bool {
        let Some(window) = self.policy.window() else { return false };
        // Nothing can be said against what cannot be verified, and asking for more would not help.
        let is_open = stale.stale_while_revalidate_for.is_none_or(|left| !left.is_zero());
        stale.reason == StaleReason::Unverified || (is_open && self.expired_for(&stale.page) < window)
    }

    /// For how long a page has been older than it is fresh.
    fn expired_for(&self, page: &Page) -> Duration {
        page.age.saturating_sub(page.metadata.revalidate.unwrap_or(self.policy.revalidate))
    }

    async fn lookup(&self, consistency: Consistency) -> Result<LookupReply, Obstacle> {
        let lookup = |token| {
            let options = self.lookup_options(consistency, token);
            let asking = async move { self.runtime.coordinator.lookup(&self.entry, &options).await };
            self.answer(Duration::ZERO, asking).boxed()
        };
        self.ask(lookup).await
    }

    /// Of a coordinator that did not answer before. The visitor waits for it a short while only; whether it answers is still
    /// of interest after that.
    async fn try_lookup(&self) -> Result<LookupReply, Obstacle> {
        let token = self.runtime.invalidations.token();
        let (call, options) = (self.clone(), self.lookup_options(self.consistency, token.clone()));
        let trial = tokio::spawn(async move {
            let patience = call.runtime.settings.patience;
            let asking = call.runtime.coordinator.lookup(&call.entry, &options);
            let result = within(patience, asking).await;
            if !result.as_ref().is_err_and(Error::is_outage) {
                call.runtime.heard();
            }
            result
        });
        let limit = self.runtime.settings.trial();
        let result = match tokio::time::timeout(limit, trial).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(Error::TimedOut { after: limit }),
        };
        if self.forgets(token.as_ref(), &result) {
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

    /// For one request only, as those before it.
    async fn at_once(&self, render: &mut Option<Renderer>, previous: Option<StalePage>) -> Turn {
        match self.uncached(render.take(), "uncached").await {
            Ok(served) => Ok(served),
            Err(error) => {
                // It is for the coordinator to say who tries again, and when.
                self.runtime.uncached.forget(self.key);
                match self.previous_on_failure(previous) {
                    Some(previous) => self.kept(failed(), previous.page).await,
                    None => Err(error.into()),
                }
            }
        }
    }

    async fn acquire(&self, render: &mut Option<Renderer>, previous: Option<StalePage>) -> Turn {
        let wait = match self.policy.on_contention {
            OnContention::Wait(longest) => longest,
            OnContention::ServeStale if self.was_there_before => Duration::ZERO,
            OnContention::ServeStale => WAIT,
        };
        for _ in 0..ROUNDS {
            if self.runtime.tasks.stop.is_cancelled() {
                return Err(ServeError::Render(RenderError::Stopped).into());
            }
            let acquired = tokio::select! {
                biased;
                acquired = self.ask_for_lease(wait) => acquired?,
                // What it waits for is no page.
                () = self.runtime.uncached.until_known(self.key) => return self.at_once(render, previous).await,
            };
            return match acquired {
                Acquire::Granted(lease) => {
                    let Some(render) = render.take() else { break };
                    self.regenerate_for_sure(lease, render).await
                }
                Acquire::Ready(current) => self.ready(current, !wait.is_zero()).await,
                Acquire::Held(held) => match held.previous.filter(|previous| self.is_within_bounds(previous))
                {
                    Some(previous) => {
                        let how = Circumstances::stale(previous.reason);
                        self.kept(how, previous.page).await
                    }
                    None => Err(Obstacle::Uncached("contention")),
                },
                Acquire::BackingOff(pause) => self.instead_of_failing(pause).await,
                // The answer to an earlier attempt was lost, and that lease has ended.
                Acquire::Ended => continue,
            };
        }
        Err(Obstacle::Uncached("contention"))
    }

    async fn ask_for_lease(&self, wait: Duration) -> Result<Acquire, Obstacle> {
        let acquire = |consistency_token| {
            let options = AcquireOptions {
                ttl: self.policy.lease_ttl,
                wait,
                body: BodyDelivery::Inline,
                known_generation: self.runtime.copies.generation(self.key),
                consistency_token,
                ..AcquireOptions::default()
            };
            let asking = async move { self.runtime.coordinator.acquire(&self.entry, &options).await };
            self.answer(wait, asking).boxed()
        };
        self.ask(acquire).await
    }

    async fn ready(&self, current: CurrentPage, has_waited: bool) -> Turn {
        self.runtime.uncached.forget(self.key);
        match current {
            // Committed since this request looked.
            CurrentPage::Fresh(fresh) if !has_waited => {
                self.kept(Circumstances::new(State::Hit), fresh.page).await
            }
            CurrentPage::Fresh(fresh) => self.waited_for(fresh.page).await,
            CurrentPage::Stale(stale) => self.waited_for(stale.page).await,
        }
    }

    async fn waited_for(&self, page: Page) -> Turn {
        let how = Circumstances::new(State::WaitHit);
        self.kept(Circumstances { was_there_before: self.was_there_before, ..how }, page).await
    }

    async fn instead_of_failing(&self, pause: BackingOff) -> Turn {
        let BackingOff { remaining, failures, reason, previous } = pause;
        match self.previous_on_failure(previous) {
            Some(previous) => self.kept(failed(), previous.page).await,
            None => Err(ServeError::BackingOff { remaining, failures, reason }.into()),
        }
    }

    /// The previous page, where it may be served instead of an error.
    fn previous_on_failure(&self, previous: Option<StalePage>) -> Option<StalePage> {
        let is_wanted = self.policy.on_failure == OnFailure::ServeStale;
        previous.filter(|stale| is_wanted && self.may_be_served_on_error(stale))
    }

    fn may_be_served_on_error(&self, stale: &StalePage) -> bool {
        match stale.stale_if_error_for {
            Some(left) => !left.is_zero(),
            None => self.expired_for(&stale.page) < self.policy.stale_if_error(),
        }
    }

    /// Whether a page may be served while another renders the next one. Who waits for that by policy has no bound for what
    /// comes instead; who is served stale pages has.
    fn is_within_bounds(&self, previous: &StalePage) -> bool {
        self.policy.window().is_none()
            || self.may_be_served_while_revalidating(previous)
            || self.may_be_served_on_error(previous)
    }

    /// As a task of its own: a visitor who goes away does not leave the lease behind.
    async fn regenerate_for_sure(&self, lease: Lease, render: Renderer) -> Turn {
        let call = self.clone();
        let task = self.runtime.tasks.spawn(async move { call.regenerate(lease, render).await });
        task.await
            .unwrap_or_else(|lost| Err(ServeError::Render(RenderError::Panicked(lost.to_string())).into()))
    }

    /// Renders under a lease, and commits.
    async fn regenerate(&self, lease: Lease, render: Renderer) -> Turn {
        let begun = clock::now();
        let context = RenderContext {
            generation: Some(lease.generation()),
            sidecar_token: lease.sidecar_token().cloned(),
            previous: lease.previous().cloned(),
        };
        let stop = &self.runtime.tasks.stop;
        let rendering = render.render(context, self.policy.render_timeout, stop);
        let mut rendered = match lease.renew_while(self.policy.lease_ttl, rendering).await {
            Ok(rendered) if rendered.uncached => {
                // Before the lease is: else whoever waits here for it would be the next one to be granted it.
                self.learn(&rendered);
                self.give_back(&lease, None);
                let how = Circumstances::new(State::Bypass).because("uncached");
                return Ok(Served::rendered(how, rendered, None, &self.policy));
            }
            Ok(rendered) => rendered,
            Err(error) => {
                let why = error.to_string();
                // To stop is no fault of the page's: the next one may render at once.
                let is_fault = !matches!(error, RenderError::Stopped);
                self.give_back(&lease, is_fault.then(|| why.clone()));
                self.runtime.tell(Event::RenderFailed { why });
                if let Some(previous) = self.previous_on_failure(lease.previous().cloned())
                    && let Ok(served) = self.kept(failed(), previous.page).await
                {
                    return Ok(served);
                }
                return Err(ServeError::Render(error).into());
            }
        };
        self.learn(&rendered);
        self.complete(&mut rendered, clock::now().saturating_duration_since(begun));
        self.commit(&lease, rendered, begun).await
    }

    /// Whether there is a page to wait for. Not from a render that an invalidation has overtaken.
    fn learn(&self, rendered: &Rendered) {
        if !rendered.uncached {
            self.runtime.uncached.forget(self.key);
        } else if self.runtime.copies.epoch() == self.since {
            self.runtime.uncached.remember(self.key);
        }
    }

    /// What the render leaves open is the policy's.
    fn complete(&self, rendered: &mut Rendered, took: Duration) {
        let metadata = &mut rendered.metadata;
        metadata.revalidate.get_or_insert(self.policy.revalidate);
        metadata.stale_if_error.get_or_insert(self.policy.stale_if_error());
        metadata.stale_while_revalidate = metadata.stale_while_revalidate.or(self.policy.window());
        metadata.render_time.get_or_insert(took);
    }

    async fn commit(&self, lease: &Lease, rendered: Rendered, begun: Instant) -> Turn {
        let bypass = |rendered, why: &'static str| {
            let how = Circumstances::new(State::Bypass).because(why);
            Ok(Served::rendered(how, rendered, None, &self.policy))
        };
        // Goes on by itself, however long it takes: the visitor has the page, and waits no longer than for any answer.
        let (committing, page) = (lease.clone(), rendered.to_commit());
        let committing = self.runtime.tasks.spawn(async move { committing.commit(&page).await });
        let patience = self.runtime.settings.patience;
        let Ok(Ok(outcome)) = tokio::time::timeout(patience, committing).await else {
            let error = Error::TimedOut { after: patience };
            self.runtime.tell(Event::NotCommitted { why: error.to_string() });
            self.runtime.unheard(&error);
            return bypass(rendered, "not-committed");
        };
        match outcome {
            Ok(Commit::Committed { etag, .. }) => {
                self.runtime.heard();
                let how = Circumstances {
                    was_there_before: lease.previous().is_some(),
                    ..Circumstances::new(State::Miss)
                };
                let age = clock::now().saturating_duration_since(begun);
                let page = committed_page(lease, &rendered, &etag, age);
                self.runtime.copies.keep(self.key, &page, &rendered.html, self.since);
                let committed = Some((lease.generation(), etag));
                Ok(Served::rendered(how, rendered, committed, &self.policy))
            }
            Ok(Commit::CommittedStale { etag, purged: false, .. }) => {
                self.runtime.heard();
                let committed = Some((lease.generation(), etag));
                let how = Circumstances::stale(StaleReason::Invalidated);
                Ok(Served::rendered(how, rendered, committed, &self.policy))
            }
            Ok(Commit::CommittedStale { purged: true, .. }) => {
                self.runtime.heard();
                self.runtime.copies.forget(self.key);
                bypass(rendered, "purged")
            }
            Ok(late @ (Commit::Superseded { .. } | Commit::Fenced { .. })) => {
                self.runtime.heard();
                self.runtime.tell(Event::NotCommitted { why: format!("{late:?}") });
                // This process slept, and another took over: its page counts, as soon as it is there.
                let newer = match self.lookup(Consistency::Strict).await.map(|reply| reply.outcome) {
                    Ok(Lookup::Fresh(fresh)) => self.waited_for(fresh.page).await.ok(),
                    Ok(Lookup::Stale(stale)) if stale.page.generation > lease.generation() => {
                        self.kept(Circumstances::stale(stale.reason), stale.page).await.ok()
                    }
                    _ => None,
                };
                newer.map_or_else(|| bypass(rendered, "overtaken"), Ok)
            }
            Err(error) => {
                self.runtime.tell(Event::NotCommitted { why: error.to_string() });
                if error.is_outage() {
                    self.runtime.unheard(&error);
                }
                if !error.may_have_been_applied() {
                    // It cannot be kept as it is: whoever comes next need not wait for this lease to expire.
                    self.give_back(lease, None);
                }
                bypass(rendered, "not-committed")
            }
        }
    }

    /// In the background, for nobody waits for it. A lease that is not given back expires.
    fn give_back(&self, lease: &Lease, failure: Option<String>) {
        let (lease, runtime) = (lease.clone(), self.runtime.clone());
        drop(self.runtime.tasks.spawn(async move {
            let given_back = match failure {
                Some(reason) => lease.fail(&reason).await,
                None => lease.release().await,
            };
            if let Err(error) = given_back {
                runtime.tell(Event::NoAnswer { why: error.to_string() });
            }
        }));
    }

    fn regenerate_in_background(&self, render: Renderer) -> Option<Handed> {
        if !self.runtime.refreshing.lock().insert(self.key) {
            return None;
        }
        let turn = Refreshing(self.clone());
        let work = async move {
            let call = &turn.0;
            // Otherwise somebody else renders, or has done so, or nobody may; or it will be tried at the next request.
            if let Ok(Acquire::Granted(lease)) = call.ask_for_lease(Duration::ZERO).await {
                // What comes of it has been told to those who listen.
                drop(call.regenerate_for_sure(lease, render).await);
            }
        };
        match self.background {
            Background::Spawn => {
                drop(self.runtime.tasks.spawn(work));
                None
            }
            Background::HandOver => Some(Handed(work.boxed())),
        }
    }

    /// A page that the coordinator keeps, with its body.
    async fn kept(&self, how: Circumstances, page: Page) -> Turn {
        let known = match &page.body {
            PageBody::Inline(html) => Some(html.clone()),
            PageBody::Unchanged => self.runtime.copies.html(self.key, page.generation),
            PageBody::Omitted | PageBody::Url(_) | PageBody::TooLarge => None,
        };
        let (page, html) = match known {
            Some(html) => (page, html),
            None => self.fetch().await?,
        };
        self.runtime.copies.keep(self.key, &page, &html, self.since);
        Ok(Served::kept(how, page, html, &self.policy))
    }

    /// For when the coordinator is lost before anything newer is there.
    fn remember(&self, page: &Page) {
        if let PageBody::Inline(html) = &page.body {
            self.runtime.copies.keep(self.key, page, html, self.since);
        }
    }

    /// What does not fit a message.
    async fn fetch(&self) -> Result<(Page, Bytes), Obstacle> {
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

    /// The last page that this process knows.
    fn last_known(&self, why: &'static str) -> Option<Served> {
        let copy = self.runtime.copies.get(self.key)?;
        let how = Circumstances::new(State::StaleMetadataError).because(why);
        let age = copy.page.age + copy.age();
        let page = Page { age, ..copy.page };
        Some(Served::kept(how, page, copy.html, &self.policy))
    }

    /// A page that nobody keeps.
    pub(super) async fn uncached(
        &self,
        render: Option<Renderer>,
        why: &'static str,
    ) -> Result<Served, ServeError> {
        let Some(render) = render else { return Err(RenderError::Stopped.into()) };
        let context = RenderContext { generation: None, sidecar_token: None, previous: None };
        let stop = &self.runtime.tasks.stop;
        match render.render(context, self.policy.render_timeout, stop).await {
            Ok(rendered) => {
                self.learn(&rendered);
                let how = Circumstances::new(State::Bypass).because(why);
                Ok(Served::rendered(how, rendered, None, &self.policy))
            }
            Err(error) => {
                self.runtime.tell(Event::RenderFailed { why: error.to_string() });
                Err(error.into())
            }
        }
    }

    /// Asks the coordinator with the token of one's own invalidations. One that it does not know is presented once.
    async fn ask<'a, T>(
        &self,
        call: impl Fn(Option<ConsistencyToken>) -> BoxFuture<'a, Result<Result<T, Error>, Obstacle>>,
    ) -> Result<T, Obstacle> {
        let token = self.runtime.invalidations.token();
        let mut result = call(token.clone()).await?;
        if self.forgets(token.as_ref(), &result) {
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

    /// Whether the call was refused for its token: then the log is another one than that of the invalidation, and has lost it.
    fn forgets<T>(&self, token: Option<&ConsistencyToken>, result: &Result<T, Error>) -> bool {
        let (Some(token), Err(error)) = (token, result) else { return false };
        let is_unknown = match error.reason() {
            Some(Reason::ConsistencyTokenUnknown) => true,
            Some(Reason::InvalidField) => is_about("consistency_token", error),
            _ => false,
        };
        if is_unknown {
            self.runtime.invalidations.forget(token);
            self.runtime.tell(Event::NoAnswer { why: error.to_string() });
        }
        is_unknown
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
        self.runtime.tell(Event::NoAnswer { why: error.to_string() });
        Err(obstacle)
    }
}

impl Inner {
    pub(super) fn heard(&self) {
        if self.circuit.answered() {
            self.tell(Event::CoordinatorFound);
        }
    }

    pub(super) fn unheard(&self, error: &Error) {
        self.tell(Event::NoAnswer { why: error.to_string() });
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

/// As the coordinator would tell it now.
fn committed_page(lease: &Lease, rendered: &Rendered, etag: &str, age: Duration) -> Page {
    Page {
        generation: lease.generation(),
        metadata: PageMetadata { etag: Some(etag.to_owned()), ..rendered.metadata.clone() },
        generated_at: None,
        age,
        body: PageBody::Omitted,
        size_bytes: rendered.html.len() as u64,
        digest: Bytes::new(),
        sidecar_token: rendered.sidecar.as_ref().and(lease.sidecar_token()).cloned(),
        html_object_name: None,
        sidecar_object_name: None,
    }
}

fn failed() -> Circumstances {
    Circumstances::new(State::Stale).because("render-failed")
}

/// The turn to regenerate in the background: over when it is dropped, whether or not anything was done.
struct Refreshing(PageCall);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.runtime.refreshing.lock().remove(&self.0.key);
    }
}
