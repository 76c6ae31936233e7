//! What may be served: fresh, stale and why, or nothing.

use crate::{
    identity::EntryId,
    invalidation::{LogView, Marks, Verdict},
    page::Pointer,
    time::Timestamp,
};
use std::time::Duration;

/// A foreign page counts as rendered from so long before the time that it gives: another system's time may be that of the
/// end of the render, and of another clock. More than a render behind a load balancer or a gateway may take.
pub const FOREIGN_RENDER_TIME: Duration = Duration::from_secs(60);

/// What a coordinator knows of the log: its folded view, and whether that is recent enough to call anything fresh.
#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    /// Everything that was read.
    pub view: &'a LogView,
    /// Whether a read that reached the head was sent within the staleness bound.
    pub verified: bool,
}

/// The state of a page at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// May be served without a second thought.
    Fresh,
    /// May be served where the caller accepts stale pages.
    Stale(Staleness),
    /// There is nothing to serve.
    Missing(Absence),
}

/// Why a page is not fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Staleness {
    /// Older than its `revalidate`.
    Expired,
    /// One of its scopes was invalidated after its render began.
    Invalidated,
    /// This coordinator has not read the log for longer than the staleness bound: it cannot know.
    Unverified,
}

/// Why there is nothing to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Absence {
    /// Never committed, or not regenerated for the whole retention.
    NeverRendered,
    /// A hard invalidation reached it.
    Purged,
    /// Its stored object is gone.
    BodyGone,
}

/// Judges a pointer. `retention` is for how long a page that is not regenerated is remembered.
pub fn judge(
    id: &EntryId,
    pointer: Option<&Pointer>,
    log: Log<'_>,
    now: Timestamp,
    retention: Duration,
) -> Freshness {
    let verdict = pointer.map_or(Verdict::Valid, |pointer| verdict(id, pointer, log.view));
    judge_with(pointer, verdict, log.verified, now, retention)
}

/// As [`judge`], with a verdict that was reached before, at the log's present position.
pub fn judge_with(
    pointer: Option<&Pointer>,
    verdict: Verdict,
    verified: bool,
    now: Timestamp,
    retention: Duration,
) -> Freshness {
    let Some(pointer) = pointer.filter(|pointer| !is_forgotten(pointer, now, retention)) else {
        return Freshness::Missing(Absence::NeverRendered);
    };
    if verdict == Verdict::Purged {
        return Freshness::Missing(Absence::Purged);
    }
    // By a clock that far ahead of this one, it cannot be told what was invalidated since.
    if pointer.is_foreign() && pointer.generated_at > now.plus(FOREIGN_RENDER_TIME) {
        return Freshness::Missing(Absence::NeverRendered);
    }
    if pointer.gone {
        return Freshness::Missing(Absence::BodyGone);
    }
    if verdict == Verdict::Invalidated {
        return Freshness::Stale(Staleness::Invalidated);
    }
    if pointer.fresh_until().is_some_and(|until| now >= until) {
        return Freshness::Stale(Staleness::Expired);
    }
    if !verified {
        return Freshness::Stale(Staleness::Unverified);
    }
    Freshness::Fresh
}

/// The newest events about a page. A foreign one tells neither tags nor path: in doubt, they are all about it.
pub fn marks(id: &EntryId, pointer: &Pointer, view: &LogView) -> Marks {
    if pointer.is_foreign() {
        return view.marks_in_doubt(id);
    }
    view.marks_for(id, &pointer.meta.tags, pointer.meta.path.as_ref())
}

/// What invalidations leave of a page.
pub fn verdict(id: &EntryId, pointer: &Pointer, view: &LogView) -> Verdict {
    verdict_by(&marks(id, pointer, view), pointer)
}

/// As [`verdict`], by the newest events about the page.
///
/// Who rendered a foreign page had seen no position in the log: all that can be compared is the times, as far as clocks agree.
/// By position, the first invalidation would take away whatever that system renders, for as long as it is remembered.
pub fn verdict_by(marks: &Marks, pointer: &Pointer) -> Verdict {
    if pointer.is_foreign() {
        marks.verdict_by_time(pointer.generated_at.minus(FOREIGN_RENDER_TIME))
    } else {
        marks.verdict(pointer.seen)
    }
}

/// Whether a page was not regenerated for so long that events about it may be forgotten too.
pub fn is_forgotten(pointer: &Pointer, now: Timestamp, retention: Duration) -> bool {
    pointer.generated_at.plus(retention) <= now
}
