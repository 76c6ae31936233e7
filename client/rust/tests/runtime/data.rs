//! Data that is fetched once.

use super::*;
use leasehold_client::runtime::DataError;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Weather {
    place: String,
    degrees: i32,
}

fn weather(degrees: i32) -> Weather {
    Weather { place: "M\u{fc}nchen".into(), degrees }
}

async fn fetch(degrees: i32) -> Result<Weather, std::io::Error> {
    Ok(weather(degrees))
}

fn json(degrees: i32) -> String {
    serde_json::to_string(&weather(degrees)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn missing_data_are_fetched_and_kept() {
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let data = stage.runtime.data("weather").unwrap().tenant("acme");
    assert_eq!(data.with_revalidate("munich/1", MINUTE, || fetch(20)).await.unwrap(), weather(20));
    let mock::Message::Commit(commit) = &stage.mock.arrived("commit")[0].message else { unreachable!() };
    let entry = commit.entry.as_ref().unwrap();
    assert_eq!(entry.tenant, "acme");
    assert_eq!(entry.name, Some(pb::entry_ref::Name::Key("acme::/~data/weather/munich%2F1".into())));
    let metadata = commit.metadata.as_ref().unwrap();
    assert_eq!(
        (metadata.content_type.as_str(), metadata.tags.as_slice()),
        ("application/json", ["~data/weather".to_owned()].as_slice())
    );
    let seconds = |time: &Option<prost_types::Duration>| time.map(|time| time.seconds);
    assert_eq!(
        [&metadata.revalidate, &metadata.stale_while_revalidate, &metadata.stale_if_error].map(seconds),
        [Some(60), Some(600), Some(600)]
    );
}

#[tokio::test(start_paused = true)]
async fn fresh_data_are_not_fetched() {
    let stage = Stage::new();
    stage.script_lookup([fresh(&json(20))]);
    let unasked = || async { panic!("fetched") as Result<Weather, std::io::Error> };
    let got =
        stage.runtime.data("weather").unwrap().with_revalidate("munich", MINUTE, unasked).await.unwrap();
    assert_eq!(got, weather(20));
}

#[tokio::test(start_paused = true)]
async fn stale_data_are_used_and_fetched_in_the_background() {
    let stage = Stage::new();
    let old = expired(&json(20), Some(100), None);
    stage.script_lookup([pb::lookup_response::Outcome::Stale(old)]);
    let data = stage.runtime.data("weather").unwrap();
    assert_eq!(data.with_revalidate("munich", MINUTE, || fetch(30)).await.unwrap(), weather(20));
    stage.runtime.finish_background().await;
    assert_eq!(stage.mock.count("commit"), 1);
}

#[tokio::test(start_paused = true)]
async fn data_beyond_their_bound_are_fetched_first() {
    let stage = Stage::new();
    let old = expired(&json(20), Some(0), None);
    stage.script_lookup([pb::lookup_response::Outcome::Stale(old)]);
    let data = stage.runtime.data("weather").unwrap().stale_for(SECOND);
    assert_eq!(data.with_revalidate("munich", MINUTE, || fetch(30)).await.unwrap(), weather(30));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_fails_is_an_error_only_where_there_is_nothing_to_go_on_with() {
    let failing = || async { Err::<Weather, _>("no network") };
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let data = stage.runtime.data("weather").unwrap();
    let error = data.with_revalidate("munich", MINUTE, failing).await.unwrap_err();
    assert!(matches!(&error, DataError::Serve(_)) && error.to_string().contains("no network"), "{error}");

    let beyond = || expired(&json(20), Some(0), Some(10));
    stage.script_lookup([pb::lookup_response::Outcome::Stale(beyond())]);
    stage.script_acquire(granted(Some(beyond())));
    assert_eq!(data.with_revalidate("munich", MINUTE, failing).await.unwrap(), weather(20));
}

/// What another release of the program has kept.
const UNREADABLE: &str = "{\"place\": 3}";

fn unreadable_and_stale() -> pb::lookup_response::Outcome {
    pb::lookup_response::Outcome::Stale(expired(UNREADABLE, Some(100), None))
}

#[tokio::test(start_paused = true)]
async fn data_of_another_release_of_the_program_are_fetched_and_replaced() {
    for unreadable in [|| fresh(UNREADABLE), unreadable_and_stale] {
        let stage = Stage::new();
        // The second time, the coordinator is to look closely.
        stage.script_lookup([unreadable(), unreadable(), missing(), fresh(&json(30))]);
        let data = stage.runtime.data("weather").unwrap();
        assert_eq!(data.with_revalidate("munich", MINUTE, || fetch(30)).await.unwrap(), weather(30));
        stage.runtime.finish_background().await;
        let calls = ["acquire", "commit", "invalidate"].map(|call| stage.mock.count(call));
        assert_eq!(calls, [1, 1, 1], "nothing is left to do in the background");
        let closely = stage.mock.arrived("lookup").into_iter().map(|arrived| match arrived.message {
            mock::Message::Lookup(lookup) => lookup.consistency() == pb::Consistency::Strict,
            _ => unreachable!(),
        });
        assert_eq!(closely.collect::<Vec<_>>(), [false, true, false]);
        let unasked = || async { panic!("fetched") as Result<Weather, std::io::Error> };
        assert_eq!(data.with_revalidate("munich", MINUTE, unasked).await.unwrap(), weather(30));
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_that_cannot_read_what_is_kept_one_fetches() {
    let stage = Stage::before(Coordinator::builder().streamed_lookups(0), |builder| builder);
    stage.script_lookup((0..6).map(|_| fresh(UNREADABLE)));
    stage.script_lookup([missing()]);
    stage.script_lookup((0..4).map(|_| fresh(&json(30))));
    let data = stage.runtime.data("weather").unwrap();
    let fetched = Arc::new(Mutex::new(0));
    let call = || {
        let fetched = fetched.clone();
        let counting = move || {
            *fetched.lock() += 1;
            fetch(30)
        };
        data.with_revalidate("munich", MINUTE, counting)
    };
    for got in futures::future::join_all((0..5).map(|_| call())).await {
        assert_eq!(got.unwrap(), weather(30));
    }
    assert_eq!((*fetched.lock(), stage.mock.count("invalidate"), stage.mock.count("commit")), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_never_comes_to_its_end_holds_up_others_no_longer_than_another_worker_would() {
    let stage = Stage::new();
    stage.script_lookup([fresh(UNREADABLE), fresh(UNREADABLE), missing(), fresh(UNREADABLE)]);
    let data = stage.runtime.data("weather").unwrap();
    let endless = || std::future::pending::<Result<Weather, std::io::Error>>();
    let stuck = data.clone();
    let stuck = tokio::spawn(async move { stuck.with_revalidate("munich", MINUTE, endless).await });
    stage.mock.until("acquire", 1).await;
    let begun = mock::now();
    assert_eq!(data.with_revalidate("munich", MINUTE, || fetch(30)).await.unwrap(), weather(30));
    assert_eq!((mock::now() - begun).as_secs(), 30);
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn what_is_only_known_here_is_not_purged_without_a_look_at_what_is_current() {
    let stage = Stage::new();
    stage.script_lookup([fresh(UNREADABLE)]);
    stage.mock.script("lookup", [Step::Hang]);
    let data = stage.runtime.data("weather").unwrap();
    assert_eq!(data.with_revalidate("munich", MINUTE, || fetch(30)).await.unwrap(), weather(30));
    assert_eq!((stage.mock.count("invalidate"), stage.mock.count("commit")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_replaced_is_fetched_all_the_same() {
    let stage = Stage::new();
    stage.script_lookup([fresh(UNREADABLE), fresh(UNREADABLE)]);
    stage.mock.script("invalidate", [Step::Fail(mock::invalid("scopes"))]);
    let data = stage.runtime.data("weather").unwrap();
    assert_eq!(data.with_revalidate("munich", MINUTE, || fetch(30)).await.unwrap(), weather(30));
    assert_eq!(stage.mock.count("commit"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_read_again_is_not_kept() {
    #[derive(Debug, Serialize, Deserialize)]
    struct OneWay {
        #[serde(skip_serializing)]
        #[expect(dead_code, reason = "what is missing when it is read")]
        secret: String,
    }
    let stage = Stage::new();
    stage.script_lookup([missing()]);
    let fetch = || async { Ok::<_, std::io::Error>(OneWay { secret: "x".into() }) };
    let data = stage.runtime.data("weather").unwrap();
    let error = data.with_revalidate("munich", MINUTE, fetch).await.unwrap_err();
    assert!(matches!(&error, DataError::Format { key, .. } if key == "munich"), "{error}");
    stage.runtime.finish_background().await;
    assert_eq!((stage.mock.count("commit"), stage.mock.count("release")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_is_hard_and_of_the_namespace_only() {
    use pb::invalidation_scope::Scope;
    let stage = Stage::new();
    let data = stage.runtime.data("weather").unwrap().tenant("acme");
    data.invalidate("munich/1").await.unwrap();
    data.invalidate_all().await.unwrap();
    let made: Vec<_> = stage
        .mock
        .arrived("invalidate")
        .into_iter()
        .map(|arrived| match arrived.message {
            mock::Message::Invalidate(invalidation) => invalidation,
            _ => unreachable!(),
        })
        .collect();
    assert!(made.iter().all(|one| one.depth() == pb::InvalidationDepth::Hard));
    let scopes: Vec<_> = made.into_iter().flat_map(|one| one.scopes).collect();
    assert!(scopes.iter().all(|scope| scope.tenant == "acme"));
    assert_eq!(
        scopes.into_iter().filter_map(|scope| scope.scope).collect::<Vec<_>>(),
        [Scope::Key("acme::/~data/weather/munich%2F1".into()), Scope::Tag("~data/weather".into())]
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_a_plain_name() {
    let stage = Stage::new();
    for name in ["", "a:b", "a/b", "a b", "\u{e4}", &"x".repeat(129)] {
        assert!(stage.runtime.data(name).is_err(), "{name}");
    }
    for name in ["a", "A_z.0-9", &"x".repeat(128)] {
        assert!(stage.runtime.data(name).is_ok(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn data_beyond_their_bound_are_not_used_while_another_fetches_either() {
    let stage = Stage::new();
    let old = || expired(&json(20), Some(0), Some(0));
    stage.script_lookup([pb::lookup_response::Outcome::Stale(old())]);
    stage.script_acquire(held(Some(old())));
    let data = stage.runtime.data("weather").unwrap().stale_for(SECOND);
    assert_eq!(data.with_revalidate("munich", MINUTE, || fetch(30)).await.unwrap(), weather(30));
}
