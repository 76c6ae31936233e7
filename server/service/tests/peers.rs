//! What peers may make a coordinator keep: requests that do not end, answers that nobody reads.

use crate::harness::*;
use bytes::Bytes;
use futures::future::join_all;
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use leasehold_service::{server::TransportSettings, settings::Settings};
use prost::Message;
use std::pin::pin;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_client::ServerReflectionClient};

const LOOKUP: &str = "/leasehold.v1.CoordinatorService/Lookup";

/// A peer that does what no library of gRPC would.
struct Peer {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Peer {
    /// One that lets every stream of answers take so many bytes before it reads.
    async fn connect(node: &Coordinator, window: u32) -> Self {
        let stream = TcpStream::connect(node.address()).await.expect("a connection");
        let (requests, connection) = handshake(stream, window).await;
        Self { requests, connection: tokio::spawn(connection) }
    }

    async fn call(&mut self, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        call(&mut self.requests, path).await
    }

    /// A whole call, whose answer is not read.
    async fn ask(&mut self, message: &impl Message) -> http::Response<RecvStream> {
        let (answer, mut request) = self.call(LOOKUP).await;
        request.send_data(framed(message), true).unwrap();
        soon(answer).await.unwrap()
    }

    /// Waits until the coordinator closes it.
    async fn close(self) {
        drop(self.requests);
        // With an error or without: what was in flight is gone.
        let _ = soon(self.connection).await.unwrap();
    }
}

async fn handshake(
    stream: TcpStream,
    window: u32,
) -> (SendRequest<Bytes>, h2::client::Connection<TcpStream, Bytes>) {
    let mut client = h2::client::Builder::new();
    client.initial_window_size(window).initial_connection_window_size((1 << 31) - 1);
    let (requests, connection) = soon(client.handshake(stream)).await.unwrap();
    (requests, connection)
}

async fn call(requests: &mut SendRequest<Bytes>, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
    let request = http::Request::post(format!("http://coordinator{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let mut requests = soon(requests.clone().ready()).await.unwrap();
    requests.send_request(request.body(()).unwrap(), false).unwrap()
}

fn framed(message: &impl Message) -> Bytes {
    let length = u32::try_from(message.encoded_len()).unwrap();
    [&[0][..], &length.to_be_bytes(), &message.encode_to_vec()].concat().into()
}

/// The beginning of a message of this length.
fn part(length: usize, bytes: usize) -> Bytes {
    let length = u32::try_from(length).unwrap();
    [&[0][..], &length.to_be_bytes(), &vec![0; bytes - 5]].concat().into()
}

/// The status of a call that failed before it answered.
async fn refused(answer: ResponseFuture) -> Status {
    let answer = soon(answer).await.unwrap();
    Status::from_header_map(answer.headers()).expect("a status")
}

/// The status at the end of an answer of which nothing else came.
async fn ended(answer: http::Response<RecvStream>) -> Status {
    let mut body = answer.into_body();
    let trailers = soon(body.trailers()).await.unwrap().expect("trailers");
    Status::from_header_map(&trailers).expect("a status")
}

fn assert_limited(status: Status, limit: &str) {
    let status = assert_refused(Err::<(), _>(status), Code::ResourceExhausted, "LIMIT_REACHED");
    assert!(refusal(&status).has_retry_info);
    assert_eq!(metadata(&status, "limit").as_deref(), Some(limit));
}

fn assert_late(status: Status) {
    assert_refused(Err::<(), _>(status), Code::DeadlineExceeded, "DEADLINE");
}

const MESSAGE: usize = 60_000;
/// What a connection has for itself, and is not counted.
const OWN_BYTES: usize = 16 * 1024;

/// So that a connection may have little.
fn narrow(settings: &mut Settings, stall_timeout: Duration) {
    settings.limits.message_bytes = 64 * 1024;
    settings.limits.inline_body_bytes = 32 * 1024;
    settings.limits.stall_timeout = stall_timeout;
}

#[tokio::test]
async fn requests_that_do_not_end_are_bounded_and_let_go() {
    let world = World::new();
    let node = world
        .start_with(|settings, transport| {
            narrow(settings, secs(3600));
            transport.receiving_bytes = 4 * 80_000;
        })
        .await;
    let mut kept = Vec::new();
    for connections in 1..=5 {
        let mut peer = Peer::connect(&node, 1 << 20).await;
        for _ in 0..4 {
            let (answer, mut request) = peer.call(LOOKUP).await;
            request.send_data(part(MESSAGE, 20_000), false).unwrap();
            kept.push((answer, request));
        }
        let kept = connections * (4 * 20_000 - OWN_BYTES);
        until(async || taken(&node, "receiving_bytes") == kept).await;
        let (answer, mut request) = peer.call(LOOKUP).await;
        request.send_data(part(MESSAGE, 1_000), false).unwrap();
        assert_limited(refused(answer).await, "80000 bytes of requests being received on one connection");
    }
    // Nobody else can send much, and small calls are served.
    let mut another = Peer::connect(&node, 1 << 20).await;
    let (answer, mut request) = another.call(LOOKUP).await;
    request.send_data(part(MESSAGE, 20_000), false).unwrap();
    assert_limited(refused(answer).await, "320000 bytes of requests being received");
    assert!(node.lookup(lookup(&entry("news"))).await.is_ok());
    // Reset, they are let go.
    drop(kept);
    until(async || taken(&node, "receiving_bytes") == 0).await;
}

#[tokio::test]
async fn requests_that_take_too_long_are_cut_off() {
    let world = World::new();
    let node = world.start_with(|settings, _| narrow(settings, ms(200))).await;
    let mut peer = Peer::connect(&node, 1 << 20).await;
    let whole = framed(&lookup(&entry("news")));
    let some = part(MESSAGE, 100);
    for (path, sent) in [
        (LOOKUP, Bytes::new()),
        (LOOKUP, some.slice(..3)),
        (LOOKUP, some.clone()),
        // Nobody is called before the end, though the message is whole.
        (LOOKUP, whole),
        ("/grpc.health.v1.Health/Check", Bytes::new()),
        ("/leasehold.v1.CoordinatorService/UploadBody", some),
    ] {
        let (answer, mut request) = peer.call(path).await;
        request.send_data(sent, false).unwrap();
        assert_late(refused(answer).await);
    }
    // Its service ends it without a word about that.
    let (answer, mut request) = peer.call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo").await;
    request.send_data(part(100, 6), false).unwrap();
    ended(soon(answer).await.unwrap()).await;
    until(async || taken(&node, "receiving_bytes") == 0).await;
}

#[tokio::test]
async fn streams_between_whole_messages_are_left_open() {
    let world = World::new();
    let node = world.start_with(|settings, _| narrow(settings, ms(50))).await;
    let mut peer = Peer::connect(&node, 1 << 20).await;
    let (answer, mut request) = peer.call("/leasehold.v1.CoordinatorService/LookupStream").await;
    let mut late = pin!(requests_that_end_late(&node));
    for id in 0..2 {
        let lookup = Some(lookup(&entry("news")));
        request.send_data(framed(&v1::LookupStreamRequest { id, lookup, timeout: None }), false).unwrap();
        if id == 0 {
            // By then the stream would have been cut off as well.
            late.as_mut().await;
        }
    }
    request.send_data(Bytes::new(), true).unwrap();
    let mut body = soon(answer).await.unwrap().into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = soon(body.data()).await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    let status = Status::from_header_map(&soon(body.trailers()).await.unwrap().unwrap()).unwrap();
    assert_eq!(status.code(), Code::Ok, "{status}");
    let second = usize::try_from(u32::from_be_bytes(bytes[1..5].try_into().unwrap())).unwrap() + 5;
    let answer = v1::LookupStreamResponse::decode(&bytes[second + 5..]).unwrap();
    assert_eq!(answer.id, 1);
}

/// Several, one after the other.
async fn requests_that_end_late(node: &Coordinator) {
    let mut peer = Peer::connect(node, 1 << 20).await;
    for _ in 0..3 {
        let (answer, _request) = peer.call(LOOKUP).await;
        assert_late(refused(answer).await);
    }
}

#[tokio::test]
async fn health_and_reflection_take_small_questions_and_few_streams() {
    let world = World::new();
    let node = world.start_with(|_, transport| transport.other_streams = 4).await;
    let check = |length: usize| HealthCheckRequest { service: "x".repeat(length) };
    let mut health = HealthClient::new(node.channel());
    let large = soon(health.check(check(20_000))).await.unwrap_err();
    assert_eq!(large.code(), Code::OutOfRange, "{large}");
    let open = soon(health.watch(check(0))).await.unwrap();
    let over = soon(health.watch(check(0))).await.unwrap_err();
    assert_limited(over, "1 streams of health and reflection on one connection");
    let mut reflection = ServerReflectionClient::new(node.channel());
    let asked = tokio_stream::pending::<ServerReflectionRequest>();
    let over = soon(reflection.server_reflection_info(asked)).await.unwrap_err();
    assert_limited(over, "1 streams of health and reflection on one connection");
    assert!(soon(health.check(check(0))).await.is_ok());
    assert_eq!(taken(&node, "other_streams"), 1);
    drop(open);
    until(async || taken(&node, "other_streams") == 0).await;
    soon(health.watch(check(0))).await.unwrap();
}

/// A page whose answer fits twice into the share of one connection.
async fn publish(node: &Coordinator) -> v1::LookupRequest {
    let page = entry("news");
    node.publish(&page, &"x".repeat(30 * 1024)).await;
    lookup_with_body(&page)
}

/// Where a window is open by a byte, the transport takes the whole piece, and asks for the next.
const WINDOWS: [u32; 2] = [0, 1];

/// Connections whose peers read nothing, until there is no room for one more answer of this page.
async fn exhaust(node: &Coordinator, ask: &v1::LookupRequest, window: u32) -> Vec<Unread> {
    let mut peers = Vec::new();
    loop {
        let mut peer = Peer::connect(node, window).await;
        let before = taken(node, "unread_bytes");
        let mut first = peer.ask(ask).await;
        let over = tokio::select! {
            trailers = first.body_mut().trailers() => trailers.unwrap(),
            () = until(async || taken(node, "unread_bytes") != before) => None,
        };
        if let Some(trailers) = over {
            let status = Status::from_header_map(&trailers).expect("a status");
            assert_limited(status, &format!("{UNREAD_BYTES} bytes of answers not read"));
            return peers;
        }
        // More than its connection has room for.
        let mut kept = vec![first];
        for _ in 0..5 {
            kept.push(peer.ask(ask).await);
        }
        peers.push((peer, kept));
        assert!(peers.len() < 100, "{} unread", taken(node, "unread_bytes"));
    }
}

type Unread = (Peer, Vec<http::Response<RecvStream>>);

const UNREAD_BYTES: usize = 4 * 100 * 1024;

/// For answers that are not read: 100 KiB on one connection.
async fn with_little_room(world: &World, stall_timeout: Duration) -> Coordinator {
    let change = |settings: &mut Settings, transport: &mut TransportSettings| {
        narrow(settings, stall_timeout);
        transport.unread_bytes = UNREAD_BYTES;
    };
    world.start_with(change).await
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded() {
    for window in WINDOWS {
        let world = World::new();
        let node = with_little_room(&world, secs(3600)).await;
        let ask = publish(&node).await;
        let peers = exhaust(&node, &ask, window).await;
        // No connection was given more than half of what it may have, and a piece.
        assert!(peers.len() >= 4, "{}", peers.len());
        assert!(taken(&node, "unread_bytes") <= UNREAD_BYTES);
        let refused = "calls_failed_total{method=\"Lookup\",reason=\"limit_reached\"}";
        assert!(shown(&node, refused) >= Some(1));
        // There is always room for small answers; what was kept is let go with its connection.
        assert!(seen(&node.lookup(lookup(&entry("news"))).await.unwrap()).is_fresh());
        drop(peers);
        until(async || taken(&node, "unread_bytes") == 0).await;
        node.lookup(ask.clone()).await.unwrap();
    }
}

#[tokio::test]
async fn answers_wait_for_those_before_them_where_these_are_read() {
    let world = World::new();
    let node = with_little_room(&world, secs(3600)).await;
    let ask = publish(&node).await;
    // Of one connection, ten times what it may have.
    let answers = join_all((0..40).map(|_| node.lookup(ask.clone()))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    until(async || taken(&node, "unread_bytes") == 0).await;
}

#[tokio::test]
async fn change_whose_answer_has_no_room_is_not_said_to_have_failed() {
    let world = World::new();
    let node = with_little_room(&world, secs(3600)).await;
    let ask = publish(&node).await;
    let _peers = exhaust(&node, &ask, 0).await;
    let mut peer = Peer::connect(&node, 0).await;
    let (answer, mut request) = peer.call("/leasehold.v1.CoordinatorService/AcquireLease").await;
    let acquiring =
        v1::AcquireLeaseRequest { body: v1::BodyDelivery::Inline.into(), ..acquire(&entry("news")) };
    request.send_data(framed(&acquiring), true).unwrap();
    let unknown = ended(soon(answer).await.unwrap()).await;
    assert_refused(Err::<(), _>(unknown), Code::Unavailable, "OUTCOME_UNKNOWN");
}

#[tokio::test]
async fn peer_that_reads_no_answers_loses_its_connection_and_what_was_kept_for_it() {
    for window in WINDOWS {
        let world = World::new();
        let node = with_little_room(&world, ms(100)).await;
        let ask = publish(&node).await;
        let mut peer = Peer::connect(&node, window).await;
        let kept = [peer.ask(&ask).await, peer.ask(&ask).await];
        peer.close().await;
        drop(kept);
        until(async || taken(&node, "unread_bytes") == 0).await;
        assert!(node.lookup(ask).await.is_ok());
    }
}

/// What a stream ends with, when it is read at last.
async fn end_of<T>(mut unread: tonic::Streaming<T>) -> Status {
    loop {
        match soon(unread.message()).await {
            Ok(message) => assert!(message.is_some(), "it has ended as if there were no more"),
            Err(status) => return status,
        }
    }
}

/// So that memory does not answer it.
fn strictly_with_body(page: &v1::EntryRef) -> v1::LookupRequest {
    v1::LookupRequest { consistency: v1::Consistency::Strict.into(), ..lookup_with_body(page) }
}

#[tokio::test]
async fn lookup_stream_that_nobody_reads_is_let_go_with_the_answers_that_were_kept_for_it() {
    const ASKED: usize = 8;
    let world = World::new();
    let node = world.start_with(|settings, _| settings.limits.stall_timeout = secs(1)).await;
    let page = entry("news");
    node.publish(&page, &"x".repeat(40 << 10)).await;
    let reads = node.faults.hold(Operation::EntryRead);
    let (questions, asked) = mpsc::channel(ASKED);
    for id in 0..ASKED as u64 {
        let lookup = Some(strictly_with_body(&page));
        questions.send(v1::LookupStreamRequest { id, lookup, timeout: None }).await.unwrap();
    }
    // The first answer is more than is on its way to whoever does not read.
    let mut narrow = node.narrow_client().await;
    let unread = soon(narrow.lookup_stream(ReceiverStream::new(asked))).await.unwrap().into_inner();
    until(async || taken(&node, "calls") == ASKED).await;
    assert_eq!(taken(&node, "answer_bytes"), ASKED * 2048);
    reads.open();
    until(async || taken(&node, "calls") == 0).await;
    for what in ["streamed_bodies", "streamed_bytes", "answer_bytes", "lookup_streams"] {
        until(async || taken(&node, what) == 0).await;
    }
    assert_late(end_of(unread).await);
    drop(questions);
}

#[tokio::test]
async fn lookups_that_failed_are_counted_until_somebody_reads_that_they_did() {
    const ASKED: usize = 8;
    let world = World::new();
    // No body has room among those that are on their way.
    let node = world
        .start_with(|settings, _| {
            settings.limits.streamed_bytes = 1;
            settings.limits.stall_timeout = secs(3600);
        })
        .await;
    let page = entry("news");
    node.publish(&page, "html").await;
    let reads = node.faults.hold(Operation::EntryRead);
    let mut deaf = node.client_that_takes(0).await;
    let (questions, asked) = mpsc::channel(ASKED);
    let unread = soon(deaf.lookup_stream(ReceiverStream::new(asked))).await.unwrap();
    let ask = async |lookup| {
        questions.send(v1::LookupStreamRequest { id: 0, lookup, timeout: None }).await.unwrap();
    };
    for _ in 0..ASKED {
        ask(Some(strictly_with_body(&page))).await;
    }
    until(async || taken(&node, "calls") == ASKED).await;
    // Answered at once, and stuck: from here on nobody asks the stream for more.
    ask(None).await;
    let failed =
        |reason| shown(&node, &format!("calls_failed_total{{method=\"LookupStream\",reason=\"{reason}\"}}"));
    until(async || failed("invalid_field") == Some(1)).await;
    reads.open();
    until(async || failed("limit_reached") == Some(ASKED)).await;
    until(async || taken(&node, "calls") == 0).await;
    assert_eq!(taken(&node, "answer_bytes"), ASKED * 2048);
    drop((unread, questions));
    until(async || taken(&node, "answer_bytes") == 0).await;
}

#[tokio::test]
async fn watch_that_nobody_reads_is_let_go_and_one_that_is_read_goes_on() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.limits.stall_timeout = secs(1)).await;
    let filter = v1::watch_filter::Filter::WholeTenant(v1::WholeTenant {});
    let filters = vec![v1::WatchFilter { tenant: TENANT.to_owned(), filter: Some(filter) }];
    let request = v1::WatchRequest { filters, resume_token: String::new() };
    let unread = soon(node.narrow_client().await.watch(request.clone())).await.unwrap().into_inner();
    let mut read = soon(node.client().watch(request)).await.unwrap().into_inner();
    let mut next = async || assert!(soon(read.message()).await.unwrap().is_some());
    // That it has begun.
    next().await;
    // The first is more than is on its way to whoever does not read.
    for at in 0..3 {
        let scopes = (0..100).map(|scope| tag(&format!("{at} {scope} {}", "x".repeat(240))));
        node.invalidate(invalidation(scopes.collect::<Vec<_>>())).await.unwrap();
        next().await;
    }
    until(async || taken(&node, "watches") == 1).await;
    assert_late(end_of(unread).await);
    node.publish(&entry("news"), "html").await;
    next().await;
}

#[tokio::test]
async fn peer_that_takes_no_bytes_loses_its_connection_and_what_was_kept_for_it() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.limits.stall_timeout = secs(1)).await;
    let page = entry("news");
    node.publish(&page, &"x".repeat(1 << 20)).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let stream = socket.connect(node.address()).await.unwrap();
    let (mut requests, mut connection) = handshake(stream, (1 << 31) - 1).await;
    // More than fits into what the two systems keep.
    let ask = framed(&lookup_with_body(&page));
    let sending = async {
        let mut calls = Vec::new();
        for _ in 0..40 {
            let (answer, mut request) = call(&mut requests, LOOKUP).await;
            request.send_data(ask.clone(), true).unwrap();
            calls.push(answer);
        }
        until(async || taken(&node, "unread_bytes") > 1 << 20).await;
        calls
    };
    let calls = tokio::select! {
        calls = sending => calls,
        ended = &mut connection => panic!("{ended:?}"),
    };
    // From here on it reads nothing.
    until(async || taken(&node, "unread_bytes") == 0).await;
    drop((calls, connection));
}
