//! What ends with a right, or with what vouched for its caller.

use super::*;
use leasehold_service::time::Clock as _;

async fn guarded(world: &World, names: &Arc<Names>, rules: Vec<Rule>) -> (Guard, Coordinator) {
    let guard = Guard::new(Arc::clone(names) as _, policy(rules), Arc::<TestClock>::clone(&world.clock));
    let node = world.start_guarded(guard.clone()).await;
    (guard, node)
}

fn may_all(name: &str) -> Rule {
    rule(name, None, over(TENANT), &[Right::Admin])
}

fn watch_everything() -> v1::WatchRequest {
    let filter = Filter::WholeTenant(v1::WholeTenant {});
    let filters = vec![v1::WatchFilter { tenant: TENANT.to_owned(), filter: Some(filter) }];
    v1::WatchRequest { filters, resume_token: String::new() }
}

async fn watching(node: &Coordinator, name: &str) -> tonic::Streaming<v1::WatchResponse> {
    let mut watch =
        soon(client_as(node, name).watch(watch_everything())).await.expect("a watch").into_inner();
    assert!(soon(watch.message()).await.expect("a message").is_some(), "it has begun");
    watch
}

#[tokio::test]
async fn a_watch_ends_when_its_callers_right_is_taken_away_and_tells_nothing_that_comes_after() {
    let world = World::new();
    let (guard, node) =
        guarded(&world, &Names::knowing(&["reader", "worker"]), vec![may_all("reader"), may_all("worker")])
            .await;
    let mut watch = watching(&node, "reader").await;
    guard.replace_policy(policy(vec![may_all("worker")]));
    publish(&node, "worker", TENANT, "a page").await;
    let ended = soon(watch.message()).await.map(drop);
    assert_refused(ended, Code::PermissionDenied, "PERMISSION_DENIED");

    // Another change takes nothing from those whose rights stay.
    let mut watch = watching(&node, "worker").await;
    guard.replace_policy(policy(vec![may_all("worker"), may_all("reader")]));
    guard.credentials_changed();
    let scope = scope(Scope::WholeTenant(v1::WholeTenant {}));
    soon(client_as(&node, "worker").invalidate(invalidation([scope]))).await.expect("an invalidation");
    assert!(soon(watch.message()).await.expect("goes on").is_some());
}

#[tokio::test]
async fn a_watch_and_a_stream_of_lookups_end_when_the_token_is_forgotten() {
    let world = World::new();
    let names = Names::knowing(&["reader"]);
    let (guard, node) = guarded(&world, &names, vec![may_all("reader")]).await;
    let mut watch = watching(&node, "reader").await;
    let (questions, asked) = tokio::sync::mpsc::channel(1);
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let question = || v1::LookupStreamRequest { id: 1, lookup: Some(lookup(&entry("page"))), timeout: None };
    questions.send(question()).await.expect("room");
    let mut client = client_as(&node, "reader");
    let mut answers = soon(client.lookup_stream(asked)).await.expect("a stream").into_inner();
    assert!(soon(answers.message()).await.expect("an answer").is_some());

    names.0.lock().clear();
    guard.credentials_changed();
    assert_refused(soon(watch.message()).await.map(drop), Code::Unauthenticated, "UNAUTHENTICATED");
    // Also one that nothing is asked on: it holds a place.
    assert_refused(soon(answers.message()).await.map(drop), Code::Unauthenticated, "UNAUTHENTICATED");
    drop(questions);
}

/// Nobody reads what they end with.
#[tokio::test]
async fn an_unread_watch_and_an_unread_stream_of_lookups_keep_nothing_when_the_right_is_taken_away() {
    let world = World::new();
    let names = Names::knowing(&["reader"]);
    let guard = Guard::new(names, policy(vec![may_all("reader")]), Arc::<TestClock>::clone(&world.clock));
    let change = |settings: &mut leasehold_service::settings::Settings| {
        settings.limits.stall_timeout = secs(1);
    };
    let node = world.start_guarded_with(guard.clone(), change).await;
    // There is no room for the first answers, and behind them nobody asks for more.
    let mut client = node.client_that_takes(0).await;
    let _watch = soon(client.watch(by_reader(watch_everything()))).await.expect("a watch");
    let question = v1::LookupStreamRequest { id: 1, lookup: Some(lookup(&entry("page"))), timeout: None };
    let asked = tokio_stream::once(question).chain(tokio_stream::pending());
    let _answers = soon(client.lookup_stream(by_reader(asked))).await.expect("a stream");
    let kept = || ["watches", "lookup_streams"].map(|what| taken(&node, what));
    assert_eq!(kept(), [1, 1]);
    guard.replace_policy(Policy::default());
    until(async || kept() == [0, 0]).await;
    for method in ["Watch", "LookupStream"] {
        assert_eq!(shown(&node, &format!("streams_let_go_total{{method=\"{method}\"}}")), Some(1));
    }
}

fn by_reader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", "Bearer reader".parse().expect("a value"));
    request
}

#[tokio::test]
async fn what_was_let_in_by_a_token_that_expires_ends_with_it() {
    let world = World::new();
    let names = Names::knowing(&[]);
    let until = world.clock.now().wall.plus(secs(60));
    names.0.lock().insert("reader".to_owned(), Some(until));
    let (guard, node) = guarded(&world, &names, vec![may_all("reader")]).await;
    let mut watch = watching(&node, "reader").await;
    client_as(&node, "reader").lookup(lookup(&entry("page"))).await.expect("a lookup");
    world.clock.step(secs(61));
    // It looks at the clock now and then; a change makes it look at once.
    guard.credentials_changed();
    assert_refused(soon(watch.message()).await.map(drop), Code::Unauthenticated, "UNAUTHENTICATED");
    let late = client_as(&node, "reader").lookup(lookup(&entry("page"))).await.map(drop);
    assert_refused(late, Code::Unauthenticated, "UNAUTHENTICATED");
}

#[tokio::test]
async fn what_expires_is_noticed_by_those_that_nothing_happens_to() {
    let world = World::new();
    let names = Names::knowing(&[]);
    let until = world.clock.now().wall.plus(ms(300));
    names.0.lock().insert("reader".to_owned(), Some(until));
    let (_guard, node) = guarded(&world, &names, vec![may_all("reader")]).await;
    let mut watch = watching(&node, "reader").await;
    assert_refused(soon(watch.message()).await.map(drop), Code::Unauthenticated, "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_stream_of_lookups_goes_by_the_policy_of_each_and_ends_with_the_last_right() {
    let world = World::new();
    let (guard, node) = guarded(&world, &Names::knowing(&["reader"]), vec![may_all("reader")]).await;
    let (questions, asked) = tokio::sync::mpsc::channel(1);
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut client = client_as(&node, "reader");
    let mut answers = soon(client.lookup_stream(asked)).await.expect("a stream").into_inner();
    let mut ask = async || {
        let question = v1::LookupStreamRequest { id: 1, lookup: Some(lookup(&entry("page"))), timeout: None };
        questions.send(question).await.expect("room");
        match soon(answers.message()).await.expect("goes on").expect("an answer").result {
            Some(v1::lookup_stream_response::Result::Error(error)) => Some(error.code),
            _ => None,
        }
    };
    assert_eq!(ask().await, None);
    guard.replace_policy(policy(vec![rule("reader", None, over("globex"), &[Right::Read])]));
    assert_eq!(ask().await, Some(Code::PermissionDenied.into()));
    guard.replace_policy(policy(vec![rule("reader", None, over(TENANT), &[Right::Invalidate])]));
    // Nothing is asked on it.
    assert_refused(soon(answers.message()).await.map(drop), Code::PermissionDenied, "PERMISSION_DENIED");
    let again = client_as(&node, "reader").lookup_stream(tokio_stream::pending()).await.map(drop);
    assert_refused(again, Code::PermissionDenied, "PERMISSION_DENIED");
}

#[tokio::test]
async fn lookup_streams_of_callers_who_read_one_tenant_are_limited_by_it() {
    let world = World::new();
    let names = Names::knowing(&["loud", "louder", "quiet", "operator"]);
    let rules = vec![
        rule("loud*", None, over("loud"), &[Right::Read]),
        rule("quiet", None, over("quiet"), &[Right::Read]),
        rule("operator", None, Reach::All, &[Right::Read]),
    ];
    let guard = Guard::new(names, policy(rules), Arc::<TestClock>::clone(&world.clock));
    let change = |settings: &mut leasehold_service::settings::Settings| {
        settings.limits.lookup_streams = 4;
        settings.limits.tenant.share_percent = std::num::NonZeroU32::new(25);
    };
    let node = world.start_guarded_with(guard, change).await;
    let open = async |name: &str| {
        let (questions, asked) = tokio::sync::mpsc::channel::<v1::LookupStreamRequest>(1);
        let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
        client_as(&node, name).lookup_stream(asked).await.map(|answers| (questions, answers))
    };
    let first = open("loud").await.expect("a stream");
    let refused = assert_refused(open("louder").await.map(drop), Code::ResourceExhausted, "LIMIT_REACHED");
    assert_eq!(metadata(&refused, "limit").as_deref(), Some("1 lookup streams of one tenant"));
    let _others = [open("quiet").await.expect("a stream"), open("operator").await.expect("a stream")];
    drop(first);
    until(async || open("louder").await.is_ok()).await;
}

/// Of two uploads, the one that a tenant may have: whose it is, is known before it says so where it can only be one.
#[tokio::test]
async fn uploads_that_do_not_begin_are_their_callers_tenants() {
    let world = World::new();
    let names = Names::knowing(&["loud", "quiet", "reader"]);
    let rules = vec![
        rule("loud", None, over("loud"), &[Right::Render]),
        rule("quiet", None, over("quiet"), &[Right::Render]),
        rule("reader", None, over("loud"), &[Right::Read]),
    ];
    let guard = Guard::new(names, policy(rules), Arc::<TestClock>::clone(&world.clock));
    let node = world
        .start_guarded_with(guard, |settings| {
            settings.limits.uploads = 2;
            settings.limits.tenant.share_percent = std::num::NonZeroU32::new(50);
        })
        .await;
    let silent = |name: &'static str| {
        let mut client = client_as(&node, name);
        tokio::spawn(async move { client.upload_body(tokio_stream::pending()).await.map(drop) })
    };
    assert_refused(soon(silent("reader")).await.unwrap(), Code::PermissionDenied, "PERMISSION_DENIED");
    let first = silent("loud");
    let ended = async |name| {
        let mut client = client_as(&node, name);
        client.upload_body(tokio_stream::empty()).await.map(drop).unwrap_err().code()
    };
    until(async || ended("loud").await == Code::ResourceExhausted).await;
    assert_eq!(ended("quiet").await, Code::InvalidArgument);
    first.abort();
    until(async || ended("loud").await == Code::InvalidArgument).await;
}

#[tokio::test]
async fn an_upload_whose_caller_loses_the_right_meanwhile_is_not_stored() {
    let world = World::new();
    let (guard, node) = guarded(&world, &Names::knowing(&["worker"]), vec![may_all("worker")]).await;
    let asked = acquire(&entry("page"));
    let granted = client_as(&node, "worker").acquire_lease(asked.clone()).await.expect("an acquire");
    let Some(v1::acquire_lease_response::Outcome::Granted(grant)) = granted.into_inner().outcome else {
        panic!("not granted")
    };
    let mut parts = upload_parts(&Render::of(&asked, grant), v1::BodyKind::Html, b"html").into_iter();
    let (sending, sent) = tokio::sync::mpsc::channel(1);
    let mut client = client_as(&node, "worker");
    let parts_sent = tokio_stream::wrappers::ReceiverStream::new(sent);
    let upload = tokio::spawn(async move { client.upload_body(parts_sent).await });
    sending.send(parts.next().expect("a head")).await.expect("room");
    for _ in 0..10 {
        // Behind it on the same connection.
        client_as(&node, "worker").lookup(lookup(&entry("page"))).await.expect("a lookup");
    }
    guard.replace_policy(Policy::default());
    let before = node.counts();
    sending.send(parts.next().expect("a chunk")).await.expect("room");
    drop(sending);
    let refused = soon(upload).await.expect("an answer").map(drop);
    assert_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
    assert_eq!(node.counts(), before);
}

#[tokio::test]
async fn a_policy_takes_effect_for_the_next_call() {
    let world = World::new();
    let (guard, node) = guarded(&world, &Names::knowing(&["reader"]), vec![may_all("nobody")]).await;
    let ask = || async { client_as(&node, "reader").lookup(lookup(&entry("page"))).await.map(drop) };
    assert_refused(ask().await, Code::PermissionDenied, "PERMISSION_DENIED");
    guard.replace_policy(policy(vec![may_all("reader")]));
    ask().await.expect("a lookup");
    guard.replace_policy(Policy::default());
    assert_refused(ask().await, Code::PermissionDenied, "PERMISSION_DENIED");
}

#[tokio::test]
async fn who_waits_for_a_page_and_loses_the_right_to_it_is_not_told_of_it() {
    let world = World::new();
    let names = Names::knowing(&["holder", "waiter"]);
    let (guard, node) = guarded(&world, &names, vec![may_all("holder"), may_all("waiter")]).await;
    let page = entry("page");
    let asked = acquire(&page);
    let granted =
        client_as(&node, "holder").acquire_lease(asked.clone()).await.expect("an acquire").into_inner();
    let Some(v1::acquire_lease_response::Outcome::Granted(grant)) = granted.outcome else {
        panic!("not granted: {granted:?}")
    };
    let mut waiter = client_as(&node, "waiter");
    let waiting = tokio::spawn(async move { waiter.acquire_lease(acquire_waiting(&page, secs(10))).await });
    until(async || node.engine.stats().waiters == 1).await;
    guard.replace_policy(policy(vec![may_all("holder")]));
    let commit = Render::of(&asked, grant).page("a page");
    soon(client_as(&node, "holder").commit_pointer(commit)).await.expect("a commit");
    let refused = soon(waiting).await.expect("an answer").map(drop);
    assert_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
}
