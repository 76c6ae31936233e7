//! What may happen next.

use leasehold_core::invalidation::Depth;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

/// How many workers take part.
pub(crate) const WORKERS: usize = 3;
/// How many coordinators serve them.
pub(crate) const COORDINATORS: usize = 3;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A worker does what it does next: an idle one asks for the lease, one that waits for an answer asks
    /// again, one that renders does `act`.
    Work { worker: usize, ask: Ask, act: Act, route: Route },
    /// A worker forgets what it was at. What it sent is still under way.
    Crash { worker: usize },
    /// A copy of any call that was ever made arrives, or of any acquire: a late one does the most harm.
    Duplicate { acquire: bool, call: Index, route: Route },
    /// A swap that was under way reaches the store.
    Land { swap: Index, is_heard: bool },
    /// Something changed, and is invalidated.
    Invalidate { coordinator: usize, scope: Index, depth: Depth },
    /// A coordinator reads so much of what it has not read of the log; the store may have deleted what has
    /// expired.
    Read { coordinator: usize, share: Index, expired_are_deleted: bool },
    /// The tail of a coordinator is cut off, or works again.
    Verify { coordinator: usize, verified: bool },
    /// A coordinator drops what is over by its clock.
    Forget { coordinator: usize },
    /// Time passes.
    Wait { millis: u64 },
    /// Time passes until, by a coordinator's clock, something is over, or is over in a millisecond.
    WaitFor { coordinator: usize, end: Index, is_over: bool },
    /// The clock of a coordinator leaps.
    Leap { coordinator: usize, millis: i64 },
    /// The clock of a coordinator is put right.
    Correct { coordinator: usize },
    /// An object was found missing, by a coordinator that knew the page of the newest or an older generation.
    LoseBody { newest: bool, route: Route },
}

/// What an idle worker asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Whether it names the path.
    pub(crate) is_named: bool,
    /// Whether it waits for a generation newer than the current one.
    pub(crate) is_waiting: bool,
    /// Seconds.
    pub(crate) ttl: u64,
}

/// What a worker that renders does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Commit {
        page: usize,
    },
    Renew {
        ttl: u64,
    },
    Release,
    Fail,
    /// Not the worker's doing: the coordinator found that its caller had gone away.
    Undo,
}

/// By which coordinator a call is handled, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) coordinator: usize,
    /// Whether it is judged on a remembered copy of the entry first, and on which.
    pub(crate) remembered: Option<Index>,
    /// For how many seconds the coordinator says that it knows the entry.
    pub(crate) known_for: u64,
    pub(crate) fate: Fate,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is handled and its caller hears the answer.
    Heard,
    /// It is handled and the answer is lost.
    ReplyLost,
    /// Its swap, if there is one, is under way for a while.
    SwapDelayed,
    /// It does not arrive, this time.
    CallLost,
}

fn route() -> impl Strategy<Value = Route> {
    let fate = prop_oneof![
        6 => Just(Fate::Heard),
        2 => Just(Fate::ReplyLost),
        2 => Just(Fate::SwapDelayed),
        1 => Just(Fate::CallLost),
    ];
    let remembered = prop::option::weighted(0.25, any::<Index>());
    let known_for = prop_oneof![4 => Just(0), 1 => 0..40_u64];
    (0..COORDINATORS, remembered, known_for, fate).prop_map(|(coordinator, remembered, known_for, fate)| {
        Route { coordinator, remembered, known_for, fate }
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    (any::<bool>(), any::<bool>(), select(&[2, 10, 30][..])).prop_map(|(is_named, is_waiting, ttl)| Ask {
        is_named,
        is_waiting,
        ttl,
    })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..crate::scenery::PAGES).prop_map(|page| Act::Commit { page }),
        2 => select(&[1, 10, 60][..]).prop_map(|ttl| Act::Renew { ttl }),
        1 => Just(Act::Release),
        2 => Just(Act::Fail),
        1 => Just(Act::Undo),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let coordinator = || 0..COORDINATORS;
    let pause =
        prop_oneof![60 => 0..700_u64, 40 => 0..12_000_u64, 10 => 0..90_000_u64, 1 => 0..9_000_000_u64];
    let leap = prop_oneof![
        20 => -2_000..2_000_i64,
        10 => -90_000..90_000_i64,
        1 => -9_000_000..9_000_000_i64,
    ];
    prop_oneof![
        24 => (0..WORKERS, ask(), act(), route())
            .prop_map(|(worker, ask, act, route)| Step::Work { worker, ask, act, route }),
        2 => (0..WORKERS).prop_map(|worker| Step::Crash { worker }),
        14 => (any::<bool>(), any::<Index>(), route())
            .prop_map(|(acquire, call, route)| Step::Duplicate { acquire, call, route }),
        5 => (any::<Index>(), any::<bool>()).prop_map(|(swap, is_heard)| Step::Land { swap, is_heard }),
        4 => (coordinator(), any::<Index>(), select(&[Depth::Soft, Depth::Soft, Depth::Hard][..]))
            .prop_map(|(coordinator, scope, depth)| Step::Invalidate { coordinator, scope, depth }),
        8 => (coordinator(), any::<Index>(), any::<bool>()).prop_map(
            |(coordinator, share, expired_are_deleted)| Step::Read { coordinator, share, expired_are_deleted }
        ),
        1 => (coordinator(), prop::bool::weighted(0.7))
            .prop_map(|(coordinator, verified)| Step::Verify { coordinator, verified }),
        2 => coordinator().prop_map(|coordinator| Step::Forget { coordinator }),
        8 => pause.prop_map(|millis| Step::Wait { millis }),
        5 => (coordinator(), any::<Index>(), any::<bool>())
            .prop_map(|(coordinator, end, is_over)| Step::WaitFor { coordinator, end, is_over }),
        2 => (coordinator(), leap).prop_map(|(coordinator, millis)| Step::Leap { coordinator, millis }),
        2 => coordinator().prop_map(|coordinator| Step::Correct { coordinator }),
        1 => (prop::bool::weighted(0.7), route())
            .prop_map(|(newest, route)| Step::LoseBody { newest, route }),
    ]
}

/// One history.
pub(crate) fn history() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..240)
}
