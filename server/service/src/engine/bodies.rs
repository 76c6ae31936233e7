//! Bodies: kept in memory by their names, which never change their meaning.
//!
//! Unless a worker gives a name again to which a body was deleted. Then another coordinator may still remember the old one:
//! what a pointer names is held against the pointer's digest.

use super::{
    caller::StoreCaller,
    error::EngineError,
    placing::{labels_in, origin_in},
};
use crate::time::Moment;
use bytes::Bytes;
use leasehold_core::{
    named::Origin,
    object::ObjectName,
    page::{BodyRef, Digest},
};
use leasehold_store::port::{ObjectMeta, ObjectStore, Put, ReadError, StoredObject, WriteError};
use quick_cache::{Weighter, sync::Cache};
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Duration};

/// Below this a digest is computed where it is needed; above, on a thread that may be busy.
const INLINE_DIGEST_BYTES: usize = 128 * 1024;
/// What a cached body costs besides its bytes, its name and what is written on it.
const OVERHEAD_BYTES: u64 = 256;
/// How many names are remembered that had no body.
const MISSING_NAMES: usize = 1024;
/// How often a put is tried. Repeating it is harmless: the name is taken only once.
const PUT_ATTEMPTS: u32 = 4;

#[derive(Clone)]
struct ByBytes;

impl Weighter<ObjectName, StoredObject> for ByBytes {
    fn weight(&self, name: &ObjectName, object: &StoredObject) -> u64 {
        let attributes = object.meta.attributes.iter().map(|(name, value)| name.len() + value.len());
        let meta = object.meta.content_type.len() + attributes.sum::<usize>();
        (name.as_str().len() + object.body.len() + meta) as u64 + OVERHEAD_BYTES
    }
}

/// The object store behind a cache that is bounded in bytes.
pub(crate) struct Bodies {
    store: Arc<dyn ObjectStore>,
    caller: StoreCaller,
    cache: Cache<ObjectName, StoredObject, ByBytes>,
    /// Names that had no body when they were asked for, and when that was.
    missing: Cache<ObjectName, Duration>,
}

enum Absent {
    Missing,
    Failed(ReadError),
}

impl Bodies {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, caller: StoreCaller, capacity_bytes: u64) -> Self {
        // An estimate for the cache's tables: pages are seldom smaller than this.
        let estimate = usize::try_from(capacity_bytes / 8192).unwrap_or(usize::MAX).clamp(64, 1 << 20);
        let cache = Cache::with_weighter(estimate, capacity_bytes, ByBytes);
        Self { store, caller, cache, missing: Cache::new(MISSING_NAMES) }
    }

    /// Bytes held in memory.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// The body of a page, if it is in memory.
    pub(crate) fn cached(&self, body: &BodyRef) -> Option<StoredObject> {
        self.cache.get(&body.object).filter(|object| is_of(object, body.digest))
    }

    /// The body of a page; `None` where it is gone, or another one has its name.
    pub(crate) async fn get_as(&self, body: &BodyRef) -> Result<Option<StoredObject>, EngineError> {
        if self.cache.get(&body.object).is_some_and(|object| !is_of(&object, body.digest)) {
            self.cache.remove(&body.object);
        }
        let object = self.get(&body.object).await?;
        Ok(object.filter(|object| is_of(object, body.digest)))
    }

    /// The body; `None` where there is no such object, or none that is whole: a rotten one is as good as gone, and only if it
    /// counts as gone is the page rendered again. Concurrent calls share one read, and when its caller goes away another of
    /// them takes over.
    pub(crate) async fn get(&self, name: &ObjectName) -> Result<Option<StoredObject>, EngineError> {
        let load = async {
            match self.caller.read(|| self.store.get(name)).await {
                Ok(Some(StoredObject { body, meta })) => Ok(StoredObject { body: alone(&body), meta }),
                Ok(None) => Err(Absent::Missing),
                Err(ReadError::Corrupt(why)) => {
                    tracing::error!(object = %name, error = why, "a stored body is corrupt and counts as gone");
                    Err(Absent::Missing)
                }
                Err(error) => Err(Absent::Failed(error)),
            }
        };
        match self.cache.get_or_insert_async(name, load).await {
            Ok(object) => Ok(Some(object)),
            Err(Absent::Missing) => Ok(None),
            Err(Absent::Failed(error)) => Err(error.into()),
        }
    }

    /// As [`Bodies::get`], for a name of which nothing says that there is such an object: where there was none less than
    /// `interval` ago, the store is not asked again.
    pub(crate) async fn find(
        &self,
        name: &ObjectName,
        now: Moment,
        interval: Option<Duration>,
    ) -> Result<Option<StoredObject>, EngineError> {
        let is_missing = || {
            let asked_at = self.missing.get(name);
            asked_at.zip(interval).is_some_and(|(at, interval)| now.elapsed.saturating_sub(at) < interval)
        };
        if let Some(object) = self.cache.get(name) {
            return Ok(Some(object));
        }
        if is_missing() {
            return Ok(None);
        }
        let found = self.get(name).await?;
        if found.is_none() {
            self.missing.insert(name.clone(), now.elapsed);
        }
        Ok(found)
    }

    /// Stores a body and keeps it in memory. What an earlier attempt stored under the same name must have the same bytes, and
    /// must not say otherwise of its page or its lease than this one, as far as `meta` says anything that the coordinator
    /// relies on.
    ///
    /// # Errors
    /// [`EngineError::OutcomeUnknown`] where it may be stored all the same.
    pub(crate) async fn put(
        &self,
        name: &ObjectName,
        body: Bytes,
        digest: Digest,
        meta: ObjectMeta,
    ) -> Result<BodyRef, EngineError> {
        let size_bytes = body.len() as u64;
        let mut failures = 0;
        let mut maybe_stored = None;
        loop {
            match self.caller.write(failures, self.store.put(name, body.clone(), digest, &meta)).await {
                Ok(Put::Created) => {
                    self.missing.remove(name);
                    self.cache.insert(name.clone(), StoredObject { body: alone(&body), meta });
                    return Ok(BodyRef { object: name.clone(), digest, size_bytes });
                }
                Ok(Put::Exists) => {
                    let checking = async {
                        let stored = self.check_stored(name, digest, size_bytes).await?;
                        self.check_written(name, &meta).await?;
                        Ok(stored)
                    };
                    return checking.await.map_err(|error| match (error, maybe_stored) {
                        (EngineError::StoreUnavailable(_), Some(why)) => EngineError::OutcomeUnknown(why),
                        // What was in the way is gone; but this body is not there for that.
                        (EngineError::ObjectMissing(name), _) => EngineError::ObjectConflict(name),
                        (error, _) => error,
                    });
                }
                Err(error @ (WriteError::Corrupt(_) | WriteError::TooLarge(_))) => {
                    return Err(maybe_stored.map_or(error.into(), EngineError::OutcomeUnknown));
                }
                Err(error) => {
                    if let WriteError::Unknown(why) = &error {
                        maybe_stored = Some(why.clone());
                    }
                    failures += 1;
                    if failures == PUT_ATTEMPTS || !self.caller.may_repeat(failures).await {
                        return Err(maybe_stored.map_or(error.into(), EngineError::OutcomeUnknown));
                    }
                }
            }
        }
    }

    /// That an object which is stored already is labelled as it would be now: it is purged by what it says of itself. One
    /// without labels counts as purged whenever in doubt, which does for every page. And that one which its worker named was
    /// stored under this very lease: what two entries shared would go with either.
    pub(crate) async fn check_written(
        &self,
        name: &ObjectName,
        meta: &ObjectMeta,
    ) -> Result<(), EngineError> {
        let (labels, origin) = (labels_in(meta), origin_in(meta));
        if labels.is_none() && origin.is_none() {
            return Ok(());
        }
        let is_other = |stored: &StoredObject| {
            let is_other_page =
                labels.is_some() && labels_in(&stored.meta).is_some_and(|of| Some(of) != labels);
            let is_other_lease = origin.is_some() && origin != origin_in(&stored.meta);
            is_other_page || is_other_lease
        };
        if self.cache.get(name).is_some_and(|remembered| is_other(&remembered)) {
            // It may be one that was deleted since.
            self.cache.remove(name);
        }
        let stored = self.get(name).await?.ok_or_else(|| EngineError::ObjectMissing(name.clone()))?;
        if is_other(&stored) {
            return Err(EngineError::ObjectConflict(name.clone()));
        }
        Ok(())
    }

    /// That a body which somebody else stored is there, and is the one that is meant.
    pub(crate) async fn check_stored(
        &self,
        name: &ObjectName,
        digest: Digest,
        size_bytes: u64,
    ) -> Result<BodyRef, EngineError> {
        let info = self.caller.read(|| self.store.info(name)).await?;
        let info = info.ok_or_else(|| EngineError::ObjectMissing(name.clone()))?;
        if info.size_bytes != size_bytes || info.digest.is_some_and(|stored| stored != digest) {
            return Err(EngineError::ObjectConflict(name.clone()));
        }
        Ok(BodyRef { object: name.clone(), digest, size_bytes })
    }

    /// Whether a body is stored whole under a name that was committed before, as far as the store knows without reading it.
    pub(crate) async fn is_stored(&self, body: &BodyRef) -> Result<bool, EngineError> {
        match self.check_stored(&body.object, body.digest, body.size_bytes).await {
            Ok(_) => Ok(true),
            Err(EngineError::ObjectMissing(_) | EngineError::ObjectConflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A URL to fetch the body from.
    pub(crate) async fn url(&self, name: &ObjectName, ttl: Duration) -> Result<String, EngineError> {
        let url = self.caller.read(|| self.store.url(name, ttl)).await?;
        url.ok_or(EngineError::UrlUnsupported)
    }

    /// What is written on a body by its worker's name, as the store has it now; `None` where there is no such body, or
    /// nothing on it.
    pub(crate) async fn origin_of(&self, name: &ObjectName) -> Result<Option<Origin>, EngineError> {
        let object = self.caller.read(|| self.store.get(name)).await?;
        Ok(object.and_then(|object| Origin::in_attributes(&object.meta.attributes)))
    }

    /// Deletes from the store and from memory.
    pub(crate) async fn delete(&self, names: &[ObjectName]) -> Result<(), EngineError> {
        self.caller.write(0, self.store.delete(names)).await?;
        for name in names {
            self.cache.remove(name);
        }
        Ok(())
    }
}

/// The same bytes, in memory of their own: what is cut from a message, or from what a connection has read, keeps all of that.
fn alone(body: &Bytes) -> Bytes {
    Bytes::copy_from_slice(body)
}

/// Whether an object is not told by what is written on it to be another than that of this digest.
fn is_of(object: &StoredObject, digest: Digest) -> bool {
    digest == Digest::UNKNOWN || origin_in(&object.meta).is_none_or(|origin| Origin::tells(origin, digest))
}

/// SHA-256 of a body, off the request threads where it takes long.
pub(crate) async fn digest(body: &Bytes) -> Result<Digest, EngineError> {
    if body.len() <= INLINE_DIGEST_BYTES {
        return Ok(Digest(Sha256::digest(body).into()));
    }
    let body = body.clone();
    tokio::task::spawn_blocking(move || Digest(Sha256::digest(&body).into()))
        .await
        .map_err(|_| EngineError::Internal("a digest could not be computed"))
}
