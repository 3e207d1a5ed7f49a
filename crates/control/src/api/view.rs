//! Records and reports as the API shows them.

use super::App;
use super::problem::ApiError;
use crate::conditions::{Evidence, Judgement, judge};
use crate::store::{Bucket, Cluster, Keys, Organization, Select, Volume};
use crate::time::rfc3339;
use crate::wire::{
    BucketView, ClusterView, Endpoints, Phase, RegionView, ReplicationView, VolumeView,
};
use keystead_types::{ClusterId, ClusterStatus, KeyArn, Part, Region};

impl App {
    /// One of the organization's clusters, by id or name.
    pub(super) async fn find(
        &self,
        owner: &Organization,
        named: &str,
    ) -> Result<Cluster, ApiError> {
        let found = match named.parse::<ClusterId>() {
            Ok(id) => self.store.cluster(&id).await?.filter(|c| c.organization == owner.id),
            Err(_) => {
                let all = self.store.clusters(Select::Organization(&owner.id)).await?;
                all.into_iter().find(|c| c.name == named)
            }
        };
        found.ok_or_else(|| ApiError::not_found("cluster", named))
    }

    /// Judges a cluster by what is known now.
    pub(super) fn judged<T>(&self, cluster: &Cluster, read: impl FnOnce(&Judgement<'_>) -> T) -> T {
        let report = self.board.report(&cluster.region);
        let backup = cluster.backup_region.as_ref().and_then(|r| self.board.report(r));
        let fault = self.board.role_fault(&cluster.id);
        read(&judge(Evidence {
            cluster,
            role_fault: fault.as_deref(),
            report: report.as_deref(),
            backup_report: backup.as_deref(),
            now: self.clock.boot(),
        }))
    }

    /// Where the cluster's node serves S3.
    pub(super) fn s3_endpoint(&self, cluster: &Cluster) -> Option<String> {
        self.board.report(&cluster.region)?.status.s3_endpoint.clone()
    }

    /// The cluster as shown.
    pub(super) fn view(&self, c: &Cluster) -> ClusterView {
        let last_report = self.board.report(&c.region).and_then(|r| rfc3339(r.wall_ms));
        self.judged(c, |judged| ClusterView {
            id: c.id.clone(),
            name: c.name.clone(),
            region: c.region.clone(),
            backup_region: c.backup_region.clone(),
            encryption: "external".to_owned(),
            template: c.template.clone(),
            phase: judged.phase,
            cause: judged.cause,
            message: judged.message.clone(),
            tenant_role_arn: c.tenant_role.clone(),
            key_arns: c.binding.iter().flat_map(Keys::all).cloned().collect(),
            revocation: c
                .binding
                .as_ref()
                .filter(|keys| keys.second.is_some())
                .map(|keys| keys.revocation),
            key_held_by: "owner".to_owned(),
            endpoints: Endpoints {
                postgres: judged
                    .seen
                    .filter(|_| judged.phase == Phase::Ready)
                    .and_then(|s| s.workload.endpoint.clone()),
                s3: judged.seen.and_then(|_| self.s3_endpoint(c)),
            },
            regions: self.regions(c, judged),
            replication: judged.seen.and_then(|s| self.replication(s)),
            conditions: judged.conditions.clone(),
            generation: c.generation,
            observed_generation: judged.seen.map(|s| s.observed_generation),
            volumes: c.volumes.iter().map(|v| volume(c, v, judged.seen)).collect(),
            buckets: c.buckets.iter().map(|b| bucket(c, b, judged.seen)).collect(),
            evict_at: judged.seen.and_then(|s| s.evict_at_ms).and_then(rfc3339),
            created: rfc3339(c.created_ms).unwrap_or_default(),
            last_report,
        })
    }
}

impl App {
    fn regions(&self, c: &Cluster, judged: &Judgement<'_>) -> Vec<RegionView> {
        let keys = c.binding.as_ref();
        let beside = c.backup_region.as_ref().map(|region| {
            let seen = judged.beside.and_then(|b| b.seen);
            (region, Part::Backup, keys.and_then(|keys| keys.second.as_ref()), seen)
        });
        let own = (&c.region, Part::Primary, keys.map(|keys| &keys.key), judged.seen);
        let view = |(region, part, key, seen): (&Region, _, Option<&KeyArn>, _)| {
            let report = self.board.report(region);
            let lease = Option::map(seen, |s: &ClusterStatus| &s.lease);
            RegionView {
                region: region.clone(),
                part,
                key_arn: key.cloned(),
                lease: lease.map(|l| l.state),
                cause: lease.and_then(|l| l.cause),
                since: lease.map(|l| l.since_ms).filter(|ms| *ms > 0).and_then(rfc3339),
                s3_endpoint: seen
                    .and(report.as_ref())
                    .and_then(|report| report.status.s3_endpoint.clone()),
                last_report: report.and_then(|report| rfc3339(report.wall_ms)),
            }
        };
        std::iter::once(own).chain(beside).map(view).collect()
    }

    fn replication(&self, seen: &ClusterStatus) -> Option<ReplicationView> {
        let found = seen.replication.as_ref()?;
        let now = self.clock.wall_ms();
        let age = |ms: i64| u64::try_from(now.saturating_sub(ms)).unwrap_or(0);
        Some(ReplicationView {
            pending: found.pending,
            oldest: found.oldest_ms.and_then(rfc3339),
            lag_ms: found.oldest_ms.map_or(0, age),
            confirmed: found.confirmed_ms.and_then(rfc3339),
            message: found.message.clone(),
        })
    }
}

/// A bucket as shown.
pub(super) fn bucket(c: &Cluster, b: &Bucket, seen: Option<&ClusterStatus>) -> BucketView {
    let seen = seen.and_then(|s| s.buckets.iter().find(|s| s.bucket == b.id));
    let newest = b.keys.last();
    BucketView {
        bucket: b.id.clone(),
        cluster: c.id.clone(),
        name: b.name.clone(),
        state: seen.map(|s| s.state),
        data_keys: b.keys.len(),
        keys: newest.iter().flat_map(|k| &k.wrapped).map(|w| w.key.clone()).collect(),
        cause: seen.and_then(|s| s.cause),
        message: seen.and_then(|s| s.message.clone()),
        created: rfc3339(b.created_ms).unwrap_or_default(),
    }
}

/// A volume as shown.
pub(super) fn volume(c: &Cluster, v: &Volume, seen: Option<&ClusterStatus>) -> VolumeView {
    let seen = seen.and_then(|s| s.volumes.iter().find(|s| s.volume == v.id));
    VolumeView {
        volume: v.id.clone(),
        cluster: c.id.clone(),
        disk: v.disk.clone(),
        size_bytes: v.size_bytes,
        state: seen.map(|s| s.state),
        grant_generation: v.grant_generation,
        observed_grant_generation: seen.map(|s| s.grant_generation),
        grant_id: seen.and_then(|s| s.grant_id.clone()),
        key: v.wrapped.as_ref().map(|w| w.key.clone()),
        wrapped_key: v.wrapped.as_ref().map(|w| w.ciphertext.clone()),
        key_digest: v.key_digest.clone(),
        cause: seen.and_then(|s| s.cause),
        message: seen.and_then(|s| s.message.clone()),
    }
}
