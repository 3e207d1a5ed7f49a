//! The object message: an AWS Encryption SDK message, version 2, suite 0x0478
//! (`docs/formats/object.md`).
//!
//! One KMS data key (a bucket key) serves many messages; each message has its own key, derived with
//! its random id. [`Sealer`] writes one message once and cannot be made to write a second header
//! or a frame twice; [`Opened`] opens any run of frames, which is how a range is read. Neither
//! keeps a key: the caller lends the data key for each stretch of CPU work and takes it back, so a
//! lease that ends reaches a message that is half written or half read.

mod header;
mod key;
mod open;
mod seal;
#[cfg(test)]
mod tests;

pub use header::{Header, MAX_HEADER_BYTES, Wrapped};
pub use open::{Opened, open_whole};
pub use seal::{Sealer, seal_whole};

use crate::random::RandomError;
use std::ops::Range;

/// Plaintext of a frame that is not the last, in bytes.
pub const FRAME_BYTES: usize = 65_536;
/// Bytes of a message id.
pub const ID_BYTES: usize = 32;
const IV: usize = 12;
const TAG: usize = 16;
/// What a frame that is not the last carries beside its ciphertext: number, IV, tag.
const OVERHEAD: usize = 4 + IV + TAG;
/// What the last frame carries: an end mark, number, IV, length, tag.
const LAST_OVERHEAD: usize = 4 + 4 + IV + 4 + TAG;
/// A frame that is not the last, as stored.
const SEALED_FRAME: usize = FRAME_BYTES + OVERHEAD;
/// The longest plaintext: frames are counted in 32 bits, and the last one is never full.
pub const MAX_PLAINTEXT_BYTES: u64 = (u32::MAX as u64 - 1) * FRAME_BYTES as u64;

/// Why a message is not made or not opened. Opening tells no more than that it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not a message of this kind, or damaged.
    #[error("not a message of suite 0x0478: {0}")]
    Malformed(&'static str),
    /// The key is not the one that the message commits to.
    #[error("the message commits to another data key")]
    OtherKey,
    /// Tampered with: header, frame, order or end.
    #[error("the message does not authenticate")]
    Forged,
    /// Longer than the format can count.
    #[error("the plaintext would pass {MAX_PLAINTEXT_BYTES} bytes")]
    TooLong,
    /// No randomness.
    #[error("no random bytes")]
    Random,
}

impl From<RandomError> for MessageError {
    fn from(_: RandomError) -> Self {
        Self::Random
    }
}

/// How many frames a plaintext makes; the last one is always short, an empty one if need be (the
/// Python SDK refuses a full last frame).
pub fn frame_count(plaintext_bytes: u64) -> u64 {
    plaintext_bytes / FRAME_BYTES as u64 + 1
}

/// Bytes of a whole message.
pub fn message_bytes(header_bytes: usize, plaintext_bytes: u64) -> u64 {
    let full = frame_count(plaintext_bytes) - 1;
    let last = plaintext_bytes % FRAME_BYTES as u64 + LAST_OVERHEAD as u64;
    header_bytes as u64 + full * SEALED_FRAME as u64 + last
}

/// Plaintext bytes of a message of so many bytes; `None` when no message is that long.
pub fn plaintext_bytes(header_bytes: usize, message_bytes: u64) -> Option<u64> {
    let body = message_bytes.checked_sub(header_bytes as u64 + LAST_OVERHEAD as u64)?;
    let (full, last) = (body / SEALED_FRAME as u64, body % SEALED_FRAME as u64);
    (last < FRAME_BYTES as u64).then(|| full * FRAME_BYTES as u64 + last)
}

/// The frames that hold a range of a plaintext, counted from 0. The range must lie inside it.
pub fn frames_of(range: &Range<u64>) -> Range<u64> {
    let first = range.start / FRAME_BYTES as u64;
    let end = range.end.div_ceil(FRAME_BYTES as u64).max(first + 1);
    first..end
}

/// Where some frames (counted from 0) of a message lie in it. The last one ends the message.
pub fn frame_span(header_bytes: usize, plaintext_bytes: u64, frames: &Range<u64>) -> Range<u64> {
    let start = |i: u64| header_bytes as u64 + i * SEALED_FRAME as u64;
    let end = if frames.end == frame_count(plaintext_bytes) {
        message_bytes(header_bytes, plaintext_bytes)
    } else {
        start(frames.end)
    };
    start(frames.start)..end
}
