//! Named plays on the simulated stage: the failures that a coordinator of leases is built for, each by itself.

use leasehold_aws::testing::{Fault, Rule};
use leasehold_client::{
    Acquire, AcquireOptions, BodyKind, Commit, Consistency, Coordinator, Depth, EntryRef, Error, Lease,
    Lookup, LookupOptions, NewBody, NewPage, PageMetadata, Scope, ServeOptions, StaleReason, Upload,
};
use leasehold_core::time::Timestamp;
use leasehold_service::time::Clock as _;
use leasehold_sim::{
    machine::{Address, BEGIN, Context},
    parts::{
        client,
        coordinator::{DEFAULT_TTL, EXPIRY_TOLERANCE, FIRST_BACKOFF, LONGEST_BACKOFF, STALENESS_BOUND},
        services::{self, Kind, Trouble},
        sweeper,
    },
    stage::{Part, Stage},
    trace::Trace,
};
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::sleep;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

fn stage(clocks: &[i64]) -> Stage {
    let mut stage = Stage::new(7, clocks, &Trace::new(None).unwrap());
    // Until they have read the log, and listen.
    stage.pass(100);
    stage
}

fn entry() -> EntryRef {
    EntryRef::key("acme::/a?").tenant("acme").path("/a")
}

/// A page that is never fresh, so that whoever wants it next renders it again.
fn page(text: &str) -> NewPage {
    let metadata = PageMetadata { revalidate: Some(Duration::ZERO), ..PageMetadata::default() };
    NewPage::new(text.to_owned()).metadata(metadata)
}

fn waiting(wait: Duration) -> AcquireOptions {
    AcquireOptions { wait, ..AcquireOptions::default() }
}

async fn granted(coordinator: &Coordinator, wait: Duration) -> Lease {
    match coordinator.acquire(&entry(), &waiting(wait)).await.unwrap() {
        Acquire::Granted(lease) => lease,
        other => panic!("{other:?}"),
    }
}

async fn strict(coordinator: &Coordinator) -> Result<Lookup, Error> {
    let options = LookupOptions { consistency: Consistency::Strict, ..LookupOptions::default() };
    Ok(coordinator.lookup(&entry(), &options).await?.outcome)
}

fn generation(lookup: Lookup) -> u64 {
    lookup.into_page().expect("a page").page().generation
}

/// Asks one coordinator, once, in a machine of its own.
fn ask<T, F>(
    stage: &mut Stage,
    name: &str,
    at: Address,
    part: impl Fn(Coordinator) -> F + Send + 'static,
) -> Part<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    stage.play(name, move |context: Context| part(client::connect(&context, &[at], 0)))
}

/// A worker that is granted the lease as soon as can be, and commits a page that is never fresh so much later. The first
/// part ends with the grant.
fn worker(
    stage: &mut Stage,
    name: &'static str,
    at: Address,
    commits_after: Duration,
) -> (Part<u64>, Part<Commit>) {
    worker_of(stage, page(name), name, at, commits_after)
}

/// As [`worker`], of another page.
fn worker_of(
    stage: &mut Stage,
    page: NewPage,
    name: &str,
    at: Address,
    commits_after: Duration,
) -> (Part<u64>, Part<Commit>) {
    let (tell, told) = tokio::sync::watch::channel(None);
    let commit = ask(stage, name, at, move |coordinator| {
        let (tell, page) = (tell.clone(), page.clone());
        async move {
            // Makes the connection that the commit will take: calls that wait have others.
            let _first = strict(&coordinator).await;
            let lease = granted(&coordinator, ms(3_000)).await;
            tell.send_replace(Some(lease.generation()));
            sleep(commits_after).await;
            lease.commit(&page).await.unwrap()
        }
    });
    let grant = stage.play("listener", move |_| {
        let mut told = told.clone();
        async move { told.wait_for(Option::is_some).await.unwrap().unwrap() }
    });
    (grant, commit)
}

#[test]
fn holder_that_dies_after_the_grant_delays_the_next_by_its_lease_and_no_more() {
    let mut stage = stage(&[0, 0]);
    let [first, second] = stage.coordinators[..] else { unreachable!() };
    let (grant, commit) = worker(&mut stage, "dies", first, ms(60_000));
    stage.end_of(&grant, 1_000);
    stage.machines.kill(commit.machine, true);
    let (grant, commit) = worker(&mut stage, "comes after", second, ms(10));
    let (_, waited) = stage.end_of(&grant, 3_000);
    let lease = millis(DEFAULT_TTL + EXPIRY_TOLERANCE);
    assert!((lease - 100..lease + 200).contains(&waited), "{waited} ms");
    assert!(matches!(stage.end_of(&commit, 1_000).0, Commit::Committed { .. }));
}

#[test]
fn holder_that_slept_for_ten_leases_changes_nothing() {
    let mut stage = stage(&[0, 0]);
    let [first, second] = stage.coordinators[..] else { unreachable!() };
    let (grant, late) = worker(&mut stage, "sleeps", first, ms(20));
    let (older, _) = stage.end_of(&grant, 1_000);
    stage.machines.pause(late.machine, true);
    let (grant, commit) = worker(&mut stage, "comes after", second, ms(10));
    let (newer, _) = stage.end_of(&grant, 3_000);
    assert!(newer > older);
    assert!(matches!(stage.end_of(&commit, 1_000).0, Commit::Committed { .. }));
    stage.pass(10 * millis(DEFAULT_TTL));
    stage.machines.pause(late.machine, false);
    let (late, _) = stage.end_of(&late, 5_000);
    assert!(
        matches!(late, Commit::Superseded { current_generation } if current_generation == newer),
        "{late:?}"
    );
    for at in [first, second] {
        let look =
            ask(&mut stage, "reader", at, |coordinator| async move { strict(&coordinator).await.unwrap() });
        assert_eq!(generation(stage.end_of(&look, 1_000).0), newer);
    }
}

#[test]
fn of_two_that_slept_across_each_other_the_later_one_commits() {
    let mut stage = stage(&[0, 0]);
    let [first, second] = stage.coordinators[..] else { unreachable!() };
    let (grant, earlier) = worker(&mut stage, "the earlier", first, ms(20));
    stage.end_of(&grant, 1_000);
    stage.machines.pause(earlier.machine, true);
    let (grant, later) = worker(&mut stage, "the later", second, ms(20));
    let (newest, _) = stage.end_of(&grant, 3_000);
    stage.machines.pause(later.machine, true);
    stage.pass(100);
    stage.machines.pause(earlier.machine, false);
    let (fenced, _) = stage.end_of(&earlier, 5_000);
    assert!(
        matches!(fenced, Commit::Fenced { latest_generation } if latest_generation == newest),
        "{fenced:?}"
    );
    stage.pass(1_000);
    stage.machines.pause(later.machine, false);
    assert!(matches!(stage.end_of(&later, 5_000).0, Commit::Committed { .. }));
}

#[test]
fn commit_whose_reply_was_lost_is_superseded_by_its_successor_and_never_fenced() {
    let mut stage = stage(&[0, 0]);
    let [first, second] = stage.coordinators[..] else { unreachable!() };
    let (grant, lost) = worker(&mut stage, "unheard", first, ms(20));
    let (older, _) = stage.end_of(&grant, 1_000);
    // It is heard, and answered, but hears nothing.
    stage.machines.network.block(first, lost.machine, true);
    stage.pass(100);
    let (grant, commit) = worker(&mut stage, "comes after", second, ms(10));
    let (newer, _) = stage.end_of(&grant, 500);
    assert_eq!(newer, older + 1, "the first one was applied, and ended its lease");
    assert!(matches!(stage.end_of(&commit, 1_000).0, Commit::Committed { .. }));
    // Until it has given up that connection, and asks again.
    stage.pass(millis(client::ATTEMPT));
    assert!(!lost.is_over());
    // As long as a coordinator remembers nothing newer, it may say what was true when it was applied: committed.
    let look =
        ask(&mut stage, "reader", first, |coordinator| async move { strict(&coordinator).await.unwrap() });
    assert_eq!(generation(stage.end_of(&look, 1_000).0), newer);
    stage.machines.network.block(first, lost.machine, false);
    let (answer, _) = stage.end_of(&lost, 5_000);
    assert!(
        matches!(answer, Commit::Superseded { current_generation } if current_generation == newer),
        "{answer:?}"
    );
}

#[test]
fn commit_whose_outcome_the_store_kept_to_itself_is_answered_truthfully() {
    let mut stage = stage(&[0]);
    let first = stage.coordinators[0];
    let (grant, commit) = worker(&mut stage, "patient", first, ms(20));
    stage.end_of(&grant, 1_000);
    stage.services.seen_from(first).faults.add(Rule::on("PutItem", Fault::HangAfter).times(1));
    let (answer, took) = stage.end_of(&commit, 4_000);
    assert!(matches!(answer, Commit::Committed { .. }), "{answer:?}");
    assert!(took > 200, "{took} ms: the store did answer");
}

#[test]
fn thousand_waiters_of_a_coordinator_that_dies_are_served_by_another() {
    const MACHINES: usize = 20;
    const WAITERS_ON_EACH: u64 = 50;
    let mut stage = stage(&[0, 0]);
    let [first, second] = stage.coordinators[..] else { unreachable!() };
    let (tell, rendered) = tokio::sync::watch::channel(false);
    let commit = ask(&mut stage, "renders", second, move |coordinator| {
        let mut rendered = rendered.clone();
        async move {
            let lease = granted(&coordinator, Duration::ZERO).await;
            let rendering = async { drop(rendered.wait_for(|rendered| *rendered).await) };
            lease.renew_while(None, rendering).await;
            lease.commit(&NewPage::new("fresh until invalidated")).await.unwrap()
        }
    });
    stage.pass(100);
    let answered = Arc::new(AtomicUsize::new(0));
    let waiters: Vec<_> = (0..MACHINES)
        .map(|_| {
            let answered = answered.clone();
            stage.play("waiters", move |context| {
                let answered = answered.clone();
                let wait = move |number| {
                    let coordinator = client::connect(&context, &[first, second], number);
                    let answered = answered.clone();
                    async move {
                        let answer = coordinator.acquire(&entry(), &waiting(ms(4_500))).await.unwrap();
                        answered.fetch_add(1, Ordering::Relaxed);
                        answer
                    }
                };
                futures::future::join_all((0..WAITERS_ON_EACH).map(wait))
            })
        })
        .collect();
    // Those who ask the second one for a connection hear nothing, and turn to the first.
    for waiters in &waiters {
        stage.machines.network.block(waiters.machine, second, true);
    }
    stage.pass(2_000);
    assert_eq!(answered.load(Ordering::Relaxed), 0);
    stage.machines.kill(first, false);
    for waiters in &waiters {
        stage.machines.network.block(waiters.machine, second, false);
    }
    stage.pass(50);
    tell.send_replace(true);
    assert!(matches!(stage.end_of(&commit, 1_000).0, Commit::Committed { .. }));
    for waiters in &waiters {
        let (answers, _) = stage.end_of(waiters, 1_000);
        assert!(answers.iter().all(|answer| matches!(answer, Acquire::Ready(_))), "{answers:?}");
    }
}

#[test]
fn sweep_takes_what_was_left_behind_and_leaves_what_a_sleeping_holder_uploaded() {
    let mut stage = stage(&[0]);
    let only = stage.coordinators[0];
    // A page, by which the sweep sees that the table is that of the bucket.
    let other = ask(&mut stage, "another page", only, |coordinator| async move {
        let entry = EntryRef::key("acme::/b?").tenant("acme").path("/b");
        match coordinator.acquire(&entry, &AcquireOptions::default()).await.unwrap() {
            Acquire::Granted(lease) => lease.commit(&NewPage::new("current")).await.unwrap(),
            other => panic!("{other:?}"),
        }
    });
    stage.end_of(&other, 1_000);
    let left = ask(&mut stage, "leaves", only, |coordinator| async move {
        let lease = granted(&coordinator, Duration::ZERO).await;
        lease.upload(BodyKind::Html, None, "never committed".into()).await.unwrap();
    });
    stage.end_of(&left, 1_000);
    let (tell, told) = tokio::sync::watch::channel(false);
    let sleeper = ask(&mut stage, "sleeps", only, move |coordinator| {
        let tell = tell.clone();
        async move {
            let lease = granted(&coordinator, ms(3_000)).await;
            let html = "uploaded before it slept";
            let upload = lease.upload(BodyKind::Html, None, html.into()).await.unwrap();
            let Upload::Stored { body, .. } = upload else { panic!("{upload:?}") };
            tell.send_replace(true);
            sleep(ms(20)).await;
            lease.commit(&NewPage::new(NewBody::Stored(body))).await.unwrap()
        }
    });
    stage.until(3_000, |_| *told.borrow());
    stage.machines.pause(sleeper.machine, true);
    // What it was to delete itself, it forgets.
    stage.machines.kill(only, false);
    stage.machines.start(only);
    stage.pass(10_000);

    let right = Timestamp::from_millis(BEGIN + stage.machines.time.now());
    stage.services.doubles().s3.set_date(right);
    stage.services.doubles().dynamodb.allow_scan(1);
    let whereabouts = stage.whereabouts;
    let sweep = stage.play("operator", move |context| async move {
        let aws = services::connect(&context, whereabouts);
        aws.sweep(&sweeper::options(), || context.clock.now().wall, |_| {}).await.unwrap()
    });
    let (swept, _) = stage.end_of(&sweep, 5_000);
    assert!(!swept.is_refused(), "{swept:?}");
    assert_eq!((swept.total.objects, swept.total.deleted), (3, 1), "{swept:?}");

    stage.machines.pause(sleeper.machine, false);
    let (late, _) = stage.end_of(&sleeper, 5_000);
    assert!(matches!(late, Commit::Committed { .. }), "{late:?}");
    let look = ask(&mut stage, "reader", only, |coordinator| async move {
        let served = coordinator.serve_page(&entry(), &ServeOptions::default()).await.unwrap();
        served.body.collect(1 << 10).await.unwrap()
    });
    assert_eq!(stage.end_of(&look, 1_000).0, "uploaded before it slept");
}

#[test]
fn clocks_an_hour_apart_cost_a_second_render_and_no_promise() {
    let mut stage = stage(&[0, 3_600_000]);
    let [right, ahead] = stage.coordinators[..] else { unreachable!() };
    let (grant, overtaken) = worker(&mut stage, "overtaken", right, ms(400));
    let (older, _) = stage.end_of(&grant, 1_000);
    // To the one that is ahead, that lease is long over.
    let (grant, commit) = worker(&mut stage, "overtakes", ahead, ms(50));
    let (newer, at_once) = stage.end_of(&grant, 1_000);
    assert!(newer > older && at_once < 100, "{at_once} ms");
    assert!(matches!(stage.end_of(&commit, 1_000).0, Commit::Committed { .. }));
    assert!(matches!(stage.end_of(&overtaken, 2_000).0, Commit::Superseded { .. }));
    let invalidate = ask(&mut stage, "editor", right, |coordinator| async move {
        coordinator.invalidate(&[Scope::key("acme::/a?").tenant("acme")], Depth::Hard).await.unwrap();
    });
    stage.end_of(&invalidate, 1_000);
    for at in [right, ahead] {
        let look =
            ask(&mut stage, "reader", at, |coordinator| async move { strict(&coordinator).await.unwrap() });
        assert!(matches!(stage.end_of(&look, 1_000).0, Lookup::Missing(_)));
    }
}

#[test]
fn entry_that_the_store_forgot_under_a_lease_is_begun_anew() {
    let mut stage = stage(&[0]);
    let only = stage.coordinators[0];
    let (grant, late) = worker(&mut stage, "forgotten", only, ms(300));
    let (older, _) = stage.end_of(&grant, 1_000);
    // As a table would that somebody restored, or whose clock leapt.
    let far = leasehold_core::time::Timestamp::from_millis(4_000_000_000_000);
    stage.services.doubles().dynamodb.expire(far);
    let (late, _) = stage.end_of(&late, 2_000);
    assert!(matches!(late, Commit::Fenced { latest_generation: 0 }), "{late:?}");
    stage.pass(1_000);
    let (grant, commit) = worker(&mut stage, "comes after", only, ms(10));
    let (newer, _) = stage.end_of(&grant, 1_000);
    assert!(newer > older, "generations are never given again");
    assert!(matches!(stage.end_of(&commit, 1_000).0, Commit::Committed { .. }));
}

#[test]
fn invalidation_counts_although_whoever_asked_for_it_died_before_the_answer() {
    let mut stage = stage(&[0, 0]);
    let [first, second] = stage.coordinators[..] else { unreachable!() };
    let commit = ask(&mut stage, "worker", first, |coordinator| async move {
        let lease = granted(&coordinator, Duration::ZERO).await;
        lease.commit(&NewPage::new("until invalidated")).await.unwrap()
    });
    assert!(matches!(stage.end_of(&commit, 1_000).0, Commit::Committed { .. }));
    let editor = ask(&mut stage, "editor", first, |coordinator| async move {
        sleep(ms(20)).await;
        coordinator.invalidate(&[Scope::whole_tenant("acme")], Depth::Soft).await.is_ok()
    });
    stage.machines.network.block(first, editor.machine, true);
    stage.pass(20);
    // The connection was made before; only the answer is missing.
    stage.machines.network.block(first, editor.machine, false);
    stage.pass(8);
    stage.machines.network.block(first, editor.machine, true);
    stage.pass(60);
    assert!(!editor.is_over());
    stage.machines.kill(editor.machine, true);
    for at in [first, second] {
        let look =
            ask(&mut stage, "reader", at, |coordinator| async move { strict(&coordinator).await.unwrap() });
        let (answer, _) = stage.end_of(&look, 1_000);
        assert!(
            matches!(&answer, Lookup::Stale(stale) if stale.reason == StaleReason::Invalidated),
            "{answer:?}"
        );
    }
}

#[test]
fn page_whose_render_always_fails_costs_one_attempt_for_each_pause_and_is_served_as_it_was() {
    const UNTIL: u64 = 6_000;
    let mut stage = stage(&[0, 0]);
    let coordinators = stage.coordinators.clone();
    let (grant, commit) = worker(&mut stage, "rendered once", coordinators[0], ms(10));
    let (rendered, _) = stage.end_of(&grant, 1_000);
    stage.end_of(&commit, 1_000);
    // When each attempt began, and when its failure was on its way.
    let attempts: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let visitors: Vec<_> = (0..12)
        .map(|number| {
            let (at, attempts) = (coordinators[number % 2], attempts.clone());
            stage.play("visitor", move |context| {
                let coordinator = client::connect(&context, &[at], 0);
                let (time, attempts) = (context.time.clone(), attempts.clone());
                async move {
                    let mut served = Vec::new();
                    while time.now() < UNTIL {
                        let answer = coordinator.acquire(&entry(), &AcquireOptions::default()).await.unwrap();
                        let previous = match answer {
                            Acquire::Granted(lease) => {
                                let begun = time.now();
                                sleep(ms(20)).await;
                                attempts.lock().push((begun, time.now()));
                                lease.fail("it always does").await.unwrap();
                                lease.previous().cloned()
                            }
                            Acquire::Held(held) => held.previous,
                            Acquire::BackingOff(pause) => pause.previous,
                            other => panic!("{other:?}"),
                        };
                        served.push(previous.map(|stale| stale.page.generation));
                        sleep(ms(10)).await;
                    }
                    served
                }
            })
        })
        .collect();
    for visitor in &visitors {
        let (served, _) = stage.end_of(visitor, UNTIL + 1_000);
        assert!(served.len() > 100 && served.iter().all(|page| *page == Some(rendered)), "{served:?}");
    }
    let attempts = attempts.lock();
    assert!(attempts.len() > 8, "it is tried again and again: {attempts:?}");
    let mut pause = FIRST_BACKOFF;
    for pair in attempts.windows(2) {
        let [(_, failed), (begun, _)] = pair else { unreachable!() };
        assert!(*begun >= failed + millis(pause), "{attempts:?}");
        pause = (2 * pause).min(LONGEST_BACKOFF);
    }
}

#[test]
fn store_that_throttles_everything_for_half_a_minute_takes_no_page_away_and_is_over_when_it_is_over() {
    let mut stage = stage(&[0, 0]);
    let [first, second] = stage.coordinators[..] else { unreachable!() };
    let commit = ask(&mut stage, "worker", first, |coordinator| async move {
        let lease = granted(&coordinator, Duration::ZERO).await;
        lease.commit(&NewPage::new("until invalidated")).await.unwrap()
    });
    stage.end_of(&commit, 1_000);
    for at in [first, second] {
        let look =
            ask(&mut stage, "reader", at, |coordinator| async move { strict(&coordinator).await.unwrap() });
        assert!(matches!(stage.end_of(&look, 1_000).0, Lookup::Fresh(_)));
    }
    let throttled = Trouble { per_mille: 1_000, kinds: BTreeSet::from([Kind::Throttle]) };
    stage.services.trouble(None, throttled);
    stage.pass(millis(STALENESS_BOUND) + 100);
    for _ in 0..10 {
        stage.pass(2_500);
        for at in [first, second] {
            let bounded = ask(&mut stage, "reader", at, |coordinator| async move {
                coordinator.lookup(&entry(), &LookupOptions::default()).await.unwrap().outcome
            });
            let (answer, took) = stage.end_of(&bounded, 1_000);
            assert!(
                matches!(&answer, Lookup::Stale(stale) if stale.reason == StaleReason::Unverified),
                "{answer:?}"
            );
            assert!(took < 700, "{took} ms");
        }
    }
    let refused =
        ask(
            &mut stage,
            "strict",
            first,
            |coordinator| async move { strict(&coordinator).await.unwrap_err() },
        );
    let (error, _) = stage.end_of(&refused, 6_000);
    assert!(error.is_retryable(), "{error:?}");
    stage.services.recover();
    stage.pass(500);
    for at in [first, second] {
        let look = ask(&mut stage, "reader", at, |coordinator| async move {
            coordinator.lookup(&entry(), &LookupOptions::default()).await.unwrap().outcome
        });
        assert!(matches!(stage.end_of(&look, 1_000).0, Lookup::Fresh(_)));
    }
}
