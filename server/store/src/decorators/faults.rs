//! A store that fails on demand: what a test needs to see every answer a store may give, and every order of events.
//!
//! ```text
//! let faults = Faults::new();
//! let stores = faults.wrap(stores);
//! faults.add(Rule::on(Operation::Swap, Fault::TimeOutAfter).nth(2));
//! let gate = faults.hold(Operation::EntryRead);
//! let reader = tokio::spawn(...);
//! gate.arrived(1).await;      // the read is about to be sent
//! gate.open();
//! ```

use super::Operation;
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
use std::{sync::Arc, time::Duration};

mod gate;
pub mod script;
#[cfg(test)]
mod tests;

pub use gate::Gate;
use script::Script;

/// What happens to a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The store refuses it: surely without effect.
    Refuse,
    /// It never reaches the store, and nobody can know: the outcome is unknown.
    TimeOutBefore,
    /// It is done, but the answer is lost: the outcome is unknown.
    TimeOutAfter,
    /// The caller is told at once that the outcome is unknown; a write reaches the store when the gate lets it, long after
    /// its caller has given it up. For a read as [`Fault::TimeOutBefore`].
    ApplyLater(Gate),
    /// What is stored does not decode. Without effect.
    Corrupt,
    /// It reaches the store after this time, on tokio's clock.
    Delay(Duration),
    /// It reaches the store when the gate lets it.
    Hold(Gate),
    /// It is done at once, and answered when the gate lets it: an answer that is old when it arrives.
    HoldAnswer(Gate),
}

/// Which calls a fault happens to.
pub type Rule = script::Rule<Operation, Fault>;

/// The script. Without rules, the stores are as they were. Clones are the same script.
#[derive(Clone, Default)]
pub struct Faults {
    script: Script<Operation, Fault>,
}

impl Faults {
    /// An empty script.
    pub fn new() -> Self {
        Self::default()
    }

    /// The stores under this script. Several stores can be under one.
    pub fn wrap(&self, stores: Stores) -> Stores {
        let faulty = Arc::new(Faulty { stores, faults: self.clone() });
        Stores { entries: faulty.clone(), log: faulty.clone(), objects: faulty }
    }

    /// Adds a rule, for calls from now on.
    pub fn add(&self, rule: Rule) {
        self.script.add(rule);
    }

    /// Holds every call of this kind, before it reaches the store, until the gate lets it through.
    pub fn hold(&self, operation: Operation) -> Gate {
        let gate = Gate::new();
        self.add(Rule::on(operation, Fault::Hold(gate.clone())));
        gate
    }

    /// Removes all rules. Calls that are held stay so until their gate lets them through.
    pub fn clear(&self) {
        self.script.clear();
    }

    async fn read<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        let unavailable = |why: &str| Err(ReadError::Unavailable(format!("injected: {why}")));
        match self.script.next(&operation) {
            None => call.await,
            Some(Fault::Refuse) => unavailable("refused"),
            Some(Fault::TimeOutBefore | Fault::ApplyLater(_)) => unavailable("timed out"),
            Some(Fault::TimeOutAfter) => {
                let _lost = call.await;
                unavailable("timed out")
            }
            Some(Fault::Corrupt) => Err(ReadError::Corrupt("injected".into())),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                call.await
            }
            Some(Fault::Hold(gate)) => {
                gate.pass().await;
                call.await
            }
            Some(Fault::HoldAnswer(gate)) => {
                let answer = call.await;
                gate.pass().await;
                answer
            }
        }
    }

    async fn write<T: Send + 'static>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, WriteError>> + Send + 'static,
    ) -> Result<T, WriteError> {
        let unknown = || Err(WriteError::Unknown("injected: timed out".into()));
        match self.script.next(&operation) {
            None => call.await,
            Some(Fault::Refuse) => Err(WriteError::NotApplied("injected: refused".into())),
            Some(Fault::TimeOutBefore) => unknown(),
            Some(Fault::TimeOutAfter) => {
                let _lost = call.await;
                unknown()
            }
            Some(Fault::ApplyLater(gate)) => {
                tokio::spawn(async move {
                    gate.pass().await;
                    let _lost = call.await;
                    gate.done();
                });
                unknown()
            }
            Some(Fault::Corrupt) => Err(WriteError::Corrupt("injected".into())),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                call.await
            }
            Some(Fault::Hold(gate)) => {
                gate.pass().await;
                call.await
            }
            Some(Fault::HoldAnswer(gate)) => {
                let answer = call.await;
                gate.pass().await;
                answer
            }
        }
    }
}

struct Faulty {
    stores: Stores,
    faults: Faults,
}

#[async_trait]
impl EntryStore for Faulty {
    async fn read(&self, id: &EntryId) -> Result<Option<Entry>, ReadError> {
        self.faults.read(Operation::EntryRead, self.stores.entries.read(id)).await
    }

    async fn swap(
        &self,
        id: &EntryId,
        expected: Expected,
        entry: &Entry,
        forget_after: Timestamp,
    ) -> Result<Swap, WriteError> {
        let (store, id, entry) = (self.stores.entries.clone(), id.clone(), entry.clone());
        let call = async move { store.swap(&id, expected, &entry, forget_after).await };
        self.faults.write(Operation::Swap, call).await
    }
}

#[async_trait]
impl InvalidationLog for Faulty {
    async fn head(&self) -> Result<Head, ReadError> {
        self.faults.read(Operation::HeadRead, self.stores.log.head()).await
    }

    async fn events(&self, after: Seq, limit: usize) -> Result<Vec<LogEvent>, ReadError> {
        self.faults.read(Operation::EventRead, self.stores.log.events(after, limit)).await
    }

    async fn append(&self, expected: Seq, event: &LogEvent) -> Result<Append, WriteError> {
        let (store, event) = (self.stores.log.clone(), event.clone());
        let call = async move { store.append(expected, &event).await };
        self.faults.write(Operation::Append, call).await
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put(
        &self,
        name: &ObjectName,
        body: Bytes,
        digest: Digest,
        meta: &ObjectMeta,
    ) -> Result<Put, WriteError> {
        let (store, name, meta) = (self.stores.objects.clone(), name.clone(), meta.clone());
        let call = async move { store.put(&name, body, digest, &meta).await };
        self.faults.write(Operation::Put, call).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<StoredObject>, ReadError> {
        self.faults.read(Operation::Get, self.stores.objects.get(name)).await
    }

    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, ReadError> {
        self.faults.read(Operation::Info, self.stores.objects.info(name)).await
    }

    async fn delete(&self, names: &[ObjectName]) -> Result<(), WriteError> {
        let (store, names) = (self.stores.objects.clone(), names.to_vec());
        let call = async move { store.delete(&names).await };
        self.faults.write(Operation::Delete, call).await
    }

    async fn url(&self, name: &ObjectName, ttl: Duration) -> Result<Option<String>, ReadError> {
        self.faults.read(Operation::Url, self.stores.objects.url(name, ttl)).await
    }
}
