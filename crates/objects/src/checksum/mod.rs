//! S3's checksums: made while the data passes, compared, combined over parts.
//!
//! They guard against accidents on the way; what lies on disk is guarded by the message's tags. The
//! stored value is sealed with the record, for a digest of a plaintext tells the plaintext's kin.

mod whole;

pub(crate) use whole::whole;

use aws_lc_rs::digest;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use crc_fast::CrcAlgorithm;
use md5::Digest as _;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A checksum algorithm of S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// CRC32 (ISO-HDLC).
    #[serde(rename = "CRC32")]
    Crc32,
    /// CRC32C (iSCSI).
    #[serde(rename = "CRC32C")]
    Crc32c,
    /// CRC64NVME: what S3 makes when the client sends none.
    #[serde(rename = "CRC64NVME")]
    Crc64Nvme,
    /// SHA-1.
    #[serde(rename = "SHA1")]
    Sha1,
    /// SHA-256.
    #[serde(rename = "SHA256")]
    Sha256,
}

/// What a multipart object's checksum covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// All bytes of the object.
    #[serde(rename = "FULL_OBJECT")]
    FullObject,
    /// The parts' checksums, one behind the other.
    #[serde(rename = "COMPOSITE")]
    Composite,
}

/// A checksum's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub struct Checksum {
    algorithm: Algorithm,
    value: Vec<u8>,
}

/// As it stands in a record.
#[derive(Serialize, Deserialize)]
struct Stored {
    algorithm: Algorithm,
    value: String,
}

impl From<Checksum> for Stored {
    fn from(checksum: Checksum) -> Self {
        Self { algorithm: checksum.algorithm, value: checksum.base64() }
    }
}

impl TryFrom<Stored> for Checksum {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        Self::from_base64(stored.algorithm, &stored.value).ok_or("not a checksum")
    }
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] =
        [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// S3's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// Reads S3's word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }

    /// Bytes of its value.
    pub fn bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// What a multipart upload makes of it when the client does not say.
    pub fn default_kind(self) -> Kind {
        match self {
            Self::Crc64Nvme => Kind::FullObject,
            _ => Kind::Composite,
        }
    }

    /// Whether S3 makes such an object checksum from it: a digest cannot be combined over parts,
    /// and CRC64NVME is never composite.
    pub fn allows(self, kind: Kind) -> bool {
        match kind {
            Kind::FullObject => self.crc().is_some(),
            Kind::Composite => self != Self::Crc64Nvme,
        }
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Kind {
    /// S3's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }

    /// Reads S3's word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::FullObject, Self::Composite].into_iter().find(|one| one.as_str() == text)
    }
}

impl Checksum {
    /// Reads a value as S3 carries it; `None` when it is not base64 of the right length.
    pub fn from_base64(algorithm: Algorithm, text: &str) -> Option<Self> {
        let value = BASE64_STANDARD.decode(text).ok()?;
        (value.len() == algorithm.bytes()).then_some(Self { algorithm, value })
    }

    /// As S3 carries it.
    pub fn base64(&self) -> String {
        BASE64_STANDARD.encode(&self.value)
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn of_number(algorithm: Algorithm, number: u64) -> Self {
        let bytes = number.to_be_bytes();
        Self { algorithm, value: bytes[bytes.len() - algorithm.bytes()..].to_vec() }
    }

    fn number(&self) -> u64 {
        self.value.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
    }
}

/// Makes a checksum of data as it passes.
pub struct Hasher(Algorithm, Inner);

enum Inner {
    Crc(Box<crc_fast::Digest>),
    Sha(digest::Context),
}

impl Hasher {
    /// Begins.
    pub fn new(algorithm: Algorithm) -> Self {
        let inner = match (algorithm.crc(), algorithm) {
            (Some(crc), _) => Inner::Crc(Box::new(crc_fast::Digest::new(crc))),
            (None, Algorithm::Sha1) => {
                Inner::Sha(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY))
            }
            (None, _) => Inner::Sha(digest::Context::new(&digest::SHA256)),
        };
        Self(algorithm, inner)
    }

    /// Takes data.
    pub fn update(&mut self, data: &[u8]) {
        match &mut self.1 {
            Inner::Crc(crc) => crc.update(data),
            Inner::Sha(sha) => sha.update(data),
        }
    }

    /// The checksum of all data.
    pub fn finish(self) -> Checksum {
        match self.1 {
            Inner::Crc(crc) => Checksum::of_number(self.0, crc.finalize()),
            Inner::Sha(sha) => {
                Checksum { algorithm: self.0, value: sha.finish().as_ref().to_vec() }
            }
        }
    }
}

/// Makes the MD5 of data as it passes, for Content-MD5 only: a check against accidents, so the
/// small RustCrypto crate serves (aws-lc-rs has no MD5).
#[derive(Default)]
pub struct Md5(md5::Md5);

impl Md5 {
    /// Begins.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes data.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The digest of all data.
    pub fn finish(self) -> [u8; 16] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests;
