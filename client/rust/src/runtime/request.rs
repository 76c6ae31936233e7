//! Requests over HTTP, as the coordinator derives keys from them.

use crate::{PageRequest, SidecarToken};
use http::{HeaderMap, Uri, header};
use std::collections::BTreeMap;

/// The headers that mark a tenant's boundary: a request that carries one is refused where no tenant is declared.
pub const TENANT_HEADERS: [&str; 2] = ["x-tenant-id", "x-facetheory-tenant"];

/// The query parameter that carries a sidecar's token, as FaceTheory has it. It makes a page no other one.
pub const SIDECAR_PARAM: &str = "__facetheory_isr_hydration";

/// The headers whose values make a page another one, unless credentials are ignored.
pub(super) const CREDENTIALS: [&str; 4] =
    ["authorization", "proxy-authorization", "x-amz-security-token", "x-api-key"];

/// What a page's key may depend on: the query, the cookies, credentials, and the headers that mark a tenant. Its route is the
/// path as it was requested; where a pattern with parameters matched, name these by [`PageRequest::new`] and
/// [`PageRequest::param`] instead.
///
/// Credentials make a page another one, and so do all cookies, until [`PageRequest::ignore_credentials`] and
/// [`PageRequest::cookie_variance`] say otherwise.
pub fn page_request(uri: &Uri, headers: &HeaderMap) -> PageRequest {
    let mut request = PageRequest::new(uri.path());
    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        if name != SIDECAR_PARAM {
            query.entry(name.into_owned()).or_default().push(value.into_owned());
        }
    }
    for (name, values) in query {
        request = request.query(name, values);
    }
    for name in TENANT_HEADERS.iter().chain(&CREDENTIALS) {
        let values: Vec<_> = headers.get_all(*name).iter().map(text).collect();
        if !values.is_empty() {
            request = request.header(*name, values);
        }
    }
    // Each name once: of repeated ones the first counts, as most servers have it.
    let mut cookies = BTreeMap::new();
    for line in headers.get_all(header::COOKIE) {
        for pair in text(line).split(';') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !name.trim().is_empty() {
                cookies.entry(name.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
            }
        }
    }
    for (name, value) in cookies {
        request = request.cookie(name, value);
    }
    request
}

/// The sidecar that is asked for.
pub(super) fn sidecar_token(uri: &Uri) -> Option<SidecarToken> {
    let mut query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    query.find(|(name, _)| name == SIDECAR_PARAM).map(|(_, token)| SidecarToken::new(token))
}

fn text(value: &http::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EntryRef;
    use http::HeaderValue;
    use leasehold_proto::v1 as pb;

    #[test]
    fn what_a_key_may_depend_on_is_passed_on_and_nothing_else() {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("a browser"));
        headers.insert("x-tenant-id", HeaderValue::from_static("acme"));
        headers.insert("x-api-key", HeaderValue::from_static("xyzzy"));
        headers.append("cookie", HeaderValue::from_static("a=1; b = 2=2;;c"));
        headers.append("cookie", HeaderValue::from_static("a=3"));
        let uri =
            Uri::from_static("/b%C3%BCcher?tag=x&page=1&tag=%C3%BC+y&=&empty&__facetheory_isr_hydration=t");
        let entry = EntryRef::request(page_request(&uri, &headers)).to_wire().unwrap_or_default();
        let Some(pb::entry_ref::Name::Request(request)) = entry.name else { panic!("not a request") };
        assert_eq!(request.route, "/b%C3%BCcher");
        let named = |pairs: &[pb::NameValues]| -> Vec<_> {
            pairs.iter().map(|pair| (pair.name.clone(), pair.values.join("|"))).collect()
        };
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            named(&request.query),
            [of("", ""), of("empty", ""), of("page", "1"), of("tag", "x|\u{fc} y")]
        );
        assert_eq!(named(&request.headers), [of("x-tenant-id", "acme"), of("x-api-key", "xyzzy")]);
        let cookies: Vec<_> = request.cookies.iter().map(|cookie| of(&cookie.name, &cookie.value)).collect();
        assert_eq!(cookies, [of("a", "1"), of("b", "2=2"), of("c", "")]);
    }
}
