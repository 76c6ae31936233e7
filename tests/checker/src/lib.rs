//! Judges a history by the promises alone. It shares no code with the system, and no types: what it does not know, it
//! cannot excuse.
//!
//! Times are compared with the benefit of the doubt: a call took effect at some moment between its invocation and its
//! answer, and one call was before another only where it was answered in an earlier step than the other one began.

pub mod history;
mod index;
mod names;
mod register;
mod renewals;
mod rules;
mod search;
mod stores;
#[cfg(test)]
mod tests;

use history::History;
use index::Index;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule found it.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
}

/// Every broken promise in a history.
pub fn violations(history: &History) -> Vec<Violation> {
    let index = Index::of(history);
    let found: Vec<_> = rules::ALL
        .iter()
        .flat_map(|(rule, judge)| judge(history, &index).into_iter().map(|what| Violation { rule, what }))
        .collect();
    if found.is_empty() { unexplained(history) } else { found }
}

/// What the rules have overlooked, who come to the same by another way.
fn unexplained(history: &History) -> Vec<Violation> {
    let rule = "one order explains all answers";
    search::unexplained(history)
        .map(|entry| Violation { rule, what: format!("not of entry {entry}") })
        .collect()
}

/// The names of all rules.
pub fn rules() -> impl Iterator<Item = &'static str> {
    rules::ALL.iter().map(|(rule, _)| *rule)
}
