//! How many may do something at once.

use super::error::EngineError;
use std::sync::{
    Arc,
    atomic::{AtomicIsize, Ordering},
};

/// A bounded number of places. Who gets none is told so at once: queueing would only move the overload.
#[derive(Debug)]
pub struct Places {
    what: &'static str,
    limit: usize,
    /// Below zero for a moment, where some are given back before it was noted that they were taken.
    taken: AtomicIsize,
}

/// Some places, given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    count: usize,
}

/// A place among all, and one among its tenant's, where these are limited.
pub type TenantPlace = (Place, Option<Place>);

/// The same, of several tenants.
pub type TenantsPlace = (Place, Vec<Place>);

impl Places {
    /// `what` completes the sentence "over the limit of `limit` …".
    pub fn new(what: &'static str, limit: usize) -> Arc<Self> {
        Arc::new(Self { what, limit, taken: AtomicIsize::new(0) })
    }

    /// Takes one.
    pub fn take(self: &Arc<Self>) -> Result<Place, EngineError> {
        self.take_many(1)
    }

    /// Takes several or none.
    pub fn take_many(self: &Arc<Self>, count: usize) -> Result<Place, EngineError> {
        self.add(count)?;
        Ok(Place { places: Arc::clone(self), count })
    }

    fn add(&self, count: usize) -> Result<(), EngineError> {
        let fits =
            |taken: isize| taken.checked_add_unsigned(count).filter(|taken| *taken <= signed(self.limit));
        match self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.reached()),
        }
    }

    /// Takes several though there be none left, and says whether there were. Either way they are to be given back, by
    /// [`Places::give_back`].
    pub(crate) fn take_anyway(&self, count: usize) -> bool {
        let count = signed(count);
        self.taken.fetch_add(count, Ordering::AcqRel).saturating_add(count) <= signed(self.limit)
    }

    /// Gives back what no [`Place`] stands for.
    pub(crate) fn give_back(&self, count: usize) {
        self.taken.fetch_sub(signed(count), Ordering::AcqRel);
    }

    /// What whoever gets none is told.
    pub(crate) fn reached(&self) -> EngineError {
        EngineError::LimitReached { what: self.what, limit: self.limit }
    }

    /// How many there are.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        usize::try_from(self.taken.load(Ordering::Acquire)).unwrap_or(0)
    }
}

/// No machine has more bytes.
fn signed(count: usize) -> isize {
    isize::try_from(count).unwrap_or(isize::MAX)
}

impl Place {
    /// Takes some more, or none.
    pub fn grow(&mut self, count: usize) -> Result<(), EngineError> {
        self.places.add(count)?;
        self.count += count;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.give_back(self.count);
    }
}
