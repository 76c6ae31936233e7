//! Rows of the table as inputs.

use crate::{SEPARATOR, join};
use leasehold_aws::fuzzing::{AttributeValue, Blob, Item};

/// Attributes in the order in which an input has them; the record comes last, because it may have any byte.
const NAMES: [&str; 7] = ["v", "s3_key", "generated_at", "revalidate_seconds", "etag", "seq", "r"];

/// A row and whose it is said to be.
pub struct StoredRow {
    /// The layout of the table.
    pub layout: u8,
    /// The tenant that the row is read for.
    pub tenant: String,
    /// The deployment; none where empty.
    pub deployment: String,
    /// The key.
    pub key: String,
    /// The attributes.
    pub item: Item,
}

impl StoredRow {
    /// From an input: the layout, one letter for the type of each attribute (`-` where it is absent), and the fields.
    pub fn read(data: &[u8]) -> Option<Self> {
        let (head, rest) = data.split_first_chunk::<{ 1 + NAMES.len() }>()?;
        let mut fields = rest.splitn(3 + NAMES.len(), |byte| *byte == SEPARATOR);
        let mut text = || str::from_utf8(fields.next()?).ok().map(str::to_owned);
        let (tenant, deployment, key) = (text()?, text()?, text()?);
        let mut item = Item::new();
        for (name, kind) in NAMES.into_iter().zip(&head[1..]) {
            let field = fields.next()?;
            let text = || str::from_utf8(field).ok().map(str::to_owned);
            let value = match kind {
                b'S' => AttributeValue::S(text()?),
                b'N' => AttributeValue::N(text()?),
                b'B' => AttributeValue::B(Blob::new(field)),
                // Binary as hex: for what has to be sixteen bytes, any of which may be the separator.
                b'H' => AttributeValue::B(Blob::new(hex::decode(field).ok()?)),
                b'L' => AttributeValue::L(vec![AttributeValue::S(text()?)]),
                b'0' => AttributeValue::Null(true),
                _ => continue,
            };
            item.insert(name.to_owned(), value);
        }
        Some(Self { layout: head[0], tenant, deployment, key, item })
    }

    /// As an input.
    pub fn write(&self) -> Vec<u8> {
        let mut data = vec![self.layout];
        let mut fields =
            vec![self.tenant.clone().into_bytes(), self.deployment.clone().into(), self.key.clone().into()];
        for name in NAMES {
            let (kind, field) = match self.item.get(name) {
                Some(AttributeValue::S(text)) => (b'S', text.clone().into_bytes()),
                Some(AttributeValue::N(text)) => (b'N', text.clone().into_bytes()),
                Some(AttributeValue::B(blob)) if name == "r" => (b'B', blob.as_ref().to_vec()),
                Some(AttributeValue::B(blob)) => (b'H', hex::encode(blob.as_ref()).into_bytes()),
                _ => (b'-', Vec::new()),
            };
            data.push(kind);
            fields.push(field);
        }
        data.extend(join(fields.iter().map(Vec::as_slice)));
        data
    }
}
