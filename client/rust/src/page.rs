//! Pages: what is current, what a renderer says of it, and how fresh it is.

use crate::{
    SidecarToken,
    wire::{self, FromWire, Malformed, Parse},
};
use bytes::Bytes;
use leasehold_proto::v1 as pb;
use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// A page that is current.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The generation of the lease that it was committed under. Newer pages of an entry have higher ones.
    pub generation: u64,
    /// What its renderer said of it.
    pub metadata: PageMetadata,
    /// When its render began, by the coordinator's clock: for people.
    pub generated_at: Option<SystemTime>,
    /// How long ago that was when the coordinator answered.
    pub age: Duration,
    /// The HTML, where it was asked for.
    pub body: PageBody,
    /// The HTML's length. Zero where the digest is empty.
    pub size_bytes: u64,
    /// SHA-256 of the HTML. Empty where it is not known: of a page that another system wrote into the same table.
    pub digest: Bytes,
    /// For the URL of its hydration sidecar. `None`: it has none.
    pub sidecar_token: Option<SidecarToken>,
    /// The name that its worker gave to the HTML. `None`: the coordinator named it. Of a page whose body did not change, the
    /// name of the earlier commit stays.
    pub html_object_name: Option<String>,
    /// Likewise of the sidecar.
    pub sidecar_object_name: Option<String>,
}

/// The HTML of a [`Page`], or why it is not there.
#[derive(Clone, PartialEq)]
pub enum PageBody {
    /// It was not asked for.
    Omitted,
    /// The bytes.
    Inline(Bytes),
    /// A URL to fetch it from, for a few minutes. It grants access: it does not show in `Debug`.
    Url(String),
    /// The caller has this generation already.
    Unchanged,
    /// It does not fit a message: fetch it by [`Coordinator::serve_page`](crate::Coordinator::serve_page).
    TooLarge,
}

impl fmt::Debug for PageBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Omitted => f.write_str("Omitted"),
            Self::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            Self::Url(_) => f.write_str("Url(..)"),
            Self::Unchanged => f.write_str("Unchanged"),
            Self::TooLarge => f.write_str("TooLarge"),
        }
    }
}

/// What a renderer says of its page.
#[derive(Clone, Debug, PartialEq)]
pub struct PageMetadata {
    /// The response's status, 200 to 499. Default: 200.
    pub status: u16,
    /// 1 to 256 bytes. `None` in a commit: `text/html; charset=utf-8`.
    pub content_type: Option<String>,
    /// Further response headers. At most 32, of 8192 bytes in all.
    pub headers: Vec<(String, String)>,
    /// The entity tag, with its quotes, at most 256 bytes. `None` in a commit: made from the digest.
    pub etag: Option<String>,
    /// Fresh for so long, counted from the grant of its lease. `None`: until invalidated. Zero: never.
    pub revalidate: Option<Duration>,
    /// Servable for so long after that, while it is regenerated.
    pub stale_while_revalidate: Option<Duration>,
    /// Servable for so long after `revalidate`, when regeneration fails.
    pub stale_if_error: Option<Duration>,
    /// Labels to invalidate it by. At most 64, of 1 to 256 bytes.
    pub tags: Vec<String>,
    /// Its URL path. `None` in a commit: that of the entry.
    pub path: Option<String>,
    /// How long the render took.
    pub render_time: Option<Duration>,
}

impl Default for PageMetadata {
    fn default() -> Self {
        Self {
            status: 200,
            content_type: None,
            headers: Vec::new(),
            etag: None,
            revalidate: None,
            stale_while_revalidate: None,
            stale_if_error: None,
            tags: Vec::new(),
            path: None,
            render_time: None,
        }
    }
}

/// A page that may be served without a second thought.
#[derive(Clone, Debug, PartialEq)]
pub struct FreshPage {
    /// The page.
    pub page: Page,
    /// How long it stays so, unless invalidated. `None`: until invalidated.
    pub fresh_for: Option<Duration>,
}

/// A page that may be served where stale pages are accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct StalePage {
    /// The page.
    pub page: Page,
    /// Why it is stale.
    pub reason: StaleReason,
    /// What is left of its stale-while-revalidate window; zero when it is over. `None`: the page names none.
    pub stale_while_revalidate_for: Option<Duration>,
    /// What is left of its stale-if-error window; zero when it is over. `None`: the page names none.
    pub stale_if_error_for: Option<Duration>,
}

/// Why a page is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StaleReason {
    /// Older than its `revalidate`.
    Expired,
    /// Invalidated after its render began.
    Invalidated,
    /// The coordinator has not been able to read the invalidation log for longer than the staleness bound.
    Unverified,
    /// One that this version does not know.
    Other(i32),
}

/// A page that is there, fresh or stale.
#[derive(Clone, Debug, PartialEq)]
pub enum CurrentPage {
    /// It is fresh.
    Fresh(FreshPage),
    /// It is stale.
    Stale(StalePage),
}

impl CurrentPage {
    /// The page, whichever it is.
    pub fn page(&self) -> &Page {
        match self {
            Self::Fresh(fresh) => &fresh.page,
            Self::Stale(stale) => &stale.page,
        }
    }
}

/// A running regeneration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regeneration {
    /// Who renders, by its own word.
    pub owner: String,
    /// The generation that it may commit.
    pub generation: u64,
    /// After so long, another may be granted the lease, unless it is renewed.
    pub remaining: Duration,
}

/// Whether and how the HTML comes along with an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyDelivery {
    /// Not at all.
    #[default]
    None,
    /// In the message; one of over 1 MiB (by default) is left out: [`PageBody::TooLarge`].
    Inline,
    /// As a URL. Only where the object store serves URLs; else refused as `BODY_URL_UNSUPPORTED`.
    Url,
}

impl BodyDelivery {
    pub(crate) fn to_wire(self) -> i32 {
        match self {
            Self::None => pb::BodyDelivery::None,
            Self::Inline => pb::BodyDelivery::Inline,
            Self::Url => pb::BodyDelivery::Url,
        }
        .into()
    }
}

impl FromWire<pb::Page> for Page {
    fn from_wire(wire: pb::Page) -> Result<Self, Malformed> {
        let pb::Page {
            generation,
            metadata,
            generated_at,
            age,
            body_unchanged,
            body_too_large,
            size_bytes,
            digest,
            sidecar_token,
            body,
            html_object_name,
            sidecar_object_name,
        } = wire;
        let body = match body {
            Some(pb::page::Body::Inline(bytes)) => PageBody::Inline(bytes),
            Some(pb::page::Body::Url(url)) => PageBody::Url(url),
            None if body_unchanged => PageBody::Unchanged,
            None if body_too_large => PageBody::TooLarge,
            None => PageBody::Omitted,
        };
        Ok(Self {
            generation,
            metadata: metadata.unwrap_or_default().parse()?,
            generated_at: wire::timestamp(generated_at)?,
            age: wire::duration(age)?,
            body,
            size_bytes,
            digest,
            sidecar_token: SidecarToken::from_wire(sidecar_token),
            html_object_name: wire::non_empty(html_object_name),
            sidecar_object_name: wire::non_empty(sidecar_object_name),
        })
    }
}

impl FromWire<pb::PageMetadata> for PageMetadata {
    fn from_wire(wire: pb::PageMetadata) -> Result<Self, Malformed> {
        let pb::PageMetadata {
            status,
            content_type,
            headers,
            etag,
            revalidate,
            stale_while_revalidate,
            stale_if_error,
            tags,
            path,
            render_time,
        } = wire;
        Ok(Self {
            status: if status == 0 {
                200
            } else {
                u16::try_from(status).map_err(|_| Malformed("a status"))?
            },
            content_type: wire::non_empty(content_type),
            headers: headers.into_iter().map(|pb::NameValue { name, value }| (name, value)).collect(),
            etag: wire::non_empty(etag),
            revalidate: wire::optional_duration(revalidate)?,
            stale_while_revalidate: wire::optional_duration(stale_while_revalidate)?,
            stale_if_error: wire::optional_duration(stale_if_error)?,
            tags,
            path: wire::non_empty(path),
            render_time: wire::optional_duration(render_time)?,
        })
    }
}

impl PageMetadata {
    pub(crate) fn into_wire(self) -> pb::PageMetadata {
        let PageMetadata {
            status,
            content_type,
            headers,
            etag,
            revalidate,
            stale_while_revalidate,
            stale_if_error,
            tags,
            path,
            render_time,
        } = self;
        pb::PageMetadata {
            status: status.into(),
            content_type: content_type.unwrap_or_default(),
            headers: headers.into_iter().map(|(name, value)| pb::NameValue { name, value }).collect(),
            etag: etag.unwrap_or_default(),
            revalidate: revalidate.map(wire::to_wire),
            stale_while_revalidate: stale_while_revalidate.map(wire::to_wire),
            stale_if_error: stale_if_error.map(wire::to_wire),
            tags,
            path: path.unwrap_or_default(),
            render_time: render_time.map(wire::to_wire),
        }
    }
}

impl FromWire<pb::FreshPage> for FreshPage {
    fn from_wire(pb::FreshPage { page, fresh_for }: pb::FreshPage) -> Result<Self, Malformed> {
        Ok(Self {
            page: wire::required(page, "a page")?.parse()?,
            fresh_for: wire::optional_duration(fresh_for)?,
        })
    }
}

impl FromWire<pb::StalePage> for StalePage {
    fn from_wire(wire: pb::StalePage) -> Result<Self, Malformed> {
        let pb::StalePage { page, reason, stale_while_revalidate_for, stale_if_error_for } = wire;
        Ok(Self {
            page: wire::required(page, "a page")?.parse()?,
            reason: match pb::StaleReason::try_from(reason) {
                Ok(pb::StaleReason::Expired) => StaleReason::Expired,
                Ok(pb::StaleReason::Invalidated) => StaleReason::Invalidated,
                Ok(pb::StaleReason::Unverified) => StaleReason::Unverified,
                Ok(pb::StaleReason::Unspecified) | Err(_) => StaleReason::Other(reason),
            },
            stale_while_revalidate_for: wire::optional_duration(stale_while_revalidate_for)?,
            stale_if_error_for: wire::optional_duration(stale_if_error_for)?,
        })
    }
}

impl FromWire<pb::Regeneration> for Regeneration {
    fn from_wire(wire: pb::Regeneration) -> Result<Self, Malformed> {
        let pb::Regeneration { owner, generation, remaining } = wire;
        Ok(Self { owner, generation, remaining: wire::duration(remaining)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_bodies_do_not_show() {
        assert_eq!(format!("{:?}", PageBody::Url("https://s3/?sig=abc".into())), "Url(..)");
    }

    #[test]
    fn metadata_survives_the_wire() {
        let metadata = PageMetadata {
            status: 404,
            content_type: Some("text/plain".into()),
            headers: vec![("x-a".into(), "b".into())],
            etag: Some("\"e\"".into()),
            revalidate: Some(Duration::ZERO),
            stale_while_revalidate: None,
            stale_if_error: Some(Duration::from_millis(1500)),
            tags: vec!["t".into()],
            path: Some("/p".into()),
            render_time: Some(Duration::from_micros(7)),
        };
        let back = PageMetadata::from_wire(metadata.clone().into_wire()).ok();
        assert_eq!(back, Some(metadata));
    }

    #[test]
    fn negative_durations_are_malformed() {
        let wire = pb::FreshPage {
            page: Some(pb::Page::default()),
            fresh_for: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        };
        assert!(FreshPage::from_wire(wire).is_err());
    }
}
