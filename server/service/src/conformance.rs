//! The conformance suite through the wire: a store is not one before a coordinator on it behaves.
//!
//! The clauses mirror those of [`leasehold_store::conformance`], seen by a gRPC client of coordinators that are served on a
//! real socket. An adapter runs them with the same fixture:
//!
//! ```text
//! mod wire {
//!     leasehold_service::wire_conformance_suite!(MyFixture::new().await);
//! }
//! ```

mod clauses;
mod coordinator;

pub use clauses::*;
pub use coordinator::Coordinator;

/// How long a clause may take before it counts as hanging.
#[doc(hidden)]
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// Runs the wire's clauses against a fixture: expands to one test per clause. The crate that expands it needs tokio with
/// `macros`, `rt-multi-thread` and `time`.
#[macro_export]
macro_rules! wire_conformance_suite {
    ($fixture:expr $(,)?) => {
        $crate::__wire_conformance_tests! { [$fixture]
            of_many_acquires_at_once_exactly_one_is_granted
            an_acknowledged_commit_is_seen_through_any_coordinator
            every_field_of_a_page_is_returned_as_it_was_committed
            identities_that_differ_in_one_part_never_touch
            a_fenced_commit_changes_nothing
            a_repeated_acquire_is_told_of_its_grant_by_any_coordinator
            a_repeated_commit_is_told_of_its_success_by_any_coordinator
            acknowledged_commits_survive_a_restart
            acknowledged_commits_survive_a_crash
            a_lease_survives_a_crash
            an_invalidation_is_seen_at_once_with_its_token_through_any_coordinator
            many_invalidations_at_once_all_take_effect
            a_repeated_invalidation_has_one_position
            a_token_from_beyond_the_head_is_refused
            acknowledged_invalidations_survive_a_restart
            acknowledged_invalidations_survive_a_crash
            bodies_of_any_size_are_served_as_they_were_uploaded
            an_upload_never_changes_a_body_that_is_stored
            a_commit_of_a_body_that_is_not_there_is_refused
            a_named_body_is_served_by_its_name_through_any_coordinator
            of_many_commits_under_one_name_exactly_one_is_applied
            a_purged_body_is_not_served_by_its_name_after_its_page_was_superseded
            bodies_are_served_as_of_an_invalidation_through_any_coordinator
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __wire_conformance_tests {
    ([$fixture:expr] $($clause:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $clause() {
                let fixture = $fixture;
                let clause = $crate::conformance::$clause(&fixture);
                tokio::time::timeout($crate::conformance::PATIENCE, clause)
                    .await
                    .expect("the clause came to no end: some call hangs");
            }
        )*
    };
}
