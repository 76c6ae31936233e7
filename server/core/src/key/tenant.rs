//! The tenant boundary: whose page a request asks for, and when that may not be guessed.

use super::{by_name, javascript::trim, normal_header};
use crate::identity::{InvalidName, TenantId};

/// The headers that always mark a tenant boundary.
pub const BOUNDARY_HEADERS: [&str; 2] = ["x-tenant-id", "x-facetheory-tenant"];

/// Which headers mark a tenant boundary. A request that carries one was meant for one tenant: to serve it
/// from pages that all tenants share would mix them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantBoundary(Vec<Box<str>>);

impl Default for TenantBoundary {
    fn default() -> Self {
        Self(BOUNDARY_HEADERS.map(Into::into).into())
    }
}

impl TenantBoundary {
    /// [`BOUNDARY_HEADERS`] and `names`, in any case; blank names are dropped.
    ///
    /// # Errors
    /// [`InvalidBoundaryHeader`] for a name that no request could carry, which would be a boundary that
    /// guards nothing.
    pub fn extended(names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, InvalidBoundaryHeader> {
        let mut boundary = Self::default();
        for name in names {
            let name = normal_header(name.as_ref()).into_owned();
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) {
                return Err(InvalidBoundaryHeader(name));
            }
            if !name.is_empty() && !boundary.headers().any(|known| known == name) {
                boundary.0.push(name.into());
            }
        }
        Ok(boundary)
    }

    /// The names, in lower case.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    /// Whose page a request asks for: the declared tenant, or `None` where none is declared and none need be. A blank
    /// declaration is none. `ready_key` is whether the caller named the entry itself, and so took the boundary upon itself.
    ///
    /// # Errors
    /// [`TenantError::Boundary`] for a request with a boundary header that is not blank, without a declared
    /// tenant and without a ready key; [`TenantError::Invalid`] for a declared tenant that is no name.
    pub fn resolve(
        &self,
        declared: Option<&str>,
        ready_key: bool,
        headers: &[(String, Vec<String>)],
    ) -> Result<Option<TenantId>, TenantError> {
        let declared = declared.map(trim).unwrap_or_default();
        if !declared.is_empty() {
            return TenantId::parse(declared).map(Some).map_err(TenantError::Invalid);
        }
        if ready_key {
            return Ok(None);
        }
        let carried = by_name(headers, normal_header);
        let crossed = self.headers().find(|known| {
            carried
                .iter()
                .any(|(name, values)| name == known && values.iter().any(|value| !trim(value).is_empty()))
        });
        match crossed {
            None => Ok(None),
            Some(header) => Err(TenantError::Boundary { header: header.into() }),
        }
    }
}

/// A configured boundary header that is no header name. It holds the name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tenant boundary header {0:?} is not a header name")]
pub struct InvalidBoundaryHeader(pub String);

/// Why a request has no tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    /// It carries a boundary header and declares no tenant.
    #[error("the request carries {header} but declares no tenant")]
    Boundary {
        /// The header's name, in lower case. Its value is not told: it may be another tenant's name.
        header: Box<str>,
    },
    /// The declared tenant is no name.
    #[error("tenant {0}")]
    Invalid(InvalidName),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carrying(headers: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        headers
            .iter()
            .map(|(name, values)| (name.to_string(), values.iter().map(|v| v.to_string()).collect()))
            .collect()
    }

    fn refused(header: &str) -> Result<Option<TenantId>, TenantError> {
        Err(TenantError::Boundary { header: header.into() })
    }

    #[test]
    fn the_declared_tenant_wins_over_any_header() {
        let headers = carrying(&[("x-tenant-id", &["other"])]);
        let tenant = TenantBoundary::default().resolve(Some(" acme "), false, &headers);
        assert_eq!(tenant, Ok(Some(TenantId::parse("acme").unwrap())));
    }

    #[test]
    fn a_request_without_boundary_need_declare_no_tenant() {
        let values: [&[&str]; 3] = [&[], &[""], &["", " \t"]];
        for declared in [None, Some(""), Some(" \u{feff}")] {
            for values in values {
                let headers = carrying(&[("accept", &["x"]), ("x-tenant-id", values)]);
                assert_eq!(TenantBoundary::default().resolve(declared, false, &headers), Ok(None));
            }
        }
    }

    #[test]
    fn a_boundary_header_without_a_tenant_is_refused_by_its_name() {
        let boundary = TenantBoundary::default();
        for (headers, header) in [
            (&[("x-tenant-id", &["acme"][..])][..], "x-tenant-id"),
            (&[(" X-FaceTheory-Tenant ", &["", "acme"])], "x-facetheory-tenant"),
            (&[("x-tenant-id", &["acme"]), ("X-Tenant-Id", &[""])], "x-tenant-id"),
        ] {
            for declared in [None, Some(" ")] {
                assert_eq!(boundary.resolve(declared, false, &carrying(headers)), refused(header));
            }
        }
        let error = boundary.resolve(None, false, &carrying(&[("x-tenant-id", &["acme"])])).unwrap_err();
        assert_eq!(error.to_string(), "the request carries x-tenant-id but declares no tenant");
    }

    #[test]
    fn a_ready_key_answers_for_the_boundary_itself() {
        let headers = carrying(&[("x-tenant-id", &["acme"])]);
        assert_eq!(TenantBoundary::default().resolve(None, true, &headers), Ok(None));
    }

    #[test]
    fn a_declared_tenant_that_is_no_name_is_refused() {
        let tenant = TenantBoundary::default().resolve(Some("a\nb"), true, &[]);
        assert_eq!(tenant, Err(TenantError::Invalid(InvalidName::ControlCharacter(10))));
    }

    #[test]
    fn the_list_is_only_ever_extended() {
        let boundary = TenantBoundary::extended(["X-Org ", "", "x-tenant-id"]).unwrap();
        assert_eq!(boundary.headers().collect::<Vec<_>>(), ["x-tenant-id", "x-facetheory-tenant", "x-org"]);
        assert_eq!(boundary.resolve(None, false, &carrying(&[("x-org", &["o"])])), refused("x-org"));
        assert_eq!(
            boundary.resolve(None, false, &carrying(&[("x-tenant-id", &["o"])])),
            refused("x-tenant-id")
        );
        assert_eq!(TenantBoundary::extended(["x org"]), Err(InvalidBoundaryHeader("x org".into())));
        assert!(TenantBoundary::extended(["x-tenant:"]).is_err());
    }
}
