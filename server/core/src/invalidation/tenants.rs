//! What the log says about each tenant.

use super::{Depth, Mark, Marks, Scope};
use crate::identity::{DeploymentId, EntryId, EntryKey, PagePath, Seq, Tag, TenantId};
use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

/// Of so many tenants is remembered what was forgotten of them, where nothing else is.
pub const MAX_BARE_TENANTS: usize = 10_000;

#[derive(Clone, Debug, Default)]
pub(super) struct Tenants {
    marks: HashMap<TenantId, TenantMarks>,
    /// Those of which all is forgotten, by the newest event of these.
    bare: BTreeSet<(Seq, TenantId)>,
}

/// The newest events about one tenant.
#[derive(Clone, Debug, Default)]
pub(super) struct TenantMarks {
    /// The newest event that is not remembered any more.
    forgotten: Marks,
    all: Marks,
    /// The newest event about any tag or path.
    by_label: Marks,
    /// The newest event about any of it.
    of_any: Marks,
    deployments: HashMap<DeploymentId, Marks>,
    prefixes: HashMap<PagePathKey, Marks>,
    tags: HashMap<Tag, Marks>,
    keys: HashMap<EntryKey, Marks>,
}

/// A path as a map key that can be asked for by `&str`, so that a scan of prefixes allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PagePathKey(Box<str>);

impl Borrow<str> for PagePathKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Tenants {
    pub(super) fn get(&self, tenant: &TenantId) -> Option<&TenantMarks> {
        self.marks.get(tenant)
    }

    /// The marks of a tenant that something is about to be remembered of.
    pub(super) fn remembering(&mut self, tenant: &TenantId) -> &mut TenantMarks {
        let marks = self.marks.entry(tenant.clone()).or_default();
        self.bare.remove(&(marks.forgotten.newest.seq, tenant.clone()));
        marks
    }

    pub(super) fn get_mut(&mut self, tenant: &TenantId) -> Option<&mut TenantMarks> {
        self.marks.get_mut(tenant)
    }

    /// Notes that nothing is remembered of a tenant any more. Where these are too many, answers what was forgotten of the
    /// one of which that is longest ago: from now on, it may have been about everybody.
    pub(super) fn lay_bare(&mut self, tenant: &TenantId) -> Option<Marks> {
        let marks = self.marks.get_mut(tenant)?;
        // Maps keep the room that they once had.
        *marks = TenantMarks { forgotten: marks.forgotten, ..TenantMarks::default() };
        let seq = marks.forgotten.newest.seq;
        self.bare.insert((seq, tenant.clone()));
        if self.bare.len() <= MAX_BARE_TENANTS {
            return None;
        }
        let (_, tenant) = self.bare.pop_first()?;
        self.marks.remove(&tenant).map(|marks| marks.forgotten)
    }
}

impl TenantMarks {
    pub(super) fn raise(&mut self, scope: &Scope, depth: Depth, mark: Mark) {
        self.of_any.raise(depth, mark);
        if matches!(scope, Scope::Tag(..) | Scope::PathPrefix(..)) {
            self.by_label.raise(depth, mark);
        }
        let marks = match scope {
            Scope::Everything | Scope::Tenant(_) => &mut self.all,
            Scope::Deployment(_, deployment) => self.deployments.entry(deployment.clone()).or_default(),
            Scope::PathPrefix(_, path) => self.prefixes.entry(PagePathKey(path.as_str().into())).or_default(),
            Scope::Tag(_, tag) => self.tags.entry(tag.clone()).or_default(),
            Scope::Key(_, key) => self.keys.entry(key.clone()).or_default(),
        };
        marks.raise(depth, mark);
    }

    /// Forgets what its oldest event said about a scope.
    pub(super) fn forget(&mut self, scope: &Scope, depth: Depth, mark: Mark) {
        self.forgotten.raise(depth, mark);
        let seq = mark.seq;
        self.by_label.clear_upto(seq);
        self.of_any.clear_upto(seq);
        match scope {
            Scope::Everything | Scope::Tenant(_) => self.all.clear_upto(seq),
            Scope::Deployment(_, deployment) => remove_upto(&mut self.deployments, deployment, seq),
            Scope::PathPrefix(_, path) => remove_upto(&mut self.prefixes, path.as_str(), seq),
            Scope::Tag(_, tag) => remove_upto(&mut self.tags, tag, seq),
            Scope::Key(_, key) => remove_upto(&mut self.keys, key, seq),
        }
    }

    /// The newest event about an entry: under its own name, and under the tags and path that its page has.
    pub(super) fn marks_for<'a>(
        &self,
        id: &EntryId,
        tags: impl IntoIterator<Item = &'a Tag>,
        paths: impl IntoIterator<Item = &'a PagePath>,
    ) -> Marks {
        // What a forgotten event was about cannot be known: without this, one leap of this clock into the future and back
        // would make every page that was invalidated before it fresh again.
        let mut sum = self.forgotten;
        let mut add = |marks: Option<&Marks>| {
            if let Some(marks) = marks {
                sum.raise_both(marks);
            }
        };
        add(Some(&self.all));
        add(id.deployment.as_ref().and_then(|deployment| self.deployments.get(deployment)));
        add(self.keys.get(&id.key));
        if !self.tags.is_empty() {
            tags.into_iter().for_each(|tag| add(self.tags.get(tag)));
        }
        if !self.prefixes.is_empty() {
            for path in paths {
                path.prefixes().for_each(|prefix| add(self.prefixes.get(prefix)));
            }
        }
        sum
    }

    /// The newest event about any tag or path.
    pub(super) fn by_label(&self) -> Marks {
        self.by_label
    }

    /// The newest event about any of it.
    pub(super) fn of_any(&self) -> Marks {
        let mut marks = self.of_any;
        marks.raise_both(&self.forgotten);
        marks
    }
}

fn remove_upto<K: Eq + Hash + Borrow<Q>, Q: Eq + Hash + ?Sized>(
    map: &mut HashMap<K, Marks>,
    key: &Q,
    seq: Seq,
) {
    let is_empty = map.get_mut(key).is_some_and(|marks| {
        marks.clear_upto(seq);
        *marks == Marks::default()
    });
    if is_empty {
        map.remove(key);
        if map.len() * 4 < map.capacity() {
            map.shrink_to(map.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_gives_its_room_back_as_it_is_forgotten() {
        let mut map: HashMap<u32, Marks> = (0..1_000).map(|key| (key, Marks::default())).collect();
        for key in 0..990 {
            remove_upto(&mut map, &key, Seq(1));
        }
        assert_eq!(map.len(), 10);
        assert!(map.capacity() < 100, "{}", map.capacity());
    }
}
