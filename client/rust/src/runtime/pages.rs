//! A request's way through the coordinator: look up, acquire, render, commit.

use super::{
    Inner, Runtime,
    answer::{Circumstances, ServeError, Served, State},
    asking::Obstacle,
    background::{Background, Handed},
    copies::{Epoch, LocalKey},
    event::Event,
    policy::{OnContention, OnFailure, Policy, WAIT},
    render::{BoxError, RenderContext, RenderError, Rendered, Renderer},
    request,
    uncached::Way,
};
use crate::{
    Acquire, BackingOff, Consistency, CurrentPage, EntryRef, Lease, Lookup, MissingReason, Page, PageBody,
    StalePage, StaleReason, clock,
};
use futures::FutureExt as _;
use std::{sync::Arc, time::Duration};

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
    pub(super) runtime: Arc<Inner>,
    pub(super) entry: EntryRef,
    pub(super) key: LocalKey,
    pub(super) policy: Policy,
    /// When it came.
    pub(super) since: Epoch,
    was_there_before: bool,
    /// How closely the coordinator is to look.
    pub(super) consistency: Consistency,
    background: Background,
}

pub(super) type Turn = Result<Served, Obstacle>;

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
        Ok(served.of(&self.entry))
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
        let may_serve_stale = previous.as_ref().is_some_and(|previous| self.is_within_bounds(previous));
        let wait = match self.policy.on_contention {
            OnContention::Wait(longest) => longest,
            OnContention::ServeStale if may_serve_stale => Duration::ZERO,
            // All who do not wait would render.
            OnContention::ServeStale => WAIT,
        };
        let tasks = &self.runtime.tasks;
        let _waiting = tasks.waiting();
        for _ in 0..ROUNDS {
            let acquired = tokio::select! {
                biased;
                () = tasks.stop.cancelled() => {
                    return Err(ServeError::Render(RenderError::Stopped).into());
                }
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

    pub(super) async fn waited_for(&self, page: Page) -> Turn {
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
        self.commit(lease, rendered, begun).await
    }

    /// Whether there is a page to wait for. Not from a render that an invalidation has overtaken.
    fn learn(&self, rendered: &Rendered) {
        if !rendered.uncached {
            self.runtime.uncached.forget_unless_refused(self.key);
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

    fn regenerate_in_background(&self, render: Renderer) -> Option<Handed> {
        if !self.runtime.refreshing.lock().insert(self.key) {
            return None;
        }
        let turn = Refreshing(self.clone());
        let work = async move {
            let call = &turn.0;
            let asking = call.ask_for_lease(Duration::ZERO);
            // Otherwise somebody else renders, or has done so, or nobody may; or it will be tried at the next request.
            if let Some(Ok(Acquire::Granted(lease))) =
                call.runtime.tasks.stop.run_until_cancelled(asking).await
            {
                // What comes of it has been told to those who listen.
                drop(call.regenerate_for_sure(lease, render).await);
            }
        };
        match self.background {
            Background::Spawn => {
                drop(self.runtime.tasks.spawn(work));
                None
            }
            Background::HandOver => Some(Handed(leasehold_traces::inherited(work).boxed())),
        }
    }

    /// A page that the coordinator keeps, with its body.
    pub(super) async fn kept(&self, how: Circumstances, page: Page) -> Turn {
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
