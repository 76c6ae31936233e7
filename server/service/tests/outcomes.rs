//! Every outcome of every call, as the contract has it.

use crate::harness::*;
use leasehold_core::object::ObjectName;
use tokio_stream::StreamExt as _;
use v1::{
    MissingReason, StaleReason, acquire_lease_response::Outcome as Acquired,
    commit_pointer_response::Outcome as Committed, release_lease_response::Outcome as Released,
    renew_lease_response::Outcome as Renewed, serve_page_head::Page as Served,
    upload_body_response::Outcome as Uploaded,
};

fn revalidated_after(revalidate: Duration) -> v1::PageMetadata {
    v1::PageMetadata { revalidate: Some(wire(revalidate)), ..Default::default() }
}

#[tokio::test]
async fn a_page_is_missing_then_fresh_then_stale_by_age_then_forgotten() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.rules.retention = secs(86_400)).await;
    let page = entry("news");
    assert_eq!(node.seen(&page).await, Seen::Missing(MissingReason::NeverRendered));
    let generation = node.publish_with(&page, "html", revalidated_after(secs(60))).await;
    assert_eq!(node.seen(&page).await, Seen::Fresh(generation));
    world.clock.step(secs(61));
    assert_eq!(node.seen(&page).await, Seen::Stale(generation, StaleReason::Expired));
    world.clock.step(secs(86_400));
    assert_eq!(node.seen(&page).await, Seen::Missing(MissingReason::NeverRendered));
    assert_eq!(node.took(acquire(&page)).await, Took::Granted { generation: generation + 1, previous: None });
}

#[tokio::test]
async fn a_lookup_says_how_old_a_page_is_and_how_long_it_lasts() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start().await;
    let page = entry("news");
    let metadata = v1::PageMetadata {
        stale_while_revalidate: Some(wire(secs(30))),
        stale_if_error: Some(wire(secs(300))),
        ..revalidated_after(secs(60))
    };
    node.publish_with(&page, "html", metadata).await;
    world.clock.step(secs(20));
    until(async || node.seen(&page).await.is_fresh()).await;
    let response = node.lookup(lookup(&page)).await.unwrap();
    let Some(v1::lookup_response::Outcome::Fresh(fresh)) = &response.outcome else { panic!("{response:?}") };
    assert_eq!(unwire(fresh.fresh_for), Some(secs(40)));
    assert_eq!(unwire(fresh.page.as_ref().unwrap().age), Some(secs(20)));
    for (step, revalidate_for, if_error_for) in [(50, 20, 290), (100, 0, 190), (300, 0, 0)] {
        world.clock.step(secs(step));
        let response = node.lookup(lookup(&page)).await.unwrap();
        let Some(v1::lookup_response::Outcome::Stale(stale)) = &response.outcome else {
            panic!("{response:?}")
        };
        assert_eq!(unwire(stale.stale_while_revalidate_for), Some(secs(revalidate_for)));
        assert_eq!(unwire(stale.stale_if_error_for), Some(secs(if_error_for)));
    }
}

#[tokio::test]
async fn what_the_renderer_says_of_its_page_comes_back() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let render = node.grant(&page).await;
    let pair = |name: &str, value: &str| v1::NameValue { name: name.to_owned(), value: value.to_owned() };
    let metadata = v1::PageMetadata {
        status: 404,
        content_type: "text/plain".to_owned(),
        headers: vec![pair("X-One", "1"), pair("link", "</a.css>; rel=preload")],
        etag: "W/\"v1\"".to_owned(),
        revalidate: Some(wire(secs(60))),
        stale_while_revalidate: Some(wire(ms(1500))),
        stale_if_error: Some(wire(secs(0))),
        tags: tags(&["b", "a", "b"]),
        path: "/news/".to_owned(),
        render_time: Some(wire(ms(12))),
    };
    let commit =
        v1::CommitPointerRequest { sidecar: inline("{}"), ..render.page_with("html", metadata.clone()) };
    let applied = node.commit_fresh(commit).await;
    assert_eq!(
        applied,
        v1::CommitApplied {
            etag: "W/\"v1\"".to_owned(),
            sidecar_token: render.grant.sidecar_token.clone(),
            ..Default::default()
        }
    );
    let expected = v1::PageMetadata {
        headers: vec![pair("x-one", "1"), pair("link", "</a.css>; rel=preload")],
        tags: tags(&["a", "b"]),
        path: "/news".to_owned(),
        ..metadata
    };
    // Also from the store, through another coordinator.
    for node in [node, world.start().await] {
        let response = node.lookup(lookup(&page)).await.unwrap();
        let page = page_of(&response);
        assert_eq!(page.metadata.as_ref(), Some(&expected));
        assert_eq!((page.size_bytes, &page.digest), (4, &sha256(b"html")));
        assert_eq!(page.sidecar_token, render.grant.sidecar_token);
        assert_eq!(page.body, None);
    }
}

#[tokio::test]
async fn what_the_renderer_leaves_out_is_filled_in() {
    let world = World::new();
    let node = world.start().await;
    let page = v1::EntryRef { path: "/news".to_owned(), ..entry("news") };
    let render = node.grant(&page).await;
    let applied = node.commit_fresh(render.page("html")).await;
    assert_eq!(applied.sidecar_token, "");
    let response = node.lookup(lookup(&page)).await.unwrap();
    let metadata = page_of(&response).metadata.clone().unwrap();
    assert_eq!((metadata.status, &*metadata.content_type), (200, "text/html; charset=utf-8"));
    assert_eq!((&metadata.etag, &*metadata.path), (&applied.etag, "/news"));
    assert!(applied.etag.starts_with('"') && applied.etag.ends_with('"') && applied.etag.len() > 20);
    let Some(v1::lookup_response::Outcome::Fresh(fresh)) = response.outcome else { panic!("not fresh") };
    assert_eq!(fresh.fresh_for, None, "fresh until invalidated");
}

#[tokio::test]
async fn a_body_comes_inline_unless_it_is_known_or_too_large_or_a_url_is_asked_for() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let generation = node.publish(&page, "html").await;
    // Warm, and from the store.
    for node in [&node, &world.start().await] {
        let lookup = async |known, body: v1::BodyDelivery| {
            let request = v1::LookupRequest { known_generation: known, body: body.into(), ..lookup(&page) };
            page_of(&node.lookup(request).await.unwrap()).clone()
        };
        for nothing in [v1::BodyDelivery::Unspecified, v1::BodyDelivery::None] {
            let page = lookup(Some(generation), nothing).await;
            assert!(page.body.is_none() && !page.body_unchanged && !page.body_too_large);
        }
        let known = lookup(Some(generation), v1::BodyDelivery::Inline).await;
        assert!(known.body.is_none() && known.body_unchanged);
        for older in [None, Some(generation - 1)] {
            let page = lookup(older, v1::BodyDelivery::Inline).await;
            assert!(!page.body_unchanged);
            assert_eq!(html_of(&page), Some("html"));
        }
        let url = v1::LookupRequest { body: v1::BodyDelivery::Url.into(), ..self::lookup(&page) };
        assert_refused(node.lookup(url).await, Code::Unimplemented, "BODY_URL_UNSUPPORTED");
    }
    let large = entry("large");
    let html = "x".repeat((1 << 20) + 1);
    node.publish(&large, &html).await;
    for node in [&node, &world.start().await] {
        let response = node.lookup(lookup_with_body(&large)).await.unwrap();
        let page = page_of(&response);
        assert!(page.body.is_none() && page.body_too_large && !page.body_unchanged);
        assert_eq!(page.size_bytes, html.len() as u64);
        assert!(node.page(serve(&large)).await.unwrap().1 == html.as_bytes());
    }
}

#[tokio::test]
async fn an_acquire_is_granted_held_ready_or_ended_and_told_the_same_when_repeated() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let request = acquire(&page);
    let first = node.grant_to(request.clone()).await;
    let (Some(remaining), Some(renewable)) =
        (unwire(first.grant.remaining), unwire(first.grant.renewable_for))
    else {
        panic!("how long it lasts is not told")
    };
    assert_eq!((remaining, renewable), (secs(10), secs(900)));
    assert!(first.generation() > 1_700_000_000, "generations start at unix seconds");
    let repeated = node.grant_to(request.clone()).await;
    assert_eq!(repeated.grant.html_object, first.grant.html_object);
    assert_eq!(repeated.grant.sidecar_token, first.grant.sidecar_token);
    assert_eq!(repeated.generation(), first.generation());
    let Acquired::Held(held) = node.acquire(acquire(&page)).await.unwrap() else { panic!("not held") };
    let regeneration = held.regeneration.unwrap();
    assert_eq!((&*regeneration.owner, regeneration.generation), ("worker", first.generation()));
    assert!(unwire(regeneration.remaining).unwrap() > ms(5000));
    assert_eq!(node.lookup(lookup(&page)).await.unwrap().regeneration.unwrap().owner, "worker");
    // Expired, it is still its holder's, who may commit, until another is granted the next one.
    world.clock.step(secs(11));
    assert_eq!(unwire(node.grant_to(request.clone()).await.grant.remaining), Some(Duration::ZERO));
    assert_eq!(node.lookup(lookup(&page)).await.unwrap().regeneration, None);
    node.commit_fresh(first.page("html")).await;
    assert_eq!(node.took(acquire(&page)).await, Took::Fresh(first.generation()));
    assert_eq!(node.took(request).await, Took::Ended);
}

#[tokio::test]
async fn a_ready_page_comes_with_its_body_if_asked() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    node.publish_with(&page, "html", revalidated_after(secs(60))).await;
    let with_body = || v1::AcquireLeaseRequest { body: v1::BodyDelivery::Inline.into(), ..acquire(&page) };
    let Acquired::Ready(ready) = node.acquire(with_body()).await.unwrap() else { panic!("not ready") };
    let Some(v1::page_ready::Page::Fresh(fresh)) = ready.page else { panic!("not fresh") };
    assert_eq!(html_of(&fresh.page.unwrap()), Some("html"));
    world.clock.step(secs(61));
    let Acquired::Granted(grant) = node.acquire(with_body()).await.unwrap() else { panic!("not granted") };
    assert_eq!(html_of(&grant.previous.unwrap().page.unwrap()), Some("html"));
    let Acquired::Held(held) = node.acquire(with_body()).await.unwrap() else { panic!("not held") };
    assert_eq!(html_of(&held.previous.unwrap().page.unwrap()), Some("html"));
}

#[tokio::test]
async fn a_wait_is_served_by_the_commit_also_of_a_page_that_is_expired_at_once() {
    let world = World::new();
    let node = world.start().await;
    for (key, revalidate) in [("lasting", None), ("expired", Some(ms(0)))] {
        let page = entry(key);
        let render = node.grant(&page).await;
        let metadata = v1::PageMetadata { revalidate: revalidate.map(wire), ..Default::default() };
        let waiter = node.took(acquire_waiting(&page, secs(60)));
        let commit = async {
            until(async || node.engine.stats().waiters == 1).await;
            node.commit_fresh(render.page_with("html", metadata)).await;
        };
        let (took, ()) = tokio::join!(waiter, commit);
        let expected = match revalidate {
            None => Took::Fresh(render.generation()),
            Some(_) => Took::Stale(render.generation(), StaleReason::Expired),
        };
        assert_eq!(took, expected);
    }
}

#[tokio::test]
async fn failures_in_a_row_double_the_pause_and_a_commit_ends_it() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start().await;
    let page = entry("news");
    let previous = node.publish_with(&page, "html", revalidated_after(ms(0))).await;
    for (failures, pause) in [(1, 1), (2, 2), (3, 4)] {
        let render = node.grant(&page).await;
        let Released::Released(_) = node.release(render.failure("upstream 503")).await.unwrap() else {
            panic!()
        };
        let Acquired::BackingOff(backing_off) = node.acquire(acquire(&page)).await.unwrap() else { panic!() };
        assert_eq!((backing_off.failures, &*backing_off.reason), (failures, "upstream 503"));
        assert_eq!(unwire(backing_off.remaining), Some(secs(pause)));
        assert_eq!(backing_off.previous.unwrap().page.unwrap().generation, previous);
        world.clock.step(secs(pause));
    }
    let render = node.grant(&page).await;
    node.commit(render.page_with("html", revalidated_after(ms(0)))).await.unwrap();
    let render = node.grant(&page).await;
    node.release(render.failure("again")).await.unwrap();
    assert!(matches!(node.took(acquire(&page)).await, Took::BackingOff { failures: 1, .. }));
}

#[tokio::test]
async fn a_lease_is_renewed_up_to_its_limit_and_lost_to_the_next() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| settings.rules.max_hold = secs(100)).await;
    let page = entry("news");
    let render = node.grant(&page).await;
    let Renewed::Renewed(renewed) = node.renew(render.renewal(secs(30))).await.unwrap() else {
        panic!("lost")
    };
    assert_eq!((unwire(renewed.remaining), unwire(renewed.renewable_for)), (Some(secs(30)), Some(secs(100))));
    world.clock.step(secs(90));
    let Renewed::Renewed(renewed) = node.renew(render.renewal(secs(30))).await.unwrap() else {
        panic!("lost")
    };
    assert_eq!(unwire(renewed.remaining), Some(secs(10)), "no longer than it may be held");
    world.clock.step(secs(10));
    assert!(matches!(node.renew(render.renewal(secs(30))).await.unwrap(), Renewed::Lost(_)));
    let next = node.grant(&page).await;
    assert!(matches!(node.renew(render.renewal(secs(30))).await.unwrap(), Renewed::Lost(_)));
    assert!(matches!(node.release(render.release()).await.unwrap(), Released::NotHeld(_)));
    assert!(matches!(node.renew(next.renewal(secs(30))).await.unwrap(), Renewed::Renewed(_)));
    for _ in 0..2 {
        assert!(matches!(node.release(next.release()).await.unwrap(), Released::Released(_)));
    }
    let unknown = Render { entry: entry("unknown"), ..next };
    assert!(matches!(node.release(unknown.release()).await.unwrap(), Released::NotHeld(_)));
    assert!(matches!(node.renew(unknown.renewal(secs(30))).await.unwrap(), Renewed::Lost(_)));
    let fenced = node.commit(unknown.page("html")).await.unwrap();
    assert!(matches!(fenced, Committed::Fenced(v1::CommitFenced { latest_generation: 0 })), "{fenced:?}");
}

#[tokio::test]
async fn a_commit_is_bound_to_token_and_generation() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let render = node.grant(&page).await;
    let generation = render.generation();
    let mut forged = render.clone();
    forged.lease.request_id = request_id();
    let mut older = render.clone();
    older.lease.generation -= 1;
    for other in [&forged, &older] {
        let outcome = node.commit(other.page("forged")).await.unwrap();
        assert!(
            matches!(&outcome, Committed::Fenced(fenced) if fenced.latest_generation == generation),
            "{outcome:?}"
        );
    }
    node.commit_fresh(render.page("html")).await;
    node.commit_fresh(render.page("html")).await;
    let outcome = node.commit(older.page("older")).await.unwrap();
    assert!(
        matches!(&outcome, Committed::Superseded(by) if by.current_generation == generation),
        "{outcome:?}"
    );
    assert_eq!(node.page(serve(&page)).await.unwrap().1, b"html");
}

#[tokio::test]
async fn an_unchanged_body_is_not_stored_again_and_keeps_its_object() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let first = node.publish_with(&page, "html", revalidated_after(ms(0))).await;
    let puts = node.counts().puts;
    let render = node.grant(&page).await;
    node.commit_fresh(render.page("html")).await;
    assert_eq!(node.counts().puts, puts);
    assert_eq!(node.seen(&page).await, Seen::Fresh(first + 1));
    assert_eq!(node.engine.stats().pending_deletions, 0);
    assert_eq!(world.start().await.page(serve(&page)).await.unwrap().1, b"html");
}

#[tokio::test]
async fn bodies_that_do_not_fit_a_message_are_uploaded_first() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let render = node.grant(&page).await;
    let (html, sidecar) = (vec![b'h'; 5 << 20], vec![b's'; 4 << 20]);
    for (kind, body, object) in [
        (v1::BodyKind::Sidecar, &sidecar, &render.grant.sidecar_object),
        (v1::BodyKind::Html, &html, &render.grant.html_object),
    ] {
        for _ in 0..2 {
            let uploaded = node.upload(upload_parts(&render, kind, body)).await.unwrap();
            let Uploaded::Uploaded(uploaded) = uploaded else { panic!("{uploaded:?}") };
            assert_eq!((&uploaded.object, &uploaded.digest), (object, &sha256(body)));
            assert_eq!(uploaded.size_bytes, body.len() as u64);
        }
        let other_bytes = node.upload(upload_parts(&render, kind, b"other bytes")).await;
        let status = assert_refused(other_bytes, Code::FailedPrecondition, "OBJECT_CONFLICT");
        assert_eq!(metadata(&status, "object").as_ref(), Some(object));
    }
    let commit = v1::CommitPointerRequest {
        html: stored(sha256(&html), html.len() as u64),
        sidecar: stored(sha256(&sidecar), sidecar.len() as u64),
        ..render.page("")
    };
    let token = node.commit_fresh(commit).await.sidecar_token;
    let cold = world.start().await;
    assert!(cold.page(serve(&page)).await.unwrap().1 == html);
    let (head, body) = cold.sidecar(&page, &token).await.unwrap();
    assert_eq!((&*head.content_type, head.size_bytes), ("application/json", sidecar.len() as u64));
    assert!(body == sidecar);
    // Late repetitions are told the truth, and others are fenced.
    let repeated = node.upload(upload_parts(&render, v1::BodyKind::Html, &html)).await.unwrap();
    assert!(matches!(repeated, Uploaded::Uploaded(_)), "{repeated:?}");
    let mut stranger = render.clone();
    stranger.lease.request_id = request_id();
    let refused = node.upload(upload_parts(&stranger, v1::BodyKind::Html, b"x")).await.unwrap();
    assert!(matches!(refused, Uploaded::Fenced(_)), "{refused:?}");
}

#[tokio::test]
async fn a_page_is_streamed_with_what_is_known_of_it_first() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let status = assert_refused(node.page(serve(&page)).await, Code::NotFound, "PAGE_NOT_FOUND");
    assert_eq!(metadata(&status, "cause").as_deref(), Some("NEVER_RENDERED"));
    let generation = node.publish_with(&page, "html", revalidated_after(secs(60))).await;
    let (head, body) = node.page(serve(&page)).await.unwrap();
    assert!(matches!(head, Served::Fresh(fresh) if fresh.page.as_ref().unwrap().generation == generation));
    assert_eq!(body, b"html");
    world.clock.step(secs(61));
    let (head, body) = node.page(serve(&page)).await.unwrap();
    let Served::Stale(stale) = head else { panic!("not stale") };
    assert_eq!((stale.reason(), body), (StaleReason::Expired, b"html".to_vec()));
    let empty = entry("empty");
    node.publish(&empty, "").await;
    assert_eq!(node.page(serve(&empty)).await.unwrap().1, b"");
}

#[tokio::test]
async fn explain_tells_an_operator_how_things_stand() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start().await;
    let page = v1::EntryRef { deployment: "green".to_owned(), ..entry("news") };
    let explain = async || {
        let request = v1::LookupRequest { explain: true, ..lookup(&page) };
        node.lookup(request).await.unwrap().state.expect("a state")
    };
    let unknown = explain().await;
    assert_eq!((&*unknown.tenant, &*unknown.deployment, &*unknown.key), (TENANT, "green", "news"));
    assert_eq!((unknown.generation, unknown.pointer, unknown.lease), (0, None, None));
    assert!(unknown.log_verified);
    let metadata = v1::PageMetadata { tags: tags(&["t"]), ..revalidated_after(secs(60)) };
    let generation = node.publish_with(&page, "html", metadata).await;
    node.invalidate(invalidation([tag("other"), tag("t")])).await.unwrap();
    let state = explain().await;
    assert_eq!(state.pointer.as_ref().unwrap().generation, generation);
    let invalidated = state.invalidation.clone().unwrap();
    assert_eq!((invalidated.seq, &invalidated.scopes, invalidated.applies), (1, &vec![tag("t")], true));
    assert_eq!((invalidated.depth(), state.seen, state.log_position), (v1::InvalidationDepth::Soft, 0, 1));
    let render = node.grant(&page).await;
    let lease = explain().await.lease.unwrap();
    assert_eq!((&*lease.owner, lease.generation), ("worker", render.generation()));
    assert!(!lease.expired && !lease.overtaken);
    node.invalidate(purge([tag("t")])).await.unwrap();
    assert!(explain().await.lease.unwrap().overtaken);
    world.clock.step(secs(11));
    assert!(explain().await.lease.unwrap().expired);
    node.release(render.failure("503")).await.unwrap();
    let state = explain().await;
    let backoff = state.backoff.unwrap();
    assert_eq!((backoff.failures, &*backoff.reason), (1, "503"));
    assert_eq!(state.invalidation.unwrap().depth(), v1::InvalidationDepth::Hard);
}

#[tokio::test]
async fn lookups_on_a_stream_are_answered_by_their_ids_as_single_ones_are() {
    use v1::lookup_stream_response::Result as Answer;
    let world = World::new();
    let page = entry("news");
    let generation = world.start().await.publish(&page, "html").await;
    let node = world.start().await;
    let ask = |id, lookup: Option<v1::LookupRequest>| v1::LookupStreamRequest { id, lookup, timeout: None };
    let mut requests: Vec<_> = (0..1000).map(|id| ask(id, Some(lookup_with_body(&page)))).collect();
    requests.push(ask(5000, Some(lookup(&entry("unknown")))));
    requests.push(ask(5001, Some(lookup(&entry("")))));
    requests.push(ask(5002, None));
    let answers = soon(node.client().lookup_stream(tokio_stream::iter(requests))).await.unwrap().into_inner();
    let mut answers: Vec<_> =
        soon(answers.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();
    answers.sort_by_key(|answer| answer.id);
    assert_eq!(answers.len(), 1003);
    for (id, answer) in answers.iter().enumerate().take(1000) {
        assert_eq!(answer.id, id as u64);
        let Some(Answer::Response(response)) = &answer.result else { panic!("{answer:?}") };
        assert_eq!(seen(response), Seen::Fresh(generation));
    }
    let Some(Answer::Response(response)) = &answers[1000].result else { panic!("{:?}", answers[1000]) };
    assert_eq!(seen(response), Seen::Missing(MissingReason::NeverRendered));
    for (answer, field) in [(&answers[1001], "entry.key"), (&answers[1002], "lookup")] {
        let Some(Answer::Error(error)) = &answer.result else { panic!("{answer:?}") };
        let status = Status::with_details(error.code.into(), &error.message, error.status_details.clone());
        let refused = refusal(&status);
        assert_eq!((refused.code, refused.field.as_deref()), (Code::InvalidArgument, Some(field)));
    }
}

/// HTML or headers name the sidecar of their own grant.
#[tokio::test]
async fn a_new_page_has_the_sidecar_that_it_names_also_where_its_bytes_are_the_same() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    for is_named_by_html in [true, true, false, false] {
        let render = node.grant(&page).await;
        let link = format!("</data/{}>; rel=preload", render.grant.sidecar_token);
        let mut metadata = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..Default::default() };
        let html = if is_named_by_html {
            link
        } else {
            metadata.headers = vec![v1::NameValue { name: "link".to_owned(), value: link }];
            "<p>".to_owned()
        };
        let commit =
            v1::CommitPointerRequest { sidecar: inline("{same}"), ..render.page_with(&html, metadata) };
        node.commit_fresh(commit).await;
        assert_eq!(node.sidecar(&page, &render.grant.sidecar_token).await.unwrap().1, b"{same}");
    }
}

#[tokio::test]
async fn a_sidecar_that_comes_after_the_commit_is_refused_and_that_is_the_truth() {
    let world = World::new();
    let node = world.start().await;
    let render = node.grant(&entry("news")).await;
    node.commit_fresh(render.page("html")).await;
    let late = node.upload(upload_parts(&render, v1::BodyKind::Sidecar, b"{}")).await;
    assert_refused(late, Code::FailedPrecondition, "OBJECT_CONFLICT");
    node.upload(upload_parts(&render, v1::BodyKind::Html, b"html")).await.unwrap();
}

/// Renewing for less than what is left asks no store.
#[tokio::test]
async fn a_lease_that_was_lost_elsewhere_is_not_called_renewed() {
    let world = World::new();
    let (one, two) = (world.start_one_of_many().await, world.start_one_of_many().await);
    let page = entry("news");
    let lost = one.grant(&page).await;
    let token = two.invalidate(invalidation([key_scope("news")])).await.unwrap();
    // Overtaken: the next one is granted at once, and commits.
    let request = v1::AcquireLeaseRequest { consistency_token: token, ..acquire(&page) };
    let newer = two.grant_to(request).await;
    two.commit_fresh(newer.page("newer")).await;
    let renewed = one.renew(lost.renewal(secs(5))).await.unwrap();
    assert!(matches!(renewed, Renewed::Lost(_)), "{renewed:?}: another's page is current");
}

/// An unchanged body is left where it is, with what was said of it before.
#[tokio::test]
async fn the_bare_object_says_what_the_current_page_is() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let first = node.grant(&page).await;
    node.commit_fresh(
        first.page_with("html", v1::PageMetadata { revalidate: Some(wire(ms(0))), ..Default::default() }),
    )
    .await;
    let second = node.grant(&page).await;
    node.commit_fresh(second.page_with(
        "html",
        v1::PageMetadata {
            status: 404,
            ..v1::PageMetadata { revalidate: Some(wire(ms(0))), ..Default::default() }
        },
    ))
    .await;
    let stores = world.stores();
    let pointer = stores.entries.read(&id("news")).await.unwrap().unwrap().pointer.unwrap();
    assert_eq!(pointer.meta.status.get(), 404);
    let object = stores.objects.get(&pointer.html.object).await.unwrap().unwrap();
    let status = object.meta.attributes.iter().find(|(name, _)| name == "facetheory-status").unwrap();
    assert_eq!(status.1, "404");
}

/// The port's contract: two KiB at most for all of the metadata.
#[tokio::test]
async fn metadata_of_an_object_fits_its_store() {
    let world = World::new();
    let node = world.start().await;
    let page = entry("news");
    let render = node.grant(&page).await;
    let csp = v1::NameValue { name: "content-security-policy".to_owned(), value: "a".repeat(4000) };
    let metadata = v1::PageMetadata { headers: vec![csp], ..Default::default() };
    node.commit_fresh(render.page_with("html", metadata)).await;
    let name = ObjectName::parse(&render.grant.html_object).unwrap();
    let meta = world.stores().objects.get(&name).await.unwrap().unwrap().meta;
    let bytes: usize = meta.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(bytes <= 2048, "{bytes} bytes of metadata");
}

/// The clock of another may be ahead: whoever is told that somebody has the lease is told who, and for how long.
#[tokio::test]
async fn a_lease_whose_time_is_over_but_not_its_tolerance_is_held_by_somebody() {
    let world = World::new();
    world.clock.stand_still();
    let node = world.start_with(|settings, _| settings.rules.expiry_tolerance = secs(2)).await;
    let page = entry("news");
    let render = node.grant(&page).await;
    world.clock.step(secs(11));
    let Acquired::Held(held) = node.acquire(acquire(&page)).await.unwrap() else { panic!("not held") };
    let regeneration = held.regeneration.expect("who renders");
    assert_eq!(
        (regeneration.generation, unwire(regeneration.remaining)),
        (render.generation(), Some(secs(1)))
    );
    world.clock.step(secs(1));
    assert_eq!(node.grant(&page).await.generation(), render.generation() + 1);
}

#[tokio::test]
async fn a_retry_is_told_of_its_lease_also_where_an_older_one_is_remembered() {
    let world = World::new();
    let slowly =
        |settings: &mut leasehold_service::settings::Settings| settings.reread_interval = Some(secs(60));
    let here = world.start_with(|settings, _| slowly(settings)).await;
    let there = world.start_with(|settings, _| slowly(settings)).await;
    let page = entry("news");
    let first = there.grant(&page).await;
    let expired = v1::PageMetadata { revalidate: Some(wire(ms(0))), ..Default::default() };
    here.commit_fresh(first.page_with("html", expired)).await;
    let request = acquire(&page);
    let second = here.grant_to(request.clone()).await;
    // As far as it remembers, the first lease runs.
    assert!(matches!(there.took(acquire(&page)).await, Took::Held { .. }));
    let retry = v1::AcquireLeaseRequest { retry: true, ..request };
    assert_eq!(there.grant_to(retry).await.generation(), second.generation());
}
