//! The log of everything that was ever invalidated, and verdicts by scanning it from end to end.

use leasehold_core::{
    identity::{EntryId, PagePath, Seq, Tag},
    invalidation::{Depth, LogEvent, Scope, Verdict},
    page::Pointer,
    time::Timestamp,
};
use std::time::Duration;

/// Who judges, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observer {
    pub(crate) position: Seq,
    /// The newest event that it has forgotten or never found.
    pub(crate) floor: Seq,
    /// The newest of these that was hard, or may have been.
    pub(crate) hard_floor: Seq,
    pub(crate) verified: bool,
    pub(crate) now: Timestamp,
    /// For how long it says that it knows the entry.
    pub(crate) known_for: Duration,
}

pub(crate) struct WholeLog {
    id: EntryId,
    events: Vec<LogEvent>,
    /// For every render, the head of the log when it began.
    renders: Vec<Seq>,
}

impl WholeLog {
    pub(crate) fn new(id: EntryId) -> Self {
        Self { id, events: Vec::new(), renders: Vec::new() }
    }

    pub(crate) fn append(&mut self, event: LogEvent) {
        self.events.push(event);
    }

    /// Answers the name of a render that begins now.
    pub(crate) fn begins_to_render(&mut self) -> u64 {
        self.renders.push(Seq(self.events.len() as u64));
        self.renders.len() as u64 - 1
    }

    /// What an observer that remembers all events after its floor is to say.
    pub(crate) fn verdict(
        &self,
        observer: Observer,
        seen: Seq,
        tags: &[Tag],
        path: Option<&PagePath>,
    ) -> Verdict {
        let reached = |depths: &[Depth]| self.reaches(seen, observer.position, depths, tags, path);
        if observer.hard_floor > seen || reached(&[Depth::Hard]) {
            Verdict::Purged
        } else if observer.floor > seen || reached(&[Depth::Soft]) {
            Verdict::Invalidated
        } else {
            Verdict::Valid
        }
    }

    /// When the render of a page began, by the head of the log. It is the executor's knowledge, not the
    /// entry's.
    pub(crate) fn began(&self, pointer: &Pointer) -> Seq {
        let name = pointer.html.digest.0[..8].try_into().unwrap();
        self.renders[u64::from_be_bytes(name) as usize]
    }

    pub(crate) fn is_reached(&self, pointer: &Pointer, after: Seq, upto: Seq, depths: &[Depth]) -> bool {
        self.reaches(after, upto, depths, &pointer.meta.tags, pointer.meta.path.as_ref())
    }

    fn reaches(
        &self,
        after: Seq,
        upto: Seq,
        depths: &[Depth],
        tags: &[Tag],
        path: Option<&PagePath>,
    ) -> bool {
        let events = self.events.iter().filter(|event| event.seq > after && event.seq <= upto);
        events.flat_map(|event| &event.invalidations).any(|invalidation| {
            depths.contains(&invalidation.depth)
                && invalidation.scopes.iter().any(|scope| self.is_about(scope, tags, path))
        })
    }

    fn is_about(&self, scope: &Scope, tags: &[Tag], path: Option<&PagePath>) -> bool {
        let EntryId { tenant, deployment, key } = &self.id;
        match scope {
            Scope::Everything => true,
            Scope::Tenant(of) => of == tenant,
            Scope::Deployment(of, release) => of == tenant && Some(release) == deployment.as_ref(),
            Scope::PathPrefix(of, prefix) => {
                let below = |path: &PagePath| {
                    let (path, prefix) = (path.as_str(), prefix.as_str().trim_end_matches('/'));
                    path == prefix || path.starts_with(&format!("{prefix}/"))
                };
                of == tenant && path.is_some_and(below)
            }
            Scope::Tag(of, tag) => of == tenant && tags.contains(tag),
            Scope::Key(of, name) => of == tenant && name == key,
        }
    }
}
