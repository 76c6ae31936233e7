//! Route patterns, and the URL path that one makes with its parameters.

use super::{KeyError, MAX_PARAMS, RequestParts, javascript::trim, unique_params, within};
use crate::identity::{InvalidName, PagePath};
use std::{borrow::Cow, collections::HashMap};

/// The longest route pattern, in bytes of UTF-8.
pub const MAX_ROUTE_BYTES: usize = 2048;

/// The page's URL path: the route with its parameters filled in, `{id}` by one segment, `{proxy+}` and
/// `{proxy*}` at the end by the rest of the path (`*` also by nothing).
///
/// `None` where that is not certain: a parameter is missing, left over, or does not fit its place. A page
/// under a wrong path would be missed by the invalidation of its right one. White space at the end is dropped: no path has
/// it, so that nobody can invalidate by one that does, and what is invalidated by the path without it was meant.
pub fn path_of(parts: &RequestParts) -> Option<PagePath> {
    let route = normal(&parts.route).ok()?;
    within("request.params", parts.params.len(), MAX_PARAMS).ok()?;
    let params = unique_params(&parts.params).ok()?.into_iter().collect::<HashMap<_, _>>();
    let mut used = 0;
    let mut path = String::from("/");
    let mut segments = segments(&route).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let text = match Segment::of(segment) {
            Segment::Literal(text) => text,
            Segment::One(name) => {
                used += 1;
                params.get(name).copied().filter(|value| !value.is_empty() && !value.contains('/'))?
            }
            Segment::Rest { name, may_be_empty, .. } if last => match params.get(name) {
                None if may_be_empty => "",
                given => {
                    used += 1;
                    given.copied().filter(|value| may_be_empty || !value.is_empty())?
                }
            },
            Segment::Rest { .. } | Segment::Unclear => return None,
        };
        path.push_str(text);
        path.push('/');
    }
    if used != params.len() {
        return None;
    }
    let path = path.trim_end_matches(|c: char| c == '/' || (c.is_whitespace() && !c.is_control()));
    PagePath::parse(if path.is_empty() { "/" } else { path }).ok()
}

/// The route as a key writes it: one leading slash, no trailing one, nothing from a `?` on.
pub(super) fn normal(route: &str) -> Result<String, KeyError> {
    if route.len() > MAX_ROUTE_BYTES {
        let too_long = InvalidName::TooLong { actual: route.len(), limit: MAX_ROUTE_BYTES };
        return Err(KeyError::Route(too_long));
    }
    let path = trim(route).split('?').next().unwrap_or_default();
    if let Some(control) = path.chars().find(|c| c.is_control()) {
        return Err(KeyError::Route(InvalidName::ControlCharacter(control as u32)));
    }
    Ok(format!("/{}", path.trim_matches('/')))
}

/// The parameters that must be written as empty, because the query could be taken for them.
pub(super) fn absent_params<'r>(
    route: &'r str,
    params: &[(String, String)],
    query: &[(Cow<'_, str>, Vec<&str>)],
) -> Vec<(&'r str, &'static str)> {
    let given = |name: &str| params.iter().any(|(given, _)| given == name);
    let mut absent = Vec::new();
    for segment in segments(route) {
        let name = match Segment::of(segment) {
            Segment::One(name) if !given(name) => name,
            // FaceTheory takes a rest parameter that is not `proxy` for a plain one, named with its sign.
            Segment::Rest { name, signed, .. } if !given(name) && !given(signed) => name,
            _ => continue,
        };
        if query.iter().any(|(asked, _)| asked == name) && !absent.contains(&(name, "")) {
            absent.push((name, ""));
        }
    }
    absent
}

fn segments(route: &str) -> impl Iterator<Item = &str> {
    route.split('/').filter(|segment| !segment.is_empty())
}

/// A segment of a route pattern.
enum Segment<'a> {
    Literal(&'a str),
    One(&'a str),
    Rest { name: &'a str, signed: &'a str, may_be_empty: bool },
    Unclear,
}

impl<'a> Segment<'a> {
    fn of(text: &'a str) -> Self {
        if !text.contains(['{', '}']) {
            return Self::Literal(text);
        }
        let Some(signed) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            return Self::Unclear;
        };
        let name = signed.strip_suffix(['+', '*']).unwrap_or(signed);
        if name.is_empty() || signed.contains(['{', '}']) {
            return Self::Unclear;
        }
        if name.len() == signed.len() {
            return Self::One(name);
        }
        Self::Rest { name, signed, may_be_empty: signed.ends_with('*') }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(route: &str, params: &[(&str, &str)]) -> Option<String> {
        let params = params.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let parts = RequestParts { route: route.into(), params, ..RequestParts::default() };
        path_of(&parts).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn a_path_is_its_route_filled_in() {
        for (route, params, expected) in [
            ("", &[][..], "/"),
            ("/about/", &[], "/about"),
            ("about?x", &[], "/about"),
            ("/blog/{slug}", &[("slug", "hello")], "/blog/hello"),
            ("/{b}/x/{a}", &[("a", "1"), ("b", "2")], "/2/x/1"),
            ("/docs/{proxy+}", &[("proxy", "a/b")], "/docs/a/b"),
            ("/docs/{proxy*}", &[("proxy", "a")], "/docs/a"),
            ("/docs/{proxy*}", &[], "/docs"),
            ("/docs/{proxy*}", &[("proxy", "")], "/docs"),
            ("/{proxy*}", &[], "/"),
            ("/blog/{slug}", &[("slug", "hello ")], "/blog/hello"),
            ("/blog/{slug}", &[("slug", " ")], "/blog"),
            ("/{a}/{b}", &[("a", " "), ("b", "\u{3000}")], "/"),
            ("/{a}/{b}", &[("a", " x "), ("b", " y")], "/ x / y"),
        ] {
            assert_eq!(path(route, params).as_deref(), Some(expected), "{route}");
        }
    }

    #[test]
    fn an_uncertain_path_is_none() {
        for (route, params) in [
            ("/blog/{slug}", &[][..]),
            ("/blog/{slug}", &[("slug", "")]),
            ("/blog/{slug}", &[("slug", "a/b")]),
            ("/blog/{slug}", &[("slug", "a"), ("slug", "a")]),
            ("/blog/{slug}", &[("slug", "a"), ("other", "b")]),
            ("/blog/:slug", &[("slug", "a")]),
            ("/blog/{slug}.html", &[("slug", "a")]),
            ("/blog/{}", &[]),
            ("/blog/{}", &[("", "a")]),
            ("/blog/{+}", &[("", "a")]),
            ("/blog/{a{b}", &[("a{b", "a")]),
            ("/{proxy+}", &[]),
            ("/{proxy+}", &[("proxy", "")]),
            ("/{proxy+}/x", &[("proxy", "a")]),
            ("/blog/{slug}", &[("slug", "a\n")]),
        ] {
            assert_eq!(path(route, params), None, "{route}");
        }
    }
}
