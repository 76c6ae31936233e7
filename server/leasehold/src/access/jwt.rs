//! Tokens that somebody else signs: JSON Web Tokens (RFC 7519), checked as RFC 8725 advises.

use super::key_set::{Fetcher, KeyPlace, KeySet, KeySetError};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use leasehold_core::{identity::Principal, time::Timestamp};
use leasehold_service::access::{Identity, Unauthenticated};
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};

/// How much the clocks of those who sign may differ from ours.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(10);
/// Keys that are fetched are fetched anew so often.
const FETCH_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// And because of a token with an unknown key, not more often than this: tokens are easily made up.
const FETCH_PAUSE: Duration = Duration::from_secs(10);
/// So many calls wait for keys at a time; others are refused at once.
const WAITING_CALLS: usize = 256;
/// Tokens whose signature was checked, and need not be checked again.
const REMEMBERED_TOKENS: usize = 10_000;
/// The longest token that is looked at, in bytes. With the other headers of a call it must fit into 16 KiB anyway.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Whose tokens are believed.
#[derive(Clone, Debug)]
pub struct JwtSettings {
    /// The keys that they are signed with.
    pub keys: KeyPlace,
    /// Who must have issued them: `iss`.
    pub issuer: String,
    /// For whom they must be: `aud`.
    pub audience: String,
    /// The claim that names the principal.
    pub principal_claim: String,
}

/// What of a token holds for as long as it does.
#[derive(Clone, Debug)]
struct Checked {
    principal: Principal,
    not_before: Timestamp,
    until: Timestamp,
}

/// Checks tokens.
pub(super) struct Jwt {
    settings: JwtSettings,
    fetcher: Option<Fetcher>,
    state: RwLock<State>,
    fetching: Fetching,
}

/// One task fetches, for all who want it: a caller that goes away takes nothing with it.
struct Fetching {
    wanted: Notify,
    /// Counts what was fetched, or tried to.
    rounds: watch::Sender<u64>,
    last: Mutex<Option<Instant>>,
    /// Calls that wait for it.
    waiting: Semaphore,
}

/// Keys, and what was checked with them: replaced together.
struct State {
    keys: Arc<KeySet>,
    checked: Arc<Cache<[u8; 32], Checked>>,
}

impl State {
    fn of(keys: KeySet) -> Self {
        Self { keys: Arc::new(keys), checked: Arc::new(Cache::new(REMEMBERED_TOKENS)) }
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("settings", &self.settings).finish_non_exhaustive()
    }
}

const MALFORMED: Unauthenticated =
    Unauthenticated::because("the call's token is not known here, and is no JWT");
const TOO_LONG: Unauthenticated =
    Unauthenticated::because("the call's token is over the limit of 8192 bytes");
const UNKNOWN_KEY: Unauthenticated = Unauthenticated {
    why: "the call's token is signed by a key that is not known here",
    is_of_unknown_key: true,
};
const WRONG: Unauthenticated = Unauthenticated::because(
    "the call's token is not valid: its signature, its issuer or its audience is not what it must be",
);
const NO_PRINCIPAL: Unauthenticated =
    Unauthenticated::because("the call's token does not name its principal as it must");
const NO_EXPIRY: Unauthenticated = Unauthenticated::because("the call's token has no `exp`: it must expire");
const EXPIRED: Unauthenticated = Unauthenticated::because("the call's token has expired");
const TOO_EARLY: Unauthenticated = Unauthenticated::because("the call's token is not valid yet");

impl Jwt {
    /// `text` is that of a local key set.
    pub(super) async fn start(settings: JwtSettings, text: Option<&str>) -> Result<Self, KeySetError> {
        let (fetcher, keys) = match &settings.keys {
            KeyPlace::Local(_) => (None, KeySet::parse(text.unwrap_or_default(), &settings.keys)?),
            KeyPlace::Url(url) => {
                let fetcher = Fetcher::new(url)?;
                let keys = fetcher.fetch().await?;
                (Some(fetcher), keys)
            }
        };
        if keys.is_empty() {
            return Err(KeySetError::empty(&settings.keys));
        }
        let fetching = Fetching {
            wanted: Notify::new(),
            rounds: watch::Sender::new(0),
            last: Mutex::new(None),
            waiting: Semaphore::new(WAITING_CALLS),
        };
        Ok(Self { settings, fetcher, state: RwLock::new(State::of(keys)), fetching })
    }

    /// Whether these are others than before. What was checked with those is forgotten.
    pub(super) fn replace_keys(&self, keys: KeySet) -> bool {
        if keys.is_empty() {
            tracing::warn!(
                "the key set holds no key that tokens can be checked with: no signed token is accepted"
            );
        }
        let mut state = self.state.write();
        let differ = *state.keys != keys;
        if differ {
            *state = State::of(keys);
        }
        differ
    }

    /// Who presents this token, whose digest this is.
    pub(super) fn authenticate(
        &self,
        token: &str,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<Identity, Unauthenticated> {
        let (keys, known) = {
            let state = self.state.read();
            (Arc::clone(&state.keys), Arc::clone(&state.checked))
        };
        let checked = match known.get(&digest) {
            Some(checked) => checked,
            None => {
                let checked = self.check(&keys, token)?;
                known.insert(digest, checked.clone());
                checked
            }
        };
        let Checked { principal, not_before, until } = checked;
        if until.plus(CLOCK_TOLERANCE) <= now {
            return Err(EXPIRED);
        }
        if now.plus(CLOCK_TOLERANCE) < not_before {
            return Err(TOO_EARLY);
        }
        Ok(Identity { principal, until: Some(until.plus(CLOCK_TOLERANCE)) })
    }

    fn check(&self, keys: &KeySet, token: &str) -> Result<Checked, Unauthenticated> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TOO_LONG);
        }
        let header = decode_header(token).map_err(|_| MALFORMED)?;
        // An extension that must be understood (RFC 7515, section 4.1.11), and none is.
        if header.crit.is_some() {
            return Err(WRONG);
        }
        if matches!(header.alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
            return Err(WRONG);
        }
        let key = keys.find(header.kid.as_deref(), header.alg).ok_or(UNKNOWN_KEY)?;
        let JwtSettings { keys: _, issuer, audience, principal_claim } = &self.settings;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["iss", "aud"]);
        // Times are ours to judge, by the one clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims: Map<String, Value> = decode(token, &key.decoding, &validation).map_err(|_| WRONG)?.claims;
        // Whole seconds as a number, fractions allowed (RFC 7519, section 2).
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(secs) if secs >= 0.0 => Ok(Some(Timestamp::from_millis((secs * 1000.0) as u64))),
                _ => Err(WRONG),
            },
        };
        let principal = claims.get(principal_claim).and_then(Value::as_str).map(Principal::parse);
        Ok(Checked {
            principal: principal.and_then(Result::ok).ok_or(NO_PRINCIPAL)?,
            not_before: time("nbf")?.unwrap_or_default(),
            until: time("exp")?.ok_or(NO_EXPIRY)?,
        })
    }

    /// Has the keys fetched, but not too soon again, and waits for that.
    pub(super) async fn learn(&self) {
        let Fetching { wanted, rounds, last, waiting } = &self.fetching;
        if self.fetcher.is_none() || last.lock().is_some_and(|at| at.elapsed() < FETCH_PAUSE) {
            return;
        }
        let Ok(_place) = waiting.try_acquire() else { return };
        let mut rounds = rounds.subscribe();
        wanted.notify_one();
        // It ends with the task that fetches, or with a fetch that takes too long.
        let _ = tokio::time::timeout(FETCH_PAUSE, rounds.changed()).await;
    }

    /// Has the keys fetched soon, whoever asks.
    pub(super) fn want_keys(&self) {
        *self.fetching.last.lock() = None;
        self.fetching.wanted.notify_one();
    }

    /// Fetches the keys now and then and when they are wanted, for good, and calls `changed` when they are others. Never, where
    /// they are not fetched.
    pub(super) async fn keep_fetching(&self, changed: impl Fn()) {
        let Some(fetcher) = &self.fetcher else { return std::future::pending().await };
        let Fetching { wanted, rounds, last, .. } = &self.fetching;
        loop {
            tokio::select! {
                () = tokio::time::sleep(FETCH_INTERVAL) => {}
                () = wanted.notified() => {}
            }
            // Several may have wanted the same.
            if last.lock().is_some_and(|at| at.elapsed() < FETCH_PAUSE) {
                continue;
            }
            match fetcher.fetch().await {
                Ok(keys) => {
                    if self.replace_keys(keys) {
                        changed();
                    }
                }
                Err(error) => tracing::warn!(
                    %error,
                    "the keys that tokens are signed with could not be fetched; going on with those that are known"
                ),
            }
            *last.lock() = Some(now());
            rounds.send_modify(|rounds| *rounds += 1);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "for pauses between fetches, which decide nothing else")]
fn now() -> Instant {
    Instant::now()
}
