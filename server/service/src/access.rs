//! Who calls, and what they may do, as long as they may.
//!
//! A [`Guard`] stands before the service. It asks an [`Authenticator`] who presents a token or a certificate, and its policy
//! what that principal may do. Both may change while calls are in progress: a stream asks again after every change, and ends
//! with what let it in.

use crate::time::Clock;
use futures::{FutureExt as _, future::BoxFuture};
use leasehold_core::{
    access::{Permissions, Policy, Right},
    identity::{Principal, TenantId},
    time::Timestamp,
};
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;
use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::sync::watch;

mod layer;

pub(crate) use layer::Guarded;

/// How many principals' permissions are kept at hand.
const REMEMBERED_PRINCIPALS: usize = 10_000;
/// Time that passes on the wall clock is looked at so often: it may be put forward.
const LONGEST_NAP: Duration = Duration::from_secs(10);

/// What a caller shows of itself.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The token of `authorization: Bearer`, where it came with exactly one.
    pub bearer: Option<Arc<str>>,
    /// Whom the certificate of the connection names, where there is one.
    pub peer: Option<Peer>,
}

/// Never shows the token.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bearer = self.bearer.as_ref().map(|_| "...");
        f.debug_struct("Credentials").field("bearer", &bearer).field("peer", &self.peer).finish()
    }
}

/// Whom the certificate of a connection names. A transport that verified one gives this as its connection's information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The principal.
    pub principal: Principal,
    /// The certificate's end.
    pub until: Timestamp,
}

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The principal.
    pub principal: Principal,
    /// Until when that is said, where it is not for good.
    pub until: Option<Timestamp>,
}

/// Why nobody is known by what was presented. `Display` is for the caller: it never holds any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unauthenticated {
    /// What is wrong with it.
    pub why: &'static str,
    /// It is signed by a key that is not known yet: [`Authenticator::learn`] may help.
    pub is_of_unknown_key: bool,
}

impl Unauthenticated {
    /// For this reason, and nothing that could be learnt changes it.
    pub const fn because(why: &'static str) -> Self {
        Self { why, is_of_unknown_key: false }
    }
}

/// Says who presents credentials.
pub trait Authenticator: fmt::Debug + Send + Sync + 'static {
    /// By what is known at this moment. Called for every call: cheap for those who called before.
    ///
    /// # Errors
    /// [`Unauthenticated`], for whom nothing vouches.
    fn authenticate(&self, credentials: &Credentials, now: Timestamp) -> Result<Identity, Unauthenticated>;

    /// Tries to find out more, after a refusal because of an unknown key. Returns at once where there is nothing to be found out, or
    /// not so soon again.
    fn learn(&self) -> BoxFuture<'_, ()>;
}

/// Stands before the service. Cheap to clone; clones share the policy.
#[derive(Clone, Debug)]
pub struct Guard(Option<Arc<Guarding>>);

#[derive(Debug)]
struct Guarding {
    authenticator: Arc<dyn Authenticator>,
    clock: Arc<dyn Clock>,
    ruling: RwLock<Ruling>,
    /// Counts the changes of policy and credentials.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ruling {
    policy: Arc<Policy>,
    permissions: Arc<Cache<Principal, Arc<Permissions>>>,
}

impl Ruling {
    fn by(policy: Policy) -> Self {
        Self { policy: Arc::new(policy), permissions: Arc::new(Cache::new(REMEMBERED_PRINCIPALS)) }
    }

    fn permissions(&self, principal: &Principal) -> Arc<Permissions> {
        let found = self.permissions.get_or_insert_with(principal, || {
            Ok::<_, std::convert::Infallible>(Arc::new(self.policy.permissions(principal)))
        });
        match found {
            Ok(permissions) => permissions,
        }
    }
}

impl Guard {
    /// Lets everybody do everything: for a network in which everybody may.
    pub fn open() -> Self {
        Self(None)
    }

    /// Lets those do what the policy allows whom the authenticator knows.
    pub fn new(authenticator: Arc<dyn Authenticator>, policy: Policy, clock: Arc<dyn Clock>) -> Self {
        let ruling = RwLock::new(Ruling::by(policy));
        Self(Some(Arc::new(Guarding { authenticator, clock, ruling, changes: watch::Sender::new(0) })))
    }

    /// From here on another policy holds, also for streams that are open.
    pub fn replace_policy(&self, policy: Policy) {
        if let Some(guarding) = &self.0 {
            *guarding.ruling.write() = Ruling::by(policy);
            guarding.announce();
        }
    }

    /// What the authenticator knows has changed: streams that are open are asked again who they are.
    pub fn credentials_changed(&self) {
        if let Some(guarding) = &self.0 {
            guarding.announce();
        }
    }

    /// Lets a call in, with what its caller may do.
    ///
    /// # Errors
    /// [`Unauthenticated`].
    pub(crate) fn admit(&self, credentials: Credentials) -> Result<Caller, Unauthenticated> {
        let Some(guarding) = &self.0 else { return Ok(Caller::anybody()) };
        let standing = Mutex::new(guarding.standing(&credentials)?);
        Ok(Caller(Some(Arc::new(Known { guarding: Arc::clone(guarding), credentials, standing }))))
    }

    async fn learn(&self) {
        if let Some(guarding) = &self.0 {
            guarding.authenticator.learn().await;
        }
    }

    /// Whoever the layer let in. A call that did not pass it is refused: a way around it would be one around everything.
    pub(crate) fn caller(&self, extensions: &http::Extensions) -> Result<Caller, Unauthenticated> {
        match &self.0 {
            None => Ok(Caller::anybody()),
            Some(_) => extensions.get::<Caller>().cloned().ok_or(NOT_ADMITTED),
        }
    }
}

const NOT_ADMITTED: Unauthenticated = Unauthenticated::because("the call was not authenticated");
const EXPIRED: Unauthenticated = Unauthenticated::because(
    "what the call was let in by has expired: go on with a new token or certificate",
);

impl Guarding {
    fn announce(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn standing(&self, credentials: &Credentials) -> Result<Standing, Unauthenticated> {
        // Before the question: a change in between is noticed the next time.
        let changes = *self.changes.borrow();
        let Identity { principal, until } =
            self.authenticator.authenticate(credentials, self.clock.now().wall)?;
        let permissions = self.ruling.read().permissions(&principal);
        Ok(Standing { changes, until, permissions })
    }
}

/// Who makes a call, and what they may do. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Option<Arc<Known>>);

#[derive(Debug)]
struct Known {
    guarding: Arc<Guarding>,
    credentials: Credentials,
    standing: Mutex<Standing>,
}

/// What holds for a caller until something changes.
#[derive(Clone, Debug)]
struct Standing {
    changes: u64,
    until: Option<Timestamp>,
    permissions: Arc<Permissions>,
}

impl Caller {
    fn anybody() -> Self {
        Self(None)
    }

    /// What they may do now.
    ///
    /// # Errors
    /// [`Unauthenticated`], where what let them in holds no more.
    pub(crate) fn permissions(&self) -> Result<Arc<Permissions>, Unauthenticated> {
        static EVERYTHING: LazyLock<Arc<Permissions>> =
            LazyLock::new(|| Arc::new(Permissions::unrestricted()));
        let Some(known) = &self.0 else { return Ok(Arc::clone(&EVERYTHING)) };
        known.now_standing().map(|standing| standing.permissions)
    }

    /// Waits until they may do this to no tenant any more; `None` where nobody is asked.
    pub(crate) fn loses_everywhere(self, right: Right) -> Option<BoxFuture<'static, Lost>> {
        let loses = move |permissions: &Permissions| (!permissions.allow_anywhere(right)).then_some(None);
        self.0.is_some().then(|| async move { self.loses_where(loses).await }.boxed())
    }

    /// Waits until they may no longer do this to one of these tenants.
    pub(crate) async fn loses(&self, right: Right, tenants: &[TenantId]) -> Lost {
        let denies = |permissions: &Permissions| {
            tenants.iter().find(|tenant| !permissions.allow(right, tenant)).map(|tenant| Some(tenant.clone()))
        };
        self.loses_where(denies).await
    }

    /// Waits until nothing vouches for them any more, or this says what they have lost.
    async fn loses_where(&self, lost: impl Fn(&Permissions) -> Option<Option<TenantId>>) -> Lost {
        let Some(known) = &self.0 else { return std::future::pending().await };
        let mut changes = known.guarding.changes.subscribe();
        loop {
            let standing = match known.now_standing() {
                Ok(standing) => standing,
                Err(why) => return Lost::Identity(why),
            };
            if let Some(tenant) = lost(&standing.permissions) {
                return Lost::Right(tenant);
            }
            let left = standing.until.map(|until| until.since(known.guarding.clock.now().wall));
            tokio::select! {
                // The sender lives as long as the caller does.
                _ = changes.changed() => {}
                () = tokio::time::sleep(left.unwrap_or(LONGEST_NAP).min(LONGEST_NAP)) => {}
            }
        }
    }
}

/// Why a stream that was let in ends.
#[derive(Clone, Debug)]
pub(crate) enum Lost {
    /// Nothing vouches for its caller any more.
    Identity(Unauthenticated),
    /// Its caller may not reach this tenant any more, or none.
    Right(Option<TenantId>),
}

impl Known {
    fn now_standing(&self) -> Result<Standing, Unauthenticated> {
        let mut standing = self.standing.lock();
        if *self.guarding.changes.borrow() != standing.changes {
            *standing = self.guarding.standing(&self.credentials)?;
        }
        match standing.until {
            Some(until) if until <= self.guarding.clock.now().wall => Err(EXPIRED),
            _ => Ok(standing.clone()),
        }
    }
}
