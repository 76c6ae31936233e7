//! What clients asked and were answered, in types of the checker's own: nothing here knows how the system works.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Milliseconds since the beginning, by a clock that all have in common.
pub type Time = u64;

/// Which entry, as an index into [`History::entries`].
pub type EntryIndex = usize;

/// The identity of one attempt, to render or to invalidate: a request id.
pub type Attempt = u128;

/// All that was seen from outside.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The entries that calls are about.
    pub entries: Vec<Identity>,
    /// Every call, in the order in which they began.
    pub operations: Vec<Operation>,
    /// What was found in the stores when everything had come to rest; `None` where nobody looked.
    pub audit: Option<Audit>,
    /// What the parts were told.
    pub terms: Terms,
    /// When the last fault was over; `None` where there was no such time.
    pub faults_ended: Option<Time>,
    /// From when on its aftermath was over too; `None` where there was no such time.
    pub quiet_from: Option<Time>,
    /// When nothing was asked any more.
    pub ended: Time,
    /// What tasks panicked with.
    pub panics: Vec<String>,
}

/// What identifies an entry, and what scopes it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Whose.
    pub tenant: String,
    /// Of which release.
    pub deployment: Option<String>,
    /// Its key.
    pub key: String,
    /// Its path.
    pub path: String,
}

/// What the parts were told about time, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// Whoever has not read the log for so long calls nothing fresh.
    pub staleness_bound: Time,
    /// The most by which two clocks of coordinators differed.
    pub clocks_apart: Time,
    /// What rounding and the network may add to any deadline.
    pub slack: Time,
    /// The longest lease that a worker asks for.
    pub longest_lease: Time,
    /// However often it is renewed, no lease is held for longer.
    pub longest_hold: Time,
    /// The longest render when all is well.
    pub longest_render: Time,
    /// The longest one as long as there are faults.
    pub longest_render_amid_faults: Time,
    /// What was superseded is kept for so long.
    pub deletion_grace: Time,
    /// So long after a commit, those who wait for it on other coordinators have heard of it.
    pub hearsay: Time,
    /// For so long a coordinator may repeat that there is no body of a name.
    pub reread: Time,
}

/// One call, from its invocation to its answer.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who called.
    pub actor: String,
    /// When.
    pub began: Time,
    /// When it was answered, and what.
    pub answer: Option<(Time, Outcome)>,
    /// What was asked.
    pub call: Call,
    /// How long its own deadlines let it take.
    pub may_take: Time,
    /// For how long its caller did not run meanwhile.
    pub paused: Time,
    /// Its caller died before the answer.
    pub abandoned: bool,
}

/// What was asked.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Call {
    /// What is current?
    Lookup {
        /// Of which entry.
        entry: EntryIndex,
        /// Whether log and entry are to be read first.
        strict: bool,
        /// The invalidation whose token was presented: an index into [`History::operations`].
        knows: Option<usize>,
    },
    /// The sidecar of a page that was seen.
    Sidecar {
        /// Of which entry.
        entry: EntryIndex,
        /// Of which generation.
        generation: u64,
        /// The lookup that told of it: an index into [`History::operations`].
        of: usize,
    },
    /// The sidecar of a page that was seen, for another entry than the page's.
    ForeignSidecar {
        /// Of which entry.
        entry: EntryIndex,
        /// The lookup that told of it, of another one: an index into [`History::operations`].
        of: usize,
    },
    /// The body that a worker of this tenant called so.
    Object {
        /// Whose.
        tenant: String,
        /// What it is called.
        name: String,
    },
    /// May I render?
    Acquire {
        /// Which entry.
        entry: EntryIndex,
        /// By this request id.
        attempt: Attempt,
        /// Waiting for another's page for so long.
        wait: Time,
        /// To render for so long.
        ttl: Time,
        /// As in a lookup.
        knows: Option<usize>,
    },
    /// Here is the page.
    Commit {
        /// Of which entry.
        entry: EntryIndex,
        /// Rendered under this request id,
        attempt: Attempt,
        /// and this generation.
        generation: u64,
        /// What it is.
        page: Rendered,
    },
    /// Let the lease last on.
    Renew {
        /// Of which entry.
        entry: EntryIndex,
        /// Under which generation.
        generation: u64,
        /// For so long from now on.
        ttl: Time,
    },
    /// Give the lease back, with or without a failure.
    Release {
        /// Of which entry.
        entry: EntryIndex,
        /// Under which generation.
        generation: u64,
    },
    /// Pages are out of date.
    Invalidate {
        /// By this request id.
        attempt: Attempt,
        /// Which.
        scopes: Vec<Scope>,
        /// Whether they are not even to be served as stale.
        hard: bool,
    },
    /// Tell me of what happens, from now on until somebody is bored.
    Watch,
    /// Delete what nobody needs, past all coordinators.
    Sweep {
        /// When all has come to rest.
        is_last: bool,
    },
}

/// What a worker rendered.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Rendered {
    /// Digest of the HTML, in hex.
    pub html: String,
    /// Digest of the sidecar, in hex.
    pub sidecar: Option<String>,
    /// The sidecar was stored ahead of the commit, when nobody had said yet what the page can be invalidated by.
    pub is_sidecar_ahead: bool,
    /// As was the HTML.
    pub is_html_ahead: bool,
    /// What its worker calls the bodies.
    pub names: Names,
    /// What it can be invalidated by.
    pub tags: BTreeSet<String>,
    /// Fresh for so long.
    pub revalidate: Option<Time>,
}

/// What the bodies of a page are called; `None` where they are found through their entry only.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Names {
    /// The HTML.
    pub html: Option<String>,
    /// The sidecar.
    pub sidecar: Option<String>,
}

/// What an invalidation is about.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Everything,
    /// A tenant.
    Tenant(String),
    /// A release of a tenant.
    Deployment(String, String),
    /// Paths of a tenant, by whole segments.
    Path(String, String),
    /// Pages of a tenant with this tag.
    Tag(String, String),
    /// An entry of a tenant, in every release.
    Key(String, String),
}

/// What was answered.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Outcome {
    /// A page without reservation.
    Fresh(Seen),
    /// A page with one.
    Stale(Seen, Reason),
    /// No page.
    Missing(Absence),
    /// A sidecar, by the digest of its bytes in hex.
    Sidecar(String),
    /// No such sidecar.
    NoSidecar,
    /// A body by its name.
    Object {
        /// Digest of its bytes, as it was told, in hex.
        told: String,
        /// Digest of the bytes that came along, in hex.
        bytes: String,
    },
    /// No body of this name.
    NoObject,
    /// Render.
    Granted {
        /// Under this generation.
        generation: u64,
        /// The page so far.
        previous: Option<Seen>,
    },
    /// Another renders.
    Held {
        /// The page so far.
        previous: Option<Seen>,
    },
    /// A render failed a moment ago.
    BackingOff {
        /// The page so far.
        previous: Option<Seen>,
    },
    /// The attempt is over.
    Ended,
    /// The page is current.
    Committed {
        /// What its bodies are called.
        names: Names,
    },
    /// It is, but was invalidated meanwhile.
    CommittedStale {
        /// And not even to be served.
        purged: bool,
        /// What its bodies are called.
        names: Names,
    },
    /// Nothing was applied: a body of another lease has one of the names.
    NameTaken,
    /// A newer one is current.
    Superseded {
        /// Its generation.
        current: u64,
    },
    /// Nothing of this was applied, nor will be.
    Fenced {
        /// The generation of the latest grant.
        latest: u64,
    },
    /// The lease lasts on.
    Renewed,
    /// It is not the caller's any more.
    Lost,
    /// The lease is free.
    Released,
    /// It was not the caller's.
    NotHeld,
    /// The pages are out of date.
    Invalidated,
    /// What a watch told, in order.
    Watched(Vec<Told>),
    /// The bucket was gone through.
    Swept {
        /// So much was not needed, and is gone.
        deleted: u64,
        /// So much was not, and is there.
        failed: u64,
    },
    /// It was not, for fear of deleting what is needed.
    SweptNothing,
    /// No answer that says anything.
    Failed {
        /// Whether it may have been applied.
        in_doubt: bool,
        /// Why.
        why: String,
    },
}

/// A page as it was served.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Seen {
    /// Its generation.
    pub generation: u64,
    /// Digest of the HTML, as it was told, in hex.
    pub told: String,
    /// Digest of the bytes that came along, in hex.
    pub bytes: Option<String>,
    /// Whether it has a sidecar.
    pub sidecar: bool,
    /// What its bodies are called.
    pub names: Names,
}

/// Why a page is stale.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Reason {
    /// Too old.
    Expired,
    /// Invalidated.
    Invalidated,
    /// The log has not been read for too long.
    Unverified,
}

/// Why there is no page.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Absence {
    /// There never was one.
    NeverRendered,
    /// It must not be served any more.
    Purged,
    /// Its bytes are gone.
    BodyGone,
    /// It was not said why.
    Untold,
}

/// What a watch told.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Told {
    /// A page became current.
    Committed {
        /// Of which entry.
        entry: EntryIndex,
        /// Its generation.
        generation: u64,
    },
    /// Pages were invalidated.
    Invalidated,
    /// Something was missed.
    Resync,
}

/// What was found in the stores, past the system.
#[derive(Clone, Debug, Serialize, Deserialize, Default, PartialEq, Eq)]
pub struct Audit {
    /// The rows of entries, after the last sweep.
    pub rows: Vec<Row>,
    /// What was in the bucket before it.
    pub objects: Vec<Object>,
    /// The request ids of the invalidations in the log, in no order.
    pub invalidations: Vec<Attempt>,
}

/// A row that names a page.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Row {
    /// Of which entry.
    pub entry: EntryIndex,
    /// The generation that is current.
    pub generation: u64,
    /// The HTML that it names.
    pub html: Body,
    /// The sidecar that it names.
    pub sidecar: Option<Body>,
}

/// An object that a row names.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Body {
    /// Its name.
    pub object: String,
    /// What a worker of its tenant calls it.
    pub given: Option<String>,
    /// Digest of its bytes, in hex; `None` where it is not there.
    pub bytes: Option<String>,
}

/// An object in the bucket before the last sweep, which came long after the last write.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Who needs it.
    pub needed: Need,
    /// Whether it is there after the sweep.
    pub is_left: bool,
}

/// Why an object has to stay.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Need {
    /// A row names it.
    Named,
    /// Whoever holds the lease in a row may still commit it.
    Leased,
    /// It has not.
    Nobody,
}

/// Which body of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Html,
    Sidecar,
}

/// A body of a page, as it was rendered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rendering<'a> {
    pub(super) kind: Kind,
    pub(super) digest: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) is_ahead: bool,
}

impl History {
    /// An invalidation that was acknowledged before this time was known to whoever granted a lease at the time given. A
    /// coordinator that cannot read the log grants by what it knows, however old that is: of what was granted under faults,
    /// nothing can be said.
    pub(super) fn known_at(&self, granted: Option<Time>) -> Time {
        let lag = self.terms.staleness_bound + self.terms.slack;
        match (granted, self.quiet_from) {
            (Some(granted), Some(quiet)) if granted > quiet + lag => granted - lag,
            _ => 0,
        }
    }
}

impl Operation {
    /// Whether an invalidation was told to hold before then.
    pub(super) fn is_acknowledged_before(&self, time: Time) -> bool {
        matches!(self.outcome(), Some(Outcome::Invalidated)) && self.answered() < time
    }

    /// The answer, if any.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.answer.as_ref().map(|(_, outcome)| outcome)
    }

    /// When it was answered; the end of time where it was not.
    pub fn answered(&self) -> Time {
        self.answer.as_ref().map_or(Time::MAX, |(at, _)| *at)
    }

    /// The entry that it is about.
    pub fn entry(&self) -> Option<EntryIndex> {
        match &self.call {
            Call::Lookup { entry, .. }
            | Call::Sidecar { entry, .. }
            | Call::ForeignSidecar { entry, .. }
            | Call::Acquire { entry, .. }
            | Call::Commit { entry, .. }
            | Call::Renew { entry, .. }
            | Call::Release { entry, .. } => Some(*entry),
            Call::Object { .. } | Call::Invalidate { .. } | Call::Watch | Call::Sweep { .. } => None,
        }
    }
}

impl Outcome {
    /// The page in it, if any.
    pub fn seen(&self) -> Option<&Seen> {
        match self {
            Self::Fresh(seen) | Self::Stale(seen, _) => Some(seen),
            Self::Granted { previous, .. } | Self::Held { previous } | Self::BackingOff { previous } => {
                previous.as_ref()
            }
            _ => None,
        }
    }
}

impl Rendered {
    /// Its bodies: what each is called, its digest, and whether it was stored ahead of the commit.
    pub(super) fn bodies(&self) -> impl Iterator<Item = Rendering<'_>> {
        let Self { html, sidecar, is_html_ahead, is_sidecar_ahead, names, .. } = self;
        let html = Rendering {
            kind: Kind::Html,
            digest: html,
            name: names.html.as_deref(),
            is_ahead: *is_html_ahead,
        };
        let sidecar = sidecar.as_ref().map(|digest| Rendering {
            kind: Kind::Sidecar,
            digest,
            name: names.sidecar.as_deref(),
            is_ahead: *is_sidecar_ahead,
        });
        [Some(html), sidecar].into_iter().flatten()
    }
}

impl Names {
    pub(super) fn of(&self, kind: Kind) -> Option<&str> {
        match kind {
            Kind::Html => self.html.as_deref(),
            Kind::Sidecar => self.sidecar.as_deref(),
        }
    }
}

impl Scope {
    /// Whether it may cover pages of this tenant.
    pub(super) fn is_about(&self, tenant: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Tenant(of)
            | Self::Deployment(of, _)
            | Self::Path(of, _)
            | Self::Tag(of, _)
            | Self::Key(of, _) => of == tenant,
        }
    }

    /// Whether it covers a page of this entry with these tags.
    pub fn covers(&self, entry: &Identity, tags: &BTreeSet<String>) -> bool {
        match self {
            Self::Everything => true,
            Self::Tenant(tenant) => *tenant == entry.tenant,
            Self::Deployment(tenant, deployment) => {
                *tenant == entry.tenant && Some(deployment) == entry.deployment.as_ref()
            }
            Self::Path(tenant, prefix) => {
                let below = entry.path.strip_prefix(prefix.trim_end_matches('/'));
                *tenant == entry.tenant
                    && below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
            }
            Self::Tag(tenant, tag) => *tenant == entry.tenant && tags.contains(tag),
            Self::Key(tenant, key) => *tenant == entry.tenant && *key == entry.key,
        }
    }
}
