//! What a person sees when it starts, and when it does not.

use crate::process::{Coordinator, EXE, Ended, Process, clean, program, serving};
use std::process::Command;

/// The commands that the banner suggests, in their order.
fn suggested(coordinator: &Coordinator) -> Vec<String> {
    coordinator.banner.iter().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

fn pasted(line: &str) -> Ended {
    let ended = Ended::of(clean(Command::new("sh"), ["-c", line]), "");
    assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
    ended
}

#[test]
fn first_start_says_where_it_is_and_its_commands_work_when_pasted() {
    let coordinator = Coordinator::start(&[]);
    let data = coordinator.dir.path().join("data");
    assert!(coordinator.banner[0].ends_with(data.to_str().unwrap()), "{:?}", coordinator.banner);
    let [commit, lookup, explain, invalidate] = &suggested(&coordinator)[..] else {
        panic!("{:?}", coordinator.banner)
    };
    assert!(pasted(commit).stdout.starts_with("committed generation "));
    let looked_up = pasted(lookup).stdout;
    assert!(looked_up.contains("fresh for") && looked_up.contains("<h1>Hello</h1>"), "{looked_up}");
    assert!(pasted(explain).stdout.contains("then the next request renders it"));
    assert_eq!(pasted(invalidate).stdout, "c1-1\n");
    assert!(pasted(explain).stdout.contains("by tag greetings, soft, seq 1"));
    assert!(coordinator.process.wait_for_log("serving").contains("server.address"), "logs go to stderr");
}

#[test]
fn started_by_cargo_it_suggests_cargo() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = serving(dir.path(), &[]);
    command.env("CARGO", "/usr/bin/cargo").env("CARGO_PKG_NAME", "leasehold");
    let coordinator = Coordinator::started(dir, command);
    let cargo = if cfg!(debug_assertions) { "cargo run -q --" } else { "cargo run -q --release --" };
    for line in suggested(&coordinator) {
        assert!(line.contains(&format!("{cargo} ")), "{line}");
        pasted(&line.replace(cargo, EXE));
    }
}

#[test]
fn pages_survive_a_restart() {
    let mut first = Coordinator::start(&[]);
    first.commit("about --revalidate 1h", "<p>kept</p>");
    first.process.signal("TERM");
    assert_eq!(first.process.end_within(crate::process::PATIENCE).code(), Some(0));
    let Coordinator { dir, .. } = first;
    let second = Coordinator::start_in(dir, &[]);
    assert_eq!(second.json("lookup about --body", 0)["body"], "<p>kept</p>");
}

#[test]
fn second_process_in_the_same_directory_is_refused_and_told_what_to_do() {
    let coordinator = Coordinator::start(&[]);
    let refused = Ended::of(serving(coordinator.dir.path(), &[]), "");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let expected = [
        format!("by process {}", coordinator.process.pid()),
        "--data-dir".into(),
        "LEASEHOLD_DATA_DIR".into(),
    ];
    for part in expected {
        assert!(refused.stderr.contains(&part), "{part} is missing from {refused:?}");
    }
    assert_eq!(coordinator.run("healthcheck").code, Some(0), "the first one is none the worse for it");
}

#[test]
fn taken_port_is_refused_and_told_what_to_do() {
    let coordinator = Coordinator::start(&[]);
    let address = coordinator.endpoint.strip_prefix("http://").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = program(["serve", "--listen", address, "--data-dir"]);
    command.arg(&data);
    let refused = Ended::of(command, "");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for part in [address, "in use", "--listen", "LEASEHOLD_LISTEN"] {
        assert!(refused.stderr.contains(part), "{part} is missing from {refused:?}");
    }
    assert!(!data.exists(), "nothing is made for a coordinator that does not run");
}

#[test]
fn directory_that_is_a_file_is_refused_and_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data"), "not a directory").unwrap();
    let refused = Ended::of(serving(dir.path(), &[]), "");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("--data-dir"), "{refused:?}");
    assert!(refused.stderr.contains("is a file, not a directory"), "{refused:?}");
}

#[test]
fn address_that_others_reach_is_refused_without_a_second_word_and_then_warned_of() {
    let refused = Ended::of(program(["--listen", "0.0.0.0:0"]), "");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("--allow-remote") && refused.stderr.contains("no authentication"),
        "{refused:?}"
    );

    let dir = tempfile::tempdir().unwrap();
    let mut command = program(["--listen", "0.0.0.0:0", "--data-dir"]);
    command.arg(dir.path()).env("LEASEHOLD_ALLOW_REMOTE", "1");
    let process = Process::start(command);
    assert!(process.line().starts_with("Leasehold listens on 0.0.0.0:"));
    assert!(process.wait_for_log("WARN").contains("no authentication"));
}

#[test]
fn wrong_value_names_its_flag_its_variable_and_what_is_allowed() {
    let table = [
        ("--listen", "nowhere", "IP:PORT"),
        ("--lease-default-ttl", "0s", "100ms to 1h"),
        ("--lease-max-ttl", "10", "100ms to 1h"),
        ("--lease-max-hold", "2d", "100ms to 1d"),
        ("--max-wait", "0s", "1ms to 1h"),
        ("--backoff-base", "0ms", "1ms to 1h"),
        ("--backoff-max", "soon", "1ms to 1d"),
        ("--tail-interval", "1ms", "10ms to 1m"),
        ("--staleness-bound", "1h", "20ms to 10m"),
        ("--retention", "5m", "1h to 3650d"),
        ("--deletion-grace", "0s", "1s to 30d"),
        ("--cache-bytes", "0", "1 MiB to 1 TiB"),
        ("--entry-bytes", "0", "1 MiB to 1 TiB"),
        ("--log-bytes", "1", "64 MiB to 1 TiB"),
        ("--watch-events", "-3", "16 to 10000000"),
        ("--max-calls", "0", "1 to 1000000"),
        ("--max-waiters", "none", "1 to 1000000"),
        ("--max-watches", "0", "1 to 1000000"),
        ("--max-lookup-streams", "0", "1 to 1000000"),
        ("--max-lookups-per-stream", "0", "1 to 100000"),
        ("--max-body-bytes", "1GiB", "1 KiB to 64 MiB"),
        ("--max-uploads", "0", "1 to 1000000"),
        ("--max-streamed-bytes", "0", "1 KiB to 1 TiB"),
        ("--max-upload-bytes", "12 apples", "1 KiB to 1 TiB"),
        ("--max-inline-bytes", "0B", "1 KiB to 64 MiB"),
        ("--max-message-bytes", "1KiB", "64 KiB to 128 MiB"),
        ("--max-streams-per-connection", "0", "1 to 1000000"),
        ("--tenant-max-requests", "0", "1 to 1000000"),
        ("--tenant-max-share", "101", "1 to 100"),
        ("--tenant-max-waiters", "0", "1 to 1000000"),
        ("--tenant-max-bytes", "4GiB", "1 KiB to 2 GiB"),
        ("--drain-timeout", "0s", "100ms to 1h"),
        ("--keepalive-interval", "0s", "100ms to 1h"),
        ("--keepalive-timeout", "0s", "100ms to 1h"),
        ("--default-deadline", "0s", "100ms to 10m"),
        ("--store-timeout", "0s", "100ms to 10m"),
        ("--stall-timeout", "0s", "1s to 10m"),
        ("--admin-listen", "everywhere", "IP:PORT"),
        ("--metrics-tenants", "all", "0 to 10000"),
        ("--watch-progress", "1m", "100ms to 30s"),
        ("--tenant-header", "not a name", "allowed: such as x-workspace-id"),
        ("--object-prefix", "/a//b/", "allowed: letters"),
        ("--log", "verbose", "allowed: error, warn"),
        ("--log-format", "xml", "text, json"),
        ("--allow-remote", "maybe", ""),
    ];
    for (flag, value, allowed) in table {
        let variable = format!("LEASEHOLD_{}", flag[2..].replace('-', "_").to_uppercase());
        let mut by_variable = program(["serve"]);
        by_variable.env(&variable, value);
        let mut tries = vec![by_variable];
        if flag != "--allow-remote" {
            tries.push(program([format!("{flag}={value}")]));
        }
        for command in tries {
            let refused = Ended::of(command, "");
            assert_eq!(refused.code, Some(2), "{flag}: {refused:?}");
            for part in [flag, allowed, variable.as_str(), value] {
                assert!(refused.stderr.contains(part), "{flag}: {part} is missing from {}", refused.stderr);
            }
        }
    }
}

#[test]
fn contradiction_of_two_flags_is_a_usage_error() {
    let refused = Ended::of(program(["--lease-default-ttl", "1m", "--lease-max-ttl", "30s"]), "");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("--lease-default-ttl (1m)")
            && refused.stderr.contains("--lease-max-ttl (30s)")
    );
}

#[test]
fn help_names_every_command_and_what_exit_codes_mean() {
    let help = Ended::of(program(["--help"]), "");
    assert_eq!(help.code, Some(0));
    for part in [
        "serve",
        "lookup",
        "explain",
        "commit",
        "invalidate",
        "lease",
        "watch",
        "page",
        "sidecar",
        "object",
        "healthcheck",
    ] {
        assert!(help.stdout.contains(&format!("\n  {part} ")), "{part} is missing from {}", help.stdout);
    }
    assert!(help.stdout.contains("Exit codes:"));
    assert_eq!(Ended::of(program(["looukp", "k"]), "").code, Some(2));
}

#[test]
fn logs_are_json_where_that_is_asked_for() {
    let coordinator = Coordinator::start(&["--log-format", "json", "--log", "info"]);
    let line = coordinator.process.wait_for_log("serving");
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["level"], "INFO");
    assert_eq!(format!("http://{}", event["server.address"].as_str().unwrap()), coordinator.endpoint);
}

#[test]
fn store_on_aws_takes_a_table_and_a_bucket_and_they_take_it() {
    let table: [(&[&str], &[&str]); 4] = [
        (&["--store=aws", "--bucket=b"], &["--table", "LEASEHOLD_TABLE", "FACETHEORY_CACHE_TABLE_NAME"]),
        (&["--store=aws", "--table=t"], &["--bucket", "LEASEHOLD_BUCKET"]),
        (&["--table=t", "--bucket=b"], &["--table", "--store aws", "LEASEHOLD_STORE"]),
        (&["--bucket=b"], &["--bucket", "--store aws"]),
    ];
    for (args, parts) in table {
        let refused = Ended::of(program(args), "");
        assert_eq!(refused.code, Some(2), "{refused:?}");
        for part in parts {
            assert!(refused.stderr.contains(part), "{args:?}: {part} is missing from {refused:?}");
        }
    }
}

#[test]
fn aws_that_cannot_be_reached_is_told_with_what_to_do() {
    // Nothing listens there.
    let nowhere = "http://127.0.0.1:9";
    let flags = [
        "--table=t",
        "--bucket=b",
        "--region=eu-central-1",
        "--dynamodb-endpoint",
        nowhere,
        "--s3-endpoint",
        nowhere,
    ];
    for command in [["serve", "--listen=127.0.0.1:0", "--store=aws"].as_slice(), &["init"]] {
        let mut command = program(command);
        command.args(flags).env("AWS_ACCESS_KEY_ID", "a key").env("AWS_SECRET_ACCESS_KEY", "a secret");
        let refused = Ended::of(command, "");
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(!refused.stderr.contains("a secret"), "{refused:?}");
        assert!(refused.stderr.contains("endpoint"), "{refused:?}");
    }
}
