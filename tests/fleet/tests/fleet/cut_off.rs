//! A coordinator that its callers reach, and that does not reach the table.

use leasehold_client::{
    Acquire, AcquireOptions, Builder, Commit, Consistency, ConsistencyToken, Coordinator, Depth, EntryRef,
    Error, Lookup, LookupOptions, MissingReason, NewPage, PageBody, RetryPolicy, Scope, StaleReason,
};
use leasehold_fleet::{Node, now, since, until};
use std::{panic::resume_unwind, time::Duration};
use tokio::time::Instant;

const BOUND: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinator_cut_off_from_the_table_calls_nothing_fresh_and_serves_what_is_not_purged() {
    // An unanswered request is given up soon, so that this test is.
    let nodes: [Node; 3] = Node::start(&["--staleness-bound", "2s", "--store-timeout", "1s"]).await;
    let [writer, beyond, other] = nodes.each_ref().map(|node| node.coordinator.client("caller"));
    let once = |b: Builder| b.retry(RetryPolicy::never());
    let cut_off = nodes[1].coordinator.client_by("caller", once);
    let keys = ["kept", "purged", "changed"];
    for key in keys {
        render(&writer, key).await;
        // What it was never asked for, it could not serve.
        fresh(&beyond, key).await;
    }
    let purge = writer.invalidate(&[Scope::key("purged")], Depth::Hard).await.expect("invalidated");
    assert_eq!(look_up(&beyond, "purged", Some(purge)).await, Lookup::Missing(MissingReason::Purged));

    nodes[1].cut_off_from_dynamodb();
    // It cannot have read the log later than this.
    let cut = now();
    // Which it does not hear of.
    let change = writer.invalidate(&[Scope::tag("changed")], Depth::Soft).await.expect("invalidated");
    let asking = ["kept", "changed", "purged"].map(|key| tokio::spawn(ask(cut_off.clone(), key, cut)));
    let mut heard = Vec::new();
    for asking in asking {
        heard.push(asking.await.unwrap_or_else(|panic| resume_unwind(panic.into_panic())));
    }
    // What it cannot know, it does not say; and nobody else is held up.
    let strict = LookupOptions { consistency: Consistency::Strict, ..Default::default() };
    let unknown = cut_off.lookup(&EntryRef::key("kept"), &strict).await;
    assert!(unknown.as_ref().is_err_and(Error::is_retryable), "{unknown:?}");
    let lost = cut_off.invalidate(&[Scope::tag("of none")], Depth::Soft).await;
    assert!(lost.as_ref().is_err_and(Error::is_retryable), "{lost:?}");
    fresh(&other, "kept").await;

    nodes[1].reconnect();
    let reconnected = now();
    let recovered = fresh(&beyond, "kept").await;
    let changed = look_up(&beyond, "changed", Some(change)).await;
    assert!(
        matches!(&changed, Lookup::Stale(stale) if stale.reason == StaleReason::Invalidated),
        "{changed:?}"
    );
    assert_eq!(look_up(&beyond, "purged", None).await, Lookup::Missing(MissingReason::Purged));
    render(&beyond, "purged").await;
    let answered = recovered.saturating_duration_since(reconnected);
    println!("answers while it was cut off: {heard:#?}");
    println!("fresh again {answered:?} after its end");
}

/// What was answered about one page.
#[derive(Debug, Default)]
struct Heard {
    fresh: usize,
    /// How long after the cut the first was.
    first_unverified: Option<Duration>,
    unverified: usize,
    purged: usize,
    failed: usize,
}

/// Asks for twice the staleness bound, and judges every answer.
async fn ask(client: Coordinator, key: &'static str, cut: Instant) -> Heard {
    let mut heard = Heard::default();
    while since(cut) < 2 * BOUND {
        let is_past_the_bound = since(cut) > BOUND;
        let reply = client.lookup(&EntryRef::key(key), &LookupOptions::with_body()).await;
        match reply.map(|reply| reply.outcome) {
            Ok(Lookup::Missing(MissingReason::Purged)) if key == "purged" => heard.purged += 1,
            // Whether it was rendered again by somebody else cannot be known.
            Err(error) if key == "purged" && error.is_retryable() => heard.failed += 1,
            Ok(Lookup::Fresh(_)) if key != "purged" && !is_past_the_bound => heard.fresh += 1,
            Ok(Lookup::Stale(stale)) if key != "purged" => {
                assert_eq!(stale.reason, StaleReason::Unverified, "{key}");
                assert_eq!(stale.page.body, PageBody::Inline(body(key).into()), "{key}");
                heard.unverified += 1;
                heard.first_unverified.get_or_insert_with(|| since(cut));
            }
            wrong => panic!("{key}, {:?} after the cut: {wrong:?}", since(cut)),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(key == "purged" || heard.unverified > 0, "{key}: {heard:?}");
    heard
}

fn body(key: &str) -> String {
    format!("the page of {key}")
}

/// Renders a page that is fresh until it is invalidated.
async fn render(client: &Coordinator, key: &str) {
    let Acquire::Granted(lease) =
        client.acquire(&EntryRef::key(key), &AcquireOptions::default()).await.expect("an answer")
    else {
        panic!("{key} is another's");
    };
    let mut page = NewPage::new(body(key));
    page.metadata.tags = vec![key.to_owned()];
    let committed = lease.commit(&page).await.expect("an answer");
    assert!(matches!(committed, Commit::Committed { .. }), "{key}: {committed:?}");
}

async fn look_up(client: &Coordinator, key: &str, consistency_token: Option<ConsistencyToken>) -> Lookup {
    let options = LookupOptions { consistency_token, ..LookupOptions::with_body() };
    client
        .lookup(&EntryRef::key(key), &options)
        .await
        .unwrap_or_else(|error| panic!("{key}: {error:?}"))
        .outcome
}

/// Waits until it is; gives the time.
async fn fresh(client: &Coordinator, key: &str) -> Instant {
    until(&format!("{key} is fresh"), PATIENCE, async || {
        matches!(look_up(client, key, None).await, Lookup::Fresh(_)).then(now)
    })
    .await
}
