//! What a plan file says about a column's format, and how that becomes a [`Codec`].
//!
//! ```toml
//! from = { format = "pgcrypto", encoding = "base64" }
//! to   = { format = "reseal", binding = "row" }
//! to   = { format = "aes-gcm", bits = 256, layout = "nonce|tag|ciphertext", aad = "AES256GCM" }
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

use reseal_crypto::aead::{ForeignKey, ForeignSuite, TAG_LEN};
use reseal_crypto::envelope::{self, EnvelopeKey};
use reseal_crypto::{Binding, ColumnId, KeyMaterial, Suite};
use serde::{Deserialize, Serialize};

use crate::aead::{AeadFormat, Layout, LayoutError};
use crate::codec::Codec;
use crate::encoding::Encoding;
use crate::envelope::EnvelopeFormat;
use crate::fernet::{self, FernetFormat};
use crate::format::Format;
use crate::key::{self, KeyError};
use crate::pgcrypto::{self, PgcryptoFormat};
use crate::spec_pgcrypto::PgcryptoSpec;

/// What a column of the database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnType {
    /// Bytes: `bytea`, `BLOB`.
    Bytes,
    /// Text: `text`, `varchar`, `citext`.
    Text,
}

/// The description does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The encoding does not go with the format, or not with the column.
    #[error("{format} values do not stand in {encoding} in a {column} column")]
    Encoding {
        /// Name of the format.
        format: &'static str,
        /// Name of the encoding.
        encoding: &'static str,
        /// `text` or `bytes`.
        column: &'static str,
    },
    /// The layout cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// An option is outside of what the format knows.
    #[error("{option} must be {allowed}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
}

/// One format as a plan describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format")]
#[non_exhaustive]
pub enum FormatSpec {
    /// Our envelope.
    #[serde(rename = "reseal")]
    Reseal(ResealSpec),
    /// Messages of pgcrypto's `pgp_sym_encrypt`.
    #[serde(rename = "pgcrypto")]
    Pgcrypto(PgcryptoSpec),
    /// Fernet tokens.
    #[serde(rename = "fernet")]
    Fernet(FernetSpec),
    /// AES-GCM by the application itself.
    #[serde(rename = "aes-gcm")]
    AesGcm(AesGcmSpec),
    /// ChaCha20-Poly1305 by the application itself.
    #[serde(rename = "chacha20-poly1305")]
    ChaCha20Poly1305(ChaChaSpec),
}

/// Options of our envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResealSpec {
    /// What a value is tied to; `column` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<BindingName>,
    /// The cipher; `xaes-256-gcm` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<SuiteName>,
    /// `raw` or `text`; by default what the column is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<EncodingName>,
}

/// Options of Fernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FernetSpec {
    /// `text`, the token as everyone writes it, or `raw`, its bytes; `text` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<EncodingName>,
}

/// Options of AES-GCM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AesGcmSpec {
    /// Bits of the key: 128, 192 or 256, the default.
    #[serde(default = "default_bits")]
    pub bits: u16,
    /// Bytes of the nonce: 12, the default, or 16.
    #[serde(default = "default_nonce")]
    pub nonce: u8,
    /// The order of the parts; `nonce|ciphertext|tag` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// Associated data, the same for every value; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aad: Option<String>,
    /// The text encoding; detected in text columns by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<EncodingName>,
}

/// Options of ChaCha20-Poly1305, whose nonce has 12 bytes and whose key has 32.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChaChaSpec {
    /// The order of the parts; `nonce|ciphertext|tag` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// Associated data, the same for every value; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aad: Option<String>,
    /// The text encoding; detected in text columns by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<EncodingName>,
}

/// Names of bindings in plan files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindingName {
    /// Opens anywhere under its key.
    None,
    /// Opens in its column only.
    Column,
    /// Opens in its row of its column only.
    Row,
}

impl From<BindingName> for Binding {
    fn from(name: BindingName) -> Self {
        match name {
            BindingName::None => Self::None,
            BindingName::Column => Self::Column,
            BindingName::Row => Self::Row,
        }
    }
}

/// Names of suites in plan files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SuiteName {
    /// XAES-256-GCM.
    #[serde(rename = "xaes-256-gcm")]
    Xaes256Gcm,
    /// XChaCha20-Poly1305.
    #[serde(rename = "xchacha20-poly1305")]
    XChaCha20Poly1305,
}

impl From<SuiteName> for Suite {
    fn from(name: SuiteName) -> Self {
        match name {
            SuiteName::Xaes256Gcm => Self::Xaes256Gcm,
            SuiteName::XChaCha20Poly1305 => Self::XChaCha20Poly1305,
        }
    }
}

/// Names of encodings in plan files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EncodingName {
    /// Bytes as they are.
    #[serde(alias = "bytea")]
    Raw,
    /// The format's usual text, also in a byte column; for pgcrypto and AEADs whatever text each value stands in.
    Text,
    /// Hexadecimal; small digits where nothing else stood before.
    Hex,
    /// `\x` and hexadecimal, as `bytea` looks when cast to text.
    ByteaHex,
    /// Base64; broken into lines for pgcrypto, as `encode` does, in one line otherwise.
    Base64,
    /// Base64 with a line break every 76 characters.
    Base64Lines,
    /// Base64 in one line.
    Base64OneLine,
    /// Base64url with padding.
    Base64url,
    /// Base64url without padding.
    Base64urlUnpadded,
    /// OpenPGP armor.
    Armor,
}

impl EncodingName {
    const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Text => "text",
            Self::Hex => "hex",
            Self::ByteaHex => "bytea-hex",
            Self::Base64 => "base64",
            Self::Base64Lines => "base64-lines",
            Self::Base64OneLine => "base64-one-line",
            Self::Base64url => "base64url",
            Self::Base64urlUnpadded => "base64url-unpadded",
            Self::Armor => "armor",
        }
    }
}

/// How a column's encoding was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// Every value stands in this one, in either layout.
    Fixed(Encoding),
    /// Every value says itself; this one for values that come from elsewhere.
    Detected(Encoding),
}

impl Settled {
    fn written(self) -> Encoding {
        match self {
            Self::Fixed(encoding) | Self::Detected(encoding) => encoding,
        }
    }

    /// The encodings that values may stand in.
    fn possible(self) -> Vec<Encoding> {
        let base64 = [true, false].map(|lines| Encoding::Base64 { lines });
        match self {
            Self::Fixed(Encoding::Base64 { .. }) => base64.to_vec(),
            Self::Fixed(encoding) => vec![encoding],
            Self::Detected(_) => {
                let hex = [true, false].map(|escaped| Encoding::Hex { escaped, upper: false });
                [&base64[..], &hex, &[Encoding::Armor]].concat()
            }
        }
    }

    /// Whether a value that stood in `encoding` is written in it again.
    fn keeps(self, encoding: Encoding) -> bool {
        match self {
            Self::Fixed(own) => own.same_family(encoding),
            Self::Detected(_) => encoding.known_by_look(),
        }
    }
}

impl FormatSpec {
    /// The name of the format, as in plan files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reseal(_) => crate::envelope::NAME,
            Self::Pgcrypto(_) => pgcrypto::NAME,
            Self::Fernet(_) => fernet::NAME,
            Self::AesGcm(_) => "aes-gcm",
            Self::ChaCha20Poly1305(_) => "chacha20-poly1305",
        }
    }

    /// What values are tied to, if the format ties them to anything.
    pub fn binding(&self) -> Binding {
        match self {
            Self::Reseal(spec) => spec.binding.map_or(Binding::Column, Binding::from),
            _ => Binding::None,
        }
    }

    /// Whether values may be written in this format: only where a wrong key or a changed value is always noticed.
    pub fn writable(&self) -> bool {
        !matches!(self, Self::Pgcrypto(spec) if spec.allow_no_mdc)
    }

    /// This description as a target: without what it allows for reading only.
    ///
    /// What a plan means that names no target: the same format under the new key.
    #[must_use]
    pub fn as_target(&self) -> Self {
        match self {
            Self::Pgcrypto(spec) => Self::Pgcrypto(PgcryptoSpec { allow_no_mdc: false, ..*spec }),
            other => other.clone(),
        }
    }

    /// Checks that the description holds together for a column of this type.
    ///
    /// # Errors
    ///
    /// [`SpecError`] names the option.
    pub fn check(&self, column: ColumnType) -> Result<(), SpecError> {
        self.settle(column)?;
        match self {
            Self::Pgcrypto(spec) => spec.options().map(|_| ()),
            Self::AesGcm(spec) => {
                aes_suite(spec.bits)?;
                if !matches!(spec.nonce, 12 | 16) {
                    return Err(SpecError::Option { option: "nonce", allowed: "12 or 16" });
                }
                layout(spec.layout.as_deref()).map(|_| ())
            }
            Self::ChaCha20Poly1305(spec) => layout(spec.layout.as_deref()).map(|_| ()),
            Self::Reseal(_) | Self::Fernet(_) => Ok(()),
        }
    }

    /// Joins the description with a key: how the values of `column` are opened and sealed.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the key or the description does not serve.
    pub fn codec(
        &self,
        column_type: ColumnType,
        key: &KeyMaterial,
        column: ColumnId,
    ) -> Result<Codec, KeyError> {
        self.check(column_type)?;
        let format = self.format(key, column)?;
        Ok(match self.settle(column_type)? {
            Settled::Fixed(encoding) => Codec::new(format, encoding),
            Settled::Detected(encoding) => Codec::detecting(format, encoding),
        })
    }

    /// The longest that a value can be, in bytes or characters of the column, that holds `plaintext_len` bytes and
    /// comes from another format.
    ///
    /// # Errors
    ///
    /// [`SpecError`] as [`FormatSpec::check`] gives it.
    pub fn stored_len_max(&self, column: ColumnType, plaintext_len: usize) -> Result<usize, SpecError> {
        Ok(self.settle(column)?.written().encoded_len(self.message_len_max(plaintext_len)?))
    }

    /// The longest that a value of this format, `stored_len` bytes or characters long, can become in the format `to`.
    ///
    /// Exact where the format stays, as long as no option of `to` makes messages longer. A compressed pgcrypto message
    /// says nothing about the length of its plaintext: it is taken to be uncompressed.
    ///
    /// # Errors
    ///
    /// [`SpecError`] as [`FormatSpec::check`] gives it.
    pub fn grown_len(&self, to: &Self, column: ColumnType, stored_len: usize) -> Result<usize, SpecError> {
        if self == to
            && !matches!(to, Self::Pgcrypto(spec) if spec.options()? != pgcrypto::Options::default())
        {
            return Ok(stored_len);
        }
        let keeps_shape = self.seals_like(to);
        let written = to.settle(column)?;
        let mut longest = 0;
        for encoding in self.settle(column)?.possible() {
            let message_len = encoding.decoded_len_max(stored_len);
            let plaintext_len = message_len.saturating_sub(self.overhead_min());
            let grown = match to {
                Self::Pgcrypto(spec) if keeps_shape => spec.options()?.message_len_max(plaintext_len),
                _ => to.message_len_max(plaintext_len)?,
            };
            let encoding = if keeps_shape && written.keeps(encoding) { encoding } else { written.written() };
            longest = longest.max(encoding.encoded_len(grown));
        }
        Ok(longest)
    }

    fn message_len_max(&self, plaintext_len: usize) -> Result<usize, SpecError> {
        Ok(match self {
            Self::Reseal(_) => plaintext_len + envelope::OVERHEAD,
            Self::Pgcrypto(spec) => spec.options()?.for_new_values().message_len_max(plaintext_len),
            Self::Fernet(_) => 57 + (plaintext_len / 16 + 1) * 16,
            Self::AesGcm(spec) => plaintext_len + layout(spec.layout.as_deref())?.overhead(spec.nonce.into()),
            Self::ChaCha20Poly1305(spec) => plaintext_len + layout(spec.layout.as_deref())?.overhead(12),
        })
    }

    /// Bytes that a message has at least beside its plaintext.
    fn overhead_min(&self) -> usize {
        match self {
            Self::Reseal(_) => envelope::OVERHEAD,
            // No salt, one-byte lengths: 6 for the key packet, 3 + 18 + 2 + 6 + 22 for the data.
            Self::Pgcrypto(_) => 57,
            Self::Fernet(_) => 57 + 1,
            Self::AesGcm(spec) => usize::from(spec.nonce) + TAG_LEN,
            Self::ChaCha20Poly1305(_) => 12 + TAG_LEN,
        }
    }

    /// Whether values of this format keep their look in the format `to`: see [`Format::continues`].
    fn seals_like(&self, to: &Self) -> bool {
        let plain = |spec: &Self| matches!(spec, Self::AesGcm(_) | Self::ChaCha20Poly1305(_));
        self.name() == to.name() || (plain(self) && plain(to))
    }

    fn format(&self, key: &KeyMaterial, column: ColumnId) -> Result<Box<dyn Format>, KeyError> {
        let foreign = |expected| key::decode(self.name(), &key.foreign_bytes(), expected);
        Ok(match self {
            Self::Reseal(spec) => {
                let KeyMaterial::Column(key) = key else { return Err(KeyError::NotAColumnKey) };
                let suite = spec.suite.map_or(Suite::Xaes256Gcm, Suite::from);
                Box::new(EnvelopeFormat::new(EnvelopeKey::new(key, suite, self.binding(), column)))
            }
            Self::Pgcrypto(spec) => {
                let passphrase = key.foreign_bytes();
                if passphrase.is_empty() {
                    return Err(KeyError::Empty);
                }
                Box::new(PgcryptoFormat::new(passphrase, spec.options()?, spec.unhashed(), now))
            }
            Self::Fernet(_) => {
                let key = foreign(fernet::KEY_LEN)?;
                // EXPOSE: the format copies the two halves into types that wipe.
                let bytes = key.expose().try_into().expect("the key was decoded to this length");
                Box::new(FernetFormat::new(bytes, now))
            }
            Self::AesGcm(spec) => {
                let suite = aes_suite(spec.bits)?;
                let nonce_len = usize::from(spec.nonce);
                self.aead(suite, nonce_len, spec.layout.as_deref(), spec.aad.as_deref(), &foreign)?
            }
            Self::ChaCha20Poly1305(spec) => {
                let suite = ForeignSuite::ChaCha20Poly1305;
                self.aead(suite, 12, spec.layout.as_deref(), spec.aad.as_deref(), &foreign)?
            }
        })
    }

    fn aead(
        &self,
        suite: ForeignSuite,
        nonce_len: usize,
        order: Option<&str>,
        aad: Option<&str>,
        key: &dyn Fn(usize) -> Result<reseal_crypto::SecretBytes, KeyError>,
    ) -> Result<Box<dyn Format>, KeyError> {
        let expected = suite.key_len();
        // EXPOSE: the cipher prepares its schedule from the bytes and keeps no copy.
        let key = ForeignKey::new(suite, key(expected)?.expose(), nonce_len)
            .map_err(|_| KeyError::Length { format: self.name(), expected })?;
        let aad = aad.unwrap_or_default().as_bytes().to_vec();
        Ok(Box::new(AeadFormat::new(self.name(), key, nonce_len, layout(order)?, aad)))
    }

    fn encoding_name(&self) -> Option<EncodingName> {
        match self {
            Self::Reseal(spec) => spec.encoding,
            Self::Pgcrypto(spec) => spec.encoding,
            Self::Fernet(spec) => spec.encoding,
            Self::AesGcm(spec) => spec.encoding,
            Self::ChaCha20Poly1305(spec) => spec.encoding,
        }
    }

    fn settle(&self, column: ColumnType) -> Result<Settled, SpecError> {
        use EncodingName as Name;
        let token = Encoding::Base64Url { padded: true };
        let lines = matches!(self, Self::Pgcrypto(_));
        let name = self.encoding_name();
        let settled = match (self, name, column) {
            (_, Some(Name::Raw), ColumnType::Text) => None,
            (Self::Reseal(_), Some(Name::Text), _) | (Self::Reseal(_), None, ColumnType::Text) => {
                Some(Settled::Fixed(Encoding::Reseal))
            }
            (Self::Fernet(_), None | Some(Name::Text | Name::Base64url), _) => Some(Settled::Fixed(token)),
            (_, None | Some(Name::Raw), ColumnType::Bytes) => Some(Settled::Fixed(Encoding::Raw)),
            (Self::Reseal(_) | Self::Fernet(_), _, _) => None,
            (_, None | Some(Name::Text), _) => Some(Settled::Detected(Encoding::Base64 { lines })),
            (Self::Pgcrypto(_), Some(Name::Armor), _) => Some(Settled::Fixed(Encoding::Armor)),
            (_, Some(name), _) => fixed(name, lines).map(Settled::Fixed),
        };
        settled.ok_or(SpecError::Encoding {
            format: self.name(),
            encoding: name.map_or("their default", EncodingName::name),
            column: if column == ColumnType::Text { "text" } else { "bytes" },
        })
    }
}

fn fixed(name: EncodingName, lines: bool) -> Option<Encoding> {
    Some(match name {
        EncodingName::Hex => Encoding::Hex { escaped: false, upper: false },
        EncodingName::ByteaHex => Encoding::Hex { escaped: true, upper: false },
        EncodingName::Base64 => Encoding::Base64 { lines },
        EncodingName::Base64Lines => Encoding::Base64 { lines: true },
        EncodingName::Base64OneLine => Encoding::Base64 { lines: false },
        EncodingName::Base64url => Encoding::Base64Url { padded: true },
        EncodingName::Base64urlUnpadded => Encoding::Base64Url { padded: false },
        EncodingName::Raw | EncodingName::Text | EncodingName::Armor => return None,
    })
}

fn aes_suite(bits: u16) -> Result<ForeignSuite, SpecError> {
    match bits {
        128 => Ok(ForeignSuite::Aes128Gcm),
        192 => Ok(ForeignSuite::Aes192Gcm),
        256 => Ok(ForeignSuite::Aes256Gcm),
        _ => Err(SpecError::Option { option: "bits", allowed: "128, 192 or 256" }),
    }
}

fn layout(text: Option<&str>) -> Result<Layout, SpecError> {
    text.map_or_else(|| Ok(Layout::default()), |text| Ok(text.parse()?))
}

fn default_bits() -> u16 {
    256
}

fn default_nonce() -> u8 {
    12
}

/// Seconds since 1970, for values whose own format did not say when they were made.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
