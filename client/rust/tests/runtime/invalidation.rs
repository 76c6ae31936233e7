//! What a process sees of its own invalidations.

use super::*;
use leasehold_client::{Depth, Scope, runtime::State};
use tokio::task::JoinHandle;

/// An invalidation that is under way.
async fn begin(stage: &Stage, number: usize) -> JoinHandle<()> {
    let runtime = stage.runtime.clone();
    let task = tokio::spawn(async move {
        runtime.invalidate(&[Scope::tag("news")], Depth::Soft).await.unwrap();
    });
    stage.mock.until("invalidate", number).await;
    task
}

fn answered_after(seconds: u32, token: &'static str) -> Step {
    Step::ReplyAfter(seconds * SECOND, Reply::Invalidate(token))
}

/// The token that the next lookup presents.
async fn presented(stage: &Stage) -> String {
    stage.script_lookup([fresh("kept")]);
    stage.serve(&Policy::default()).await.unwrap();
    let mock::Message::Lookup(lookup) = stage.mock.arrived("lookup").pop().unwrap().message else {
        unreachable!()
    };
    lookup.consistency_token
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_answered_holds_up_no_other() {
    let stage = Stage::new();
    stage.mock.script("invalidate", [Step::Hang, answered_after(0, "c1-7")]);
    let stuck = begin(&stage, 1).await;
    let begun = mock::now();
    begin(&stage, 2).await.await.unwrap();
    assert!((mock::now() - begun).is_zero());
    assert_eq!(presented(&stage).await, "c1-7");
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn of_two_at_a_time_the_later_position_is_presented_whichever_is_answered_last() {
    for [first, second] in [["c1-9", "c1-10"], ["c1-10", "c1-9"], ["c1-10", "c1-11"], ["c1-11", "c1-10"]] {
        let expected = if [first, second].contains(&"c1-11") { "c1-11" } else { "c1-10" };
        for (first_after, second_after) in [(1, 2), (2, 1)] {
            let stage = Stage::new();
            stage.mock.script(
                "invalidate",
                [answered_after(first_after, first), answered_after(second_after, second)],
            );
            let both = [begin(&stage, 1).await, begin(&stage, 2).await];
            for one in both {
                one.await.unwrap();
            }
            assert_eq!(presented(&stage).await, expected, "{first} after {first_after} s, {second}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_began_after_the_others_were_answered_is_presented_whatever_its_position() {
    // That of a log that has begun anew: the positions before it mean nothing any more.
    let stage = Stage::new();
    let answers = [answered_after(1, "c1-500"), answered_after(2, "c1-400"), answered_after(0, "c1-3")];
    stage.mock.script("invalidate", answers);
    let both = [begin(&stage, 1).await, begin(&stage, 2).await];
    for one in both {
        one.await.unwrap();
    }
    assert_eq!(presented(&stage).await, "c1-500");
    begin(&stage, 3).await.await.unwrap();
    assert_eq!(presented(&stage).await, "c1-3");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_nobody_knows_is_presented_no_more_and_costs_no_page() {
    for refused in [
        mock::refusal(tonic::Code::FailedPrecondition, "CONSISTENCY_TOKEN_UNKNOWN"),
        mock::invalid("consistency_token"),
    ] {
        for stage in [Stage::new(), Stage::without_retries()] {
            begin(&stage, 1).await.await.unwrap();
            stage.mock.script("lookup", [Step::Fail(refused.clone())]);
            stage.script_lookup([fresh("kept")]);
            assert_eq!(stage.serve(&Policy::default()).await.unwrap().state, State::Hit);
            let tokens = stage.mock.arrived("lookup").into_iter().map(|arrived| match arrived.message {
                mock::Message::Lookup(lookup) => lookup.consistency_token,
                _ => unreachable!(),
            });
            assert_eq!(tokens.collect::<Vec<_>>(), ["at-42", ""]);
            assert_eq!(presented(&stage).await, "");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_is_asked_for_as_of_ones_own_invalidations() {
    let stage = Stage::new();
    let gone = || Step::Fail(mock::refusal(tonic::Code::NotFound, "SIDECAR_NOT_FOUND"));
    let unknown = mock::refusal(tonic::Code::FailedPrecondition, "CONSISTENCY_TOKEN_UNKNOWN");
    stage.mock.script("serve_sidecar", [gone(), gone(), Step::Fail(unknown), gone(), gone()]);
    let mut presented = Vec::new();
    for has_invalidated in [false, true, false, false] {
        if has_invalidated {
            stage.runtime.invalidate(&[Scope::tag("news")], Depth::Hard).await.unwrap();
        }
        let before = stage.mock.count("serve_sidecar");
        assert_eq!(layer::ask_for_sidecar(&stage).await, 404);
        let asked = stage.mock.arrived("serve_sidecar").split_off(before);
        presented.push(
            asked
                .into_iter()
                .map(|arrived| match arrived.message {
                    mock::Message::Sidecar(asked) => asked.consistency_token,
                    _ => unreachable!(),
                })
                .collect::<Vec<_>>(),
        );
    }
    // One that nobody knows is presented no more, and costs no sidecar.
    assert_eq!(presented, [vec![""], vec!["at-42"], vec!["at-42", ""], vec![""]]);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_a_coordinator_did_not_know_does_not_take_a_newer_one_with_it() {
    let stage = Stage::new();
    stage.mock.script("invalidate", [answered_after(0, "c1-500"), answered_after(0, "c1-3")]);
    begin(&stage, 1).await.await.unwrap();
    let unknown = mock::refusal(tonic::Code::FailedPrecondition, "CONSISTENCY_TOKEN_UNKNOWN");
    stage.mock.script("lookup", [Step::FailAfter(SECOND, unknown)]);
    stage.script_lookup([fresh("kept")]);
    let runtime = stage.runtime.clone();
    let serving = tokio::spawn(async move {
        let render = |_| async { Ok::<_, std::io::Error>("rendered") };
        runtime.serve(&entry(), &Policy::default(), render).await.unwrap().state
    });
    stage.mock.until("lookup", 1).await;
    begin(&stage, 2).await.await.unwrap();
    assert_eq!(serving.await.unwrap(), State::Hit);
    assert_eq!(presented(&stage).await, "c1-3");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_again_and_again_is_no_reason_to_ask_for_ever() {
    let stage = Stage::new();
    begin(&stage, 1).await.await.unwrap();
    let unknown = || Step::Fail(mock::refusal(tonic::Code::FailedPrecondition, "CONSISTENCY_TOKEN_UNKNOWN"));
    stage.mock.script("lookup", (0..9).map(|_| unknown()));
    assert_eq!(stage.serve(&Policy::default()).await.unwrap().state, State::Bypass);
    assert_eq!(stage.mock.count("lookup"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_something_else_takes_no_token_with_it() {
    let stage = Stage::new();
    begin(&stage, 1).await.await.unwrap();
    stage.mock.script("lookup", [Step::Fail(mock::invalid("entry.path"))]);
    assert_eq!(stage.serve(&Policy::default()).await.unwrap().state, State::Bypass);
    assert_eq!(presented(&stage).await, "at-42");
}
