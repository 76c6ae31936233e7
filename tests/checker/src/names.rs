//! Bodies by the names that their workers gave them.
//!
//! A name is new for every render. A page whose body did not change may keep that of the page before, which is why it is told
//! what its bodies are called. Whoever gives a name that was given before is to be refused as long as a body has it; once that
//! was deleted, it is at its own risk: what was to delete the one may delete the other.

use super::{
    history::{Call, History, Kind, Names, Operation, Outcome, Rendered, Rendering, Time},
    index::{Edition, Index, may_be_purged, may_be_purged_in_doubt, served, surely_failed},
    rules::{invalidations_of, must_know},
    stores::rows,
};
use std::collections::{BTreeMap, BTreeSet};

/// A name within its tenant.
type Name<'a> = (&'a str, &'a str);

/// Which names were given to what.
pub(super) struct Given<'a> {
    history: &'a History,
    /// By what it was first given to a page, in the order of generations.
    names: BTreeMap<Name<'a>, BTreeMap<Edition, Giving<'a>>>,
    /// Of each entry and digest, the pages whose body of this kind was given a name.
    alike: BTreeMap<(usize, Kind, &'a str), BTreeMap<u64, Giving<'a>>>,
}

/// A body that was given a name, at the first commit that did so.
#[derive(Clone, Copy)]
struct Giving<'a> {
    began: Time,
    page: &'a Rendered,
    body: Rendering<'a>,
    /// Some commit that gave it may have been applied.
    may_hold: bool,
}

/// Somebody was told what the bodies of a page are called.
#[derive(Clone, Copy)]
struct Telling<'a> {
    number: usize,
    answered: Time,
    edition: Edition,
    names: &'a Names,
}

impl<'a> Given<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut given = Self { history, names: BTreeMap::new(), alike: BTreeMap::new() };
        for operation in &history.operations {
            let Call::Commit { entry, generation, page, .. } = &operation.call else { continue };
            let tenant = &*history.entries[*entry].tenant;
            for body in page.bodies() {
                let Some(name) = body.name else { continue };
                let may_hold = !surely_failed(operation);
                let giving = Giving { began: operation.began, page, body, may_hold };
                let pages = given.names.entry((tenant, name)).or_default();
                pages.entry((*entry, *generation)).or_insert(giving).may_hold |= may_hold;
                let alike = given.alike.entry((*entry, body.kind, body.digest)).or_default();
                alike.entry(*generation).or_insert(giving).may_hold |= may_hold;
            }
        }
        given
    }

    /// What may have this name: the pages that it was given to, and those that may have kept it.
    fn holders(&self, name: Name<'_>) -> BTreeMap<Edition, Giving<'a>> {
        let mut holders = BTreeMap::new();
        for ((entry, generation), giving) in self.names.get(&name).into_iter().flatten() {
            holders.insert((*entry, *generation), *giving);
            for (later, kept) in self.kept_since((*entry, *generation), giving) {
                holders.entry(later).or_insert(kept);
            }
        }
        holders
    }

    /// Later pages of an entry that have the same body, and gave it a name.
    fn kept_since<'b>(
        &'b self,
        (entry, generation): Edition,
        giving: &Giving<'a>,
    ) -> impl Iterator<Item = (Edition, Giving<'a>)> + 'b {
        let alike = self.alike.get(&(entry, giving.body.kind, giving.body.digest));
        let later = alike.into_iter().flat_map(move |alike| alike.range(generation + 1..));
        later.map(move |(generation, giving)| ((entry, *generation), *giving))
    }

    /// Whether an entry gave its sidecar with these bytes the name that a page was told to have for its own, in operation
    /// `told`. A token tells the name: where a name was given again, what was asked for by it may be what had it before, as a
    /// coordinator may remember that, or what has it now.
    pub(super) fn is_sidecar_of(&self, entry: usize, told: &Operation, digest: &str) -> bool {
        let name = told.outcome().and_then(Outcome::seen).and_then(|seen| seen.names.sidecar.as_deref());
        let (Some(name), Some(owner)) = (name, told.entry()) else { return false };
        let holders = self.holders((&self.history.entries[owner].tenant, name));
        holders.iter().any(|((of, _), giving)| {
            *of == entry && giving.body.kind == Kind::Sidecar && giving.body.digest == digest
        })
    }

    /// Whether a page gave a name that another one was given before it: whoever deletes what that one left may take the new
    /// body for it.
    pub(super) fn gave_again(&self, page: Edition) -> bool {
        self.names.values().any(|pages| pages.contains_key(&page) && owner(pages) != Some(page))
    }

    fn tenant_of(&self, edition: Edition) -> &'a str {
        &self.history.entries[edition.0].tenant
    }
}

impl<'a> Telling<'a> {
    fn all(history: &'a History) -> Vec<Self> {
        let pages = served(history).map(|(number, operation, entry, seen)| Self {
            number,
            answered: operation.answered(),
            edition: (entry, seen.generation),
            names: &seen.names,
        });
        let commits = history.operations.iter().enumerate().filter_map(|(number, operation)| {
            match (&operation.call, operation.outcome()) {
                (
                    Call::Commit { entry, generation, .. },
                    Some(Outcome::Committed { names } | Outcome::CommittedStale { names, .. }),
                ) => Some(Self {
                    number,
                    answered: operation.answered(),
                    edition: (*entry, *generation),
                    names,
                }),
                _ => None,
            }
        });
        pages.chain(commits).collect()
    }
}

/// The page that was given a name first.
fn owner(pages: &BTreeMap<Edition, Giving<'_>>) -> Option<Edition> {
    pages.iter().min_by_key(|(_, giving)| giving.began).map(|(edition, _)| *edition)
}

/// Pages that gave a name which was given before, and those that may have kept it from them: their bodies may be lost.
pub(super) fn at_risk(history: &History) -> BTreeSet<Edition> {
    let given = Given::of(history);
    let mut at_risk = BTreeSet::new();
    for pages in given.names.values() {
        let owner = owner(pages);
        let others = pages.iter().filter(|(edition, giving)| Some(**edition) != owner && giving.may_hold);
        for (edition, giving) in others {
            at_risk.insert(*edition);
            at_risk.extend(given.kept_since(*edition, giving).map(|(later, _)| later));
        }
    }
    at_risk
}

pub(super) fn bytes_of_its_name(history: &History, _: &Index) -> Vec<String> {
    let given = Given::of(history);
    let mut found = Vec::new();
    for (number, operation, name) in asked(history) {
        let Some(Outcome::Object { told, bytes }) = operation.outcome() else { continue };
        let is_of = |giving: &Giving<'_>| {
            giving.began <= operation.answered() && giving.body.digest == told && told == bytes
        };
        if !given.names.get(&name).is_some_and(|pages| pages.values().any(is_of)) {
            found.push(format!(
                "{name:?}: operation {number} served {bytes}, told as {told}, which nobody had called so"
            ));
        }
    }
    found
}

pub(super) fn purged_is_not_served_by_name(history: &History, index: &Index) -> Vec<String> {
    let given = Given::of(history);
    let mut found = Vec::new();
    for (number, operation, name) in asked(history) {
        let Some(Outcome::Object { bytes, .. }) = operation.outcome() else { continue };
        let is_well = history.quiet_from.is_some_and(|quiet| operation.began > quiet);
        let bound = is_well.then_some(history.terms.staleness_bound);
        let holders = given.holders(name).into_iter();
        let holders = holders
            .filter(|(_, giving)| giving.may_hold && giving.body.digest == bytes)
            .filter(|(_, giving)| giving.began <= operation.answered())
            .map(|(edition, _)| edition);
        let purges: Option<Vec<_>> = holders
            .map(|edition| {
                invalidations_of(history, index, edition, true)
                    .find(|invalidation| must_know(history, operation, *invalidation, bound))
                    .map(|invalidation| (edition, invalidation))
            })
            .collect();
        if let Some(purges) = purges.filter(|purges| !purges.is_empty()) {
            found.push(format!(
                "{name:?}: operation {number} at {} served what had been purged: {purges:?}",
                operation.began
            ));
        }
    }
    found
}

pub(super) fn named_is_found(history: &History, index: &Index) -> Vec<String> {
    let given = Given::of(history);
    // Of each name, who was first told that a page is called so: pages are read thousands of times.
    let mut told: BTreeMap<Name<'_>, BTreeMap<Edition, Telling<'_>>> = BTreeMap::new();
    for telling in Telling::all(history) {
        let tenant = given.tenant_of(telling.edition);
        for name in [Kind::Html, Kind::Sidecar].into_iter().filter_map(|kind| telling.names.of(kind)) {
            let pages = told.entry((tenant, name)).or_default();
            let first = pages.entry(telling.edition).or_insert(telling);
            if telling.answered < first.answered {
                *first = telling;
            }
        }
    }
    let mut found = Vec::new();
    for (number, operation, name) in asked(history) {
        if operation.outcome() != Some(&Outcome::NoObject) {
            continue;
        }
        // A coordinator may repeat what was true before.
        let known_by = operation.began.saturating_sub(history.terms.reread + history.terms.slack);
        let tellings = told.get(&name).into_iter().flat_map(BTreeMap::values);
        let tellings = tellings.filter(|telling| !index.at_risk.contains(&telling.edition));
        let kept = tellings.filter(|telling| telling.answered < known_by).find(|telling| {
            let by = operation.answered();
            !may_be_deleted(history, index, telling.edition, by)
                && !may_be_hidden(history, index, &given, name, telling.edition, by)
        });
        if let Some(Telling { number: by, edition, .. }) = kept {
            found.push(format!(
                "{name:?}: operation {number} at {} found nothing, but {edition:?} is called so (operation {by})",
                operation.began
            ));
        }
    }
    found
}

/// Whether a purge that was called by then may keep a page from being found by its name.
fn may_be_hidden(
    history: &History,
    index: &Index,
    given: &Given<'_>,
    name: Name<'_>,
    edition: Edition,
    by: Time,
) -> bool {
    if may_be_purged(history, index, edition, by) {
        return true;
    }
    // What is current has its pointer to speak for it; anything else only what is written on it.
    let is_current = superseding(history, index, edition).all(|(_, commit)| commit.began > by);
    !is_current
        && given.holders(name).iter().any(|(holder, giving)| {
            // One that does not say what it can be invalidated by counts as purged by whatever purges pages of its tenant.
            let may_be = if giving.body.is_ahead { may_be_purged_in_doubt } else { may_be_purged };
            may_be(history, index, *holder, by)
        })
}

/// Whether what is deleted a while after it was superseded may be by then. Those who look for what no row names go by clocks.
fn may_be_deleted(history: &History, index: &Index, edition: Edition, by: Time) -> bool {
    superseding(history, index, edition).any(|(_, commit)| commit.began + kept(history) <= by)
}

/// For how long, at least.
fn kept(history: &History) -> Time {
    history.terms.deletion_grace.saturating_sub(history.terms.clocks_apart)
}

/// Commits that may have superseded a page, and their generations.
fn superseding<'a>(
    history: &'a History,
    index: &'a Index,
    (entry, generation): Edition,
) -> impl Iterator<Item = (u64, &'a Operation)> {
    let newer = index.commits.range((entry, generation + 1)..=(entry, u64::MAX));
    let may_be = newer.filter(|(edition, _)| !index.refused.contains(edition));
    let commits = may_be.flat_map(move |((_, generation), commits)| {
        commits.iter().map(move |number| (*generation, &history.operations[*number]))
    });
    commits.filter(|(_, commit)| !surely_failed(commit))
}

pub(super) fn given_to_one_body(history: &History, index: &Index) -> Vec<String> {
    let mut told: BTreeMap<(Name<'_>, Kind), BTreeMap<Edition, Time>> = BTreeMap::new();
    for Telling { answered, edition, names, .. } in Telling::all(history) {
        for kind in [Kind::Html, Kind::Sidecar] {
            let Some(name) = names.of(kind) else { continue };
            let tenant = &*history.entries[edition.0].tenant;
            let by = told.entry(((tenant, name), kind)).or_default().entry(edition).or_insert(answered);
            *by = answered.min(*by);
        }
    }
    let digest = |edition, kind| {
        let bodies = index.rendered(history, edition)?.bodies();
        bodies.filter(|body| body.kind == kind).map(|body| body.digest).next()
    };
    let mut found = Vec::new();
    for ((name, kind), pages) in told {
        for one in pages.keys() {
            for (other, by) in &pages {
                let began = |edition| index.first_commit(history, edition);
                if one == other || began(*one) > began(*other) {
                    continue;
                }
                let is_same = one.0 == other.0 && digest(*one, kind) == digest(*other, kind);
                let may_be_purged = may_be_purged_in_doubt(history, index, *one, *by);
                let kept = if may_be_purged { 0 } else { kept(history) };
                let was_free = superseding(history, index, *one).any(|(generation, commit)| {
                    (one.0 != other.0 || generation < other.1) && commit.began + kept <= *by
                });
                if !is_same && !was_free {
                    found.push(format!("{name:?} is what {one:?} and {other:?} are called"));
                }
            }
        }
    }
    found
}

pub(super) fn names_are_as_given(history: &History, index: &Index) -> Vec<String> {
    let given = Given::of(history);
    let mut found = Vec::new();
    let mut first: BTreeMap<(Edition, Kind), (String, Option<&str>)> = BTreeMap::new();
    let told = Telling::all(history);
    let told = told.iter().map(|telling| {
        let Telling { number, edition, names, .. } = telling;
        (format!("operation {number}"), *edition, [names.html.as_deref(), names.sidecar.as_deref()])
    });
    let in_rows = rows(history).map(|row| {
        let sidecar = row.sidecar.as_ref().and_then(|body| body.given.as_deref());
        ("a row".to_owned(), (row.entry, row.generation), [row.html.given.as_deref(), sidecar])
    });
    for (who, edition, names) in told.chain(in_rows) {
        for (kind, name) in [Kind::Html, Kind::Sidecar].into_iter().zip(names) {
            let (before, other) = first.entry((edition, kind)).or_insert_with(|| (who.clone(), name));
            if *other != name {
                found.push(format!(
                    "{edition:?}: {kind:?} is called {name:?} by {who}, and {other:?} by {before}"
                ));
            }
            if !is_as_given(history, index, &given, edition, kind, name) {
                found.push(format!(
                    "{edition:?}: {kind:?} is called {name:?} by {who}, as nobody had called it"
                ));
            }
        }
    }
    found
}

/// Whether a body of a page may be called so: by its own worker, or by that of an earlier page that had the same one.
fn is_as_given(
    history: &History,
    index: &Index,
    given: &Given<'_>,
    edition: Edition,
    kind: Kind,
    name: Option<&str>,
) -> bool {
    let Some(commits) = index.commits.get(&edition) else { return true };
    let pages = commits.iter().filter_map(|number| match &history.operations[*number].call {
        Call::Commit { page, .. } => Some(page),
        _ => None,
    });
    let own: BTreeSet<_> = pages
        .clone()
        .map(|page| page.bodies().find(|body| body.kind == kind).and_then(|body| body.name))
        .collect();
    if own.contains(&name) {
        return true;
    }
    // Who gave no name wants none.
    let (Some(name), true) = (name, own.iter().any(Option::is_some)) else { return false };
    let earlier = given.names.get(&(given.tenant_of(edition), name)).into_iter().flatten();
    let mut earlier =
        earlier.filter(|((entry, generation), _)| *entry == edition.0 && *generation < edition.1);
    let is_alike = |giving: &Giving<'_>| {
        pages.clone().any(|page| {
            page.tags == giving.page.tags
                && page.bodies().any(|body| body.kind == kind && body.digest == giving.body.digest)
        })
    };
    earlier.any(|(_, giving)| is_alike(giving))
}

pub(super) fn refused_where_taken(history: &History, index: &Index) -> Vec<String> {
    let given = Given::of(history);
    let mut found = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        let (Call::Commit { entry, generation, .. }, Some(Outcome::NameTaken)) =
            (&operation.call, operation.outcome())
        else {
            continue;
        };
        let edition = (*entry, *generation);
        let commits = index.commits.get(&edition).into_iter().flatten();
        let names = commits.filter_map(|number| match &history.operations[*number].call {
            Call::Commit { page, .. } => Some(page.bodies().filter_map(|body| body.name)),
            _ => None,
        });
        let is_taken = names.flatten().any(|name| {
            let pages = given.names.get(&(given.tenant_of(edition), name)).into_iter().flatten();
            let mut others = pages.filter(|(other, _)| **other != edition);
            others.any(|(_, giving)| giving.began <= operation.answered())
        });
        if !is_taken {
            found.push(format!(
                "{edition:?} was refused by operation {number}, and all its names were its own"
            ));
        }
    }
    found
}

/// Every body that was asked for by a name.
fn asked(history: &History) -> impl Iterator<Item = (usize, &Operation, Name<'_>)> {
    history.operations.iter().enumerate().filter_map(|(number, operation)| match &operation.call {
        Call::Object { tenant, name } => Some((number, operation, (&**tenant, &**name))),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
