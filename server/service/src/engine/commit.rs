//! Moves the pointer: bodies first, then the entry.

use super::{
    Engine, Inner,
    bodies::digest,
    error::EngineError,
    transitions::{Settled, Trust},
    watch::WatchEvent,
};
use bytes::Bytes;
use leasehold_core::{
    entry::{Entry, Lease},
    identity::{EntryId, Generation, LeaseToken},
    labels::Labels,
    object::{BodyKind, ObjectName, PageObjects},
    page::{BodyRef, Digest, Page, PageMeta, Pointer},
    transition::{self, Committed, Decision, Standing},
};
use leasehold_store::port::ObjectMeta;
use std::sync::Arc;

/// The content type of sidecars.
pub(crate) const SIDECAR_CONTENT_TYPE: &str = "application/json";

/// Where a body comes from.
#[derive(Clone, Debug)]
pub enum BodyInput {
    /// The bytes.
    Inline(Bytes),
    /// Stored before under the grant's name.
    Stored {
        /// SHA-256.
        digest: Digest,
        /// Length.
        size_bytes: u64,
    },
}

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

impl BodyInput {
    fn inline_bytes(&self) -> usize {
        match self {
            Self::Inline(body) => body.len(),
            Self::Stored { .. } => 0,
        }
    }
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
        let CommitRequest { id, token, generation, html, sidecar, mut meta } = request;
        let (lease, previous) = match self.standing(&id, token, generation).await? {
            Attempt::MayCommit { lease, previous } => (lease, previous),
            Attempt::Settled { answer, current } => return Ok((answer, current.map(|pointer| *pointer))),
        };
        let inner = &self.0;
        let objects = inner.objects_of(&id, &lease);
        let html = given(html).await?;
        let sidecar = match sidecar {
            Some(input) => Some(given(input).await?),
            None => None,
        };
        if meta.etag.is_empty() {
            meta.etag = format!("\"{}\"", hex::encode(&html.digest().0[..16]));
        }
        let bodies = GivenBodies { html, sidecar };
        // What was found missing must be stored again, also when its bytes are the same.
        let mut shared = previous.filter(|pointer| !pointer.gone);
        loop {
            let page = inner.place(&objects, bodies.clone(), shared.as_deref(), &meta).await?;
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
        let now = self.now();
        let task_inner = Arc::clone(inner);
        let task = inner.tasks.spawn(async move {
            let settled = task_inner
                .transitions
                .carry_out(
                    &slot,
                    now,
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
            task_inner.after_commit(&slot.id, generation, &page, &settled);
            Ok(Some(settled))
        });
        let settled = task.await.unwrap_or(Err(EngineError::Internal("a commit ended without an answer")))?;
        Ok(settled.map(|settled| {
            let pointer = own_pointer(&settled, token, generation);
            (settled.answer, pointer)
        }))
    }

    /// Stores one body under a lease, ahead of its commit. Repeatable with the same bytes.
    pub async fn upload(
        &self,
        id: &EntryId,
        token: LeaseToken,
        generation: Generation,
        kind: BodyKind,
        content_type: &str,
        body: Bytes,
    ) -> Result<Uploaded, EngineError> {
        let lease = match self.standing(id, token, generation).await? {
            Attempt::MayCommit { lease, .. } => lease,
            Attempt::Settled { answer, current } => return uploaded_before(&answer, current, kind),
        };
        let inner = &self.0;
        let objects = inner.objects_of(id, &lease);
        let name = match kind {
            BodyKind::Html => &objects.html,
            BodyKind::Sidecar => &objects.sidecar,
        };
        let digest = digest(&body).await?;
        let stored = inner.bodies.put(name, body, digest, object_meta(kind, content_type, None)).await?;
        Ok(Uploaded::Stored(stored))
    }

    /// The lease and the current page of an attempt that may commit; else its settled answer, which is never *fenced* or
    /// *superseded* on the word of a remembered entry.
    async fn standing(
        &self,
        id: &EntryId,
        token: LeaseToken,
        generation: Generation,
    ) -> Result<Attempt, EngineError> {
        let inner = &self.0;
        let now = self.now();
        let slot = inner.views.slot(id);
        let mut view = inner.views.view(&slot, now).await?;
        let mut is_strong = false;
        loop {
            let attempt = inner.transitions.ask(&slot, &view, now, |entry, context| {
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
                    view = inner.views.read(&slot, now).await?;
                    is_strong = true;
                }
                attempt => return Ok(attempt),
            }
        }
    }
}

/// A body, with its digest.
#[derive(Clone)]
enum Given {
    Inline(Bytes, Digest),
    Stored { digest: Digest, size_bytes: u64 },
}

impl Given {
    fn digest(&self) -> Digest {
        match self {
            Self::Inline(_, digest) | Self::Stored { digest, .. } => *digest,
        }
    }
}

#[derive(Clone)]
struct GivenBodies {
    html: Given,
    sidecar: Option<Given>,
}

async fn given(input: BodyInput) -> Result<Given, EngineError> {
    Ok(match input {
        BodyInput::Stored { digest, size_bytes } => Given::Stored { digest, size_bytes },
        BodyInput::Inline(body) => {
            let digest = digest(&body).await?;
            Given::Inline(body, digest)
        }
    })
}

/// What became of moving the pointer.
enum Moved {
    Answered(Committed),
    /// Nothing was swapped: the commit would bring a body back that was found missing.
    SharedBodyGone,
}

/// Whether a sidecar that was stored for one page does for the other.
fn is_sidecar_of(one: &PageMeta, other: &PageMeta) -> bool {
    (&one.headers, &one.tags, &one.path) == (&other.headers, &other.tags, &other.path)
}

fn shares_a_gone_body(entry: Option<&Entry>, page: &Page) -> bool {
    let current = entry.and_then(|entry| entry.pointer.as_ref()).filter(|pointer| pointer.gone);
    current.is_some_and(|pointer| {
        let names = [Some(&page.html), page.sidecar.as_ref()].into_iter().flatten().map(|body| &body.object);
        pointer.objects().any(|gone| names.clone().any(|name| name == gone))
    })
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
    /// The bodies where they belong: those that the page before has too are left where they are.
    ///
    /// HTML and headers name the sidecar by the grant's own token, and the sidecar is labelled with tags and path: it is
    /// shared only where none of these has changed.
    async fn place(
        &self,
        objects: &PageObjects,
        bodies: GivenBodies,
        previous: Option<&Pointer>,
        meta: &PageMeta,
    ) -> Result<Page, EngineError> {
        let GivenBodies { html, sidecar } = bodies;
        let shared_html = self.shared(&html, previous.map(|pointer| &pointer.html)).await?;
        // In this order: whoever finds the HTML finds its sidecar.
        let sidecar = match sidecar {
            None => None,
            Some(given) => {
                let known = previous
                    .filter(|pointer| shared_html.is_some() && is_sidecar_of(&pointer.meta, meta))
                    .and_then(|pointer| pointer.sidecar.as_ref());
                let shared = self.shared(&given, known).await?;
                let stored_meta = object_meta(BodyKind::Sidecar, SIDECAR_CONTENT_TYPE, Some(meta));
                Some(match shared {
                    Some(shared) => shared,
                    None => self.store(&objects.sidecar, given, stored_meta).await?,
                })
            }
        };
        let html = match shared_html {
            Some(shared) => shared,
            None => {
                let stored_meta = object_meta(BodyKind::Html, &meta.content_type, Some(meta));
                self.store(&objects.html, html, stored_meta).await?
            }
        };
        Ok(Page { html, sidecar, meta: meta.clone() })
    }

    /// The body of the page before, where it is the same and is still there.
    async fn shared(&self, given: &Given, known: Option<&BodyRef>) -> Result<Option<BodyRef>, EngineError> {
        let Given::Inline(_, digest) = given else { return Ok(None) };
        let Some(known) = known.filter(|known| known.digest == *digest) else { return Ok(None) };
        Ok(self.bodies.is_stored(known).await?.then(|| known.clone()))
    }

    async fn store(&self, name: &ObjectName, given: Given, meta: ObjectMeta) -> Result<BodyRef, EngineError> {
        match given {
            Given::Stored { digest, size_bytes } => self.bodies.check_stored(name, digest, size_bytes).await,
            Given::Inline(body, digest) => self.bodies.put(name, body, digest, meta).await,
        }
    }

    fn after_commit(&self, id: &EntryId, generation: Generation, page: &Page, settled: &Settled<Committed>) {
        self.retire_replaced(id, settled);
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
                let current = settled.entry.as_ref().and_then(|entry| entry.pointer.as_ref());
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

/// The metadata under which a sidecar says what its page can be invalidated by.
pub(crate) const LABELS_ATTRIBUTE: &str = "leasehold-labels";

/// What readers of the bare object see. The attributes of HTML are FaceTheory's, whose readers restore the response from
/// them. Ahead of the commit nothing is known of the page.
fn object_meta(kind: BodyKind, content_type: &str, page: Option<&PageMeta>) -> ObjectMeta {
    let mut attributes = Vec::new();
    match (kind, page) {
        (BodyKind::Html, Some(page)) => {
            attributes.push(("facetheory-status".to_owned(), page.status.get().to_string()));
            attributes.push(("facetheory-content-type".to_owned(), page.content_type.clone()));
            let csp = page.headers.iter().find(|(name, _)| name == "content-security-policy");
            if let Some((_, value)) = csp {
                attributes.push(("facetheory-content-security-policy".to_owned(), value.clone()));
            }
        }
        (BodyKind::Sidecar, Some(page)) => {
            let labels = Labels::encode(&page.tags, page.path.as_ref());
            attributes.extend(labels.map(|labels| (LABELS_ATTRIBUTE.to_owned(), labels)));
        }
        (BodyKind::Html | BodyKind::Sidecar, None) => {}
    }
    ObjectMeta { content_type: content_type.to_owned(), attributes }
}
