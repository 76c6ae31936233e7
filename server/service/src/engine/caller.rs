//! How the engine calls the store: each request with a time limit.

use crate::settings::StoreSettings;
use leasehold_store::port::{ReadError, WriteError};
use std::time::Duration;

/// Puts the limit on one request.
#[derive(Clone, Debug)]
pub(crate) struct StoreCaller {
    timeout: Duration,
}

impl StoreCaller {
    pub(crate) fn new(settings: &StoreSettings) -> Self {
        Self { timeout: settings.request_timeout }
    }

    /// A read that takes too long failed, without consequence.
    pub(crate) async fn read<T>(
        &self,
        request: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        match tokio::time::timeout(self.timeout, request).await {
            Ok(result) => result,
            Err(_) => Err(ReadError::Unavailable(format!("no answer within {:?}", self.timeout))),
        }
    }

    /// A write that takes too long may be applied, now or a little later.
    pub(crate) async fn write<T>(
        &self,
        request: impl Future<Output = Result<T, WriteError>>,
    ) -> Result<T, WriteError> {
        match tokio::time::timeout(self.timeout, request).await {
            Ok(result) => result,
            Err(_) => Err(WriteError::Unknown(format!("no answer within {:?}", self.timeout))),
        }
    }
}
