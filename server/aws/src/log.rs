//! The invalidation log on DynamoDB: a head and its events under one partition key.
//!
//! An append is one transaction of two: the head moves, the event is written, both or neither. Its client request token is
//! left to the SDK, another one for every call: with one made from the event, the service would answer a late duplicate
//! with the success of the first, although the head is elsewhere by then. The conditions already keep a duplicate out.
//!
//! DynamoDB's expiry deletes single items, in no order, some time after their `ttl`. So that nothing is deleted before an
//! older event that is still to be kept, no event's `ttl` is earlier than that of an older one: the head remembers the
//! latest, and an appender that has not read it yet does so first.

use crate::{
    error::Call,
    item::{
        self, Item, MAX_ITEM_BYTES, PK, RECORD, SK, TTL, bits, bytes_value, number_value, required,
        size_bytes, text_value, whole_number,
    },
    row::whole_seconds,
    table::{Table, units},
};
use async_trait::async_trait;
use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update},
};
use leasehold_core::{
    identity::{RequestId, Seq},
    invalidation::LogEvent,
    mutation::{self, Mutation},
};
use leasehold_store::{
    consumed::{self, Consumed},
    port::{Append, Head, InvalidationLog, ReadError, WriteError},
    record,
};
use parking_lot::Mutex;
use std::sync::Arc;

/// The sort key of the head.
const HEAD: &str = "HEAD";
/// What the sort keys of events begin with.
pub(crate) const EVENT: &str = "EVENT#";
/// Of the head: the position of the last event, its id, and the latest `ttl` of all events so far.
const SEQ: &str = "seq";
const LAST_EVENT: &str = "last_event";
const KEEP_UNTIL: &str = "keep_until";

/// The log, in a table.
pub(crate) struct DynamoLog {
    table: Arc<Table>,
    /// The head as this handle last saw it. Only a hint: appends are conditional on its position.
    known: Mutex<Option<Known>>,
}

/// What an append has to know of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) head: Head,
    keep_until_secs: u64,
}

impl Known {
    const EMPTY: Self = Self { head: Head::EMPTY, keep_until_secs: 0 };

    pub(crate) fn read(item: Option<&Item>) -> Result<Self, item::InvalidAttribute> {
        let Some(item) = item else { return Ok(Self::EMPTY) };
        let seq = Seq(required(SEQ, whole_number(item, SEQ)?)?);
        if seq.next().is_none() {
            return Err(item::InvalidAttribute { name: SEQ, why: "is a position that no event can follow" });
        }
        Ok(Self {
            head: Head { seq, last_event: bits(item, LAST_EVENT)?.map(RequestId) },
            keep_until_secs: whole_number(item, KEEP_UNTIL)?.unwrap_or_default(),
        })
    }
}

impl DynamoLog {
    pub(crate) fn new(table: Arc<Table>) -> Self {
        Self { table, known: Mutex::new(None) }
    }

    fn key(&self, sk: &str) -> Item {
        Item::from([(PK.into(), text_value(&self.table.layout.log_key)), (SK.into(), text_value(sk))])
    }

    async fn read_head(&self) -> Result<Known, ReadError> {
        let item = self.table.get(self.key(HEAD)).await?;
        let known = Known::read(item.as_ref()).map_err(|why| self.table.call("GetItem").corrupt_read(why))?;
        self.learn(known);
        Ok(known)
    }

    /// Answers that are late tell of a head that was.
    fn learn(&self, known: Known) {
        let mut newest = self.known.lock();
        if newest.is_none_or(|newest| newest.head.seq <= known.head.seq) {
            *newest = Some(known);
        }
    }

    /// Refuses a query that did not show an event which is there. A hole is what expiry left: its readers take it for events
    /// that nobody knows any more, and every page for purged by them. But a query may show one item of a transaction and not
    /// the other; a read of the item itself may not (AWS: "Amazon DynamoDB Transactions", isolation levels).
    async fn check_hole(&self, newest_missing: Seq) -> Result<(), ReadError> {
        match self.table.get(self.key(&event_sk(newest_missing))).await? {
            None => Ok(()),
            Some(_) => Err(ReadError::Unavailable(format!(
                "{}: event {newest_missing} was not shown, although it is there",
                self.table.call("Query")
            ))),
        }
    }

    /// The head at `expected`, as far as an append needs it; read where it is not remembered.
    async fn head_at(&self, expected: Seq) -> Result<Known, WriteError> {
        if expected == Seq::START {
            return Ok(Known::EMPTY);
        }
        let remembered = *self.known.lock();
        match remembered {
            Some(known) if known.head.seq == expected => Ok(known),
            _ => self.read_head().await.map_err(|error| match error {
                // Nothing was written yet.
                ReadError::Unavailable(why) => WriteError::NotApplied(why),
                ReadError::Corrupt(why) => WriteError::Corrupt(why),
            }),
        }
    }

    fn move_head(&self, expected: Seq, event: &LogEvent, keep_until_secs: u64) -> Update {
        let mut update = Update::builder()
            .table_name(&self.table.name)
            .set_key(Some(self.key(HEAD)))
            .update_expression(format!(
                "SET {SEQ} = :seq, {LAST_EVENT} = :last_event, {KEEP_UNTIL} = :keep_until"
            ))
            .expression_attribute_values(":seq", number_value(event.seq))
            .expression_attribute_values(":last_event", bytes_value(event.id.0.to_be_bytes()))
            .expression_attribute_values(":keep_until", number_value(keep_until_secs))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        update = if mutation::is_active(Mutation::AppendOnEmptySlot) {
            update
        } else if expected == Seq::START {
            update.condition_expression(format!("attribute_not_exists({PK})"))
        } else {
            update
                .condition_expression(format!("{SEQ} = :expected"))
                .expression_attribute_values(":expected", number_value(expected))
        };
        // Cannot fail: key, table and expression are there.
        update.build().expect("an update with all its parts")
    }

    fn put_event(&self, item: Item) -> Put {
        Put::builder()
            .table_name(&self.table.name)
            .set_item(Some(item))
            .condition_expression(format!("attribute_not_exists({PK})"))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .expect("a put with all its parts")
    }

    /// What the reasons of a cancelled append mean: first that of the head, then that of the event.
    fn judge(
        &self,
        call: Call<'_>,
        event: &LogEvent,
        reasons: &[CancellationReason],
    ) -> Result<Append, WriteError> {
        const REFUSED: &str = "ConditionalCheckFailed";
        let code = |at: usize| reasons.get(at).and_then(CancellationReason::code).unwrap_or("None");
        if code(0) == REFUSED {
            let known = Known::read(reasons[0].item()).map_err(|why| call.corrupt_write(why))?;
            self.learn(known);
            // Our id on a head at our position: an earlier attempt of ours moved it, whose answer was lost. But if the event
            // is not there any more, this is a late duplicate.
            let ours = known.head == Head { seq: event.seq, last_event: Some(event.id) };
            return Ok(if ours && code(1) == REFUSED { Append::Appended } else { Append::HeadMoved });
        }
        // Only where nothing is wrong with the head: else it was not looked at, and has moved by the event that is there.
        if (code(0), code(1)) == ("None", REFUSED) {
            return Err(call.corrupt_write(format_args!(
                "an event is stored at {}, where the head has not been yet",
                event.seq
            )));
        }
        // Cancelled as a whole, for a reason of its own.
        let why = [code(0), code(1)].into_iter().find(|code| *code != "None").unwrap_or("cancelled");
        Err(call.write_part(why))
    }
}

#[async_trait]
impl InvalidationLog for DynamoLog {
    async fn head(&self) -> Result<Head, ReadError> {
        Ok(self.read_head().await?.head)
    }

    async fn events(&self, after: Seq, limit: usize) -> Result<Vec<LogEvent>, ReadError> {
        let call = self.table.call("Query");
        // Nothing is beyond the last number.
        let Some(next) = after.next() else { return Ok(Vec::new()) };
        let head = self.known.lock().map_or(Seq::START, |known| known.head.seq);
        let wanted = i32::try_from(limit).unwrap_or(i32::MAX);
        let mut events: Vec<LogEvent> = Vec::new();
        let mut start = None;
        // A page ends where the service wants it to, at a megabyte or before, even with nothing on it.
        let is_last = loop {
            let page = self
                .table
                .client
                .query()
                .table_name(&self.table.name)
                .key_condition_expression(format!("{PK} = :pk AND {SK} BETWEEN :first AND :last"))
                .expression_attribute_values(":pk", text_value(&self.table.layout.log_key))
                .expression_attribute_values(":first", text_value(event_sk(next)))
                .expression_attribute_values(":last", text_value(event_sk(Seq(u64::MAX))))
                .consistent_read(true)
                .limit(wanted)
                .set_exclusive_start_key(start.take())
                .set_return_consumed_capacity(self.table.capacity())
                .send()
                .await
                .map_err(|error| call.read(&error))?;
            consumed::report(Consumed::by_reading(units(page.consumed_capacity.as_slice())));
            for item in page.items.unwrap_or_default() {
                let event = read_event(&item).map_err(|why| call.corrupt_read(why))?;
                // What is before a hole has expired too, and only was not deleted yet.
                if events.last().is_some_and(|last| last.seq.next() != Some(event.seq)) {
                    events.clear();
                }
                events.push(event);
            }
            start = page.last_evaluated_key;
            if start.is_none() || !events.is_empty() {
                break start.is_none();
            }
        };
        let (first, last) = (events.first().map(|event| event.seq), events.last().map(|event| event.seq));
        if let Some(first) = first.filter(|first| *first > next) {
            self.check_hole(Seq(first.0 - 1)).await?;
        }
        if is_last && last.unwrap_or(after) < head {
            self.check_hole(head).await?;
        }
        Ok(events)
    }

    async fn append(&self, expected: Seq, event: &LogEvent) -> Result<Append, WriteError> {
        let call = self.table.call("TransactWriteItems");
        let known = self.head_at(expected).await?;
        let asks_head = !mutation::is_active(Mutation::AppendOnEmptySlot);
        if asks_head && known.head.seq != expected && known.head.last_event != Some(event.id) {
            return Ok(Append::HeadMoved);
        }
        let keep_until_secs = known.keep_until_secs.max(whole_seconds(event.forget_after));
        let mut item = self.key(&event_sk(event.seq));
        item.insert(RECORD.into(), bytes_value(record::encode_event(event)));
        item.insert(TTL.into(), number_value(keep_until_secs));
        let size = size_bytes(&item);
        if size > MAX_ITEM_BYTES {
            return Err(
                call.too_large(format_args!("the event is {size} bytes long; the limit is {MAX_ITEM_BYTES}"))
            );
        }
        let sent = self
            .table
            .client
            .transact_write_items()
            .transact_items(
                TransactWriteItem::builder().update(self.move_head(expected, event, keep_until_secs)).build(),
            )
            .transact_items(TransactWriteItem::builder().put(self.put_event(item)).build())
            .set_return_consumed_capacity(self.table.capacity())
            .send()
            .await;
        match sent {
            Ok(appended) => {
                consumed::report(Consumed::by_writing(units(appended.consumed_capacity())));
                let head = Head { seq: event.seq, last_event: Some(event.id) };
                self.learn(Known { head, keep_until_secs });
                Ok(Append::Appended)
            }
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    self.judge(call, event, cancelled.cancellation_reasons())
                }
                _ => Err(call.write(&error)),
            },
        }
    }
}

/// Of equal length, so that their order is that of the numbers.
fn event_sk(seq: Seq) -> String {
    format!("{EVENT}{:020}", seq.0)
}

/// Why an item is no event.
#[derive(Debug, thiserror::Error)]
enum InvalidEvent {
    #[error(transparent)]
    Attribute(#[from] item::InvalidAttribute),
    #[error(transparent)]
    Record(#[from] record::InvalidRecord),
    #[error("event {0} is stored at another position")]
    Misplaced(Seq),
}

fn read_event(item: &Item) -> Result<LogEvent, InvalidEvent> {
    let event = record::decode_event(required(RECORD, item::bytes(item, RECORD)?)?)?;
    if item::string(item, SK)? != Some(&*event_sk(event.seq)) {
        return Err(InvalidEvent::Misplaced(event.seq));
    }
    Ok(event)
}
