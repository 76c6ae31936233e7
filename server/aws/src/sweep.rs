//! The sweep: finds objects that no entry needs, and deletes them when asked to. An operator's tool.
//!
//! It reads the whole table with a Scan and lists the whole prefix, which no coordinator ever does: the service itself knows
//! what it superseded, and needs no search. What is left to be found are bodies of uploads that were never committed, and
//! superseded ones whose deletion was lost. It takes a read unit for each 4 KB of the table, a HEAD, eight at a time, for each old object that
//! its worker named and no row names, the right to `dynamodb:Scan` on the table, and to `s3:ListBucket`, `s3:GetObject` and
//! `s3:DeleteObject` on the bucket. In a bucket that keeps versions, a deletion leaves a marker
//! and the version.
//!
//! # Why nothing is deleted that is needed
//!
//! The table is read first, then the bucket is listed, then orphans are deleted, while coordinators go on. What counts as an
//! orphan is the core's rule, [`leasehold_core::orphan`], as of the start of the sweep. Take an object that it finds, and its
//! entry, which the Scan read at some moment after the start, strongly consistent. At that moment the entry's pointer did not
//! name it, its lease was not the one that the object is of, by its name or by what is written on it, and its last commit was longer than the grace before the start.
//!
//! - *A commit cannot bring it back.* That takes the lease it is of, or a pointer that names it. The lease was not there
//!   when the entry was read, and no later grant has it: its time is that of the grant, and that of the object is longer before
//!   the start than [`Keep::max_hold`] and [`Keep::grace`]. A lease that was there, expired or not, protects its objects: its
//!   late commit finds them.
//! - *An entry that is granted, or created, after it was read*, or that the Scan did not meet because it was not there yet, has
//!   objects under leases of later than the start: younger than both limits.
//! - *A pointer that is replaced after it was read* makes orphans that this sweep does not know yet. They stay for the next.
//! - *An entry that is deleted after it was read* protects its objects once more than it had to.
//! - *The times in names and on objects are those of coordinators' clocks.* S3's own time of the last change has to be over both limits too, so
//!   that an upload which came late, or a clock that was wrong, does not count.
//!
//! What this rests on: the start is not told ahead of the coordinators' clocks by as much as both limits, and no other table
//! has objects directly under this prefix. The start is the earlier of what this machine and S3 say ([`clock`]); where these
//! are more than a minute apart, nothing is deleted.
//!
//! What cannot be read protects all it may be about: a row of ours that does not decode keeps every object of its entry. Where
//! even that is unclear, nothing is deleted at all until somebody has looked at the row.
//!
//! **Others in the bucket and the table.** Only names that [`names_for`](leasehold_core::object::names_for) gives directly under
//! the prefix are looked at, and those of [`leasehold_core::named`]; what says nothing of its lease stays. A row of FaceTheory's keeps the object it names, whatever its name; and where it took the place of a
//! row of ours, what it superseded has its grace.

use crate::{
    connect::Aws,
    error::Cause,
    item::{PK, RECORD, SK},
    objects::DELETE_AT_ONCE,
    patience::Patience,
    row::{GENERATED_AT, S3_KEY, VERSION},
    settings::AwsSettings,
};
use aws_sdk_s3::types::{Delete, EncodingType, Object, ObjectIdentifier};
use futures::{StreamExt as _, stream};
use leasehold_core::{
    named::{NamedObject, ORIGIN_ATTRIBUTE, Origin},
    object::{ObjectName, ObjectPrefix},
    orphan::{self, Keep, Verdict, Written},
    time::Timestamp,
};
use percent_encoding::percent_decode_str;
use protected::Protected;
use std::time::Duration;

pub use clock::Untimely;

mod clock;
mod protected;

/// How many orphans, failures and rows a summary names; of all it gives the number.
pub const MAX_NAMED: usize = 100;

/// How many objects are asked at once what is written on them.
const HEADS_AT_ONCE: usize = 8;

/// S3 gives the time of a change in whole seconds.
const LAST_MODIFIED_PRECISION: Duration = Duration::from_secs(1);

/// What to sweep.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// Under which the objects are: all directly under it belong to entries of this table.
    pub prefix: ObjectPrefix,
    /// The rules of the coordinators that write here. Those with the longest times, where they differ.
    pub keep: Keep,
    /// Whether to delete what is found; otherwise it is only told.
    pub delete: bool,
    /// Whether to delete also where the table does not seem to be that of the bucket.
    pub force: bool,
}

/// How far a sweep is. First the entries are read, then objects are listed, and deleted as they are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Entries read.
    pub entries: u64,
    /// Objects listed.
    pub objects: u64,
    /// Those of them that no entry needs.
    pub orphans: u64,
    /// And their bytes.
    pub orphan_bytes: u64,
    /// Orphans deleted.
    pub deleted: u64,
}

/// What a sweep found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The numbers at its end.
    pub total: Progress,
    /// Objects under the prefix whose names are not ours: left alone.
    pub foreign: u64,
    /// The first [`MAX_NAMED`] orphans.
    pub orphans: Vec<ObjectName>,
    /// Old objects that stay because the row of their entry does not decode, or because what is written on them says nothing of
    /// it or cannot be read.
    pub undecided: u64,
    /// Rows of ours that do not decode.
    pub illegible: u64,
    /// Those of them of which it cannot be told which entry they are of. With any, nothing is deleted.
    pub unidentified: u64,
    /// There are orphans, and the table does not seem to be that of the bucket: it has no entries, or names none of the pages that
    /// are there. Then nothing is deleted: in a bucket of another table, every page would be an orphan. Where nothing is to be
    /// deleted, as in a new bucket, it does not matter whose it is.
    pub unrelated: bool,
    /// Why it cannot be told how old anything is. Then nothing is deleted.
    pub untimely: Option<Untimely>,
    /// The first [`MAX_NAMED`] rows that do not decode, those that cannot be identified before others.
    pub illegible_rows: Vec<Illegible>,
    /// Orphans that could not be deleted, or perhaps were: the next sweep finds them if they are still there.
    pub failed: u64,
    /// The first [`MAX_NAMED`] of these, and of objects that could not be asked what is written on them.
    pub failures: Vec<Failure>,
}

impl Swept {
    /// Whether this sweep, had it been asked to delete, deleted nothing: for the sake of a row that nobody can tell the entry
    /// of, because the table is not that of the bucket, or because nobody knows what time it is.
    pub fn is_refused(&self) -> bool {
        self.unidentified > 0 || self.unrelated || self.untimely.is_some()
    }
}

/// A row of ours that does not decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Illegible {
    /// Its partition key. Holds a raw cache key where the layout of the table says so: for whoever mends it, not for a log.
    pub pk: String,
    /// What is wrong with it. Shows nothing of what is in it.
    pub why: String,
    /// Whether it can be told which entry it is of, whose objects then stay.
    pub identified: bool,
}

/// An object that was not deleted, or could not be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The object.
    pub name: ObjectName,
    /// What the service said.
    pub why: String,
}

/// Why a sweep ended before its end. What was deleted before stays deleted, and a new sweep goes on from there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SweepError {
    /// The table or the bucket could not be read, also not by several attempts.
    #[error("{operation} of `{resource}` failed: {why}")]
    Call {
        /// The call, which is also the name of the right it needs.
        operation: &'static str,
        /// Table or bucket.
        resource: String,
        /// What the service said.
        why: String,
    },
}

impl Aws {
    /// Finds the objects under a prefix that no entry of the table needs, and deletes them if the options say so.
    ///
    /// `here` is the clock of this machine, asked once, and held against that of S3. `progress` is called after every page and every deletion. Dropping the future ends the
    /// sweep between two calls; a deletion that is under way may still be applied.
    ///
    /// Throttling and errors that pass are waited out for half a minute per call. A deletion that fails all the same is
    /// counted, and the others go on. Holds some 100 bytes per entry in memory.
    ///
    /// # Errors
    /// [`SweepError`] where table or bucket cannot be read.
    pub async fn sweep(
        &self,
        options: &SweepOptions,
        here: impl Fn() -> Timestamp + Send,
        progress: impl FnMut(&Progress) + Send,
    ) -> Result<Swept, SweepError> {
        let (now, untimely) =
            clock::now(self, here).await.map_err(|why| failed("HeadBucket", &self.settings.bucket, why))?;
        let swept = Swept { untimely, ..Swept::default() };
        let mut sweep = Sweep { aws: self, options, now, progress, swept };
        let protected = sweep.read_entries().await?;
        // Before the first orphan is met: none of another table may be deleted.
        sweep.swept.unrelated = !options.force && !sweep.is_of_this_bucket(&protected).await?;
        sweep.go_through_objects(&protected).await?;
        sweep.swept.unrelated &= sweep.swept.total.orphans > 0;
        Ok(sweep.swept)
    }
}

/// A sweep under way.
struct Sweep<'a, P> {
    aws: &'a Aws,
    options: &'a SweepOptions,
    now: Timestamp,
    progress: P,
    swept: Swept,
}

impl<P: FnMut(&Progress) + Send> Sweep<'_, P> {
    async fn read_entries(&mut self) -> Result<Protected, SweepError> {
        let table = &self.aws.table;
        let mut protected = Protected::new(&table.layout, self.now, self.options.keep);
        let mut start = None;
        loop {
            let page = Patience::OF_A_SWEEP
                .repeat(|| {
                    table
                        .client
                        .scan()
                        .table_name(&table.name)
                        // An eventual read may lack the lease or the commit that needs an object.
                        .consistent_read(true)
                        .projection_expression("#pk, #sk, #record, #version, #s3_key, #generated_at")
                        .expression_attribute_names("#pk", PK)
                        .expression_attribute_names("#sk", SK)
                        .expression_attribute_names("#record", RECORD)
                        .expression_attribute_names("#version", VERSION)
                        .expression_attribute_names("#s3_key", S3_KEY)
                        .expression_attribute_names("#generated_at", GENERATED_AT)
                        .set_exclusive_start_key(start.clone())
                        .set_return_consumed_capacity(table.capacity())
                        .send()
                })
                .await
                .map_err(|cause| failed("Scan", &table.name, cause))?;
            for row in page.items() {
                protected.add(row);
            }
            self.swept.total.entries = protected.entries;
            (self.progress)(&self.swept.total);
            start = page.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
        self.swept.illegible = protected.illegible;
        self.swept.unidentified = protected.unidentified;
        self.swept.illegible_rows = std::mem::take(&mut protected.illegible_rows);
        Ok(protected)
    }

    async fn is_of_this_bucket(&self, protected: &Protected) -> Result<bool, SweepError> {
        let objects = self.aws.stores().objects;
        for name in &protected.samples {
            match objects.info(name).await {
                Ok(Some(_)) => return Ok(true),
                Ok(None) => {}
                Err(error) => {
                    return Err(failed("HeadObject", &self.aws.settings.bucket, error));
                }
            }
        }
        Ok(false)
    }

    async fn go_through_objects(&mut self, protected: &Protected) -> Result<(), SweepError> {
        let AwsSettings { bucket, .. } = &*self.aws.settings;
        let prefix = self.options.prefix.as_str();
        let directory = (!prefix.is_empty()).then(|| format!("{prefix}/"));
        let is_deleting = self.options.delete && !self.swept.is_refused();
        let (mut token, mut orphans) = (None, Vec::new());
        loop {
            let page = Patience::OF_A_SWEEP
                .repeat(|| {
                    self.aws
                        .s3
                        .list_objects_v2()
                        .bucket(bucket)
                        .set_prefix(directory.clone())
                        // As they are, some names may be no XML.
                        .encoding_type(EncodingType::Url)
                        .set_continuation_token(token.clone())
                        .send()
                })
                .await
                .map_err(|cause| failed("ListObjectsV2", bucket, cause))?;
            let old = page.contents().iter().filter_map(|object| self.look_at(object, protected)).collect();
            orphans.append(&mut self.orphans_of(old, protected).await);
            token = page.next_continuation_token;
            let is_last = token.is_none();
            if !is_deleting {
                orphans.clear();
            }
            (self.progress)(&self.swept.total);
            while orphans.len() >= DELETE_AT_ONCE || (is_last && !orphans.is_empty()) {
                let rest = orphans.split_off(orphans.len().min(DELETE_AT_ONCE));
                self.delete(&std::mem::replace(&mut orphans, rest)).await;
                (self.progress)(&self.swept.total);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// An object that may be an orphan, by what the listing says.
    fn look_at(&mut self, object: &Object, protected: &Protected) -> Option<Listed> {
        let Self { options: SweepOptions { prefix, keep, .. }, now, swept, .. } = self;
        swept.total.objects += 1;
        let is_named = |name: &ObjectName| NamedObject::of(name).is_some_and(|named| named.is_under(prefix));
        let name = object.key().and_then(name_of);
        let Some(name) = name.filter(|name| prefix.is_of(name) || is_named(name)) else {
            swept.foreign += 1;
            return None;
        };
        let changed_at = object.last_modified().and_then(|at| at.to_millis().ok());
        let changed_at = changed_at.and_then(|millis| u64::try_from(millis).ok()).map(Timestamp::from_millis);
        let is_old = changed_at.is_some_and(|at| keep.is_over(at.plus(LAST_MODIFIED_PRECISION), *now));
        if !is_old || protected.names(&name) {
            return None;
        }
        let size_bytes = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        Some(Listed { name, size_bytes })
    }

    /// The names of those that are orphans.
    async fn orphans_of(&mut self, old: Vec<Listed>, protected: &Protected) -> Vec<ObjectName> {
        let aws = self.aws;
        let mut told = stream::iter(old)
            .map(|listed| async move {
                let told = match Written::by_name(&listed.name) {
                    Some(written) => Told::Written(written),
                    None => written_on(aws, &listed.name).await,
                };
                (listed, told)
            })
            .buffered(HEADS_AT_ONCE);
        let mut orphans = Vec::new();
        while let Some((listed, told)) = told.next().await {
            match told {
                Told::Written(written) => orphans.extend(self.judge(listed, written, protected)),
                Told::Gone => {}
                Told::Nothing => self.swept.undecided += 1,
                Told::Failed(cause) => {
                    self.swept.undecided += 1;
                    self.name_failures([failure(&listed.name, &format!("HeadObject: {cause}"))]);
                }
            }
        }
        orphans
    }

    /// The name of an object that is an orphan.
    fn judge(
        &mut self,
        Listed { name, size_bytes }: Listed,
        written: Written,
        protected: &Protected,
    ) -> Option<ObjectName> {
        let Self { options: SweepOptions { keep, .. }, now, swept, .. } = self;
        match orphan::judge(&name, written, *now, *keep, |digest| protected.claims_of(digest)) {
            Ok(Verdict::Kept) => None,
            Err(protected::Undecided) => {
                swept.undecided += 1;
                None
            }
            Ok(Verdict::Orphan) => {
                swept.total.orphans += 1;
                swept.total.orphan_bytes += size_bytes;
                if swept.orphans.len() < MAX_NAMED {
                    swept.orphans.push(name.clone());
                }
                Some(name)
            }
        }
    }

    /// Deletes up to [`DELETE_AT_ONCE`]. May be repeated whatever became of it: nothing comes back under these names.
    async fn delete(&mut self, names: &[ObjectName]) {
        let mut left = vec![names];
        while let Some(some) = left.pop() {
            if self.delete_some(some).await {
                continue;
            }
            match some {
                [name] => self.delete_alone(name).await,
                _ => left.extend(<[_; 2]>::from(some.split_at(some.len() / 2))),
            }
        }
    }

    /// `false` where nothing was done, and the request may have been refused for the sake of one name.
    async fn delete_some(&mut self, names: &[ObjectName]) -> bool {
        let mut batch = Delete::builder().quiet(true);
        for name in names {
            let object = ObjectIdentifier::builder().key(name.as_str()).build();
            batch = batch.objects(object.expect("an object with a key"));
        }
        let batch = batch.build().expect("a batch with objects");
        let answer = Patience::OF_A_SWEEP
            .repeat(|| {
                self.aws.s3.delete_objects().bucket(&self.aws.settings.bucket).delete(batch.clone()).send()
            })
            .await;
        let (failed, failures): (usize, Vec<Failure>) = match &answer {
            Err(cause) if cause.may_be_for_one_key() => return false,
            Err(cause) => (names.len(), names.iter().map(|name| failure(name, &cause.to_string())).collect()),
            // Answered as a success, whatever became of the keys.
            Ok(answer) => {
                let errors = answer.errors().iter().filter(|error| error.code() != Some("NoSuchKey"));
                let named = errors.clone().filter_map(|error| {
                    let name = names.iter().find(|name| Some(name.as_str()) == error.key())?;
                    Some(failure(name, error.code().unwrap_or("an error without a code")))
                });
                (errors.count().min(names.len()), named.collect())
            }
        };
        self.count(names.len(), failed, failures);
        true
    }

    /// Its name is no part of a document, and may be one that none can have.
    async fn delete_alone(&mut self, name: &ObjectName) {
        let answer = Patience::OF_A_SWEEP
            .repeat(|| {
                self.aws.s3.delete_object().bucket(&self.aws.settings.bucket).key(name.as_str()).send()
            })
            .await;
        let failures: Vec<Failure> =
            answer.err().iter().map(|cause| failure(name, &cause.to_string())).collect();
        self.count(1, failures.len(), failures);
    }

    fn count(&mut self, asked: usize, failed: usize, failures: Vec<Failure>) {
        self.swept.failed += failed as u64;
        self.swept.total.deleted += (asked - failed) as u64;
        self.name_failures(failures);
    }

    fn name_failures(&mut self, failures: impl IntoIterator<Item = Failure>) {
        let room = MAX_NAMED - self.swept.failures.len();
        self.swept.failures.extend(failures.into_iter().take(room));
    }
}

/// The name that a listing has, encoded as forms are; `None` for what is none.
fn name_of(key: &str) -> Option<ObjectName> {
    let key = key.replace('+', " ");
    ObjectName::parse_stored(&percent_decode_str(&key).decode_utf8().ok()?).ok()
}

/// An object that is old enough.
struct Listed {
    name: ObjectName,
    size_bytes: u64,
}

/// What is known of the lease that an object was written under.
enum Told {
    Written(Written),
    /// It says nothing that can be read.
    Nothing,
    /// It is not there any more.
    Gone,
    Failed(Cause),
}

/// What is written on an object of its lease.
async fn written_on(aws: &Aws, name: &ObjectName) -> Told {
    let head = Patience::OF_A_SWEEP
        .repeat(|| aws.s3.head_object().bucket(&aws.settings.bucket).key(name.as_str()).send())
        .await;
    let head = match head {
        Ok(head) => head,
        Err(Cause::Service { status: 404, .. }) => return Told::Gone,
        Err(cause) => return Told::Failed(cause),
    };
    let origin = head.metadata().and_then(|metadata| Origin::parse(metadata.get(ORIGIN_ATTRIBUTE)?));
    origin.as_ref().map_or(Told::Nothing, |origin| Told::Written(Written::from(origin)))
}

fn failure(name: &ObjectName, why: &str) -> Failure {
    Failure { name: name.clone(), why: why.into() }
}

fn failed(operation: &'static str, resource: &str, why: impl ToString) -> SweepError {
    SweepError::Call { operation, resource: resource.into(), why: why.to_string() }
}
