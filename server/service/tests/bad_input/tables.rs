//! What is wrong with the parts that several requests share.

use crate::harness::*;
use bytes::Bytes;
use v1::{entry_ref::Name, invalidation_scope::Scope};

/// Rows whose requests all break the same field.
pub(super) fn fields<T, Q>(
    field: &str,
    values: impl IntoIterator<Item = T>,
    request: impl Fn(T) -> Q,
) -> Vec<(Q, String)> {
    values.into_iter().map(|value| (request(value), field.to_owned())).collect()
}

pub(super) fn default_lease() -> v1::LeaseRef {
    v1::LeaseRef { request_id: Bytes::from_static(&[7; 16]), generation: 1 }
}

pub(super) fn bad_ids() -> [Bytes; 4] {
    [&[][..], &[7; 15], &[7; 17], &[0; 16]].map(Bytes::copy_from_slice)
}

/// Durations that are none, or negative.
pub(super) fn bad_durations() -> impl Iterator<Item = prost_types::Duration> {
    let table = [(-1, 0), (0, -1), (i64::MIN, 0), (1, -1), (1, 1_000_000_000), (0, i32::MAX), (0, i32::MIN)];
    table.into_iter().map(|(seconds, nanos)| prost_types::Duration { seconds, nanos })
}

/// Entries with what is wrong with them.
pub(super) fn bad_entries() -> Vec<(Option<v1::EntryRef>, String)> {
    let good = || entry("k");
    let mut table: Vec<(Option<v1::EntryRef>, String)> = vec![
        (None, "entry".to_owned()),
        (Some(v1::EntryRef { name: None, ..good() }), "entry.key".to_owned()),
    ];
    let bad_names = |limit: usize| {
        [
            " ".to_owned(),
            "a\nb".to_owned(),
            "a\u{0}".to_owned(),
            "\u{85}b".to_owned(),
            " a".to_owned(),
            "x".repeat(limit + 1),
        ]
    };
    for name in bad_names(128) {
        table.push((Some(v1::EntryRef { tenant: name.clone(), ..good() }), "entry.tenant".to_owned()));
        table.push((Some(v1::EntryRef { deployment: name, ..good() }), "entry.deployment".to_owned()));
    }
    for key in bad_names(4096).into_iter().chain([String::new()]) {
        table.push((Some(entry(&key)), "entry.key".to_owned()));
    }
    for path in ["a/b".to_owned(), "/a\tb".to_owned(), "/a /".to_owned(), format!("/{}", "p".repeat(2048))] {
        table.push((Some(v1::EntryRef { path, ..good() }), "entry.path".to_owned()));
    }
    for (request, field) in bad_page_requests() {
        let name = Some(Name::Request(request));
        table.push((Some(v1::EntryRef { name, ..good() }), format!("entry.request{field}")));
    }
    table
}

fn bad_page_requests() -> Vec<(v1::PageRequest, &'static str)> {
    let good = || v1::PageRequest { route: "/r".to_owned(), ..Default::default() };
    let pairs = |count: usize| {
        (0..count)
            .map(|at| v1::NameValue { name: format!("n{at}"), value: String::new() })
            .collect::<Vec<_>>()
    };
    let lists = |count: usize| {
        (0..count).map(|at| v1::NameValues { name: format!("n{at}"), values: vec![] }).collect::<Vec<_>>()
    };
    let twice = vec![v1::NameValue { name: "a".to_owned(), value: String::new() }; 2];
    let long = v1::NameValues { name: "q".to_owned(), values: vec!["v".repeat(4096)] };
    let allowlist = v1::CookieVariance::Allowlist.into();
    vec![
        (v1::PageRequest { route: String::new(), ..good() }, ".route"),
        (v1::PageRequest { route: "/a\u{1b}".to_owned(), ..good() }, ".route"),
        (v1::PageRequest { route: "r".repeat(2049), ..good() }, ".route"),
        (v1::PageRequest { params: pairs(65), ..good() }, ".params"),
        (v1::PageRequest { params: twice, ..good() }, ".params"),
        (v1::PageRequest { query: lists(257), ..good() }, ".query"),
        (v1::PageRequest { query: vec![long], ..good() }, ""),
        (v1::PageRequest { headers: lists(257), ..good() }, ".headers"),
        (v1::PageRequest { cookies: pairs(257), ..good() }, ".cookies"),
        (v1::PageRequest { cookie_variance: 99, ..good() }, ".cookie_variance"),
        (v1::PageRequest { cookie_variance: allowlist, ..good() }, ".cookie_allowlist"),
        (v1::PageRequest { cookie_allowlist: tags(&["a"]), ..good() }, ".cookie_allowlist"),
        (
            v1::PageRequest {
                cookie_variance: allowlist,
                cookie_allowlist: (0..257).map(|at| format!("c{at}")).collect(),
                ..good()
            },
            ".cookie_allowlist",
        ),
    ]
}

/// Scopes with what is wrong with them.
pub(super) fn bad_scopes() -> Vec<(v1::InvalidationScope, &'static str)> {
    let long = |bytes: usize| "x".repeat(bytes);
    vec![
        (v1::InvalidationScope { tenant: TENANT.to_owned(), scope: None }, "scope"),
        (scope(Scope::Everything(v1::Everything {})), "tenant"),
        (scope_of("a\nb", Scope::WholeTenant(v1::WholeTenant {})), "tenant"),
        (scope_of(&long(129), Scope::WholeTenant(v1::WholeTenant {})), "tenant"),
        (scope(Scope::Deployment(String::new())), "deployment"),
        (scope(Scope::Deployment(long(129))), "deployment"),
        (scope(Scope::PathPrefix(String::new())), "path_prefix"),
        (scope(Scope::PathPrefix("blog".to_owned())), "path_prefix"),
        (scope(Scope::PathPrefix("/blog /".to_owned())), "path_prefix"),
        (scope(Scope::PathPrefix(format!("/{}", long(2048)))), "path_prefix"),
        (scope(Scope::Tag(String::new())), "tag"),
        (scope(Scope::Tag(long(257))), "tag"),
        (scope(Scope::Tag("a\u{0}".to_owned())), "tag"),
        (scope(Scope::Key(String::new())), "key"),
        (scope(Scope::Key(long(4097))), "key"),
    ]
}

/// What no page can say of itself.
pub(super) fn bad_pages() -> Vec<(v1::PageMetadata, String)> {
    type Page = v1::PageMetadata;
    let good = Page::default;
    let header = |name: &str, value: &str| v1::NameValue { name: name.to_owned(), value: value.to_owned() };
    let mut table = Vec::new();
    table.extend(fields("status", [1, 100, 199, 500, 503, 600, 65_736, u32::MAX], |status| Page {
        status,
        ..good()
    }));
    table.extend(fields("content_type", ["a\r\nb".to_owned(), "t".repeat(257)], |content_type| Page {
        content_type,
        ..good()
    }));
    let etags = [
        "abc".to_owned(),
        "\"a\"b\"".to_owned(),
        "\"".to_owned(),
        "w/\"a\"".to_owned(),
        "\"a b\"".to_owned(),
        "\"\n\"".to_owned(),
        format!("\"{}\"", "e".repeat(255)),
    ];
    table.extend(fields("etag", etags, |etag| Page { etag, ..good() }));
    let names =
        ["", "bad name", "a:b", "\u{e9}", "Set-Cookie", "content-length", "Transfer-Encoding", "etag"];
    table.extend(fields("headers[1].name", names, |name| Page {
        headers: vec![header("x-good", "1"), header(name, "v")],
        ..good()
    }));
    table.extend(fields("headers[0].value", ["a\nb", "a\u{0}"], |value| Page {
        headers: vec![header("x-bad", value)],
        ..good()
    }));
    let many = vec![header("x", "v"); 33];
    let large = vec![header("x", &"v".repeat(8192))];
    table.extend(fields("headers", [many, large], |headers| Page { headers, ..good() }));
    let eleven_years = wire(secs(11 * 365 * 24 * 3600));
    for window in bad_durations().chain([eleven_years, wire(Duration::MAX / 4)]) {
        let window = Some(window);
        table.push((Page { revalidate: window, ..good() }, "revalidate".to_owned()));
        table.push((Page { stale_while_revalidate: window, ..good() }, "stale_while_revalidate".to_owned()));
        table.push((Page { stale_if_error: window, ..good() }, "stale_if_error".to_owned()));
        table.push((Page { render_time: window, ..good() }, "render_time".to_owned()));
    }
    table.push((Page { tags: vec!["t".to_owned(); 65], ..good() }, "tags".to_owned()));
    let bad_tags = [String::new(), "a\nb".to_owned(), " a".to_owned(), "t".repeat(257)];
    table.extend(fields("tags[1]", bad_tags, |bad| Page { tags: vec!["good".to_owned(), bad], ..good() }));
    let paths = ["a".to_owned(), "/a\u{0}".to_owned(), "/a /".to_owned(), format!("/{}", "p".repeat(2048))];
    table.extend(fields("path", paths, |path| Page { path, ..good() }));
    table
}
