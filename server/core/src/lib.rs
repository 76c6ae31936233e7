//! The rules of the coordinator: pure functions over plain values.
//!
//! Nothing here does I/O, reads a clock or draws a random value: `now`, versions and tokens come in as arguments. Every
//! change of an entry is one function, `(entry, request, log view, now) -> decision`; the engine carries decisions out.

pub mod access;
pub mod entry;
pub mod freshness;
pub mod identity;
pub mod invalidation;
pub mod key;
pub mod labels;
pub mod mutation;
pub mod named;
pub mod object;
pub mod orphan;
pub mod page;
#[cfg(test)]
mod samples;
pub mod time;
pub mod transition;
