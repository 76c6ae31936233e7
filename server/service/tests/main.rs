//! The coordinator as its callers see it: over a real socket, on the embedded store, one file per subject.
//!
//! One binary, so that it is linked once.

mod harness;

mod access;
mod bad_input;
mod budget;
mod healing;
mod invalidation;
mod limits;
mod named_bodies;
mod outcomes;
mod peers;
mod purged_sidecars;
mod shares;
mod stop;
mod tenants;
mod traces;
mod unknown_outcomes;
mod unread_log;
mod waiters;
mod watch;
