//! What is explored: each focus has much of a few things, so that visiting every state is affordable.

use crate::{
    appending::{self, Log},
    events::Kind,
    explore::{Explored, Judged, explore},
    promise::{Occurrence, Occurrences},
    reading::{self, Reading},
    regeneration::{self, Happening, Regeneration},
    scenery::Moment::{Early, LeaseOver, PageOld, PauseOver},
};
use std::fmt::Debug;

/// How far the bounds go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Some seconds each: with the other tests.
    Usual,
    /// Minutes, and gigabytes: by hand.
    Larger,
}

/// One part of the protocol, to be explored within bounds.
#[derive(Clone, Copy)]
pub struct Focus {
    /// Its name.
    pub name: &'static str,
    /// What is in it.
    pub about: &'static str,
    explore: fn(Size, usize) -> Outcome,
}

/// What came of an exploration.
#[derive(Debug)]
pub struct Outcome {
    /// States that differ.
    pub states: usize,
    /// Steps that were tried between them.
    pub steps: usize,
    /// The longest way to one of them.
    pub depth: usize,
    /// How a promise was broken, if one was.
    pub counterexample: Option<String>,
    /// What should have happened, and never did.
    pub never: Vec<String>,
}

impl Focus {
    /// Visits every state within the bounds.
    pub fn explore(&self, size: Size, threads: usize) -> Outcome {
        (self.explore)(size, threads)
    }
}

/// All of them.
pub const ALL: [Focus; 17] = [
    Focus {
        name: "duplicates",
        about: "calls of two workers that are repeated on either coordinator, also after everything else",
        explore: |size, threads| regenerate(duplicates(size), DUPLICATES, threads),
    },
    Focus {
        name: "overtaken",
        about: "invalidations and rivals that overtake renders, and late duplicates of their acquires",
        explore: |size, threads| regenerate(overtaken(size), OVERTAKEN, threads),
    },
    Focus {
        name: "losses",
        about: "swaps whose answers are lost, that are sent again, or land after they were given up; restarts",
        explore: |size, threads| regenerate(losses(size), LOSSES, threads),
    },
    Focus {
        name: "releases",
        about: "leases that are given back, renders that fail, while others ask and old commits come late",
        explore: |size, threads| regenerate(releases(size), RELEASES, threads),
    },
    Focus {
        name: "renewals",
        about: "leases that are renewed, or given back, while invalidations and rivals overtake them",
        explore: |size, threads| regenerate(renewals(size), RENEWALS, threads),
    },
    Focus {
        name: "late_renewals",
        about: "renewals whose answers are lost, or that land after they were given up, around the end of a lease",
        explore: |size, threads| regenerate(late_renewals(size), LATE_RENEWALS, threads),
    },
    Focus {
        name: "unheard",
        about: "grants whose callers have gone away, taken back while a repetition of the call is told of them",
        explore: |size, threads| regenerate(unheard(size), UNHEARD, threads),
    },
    Focus {
        name: "depths",
        about: "soft and hard invalidations of a key, and of a tag that only the commit names",
        explore: |size, threads| regenerate(depths(size), DEPTHS, threads),
    },
    Focus {
        name: "bound",
        about: "coordinators that have not read the log for longer than the staleness bound; restarts",
        explore: |size, threads| regenerate(bound(size), BOUND, threads),
    },
    Focus {
        name: "waiters",
        about: "workers that wait for a page newer than one they know",
        explore: |size, threads| regenerate(waiters(size), WAITERS, threads),
    },
    Focus {
        name: "bodies",
        about: "pages whose bodies are found missing, while commits of them are repeated",
        explore: |size, threads| regenerate(bodies(size), BODIES, threads),
    },
    Focus {
        name: "three",
        about: "three workers that compete for one entry",
        explore: |size, threads| regenerate(three(size), THREE, threads),
    },
    Focus {
        name: "log",
        about: "appends of two coordinators that are repeated and lost, while both follow the log",
        explore: |size, threads| append(log(size), LOG, threads),
    },
    Focus {
        name: "unverified",
        about: "the same while the staleness bound passes and appends land after they were given up",
        explore: |size, threads| append(unverified(size), UNVERIFIED, threads),
    },
    Focus {
        name: "expiry",
        about: "the same while events expire and are forgotten",
        explore: |size, threads| append(expiry(size), EXPIRY, threads),
    },
    Focus {
        name: "restarts",
        about: "the same while events expire and coordinators start anew",
        explore: |size, threads| append(restarts(size), RESTARTS, threads),
    },
    Focus {
        name: "lookups",
        about: "strict and bounded lookups that share reads and verdicts, while pages are committed and invalidated",
        explore: |size, threads| read(lookups(size), LOOKUPS, threads),
    },
];

fn regenerate(bounds: regeneration::Bounds, shows: &[Happening], threads: usize) -> Outcome {
    let model = Regeneration::new(bounds);
    let happened = model.happened.clone();
    outcome(explore(model, threads), &happened, shows)
}

fn append(bounds: appending::Bounds, shows: &[appending::Happening], threads: usize) -> Outcome {
    let model = Log::new(bounds);
    let happened = model.happened.clone();
    outcome(explore(model, threads), &happened, shows)
}

fn read(bounds: reading::Bounds, shows: &[reading::Happening], threads: usize) -> Outcome {
    let model = Reading::new(bounds);
    let happened = model.happened.clone();
    outcome(explore(model, threads), &happened, shows)
}

fn outcome<S: Judged + Debug, A: Debug, O: Occurrence>(
    explored: Explored<S, A>,
    happened: &Occurrences<O>,
    shows: &[O],
) -> Outcome {
    let Explored { states, steps, depth, counterexample } = explored;
    let never = shows.iter().filter(|what| !happened.has(**what)).map(|what| format!("{what:?}")).collect();
    Outcome { states, steps, depth, counterexample: counterexample.map(|it| it.to_string()), never }
}

/// Two workers, on whom everything else builds.
fn two_workers() -> regeneration::Bounds {
    regeneration::Bounds {
        workers: 2,
        acquires: 1,
        commits: 1,
        invalidations: vec![Kind::SoftTag],
        moments: vec![Early, LeaseOver],
        ..Default::default()
    }
}

fn by_size<T>(size: Size, usual: T, larger: T) -> T {
    match size {
        Size::Usual => usual,
        Size::Larger => larger,
    }
}

const DUPLICATES: &[Happening] = &[
    Happening::AlreadyYours,
    Happening::Ended,
    Happening::ReadyFresh,
    Happening::Held,
    Happening::Granted,
    Happening::GrantedAgain,
    Happening::LeaseExpired,
    Happening::LeaseOvertaken,
    Happening::Committed,
    Happening::CommittedStale,
    Happening::Superseded,
    Happening::SupersededAfterItWasCurrent,
    Happening::Fenced,
    Happening::Refused,
    Happening::ServedFresh,
    Happening::ServedStale,
];

fn duplicates(size: Size) -> regeneration::Bounds {
    let events = by_size(size, 1, 2);
    regeneration::Bounds { acquires: 2, commits: 2, deaf: true, events, ..two_workers() }
}

const OVERTAKEN: &[Happening] =
    &[Happening::GrantedAgain, Happening::LeaseOvertaken, Happening::CommittedStale, Happening::ServedFresh];

fn overtaken(size: Size) -> regeneration::Bounds {
    let (invalidations, commits) =
        by_size(size, (vec![Kind::SoftTag], 1), (vec![Kind::SoftTag, Kind::SoftKey], 2));
    regeneration::Bounds { acquires: 2, commits, invalidations, events: 2, ..two_workers() }
}

const LOSSES: &[Happening] = &[
    Happening::AlreadyYours,
    Happening::Refused,
    Happening::RefusedByItself,
    Happening::RefusedUnheard,
    Happening::AppliedUnheard,
    Happening::AppliedLate,
    Happening::FoundApplied,
];

fn losses(size: Size) -> regeneration::Bounds {
    let (losses, floating) = by_size(size, (1, 1), (2, 2));
    regeneration::Bounds { commits: 2, losses, floating, restarts: true, events: 1, ..two_workers() }
}

const RELEASES: &[Happening] = &[Happening::Released, Happening::NotHeld, Happening::BackingOff];

fn releases(size: Size) -> regeneration::Bounds {
    let moments = vec![Early, LeaseOver, PauseOver];
    let acquires = by_size(size, 1, 2);
    regeneration::Bounds { acquires, releases: 2, failing: true, events: 1, moments, ..two_workers() }
}

const RENEWALS: &[Happening] = &[Happening::Renewed, Happening::Lost, Happening::Released];

fn renewals(size: Size) -> regeneration::Bounds {
    let (acquires, renewals) = by_size(size, (1, 2), (2, 1));
    regeneration::Bounds { acquires, renewals, releases: 1, events: 1, ..two_workers() }
}

const LATE_RENEWALS: &[Happening] =
    &[Happening::Renewed, Happening::Lost, Happening::AppliedLate, Happening::FoundApplied];

fn late_renewals(size: Size) -> regeneration::Bounds {
    let (renewals, events) = by_size(size, (1, 0), (2, 1));
    regeneration::Bounds { renewals, events, losses: 1, floating: 1, acquires: 1, ..two_workers() }
}

const UNHEARD: &[Happening] =
    &[Happening::Undone, Happening::UndoKept, Happening::AlreadyYours, Happening::GrantedAgain];

fn unheard(size: Size) -> regeneration::Bounds {
    let (releases, events) = by_size(size, (0, 1), (1, 1));
    regeneration::Bounds { acquires: 2, releases, deaf: true, undoing: true, events, ..two_workers() }
}

const DEPTHS: &[Happening] =
    &[Happening::CommittedPurged, Happening::Purged, Happening::LeaseOvertaken, Happening::CommittedStale];

fn depths(size: Size) -> regeneration::Bounds {
    let invalidations = vec![Kind::SoftTag, Kind::HardTag, Kind::SoftKey, Kind::HardKey];
    let commits = by_size(size, 1, 2);
    regeneration::Bounds { invalidations, events: 2, commits, ..two_workers() }
}

const BOUND: &[Happening] = &[Happening::ReadyUnverified, Happening::ServedFresh, Happening::ServedStale];

fn bound(size: Size) -> regeneration::Bounds {
    let commits = by_size(size, 1, 2);
    let moments = vec![Early, PageOld, LeaseOver];
    regeneration::Bounds { bound: true, restarts: true, events: 2, commits, moments, ..two_workers() }
}

const WAITERS: &[Happening] = &[Happening::ReadyAwaited, Happening::ReadyFresh, Happening::ReadyUnverified];

fn waiters(size: Size) -> regeneration::Bounds {
    let (acquires, events) = by_size(size, (1, 2), (2, 1));
    let moments = vec![Early, PageOld, LeaseOver];
    regeneration::Bounds { acquires, waiting: true, bound: true, events, moments, ..two_workers() }
}

const BODIES: &[Happening] = &[Happening::MarkedGone, Happening::GoneIsSuperseded, Happening::Committed];

fn bodies(size: Size) -> regeneration::Bounds {
    let (acquires, losses) = by_size(size, (1, 1), (2, 0));
    regeneration::Bounds { acquires, commits: 2, heals: 2, losses, ..two_workers() }
}

const THREE: &[Happening] = &[Happening::Held, Happening::Superseded, Happening::Fenced, Happening::Refused];

fn three(size: Size) -> regeneration::Bounds {
    let (commits, events) = by_size(size, (1, 2), (2, 2));
    regeneration::Bounds { workers: 3, events, commits, ..two_workers() }
}

const LOG: &[appending::Happening] = &[
    appending::Happening::Appended,
    appending::Happening::AppendedTogether,
    appending::Happening::HeadMoved,
    appending::Happening::MovedByItself,
    appending::Happening::AppliedUnheard,
    appending::Happening::FoundInTheView,
    appending::Happening::OwnEventFolded,
    appending::Happening::EventFolded,
    appending::Happening::Fresh,
    appending::Happening::Invalidated,
];

fn log(size: Size) -> appending::Bounds {
    let floating = by_size(size, 0, 1);
    appending::Bounds { requests: 2, repeats: 2, losses: 1, floating, ..Default::default() }
}

const UNVERIFIED: &[appending::Happening] =
    &[appending::Happening::Unverified, appending::Happening::AppliedLate, appending::Happening::Fresh];

fn unverified(size: Size) -> appending::Bounds {
    let (requests, repeats) = by_size(size, (1, 1), (2, 0));
    appending::Bounds { requests, repeats, losses: 1, floating: 1, bound: true, ..Default::default() }
}

const EXPIRY: &[appending::Happening] = &[
    appending::Happening::ExpiredBeforeItWasRead,
    appending::Happening::Forgotten,
    appending::Happening::Invalidated,
];

fn expiry(size: Size) -> appending::Bounds {
    let (repeats, losses, floating) = by_size(size, (0, 1, 1), (2, 0, 0));
    appending::Bounds { requests: 2, repeats, losses, floating, expiring: true, ..Default::default() }
}

const RESTARTS: &[appending::Happening] =
    &[appending::Happening::ExpiredBeforeItWasRead, appending::Happening::AppliedLate];

fn restarts(size: Size) -> appending::Bounds {
    let (requests, repeats, floating) = by_size(size, (1, 1, 1), (2, 0, 1));
    appending::Bounds { requests, repeats, losses: 1, floating, expiring: true, restarts: true, bound: false }
}

const LOOKUPS: &[reading::Happening] = reading::Happening::ALL;

fn lookups(size: Size) -> reading::Bounds {
    let commits = by_size(size, 1, 2);
    let invalidations = vec![Kind::SoftTag, Kind::HardKey];
    reading::Bounds { strict: 2, bounded: 1, commits, invalidations, events: 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_can_happen_is_asked_of_one_focus_at_least() {
        let regenerating = [
            DUPLICATES, OVERTAKEN, LOSSES, RELEASES, RENEWALS, UNHEARD, DEPTHS, BOUND, WAITERS, BODIES, THREE,
        ]
        .concat();
        let left: Vec<_> = Happening::ALL.iter().filter(|what| !regenerating.contains(what)).collect();
        assert!(left.is_empty(), "{left:?}");
        let appending = [LOG, UNVERIFIED, EXPIRY, RESTARTS].concat();
        let left: Vec<_> =
            appending::Happening::ALL.iter().filter(|what| !appending.contains(what)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
