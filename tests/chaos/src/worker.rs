//! A process of workers, readers, a watcher and an editor: the load of the simulation, with the real client on real sockets.

use crate::{
    clock::Clock,
    journal::Writing,
    setting::{self, Part},
};
use hyper_util::rt::TokioIo;
use leasehold_client::{Coordinator, RetryPolicy};
use leasehold_sim::{
    load::{INLINE_LIMIT, Load, Seat},
    machine::derived,
};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpStream, sync::oneshot};
use tower::service_fn;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Its name, in what it renders
    #[arg(long)]
    pub(crate) name: String,
    /// What its choices are made by
    #[arg(long)]
    pub(crate) seed: u64,
    /// When the run began, by the monotonic clock, in milliseconds
    #[arg(long)]
    pub(crate) began: u64,
    /// Which part it plays
    #[arg(long)]
    pub(crate) part: Part,
    /// Where it writes down what it asks and is answered
    #[arg(long)]
    pub(crate) journal: PathBuf,
    /// Whom it asks
    #[arg(required = true)]
    pub(crate) coordinators: Vec<SocketAddr>,
}

/// Goes on until its standard input ends, and then finishes what it has begun.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let clock = Clock::of_run(arguments.began);
    let journal = Arc::new(Writing::new(&arguments.journal, clock)?);
    let (told, before) = (journal.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        told.panics(panic.to_string());
        before(panic);
    }));
    // Two threads: what one thread never does is what the simulation cannot show.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(play(arguments, clock, journal));
    Ok(())
}

async fn play(arguments: Arguments, clock: Clock, journal: Arc<Writing>) {
    let Arguments { name, seed, part, coordinators, .. } = arguments;
    let stalls = journal.clone();
    tokio::spawn(setting::watch_for_stalls(clock, move |from, to| stalls.stalled(from, to)));
    let load = Load::new(setting::entries());
    let seat = |number| Seat {
        name: name.clone().into(),
        seed: derived(seed, &[number]),
        pace: part.pace(),
        connect: connect(part, &name, &coordinators, derived(seed, &[number, 1])),
        journal: journal.clone(),
    };
    let tasks = match part {
        Part::Storm | Part::Calm => {
            [load.workers(&seat(0), 2), load.readers(&seat(1)), load.editors(&seat(2))].into_iter().flatten()
        }
        Part::Audit => [load.auditors(&seat(0)), Vec::new(), Vec::new()].into_iter().flatten(),
    };
    if part != Part::Storm {
        load.calm_down();
    }
    let tasks: Vec<_> = tasks.map(tokio::spawn).collect();
    if part != Part::Audit {
        until_let_go().await;
        load.finish();
    }
    // A panic is in the journal.
    drop(futures::future::join_all(tasks).await);
}

/// Until standard input ends, as it does when whoever started this process has died.
async fn until_let_go() {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        // However it ended.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = tell.send(());
    });
    let _ = told.await;
}

/// Handles whose every connection goes to one of these coordinators, as behind a balancer that knows nothing of their health.
fn connect(
    part: Part,
    name: &str,
    coordinators: &[SocketAddr],
    seed: u64,
) -> Arc<dyn Fn(Duration, u64) -> Coordinator + Send + Sync> {
    let (name, coordinators): (_, Arc<[SocketAddr]>) = (name.to_owned(), coordinators.into());
    Arc::new(move |patience, number| {
        let rng = Arc::new(Mutex::new(StdRng::seed_from_u64(derived(seed, &[number]))));
        let coordinators = coordinators.clone();
        let connector = service_fn(move |_: http::Uri| {
            let to = coordinators[rng.lock().random_range(0..coordinators.len())];
            async move {
                let stream = TcpStream::connect(to).await?;
                // Without it, small messages wait for acknowledgements.
                stream.set_nodelay(true)?;
                io::Result::Ok(TokioIo::new(stream))
            }
        });
        let (attempt, keepalive) = part.attempts();
        Coordinator::builder()
            .endpoint("http://coordinators")
            .attempt_timeout(attempt)
            .overall_timeout(patience)
            .connect_timeout(keepalive)
            .keepalive(keepalive, keepalive)
            .inline_limit(INLINE_LIMIT)
            .retry(RetryPolicy {
                initial_backoff: Duration::from_millis(10),
                max_backoff: Duration::from_millis(200),
                ..RetryPolicy::default()
            })
            .owner(name.clone())
            .connect_by(move |endpoint| endpoint.connect_with_connector_lazy(connector.clone()))
            .expect("a good endpoint")
    })
}
