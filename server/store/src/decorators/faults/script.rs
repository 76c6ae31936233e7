//! Rules of what goes wrong when: for whatever can be told apart by an operation.

use parking_lot::Mutex;
use std::sync::Arc;

/// Which calls of an `O` a fault `F` happens to.
#[derive(Clone, Debug)]
pub struct Rule<O, F> {
    operation: Option<O>,
    fault: F,
    skip: u64,
    times: u64,
}

impl<O, F> Rule<O, F> {
    /// Every call of this kind.
    pub fn on(operation: O, fault: F) -> Self {
        Self { operation: Some(operation), fault, skip: 0, times: u64::MAX }
    }

    /// Every call.
    pub fn on_any(fault: F) -> Self {
        Self { operation: None, fault, skip: 0, times: u64::MAX }
    }

    /// Only the `n`th call of those, counted from 1 when the rule is added.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        Self { skip: n.saturating_sub(1), times: 1, ..self }
    }

    /// Not the first `skip` calls of those.
    #[must_use]
    pub fn after(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// At most so many of those.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }
}

/// Rules, asked in the order in which they were added. The first that has something to say about a call decides; only those
/// before it have counted the call. Clones are the same script.
pub struct Script<O, F> {
    rules: Arc<Mutex<Vec<Rule<O, F>>>>,
}

impl<O, F: Clone> Script<O, F> {
    /// Adds a rule, for calls from now on.
    pub fn add(&self, rule: Rule<O, F>) {
        self.rules.lock().push(rule);
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.rules.lock().clear();
    }

    /// Counts a call, and says what happens to it.
    pub fn next<Q>(&self, operation: &Q) -> Option<F>
    where
        O: PartialEq<Q>,
    {
        for rule in self.rules.lock().iter_mut() {
            if rule.times == 0 || rule.operation.as_ref().is_some_and(|matched| matched != operation) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            return Some(rule.fault.clone());
        }
        None
    }
}

impl<O, F> Default for Script<O, F> {
    fn default() -> Self {
        Self { rules: Arc::default() }
    }
}

impl<O, F> Clone for Script<O, F> {
    fn clone(&self) -> Self {
        Self { rules: Arc::clone(&self.rules) }
    }
}
