//! Who presents what.

use super::{
    jwt::Jwt,
    tokens::{Tokens, digest},
};
use futures::{FutureExt as _, future::BoxFuture};
use leasehold_core::time::Timestamp;
use leasehold_service::access::{Authenticator, Credentials, Identity, Unauthenticated};
use parking_lot::RwLock;

/// Knows callers by their tokens, static ones and those that somebody else signs.
#[derive(Debug)]
pub(super) struct ByToken {
    tokens: RwLock<Tokens>,
    pub(super) jwt: Option<Jwt>,
}

impl ByToken {
    pub(super) fn new(tokens: Tokens, jwt: Option<Jwt>) -> Self {
        Self { tokens: RwLock::new(tokens), jwt }
    }

    pub(super) fn replace_tokens(&self, tokens: Tokens) {
        *self.tokens.write() = tokens;
    }
}

const NO_TOKEN: Unauthenticated =
    Unauthenticated::because("the call comes with no token: present one as `authorization: Bearer ...`");
const UNKNOWN_TOKEN: Unauthenticated = Unauthenticated::because("the call's token is not known here");

impl Authenticator for ByToken {
    fn authenticate(&self, credentials: &Credentials, now: Timestamp) -> Result<Identity, Unauthenticated> {
        let token = credentials.bearer.as_deref().ok_or(NO_TOKEN)?;
        if let Some(principal) = self.tokens.read().principal(token) {
            return Ok(Identity { principal: principal.clone(), until: None });
        }
        match &self.jwt {
            Some(jwt) => jwt.authenticate(token, digest(token), now),
            None => Err(UNKNOWN_TOKEN),
        }
    }

    fn learn(&self) -> BoxFuture<'_, ()> {
        match &self.jwt {
            Some(jwt) => jwt.learn().boxed(),
            None => futures::future::ready(()).boxed(),
        }
    }
}

/// Knows callers by the certificates of their connections.
#[derive(Debug)]
pub(super) struct ByCertificate;

/// Without a certificate there is no connection.
const NAMES_NOBODY: Unauthenticated = Unauthenticated::because(
    "the client certificate of the connection names nobody: it needs one SPIFFE id, or a DNS name",
);
const EXPIRED_CERTIFICATE: Unauthenticated =
    Unauthenticated::because("the client certificate of the connection has expired: connect with a new one");

impl Authenticator for ByCertificate {
    fn authenticate(&self, credentials: &Credentials, now: Timestamp) -> Result<Identity, Unauthenticated> {
        let peer = credentials.peer.as_ref().ok_or(NAMES_NOBODY)?;
        if peer.until <= now {
            return Err(EXPIRED_CERTIFICATE);
        }
        Ok(Identity { principal: peer.principal.clone(), until: Some(peer.until) })
    }

    fn learn(&self) -> BoxFuture<'_, ()> {
        futures::future::ready(()).boxed()
    }
}
