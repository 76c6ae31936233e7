//! Declaring pages out of date.

use crate::{
    ConsistencyToken, Coordinator, Error, RequestId,
    wire::{self, FromWire, Malformed},
};
use leasehold_proto::v1 as pb;
use pb::invalidation_scope::Scope as Wire;

/// What an invalidation is about. Of the tenant `default`, until [`tenant`](Self::tenant) says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Whose. `None`: the tenant `default`; must be `None` with [`Target::Everything`].
    pub tenant: Option<String>,
    /// What.
    pub target: Target,
}

/// What of a tenant an invalidation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every entry of every tenant.
    Everything,
    /// Every entry of the tenant.
    WholeTenant,
    /// Every entry of this release.
    Deployment(String),
    /// Every page at this path or below it, by whole segments.
    PathPrefix(String),
    /// Every page with this tag.
    Tag(String),
    /// The entry of this key.
    Key(String),
}

/// How deep an invalidation goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Pages stay servable as stale.
    #[default]
    Soft,
    /// Pages are purged.
    Hard,
}

impl Depth {
    pub(crate) fn from_wire(wire: i32) -> Self {
        match pb::InvalidationDepth::try_from(wire) {
            Ok(pb::InvalidationDepth::Hard) => Self::Hard,
            Ok(pb::InvalidationDepth::Soft | pb::InvalidationDepth::Unspecified) | Err(_) => Self::Soft,
        }
    }

    fn to_wire(self) -> i32 {
        match self {
            Self::Soft => pb::InvalidationDepth::Soft,
            Self::Hard => pb::InvalidationDepth::Hard,
        }
        .into()
    }
}

impl Scope {
    /// Every entry of every tenant.
    pub fn everything() -> Self {
        Self::of(Target::Everything)
    }

    /// Every entry of the tenant.
    pub fn whole_tenant(tenant: impl Into<String>) -> Self {
        Self::of(Target::WholeTenant).tenant(tenant)
    }

    /// Every entry of a release.
    pub fn deployment(deployment: impl Into<String>) -> Self {
        Self::of(Target::Deployment(deployment.into()))
    }

    /// Every page at this path or below it, by whole segments.
    pub fn path_prefix(prefix: impl Into<String>) -> Self {
        Self::of(Target::PathPrefix(prefix.into()))
    }

    /// Every page with this tag.
    pub fn tag(tag: impl Into<String>) -> Self {
        Self::of(Target::Tag(tag.into()))
    }

    /// The entry of this key.
    pub fn key(key: impl Into<String>) -> Self {
        Self::of(Target::Key(key.into()))
    }

    /// Of this tenant.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    fn of(target: Target) -> Self {
        Self { tenant: None, target }
    }
}

impl Coordinator {
    /// Declares pages out of date, however many: 1 to 100 scopes. Change the data first, then invalidate. Once this is
    /// answered, no page whose render began before the call is served as fresh: at once to calls that present the
    /// token, within the staleness bound to all others.
    ///
    /// # Errors
    /// `INVALID_FIELD`; or no answer in time, in which case it may have been applied, and is harmless to repeat.
    pub async fn invalidate(&self, scopes: &[Scope], depth: Depth) -> Result<ConsistencyToken, Error> {
        self.invalidate_as(self.new_request_id(), scopes, depth).await
    }

    /// As [`invalidate`](Self::invalidate), with a request id of the caller's: to repeat a call of which the outcome is
    /// unknown as one and the same.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_as(
        &self,
        request_id: RequestId,
        scopes: &[Scope],
        depth: Depth,
    ) -> Result<ConsistencyToken, Error> {
        let message = pb::InvalidateRequest {
            request_id: request_id.to_wire(),
            scopes: scopes.iter().cloned().map(Scope::into_wire).collect(),
            depth: depth.to_wire(),
        };
        let send = |mut client: crate::link::Client, request| async move { client.invalidate(request).await };
        let pb::InvalidateResponse { consistency_token } = self.shared.prompt(message, send).await?.answer;
        Ok(ConsistencyToken::new(consistency_token))
    }
}

impl Scope {
    fn into_wire(self) -> pb::InvalidationScope {
        let Self { tenant, target } = self;
        let scope = match target {
            Target::Everything => Wire::Everything(pb::Everything {}),
            Target::WholeTenant => Wire::WholeTenant(pb::WholeTenant {}),
            Target::Deployment(deployment) => Wire::Deployment(deployment),
            Target::PathPrefix(prefix) => Wire::PathPrefix(prefix),
            Target::Tag(tag) => Wire::Tag(tag),
            Target::Key(key) => Wire::Key(key),
        };
        pb::InvalidationScope { tenant: tenant.unwrap_or_default(), scope: Some(scope) }
    }
}

impl FromWire<pb::InvalidationScope> for Scope {
    fn from_wire(pb::InvalidationScope { tenant, scope }: pb::InvalidationScope) -> Result<Self, Malformed> {
        let target = match wire::required(scope, "the scope of an invalidation")? {
            Wire::Everything(pb::Everything {}) => Target::Everything,
            Wire::WholeTenant(pb::WholeTenant {}) => Target::WholeTenant,
            Wire::Deployment(deployment) => Target::Deployment(deployment),
            Wire::PathPrefix(prefix) => Target::PathPrefix(prefix),
            Wire::Tag(tag) => Target::Tag(tag),
            Wire::Key(key) => Target::Key(key),
        };
        Ok(Self { tenant: wire::non_empty(tenant), target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_survive_the_wire() {
        let scopes = [
            Scope::everything(),
            Scope::whole_tenant("acme"),
            Scope::deployment("v1").tenant("acme"),
            Scope::path_prefix("/blog"),
            Scope::tag("posts"),
            Scope::key("k"),
        ];
        for scope in scopes {
            let back = Scope::from_wire(scope.clone().into_wire()).ok();
            assert_eq!(back, Some(scope));
        }
    }
}
