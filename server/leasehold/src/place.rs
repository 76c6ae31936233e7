//! Where a coordinator keeps its state: opened, watched over, and closed.

use crate::cli::variable;
use leasehold_aws::{Aws, AwsSettings, Problem, Report};
use leasehold_core::object::ObjectPrefix;
use leasehold_service::{settings::Settings, time::Clock};
use leasehold_store::{
    embedded::{EmbeddedStore, Keep, OpenError},
    port::Stores,
};
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Where the state is to be.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a directory of this machine.
    Embedded {
        /// Which one.
        data_dir: PathBuf,
    },
    /// In DynamoDB and S3.
    Aws(Box<AwsSettings>),
}

impl Place {
    /// As `--store` has it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Embedded { .. } => "embedded",
            Self::Aws(_) => "aws",
        }
    }
}

/// Why a place cannot be used. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// What is to be the data directory is something else.
    #[error("{} is a file, not a directory; {}", _0.display(), another_directory())]
    NotADirectory(PathBuf),
    /// The data directory cannot be used.
    #[error("{source}; {}", open_advice(source))]
    Open {
        /// What is wrong with it.
        #[source]
        source: OpenError,
    },
    /// Table, bucket or rights are not as they must be.
    #[error("the store on AWS cannot be used:{}", listed(_0))]
    Aws(Vec<Problem>),
    /// AWS did not answer the questions at the start.
    #[error(
        "AWS did not answer within {}s; check the region, the endpoints, and the way there",
        CHECK_TIME.as_secs()
    )]
    Silent,
    /// A thread of the process died: a defect.
    #[error("a thread died while opening the store; see the log")]
    Died,
}

/// How long table, bucket and rights may take to be looked at.
const CHECK_TIME: Duration = Duration::from_secs(30);

/// Each on a line of its own, with what to do about it.
pub(crate) fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  - {problem}. {}", problem.remedy())).collect()
}

fn another_directory() -> String {
    format!("choose another directory with --data-dir DIR or {}", variable("data-dir"))
}

fn open_advice(error: &OpenError) -> String {
    let another = another_directory();
    match error {
        OpenError::InUse { .. } => format!("stop the process that has it open, or {another}"),
        OpenError::Directory { .. } => format!("make it writable for this user, or {another}"),
        OpenError::NewerVersion { .. } | OpenError::NotOurs { .. } => another,
        OpenError::Database { .. } => format!("restore it from a backup, or {another}"),
    }
}

/// A place that is open.
pub(crate) enum OpenPlace {
    Embedded { store: Arc<EmbeddedStore>, data_dir: PathBuf },
    Aws(Aws),
}

impl Place {
    /// `prefix` is the one under which objects are kept.
    pub(crate) async fn open(self, prefix: &ObjectPrefix) -> Result<OpenPlace, PlaceError> {
        match self {
            Self::Embedded { data_dir } => {
                let store = open_directory(data_dir.clone()).await?;
                let data_dir = std::path::absolute(&data_dir).unwrap_or(data_dir);
                Ok(OpenPlace::Embedded { store, data_dir })
            }
            Self::Aws(settings) => {
                let aws = Aws::connect(*settings).await;
                let check = tokio::time::timeout(CHECK_TIME, aws.check(prefix)).await;
                let Report { problems, warnings } = check.map_err(|_| PlaceError::Silent)?;
                for warning in warnings {
                    tracing::warn!("{warning}. {}", warning.remedy());
                }
                if problems.is_empty() { Ok(OpenPlace::Aws(aws)) } else { Err(PlaceError::Aws(problems)) }
            }
        }
    }
}

/// Off the threads of the runtime: it reads back what the last process left.
async fn open_directory(dir: PathBuf) -> Result<Arc<EmbeddedStore>, PlaceError> {
    let opening = tokio::task::spawn_blocking(move || {
        if dir.is_file() {
            return Err(PlaceError::NotADirectory(dir));
        }
        EmbeddedStore::open(&dir).map(Arc::new).map_err(|source| PlaceError::Open { source })
    });
    opening.await.unwrap_or(Err(PlaceError::Died))
}

impl OpenPlace {
    pub(crate) fn stores(&self) -> Stores {
        match self {
            Self::Embedded { store, .. } => Arc::clone(store).stores(),
            Self::Aws(aws) => aws.stores(),
        }
    }

    /// Deletes now and then what is over, until `stop`. DynamoDB does so by itself, by its time to live.
    pub(crate) async fn keep_house(
        &self,
        clock: Arc<dyn Clock>,
        settings: &Settings,
        stop: CancellationToken,
    ) {
        let Self::Embedded { store, .. } = self else { return };
        let keep = Keep { max_hold: settings.rules.max_hold, grace: settings.deletion_grace };
        keep_house(store, clock, keep, stop).await;
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Embedded { store, .. } => store.close().await,
            Self::Aws(_) => {}
        }
    }
}

impl fmt::Display for OpenPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded { data_dir, .. } => write!(f, "{}", data_dir.display()),
            Self::Aws(aws) => {
                let AwsSettings { table, bucket, .. } = aws.settings();
                write!(f, "table {table} and bucket {bucket}")
            }
        }
    }
}

/// How often what is past its retention, or named by no entry, is deleted.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5 * 60);

async fn keep_house(store: &EmbeddedStore, clock: Arc<dyn Clock>, keep: Keep, stop: CancellationToken) {
    let mut turns = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = turns.tick() => {}
        }
        let kept = tokio::select! {
            biased;
            // What it has under way is done whole or not at all.
            () = stop.cancelled() => return,
            kept = store.housekeep(clock.now().wall, keep) => kept,
        };
        match kept {
            Ok(kept) => tracing::debug!(
                entries.forgotten = kept.entries,
                objects.deleted = kept.objects,
                events.forgotten = kept.events,
                orphans.deleted = kept.orphans,
                freed_bytes = kept.freed_bytes,
                "housekeeping done"
            ),
            Err(error) => tracing::warn!(%error, "housekeeping failed; trying again later"),
        }
    }
}
