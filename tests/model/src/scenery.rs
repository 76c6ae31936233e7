//! What every model is about: one entry, its page, and the moments at which it is looked at.
//!
//! No clock is modelled. Safety must depend on none, so each call is given one of a few [`Moment`]s, whatever happened
//! before: between two of them something ends, so that a lease expires at any moment that a call may come, and clocks leap
//! to and fro. What is recorded is recorded as of [`Moment::Early`].

use leasehold_core::{
    identity::{EntryId, EntryKey, Owner, Tag, TenantId},
    object::ObjectName,
    time::Timestamp,
    transition::Rules,
};
use std::{sync::LazyLock, time::Duration};

/// When everything is recorded: its whole seconds are the generation of an entry that is new.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_000_000);
/// What is added to a generation of the model: the first one is 1.
pub(crate) const GENERATION_BASE: u64 = NOW.as_secs() - 1;

/// How long a page is fresh. It was generated so long ago that it is for [`PAGE_LEFT`] more.
pub(crate) const REVALIDATE: Duration = Duration::from_secs(60);
/// What is left of that.
pub(crate) const PAGE_LEFT: Duration = Duration::from_secs(5);
/// How long a lease lasts.
pub(crate) const TTL: Duration = Duration::from_secs(10);
/// The pause after a failure.
pub(crate) const PAUSE: Duration = Duration::from_secs(20);
/// The longest that a lease can be held.
pub(crate) const MAX_HOLD: Duration = Duration::from_secs(60);

/// When a call comes, by what is over then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// Nothing.
    Early,
    /// The page's time to be fresh.
    PageOld,
    /// The lease's time as well.
    LeaseOver,
    /// The pause after a failure as well.
    PauseOver,
    /// The longest time to hold the lease as well.
    HoldOver,
}

impl Moment {
    pub(crate) fn time(self) -> Timestamp {
        let after = match self {
            Self::Early => Duration::ZERO,
            Self::PageOld => Duration::from_secs(6),
            Self::LeaseOver => Duration::from_secs(12),
            Self::PauseOver => Duration::from_secs(22),
            Self::HoldOver => Duration::from_secs(70),
        };
        NOW.plus(after)
    }
}

/// Names and settings, made once.
pub(crate) struct Scenery {
    pub(crate) id: EntryId,
    pub(crate) owner: Owner,
    pub(crate) html: ObjectName,
    pub(crate) tag: Tag,
    pub(crate) rules: Rules,
}

pub(crate) static SCENERY: LazyLock<Scenery> = LazyLock::new(|| Scenery {
    id: EntryId {
        tenant: TenantId::parse("acme").expect("a name"),
        deployment: None,
        key: EntryKey::parse("k").expect("a name"),
    },
    owner: Owner::parse("worker").expect("a name"),
    html: ObjectName::parse("isr/page.html").expect("a name"),
    tag: Tag::parse("news").expect("a name"),
    rules: Rules {
        expiry_tolerance: Duration::ZERO,
        max_hold: MAX_HOLD,
        retention: Duration::from_secs(35 * 24 * 60 * 60),
        staleness_bound: Duration::from_secs(2),
        backoff_base: PAUSE,
        backoff_max: PAUSE,
    },
});
