//! What has changed on disk takes effect, without a restart and without a connection that is dropped.
//!
//! Files are looked at every so often, and on SIGHUP. What cannot be used is said once, and what held before goes on holding.

use super::{
    AccessError,
    authenticators::ByToken,
    certificates::Tls,
    key_set::{KeyPlace, KeySet},
    policy,
    source::Source,
    tokens::Tokens,
};
use leasehold_service::access::Guard;
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

pub(super) struct Reloading {
    interval: Duration,
    watched: Vec<Watched>,
    by_token: Option<(Arc<ByToken>, Guard)>,
}

/// Files that take effect together.
struct Watched {
    what: &'static str,
    sources: Vec<Source>,
    /// What they held when they were last looked at; `None` where one could not be read.
    seen: Option<[u8; 32]>,
    apply: Box<dyn Fn() -> Result<(), AccessError> + Send + Sync>,
}

impl Watched {
    fn new(
        what: &'static str,
        sources: Vec<Source>,
        apply: impl Fn() -> Result<(), AccessError> + Send + Sync + 'static,
    ) -> Self {
        let seen = held(&sources);
        Self { what, sources, seen, apply: Box::new(apply) }
    }

    fn look(&mut self) {
        let holds = held(&self.sources);
        if holds == self.seen {
            return;
        }
        self.seen = holds;
        match (self.apply)() {
            Ok(()) => tracing::info!(access.what = self.what, "read anew, and in effect"),
            Err(error) => {
                tracing::error!(access.what = self.what, %error, "cannot be used; what held before goes on holding");
            }
        }
    }
}

fn held(sources: &[Source]) -> Option<[u8; 32]> {
    let mut digest = Sha256::new();
    for source in sources {
        digest.update(Sha256::digest(source.read().ok()?));
    }
    Some(digest.finalize().into())
}

impl Reloading {
    pub(super) fn every(interval: Duration) -> Self {
        Self { interval, watched: Vec::new(), by_token: None }
    }

    fn watch(
        &mut self,
        what: &'static str,
        sources: Vec<Source>,
        apply: impl Fn() -> Result<(), AccessError> + Send + Sync + 'static,
    ) {
        if sources.iter().any(Source::may_change) {
            self.watched.push(Watched::new(what, sources, apply));
        }
    }

    pub(super) fn policy(&mut self, source: Source, guard: &Guard) {
        let guard = guard.clone();
        self.watch("policy", vec![source.clone()], move || {
            guard.replace_policy(policy::read(&source)?);
            Ok(())
        });
    }

    pub(super) fn tokens(&mut self, source: Source, by_token: Arc<ByToken>, guard: &Guard) {
        let guard = guard.clone();
        self.watch("tokens", vec![source.clone()], move || {
            by_token.replace_tokens(Tokens::read(&source)?);
            guard.credentials_changed();
            Ok(())
        });
    }

    /// Those that are local change with their file; those that are fetched are fetched again by [`Reloading::run`].
    pub(super) fn keys(&mut self, by_token: Arc<ByToken>, guard: &Guard) {
        let Some(jwt) = &by_token.jwt else { return };
        if let KeyPlace::Local(source) = jwt.settings().keys.clone() {
            let (by_token, guard) = (Arc::clone(&by_token), guard.clone());
            self.watch("key set", vec![source.clone()], move || {
                if let Some(jwt) = &by_token.jwt {
                    jwt.replace_keys(KeySet::parse(&source.read()?, &jwt.settings().keys)?);
                    guard.credentials_changed();
                }
                Ok(())
            });
        }
        self.by_token = Some((by_token, guard.clone()));
    }

    pub(super) fn certificates(&mut self, tls: Arc<Tls>) {
        let sources = tls.sources().cloned().collect();
        self.watch("certificates", sources, move || Ok(tls.reload()?));
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { interval, watched, by_token } = self;
        let fetching = async {
            match &by_token {
                Some((by_token, guard)) if let Some(jwt) = &by_token.jwt => {
                    jwt.keep_fetching(|| guard.credentials_changed()).await;
                }
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = look_now_and_then(interval, watched) => {}
            () = fetching => {}
        }
    }
}

async fn look_now_and_then(interval: Duration, mut watched: Vec<Watched>) {
    if watched.is_empty() {
        return std::future::pending().await;
    }
    let mut hang_up = HangUp::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = hang_up.recv() => tracing::info!("asked to look at policy, tokens and certificates"),
        }
        // Off the threads of the runtime: files may be on a network.
        let looked = tokio::task::spawn_blocking(move || {
            watched.iter_mut().for_each(Watched::look);
            watched
        });
        match looked.await {
            Ok(again) => watched = again,
            Err(_) => {
                tracing::error!(
                    "looking at policy, tokens and certificates died; what holds goes on holding"
                );
                return std::future::pending().await;
            }
        }
    }
}

/// SIGHUP, where there is one.
struct HangUp(#[cfg(unix)] Option<tokio::signal::unix::Signal>);

impl HangUp {
    #[cfg(unix)]
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self(signal(SignalKind::hangup()).ok())
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self()
    }

    async fn recv(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
