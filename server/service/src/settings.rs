//! What an operator can set, with its defaults.

use leasehold_core::{key::TenantBoundary, object::ObjectPrefix, transition::Rules};
use std::{num::NonZeroU32, time::Duration};

/// Everything that the engine and its edge can be told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Leases, retention, backoff.
    pub rules: Rules,
    /// How leases and waits are bounded.
    pub leases: LeaseSettings,
    /// How the invalidation log is followed.
    pub log: LogSettings,
    /// What is kept in memory.
    pub memory: MemorySettings,
    /// How many may do what at once, and how large.
    pub limits: Limits,
    /// How the store is called.
    pub store: StoreSettings,
    /// Names of stored bodies begin with this.
    pub object_prefix: ObjectPrefix,
    /// Which headers mark a tenant boundary.
    pub boundary: TenantBoundary,
    /// Superseded bodies are deleted so long after they were superseded: what a page in a browser, or a slow reader, may
    /// still ask for.
    pub deletion_grace: Duration,
    /// An entry that is not fresh is read again at most this often, because another coordinator may have committed; four times
    /// less often where its lease was granted here.
    /// `None` where this coordinator is the only one.
    pub reread_interval: Option<Duration>,
    /// A watch says so often that it is alive.
    pub watch_progress_interval: Duration,
    /// What is counted.
    pub metrics: MetricsSettings,
}

/// What is counted.
#[derive(Clone, Debug)]
pub struct MetricsSettings {
    /// So many tenants are told apart, the first that are seen.
    pub tenants: usize,
}

/// How leases and waits are bounded.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// The ttl of a lease whose caller names none.
    pub default_ttl: Duration,
    /// The longest ttl.
    pub max_ttl: Duration,
    /// The longest wait for another's lease.
    pub max_wait: Duration,
}

/// The shortest ttl: below this, network and clock would decide who renders.
pub const MIN_TTL: Duration = Duration::from_millis(100);

/// How the invalidation log is followed.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// The head is read so often.
    pub tail_interval: Duration,
    /// Events are kept so much longer than entries.
    pub retention_margin: Duration,
}

/// What is kept in memory.
#[derive(Clone, Debug)]
pub struct MemorySettings {
    /// Bytes of the state of entries, about: one of a page with a few tags takes 2 KiB.
    pub entry_bytes: u64,
    /// Bytes of invalidations, about: one of a tag takes 500. Where they do not suffice, those of the tenant that takes most
    /// are forgotten before their time, the oldest first, and its pages that are older than these are rendered again.
    pub log_bytes: usize,
    /// Bytes of bodies.
    pub body_bytes: u64,
    /// Commits and invalidations that a watch can be resumed from.
    pub watch_events: usize,
    /// Superseded bodies that wait for their deletion; what is over is left to those who look for what no entry names.
    pub pending_deletions: usize,
}

/// What a lookup on a stream takes until its answer is sent, beside that: its task, about. An error has room in it.
pub(crate) const KEPT_LOOKUP_BYTES: usize = 2048;

/// How many may do what at once, and how large.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls in progress, without those that wait; apart from these as many of renders that go on (renewals, commits, releases);
    /// of either as many again whose callers have gone away, and whose reads and changes of entries go on; and as many bodies
    /// being streamed.
    pub concurrent_calls: usize,
    /// Calls that wait for another's lease.
    pub waiters: usize,
    /// Open watches.
    pub watches: usize,
    /// Open lookup streams.
    pub lookup_streams: usize,
    /// Lookups in flight on one stream.
    pub lookups_per_stream: usize,
    /// Bytes of one body.
    pub body_bytes: usize,
    /// Uploads in progress.
    pub uploads: usize,
    /// Bytes of all bodies in progress towards the store, by uploads or within commits.
    pub upload_bytes: usize,
    /// Bytes of all bodies on their way to readers of a stream, each counted once however many read it.
    pub streamed_bytes: usize,
    /// A caller that sends nothing of its upload, or reads no whole message of what a stream has to say (of lookups, of a watch,
    /// of a body), for so long is cut off; and a request, or a message of a stream, that takes longer from its first byte to its
    /// last.
    pub stall_timeout: Duration,
    /// The largest body that is sent within a message.
    pub inline_body_bytes: usize,
    /// The largest message that is accepted. Answers on lookup streams that are not sent may have sixteen times as many bytes in all,
    /// without their bodies, and beside 2 KiB for each of as many lookups as there may be calls.
    pub message_bytes: usize,
    /// What one tenant may use of all this.
    pub tenant: TenantLimits,
}

impl Limits {
    /// Reads and changes in progress: one for each call that may be there, and for as many calls again whose callers have gone
    /// away.
    pub(crate) fn operations(&self) -> usize {
        self.concurrent_calls.saturating_mul(2).saturating_add(self.waiters)
    }

    /// The same, of renders that go on.
    pub(crate) fn render_operations(&self) -> usize {
        self.concurrent_calls.saturating_mul(2).saturating_add(self.uploads)
    }

    /// The same, of invalidations.
    pub(crate) fn invalidations(&self) -> usize {
        self.concurrent_calls.saturating_mul(2)
    }

    /// Bytes of lookups on streams whose answers are not sent, and of these, without bodies.
    pub(crate) fn answer_bytes(&self) -> usize {
        let kept = self.concurrent_calls.saturating_mul(KEPT_LOOKUP_BYTES);
        self.message_bytes.saturating_mul(16).saturating_add(kept)
    }
}

/// What one tenant may use of a coordinator. What is `None` is not limited.
#[derive(Clone, Debug, Default)]
pub struct TenantLimits {
    /// The share that it may have at a time of what there is for all, in percent: of calls in progress, calls that wait, watches,
    /// lookup streams, uploads, bodies being streamed, and bytes on their way, of these at least one body.
    pub share_percent: Option<NonZeroU32>,
    /// Requests in a second, and as many at once; each lookup on a stream is one. Those of renders that go on (renewals, uploads,
    /// commits, releases) are counted apart, and may be as many.
    pub requests: Option<NonZeroU32>,
    /// Calls that wait for another's lease, where that is less than its share.
    pub waiters: Option<usize>,
    /// Bytes in a second of bodies that are stored or served, in whole KiB; and as many at once, or what one call may carry where
    /// that is more. What a grant tells of the page before is not counted, nor, within a message, a page that another system wrote.
    pub bytes: Option<NonZeroU32>,
}

/// How the store is called.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// A single request to the store may take so long; then its outcome counts as unknown.
    pub request_timeout: Duration,
    /// The deadline of calls that name none.
    pub default_deadline: Duration,
    /// The pause before the first retry; it doubles, with jitter.
    pub retry_pause: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: Rules {
                expiry_tolerance: Duration::ZERO,
                max_hold: Duration::from_secs(15 * 60),
                retention: Duration::from_secs(35 * 24 * 60 * 60),
                staleness_bound: Duration::from_secs(2),
                backoff_base: Duration::from_secs(1),
                backoff_max: Duration::from_secs(60),
            },
            leases: LeaseSettings {
                default_ttl: Duration::from_secs(10),
                max_ttl: Duration::from_secs(5 * 60),
                max_wait: Duration::from_secs(60),
            },
            log: LogSettings {
                tail_interval: Duration::from_millis(200),
                retention_margin: Duration::from_secs(24 * 60 * 60),
            },
            memory: MemorySettings {
                entry_bytes: 256 * 1024 * 1024,
                log_bytes: 256 * 1024 * 1024,
                body_bytes: 256 * 1024 * 1024,
                watch_events: 16_384,
                pending_deletions: 1_000_000,
            },
            limits: Limits {
                concurrent_calls: 4096,
                waiters: 20_000,
                watches: 1024,
                lookup_streams: 4096,
                lookups_per_stream: 256,
                body_bytes: 16 * 1024 * 1024,
                uploads: 1024,
                upload_bytes: 256 * 1024 * 1024,
                streamed_bytes: 256 * 1024 * 1024,
                stall_timeout: Duration::from_secs(30),
                inline_body_bytes: 1024 * 1024,
                message_bytes: 4 * 1024 * 1024,
                tenant: TenantLimits::default(),
            },
            store: StoreSettings {
                request_timeout: Duration::from_secs(5),
                default_deadline: Duration::from_secs(10),
                retry_pause: Duration::from_millis(20),
            },
            object_prefix: ObjectPrefix::default(),
            boundary: TenantBoundary::default(),
            deletion_grace: Duration::from_secs(60 * 60),
            reread_interval: None,
            watch_progress_interval: Duration::from_secs(15),
            metrics: MetricsSettings { tenants: 100 },
        }
    }
}
