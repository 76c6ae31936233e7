//! Where everything stands.

use crate::{
    digest::{Memo, digest},
    explore::Judged,
    promise::Broken,
    scenery::{NOW, SCENERY},
};
use leasehold_core::{
    identity::{RequestId, Seq, Tag},
    invalidation::{Depth, Invalidation, LogEvent, LogView, Scope},
    mutation::{self, Mutation},
};
use std::{
    cell::RefCell,
    hash::{Hash, Hasher},
    time::Duration,
};

/// So many requests at most.
pub const MAX_REQUESTS: usize = 3;
/// So many positions at most: a request can be appended once more when what was appended is forgotten.
pub const MAX_POSITIONS: usize = 6;

/// Everything that matters for what may happen next, and a few facts about the past that promises are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The head's position.
    pub head: u8,
    /// The id of the last event, which outlives it.
    pub head_event: Option<u8>,
    /// What was appended, by position from 1; also what is deleted since.
    pub events: [Option<Event>; MAX_POSITIONS],
    /// Which positions are deleted, a bit each.
    pub deleted: u8,
    /// The coordinators.
    pub coordinators: [Coordinator; 2],
    /// Appends that nobody waits for any more.
    pub floating: [Option<Append>; 1],
    /// The callers' requests.
    pub requests: [Request; MAX_REQUESTS],
    /// What has gone wrong.
    pub broken: Broken,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// Tells it from a rival's.
    pub id: u8,
    /// What was appended together, a bit for each request.
    pub requests: u8,
}

/// An append as the store sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Append {
    /// Where the head is to be.
    pub expected: u8,
    /// What is to be the next one.
    pub event: Event,
}

impl Append {
    /// The position of its event.
    pub fn seq(&self) -> u8 {
        self.expected + 1
    }
}

/// An append as its coordinator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Appending {
    /// What was sent.
    pub append: Append,
    /// Whether the store did not answer.
    pub is_unsure: bool,
    /// Whether the head was elsewhere.
    pub is_refused: bool,
}

/// A read of the log that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Read {
    /// Where it found the head.
    pub head: u8,
    /// With which event.
    pub event: Option<u8>,
    /// Whether it was sent within the staleness bound.
    pub is_recent: bool,
}

/// One coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    /// How far it has read.
    pub position: u8,
    /// What it has folded, by position from 1; `None` for what had expired before.
    pub folded: [Option<Event>; MAX_POSITIONS],
    /// How many of these it has forgotten since, from the oldest.
    pub forgotten: u8,
    /// Whether it has read the log within the staleness bound.
    pub is_verified: bool,
    /// Which requests wait, a bit each.
    pub waiting: u8,
    /// What it is about to append.
    pub appending: Option<Appending>,
    /// How often the store did not answer it.
    pub losses: u8,
    /// The read of its follower.
    pub tail: Option<Read>,
    /// The read of its appender.
    pub check: Option<Read>,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self {
            position: 0,
            folded: [None; MAX_POSITIONS],
            forgotten: 0,
            is_verified: true,
            waiting: 0,
            appending: None,
            losses: 0,
            tail: None,
            check: None,
        }
    }
}

/// One caller's invalidation, of the tag with its number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// How often it has arrived.
    pub arrivals: u8,
    /// Fact: where the head was when it was called. No render that began before has seen more.
    pub called_at: u8,
    /// Fact: the position that its caller was told.
    pub acknowledged: Option<u8>,
    /// Whether that is longer ago than the staleness bound.
    pub is_due: bool,
}

impl Coordinator {
    pub(super) fn fold(&mut self, seq: u8, event: Event) {
        if seq > self.position {
            self.folded[usize::from(seq) - 1] = Some(event);
        }
    }

    /// The position of the oldest event in its memory.
    pub(super) fn oldest_retained(&self) -> Option<u8> {
        (1..)
            .zip(&self.folded)
            .filter(|(_, event)| event.is_some())
            .map(|(seq, _)| seq)
            .nth(self.forgotten.into())
    }

    pub(super) fn seq_of(&self, request: u8) -> Option<u8> {
        self.viewed(|view| view.seq_of(RequestId(request.into()))).map(|seq| seq.0 as u8)
    }

    /// Judges by the real view that it would have.
    pub(super) fn viewed<T>(&self, judge: impl FnOnce(&LogView) -> T) -> T {
        thread_local! {
            // Made once for each view that there ever is, instead of once for each state.
            static VIEWS: RefCell<Memo<Viewed, LogView>> = RefCell::default();
        }
        VIEWS
            .with_borrow_mut(|views| judge(views.entry(self.what_is_viewed()).or_insert_with(|| self.view())))
    }

    /// All that its view depends on.
    pub(super) fn what_is_viewed(&self) -> Viewed {
        (self.position, self.folded, self.forgotten)
    }

    fn view(&self) -> LogView {
        let mut view = LogView::default();
        for (seq, event) in (1..=self.position).zip(&self.folded) {
            match event {
                Some(event) => view.fold(&log_event(seq, *event)),
                None => view.advance_to(Seq(seq.into())),
            }
        }
        view.forget(NOW.plus(KEPT_FOR), self.forgotten.into());
        view
    }
}

/// A view, as it came about.
pub(super) type Viewed = (u8, [Option<Event>; MAX_POSITIONS], u8);

const KEPT_FOR: Duration = Duration::from_secs(1);

/// What a request invalidates.
pub(super) fn tag_of(request: u8) -> Tag {
    Tag::parse(&format!("tag {request}")).expect("a name")
}

fn log_event(seq: u8, event: Event) -> LogEvent {
    let requests = (0..MAX_REQUESTS as u8).filter(|request| event.requests & 1 << request != 0);
    let invalidation = |request: u8| Invalidation {
        id: RequestId(request.into()),
        scopes: vec![Scope::Tag(SCENERY.id.tenant.clone(), tag_of(request))],
        depth: Depth::Soft,
    };
    LogEvent {
        seq: Seq(seq.into()),
        id: RequestId(u128::from(event.id) << 64),
        at: NOW,
        forget_after: NOW.plus(KEPT_FOR),
        invalidations: requests.map(invalidation).collect(),
    }
}

impl State {
    /// Whether the store still has the event at this position.
    pub(super) fn is_kept(&self, seq: u8) -> bool {
        self.events[usize::from(seq) - 1].is_some() && self.deleted & 1 << seq == 0
    }

    /// How often requests have arrived once more.
    pub(super) fn repeats(&self) -> u8 {
        self.requests.iter().map(|request| request.arrivals.saturating_sub(1)).sum()
    }

    pub(super) fn arrive(&mut self, request: u8, on: usize) {
        let head = self.head;
        let at = &mut self.requests[usize::from(request)];
        at.arrivals += 1;
        if at.arrivals == 1 {
            at.called_at = head;
        }
        self.coordinators[on].waiting |= 1 << request;
    }

    /// One that no event has which is stored or under way.
    pub(super) fn next_event_id(&self) -> u8 {
        let stored = self.events.iter().flatten().map(|event| event.id);
        let sent =
            self.coordinators.iter().filter_map(|it| it.appending.as_ref()).map(|it| it.append.event.id);
        let floating = self.floating.iter().flatten().map(|append| append.event.id);
        1 + stored.chain(sent).chain(floating).max().unwrap_or_default()
    }

    pub(super) fn float(&mut self, append: Append) {
        if let Some(free) = self.floating.iter_mut().find(|free| free.is_none()) {
            *free = Some(append);
        }
    }

    pub(super) fn expire_oldest(&mut self) {
        if let Some(oldest) = (1..=self.head).find(|seq| self.is_kept(*seq)) {
            self.deleted |= 1 << oldest;
        }
    }

    pub(super) fn wait(&mut self) {
        for coordinator in &mut self.coordinators {
            coordinator.is_verified = false;
            for read in [&mut coordinator.tail, &mut coordinator.check].into_iter().flatten() {
                read.is_recent = false;
            }
        }
        for request in &mut self.requests {
            request.is_due = request.acknowledged.is_some();
        }
    }

    /// Drops what can have no effect any more.
    pub(super) fn settle(&mut self) {
        if !mutation::is_active(Mutation::AppendOnEmptySlot) {
            let head = self.head;
            for place in &mut self.floating {
                *place = place.filter(|append| append.expected >= head);
            }
        }
    }
}

impl Judged for State {
    fn broken(&self) -> Broken {
        self.broken
    }
}

/// Two states that differ only in which coordinator is called the first count as one.
impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { head, head_event, events, deleted, coordinators, floating, requests, broken } = self;
        let [one, other] = [digest(&coordinators[0]), digest(&coordinators[1])];
        let rest = (head, head_event, events, deleted, floating, requests, broken);
        state.write_u64(digest(&(rest, one.min(other), one.max(other))));
    }
}
