//! The guard as a layer over the service: who is not let in is answered before anything of the call is read.

use super::{Caller, Credentials, Guard, Peer, Unauthenticated};
use crate::edge::EdgeError;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Either},
};
use std::{
    convert::Infallible,
    task::{Context, Poll},
};
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;

/// A service behind a guard.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S> Guarded<S> {
    pub(crate) fn new(guard: Guard, inner: S) -> Self {
        Self { guard, inner }
    }
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

type Answer = Result<http::Response<Body>, Infallible>;

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Answer>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if self.guard.0.is_none() {
            return Either::Left(self.inner.call(request));
        }
        let admitted = credentials(&request).and_then(|credentials| {
            self.guard
                .admit(credentials.clone())
                .map_err(|why| Refused { why, credentials: Some(credentials) })
        });
        match admitted {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Either::Left(self.inner.call(request))
            }
            Err(Refused { why, credentials: Some(credentials) }) if why.is_of_unknown_key => {
                let (guard, mut inner) = (self.guard.clone(), self.inner.clone());
                let call = async move {
                    guard.learn().await;
                    match guard.admit(credentials) {
                        Ok(caller) => {
                            request.extensions_mut().insert::<Caller>(caller);
                            inner.call(request).await
                        }
                        Err(why) => Ok(answer(why)),
                    }
                };
                Either::Right(call.boxed())
            }
            Err(Refused { why, .. }) => Either::Right(futures::future::ready(Ok(answer(why))).boxed()),
        }
    }
}

struct Refused {
    why: Unauthenticated,
    credentials: Option<Credentials>,
}

fn answer(why: Unauthenticated) -> http::Response<Body> {
    Status::from(EdgeError::Unauthenticated(why)).into_http()
}

const SEVERAL: Unauthenticated =
    Unauthenticated::because("the call has more than one authorization header: present one token");
const NOT_BEARER: Unauthenticated = Unauthenticated::because(
    "the call's authorization header is not `Bearer` and a token: present one in that form",
);

fn credentials(request: &http::Request<Body>) -> Result<Credentials, Refused> {
    let refused = |why| Refused { why, credentials: None };
    let mut headers = request.headers().get_all(http::header::AUTHORIZATION).iter();
    let bearer = match (headers.next(), headers.next()) {
        (None, _) => None,
        (Some(_), Some(_)) => return Err(refused(SEVERAL)),
        (Some(header), None) => {
            // RFC 9110, section 11.1: the scheme in any case, one space or more, the token.
            let token =
                header.to_str().ok().and_then(|text| text.split_once(' ')).and_then(|(scheme, rest)| {
                    let token = rest.trim_start_matches(' ');
                    let is_one = !token.is_empty() && !token.contains([' ', '\t', ',']);
                    (scheme.eq_ignore_ascii_case("bearer") && is_one).then_some(token)
                });
            Some(token.ok_or_else(|| refused(NOT_BEARER))?.into())
        }
    };
    Ok(Credentials { bearer, peer: request.extensions().get::<Option<Peer>>().cloned().flatten() })
}
