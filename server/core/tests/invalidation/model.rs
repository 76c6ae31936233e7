//! The folded log against a naive model: a list of events that is scanned from end to end.

use super::*;
use leasehold_core::invalidation::concerns;
use proptest::{collection::vec, prelude::*, sample::select, sample::subsequence};
use std::collections::BTreeSet;

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
