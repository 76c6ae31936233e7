//! Entries on DynamoDB: a swap is one conditional put, a read is one strongly consistent get.

use crate::{
    error::Call,
    item::{Item, MAX_ITEM_BYTES, PK, bits, bytes_value, size_bytes},
    row::{self, VERSION},
    table::{Table, units},
};
use async_trait::async_trait;
use aws_sdk_dynamodb::{operation::put_item::PutItemError, types::ReturnValuesOnConditionCheckFailure};
use leasehold_core::{
    entry::Entry,
    identity::{EntryId, Version},
    time::Timestamp,
};
use leasehold_store::{
    consumed::{self, Consumed},
    port::{EntryStore, Expected, ReadError, Swap, WriteError},
};
use std::sync::Arc;

/// The registers of entries, in a table.
pub(crate) struct DynamoEntries {
    table: Arc<Table>,
}

/// What a put is conditional on.
enum Condition {
    Absent,
    Version(Version),
    /// The row is as it was read: what stands for a version where somebody else wrote it.
    Unchanged(Item),
}

/// What became of a put.
enum Outcome {
    Applied,
    /// And what refused it.
    Refused(Option<Item>),
}

impl DynamoEntries {
    pub(crate) fn new(table: Arc<Table>) -> Self {
        Self { table }
    }

    async fn put(&self, call: Call<'_>, item: Item, condition: &Condition) -> Result<Outcome, WriteError> {
        let (expression, values) = match condition {
            Condition::Absent => (format!("attribute_not_exists({PK})"), None),
            Condition::Version(version) => {
                let values = Item::from([(":expected".into(), bytes_value(version.0.to_be_bytes()))]);
                (format!("{VERSION} = :expected"), Some(values))
            }
            Condition::Unchanged(row) => {
                let (expression, values) = row::unchanged(row);
                (expression, Some(values))
            }
        };
        let sent = self
            .table
            .client
            .put_item()
            .table_name(&self.table.name)
            .set_item(Some(item))
            .condition_expression(expression)
            .set_expression_attribute_values(values)
            // The rival is part of the answer. Asked for afterwards it might be another one, or our own earlier attempt
            // with a successor already on top of it.
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .set_return_consumed_capacity(self.table.capacity())
            .send()
            .await;
        match sent {
            Ok(put) => {
                consumed::report(Consumed::by_writing(units(put.consumed_capacity.as_slice())));
                Ok(Outcome::Applied)
            }
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(refused)) => {
                    Ok(Outcome::Refused(refused.item.clone()))
                }
                _ => Err(call.write(&error)),
            },
        }
    }

    /// What the row that is there says of a swap that it did not let pass.
    fn judge(
        &self,
        call: Call<'_>,
        id: &EntryId,
        entry: &Entry,
        there: Option<Item>,
    ) -> Result<Swap, WriteError> {
        let Some(there) = there else { return Ok(Swap::Refused(None)) };
        // No rival ever has our version: this is an earlier attempt of ours, whose answer was lost.
        if bits(&there, VERSION) == Ok(Some(entry.version.0)) {
            return Ok(Swap::Applied);
        }
        let row = row::read(&self.table.layout, id, &there).map_err(|why| call.corrupt_write(why))?;
        Ok(Swap::Refused(Some(row.entry)))
    }

    /// A swap from a version that a foreign row may have. Such a version is in no attribute, so that the row is read, and
    /// the put made conditional on what was read.
    async fn swap_as_read(
        &self,
        id: &EntryId,
        expected: Version,
        entry: &Entry,
        item: Item,
    ) -> Result<Swap, WriteError> {
        let key =
            row::key(&self.table.layout, id).map_err(|why| self.table.call("PutItem").too_large(why))?;
        let there = self.table.get(key).await.map_err(|error| match error {
            // Nothing was written yet.
            ReadError::Unavailable(why) => WriteError::NotApplied(why),
            ReadError::Corrupt(why) => WriteError::Corrupt(why),
        })?;
        let call = self.table.call("PutItem");
        let Some(there) = there else { return Ok(Swap::Refused(None)) };
        let seen = self.judge(call, id, entry, Some(there.clone()))?;
        let Swap::Refused(Some(current)) = &seen else { return Ok(seen) };
        if current.version != expected {
            return Ok(seen);
        }
        let foreign = row::read(&self.table.layout, id, &there).is_ok_and(|row| row.foreign);
        let condition = if foreign { Condition::Unchanged(there) } else { Condition::Version(expected) };
        match self.put(call, item, &condition).await? {
            Outcome::Applied => Ok(Swap::Applied),
            Outcome::Refused(there) => self.judge(call, id, entry, there),
        }
    }
}

#[async_trait]
impl EntryStore for DynamoEntries {
    async fn read(&self, id: &EntryId) -> Result<Option<Entry>, ReadError> {
        // What does not fit into a key was never put.
        let Ok(key) = row::key(&self.table.layout, id) else { return Ok(None) };
        let Some(item) = self.table.get(key).await? else { return Ok(None) };
        let row = row::read(&self.table.layout, id, &item)
            .map_err(|why| self.table.call("GetItem").corrupt_read(why))?;
        Ok(Some(row.entry))
    }

    async fn swap(
        &self,
        id: &EntryId,
        expected: Expected,
        entry: &Entry,
        forget_after: Timestamp,
    ) -> Result<Swap, WriteError> {
        let call = self.table.call("PutItem");
        // What reads the row by its partition key alone would take it for another entry's, of another tenant's perhaps.
        if !self.table.layout.entry_key.identifies(id) {
            return Err(call.too_large(
                "the table's partition key does not tell this entry from others: it takes keys that begin with their \
                 tenant and `::/`, and no deployments",
            ));
        }
        let item =
            row::write(&self.table.layout, id, entry, forget_after).map_err(|why| call.too_large(why))?;
        let size = size_bytes(&item);
        if size > MAX_ITEM_BYTES {
            return Err(
                call.too_large(format_args!("the entry is {size} bytes long; the limit is {MAX_ITEM_BYTES}"))
            );
        }
        let condition = match expected {
            Expected::Absent => Condition::Absent,
            Expected::Version(version) if row::may_be_foreign(version) => {
                return self.swap_as_read(id, version, entry, item).await;
            }
            Expected::Version(version) => Condition::Version(version),
        };
        match self.put(call, item, &condition).await? {
            Outcome::Applied => Ok(Swap::Applied),
            Outcome::Refused(there) => self.judge(call, id, entry, there),
        }
    }
}
