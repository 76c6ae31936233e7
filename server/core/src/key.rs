//! The key of an entry, derived from a request so that every language derives the same, and the tenant
//! boundary.
//!
//! The text is that of FaceTheory's default ISR cache key, byte for byte, so that a fleet that is half
//! FaceTheory shares its pages. It differs in three places, on purpose:
//!
//! - the route has one leading slash and no trailing one, so that `/a/` and `/a` are one page;
//! - a parameter that the route names and the request lacks is written as empty when the query carries its
//!   name: without this, `/?proxy=about` of the route `/{proxy*}` has the key of `/about`, and whoever asks
//!   first decides what both show;
//! - a variant whose text reads two ways (a line feed in a value, say) is hashed percent-encoded: without
//!   this, one cookie `a` of the value `1⏎b=2` passes for the two cookies `a=1` and `b=2`.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod javascript;
mod route;
mod tenant;
mod variant;
#[cfg(test)]
mod vectors;

pub use route::{MAX_ROUTE_BYTES, path_of};
pub use tenant::{BOUNDARY_HEADERS, InvalidBoundaryHeader, TenantBoundary, TenantError};
pub use variant::{AUTH_HEADERS, CookieAllowlist, CookieVariant, MAX_COOKIES, VariantPolicy};

use crate::identity::{EntryKey, InvalidName, TenantId};
use javascript::{encode, locale_compare, trim};
use std::{borrow::Cow, collections::HashMap, fmt};

/// The most route parameters of a request.
pub const MAX_PARAMS: usize = 64;
/// The most query names of a request.
pub const MAX_QUERY_NAMES: usize = 256;
/// The most header names of a request.
pub const MAX_HEADER_NAMES: usize = 256;
/// The query name under which FaceTheory's pages carry their sidecar token. It is never part of a key: a
/// request for the sidecar must resolve to the entry of its page.
pub const SIDECAR_QUERY_NAME: &str = "__facetheory_isr_hydration";

/// What a key is derived from. It holds secrets, so its `Debug` shows counts only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RequestParts {
    /// The route pattern that matched, not the URL path, such as `/blog/{slug}`. Empty is `/`.
    pub route: String,
    /// Route parameters, each name once. A rest parameter is one value with slashes in it.
    pub params: Vec<(String, String)>,
    /// The decoded query. Values of a repeated name follow each other; a name without values counts as
    /// absent.
    pub query: Vec<(String, Vec<String>)>,
    /// Header names in any case, and their values. Values of a repeated name follow each other.
    pub headers: Vec<(String, Vec<String>)>,
    /// Cookie names and values.
    pub cookies: Vec<(String, String)>,
    /// Which of the headers and cookies make a page another one.
    pub variant: VariantPolicy,
}

impl fmt::Debug for RequestParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestParts")
            .field("route", &self.route)
            .field("params", &self.params.len())
            .field("query", &self.query.len())
            .field("headers", &self.headers.len())
            .field("cookies", &self.cookies.len())
            .field("variant", &self.variant)
            .finish()
    }
}

/// Why a request gives no key. `Display` is a sentence that begins with the field; it quotes nothing of the
/// request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The route is over [`MAX_ROUTE_BYTES`] or has a control character.
    #[error("request.route {0}")]
    Route(InvalidName),
    /// A list is longer than allowed.
    #[error("{field} has {actual} names or more; the limit is {limit}")]
    TooMany {
        /// Dotted path of the list.
        field: &'static str,
        /// Names given, counted no further than needed.
        actual: usize,
        /// Names allowed.
        limit: usize,
    },
    /// A parameter comes twice.
    #[error("request.params[{0}] repeats a name")]
    RepeatedParam(usize),
    /// A cookie allowlist without names.
    #[error("request.variant.cookies.only must name a cookie")]
    EmptyAllowlist,
    /// The key does not fit an [`EntryKey`].
    #[error("request derives a key that {0}")]
    Key(InvalidName),
}

impl KeyError {
    /// Dotted path of the field at fault.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Route(_) => "request.route",
            Self::TooMany { field, .. } => field,
            Self::RepeatedParam(_) => "request.params",
            Self::EmptyAllowlist => variant::ALLOWLIST_FIELD,
            Self::Key(_) => "request",
        }
    }
}

/// The key of the page that a request asks for, as the design's "Cache keys and tenants" writes it. Pure; of
/// credentials and cookies it holds digests only.
///
/// # Errors
/// [`KeyError`] names the field and the limit that it breaks.
pub fn derive_key(tenant: &TenantId, parts: &RequestParts) -> Result<EntryKey, KeyError> {
    within("request.params", parts.params.len(), MAX_PARAMS)?;
    within("request.query", parts.query.len(), MAX_QUERY_NAMES)?;
    within("request.headers", parts.headers.len(), MAX_HEADER_NAMES)?;
    within("request.cookies", parts.cookies.len(), MAX_COOKIES)?;
    let route = route::normal(&parts.route)?;

    let mut query = by_name(&parts.query, Cow::Borrowed);
    query.retain(|(name, values)| !values.is_empty() && name != SIDECAR_QUERY_NAME);
    let mut params = unique_params(&parts.params)?;
    params.extend(route::absent_params(&route, &parts.params, &query));

    params.sort_by(|(a, _), (b, _)| locale_compare(a, b));
    query.sort_by(|(a, _), (b, _)| locale_compare(a, b));
    let pairs = params
        .into_iter()
        .chain(query.iter().flat_map(|(name, values)| values.iter().map(move |value| (&**name, *value))))
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect::<Vec<_>>();

    let mut key = format!("{tenant}::{route}?{}", pairs.join("&"));
    let variants = variant::key_parts(parts);
    if !variants.is_empty() {
        key.push('#');
        key.push_str(&variants.join("&"));
    }
    EntryKey::parse(&key).map_err(KeyError::Key)
}

fn within(field: &'static str, actual: usize, limit: usize) -> Result<(), KeyError> {
    if actual > limit { Err(KeyError::TooMany { field, actual, limit }) } else { Ok(()) }
}

/// Values under the same name joined in their order, names in the order of their first appearance.
fn by_name<'a>(
    pairs: &'a [(String, Vec<String>)],
    normal: fn(&'a str) -> Cow<'a, str>,
) -> Vec<(Cow<'a, str>, Vec<&'a str>)> {
    let mut places = HashMap::with_capacity(pairs.len());
    let mut joined: Vec<(Cow<'a, str>, Vec<&'a str>)> = Vec::with_capacity(pairs.len());
    for (name, values) in pairs {
        let name = normal(name);
        let place = *places.entry(name.clone()).or_insert_with(|| {
            joined.push((name, Vec::new()));
            joined.len() - 1
        });
        joined[place].1.extend(values.iter().map(String::as_str));
    }
    joined
}

fn unique_params(params: &[(String, String)]) -> Result<Vec<(&str, &str)>, KeyError> {
    for (at, (name, _)) in params.iter().enumerate() {
        if params[..at].iter().any(|(earlier, _)| earlier == name) {
            return Err(KeyError::RepeatedParam(at));
        }
    }
    Ok(params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect())
}

fn normal_header(name: &str) -> Cow<'_, str> {
    Cow::Owned(trim(name).to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(parts: &RequestParts) -> Result<String, KeyError> {
        derive_key(&TenantId::unnamed(), parts).map(|key| key.as_str().to_owned())
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn named(count: usize) -> impl Iterator<Item = String> {
        (0..count).map(|at| format!("n{at}"))
    }

    #[test]
    fn limits_are_inclusive_and_name_their_field() {
        let request =
            |route: usize, params: usize, query: usize, headers: usize, cookies: usize| RequestParts {
                route: "r".repeat(route),
                params: named(params).map(|name| (name, String::new())).collect(),
                query: named(query).map(|name| (name, vec![])).collect(),
                headers: named(headers).map(|name| (name, vec![])).collect(),
                cookies: named(cookies).map(|name| (name, String::new())).collect(),
                ..RequestParts::default()
            };
        assert!(key(&request(2048, 64, 256, 256, 256)).is_ok());
        for (request, field, message) in [
            (
                request(2049, 0, 0, 0, 0),
                "request.route",
                "request.route is 2049 bytes long; the limit is 2048",
            ),
            (
                request(1, 65, 0, 0, 0),
                "request.params",
                "request.params has 65 names or more; the limit is 64",
            ),
            (
                request(1, 0, 257, 0, 0),
                "request.query",
                "request.query has 257 names or more; the limit is 256",
            ),
            (
                request(1, 0, 0, 257, 0),
                "request.headers",
                "request.headers has 257 names or more; the limit is 256",
            ),
            (
                request(1, 0, 0, 0, 257),
                "request.cookies",
                "request.cookies has 257 names or more; the limit is 256",
            ),
        ] {
            let error = key(&request).unwrap_err();
            assert_eq!((error.field(), error.to_string().as_str()), (field, message));
        }
    }

    #[test]
    fn a_key_too_long_for_an_entry_is_refused() {
        let request = |length: usize| RequestParts {
            route: "/".into(),
            query: vec![("q".into(), vec!["x".repeat(length)])],
            ..RequestParts::default()
        };
        let framing = "default::/?q=".len();
        assert_eq!(key(&request(4096 - framing)).map(|key| key.len()), Ok(4096));
        let error = key(&request(4097 - framing)).unwrap_err();
        assert_eq!(error.field(), "request");
        assert_eq!(error.to_string(), "request derives a key that is 4097 bytes long; the limit is 4096");
    }

    #[test]
    fn a_route_with_a_control_character_is_refused() {
        let request = RequestParts { route: "/a\u{7}b".into(), ..RequestParts::default() };
        assert_eq!(key(&request), Err(KeyError::Route(InvalidName::ControlCharacter(7))));
    }

    #[test]
    fn a_repeated_param_is_refused() {
        let request =
            RequestParts { params: pairs(&[("a", "1"), ("b", "2"), ("a", "1")]), ..RequestParts::default() };
        assert_eq!(key(&request), Err(KeyError::RepeatedParam(2)));
    }

    #[test]
    fn the_query_cannot_stand_in_for_a_param() {
        let request = |params, query: &[(&str, &str)]| RequestParts {
            route: "/{proxy*}".into(),
            params,
            query: pairs(query).into_iter().map(|(name, value)| (name, vec![value])).collect(),
            ..RequestParts::default()
        };
        let about = request(pairs(&[("proxy", "about")]), &[]);
        let root_asked_for_about = request(vec![], &[("proxy", "about")]);
        assert_ne!(key(&about), key(&root_asked_for_about));
    }

    #[test]
    fn debug_output_tells_no_secret() {
        let request = RequestParts {
            query: vec![("token".into(), vec!["hunter2".into()])],
            headers: vec![("authorization".into(), vec!["Bearer hunter2".into()])],
            cookies: pairs(&[("session", "hunter2")]),
            ..RequestParts::default()
        };
        assert!(!format!("{request:?}").contains("hunter2"));
    }

    /// Names that the collation tells apart whatever their order, each with values, in two orders.
    fn permuted(values: usize) -> impl Strategy<Value = [Vec<(String, Vec<String>)>; 2]> {
        let list = prop::collection::btree_map(
            "[a-zA-Z0-9_.\\[\\]éß日-]{0,5}",
            prop::collection::vec(".{0,6}", values),
            0..8,
        );
        let list = list.prop_map(|map| map.into_iter().collect::<Vec<_>>());
        list.prop_flat_map(|list| [Just(list.clone()).prop_shuffle(), Just(list).prop_shuffle()])
    }

    fn first_values(list: &[(String, Vec<String>)]) -> Vec<(String, String)> {
        list.iter().map(|(name, values)| (name.clone(), values[0].clone())).collect()
    }

    proptest! {
        #[test]
        fn the_order_of_names_does_not_change_the_key(
            params in permuted(1),
            query in permuted(2),
            cookies in permuted(1),
            [headers, turned] in [Just(AUTH_HEADERS).prop_shuffle(), Just(AUTH_HEADERS).prop_shuffle()],
        ) {
            let present = |name: &str| (name.to_owned(), vec![name.to_owned()]);
            let headers = [headers, turned].map(|names| names.map(present).to_vec());
            let [one, other] = [0, 1].map(|at| key(&RequestParts {
                route: "/{a}/b".into(),
                params: first_values(&params[at]),
                query: query[at].clone(),
                headers: Vec::clone(&headers[at]),
                cookies: first_values(&cookies[at]),
                variant: VariantPolicy::default(),
            }));
            prop_assert!(one.is_ok());
            prop_assert_eq!(one, other);
        }

        #[test]
        fn no_secret_is_in_a_key(
            secret in "[ -~]{8,40}",
            at in 0..AUTH_HEADERS.len(),
            listed in any::<bool>(),
        ) {
            let only_id = CookieVariant::Only(CookieAllowlist::new(["id"]).unwrap());
            let cookies = if listed { only_id } else { CookieVariant::All };
            let key = key(&RequestParts {
                headers: vec![(AUTH_HEADERS[at].to_uppercase(), vec![secret.clone()])],
                cookies: vec![("id".into(), secret.clone())],
                variant: VariantPolicy { auth: true, cookies },
                ..RequestParts::default()
            })
            .unwrap();
            prop_assert!(!key.contains(&secret));
            let digests = key.strip_prefix("default::/?#auth=").unwrap();
            let digests = digests.split("&cookies=").collect::<Vec<_>>();
            prop_assert_eq!(digests.len(), 2);
            prop_assert!(digests.iter().all(|hex| hex.len() == 24));
            prop_assert!(digests.concat().bytes().all(|b| b.is_ascii_hexdigit()));
        }

    }
}
