//! Items as DynamoDB has them: attributes read with their types, and the size that is billed.

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use std::collections::HashMap;

/// An item.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// The largest item that DynamoDB takes, in bytes.
pub(crate) const MAX_ITEM_BYTES: usize = 400 * 1024;

pub(crate) const PK: &str = "pk";
pub(crate) const SK: &str = "sk";
/// Epoch seconds after which DynamoDB deletes an item, some time.
pub(crate) const TTL: &str = "ttl";
/// A record of ours.
pub(crate) const RECORD: &str = "r";

/// An attribute is not what it should be. Names it, and never shows what is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attribute `{name}` {why}")]
pub(crate) struct InvalidAttribute {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
}

fn invalid(name: &'static str, why: &'static str) -> InvalidAttribute {
    InvalidAttribute { name, why }
}

/// The value of an attribute that should be there.
pub(crate) fn required<T>(name: &'static str, value: Option<T>) -> Result<T, InvalidAttribute> {
    value.ok_or_else(|| invalid(name, "is missing"))
}

pub(crate) fn string<'a>(item: &'a Item, name: &'static str) -> Result<Option<&'a str>, InvalidAttribute> {
    match item.get(name) {
        None => Ok(None),
        Some(AttributeValue::S(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(name, "is not a string")),
    }
}

pub(crate) fn number<'a>(item: &'a Item, name: &'static str) -> Result<Option<&'a str>, InvalidAttribute> {
    match item.get(name) {
        None => Ok(None),
        Some(AttributeValue::N(digits)) => Ok(Some(digits)),
        Some(_) => Err(invalid(name, "is not a number")),
    }
}

pub(crate) fn whole_number(item: &Item, name: &'static str) -> Result<Option<u64>, InvalidAttribute> {
    number(item, name)?
        .map(|digits| digits.parse().map_err(|_| invalid(name, "is not a whole number")))
        .transpose()
}

pub(crate) fn bytes<'a>(item: &'a Item, name: &'static str) -> Result<Option<&'a [u8]>, InvalidAttribute> {
    match item.get(name) {
        None => Ok(None),
        Some(AttributeValue::B(blob)) => Ok(Some(blob.as_ref())),
        Some(_) => Err(invalid(name, "is not binary")),
    }
}

pub(crate) fn bits(item: &Item, name: &'static str) -> Result<Option<u128>, InvalidAttribute> {
    bytes(item, name)?
        .map(|bytes| {
            bytes.try_into().map(u128::from_be_bytes).map_err(|_| invalid(name, "is not 16 bytes long"))
        })
        .transpose()
}

pub(crate) fn text_value(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(crate) fn number_value(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(crate) fn bytes_value(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// Names and values, as DynamoDB counts them for its limit and its bill. Counted here because it refuses an item that is too
/// large with the same code as a malformed one. Of the types that this crate writes; of others, nothing.
pub(crate) fn size_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(blob) => blob.as_ref().len(),
        // One byte for two significant digits, one more, and one for a sign.
        AttributeValue::N(number) => {
            let digits = number.trim_start_matches('-').trim_matches('0').len();
            digits.div_ceil(2) + 1 + usize::from(number.starts_with('-'))
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_that_dynamodb_documents() {
        let item = Item::from([
            ("pk".into(), text_value("日本")),
            ("b".into(), bytes_value([0; 16])),
            ("n".into(), number_value(1_800_000_001_u64)),
            ("z".into(), number_value(0)),
            ("m".into(), number_value(-27)),
        ]);
        assert_eq!(size_bytes(&item), (2 + 6) + (1 + 16) + (1 + 6) + (1 + 1) + (1 + 3));
    }

    #[test]
    fn attributes_of_another_type_are_told_by_name() {
        let item = Item::from([("s3_key".into(), number_value(1)), ("seq".into(), number_value("1.5"))]);
        assert_eq!(string(&item, "s3_key").unwrap_err().to_string(), "attribute `s3_key` is not a string");
        assert!(bytes(&item, "s3_key").is_err() && bits(&item, "s3_key").is_err());
        assert_eq!(
            whole_number(&item, "seq").unwrap_err().to_string(),
            "attribute `seq` is not a whole number"
        );
        assert_eq!(string(&item, "etag"), Ok(None));
        assert_eq!(required("v", None::<u8>).unwrap_err().to_string(), "attribute `v` is missing");
    }
}
