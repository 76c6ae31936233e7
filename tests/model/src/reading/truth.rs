//! How a lookup is judged, as the engine does, and what the promises make of its answer.

use super::{
    Happening, Reading,
    state::{Phase, State},
};
use crate::{
    promise::Promise,
    record::Record,
    scenery::{NOW, SCENERY},
};
use leasehold_core::{
    freshness::{self, Freshness},
    invalidation::Verdict,
    mutation::{self, Mutation},
};

impl Reading {
    pub(super) fn judge(&self, state: &mut State, lookup: u8) {
        let Phase::Judging { record } = state.lookups[usize::from(lookup)].phase else { return };
        let Some(page) = record.and_then(|record| record.page) else {
            return self.answer(state, lookup, record, Verdict::Valid);
        };
        let remembered = state.view.filter(|view| view.record == record).and_then(|view| view.verdict);
        if let Some((at, verdict)) = remembered {
            if at == state.position {
                self.happened.note(Happening::VerdictRemembered);
                return self.answer(state, lookup, record, verdict);
            }
            self.happened.note(Happening::VerdictOutdated);
        }
        self.happened.note(Happening::Scanned);
        let at = state.position;
        let pointer = page.pointer();
        let verdict =
            state.log.viewed(at, |view| freshness::marks(&SCENERY.id, &pointer, view).verdict(pointer.seen));
        state.lookups[usize::from(lookup)].phase = Phase::Scanned { record, at, verdict };
    }

    pub(super) fn remember(&self, state: &mut State, lookup: u8) {
        let Phase::Scanned { record, at, verdict } = state.lookups[usize::from(lookup)].phase else { return };
        let is_late = mutation::is_active(Mutation::VerdictStampedAtEndOfLoad);
        let at = if is_late { state.position } else { at };
        if let Some(view) = state.view.as_mut().filter(|view| view.record == record) {
            view.verdict = Some((at, verdict));
        }
        self.answer(state, lookup, record, verdict);
    }

    fn answer(&self, state: &mut State, lookup: u8, record: Option<Record>, verdict: Verdict) {
        let page = record.and_then(|record| record.page);
        let pointer = page.map(|page| page.pointer());
        let served = freshness::judge_with(pointer.as_ref(), verdict, true, NOW, SCENERY.rules.retention);
        let at = &mut state.lookups[usize::from(lookup)];
        at.phase = Phase::Answered;
        let (generation, log) = (at.generation, at.log);
        let is_older = page.map_or(0, |page| page.by.generation) < generation;
        self.break_if(self.is_strict(lookup) && is_older, state, Promise::StrictIsLinearizable);
        let outdates = |seq: u8| seq <= log && page.is_some_and(|page| page.is_older_than(seq));
        let is_outdated = (1..=log).any(outdates);
        let is_purged = state.log.hard().any(outdates);
        self.happened.note(match served {
            Freshness::Fresh => Happening::Fresh,
            Freshness::Stale(_) => Happening::Stale,
            Freshness::Missing(_) => Happening::Missing,
        });
        self.break_if(served == Freshness::Fresh && is_outdated, state, Promise::InvalidationWins);
        let is_served = !matches!(served, Freshness::Missing(_));
        self.break_if(is_served && is_purged, state, Promise::PurgedStaysPurged);
    }

    fn break_if(&self, is_broken: bool, state: &mut State, promise: Promise) {
        if is_broken && self.promises.contains(&promise) {
            state.broken.note(promise);
        }
    }
}
