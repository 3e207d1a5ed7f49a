//! The words of the store: what a bucket, an object, a part and a listing are to a caller.

use crate::checksum::{Algorithm, Checksum, Kind};
use crate::error::StoreError;
use crate::limits::{MAX_TAG_KEY_CHARS, MAX_TAG_VALUE_CHARS, MAX_TAGS, MAX_USER_METADATA_BYTES};
use crate::role::ReplicationWord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tags of an object or a bucket.
pub type Tags = BTreeMap<String, String>;

/// What the embedder and the gateway say of a bucket; not secret, not sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketSettings {
    /// The KMS key that new objects are sealed under, for the answers' headers.
    pub key_arn: String,
    /// The gateway's own notes, kept for it.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketInfo {
    /// Its name, unique in the store.
    pub name: String,
    /// When it was registered.
    pub created_ms: i64,
    /// Its settings.
    pub settings: BucketSettings,
}

/// Headers that S3 keeps with an object and gives back as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemMetadata {
    /// Content-Type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Cache-Control.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// Content-Disposition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    /// Content-Encoding, without `aws-chunked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// Content-Language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    /// Expires, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// x-amz-website-redirect-location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website_redirect: Option<String>,
    /// x-amz-storage-class as asked for; told back, without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

/// The checksum of a whole object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectChecksum {
    /// Its value.
    pub checksum: Checksum,
    /// Over all bytes, or over the parts' checksums.
    pub kind: Kind,
    /// Number of parts behind a composite one.
    pub parts: u16,
}

impl ObjectChecksum {
    /// Whether it is the checksum that a client sent. How many parts there are is told by a
    /// composite one only.
    pub(crate) fn is(&self, sent: &Self) -> bool {
        let counted = self.kind == Kind::FullObject || self.parts == sent.parts;
        counted && (&self.checksum, self.kind) == (&sent.checksum, sent.kind)
    }

    /// As S3 writes it: base64, and `-N` behind a composite one.
    pub fn text(&self) -> String {
        match self.kind {
            Kind::FullObject => self.checksum.base64(),
            Kind::Composite => format!("{}-{}", self.checksum.base64(), self.parts),
        }
    }
}

/// A part of an object or of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartInfo {
    /// Its number, from 1.
    pub number: u16,
    /// Bytes of plaintext.
    pub size: u64,
    /// Its ETag, without quotes.
    pub etag: String,
    /// Its checksum.
    pub checksum: Option<Checksum>,
    /// When it was stored.
    pub modified_ms: i64,
}

/// What an object is, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: String,
    /// Its version, 32 hexadecimal digits; a new one with each write.
    pub version: String,
    /// Bytes of plaintext.
    pub size: u64,
    /// When it was written.
    pub modified_ms: i64,
    /// Its ETag, without quotes; random, never a digest of the plaintext.
    pub etag: String,
    /// Its checksum.
    pub checksum: Option<ObjectChecksum>,
    /// Headers kept with it.
    pub system: SystemMetadata,
    /// `x-amz-meta-*`, names in lower case without the prefix.
    pub user: BTreeMap<String, String>,
    /// Tags.
    pub tags: Tags,
    /// Parts when it came by multipart upload, else empty.
    pub parts: Vec<PartInfo>,
    /// How far its replication is, where there is one.
    pub replication: Option<ReplicationWord>,
}

/// Which bytes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// From an offset to the end.
    From(u64),
    /// From an offset to another, both included.
    Inclusive(u64, u64),
    /// So many last bytes.
    Last(u64),
}

/// What is asked of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Keys that begin so.
    pub prefix: String,
    /// Rolls up what lies behind its first occurrence after the prefix; empty text is none.
    pub delimiter: Option<String>,
    /// Keys behind this one: a start-after, a marker, or an earlier [`Listing::next`]. A common
    /// prefix named here is not listed again.
    pub after: Option<String>,
    /// At most so many keys and common prefixes.
    pub max_keys: usize,
}

/// One object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Bytes of plaintext.
    pub size: u64,
    /// When it was written.
    pub modified_ms: i64,
    /// Its ETag, without quotes.
    pub etag: String,
    /// Which checksum it carries.
    pub checksum: Option<(Algorithm, Kind)>,
}

/// A page of a listing. It needs no key, so it is given while the gate is closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Objects, in order of their keys' bytes.
    pub entries: Vec<Entry>,
    /// Common prefixes, in the same order.
    pub common_prefixes: Vec<String>,
    /// There are more: where the next page begins.
    pub next: Option<String>,
}

/// What is asked of a listing of uploads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadQuery {
    /// Keys that begin so.
    pub prefix: String,
    /// As in [`ListQuery`].
    pub delimiter: Option<String>,
    /// Uploads behind this key; with an upload id also that key's uploads behind that one.
    pub after: Option<(String, Option<String>)>,
    /// At most so many uploads and common prefixes.
    pub max_uploads: usize,
}

/// An upload that is neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadEntry {
    /// The key it is for.
    pub key: String,
    /// Its id.
    pub upload_id: String,
    /// When it was begun.
    pub begun_ms: i64,
    /// Checksum of its parts and of the whole.
    pub checksum: (Algorithm, Kind),
}

/// A page of uploads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadList {
    /// Uploads, by key, then by the time they were begun.
    pub uploads: Vec<UploadEntry>,
    /// Common prefixes.
    pub common_prefixes: Vec<String>,
    /// There are more: key and upload id to go on behind.
    pub next: Option<(String, Option<String>)>,
}

/// A page of an upload's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartList {
    /// The upload.
    pub upload: UploadEntry,
    /// Parts in order of their numbers.
    pub parts: Vec<PartInfo>,
    /// There are more: the number to go on behind.
    pub next: Option<u16>,
}

/// S3's rule for user metadata.
pub(crate) fn check_user(user: &BTreeMap<String, String>) -> Result<(), StoreError> {
    let bytes: usize = user.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_USER_METADATA_BYTES { Err(StoreError::MetadataTooLarge) } else { Ok(()) }
}

/// S3's rule for an object's tags.
pub(crate) fn check_tags(tags: &Tags) -> Result<(), StoreError> {
    let allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || "+-=._:/@".contains(c);
    let bad = |what| Err(StoreError::InvalidTag(what));
    if tags.len() > MAX_TAGS {
        return bad("more than 10 tags");
    }
    for (key, value) in tags {
        if key.is_empty() || key.chars().count() > MAX_TAG_KEY_CHARS {
            return bad("a tag key must have 1 to 128 characters");
        }
        if value.chars().count() > MAX_TAG_VALUE_CHARS {
            return bad("a tag value must have at most 256 characters");
        }
        if key.to_lowercase().starts_with("aws:") {
            return bad("a tag key may not begin with aws:");
        }
        if !key.chars().chain(value.chars()).all(allowed) {
            return bad("a character that a tag may not have");
        }
    }
    Ok(())
}
