//! The LUKS2 header of a volume image (`docs/formats/luks2-volume.md`), written and read in memory.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4096 + 12 KiB | primary binary header, JSON area |
//! | 16 KiB | 4096 + 12 KiB | secondary of both |
//! | 32 KiB | 252 KiB | keyslot 0: the volume key, split into 4000 stripes, sealed under the passphrase |
//! | 16 MiB | | payload, AES-256-XTS, 4096-byte sectors |
//!
//! The passphrase is a 64-byte KMS data key, so 1000 rounds of PBKDF2 are enough. Refused: no
//! valid header, another layout than the one written here, a passphrase that does not open the
//! keyslot, a volume key that does not fit the digest.

mod af;
mod binary;
mod json;

pub use json::{Holes, Token};

use crate::kdf::pbkdf2_sha256;
use crate::memory::{DataKey, MemoryError};
use crate::random::{self, RandomError};
use crate::xts::{KEY_BYTES, XtsContext, XtsError, XtsKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use json::{AREA_BYTES, AREA_OFFSET, Header, PAYLOAD_OFFSET};
use std::num::NonZeroU32;
use zeroize::Zeroizing;

const ITERATIONS: NonZeroU32 = NonZeroU32::new(1000).expect("not zero");
/// Bytes of the header that [`format`] answers; all of them lie before the payload.
pub const HEADER_BYTES: usize = AREA_OFFSET + AREA_BYTES;

/// Why a header is not made or not opened.
#[derive(Debug, thiserror::Error)]
pub enum Luks2Error {
    /// Neither copy of the header is valid.
    #[error("no valid LUKS2 header: {0}")]
    NoHeader(&'static str),
    /// Valid LUKS2, but not as Keystead writes it.
    #[error("not a Keystead volume: {0}")]
    Foreign(String),
    /// The passphrase does not open the keyslot, or the keyslot was tampered with.
    #[error("the passphrase does not open the volume")]
    Passphrase,
    /// The volume key is refused.
    #[error("the volume key is refused")]
    Key(#[from] XtsError),
    /// No key memory.
    #[error("no key memory")]
    Memory(#[from] MemoryError),
    /// No randomness.
    #[error("no random bytes")]
    Random(#[from] RandomError),
}

/// A volume opened by its passphrase.
pub struct Opened {
    /// Encrypts the payload.
    pub volume_key: XtsKey,
    /// What the header says of the wrapped passphrase; our record is the authority.
    pub token: Token,
    /// Digest of the volume key, hexadecimal.
    pub key_digest: String,
}

/// Makes the header of a new volume; answers its bytes and the digest of the volume key.
pub fn format(
    volume_key: &XtsKey,
    passphrase: &DataKey,
    token: &Token,
    uuid: &str,
) -> Result<(Vec<u8>, String), Luks2Error> {
    let slot_salt = random::array::<32>()?;
    let digest_salt = random::array::<32>()?;
    let mut digest = [0u8; 32];
    pbkdf2_sha256(volume_key.expose(), &digest_salt, ITERATIONS, &mut digest);
    let header = Header::new(token.clone(), &slot_salt, &digest_salt, &digest);
    let mut out = vec![0u8; HEADER_BYTES];
    binary::write(&mut out, &header.to_json(), uuid)?;
    let mut split = af::split(volume_key.expose(), AREA_BYTES)?;
    slot_context(passphrase, &slot_salt)?.keyslot(&mut split, true);
    out[AREA_OFFSET..].copy_from_slice(&split);
    Ok((out, hex::encode(digest)))
}

/// Reads the token and the digest of the volume key, without a key.
pub fn read_token(header: &[u8]) -> Result<(Token, String), Luks2Error> {
    let parsed = Header::parse(binary::read(header)?)?;
    Ok((parsed.token, hex::encode(parsed.digest)))
}

/// Opens a volume by its passphrase.
pub fn open(header: &[u8], passphrase: &DataKey) -> Result<Opened, Luks2Error> {
    let parsed = Header::parse(binary::read(header)?)?;
    let area =
        header.get(AREA_OFFSET..HEADER_BYTES).ok_or(Luks2Error::NoHeader("it is cut short"))?;
    let mut area = Zeroizing::new(area.to_vec());
    slot_context(passphrase, &parsed.slot_salt)?.keyslot(&mut area, false);
    let mut key = af::merge(&area);
    let mut digest = vec![0u8; parsed.digest.len()];
    pbkdf2_sha256(&*key, &parsed.digest_salt, ITERATIONS, &mut digest);
    if verify_slices_are_equal(&digest, &parsed.digest).is_err() {
        return Err(Luks2Error::Passphrase);
    }
    let volume_key = XtsKey::new(DataKey::from_slice_zeroizing(&mut *key)?)?;
    Ok(Opened { volume_key, token: parsed.token, key_digest: hex::encode(parsed.digest) })
}

fn slot_context(passphrase: &DataKey, salt: &[u8]) -> Result<XtsContext, Luks2Error> {
    let mut key = Zeroizing::new([0u8; KEY_BYTES]);
    pbkdf2_sha256(passphrase.expose(), salt, ITERATIONS, &mut *key);
    Ok(XtsContext::from_bytes(&*key)?)
}

/// Where the payload begins, in bytes.
pub const fn payload_offset() -> u64 {
    PAYLOAD_OFFSET
}

#[cfg(test)]
mod tests;
