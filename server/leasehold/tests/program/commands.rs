//! Each command, by its JSON and its exit code.

use crate::process::{Coordinator, Ended, PATIENCE, keys, program};
use serde_json::{Value, json};

const PAGE_KEYS: [&str; 18] = [
    "age_ms",
    "content_type",
    "digest",
    "etag",
    "generated_at",
    "generation",
    "headers",
    "html_object_name",
    "path",
    "render_time_ms",
    "revalidate_ms",
    "sidecar_object_name",
    "sidecar_token",
    "size_bytes",
    "stale_if_error_ms",
    "stale_while_revalidate_ms",
    "status",
    "tags",
];

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[test]
fn committed_page_is_looked_up_with_all_that_was_said_of_it() {
    let coordinator = Coordinator::start(&[]);
    let sidecar = coordinator.dir.path().join("data.json");
    std::fs::write(&sidecar, r#"{"n":1}"#).unwrap();
    let mut command = coordinator.command(
        "commit about --html - --status 404 --revalidate 1m --swr 30s --sie 1h --tag a --tag b --path /about \
         --json",
    );
    command
        .args(["--content-type", "text/plain", "--header", "X-Robots-Tag: noindex", "--sidecar"])
        .arg(&sidecar);
    let committed = Ended::of(command, "gone").json();
    assert_eq!(
        keys(&committed),
        [
            "backoff",
            "etag",
            "generation",
            "html_object_name",
            "newer_generation",
            "outcome",
            "page",
            "purged",
            "regeneration",
            "sidecar_object_name",
            "sidecar_token",
            "size_bytes"
        ]
    );
    assert_eq!((&committed["outcome"], &committed["size_bytes"]), (&json!("committed"), &json!(4)));

    let found = coordinator.json("lookup about --body", 0);
    assert_eq!(
        keys(&found),
        [
            "body",
            "body_base64",
            "body_too_large",
            "fresh_for_ms",
            "outcome",
            "page",
            "reason",
            "regeneration",
            "stale_if_error_for_ms",
            "stale_while_revalidate_for_ms"
        ]
    );
    assert_eq!((&found["outcome"], &found["body"]), (&json!("fresh"), &json!("gone")));
    assert!((1..=60_000).contains(&found["fresh_for_ms"].as_u64().unwrap()));
    let page = &found["page"];
    assert_eq!(keys(page), PAGE_KEYS);
    let expected = json!({"status": 404, "content_type": "text/plain", "revalidate_ms": 60_000,
        "stale_while_revalidate_ms": 30_000, "stale_if_error_ms": 3_600_000, "tags": ["a", "b"],
        "path": "/about",
        "headers": [{"name": "x-robots-tag", "value": "noindex"}], "size_bytes": 4,
        "generation": committed["generation"], "etag": committed["etag"],
        "sidecar_token": committed["sidecar_token"]});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&page[key], value, "{key}");
    }

    let served = coordinator.json("page about", 0);
    assert_eq!(
        (&served["outcome"], &served["body"], &served["file"]),
        (&json!("fresh"), &json!("gone"), &Value::Null)
    );
    assert_eq!(keys(&served["page"]), PAGE_KEYS);
    assert_eq!(coordinator.run("page about").stdout, "gone", "bytes as they are");

    let token = text(&committed["sidecar_token"]);
    let served = coordinator.json(&format!("sidecar about {token}"), 0);
    assert_eq!(keys(&served), ["body", "body_base64", "content_type", "file", "size_bytes"]);
    assert_eq!(
        (&served["content_type"], &served["body"]),
        (&json!("application/json"), &json!(r#"{"n":1}"#))
    );
    let copy = coordinator.dir.path().join("copy.json");
    let written = coordinator.run(&format!("sidecar about {token} -o {}", copy.display()));
    assert_eq!((written.code, written.stdout.as_str()), (Some(0), ""));
    assert_eq!(std::fs::read_to_string(copy).unwrap(), r#"{"n":1}"#);
}

#[test]
fn bodies_are_printed_by_the_names_that_they_were_committed_under() {
    let coordinator = Coordinator::start(&[]);
    let sidecar = coordinator.dir.path().join("data.json");
    std::fs::write(&sidecar, "{}").unwrap();
    let commit = format!(
        "commit about --html - --html-name a/1.html --sidecar {} --sidecar-name a/1.hydration.json --tenant acme",
        sidecar.display()
    );
    let committed: Value =
        serde_json::from_str(&coordinator.run_with(&format!("{commit} --json"), "about").stdout).unwrap();
    let names = (&json!("a/1.html"), &json!("a/1.hydration.json"));
    assert_eq!((&committed["html_object_name"], &committed["sidecar_object_name"]), names);
    let page = &coordinator.json("lookup about --tenant acme", 0)["page"];
    assert_eq!((&page["html_object_name"], &page["sidecar_object_name"]), names);
    let served = coordinator.json("object a/1.html --tenant acme", 0);
    assert_eq!(
        keys(&served),
        ["body", "body_base64", "content_type", "digest", "file", "kind", "size_bytes"]
    );
    assert_eq!((&served["kind"], &served["body"]), (&json!("html"), &json!("about")));
    assert_eq!(served["digest"], page["digest"]);
    assert_eq!(coordinator.run("object a/1.hydration.json --tenant acme").stdout, "{}", "bytes as they are");
    assert_eq!(coordinator.run("object a/1.html").code, Some(3), "of another tenant");
    // Of another page.
    let refused =
        coordinator.run_with("commit other --html - --html-name a/1.html --tenant acme --json", "x");
    let failure: Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!(failure["error"]["reason"], "OBJECT_CONFLICT", "{failure}");
    assert_eq!(coordinator.run_with("commit k --html - --sidecar-name a.hydration.json", "x").code, Some(2));
}

#[test]
fn what_is_not_there_exits_with_three() {
    let coordinator = Coordinator::start(&[]);
    let missing = coordinator.json("lookup nothing", 3);
    assert_eq!((&missing["outcome"], &missing["reason"]), (&json!("missing"), &json!("never_rendered")));
    for line in ["page nothing", "sidecar nothing bm90aGluZw", "object nothing.html", "object nothing"] {
        let ended = coordinator.run(&format!("{line} --json"));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""), "{line}: {ended:?}");
        let failure: Value = serde_json::from_str(&ended.stderr).unwrap();
        let error = &failure["error"];
        assert_eq!(
            keys(error),
            ["advice", "exit_code", "may_have_been_applied", "message", "reason", "retryable"]
        );
        assert!(text(&error["reason"]).ends_with("_NOT_FOUND") && error["exit_code"] == 3, "{failure}");
    }
}

#[test]
fn pages_of_tenants_and_releases_are_kept_apart() {
    let coordinator = Coordinator::start(&[]);
    coordinator.commit("home --tenant acme --deployment v1", "acme v1");
    assert_eq!(coordinator.json("--tenant acme --deployment v1 lookup home --body", 0)["body"], "acme v1");
    for other in ["lookup home", "lookup home --tenant acme", "lookup home --tenant other --deployment v1"] {
        assert_eq!(coordinator.json(other, 3)["outcome"], "missing", "{other}");
    }
    let scopes = &coordinator.json("invalidate deployment v1 --tenant acme", 0)["scopes"];
    assert_eq!(scopes, &json!([{"tenant": "acme", "scope": "deployment", "value": "v1"}]));
    assert_eq!(coordinator.json("lookup home --tenant acme --deployment v1 --strict", 0)["outcome"], "stale");
}

#[test]
fn lease_goes_through_its_life_by_hand() {
    let coordinator = Coordinator::start(&[]);
    let granted = coordinator.json("lease acquire home --owner w1 --ttl 30s", 0);
    assert_eq!(keys(&granted), ["backoff", "lease", "outcome", "page", "regeneration"]);
    let lease = &granted["lease"];
    assert_eq!(
        keys(lease),
        [
            "generation",
            "html_object",
            "remaining_ms",
            "renewable_for_ms",
            "request_id",
            "sidecar_object",
            "sidecar_token"
        ]
    );
    let held = format!("--request-id {} --generation {}", text(&lease["request_id"]), lease["generation"]);

    let other = coordinator.json("lease acquire home --owner w2", 3);
    assert_eq!((&other["outcome"], &other["lease"]), (&json!("held"), &Value::Null));
    assert_eq!(keys(&other["regeneration"]), ["generation", "owner", "remaining_ms"]);
    assert_eq!(other["regeneration"]["owner"], "w1");
    let looked_up = coordinator.json("lookup home", 3);
    assert_eq!(looked_up["regeneration"]["generation"], lease["generation"]);

    let renewed = coordinator.json(&format!("lease renew home {held} --ttl 2m"), 0);
    assert_eq!(keys(&renewed), ["outcome", "remaining_ms", "renewable_for_ms"]);
    assert!(renewed["remaining_ms"].as_u64().unwrap() > 60_000, "{renewed}");

    let committed = coordinator.commit(&format!("home {held} --revalidate 1h"), "<p>w1</p>");
    assert_eq!(committed["generation"], lease["generation"]);
    assert_eq!(coordinator.json(&format!("lease renew home {held}"), 3)["outcome"], "lost");
    assert_eq!(coordinator.json(&format!("lease release home {held}"), 3)["outcome"], "not_held");
    let ready = coordinator.json("lease acquire home", 3);
    assert_eq!((&ready["outcome"], &ready["page"]["generation"]), (&json!("ready"), &lease["generation"]));
    let again = coordinator.run_with("commit home --html - --json", "<p>again</p>");
    assert_eq!((again.code, &again.json()["outcome"]), (Some(3), &json!("ready")));

    coordinator.json("invalidate key home", 0);
    let spare = coordinator.json("lease acquire home", 0);
    let spare = &spare["lease"];
    let spare = format!("--request-id {} --generation {}", text(&spare["request_id"]), spare["generation"]);
    assert_eq!(coordinator.json(&format!("lease release home {spare}"), 0)["outcome"], "released");
    let fenced = coordinator.run_with(&format!("commit home --html - --json {spare}"), "<p>late</p>");
    assert_eq!((fenced.code, &fenced.json()["outcome"]), (Some(3), &json!("fenced")));
    let fenced = coordinator.run_with(&format!("commit home --html - {spare}"), "<p>late</p>");
    assert!(fenced.stdout.contains("it was given back or failed before"), "{fenced:?}");
}

#[test]
fn file_that_cannot_be_read_acquires_nothing() {
    let coordinator = Coordinator::start(&[]);
    let refused = coordinator.run("commit home --html /nonexistent/page.html");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("/nonexistent/page.html"), "{refused:?}");
    assert_eq!(coordinator.json("explain home", 0)["lease"], Value::Null);
}

#[test]
fn page_that_is_refused_gives_its_lease_back() {
    let coordinator = Coordinator::start(&[]);
    let refused = coordinator.run_with("commit home --html - --header connection:close --json", "x");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("INVALID_FIELD") && refused.stderr.contains("header"), "{refused:?}");
    assert_eq!(coordinator.json("explain home", 0)["lease"], Value::Null);
}

#[test]
fn body_that_fits_no_message_is_uploaded_and_streamed() {
    let coordinator = Coordinator::start(&[]);
    let large = "x".repeat(5 << 20);
    assert_eq!(coordinator.commit("large", &large)["size_bytes"], 5 << 20);
    let found = coordinator.json("lookup large --body", 0);
    assert_eq!((&found["body_too_large"], &found["body"]), (&json!(true), &Value::Null));
    let file = coordinator.dir.path().join("large.html");
    let served = coordinator.json(&format!("page large -o {}", file.display()), 0);
    assert_eq!((&served["file"], &served["body"]), (&json!(file), &Value::Null));
    assert_eq!(std::fs::read_to_string(file).unwrap(), large);
}

#[test]
fn body_that_the_coordinator_does_not_take_is_named_with_the_limit() {
    let coordinator = Coordinator::start(&["--max-body-bytes=64KiB", "--max-inline-bytes=64KiB"]);
    let file = coordinator.dir.path().join("large.json");
    for size in [100 << 10, 5 << 20] {
        std::fs::write(&file, "x".repeat(size)).unwrap();
        let refused = coordinator.run_with(&format!("commit k --html - --sidecar {}", file.display()), "x");
        assert_eq!(refused.code, Some(2), "{refused:?}");
        for part in ["--sidecar", "large.json", "up to 65536", "--max-body-bytes"] {
            assert!(refused.stderr.contains(part), "{part} is missing from {refused:?}");
        }
    }
}

#[test]
fn next_command_is_for_the_same_entry() {
    let coordinator = Coordinator::start(&[]);
    let line = format!("lease acquire k --tenant acme --deployment v1 --endpoint {}", coordinator.endpoint);
    let granted = Ended::of(program(line.split_whitespace()), "");
    let next = granted.stdout.lines().find_map(|line| line.strip_prefix("next        leasehold "));
    let next = next.expect("a next command").replace("FILE", "-");
    let committed = Ended::of(program(next.split_whitespace()), "<p>x</p>");
    assert_eq!(committed.code, Some(0), "{next}: {committed:?}");
    let elsewhere = next.replace("acme", "other");
    let unknown = Ended::of(program(elsewhere.split_whitespace()), "<p>x</p>");
    assert!(unknown.stdout.contains("the entry is not known"), "{unknown:?}");
}

#[test]
fn variables_that_have_no_effect_are_no_mistake() {
    let coordinator = Coordinator::start(&[]);
    let mut command = coordinator.command("invalidate all --yes");
    command.env("LEASEHOLD_TENANT", "acme").env("LEASEHOLD_DEPLOYMENT", "v1");
    let done = Ended::of(command, "");
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn body_that_is_no_text_is_base64_in_json() {
    let coordinator = Coordinator::start(&[]);
    let file = coordinator.dir.path().join("page");
    std::fs::write(&file, [0xff, 0x00]).unwrap();
    coordinator.json(&format!("commit raw --html {}", file.display()), 0);
    let found = coordinator.json("lookup raw --body", 0);
    assert_eq!((&found["body"], &found["body_base64"]), (&Value::Null, &json!("/wA=")));
}

#[test]
fn all_of_a_tenant_is_invalidated_only_when_meant() {
    let coordinator = Coordinator::start(&[]);
    for line in ["invalidate all", "invalidate tenant --tenant acme", "invalidate tenant --hard"] {
        let refused = coordinator.run(line);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{line}: {refused:?}");
        assert!(refused.stderr.contains("--yes"), "{refused:?}");
    }
    let token = coordinator.run("invalidate prefix /blog");
    assert_eq!(
        (token.code, token.stdout.as_str()),
        (Some(0), "c1-1\n"),
        "the first one ever: nothing came before"
    );
    let all = coordinator.json("invalidate tenant --tenant acme --yes --hard", 0);
    assert_eq!(keys(&all), ["consistency_token", "depth", "scopes"]);
    assert_eq!((&all["depth"], &all["consistency_token"]), (&json!("hard"), &json!("c1-2")));
    assert_eq!(all["scopes"], json!([{"tenant": "acme", "scope": "tenant", "value": null}]));
    let several = coordinator.json("invalidate tag a b", 0);
    assert_eq!(several["scopes"].as_array().map(Vec::len), Some(2));
}

#[test]
fn watch_tells_what_happens_and_goes_on_where_it_ended() {
    let coordinator = Coordinator::start(&[]);
    let mut watch = coordinator.spawn("watch --tag news --key about --json");
    assert_eq!(watch.json_line()["event"], "started");
    coordinator.commit("elsewhere --tag sports", "x");
    let committed = coordinator.commit("home --tag a --tag news", "x");
    let event = watch.json_line();
    assert_eq!(
        keys(&event),
        ["deployment", "event", "generation", "key", "resume_token", "stale", "tags", "tenant"]
    );
    assert_eq!((&event["event"], &event["key"]), (&json!("committed"), &json!("home")));
    assert_eq!((&event["generation"], &event["tags"]), (&committed["generation"], &json!(["a", "news"])));
    let token = coordinator.json("invalidate key about", 0);
    let event = watch.json_line();
    assert_eq!(keys(&event), ["at", "consistency_token", "depth", "event", "resume_token", "scopes"]);
    assert_eq!(event["consistency_token"], token["consistency_token"]);
    assert_eq!(event["scopes"], json!([{"tenant": "default", "scope": "key", "value": "about"}]));
    watch.signal("INT");
    let end = watch.json_line();
    assert_eq!((keys(&end), &end["event"]), (vec!["event", "resume_token"], &json!("end")));
    assert_eq!(watch.end_within(PATIENCE).code(), Some(0));

    coordinator.commit("about", "meanwhile");
    let resumed =
        coordinator.spawn(&format!("watch --tag news --key about --resume {}", text(&end["resume_token"])));
    assert_eq!(resumed.line(), "started");
    assert!(resumed.line().starts_with("committed    about, generation "));
    let refused = coordinator.run("watch");
    assert_eq!(refused.code, Some(2), "nothing to watch: {refused:?}");
}

#[test]
fn coordinator_that_is_not_there_is_named_with_what_to_do() {
    for line in [
        "lookup k",
        "explain k",
        "invalidate key k",
        "lease acquire k",
        "watch --key k --timeout 100ms",
        "page k",
    ] {
        let mut command = program(line.split_whitespace());
        command.args(["--endpoint", "http://127.0.0.1:1"]);
        let failed = Ended::of(command, "");
        assert_eq!(failed.code, Some(1), "{line}: {failed:?}");
        assert_eq!(failed.stderr.lines().count(), 1, "{line}: {failed:?}");
        for part in ["no coordinator answers at http://127.0.0.1:1", "--endpoint", "LEASEHOLD_ENDPOINT"] {
            assert!(failed.stderr.contains(part), "{line}: {part} is missing from {failed:?}");
        }
    }
}

#[test]
fn wrong_use_of_a_command_exits_with_two_and_names_what_is_wrong() {
    let table = [
        ("lookup k --endpoint localhost:7420", "--endpoint"),
        ("lookup k --timeout 0s", "--timeout"),
        ("lease renew k --request-id abc --generation 1", "--request-id"),
        ("commit k --html - --status 500", "allowed: 200 to 499"),
        ("commit k --html - --sidecar -", "only one of --html and --sidecar can be stdin"),
        ("invalidate all --yes --tenant acme", "did you mean `invalidate tenant`?"),
        ("--tenant acme invalidate all --yes", "did you mean `invalidate tenant`?"),
        ("invalidate tag a --deployment v1", "`invalidate tag` reaches every release"),
        ("--deployment v1 invalidate key a", "`invalidate key` reaches every release"),
        ("invalidate --deployment v1 tenant --yes", "`invalidate tenant` reaches every release"),
        ("watch --tag a --deployment v1", "`watch` reaches every release"),
        ("commit k --html - --header nonsense", "--header"),
        ("commit k --html - --request-id 00000000000000000000000000000000", "--generation"),
        ("commit k", "--html"),
        ("invalidate key", "KEY"),
        ("serve lookup", "lookup"),
    ];
    for (line, part) in table {
        let refused = Ended::of(program(line.split_whitespace()), "");
        assert_eq!(refused.code, Some(2), "{line}: {refused:?}");
        assert!(refused.stderr.contains(part), "{line}: {refused:?}");
    }
}

#[test]
fn whoever_has_waited_is_not_advised_to_wait() {
    let coordinator = Coordinator::start(&["--max-wait", "10ms"]);
    coordinator.json("lease acquire home --owner w1 --ttl 1m", 0);
    let at_once = coordinator.run("lease acquire home --owner w2");
    assert!(at_once.stdout.contains("wait for it with --wait"), "{at_once:?}");
    let waited = coordinator.run("lease acquire home --owner w2 --wait 10h");
    assert_eq!(waited.code, Some(3));
    assert!(waited.stdout.contains("as long as the coordinator's --max-wait allows"), "{waited:?}");
}

/// Such as a site, on a port that was mistaken for the coordinator's.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_coordinator_is_suspected_of_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (_reporter, health) = tonic_health::server::health_reporter();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let serving = tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming);
    let serving = tokio::spawn(serving);
    let command = program(["lookup", "home", "--endpoint", &endpoint]);
    let ended = tokio::task::spawn_blocking(|| Ended::of(command, "")).await.unwrap();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let advice = format!("see whether it is a coordinator that answers at {endpoint}");
    assert!(ended.stderr.contains(&advice), "{ended:?}");
    serving.abort();
}
