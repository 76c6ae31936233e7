//! How many may do something at once.

use super::error::EngineError;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A bounded number of places. Who gets none is told so at once: queueing would only move the overload.
#[derive(Debug)]
pub struct Places {
    what: &'static str,
    limit: usize,
    taken: AtomicUsize,
}

/// Some places, given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    count: usize,
}

impl Places {
    /// `what` completes the sentence "over the limit of `limit` …".
    pub fn new(what: &'static str, limit: usize) -> Arc<Self> {
        Arc::new(Self { what, limit, taken: AtomicUsize::new(0) })
    }

    /// Takes one.
    pub fn take(self: &Arc<Self>) -> Result<Place, EngineError> {
        self.take_many(1)
    }

    /// Takes several or none.
    pub fn take_many(self: &Arc<Self>, count: usize) -> Result<Place, EngineError> {
        let before = self.taken.fetch_add(count, Ordering::AcqRel);
        // Made before the check: dropping it gives the places back.
        let place = Place { places: Arc::clone(self), count };
        if before.saturating_add(count) > self.limit {
            return Err(EngineError::LimitReached { what: self.what, limit: self.limit });
        }
        Ok(place)
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(self.count, Ordering::AcqRel);
    }
}
