//! The coordinator as a program: its settings as flags and environment, its wiring, and the operator's
//! commands.
//!
//! - [`cli`]: the command line, from text to what is to be done.
//! - [`serve`]: a coordinator, from its first socket to its last byte, over the embedded store or DynamoDB and S3.
//! - [`access`]: who may call it.
//! - [`place`]: where a coordinator keeps its state.
//! - [`traces`]: where its spans go.
//! - [`prepare`]: what is done to a place without a coordinator.
//! - [`command`]: what operators ask of a coordinator that runs, through the public client.

pub mod access;
pub mod cli;
pub mod command;
pub mod place;
pub mod prepare;
pub mod serve;
pub mod traces;

mod admin;
mod banner;
mod exit;
mod flags;
mod incoming;
mod logs;
mod output;
mod quantity;
mod settings;
mod shape;
