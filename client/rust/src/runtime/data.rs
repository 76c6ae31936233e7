//! Data that is fetched once for the whole fleet.

use super::{
    Policy, Runtime, State,
    answer::{ServeError, Served},
    asking::within,
    copies::LocalKey,
    pages::PageCall,
    policy::{Mode, OnContention, OnFailure, WAIT},
    render::{BoxError, RenderError, Rendered, Renderer},
};
use crate::{Depth, EntryRef, Error, PageMetadata, Scope};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::OwnedMutexGuard;

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
    /// What was fetched cannot be written as JSON, or not be read again. What is kept is not, and could not be fetched either.
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
    /// What is kept and cannot be read, such as data of another release of the program, is purged and fetched anew, once. Where two
    /// releases that cannot read each other's data run side by side, each would purge what the other one has fetched: give
    /// them namespaces of their own.
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
        let entry = self.entry(key);
        let policy = self.policy(ttl);
        let fetching = Fetching { fetch: Arc::new(Mutex::new(Some(fetch))), tag: self.tag() };
        let call = || PageCall::new(&self.runtime, &entry, &policy).handing_over();

        let served = call().serve(fetching.renderer()).await;
        let mut read = self.read(key, served);
        if !fetching.is_needed_for(&read) {
            return read;
        }
        // One replaces it, and others of this process read what that one has fetched. Nobody purges what has been replaced
        // since this process was told of it.
        let turn = self.runtime.0.replacing.take(LocalKey::of(&entry));
        if let Ok(_turn) = tokio::time::timeout(WAIT, turn).await {
            let served = call().strictly().serve(fetching.renderer()).await;
            let is_known_only = served.as_ref().is_ok_and(|served| served.state == State::StaleMetadataError);
            read = self.read(key, served);
            if !fetching.is_needed_for(&read) {
                return read;
            }
            let patience = self.runtime.0.settings.patience;
            if !is_known_only && within(patience, self.invalidate(key)).await.is_ok() {
                read = self.read(key, call().serve(fetching.renderer()).await);
                if !fetching.is_needed_for(&read) {
                    return read;
                }
            }
        }
        let served = call().uncached(Some(fetching.renderer()), "unreadable").await;
        self.read(key, served)
    }

    /// What was served, and is to be regenerated in the background where it can be read.
    fn read<T: DeserializeOwned>(
        &self,
        key: &str,
        served: Result<Served, ServeError>,
    ) -> Result<T, DataError> {
        let format = |error| DataError::Format { key: key.to_owned(), error };
        let served = served.map_err(|error| match error {
            ServeError::Render(RenderError::Failed(error)) => match error.downcast::<OneWay>() {
                Ok(one_way) => format(one_way.0),
                Err(error) => DataError::Serve(RenderError::Failed(error).into()),
            },
            error => DataError::Serve(error),
        })?;
        let data = serde_json::from_slice(&served.html).map_err(format)?;
        if let Some(background) = served.background {
            // Whoever wants data gets data: there is no response to hand it over with.
            drop(self.runtime.0.tasks.spawn(background));
        }
        Ok(data)
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

/// A fetch that is made once at most, whichever attempt to get at the data comes to it.
struct Fetching<F> {
    fetch: Arc<Mutex<Option<F>>>,
    tag: String,
}

/// Data that cannot be written, or not be read again.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct OneWay(serde_json::Error);

/// Another attempt has fetched.
#[derive(Debug, thiserror::Error)]
#[error("fetched before")]
struct Spent;

impl<F> Fetching<F> {
    /// Whether something is kept that cannot be read, and was not fetched yet.
    fn is_needed_for<T>(&self, read: &Result<T, DataError>) -> bool {
        matches!(read, Err(DataError::Format { .. })) && self.fetch.lock().is_some()
    }

    fn renderer<T, R, E>(&self) -> Renderer
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: FnOnce() -> R + Send + 'static,
        R: Future<Output = Result<T, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let (fetch, tag) = (self.fetch.clone(), self.tag.clone());
        Renderer::new(move |_| async move {
            let fetch = fetch.lock().take().ok_or(Spent)?;
            let data = fetch().await.map_err(Into::into)?;
            let json = serde_json::to_vec(&data).map_err(OneWay)?;
            // Else everybody would fetch it at every call.
            serde_json::from_slice::<T>(&json).map_err(OneWay)?;
            let metadata = PageMetadata {
                content_type: Some("application/json".to_owned()),
                tags: vec![tag],
                ..PageMetadata::default()
            };
            Ok::<_, BoxError>(Rendered::new(json).metadata(metadata))
        })
    }
}

/// One at a time for each entry.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<LocalKey, Arc<tokio::sync::Mutex<()>>>>);

/// A turn: the next one's when it is dropped.
struct Turn<'a> {
    turns: &'a Turns,
    key: LocalKey,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    async fn take(&self, key: LocalKey) -> Turn<'_> {
        let queue = Arc::clone(self.0.lock().entry(key).or_default());
        // Before anything is awaited: who goes away while it queues leaves nothing behind either.
        let mut turn = Turn { turns: self, key, turn: None };
        turn.turn = Some(queue.lock_owned().await);
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.turn.take());
        let mut all = self.turns.0.lock();
        if all.get(&self.key).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_that_are_over_or_given_up_leave_nothing_behind() {
        let (turns, key) = (Turns::default(), LocalKey::of(&EntryRef::key("k")));
        let first = turns.take(key).await;
        {
            let mut given_up = std::pin::pin!(turns.take(key));
            assert!(futures::poll!(&mut given_up).is_pending());
        }
        let other = turns.take(LocalKey::of(&EntryRef::key("other"))).await;
        let mut second = Box::pin(turns.take(key));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await);
        assert_eq!(turns.0.lock().len(), 1);
        drop(other);
        assert!(turns.0.lock().is_empty());
    }
}
