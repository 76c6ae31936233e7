//! What really happened, and what the promises make of it.

mod swaps;

use crate::{
    Counts,
    whole_log::{Observer, WholeLog},
};
use leasehold_core::{
    entry::{Entry, Lease},
    freshness::{Absence, Freshness, Staleness},
    identity::{EntryId, Generation, LeaseToken, Seq},
    invalidation::{Depth, LogEvent, Verdict},
    page::{Page, Pointer},
    time::Timestamp,
    transition::{Acquire, Acquired, Committed, Decision, Healed, Release, ReleaseOutcome, Renewed, Rules},
};
use proptest::{
    prelude::TestCaseError, prop_assert, prop_assert_eq, prop_assert_ne, test_runner::TestCaseResult,
};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// What a worker is bound to from before it begins to render.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt(pub(crate) LeaseToken, pub(crate) Generation);

#[derive(Clone, Debug)]
pub(crate) enum Call {
    Acquire(Acquire),
    Renew(Attempt, Duration),
    Release(Attempt, Release),
    Commit(Attempt, Box<Page>),
    MarkGone(Generation),
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Acquired(Acquired),
    Renewed(Renewed),
    Released(ReleaseOutcome),
    Committed(Committed),
    Healed(Healed),
}

impl Answer {
    /// Whether it may be given on a remembered copy of the entry: "fresh, held, committed".
    pub(crate) fn may_be_remembered(&self) -> bool {
        matches!(
            self,
            Self::Acquired(Acquired::Ready(Freshness::Fresh) | Acquired::Held { .. })
                | Self::Committed(Committed::Committed | Committed::CommittedStale(_))
        )
    }
}

pub(crate) struct Truth<'a> {
    rules: Rules,
    counts: &'a Counts,
    log: WholeLog,
    /// Every grant that was applied, in that order.
    grants: Vec<Lease>,
    /// Every page that was ever current.
    committed: HashMap<Attempt, Pointer>,
    /// Attempts that were told that they are fenced or superseded.
    turned_away: HashSet<Attempt>,
    released: HashSet<Attempt>,
    /// Attempts whose repetition was told of its lease.
    told_again: HashSet<Attempt>,
    /// The attempt that was released or committed last, without those that nobody heard of.
    last_ended: Option<(Attempt, bool)>,
    ended: HashSet<LeaseToken>,
    /// Whether the next answer is that of a swap.
    has_swapped: bool,
}

impl<'a> Truth<'a> {
    pub(crate) fn new(id: EntryId, rules: Rules, counts: &'a Counts) -> Self {
        Self {
            rules,
            counts,
            log: WholeLog::new(id),
            grants: Vec::new(),
            committed: HashMap::new(),
            turned_away: HashSet::new(),
            released: HashSet::new(),
            told_again: HashSet::new(),
            last_ended: None,
            ended: HashSet::new(),
            has_swapped: false,
        }
    }

    pub(crate) fn invalidated(&mut self, event: LogEvent) {
        self.log.append(event);
    }

    /// A worker heard of its grant and begins. Answers the name of its render.
    pub(crate) fn begins_to_render(&mut self) -> u64 {
        self.log.begins_to_render()
    }

    // --- decisions ---

    /// Judges the order of judgement, on the entry that was asked about. Liveness is in it: what nothing
    /// stands in the way of is granted.
    pub(crate) fn check_decision(
        &self,
        observer: Observer,
        call: &Call,
        entry: Option<&Entry>,
        decision: &Decision<Answer>,
    ) -> TestCaseResult {
        let Call::Acquire(ask) = call else { return Ok(()) };
        let (Decision::Answer(Answer::Acquired(found)) | Decision::Swap(_, Answer::Acquired(found))) =
            decision
        else {
            panic!("{decision:?} is no answer to an acquire")
        };
        let lease = entry.and_then(|entry| entry.lease.as_ref());
        let pointer = entry.and_then(|entry| entry.pointer.as_ref());
        let released = entry.and_then(|entry| entry.released);
        let backoff = entry.and_then(|entry| entry.backoff.as_ref());
        let freshness = self.freshness(observer, pointer);
        let is_awaited = ask.after.zip(pointer).is_some_and(|(known, pointer)| pointer.generation > known)
            && matches!(freshness, Freshness::Stale(Staleness::Expired | Staleness::Unverified));
        let is_over = [pointer.map(|pointer| pointer.token), released.map(|released| released.token)]
            .contains(&Some(ask.token));
        let is_recent = freshness == Freshness::Stale(Staleness::Unverified)
            && pointer
                .is_some_and(|pointer| observer.now < pointer.committed_at.plus(self.rules.staleness_bound));
        let wanted = if let Some(lease) = lease.filter(|lease| lease.token == ask.token) {
            let told = Lease { repeated: true, ..lease.clone() };
            prop_assert_eq!(found, &Acquired::AlreadyYours(told));
            prop_assert_eq!(matches!(decision, Decision::Answer(_)), lease.repeated);
            return Ok(());
        } else if is_over {
            Acquired::Ended
        } else if freshness == Freshness::Fresh || is_awaited || is_recent {
            Acquired::Ready(freshness)
        } else if let Some(lease) = lease.filter(|lease| {
            observer.now < self.expires_to(observer, lease)
                && !self.is_overtaken(observer, lease, pointer, ask)
        }) {
            Acquired::Held { until: self.expires_to(observer, lease) }
        } else if let Some(until) = backoff
            .map(|backoff| {
                let pause = backoff.not_before.since(backoff.failed_at);
                backoff.not_before.min(observer.now.plus(pause.saturating_sub(observer.known_for)))
            })
            .filter(|until| observer.now < *until)
        {
            Acquired::BackingOff { until }
        } else {
            let Decision::Swap(next, Answer::Acquired(Acquired::Granted(lease))) = decision else {
                return Err(TestCaseError::fail(format!(
                    "nothing stands in the way of a grant, but: {found:?}"
                )));
            };
            prop_assert_eq!(next.lease.as_ref(), Some(lease));
            return Ok(());
        };
        prop_assert_eq!(found, &wanted);
        prop_assert!(matches!(decision, Decision::Answer(_)), "an answer that changes nothing");
        if wanted == Acquired::Ended {
            prop_assert!(self.ended.contains(&ask.token));
        }
        Ok(())
    }

    fn is_overtaken(
        &self,
        observer: Observer,
        lease: &Lease,
        pointer: Option<&Pointer>,
        ask: &Acquire,
    ) -> bool {
        let tags = pointer.map_or(&[][..], |pointer| &pointer.meta.tags);
        let known = pointer.and_then(|pointer| pointer.meta.path.as_ref());
        [known, ask.path.as_ref()]
            .into_iter()
            .any(|path| self.log.verdict(observer, lease.seen, tags, path) != Verdict::Valid)
    }

    // --- answers ---

    /// Judges an answer. `register`: what is in the store, where the answer was given on what was read there.
    pub(crate) fn check_answer(
        &mut self,
        observer: Observer,
        call: &Call,
        answer: &Answer,
        register: Option<Option<&Entry>>,
    ) -> TestCaseResult {
        let is_new = std::mem::take(&mut self.has_swapped);
        match (call, answer) {
            (Call::Acquire(_), Answer::Acquired(outcome)) => {
                self.count_acquired(observer, outcome, register);
                if let Acquired::AlreadyYours(lease) | Acquired::Granted(lease) = outcome {
                    let same = |grant: &&Lease| grant.generation == lease.generation;
                    let grant = self.grants.iter().find(same).expect("a grant that was never applied");
                    prop_assert_eq!(
                        lease,
                        &Lease {
                            expires_at: lease.expires_at,
                            ttl: lease.ttl,
                            repeated: lease.repeated,
                            ..grant.clone()
                        }
                    );
                }
                Ok(())
            }
            (Call::Renew(attempt, _), Answer::Renewed(outcome)) => {
                let register = register.expect("answered on a strong read");
                let is_held = is_held_by(register, *attempt);
                match outcome {
                    Renewed::Renewed(lease) => {
                        prop_assert!(is_held);
                        prop_assert_eq!(register.and_then(|entry| entry.lease.as_ref()), Some(lease));
                        if !is_new {
                            self.count("renew: left as it was");
                        }
                    }
                    Renewed::Lost if !is_held => self.count("renew: lost to another"),
                    Renewed::Lost => {
                        let hold_until = self.grants.last().unwrap().hold_until;
                        prop_assert!(observer.now >= hold_until, "lost, but nobody has it");
                        self.count("renew: lost to the longest hold");
                    }
                }
                Ok(())
            }
            (Call::Release(attempt, how), Answer::Released(outcome)) => {
                let register = register.expect("answered on a strong read");
                if is_held_by(register, *attempt) && *how == Release::Unheard {
                    prop_assert!(self.told_again.contains(attempt), "nobody was told of it, and it is kept");
                    prop_assert_eq!(outcome, &ReleaseOutcome::NotHeld);
                    self.count("release: kept, as somebody heard of it");
                    return Ok(());
                }
                prop_assert!(!is_held_by(register, *attempt));
                match outcome {
                    ReleaseOutcome::Released => {
                        prop_assert!(self.released.contains(attempt));
                        if !is_new {
                            self.count("release: repeated");
                        }
                    }
                    ReleaseOutcome::NotHeld => {
                        prop_assert_ne!(self.last_ended, Some((*attempt, true)), "it was released");
                        self.count("release: not held");
                    }
                }
                Ok(())
            }
            (Call::Commit(attempt, _), Answer::Committed(outcome)) => {
                self.check_committed(observer, *attempt, outcome, register, is_new)
            }
            (Call::MarkGone(generation), Answer::Healed(outcome)) => {
                let pointer = register.unwrap().and_then(|entry| entry.pointer.as_ref());
                let current = pointer.filter(|pointer| pointer.generation == *generation);
                match outcome {
                    Healed::Gone => prop_assert!(current.is_some_and(|pointer| pointer.gone)),
                    Healed::Superseded => prop_assert_eq!(current, None),
                }
                self.count(match outcome {
                    Healed::Gone if is_new => "gone: marked",
                    Healed::Gone => "gone: repeated",
                    Healed::Superseded => "gone: superseded",
                });
                Ok(())
            }
            _ => panic!("{answer:?} is no answer to {call:?}"),
        }
    }

    fn check_committed(
        &mut self,
        observer: Observer,
        attempt: Attempt,
        outcome: &Committed,
        register: Option<Option<&Entry>>,
        is_new: bool,
    ) -> TestCaseResult {
        let was_current = self.committed.get(&attempt);
        match outcome {
            Committed::Committed | Committed::CommittedStale(_) => {
                let Some(pointer) = was_current else {
                    return Err(TestCaseError::fail("committed, but it never was"));
                };
                if let Some(register) = register {
                    let current = register.and_then(|entry| entry.pointer.as_ref());
                    prop_assert_eq!(current.map(|pointer| pointer.generation), Some(attempt.1));
                    prop_assert!(!self.turned_away.contains(&attempt));
                }
                let (began, upto) = (self.log.began(pointer), observer.position);
                match outcome {
                    Committed::CommittedStale(Verdict::Purged) => {
                        let reached = self.log.is_reached(pointer, pointer.seen, upto, &[Depth::Hard]);
                        prop_assert!(reached || observer.hard_floor > pointer.seen);
                    }
                    Committed::CommittedStale(verdict) => {
                        prop_assert_eq!(*verdict, Verdict::Invalidated);
                        let reached = self.log.is_reached(pointer, pointer.seen, upto, &[Depth::Soft]);
                        prop_assert!(reached || observer.floor > pointer.seen);
                        prop_assert!(!self.log.is_reached(pointer, began, upto, &[Depth::Hard]));
                    }
                    _ => {
                        prop_assert!(!self.log.is_reached(pointer, began, upto, &[Depth::Soft, Depth::Hard]))
                    }
                }
                self.count(match (outcome, is_new) {
                    (Committed::Committed, true) => "commit: committed",
                    (Committed::Committed, false) => "commit: repeated, committed",
                    (Committed::CommittedStale(Verdict::Purged), true) => "commit: committed stale, hard",
                    (_, true) => "commit: committed stale, soft",
                    (_, false) => "commit: repeated, stale by now",
                });
            }
            Committed::Superseded { current } => {
                let entry = register.expect("answered on a strong read").unwrap();
                prop_assert_eq!(entry.pointer.as_ref().map(|pointer| pointer.generation), Some(*current));
                prop_assert!(*current > attempt.1);
                self.count(match was_current {
                    Some(_) => "commit: superseded after it was current",
                    None => "commit: superseded",
                });
                self.turned_away.insert(attempt);
            }
            Committed::Fenced { latest } => {
                let entry = register.expect("answered on a strong read").unwrap();
                prop_assert_eq!(was_current, None, "fenced, but it was applied");
                prop_assert!(!is_held_by(Some(entry), attempt), "fenced, but it holds the lease");
                prop_assert_eq!(Some(entry.generation), *latest);
                let twin = entry.lease.as_ref().is_some_and(|lease| lease.token == attempt.0);
                self.count(if twin {
                    "commit: fenced while its token has another generation"
                } else {
                    "commit: fenced"
                });
                self.turned_away.insert(attempt);
            }
        }
        Ok(())
    }

    fn count_acquired(&self, observer: Observer, outcome: &Acquired, register: Option<Option<&Entry>>) {
        match outcome {
            Acquired::AlreadyYours(lease) => {
                let pointer = register.flatten().and_then(|entry| entry.pointer.as_ref());
                let tags = pointer.map_or(&[][..], |pointer| &pointer.meta.tags);
                if self.log.verdict(observer, lease.seen, tags, None) != Verdict::Valid {
                    self.count("acquire: already yours, overtaken");
                }
                if observer.now >= self.expires(lease) {
                    self.count("acquire: already yours, expired");
                }
                self.count("acquire: already yours");
            }
            Acquired::Ended => self.count("acquire: ended"),
            Acquired::Ready(Freshness::Stale(Staleness::Unverified)) => {
                self.count("acquire: ready, though unverified");
            }
            Acquired::Ready(Freshness::Stale(_)) => self.count("acquire: ready, awaited though expired"),
            Acquired::Ready(_) => self.count("acquire: ready, fresh"),
            Acquired::Held { .. } => self.count("acquire: held"),
            Acquired::BackingOff { .. } => self.count("acquire: backing off"),
            Acquired::Granted(_) | Acquired::Exhausted => {}
        }
    }

    // --- freshness ---

    /// P3: what was invalidated after its render began is never fresh to who has read so far, nor served if
    /// it was purged.
    pub(crate) fn check_freshness(
        &self,
        observer: Observer,
        pointer: Option<&Pointer>,
        found: Freshness,
    ) -> TestCaseResult {
        prop_assert_eq!(found, self.freshness(observer, pointer));
        if let Some(pointer) = pointer {
            let (began, upto) = (self.log.began(pointer), observer.position);
            let any = [Depth::Soft, Depth::Hard];
            if found == Freshness::Fresh {
                prop_assert!(
                    !self.log.is_reached(pointer, began, upto, &any),
                    "fresh, but of before an event"
                );
                prop_assert!(observer.verified);
                if self.log.is_reached(pointer, Seq::START, began, &any) {
                    self.count("judge: fresh, rendered after an invalidation of it");
                }
            }
            if !matches!(found, Freshness::Missing(_)) {
                prop_assert!(
                    !self.log.is_reached(pointer, began, upto, &[Depth::Hard]),
                    "served, but purged"
                );
            }
            if observer.hard_floor > pointer.seen && found == Freshness::Missing(Absence::Purged) {
                self.count("judge: kept from being fresh by an event that is forgotten");
            }
        }
        self.count(match found {
            Freshness::Fresh => "judge: fresh",
            Freshness::Stale(Staleness::Expired) => "judge: expired",
            Freshness::Stale(Staleness::Invalidated) => "judge: invalidated",
            Freshness::Stale(Staleness::Unverified) => "judge: unverified",
            Freshness::Missing(Absence::NeverRendered) if pointer.is_some() => "judge: forgotten by age",
            Freshness::Missing(Absence::NeverRendered) => "judge: never rendered",
            Freshness::Missing(Absence::Purged) => "judge: purged",
            Freshness::Missing(Absence::BodyGone) => "judge: gone",
        });
        Ok(())
    }

    fn freshness(&self, observer: Observer, pointer: Option<&Pointer>) -> Freshness {
        let Some(pointer) = pointer else { return Freshness::Missing(Absence::NeverRendered) };
        let age = observer.now.since(pointer.generated_at);
        let verdict =
            self.log.verdict(observer, pointer.seen, &pointer.meta.tags, pointer.meta.path.as_ref());
        if age >= self.rules.retention {
            Freshness::Missing(Absence::NeverRendered)
        } else if verdict == Verdict::Purged {
            Freshness::Missing(Absence::Purged)
        } else if pointer.gone {
            Freshness::Missing(Absence::BodyGone)
        } else if verdict == Verdict::Invalidated {
            Freshness::Stale(Staleness::Invalidated)
        } else if pointer.meta.revalidate.is_some_and(|revalidate| age >= revalidate) {
            Freshness::Stale(Staleness::Expired)
        } else if !observer.verified {
            Freshness::Stale(Staleness::Unverified)
        } else {
            Freshness::Fresh
        }
    }

    fn expires(&self, lease: &Lease) -> Timestamp {
        lease.expires_at.plus(self.rules.expiry_tolerance)
    }

    /// As an observer sees it, who may have known it for a while.
    fn expires_to(&self, observer: Observer, lease: &Lease) -> Timestamp {
        let lasts = lease.ttl + self.rules.expiry_tolerance;
        self.expires(lease).min(observer.now.plus(lasts.saturating_sub(observer.known_for)))
    }

    fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }
}

fn is_held_by(entry: Option<&Entry>, Attempt(token, generation): Attempt) -> bool {
    let lease = entry.and_then(|entry| entry.lease.as_ref());
    lease.is_some_and(|lease| (lease.token, lease.generation) == (token, generation))
}
