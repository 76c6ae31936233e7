//! Generates the Rust of the bare echo, with a protobuf compiler that is a crate: nothing to install. Notes
//! the Rust compiler for the report.

use std::{env, process::Command};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let echo = "leasehold/bench/v1/echo.proto";
    println!("cargo:rerun-if-changed=proto/{echo}");
    let descriptors = protox::compile([echo], ["proto"])?;
    tonic_prost_build::configure().bytes(".leasehold.bench.v1").compile_fds(descriptors)?;
    let rustc = Command::new(env::var("RUSTC")?).arg("--version").output()?;
    println!("cargo:rustc-env=LEASEHOLD_BENCH_RUSTC={}", String::from_utf8(rustc.stdout)?.trim());
    Ok(())
}
