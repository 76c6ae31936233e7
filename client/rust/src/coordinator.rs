//! The handle that calls are made on.

use crate::{
    Builder, Error, RequestId,
    call::{Call, Limits},
    id::RandomSource,
    link::Lanes,
    lookup_stream::Lookups,
    retry::{Bucket, RetryPolicy},
};
use std::sync::Arc;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// A handle on the coordinator. Cheap to clone; clones share connections, the retry budget and the source of ids.
///
/// Every call retries by itself, within the timeouts and the [`RetryPolicy`](crate::RetryPolicy) of the builder, and
/// replaces a connection that broke or fell silent. Connections are made when they are needed: building one fails only
/// for a malformed URI, and a coordinator that is down shows as an error of the calls.
///
/// Dropping the future of a call abandons it; whether it is applied is then unknown.
#[derive(Clone)]
pub struct Coordinator {
    pub(crate) shared: Arc<Shared>,
}

/// What the clones of a handle share.
pub(crate) struct Shared {
    pub(crate) lanes: Lanes,
    pub(crate) lookups: Lookups,
    pub(crate) limits: Limits,
    pub(crate) retry: RetryPolicy,
    pub(crate) retries: Bucket,
    pub(crate) random: RandomSource,
    pub(crate) owner: String,
    pub(crate) inline_limit: usize,
}

/// What the coordinator says of its health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes calls.
    Serving,
    /// It does not, for it is starting, going down, or cut off from its store.
    NotServing,
    /// It does not say.
    Unknown,
}

impl Coordinator {
    /// A builder, for [`DEFAULT_ENDPOINT`](crate::DEFAULT_ENDPOINT) until told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// With the defaults, for an endpoint such as `http://10.0.0.7:7420`.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a malformed URI.
    pub fn new(endpoint: impl Into<String>) -> Result<Self, Error> {
        Self::builder().endpoint(endpoint).build()
    }

    /// With the defaults, over a channel that is there already. All calls share it, and it can not be replaced when it
    /// goes bad: prefer [`Builder::connect_by`].
    pub fn from_channel(channel: Channel) -> Self {
        Self::builder().build_by(Arc::new(move || channel.clone()))
    }

    /// A new request id: for a call that another process is to repeat, should this one die.
    pub fn new_request_id(&self) -> RequestId {
        self.shared.random.request_id()
    }

    /// Asks for the coordinator's health, by `grpc.health.v1`.
    ///
    /// # Errors
    /// When none was reached in time.
    pub async fn health(&self) -> Result<Health, Error> {
        use tonic_health::pb::health_check_response::ServingStatus;
        let link = self.shared.lanes.prompt();
        let mut call = Call::begin(&self.shared, self.shared.limits);
        let answer = loop {
            let attempt = call.attempt()?;
            let (generation, channel) = link.channel();
            let request = attempt.request(HealthCheckRequest { service: String::new() });
            match attempt.settle(HealthClient::new(channel).check(request)).await {
                Ok(answer) => break answer,
                Err(error) => {
                    if error.suspects_connection() {
                        link.replace(generation);
                    }
                    call.retry_after(error).await?;
                }
            }
        };
        Ok(match answer.status() {
            ServingStatus::Serving => Health::Serving,
            ServingStatus::NotServing => Health::NotServing,
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => Health::Unknown,
        })
    }
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator")
            .field("owner", &self.shared.owner)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}
