//! A body on its way to its reader, in messages after its head.
//!
//! Its bytes are kept until they are read, and the transport asks for the next message only when the last one is on its
//! way: a reader that stalls would keep them for good. So they count against a limit, once for all who read the same body
//! at a time, and are let go when nothing was read for a while.

use super::{error::EdgeError, streams::Answers};
use crate::engine::{EngineError, Place, Places, TenantPlace};
use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

/// Bytes of a body in one message.
const CHUNK_BYTES: usize = 128 * 1024;

/// Bodies on their way, limited in bytes and in number.
pub(super) struct BodyPlaces {
    pub(super) bytes: Arc<Places>,
    pub(super) readers: Arc<Places>,
    /// By where they are in memory: those who got a body from the cache share its bytes.
    shared: Mutex<HashMap<usize, Weak<TenantPlace>>>,
}

/// One reader's place.
pub(super) struct BodyPlace {
    _bytes: Arc<TenantPlace>,
    reader: TenantPlace,
}

impl BodyPlaces {
    pub(super) fn new(bytes: usize, readers: usize) -> Self {
        Self {
            bytes: Places::new("bytes of bodies being streamed", bytes),
            readers: Places::new("bodies being streamed", readers),
            shared: Mutex::default(),
        }
    }

    /// For a body of a tenant that has given this place for its reader, and has these for its bytes.
    pub(super) fn take(
        &self,
        body: &Bytes,
        reader: Option<Place>,
        of_tenant: Option<&Arc<Places>>,
    ) -> Result<BodyPlace, EngineError> {
        let reader = (self.readers.take()?, reader);
        let mut shared = self.shared.lock();
        let at = body.as_ptr().addr();
        if let Some(bytes) = shared.get(&at).and_then(Weak::upgrade) {
            return Ok(BodyPlace { _bytes: bytes, reader });
        }
        let of_tenant = of_tenant.map(|places| places.take_many(body.len())).transpose()?;
        let bytes = Arc::new((self.bytes.take_many(body.len())?, of_tenant));
        if shared.len() == shared.capacity() {
            shared.retain(|_, place| place.strong_count() > 0);
        }
        shared.insert(at, Arc::downgrade(&bytes));
        Ok(BodyPlace { _bytes: bytes, reader })
    }
}

/// What is still to be read.
struct Rest {
    body: Bytes,
    /// Messages read so far.
    read: u64,
    _bytes: Arc<TenantPlace>,
}

/// The messages of a body. `place` is for its bytes, which are let go after `silence` without a message read, and for its reader,
/// who has it until the stream ends.
pub(super) fn answers<T: Send + 'static>(
    head: T,
    body: Bytes,
    chunk: fn(Bytes) -> T,
    place: BodyPlace,
    silence: Duration,
) -> Answers<T> {
    let BodyPlace { _bytes, reader } = place;
    let rest = Arc::new(Mutex::new(Some(Rest { body, read: 0, _bytes })));
    let watchdog = AbortOnDropHandle::new(tokio::spawn(let_go_if_stalled(Arc::clone(&rest), silence)));
    let chunks =
        futures::stream::unfold((rest, watchdog, reader), move |(rest, watchdog, reader)| async move {
            let message = next_chunk(&rest)?.map(chunk);
            Some((message, (rest, watchdog, reader)))
        });
    futures::stream::once(async { Ok(head) }).chain(chunks).boxed()
}

/// The next piece; `None` after the last one.
fn next_chunk(rest: &Mutex<Option<Rest>>) -> Option<Result<Bytes, Status>> {
    let mut rest = rest.lock();
    let Some(left) = rest.as_mut() else {
        let error = EdgeError::from(EngineError::Deadline("its reader"));
        return Some(Err(error.into()));
    };
    if left.body.is_empty() {
        return None;
    }
    left.read += 1;
    let length = left.body.len().min(CHUNK_BYTES);
    Some(Ok(left.body.split_to(length)))
}

async fn let_go_if_stalled(rest: Arc<Mutex<Option<Rest>>>, silence: Duration) {
    let mut seen = None;
    loop {
        {
            let mut rest = rest.lock();
            let read = rest.as_ref().map(|rest| rest.read);
            if read == seen {
                *rest = None;
                return;
            }
            seen = read;
        }
        tokio::time::sleep(silence).await;
    }
}
