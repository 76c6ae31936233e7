//! What a process writes down: line by line, so that it is there whatever becomes of the process.

use crate::clock::Clock;
use anyhow::Context as _;
use leasehold_checker::history::{Call, Outcome, Time};
use leasehold_sim::recorder::{Journal, millis};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Duration,
};

/// A line of a journal.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) enum Line {
    /// A call is about to be made.
    Begins {
        /// Its number in this journal, from zero.
        number: usize,
        /// When.
        at: Time,
        /// How long its own deadlines let it take.
        may_take: Time,
        /// What is asked.
        call: Call,
    },
    /// It was answered.
    Ends {
        /// Its number.
        number: usize,
        /// When.
        at: Time,
        /// What was answered.
        outcome: Outcome,
    },
    /// It is not waited for any more.
    Abandons {
        /// Its number.
        number: usize,
    },
    /// The process did not run, or next to not.
    Stalled {
        /// From here
        from: Time,
        /// to there.
        to: Time,
    },
    /// A task panicked.
    Panics {
        /// With these words.
        what: String,
    },
}

/// A journal that is being written.
pub(crate) struct Writing {
    clock: Clock,
    pages: Mutex<Pages>,
}

struct Pages {
    file: File,
    next: usize,
}

impl Writing {
    /// In a new file.
    pub(crate) fn new(path: &Path, clock: Clock) -> anyhow::Result<Self> {
        let file = File::create_new(path).with_context(|| format!("no journal at {}", path.display()))?;
        Ok(Self { clock, pages: Mutex::new(Pages { file, next: 0 }) })
    }

    pub(crate) fn stalled(&self, from: Time, to: Time) {
        self.pages.lock().add(&Line::Stalled { from, to });
    }

    pub(crate) fn panics(&self, what: String) {
        self.pages.lock().add(&Line::Panics { what });
    }
}

impl Journal for Writing {
    fn begin(&self, call: Call, may_take: Duration) -> usize {
        let mut pages = self.pages.lock();
        let number = pages.next;
        pages.next += 1;
        pages.add(&Line::Begins { number, at: self.clock.now(), may_take: millis(may_take), call });
        number
    }

    fn end(&self, number: usize, outcome: Outcome) {
        let at = self.clock.now();
        self.pages.lock().add(&Line::Ends { number, at, outcome });
    }

    fn abandon(&self, number: usize) {
        self.pages.lock().add(&Line::Abandons { number });
    }
}

impl Pages {
    /// In one write, so that the system has the whole line when this returns, and keeps it.
    fn add(&mut self, line: &Line) {
        let mut text = serde_json::to_vec(line).expect("lines are JSON");
        text.push(b'\n');
        self.file.write_all(&text).expect("there is room for a journal");
    }
}

/// A journal that a process has left. A last line that is not whole was being written when the process was killed: the call was
/// not made yet, or its answer was not used yet.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let text = fs::read_to_string(path).with_context(|| format!("no journal at {}", path.display()))?;
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    whole
        .enumerate()
        .map(|(number, line)| {
            serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), number + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_of_a_killed_process_is_read_up_to_the_line_that_was_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker 1.0.journal");
        let journal = Writing::new(&path, Clock::start()).unwrap();
        let call = Call::Acquire { entry: 3, attempt: u128::MAX, wait: 200, ttl: 300, knows: Some(7) };
        let number = journal.begin(call.clone(), Duration::from_millis(1_500));
        journal.end(number, Outcome::Granted { generation: u64::MAX, previous: None });
        let whole = read(&path).unwrap();
        let [
            Line::Begins { number: 0, at, may_take: 1_500, call: begun },
            Line::Ends { number: 0, at: later, .. },
        ] = &whole[..]
        else {
            panic!("{whole:?}");
        };
        assert!(at <= later && format!("{begun:?}") == format!("{call:?}"), "{whole:?}");

        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 10]).unwrap();
        assert_eq!(read(&path).unwrap(), whole[..1]);
        fs::write(&path, format!("{}\n{text}", &text[..10])).unwrap();
        assert!(read(&path).is_err(), "only the last line may be in pieces");
    }
}
