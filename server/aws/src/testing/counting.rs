//! Counts what is asked of the services, and what it costs: the budget of store requests is a promise.

use super::connector::{Server, operation_of};
use parking_lot::Mutex;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// How often each operation was asked for so far, and the capacity units that DynamoDB says were consumed.
#[derive(Debug, Default)]
pub struct Counters {
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    requests: BTreeMap<String, u64>,
    /// In half units: the smallest that is billed.
    half_units: BTreeMap<String, u64>,
}

impl Counters {
    /// Requests of one operation, by the API's name of it. Counted when they are made, whatever becomes of them.
    pub fn of(&self, operation: &str) -> u64 {
        self.counted.lock().requests.get(operation).copied().unwrap_or_default()
    }

    /// Requests of all operations.
    pub fn total(&self) -> u64 {
        self.counted.lock().requests.values().sum()
    }

    /// Every operation that was asked for, and how often.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.counted.lock().requests.clone()
    }

    /// Capacity units that answered calls of one operation consumed. DynamoDB does not say it of calls that fail, although
    /// it bills a refused write.
    pub fn capacity_units(&self, operation: &str) -> f64 {
        self.counted.lock().half_units.get(operation).copied().unwrap_or_default() as f64 / 2.0
    }

    /// Begins anew.
    pub fn reset(&self) {
        *self.counted.lock() = Counted::default();
    }
}

/// `server`, counted.
pub(super) fn count(server: Server, counters: &Arc<Counters>) -> Server {
    let counters = counters.clone();
    Arc::new(move |request| {
        let operation = operation_of(&request);
        *counters.counted.lock().requests.entry(operation.clone()).or_default() += 1;
        let (answer, counters) = (server(request), counters.clone());
        Box::pin(async move {
            let answer = answer.await?;
            let consumed = answer.body().bytes().map_or(0, half_units);
            *counters.counted.lock().half_units.entry(operation).or_default() += consumed;
            Ok(answer)
        })
    })
}

/// What an answer of DynamoDB says was consumed; of a transaction, by table.
fn half_units(body: &[u8]) -> u64 {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return 0 };
    let units = |consumed: &Value| consumed["CapacityUnits"].as_f64().unwrap_or_default();
    let consumed = match &answer["ConsumedCapacity"] {
        Value::Array(tables) => tables.iter().map(units).sum(),
        table => units(table),
    };
    (consumed * 2.0) as u64
}
