//! Random choices that follow from a seed, which every test prints.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The seed of this run of a test: `RESEAL_TEST_SEED`, to repeat one, or a fresh one.
///
/// # Panics
///
/// If the variable is no number, or the system has no random bytes.
pub fn seed() -> u64 {
    if let Ok(text) = std::env::var("RESEAL_TEST_SEED") {
        return text.parse().expect("RESEAL_TEST_SEED is a number");
    }
    let mut bytes = [0; 8];
    reseal_crypto::Random::fill(&reseal_crypto::OsRandom, &mut bytes).expect("the system has random bytes");
    u64::from_le_bytes(bytes)
}

/// Choices that repeat with their seed.
#[derive(Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The choices of a seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of a remainder is far below anything that a test could see.
        self.0.next_u64() % bound
    }

    /// A number from 0 to 1.
    pub fn share(&mut self) -> f64 {
        self.0.next_u32() as f64 / f64::from(u32::MAX)
    }
}
