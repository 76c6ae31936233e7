//! What has changed on disk takes effect, without a restart and without a connection that is dropped.
//!
//! Files are looked at every so often, and on SIGHUP. What cannot be used is said once, and what held before goes on holding.

use super::{
    AccessError, Auth,
    authenticators::ByToken,
    certificates::Tls,
    key_set::{KeyPlace, KeySet},
    policy,
    source::{self, Source},
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
    hang_up: HangUp,
}

type Apply = Box<dyn Fn(&[String]) -> Result<(), AccessError> + Send + Sync>;

/// Files that take effect together.
struct Watched {
    what: &'static str,
    sources: Vec<Source>,
    /// What they held when it was last decided about.
    seen: [u8; 32],
    /// Whether they could not be read the last time.
    is_unreadable: bool,
    apply: Apply,
}

impl Watched {
    fn look(&mut self) {
        let texts = match source::read_all(&self.sources) {
            Ok(texts) => texts,
            Err(error) => {
                if !self.is_unreadable {
                    tracing::error!(access.what = self.what, %error, "what held before goes on holding");
                }
                self.is_unreadable = true;
                return;
            }
        };
        self.is_unreadable = false;
        let holds = digest(&texts);
        if holds == self.seen {
            return;
        }
        self.seen = holds;
        match (self.apply)(&texts) {
            Ok(()) => tracing::info!(access.what = self.what, "read anew, and in effect"),
            Err(error) => {
                tracing::error!(access.what = self.what, %error, "cannot be used; what held before goes on holding");
            }
        }
    }
}

fn digest(texts: &[String]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(Sha256::digest(text));
    }
    digest.finalize().into()
}

impl Reloading {
    pub(super) fn every(interval: Duration, auth: &Auth) -> Self {
        // Where there is nobody to be told apart, a terminal that is closed ends the coordinator, as ever.
        let hang_up = HangUp::listen(!matches!(auth, Auth::None));
        Self { interval, watched: Vec::new(), by_token: None, hang_up }
    }

    /// `texts` are what is in effect.
    fn watch(&mut self, what: &'static str, sources: Vec<Source>, texts: &[String], apply: Apply) {
        if sources.iter().any(Source::may_change) {
            let seen = digest(texts);
            self.watched.push(Watched { what, sources, seen, is_unreadable: false, apply });
        }
    }

    pub(super) fn policy(&mut self, source: Source, text: String, guard: &Guard) {
        let (guard, place) = (guard.clone(), source.clone());
        let apply: Apply = Box::new(move |texts| {
            guard.replace_policy(policy::read(&texts[0], &place, false)?);
            Ok(())
        });
        self.watch("policy", vec![source], &[text], apply);
    }

    pub(super) fn tokens(&mut self, source: Source, text: String, by_token: Arc<ByToken>, guard: &Guard) {
        let (guard, place) = (guard.clone(), source.clone());
        let apply: Apply = Box::new(move |texts| {
            by_token.replace_tokens(Tokens::read(&texts[0], &place, false)?);
            guard.credentials_changed();
            Ok(())
        });
        self.watch("tokens", vec![source], &[text], apply);
    }

    /// Those that are local change with their file; those that are fetched are fetched again by [`Reloading::run`].
    pub(super) fn keys(&mut self, local: Option<(Source, String)>, by_token: Arc<ByToken>, guard: &Guard) {
        if let Some((source, text)) = local {
            let (by_token, guard, place) =
                (Arc::clone(&by_token), guard.clone(), KeyPlace::Local(source.clone()));
            let apply: Apply = Box::new(move |texts| {
                if let Some(jwt) = &by_token.jwt
                    && jwt.replace_keys(KeySet::parse(&texts[0], &place)?)
                {
                    guard.credentials_changed();
                }
                Ok(())
            });
            self.watch("key set", vec![source], &[text], apply);
        }
        self.by_token = Some((by_token, guard.clone()));
    }

    pub(super) fn certificates(&mut self, sources: Vec<Source>, texts: &[String], tls: Arc<Tls>) {
        self.watch("certificates", sources, texts, Box::new(move |texts| Ok(tls.reload(texts)?)));
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { interval, watched, by_token, hang_up } = self;
        let want_keys = || {
            if let Some(jwt) = by_token.as_ref().and_then(|(by_token, _)| by_token.jwt.as_ref()) {
                jwt.want_keys();
            }
        };
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
            () = look_now_and_then(interval, watched, hang_up, want_keys) => {}
            () = fetching => {}
        }
    }
}

async fn look_now_and_then(
    interval: Duration,
    mut watched: Vec<Watched>,
    mut hang_up: HangUp,
    want_keys: impl Fn(),
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = hang_up.recv() => {
                tracing::info!("asked to look at policy, tokens, keys and certificates");
                want_keys();
            }
        }
        if watched.is_empty() {
            continue;
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
    fn listen(listens: bool) -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self(listens.then(|| signal(SignalKind::hangup()).ok()).flatten())
    }

    #[cfg(not(unix))]
    fn listen(_: bool) -> Self {
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
