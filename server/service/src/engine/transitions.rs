//! Carries decisions out: asks the core, swaps, and asks again until the answer is true.

use super::{
    caller::StoreCaller,
    error::EngineError,
    log::LogState,
    view::{Slot, View, Views},
};
use crate::{
    random::Entropy,
    time::{Clock, Moment},
};
use leasehold_core::{
    entry::Entry,
    identity::Version,
    mutation::{self, Mutation},
    time::Timestamp,
    transition::{Context, Decision, Rules},
};
use leasehold_store::port::{Expected, Swap, WriteError};
use std::sync::Arc;

/// How often a store that does not answer is asked, and how often rivals may win, before the caller is told.
const ATTEMPTS: u32 = 8;

/// Whether an answer may come from a remembered entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Also a remembered entry will do.
    Remembered,
    /// Only one that was read after the request arrived.
    ReadAfterArrival,
}

/// What a transition came to.
pub(crate) struct Settled<T> {
    pub(crate) answer: T,
    /// The entry that the answer was given on, or that was swapped in.
    pub(crate) entry: Option<Arc<Entry>>,
    /// What this call replaced, also by an attempt whose answer was lost; `None` where it swapped nothing.
    pub(crate) replaced: Option<Replaced>,
}

/// The entry as it was before this call's swap.
pub(crate) struct Replaced(pub(crate) Option<Arc<Entry>>);

/// Everything that a transition needs.
pub(crate) struct Transitions {
    pub(crate) views: Arc<Views>,
    pub(crate) log: Arc<LogState>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<Entropy>,
    pub(crate) caller: StoreCaller,
    pub(crate) rules: Rules,
}

impl Transitions {
    /// Asks the core about an entry, without carrying anything out.
    pub(crate) fn ask<T>(
        &self,
        slot: &Slot,
        view: &View,
        now: Moment,
        decide: impl FnOnce(Option<&Entry>, Context<'_>) -> T,
    ) -> T {
        let version = Version(self.entropy.bits());
        self.log.with(now, |log| {
            let known_for = view.known_for(now);
            let context =
                Context { id: &slot.id, log, now: now.wall, known_for, rules: &self.rules, version };
            decide(view.entry.as_deref(), context)
        })
    }

    /// Asks the core, and swaps what it decides until the store has settled it.
    ///
    /// To be run in a task of its own: a swap that is under way when its caller goes away must still be remembered.
    pub(crate) async fn carry_out<T>(
        &self,
        slot: &Arc<Slot>,
        trust: impl Fn(&T) -> Trust,
        decide: impl Fn(Option<&Entry>, Context<'_>) -> Decision<T>,
    ) -> Result<Settled<T>, EngineError> {
        let _turn = slot.gate.lock().await;
        let mut view = self.views.view(slot, self.clock.now()).await?;
        let mut is_strong = mutation::is_active(Mutation::FencedFromMemory);
        let mut maybe_applied = None;
        // Attempts whose answer was lost, and what each would have replaced.
        let mut lost: Vec<(Version, Option<Arc<Entry>>)> = Vec::new();
        let mut failures = 0;
        for _ in 0..ATTEMPTS {
            // Anew after every wait: what was true when the call arrived, as that the log was read recently, may be no more.
            let now = self.clock.now();
            let (next, answer) = match self.ask(slot, &view, now, &decide) {
                Decision::Answer(answer) => {
                    if is_strong || trust(&answer) == Trust::Remembered {
                        let replaced = replaced_by(&lost, &view);
                        return Ok(Settled { answer, entry: view.entry.clone(), replaced });
                    }
                    view = self.views.read(slot, self.clock.now()).await?;
                    is_strong = true;
                    continue;
                }
                Decision::Swap(next, answer) => (*next, answer),
            };
            let next = mutants::versioned(next);
            let before = view.entry.as_ref().map(|entry| entry.version);
            let expected = before.map_or(Expected::Absent, Expected::Version);
            let sent = slot.sending(self.clock.now());
            let forget_after = self.forget_after(&next, now.wall);
            let swap = self.views.store().swap(&slot.id, expected, &next, forget_after);
            match self.caller.write(failures, swap).await {
                Ok(Swap::Applied) => {
                    // From an own attempt that was applied after all: what that replaced is what this call did.
                    let replaced = replaced_by(&lost, &view).or_else(|| Some(Replaced(view.entry.clone())));
                    let view = slot.install_swapped(before, next, sent);
                    self.views.weigh(slot);
                    return Ok(Settled { answer, entry: view.entry.clone(), replaced });
                }
                Ok(Swap::Refused(current)) => {
                    let current = current.map(mutants::a_rivals);
                    view = slot.install_seen(current, sent);
                    self.views.weigh(slot);
                    is_strong = true;
                }
                Err(WriteError::Unknown(why)) => {
                    let attempted = next.version;
                    lost.push((attempted, view.entry.clone()));
                    maybe_applied = Some(why);
                    // What is on file decides what happened.
                    let read = self.views.read(slot, self.clock.now()).await;
                    view = read
                        .map_err(|_| EngineError::OutcomeUnknown("the store does not answer".to_owned()))?;
                    is_strong = true;
                    if view.entry.as_ref().is_some_and(|entry| entry.version == attempted) {
                        let replaced = replaced_by(&lost, &view);
                        return Ok(Settled { answer, entry: view.entry.clone(), replaced });
                    }
                    failures += 1;
                    if failures >= ATTEMPTS / 2 || !self.caller.may_repeat(failures).await {
                        break;
                    }
                }
                Err(WriteError::NotApplied(why)) => {
                    failures += 1;
                    if failures >= ATTEMPTS / 2 || !self.caller.may_repeat(failures).await {
                        return Err(maybe_applied
                            .map_or(EngineError::StoreUnavailable(why), EngineError::OutcomeUnknown));
                    }
                }
                Err(error @ (WriteError::Corrupt(_) | WriteError::TooLarge(_))) => {
                    return Err(maybe_applied.map_or(error.into(), EngineError::OutcomeUnknown));
                }
            }
        }
        Err(match maybe_applied {
            Some(why) => EngineError::OutcomeUnknown(why),
            None => EngineError::StoreUnavailable("the entry changes too fast".to_owned()),
        })
    }

    /// When the store may delete the record: not while its page is remembered by rule, nor while its lease may live.
    fn forget_after(&self, entry: &Entry, now: Timestamp) -> Timestamp {
        let page = entry.pointer.as_ref().map_or(now, |pointer| pointer.generated_at);
        let lease = entry.lease.as_ref().map_or(now, |lease| lease.hold_until);
        page.max(now).max(lease).plus(self.rules.retention)
    }
}

/// Rules that tests take out, where that needs more than to leave a line away.
mod mutants {
    use super::*;
    use leasehold_core::{identity::LeaseToken, page::Pointer};

    /// [`Mutation::GenerationAsVersion`].
    pub(super) fn versioned(next: Entry) -> Entry {
        if !mutation::is_active(Mutation::GenerationAsVersion) {
            return next;
        }
        Entry { version: Version(next.generation.0.into()), ..next }
    }

    /// [`Mutation::RefusedSwapIsARivalsWin`]: nothing of the caller's own is found in what refused its swap.
    pub(super) fn a_rivals(current: Entry) -> Entry {
        if !mutation::is_active(Mutation::RefusedSwapIsARivalsWin) {
            return current;
        }
        let pointer = current.pointer.map(|pointer| Pointer { token: LeaseToken::from_bits(0), ..pointer });
        Entry { pointer, lease: None, released: None, ..current }
    }
}

/// What the lost attempt replaced that made the entry what it is, if one did.
fn replaced_by(lost: &[(Version, Option<Arc<Entry>>)], view: &View) -> Option<Replaced> {
    let version = view.entry.as_ref()?.version;
    lost.iter().find(|(attempted, _)| *attempted == version).map(|(_, before)| Replaced(before.clone()))
}
