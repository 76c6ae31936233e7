//! Bodies and watches: what comes in a stream, and what happens when it breaks.

mod mock;

use bytes::Bytes;
use futures::StreamExt as _;
use leasehold_client::{
    BodyKind, ConsistencyToken, Coordinator, CurrentPage, Depth, EntryRef, Error, Reason, ResumeToken,
    ResyncReason, Scope, ServeOptions, SidecarToken, Watch, WatchEvent, WatchFilter,
};
use leasehold_proto::v1 as pb;
use mock::{Message, Mock, Network, Reply, Step, now, refusal, unavailable};
use std::time::Duration;
use tonic::Code;

const SECOND: Duration = Duration::from_secs(1);

fn sidecar(chunks: &[&'static str]) -> Vec<Reply> {
    use pb::serve_sidecar_response::Part;
    let head = pb::SidecarHead { content_type: "application/json".into(), size_bytes: 9 };
    std::iter::once(Part::Head(head))
        .chain(chunks.iter().map(|chunk| Part::Chunk(Bytes::from_static(chunk.as_bytes()))))
        .map(Reply::Sidecar)
        .collect()
}

async fn served(mock: &Mock) -> Result<leasehold_client::ServedSidecar, Error> {
    let client = Network::new(mock).client(Coordinator::builder());
    client.serve_sidecar(&EntryRef::key("k"), &SidecarToken::new("t"), None).await
}

#[tokio::test(start_paused = true)]
async fn sidecar_comes_with_its_head_and_in_chunks() {
    let mock = Mock::default();
    mock.script("serve_sidecar", [Step::Messages(sidecar(&["abc", "def", "ghi"]), None)]);
    let served = served(&mock).await.unwrap();
    assert_eq!((served.content_type.as_str(), served.size_bytes), ("application/json", 9));
    assert_eq!(served.body.collect(9).await.unwrap(), "abcdefghi");
}

#[tokio::test(start_paused = true)]
async fn body_beyond_the_callers_limit_is_not_collected() {
    let mock = Mock::default();
    mock.script("serve_sidecar", [Step::Messages(sidecar(&["abc", "def", "ghi"]), None)]);
    let error = served(&mock).await.unwrap().body.collect(8).await.unwrap_err();
    assert!(matches!(error, Error::BodyTooLarge { limit_bytes: 8 }));
}

#[tokio::test(start_paused = true)]
async fn unknown_sidecar_is_refused() {
    let mock = Mock::default();
    mock.script("serve_sidecar", [Step::Fail(refusal(Code::NotFound, "SIDECAR_NOT_FOUND"))]);
    assert_eq!(served(&mock).await.unwrap_err().reason(), Some(&Reason::SidecarNotFound));
}

#[tokio::test(start_paused = true)]
async fn body_is_asked_for_again_until_its_head_is_there_and_not_after() {
    let mock = Mock::default();
    let broken = |parts| Step::Messages(parts, Some(unavailable("STORE_UNAVAILABLE")));
    mock.script("serve_sidecar", [broken(Vec::new()), broken(sidecar(&["abc"]))]);
    let mut body = served(&mock).await.unwrap().body;
    assert_eq!(mock.count("serve_sidecar"), 2);
    assert_eq!(body.next().await.unwrap().unwrap(), "abc");
    assert!(body.next().await.unwrap().unwrap_err().is_retryable());
    assert!(body.next().await.is_none());
    assert_eq!(mock.count("serve_sidecar"), 2);
}

#[tokio::test(start_paused = true)]
async fn object_comes_by_its_name_with_its_head_and_in_chunks() {
    use pb::serve_object_response::Part;
    let mock = Mock::default();
    let head = |kind: pb::BodyKind| pb::ObjectHead {
        content_type: "text/html".into(),
        size_bytes: 6,
        kind: kind.into(),
        digest: Bytes::from_static(&[3; 32]),
    };
    let parts = |kind| {
        let chunks = ["abc", "def"].map(|chunk| Part::Chunk(chunk.into()));
        std::iter::once(Part::Head(head(kind))).chain(chunks).map(Reply::Object).collect()
    };
    let refused = Step::Fail(refusal(Code::NotFound, "OBJECT_NOT_FOUND"));
    let replies =
        [pb::BodyKind::Html, pb::BodyKind::Unspecified].map(|kind| Step::Messages(parts(kind), None));
    mock.script("serve_object", replies.into_iter().chain([refused]));
    let client = Network::new(&mock).client(Coordinator::builder());
    let as_of = ConsistencyToken::new("c1-7");
    let served = client.serve_object("acme", "a.html", Some(&as_of)).await.unwrap();
    assert_eq!((served.kind, served.content_type.as_str()), (BodyKind::Html, "text/html"));
    assert_eq!((served.size_bytes, &served.digest[..]), (6, &[3; 32][..]));
    assert_eq!(served.body.collect(6).await.unwrap(), "abcdef");
    let Message::Object(asked) = mock.arrived("serve_object")[0].message.clone() else { unreachable!() };
    assert_eq!((asked.tenant.as_str(), asked.object_name.as_str()), ("acme", "a.html"));
    assert_eq!(asked.consistency_token, "c1-7");
    let error = client.serve_object("", "a.html", None).await.unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "of no kind: {error:?}");
    let error = client.serve_object("", "a.html", None).await.unwrap_err();
    assert_eq!(error.reason(), Some(&Reason::ObjectNotFound));
}

#[tokio::test(start_paused = true)]
async fn page_comes_with_its_metadata() {
    use pb::{serve_page_head::Page, serve_page_response::Part};
    let mock = Mock::default();
    let page = Some(pb::Page { generation: 5, html_object_name: "a.html".into(), ..Default::default() });
    let stale = pb::StalePage { page, reason: pb::StaleReason::Expired.into(), ..Default::default() };
    let head = Part::Head(pb::ServePageHead { page: Some(Page::Stale(stale)) });
    let parts = vec![Reply::Page(head), Reply::Page(Part::Chunk("<p>".into()))];
    mock.script("serve_page", [Step::Messages(parts, None)]);
    let client = Network::new(&mock).client(Coordinator::builder());
    let served = client.serve_page(&EntryRef::key("k"), &ServeOptions::default()).await.unwrap();
    assert!(matches!(served.current, CurrentPage::Stale(_)));
    let page = served.current.page();
    assert_eq!((page.html_object_name.as_deref(), &page.sidecar_object_name), (Some("a.html"), &None));
    assert_eq!(served.current.page().generation, 5);
    assert_eq!(served.body.collect(100).await.unwrap(), "<p>");
    assert_eq!(mock.arrived("serve_page")[0].grpc_timeout, None, "its reader may take its time");
}

fn event(token: &str, event: pb::watch_response::Event) -> Reply {
    Reply::Watch(pb::WatchResponse { resume_token: token.into(), event: Some(event) })
}

fn started(token: &str) -> Reply {
    event(token, pb::watch_response::Event::Started(pb::WatchStarted {}))
}

fn invalidated(token: &str) -> Reply {
    let invalidated = pb::PagesInvalidated {
        scopes: vec![pb::InvalidationScope {
            tenant: "acme".into(),
            scope: Some(pb::invalidation_scope::Scope::Tag("posts".into())),
        }],
        depth: pb::InvalidationDepth::Hard.into(),
        at: None,
        consistency_token: "at-9".into(),
    };
    event(token, pb::watch_response::Event::Invalidated(invalidated))
}

fn watch(mock: &Mock, resume: Option<&str>) -> Watch {
    let client = Network::new(mock).client(Coordinator::builder());
    client.watch(&[WatchFilter::tag("posts").tenant("acme")], resume.map(ResumeToken::new))
}

fn resumed_from(mock: &Mock) -> Vec<String> {
    let token = |call: mock::Arrived| match call.message {
        Message::Watch(request) => request.resume_token,
        _ => unreachable!(),
    };
    mock.arrived("watch").into_iter().map(token).collect()
}

#[tokio::test(start_paused = true)]
async fn watch_goes_on_where_it_stood_when_its_stream_breaks() {
    let mock = Mock::default();
    let ended = event("c", pb::watch_response::Event::Ended(pb::WatchEnded {}));
    mock.script(
        "watch",
        [
            Step::Messages(vec![started("a"), invalidated("b")], Some(unavailable("STORE_UNAVAILABLE"))),
            Step::Fail(unavailable("DRAINING")),
            Step::Messages(vec![started("b"), invalidated("c"), ended], None),
            Step::Messages(vec![started("c"), invalidated("d")], None),
        ],
    );
    let mut watch = watch(&mock, None);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let message = watch.next().await.unwrap().unwrap();
        if let WatchEvent::Invalidated(invalidated) = message.event {
            assert_eq!(invalidated.scopes, [Scope::tag("posts").tenant("acme")]);
            assert_eq!((invalidated.depth, invalidated.consistency_token.as_str()), (Depth::Hard, "at-9"));
            seen.push(message.resume_token.as_str().to_owned());
        }
    }
    assert_eq!(seen, ["b", "c", "d"]);
    assert_eq!(resumed_from(&mock), ["", "b", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn watch_says_when_it_has_missed_events() {
    let mock = Mock::default();
    let resync = pb::WatchResync { reason: pb::ResyncReason::OtherRun.into() };
    let resync = event("n", pb::watch_response::Event::Resync(resync));
    mock.script("watch", [Step::Messages(vec![started("m"), resync], None)]);
    let mut watch = std::pin::pin!(watch(&mock, Some("old")).into_stream());
    assert_eq!(watch.next().await.unwrap().unwrap().event, WatchEvent::Started);
    let message = watch.next().await.unwrap().unwrap();
    assert_eq!(message.event, WatchEvent::Resync(ResyncReason::OtherRun));
    assert_eq!(resumed_from(&mock), ["old"]);
}

#[tokio::test(start_paused = true)]
async fn silent_watch_is_replaced() {
    let mock = Mock::default();
    mock.script("watch", [Step::Hang, Step::Messages(vec![started("a")], None)]);
    let mut watch = watch(&mock, None);
    assert_eq!(watch.next().await.unwrap_or_else(|| panic!("over")).map(|m| m.event).ok(), None);
    assert_eq!(watch.next().await.unwrap().unwrap().event, WatchEvent::Started);
}

#[tokio::test(start_paused = true)]
async fn watch_that_keeps_ending_is_not_reopened_in_a_loop() {
    let mock = Mock::default();
    mock.script("watch", (0..1000).map(|_| Step::Messages(vec![started("a")], None)));
    let mut watch = watch(&mock, None);
    let begun = now();
    while begun.elapsed() < 20 * SECOND {
        watch.next().await.unwrap().ok();
    }
    assert!(mock.count("watch") < 50, "{}", mock.count("watch"));
}

#[tokio::test(start_paused = true)]
async fn watch_that_is_refused_for_good_is_over() {
    let mock = Mock::default();
    mock.script("watch", [Step::Fail(refusal(Code::InvalidArgument, "INVALID_FIELD"))]);
    let mut watch = watch(&mock, None);
    assert_eq!(watch.next().await.unwrap().unwrap_err().reason(), Some(&Reason::InvalidField));
    assert!(watch.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn watcher_hears_of_a_long_outage_and_may_go_on() {
    let mock = Mock::default();
    let network = Network::new(&mock);
    network.refuse(60);
    let client = network.client(Coordinator::builder().overall_timeout(10 * SECOND));
    let mut watch = client.watch(&[WatchFilter::key("k")], None);
    assert!(watch.next().await.unwrap().unwrap_err().is_outage());
    mock.script("watch", [Step::Messages(vec![started("a")], None)]);
    network.refuse(0);
    assert_eq!(watch.next().await.unwrap().unwrap().event, WatchEvent::Started);
}
