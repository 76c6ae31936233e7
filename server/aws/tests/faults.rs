//! What the ports say when the services fail, hang, or do as they are told and answer nothing. Time stands still but where all
//! wait for it: only what hangs is ever late, on a busy machine too.

use leasehold_aws::{
    Aws, Timeouts,
    testing::{Doubles, Fault, Rule},
};
use leasehold_core::{
    identity::{EntryKey, Seq, TenantId, Version},
    invalidation::{LogEvent, Scope},
    object::ObjectName,
};
use leasehold_store::{
    conformance::samples::{LATER, body, digest, entry, event, id, object_meta, object_name},
    decorators::faults::Gate,
    port::{Append, Expected, Head, Put, ReadError, Swap, WriteError},
};
use std::time::Duration;

const fn version(n: u128) -> Version {
    Version(n << 100 | 7)
}

async fn ready() -> (Doubles, Aws) {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    doubles.counters.reset();
    (doubles, aws)
}

fn read_outcome<T>(outcome: &Result<T, ReadError>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(ReadError::Unavailable(_)) => "unavailable",
        Err(ReadError::Corrupt(_)) => "corrupt",
    }
}

/// What became of a read, and how long that took by the clock that stands still.
#[expect(clippy::disallowed_methods, reason = "tokio's clock is the test's own here")]
async fn lasting<T>(read: impl Future<Output = Result<T, ReadError>>) -> (&'static str, Duration) {
    let start = tokio::time::Instant::now();
    let outcome = read_outcome(&read.await);
    (outcome, start.elapsed())
}

fn write_outcome<T>(outcome: &Result<T, WriteError>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(WriteError::NotApplied(_)) => "not applied",
        Err(WriteError::Unknown(_)) => "unknown",
        Err(WriteError::Corrupt(_)) => "corrupt",
        Err(WriteError::TooLarge(_)) => "too large",
    }
}

/// Each fault, what a write says of it, and whether it was applied.
fn faults() -> [(Fault, &'static str, bool); 8] {
    [
        (Fault::Refuse, "not applied", false),
        (Fault::Throttle, "not applied", false),
        (Fault::FailBefore, "unknown", false),
        (Fault::FailAfter, "unknown", true),
        (Fault::HangBefore, "unknown", false),
        (Fault::HangAfter, "unknown", true),
        (Fault::DropAnswer, "unknown", true),
        (Fault::Garble, "unknown", true),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_swap_says_whether_it_can_have_been_applied_and_its_repetition_settles_it() {
    let (doubles, aws) = ready().await;
    let entries = aws.stores().entries;
    for (n, (fault, expected, applied)) in (1..).zip(faults()) {
        let id = id(&format!("{fault:?}"));
        let mine = entry(version(n).0, 1);
        doubles.faults.add(Rule::on("PutItem", fault.clone()).nth(1));
        let outcome = entries.swap(&id, Expected::Absent, &mine, LATER).await;
        assert_eq!(write_outcome(&outcome), expected, "{fault:?}");
        assert_eq!(doubles.counters.of("PutItem"), 1, "one attempt, {fault:?}");
        assert_eq!(entries.read(&id).await.unwrap().is_some(), applied, "{fault:?}");
        // The same swap again: it is applied now, or was applied by the first attempt, which is what refuses it.
        let again = entries.swap(&id, Expected::Absent, &mine, LATER).await.unwrap();
        assert_eq!(again, Swap::Applied, "{fault:?}");
        assert_eq!(entries.read(&id).await.unwrap(), Some(mine), "{fault:?}");
        doubles.faults.clear();
        doubles.counters.reset();
    }
}

/// The emulator has no conflicts of its own; DynamoDB has them wherever two appends meet.
#[tokio::test(start_paused = true)]
async fn a_conflict_with_another_write_is_surely_not_applied() {
    let (doubles, aws) = ready().await;
    let stores = aws.stores();
    doubles.faults.add(Rule::on_any(Fault::Conflict).times(2));
    let append = stores.log.append(Seq::START, &event(1, 1)).await;
    assert_eq!(write_outcome(&append), "not applied");
    let swap = stores.entries.swap(&id("a"), Expected::Absent, &entry(version(1).0, 1), LATER).await;
    assert_eq!(write_outcome(&swap), "not applied");
    assert_eq!(stores.log.append(Seq::START, &event(1, 1)).await.unwrap(), Append::Appended);
}

/// Two others append: the first is done, so that the slot is taken; the second has the head at that moment. DynamoDB tells the
/// reason of each item for itself.
#[tokio::test(start_paused = true)]
async fn an_append_behind_one_rival_that_meets_another_is_not_applied_and_nothing_is_corrupt() {
    let (doubles, aws) = ready().await;
    let (log, rival) = (aws.stores().log, doubles.beside().connect(Doubles::settings()).stores().log);
    rival.append(Seq::START, &event(1, 1)).await.unwrap();
    doubles.faults.add(Rule::on("TransactWriteItems", Fault::ConflictAndRefusal).nth(1));
    let append = log.append(Seq::START, &event(1, 9)).await;
    assert_eq!(write_outcome(&append), "not applied", "{append:?}");
    assert_eq!(log.append(Seq::START, &event(1, 9)).await.unwrap(), Append::HeadMoved);
}

/// The first attempt was applied, and somebody went on from there: the repetition is refused by the successor.
#[tokio::test(start_paused = true)]
async fn a_repeated_swap_that_was_overtaken_is_shown_its_successor() {
    let (doubles, aws) = ready().await;
    let entries = aws.stores().entries;
    let (mine, next) = (entry(version(1).0, 1), entry(version(2).0, 2));
    doubles.faults.add(Rule::on("PutItem", Fault::FailAfter).nth(1));
    assert!(entries.swap(&id("a"), Expected::Absent, &mine, LATER).await.is_err());
    entries.swap(&id("a"), Expected::Version(version(1)), &next, LATER).await.unwrap();
    let again = entries.swap(&id("a"), Expected::Absent, &mine, LATER).await.unwrap();
    assert_eq!(again, Swap::Refused(Some(next)));
}

#[tokio::test(start_paused = true)]
async fn an_append_says_whether_it_can_have_been_applied_and_its_repetition_settles_it() {
    let (doubles, aws) = ready().await;
    let log = aws.stores().log;
    for (seq, (fault, expected, applied)) in (1..).zip(faults()) {
        let mine = event(seq, u128::from(seq) << 64);
        doubles.faults.add(Rule::on("TransactWriteItems", fault.clone()).nth(1));
        let outcome = log.append(Seq(seq - 1), &mine).await;
        assert_eq!(write_outcome(&outcome), expected, "{fault:?}");
        let head = log.head().await.unwrap();
        assert_eq!(head.seq == mine.seq, applied, "{fault:?}");
        // Through another handle, as if the coordinator had been replaced.
        let again = aws.stores().log.append(Seq(seq - 1), &mine).await.unwrap();
        assert_eq!(again, Append::Appended, "{fault:?}");
        assert_eq!(log.head().await.unwrap(), Head { seq: mine.seq, last_event: Some(mine.id) });
        assert_eq!(log.events(Seq(seq - 1), 10).await.unwrap(), [mine], "{fault:?}");
        doubles.faults.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_says_whether_it_can_have_been_applied() {
    let (doubles, aws) = ready().await;
    let objects = aws.stores().objects;
    for (n, (fault, expected, applied)) in (1..).zip(faults()) {
        let (name, body) = (object_name(n), body(1, 1000));
        doubles.faults.add(Rule::on("PutObject", fault.clone()).nth(1));
        let outcome = objects.put(&name, body.clone(), digest(&body), &object_meta()).await;
        assert_eq!(write_outcome(&outcome), expected, "{fault:?}");
        assert_eq!(objects.info(&name).await.unwrap().is_some(), applied, "{fault:?}");
        let again = objects.put(&name, body.clone(), digest(&body), &object_meta()).await.unwrap();
        assert_eq!(again, if applied { Put::Exists } else { Put::Created }, "{fault:?}");
        doubles.faults.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_is_unavailable_and_never_an_absence() {
    let (doubles, aws) = ready().await;
    let stores = aws.stores();
    let Timeouts { table, objects, .. } = Doubles::settings().timeouts;
    for (fault, ..) in faults() {
        doubles.faults.add(Rule::on_any(fault.clone()));
        let hangs = matches!(fault, Fault::HangBefore | Fault::HangAfter);
        let unavailable_after = |limit| ("unavailable", if hangs { limit } else { Duration::ZERO });
        let read = lasting(stores.entries.read(&id("a"))).await;
        assert_eq!(read, unavailable_after(table), "{fault:?}");
        let fetched = lasting(stores.objects.get(&object_name(1))).await;
        assert_eq!(fetched, unavailable_after(objects), "{fault:?}");
        assert_eq!(read_outcome(&stores.log.head().await), "unavailable", "{fault:?}");
        assert_eq!(read_outcome(&stores.log.events(Seq::START, 10).await), "unavailable", "{fault:?}");
        assert_eq!(read_outcome(&stores.objects.info(&object_name(1)).await), "unavailable", "{fault:?}");
        doubles.faults.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_left_something_is_an_error() {
    let (doubles, aws) = ready().await;
    let objects = aws.stores().objects;
    let put = async |n| {
        let body = body(1, 10);
        objects.put(&object_name(n), body.clone(), digest(&body), &object_meta()).await.unwrap();
    };
    for n in [1, 2] {
        put(n).await;
    }
    doubles.s3.refuse_to_delete(&object_name(1));
    let outcome = objects.delete(&[object_name(1), object_name(2)]).await;
    assert_eq!(write_outcome(&outcome), "unknown");
    assert!(objects.info(&object_name(1)).await.unwrap().is_some());
    assert!(objects.info(&object_name(2)).await.unwrap().is_none(), "the others are deleted");
    doubles.s3.allow_only(object_name(3).as_str());
    let outcome = objects.delete(&[object_name(3), object_name(4)]).await;
    assert_eq!(write_outcome(&outcome), "unknown", "one of them may be deleted");
    assert_eq!(write_outcome(&objects.delete(&[object_name(4)]).await), "not applied", "no right to any");
}

/// The service refuses a document that names such a key, with all the others that it names.
#[tokio::test(start_paused = true)]
async fn a_key_that_xml_cannot_carry_is_deleted_and_holds_up_no_others() {
    let (doubles, aws) = ready().await;
    let objects = aws.stores().objects;
    let odd =
        ["isr/a\u{ffff}.html", "isr/a\u{fffe}b/c.html"].map(|name| ObjectName::parse_stored(name).unwrap());
    let names: Vec<ObjectName> = (0..20).map(object_name).chain(odd.clone()).collect();
    for name in &names {
        let body = body(1, 10);
        objects.put(name, body.clone(), digest(&body), &object_meta()).await.unwrap();
    }
    doubles.s3.refuse_to_delete(&odd[1]);
    assert_eq!(write_outcome(&objects.delete(&names).await), "unknown");
    for name in &names {
        assert_eq!(objects.info(name).await.unwrap().is_some(), *name == odd[1], "{name}");
    }
    assert_ne!(write_outcome(&objects.delete(&odd[1..]).await), "ok");
    assert_eq!(write_outcome(&objects.delete(&odd[..1]).await), "ok");
}

/// Asked for together, they are refused for the sake of one name; then each is asked for alone.
#[tokio::test(start_paused = true)]
async fn a_delete_that_was_refused_for_one_of_several_is_of_unknown_outcome() {
    let (doubles, aws) = ready().await;
    let objects = aws.stores().objects;
    let odd =
        ["isr/a\u{ffff}.html", "isr/b\u{ffff}.html"].map(|name| ObjectName::parse_stored(name).unwrap());
    doubles.faults.add(Rule::on("DeleteObject", Fault::Deny));
    assert_eq!(write_outcome(&objects.delete(&odd).await), "not applied");
    for names in [[odd[0].clone(), object_name(1)], [object_name(1), odd[0].clone()]] {
        assert_eq!(write_outcome(&objects.delete(&names).await), "unknown", "{names:?}");
    }
}

/// The second of three requests: the first was applied, so that the whole is not without effect.
#[tokio::test(start_paused = true)]
async fn a_delete_that_was_refused_half_way_is_of_unknown_outcome() {
    let (doubles, aws) = ready().await;
    let names: Vec<ObjectName> = (0..2_500).map(object_name).collect();
    doubles.faults.add(Rule::on("DeleteObjects", Fault::Throttle).nth(2));
    assert_eq!(write_outcome(&aws.stores().objects.delete(&names).await), "unknown");
    assert_eq!(doubles.counters.of("DeleteObjects"), 2);
    doubles.faults.add(Rule::on("DeleteObjects", Fault::Throttle).nth(1));
    assert_eq!(write_outcome(&aws.stores().objects.delete(&names).await), "not applied");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_rotted_is_corrupt() {
    let (doubles, aws) = ready().await;
    let objects = aws.stores().objects;
    let (name, body) = (object_name(1), body(1, 100_000));
    objects.put(&name, body.clone(), digest(&body), &object_meta()).await.unwrap();
    doubles.s3.rot("leasehold-test", &name);
    assert_eq!(read_outcome(&objects.get(&name).await), "corrupt");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_a_worker_wrote_itself_has_no_digest_and_is_served() {
    let (doubles, aws) = ready().await;
    let objects = aws.stores().objects;
    doubles.s3.put_plainly("leasehold-test", &object_name(1), "<html>");
    let info = objects.info(&object_name(1)).await.unwrap().unwrap();
    assert_eq!((info.size_bytes, info.digest), (6, None));
    assert_eq!(objects.get(&object_name(1)).await.unwrap().unwrap().body, "<html>");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_its_digest_is_refused_and_leaves_nothing() {
    let (_doubles, aws) = ready().await;
    let objects = aws.stores().objects;
    let outcome = objects.put(&object_name(1), body(1, 100), digest(b"another"), &object_meta()).await;
    assert_eq!(write_outcome(&outcome), "not applied");
    assert_eq!(objects.info(&object_name(1)).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn events_of_more_than_a_page_are_read_a_page_at_a_time_and_a_fault_in_between_is_no_end() {
    let doubles = Doubles::new();
    let log = doubles.ready().await.stores().log;
    let large = |seq: u64| {
        let key = |n| EntryKey::parse(&format!("{n}{}", "k".repeat(4_000))).unwrap();
        let scopes = (0..60).map(|n| Scope::Key(TenantId::parse("t").unwrap(), key(n))).collect();
        let mut event = event(seq, seq.into());
        event.invalidations[0].scopes = scopes;
        event
    };
    for seq in 1..=10 {
        assert_eq!(log.append(Seq(seq - 1), &large(seq)).await.unwrap(), Append::Appended);
    }
    doubles.counters.reset();
    doubles.faults.add(Rule::on("Query", Fault::Throttle).nth(2));
    let mut read: Vec<LogEvent> = Vec::new();
    let mut outcomes = Vec::new();
    while read.len() < 10 {
        let page = log.events(read.last().map_or(Seq::START, |last| last.seq), 100).await;
        outcomes.push(read_outcome(&page));
        read.extend(page.unwrap_or_default());
    }
    assert_eq!(read, (1..=10).map(large).collect::<Vec<LogEvent>>());
    assert_eq!(outcomes, ["ok", "unavailable", "ok", "ok"], "2.4 MB in pages of 1 MB");
    assert_eq!(doubles.counters.of("Query"), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_over_a_limit_is_told_without_asking() {
    let (doubles, aws) = ready().await;
    let stores = aws.stores();
    let mut huge = event(1, 1);
    let key = |n: usize| EntryKey::parse(&format!("{n}{}", "k".repeat(4_000))).unwrap();
    huge.invalidations[0].scopes =
        (0..105).map(|n| Scope::Key(TenantId::parse("t").unwrap(), key(n))).collect();
    assert_eq!(write_outcome(&stores.log.append(Seq::START, &huge).await), "too large");
    let mut large = leasehold_store::conformance::samples::full_entry(version(1).0, 1);
    if let Some(backoff) = &mut large.backoff {
        backoff.reason = "x".repeat(500_000);
    }
    let outcome = stores.entries.swap(&id("a"), Expected::Absent, &large, LATER).await;
    assert_eq!(write_outcome(&outcome), "too large");
    assert_eq!(doubles.counters.total(), 0);
}

/// DynamoDB's limit is inclusive, and it is what the doubles keep too.
#[tokio::test(start_paused = true)]
async fn what_is_just_within_the_limit_is_written() {
    const LIMIT: usize = 400 * 1024;
    let size_told = |outcome: &str| -> usize {
        let digits = outcome.split(" is ").nth(1).and_then(|rest| rest.split(' ').next());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no size in {outcome}"))
    };
    let doubles = Doubles::new();
    let stores = doubles.ready().await.stores();
    let of_reason = |bytes: usize| {
        let mut large = leasehold_store::conformance::samples::full_entry(version(1).0, 1);
        large.backoff.as_mut().unwrap().reason = "x".repeat(bytes);
        large
    };
    let swap = async |reason: usize| {
        stores.entries.swap(&id("a"), Expected::Absent, &of_reason(reason), LATER).await
    };
    let Err(WriteError::TooLarge(why)) = swap(LIMIT).await else { panic!("it is over the limit") };
    let fits = LIMIT - (size_told(&why) - LIMIT);
    assert!(matches!(swap(fits + 1).await, Err(WriteError::TooLarge(_))));
    assert_eq!(swap(fits).await.unwrap(), Swap::Applied);

    let of_key = |bytes: usize| {
        let key = |n: usize, bytes: usize| EntryKey::parse(&format!("{n:03}{}", "k".repeat(bytes))).unwrap();
        let mut large = event(1, 1);
        large.invalidations[0].scopes = (0..102)
            .map(|n| Scope::Key(TenantId::parse("t").unwrap(), key(n, if n == 0 { bytes } else { 4_000 })))
            .collect();
        large
    };
    let append = async |bytes: usize| stores.log.append(Seq::START, &of_key(bytes)).await;
    let Err(WriteError::TooLarge(why)) = append(4_000).await else { panic!("it is over the limit") };
    let fits = 4_000 - (size_told(&why) - LIMIT);
    assert!(fits > 1_000, "where lengths are written in two bytes, as that of 4,000");
    assert!(matches!(append(fits + 1).await, Err(WriteError::TooLarge(_))));
    assert_eq!(append(fits).await.unwrap(), Append::Appended);
}

#[tokio::test(start_paused = true)]
async fn a_held_request_reaches_the_service_when_it_is_released() {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    let gate: Gate = doubles.faults.hold("PutItem");
    let stores = aws.stores();
    let entries = stores.entries.clone();
    let held = tokio::spawn(async move {
        entries.swap(&id("a"), Expected::Absent, &entry(version(1).0, 1), LATER).await
    });
    gate.arrived(1).await;
    assert_eq!(stores.entries.read(&id("a")).await.unwrap(), None);
    gate.open();
    assert_eq!(held.await.unwrap().unwrap(), Swap::Applied);
}

#[tokio::test(start_paused = true)]
async fn a_url_is_good_for_anybody_until_it_expires() {
    let (doubles, aws) = ready().await;
    let objects = aws.stores().objects;
    let (name, body) = (ObjectName::parse("a/日本 b?c#d.html").unwrap(), body(1, 1000));
    objects.put(&name, body.clone(), digest(&body), &object_meta()).await.unwrap();
    for ttl in [Duration::from_secs(60), Duration::MAX, Duration::from_secs(1)] {
        let url = objects.url(&name, ttl).await.unwrap().unwrap();
        assert_eq!(doubles.s3.browse(&url).await, (200, body.clone()), "{url}");
    }
    let url = objects.url(&name, Duration::from_secs(60)).await.unwrap().unwrap();
    let forged = url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000");
    assert_eq!(doubles.s3.browse(&forged).await.0, 403);
}
