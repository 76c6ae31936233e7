//! What a key depends on that cannot be seen from outside.

use std::cmp::Ordering;

/// How names are ordered in a key. Names that are equal by it keep the order in which they came.
pub fn order_of_names(a: &str, b: &str) -> Ordering {
    super::javascript::locale_compare(a, b)
}
