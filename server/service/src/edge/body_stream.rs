//! A body on its way to its reader, in messages after its head.
//!
//! Its bytes are kept until they are read. So they count against a limit, once for all who read the same body at a time, and are
//! let go when nothing was read for a while: those of a stream ([`answers`]), as those in an answer on a lookup stream, with it
//! ([`super::while_read`]).

use super::{
    streams::Answers,
    while_read::{Patience, while_read},
};
use crate::engine::{EngineError, Place, Places, TenantPlace};
use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

/// Bytes of a body in one message.
const CHUNK_BYTES: usize = 128 * 1024;

/// Bodies on their way, limited in bytes and in number.
pub(super) struct BodyPlaces {
    bytes: Arc<Places>,
    readers: Arc<Places>,
    /// By where they are in memory: those who got a body from the cache share its bytes.
    shared: Mutex<HashMap<usize, Weak<TenantPlace>>>,
}

/// One reader's place.
pub(super) struct BodyPlace {
    _bytes: Arc<TenantPlace>,
    _reader: TenantPlace,
}

impl BodyPlaces {
    pub(super) fn new(bytes: Arc<Places>, readers: Arc<Places>) -> Self {
        Self { bytes, readers, shared: Mutex::default() }
    }

    /// For a body of a tenant that has given this place for its reader, and has these for its bytes.
    pub(super) fn take(
        &self,
        body: &Bytes,
        reader: Option<Place>,
        of_tenant: Option<&Arc<Places>>,
    ) -> Result<BodyPlace, EngineError> {
        let _reader = (self.readers.take()?, reader);
        let mut shared = self.shared.lock();
        let at = body.as_ptr().addr();
        if let Some(bytes) = shared.get(&at).and_then(Weak::upgrade) {
            return Ok(BodyPlace { _bytes: bytes, _reader });
        }
        let of_tenant = of_tenant.map(|places| places.take_many(body.len())).transpose()?;
        let bytes = Arc::new((self.bytes.take_many(body.len())?, of_tenant));
        if shared.len() == shared.capacity() {
            shared.retain(|_, place| place.strong_count() > 0);
        }
        shared.insert(at, Arc::downgrade(&bytes));
        Ok(BodyPlace { _bytes: bytes, _reader })
    }
}

/// The messages of a body. `place` is kept as long as they are read: until there are no more, or the patience with their reader
/// is at its end.
pub(super) fn answers<T: Send + 'static>(
    head: T,
    body: Bytes,
    chunk: fn(Bytes) -> T,
    place: BodyPlace,
    patience: Patience,
) -> Answers<T> {
    let chunks = futures::stream::unfold((body, place), move |(mut rest, place)| async move {
        let next = rest.split_to(rest.len().min(CHUNK_BYTES));
        (!next.is_empty()).then(|| (Ok(chunk(next)), (rest, place)))
    });
    while_read(futures::stream::once(async { Ok(head) }).chain(chunks).boxed(), patience)
}
