//! What the stores hold in the end.

use super::{
    history::{Attempt, Body, Call, EntryIndex, History, Need, Operation, Outcome, Row},
    index::{Index, of_entry, surely_failed},
};
use std::collections::BTreeMap;

pub(super) fn rows_resolve(history: &History, index: &Index) -> Vec<String> {
    let kept = rows(history).filter(|row| !index.at_risk.contains(&(row.entry, row.generation)));
    let named = kept.flat_map(|row| [Some(&row.html), row.sidecar.as_ref()]);
    let dangling = named.flatten().filter(|body| body.bytes.is_none());
    dangling.map(|body| format!("a row names {}, which is not there", body.object)).collect()
}

pub(super) fn rows_name_their_bytes(history: &History, index: &Index) -> Vec<String> {
    let mut found = Vec::new();
    for row in rows(history) {
        let Some(rendered) = index.rendered(history, (row.entry, row.generation)) else {
            found.push(format!("{row:?}, which nobody has rendered"));
            continue;
        };
        let is_of = |body: &Body, digest: &str| body.bytes.as_ref().is_none_or(|bytes| bytes == digest);
        let sidecars_agree = match (&row.sidecar, &rendered.sidecar) {
            (Some(body), Some(digest)) => is_of(body, digest),
            (None, None) => true,
            _ => false,
        };
        if !is_of(&row.html, &rendered.html) || !sidecars_agree {
            found.push(format!("{row:?}, but rendered was {rendered:?}"));
        }
    }
    found
}

pub(super) fn rows_are_the_last(history: &History, index: &Index) -> Vec<String> {
    if history.audit.is_none() {
        return Vec::new();
    }
    let generations: BTreeMap<EntryIndex, u64> =
        rows(history).map(|row| (row.entry, row.generation)).collect();
    let mut found = Vec::new();
    for entry in 0..history.entries.len() {
        let Some((newest, (by, how))) = of_entry(&index.applied, entry).last() else { continue };
        let row = generations.get(&entry);
        if row.is_none_or(|generation| *generation < newest) {
            found.push(format!("entry {entry}: the row has {row:?}, but of {newest} {how} (operation {by})"));
        }
    }
    found
}

pub(super) fn swept_is_not_needed(history: &History, _: &Index) -> Vec<String> {
    let objects = history.audit.iter().flat_map(|audit| &audit.objects);
    let lost = objects.filter(|object| object.needed != Need::Nobody && !object.is_left);
    lost.map(|object| format!("{object:?}")).collect()
}

pub(super) fn not_needed_is_swept(history: &History, _: &Index) -> Vec<String> {
    let last =
        history.operations.iter().find(|operation| matches!(operation.call, Call::Sweep { is_last: true }));
    // Where no row names a page, it cannot be told from another one's table.
    let is_refused = matches!(last.and_then(|sweep| sweep.outcome()), Some(Outcome::SweptNothing))
        && rows(history).next().is_none();
    if is_refused {
        return Vec::new();
    }
    let objects = history.audit.iter().flat_map(|audit| &audit.objects);
    let left = objects.filter(|object| object.needed == Need::Nobody && object.is_left);
    left.map(|object| format!("{object:?}")).collect()
}

pub(super) fn appended_once(history: &History, _: &Index) -> Vec<String> {
    let mut times: BTreeMap<Attempt, u32> = BTreeMap::new();
    for id in history.audit.iter().flat_map(|audit| &audit.invalidations) {
        *times.entry(*id).or_default() += 1;
    }
    let repeated = times.into_iter().filter(|(_, times)| *times > 1);
    repeated.map(|(id, times)| format!("{id:x} is in the log {times} times")).collect()
}

pub(super) fn appended_as_told(history: &History, _: &Index) -> Vec<String> {
    let Some(audit) = &history.audit else { return Vec::new() };
    let mut calls: BTreeMap<Attempt, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        if let Call::Invalidate { attempt, .. } = operation.call {
            calls.entry(attempt).or_default().push(operation);
        }
    }
    let mut found = Vec::new();
    for (id, calls) in calls {
        let is_done = calls.iter().any(|call| call.outcome() == Some(&Outcome::Invalidated));
        let is_appended = audit.invalidations.contains(&id);
        if is_done && !is_appended {
            found.push(format!("{id:x} was acknowledged, and is not in the log"));
        }
        if is_appended && calls.iter().all(|call| surely_failed(call)) {
            found.push(format!("{id:x} surely failed, and is in the log"));
        }
    }
    found
}

pub(super) fn rows(history: &History) -> impl Iterator<Item = &Row> {
    history.audit.iter().flat_map(|audit| &audit.rows)
}
