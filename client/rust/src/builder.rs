//! How a handle is configured.

use crate::{
    Coordinator, Error, Security,
    call::Limits,
    coordinator::Shared,
    id::RandomSource,
    link::{Connect, Lanes, MessageLimits},
    lookup_stream::Lookups,
    retry::{Bucket, RetryPolicy},
};
use leasehold_traces::{TraceCalls, Traces};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tonic::transport::{Channel, Endpoint};

/// The port that coordinators listen on by default.
pub const DEFAULT_PORT: u16 = 7420;

/// Where a coordinator on this machine listens by default.
pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7420";

/// Configures a [`Coordinator`].
#[derive(Clone, Debug)]
pub struct Builder {
    endpoint: String,
    attempt_timeout: Duration,
    overall_timeout: Duration,
    connect_timeout: Duration,
    keepalive_interval: Duration,
    keepalive_timeout: Duration,
    max_received_bytes: usize,
    max_sent_bytes: usize,
    inline_limit_bytes: usize,
    retry: RetryPolicy,
    owner: String,
    seed: Option<u64>,
    streamed_lookups: usize,
    security: Security,
    traces: Option<Traces>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            attempt_timeout: Duration::from_secs(5),
            overall_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            max_received_bytes: 4 << 20,
            max_sent_bytes: 4 << 20,
            inline_limit_bytes: 3 << 20,
            retry: RetryPolicy::default(),
            owner: "leasehold-client".to_owned(),
            seed: None,
            streamed_lookups: 512,
            security: Security::default(),
            traces: None,
        }
    }
}

impl Builder {
    /// The coordinator's URI, or that of what balances between several. Default: [`DEFAULT_ENDPOINT`].
    pub fn endpoint(mut self, uri: impl Into<String>) -> Self {
        self.endpoint = uri.into();
        self
    }

    /// How long one attempt of a call may take; where the call waits, on top of that. Default: 5 s.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// How long a call may take with all its attempts; where it waits, on top of that. Default: 20 s.
    pub fn overall_timeout(mut self, timeout: Duration) -> Self {
        self.overall_timeout = timeout;
        self
    }

    /// How long a connection may take to be made. Default: 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// After so long without a sign of life the coordinator is asked for one, and after `timeout` without any the
    /// connection is given up. Default: 10 s and 5 s.
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.keepalive_interval = interval;
        self.keepalive_timeout = timeout;
        self
    }

    /// The largest message to receive and to send, in bytes. Default: 4 MiB each, like the coordinator's.
    pub fn message_limits(mut self, received_bytes: usize, sent_bytes: usize) -> Self {
        self.max_received_bytes = received_bytes;
        self.max_sent_bytes = sent_bytes;
        self
    }

    /// HTML and sidecar of more than this together are uploaded ahead of their commit. Default: 3 MiB, the most that a
    /// coordinator takes inline by default.
    pub fn inline_limit(mut self, bytes: usize) -> Self {
        self.inline_limit_bytes = bytes;
        self
    }

    /// How calls are repeated.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// The name that leases are acquired under, for people: a worker's, 1 to 256 bytes. Default: `leasehold-client`.
    pub fn owner(mut self, name: impl Into<String>) -> Self {
        self.owner = name.into();
        self
    }

    /// Makes request ids and pauses a function of `seed`: for simulations. Never reuse one against the same store: two
    /// intents with one id are one intent. Default: seeded by the operating system.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// At most so many lookups in flight on the stream that busy handles use; the others queue. Zero: every lookup is a
    /// call of its own. Default: 512.
    pub fn streamed_lookups(mut self, in_flight: usize) -> Self {
        self.streamed_lookups = in_flight;
        self
    }

    /// How it says who it is, and whom it believes. Default: nobody, and the authorities of this machine.
    pub fn security(mut self, security: Security) -> Self {
        self.security = security;
        self
    }

    /// Makes an OpenTelemetry span for every attempt of a call, below the one that is current where it is called, and sends
    /// its context along: the coordinator's spans, and those of its requests to the store, are below it. The renders and
    /// commits of a [`Runtime`](crate::runtime::Runtime) are below the visit that they are made for. Watches, and lookups
    /// that share a stream (see [`Builder::streamed_lookups`]), have none. Default: no spans.
    pub fn traces(mut self, traces: Traces) -> Self {
        self.traces = Some(traces);
        self
    }

    /// A handle that connects over TCP when it is first used, and for `https` by TLS.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a malformed URI, and for a [`Security`] that cannot be used.
    pub fn build(self) -> Result<Coordinator, Error> {
        let endpoint = self.configured()?;
        let security = self.security.clone();
        let is_tls = endpoint.uri().scheme_str() == Some("https");
        security.check(&self.endpoint, is_tls)?;
        if !is_tls {
            return Ok(self.build_by(Arc::new(move || endpoint.connect_lazy())));
        }
        let last = Mutex::new(security.secure(&endpoint)?);
        Ok(self.build_by(Arc::new(move || {
            let mut last = last.lock();
            match security.secure(&endpoint) {
                Ok(secured) => *last = secured,
                // In the middle of being replaced, perhaps: those of before are as good as before.
                Err(error) => {
                    tracing::warn!(%error, "certificates cannot be read anew; going on with those of before")
                }
            }
            last.connect_lazy()
        })))
    }

    /// A handle that makes its channels by `connect`, which is given the endpoint as configured here and should return a
    /// lazy channel: for other transports and simulations, as in
    /// `|endpoint| endpoint.connect_with_connector_lazy(connector.clone())`. It is called again, inside the runtime,
    /// whenever a connection is replaced.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a malformed URI.
    pub fn connect_by(
        self,
        connect: impl Fn(&Endpoint) -> Channel + Send + Sync + 'static,
    ) -> Result<Coordinator, Error> {
        let endpoint = self.configured()?;
        Ok(self.build_by(Arc::new(move || connect(&endpoint))))
    }

    fn configured(&self) -> Result<Endpoint, Error> {
        let malformed = |error| Error::Configuration(format!("endpoint {:?}: {error}", self.endpoint));
        let endpoint = Endpoint::from_shared(self.endpoint.clone()).map_err(malformed)?;
        if !matches!(endpoint.uri().scheme_str(), Some("http" | "https")) {
            return Err(Error::Configuration(format!(
                "endpoint {:?}: must begin with http:// or https://",
                self.endpoint
            )));
        }
        // Without TCP_NODELAY small messages wait for acknowledgements: a thousand times fewer calls per second.
        Ok(endpoint
            .tcp_nodelay(true)
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout)
            .keep_alive_while_idle(true))
    }

    pub(crate) fn build_by(self, connect: Connect) -> Coordinator {
        let limits = MessageLimits { decoding: self.max_received_bytes, encoding: self.max_sent_bytes };
        let traces = TraceCalls::of_caller(self.traces, &self.endpoint.parse().unwrap_or_default());
        let shared = Shared {
            lanes: Lanes::new(connect, limits, &self.security, traces),
            lookups: Lookups::new(self.streamed_lookups),
            limits: Limits {
                attempt: self.attempt_timeout,
                overall: self.overall_timeout,
                wait: Duration::ZERO,
            },
            retries: Bucket::new(self.retry.budget.clone()),
            retry: self.retry,
            random: RandomSource::new(self.seed),
            owner: self.owner,
            inline_limit: self.inline_limit_bytes,
        };
        Coordinator { shared: Arc::new(shared) }
    }
}
