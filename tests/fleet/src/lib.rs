//! Fleets of real processes on loopback sockets: the harness of this crate's tests.
//!
//! A test starts coordinators and site workers, does to them what happens to processes (killed, frozen, told
//! to stop), and asks through the Rust client or over HTTP what became of the pages. Nothing needs to be
//! installed: the binaries are built by the cargo that runs the tests. Tests wait for events, run in
//! parallel, and end only what they started.

mod binaries;
mod clock;
mod coordinator;
mod front;
mod lambda;
mod nodes;
mod process;
mod site;
mod wait;

pub use clock::{now, since};
pub use coordinator::{CoordinatorProcess, Program};
pub use front::Front;
pub use lambda::{LambdaAnswer, LambdaProcess};
pub use nodes::Node;
pub use process::Process;
pub use site::{Answer, SiteOptions, SiteProcess, Visitor};
pub use wait::until;
