//! `x-amz-content-sha256`: what the head of a request says of its body.

use super::{AuthFault, HttpRequest};
use std::borrow::Cow;

/// How the body is bound to the signature of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// By its digest.
    Sha256([u8; 32]),
    /// Not at all.
    Unsigned,
    /// In chunks, each signed.
    SignedChunks,
    /// In signed chunks, and signed trailers after them.
    SignedChunksTrailer,
    /// In chunks without signatures, and trailers without one: a checksum there proves no sender.
    UnsignedTrailer,
}

/// The words of the header, each with what it means.
const WORDS: [(&str, Payload); 4] = [
    ("UNSIGNED-PAYLOAD", Payload::Unsigned),
    ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", Payload::SignedChunks),
    ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", Payload::SignedChunksTrailer),
    ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", Payload::UnsignedTrailer),
];

impl Payload {
    /// Reads the header's value. A digest is lower-case hexadecimal, as every signer writes it:
    /// the value stands in the canonical request, and one body has one value.
    pub fn read(value: &str) -> Result<Self, AuthFault> {
        if let Some((_, payload)) = WORDS.iter().find(|(word, _)| *word == value) {
            return Ok(*payload);
        }
        let mut sum = [0; 32];
        let lower = !value.bytes().any(|b| b.is_ascii_uppercase());
        match hex::decode_to_slice(value, &mut sum) {
            Ok(()) if lower => Ok(Self::Sha256(sum)),
            _ => Err(AuthFault::Payload(value.chars().take(100).collect())),
        }
    }

    /// As the header and the canonical request have it.
    pub fn text(&self) -> Cow<'static, str> {
        match self {
            Self::Sha256(sum) => hex::encode(sum).into(),
            word => WORDS.iter().find(|(_, p)| p == word).map_or("", |(word, _)| word).into(),
        }
    }

    /// The body is framed: `Content-Length` is not the object's length.
    pub fn is_chunked(&self) -> bool {
        matches!(self, Self::SignedChunks) || self.has_trailers()
    }

    /// Trailers may follow the last chunk.
    pub fn has_trailers(&self) -> bool {
        matches!(self, Self::SignedChunksTrailer | Self::UnsignedTrailer)
    }
}

/// The length of the body that the store will see: the decoded one of a chunked body, which must be
/// told, else `Content-Length` where there is one.
pub(super) fn length(req: &HttpRequest<'_>, payload: Payload) -> Result<Option<u64>, AuthFault> {
    let name = if payload.is_chunked() { "x-amz-decoded-content-length" } else { "content-length" };
    if !req.headers.iter().any(|(n, _)| n == name) {
        return if payload.is_chunked() { Err(AuthFault::NoLength) } else { Ok(None) };
    }
    let number = req.header(name).map(str::trim).filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    match number.and_then(|v| v.parse().ok()) {
        Some(length) => Ok(Some(length)),
        None => Err(AuthFault::Invalid(format!("{name} is not one number."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_kinds_are_read_and_the_rest_refused_by_name() {
        let sum = "ab".repeat(32);
        for value in WORDS.iter().map(|(word, _)| *word).chain([sum.as_str()]) {
            assert_eq!(Payload::read(value).expect("spoken").text(), value);
        }
        for other in [
            "",
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
            "unsigned-payload",
            &sum.to_uppercase(),
            &sum[1..],
        ] {
            let fault = Payload::read(other).expect_err(other);
            assert_eq!(fault, AuthFault::Payload(other.to_owned()));
            assert!(fault.s3().message.expect("a text").ends_with(&format!("'{other}'")));
        }
    }
}
