//! Over random histories, the rules and the search must come to the same.

use super::{super::violations, unexplained};
use crate::history::{
    Absence, Call, History, Identity, Names, Operation, Outcome, Reason, Rendered, Scope, Seen, Time, Told,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use std::collections::{BTreeMap, BTreeSet};

/// The rules that say together whether a history of one entry is linearizable.
const RULES: [&str; 9] = [
    "commits are accepted in the order of their generations",
    "what was acknowledged is there, or something newer",
    "what was fenced is never applied",
    "what was superseded is not called fenced",
    "what surely failed was not applied",
    "superseded is said only of what is older",
    "strict lookups never go back",
    "what is missing never was there, or was purged",
    "what is served was committed before",
];

/// How an entry really went: what became current when, and everything else that a history is made of.
struct Story<'a> {
    rng: &'a mut StdRng,
    became: Vec<(Time, u64)>,
    tags: BTreeMap<u64, BTreeSet<String>>,
    history: History,
}

const TAGS: [&str; 2] = ["news", "sport"];
/// Calls begin within so many milliseconds, so that most are at the same time as some others.
const LASTING: Time = 40;

impl Story<'_> {
    /// A short one, with answers that are all true.
    fn told(rng: &mut StdRng) -> History {
        let mut story = Story { rng, became: Vec::new(), tags: BTreeMap::new(), history: History::default() };
        story.history.entries.push(Identity { tenant: "acme".into(), ..Identity::default() });
        let newest = story.rng.random_range(1..=4);
        let mut moments: Vec<_> = (0..newest).map(|_| story.rng.random_range(1..LASTING)).collect();
        moments.sort_unstable();
        for _ in 0..story.rng.random_range(0..=2) {
            let scopes = vec![Scope::Tag("acme".into(), story.tag())];
            story.call(Call::Invalidate { attempt: 0, scopes, hard: true }, |_, _, _| Outcome::Invalidated);
        }
        for (generation, moment) in (1..).zip(moments) {
            let tags = TAGS.iter().filter(|_| story.rng.random()).map(|tag| (*tag).to_owned()).collect();
            story.tags.insert(generation, tags);
            let is_applied = story.rng.random_bool(0.7);
            if is_applied {
                story.became.push((moment, generation));
            }
        }
        for generation in 1..=newest {
            story.commits(generation);
        }
        for _ in 0..story.rng.random_range(1..=4) {
            let call = Call::Lookup { entry: 0, strict: true, knows: None };
            story.call(call, |story, _, (moment, answered)| story.looked_up(moment, answered));
        }
        for _ in 0..story.rng.random_range(0..=1) {
            let call = Call::Lookup { entry: 0, strict: false, knows: None };
            story.call(call, |story, _, (moment, _)| {
                let remembered = story.rng.random_range(0..=moment);
                match story.current(remembered) {
                    0 => Outcome::Missing(Absence::NeverRendered),
                    generation => Outcome::Fresh(seen(generation)),
                }
            });
        }
        if story.rng.random_bool(0.3) {
            story.call(Call::Watch, |story, _, (moment, _)| {
                let generation = story.current(moment);
                let told = (generation > 0).then_some(Told::Committed { entry: 0, generation });
                Outcome::Watched(told.into_iter().collect())
            });
        }
        story.history
    }

    fn tag(&mut self) -> String {
        TAGS.choose(self.rng).copied().unwrap_or_default().to_owned()
    }

    /// A call that is answered by what is the case at a moment of it.
    fn call(&mut self, call: Call, answer: impl FnOnce(&mut Self, &Call, (Time, Time)) -> Outcome) {
        let began = self.rng.random_range(0..LASTING);
        self.call_at(began, call, answer);
    }

    fn call_at(
        &mut self,
        began: Time,
        call: Call,
        answer: impl FnOnce(&mut Self, &Call, (Time, Time)) -> Outcome,
    ) {
        let answered = began + self.rng.random_range(0..=10);
        let moment = self.rng.random_range(began..=answered);
        let outcome = answer(self, &call, (moment, answered));
        self.history.operations.push(Operation {
            actor: String::new(),
            began,
            answer: Some((answered, outcome)),
            call,
            may_take: 100,
            paused: 0,
            abandoned: false,
        });
    }

    fn current(&self, moment: Time) -> u64 {
        self.became
            .iter()
            .filter(|(at, _)| *at <= moment)
            .map(|(_, generation)| *generation)
            .max()
            .unwrap_or(0)
    }

    /// One or two calls; where it ever became current, the first one began before.
    fn commits(&mut self, generation: u64) {
        let became = self.became.iter().find(|(_, other)| *other == generation).map(|(at, _)| *at);
        for attempt in 0..self.rng.random_range(1..=2) {
            let began = match became {
                Some(at) if attempt == 0 => at.saturating_sub(self.rng.random_range(0..=8)),
                _ => self.rng.random_range(0..LASTING),
            };
            let page = Rendered {
                html: String::new(),
                sidecar: None,
                is_sidecar_ahead: false,
                is_html_ahead: false,
                names: Names::default(),
                tags: self.tags[&generation].clone(),
                revalidate: None,
            };
            let call = Call::Commit { entry: 0, attempt: 0, generation, page };
            self.call_at(began, call, |story, _, (moment, _)| {
                let current = story.current(moment);
                match became {
                    _ if current > generation => Outcome::Superseded { current },
                    Some(at) if at <= moment && story.rng.random_bool(0.7) => acknowledged(),
                    None if story.rng.random() => Outcome::Fenced { latest: generation },
                    None => failed(story.rng.random()),
                    Some(_) => failed(true),
                }
            });
        }
    }

    fn looked_up(&mut self, moment: Time, answered: Time) -> Outcome {
        let current = self.current(moment);
        let none = &BTreeSet::new();
        let tags = self.tags.get(&current).unwrap_or(none);
        let is_purged = self.history.operations.iter().any(|purge| match &purge.call {
            Call::Invalidate { scopes, .. } => {
                purge.began <= answered
                    && scopes.iter().any(|scope| scope.covers(&self.history.entries[0], tags))
            }
            _ => false,
        });
        match current {
            0 if self.rng.random() => Outcome::Missing(Absence::Untold),
            0 => Outcome::Missing(Absence::NeverRendered),
            _ if is_purged && self.rng.random() => Outcome::Missing(Absence::Purged),
            _ if is_purged && self.rng.random() => Outcome::Missing(Absence::Untold),
            _ => Outcome::Stale(seen(current), Reason::Expired),
        }
    }
}

fn seen(generation: u64) -> Seen {
    Seen { generation, told: String::new(), bytes: None, sidecar: false, names: Names::default() }
}

fn acknowledged() -> Outcome {
    Outcome::Committed { names: Names::default() }
}

fn failed(in_doubt: bool) -> Outcome {
    Outcome::Failed { in_doubt, why: "TimedOut".into() }
}

/// Changes when something was asked or answered, or what was.
fn falsify(history: &mut History, rng: &mut StdRng) {
    let number = rng.random_range(0..history.operations.len());
    let operation = &mut history.operations[number];
    let any = rng.random_range(1..=4);
    let Some((answered, outcome)) = &mut operation.answer else { return };
    match rng.random_range(0..4) {
        0 => *answered += rng.random_range(0..=10),
        1 => *answered = rng.random_range(operation.began..=*answered),
        2 => {
            let lasting = *answered - operation.began;
            operation.began = rng.random_range(0..LASTING);
            *answered = operation.began + lasting;
        }
        _ => {
            *outcome = match operation.call {
                Call::Commit { generation, .. } => match rng.random_range(0..5) {
                    0 => acknowledged(),
                    1 => Outcome::Fenced { latest: generation },
                    2 => Outcome::Superseded { current: any },
                    _ => failed(rng.random()),
                },
                Call::Lookup { .. } => match rng.random_range(0..5) {
                    0 => Outcome::Missing(Absence::NeverRendered),
                    1 => Outcome::Missing(Absence::Purged),
                    2 => Outcome::Missing(Absence::Untold),
                    _ => Outcome::Fresh(seen(any)),
                },
                Call::Watch => Outcome::Watched(vec![Told::Committed { entry: 0, generation: any }]),
                _ => Outcome::Invalidated,
            };
        }
    }
}

fn is_explained(history: &History) -> bool {
    unexplained(history).next().is_none()
}

fn broken(history: &History) -> BTreeSet<&'static str> {
    violations(history).into_iter().map(|found| found.rule).filter(|rule| RULES.contains(rule)).collect()
}

#[test]
fn answers_that_are_true_break_no_rule_and_can_be_ordered() {
    for seed in 0..10_000 {
        let history = Story::told(&mut StdRng::seed_from_u64(seed));
        assert_eq!(broken(&history), BTreeSet::new(), "{seed}: {history:#?}");
        assert!(is_explained(&history), "{seed}: {history:#?}");
    }
}

#[test]
fn rules_and_search_come_to_the_same() {
    let (mut explained, mut contradictory) = (0, 0);
    let mut alone: BTreeMap<&str, u32> = RULES.iter().map(|rule| (*rule, 0)).collect();
    for seed in 0..30_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut history = Story::told(&mut rng);
        for _ in 0..rng.random_range(1..=3) {
            falsify(&mut history, &mut rng);
        }
        let broken = broken(&history);
        assert_eq!(broken.is_empty(), is_explained(&history), "{seed}: {broken:?} in {history:#?}");
        match broken.iter().next() {
            None => explained += 1,
            Some(rule) => {
                contradictory += 1;
                if broken.len() == 1 {
                    *alone.entry(rule).or_default() += 1;
                }
            }
        }
    }
    assert!(explained > 5_000 && contradictory > 5_000, "{explained} and {contradictory}");
    // Each rule finds what no other one does.
    assert!(alone.values().all(|times| *times > 20), "{alone:?}");
}
