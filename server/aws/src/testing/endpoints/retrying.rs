//! Repeats what surely had no effect.
//!
//! The adapters make one attempt per call, because the engine decides what is repeated. The suite stands where the engine
//! would: it presumes that a call is answered. But a service refuses calls without deciding them: transactions that touch one
//! item at once, more than it is provisioned for, a moment of unrest. These are repeated here, and nothing else: a call that may
//! have had its effect fails its clause.

use async_trait::async_trait;
use bytes::Bytes;
use leasehold_core::{
    entry::Entry,
    identity::{EntryId, Seq},
    invalidation::LogEvent,
    object::ObjectName,
    page::Digest,
    time::Timestamp,
};
use leasehold_store::port::{
    Append, EntryStore, Expected, Head, InvalidationLog, ObjectInfo, ObjectMeta, ObjectStore, Put, ReadError,
    StoredObject, Stores, Swap, WriteError,
};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{sync::Arc, time::Duration};

/// How often a call is made at most. With the delays below: for some ten seconds.
const ATTEMPTS: u32 = 16;
/// The delay before the second attempt is up to this, and doubles with every further one.
const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// Stores whose refusals to decide are repeated, after delays that are drawn at random.
pub(super) struct Retrying {
    stores: Stores,
    random: Mutex<StdRng>,
}

impl Retrying {
    pub(super) fn around(stores: Stores, seed: u64) -> Stores {
        let retrying = Arc::new(Self { stores, random: Mutex::new(StdRng::seed_from_u64(seed)) });
        Stores { entries: retrying.clone(), log: retrying.clone(), objects: retrying }
    }

    async fn repeat<T, E: WithoutEffect, F>(&self, mut call: impl FnMut() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + Send,
    {
        let mut longest = FIRST_DELAY;
        for _ in 1..ATTEMPTS {
            match call().await {
                Err(error) if error.without_effect() => {}
                answer => return answer,
            }
            let delay = self.random.lock().random_range(Duration::ZERO..=longest);
            tokio::time::sleep(delay).await;
            longest = (longest * 2).min(LONGEST_DELAY);
        }
        call().await
    }
}

/// Whether a call that failed so was surely not applied, and may be if it is repeated.
trait WithoutEffect {
    fn without_effect(&self) -> bool;
}

impl WithoutEffect for ReadError {
    fn without_effect(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Corrupt(_) => false,
        }
    }
}

impl WithoutEffect for WriteError {
    fn without_effect(&self) -> bool {
        match self {
            Self::NotApplied(_) => true,
            Self::Unknown(_) | Self::Corrupt(_) | Self::TooLarge(_) => false,
        }
    }
}

#[async_trait]
impl EntryStore for Retrying {
    async fn read(&self, id: &EntryId) -> Result<Option<Entry>, ReadError> {
        self.repeat(|| self.stores.entries.read(id)).await
    }

    async fn swap(
        &self,
        id: &EntryId,
        expected: Expected,
        entry: &Entry,
        forget_after: Timestamp,
    ) -> Result<Swap, WriteError> {
        self.repeat(|| self.stores.entries.swap(id, expected, entry, forget_after)).await
    }
}

#[async_trait]
impl InvalidationLog for Retrying {
    async fn head(&self) -> Result<Head, ReadError> {
        self.repeat(|| self.stores.log.head()).await
    }

    async fn events(&self, after: Seq, limit: usize) -> Result<Vec<LogEvent>, ReadError> {
        self.repeat(|| self.stores.log.events(after, limit)).await
    }

    async fn append(&self, expected: Seq, event: &LogEvent) -> Result<Append, WriteError> {
        self.repeat(|| self.stores.log.append(expected, event)).await
    }
}

#[async_trait]
impl ObjectStore for Retrying {
    async fn put(
        &self,
        name: &ObjectName,
        body: Bytes,
        digest: Digest,
        meta: &ObjectMeta,
    ) -> Result<Put, WriteError> {
        self.repeat(|| self.stores.objects.put(name, body.clone(), digest, meta)).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<StoredObject>, ReadError> {
        self.repeat(|| self.stores.objects.get(name)).await
    }

    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, ReadError> {
        self.repeat(|| self.stores.objects.info(name)).await
    }

    async fn delete(&self, names: &[ObjectName]) -> Result<(), WriteError> {
        self.repeat(|| self.stores.objects.delete(names)).await
    }

    async fn url(&self, name: &ObjectName, ttl: Duration) -> Result<Option<String>, ReadError> {
        self.repeat(|| self.stores.objects.url(name, ttl)).await
    }
}
