//! One seed's world, from its first step to its history.

use crate::{
    audit,
    load::{LONGEST_CALM_RENDER, LONGEST_LEASE, LONGEST_RENDER, Load, Seat, Task},
    machine::{Address, BEGIN, Context, Detail, Machines, Software, derived},
    parts::{
        client,
        coordinator::{self, STALENESS_BOUND},
        services::{self, Kind, Services, Whereabouts},
        sweeper,
    },
    plan::{ALL_ENDS, FAULTS_END, Fault, LOAD_ENDS, Plan, Who},
    recorder::{Recorder, millis},
    stage::Stage,
    trace::Trace,
};
use leasehold_aws::testing::Doubles;
use leasehold_checker::history::{Audit, History, Need, Object, Terms};
use leasehold_client::{Acquire, AcquireOptions, BodyKind, EntryRef};
use leasehold_core::{orphan::Keep, time::Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What rounding to steps, and packets under way, may add to any deadline, in milliseconds.
const SLACK: u64 = 60;
/// What whole seconds in the times that S3 tells may add to the age of an object, in milliseconds.
const PRECISION: u64 = 2_500;
/// How wrong the clock of the machine is that sweeps, in milliseconds. One that is very wrong deletes nothing.
const CLOCKS_OF_SWEEPERS: [i64; 4] = [0, -2_000, 2_000, 90_000];
/// So many rows at a time are shown to who reads the whole table.
const PAGE_OF_ROWS: usize = 2;

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
    seats: Seats,
    whereabouts: Whereabouts,
    coordinators: Vec<Address>,
    workers: Vec<Address>,
    readers: Vec<Address>,
    editor: Address,
    sweeper: Address,
    /// What is to be done later, by when.
    later: BTreeMap<u64, Vec<Then>>,
    /// So many faults keep a link cut, and so on: the last one to end undoes it.
    cuts: BTreeMap<(Address, Address), u32>,
    slowed: BTreeMap<(Address, Address), u32>,
    pauses: BTreeMap<Address, u32>,
    down: BTreeSet<Address>,
    faults: BTreeMap<String, u64>,
}

/// Where the load sits: a machine for each.
#[derive(Clone)]
struct Seats {
    load: Load,
    coordinators: Vec<Address>,
    recorder: Recorder,
}

impl Seats {
    /// Software that does this until the machine stops, or the load is over.
    fn taken_by(&self, tasks: fn(&Load, &Seat) -> Vec<Task>) -> Software {
        let seats = self.clone();
        Box::new(move |context| {
            let tasks = tasks(&seats.load, &seats.on(&context));
            // Each in a task of its own, as in a program.
            Box::pin(async move {
                let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
                drop(futures::future::join_all(tasks).await);
            })
        })
    }

    fn on(&self, context: &Context) -> Seat {
        let (at, coordinators) = (context.clone(), self.coordinators.clone());
        Seat {
            name: context.address.to_string().into(),
            seed: context.seed,
            pace: client::PACE,
            connect: Arc::new(move |patience, number| {
                client::connect_within(patience, &at, &coordinators, number)
            }),
            journal: self.recorder.journal_of(context.address),
        }
    }
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
            longest_hold: millis(coordinator::settings().rules.max_hold),
            longest_render: LONGEST_CALM_RENDER,
            longest_render_amid_faults: LONGEST_RENDER,
            deletion_grace: millis(coordinator::settings().deletion_grace),
            // One who waits for all others looks now and then, seldom where the lease was granted there.
            reread: millis(coordinator::settings().reread_interval.unwrap_or_default()),
            hearsay: 4 * millis(coordinator::settings().reread_interval.unwrap_or_default()) + 100,
        };
        let history = History {
            entries: plan.entries.clone(),
            terms,
            faults_ended: (!plan.faults.is_empty()).then_some(FAULTS_END),
            quiet_from: Some(plan.quiet_from()),
            ..History::default()
        };
        let recorder = Recorder::new(history, machines.time.clone(), trace.clone());
        let load = Load::new(plan.entries.clone());
        if plan.faults.is_empty() {
            load.calm_down();
        }
        let seats =
            Seats { load: load.clone(), coordinators: coordinators.clone(), recorder: recorder.clone() };
        let workers: Vec<_> = (0..plan.workers)
            .map(|number| {
                machines.add(format!("worker {number}"), seats.taken_by(|load, seat| load.workers(seat, 2)))
            })
            .collect();
        let readers: Vec<_> = (0..plan.readers)
            .map(|number| machines.add(format!("reader {number}"), seats.taken_by(Load::readers)))
            .collect();
        let editor = machines.add("editor", seats.taken_by(Load::editors));
        let sweeper = machines.add("sweeper", sweeper::software(whereabouts, recorder.clone()));
        // As of coordinators: the attributes of items are in it.
        machines.network.trace(sweeper, Detail::Existence);
        let clocks = CLOCKS_OF_SWEEPERS.len() as u64;
        machines.set_wrong(sweeper, CLOCKS_OF_SWEEPERS[(derived(seed, &[4]) % clocks) as usize]);
        services.doubles().dynamodb.allow_scan(PAGE_OF_ROWS);
        for machine in workers.iter().chain(&readers).chain([&editor, &sweeper]) {
            machines.start(*machine);
        }
        Self {
            plan,
            machines,
            services,
            seats,
            whereabouts,
            coordinators,
            workers,
            readers,
            editor,
            sweeper,
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
                self.seats.load.finish();
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
            self.seats.recorder.slept(*paused, 1);
        }
        let right = Timestamp::from_millis(BEGIN + self.machines.time.now());
        self.services.doubles().s3.set_time(right);
        self.services.doubles().s3.set_date(right);
        for ended in self.machines.step() {
            self.seats.recorder.died(ended);
            if self.coordinators.contains(&ended) {
                self.seats.recorder.note(format_args!("{ended} has ended"));
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
        self.seats.recorder.note(format_args!("fault {fault:?}"));
        if self.suffer(at, fault) {
            *self.faults.entry(fault.name().to_owned()).or_default() += 1;
        }
    }

    /// Whether it makes a difference.
    fn suffer(&mut self, at: u64, fault: &Fault) -> bool {
        match fault {
            Fault::Crash { who, dark, back_after } => {
                let machine = self.address(*who);
                let was_running = self.machines.is_running(machine);
                self.machines.kill(machine, *dark);
                self.seats.recorder.died(machine);
                self.pauses.remove(&machine);
                self.down.insert(machine);
                self.at(at + back_after, Then::Start(machine));
                return was_running;
            }
            Fault::Pause { who, lasting } => {
                let machine = self.address(*who);
                if !self.machines.is_running(machine) {
                    return false;
                }
                *self.pauses.entry(machine).or_default() += 1;
                self.machines.pause(machine, true);
                self.at(at + lasting, Then::Resume(machine));
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
                return *wrong_by != 0;
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
        true
    }

    fn carry_out(&mut self, then: Then) {
        self.seats.recorder.note(format_args!("{then:?}"));
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
        self.seats.load.calm_down();
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
        let at_rest = self.machines.time.now();
        let leaver = self.machines.add("leaver", leaver(self.coordinators.clone()));
        self.machines.start(leaver);
        // Whatever coordinators are to delete is deleted by then.
        self.pass_until(at_rest + 2 * millis(coordinator::settings().deletion_grace));
        let auditor = self.machines.add("auditor", self.seats.taken_by(Load::auditors));
        self.machines.start(auditor);
        self.end_of(auditor);
        self.machines.ask_to_stop(self.sweeper);
        self.end_of(self.sweeper);
        for coordinator in &self.coordinators {
            // What they knew to be superseded is left to the sweep.
            self.machines.kill(*coordinator, false);
        }
        let Keep { max_hold, grace } = sweeper::options().keep;
        self.pass_until(at_rest + millis(max_hold + grace) + PRECISION);
        let objects = audit::objects(self.services.doubles(), &sweeper::options().prefix);
        let last =
            self.machines.add("last sweeper", sweeper::once(self.whereabouts, self.seats.recorder.clone()));
        self.machines.network.trace(last, Detail::Existence);
        self.machines.start(last);
        self.end_of(last);
        let mut history = self.seats.recorder.history();
        history.ended = self.machines.time.now();
        history.audit = Some(self.found(objects));
        let mut faults = self.faults;
        for ((service, kind), times) in self.services.troubles_made() {
            faults.insert(fault_name(service, kind), times);
        }
        faults.insert(SECOND_ARRIVALS.into(), self.services.duplicates_made());
        Ran { history, faults }
    }

    /// What the stores hold after the last sweep.
    fn found(&self, before: BTreeMap<String, Need>) -> Audit {
        let doubles = self.services.doubles();
        let left: BTreeSet<String> = doubles.s3.names(&Doubles::settings().bucket).into_iter().collect();
        let object = |(name, needed)| Object { is_left: left.contains(&name), name, needed };
        Audit {
            rows: audit::rows(doubles, &self.plan.entries),
            objects: before.into_iter().map(object).collect(),
            invalidations: audit::invalidations(doubles),
        }
    }

    fn pass_until(&mut self, time: u64) {
        while self.machines.time.now() < time {
            self.step();
        }
    }

    /// Lets a machine come to its end, for which it has a minute.
    fn end_of(&mut self, machine: Address) {
        let patience = self.machines.time.now() + 60_000;
        while self.machines.is_running(machine) && self.machines.time.now() < patience {
            self.step();
        }
    }
}

/// Uploads a page of an entry that nobody else asks for, and does not come back: as long as the lease is nobody else's, it may
/// still be committed.
fn leaver(coordinators: Vec<Address>) -> Software {
    Box::new(move |context| {
        let coordinator = client::connect(&context, &coordinators, 0);
        Box::pin(async move {
            let entry = EntryRef::key("acme::/left?").tenant("acme").path("/left");
            if let Ok(Acquire::Granted(lease)) = coordinator.acquire(&entry, &AcquireOptions::default()).await
            {
                // Should it fail, nothing is there to be looked at.
                drop(lease.upload_as(BodyKind::Sidecar, "left.hydration.json", None, "{}".into()).await);
                drop(lease.upload(BodyKind::Html, None, "half a page".into()).await);
            }
        })
    })
}

const SECOND_ARRIVALS: &str = "requests that arrived twice";

fn fault_name(service: &str, kind: Kind) -> String {
    format!("{service}: {kind:?}")
}

/// Every name in [`Ran::faults`].
pub fn fault_names() -> Vec<String> {
    let of = |service: &'static str| Kind::ALL.iter().map(move |kind| fault_name(service, *kind));
    let services = of("DynamoDB").chain(of("S3")).filter(|name| !name.starts_with("S3: Conflict"));
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
