//! Who is next, of those who wait for one task: each tenant in its turn, so that whoever hands in much keeps others waiting for
//! no more than one of his each.

use leasehold_core::identity::TenantId;
use std::collections::{BTreeMap, VecDeque};

/// What waits, by tenant, and what is nobody's, as if it were one more's. Of one tenant in the order in which it came. Not
/// bounded: whatever waits has a place elsewhere.
pub(super) struct Turns<T> {
    /// None of them empty.
    waiting: BTreeMap<Option<TenantId>, VecDeque<T>>,
    /// Each of these once.
    order: VecDeque<Option<TenantId>>,
}

impl<T> Turns<T> {
    pub(super) fn new() -> Self {
        Self { waiting: BTreeMap::new(), order: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn push(&mut self, tenant: Option<TenantId>, item: T) {
        let items = self.waiting.entry(tenant.clone()).or_default();
        items.push_back(item);
        if items.len() == 1 {
            self.order.push_back(tenant);
        }
    }

    /// The next one, where it is wanted; where it is not, it stays the next.
    pub(super) fn next_if(&mut self, is_wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        let items = self.waiting.get_mut(self.order.front()?)?;
        if !items.front().is_some_and(is_wanted) {
            return None;
        }
        let next = items.pop_front();
        let is_last = items.is_empty();
        let tenant = self.order.pop_front()?;
        if is_last {
            self.waiting.remove(&tenant);
        } else {
            self.order.push_back(tenant);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenant_has_its_turn_and_its_own_order_is_kept() {
        let tenant = |name: &str| Some(TenantId::parse(name).unwrap());
        let mut turns = Turns::new();
        for (tenant, item) in [
            (tenant("loud"), 1),
            (tenant("loud"), 2),
            (tenant("loud"), 3),
            (tenant("quiet"), 4),
            (None, 5),
            (tenant("quiet"), 6),
        ] {
            turns.push(tenant, item);
        }
        assert_eq!(turns.next_if(|item| *item != 1), None);
        let mut next = || turns.next_if(|_| true);
        assert_eq!([next(), next(), next(), next()], [Some(1), Some(4), Some(5), Some(2)]);
        turns.push(tenant("late"), 7);
        let rest: Vec<_> = std::iter::from_fn(|| turns.next_if(|_| true)).collect();
        assert_eq!(rest, [6, 3, 7]);
        assert!(turns.is_empty());
    }
}
