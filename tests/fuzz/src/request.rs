//! Requests that keys are derived from, as inputs.

use crate::texts;
use leasehold_core::key::{CookieAllowlist, CookieVariant, RequestParts, VariantPolicy};

/// A request and the tenant that it declares.
pub struct Request {
    /// The tenant.
    pub tenant: String,
    /// The rest.
    pub parts: RequestParts,
}

impl Request {
    /// From an input: fields that begin with a letter for what they are, and hold `name=value`.
    ///
    /// | letter | field |
    /// |---|---|
    /// | `t` | the tenant |
    /// | `r` | the route |
    /// | `p` `q` `h` `c` | a parameter, query value, header or cookie |
    /// | `l` | a name on the cookie allowlist |
    /// | `n` | no cookies in the key |
    /// | `i` | no credentials in the key |
    pub fn read(data: &[u8]) -> Self {
        let (mut tenant, mut parts, mut allowed) = (String::new(), RequestParts::default(), Vec::new());
        let mut variant = VariantPolicy::default();
        for field in texts(data) {
            let mut chars = field.chars();
            let Some(kind) = chars.next() else { continue };
            let text = chars.as_str();
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            let (name, value) = (name.to_owned(), value.to_owned());
            match kind {
                't' => tenant = text.to_owned(),
                'r' => parts.route = text.to_owned(),
                'p' => parts.params.push((name, value)),
                'q' => parts.query.push((name, vec![value])),
                'h' => parts.headers.push((name, vec![value])),
                'c' => parts.cookies.push((name, value)),
                'l' => allowed.push(text.to_owned()),
                'n' => variant.cookies = CookieVariant::None,
                'i' => variant.auth = false,
                _ => {}
            }
        }
        if let Ok(list) = CookieAllowlist::new(allowed) {
            variant.cookies = CookieVariant::Only(list);
        }
        Self { tenant, parts: RequestParts { variant, ..parts } }
    }
}
