//! What the flags come to: the engine's settings and the transport's, where no two contradict each other.

use crate::{
    access::Auth,
    cli::{Refused, variable},
    flags::{
        AdminFlags, AwsFlags, KeepingFlags, LeaseFlags, LimitFlags, LogFlags, LoggingFlags, MemoryFlags,
        NameFlags, PlaceFlags, ServeFlags, StoreKind, TransportFlags, endpoint,
    },
    logs::Logging,
    place::Place,
    quantity::{bytes, exact},
    serve::Config,
    traces::TraceSettings,
};
use leasehold_aws::{AwsSettings, Layout, Timeouts};
use leasehold_core::key::TenantBoundary;
use leasehold_service::{
    server::TransportSettings,
    settings::{Settings, TenantLimits},
};
use std::{num::NonZeroU32, time::Duration};

mod access;

impl ServeFlags {
    /// The configuration, where it makes sense as a whole.
    pub(crate) fn into_config(self) -> Result<Config, Refused> {
        let Self {
            place,
            access,
            aws,
            names,
            leases,
            log,
            keeping,
            memory,
            limits,
            transport,
            admin,
            logging,
        } = self;
        at_most("lease-default-ttl", leases.lease_default_ttl, "lease-max-ttl", leases.lease_max_ttl)?;
        at_most("lease-max-ttl", leases.lease_max_ttl, "lease-max-hold", leases.lease_max_hold)?;
        at_most("backoff-base", leases.backoff_base, "backoff-max", leases.backoff_max)?;
        if log.tail_interval >= log.staleness_bound {
            let (tail, bound) = (exact(log.tail_interval), exact(log.staleness_bound));
            return Err(contradiction(
                "tail-interval",
                &tail,
                "must be less than",
                "staleness-bound",
                &bound,
            ));
        }
        fits("max-inline-bytes", limits.max_inline_bytes, "max-message-bytes", limits.max_message_bytes)?;
        fits("max-body-bytes", limits.max_body_bytes, "max-upload-bytes", limits.max_upload_bytes)?;
        fits("max-body-bytes", limits.max_body_bytes, "max-streamed-bytes", limits.max_streamed_bytes)?;

        let PlaceFlags { listen, allow_remote, store, data_dir } = place;
        let access = access.into_settings(listen, allow_remote)?;
        let traces = admin.traces()?;
        let place = match store {
            StoreKind::Embedded => {
                aws.refuse_without_effect()?;
                Place::Embedded { data_dir }
            }
            StoreKind::Aws => Place::Aws(Box::new(AwsSettings {
                // It makes answers longer: only where somebody can see it.
                report_capacity: admin.admin_listen.is_some() || traces.is_some(),
                ..aws.into_settings(transport.store_timeout)?
            })),
        };
        let mut settings = Settings::default();
        if store == StoreKind::Aws {
            // Others are at work on the same table.
            settings.rules.expiry_tolerance = FLEET_EXPIRY_TOLERANCE;
            settings.reread_interval = Some(FLEET_REREAD_INTERVAL);
        }
        let mut transport_settings = TransportSettings::default();
        set_names(&mut settings, names)?;
        set_leases(&mut settings, &leases);
        set_log(&mut settings, &log);
        set_keeping(&mut settings, &keeping);
        set_memory(&mut settings, &memory);
        let share = (!matches!(access.auth, Auth::None)).then_some(AUTHENTICATED_SHARE_PERCENT);
        set_limits(&mut settings, &mut transport_settings, share, &limits);
        set_transport(&mut settings, &mut transport_settings, &transport);
        settings.metrics.tenants = admin.metrics_tenants;
        Ok(Config {
            listen,
            place,
            access,
            settings,
            transport: transport_settings,
            admin: admin.admin_listen,
            traces,
            logging: logging.into(),
            program: Default::default(),
        })
    }
}

/// How much the clocks of a fleet may differ without costing a second render.
const FLEET_EXPIRY_TOLERANCE: Duration = Duration::from_millis(500);
/// At most four reads a second for each entry and coordinator, however many wait for it.
const FLEET_REREAD_INTERVAL: Duration = Duration::from_millis(250);
/// What one tenant may have where tenants are told apart by who calls: the others have as much in the worst case.
const AUTHENTICATED_SHARE_PERCENT: usize = 50;
/// Where FaceTheory's stacks say which table it is, in the order in which it looks.
const FACETHEORY_TABLE_VARIABLES: [&str; 4] =
    ["FACETHEORY_CACHE_TABLE_NAME", "APPTHEORY_CACHE_TABLE_NAME", "CACHE_TABLE_NAME", "CACHE_TABLE"];

impl AdminFlags {
    fn traces(&self) -> Result<Option<TraceSettings>, Refused> {
        let endpoint = match &self.otlp_endpoint {
            Some(endpoint) => Some(endpoint.clone()).filter(|endpoint| !endpoint.is_empty()),
            None => standard_endpoint(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))?,
        };
        Ok(endpoint.map(|endpoint| TraceSettings { endpoint, ratio: self.trace_ratio }))
    }
}

/// Where OpenTelemetry's own variables say that spans are to go.
fn standard_endpoint(variable: impl Fn(&str) -> Option<String>) -> Result<Option<String>, Refused> {
    let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, variable(name)?)));
    let is_disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let goes_elsewhere = variable("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter != "otlp");
    if is_disabled || goes_elsewhere {
        return Ok(None);
    }
    let endpoints = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    let Some((name, value)) = first(endpoints) else { return Ok(None) };
    let checked = endpoint(&value).map_err(|why| Refused::usage(format!("{name}: {why}")))?;
    match first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]) {
        Some((name, protocol)) if protocol != "grpc" => Err(Refused::usage(format!(
            "{name} is {protocol:?}, and spans are sent by grpc only: set it to grpc, with the port of the collector for \
             that, or {} to nothing",
            crate::cli::variable("otlp-endpoint")
        ))),
        _ => Ok(Some(checked)),
    }
}

impl AwsFlags {
    /// Table and bucket, with what belongs to them. `request_timeout` is what a request to them may take as a whole.
    pub(crate) fn into_settings(self, request_timeout: Duration) -> Result<AwsSettings, Refused> {
        let Self {
            table,
            bucket,
            region,
            dynamodb_endpoint,
            s3_endpoint,
            s3_path_style,
            entry_key,
            log_key,
            s3_key_prefix,
        } = self;
        // Templates of tasks set what they do not know to nothing.
        let named = |name: Option<String>| name.filter(|name| !name.is_empty());
        let (region, dynamodb_endpoint, s3_endpoint) =
            (named(region), named(dynamodb_endpoint), named(s3_endpoint));
        let by_facetheory = || {
            let variables = FACETHEORY_TABLE_VARIABLES.iter();
            variables.filter_map(|name| std::env::var(name).ok()).find(|table| !table.is_empty())
        };
        let table = named(table).or_else(by_facetheory).ok_or_else(|| {
            missing("table", &format!("or, as FaceTheory has it, {}", FACETHEORY_TABLE_VARIABLES.join(", ")))
        })?;
        let bucket = named(bucket).ok_or_else(|| missing("bucket", "the S3 bucket of the pages"))?;
        Ok(AwsSettings {
            region,
            dynamodb_endpoint,
            s3_endpoint,
            s3_path_style,
            timeouts: Timeouts::within(request_timeout),
            layout: Layout { entry_key, log_key, s3_key_prefix },
            ..AwsSettings::new(table, bucket)
        })
    }

    /// A table that is named is meant to be used: without `--store aws` the pages would go elsewhere.
    fn refuse_without_effect(&self) -> Result<(), Refused> {
        let named = [("table", &self.table), ("bucket", &self.bucket)];
        match named.iter().find(|(_, name)| name.is_some()) {
            Some((flag, _)) => Err(Refused::usage(format!(
                "--{flag} ({}) is for --store aws ({}=aws), and the store is the embedded one; add the one or \
                 leave out the other",
                variable(flag),
                variable("store")
            ))),
            None => Ok(()),
        }
    }
}

impl From<LoggingFlags> for Logging {
    fn from(LoggingFlags { log, log_format }: LoggingFlags) -> Self {
        Self { filter: log, format: log_format }
    }
}

fn missing(flag: &str, instead: &str) -> Refused {
    Refused::usage(format!("--store aws needs --{flag} ({}): {instead}", variable(flag)))
}

fn set_names(settings: &mut Settings, flags: NameFlags) -> Result<(), Refused> {
    let NameFlags { tenant_header, object_prefix } = flags;
    settings.boundary = TenantBoundary::extended(tenant_header)
        .map_err(|invalid| Refused::usage(format!("--tenant-header: {invalid}")))?;
    settings.object_prefix = object_prefix;
    Ok(())
}

fn set_leases(settings: &mut Settings, flags: &LeaseFlags) {
    let LeaseFlags {
        lease_default_ttl,
        lease_max_ttl,
        lease_max_hold,
        expiry_tolerance,
        reread_interval,
        max_wait,
        backoff_base,
        backoff_max,
    } = *flags;
    settings.rules.expiry_tolerance = expiry_tolerance.unwrap_or(settings.rules.expiry_tolerance);
    settings.reread_interval = reread_interval.or(settings.reread_interval);
    settings.leases.default_ttl = lease_default_ttl;
    settings.leases.max_ttl = lease_max_ttl;
    settings.leases.max_wait = max_wait;
    settings.rules.max_hold = lease_max_hold;
    settings.rules.backoff_base = backoff_base;
    settings.rules.backoff_max = backoff_max;
}

fn set_log(settings: &mut Settings, flags: &LogFlags) {
    let LogFlags { tail_interval, staleness_bound } = *flags;
    settings.log.tail_interval = tail_interval;
    settings.rules.staleness_bound = staleness_bound;
}

fn set_keeping(settings: &mut Settings, flags: &KeepingFlags) {
    let KeepingFlags { retention, deletion_grace } = *flags;
    settings.rules.retention = retention;
    settings.deletion_grace = deletion_grace;
}

fn set_memory(settings: &mut Settings, flags: &MemoryFlags) {
    let MemoryFlags { cache_bytes, entry_bytes, log_bytes, watch_events } = *flags;
    settings.memory.body_bytes = cache_bytes;
    settings.memory.entry_bytes = entry_bytes;
    settings.memory.log_bytes = usize::try_from(log_bytes).unwrap_or(usize::MAX);
    settings.memory.watch_events = watch_events;
}

fn set_limits(
    settings: &mut Settings,
    transport: &mut TransportSettings,
    share: Option<usize>,
    flags: &LimitFlags,
) {
    let LimitFlags {
        max_calls,
        max_waiters,
        max_watches,
        max_lookup_streams,
        max_lookups_per_stream,
        max_body_bytes,
        max_uploads,
        max_upload_bytes,
        max_streamed_bytes,
        max_inline_bytes,
        max_message_bytes,
        max_connections,
        max_receiving_bytes,
        max_unread_bytes,
        max_streams_per_connection,
        tenant_max_requests,
        tenant_max_share,
        tenant_max_waiters,
        tenant_max_bytes,
    } = *flags;
    let limits = &mut settings.limits;
    limits.concurrent_calls = max_calls;
    limits.waiters = max_waiters;
    limits.watches = max_watches;
    limits.lookup_streams = max_lookup_streams;
    limits.lookups_per_stream = max_lookups_per_stream;
    limits.body_bytes = in_memory(max_body_bytes);
    limits.uploads = max_uploads;
    limits.upload_bytes = in_memory(max_upload_bytes);
    limits.streamed_bytes = in_memory(max_streamed_bytes);
    limits.inline_body_bytes = in_memory(max_inline_bytes);
    limits.message_bytes = in_memory(max_message_bytes);
    limits.tenant = TenantLimits {
        // Whoever has it all need not be looked up.
        share_percent: tenant_max_share.or(share).filter(|percent| *percent < 100).and_then(at_most_u32),
        requests: tenant_max_requests.and_then(at_most_u32),
        waiters: tenant_max_waiters,
        bytes: tenant_max_bytes.map(in_memory).and_then(at_most_u32),
    };
    transport.connections = max_connections;
    transport.receiving_bytes = in_memory(max_receiving_bytes);
    transport.unread_bytes = in_memory(max_unread_bytes);
    transport.streams_per_connection = u32::try_from(max_streams_per_connection).unwrap_or(u32::MAX);
}

fn set_transport(settings: &mut Settings, transport: &mut TransportSettings, flags: &TransportFlags) {
    let TransportFlags {
        drain_timeout,
        keepalive_interval,
        keepalive_timeout,
        default_deadline,
        store_timeout,
        stall_timeout,
        watch_progress,
    } = *flags;
    transport.drain_timeout = drain_timeout;
    transport.keepalive_interval = keepalive_interval;
    transport.keepalive_timeout = keepalive_timeout;
    settings.store.default_deadline = default_deadline;
    settings.store.request_timeout = store_timeout;
    settings.limits.stall_timeout = stall_timeout;
    settings.watch_progress_interval = watch_progress;
}

/// What flags allow fits.
fn at_most_u32(number: usize) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(number).unwrap_or(u32::MAX))
}

/// On a machine of 32 bits no more can be in memory anyway.
fn in_memory(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

fn at_most(flag: &str, value: Duration, bound_flag: &str, bound: Duration) -> Result<(), Refused> {
    if value <= bound {
        return Ok(());
    }
    Err(contradiction(flag, &exact(value), "must be at most", bound_flag, &exact(bound)))
}

fn fits(flag: &str, value: u64, bound_flag: &str, bound: u64) -> Result<(), Refused> {
    if value <= bound {
        return Ok(());
    }
    Err(contradiction(flag, &bytes(value), "must be at most", bound_flag, &bytes(bound)))
}

fn contradiction(flag: &str, value: &str, rule: &str, bound_flag: &str, bound: &str) -> Refused {
    let (variable, bound_variable) = (crate::cli::variable(flag), crate::cli::variable(bound_flag));
    Refused::usage(format!(
        "--{flag} ({value}) {rule} --{bound_flag} ({bound}); change either, or {variable} or {bound_variable}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        flags: ServeFlags,
    }

    fn config(args: &[&str]) -> Result<Config, Refused> {
        let args = std::iter::once("leasehold").chain(args.iter().copied());
        Only::try_parse_from(args)
            .map_err(|error| panic!("{error}"))
            .and_then(|only: Only| only.flags.into_config())
    }

    #[test]
    fn flags_left_alone_are_the_defaults_of_the_service() {
        let config = config(&[]).unwrap();
        assert_eq!(format!("{:?}", config.settings), format!("{:?}", Settings::default()));
        assert_eq!(format!("{:?}", config.transport), format!("{:?}", TransportSettings::default()));
        assert!(config.listen.ip().is_loopback());
    }

    #[test]
    fn calls_to_aws_fit_into_what_the_engine_waits_for() {
        let timeouts =
            |args: &[&str]| match config(&[&["--store=aws", "--table=t", "--bucket=b"], args].concat()) {
                Ok(Config { place: Place::Aws(aws), settings, .. }) => {
                    (aws.timeouts, settings.store.request_timeout)
                }
                other => panic!("{other:?}"),
            };
        assert_eq!(timeouts(&[]), (Timeouts::default(), Duration::from_secs(5)));
        for (flag, millis) in [("--store-timeout=200ms", 200), ("--store-timeout=1m", 60_000)] {
            let request = Duration::from_millis(millis);
            assert_eq!(timeouts(&[flag]), (Timeouts::within(request), request));
        }
    }

    #[test]
    fn values_that_contradict_each_other_name_both_flags() {
        let table: [(&[&str], [&str; 4]); 6] = [
            (
                &["--lease-default-ttl=6m"],
                ["--lease-default-ttl (6m)", "--lease-max-ttl (5m)", "_DEFAULT_TTL", "_MAX_TTL"],
            ),
            (
                &["--lease-max-ttl=20m"],
                ["--lease-max-ttl (20m)", "--lease-max-hold (15m)", "_MAX_TTL", "_MAX_HOLD"],
            ),
            (
                &["--backoff-max=500ms"],
                ["--backoff-base (1s)", "--backoff-max (500ms)", "_BASE", "_BACKOFF_MAX"],
            ),
            (&["--tail-interval=2s"], ["--tail-interval (2s)", "--staleness-bound (2s)", "_TAIL", "_BOUND"]),
            (
                &["--max-inline-bytes=5MiB"],
                ["--max-inline-bytes (5 MiB)", "--max-message-bytes (4 MiB)", "_INLINE", "_MESSAGE"],
            ),
            (
                &["--max-upload-bytes=1MiB"],
                ["--max-body-bytes (16 MiB)", "--max-upload-bytes (1 MiB)", "_BODY", "_UPLOAD"],
            ),
        ];
        for (args, expected) in table {
            let refused = config(args).expect_err(args[0]).to_string();
            for part in expected {
                assert!(refused.contains(part), "{args:?}: {part} is missing from: {refused}");
            }
        }
    }

    #[test]
    fn a_tenant_leaves_others_a_half_where_it_is_known_who_calls() {
        let token = ["--auth=token", "--policy=p", "--tokens=t"];
        let table: [(&[&str], Option<u32>); 5] = [
            (&[], None),
            (&["--tenant-max-share=10"], Some(10)),
            (&token, Some(50)),
            (&[&token[..], &["--tenant-max-share=20"]].concat(), Some(20)),
            (&[&token[..], &["--tenant-max-share=100"]].concat(), None),
        ];
        for (args, percent) in table {
            let limits = config(args).unwrap().settings.limits;
            assert_eq!(limits.tenant.share_percent.map(NonZeroU32::get), percent, "{args:?}");
        }
    }

    #[test]
    fn boundary_headers_are_only_ever_added_to() {
        let config = config(&["--tenant-header", "X-Workspace,x-org", "--tenant-header=x-team"]).unwrap();
        let headers: Vec<_> = config.settings.boundary.headers().collect();
        assert_eq!(headers, ["x-tenant-id", "x-facetheory-tenant", "x-workspace", "x-org", "x-team"]);
    }

    #[test]
    fn an_address_that_others_reach_takes_authentication_and_tls_or_a_second_word() {
        let token = ["--auth=token", "--policy=p", "--tokens=t"];
        let tls = ["--tls-cert=c", "--tls-key=k"];
        let mtls = ["--auth=mtls", "--policy=p", "--tls-cert=c", "--tls-key=k", "--tls-client-ca=a"];
        for listen in ["0.0.0.0:7420", "[::]:0", "192.0.2.1:80"] {
            let listen = ["--listen", listen];
            for (open, better) in [(&[][..], "--auth"), (&token, "--tls-cert")] {
                let refused = config(&[&listen[..], open].concat()).unwrap_err().to_string();
                for part in ["--allow-remote", "--listen", better] {
                    assert!(refused.contains(part), "{refused}");
                }
                assert!(config(&[&listen[..], open, &["--allow-remote"]].concat()).is_ok());
            }
            assert!(config(&[&listen[..], &token, &tls].concat()).is_ok());
            assert!(config(&[&listen[..], &mtls].concat()).is_ok());
        }
        for listen in ["127.0.0.1:0", "[::1]:7420", "localhost:7420", "127.8.8.8:1"] {
            assert!(config(&["--listen", listen]).is_ok(), "{listen}");
            assert!(config(&[&["--listen", listen], &token[..]].concat()).is_ok(), "{listen}");
        }
    }

    #[test]
    fn what_would_guard_nothing_is_refused() {
        let table: [(&[&str], [&str; 2]); 12] = [
            (&["--policy=p"], ["--policy", "--auth"]),
            (&["--tokens=t"], ["--tokens", "--auth token"]),
            (&["--jwt-keys=k"], ["--jwt-keys", "--auth token"]),
            (&["--auth=token", "--tokens=t"], ["--auth token", "--policy"]),
            (&["--auth=token", "--policy=p"], ["--tokens", "--jwt-keys"]),
            (&["--auth=token", "--policy=p", "--jwt-keys=k"], ["--jwt-keys", "--jwt-issuer"]),
            (
                &["--auth=token", "--policy=p", "--jwt-keys=k", "--jwt-issuer=i"],
                ["--jwt-keys", "--jwt-audience"],
            ),
            (&["--auth=token", "--policy=p", "--tokens=t", "--jwt-issuer=i"], ["--jwt-issuer", "--jwt-keys"]),
            (&["--auth=mtls", "--policy=p"], ["--auth mtls", "--tls-cert"]),
            (
                &["--auth=mtls", "--policy=p", "--tls-cert=c", "--tls-key=k"],
                ["--auth mtls", "--tls-client-ca"],
            ),
            (&["--tls-cert=c"], ["--tls-cert", "--tls-key"]),
            (&["--tls-key=k"], ["--tls-key", "--tls-cert"]),
        ];
        for (args, parts) in table {
            let refused = config(args).expect_err(args[0]).to_string();
            for part in parts {
                assert!(refused.contains(part), "{args:?}: {part} is missing from: {refused}");
            }
        }
    }
}
