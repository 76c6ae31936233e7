//! The events that are remembered, each cut into the parts that are about one tenant: who takes how much, and who has the
//! oldest.

use super::{Invalidation, LogEvent, Scope};
use crate::{
    identity::{Seq, TenantId},
    time::Timestamp,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Whom a scope is about: a tenant, or everybody.
pub(super) type Owner = Option<TenantId>;

/// An event as far as it is about one owner.
pub(super) type Part = LogEvent;

/// Every change costs the logarithm of the number of owners, whatever they take.
#[derive(Clone, Debug, Default)]
pub(super) struct Retained {
    shares: HashMap<Owner, Share>,
    by_bytes: BTreeSet<(usize, Owner)>,
    /// By the oldest part of each.
    by_age: BTreeSet<(Seq, Owner)>,
    bytes: usize,
}

/// What is remembered about one owner.
#[derive(Clone, Debug, Default)]
struct Share {
    /// Oldest first.
    parts: VecDeque<Part>,
    bytes: usize,
}

impl Retained {
    /// What all parts take in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, owner: &Owner, part: Part) {
        let bytes = weight_bytes(&part);
        self.bytes += bytes;
        self.change(owner, |share| {
            share.bytes += bytes;
            share.parts.push_back(part);
        });
    }

    /// Takes the oldest part of an owner, and answers whether it was the last one.
    pub(super) fn pop_oldest(&mut self, owner: &Owner) -> Option<(Part, bool)> {
        let part = self.change(owner, |share| {
            let part = share.parts.pop_front()?;
            share.bytes -= weight_bytes(&part);
            Some(part)
        })?;
        self.bytes -= weight_bytes(&part);
        Some((part, !self.shares.contains_key(owner)))
    }

    /// Whose parts take most.
    pub(super) fn heaviest(&self) -> Option<&Owner> {
        self.by_bytes.last().map(|(_, owner)| owner)
    }

    /// The oldest event of which there is a part, one of those whom it is about, and when it may be forgotten.
    pub(super) fn oldest(&self) -> Option<(Seq, Timestamp, &Owner)> {
        let (seq, owner) = self.by_age.first()?;
        let part = self.shares.get(owner)?.parts.front()?;
        Some((*seq, part.forget_after, owner))
    }

    /// What is remembered of an event about an owner.
    pub(super) fn part(&self, owner: &Owner, seq: Seq) -> Option<&Part> {
        let parts = &self.shares.get(owner)?.parts;
        parts.binary_search_by_key(&seq, |part| part.seq).ok().map(|index| &parts[index])
    }

    /// The only way to change a share: both orders follow.
    fn change<T>(&mut self, owner: &Owner, change: impl FnOnce(&mut Share) -> T) -> T {
        let share = self.shares.entry(owner.clone()).or_default();
        if let Some(oldest) = share.parts.front() {
            self.by_bytes.remove(&(share.bytes, owner.clone()));
            self.by_age.remove(&(oldest.seq, owner.clone()));
        }
        let result = change(share);
        if let Some(oldest) = share.parts.front() {
            self.by_bytes.insert((share.bytes, owner.clone()));
            self.by_age.insert((oldest.seq, owner.clone()));
        } else {
            self.shares.remove(owner);
        }
        result
    }
}

/// Cuts an event into its parts.
pub(super) fn parts(event: &LogEvent) -> BTreeMap<Owner, Part> {
    let LogEvent { seq, id, at, forget_after, invalidations } = event;
    let mut parts = BTreeMap::new();
    for Invalidation { id: request, scopes, depth } in invalidations {
        let mut by_owner: BTreeMap<Owner, Vec<Scope>> = BTreeMap::new();
        for scope in scopes {
            by_owner.entry(scope.tenant().cloned()).or_default().push(scope.clone());
        }
        for (owner, scopes) in by_owner {
            let part = parts.entry(owner).or_insert_with(|| Part {
                seq: *seq,
                id: *id,
                at: *at,
                forget_after: *forget_after,
                invalidations: Vec::new(),
            });
            part.invalidations.push(Invalidation { id: *request, scopes, depth: *depth });
        }
    }
    parts
}

/// What a part takes in memory, about: itself, its marks and its requests.
fn weight_bytes(part: &Part) -> usize {
    const PART: usize = 96;
    const INVALIDATION: usize = 96;
    const SCOPE: usize = 192;
    let scopes = |invalidation: &Invalidation| -> usize {
        invalidation.scopes.iter().map(|scope| 2 * scope.text_bytes() + SCOPE).sum()
    };
    PART + part.invalidations.iter().map(|invalidation| INVALIDATION + scopes(invalidation)).sum::<usize>()
}
