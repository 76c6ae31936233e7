//! The table: what entries and log have in common.

use crate::{
    error::{Call, Resource},
    item::Item,
    settings::Layout,
};
use aws_sdk_dynamodb::{
    Client,
    types::{ConsumedCapacity, ReturnConsumedCapacity},
};
use leasehold_store::{
    consumed::{self, Consumed},
    port::ReadError,
};

/// A table, and how to talk to it.
pub(crate) struct Table {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) layout: Layout,
    pub(crate) report_capacity: bool,
}

impl Table {
    pub(crate) fn call(&self, operation: &'static str) -> Call<'_> {
        Call { operation, resource: Resource::Table(&self.name) }
    }

    pub(crate) fn capacity(&self) -> Option<ReturnConsumedCapacity> {
        self.report_capacity.then_some(ReturnConsumedCapacity::Total)
    }

    /// An item as it is now. Strongly consistent: an eventual read could show a state from before what was acknowledged.
    pub(crate) async fn get(&self, key: Item) -> Result<Option<Item>, ReadError> {
        self.client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key))
            .consistent_read(true)
            .set_return_consumed_capacity(self.capacity())
            .send()
            .await
            .map(|answer| {
                consumed::report(Consumed::by_reading(units(answer.consumed_capacity.as_slice())));
                answer.item
            })
            .map_err(|error| self.call("GetItem").read(&error))
    }
}

/// What an answer says that its request consumed: in all, where it is of several tables or indexes. Nothing where it was not
/// asked to say so.
pub(crate) fn units(consumed: &[ConsumedCapacity]) -> f64 {
    consumed.iter().filter_map(|consumed| consumed.capacity_units).sum()
}
