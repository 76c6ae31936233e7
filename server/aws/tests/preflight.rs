//! What the preflight finds, and what `init` does about it.

use leasehold_aws::{
    AwsSettings, Done, InitError, Problem, Report, Service, Warning,
    testing::{Doubles, Fault, Rule},
};
use leasehold_core::object::ObjectPrefix;
use serde_json::json;
use std::time::Duration;

const NAME: &str = "leasehold-test";
/// Everything that it asks for.
const ASKED: [&str; 10] = [
    "DescribeTable",
    "DescribeTimeToLive",
    "GetItem",
    "Query",
    "PutItem",
    "TransactWriteItems",
    "HeadBucket",
    "GetObject",
    "PutObject",
    "DeleteObjects",
];

#[tokio::test]
async fn what_init_creates_passes_the_preflight_and_is_left_as_it_is_afterwards() {
    let doubles = Doubles::new();
    let aws = doubles.connect(Doubles::settings());
    let done =
        [Done::CreatedTable(NAME.into()), Done::SetTimeToLive(NAME.into()), Done::CreatedBucket(NAME.into())];
    assert_eq!(aws.init().await.unwrap(), done);
    assert_eq!(aws.check(&ObjectPrefix::default()).await, Report::default());
    assert!(aws.check(&ObjectPrefix::default()).await.is_ready());
    assert_eq!(aws.init().await.unwrap(), []);
}

#[tokio::test]
async fn a_bucket_is_created_in_the_region_that_is_set() {
    for region in ["us-east-1", "eu-west-1"] {
        let settings = AwsSettings { region: Some(region.into()), ..Doubles::settings() };
        let done = Doubles::new().connect(settings).init().await.unwrap();
        assert!(done.contains(&Done::CreatedBucket(NAME.into())), "{region}: {done:?}");
    }
}

/// Each found that there was nothing, and asks for everything.
#[tokio::test]
async fn two_that_init_at_once_are_both_done_and_each_says_what_was_its_own() {
    let doubles = Doubles::new();
    let handles = [(); 2].map(|()| doubles.connect(Doubles::settings()));
    // Whoever fails ends the test, instead of being waited for.
    let [one, other] = handles.map(async |aws| aws.init().await.unwrap());
    let calls = ["CreateTable", "UpdateTimeToLive", "CreateBucket"];
    let gates = calls.map(|operation| doubles.faults.hold(operation));
    let (one, other, ()) = tokio::join!(one, other, async {
        for gate in gates {
            gate.arrived(2).await;
            gate.open();
        }
    });
    let done = [one, other].concat();
    let all =
        [Done::CreatedTable(NAME.into()), Done::SetTimeToLive(NAME.into()), Done::CreatedBucket(NAME.into())];
    for once in all {
        assert_eq!(done.iter().filter(|done| **done == once).count(), 1, "{done:?}");
    }
    let aws = doubles.connect(Doubles::settings());
    assert_eq!(aws.check(&ObjectPrefix::default()).await, Report::default());
}

#[tokio::test(start_paused = true)]
async fn what_init_may_not_do_is_told_by_the_name_of_the_call_and_ends_it() {
    let calls = [
        ("DescribeTable", "AccessDeniedException (400)"),
        ("CreateTable", "AccessDeniedException (400)"),
        ("DescribeTimeToLive", "AccessDeniedException (400)"),
        ("UpdateTimeToLive", "AccessDeniedException (400)"),
        // As of a bucket that is somebody else's: it is there.
        ("HeadBucket", "AccessDenied (403)"),
        ("CreateBucket", "AccessDenied (403)"),
    ];
    for (number, (operation, why)) in calls.into_iter().enumerate() {
        let doubles = Doubles::new();
        doubles.faults.add(Rule::on(operation, Fault::Deny));
        let denied = doubles.connect(Doubles::settings()).init().await;
        let told = InitError::Call { operation, resource: NAME.into(), why: why.into() };
        assert_eq!(denied, Err(told));
        for (later, _) in &calls[number + 1..] {
            assert_eq!(doubles.counters.of(later), 0, "{later} after {operation}");
        }
    }
}

#[tokio::test]
async fn the_preflight_changes_nothing() {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    aws.check(&ObjectPrefix::default()).await;
    assert_eq!((doubles.s3.names(NAME), doubles.s3.markers()), (vec![], vec![]));
    doubles.dynamodb.allow_scan(10);
    let scan = json!({ "TableName": NAME, "ConsistentRead": true });
    assert_eq!(doubles.dynamodb.call("Scan", &scan)["Count"], 0);
}

#[tokio::test]
async fn a_server_that_heeds_no_conditions_has_nothing_of_the_preflight_either() {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    doubles.s3.forget_conditions();
    assert_eq!(aws.check(&ObjectPrefix::default()).await, Report::default());
    assert_eq!((doubles.s3.names(NAME), doubles.s3.markers()), (vec![], vec![]));
}

#[tokio::test]
async fn a_role_that_is_kept_to_the_object_prefix_and_to_the_partitions_is_enough() {
    for (prefix, allowed) in [("isr", "isr/"), ("a/b", "a/b/"), ("", "")] {
        let doubles = Doubles::new();
        doubles.ready().await;
        doubles.s3.allow_only(allowed);
        doubles.dynamodb.allow_only(&["TENANT#", "LEASEHOLD#LOG"]);
        let aws = doubles.connect(Doubles::settings());
        assert_eq!(aws.check(&ObjectPrefix::parse(prefix).unwrap()).await, Report::default(), "{prefix}");
    }
}

#[tokio::test]
async fn rights_to_another_prefix_or_other_partitions_are_not_enough() {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    doubles.s3.allow_only("isr/");
    doubles.dynamodb.allow_only(&["CACHE#"]);
    let missing = |right, resource: &str| Problem::NoRight { right, resource: resource.into() };
    let problems = [
        missing("dynamodb:GetItem", NAME),
        missing("dynamodb:Query", NAME),
        missing("dynamodb:PutItem", NAME),
        missing("dynamodb:UpdateItem", NAME),
        missing("s3:GetObject", "leasehold-test/other/*"),
        missing("s3:PutObject", "leasehold-test/other/*"),
        missing("s3:DeleteObject", "leasehold-test/other/*"),
    ];
    assert_eq!(aws.check(&ObjectPrefix::parse("other").unwrap()).await.problems, problems);
}

#[tokio::test(start_paused = true)]
async fn what_passes_by_itself_stops_no_start() {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    for operation in ASKED {
        doubles.faults.add(Rule::on(operation, Fault::Throttle).nth(1));
        doubles.faults.add(Rule::on(operation, Fault::FailBefore).nth(1));
        doubles.faults.add(Rule::on(operation, Fault::DropAnswer).nth(1));
    }
    assert_eq!(aws.check(&ObjectPrefix::default()).await, Report::default());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_told_in_time() {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    for fault in [Fault::Throttle, Fault::HangBefore, Fault::Refuse] {
        doubles.faults.add(Rule::on_any(fault.clone()));
        let prefix = ObjectPrefix::default();
        // For so long a start waits for it.
        let report = tokio::time::timeout(Duration::from_secs(30), aws.check(&prefix)).await.unwrap();
        let both = |word| report.problems.iter().filter(|problem| problem.to_string().contains(word)).count();
        assert!(both("ynamo") >= 1 && both("S3") + both("s3:") >= 1, "{fault:?}: {report:?}");
        doubles.faults.clear();
    }
}

#[tokio::test]
async fn everything_that_is_missing_is_told_at_once() {
    let doubles = Doubles::new();
    let report = doubles.connect(Doubles::settings()).check(&ObjectPrefix::default()).await;
    let problems = [
        Problem::NoTable { table: NAME.into(), region: "eu-west-1".into() },
        Problem::NoBucket { bucket: NAME.into() },
    ];
    assert_eq!(report.problems, problems);
    assert!(!report.is_ready());
    assert!(report.problems.iter().all(|problem| problem.remedy().contains("leasehold init")));
}

#[tokio::test]
async fn each_missing_right_is_told_by_its_name() {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    let objects = "leasehold-test/isr/*";
    let cases = [
        ("DescribeTable", "dynamodb:DescribeTable", NAME),
        ("GetItem", "dynamodb:GetItem", NAME),
        ("Query", "dynamodb:Query", NAME),
        ("PutItem", "dynamodb:PutItem", NAME),
        ("TransactWriteItems", "dynamodb:UpdateItem", NAME),
        ("HeadBucket", "s3:ListBucket", NAME),
        ("GetObject", "s3:GetObject", objects),
        ("PutObject", "s3:PutObject", objects),
        ("DeleteObjects", "s3:DeleteObject", objects),
    ];
    for (operation, right, resource) in cases {
        doubles.faults.add(Rule::on(operation, Fault::Deny));
        let missing = Problem::NoRight { right, resource: resource.into() };
        assert_eq!(aws.check(&ObjectPrefix::default()).await.problems, [missing], "without {operation}");
        doubles.faults.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_there_is_told_and_the_other_one_asked() {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    doubles.faults.add(Rule::on("DescribeTable", Fault::Refuse));
    let report = aws.check(&ObjectPrefix::default()).await;
    let unreachable = Problem::Unreachable { service: Service::DynamoDb, why: "no connection".into() };
    assert_eq!(report.problems, [unreachable]);
    assert!(doubles.counters.of("PutObject") > 0);
}

#[tokio::test]
async fn a_table_that_deletes_nothing_is_a_warning() {
    let doubles = Doubles::new();
    let aws = doubles.connect(Doubles::settings());
    // The table is created, and its time to live is not set.
    doubles.faults.add(Rule::on("UpdateTimeToLive", Fault::Deny));
    aws.init().await.unwrap_err();
    doubles.faults.clear();
    let report = aws.check(&ObjectPrefix::default()).await;
    assert_eq!(report.warnings, [Warning::NoTimeToLive { table: NAME.into() }]);
    assert!(!report.problems.iter().any(|problem| matches!(problem, Problem::NoTable { .. })));
    // And is mended by going on from there.
    let done = [Done::SetTimeToLive(NAME.into()), Done::CreatedBucket(NAME.into())];
    assert_eq!(aws.init().await.unwrap(), done);
    assert_eq!(aws.check(&ObjectPrefix::default()).await, Report::default());
}

/// Entries would never go, and what is in the other attribute would go by it.
#[tokio::test]
async fn a_table_that_deletes_by_another_attribute_is_a_warning_and_left_as_it_is() {
    let doubles = Doubles::new();
    doubles.dynamodb.create_table(NAME, &[("pk", "S"), ("sk", "S")]);
    let other = json!({ "Enabled": true, "AttributeName": "expires" });
    let update = json!({ "TableName": NAME, "TimeToLiveSpecification": other });
    doubles.dynamodb.call("UpdateTimeToLive", &update);
    let aws = doubles.connect(Doubles::settings());
    assert_eq!(aws.init().await.unwrap(), [Done::CreatedBucket(NAME.into())]);
    let warning = Warning::OtherTimeToLive { table: NAME.into(), attribute: "expires".into() };
    assert_eq!(
        aws.check(&ObjectPrefix::default()).await,
        Report { problems: vec![], warnings: vec![warning] }
    );
}

#[tokio::test]
async fn a_table_of_another_key_is_refused_with_what_its_key_is() {
    let doubles = Doubles::new();
    doubles.ready().await;
    doubles.dynamodb.create_table("other", &[("id", "N")]);
    let aws = doubles.connect(AwsSettings { table: "other".into(), ..Doubles::settings() });
    let problem = Problem::KeySchema { table: "other".into(), found: "id (N)".into() };
    assert_eq!(aws.check(&ObjectPrefix::default()).await.problems, [problem]);
    assert_eq!(aws.init().await.unwrap(), [Done::SetTimeToLive("other".into())], "what is there is left");
}
