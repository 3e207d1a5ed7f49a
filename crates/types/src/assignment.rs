//! The assignment: the whole desired state of one Region's clusters. A node pulls it from control
//! by long poll, keeps the last one on disk, and acts on nothing else.

use crate::{
    BucketAssignment, ClusterId, DocumentAsks, EncryptionContext, KeyArn, OrganizationId,
    PreflightId, Region, RoleArn, S3KeyAssignment, StoreKey, Template, VolumeId,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// All that one node is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Rises with every change; the node reports the one it acts on.
    pub generation: u64,
    /// The Region of the node.
    pub region: Region,
    /// Its clusters.
    pub clusters: Vec<ClusterAssignment>,
    /// Keys to be tried before they are associated.
    pub preflights: Vec<PreflightRequest>,
    /// What users of documents wait for; never kept on disk.
    #[serde(default)]
    pub documents: DocumentAsks,
}

/// One cluster's desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterAssignment {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its organization.
    pub organization: OrganizationId,
    /// Its name, for messages only.
    pub name: String,
    /// Generation of the cluster's spec.
    pub generation: u64,
    /// What this node's Region is to the cluster.
    #[serde(default)]
    pub part: Part,
    /// Its other Region; absent for a cluster of one.
    #[serde(default)]
    pub peer: Option<Peer>,
    /// The role that the node assumes to use the customer's key.
    pub tenant_role: RoleArn,
    /// The write-once tie to the customer's key; absent until associated.
    pub binding: Option<Binding>,
    /// The canary of this node's Region, once control has recorded it.
    pub canary: Option<WrappedKey>,
    /// One entry a disk of the template.
    pub volumes: Vec<VolumeAssignment>,
    /// Its buckets.
    #[serde(default)]
    pub buckets: Vec<BucketAssignment>,
    /// Data keys that the secrets of its S3 access keys are sealed under, by age.
    #[serde(default)]
    pub credentials: Vec<StoreKey>,
    /// Its S3 access keys.
    #[serde(default)]
    pub s3_keys: Vec<S3KeyAssignment>,
    /// What runs on the disks.
    pub template: Template,
    /// The lease's times.
    pub lease: LeaseSettings,
}

/// The write-once tie of a cluster to its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The key of this node's Region.
    pub key: KeyArn,
    /// The key of the other Region; absent for a cluster of one.
    #[serde(default)]
    pub second: Option<SecondKey>,
    /// What a refusal by one of two keys does.
    #[serde(default)]
    pub revocation: Revocation,
}

impl Binding {
    /// The tie of a cluster of one Region.
    pub fn of(key: KeyArn) -> Self {
        Self { key, second: None, revocation: Revocation::default() }
    }
}

/// The key of a cluster's other Region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondKey {
    /// The key.
    pub key: KeyArn,
    /// Its canary, once the other Region's node has made it and control has recorded it.
    pub canary: Option<WrappedKey>,
}

/// What a Region is to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Volumes and workload are here, and objects are written here.
    #[default]
    Primary,
    /// Objects are replicated to here and read here; nothing else.
    Backup,
}

/// A cluster's other Region, as a node meets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The Region.
    pub region: Region,
    /// Where its node serves S3, as that node reported it last; objects are replicated there.
    pub s3_endpoint: Option<String>,
}

/// What a refusal by one of a cluster's two keys does; the owner's choice at binding. An outage of
/// one Region's KMS never touches the other Region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revocation {
    /// It freezes the whole cluster, in both Regions.
    #[default]
    Any,
    /// It freezes the key's own Region.
    Each,
}

impl Revocation {
    /// The word in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Each => "each",
        }
    }
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A volume as control records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeAssignment {
    /// The volume.
    pub volume: VolumeId,
    /// Name of the template's disk.
    pub disk: String,
    /// Size of the plaintext device.
    pub size_bytes: u64,
    /// The wrapped volume passphrase, once the node has made it and control has recorded it.
    pub wrapped: Option<WrappedKey>,
    /// Hexadecimal digest of the volume key, once the node has formatted the image and control
    /// has recorded it. An image whose header carries another digest is not opened.
    pub key_digest: Option<String>,
    /// Which grant the volume is opened with. The node makes one grant per generation and never a
    /// second one under the same generation: a grant that the owner revoked stays revoked until an
    /// operator raises the generation (`keystead volume regrant`).
    pub grant_generation: u64,
}

/// A data key wrapped under the customer's KMS key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// The KMS key it is wrapped under.
    pub key: KeyArn,
    /// The KMS ciphertext blob, base64.
    pub ciphertext: String,
    /// The encryption context it is bound to.
    pub context: EncryptionContext,
}

impl WrappedKey {
    /// True when it is what our own record says: under this KMS key and in this context. Another one
    /// is never used, and KMS is never asked about it.
    pub fn is_of(&self, key: &KeyArn, context: &EncryptionContext) -> bool {
        self.key == *key && self.context == *context
    }
}

/// The lease's times, the owner's choice at binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSettings {
    /// After this long without an answer of KMS the cluster is fenced.
    pub silence_ms: u64,
    /// Added to `silence_ms`; exposure that the owner grants to whoever can cut the network.
    pub grace_ms: u64,
    /// A frozen cluster's workload is taken out of memory after this long.
    pub evict_after_ms: u64,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self { silence_ms: 10_000, grace_ms: 0, evict_after_ms: 15 * 60 * 1000 }
    }
}

/// A key to be tried as the tenant role, before association.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightRequest {
    /// The preflight.
    pub preflight: PreflightId,
    /// The cluster it is for.
    pub cluster: ClusterId,
    /// The cluster's tenant role.
    pub tenant_role: RoleArn,
    /// The candidate.
    pub key: KeyArn,
}
