//! For what, and for whom, a store is asked: known where a call begins, and needed where its requests are counted.
//!
//! It goes with the task, as who asks has nothing to do with what a port must do. A task that is begun for a call's sake takes
//! it along.

use super::tenants::TenantMeters;
use crate::{
    engine::{EngineError, Places, TenantPlace},
    traces,
};
use opentelemetry::Context;
use std::sync::Arc;

/// What makes the coordinator ask a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// A page is looked up, and its body read: a hit that is not warm.
    Lookup,
    /// A lease is asked for.
    Acquire,
    /// Somebody waits for another's lease.
    Wait,
    /// A lease is renewed.
    Renew,
    /// A lease is given back.
    Release,
    /// A page is committed.
    Commit,
    /// A body is uploaded ahead of its commit.
    Upload,
    /// A page is streamed.
    Page,
    /// A sidecar is streamed.
    Sidecar,
    /// A body is read by its worker's name.
    Object,
    /// An invalidation is appended.
    Invalidate,
    /// The invalidation log is read.
    Tail,
    /// What was superseded is deleted.
    Deletion,
    /// None of these: a request that nobody has accounted for.
    Other,
}

impl Event {
    /// Whether it is of a render that goes on.
    pub(crate) const fn is_of_a_render(self) -> bool {
        match self {
            Self::Renew | Self::Release | Self::Commit | Self::Upload => true,
            Self::Lookup
            | Self::Acquire
            | Self::Wait
            | Self::Page
            | Self::Sidecar
            | Self::Object
            | Self::Invalidate
            | Self::Tail
            | Self::Deletion
            | Self::Other => false,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Acquire => "acquire",
            Self::Wait => "wait",
            Self::Renew => "renew",
            Self::Release => "release",
            Self::Commit => "commit",
            Self::Upload => "upload",
            Self::Page => "page",
            Self::Sidecar => "sidecar",
            Self::Object => "object",
            Self::Invalidate => "invalidate",
            Self::Tail => "tail",
            Self::Deletion => "deletion",
            Self::Other => "other",
        }
    }
}

/// Why a store is asked.
#[derive(Clone)]
pub(crate) struct Purpose {
    pub(crate) event: Event,
    /// For whom, where it is for one tenant.
    pub(crate) tenant: Option<Arc<TenantMeters>>,
    /// The call for whose sake, where it is traced.
    pub(crate) call: Option<Context>,
    /// For what is begun for it, where that is limited.
    room: Option<Room>,
}

/// Room for what is begun for calls and ended also when their callers have gone away: no limit of calls counts it then.
#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) all: Arc<Places>,
    pub(crate) of_tenant: Option<Arc<Places>>,
}

impl Room {
    fn take(&self) -> Result<TenantPlace, EngineError> {
        let of_tenant = self.of_tenant.as_ref().map(Places::take).transpose()?;
        Ok((self.all.take()?, of_tenant))
    }
}

tokio::task_local! {
    static PURPOSE: Purpose;
}

impl Purpose {
    /// For nobody in particular.
    pub(crate) fn of(event: Event) -> Self {
        Self { event, tenant: None, call: None, room: None }
    }

    /// For the call that is answered, which is a tenant's.
    pub(crate) fn of_tenant(event: Event, tenant: Arc<TenantMeters>, room: Room) -> Self {
        Self { event, tenant: Some(tenant), call: traces::current_call(), room: Some(room) }
    }

    /// What is asked for meanwhile is asked for this.
    pub(crate) fn cover<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        PURPOSE.scope(self, work)
    }

    /// Whatever it is for, this kind of event, for the same tenant.
    pub(crate) fn now_of(event: Event) -> Self {
        Self { event, ..Self::current() }
    }

    /// That of the task that asks.
    pub(crate) fn current() -> Self {
        PURPOSE.try_with(Self::clone).unwrap_or(Self::of(Event::Other))
    }
}

/// A place for something that is begun for a purpose, where that is limited, to be kept until it has ended; and what is then
/// asked for, for which it needs no other.
///
/// # Errors
/// Where there is none left.
pub(crate) fn begin() -> Result<(Purpose, Option<TenantPlace>), EngineError> {
    let mut purpose = Purpose::current();
    let place = purpose.room.take().map(|room| room.take()).transpose()?;
    Ok((purpose, place))
}
