//! What goes wrong: each coordinator and each process of workers has a deck of troubles of its own, and draws one after the other.

use crate::{clock::Clock, workers::Workers};
use leasehold_aws::testing::{Fault, Rule};
use leasehold_checker::history::Time;
use leasehold_fleet::Node;
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _, seq::SliceRandom as _};
use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// Every trouble, by its name in the summary.
pub(crate) const ALL: [&str; 9] =
    [KILL, KILL_PAUSED, STOP, PAUSE, CUT, STORES, KILL_WORKERS, KILL_PAUSED_WORKERS, PAUSE_WORKERS];

const KILL: &str = "coordinator is killed";
const KILL_PAUSED: &str = "coordinator is killed while it is paused";
const STOP: &str = "coordinator is asked to stop";
const PAUSE: &str = "coordinator is paused";
const CUT: &str = "coordinator is cut off from the table";
const STORES: &str = "stores fail a coordinator";
const KILL_WORKERS: &str = "workers are killed";
const KILL_PAUSED_WORKERS: &str = "workers are killed while they are paused";
const PAUSE_WORKERS: &str = "workers are paused";

/// What a coordinator draws from: what hits hardest is there more than once.
const OF_A_COORDINATOR: [&str; 11] =
    [KILL, KILL, KILL, KILL_PAUSED, STOP, PAUSE, PAUSE, PAUSE, CUT, STORES, STORES];
const OF_WORKERS: [&str; 6] =
    [KILL_WORKERS, KILL_WORKERS, KILL_PAUSED_WORKERS, PAUSE_WORKERS, PAUSE_WORKERS, PAUSE_WORKERS];
/// What stores do to a request.
const OF_STORES: [Fault; 10] = [
    Fault::Refuse,
    Fault::Throttle,
    Fault::Deny,
    Fault::FailBefore,
    Fault::FailAfter,
    Fault::HangBefore,
    Fault::HangAfter,
    Fault::DropAnswer,
    Fault::Garble,
    Fault::DelayAnswer(Duration::from_millis(400)),
];

/// Not drawn, but what a busy machine may do.
const STARTED_AGAIN: &str = "coordinator is started again, as its store did not answer in time";
/// So often in a row it is started at most.
const MOST_STARTS: u32 = 5;
/// What it ends with then; with other words where what it was answered is damaged, or no answer.
const SILENT_STORE: [&str; 2] = ["the store does not answer", "the store is unavailable"];
/// The same, before it has looked at the log.
const SILENT_AWS: &str = "AWS did not answer within";

/// Where the troubles of a run are, in its folder.
pub(crate) const LOG: &str = "troubles";

/// The troubles so far.
pub(crate) struct Log {
    clock: Clock,
    lines: Mutex<(File, BTreeMap<String, u64>)>,
}

impl Log {
    /// On to a new file in the folder of the run.
    pub(crate) fn new(folder: &Path, clock: Clock) -> anyhow::Result<Self> {
        let file = File::create_new(folder.join(LOG))?;
        Ok(Self { clock, lines: Mutex::new((file, BTreeMap::new())) })
    }

    /// How often each happened.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.lines.lock().1.clone()
    }

    pub(crate) fn note(&self, what: std::fmt::Arguments<'_>) {
        let at = self.clock.now();
        // It is for people, and what it would tell is in the journals too.
        let _ = writeln!(self.lines.lock().0, "{at:>8} {what}");
    }

    fn begins(&self, who: &str, trouble: &'static str) {
        self.note(format_args!("{who}: {trouble}"));
        *self.lines.lock().1.entry(trouble.to_owned()).or_default() += 1;
    }
}

/// Draws from a deck until it is used up, then from it anew: so each trouble is sure to come.
struct Deck {
    all: &'static [&'static str],
    left: Vec<&'static str>,
    rng: StdRng,
}

impl Deck {
    fn new(all: &'static [&'static str], seed: u64) -> Self {
        Self { all, left: Vec::new(), rng: StdRng::seed_from_u64(seed) }
    }

    fn draw(&mut self) -> &'static str {
        if self.left.is_empty() {
            self.left = self.all.to_vec();
            self.left.shuffle(&mut self.rng);
        }
        self.left.pop().unwrap_or_default()
    }

    fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(least..=most))
    }

    /// From tens of milliseconds to five of the longest leases.
    fn a_pause(&mut self) -> Duration {
        let longest = [60, 300, 1_000, 2_000, 4_000].choose(&mut self.rng).copied().unwrap_or(60);
        self.between(longest / 2, longest)
    }
}

/// A coordinator, and what it has printed in all of its lives.
pub(crate) struct Doomed {
    name: String,
    node: Node,
    output: PathBuf,
    /// What its tasks panicked with.
    pub(crate) panics: Vec<String>,
    /// How it ended where nobody ended it.
    pub(crate) deaths: Vec<String>,
}

impl Doomed {
    pub(crate) fn new(name: String, node: Node, folder: &Path) -> Self {
        let output = folder.join(format!("{name}.log"));
        Self { name, node, output, panics: Vec::new(), deaths: Vec::new() }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Goes from one trouble to the next until this time. When it returns, all is well with it.
    pub(crate) async fn suffer(&mut self, seed: u64, until: Time, log: &Log) {
        let mut deck = Deck::new(&OF_A_COORDINATOR, seed);
        loop {
            tokio::time::sleep(deck.between(200, 2_500)).await;
            if log.clock.now() >= until {
                return;
            }
            if self.has_died() {
                self.die(&mut deck, log).await;
            }
            let trouble = deck.draw();
            log.begins(&self.name, trouble);
            match trouble {
                KILL => self.die(&mut deck, log).await,
                KILL_PAUSED => {
                    self.node.coordinator.process().freeze();
                    tokio::time::sleep(deck.a_pause()).await;
                    self.die(&mut deck, log).await;
                }
                STOP => {
                    self.node.coordinator.terminate();
                    self.node.coordinator.ended(Duration::from_secs(60)).await;
                    self.die(&mut deck, log).await;
                }
                PAUSE => {
                    self.node.coordinator.process().freeze();
                    tokio::time::sleep(deck.a_pause()).await;
                    self.node.coordinator.process().thaw();
                }
                CUT => {
                    self.node.cut_off_from_dynamodb();
                    tokio::time::sleep(deck.a_pause()).await;
                    self.node.reconnect();
                }
                STORES => {
                    for _ in 0..deck.rng.random_range(1..=6) {
                        let fault = OF_STORES.choose(&mut deck.rng).cloned().unwrap_or(Fault::Refuse);
                        let times = deck.rng.random_range(1..=4);
                        self.node.network.faults.add(Rule::on_any(fault).times(times));
                    }
                    tokio::time::sleep(deck.a_pause()).await;
                    self.node.reconnect();
                }
                other => unreachable!("{other} is not a coordinator's"),
            }
            log.note(format_args!("{}: all is well", self.name));
        }
    }

    /// For good.
    pub(crate) fn end(&mut self) {
        self.has_died();
        self.kill();
    }

    /// Whether it has ended by itself: a complaint.
    fn has_died(&mut self) -> bool {
        let ended = self.node.coordinator.process().has_ended();
        self.deaths.extend(ended.map(|status| format!("{}: {status}", self.name)));
        ended.is_some()
    }

    fn kill(&mut self) {
        self.node.coordinator.process().kill();
        self.keep_output();
    }

    async fn die(&mut self, deck: &mut Deck, log: &Log) {
        self.kill();
        tokio::time::sleep(deck.between(0, 1_000)).await;
        // As whoever watches over it does: one whose store did not answer in time, as on a busy machine, ends again.
        for _ in 1..MOST_STARTS {
            let Err(status) = self.node.coordinator.try_restart().await else { return };
            self.kill();
            let output = self.node.coordinator.process().output();
            let was_silent = |line: &String| {
                SILENT_STORE.iter().all(|part| line.contains(part)) || line.contains(SILENT_AWS)
            };
            assert!(output.iter().any(was_silent), "{} ended before it listened: {status}", self.name);
            log.begins(&self.name, STARTED_AGAIN);
        }
        self.node.coordinator.restart().await;
    }

    fn keep_output(&mut self) {
        let lines = self.node.coordinator.process().output();
        let file = File::options().create(true).append(true).open(&self.output);
        // For people; what counts is looked for here.
        let _ = file.and_then(|mut file| writeln!(file, "{}\n--- gone", lines.join("\n")));
        self.panics.extend(lines.into_iter().filter(|line| line.contains("panicked at")));
    }
}

/// Lets a process of workers go from one trouble to the next until this time.
pub(crate) async fn plague(workers: &mut Workers, seed: u64, until: Time, log: &Log) {
    let mut deck = Deck::new(&OF_WORKERS, seed);
    loop {
        tokio::time::sleep(deck.between(500, 4_000)).await;
        if log.clock.now() >= until {
            return;
        }
        if let Some(status) = workers.process().has_ended() {
            panic!("{} ended by themselves: {status}", workers.name());
        }
        let trouble = deck.draw();
        log.begins(workers.name(), trouble);
        if trouble != KILL_WORKERS {
            workers.process().freeze();
            tokio::time::sleep(deck.a_pause()).await;
        }
        if trouble == PAUSE_WORKERS {
            workers.process().thaw();
        } else {
            workers.process().kill();
            tokio::time::sleep(deck.between(0, 800)).await;
            workers.start();
        }
        log.note(format_args!("{}: all is well", workers.name()));
    }
}
