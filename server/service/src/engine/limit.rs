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
        self.add(count)?;
        Ok(Place { places: Arc::clone(self), count })
    }

    fn add(&self, count: usize) -> Result<(), EngineError> {
        let fits = |taken: usize| taken.checked_add(count).filter(|taken| *taken <= self.limit);
        match self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits) {
            Ok(_) => Ok(()),
            Err(_) => Err(EngineError::LimitReached { what: self.what, limit: self.limit }),
        }
    }

    /// How many there are.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
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
        self.places.taken.fetch_sub(self.count, Ordering::AcqRel);
    }
}
