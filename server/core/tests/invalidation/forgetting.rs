//! What is forgotten, by age or for want of room, and whom that costs pages.

use super::*;
use leasehold_core::invalidation::{ALWAYS_RECOGNISED, MAX_BARE_TENANTS};

#[test]
fn a_repeated_request_is_recognised_until_it_is_forgotten() {
    let mut view = LogView::default();
    view.fold(&soft(1));
    view.fold(&soft(2));
    assert_eq!(view.seq_of(RequestId(1001)), Some(Seq(1)));
    assert_eq!(view.seq_of(RequestId(1003)), None);
    assert_eq!(view.seq_of(RequestId(1)), None, "an event's own id is no caller's");
    view.forget(at(101_000), usize::MAX);
    assert_eq!(view.seq_of(RequestId(1001)), None);
    assert_eq!(view.seq_of(RequestId(1002)), Some(Seq(2)));
}

#[test]
fn a_request_that_was_appended_twice_is_recognised_as_long_as_either_is_kept() {
    let mut view = LogView::default();
    view.fold(&soft(1));
    view.fold(&LogEvent { invalidations: soft(1).invalidations, ..soft(2) });
    view.forget(at(101_000), usize::MAX);
    assert_eq!(view.seq_of(RequestId(1001)), Some(Seq(2)));
    view.forget(at(102_000), usize::MAX);
    assert_eq!(view.seq_of(RequestId(1001)), None);
}

#[test]
fn forgetting_an_event_keeps_the_newer_ones_about_the_same_scope() {
    let mut view = LogView::default();
    let scope = || Scope::Key(tenant("a"), key("k"));
    view.fold(&event(1, scope(), Depth::Hard));
    view.fold(&event(2, scope(), Depth::Hard));
    view.fold(&event(3, scope(), Depth::Soft));
    view.forget(at(101_000), usize::MAX);
    let marks = view.marks_for(&entry("a", None, "k"), [], []);
    assert_eq!((marks.newest.seq, marks.hard.seq), (Seq(3), Seq(2)));
    view.forget(at(102_000), usize::MAX);
    let marks = view.marks_for(&entry("a", None, "k"), [], []);
    assert_eq!(marks.newest, Mark::of(Seq(3), at(3000)));
    assert_eq!(marks.verdict(Seq(2)), Verdict::Invalidated);
}

#[test]
fn what_the_oldest_event_outlives_is_kept_with_it() {
    let mut view = LogView::default();
    view.fold(&LogEvent { forget_after: at(500_000), ..soft(1) });
    view.fold(&soft(2));
    view.forget(at(400_000), usize::MAX);
    assert_eq!(remembered(&view), [1, 2]);
}

#[test]
fn what_there_is_no_room_for_is_forgotten_from_its_oldest_and_counts_for_every_page_of_its_tenant() {
    let mut view = LogView::default();
    for seq in 1..=200 {
        let depth = if seq == 20 { Depth::Hard } else { Depth::Soft };
        view.fold(&event(seq, Scope::Key(tenant("b"), key("other")), depth));
    }
    let verdicts = |view: &LogView, of, seen: [u64; 4]| {
        seen.map(|seen| view.marks_for(&entry(of, None, "k"), [], []).verdict(Seq(seen)))
    };
    let [valid, invalidated, purged] = [Verdict::Valid, Verdict::Invalidated, Verdict::Purged];
    assert_eq!(view.forget_beyond(view.retained_bytes()), 0, "there is room");
    assert_eq!(verdicts(&view, "b", [0, 9, 10, 20]), [valid; 4]);
    let each = view.retained_bytes() / 200;
    assert_eq!(view.forget_beyond(each * 190), 10);
    assert_eq!(verdicts(&view, "b", [0, 9, 10, 20]), [invalidated, invalidated, valid, valid]);
    assert_eq!(view.forget_beyond(each * 100), 90);
    assert_eq!(verdicts(&view, "b", [19, 20, 99, 100]), [purged, invalidated, invalidated, valid]);
    assert_eq!(verdicts(&view, "a", [0, 1, 19, 20]), [valid; 4]);
}

#[test]
fn who_takes_most_makes_room_and_nobody_else() {
    let mut view = LogView::default();
    view.fold(&soft(1));
    for seq in 2..=100 {
        view.fold(&event(seq, Scope::Key(tenant("flooder"), key("other")), Depth::Hard));
    }
    // Appended together with one of theirs: of one event, a part is forgotten.
    let together = Scope::Key(tenant("flooder"), key("other"));
    let mut last = soft(101);
    last.invalidations.push(event(102, together, Depth::Hard).invalidations.remove(0));
    view.fold(&last);
    for _ in 0..98 {
        assert_eq!(view.forget_beyond(view.retained_bytes() - 1), 1);
        assert_eq!(remembered(&view), [1, 101]);
    }
    assert_eq!(view.seq_of(RequestId(1001)), Some(Seq(1)));
    assert_eq!(view.marks_for(&entry("a", None, "other"), [], []), Marks::default());
    assert_eq!(view.forget_beyond(0), 4);
    assert_eq!(view.marks_for(&entry("a", None, "other"), [], []).verdict(Seq(100)), Verdict::Invalidated);
}

#[test]
fn the_newest_requests_are_recognised_however_little_room_there_is() {
    let mut view = LogView::default();
    for seq in 1..=200 {
        view.fold(&soft(seq));
        view.forget_beyond(0);
    }
    assert_eq!(view.retained_bytes(), 0);
    let oldest = 200 - ALWAYS_RECOGNISED as u64 + 1;
    let recognised =
        (1..=200).filter(|seq| view.seq_of(RequestId(1000 + u128::from(*seq))) == Some(Seq(*seq)));
    assert_eq!(recognised.collect::<Vec<_>>(), (oldest..=200).collect::<Vec<_>>());
    assert_eq!(view.forget(at(u64::MAX), usize::MAX), ALWAYS_RECOGNISED);
    assert_eq!(view.seq_of(RequestId(1200)), None);
}

#[test]
fn a_request_about_two_tenants_is_recognised_as_long_as_anything_is_remembered_of_it() {
    let mut view = LogView::default();
    let mut both = soft(1);
    both.invalidations[0].scopes.push(Scope::Key(tenant("flooder"), key("other")));
    view.fold(&both);
    for seq in 2..=200 {
        view.fold(&event(seq, Scope::Key(tenant("flooder"), key("other")), Depth::Hard));
    }
    assert!(view.forget_beyond(view.retained_bytes() / 2) > 50);
    let known = [1001, 1002].map(|request| view.seq_of(RequestId(request)));
    assert_eq!(known, [Some(Seq(1)), None]);
}

#[test]
fn nothing_is_left_once_everything_is_forgotten_but_of_whom() {
    let mut view = LogView::default();
    for (seq, scope) in (1..).zip([
        Scope::Everything,
        Scope::Tenant(tenant("a")),
        Scope::Deployment(tenant("a"), deployment("v1")),
        Scope::PathPrefix(tenant("b"), path("/p")),
        Scope::Tag(tenant("b"), tag("t")),
        Scope::Key(tenant("c"), key("k")),
    ]) {
        view.fold(&event(seq, scope, if seq % 2 == 0 { Depth::Soft } else { Depth::Hard }));
    }
    view.forget(at(1_000_000), usize::MAX);
    assert_eq!(shape(&view), shape(&bare(&["a", "b", "c"].map(tenant))));
}

/// A coordinator whose clock leapt ahead forgets; put right again, it cannot know what the forgotten event
/// was about.
#[test]
fn a_page_older_than_a_forgotten_event_of_its_tenant_is_never_valid_again_whatever_the_clock_says() {
    let mut view = LogView::default();
    view.fold(&soft(1));
    view.fold(&event(2, Scope::Key(tenant("a"), key("other")), Depth::Soft));
    view.fold(&event(3, Scope::Key(tenant("a"), key("other")), Depth::Hard));
    view.fold(&event(4, Scope::Key(tenant("b"), key("other")), Depth::Hard));
    let verdict =
        |view: &LogView, seen| view.marks_for(&entry("a", None, "k"), &[tag("t")], []).verdict(seen);
    assert_eq!(verdict(&view, Seq::START), Verdict::Invalidated);
    view.forget(at(102_000), usize::MAX);
    assert_eq!(verdict(&view, Seq::START), Verdict::Invalidated, "those that are forgotten were soft");
    assert_eq!(verdict(&view, Seq(1)), Verdict::Invalidated, "the second may have been about it");
    view.forget(at(103_000), usize::MAX);
    assert_eq!(verdict(&view, Seq::START), Verdict::Purged, "the forgotten hard one may have been about it");
    view.forget(at(104_000), usize::MAX);
    assert_eq!(verdict(&view, Seq(3)), Verdict::Valid, "what was rendered since is not touched");
}

#[test]
fn what_is_about_everybody_reaches_them_also_when_it_is_forgotten() {
    let mut view = LogView::default();
    view.fold(&event(1, Scope::Everything, Depth::Hard));
    view.fold(&event(2, Scope::Everything, Depth::Soft));
    let before = view.marks_for(&entry("a", None, "k"), [], []);
    assert_eq!(view.forget_beyond(0), 2);
    assert_eq!(view.marks_for(&entry("a", None, "k"), [], []), before);
    assert_eq!(view.marks_in_doubt_of(&tenant("b")), before);
}

/// A page of a tenant that nothing is remembered of.
#[test]
fn of_too_many_tenants_that_all_is_forgotten_of_the_oldest_counts_for_everybody() {
    let mut view = LogView::default();
    let most = MAX_BARE_TENANTS as u64;
    let verdict =
        |view: &LogView, of: &str, seen| view.marks_for(&entry(of, None, "k"), [], []).verdict(Seq(seen));
    for seq in 1..=most + 1 {
        view.fold(&event(seq, Scope::Tenant(tenant(&format!("t{seq}"))), Depth::Hard));
    }
    view.forget(at((most + 100) * 1000), usize::MAX);
    assert_eq!([verdict(&view, "t1", 0), verdict(&view, "t2", 0)], [Verdict::Purged; 2]);
    assert_eq!(verdict(&view, "other", 0), Verdict::Valid);
    // Of the first one, something is remembered again.
    view.fold(&event(most + 2, Scope::Key(tenant("t1"), key("other")), Depth::Soft));
    view.forget(at((most + 101) * 1000), usize::MAX);
    assert_eq!(verdict(&view, "other", 0), Verdict::Valid);
    view.forget(at((most + 102) * 1000), usize::MAX);
    let seen = [0, 1, 2, 3].map(|seen| verdict(&view, "other", seen));
    assert_eq!(seen, [Verdict::Purged, Verdict::Purged, Verdict::Valid, Verdict::Valid]);
    assert_eq!([verdict(&view, "t1", 0), verdict(&view, "t3", 2)], [Verdict::Purged; 2]);
}

#[test]
fn expired_events_can_be_forgotten_in_parts() {
    let mut view = LogView::default();
    for seq in 1..=5 {
        view.fold(&soft(seq));
    }
    assert_eq!([2, 2, 2].map(|most| view.forget(at(103_000), most)), [2, 1, 0]);
}
