//! One seed's world, from its first step to its history.

use crate::{
    checker::history::{Audited, History, Terms},
    load::{LONGEST_CALM_RENDER, LONGEST_LEASE, Load},
    machine::{Address, Machines},
    parts::{
        coordinator::{self, STALENESS_BOUND},
        services::{self, Kind, Services, Whereabouts},
    },
    plan::{ALL_ENDS, FAULTS_END, Fault, LOAD_ENDS, Plan, QUIET_FROM, Who},
    recorder::{Recorder, millis},
    stage::Stage,
    trace::Trace,
};
use leasehold_aws::testing::Doubles;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// What rounding to steps, and packets under way, may add to any deadline, in milliseconds.
const SLACK: u64 = 60;

/// What a run leaves behind.
pub struct Ran {
    /// What was asked and answered.
    pub history: History,
    /// How often each fault happened, by name.
    pub faults: BTreeMap<String, u64>,
}

/// Runs a plan to its end.
pub fn run(seed: u64, plan: &Plan, trace: &Trace) -> Ran {
    let mut world = World::build(seed, plan, trace);
    world.live();
    world.audit()
}

struct World<'a> {
    plan: &'a Plan,
    machines: Machines,
    services: Services,
    load: Load,
    recorder: Recorder,
    whereabouts: Whereabouts,
    coordinators: Vec<Address>,
    workers: Vec<Address>,
    readers: Vec<Address>,
    editor: Address,
    /// What is to be done later, by when.
    later: BTreeMap<u64, Vec<Then>>,
    /// So many faults keep a link cut, and so on: the last one to end undoes it.
    cuts: BTreeMap<(Address, Address), u32>,
    slowed: BTreeMap<(Address, Address), u32>,
    pauses: BTreeMap<Address, u32>,
    down: BTreeSet<Address>,
    faults: BTreeMap<String, u64>,
}

#[derive(Clone, Debug)]
enum Then {
    Start(Address),
    Resume(Address),
    Join(Address, Address),
    Hasten(Address, Address),
    Stop(Address),
    Mend(Option<Address>),
    Once,
}

impl<'a> World<'a> {
    fn build(seed: u64, plan: &'a Plan, trace: &Trace) -> Self {
        let Stage { mut machines, services, whereabouts, coordinators } =
            Stage::new(seed, &plan.clocks, trace);
        let terms = Terms {
            staleness_bound: millis(STALENESS_BOUND),
            clocks_apart: plan.clocks_apart,
            slack: SLACK,
            longest_lease: LONGEST_LEASE,
            longest_render: LONGEST_CALM_RENDER,
            deletion_grace: millis(coordinator::settings().deletion_grace),
        };
        let history = History {
            entries: plan.entries.clone(),
            terms,
            quiet_from: Some(QUIET_FROM),
            ..History::default()
        };
        let recorder = Recorder::new(history, machines.time.clone(), trace.clone());
        let load = Load::new(plan.entries.clone(), coordinators.clone(), recorder.clone());
        let workers: Vec<_> = (0..plan.workers)
            .map(|number| machines.add(format!("worker {number}"), load.worker(2)))
            .collect();
        let readers: Vec<_> =
            (0..plan.readers).map(|number| machines.add(format!("reader {number}"), load.reader())).collect();
        let editor = machines.add("editor", load.editor());
        for machine in workers.iter().chain(&readers).chain([&editor]) {
            machines.start(*machine);
        }
        Self {
            plan,
            machines,
            services,
            load,
            recorder,
            whereabouts,
            coordinators,
            workers,
            readers,
            editor,
            later: BTreeMap::new(),
            cuts: BTreeMap::new(),
            slowed: BTreeMap::new(),
            pauses: BTreeMap::new(),
            down: BTreeSet::new(),
            faults: BTreeMap::new(),
        }
    }

    fn live(&mut self) {
        let mut faults = self.plan.faults.iter().peekable();
        loop {
            let now = self.machines.time.now();
            while let Some((at, fault)) = faults.peek()
                && *at <= now
            {
                faults.next();
                self.begin(*at, fault);
            }
            if now == FAULTS_END {
                self.end_all_faults();
            }
            if now == LOAD_ENDS {
                self.load.finish();
            }
            for then in self.later.remove(&now).unwrap_or_default() {
                self.carry_out(then);
            }
            if now >= ALL_ENDS || (now > LOAD_ENDS && self.is_at_rest()) {
                return;
            }
            self.step();
        }
    }

    /// A step of time, after which who has ended is started again.
    fn step(&mut self) {
        for paused in self.pauses.keys() {
            self.recorder.slept(*paused, 1);
        }
        for ended in self.machines.step() {
            self.recorder.died(ended);
            if self.coordinators.contains(&ended) {
                self.recorder.note(format_args!("{ended} has ended"));
                self.pauses.remove(&ended);
                self.at(self.machines.time.now() + 20, Then::Start(ended));
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        let asking = self.workers.iter().chain(&self.readers).chain([&self.editor]);
        asking.into_iter().all(|machine| !self.machines.is_running(*machine))
    }

    fn begin(&mut self, at: u64, fault: &Fault) {
        self.recorder.note(format_args!("fault {fault:?}"));
        *self.faults.entry(fault.name().to_owned()).or_default() += 1;
        match fault {
            Fault::Crash { who, dark, back_after } => {
                let machine = self.address(*who);
                self.machines.kill(machine, *dark);
                self.recorder.died(machine);
                self.pauses.remove(&machine);
                self.down.insert(machine);
                self.at(at + back_after, Then::Start(machine));
            }
            Fault::Pause { who, lasting } => {
                let machine = self.address(*who);
                if self.machines.is_running(machine) {
                    *self.pauses.entry(machine).or_default() += 1;
                    self.machines.pause(machine, true);
                    self.at(at + lasting, Then::Resume(machine));
                }
            }
            Fault::Cut { from, to, both_ways, lasting } => {
                let (from, to) = (self.address(*from), self.address(*to));
                let ways = if *both_ways { vec![(from, to), (to, from)] } else { vec![(from, to)] };
                for (from, to) in ways {
                    *self.cuts.entry((from, to)).or_default() += 1;
                    self.machines.network.block(from, to, true);
                    self.at(at + lasting, Then::Join(from, to));
                }
            }
            Fault::Slow { from, to, by, lasting } => {
                let (from, to) = (self.address(*from), self.address(*to));
                for (from, to) in [(from, to), (to, from)] {
                    *self.slowed.entry((from, to)).or_default() += 1;
                    self.machines.network.slow_down(from, to, *by);
                    self.at(at + lasting, Then::Hasten(from, to));
                }
            }
            Fault::Clock { coordinator, wrong_by } => {
                self.machines.set_wrong(self.coordinators[*coordinator], *wrong_by);
            }
            Fault::Deploy { every } => {
                for (number, coordinator) in self.coordinators.clone().into_iter().enumerate() {
                    self.at(at + 1 + every * number as u64, Then::Stop(coordinator));
                }
            }
            Fault::Services { coordinator, trouble, lasting } => {
                let only = coordinator.map(|number| self.coordinators[number]);
                self.services.trouble(only, trouble.clone());
                self.at(at + lasting, Then::Mend(only));
            }
            Fault::Duplicates { per_mille, within, lasting } => {
                self.services.duplicate(*per_mille, *within);
                self.at(at + lasting, Then::Once);
            }
        }
    }

    fn carry_out(&mut self, then: Then) {
        self.recorder.note(format_args!("{then:?}"));
        match then {
            Then::Start(machine) => {
                self.down.remove(&machine);
                self.machines.start(machine);
            }
            Then::Resume(machine) => {
                if is_last(&mut self.pauses, &machine) {
                    self.machines.pause(machine, false);
                }
            }
            Then::Join(from, to) => {
                if is_last(&mut self.cuts, &(from, to)) {
                    self.machines.network.block(from, to, false);
                }
            }
            Then::Hasten(from, to) => {
                if is_last(&mut self.slowed, &(from, to)) {
                    self.machines.network.slow_down(from, to, 0);
                }
            }
            Then::Stop(machine) => self.machines.ask_to_stop(machine),
            Then::Mend(only) => self.services.trouble(only, services::Trouble::default()),
            Then::Once => self.services.duplicate(0, 0),
        }
    }

    /// From here on, nothing goes wrong any more, and no render fails.
    fn end_all_faults(&mut self) {
        self.load.calm_down();
        self.services.recover();
        for coordinator in &self.coordinators {
            self.machines.set_wrong(*coordinator, 0);
        }
        for (_, thens) in std::mem::take(&mut self.later) {
            for then in thens {
                if !matches!(then, Then::Stop(_)) {
                    self.carry_out(then);
                }
            }
        }
    }

    fn at(&mut self, time: u64, then: Then) {
        self.later.entry(time).or_default().push(then);
    }

    fn address(&self, who: Who) -> Address {
        match who {
            Who::Coordinator(number) => self.coordinators[number],
            Who::Worker(number) => self.workers[number],
            Who::Reader(number) => self.readers[number],
            Who::Editor => self.editor,
            Who::DynamoDb => self.whereabouts.dynamodb,
            Who::S3 => self.whereabouts.s3,
        }
    }

    /// Looks at what is left, from outside and in the stores.
    fn audit(mut self) -> Ran {
        // Whatever is to be deleted is deleted by then.
        for _ in 0..2 * millis(coordinator::settings().deletion_grace) {
            self.step();
        }
        let auditor = self.machines.add("auditor", self.load.auditor());
        self.machines.start(auditor);
        let patience = self.machines.time.now() + 60_000;
        while self.machines.is_running(auditor) && self.machines.time.now() < patience {
            self.step();
        }
        let mut history = self.recorder.history();
        history.ended = self.machines.time.now();
        history.audit = rows(&self.services);
        let mut faults = self.faults;
        for ((service, kind), times) in self.services.troubles_made() {
            faults.insert(fault_name(service, kind), times);
        }
        faults.insert(SECOND_ARRIVALS.into(), self.services.duplicates_made());
        Ran { history, faults }
    }
}

const SECOND_ARRIVALS: &str = "requests that arrived twice";

fn fault_name(service: &str, kind: Kind) -> String {
    format!("{service}: {kind:?}")
}

/// Every name in [`Ran::faults`].
pub fn fault_names() -> Vec<String> {
    let of = |service: &'static str| Kind::ALL.iter().map(move |kind| fault_name(service, *kind));
    let services = of("DynamoDB").chain(of("S3")).filter(|name| name != "S3: Conflict");
    let faults = Fault::NAMES.iter().map(|name| (*name).to_owned());
    faults.chain(services).chain([SECOND_ARRIVALS.to_owned()]).collect()
}

/// Whether this was the last of several that had the same effect.
fn is_last<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) -> bool {
    let Some(count) = counts.get_mut(key) else { return false };
    *count -= 1;
    let is_last = *count == 0;
    if is_last {
        counts.remove(key);
    }
    is_last
}

/// The rows of entries, read past the system.
fn rows(services: &Services) -> Vec<Audited> {
    let settings = Doubles::settings();
    let doubles = services.doubles();
    doubles.dynamodb.allow_scan(1_000);
    let request = json!({ "TableName": settings.table, "ConsistentRead": true });
    let answer = doubles.dynamodb.call("Scan", &request);
    let names: BTreeSet<String> = doubles.s3.names(&settings.bucket).into_iter().collect();
    let rows = answer["Items"].as_array().cloned().unwrap_or_default();
    let objects =
        rows.iter().filter(|row| row["sk"]["S"] == "META").filter_map(|row| row["s3_key"]["S"].as_str());
    objects.map(|object| Audited { object: object.to_owned(), is_there: names.contains(object) }).collect()
}
