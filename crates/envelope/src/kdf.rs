//! HMAC-SHA-256 and PBKDF2 as this crate uses them.

use aws_lc_rs::{hmac, pbkdf2};
use std::num::NonZeroU32;
use zeroize::Zeroizing;

/// HMAC-SHA-256(key, parts joined).
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = Zeroizing::new([0; 32]);
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// PBKDF2-HMAC-SHA-256.
pub(crate) fn pbkdf2_sha256(secret: &[u8], salt: &[u8], iterations: NonZeroU32, out: &mut [u8]) {
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, secret, out);
}
