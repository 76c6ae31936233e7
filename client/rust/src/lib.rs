//! The Rust client of Leasehold, the coordinator of incremental static regeneration.
//!
//! Most workers want the [`runtime`]: it serves pages and data, and does all of the following by itself. A render worker's round,
//! by hand:
//!
//! ```no_run
//! # async fn round() -> Result<(), leasehold_client::Error> {
//! use leasehold_client::{Acquire, AcquireOptions, Coordinator, EntryRef, Lookup, LookupOptions, NewPage};
//! use std::time::Duration;
//!
//! let coordinator = Coordinator::new("http://127.0.0.1:7420")?;
//! let entry = EntryRef::key("acme::/about?").tenant("acme").path("/about");
//! if let Lookup::Fresh(fresh) = coordinator.lookup(&entry, &LookupOptions::with_body()).await?.outcome {
//!     println!("serve generation {}", fresh.page.generation);
//!     return Ok(());
//! }
//! let options = AcquireOptions { wait: Duration::from_secs(30), ..Default::default() };
//! if let Acquire::Granted(lease) = coordinator.acquire(&entry, &options).await? {
//!     let html = lease.renew_while(None, async { "<h1>About</h1>" }).await;
//!     println!("{:?}", lease.commit(&NewPage::new(html)).await?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What holds for every call:
//!
//! - It retries by itself, with one request id, and so has one effect. What it answers is true, also where the outcome of
//!   an earlier attempt was unknown.
//! - It ends within the overall timeout, and its waiting time where it has one, whatever the network does.
//! - An [`Error`] says whether the call may have been applied. *Unknown* is not *failed*.
//! - A connection that broke, or on which nothing is heard, is replaced: also the one that a frozen process wakes up with.
//! - Leases' tokens, sidecars' tokens and presigned URLs do not show in `Debug` or `Display`.

mod acquire;
mod builder;
mod call;
mod clock;
mod commit;
mod coordinator;
mod entry;
mod error;
mod id;
mod invalidation;
mod lease;
mod link;
mod lookup;
mod lookup_stream;
mod page;
mod retry;
pub mod runtime;
mod security;
mod serve;
mod slots;
mod state;
mod watch;
mod wire;

pub use acquire::{Acquire, AcquireOptions, BackingOff, Held};
pub use builder::{Builder, DEFAULT_ENDPOINT, DEFAULT_PORT};
pub use commit::{BodyKind, Commit, NewBody, NewPage, StoredBody, Upload};
pub use coordinator::{Coordinator, Health};
pub use entry::{CookieVariance, EntryRef, PageRequest};
pub use error::{Error, FieldViolation, Reason, Refusal};
pub use id::{ConsistencyToken, RequestId, ResumeToken, SidecarToken};
pub use invalidation::{Depth, Scope, Target};
pub use lease::{Lease, Release, Renewal};
pub use leasehold_traces::Traces;
pub use lookup::{Consistency, Lookup, LookupOptions, LookupReply, MissingReason};
pub use page::{
    BodyDelivery, CurrentPage, FreshPage, Page, PageBody, PageMetadata, Regeneration, StalePage, StaleReason,
};
pub use retry::{RetryBudget, RetryPolicy};
pub use security::{Security, Token, TokenError};
pub use serve::{BodyStream, ServeOptions, ServedObject, ServedPage, ServedSidecar};
pub use state::{BackoffState, EntryState, InvalidationState, LeaseState};
pub use watch::{
    PageCommitted, PagesInvalidated, ResyncReason, Watch, WatchEvent, WatchFilter, WatchMessage,
};
