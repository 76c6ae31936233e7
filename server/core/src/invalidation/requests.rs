//! Which requests were appended, and where.

use super::LogEvent;
use crate::{
    identity::{RequestId, Seq},
    time::Timestamp,
};
use std::collections::{HashMap, VecDeque, hash_map::Entry};

/// The requests of so many of the newest events are recognised, whatever is forgotten of what they were about: an append
/// that was applied is recognised by its request's id in what is read after it.
pub const ALWAYS_RECOGNISED: usize = 128;

/// A request is known as long as something holds it: a part of its event, or that the event is one of the newest.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    known: HashMap<RequestId, Known>,
    /// Oldest first.
    newest: VecDeque<Newest>,
}

#[derive(Clone, Debug)]
struct Known {
    seq: Seq,
    holders: usize,
}

#[derive(Clone, Debug)]
struct Newest {
    seq: Seq,
    forget_after: Timestamp,
    requests: Vec<RequestId>,
}

impl Requests {
    /// Where this one was appended last.
    pub(super) fn seq_of(&self, request: RequestId) -> Option<Seq> {
        self.known.get(&request).map(|known| known.seq)
    }

    /// Holds those of an event as long as it is one of the newest.
    pub(super) fn push(&mut self, event: &LogEvent) {
        let requests: Vec<_> = event.invalidations.iter().map(|invalidation| invalidation.id).collect();
        requests.iter().for_each(|request| self.hold(*request, event.seq));
        self.newest.push_back(Newest { seq: event.seq, forget_after: event.forget_after, requests });
        if self.newest.len() > ALWAYS_RECOGNISED {
            self.pop_oldest();
        }
    }

    /// The oldest of the newest events, and when it may be forgotten.
    pub(super) fn oldest(&self) -> Option<(Seq, Timestamp)> {
        self.newest.front().map(|event| (event.seq, event.forget_after))
    }

    /// Holds the requests of that event no longer.
    pub(super) fn pop_oldest(&mut self) {
        let Some(event) = self.newest.pop_front() else { return };
        event.requests.iter().for_each(|request| self.release(*request, event.seq));
    }

    pub(super) fn hold(&mut self, request: RequestId, seq: Seq) {
        let known = self.known.entry(request).or_insert(Known { seq, holders: 0 });
        if known.seq != seq {
            *known = Known { seq, holders: 0 };
        }
        known.holders += 1;
    }

    pub(super) fn release(&mut self, request: RequestId, seq: Seq) {
        let Entry::Occupied(mut known) = self.known.entry(request) else { return };
        if known.get().seq != seq {
            return;
        }
        known.get_mut().holders -= 1;
        if known.get().holders == 0 {
            known.remove();
        }
    }
}
