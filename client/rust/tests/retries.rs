//! Calls that meet failures: what is repeated, with what, how often, and what is known of the effect in the end.

mod mock;

use leasehold_client::{
    Acquire, AcquireOptions, Builder, Coordinator, Depth, EntryRef, Error, LookupOptions, NewPage, Reason,
    RetryBudget, RetryPolicy, Scope,
};
use mock::{Message, Mock, Network, Step, granted, now, refusal, unavailable};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt as _};

const SECOND: Duration = Duration::from_secs(1);

fn entry() -> EntryRef {
    EntryRef::key("k")
}

fn once() -> Builder {
    Coordinator::builder().retry(RetryPolicy::never())
}

#[tokio::test(start_paused = true)]
async fn call_of_unknown_outcome_is_repeated_with_the_same_request_id() {
    let mock = Mock::default();
    mock.script(
        "acquire",
        [Step::Fail(unavailable("OUTCOME_UNKNOWN")), Step::Fail(unavailable("OUTCOME_UNKNOWN"))],
    );
    mock.script("invalidate", [Step::Fail(unavailable("STORE_UNAVAILABLE"))]);
    let client = Network::new(&mock).client(Coordinator::builder());

    let Acquire::Granted(lease) = client.acquire(&entry(), &AcquireOptions::default()).await.unwrap() else {
        panic!("not granted")
    };
    client.invalidate(&[Scope::tag("t")], Depth::Soft).await.unwrap();
    client.acquire(&entry(), &AcquireOptions::default()).await.unwrap();

    let ids: Vec<_> = mock.arrived("acquire").into_iter().map(|call| call.request_id).collect();
    assert_eq!(ids[0], lease.request_id().expose().as_slice());
    assert_eq!((&ids[1], &ids[2]), (&ids[0], &ids[0]));
    assert_ne!(ids[3], ids[0], "another intent has another id");
    let ids: HashSet<_> = mock.arrived("invalidate").into_iter().map(|call| call.request_id).collect();
    assert_eq!((ids.len(), mock.count("invalidate")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn unanswered_attempt_is_repeated_with_the_same_id_on_another_connection() {
    let mock = Mock::default();
    mock.script("acquire", [Step::Hang, Step::Reply(granted(9, 10))]);
    let network = Network::new(&mock);
    let client = network.client(Coordinator::builder().attempt_timeout(SECOND));
    let Acquire::Granted(lease) = client.acquire(&entry(), &AcquireOptions::default()).await.unwrap() else {
        panic!("not granted")
    };
    assert_eq!(lease.generation(), 9);
    let ids: HashSet<_> = mock.arrived("acquire").into_iter().map(|call| call.request_id).collect();
    assert_eq!((ids.len(), mock.count("acquire"), network.connections()), (1, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn attempts_carry_a_deadline_for_the_coordinator() {
    let mock = Mock::default();
    let client = Network::new(&mock).client(Coordinator::builder().attempt_timeout(SECOND));
    client.lookup(&entry(), &LookupOptions::default()).await.unwrap();
    let sent = mock.arrived("lookup")[0].grpc_timeout.clone().unwrap();
    assert_eq!(sent, "900000u", "a little less than the attempt itself");
}

#[tokio::test(start_paused = true)]
async fn refusal_for_good_is_not_repeated() {
    let mock = Mock::default();
    mock.script("lookup", [Step::Fail(refusal(Code::InvalidArgument, "INVALID_FIELD"))]);
    let client = Network::new(&mock).client(Coordinator::builder());
    let error = client.lookup(&entry(), &LookupOptions::default()).await.unwrap_err();
    assert_eq!(error.reason(), Some(&Reason::InvalidField));
    assert!(!error.is_retryable() && !error.is_outage());
    assert_eq!(mock.count("lookup"), 1);
}

#[tokio::test(start_paused = true)]
async fn pause_is_as_long_as_the_coordinator_asks() {
    let mock = Mock::default();
    let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1700)));
    details.set_error_info("LIMIT_REACHED", "leasehold", HashMap::new());
    let busy = tonic::Status::with_error_details(Code::ResourceExhausted, "busy", details);
    mock.script("lookup", [Step::Fail(busy)]);
    let network = Network::new(&mock);
    let client = network.client(Coordinator::builder());
    client.lookup(&entry(), &LookupOptions::default()).await.unwrap();
    let at: Vec<_> = mock.arrived("lookup").into_iter().map(|call| call.at).collect();
    assert!(at[1] - at[0] >= Duration::from_millis(1700), "{:?}", at[1] - at[0]);
    assert_eq!(network.connections(), 1, "nothing is wrong with the connection");
}

#[tokio::test(start_paused = true)]
async fn refused_connection_means_never_sent() {
    let mock = Mock::default();
    let network = Network::new(&mock);
    network.refuse(1);
    let client = network.client(once());
    let error = client.invalidate(&[Scope::everything()], Depth::Hard).await.unwrap_err();
    assert!(matches!(error, Error::NotSent(_)), "{error:?}");
    assert!(error.is_retryable() && !error.may_have_been_applied());
    client.invalidate(&[Scope::everything()], Depth::Hard).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn connection_cut_during_the_call_means_it_may_have_been_applied() {
    let mock = Mock::default();
    mock.script("invalidate", [Step::Hang]);
    let network = Network::new(&mock);
    let client = network.client(once());
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.invalidate(&[Scope::tag("t")], Depth::Soft).await }
    });
    mock.until("invalidate", 1).await;
    network.cut();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Broken(_)), "{error:?}");
    assert!(error.is_retryable() && error.may_have_been_applied());
    client.invalidate(&[Scope::tag("t")], Depth::Soft).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn doubt_about_an_early_attempt_outlives_later_ones_that_were_never_sent() {
    let mock = Mock::default();
    mock.script("invalidate", [Step::Hang]);
    let network = Network::new(&mock);
    let retry = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
    let client = network.client(Coordinator::builder().retry(retry));
    let call = tokio::spawn(async move { client.invalidate(&[Scope::tag("t")], Depth::Soft).await });
    mock.until("invalidate", 1).await;
    network.refuse(10);
    network.cut();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::InDoubt(_)), "{error:?}");
    assert!(error.may_have_been_applied());
}

#[tokio::test(start_paused = true)]
async fn broken_connection_is_replaced_without_the_caller_noticing() {
    let mock = Mock::default();
    let network = Network::new(&mock);
    let client = network.client(Coordinator::builder());
    for _ in 0..5 {
        client.lookup(&entry(), &LookupOptions::default()).await.unwrap();
        network.cut();
    }
    assert_eq!(mock.count("lookup"), 5);
}

#[tokio::test(start_paused = true)]
async fn black_holed_connection_is_replaced_once_for_all_its_calls() {
    let mock = Mock::default();
    let network = Network::new(&mock);
    // No keepalive: only the calls can find it out.
    let builder = Coordinator::builder()
        .attempt_timeout(SECOND)
        .keepalive(Duration::from_secs(3600), SECOND)
        .streamed_lookups(0);
    let client = network.client(builder);
    client.lookup(&entry(), &LookupOptions::default()).await.unwrap();
    network.black_hole();
    let lookups = (0..50).map(|_| {
        let client = client.clone();
        async move { client.lookup(&entry(), &LookupOptions::default()).await.map(|_| ()) }
    });
    for result in futures::future::join_all(lookups).await {
        result.unwrap();
    }
    assert_eq!(network.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn keepalive_finds_a_black_holed_connection_before_a_long_wait_is_over() {
    let mock = Mock::default();
    mock.script("acquire", [Step::Hang]);
    let network = Network::new(&mock);
    let client = network.client(Coordinator::builder());
    let begun = now();
    let options = AcquireOptions { wait: 60 * SECOND, ..Default::default() };
    let call = tokio::spawn(async move { client.acquire(&entry(), &options).await });
    mock.until("acquire", 1).await;
    network.black_hole();
    assert!(matches!(call.await.unwrap(), Ok(Acquire::Granted(_))));
    assert!(begun.elapsed() < 20 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn overall_timeout_holds_when_no_endpoint_answers() {
    let network = Network::new(&Mock::default());
    network.become_unreachable();
    let builder = Coordinator::builder().overall_timeout(3 * SECOND).connect_timeout(60 * SECOND);
    let client = network.client(builder);
    let begun = now();
    let error = client.lookup(&entry(), &LookupOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error:?}");
    assert!(error.is_retryable() && error.is_outage());
    let took = begun.elapsed();
    assert!(took >= 3 * SECOND && took < 3 * SECOND + SECOND / 10, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn pause_beyond_the_overall_timeout_ends_the_call_at_once() {
    let mock = Mock::default();
    let mut details = ErrorDetails::with_retry_info(Some(60 * SECOND));
    details.set_error_info("LIMIT_REACHED", "leasehold", HashMap::new());
    mock.script(
        "invalidate",
        [Step::Fail(tonic::Status::with_error_details(Code::ResourceExhausted, "busy", details))],
    );
    let client = Network::new(&mock).client(Coordinator::builder());
    let begun = now();
    let error = client.invalidate(&[Scope::tag("t")], Depth::Soft).await.unwrap_err();
    assert!(begun.elapsed() < SECOND);
    assert_eq!(error.reason(), Some(&Reason::LimitReached));
    assert!(!error.may_have_been_applied());
}

#[tokio::test(start_paused = true)]
async fn outage_is_not_amplified_beyond_the_retry_budget() {
    let network = Network::new(&Mock::default());
    network.refuse(usize::MAX);
    let budget = RetryBudget { burst: 5, per_second: 0.0, per_call: 0.1 };
    let retry = RetryPolicy { budget, ..RetryPolicy::default() };
    let client = network.client(Coordinator::builder().retry(retry));
    for _ in 0..100 {
        assert!(client.lookup(&entry(), &LookupOptions::default()).await.is_err());
    }
    let attempts = network.attempts();
    assert!((100..=120).contains(&attempts), "{attempts} attempts of 100 calls");
}

#[tokio::test(start_paused = true)]
async fn repeated_acquire_waits_for_what_is_left_of_the_wait() {
    let mock = Mock::default();
    mock.script("acquire", [Step::FailAfter(12 * SECOND, unavailable("DRAINING"))]);
    let network = Network::new(&mock);
    let client = network.client(Coordinator::builder());
    let options = AcquireOptions { wait: 30 * SECOND, ..Default::default() };
    client.acquire(&entry(), &options).await.unwrap();
    let waits: Vec<_> = mock
        .arrived("acquire")
        .into_iter()
        .map(|call| match call.message {
            Message::Acquire(request) => Duration::try_from(request.wait.unwrap()).unwrap(),
            _ => unreachable!(),
        })
        .collect();
    assert_eq!(waits[0], 30 * SECOND);
    assert!(waits[1] < 18 * SECOND && waits[1] > 17 * SECOND, "{waits:?}");
    assert_eq!(network.connections(), 2, "a coordinator that goes down is left");
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_waiters_do_not_keep_the_commit_out() {
    let mock = Mock::default();
    let client = Network::new(&mock).client(Coordinator::builder());
    let Acquire::Granted(lease) = client.acquire(&entry(), &AcquireOptions::default()).await.unwrap() else {
        panic!("not granted")
    };
    mock.script("acquire", (0..500).map(|_| Step::Hang));
    let waiters: Vec<_> = (0..500)
        .map(|_| {
            let client = client.clone();
            let options = AcquireOptions { wait: 60 * SECOND, ..Default::default() };
            tokio::spawn(async move { client.acquire(&entry(), &options).await.map(|_| ()) })
        })
        .collect();
    mock.until("acquire", 501).await;
    let begun = now();
    lease.commit(&NewPage::new("<p>")).await.unwrap();
    assert!(begun.elapsed() < SECOND);
    waiters.iter().for_each(tokio::task::JoinHandle::abort);
}
