//! What the preflight finds, and what `init` does about it.

use leasehold_aws::{
    AwsSettings, Done, Problem, Report, Service, Warning,
    testing::{Doubles, Fault, Rule},
};

const NAME: &str = "leasehold-test";

#[tokio::test]
async fn what_init_creates_passes_the_preflight_and_is_left_as_it_is_afterwards() {
    let doubles = Doubles::new();
    let aws = doubles.connect(Doubles::settings());
    let done =
        [Done::CreatedTable(NAME.into()), Done::SetTimeToLive(NAME.into()), Done::CreatedBucket(NAME.into())];
    assert_eq!(aws.init().await.unwrap(), done);
    assert_eq!(aws.check().await, Report::default());
    assert!(aws.check().await.is_ready());
    assert_eq!(aws.init().await.unwrap(), []);
}

#[tokio::test]
async fn the_preflight_changes_nothing() {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    aws.check().await;
    assert_eq!(doubles.s3.names(NAME), [""; 0]);
    assert_eq!(doubles.counters.of("UpdateItem") + doubles.counters.of("DeleteItem"), 0);
}

#[tokio::test]
async fn everything_that_is_missing_is_told_at_once() {
    let doubles = Doubles::new();
    let report = doubles.connect(Doubles::settings()).check().await;
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
    let cases = [
        ("DescribeTable", "dynamodb:DescribeTable"),
        ("GetItem", "dynamodb:GetItem"),
        ("Query", "dynamodb:Query"),
        ("PutItem", "dynamodb:PutItem"),
        ("TransactWriteItems", "dynamodb:UpdateItem"),
        ("HeadBucket", "s3:ListBucket"),
        ("GetObject", "s3:GetObject"),
        ("PutObject", "s3:PutObject"),
        ("DeleteObjects", "s3:DeleteObject"),
    ];
    for (operation, right) in cases {
        doubles.faults.add(Rule::on(operation, Fault::Deny));
        let missing = Problem::NoRight { right, resource: NAME.into() };
        assert_eq!(aws.check().await.problems, [missing], "without {operation}");
        doubles.faults.clear();
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_told_and_the_other_one_asked() {
    let doubles = Doubles::new();
    let aws = doubles.ready().await;
    doubles.faults.add(Rule::on("DescribeTable", Fault::Refuse));
    let report = aws.check().await;
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
    let report = aws.check().await;
    assert_eq!(report.warnings, [Warning::NoTimeToLive { table: NAME.into() }]);
    assert!(!report.problems.iter().any(|problem| matches!(problem, Problem::NoTable { .. })));
    // And is mended by going on from there.
    let done = [Done::SetTimeToLive(NAME.into()), Done::CreatedBucket(NAME.into())];
    assert_eq!(aws.init().await.unwrap(), done);
    assert_eq!(aws.check().await, Report::default());
}

#[tokio::test]
async fn a_table_of_another_key_is_refused_with_what_its_key_is() {
    let doubles = Doubles::new();
    doubles.ready().await;
    doubles.dynamodb.create_table("other", &[("id", "N")]);
    let aws = doubles.connect(AwsSettings { table: "other".into(), ..Doubles::settings() });
    let problem = Problem::KeySchema { table: "other".into(), found: "id (N)".into() };
    assert_eq!(aws.check().await.problems, [problem]);
    assert_eq!(aws.init().await.unwrap(), [Done::SetTimeToLive("other".into())], "what is there is left");
}
