//! Key slots: each wraps the vault key under something a person or a machine holds.
//!
//! ```text
//! 64 bytes = Argon2id(passphrase, salt)
//!          | HKDF-SHA-256(recovery code, salt, "reseal/v1/slot/recovery-code")
//!          | HKDF-SHA-256(key file, salt, "reseal/v1/slot/key-file")
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
/// Bytes of a recovery code and of a key file: 256 random bits, so that HKDF suffices for them.
pub const CODE_LEN: usize = 32;
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
    /// A recovery code or key file too short or too long to make a slot with: it would not hold 256 random bits.
    #[error("a {0} has 32 bytes, not {1}")]
    CodeLength(&'static str, usize),
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
    /// [`SlotError::CodeLength`], [`SlotError::Kdf`] or [`SlotError::Random`].
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
        if let Opener::RecoveryCode(code) | Opener::KeyFile(code) = opener
            && code.len() != CODE_LEN
        {
            return Err(SlotError::CodeLength(kdf.name(), code.len()));
        }
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
        self.unwrap(vault_id, &derived)
    }

    /// Compares the commitment, then opens the wrapping.
    fn unwrap(&self, vault_id: &[u8; 16], derived: &[u8; OUTPUT_LEN]) -> Result<VaultKey, SlotError> {
        let (wrapping, commitment) = halves(derived);
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
        let (code, label): (_, &[u8]) = match (self.kdf, opener) {
            (SlotKdf::Passphrase(params), Opener::Passphrase(passphrase)) => {
                return kdf::derive(passphrase, &self.salt, params).map(Some);
            }
            (SlotKdf::RecoveryCode, Opener::RecoveryCode(code)) => (code, b"reseal/v1/slot/recovery-code"),
            (SlotKdf::KeyFile, Opener::KeyFile(code)) => (code, b"reseal/v1/slot/key-file"),
            _ => return Ok(None),
        };
        let mut derived = Zeroizing::new([0; OUTPUT_LEN]);
        // EXPOSE: HKDF reads the code and keeps no copy.
        hkdf_sha256(code.expose(), &self.salt, label, &mut *derived);
        Ok(Some(derived))
    }
}

fn halves(derived: &[u8; OUTPUT_LEN]) -> (&[u8; 32], &[u8; 32]) {
    let (wrapping, commitment) = derived.split_at(32);
    let half = "64 bytes are two halves of 32";
    (wrapping.try_into().expect(half), commitment.try_into().expect(half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    const VAULT: [u8; 16] = [3; 16];

    fn code(byte: u8) -> SecretBytes {
        SecretBytes::new(vec![byte; CODE_LEN])
    }

    fn passphrase(text: &str) -> Opener {
        Opener::Passphrase(Passphrase::new(SecretBytes::copy_from(text.as_bytes())).expect("not empty"))
    }

    fn key() -> VaultKey {
        VaultKey::from_bytes(&[0x42; 32])
    }

    fn make(opener: &Opener) -> Slot {
        Slot::make(&VAULT, &key(), opener, KdfParams::FLOOR, &SeededRandom::new(1)).expect("a slot is made")
    }

    /// Every slot that differs from `slot` in one bit of a field, with the name of that field.
    fn flipped(slot: &Slot) -> impl Iterator<Item = (&'static str, Slot)> {
        type Field = (&'static str, fn(&mut Slot) -> &mut [u8]);
        const FIELDS: [Field; 5] = [
            ("id", |slot| &mut slot.id),
            ("salt", |slot| &mut slot.salt),
            ("nonce", |slot| &mut slot.nonce.0),
            ("wrapped", |slot| &mut slot.wrapped),
            ("commitment", |slot| &mut slot.commitment),
        ];
        FIELDS.into_iter().flat_map(move |(name, field)| {
            let bits = field(&mut slot.clone()).len() * 8;
            (0..bits).map(move |bit| {
                let mut changed = slot.clone();
                field(&mut changed)[bit / 8] ^= 1 << (bit % 8);
                (name, changed)
            })
        })
    }

    #[test]
    fn every_kind_opens_for_its_own_opener_only() {
        let openers = [passphrase("correct horse"), Opener::RecoveryCode(code(1)), Opener::KeyFile(code(1))];
        for (i, made_for) in openers.iter().enumerate() {
            let slot = make(made_for);
            for (j, opener) in openers.iter().enumerate() {
                match slot.open(&VAULT, opener) {
                    Ok(opened) => assert!(i == j && opened == key()),
                    Err(error) => assert!(i != j && matches!(error, SlotError::Wrong(_)), "{error:?}"),
                }
            }
            let elsewhere = slot.open(&[4; 16], made_for);
            assert!(matches!(elsewhere, Err(SlotError::Tampered)), "a slot of another vault: {elsewhere:?}");
        }
        let wrong = make(&openers[0]).open(&VAULT, &passphrase("correct horsf"));
        assert!(matches!(wrong, Err(SlotError::Wrong("passphrase"))), "{wrong:?}");
    }

    #[test]
    fn codes_of_another_length_make_no_slot() {
        for length in [0, 16, 31, 33] {
            let short = SecretBytes::new(vec![7; length]);
            for opener in [Opener::RecoveryCode(short.clone()), Opener::KeyFile(short)] {
                let refused = Slot::make(&VAULT, &key(), &opener, KdfParams::FLOOR, &SeededRandom::new(1));
                assert!(matches!(refused, Err(SlotError::CodeLength(_, n)) if n == length), "{refused:?}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_a_code_slot_is_refused_with_its_kind() {
        for opener in [Opener::RecoveryCode(code(5)), Opener::KeyFile(code(5))] {
            let mut bits = 0;
            for (field, slot) in flipped(&make(&opener)) {
                let error = slot.open(&VAULT, &opener).expect_err("a changed slot must not open");
                // A changed salt derives other bytes, which the commitment then disowns.
                let expected = match field {
                    "salt" | "commitment" => matches!(error, SlotError::Wrong(_)),
                    _ => matches!(error, SlotError::Tampered),
                };
                assert!(expected, "{field}: {error:?}");
                bits += 1;
            }
            assert_eq!(bits, (16 + 32 + 24 + WRAPPED_LEN + 32) * 8);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_passphrase_slot_is_refused_with_its_kind() {
        let opener = passphrase("correct horse");
        let slot = make(&opener);
        // Argon2id once: the associated data refuses a changed salt even if it derived the same bytes.
        let derived = slot.derive(&opener).expect("derives").expect("the right kind");
        for (field, changed) in flipped(&slot) {
            let error = changed.unwrap(&VAULT, &derived).expect_err("a changed slot must not open");
            let expected = match field {
                "commitment" => matches!(error, SlotError::Wrong(_)),
                _ => matches!(error, SlotError::Tampered),
            };
            assert!(expected, "{field}: {error:?}");
        }
        for byte in (0..SALT_LEN).step_by(8) {
            let mut changed = slot.clone();
            changed.salt[byte] ^= 1;
            assert!(matches!(changed.open(&VAULT, &opener), Err(SlotError::Wrong(_))), "salt byte {byte}");
        }
    }

    #[test]
    fn changed_cost_is_refused() {
        let opener = passphrase("correct horse");
        let slot = make(&opener);
        let derived = slot.derive(&opener).expect("derives").expect("the right kind");
        for (memory_kib, passes, lanes) in [(64 * 1024 + 1, 3, 4), (64 * 1024, 4, 4), (64 * 1024, 3, 3)] {
            let params = KdfParams::new(memory_kib, passes, lanes).expect("within the limits");
            let changed = Slot { kdf: SlotKdf::Passphrase(params), ..slot.clone() };
            assert!(matches!(changed.open(&VAULT, &opener), Err(SlotError::Wrong(_))));
            assert!(matches!(changed.unwrap(&VAULT, &derived), Err(SlotError::Tampered)));
        }
        for kdf in [SlotKdf::RecoveryCode, SlotKdf::KeyFile] {
            let changed = Slot { kdf, ..slot.clone() };
            assert!(matches!(changed.open(&VAULT, &opener), Err(SlotError::Wrong(_))));
            assert!(matches!(changed.unwrap(&VAULT, &derived), Err(SlotError::Tampered)));
        }
    }
}
