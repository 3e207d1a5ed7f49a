//! The board: what each part of the node last observed; and the loop that puts it to control, at
//! once when it changed, else each second.

use crate::assignments::Control;
use crate::config::NodeConfig;
use keystead_types::{
    Assignment, BucketId, BucketStatus, BucketWish, ClusterAssignment, ClusterId, ClusterStatus,
    DocumentAnswer, LeaseStatus, LeaseWord, Made, MadeBucketKey, MadeS3Key, MadeVolume, NodeStatus,
    PreflightId, PreflightReport, ReplicationStatus, StoreKey, VolumeId, VolumeStatus, VolumeWord,
    WorkloadStatus, WorkloadWord, WrappedKey,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

const EVERY: Duration = Duration::from_secs(1);
/// So many answers go with one status, which must not grow; the others go with the next.
const ANSWERS: usize = 8;

/// What a cluster's thread observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) volumes: BTreeMap<VolumeId, (VolumeWord, Option<String>)>,
    pub(crate) workload: WorkloadStatus,
    pub(crate) sync_stalled: bool,
    pub(crate) evict_at_ms: Option<i64>,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            volumes: BTreeMap::new(),
            workload: WorkloadStatus {
                state: WorkloadWord::Stopped,
                endpoint: None,
                message: None,
            },
            sync_stalled: false,
            evict_at_ms: None,
        }
    }
}

#[derive(Default)]
struct Inner {
    leases: BTreeMap<ClusterId, LeaseStatus>,
    seconds: BTreeMap<ClusterId, LeaseStatus>,
    canaries: BTreeMap<ClusterId, WrappedKey>,
    wrapped: BTreeMap<VolumeId, WrappedKey>,
    digests: BTreeMap<VolumeId, String>,
    grants: BTreeMap<VolumeId, (u64, String)>,
    stores: BTreeMap<VolumeId, (keystead_types::Cause, String)>,
    images: BTreeMap<VolumeId, (keystead_types::Cause, String)>,
    provision: BTreeMap<ClusterId, String>,
    running: BTreeMap<ClusterId, Running>,
    preflights: BTreeMap<PreflightId, PreflightReport>,
    bucket_keys: BTreeMap<BucketId, StoreKey>,
    credentials: BTreeMap<ClusterId, StoreKey>,
    s3_keys: BTreeMap<String, MadeS3Key>,
    wishes: BTreeMap<ClusterId, Vec<BucketWish>>,
    buckets: BTreeMap<ClusterId, Vec<BucketStatus>>,
    replication: BTreeMap<ClusterId, ReplicationStatus>,
    s3_endpoint: Option<String>,
    documents: BTreeMap<String, DocumentAnswer>,
}

/// The board.
#[derive(Default)]
pub(crate) struct Board {
    inner: Mutex<Inner>,
    changed: Notify,
}

macro_rules! setter {
    ($(#[$doc:meta])* $name:ident, $map:ident, $key:ty, $value:ty) => {
        $(#[$doc])*
        pub(crate) fn $name(&self, key: &$key, value: $value) {
            let mut inner = self.lock();
            if inner.$map.get(key) != Some(&value) {
                inner.$map.insert(key.clone(), value);
                self.changed.notify_one();
            }
        }
    };
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    setter!(
        /// A lease's state.
        lease, leases, ClusterId, LeaseStatus
    );
    setter!(
        /// What the key of the cluster's other Region says.
        second, seconds, ClusterId, LeaseStatus
    );
    setter!(
        /// A canary that was made.
        canary, canaries, ClusterId, WrappedKey
    );
    setter!(
        /// A volume's wrapped key that was made.
        wrapped, wrapped, VolumeId, WrappedKey
    );
    setter!(
        /// The digest of the key in a volume's image.
        digest, digests, VolumeId, String
    );
    setter!(
        /// The grant a volume is opened with.
        grant, grants, VolumeId, (u64, String)
    );
    setter!(
        /// What a cluster's thread observed.
        running, running, ClusterId, Running
    );
    setter!(
        /// A finished preflight.
        preflight, preflights, PreflightId, PreflightReport
    );
    setter!(
        /// Why provisioning does not go on.
        provision_stuck, provision, ClusterId, String
    );
    setter!(
        /// Why a store's own proof fails.
        store_denied, stores, VolumeId, (keystead_types::Cause, String)
    );
    setter!(
        /// Why a volume's image is not opened.
        image_denied, images, VolumeId, (keystead_types::Cause, String)
    );

    setter!(
        /// A bucket's data key that was made.
        bucket_key, bucket_keys, BucketId, StoreKey
    );
    setter!(
        /// A data key of the S3 credentials that was made.
        credentials, credentials, ClusterId, StoreKey
    );
    setter!(
        /// What users of S3 asked for.
        wishes, wishes, ClusterId, Vec<BucketWish>
    );
    setter!(
        /// What a cluster's buckets are at.
        buckets, buckets, ClusterId, Vec<BucketStatus>
    );
    setter!(
        /// How far a cluster's replication is.
        replication, replication, ClusterId, ReplicationStatus
    );

    /// An S3 access key whose secret was made.
    pub(crate) fn s3_key(&self, made: MadeS3Key) {
        self.lock().s3_keys.insert(made.access_key_id.clone(), made);
        self.changed.notify_one();
    }

    /// True while the lease is said to live.
    pub(crate) fn lease_lives(&self, cluster: &ClusterId) -> bool {
        self.lock().leases.get(cluster).is_some_and(|l| l.state == LeaseWord::Live)
    }

    /// True when its secret was made.
    pub(crate) fn has_s3_key(&self, access_key_id: &str) -> bool {
        self.lock().s3_keys.contains_key(access_key_id)
    }

    /// An answer to who waits for something of documents.
    pub(crate) fn document(&self, answer: DocumentAnswer) {
        self.lock().documents.insert(answer.ask.clone(), answer);
        self.changed.notify_one();
    }

    /// True when it is answered.
    pub(crate) fn has_document(&self, ask: &str) -> bool {
        self.lock().documents.contains_key(ask)
    }

    /// Where S3 is served, once it is.
    pub(crate) fn where_s3_is(&self) -> Option<String> {
        self.lock().s3_endpoint.clone()
    }

    /// Where S3 is served.
    pub(crate) fn s3_endpoint(&self, url: String) {
        self.lock().s3_endpoint = Some(url);
        self.changed.notify_one();
    }

    /// True when the next data key of these was made before this assignment recorded it.
    pub(crate) fn has_bucket_key(&self, bucket: &BucketId, recorded: &[StoreKey]) -> bool {
        self.lock().bucket_keys.get(bucket).is_some_and(|k| is_next(k, recorded))
    }

    /// The same of the S3 credentials.
    pub(crate) fn has_credentials(&self, cluster: &ClusterId, recorded: &[StoreKey]) -> bool {
        self.lock().credentials.get(cluster).is_some_and(|k| is_next(k, recorded))
    }

    /// A store's proof holds.
    pub(crate) fn store_fine(&self, volume: &VolumeId) {
        if self.lock().stores.remove(volume).is_some() {
            self.changed.notify_one();
        }
    }

    /// A volume's image is what the record says.
    pub(crate) fn image_fine(&self, volume: &VolumeId) {
        if self.lock().images.remove(volume).is_some() {
            self.changed.notify_one();
        }
    }

    /// Provisioning goes on.
    pub(crate) fn provision_fine(&self, cluster: &ClusterId) {
        if self.lock().provision.remove(cluster).is_some() {
            self.changed.notify_one();
        }
    }

    /// A canary made before this assignment recorded it.
    pub(crate) fn made_canary(&self, cluster: &ClusterId) -> Option<WrappedKey> {
        self.lock().canaries.get(cluster).cloned()
    }

    /// A wrapped key made before this assignment recorded it.
    pub(crate) fn made_wrapped(&self, volume: &VolumeId) -> Option<WrappedKey> {
        self.lock().wrapped.get(volume).cloned()
    }

    /// True when the preflight is finished.
    pub(crate) fn has_preflight(&self, preflight: &PreflightId) -> bool {
        self.lock().preflights.contains_key(preflight)
    }

    #[cfg(test)]
    pub(crate) fn document_said(&self, ask: &str) -> Option<DocumentAnswer> {
        self.lock().documents.get(ask).cloned()
    }
    #[cfg(test)]
    pub(crate) fn bucket_words(&self, cluster: &ClusterId) -> Vec<BucketStatus> {
        self.lock().buckets.get(cluster).cloned().unwrap_or_default()
    }
    #[cfg(test)]
    pub(crate) fn replicated(&self, cluster: &ClusterId) -> Option<ReplicationStatus> {
        self.lock().replication.get(cluster).cloned()
    }
    #[cfg(test)]
    pub(crate) fn wished(&self, cluster: &ClusterId) -> Vec<BucketWish> {
        self.lock().wishes.get(cluster).cloned().unwrap_or_default()
    }
    #[cfg(test)]
    pub(crate) fn made_s3_key(&self, access_key_id: &str) -> Option<MadeS3Key> {
        self.lock().s3_keys.get(access_key_id).cloned()
    }

    /// Drops what the assignment no longer names.
    pub(crate) fn keep_only(&self, assignment: &Assignment) {
        let mut inner = self.lock();
        inner.preflights.retain(|id, _| assignment.preflights.iter().any(|p| p.preflight == *id));
        // A secret is not kept once its sealed form is on record.
        let waits = |id: &String| {
            let mut keys = assignment.clusters.iter().flat_map(|c| &c.s3_keys);
            keys.any(|k| k.access_key_id == *id && k.sealed.is_none())
        };
        inner.s3_keys.retain(|id, _| waits(id));
        let asks = &assignment.documents.asks;
        inner.documents.retain(|id, _| asks.iter().any(|a| a.ask == *id));
    }

    /// The whole status.
    pub(crate) fn compose(
        &self,
        config: &NodeConfig,
        incarnation: &str,
        assignment: &Assignment,
    ) -> NodeStatus {
        let inner = self.lock();
        NodeStatus {
            region: config.region.clone(),
            node: config.name.clone(),
            incarnation: incarnation.to_owned(),
            observed_generation: assignment.generation,
            s3_endpoint: inner.s3_endpoint.clone(),
            clusters: assignment.clusters.iter().map(|c| inner.cluster(c)).collect(),
            preflights: inner.preflights.values().cloned().collect(),
            documents: inner.documents.values().take(ANSWERS).cloned().collect(),
        }
    }
}

impl Inner {
    fn cluster(&self, wanted: &ClusterAssignment) -> ClusterStatus {
        let running = self.running.get(&wanted.cluster).cloned().unwrap_or_default();
        let made_volumes = wanted
            .volumes
            .iter()
            .map(|v| MadeVolume {
                volume: v.volume.clone(),
                // What control has recorded need not be said again.
                wrapped: self.wrapped.get(&v.volume).filter(|_| v.wrapped.is_none()).cloned(),
                key_digest: self.digests.get(&v.volume).filter(|_| v.key_digest.is_none()).cloned(),
            })
            .filter(|m| m.wrapped.is_some() || m.key_digest.is_some())
            .collect();
        let mut workload = running.workload.clone();
        let lease = self.leases.get(&wanted.cluster);
        let fenced = lease.is_some_and(|l| l.state != LeaseWord::Live);
        if fenced && workload.state == WorkloadWord::Ready {
            // The cluster's thread is at it, and may be waiting for the holder.
            workload.state = WorkloadWord::Frozen;
        }
        if workload.message.is_none() {
            workload.message = self.provision.get(&wanted.cluster).cloned();
        }
        ClusterStatus {
            cluster: wanted.cluster.clone(),
            observed_generation: wanted.generation,
            second: self.seconds.get(&wanted.cluster).cloned(),
            replication: self.replication.get(&wanted.cluster).cloned(),
            made: Made {
                canary: self
                    .canaries
                    .get(&wanted.cluster)
                    .filter(|_| wanted.canary.is_none())
                    .cloned(),
                volumes: made_volumes,
                buckets: wanted
                    .buckets
                    .iter()
                    .filter_map(|b| {
                        let key = self.bucket_keys.get(&b.bucket)?;
                        let bucket = b.bucket.clone();
                        is_next(key, &b.keys).then(|| MadeBucketKey { bucket, key: key.clone() })
                    })
                    .collect(),
                credentials: self
                    .credentials
                    .get(&wanted.cluster)
                    .filter(|k| is_next(k, &wanted.credentials))
                    .cloned(),
                s3_keys: wanted
                    .s3_keys
                    .iter()
                    .filter(|k| k.sealed.is_none())
                    .filter_map(|k| self.s3_keys.get(&k.access_key_id).cloned())
                    .collect(),
            },
            lease: lease.cloned().unwrap_or(LeaseStatus {
                state: LeaseWord::None,
                cause: None,
                detail: None,
                since_ms: 0,
                deletion_date_ms: None,
            }),
            volumes: wanted
                .volumes
                .iter()
                .map(|v| {
                    let (state, message) = running
                        .volumes
                        .get(&v.volume)
                        .cloned()
                        .unwrap_or((VolumeWord::Absent, None));
                    let image = || self.images.get(&v.volume);
                    let denied = self.stores.get(&v.volume).or_else(image);
                    let grant = self.grants.get(&v.volume);
                    VolumeStatus {
                        volume: v.volume.clone(),
                        state,
                        grant_id: grant.map(|(_, id)| id.clone()),
                        grant_generation: grant.map_or(0, |(generation, _)| *generation),
                        cause: denied.map(|(cause, _)| *cause),
                        message: denied.map(|(_, detail)| detail.clone()).or(message),
                    }
                })
                .collect(),
            buckets: self.buckets.get(&wanted.cluster).cloned().unwrap_or_default(),
            wishes: self.wishes.get(&wanted.cluster).cloned().unwrap_or_default(),
            workload,
            sync_stalled: running.sync_stalled,
            evict_at_ms: running.evict_at_ms,
        }
    }
}

/// Made, and not recorded yet.
fn is_next(made: &StoreKey, recorded: &[StoreKey]) -> bool {
    made.ordinal as usize == recorded.len()
}

/// Puts the status for ever.
pub(crate) async fn run(
    config: Arc<NodeConfig>,
    control: Control,
    board: Arc<Board>,
    assignment: watch::Receiver<Arc<Assignment>>,
    incarnation: String,
) {
    let url = format!("{}/v1/node/status", control.url);
    let mut assignment = assignment;
    loop {
        let current = assignment.borrow_and_update().clone();
        board.keep_only(&current);
        let status = board.compose(&config, &incarnation, &current);
        let put = control
            .client
            .put(&url)
            .bearer_auth(control.token.as_str())
            .timeout(Duration::from_secs(2))
            .json(&status)
            .send()
            .await;
        match put {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => tracing::debug!(status = %answer.status(), "status not taken"),
            Err(error) => tracing::debug!(%error, "status not put"),
        }
        tokio::select! {
            () = board.changed.notified() => {}
            _ = assignment.changed() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_not_said_beside_a_lease_that_does_not_live() {
        let folder = tempfile::tempdir().expect("a folder");
        let wanted = crate::joint::tests::wanted(folder.path(), 1 << 20);
        let board = Board::default();
        let workload = WorkloadStatus { state: WorkloadWord::Ready, endpoint: None, message: None };
        board.running(&wanted.cluster, Running { workload, ..Running::default() });
        for (state, shown) in [
            (LeaseWord::Live, WorkloadWord::Ready),
            (LeaseWord::Lapsed, WorkloadWord::Frozen),
            (LeaseWord::Frozen, WorkloadWord::Frozen),
        ] {
            let (cause, detail, deletion_date_ms) = (None, None, None);
            let lease = LeaseStatus { state, cause, detail, since_ms: 0, deletion_date_ms };
            board.lease(&wanted.cluster, lease);
            assert_eq!(board.lock().cluster(&wanted).workload.state, shown, "{state:?}");
        }
    }
}
