//! What has to happen for an exploration to show anything.

use super::asking::{Request, Said};
use crate::promise::Occurrence;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they say it themselves")]
pub enum Happening {
    AlreadyYours,
    Ended,
    ReadyFresh,
    ReadyUnverified,
    ReadyAwaited,
    Held,
    BackingOff,
    Granted,
    GrantedAgain,
    LeaseExpired,
    LeaseOvertaken,
    Renewed,
    Lost,
    Released,
    NotHeld,
    Undone,
    UndoKept,
    Committed,
    CommittedStale,
    CommittedPurged,
    Superseded,
    SupersededAfterItWasCurrent,
    Fenced,
    MarkedGone,
    GoneIsSuperseded,
    Refused,
    RefusedByItself,
    AppliedUnheard,
    RefusedUnheard,
    FoundApplied,
    AppliedLate,
    ServedFresh,
    ServedStale,
    Purged,
}

impl Happening {
    pub(super) fn of(said: Said, request: Request, is_committed: bool) -> Self {
        match said {
            Said::AlreadyYours(_) => Self::AlreadyYours,
            Said::Ended => Self::Ended,
            Said::Fresh => Self::ReadyFresh,
            Said::Unverified => Self::ReadyUnverified,
            Said::Awaited => Self::ReadyAwaited,
            Said::Held => Self::Held,
            Said::BackingOff => Self::BackingOff,
            Said::Granted(_) => Self::Granted,
            Said::Renewed => Self::Renewed,
            Said::Lost => Self::Lost,
            Said::Released => Self::Released,
            Said::NotHeld if request == Request::Undo => Self::UndoKept,
            Said::NotHeld => Self::NotHeld,
            Said::Committed => Self::Committed,
            Said::CommittedStale => Self::CommittedStale,
            Said::CommittedPurged => Self::CommittedPurged,
            Said::Superseded(_) if is_committed => Self::SupersededAfterItWasCurrent,
            Said::Superseded(_) => Self::Superseded,
            Said::Fenced => Self::Fenced,
            Said::Gone => Self::MarkedGone,
            Said::NotCurrent => Self::GoneIsSuperseded,
        }
    }
}

impl Occurrence for Happening {
    const ALL: &'static [Self] = &[
        Self::AlreadyYours,
        Self::Ended,
        Self::ReadyFresh,
        Self::ReadyUnverified,
        Self::ReadyAwaited,
        Self::Held,
        Self::BackingOff,
        Self::Granted,
        Self::GrantedAgain,
        Self::LeaseExpired,
        Self::LeaseOvertaken,
        Self::Renewed,
        Self::Lost,
        Self::Released,
        Self::NotHeld,
        Self::Undone,
        Self::UndoKept,
        Self::Committed,
        Self::CommittedStale,
        Self::CommittedPurged,
        Self::Superseded,
        Self::SupersededAfterItWasCurrent,
        Self::Fenced,
        Self::MarkedGone,
        Self::GoneIsSuperseded,
        Self::Refused,
        Self::RefusedByItself,
        Self::AppliedUnheard,
        Self::RefusedUnheard,
        Self::FoundApplied,
        Self::AppliedLate,
        Self::ServedFresh,
        Self::ServedStale,
        Self::Purged,
    ];

    fn index(self) -> usize {
        self as usize
    }
}
