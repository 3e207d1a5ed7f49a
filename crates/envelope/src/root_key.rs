//! The KMS's root key: it seals key material at rest.
//!
//! Sealed material is `salt (32) | AES-256-GCM ciphertext and tag`; the key of each seal is
//! HMAC-SHA-256(root key, `keystead root 1`, 0x00, salt), used once with an IV of zeroes. The
//! caller's associated data names account, Region, key id and material id, so that sealed material
//! moved to another record does not open.

use crate::kdf::hmac_sha256;
use crate::memory::{DataKey, MemoryError};
use crate::random;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

const SEAL: &[u8] = b"keystead root 1\0";
const SALT: usize = 32;

/// Why sealed material is not made or not opened.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// Another root key, another record, or tampering.
    #[error("the sealed key material does not open")]
    Invalid,
    /// No key memory.
    #[error("no key memory")]
    Memory(#[from] MemoryError),
}

/// Seals key material at rest; also the parent of keys derived for other uses of the KMS.
pub struct RootKey(DataKey);

impl RootKey {
    /// Takes over 32 bytes; `None` when there are not 32.
    pub fn new(key: DataKey) -> Option<Self> {
        (key.len() == 32).then_some(Self(key))
    }

    /// A key for another use, named by its label.
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        let key = hmac_sha256(self.0.expose(), &[b"keystead derive 1\0", label.as_bytes()]);
        let mut out = Zeroizing::new([0; 32]);
        out.copy_from_slice(&key);
        out
    }

    fn key(&self, salt: &[u8]) -> LessSafeKey {
        let key = hmac_sha256(self.0.expose(), &[SEAL, salt]);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes are an AES-256 key"))
    }

    /// Seals bytes bound to `aad`.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, RootKeyError> {
        let salt = random::array::<SALT>().map_err(MemoryError::from)?;
        // With room for the tag: growing would leave a copy of the plaintext behind.
        let mut sealed = Zeroizing::new(Vec::with_capacity(plaintext.len() + 16));
        sealed.extend_from_slice(plaintext);
        self.key(&salt)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key([0; 12]),
                Aad::from(aad),
                &mut *sealed,
            )
            .expect("AES-GCM seals a short message");
        Ok([salt.as_slice(), sealed.as_slice()].concat())
    }

    /// Opens what [`Self::seal`] made, into the arena.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<DataKey, RootKeyError> {
        let mut plain = self.open_bytes(aad, sealed)?;
        Ok(DataKey::from_slice_zeroizing(&mut plain)?)
    }

    /// Opens sealed bytes that are not a key.
    pub fn open_bytes(
        &self,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, RootKeyError> {
        let (salt, body) = sealed.split_at_checked(SALT).ok_or(RootKeyError::Invalid)?;
        let mut body = Zeroizing::new(body.to_vec());
        let len = self
            .key(salt)
            .open_in_place(Nonce::assume_unique_for_key([0; 12]), Aad::from(aad), &mut body)
            .map_err(|_| RootKeyError::Invalid)?
            .len();
        body.truncate(len);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_material_opens_only_in_its_place() {
        let root = RootKey::new(DataKey::random(32).expect("key memory")).expect("32 bytes");
        let material = DataKey::random(32).expect("key memory");
        let sealed = root.seal(b"key 1", material.expose()).expect("it seals");
        assert_eq!(root.open(b"key 1", &sealed).expect("it opens").expose(), material.expose());
        assert!(root.open(b"key 2", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 0x10;
            assert!(root.open(b"key 1", &bad).is_err(), "byte {at}");
        }
        let other = RootKey::new(DataKey::random(32).expect("key memory")).expect("32 bytes");
        assert!(other.open(b"key 1", &sealed).is_err());
        assert_ne!(*root.derive("a"), *root.derive("b"));
    }
}
