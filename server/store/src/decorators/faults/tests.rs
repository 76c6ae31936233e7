use super::*;
use crate::conformance::{
    Decorated, EmbeddedFixture, Fixture,
    samples::{LATER, body, digest, entry, event, id, object_meta, object_name},
};
use leasehold_core::identity::Version;
use tempfile::{TempDir, tempdir};

mod conformance {
    use super::*;

    mod with_an_empty_script {
        use super::*;
        crate::conformance_suite!(Decorated::new(EmbeddedFixture::new(tempdir().unwrap()), |stores| {
            Faults::new().wrap(stores)
        }));
    }

    /// Faults that a caller cannot tell from a slow store.
    mod with_an_open_gate_before_every_call {
        use super::*;
        crate::conformance_suite!(Decorated::new(EmbeddedFixture::new(tempdir().unwrap()), |stores| {
            let (faults, gate) = (Faults::new(), Gate::new());
            gate.open();
            faults.add(Rule::on_any(Fault::Hold(gate)));
            faults.wrap(stores)
        }));
    }
}

struct Scripted {
    faults: Faults,
    stores: Stores,
    /// The store without faults.
    plain: Stores,
    _fixture: EmbeddedFixture<TempDir>,
}

async fn scripted() -> Scripted {
    let fixture = EmbeddedFixture::new(tempdir().unwrap());
    let plain = fixture.open().await;
    let faults = Faults::new();
    Scripted { stores: faults.wrap(plain.clone()), faults, plain, _fixture: fixture }
}

async fn create(stores: &Stores, key: &str) -> Result<Swap, WriteError> {
    stores.entries.swap(&id(key), Expected::Absent, &entry(1, 1), LATER).await
}

async fn is_there(stores: &Stores, key: &str) -> bool {
    stores.entries.read(&id(key)).await.unwrap().is_some()
}

#[tokio::test]
async fn a_refused_write_has_no_effect_and_says_so() {
    let Scripted { faults, stores, plain, .. } = scripted().await;
    faults.add(Rule::on(Operation::Swap, Fault::Refuse));
    assert!(matches!(create(&stores, "a").await, Err(WriteError::NotApplied(_))));
    assert!(!is_there(&plain, "a").await);
}

#[tokio::test]
async fn a_write_that_times_out_is_of_unknown_outcome_whether_it_was_applied_or_not() {
    let Scripted { faults, stores, plain, .. } = scripted().await;
    for (fault, applied) in [(Fault::TimeOutBefore, false), (Fault::TimeOutAfter, true)] {
        let key = format!("applied {applied}");
        faults.add(Rule::on(Operation::Swap, fault).nth(1));
        assert!(matches!(create(&stores, &key).await, Err(WriteError::Unknown(_))));
        assert_eq!(is_there(&plain, &key).await, applied);
    }
}

#[tokio::test]
async fn a_write_can_be_applied_after_its_caller_was_told_that_nobody_knows() {
    let Scripted { faults, stores, plain, .. } = scripted().await;
    let gate = Gate::new();
    faults.add(Rule::on(Operation::Swap, Fault::ApplyLater(gate.clone())).nth(1));
    assert!(matches!(create(&stores, "a").await, Err(WriteError::Unknown(_))));
    gate.arrived(1).await;
    assert!(!is_there(&plain, "a").await);
    gate.release(1);
    gate.applied(1).await;
    assert!(is_there(&plain, "a").await);
}

#[tokio::test]
async fn every_operation_fails_in_the_way_of_its_kind() {
    let Scripted { faults, stores, plain, .. } = scripted().await;
    let name = object_name(1);
    let read = |fault: &Fault| match fault {
        Fault::Corrupt => "corrupt",
        _ => "unavailable",
    };
    let write = |fault: &Fault| match fault {
        Fault::Corrupt => "corrupt",
        Fault::Refuse => "not applied",
        _ => "unknown",
    };
    for fault in [Fault::Refuse, Fault::TimeOutBefore, Fault::Corrupt] {
        faults.add(Rule::on_any(fault.clone()));
        let (body, meta) = (body(1, 10), object_meta());
        assert_eq!(read_outcome(stores.entries.read(&id("a")).await), read(&fault));
        assert_eq!(write_outcome(create(&stores, "a").await), write(&fault));
        assert_eq!(read_outcome(stores.log.head().await), read(&fault));
        assert_eq!(read_outcome(stores.log.events(Seq::START, 1).await), read(&fault));
        assert_eq!(write_outcome(stores.log.append(Seq::START, &event(1, 1)).await), write(&fault));
        let digest = digest(&body);
        assert_eq!(write_outcome(stores.objects.put(&name, body, digest, &meta).await), write(&fault));
        assert_eq!(read_outcome(stores.objects.get(&name).await), read(&fault));
        assert_eq!(read_outcome(stores.objects.info(&name).await), read(&fault));
        assert_eq!(write_outcome(stores.objects.delete(std::slice::from_ref(&name)).await), write(&fault));
        assert_eq!(read_outcome(stores.objects.url(&name, Duration::ZERO).await), read(&fault));
        faults.clear();
    }
    assert!(!is_there(&plain, "a").await);
    assert_eq!(plain.log.head().await.unwrap(), Head::EMPTY);
    assert!(plain.objects.info(&name).await.unwrap().is_none());
}

fn read_outcome<T>(outcome: Result<T, ReadError>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(ReadError::Unavailable(_)) => "unavailable",
        Err(ReadError::Corrupt(_)) => "corrupt",
    }
}

fn write_outcome<T>(outcome: Result<T, WriteError>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(WriteError::NotApplied(_)) => "not applied",
        Err(WriteError::Unknown(_)) => "unknown",
        Err(WriteError::Corrupt(_)) => "corrupt",
        Err(WriteError::TooLarge(_)) => "too large",
    }
}

#[tokio::test]
async fn rules_match_by_kind_and_by_number() {
    let Scripted { faults, stores, .. } = scripted().await;
    faults.add(Rule::on(Operation::HeadRead, Fault::Refuse).after(1).times(2));
    faults.add(Rule::on(Operation::HeadRead, Fault::Corrupt).nth(2));
    let mut outcomes = Vec::new();
    for _ in 0..6 {
        outcomes.push(read_outcome(stores.log.head().await));
        assert!(stores.log.events(Seq::START, 1).await.is_ok(), "another kind");
    }
    // The first call counts for both rules, the next two are decided by the first rule and not counted by the second.
    assert_eq!(outcomes, ["ok", "unavailable", "unavailable", "corrupt", "ok", "ok"]);
}

#[tokio::test]
async fn a_held_write_has_not_reached_the_store_until_it_is_released() {
    let Scripted { faults, stores, plain, .. } = scripted().await;
    let gate = faults.hold(Operation::Swap);
    let held = |key: &'static str| {
        let stores = stores.clone();
        tokio::spawn(async move { create(&stores, key).await })
    };
    let first = held("a");
    gate.arrived(1).await;
    let second = held("b");
    gate.arrived(2).await;
    assert!(!is_there(&plain, "a").await && !is_there(&plain, "b").await);
    gate.release(1);
    assert_eq!(first.await.unwrap().unwrap(), Swap::Applied);
    assert!(is_there(&plain, "a").await && !is_there(&plain, "b").await, "released in the order of arrival");
    gate.open();
    assert_eq!(second.await.unwrap().unwrap(), Swap::Applied);
    assert_eq!(create(&stores, "c").await.unwrap(), Swap::Applied, "an open gate holds nobody");
}

#[tokio::test]
async fn a_held_answer_is_of_the_time_before_it_was_held() {
    let Scripted { faults, stores, plain, .. } = scripted().await;
    create(&plain, "a").await.unwrap();
    let gate = Gate::new();
    faults.add(Rule::on(Operation::EntryRead, Fault::HoldAnswer(gate.clone())));
    let read = tokio::spawn(async move { stores.entries.read(&id("a")).await });
    gate.arrived(1).await;
    let newer = plain.entries.swap(&id("a"), Expected::Version(Version(1)), &entry(2, 2), LATER).await;
    assert_eq!(newer.unwrap(), Swap::Applied);
    gate.open();
    assert_eq!(read.await.unwrap().unwrap(), Some(entry(1, 1)));
}

#[tokio::test]
async fn a_caller_that_goes_away_while_held_leaves_its_turn_to_the_next() {
    let Scripted { faults, stores, plain, .. } = scripted().await;
    let gate = faults.hold(Operation::Swap);
    let gone = tokio::spawn({
        let stores = stores.clone();
        async move { create(&stores, "a").await }
    });
    gate.arrived(1).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    gate.release(1);
    assert_eq!(create(&stores, "b").await.unwrap(), Swap::Applied);
    assert!(!is_there(&plain, "a").await);
}

#[tokio::test]
async fn delays_are_on_tokios_clock() {
    let Scripted { faults, stores, .. } = scripted().await;
    faults.add(Rule::on(Operation::HeadRead, Fault::Delay(Duration::from_secs(3600))));
    tokio::time::pause();
    // An hour, were it on another clock.
    assert_eq!(stores.log.head().await.unwrap(), Head::EMPTY);
}
