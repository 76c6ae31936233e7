//! Cache keys of any request: always the same, whatever the order of names; they begin with their tenant, and hold nothing of
//! credentials and cookies but digests.

#![no_main]

use leasehold_core::{
    identity::{EntryId, EntryKey, PagePath, TenantId},
    key::{
        AUTH_HEADERS, CookieVariant, KeyError, RequestParts, TenantBoundary, VariantPolicy, derive_key,
        fuzzing::order_of_names, path_of,
    },
};
use leasehold_fuzz::Request;
use libfuzzer_sys::fuzz_target;
use std::cmp::Ordering;

fuzz_target!(|data: &[u8]| {
    let Request { tenant, parts } = Request::read(data);
    let boundary = TenantBoundary::default();
    let resolved = boundary.resolve(Some(&tenant), false, &parts.headers);
    if let Ok(Some(tenant)) = &resolved {
        let blank = RequestParts { headers: Vec::new(), ..parts.clone() };
        assert_eq!(boundary.resolve(Some(tenant.as_str()), false, &blank.headers), Ok(Some(tenant.clone())));
    }
    let tenant = resolved.ok().flatten().unwrap_or_else(TenantId::unnamed);
    order(&parts);
    path(&parts);

    let key = derive_key(&tenant, &parts);
    assert_eq!(derive_key(&tenant, &parts), key);
    assert_eq!(derive_key(&tenant, &turned(&parts)).map_err(discriminant), key.clone().map_err(discriminant));
    match key {
        Ok(key) => {
            secrets(&tenant, &parts, &key);
            tenants(&tenant, &parts, &key);
        }
        Err(error) => assert!(error.field().starts_with("request") && !error.to_string().is_empty()),
    }
});

/// The kind alone: which of two equal parameters comes second depends on their order.
fn discriminant(error: KeyError) -> std::mem::Discriminant<KeyError> {
    std::mem::discriminant(&error)
}

/// The order of names is one: sorting by any other panics, or has as many outcomes as beginnings.
fn order(parts: &RequestParts) {
    let names = parts.params.iter().chain(&parts.cookies).map(|(name, _)| name.as_str());
    let names: Vec<&str> = names.chain(parts.query.iter().map(|(name, _)| name.as_str())).take(8).collect();
    for a in &names {
        assert_eq!(order_of_names(a, a), Ordering::Equal);
        for b in &names {
            assert_eq!(order_of_names(a, b), order_of_names(b, a).reverse(), "{a:?} {b:?}");
            for c in &names {
                if order_of_names(a, b).is_le() && order_of_names(b, c).is_le() {
                    assert!(order_of_names(a, c).is_le(), "{a:?} {b:?} {c:?}");
                }
            }
        }
    }
}

/// The same request with its names in another order; of one name, and of names that the collation takes for the same, the
/// values keep theirs.
fn turned(parts: &RequestParts) -> RequestParts {
    fn turn<T: Clone>(list: &[(String, T)], compare: fn(&str, &str) -> Ordering) -> Vec<(String, T)> {
        let mut list = list.to_vec();
        list.sort_by(|(a, _), (b, _)| compare(b, a));
        list
    }
    // Header names are the same in any case and padding: those that are in a key are ASCII.
    let as_headers = |a: &str, b: &str| {
        let normal = |name: &str| name.trim_matches(|c: char| !c.is_ascii_graphic()).to_lowercase();
        normal(a).cmp(&normal(b))
    };
    RequestParts {
        params: turn(&parts.params, order_of_names),
        query: turn(&parts.query, order_of_names),
        headers: turn(&parts.headers, as_headers),
        cookies: turn(&parts.cookies, order_of_names),
        ..parts.clone()
    }
}

/// What is added for credentials and cookies is digests, and nothing before it depends on them.
fn secrets(tenant: &TenantId, parts: &RequestParts, key: &EntryKey) {
    let variant = VariantPolicy { auth: false, cookies: CookieVariant::None };
    let without = RequestParts { headers: Vec::new(), cookies: Vec::new(), variant, ..parts.clone() };
    let plain = derive_key(tenant, &without).expect("a shorter key");
    let added = key.as_str().strip_prefix(plain.as_str()).expect("the same key, and more");
    let carries = |header: &str| {
        let is_of =
            |name: &str| name.trim_matches(|c: char| !c.is_ascii_graphic()).eq_ignore_ascii_case(header);
        parts.headers.iter().any(|(name, _)| is_of(name))
    };
    let mut rest = added.strip_prefix('#').unwrap_or(added);
    for name in ["auth=", "cookies="] {
        if let Some(digest) = rest.strip_prefix(name) {
            assert!(digest.len() >= 24, "{added}");
            let (digest, after) = digest.split_at(24);
            assert!(digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{added}");
            rest = after.strip_prefix('&').unwrap_or(after);
            match name {
                "auth=" => assert!(parts.variant.auth && AUTH_HEADERS.into_iter().any(carries)),
                _ => assert!(!parts.cookies.is_empty() && parts.variant.cookies != CookieVariant::None),
            }
        }
    }
    assert!(rest.is_empty(), "{added}");
}

/// Another tenant's page of the same request is another entry, and has another key wherever the names of both can be told
/// from what follows them.
fn tenants(tenant: &TenantId, parts: &RequestParts, key: &EntryKey) {
    assert!(key.as_str().starts_with(&format!("{tenant}::/")));
    for other in ["other", &format!("{tenant}x"), &tenant.as_str()[..tenant.as_str().floor_char_boundary(1)]]
    {
        let Ok(other) = TenantId::parse(other) else { continue };
        if other == *tenant {
            continue;
        }
        let id = |tenant: &TenantId, key: &EntryKey| {
            EntryId { tenant: tenant.clone(), deployment: None, key: key.clone() }.digest()
        };
        assert_ne!(id(tenant, key), id(&other, key));
        let told = |tenant: &TenantId| !tenant.as_str().contains("::/") && !tenant.as_str().ends_with(':');
        if let Ok(theirs) = derive_key(&other, parts)
            && told(tenant)
            && told(&other)
        {
            assert_ne!(theirs, *key);
        }
    }
}

fn path(parts: &RequestParts) {
    if let Some(path) = path_of(parts) {
        assert_eq!(PagePath::parse(path.as_str()), Ok(path), "stored, and read again");
    }
}
