//! Explores a focus, or all of them: `explore [--larger] [NAME...]`. Use it optimised: `cargo run --release`.

use leasehold_core::mutation;
use leasehold_model::focus::{ALL, Outcome, Size};
use std::process::ExitCode;

fn main() -> ExitCode {
    let (options, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let is_known = |name: &String| ALL.iter().any(|focus| focus.name == name);
    if !options.iter().all(|option| option == "--larger") || !names.iter().all(is_known) {
        eprintln!("usage: explore [--larger] [NAME...]");
        ALL.iter().for_each(|focus| eprintln!("    {:12} {}", focus.name, focus.about));
        return ExitCode::from(2);
    }
    let size = if options.is_empty() { Size::Usual } else { Size::Larger };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let _rules_hold = mutation::only(None);
    let mut code = ExitCode::SUCCESS;
    for focus in ALL.iter().filter(|focus| names.is_empty() || names.iter().any(|name| name == focus.name)) {
        let Outcome { states, steps, depth, counterexample, never } = focus.explore(size, threads);
        println!("{:12} {states:>11} states {steps:>12} steps {depth:>3} deep", focus.name);
        if let Some(counterexample) = counterexample {
            println!("{} {counterexample}", focus.name);
            code = ExitCode::FAILURE;
        }
        if !never.is_empty() {
            println!("{}: never happened: {never:?}", focus.name);
            code = ExitCode::FAILURE;
        }
    }
    code
}
