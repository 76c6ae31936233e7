//! Requests over HTTP, as the coordinator derives keys from them.

use crate::{EntryRef, PageRequest, SidecarToken};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, request::Parts, uri::PathAndQuery};
use leasehold_proto::v1 as pb;
use std::collections::BTreeMap;

/// The headers that mark a tenant's boundary: a request that carries one is refused where no tenant is declared, and where one is,
/// the response names it in `Vary`. A site that has pages for requests without one too has to say so for these by itself, among
/// the headers of its pages.
pub const TENANT_HEADERS: [&str; 2] = ["x-tenant-id", "x-facetheory-tenant"];

/// The query parameter that carries a sidecar's token, as FaceTheory has it. It makes a page no other one.
pub const SIDECAR_PARAM: &str = "__facetheory_isr_hydration";

/// The headers whose values make a page another one, unless credentials are ignored.
pub(super) const CREDENTIALS: [&str; 4] =
    ["authorization", "proxy-authorization", "x-amz-security-token", "x-api-key"];

/// What one visitor asks for beside the page: only that it was changed since, a part of it, or in an encoding. What renders a page
/// for everybody is not shown it.
pub(super) const OF_ONE_VISITOR: [HeaderName; 9] = [
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::ACCEPT_ENCODING,
    header::RANGE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

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
    // Of repeated ones, some servers take the first and some the last: all of them count.
    for line in headers.get_all(header::COOKIE) {
        for pair in text(line).split(';') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !name.trim().is_empty() {
                request = request.cookie(name.trim(), value.trim());
            }
        }
    }
    request
}

/// A request as what renders a page for everybody is to see it: with what its entry holds of query, cookies and credentials, and
/// no more. What a ready key was made of, nobody can tell.
pub(super) fn hide_what_does_not_matter(entry: &EntryRef, parts: &mut Parts) {
    let Some(request) = entry.page_request() else { return };
    parts.uri = with_query_of(request, &parts.uri);
    let headers = &mut parts.headers;
    for name in CREDENTIALS {
        let mut held = request.headers.iter().map(|header| header.name.trim());
        if request.ignore_credentials || !held.any(|held| held.eq_ignore_ascii_case(name)) {
            headers.remove(name);
        }
    }
    let counts = |pair: &str| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name).trim();
        let is_held = request.cookies.iter().any(|cookie| cookie.name.trim() == name);
        is_held
            && match request.cookie_variance() {
                pb::CookieVariance::All | pb::CookieVariance::Unspecified => true,
                pb::CookieVariance::Allowlist => {
                    request.cookie_allowlist.iter().any(|one| one.trim() == name)
                }
                pb::CookieVariance::None => false,
            }
    };
    let lines: Vec<_> = headers.get_all(header::COOKIE).iter().map(text).collect();
    headers.remove(header::COOKIE);
    for line in lines {
        let left: Vec<_> = line.split(';').filter(|pair| counts(pair)).map(str::trim).collect();
        if let (false, Ok(value)) = (left.is_empty(), HeaderValue::from_str(&left.join("; "))) {
            headers.append(header::COOKIE, value);
        }
    }
}

/// In one spelling and order, whoever asks.
fn with_query_of(request: &pb::PageRequest, uri: &Uri) -> Uri {
    let mut held: Vec<_> = request.query.iter().collect();
    held.sort_by(|a, b| a.name.cmp(&b.name));
    let mut query = form_urlencoded::Serializer::new(String::new());
    for pb::NameValues { name, values } in held {
        query.extend_pairs(values.iter().map(|value| (name, value)));
    }
    let query = query.finish();
    let path = uri.path();
    let whole = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let Ok(whole) = whole.parse::<PathAndQuery>() else { return uri.clone() };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(whole.clone());
    Uri::from_parts(parts).unwrap_or_else(|_| whole.into())
}

/// Whether all that a response varies by tells pages apart, or was not shown to what rendered it. Of a ready key, whoever made it
/// knows.
pub(super) fn varies_by_page(entry: &EntryRef, headers: &HeaderMap) -> bool {
    let values =
        headers.get_all(header::VARY).iter().map(text).collect::<Vec<_>>().join(",").to_ascii_lowercase();
    let mut names = values.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.all(|name| match entry.page_request() {
        None => name != "*",
        Some(_) if TENANT_HEADERS.contains(&name) => entry.has_tenant(),
        Some(_) => {
            name == "cookie" || CREDENTIALS.contains(&name) || OF_ONE_VISITOR.iter().any(|own| own == name)
        }
    })
}

/// Whether a page is one visitor's, by what of a request makes it another one: no shared cache may keep it, for that knows its
/// URL only.
pub(super) fn is_personal(entry: &EntryRef) -> bool {
    let Some(request) = entry.page_request() else { return false };
    let has_credentials = request.headers.iter().any(|header| {
        let is_credential = CREDENTIALS.contains(&&*header.name.trim().to_ascii_lowercase());
        is_credential && header.values.iter().any(|value| !value.trim().is_empty())
    });
    let has_cookies = match request.cookie_variance() {
        pb::CookieVariance::None => false,
        pb::CookieVariance::All | pb::CookieVariance::Unspecified => !request.cookies.is_empty(),
        pb::CookieVariance::Allowlist => request
            .cookies
            .iter()
            .any(|cookie| request.cookie_allowlist.iter().any(|one| one.trim() == cookie.name.trim())),
    };
    (has_credentials && !request.ignore_credentials) || has_cookies
}

/// Whether a request was meant for a tenant that nobody has declared.
pub(super) fn crosses_tenants(entry: &EntryRef) -> bool {
    !entry.has_tenant() && tenant_marks(entry).next().is_some()
}

/// `Vary`, where headers decide whose page it is: for a shared cache, the pages of all tenants have one URL.
pub(super) fn vary(entry: &EntryRef) -> Option<HeaderValue> {
    let names: Vec<_> = tenant_marks(entry).collect();
    HeaderValue::from_str(&names.join(", ")).ok().filter(|names| !names.is_empty())
}

/// The headers by which a request says whose page it is for.
fn tenant_marks(entry: &EntryRef) -> impl Iterator<Item = &'static str> {
    TENANT_HEADERS.into_iter().filter(|mark| {
        let headers = entry.page_request().into_iter().flat_map(|request| &request.headers);
        headers
            .filter(|header| header.name.trim().eq_ignore_ascii_case(mark))
            .any(|header| header.values.iter().any(|value| !value.trim().is_empty()))
    })
}

/// The sidecar that is asked for.
pub(super) fn sidecar_token(uri: &Uri) -> Option<SidecarToken> {
    let mut query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    query.find(|(name, _)| name == SIDECAR_PARAM).map(|(_, token)| SidecarToken::new(token))
}

/// What is no UTF-8 stays different from everything else.
fn text(value: &HeaderValue) -> String {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("\u{fffd}{}", value.as_bytes().escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(cookies, [of("a", "1"), of("b", "2=2"), of("c", ""), of("a", "3")]);
    }
}
