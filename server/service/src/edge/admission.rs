//! Whose a request is, and whether its caller may ask for it. Every name of a tenant in a request goes through here on its way
//! in: there is no tenant behind the edge that was not asked about.

use super::error::EdgeError;
use crate::access::Lost;
use leasehold_core::{
    access::{Permissions, Right},
    identity::TenantId,
    key::TenantBoundary,
};
use std::sync::Arc;

/// What a request is read with.
pub(crate) struct Admission<'a> {
    permissions: Arc<Permissions>,
    boundary: &'a TenantBoundary,
}

impl<'a> Admission<'a> {
    pub(crate) fn new(permissions: Arc<Permissions>, boundary: &'a TenantBoundary) -> Self {
        Self { permissions, boundary }
    }

    /// The tenant that `field` names, or, where it is empty, the caller's own.
    pub(crate) fn tenant(&self, field: &str, text: &str, right: Right) -> Result<TenantId, EdgeError> {
        let declared = if text.is_empty() {
            None
        } else {
            Some(TenantId::parse(text).map_err(|rule| EdgeError::field(field, rule))?)
        };
        self.reached(declared, right)
    }

    /// The same, where the headers of a page's request may mark a boundary.
    pub(crate) fn tenant_within_boundary(
        &self,
        field: &str,
        text: &str,
        headers: &[(String, Vec<String>)],
        right: Right,
    ) -> Result<TenantId, EdgeError> {
        let declared = self
            .boundary
            .resolve(Some(text), false, headers)
            .map_err(|error| EdgeError::tenant(error, field))?;
        self.reached(declared, right)
    }

    /// That the caller may do this to every tenant there is.
    pub(crate) fn everything(&self, right: Right) -> Result<(), EdgeError> {
        if self.permissions.allow_everywhere(right) {
            return Ok(());
        }
        Err(EdgeError::PermissionDenied { right, tenant: None })
    }

    fn reached(&self, declared: Option<TenantId>, right: Right) -> Result<TenantId, EdgeError> {
        let tenant = self.permissions.tenant(declared);
        self.check(right, &tenant)?;
        Ok(tenant)
    }

    /// That the caller may do this to this tenant.
    pub(crate) fn check(&self, right: Right, tenant: &TenantId) -> Result<(), EdgeError> {
        if self.permissions.allow(right, tenant) {
            return Ok(());
        }
        Err(EdgeError::PermissionDenied { right, tenant: Some(tenant.clone()) })
    }
}

/// What a stream is told that its caller may go on with no more.
pub(crate) fn lost(lost: Lost, right: Right) -> EdgeError {
    match lost {
        Lost::Identity(why) => why.into(),
        Lost::Right(tenant) => EdgeError::PermissionDenied { right, tenant },
    }
}
