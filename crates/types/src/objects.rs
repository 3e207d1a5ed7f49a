//! Buckets and S3 access keys, as control records them and as the node reports them.

use crate::{BucketId, Cause, EncryptionContext, KeyArn, WrappedKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A bucket as control records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketAssignment {
    /// The bucket.
    pub bucket: BucketId,
    /// Its name, one of a kind within the cluster.
    pub name: String,
    /// Its data keys by age; the newest seals, all of them open. Empty until the node has made the
    /// first and control has recorded it.
    pub keys: Vec<StoreKey>,
}

/// S3's rule for names of general purpose buckets, without dots, which TLS certificates and
/// virtual-hosted names do not go well with.
pub fn is_bucket_name(name: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (3..=63).contains(&name.len())
        && name.bytes().all(inner)
        && edge(name.as_bytes().first())
        && edge(name.as_bytes().last())
}

/// One data key of a store that renews its keys: of a bucket, or of the S3 credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreKey {
    /// Its place among the store's keys, from 0.
    pub ordinal: u32,
    /// The same data key under each Region's KMS key, the writing Region's first.
    pub wrapped: Vec<WrappedKey>,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: i64,
}

impl StoreKey {
    /// The wrapped form that a node of this KMS key's Region opens, if it is of this context.
    pub fn own(&self, key: &KeyArn, context: &EncryptionContext) -> Option<&WrappedKey> {
        self.wrapped.iter().find(|w| w.key == *key).filter(|w| w.is_of(key, context))
    }
}

/// What an S3 access key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum S3Role {
    /// Get, head and list.
    Reader,
    /// Everything.
    Writer,
    /// Replication into a cluster's backup Region, and nothing else. Nodes use it among themselves;
    /// nobody is given one.
    Replicator,
    /// Signs the links of documents, in the node and nowhere else: it opens presigned URLs alone.
    Links,
}

impl S3Role {
    /// The role as it stands in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Replicator => "replicator",
            Self::Links => "links",
        }
    }
}

impl fmt::Display for S3Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An S3 access key of a cluster. Its secret is made by a node and kept by control only as a
/// message sealed under the cluster's key, which nodes open while the lease lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3KeyAssignment {
    /// Access key id.
    pub access_key_id: String,
    /// What it may do.
    pub role: S3Role,
    /// The sealed secret, base64, once a node has made it and control has recorded it.
    pub sealed: Option<String>,
    /// It ends then, milliseconds since the epoch.
    pub expires_ms: Option<i64>,
}

/// A data key that the node made for a bucket and that waits to be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBucketKey {
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: StoreKey,
}

/// An S3 access key whose secret the node made. The secret is told until the sealed form is
/// recorded; control hands it to whoever asked for the key and writes it nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeS3Key {
    /// Access key id.
    pub access_key_id: String,
    /// The sealed secret, base64.
    pub sealed: String,
    /// The secret.
    pub secret: String,
}

impl fmt::Debug for MadeS3Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MadeS3Key({})", self.access_key_id)
    }
}

/// What a user of S3 asked for that control has to record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BucketWish {
    /// A bucket of this name.
    Create(String),
    /// This empty bucket is to go.
    Remove(BucketId),
}

/// A bucket in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BucketWord {
    /// Its data key is being made or opened.
    Opening,
    /// It serves.
    Serving,
    /// Its keys are out of memory; requests are refused with the cause.
    Frozen,
    /// The node cannot go on by itself; `message` says why.
    Failed,
}

/// A bucket as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketStatus {
    /// The bucket.
    pub bucket: BucketId,
    /// Its state.
    pub state: BucketWord,
    /// Why it does not serve.
    pub cause: Option<Cause>,
    /// For the human.
    pub message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_buckets_are_those_of_s3() {
        for good in ["abc", "documents", "a-1", &"x".repeat(63)] {
            assert!(is_bucket_name(good), "{good}");
        }
        for bad in ["ab", "", "-ab", "ab-", "a.b", "Abc", "a_b", "a b", &"x".repeat(64), "../x"] {
            assert!(!is_bucket_name(bad), "{bad}");
        }
    }
}
