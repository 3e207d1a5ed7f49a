//! Records of buckets, of their data keys, and of S3 access keys.

use super::{Answer, Recorded};
use keystead_types::{BucketId, ClusterId, S3Role, StoreKey};

/// Name of the store whose keys seal the secrets of S3 access keys.
pub(crate) const CREDENTIALS: &str = "s3-credentials";
/// So many buckets a cluster may have.
pub(crate) const BUCKETS: usize = 100;
/// So many S3 access keys a cluster may have, its nodes' own apart.
pub(crate) const S3_KEYS: usize = 100;

/// A bucket's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) id: BucketId,
    pub(crate) name: String,
    pub(crate) created_ms: i64,
    pub(crate) keys: Vec<StoreKey>,
}

/// An S3 access key's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct S3Key {
    pub(crate) access_key_id: String,
    pub(crate) role: S3Role,
    pub(crate) description: String,
    pub(crate) created_ms: i64,
    pub(crate) sealed: Option<String>,
    pub(crate) expires_ms: Option<i64>,
}

/// What became of a record that there may be only so many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It was written.
    New,
    /// The cluster has one of this name.
    Taken,
    /// The cluster has as many as it may.
    Full,
}

/// The part of the store that speaks of objects.
pub(crate) trait BucketStore: Send + Sync {
    /// A new bucket of a cluster that is there.
    fn add_bucket<'a>(&'a self, cluster: &'a ClusterId, new: Bucket) -> Answer<'a, Added>;
    /// The bucket is gone; its keys stay on record. False when it was not there.
    fn remove_bucket<'a>(
        &'a self,
        cluster: &'a ClusterId,
        bucket: &'a BucketId,
        now_ms: i64,
    ) -> Answer<'a, bool>;
    /// The next data key of a store (a bucket's id, or [`CREDENTIALS`]). Once for each ordinal, and
    /// none is left out.
    fn record_store_key<'a>(
        &'a self,
        cluster: &'a ClusterId,
        store: &'a str,
        key: &'a StoreKey,
    ) -> Answer<'a, Recorded>;
    /// A new S3 access key of a cluster that is there.
    fn add_s3_key<'a>(&'a self, cluster: &'a ClusterId, new: S3Key) -> Answer<'a, Added>;
    /// Its sealed secret. Once.
    fn record_sealed<'a>(
        &'a self,
        cluster: &'a ClusterId,
        access_key_id: &'a str,
        sealed: &'a str,
    ) -> Answer<'a, Recorded>;
    /// It ends then, or earlier if that was said before. False when it is not there.
    fn expire_s3_key<'a>(
        &'a self,
        cluster: &'a ClusterId,
        access_key_id: &'a str,
        at_ms: i64,
    ) -> Answer<'a, bool>;
    /// It is gone. False when it was not there.
    fn remove_s3_key<'a>(
        &'a self,
        cluster: &'a ClusterId,
        access_key_id: &'a str,
    ) -> Answer<'a, bool>;
}
