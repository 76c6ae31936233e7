//! Every change of an entry, as a pure function.
//!
//! Each function takes the entry as it is now and answers with a [`Decision`]: an answer that changes nothing, or the
//! entry to swap in and the answer that holds once the swap is applied. When the store refuses a swap it returns the
//! entry as it is; the same function is asked again, and its answer settles what happened, including "my own earlier
//! attempt was applied". Outcomes are judged in the order in which the enums list them.

use crate::{
    entry::{Backoff, Entry, Lease, MAX_REASON_BYTES, Released},
    freshness::{self, Freshness, Log, Staleness},
    identity::{EntryId, Generation, LeaseToken, Owner, PagePath, Version},
    invalidation::Verdict,
    mutation::{self, Mutation},
    page::{Page, Pointer},
    time::Timestamp,
};
use std::time::Duration;

/// The settings that transitions depend on. Every coordinator of a fleet should have the same.
#[derive(Clone, Debug)]
pub struct Rules {
    /// A lease counts as expired only so long after its time, so that skewed clocks seldom cost a second render.
    pub expiry_tolerance: Duration,
    /// The longest that one lease can be held by renewing it, from its grant.
    pub max_hold: Duration,
    /// For how long a page that is not regenerated is remembered.
    pub retention: Duration,
    /// A coordinator that has not read the invalidation log for longer than this calls nothing fresh. Younger pages are not
    /// rendered again for that alone: their renders would be no more verified, and there would be one for every request.
    pub staleness_bound: Duration,
    /// The pause after the first failed render; it doubles with each further one.
    pub backoff_base: Duration,
    /// The longest pause after a failed render.
    pub backoff_max: Duration,
}

/// What a transition is judged by, besides the entry and the request.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Whose entry it is.
    pub id: &'a EntryId,
    /// What is known of invalidations.
    pub log: Log<'a>,
    /// The time, read when the request arrived.
    pub now: Timestamp,
    /// For how long, by its own steps, this coordinator has known the entry to be as it is: another coordinator's clock may
    /// be wrong, but what it wrote is at least so old. Zero where it knows only that it is so now.
    pub known_for: Duration,
    /// The settings.
    pub rules: &'a Rules,
    /// The version of the entry that a swap would put in place: random, never used before.
    pub version: Version,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<T> {
    /// Nothing; this is the answer.
    Answer(T),
    /// Swap this in; once it is applied, this is the answer.
    Swap(Box<Entry>, T),
}

/// Asks for the lease.
#[derive(Clone, Debug)]
pub struct Acquire {
    /// The caller's request id: new for every attempt to render, the same for every repetition of the call.
    pub token: LeaseToken,
    /// Who asks, for people.
    pub owner: Owner,
    /// How long the lease is to last.
    pub ttl: Duration,
    /// The page's path, where the caller knows it: a prefix that is invalidated in mid-render then overtakes the lease
    /// also before the first commit has named the path.
    pub path: Option<PagePath>,
    /// Set for a waiter: the newest generation it knows. A newer one is what it waited for.
    pub after: Option<Generation>,
}

/// Outcomes of [`acquire`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The lease has this token already, even if expired or overtaken: an earlier attempt of the same call was granted.
    /// The first repetition is noted in the lease: a grantor that thinks that nobody heard of it cannot take it back any more.
    AlreadyYours(Lease),
    /// A lease with this token was committed or released before: a late duplicate, of which nobody would hear.
    Ended,
    /// Nothing to do: the page is fresh, or it is the newer generation that a waiter waited for, or it was rendered within
    /// the staleness bound and only cannot be verified.
    Ready(Freshness),
    /// Somebody else renders.
    Held {
        /// From when on it counts as expired here.
        until: Timestamp,
    },
    /// The last render failed.
    BackingOff {
        /// From when on a lease is granted again.
        until: Timestamp,
    },
    /// Its generation is the last number there is, which no coordinator ever counts to: the record is damaged, or another
    /// system's. Nothing can be granted above it.
    Exhausted,
    /// Render it.
    Granted(Lease),
}

/// Asks for the right to render the next generation.
pub fn acquire(entry: Option<&Entry>, request: &Acquire, context: Context<'_>) -> Decision<Acquired> {
    let Context { id, log, now, rules, version, known_for: _ } = context;
    let lease = entry.and_then(|entry| entry.lease.as_ref());
    let pointer = entry.and_then(|entry| entry.pointer.as_ref());
    if let Some((entry, lease)) = entry.zip(lease).filter(|(_, lease)| lease.token == request.token) {
        if lease.repeated {
            return Decision::Answer(Acquired::AlreadyYours(lease.clone()));
        }
        let mut lease = Lease { repeated: true, ..lease.clone() };
        if mutation::is_active(Mutation::SeenRefreshedByAlreadyYours) {
            lease.seen = log.view.position();
        }
        let next = Entry { version, lease: Some(lease.clone()), ..entry.clone() };
        return Decision::Swap(Box::new(next), Acquired::AlreadyYours(lease));
    }
    let released = entry.and_then(|entry| entry.released.as_ref());
    if released.is_some_and(|released| released.token == request.token)
        || pointer.is_some_and(|pointer| pointer.token == request.token)
    {
        return Decision::Answer(Acquired::Ended);
    }
    let freshness = freshness::judge(id, pointer, log, now, rules.retention);
    let is_enough = is_awaited(pointer, freshness, request.after) || is_recent(pointer, freshness, context);
    if freshness == Freshness::Fresh || is_enough {
        return Decision::Answer(Acquired::Ready(freshness));
    }
    if let Some(lease) = lease {
        let until = expired_from(lease, context);
        if now < until && !is_overtaken(lease, pointer, request.path.as_ref(), context) {
            return Decision::Answer(Acquired::Held { until });
        }
    }
    if let Some(backoff) = entry.and_then(|entry| entry.backoff.as_ref()) {
        let until = backed_off_until(backoff, context);
        if now < until {
            return Decision::Answer(Acquired::BackingOff { until });
        }
    }
    let now_as_generation = Generation(now.as_secs());
    let generation = match entry {
        Some(entry) => {
            let Some(next) = entry.generation.next() else {
                return Decision::Answer(Acquired::Exhausted);
            };
            // Another system that replaced the record knew nothing of the generations in it.
            let is_foreign = pointer.is_some_and(Pointer::is_foreign);
            if is_foreign { next.max(now_as_generation) } else { next }
        }
        // Unix seconds: an entry that the store forgot starts above every generation it ever had.
        None => now_as_generation.max(Generation(1)),
    };
    let hold_until = now.plus(rules.max_hold);
    let ttl = request.ttl.min(rules.max_hold);
    let lease = Lease {
        generation,
        token: request.token,
        owner: request.owner.clone(),
        granted_at: now,
        expires_at: now.plus(ttl),
        ttl,
        hold_until,
        seen: log.view.position(),
        repeated: false,
    };
    let next = Entry {
        version,
        generation,
        pointer: pointer.cloned(),
        lease: Some(lease.clone()),
        released: released.copied(),
        backoff: entry.and_then(|entry| entry.backoff.clone()),
    };
    Decision::Swap(Box::new(next), Acquired::Granted(lease))
}

/// Asks for more time. Outcomes of [`renew`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The lease is still this attempt's, now until then.
    Renewed(Lease),
    /// It is another's, was ended, or was held for as long as one may be.
    Lost,
}

/// Moves the expiry of a lease, never beyond its `hold_until`, never to an earlier time, and never its `seen`.
pub fn renew(
    entry: Option<&Entry>,
    token: LeaseToken,
    generation: Generation,
    ttl: Duration,
    context: Context<'_>,
) -> Decision<Renewed> {
    let Some((entry, lease)) = held_by(entry, token, generation) else {
        return Decision::Answer(Renewed::Lost);
    };
    if context.now >= lease.hold_until {
        return Decision::Answer(Renewed::Lost);
    }
    let expires_at = context.now.plus(ttl).min(lease.hold_until);
    if expires_at <= lease.expires_at {
        return Decision::Answer(Renewed::Renewed(lease.clone()));
    }
    let mut lease = Lease { expires_at, ttl: expires_at.since(context.now), ..lease.clone() };
    if mutation::is_active(Mutation::SeenRefreshedByRenewal) {
        lease.seen = context.log.view.position();
    }
    let next = Entry { version: context.version, lease: Some(lease.clone()), ..entry.clone() };
    Decision::Swap(Box::new(next), Renewed::Renewed(lease))
}

/// Why a lease is given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is not needed, and nothing is wrong.
    Unused,
    /// The render failed: nobody is granted the lease for a while.
    Failed {
        /// Why, for people. Cut at [`MAX_REASON_BYTES`].
        reason: String,
    },
    /// The caller went away before it heard of its grant. Its retry may still come, and is granted a lease again. Not after a
    /// repetition of the call, on any coordinator, was told of the lease.
    Unheard,
}

/// Outcomes of [`release`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseOutcome {
    /// It is free, by this call or an earlier attempt of it.
    Released,
    /// It is not this attempt's, or not any more: it was committed or overtaken, or released before a later release of
    /// another lease. Nothing changed.
    NotHeld,
}

/// Ends a lease without a commit. The pointer stays.
pub fn release(
    entry: Option<&Entry>,
    token: LeaseToken,
    generation: Generation,
    outcome: &Release,
    context: Context<'_>,
) -> Decision<ReleaseOutcome> {
    let released = Released { generation, token };
    if entry.is_some_and(|entry| entry.released == Some(released)) {
        return Decision::Answer(ReleaseOutcome::Released);
    }
    let Some((entry, lease)) = held_by(entry, token, generation) else {
        return Decision::Answer(ReleaseOutcome::NotHeld);
    };
    if *outcome == Release::Unheard && lease.repeated {
        return Decision::Answer(ReleaseOutcome::NotHeld);
    }
    let mut next = Entry { version: context.version, lease: None, ..entry.clone() };
    match outcome {
        Release::Unused => next.released = Some(released),
        Release::Failed { reason } => {
            next.released = Some(released);
            next.backoff = Some(backoff_after(entry.backoff.as_ref(), reason, context));
        }
        Release::Unheard => {}
    }
    Decision::Swap(Box::new(next), ReleaseOutcome::Released)
}

/// Outcomes of [`commit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The page is current: by this call or an earlier attempt of it.
    Committed,
    /// It is current, but an invalidation overtook its render: servable as stale only, or not at all if purged.
    CommittedStale(Verdict),
    /// The page of a newer generation is current. Whether this one ever was is not known, and no longer matters.
    Superseded {
        /// The generation that is current.
        current: Generation,
    },
    /// Nothing of this commit was ever applied, nor will be.
    Fenced {
        /// The generation of the latest grant; `None` where there is no entry.
        latest: Option<Generation>,
    },
}

/// How an attempt to render stands with an entry, before its page is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// It may commit, under this lease.
    Holder(&'a Entry, &'a Lease),
    /// Whatever its page is, this is the answer.
    Settled(Committed),
}

/// Judges an attempt by its token **and** its generation: a late duplicate of the acquire can be granted once more under
/// the same token, with a newer `seen`; without the generation, the old render would be committed under it as fresh.
pub fn standing<'a>(
    entry: Option<&'a Entry>,
    token: LeaseToken,
    generation: Generation,
    context: Context<'_>,
) -> Standing<'a> {
    let Some(entry) = entry else { return Standing::Settled(Committed::Fenced { latest: None }) };
    if let Some(pointer) = &entry.pointer {
        if pointer.token == token && pointer.generation == generation {
            return Standing::Settled(committed(pointer, context));
        }
        if pointer.generation > generation {
            return Standing::Settled(Committed::Superseded { current: pointer.generation });
        }
    }
    match entry.lease.as_ref().filter(|lease| may_commit(lease, token, generation)) {
        Some(lease) => Standing::Holder(entry, lease),
        None => Standing::Settled(Committed::Fenced { latest: Some(entry.generation) }),
    }
}

/// Moves the pointer. No expiry is checked: late but not overtaken is safe, and saves a render.
pub fn commit(
    entry: Option<&Entry>,
    token: LeaseToken,
    generation: Generation,
    page: &Page,
    context: Context<'_>,
) -> Decision<Committed> {
    let (entry, lease) = match standing(entry, token, generation, context) {
        Standing::Holder(entry, lease) => (entry, lease),
        Standing::Settled(answer) => return Decision::Answer(answer),
    };
    let is_late = mutation::is_active(Mutation::SeenTakenAtCommit);
    let pointer = Pointer {
        generation,
        token,
        html: page.html.clone(),
        sidecar: page.sidecar.clone(),
        meta: page.meta.clone(),
        generated_at: lease.granted_at,
        committed_at: context.now,
        seen: if is_late { context.log.view.position() } else { lease.seen },
        gone: false,
    };
    let answer = committed(&pointer, context);
    let next = Entry {
        version: context.version,
        generation: entry.generation,
        pointer: Some(pointer),
        lease: None,
        released: entry.released,
        backoff: None,
    };
    Decision::Swap(Box::new(next), answer)
}

/// Outcomes of [`mark_gone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Healed {
    /// The page of this generation counts as missing from now on.
    Gone,
    /// Another one is current.
    Superseded,
}

/// Notes that the object of a page was found missing, so that it is rendered again. Generation and token stay.
pub fn mark_gone(entry: Option<&Entry>, generation: Generation, context: Context<'_>) -> Decision<Healed> {
    let current = entry.and_then(|entry| entry.pointer.as_ref().map(|pointer| (entry, pointer)));
    let Some((entry, pointer)) = current.filter(|(_, pointer)| pointer.generation == generation) else {
        return Decision::Answer(Healed::Superseded);
    };
    if pointer.gone {
        return Decision::Answer(Healed::Gone);
    }
    let pointer = Pointer { gone: true, ..pointer.clone() };
    let next = Entry { version: context.version, pointer: Some(pointer), ..entry.clone() };
    Decision::Swap(Box::new(next), Healed::Gone)
}

/// From when on a lease counts as expired: by the clock, or because it has been known for as long as it was to last, which
/// holds also where the clock that wrote it was ahead.
pub fn expired_from(lease: &Lease, context: Context<'_>) -> Timestamp {
    let tolerance = context.rules.expiry_tolerance;
    lease.expires_at.plus(tolerance).min(end_by_age(lease.ttl.saturating_add(tolerance), context))
}

fn backed_off_until(backoff: &Backoff, context: Context<'_>) -> Timestamp {
    let pause = backoff.not_before.since(backoff.failed_at);
    backoff.not_before.min(end_by_age(pause, context))
}

/// When something ends that was to last for so long when the entry was written.
fn end_by_age(lasts: Duration, context: Context<'_>) -> Timestamp {
    context.now.plus(lasts.saturating_sub(context.known_for))
}

/// Whether something that the holder is rendering was invalidated after its grant: the page it commits will be stale, so
/// the next one need not wait for it.
pub fn is_overtaken(
    lease: &Lease,
    pointer: Option<&Pointer>,
    path: Option<&PagePath>,
    context: Context<'_>,
) -> bool {
    let tags = pointer.map_or(&[][..], |pointer| &pointer.meta.tags);
    let known_path = pointer.and_then(|pointer| pointer.meta.path.as_ref());
    let marks = context.log.view.marks_for(context.id, tags, known_path.into_iter().chain(path));
    marks.verdict(lease.seen) != Verdict::Valid
}

/// A waiter is served what was generated while it waited, even if that is expired again by now, unless it was
/// invalidated: then only a newer render may do.
fn is_awaited(pointer: Option<&Pointer>, freshness: Freshness, after: Option<Generation>) -> bool {
    let servable = matches!(freshness, Freshness::Stale(Staleness::Expired | Staleness::Unverified));
    servable
        && match (pointer, after) {
            (Some(pointer), Some(after)) => pointer.generation > after,
            _ => false,
        }
}

/// Whether only the log stands in the way of calling a page fresh that was committed within the staleness bound.
fn is_recent(pointer: Option<&Pointer>, freshness: Freshness, context: Context<'_>) -> bool {
    freshness == Freshness::Stale(Staleness::Unverified)
        && pointer
            .is_some_and(|pointer| context.now < pointer.committed_at.plus(context.rules.staleness_bound))
}

fn held_by(entry: Option<&Entry>, token: LeaseToken, generation: Generation) -> Option<(&Entry, &Lease)> {
    let entry = entry?;
    let lease = entry.lease.as_ref().filter(|lease| lease.is(token, generation))?;
    Some((entry, lease))
}

fn may_commit(lease: &Lease, token: LeaseToken, generation: Generation) -> bool {
    if mutation::is_active(Mutation::CommitWithoutToken) {
        return true;
    }
    if mutation::is_active(Mutation::TokenWithoutGeneration) {
        return lease.token == token;
    }
    lease.is(token, generation)
}

fn committed(pointer: &Pointer, context: Context<'_>) -> Committed {
    match freshness::verdict(context.id, pointer, context.log.view) {
        Verdict::Valid => Committed::Committed,
        stale => Committed::CommittedStale(stale),
    }
}

fn backoff_after(before: Option<&Backoff>, reason: &str, context: Context<'_>) -> Backoff {
    let failures = before.map_or(0, |backoff| backoff.failures).saturating_add(1);
    let doublings = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
    let pause = context.rules.backoff_base.saturating_mul(doublings).min(context.rules.backoff_max);
    let end = reason.floor_char_boundary(MAX_REASON_BYTES);
    Backoff {
        failures,
        not_before: context.now.plus(pause),
        failed_at: context.now,
        reason: reason[..end].to_owned(),
    }
}
