//! What renders a page, and what comes of it.

use crate::{NewPage, PageMetadata, SidecarToken, StalePage};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use std::{any::Any, fmt, panic::AssertUnwindSafe, time::Duration};
use tokio_util::sync::CancellationToken;

/// Whatever a render may fail with. Operators see its text, and so it must hold no secrets.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a render is told.
#[derive(Clone, Debug)]
pub struct RenderContext {
    /// The generation that is rendered. `None`: nobody keeps it, whatever comes of it.
    pub generation: Option<u64>,
    /// For the URL of the sidecar. `None`: the page is not kept, and its sidecar could not be fetched.
    pub sidecar_token: Option<SidecarToken>,
    /// The page so far, without its body. `None`: there is none, or it is not known.
    pub previous: Option<StalePage>,
}

/// A page that was rendered. One of status 500 or more is a render that failed. `Debug` shows how large its bodies are, and not the
/// bodies.
#[derive(Clone, PartialEq)]
pub struct Rendered {
    /// The HTML, or whatever else it is. One of more than 64 KiB that is a slice of something larger keeps all of that in
    /// memory for as long as the page is among the last known ones.
    pub html: Bytes,
    /// The hydration sidecar that belongs to it.
    pub sidecar: Option<Bytes>,
    /// What is to be said of it. What it leaves open of times is the policy's.
    pub metadata: PageMetadata,
    /// Whether it is for this request only: then it is not committed, and not cached by anybody. The requests after it are rendered
    /// without waiting for one another: see [`Builder::remember_uncached`](super::Builder::remember_uncached).
    pub uncached: bool,
}

impl Rendered {
    /// A page of status 200 and of no tags.
    pub fn new(html: impl Into<Bytes>) -> Self {
        let metadata = PageMetadata::default();
        Self { html: html.into(), sidecar: None, metadata, uncached: false }
    }

    /// With this sidecar.
    pub fn sidecar(mut self, sidecar: impl Into<Bytes>) -> Self {
        self.sidecar = Some(sidecar.into());
        self
    }

    /// With this metadata.
    pub fn metadata(mut self, metadata: PageMetadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// With one more tag to invalidate it by.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.metadata.tags.push(tag.into());
        self
    }

    /// For this request only, such as a page that is not found, or one that sets a cookie.
    pub fn uncached(mut self) -> Self {
        self.uncached = true;
        self
    }

    pub(super) fn to_commit(&self) -> NewPage {
        let page = NewPage::new(self.html.clone()).metadata(self.metadata.clone());
        match &self.sidecar {
            Some(sidecar) => page.sidecar(sidecar.clone()),
            None => page,
        }
    }
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |body: &Bytes| format!("{} bytes", body.len());
        f.debug_struct("Rendered")
            .field("html", &size(&self.html))
            .field("sidecar", &self.sidecar.as_ref().map(size))
            .field("metadata", &self.metadata)
            .field("uncached", &self.uncached)
            .finish()
    }
}

impl<T: Into<Bytes>> From<T> for Rendered {
    fn from(html: T) -> Self {
        Self::new(html)
    }
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// What the render said.
    #[error("{0}")]
    Failed(BoxError),
    /// It panicked, with this message.
    #[error("the render panicked: {0}")]
    Panicked(String),
    /// It took longer than the policy allows.
    #[error("the render took longer than {0:?}")]
    TimedOut(Duration),
    /// The runtime was told to stop.
    #[error("the worker is stopping")]
    Stopped,
}

/// Renders at most once.
pub(super) struct Renderer(Box<Render>);

type Render = dyn FnOnce(RenderContext) -> BoxFuture<'static, Result<Rendered, BoxError>> + Send;

impl Renderer {
    pub(super) fn new<R, F, P, E>(render: R) -> Self
    where
        R: FnOnce(RenderContext) -> F + Send + 'static,
        F: Future<Output = Result<P, E>> + Send + 'static,
        P: Into<Rendered>,
        E: Into<BoxError>,
    {
        Self(Box::new(|context| {
            render(context).map(|result| result.map(Into::into).map_err(Into::into)).boxed()
        }))
    }

    /// Renders to the end, unless the time is over or `stop` is told.
    pub(super) async fn render(
        self,
        context: RenderContext,
        timeout: Option<Duration>,
        stop: &CancellationToken,
    ) -> Result<Rendered, RenderError> {
        // The closure itself may panic before there is anything to await.
        let rendering = async move { (self.0)(context).await };
        let rendering = AssertUnwindSafe(rendering).catch_unwind();
        let limit = async {
            match timeout {
                Some(limit) => tokio::time::sleep(limit).map(|()| limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(RenderError::Stopped),
            result = rendering => match result {
                Ok(Ok(rendered)) if rendered.metadata.status >= 500 => {
                    let status = format!("answered with {}", rendered.metadata.status);
                    Err(RenderError::Failed(status.into()))
                }
                Ok(Ok(rendered)) => Ok(rendered),
                Ok(Err(error)) => Err(RenderError::Failed(error)),
                Err(panic) => Err(RenderError::Panicked(message_of(&*panic))),
            },
            limit = limit => Err(RenderError::TimedOut(limit)),
        }
    }
}

impl fmt::Debug for Renderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renderer")
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
