//! Watching: what happens is sent once and in order, or its loss is told.

use crate::harness::*;
use tonic::Streaming;
use v1::{
    ResyncReason, commit_pointer_response::Outcome as Committed, watch_filter::Filter, watch_response::Event,
};

fn filter_of(tenant: &str, filter: Filter) -> v1::WatchFilter {
    v1::WatchFilter { tenant: tenant.to_owned(), filter: Some(filter) }
}

fn all_of(tenant: &str) -> v1::WatchFilter {
    filter_of(tenant, Filter::WholeTenant(v1::WholeTenant {}))
}

fn from_now(filters: impl Into<Vec<v1::WatchFilter>>) -> v1::WatchRequest {
    v1::WatchRequest { filters: filters.into(), resume_token: String::new() }
}

/// What a watcher is sent, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Started,
    Committed { key: String, deployment: String, generation: u64, stale: bool },
    Invalidated { scopes: Vec<v1::InvalidationScope>, depth: v1::InvalidationDepth },
    Resync(ResyncReason),
    Progress,
    Ended,
}

struct Watcher(Streaming<v1::WatchResponse>);

impl Watcher {
    async fn start(node: &Coordinator, request: v1::WatchRequest) -> Self {
        let mut watcher = Self(soon(node.client().watch(request)).await.unwrap().into_inner());
        assert_eq!(watcher.next().await.0, Sent::Started);
        watcher
    }

    /// What is sent next, and the token to go on after it.
    async fn next(&mut self) -> (Sent, String) {
        let message = soon(self.0.message()).await.unwrap().expect("the watch has ended");
        assert!(!message.resume_token.is_empty());
        let sent = match message.event.expect("an event") {
            Event::Started(_) => Sent::Started,
            Event::Resync(resync) => Sent::Resync(resync.reason()),
            Event::Committed(page) => Sent::Committed {
                key: page.key,
                deployment: page.deployment,
                generation: page.generation,
                stale: page.stale,
            },
            Event::Invalidated(pages) => {
                assert!(!pages.consistency_token.is_empty());
                Sent::Invalidated { depth: pages.depth(), scopes: pages.scopes }
            }
            Event::Progress(_) => Sent::Progress,
            Event::Ended(_) => Sent::Ended,
        };
        (sent, message.resume_token)
    }
}

fn committed(key: &str, generation: u64) -> Sent {
    Sent::Committed { key: key.to_owned(), deployment: String::new(), generation, stale: false }
}

fn invalidated(scopes: impl Into<Vec<v1::InvalidationScope>>) -> Sent {
    Sent::Invalidated { scopes: scopes.into(), depth: v1::InvalidationDepth::Soft }
}

#[tokio::test]
async fn commits_and_invalidations_are_sent_in_order_once_and_only_what_is_watched() {
    let world = World::new();
    let node = world.start().await;
    let tagged = |name: &str| v1::PageMetadata { tags: tags(&[name]), ..Default::default() };
    // Before the watch: not sent.
    node.publish(&entry("before"), "html").await;
    node.invalidate(invalidation([tag("before")])).await.unwrap();
    let by_tag = filter_of(TENANT, Filter::Tag("t".to_owned()));
    let by_key = filter_of(TENANT, Filter::Key("k".to_owned()));
    let mut everything =
        Watcher::start(&node, from_now([all_of(TENANT), by_tag.clone(), by_key.clone()])).await;
    let mut of_tag = Watcher::start(&node, from_now([by_tag])).await;
    let mut of_key = Watcher::start(&node, from_now([by_key])).await;

    let first = node.publish_with(&entry("k"), "html", tagged("t")).await;
    node.publish(&entry_of("globex", "", "k"), "html").await;
    let other = node.publish_with(&entry("other"), "html", tagged("u")).await;
    node.invalidate(invalidation([tag("u"), tag("t"), scope_of("globex", tag("t").scope.unwrap())]))
        .await
        .unwrap();
    let green = node.publish(&entry_of(TENANT, "green", "k"), "html").await;
    let key = scope(v1::invalidation_scope::Scope::Key("k".to_owned()));
    node.invalidate(purge([key.clone()])).await.unwrap();

    let green = Sent::Committed {
        key: "k".to_owned(),
        deployment: "green".to_owned(),
        generation: green,
        stale: false,
    };
    let purged = Sent::Invalidated { scopes: vec![key], depth: v1::InvalidationDepth::Hard };
    for expected in [
        committed("k", first),
        committed("other", other),
        invalidated([tag("u"), tag("t")]),
        green.clone(),
        purged.clone(),
    ] {
        assert_eq!(everything.next().await.0, expected);
    }
    for expected in [committed("k", first), invalidated([tag("t")])] {
        assert_eq!(of_tag.next().await.0, expected);
    }
    // Which tags the entry of a key has is not known: a tag could be one of them.
    for expected in [committed("k", first), invalidated([tag("u"), tag("t")]), green, purged] {
        assert_eq!(of_key.next().await.0, expected);
    }
}

#[tokio::test]
async fn a_commit_says_that_it_was_overtaken_and_is_sent_once_however_often_it_is_repeated() {
    let world = World::new();
    let node = world.start().await;
    let mut watcher = Watcher::start(&node, from_now([all_of(TENANT)])).await;
    let render = node.grant(&entry("k")).await;
    let key = scope(v1::invalidation_scope::Scope::Key("k".to_owned()));
    node.invalidate(invalidation([key.clone()])).await.unwrap();
    for _ in 0..3 {
        let outcome = node.commit(render.page("html")).await.unwrap();
        assert!(matches!(outcome, Committed::CommittedStale(_)), "{outcome:?}");
    }
    let last = node.publish(&entry("last"), "html").await;
    let generation = render.generation();
    let stale = Sent::Committed { key: "k".to_owned(), deployment: String::new(), generation, stale: true };
    for expected in [invalidated([key]), stale, committed("last", last)] {
        assert_eq!(watcher.next().await.0, expected);
    }
}

#[tokio::test]
async fn a_commit_whose_answer_the_store_lost_is_sent_too() {
    let world = World::new();
    let node = world.start().await;
    let mut watcher = Watcher::start(&node, from_now([all_of(TENANT)])).await;
    let render = node.grant(&entry("k")).await;
    node.faults.add(Rule::on(Operation::Swap, Fault::TimeOutAfter).nth(1));
    node.commit_fresh(render.page("html")).await;
    let last = node.publish(&entry("last"), "html").await;
    for expected in [committed("k", render.generation()), committed("last", last)] {
        assert_eq!(watcher.next().await.0, expected);
    }
}

#[tokio::test]
async fn invalidations_of_other_coordinators_are_sent_once() {
    let world = World::new();
    let (one, other) = (world.start().await, world.start().await);
    let mut watcher = Watcher::start(&one, from_now([all_of(TENANT)])).await;
    let request = invalidation([tag("t")]);
    other.invalidate(request.clone()).await.unwrap();
    one.invalidate(request).await.unwrap();
    one.invalidate(invalidation([tag("last")])).await.unwrap();
    for expected in [invalidated([tag("t")]), invalidated([tag("last")])] {
        assert_eq!(watcher.next().await.0, expected);
    }
}

#[tokio::test]
async fn a_watch_goes_on_after_any_message_without_gap_or_repetition() {
    let world = World::new();
    let node = world.start().await;
    // What is not watched in between must not shift anything.
    let filters = [filter_of(TENANT, Filter::Tag("t".to_owned()))];
    let mut watcher = Watcher::start(&node, from_now(filters.clone())).await;
    let mut sent = Vec::new();
    for at in 0..5 {
        let key = format!("k{at}");
        let metadata = v1::PageMetadata { tags: tags(&["t"]), ..Default::default() };
        let generation = node.publish_with(&entry(&key), "html", metadata).await;
        node.publish(&entry(&format!("not watched {at}")), "html").await;
        sent.push(committed(&key, generation));
    }
    let mut tokens = Vec::new();
    for expected in &sent {
        let (event, token) = watcher.next().await;
        assert_eq!(event, *expected);
        tokens.push(token);
    }
    drop(watcher);
    for (at, resume_token) in tokens.into_iter().enumerate() {
        let request = v1::WatchRequest { filters: filters.to_vec(), resume_token };
        let mut watcher = Watcher::start(&node, request).await;
        for expected in &sent[at + 1..] {
            assert_eq!(watcher.next().await.0, *expected);
        }
        // Then it is in the present.
        node.invalidate(invalidation([tag("t")])).await.unwrap();
        assert_eq!(watcher.next().await.0, invalidated([tag("t")]));
        sent.push(invalidated([tag("t")]));
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_resumed_from_is_answered_with_a_resync_and_the_watch_goes_on() {
    let world = World::new();
    let (node, another) =
        (world.start_with(|settings, _| settings.memory.watch_events = 4).await, world.start().await);
    let filters = vec![all_of(TENANT)];
    let mut watcher = Watcher::start(&node, from_now(filters.clone())).await;
    node.publish(&entry("first"), "html").await;
    let (_, resume_token) = watcher.next().await;
    drop(watcher);
    for at in 0..5 {
        node.publish(&entry(&format!("k{at}")), "html").await;
    }
    let request = v1::WatchRequest { filters, resume_token };
    for (node, reason) in [(&node, ResyncReason::TooOld), (&another, ResyncReason::OtherRun)] {
        let mut watcher = Watcher::start(node, request.clone()).await;
        assert_eq!(watcher.next().await.0, Sent::Resync(reason));
        let generation = node.publish(&entry(&format!("after {reason:?}")), "html").await;
        assert_eq!(watcher.next().await.0, committed(&format!("after {reason:?}"), generation));
    }
}

#[tokio::test]
async fn a_watcher_that_reads_too_slowly_is_told_to_resync() {
    let world = World::new();
    let node = world
        .start_with(|settings, _| {
            settings.memory.watch_events = 8;
            settings.limits.stall_timeout = secs(3600);
        })
        .await;
    let watch = node.narrow_client().await.watch(from_now([all_of(TENANT)])).await.unwrap();
    let mut watcher = Watcher(watch.into_inner());
    assert_eq!(watcher.next().await.0, Sent::Started);
    // Each is some 25 KB, more than is on its way to a watcher that does not read.
    for at in 0..40 {
        let scopes: Vec<_> =
            (0..100).map(|scope| tag(&format!("{at} {scope} {}", "x".repeat(240)))).collect();
        node.invalidate(invalidation(scopes)).await.unwrap();
    }
    let mut read = 0;
    loop {
        match watcher.next().await.0 {
            Sent::Invalidated { .. } => read += 1,
            Sent::Resync(reason) => {
                assert_eq!(reason, ResyncReason::Slow);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(read < 40, "nothing was missed");
    let generation = node.publish(&entry("afterwards"), "html").await;
    assert_eq!(watcher.next().await.0, committed("afterwards", generation));
}

#[tokio::test]
async fn a_watch_says_that_it_is_alive_and_ends_with_word_of_the_stop() {
    let world = World::new();
    let mut node = world.start_with(|settings, _| settings.watch_progress_interval = ms(30)).await;
    let mut watcher = Watcher::start(&node, from_now([all_of(TENANT)])).await;
    for _ in 0..2 {
        assert_eq!(watcher.next().await.0, Sent::Progress);
    }
    let generation = node.publish(&entry("k"), "html").await;
    loop {
        match watcher.next().await.0 {
            Sent::Progress => {}
            other => break assert_eq!(other, committed("k", generation)),
        }
    }
    node.stop().await;
    loop {
        match watcher.next().await.0 {
            Sent::Progress => {}
            other => break assert_eq!(other, Sent::Ended),
        }
    }
    assert!(soon(watcher.0.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn more_watches_than_the_limit_are_refused_until_one_ends() {
    let world = World::new();
    let node = world.start_with(|settings, _| settings.limits.watches = 1).await;
    let first = Watcher::start(&node, from_now([all_of(TENANT)])).await;
    let refused = soon(node.client().watch(from_now([all_of(TENANT)]))).await.map(drop);
    let status = assert_refused(refused, Code::ResourceExhausted, "LIMIT_REACHED");
    assert!(refusal(&status).has_retry_info);
    drop(first);
    until(async || node.client().watch(from_now([all_of(TENANT)])).await.is_ok()).await;
}
