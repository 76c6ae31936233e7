//! What FaceTheory's key takes from JavaScript: three of its text functions, to the character.

use icu_collator::{CollatorBorrowed, options::CollatorOptions};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::{cmp::Ordering, fmt, sync::LazyLock};

/// What `encodeURIComponent` of JavaScript encodes.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

pub(super) fn encode(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, COMPONENT)
}

/// JavaScript's `localeCompare` under the root collation. Sorts by it are stable, as JavaScript's are: names
/// that differ only in how Unicode composes them, or in characters that are ignored, keep the order in which
/// they came.
///
/// Two things it cannot promise, both without consequence but that such a page is not shared with FaceTheory:
/// JavaScript engines order some Chinese characters by radical and stroke where this data has them by code
/// point, and an engine of another Unicode version orders the characters that are new to one of the two
/// differently.
pub(super) fn locale_compare(a: &str, b: &str) -> Ordering {
    // A debug assertion of icu_collator 2.4 fails on a few strings of decomposing combining marks (U+0341 after
    // a common prefix); without assertions it compares them as JavaScript does. Tests that make up names avoid
    // them.
    static ROOT: LazyLock<CollatorBorrowed<'static>> = LazyLock::new(|| {
        CollatorBorrowed::try_new(Default::default(), CollatorOptions::default())
            .expect("the root collation is compiled in")
    });
    ROOT.compare(a, b)
}

/// JavaScript's `trim`, whose white space differs from Rust's by two characters.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}'))
}
