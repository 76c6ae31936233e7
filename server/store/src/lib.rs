//! The ports of the coordinator, and what belongs beside them: the one conformance suite that every adapter and decorator
//! passes, the decorators, the stored form of records, and the embedded store.
//!
//! - [`port`]: what the engine asks of a store, with the contract of each port.
//! - [`record`]: entries, events and metadata as bytes.
//! - [`embedded`]: the store on one machine, in one directory, on SQLite.
//! - [`decorators`]: stores around a store: one that counts, one that fails on demand, one that is observed.
//! - [`consumed`]: what a request consumed, as far as a store says so.
//! - `conformance` (feature of that name): the suite, as named tests for a fixture.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod consumed;
pub mod decorators;
pub mod embedded;
pub mod port;
pub mod record;
