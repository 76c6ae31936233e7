//! The coordinator as a service: the engine, which keeps what is known of entries and of the invalidation log and carries
//! out what the core decides, and the gRPC edge in front of it.

pub mod access;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod connections;
pub mod edge;
pub mod engine;
mod lines;
pub mod meters;
pub mod random;
pub mod server;
pub mod settings;
pub mod time;
pub mod traces;

#[cfg(test)]
mod tests {
    mod embedded_store_through_the_wire {
        crate::wire_conformance_suite!(leasehold_store::conformance::EmbeddedFixture::new(
            tempfile::tempdir().unwrap()
        ));
    }
}
