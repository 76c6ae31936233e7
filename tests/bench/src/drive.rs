//! Load: so many calls in flight for so long, and what they cost.

use crate::{clock, process::ServerProcess};
use anyhow::{Context as _, ensure};
use futures::Stream;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// What can be called, on one connection.
pub(crate) trait Calls: Clone + Send + 'static {
    /// Makes one call and verifies its answer. `at` is another number each time.
    fn call(&mut self, at: usize) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What can be asked over a stream, on one connection.
pub(crate) trait Streams: Clone + Send + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;

    /// What to ask. `at` is another number each time.
    fn request(&self, id: u64, at: usize) -> Self::Request;

    /// Opens a stream.
    fn open(
        &mut self,
        requests: impl Stream<Item = Self::Request> + Send + 'static,
    ) -> impl Future<Output = anyhow::Result<Streaming<Self::Response>>> + Send;

    /// Verifies an answer, and gives the id that it was asked under.
    fn verify(&self, response: Self::Response) -> anyhow::Result<u64>;
}

/// How long a turn lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// Not measured: connections, caches and branch predictors get warm.
    pub(crate) warm_up: Duration,
    /// Measured.
    pub(crate) measured: Duration,
}

/// What a turn showed.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Measured {
    pub(crate) calls: usize,
    pub(crate) calls_per_second: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
    /// CPU time of the server process for each call.
    pub(crate) server_cpu_micros: f64,
}

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const DONE: u8 = 2;

/// Unary calls, `in_flight` of them at any time, spread over the connections.
pub(crate) async fn unary<S: Calls>(
    connections: &[S],
    in_flight: usize,
    turn: Turn,
    server: &mut ServerProcess,
) -> anyhow::Result<Measured> {
    let phase = Arc::new(AtomicU8::new(WARMING_UP));
    let mut workers = JoinSet::new();
    for (worker, mut subject) in connections.iter().cloned().cycle().take(in_flight).enumerate() {
        let mut latencies = Latencies::new(Arc::clone(&phase));
        workers.spawn(async move {
            let mut at = worker * 7919;
            let mut sent = clock::now();
            loop {
                subject.call(at).await?;
                let answered = clock::now();
                if latencies.note(sent, answered).is_break() {
                    return Ok(latencies.nanos);
                }
                at += 1;
                sent = answered;
            }
        });
    }
    measure(workers, &phase, turn, server).await
}

/// One stream on each connection, `in_flight` requests on all of them together.
pub(crate) async fn streams<S: Streams>(
    connections: &[S],
    in_flight: usize,
    turn: Turn,
    server: &mut ServerProcess,
) -> anyhow::Result<Measured> {
    let phase = Arc::new(AtomicU8::new(WARMING_UP));
    let mut workers = JoinSet::new();
    let window = in_flight / connections.len();
    for (worker, mut subject) in connections.iter().cloned().enumerate() {
        let mut latencies = Latencies::new(Arc::clone(&phase));
        workers.spawn(async move {
            let mut at = worker * 7919;
            let (requests, receiver) = mpsc::channel(window);
            // Ids are places in this list.
            let mut sent = vec![clock::now(); window];
            for id in 0..window as u64 {
                at += 1;
                let _ = requests.send(subject.request(id, at)).await;
            }
            let mut answers = subject.open(ReceiverStream::new(receiver)).await?;
            loop {
                let answer = answers.message().await?.context("the server has ended a stream")?;
                let id = subject.verify(answer)?;
                let answered = clock::now();
                let place = usize::try_from(id).ok().and_then(|place| sent.get_mut(place));
                let place = place.context("an answer to nothing that was asked")?;
                if latencies.note(*place, answered).is_break() {
                    return Ok(latencies.nanos);
                }
                *place = answered;
                at += 1;
                // Fails where the stream has ended: its answers say why.
                let _ = requests.send(subject.request(id, at)).await;
            }
        });
    }
    measure(workers, &phase, turn, server).await
}

/// How long calls took that were answered while it was measured.
struct Latencies {
    phase: Arc<AtomicU8>,
    nanos: Vec<u32>,
}

impl Latencies {
    fn new(phase: Arc<AtomicU8>) -> Self {
        Self { phase, nanos: Vec::with_capacity(1 << 16) }
    }

    fn note(&mut self, sent: Instant, answered: Instant) -> std::ops::ControlFlow<()> {
        match self.phase.load(Ordering::Relaxed) {
            WARMING_UP => {}
            MEASURING => {
                let nanos = answered.duration_since(sent).as_nanos();
                self.nanos.push(u32::try_from(nanos).unwrap_or(u32::MAX));
            }
            _ => return std::ops::ControlFlow::Break(()),
        }
        std::ops::ControlFlow::Continue(())
    }
}

/// How many calls there were, and how long they took.
pub(crate) struct Quantiles {
    pub(crate) calls: usize,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
}

impl Quantiles {
    pub(crate) fn of(mut nanos: Vec<u32>) -> anyhow::Result<Self> {
        let calls = nanos.len();
        ensure!(calls > 0, "no call was answered in the time that is measured");
        let mut quantile = |numerator: usize| {
            let at = (calls * numerator / 100).min(calls - 1);
            f64::from(*nanos.select_nth_unstable(at).1) / 1e3
        };
        Ok(Self { calls, p50_micros: quantile(50), p99_micros: quantile(99) })
    }
}

async fn measure(
    mut workers: JoinSet<anyhow::Result<Vec<u32>>>,
    phase: &AtomicU8,
    turn: Turn,
    server: &mut ServerProcess,
) -> anyhow::Result<Measured> {
    // A worker ends early only when it fails.
    let failed = async {
        match workers.join_next().await {
            Some(result) => result?.map(drop).and(Err(anyhow::anyhow!("a worker ended early"))),
            None => Err(anyhow::anyhow!("there are no workers")),
        }
    };
    let timed = async {
        tokio::time::sleep(turn.warm_up).await;
        let (cpu, begun) = (server.cpu()?, clock::now());
        phase.store(MEASURING, Ordering::Relaxed);
        tokio::time::sleep(turn.measured).await;
        phase.store(DONE, Ordering::Relaxed);
        let elapsed = clock::now().duration_since(begun);
        anyhow::Ok((server.cpu()?.since(&cpu), elapsed))
    };
    let (cpu, elapsed) = tokio::select! {
        biased;
        result = timed => result?,
        error = failed => {
            server.check()?;
            return error;
        }
    };
    let mut nanos = Vec::new();
    while let Some(worker) = workers.join_next().await {
        nanos.append(&mut worker??);
    }
    let Quantiles { calls, p50_micros, p99_micros } = Quantiles::of(nanos)?;
    Ok(Measured {
        calls,
        calls_per_second: calls as f64 / elapsed.as_secs_f64(),
        p50_micros,
        p99_micros,
        server_cpu_micros: cpu.as_secs_f64() * 1e6 / calls as f64,
    })
}
