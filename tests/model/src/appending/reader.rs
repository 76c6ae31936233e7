//! How a coordinator reads the log, as the engine does: the head first, then what lies between.

use super::{
    Happening, Log,
    state::{Coordinator, Read, State},
};

impl Log {
    pub(super) fn read_head(&self, state: &mut State, on: usize, is_appenders: bool) {
        let read = Read { head: state.head, event: state.head_event, is_recent: true };
        *slot(&mut state.coordinators[on], is_appenders) = Some(read);
    }

    pub(super) fn read_events(&self, state: &mut State, on: usize, is_appenders: bool) {
        let Some(read) = slot(&mut state.coordinators[on], is_appenders).take() else { return };
        self.fold_own(state, on, read);
        while state.coordinators[on].position < read.head {
            let position = state.coordinators[on].position;
            // What is before a hole has expired too.
            let kept = (position + 1..=state.head).filter(|seq| state.is_kept(*seq)).collect::<Vec<_>>();
            if kept.first() != Some(&(position + 1)) {
                self.happened.note(Happening::ExpiredBeforeItWasRead);
            }
            for &seq in &kept {
                self.happened.note(Happening::EventFolded);
                let event = state.events[usize::from(seq) - 1].expect("it is kept");
                state.coordinators[on].fold(seq, event);
            }
            let coordinator = &mut state.coordinators[on];
            coordinator.position = kept.last().copied().unwrap_or(read.head);
        }
        state.coordinators[on].is_verified |= read.is_recent;
        if is_appenders {
            self.resume(state, on);
        }
    }

    /// Folds what was proposed here, where it is all that is new: its own answer may still be on the way.
    fn fold_own(&self, state: &mut State, on: usize, read: Read) {
        let coordinator = &mut state.coordinators[on];
        let Some(append) = coordinator.appending.as_ref().map(|appending| appending.append) else { return };
        let is_news = read.head == append.seq()
            && read.event == Some(append.event.id)
            && coordinator.position + 1 == append.seq();
        if is_news {
            coordinator.fold(append.seq(), append.event);
            coordinator.position = append.seq();
            self.happened.note(Happening::OwnEventFolded);
        }
    }

    /// The appender knows the log again: what it finds there is answered, the rest is proposed again. The same event where
    /// the position is the same: whichever attempt is applied, it is this one.
    fn resume(&self, state: &mut State, on: usize) {
        self.answer_known(state, on);
        let coordinator = &mut state.coordinators[on];
        let position = coordinator.position;
        coordinator.appending = coordinator
            .appending
            .take()
            .filter(|appending| coordinator.waiting != 0 && appending.append.expected == position);
        if let Some(appending) = &mut coordinator.appending {
            appending.is_unsure = false;
            appending.is_refused = false;
        }
    }

    pub(super) fn restart(&self, state: &mut State, on: usize) {
        let losses = state.coordinators[on].losses;
        let before =
            std::mem::replace(&mut state.coordinators[on], Coordinator { losses, ..Default::default() });
        if let Some(appending) = before.appending
            && !appending.is_unsure
            && state.floating.iter().flatten().count() < usize::from(self.bounds.floating)
        {
            state.float(appending.append);
        }
        self.read_head(state, on, false);
        self.read_events(state, on, false);
    }
}

fn slot(coordinator: &mut Coordinator, is_appenders: bool) -> &mut Option<Read> {
    if is_appenders { &mut coordinator.check } else { &mut coordinator.tail }
}
