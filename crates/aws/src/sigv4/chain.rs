//! The chain of signatures in a chunked body: each signs its chunk and the signature before it, the
//! first one that of the request. So chunks cannot be changed, reordered, left out or borrowed.

use super::signer::SigningKey;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use std::sync::Arc;

/// Thirty-two bytes in lower-case hexadecimal, as the wire has them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hex([u8; 64]);

impl Hex {
    /// Of 32 bytes; of another number it is no signature at all, and equals none.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut text = [0; 64];
        let _ = hex::encode_to_slice(bytes, &mut text);
        Self(text)
    }

    /// As sent; `None` for what is no signature. The case is kept and counts.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let text: [u8; 64] = text.try_into().ok()?;
        text.iter().all(u8::is_ascii_hexdigit).then_some(Self(text))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// In constant time.
    pub(super) fn equals(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

pub(super) struct Chain {
    key: Arc<SigningKey>,
    /// `\n<date>\n<scope>\n`.
    middle: String,
    nothing: Hex,
    previous: Hex,
}

impl Chain {
    /// Begins with the request's signature.
    pub(super) fn new(key: Arc<SigningKey>, amz_date: &str, scope: &str, seed: Hex) -> Self {
        let nothing = Hex::of(digest(&SHA256, b"").as_ref());
        Self { key, middle: format!("\n{amz_date}\n{scope}\n"), nothing, previous: seed }
    }

    /// The next signature, of a chunk with this digest.
    pub(super) fn chunk(&mut self, data: &Digest) -> Hex {
        let (middle, data) = (self.middle.as_bytes(), Hex::of(data.as_ref()));
        self.previous = self.key.signature_of_parts(&[
            b"AWS4-HMAC-SHA256-PAYLOAD",
            middle,
            self.previous.as_bytes(),
            b"\n",
            self.nothing.as_bytes(),
            b"\n",
            data.as_bytes(),
        ]);
        self.previous
    }

    /// The last signature, of the trailers with this digest.
    pub(super) fn trailers(&mut self, lines: &Digest) -> Hex {
        let (middle, lines) = (self.middle.as_bytes(), Hex::of(lines.as_ref()));
        self.previous = self.key.signature_of_parts(&[
            b"AWS4-HMAC-SHA256-TRAILER",
            middle,
            self.previous.as_bytes(),
            b"\n",
            lines.as_bytes(),
        ]);
        self.previous
    }
}
