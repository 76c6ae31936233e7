//! What a coordinator asks the rules, and what they say.

use super::{Regeneration, occurrence::Happening, state::State};
use crate::{
    record::{Attempt, LeaseOf, Record, rendered, small_generation, token},
    scenery::{GENERATION_BASE, Moment, SCENERY, TTL},
};
use leasehold_core::{
    entry::Entry,
    freshness::{Freshness, Log, Staleness},
    identity::{Generation, Version},
    invalidation::Verdict,
    mutation::{self, Mutation},
    transition::{
        self, Acquire, Acquired, Committed, Context, Decision, Healed, Release, ReleaseOutcome, Renewed,
    },
};
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// The lease.
    Acquire,
    /// More time.
    Renew,
    /// To give the lease back.
    Release,
    /// To make the page current.
    Commit,
    /// A coordinator's own: to take back a lease that nobody heard of.
    Undo,
    /// A coordinator's own: to note that the body of a page is gone.
    Heal,
}

/// A request as it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// What.
    pub request: Request,
    /// By whom.
    pub worker: u8,
    /// Under which generation: what its worker was given before it began to render. An acquire has none.
    pub generation: u8,
    /// When.
    pub moment: Moment,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Said {
    /// Acquire: it was granted before.
    AlreadyYours(LeaseOf),
    /// Acquire: it has ended.
    Ended,
    /// Acquire: the page is fresh.
    Fresh,
    /// Acquire: the page is young enough, but cannot be verified.
    Unverified,
    /// Acquire: it is what the caller waited for, though not fresh any more.
    Awaited,
    /// Acquire: another renders.
    Held,
    /// Acquire: the last render failed.
    BackingOff,
    /// Acquire: granted now.
    Granted(LeaseOf),
    /// Renew.
    Renewed,
    /// Renew.
    Lost,
    /// Release.
    Released,
    /// Release.
    NotHeld,
    /// Commit.
    Committed,
    /// Commit: an invalidation overtook the render.
    CommittedStale,
    /// Commit: a hard one did.
    CommittedPurged,
    /// Commit: a newer generation is current.
    Superseded(u8),
    /// Commit.
    Fenced,
    /// Heal: the page counts as missing.
    Gone,
    /// Heal: another page is current.
    NotCurrent,
}

impl Said {
    /// Whether it may be said on the word of a remembered entry, as the engine's `Trust` has it.
    pub(super) fn may_be_remembered(self, request: Request) -> bool {
        match self {
            // Taking back what nobody heard of is nobody's answer.
            Self::Released => true,
            Self::NotHeld if request == Request::Undo => true,
            Self::NotHeld | Self::Lost | Self::Superseded(_) | Self::Fenced => {
                mutation::is_active(Mutation::FencedFromMemory)
            }
            Self::AlreadyYours(_) | Self::Ended | Self::Renewed | Self::Gone | Self::NotCurrent => false,
            Self::Fresh | Self::Unverified | Self::Awaited => true,
            Self::Held | Self::BackingOff | Self::Granted(_) => true,
            Self::Committed | Self::CommittedStale | Self::CommittedPurged => true,
        }
    }
}

impl Regeneration {
    /// Asks the real transition, on this record and on the log as this coordinator has read it.
    pub(super) fn decide(&self, state: &State, on: usize, ask: Ask, record: Option<&Record>) -> Decided {
        let coordinator = &state.coordinators[on];
        let entry = record.map(Record::entry);
        let attempt = ask.attempt();
        state.log.viewed(coordinator.position, |view| {
            let context = Context {
                id: &SCENERY.id,
                log: Log { view, verified: coordinator.is_verified },
                now: ask.moment.time(),
                known_for: Duration::ZERO,
                rules: &SCENERY.rules,
                version: Version(u128::from(NEW_VERSION)),
            };
            let entry = entry.as_ref();
            let (generation, token) = (attempt.core_generation(), attempt.token());
            match ask.request {
                Request::Acquire => {
                    self.note_kind_of_grant(entry, context, ask);
                    let request = acquire(ask.worker, self.bounds.waiting);
                    short(transition::acquire(entry, &request, context), acquired)
                }
                Request::Renew => {
                    short(transition::renew(entry, token, generation, TTL, context), |told| match told {
                        Renewed::Renewed(_) => Said::Renewed,
                        Renewed::Lost => Said::Lost,
                    })
                }
                Request::Release | Request::Undo => {
                    let how = match ask.request {
                        Request::Undo => Release::Unheard,
                        _ if self.bounds.failing => Release::Failed { reason: String::new() },
                        _ => Release::Unused,
                    };
                    short(transition::release(entry, token, generation, &how, context), |told| match told {
                        ReleaseOutcome::Released => Said::Released,
                        ReleaseOutcome::NotHeld => Said::NotHeld,
                    })
                }
                Request::Heal => {
                    short(transition::mark_gone(entry, generation, context), |told| match told {
                        Healed::Gone => Said::Gone,
                        Healed::Superseded => Said::NotCurrent,
                    })
                }
                Request::Commit => {
                    let page = rendered(state.workers[usize::from(ask.worker)].began());
                    short(transition::commit(entry, token, generation, &page, context), committed)
                }
            }
        })
    }

    /// Which of the ways to a grant is taken.
    fn note_kind_of_grant(&self, entry: Option<&Entry>, context: Context<'_>, ask: Ask) {
        let lease = entry.and_then(|entry| entry.lease.as_ref());
        let Some(lease) = lease.filter(|lease| lease.token != token(ask.worker)) else { return };
        let pointer = entry.and_then(|entry| entry.pointer.as_ref());
        if transition::is_overtaken(lease, pointer, None, context) {
            self.happened.note(Happening::LeaseOvertaken);
        } else if context.now >= transition::expired_from(lease, context) {
            self.happened.note(Happening::LeaseExpired);
        }
    }
}

/// Another than every version in a state.
const NEW_VERSION: u8 = u8::MAX - 1;

/// A decision, in short.
pub(super) enum Decided {
    Answer(Said),
    Swap(Record, Said),
}

fn acquire(worker: u8, is_waiting: bool) -> Acquire {
    // Whatever page there is, it is newer than what a waiter knows.
    let after = is_waiting.then_some(Generation(GENERATION_BASE));
    Acquire { token: token(worker), owner: SCENERY.owner.clone(), ttl: TTL, path: None, after }
}

fn short<T>(decision: Decision<T>, say: impl Fn(T) -> Said) -> Decided {
    match decision {
        Decision::Answer(answer) => Decided::Answer(say(answer)),
        Decision::Swap(entry, answer) => {
            let mut next = Record::of(&entry);
            if mutation::is_active(Mutation::GenerationAsVersion) {
                next.version = next.generation;
            }
            Decided::Swap(next, say(answer))
        }
    }
}

fn acquired(told: Acquired) -> Said {
    match told {
        Acquired::AlreadyYours(lease) => Said::AlreadyYours(LeaseOf::of(&lease)),
        Acquired::Ended => Said::Ended,
        Acquired::Ready(Freshness::Fresh) => Said::Fresh,
        Acquired::Ready(Freshness::Stale(Staleness::Unverified)) => Said::Unverified,
        Acquired::Ready(_) => Said::Awaited,
        Acquired::Held { .. } => Said::Held,
        Acquired::BackingOff { .. } => Said::BackingOff,
        Acquired::Granted(lease) => Said::Granted(LeaseOf::of(&lease)),
        Acquired::Exhausted => unreachable!("a model counts to a few generations"),
    }
}

fn committed(told: Committed) -> Said {
    match told {
        Committed::Committed => Said::Committed,
        Committed::CommittedStale(Verdict::Purged) => Said::CommittedPurged,
        Committed::CommittedStale(_) => Said::CommittedStale,
        Committed::Superseded { current } => Said::Superseded(small_generation(current)),
        Committed::Fenced { .. } => Said::Fenced,
    }
}

impl Ask {
    pub(super) fn attempt(self) -> Attempt {
        Attempt { worker: self.worker, generation: self.generation }
    }
}
