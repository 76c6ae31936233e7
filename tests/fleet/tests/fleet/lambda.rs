//! A render Lambda: one invocation at a time, frozen in between.

use leasehold_fleet::{CoordinatorProcess, LambdaProcess};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lambda_renders_when_it_starts_and_hits_from_then_on() {
    let coordinator = CoordinatorProcess::start().await;
    let lambda = LambdaProcess::start(&coordinator.endpoint()).await;
    let cold = lambda.get("/about?page=1").await;
    assert_eq!((cold.status, cold.state()), (200, "miss"), "{cold:?}");
    assert!(cold.body.contains("<h1>/about</h1>"), "{cold:?}");
    let warm = lambda.get("/about?page=1").await;
    assert_eq!((warm.state(), &warm.body), ("hit", &cold.body));
    assert_eq!(warm.headers["cache-control"], "s-maxage=2, stale-while-revalidate=600");
    // Another query is another page; and another Lambda has the same ones.
    assert_eq!(lambda.get("/about?page=2").await.state(), "miss");
    let other = LambdaProcess::start(&coordinator.endpoint()).await;
    assert_eq!(other.get("/about?page=1").await.body, cold.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lambda_that_was_frozen_between_invocations_answers_as_if_it_had_not_been() {
    // It hangs up on whoever is silent for as long as that.
    let hangs_up = ["--keepalive-interval", "200ms", "--keepalive-timeout", "200ms"];
    let mut coordinator = CoordinatorProcess::start_with(&hangs_up).await;
    let mut lambda = LambdaProcess::start(&coordinator.endpoint()).await;
    assert_eq!(lambda.get("/a").await.state(), "miss");
    for restarts in [false, true] {
        lambda.is_idle().await;
        lambda.process().freeze();
        if restarts {
            coordinator.kill();
            coordinator.restart().await;
        } else {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        lambda.process().thaw();
        let thawed = lambda.get("/a").await;
        assert!(["hit", "stale"].contains(&thawed.state()), "{thawed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lambda_regenerates_in_the_background_is_there_when_the_invocation_has_ended() {
    let coordinator = CoordinatorProcess::start().await;
    let mut lambda = LambdaProcess::start(&coordinator.endpoint()).await;
    let first = lambda.get("/a").await;
    let client = coordinator.client("editor");
    let scopes = [leasehold_client::Scope::tag("pages")];
    let token = client.invalidate(&scopes, leasehold_client::Depth::Soft).await.expect("invalidated");

    let stale = lambda.get("/a").await;
    assert_eq!((stale.state(), &stale.body), ("stale", &first.body));
    // Nothing of it runs from here on.
    lambda.is_idle().await;
    lambda.process().freeze();
    let options = leasehold_client::LookupOptions {
        consistency_token: Some(token),
        ..leasehold_client::LookupOptions::with_body()
    };
    let request = leasehold_client::PageRequest::new("/a").ignore_credentials();
    let request = request.cookie_variance(leasehold_client::CookieVariance::None);
    let entry = leasehold_client::EntryRef::request(request).path("/a");
    let now = client.lookup(&entry, &options).await.expect("an answer").outcome;
    let leasehold_client::Lookup::Fresh(fresh) = now else { panic!("{now:?}") };
    let leasehold_client::PageBody::Inline(html) = fresh.page.body else { panic!("no body") };
    assert_ne!(html, first.body);
    lambda.process().thaw();
}
