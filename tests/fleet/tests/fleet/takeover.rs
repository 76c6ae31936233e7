//! Workers that die, or sleep through their lease, in the middle of a render.

use leasehold_client::{Acquire, AcquireOptions, Commit, Coordinator, EntryRef, Lease, NewPage, Renewal};
use leasehold_fleet::{CoordinatorProcess, SiteOptions, SiteProcess, now, since};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(2);
/// More than enough on a machine that is busy with something else.
const SLACK: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_of_a_killed_worker_is_rendered_by_another_when_its_lease_is_over() {
    let coordinator = CoordinatorProcess::start().await;
    let (mut doomed, heir) = rivals(&coordinator, Duration::from_secs(600)).await;

    let visitor = doomed.visitor();
    let abandoned = tokio::spawn(async move { visitor.try_get("/about").await });
    doomed.has_begun(1).await;
    let visitor = heir.visitor();
    let inherited = tokio::spawn(async move { visitor.get("/about").await });
    doomed.process().kill();
    let killed = now();

    let page = inherited.await.expect("an answer");
    let takeover = page.at.saturating_duration_since(killed);
    assert_eq!((page.status, page.state.as_str()), (200, "miss"));
    assert!(page.body.contains("rendered by heir"), "{page:?}");
    assert!(abandoned.await.expect("no panic").is_err(), "a dead worker answered");
    assert_eq!(heir.renders().await, 1);
    println!("page served {takeover:?} after the kill; the lease lasted {TTL:?}");
    assert!(takeover < TTL + SLACK, "{takeover:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_that_slept_through_its_lease_does_not_undo_its_successors_page() {
    let coordinator = CoordinatorProcess::start().await;
    // Long enough to be frozen in the middle of it.
    let (mut sleeper, heir) = rivals(&coordinator, Duration::from_secs(4)).await;

    let visitor = sleeper.visitor();
    let late = tokio::spawn(async move { visitor.get("/about").await });
    sleeper.has_begun(1).await;
    sleeper.process().freeze();
    let frozen = now();
    let new = heir.get("/about").await;
    let takeover = since(frozen);
    assert_eq!((new.status, new.state.as_str()), (200, "miss"));
    assert!(new.body.contains("rendered by heir"), "{new:?}");

    sleeper.process().thaw();
    let late = late.await.expect("an answer");
    // It rendered a page of its own, was told that a newer one is current, and serves that.
    assert_eq!((late.status, late.state.as_str()), (200, "wait-hit"));
    assert_eq!((late.generation, &late.body), (new.generation, &new.body));
    assert_eq!((sleeper.renders().await, heir.renders().await), (1, 1));
    for worker in [&sleeper, &heir] {
        let now = worker.get("/about").await;
        assert_eq!((now.state.as_str(), now.generation, &now.body), ("hit", new.generation, &new.body));
    }
    println!("page served {takeover:?} after the freeze; the lease lasted {TTL:?}");
    assert!(takeover < TTL + SLACK, "{takeover:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_commit_is_fenced_while_the_successor_renders_and_superseded_once_it_has_committed() {
    let coordinator = CoordinatorProcess::start().await;
    let entry = EntryRef::key("page");
    let (late, successor) = (coordinator.client("late"), coordinator.client("successor"));
    let old = granted(&late, &entry, Duration::from_millis(200)).await;
    // Nobody renews the old lease: this waits until it is over.
    let new = granted(&successor, &entry, Duration::from_secs(60)).await;
    assert!(new.generation() > old.generation(), "{old:?} {new:?}");

    let (old_page, new_page) = (NewPage::new("old"), NewPage::new("new"));
    assert_eq!(old.renew(None).await.expect("an answer"), Renewal::Lost);
    let fenced = Commit::Fenced { latest_generation: new.generation() };
    assert_eq!(old.commit(&old_page).await.expect("an answer"), fenced);
    let committed = new.commit(&new_page).await.expect("an answer");
    assert!(matches!(committed, Commit::Committed { .. }), "{committed:?}");
    let superseded = Commit::Superseded { current_generation: new.generation() };
    assert_eq!(old.commit(&old_page).await.expect("an answer"), superseded);

    let served = successor.serve_page(&entry, &Default::default()).await.expect("a page");
    assert_eq!(served.current.page().generation, new.generation());
    assert_eq!(served.body.collect(1 << 20).await.expect("a body"), "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_repeated_after_its_successors_is_superseded_however_its_bodies_travelled() {
    let coordinator = CoordinatorProcess::start().await;
    for (key, inline_limit) in [("inline", 1 << 20), ("uploaded", 0)] {
        let client = coordinator.client_by(key, |builder| builder.inline_limit(inline_limit));
        let entry = EntryRef::key(key);
        let mut page = NewPage::new("html").sidecar("{}");
        page.metadata.revalidate = Some(Duration::ZERO);
        let first = granted(&client, &entry, TTL).await;
        let committed = first.commit(&page).await.expect("an answer");
        assert!(matches!(committed, Commit::Committed { .. }), "{key}: {committed:?}");
        // Its worker has not heard that, and asks again.
        assert_eq!(first.commit(&page).await.expect("an answer"), committed, "{key}");
        let second = granted(&client, &entry, TTL).await;
        assert_eq!(first.commit(&page).await.expect("an answer"), committed, "{key}: still current");
        second.commit(&page).await.expect("an answer");
        let superseded = Commit::Superseded { current_generation: second.generation() };
        assert_eq!(first.commit(&page).await.expect("an answer"), superseded, "{key}");
    }
}

/// One worker that takes so long to render, and one that takes no time.
async fn rivals(coordinator: &CoordinatorProcess, render_delay: Duration) -> (SiteProcess, SiteProcess) {
    let options = SiteOptions { lease_ttl: TTL, ..Default::default() };
    let slow = SiteOptions { worker: "slow", render_delay, ..options.clone() };
    let heir = SiteOptions { worker: "heir", ..options };
    (SiteProcess::start(coordinator, slow).await, SiteProcess::start(coordinator, heir).await)
}

async fn granted(coordinator: &Coordinator, entry: &EntryRef, ttl: Duration) -> Lease {
    let options = AcquireOptions { ttl: Some(ttl), wait: Duration::from_secs(20), ..Default::default() };
    match coordinator.acquire(entry, &options).await.expect("an answer") {
        Acquire::Granted(lease) => lease,
        other => panic!("{entry:?}: {other:?}"),
    }
}
