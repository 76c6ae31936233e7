//! Puts the bodies of a page where they belong, before the pointer names them.

use super::{
    Inner,
    bodies::digest,
    error::EngineError,
    foreign,
    staged::{Attempt, By},
};
use bytes::Bytes;
use leasehold_core::{
    entry::{Entry, Lease},
    identity::{EntryId, Seq, TenantId},
    invalidation::LogView,
    labels::Labels,
    named::{GivenName, ORIGIN_ATTRIBUTE, Origin},
    object::{self, BodyKind, ObjectName, PageObjects},
    page::{BodyRef, Digest, Page, PageMeta, Pointer},
};
use leasehold_store::port::{ObjectMeta, StoredObject};
use std::time::Duration;

/// The content type of sidecars.
const SIDECAR_CONTENT_TYPE: &str = "application/json";

/// The longest that a commit waits for word of the invalidations that its grant has seen. To store a body anew costs less.
const CATCH_UP_TIME: Duration = Duration::from_millis(250);

/// Where a body comes from.
#[derive(Clone, Debug)]
pub enum BodyInput {
    /// The bytes.
    Inline(Bytes),
    /// Stored before, under the grant's name or the one that is given.
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

/// The names that a worker gave to the bodies of its page. Those of the others follow from the grant.
#[derive(Clone, Debug, Default)]
pub struct GivenNames {
    /// That of the HTML.
    pub html: Option<GivenName>,
    /// That of the sidecar.
    pub sidecar: Option<GivenName>,
}

/// The attempt whose bodies are placed.
pub(super) struct Placing<'a> {
    pub(super) id: &'a EntryId,
    pub(super) lease: &'a Lease,
    pub(super) names: &'a GivenNames,
}

/// Where a body goes, and what is written on it where that is needed to find out whose it is.
pub(super) struct Destination {
    pub(super) object: ObjectName,
    pub(super) origin: Option<Origin>,
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

    fn digest(&self) -> Digest {
        match self {
            Self::Inline(_, digest) | Self::Stored { digest, .. } => *digest,
        }
    }

    /// Whether it need not be stored where this one is.
    fn may_share(&self, known: &BodyRef) -> bool {
        matches!(self, Self::Inline(_, digest) if *digest == known.digest)
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
        self.html.digest()
    }
}

impl Inner {
    /// Where a body of this digest goes: as its worker named it, or as the grant did.
    pub(super) fn destination(
        &self,
        id: &EntryId,
        lease: &Lease,
        kind: BodyKind,
        given: Option<&GivenName>,
        digest: Digest,
    ) -> Destination {
        if let Some(given) = given {
            let object = given.stored(&self.settings.object_prefix, &id.tenant);
            return Destination { object, origin: Some(Origin::of(id, lease, digest)) };
        }
        let PageObjects { html, sidecar } = self.objects_of(id, lease);
        let object = match kind {
            BodyKind::Html => html,
            BodyKind::Sidecar => sidecar,
        };
        Destination { object, origin: None }
    }

    /// The bodies where they belong: those that the page before has too are left where they are, if they were named by the
    /// same side: who gave a name wants to read by one.
    ///
    /// HTML and headers name the sidecar by the grant's own token, and the sidecar is labelled with tags and path, as is HTML
    /// that its worker named: they are shared only where none of these has changed.
    pub(super) async fn place(
        &self,
        placing: Placing<'_>,
        bodies: GivenBodies,
        previous: Option<&Pointer>,
        meta: &PageMeta,
    ) -> Result<Page, EngineError> {
        let Placing { id, lease, names } = placing;
        let GivenBodies { html, sidecar } = bodies;
        let html_to = self.destination(id, lease, BodyKind::Html, names.html.as_ref(), html.digest());
        let html_meta = object_meta(BodyKind::Html, &meta.content_type, Some(meta), html_to.origin.as_ref());
        let known_html = previous
            // Its metadata is for those who read the bare object, and says what the page before was.
            .filter(|pointer| response_of(&pointer.meta) == response_of(meta))
            .filter(|pointer| self.is_given(id, &pointer.html) == names.html.is_some())
            .filter(|pointer| names.html.is_none() || is_labelled_alike(&pointer.meta, meta))
            .map(|pointer| &pointer.html)
            .filter(|known| html.may_share(known));
        let known_html = match known_html {
            // It would be served by its name as long as what is written on it is not purged, and no longer.
            Some(known) if names.html.is_some() && !self.is_unpurged(&placing, known, meta).await? => None,
            known => known,
        };
        let shared_html = self.shared(known_html).await?;
        // In this order: whoever finds the HTML finds its sidecar.
        let sidecar = match sidecar {
            None => None,
            Some(given) => {
                let to =
                    self.destination(id, lease, BodyKind::Sidecar, names.sidecar.as_ref(), given.digest());
                let known = previous
                    .filter(|pointer| shared_html.is_some() && is_sidecar_of(&pointer.meta, meta))
                    .and_then(|pointer| pointer.sidecar.as_ref())
                    .filter(|sidecar| given.may_share(sidecar))
                    .filter(|sidecar| self.is_given(id, sidecar) == names.sidecar.is_some());
                let known = match known {
                    Some(known) if !self.is_unpurged(&placing, known, meta).await? => None,
                    known => known,
                };
                let shared = self.shared(known).await?;
                let stored_meta =
                    object_meta(BodyKind::Sidecar, SIDECAR_CONTENT_TYPE, Some(meta), to.origin.as_ref());
                Some(match shared {
                    Some(shared) => shared,
                    None => self.store(&placing, BodyKind::Sidecar, &to, given, stored_meta).await?,
                })
            }
        };
        let html = match shared_html {
            Some(shared) => shared,
            None => self.store(&placing, BodyKind::Html, &html_to, html, html_meta).await?,
        };
        Ok(Page { html, sidecar, meta: meta.clone() })
    }

    fn is_given(&self, id: &EntryId, body: &BodyRef) -> bool {
        self.given_name(&id.tenant, &body.object).is_some()
    }

    /// Whether a body would be served by what its name and labels say, as it will have to be once its page is superseded:
    /// they may be of a page from before a purge. Where this coordinator has not heard yet of what the grant has seen, nor
    /// hears of it in time, nothing is known of that.
    async fn is_unpurged(
        &self,
        Placing { id, lease, .. }: &Placing<'_>,
        body: &BodyRef,
        meta: &PageMeta,
    ) -> Result<bool, EngineError> {
        let reached = tokio::time::timeout(CATCH_UP_TIME, self.log.reach(lease.seen)).await;
        if !matches!(reached, Ok(Ok(()))) {
            return Ok(false);
        }
        let log = self.log.state();
        if !self.is_given(id, body) {
            let hard = log.marks(id, &meta.tags, meta.path.as_ref()).hard.seq;
            return Ok(hard <= object::seen_of(&body.object));
        }
        let now = self.clock.now();
        if log.with(now, |log| log.view.marks_in_doubt_of(&id.tenant)).hard.seq == Seq::START {
            return Ok(true);
        }
        let object = self.bodies.get_as(body).await?;
        Ok(object.is_some_and(|object| {
            let origin = Origin::in_attributes(&object.meta.attributes);
            origin
                .is_some_and(|origin| !log.with(now, |log| is_purged(&object, &origin, &id.tenant, log.view)))
        }))
    }

    /// The body of the page before, which is the same, where it is still there.
    async fn shared(&self, known: Option<&BodyRef>) -> Result<Option<BodyRef>, EngineError> {
        let Some(known) = known else { return Ok(None) };
        Ok(self.bodies.is_stored(known).await?.then(|| known.clone()))
    }

    async fn store(
        &self,
        Placing { id, lease, .. }: &Placing<'_>,
        kind: BodyKind,
        to: &Destination,
        given: Given,
        meta: ObjectMeta,
    ) -> Result<BodyRef, EngineError> {
        let Destination { object: name, origin } = to;
        let claim = match origin {
            None => None,
            Some(_) => Some(self.staged.claim(Attempt::of(id, lease), lease, kind, name, By::Commit)?),
        };
        let stored = self.store_as(name, given, meta).await;
        if let Some(claim) = claim {
            claim.settle(&stored);
        }
        stored.map_err(|error| match error {
            // Nothing points to it yet: for the page, nothing was applied.
            EngineError::OutcomeUnknown(why) => EngineError::StoreUnavailable(why),
            error => error,
        })
    }

    async fn store_as(
        &self,
        name: &ObjectName,
        given: Given,
        meta: ObjectMeta,
    ) -> Result<BodyRef, EngineError> {
        match given {
            Given::Stored { digest, size_bytes } => {
                let stored = self.bodies.check_stored(name, digest, size_bytes).await?;
                // Under a name that its worker gave may be another lease's. Under the grant's, only its own.
                if origin_in(&meta).is_some() {
                    self.bodies.check_written(name, &meta).await?;
                }
                Ok(stored)
            }
            Given::Inline(body, digest) => self.bodies.put(name, body, digest, meta).await,
        }
    }
}

/// Whether a sidecar that was stored for one page does for the other.
fn is_sidecar_of(one: &PageMeta, other: &PageMeta) -> bool {
    one.headers == other.headers && is_labelled_alike(one, other)
}

fn is_labelled_alike(one: &PageMeta, other: &PageMeta) -> bool {
    (&one.tags, &one.path) == (&other.tags, &other.path)
}

/// What the HTML of a page tells those who read the bare object.
fn response_of(page: &PageMeta) -> ObjectMeta {
    object_meta(BodyKind::Html, &page.content_type, Some(page), None)
}

/// Whether a page would bring a body back that was found missing.
pub(super) fn shares_a_gone_body(entry: Option<&Entry>, page: &Page) -> bool {
    let current = entry.and_then(|entry| entry.pointer.as_ref()).filter(|pointer| pointer.gone);
    current.is_some_and(|pointer| {
        let names = [Some(&page.html), page.sidecar.as_ref()].into_iter().flatten().map(|body| &body.object);
        pointer.objects().any(|gone| names.clone().any(|name| name == gone))
    })
}

/// The metadata under which a sidecar says what its page can be invalidated by, and HTML that its worker named.
const LABELS_ATTRIBUTE: &str = "leasehold-labels";
/// What stands for labels that are too long, on a body that its worker named: another page's, whose labels are not, is not
/// taken for the same.
const LABELS_TOO_LONG: &str = "-";
/// The longest value of an attribute of FaceTheory's. Longer ones are left out.
const MAX_ATTRIBUTE_BYTES: usize = 1024;
/// What a store takes for all attributes.
const MAX_ATTRIBUTES_BYTES: usize = 2048;
/// What S3 writes before the name of each.
const ATTRIBUTE_PREFIX_BYTES: usize = "x-amz-meta-".len();

/// What readers of the bare object see. The attributes of HTML are FaceTheory's, whose readers restore the response from
/// them. Ahead of the commit nothing is known of the page.
pub(super) fn object_meta(
    kind: BodyKind,
    content_type: &str,
    page: Option<&PageMeta>,
    origin: Option<&Origin>,
) -> ObjectMeta {
    let cost = |name: &str, value: &str| ATTRIBUTE_PREFIX_BYTES + name.len() + value.len();
    let mut attributes = Vec::new();
    let mut left = MAX_ATTRIBUTES_BYTES;
    if let Some(origin) = origin.map(Origin::encode) {
        // Labels, or word that they are too long, have a place in any case.
        left -= cost(ORIGIN_ATTRIBUTE, &origin) + cost(LABELS_ATTRIBUTE, LABELS_TOO_LONG);
        attributes.push((ORIGIN_ATTRIBUTE.to_owned(), origin));
    }
    let mut add = |name: &str, value: &str| {
        let is_printable = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let fits = value.len() <= MAX_ATTRIBUTE_BYTES && cost(name, value) <= left;
        if is_printable && value.trim() == value && fits {
            left -= cost(name, value);
            attributes.push((name.to_owned(), value.to_owned()));
        }
    };
    if let (BodyKind::Html, Some(page)) = (kind, page) {
        add(foreign::STATUS, &page.status.get().to_string());
        add(foreign::CONTENT_TYPE, &page.content_type);
        if let Some((_, csp)) = page.headers.iter().find(|(name, _)| name == foreign::CSP_HEADER) {
            add(foreign::CSP, csp);
        }
    }
    if let Some(page) = page.filter(|_| kind == BodyKind::Sidecar || origin.is_some()) {
        let labels = Labels::encode(&page.tags, page.path.as_ref());
        let labels = match origin {
            None => labels,
            Some(_) => {
                let room = left + LABELS_TOO_LONG.len();
                Some(labels.filter(|labels| labels.len() <= room).unwrap_or(LABELS_TOO_LONG.to_owned()))
            }
        };
        attributes.extend(labels.map(|labels| (LABELS_ATTRIBUTE.to_owned(), labels)));
    }
    ObjectMeta { content_type: content_type.to_owned(), attributes }
}

/// What a body that its worker named says of its lease, as it is written.
pub(super) fn origin_in(meta: &ObjectMeta) -> Option<&str> {
    attribute(meta, ORIGIN_ATTRIBUTE)
}

/// Whether a body that its worker named is purged, by what is written on it alone. When in doubt, it is.
pub(super) fn is_purged(object: &StoredObject, origin: &Origin, tenant: &TenantId, log: &LogView) -> bool {
    let hard = match (origin.id(tenant), labels_of(object)) {
        (Some(id), Some(Labels { tags, path })) => log.marks_for(&id, &tags, &path).hard,
        (Some(id), None) => log.marks_in_doubt(&id).hard,
        (None, _) => log.marks_in_doubt_of(tenant).hard,
    };
    hard.seq > origin.seen
}

/// What a body says of the page it was stored for.
pub(super) fn labels_of(object: &StoredObject) -> Option<Labels> {
    Labels::parse(labels_in(&object.meta)?)
}

/// The same, as it is written.
pub(super) fn labels_in(meta: &ObjectMeta) -> Option<&str> {
    attribute(meta, LABELS_ATTRIBUTE)
}

fn attribute<'a>(meta: &'a ObjectMeta, wanted: &str) -> Option<&'a str> {
    meta.attributes.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}
