//! Finds what crashes left in the bucket.

use super::ObjectFlags;
use crate::{
    exit::Failure,
    flags::{AwsFlags, LoggingFlags},
    output::{Output, Rows},
    quantity::{bytes, duration},
};
use clap::Args;
use leasehold_aws::{Aws, Failure as Undeleted, Illegible, Progress, SweepOptions, Swept};
use leasehold_core::orphan::Keep;
use leasehold_service::time::{Clock as _, SystemClock};
use serde::Serialize;
use std::time::Duration;

pub(crate) const JSON: &str = "\
It reads the whole table and lists the whole prefix: a read unit for each 4 KB of the table, a request for
each 1000 objects. It never touches what is current, what a lease may still commit, what is within the grace,
or what others have named. The times are those of the coordinators; the longest, where they differ. How old
something is, is judged by the earlier of this machine's clock and S3's; where these are more than a minute
apart, nothing is deleted.

JSON: {entries, objects, foreign, orphans, orphan_bytes, deleted, failed, undecided, illegible, refused, clock,
       names: [up to 100 orphans], failures: [{name, why}], rows: [{pk, why, identified}]}";

/// So often it says how far it is.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// What to sweep.
#[derive(Args, Clone, Debug)]
pub(crate) struct SweepFlags {
    /// Delete what is found. Without it, it is only told
    #[arg(long)]
    delete: bool,
    /// Delete also where the table has no entries, or names no page that is in the bucket
    #[arg(long, requires = "delete")]
    force: bool,
    #[command(flatten)]
    pub(super) objects: ObjectFlags,
    /// The longest that a lease can be held, as the coordinators have it. 100ms to 1d
    #[arg(long, env = "LEASEHOLD_LEASE_MAX_HOLD", value_name = "DURATION", default_value = "15m",
        value_parser = duration(Duration::from_millis(100), Duration::from_secs(24 * 3600)))]
    lease_max_hold: Duration,
    /// For how long a superseded body is kept, as the coordinators have it. 1s to 30d
    #[arg(long, env = "LEASEHOLD_DELETION_GRACE", value_name = "DURATION", default_value = "1h",
        value_parser = duration(Duration::from_secs(1), Duration::from_secs(30 * 24 * 3600)))]
    deletion_grace: Duration,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) aws: AwsFlags,
    #[command(flatten)]
    pub(super) logging: LoggingFlags,
}

impl SweepFlags {
    pub(super) fn options(&self) -> SweepOptions {
        SweepOptions {
            prefix: self.objects.object_prefix.clone(),
            keep: Keep { max_hold: self.lease_max_hold, grace: self.deletion_grace },
            delete: self.delete,
            force: self.force,
        }
    }
}

pub(super) async fn run(aws: &Aws, options: &SweepOptions, output: Output) -> Result<(), Failure> {
    let clock = SystemClock::start();
    let mut told = Duration::ZERO;
    let progress = |progress: &Progress| {
        let elapsed = clock.now().elapsed;
        if elapsed >= told + REPORT_INTERVAL {
            told = elapsed;
            let Progress { entries, objects, orphans, orphan_bytes, deleted } = *progress;
            eprintln!(
                "{entries} entries read, {objects} objects listed, {orphans} orphans ({}), {deleted} deleted",
                bytes(orphan_bytes)
            );
        }
    };
    let swept = match aws.sweep(options, || clock.now().wall, progress).await {
        Ok(swept) => swept,
        Err(error) => {
            let deleted = if options.delete { "what was deleted before stays deleted; " } else { "" };
            let advice = format!("{deleted}sweep again to go on");
            return Err(super::explained(aws, &options.prefix, error.to_string(), &advice).await);
        }
    };
    output.result(&SweptShape::of(&swept), || for_people(&swept, options.delete))?;
    if options.delete && swept.is_refused() {
        return Err(if let Some(untimely) = swept.untimely {
            Failure::local(
                format!("nothing was deleted: {untimely}"),
                "set the clock of this machine, or sweep from another one",
            )
        } else if swept.unrelated {
            Failure::local(
                "nothing was deleted: the table names no page that is in the bucket, so it is another one's",
                "check --table, --bucket and --object-prefix; --force deletes all the same",
            )
        } else {
            Failure::local(
                "nothing was deleted: of some rows of the table nobody can tell which entry they are of",
                "mend or delete the rows that are named",
            )
        });
    }
    if swept.failed > 0 {
        let why = format!("{} objects could not be deleted", swept.failed);
        return Err(Failure::local(why, "sweep again"));
    }
    Ok(())
}

fn for_people(swept: &Swept, is_meant: bool) -> String {
    let Swept { total, foreign, orphans, undecided, untimely, illegible_rows, failures, .. } = swept;
    let mut rows = Rows::default();
    rows.add("entries", total.entries.to_string());
    rows.add("objects", format!("{}, and {foreign} of others", total.objects - foreign));
    rows.add("orphans", format!("{}, {}", total.orphans, bytes(total.orphan_bytes)));
    if *undecided > 0 {
        rows.add(
            "undecided",
            format!("{undecided}, whose entries do not decode, or that say nothing of theirs, or could not be asked"),
        );
    }
    if let Some(untimely) = untimely {
        rows.add("clock", untimely.to_string());
    }
    for name in orphans {
        rows.add("", name.to_string());
    }
    for Illegible { pk, why, identified } in illegible_rows {
        let whose = if *identified { "" } else { ", and nobody can tell whose it is" };
        rows.add("row", format!("{pk}: {why}{whose}"));
    }
    for Undeleted { name, why } in failures {
        rows.add("failed", format!("{name}: {why}"));
    }
    rows.add(
        "deleted",
        match (is_meant, total.orphans) {
            (true, _) | (false, 0) => total.deleted.to_string(),
            (false, _) => "nothing: this was a dry run; --delete deletes".to_owned(),
        },
    );
    rows.text()
}

#[derive(Serialize)]
struct SweptShape<'a> {
    entries: u64,
    objects: u64,
    foreign: u64,
    orphans: u64,
    orphan_bytes: u64,
    deleted: u64,
    failed: u64,
    undecided: u64,
    illegible: u64,
    refused: bool,
    /// What is wrong with it.
    clock: Option<String>,
    names: Vec<&'a str>,
    failures: Vec<FailureShape<'a>>,
    rows: Vec<RowShape<'a>>,
}

#[derive(Serialize)]
struct FailureShape<'a> {
    name: &'a str,
    why: &'a str,
}

#[derive(Serialize)]
struct RowShape<'a> {
    pk: &'a str,
    why: &'a str,
    identified: bool,
}

impl<'a> SweptShape<'a> {
    fn of(swept: &'a Swept) -> Self {
        let Progress { entries, objects, orphans, orphan_bytes, deleted } = swept.total;
        Self {
            entries,
            objects,
            foreign: swept.foreign,
            orphans,
            orphan_bytes,
            deleted,
            failed: swept.failed,
            undecided: swept.undecided,
            illegible: swept.illegible,
            refused: swept.is_refused(),
            clock: swept.untimely.map(|untimely| untimely.to_string()),
            names: swept.orphans.iter().map(leasehold_core::object::ObjectName::as_str).collect(),
            failures: swept
                .failures
                .iter()
                .map(|Undeleted { name, why }| FailureShape { name: name.as_str(), why })
                .collect(),
            rows: swept
                .illegible_rows
                .iter()
                .map(|Illegible { pk, why, identified }| RowShape { pk, why, identified: *identified })
                .collect(),
        }
    }
}
