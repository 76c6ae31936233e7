//! Tokens that somebody else signs: JSON Web Tokens (RFC 7519), checked as RFC 8725 advises.

use super::key_set::{Fetcher, KeyPlace, KeySet, KeySetError};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use leasehold_core::{identity::Principal, time::Timestamp};
use leasehold_service::access::{Identity, Unauthenticated};
use parking_lot::RwLock;
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// How much the clocks of those who sign may differ from ours.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(10);
/// Keys that are fetched are fetched anew so often.
const FETCH_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// And because of a token with an unknown key, not more often than this: tokens are easily made up.
const FETCH_PAUSE: Duration = Duration::from_secs(10);
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
    /// When keys were last asked for. Held while they are.
    fetched: Mutex<Option<Instant>>,
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
    pub(super) async fn start(settings: JwtSettings) -> Result<Self, KeySetError> {
        let (fetcher, keys) = match &settings.keys {
            KeyPlace::Local(source) => (None, KeySet::parse(&source.read()?, &settings.keys)?),
            KeyPlace::Url(url) => {
                let fetcher = Fetcher::new(url)?;
                let keys = fetcher.fetch().await?;
                (Some(fetcher), keys)
            }
        };
        Ok(Self { settings, fetcher, state: RwLock::new(State::of(keys)), fetched: Mutex::new(None) })
    }

    pub(super) fn settings(&self) -> &JwtSettings {
        &self.settings
    }

    pub(super) fn replace_keys(&self, keys: KeySet) {
        *self.state.write() = State::of(keys);
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

    /// Fetches the keys, but not too soon again. Whoever comes meanwhile waits for the same.
    pub(super) async fn learn(&self) {
        self.fetch_after(FETCH_PAUSE).await;
    }

    async fn fetch_after(&self, pause: Duration) -> bool {
        let Some(fetcher) = &self.fetcher else { return false };
        let mut fetched = self.fetched.lock().await;
        if fetched.is_some_and(|at| at.elapsed() < pause) {
            return false;
        }
        let answer = fetcher.fetch().await;
        *fetched = Some(now());
        match answer {
            Ok(keys) => {
                self.replace_keys(keys);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the keys that tokens are signed with could not be fetched; going on with those that are known");
                false
            }
        }
    }

    /// Fetches the keys now and then, for good, and says so each time. Never, where they are not fetched.
    pub(super) async fn keep_fetching(&self, fetched: impl Fn()) {
        if self.fetcher.is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(FETCH_INTERVAL).await;
            if self.fetch_after(FETCH_INTERVAL / 2).await {
                fetched();
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "for pauses between fetches, which decide nothing else")]
fn now() -> Instant {
    Instant::now()
}
