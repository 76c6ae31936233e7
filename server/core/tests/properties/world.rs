//! Carries calls out as coordinators do: judge, swap, and judge again what refused the swap.

use crate::{
    Counts,
    scenery::{entry_id, path, rendered, scopes},
    steps::{Act, Ask, COORDINATORS, Fate, Route, Step, WORKERS},
    truth::{Answer, Attempt, Call, Truth},
    whole_log::Observer,
};
use leasehold_core::{
    entry::Entry,
    freshness::{self, Log},
    identity::{EntryId, Generation, LeaseToken, Owner, RequestId, Seq, Version},
    invalidation::{Depth, Invalidation, LogEvent, LogView, Scope},
    page::Pointer,
    time::Timestamp,
    transition::{self, Acquire, Acquired, Context, Decision, Release, Rules},
};
use proptest::{prelude::TestCaseError, sample::Index, test_runner::TestCaseResult};
use std::time::Duration;

/// The time at which every history begins.
const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);
const RETENTION: Duration = Duration::from_secs(3600);
/// For how much longer events live than the pages that they concern.
const MARGIN: Duration = Duration::from_secs(300);

pub(crate) struct World<'a> {
    id: EntryId,
    rules: Rules,
    scopes: Vec<Scope>,
    /// The store: one register, and every record that was ever in it.
    register: Option<Entry>,
    past: Vec<Option<Entry>>,
    log: Vec<LogEvent>,
    coordinators: Vec<Coordinator>,
    workers: Vec<Worker>,
    calls: Vec<(Call, usize)>,
    under_way: Vec<Swap>,
    elapsed: Duration,
    /// For how long the coordinator that judges says that it knows the entry: whatever it says, nothing unsafe may come of it.
    known_for: Duration,
    drawn: u128,
    truth: Truth<'a>,
    counts: &'a Counts,
}

struct Coordinator {
    view: LogView,
    verified: bool,
    /// Milliseconds that its clock is ahead.
    ahead: i64,
    /// What it folded and did not forget, oldest first.
    kept: Vec<LogEvent>,
    /// The newest event that it does not remember.
    floor: Seq,
    /// The newest of these that was hard, or may have been.
    hard_floor: Seq,
}

#[derive(Clone)]
enum Worker {
    Idle,
    /// Waits for the answer to this call.
    Asking(usize),
    /// Renders under what it was granted before it began.
    Rendering(Attempt, u64),
}

/// A decision that is on its way to the store.
struct Swap {
    call: usize,
    coordinator: usize,
    now: Timestamp,
    /// The position of the log view that it was judged by.
    position: Seq,
    expected: Option<Version>,
    next: Entry,
    answer: Answer,
}

impl<'a> World<'a> {
    pub(crate) fn new(counts: &'a Counts) -> Self {
        let id = entry_id();
        let rules = Rules {
            expiry_tolerance: Duration::from_millis(500),
            max_hold: Duration::from_secs(60),
            retention: RETENTION,
            staleness_bound: Duration::from_secs(2),
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
        };
        let coordinator = || Coordinator {
            view: LogView::default(),
            verified: true,
            ahead: 0,
            kept: Vec::new(),
            floor: Seq::START,
            hard_floor: Seq::START,
        };
        Self {
            truth: Truth::new(id.clone(), rules.clone(), counts),
            id,
            rules,
            scopes: scopes(),
            register: None,
            past: Vec::new(),
            log: Vec::new(),
            coordinators: (0..COORDINATORS).map(|_| coordinator()).collect(),
            workers: vec![Worker::Idle; WORKERS],
            calls: Vec::new(),
            under_way: Vec::new(),
            elapsed: Duration::ZERO,
            known_for: Duration::ZERO,
            drawn: 0,
            counts,
        }
    }

    pub(crate) fn play(&mut self, step: Step) -> TestCaseResult {
        match step {
            Step::Work { worker, ask, act, route } => self.work(worker, ask, act, route)?,
            Step::Crash { worker } => self.workers[worker] = Worker::Idle,
            Step::Duplicate { acquire, call, route } => {
                let is_meant = |call: &Call| !acquire || matches!(call, Call::Acquire(_));
                let calls: Vec<_> = (0..self.calls.len()).filter(|at| is_meant(&self.calls[*at].0)).collect();
                if !calls.is_empty() {
                    self.arrive(*call.get(&calls), route)?;
                }
            }
            Step::Land { swap, is_heard } if !self.under_way.is_empty() => {
                let swap = self.under_way.swap_remove(swap.index(self.under_way.len()));
                let fate = if is_heard { Fate::Heard } else { Fate::ReplyLost };
                let (call, coordinator, now) = (swap.call, swap.coordinator, swap.now);
                if self.land(swap, fate)? {
                    self.count("swap: landed late");
                } else {
                    self.count("swap: refused late");
                    self.settle(call, coordinator, now, self.register.clone(), true, fate)?;
                }
            }
            Step::Land { .. } => {}
            Step::Invalidate { coordinator, scope, depth } => self.invalidate(coordinator, scope, depth),
            Step::Read { coordinator, share, expired_are_deleted } => {
                self.read(coordinator, share, expired_are_deleted);
            }
            Step::Verify { coordinator, verified } => self.coordinators[coordinator].verified = verified,
            Step::Forget { coordinator } => self.forget(coordinator),
            Step::Wait { millis } => self.elapsed += Duration::from_millis(millis),
            Step::WaitFor { coordinator, end, is_over } => self.wait_for(coordinator, end, is_over),
            Step::Leap { coordinator, millis } => self.coordinators[coordinator].ahead += millis,
            Step::Correct { coordinator } => self.coordinators[coordinator].ahead = 0,
            Step::LoseBody { newest, route } => {
                let current = self.register.as_ref().and_then(|entry| entry.pointer.as_ref());
                let Some(Generation(current)) = current.map(|pointer| pointer.generation) else {
                    return Ok(());
                };
                let call = Call::MarkGone(Generation(if newest { current } else { current - 1 }));
                let call = self.call(call, WORKERS);
                self.arrive(call, route)?;
            }
        }
        Ok(())
    }

    /// Judges the page, and some that were current before, as every coordinator sees them.
    pub(crate) fn look_around(&mut self) -> TestCaseResult {
        for at in 0..COORDINATORS {
            for entry in std::iter::once(&self.register).chain(self.past.iter().rev().skip(1).take(2)) {
                let pointer = entry.as_ref().and_then(|entry| entry.pointer.as_ref());
                let coordinator = &self.coordinators[at];
                let log = Log { view: &coordinator.view, verified: coordinator.verified };
                let now = self.now(at);
                let found = freshness::judge(&self.id, pointer, log, now, RETENTION);
                self.truth.check_freshness(self.observer(at, now), pointer, found)?;
            }
        }
        Ok(())
    }

    fn work(&mut self, worker: usize, ask: Ask, act: Act, route: Route) -> TestCaseResult {
        let call = match self.workers[worker].clone() {
            Worker::Idle => {
                let pointer = self.register.as_ref().and_then(|entry| entry.pointer.as_ref());
                let known = pointer.map_or(Generation(0), |pointer| pointer.generation);
                let token = LeaseToken::from_bits(self.draw());
                let call = Call::Acquire(Acquire {
                    token,
                    owner: Owner::parse("worker").unwrap(),
                    ttl: Duration::from_secs(ask.ttl),
                    path: ask.is_named.then(|| path("/shop/1")),
                    after: ask.is_waiting.then_some(known),
                });
                let call = self.call(call, worker);
                self.workers[worker] = Worker::Asking(call);
                call
            }
            Worker::Asking(call) => call,
            Worker::Rendering(attempt, render) => {
                let failed = || Release::Failed { reason: "503".to_owned() };
                let call = match act {
                    Act::Commit { page } => Call::Commit(attempt, Box::new(rendered(page, render))),
                    Act::Renew { ttl } => Call::Renew(attempt, Duration::from_secs(ttl)),
                    Act::Release => Call::Release(attempt, Release::Unused),
                    Act::Fail => Call::Release(attempt, failed()),
                    Act::Undo => Call::Release(attempt, Release::Unheard),
                };
                self.call(call, worker)
            }
        };
        self.arrive(call, route)
    }

    fn call(&mut self, call: Call, from: usize) -> usize {
        self.calls.push((call, from));
        self.calls.len() - 1
    }

    fn arrive(&mut self, call: usize, route: Route) -> TestCaseResult {
        if route.fate == Fate::CallLost {
            return Ok(());
        }
        let remembered = route.remembered.filter(|_| !self.past.is_empty());
        let entry = match remembered {
            Some(which) => self.past[which.index(self.past.len())].clone(),
            None => self.register.clone(),
        };
        let now = self.now(route.coordinator);
        self.known_for = Duration::from_secs(route.known_for);
        let settled = self.settle(call, route.coordinator, now, entry, remembered.is_none(), route.fate);
        self.known_for = Duration::ZERO;
        settled
    }

    /// Asks the core until its answer is settled. `is_strong`: whether `entry` was read after the call
    /// arrived.
    fn settle(
        &mut self,
        call: usize,
        coordinator: usize,
        now: Timestamp,
        mut entry: Option<Entry>,
        mut is_strong: bool,
        fate: Fate,
    ) -> TestCaseResult {
        loop {
            let version = Version(self.draw());
            let position = self.coordinators[coordinator].view.position();
            let decision = self.decide(call, entry.as_ref(), coordinator, now, version);
            let observer = self.observer(coordinator, now);
            self.truth.check_decision(observer, &self.calls[call].0, entry.as_ref(), &decision)?;
            match decision {
                Decision::Answer(answer) if is_strong || answer.may_be_remembered() => {
                    if !is_strong {
                        self.count("answer: from a remembered copy");
                    }
                    return self.answer(call, coordinator, now, position, answer, is_strong, fate);
                }
                Decision::Answer(_) => {}
                Decision::Swap(next, answer) => {
                    let expected = entry.as_ref().map(|entry| entry.version);
                    let swap = Swap { call, coordinator, now, position, expected, next: *next, answer };
                    if fate == Fate::SwapDelayed {
                        self.under_way.push(swap);
                        return Ok(());
                    }
                    if self.land(swap, fate)? {
                        return Ok(());
                    }
                    self.count("swap: refused");
                }
            }
            entry = self.register.clone();
            is_strong = true;
        }
    }

    fn decide(
        &self,
        call: usize,
        entry: Option<&Entry>,
        coordinator: usize,
        now: Timestamp,
        version: Version,
    ) -> Decision<Answer> {
        let Coordinator { view, verified, .. } = &self.coordinators[coordinator];
        let log = Log { view, verified: *verified };
        let known_for = self.known_for;
        let context = Context { id: &self.id, log, now, known_for, rules: &self.rules, version };
        match &self.calls[call].0 {
            Call::Acquire(ask) => transition::acquire(entry, ask, context).map(Answer::Acquired),
            Call::Renew(Attempt(token, generation), ttl) => {
                transition::renew(entry, *token, *generation, *ttl, context).map(Answer::Renewed)
            }
            Call::Release(Attempt(token, generation), how) => {
                transition::release(entry, *token, *generation, how, context).map(Answer::Released)
            }
            Call::Commit(Attempt(token, generation), page) => {
                transition::commit(entry, *token, *generation, page, context).map(Answer::Committed)
            }
            Call::MarkGone(generation) => {
                transition::mark_gone(entry, *generation, context).map(Answer::Healed)
            }
        }
    }

    /// The store's swap. Answers whether it was applied.
    fn land(&mut self, swap: Swap, fate: Fate) -> Result<bool, TestCaseError> {
        let Swap { call, coordinator, now, position, expected, next, answer } = swap;
        if self.register.as_ref().map(|entry| entry.version) != expected {
            return Ok(false);
        }
        self.truth.applied(now, position, &self.calls[call].0, self.register.as_ref(), &next)?;
        self.past.push(self.register.replace(next));
        self.past.push(self.register.clone());
        self.answer(call, coordinator, now, position, answer, true, fate)?;
        Ok(true)
    }

    #[expect(clippy::too_many_arguments, reason = "one call's whole story")]
    fn answer(
        &mut self,
        call: usize,
        coordinator: usize,
        now: Timestamp,
        position: Seq,
        answer: Answer,
        is_strong: bool,
        fate: Fate,
    ) -> TestCaseResult {
        let observer = Observer { position, ..self.observer(coordinator, now) };
        let register = is_strong.then_some(self.register.as_ref());
        self.truth.check_answer(observer, &self.calls[call].0, &answer, register)?;
        let worker = self.calls[call].1;
        if fate != Fate::Heard || worker == WORKERS {
            return Ok(());
        }
        self.workers[worker] = match (self.workers[worker].clone(), answer, &self.calls[call].0) {
            (Worker::Asking(asked), Answer::Acquired(outcome), _) if asked == call => self.begin(outcome),
            // Of a call that it made before it crashed: a bad client, that renders under one token twice.
            (Worker::Idle, Answer::Acquired(outcome), _) => self.begin(outcome),
            (Worker::Rendering(mine, _), Answer::Committed(_), Call::Commit(attempt, _))
            | (Worker::Rendering(mine, _), Answer::Released(_), Call::Release(attempt, _))
                if mine == *attempt =>
            {
                Worker::Idle
            }
            (unchanged, _, _) => unchanged,
        };
        Ok(())
    }

    fn begin(&mut self, outcome: Acquired) -> Worker {
        match outcome {
            Acquired::AlreadyYours(lease) | Acquired::Granted(lease) => {
                Worker::Rendering(Attempt(lease.token, lease.generation), self.truth.begins_to_render())
            }
            Acquired::Ended
            | Acquired::Ready(_)
            | Acquired::Held { .. }
            | Acquired::BackingOff { .. }
            | Acquired::Exhausted => Worker::Idle,
        }
    }

    fn invalidate(&mut self, coordinator: usize, scope: Index, depth: Depth) {
        let now = self.now(coordinator);
        let event = LogEvent {
            seq: Seq(self.log.len() as u64 + 1),
            id: RequestId(self.draw()),
            at: now,
            forget_after: now.plus(RETENTION).plus(MARGIN),
            invalidations: vec![Invalidation {
                id: RequestId(self.draw()),
                scopes: vec![self.scopes[scope.index(self.scopes.len())].clone()],
                depth,
            }],
        };
        self.truth.invalidated(event.clone());
        self.log.push(event);
    }

    fn read(&mut self, coordinator: usize, share: Index, expired_are_deleted: bool) {
        let head = self.log.len() as u64;
        let mine = &mut self.coordinators[coordinator];
        let from = mine.view.position();
        let upto = from.0 + share.index((head - from.0) as usize + 1) as u64;
        let true_now = START.plus(self.elapsed);
        let mut is_missing = false;
        for event in &self.log[from.0 as usize..upto as usize] {
            if expired_are_deleted && event.forget_after <= true_now {
                // It never learns how deep that one was.
                (mine.floor, mine.hard_floor) = (event.seq, event.seq);
                is_missing = true;
            } else {
                mine.view.fold(event);
                mine.kept.push(event.clone());
            }
        }
        mine.view.advance_to(Seq(upto));
        if is_missing {
            self.count("log: expired in the store before it was read");
        }
    }

    fn forget(&mut self, coordinator: usize) {
        let now = self.now(coordinator);
        let mine = &mut self.coordinators[coordinator];
        mine.view.forget(now, usize::MAX);
        let over = mine.kept.iter().take_while(|event| event.forget_after <= now).count();
        let is_ours = |scope: &Scope| scope.tenant().is_none_or(|tenant| *tenant == self.id.tenant);
        for event in mine.kept.drain(..over) {
            if !event.invalidations.iter().any(|invalidation| invalidation.scopes.iter().any(is_ours)) {
                continue;
            }
            mine.floor = mine.floor.max(event.seq);
            if event.invalidations.iter().any(|invalidation| invalidation.depth == Depth::Hard) {
                mine.hard_floor = mine.hard_floor.max(event.seq);
            }
        }
        if over > 0 {
            self.count("log: forgotten");
        }
    }

    fn wait_for(&mut self, coordinator: usize, end: Index, is_over: bool) {
        let Some(entry) = &self.register else { return };
        let lease = entry.lease.as_ref();
        let ends = [
            lease.map(|lease| lease.expires_at.plus(self.rules.expiry_tolerance)),
            lease.map(|lease| lease.hold_until),
            entry.backoff.as_ref().map(|backoff| backoff.not_before),
            entry.pointer.as_ref().and_then(Pointer::fresh_until),
        ];
        let now = self.now(coordinator);
        let ends: Vec<_> = ends.into_iter().flatten().filter(|end| *end > now).collect();
        if !ends.is_empty() {
            let early = Duration::from_millis(u64::from(!is_over));
            self.elapsed += end.get(&ends).since(now) - early;
        }
    }

    fn observer(&self, coordinator: usize, now: Timestamp) -> Observer {
        let Coordinator { view, verified, floor, hard_floor, .. } = &self.coordinators[coordinator];
        Observer {
            position: view.position(),
            floor: *floor,
            hard_floor: *hard_floor,
            verified: *verified,
            now,
            known_for: self.known_for,
        }
    }

    fn now(&self, coordinator: usize) -> Timestamp {
        let ahead = self.coordinators[coordinator].ahead;
        let leap = Duration::from_millis(ahead.unsigned_abs());
        let now = START.plus(self.elapsed);
        if ahead < 0 { now.minus(leap) } else { now.plus(leap) }
    }

    fn draw(&mut self) -> u128 {
        self.drawn += 1;
        self.drawn
    }

    fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }
}

trait Map<T> {
    fn map<U>(self, wrap: impl FnOnce(T) -> U) -> Decision<U>;
}

impl<T> Map<T> for Decision<T> {
    fn map<U>(self, wrap: impl FnOnce(T) -> U) -> Decision<U> {
        match self {
            Self::Answer(answer) => Decision::Answer(wrap(answer)),
            Self::Swap(entry, answer) => Decision::Swap(entry, wrap(answer)),
        }
    }
}
