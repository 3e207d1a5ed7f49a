//! The anti-forensic splitter of LUKS: 4000 stripes, diffused with SHA-256.

use crate::random::{self, RandomError};
use crate::xts::KEY_BYTES;
use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

pub(super) const STRIPES: usize = 4000;

fn diffuse(block: &mut [u8; KEY_BYTES]) {
    for (number, part) in (0u32..).zip(block.chunks_exact_mut(32)) {
        let mut hash = Context::new(&SHA256);
        hash.update(&number.to_be_bytes());
        hash.update(part);
        part.copy_from_slice(hash.finish().as_ref());
    }
}

fn xor(into: &mut [u8; KEY_BYTES], stripe: &[u8]) {
    into.iter_mut().zip(stripe).for_each(|(a, b)| *a ^= b);
}

/// Splits a key into stripes that all are needed to get it back, at the beginning of `bytes` bytes.
/// The buffer has its full size from the start: growing it would leave plaintext stripes behind.
pub(super) fn split(key: &[u8], bytes: usize) -> Result<Zeroizing<Vec<u8>>, RandomError> {
    let mut out = Zeroizing::new(vec![0u8; bytes.max(STRIPES * KEY_BYTES)]);
    let last = (STRIPES - 1) * KEY_BYTES;
    random::fill(&mut out[..last])?;
    let mut block = Zeroizing::new([0u8; KEY_BYTES]);
    for stripe in out[..last].chunks_exact(KEY_BYTES) {
        xor(&mut block, stripe);
        diffuse(&mut block);
    }
    xor(&mut block, key);
    out[last..last + KEY_BYTES].copy_from_slice(&*block);
    Ok(out)
}

/// Gets the key back from its stripes.
pub(super) fn merge(stripes: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    let last = (STRIPES - 1) * KEY_BYTES;
    let mut block = Zeroizing::new([0u8; KEY_BYTES]);
    for stripe in stripes[..last].chunks_exact(KEY_BYTES) {
        xor(&mut block, stripe);
        diffuse(&mut block);
    }
    xor(&mut block, &stripes[last..last + KEY_BYTES]);
    block
}
