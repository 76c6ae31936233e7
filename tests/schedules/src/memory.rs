//! A store in memory, in which every request takes its turns on the way there and back.

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
use std::{collections::HashMap, sync::Arc, time::Duration};

#[derive(Default)]
pub(crate) struct Memory {
    entries: Mutex<HashMap<EntryId, Entry>>,
    log: Mutex<Vec<LogEvent>>,
    objects: Mutex<HashMap<ObjectName, (StoredObject, Digest)>>,
}

impl Memory {
    pub(crate) fn stores(self: &Arc<Self>) -> Stores {
        Stores { entries: self.clone(), log: self.clone(), objects: self.clone() }
    }

    /// The events so far.
    pub(crate) fn events(&self) -> Vec<LogEvent> {
        self.log.lock().clone()
    }
}

/// A request or an answer on its way.
async fn travel() {
    tokio::time::sleep(Duration::ZERO).await;
}

#[async_trait]
impl EntryStore for Memory {
    async fn read(&self, id: &EntryId) -> Result<Option<Entry>, ReadError> {
        travel().await;
        let entry = self.entries.lock().get(id).cloned();
        travel().await;
        Ok(entry)
    }

    async fn swap(
        &self,
        id: &EntryId,
        expected: Expected,
        entry: &Entry,
        _: Timestamp,
    ) -> Result<Swap, WriteError> {
        travel().await;
        let swap = {
            let mut entries = self.entries.lock();
            let current = entries.get(id);
            if expected == current.map_or(Expected::Absent, |entry| Expected::Version(entry.version)) {
                entries.insert(id.clone(), entry.clone());
                Swap::Applied
            } else {
                Swap::Refused(current.cloned())
            }
        };
        travel().await;
        Ok(swap)
    }
}

#[async_trait]
impl InvalidationLog for Memory {
    async fn head(&self) -> Result<Head, ReadError> {
        travel().await;
        let head = self
            .log
            .lock()
            .last()
            .map_or(Head::EMPTY, |event| Head { seq: event.seq, last_event: Some(event.id) });
        travel().await;
        Ok(head)
    }

    async fn events(&self, after: Seq, limit: usize) -> Result<Vec<LogEvent>, ReadError> {
        travel().await;
        let events = self.log.lock().iter().filter(|event| event.seq > after).take(limit).cloned().collect();
        travel().await;
        Ok(events)
    }

    async fn append(&self, expected: Seq, event: &LogEvent) -> Result<Append, WriteError> {
        travel().await;
        let append = {
            let mut log = self.log.lock();
            if log.last().map_or(Seq::START, |event| event.seq) == expected {
                log.push(event.clone());
                Append::Appended
            } else {
                Append::HeadMoved
            }
        };
        travel().await;
        Ok(append)
    }
}

#[async_trait]
impl ObjectStore for Memory {
    async fn put(
        &self,
        name: &ObjectName,
        body: Bytes,
        digest: Digest,
        meta: &ObjectMeta,
    ) -> Result<Put, WriteError> {
        travel().await;
        let mut objects = self.objects.lock();
        if objects.contains_key(name) {
            return Ok(Put::Exists);
        }
        objects.insert(name.clone(), (StoredObject { body, meta: meta.clone() }, digest));
        Ok(Put::Created)
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<StoredObject>, ReadError> {
        travel().await;
        Ok(self.objects.lock().get(name).map(|(object, _)| object.clone()))
    }

    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, ReadError> {
        travel().await;
        Ok(self.objects.lock().get(name).map(|(object, digest)| ObjectInfo {
            size_bytes: object.body.len() as u64,
            digest: Some(*digest),
        }))
    }

    async fn delete(&self, names: &[ObjectName]) -> Result<(), WriteError> {
        travel().await;
        let mut objects = self.objects.lock();
        for name in names {
            objects.remove(name);
        }
        Ok(())
    }

    async fn url(&self, _: &ObjectName, _: Duration) -> Result<Option<String>, ReadError> {
        Ok(None)
    }
}
