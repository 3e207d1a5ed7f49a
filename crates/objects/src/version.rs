//! The id of one write: of an object's version, and of an upload, which becomes one.

use keystead_envelope::random::{self, RandomError};
use std::fmt;

/// 48 bits of wall time, so that uploads of one key stand in the order they were begun, then 80
/// random bits. A new one with each attempt; it names the folder that nothing else writes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Version(pub(crate) [u8; 16]);

impl Version {
    pub(crate) fn new(wall_ms: i64) -> Result<Self, RandomError> {
        let mut bytes: [u8; 16] = random::array()?;
        bytes[..6].copy_from_slice(&wall_ms.max(0).to_be_bytes()[2..]);
        Ok(Self(bytes))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let lower = text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
        hex::decode_to_slice(text, &mut bytes).ok().filter(|()| lower).map(|()| Self(bytes))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A random ETag: never a digest of the plaintext.
pub(crate) fn new_etag() -> Result<String, RandomError> {
    random::array::<16>().map(hex::encode)
}
