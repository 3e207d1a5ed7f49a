//! The encryption context of every wrapped key that Keystead makes.
//!
//! It is computed from our own record and never read from stored bytes. Its three pairs are
//! `keystead:cluster`, `keystead:store` and `keystead:purpose`.

use crate::{BucketId, ClusterId, PreflightId, VolumeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names the cluster that a wrapped key belongs to.
pub const CLUSTER: &str = "keystead:cluster";
/// Names the store (a volume, a bucket, the S3 credentials, or the canary) that a wrapped key belongs to.
pub const STORE: &str = "keystead:store";
/// Names what the wrapped key is for: `canary`, `volume`, `bucket` or `preflight`.
pub const PURPOSE: &str = "keystead:purpose";

/// Public pairs bound to a ciphertext as associated data; sorted by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EncryptionContext(BTreeMap<String, String>);

impl EncryptionContext {
    fn new(cluster: &ClusterId, store: &str, purpose: &str) -> Self {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        Self(BTreeMap::from([
            pair(CLUSTER, cluster.as_str()),
            pair(STORE, store),
            pair(PURPOSE, purpose),
        ]))
    }

    /// The context of a cluster's canary.
    pub fn canary(cluster: &ClusterId) -> Self {
        Self::new(cluster, "canary", "canary")
    }

    /// The context of a volume's wrapped key.
    pub fn volume(cluster: &ClusterId, volume: &VolumeId) -> Self {
        Self::new(cluster, volume.as_str(), "volume")
    }

    /// The context of a bucket's data keys, and of each of its messages.
    pub fn bucket(cluster: &ClusterId, bucket: &BucketId) -> Self {
        Self::new(cluster, bucket.as_str(), "bucket")
    }

    /// The context of the data keys that seal the secrets of S3 access keys.
    pub fn credentials(cluster: &ClusterId) -> Self {
        Self::new(cluster, "s3-credentials", "bucket")
    }

    /// The context used while a key is tried before it is associated.
    pub fn preflight(cluster: &ClusterId, preflight: &PreflightId) -> Self {
        Self::new(cluster, preflight.as_str(), "preflight")
    }

    /// The pairs, sorted by key.
    pub fn pairs(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}
