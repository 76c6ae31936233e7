use super::*;
use crate::testing::samples::page_of_five_tags;
use leasehold_store::conformance::samples::{LATER, full_entry, id, pointer};

#[test]
fn the_row_of_a_page_with_five_tags_costs_one_write_unit() {
    let (id, entry) = page_of_five_tags();
    let row = write(&Layout::default(), &id, &entry, LATER).unwrap();
    let size = item::size_bytes(&row);
    assert!(size <= 1024, "{size} bytes with a lease");
    let committed = Entry { lease: None, released: None, ..entry };
    let size = item::size_bytes(&write(&Layout::default(), &id, &committed, LATER).unwrap());
    assert!(size <= 900, "{size} bytes without a lease");
}

fn attributes(row: &Item) -> Vec<(&str, &AttributeValue)> {
    let mut attributes: Vec<_> = row.iter().map(|(name, value)| (&**name, value)).collect();
    attributes.sort_by_key(|(name, _)| *name);
    attributes
}

fn foreign(values: &[(&str, AttributeValue)]) -> Item {
    values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// As TableTheory writes it.
fn table_theory() -> Item {
    foreign(&[
        ("pk", text_value("CACHE#t::/a?")),
        ("sk", text_value("META")),
        ("s3_key", text_value("isr/abc/1800000000123-x.html")),
        ("generated_at", number_value(1_800_000_000)),
        ("revalidate_seconds", number_value(60)),
        ("etag", text_value("W/\"e\"")),
        ("ttl", number_value(1_900_000_000)),
    ])
}

#[test]
fn a_row_of_ours_is_a_page_to_table_theory() {
    let (id, entry) = (id("t::/a?"), full_entry(1 << 127, 7));
    let layout = Layout { s3_key_prefix: "isr/".into(), ..Layout::table_theory() };
    let row = write(&layout, &id, &entry, LATER).unwrap();
    let names: Vec<&str> = attributes(&row).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["etag", "generated_at", "pk", "r", "revalidate_seconds", "s3_key", "sk", "ttl", "v"]);
    assert_eq!(row["pk"], text_value("CACHE#t::/a?"));
    let object = entry.pointer.unwrap().html.object;
    assert_eq!(format!("isr/{}", row["s3_key"].as_s().unwrap()), object.as_str());
    assert_eq!(row["generated_at"], number_value(1_799_999_999));
    assert_eq!(row["revalidate_seconds"], number_value(60));
    assert_eq!(row["etag"], text_value("\"abc\""));
    assert_eq!(row["ttl"], number_value(4_102_444_800_u64));
}

#[test]
fn a_page_that_is_not_there_is_none_to_table_theory_either() {
    let entry = full_entry(1 << 127, 7);
    let gone = Entry { pointer: Some(Pointer { gone: true, ..pointer(7) }), ..entry.clone() };
    for entry in [gone, Entry { pointer: None, ..entry }] {
        let row = write(&Layout::default(), &id("a"), &entry, LATER).unwrap();
        assert!(!row.contains_key("s3_key") && !row.contains_key("generated_at"));
        assert_eq!(read(&Layout::default(), &id("a"), &row), Ok(Row { entry, foreign: false }));
    }
}

#[test]
fn a_page_that_only_an_invalidation_ends_is_fresh_for_long_to_table_theory() {
    let mut entry = full_entry(1 << 127, 7);
    entry.pointer.as_mut().unwrap().meta.revalidate = None;
    let row = write(&Layout::default(), &id("a"), &entry, LATER).unwrap();
    assert_eq!(row["revalidate_seconds"], number_value(315_360_000));
    assert_eq!(read(&Layout::default(), &id("a"), &row), Ok(Row { entry, foreign: false }));
}

#[test]
fn an_entry_is_kept_as_long_as_its_lease_may_live() {
    let mut entry = full_entry(1 << 127, 7);
    let early = Timestamp::from_millis(1_001);
    let ttl = |entry: &Entry| write(&Layout::default(), &id("a"), entry, early).unwrap()["ttl"].clone();
    assert_eq!(ttl(&entry), number_value(1_800_000_301), "rounded up");
    entry.lease = None;
    assert_eq!(ttl(&entry), number_value(2), "rounded up");
}

#[test]
fn a_row_of_table_theory_is_a_page_that_has_heard_of_no_invalidation() {
    let row = read(&Layout::table_theory(), &id("t::/a?"), &table_theory()).unwrap();
    assert!(row.foreign);
    let Entry { version, generation, pointer, lease, released, backoff } = row.entry;
    assert!(may_be_foreign(version));
    assert_eq!(generation, Generation(1_800_000_000));
    assert_eq!((lease, released, backoff), (None, None, None));
    let pointer = pointer.unwrap();
    assert_eq!(pointer.html.object.as_str(), "isr/abc/1800000000123-x.html");
    assert_eq!(pointer.generation, generation);
    assert_eq!((pointer.token, pointer.seen, pointer.gone), (LeaseToken::from_bits(0), Seq::START, false));
    assert_eq!(pointer.generated_at, Timestamp::from_millis(1_800_000_000_000));
    assert_eq!(pointer.meta.status, PageStatus::OK);
    assert_eq!(pointer.meta.etag, "W/\"e\"");
    assert_eq!(pointer.meta.revalidate, Some(Duration::from_secs(60)));
}

#[test]
fn a_row_of_table_theory_with_less_or_odder_attributes_is_still_a_page() {
    let page = |changes: &[(&str, Option<AttributeValue>)]| {
        let mut row = table_theory();
        for (name, value) in changes {
            match value {
                Some(value) => row.insert((*name).into(), value.clone()),
                None => row.remove(*name),
            };
        }
        read(&Layout::table_theory(), &id("t::/a?"), &row).map(|row| row.entry.pointer.unwrap())
    };
    let bare = page(&[("etag", None), ("revalidate_seconds", None), ("ttl", None)]).unwrap();
    assert_eq!(bare.meta.revalidate, Some(Duration::ZERO), "as FaceTheory has it: stale at once");
    assert!(bare.meta.etag.starts_with('"') && bare.meta.etag.len() == 34);
    let fractions =
        [("revalidate_seconds", Some(number_value("1.5"))), ("generated_at", Some(number_value("7.25")))];
    let odd = page(&fractions).unwrap();
    assert_eq!(odd.meta.revalidate, Some(Duration::from_millis(1500)));
    assert_eq!(odd.generated_at, Timestamp::from_millis(7_000));
    for (name, value) in [
        ("s3_key", None),
        ("s3_key", Some(number_value(1))),
        ("s3_key", Some(text_value("a//b"))),
        ("generated_at", None),
        ("generated_at", Some(number_value(-1))),
        ("generated_at", Some(number_value(1_800_000_000_123_u64))),
        ("generated_at", Some(number_value(u64::MAX))),
        ("revalidate_seconds", Some(number_value("1E3"))),
    ] {
        let refused = page(&[(name, value.clone())]).unwrap_err();
        assert!(
            matches!(refused, InvalidRow::Attribute(InvalidAttribute { name: told, .. }) if told == name),
            "{value:?}"
        );
    }
}

#[test]
fn a_row_that_table_theory_changed_after_us_is_its_page_in_our_entry() {
    let (id, entry) = (id("t::/a?"), full_entry(1 << 127, 7));
    let mut row = write(&Layout::table_theory(), &id, &entry, LATER).unwrap();
    row.insert("ttl".into(), number_value(5));
    let untouched = read(&Layout::table_theory(), &id, &row).unwrap();
    assert_eq!(untouched, Row { entry: entry.clone(), foreign: false }, "its ttl says nothing of the page");
    row.insert("s3_key".into(), text_value("theirs.html"));
    row.insert("generated_at".into(), number_value(1_800_000_500));
    let changed = read(&Layout::table_theory(), &id, &row).unwrap();
    assert!(changed.foreign);
    assert_ne!(changed.entry.version, entry.version);
    assert_eq!(changed.entry.generation, Generation(1_800_000_500), "above the page and every lease");
    assert_eq!(changed.entry.lease, entry.lease);
    assert_eq!(changed.entry.backoff, None, "a render has succeeded");
    assert_eq!(changed.entry.pointer.unwrap().html.object.as_str(), "theirs.html");
}

/// As while the setting changes under a fleet: what one coordinator writes, another reads.
#[test]
fn a_row_of_ours_is_ours_whatever_prefix_its_s3_key_is_without() {
    let (id, entry) = (id("t::/a?"), full_entry(1 << 127, 7));
    let with = |prefix: &str| Layout { s3_key_prefix: prefix.into(), ..Layout::table_theory() };
    let prefixes = ["", "isr", "isr/", "/isr/abc", "html/"];
    for (written, read_with) in prefixes.iter().flat_map(|one| prefixes.map(|other| (one, other))) {
        let row = write(&with(written), &id, &entry, LATER).unwrap();
        let read = read(&with(read_with), &id, &row).unwrap();
        assert_eq!(read, Row { entry: entry.clone(), foreign: false }, "{written} {read_with}");
    }
}

#[test]
fn a_row_whose_page_is_not_that_of_its_record_is_somebody_elses() {
    let (id, entry) = (id("t::/a?"), full_entry(1 << 127, 7));
    let written = write(&Layout::table_theory(), &id, &entry, LATER).unwrap();
    for (name, value) in [
        ("s3_key", text_value("html")),
        ("s3_key", text_value("/")),
        ("s3_key", text_value(&written["s3_key"].as_s().unwrap()[1..])),
        ("s3_key", text_value(format!("elsewhere/{}", written["s3_key"].as_s().unwrap()))),
        ("generated_at", number_value(1_800_000_500)),
        ("revalidate_seconds", number_value(61)),
        ("etag", text_value("W/\"f\"")),
    ] {
        let mut row = written.clone();
        row.insert(name.into(), value.clone());
        // A key that names no object is not understood either way.
        let read = read(&Layout::table_theory(), &id, &row);
        assert!(read.is_err() || read.is_ok_and(|row| row.foreign), "{name} {value:?}");
    }
}

/// FaceTheory's store takes a prefix with or without slashes around it for the same.
#[test]
fn an_s3_key_is_found_where_facetheorys_store_finds_it() {
    for prefix in ["html", "html/", "/html/"] {
        let layout = Layout { s3_key_prefix: prefix.into(), ..Layout::table_theory() };
        for s3_key in ["a/1.html", "/a/1.html", "//a/1.html"] {
            assert_eq!(layout.object_of(s3_key).unwrap().as_str(), "html/a/1.html", "{prefix} {s3_key}");
        }
        let name = |name| leasehold_core::object::ObjectName::parse(name).unwrap();
        assert_eq!(layout.s3_key_of(&name("html/a/1.html")), "a/1.html");
        assert_eq!(layout.s3_key_of(&name("html5/a/1.html")), "html5/a/1.html");
    }
    assert_eq!(Layout::table_theory().object_of("/a/1.html").unwrap().as_str(), "a/1.html");
}

#[test]
fn a_foreign_version_is_the_same_as_long_as_the_row_is() {
    let version = |row: &Item| read(&Layout::table_theory(), &id("t::/a?"), row).unwrap().entry.version;
    let first = version(&table_theory());
    assert_eq!(first, version(&table_theory()));
    let mut touched = table_theory();
    touched.insert("ttl".into(), number_value(1));
    assert_eq!(first, version(&touched), "a ttl is not part of the page");
    for (name, value) in [
        ("s3_key", text_value("b")),
        ("generated_at", number_value(1_800_000_001)),
        ("revalidate_seconds", number_value(61)),
        ("etag", text_value("W/\"f\"")),
    ] {
        let mut row = table_theory();
        row.insert(name.into(), value);
        assert_ne!(first, version(&row), "{name}");
    }
    let over_ours = |ours: u128| {
        let mut row = write(&Layout::table_theory(), &id("t::/a?"), &full_entry(ours, 7), LATER).unwrap();
        row.insert("s3_key".into(), text_value("theirs.html"));
        version(&row)
    };
    assert_ne!(over_ours(1 << 100), over_ours(2 << 100), "what we swapped in beneath their page is told too");
}

#[test]
fn a_row_under_a_key_that_may_be_anothers_is_refused() {
    let (layout, tenant) = (Layout::table_theory(), id("other::/a?"));
    assert_eq!(read(&layout, &tenant, &table_theory()), Err(InvalidRow::Anonymous));
    // A record says whose it is, whatever the key.
    let theirs = write(&layout, &id("t::/a?"), &full_entry(1 << 127, 7), LATER).unwrap();
    assert_eq!(read(&layout, &tenant, &theirs), Err(InvalidRow::Record(InvalidRecord::OtherIdentity)));
}

#[test]
fn a_version_that_is_not_that_of_the_record_is_refused() {
    let mut row = write(&Layout::default(), &id("a"), &full_entry(1 << 127, 7), LATER).unwrap();
    row.insert("v".into(), bytes_value([0; 16]));
    assert_eq!(read(&Layout::default(), &id("a"), &row), Err(InvalidRow::OtherVersion));
    row.remove("v");
    assert!(matches!(read(&Layout::default(), &id("a"), &row), Err(InvalidRow::Attribute(_))));
}

#[test]
fn seconds_are_written_as_they_are_read() {
    for (duration, text) in [
        (Duration::ZERO, "0"),
        (Duration::from_secs(60), "60"),
        (Duration::from_millis(1_500), "1.5"),
        (Duration::from_nanos(1), "0.000000001"),
        (Duration::MAX, "18446744073709551615.999999999"),
    ] {
        assert_eq!(decimal_seconds(duration), text);
        assert_eq!(parse_decimal(text), Some(duration));
    }
    assert_eq!(parse_decimal("1.0000000009"), Some(Duration::from_secs(1)), "finer than a nanosecond");
    for text in ["", "-1", "1e3", "1.x", ".", "1.-5"] {
        assert_eq!(parse_decimal(text), None, "{text}");
    }
}
