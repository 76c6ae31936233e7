//! The coordinator and its operator's commands: the command line goes in, an exit code comes out.

use leasehold::cli::{self, Invocation};
use std::process::ExitCode;

/// musl's own is several times slower under many threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let invocation = match cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(refused) => return refused.report(),
    };
    match invocation {
        Invocation::Serve(config) => leasehold::serve::to_the_end(*config),
        Invocation::Prepare(preparation) => leasehold::prepare::run_to_the_end(*preparation),
        Invocation::Operate(command) => leasehold::command::run_to_the_end(*command),
    }
}
