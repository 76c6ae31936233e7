//! A web site out of a folder of Markdown files, rendered on demand through the coordinator.
//!
//! ```text
//! cargo run --example site -p leasehold-client -- --coordinator http://127.0.0.1:7420
//! curl -i http://127.0.0.1:8080/about
//! ```
//!
//! Every response says in `x-isr-state` what happened: `miss` (this request rendered it), `hit`, `wait-hit` (it waited
//! for another's render), `stale` (the previous page), `stale-metadata-error` (the last one known, as the coordinator could not
//! be asked), `bypass` (rendered, and not kept).

mod content;
mod web;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use leasehold_client::{
    Coordinator,
    runtime::{Event, OnContention, Policy, Runtime},
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// How long renders that are under way get when the process is told to stop.
const LAST_RENDERS: Duration = Duration::from_secs(10);

#[derive(Parser)]
#[command(about = "A folder of Markdown files as a web site, rendered on demand through the coordinator.")]
struct Flags {
    /// The folder.
    #[arg(long, env = "SITE_CONTENT", value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/site/content"))]
    content: PathBuf,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, env = "SITE_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The coordinator's URI.
    #[arg(long, env = "SITE_COORDINATOR", value_name = "URL", default_value = leasehold_client::DEFAULT_ENDPOINT)]
    coordinator: String,
    /// How long a page stays fresh, unless its front matter says otherwise.
    #[arg(long, env = "SITE_REVALIDATE", value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    revalidate: Duration,
    /// Makes every render take so much longer.
    #[arg(long, env = "SITE_RENDER_DELAY", value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    render_delay: Duration,
    /// How long a lease lasts without renewal.
    #[arg(long, env = "SITE_LEASE_TTL", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    lease_ttl: Duration,
    /// How long a request waits for another's render.
    #[arg(long, env = "SITE_WAIT", value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Whose pages these are. Without it, a request with a tenant header is refused.
    #[arg(long, env = "SITE_TENANT", value_name = "NAME")]
    tenant: Option<String>,
    /// This worker's name, for people. Without it, `site@` and where it listens.
    #[arg(long, env = "SITE_WORKER", value_name = "NAME")]
    worker: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let command = Flags::command().mut_args(|arg| arg.hide_env_values(true));
    let flags = Flags::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let listener = tokio::net::TcpListener::bind(flags.listen).await.context("listening")?;
    let address = listener.local_addr()?;
    let worker = flags.worker.unwrap_or_else(|| format!("site@{address}"));
    let coordinator = Coordinator::builder().endpoint(flags.coordinator).owner(&worker).build()?;
    let runtime = Runtime::builder(coordinator.clone()).on_event(report).build();
    let site = Arc::new(web::Site {
        coordinator,
        content: content::Content::open(flags.content)?,
        renders: web::Renders::default(),
        tenant: flags.tenant,
        worker,
        policy: Policy {
            on_contention: OnContention::Wait(flags.wait),
            lease_ttl: Some(flags.lease_ttl),
            ..Policy::blocking(flags.revalidate)
        },
        render_delay: flags.render_delay,
    });

    println!("site listening on http://{address}");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopping = runtime.clone();
    axum::serve(listener, web::routes(site, runtime.clone()))
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // What is rendered now is finished; nobody who renders or waits for longer holds this process up.
            tokio::spawn(async move {
                tokio::time::sleep(LAST_RENDERS).await;
                stopping.stop().await;
            });
        })
        .await
        .context("serving")?;
    // Whoever comes next to another need not wait for leases that nobody holds any more.
    runtime.stop().await;
    Ok(())
}

/// What people should know of.
fn report(event: &Event) {
    match event {
        Event::Served { .. } | Event::NotServed { .. } | Event::RenderFailed { .. } => {}
        Event::NotCommitted { why } => eprintln!("rendered, and not kept: {why}"),
        Event::Refused { why } => eprintln!("a page that cannot be kept: {why}"),
        Event::NoAnswer { why } => eprintln!("no answer of the coordinator: {why}"),
        Event::CoordinatorLost => eprintln!("going on without the coordinator"),
        Event::CoordinatorFound => eprintln!("the coordinator answers again"),
        other => eprintln!("{other:?}"),
    }
}
