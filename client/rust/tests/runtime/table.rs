//! Every policy in every state of a page, with the headers that say so.

use super::*;
use http::{HeaderMap, HeaderValue};
use leasehold_client::runtime::{OnContention, OnFailure, Rendered};

/// What the page is, and what becomes of the wish to render it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Is {
    Fresh,
    Stale,
    StaleBeyondItsWindow,
    Missing,
    Held,
    HeldAndMissing,
    RenderedByAnother,
    BackingOff,
    BackingOffAndMissing,
    BackingOffBeyondStaleIfError,
    RenderFails,
    RenderFailsAndMissing,
    CommitRefused,
    CommitUnanswered,
    CoordinatorDown,
    CoordinatorDownAndUnknown,
    CoordinatorDownAndRenderFails,
}

const BLOCKING: &str = "public, max-age=0, s-maxage=0, stale-if-error=60, must-revalidate";
const FRESH_WINDOW: &str = "s-maxage=60, stale-while-revalidate=600";
const STALE_WINDOW: &str = "s-maxage=0, stale-while-revalidate=600";

fn policies() -> [(&'static str, Policy); 5] {
    let blocking = Policy::blocking(MINUTE);
    let swr = Policy::stale_while_revalidate(MINUTE, 10 * MINUTE);
    [
        ("blocking", blocking.clone()),
        ("swr", swr.clone()),
        (
            "blocking, stale on contention",
            Policy { on_contention: OnContention::ServeStale, ..blocking.clone() },
        ),
        ("blocking, error on failure", Policy { on_failure: OnFailure::Error, ..blocking }),
        ("swr, error on failure", Policy { on_failure: OnFailure::Error, ..swr }),
    ]
}

/// The body, the state, `Cache-Control` and `Cache-Status`; or the status of an error.
type Row = Result<(&'static str, &'static str, &'static str, &'static str), u16>;

fn expected(policy: &str, is: Is) -> Row {
    let swr = policy.starts_with("swr");
    let (fresh, stale) = if swr { (FRESH_WINDOW, STALE_WINDOW) } else { (BLOCKING, BLOCKING) };
    let or_error = |row: Row, status| if policy.ends_with("error on failure") { Err(status) } else { row };
    let failed = Ok(("old", "stale", stale, "leasehold; hit; ttl=-20; detail=render-failed"));
    match is {
        Is::Fresh => Ok(("kept", "hit", fresh, "leasehold; hit; ttl=40")),
        // The rest of these happens in the background.
        Is::Stale | Is::Held | Is::RenderedByAnother | Is::BackingOff | Is::RenderFails if swr => {
            Ok(("old", "stale", stale, "leasehold; hit; ttl=-20; detail=expired"))
        }
        Is::Stale => Ok(("rendered", "miss", fresh, "leasehold; fwd=stale; stored")),
        Is::StaleBeyondItsWindow => Ok(("rendered", "miss", fresh, "leasehold; fwd=stale; stored")),
        Is::Missing => Ok(("rendered", "miss", fresh, "leasehold; fwd=miss; stored")),
        Is::Held => Ok(("old", "stale", stale, "leasehold; hit; ttl=-20; detail=expired")),
        Is::HeldAndMissing => {
            Ok(("rendered", "bypass", "no-store", "leasehold; fwd=bypass; detail=contention"))
        }
        // It waited for nobody.
        Is::RenderedByAnother if policy.ends_with("stale on contention") => {
            Ok(("another's", "hit", fresh, "leasehold; hit; ttl=60"))
        }
        Is::RenderedByAnother => Ok(("another's", "wait-hit", fresh, "leasehold; fwd=stale; collapsed")),
        Is::BackingOff => or_error(failed, 503),
        Is::BackingOffAndMissing | Is::BackingOffBeyondStaleIfError => Err(503),
        Is::RenderFails => or_error(failed, 500),
        Is::RenderFailsAndMissing | Is::CoordinatorDownAndRenderFails => Err(500),
        Is::CommitRefused | Is::CommitUnanswered => {
            Ok(("rendered", "bypass", "no-store", "leasehold; fwd=bypass; detail=not-committed"))
        }
        Is::CoordinatorDown => {
            Ok(("kept", "stale-metadata-error", stale, "leasehold; hit; ttl=-2; detail=no-answer"))
        }
        Is::CoordinatorDownAndUnknown => {
            Ok(("rendered", "bypass", "no-store", "leasehold; fwd=bypass; detail=no-answer"))
        }
    }
}

async fn actual(policy: &Policy, is: Is) -> Row {
    let stage = Stage::new();
    let old = |window| expired("old", window, Some(40));
    let stale_page = pb::lookup_response::Outcome::Stale(old(Some(580)));
    match is {
        Is::Fresh => stage.script_lookup([fresh("kept")]),
        Is::Stale | Is::RenderFails => {
            stage.script_lookup([stale_page]);
            stage.script_acquire(granted(Some(old(None))));
        }
        Is::StaleBeyondItsWindow => {
            stage.script_lookup([pb::lookup_response::Outcome::Stale(old(Some(0)))]);
            stage.script_acquire(granted(Some(old(None))));
        }
        Is::Missing | Is::RenderFailsAndMissing => {
            stage.script_lookup([missing()]);
            stage.script_acquire(granted(None));
        }
        Is::Held => {
            stage.script_lookup([stale_page]);
            stage.script_acquire(held(Some(old(None))));
        }
        Is::HeldAndMissing => {
            stage.script_lookup([missing()]);
            stage.script_acquire(held(None));
        }
        Is::RenderedByAnother => {
            stage.script_lookup([stale_page]);
            stage.script_acquire(ready("another's"));
        }
        Is::BackingOff => {
            stage.script_lookup([stale_page]);
            stage.script_acquire(backing_off(Some(old(None))));
        }
        Is::BackingOffAndMissing => {
            stage.script_lookup([missing()]);
            stage.script_acquire(backing_off(None));
        }
        Is::BackingOffBeyondStaleIfError => {
            stage.script_lookup([pb::lookup_response::Outcome::Stale(old(Some(0)))]);
            stage.script_acquire(backing_off(Some(expired("old", None, Some(0)))));
        }
        Is::CommitRefused | Is::CommitUnanswered => {
            stage.script_lookup([missing()]);
            let refused = Step::Fail(mock::invalid("metadata.tags"));
            stage.mock.script("commit", [if is == Is::CommitRefused { refused } else { Step::Hang }]);
        }
        Is::CoordinatorDown => {
            stage.script_lookup([fresh("kept")]);
            stage.serve(policy).await.unwrap();
            // Two more are what the runtime waits for an answer.
            tokio::time::advance(40 * SECOND).await;
            stage.mock.script("lookup", [Step::Hang]);
        }
        Is::CoordinatorDownAndUnknown | Is::CoordinatorDownAndRenderFails => {
            stage.mock.script("lookup", [Step::Hang]);
        }
    }
    let fails = matches!(is, Is::RenderFails | Is::RenderFailsAndMissing | Is::CoordinatorDownAndRenderFails);
    let render = move |_| async move { if fails { Err("no database") } else { Ok("rendered") } };
    match stage.runtime.serve(&entry(), policy, render).await {
        Ok(served) => {
            let body =
                ["kept", "old", "rendered", "another's"].into_iter().find(|body| *body == text(&served));
            let state = served.state.as_str();
            let response = served.into_response(stage.runtime.state_header(), &HeaderMap::new());
            let header = |name: &str| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
            assert_eq!(header("x-isr-state"), state);
            // As they stand in the table, or as they are.
            let known = |value: String| -> &'static str { Box::leak(value.into_boxed_str()) };
            Ok((body.unwrap(), state, known(header("cache-control")), known(header("cache-status"))))
        }
        Err(error) => {
            let status = error.status();
            let response = error.into_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert!(
                !String::from_utf8_lossy(response.body()).contains("database"),
                "causes are not for visitors"
            );
            assert_eq!(
                response.headers().get("retry-after").map(HeaderValue::as_bytes),
                match status {
                    503 => Some(b"3".as_slice()),
                    _ => None,
                }
            );
            Err(status)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_policy_in_every_state() {
    for (name, policy) in policies() {
        for is in [
            Is::Fresh,
            Is::Stale,
            Is::StaleBeyondItsWindow,
            Is::Missing,
            Is::Held,
            Is::HeldAndMissing,
            Is::RenderedByAnother,
            Is::BackingOff,
            Is::BackingOffAndMissing,
            Is::BackingOffBeyondStaleIfError,
            Is::RenderFails,
            Is::RenderFailsAndMissing,
            Is::CommitRefused,
            Is::CommitUnanswered,
            Is::CoordinatorDown,
            Is::CoordinatorDownAndUnknown,
            Is::CoordinatorDownAndRenderFails,
        ] {
            assert_eq!(actual(&policy, is).await, expected(name, is), "{name}: {is:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waits_for_another_as_long_as_the_policy_says() {
    let serve_stale = OnContention::ServeStale;
    for (on_contention, outcome, wait) in [
        (OnContention::Wait(7 * SECOND), stale("old"), 7),
        (serve_stale, stale("old"), 0),
        // Where there is nothing to serve, it waits all the same.
        (serve_stale, missing(), 30),
    ] {
        let stage = Stage::new();
        stage.script_lookup([outcome]);
        let policy = Policy { on_contention, ..Policy::blocking(MINUTE) };
        stage.serve(&policy).await.unwrap();
        let mock::Message::Acquire(request) = &stage.mock.arrived("acquire")[0].message else {
            unreachable!()
        };
        assert_eq!(request.wait.map_or(0, |wait| wait.seconds), wait, "{on_contention:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_the_visitor_has_is_not_sent_again() {
    let stage = Stage::new();
    let policy = Policy::default();
    let mut request = HeaderMap::new();
    request.insert("if-none-match", HeaderValue::from_static("\"x\", W/\"v5\""));
    stage.script_lookup([fresh("kept"), fresh("kept")]);

    let response = stage.serve(&policy).await.unwrap().into_response(stage.runtime.state_header(), &request);
    assert_eq!(response.status(), 304);
    assert!(response.body().is_empty());
    assert_eq!(response.headers()["etag"], "\"v5\"");
    assert_eq!(response.headers()["x-isr-state"], "hit");
    assert_eq!(response.headers()["age"], "20");
    assert!(!response.headers().contains_key("content-type"));

    let unasked = stage.serve(&policy).await.unwrap();
    let response = unasked.into_response(&http::HeaderName::from_static("x-cache-state"), &HeaderMap::new());
    assert_eq!((response.status().as_u16(), response.body().as_ref()), (200, b"kept".as_slice()));
    assert_eq!(response.headers()["x-cache-state"], "hit");
}

#[tokio::test(start_paused = true)]
async fn what_the_render_leaves_open_is_the_policys() {
    let stage = Stage::new();
    let policy = Policy::stale_while_revalidate(MINUTE, 10 * MINUTE);
    for metadata in [
        leasehold_client::PageMetadata::default(),
        leasehold_client::PageMetadata {
            revalidate: Some(SECOND),
            stale_if_error: Some(2 * SECOND),
            stale_while_revalidate: Some(3 * SECOND),
            ..Default::default()
        },
    ] {
        stage.script_lookup([missing()]);
        let render = |_| async { Ok::<_, std::io::Error>(Rendered::new("rendered").metadata(metadata)) };
        stage.runtime.serve(&entry(), &policy, render).await.unwrap();
    }
    let times = stage.mock.arrived("commit").into_iter().map(|arrived| {
        let mock::Message::Commit(commit) = arrived.message else { unreachable!() };
        let metadata = commit.metadata.unwrap();
        let seconds = |time: Option<prost_types::Duration>| time.map(|time| time.seconds);
        (
            seconds(metadata.revalidate),
            seconds(metadata.stale_if_error),
            seconds(metadata.stale_while_revalidate),
        )
    });
    assert_eq!(times.collect::<Vec<_>>(), [(Some(60), Some(60), Some(600)), (Some(1), Some(2), Some(3))]);
}

#[tokio::test(start_paused = true)]
async fn what_was_rendered_for_this_request_has_no_age_and_what_was_not_has_one() {
    let age = async |stage: &Stage| {
        let render = |_| async {
            tokio::time::sleep(5 * SECOND).await;
            Ok::<_, std::io::Error>("rendered")
        };
        let served = stage.runtime.serve(&entry(), &Policy::default(), render).await.unwrap();
        let state = served.state.as_str();
        let response = served.into_response(stage.runtime.state_header(), &HeaderMap::new());
        let age = response.headers().get("age").map(|age| age.to_str().unwrap().to_owned());
        (state, age)
    };
    let some = |age: &str| Some(age.to_owned());
    let stage = Stage::new();
    let new = pb::FreshPage { page: Some(page("kept", 0)), fresh_for: seconds(60) };
    stage.script_lookup([missing(), pb::lookup_response::Outcome::Fresh(new), missing()]);
    stage.script_lookup([missing(), missing()]);
    assert_eq!(age(&stage).await, ("miss", None));
    assert_eq!(age(&stage).await, ("hit", some("0")));
    stage.script_acquire(ready("another's"));
    assert_eq!(age(&stage).await, ("wait-hit", some("0")));
    let late = pb::CommitAppliedStale { etag: "\"e\"".into(), ..Default::default() };
    let late = pb::commit_pointer_response::Outcome::CommittedStale(late);
    stage.mock.script("commit", [Step::Reply(Reply::Commit(late))]);
    assert_eq!(age(&stage).await, ("stale", None));

    // The last known page counts from when its render began, as the coordinator counts.
    assert_eq!(age(&stage).await, ("miss", None));
    tokio::time::advance(3 * SECOND).await;
    stage.mock.script("lookup", [Step::Hang]);
    assert_eq!(
        age(&stage).await,
        ("stale-metadata-error", some("10")),
        "5 s of rendering, 3 s, and 2 s of patience"
    );
}

#[tokio::test(start_paused = true)]
async fn what_caches_before_this_one_say_of_a_page_is_passed_on() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let metadata = leasehold_client::PageMetadata {
        headers: vec![("cache-status".into(), "origin; hit; ttl=9".into())],
        ..Default::default()
    };
    let render = |_| async { Ok::<_, std::io::Error>(Rendered::new("rendered").metadata(metadata)) };
    let served = stage.runtime.serve(&entry(), &Policy::default(), render).await.unwrap();
    let response = served.into_response(stage.runtime.state_header(), &HeaderMap::new());
    // The one next to the origin is the first (RFC 9211, section 2).
    let told: Vec<_> = response.headers().get_all("cache-status").iter().collect();
    assert_eq!(told, ["origin; hit; ttl=9", "leasehold; fwd=miss; stored"]);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_another_has_just_committed_is_a_hit_for_who_waits_for_nobody() {
    let stage = Stage::new();
    stage.script_lookup([stale("old")]);
    stage.script_acquire(ready("another's"));
    let policy = Policy { on_contention: OnContention::ServeStale, ..Policy::blocking(MINUTE) };
    let served = stage.serve(&policy).await.unwrap();
    assert_eq!((text(&served), served.state.as_str()), ("another's", "hit"));
    assert_eq!(served.cache_status(), "leasehold; hit; ttl=60");
}

#[tokio::test(start_paused = true)]
async fn who_serves_stale_pages_waits_where_the_previous_one_is_too_old() {
    let stage = Stage::new();
    stage.script_lookup([pb::lookup_response::Outcome::Stale(expired("old", None, Some(0)))]);
    stage.script_acquire(ready("another's"));
    let spent = Policy {
        on_contention: OnContention::ServeStale,
        stale_if_error: Some(Duration::ZERO),
        ..Policy::stale_while_revalidate(MINUTE, Duration::ZERO)
    };
    let served = stage.serve(&spent).await.unwrap();
    assert_eq!((text(&served), served.state.as_str()), ("another's", "wait-hit"));
}

#[tokio::test(start_paused = true)]
async fn bodies_do_not_show() {
    let stage = Stage::new();
    stage.script_lookup([fresh("kept")]);
    let served = stage.serve(&Policy::default()).await.unwrap();
    let sidecar = leasehold_client::runtime::Sidecar("{secret}".into());
    let rendered = Rendered::new("<h1>secret").sidecar("{secret}");
    let shown = format!("{served:?} {sidecar:?} {rendered:?}");
    assert!(!shown.contains("kept") && !shown.contains("secret"), "{shown}");
    for part in ["4 bytes", "8 bytes", "10 bytes"] {
        assert!(shown.contains(part), "{shown}");
    }
}
