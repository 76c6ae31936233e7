//! Regeneration after the stale page was served.

use super::*;
use leasehold_client::runtime::{Background, State};

fn swr() -> Policy {
    Policy::stale_while_revalidate(MINUTE, 10 * MINUTE)
}

fn within_its_window() -> pb::lookup_response::Outcome {
    pb::lookup_response::Outcome::Stale(expired("old", Some(580), Some(40)))
}

#[tokio::test(start_paused = true)]
async fn of_many_requests_for_a_stale_page_one_asks_for_the_lease() {
    let stage = Stage::new();
    stage.script_lookup((0..50).map(|_| within_its_window()));
    for _ in 0..50 {
        let render = |_| async {
            tokio::time::sleep(SECOND).await;
            Ok::<_, std::io::Error>("rendered")
        };
        assert_eq!(stage.runtime.serve(&entry(), &swr(), render).await.unwrap().state, State::Stale);
    }
    stage.runtime.finish_background().await;
    assert_eq!((stage.mock.count("acquire"), stage.mock.count("commit")), (1, 1));
    let mock::Message::Acquire(request) = &stage.mock.arrived("acquire")[0].message else { unreachable!() };
    assert!(request.wait.is_none(), "nobody waits for it");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_another_renders_is_not_asked_for() {
    let stage = Stage::new();
    let reply = pb::LookupResponse {
        outcome: Some(within_its_window()),
        regeneration: Some(pb::Regeneration {
            owner: "other".into(),
            generation: 6,
            remaining: mock::seconds(3),
        }),
        ..Default::default()
    };
    stage.mock.script("lookup", [Step::Reply(Reply::Lookup(reply))]);
    assert_eq!(stage.serve(&swr()).await.unwrap().state, State::Stale);
    stage.runtime.finish_background().await;
    assert_eq!(stage.mock.count("acquire"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_background_work_can_be_waited_for() {
    let stage = Stage::new();
    stage.script_lookup([within_its_window()]);
    let render = |_| async {
        tokio::time::sleep(8 * SECOND).await;
        Ok::<_, std::io::Error>("rendered")
    };
    let begun = mock::now();
    stage.runtime.serve(&entry(), &swr(), render).await.unwrap();
    assert!(mock::now() - begun < SECOND);
    stage.runtime.finish_background().await;
    assert!(mock::now() - begun >= 8 * SECOND);
    assert_eq!(stage.mock.count("commit"), 1);
    assert!(stage.mock.count("renew") >= 1, "the lease is renewed in the background too");
}

#[tokio::test(start_paused = true)]
async fn work_that_is_handed_over_is_done_when_it_is_awaited() {
    let stage = Stage::with(|builder| builder.background(Background::HandOver));
    stage.script_lookup([within_its_window(), within_its_window(), within_its_window()]);
    let first = stage.serve(&swr()).await.unwrap();
    let second = stage.serve(&swr()).await.unwrap();
    assert!(second.background.is_none(), "one at a time");
    stage.runtime.finish_background().await;
    assert_eq!(stage.mock.count("acquire"), 0);

    // Dropped, it is another's turn.
    drop(first);
    stage.serve(&swr()).await.unwrap().background.unwrap().await;
    assert_eq!((stage.mock.count("acquire"), stage.mock.count("commit")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_the_background_is_told_and_the_next_request_tries_again() {
    let stage = Stage::new();
    stage.script_lookup([within_its_window(), within_its_window()]);
    let failing = |_| async { Err::<&str, _>("no database") };
    assert_eq!(stage.runtime.serve(&entry(), &swr(), failing).await.unwrap().state, State::Stale);
    stage.runtime.finish_background().await;
    assert_eq!(stage.told(|event| matches!(event, Event::RenderFailed { why } if why == "no database")), 1);

    stage.serve(&swr()).await.unwrap();
    stage.runtime.finish_background().await;
    assert_eq!((stage.mock.count("release"), stage.mock.count("commit")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_more_can_be_known_of_what_the_coordinator_cannot_verify() {
    let stage = Stage::new();
    let unverified =
        pb::StalePage { reason: pb::StaleReason::Unverified.into(), ..expired("old", None, None) };
    stage.script_lookup([pb::lookup_response::Outcome::Stale(unverified)]);
    let served = stage.serve(&swr()).await.unwrap();
    assert_eq!(served.cache_status(), "leasehold; hit; ttl=-20; detail=unverified");
    stage.runtime.finish_background().await;
    assert_eq!(stage.mock.count("acquire"), 0, "the next one could not be verified either");
}

#[tokio::test(start_paused = true)]
async fn a_page_without_a_window_of_its_own_has_that_of_the_policy() {
    for (age, expected) in [(60 + 599, State::Stale), (60 + 600, State::Miss), (21 * 86_400, State::Miss)] {
        let stage = Stage::new();
        let old = pb::StalePage { page: Some(page("old", age)), ..expired("old", None, None) };
        stage.script_lookup([pb::lookup_response::Outcome::Stale(old)]);
        assert_eq!(stage.serve(&swr()).await.unwrap().state, expected, "{age}");
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_is_dropped_in_the_middle_leaves_no_lease_behind() {
    let stage = Stage::with(|builder| builder.background(Background::HandOver));
    stage.script_lookup([within_its_window()]);
    let render = |_| async {
        tokio::time::sleep(5 * SECOND).await;
        Ok::<_, std::io::Error>("rendered")
    };
    let served = stage.runtime.serve(&entry(), &swr(), render).await.unwrap();
    let handed = served.background.unwrap();
    assert!(tokio::time::timeout(SECOND, handed).await.is_err());
    stage.runtime.finish_background().await;
    assert_eq!(stage.mock.count("commit"), 1);
}

#[tokio::test(start_paused = true)]
async fn background_work_is_over_when_its_late_grant_is_given_back() {
    let stage = Stage::new();
    stage.script_lookup([within_its_window()]);
    let late = Step::ReplyAfter(Duration::from_millis(2300), Reply::Acquire(granted(None)));
    stage.mock.script("acquire", [late]);
    assert_eq!(stage.serve(&swr()).await.unwrap().state, State::Stale);
    stage.runtime.finish_background().await;
    assert_eq!((stage.mock.count("release"), stage.mock.count("commit")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_stops_gives_back_what_it_is_granted_in_the_background() {
    let stage = Stage::new();
    stage.script_lookup([within_its_window(), within_its_window()]);
    stage.mock.script("acquire", [Step::ReplyAfter(SECOND, Reply::Acquire(granted(None)))]);
    assert_eq!(stage.serve(&swr()).await.unwrap().state, State::Stale);
    stage.mock.until("acquire", 1).await;
    stage.runtime.stop().await;
    assert_eq!((stage.mock.count("release"), stage.mock.count("commit")), (1, 0));

    assert_eq!(stage.serve(&swr()).await.unwrap().state, State::Stale);
    stage.runtime.finish_background().await;
    assert_eq!(stage.mock.count("acquire"), 1, "it asks for no more");
}
