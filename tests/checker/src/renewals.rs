//! What holders are told when they ask for more time.

use super::{
    history::{Call, History, Operation, Outcome, Time},
    index::{Edition, Index, may_have_overtaken, of_entry},
};

/// Whoever is told that the lease lasts on has it: nobody was granted it since, and it was not ended.
pub(super) fn renewed_for_its_holder(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for (number, edition, operation) in renewals(history) {
        if operation.outcome() != Some(&Outcome::Renewed) {
            continue;
        }
        let (entry, generation) = edition;
        let overtaken = of_entry(&index.grants, entry)
            .filter(|(other, _)| *other > generation)
            .any(|(_, grants)| grants.iter().any(|grant| grant.answered < operation.began));
        let is_over = overtaken
            || history.operations.iter().any(|other| {
                other.answered() < operation.began
                    && match &other.call {
                        Call::Commit { entry, generation, .. } => {
                            (*entry, *generation) == edition && has_ended(other.outcome())
                        }
                        Call::Release { entry, generation } => {
                            (*entry, *generation) == edition
                                && matches!(other.outcome(), Some(Outcome::Released | Outcome::NotHeld))
                        }
                        _ => false,
                    }
            });
        if is_over {
            found.push(format!("{edition:?}, which was over, was renewed by operation {number}"));
        }
    }
    found
}

/// Whoever is told that it is not his any more was overtaken, has ended it himself, or has had it for as long as one may. That it
/// has expired is no reason.
pub(super) fn lost_for_a_reason(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for (number, edition, operation) in renewals(history) {
        if operation.outcome() != Some(&Outcome::Lost) {
            continue;
        }
        let terms = history.terms;
        let until = index.first_grant(edition).unwrap_or_default() + terms.longest_hold;
        let may_be_over = operation.answered() + terms.clocks_apart + terms.slack >= until;
        let reason = history.operations.iter().any(|other| {
            other.began <= operation.answered()
                && match &other.call {
                    Call::Acquire { .. } => may_have_overtaken(history, index, other, edition),
                    Call::Commit { entry, generation, .. } | Call::Release { entry, generation } => {
                        (*entry, *generation) == edition
                    }
                    _ => false,
                }
        });
        if !reason && !may_be_over {
            found.push(format!(
                "{edition:?} was lost to operation {number} at {}, nobody came after it, and it may be held until {until}",
                operation.began
            ));
        }
    }
    found
}

/// Until when a lease lasts at least, by its grants and by what renewed it before then.
pub(super) fn held_until(history: &History, index: &Index, edition: Edition, by: Time) -> Time {
    let began = index.first_grant(edition).unwrap_or_default();
    let grants = index.grants.get(&edition).into_iter().flatten();
    let granted = began + grants.map(|grant| grant.ttl).min().unwrap_or_default();
    let renewed = renewals(history)
        .filter(|(_, of, operation)| {
            *of == edition && operation.outcome() == Some(&Outcome::Renewed) && operation.answered() < by
        })
        .filter_map(|(_, _, operation)| match operation.call {
            Call::Renew { ttl, .. } => Some(operation.began + ttl),
            _ => None,
        });
    renewed.fold(granted, Time::max).min(began + history.terms.longest_hold)
}

fn renewals(history: &History) -> impl Iterator<Item = (usize, Edition, &Operation)> {
    history.operations.iter().enumerate().filter_map(|(number, operation)| match operation.call {
        Call::Renew { entry, generation, .. } => Some((number, (entry, generation), operation)),
        _ => None,
    })
}

/// Whether this is what is told of a commit after which its lease is nobody's.
fn has_ended(outcome: Option<&Outcome>) -> bool {
    matches!(
        outcome,
        Some(
            Outcome::Committed { .. }
                | Outcome::CommittedStale { .. }
                | Outcome::Superseded { .. }
                | Outcome::Fenced { .. }
        )
    )
}
