//! Who waits for the answer to which id.

/// Those who wait. A slot is used again, its id never (within 2^32 uses): a late answer finds nobody.
pub(crate) struct Slots<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    index: u32,
    use_count: u32,
}

impl Slot {
    pub(crate) fn to_wire(self) -> u64 {
        (u64::from(self.use_count) << 32) | u64::from(self.index)
    }

    pub(crate) fn from_wire(id: u64) -> Self {
        Self { index: id as u32, use_count: (id >> 32) as u32 }
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(crate) fn insert(&mut self, waiter: T) -> Slot {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let (use_count, place) = &mut self.slots[index as usize];
        *use_count = use_count.wrapping_add(1);
        *place = Some(waiter);
        Slot { index, use_count: *use_count }
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let (use_count, place) = self.slots.get_mut(slot.index as usize)?;
        let waiter = if *use_count == slot.use_count { place.take() } else { None };
        if waiter.is_some() {
            self.free.push(slot.index);
        }
        waiter
    }

    pub(crate) fn contains(&self, slot: Slot) -> bool {
        self.slots
            .get(slot.index as usize)
            .is_some_and(|(use_count, place)| *use_count == slot.use_count && place.is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_answer_to_a_slot_in_use_again_finds_nobody() {
        let mut slots = Slots::default();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(second.index, first.index);
        assert_eq!(slots.remove(first), None);
        assert!(!slots.contains(first) && slots.contains(second));
        assert_eq!(slots.remove(Slot::from_wire(second.to_wire())), Some("second"));
        assert!(slots.is_empty());
    }

    #[test]
    fn unknown_ids_find_nobody() {
        let mut slots = Slots::<()>::default();
        assert_eq!(slots.remove(Slot::from_wire(u64::MAX)), None);
        assert!(slots.is_empty());
    }
}
