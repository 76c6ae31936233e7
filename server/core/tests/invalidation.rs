//! The folded log against a naive model: a list of events that is scanned from end to end.

use leasehold_core::{
    identity::{DeploymentId, EntryId, EntryKey, PagePath, RequestId, Seq, Tag, TenantId},
    invalidation::{
        ALWAYS_RECOGNISED, Depth, Invalidation, LogEvent, LogView, MAX_BARE_TENANTS, Mark, Marks, Scope,
        Verdict, concerns,
    },
    time::Timestamp,
};
use proptest::{collection::vec, prelude::*, sample::select, sample::subsequence};
use std::collections::BTreeSet;

fn tenant(text: &str) -> TenantId {
    TenantId::parse(text).unwrap()
}

fn deployment(text: &str) -> DeploymentId {
    DeploymentId::parse(text).unwrap()
}

fn key(text: &str) -> EntryKey {
    EntryKey::parse(text).unwrap()
}

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

fn path(text: &str) -> PagePath {
    PagePath::parse(text).unwrap()
}

fn entry(of: &str, release: Option<&str>, name: &str) -> EntryId {
    EntryId { tenant: tenant(of), deployment: release.map(deployment), key: key(name) }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// An event at second `seq`, to be forgotten at second `seq + 100`.
fn event(seq: u64, scope: Scope, depth: Depth) -> LogEvent {
    LogEvent {
        seq: Seq(seq),
        id: RequestId(u128::from(seq)),
        at: at(seq * 1000),
        forget_after: at((seq + 100) * 1000),
        invalidations: vec![Invalidation {
            id: RequestId(1000 + u128::from(seq)),
            scopes: vec![scope],
            depth,
        }],
    }
}

fn soft(seq: u64) -> LogEvent {
    event(seq, Scope::Tag(tenant("a"), tag("t")), Depth::Soft)
}

/// The events of which a view remembers something about a page with the tag of [`soft`].
fn remembered(view: &LogView) -> Vec<u64> {
    let is_told =
        |seq: &u64| !view.scopes_at(Seq(*seq), &entry("a", None, "k"), &[tag("t")], None).is_empty();
    (0..=view.position().0).filter(is_told).collect()
}

/// All that a view holds, apart from how large the numbers are: two empty views have the same, wherever they
/// stand.
fn shape(view: &LogView) -> Vec<String> {
    let text = format!("{view:#?}").replace(|c: char| c.is_ascii_digit(), "");
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    // The order of a map's entries is chance.
    lines.sort();
    lines
}

/// A view that has forgotten all that it was told about these tenants.
fn bare<'a>(tenants: impl IntoIterator<Item = &'a TenantId>) -> LogView {
    let mut view = LogView::default();
    for (seq, of) in (1..).zip(tenants) {
        view.fold(&event(seq, Scope::Tenant(of.clone()), Depth::Soft));
    }
    view.forget(at(u64::MAX), usize::MAX);
    view
}

// --- the model ---

#[derive(Clone, Debug)]
enum Step {
    /// An append, and whether a reader finds it. What it does not find has expired in the store.
    Append { event: LogEvent, found: bool },
    /// A reader reads a stretch again, from so many events back.
    ReadAgain(usize),
    /// A read that reached the head, and found nothing up to it.
    Reach,
    /// The clock moves on (or back), and what is over is forgotten.
    Forget(u64),
}

/// Every event that was ever folded, and how many of the oldest of these are forgotten.
#[derive(Default)]
struct Model {
    events: Vec<LogEvent>,
    forgotten: usize,
    head: Seq,
    position: Seq,
    /// The newest event that it never found.
    floor: Seq,
}

impl Model {
    fn retained(&self) -> &[LogEvent] {
        &self.events[self.forgotten..]
    }

    /// The newest event that reaches a page of this tenant: forgotten, it does so wherever it was about that tenant.
    fn newest(&self, of: &TenantId, depths: &[Depth], reaches: impl Fn(&Scope) -> bool) -> Seq {
        let (forgotten, retained) = self.events.split_at(self.forgotten);
        let newest = |events: &[LogEvent], reaches: &dyn Fn(&Scope) -> bool| {
            let invalidations = events.iter().flat_map(|event| {
                event.invalidations.iter().map(move |invalidation| (event.seq, invalidation))
            });
            invalidations
                .filter(|(_, invalidation)| depths.contains(&invalidation.depth))
                .filter(|(_, invalidation)| invalidation.scopes.iter().any(reaches))
                .map(|(seq, _)| seq)
                .max()
        };
        let is_theirs = |scope: &Scope| scope.tenant().is_none_or(|tenant| tenant == of);
        let newest = newest(retained, &reaches).max(newest(forgotten, &is_theirs));
        newest.unwrap_or(Seq::START).max(self.floor)
    }

    /// Those of everybody come first.
    fn scopes_at(&self, seq: Seq, concerns: impl Fn(&Scope) -> bool) -> Vec<(Scope, Depth)> {
        let event = self.retained().iter().find(|event| event.seq == seq);
        let invalidations = event.into_iter().flat_map(|event| &event.invalidations);
        let scopes = invalidations.flat_map(|Invalidation { scopes, depth, .. }| {
            scopes.iter().map(move |scope| (scope.clone(), *depth))
        });
        let (mut first, then): (Vec<_>, Vec<_>) =
            scopes.filter(|(scope, _)| concerns(scope)).partition(|(scope, _)| scope.tenant().is_none());
        first.extend(then);
        first
    }

    fn tenants(&self) -> BTreeSet<&TenantId> {
        let invalidations = self.events.iter().flat_map(|event| &event.invalidations);
        invalidations.flat_map(|invalidation| &invalidation.scopes).filter_map(Scope::tenant).collect()
    }

    fn play(&mut self, step: Step, view: &mut LogView) {
        match step {
            Step::Append { mut event, found } => {
                self.head = self.head.next().unwrap();
                event.seq = self.head;
                event.at = at(self.head.0 * 1000);
                if !found {
                    return;
                }
                view.fold(&event);
                if event.seq.0 > self.position.0 + 1 {
                    self.floor = Seq(event.seq.0 - 1);
                }
                self.position = event.seq;
                self.events.push(event);
            }
            Step::ReadAgain(back) => {
                for event in &self.events[self.events.len().saturating_sub(back)..] {
                    view.fold(event);
                }
            }
            Step::Reach => {
                view.advance_to(self.head);
                if self.head > self.position {
                    (self.position, self.floor) = (self.head, self.head);
                }
            }
            Step::Forget(now) => {
                view.forget(at(now), usize::MAX);
                while self.retained().first().is_some_and(|event| event.forget_after <= at(now)) {
                    self.forgotten += 1;
                }
            }
        }
    }
}

const TENANTS: [&str; 2] = ["a", "b"];
const DEPLOYMENTS: [Option<&str>; 3] = [None, Some("v1"), Some("v2")];
const KEYS: [&str; 2] = ["k", "l"];
const TAGS: [&str; 3] = ["x", "y", "z"];
const PATHS: [&str; 6] = ["/", "/blog", "/blog/a", "/blo", "/blog/a/b", "/shop"];

fn scope() -> impl Strategy<Value = Scope> {
    scope_of(|| select(&TENANTS[..]))
}

fn scope_of<S: Strategy<Value = &'static str>>(name: impl Fn() -> S) -> impl Strategy<Value = Scope> {
    let of = || name().prop_map(tenant);
    prop_oneof![
        Just(Scope::Everything),
        of().prop_map(Scope::Tenant),
        (of(), select(&["v1", "v2"][..])).prop_map(|(of, name)| Scope::Deployment(of, deployment(name))),
        (of(), select(&PATHS[..])).prop_map(|(of, text)| Scope::PathPrefix(of, path(text))),
        (of(), select(&TAGS[..])).prop_map(|(of, text)| Scope::Tag(of, tag(text))),
        (of(), select(&KEYS[..])).prop_map(|(of, text)| Scope::Key(of, key(text))),
    ]
}

fn invalidation() -> impl Strategy<Value = Invalidation> {
    invalidation_of(scope())
}

fn invalidation_of(scope: impl Strategy<Value = Scope>) -> impl Strategy<Value = Invalidation> {
    (0..40_u128, vec(scope, 1..4), select(&[Depth::Soft, Depth::Hard][..]))
        .prop_map(|(id, scopes, depth)| Invalidation { id: RequestId(id), scopes, depth })
}

fn step() -> impl Strategy<Value = Step> {
    let append = (vec(invalidation(), 1..3), 0..60_000_u64, prop::bool::weighted(0.9)).prop_map(
        |(invalidations, forget_after, found)| Step::Append {
            event: LogEvent {
                seq: Seq::START,
                id: RequestId(0),
                at: Timestamp::EPOCH,
                forget_after: at(forget_after),
                invalidations,
            },
            found,
        },
    );
    prop_oneof![
        8 => append,
        1 => (0..5_usize).prop_map(Step::ReadAgain),
        1 => Just(Step::Reach),
        2 => (0..60_000_u64).prop_map(Step::Forget),
    ]
}

/// Mostly about one tenant, and seldom about everybody: that would hide all else.
fn event_of_unlike_tenants() -> impl Strategy<Value = LogEvent> {
    let whose = || prop_oneof![9 => Just(TENANTS[0]), 1 => Just(TENANTS[1])];
    let of_one = scope_of(whose).prop_filter("about everybody", |scope| scope.tenant().is_some());
    let scope = prop_oneof![50 => of_one, 1 => Just(Scope::Everything)];
    (vec(invalidation_of(scope), 1..3), 0..60_000_u64).prop_map(|(invalidations, forget_after)| LogEvent {
        seq: Seq::START,
        id: RequestId(0),
        at: Timestamp::EPOCH,
        forget_after: at(forget_after),
        invalidations,
    })
}

/// The event without the scopes of others.
fn only_about(owner: Option<&TenantId>, event: &LogEvent) -> LogEvent {
    let mut event = event.clone();
    for invalidation in &mut event.invalidations {
        invalidation.scopes.retain(|scope| scope.tenant() == owner);
    }
    event.invalidations.retain(|invalidation| !invalidation.scopes.is_empty());
    event
}

/// Every way to judge a page.
fn marks(view: &LogView, (id, tags, path): &(EntryId, Vec<Tag>, Option<PagePath>)) -> [Marks; 3] {
    [view.marks_for(id, tags, path), view.marks_in_doubt(id), view.marks_in_doubt_of(&id.tenant)]
}

fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Valid => 0,
        Verdict::Invalidated => 1,
        Verdict::Purged => 2,
    }
}

fn page() -> impl Strategy<Value = (EntryId, Vec<Tag>, Option<PagePath>)> {
    (
        (select(&TENANTS[..]), select(&DEPLOYMENTS[..]), select(&KEYS[..])),
        subsequence(&TAGS[..], 0..=TAGS.len()),
        prop::option::of(select(&PATHS[..])),
    )
        .prop_map(|((of, release, name), tags, at)| {
            (entry(of, release, name), tags.into_iter().map(tag).collect(), at.map(path))
        })
}

/// What [`concerns`] is to answer, by comparing texts.
fn reaches(scope: &Scope, id: &EntryId, tags: &[Tag], at: Option<&PagePath>) -> bool {
    fn segments(path: &PagePath) -> Vec<&str> {
        path.as_str().split('/').filter(|segment| !segment.is_empty()).collect()
    }
    match scope {
        Scope::Everything => true,
        Scope::Tenant(of) => *of == id.tenant,
        Scope::Deployment(of, name) => *of == id.tenant && Some(name) == id.deployment.as_ref(),
        Scope::PathPrefix(of, prefix) => {
            *of == id.tenant && at.is_some_and(|at| segments(at).starts_with(&segments(prefix)))
        }
        Scope::Tag(of, tag) => *of == id.tenant && tags.iter().any(|other| other == tag),
        Scope::Key(of, name) => *of == id.tenant && *name == id.key,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_view_answers_as_a_scan_of_the_whole_log_does(
        steps in vec(step(), 0..60),
        pages in vec(page(), 1..8),
        request in 0..40_u128,
    ) {
        let (mut model, mut view) = (Model::default(), LogView::default());
        for step in steps {
            model.play(step, &mut view);
            prop_assert_eq!(view.position(), model.position);
            for (id, tags, path) in &pages {
                let marks = view.marks_for(id, tags, path.as_ref());
                let by_scan = |depths: &[Depth]| {
                    model.newest(&id.tenant, depths, |scope| concerns(scope, id, tags, path.as_ref()))
                };
                prop_assert_eq!(marks.newest.seq, by_scan(&[Depth::Soft, Depth::Hard]));
                prop_assert_eq!(marks.hard.seq, by_scan(&[Depth::Hard]));
                for mark in [marks.newest, marks.hard] {
                    if let Some(event) = model.retained().iter().find(|event| event.seq == mark.seq) {
                        prop_assert_eq!(mark.at, event.at);
                    }
                }
            }
            for (id, ..) in &pages {
                let may_reach = |scope: &Scope| match scope {
                    Scope::Tag(of, _) | Scope::PathPrefix(of, _) => *of == id.tenant,
                    _ => concerns(scope, id, &[], None),
                };
                let hard = model.newest(&id.tenant, &[Depth::Hard], may_reach);
                prop_assert_eq!(view.marks_in_doubt(id).hard.seq, hard);
                let of_tenant = |scope: &Scope| scope.tenant().is_none_or(|tenant| *tenant == id.tenant);
                let marks = view.marks_in_doubt_of(&id.tenant);
                prop_assert_eq!(marks.hard.seq, model.newest(&id.tenant, &[Depth::Hard], of_tenant));
            }
            prop_assert_eq!(view.retained_bytes() == 0, model.retained().is_empty());
            let named = model.retained().iter().filter(|event| {
                event.invalidations.iter().any(|invalidation| invalidation.id == RequestId(request))
            });
            prop_assert_eq!(view.seq_of(RequestId(request)), named.map(|event| event.seq).max());
            for (seq, (id, tags, path)) in (0..=model.head.0).flat_map(|seq| pages.iter().map(move |page| (seq, page))) {
                let wanted = model.scopes_at(Seq(seq), |scope| concerns(scope, id, tags, path.as_ref()));
                prop_assert_eq!(view.scopes_at(Seq(seq), id, tags, path.as_ref()), wanted);
            }
        }
        // What is forgotten leaves nothing behind but how far that went for each tenant.
        view.forget(at(u64::MAX), usize::MAX);
        prop_assert_eq!(shape(&view), shape(&bare(model.tenants())));
    }

    /// Whatever it forgets: for want of room, or because its clock leaps.
    #[test]
    fn a_view_that_forgets_never_judges_weaker_than_one_that_does_not(
        steps in vec((event_of_unlike_tenants(), prop::option::weighted(0.1, 0..60_000_u64)), 0..60),
        pages in vec(page(), 1..8),
        max_bytes in 0..30_000_usize,
    ) {
        let (mut full, mut forgetful) = (LogView::default(), LogView::default());
        for (seq, (event, forgets_until)) in (1..).zip(steps) {
            let event = LogEvent { seq: Seq(seq), at: at(seq * 1000), ..event };
            full.fold(&event);
            forgetful.fold(&event);
            forgetful.forget_beyond(max_bytes);
            prop_assert!(forgetful.retained_bytes() <= max_bytes);
            if let Some(now) = forgets_until {
                forgetful.forget(at(now), usize::MAX);
            }
            for page in &pages {
                for (full, forgetful) in marks(&full, page).iter().zip(marks(&forgetful, page)) {
                    for seen in 0..=seq {
                        prop_assert!(rank(forgetful.verdict(Seq(seen))) >= rank(full.verdict(Seq(seen))));
                        let since = at(seen * 1000);
                        let by_time = [&forgetful, full].map(|marks| rank(marks.verdict_by_time(since)));
                        prop_assert!(by_time[0] >= by_time[1]);
                    }
                }
            }
        }
    }

    #[test]
    fn who_takes_no_more_than_a_fair_share_is_judged_as_if_nothing_was_forgotten(
        events in vec(event_of_unlike_tenants(), 0..60),
        pages in vec(page(), 1..8),
        max_bytes in 0..30_000_usize,
    ) {
        let (mut full, mut forgetful) = (LogView::default(), LogView::default());
        // What each takes alone: those of everybody too.
        let owners = || [None].into_iter().chain(TENANTS.map(|of| Some(tenant(of))));
        let mut alone: Vec<_> = owners().map(|owner| (owner, LogView::default())).collect();
        for (seq, event) in (1..).zip(events) {
            let event = LogEvent { seq: Seq(seq), at: at(seq * 1000), ..event };
            full.fold(&event);
            forgetful.fold(&event);
            forgetful.forget_beyond(max_bytes);
            for (owner, view) in &mut alone {
                view.fold(&only_about(owner.as_ref(), &event));
            }
            let bytes = alone.iter().map(|(_, view)| view.retained_bytes());
            prop_assert_eq!(bytes.clone().sum::<usize>(), full.retained_bytes());
            let share = max_bytes / bytes.filter(|bytes| *bytes > 0).count().max(1);
            for page in &pages {
                let theirs = alone.iter().find(|(owner, _)| owner.as_ref() == Some(&page.0.tenant));
                if theirs.is_some_and(|(_, view)| view.retained_bytes() <= share) {
                    prop_assert_eq!(marks(&full, page), marks(&forgetful, page));
                }
            }
        }
    }

    #[test]
    fn a_scope_reaches_what_its_text_says(scope in scope(), (id, tags, at) in page()) {
        prop_assert_eq!(concerns(&scope, &id, &tags, at.as_ref()), reaches(&scope, &id, &tags, at.as_ref()));
    }

    #[test]
    fn no_scope_of_a_tenant_reaches_another(scope in scope(), (id, tags, at) in page(), depth in select(
        &[Depth::Soft, Depth::Hard][..]
    )) {
        let mut view = LogView::default();
        view.fold(&event(1, scope.clone(), depth));
        if scope.tenant().is_some_and(|of| *of != id.tenant) {
            prop_assert_eq!(view.marks_for(&id, &tags, at.as_ref()), Marks::default());
            prop_assert!(view.scopes_at(Seq(1), &id, &tags, at.as_ref()).is_empty());
        }
    }
}

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
fn what_is_about_everybody_reaches_them_also_when_it_is_forgotten() {
    let mut view = LogView::default();
    view.fold(&event(1, Scope::Everything, Depth::Hard));
    view.fold(&event(2, Scope::Everything, Depth::Soft));
    let before = view.marks_for(&entry("a", None, "k"), [], []);
    assert_eq!(view.forget_beyond(0), 2);
    assert_eq!(view.marks_for(&entry("a", None, "k"), [], []), before);
    assert_eq!(view.marks_in_doubt_of(&tenant("b")), before);
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
