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

async fn watching(node: &Coordinator, name: &str) -> tonic::Streaming<v1::WatchResponse> {
    let filter = Filter::WholeTenant(v1::WholeTenant {});
    let filters = vec![v1::WatchFilter { tenant: TENANT.to_owned(), filter: Some(filter) }];
    let request = v1::WatchRequest { filters, resume_token: String::new() };
    let mut watch = soon(client_as(node, name).watch(request)).await.expect("a watch").into_inner();
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
