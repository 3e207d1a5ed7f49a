//! A message's own key, derived from the data key and the message's id, and what it does.

use super::header::{Header, SUITE};
use super::{ID_BYTES, IV, MessageError, TAG};
use crate::memory::{DataKey, wiped_after};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Salt};
use zeroize::Zeroizing;

/// Length of a data key, in bytes.
pub(super) const DATA_KEY: usize = 32;
const FRAME: &[u8] = b"AWSKMSEncryptionClient Frame";
const LAST_FRAME: &[u8] = b"AWSKMSEncryptionClient Final Frame";

struct Bytes32;
impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

/// The key of one message; lives for one stretch of CPU work.
pub(super) struct MessageKey {
    key: LessSafeKey,
    id: [u8; ID_BYTES],
}

/// Derives a message's key and what it commits to.
pub(super) fn derive(
    data_key: &DataKey,
    id: &[u8; ID_BYTES],
) -> Result<(MessageKey, [u8; 32]), MessageError> {
    if data_key.len() != DATA_KEY {
        return Err(MessageError::OtherKey);
    }
    Ok(wiped_after(|| {
        let root = Salt::new(HKDF_SHA512, id).extract(data_key.expose());
        let expand = |info: &[&[u8]], out: &mut [u8]| {
            let okm = root.expand(info, Bytes32).expect("32 bytes can be had");
            okm.fill(out).expect("the length asked for");
        };
        let mut commitment = [0; 32];
        expand(&[b"COMMITKEY"], &mut commitment);
        let mut key = Zeroizing::new(vec![0; 32]);
        expand(&[&SUITE, b"DERIVEKEY"], &mut key);
        let key = UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes are an AES-256 key");
        (MessageKey { key: LessSafeKey::new(key), id: *id }, commitment)
    }))
}

impl MessageKey {
    /// The key of a message that is there: the data key must be the one it commits to.
    pub(super) fn of(data_key: &DataKey, header: &Header) -> Result<Self, MessageError> {
        let (key, commitment) = derive(data_key, &header.id)?;
        verify_slices_are_equal(&commitment, &header.commitment)
            .map_err(|_| MessageError::OtherKey)?;
        Ok(key)
    }

    pub(super) fn header_tag(&self, before: &[u8]) -> [u8; TAG] {
        self.tag([0; IV], before, &mut [])
    }

    pub(super) fn check_header(&self, header: &Header) -> Result<(), MessageError> {
        let ours = self.header_tag(header.before_tag());
        verify_slices_are_equal(&ours, &header.tag).map_err(|_| MessageError::Forged)
    }

    /// Encrypts a frame in place. Each number once: [`super::Sealer`] sees to it.
    pub(super) fn seal(&self, number: u32, last: bool, frame: &mut [u8]) -> [u8; TAG] {
        let aad = self.frame_aad(number, last, frame.len());
        self.tag(iv(number), &aad, frame)
    }

    /// Decrypts a frame (ciphertext, then tag) in place.
    pub(super) fn open(
        &self,
        number: u32,
        last: bool,
        sealed: &mut [u8],
    ) -> Result<(), MessageError> {
        let length = sealed.len().checked_sub(TAG).ok_or(MessageError::Forged)?;
        let aad = Aad::from(self.frame_aad(number, last, length));
        let nonce = Nonce::assume_unique_for_key(iv(number));
        self.key.open_in_place(nonce, aad, sealed).map(drop).map_err(|_| MessageError::Forged)
    }

    fn tag(&self, iv: [u8; IV], aad: &[u8], text: &mut [u8]) -> [u8; TAG] {
        let nonce = Nonce::assume_unique_for_key(iv);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(aad), text)
            .expect("a frame is short enough");
        let mut out = [0; TAG];
        out.copy_from_slice(tag.as_ref());
        out
    }

    fn frame_aad(&self, number: u32, last: bool, length: usize) -> Vec<u8> {
        let text = if last { LAST_FRAME } else { FRAME };
        let mut aad = Vec::with_capacity(ID_BYTES + text.len() + 12);
        aad.extend_from_slice(&self.id);
        aad.extend_from_slice(text);
        aad.extend_from_slice(&number.to_be_bytes());
        aad.extend_from_slice(&(length as u64).to_be_bytes());
        aad
    }
}

pub(super) fn iv(number: u32) -> [u8; IV] {
    let mut iv = [0; IV];
    iv[IV - 4..].copy_from_slice(&number.to_be_bytes());
    iv
}
