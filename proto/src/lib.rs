//! The wire contract of Leasehold, `leasehold.v1`, and its generated Rust. The contract's own comments are in
//! `leasehold/v1/coordinator.proto` and come along as the documentation of each item here.

/// Package `leasehold.v1`.
#[allow(missing_docs, clippy::large_enum_variant, clippy::doc_markdown, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("leasehold.v1");

    /// The serialised file descriptors of the contract, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/leasehold.v1.descriptors.bin"));
}

/// The domain of every google.rpc.ErrorInfo that the coordinator sends.
pub const ERROR_DOMAIN: &str = "leasehold";
