//! What an event reaches, and what that makes of a page.

use super::*;

#[test]
fn a_prefix_reaches_itself_and_what_lies_below_by_whole_segments() {
    let mut view = LogView::default();
    view.fold(&event(1, Scope::PathPrefix(tenant("a"), path("/blog/")), Depth::Soft));
    let newest = |text: &str| view.marks_for(&entry("a", None, "k"), [], [&path(text)]).newest.seq.0;
    for (text, seq) in [
        ("/blog", 1),
        ("/blog/", 1),
        ("//blog//post", 1),
        ("/blog/2026/post", 1),
        ("/blogs", 0),
        ("/blog-post", 0),
        ("/blo", 0),
        ("/", 0),
        ("/a/blog", 0),
    ] {
        assert_eq!(newest(text), seq, "{text}");
    }
    view.fold(&event(2, Scope::PathPrefix(tenant("a"), path("/")), Depth::Soft));
    let newest = |text: &str| view.marks_for(&entry("a", None, "k"), [], [&path(text)]).newest.seq.0;
    assert_eq!((newest("/"), newest("/blogs")), (2, 2));
    let pathless = view.marks_for(&entry("a", None, "k"), [], []);
    assert_eq!(pathless, Marks::default(), "a page that names no path is under no prefix, not even the root");
}

#[test]
fn a_deployment_is_reached_alone_and_the_other_scopes_reach_every_release() {
    let mut view = LogView::default();
    view.fold(&event(1, Scope::Deployment(tenant("a"), deployment("v1")), Depth::Soft));
    let newest = |view: &LogView, release| {
        view.marks_for(&entry("a", release, "k"), &[tag("t")], [&path("/p")]).newest.seq.0
    };
    assert_eq!([None, Some("v1"), Some("v2")].map(|release| newest(&view, release)), [0, 1, 0]);
    for (seq, scope) in [
        (2, Scope::Key(tenant("a"), key("k"))),
        (3, Scope::Tag(tenant("a"), tag("t"))),
        (4, Scope::PathPrefix(tenant("a"), path("/p"))),
        (5, Scope::Tenant(tenant("a"))),
        (6, Scope::Everything),
    ] {
        view.fold(&event(seq, scope, Depth::Soft));
        assert_eq!([None, Some("v1"), Some("v2")].map(|release| newest(&view, release)), [seq; 3]);
    }
}

#[test]
fn everything_reaches_tenants_that_nothing_else_is_known_of() {
    let mut view = LogView::default();
    view.fold(&event(1, Scope::Everything, Depth::Hard));
    let mark = Mark::of(Seq(1), at(1000));
    assert_eq!(view.marks_for(&entry("never seen", None, "k"), [], []), Marks { newest: mark, hard: mark });
}

#[test]
fn a_verdict_counts_only_what_came_after_the_render_began() {
    let mark = |seq| Mark::of(Seq(seq), at(seq));
    let marks = Marks { newest: mark(7), hard: mark(5) };
    for (seen, verdict) in [
        (4, Verdict::Purged),
        (5, Verdict::Invalidated),
        (6, Verdict::Invalidated),
        (7, Verdict::Valid),
        (8, Verdict::Valid),
    ] {
        assert_eq!(marks.verdict(Seq(seen)), verdict, "seen {seen}");
    }
    assert_eq!(Marks::default().verdict(Seq::START), Verdict::Valid);
}

#[test]
fn a_soft_event_after_a_hard_one_does_not_hide_it() {
    let mut view = LogView::default();
    let scope = Scope::Key(tenant("a"), key("k"));
    view.fold(&event(1, scope.clone(), Depth::Hard));
    view.fold(&event(2, scope, Depth::Soft));
    let marks = view.marks_for(&entry("a", None, "k"), [], []);
    assert_eq!((marks.newest.seq, marks.hard.seq), (Seq(2), Seq(1)));
    assert_eq!(marks.verdict(Seq::START), Verdict::Purged);
    assert_eq!(marks.verdict(Seq(1)), Verdict::Invalidated);
}

#[test]
fn a_hard_event_counts_also_as_the_newest_of_any_depth() {
    let mut view = LogView::default();
    view.fold(&event(1, Scope::Tenant(tenant("a")), Depth::Soft));
    view.fold(&event(2, Scope::Key(tenant("a"), key("k")), Depth::Hard));
    let marks = view.marks_for(&entry("a", None, "k"), [], []);
    assert_eq!((marks.newest.seq, marks.hard.seq), (Seq(2), Seq(2)));
}

#[test]
fn an_event_that_is_folded_again_changes_nothing() {
    let mut view = LogView::default();
    for seq in [1, 2, 3] {
        view.fold(&soft(seq));
    }
    let before = format!("{view:?}");
    for seq in [2, 1, 3] {
        view.fold(&soft(seq));
    }
    assert_eq!(format!("{view:?}"), before);
    assert_eq!(remembered(&view), [1, 2, 3]);
}

#[test]
fn advancing_moves_the_position_and_never_back() {
    let mut view = LogView::default();
    view.fold(&soft(1));
    view.advance_to(Seq(9));
    assert_eq!(view.position(), Seq(9));
    view.advance_to(Seq(3));
    assert_eq!(view.position(), Seq(9));
    view.fold(&soft(5));
    assert_eq!(remembered(&view), [1], "what was passed is not folded later");
    view.fold(&soft(10));
    assert_eq!(remembered(&view), [1, 10]);
}

#[test]
fn events_that_a_reader_never_found_count_as_hard_ones_about_everybody() {
    let mut view = LogView::default();
    let verdicts = |view: &LogView| {
        [1, 2, 3, 4, 5, 6]
            .map(|seen| view.marks_for(&entry("never seen", None, "k"), [], []).verdict(Seq(seen)))
    };
    view.fold(&soft(1));
    assert_eq!(verdicts(&view), [Verdict::Valid; 6]);
    // 2 and 3 expired in the store before this reader came to them, though its own clock still keeps 1.
    view.fold(&soft(4));
    let [purged, valid] = [Verdict::Purged, Verdict::Valid];
    assert_eq!(verdicts(&view), [purged, purged, valid, valid, valid, valid]);
    view.advance_to(Seq(6));
    assert_eq!(verdicts(&view), [purged, purged, purged, purged, purged, valid]);
    let marks = view.marks_for(&entry("never seen", None, "k"), [], []);
    assert_eq!(marks.verdict_by_time(at(4000)), purged, "they came after what was found");
}

#[test]
fn an_event_tells_which_of_its_scopes_concern_an_entry() {
    let mut view = LogView::default();
    let scopes = vec![
        Scope::Tag(tenant("a"), tag("t")),
        Scope::Tag(tenant("a"), tag("u")),
        Scope::Key(tenant("b"), key("k")),
    ];
    let hard = Invalidation { id: RequestId(7), scopes, depth: Depth::Hard };
    view.fold(&LogEvent { invalidations: vec![hard, soft(1).invalidations[0].clone()], ..soft(1) });
    let told = |seq| view.scopes_at(Seq(seq), &entry("a", None, "k"), &[tag("t")], None);
    let scope = Scope::Tag(tenant("a"), tag("t"));
    assert_eq!(told(1), [(scope.clone(), Depth::Hard), (scope, Depth::Soft)]);
    assert_eq!(told(2), []);
}
