//! A model of the protocol over the real rules: every order of events within bounds, and a promise that breaks in none.
//!
//! The rules are not copied. Each step asks `leasehold_core`: `transition::acquire`, `renew`, `release` and `commit` decide,
//! `LogView` folds and forgets, `freshness::judge` says what is served. Modelled is what lies around them: a store that
//! swaps and appends, coordinators that remember, share reads and carry decisions out as the engine does, workers, and a
//! network that loses, repeats and delays everything. Three models, because the product of all of it could not be visited:
//!
//! - [`regeneration`]: one entry, two coordinators, two or three workers, invalidations;
//! - [`appending`]: the invalidation log, two coordinators that append and follow, events that expire;
//! - [`reading`]: lookups that share reads and verdicts.
//!
//! [`focus`] says within which bounds each is explored, [`promise`] what every state is judged by. What a state of the model
//! has no room for is in `record` and `scenery`: no clock is modelled, every call is given any moment, so that leases
//! expire whenever it hurts. Two states that differ only in the names of the coordinators or of versions are one.
//!
//! A counterexample is a list of steps. Paste them into `tests/stories.rs` with a name; [`explore::replay`] takes them again,
//! with the rule or without it (`leasehold_core::mutation`).

pub mod appending;
mod digest;
pub mod events;
pub mod explore;
pub mod focus;
pub mod promise;
pub mod reading;
pub mod record;
pub mod regeneration;
pub mod scenery;
