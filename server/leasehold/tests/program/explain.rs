//! The story of an entry, as `explain` tells it.

use crate::process::{Coordinator, keys};
use serde_json::{Value, json};

fn code(explained: &Value) -> &str {
    explained["next"]["code"].as_str().unwrap()
}

fn sentence(explained: &Value) -> &str {
    explained["next"]["text"].as_str().unwrap()
}

#[test]
fn explain_tells_an_entry_s_story_from_its_first_page_to_its_failures() {
    let coordinator = Coordinator::start(&["--backoff-base", "1h", "--backoff-max", "1h"]);
    let explain = || coordinator.json("explain home", 0);

    let unknown = explain();
    assert_eq!(
        keys(&unknown),
        [
            "backoff",
            "body_gone",
            "deployment",
            "fresh_for_ms",
            "fresh_since",
            "fresh_until",
            "generation",
            "invalidation",
            "key",
            "lease",
            "log",
            "next",
            "outcome",
            "page",
            "reason",
            "seen",
            "stale_if_error_for_ms",
            "stale_while_revalidate_for_ms",
            "tenant"
        ]
    );
    assert_eq!((&unknown["outcome"], &unknown["reason"]), (&json!("missing"), &json!("never_rendered")));
    assert_eq!(
        (&unknown["tenant"], &unknown["page"], code(&unknown)),
        (&json!("default"), &Value::Null, "render")
    );

    let committed = coordinator.commit("home --tag news --revalidate 1h", "<p>1</p>");
    let fresh = explain();
    assert_eq!((&fresh["outcome"], code(&fresh)), (&json!("fresh"), "fresh"));
    assert!(sentence(&fresh).starts_with("fresh for "), "{fresh}");
    assert_eq!(fresh["page"]["generation"], committed["generation"]);
    assert_eq!((&fresh["page"]["etag"], &fresh["page"]["size_bytes"]), (&committed["etag"], &json!(8)));
    assert!(fresh["fresh_since"].as_str().unwrap() < fresh["fresh_until"].as_str().unwrap());

    let token = coordinator.json("invalidate tag news", 0);
    let invalidated = coordinator
        .json(&format!("explain home --token {}", token["consistency_token"].as_str().unwrap()), 0);
    assert_eq!((&invalidated["outcome"], &invalidated["reason"]), (&json!("stale"), &json!("invalidated")));
    let expected = json!([{"tenant": "default", "scope": "tag", "value": "news"}]);
    let invalidation = &invalidated["invalidation"];
    assert_eq!(keys(invalidation), ["applies", "at", "depth", "scopes", "seq"]);
    assert_eq!((&invalidation["scopes"], &invalidation["applies"]), (&expected, &json!(true)));
    assert_eq!(
        (&invalidation["seq"], &invalidation["depth"], code(&invalidated)),
        (&json!(1), &json!("soft"), "render")
    );

    let granted = coordinator.json("lease acquire home --owner w1 --ttl 1m", 0);
    let held = explain();
    assert_eq!(code(&held), "rendering");
    let a_minute = ["1m", "59s"].iter().any(|left| {
        sentence(&held).starts_with(&format!("held by w1 for up to {left} unless renewed; others wait"))
    });
    assert!(a_minute, "{held}");
    let lease = &held["lease"];
    assert_eq!((&lease["owner"], &lease["generation"]), (&json!("w1"), &granted["lease"]["generation"]));
    assert_eq!((&lease["expired"], &lease["overtaken"]), (&json!(false), &json!(false)));
    let remaining = lease["remaining_ms"].as_u64().unwrap();
    assert!((1..=60_000).contains(&remaining), "{lease}");

    coordinator.json("invalidate key home", 0);
    let overtaken = coordinator.json("explain home --strict", 0);
    assert_eq!(code(&overtaken), "overtaken");
    assert!(
        sentence(&overtaken).contains("invalidation 2: the next acquire is granted at once"),
        "{overtaken}"
    );

    let next = coordinator.json("lease acquire home --owner w2", 0);
    let lease = &next["lease"];
    let (request_id, generation) =
        (lease["request_id"].as_str().unwrap(), lease["generation"].as_u64().unwrap());
    let mut fail = coordinator
        .command(&format!("lease fail home --request-id {request_id} --generation {generation} --json"));
    fail.args(["--reason", "database is down"]);
    assert_eq!(crate::process::Ended::of(fail, "").json(), json!({"outcome": "released"}));
    let failed = explain();
    assert_eq!(code(&failed), "backing_off");
    assert!(sentence(&failed).contains("after 1 failed render: until then no lease is granted"), "{failed}");
    let backoff = &failed["backoff"];
    assert_eq!((&backoff["failures"], &backoff["reason"]), (&json!(1), &json!("database is down")));
    assert!(backoff["remaining_ms"].as_u64().unwrap() > 3_000_000, "{backoff}");
    assert_eq!(failed["lease"], Value::Null);

    let people = coordinator.run("explain home");
    assert!(
        people.stdout.contains("1 failed render in a row") && people.stdout.contains("database is down"),
        "{people:?}"
    );
    for secret in [&granted, &next].map(|granted| granted["lease"]["request_id"].as_str().unwrap()) {
        for told in [&held, &overtaken, &failed] {
            assert!(!told.to_string().contains(secret), "the request id is told by acquire alone");
        }
    }
}

#[test]
fn expired_lease_is_told_from_one_that_lives() {
    let coordinator = Coordinator::start(&[]);
    coordinator.json("lease acquire home --owner w1 --ttl 100ms", 0);
    // Its end is the event that is waited for.
    let waited = coordinator.json("lease acquire home --owner w2 --ttl 100ms --wait 30s", 0);
    assert_eq!(waited["outcome"], "granted");
    let expired = (0..1000)
        .map(|_| coordinator.json("explain home", 0))
        .find(|explained| explained["lease"]["expired"] == true)
        .unwrap();
    assert_eq!(code(&expired), "lease_expired");
    assert!(sentence(&expired).contains("a late commit of w2 counts"), "{expired}");
}

#[test]
fn page_without_revalidate_is_fresh_until_invalidated_and_purged_by_a_hard_one() {
    let coordinator = Coordinator::start(&[]);
    coordinator.commit("home", "<p>1</p>");
    let fresh = coordinator.json("explain home", 0);
    assert_eq!((code(&fresh), &fresh["fresh_until"]), ("fresh_until_invalidated", &Value::Null));
    coordinator.json("invalidate --hard all --yes", 0);
    let purged = coordinator.json("explain home --strict", 0);
    assert_eq!((&purged["outcome"], &purged["reason"]), (&json!("missing"), &json!("purged")));
    assert_eq!(
        purged["invalidation"]["scopes"],
        json!([{"tenant": null, "scope": "everything", "value": null}])
    );
    assert_eq!(purged["page"]["size_bytes"], 8, "what was purged is still told");
    assert!(coordinator.run("explain home").stdout.contains("purged by a hard invalidation"));
}
