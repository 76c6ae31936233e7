//! How many may do what at once: who is over a limit is told so at once, and places come back.

use crate::harness::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

fn assert_limited<T: std::fmt::Debug>(result: Result<T, Status>, limit: &str) {
    let status = assert_refused(result, Code::ResourceExhausted, "LIMIT_REACHED");
    assert!(refusal(&status).has_retry_info);
    assert_eq!(metadata(&status, "limit").as_deref(), Some(limit));
}

#[tokio::test]
async fn calls_over_the_limit_are_refused_and_those_that_wait_keep_nobody_out() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.limits.concurrent_calls = 2).await;
    let page = entry("news");
    let render = node.grant(&page).await;
    let others = [node.grant(&entry("one")).await, node.grant(&entry("other")).await];
    let waiters: Vec<_> = (0..5)
        .map(|_| {
            let (mut client, request) = (node.client(), acquire_waiting(&page, secs(60)));
            tokio::spawn(async move { client.acquire_lease(request).await })
        })
        .collect();
    until(async || node.engine.stats().waiters > 0).await;
    let reads = node.faults.hold(Operation::EntryRead);
    let calls: Vec<_> = (0..2)
        .map(|at| {
            let (mut client, request) = (node.client(), lookup(&entry(&format!("cold {at}"))));
            tokio::spawn(async move { client.lookup(request).await })
        })
        .collect();
    reads.arrived(2).await;
    assert_limited(node.lookup(lookup(&page)).await, "2 concurrent calls");
    // Those of renders are counted apart.
    let puts = node.faults.hold(Operation::Put);
    let commits = others.map(|render| {
        let mut client = node.client();
        tokio::spawn(async move { client.commit_pointer(render.page("html")).await })
    });
    puts.arrived(2).await;
    assert_limited(node.commit(render.page("html")).await, "2 concurrent calls of renders");
    reads.open();
    puts.open();
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    for commit in commits {
        soon(commit).await.unwrap().unwrap();
    }
    node.commit_fresh(render.page("html")).await;
    for waiter in waiters {
        // Of those that came all at once, some may have been over the limit before they waited.
        if let Err(status) = soon(waiter).await.unwrap() {
            assert_limited(Err::<(), _>(status), "2 concurrent calls");
        }
    }
}

#[tokio::test]
async fn one_stream_has_no_more_lookups_in_flight_than_its_limit() {
    let world = World::new();
    let node = world
        .start_with(|settings, _| {
            settings.limits.lookups_per_stream = 3;
            settings.limits.lookup_streams = 1;
        })
        .await;
    let reads = node.faults.hold(Operation::EntryRead);
    let (questions, stream) = mpsc::channel(16);
    let mut answers =
        soon(node.client().lookup_stream(ReceiverStream::new(stream))).await.unwrap().into_inner();
    for id in 0..10 {
        let lookup = Some(lookup(&entry(&format!("cold {id}"))));
        questions.send(v1::LookupStreamRequest { id, lookup, timeout: None }).await.unwrap();
    }
    reads.arrived(3).await;
    let second = soon(node.client().lookup_stream(tokio_stream::iter([]))).await;
    assert_limited(second.map(drop), "1 lookup streams");
    assert_eq!(node.counts().entry_reads, 3);
    reads.open();
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(soon(answers.message()).await.unwrap().unwrap().id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..10).collect::<Vec<_>>());
    drop((questions, answers));
    until(async || node.client().lookup_stream(tokio_stream::iter([])).await.is_ok()).await;
}

#[tokio::test]
async fn a_lookup_on_a_stream_has_a_deadline_of_its_own() {
    let world = World::new();
    let node = world.start().await;
    let reads = node.faults.hold(Operation::EntryRead);
    let ask = |id, timeout: Duration| v1::LookupStreamRequest {
        id,
        lookup: Some(lookup(&entry(&format!("cold {id}")))),
        timeout: Some(wire(timeout)),
    };
    let requests = tokio_stream::iter([ask(1, ms(50)), ask(2, secs(50))]);
    let mut answers = soon(node.client().lookup_stream(requests)).await.unwrap().into_inner();
    let late = soon(answers.message()).await.unwrap().unwrap();
    let Some(v1::lookup_stream_response::Result::Error(error)) = late.result else { panic!("{late:?}") };
    assert_eq!((late.id, error.code), (1, Code::DeadlineExceeded as i32));
    reads.open();
    assert_eq!(soon(answers.message()).await.unwrap().unwrap().id, 2);
    assert!(soon(answers.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn uploads_in_progress_share_a_bounded_number_of_bytes() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.limits.upload_bytes = 3 << 20).await;
    let (one, other) = (node.grant(&entry("one")).await, node.grant(&entry("other")).await);
    let body = vec![b'x'; 2 << 20];
    let puts = node.faults.hold(Operation::Put);
    let (mut client, parts) = (node.client(), upload_parts(&one, v1::BodyKind::Html, &body));
    let first = tokio::spawn(async move { client.upload_body(tokio_stream::iter(parts)).await });
    puts.arrived(1).await;
    let second = node.upload(upload_parts(&other, v1::BodyKind::Html, &body)).await;
    assert_limited(second, &format!("{} bytes of uploads and commits in progress", 3 << 20));
    puts.open();
    soon(first).await.unwrap().unwrap();
    node.upload(upload_parts(&other, v1::BodyKind::Html, &body)).await.unwrap();
}

#[tokio::test]
async fn bodies_within_commits_count_as_those_of_uploads_do() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.limits.upload_bytes = 10).await;
    let render = node.grant(&entry("news")).await;
    let over = v1::CommitPointerRequest { sidecar: inline("{12345}"), ..render.page("html") };
    assert_limited(node.commit(over).await, "10 bytes of uploads and commits in progress");
    node.commit_fresh(v1::CommitPointerRequest { sidecar: inline("{1234}"), ..render.page("html") }).await;
}

#[tokio::test]
async fn uploads_that_say_nothing_keep_nobody_out_and_are_cut_off() {
    let world = World::new();
    let node = world
        .start_with(|settings, _| {
            settings.limits.concurrent_calls = 1;
            settings.limits.uploads = 2;
            settings.limits.stall_timeout = secs(1);
        })
        .await;
    let silent: Vec<_> = (0..2)
        .map(|_| {
            let mut client = node.client();
            tokio::spawn(async move {
                let mut request = Request::new(tokio_stream::pending());
                request.metadata_mut().insert("grpc-timeout", "99999999H".parse().expect("a value"));
                client.upload_body(request).await
            })
        })
        .collect();
    let render = node.grant(&entry("news")).await;
    let upload = async || node.upload(upload_parts(&render, v1::BodyKind::Html, b"html")).await;
    until(async || upload().await.is_err()).await;
    assert!(node.lookup(lookup(&entry("other"))).await.is_ok());
    for call in silent {
        assert_refused(soon(call).await.unwrap(), Code::DeadlineExceeded, "DEADLINE");
    }
    upload().await.unwrap();
}

#[tokio::test]
async fn bodies_on_their_way_to_readers_that_stall_are_bounded_and_let_go() {
    let world = World::new();
    let node = world
        .start_with(|settings, _| {
            settings.limits.streamed_bytes = 3 << 20;
            settings.limits.stall_timeout = secs(1);
        })
        .await;
    let mut stalled = Vec::new();
    for key in ["one", "two", "three"] {
        node.publish(&entry(key), &format!("{key}{}", "x".repeat((1 << 20) - 5))).await;
        // However many read the same body, it is there once.
        for _ in 0..3 {
            let mut client = node.narrow_client().await;
            let mut stream = client.serve_page(serve(&entry(key))).await.unwrap().into_inner();
            stream.message().await.unwrap().expect("its head");
            stalled.push((client, stream));
        }
    }
    let page = entry("news");
    node.publish(&page, &"x".repeat(1 << 20)).await;
    assert_limited(node.page(serve(&page)).await, &format!("{} bytes of bodies being streamed", 3 << 20));
    // What they did not read is let go, and then there is room for others.
    until(async || node.page(serve(&page)).await.is_ok()).await;
    let mut let_go = 0;
    for (_client, mut stream) in stalled {
        let end = loop {
            match soon(stream.message()).await {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        if let Err(status) = end {
            assert_refused(Err::<(), _>(status), Code::DeadlineExceeded, "DEADLINE");
            let_go += 1;
        }
    }
    assert!(let_go >= 3, "all readers of at least one body, not {let_go}");
    let counted = shown(&node, "streams_let_go_total{method=\"ServePage\"}");
    assert!(counted >= Some(let_go), "{let_go} were told, of {counted:?}");
}

#[tokio::test]
async fn what_is_remembered_of_entries_is_bounded_in_bytes() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.memory.entry_bytes = 256 * 1024).await;
    let header = |value: usize| v1::NameValue { name: format!("x-{value}"), value: "v".repeat(2000) };
    let metadata = v1::PageMetadata { headers: (0..4).map(header).collect(), ..Default::default() };
    for at in 0..40 {
        node.publish_with(&entry(&format!("{at}")), "html", metadata.clone()).await;
        assert!(node.engine.stats().entry_bytes <= 256 * 1024);
    }
    let stats = node.engine.stats();
    assert!(stats.entries < 30, "some 10 KB each, but {} are remembered", stats.entries);
    assert!(stats.entries > 5, "there is room for more than {}", stats.entries);
    // The others are still served.
    for at in 0..40 {
        assert!(node.seen(&entry(&format!("{at}"))).await.is_fresh());
    }
}
