//! Where randomness comes from: the operating system, or a printed seed in tests and simulations.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zeroize::{Zeroize, Zeroizing};

use crate::aead::{NONCE_LEN, Nonce};

/// The generator could not deliver; nothing was sealed.
#[derive(Debug, thiserror::Error)]
#[error("the system's random generator failed: {0}")]
pub struct RandomError(String);

/// A source of random bytes.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills `dest` whole.
    ///
    /// # Errors
    ///
    /// [`RandomError`] if the source fails; `dest` must not be used then.
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError>;
}

/// The operating system's generator, by `getrandom(2)` or its equivalent.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
        getrandom::fill(dest).map_err(|error| RandomError(error.to_string()))
    }
}

/// A generator that repeats itself for the same seed: for tests and simulations, never for keys that are kept.
pub struct SeededRandom(Mutex<ChaCha20Rng>);

impl SeededRandom {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(ChaCha20Rng::seed_from_u64(seed)))
    }
}

impl fmt::Debug for SeededRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeededRandom").finish_non_exhaustive()
    }
}

impl Random for SeededRandom {
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(dest);
        Ok(())
    }
}

const BLOCK: usize = 3072;

/// Random bytes drawn in blocks and handed out once each.
///
/// A system call per nonce costs more than the AEAD of a short value; a block costs one call for many. The pool is
/// not shared between threads and not cloned, and what was handed out is wiped, so no byte is handed out twice and a
/// key that was drawn here does not stay here.
pub struct RandomPool<'a> {
    source: &'a dyn Random,
    block: Zeroizing<Vec<u8>>,
    used: usize,
}

impl<'a> RandomPool<'a> {
    /// An empty pool over `source`; nothing is drawn until something is taken.
    pub fn new(source: &'a dyn Random) -> Self {
        Self { source, block: Zeroizing::new(vec![0; BLOCK]), used: BLOCK }
    }

    /// Hands out `N` fresh bytes; `N` is at most 3,072.
    ///
    /// # Errors
    ///
    /// [`RandomError`] if the source fails.
    pub fn take<const N: usize>(&mut self) -> Result<[u8; N], RandomError> {
        const { assert!(N <= BLOCK) };
        if BLOCK - self.used < N {
            // A source that fails may have written half a block: nothing of it may be taken later.
            self.used = BLOCK;
            self.source.fill(&mut self.block)?;
            self.used = 0;
        }
        let fresh = &mut self.block[self.used..self.used + N];
        let mut taken = [0; N];
        taken.copy_from_slice(fresh);
        fresh.zeroize();
        self.used += N;
        Ok(taken)
    }

    /// A fresh 192-bit nonce.
    ///
    /// # Errors
    ///
    /// [`RandomError`] if the source fails.
    pub fn nonce(&mut self) -> Result<Nonce, RandomError> {
        Ok(Nonce(self.take::<NONCE_LEN>()?))
    }
}

impl fmt::Debug for RandomPool<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RandomPool").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn pool_never_repeats() {
        let mut pool = RandomPool::new(&OsRandom);
        let drawn: HashSet<[u8; NONCE_LEN]> =
            (0..10_000).map(|_| pool.nonce().expect("the system has randomness").0).collect();
        assert_eq!(drawn.len(), 10_000);
    }

    /// Fills half of what is asked for and fails, from the second call on.
    #[derive(Debug, Default)]
    struct FailsLater(std::sync::atomic::AtomicBool);

    impl Random for FailsLater {
        fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
            if self.0.swap(true, std::sync::atomic::Ordering::Relaxed) {
                dest.fill(0);
                return Err(RandomError("no entropy".into()));
            }
            dest.fill(0xAA);
            Ok(())
        }
    }

    #[test]
    fn nothing_is_taken_from_a_block_that_failed() {
        let source = FailsLater::default();
        let mut pool = RandomPool::new(&source);
        // 127 nonces leave 24 bytes; 20 of them leave 4, too few for a nonce but enough for a smaller draw.
        for _ in 0..127 {
            assert_eq!(pool.nonce().expect("the first block").0, [0xAA; NONCE_LEN]);
        }
        assert_eq!(pool.take::<20>().expect("the first block"), [0xAA; 20]);
        assert!(pool.nonce().is_err());
        assert!(pool.take::<4>().is_err(), "bytes of a failed draw were handed out");
    }

    #[test]
    fn what_was_handed_out_does_not_stay() {
        let source = FailsLater::default();
        let mut pool = RandomPool::new(&source);
        let key: [u8; 32] = pool.take().expect("the first block");
        assert_eq!(key, [0xAA; 32]);
        assert_eq!(pool.block[..33], [[0; 32].as_slice(), &[0xAA]].concat());
    }

    #[test]
    fn a_seed_repeats_itself() {
        let (mut a, mut b) = ([0; 64], [0; 64]);
        SeededRandom::new(7).fill(&mut a).expect("seeded");
        SeededRandom::new(7).fill(&mut b).expect("seeded");
        assert_eq!(a, b);
    }
}
