//! The one source of random values, seeded at construction.

use parking_lot::Mutex;
use rand::{RngCore, SeedableRng, rngs::StdRng};
use std::{fmt, time::Duration};

/// Versions, event ids and jitter come from here. The same seed gives the same sequence.
pub struct Entropy(Mutex<StdRng>);

impl Entropy {
    /// Seeded by the operating system: for production.
    pub fn from_os() -> Self {
        Self(Mutex::new(StdRng::from_os_rng()))
    }

    /// Seeded by hand: for simulations and tests.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// 128 random bits.
    pub fn bits(&self) -> u128 {
        let mut rng = self.0.lock();
        u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())
    }

    /// A random duration from half of `around` to one and a half times it.
    pub fn jitter(&self, around: Duration) -> Duration {
        let fraction = self.0.lock().next_u32();
        around / 2 + around.mul_f64(f64::from(fraction) / f64::from(u32::MAX))
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}
