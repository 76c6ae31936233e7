//! Lookups: a lone one is a call, many share a stream, and whatever happens to the stream, they are answered.

mod mock;

use leasehold_client::{
    Builder, Coordinator, EntryRef, Error, Lookup, LookupOptions, LookupReply, Reason, RetryPolicy,
};
use mock::{Mock, Network, Step, refusal, unavailable};
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

const SECOND: Duration = Duration::from_secs(1);

fn lookups(client: &Coordinator, count: usize) -> Vec<JoinHandle<Result<LookupReply, Error>>> {
    (0..count)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                client.lookup(&EntryRef::key(format!("k{number}")), &LookupOptions::default()).await
            })
        })
        .collect()
}

async fn all(lookups: Vec<JoinHandle<Result<LookupReply, Error>>>) {
    for lookup in lookups {
        let reply = lookup.await.unwrap().unwrap();
        assert!(matches!(reply.outcome, Lookup::Fresh(_)));
    }
}

fn builder() -> Builder {
    Coordinator::builder().attempt_timeout(SECOND)
}

/// A client with a stream that is open, and the mock behind it.
async fn busy(builder: Builder) -> (Mock, Network, Coordinator) {
    let mock = Mock::default();
    let network = Network::new(&mock);
    let client = network.client(builder);
    all(lookups(&client, 20)).await;
    assert_eq!(mock.count("lookup_stream"), 1);
    (mock, network, client)
}

#[tokio::test(start_paused = true)]
async fn lone_lookups_are_calls_of_their_own() {
    let mock = Mock::default();
    let client = Network::new(&mock).client(builder());
    for _ in 0..10 {
        client.lookup(&EntryRef::key("k"), &LookupOptions::default()).await.unwrap();
    }
    assert_eq!((mock.count("lookup"), mock.count("lookup_stream")), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn many_lookups_share_one_stream() {
    let mock = Mock::default();
    let network = Network::new(&mock);
    let client = network.client(builder());
    all(lookups(&client, 1000)).await;
    assert_eq!((mock.count("lookup_stream"), network.connections()), (1, 1));
    assert!(mock.count("lookup") <= 2 && mock.count("streamed") >= 998);
}

#[tokio::test(start_paused = true)]
async fn answers_find_their_callers_in_any_order() {
    let mock = Mock::default();
    // Every other one is answered by an error of its own, and some not at all at first.
    mock.script(
        "streamed",
        (0..98).map(|number| match number % 3 {
            0 => Step::Fail(refusal(Code::InvalidArgument, "INVALID_FIELD")),
            1 => Step::Hang,
            _ => Step::Reply(mock::Reply::Lookup(mock::fresh(77))),
        }),
    );
    let client = Network::new(&mock).client(builder());
    let mut refused = 0;
    for lookup in lookups(&client, 100) {
        match lookup.await.unwrap() {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.reason(), Some(&Reason::InvalidField));
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 33);
}

#[tokio::test(start_paused = true)]
async fn lookups_in_flight_are_bounded() {
    let (mock, _network, client) = busy(builder().streamed_lookups(8)).await;
    let before = mock.count("streamed");
    mock.script("streamed", (0..8).map(|_| Step::Hang));
    let waiting = lookups(&client, 50);
    mock.until("streamed", before + 8).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(mock.count("streamed"), before + 8);
    all(waiting).await;
}

#[tokio::test(start_paused = true)]
async fn caller_that_goes_away_frees_its_place() {
    let (mock, _network, client) = busy(builder().streamed_lookups(4)).await;
    let before = mock.count("streamed");
    mock.script("lookup", [Step::Hang, Step::Hang]);
    mock.script("streamed", (0..4).map(|_| Step::Hang));
    let gone = lookups(&client, 6);
    mock.until("streamed", before + 4).await;
    let begun = mock::now();
    gone.iter().for_each(JoinHandle::abort);
    for lookup in gone {
        assert!(lookup.await.is_err_and(|error| error.is_cancelled()));
    }
    all(lookups(&client, 50)).await;
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waited for those who are gone");
    assert_eq!(mock.count("lookup_stream"), 1);
}

#[tokio::test(start_paused = true)]
async fn unanswered_lookups_are_asked_again_when_the_coordinator_goes_down() {
    let (mock, network, client) = busy(builder()).await;
    mock.script("streamed", (0..10).map(|_| Step::Hang));
    mock.script("streamed", [Step::EndStream(Some(unavailable("DRAINING")))]);
    all(lookups(&client, 30)).await;
    assert_eq!((mock.count("lookup_stream"), network.connections()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn unanswered_lookups_are_asked_again_when_the_stream_just_ends() {
    let (mock, _network, client) = busy(builder()).await;
    mock.script("streamed", [Step::Hang, Step::Hang, Step::EndStream(None)]);
    all(lookups(&client, 30)).await;
}

#[tokio::test(start_paused = true)]
async fn cut_connection_costs_no_lookup() {
    let (mock, network, client) = busy(builder()).await;
    let before = mock.count("streamed");
    mock.script("streamed", (0..10).map(|_| Step::Hang));
    let waiting = lookups(&client, 12);
    mock.until("streamed", before + 10).await;
    network.cut();
    all(waiting).await;
    assert_eq!(network.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn black_holed_stream_is_left_for_a_new_connection() {
    let (mock, network, client) = busy(builder().keepalive(Duration::from_secs(3600), SECOND)).await;
    network.black_hole();
    let begun = mock::now();
    all(lookups(&client, 100)).await;
    assert!(begun.elapsed() < 2 * SECOND, "{:?}", begun.elapsed());
    assert_eq!((network.connections(), mock.count("lookup_stream")), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn one_slow_lookup_does_not_cost_the_others_their_connection() {
    let (mock, network, client) = busy(builder().retry(RetryPolicy::never())).await;
    let before = mock.count("streamed");
    mock.script("streamed", [Step::Hang]);
    let slow = lookups(&client, 3);
    mock.until("streamed", before + 1).await;
    for _ in 0..15 {
        tokio::time::sleep(SECOND / 10).await;
        all(lookups(&client, 5)).await;
    }
    let mut timed_out = 0;
    for lookup in slow {
        timed_out += usize::from(matches!(lookup.await.unwrap(), Err(Error::TimedOut { .. })));
    }
    assert_eq!((timed_out, network.connections()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn coordinator_without_streams_is_asked_call_by_call() {
    let mock = Mock::default();
    mock.script("lookup_stream", [Step::Fail(Status::unimplemented("old"))]);
    let client = Network::new(&mock).client(builder().retry(RetryPolicy::never()));
    all(lookups(&client, 50)).await;
    all(lookups(&client, 50)).await;
    assert_eq!((mock.count("lookup"), mock.count("lookup_stream")), (100, 1));
    tokio::time::sleep(120 * SECOND).await;
    all(lookups(&client, 50)).await;
    assert_eq!(mock.count("lookup_stream"), 2, "it is tried again after a while");
}

#[tokio::test(start_paused = true)]
async fn streams_that_keep_failing_are_given_up_for_a_while() {
    let mock = Mock::default();
    mock.script("lookup_stream", (0..100).map(|_| Step::Fail(Status::internal("broken"))));
    let client = Network::new(&mock).client(builder());
    for _ in 0..10 {
        all(lookups(&client, 10)).await;
    }
    assert!(mock.count("lookup_stream") <= 3, "{}", mock.count("lookup_stream"));
}

#[tokio::test(start_paused = true)]
async fn idle_stream_is_closed_and_opened_again() {
    let (mock, _network, client) = busy(builder()).await;
    tokio::time::sleep(60 * SECOND).await;
    all(lookups(&client, 20)).await;
    assert_eq!(mock.count("lookup_stream"), 2);
}

#[tokio::test]
async fn stream_ends_with_the_last_handle() {
    let (_mock, _network, client) = busy(builder()).await;
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    drop(client);
    while tasks.num_alive_tasks() >= before {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_mixed_up_among_many_threads() {
    let mock = Mock::default();
    let client = Network::new(&mock).client(Coordinator::builder().streamed_lookups(16));
    for _ in 0..5 {
        all(lookups(&client, 500)).await;
    }
    assert!(mock.count("streamed") > 1000);
}
