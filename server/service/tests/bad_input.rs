//! Input that is wrong is refused with the field at fault, before anything is written.

mod raw;
mod tables;

use crate::harness::*;
use raw::{raw_stream, raw_unary};
use tables::{bad_durations, bad_entries, bad_ids, bad_pages, bad_scopes, default_lease, fields};

/// That every request is refused, with the field, and that nothing was written meanwhile.
async fn refused<Q: Clone, R>(
    node: &Coordinator,
    table: Vec<(Q, String)>,
    mut call: impl AsyncFnMut(Q) -> Result<R, Status>,
) {
    let before = node.counts();
    for (at, (request, field)) in table.into_iter().enumerate() {
        let Err(status) = call(request).await else { panic!("row {at} was accepted; {field} is wrong") };
        let expected = Refusal {
            code: Code::InvalidArgument,
            reason: "INVALID_FIELD".to_owned(),
            field: Some(field),
            has_retry_info: false,
        };
        assert_eq!(refusal(&status), expected, "row {at}: {status:?}");
        assert!(status.message().starts_with(expected.field.as_deref().unwrap()), "{}", status.message());
    }
    let counts = node.counts().since(before);
    assert_eq!((counts.swaps, counts.appends, counts.puts, counts.deletes), (0, 0, 0, 0));
}

/// A request for each bad entry.
fn with_entries<Q>(request: impl Fn(Option<v1::EntryRef>) -> Q) -> Vec<(Q, String)> {
    bad_entries().into_iter().map(|(entry, field)| (request(entry), field)).collect()
}

const BAD_TOKENS: [&str; 6] = ["garbage", "c1-", "c1--1", "c1-1x", "c1-99999999999999999999999", "C1-1"];

fn held(entry: Option<v1::EntryRef>) -> (Option<v1::EntryRef>, Option<v1::LeaseRef>) {
    (entry, Some(default_lease()))
}

fn bad_leases() -> Vec<(Option<v1::LeaseRef>, String)> {
    let mut table: Vec<_> = bad_ids()
        .into_iter()
        .map(|request_id| {
            (Some(v1::LeaseRef { request_id, ..default_lease() }), "lease.request_id".to_owned())
        })
        .collect();
    table.push((Some(v1::LeaseRef { generation: 0, ..default_lease() }), "lease.generation".to_owned()));
    table.push((None, "lease".to_owned()));
    table
}

#[tokio::test]
async fn lookup() {
    let world = World::new();
    let node = world.start().await;
    let good = || crate::harness::lookup(&entry("k"));
    let mut table = with_entries(|entry| v1::LookupRequest { entry, ..good() });
    table.push((v1::LookupRequest { consistency: 99, ..good() }, "consistency".to_owned()));
    table.push((v1::LookupRequest { body: -1, ..good() }, "body".to_owned()));
    for token in BAD_TOKENS {
        let request = v1::LookupRequest { consistency_token: token.to_owned(), ..good() };
        table.push((request, "consistency_token".to_owned()));
    }
    refused(&node, table, async |request| node.lookup(request).await).await;
    assert!(node.lookup(good()).await.is_ok());
}

#[tokio::test]
async fn lookup_on_a_stream() {
    use v1::lookup_stream_response::Result as Answer;
    let world = World::new();
    let node = world.start().await;
    let good = || crate::harness::lookup(&entry("k"));
    let ask = |lookup, timeout| v1::LookupStreamRequest { id: 7, lookup, timeout };
    let mut table = with_entries(|entry| ask(Some(v1::LookupRequest { entry, ..good() }), None));
    table.push((ask(None, None), "lookup".to_owned()));
    table.extend(bad_durations().map(|timeout| (ask(Some(good()), Some(timeout)), "timeout".to_owned())));
    refused(&node, table, async |request| {
        let answers = soon(node.client().lookup_stream(tokio_stream::iter([request]))).await?;
        let answer = soon(answers.into_inner().message()).await?.expect("an answer");
        assert_eq!(answer.id, 7);
        match answer.result.expect("a result") {
            Answer::Response(response) => Ok(response),
            Answer::Error(error) => {
                Err(Status::with_details(error.code.into(), error.message, error.status_details))
            }
        }
    })
    .await;
}

#[tokio::test]
async fn acquire_lease() {
    let world = World::new();
    let node = world.start().await;
    let good = || acquire(&entry("k"));
    let mut table = with_entries(|entry| v1::AcquireLeaseRequest { entry, ..good() });
    for request_id in bad_ids() {
        table.push((v1::AcquireLeaseRequest { request_id, ..good() }, "request_id".to_owned()));
    }
    for owner in ["".to_owned(), " ".to_owned(), "a\nb".to_owned(), "o".repeat(257)] {
        table.push((v1::AcquireLeaseRequest { owner, ..good() }, "owner".to_owned()));
    }
    for ttl in bad_durations().chain([wire(ms(0)), wire(ms(99)), wire(secs(301)), wire(Duration::MAX / 4)]) {
        table.push((v1::AcquireLeaseRequest { ttl: Some(ttl), ..good() }, "ttl".to_owned()));
    }
    for wait in bad_durations() {
        table.push((v1::AcquireLeaseRequest { wait: Some(wait), ..good() }, "wait".to_owned()));
    }
    for token in BAD_TOKENS {
        let request = v1::AcquireLeaseRequest { consistency_token: token.to_owned(), ..good() };
        table.push((request, "consistency_token".to_owned()));
    }
    table.push((v1::AcquireLeaseRequest { body: 99, ..good() }, "body".to_owned()));
    refused(&node, table, async |request| node.acquire(request).await).await;
    // A wait of an age is cut down, not refused.
    let wait = Some(prost_types::Duration { seconds: i64::MAX, nanos: 999_999_999 });
    node.grant_to(v1::AcquireLeaseRequest { wait, ..good() }).await;
}

#[tokio::test]
async fn renew_lease_and_release_lease() {
    let world = World::new();
    let node = world.start().await;
    let renewal = |(entry, lease)| v1::RenewLeaseRequest { entry, lease, ttl: None };
    let mut table = with_entries(|entry| renewal(held(entry)));
    table.extend(bad_leases().into_iter().map(|(lease, field)| (renewal((Some(entry("k")), lease)), field)));
    for ttl in bad_durations().chain([wire(ms(99)), wire(secs(301))]) {
        let request = v1::RenewLeaseRequest { ttl: Some(ttl), ..renewal(held(Some(entry("k")))) };
        table.push((request, "ttl".to_owned()));
    }
    refused(&node, table, async |request| node.renew(request).await).await;

    let release = |(entry, lease)| v1::ReleaseLeaseRequest { entry, lease, failure: None };
    let mut table = with_entries(|entry| release(held(entry)));
    table.extend(bad_leases().into_iter().map(|(lease, field)| (release((Some(entry("k")), lease)), field)));
    for failure in ["", " \t"] {
        let failure = Some(failure.to_owned());
        let request = v1::ReleaseLeaseRequest { failure, ..release(held(Some(entry("k")))) };
        table.push((request, "failure".to_owned()));
    }
    refused(&node, table, async |request| node.release(request).await).await;
    // What is only too long, or on several lines, is made to fit.
    let render = node.grant(&entry("k")).await;
    node.release(render.failure(&format!("one\ntwo\0{}", "\u{e9}".repeat(1000)))).await.unwrap();
    let Took::BackingOff { reason, .. } = node.took(acquire(&entry("k"))).await else { panic!("no backoff") };
    assert!(reason.starts_with("one two \u{e9}") && reason.len() <= 512, "{reason:?}");
}

#[tokio::test]
async fn commit_pointer() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.limits.body_bytes = 1000).await;
    let render = node.grant(&entry("k")).await;
    let good = || render.page("html");
    let mut table = with_entries(|entry| v1::CommitPointerRequest { entry, ..good() });
    for (lease, field) in bad_leases() {
        table.push((v1::CommitPointerRequest { lease, ..good() }, field));
    }
    table.push((v1::CommitPointerRequest { html: None, ..good() }, "html".to_owned()));
    for (source, field) in [
        (Some(v1::BodySource::default()), ""),
        (inline("x".repeat(1001)), ".inline"),
        (stored("", 4), ".stored.digest"),
        (stored(vec![0; 31], 4), ".stored.digest"),
        (stored(vec![0; 33], 4), ".stored.digest"),
        // What stands for a digest that is not known.
        (stored(vec![0; 32], 4), ".stored.digest"),
    ] {
        let html = v1::CommitPointerRequest { html: source.clone(), ..good() };
        table.push((html, format!("html{field}")));
        table.push((v1::CommitPointerRequest { sidecar: source, ..good() }, format!("sidecar{field}")));
    }
    let source =
        |name: &str| inline("body").map(|source| v1::BodySource { object_name: name.to_owned(), ..source });
    for (html, sidecar) in bad_names() {
        let request = v1::CommitPointerRequest { html: source(&html), ..good() };
        table.push((request, "html.object_name".to_owned()));
        let request = v1::CommitPointerRequest { sidecar: source(&sidecar), ..good() };
        table.push((request, "sidecar.object_name".to_owned()));
    }
    table.push((v1::CommitPointerRequest { metadata: None, ..good() }, "metadata".to_owned()));
    for (metadata, field) in bad_pages() {
        let request = v1::CommitPointerRequest { metadata: Some(metadata), ..good() };
        table.push((request, format!("metadata.{field}")));
    }
    refused(&node, table, async |request| node.commit(request).await).await;
    assert_eq!(node.seen(&entry("k")).await, Seen::Missing(v1::MissingReason::NeverRendered));
    node.commit_fresh(v1::CommitPointerRequest { html: inline("x".repeat(1000)), ..good() }).await;
}

/// What neither HTML nor a sidecar can be called.
fn bad_names() -> Vec<(String, String)> {
    let mut names = vec![
        ("a.hydration.json".to_owned(), "a.html".to_owned()),
        ("a".to_owned(), "a.json".to_owned()),
        ("a.html/".to_owned(), "a.hydration.json/".to_owned()),
    ];
    for stem in ["/a", "a//b", "../a", "a/./b", "a\\b", "a\n", &"x".repeat(512)] {
        names.push((format!("{stem}.html"), format!("{stem}.hydration.json")));
    }
    names
}

#[tokio::test]
async fn a_commit_whose_body_is_not_there_is_refused_and_changes_nothing() {
    let world = World::new();
    let node = world.start().await;
    let render = node.grant(&entry("k")).await;
    let missing = v1::CommitPointerRequest { html: stored(sha256(b"html"), 4), ..render.page("") };
    let before = node.counts();
    let status =
        assert_refused(node.commit(missing.clone()).await, Code::FailedPrecondition, "OBJECT_MISSING");
    assert_eq!(metadata(&status, "object").as_ref(), Some(&render.grant.html_object));
    assert_eq!(node.counts().since(before).swaps, 0);
    let sidecar = v1::CommitPointerRequest { sidecar: stored(sha256(b"{}"), 2), ..render.page("html") };
    let status = assert_refused(node.commit(sidecar).await, Code::FailedPrecondition, "OBJECT_MISSING");
    assert_eq!(metadata(&status, "object").as_ref(), Some(&render.grant.sidecar_object));
    // There, and with other bytes than those that are meant.
    node.upload(upload_parts(&render, v1::BodyKind::Html, b"other")).await.unwrap();
    assert_refused(node.commit(missing).await, Code::FailedPrecondition, "OBJECT_CONFLICT");
    assert_eq!(node.counts().since(before).swaps, 0);
    let html = stored(sha256(b"other"), 5);
    node.commit_fresh(v1::CommitPointerRequest { html, ..render.page("") }).await;
}

#[tokio::test]
async fn upload_body() {
    use v1::upload_body_request::Part;
    let world = World::new();
    let node = world.start_with(|settings, _| settings.limits.body_bytes = 1000).await;
    let render = node.grant(&entry("k")).await;
    let head = || v1::UploadHead {
        entry: Some(entry("k")),
        lease: Some(render.lease.clone()),
        kind: v1::BodyKind::Html.into(),
        ..Default::default()
    };
    let part = |part| v1::UploadBodyRequest { part: Some(part) };
    let chunk = |bytes: usize| part(Part::Chunk(vec![b'x'; bytes].into()));
    let start = |head| vec![part(Part::Head(head)), chunk(4)];
    let mut table = with_entries(|entry| start(v1::UploadHead { entry, ..head() }));
    for (lease, field) in bad_leases() {
        table.push((start(v1::UploadHead { lease, ..head() }), field));
    }
    for kind in [0, 3, -1] {
        table.push((start(v1::UploadHead { kind, ..head() }), "kind".to_owned()));
    }
    for content_type in ["a\nb".to_owned(), "t".repeat(257)] {
        table.push((start(v1::UploadHead { content_type, ..head() }), "content_type".to_owned()));
    }
    for (html, sidecar) in bad_names() {
        for (kind, object_name) in [(v1::BodyKind::Html, html), (v1::BodyKind::Sidecar, sidecar)] {
            let head = v1::UploadHead { kind: kind.into(), object_name, ..head() };
            table.push((start(head), "object_name".to_owned()));
        }
    }
    let mut table: Vec<_> =
        table.into_iter().map(|(parts, field)| (parts, format!("head.{field}"))).collect();
    table.push((vec![], "head".to_owned()));
    table.push((vec![chunk(4)], "head".to_owned()));
    table.push((vec![v1::UploadBodyRequest { part: None }], "head".to_owned()));
    table.push((vec![part(Part::Head(head())), part(Part::Head(head()))], "head".to_owned()));
    table.push((vec![part(Part::Head(head())), v1::UploadBodyRequest { part: None }], "chunk".to_owned()));
    table.push((vec![part(Part::Head(head())), chunk(600), chunk(401)], "chunk".to_owned()));
    refused(&node, table, async |parts| node.upload(parts).await).await;
    node.upload(vec![part(Part::Head(head())), chunk(600), chunk(0), chunk(400)]).await.unwrap();
}

#[tokio::test]
async fn serve_page_serve_sidecar_and_serve_object() {
    let world = World::new();
    let node = world.start().await;
    let good = || serve(&entry("k"));
    let mut table = with_entries(|entry| v1::ServePageRequest { entry, ..good() });
    table.push((v1::ServePageRequest { consistency: 3, ..good() }, "consistency".to_owned()));
    for token in BAD_TOKENS {
        let request = v1::ServePageRequest { consistency_token: token.to_owned(), ..good() };
        table.push((request, "consistency_token".to_owned()));
    }
    refused(&node, table, async |request| node.page(request).await).await;
    let good = || serve_sidecar(&entry("k"), "token");
    let mut table = with_entries(|entry| v1::ServeSidecarRequest { entry, ..good() });
    for token in BAD_TOKENS {
        let request = v1::ServeSidecarRequest { consistency_token: token.to_owned(), ..good() };
        table.push((request, "consistency_token".to_owned()));
    }
    refused(&node, table, async |request| soon(node.client().serve_sidecar(request)).await).await;
    let mut table = Vec::new();
    for token in BAD_TOKENS {
        let good = serve_object(TENANT, "a.html");
        let request = v1::ServeObjectRequest { consistency_token: token.to_owned(), ..good };
        table.push((request, "consistency_token".to_owned()));
    }
    refused(&node, table, async |request| soon(node.client().serve_object(request)).await).await;
}

#[tokio::test]
async fn invalidate() {
    let world = World::new();
    let node = world.start().await;
    let good = || invalidation([tag("t")]);
    let mut table = Vec::new();
    for request_id in bad_ids() {
        table.push((v1::InvalidateRequest { request_id, ..good() }, "request_id".to_owned()));
    }
    for scopes in [vec![], vec![tag("t"); 101]] {
        table.push((v1::InvalidateRequest { scopes, ..good() }, "scopes".to_owned()));
    }
    for (scope, field) in bad_scopes() {
        let request = v1::InvalidateRequest { scopes: vec![tag("t"), scope], ..good() };
        table.push((request, format!("scopes[1].{field}")));
    }
    for depth in [3, -1] {
        table.push((v1::InvalidateRequest { depth, ..good() }, "depth".to_owned()));
    }
    refused(&node, table, async |request| node.invalidate(request).await).await;
    node.invalidate(v1::InvalidateRequest { scopes: vec![tag("t"); 100], ..good() }).await.unwrap();
}

#[tokio::test]
async fn watch() {
    use v1::watch_filter::Filter;
    let world = World::new();
    let node = world.start().await;
    let filter = |tenant: &str, filter| v1::WatchFilter { tenant: tenant.to_owned(), filter };
    let all = || filter("", Some(Filter::WholeTenant(v1::WholeTenant {})));
    let good = || v1::WatchRequest { filters: vec![all()], resume_token: String::new() };
    let mut table =
        fields("filters", [vec![], vec![all(); 101]], |filters| v1::WatchRequest { filters, ..good() });
    for (bad, field) in [
        (filter("", None), "filter"),
        (filter("a\u{7f}", all().filter), "tenant"),
        (filter(&"t".repeat(129), all().filter), "tenant"),
        (filter("", Some(Filter::Tag(String::new()))), "tag"),
        (filter("", Some(Filter::Tag("t".repeat(257)))), "tag"),
        (filter("", Some(Filter::Key("k\n".to_owned()))), "key"),
    ] {
        table.push((v1::WatchRequest { filters: vec![all(), bad], ..good() }, format!("filters[1].{field}")));
    }
    for token in ["garbage", "w1", "w1-0-0", "w1-0123456789abcdef0123456789abcdef-", "c1-1"] {
        let request = v1::WatchRequest { resume_token: token.to_owned(), ..good() };
        table.push((request, "resume_token".to_owned()));
    }
    refused(&node, table, async |request| soon(node.client().watch(request)).await).await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_connection_lives_on() {
    let world = World::new();
    let node = world.start().await;
    let render = node.grant(&entry("k")).await;
    let before = node.counts();
    let status = node.commit(render.page(&"x".repeat(5 << 20))).await.expect_err("over the limit");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    let counts = node.counts().since(before);
    assert_eq!((counts.swaps, counts.puts), (0, 0));
    node.commit_fresh(render.page("html")).await;
}

#[tokio::test]
async fn bytes_that_are_no_message_get_an_error_and_harm_nobody() {
    let world = World::new();
    let node = world.start().await;
    // EntryRef { key: not UTF-8 } in the field `entry` of every request.
    let not_utf8 = [0x0a, 0x04, 0x1a, 0x02, 0xff, 0xfe].as_slice();
    // A length that runs over the end, a wire type that is none, a number that never ends.
    for bytes in [not_utf8, &[0x0a, 0x7f], &[0x0f], &[0xff; 12]] {
        for method in [
            "Lookup",
            "AcquireLease",
            "RenewLease",
            "ReleaseLease",
            "CommitPointer",
            "ServePage",
            "ServeSidecar",
        ] {
            let status = raw_unary(node.channel(), method, bytes).await.expect_err(method);
            assert!(matches!(status.code(), Code::Internal | Code::InvalidArgument), "{method}: {status:?}");
            assert!(!status.message().is_empty());
        }
        let within = [&[0x12, u8::try_from(bytes.len()).unwrap()], bytes].concat();
        for (method, bytes) in [("LookupStream", &within[..]), ("UploadBody", bytes)] {
            let status = raw_stream(node.channel(), method, bytes).await.expect_err(method);
            assert!(
                matches!(status.code(), Code::Internal | Code::InvalidArgument),
                "{method} {bytes:?}: {status:?}"
            );
        }
    }
    let status = raw_unary(node.channel(), "NoSuchMethod", &[]).await.expect_err("no such method");
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(node.lookup(crate::harness::lookup(&entry("k"))).await.is_ok());
}
