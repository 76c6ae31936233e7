//! The coordinator's settings as flags and environment variables: what a person may write, and how far each
//! may go.
//!
//! Every flag `--some-name` has the variable `LEASEHOLD_SOME_NAME`. What they come to is [`crate::settings`].

use crate::{
    access::{KeyPlace, Source},
    logs::{DEFAULT, Filter, LogFormat},
    quantity::{count, duration, part, size},
};
use clap::{Args, ValueEnum};
use leasehold_aws::PkTemplate;
use leasehold_core::{
    key::{InvalidBoundaryHeader, TenantBoundary},
    object::{InvalidObjectName, ObjectPrefix},
};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}
const fn days(days: u64) -> Duration {
    hours(days * 24)
}
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

#[derive(Args, Clone, Debug)]
pub(crate) struct ServeFlags {
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
    #[command(flatten)]
    pub(crate) access: AccessFlags,
    #[command(flatten)]
    pub(crate) aws: AwsFlags,
    #[command(flatten)]
    pub(crate) names: NameFlags,
    #[command(flatten)]
    pub(crate) leases: LeaseFlags,
    #[command(flatten)]
    pub(crate) log: LogFlags,
    #[command(flatten)]
    pub(crate) keeping: KeepingFlags,
    #[command(flatten)]
    pub(crate) memory: MemoryFlags,
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
    #[command(flatten)]
    pub(crate) transport: TransportFlags,
    #[command(flatten)]
    pub(crate) admin: AdminFlags,
    #[command(flatten)]
    pub(crate) logging: LoggingFlags,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Where")]
pub(crate) struct PlaceFlags {
    /// Answer gRPC calls here. Port 0 takes a free one, and says which
    #[arg(long, env = "LEASEHOLD_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:7420",
        value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// Allow --listen on an address that other machines reach where whoever reaches it could do everything, as with
    /// --auth none, or read the tokens of others, as with --auth token without --tls-cert
    #[arg(long, env = "LEASEHOLD_ALLOW_REMOTE", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) allow_remote: bool,
    /// Keep everything in --data-dir, for one process on one machine, or in DynamoDB and S3, for any number
    #[arg(long, env = "LEASEHOLD_STORE", value_name = "STORE", default_value = "embedded")]
    pub(crate) store: StoreKind,
    /// Keep everything in this directory, which is made where it is missing. One process at a time
    #[arg(long, env = "LEASEHOLD_DATA_DIR", value_name = "DIR", default_value = "data")]
    pub(crate) data_dir: PathBuf,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Who may call")]
pub(crate) struct AccessFlags {
    /// Let everybody do everything (none), or those who present a token (token) or a certificate (mtls) do what
    /// --policy allows
    #[arg(long, env = "LEASEHOLD_AUTH", value_name = "MODE", default_value = "none")]
    pub(crate) auth: AuthMode,
    /// What each principal may do, in TOML. Instead of a file, LEASEHOLD_POLICY_TOML may hold the text
    #[arg(long, env = "LEASEHOLD_POLICY", value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Static tokens and their principals, in TOML, with --auth token. Instead of a file, LEASEHOLD_TOKENS_TOML may hold
    /// the text
    #[arg(long, env = "LEASEHOLD_TOKENS", value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// The keys of those whose JSON Web Tokens are accepted, with --auth token: a JSON Web Key Set, in a file or at an
    /// https URL, which is asked again every five minutes
    #[arg(long, env = "LEASEHOLD_JWT_KEYS", value_name = "FILE|URL", value_parser = key_place)]
    pub(crate) jwt_keys: Option<KeyPlace>,
    /// Who must have issued these tokens: their `iss`
    #[arg(long, env = "LEASEHOLD_JWT_ISSUER", value_name = "TEXT")]
    pub(crate) jwt_issuer: Option<String>,
    /// For whom they must be: their `aud`
    #[arg(long, env = "LEASEHOLD_JWT_AUDIENCE", value_name = "TEXT")]
    pub(crate) jwt_audience: Option<String>,
    /// Which of their claims names the principal
    #[arg(long, env = "LEASEHOLD_JWT_PRINCIPAL_CLAIM", value_name = "CLAIM", default_value = "sub")]
    pub(crate) jwt_principal_claim: String,
    /// Serve TLS with this certificate: PEM, with the chain. Instead of a file, LEASEHOLD_TLS_CERT_PEM may hold the text
    #[arg(long, env = "LEASEHOLD_TLS_CERT", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key: PEM. Instead of a file, LEASEHOLD_TLS_KEY_PEM may hold the text
    #[arg(long, env = "LEASEHOLD_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The authorities of clients' certificates, with --auth mtls: PEM. Instead of a file, LEASEHOLD_TLS_CLIENT_CA_PEM may
    /// hold the text
    #[arg(long, env = "LEASEHOLD_TLS_CLIENT_CA", value_name = "FILE")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Look at these files so often, and on SIGHUP. What changed takes effect without a restart; what cannot be used is
    /// logged, and what held before goes on holding. 100ms to 1h
    #[arg(long, env = "LEASEHOLD_RELOAD_INTERVAL", value_name = "DURATION", default_value = "10s",
        value_parser = duration(ms(100), hours(1)))]
    pub(crate) reload_interval: Duration,
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuthMode {
    /// Everybody.
    None,
    /// Whoever presents a token.
    Token,
    /// Whoever has a certificate.
    Mtls,
}

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreKind {
    /// SQLite in a directory.
    Embedded,
    /// DynamoDB and S3.
    Aws,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "DynamoDB and S3, with --store aws")]
pub(crate) struct AwsFlags {
    /// The table. Without it, what FACETHEORY_CACHE_TABLE_NAME, APPTHEORY_CACHE_TABLE_NAME, CACHE_TABLE_NAME
    /// or CACHE_TABLE says
    #[arg(long, env = "LEASEHOLD_TABLE", value_name = "NAME")]
    pub(crate) table: Option<String>,
    /// The bucket
    #[arg(long, env = "LEASEHOLD_BUCKET", value_name = "NAME")]
    pub(crate) bucket: Option<String>,
    /// The region of both. Without it, that of the environment or the profile, as for every AWS tool
    #[arg(long, env = "LEASEHOLD_REGION", value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Another DynamoDB than that of the region
    #[arg(long, env = "LEASEHOLD_DYNAMODB_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub(crate) dynamodb_endpoint: Option<String>,
    /// Another S3 than that of the region
    #[arg(long, env = "LEASEHOLD_S3_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub(crate) s3_endpoint: Option<String>,
    /// Name the bucket in the path of URLs, as most other S3 servers want it
    #[arg(long, env = "LEASEHOLD_S3_PATH_STYLE", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) s3_path_style: bool,
    /// The partition key of an entry: text with {tenant}, {deployment}, {key} and {digest}. The same on every
    /// coordinator; CACHE#{key} is what FaceTheory keeps through TableTheory by default
    #[arg(
        long,
        env = "LEASEHOLD_ENTRY_KEY",
        value_name = "TEMPLATE",
        default_value = "TENANT#{tenant}#CACHE#{digest}"
    )]
    pub(crate) entry_key: PkTemplate,
    /// The partition key of the invalidation log. The same on every coordinator
    #[arg(long, env = "LEASEHOLD_LOG_KEY", value_name = "TEXT", default_value = "LEASEHOLD#LOG")]
    pub(crate) log_key: String,
    /// What FaceTheory's store of HTML has as its key prefix: the table names objects without it. Slashes around
    /// it make no difference
    #[arg(long, env = "LEASEHOLD_S3_KEY_PREFIX", value_name = "PREFIX", default_value = "")]
    pub(crate) s3_key_prefix: String,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Names")]
pub(crate) struct NameFlags {
    /// Refuse requests with this header that declare no tenant, as with x-tenant-id and x-facetheory-tenant,
    /// which always count. May be repeated, or hold several with commas
    #[arg(long, env = "LEASEHOLD_TENANT_HEADER", value_name = "NAME", value_delimiter = ',',
        value_parser = boundary_header)]
    pub(crate) tenant_header: Vec<String>,
    /// Begin the names of stored bodies with this
    #[arg(long, env = "LEASEHOLD_OBJECT_PREFIX", value_name = "PREFIX", default_value = "isr",
        value_parser = object_prefix)]
    pub(crate) object_prefix: ObjectPrefix,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Leases")]
pub(crate) struct LeaseFlags {
    /// How long a lease lasts whose caller names no ttl: a dead one delays others by no more. 100ms to 1h
    #[arg(long, env = "LEASEHOLD_LEASE_DEFAULT_TTL", value_name = "DURATION", default_value = "10s",
        value_parser = duration(ms(100), hours(1)))]
    pub(crate) lease_default_ttl: Duration,
    /// The longest that a caller may ask for at a time. 100ms to 1h
    #[arg(long, env = "LEASEHOLD_LEASE_MAX_TTL", value_name = "DURATION", default_value = "5m",
        value_parser = duration(ms(100), hours(1)))]
    pub(crate) lease_max_ttl: Duration,
    /// The longest that a lease can be held by renewing it. 100ms to 1d
    #[arg(long, env = "LEASEHOLD_LEASE_MAX_HOLD", value_name = "DURATION", default_value = "15m",
        value_parser = duration(ms(100), days(1)))]
    pub(crate) lease_max_hold: Duration,
    /// Count a lease as expired only so long after its time, as clocks differ. Without it, 500ms with
    /// --store aws, else 0s. 0s to 1m
    #[arg(long, env = "LEASEHOLD_EXPIRY_TOLERANCE", value_name = "DURATION",
        value_parser = duration(ms(0), secs(60)))]
    pub(crate) expiry_tolerance: Option<Duration>,
    /// Read an entry that is not fresh, or that somebody waits for, at most so often again, as another
    /// coordinator may have changed it; four times less often where its lease was granted here. Without it,
    /// 250ms with --store aws, else never. 10ms to 1m
    #[arg(long, env = "LEASEHOLD_REREAD_INTERVAL", value_name = "DURATION",
        value_parser = duration(ms(10), secs(60)))]
    pub(crate) reread_interval: Option<Duration>,
    /// The longest that a call waits for the page that another renders. 1ms to 1h
    #[arg(long, env = "LEASEHOLD_MAX_WAIT", value_name = "DURATION", default_value = "60s",
        value_parser = duration(ms(1), hours(1)))]
    pub(crate) max_wait: Duration,
    /// Nobody renders for so long after a failed render; twice as long after each further one. 1ms to 1h
    #[arg(long, env = "LEASEHOLD_BACKOFF_BASE", value_name = "DURATION", default_value = "1s",
        value_parser = duration(ms(1), hours(1)))]
    pub(crate) backoff_base: Duration,
    /// The longest such pause. 1ms to 1d
    #[arg(long, env = "LEASEHOLD_BACKOFF_MAX", value_name = "DURATION", default_value = "60s",
        value_parser = duration(ms(1), days(1)))]
    pub(crate) backoff_max: Duration,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Invalidation")]
pub(crate) struct LogFlags {
    /// How often the invalidation log is read: how late an invalidation can be seen by callers without its
    /// token. 10ms to 1m
    #[arg(long, env = "LEASEHOLD_TAIL_INTERVAL", value_name = "DURATION", default_value = "200ms",
        value_parser = duration(ms(10), secs(60)))]
    pub(crate) tail_interval: Duration,
    /// Call nothing fresh without having read the log for so long. Longer than --tail-interval. 20ms to 10m
    #[arg(long, env = "LEASEHOLD_STALENESS_BOUND", value_name = "DURATION", default_value = "2s",
        value_parser = duration(ms(20), secs(600)))]
    pub(crate) staleness_bound: Duration,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Keeping")]
pub(crate) struct KeepingFlags {
    /// Forget a page that was not regenerated for so long. 1h to 3650d
    #[arg(long, env = "LEASEHOLD_RETENTION", value_name = "DURATION", default_value = "35d",
        value_parser = duration(hours(1), days(3650)))]
    pub(crate) retention: Duration,
    /// Keep a superseded body for so long, for those who still read it. 1s to 30d
    #[arg(long, env = "LEASEHOLD_DELETION_GRACE", value_name = "DURATION", default_value = "1h",
        value_parser = duration(secs(1), days(30)))]
    pub(crate) deletion_grace: Duration,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Memory")]
pub(crate) struct MemoryFlags {
    /// Keep so many bytes of bodies in memory. 1 MiB to 1 TiB
    #[arg(long, env = "LEASEHOLD_CACHE_BYTES", value_name = "SIZE", default_value = "256MiB",
        value_parser = size(MIB, TIB))]
    pub(crate) cache_bytes: u64,
    /// Keep so many bytes of the state of entries in memory; one of a page with a few tags takes about 2 KiB.
    /// 1 MiB to 1 TiB
    #[arg(long, env = "LEASEHOLD_ENTRY_BYTES", value_name = "SIZE", default_value = "256MiB",
        value_parser = size(MIB, TIB))]
    pub(crate) entry_bytes: u64,
    /// Keep so many bytes of invalidations in memory; one of a tag takes about 500 bytes. Where they do not suffice,
    /// the oldest of the tenant that takes most are forgotten before their time, and its pages that are older than
    /// these are rendered again; other tenants lose nothing. 64 MiB to 1 TiB
    #[arg(long, env = "LEASEHOLD_LOG_BYTES", value_name = "SIZE", default_value = "256MiB",
        value_parser = size(64 * MIB, TIB))]
    pub(crate) log_bytes: u64,
    /// Keep so many commits and invalidations for watches to resume from. 16 to 10000000
    #[arg(long, env = "LEASEHOLD_WATCH_EVENTS", value_name = "NUMBER", default_value = "16384",
        value_parser = count(16, 10_000_000))]
    pub(crate) watch_events: usize,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitFlags {
    /// Calls in progress, without those that wait for another's page; as many that renew, commit or give back a lease; and
    /// of either as many again may be finished whose callers have gone away. 1 to 1000000
    #[arg(long, env = "LEASEHOLD_MAX_CALLS", value_name = "NUMBER", default_value = "4096",
        value_parser = count(1, 1_000_000))]
    pub(crate) max_calls: usize,
    /// Calls that wait for another's page. 1 to 1000000
    #[arg(long, env = "LEASEHOLD_MAX_WAITERS", value_name = "NUMBER", default_value = "20000",
        value_parser = count(1, 1_000_000))]
    pub(crate) max_waiters: usize,
    /// Open watches. 1 to 1000000
    #[arg(long, env = "LEASEHOLD_MAX_WATCHES", value_name = "NUMBER", default_value = "1024",
        value_parser = count(1, 1_000_000))]
    pub(crate) max_watches: usize,
    /// Open lookup streams. 1 to 1000000
    #[arg(long, env = "LEASEHOLD_MAX_LOOKUP_STREAMS", value_name = "NUMBER", default_value = "4096",
        value_parser = count(1, 1_000_000))]
    pub(crate) max_lookup_streams: usize,
    /// Lookups in progress on one stream. 1 to 100000
    #[arg(long, env = "LEASEHOLD_MAX_LOOKUPS_PER_STREAM", value_name = "NUMBER", default_value = "256",
        value_parser = count(1, 100_000))]
    pub(crate) max_lookups_per_stream: usize,
    /// One body, uploaded ahead of its commit. 1 KiB to 64 MiB
    #[arg(long, env = "LEASEHOLD_MAX_BODY_BYTES", value_name = "SIZE", default_value = "16MiB",
        value_parser = size(KIB, leasehold_store::embedded::MAX_OBJECT_BYTES as u64))]
    pub(crate) max_body_bytes: u64,
    /// Uploads in progress. 1 to 1000000
    #[arg(long, env = "LEASEHOLD_MAX_UPLOADS", value_name = "NUMBER", default_value = "1024",
        value_parser = count(1, 1_000_000))]
    pub(crate) max_uploads: usize,
    /// All bodies of uploads and commits in progress together. At least --max-body-bytes. 1 KiB to 1 TiB
    #[arg(long, env = "LEASEHOLD_MAX_UPLOAD_BYTES", value_name = "SIZE", default_value = "256MiB",
        value_parser = size(KIB, TIB))]
    pub(crate) max_upload_bytes: u64,
    /// All bodies that are being streamed to readers. At least --max-body-bytes. 1 KiB to 1 TiB
    #[arg(long, env = "LEASEHOLD_MAX_STREAMED_BYTES", value_name = "SIZE", default_value = "256MiB",
        value_parser = size(KIB, TIB))]
    pub(crate) max_streamed_bytes: u64,
    /// A body that is sent within a message, and no more than --max-message-bytes; larger ones are streamed.
    /// 1 KiB to 64 MiB
    #[arg(long, env = "LEASEHOLD_MAX_INLINE_BYTES", value_name = "SIZE", default_value = "1MiB",
        value_parser = size(KIB, 64 * MIB))]
    pub(crate) max_inline_bytes: u64,
    /// One message. Clients that accept less fail on larger ones; most accept 4MiB. 64 KiB to 128 MiB
    #[arg(long, env = "LEASEHOLD_MAX_MESSAGE_BYTES", value_name = "SIZE", default_value = "4MiB",
        value_parser = size(64 * KIB, 128 * MIB))]
    pub(crate) max_message_bytes: u64,
    /// Connections; new ones are closed beyond this. The system's limit of open files must allow for them. 1 to 1000000
    #[arg(long, env = "LEASEHOLD_MAX_CONNECTIONS", value_name = "NUMBER", default_value = "10000",
        value_parser = count(1, 1_000_000))]
    pub(crate) max_connections: usize,
    /// Requests that have not come to their end, together. One connection may have a quarter, or one message.
    /// 1 MiB to 1 TiB
    #[arg(long, env = "LEASEHOLD_MAX_RECEIVING_BYTES", value_name = "SIZE", default_value = "64MiB",
        value_parser = size(MIB, TIB))]
    pub(crate) max_receiving_bytes: u64,
    /// Answers that are not read, together. One connection may have a quarter, or one message; one that reads nothing
    /// is closed. 1 MiB to 1 TiB
    #[arg(long, env = "LEASEHOLD_MAX_UNREAD_BYTES", value_name = "SIZE", default_value = "192MiB",
        value_parser = size(MIB, TIB))]
    pub(crate) max_unread_bytes: u64,
    /// Calls in progress on one connection, with those that wait. 1 to 1000000
    #[arg(long, env = "LEASEHOLD_MAX_STREAMS_PER_CONNECTION", value_name = "NUMBER", default_value = "8192",
        value_parser = count(1, 1_000_000))]
    pub(crate) max_streams_per_connection: usize,
    /// Requests of one tenant in a second, and as many at once; each lookup on a stream is one. Those of renders that go on
    /// (renewals, uploads, commits, releases) are counted apart, and may be as many. Not limited unless set. 1 to 1000000
    #[arg(long, env = "LEASEHOLD_TENANT_MAX_REQUESTS", value_name = "NUMBER",
        value_parser = count(1, 1_000_000))]
    pub(crate) tenant_max_requests: Option<usize>,
    /// The most, in percent, that one tenant may have at a time of what the limits above allow to all: of calls, calls that
    /// wait, watches, lookup streams, uploads, bodies being streamed, and bytes on their way (at least one body). Without it,
    /// 50 with --auth token or mtls, else 100. 1 to 100
    #[arg(long, env = "LEASEHOLD_TENANT_MAX_SHARE", value_name = "PERCENT", value_parser = count(1, 100))]
    pub(crate) tenant_max_share: Option<usize>,
    /// Calls of one tenant that wait for another's page, where that is less than its share. 1 to 1000000
    #[arg(long, env = "LEASEHOLD_TENANT_MAX_WAITERS", value_name = "NUMBER",
        value_parser = count(1, 1_000_000))]
    pub(crate) tenant_max_waiters: Option<usize>,
    /// Bytes of one tenant's bodies in a second, stored or served; and as many at once, or what one call may carry where that
    /// is more. Not limited unless set. 1 KiB to 2 GiB
    #[arg(long, env = "LEASEHOLD_TENANT_MAX_BYTES", value_name = "SIZE",
        value_parser = size(KIB, 2 * GIB))]
    pub(crate) tenant_max_bytes: Option<u64>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Time limits")]
pub(crate) struct TransportFlags {
    /// On SIGTERM or SIGINT, finish the calls in progress within this, then exit. A second signal exits at
    /// once. 100ms to 1h
    #[arg(long, env = "LEASEHOLD_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "20s",
        value_parser = duration(ms(100), hours(1)))]
    pub(crate) drain_timeout: Duration,
    /// Ask a connection that is silent for so long whether it lives. 100ms to 1h
    #[arg(long, env = "LEASEHOLD_KEEPALIVE_INTERVAL", value_name = "DURATION", default_value = "20s",
        value_parser = duration(ms(100), hours(1)))]
    pub(crate) keepalive_interval: Duration,
    /// Close it when it does not answer within this. 100ms to 1h
    #[arg(long, env = "LEASEHOLD_KEEPALIVE_TIMEOUT", value_name = "DURATION", default_value = "10s",
        value_parser = duration(ms(100), hours(1)))]
    pub(crate) keepalive_timeout: Duration,
    /// The deadline of calls that name none. 100ms to 10m
    #[arg(long, env = "LEASEHOLD_DEFAULT_DEADLINE", value_name = "DURATION", default_value = "10s",
        value_parser = duration(ms(100), secs(600)))]
    pub(crate) default_deadline: Duration,
    /// Take the outcome of a request to the store as unknown after this; enough for the transfer of the largest
    /// body. Of it, one call to DynamoDB gets two fifths, so that a read that is not answered is tried again.
    /// 100ms to 10m
    #[arg(long, env = "LEASEHOLD_STORE_TIMEOUT", value_name = "DURATION", default_value = "5s",
        value_parser = duration(ms(100), secs(600)))]
    pub(crate) store_timeout: Duration,
    /// Cut off an upload that sends nothing, or a stream of lookups, of a watch or of a body that has something to say and
    /// whose reader reads no whole message, for so long; and a request that takes longer from its first byte to its last. 1s to 10m
    #[arg(long, env = "LEASEHOLD_STALL_TIMEOUT", value_name = "DURATION", default_value = "30s",
        value_parser = duration(secs(1), secs(600)))]
    pub(crate) stall_timeout: Duration,
    /// Tell a watch so often that it is alive. Watchers give up after a minute of silence. 100ms to 30s
    #[arg(long, env = "LEASEHOLD_WATCH_PROGRESS", value_name = "DURATION", default_value = "15s",
        value_parser = duration(ms(100), secs(30)))]
    pub(crate) watch_progress: Duration,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Watching over it")]
pub(crate) struct AdminFlags {
    /// Answer HTTP here: /livez, /readyz, /statusz, /leases, /metrics. Private: there is no authentication, and
    /// whoever reaches it sees tenants and who renders. Without it, nowhere. Port 0 takes a free one
    #[arg(long, env = "LEASEHOLD_ADMIN_LISTEN", value_name = "IP:PORT", value_parser = address)]
    pub(crate) admin_listen: Option<SocketAddr>,
    /// Tell so many tenants apart in the metrics, the first that are seen; the rest are counted together, as
    /// `other`. 0 to 10000
    #[arg(long, env = "LEASEHOLD_METRICS_TENANTS", value_name = "NUMBER", default_value = "100",
        value_parser = count(0, 10_000))]
    pub(crate) metrics_tenants: usize,
    /// Send OpenTelemetry spans of calls, and of their requests to the store, by OTLP over gRPC to this URL, as of a
    /// collector beside the coordinator. Without it, where OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or
    /// OTEL_EXPORTER_OTLP_ENDPOINT says; without these, or where it is set to nothing, nowhere
    #[arg(long, env = "LEASEHOLD_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint_or_nothing)]
    pub(crate) otlp_endpoint: Option<String>,
    /// Of the calls whose caller has not decided whether to trace them, trace this part. 0 to 1
    #[arg(long, env = "LEASEHOLD_TRACE_RATIO", value_name = "NUMBER", default_value = "1", value_parser = part)]
    pub(crate) trace_ratio: f64,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logs, on stderr")]
pub(crate) struct LoggingFlags {
    /// error, warn, info, debug, trace or off; or a filter such as info,leasehold_service=debug
    #[arg(long, env = "LEASEHOLD_LOG", value_name = "FILTER", default_value = DEFAULT,
        value_parser = Filter::parse)]
    pub(crate) log: Filter,
    /// `text` for people, or `json`: one object per line
    #[arg(
        long,
        env = "LEASEHOLD_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    pub(crate) log_format: LogFormat,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric.parse().map_err(|_| {
        "is not an address; allowed: IP:PORT, such as 127.0.0.1:7420, 0.0.0.0:7420 or [::1]:7420".to_owned()
    })
}

fn key_place(text: &str) -> Result<KeyPlace, String> {
    let url = reqwest::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(url) = url else {
        return Ok(KeyPlace::Local(Source::File(text.into())));
    };
    // Whoever could change what is fetched could let anybody in.
    let is_here = url.host_str().is_some_and(|host| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    if url.scheme() == "https" || is_here {
        Ok(KeyPlace::Url(url.into()))
    } else {
        Err("would be fetched in plain text; allowed: an https URL, http on this machine, or a file"
            .to_owned())
    }
}

fn boundary_header(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty; allowed: a header name, such as x-workspace-id".to_owned());
    }
    TenantBoundary::extended([text]).map(|_| text.to_owned()).map_err(|InvalidBoundaryHeader(_)| {
        "is not a header name; allowed: such as x-workspace-id".to_owned()
    })
}

fn endpoint_or_nothing(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { endpoint(text) }
}

pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => Ok(text.to_owned()),
        _ => Err("allowed: a URL such as http://127.0.0.1:8000".to_owned()),
    }
}

pub(crate) fn object_prefix(text: &str) -> Result<ObjectPrefix, String> {
    ObjectPrefix::parse(text).map_err(|why: InvalidObjectName| {
        format!("{why}; allowed: letters, digits, `.`, `_`, `-`, in segments joined by single slashes")
    })
}
