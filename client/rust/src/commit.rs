//! Making a rendered page the current one.

use crate::{
    Error, Lease, PageMetadata, SidecarToken,
    call::Call,
    wire::{self},
};
use bytes::Bytes;
use futures::stream;
use leasehold_proto::v1 as pb;
use std::{fmt, time::Duration};

/// A rendered page. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPage {
    /// The HTML.
    pub html: NewBody,
    /// The hydration sidecar that belongs to it.
    pub sidecar: Option<NewBody>,
    /// What the renderer says of it.
    pub metadata: PageMetadata,
    /// The name by which [`Coordinator::serve_object`](crate::Coordinator::serve_object) is to find the HTML within its
    /// tenant: at most 512 bytes, ending in `.html`, new for every render and never used again. `None`: the coordinator names
    /// it.
    pub html_name: Option<String>,
    /// Likewise of the sidecar, ending in `.hydration.json`.
    pub sidecar_name: Option<String>,
}

impl NewPage {
    /// A page of status 200, of no tags, that stays fresh until invalidated.
    pub fn new(html: impl Into<NewBody>) -> Self {
        Self {
            html: html.into(),
            sidecar: None,
            metadata: PageMetadata::default(),
            html_name: None,
            sidecar_name: None,
        }
    }

    /// With this name of the HTML.
    pub fn html_name(mut self, name: impl Into<String>) -> Self {
        self.html_name = Some(name.into());
        self
    }

    /// With this name of the sidecar.
    pub fn sidecar_name(mut self, name: impl Into<String>) -> Self {
        self.sidecar_name = Some(name.into());
        self
    }

    /// With this sidecar.
    pub fn sidecar(mut self, sidecar: impl Into<NewBody>) -> Self {
        self.sidecar = Some(sidecar.into());
        self
    }

    /// With this metadata.
    pub fn metadata(mut self, metadata: PageMetadata) -> Self {
        self.metadata = metadata;
        self
    }
}

/// A body that is to be committed.
#[derive(Clone, PartialEq)]
pub enum NewBody {
    /// The bytes. Whether they travel with the commit or ahead of it is decided by their size.
    Bytes(Bytes),
    /// Stored before, by [`Lease::upload`] or by the worker itself, as the object that the lease names; or by
    /// [`Lease::upload_as`], as the page is to name it too.
    Stored(StoredBody),
}

/// A body that is in the object store already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBody {
    /// SHA-256 of the bytes: 32 bytes.
    pub digest: Bytes,
    /// Their number.
    pub size_bytes: u64,
}

/// Which body of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// The HTML.
    Html,
    /// The hydration sidecar.
    Sidecar,
}

/// What became of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upload {
    /// It is stored.
    Stored {
        /// As the commit is to name it.
        body: StoredBody,
        /// The object.
        object: String,
    },
    /// The lease is not this caller's any more; nothing was stored.
    Fenced {
        /// The generation of the latest grant. Zero: the entry is not known.
        latest_generation: u64,
    },
    /// A page of a newer generation is current; nothing was stored.
    Superseded {
        /// Its generation.
        current_generation: u64,
    },
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The page is current: by this call or an earlier attempt of it.
    Committed {
        /// The entity tag that the page is served with.
        etag: String,
        /// The token of its sidecar.
        sidecar_token: Option<SidecarToken>,
        /// The name of its HTML: another one than this commit gave where the body of the page before was kept, which has the
        /// same bytes, or where an earlier attempt gave another. `None`: the coordinator named it.
        html_object_name: Option<String>,
        /// Likewise of the sidecar.
        sidecar_object_name: Option<String>,
    },
    /// It is current, but was invalidated after its render began: never served as fresh.
    CommittedStale {
        /// The entity tag that the page is served with.
        etag: String,
        /// The token of its sidecar.
        sidecar_token: Option<SidecarToken>,
        /// The invalidation was hard: the page is not served at all.
        purged: bool,
        /// As of [`Commit::Committed`].
        html_object_name: Option<String>,
        /// As of [`Commit::Committed`].
        sidecar_object_name: Option<String>,
    },
    /// A page of a newer generation is current.
    Superseded {
        /// Its generation.
        current_generation: u64,
    },
    /// Nothing of this commit was ever applied, nor will be.
    Fenced {
        /// The generation of the latest grant. Zero: the entry is not known.
        latest_generation: u64,
    },
}

impl Lease {
    /// Makes `page` the current one and ends the lease. What is acknowledged survives the crash of every coordinator. A
    /// lease that expired, but that nobody was granted since, still commits.
    ///
    /// Bodies of more than the builder's inline limit, together, are uploaded first: the sidecar only if it alone is over the
    /// limit, as one that comes with its commit is stored with the page's tags and path.
    ///
    /// # Errors
    /// `INVALID_FIELD` (also for a status of 500 or more: that is a failed render), `OBJECT_MISSING`, `OBJECT_CONFLICT`;
    /// or no answer in time: it may have been applied, and committing again tells.
    pub async fn commit(&self, page: &NewPage) -> Result<Commit, Error> {
        use pb::commit_pointer_response::Outcome;
        let NewPage { html, sidecar, metadata, html_name, sidecar_name } = page;
        let limit = self.0.coordinator.shared.inline_limit;
        let sidecar_len = sidecar.as_ref().map_or(0, NewBody::inline_len);
        let is_sidecar_inline = sidecar_len <= limit;
        let beside = if is_sidecar_inline { sidecar_len } else { 0 };
        let is_html_inline = html.inline_len().saturating_add(beside) <= limit;
        // In this order: a page must never be there without its sidecar.
        let mut sources = [None, None];
        let bodies = [
            (BodyKind::Sidecar, sidecar.as_ref(), is_sidecar_inline, sidecar_name),
            (BodyKind::Html, Some(html), is_html_inline, html_name),
        ];
        for ((kind, body, inline, name), committed) in bodies.into_iter().zip(&mut sources) {
            let Some(body) = body else { continue };
            let name = name.as_deref().unwrap_or_default();
            let source = match body {
                NewBody::Stored(stored) => stored.clone().into_wire(),
                NewBody::Bytes(bytes) if inline => pb::body_source::Source::Inline(bytes.clone()),
                NewBody::Bytes(bytes) => {
                    let content_type = metadata.content_type.as_deref().filter(|_| kind == BodyKind::Html);
                    match self.upload_named(kind, name, content_type, bytes.clone()).await? {
                        Upload::Stored { body, .. } => body.into_wire(),
                        Upload::Fenced { latest_generation } => {
                            return Ok(Commit::Fenced { latest_generation });
                        }
                        Upload::Superseded { current_generation } => {
                            return Ok(Commit::Superseded { current_generation });
                        }
                    }
                }
            };
            *committed = Some(pb::BodySource { source: Some(source), object_name: name.to_owned() });
        }
        let [sidecar, html] = sources;
        let message = pb::CommitPointerRequest {
            entry: self.0.entry.to_wire(),
            lease: self.to_wire(),
            html,
            sidecar,
            metadata: Some(metadata.clone().into_wire()),
        };
        let send =
            |mut client: crate::link::Client, request| async move { client.commit_pointer(request).await };
        let pb::CommitPointerResponse { outcome } =
            self.0.coordinator.shared.prompt(message, send).await?.answer;
        Ok(match wire::required(outcome, "the outcome of a commit")? {
            Outcome::Committed(pb::CommitApplied {
                etag,
                sidecar_token,
                html_object_name,
                sidecar_object_name,
            }) => Commit::Committed {
                etag,
                sidecar_token: SidecarToken::from_wire(sidecar_token),
                html_object_name: wire::non_empty(html_object_name),
                sidecar_object_name: wire::non_empty(sidecar_object_name),
            },
            Outcome::CommittedStale(pb::CommitAppliedStale {
                etag,
                sidecar_token,
                purged,
                html_object_name,
                sidecar_object_name,
            }) => Commit::CommittedStale {
                etag,
                sidecar_token: SidecarToken::from_wire(sidecar_token),
                purged,
                html_object_name: wire::non_empty(html_object_name),
                sidecar_object_name: wire::non_empty(sidecar_object_name),
            },
            Outcome::Superseded(pb::CommitSuperseded { current_generation }) => {
                Commit::Superseded { current_generation }
            }
            Outcome::Fenced(pb::CommitFenced { latest_generation }) => Commit::Fenced { latest_generation },
        })
    }

    /// Stores one body ahead of the commit that names it: at most 16 MiB by default. The sidecar before the HTML. With
    /// `content_type` `None`, by kind: `text/html; charset=utf-8` or `application/json`.
    ///
    /// # Errors
    /// `OBJECT_CONFLICT` where other bytes were stored under this lease before, `LIMIT_REACHED`; or no answer in time.
    pub async fn upload(
        &self,
        kind: BodyKind,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Upload, Error> {
        self.upload_named(kind, "", content_type, body).await
    }

    /// As [`upload`](Self::upload), under a name for [`Coordinator::serve_object`](crate::Coordinator::serve_object), which the
    /// page then has to name too: [`NewPage::html_name`], [`NewPage::sidecar_name`].
    ///
    /// # Errors
    /// As there; `OBJECT_CONFLICT` also where another lease has stored a body under this name, or this one a body of this kind
    /// under another.
    pub async fn upload_as(
        &self,
        kind: BodyKind,
        name: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Upload, Error> {
        self.upload_named(kind, name, content_type, body).await
    }

    /// An empty name is none.
    async fn upload_named(
        &self,
        kind: BodyKind,
        name: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Upload, Error> {
        use pb::upload_body_response::Outcome;
        let head = pb::UploadHead {
            entry: self.0.entry.to_wire(),
            lease: self.to_wire(),
            kind: match kind {
                BodyKind::Html => pb::BodyKind::Html,
                BodyKind::Sidecar => pb::BodyKind::Sidecar,
            }
            .into(),
            content_type: content_type.unwrap_or_default().to_owned(),
            object_name: name.to_owned(),
        };
        let shared = &self.0.coordinator.shared;
        let place = shared.lanes.waiting();
        let limits = shared.limits.waiting(Duration::from_secs(body.len() as u64 / SLOWEST_BYTES_PER_SECOND));
        let mut call = Call::begin(shared, limits);
        let pb::UploadBodyResponse { outcome } = loop {
            let attempt = call.attempt()?;
            let (generation, mut client) = place.link().client();
            let request = attempt.request(stream::iter(upload_parts(head.clone(), body.clone())));
            match attempt.settle(client.upload_body(request)).await {
                Ok(answer) => break answer,
                Err(error) => {
                    if shared.lanes.are_suspect(&error) {
                        place.link().replace(generation);
                    }
                    call.retry_after(error).await?;
                }
            }
        };
        Ok(match wire::required(outcome, "the outcome of an upload")? {
            Outcome::Uploaded(pb::UploadedBody { object, digest, size_bytes }) => {
                Upload::Stored { body: StoredBody { digest, size_bytes }, object }
            }
            Outcome::Fenced(pb::CommitFenced { latest_generation }) => Upload::Fenced { latest_generation },
            Outcome::Superseded(pb::CommitSuperseded { current_generation }) => {
                Upload::Superseded { current_generation }
            }
        })
    }
}

/// An upload gets another second for each of these.
const SLOWEST_BYTES_PER_SECOND: u64 = 1 << 20;
const CHUNK_BYTES: usize = 256 << 10;

/// The head, then the body in chunks that share its memory.
fn upload_parts(head: pb::UploadHead, body: Bytes) -> impl Iterator<Item = pb::UploadBodyRequest> {
    use pb::upload_body_request::Part;
    let chunks = (0..body.len())
        .step_by(CHUNK_BYTES)
        .map(move |start| Part::Chunk(body.slice(start..body.len().min(start + CHUNK_BYTES))));
    std::iter::once(Part::Head(head)).chain(chunks).map(|part| pb::UploadBodyRequest { part: Some(part) })
}

impl NewBody {
    fn inline_len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Stored(_) => 0,
        }
    }
}

impl<T: Into<Bytes>> From<T> for NewBody {
    fn from(bytes: T) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl fmt::Debug for NewBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Stored(stored) => fmt::Debug::fmt(stored, f),
        }
    }
}

impl StoredBody {
    fn into_wire(self) -> pb::body_source::Source {
        let Self { digest, size_bytes } = self;
        pb::body_source::Source::Stored(pb::StoredBody { digest, size_bytes })
    }
}
