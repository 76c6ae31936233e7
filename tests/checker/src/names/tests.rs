//! What goes by names: each rule in a history made by hand that breaks it, and beside it what keeps it.

use super::super::{
    history::{
        Absence, Audit, Body, Call, History, Identity, Names, Need, Object, Outcome, Rendered, Row, Scope,
        Seen, Time,
    },
    tests::{
        acknowledged, add, audited, breaks, breaks_nothing, committed, ended, good, granted, in_doubt,
        invalidated, looked_up, rendered, seen,
    },
};

fn names(stem: &str) -> Names {
    Names { html: Some(format!("{stem}.html")), sidecar: Some(format!("{stem}.hydration.json")) }
}

/// A page that goes by names.
fn page(generation: u64, stem: &str) -> Rendered {
    Rendered { names: names(stem), ..rendered(generation) }
}

fn told(stem: &str) -> Outcome {
    Outcome::Committed { names: names(stem) }
}

fn found_as(generation: u64, stem: &str) -> Outcome {
    Outcome::Fresh(Seen { names: names(stem), ..seen(generation) })
}

fn commit(history: &mut History, began: Time, generation: u64, page: Rendered, outcome: Outcome) {
    let call = Call::Commit { entry: 0, attempt: generation.into(), generation, page };
    add(history, began, call, outcome);
}

fn asked(history: &mut History, began: Time, name: &str, outcome: Outcome) {
    asked_of(history, began, "acme", name, outcome);
}

fn asked_of(history: &mut History, began: Time, tenant: &str, name: &str, outcome: Outcome) {
    add(history, began, Call::Object { tenant: tenant.into(), name: name.into() }, outcome);
}

fn body(digest: &str) -> Outcome {
    Outcome::Object { told: digest.into(), bytes: digest.into() }
}

fn purged(history: &mut History, began: Time, tag: &str) {
    let scopes = vec![Scope::Tag("acme".into(), tag.into())];
    add(history, began, Call::Invalidate { attempt: 0, scopes, hard: true }, Outcome::Invalidated);
}

/// After page 7, page 8 is granted at 400, and committed at 500 under names.
fn named() -> History {
    let mut history = good();
    granted(&mut history, 400, 8, 8);
    commit(&mut history, 500, 8, page(8, "eight"), told("eight"));
    history
}

/// Another entry, of this tenant, of which page 1 is granted at 600.
fn with_another(mut history: History, tenant: &str) -> History {
    history.entries.push(Identity { tenant: tenant.into(), key: "b".into(), ..Identity::default() });
    let call = Call::Acquire { entry: 1, attempt: 9, wait: 0, ttl: 300, knows: None };
    add(&mut history, 600, call, Outcome::Granted { generation: 1, previous: None });
    history
}

fn commit_other(history: &mut History, began: Time, page: Rendered, outcome: Outcome) {
    add(history, began, Call::Commit { entry: 1, attempt: 9, generation: 1, page }, outcome);
}

#[test]
fn bodies_that_are_read_by_their_names_break_no_rule() {
    let mut history = named();
    asked(&mut history, 600, "eight.html", body("page 8"));
    asked(&mut history, 600, "eight.hydration.json", body("sidecar 8"));
    asked(&mut history, 600, "nobodys.html", Outcome::NoObject);
    asked_of(&mut history, 600, "zen", "eight.html", Outcome::NoObject);
    looked_up(&mut history, 600, true, found_as(8, "eight"));
    breaks_nothing(&history);
}

#[test]
fn body_that_nobody_called_so_is_found() {
    let wrong = || Outcome::Object { told: "page 8".into(), bytes: "page 7".into() };
    for (tenant, name, outcome) in [
        ("acme", "eight.html", body("page 7")),
        ("acme", "eight.html", body("sidecar 8")),
        ("acme", "eight.html", wrong()),
        ("acme", "eight.hydration.json", body("page 8")),
        ("acme", "nobodys.html", body("page 8")),
        ("zen", "eight.html", body("page 8")),
    ] {
        let mut history = with_another(named(), "zen");
        asked_of(&mut history, 600, tenant, name, outcome);
        breaks(&history, "what is served by a name was stored under it");
    }
    // Before anybody can have stored it.
    let mut history = named();
    asked(&mut history, 450, "eight.html", body("page 8"));
    breaks(&history, "what is served by a name was stored under it");
}

#[test]
fn purged_body_that_is_served_by_its_name_is_found() {
    let mut history = named();
    purged(&mut history, 5_500, "news");
    // Whoever reads a moment later need not know.
    asked(&mut history, 5_600, "eight.html", body("page 8"));
    breaks_nothing(&history);
    asked(&mut history, 6_000, "eight.html", body("page 8"));
    breaks(&history, "what was purged is not served by its name");

    let mut history = named();
    invalidated(&mut history, 5_500, false);
    purged(&mut history, 5_500, "sport");
    asked(&mut history, 6_000, "eight.html", body("page 8"));
    breaks_nothing(&history);

    // While there are faults, whoever cannot read the log does not know.
    let mut history = named();
    purged(&mut history, 1_000, "news");
    asked(&mut history, 2_000, "eight.html", body("page 8"));
    breaks_nothing(&history);
}

#[test]
fn purged_body_whose_name_a_later_page_has_kept_may_be_served() {
    let mut history = named();
    purged(&mut history, 5_100, "news");
    granted(&mut history, 5_200, 9, 9);
    let same = Rendered { html: "page 8".into(), ..page(9, "nine") };
    let kept = Names { html: names("eight").html, sidecar: names("nine").sidecar };
    // Nobody was told of it yet.
    commit(&mut history, 5_300, 9, same, acknowledged());
    let unheard = history.operations.last_mut().unwrap();
    (unheard.answer, unheard.abandoned) = (None, true);
    asked(&mut history, 6_000, "eight.html", body("page 8"));
    breaks_nothing(&history);
    let seen = Seen { told: "page 8".into(), names: kept, ..seen(9) };
    looked_up(&mut history, 6_100, true, Outcome::Fresh(seen));
    breaks_nothing(&history);
    asked(&mut history, 6_200, "eight.hydration.json", body("sidecar 8"));
    breaks(&history, "what was purged is not served by its name");
}

#[test]
fn name_of_a_current_page_that_is_not_found_is_found() {
    let rule = "what is current, or was a moment ago, is found by its name";
    for name in ["eight.html", "eight.hydration.json"] {
        let mut history = named();
        // A coordinator may repeat for a while what was the case before.
        asked(&mut history, 565, name, Outcome::NoObject);
        breaks_nothing(&history);
        asked(&mut history, 566, name, Outcome::NoObject);
        breaks(&history, rule);
    }
    // Whatever told of it.
    let mut history = good();
    granted(&mut history, 400, 8, 8);
    commit(&mut history, 500, 8, page(8, "eight"), in_doubt());
    asked(&mut history, 600, "eight.html", Outcome::NoObject);
    breaks_nothing(&history);
    looked_up(&mut history, 600, false, found_as(8, "eight"));
    asked(&mut history, 700, "eight.html", Outcome::NoObject);
    breaks(&history, rule);
}

#[test]
fn name_of_a_superseded_page_that_is_not_found_too_soon_is_found() {
    let rule = "what is current, or was a moment ago, is found by its name";
    let mut history = named();
    granted(&mut history, 600, 9, 9);
    commit(&mut history, 700, 9, page(9, "nine"), told("nine"));
    // The grace, by clocks that differ.
    asked(&mut history, 2_595, "eight.html", Outcome::NoObject);
    breaks_nothing(&history);
    asked(&mut history, 2_594, "eight.html", Outcome::NoObject);
    breaks(&history, rule);
}

#[test]
fn name_that_a_purge_may_have_reached_may_be_not_found() {
    let rule = "what is current, or was a moment ago, is found by its name";
    let story = |is_html_ahead, is_superseded, tag: &str| {
        let mut history = good();
        granted(&mut history, 400, 8, 8);
        commit(&mut history, 500, 8, Rendered { is_html_ahead, ..page(8, "eight") }, told("eight"));
        if is_superseded {
            granted(&mut history, 600, 9, 9);
            commit(&mut history, 700, 9, page(9, "nine"), told("nine"));
        }
        purged(&mut history, 800, tag);
        asked(&mut history, 900, "eight.html", Outcome::NoObject);
        history
    };
    for is_superseded in [false, true] {
        breaks_nothing(&story(false, is_superseded, "news"));
        breaks(&story(false, is_superseded, "sport"), rule);
    }
    // One that does not say what it is of is in doubt once it is superseded.
    breaks_nothing(&story(true, true, "sport"));
    breaks(&story(true, false, "sport"), rule);
}

#[test]
fn name_that_two_bodies_have_is_found() {
    let rule = "a name is that of one body";
    let mut history = named();
    granted(&mut history, 600, 9, 9);
    commit(&mut history, 700, 9, page(9, "eight"), told("eight"));
    breaks(&history, rule);

    // What two entries share is the body of two, also when it is the same.
    let other = Rendered { html: "page 8".into(), sidecar: Some("sidecar 8".into()), ..page(1, "eight") };
    let mut history = with_another(named(), "acme");
    commit_other(&mut history, 700, other.clone(), told("eight"));
    breaks(&history, rule);

    let mut history = with_another(named(), "zen");
    commit_other(&mut history, 700, other.clone(), told("eight"));
    breaks_nothing(&history);

    // It had been deleted, as it was superseded.
    for (purged_at, again_at, is_fine) in
        [(None, 2_600, true), (None, 2_590, false), (Some(800), 1_000, true)]
    {
        let mut history = with_another(named(), "acme");
        granted(&mut history, 650, 9, 9);
        commit(&mut history, 700, 9, page(9, "nine"), told("nine"));
        if let Some(at) = purged_at {
            purged(&mut history, at, "sport");
        }
        commit_other(&mut history, again_at, other.clone(), told("eight"));
        if is_fine {
            breaks_nothing(&history);
        } else {
            breaks(&history, rule);
        }
    }
}

#[test]
fn name_that_no_worker_gave_is_found() {
    let rule = "names are told as workers gave them";
    for wrong in [
        names("nine"),
        Names { html: None, ..names("eight") },
        Names { sidecar: None, ..names("eight") },
        Names { sidecar: names("seven").sidecar, ..names("eight") },
    ] {
        let mut history = named();
        looked_up(&mut history, 600, false, Outcome::Fresh(Seen { names: wrong.clone(), ..seen(8) }));
        breaks(&history, rule);
        let mut history = good();
        granted(&mut history, 400, 8, 8);
        commit(
            &mut history,
            500,
            8,
            page(8, "eight"),
            Outcome::CommittedStale { purged: false, names: wrong },
        );
        invalidated(&mut history, 450, false);
        breaks(&history, rule);
    }
    // Who gave none is told of none.
    let mut history = good();
    looked_up(&mut history, 400, false, found_as(7, "seven"));
    breaks(&history, rule);
}

#[test]
fn name_is_kept_with_the_same_body_only() {
    let rule = "names are told as workers gave them";
    let story = |change: &dyn Fn(&mut Rendered)| {
        let mut history = named();
        granted(&mut history, 600, 9, 9);
        let mut same = Rendered { names: names("nine"), ..page(8, "eight") };
        change(&mut same);
        commit(&mut history, 700, 9, same, told("eight"));
        history
    };
    breaks_nothing(&story(&|_| ()));
    breaks(&story(&|page| page.tags.clear()), rule);
    breaks(&story(&|page| page.names = Names::default()), rule);
    for change in [
        |page: &mut Rendered| page.html = "page 9".into(),
        |page: &mut Rendered| page.sidecar = Some("sidecar 9".into()),
    ] {
        let mut history = story(&change);
        let found: Vec<_> = super::super::violations(&history).into_iter().map(|found| found.rule).collect();
        assert!(found.contains(&rule), "{found:?}");
        // Nor is it the same name by another answer.
        history = story(&|_| ());
        let other = Seen { told: "page 8".into(), names: names("nine"), ..seen(9) };
        looked_up(&mut history, 800, false, Outcome::Fresh(other));
        breaks(&history, rule);
    }
}

#[test]
fn row_that_calls_a_body_by_another_name_is_found() {
    let audit = |generation: u64, html: &str| {
        let body = |given: &str, bytes: String| Body {
            object: format!("by-name/{given}"),
            given: Some(given.into()),
            bytes: Some(bytes),
        };
        let row = Row {
            entry: 0,
            generation,
            html: body(html, format!("page {generation}")),
            sidecar: Some(body("eight.hydration.json", format!("sidecar {generation}"))),
        };
        Audit { rows: vec![row], ..audited() }
    };
    let ended_as = |audit| History { operations: named().operations, ..ended(audit) };
    breaks_nothing(&ended_as(audit(8, "eight.html")));
    breaks(&ended_as(audit(8, "nine.html")), "names are told as workers gave them");
}

#[test]
fn refusal_of_names_that_nobody_else_gave_is_found() {
    let rule = "a name is refused only where it was given before";
    let mut history = named();
    granted(&mut history, 600, 9, 9);
    commit(&mut history, 700, 9, page(9, "nine"), Outcome::NameTaken);
    breaks(&history, rule);

    // Another tenant's is another name.
    let mut history = with_another(named(), "zen");
    commit_other(&mut history, 700, page(1, "eight"), Outcome::NameTaken);
    breaks(&history, rule);

    for names in [names("eight"), Names { html: names("nine").html, ..names("eight") }] {
        let mut history = named();
        granted(&mut history, 600, 9, 9);
        commit(&mut history, 700, 9, Rendered { names, ..page(9, "eight") }, Outcome::NameTaken);
        commit(&mut history, 750, 9, page(9, "nine"), told("nine"));
        breaks_nothing(&history);
    }
}

#[test]
fn refusal_of_a_lost_body_is_nobodys_outage_unless_its_name_was_given_before() {
    let rule = "refusals are those of an outage";
    let lost = || Outcome::Failed { in_doubt: false, why: "ObjectMissing".into() };
    for (stem, is_its_own) in [("nine", true), ("eight", false)] {
        let mut history = named();
        granted(&mut history, 600, 9, 9);
        commit(&mut history, 700, 9, page(9, stem), lost());
        if is_its_own {
            breaks(&history, rule);
        } else {
            breaks_nothing(&history);
        }
    }
}

#[test]
fn commit_that_was_refused_for_its_names_and_applied_is_found() {
    let mut history = named();
    granted(&mut history, 600, 9, 9);
    let page = Rendered { names: Names { html: names("eight").html, ..names("nine") }, ..page(9, "nine") };
    commit(&mut history, 700, 9, page, Outcome::NameTaken);
    let called = Names { html: names("eight").html, ..names("nine") };
    looked_up(&mut history, 800, true, Outcome::Fresh(Seen { names: called, ..seen(9) }));
    let found: Vec<_> = super::super::violations(&history).into_iter().map(|found| found.rule).collect();
    assert!(found.contains(&"what surely failed was not applied"), "{found:?}");
    assert!(found.contains(&"a name is that of one body"), "{found:?}");
}

/// Whoever uses a name again is warned.
#[test]
fn page_under_a_name_that_was_used_before_may_be_lost_and_no_other_one() {
    let gone = Outcome::Missing(Absence::BodyGone);
    let story = |stem: &str| {
        let mut history = named();
        granted(&mut history, 650, 9, 9);
        commit(&mut history, 700, 9, page(9, "nine"), told("nine"));
        granted(&mut history, 3_000, 10, 10);
        commit(&mut history, 3_100, 10, page(10, stem), told(stem));
        history
    };
    for absence in [Absence::BodyGone, Absence::Untold] {
        let mut history = story("eight");
        looked_up(&mut history, 3_200, true, Outcome::Missing(absence));
        asked(&mut history, 3_200, "eight.html", Outcome::NoObject);
        breaks_nothing(&history);
    }
    let mut history = story("ten");
    looked_up(&mut history, 3_200, true, gone.clone());
    breaks(&history, "what is missing never was there, or was purged");
    // Nor is who was refused it, and took one of its own.
    let mut history = named();
    granted(&mut history, 600, 9, 9);
    commit(&mut history, 700, 9, page(9, "eight"), Outcome::NameTaken);
    commit(&mut history, 750, 9, page(9, "nine"), told("nine"));
    looked_up(&mut history, 800, true, gone.clone());
    breaks(&history, "what is missing never was there, or was purged");
    // Who had it first is not at risk.
    let mut history = with_another(named(), "acme");
    commit_other(&mut history, 700, page(1, "eight"), Outcome::NameTaken);
    asked(&mut history, 800, "eight.html", Outcome::NoObject);
    breaks(&history, "what is current, or was a moment ago, is found by its name");
    looked_up(&mut history, 800, true, gone);
    let found: Vec<_> = super::super::violations(&history).into_iter().map(|found| found.rule).collect();
    assert!(found.contains(&"what is missing never was there, or was purged"), "{found:?}");
}

#[test]
fn sweep_of_a_named_body_that_is_needed_is_found() {
    for needed in [Need::Named, Need::Leased] {
        let mut audit = audited();
        let name = "by-name/eight.named.html".into();
        audit.objects.push(Object { name, needed, is_left: false });
        breaks(&ended(audit), "what is needed is not swept");
    }
}

/// A page that is called nothing after one that was.
#[test]
fn page_without_names_follows_one_with() {
    let mut history = named();
    granted(&mut history, 600, 9, 9);
    committed(&mut history, 700, 9, 9, acknowledged());
    asked(&mut history, 800, "eight.html", body("page 8"));
    breaks_nothing(&history);
}

/// Its token tells its name only: who gives a name again may be served what had it before, in so far as that was its own.
#[test]
fn sidecar_whose_name_was_given_again_may_be_what_had_it_before() {
    let of_eight = || {
        let mut history = named();
        granted(&mut history, 600, 9, 9);
        commit(&mut history, 700, 9, page(9, "nine"), told("nine"));
        history
    };
    // Of another entry, once the body is deleted.
    for (bytes, is_fine) in [("sidecar 8", true), ("sidecar 1", false), ("sidecar 9", false)] {
        let mut history = with_another(of_eight(), "acme");
        commit_other(&mut history, 4_000, page(1, "eight"), told("eight"));
        let call = Call::Lookup { entry: 1, strict: true, knows: None };
        let of = add(&mut history, 4_100, call, found_as(1, "eight"));
        add(&mut history, 4_200, Call::ForeignSidecar { entry: 0, of }, Outcome::Sidecar(bytes.into()));
        if is_fine {
            breaks_nothing(&history);
        } else {
            breaks(&history, "a sidecar is served for its own entry only");
        }
    }
    // Of a later page of its own.
    for (bytes, is_fine) in [("sidecar 8", true), ("sidecar 10", true), ("sidecar 9", false)] {
        let mut history = named();
        let of = looked_up(&mut history, 550, true, found_as(8, "eight"));
        granted(&mut history, 600, 9, 9);
        commit(&mut history, 700, 9, page(9, "nine"), told("nine"));
        granted(&mut history, 3_900, 10, 10);
        commit(&mut history, 4_000, 10, page(10, "eight"), told("eight"));
        add(
            &mut history,
            4_200,
            Call::Sidecar { entry: 0, generation: 8, of },
            Outcome::Sidecar(bytes.into()),
        );
        if is_fine {
            breaks_nothing(&history);
        } else {
            breaks(&history, "a sidecar is that of its page");
        }
    }
}
