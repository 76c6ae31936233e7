//! A fixture whose stores are seen through a decorator.

use super::Fixture;
use crate::port::Stores;
use async_trait::async_trait;
use leasehold_core::time::Timestamp;

/// Another fixture, every handle of it decorated: a decorator must pass the suite that what it decorates passes.
pub struct Decorated<F, D> {
    inner: F,
    decorate: D,
}

impl<F, D: Fn(Stores) -> Stores> Decorated<F, D> {
    /// Decorates what `inner` opens.
    pub fn new(inner: F, decorate: D) -> Self {
        Self { inner, decorate }
    }
}

#[async_trait]
impl<F: Fixture, D: Fn(Stores) -> Stores + Send + Sync> Fixture for Decorated<F, D> {
    async fn open(&self) -> Stores {
        (self.decorate)(self.inner.open().await)
    }

    async fn restart(&self) -> Stores {
        (self.decorate)(self.inner.restart().await)
    }

    async fn crash(&self) -> Stores {
        (self.decorate)(self.inner.crash().await)
    }

    async fn forget(&self, now: Timestamp) {
        self.inner.forget(now).await;
    }
}
