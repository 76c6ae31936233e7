//! The doubles on loopback: the SDK with an HTTP client of its own, as in a coordinator's process.

use async_trait::async_trait;
use leasehold_aws::{
    Aws, AwsSettings, Timeouts,
    testing::{Doubles, Fault, Listening, Rule},
};
use leasehold_core::{identity::Seq, time::Timestamp};
use leasehold_store::{
    conformance::{self, Fixture, samples::event},
    port::Stores,
};
use std::time::Duration;

/// Real time passes on a socket: a machine that is busy with something else is not what is looked for here.
fn patient() -> AwsSettings {
    let minute = Duration::from_secs(60);
    AwsSettings {
        timeouts: Timeouts { connect: minute, table: minute, objects: minute },
        ..Doubles::settings()
    }
}

/// Every handle has connections of its own.
struct SocketFixture {
    doubles: Doubles,
    listening: Listening,
}

impl SocketFixture {
    async fn new() -> Self {
        let doubles = Doubles::new();
        doubles.ready().await;
        let listening = doubles.listen().await;
        Self { doubles, listening }
    }

    fn connect(&self) -> Aws {
        self.listening.connect(patient())
    }
}

#[async_trait]
impl Fixture for SocketFixture {
    async fn open(&self) -> Stores {
        self.connect().stores()
    }

    async fn restart(&self) -> Stores {
        self.open().await
    }

    async fn crash(&self) -> Stores {
        self.open().await
    }

    async fn forget(&self, now: Timestamp) {
        self.doubles.dynamodb.expire(now);
    }
}

/// What the wire could spoil: refusals that carry an item, races, answers of several megabytes, any byte, and requests whose
/// caller is gone. The rest of the suite asks the same servers without a socket.
macro_rules! clauses {
    ($($module:ident::$clause:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $clause() {
            conformance::$module::$clause(&SocketFixture::new().await).await;
        })*
    };
}

clauses! {
    entries::a_swap_from_another_version_is_refused_by_the_record
    entries::every_field_of_a_record_is_returned_as_it_was_put
    entries::of_many_swaps_from_one_version_exactly_one_is_applied
    entries::a_dropped_swap_is_applied_whole_or_not_at_all
    log::of_many_appends_to_one_position_exactly_one_is_applied
    log::several_megabytes_of_events_are_returned_completely
    objects::bodies_of_any_size_and_content_are_returned_as_they_were_put
    objects::of_many_puts_to_one_name_exactly_one_creates_it
    objects::info_tells_size_and_digest
    objects::any_number_of_objects_is_deleted_at_once
}

#[tokio::test]
async fn a_fault_on_one_network_is_none_on_another_and_breaks_or_answers_as_in_the_process() {
    let fixture = SocketFixture::new().await;
    let cut_off = fixture.doubles.beside();
    let listening = cut_off.listen().await;
    let (near, far) = (fixture.connect().stores().log, listening.connect(patient()).stores().log);
    for fault in [Fault::Refuse, Fault::Throttle, Fault::FailAfter, Fault::DropAnswer, Fault::Garble] {
        cut_off.faults.add(Rule::on("GetItem", fault.clone()));
        assert!(far.head().await.is_err(), "{fault:?}");
        assert!(near.head().await.is_ok(), "{fault:?}");
        cut_off.faults.clear();
        assert!(far.head().await.is_ok(), "{fault:?}");
    }
    assert_eq!(cut_off.counters.of("GetItem"), 10);
    assert_eq!(fixture.doubles.counters.of("GetItem"), 5);
}

#[tokio::test]
async fn dropped_sockets_take_their_connections_with_them_and_leave_the_data() {
    let SocketFixture { doubles, listening } = SocketFixture::new().await;
    let first = listening.connect(patient()).stores().log;
    first.append(Seq::START, &event(1, 1)).await.unwrap();
    drop(listening);
    assert!(first.head().await.is_err());
    let listening = doubles.listen().await;
    let second = listening.connect(patient()).stores().log;
    assert_eq!(second.head().await.unwrap().seq, Seq(1));
}
