//! What the engine finds under the name `tokio` while its schedules are explored: tasks and time are the explorer's, channels
//! and locks are tokio's own, which need nothing but wakers.

pub use shuttle::future::spawn;
pub use tokio::{select, sync, task_local};

/// Tasks.
pub mod task {
    pub use shuttle::future::{JoinHandle, yield_now};

    /// Runs it as a task: whether another thread does it is all the same to those who wait.
    pub fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        super::spawn(async { work() })
    }
}

/// Time, which passes when the explorer wants it to.
pub mod time {
    use shuttle::rand::{Rng as _, thread_rng};
    use std::{
        future::{Future, pending, poll_fn},
        pin::pin,
        task::Poll,
        time::Duration,
    };
    pub use tokio::time::MissedTickBehavior;

    /// What takes so long never happens: a schedule in which somebody can only be helped by it ends in a deadlock, which
    /// the explorer reports.
    pub const NEVER: Duration = Duration::from_secs(3600);

    /// The most turns of others before something shorter happens.
    const MOST_TURNS: u32 = 8;

    /// Ends some turns later.
    pub async fn sleep(duration: Duration) {
        if duration >= NEVER {
            pending::<()>().await;
        }
        for _ in 0..thread_rng().gen_range(0..=MOST_TURNS) {
            super::task::yield_now().await;
        }
    }

    /// The time was over first.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Elapsed;

    /// Ends with the future, or some turns later without it.
    pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
        let (mut future, mut alarm) = (pin!(future), pin!(sleep(duration)));
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => alarm.as_mut().poll(context).map(|()| Err(Elapsed)),
        })
        .await
    }

    /// Ticks at once, and then after every period.
    pub fn interval(period: Duration) -> Interval {
        Interval { period, is_first: true }
    }

    /// See [`interval`].
    #[derive(Debug)]
    pub struct Interval {
        period: Duration,
        is_first: bool,
    }

    impl Interval {
        /// The next tick.
        pub async fn tick(&mut self) {
            if !std::mem::take(&mut self.is_first) {
                sleep(self.period).await;
            }
        }

        /// The next tick is a period away.
        pub fn reset(&mut self) {
            self.is_first = false;
        }

        /// Ticks are never missed: they come when they are asked for.
        pub fn set_missed_tick_behavior(&mut self, _: MissedTickBehavior) {}
    }
}
