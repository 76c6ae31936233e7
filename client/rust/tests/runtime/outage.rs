//! Without the coordinator.

use super::*;
use leasehold_client::runtime::State;

/// How long a visitor waits for a coordinator that was lost.
const TRIAL: Duration = Duration::from_millis(400);

async fn ask(stage: &Stage) -> (State, Duration) {
    let begun = mock::now();
    let served = stage.serve(&Policy::default()).await.unwrap();
    (served.state, mock::now() - begun)
}

/// A runtime that has lost its coordinator, and is about to try it again.
async fn lost() -> Stage {
    let stage = Stage::new();
    stage.mock.script("lookup", (0..3).map(|_| Step::Hang));
    for _ in 0..3 {
        ask(&stage).await;
    }
    assert_eq!(stage.told(|event| matches!(event, Event::CoordinatorLost)), 1);
    tokio::time::advance(SECOND).await;
    stage
}

#[tokio::test(start_paused = true)]
async fn an_outage_does_not_cost_every_request_a_timeout() {
    let stage = Stage::new();
    stage.script_lookup([fresh("kept")]);
    assert_eq!(ask(&stage).await.0, State::Hit);
    stage.mock.script("lookup", (0..5).map(|_| Step::Hang));
    for _ in 0..3 {
        let (state, took) = ask(&stage).await;
        assert_eq!((state, took.as_secs()), (State::StaleMetadataError, 2));
    }
    for _ in 0..100 {
        assert_eq!(ask(&stage).await, (State::StaleMetadataError, Duration::ZERO));
    }
    assert_eq!(stage.mock.count("lookup"), 4);
    assert_eq!(stage.told(|event| matches!(event, Event::CoordinatorLost)), 1);
}

#[tokio::test(start_paused = true)]
async fn all_is_well_within_a_second_of_the_coordinators_return() {
    let stage = Stage::without_retries();
    stage.mock.script("lookup", (0..3).map(|_| Step::Fail(mock::unavailable("STORE_UNAVAILABLE"))));
    for _ in 0..4 {
        assert_eq!(ask(&stage).await.0, State::Bypass);
    }
    stage.script_lookup([fresh("kept"), fresh("kept")]);
    tokio::time::advance(SECOND).await;
    assert_eq!(ask(&stage).await.0, State::Hit);
    assert_eq!(ask(&stage).await.0, State::Hit);
    assert_eq!(stage.told(|event| matches!(event, Event::CoordinatorFound)), 1);
}

#[tokio::test(start_paused = true)]
async fn while_one_request_tries_the_others_do_not_wait() {
    let stage = Stage::new();
    stage.mock.script("lookup", (0..4).map(|_| Step::Hang));
    for _ in 0..3 {
        ask(&stage).await;
    }
    tokio::time::advance(SECOND).await;
    let (trial, other) = tokio::join!(ask(&stage), ask(&stage));
    assert_eq!((trial.1, other.1), (TRIAL, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_stays_silent_costs_one_request_in_a_while_a_little() {
    let stage = lost().await;
    // One is asked while the one before may still be answered: then they share a stream.
    for call in ["lookup", "streamed"] {
        stage.mock.script(call, (0..20).map(|_| Step::Hang));
    }
    let (begun, mut tried) = (mock::now(), 0);
    while mock::now() - begun < 9 * SECOND {
        let (state, took) = ask(&stage).await;
        assert_eq!(state, State::Bypass);
        assert!(took.is_zero() || took == TRIAL, "{took:?}");
        tried += usize::from(!took.is_zero());
        tokio::time::advance(Duration::from_millis(50)).await;
    }
    assert!((8..=11).contains(&tried), "{tried} of them in 9 s");
    assert_eq!(stage.told(|event| matches!(event, Event::CoordinatorLost)), 1, "it was lost once");
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_answered_late_finds_the_coordinator_all_the_same() {
    let stage = lost().await;
    let reply = pb::LookupResponse { outcome: Some(fresh("kept")), ..Default::default() };
    stage.mock.script("lookup", [Step::ReplyAfter(SECOND, Reply::Lookup(reply))]);
    assert_eq!(ask(&stage).await, (State::Bypass, TRIAL));
    tokio::time::sleep(SECOND).await;
    assert_eq!(stage.told(|event| matches!(event, Event::CoordinatorFound)), 1);
    stage.script_lookup([fresh("kept")]);
    assert_eq!(ask(&stage).await.0, State::Hit);
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_is_a_trial_costs_no_more_than_another() {
    let stage = lost().await;
    stage.mock.script("serve_sidecar", (0..2).map(|_| Step::Hang));
    for expected in [TRIAL, Duration::ZERO] {
        let begun = mock::now();
        assert_eq!(layer::ask_for_sidecar(&stage).await, 503);
        assert_eq!(mock::now() - begun, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_go_on_with_what_they_have_when_the_coordinator_is_lost() {
    let stage = Stage::new();
    stage.script_lookup([stale("old"), missing()]);
    stage.mock.script("acquire", [Step::Hang, Step::Hang]);
    let (known, unknown) = (entry(), EntryRef::key("other"));
    let waits = |entry: EntryRef| {
        let runtime = stage.runtime.clone();
        tokio::spawn(async move {
            let begun = mock::now();
            let render = |_| async { Ok::<_, std::io::Error>("rendered") };
            let served = runtime.serve(&entry, &Policy::default(), render).await.unwrap();
            (served.state, mock::now() - begun)
        })
    };
    let known = waits(known);
    stage.mock.until("acquire", 1).await;
    let unknown = waits(unknown);
    stage.mock.until("acquire", 2).await;
    stage.mock.script("lookup", (0..3).map(|_| Step::Hang));
    for _ in 0..3 {
        ask(&stage).await;
    }
    assert_eq!(known.await.unwrap(), (State::StaleMetadataError, 6 * SECOND));
    assert_eq!(unknown.await.unwrap(), (State::Bypass, 6 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn those_who_asked_later_do_not_wait_for_an_answer_of_their_own_when_the_coordinator_is_lost() {
    let stage = Stage::before(Coordinator::builder().streamed_lookups(0), |builder| builder);
    stage.mock.script("lookup", (0..4).map(|_| Step::Hang));
    let late = async {
        tokio::time::sleep(SECOND).await;
        ask(&stage).await
    };
    let (_, _, _, late) = tokio::join!(ask(&stage), ask(&stage), ask(&stage), late);
    assert_eq!(late, (State::Bypass, SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_large_page_may_take_longer_to_arrive_than_an_answer() {
    use pb::serve_page_response::Part;
    let stage = Stage::new();
    let large = pb::Page { body: None, body_too_large: true, ..page("", 20) };
    let fresh = pb::FreshPage { page: Some(large), fresh_for: None };
    stage.script_lookup([pb::lookup_response::Outcome::Fresh(fresh.clone())]);
    let head = pb::ServePageHead { page: Some(pb::serve_page_head::Page::Fresh(fresh)) };
    let parts =
        [Part::Head(head), Part::Chunk("k".into()), Part::Chunk("e".into()), Part::Chunk("pt".into())];
    stage.mock.script("serve_page", [Step::Slowly(SECOND, parts.map(Reply::Page).into())]);
    let begun = mock::now();
    let served = stage.serve(&Policy::default()).await.unwrap();
    assert_eq!((text(&served), served.state), ("kept", State::Hit));
    assert_eq!(mock::now() - begun, 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_large_page_that_breaks_off_is_rendered_instead() {
    use pb::serve_page_response::Part;
    let stage = Stage::new();
    let large = pb::Page { body: None, body_too_large: true, ..page("", 20) };
    let fresh = pb::FreshPage { page: Some(large), fresh_for: None };
    stage.script_lookup([pb::lookup_response::Outcome::Fresh(fresh.clone())]);
    let head = pb::ServePageHead { page: Some(pb::serve_page_head::Page::Fresh(fresh)) };
    let parts = [Part::Head(head), Part::Chunk("ke".into())].map(Reply::Page);
    let broken = mock::unavailable("STORE_UNAVAILABLE");
    stage.mock.script("serve_page", [Step::Messages(parts.into(), Some(broken))]);
    assert_eq!(ask(&stage).await.0, State::Bypass);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_lost_while_one_waits_for_another_costs_the_wait_and_no_error() {
    let stage = Stage::new();
    stage.script_lookup([stale("old")]);
    stage.mock.script("acquire", [Step::Hang]);
    let (state, took) = ask(&stage).await;
    assert_eq!((state, took.as_secs()), (State::StaleMetadataError, 32));
}

#[tokio::test(start_paused = true)]
async fn last_known_pages_are_kept_for_as_long_as_the_builder_says() {
    for (bytes, max_age, expected) in [
        (1 << 20, 100 * SECOND, State::StaleMetadataError),
        (1 << 20, 30 * SECOND, State::Bypass),
        (0, 100 * SECOND, State::Bypass),
    ] {
        let stage = Stage::with(|builder| builder.last_known_pages(bytes, max_age));
        stage.script_lookup([fresh("kept")]);
        ask(&stage).await;
        tokio::time::advance(60 * SECOND).await;
        stage.mock.script("lookup", [Step::Hang]);
        assert_eq!(ask(&stage).await.0, expected, "{bytes} bytes, {max_age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_this_worker_rendered_is_known_too() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    assert_eq!(ask(&stage).await.0, State::Miss);
    stage.mock.script("lookup", [Step::Hang]);
    let served = stage.serve(&Policy::default()).await.unwrap();
    assert_eq!((text(&served), served.state), ("rendered", State::StaleMetadataError));
    assert_eq!((served.generation, served.etag.as_deref()), (Some(7), Some("\"e\"")));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_known_is_not_sent_again_by_the_coordinator_either() {
    let stage = Stage::new();
    let unchanged = pb::Page { body: None, body_unchanged: true, ..page("", 30) };
    let unchanged = pb::FreshPage { page: Some(unchanged), fresh_for: None };
    stage.script_lookup([fresh("kept"), pb::lookup_response::Outcome::Fresh(unchanged)]);
    ask(&stage).await;
    assert_eq!(text(&stage.serve(&Policy::default()).await.unwrap()), "kept");
    let known = stage.mock.arrived("lookup").into_iter().map(|arrived| match arrived.message {
        mock::Message::Lookup(lookup) => lookup.known_generation,
        _ => unreachable!(),
    });
    assert_eq!(known.collect::<Vec<_>>(), [None, Some(5)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_purged_is_known_no_more() {
    let purged = || {
        let reason = pb::MissingReason::Purged.into();
        pb::lookup_response::Outcome::Missing(pb::MissingPage { reason })
    };
    let stage = Stage::new();
    stage.script_lookup([fresh("kept"), purged()]);
    ask(&stage).await;
    stage.script_acquire(held(None));
    ask(&stage).await;
    stage.mock.script("lookup", [Step::Hang]);
    assert_eq!(ask(&stage).await.0, State::Bypass);
}

#[tokio::test(start_paused = true)]
async fn what_the_runtime_has_invalidated_is_known_no_more() {
    use leasehold_client::{Depth, Scope};
    let stage = Stage::new();
    stage.script_lookup([fresh("kept"), fresh("kept")]);
    ask(&stage).await;
    stage.runtime.invalidate(&[Scope::tag("news")], Depth::Soft).await.unwrap();
    ask(&stage).await;
    let mock::Message::Lookup(second) = &stage.mock.arrived("lookup")[1].message else { unreachable!() };
    assert_eq!((second.consistency_token.as_str(), second.known_generation), ("at-42", None));
}

#[tokio::test(start_paused = true)]
async fn last_known_pages_of_different_visitors_are_apart() {
    use leasehold_client::{CookieVariance, PageRequest};
    let by =
        |cookie: &str, key: &str| PageRequest::new("/p").cookie("session", cookie).header("x-api-key", [key]);
    let lang = || CookieVariance::Allowlist(vec![" lang".into()]);
    let same = [
        (by("1", "a").query("a", ["1"]).query("b", ["2"]), by("1", "a").query("b", ["2"]).query("a", ["1"])),
        (by("1", "a").ignore_credentials(), by("1", "b").ignore_credentials()),
        (
            by("1", "a").cookie_variance(CookieVariance::None),
            by("2", "a").cookie_variance(CookieVariance::None),
        ),
        (by("1", "a").cookie_variance(lang()), by("2", "a").cookie_variance(lang())),
    ];
    let different = [
        (by("1", "a"), by("2", "a")),
        (by("1", "a"), by("1", "b")),
        (by("1", "a").query("a", ["1", "2"]), by("1", "a").query("a", ["2", "1"])),
        (
            by("1", "a").cookie("lang", "de").cookie_variance(lang()),
            by("1", "a").cookie("lang", "en").cookie_variance(lang()),
        ),
    ];
    let cases = same.into_iter().map(|pair| (pair, State::StaleMetadataError));
    for ((one, other), expected) in cases.chain(different.into_iter().map(|pair| (pair, State::Bypass))) {
        let stage = Stage::new();
        stage.script_lookup([fresh("kept")]);
        stage.mock.script("lookup", [Step::Hang]);
        let render = |_| async { Ok::<_, std::io::Error>("rendered") };
        let shown = format!("{:?}", EntryRef::request(other.clone()).to_owned());
        stage.runtime.serve(&EntryRef::request(one), &Policy::default(), render).await.unwrap();
        let served =
            stage.runtime.serve(&EntryRef::request(other), &Policy::default(), render).await.unwrap();
        assert_eq!(served.state, expected, "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_not_answered_costs_no_more_than_any_answer() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    stage.mock.script("commit", [Step::Hang]);
    let (state, took) = ask(&stage).await;
    assert_eq!((state, took.as_secs()), (State::Bypass, 2));
}

/// No body fits a commit, and each is so long on its way ahead of it.
fn uploading(pause: Duration) -> Stage {
    let builder = Coordinator::builder().streamed_lookups(0).inline_limit(0);
    let stage = Stage::before(builder, |builder| builder);
    let uploaded = pb::UploadedBody { object: "o".into(), digest: vec![1; 32].into(), size_bytes: 8 };
    let uploaded = || pb::upload_body_response::Outcome::Uploaded(uploaded.clone());
    stage.mock.script("upload", (0..3).map(|_| Step::ReplyAfter(pause, Reply::Upload(uploaded()))));
    stage
}

#[tokio::test(start_paused = true)]
async fn large_pages_on_their_way_are_no_outage() {
    let stage = uploading(3 * SECOND);
    stage.script_lookup((0..3).map(|_| missing()));
    let render = |_| async { Ok::<_, std::io::Error>("rendered") };
    let (entries, policy) = (["a", "b", "c"].map(EntryRef::key), Policy::default());
    let all = entries.iter().map(|entry| stage.runtime.serve(entry, &policy, render));
    for served in futures::future::join_all(all).await {
        assert_eq!(served.unwrap().state, State::Bypass);
    }
    stage.runtime.finish_background().await;
    assert_eq!(stage.mock.count("commit"), 3);
    assert_eq!(stage.told(|event| matches!(event, Event::CoordinatorLost)), 0);
    assert_eq!(stage.told(|event| matches!(event, Event::NotCommitted { .. })), 0);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_committed_after_its_visitor_has_gone_is_known() {
    let stage = uploading(3 * SECOND);
    stage.script_lookup([missing()]);
    assert_eq!(ask(&stage).await, (State::Bypass, 2 * SECOND));
    stage.runtime.finish_background().await;
    stage.mock.script("lookup", [Step::Hang]);
    assert_eq!(ask(&stage).await.0, State::StaleMetadataError);
}

#[tokio::test(start_paused = true)]
async fn commits_that_nobody_answers_are_an_outage_when_that_is_sure() {
    let stage = Stage::before(Coordinator::builder().streamed_lookups(0), |builder| builder);
    stage.script_lookup((0..3).map(|_| missing()));
    for call in ["commit", "renew"] {
        stage.mock.script(call, (0..100).map(|_| Step::Hang));
    }
    let lost = || stage.told(|event| matches!(event, Event::CoordinatorLost));
    let render = |_| async { Ok::<_, std::io::Error>("rendered") };
    let (entries, policy) = (["a", "b", "c"].map(EntryRef::key), Policy::default());
    let all = entries.iter().map(|entry| stage.runtime.serve(entry, &policy, render));
    for served in futures::future::join_all(all).await {
        assert_eq!(served.unwrap().state, State::Bypass);
    }
    assert_eq!(lost(), 0);
    stage.runtime.finish_background().await;
    assert_eq!(lost(), 1);
    assert_eq!(stage.told(|event| matches!(event, Event::NotCommitted { .. })), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_given_back_costs_nobody_any_time() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    stage.mock.script("release", [Step::Hang]);
    let begun = mock::now();
    let failing = |_| async { Err::<&str, _>("no database") };
    stage.runtime.serve(&entry(), &Policy::default(), failing).await.unwrap_err();
    assert_eq!((mock::now() - begun).as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_coordinator_cannot_tell_of_one_page_is_no_outage() {
    let stage = Stage::new();
    let corrupt = || Step::Fail(mock::refusal(tonic::Code::DataLoss, "STORED_DATA_CORRUPT"));
    stage.mock.script("lookup", (0..5).map(|_| corrupt()));
    for _ in 0..5 {
        assert_eq!(ask(&stage).await.0, State::Bypass);
    }
    stage.script_lookup([fresh("kept")]);
    assert_eq!(ask(&stage).await.0, State::Hit);
    assert_eq!(stage.told(|event| matches!(event, Event::CoordinatorLost)), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_for_a_tenant_that_nobody_declared_is_refused_without_the_coordinator_too() {
    use leasehold_client::PageRequest;
    let stage = Stage::new();
    let request = || PageRequest::new("/p").header("X-Tenant-Id", ["acme"]);
    let render = |_| async { Ok::<_, std::io::Error>("rendered") };
    let refused = stage.runtime.serve(&EntryRef::request(request()), &Policy::default(), render).await;
    let refused = refused.unwrap_err().into_response();
    assert_eq!(
        (refused.status(), &refused.body()[..]),
        (http::StatusCode::BAD_REQUEST, &b"This site serves no tenants.\n"[..])
    );
    assert_eq!(stage.mock.count("lookup"), 0);
    stage.mock.script("lookup", [Step::Hang]);
    let declared = EntryRef::request(request()).tenant("acme");
    assert_eq!(
        stage.runtime.serve(&declared, &Policy::default(), render).await.unwrap().state,
        State::Bypass
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_before_an_invalidation_is_not_known_after_it() {
    use leasehold_client::{Depth, Scope};
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let (runtime, asked) = (stage.runtime.clone(), entry());
    let serving = tokio::spawn(async move {
        let render = |_| async {
            tokio::time::sleep(5 * SECOND).await;
            Ok::<_, std::io::Error>("rendered")
        };
        runtime.serve(&asked, &Policy::default(), render).await
    });
    stage.mock.until("acquire", 1).await;
    tokio::time::sleep(SECOND).await;
    stage.runtime.invalidate(&[Scope::key("k")], Depth::Hard).await.unwrap();
    serving.await.unwrap().unwrap();
    stage.mock.script("lookup", [Step::Hang]);
    assert_eq!(ask(&stage).await.0, State::Bypass);
}
