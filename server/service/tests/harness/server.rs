//! What runs: one store, any number of coordinators on it.

use super::{Duration, TestClock, clock::Ahead, ms, secs, soon};
use leasehold_proto::v1::coordinator_service_client::CoordinatorServiceClient;
use leasehold_service::{
    access::Guard,
    engine::{Dependencies, Engine},
    random::Entropy,
    server::{self, Stopped, TransportSettings},
    settings::Settings,
    time::Clock,
    traces::Tracing,
};
use leasehold_store::{
    decorators::{
        counting::{Counters, Counts, counted},
        faults::Faults,
    },
    embedded::EmbeddedStore,
    port::Stores,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, server::TcpIncoming};

/// One store and one clock, for all coordinators of a test.
pub(crate) struct World {
    store: Arc<EmbeddedStore>,
    pub(crate) clock: Arc<TestClock>,
    /// Where the spans of coordinators go that are started from then on.
    pub(crate) tracing: Option<Tracing>,
    seeds: AtomicU64,
    // Last: the store is closed before its directory goes.
    _root: TempDir,
}

/// One coordinator. Stopped when dropped.
pub(crate) struct Coordinator {
    pub(crate) engine: Engine,
    pub(crate) faults: Faults,
    counters: Arc<Counters>,
    address: SocketAddr,
    channel: Channel,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<Stopped>,
}

impl World {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let store = Arc::new(EmbeddedStore::open(root.path()).expect("a store"));
        Self {
            store,
            clock: Arc::new(TestClock::start()),
            tracing: None,
            seeds: AtomicU64::new(1),
            _root: root,
        }
    }

    /// The store as it is, neither counted nor failing.
    pub(crate) fn stores(&self) -> Stores {
        Arc::clone(&self.store).stores()
    }

    /// A coordinator that is the only one.
    pub(crate) async fn start(&self) -> Coordinator {
        self.start_with(|_, _| {}).await
    }

    /// A coordinator that knows of others.
    pub(crate) async fn start_one_of_many(&self) -> Coordinator {
        self.start_with(|settings, _| settings.reread_interval = Some(ms(50))).await
    }

    /// A coordinator that knows of others, and whose clock is ahead of theirs.
    pub(crate) async fn start_ahead(&self, ahead: Duration) -> Coordinator {
        let clock = Arc::new(Ahead(Arc::clone(&self.clock), ahead));
        self.start_by(clock, Guard::open(), |settings, _| settings.reread_interval = Some(ms(50))).await
    }

    /// A coordinator behind a guard, that asks the store for nothing by itself.
    pub(crate) async fn start_guarded(&self, guard: Guard) -> Coordinator {
        self.start_guarded_with(guard, |_| {}).await
    }

    /// The same, with other settings.
    pub(crate) async fn start_guarded_with(
        &self,
        guard: Guard,
        change: impl FnOnce(&mut Settings),
    ) -> Coordinator {
        self.start_by(Arc::<TestClock>::clone(&self.clock), guard, |settings, _| {
            settings.log.tail_interval = secs(3600);
            change(settings);
        })
        .await
    }

    /// A coordinator whose settings differ.
    pub(crate) async fn start_with(
        &self,
        change: impl FnOnce(&mut Settings, &mut TransportSettings),
    ) -> Coordinator {
        self.start_by(Arc::<TestClock>::clone(&self.clock), Guard::open(), change).await
    }

    async fn start_by(
        &self,
        clock: Arc<dyn Clock>,
        guard: Guard,
        change: impl FnOnce(&mut Settings, &mut TransportSettings),
    ) -> Coordinator {
        let mut settings = Settings::default();
        settings.log.tail_interval = ms(20);
        // So that a clock that is put forward makes nothing unverified, except where that is the subject.
        settings.rules.staleness_bound = secs(3600);
        settings.store.retry_pause = ms(1);
        let mut transport = TransportSettings { drain_timeout: secs(10), ..TransportSettings::default() };
        change(&mut settings, &mut transport);
        let faults = Faults::new();
        let (stores, counters) = counted(faults.wrap(self.stores()));
        let seed = self.seeds.fetch_add(1, Ordering::Relaxed);
        let entropy = Arc::new(Entropy::from_seed(seed));
        let tracing = self.tracing.clone();
        let engine = Engine::start(Dependencies { stores, clock, entropy, tracing }, settings)
            .await
            .expect("an engine");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let shutdown = CancellationToken::new();
        let run = server::run(incoming, engine.clone(), guard, transport, shutdown.clone());
        let serving = tokio::spawn(async move { run.await.expect("serving") });
        let channel = connect(address).await;
        Coordinator { engine, faults, counters, address, channel, shutdown, serving }
    }
}

impl Coordinator {
    /// On the connection that all calls of a test share.
    pub(crate) fn client(&self) -> CoordinatorServiceClient<Channel> {
        client(self.channel.clone())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// On a connection of its own.
    pub(crate) async fn another_client(&self) -> CoordinatorServiceClient<Channel> {
        client(connect(self.address).await)
    }

    /// On a connection of its own that takes little before it is read.
    pub(crate) async fn narrow_client(&self) -> CoordinatorServiceClient<Channel> {
        self.client_that_takes(16 * 1024).await
    }

    /// On a connection of its own that takes so many bytes of an answer before they are read.
    pub(crate) async fn client_that_takes(&self, bytes: u32) -> CoordinatorServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("an address");
        let endpoint = endpoint.initial_stream_window_size(bytes).initial_connection_window_size(64 * 1024);
        client(soon(endpoint.connect()).await.expect("a connection"))
    }

    /// What it has asked the store for so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counters.snapshot()
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) async fn stop(&mut self) -> Stopped {
        self.shutdown.cancel();
        soon(&mut self.serving).await.expect("the server")
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.serving.abort();
    }
}

async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address").tcp_nodelay(true);
    soon(endpoint.connect()).await.expect("a connection")
}

fn client(channel: Channel) -> CoordinatorServiceClient<Channel> {
    CoordinatorServiceClient::new(channel)
        .max_decoding_message_size(64 << 20)
        .max_encoding_message_size(64 << 20)
}
