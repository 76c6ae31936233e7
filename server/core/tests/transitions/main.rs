//! Every outcome of every transition, one named test for each, in the order of the design's table ("An entry,
//! and what may happen to it").

mod acquire;
mod commit;
mod foreign;
mod lease;
mod stories;

use leasehold_core::{
    entry::{Entry, Lease},
    freshness::Log,
    identity::{
        DeploymentId, EntryId, EntryKey, Generation, LeaseToken, Owner, PagePath, RequestId, Seq, Tag,
    },
    identity::{TenantId, Version},
    invalidation::{Depth, Invalidation, LogEvent, LogView, Scope},
    object::ObjectName,
    page::{BodyRef, Digest, Page, PageMeta, PageStatus},
    time::Timestamp,
    transition::{self, Acquire, Acquired, Committed, Context, Decision, Release, ReleaseOutcome, Rules},
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// What [`ask`] asks for.
const TTL: Duration = Duration::from_secs(10);
const TOLERANCE: Duration = Duration::from_millis(500);
const MAX_HOLD: Duration = Duration::from_secs(60);
const RETENTION: Duration = Duration::from_secs(35 * 24 * 60 * 60);
const BOUND: Duration = Duration::from_secs(2);
/// How long [`page`] is fresh.
const REVALIDATE: Duration = Duration::from_secs(60);
/// The version that swaps of a [`World`] put in place.
const VERSION: Version = Version(0x5a5a);

/// When the stories begin, and some milliseconds of it, which a generation does not have.
const START: Timestamp = Timestamp::from_millis(1_767_225_600_123);
/// The generation of an entry that is new at [`START`].
const FIRST: Generation = Generation(1_767_225_600);

fn after(duration: Duration) -> Timestamp {
    START.plus(duration)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn token(bits: u128) -> LeaseToken {
    LeaseToken::from_bits(bits)
}

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

fn path(text: &str) -> PagePath {
    PagePath::parse(text).unwrap()
}

/// One coordinator, and the entry of key `k` in release `v1` of tenant `acme`.
struct World {
    id: EntryId,
    view: LogView,
    verified: bool,
    rules: Rules,
    known_for: Duration,
}

impl World {
    fn new() -> Self {
        Self {
            id: EntryId {
                tenant: tenant(),
                deployment: Some(DeploymentId::parse("v1").unwrap()),
                key: EntryKey::parse("k").unwrap(),
            },
            view: LogView::default(),
            verified: true,
            rules: Rules {
                expiry_tolerance: TOLERANCE,
                max_hold: MAX_HOLD,
                retention: RETENTION,
                staleness_bound: BOUND,
                backoff_base: SECOND,
                backoff_max: secs(30),
            },
            known_for: Duration::ZERO,
        }
    }

    fn at(&self, now: Timestamp) -> Context<'_> {
        let log = Log { view: &self.view, verified: self.verified };
        Context { id: &self.id, log, now, rules: &self.rules, version: VERSION, known_for: self.known_for }
    }

    fn invalidate(&mut self, scope: Scope, depth: Depth) {
        let seq = self.view.position().next().unwrap();
        self.view.fold(&LogEvent {
            seq,
            id: RequestId(u128::from(seq.0)),
            at: START,
            forget_after: Timestamp::from_millis(u64::MAX),
            invalidations: vec![Invalidation {
                id: RequestId(u128::from(seq.0) << 64),
                scopes: vec![scope],
                depth,
            }],
        });
    }

    /// An invalidation of this very entry.
    fn invalidate_key(&mut self, depth: Depth) {
        self.invalidate(Scope::Key(tenant(), self.id.key.clone()), depth);
    }

    /// An entry that was just granted for the first time.
    fn granted(&self, now: Timestamp, to: LeaseToken) -> (Entry, Lease) {
        grant(transition::acquire(None, &ask(to), self.at(now)))
    }

    /// An entry with a page of [`FIRST`] generation, rendered by `token(1)`, and no lease.
    fn rendered(&self, page: &Page) -> Entry {
        let (entry, lease) = self.granted(START, token(1));
        let decision = transition::commit(Some(&entry), lease.token, lease.generation, page, self.at(START));
        let (entry, answer) = swap(decision);
        assert_eq!(answer, Committed::Committed);
        entry
    }

    /// As [`World::rendered`], and then granted to `to`, at a time when the page is expired.
    fn regenerating(&self, now: Timestamp, to: LeaseToken) -> (Entry, Lease) {
        grant(transition::acquire(Some(&self.rendered(&page())), &ask(to), self.at(now)))
    }

    fn acquire(&self, entry: &Entry, ask: &Acquire, now: Timestamp) -> Decision<Acquired> {
        transition::acquire(Some(entry), ask, self.at(now))
    }

    fn commit(&self, entry: &Entry, lease: &Lease, page: &Page, now: Timestamp) -> Decision<Committed> {
        transition::commit(Some(entry), lease.token, lease.generation, page, self.at(now))
    }

    fn release(
        &self,
        entry: &Entry,
        lease: &Lease,
        how: &Release,
        now: Timestamp,
    ) -> Decision<ReleaseOutcome> {
        transition::release(Some(entry), lease.token, lease.generation, how, self.at(now))
    }
}

fn ask(token: LeaseToken) -> Acquire {
    Acquire { token, owner: Owner::parse("worker").unwrap(), ttl: TTL, path: None, after: None }
}

fn body(seed: u8) -> BodyRef {
    let object = ObjectName::parse(&format!("isr/{seed}.html")).unwrap();
    BodyRef { object, digest: Digest([seed; 32]), size_bytes: u64::from(seed) }
}

/// A page of path `/blog/post` with the tag `news`, fresh for [`REVALIDATE`].
fn page() -> Page {
    Page {
        html: body(1),
        sidecar: Some(body(2)),
        meta: PageMeta {
            status: PageStatus::OK,
            content_type: "text/html".to_owned(),
            headers: vec![("link".to_owned(), "</a>".to_owned())],
            etag: "\"1\"".to_owned(),
            revalidate: Some(REVALIDATE),
            stale_while_revalidate: Some(secs(600)),
            stale_if_error: None,
            tags: vec![tag("news")],
            path: Some(path("/blog/post")),
            render_time: None,
        },
    }
}

#[track_caller]
fn swap<T: std::fmt::Debug>(decision: Decision<T>) -> (Entry, T) {
    match decision {
        Decision::Swap(entry, answer) => {
            assert_eq!(entry.version, VERSION, "every swap carries the new version");
            (*entry, answer)
        }
        Decision::Answer(answer) => panic!("expected a swap, not the bare answer {answer:?}"),
    }
}

#[track_caller]
fn answer<T: std::fmt::Debug>(decision: Decision<T>) -> T {
    match decision {
        Decision::Answer(answer) => answer,
        Decision::Swap(entry, answer) => panic!("expected no swap, not {answer:?} with {entry:?}"),
    }
}

#[track_caller]
fn grant(decision: Decision<Acquired>) -> (Entry, Lease) {
    match swap(decision) {
        (entry, Acquired::Granted(lease)) => {
            assert_eq!(entry.lease.as_ref(), Some(&lease));
            assert_eq!(entry.generation, lease.generation);
            (entry, lease)
        }
        (_, other) => panic!("expected a grant, not {other:?}"),
    }
}
