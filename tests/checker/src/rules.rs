//! The promises, one by one.

use super::{
    history::{Call, History, Operation, Outcome, Reason, Scope, Terms, Time, Told},
    index::{
        Edition, Index, may_be_invalidated, may_be_purged, may_be_purged_in_doubt, may_have_overtaken,
        of_entry, served, surely_failed,
    },
    names::{
        Given, bytes_of_its_name, given_to_one_body, named_is_found, names_are_as_given,
        purged_is_not_served_by_name, refused_where_taken,
    },
    register::{
        accepted_in_order, acknowledged_is_there, missing_for_a_reason, strict_never_goes_back,
        superseded_is_not_fenced,
    },
    renewals::{held_until, lost_for_a_reason, renewed_for_its_holder},
    stores::{
        appended_as_told, appended_once, not_needed_is_swept, rows_are_the_last, rows_name_their_bytes,
        rows_resolve, swept_is_not_needed,
    },
};
use std::collections::BTreeSet;

type Rule = fn(&History, &Index) -> Vec<String>;

pub(super) const ALL: [(&str, Rule); 43] = [
    ("a generation is granted to one attempt", granted_once),
    ("later grants are of higher generations", grants_rise),
    ("a commit is accepted only under the latest grant", accepted_under_the_latest_grant),
    ("commits are accepted in the order of their generations", accepted_in_order),
    ("what was acknowledged is there, or something newer", acknowledged_is_there),
    ("what was fenced is never applied", fenced_is_never_applied),
    ("what was fenced was overtaken or given back", fenced_for_a_reason),
    ("what was superseded is not called fenced", superseded_is_not_fenced),
    ("a lease is renewed for its holder only", renewed_for_its_holder),
    ("a lease is lost for a reason", lost_for_a_reason),
    ("what surely failed was not applied", surely_failed_is_not_applied),
    ("superseded is said only of what is older", superseded_is_older),
    ("strict lookups never go back", strict_never_goes_back),
    ("what is missing never was there, or was purged", missing_for_a_reason),
    ("what is served was committed before", served_was_committed),
    ("a watch tells of a commit once", told_once),
    ("a page is served with the bytes of its generation", bytes_of_its_generation),
    ("a sidecar is that of its page", sidecar_of_its_page),
    ("the sidecar of a current page is there", sidecar_is_there),
    ("a sidecar is served for its own entry only", sidecar_of_its_entry),
    ("what is served by a name was stored under it", bytes_of_its_name),
    ("what was purged is not served by its name", purged_is_not_served_by_name),
    ("what is current, or was a moment ago, is found by its name", named_is_found),
    ("a name is that of one body", given_to_one_body),
    ("names are told as workers gave them", names_are_as_given),
    ("a name is refused only where it was given before", refused_where_taken),
    ("nothing is fresh after its invalidation", invalidated_is_not_fresh),
    ("what was purged is not served", purged_is_not_served),
    ("what is called invalidated was invalidated", invalidated_for_a_reason),
    ("when all is well, everything is verified", verified_when_all_is_well),
    ("nothing is fresh past its time", expired_is_not_fresh),
    ("calls end within their deadlines", answered_in_time),
    ("when all is well, one renders at a time", rendered_by_one),
    ("waiters are served in time when the faults are over", waiters_are_served),
    ("when all is well, waiters hear of the commit", waiters_hear),
    ("refusals are those of an outage", refusals_are_of_an_outage),
    ("the stores hold what rows name", rows_resolve),
    ("rows name the bodies of their generation", rows_name_their_bytes),
    ("rows are of what was committed last", rows_are_the_last),
    ("what is needed is not swept", swept_is_not_needed),
    ("what nobody needs is swept in the end", not_needed_is_swept),
    ("an invalidation is in the log once", appended_once),
    ("the log has what was acknowledged, and not what surely failed", appended_as_told),
];

fn granted_once(_: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for (edition, grants) in &index.grants {
        let attempts: BTreeSet<_> = grants.iter().map(|grant| grant.attempt).collect();
        if attempts.len() > 1 {
            found.push(format!("{edition:?} was granted to {} attempts: {grants:?}", attempts.len()));
        }
    }
    found
}

fn grants_rise(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for entry in 0..history.entries.len() {
        let grants: Vec<_> = of_entry(&index.grants, entry)
            .flat_map(|(generation, grants)| grants.iter().map(move |grant| (generation, grant)))
            .collect();
        for (generation, grant) in &grants {
            let before = grants.iter().find(|(other, earlier)| {
                earlier.attempt != grant.attempt && earlier.answered < grant.began && other >= generation
            });
            if let Some((other, earlier)) = before {
                found.push(format!("entry {entry}: {generation} {grant:?} after {other} {earlier:?}"));
            }
        }
    }
    found
}

fn accepted_under_the_latest_grant(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for ((entry, generation), (by, how)) in &index.applied {
        let Some(first) = index.first_commit(history, (*entry, *generation)) else { continue };
        let overtaken = of_entry(&index.grants, *entry)
            .filter(|(other, _)| other > generation)
            .flat_map(|(other, grants)| grants.iter().map(move |grant| (other, grant)))
            .find(|(_, grant)| grant.answered < first);
        if let Some((other, grant)) = overtaken {
            found.push(format!(
                "entry {entry}: {generation} was first committed at {first}, after {other} had been granted \
                 ({grant:?}), and still {how} (operation {by})"
            ));
        }
    }
    found
}

fn fenced_is_never_applied(history: &History, index: &Index) -> Vec<String> {
    fenced(history)
        .filter_map(|(number, edition, _)| {
            let (by, how) = index.applied.get(&edition)?;
            Some(format!("{edition:?} was fenced by operation {number}, but {how} by operation {by}"))
        })
        .collect()
}

fn fenced_for_a_reason(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for (number, (entry, generation), operation) in fenced(history) {
        let Call::Commit { attempt: mine, .. } = operation.call else { continue };
        let reason = history.operations.iter().any(|other| {
            other.began <= operation.answered()
                && match &other.call {
                    Call::Acquire { attempt, .. } => {
                        // Its own may have been granted again.
                        may_have_overtaken(history, index, other, (entry, generation))
                            && (*attempt != mine || other.outcome().is_some())
                    }
                    Call::Release { entry: of, generation: given } => *of == entry && *given == generation,
                    _ => false,
                }
        });
        if !reason {
            found.push(format!(
                "({entry}, {generation}) was fenced by operation {number}, and nobody came after it"
            ));
        }
    }
    found
}

fn surely_failed_is_not_applied(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for (edition, commits) in &index.commits {
        let all_failed = commits.iter().all(|number| surely_failed(&history.operations[*number]));
        if let Some((by, how)) = index.applied.get(edition).filter(|_| all_failed) {
            found.push(format!("{edition:?} surely failed ({commits:?}), but {how} by operation {by}"));
        }
    }
    found
}

fn superseded_is_older(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        let (Call::Commit { entry, generation, .. }, Some(Outcome::Superseded { current })) =
            (&operation.call, operation.outcome())
        else {
            continue;
        };
        let first = index.first_commit(history, (*entry, *current));
        if current <= generation || first.is_none_or(|first| first > operation.answered()) {
            found.push(format!("({entry}, {generation}): operation {number} was superseded by {current}"));
        }
    }
    found
}

fn served_was_committed(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for (number, operation, entry, seen) in served(history) {
        let first = index.first_commit(history, (entry, seen.generation));
        if first.is_none_or(|first| first > operation.answered()) {
            found.push(format!(
                "entry {entry}: operation {number} served {seen:?}, which nobody had committed"
            ));
        }
    }
    for (number, operation) in history.operations.iter().enumerate() {
        let Some(Outcome::Watched(told)) = operation.outcome() else { continue };
        for told in told {
            let Told::Committed { entry, generation } = told else { continue };
            let first = index.first_commit(history, (*entry, *generation));
            if first.is_none_or(|first| first > operation.answered()) {
                found.push(format!("operation {number} told of {told:?}, which nobody had committed"));
            }
        }
    }
    found
}

/// What was missed may have been told already; otherwise a watch goes on after what it has told.
fn told_once(history: &History, _: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        let Some(Outcome::Watched(told)) = operation.outcome() else { continue };
        let mut since = BTreeSet::new();
        for told in told {
            match told {
                Told::Resync => since.clear(),
                Told::Committed { entry, generation } if !since.insert((*entry, *generation)) => {
                    found.push(format!("operation {number} told of {told:?} twice"));
                }
                Told::Committed { .. } | Told::Invalidated => {}
            }
        }
    }
    found
}

fn bytes_of_its_generation(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for (number, _, entry, seen) in served(history) {
        let Some(rendered) = index.rendered(history, (entry, seen.generation)) else { continue };
        let wrong = seen.told != rendered.html
            || seen.bytes.as_ref().is_some_and(|bytes| *bytes != rendered.html)
            || seen.sidecar != rendered.sidecar.is_some();
        if wrong {
            found.push(format!(
                "entry {entry}: operation {number} served {seen:?}, but rendered was {rendered:?}"
            ));
        }
    }
    found
}

fn sidecar_of_its_page(history: &History, index: &Index) -> Vec<String> {
    let given = Given::of(history);
    let mut found = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        let (Call::Sidecar { entry, generation, of }, Some(Outcome::Sidecar(bytes))) =
            (&operation.call, operation.outcome())
        else {
            continue;
        };
        let rendered = index.rendered(history, (*entry, *generation)).and_then(|page| page.sidecar.as_ref());
        if rendered != Some(bytes) && !given.is_sidecar_of(*entry, &history.operations[*of], bytes) {
            found.push(format!(
                "({entry}, {generation}): operation {number} served {bytes}, not {rendered:?}"
            ));
        }
    }
    found
}

fn sidecar_is_there(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        let (Call::Sidecar { entry, generation, of }, Some(Outcome::NoSidecar)) =
            (&operation.call, operation.outcome())
        else {
            continue;
        };
        let told = &history.operations[*of];
        let is_kept = matches!(told.call, Call::Lookup { strict: true, .. })
            && operation.answered() < told.began + history.terms.deletion_grace;
        let edition = (*entry, *generation);
        // One that does not say what it can be invalidated by counts as purged by whatever purges pages of its tenant.
        let is_ahead = index.rendered(history, edition).is_some_and(|page| page.is_sidecar_ahead);
        let may_be = if is_ahead { may_be_purged_in_doubt } else { may_be_purged };
        if is_kept
            && !index.at_risk.contains(&edition)
            && !may_be(history, index, edition, operation.answered())
        {
            found.push(format!("({entry}, {generation}): operation {number} found no sidecar"));
        }
    }
    found
}

fn sidecar_of_its_entry(history: &History, _: &Index) -> Vec<String> {
    let given = Given::of(history);
    let mut found = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        if let (Call::ForeignSidecar { entry, of }, Some(Outcome::Sidecar(bytes))) =
            (&operation.call, operation.outcome())
            && !given.is_sidecar_of(*entry, &history.operations[*of], bytes)
        {
            let owner = history.operations[*of].entry();
            found.push(format!("operation {number} served for entry {entry} the sidecar of {owner:?}"));
        }
    }
    found
}

fn invalidated_is_not_fresh(history: &History, index: &Index) -> Vec<String> {
    let bound = history.terms.staleness_bound;
    let mut found = Vec::new();
    for (number, operation, entry, seen) in served(history) {
        if !matches!(operation.outcome(), Some(Outcome::Fresh(_))) {
            continue;
        }
        let edition = (entry, seen.generation);
        // Whoever waited for it was told of it when it was there.
        let judged = operation.began.max(index.first_commit(history, edition).unwrap_or_default());
        let too_late = invalidations_of(history, index, edition, false).find(|invalidation| {
            must_know(history, operation, *invalidation, None)
                || judged > history.operations[*invalidation].answered() + bound
        });
        if let Some(invalidation) = too_late {
            found.push(format!(
                "entry {entry}: operation {number} at {} served {} as fresh, after operation {invalidation} had \
                 invalidated it at {}",
                operation.began,
                seen.generation,
                history.operations[invalidation].answered()
            ));
        }
    }
    found
}

fn purged_is_not_served(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    let sidecars = history.operations.iter().enumerate().filter_map(|(number, operation)| {
        let (Call::Sidecar { entry, generation, .. }, Some(Outcome::Sidecar(_))) =
            (&operation.call, operation.outcome())
        else {
            return None;
        };
        Some((number, operation, *entry, *generation))
    });
    let pages =
        served(history).map(|(number, operation, entry, seen)| (number, operation, entry, seen.generation));
    for (number, operation, entry, generation) in pages.chain(sidecars) {
        // A coordinator that cannot read the log goes on serving what it does not know to be purged, and says so.
        let is_well = history.quiet_from.is_some_and(|quiet| operation.began > quiet)
            && !matches!(operation.outcome(), Some(Outcome::Stale(_, Reason::Unverified)));
        let bound = is_well.then_some(history.terms.staleness_bound);
        let too_late = invalidations_of(history, index, (entry, generation), true)
            .find(|invalidation| must_know(history, operation, *invalidation, bound));
        if let Some(invalidation) = too_late {
            found.push(format!(
                "entry {entry}: operation {number} at {} served {generation}, after operation {invalidation} had \
                 purged it at {}",
                operation.began,
                history.operations[invalidation].answered()
            ));
        }
    }
    found
}

fn invalidated_for_a_reason(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        let (entry, generation, is_purged) = match (&operation.call, operation.outcome()) {
            (Call::Commit { entry, generation, .. }, Some(Outcome::CommittedStale { purged, .. })) => {
                (*entry, *generation, *purged)
            }
            (_, Some(Outcome::Stale(seen, Reason::Invalidated))) => {
                let Some(entry) = operation.entry() else { continue };
                (entry, seen.generation, false)
            }
            _ => continue,
        };
        if !may_be_invalidated(history, index, (entry, generation), operation.answered(), is_purged) {
            found.push(format!(
                "({entry}, {generation}) is called invalidated by operation {number} at {}, and nobody has \
                 invalidated it since its grant",
                operation.began
            ));
        }
    }
    found
}

fn verified_when_all_is_well(history: &History, _: &Index) -> Vec<String> {
    let Some(quiet) = history.quiet_from else { return Vec::new() };
    let unverified = history.operations.iter().enumerate().filter(|(_, operation)| {
        operation.began > quiet && matches!(operation.outcome(), Some(Outcome::Stale(_, Reason::Unverified)))
    });
    unverified.map(|(number, operation)| format!("operation {number}: {operation:?}")).collect()
}

fn expired_is_not_fresh(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for (number, operation, entry, seen) in served(history) {
        let edition = (entry, seen.generation);
        let (Some(Outcome::Fresh(_)), Some(rendered), Some(granted)) =
            (operation.outcome(), index.rendered(history, edition), index.render_began(edition))
        else {
            continue;
        };
        let Some(revalidate) = rendered.revalidate else { continue };
        // Whoever waited for it was told of it when it was there.
        let judged = operation.began.max(index.first_commit(history, edition).unwrap_or_default());
        if judged > granted + revalidate + history.terms.clocks_apart + history.terms.slack {
            found.push(format!(
                "entry {entry}: operation {number} at {} served {} as fresh, which was granted at {granted} and is \
                 good for {revalidate}",
                operation.began, seen.generation
            ));
        }
    }
    found
}

fn answered_in_time(history: &History, _: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        let until = operation.began + operation.may_take + operation.paused + history.terms.slack;
        let late = match &operation.answer {
            Some((at, _)) => *at > until,
            None => !operation.abandoned && history.ended > until,
        };
        if late {
            found.push(format!("operation {number} had time until {until}: {operation:?}"));
        }
    }
    found
}

fn rendered_by_one(history: &History, index: &Index) -> Vec<String> {
    let Some(quiet) = history.quiet_from else { return Vec::new() };
    let mut found = Vec::new();
    for edition in index.grants.keys() {
        let (entry, generation) = *edition;
        let began = index.first_grant(*edition).unwrap_or_default();
        let next = of_entry(&index.grants, entry).find(|(other, _)| *other > generation);
        let Some((_, next)) = next.filter(|_| began > quiet) else { continue };
        // By what had renewed it when the next one was asked for.
        let asked = next.iter().map(|grant| grant.began).min().unwrap_or_default();
        let until = held_until(history, index, *edition, asked);
        let granted = next.iter().map(|grant| grant.answered).min();
        let Some(granted) = granted.filter(|granted| *granted < until) else { continue };
        let is_over = history.operations.iter().any(|operation| match &operation.call {
            // It has ended its render.
            Call::Commit { entry: of, generation: ended, .. }
            | Call::Release { entry: of, generation: ended } => {
                (*of, *ended) == *edition && operation.began <= granted
            }
            // It is overtaken, or may be: also by what its grantor had not heard of yet.
            Call::Invalidate { scopes, .. } => {
                operation.began <= granted
                    && !operation.is_acknowledged_before(history.known_at(Some(began)))
                    && scopes.iter().any(|scope| scope.is_about(&history.entries[entry].tenant))
            }
            _ => false,
        });
        if !is_over {
            found.push(format!(
                "entry {entry}: {generation} was granted at {began} until {until}, and the next one at {granted}"
            ));
        }
    }
    found
}

fn waiters_are_served(history: &History, _: &Index) -> Vec<String> {
    let Some(quiet) = history.quiet_from else { return Vec::new() };
    let Terms { longest_lease, longest_render, longest_render_amid_faults, clocks_apart, slack, .. } =
        history.terms;
    let patience = longest_lease + longest_render + 2_000;
    // Who holds the lease when the faults end may render for longer, and has it from one whose clock was wrong.
    let patience_after_faults = longest_lease + longest_render_amid_faults + 2_000 + clocks_apart + slack;
    let mut found = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        let Call::Acquire { wait, .. } = operation.call else { continue };
        if wait == 0 || operation.abandoned {
            continue;
        }
        if operation.began < quiet {
            // Whatever the answer: one that repeats nothing may be told that its connection is broken.
            let until = history.faults_ended.map(|ended| operation.began.max(ended) + patience_after_faults);
            if until.is_some_and(|until| operation.answered() > until && history.ended > until) {
                found.push(format!("operation {number} still waited at {until:?}: {operation:?}"));
            }
            continue;
        }
        let served = matches!(
            operation.outcome(),
            Some(Outcome::Granted { .. } | Outcome::Fresh(_) | Outcome::Stale(..))
        );
        let in_time = operation.answered() <= operation.began + patience;
        // Who waits for less may well be told that another still renders.
        let may_be_held = wait < patience && matches!(operation.outcome(), Some(Outcome::Held { .. }));
        let is_kept = may_be_held || (served && in_time);
        if !is_kept {
            found.push(format!("operation {number}: {operation:?}"));
        }
    }
    found
}

fn waiters_hear(history: &History, index: &Index) -> Vec<String> {
    let Some(quiet) = history.quiet_from else { return Vec::new() };
    let mut found = Vec::new();
    for (number, commit) in history.operations.iter().enumerate() {
        let (Call::Commit { entry, generation, page, .. }, Some(Outcome::Committed { .. })) =
            (&commit.call, commit.outcome())
        else {
            continue;
        };
        let edition = (*entry, *generation);
        let (Some(granted), Some(first)) =
            (index.render_began(edition), index.first_commit(history, edition))
        else {
            continue;
        };
        let by = commit.answered() + history.terms.hearsay + history.terms.slack;
        // What was invalidated meanwhile is not what they wait for.
        let is_invalidated = history.operations.iter().any(|other| match &other.call {
            Call::Invalidate { scopes, .. } => {
                let identity = &history.entries[*entry];
                other.answered() >= granted
                    && other.began <= by
                    && scopes.iter().any(|scope| scope.covers(identity, &page.tags))
            }
            _ => false,
        });
        if first < quiet || is_invalidated {
            continue;
        }
        for (waiter, operation) in history.operations.iter().enumerate() {
            let Call::Acquire { entry: of, wait, .. } = operation.call else { continue };
            let waits = of == *entry && operation.began < first && operation.began + wait > by;
            if waits && !operation.abandoned && operation.answered() > by {
                found.push(format!(
                    "operation {waiter} still waited at {by} for what operation {number} had committed: {operation:?}"
                ));
            }
        }
    }
    found
}

/// Reasons that a coordinator gives for what is not its fault. Anything else is a defect of somebody's.
const OF_AN_OUTAGE: [&str; 11] = [
    "NotSent",
    "Broken",
    "TimedOut",
    "DeadlineExceeded",
    "InDoubt",
    "StoreUnavailable",
    "OutcomeUnknown",
    "Draining",
    "Deadline",
    "LimitReached",
    "Unstated",
];

fn refusals_are_of_an_outage(history: &History, _: &Index) -> Vec<String> {
    let given = Given::of(history);
    let mut found: Vec<_> = history.panics.iter().map(|panic| format!("a task panicked: {panic}")).collect();
    for (number, operation) in history.operations.iter().enumerate() {
        let Some(Outcome::Failed { why, .. }) = operation.outcome() else { continue };
        // Uploaded ahead under a name that is not its own, it may be deleted before its commit, as what had the name before.
        if let Call::Commit { entry, generation, .. } = operation.call
            && why.as_str() == "ObjectMissing"
            && given.gave_again((entry, generation))
        {
            continue;
        }
        let is_well = history.quiet_from.is_some_and(|quiet| operation.began > quiet);
        if is_well || !OF_AN_OUTAGE.contains(&&**why) {
            found.push(format!("operation {number} failed: {operation:?}"));
        }
    }
    found
}

/// Whether this operation had to know of that invalidation: it presented its token, or one that came later; it was a strict
/// one that began later; or it began later by the bound, where one holds.
pub(super) fn must_know(
    history: &History,
    operation: &Operation,
    invalidation: usize,
    bound: Option<Time>,
) -> bool {
    let acknowledged = history.operations[invalidation].answered();
    let (strict, knows) = match operation.call {
        Call::Lookup { strict, knows, .. } => (strict, knows),
        Call::Acquire { knows, .. } => (false, knows),
        _ => (false, None),
    };
    // The log has one order: whoever knows a later position knows all before it.
    let by_token =
        knows.is_some_and(|known| known == invalidation || acknowledged < history.operations[known].began);
    by_token
        || (strict && operation.began > acknowledged)
        || bound.is_some_and(|bound| operation.began > acknowledged + bound)
}

/// Acknowledged invalidations that cover a page whose render had begun before they were called.
pub(super) fn invalidations_of<'a>(
    history: &'a History,
    index: &'a Index,
    edition: Edition,
    hard_only: bool,
) -> impl Iterator<Item = usize> + 'a {
    let rendered = index.rendered(history, edition);
    let granted = index.render_began(edition);
    index.invalidations.iter().copied().filter(move |number| {
        let (Some(rendered), Some(granted)) = (rendered, granted) else { return false };
        let operation = &history.operations[*number];
        let Call::Invalidate { scopes, hard, .. } = &operation.call else { return false };
        let identity = &history.entries[edition.0];
        (*hard || !hard_only)
            && granted < operation.began
            && scopes.iter().any(|scope: &Scope| scope.covers(identity, &rendered.tags))
    })
}

fn fenced(history: &History) -> impl Iterator<Item = (usize, Edition, &Operation)> {
    history.operations.iter().enumerate().filter_map(|(number, operation)| {
        match (&operation.call, operation.outcome()) {
            (Call::Commit { entry, generation, .. }, Some(Outcome::Fenced { .. })) => {
                Some((number, (*entry, *generation), operation))
            }
            _ => None,
        }
    })
}
