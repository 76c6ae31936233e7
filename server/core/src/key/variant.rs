//! Variants: which secrets of a request make its page another one, and the digests that stand for them in a
//! key.

use super::{KeyError, RequestParts, by_name, javascript, normal_header, within};
use javascript::{encode, locale_compare, trim};
use sha2::{Digest, Sha256};

/// The most cookies of a request, and the most names on a cookie allowlist.
pub const MAX_COOKIES: usize = 256;
/// The headers that carry credentials, in the order in which a key's `auth` part hashes them.
pub const AUTH_HEADERS: [&str; 4] =
    ["authorization", "proxy-authorization", "x-amz-security-token", "x-api-key"];

/// Which secrets of a request make a page another one. By default all of them, as in FaceTheory: a page that
/// shows one visitor's data is never served to another because somebody forgot to say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariantPolicy {
    /// Whether [`AUTH_HEADERS`] do.
    pub auth: bool,
    /// Which cookies do.
    pub cookies: CookieVariant,
}

impl Default for VariantPolicy {
    fn default() -> Self {
        Self { auth: true, cookies: CookieVariant::All }
    }
}

/// Which cookies make a page another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookieVariant {
    /// None of them.
    None,
    /// All that the request carries.
    All,
    /// Those on a list.
    Only(CookieAllowlist),
}

/// The names of the cookies that make a page another one. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieAllowlist(Vec<String>);

impl CookieAllowlist {
    /// Names as they are in requests, case included. They are trimmed, blank and repeated ones are dropped.
    ///
    /// # Errors
    /// [`KeyError::EmptyAllowlist`] when no name is left, which would silently serve one visitor's page to
    /// all; [`KeyError::TooMany`] above [`MAX_COOKIES`].
    pub fn new(names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, KeyError> {
        let mut list: Vec<String> = Vec::new();
        for (at, name) in names.into_iter().enumerate() {
            within(ALLOWLIST_FIELD, at + 1, MAX_COOKIES)?;
            let name = trim(name.as_ref());
            if !name.is_empty() && !list.iter().any(|known| known == name) {
                list.push(name.to_owned());
            }
        }
        if list.is_empty() {
            return Err(KeyError::EmptyAllowlist);
        }
        Ok(Self(list))
    }

    /// The names, in the order given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

pub(super) const ALLOWLIST_FIELD: &str = "request.variant.cookies.only";

/// The parts after a key's `#`.
pub(super) fn key_parts(parts: &RequestParts) -> Vec<String> {
    let mut variants = Vec::new();
    if parts.variant.auth {
        let headers = by_name(&parts.headers, normal_header);
        let present = AUTH_HEADERS.iter().filter_map(|auth| {
            let (_, values) = headers.iter().find(|(name, values)| name == auth && !values.is_empty())?;
            Some((*auth, values.clone()))
        });
        variants.extend(digest(&present.collect::<Vec<_>>(), &['\n', '\0']).map(|hex| format!("auth={hex}")));
    }
    let cookies = parts.cookies.iter().map(|(name, value)| (name.as_str(), vec![value.as_str()]));
    let mut cookies: Vec<_> = match &parts.variant.cookies {
        CookieVariant::None => Vec::new(),
        CookieVariant::All => cookies.collect(),
        CookieVariant::Only(list) => {
            list.names().flat_map(|name| cookies.clone().filter(move |(cookie, _)| *cookie == name)).collect()
        }
    };
    cookies.sort_by(|(a, _), (b, _)| locale_compare(a, b));
    variants.extend(digest(&cookies, &['\n']).map(|hex| format!("cookies={hex}")));
    variants
}

/// The first 24 hex digits of a SHA-256 over the lines; `None` without lines. `separators` are the characters
/// that, within a value, would make it pass for several.
fn digest(lines: &[(&str, Vec<&str>)], separators: &[char]) -> Option<String> {
    if lines.is_empty() {
        return None;
    }
    let reads_two_ways = lines.iter().any(|(name, values)| {
        name.contains(['=', '\n']) || values.iter().any(|value| value.contains(separators))
    });
    let text = if reads_two_ways {
        // No plain text begins with a line feed: each of its lines has an `=`.
        let encoded = lines.iter().map(|(name, values)| {
            let values = values.iter().map(|value| encode(value).to_string()).collect::<Vec<_>>();
            format!("\n{}={}", encode(name), values.join("&"))
        });
        encoded.collect()
    } else {
        let plain = lines.iter().map(|(name, values)| format!("{name}={}", values.join("\0")));
        plain.collect::<Vec<_>>().join("\n")
    };
    let mut hex = hex::encode(Sha256::digest(text));
    hex.truncate(24);
    Some(hex)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::TenantId, key::derive_key};
    use proptest::prelude::*;

    fn key(parts: &RequestParts) -> String {
        derive_key(&TenantId::unnamed(), parts).unwrap().as_str().to_owned()
    }

    #[test]
    fn an_allowlist_of_nothing_is_refused() {
        for names in [&[][..], &["", " \t"]] {
            let error = CookieAllowlist::new(names).unwrap_err();
            assert_eq!(error, KeyError::EmptyAllowlist);
            assert_eq!(error.field(), "request.variant.cookies.only");
        }
        assert!(CookieAllowlist::new((0..256).map(|at| format!("n{at}"))).is_ok());
        assert!(matches!(
            CookieAllowlist::new((0..257).map(|at| format!("n{at}"))),
            Err(KeyError::TooMany { limit: 256, .. })
        ));
    }

    #[test]
    fn auth_headers_are_in_the_order_of_the_collation() {
        assert!(AUTH_HEADERS.is_sorted_by(|a, b| locale_compare(a, b).is_lt()));
    }

    proptest! {
        #[test]
        fn other_cookies_make_another_key(
            one in prop::collection::btree_map("[ab=\n]{0,2}", "[ab=\n\\x00]{0,5}", 0..3),
            other in prop::collection::btree_map("[ab=\n]{0,2}", "[ab=\n\\x00]{0,5}", 0..3),
        ) {
            let of = |map: &std::collections::BTreeMap<String, String>| {
                key(&RequestParts { cookies: map.clone().into_iter().collect(), ..RequestParts::default() })
            };
            prop_assert_eq!(one == other, of(&one) == of(&other));
        }

        #[test]
        fn other_credentials_make_another_key(
            one in prop::collection::vec("[k=\n\\x00]{0,4}", 0..3),
            other in prop::collection::vec("[k=\n\\x00]{0,4}", 0..3),
        ) {
            let of = |values: &Vec<String>| {
                let headers = vec![("x-api-key".into(), values.clone())];
                key(&RequestParts { headers, ..RequestParts::default() })
            };
            prop_assert_eq!(one == other, of(&one) == of(&other));
        }
    }
}
