//! Bodies that were stored under the names of their workers, as long as no page is known to name them.
//!
//! What a lease wrote is deleted once that can no longer commit. The names of other bodies follow from their lease, so that
//! every coordinator can tell them; of these only that one knows through which they came. It hears of the end of a lease by
//! what it swaps itself; and as another may have ended it, it looks at the entry when the lease's time is over, and more and
//! more seldom after that. What it forgets, as it ends or for want of room, is found as named by no entry, as what
//! [`cleaner`](super::cleaner) forgets is.

use super::{cleaner::Cleaner, error::EngineError, view::Views};
use crate::time::{Clock, Moment};
use leasehold_core::{
    entry::{Entry, Lease},
    identity::{EntryId, Generation, LeaseToken},
    object::{BodyKind, ObjectName},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How many names one lease can store bodies of a kind under by commits that come to nothing.
const MOST_BY_COMMITS: usize = 4;
/// The pause after a look at a lease that may still commit; it doubles with each further one.
const LOOK_AGAIN: Duration = Duration::from_secs(10 * 60);
/// How often it doubles: to three weeks.
const MOST_DOUBLINGS: u32 = 11;

/// An attempt to render.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    id: EntryId,
    token: LeaseToken,
    generation: Generation,
}

impl Attempt {
    pub(crate) fn of(id: &EntryId, lease: &Lease) -> Self {
        Self::new(id, lease.token, lease.generation)
    }

    pub(crate) fn new(id: &EntryId, token: LeaseToken, generation: Generation) -> Self {
        Self { id: id.clone(), token, generation }
    }

    /// Whether it may still commit.
    fn stands_in(&self, entry: Option<&Entry>) -> bool {
        let lease = entry.and_then(|entry| entry.lease.as_ref());
        lease.is_some_and(|lease| (lease.token, lease.generation) == (self.token, self.generation))
    }
}

/// By what a body is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// An upload, ahead of the commit that is to name it: one name is enough.
    Upload,
    /// A commit. One whose outcome is not known may be repeated, and under another name.
    Commit,
}

impl By {
    fn most(self) -> usize {
        match self {
            Self::Upload => 1,
            Self::Commit => MOST_BY_COMMITS,
        }
    }
}

/// What attempts have stored under names of their workers.
pub(crate) struct Staged {
    capacity: usize,
    clock: Arc<dyn Clock>,
    pending: Mutex<Pending>,
    added: Notify,
}

#[derive(Default)]
struct Pending {
    attempts: HashMap<Attempt, Bodies>,
    /// By when they are looked at, and in the order of their arrival.
    due: BTreeMap<(Duration, u64), Attempt>,
    arrivals: u64,
}

struct Bodies {
    names: Vec<(BodyKind, ObjectName)>,
    due: (Duration, u64),
    looks: u32,
}

impl Bodies {
    /// Another name of this kind than `name`, where one more would be too many.
    fn in_the_way(&self, kind: BodyKind, name: &ObjectName, by: By) -> Option<&ObjectName> {
        let mut others = self.names.iter().filter(|(of, other)| *of == kind && other != name);
        let first = others.next().map(|(_, other)| other);
        let is_known = self.names.iter().any(|(_, known)| known == name);
        first.filter(|_| !is_known && 1 + others.count() >= by.most())
    }
}

impl Pending {
    fn arrange(&mut self, due: Duration, attempt: &Attempt) -> (Duration, u64) {
        let due = (due, self.arrivals);
        self.arrivals += 1;
        self.due.insert(due, attempt.clone());
        due
    }

    fn take(&mut self, attempt: &Attempt) -> Option<Bodies> {
        let bodies = self.attempts.remove(attempt)?;
        self.due.remove(&bodies.due);
        Some(bodies)
    }

    fn put_back(&mut self, due: Duration, attempt: &Attempt, mut bodies: Bodies) {
        bodies.due = self.arrange(due, attempt);
        // Whatever was stored meanwhile is kept too.
        if let Some(newer) = self.attempts.remove(attempt) {
            self.due.remove(&newer.due);
            let added = newer.names.into_iter().filter(|name| !bodies.names.contains(name));
            bodies.names.extend(added.collect::<Vec<_>>());
        }
        self.attempts.insert(attempt.clone(), bodies);
    }

    fn take_due(&mut self, now: Duration) -> Option<(Attempt, Bodies)> {
        let ((due, _), attempt) = self.due.first_key_value()?;
        if *due > now {
            return None;
        }
        let attempt = attempt.clone();
        let bodies = self.take(&attempt)?;
        Some((attempt, bodies))
    }
}

impl Staged {
    pub(crate) fn new(capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self { capacity, clock, pending: Mutex::default(), added: Notify::new() }
    }

    /// Refuses a body before it is stored, where its attempt has stored as many under other names as it can.
    pub(crate) fn check(
        &self,
        attempt: &Attempt,
        kind: BodyKind,
        name: &ObjectName,
        by: By,
    ) -> Result<(), EngineError> {
        let pending = self.pending.lock();
        let other = pending.attempts.get(attempt).and_then(|bodies| bodies.in_the_way(kind, name, by));
        other.map_or(Ok(()), |other| Err(EngineError::OtherNameStaged(other.clone())))
    }

    /// Remembers a body that is known to be stored, and to be this attempt's: under a name that another has taken is another's.
    pub(crate) fn note(&self, attempt: &Attempt, lease: &Lease, kind: BodyKind, name: &ObjectName) {
        let Moment { wall, elapsed } = self.clock.now();
        let mut pending = self.pending.lock();
        if let Some(bodies) = pending.attempts.get_mut(attempt) {
            if !bodies.names.iter().any(|(_, known)| known == name) {
                bodies.names.push((kind, name.clone()));
            }
        } else {
            let due = pending.arrange(elapsed + lease.hold_until.since(wall), attempt);
            let names = vec![(kind, name.clone())];
            pending.attempts.insert(attempt.clone(), Bodies { names, due, looks: 0 });
        }
        if pending.attempts.len() > self.capacity
            && let Some((_, oldest)) = pending.due.pop_first()
        {
            pending.attempts.remove(&oldest);
            tracing::warn!(
                "too many leases have stored bodies under names; those of one are left to those who look for what no entry names"
            );
        }
        drop(pending);
        self.added.notify_one();
    }

    /// What an attempt has stored that can no longer commit, or has committed.
    pub(crate) fn take(&self, attempt: &Attempt) -> Vec<ObjectName> {
        let taken = self.pending.lock().take(attempt);
        taken.into_iter().flat_map(|bodies| bodies.names).map(|(_, name)| name).collect()
    }

    /// Looks at what is due until `shutdown`.
    pub(crate) async fn run(
        self: Arc<Self>,
        views: Arc<Views>,
        cleaner: Arc<Cleaner>,
        shutdown: CancellationToken,
    ) {
        loop {
            let next_due = self.pending.lock().due.first_key_value().map(|((due, _), _)| *due);
            let is_due = async {
                match next_due {
                    Some(due) => tokio::time::sleep(due.saturating_sub(self.clock.now().elapsed)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = is_due => {}
                // What was stored now may be due before all others.
                () = self.added.notified() => {}
            }
            let due = self.pending.lock().take_due(self.clock.now().elapsed);
            let Some((attempt, bodies)) = due else { continue };
            self.look_at(attempt, bodies, &views, &cleaner).await;
        }
    }

    async fn look_at(&self, attempt: Attempt, bodies: Bodies, views: &Views, cleaner: &Cleaner) {
        let slot = views.slot(&attempt.id);
        let view = match views.read(&slot, self.clock.now()).await {
            Ok(view) if !attempt.stands_in(view.entry.as_deref()) => view,
            // It may still commit, as far as is known.
            Ok(_) | Err(_) => {
                let looks = bodies.looks.saturating_add(1);
                let pause = LOOK_AGAIN * 2_u32.pow(bodies.looks.min(MOST_DOUBLINGS));
                let due = self.clock.now().elapsed + pause;
                self.pending.lock().put_back(due, &attempt, Bodies { looks, ..bodies });
                return;
            }
        };
        let current = view.entry.as_ref().and_then(|entry| entry.pointer.as_ref());
        let is_current =
            |name: &ObjectName| current.is_some_and(|now| now.objects().any(|kept| kept == name));
        cleaner.retire(bodies.names.into_iter().map(|(_, name)| name).filter(|name| !is_current(name)));
    }
}
