//! What a seed decides: how many of everything there are, and what goes wrong when.

use crate::parts::services::{Kind, Trouble};
use leasehold_checker::history::Identity;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use std::collections::BTreeSet;

/// Faults begin before this, in milliseconds, and are over at it.
pub const FAULTS_END: u64 = 9_000;
/// From here on, everybody must be served: leases of before are over, and clients have found good connections.
pub const QUIET_FROM: u64 = 12_500;
/// In a world without faults: when everybody has started.
pub const STARTED: u64 = 500;
/// Nothing new is asked from here on.
pub const LOAD_ENDS: u64 = 16_000;
/// What was asked is answered by then.
pub const ALL_ENDS: u64 = 27_000;

/// A seed's world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many coordinators.
    pub coordinators: usize,
    /// How many machines of workers.
    pub workers: usize,
    /// How many machines of readers.
    pub readers: usize,
    /// What is asked for.
    pub entries: Vec<Identity>,
    /// By how much each coordinator's clock is wrong at first, in milliseconds.
    pub clocks: Vec<i64>,
    /// The most by which two of their clocks are ever apart.
    pub clocks_apart: u64,
    /// What goes wrong, by when it begins.
    pub faults: Vec<(u64, Fault)>,
}

/// A machine by its role, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A coordinator.
    Coordinator(usize),
    /// A machine of workers.
    Worker(usize),
    /// A machine of readers.
    Reader(usize),
    /// The editor's.
    Editor,
    /// DynamoDB's.
    DynamoDb,
    /// S3's.
    S3,
}

/// Something that goes wrong. Times are in milliseconds.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A process dies, or a machine loses power, and is back after a while.
    Crash {
        /// Whose.
        who: Who,
        /// Whether nothing is heard of the machine meanwhile.
        dark: bool,
        /// After so long.
        back_after: u64,
    },
    /// A process does not run for a while.
    Pause {
        /// Whose.
        who: Who,
        /// So long.
        lasting: u64,
    },
    /// Nothing is carried between two machines for a while.
    Cut {
        /// From here
        from: Who,
        /// to there,
        to: Who,
        /// and back as well.
        both_ways: bool,
        /// So long.
        lasting: u64,
    },
    /// Everything between two machines takes longer for a while.
    Slow {
        /// From here to there,
        from: Who,
        /// and back.
        to: Who,
        /// By so much.
        by: u64,
        /// So long.
        lasting: u64,
    },
    /// A coordinator's clock is set.
    Clock {
        /// Which one's.
        coordinator: usize,
        /// So wrong.
        wrong_by: i64,
    },
    /// Coordinators are replaced one after the other.
    Deploy {
        /// With so long between two.
        every: u64,
    },
    /// DynamoDB and S3 are in trouble for a while, for one coordinator or for all.
    Services {
        /// For this one alone.
        coordinator: Option<usize>,
        /// In what way.
        trouble: Trouble,
        /// So long.
        lasting: u64,
    },
    /// Requests to the services arrive twice for a while.
    Duplicates {
        /// Of a thousand, so many.
        per_mille: u32,
        /// The second time so much later at most.
        within: u64,
        /// So long.
        lasting: u64,
    },
}

impl Plan {
    /// From when on everybody must be served.
    pub fn quiet_from(&self) -> u64 {
        if self.faults.is_empty() { STARTED } else { QUIET_FROM }
    }

    /// That of a seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let coordinators = rng.random_range(2..=4);
        let workers = rng.random_range(3..=6);
        let readers = rng.random_range(1..=2);
        let entries = entries(&mut rng);
        let wrong: i64 = [0, 40, 100, 2_000].choose(&mut rng).copied().unwrap_or(0);
        let clocks = (0..coordinators).map(|_| rng.random_range(-wrong..=wrong)).collect();
        let mut plan = Self {
            coordinators,
            workers,
            readers,
            entries,
            clocks,
            clocks_apart: 2 * wrong.unsigned_abs(),
            faults: Vec::new(),
        };
        // Some worlds have no faults: what is found there is no fault's fault.
        let many = [0, 4, 10, 10, 20, 20, 35].choose(&mut rng).copied().unwrap_or(0);
        if many == 0 {
            plan.clocks.fill(0);
            plan.clocks_apart = 0;
        }
        for _ in 0..many {
            let at = rng.random_range(200..FAULTS_END - 100);
            let fault = plan.a_fault(&mut rng, wrong);
            plan.faults.push((at, fault));
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    fn a_fault(&self, rng: &mut StdRng, wrong: i64) -> Fault {
        let coordinator = rng.random_range(0..self.coordinators);
        let worker = Who::Worker(rng.random_range(0..self.workers));
        let lasting = *[50, 200, 600, 1_500, 3_000].choose(rng).unwrap_or(&50);
        let lasting = rng.random_range(lasting / 2..=lasting);
        match rng.random_range(0..20) {
            0 | 1 => {
                Fault::Crash { who: Who::Coordinator(coordinator), dark: rng.random(), back_after: lasting }
            }
            2 => Fault::Crash { who: worker, dark: rng.random(), back_after: lasting },
            3 => {
                let who =
                    if rng.random() { Who::Editor } else { Who::Reader(rng.random_range(0..self.readers)) };
                Fault::Crash { who, dark: rng.random(), back_after: lasting }
            }
            4 | 5 => Fault::Pause { who: Who::Coordinator(coordinator), lasting },
            6 | 7 => Fault::Pause { who: worker, lasting },
            8 | 9 => {
                let service = if rng.random() { Who::DynamoDb } else { Who::S3 };
                let ends = (Who::Coordinator(coordinator), service);
                let (from, to) = if rng.random() { ends } else { (ends.1, ends.0) };
                Fault::Cut { from, to, both_ways: rng.random(), lasting }
            }
            10 | 11 => {
                let who = match rng.random_range(0..4) {
                    0 | 1 => worker,
                    2 => Who::Editor,
                    _ => Who::Reader(rng.random_range(0..self.readers)),
                };
                let ends = (who, Who::Coordinator(coordinator));
                let (from, to) = if rng.random() { ends } else { (ends.1, ends.0) };
                Fault::Cut { from, to, both_ways: rng.random(), lasting }
            }
            12 => {
                let from = match rng.random_range(0..4) {
                    0 | 1 => worker,
                    2 => Who::DynamoDb,
                    _ => Who::S3,
                };
                Fault::Slow { from, to: Who::Coordinator(coordinator), by: rng.random_range(5..150), lasting }
            }
            13 => Fault::Clock { coordinator, wrong_by: rng.random_range(-wrong..=wrong) },
            14 => Fault::Deploy { every: rng.random_range(50..800) },
            15..=17 => {
                let kinds = match rng.random_range(0..5) {
                    0 | 1 => BTreeSet::from(Kind::ALL),
                    2 | 3 => BTreeSet::from_iter(Kind::ALL.choose(rng).copied()),
                    // Everything is done, and what is told may be old.
                    _ => BTreeSet::from([Kind::DelayAnswer]),
                };
                let per_mille = *[20, 100, 300, 1_000].choose(rng).unwrap_or(&20);
                let coordinator = (!rng.random_bool(0.3)).then_some(coordinator);
                Fault::Services { coordinator, trouble: Trouble { per_mille, kinds }, lasting }
            }
            _ => Fault::Duplicates {
                per_mille: rng.random_range(20..300),
                within: rng.random_range(1..1_500),
                lasting,
            },
        }
    }
}

/// A few entries that differ in as little as entries can.
fn entries(rng: &mut StdRng) -> Vec<Identity> {
    let all = [
        ("acme", None, "acme::/a?", "/blog/a"),
        ("acme", None, "acme::/b?", "/blog/b"),
        ("acme", Some("v2"), "acme::/a?", "/blog/a"),
        ("zen", None, "acme::/a?", "/blog/a"),
        ("zen", None, "zen::/c?", "/blogs"),
    ];
    let mut entries: Vec<_> = all
        .into_iter()
        .filter(|_| rng.random_bool(0.7))
        .map(|(tenant, deployment, key, path): (&str, Option<&str>, &str, &str)| Identity {
            tenant: tenant.into(),
            deployment: deployment.map(Into::into),
            key: key.into(),
            path: path.into(),
        })
        .collect();
    if entries.is_empty() {
        entries.push(Identity {
            tenant: "acme".into(),
            deployment: None,
            key: "acme::/a?".into(),
            path: "/blog/a".into(),
        });
    }
    entries
}

impl Fault {
    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crash { who: Who::Coordinator(_), dark: false, .. } => "coordinator's process dies",
            Self::Crash { who: Who::Coordinator(_), dark: true, .. } => "coordinator loses power",
            Self::Crash { who: Who::Worker(_), .. } => "worker dies",
            Self::Crash { who: Who::Editor, .. } => "editor dies",
            Self::Crash { .. } => "reader dies",
            Self::Pause { who: Who::Coordinator(_), .. } => "coordinator is paused",
            Self::Pause { .. } => "worker is paused",
            Self::Cut { from, to, both_ways, .. } => match (service_of([*from, *to]), both_ways) {
                (Some(Who::DynamoDb), true) => "coordinator and DynamoDB are cut off",
                (Some(Who::DynamoDb), false) => "coordinator and DynamoDB hear one way only",
                (Some(_), true) => "coordinator and S3 are cut off",
                (Some(_), false) => "coordinator and S3 hear one way only",
                (None, true) => "client and coordinator are cut off",
                (None, false) => "client and coordinator hear one way only",
            },
            Self::Slow { from, to, .. } => match service_of([*from, *to]) {
                Some(Who::DynamoDb) => "DynamoDB is slow",
                Some(_) => "S3 is slow",
                None => "client is slow",
            },
            Self::Clock { .. } => "clock is set",
            Self::Deploy { .. } => "coordinators are replaced in turn",
            Self::Services { .. } => "services are in trouble",
            Self::Duplicates { .. } => "requests arrive twice",
        }
    }

    /// Every name.
    pub const NAMES: [&str; 20] = [
        "coordinator's process dies",
        "coordinator loses power",
        "worker dies",
        "editor dies",
        "reader dies",
        "coordinator is paused",
        "worker is paused",
        "coordinator and DynamoDB are cut off",
        "coordinator and DynamoDB hear one way only",
        "coordinator and S3 are cut off",
        "coordinator and S3 hear one way only",
        "client and coordinator are cut off",
        "client and coordinator hear one way only",
        "DynamoDB is slow",
        "S3 is slow",
        "client is slow",
        "clock is set",
        "coordinators are replaced in turn",
        "services are in trouble",
        "requests arrive twice",
    ];
}

/// The service at one of these ends.
fn service_of(ends: [Who; 2]) -> Option<Who> {
    ends.into_iter().find(|who| matches!(who, Who::DynamoDb | Who::S3))
}
