//! What a request to a store consumed, as far as the store says so: from the adapter that is told, to whoever measures.
//!
//! By the way of the task that both run in, so that the ports need not carry what no rule depends on.

use std::{cell::Cell, future::Future, ops::Add};

/// Capacity units, as the store bills them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Consumed {
    /// Of reads.
    pub read_units: f64,
    /// Of writes.
    pub write_units: f64,
}

impl Consumed {
    /// Nothing, or nothing that is told.
    pub const NOTHING: Self = Self { read_units: 0.0, write_units: 0.0 };

    /// So many units of reads.
    pub fn by_reading(units: f64) -> Self {
        Self { read_units: units, ..Self::NOTHING }
    }

    /// So many units of writes.
    pub fn by_writing(units: f64) -> Self {
        Self { write_units: units, ..Self::NOTHING }
    }
}

impl Add for Consumed {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let Self { read_units, write_units } = other;
        Self { read_units: self.read_units + read_units, write_units: self.write_units + write_units }
    }
}

tokio::task_local! {
    static SO_FAR: Cell<Consumed>;
}

/// Says what a request consumed. Where nobody measures, nothing happens.
pub fn report(consumed: Consumed) {
    let _ = SO_FAR.try_with(|so_far| so_far.set(so_far.get() + consumed));
}

/// The answer of a request, and what was [reported](report) meanwhile by the task that it runs in.
pub async fn measured<F: Future>(request: F) -> (F::Output, Consumed) {
    let measuring = async {
        let answer = request.await;
        // Always set here, but where an explorer of schedules goes on with another task in the middle of a step.
        (answer, SO_FAR.try_with(Cell::get).unwrap_or(Consumed::NOTHING))
    };
    SO_FAR.scope(Cell::new(Consumed::NOTHING), measuring).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_reported_meanwhile_adds_up_and_belongs_to_the_innermost_request() {
        report(Consumed::by_reading(9.0));
        let outer = async {
            report(Consumed::by_reading(0.5));
            tokio::task::yield_now().await;
            let (_, inner) = measured(async { report(Consumed::by_writing(4.0)) }).await;
            report(Consumed::by_reading(1.0));
            inner
        };
        let (inner, outer) = measured(outer).await;
        assert_eq!(inner, Consumed { read_units: 0.0, write_units: 4.0 });
        assert_eq!(outer, Consumed { read_units: 1.5, write_units: 0.0 });
    }
}
