//! The gRPC edge: wire types in and out, deadlines, limits, and errors as gRPC users expect them.

mod admission;
mod body_stream;
pub(crate) mod calls;
mod deadline;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod parse;
mod places;
mod render;
mod rpc;
mod shares;
mod streams;
mod while_read;

pub(crate) use error::EdgeError;
pub use rpc::Edge;
pub use streams::LookupAnswers;
pub use while_read::WhileRead;
