//! A lease in its holder's hands: time, renewal, commit, upload, end.

mod mock;

use bytes::Bytes;
use leasehold_client::{
    Acquire, AcquireOptions, BodyKind, Commit, Coordinator, EntryRef, Health, Lease, NewBody, NewPage,
    Release, Renewal, RequestId, StoredBody, Upload,
};
use leasehold_proto::v1 as pb;
use mock::{Message, Mock, Network, Reply, Step, granted, now, unavailable};
use pb::body_source::Source;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

async fn lease(mock: &Mock) -> (Network, Coordinator, Lease) {
    let network = Network::new(mock);
    let client = network.client(Coordinator::builder().owner("worker-1"));
    let Acquire::Granted(lease) =
        client.acquire(&EntryRef::key("k"), &AcquireOptions::default()).await.unwrap()
    else {
        panic!("not granted")
    };
    (network, client, lease)
}

fn bodies(mock: &Mock) -> Vec<(&'static str, usize)> {
    let mut bodies = Vec::new();
    for call in mock.arrived("upload") {
        let Message::Upload(head, size) = call.message else { unreachable!() };
        let kind = if head.kind() == pb::BodyKind::Sidecar { "sidecar uploaded" } else { "html uploaded" };
        bodies.push((kind, size));
    }
    for call in mock.arrived("commit") {
        let Message::Commit(commit) = call.message else { unreachable!() };
        for (name, body) in [("sidecar inline", commit.sidecar), ("html inline", commit.html)] {
            if let Some(Source::Inline(bytes)) = body.and_then(|body| body.source) {
                bodies.push((name, bytes.len()));
            }
        }
    }
    bodies
}

#[tokio::test(start_paused = true)]
async fn deadline_is_counted_from_before_the_attempt_that_was_granted() {
    let mock = Mock::default();
    mock.script(
        "acquire",
        [Step::FailAfter(4 * SECOND, unavailable("OUTCOME_UNKNOWN")), Step::Reply(granted(7, 10))],
    );
    let begun = now();
    let (_network, _client, lease) = lease(&mock).await;
    let second = mock.arrived("acquire")[1].at;
    assert!(second - begun >= 4 * SECOND);
    assert_eq!(lease.deadline(), second + 10 * SECOND);
    assert_eq!(lease.sidecar_token().unwrap().as_str(), "c2lkZWNhcg");
    let Message::Acquire(request) = &mock.arrived("acquire")[0].message else { unreachable!() };
    assert_eq!(request.owner, "worker-1");
}

#[tokio::test(start_paused = true)]
async fn lease_is_renewed_in_thirds_while_its_page_is_rendered() {
    let mock = Mock::default();
    let (_network, _client, lease) = lease(&mock).await;
    let begun = now();
    let render = async {
        tokio::time::sleep(10 * SECOND).await;
        "page"
    };
    assert_eq!(lease.renew_while(Some(10 * SECOND), render).await, "page");
    let at: Vec<_> = mock.arrived("renew").iter().map(|call| (call.at - begun).as_secs()).collect();
    assert_eq!(at, [3, 6]);
    assert!(
        mock.arrived("renew").iter().all(|call| call.request_id == lease.request_id().expose().as_slice())
    );
}

#[tokio::test(start_paused = true)]
async fn render_goes_on_when_its_lease_is_lost() {
    let mock = Mock::default();
    let lost = pb::renew_lease_response::Outcome::Lost(pb::LeaseLost {});
    mock.script("renew", [Step::Reply(Reply::Renew(lost))]);
    let (_network, _client, lease) = lease(&mock).await;
    assert_eq!(
        lease
            .renew_while(None, async {
                tokio::time::sleep(60 * SECOND).await;
                5
            })
            .await,
        5
    );
    assert_eq!(mock.count("renew"), 1);
}

#[tokio::test(start_paused = true)]
async fn renewal_is_tried_again_while_the_coordinator_is_away() {
    let mock = Mock::default();
    mock.script("renew", (0..3).map(|_| Step::Fail(unavailable("STORE_UNAVAILABLE"))));
    let (_network, _client, lease) = lease(&mock).await;
    assert!(matches!(lease.renew(None).await.unwrap(), Renewal::Renewed { .. }));
    assert_eq!(mock.count("renew"), 4);
}

#[tokio::test(start_paused = true)]
async fn small_bodies_travel_with_the_commit() {
    let mock = Mock::default();
    let (_network, _client, lease) = lease(&mock).await;
    let commit = lease.commit(&NewPage::new("<p>").sidecar("{}")).await.unwrap();
    let (html_object_name, sidecar_object_name) = (None, None);
    let expected = Commit::Committed {
        etag: "\"e\"".into(),
        sidecar_token: None,
        html_object_name,
        sidecar_object_name,
    };
    assert_eq!(commit, expected);
    assert_eq!(bodies(&mock), [("sidecar inline", 2), ("html inline", 3)]);
}

#[tokio::test(start_paused = true)]
async fn large_bodies_are_uploaded_first_and_the_sidecar_before_the_html() {
    const MIB: usize = 1 << 20;
    let body = |mebibytes: usize| Bytes::from(vec![b'x'; mebibytes * MIB]);
    let large_html = [("html uploaded", 5 * MIB), ("sidecar inline", 2)];
    let large_sidecar = [("sidecar uploaded", 4 * MIB), ("html inline", 3)];
    let both_are_large = [("sidecar uploaded", 4 * MIB), ("html uploaded", 5 * MIB)];
    let together = [("html uploaded", 2 * MIB), ("sidecar inline", 2 * MIB)];
    for (html, sidecar, expected) in [
        (body(5), Bytes::from("{}"), large_html),
        (Bytes::from("<p>"), body(4), large_sidecar),
        (body(5), body(4), both_are_large),
        (body(2), body(2), together),
    ] {
        let mock = Mock::default();
        let (_network, _client, lease) = lease(&mock).await;
        lease.commit(&NewPage::new(html).sidecar(sidecar)).await.unwrap();
        assert_eq!(bodies(&mock), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn commit_names_what_was_uploaded() {
    let mock = Mock::default();
    let (_network, _client, lease) = lease(&mock).await;
    let html = Bytes::from(vec![b'x'; 700_000]);
    let Upload::Stored { body, object } = lease.upload(BodyKind::Html, None, html).await.unwrap() else {
        panic!("fenced")
    };
    assert_eq!((object.as_str(), body.size_bytes), ("o", 700_000));
    lease.commit(&NewPage::new(NewBody::from("")).metadata(Default::default())).await.unwrap();
    lease.commit(&NewPage::new(NewBody::Stored(body.clone()))).await.unwrap();
    let Message::Commit(commit) = mock.arrived("commit")[1].message.clone() else { unreachable!() };
    let Some(Source::Stored(stored)) = commit.html.unwrap().source else { panic!("inline") };
    assert_eq!(StoredBody { digest: stored.digest, size_bytes: stored.size_bytes }, body);
}

#[tokio::test(start_paused = true)]
async fn names_of_bodies_travel_with_them_however_they_go() {
    let names = |mock: &Mock| {
        let Message::Commit(commit) = mock.arrived("commit")[0].message.clone() else { unreachable!() };
        let uploads = mock.arrived("upload").into_iter().map(|arrived| match arrived.message {
            Message::Upload(head, _) => head.object_name,
            _ => unreachable!(),
        });
        let committed = [commit.sidecar, commit.html].into_iter().flatten().map(|body| body.object_name);
        (uploads.collect::<Vec<_>>(), committed.collect::<Vec<_>>())
    };
    let named =
        |html: Bytes| NewPage::new(html).sidecar("{}").html_name("a.html").sidecar_name("a.hydration.json");
    for (html, uploaded) in [(Bytes::from("<p>"), vec![]), (vec![0; 4 << 20].into(), vec!["a.html"])] {
        let mock = Mock::default();
        let (_network, _client, lease) = lease(&mock).await;
        lease.commit(&named(html)).await.unwrap();
        let committed = ["a.hydration.json", "a.html"].map(str::to_owned).to_vec();
        assert_eq!(names(&mock), (uploaded.into_iter().map(str::to_owned).collect(), committed));
    }
    let mock = Mock::default();
    let (_network, _client, lease) = lease(&mock).await;
    lease.upload_as(BodyKind::Sidecar, "b.hydration.json", None, "{}".into()).await.unwrap();
    lease.upload(BodyKind::Html, None, "<p>".into()).await.unwrap();
    lease.commit(&NewPage::new("<p>")).await.unwrap();
    assert_eq!(names(&mock), (vec!["b.hydration.json".to_owned(), String::new()], vec![String::new()]));
}

/// Which may be those of the page before.
#[tokio::test(start_paused = true)]
async fn a_commit_tells_which_names_its_bodies_have() {
    use pb::commit_pointer_response::Outcome;
    let mock = Mock::default();
    let names = || ("a.html".to_owned(), "a.hydration.json".to_owned());
    let (html_object_name, sidecar_object_name) = names();
    let applied = pb::CommitApplied { html_object_name, sidecar_object_name, ..Default::default() };
    let (html_object_name, sidecar_object_name) = names();
    let stale = pb::CommitAppliedStale { html_object_name, sidecar_object_name, ..Default::default() };
    let outcomes = [Outcome::Committed(applied), Outcome::CommittedStale(stale)];
    mock.script("commit", outcomes.map(|outcome| Step::Reply(Reply::Commit(outcome))));
    let (_network, _client, lease) = lease(&mock).await;
    for _ in 0..2 {
        let (Commit::Committed { html_object_name: html, sidecar_object_name: sidecar, .. }
        | Commit::CommittedStale { html_object_name: html, sidecar_object_name: sidecar, .. }) =
            lease.commit(&NewPage::new("<p>").html_name("b.html")).await.unwrap()
        else {
            panic!("not applied")
        };
        assert_eq!(html.zip(sidecar), Some(names()));
    }
}

#[tokio::test(start_paused = true)]
async fn upload_is_repeated_whole() {
    let mock = Mock::default();
    mock.script("upload", [Step::Fail(unavailable("OUTCOME_UNKNOWN"))]);
    let (_network, _client, lease) = lease(&mock).await;
    lease.upload(BodyKind::Sidecar, Some("application/json"), vec![1; 600_000].into()).await.unwrap();
    assert_eq!(bodies(&mock), [("sidecar uploaded", 600_000); 2]);
}

#[tokio::test(start_paused = true)]
async fn fenced_upload_fences_the_commit() {
    let mock = Mock::default();
    let fenced = pb::upload_body_response::Outcome::Fenced(pb::CommitFenced { latest_generation: 12 });
    mock.script("upload", [Step::Reply(Reply::Upload(fenced))]);
    let (_network, _client, lease) = lease(&mock).await;
    let commit = lease.commit(&NewPage::new(vec![0; 4 << 20])).await.unwrap();
    assert_eq!(commit, Commit::Fenced { latest_generation: 12 });
    assert_eq!(mock.count("commit"), 0);
}

#[tokio::test(start_paused = true)]
async fn failure_names_its_reason_and_release_names_none() {
    let mock = Mock::default();
    let (_network, _client, lease) = lease(&mock).await;
    assert_eq!(lease.fail("template broke").await.unwrap(), Release::Released);
    lease.release().await.unwrap();
    let failures: Vec<_> = mock
        .arrived("release")
        .into_iter()
        .map(|call| match call.message {
            Message::Release(release) => release.failure,
            _ => unreachable!(),
        })
        .collect();
    assert_eq!(failures, [Some("template broke".to_owned()), None]);
}

#[tokio::test(start_paused = true)]
async fn adopted_lease_commits_under_its_own_id() {
    let mock = Mock::default();
    let client = Network::new(&mock).client(Coordinator::builder());
    let lease = client.adopt_lease(EntryRef::key("k"), RequestId::from_bytes([9; 16]), 4);
    lease.commit(&NewPage::new("<p>")).await.unwrap();
    let Message::Commit(commit) = mock.arrived("commit")[0].message.clone() else { unreachable!() };
    let sent = commit.lease.unwrap();
    assert_eq!((sent.request_id.as_ref(), sent.generation), ([9; 16].as_slice(), 4));
}

#[tokio::test(start_paused = true)]
async fn lease_does_not_show_its_token() {
    let mock = Mock::default();
    let (_network, _client, lease) = lease(&mock).await;
    let shown = format!("{lease:?} {:?}", Acquire::Granted(lease.clone()));
    let id = lease.request_id().expose();
    assert!(!shown.contains(&format!("{id:?}")) && !shown.contains("request_id"), "{shown}");
    assert!(!shown.contains("c2lkZWNhcg"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn health_of_a_coordinator_that_offers_none_is_a_refusal() {
    let mock = Mock::default();
    let client = Network::new(&mock).client(Coordinator::builder());
    let error = client.health().await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, tonic::Code::Unimplemented);
}

#[tokio::test(start_paused = true)]
async fn health_is_asked_by_the_standard_service() {
    use hyper_util::rt::TokioIo;
    let (reporter, service) = tonic_health::server::health_reporter();
    let (near, far) = tokio::io::duplex(4096);
    let incoming = tokio_stream::once(Ok::<_, std::io::Error>(far));
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let mut near = Some(near);
    let connector = tower::service_fn(move |_: http::Uri| {
        let near = near.take().map(TokioIo::new).ok_or(std::io::ErrorKind::ConnectionRefused);
        async move { near.map_err(std::io::Error::from) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://health");
    let client = Coordinator::from_channel(endpoint.connect_with_connector_lazy(connector));
    assert_eq!(client.health().await.unwrap(), Health::Serving);
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    assert_eq!(client.health().await.unwrap(), Health::NotServing);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_arrives_after_its_caller_has_gone_is_given_back() {
    for wait in [Duration::ZERO, 30 * SECOND] {
        let mock = Mock::default();
        let client = Network::new(&mock).client(Coordinator::builder());
        mock.script("acquire", [Step::ReplyAfter(SECOND / 4, granted(7, 10))]);
        let options = AcquireOptions { wait, ..AcquireOptions::default() };
        let asked = EntryRef::key("k");
        let asking = tokio::time::timeout(SECOND / 10, client.acquire(&asked, &options));
        assert!(asking.await.is_err());
        tokio::time::timeout(SECOND, mock.until("release", 1)).await.expect("it is given back");
        let (granted, released) = (&mock.arrived("acquire")[0], &mock.arrived("release")[0]);
        assert_eq!(granted.request_id, released.request_id);
        let Message::Release(release) = &released.message else { unreachable!() };
        assert_eq!((release.lease.as_ref().unwrap().generation, &release.failure), (7, &None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_whose_caller_has_gone_is_over_at_the_coordinator_too() {
    let mock = Mock::default();
    let client = Network::new(&mock).client(Coordinator::builder());
    mock.script("acquire", [Step::ReplyAfter(20 * SECOND, granted(7, 10))]);
    let options = AcquireOptions { wait: 30 * SECOND, ..AcquireOptions::default() };
    let asked = EntryRef::key("k");
    assert!(tokio::time::timeout(SECOND, client.acquire(&asked, &options)).await.is_err());
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!((mock.count("acquire"), mock.count("release")), (1, 0), "it is granted nothing any more");
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_another_process_may_ask_for_again_is_not_given_back() {
    let mock = Mock::default();
    let client = Network::new(&mock).client(Coordinator::builder());
    mock.script("acquire", [Step::ReplyAfter(SECOND / 4, granted(7, 10))]);
    let request_id = Some(client.new_request_id());
    let options = AcquireOptions { request_id, ..AcquireOptions::default() };
    let asked = EntryRef::key("k");
    assert!(tokio::time::timeout(SECOND / 10, client.acquire(&asked, &options)).await.is_err());
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!((mock.count("acquire"), mock.count("release")), (1, 0));
}
