//! The durable records, behind a trait. SQLite is the store; the twin in memory passes the same
//! suite and serves tests of the rooms above.
//!
//! What is written once (tenant role, binding, canary, wrapped keys, digests, reports) stays: the
//! same value again is fine, another one is told as [`Recorded::Other`] and changes nothing. Each
//! change that a node must see raises the generation of each of the cluster's Regions in the same
//! transaction.

mod buckets;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod memory;
mod sqlite;

pub(crate) use buckets::{Added, Bucket, BucketStore, CREDENTIALS, S3Key};
#[cfg(test)]
pub(crate) use memory::MemoryStore;
pub(crate) use sqlite::SqliteStore;

use keystead_types::{
    ClusterId, KeyArn, OrganizationId, Part, PreflightId, PreflightReport, Region, Revocation,
    RoleArn, StoreKey, VolumeId, WrappedKey,
};
use std::{collections::BTreeMap, future::Future, path::PathBuf, pin::Pin};

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite's own word.
    #[error("the store does not answer")]
    Database(#[from] sqlx::Error),
    /// A newer control wrote it.
    #[error("the store has version {found}, this program knows {known}; start the newer program")]
    Newer {
        /// Version of the file.
        found: i64,
        /// Version of this program.
        known: i64,
    },
    /// A row that this program never writes.
    #[error("the store holds a {table} record that cannot be read: {reason}")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The folder.
    #[error("cannot use {path}")]
    Folder {
        /// Which one.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("{0} is in use by another control")]
    InUse(PathBuf),
}

/// What a call of the store answers.
pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// So many finished preflights of a cluster are kept; a new one pushes the oldest out.
pub(crate) const PREFLIGHTS_KEPT: usize = 32;

/// SHA-256 of a bearer token.
pub(crate) type TokenHash = [u8; 32];

/// A tenant of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Organization {
    pub(crate) id: OrganizationId,
    pub(crate) name: String,
    pub(crate) created_ms: i64,
}

/// A cluster with its volumes, buckets and S3 access keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) organization: OrganizationId,
    pub(crate) name: String,
    pub(crate) region: Region,
    /// Objects are replicated to here; fixed at creation.
    pub(crate) backup_region: Option<Region>,
    pub(crate) template: String,
    pub(crate) evict_after_ms: u64,
    pub(crate) created_ms: i64,
    pub(crate) generation: u64,
    pub(crate) tenant_role: Option<RoleArn>,
    pub(crate) binding: Option<Keys>,
    pub(crate) canary: Option<WrappedKey>,
    /// The backup Region's.
    pub(crate) second_canary: Option<WrappedKey>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) buckets: Vec<Bucket>,
    pub(crate) credentials: Vec<StoreKey>,
    pub(crate) s3_keys: Vec<S3Key>,
}

impl Cluster {
    /// What a Region is to it; `None` for another cluster's Region.
    pub(crate) fn part(&self, region: &Region) -> Option<Part> {
        if self.region == *region {
            return Some(Part::Primary);
        }
        (self.backup_region.as_ref() == Some(region)).then_some(Part::Backup)
    }

    /// The Region whose node tries this key: the key's own, where the cluster has it.
    pub(crate) fn tries(&self, key: &KeyArn) -> &Region {
        self.backup_region.as_ref().filter(|r| *r == key.region()).unwrap_or(&self.region)
    }
}

/// The write-once tie of a cluster to its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The key of the cluster's Region.
    pub(crate) key: KeyArn,
    /// The key of its backup Region.
    pub(crate) second: Option<KeyArn>,
    /// What a refusal by one of two keys does.
    pub(crate) revocation: Revocation,
}

impl Keys {
    /// Both, the cluster's Region first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &KeyArn> {
        std::iter::once(&self.key).chain(&self.second)
    }
}

/// A volume's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) id: VolumeId,
    pub(crate) disk: String,
    pub(crate) size_bytes: u64,
    pub(crate) wrapped: Option<WrappedKey>,
    pub(crate) key_digest: Option<String>,
    pub(crate) grant_generation: u64,
}

/// A key that a node is to try, and what it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preflight {
    pub(crate) id: PreflightId,
    pub(crate) cluster: ClusterId,
    pub(crate) key: KeyArn,
    pub(crate) created_ms: i64,
    /// With the time at which control recorded it.
    pub(crate) report: Option<(PreflightReport, i64)>,
}

/// What became of a value that is written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// It was written.
    New,
    /// It was there.
    Same,
    /// Another value is there; nothing was changed.
    Other,
    /// There is no such record to write it to.
    Absent,
}

/// What became of an association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bound {
    /// It stands.
    Done,
    /// The cluster has its keys.
    Already(Keys),
    /// Another organization has this key.
    Elsewhere(KeyArn),
    /// No such cluster.
    Absent,
}

/// Which clusters.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Select<'a> {
    /// An organization's.
    Organization(&'a OrganizationId),
    /// Those that a Region is a part of.
    Region(&'a Region),
    /// Those that have no tenant role yet.
    WithoutRole,
}

/// The records.
pub(crate) trait Store: BucketStore {
    /// False when the name is taken.
    fn add_organization(&self, new: Organization, token: TokenHash) -> Answer<'_, bool>;
    /// All, by age.
    fn organizations(&self) -> Answer<'_, Vec<Organization>>;
    /// Whose token this is.
    fn organization_of(&self, token: TokenHash) -> Answer<'_, Option<Organization>>;

    /// False when the organization has a cluster of this name.
    fn add_cluster(&self, new: Cluster) -> Answer<'_, bool>;
    /// One, by id.
    fn cluster<'a>(&'a self, id: &'a ClusterId) -> Answer<'a, Option<Cluster>>;
    /// The cluster that a volume belongs to.
    fn cluster_of_volume<'a>(&'a self, id: &'a VolumeId) -> Answer<'a, Option<Cluster>>;
    /// Several, by age.
    fn clusters<'a>(&'a self, which: Select<'a>) -> Answer<'a, Vec<Cluster>>;
    /// The tenant role was made. Once.
    fn record_role<'a>(&'a self, id: &'a ClusterId, role: &'a RoleArn) -> Answer<'a, Recorded>;
    /// Ties a cluster to its keys, and makes the access key that its nodes replicate with. Once.
    fn bind<'a>(
        &'a self,
        id: &'a ClusterId,
        keys: &'a Keys,
        replicator: Option<S3Key>,
        now_ms: i64,
    ) -> Answer<'a, Bound>;
    /// The canary of one of its Regions. Once.
    fn record_canary<'a>(
        &'a self,
        id: &'a ClusterId,
        part: Part,
        key: &'a WrappedKey,
    ) -> Answer<'a, Recorded>;
    /// A volume's wrapped key. Once.
    fn record_wrapped<'a>(&'a self, id: &'a VolumeId, key: &'a WrappedKey) -> Answer<'a, Recorded>;
    /// The digest of a volume's key. Once.
    fn record_digest<'a>(&'a self, id: &'a VolumeId, digest: &'a str) -> Answer<'a, Recorded>;
    /// Raises a volume's grant generation from the one that the caller saw; false when it has
    /// moved since.
    fn regrant<'a>(&'a self, id: &'a VolumeId, seen: u64) -> Answer<'a, bool>;

    /// A new preflight; false when the cluster has `limit` waiting ones. Of the finished ones the
    /// newest [`PREFLIGHTS_KEPT`] stay.
    fn add_preflight(&self, new: Preflight, limit: usize) -> Answer<'_, bool>;
    /// One, by id.
    fn preflight<'a>(&'a self, id: &'a PreflightId) -> Answer<'a, Option<Preflight>>;
    /// A cluster's, by age.
    fn preflights_of<'a>(&'a self, cluster: &'a ClusterId) -> Answer<'a, Vec<Preflight>>;
    /// Those without a report that a Region's node is to try, by age.
    fn pending_preflights<'a>(&'a self, region: &'a Region) -> Answer<'a, Vec<Preflight>>;
    /// What a node found. Once.
    fn record_report<'a>(
        &'a self,
        report: &'a PreflightReport,
        now_ms: i64,
    ) -> Answer<'a, Recorded>;

    /// Generation of a Region's assignment; 0 before anything is to be done there.
    fn generation<'a>(&'a self, region: &'a Region) -> Answer<'a, u64>;
    /// Where a Region's node serves S3 now. True when that is new; the other Regions of its clusters
    /// are told.
    fn record_endpoint<'a>(&'a self, region: &'a Region, endpoint: &'a str) -> Answer<'a, bool>;
    /// Where the nodes served S3 when they said so last.
    fn endpoints(&self) -> Answer<'_, BTreeMap<Region, String>>;
    /// Raises every Region's generation when the templates are not those of the last start.
    fn adopt_templates<'a>(&'a self, digest: &'a str) -> Answer<'a, ()>;
}
