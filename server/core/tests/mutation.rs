//! The switch of `leasehold_core::mutation`.

use leasehold_core::mutation::{self, Mutation};

#[test]
fn one_rule_at_a_time_is_out_and_only_while_its_guard_lives() {
    for mutation in Mutation::ALL {
        let guard = mutation::only(Some(mutation));
        let active: Vec<_> = Mutation::ALL.into_iter().filter(|other| mutation::is_active(*other)).collect();
        assert_eq!(active, [mutation]);
        drop(guard);
    }
    let _guard = mutation::only(None);
    assert!(!Mutation::ALL.into_iter().any(mutation::is_active));
}
