//! What clients and workers go through: restarts, freezes, a coordinator that is told to stop, one that is
//! away.

use leasehold_client::{
    Acquire, AcquireOptions, Commit, Coordinator, Depth, EntryRef, Error, Lease, Lookup, LookupOptions,
    NewPage, RetryPolicy, Scope, WatchEvent, WatchFilter,
};
use leasehold_fleet::{CoordinatorProcess, SiteOptions, SiteProcess, now, since, until};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_made_while_the_coordinator_restarts_are_answered() {
    let mut coordinator = CoordinatorProcess::start().await;
    let client = coordinator.client("worker");
    let lease = granted(&client, "page").await;

    coordinator.kill();
    let (page, other) = (EntryRef::key("page"), EntryRef::key("other"));
    let calls = {
        let (client, lease) = (client.clone(), lease.clone());
        let options = (LookupOptions::default(), AcquireOptions::default());
        tokio::spawn(async move {
            let rendered = NewPage::new("rendered before the crash");
            let scopes = [Scope::tag("posts")];
            tokio::join!(
                client.lookup(&other, &options.0),
                client.acquire(&other, &options.1),
                client.invalidate(&scopes, Depth::Soft),
                lease.commit(&rendered),
            )
        })
    };
    // The outage itself: long enough for every call to have failed several times.
    tokio::time::sleep(Duration::from_millis(500)).await;
    coordinator.restart().await;
    let (lookup, acquire, invalidation, commit) = calls.await.expect("no panic");
    assert!(matches!(lookup.expect("an answer").outcome, Lookup::Missing(_)));
    assert!(matches!(acquire.expect("an answer"), Acquire::Granted(_)));
    let token = invalidation.expect("an answer");
    let commit = commit.expect("an answer");
    assert!(matches!(commit, Commit::Committed { .. }), "{commit:?}");
    let options = LookupOptions { consistency_token: Some(token), ..LookupOptions::with_body() };
    let Lookup::Fresh(fresh) = client.lookup(&page, &options).await.expect("an answer").outcome else {
        panic!("not fresh");
    };
    assert_eq!(fresh.page.generation, lease.generation());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_is_repeated_for_as_long_as_its_overall_timeout_lasts() {
    let mut coordinator = CoordinatorProcess::start().await;
    // The default is 20 s: time enough for an outage of 6 s.
    let client = coordinator.client("worker");
    coordinator.kill();
    let call = tokio::spawn(async move {
        let begun = now();
        let outcome = client.lookup(&EntryRef::key("page"), &LookupOptions::default()).await;
        (outcome, since(begun))
    });
    tokio::time::sleep(Duration::from_secs(6)).await;
    coordinator.restart().await;
    let (outcome, took) = call.await.expect("no panic");
    assert!(outcome.is_ok(), "after {took:?}: {outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_request_after_a_freeze_is_served_as_if_there_had_been_none() {
    // It hangs up on the silent worker long before that wakes up.
    let hangs_up = ["--keepalive-interval", "200ms", "--keepalive-timeout", "200ms"];
    let mut coordinator = CoordinatorProcess::start_with(&hangs_up).await;
    let mut site = SiteProcess::start(&coordinator, SiteOptions::default()).await;
    let about = site.get("/about").await;
    assert_eq!(about.state, "miss");

    site.process().freeze();
    tokio::time::sleep(Duration::from_secs(3)).await;
    site.process().thaw();
    let thawed = site.get("/about").await;
    assert_eq!((thawed.state.as_str(), &thawed.body), ("hit", &about.body));

    site.process().freeze();
    coordinator.kill();
    coordinator.restart().await;
    site.process().thaw();
    let thawed = site.get("/about").await;
    assert_eq!((thawed.state.as_str(), &thawed.body), ("hit", &about.body));

    site.process().freeze();
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.process().thaw();
    assert_eq!(site.get("/posts").await.state, "miss");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_workers_that_slept_for_ten_seconds_answer_at_once() {
    // As a balancer does in front of it, it hangs up on those who are silent.
    let hangs_up = ["--keepalive-interval", "1s", "--keepalive-timeout", "1s"];
    let coordinator = CoordinatorProcess::start_with(&hangs_up).await;
    let mut sites = Vec::new();
    for _ in 0..20 {
        sites.push(SiteProcess::start(&coordinator, SiteOptions::default()).await);
    }
    for site in &sites {
        assert_eq!(site.get("/about").await.status, 200);
    }
    sites.iter_mut().for_each(|site| site.process().freeze());
    tokio::time::sleep(Duration::from_secs(10)).await;
    for site in &mut sites {
        site.process().thaw();
        assert_eq!(site.get("/about").await.state, "hit");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn site_goes_on_while_the_coordinator_is_away_and_is_as_before_when_it_is_back() {
    let mut coordinator = CoordinatorProcess::start().await;
    let site = SiteProcess::start(&coordinator, SiteOptions::default()).await;
    let kept = site.get("/about").await;
    assert_eq!(kept.state, "miss");

    coordinator.kill();
    // What it knows, it serves; what it does not, it renders. Most of these do not even ask.
    for _ in 0..20 {
        let known = site.get("/about").await;
        assert_eq!((known.status, known.state.as_str()), (200, "stale-metadata-error"));
        assert_eq!((known.generation, &known.body), (kept.generation, &kept.body));
        let unknown = site.get("/posts").await;
        assert_eq!((unknown.status, unknown.state.as_str(), unknown.generation), (200, "bypass", None));
        assert!(unknown.body.contains("rendered by site"), "{unknown:?}");
    }
    coordinator.restart().await;
    let returned = now();
    let back = until("the site asks again", Duration::from_secs(20), async || {
        let answer = site.get("/about").await;
        (answer.state == "hit").then_some(answer)
    })
    .await;
    println!("as before {:?} after the coordinator was back", since(returned));
    assert_eq!((back.generation, &back.body), (kept.generation, &kept.body));
    assert_eq!(site.get("/posts").await.state, "miss");
    assert_eq!(site.get("/posts").await.state, "hit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinator_told_to_stop_finishes_what_it_has_begun_and_loses_nothing() {
    const PAGES: usize = 8;
    let mut coordinator = CoordinatorProcess::start().await;
    let once = |owner, inline_limit| {
        coordinator.client_by(owner, |builder| builder.retry(RetryPolicy::never()).inline_limit(inline_limit))
    };
    let clients = [once("inline", 1 << 20), once("uploads", 0)];
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    let mut readers = JoinSet::new();
    for nth in 0..PAGES {
        let client = &clients[nth % clients.len()];
        let key = format!("page-{nth}");
        writers.spawn(commit_until_it_stops(client.clone(), key.clone(), Arc::clone(&stop)));
        readers.spawn(look_up_until_it_stops(client.clone(), key, Arc::clone(&stop)));
    }
    // One who waits for another's render, and one who watches: neither may hold up the end.
    let client = &clients[0];
    let _held = granted(client, "held").await;
    let waiter = {
        let client = client.clone();
        tokio::spawn(async move {
            let options = AcquireOptions { wait: Duration::from_secs(50), ..Default::default() };
            client.acquire(&EntryRef::key("held"), &options).await
        })
    };
    let mut watch = client.watch(&[WatchFilter::whole_tenant("default")], None);
    for _ in 0..2 * PAGES {
        while !matches!(watch.next().await.expect("goes on").expect("stands").event, WatchEvent::Committed(_))
        {
        }
    }

    coordinator.terminate();
    let told = now();
    let status = coordinator.ended(Duration::from_secs(30)).await;
    let took = since(told);
    stop.store(true, Ordering::Relaxed);
    assert!(status.success(), "{status}");
    coordinator.printed("every call was finished", Duration::from_secs(1)).await;
    let waited = waiter.await.expect("no panic");
    assert!(matches!(&waited, Err(error) if error.is_retryable()), "{waited:?}");
    println!("told to stop under load, it ended after {took:?}");

    readers.join_all().await;
    let acknowledged: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    assert!(!acknowledged.is_empty());
    coordinator.restart().await;
    let client = coordinator.client("reader");
    for Written { key, acknowledged, in_doubt } in acknowledged {
        let served = client.serve_page(&EntryRef::key(&key), &Default::default()).await.expect("a page");
        let generation = served.current.page().generation;
        assert!(generation == acknowledged || Some(generation) == in_doubt, "{key}: {generation} is served");
        let body = served.body.collect(1 << 20).await.expect("a body");
        assert_eq!(body, body_of(&key, generation));
    }
}

/// What became of one writer's commits.
struct Written {
    key: String,
    /// The generation that was acknowledged last.
    acknowledged: u64,
    /// A later one, whose answer never came: a call that meets the end of its connection on the way cannot know
    /// whether it was heard.
    in_doubt: Option<u64>,
}

/// Commits until the coordinator takes no more calls.
async fn commit_until_it_stops(client: Coordinator, key: String, stop: Arc<AtomicBool>) -> Option<Written> {
    let mut last = None;
    let mut in_doubt = None;
    while !stop.load(Ordering::Relaxed) {
        let round = async {
            let options = AcquireOptions { ttl: Some(Duration::from_millis(100)), ..Default::default() };
            let Acquire::Granted(lease) = client.acquire(&EntryRef::key(&key), &options).await? else {
                return Ok(None);
            };
            let mut page = NewPage::new(body_of(&key, lease.generation()));
            page.metadata.revalidate = Some(Duration::ZERO);
            in_doubt = Some(lease.generation());
            let answer = lease.commit(&page).await.inspect_err(|error| {
                if !error.may_have_been_applied() {
                    in_doubt = None;
                }
            })?;
            in_doubt = None;
            assert!(matches!(answer, Commit::Committed { .. }), "{key}: {answer:?}");
            Ok::<_, Error>(Some(lease.generation()))
        };
        match round.await {
            Ok(committed) => last = committed.or(last),
            Err(error) => {
                assert!(error.is_retryable(), "{key}: {error:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    last.map(|acknowledged| Written { key, acknowledged, in_doubt })
}

async fn look_up_until_it_stops(client: Coordinator, key: String, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = client.lookup(&EntryRef::key(&key), &LookupOptions::with_body()).await {
            assert!(error.is_retryable(), "{key}: {error:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn body_of(key: &str, generation: u64) -> String {
    format!("{key} of {generation}\n").repeat(4096)
}

async fn granted(client: &Coordinator, key: &str) -> Lease {
    let options = AcquireOptions { ttl: Some(Duration::from_secs(60)), ..Default::default() };
    match client.acquire(&EntryRef::key(key), &options).await.expect("an answer") {
        Acquire::Granted(lease) => lease,
        other => panic!("{key}: {other:?}"),
    }
}
