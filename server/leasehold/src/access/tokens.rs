//! Static tokens as they are written: TOML, each with its secret or the secret's digest.

use super::{AccessError, source::Source};
use leasehold_core::identity::{InvalidName, Principal};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::{collections::HashMap, fmt};

/// The shortest secret: below this, guessing would be worth a try.
const MIN_SECRET_BYTES: usize = 20;
/// The longest secret.
const MAX_SECRET_BYTES: usize = 1024;

/// Why a text holds no tokens. Never shows one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// It is no TOML, or has what no file of tokens has.
    #[error("{0}")]
    Form(String),
    /// There are none in it.
    #[error("has no [[token]]")]
    Empty,
    /// A principal's name is none.
    #[error("token {place}: principal {why}")]
    Principal {
        /// Counted from 1.
        place: usize,
        /// Why.
        why: InvalidName,
    },
    /// A secret is none.
    #[error("token {place}: {why}")]
    Secret {
        /// Counted from 1.
        place: usize,
        /// Why.
        why: &'static str,
    },
}

/// Whom each token names, by the token's digest: looking one up takes no time that tells how much of it was right.
#[derive(Default)]
pub(super) struct Tokens(HashMap<[u8; 32], Principal>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    principal: String,
    secret: Option<String>,
    sha256: Option<String>,
}

impl Tokens {
    /// The tokens that this text of `source` has. At the start none at all is a mistake; later it may be meant, when the last
    /// one is taken away.
    pub(super) fn read(text: &str, source: &Source, is_first: bool) -> Result<Self, AccessError> {
        let wrong = |error| AccessError::Tokens { place: source.to_string(), source: error };
        let tokens = Self::parse(text).map_err(wrong)?;
        if !tokens.0.is_empty() {
            return Ok(tokens);
        }
        if is_first {
            return Err(wrong(TokensError::Empty));
        }
        tracing::warn!(place = %source, "there are no tokens any more: no static token is accepted");
        Ok(tokens)
    }

    pub(super) fn parse(text: &str) -> Result<Self, TokensError> {
        let File { token: written } =
            toml::from_str(text).map_err(|error| TokensError::Form(told(text, &error)))?;
        let mut tokens = HashMap::with_capacity(written.len());
        for (at, Written { principal, secret, sha256 }) in written.into_iter().enumerate() {
            let place = at + 1;
            let wrong = |why| TokensError::Secret { place, why };
            let principal =
                Principal::parse(&principal).map_err(|why| TokensError::Principal { place, why })?;
            let digest = match (secret, sha256) {
                (Some(secret), None) => {
                    if !(MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&secret.len()) {
                        return Err(wrong("secret must have 20 to 1024 characters"));
                    }
                    if !secret.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
                        return Err(wrong(
                            "secret must be visible ASCII without commas, as it goes into a header",
                        ));
                    }
                    digest(&secret)
                }
                (None, Some(text)) => hex::decode(&text)
                    .ok()
                    .and_then(|bytes| bytes.try_into().ok())
                    .ok_or_else(|| wrong("sha256 must have 64 hexadecimal digits"))?,
                (Some(_), Some(_)) | (None, None) => return Err(wrong("needs either secret or sha256")),
            };
            if tokens.insert(digest, principal).is_some() {
                return Err(wrong("is there twice"));
            }
        }
        Ok(Self(tokens))
    }

    pub(super) fn principal(&self, token: &str) -> Option<&Principal> {
        self.0.get(&digest(token))
    }
}

/// Where it is wrong, and what it must be. Not what stands there, as the parser would tell: it may be a secret.
fn told(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    format!(
        "line {line}, or near it: must be TOML, of [[token]] with principal, and secret or sha256, each a text in quotes"
    )
}

pub(super) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a-secret-that-is-long-enough";

    #[test]
    fn tokens_are_known_by_secret_and_by_digest_and_a_principal_may_have_two() {
        let digest = hex::encode(digest("another-secret-that-is-long"));
        let text = format!(
            "[[token]]\nprincipal = \"a\"\nsecret = \"{SECRET}\"\n[[token]]\nprincipal = \"a\"\nsha256 = \"{digest}\"\n"
        );
        let tokens = Tokens::parse(&text).unwrap();
        for secret in [SECRET, "another-secret-that-is-long"] {
            assert_eq!(tokens.principal(secret).map(Principal::as_str), Some("a"));
        }
        for wrong in ["", "a", &SECRET[1..], &digest, &SECRET.to_uppercase()] {
            assert_eq!(tokens.principal(wrong), None);
        }
        assert!(!format!("{tokens:?}").contains(SECRET));
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said_and_the_token_is_not() {
        let token = |fields: &str| format!("[[token]]\nprincipal = \"a\"\n{fields}\n");
        let twice = token(&format!("secret = \"{SECRET}\"")).repeat(2);
        let table = [
            (token(""), "token 1: needs either"),
            (token(&format!("secret = \"{SECRET}\"\nsha256 = \"00\"")), "token 1: needs either"),
            (token("secret = \"xyzzy-short\""), "token 1: secret must have 20 to 1024"),
            (token("secret = \"xyzzy with spaces in it, long\""), "token 1: secret must be visible"),
            (token("sha256 = \"xyzzy\""), "token 1: sha256 must have 64"),
            (token(&format!("secret = \"{SECRET}\"\nxyzzy-short = 1")), "line 4"),
            (format!("token = \"{SECRET}\""), "line 1"),
            (token(&format!("\"{SECRET}\" = \"x\"")), "must be TOML"),
            (token("secret = 12345678901234567890"), "must be TOML"),
            (twice, "token 2: is there twice"),
            (
                format!("[[token]]\nprincipal = \"\"\nsecret = \"{SECRET}\"\n"),
                "token 1: principal must not be empty",
            ),
            (format!("[[token]]\nprincipal = \"a\"\nsecret = {SECRET}\n"), ""),
        ];
        for (text, why) in table {
            let error = Tokens::parse(&text).expect_err(&text).to_string();
            assert!(error.contains(why), "{text}: {error}");
            for secret in [SECRET, "xyzzy-short", "1234567890"] {
                assert!(!error.contains(secret), "{error}");
            }
        }
    }
}
