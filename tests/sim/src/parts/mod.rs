//! The software of the machines: what is put under test, and what it stands on.

pub mod client;
pub mod coordinator;
pub mod services;
pub mod sweeper;
