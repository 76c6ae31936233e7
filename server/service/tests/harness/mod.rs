//! Coordinators over one embedded store, each behind a socket of its own, and how a worker speaks to them.

mod clock;
mod requests;
mod server;
mod views;

pub(crate) use clock::TestClock;
pub(crate) use requests::*;
pub(crate) use server::{Coordinator, World};
pub(crate) use views::*;

pub(crate) use leasehold_proto::v1;
pub(crate) use leasehold_store::decorators::{
    Operation,
    counting::Counts,
    faults::{Fault, Gate, Rule},
};
pub(crate) use std::time::Duration;
pub(crate) use tonic::{Code, Request, Status};

/// So long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for an event that must come.
pub(crate) async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.expect("what was waited for did not come")
}

/// What a call with a deadline is answered. It is made again where the transport was first to say that the deadline has passed, as
/// it may be on a busy machine.
pub(crate) async fn answered_within<T: Clone, A>(
    timeout: Duration,
    message: T,
    call: impl AsyncFn(Request<T>) -> Result<A, Status>,
) -> Result<A, Status> {
    soon(async {
        loop {
            let mut request = Request::new(message.clone());
            request.set_timeout(timeout);
            match call(request).await {
                Err(status) if is_of_the_transport(&status) => {}
                answer => return answer,
            }
        }
    })
    .await
}

/// Whether it says that a call's deadline has passed, and it was not the coordinator who said so.
pub(crate) fn is_of_the_transport(status: &Status) -> bool {
    (status.code(), status.message()) == (Code::Cancelled, "Timeout expired")
}

/// Asks again and again until the answer is yes.
pub(crate) async fn until(mut condition: impl AsyncFnMut() -> bool) {
    soon(async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// On the wire.
pub(crate) fn wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).expect("seconds"),
        nanos: i32::try_from(duration.subsec_nanos()).expect("nanoseconds"),
    }
}

/// Off the wire.
pub(crate) fn unwire(duration: Option<prost_types::Duration>) -> Option<Duration> {
    let prost_types::Duration { seconds, nanos } = duration?;
    Some(Duration::new(u64::try_from(seconds).expect("seconds"), u32::try_from(nanos).expect("nanoseconds")))
}
