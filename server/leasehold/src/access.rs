//! Who may call a coordinator, from flags and files to the guard before its service.
//!
//! - `source`: where the text of a policy, of tokens, of a certificate comes from.
//! - `policy`, `tokens`, `jwt` with `key_set`: what that text says.
//! - `certificates`: TLS, and whom a client's certificate names.
//! - `reload`: what has changed takes effect while calls go on.

mod authenticators;
mod certificates;
mod jwt;
mod key_set;
mod policy;
mod reload;
mod source;
mod tokens;

pub use certificates::CertificateError;
pub use jwt::JwtSettings;
pub use key_set::{KeyPlace, KeySetError};
pub use policy::PolicyError;
pub use source::{Source, SourceError};
pub use tokens::TokensError;

pub(crate) use certificates::{Tls, peer};

use authenticators::{ByCertificate, ByToken};
use jwt::Jwt;
use leasehold_service::{access::Guard, time::Clock};
use reload::Reloading;
use std::{sync::Arc, time::Duration};
use tokens::Tokens;
use tokio_util::sync::CancellationToken;

/// Who may call.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Everybody, and they may do everything.
    None,
    /// Whoever presents a token.
    Token {
        /// What each may do.
        policy: Source,
        /// Static tokens.
        tokens: Option<Source>,
        /// Tokens that somebody else signs.
        jwt: Option<JwtSettings>,
    },
    /// Whoever has a certificate of the client CA.
    Mtls {
        /// What each may do.
        policy: Source,
    },
}

impl Auth {
    /// As the flag writes it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Token { .. } => "token",
            Self::Mtls { .. } => "mtls",
        }
    }
}

/// How the coordinator shows who it is, and with mTLS whom it believes.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The chain, its own certificate first.
    pub certificate: Source,
    /// Its private key.
    pub key: Source,
    /// The authorities of clients.
    pub client_ca: Option<Source>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct AccessSettings {
    /// Who may call.
    pub auth: Auth,
    /// Without it, plain text.
    pub tls: Option<TlsSettings>,
    /// Files are looked at so often.
    pub reload_interval: Duration,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self { auth: Auth::None, tls: None, reload_interval: Duration::from_secs(10) }
    }
}

/// Why it cannot be told who may call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A text cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The policy is none.
    #[error("{place}: {source}")]
    Policy {
        /// Where it is from.
        place: String,
        /// What is wrong.
        source: PolicyError,
    },
    /// The tokens are none.
    #[error("{place}: {source}")]
    Tokens {
        /// Where they are from.
        place: String,
        /// What is wrong.
        source: TokensError,
    },
    /// The key set cannot be had, or is none.
    #[error(transparent)]
    Keys(#[from] KeySetError),
    /// The certificates are none.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
}

/// What stands before a coordinator.
pub(crate) struct Access {
    pub(crate) guard: Guard,
    pub(crate) tls: Option<Arc<Tls>>,
    reloading: Reloading,
}

impl Access {
    /// Reads everything that the settings name.
    pub(crate) async fn load(settings: AccessSettings, clock: Arc<dyn Clock>) -> Result<Self, AccessError> {
        let AccessSettings { auth, tls, reload_interval } = settings;
        // Each text is read once: what is in effect is what is compared with later.
        let mut reloading = Reloading::every(reload_interval, &auth);
        let tls = match tls {
            None => None,
            Some(settings) => {
                let sources = certificates::sources(&settings);
                let texts = source::read_all(&sources)?;
                let tls = Tls::load(settings, &texts)?;
                reloading.certificates(sources, &texts, Arc::clone(&tls));
                Some(tls)
            }
        };
        let guard = match auth {
            Auth::None => Guard::open(),
            Auth::Token { policy, tokens, jwt } => {
                let rules = policy.read()?;
                let guarded_by = policy::read(&rules, &policy, true)?;
                let (known, text) = match &tokens {
                    None => (Tokens::default(), None),
                    Some(source) => {
                        let text = source.read()?;
                        (Tokens::read(&text, source, true)?, Some(text))
                    }
                };
                let (jwt, keys) = match jwt {
                    None => (None, None),
                    Some(settings) => {
                        let keys = match &settings.keys {
                            KeyPlace::Local(source) => Some((source.clone(), source.read()?)),
                            KeyPlace::Url(_) => None,
                        };
                        let text = keys.as_ref().map(|(_, text)| &**text);
                        (Some(Jwt::start(settings, text).await?), keys)
                    }
                };
                let by_token = Arc::new(ByToken::new(known, jwt));
                let guard = Guard::new(Arc::clone(&by_token) as _, guarded_by, clock);
                reloading.policy(policy, rules, &guard);
                if let (Some(source), Some(text)) = (tokens, text) {
                    reloading.tokens(source, text, Arc::clone(&by_token), &guard);
                }
                reloading.keys(keys, by_token, &guard);
                guard
            }
            Auth::Mtls { policy } => {
                let rules = policy.read()?;
                let guard = Guard::new(Arc::new(ByCertificate), policy::read(&rules, &policy, true)?, clock);
                reloading.policy(policy, rules, &guard);
                guard
            }
        };
        Ok(Self { guard, tls, reloading })
    }

    /// Lets changes take effect, until `stop`.
    pub(crate) async fn keep_up(self, stop: CancellationToken) {
        self.reloading.run(stop).await;
    }
}
