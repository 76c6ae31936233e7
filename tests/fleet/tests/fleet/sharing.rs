//! Several workers, one page: who renders it, and who waits.

use leasehold_client::{Depth, EntryRef, LookupOptions, Scope, WatchEvent, WatchFilter};
use leasehold_fleet::{Answer, CoordinatorProcess, SiteOptions, SiteProcess, now};
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::timeout};

const REQUESTS: usize = 500;
const RENDER: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_request_renders_and_later_ones_hit_on_every_worker() {
    let coordinator = CoordinatorProcess::start().await;
    let worker = |worker| SiteProcess::start(&coordinator, SiteOptions { worker, ..Default::default() });
    let (one, other) = (worker("one").await, worker("other").await);

    let first = one.get("/about").await;
    assert_eq!((first.status, first.state.as_str()), (200, "miss"));
    assert!(first.generation.is_some() && first.body.contains("rendered by one"), "{first:?}");
    for again in [one.get("/about").await, other.get("/about").await, one.get("/about").await] {
        assert_eq!((again.status, again.state.as_str()), (200, "hit"));
        assert_eq!((again.generation, &again.body), (first.generation, &first.body));
    }
    assert_eq!((one.renders().await, other.renders().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_requests_for_a_stale_page_cost_one_render_and_all_get_it() {
    let coordinator = CoordinatorProcess::start().await;
    let options = |worker| SiteOptions { worker, render_delay: RENDER, ..Default::default() };
    let workers = [
        Arc::new(SiteProcess::start(&coordinator, options("one")).await),
        Arc::new(SiteProcess::start(&coordinator, options("other")).await),
    ];
    let old = workers[0].get("/about").await;
    assert_eq!(old.state, "miss");
    let client = coordinator.client("editor");
    let token = client.invalidate(&[Scope::path_prefix("/about")], Depth::Soft).await.expect("invalidated");
    // That it is stale is known before the first request comes.
    let seen = LookupOptions { consistency_token: Some(token), ..Default::default() };
    client.lookup(&EntryRef::key("any"), &seen).await.expect("the log is read that far");
    let mut watch = client.watch(&[WatchFilter::whole_tenant("default")], None);
    let started = watch.next().await.expect("a watch goes on").expect("it stands");
    assert_eq!(started.event, WatchEvent::Started);

    let sent = now();
    let mut requests = JoinSet::new();
    for nth in 0..REQUESTS {
        let worker = Arc::clone(&workers[nth % workers.len()]);
        requests.spawn(async move { worker.get("/about").await });
    }
    let committed = tokio::spawn(async move {
        loop {
            let message = watch.next().await.expect("a watch goes on").expect("it stands");
            if let WatchEvent::Committed(committed) = message.event {
                return (committed.generation, now());
            }
        }
    });
    let answers: Vec<Answer> = requests.join_all().await;
    let (generation, committed_at) = timeout(PATIENCE, committed).await.expect("in time").expect("no panic");

    let new = &answers[0];
    assert!(Some(generation) > old.generation && new.generation == Some(generation), "{old:?} {new:?}");
    for answer in &answers {
        assert_eq!((answer.status, answer.generation), (200, Some(generation)), "{answer:?}");
        assert_eq!(answer.body, new.body);
    }
    let in_state = |state| answers.iter().filter(|answer| answer.state == state).count();
    let renders = workers[0].renders().await + workers[1].renders().await;
    assert_eq!((renders, in_state("miss")), (2, 1), "the first one of all, and one for {REQUESTS} requests");
    assert_eq!(in_state("miss") + in_state("wait-hit") + in_state("hit"), REQUESTS);

    let last = answers.iter().map(|answer| answer.at).max().unwrap_or(committed_at);
    let delay = last.saturating_duration_since(committed_at);
    println!(
        "{REQUESTS} requests: {} waited, {} came later; heard of the commit {:?} after the first was sent, \
         the last answer came {delay:?} after that",
        in_state("wait-hit"),
        in_state("hit"),
        committed_at - sent,
    );
    assert!(delay < Duration::from_secs(2), "{delay:?}");
}
