//! The doubles as a fixture of the conformance suite.

use super::Doubles;
use crate::settings::AwsSettings;
use async_trait::async_trait;
use leasehold_core::time::Timestamp;
use leasehold_store::{conformance::Fixture, port::Stores};

/// Stores on doubles of their own. Every handle has clients of its own.
pub struct AwsFixture {
    doubles: Doubles,
    settings: AwsSettings,
}

impl AwsFixture {
    /// With [`Doubles::settings`].
    pub async fn new() -> Self {
        Self::with(Doubles::new(), Doubles::settings()).await
    }

    /// On these doubles, with these settings; creates table and bucket.
    ///
    /// # Panics
    /// When they cannot be created.
    pub async fn with(doubles: Doubles, settings: AwsSettings) -> Self {
        doubles.connect(settings.clone()).init().await.expect("create table and bucket");
        Self { doubles, settings }
    }
}

#[async_trait]
impl Fixture for AwsFixture {
    async fn open(&self) -> Stores {
        self.doubles.connect(self.settings.clone()).stores()
    }

    /// Coordinators end; the services go on.
    async fn restart(&self) -> Stores {
        self.open().await
    }

    /// As for a restart: a handle has nothing of its own to lose. That the services lose nothing is their promise.
    async fn crash(&self) -> Stores {
        self.open().await
    }

    async fn forget(&self, now: Timestamp) {
        self.doubles.dynamodb.expire(now);
    }
}
