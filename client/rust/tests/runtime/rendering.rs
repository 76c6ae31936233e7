//! Renders that fail, panic, take too long, are overtaken, or are not for everybody.

use super::*;
use leasehold_client::{
    PageMetadata,
    runtime::{RenderError, Rendered, State},
};

/// What the lease was given back with.
fn reasons(stage: &Stage) -> Vec<Option<String>> {
    let releases = stage.mock.arrived("release").into_iter();
    let reason = |arrived: mock::Arrived| match arrived.message {
        mock::Message::Release(release) => release.failure,
        _ => unreachable!(),
    };
    releases.map(reason).collect()
}

#[tokio::test(start_paused = true)]
async fn a_render_that_fails_gives_its_lease_back_with_the_reason() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let failing = |_| async { Err::<&str, _>("no database") };
    let error = stage.runtime.serve(&entry(), &Policy::default(), failing).await.unwrap_err();
    assert!(matches!(error, ServeError::Render(RenderError::Failed(_))), "{error}");
    stage.runtime.finish_background().await;
    assert_eq!(reasons(&stage), [Some("no database".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_render_that_panics_gives_its_lease_back_with_the_reason() {
    async fn panics() -> Result<&'static str, std::io::Error> {
        panic!("index 3 of {}", 2)
    }
    let stage = Stage::new();
    stage.script_lookup([missing(), missing()]);
    let error = stage.runtime.serve(&entry(), &Policy::default(), |_| panics()).await.unwrap_err();
    assert!(matches!(error, ServeError::Render(RenderError::Panicked(_))), "{error}");
    // Before there is anything to await, too.
    let early = |_| -> std::future::Ready<Result<&str, std::io::Error>> { panic!("early") };
    let error = stage.runtime.serve(&entry(), &Policy::default(), early).await.unwrap_err();
    assert_eq!(error.status(), 500);
    stage.runtime.finish_background().await;
    let expected = ["the render panicked: index 3 of 2", "the render panicked: early"];
    assert_eq!(reasons(&stage), expected.map(|reason| Some(reason.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_render_that_takes_too_long_is_given_up() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let policy = Policy { render_timeout: Some(5 * SECOND), ..Policy::default() };
    let begun = mock::now();
    let endless = |_| std::future::pending::<Result<&str, std::io::Error>>();
    let error = stage.runtime.serve(&entry(), &policy, endless).await.unwrap_err();
    assert!(matches!(error, ServeError::Render(RenderError::TimedOut(_))), "{error}");
    assert_eq!((mock::now() - begun).as_secs(), 5);
    stage.runtime.finish_background().await;
    assert_eq!(reasons(&stage), [Some("the render took longer than 5s".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_stops_gives_its_leases_back_without_blame() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let endless = |_| std::future::pending::<Result<&str, std::io::Error>>();
    let policy = Policy::default();
    let (runtime, asked) = (stage.runtime.clone(), entry());
    let serving = tokio::spawn(async move { runtime.serve(&asked, &policy, endless).await });
    stage.mock.until("acquire", 1).await;
    tokio::task::yield_now().await;
    stage.runtime.stop().await;
    let error = serving.await.unwrap().unwrap_err();
    assert_eq!((error.status(), error.retry_after()), (503, Some(SECOND)));
    assert_eq!(reasons(&stage), [None]);
}

/// One who waits for another's page, and what comes of that.
async fn waiting(stage: &Stage) -> tokio::task::JoinHandle<u16> {
    let (runtime, asked, count) = (stage.runtime.clone(), entry(), stage.mock.count("acquire"));
    let visitor = tokio::spawn(async move {
        let render = |_| async { Ok::<_, std::io::Error>("rendered") };
        let served = runtime.serve(&asked, &Policy::default(), render).await;
        served.map_or_else(|error| error.status(), |served| served.status)
    });
    stage.mock.until("acquire", count + 1).await;
    visitor
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_waits_no_longer_than_the_runtime_lives() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    stage.mock.script("acquire", [Step::Hang]);
    let visitor = waiting(&stage).await;
    let begun = mock::now();
    stage.runtime.stop().await;
    assert_eq!(visitor.await.unwrap(), 503);
    assert!(mock::now() - begun < SECOND, "{:?}", mock::now() - begun);
}

#[tokio::test(start_paused = true)]
async fn what_is_granted_while_the_runtime_stops_is_given_back() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    stage.mock.script("acquire", [Step::ReplyAfter(SECOND / 4, Reply::Acquire(granted(None)))]);
    let visitor = waiting(&stage).await;
    stage.runtime.stop().await;
    assert_eq!(reasons(&stage), [None]);
    assert_eq!(visitor.await.unwrap(), 503);
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_goes_away_does_not_end_the_render() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let render = |_| async {
        tokio::time::sleep(5 * SECOND).await;
        Ok::<_, std::io::Error>("rendered")
    };
    let policy = Policy::default();
    let asked = entry();
    let impatient = tokio::time::timeout(SECOND, stage.runtime.serve(&asked, &policy, render)).await;
    assert!(impatient.is_err());
    stage.runtime.finish_background().await;
    assert_eq!(stage.mock.count("commit"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_render_is_told_whose_turn_it_is() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    stage.script_acquire(granted(Some(expired("old", None, None))));
    let render = |context: leasehold_client::runtime::RenderContext| async move {
        assert_eq!(context.generation, Some(7));
        assert_eq!(context.sidecar_token.unwrap().as_str(), "c2lkZWNhcg");
        assert_eq!(context.previous.unwrap().page.generation, 5);
        Ok::<_, std::io::Error>(Rendered::new("rendered").sidecar("{}").tag("news"))
    };
    let served = stage.runtime.serve(&entry(), &Policy::default(), render).await.unwrap();
    assert_eq!((served.state, served.generation), (State::Miss, Some(7)));
    assert_eq!(served.etag.as_deref(), Some("\"e\""), "the one that it was committed with");
    let mock::Message::Commit(commit) = &stage.mock.arrived("commit")[0].message else { unreachable!() };
    assert!(commit.sidecar.is_some());
    assert_eq!(commit.metadata.as_ref().unwrap().tags, ["news"]);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_was_rendered_now_tells_the_sidecar_that_it_was_committed_with() {
    use pb::commit_pointer_response::Outcome;
    let token = async |stage: &Stage| {
        let render = |_| async { Ok::<_, std::io::Error>(Rendered::new("rendered").sidecar("{}")) };
        let served = stage.runtime.serve(&entry(), &Policy::default(), render).await.unwrap();
        (served.state, served.sidecar_token.map(|token| token.as_str().to_owned()))
    };
    let stage = Stage::new();
    stage.script_lookup([missing(), missing()]);
    // That of an earlier lease, as its HTML and sidecar did not change.
    let (etag, sidecar_token) = ("\"e\"".to_owned(), "ZWFybGllcg".to_owned());
    let late = pb::CommitAppliedStale {
        etag: etag.clone(),
        sidecar_token: sidecar_token.clone(),
        ..Default::default()
    };
    let committed = pb::CommitApplied { etag, sidecar_token, ..Default::default() };
    for commit in [Outcome::CommittedStale(late), Outcome::Committed(committed)] {
        stage.mock.script("commit", [Step::Reply(Reply::Commit(commit))]);
    }
    let earlier = Some("ZWFybGllcg".to_owned());
    assert_eq!(token(&stage).await, (State::Stale, earlier.clone()));
    assert_eq!(token(&stage).await, (State::Miss, earlier.clone()));
    stage.mock.script("lookup", [Step::Hang]);
    assert_eq!(token(&stage).await, (State::StaleMetadataError, earlier));
}

#[tokio::test(start_paused = true)]
async fn headers_that_clients_leave_for_one_another_reach_no_visitor() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let headers = [("leasehold-strict-csp", "scripts"), ("link", "</a.css>")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let metadata = PageMetadata { headers, ..PageMetadata::default() };
    let render = |_| async { Ok::<_, std::io::Error>(Rendered::new("rendered").metadata(metadata)) };
    let served = stage.runtime.serve(&entry(), &Policy::default(), render).await.unwrap();
    let sent = served.header_map(&http::HeaderName::from_static("x-state"));
    assert!(sent.contains_key("link") && !sent.contains_key("leasehold-strict-csp"), "{sent:?}");
    let mock::Message::Commit(commit) = &stage.mock.arrived("commit")[0].message else { unreachable!() };
    assert_eq!(commit.metadata.as_ref().unwrap().headers.len(), 2, "other clients get it");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_for_everybody_is_not_committed() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let render = |_| async { Ok::<_, std::io::Error>(Rendered::new("yours").uncached()) };
    let served = stage.runtime.serve(&entry(), &Policy::default(), render).await.unwrap();
    assert_eq!((served.state, served.cache_control().as_str()), (State::Bypass, "no-store"));
    stage.runtime.finish_background().await;
    assert_eq!((stage.mock.count("commit"), reasons(&stage)), (0, vec![None]));
}

#[tokio::test(start_paused = true)]
async fn one_who_is_overtaken_serves_the_successors_page_or_else_its_own() {
    use pb::commit_pointer_response::Outcome;
    let superseded = || Outcome::Superseded(pb::CommitSuperseded { current_generation: 8 });
    let fenced = || Outcome::Fenced(pb::CommitFenced { latest_generation: 8 });
    let newer = pb::StalePage {
        page: Some(pb::Page { generation: 8, ..page("newer", 1) }),
        ..expired("", None, None)
    };
    for (commit, then, body, state) in [
        (superseded(), fresh("newer"), "newer", State::WaitHit),
        (superseded(), pb::lookup_response::Outcome::Stale(newer), "newer", State::Stale),
        // The one before its own.
        (fenced(), stale("old"), "rendered", State::Bypass),
        (fenced(), missing(), "rendered", State::Bypass),
    ] {
        let stage = Stage::new();
        stage.script_lookup([missing(), then]);
        stage.mock.script("commit", [Step::Reply(Reply::Commit(commit))]);
        let served = stage.serve(&Policy::default()).await.unwrap();
        assert_eq!((text(&served), served.state), (body, state));
        let mock::Message::Lookup(second) = &stage.mock.arrived("lookup")[1].message else { unreachable!() };
        assert_eq!(second.consistency(), pb::Consistency::Strict);
        assert_eq!(stage.told(|event| matches!(event, Event::NotCommitted { .. })), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_whose_commit_is_not_answered_is_served_all_the_same() {
    let stage = Stage::without_retries();
    stage.script_lookup([missing()]);
    stage.mock.script("commit", [Step::Fail(mock::unavailable("OUTCOME_UNKNOWN"))]);
    let served = stage.serve(&Policy::default()).await.unwrap();
    assert_eq!((text(&served), served.state), ("rendered", State::Bypass));
    assert_eq!(served.cache_control(), "no-store");
}

#[tokio::test(start_paused = true)]
async fn an_ended_lease_is_asked_for_anew() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    stage.script_acquire(pb::acquire_lease_response::Outcome::Ended(pb::LeaseEnded {}));
    stage.script_acquire(granted(None));
    assert_eq!(stage.serve(&Policy::default()).await.unwrap().state, State::Miss);
    let ids: Vec<_> = stage.mock.arrived("acquire").into_iter().map(|arrived| arrived.request_id).collect();
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_does_not_fit_a_message_is_fetched() {
    use pb::serve_page_response::Part;
    let stage = Stage::new();
    let large = pb::Page { body: None, body_too_large: true, ..page("", 20) };
    let fresh = pb::FreshPage { page: Some(large), fresh_for: None };
    stage.script_lookup([pb::lookup_response::Outcome::Fresh(fresh.clone())]);
    let head = pb::ServePageHead { page: Some(pb::serve_page_head::Page::Fresh(fresh)) };
    let parts = [Part::Head(head), Part::Chunk("ke".into()), Part::Chunk("pt".into())];
    stage.mock.script("serve_page", [Step::Messages(parts.map(Reply::Page).into(), None)]);
    let served = stage.serve(&Policy::default()).await.unwrap();
    assert_eq!((text(&served), served.state), ("kept", State::Hit));
}

#[tokio::test(start_paused = true)]
async fn what_the_coordinator_refuses_for_good_is_an_error_of_the_request() {
    let boundary = mock::refusal(tonic::Code::FailedPrecondition, "TENANT_BOUNDARY");
    for (refused, status) in [(boundary, 400), (mock::invalid("body"), 500)] {
        let stage = Stage::new();
        stage.mock.script("lookup", [Step::Fail(refused)]);
        let error = stage.serve(&Policy::default()).await.unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        assert_eq!(stage.told(|event| matches!(event, Event::NotServed { .. })), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_the_coordinator_refuses_is_an_error_that_says_so() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    stage.mock.script("acquire", [Step::Fail(mock::invalid("ttl"))]);
    let policy = Policy { lease_ttl: Some(Duration::ZERO), ..Policy::default() };
    let error = stage.serve(&policy).await.unwrap_err();
    // It is no fault of the visitor's.
    assert!(error.status() == 500 && error.to_string().contains("INVALID_FIELD"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_named_is_rendered_without_being_kept() {
    for field in ["entry", "entry.path", "entry.request.params", "entry.request.query[3]", "lookup.entry.key"]
    {
        let stage = Stage::new();
        stage.mock.script("lookup", [Step::Fail(mock::invalid(field))]);
        let served = stage.serve(&Policy::default()).await.unwrap();
        assert_eq!((text(&served), served.state), ("rendered", State::Bypass), "{field}");
        assert_eq!(served.cache_status(), "leasehold; fwd=bypass; detail=unnameable");
        assert_eq!(stage.mock.count("acquire"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_cannot_be_committed_does_not_keep_its_lease() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let refused = mock::refusal(tonic::Code::InvalidArgument, "INVALID_FIELD");
    stage.mock.script("commit", [Step::Fail(refused)]);
    assert_eq!(stage.serve(&Policy::default()).await.unwrap().state, State::Bypass);
    stage.runtime.finish_background().await;
    assert_eq!(reasons(&stage), [None]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_after_the_visitor_has_gone_gives_the_lease_back() {
    let stage = Stage::without_retries();
    stage.script_lookup([missing()]);
    let late = Step::FailAfter(Duration::from_millis(2300), mock::unavailable("STORE_UNAVAILABLE"));
    stage.mock.script("commit", [late]);
    assert_eq!(stage.serve(&Policy::default()).await.unwrap().state, State::Bypass);
    assert_eq!(stage.told(|event| matches!(event, Event::NotCommitted { .. })), 0, "it may be yet");
    stage.runtime.finish_background().await;
    assert_eq!(reasons(&stage), [None]);
    assert_eq!(stage.told(|event| matches!(event, Event::NotCommitted { .. })), 1);
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_until_the_commit_is_answered() {
    use pb::upload_body_response::Outcome;
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    // Over a slow line: for longer than the lease lasts.
    let uploaded = pb::UploadedBody { object: "o".into(), digest: vec![1; 32].into(), size_bytes: 14 << 20 };
    let uploaded = Step::ReplyAfter(12 * SECOND, Reply::Upload(Outcome::Uploaded(uploaded)));
    stage.mock.script("upload", [uploaded]);
    let render = |_| async { Ok::<_, std::io::Error>(vec![b'x'; 14 << 20]) };
    let policy = Policy { lease_ttl: Some(5 * SECOND), ..Policy::default() };
    stage.runtime.serve(&entry(), &policy, render).await.unwrap();
    stage.runtime.finish_background().await;
    let committed = stage.mock.arrived("commit")[0].at;
    let renewals = stage.mock.arrived("renew");
    assert!(renewals.len() >= 3, "{}", renewals.len());
    assert!(renewals.iter().all(|renewal| renewal.at <= committed));
    let mock::Message::Renew(renewal) = &renewals[0].message else { unreachable!() };
    assert_eq!(renewal.ttl.map(|ttl| ttl.seconds), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_status_of_500_is_a_render_that_failed() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let metadata = leasehold_client::PageMetadata { status: 503, ..Default::default() };
    let render = |_| async { Ok::<_, std::io::Error>(Rendered::new("sorry").metadata(metadata)) };
    let error = stage.runtime.serve(&entry(), &Policy::default(), render).await.unwrap_err();
    assert_eq!(error.status(), 500);
    assert_eq!(stage.mock.count("commit"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_was_invalidated_while_it_was_rendered_is_no_shared_caches() {
    use pb::commit_pointer_response::Outcome;
    for (purged, state, known) in [(false, State::Stale, State::Bypass), (true, State::Bypass, State::Bypass)]
    {
        let stage = Stage::new();
        let late = pb::CommitAppliedStale { etag: "\"e\"".into(), purged, ..Default::default() };
        stage.script_lookup([missing()]);
        stage.mock.script("commit", [Step::Reply(Reply::Commit(Outcome::CommittedStale(late)))]);
        let policy = Policy::stale_while_revalidate(MINUTE, MINUTE);
        let served = stage.serve(&policy).await.unwrap();
        assert_eq!((served.state, text(&served)), (state, "rendered"));
        assert!(!served.cache_control().contains("s-maxage=60"), "{}", served.cache_control());
        stage.mock.script("lookup", [Step::Hang]);
        assert_eq!(stage.serve(&policy).await.unwrap().state, known);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rendered_page_is_served_where_its_successor_cannot_be_fetched() {
    use pb::commit_pointer_response::Outcome;
    let large = pb::Page { body: None, body_too_large: true, generation: 8, ..page("", 1) };
    let fresh = pb::FreshPage { page: Some(large), fresh_for: None };
    let stage = Stage::new();
    stage.script_lookup([missing(), pb::lookup_response::Outcome::Fresh(fresh)]);
    let superseded = Outcome::Superseded(pb::CommitSuperseded { current_generation: 8 });
    stage.mock.script("commit", [Step::Reply(Reply::Commit(superseded))]);
    stage.mock.script("serve_page", [Step::Fail(mock::unavailable("STORE_UNAVAILABLE"))]);
    let served = stage.serve(&Policy::default()).await.unwrap();
    assert_eq!((text(&served), served.state), ("rendered", State::Bypass));
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_has_stopped_renders_no_more() {
    let stage = Stage::new();
    stage.runtime.stop().await;
    stage.script_lookup([missing()]);
    assert_eq!(stage.serve(&Policy::default()).await.unwrap_err().status(), 503);
    assert_eq!((stage.mock.count("acquire"), stage.mock.count("commit")), (0, 0));
}
