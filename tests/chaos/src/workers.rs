//! Processes of workers, seen from the driver.

use crate::{
    clock::Clock,
    history::journal_of,
    setting::{LONGEST_END, Part},
};
use leasehold_fleet::Process;
use leasehold_sim::machine::derived;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// A process that is started again after each of its deaths. Each life has a journal of its own.
pub(crate) struct Workers {
    name: String,
    part: Part,
    seed: u64,
    clock: Clock,
    coordinators: Vec<SocketAddr>,
    folder: PathBuf,
    lives: u64,
    process: Process,
}

impl Workers {
    /// In its first life.
    pub(crate) fn new(
        part: Part,
        number: u64,
        seed: u64,
        clock: Clock,
        coordinators: &[SocketAddr],
        folder: &Path,
    ) -> Self {
        let name = format!("{} {number}", part.name());
        let seed = derived(seed, &[part as u64, number]);
        let process = start(&name, 0, part, seed, clock, coordinators, folder);
        let (coordinators, folder) = (coordinators.to_vec(), folder.to_owned());
        Self { name, part, seed, clock, coordinators, folder, lives: 1, process }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Again, after it has died.
    pub(crate) fn start(&mut self) {
        let Self { name, part, seed, clock, coordinators, folder, lives, .. } = self;
        self.process = start(name, *lives, *part, *seed, *clock, coordinators, folder);
        self.lives += 1;
    }

    /// Lets it finish what it has begun. `Err` with the name of this life, where it does not come to an end.
    pub(crate) async fn finish(&mut self) -> Result<(), String> {
        self.process.let_go();
        let ending = tokio::time::timeout(LONGEST_END, self.process.ended(2 * LONGEST_END));
        match ending.await {
            Ok(status) => {
                assert!(status.success(), "{}: {status}", self.name);
                Ok(())
            }
            Err(_) => {
                self.process.kill();
                Err(life(&self.name, self.lives - 1))
            }
        }
    }
}

fn life(name: &str, number: u64) -> String {
    format!("{name}, life {number}")
}

fn start(
    name: &str,
    number: u64,
    part: Part,
    seed: u64,
    clock: Clock,
    coordinators: &[SocketAddr],
    folder: &Path,
) -> Process {
    let name = life(name, number);
    let program = std::env::current_exe().unwrap_or_else(|error| panic!("no program to start: {error}"));
    let mut command = Command::new(program);
    command.args(["worker", "--name", &name, "--part", part.name()]);
    command.args(["--seed", &derived(seed, &[number]).to_string(), "--began", &clock.began().to_string()]);
    command.arg("--journal").arg(folder.join(journal_of(&name)));
    command.args(coordinators.iter().map(SocketAddr::to_string));
    Process::start_held(name, &mut command)
}
