//! The ports of the coordinator on DynamoDB and S3.
//!
//! [`Aws::connect`] makes a handle of [`AwsSettings`]; [`Aws::stores`] gives the ports, [`Aws::check`] says what is wrong
//! with table, bucket and rights, [`Aws::init`] creates what is missing, and [`Aws::sweep`] deletes objects that no entry needs.
//!
//! Every call of a port is one request, and one attempt. Whether a failed write can have had its effect is judged in one
//! place and told in the port's error; whoever repeats a call knows the deadline and the budget, which this crate does not.
//!
//! # The table
//!
//! One table, key `pk` and `sk` (strings), time to live on `ttl`. An existing FaceTheory table, kept through TableTheory,
//! serves as it is.
//!
//! | `pk` | `sk` | attributes |
//! |---|---|---|
//! | `TENANT#<tenant>#CACHE#<digest>` | `META` | `s3_key` `generated_at` `revalidate_seconds` `etag` `ttl` `v` `r` |
//! | `LEASEHOLD#LOG` | `HEAD` | `seq` `last_event` `keep_until` |
//! | `LEASEHOLD#LOG` | `EVENT#<20 digits>` | `r` `ttl` |
//!
//! Both partition keys can be configured: see [`PkTemplate`] and [`Layout`]. The digest is SHA-256, in hex, over tenant,
//! deployment and key, framed so that no two identities share one.
//!
//! **Entries.** `v` is the version (16 bytes), `r` the record. The others are TableTheory's, for its readers: the object of
//! the page, when it was generated (epoch seconds), for how long it is fresh (ten years where only an invalidation ends
//! it), its entity tag. They are absent where there is no page, or its object is gone. A record of five tags takes less than a
//! kilobyte, so that a swap costs one write unit and a read one read unit.
//!
//! **Rows of others.** A `META` row that TableTheory wrote, or changed after us, is understood as a page: of the
//! generation and time in `generated_at`, of unknown digest and length. What its response was is told by its object. It has
//! no version of ours, so one is made from its attributes; a swap from it reads the row first, and is conditional on these
//! attributes being as they were read. A row is taken for a page only where its partition key says which entry it is of: a
//! row of another system holds no identity, and could be another tenant's.
//!
//! A row with a record of ours is TableTheory's where its attributes are not those of the record's page: another object,
//! time, `revalidate_seconds` or `etag`. What is left out of an object's name in `s3_key` does not count: coordinators that
//! were told different prefixes read each other's rows.
//!
//! A change that TableTheory makes to a row of ours, without replacing it, between a read and a swap from the version that
//! was read, is lost: `v` is as it was. FaceTheory only ever replaces rows.
//!
//! **The log.** `seq` and `last_event` are the head. `keep_until` is the latest `ttl` of all events, which the next event's
//! is never before: so an event is never deleted before an older one that is still to be kept.
//!
//! **Time to live** is housekeeping: what has expired is returned as long as it is there.
//!
//! # The bucket
//!
//! An object has the name that the engine gives it, its SHA-256 as the service's own checksum, its content type, and its
//! attributes as `x-amz-meta-`. The service verifies the checksum when it is put, and this crate when it is read.

mod check;
mod connect;
mod entries;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod init;
mod item;
mod key;
mod log;
mod objects;
mod patience;
mod row;
mod settings;
mod sweep;
mod table;
#[cfg(feature = "testing")]
pub mod testing;

pub use check::{Problem, Report, Service, Warning};
pub use connect::Aws;
pub use init::{Done, InitError};
pub use key::{InvalidTemplate, MAX_PK_BYTES, PkTemplate};
pub use settings::{AwsSettings, Layout, Timeouts};
pub use sweep::{Failure, Illegible, MAX_NAMED, Progress, SweepError, SweepOptions, Swept, Untimely};
