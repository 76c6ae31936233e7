//! The adapters on doubles in the process, behind the real SDK.

mod budget;
mod conformance;
mod damage;
mod faults;
mod preflight;
mod rows;
mod sockets;
mod sweep;
