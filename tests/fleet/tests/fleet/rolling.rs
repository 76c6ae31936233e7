//! Coordinators on one table that die and come back in turn, under load.

use crate::load::{Asked, Load};
use leasehold_client::RetryPolicy;
use leasehold_fleet::{Node, SiteOptions, SiteProcess, Visitor, now, since};
use std::time::Duration;

/// How long they do so: `FLEET_SECONDS`, which an operator may want to be more.
const SECONDS: u64 = 15;
/// While all are there, and while one is away. Where in its work a commit is hit is left to chance.
const COMMITS: usize = 15;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_no_call_fails_while_nodes_are_killed_in_turn() {
    let seconds = std::env::var("FLEET_SECONDS").map_or(SECONDS, |text| text.parse().expect("seconds"));
    let mut nodes: [Node; 3] = Node::start(&[]).await;
    let front = Node::front(&nodes).await;
    // The defaults of the client: what can be served by a retry is what these get served.
    let mut load = Load::start(Asked::Several, &RetryPolicy::default(), &|owner, configure| {
        front.client_by(owner, configure)
    });
    let revalidate = Duration::from_millis(200);
    let options = SiteOptions { revalidate, ..Default::default() };
    let site = SiteProcess::start_at(&front.endpoint(), options).await;
    let visits = tokio::spawn(visit(site.visitor()));
    let start = now();
    let (mut kills, mut restarts) = (0, Vec::new());
    while since(start) < Duration::from_secs(seconds) || kills < nodes.len() {
        let turn = kills % nodes.len();
        load.goes_on(COMMITS).await;
        nodes[turn].coordinator.kill();
        kills += 1;
        load.goes_on(COMMITS).await;
        let down = now();
        nodes[turn].coordinator.restart().await;
        restarts.push(since(down));
        // Also what it has never seen.
        let coordinator = &nodes[turn].coordinator;
        load.check(&load.worker.asking(coordinator.client("checker")), 3).await;
    }
    load.stop().await;
    assert!(!visits.is_finished(), "the visitor goes on: {:?}", visits.await);
    visits.abort();
    for node in &nodes {
        load.check(&load.worker.asking(node.coordinator.client("checker")), 10).await;
    }
    let tally = load.tally();
    println!(
        "{kills} kills in {:?}, back after {:?} at most: {tally:#?}",
        since(start),
        restarts.iter().max()
    );
    assert_eq!(tally.calls_failed, 0, "two nodes were there all the time: {tally:?}");
    assert!(tally.committed >= 2 * kills * COMMITS, "{tally:?}");
    assert!(tally.invalidations > kills && tally.pages_checked > kills, "{tally:?}");
}

/// Asks for pages without end. The site may go its own way where it gets no answer in time; its visitors never go without.
async fn visit(visitor: Visitor) {
    for path in ["/about", "/posts", "/"].iter().cycle() {
        let page = visitor.get(path).await;
        assert_eq!(page.status, 200, "{page:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
