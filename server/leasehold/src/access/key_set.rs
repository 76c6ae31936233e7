//! The keys that tokens are signed with: a JSON Web Key Set (RFC 7517), from a file or fetched.

use super::{
    source::{Source, SourceError},
    tokens::digest,
};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse},
};
use std::{fmt, time::Duration};

/// The largest key set, in bytes.
const MAX_KEY_SET_BYTES: usize = 1 << 20;
/// How long fetching one may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a key set is.
#[derive(Clone)]
pub enum KeyPlace {
    /// Here.
    Local(Source),
    /// At this URL: https, or http on this machine.
    Url(String),
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(source) => source.fmt(f),
            Self::Url(url) => match reqwest::Url::parse(url) {
                // Query and password may be what is nobody's business.
                Ok(url) => {
                    let (host, port) = (url.host_str().unwrap_or_default(), url.port());
                    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                    write!(f, "{}://{host}{port}{}", url.scheme(), url.path())
                }
                Err(_) => f.write_str("a URL"),
            },
        }
    }
}

impl fmt::Debug for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPlace({self})")
    }
}

/// Why there is no key set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// The text cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It was not fetched.
    #[error("cannot fetch the key set {place}: {why}")]
    Fetch {
        /// From where.
        place: String,
        /// Why not.
        why: String,
    },
    /// It is none.
    #[error("{place}: {why}")]
    Form {
        /// From where.
        place: String,
        /// Why not.
        why: String,
    },
}

impl KeySetError {
    pub(super) fn empty(place: &KeyPlace) -> Self {
        let why = "holds no public key that tokens can be checked with: RSA, P-256, P-384 or Ed25519, not kept for \
                   encryption";
        Self::Form { place: place.to_string(), why: why.to_owned() }
    }
}

/// The keys, each with what it may be used for.
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Of the text that they are from.
    digest: [u8; 32],
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(super) decoding: DecodingKey,
}

impl KeySet {
    pub(super) fn parse(text: &str, place: &KeyPlace) -> Result<Self, KeySetError> {
        let wrong = |why: &str| KeySetError::Form { place: place.to_string(), why: why.to_owned() };
        let set: JwkSet =
            serde_json::from_str(text).map_err(|_| wrong("is no JSON Web Key Set (RFC 7517)"))?;
        // One that is for something else, or of a kind that is not known here, is none of ours.
        let keys = set.keys.iter().filter_map(Key::of).collect();
        Ok(Self { keys, digest: digest(text) })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key that a token says it is signed with. Without an id there must be one that it could be.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        match id {
            Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }
}

impl Key {
    fn of(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let for_signatures =
            common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature)
                && common.key_operations.as_ref().is_none_or(|used| used.contains(&KeyOperations::Verify));
        // Never a shared secret: whoever may read the set could sign with it.
        let algorithms: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => &[],
            },
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
                &[Algorithm::EdDSA]
            }
            _ => &[],
        };
        let stated = common.key_algorithm.map(|stated| stated.to_string().parse::<Algorithm>().ok());
        let algorithms: Vec<_> = algorithms
            .iter()
            .copied()
            .filter(|algorithm| stated.is_none_or(|stated| stated == Some(*algorithm)))
            .collect();
        if !for_signatures || algorithms.is_empty() {
            return None;
        }
        Some(Self { id: common.key_id.clone(), algorithms, decoding: DecodingKey::from_jwk(jwk).ok()? })
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

/// Fetches key sets.
#[derive(Clone, Debug)]
pub(super) struct Fetcher {
    client: reqwest::Client,
    url: String,
}

impl Fetcher {
    pub(super) fn new(url: &str) -> Result<Self, KeySetError> {
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            // Keys are believed because of where they come from.
            .redirect(reqwest::redirect::Policy::none());
        // What is in plain text is on this machine, and stays there.
        let client = if url.starts_with("http:") { client.no_proxy() } else { client };
        let client = client.build().map_err(|error| KeySetError::Fetch {
            place: KeyPlace::Url(url.to_owned()).to_string(),
            why: error.without_url().to_string(),
        })?;
        Ok(Self { client, url: url.to_owned() })
    }

    pub(super) async fn fetch(&self) -> Result<KeySet, KeySetError> {
        let place = KeyPlace::Url(self.url.clone());
        let failed = |why: String| KeySetError::Fetch { place: place.to_string(), why };
        let by_http = |error: reqwest::Error| failed(rooted(&error.without_url()));
        let mut answer = self.client.get(&self.url).send().await.map_err(by_http)?;
        if !answer.status().is_success() {
            return Err(failed(format!("the answer is {}", answer.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(by_http)? {
            if body.len() + chunk.len() > MAX_KEY_SET_BYTES {
                return Err(failed(format!("it is over the limit of {MAX_KEY_SET_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        KeySet::parse(&String::from_utf8_lossy(&body), &place)
    }
}

fn rooted(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
