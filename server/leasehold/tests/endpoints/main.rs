//! A coordinator, and what an operator does, on a DynamoDB and an S3 that are reached over a network: emulators, other servers,
//! AWS itself. Run by `tests/aws/run`, as the suite of the ports is, which is beside the adapters.

#![allow(missing_docs, reason = "tests are named by what they show")]

use leasehold_aws::{Progress, Report, SweepOptions, Swept, testing::endpoints::EndpointFixture};
use leasehold_core::{object::ObjectPrefix, orphan::Keep};
use leasehold_service::time::{Clock as _, SystemClock};
use std::time::Duration;

/// For one kind of server: the wire's part of the conformance suite, and the tools.
macro_rules! suite {
    ($(#[$about:meta])* $server:ident) => {
        $(#[$about])*
        mod $server {
            use super::*;

            mod wire {
                use super::*;
                leasehold_service::wire_conformance_suite!(EndpointFixture::for_an_engine().await);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn the_preflight_finds_nothing_wrong_and_leaves_nothing() {
                finds_nothing_wrong_and_leaves_nothing().await;
            }
        }
    };
}

suite! {
    /// AWS, and whatever is like it in everything.
    aws
}
suite! {
    /// moto, for the table and the bucket.
    moto
}
suite! {
    /// versitygw over a directory, for the bucket; the table is moto's.
    versitygw
}

/// The sweep finds neither what the preflight asked for, nor that the clocks are apart.
async fn finds_nothing_wrong_and_leaves_nothing() {
    let fixture = EndpointFixture::for_an_engine().await;
    let (aws, prefix) = (fixture.connect().await, ObjectPrefix::default());
    assert_eq!(aws.check(&prefix).await, Report::default());
    let keep = Keep { max_hold: Duration::from_secs(60), grace: Duration::from_secs(60) };
    let options = SweepOptions { prefix, keep, delete: false, force: true };
    let clock = SystemClock::start();
    let swept = aws.sweep(&options, || clock.now().wall, |_: &Progress| {}).await.expect("a sweep");
    assert_eq!(swept, Swept::default());
}
