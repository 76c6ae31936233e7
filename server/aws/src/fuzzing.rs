//! How items of the table are read and written, without a table.

use crate::{key::PkTemplate, log::Known, row, settings::Layout};
use leasehold_core::{
    entry::Entry,
    identity::{EntryId, Version},
    time::Timestamp,
};
use leasehold_store::port::Head;
use std::collections::HashMap;

pub use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};

/// An item, by the names of its attributes.
pub type Item = HashMap<String, AttributeValue>;

/// A row, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The entry.
    pub entry: Entry,
    /// Whether somebody else wrote the page in it.
    pub foreign: bool,
}

/// The entry in a row.
///
/// # Errors
/// What the log says of a row that is none.
pub fn read_row(layout: &Layout, id: &EntryId, row: &Item) -> Result<Row, String> {
    match row::read(layout, id, row) {
        Ok(row::Row { entry, foreign }) => Ok(Row { entry, foreign }),
        Err(why) => Err(why.to_string()),
    }
}

/// The row of an entry; `None` where its partition key would be too long.
pub fn write_row(layout: &Layout, id: &EntryId, entry: &Entry, forget_after: Timestamp) -> Option<Item> {
    row::write(layout, id, entry, forget_after).ok()
}

/// Whether a version may be that of a row that somebody else wrote.
pub fn may_be_foreign(version: Version) -> bool {
    row::may_be_foreign(version)
}

/// The condition that a row still is as it was read, and the values that are named in it.
pub fn unchanged(row: &Item) -> (String, Item) {
    row::unchanged(row)
}

/// The head of the log in an item.
///
/// # Errors
/// What the log says of an item that is none.
pub fn read_head(item: Option<&Item>) -> Result<Head, String> {
    Known::read(item).map(|known| known.head).map_err(|why| why.to_string())
}

/// The partition key of an entry; `None` where it would be too long.
pub fn partition_key(template: &PkTemplate, id: &EntryId) -> Option<String> {
    template.render(id).ok()
}

/// Whether the partition key of an entry says whose it is.
pub fn identifies(template: &PkTemplate, id: &EntryId) -> bool {
    template.identifies(id)
}

/// The digests of those whose partition key this may be, and whether its owner is surely among them.
pub fn owners(template: &PkTemplate, partition_key: &str) -> (Vec<[u8; 32]>, bool) {
    let owners = template.owners(partition_key);
    (owners.digests, owners.complete)
}
