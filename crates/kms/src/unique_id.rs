//! The unique ids of IAM and the access key ids of STS: a prefix that names the kind, then letters
//! and digits.

/// One letter or digit a byte; 32 of them, so that random bytes give each equally often.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// `prefix` followed by one letter or digit a byte.
pub(crate) fn spell(prefix: &str, bytes: &[u8]) -> String {
    let tail = bytes.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)]));
    prefix.chars().chain(tail).collect()
}
