//! Key slots: each wraps the vault key under something a person or a machine holds.
//!
//! ```text
//! 64 bytes = Argon2id(passphrase, salt)  or  HKDF-SHA-256(code or key file, salt, "reseal/v1/slot/<kind>")
//! first half wraps the vault key (XAES-256-GCM), second half is the commitment, stored and compared first
//! ```
//!
//! The commitment makes a slot open under one secret only: without it, one wrapped key could be made to open under
//! many passphrases at once, and each answer would rule out many guesses (Len, Grubbs, Ristenpart 2021).

use zeroize::Zeroizing;

use crate::aead::{AeadKey, Nonce, Suite, TAG_LEN};
use crate::canonical::Canonical;
use crate::hash::{equal, hkdf_sha256};
use crate::kdf::{self, KdfError, KdfParams, OUTPUT_LEN, SALT_LEN};
use crate::random::{Random, RandomError};
use crate::secret::{Passphrase, SecretBytes, VaultKey};

/// Bytes of a wrapped vault key.
pub const WRAPPED_LEN: usize = 32 + TAG_LEN;
/// The most slots of one vault.
pub const SLOTS_MAX: usize = 8;

/// How a slot's key is derived, and therefore what opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKdf {
    /// From a passphrase, by Argon2id.
    Passphrase(KdfParams),
    /// From a recovery code of 256 random bits, by HKDF.
    RecoveryCode,
    /// From a key file of 256 random bits, by HKDF.
    KeyFile,
}

impl SlotKdf {
    /// The identifier on disk.
    pub const fn id(self) -> u8 {
        match self {
            Self::Passphrase(_) => 1,
            Self::RecoveryCode => 2,
            Self::KeyFile => 3,
        }
    }

    /// The name of the kind in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passphrase(_) => "passphrase",
            Self::RecoveryCode => "recovery code",
            Self::KeyFile => "key file",
        }
    }

    fn label(self) -> &'static [u8] {
        match self {
            Self::Passphrase(_) => b"reseal/v1/slot/passphrase",
            Self::RecoveryCode => b"reseal/v1/slot/recovery-code",
            Self::KeyFile => b"reseal/v1/slot/key-file",
        }
    }
}

/// What a person or a machine brings to open a vault.
#[derive(Debug, Clone)]
pub enum Opener {
    /// A passphrase.
    Passphrase(Passphrase),
    /// The 32 bytes of a recovery code.
    RecoveryCode(SecretBytes),
    /// The 32 bytes of a key file.
    KeyFile(SecretBytes),
}

/// Why a slot did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// Another passphrase, code or key file.
    #[error("the {0} does not open this slot")]
    Wrong(&'static str),
    /// The right secret, but the slot was changed.
    #[error("the slot was changed since it was made")]
    Tampered,
    /// The derivation could not be computed.
    #[error(transparent)]
    Kdf(#[from] KdfError),
    /// No randomness to make a slot with.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A slot as it is stored. Everything in it is public; everything is authenticated with the wrapped key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// A random id that never changes.
    pub id: [u8; 16],
    /// What opens it.
    pub kdf: SlotKdf,
    /// Salt of the derivation.
    pub salt: [u8; SALT_LEN],
    /// Nonce of the wrapping.
    pub nonce: Nonce,
    /// The vault key, sealed.
    pub wrapped: [u8; WRAPPED_LEN],
    /// Second half of the derived bytes.
    pub commitment: [u8; 32],
}

impl Slot {
    /// Wraps `vault_key` for `opener`. `params` is used for passphrases only.
    ///
    /// # Errors
    ///
    /// [`SlotError::Kdf`] or [`SlotError::Random`].
    pub fn make(
        vault_id: &[u8; 16],
        vault_key: &VaultKey,
        opener: &Opener,
        params: KdfParams,
        random: &dyn Random,
    ) -> Result<Self, SlotError> {
        let kdf = match opener {
            Opener::Passphrase(_) => SlotKdf::Passphrase(params),
            Opener::RecoveryCode(_) => SlotKdf::RecoveryCode,
            Opener::KeyFile(_) => SlotKdf::KeyFile,
        };
        let mut slot = Self {
            id: [0; 16],
            kdf,
            salt: [0; SALT_LEN],
            nonce: Nonce([0; 24]),
            wrapped: [0; WRAPPED_LEN],
            commitment: [0; 32],
        };
        random.fill(&mut slot.id)?;
        random.fill(&mut slot.salt)?;
        random.fill(&mut slot.nonce.0)?;
        let derived = slot.derive(opener)?.expect("the slot was made for this kind of opener");
        let (wrapping, commitment) = halves(&derived);
        slot.commitment = *commitment;
        let mut wrapped = Vec::with_capacity(WRAPPED_LEN);
        AeadKey::new(Suite::Xaes256Gcm, wrapping).seal(
            &slot.nonce,
            slot.aad(vault_id).as_bytes(),
            vault_key.expose(),
            &mut wrapped,
        );
        slot.wrapped.copy_from_slice(&wrapped);
        Ok(slot)
    }

    /// Unwraps the vault key.
    ///
    /// # Errors
    ///
    /// [`SlotError::Wrong`] if the opener is of another kind or another value, [`SlotError::Tampered`] if it is the
    /// right one and the slot was changed, [`SlotError::Kdf`].
    pub fn open(&self, vault_id: &[u8; 16], opener: &Opener) -> Result<VaultKey, SlotError> {
        let derived = self.derive(opener)?.ok_or(SlotError::Wrong(self.kdf.name()))?;
        let (wrapping, commitment) = halves(&derived);
        if !equal(commitment, &self.commitment) {
            return Err(SlotError::Wrong(self.kdf.name()));
        }
        let mut opened = Zeroizing::new(Vec::with_capacity(32 + TAG_LEN));
        AeadKey::new(Suite::Xaes256Gcm, wrapping)
            .open(&self.nonce, self.aad(vault_id).as_bytes(), &self.wrapped, &mut opened)
            .map_err(|_| SlotError::Tampered)?;
        let key: &[u8; 32] = opened.as_slice().try_into().map_err(|_| SlotError::Tampered)?;
        Ok(VaultKey::from_bytes(key))
    }

    /// Every public field and the vault's id: what the wrapping authenticates.
    fn aad(&self, vault_id: &[u8; 16]) -> Canonical {
        let cost = match self.kdf {
            SlotKdf::Passphrase(params) => [params.memory_kib(), params.passes(), params.lanes()],
            SlotKdf::RecoveryCode | SlotKdf::KeyFile => [0; 3],
        };
        cost.into_iter()
            .fold(Canonical::new("reseal/v1/slot").bytes(vault_id), |aad, n| aad.u64(n.into()))
            .u64(self.kdf.id().into())
            .bytes(&self.id)
            .bytes(&self.salt)
            .bytes(&self.commitment)
    }

    /// The 64 derived bytes, or `None` if the opener is of another kind than the slot.
    fn derive(&self, opener: &Opener) -> Result<Option<Zeroizing<[u8; OUTPUT_LEN]>>, KdfError> {
        let code = match (self.kdf, opener) {
            (SlotKdf::Passphrase(params), Opener::Passphrase(passphrase)) => {
                return kdf::derive(passphrase, &self.salt, params).map(Some);
            }
            (SlotKdf::RecoveryCode, Opener::RecoveryCode(code))
            | (SlotKdf::KeyFile, Opener::KeyFile(code)) => code,
            _ => return Ok(None),
        };
        let mut derived = Zeroizing::new([0; OUTPUT_LEN]);
        // EXPOSE: HKDF reads the code and keeps no copy.
        hkdf_sha256(code.expose(), &self.salt, self.kdf.label(), &mut *derived);
        Ok(Some(derived))
    }
}

fn halves(derived: &[u8; OUTPUT_LEN]) -> (&[u8; 32], &[u8; 32]) {
    let (wrapping, commitment) = derived.split_at(32);
    let half = "64 bytes are two halves of 32";
    (wrapping.try_into().expect(half), commitment.try_into().expect(half))
}
