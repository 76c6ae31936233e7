//! Tells an observer of every request to a store: what was asked, what became of it, how long it took, what it consumed.

use super::Operation;
use crate::{
    consumed::{self, Consumed},
    port::{
        Append, EntryStore, Expected, Head, InvalidationLog, ObjectInfo, ObjectMeta, ObjectStore, Put,
        ReadError, StoredObject, Stores, Swap, WriteError,
    },
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
use std::{sync::Arc, time::Duration};

/// Is told of requests. Called in the task that asks, and must not wait for anything.
pub trait Observer: Send + Sync + 'static {
    /// The time since some fixed point, by the observer's clock.
    fn elapsed(&self) -> Duration;

    /// A request has its answer, or nobody waits for that any more.
    fn ended(&self, request: &Observed);
}

/// A request that has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observed {
    /// What was asked for.
    pub operation: Operation,
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// What the store says that it consumed.
    pub consumed: Consumed,
    /// Bytes of a body that came from the store, or went to it and are stored there now.
    pub body_bytes: u64,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered, or applied.
    Done,
    /// Its condition did not hold: another was faster, or it was applied before.
    Refused,
    /// The store could not be asked, or did not answer; nothing was applied.
    Unavailable,
    /// It may have been applied.
    Unknown,
    /// What is stored does not decode.
    Corrupt,
    /// Over a limit of the store.
    TooLarge,
    /// Nobody waited for its answer any longer.
    Abandoned,
}

impl Outcome {
    /// As metrics and traces name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Corrupt => "corrupt",
            Self::TooLarge => "too_large",
            Self::Abandoned => "abandoned",
        }
    }

    fn of_read<T>(result: &Result<T, ReadError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(ReadError::Unavailable(_)) => Self::Unavailable,
            Err(ReadError::Corrupt(_)) => Self::Corrupt,
        }
    }

    fn of_write<T>(result: &Result<T, WriteError>, is_refusal: impl FnOnce(&T) -> bool) -> Self {
        match result {
            Ok(answer) if is_refusal(answer) => Self::Refused,
            Ok(_) => Self::Done,
            Err(WriteError::NotApplied(_)) => Self::Unavailable,
            Err(WriteError::Unknown(_)) => Self::Unknown,
            Err(WriteError::Corrupt(_)) => Self::Corrupt,
            Err(WriteError::TooLarge(_)) => Self::TooLarge,
        }
    }
}

/// The stores, observed.
pub fn observed(stores: Stores, observer: Arc<dyn Observer>) -> Stores {
    let observing = Arc::new(Observing { stores, observer });
    Stores { entries: observing.clone(), log: observing.clone(), objects: observing }
}

struct Observing {
    stores: Stores,
    observer: Arc<dyn Observer>,
}

/// A request that is under way. Dropped, nobody waits for it any longer.
struct UnderWay<'a> {
    observer: &'a dyn Observer,
    operation: Operation,
    begun: Duration,
    is_told: bool,
}

impl UnderWay<'_> {
    fn tell(&mut self, outcome: Outcome, consumed: Consumed, body_bytes: usize) {
        self.is_told = true;
        let took = self.observer.elapsed().saturating_sub(self.begun);
        let body_bytes = body_bytes as u64;
        self.observer.ended(&Observed { operation: self.operation, outcome, took, consumed, body_bytes });
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.tell(Outcome::Abandoned, Consumed::NOTHING, 0);
        }
    }
}

impl Observing {
    fn begin(&self, operation: Operation) -> UnderWay<'_> {
        let observer = &*self.observer;
        UnderWay { observer, operation, begun: observer.elapsed(), is_told: false }
    }

    async fn ask<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, ReadError>>,
        body_bytes: impl FnOnce(&T) -> usize,
    ) -> Result<T, ReadError> {
        let mut under_way = self.begin(operation);
        let (result, consumed) = consumed::measured(request).await;
        under_way.tell(Outcome::of_read(&result), consumed, result.as_ref().map_or(0, body_bytes));
        result
    }

    async fn change<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, WriteError>>,
        is_refusal: impl FnOnce(&T) -> bool,
        body_bytes: usize,
    ) -> Result<T, WriteError> {
        let mut under_way = self.begin(operation);
        let (result, consumed) = consumed::measured(request).await;
        let outcome = Outcome::of_write(&result, is_refusal);
        let stored_bytes = if outcome == Outcome::Done { body_bytes } else { 0 };
        under_way.tell(outcome, consumed, stored_bytes);
        result
    }
}

fn no_body<T>(_: &T) -> usize {
    0
}

#[async_trait]
impl EntryStore for Observing {
    async fn read(&self, id: &EntryId) -> Result<Option<Entry>, ReadError> {
        self.ask(Operation::EntryRead, self.stores.entries.read(id), no_body).await
    }

    async fn swap(
        &self,
        id: &EntryId,
        expected: Expected,
        entry: &Entry,
        forget_after: Timestamp,
    ) -> Result<Swap, WriteError> {
        let request = self.stores.entries.swap(id, expected, entry, forget_after);
        self.change(Operation::Swap, request, |swap| matches!(swap, Swap::Refused(_)), 0).await
    }
}

#[async_trait]
impl InvalidationLog for Observing {
    async fn head(&self) -> Result<Head, ReadError> {
        self.ask(Operation::HeadRead, self.stores.log.head(), no_body).await
    }

    async fn events(&self, after: Seq, limit: usize) -> Result<Vec<LogEvent>, ReadError> {
        self.ask(Operation::EventRead, self.stores.log.events(after, limit), no_body).await
    }

    async fn append(&self, expected: Seq, event: &LogEvent) -> Result<Append, WriteError> {
        let request = self.stores.log.append(expected, event);
        self.change(Operation::Append, request, |append| *append == Append::HeadMoved, 0).await
    }
}

#[async_trait]
impl ObjectStore for Observing {
    async fn put(
        &self,
        name: &ObjectName,
        body: Bytes,
        digest: Digest,
        meta: &ObjectMeta,
    ) -> Result<Put, WriteError> {
        let size_bytes = body.len();
        let request = self.stores.objects.put(name, body, digest, meta);
        self.change(Operation::Put, request, |put| *put == Put::Exists, size_bytes).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<StoredObject>, ReadError> {
        let size_bytes = |found: &Option<StoredObject>| found.as_ref().map_or(0, |found| found.body.len());
        self.ask(Operation::Get, self.stores.objects.get(name), size_bytes).await
    }

    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, ReadError> {
        self.ask(Operation::Info, self.stores.objects.info(name), no_body).await
    }

    async fn delete(&self, names: &[ObjectName]) -> Result<(), WriteError> {
        self.change(Operation::Delete, self.stores.objects.delete(names), |()| false, 0).await
    }

    async fn url(&self, name: &ObjectName, ttl: Duration) -> Result<Option<String>, ReadError> {
        self.ask(Operation::Url, self.stores.objects.url(name, ttl), no_body).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        conformance::{
            Decorated, EmbeddedFixture, Fixture,
            samples::{LATER, body, digest, entry, event, id, object_meta, object_name},
        },
        decorators::faults::{Fault, Faults, Gate, Rule},
    };
    use parking_lot::Mutex;

    /// Keeps what it is told. Its clock goes a second further whenever it is asked.
    #[derive(Default)]
    struct Notes(Mutex<(u64, Vec<Observed>)>);

    impl Observer for Notes {
        fn elapsed(&self) -> Duration {
            let mut notes = self.0.lock();
            notes.0 += 1;
            Duration::from_secs(notes.0)
        }

        fn ended(&self, request: &Observed) {
            self.0.lock().1.push(*request);
        }
    }

    impl Notes {
        fn take(&self) -> Vec<(Operation, Outcome, u64)> {
            let noted = std::mem::take(&mut self.0.lock().1);
            noted
                .into_iter()
                .map(|request| {
                    assert_eq!(request.took, Duration::from_secs(1));
                    (request.operation, request.outcome, request.body_bytes)
                })
                .collect()
        }
    }

    mod conformance {
        use super::*;
        crate::conformance_suite!(Decorated::new(
            EmbeddedFixture::new(tempfile::tempdir().unwrap()),
            |stores| observed(stores, Arc::new(Notes::default()))
        ));
    }

    #[tokio::test]
    async fn each_request_is_told_once_with_what_became_of_it() {
        use {Operation as Op, Outcome as Came};
        let fixture = EmbeddedFixture::new(tempfile::tempdir().unwrap());
        let notes = Arc::new(Notes::default());
        let Stores { entries, log, objects } = observed(fixture.open().await, notes.clone());
        let (id, name, meta, body) = (id("a"), object_name(1), object_meta(), body(1, 10));
        entries.read(&id).await.unwrap();
        for _ in 0..2 {
            entries.swap(&id, Expected::Absent, &entry(1, 1), LATER).await.unwrap();
        }
        log.head().await.unwrap();
        for _ in 0..2 {
            log.append(Seq::START, &event(1, 1)).await.unwrap();
        }
        log.events(Seq::START, 10).await.unwrap();
        for _ in 0..2 {
            objects.put(&name, body.clone(), digest(&body), &meta).await.unwrap();
        }
        objects.get(&name).await.unwrap();
        objects.get(&object_name(2)).await.unwrap();
        objects.info(&name).await.unwrap();
        objects.url(&name, Duration::ZERO).await.unwrap();
        objects.delete(&[name]).await.unwrap();
        let expected = [
            (Op::EntryRead, Came::Done, 0),
            (Op::Swap, Came::Done, 0),
            (Op::Swap, Came::Refused, 0),
            (Op::HeadRead, Came::Done, 0),
            (Op::Append, Came::Done, 0),
            (Op::Append, Came::Refused, 0),
            (Op::EventRead, Came::Done, 0),
            (Op::Put, Came::Done, 10),
            (Op::Put, Came::Refused, 0),
            (Op::Get, Came::Done, 10),
            (Op::Get, Came::Done, 0),
            (Op::Info, Came::Done, 0),
            (Op::Url, Came::Done, 0),
            (Op::Delete, Came::Done, 0),
        ];
        assert_eq!(notes.take(), expected);
    }
    #[tokio::test]
    async fn what_goes_wrong_is_told_as_what_it_is_and_so_is_what_nobody_waits_for() {
        use {Operation as Op, Outcome as Came};
        let fixture = EmbeddedFixture::new(tempfile::tempdir().unwrap());
        let (faults, notes) = (Faults::new(), Arc::new(Notes::default()));
        let Stores { entries, .. } = observed(faults.wrap(fixture.open().await), notes.clone());
        let id = id("a");
        for (operation, fault) in [
            (Op::EntryRead, Fault::Refuse),
            (Op::EntryRead, Fault::Corrupt),
            (Op::Swap, Fault::Refuse),
            (Op::Swap, Fault::TimeOutBefore),
            (Op::Swap, Fault::Corrupt),
        ] {
            faults.add(Rule::on(operation, fault));
            match operation {
                Op::EntryRead => drop(entries.read(&id).await.unwrap_err()),
                _ => drop(entries.swap(&id, Expected::Absent, &entry(1, 1), LATER).await.unwrap_err()),
            }
            faults.clear();
        }
        let gate = Gate::new();
        faults.add(Rule::on(Op::EntryRead, Fault::Hold(gate.clone())));
        tokio::select! {
            biased;
            read = entries.read(&id) => panic!("it is held: {read:?}"),
            () = gate.arrived(1) => {}
        }
        let expected = [
            (Op::EntryRead, Came::Unavailable, 0),
            (Op::EntryRead, Came::Corrupt, 0),
            (Op::Swap, Came::Unavailable, 0),
            (Op::Swap, Came::Unknown, 0),
            (Op::Swap, Came::Corrupt, 0),
            (Op::EntryRead, Came::Abandoned, 0),
        ];
        assert_eq!(notes.take(), expected);
    }
}
