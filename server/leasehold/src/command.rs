//! What operators ask of a coordinator that runs, through the public client.

mod body;
mod commit;
mod explain;
mod health;
mod invalidate;
mod lease;
mod lookup;
mod next;
mod watch;

use crate::{
    exit::{Exit, Failure},
    logs::{Filter, LogFormat, Logging},
    output::Output,
    quantity::duration,
};
use clap::{Args, Subcommand};
use leasehold_client::{Coordinator, EntryRef, Error, RetryPolicy, Scope, Security};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// A command and the coordinator that it is for.
#[derive(Debug)]
pub struct Operation(Command);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tell what is current for an entry: fresh, stale or missing
    #[command(after_help = lookup::JSON)]
    Lookup(lookup::LookupFlags),
    /// Tell how things stand with an entry, why, and what happens next
    #[command(after_help = explain::JSON)]
    Explain(explain::ExplainFlags),
    /// Make a page current: acquires the lease, uploads, commits
    #[command(after_help = commit::JSON)]
    Commit(commit::CommitFlags),
    /// Declare pages out of date; prints the consistency token
    #[command(after_help = invalidate::JSON)]
    Invalidate(invalidate::InvalidateFlags),
    /// Acquire, renew and give back the right to render
    #[command(after_help = lease::JSON)]
    Lease(lease::LeaseFlags),
    /// Print commits and invalidations as they happen, until Ctrl-C
    #[command(after_help = watch::JSON)]
    Watch(watch::WatchFlags),
    /// Print the current page's HTML, fresh or stale
    #[command(after_help = body::PAGE_JSON)]
    Page(body::PageFlags),
    /// Print a hydration sidecar
    #[command(after_help = body::SIDECAR_JSON)]
    Sidecar(body::SidecarFlags),
    /// Print a body by the name that it was committed under
    #[command(after_help = body::OBJECT_JSON)]
    Object(body::ObjectFlags),
    /// Exit with 0 when the coordinator serves, else with 1
    #[command(after_help = health::JSON)]
    Healthcheck(health::HealthFlags),
}

/// What every command takes. Global, so that it may also stand before the commands of a command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Coordinator")]
pub(crate) struct ClientFlags {
    /// The coordinator
    #[arg(long, env = "LEASEHOLD_ENDPOINT", value_name = "URL", global = true, value_parser = endpoint,
        default_value = leasehold_client::DEFAULT_ENDPOINT)]
    endpoint: String,
    /// Believe a coordinator of these authorities only (PEM), with https. Or LEASEHOLD_CA, or LEASEHOLD_CA_PEM with the text
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// Present this certificate, where the coordinator knows callers by theirs (PEM). Or LEASEHOLD_CLIENT_CERT
    #[arg(long, value_name = "FILE", global = true, requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its private key (PEM). Or LEASEHOLD_CLIENT_KEY
    #[arg(long, value_name = "FILE", global = true, requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Present the token in this file. Or LEASEHOLD_AUTH_TOKEN_FILE, or LEASEHOLD_AUTH_TOKEN with the token
    #[arg(long, value_name = "FILE", global = true)]
    auth_token_file: Option<PathBuf>,
    /// Whose pages. Without it, the caller's own, or else the tenant `default`
    #[arg(long, env = "LEASEHOLD_TENANT", value_name = "NAME", global = true)]
    tenant: Option<String>,
    /// The release whose pages are kept apart. Not for `invalidate` and `watch`, which reach every release
    #[arg(long, env = "LEASEHOLD_DEPLOYMENT", value_name = "NAME", global = true)]
    deployment: Option<String>,
    /// Give up after this, not counting what is waited for on purpose
    #[arg(long, env = "LEASEHOLD_TIMEOUT", value_name = "DURATION", global = true, default_value = "10s",
        value_parser = duration(Duration::from_millis(10), Duration::from_secs(3600)))]
    timeout: Duration,
    /// Print JSON: one object per result, one per line. Failures too, on stderr
    #[arg(long, global = true)]
    json: bool,
    /// Log on stderr: a level or a filter, as for `serve`
    #[arg(long, env = "LEASEHOLD_LOG", value_name = "FILTER", global = true, default_value = "warn",
        value_parser = Filter::parse)]
    log: Filter,
}

impl ClientFlags {
    /// What the environment says, and flags before it.
    fn security(&self) -> Result<Security, Error> {
        let Self { ca, client_cert, client_key, auth_token_file, .. } = self;
        let mut security = Security::from_env()?;
        if let Some(ca) = ca {
            security = security.ca_file(ca);
        }
        if let (Some(certificate), Some(key)) = (client_cert, client_key) {
            security = security.client_certificate_files(certificate, key);
        }
        if let Some(file) = auth_token_file {
            security = security.token_file(file);
        }
        Ok(security)
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    let refused = || "is no URL; allowed: http://HOST:PORT, such as http://127.0.0.1:7420".to_owned();
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).ok_or_else(refused)?;
    if rest.is_empty() || rest.starts_with([':', '/']) || rest.contains(char::is_whitespace) {
        return Err(refused());
    }
    Ok(text.to_owned())
}

/// How a command that got its answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As wished.
    Done,
    /// With an answer, but not the one that was wished for.
    NotReached,
    /// The coordinator does not serve.
    Unhealthy,
}

/// The coordinator, and how to speak with the operator.
pub(crate) struct Session {
    pub(crate) coordinator: Coordinator,
    pub(crate) output: Output,
    endpoint: String,
    tenant: Option<String>,
    deployment: Option<String>,
    /// Whether what it asks for may change something.
    may_change: bool,
}

impl Session {
    fn open(flags: &ClientFlags, attempts: u32, may_change: bool) -> Result<Self, Failure> {
        let security = flags.security().map_err(|error| Failure::of_call(&error, &flags.endpoint, false))?;
        let ClientFlags { endpoint, tenant, deployment, timeout, json, .. } = flags.clone();
        let built = Coordinator::builder()
            .endpoint(&endpoint)
            .overall_timeout(timeout)
            .attempt_timeout(timeout.min(Duration::from_secs(5)))
            .connect_timeout(timeout.min(Duration::from_secs(2)))
            // A person waits: a coordinator that is not there is said so at once.
            .retry(RetryPolicy { max_attempts: attempts, ..RetryPolicy::default() })
            .owner(owner())
            .security(security)
            .build();
        let coordinator = built.map_err(|error| Failure::of_call(&error, &endpoint, false))?;
        let named = |name: Option<String>| name.filter(|name| !name.is_empty());
        let (tenant, deployment) = (named(tenant), named(deployment));
        let output = Output { as_json: json };
        Ok(Self { coordinator, output, endpoint, tenant, deployment, may_change })
    }

    /// The entry of this key, with the tenant and the release that were named.
    pub(crate) fn entry(&self, key: &str) -> EntryRef {
        let entry = EntryRef::key(key).tenant(self.tenant.as_deref().unwrap_or_default());
        entry.deployment(self.deployment.as_deref().unwrap_or_default())
    }

    /// This scope, of the tenant that was named.
    pub(crate) fn scope(&self, scope: Scope) -> Scope {
        Scope { tenant: self.tenant.clone(), ..scope }
    }

    /// The tenant that was named, or the one that no name stands for.
    pub(crate) fn tenant(&self) -> &str {
        self.tenant.as_deref().unwrap_or("default")
    }

    /// The flags that make a further command ask the same coordinator for the same tenant and release, each
    /// after a space.
    pub(crate) fn same_place(&self) -> String {
        let endpoint = Some(&self.endpoint).filter(|named| *named != leasehold_client::DEFAULT_ENDPOINT);
        let named = [
            ("endpoint", endpoint),
            ("tenant", self.tenant.as_ref()),
            ("deployment", self.deployment.as_ref()),
        ];
        let flags = named
            .iter()
            .filter_map(|(flag, value)| value.map(|value| format!(" --{flag} {}", shell_word(value))));
        flags.collect()
    }

    /// A call that got no outcome.
    pub(crate) fn failed(&self, error: &Error) -> Failure {
        Failure::of_call(error, &self.endpoint, self.may_change)
    }
}

/// As one word of a shell's command line.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The name that leases are acquired under where none was given: for people who read `explain`.
fn owner() -> String {
    let name = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    let user = name("USER").unwrap_or_else(|| "operator".to_owned());
    match name("HOSTNAME") {
        Some(host) => format!("{user}@{host}"),
        None => user,
    }
}

const ATTEMPTS: u32 = 4;

impl Operation {
    pub(crate) fn new(command: Command) -> Self {
        Self(command)
    }
}

/// Carries out a command, and says by the exit code how it ended.
pub fn run_to_the_end(Operation(command): Operation) -> ExitCode {
    let flags = command.client().clone();
    Logging { filter: flags.log.clone(), format: LogFormat::Text }.install();
    let failed = |failure: Failure| failure.report(flags.json);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(Failure::local(format!("cannot start the runtime: {error}"), "")),
    };
    let ended = runtime.block_on(async {
        let attempts = if matches!(command, Command::Healthcheck(_)) { 1 } else { ATTEMPTS };
        let session = Session::open(&flags, attempts, command.may_change())?;
        command.run(&session).await
    });
    match ended {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::NotReached) => Exit::NotReached.into(),
        Ok(Ending::Unhealthy) => Exit::Failure.into(),
        Err(failure) => failed(failure),
    }
}

impl Command {
    fn may_change(&self) -> bool {
        matches!(self, Self::Commit(_) | Self::Invalidate(_) | Self::Lease(_))
    }

    fn client(&self) -> &ClientFlags {
        match self {
            Self::Lookup(flags) => &flags.client,
            Self::Explain(flags) => &flags.client,
            Self::Commit(flags) => &flags.client,
            Self::Invalidate(flags) => &flags.client,
            Self::Lease(flags) => &flags.client,
            Self::Watch(flags) => &flags.client,
            Self::Page(flags) => &flags.client,
            Self::Sidecar(flags) => &flags.client,
            Self::Object(flags) => &flags.client,
            Self::Healthcheck(flags) => &flags.client,
        }
    }

    async fn run(self, session: &Session) -> Result<Ending, Failure> {
        match self {
            Self::Lookup(flags) => flags.run(session).await,
            Self::Explain(flags) => flags.run(session).await,
            Self::Commit(flags) => flags.run(session).await,
            Self::Invalidate(flags) => flags.run(session).await,
            Self::Lease(flags) => flags.run(session).await,
            Self::Watch(flags) => flags.run(session).await,
            Self::Page(flags) => flags.run(session).await,
            Self::Sidecar(flags) => flags.run(session).await,
            Self::Object(flags) => flags.run(session).await,
            Self::Healthcheck(flags) => flags.run(session).await,
        }
    }
}
