//! Who is next, of those who wait for one task: each tenant in its turn, so that whoever hands in much keeps nobody else waiting.

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

    /// Drops whatever is not worth its turn any more.
    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(&T) -> bool) {
        self.waiting.retain(|_, items| {
            items.retain(&mut is_kept);
            !items.is_empty()
        });
        self.order.retain(|tenant| self.waiting.contains_key(tenant));
    }

    /// One of each tenant, as often around as there are any that are wanted. A tenant whose next one is not is passed over from
    /// then on, and is among the first the next time.
    pub(super) fn take(&mut self, mut is_wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let (mut taken, mut passed) = (Vec::new(), VecDeque::new());
        while let Some(tenant) = self.order.pop_front() {
            let Some(items) = self.waiting.get_mut(&tenant) else { continue };
            let Some(next) = items.pop_front_if(|next| is_wanted(next)) else {
                passed.push_back(tenant);
                continue;
            };
            taken.push(next);
            if items.is_empty() {
                self.waiting.remove(&tenant);
            } else {
                self.order.push_back(tenant);
            }
        }
        self.order = passed;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Option<TenantId> {
        Some(TenantId::parse(name).unwrap())
    }

    fn waiting(items: &[(&str, u32)]) -> Turns<u32> {
        let mut turns = Turns::new();
        for (name, item) in items {
            turns.push(tenant(name), *item);
        }
        turns
    }

    /// As many as fit into this together.
    fn take(turns: &mut Turns<u32>, mut room: u32) -> Vec<u32> {
        turns.take(|item| {
            let rest = room.checked_sub(*item);
            room = rest.unwrap_or(room);
            rest.is_some()
        })
    }

    #[test]
    fn each_tenant_has_its_turn_and_its_own_order_is_kept() {
        let mut turns =
            waiting(&[("loud", 1), ("loud", 2), ("loud", 3), ("quiet", 4), ("third", 5), ("quiet", 6)]);
        assert_eq!(take(&mut turns, 12), [1, 4, 5, 2]);
        turns.push(tenant("late"), 7);
        assert_eq!(take(&mut turns, 100), [6, 3, 7]);
        assert!(turns.is_empty());
    }

    #[test]
    fn whose_next_is_too_much_is_passed_over_and_comes_first_the_next_time() {
        let mut turns = waiting(&[("loud", 60), ("loud", 60), ("heavy", 70), ("quiet", 1), ("quiet", 2)]);
        assert_eq!(take(&mut turns, 100), [60, 1, 2]);
        turns.push(tenant("quiet"), 3);
        assert_eq!(take(&mut turns, 100), [70, 3]);
        turns.push(tenant("quiet"), 4);
        assert_eq!(take(&mut turns, 100), [60, 4]);
        assert!(turns.is_empty());
    }

    #[test]
    fn what_is_dropped_has_no_turn() {
        let mut turns = waiting(&[("quiet", 1), ("loud", 2), ("quiet", 3), ("gone", 4)]);
        turns.retain(|item| ![1, 4].contains(item));
        assert_eq!(take(&mut turns, 100), [3, 2]);
        turns.push(tenant("gone"), 5);
        turns.retain(|_| false);
        assert!(turns.is_empty());
    }
}
