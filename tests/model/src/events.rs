//! The invalidations of a history, and what a coordinator that has read so many of them makes of these.

use crate::{
    digest::Memo,
    scenery::{NOW, SCENERY},
};
use leasehold_core::{
    identity::{RequestId, Seq},
    invalidation::{Depth, Invalidation, LogEvent, LogView, Scope},
};
use std::{cell::RefCell, time::Duration};

/// So many at most.
pub const MAX_EVENTS: usize = 3;

/// What is invalidated, and how. All of it reaches the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The tag that only the commit names, softly.
    #[default]
    SoftTag,
    /// The same, hard.
    HardTag,
    /// The entry's key, softly: known while the render is under way.
    SoftKey,
    /// The same, hard.
    HardKey,
}

impl Kind {
    /// Whether it is hard.
    pub fn is_hard(self) -> bool {
        matches!(self, Self::HardTag | Self::HardKey)
    }
}

/// A log without forgetting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Events {
    len: u8,
    kinds: [Kind; MAX_EVENTS],
}

impl Events {
    /// How many there are: the position of the last.
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, kind: Kind) {
        self.kinds[usize::from(self.len)] = kind;
        self.len += 1;
    }

    /// The positions of the hard ones.
    pub(crate) fn hard(&self) -> impl Iterator<Item = u8> {
        (1..=self.len).filter(|seq| self.kinds[usize::from(*seq) - 1].is_hard())
    }

    /// Judges by the real view of a coordinator that has read so far.
    pub(crate) fn viewed<T>(&self, position: u8, judge: impl FnOnce(&LogView) -> T) -> T {
        thread_local! {
            // Made once for each stretch of events that is ever read, instead of once for each state.
            static VIEWS: RefCell<Memo<(Events, u8), LogView>> = RefCell::default();
        }
        let mut known = *self;
        known.kinds[usize::from(position)..].fill(Kind::default());
        known.len = position;
        VIEWS.with_borrow_mut(|views| {
            judge(views.entry((known, position)).or_insert_with(|| {
                let mut view = LogView::default();
                (1..=position).for_each(|seq| view.fold(&event(seq, known.kinds[usize::from(seq) - 1])));
                view
            }))
        })
    }
}

fn event(seq: u8, kind: Kind) -> LogEvent {
    let tenant = SCENERY.id.tenant.clone();
    let scope = match kind {
        Kind::SoftTag | Kind::HardTag => Scope::Tag(tenant, SCENERY.tag.clone()),
        Kind::SoftKey | Kind::HardKey => Scope::Key(tenant, SCENERY.id.key.clone()),
    };
    let depth = if kind.is_hard() { Depth::Hard } else { Depth::Soft };
    let id = RequestId(seq.into());
    LogEvent {
        seq: Seq(seq.into()),
        id,
        at: NOW,
        forget_after: NOW.plus(Duration::from_secs(1)),
        invalidations: vec![Invalidation { id, scopes: vec![scope], depth }],
    }
}
