//! Pages that are for one request only: that they are is remembered for a while.

use super::*;
use leasehold_client::{
    Depth, Scope,
    runtime::{Rendered, State},
};

/// A request whose render takes a second, and comes out as it is told.
async fn ask(stage: &Stage, entry: &EntryRef, is_uncached: bool) -> (State, Duration) {
    let begun = mock::now();
    let render = move |_| async move {
        tokio::time::sleep(SECOND).await;
        let rendered = Rendered::new("rendered");
        Ok::<_, std::io::Error>(if is_uncached { rendered.uncached() } else { rendered })
    };
    let served = stage.runtime.serve(entry, &Policy::default(), render).await.unwrap();
    (served.state, mock::now() - begun)
}

/// Nothing is kept of any page.
fn stage(configure: impl FnOnce(Builder) -> Builder) -> Stage {
    let stage = Stage::before(Coordinator::builder().streamed_lookups(0), configure);
    stage.script_lookup((0..1000).map(|_| missing()));
    stage
}

#[tokio::test(start_paused = true)]
async fn after_one_they_are_rendered_at_once_and_without_the_lease() {
    let stage = stage(|builder| builder);
    assert_eq!(ask(&stage, &entry(), true).await, (State::Bypass, SECOND));
    let asked = entry();
    let all = futures::future::join_all((0..50).map(|_| ask(&stage, &asked, true))).await;
    assert!(all.iter().all(|one| *one == (State::Bypass, SECOND)), "{all:?}");
    assert_eq!((stage.mock.count("acquire"), stage.mock.count("commit")), (1, 0));

    let served = stage.serve(&Policy::default()).await.unwrap();
    assert_eq!(served.cache_status(), "leasehold; fwd=bypass; detail=uncached");
    assert_eq!(served.cache_control(), "no-store");
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_the_page_wait_no_longer_when_there_is_none_to_come() {
    let stage = stage(|builder| builder);
    stage.script_acquire(granted(None));
    stage.mock.script("acquire", (0..3).map(|_| Step::Hang));
    let asked = entry();
    let all = futures::future::join_all((0..4).map(|_| ask(&stage, &asked, true))).await;
    assert_eq!(all.iter().map(|(_, took)| took.as_secs()).collect::<Vec<_>>(), [1, 2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_for_everybody_again_is_kept_by_the_next_request() {
    let stage = stage(|builder| builder);
    ask(&stage, &entry(), true).await;
    assert_eq!(ask(&stage, &entry(), false).await.0, State::Bypass);
    assert_eq!((stage.mock.count("acquire"), stage.mock.count("commit")), (1, 0));
    assert_eq!(ask(&stage, &entry(), false).await.0, State::Miss);
    assert_eq!((stage.mock.count("acquire"), stage.mock.count("commit")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_render_that_fails_ends_it_and_the_previous_page_is_served() {
    let stage = Stage::new();
    stage.script_lookup([stale("old"), stale("old"), stale("old")]);
    ask(&stage, &entry(), true).await;
    let failing = |_| async { Err::<&str, _>("no database") };
    let served = stage.runtime.serve(&entry(), &Policy::default(), failing).await.unwrap();
    assert_eq!((text(&served), served.state), ("old", State::Stale));
    assert_eq!(stage.mock.count("acquire"), 1);
    // It is for the coordinator to say who tries again, and when.
    ask(&stage, &entry(), true).await;
    assert_eq!(stage.mock.count("acquire"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_there_is_served_and_ends_it() {
    let stage = Stage::new();
    stage.script_lookup([missing(), fresh("kept"), missing()]);
    ask(&stage, &entry(), true).await;
    assert_eq!(ask(&stage, &entry(), true).await.0, State::Hit);
    ask(&stage, &entry(), true).await;
    assert_eq!(stage.mock.count("acquire"), 2);
}

#[tokio::test(start_paused = true)]
async fn it_is_remembered_for_a_while_of_this_entry_and_then_one_request_finds_out() {
    let stage = stage(|builder| builder.remember_uncached(20 * SECOND));
    ask(&stage, &entry(), true).await;
    tokio::time::advance(19 * SECOND).await;
    ask(&stage, &entry(), true).await;
    assert_eq!(stage.mock.count("acquire"), 1);
    ask(&stage, &EntryRef::key("other"), true).await;
    assert_eq!(stage.mock.count("acquire"), 2);

    tokio::time::advance(20 * SECOND).await;
    // It takes the lease, and nobody waits for what comes of it.
    let asked = entry();
    let all = futures::future::join_all((0..9).map(|_| ask(&stage, &asked, true))).await;
    assert!(all.iter().all(|one| *one == (State::Bypass, SECOND)), "{all:?}");
    assert_eq!(stage.mock.count("acquire"), 3);
}

#[tokio::test(start_paused = true)]
async fn one_who_was_to_find_out_and_went_away_leaves_that_to_the_next() {
    let stage = stage(|builder| builder);
    ask(&stage, &entry(), true).await;
    tokio::time::advance(15 * SECOND).await;
    stage.mock.script("acquire", [Step::Hang]);
    assert!(tokio::time::timeout(SECOND, ask(&stage, &entry(), true)).await.is_err());
    ask(&stage, &entry(), true).await;
    assert_eq!(stage.mock.count("acquire"), 3);
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_forgets_it() {
    let stage = stage(|builder| builder);
    ask(&stage, &entry(), true).await;
    stage.runtime.invalidate(&[Scope::key("k")], Depth::Soft).await.unwrap();
    ask(&stage, &entry(), true).await;
    assert_eq!(stage.mock.count("acquire"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_long_ago_is_no_reason_for_a_crowd_to_render_at_once() {
    let stage = stage(|builder| builder);
    ask(&stage, &entry(), true).await;
    tokio::time::advance(MINUTE).await;
    stage.script_acquire(granted(None));
    stage
        .mock
        .script("acquire", (0..4).map(|_| Step::ReplyAfter(SECOND, Reply::Acquire(ready("another's")))));
    let asked = entry();
    let all = futures::future::join_all((0..5).map(|_| ask(&stage, &asked, false))).await;
    let rendered = all.iter().filter(|(state, _)| *state != State::WaitHit).count();
    assert_eq!((rendered, stage.mock.count("acquire")), (1, 6), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stale_page_is_not_regenerated_in_vain_at_every_request() {
    let stage = Stage::new();
    stage.script_lookup((0..3).map(|_| {
        let within_its_window = expired("old", Some(580), Some(40));
        pb::lookup_response::Outcome::Stale(within_its_window)
    }));
    let policy = Policy::stale_while_revalidate(MINUTE, 10 * MINUTE);
    for expected in [1, 1, 2] {
        let render = |_| async { Ok::<_, std::io::Error>(Rendered::new("rendered").uncached()) };
        assert_eq!(stage.runtime.serve(&entry(), &policy, render).await.unwrap().state, State::Stale);
        stage.runtime.finish_background().await;
        assert_eq!(stage.mock.count("acquire"), expected);
        tokio::time::advance(6 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_invalidation_has_overtaken_is_not_remembered() {
    let stage = stage(|builder| builder);
    let asked = entry();
    let invalidating = async {
        stage.mock.until("acquire", 1).await;
        stage.runtime.invalidate(&[Scope::key("k")], Depth::Soft).await.unwrap();
    };
    tokio::join!(ask(&stage, &asked, true), invalidating);
    ask(&stage, &entry(), true).await;
    assert_eq!(stage.mock.count("acquire"), 2);
}

#[tokio::test(start_paused = true)]
async fn it_is_not_remembered_where_the_builder_says_so() {
    let stage = stage(|builder| builder.remember_uncached(Duration::ZERO));
    for expected in 1..4 {
        ask(&stage, &entry(), true).await;
        assert_eq!(stage.mock.count("acquire"), expected);
    }
}

/// Whatever is committed is refused for this field of it, or for a body that is not there.
fn refusing(field: Option<&str>) -> Stage {
    let stage = stage(|builder| builder);
    let missing = || mock::refusal(tonic::Code::FailedPrecondition, "OBJECT_MISSING");
    let refused = || Step::Fail(field.map_or_else(missing, mock::invalid));
    stage.mock.script("commit", (0..100).map(|_| refused()));
    stage
}

fn refusals(stage: &Stage) -> usize {
    stage.told(|event| matches!(event, Event::Refused { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_page_that_the_coordinator_refuses_for_good_does_not_take_the_lease_each_time() {
    let stage = refusing(Some("metadata.headers[0].value"));
    for _ in 0..5 {
        assert_eq!(ask(&stage, &entry(), false).await.0, State::Bypass);
    }
    assert_eq!((stage.mock.count("acquire"), refusals(&stage)), (1, 1));

    // Renders for everybody do not end it, nor make it last: once it is over, one finds out.
    tokio::time::advance(6 * SECOND).await;
    let asked = entry();
    let all = futures::future::join_all((0..9).map(|_| ask(&stage, &asked, false))).await;
    assert!(all.iter().all(|one| *one == (State::Bypass, SECOND)), "{all:?}");
    assert_eq!((stage.mock.count("acquire"), refusals(&stage)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_page_that_is_refused_wait_no_longer() {
    let stage = refusing(Some("metadata.tags"));
    stage.script_acquire(granted(None));
    stage.mock.script("acquire", (0..3).map(|_| Step::Hang));
    let asked = entry();
    let all = futures::future::join_all((0..4).map(|_| ask(&stage, &asked, false))).await;
    assert_eq!(all.iter().map(|(_, took)| took.as_secs()).collect::<Vec<_>>(), [1, 2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_taken_again_is_kept_again() {
    let stage = stage(|builder| builder);
    stage.mock.script("commit", [Step::Fail(mock::invalid("metadata.tags"))]);
    assert_eq!(ask(&stage, &entry(), false).await.0, State::Bypass);
    tokio::time::advance(15 * SECOND).await;
    for acquired in [2, 3] {
        assert_eq!(ask(&stage, &entry(), false).await.0, State::Miss);
        assert_eq!(stage.mock.count("acquire"), acquired);
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_forgets_what_was_refused_before_it() {
    let stage = refusing(Some("metadata.tags"));
    for acquired in [1, 2] {
        ask(&stage, &entry(), false).await;
        assert_eq!(stage.mock.count("acquire"), acquired);
        stage.runtime.invalidate(&[Scope::key("k")], Depth::Soft).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_refused_for_what_another_lease_would_mend_is_tried_again() {
    let stage = refusing(None);
    for acquired in [1, 2] {
        assert_eq!(ask(&stage, &entry(), false).await.0, State::Bypass);
        assert_eq!((stage.mock.count("acquire"), refusals(&stage)), (acquired, 0));
    }
}
