//! Bodies that were stored under the names of their workers, as long as no page is known to name them.
//!
//! What a lease wrote is deleted once that can no longer commit. The names of other bodies follow from their lease, so that
//! every coordinator can tell them; of these only that one knows through which they came. It hears of the end of a lease by
//! what it swaps itself; and as another may have ended it, it looks at the entry when the lease's time is over, and more and
//! more seldom after that. What it forgets, as it ends or for want of room, is found as named by no entry, as what
//! [`cleaner`](super::cleaner) forgets is.
//!
//! A name is claimed before anything is stored under it: whatever becomes of the call, what it may have stored is found.

use super::{
    cleaner::{Cleaner, until_due},
    error::EngineError,
    view::Views,
};
use crate::time::{Clock, Moment};
use leasehold_core::{
    entry::{Entry, Lease},
    identity::{EntryId, Generation, LeaseToken},
    named::Origin,
    object::{BodyKind, ObjectName},
    page::Pointer,
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
/// How often it doubles: to two weeks.
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

    /// Whether a body was stored by it, as far as is written on that.
    pub(crate) fn has_stored(&self, origin: &Origin) -> bool {
        origin.is_by(&self.id, self.token, self.generation)
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
    names: Vec<Named>,
    due: (Duration, u64),
    looks: u32,
}

struct Named {
    kind: BodyKind,
    name: ObjectName,
    stored: Stored,
}

/// What is known of a body that an attempt was to store. Each says more than those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stored {
    /// Nothing yet: a call is about it, which will tell.
    Claimed,
    /// It may be there, now or a little later; or another's may.
    Perhaps,
    /// It is there, and this attempt's.
    Surely,
}

impl Bodies {
    /// Another name of this kind than `name`, where one more would be too many.
    fn in_the_way(&self, kind: BodyKind, name: &ObjectName, by: By) -> Option<&ObjectName> {
        let mut others = self.names.iter().filter(|other| other.kind == kind && other.name != *name);
        let first = others.next().map(|other| &other.name);
        let is_known = self.names.iter().any(|known| known.name == *name);
        first.filter(|_| !is_known && 1 + others.count() >= by.most())
    }

    fn note(&mut self, kind: BodyKind, name: &ObjectName, stored: Stored) {
        match self.names.iter_mut().find(|known| known.name == *name) {
            Some(known) => known.stored = known.stored.max(stored),
            None => self.names.push(Named { kind, name: name.clone(), stored }),
        }
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

    /// A name under which nothing was stored after all does not count.
    fn give_up(&mut self, attempt: &Attempt, name: &ObjectName) {
        let Some(bodies) = self.attempts.get_mut(attempt) else { return };
        bodies.names.retain(|known| known.name != *name || known.stored > Stored::Claimed);
        if bodies.names.is_empty() {
            self.take(attempt);
        }
    }

    /// An attempt that is due. It is due again later, unless it is taken before.
    fn next_due(&mut self, now: Duration) -> Option<Attempt> {
        let ((due, _), attempt) = self.due.first_key_value()?;
        if *due > now {
            return None;
        }
        let attempt = attempt.clone();
        let mut bodies = self.take(&attempt)?;
        bodies.due = self.arrange(now + LOOK_AGAIN * 2_u32.pow(bodies.looks.min(MOST_DOUBLINGS)), &attempt);
        bodies.looks = bodies.looks.saturating_add(1);
        self.attempts.insert(attempt.clone(), bodies);
        Some(attempt)
    }
}

impl Staged {
    pub(crate) fn new(capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self { capacity, clock, pending: Mutex::default(), added: Notify::new() }
    }

    /// Sets a name apart for a body that is about to be stored; refused where its attempt has as many others as it can.
    pub(crate) fn claim(
        &self,
        attempt: Attempt,
        lease: &Lease,
        kind: BodyKind,
        name: &ObjectName,
        by: By,
    ) -> Result<Claim<'_>, EngineError> {
        let held_until = self.elapsed_at_end_of(lease);
        let mut pending = self.pending.lock();
        if let Some(other) =
            pending.attempts.get(&attempt).and_then(|bodies| bodies.in_the_way(kind, name, by))
        {
            return Err(EngineError::OtherNameStaged(other.clone()));
        }
        self.note(&mut pending, &attempt, held_until, (kind, name), Stored::Claimed);
        drop(pending);
        self.added.notify_one();
        Ok(Claim { staged: self, attempt, held_until, kind, name: name.clone(), told: Told::Nothing })
    }

    fn elapsed_at_end_of(&self, lease: &Lease) -> Duration {
        let Moment { wall, elapsed } = self.clock.now();
        elapsed + lease.hold_until.since(wall)
    }

    fn note(
        &self,
        pending: &mut Pending,
        attempt: &Attempt,
        held_until: Duration,
        (kind, name): (BodyKind, &ObjectName),
        stored: Stored,
    ) {
        if let Some(bodies) = pending.attempts.get_mut(attempt) {
            bodies.note(kind, name, stored);
        } else {
            let due = pending.arrange(held_until, attempt);
            let names = vec![Named { kind, name: name.clone(), stored }];
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
    }

    /// Hands over for deletion what an attempt that can no longer commit has stored, but for what is current.
    pub(crate) fn retire(&self, attempt: &Attempt, current: Option<&Pointer>, cleaner: &Cleaner) {
        let taken = self.pending.lock().take(attempt);
        if let Some(bodies) = taken {
            hand_over(attempt, bodies, current, cleaner);
        }
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
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = until_due(&*self.clock, next_due) => {}
                // What was stored now may be due before all others.
                () = self.added.notified() => {}
            }
            let due = self.pending.lock().next_due(self.clock.now().elapsed);
            if let Some(attempt) = due {
                self.look_at(&attempt, &views, &cleaner).await;
            }
        }
    }

    async fn look_at(&self, attempt: &Attempt, views: &Views, cleaner: &Cleaner) {
        let slot = views.slot(&attempt.id);
        let Ok(view) = views.read(&slot, self.clock.now()).await else { return };
        if attempt.stands_in(view.entry.as_deref()) {
            return;
        }
        let current = view.entry.as_ref().and_then(|entry| entry.pointer.as_ref());
        self.retire(attempt, current, cleaner);
    }
}

/// What a call is still about is left out: it tells what came of it, and is looked at after that.
fn hand_over(attempt: &Attempt, bodies: Bodies, current: Option<&Pointer>, cleaner: &Cleaner) {
    let is_current = |name: &ObjectName| current.is_some_and(|now| now.objects().any(|kept| kept == name));
    let left = bodies.names.into_iter().filter(|left| !is_current(&left.name));
    let (surely, perhaps): (Vec<_>, Vec<_>) =
        left.filter(|left| left.stored > Stored::Claimed).partition(|left| left.stored == Stored::Surely);
    cleaner.retire(surely.into_iter().map(|left| left.name));
    cleaner.retire_doubtful(attempt, perhaps.into_iter().map(|left| left.name));
}

/// A name that is set apart for a body of an attempt. A call that goes away without a word of it leaves it as one that may be
/// taken.
pub(crate) struct Claim<'a> {
    staged: &'a Staged,
    attempt: Attempt,
    held_until: Duration,
    kind: BodyKind,
    name: ObjectName,
    told: Told,
}

/// What its call has told of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    NotStored,
    Stored,
}

impl Claim<'_> {
    /// Tells what came of it.
    pub(crate) fn settle<T>(mut self, result: &Result<T, EngineError>) {
        self.told = match result {
            Ok(_) => Told::Stored,
            Err(error) if is_surely_not_stored(error) => Told::NotStored,
            Err(_) => Told::Nothing,
        };
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let Self { staged, attempt, held_until, kind, name, told } = self;
        let mut pending = staged.pending.lock();
        let stored = match told {
            Told::NotStored => return pending.give_up(attempt, name),
            Told::Nothing => Stored::Perhaps,
            Told::Stored => Stored::Surely,
        };
        // Also where its attempt has come to its end meanwhile, and nobody thinks of it any more.
        staged.note(&mut pending, attempt, *held_until, (*kind, name), stored);
        drop(pending);
        staged.added.notify_one();
    }
}

/// Whether a call that came to this has stored nothing. What is there by such a name is another's.
fn is_surely_not_stored(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::StoreUnavailable(_)
            | EngineError::TooLarge(_)
            | EngineError::ObjectMissing(_)
            | EngineError::ObjectConflict(_)
    )
}
