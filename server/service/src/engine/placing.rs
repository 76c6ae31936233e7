//! Puts the bodies of a page where they belong, before the pointer names them.

use super::{Inner, bodies::digest, error::EngineError, foreign};
use bytes::Bytes;
use leasehold_core::{
    entry::Entry,
    identity::EntryId,
    labels::Labels,
    object::{self, BodyKind, ObjectName, PageObjects},
    page::{BodyRef, Digest, Page, PageMeta, Pointer},
};
use leasehold_store::port::{ObjectMeta, StoredObject};

/// The content type of sidecars.
const SIDECAR_CONTENT_TYPE: &str = "application/json";

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

impl BodyInput {
    pub(super) fn inline_bytes(&self) -> usize {
        match self {
            Self::Inline(body) => body.len(),
            Self::Stored { .. } => 0,
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
    async fn of(input: BodyInput) -> Result<Self, EngineError> {
        Ok(match input {
            BodyInput::Stored { digest, size_bytes } => Self::Stored { digest, size_bytes },
            BodyInput::Inline(body) => {
                let digest = digest(&body).await?;
                Self::Inline(body, digest)
            }
        })
    }
}

/// What a commit brings.
#[derive(Clone)]
pub(super) struct GivenBodies {
    html: Given,
    sidecar: Option<Given>,
}

impl GivenBodies {
    pub(super) async fn of(html: BodyInput, sidecar: Option<BodyInput>) -> Result<Self, EngineError> {
        let html = Given::of(html).await?;
        let sidecar = match sidecar {
            Some(sidecar) => Some(Given::of(sidecar).await?),
            None => None,
        };
        Ok(Self { html, sidecar })
    }

    pub(super) fn html_digest(&self) -> Digest {
        match &self.html {
            Given::Inline(_, digest) | Given::Stored { digest, .. } => *digest,
        }
    }
}

impl Inner {
    /// The bodies where they belong: those that the page before has too are left where they are.
    ///
    /// HTML and headers name the sidecar by the grant's own token, and the sidecar is labelled with tags and path: it is
    /// shared only where none of these has changed.
    pub(super) async fn place(
        &self,
        id: &EntryId,
        objects: &PageObjects,
        bodies: GivenBodies,
        previous: Option<&Pointer>,
        meta: &PageMeta,
    ) -> Result<Page, EngineError> {
        let GivenBodies { html, sidecar } = bodies;
        let html_meta = object_meta(BodyKind::Html, &meta.content_type, Some(meta));
        let known_html = previous
            // Its metadata is for those who read the bare object, and says what the page before was.
            .filter(|pointer| {
                object_meta(BodyKind::Html, &pointer.meta.content_type, Some(&pointer.meta)) == html_meta
            })
            .map(|pointer| &pointer.html);
        let shared_html = self.shared(&html, known_html).await?;
        // In this order: whoever finds the HTML finds its sidecar.
        let sidecar = match sidecar {
            None => None,
            Some(given) => {
                let known = previous
                    .filter(|pointer| shared_html.is_some() && is_sidecar_of(&pointer.meta, meta))
                    .and_then(|pointer| pointer.sidecar.as_ref())
                    .filter(|sidecar| self.is_unpurged(id, &sidecar.object, meta));
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
            None => self.store(&objects.html, html, html_meta).await?,
        };
        Ok(Page { html, sidecar, meta: meta.clone() })
    }

    /// Whether a sidecar would be served by what its name and labels say, as it will have to be once its page is superseded:
    /// they may be of a page from before a purge.
    fn is_unpurged(&self, id: &EntryId, sidecar: &ObjectName, meta: &PageMeta) -> bool {
        let hard = self.log.state().marks(id, &meta.tags, meta.path.as_ref()).hard;
        hard.seq <= object::seen_of(sidecar)
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
            Given::Inline(body, digest) => match self.bodies.put(name, body, digest, meta).await {
                // Nothing points to it yet: for the page, nothing was applied.
                Err(EngineError::OutcomeUnknown(why)) => Err(EngineError::StoreUnavailable(why)),
                stored => stored,
            },
        }
    }
}

/// Whether a sidecar that was stored for one page does for the other.
fn is_sidecar_of(one: &PageMeta, other: &PageMeta) -> bool {
    (&one.headers, &one.tags, &one.path) == (&other.headers, &other.tags, &other.path)
}

/// Whether a page would bring a body back that was found missing.
pub(super) fn shares_a_gone_body(entry: Option<&Entry>, page: &Page) -> bool {
    let current = entry.and_then(|entry| entry.pointer.as_ref()).filter(|pointer| pointer.gone);
    current.is_some_and(|pointer| {
        let names = [Some(&page.html), page.sidecar.as_ref()].into_iter().flatten().map(|body| &body.object);
        pointer.objects().any(|gone| names.clone().any(|name| name == gone))
    })
}

/// The metadata under which a sidecar says what its page can be invalidated by.
const LABELS_ATTRIBUTE: &str = "leasehold-labels";
/// The longest value of an attribute: what a store takes for all of them is two KiB. Longer ones are left out.
const MAX_ATTRIBUTE_BYTES: usize = 1024;

/// What readers of the bare object see. The attributes of HTML are FaceTheory's, whose readers restore the response from
/// them. Ahead of the commit nothing is known of the page.
pub(super) fn object_meta(kind: BodyKind, content_type: &str, page: Option<&PageMeta>) -> ObjectMeta {
    let mut attributes = Vec::new();
    let mut add = |name: &str, value: &str| {
        let is_printable = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if is_printable && value.trim() == value && value.len() <= MAX_ATTRIBUTE_BYTES {
            attributes.push((name.to_owned(), value.to_owned()));
        }
    };
    match (kind, page) {
        (BodyKind::Html, Some(page)) => {
            add(foreign::STATUS, &page.status.get().to_string());
            add(foreign::CONTENT_TYPE, &page.content_type);
            if let Some((_, csp)) = page.headers.iter().find(|(name, _)| name == foreign::CSP_HEADER) {
                add(foreign::CSP, csp);
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

/// What a sidecar says of the page it was stored for.
pub(super) fn labels_of(object: &StoredObject) -> Option<Labels> {
    Labels::parse(labels_in(&object.meta)?)
}

/// The same, as it is written.
pub(super) fn labels_in(meta: &ObjectMeta) -> Option<&str> {
    let (_, labels) = meta.attributes.iter().find(|(name, _)| name == LABELS_ATTRIBUTE)?;
    Some(labels)
}
