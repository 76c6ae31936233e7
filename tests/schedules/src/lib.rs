//! The engine under every order of events that an explorer can think of.
//!
//! These are the engine's own sources, compiled once more: what they call `tokio` is [the explorer's](../runtime/src/lib.rs), and
//! what they call `parking_lot` are locks at each of which another task may go on. One thread runs at a time, so that a
//! schedule is a list of choices, and a failing one can be replayed. Sleeps that are meant to last never end: whoever could
//! only be helped by a timer is stranded, and the explorer reports a deadlock.
//!
//! Callers are dropped between any two of their steps: see `scenery::impatient`.

#![cfg(test)]

#[expect(dead_code, unused_imports, unreachable_pub, reason = "the edge, which is not here, uses more of it")]
#[path = "../../../server/service/src/engine/mod.rs"]
mod engine;
#[expect(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "edge and binary, which are not here, use more of it"
)]
#[path = "../../../server/service/src/meters/mod.rs"]
mod meters;
#[expect(dead_code, unreachable_pub, reason = "the binary, which is not here, uses more of it")]
#[path = "../../../server/service/src/random.rs"]
mod random;
#[expect(dead_code, unreachable_pub, reason = "the edge, which is not here, uses more of it")]
#[path = "../../../server/service/src/settings.rs"]
mod settings;
#[expect(dead_code, unreachable_pub, reason = "the binary, which is not here, uses more of it")]
#[path = "../../../server/service/src/time.rs"]
mod time;
#[expect(dead_code, unreachable_pub, reason = "edge and binary, which are not here, use more of it")]
#[path = "../../../server/service/src/traces.rs"]
mod traces;

mod log;
mod memory;
mod reads;
mod scenery;
mod waiters;
