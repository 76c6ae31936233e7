//! How a lease ends: what was rendered under it is committed, or it is given back. Neither needs a visitor who waits for that.

use super::{
    answer::{Circumstances, Committed, Served, State},
    event::Event,
    pages::{PageCall, Turn},
    render::Rendered,
};
use crate::{
    Commit, Consistency, Error, Lease, Lookup, Page, PageBody, PageMetadata, Reason, SidecarToken,
    StaleReason, clock,
};
use bytes::Bytes;
use tokio::time::Instant;

impl PageCall {
    /// Commits what was rendered since `begun`. It goes on by itself, however long it takes: the visitor has the page, and
    /// waits no longer than for any answer.
    pub(super) async fn commit(&self, lease: Lease, rendered: Rendered, begun: Instant) -> Turn {
        let committing =
            Committing { call: self.clone(), lease: lease.clone(), rendered: rendered.clone(), begun };
        let committing = self.runtime.tasks.spawn(committing.finish());
        let answered = tokio::time::timeout(self.runtime.settings.patience, committing).await;

        let bypass = |rendered, why| {
            let how = Circumstances::new(State::Bypass).because(why);
            Ok(Served::rendered(how, rendered, None, &self.policy))
        };
        // For the circuit, this says nothing: a large page is longer on its way than an answer.
        let Ok(Ok(Some(commit))) = answered else { return bypass(rendered, "not-committed") };
        let generation = lease.generation();
        match commit {
            Commit::Committed { etag, sidecar_token, .. } => {
                let how = Circumstances {
                    was_there_before: lease.previous().is_some(),
                    ..Circumstances::new(State::Miss)
                };
                let committed = Committed { generation, etag, sidecar_token };
                Ok(Served::rendered(how, rendered, Some(committed), &self.policy))
            }
            Commit::CommittedStale { etag, sidecar_token, purged: false, .. } => {
                let how = Circumstances::stale(StaleReason::Invalidated);
                let committed = Committed { generation, etag, sidecar_token };
                Ok(Served::rendered(how, rendered, Some(committed), &self.policy))
            }
            Commit::CommittedStale { purged: true, .. } => bypass(rendered, "purged"),
            Commit::Superseded { .. } | Commit::Fenced { .. } => {
                // This process slept, and another took over: its page counts, as soon as it is there.
                let newer = match self.lookup(Consistency::Strict).await.map(|reply| reply.outcome) {
                    Ok(Lookup::Fresh(fresh)) => self.waited_for(fresh.page).await.ok(),
                    Ok(Lookup::Stale(stale)) if stale.page.generation > generation => {
                        self.kept(Circumstances::stale(stale.reason), stale.page).await.ok()
                    }
                    _ => None,
                };
                newer.map_or_else(|| bypass(rendered, "overtaken"), Ok)
            }
        }
    }

    /// In the background, for nobody waits for it. A lease that is not given back expires.
    pub(super) fn give_back(&self, lease: &Lease, failure: Option<String>) {
        let (lease, runtime) = (lease.clone(), self.runtime.clone());
        drop(self.runtime.tasks.spawn(async move {
            let given_back = match failure {
                Some(reason) => lease.fail(&reason).await,
                None => lease.release().await,
            };
            if let Err(error) = given_back {
                runtime.tell(Event::NoAnswer { why: error.with_cause() });
            }
        }));
    }
}

/// A page on its way to the coordinator. Whatever becomes of it is heard, also when its visitor has gone.
struct Committing {
    call: PageCall,
    lease: Lease,
    rendered: Rendered,
    begun: Instant,
}

impl Committing {
    /// What became of it; `None`: the coordinator did not say, or did not take it.
    async fn finish(self) -> Option<Commit> {
        let page = self.rendered.to_commit();
        // A large page may be longer on its way than its lease lasts: whoever waits for it would be granted the next one, and
        // render it once more.
        let committing = self.lease.renew_while(self.call.policy.lease_ttl, self.lease.commit(&page));
        match committing.await {
            Ok(commit) => {
                self.call.runtime.heard();
                self.remember(&commit);
                Some(commit)
            }
            Err(error) => {
                self.give_up(&error);
                None
            }
        }
    }

    fn remember(&self, commit: &Commit) {
        let PageCall { runtime, key, since, .. } = &self.call;
        runtime.uncached.forget(*key);
        match commit {
            Commit::Committed { etag, sidecar_token, .. } => {
                let page = self.page(etag, sidecar_token.as_ref());
                runtime.copies.keep(*key, &page, &self.rendered.html, *since);
            }
            // It is not to be served for want of something better.
            Commit::CommittedStale { purged: false, .. } => {}
            Commit::CommittedStale { purged: true, .. } => runtime.copies.forget(*key),
            Commit::Superseded { .. } | Commit::Fenced { .. } => {
                runtime.tell(Event::NotCommitted { why: format!("{commit:?}") });
            }
        }
    }

    fn give_up(&self, error: &Error) {
        let PageCall { runtime, key, since, .. } = &self.call;
        let why = error.to_string();
        if error.is_outage() {
            runtime.tell(Event::NotCommitted { why });
            runtime.unheard(error);
        } else {
            runtime.heard();
            if is_refused_for_good(error) {
                runtime.tell(Event::Refused { why });
                // Before the lease is given back: else whoever waits here for it would be the next one to be refused.
                if runtime.copies.epoch() == *since {
                    runtime.uncached.remember_refused(*key);
                }
            } else {
                runtime.tell(Event::NotCommitted { why });
            }
        }
        if !error.may_have_been_applied() {
            // It cannot be kept as it is: whoever comes next need not wait for this lease to expire.
            self.call.give_back(&self.lease, None);
        }
    }

    /// As the coordinator would tell it now.
    fn page(&self, etag: &str, sidecar_token: Option<&SidecarToken>) -> Page {
        let rendered = &self.rendered;
        Page {
            generation: self.lease.generation(),
            metadata: PageMetadata { etag: Some(etag.to_owned()), ..rendered.metadata.clone() },
            generated_at: None,
            age: clock::now().saturating_duration_since(self.begun),
            body: PageBody::Omitted,
            size_bytes: rendered.html.len() as u64,
            digest: Bytes::new(),
            sidecar_token: sidecar_token.cloned(),
            html_object_name: None,
            sidecar_object_name: None,
        }
    }
}

/// Whether the page is refused, and not this commit of it: the next render would be too, unless it comes out as another one.
fn is_refused_for_good(error: &Error) -> bool {
    let is_of_this_lease = matches!(error.reason(), Some(Reason::ObjectMissing | Reason::ObjectConflict));
    !error.is_outage() && !error.may_have_been_applied() && !is_of_this_lease
}
