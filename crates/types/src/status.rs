//! The status: what one node observed. It is put to control about once a second and at every
//! change; control never trusts it for longer than three seconds.

use crate::{
    BucketStatus, BucketWish, Cause, ClusterId, DocumentAnswer, KeyArn, MadeBucketKey, MadeS3Key,
    PreflightId, Region, StoreKey, VolumeId, WrappedKey,
};
use serde::{Deserialize, Serialize};

/// What one node observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node's Region.
    pub region: Region,
    /// The node's name.
    pub node: String,
    /// Random per node process: tells a restart.
    pub incarnation: String,
    /// Generation of the assignment it acts on.
    pub observed_generation: u64,
    /// Where it serves S3.
    #[serde(default)]
    pub s3_endpoint: Option<String>,
    /// One entry a cluster of the assignment.
    pub clusters: Vec<ClusterStatus>,
    /// Finished preflights, until the assignment no longer names them.
    pub preflights: Vec<PreflightReport>,
    /// What was found for users of documents, until the assignment no longer names it.
    #[serde(default)]
    pub documents: Vec<DocumentAnswer>,
}

/// One cluster as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// Generation of the spec that this describes.
    pub observed_generation: u64,
    /// What the node made and control is to record.
    pub made: Made,
    /// The lease.
    pub lease: LeaseStatus,
    /// What this node hears from the KMS key of the other Region, where it asks that key.
    #[serde(default)]
    pub second: Option<LeaseStatus>,
    /// How far replication is, on the node that writes.
    #[serde(default)]
    pub replication: Option<ReplicationStatus>,
    /// One entry a volume.
    pub volumes: Vec<VolumeStatus>,
    /// One entry a bucket.
    #[serde(default)]
    pub buckets: Vec<BucketStatus>,
    /// What users of S3 asked for.
    #[serde(default)]
    pub wishes: Vec<BucketWish>,
    /// The processes on the volumes.
    pub workload: WorkloadStatus,
    /// FIFREEZE missed its deadline: every sync(2) on the node hangs until thaw or eviction.
    pub sync_stalled: bool,
    /// When the frozen workload will be taken out of memory, milliseconds since the epoch.
    pub evict_at_ms: Option<i64>,
}

/// How far the replication of a cluster's objects is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationStatus {
    /// Changes that the other Region has not confirmed.
    pub pending: u64,
    /// When the oldest of them was acknowledged to its writer, milliseconds since the epoch.
    pub oldest_ms: Option<i64>,
    /// When the other Region confirmed one last, milliseconds since the epoch.
    pub confirmed_ms: Option<i64>,
    /// Why nothing moves.
    pub message: Option<String>,
}

/// Wrapped keys and digests that the node made and that wait to be recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The canary.
    pub canary: Option<WrappedKey>,
    /// Volumes whose key was wrapped, or whose image was formatted.
    pub volumes: Vec<MadeVolume>,
    /// Data keys of buckets.
    #[serde(default)]
    pub buckets: Vec<MadeBucketKey>,
    /// A data key of the S3 credentials.
    #[serde(default)]
    pub credentials: Option<StoreKey>,
    /// S3 access keys whose secret was made.
    #[serde(default)]
    pub s3_keys: Vec<MadeS3Key>,
}

/// One volume's part of [`Made`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeVolume {
    /// The volume.
    pub volume: VolumeId,
    /// The wrapped key, when it is new.
    pub wrapped: Option<WrappedKey>,
    /// Hexadecimal digest of the volume key, when the image was formatted.
    pub key_digest: Option<String>,
}

/// The lease in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseWord {
    /// No key is bound yet.
    None,
    /// Bound, not yet proved since this node process started.
    Unproved,
    /// Data keys may be used.
    Live,
    /// KMS was silent for too long.
    Lapsed,
    /// KMS refused.
    Frozen,
    /// The key is gone for good.
    Dead,
}

/// The lease as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Its state.
    pub state: LeaseWord,
    /// Why it is not live.
    pub cause: Option<Cause>,
    /// What KMS said, or which volume is concerned: for the human.
    pub detail: Option<String>,
    /// Since when, milliseconds since the epoch.
    pub since_ms: i64,
    /// The key's deletion date, when one is pending.
    pub deletion_date_ms: Option<i64>,
}

/// A volume in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeWord {
    /// Nothing on this node yet.
    Absent,
    /// The image is being made.
    Formatting,
    /// Detached, image present.
    Detached,
    /// Open and mounted.
    Attached,
    /// Mounted, gate closed.
    Frozen,
    /// The node cannot go on by itself; `message` says why.
    Failed,
}

/// A volume as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// The volume.
    pub volume: VolumeId,
    /// Its state.
    pub state: VolumeWord,
    /// The grant it is opened with.
    pub grant_id: Option<String>,
    /// Generation of that grant.
    pub grant_generation: u64,
    /// Why its own proof fails.
    pub cause: Option<Cause>,
    /// For the human.
    pub message: Option<String>,
}

/// The workload in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadWord {
    /// Not running.
    Stopped,
    /// Started, probe not yet answered.
    Starting,
    /// The ready probe answers.
    Ready,
    /// Held by the freezer.
    Frozen,
    /// It ended by itself and is being started again.
    Failed,
}

/// The workload as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// Its state.
    pub state: WorkloadWord,
    /// libpq URI of the database, when it runs.
    pub endpoint: Option<String>,
    /// For the human.
    pub message: Option<String>,
}

/// What a node found when it tried a key as the tenant role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightReport {
    /// The preflight.
    pub preflight: PreflightId,
    /// The candidate.
    pub key: KeyArn,
    /// One entry a check, in the order they were made; all of them must hold.
    pub checks: Vec<PreflightCheck>,
    /// When it ended, milliseconds since the epoch.
    pub finished_ms: i64,
}

impl PreflightReport {
    /// True when every check held.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|c| c.ok)
    }
}

/// One check of a preflight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightCheck {
    /// What was checked: an IAM action (`kms:Decrypt`) or a property (`region`, `account`, `key-spec`, `key-state`, `role`).
    pub check: String,
    /// It held.
    pub ok: bool,
    /// Why it did not.
    pub cause: Option<Cause>,
    /// What KMS answered.
    pub detail: Option<String>,
    /// Request id of KMS, to be found in the trail.
    pub request_id: Option<String>,
}
