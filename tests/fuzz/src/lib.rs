//! Inputs as fuzz targets read them and as `seeds` writes them, and what a target may not allocate.
//!
//! Texts come separated by the byte 0xff, which no UTF-8 has: what mutates one of them leaves the others as they are.

mod memory;
pub mod protobuf;
mod request;
mod row;

pub use memory::{Counted, within};
pub use request::Request;
pub use row::StoredRow;

/// Between two fields.
pub const SEPARATOR: u8 = 0xff;

/// Fields, as one input.
pub fn join<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    fields.into_iter().collect::<Vec<_>>().join(&SEPARATOR)
}

/// The fields of an input that are text.
pub fn texts(data: &[u8]) -> impl Iterator<Item = &str> {
    data.split(|byte| *byte == SEPARATOR).filter_map(|field| str::from_utf8(field).ok())
}
