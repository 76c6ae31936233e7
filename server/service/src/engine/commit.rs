//! Moves the pointer: bodies first, then the entry.

use super::{
    Engine, Inner,
    bodies::digest,
    error::EngineError,
    placing::{BodyInput, Destination, GivenBodies, GivenNames, Placing, object_meta, shares_a_gone_body},
    staged::{self, By},
    transitions::{Settled, Trust},
    watch::WatchEvent,
};
use bytes::Bytes;
use leasehold_core::{
    entry::Lease,
    identity::{EntryId, Generation, LeaseToken},
    mutation::{self, Mutation},
    named::GivenName,
    object::{BodyKind, ObjectName},
    page::{BodyRef, Page, PageMeta, Pointer},
    transition::{self, Committed, Decision, Standing},
};
use std::sync::Arc;

/// What the renderer says of its page. An empty `etag` is made from the digest.
pub type PageInput = PageMeta;

/// Asks to make a page current.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// Of which entry.
    pub id: EntryId,
    /// The lease's token.
    pub token: LeaseToken,
    /// The lease's generation.
    pub generation: Generation,
    /// The HTML.
    pub html: BodyInput,
    /// The sidecar.
    pub sidecar: Option<BodyInput>,
    /// What they are to be called.
    pub names: GivenNames,
    /// The rest.
    pub meta: PageInput,
}

impl CommitRequest {
    /// Bytes of the bodies that came with it.
    pub fn inline_bytes(&self) -> usize {
        let bodies = [Some(&self.html), self.sidecar.as_ref()];
        bodies.into_iter().flatten().map(BodyInput::inline_bytes).sum()
    }
}

/// Asks to store a body ahead of its commit.
#[derive(Clone, Debug)]
pub struct UploadRequest {
    /// Of which entry.
    pub id: EntryId,
    /// The lease's token.
    pub token: LeaseToken,
    /// The lease's generation.
    pub generation: Generation,
    /// Which body.
    pub kind: BodyKind,
    /// What it is to be called, where its worker says.
    pub name: Option<GivenName>,
    /// What a reader of the bare object is to see.
    pub content_type: String,
}

/// A body that was stored ahead of its commit.
#[derive(Clone, Debug)]
pub enum Uploaded {
    /// Stored.
    Stored(BodyRef),
    /// The lease is not the caller's any more.
    Fenced {
        /// The latest generation.
        latest: Option<Generation>,
    },
    /// A newer page is current. Whether a commit of this attempt ever was applied is not known: to call it fenced could
    /// be a lie.
    Superseded {
        /// The generation that is current.
        current: Generation,
    },
}

impl Engine {
    /// Stores the bodies and moves the pointer. Repeatable. Answers with the pointer where it is this call's.
    pub async fn commit(&self, request: CommitRequest) -> Result<(Committed, Option<Pointer>), EngineError> {
        let CommitRequest { id, token, generation, html, sidecar, names, mut meta } = request;
        let settled = |answer, current: Option<Box<Pointer>>| {
            let own = current.filter(|pointer| (pointer.token, pointer.generation) == (token, generation));
            Ok((answer, own.map(|pointer| *pointer)))
        };
        let (lease, previous) = match self.standing(&id, token, generation, Trust::Remembered).await? {
            Attempt::MayCommit { lease, previous } => (lease, previous),
            Attempt::Settled { answer, current } => return settled(answer, current),
        };
        let inner = &self.0;
        let bodies = GivenBodies::of(html, sidecar).await?;
        if meta.etag.is_empty() {
            meta.etag = format!("\"{}\"", hex::encode(&bodies.html_digest().0[..16]));
        }
        // What was found missing must be stored again, also when its bytes are the same.
        let mut shared = previous.filter(|pointer| !pointer.gone);
        loop {
            let placing = Placing { id: &id, lease: &lease, names: &names };
            let page = match inner.place(placing, bodies.clone(), shared.as_deref(), &meta).await {
                Ok(page) => page,
                Err(error) => {
                    let (answer, current) = self.standing_despite(error, &id, token, generation).await?;
                    return settled(answer, current);
                }
            };
            match self.move_pointer(&id, token, generation, page).await? {
                Some((answer, pointer)) => return Ok((answer, pointer)),
                None => shared = None,
            }
        }
    }

    /// Swaps the page in; `None` where a body that it shares with the page before was found missing meanwhile.
    async fn move_pointer(
        &self,
        id: &EntryId,
        token: LeaseToken,
        generation: Generation,
        page: Page,
    ) -> Result<Option<(Committed, Option<Pointer>)>, EngineError> {
        let inner = &self.0;
        let slot = inner.views.slot(id);
        let task_inner = Arc::clone(inner);
        let task = inner.spawn(async move {
            let settled = task_inner
                .transitions
                .carry_out(
                    &slot,
                    |moved| match moved {
                        Moved::Answered(answer) => trust(answer),
                        Moved::SharedBodyGone => Trust::Remembered,
                    },
                    |entry, context| match transition::commit(entry, token, generation, &page, context) {
                        Decision::Answer(answer) => Decision::Answer(Moved::Answered(answer)),
                        Decision::Swap(..) if shares_a_gone_body(entry, &page) => {
                            Decision::Answer(Moved::SharedBodyGone)
                        }
                        Decision::Swap(next, answer) => Decision::Swap(next, Moved::Answered(answer)),
                    },
                )
                .await?;
            let Settled { answer: Moved::Answered(answer), entry, replaced } = settled else {
                return Ok(None);
            };
            let settled = Settled { answer, entry, replaced };
            task_inner.after_commit(&slot.id, (token, generation), &page, &settled);
            Ok(Some(settled))
        })?;
        let settled = task.await.unwrap_or(Err(EngineError::Internal("a commit ended without an answer")))?;
        Ok(settled.map(|settled| {
            let pointer = own_pointer(&settled, token, generation);
            (settled.answer, pointer)
        }))
    }

    /// Stores one body under a lease, ahead of its commit. Repeatable with the same bytes.
    pub async fn upload(&self, request: UploadRequest, body: Bytes) -> Result<Uploaded, EngineError> {
        let UploadRequest { id, token, generation, kind, name, content_type } = request;
        let lease = match self.standing(&id, token, generation, Trust::Remembered).await? {
            Attempt::MayCommit { lease, .. } => lease,
            Attempt::Settled { answer, current } => return uploaded_before(&answer, current, kind),
        };
        let inner = &self.0;
        let digest = digest(&body).await?;
        let Destination { object, origin } = inner.destination(&id, &lease, kind, name.as_ref(), digest);
        let meta = object_meta(kind, &content_type, None, origin.as_ref());
        let claim = match origin {
            None => None,
            Some(_) => {
                let attempt = staged::Attempt::of(&id, &lease);
                Some(inner.staged.claim(attempt, &lease, kind, &object, By::Upload)?)
            }
        };
        let put = inner.bodies.put(&object, body, digest, meta).await;
        if let Some(claim) = claim {
            claim.settle(&put);
        }
        match put {
            Ok(stored) => Ok(Uploaded::Stored(stored)),
            Err(error) => {
                let (answer, current) = self.standing_despite(error, &id, token, generation).await?;
                uploaded_before(&answer, current, kind)
            }
        }
    }

    /// The settled answer to an attempt whose body is missing, or another one than it says; `error` where there is none. It
    /// may have been applied by an earlier call, and superseded, and its bodies deleted since.
    async fn standing_despite(
        &self,
        error: EngineError,
        id: &EntryId,
        token: LeaseToken,
        generation: Generation,
    ) -> Result<(Committed, Option<Box<Pointer>>), EngineError> {
        if !matches!(error, EngineError::ObjectMissing(_) | EngineError::ObjectConflict(_)) {
            return Err(error);
        }
        match self.standing(id, token, generation, Trust::ReadAfterArrival).await? {
            Attempt::Settled { answer, current } => Ok((answer, current)),
            Attempt::MayCommit { .. } => Err(error),
        }
    }

    /// The lease and the current page of an attempt that may commit, on the word of an entry that is read as `needed`; else
    /// its settled answer, which is never *fenced* or *superseded* on the word of a remembered one.
    async fn standing(
        &self,
        id: &EntryId,
        token: LeaseToken,
        generation: Generation,
        needed: Trust,
    ) -> Result<Attempt, EngineError> {
        let inner = &self.0;
        let slot = inner.views.slot(id);
        let mut is_strong = needed == Trust::ReadAfterArrival;
        let mut view = if is_strong {
            inner.views.read(&slot, self.now()).await?
        } else {
            inner.views.view(&slot, self.now()).await?
        };
        is_strong |= mutation::is_active(Mutation::FencedFromMemory);
        loop {
            let attempt = inner.transitions.ask(&slot, &view, self.now(), |entry, context| {
                let current = entry.and_then(|entry| entry.pointer.clone()).map(Box::new);
                match transition::standing(entry, token, generation, context) {
                    Standing::Holder(_, lease) => {
                        Attempt::MayCommit { lease: Box::new(lease.clone()), previous: current }
                    }
                    Standing::Settled(answer) => Attempt::Settled { answer, current },
                }
            });
            match attempt {
                Attempt::Settled { answer, .. }
                    if !is_strong && trust(&answer) == Trust::ReadAfterArrival =>
                {
                    view = inner.views.read(&slot, self.now()).await?;
                    is_strong = true;
                }
                Attempt::Settled { answer, current } => {
                    let attempt = staged::Attempt::new(id, token, generation);
                    inner.retire_staged(&attempt, current.as_deref());
                    return Ok(Attempt::Settled { answer, current });
                }
                Attempt::MayCommit { .. } => return Ok(attempt),
            }
        }
    }
}

/// What became of moving the pointer.
enum Moved {
    Answered(Committed),
    /// Nothing was swapped: the commit would bring a body back that was found missing.
    SharedBodyGone,
}

/// How an attempt to render stands.
enum Attempt {
    /// Its lease, and the page that it would replace.
    MayCommit { lease: Box<Lease>, previous: Option<Box<Pointer>> },
    /// Whatever its page is, this is the answer.
    Settled { answer: Committed, current: Option<Box<Pointer>> },
}

/// The answer to an upload whose attempt is settled: a late repetition of one whose commit is applied finds its body.
fn uploaded_before(
    answer: &Committed,
    current: Option<Box<Pointer>>,
    kind: BodyKind,
) -> Result<Uploaded, EngineError> {
    Ok(match answer {
        Committed::Committed | Committed::CommittedStale(_) => {
            let body = current.and_then(|pointer| match kind {
                BodyKind::Html => Some(pointer.html),
                BodyKind::Sidecar => pointer.sidecar,
            });
            Uploaded::Stored(body.ok_or(EngineError::CommittedWithout(kind))?)
        }
        Committed::Superseded { current } => Uploaded::Superseded { current: *current },
        Committed::Fenced { latest } => Uploaded::Fenced { latest: *latest },
    })
}

impl Inner {
    fn after_commit(
        &self,
        id: &EntryId,
        (token, generation): (LeaseToken, Generation),
        page: &Page,
        settled: &Settled<Committed>,
    ) {
        self.retire_replaced(id, settled);
        // Whatever the answer, this attempt will change nothing any more.
        let current = settled.entry.as_ref().and_then(|entry| entry.pointer.as_ref());
        self.retire_staged(&staged::Attempt::new(id, token, generation), current);
        match &settled.answer {
            Committed::Committed | Committed::CommittedStale(_) if settled.replaced.is_some() => {
                self.hub.publish(WatchEvent::Committed {
                    id: id.clone(),
                    generation,
                    tags: page.meta.tags.clone(),
                    stale: !matches!(settled.answer, Committed::Committed),
                });
            }
            Committed::Committed | Committed::CommittedStale(_) => {}
            // What was uploaded for it can never become current; what the current page shares with it stays.
            Committed::Superseded { .. } | Committed::Fenced { .. } => {
                tracing::info!(entry.generation = generation.0, outcome = ?settled.answer, "a commit came too late");
                let names =
                    [Some(&page.html), page.sidecar.as_ref()].into_iter().flatten().map(|body| &body.object);
                let is_current =
                    |name: &ObjectName| current.is_some_and(|now| now.objects().any(|kept| kept == name));
                self.cleaner.retire(names.filter(|name| !is_current(name)).cloned());
            }
        }
    }
}

fn trust(answer: &Committed) -> Trust {
    match answer {
        Committed::Committed | Committed::CommittedStale(_) => Trust::Remembered,
        Committed::Superseded { .. } | Committed::Fenced { .. } => Trust::ReadAfterArrival,
    }
}

fn own_pointer(settled: &Settled<Committed>, token: LeaseToken, generation: Generation) -> Option<Pointer> {
    let pointer = settled.entry.as_ref()?.pointer.as_ref()?;
    (pointer.token == token && pointer.generation == generation).then(|| pointer.clone())
}
