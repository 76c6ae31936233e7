//! The one suite: what an adapter or a decorator must do to be a store. One named test per clause of the contracts on the
//! traits of [`crate::port`].
//!
//! An adapter gives a [`Fixture`] and runs every clause as a test of its own:
//!
//! ```text
//! mod conformance {
//!     leasehold_store::conformance_suite!(super::MyFixture::new().await, exclude: {
//!         acknowledged_swaps_survive_a_crash => "the store under test lives in memory",
//!     });
//! }
//! ```
//!
//! The fixture is made anew for each test, in an `async fn`. A clause is left out only by its name and with a reason; a
//! name that is no clause fails a test. The crate that expands the macro needs tokio with `macros`, `rt-multi-thread` and
//! `time`.

use crate::port::Stores;
use async_trait::async_trait;
use leasehold_core::time::Timestamp;

pub mod entries;
pub mod log;
pub mod objects;
pub mod samples;

mod decorated;
mod embedded;

pub use decorated::Decorated;
pub use embedded::EmbeddedFixture;

/// One store that the suite has for itself, empty at first.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// A handle on the store, beside those given out before; as independent of them as the store allows, as if another
    /// coordinator had made it.
    async fn open(&self) -> Stores;

    /// Ends every handle in the orderly way, and answers with one on the same data. Handles from before are not used again.
    async fn restart(&self) -> Stores;

    /// Ends every handle as a crash would, without a chance to write anything, and answers with one on the same data.
    async fn crash(&self) -> Stores;

    /// Lets the store delete everything that it may delete at `now`. One whose expiry cannot be hurried does nothing: the
    /// clauses say what must stay, not what must go.
    async fn forget(&self, now: Timestamp);
}

/// Runs the suite against a fixture: expands to one test per clause. See [`crate::conformance`].
#[macro_export]
macro_rules! conformance_suite {
    ($fixture:expr $(,)?) => {
        $crate::conformance_suite!($fixture, exclude: {});
    };
    ($fixture:expr, exclude: { $($clause:ident => $reason:literal),* $(,)? } $(,)?) => {
        const EXCLUDED: &[(&str, &str)] = &[$((stringify!($clause), $reason)),*];

        #[test]
        fn exclusions_name_a_clause_and_a_reason() {
            $crate::conformance::check_exclusions(EXCLUDED);
        }

        $crate::__conformance_clauses! { __conformance_tests [$fixture] }
    };
}

/// The clauses, by the module that they are in.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_clauses {
    ($then:ident $arguments:tt) => {
        $crate::$then! {
            $arguments
            entries {
                an_absent_entry_reads_as_none
                a_created_entry_is_read_back
                a_creation_is_refused_by_the_record_that_is_there
                a_swap_from_the_current_version_replaces_the_record
                a_swap_from_another_version_is_refused_by_the_record
                a_swap_from_a_version_is_refused_where_there_is_no_record
                a_refused_swap_changes_nothing
                of_many_creations_at_once_exactly_one_is_applied
                of_many_swaps_from_one_version_exactly_one_is_applied
                no_concurrent_increment_is_lost
                a_read_sees_what_was_acknowledged_before_it_through_any_handle
                swaps_of_many_entries_at_once_do_not_mix
                every_field_of_a_record_is_returned_as_it_was_put
                identities_that_differ_in_one_part_never_touch
                a_dropped_swap_is_applied_whole_or_not_at_all
                entries_are_kept_until_their_forget_after
                a_later_forget_after_replaces_an_earlier_one
                acknowledged_swaps_survive_a_restart
                acknowledged_swaps_survive_a_crash
            }
            log {
                a_fresh_log_is_empty
                an_append_moves_the_head_by_one_and_writes_the_event
                an_append_elsewhere_than_at_the_head_changes_nothing
                of_many_appends_to_one_position_exactly_one_is_applied
                positions_are_contiguous_under_many_appenders
                events_up_to_a_head_that_was_read_can_be_read
                an_acknowledged_append_is_read_through_any_handle
                events_are_returned_in_order_up_to_the_limit
                several_megabytes_of_events_are_returned_completely
                every_field_of_an_event_is_returned_as_it_was_put
                a_dropped_append_is_applied_whole_or_not_at_all
                the_head_stays_when_every_event_is_forgotten
                an_emptied_position_cannot_be_filled_again
                events_are_forgotten_oldest_first_and_never_early
                acknowledged_appends_survive_a_restart
                acknowledged_appends_survive_a_crash
            }
            objects {
                an_absent_object_is_none
                a_put_object_is_read_back_with_its_metadata
                bodies_of_any_size_and_content_are_returned_as_they_were_put
                a_put_leaves_an_object_that_exists_as_it_is
                of_many_puts_to_one_name_exactly_one_creates_it
                info_tells_size_and_digest
                an_acknowledged_put_is_read_through_any_handle
                names_that_resemble_each_other_never_touch
                a_deleted_object_is_absent_and_others_stay
                deleting_absent_objects_is_no_error
                any_number_of_objects_is_deleted_at_once
                a_name_can_be_put_again_after_it_was_deleted
                a_dropped_put_leaves_the_whole_object_or_nothing
                acknowledged_puts_survive_a_restart
                acknowledged_puts_survive_a_crash
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ([$fixture:expr] $($module:ident { $($clause:ident)* })*) => {
        $(
            mod $module {
                #[allow(unused_imports)]
                use super::*;

                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                    async fn $clause() {
                        if $crate::conformance::is_excluded(stringify!($clause), super::EXCLUDED) {
                            return;
                        }
                        let fixture = $fixture;
                        let clause = $crate::conformance::$module::$clause(&fixture);
                        tokio::time::timeout($crate::conformance::PATIENCE, clause)
                            .await
                            .expect("the clause came to no end: some call of the store hangs");
                    }
                )*
            }
        )*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_names {
    ([] $($module:ident { $($clause:ident)* })*) => {
        &[$($(stringify!($clause)),*),*]
    };
}

/// The names of all clauses.
pub const CLAUSES: &[&str] = __conformance_clauses! { __conformance_names [] };

/// How long a clause may take before it counts as hanging.
#[doc(hidden)]
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

#[doc(hidden)]
pub fn is_excluded(clause: &str, excluded: &[(&str, &str)]) -> bool {
    let exclusion = excluded.iter().find(|(name, _)| *name == clause);
    if let Some((_, reason)) = exclusion {
        // Captured by the test harness, and shown with `--show-output`.
        println!("excluded: {reason}");
    }
    exclusion.is_some()
}

#[doc(hidden)]
pub fn check_exclusions(excluded: &[(&str, &str)]) {
    for (clause, reason) in excluded {
        assert!(CLAUSES.contains(clause), "`{clause}` is not a clause");
        assert!(!reason.trim().is_empty(), "`{clause}` is excluded without a reason");
    }
}

/// Lets `future` begin, gives it `turns` turns, and drops it if it is not done: a caller that goes away.
async fn drop_after<F: Future>(turns: usize, future: F) -> Option<F::Output> {
    let patience = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        output = future => Some(output),
        () = patience => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod embedded_store {
        use crate::conformance::EmbeddedFixture;
        crate::conformance_suite!(EmbeddedFixture::new(tempfile::tempdir().unwrap()));
    }

    #[test]
    fn every_clause_is_listed() {
        let written: usize = [
            include_str!("conformance/entries.rs"),
            include_str!("conformance/log.rs"),
            include_str!("conformance/objects.rs"),
        ]
        .map(|source| source.matches("pub async fn ").count())
        .iter()
        .sum();
        assert_eq!(written, CLAUSES.len(), "a clause that is not listed never runs");
    }

    #[test]
    #[should_panic(expected = "is not a clause")]
    fn an_exclusion_of_no_clause_is_refused() {
        check_exclusions(&[("no_such_clause", "a reason")]);
    }

    #[test]
    #[should_panic(expected = "without a reason")]
    fn an_exclusion_without_a_reason_is_refused() {
        check_exclusions(&[(CLAUSES[0], " ")]);
    }
}
