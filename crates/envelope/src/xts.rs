//! AES-256-XTS over 4096-byte sectors, as dm-crypt and LUKS2 have it, through AWS-LC.
//!
//! The tweak of sector s is 8 x s (its number in 512-byte units) as 64-bit little-endian, then
//! eight zero bytes. A context is made once a thread and key and keeps its round keys; dropping it
//! frees them through AWS-LC, which wipes them.
#![allow(unsafe_code)] // aws-lc-rs has no XTS; these are EVP calls on a context owned here.

use crate::memory::{DataKey, MemoryError};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_sys::{
    EVP_CIPHER_CTX, EVP_CIPHER_CTX_free, EVP_CIPHER_CTX_new, EVP_CipherInit_ex, EVP_CipherUpdate,
    EVP_aes_256_xts,
};
use std::ptr::{NonNull, null, null_mut};

/// Bytes of a sector.
pub const SECTOR: usize = 4096;
/// Bytes of a key: two AES-256 keys.
pub const KEY_BYTES: usize = 64;

/// Why a key or a context is refused.
#[derive(Debug, thiserror::Error)]
pub enum XtsError {
    /// Not 64 bytes.
    #[error("an XTS key has 64 bytes, not {0}")]
    Size(usize),
    /// IEEE 1619 wants two different keys.
    #[error("both halves of the XTS key are equal")]
    EqualHalves,
    /// A sector whose tweak does not fit 64 bits.
    #[error("sector {0} is beyond what XTS numbers here")]
    Sector(u64),
    /// AWS-LC gave no context.
    #[error("no cipher context")]
    Context,
    /// No key memory.
    #[error("no key memory")]
    Memory(#[from] MemoryError),
}

/// A volume key: 64 bytes in the arena, halves different.
pub struct XtsKey(DataKey);

impl XtsKey {
    /// Takes over a 64-byte key.
    pub fn new(key: DataKey) -> Result<Self, XtsError> {
        if key.len() != KEY_BYTES {
            return Err(XtsError::Size(key.len()));
        }
        let (first, second) = key.expose().split_at(KEY_BYTES / 2);
        if verify_slices_are_equal(first, second).is_ok() {
            return Err(XtsError::EqualHalves);
        }
        Ok(Self(key))
    }

    /// A new random key.
    pub fn random() -> Result<Self, XtsError> {
        Self::new(DataKey::random(KEY_BYTES)?)
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

struct Evp(NonNull<EVP_CIPHER_CTX>);

// SAFETY: the context is plain heap memory without thread affinity, used by one owner at a time.
unsafe impl Send for Evp {}

impl Evp {
    fn new(key: &[u8], encrypt: bool) -> Result<Self, XtsError> {
        debug_assert_eq!(key.len(), KEY_BYTES);
        // SAFETY: the context is checked for null and owned by the value; the key has the 64 bytes
        // that AES-256-XTS reads.
        unsafe {
            let evp = Self(NonNull::new(EVP_CIPHER_CTX_new()).ok_or(XtsError::Context)?);
            let cipher = EVP_aes_256_xts();
            let way = i32::from(encrypt);
            if EVP_CipherInit_ex(evp.0.as_ptr(), cipher, null_mut(), key.as_ptr(), null(), way) != 1
            {
                return Err(XtsError::Context);
            }
            Ok(evp)
        }
    }

    /// One data unit in place, under one tweak.
    fn unit(&mut self, tweak: u64, data: &mut [u8]) {
        let mut iv = [0u8; 16];
        iv[..8].copy_from_slice(&tweak.to_le_bytes());
        let len = i32::try_from(data.len()).expect("a data unit is a sector");
        let mut written = 0;
        // SAFETY: the context holds a key; `iv` has the 16 bytes that XTS reads; input and output
        // are the same `len` writable bytes, which EVP allows.
        let done = unsafe {
            EVP_CipherInit_ex(self.0.as_ptr(), null(), null_mut(), null(), iv.as_ptr(), -1) == 1
                && EVP_CipherUpdate(
                    self.0.as_ptr(),
                    data.as_mut_ptr(),
                    &mut written,
                    data.as_ptr(),
                    len,
                ) == 1
        };
        assert!(done && written == len, "AES-XTS takes every whole sector");
    }
}

impl Drop for Evp {
    fn drop(&mut self) {
        // SAFETY: made by EVP_CIPHER_CTX_new and freed once; AWS-LC wipes the round keys.
        unsafe { EVP_CIPHER_CTX_free(self.0.as_ptr()) };
    }
}

/// The tweak of the first sector, when that of the sector after the last fits 64 bits too.
fn first_tweak(first: u64, bytes: usize) -> Result<u64, XtsError> {
    assert_eq!(bytes % SECTOR, 0, "whole sectors only");
    let end = first.checked_add((bytes / SECTOR) as u64 + 1).and_then(|end| end.checked_mul(8));
    end.map(|_| first * 8).ok_or(XtsError::Sector(first))
}

/// Round keys for one thread: both directions under one key.
pub struct XtsContext {
    encrypt: Evp,
    decrypt: Evp,
}

impl XtsContext {
    /// Expands a key.
    pub fn new(key: &XtsKey) -> Result<Self, XtsError> {
        Self::from_bytes(key.expose())
    }

    pub(crate) fn from_bytes(key: &[u8]) -> Result<Self, XtsError> {
        if key.len() != KEY_BYTES {
            return Err(XtsError::Size(key.len()));
        }
        Ok(Self { encrypt: Evp::new(key, true)?, decrypt: Evp::new(key, false)? })
    }

    /// Encrypts whole sectors in place. A refusal leaves the buffer as it was.
    pub fn encrypt_sectors(&mut self, first_sector: u64, buf: &mut [u8]) -> Result<(), XtsError> {
        let first = first_tweak(first_sector, buf.len())?;
        for (tweak, data) in (first..).step_by(8).zip(buf.chunks_exact_mut(SECTOR)) {
            self.encrypt.unit(tweak, data);
        }
        Ok(())
    }

    /// Decrypts whole sectors in place. A refusal leaves the buffer as it was.
    pub fn decrypt_sectors(&mut self, first_sector: u64, buf: &mut [u8]) -> Result<(), XtsError> {
        let first = first_tweak(first_sector, buf.len())?;
        for (tweak, data) in (first..).step_by(8).zip(buf.chunks_exact_mut(SECTOR)) {
            self.decrypt.unit(tweak, data);
        }
        Ok(())
    }

    /// 512-byte units from tweak 0, as LUKS2 seals its keyslot area.
    pub(crate) fn keyslot(&mut self, buf: &mut [u8], encrypt: bool) {
        assert_eq!(buf.len() % 512, 0, "whole units only");
        let way = if encrypt { &mut self.encrypt } else { &mut self.decrypt };
        for (tweak, data) in (0..).zip(buf.chunks_exact_mut(512)) {
            way.unit(tweak, data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes::Aes256;
    use aes::cipher::KeyInit;
    use proptest::prelude::*;
    use xts_mode::Xts128;

    fn key(bytes: &[u8]) -> XtsKey {
        let mut bytes = bytes.to_vec();
        XtsKey::new(DataKey::from_slice_zeroizing(&mut bytes).expect("it fits")).expect("a key")
    }

    #[test]
    fn ieee_1619_vector_10() {
        // XTS-AES-256 applied for a data unit of 512 bytes, sequence number 0xff.
        let k = hex::decode(concat!(
            "2718281828459045235360287471352662497757247093699959574966967627",
            "3141592653589793238462643383279502884197169399375105820974944592"
        ))
        .expect("hex");
        let mut data: Vec<u8> = (0..=255u8).chain(0..=255u8).collect();
        let mut context = XtsContext::new(&key(&k)).expect("a context");
        context.encrypt.unit(0xff, &mut data);
        assert_eq!(
            hex::encode(&data[..32]),
            "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"
        );
        context.decrypt.unit(0xff, &mut data);
        assert!(data.iter().enumerate().all(|(i, b)| *b == i as u8));
    }

    #[test]
    fn equal_halves_and_wrong_sizes_are_refused() {
        let new =
            |mut b: Vec<u8>| XtsKey::new(DataKey::from_slice_zeroizing(&mut b).expect("fits"));
        assert!(matches!(new(vec![3; 64]), Err(XtsError::EqualHalves)));
        assert!(matches!(new(vec![3; 32]), Err(XtsError::Size(32))));
    }

    #[test]
    fn a_sector_beyond_what_can_be_numbered_is_refused_and_nothing_is_touched() {
        let k: Vec<u8> = (0..64).collect();
        let mut context = XtsContext::new(&key(&k)).expect("a context");
        let last = (1u64 << 61) - 1;
        for first in [last, last + 1, u64::MAX - 1, u64::MAX] {
            let mut data = vec![7u8; SECTOR];
            let refused = context.encrypt_sectors(first, &mut data);
            assert!(matches!(refused, Err(XtsError::Sector(s)) if s == first));
            assert!(context.decrypt_sectors(first, &mut data).is_err());
            assert!(data.iter().all(|b| *b == 7));
        }
        let mut data = vec![7u8; SECTOR];
        context.encrypt_sectors(last - 2, &mut data).expect("the last one that is taken");
        context.decrypt_sectors(last - 2, &mut data).expect("and back");
        assert!(data.iter().all(|b| *b == 7));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn agrees_with_the_pure_rust_version(k in prop::collection::vec(any::<u8>(), 64), first in 0u64..1 << 40, seed in any::<u64>()) {
            prop_assume!(k[..32] != k[32..]);
            let plain: Vec<u8> = (0..2 * SECTOR as u64).map(|i| (i.wrapping_mul(seed | 1) >> 7) as u8).collect();
            let mut ours = plain.clone();
            let mut context = XtsContext::new(&key(&k)).expect("a context");
            context.encrypt_sectors(first, &mut ours).expect("in bounds");
            let oracle = Xts128::new(Aes256::new_from_slice(&k[..32]).expect("32"), Aes256::new_from_slice(&k[32..]).expect("32"));
            let mut theirs = plain.clone();
            for (s, sector) in (first..).zip(theirs.chunks_exact_mut(SECTOR)) {
                oracle.encrypt_sector(sector, u128::from(s * 8).to_le_bytes().into());
            }
            prop_assert_eq!(&ours, &theirs);
            context.decrypt_sectors(first, &mut ours).expect("in bounds");
            prop_assert_eq!(ours, plain);
        }
    }
}
