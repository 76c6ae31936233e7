//! Machines: each runs its software on a runtime of its own, by a clock of its own, and can lose it at any moment.
//!
//! Simulated time goes on in steps of a millisecond. In each, the network delivers what is due, and then every machine runs
//! until nothing is left for it to do. So what a machine does in a step can be seen by another in the next one at the
//! earliest; within a machine, tokio's paused clock governs every timer.

mod network;

pub use network::{Address, Detail, Listener, Network, Stream};

use futures::future::BoxFuture;
use leasehold_core::time::Timestamp;
use leasehold_service::time::{Clock, Moment};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// When the simulation begins, by a clock that is right: unix milliseconds.
pub const BEGIN: u64 = 1_800_000_000_000;

/// One step of time.
const STEP: Duration = Duration::from_millis(1);

/// Simulated time so far, in milliseconds, by nobody's clock. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Time(Arc<AtomicU64>);

impl Time {
    /// Since the beginning.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A machine's wall clock, which may be wrong; what has elapsed is right. Clones are the same one.
#[derive(Clone, Debug)]
pub struct WallClock {
    time: Time,
    wrong_by_ms: Arc<AtomicI64>,
}

impl WallClock {
    fn millis(&self) -> u64 {
        (BEGIN + self.time.now()).saturating_add_signed(self.wrong_by_ms.load(Ordering::Relaxed))
    }
}

impl Clock for WallClock {
    fn now(&self) -> Moment {
        Moment {
            wall: Timestamp::from_millis(self.millis()),
            elapsed: Duration::from_millis(self.time.now()),
        }
    }
}

impl aws_smithy_async::time::TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.millis())
    }
}

/// What software gets of the machine that it runs on.
#[derive(Clone)]
pub struct Context {
    /// The machine.
    pub address: Address,
    /// How often it was started before.
    pub boot: u64,
    /// Its own, different for every start.
    pub seed: u64,
    /// Its clock.
    pub clock: WallClock,
    /// The time by nobody's clock: to write histories by, and nothing else.
    pub time: Time,
    /// The network.
    pub network: Network,
    /// Told when the software is to end in order.
    pub shutdown: CancellationToken,
}

/// What runs on a machine: started anew at every start.
pub type Software = Box<dyn Fn(Context) -> BoxFuture<'static, ()>>;

/// All machines, their network, and the time.
pub struct Machines {
    /// Goes on with every [`Machines::step`].
    pub time: Time,
    /// Connects them.
    pub network: Network,
    seed: u64,
    machines: Vec<Machine>,
}

struct Machine {
    name: String,
    software: Software,
    boots: u64,
    wrong_by_ms: Arc<AtomicI64>,
    process: Option<Process>,
}

struct Process {
    runtime: Runtime,
    main: JoinHandle<()>,
    shutdown: CancellationToken,
    paused: bool,
    /// What its timers have to catch up with.
    slept: Duration,
}

impl Machines {
    /// None yet.
    pub fn new(seed: u64, network: Network) -> Self {
        Self { time: Time::default(), network, seed, machines: Vec::new() }
    }

    /// Adds a machine, without power yet.
    pub fn add(&mut self, name: impl Into<String>, software: Software) -> Address {
        let address = self.network.attach();
        let wrong_by_ms = Arc::default();
        self.machines.push(Machine { name: name.into(), software, boots: 0, wrong_by_ms, process: None });
        address
    }

    /// A machine's name.
    pub fn name(&self, at: Address) -> &str {
        &self.machines[at].name
    }

    /// Whether its software runs, or would if it were not paused.
    pub fn is_running(&self, at: Address) -> bool {
        self.machines[at].process.is_some()
    }

    /// Starts a machine that does not run.
    ///
    /// # Panics
    /// When there is no runtime.
    pub fn start(&mut self, at: Address) {
        let machine = &mut self.machines[at];
        if machine.process.is_some() {
            return;
        }
        self.network.light(at);
        let seed = derived(self.seed, &[at as u64, machine.boots]);
        let shutdown = CancellationToken::new();
        let context = Context {
            address: at,
            boot: machine.boots,
            seed,
            clock: WallClock { time: self.time.clone(), wrong_by_ms: machine.wrong_by_ms.clone() },
            time: self.time.clone(),
            network: self.network.clone(),
            shutdown: shutdown.clone(),
        };
        machine.boots += 1;
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true);
        #[cfg(tokio_unstable)]
        builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
        let runtime = builder.build().expect("a runtime");
        let main = runtime.spawn((machine.software)(context));
        machine.process = Some(Process { runtime, main, shutdown, paused: false, slept: Duration::ZERO });
    }

    /// The process dies, and the machine goes dark or refuses connections. Everything in memory is lost.
    pub fn kill(&mut self, at: Address, dark: bool) {
        let Some(process) = self.machines[at].process.take() else { return };
        // First, so that nothing that ends with the process says so.
        self.network.die(at, dark);
        drop(process);
    }

    /// Asks the software to end in order.
    pub fn ask_to_stop(&self, at: Address) {
        if let Some(process) = &self.machines[at].process {
            process.shutdown.cancel();
        }
    }

    /// Stops a process as SIGSTOP does, or lets it go on: then its timers find that time has passed.
    pub fn pause(&mut self, at: Address, paused: bool) {
        if let Some(process) = &mut self.machines[at].process {
            process.paused = paused;
        }
    }

    /// Sets a machine's clock wrong by so much.
    pub fn set_wrong(&self, at: Address, by_ms: i64) {
        self.machines[at].wrong_by_ms.store(by_ms, Ordering::Relaxed);
    }

    /// One millisecond. Returns the machines whose software has ended by itself.
    pub fn step(&mut self) -> Vec<Address> {
        let mut ended = Vec::new();
        self.network.carry(self.time.now());
        for at in 0..self.machines.len() {
            let Some(process) = &mut self.machines[at].process else { continue };
            if process.paused {
                process.slept += STEP;
                continue;
            }
            let slept = std::mem::take(&mut process.slept);
            process.runtime.block_on(async {
                if !slept.is_zero() {
                    tokio::time::advance(slept).await;
                }
                tokio::time::sleep(STEP).await;
            });
            if process.main.is_finished() {
                self.kill(at, false);
                ended.push(at);
            }
        }
        self.time.0.fetch_add(1, Ordering::Relaxed);
        ended
    }
}

/// A seed of its own for each of many purposes.
pub fn derived(seed: u64, purpose: &[u64]) -> u64 {
    // SplitMix64, over the purpose.
    purpose.iter().fold(seed, |state, part| {
        let mut z = (state ^ part.wrapping_mul(0xD134_2543_DE82_EF95)).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}
