//! Connections to the coordinator, and how a bad one is replaced.

use crate::{
    Error, Security,
    security::{Authorized, Credentials},
};
use leasehold_proto::v1::coordinator_service_client::CoordinatorServiceClient;
use leasehold_traces::{TraceCalls, Traced};
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
use tonic::transport::Channel;
use tower::Layer as _;

pub(crate) type Client = CoordinatorServiceClient<Traced<Authorized>>;

/// Makes a lazy channel. Called within a runtime only.
pub(crate) type Connect = Arc<dyn Fn() -> Channel + Send + Sync>;

/// What all connections of a handle have in common.
#[derive(Clone)]
pub(crate) struct Manner {
    pub(crate) connect: Connect,
    pub(crate) limits: MessageLimits,
    pub(crate) credentials: Option<Arc<Credentials>>,
    pub(crate) traces: TraceCalls,
}

/// How large a message may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageLimits {
    pub(crate) decoding: usize,
    pub(crate) encoding: usize,
}

/// One connection at a time. A stock channel keeps using a black-holed connection for good; this one is replaced by
/// whoever finds it bad, once.
pub(crate) struct Link {
    manner: Manner,
    generation: AtomicU64,
    channel: Mutex<Option<Channel>>,
    /// Calls that occupy it for long.
    load: AtomicUsize,
}

impl Link {
    fn new(manner: Manner) -> Self {
        let (generation, channel) = (AtomicU64::new(0), Mutex::new(None));
        Self { manner, generation, channel, load: AtomicUsize::new(0) }
    }

    /// Of the channel in use.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The channel in use and its generation, to report it by.
    pub(crate) fn channel(&self) -> (u64, Channel) {
        let mut current = self.channel.lock();
        let channel = current.get_or_insert_with(|| (self.manner.connect)()).clone();
        (self.generation(), channel)
    }

    pub(crate) fn client(&self) -> (u64, Client) {
        let (generation, channel) = self.channel();
        let Manner { connect: _, limits, credentials, traces } = &self.manner;
        let service = traces.layer(Authorized::new(channel, credentials.clone()));
        let client = CoordinatorServiceClient::new(service)
            .max_decoding_message_size(limits.decoding)
            .max_encoding_message_size(limits.encoding);
        (generation, client)
    }

    /// The channel of this generation is bad. Of all that report it, the first replaces it; calls in flight on it go on.
    pub(crate) fn replace(&self, generation: u64) {
        let mut current = self.channel.lock();
        if self.generation() == generation {
            self.generation.store(generation + 1, Ordering::Release);
            *current = None;
            tracing::debug!(link.generation = generation + 1, "connection replaced");
        }
    }
}

/// The connections of one handle: one for calls that are answered promptly, and others for calls that wait.
///
/// A server allows a limited number of calls at a time on one connection (hyper: 200). Were waiters to share it with
/// the commit that they wait for, 200 of them would keep it out until the last one has timed out.
pub(crate) struct Lanes {
    prompt: Arc<Link>,
    waiting: Mutex<Vec<Arc<Link>>>,
    manner: Manner,
    presents_certificate: bool,
}

/// Waiting calls on one connection: well below what servers allow.
const WAITERS_PER_LINK: usize = 90;
/// Beyond so many connections, waiters share what there is.
const WAITING_LINKS: usize = 64;

impl Lanes {
    pub(crate) fn new(
        connect: Connect,
        limits: MessageLimits,
        security: &Security,
        traces: TraceCalls,
    ) -> Self {
        let manner = Manner { connect, limits, credentials: security.credentials(), traces };
        let prompt = Arc::new(Link::new(manner.clone()));
        let presents_certificate = security.presents_certificate();
        Self { prompt, waiting: Mutex::new(Vec::new()), manner, presents_certificate }
    }

    /// Whether a call that was refused may be tried with another token, or on a connection with another certificate.
    pub(crate) fn may_renew_identity(&self) -> bool {
        self.presents_certificate
            || self.manner.credentials.as_ref().is_some_and(|credentials| credentials.may_renew())
    }

    /// Whether the connection of a call that failed so is to be replaced: it is bad, or its certificate is over.
    pub(crate) fn are_suspect(&self, error: &Error) -> bool {
        error.suspects_connection() || (self.presents_certificate && error.is_unauthenticated())
    }

    /// What a stream was opened by is over: the next one takes another token, and another connection where a certificate is
    /// what it was known by.
    pub(crate) fn identity_is_over(&self) -> bool {
        if let Some(credentials) = &self.manner.credentials {
            credentials.forget();
        }
        self.presents_certificate
    }

    pub(crate) fn prompt(&self) -> &Arc<Link> {
        &self.prompt
    }

    /// A place for a call that waits, for as long as the place is kept.
    pub(crate) fn waiting(&self) -> Place {
        let mut links = self.waiting.lock();
        let found = links.iter().find(|link| link.load.load(Ordering::Relaxed) < WAITERS_PER_LINK).cloned();
        let link = found.unwrap_or_else(|| {
            if links.len() < WAITING_LINKS {
                links.push(Arc::new(Link::new(self.manner.clone())));
                Arc::clone(&links[links.len() - 1])
            } else {
                let least = links.iter().min_by_key(|link| link.load.load(Ordering::Relaxed));
                Arc::clone(least.unwrap_or(&self.prompt))
            }
        });
        link.load.fetch_add(1, Ordering::Relaxed);
        Place(link)
    }
}

/// A long call's place on a connection.
pub(crate) struct Place(Arc<Link>);

impl Place {
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::transport::Endpoint;

    fn counting() -> (Connect, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let connect: Connect = Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Endpoint::from_static("http://127.0.0.1:1").connect_lazy()
        });
        (connect, made)
    }

    const LIMITS: MessageLimits = MessageLimits { decoding: 1 << 20, encoding: 1 << 20 };

    fn untraced() -> TraceCalls {
        TraceCalls::of_caller(None, &http::Uri::default())
    }

    #[tokio::test]
    async fn of_many_that_report_a_bad_channel_one_replaces_it() {
        let (connect, made) = counting();
        let link = Link::new(Manner { connect, limits: LIMITS, credentials: None, traces: untraced() });
        let (generation, _) = link.channel();
        for _ in 0..10 {
            link.replace(generation);
            assert_eq!(link.channel().0, generation + 1);
        }
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn waiters_spread_over_connections_and_give_their_places_back() {
        let lanes = Lanes::new(counting().0, LIMITS, &Security::default(), untraced());
        let places: Vec<_> = (0..WAITERS_PER_LINK * 2 + 1).map(|_| lanes.waiting()).collect();
        assert_eq!(lanes.waiting.lock().len(), 3);
        drop(places);
        let _again = lanes.waiting();
        assert_eq!(lanes.waiting.lock().len(), 3);
        assert_eq!(lanes.waiting.lock()[0].load.load(Ordering::Relaxed), 1);
    }
}
