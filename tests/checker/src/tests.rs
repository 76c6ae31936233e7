//! Every rule finds what it is there for, in a history made by hand, and nothing in a history that keeps all promises.

use super::{
    history::{
        Absence, Audit, Body, Call, History, Identity, Names, Need, Object, Operation, Outcome, Reason,
        Rendered, Row, Scope, Seen, Terms, Time, Told,
    },
    violations,
};

const TERMS: Terms = Terms {
    staleness_bound: 400,
    clocks_apart: 100,
    slack: 10,
    longest_lease: 800,
    longest_hold: 3_000,
    longest_render: 100,
    longest_render_amid_faults: 900,
    deletion_grace: 2_000,
    hearsay: 300,
    reread: 50,
};

/// One entry, of which page 7 is granted at 100, committed at 200 and found by a strict lookup at 300; all is well.
pub(super) fn good() -> History {
    let mut history = History {
        entries: vec![Identity {
            tenant: "acme".into(),
            deployment: None,
            key: "a".into(),
            path: "/blog/a".into(),
        }],
        terms: TERMS,
        quiet_from: Some(5_000),
        ended: 10_000,
        ..History::default()
    };
    granted(&mut history, 100, 1, 7);
    committed(&mut history, 200, 1, 7, acknowledged());
    looked_up(&mut history, 300, true, Outcome::Fresh(seen(7)));
    history
}

pub(super) fn add(history: &mut History, began: Time, call: Call, outcome: Outcome) -> usize {
    let answer = Some((began + 5, outcome));
    let actor = "a machine".into();
    let operation = Operation { actor, began, answer, call, may_take: 1_000, paused: 0, abandoned: false };
    history.operations.push(operation);
    history.operations.len() - 1
}

pub(super) fn granted(history: &mut History, began: Time, attempt: u128, generation: u64) {
    let call = Call::Acquire { entry: 0, attempt, wait: 0, ttl: 300, knows: None };
    add(history, began, call, Outcome::Granted { generation, previous: None });
}

pub(super) fn committed(
    history: &mut History,
    began: Time,
    attempt: u128,
    generation: u64,
    outcome: Outcome,
) {
    add(history, began, Call::Commit { entry: 0, attempt, generation, page: rendered(generation) }, outcome);
}

pub(super) fn looked_up(history: &mut History, began: Time, strict: bool, outcome: Outcome) -> usize {
    add(history, began, Call::Lookup { entry: 0, strict, knows: None }, outcome)
}

pub(super) fn invalidated(history: &mut History, began: Time, hard: bool) -> usize {
    let scopes = vec![Scope::Tag("acme".into(), "news".into())];
    add(history, began, Call::Invalidate { attempt: 0, scopes, hard }, Outcome::Invalidated)
}

pub(super) fn rendered(generation: u64) -> Rendered {
    Rendered {
        html: format!("page {generation}"),
        sidecar: Some(format!("sidecar {generation}")),
        is_sidecar_ahead: false,
        is_html_ahead: false,
        names: Names::default(),
        tags: ["news".to_owned()].into(),
        revalidate: None,
    }
}

pub(super) fn seen(generation: u64) -> Seen {
    let told = format!("page {generation}");
    Seen { generation, told, bytes: None, sidecar: true, names: Names::default() }
}

pub(super) fn acknowledged() -> Outcome {
    Outcome::Committed { names: Names::default() }
}

pub(super) fn in_doubt() -> Outcome {
    Outcome::Failed { in_doubt: true, why: "TimedOut".into() }
}

/// The history breaks this rule, and no other.
#[track_caller]
pub(super) fn breaks(history: &History, rule: &str) {
    let found: Vec<_> = violations(history).into_iter().map(|found| found.rule).collect();
    assert!(!found.is_empty() && found.iter().all(|found| *found == rule), "{:#?}", violations(history));
}

#[track_caller]
pub(super) fn breaks_nothing(history: &History) {
    assert_eq!(violations(history), []);
}

#[test]
fn history_that_keeps_all_promises_breaks_no_rule() {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    let invalidation = invalidated(&mut history, 500, false);
    committed(&mut history, 600, 2, 8, Outcome::CommittedStale { purged: false, names: Names::default() });
    let stale = Outcome::Stale(seen(8), Reason::Invalidated);
    looked_up(&mut history, 700, true, stale.clone());
    let call = Call::Lookup { entry: 0, strict: false, knows: Some(invalidation) };
    add(&mut history, 700, call, stale);
    committed(&mut history, 800, 1, 7, Outcome::Superseded { current: 8 });
    breaks_nothing(&history);
}

#[test]
fn generation_that_is_granted_twice_is_found() {
    let mut history = good();
    granted(&mut history, 105, 2, 7);
    breaks(&history, "a generation is granted to one attempt");
}

#[test]
fn grant_of_an_older_generation_is_found() {
    let mut history = good();
    granted(&mut history, 400, 2, 6);
    breaks(&history, "later grants are of higher generations");
}

#[test]
fn grants_at_the_same_time_may_come_in_any_order() {
    let mut history = good();
    granted(&mut history, 104, 2, 6);
    breaks_nothing(&history);
}

#[test]
fn commit_of_an_overtaken_worker_is_found() {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    granted(&mut history, 500, 3, 9);
    committed(&mut history, 600, 2, 8, acknowledged());
    breaks(&history, "a commit is accepted only under the latest grant");
}

#[test]
fn commit_that_only_a_watch_tells_of_is_found_too() {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    granted(&mut history, 500, 3, 9);
    committed(&mut history, 600, 2, 8, in_doubt());
    add(&mut history, 300, Call::Watch, Outcome::Watched(vec![Told::Committed { entry: 0, generation: 8 }]));
    history.operations.last_mut().unwrap().answer.as_mut().unwrap().0 = 900;
    breaks(&history, "a commit is accepted only under the latest grant");
}

#[test]
fn commit_after_a_newer_one_is_found() {
    let mut history = good();
    // Its grant was never heard of, and its commit is: so only the order of the commits tells.
    committed(&mut history, 400, 2, 9, acknowledged());
    committed(&mut history, 500, 1, 8, acknowledged());
    breaks(&history, "commits are accepted in the order of their generations");
}

#[test]
fn acknowledged_page_that_is_lost_is_found() {
    let mut history = good();
    history.operations.pop();
    looked_up(&mut history, 400, true, Outcome::Missing(Absence::NeverRendered));
    breaks(&history, "what was acknowledged is there, or something newer");
}

#[test]
fn page_that_is_missing_for_no_reason_is_found() {
    for absence in [Absence::Purged, Absence::BodyGone, Absence::Untold] {
        let mut history = good();
        looked_up(&mut history, 400, true, Outcome::Missing(absence));
        breaks(&history, "what is missing never was there, or was purged");
    }
}

#[test]
fn page_that_was_purged_may_be_missing() {
    for absence in [Absence::Purged, Absence::Untold] {
        let mut history = good();
        invalidated(&mut history, 350, true);
        looked_up(&mut history, 400, true, Outcome::Missing(absence));
        breaks_nothing(&history);
    }
}

#[test]
fn page_that_was_superseded_before_its_purge_explains_nothing() {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    committed(&mut history, 500, 2, 8, acknowledged());
    if let Call::Commit { page, .. } = &mut history.operations.last_mut().unwrap().call {
        page.tags.clear();
    }
    invalidated(&mut history, 600, true);
    looked_up(&mut history, 700, true, Outcome::Missing(Absence::Purged));
    breaks(&history, "what is missing never was there, or was purged");
}

#[test]
fn purged_page_that_an_older_one_follows_is_found() {
    let mut history = good();
    committed(&mut history, 400, 2, 8, in_doubt());
    if let Call::Commit { page, .. } = &mut history.operations.last_mut().unwrap().call {
        page.tags = ["sport".to_owned()].into();
    }
    let scopes = vec![Scope::Tag("acme".into(), "sport".into())];
    add(&mut history, 410, Call::Invalidate { attempt: 0, scopes, hard: true }, Outcome::Invalidated);
    looked_up(&mut history, 500, true, Outcome::Missing(Absence::Purged));
    breaks_nothing(&history);
    looked_up(&mut history, 600, true, Outcome::Fresh(seen(7)));
    breaks(&history, "what is missing never was there, or was purged");
}

#[test]
fn older_page_than_the_acknowledged_one_is_found() {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    committed(&mut history, 500, 2, 8, acknowledged());
    looked_up(&mut history, 600, true, Outcome::Fresh(seen(7)));
    breaks(&history, "what was acknowledged is there, or something newer");
}

#[test]
fn older_page_than_one_that_superseded_another_is_found() {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    committed(&mut history, 420, 2, 8, in_doubt());
    committed(&mut history, 500, 1, 7, Outcome::Superseded { current: 8 });
    looked_up(&mut history, 600, true, Outcome::Fresh(seen(7)));
    breaks(&history, "strict lookups never go back");
}

#[test]
fn commit_that_is_superseded_by_an_older_one_than_was_seen_is_found() {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    committed(&mut history, 420, 2, 8, acknowledged());
    granted(&mut history, 430, 3, 9);
    committed(&mut history, 440, 3, 9, acknowledged());
    committed(&mut history, 500, 1, 7, Outcome::Superseded { current: 8 });
    breaks(&history, "what was acknowledged is there, or something newer");
}

#[test]
fn strict_lookup_that_finds_less_than_others_were_told_is_found() {
    let told = || Outcome::Watched(vec![Told::Committed { entry: 0, generation: 8 }]);
    let bounded = Call::Lookup { entry: 0, strict: false, knows: None };
    for (call, outcome) in [(Call::Watch, told()), (bounded, Outcome::Fresh(seen(8)))] {
        let mut history = good();
        granted(&mut history, 400, 2, 8);
        committed(&mut history, 420, 2, 8, in_doubt());
        add(&mut history, 500, call, outcome);
        looked_up(&mut history, 600, true, Outcome::Fresh(seen(7)));
        breaks(&history, "strict lookups never go back");
    }
}

#[test]
fn superseded_commit_that_is_called_fenced_is_found() {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    granted(&mut history, 450, 3, 9);
    committed(&mut history, 500, 3, 9, acknowledged());
    committed(&mut history, 600, 2, 8, Outcome::Fenced { latest: 9 });
    breaks(&history, "what was superseded is not called fenced");
}

#[test]
fn fenced_commit_that_was_applied_is_found() {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    committed(&mut history, 420, 2, 8, in_doubt());
    looked_up(&mut history, 450, false, Outcome::Fresh(seen(8)));
    granted(&mut history, 480, 3, 9);
    committed(&mut history, 500, 2, 8, Outcome::Fenced { latest: 9 });
    breaks(&history, "what was fenced is never applied");
}

#[test]
fn commit_that_is_fenced_without_a_rival_is_found() {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    committed(&mut history, 500, 2, 8, Outcome::Fenced { latest: 8 });
    breaks(&history, "what was fenced was overtaken or given back");
}

#[test]
fn commit_may_be_fenced_by_a_rival_who_never_heard_of_his_grant_as_long_as_there_are_faults() {
    let story = |at| {
        let mut history = good();
        granted(&mut history, at, 2, 8);
        let call = Call::Acquire { entry: 0, attempt: 3, wait: 0, ttl: 300, knows: None };
        add(&mut history, at + 20, call, Outcome::Held { previous: None });
        committed(&mut history, at + 100, 2, 8, Outcome::Fenced { latest: 9 });
        history
    };
    breaks_nothing(&story(400));
    breaks(&story(6_000), "what was fenced was overtaken or given back");
}

#[test]
fn commit_that_is_fenced_after_it_was_given_back_is_right() {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    add(&mut history, 450, Call::Release { entry: 0, generation: 8 }, Outcome::Released);
    committed(&mut history, 500, 2, 8, Outcome::Fenced { latest: 8 });
    breaks_nothing(&history);
}

#[test]
fn commit_that_surely_failed_and_was_applied_is_found() {
    let failed = |in_doubt| Outcome::Failed { in_doubt, why: "StoreUnavailable".into() };
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    committed(&mut history, 500, 2, 8, failed(false));
    breaks_nothing(&history);
    looked_up(&mut history, 600, true, Outcome::Fresh(seen(8)));
    breaks(&history, "what surely failed was not applied");

    let mut history = good();
    granted(&mut history, 400, 2, 8);
    committed(&mut history, 500, 2, 8, failed(false));
    committed(&mut history, 510, 2, 8, failed(true));
    looked_up(&mut history, 600, true, Outcome::Fresh(seen(8)));
    breaks_nothing(&history);

    // Before the one that may have been applied.
    looked_up(&mut history, 503, true, Outcome::Fresh(seen(8)));
    breaks(&history, "what is served was committed before");
}

#[test]
fn commit_that_is_superseded_by_an_older_one_is_found() {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    committed(&mut history, 500, 2, 8, Outcome::Superseded { current: 7 });
    breaks(&history, "superseded is said only of what is older");
}

#[test]
fn strict_lookup_that_goes_back_is_found() {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    // Not acknowledged, but seen: from then on it is there.
    committed(&mut history, 500, 2, 8, in_doubt());
    looked_up(&mut history, 600, true, Outcome::Fresh(seen(8)));
    looked_up(&mut history, 700, true, Outcome::Fresh(seen(7)));
    breaks(&history, "strict lookups never go back");
}

#[test]
fn page_from_nowhere_is_found() {
    let mut history = good();
    looked_up(&mut history, 400, false, Outcome::Fresh(seen(8)));
    breaks(&history, "what is served was committed before");
}

#[test]
fn watch_that_tells_of_nothing_that_was_committed_is_found() {
    let mut history = good();
    add(&mut history, 400, Call::Watch, Outcome::Watched(vec![Told::Committed { entry: 0, generation: 8 }]));
    breaks(&history, "what is served was committed before");
}

#[test]
fn bytes_of_another_generation_are_found() {
    for wrong in [
        Seen { told: "page 6".into(), ..seen(7) },
        Seen { bytes: Some("page 6".into()), ..seen(7) },
        Seen { sidecar: false, ..seen(7) },
    ] {
        let mut history = good();
        looked_up(&mut history, 400, false, Outcome::Fresh(wrong));
        breaks(&history, "a page is served with the bytes of its generation");
    }
}

#[test]
fn sidecar_of_another_generation_is_found() {
    let mut history = good();
    let call = Call::Sidecar { entry: 0, generation: 7, of: 2 };
    add(&mut history, 400, call, Outcome::Sidecar("sidecar 6".into()));
    breaks(&history, "a sidecar is that of its page");
}

#[test]
fn sidecar_that_is_gone_too_soon_is_found() {
    let call = Call::Sidecar { entry: 0, generation: 7, of: 2 };
    let mut history = good();
    add(&mut history, 400, call.clone(), Outcome::NoSidecar);
    breaks(&history, "the sidecar of a current page is there");
    let mut history = good();
    add(&mut history, 2_400, call, Outcome::NoSidecar);
    breaks_nothing(&history);
}

#[test]
fn sidecar_that_does_not_say_what_it_is_of_may_be_purged_by_what_is_not_about_its_page() {
    let other = vec![Scope::Tag("acme".into(), "sport".into())];
    for (is_sidecar_ahead, scopes, is_fine) in
        [(true, other.clone(), true), (false, other, false), (true, vec![Scope::Tenant("zen".into())], false)]
    {
        let mut history = good();
        let page = Rendered { is_sidecar_ahead, ..rendered(8) };
        granted(&mut history, 400, 2, 8);
        add(&mut history, 410, Call::Commit { entry: 0, attempt: 2, generation: 8, page }, acknowledged());
        let of = looked_up(&mut history, 420, true, Outcome::Fresh(seen(8)));
        add(&mut history, 430, Call::Invalidate { attempt: 0, scopes, hard: true }, Outcome::Invalidated);
        add(&mut history, 440, Call::Sidecar { entry: 0, generation: 8, of }, Outcome::NoSidecar);
        if is_fine {
            breaks_nothing(&history);
        } else {
            breaks(&history, "the sidecar of a current page is there");
        }
    }
}

#[test]
fn sidecar_that_is_served_for_another_entry_is_found() {
    let mut history = good();
    let of = looked_up(&mut history, 400, true, Outcome::Fresh(seen(7)));
    add(&mut history, 410, Call::ForeignSidecar { entry: 0, of }, Outcome::NoSidecar);
    breaks_nothing(&history);
    add(&mut history, 420, Call::ForeignSidecar { entry: 0, of }, Outcome::Sidecar("sidecar 7".into()));
    breaks(&history, "a sidecar is served for its own entry only");
}

#[test]
fn second_grant_in_the_time_of_the_first_is_found_when_all_is_well() {
    let rule = "when all is well, one renders at a time";
    let story = |first, second, between: &dyn Fn(&mut History) -> usize| {
        let mut history = good();
        granted(&mut history, first, 2, 8);
        between(&mut history);
        granted(&mut history, second, 3, 9);
        history
    };
    breaks(&story(6_000, 6_200, &|history| history.operations.len()), rule);
    breaks_nothing(&story(4_000, 4_200, &|history| history.operations.len()));
    breaks_nothing(&story(6_000, 6_295, &|history| history.operations.len()));
    let renewed = |history: &mut History| add(history, 6_250, RENEWAL, Outcome::Renewed);
    breaks(&story(6_000, 6_300, &renewed), rule);
    breaks_nothing(&story(6_000, 6_645, &renewed));
    let release = Call::Release { entry: 0, generation: 8 };
    breaks_nothing(&story(6_000, 6_200, &|history| add(history, 6_100, release.clone(), Outcome::Released)));
    breaks_nothing(&story(6_000, 6_200, &|history| invalidated(history, 6_100, false)));
    breaks_nothing(&story(6_000, 6_200, &|history| invalidated(history, 5_900, false)));
    breaks(&story(6_000, 6_200, &|history| invalidated(history, 5_100, false)), rule);
    let scopes = vec![Scope::Tenant("zen".into())];
    let foreign = Call::Invalidate { attempt: 0, scopes, hard: false };
    breaks(&story(6_000, 6_200, &|history| add(history, 6_100, foreign.clone(), Outcome::Invalidated)), rule);
}

#[test]
fn fresh_page_after_its_invalidation_is_found_as_soon_as_it_had_to_be_known() {
    let rule = "nothing is fresh after its invalidation";
    let base = || {
        let mut history = good();
        let invalidation = invalidated(&mut history, 400, false);
        (history, invalidation)
    };
    let fresh = || Outcome::Fresh(seen(7));

    let (mut history, _) = base();
    looked_up(&mut history, 500, false, fresh());
    breaks_nothing(&history);

    let (mut history, _) = base();
    looked_up(&mut history, 500, true, fresh());
    breaks(&history, rule);

    let (mut history, invalidation) = base();
    add(&mut history, 410, Call::Lookup { entry: 0, strict: false, knows: Some(invalidation) }, fresh());
    breaks(&history, rule);

    let (mut history, _) = base();
    let later = add(
        &mut history,
        450,
        Call::Invalidate {
            attempt: 0,
            scopes: vec![Scope::Key("acme".into(), "another".into())],
            hard: false,
        },
        Outcome::Invalidated,
    );
    add(
        &mut history,
        460,
        Call::Acquire { entry: 0, attempt: 9, wait: 0, ttl: 300, knows: Some(later) },
        fresh(),
    );
    breaks(&history, rule);

    let (mut history, _) = base();
    looked_up(&mut history, 900, false, fresh());
    breaks(&history, rule);
}

#[test]
fn page_whose_render_began_after_the_invalidation_may_be_fresh() {
    let mut history = good();
    invalidated(&mut history, 350, false);
    granted(&mut history, 400, 2, 8);
    committed(&mut history, 500, 2, 8, acknowledged());
    looked_up(&mut history, 600, true, Outcome::Fresh(seen(8)));
    breaks_nothing(&history);
}

#[test]
fn purged_page_that_is_served_is_found() {
    let rule = "what was purged is not served";
    let stale = || Outcome::Stale(seen(7), Reason::Expired);
    let mut history = good();
    invalidated(&mut history, 400, true);
    looked_up(&mut history, 2_000, false, stale());
    // While there are faults, whoever cannot read the log does not know.
    breaks_nothing(&history);
    looked_up(&mut history, 2_100, true, stale());
    breaks(&history, rule);

    let mut history = good();
    invalidated(&mut history, 400, true);
    looked_up(&mut history, 6_000, false, stale());
    breaks(&history, rule);

    let mut history = good();
    invalidated(&mut history, 400, true);
    let call = Call::Sidecar { entry: 0, generation: 7, of: 2 };
    add(&mut history, 6_000, call, Outcome::Sidecar("sidecar 7".into()));
    breaks(&history, rule);
}

#[test]
fn fresh_page_past_its_time_is_found() {
    let mut history = good();
    for operation in &mut history.operations {
        if let Call::Commit { page, .. } = &mut operation.call {
            page.revalidate = Some(400);
        }
    }
    looked_up(&mut history, 600, false, Outcome::Fresh(seen(7)));
    breaks_nothing(&history);
    looked_up(&mut history, 700, false, Outcome::Fresh(seen(7)));
    breaks(&history, "nothing is fresh past its time");
}

#[test]
fn late_answer_and_missing_one_are_found() {
    let rule = "calls end within their deadlines";
    let mut history = good();
    history.operations[2].answer.as_mut().unwrap().0 = 1_400;
    breaks(&history, rule);
    history.operations[2].paused = 100;
    breaks_nothing(&history);

    let mut history = good();
    history.operations[2].answer = None;
    breaks(&history, rule);
    history.operations[2].abandoned = true;
    breaks_nothing(&history);
}

#[test]
fn waiter_that_is_not_served_when_all_is_well_is_found() {
    let rule = "waiters are served in time when the faults are over";
    let call = |wait| Call::Acquire { entry: 0, attempt: 9, wait, ttl: 300, knows: None };
    let mut history = good();
    add(&mut history, 6_000, call(3_000), Outcome::Held { previous: None });
    breaks(&history, rule);

    let mut history = good();
    let late = add(&mut history, 6_000, call(3_000), Outcome::Fresh(seen(7)));
    history.operations[late].may_take = 4_000;
    history.operations[late].answer.as_mut().unwrap().0 = 6_000 + 2_901;
    breaks(&history, rule);

    let mut history = good();
    add(&mut history, 6_000, call(200), Outcome::Held { previous: None });
    breaks_nothing(&history);
}

#[test]
fn waiter_that_still_waits_long_after_the_faults_is_found() {
    // Leases of 800, renders of 900, 2 s, clocks 100 apart, slack of 10.
    const PATIENCE: Time = 3_810;
    let waits = |began, answered: Time| {
        let mut history = good();
        (history.faults_ended, history.quiet_from) = (Some(1_000), Some(5_000));
        let call = Call::Acquire { entry: 0, attempt: 9, wait: 6_000, ttl: 300, knows: None };
        let waiter = add(&mut history, began, call, Outcome::Fresh(seen(7)));
        history.operations[waiter].may_take = 7_000;
        history.operations[waiter].answer.as_mut().unwrap().0 = answered;
        history
    };
    let rule = "waiters are served in time when the faults are over";
    breaks_nothing(&waits(500, 1_000 + PATIENCE));
    breaks(&waits(500, 1_000 + PATIENCE + 1), rule);
    breaks_nothing(&waits(2_000, 2_000 + PATIENCE));
    breaks(&waits(2_000, 2_000 + PATIENCE + 1), rule);
    let mut never = waits(500, 2_000);
    never.operations[3].answer = None;
    never.operations[3].may_take = 20_000;
    breaks(&never, rule);
    never.operations[3].abandoned = true;
    breaks_nothing(&never);
}

#[test]
fn lease_that_is_renewed_although_it_is_over_is_found() {
    let rule = "a lease is renewed for its holder only";
    let renewed = |between: &dyn Fn(&mut History)| {
        let mut history = good();
        granted(&mut history, 400, 2, 8);
        between(&mut history);
        add(&mut history, 600, RENEWAL, Outcome::Renewed);
        history
    };
    breaks_nothing(&renewed(&|_| {}));
    breaks(&renewed(&|history| granted(history, 500, 3, 9)), rule);
    breaks(&renewed(&|history| committed(history, 500, 2, 8, acknowledged())), rule);
    breaks_nothing(&renewed(&|history| committed(history, 500, 2, 8, in_doubt())));
    breaks(&renewed(&|history| given_back(history, 500, Outcome::Released)), rule);
}

#[test]
fn lease_that_is_lost_for_no_reason_is_found() {
    let rule = "a lease is lost for a reason";
    let lost = |at, between: &dyn Fn(&mut History)| {
        let mut history = good();
        granted(&mut history, 400, 2, 8);
        between(&mut history);
        add(&mut history, at, RENEWAL, Outcome::Lost);
        history
    };
    breaks(&lost(500, &|_| {}), rule);
    // It can be held for 3,000, and clocks are 100 apart.
    breaks(&lost(3_284, &|_| {}), rule);
    breaks_nothing(&lost(3_285, &|_| {}));
    breaks_nothing(&lost(500, &|history| granted(history, 450, 3, 9)));
    let unheard = Call::Acquire { entry: 0, attempt: 3, wait: 0, ttl: 300, knows: None };
    breaks_nothing(&lost(500, &|history| {
        add(history, 450, unheard.clone(), in_doubt());
    }));
    breaks_nothing(&lost(500, &|history| given_back(history, 450, in_doubt())));
}

fn given_back(history: &mut History, began: Time, outcome: Outcome) {
    add(history, began, Call::Release { entry: 0, generation: 8 }, outcome);
}

/// Of generation 8, for 400 from then on.
const RENEWAL: Call = Call::Renew { entry: 0, generation: 8, ttl: 400 };

#[test]
fn commit_that_a_watch_tells_of_twice_is_found() {
    let commit = Told::Committed { entry: 0, generation: 7 };
    let watched = |told: Vec<Told>| {
        let mut history = good();
        add(&mut history, 300, Call::Watch, Outcome::Watched(told));
        history
    };
    breaks_nothing(&watched(vec![commit.clone(), Told::Resync, commit.clone()]));
    breaks(&watched(vec![commit.clone(), Told::Invalidated, commit]), "a watch tells of a commit once");
}

#[test]
fn waiter_that_does_not_hear_of_a_commit_is_found() {
    let waits = |answered: Time| {
        let mut history = good();
        granted(&mut history, 6_000, 2, 8);
        let call = Call::Acquire { entry: 0, attempt: 9, wait: 3_000, ttl: 300, knows: None };
        let waiter = add(&mut history, 6_010, call, Outcome::Fresh(seen(8)));
        history.operations[waiter].answer.as_mut().unwrap().0 = answered;
        committed(&mut history, 6_100, 2, 8, acknowledged());
        history
    };
    breaks_nothing(&waits(6_415));
    let mut history = waits(6_416);
    history.operations[4].may_take = 4_000;
    breaks(&history, "when all is well, waiters hear of the commit");
    // It was not what they waited for.
    invalidated(&mut history, 6_050, false);
    history.operations[4].answer.as_mut().unwrap().1 = Outcome::Stale(seen(8), Reason::Invalidated);
    breaks_nothing(&history);
}

#[test]
fn refusal_that_is_nobodys_outage_is_found() {
    let rule = "refusals are those of an outage";
    let failed = |why: &str| Outcome::Failed { in_doubt: false, why: why.into() };
    let mut history = good();
    looked_up(&mut history, 400, false, failed("StoreUnavailable"));
    breaks_nothing(&history);
    looked_up(&mut history, 400, false, failed("Internal"));
    breaks(&history, rule);

    let mut history = good();
    looked_up(&mut history, 6_000, false, failed("StoreUnavailable"));
    breaks(&history, rule);

    let mut history = good();
    history.panics.push("index out of bounds".into());
    breaks(&history, rule);
}

/// The row of page 7, and its objects.
pub(super) fn audited() -> Audit {
    let body = |name: &str, bytes: &str| Body { object: name.into(), given: None, bytes: Some(bytes.into()) };
    let row = Row {
        entry: 0,
        generation: 7,
        html: body("7.html", "page 7"),
        sidecar: Some(body("7.hydration.json", "sidecar 7")),
    };
    let object = |name: &str, needed, is_left| Object { name: name.into(), needed, is_left };
    let objects = vec![
        object("7.html", Need::Named, true),
        object("7.hydration.json", Need::Named, true),
        object("8.html", Need::Leased, true),
        object("6.html", Need::Nobody, false),
    ];
    Audit { rows: vec![row], objects, invalidations: vec![1, 2] }
}

/// After a sweep that deleted something.
pub(super) fn ended(audit: Audit) -> History {
    let mut history = good();
    add(&mut history, 9_000, Call::Sweep { is_last: true }, Outcome::Swept { deleted: 1, failed: 0 });
    history.audit = Some(audit);
    history
}

#[test]
fn stores_that_hold_what_they_should_break_no_rule() {
    breaks_nothing(&ended(audited()));
}

#[test]
fn row_that_names_nothing_is_found() {
    for change in
        [|row: &mut Row| row.html.bytes = None, |row: &mut Row| row.sidecar.as_mut().unwrap().bytes = None]
    {
        let mut audit = audited();
        change(&mut audit.rows[0]);
        breaks(&ended(audit), "the stores hold what rows name");
    }
}

#[test]
fn row_that_names_the_bodies_of_another_generation_is_found() {
    for change in [
        |row: &mut Row| row.html.bytes = Some("page 6".into()),
        |row: &mut Row| row.sidecar.as_mut().unwrap().bytes = Some("sidecar 6".into()),
        |row: &mut Row| row.sidecar = None,
        |row: &mut Row| row.generation = 8,
    ] {
        let mut audit = audited();
        change(&mut audit.rows[0]);
        breaks(&ended(audit), "rows name the bodies of their generation");
    }
}

#[test]
fn row_that_is_missing_or_of_an_older_page_is_found() {
    let rule = "rows are of what was committed last";
    breaks(&ended(Audit { rows: Vec::new(), ..audited() }), rule);
    let mut history = ended(audited());
    granted(&mut history, 400, 2, 8);
    committed(&mut history, 500, 2, 8, acknowledged());
    breaks(&history, rule);
}

#[test]
fn sweep_of_something_that_is_needed_is_found() {
    for number in 0..3 {
        let mut audit = audited();
        audit.objects[number].is_left = false;
        breaks(&ended(audit), "what is needed is not swept");
    }
}

#[test]
fn orphan_that_outlives_the_last_sweep_is_found() {
    let rule = "what nobody needs is swept in the end";
    let mut audit = audited();
    audit.objects[3].is_left = true;
    let mut history = ended(audit);
    breaks(&history, rule);
    let refused = |history: &mut History| {
        history.operations.last_mut().unwrap().answer = Some((9_005, Outcome::SweptNothing));
    };
    refused(&mut history);
    breaks(&history, rule);

    // Where nothing was ever committed, the sweep cannot know that it is the table of this bucket.
    let mut history = ended(history.audit.map(|audit| Audit { rows: Vec::new(), ..audit }).unwrap());
    history.operations.drain(..3);
    refused(&mut history);
    breaks_nothing(&history);
}

#[test]
fn invalidation_that_is_in_the_log_twice_is_found() {
    let audit = Audit { invalidations: vec![1, 2, 1], ..audited() };
    breaks(&ended(audit), "an invalidation is in the log once");
}

#[test]
fn log_that_does_not_have_what_was_told_of_it_is_found() {
    let rule = "the log has what was acknowledged, and not what surely failed";
    let failed = |in_doubt| Outcome::Failed { in_doubt, why: "StoreUnavailable".into() };
    let story = |attempt, outcomes: &[Outcome]| {
        let mut history = ended(Audit { invalidations: vec![1, 2], ..audited() });
        for outcome in outcomes {
            let scopes = vec![Scope::Tenant("zen".into())];
            add(&mut history, 400, Call::Invalidate { attempt, scopes, hard: false }, outcome.clone());
        }
        history
    };
    breaks(&story(3, &[Outcome::Invalidated]), rule);
    breaks(&story(2, &[failed(false), failed(false)]), rule);
    breaks_nothing(&story(2, &[Outcome::Invalidated, failed(false)]));
    breaks_nothing(&story(2, &[failed(true)]));
    breaks_nothing(&story(3, &[failed(true)]));
    breaks_nothing(&story(3, &[failed(false)]));
}

#[test]
fn scopes_cover_what_they_name_and_nothing_else() {
    let entry = Identity {
        tenant: "acme".into(),
        deployment: Some("v2".into()),
        key: "a".into(),
        path: "/blog/a".into(),
    };
    let tags = ["news".to_owned()].into();
    let acme = || "acme".to_owned();
    for (scope, covers) in [
        (Scope::Everything, true),
        (Scope::Tenant(acme()), true),
        (Scope::Tenant("zen".into()), false),
        (Scope::Deployment(acme(), "v2".into()), true),
        (Scope::Deployment(acme(), "v1".into()), false),
        (Scope::Path(acme(), "/".into()), true),
        (Scope::Path(acme(), "/blog".into()), true),
        (Scope::Path(acme(), "/blog/a".into()), true),
        (Scope::Path(acme(), "/blo".into()), false),
        (Scope::Path("zen".into(), "/".into()), false),
        (Scope::Tag(acme(), "news".into()), true),
        (Scope::Tag(acme(), "sport".into()), false),
        (Scope::Tag("zen".into(), "news".into()), false),
        (Scope::Key(acme(), "a".into()), true),
        (Scope::Key("zen".into(), "a".into()), false),
    ] {
        assert_eq!(scope.covers(&entry, &tags), covers, "{scope:?}");
    }
}

#[test]
fn every_rule_has_a_history_that_breaks_it() {
    let tests = [include_str!("tests.rs"), include_str!("names/tests.rs")];
    for rule in super::rules() {
        assert!(tests.iter().any(|tests| tests.contains(rule)), "no test breaks the rule: {rule}");
    }
}

#[test]
fn page_that_is_called_invalidated_for_no_reason_is_found() {
    let rule = "what is called invalidated was invalidated";
    let mut history = good();
    looked_up(&mut history, 400, false, Outcome::Stale(seen(7), Reason::Invalidated));
    breaks(&history, rule);

    // One that was known long before its lease was granted is no reason.
    let mut history = good();
    invalidated(&mut history, 4_000, false);
    granted(&mut history, 6_000, 2, 8);
    committed(&mut history, 6_100, 2, 8, acknowledged());
    breaks_nothing(&history);
    looked_up(&mut history, 6_200, true, Outcome::Stale(seen(8), Reason::Invalidated));
    breaks(&history, rule);

    // Nor is a soft one for a purge.
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    invalidated(&mut history, 450, false);
    committed(&mut history, 500, 2, 8, Outcome::CommittedStale { purged: true, names: Names::default() });
    breaks(&history, rule);
}

#[test]
fn page_that_is_missing_for_a_purge_of_long_before_is_found() {
    let mut history = good();
    invalidated(&mut history, 4_000, true);
    granted(&mut history, 6_000, 2, 8);
    committed(&mut history, 6_100, 2, 8, acknowledged());
    looked_up(&mut history, 6_200, true, Outcome::Missing(Absence::Purged));
    let found: Vec<_> = violations(&history).into_iter().map(|found| found.rule).collect();
    assert!(found.contains(&"what is missing never was there, or was purged"), "{found:?}");
}

#[test]
fn page_that_nobody_verified_when_all_is_well_is_found() {
    let mut history = good();
    looked_up(&mut history, 4_900, false, Outcome::Stale(seen(7), Reason::Unverified));
    breaks_nothing(&history);
    looked_up(&mut history, 5_100, false, Outcome::Stale(seen(7), Reason::Unverified));
    breaks(&history, "when all is well, everything is verified");
}

/// Somebody waits from 410 on, and is told of page 8 as fresh when it is committed, at 1,200.
fn waited() -> History {
    let mut history = good();
    granted(&mut history, 400, 2, 8);
    let waits = Call::Acquire { entry: 0, attempt: 3, wait: 5_000, ttl: 300, knows: None };
    let waiter = add(&mut history, 410, waits, Outcome::Fresh(seen(8)));
    history.operations[waiter].answer = Some((1_210, Outcome::Fresh(seen(8))));
    history.operations[waiter].may_take = 6_000;
    history
}

#[test]
fn waiter_that_is_told_of_an_invalidated_page_as_fresh_is_found() {
    let mut history = waited();
    invalidated(&mut history, 500, false);
    committed(&mut history, 1_200, 2, 8, Outcome::CommittedStale { purged: false, names: Names::default() });
    breaks(&history, "nothing is fresh after its invalidation");
}

#[test]
fn waiter_that_is_told_of_an_expired_page_as_fresh_is_found() {
    let mut history = waited();
    let page = Rendered { revalidate: Some(300), ..rendered(8) };
    add(&mut history, 1_200, Call::Commit { entry: 0, attempt: 2, generation: 8, page }, acknowledged());
    breaks(&history, "nothing is fresh past its time");
}
