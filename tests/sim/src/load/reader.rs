//! Readers: one page after the other, many at once over the stream, and the auditor.

use super::{
    between,
    calls::{Caller, Found},
    one_in,
};
use rand::Rng as _;

pub(super) async fn one_by_one(mut caller: Caller) {
    while !caller.load.is_over() {
        tokio::time::sleep(between(&mut caller.rng, 1, 40)).await;
        let entry = caller.an_entry();
        let strict = one_in(&mut caller.rng, 2);
        let found = caller.lookup(entry, strict).await;
        if one_in(&mut caller.rng, 2) {
            sidecar_of(&mut caller, entry, &found).await;
        }
        if one_in(&mut caller.rng, 2) {
            bodies_of(&mut caller, entry, &found).await;
        }
    }
}

pub(super) async fn many_at_once(mut caller: Caller) {
    while !caller.load.is_over() {
        tokio::time::sleep(between(&mut caller.rng, 50, 300)).await;
        // All of one entry, one shortly after the other: what one of them is told may be too old for the next.
        let only = one_in(&mut caller.rng, 2).then(|| caller.an_entry());
        let many = caller.rng.random_range(3..8);
        let lookups: Vec<_> = (0..many)
            .map(|_| {
                let mut one = caller.beside();
                async move {
                    tokio::time::sleep(between(&mut one.rng, 0, 60)).await;
                    let entry = only.unwrap_or_else(|| one.an_entry());
                    let strict = one_in(&mut one.rng, if only.is_some() { 1 } else { 4 });
                    one.lookup(entry, strict).await;
                }
            })
            .collect();
        futures::future::join_all(lookups).await;
    }
}

/// Bodies by names that somebody was told of or gave, of late or at any time, now and then in a tenant that is another one's.
pub(super) async fn by_name(mut caller: Caller) {
    while !caller.load.is_over() {
        tokio::time::sleep(between(&mut caller.rng, 5, 80)).await;
        let given = caller.load.names.lock().any(&mut caller.rng);
        let Some((mut tenant, name)) = given else { continue };
        if one_in(&mut caller.rng, 6) {
            let entry = caller.an_entry();
            tenant.clone_from(&caller.load.entries[entry].tenant);
        }
        caller.object(&tenant, &name).await;
    }
}

/// Every entry with its bodies, as strictly as can be and from memory.
pub(super) async fn audit(mut caller: Caller) {
    for entry in 0..caller.load.entries.len() {
        for strict in [true, true, false, true] {
            let found = caller.lookup(entry, strict).await;
            sidecar_of(&mut caller, entry, &found).await;
            bodies_of(&mut caller, entry, &found).await;
        }
    }
}

async fn bodies_of(caller: &mut Caller, entry: usize, found: &Found) {
    let Some(page) = &found.page else { return };
    let tenant = caller.load.entries[entry].tenant.clone();
    for name in [&page.html_object_name, &page.sidecar_object_name].into_iter().flatten() {
        caller.object(&tenant, name).await;
    }
}

async fn sidecar_of(caller: &mut Caller, entry: usize, found: &Found) {
    let Found { operation, page: Some(page), .. } = found else { return };
    let Some(token) = &page.sidecar_token else { return };
    caller.sidecar(entry, *operation, page.generation, token).await;
    let another = caller.an_entry();
    if another != entry && one_in(&mut caller.rng, 4) {
        caller.foreign_sidecar(another, *operation, token).await;
    }
}
