//! Commits and invalidations, kept for a while, for those who watch.

use leasehold_core::{
    identity::{EntryId, EntryKey, Generation, Seq, Tag, TenantId},
    invalidation::{Depth, LogEvent, Scope},
    time::Timestamp,
};
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::watch;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// A page became current.
    Committed {
        /// Its entry.
        id: EntryId,
        /// Its generation.
        generation: Generation,
        /// Its tags.
        tags: Vec<Tag>,
        /// An invalidation overtook it.
        stale: bool,
    },
    /// Pages were invalidated.
    Invalidated {
        /// Where in the log.
        seq: Seq,
        /// When.
        at: Timestamp,
        /// What.
        scopes: Vec<Scope>,
        /// How deep.
        depth: Depth,
    },
}

impl WatchEvent {
    fn weight_bytes(&self) -> usize {
        const PART: usize = 64;
        let text = match self {
            Self::Committed { id, tags, .. } => {
                id.key.as_str().len() + tags.iter().map(|tag| tag.as_str().len() + PART).sum::<usize>()
            }
            Self::Invalidated { scopes, .. } => scopes.iter().map(|scope| scope.text_bytes() + PART).sum(),
        };
        text + 4 * PART
    }
}

/// What is watched.
#[derive(Clone, Debug)]
pub enum WatchFilter {
    /// All of a tenant.
    Tenant(TenantId),
    /// Pages with a tag.
    Tag(TenantId, Tag),
    /// The entry of a key, in every release.
    Key(TenantId, EntryKey),
}

impl WatchFilter {
    /// Whose it is.
    pub fn tenant(&self) -> &TenantId {
        match self {
            Self::Tenant(tenant) | Self::Tag(tenant, _) | Self::Key(tenant, _) => tenant,
        }
    }

    /// The event as far as it concerns one of the filters; `None` where it does not.
    pub fn narrow(filters: &[Self], event: &WatchEvent) -> Option<WatchEvent> {
        match event {
            WatchEvent::Committed { id, tags, .. } => filters
                .iter()
                .any(|filter| match filter {
                    Self::Tenant(tenant) => *tenant == id.tenant,
                    Self::Tag(tenant, tag) => *tenant == id.tenant && tags.contains(tag),
                    Self::Key(tenant, key) => *tenant == id.tenant && *key == id.key,
                })
                .then(|| event.clone()),
            WatchEvent::Invalidated { seq, at, scopes, depth } => {
                let scopes: Vec<_> = scopes
                    .iter()
                    .filter(|scope| filters.iter().any(|filter| filter.is_reached_by(scope)))
                    .cloned()
                    .collect();
                (!scopes.is_empty()).then_some(WatchEvent::Invalidated {
                    seq: *seq,
                    at: *at,
                    scopes,
                    depth: *depth,
                })
            }
        }
    }

    /// Whether a scope can reach what is watched. Which tags and paths the entry of a key has is not known here: a wide
    /// scope reaches all that it could.
    fn is_reached_by(&self, scope: &Scope) -> bool {
        if scope.tenant().is_some_and(|tenant| tenant != self.tenant()) {
            return false;
        }
        match (self, scope) {
            (Self::Tag(_, watched), Scope::Tag(_, tag)) => watched == tag,
            (Self::Key(_, watched), Scope::Key(_, key)) => watched == key,
            (Self::Tag(..), Scope::Key(..)) => false,
            _ => true,
        }
    }
}

/// Where a watcher stands in the events of one run of the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub u64);

/// What a watcher gets next.
#[derive(Debug)]
pub enum Next {
    /// The events that follow the cursor, without a gap.
    Events(VecDeque<Arc<WatchEvent>>),
    /// Events were dropped before it read them; go on from there.
    Missed(Cursor),
}

/// The events of this run.
pub struct WatchHub {
    run: u128,
    capacity: usize,
    ring: Mutex<Ring>,
    latest: watch::Sender<u64>,
}

#[derive(Default)]
struct Ring {
    /// The number of events dropped from the front.
    dropped: u64,
    bytes: usize,
    events: VecDeque<Arc<WatchEvent>>,
}

impl Ring {
    fn drop_oldest(&mut self) -> bool {
        let Some(event) = self.events.pop_front() else { return false };
        self.dropped += 1;
        self.bytes -= event.weight_bytes();
        true
    }

    fn end(&self) -> u64 {
        self.dropped + self.events.len() as u64
    }
}

/// What the events that are kept may take in memory, about.
const MAX_RING_BYTES: usize = 32 * 1024 * 1024;

/// Events given to a watcher at a time, at most.
const PAGE: usize = 256;
/// What these may take, about, where there is more than one: a watcher that reads nothing keeps them in memory.
const PAGE_BYTES: usize = 64 * 1024;

impl WatchHub {
    /// `run` is random: it tells the resume tokens of this run from those of another.
    pub(crate) fn new(run: u128, capacity: usize) -> Self {
        Self { run, capacity, ring: Mutex::default(), latest: watch::Sender::new(0) }
    }

    /// This run.
    pub fn run(&self) -> u128 {
        self.run
    }

    /// From now on.
    pub fn now(&self) -> Cursor {
        Cursor(self.ring.lock().end())
    }

    /// Whether everything after the cursor is still kept.
    pub fn can_resume(&self, cursor: Cursor) -> bool {
        let ring = self.ring.lock();
        (ring.dropped..=ring.end()).contains(&cursor.0)
    }

    /// Waits for events after the cursor. Cancelling the wait loses nothing.
    pub async fn next(&self, cursor: Cursor) -> Next {
        let mut latest = self.latest.subscribe();
        // The sender lives as long as this hub: the wait cannot fail.
        let _ = latest.wait_for(|end| *end > cursor.0).await;
        let ring = self.ring.lock();
        let Some(skip) = cursor.0.checked_sub(ring.dropped) else { return Next::Missed(Cursor(ring.end())) };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let page = ring.events.iter().skip(skip).take(PAGE).take_while(|event| {
            let is_first = bytes == 0;
            bytes += event.weight_bytes();
            is_first || bytes <= PAGE_BYTES
        });
        Next::Events(page.cloned().collect())
    }

    pub(crate) fn publish(&self, event: WatchEvent) {
        let mut ring = self.ring.lock();
        ring.bytes += event.weight_bytes();
        ring.events.push_back(Arc::new(event));
        while (ring.events.len() > self.capacity || ring.bytes > MAX_RING_BYTES) && ring.drop_oldest() {}
        let end = ring.end();
        drop(ring);
        self.latest.send_modify(|latest| *latest = end.max(*latest));
    }

    pub(crate) fn publish_invalidations(&self, event: &LogEvent) {
        for invalidation in &event.invalidations {
            self.publish(WatchEvent::Invalidated {
                seq: event.seq,
                at: event.at,
                scopes: invalidation.scopes.clone(),
                depth: invalidation.depth,
            });
        }
    }
}
