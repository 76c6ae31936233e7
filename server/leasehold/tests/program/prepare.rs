//! Table and bucket, prepared by the program: on the doubles, which listen on loopback.

use crate::process::{Ended, program};
use leasehold_aws::{
    AwsSettings,
    testing::{Doubles, Listening},
};
use leasehold_core::time::Timestamp;
use std::process::Command;

async fn run(listening: &Listening, command: &str, flags: &[&str]) -> Ended {
    let command = prepared(listening, command, flags);
    // The doubles answer meanwhile.
    tokio::task::spawn_blocking(|| Ended::of(command, "")).await.expect("a run")
}

fn prepared(listening: &Listening, command: &str, flags: &[&str]) -> Command {
    let AwsSettings { table, bucket, region, .. } = Doubles::settings();
    let mut command = program([command, "--table", &table, "--bucket", &bucket, "--s3-path-style"]);
    command.args(["--region", &region.expect("the doubles name one")]).args(flags);
    command.args(["--dynamodb-endpoint", &listening.dynamodb_url, "--s3-endpoint", &listening.s3_url]);
    command.env("AWS_ACCESS_KEY_ID", Doubles::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", Doubles::SECRET_KEY);
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_asks_for_rights_under_the_prefix_that_it_is_told() {
    let doubles = Doubles::new();
    doubles.s3.allow_only("pages/");
    let listening = doubles.listen().await;
    let elsewhere = run(&listening, "init", &[]).await;
    assert_eq!(elsewhere.code, Some(1), "{elsewhere:?}");
    assert!(elsewhere.stderr.contains("no right to s3:PutObject on `leasehold-test/isr/*`"), "{elsewhere:?}");
    let there = run(&listening, "init", &["--object-prefix", "pages"]).await;
    assert_eq!((there.code, &*there.stderr), (Some(0), ""), "{there:?}");
    assert!(there.stdout.contains("are ready"), "{there:?}");
}

/// Each step of theirs would fail by itself, and say less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_credentials_init_and_sweep_say_how_to_give_them() {
    let listening = Doubles::new().listen().await;
    for command in ["init", "sweep"] {
        let mut run = prepared(&listening, command, &[]);
        run.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        run.env("AWS_EC2_METADATA_DISABLED", "true");
        let ended = tokio::task::spawn_blocking(|| Ended::of(run, "")).await.expect("a run");
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for part in ["no credentials were found for DynamoDB", "set AWS_ACCESS_KEY_ID"] {
            assert!(ended.stderr.contains(part), "{part} is missing from {ended:?}");
        }
        // Not what the SDK looked for where.
        assert!(!ended.stderr.contains("ProviderError"), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweep_by_a_clock_that_is_off_deletes_nothing_and_says_so() {
    let doubles = Doubles::new();
    doubles.ready().await;
    doubles.dynamodb.allow_scan(10);
    doubles.s3.set_date(Timestamp::from_millis(4_102_444_800_000));
    let listening = doubles.listen().await;
    let meant = run(&listening, "sweep", &["--delete"]).await;
    assert_eq!(meant.code, Some(1), "{meant:?}");
    for part in ["nothing was deleted: it is 20", "2100-01-01T00:00:00Z by that of S3", "set the clock"] {
        assert!(meant.stderr.contains(part), "{part} is missing from {meant:?}");
    }
    // Also where nothing was to be deleted.
    let dry = run(&listening, "sweep", &[]).await;
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert!(dry.stdout.contains("2100-01-01T00:00:00Z"), "{dry:?}");
    let json = run(&listening, "sweep", &["--json"]).await.json();
    assert_eq!(json["refused"], true);
    assert!(json["clock"].as_str().is_some_and(|clock| clock.contains("2100-01-01")), "{json}");
}
