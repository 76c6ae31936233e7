//! Writes the history down: what a journal is, and that of the simulation, which goes into the trace too.

use crate::{
    machine::{Address, Time},
    trace::Trace,
};
use leasehold_checker::history::{Call, History, Operation, Outcome};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};

/// What calls are written down in.
pub trait Journal: Send + Sync {
    /// A call is about to be made. What it returns ends it.
    fn begin(&self, call: Call, may_take: Duration) -> usize;

    /// A call was answered.
    fn end(&self, operation: usize, outcome: Outcome);

    /// A call is not waited for any more.
    fn abandon(&self, operation: usize);
}

/// The history so far. Clones are the same one.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Pages>>);

struct Pages {
    history: History,
    /// Of each operation, the machine that called.
    callers: Vec<Address>,
    time: Time,
    trace: Trace,
}

impl Recorder {
    /// On to a history that says what it is about.
    pub fn new(history: History, time: Time, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Pages { history, callers: Vec::new(), time, trace })))
    }

    /// Where a machine writes down what it calls.
    pub fn journal_of(&self, at: Address) -> Arc<dyn Journal> {
        Arc::new(JournalOf { recorder: self.clone(), at })
    }

    fn begin(&self, at: Address, call: Call, may_take: Duration) -> usize {
        let mut pages = self.0.lock();
        let Pages { history, callers, time, trace } = &mut *pages;
        let (number, began) = (history.operations.len(), time.now());
        trace.add(format_args!("{began} {at} begins {number} {call:?}"));
        callers.push(at);
        history.operations.push(Operation {
            actor: at.to_string(),
            began,
            answer: None,
            call,
            may_take: millis(may_take),
            paused: 0,
            abandoned: false,
        });
        number
    }

    fn end(&self, number: usize, outcome: Outcome) {
        let mut pages = self.0.lock();
        let at = pages.time.now();
        pages.trace.add(format_args!("{at} ends {number} {outcome:?}"));
        pages.history.operations[number].answer = Some((at, outcome));
    }

    fn abandon(&self, number: usize) {
        let mut pages = self.0.lock();
        let at = pages.time.now();
        pages.trace.add(format_args!("{at} abandons {number}"));
        pages.history.operations[number].abandoned = true;
    }

    /// A machine lost what it had in memory.
    pub fn died(&self, at: Address) {
        self.open_calls_of(at, |operation| operation.abandoned = true);
    }

    /// A machine did not run for so long.
    pub fn slept(&self, at: Address, for_ms: u64) {
        self.open_calls_of(at, |operation| operation.paused += for_ms);
    }

    /// Something happened that is no call.
    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        let pages = self.0.lock();
        pages.trace.add(format_args!("{} {what}", pages.time.now()));
    }

    /// The history, to be completed and judged.
    pub fn history(&self) -> History {
        self.0.lock().history.clone()
    }

    fn open_calls_of(&self, at: Address, change: impl Fn(&mut Operation)) {
        let mut pages = self.0.lock();
        let Pages { history, callers, .. } = &mut *pages;
        for (operation, caller) in history.operations.iter_mut().zip(callers) {
            if *caller == at && operation.answer.is_none() {
                change(operation);
            }
        }
    }
}

struct JournalOf {
    recorder: Recorder,
    at: Address,
}

impl Journal for JournalOf {
    fn begin(&self, call: Call, may_take: Duration) -> usize {
        self.recorder.begin(self.at, call, may_take)
    }

    fn end(&self, operation: usize, outcome: Outcome) {
        self.recorder.end(operation, outcome);
    }

    fn abandon(&self, operation: usize) {
        self.recorder.abandon(operation);
    }
}

/// In whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
