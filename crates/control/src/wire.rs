//! The shapes of the API, shared by server and client. Requests refuse unknown fields; answers
//! may grow.

mod documents;

pub use documents::*;

use keystead_types::{
    BucketId, BucketWord, Cause, ClusterId, KeyArn, LeaseWord, OrganizationId, Part, PreflightId,
    Region, Revocation, RoleArn, S3Role, VolumeId, VolumeWord,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// `POST /v1/organizations`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOrganization {
    /// A DNS label.
    pub name: String,
}

/// An organization; the token is shown once, at creation.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct OrganizationView {
    /// The organization.
    #[schema(value_type = String)]
    pub organization: OrganizationId,
    /// Its name.
    pub name: String,
    /// Its owner's bearer token, in the answer of the creation only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl fmt::Debug for OrganizationView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OrganizationView({}, {})", self.organization, self.name)
    }
}

/// `POST /v1/clusters`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCluster {
    /// A DNS label, one of a kind in the organization.
    pub name: String,
    /// Where it runs.
    #[schema(value_type = String)]
    pub region: Region,
    /// Another Region that its objects are replicated to; fixed with the creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub backup_region: Option<Region>,
    /// `external` is the only kind.
    pub encryption: String,
    /// The workload; `postgres` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// How long a frozen workload stays in memory, as `15m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict_after: Option<String>,
}

/// Body of a preflight.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyArns {
    /// One key ARN, of one of the cluster's Regions: each key is tried by a preflight of its own.
    pub key_arns: Vec<String>,
}

/// Body of an association.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Associate {
    /// One key ARN a Region of the cluster; with a backup Region, its key comes second.
    pub key_arns: Vec<String>,
    /// What a refusal by one of two keys does: `any` freezes both Regions (so it is when absent),
    /// `each` freezes the key's own. Only for a cluster with a backup Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub revocation: Option<Revocation>,
}

/// A cluster's state in one word; computed, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Phase {
    /// The tenant role is being made.
    Creating,
    /// Waits for the owner's key.
    AwaitingKey,
    /// Keys are wrapped, disks formatted.
    Provisioning,
    /// The workload starts.
    Starting,
    /// It serves, and the node said so less than three seconds ago.
    Ready,
    /// The gates are closed.
    Frozen,
    /// The key is gone for good.
    Dead,
    /// The node does not report.
    Unknown,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One condition, in the grammar of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Condition {
    /// `RoleReady`, `KeyBound`, `VolumesAttached`, `LeaseLive`, `WorkloadReady`, `NodeReporting`,
    /// `BucketsServing`; with a backup Region `BackupReporting`, `BackupLeaseLive`,
    /// `SecondKeyUsable` and `Replicated` too.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// For the human.
    pub message: String,
    /// Since when, RFC 3339, where it is known.
    pub since: Option<String>,
}

/// Where the cluster answers.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Endpoints {
    /// libpq URI.
    pub postgres: Option<String>,
    /// S3, path style; told while the node reports.
    #[serde(default)]
    pub s3: Option<String>,
}

/// A volume.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct VolumeView {
    /// The volume.
    #[schema(value_type = String)]
    pub volume: VolumeId,
    /// Its cluster.
    #[schema(value_type = String)]
    pub cluster: ClusterId,
    /// Name of the template's disk.
    pub disk: String,
    /// Size of the plaintext device.
    pub size_bytes: u64,
    /// What the node sees, while it reports.
    #[schema(value_type = Option<String>)]
    pub state: Option<VolumeWord>,
    /// Generation that the operator asks for.
    pub grant_generation: u64,
    /// Generation that the node uses.
    pub observed_grant_generation: Option<u64>,
    /// Its grant, while the node reports.
    pub grant_id: Option<String>,
    /// The key it is wrapped under.
    #[schema(value_type = Option<String>)]
    pub key: Option<KeyArn>,
    /// The wrapped key: ciphertext, base64.
    pub wrapped_key: Option<String>,
    /// Digest of the volume key, hexadecimal.
    pub key_digest: Option<String>,
    /// Why its own proof fails.
    #[schema(value_type = Option<String>)]
    pub cause: Option<Cause>,
    /// For the human.
    pub message: Option<String>,
}

/// A bucket.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BucketView {
    /// The bucket.
    #[schema(value_type = String)]
    pub bucket: BucketId,
    /// Its cluster.
    #[schema(value_type = String)]
    pub cluster: ClusterId,
    /// Its name, one of a kind within the cluster.
    pub name: String,
    /// What the node sees, while it reports.
    #[schema(value_type = Option<String>)]
    pub state: Option<BucketWord>,
    /// How many data keys it has had.
    pub data_keys: usize,
    /// The KMS keys that its newest data key is wrapped under.
    #[schema(value_type = Vec<String>)]
    pub keys: Vec<KeyArn>,
    /// Why it does not serve.
    #[schema(value_type = Option<String>)]
    pub cause: Option<Cause>,
    /// For the human.
    pub message: Option<String>,
    /// Made at, RFC 3339.
    pub created: String,
}

/// `POST /v1/clusters/{cluster}/s3-keys`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateS3Key {
    /// `reader`, `writer`, or a use of the nodes own: `replicator`, `links`.
    #[schema(value_type = String)]
    pub role: S3Role,
    /// For the human: who uses it.
    #[serde(default)]
    pub description: String,
}

/// `POST /v1/clusters/{cluster}/s3-keys/{id}/rotate`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateS3Key {
    /// How long the old key goes on, as `24h`; `0s` ends it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
}

/// An S3 access key; the secret is shown once, at creation.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct S3KeyView {
    /// Access key id.
    pub access_key_id: String,
    /// Its cluster.
    #[schema(value_type = String)]
    pub cluster: ClusterId,
    /// `reader`, `writer`, or a use of the nodes own: `replicator`, `links`.
    #[schema(value_type = String)]
    pub role: S3Role,
    /// For the human.
    pub description: String,
    /// Made at, RFC 3339.
    pub created: String,
    /// Ends at, RFC 3339.
    pub expires: Option<String>,
    /// The secret access key, in the answer of the creation only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<String>,
    /// Where to use it.
    pub endpoint: Option<String>,
    /// The Region that requests are signed for.
    #[schema(value_type = String)]
    pub region: Region,
}

impl fmt::Debug for S3KeyView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3KeyView({})", self.access_key_id)
    }
}

/// A Region of a cluster.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RegionView {
    /// The Region.
    #[schema(value_type = String)]
    pub region: Region,
    /// `primary` or `backup`.
    #[schema(value_type = String)]
    pub part: Part,
    /// Its key, once bound.
    #[schema(value_type = Option<String>)]
    pub key_arn: Option<KeyArn>,
    /// Its lease, while its node reports: `none`, `unproved`, `live`, `lapsed`, `frozen` or `dead`.
    #[schema(value_type = Option<String>)]
    pub lease: Option<LeaseWord>,
    /// Why the lease is not live.
    #[schema(value_type = Option<String>)]
    pub cause: Option<Cause>,
    /// Since when, RFC 3339, where it is known.
    pub since: Option<String>,
    /// Where it serves S3, while its node reports.
    pub s3_endpoint: Option<String>,
    /// Its node's last report, RFC 3339.
    pub last_report: Option<String>,
}

/// How far the replication to the backup Region is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicationView {
    /// Changes that the backup Region has not confirmed.
    pub pending: u64,
    /// When the oldest of them was acknowledged to its writer, RFC 3339.
    pub oldest: Option<String>,
    /// Age of the oldest of them; 0 when none waits.
    pub lag_ms: u64,
    /// When the backup Region confirmed one last, RFC 3339.
    pub confirmed: Option<String>,
    /// Why nothing moves.
    pub message: Option<String>,
}

/// A cluster.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ClusterView {
    /// The cluster.
    #[schema(value_type = String)]
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// Where it runs.
    #[schema(value_type = String)]
    pub region: Region,
    /// Where its objects are replicated to.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub backup_region: Option<Region>,
    /// `external`.
    pub encryption: String,
    /// Its workload.
    pub template: String,
    /// Its state in one word.
    pub phase: Phase,
    /// Why it is not Ready, when a cause is known.
    #[schema(value_type = Option<String>)]
    pub cause: Option<Cause>,
    /// For the human.
    pub message: String,
    /// The role that the key policy names; absent until it is made.
    #[schema(value_type = Option<String>)]
    pub tenant_role_arn: Option<RoleArn>,
    /// The bound keys, the cluster's Region first.
    #[schema(value_type = Vec<String>)]
    pub key_arns: Vec<KeyArn>,
    /// What a refusal by one of two keys does: `any` or `each`; absent with one key.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub revocation: Option<Revocation>,
    /// Who holds the key.
    pub key_held_by: String,
    /// Where it answers; empty unless Ready.
    pub endpoints: Endpoints,
    /// Its Regions, the primary first.
    #[serde(default)]
    pub regions: Vec<RegionView>,
    /// How far replication is, while the primary's node reports it.
    #[serde(default)]
    pub replication: Option<ReplicationView>,
    /// The conditions.
    pub conditions: Vec<Condition>,
    /// Generation of the spec.
    pub generation: u64,
    /// Generation that the node acts on.
    pub observed_generation: Option<u64>,
    /// Its volumes.
    pub volumes: Vec<VolumeView>,
    /// Its buckets.
    #[serde(default)]
    pub buckets: Vec<BucketView>,
    /// When the frozen workload is taken out of memory, RFC 3339.
    pub evict_at: Option<String>,
    /// Made at, RFC 3339.
    pub created: String,
    /// The node's last report, RFC 3339.
    pub last_report: Option<String>,
}

/// One check of a preflight, with its repair.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CheckView {
    /// An IAM action or a property.
    pub check: String,
    /// It held.
    pub ok: bool,
    /// Why it did not.
    #[schema(value_type = Option<String>)]
    pub cause: Option<Cause>,
    /// What KMS answered.
    pub detail: Option<String>,
    /// Request id of KMS.
    pub request_id: Option<String>,
    /// Sid of the missing statement.
    pub missing_statement: Option<String>,
    /// The statement to add to the key policy.
    #[schema(value_type = Option<Object>)]
    pub patch: Option<serde_json::Value>,
    /// What to do.
    pub fix: Option<String>,
}

/// A preflight.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PreflightView {
    /// The preflight.
    #[schema(value_type = String)]
    pub preflight: PreflightId,
    /// Its cluster.
    #[schema(value_type = String)]
    pub cluster: ClusterId,
    /// The candidate.
    #[schema(value_type = String)]
    pub key_arn: KeyArn,
    /// `pending`, `passed` or `failed`.
    pub state: String,
    /// The checks, once finished.
    pub checks: Vec<CheckView>,
    /// Made at, RFC 3339.
    pub created: String,
    /// Ended at, RFC 3339.
    pub finished: Option<String>,
}

/// What is wrong, since when, and the command that repairs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    /// The cause; absent when nothing is wrong.
    #[schema(value_type = Option<String>)]
    pub cause: Option<Cause>,
    /// What happened.
    pub what: String,
    /// Since when, RFC 3339.
    pub since: Option<String>,
    /// Who did it: the command that asks the trail.
    pub who: Option<String>,
    /// What stopped.
    pub stopped: Vec<String>,
    /// The commands that repair it.
    pub fix: Vec<String>,
}

/// `GET /v1/whoami`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// `platform`, `organization` or `node`.
    pub scope: String,
    /// The organization or node.
    pub name: Option<String>,
}

/// RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI that names the kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// This case in words.
    pub detail: String,
    /// The cause, where one of the closed list applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cause: Option<Cause>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}
