//! The program as its users meet it: the real binary, on a directory and a port of its own.

#![cfg(unix)]
#![allow(missing_docs, reason = "tests are named by what they show")]

mod admin;
mod commands;
mod connections;
mod explain;
mod metrics;
mod prepare;
mod process;
mod start;
mod stop;
mod traces;
