//! A render worker: mostly well behaved.

use super::{
    INLINE_LIMIT, LONGEST_CALM_RENDER, LONGEST_LEASE, LONGEST_RENDER, between,
    calls::{Caller, digest},
    names::{Chosen, Habit},
    one_in, some_tags,
};
use bytes::Bytes;
use leasehold_checker::history::{EntryIndex, Names, Rendered};
use leasehold_client::{Lease, NewBody, NewPage, PageMetadata, RequestId};
use rand::{Rng as _, seq::IndexedRandom as _};
use std::time::Duration;

pub(super) async fn run(mut caller: Caller) {
    let habit = Habit::any(&mut caller.rng);
    while !caller.load.is_over() {
        tokio::time::sleep(between(&mut caller.rng, 1, 120)).await;
        let entry = caller.an_entry();
        if one_in(&mut caller.rng, 2) && caller.lookup(entry, false).await.is_fresh {
            continue;
        }
        let wait = caller.seat.pace.waits.choose(&mut caller.rng).copied().unwrap_or_default();
        let ttl = between(&mut caller.rng, 100, LONGEST_LEASE);
        let attempt = caller.a_request_id();
        if one_in(&mut caller.rng, 8) && !caller.load.is_calm() {
            tokio::spawn(late_duplicate(caller.beside(), entry, attempt));
        }
        if let Some(lease) = acquire(&mut caller, entry, attempt, (wait, ttl)).await {
            render(&mut caller, entry, &lease, habit).await;
        }
    }
}

/// The same call once more, held up on its way: while the page is rendered, or when all is over. Should it be granted once
/// more, nobody renders.
async fn late_duplicate(mut caller: Caller, entry: EntryIndex, attempt: RequestId) {
    tokio::time::sleep(between(&mut caller.rng, 1, 2_500)).await;
    if caller.load.is_calm() {
        return;
    }
    caller.acquire(1, entry, attempt, (Duration::ZERO, Duration::from_millis(LONGEST_LEASE))).await;
}

/// One intent: asked once, or at two coordinators at once, or by somebody who loses interest.
async fn acquire(
    caller: &mut Caller,
    entry: EntryIndex,
    attempt: RequestId,
    times: (Duration, Duration),
) -> Option<Lease> {
    if one_in(&mut caller.rng, 10) {
        let mut other = caller.beside();
        let (one, two) = futures::join!(
            caller.acquire(0, entry, attempt, times),
            other.acquire(1, entry, attempt, times),
        );
        // Under whichever was granted last: the other one may have been granted again since.
        let newer = |lease: &Lease| one.as_ref().is_none_or(|one| one.generation() < lease.generation());
        return two.filter(newer).or(one);
    }
    if one_in(&mut caller.rng, 15) && !caller.load.is_calm() {
        let patience = between(&mut caller.rng, 1, 30);
        return tokio::time::timeout(patience, caller.acquire(0, entry, attempt, times)).await.ok().flatten();
    }
    caller.acquire(0, entry, attempt, times).await
}

async fn render(caller: &mut Caller, entry: EntryIndex, lease: &Lease, habit: Habit) {
    let is_calm = caller.load.is_calm();
    let longest = if !is_calm && one_in(&mut caller.rng, 6) { LONGEST_RENDER } else { LONGEST_CALM_RENDER };
    let rendering = tokio::time::sleep(between(&mut caller.rng, 1, longest));
    match caller.rng.random_range(0..4) {
        0 => lease.renew_while(None, rendering).await,
        1 => renew_while(caller, entry, lease, rendering).await,
        _ => rendering.await,
    }
    let draft = a_page(caller, entry, lease, habit);
    if !is_calm && one_in(&mut caller.rng, 12) {
        // It sleeps through its lease and others', and when it wakes up its own call to acquire arrives once more.
        tokio::time::sleep(between(&mut caller.rng, 300, 1_500)).await;
        if !caller.load.is_calm() {
            let again = (Duration::ZERO, Duration::from_millis(LONGEST_LEASE));
            caller.acquire(1, entry, lease.request_id(), again).await;
        }
    }
    match caller.rng.random_range(0..100) {
        0..=7 if !is_calm => caller.give_back(entry, lease, true).await,
        8..=13 if !is_calm => caller.give_back(entry, lease, false).await,
        // It walks away, and the lease expires.
        14..=18 if !is_calm => {}
        19..=28 => {
            let elsewhere = caller.elsewhere(entry, lease);
            let Draft { page, rendered, .. } = &draft;
            let (refused, _) = futures::join!(
                caller.commit(entry, lease, page, rendered),
                caller.commit(entry, &elsewhere, page, rendered),
            );
            if refused {
                commit_as_own(caller, entry, lease, draft).await;
            }
        }
        29..=38 => {
            commit(caller, entry, lease, draft.clone()).await;
            let Draft { page, rendered, .. } = draft;
            let mut later = caller.beside();
            let elsewhere = caller.elsewhere(entry, lease);
            tokio::spawn(async move {
                tokio::time::sleep(between(&mut later.rng, 1, 2_000)).await;
                later.commit(entry, &elsewhere, &page, &rendered).await;
            });
        }
        _ => commit(caller, entry, lease, draft).await,
    }
}

/// As the client does it by itself, but written down.
async fn renew_while(
    caller: &mut Caller,
    entry: EntryIndex,
    lease: &Lease,
    rendering: impl Future<Output = ()>,
) {
    let mut rendering = std::pin::pin!(rendering);
    loop {
        let ttl = between(&mut caller.rng, 100, LONGEST_LEASE);
        let pause = (lease.remaining() / 3).max(Duration::from_millis(10));
        tokio::select! {
            biased;
            () = &mut rendering => return,
            () = tokio::time::sleep(pause) => {}
        }
        tokio::select! {
            biased;
            () = &mut rendering => return,
            may_last = caller.renew(entry, lease, ttl) => if !may_last {
                return rendering.await;
            },
        }
    }
}

/// Once more where a name is another's, unless it walks away.
async fn commit(caller: &mut Caller, entry: EntryIndex, lease: &Lease, draft: Draft) {
    let is_refused = caller.commit(entry, lease, &draft.page, &draft.rendered).await;
    if is_refused && (caller.load.is_calm() || one_in(&mut caller.rng, 2)) {
        commit_as_own(caller, entry, lease, draft).await;
    }
}

/// Under names that surely are its own.
async fn commit_as_own(caller: &Caller, entry: EntryIndex, lease: &Lease, draft: Draft) {
    let Draft { page, rendered, own } = draft;
    let Names { html: html_name, sidecar: sidecar_name } = own.clone();
    let page = NewPage { html_name, sidecar_name, ..page };
    caller.commit(entry, lease, &page, &Rendered { names: own, ..rendered }).await;
}

/// A page that is to be committed.
#[derive(Clone)]
struct Draft {
    page: NewPage,
    rendered: Rendered,
    /// Names for it that nobody else has given.
    own: Names,
}

/// A page that says whose it is; or one that is the same at every render, or of every entry; of any length, with or without a sidecar.
fn a_page(caller: &mut Caller, entry: EntryIndex, lease: &Lease, habit: Habit) -> Draft {
    let rng = &mut caller.rng;
    let identity = &caller.load.entries[entry];
    let generation = lease.generation();
    let (text, length) = if one_in(rng, 4) {
        let whose = if one_in(rng, 2) { format!("{identity:?}") } else { "all".to_owned() };
        (format!("{whose} as ever"), if one_in(rng, 3) { 2_100 } else { 200 })
    } else {
        let length = if one_in(rng, 5) { rng.random_range(1_500..6_000) } else { rng.random_range(50..800) };
        (format!("{identity:?} generation {generation} by {}", caller.seat.name), length)
    };
    let html = Bytes::from(format!("<p>{text}</p>{}", ".".repeat(length)));
    let sidecar =
        (!one_in(rng, 3)).then(|| Bytes::from(format!("{{\"of\": \"{text}\"}}{}", " ".repeat(length / 2))));
    let tags = some_tags(rng);
    let revalidate = [None, Some(100), Some(400), Some(1_500)].choose(rng).copied().flatten();
    let sidecar_len = sidecar.as_ref().map_or(0, Bytes::len);
    let is_sidecar_ahead = sidecar_len > INLINE_LIMIT;
    let digests = (digest(&html), sidecar.as_ref().map(|bytes| digest(bytes)));
    let Chosen { first: names, own } = {
        let digests = (&*digests.0, digests.1.as_deref());
        habit.names(rng, &mut caller.load.names.lock(), (entry, &identity.tenant), digests)
    };
    let rendered = Rendered {
        html: digests.0,
        sidecar: digests.1,
        is_sidecar_ahead,
        is_html_ahead: html.len() + if is_sidecar_ahead { 0 } else { sidecar_len } > INLINE_LIMIT,
        names: names.clone(),
        tags: tags.clone(),
        revalidate,
    };
    let metadata = PageMetadata {
        revalidate: revalidate.map(Duration::from_millis),
        tags: tags.into_iter().collect(),
        ..PageMetadata::default()
    };
    let Names { html: html_name, sidecar: sidecar_name } = names;
    let sidecar = sidecar.map(NewBody::from);
    let page = NewPage { sidecar, html_name, sidecar_name, ..NewPage::new(html).metadata(metadata) };
    Draft { page, rendered, own }
}
