//! Argon2id, [RFC 9106], with floors and ceilings: parameters come from a file that others may have written.
//!
//! [RFC 9106]: https://www.rfc-editor.org/rfc/rfc9106

use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::{Zeroize, Zeroizing};

use crate::secret::Passphrase;

/// Bytes of output: a wrapping key and a commitment.
pub const OUTPUT_LEN: usize = 64;
/// Bytes of salt.
pub const SALT_LEN: usize = 32;

/// Cost of one derivation. Always within the floors and ceilings: there is no other way to make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfParams {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// The parameters are outside of what reseal will compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KdfError {
    /// Cheaper than the floor: a file that asks for it was written by an attacker or by another program.
    #[error(
        "Argon2id below the floor of 64 MiB, 3 passes and 1 lane: {memory_kib} KiB, {passes} passes, {lanes} lanes"
    )]
    BelowFloor {
        /// Memory asked for, in KiB.
        memory_kib: u32,
        /// Passes asked for.
        passes: u32,
        /// Lanes asked for.
        lanes: u32,
    },
    /// More expensive than the ceiling, refused before anything is allocated.
    #[error(
        "Argon2id above the ceiling of 2 GiB, 32 passes and 16 lanes: {memory_kib} KiB, {passes} passes, {lanes} lanes"
    )]
    AboveCeiling {
        /// Memory asked for, in KiB.
        memory_kib: u32,
        /// Passes asked for.
        passes: u32,
        /// Lanes asked for.
        lanes: u32,
    },
    /// The machine does not have the memory now.
    #[error("not enough memory for Argon2id: {memory_kib} KiB")]
    OutOfMemory {
        /// Memory asked for, in KiB.
        memory_kib: u32,
    },
}

impl KdfParams {
    /// The least memory, RFC 9106's second recommendation: 64 MiB.
    pub const MEMORY_KIB_MIN: u32 = 64 * 1024;
    /// The most memory: 2 GiB.
    pub const MEMORY_KIB_MAX: u32 = 2 * 1024 * 1024;
    /// The fewest passes.
    pub const PASSES_MIN: u32 = 3;
    /// The most passes.
    pub const PASSES_MAX: u32 = 32;
    /// The most lanes.
    pub const LANES_MAX: u32 = 16;
    /// What a new vault starts from: 256 MiB, 3 passes, 4 lanes.
    pub const DEFAULT: Self = Self { memory_kib: 256 * 1024, passes: 3, lanes: 4 };
    /// The cheapest that is accepted: for tests and very small machines.
    pub const FLOOR: Self = Self { memory_kib: Self::MEMORY_KIB_MIN, passes: Self::PASSES_MIN, lanes: 4 };

    /// Checks parameters read from a file or given by a user.
    ///
    /// # Errors
    ///
    /// [`KdfError::BelowFloor`] or [`KdfError::AboveCeiling`]; nothing is allocated.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, KdfError> {
        if memory_kib > Self::MEMORY_KIB_MAX || passes > Self::PASSES_MAX || lanes > Self::LANES_MAX {
            return Err(KdfError::AboveCeiling { memory_kib, passes, lanes });
        }
        if memory_kib < Self::MEMORY_KIB_MIN || passes < Self::PASSES_MIN || lanes == 0 {
            return Err(KdfError::BelowFloor { memory_kib, passes, lanes });
        }
        Ok(Self { memory_kib, passes, lanes })
    }

    /// Memory in KiB.
    pub fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    /// Passes over the memory.
    pub fn passes(&self) -> u32 {
        self.passes
    }

    /// Lanes computed in parallel.
    pub fn lanes(&self) -> u32 {
        self.lanes
    }

    /// The default memory with as many passes as take about `target` here, by timing one derivation.
    ///
    /// # Errors
    ///
    /// [`KdfError::OutOfMemory`] if not even the floor of 64 MiB can be had.
    pub fn calibrated(target: Duration) -> Result<Self, KdfError> {
        let (params, took) = Self::DEFAULT.timed().or_else(|_| Self::FLOOR.timed())?;
        let per_pass = took.as_secs_f64() / f64::from(params.passes);
        let passes = (target.as_secs_f64() / per_pass.max(f64::EPSILON)) as u32;
        Ok(Self { passes: passes.clamp(Self::PASSES_MIN, Self::PASSES_MAX), ..params })
    }

    fn timed(self) -> Result<(Self, Duration), KdfError> {
        let start = Instant::now();
        let passphrase = Passphrase::new(crate::SecretBytes::copy_from(b"calibration")).expect("not empty");
        derive(&passphrase, &[0; SALT_LEN], self)?;
        Ok((self, start.elapsed()))
    }
}

/// Derives 64 bytes from a passphrase: `Argon2id(passphrase, salt, params)`, version 1.3.
///
/// Takes half a second to a second with the default parameters, on purpose. The memory is wiped.
///
/// # Errors
///
/// [`KdfError::OutOfMemory`] if the memory cannot be had.
pub fn derive(
    passphrase: &Passphrase,
    salt: &[u8; SALT_LEN],
    params: KdfParams,
) -> Result<Zeroizing<[u8; OUTPUT_LEN]>, KdfError> {
    let KdfParams { memory_kib, passes, lanes } = params;
    let argon = Params::new(memory_kib, passes, lanes, Some(OUTPUT_LEN))
        .expect("the floors and ceilings lie within RFC 9106's ranges");
    let mut output = Zeroizing::new([0; OUTPUT_LEN]);
    // EXPOSE: argon2 hashes the passphrase and keeps no copy.
    compute(&Argon2::new(Algorithm::Argon2id, VERSION, argon), passphrase.expose(), salt, &mut *output)?;
    Ok(output)
}

const VERSION: Version = Version::V0x13;

/// Runs `argon` in memory of its own, asked for carefully and wiped after.
fn compute(argon: &Argon2<'_>, password: &[u8], salt: &[u8], output: &mut [u8]) -> Result<(), KdfError> {
    let count = argon.params().block_count();
    let mut blocks: Vec<Block> = Vec::new();
    blocks
        .try_reserve_exact(count)
        .map_err(|_| KdfError::OutOfMemory { memory_kib: argon.params().m_cost() })?;
    blocks.resize(count, Block::new());
    argon
        .hash_password_into_with_memory(password, salt, output, &mut blocks)
        .expect("salt and output have lengths that RFC 9106 allows, a passphrase stays below 4 GiB");
    blocks.iter_mut().for_each(Zeroize::zeroize);
    Ok(())
}

#[cfg(test)]
mod tests {
    use argon2::{AssociatedData, ParamsBuilder};

    use super::*;

    #[test]
    fn rfc_9106_section_5_3() {
        // The vector has a secret, associated data and 32 KiB of memory, which `derive` does not offer.
        let params = ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(AssociatedData::new(&[4; 12]).expect("12 bytes"))
            .output_len(32)
            .build()
            .expect("the RFC's own parameters");
        let argon = Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, VERSION, params)
            .expect("8 bytes of secret");
        let mut tag = [0; 32];
        compute(&argon, &[1; 32], &[2; 16], &mut tag).expect("32 KiB");
        let expected = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659";
        assert_eq!(hex::encode(tag), expected);
    }

    #[test]
    fn floors_and_ceilings_hold() {
        assert!(KdfParams::new(64 * 1024, 3, 4).is_ok());
        for (memory_kib, passes, lanes) in [(64 * 1024 - 1, 3, 4), (64 * 1024, 2, 4), (64 * 1024, 3, 0)] {
            let refused = KdfParams::new(memory_kib, passes, lanes);
            assert!(matches!(refused, Err(KdfError::BelowFloor { .. })), "{refused:?}");
        }
        for (memory_kib, passes, lanes) in [(u32::MAX, 3, 4), (64 * 1024, 33, 4), (64 * 1024, 3, 17)] {
            let refused = KdfParams::new(memory_kib, passes, lanes);
            assert!(matches!(refused, Err(KdfError::AboveCeiling { .. })), "{refused:?}");
        }
    }
}
