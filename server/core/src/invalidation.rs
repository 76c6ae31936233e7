//! The invalidation log and its folded form: per scope, the newest position that invalidated or purged it.

mod log_view;
mod requests;
mod retained;
mod tenants;

pub use log_view::LogView;
pub use requests::ALWAYS_RECOGNISED;
pub use tenants::MAX_BARE_TENANTS;

use crate::{
    identity::{DeploymentId, EntryId, EntryKey, PagePath, RequestId, Seq, Tag, TenantId},
    time::Timestamp,
};

/// The most scopes in one invalidation.
pub const MAX_SCOPES: usize = 100;
/// The most bytes of all scopes of one invalidation, tenants included: with what is appended together, an event must fit
/// the smallest record that a store takes (DynamoDB: 400 KB).
pub const MAX_SCOPE_BYTES: usize = 128 * 1024;

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

    /// Empties those of events up to `seq`.
    fn clear_upto(&mut self, seq: Seq) {
        for mark in [&mut self.newest, &mut self.hard] {
            if mark.seq <= seq {
                *mark = Mark::default();
            }
        }
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
