//! The folded form of the log.

use super::{
    Depth, LogEvent, Mark, Marks, Scope, concerns,
    requests::Requests,
    retained::{self, Owner, Part, Retained},
    tenants::Tenants,
};
use crate::{
    identity::{EntryId, PagePath, RequestId, Seq, Tag, TenantId},
    time::Timestamp,
};

/// The folded log up to [`LogView::position`].
///
/// An event is folded, remembered and forgotten in parts, one for each tenant that it is about, and one for everybody:
/// what is forgotten about a tenant counts against that tenant alone. A part is forgotten when its time is over, or before
/// that when there is no room and nothing takes more of it than what is remembered about the same tenant.
#[derive(Clone, Debug, Default)]
pub struct LogView {
    position: Seq,
    /// The latest time of an event that was folded.
    latest_at: Timestamp,
    /// The newest events about everybody, remembered or not, and those that may have been: what had expired before it was
    /// read counts as hard.
    everybody: Marks,
    tenants: Tenants,
    requests: Requests,
    retained: Retained,
}

impl LogView {
    /// Everything up to here is folded in.
    pub fn position(&self) -> Seq {
        self.position
    }

    /// Whether this request was appended before, and where.
    pub fn seq_of(&self, request: RequestId) -> Option<Seq> {
        self.requests.seq_of(request)
    }

    /// Folds one event in. Events that are folded already are ignored, so that a reader may read a stretch again.
    pub fn fold(&mut self, event: &LogEvent) {
        if event.seq <= self.position {
            return;
        }
        let before = Seq(event.seq.0 - 1);
        if before > self.position {
            self.everybody.raise(Depth::Hard, Mark::of(before, event.at));
        }
        self.requests.push(event);
        for (owner, part) in retained::parts(event) {
            self.remember(&owner, part);
        }
        self.position = event.seq;
        self.latest_at = self.latest_at.max(event.at);
    }

    /// Notes that everything up to `head` was read, also where its newest events are forgotten by now.
    pub fn advance_to(&mut self, head: Seq) {
        if head > self.position {
            self.position = head;
            self.everybody.raise(Depth::Hard, Mark::of(head, self.latest_at));
        }
    }

    /// Forgets events whose time is over, at most so many at once; answers how many these were. Entries that they concern are
    /// forgotten by rule before them; where a clock was wrong and they are not, [`LogView::marks_for`] counts a forgotten
    /// event as one about all of its tenants' pages.
    pub fn forget(&mut self, now: Timestamp, most: usize) -> usize {
        let mut events = 0;
        while events < most
            && let Some((seq, forget_after)) = self.oldest()
            && forget_after <= now
        {
            self.forget_event(seq);
            events += 1;
        }
        events
    }

    /// Forgets parts of events, also before their time, until what is left takes at most about `max_bytes`: always the
    /// oldest part of whom most is remembered about. Who takes no more than all would if they shared alike loses nothing,
    /// whatever is appended about others. Answers how many parts these were. Pages of the same tenant that are older than a
    /// forgotten part count as invalidated, or purged if it was hard: too little memory costs renders, never a promise.
    pub fn forget_beyond(&mut self, max_bytes: usize) -> usize {
        let mut parts = 0;
        while self.retained.bytes() > max_bytes
            && let Some(owner) = self.retained.heaviest().cloned()
        {
            self.forget_oldest_of(&owner);
            parts += 1;
        }
        parts
    }

    /// What is remembered takes about so many bytes.
    pub fn retained_bytes(&self) -> usize {
        self.retained.bytes()
    }

    /// The newest event that may be about a page of this entry of which neither tags nor path are known: in doubt, it has
    /// every one of them.
    pub fn marks_in_doubt(&self, id: &EntryId) -> Marks {
        let mut marks = self.marks_for(id, [], []);
        if let Some(tenant) = self.tenants.get(&id.tenant) {
            marks.raise_both(&tenant.by_label());
        }
        marks
    }

    /// The newest event that may be about a page of this tenant of which nothing else is known: in doubt, it is about that one.
    pub fn marks_in_doubt_of(&self, tenant: &TenantId) -> Marks {
        let mut marks = self.everybody;
        if let Some(tenant) = self.tenants.get(tenant) {
            marks.raise_both(&tenant.of_any());
        }
        marks
    }

    /// The newest event about an entry: under its own name, and under the tags and path that its page has.
    pub fn marks_for<'a>(
        &self,
        id: &EntryId,
        tags: impl IntoIterator<Item = &'a Tag>,
        paths: impl IntoIterator<Item = &'a PagePath>,
    ) -> Marks {
        let mut marks = self.everybody;
        if let Some(tenant) = self.tenants.get(&id.tenant) {
            marks.raise_both(&tenant.marks_for(id, tags, paths));
        }
        marks
    }

    /// The scopes of an event that concern an entry: what a person is told when asking why a page is stale. None of an
    /// event that is forgotten.
    pub fn scopes_at(
        &self,
        seq: Seq,
        id: &EntryId,
        tags: &[Tag],
        path: Option<&PagePath>,
    ) -> Vec<(Scope, Depth)> {
        let parts = [None, Some(id.tenant.clone())].map(|owner| self.retained.part(&owner, seq));
        let mut scopes = Vec::new();
        for invalidation in parts.into_iter().flatten().flat_map(|part| &part.invalidations) {
            for scope in &invalidation.scopes {
                if concerns(scope, id, tags, path) {
                    scopes.push((scope.clone(), invalidation.depth));
                }
            }
        }
        scopes
    }

    fn remember(&mut self, owner: &Owner, part: Part) {
        let mark = Mark::of(part.seq, part.at);
        let mut tenant = owner.as_ref().map(|tenant| self.tenants.remembering(tenant));
        for invalidation in &part.invalidations {
            self.requests.hold(invalidation.id, part.seq);
            match &mut tenant {
                None => self.everybody.raise(invalidation.depth, mark),
                Some(tenant) => {
                    invalidation
                        .scopes
                        .iter()
                        .for_each(|scope| tenant.raise(scope, invalidation.depth, mark));
                }
            }
        }
        self.retained.push(owner, part);
    }

    /// The oldest event that anything is remembered of, and when it may be forgotten.
    fn oldest(&self) -> Option<(Seq, Timestamp)> {
        let retained = self.retained.oldest().map(|(seq, forget_after, _)| (seq, forget_after));
        retained.into_iter().chain(self.requests.oldest()).min()
    }

    fn forget_event(&mut self, seq: Seq) {
        while let Some((oldest, _, owner)) = self.retained.oldest()
            && oldest == seq
        {
            let owner = owner.clone();
            self.forget_oldest_of(&owner);
        }
        if self.requests.oldest().is_some_and(|(oldest, _)| oldest == seq) {
            self.requests.pop_oldest();
        }
    }

    fn forget_oldest_of(&mut self, owner: &Owner) {
        let Some((part, is_last)) = self.retained.pop_oldest(owner) else { return };
        let mark = Mark::of(part.seq, part.at);
        let mut tenant = owner.as_ref().and_then(|tenant| self.tenants.get_mut(tenant));
        for invalidation in &part.invalidations {
            self.requests.release(invalidation.id, part.seq);
            if let Some(tenant) = &mut tenant {
                invalidation.scopes.iter().for_each(|scope| tenant.forget(scope, invalidation.depth, mark));
            }
        }
        if let Some(tenant) = owner
            && is_last
            && let Some(forgotten) = self.tenants.lay_bare(tenant)
        {
            self.everybody.raise_both(&forgotten);
        }
    }
}
