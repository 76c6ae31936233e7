//! Counts what a store is asked for: the budget of store requests is a promise, and this is how it is measured.

use crate::port::{
    Append, EntryStore, Expected, Head, InvalidationLog, ObjectInfo, ObjectMeta, ObjectStore, Put, ReadError,
    StoredObject, Stores, Swap, WriteError,
};
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
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The stores, counted, and the counters. Calls are counted when they are made, whatever becomes of them.
pub fn counted(stores: Stores) -> (Stores, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (count_into(stores, &counters), counters)
}

/// The stores, counted by counters that may count others too.
pub fn count_into(stores: Stores, counters: &Arc<Counters>) -> Stores {
    let counting = Arc::new(Counting { stores, counters: counters.clone() });
    Stores { entries: counting.clone(), log: counting.clone(), objects: counting }
}

/// How often each operation was asked for so far.
#[derive(Debug, Default)]
pub struct Counters {
    entry_reads: AtomicU64,
    swaps: AtomicU64,
    head_reads: AtomicU64,
    event_reads: AtomicU64,
    appends: AtomicU64,
    puts: AtomicU64,
    gets: AtomicU64,
    infos: AtomicU64,
    deletes: AtomicU64,
    urls: AtomicU64,
}

impl Counters {
    /// The counts as they are now. Of calls that run meanwhile, some may be in it and others not.
    pub fn snapshot(&self) -> Counts {
        let Self { entry_reads, swaps, head_reads, event_reads, appends, puts, gets, infos, deletes, urls } =
            self;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            entry_reads: count(entry_reads),
            swaps: count(swaps),
            head_reads: count(head_reads),
            event_reads: count(event_reads),
            appends: count(appends),
            puts: count(puts),
            gets: count(gets),
            infos: count(infos),
            deletes: count(deletes),
            urls: count(urls),
        }
    }
}

/// Numbers of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads of entries.
    pub entry_reads: u64,
    /// Swaps of entries, refused ones too.
    pub swaps: u64,
    /// Reads of the log's head.
    pub head_reads: u64,
    /// Reads of events, by calls.
    pub event_reads: u64,
    /// Appends to the log, refused ones too.
    pub appends: u64,
    /// Puts of objects.
    pub puts: u64,
    /// Reads of objects.
    pub gets: u64,
    /// Questions for size and digest.
    pub infos: u64,
    /// Calls that delete objects.
    pub deletes: u64,
    /// Questions for a URL.
    pub urls: u64,
}

impl Counts {
    /// What came after `earlier`, an earlier snapshot of the same counters.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            entry_reads: self.entry_reads - earlier.entry_reads,
            swaps: self.swaps - earlier.swaps,
            head_reads: self.head_reads - earlier.head_reads,
            event_reads: self.event_reads - earlier.event_reads,
            appends: self.appends - earlier.appends,
            puts: self.puts - earlier.puts,
            gets: self.gets - earlier.gets,
            infos: self.infos - earlier.infos,
            deletes: self.deletes - earlier.deletes,
            urls: self.urls - earlier.urls,
        }
    }

    /// Of all kinds together.
    pub fn total(self) -> u64 {
        let Self { entry_reads, swaps, head_reads, event_reads, appends, puts, gets, infos, deletes, urls } =
            self;
        entry_reads + swaps + head_reads + event_reads + appends + puts + gets + infos + deletes + urls
    }
}

struct Counting {
    stores: Stores,
    counters: Arc<Counters>,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[async_trait]
impl EntryStore for Counting {
    async fn read(&self, id: &EntryId) -> Result<Option<Entry>, ReadError> {
        count(&self.counters.entry_reads);
        self.stores.entries.read(id).await
    }

    async fn swap(
        &self,
        id: &EntryId,
        expected: Expected,
        entry: &Entry,
        forget_after: Timestamp,
    ) -> Result<Swap, WriteError> {
        count(&self.counters.swaps);
        self.stores.entries.swap(id, expected, entry, forget_after).await
    }
}

#[async_trait]
impl InvalidationLog for Counting {
    async fn head(&self) -> Result<Head, ReadError> {
        count(&self.counters.head_reads);
        self.stores.log.head().await
    }

    async fn events(&self, after: Seq, limit: usize) -> Result<Vec<LogEvent>, ReadError> {
        count(&self.counters.event_reads);
        self.stores.log.events(after, limit).await
    }

    async fn append(&self, expected: Seq, event: &LogEvent) -> Result<Append, WriteError> {
        count(&self.counters.appends);
        self.stores.log.append(expected, event).await
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put(
        &self,
        name: &ObjectName,
        body: Bytes,
        digest: Digest,
        meta: &ObjectMeta,
    ) -> Result<Put, WriteError> {
        count(&self.counters.puts);
        self.stores.objects.put(name, body, digest, meta).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<StoredObject>, ReadError> {
        count(&self.counters.gets);
        self.stores.objects.get(name).await
    }

    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, ReadError> {
        count(&self.counters.infos);
        self.stores.objects.info(name).await
    }

    async fn delete(&self, names: &[ObjectName]) -> Result<(), WriteError> {
        count(&self.counters.deletes);
        self.stores.objects.delete(names).await
    }

    async fn url(&self, name: &ObjectName, ttl: Duration) -> Result<Option<String>, ReadError> {
        count(&self.counters.urls);
        self.stores.objects.url(name, ttl).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{
        Decorated, EmbeddedFixture, Fixture,
        samples::{LATER, body, digest, entry, event, id, object_meta, object_name},
    };

    mod conformance {
        use super::*;
        crate::conformance_suite!(Decorated::new(
            EmbeddedFixture::new(tempfile::tempdir().unwrap()),
            |stores| counted(stores).0
        ));
    }

    #[tokio::test]
    async fn each_call_is_counted_under_its_own_kind() {
        let fixture = EmbeddedFixture::new(tempfile::tempdir().unwrap());
        let (Stores { entries, log, objects }, counters) = counted(fixture.open().await);
        let (id, name, meta, body) = (id("a"), object_name(1), object_meta(), body(1, 10));
        let digest = digest(&body);
        let before = counters.snapshot();
        assert_eq!(before, Counts::default());
        entries.read(&id).await.unwrap();
        for _ in 0..2 {
            entries.swap(&id, Expected::Absent, &entry(1, 1), LATER).await.unwrap();
        }
        for _ in 0..3 {
            log.head().await.unwrap();
        }
        for _ in 0..4 {
            log.events(Seq::START, 10).await.unwrap();
        }
        for _ in 0..5 {
            log.append(Seq::START, &event(1, 1)).await.unwrap();
        }
        for _ in 0..6 {
            objects.put(&name, body.clone(), digest, &meta).await.unwrap();
        }
        for _ in 0..7 {
            objects.get(&name).await.unwrap();
        }
        for _ in 0..8 {
            objects.info(&name).await.unwrap();
        }
        for _ in 0..9 {
            objects.delete(&[name.clone(), object_name(2)]).await.unwrap();
        }
        for _ in 0..10 {
            objects.url(&name, Duration::ZERO).await.unwrap();
        }
        let counts = counters.snapshot().since(before);
        let expected = Counts {
            entry_reads: 1,
            swaps: 2,
            head_reads: 3,
            event_reads: 4,
            appends: 5,
            puts: 6,
            gets: 7,
            infos: 8,
            deletes: 9,
            urls: 10,
        };
        assert_eq!(counts, expected);
        assert_eq!(counts.total(), 55);
        assert_eq!(counters.snapshot().since(counters.snapshot()), Counts::default());
    }
}
