//! What is done to table and bucket without a coordinator.

mod sweep;

use crate::{
    cli::Refused,
    exit::Failure,
    flags::{AwsFlags, LoggingFlags, object_prefix},
    logs::Logging,
    output::Output,
    place::listed,
};
use clap::{Args, Subcommand};
use leasehold_aws::{Aws, AwsSettings, Problem, Report, SweepOptions};
use leasehold_core::object::ObjectPrefix;
use std::{process::ExitCode, time::Duration};

/// A preparation, with all that it needs.
#[derive(Debug)]
pub struct Preparation {
    aws: Box<AwsSettings>,
    logging: Logging,
    output: Output,
    what: What,
}

#[derive(Debug)]
enum What {
    Init(ObjectPrefix),
    Sweep(SweepOptions),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PrepareCommand {
    /// Create table and bucket where they are missing, for development, and say what else is wrong
    Init(InitFlags),
    /// Find objects in the bucket that no entry needs; delete them with --delete
    #[command(after_help = sweep::JSON)]
    Sweep(sweep::SweepFlags),
}

/// Which table and bucket.
#[derive(Args, Clone, Debug)]
pub(crate) struct InitFlags {
    #[command(flatten)]
    objects: ObjectFlags,
    #[command(flatten)]
    aws: AwsFlags,
    #[command(flatten)]
    logging: LoggingFlags,
}

/// Where the coordinators keep their objects.
#[derive(Args, Clone, Debug)]
pub(crate) struct ObjectFlags {
    /// Begin the names of stored bodies with this, as the coordinators do
    #[arg(long, env = "LEASEHOLD_OBJECT_PREFIX", value_name = "PREFIX", default_value = "isr",
        value_parser = object_prefix)]
    object_prefix: ObjectPrefix,
}

/// No caller waits for these, and what they ask for in one call is larger.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

impl PrepareCommand {
    pub(crate) fn into_preparation(self) -> Result<Preparation, Refused> {
        let (aws, logging, as_json, what) = match self {
            Self::Init(InitFlags { objects, aws, logging }) => {
                (aws, logging, false, What::Init(objects.object_prefix))
            }
            Self::Sweep(flags) => {
                let options = flags.options();
                (flags.aws, flags.logging, flags.json, What::Sweep(options))
            }
        };
        Ok(Preparation {
            aws: Box::new(aws.into_settings(CALL_TIMEOUT)?),
            logging: logging.into(),
            output: Output { as_json },
            what,
        })
    }
}

/// Carries it out: the whole of `leasehold init` and `leasehold sweep`.
pub fn run_to_the_end(preparation: Preparation) -> ExitCode {
    preparation.logging.install();
    let as_json = preparation.output.as_json;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return Failure::local(format!("cannot start the runtime: {error}"), "").report(as_json);
        }
    };
    match runtime.block_on(preparation.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(as_json),
    }
}

impl Preparation {
    async fn run(self) -> Result<(), Failure> {
        let Self { aws, logging: _, output, what } = self;
        let aws = Aws::connect(*aws).await;
        match what {
            What::Init(prefix) => init(&aws, &prefix).await,
            What::Sweep(options) => sweep::run(&aws, &options, output).await,
        }
    }
}

async fn init(aws: &Aws, prefix: &ObjectPrefix) -> Result<(), Failure> {
    let done = match aws.init().await {
        Ok(done) => done,
        Err(error) => {
            let advice = "check names, region, endpoints and rights; what was done before stays";
            return Err(explained(aws, prefix, error.to_string(), advice).await);
        }
    };
    for step in &done {
        println!("{step}");
    }
    let Report { problems, warnings } = aws.check(prefix).await;
    for warning in warnings {
        println!("warning: {warning}. {}", warning.remedy());
    }
    let AwsSettings { table, bucket, .. } = aws.settings();
    if problems.is_empty() {
        let nothing = if done.is_empty() { "nothing was missing; " } else { "" };
        println!("{nothing}table {table} and bucket {bucket} are ready");
        return Ok(());
    }
    Err(Failure::local(format!("table {table} and bucket {bucket} are not ready:{}", listed(&problems)), ""))
}

/// Why something failed: where there is no way to AWS at all, that is said, and how to mend it; else `message` and `advice`.
async fn explained(aws: &Aws, prefix: &ObjectPrefix, message: String, advice: &str) -> Failure {
    let mut problems = aws.check(prefix).await.problems;
    problems.retain(|problem| {
        matches!(problem, Problem::Unreachable { .. } | Problem::NoRegion | Problem::NoCredentials { .. })
    });
    if problems.is_empty() {
        return Failure::local(message, advice);
    }
    Failure::local(format!("AWS cannot be used:{}", listed(&problems)), "")
}
