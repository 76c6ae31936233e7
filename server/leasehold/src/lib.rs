//! The coordinator as a program: its settings as flags and environment, its wiring, and the operator's
//! commands.
//!
//! - [`cli`]: the command line, from text to what is to be done.
//! - [`serve`]: a coordinator over the embedded store, from its first socket to its last byte.
//! - [`command`]: what operators ask of a coordinator that runs, through the public client.

pub mod cli;
pub mod command;
pub mod serve;

mod banner;
mod exit;
mod flags;
mod logs;
mod output;
mod quantity;
mod settings;
mod shape;
