//! How an entry is named: by a ready key, or by the request that it answers.

use leasehold_proto::v1 as pb;
use std::{fmt, sync::Arc};

/// Names an entry. Cheap to clone.
///
/// `Debug` shows the tenant, the release, the path, and the key or the route; never headers, cookies or the query.
#[derive(Clone, PartialEq)]
pub struct EntryRef(Arc<pb::EntryRef>);

impl EntryRef {
    /// The entry of a ready key, 1 to 4096 bytes, of the tenant `default` until [`tenant`](Self::tenant) says otherwise.
    pub fn key(key: impl Into<String>) -> Self {
        Self::named(pb::entry_ref::Name::Key(key.into()))
    }

    /// The entry that answers `request`: the coordinator derives the key, the same for every language.
    pub fn request(request: PageRequest) -> Self {
        Self::named(pb::entry_ref::Name::Request(request.0))
    }

    /// Whose, 1 to 128 bytes. Declaring it also settles what a tenant boundary header on the request would leave open.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).tenant = tenant.into();
        self
    }

    /// The release whose pages are kept apart, 1 to 128 bytes. Default: none.
    pub fn deployment(mut self, deployment: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).deployment = deployment.into();
        self
    }

    /// The page's URL path, absolute, at most 2048 bytes: what invalidations of a path prefix go by. Default: the route
    /// of the request with its parameters filled in, where that is certain.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).path = path.into();
        self
    }

    fn named(name: pb::entry_ref::Name) -> Self {
        Self(Arc::new(pb::EntryRef { name: Some(name), ..Default::default() }))
    }

    /// The request that it is named by.
    pub(crate) fn page_request(&self) -> Option<&pb::PageRequest> {
        match &self.0.name {
            Some(pb::entry_ref::Name::Request(request)) => Some(request),
            _ => None,
        }
    }

    /// Whether it is said whose it is.
    pub(crate) fn has_tenant(&self) -> bool {
        !self.0.tenant.trim().is_empty()
    }

    pub(crate) fn to_wire(&self) -> Option<pb::EntryRef> {
        Some(pb::EntryRef::clone(&self.0))
    }
}

impl fmt::Debug for EntryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("EntryRef");
        shown.field("tenant", &self.0.tenant).field("deployment", &self.0.deployment);
        match &self.0.name {
            Some(pb::entry_ref::Name::Key(key)) => shown.field("key", key),
            Some(pb::entry_ref::Name::Request(request)) => shown.field("route", &request.route),
            None => &mut shown,
        };
        shown.field("path", &self.0.path).finish()
    }
}

/// A request for a page, as far as its cache key depends on it.
///
/// Whoever passes on all headers and cookies of a request gets a key that keeps its variants apart, and the check that no
/// tenant boundary header goes unnoticed. `Debug` shows the route only.
#[derive(Clone, PartialEq)]
pub struct PageRequest(pb::PageRequest);

impl PageRequest {
    /// For the route pattern that matched, such as `/blog/{slug}`; at most 2048 bytes.
    pub fn new(route: impl Into<String>) -> Self {
        Self(pb::PageRequest { route: route.into(), ..Default::default() })
    }

    /// Adds a route parameter. Each name once, at most 64.
    pub fn param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.params.push(pb::NameValue { name: name.into(), value: value.into() });
        self
    }

    /// Adds a name of the decoded query with its values in their order. At most 256 names.
    pub fn query<V: Into<String>>(
        mut self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        self.0.query.push(name_values(name, values));
        self
    }

    /// Adds a header with its values. At most 256 names. Only credentials and tenant boundary headers are looked at.
    pub fn header<V: Into<String>>(
        mut self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        self.0.headers.push(name_values(name, values));
        self
    }

    /// Adds a cookie. At most 256.
    pub fn cookie(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.cookies.push(pb::NameValue { name: name.into(), value: value.into() });
        self
    }

    /// The page is the same for everybody, whatever credentials a request carries. Default: it is not.
    pub fn ignore_credentials(mut self) -> Self {
        self.0.ignore_credentials = true;
        self
    }

    /// Which cookies make a page another one. Default: all.
    pub fn cookie_variance(mut self, variance: CookieVariance) -> Self {
        let (variance, allowlist) = match variance {
            CookieVariance::All => (pb::CookieVariance::All, Vec::new()),
            CookieVariance::None => (pb::CookieVariance::None, Vec::new()),
            CookieVariance::Allowlist(names) => (pb::CookieVariance::Allowlist, names),
        };
        self.0.cookie_variance = variance.into();
        self.0.cookie_allowlist = allowlist;
        self
    }
}

impl fmt::Debug for PageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageRequest").field("route", &self.0.route).finish_non_exhaustive()
    }
}

/// Which cookies make a page another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CookieVariance {
    /// All.
    #[default]
    All,
    /// None.
    None,
    /// Those of these names; 1 to 256.
    Allowlist(Vec<String>),
}

fn name_values<V: Into<String>>(
    name: impl Into<String>,
    values: impl IntoIterator<Item = V>,
) -> pb::NameValues {
    pb::NameValues { name: name.into(), values: values.into_iter().map(Into::into).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_cookies_do_not_show() {
        let request = PageRequest::new("/a").header("authorization", ["Bearer xyzzy"]).cookie("sid", "plugh");
        let shown = format!("{request:?} {:?}", EntryRef::request(request.clone()).tenant("acme"));
        assert!(shown.contains("/a") && shown.contains("acme"));
        assert!(!shown.contains("xyzzy") && !shown.contains("plugh"), "{shown}");
    }

    #[test]
    fn request_reaches_the_wire_whole() {
        let entry = EntryRef::request(
            PageRequest::new("/blog/{slug}")
                .param("slug", "x")
                .query("page", ["1", "2"])
                .cookie_variance(CookieVariance::Allowlist(vec!["lang".into()])),
        )
        .deployment("v1")
        .path("/blog/x");
        let wire = entry.to_wire().unwrap();
        assert_eq!((wire.deployment.as_str(), wire.path.as_str()), ("v1", "/blog/x"));
        let Some(pb::entry_ref::Name::Request(request)) = wire.name else { panic!("not a request") };
        assert_eq!(request.query[0].values, ["1", "2"]);
        assert_eq!(request.cookie_variance(), pb::CookieVariance::Allowlist);
        assert_eq!(request.cookie_allowlist, ["lang"]);
    }
}
