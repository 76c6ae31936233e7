//! Data that is fetched once for the whole fleet.

use super::{
    Policy, Runtime, State,
    answer::ServeError,
    copies::LocalKey,
    policy::{Mode, OnContention, OnFailure, WAIT},
    render::{BoxError, Rendered},
};
use crate::{Depth, EntryRef, Error, PageMetadata, Scope};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};

/// A part of a tenant's entries that holds data instead of pages: its keys meet those of no page and of no other namespace.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Data {
    runtime: Runtime,
    namespace: Arc<str>,
    tenant: Option<Arc<str>>,
    stale_for: Option<Duration>,
}

/// Why there is no data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// It could not be fetched, and there is nothing to go on with.
    #[error(transparent)]
    Serve(ServeError),
    /// What was fetched cannot be written as JSON, or is no longer what this program can read.
    #[error("the data of {key:?} is not what is expected: {error}")]
    Format {
        /// Its key.
        key: String,
        /// What is wrong.
        #[source]
        error: serde_json::Error,
    },
}

/// What JavaScript's `encodeURIComponent` leaves as it is.
const UNESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// The longest name of a namespace.
const MAX_NAMESPACE_BYTES: usize = 128;

/// A text that names no namespace. It holds the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("namespace {0:?}: must be 1 to 128 letters, digits, underscores, dots and dashes")]
pub struct InvalidNamespace(pub String);

impl Runtime {
    /// The data of a namespace, of the tenant `default` until told otherwise.
    ///
    /// # Errors
    /// [`InvalidNamespace`] unless it is 1 to 128 of the characters `A-Z a-z 0-9 _ . -`.
    pub fn data(&self, namespace: impl Into<Arc<str>>) -> Result<Data, InvalidNamespace> {
        let namespace = namespace.into();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(1..=MAX_NAMESPACE_BYTES).contains(&namespace.len()) || !namespace.bytes().all(is_plain) {
            return Err(InvalidNamespace(namespace.to_string()));
        }
        Ok(Data { runtime: self.clone(), namespace, tenant: None, stale_for: None })
    }
}

impl Data {
    /// Of this tenant.
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// For how long data may be used that is older than its ttl. Default: ten times the ttl, and a minute at least.
    pub fn stale_for(mut self, bound: Duration) -> Self {
        self.stale_for = Some(bound);
        self
    }

    /// Data that is at most `ttl` old; or stale, and fetched again in the background, by one worker of the whole fleet; or,
    /// where there is none or it is beyond its bound, fetched now by one worker, while others wait for it.
    ///
    /// A fetch that fails in the background is told to the runtime's listener, and the data stay as they are. Without the
    /// coordinator, the last data that this process knows are used, else they are fetched, and not kept.
    ///
    /// # Errors
    /// When the fetch fails and there is nothing to go on with; when the data cannot be written or read as JSON.
    pub async fn with_revalidate<T, F, R, E>(
        &self,
        key: &str,
        ttl: Duration,
        fetch: F,
    ) -> Result<T, DataError>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: FnOnce() -> R + Send + 'static,
        R: Future<Output = Result<T, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let tag = self.tag();
        let render = move |_| async move {
            let data = fetch().await.map_err(Into::into)?;
            let metadata = PageMetadata {
                content_type: Some("application/json".to_owned()),
                tags: vec![tag],
                ..PageMetadata::default()
            };
            Ok::<_, BoxError>(Rendered::new(serde_json::to_vec(&data)?).metadata(metadata))
        };
        let served = self.runtime.serve(&self.entry(key), &self.policy(ttl), render).await;
        let served = served.map_err(DataError::Serve)?;
        if let Some(background) = served.background {
            // Whoever wants data gets data: there is no response to hand it over with.
            drop(self.runtime.0.tasks.spawn(background));
        }
        match serde_json::from_slice(&served.html) {
            Ok(data) => Ok(data),
            Err(error) => {
                if !matches!(served.state, State::Miss | State::Bypass) {
                    // Of another release of the program: whoever comes next fetches it anew.
                    let (data, key) = (self.clone(), key.to_owned());
                    drop(self.runtime.0.tasks.spawn(async move { data.invalidate(&key).await }));
                }
                Err(DataError::Format { key: key.to_owned(), error })
            }
        }
    }

    /// What is kept of this key is used no more, by anybody: at once by this runtime, within the staleness bound by others.
    ///
    /// # Errors
    /// As [`Coordinator::invalidate`](crate::Coordinator::invalidate).
    pub async fn invalidate(&self, key: &str) -> Result<(), Error> {
        let known = LocalKey::of(&self.entry(key));
        self.purge(Scope::key(self.full_key(key)), Some(known)).await
    }

    /// As [`invalidate`](Self::invalidate), of every key of the namespace.
    ///
    /// # Errors
    /// As [`Coordinator::invalidate`](crate::Coordinator::invalidate).
    pub async fn invalidate_all(&self) -> Result<(), Error> {
        self.purge(Scope::tag(self.tag()), None).await
    }

    async fn purge(&self, scope: Scope, only: Option<LocalKey>) -> Result<(), Error> {
        let scope = match &self.tenant {
            Some(tenant) => scope.tenant(&**tenant),
            None => scope,
        };
        self.runtime.invalidate_known(&[scope], Depth::Hard, only).await
    }

    fn entry(&self, key: &str) -> EntryRef {
        let entry = EntryRef::key(self.full_key(key));
        match &self.tenant {
            Some(tenant) => entry.tenant(&**tenant),
            None => entry,
        }
    }

    fn full_key(&self, key: &str) -> String {
        // The same in every language. It begins as derived keys do, and has no question mark, which each of these has.
        let tenant = self.tenant.as_deref().unwrap_or("default");
        format!("{tenant}::/~data/{}/{}", self.namespace, utf8_percent_encode(key, UNESCAPED))
    }

    fn tag(&self) -> String {
        format!("~data/{}", self.namespace)
    }

    fn policy(&self, ttl: Duration) -> Policy {
        let bound = self.stale_for.unwrap_or_else(|| ttl.saturating_mul(10).max(Duration::from_secs(60)));
        Policy {
            mode: Mode::StaleWhileRevalidate { window: bound },
            stale_if_error: Some(bound),
            on_contention: OnContention::Wait(WAIT),
            on_failure: OnFailure::ServeStale,
            ..Policy::blocking(ttl)
        }
    }
}
