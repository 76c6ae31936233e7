//! Generates the Rust from the contract, with a protobuf compiler that is a crate: nothing to install.

use prost::Message as _;
use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let contract = "leasehold/v1/coordinator.proto";
    println!("cargo:rerun-if-changed={contract}");
    let descriptors = protox::compile([contract], ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("leasehold.v1.descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".leasehold.v1")
        // Seldom asked for, and large: every lookup would move it about.
        .boxed(".leasehold.v1.LookupResponse.state")
        .compile_fds(descriptors)?;
    Ok(())
}
