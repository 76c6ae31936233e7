//! The invalidation log and its folded form: per scope, the newest position that invalidated or purged it.

use crate::{
    identity::{DeploymentId, EntryId, EntryKey, PagePath, RequestId, Seq, Tag, TenantId},
    time::Timestamp,
};
use std::{
    borrow::Borrow,
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// The most scopes in one invalidation.
pub const MAX_SCOPES: usize = 100;
/// The most bytes of all scopes of one invalidation, tenants included: with what is appended together, an event must fit
/// the smallest record that a store takes (DynamoDB: 400 KB).
pub const MAX_SCOPE_BYTES: usize = 128 * 1024;

/// So many of the newest events are remembered whatever they take: an append that was applied is recognised by its request's
/// id in what is read after it.
pub const ALWAYS_RETAINED: usize = 128;

/// What an invalidation is about. Scopes of a tenant never reach another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every entry of every tenant.
    Everything,
    /// Every entry of a tenant.
    Tenant(TenantId),
    /// Every entry of one release of a tenant.
    Deployment(TenantId, DeploymentId),
    /// Every page whose path is this one or lies below it, by whole segments, in every release.
    PathPrefix(TenantId, PagePath),
    /// Every page that carries this tag, in every release.
    Tag(TenantId, Tag),
    /// The entry of this key, in every release.
    Key(TenantId, EntryKey),
}

impl Scope {
    /// The tenant it is confined to.
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Everything => None,
            Self::Tenant(tenant)
            | Self::Deployment(tenant, _)
            | Self::PathPrefix(tenant, _)
            | Self::Tag(tenant, _)
            | Self::Key(tenant, _) => Some(tenant),
        }
    }
}

impl Scope {
    /// Bytes of its text, its tenant's included.
    pub fn text_bytes(&self) -> usize {
        let tenant = self.tenant().map_or(0, |tenant| tenant.as_str().len());
        let name = match self {
            Self::Everything | Self::Tenant(_) => 0,
            Self::Deployment(_, deployment) => deployment.as_str().len(),
            Self::PathPrefix(_, path) => path.as_str().len(),
            Self::Tag(_, tag) => tag.as_str().len(),
            Self::Key(_, key) => key.as_str().len(),
        };
        tenant + name
    }
}

/// How deep an invalidation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Depth {
    /// The page is no longer fresh, but servable as stale.
    Soft,
    /// The page is purged: not servable even as stale.
    Hard,
}

/// One caller's invalidation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// The caller's request id, by which a repetition is recognised.
    pub id: RequestId,
    /// What it is about. One to [`MAX_SCOPES`].
    pub scopes: Vec<Scope>,
    /// How deep it goes.
    pub depth: Depth,
}

/// One slot of the log: what arrived together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Its position.
    pub seq: Seq,
    /// Fresh and random: tells an append of unknown outcome from a rival's.
    pub id: RequestId,
    /// When it was appended, by the appender's clock.
    pub at: Timestamp,
    /// When it may be forgotten: later than every entry that it can concern.
    pub forget_after: Timestamp,
    /// The invalidations in it.
    pub invalidations: Vec<Invalidation>,
}

/// The newest event about one scope, or about one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The newest event of any depth.
    pub newest: Mark,
    /// The newest hard one.
    pub hard: Mark,
}

/// One event, as far as a verdict needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Its position; [`Seq::START`] for none.
    pub seq: Seq,
    /// When it was appended.
    pub at: Timestamp,
    /// The latest time of this one and of those before it: an appender's clock may be behind that of an earlier one.
    pub latest_at: Timestamp,
}

impl Mark {
    /// An event alone.
    pub fn of(seq: Seq, at: Timestamp) -> Self {
        Self { seq, at, latest_at: at }
    }

    fn raise(&mut self, other: Self) {
        let latest_at = self.latest_at.max(other.latest_at);
        if other.seq > self.seq {
            *self = other;
        }
        self.latest_at = latest_at;
    }
}

impl Marks {
    fn raise(&mut self, depth: Depth, mark: Mark) {
        self.newest.raise(mark);
        if depth == Depth::Hard {
            self.hard.raise(mark);
        }
    }

    fn raise_both(&mut self, other: &Self) {
        self.newest.raise(other.newest);
        self.hard.raise(other.hard);
    }

    /// What these marks mean for a render that had seen the log up to `seen`.
    pub fn verdict(&self, seen: Seq) -> Verdict {
        self.verdict_where(|mark| mark.seq > seen)
    }

    /// What these marks mean for a page of which only is known that its render began at `since` or later.
    pub fn verdict_by_time(&self, since: Timestamp) -> Verdict {
        self.verdict_where(|mark| mark.seq > Seq::START && mark.latest_at >= since)
    }

    /// By whether an event came after the render began.
    fn verdict_where(&self, came_after: impl Fn(&Mark) -> bool) -> Verdict {
        if came_after(&self.hard) {
            Verdict::Purged
        } else if came_after(&self.newest) {
            Verdict::Invalidated
        } else {
            Verdict::Valid
        }
    }
}

/// Whether invalidations leave a page fresh, stale, or nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// No scope of it was invalidated since its render began.
    Valid,
    /// Servable as stale only.
    Invalidated,
    /// Not servable.
    Purged,
}

/// The folded log up to [`LogView::position`].
#[derive(Clone, Debug, Default)]
pub struct LogView {
    position: Seq,
    /// The newest events that are not remembered any more, or never were because they had expired before they were read:
    /// such a one counts as hard.
    forgotten: Marks,
    everything: Marks,
    tenants: HashMap<TenantId, TenantMarks>,
    requests: HashMap<RequestId, Seq>,
    retained: VecDeque<LogEvent>,
    /// What the retained events and their marks take, about.
    retained_bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct TenantMarks {
    all: Marks,
    /// The newest event about any tag or path.
    by_label: Marks,
    /// The newest event about any of it.
    of_any: Marks,
    deployments: HashMap<DeploymentId, Marks>,
    prefixes: HashMap<PagePathKey, Marks>,
    tags: HashMap<Tag, Marks>,
    keys: HashMap<EntryKey, Marks>,
}

/// A path as a map key that can be asked for by `&str`, so that a scan of prefixes allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PagePathKey(Box<str>);

impl Borrow<str> for PagePathKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl LogView {
    /// Everything up to here is folded in.
    pub fn position(&self) -> Seq {
        self.position
    }

    /// Whether this request was appended before, and where.
    pub fn seq_of(&self, request: RequestId) -> Option<Seq> {
        self.requests.get(&request).copied()
    }

    /// The retained events after `seq`, oldest first; `None` if some of these are forgotten.
    pub fn events_after(&self, seq: Seq) -> Option<impl Iterator<Item = &LogEvent>> {
        (seq >= self.forgotten.newest.seq)
            .then(|| self.retained.iter().skip_while(move |event| event.seq <= seq))
    }

    /// Folds one event in. Events that are folded already are ignored, so that a reader may read a stretch again.
    pub fn fold(&mut self, event: &LogEvent) {
        if event.seq <= self.position {
            return;
        }
        let before = Seq(event.seq.0 - 1);
        if before > self.position {
            self.forgotten.raise(Depth::Hard, Mark::of(before, event.at));
        }
        let mark = Mark::of(event.seq, event.at);
        for invalidation in &event.invalidations {
            self.requests.insert(invalidation.id, event.seq);
            for scope in &invalidation.scopes {
                self.marks_mut(scope).raise(invalidation.depth, mark);
                let Some(tenant) = scope.tenant().and_then(|tenant| self.tenants.get_mut(tenant)) else {
                    continue;
                };
                tenant.of_any.raise(invalidation.depth, mark);
                if matches!(scope, Scope::Tag(..) | Scope::PathPrefix(..)) {
                    tenant.by_label.raise(invalidation.depth, mark);
                }
            }
        }
        self.position = event.seq;
        self.retained_bytes += weight_bytes(event);
        self.retained.push_back(event.clone());
    }

    /// Notes that everything up to `head` was read, also where its newest events are forgotten by now.
    pub fn advance_to(&mut self, head: Seq) {
        if head > self.position {
            self.position = head;
            self.forgotten.raise(Depth::Hard, Mark::of(head, self.forgotten.newest.at));
        }
    }

    /// Forgets events whose time is over, at most so many at once; answers how many these were. Entries that they concern are
    /// forgotten by rule before them; where a clock was wrong and they are not, [`LogView::marks_for`] counts a forgotten
    /// event as one about everything.
    pub fn forget(&mut self, now: Timestamp, most: usize) -> usize {
        let before = self.retained.len();
        let is_over = |view: &Self| view.retained.front().is_some_and(|event| event.forget_after <= now);
        while before - self.retained.len() < most && is_over(self) {
            self.forget_oldest();
        }
        before - self.retained.len()
    }

    /// Forgets the oldest events, also before their time, until what is left takes at most about `max_bytes`, but never the
    /// newest [`ALWAYS_RETAINED`]. Answers how many these were. Pages that are older than a forgotten event count as
    /// invalidated, or purged if it was hard: too little memory costs renders, never a promise.
    pub fn forget_beyond(&mut self, max_bytes: usize) -> usize {
        let before = self.retained.len();
        while self.retained_bytes > max_bytes && self.retained.len() > ALWAYS_RETAINED {
            self.forget_oldest();
        }
        before - self.retained.len()
    }

    /// What is remembered takes about so many bytes.
    pub fn retained_bytes(&self) -> usize {
        self.retained_bytes
    }

    fn forget_oldest(&mut self) {
        let Some(event) = self.retained.pop_front() else { return };
        self.retained_bytes -= weight_bytes(&event);
        let mark = Mark::of(event.seq, event.at);
        self.forgotten.raise(Depth::Soft, mark);
        for invalidation in &event.invalidations {
            self.forgotten.raise(invalidation.depth, mark);
            if self.requests.get(&invalidation.id) == Some(&event.seq) {
                self.requests.remove(&invalidation.id);
            }
            for scope in &invalidation.scopes {
                self.drop_marks(scope, event.seq);
            }
        }
    }

    /// The newest event that may be about a page of this entry of which neither tags nor path are known: in doubt, it has
    /// every one of them.
    pub fn marks_in_doubt(&self, id: &EntryId) -> Marks {
        let mut marks = self.marks_for(id, [], []);
        if let Some(tenant) = self.tenants.get(&id.tenant) {
            marks.raise_both(&tenant.by_label);
        }
        marks
    }

    /// The newest event that may be about a page of this tenant of which nothing else is known: in doubt, it is about that one.
    pub fn marks_in_doubt_of(&self, tenant: &TenantId) -> Marks {
        let mut marks = self.everything;
        marks.raise_both(&self.forgotten);
        if let Some(tenant) = self.tenants.get(tenant) {
            marks.raise_both(&tenant.of_any);
        }
        marks
    }

    /// The newest event about an entry: under its own name, and under the tags and path that its page has.
    pub fn marks_for<'a>(
        &self,
        id: &EntryId,
        tags: impl IntoIterator<Item = &'a Tag>,
        paths: impl IntoIterator<Item = &'a PagePath>,
    ) -> Marks {
        let mut sum = self.everything;
        let mut add = |marks: Option<&Marks>| {
            if let Some(marks) = marks {
                sum.raise_both(marks);
            }
        };
        // What a forgotten event was about cannot be known: without this, one leap of this clock into the future and back
        // would make every page that was invalidated before it fresh again.
        add(Some(&self.forgotten));
        let Some(tenant) = self.tenants.get(&id.tenant) else { return sum };
        add(Some(&tenant.all));
        add(id.deployment.as_ref().and_then(|deployment| tenant.deployments.get(deployment)));
        add(tenant.keys.get(&id.key));
        if !tenant.tags.is_empty() {
            tags.into_iter().for_each(|tag| add(tenant.tags.get(tag)));
        }
        if !tenant.prefixes.is_empty() {
            for path in paths {
                path.prefixes().for_each(|prefix| add(tenant.prefixes.get(prefix)));
            }
        }
        sum
    }

    /// The scopes of an event that concern an entry: what a person is told when asking why a page is stale.
    pub fn scopes_at(
        &self,
        seq: Seq,
        id: &EntryId,
        tags: &[Tag],
        path: Option<&PagePath>,
    ) -> Vec<(Scope, Depth)> {
        let Some(event) = self.retained.iter().find(|event| event.seq == seq) else { return Vec::new() };
        let mut scopes = Vec::new();
        for invalidation in &event.invalidations {
            for scope in &invalidation.scopes {
                if concerns(scope, id, tags, path) {
                    scopes.push((scope.clone(), invalidation.depth));
                }
            }
        }
        scopes
    }

    fn marks_mut(&mut self, scope: &Scope) -> &mut Marks {
        let Some(tenant) = scope.tenant() else { return &mut self.everything };
        let marks = self.tenants.entry(tenant.clone()).or_default();
        match scope {
            Scope::Everything | Scope::Tenant(_) => &mut marks.all,
            Scope::Deployment(_, deployment) => marks.deployments.entry(deployment.clone()).or_default(),
            Scope::PathPrefix(_, path) => {
                marks.prefixes.entry(PagePathKey(path.as_str().into())).or_default()
            }
            Scope::Tag(_, tag) => marks.tags.entry(tag.clone()).or_default(),
            Scope::Key(_, key) => marks.keys.entry(key.clone()).or_default(),
        }
    }

    fn drop_marks(&mut self, scope: &Scope, seq: Seq) {
        let Some(tenant_id) = scope.tenant() else {
            clear_upto(&mut self.everything, seq);
            return;
        };
        let Some(tenant) = self.tenants.get_mut(tenant_id) else { return };
        clear_upto(&mut tenant.by_label, seq);
        clear_upto(&mut tenant.of_any, seq);
        match scope {
            Scope::Everything | Scope::Tenant(_) => {
                clear_upto(&mut tenant.all, seq);
            }
            Scope::Deployment(_, deployment) => remove_upto(&mut tenant.deployments, deployment, seq),
            Scope::PathPrefix(_, path) => remove_upto(&mut tenant.prefixes, path.as_str(), seq),
            Scope::Tag(_, tag) => remove_upto(&mut tenant.tags, tag, seq),
            Scope::Key(_, key) => remove_upto(&mut tenant.keys, key, seq),
        }
        if tenant.is_empty() {
            self.tenants.remove(tenant_id);
        }
    }
}

impl TenantMarks {
    fn is_empty(&self) -> bool {
        self.all == Marks::default()
            && self.by_label == Marks::default()
            && self.of_any == Marks::default()
            && self.deployments.is_empty()
            && self.prefixes.is_empty()
            && self.tags.is_empty()
            && self.keys.is_empty()
    }
}

/// What an event takes in memory, about: itself, its marks and its requests.
fn weight_bytes(event: &LogEvent) -> usize {
    const EVENT: usize = 96;
    const INVALIDATION: usize = 96;
    const SCOPE: usize = 192;
    let scopes = |invalidation: &Invalidation| -> usize {
        invalidation.scopes.iter().map(|scope| 2 * scope.text_bytes() + SCOPE).sum()
    };
    EVENT + event.invalidations.iter().map(|invalidation| INVALIDATION + scopes(invalidation)).sum::<usize>()
}

/// Whether a scope reaches an entry with these tags and this path.
pub fn concerns(scope: &Scope, id: &EntryId, tags: &[Tag], path: Option<&PagePath>) -> bool {
    if scope.tenant().is_some_and(|tenant| *tenant != id.tenant) {
        return false;
    }
    match scope {
        Scope::Everything | Scope::Tenant(_) => true,
        Scope::Deployment(_, deployment) => id.deployment.as_ref() == Some(deployment),
        Scope::PathPrefix(_, prefix) => {
            path.is_some_and(|path| path.prefixes().any(|p| p == prefix.as_str()))
        }
        Scope::Tag(_, tag) => tags.contains(tag),
        Scope::Key(_, key) => id.key == *key,
    }
}

/// Empties marks of events up to `seq`; answers whether nothing is left.
fn clear_upto(marks: &mut Marks, seq: Seq) -> bool {
    for mark in [&mut marks.newest, &mut marks.hard] {
        if mark.seq <= seq {
            *mark = Mark::default();
        }
    }
    *marks == Marks::default()
}

fn remove_upto<K: Eq + Hash + Borrow<Q>, Q: Eq + Hash + ?Sized>(
    map: &mut HashMap<K, Marks>,
    key: &Q,
    seq: Seq,
) {
    if map.get_mut(key).is_some_and(|marks| clear_upto(marks, seq)) {
        map.remove(key);
    }
}
