//! Records and reports for tests.

use crate::board::Report;
use crate::store::{Bucket, Cluster, Keys, Volume};
use keystead_types::*;
use uuid::Uuid;

pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const BACKUP: &str = "eu-west-1";

pub(crate) fn key(last: u8) -> KeyArn {
    format!(
        "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890{last:02x}"
    )
    .parse()
    .expect("a key ARN")
}

/// A key of the backup Region.
pub(crate) fn far_key(last: u8) -> KeyArn {
    key(last).to_string().replace(REGION, BACKUP).parse().expect("a key ARN")
}

/// A fresh cluster with two disks.
pub(crate) fn cluster(name: &str) -> Cluster {
    let volume = |disk: &str| Volume {
        id: VolumeId::from_uuid(Uuid::now_v7()),
        disk: disk.to_owned(),
        size_bytes: 1 << 30,
        wrapped: None,
        key_digest: None,
        grant_generation: 1,
    };
    let bucket = |name: &str| Bucket {
        id: BucketId::from_uuid(Uuid::now_v7()),
        name: name.to_owned(),
        created_ms: 5,
        keys: vec![],
    };
    Cluster {
        id: ClusterId::from_uuid(Uuid::now_v7()),
        organization: OrganizationId::from_uuid(Uuid::now_v7()),
        name: name.to_owned(),
        region: REGION.parse().expect("a Region"),
        backup_region: None,
        template: "postgres".to_owned(),
        evict_after_ms: 900_000,
        created_ms: 5,
        generation: 1,
        tenant_role: None,
        binding: None,
        canary: None,
        second_canary: None,
        volumes: vec![volume("orchestration"), volume("search")],
        buckets: vec![bucket("documents")],
        credentials: vec![],
        s3_keys: vec![],
    }
}

/// A cluster whose records are complete.
pub(crate) fn bound(name: &str) -> Cluster {
    let mut c = cluster(name);
    let wrapped = |context| WrappedKey { key: key(1), ciphertext: "AA==".to_owned(), context };
    c.tenant_role =
        RoleArn::new("444455556666".parse().expect("an account"), &format!("keystead-{}", c.id))
            .ok();
    c.binding = Some(Keys { key: key(1), second: None, revocation: Revocation::default() });
    c.canary = Some(wrapped(EncryptionContext::canary(&c.id)));
    for v in &mut c.volumes {
        v.wrapped = Some(wrapped(EncryptionContext::volume(&c.id, &v.id)));
        v.key_digest = Some("aa".repeat(32));
    }
    c
}

/// The same, of two Regions.
pub(crate) fn bound_twice(name: &str) -> Cluster {
    let mut c = bound(name);
    c.backup_region = BACKUP.parse().ok();
    c.second_canary = Some(WrappedKey {
        key: far_key(2),
        ciphertext: "BB==".to_owned(),
        context: EncryptionContext::canary(&c.id),
    });
    if let Some(keys) = &mut c.binding {
        keys.second = Some(far_key(2));
    }
    c
}

/// What a node says of a cluster that serves.
pub(crate) fn serving(c: &Cluster) -> ClusterStatus {
    ClusterStatus {
        cluster: c.id.clone(),
        observed_generation: c.generation,
        made: Made::default(),
        second: None,
        replication: None,
        lease: LeaseStatus {
            state: LeaseWord::Live,
            cause: None,
            detail: None,
            since_ms: 0,
            deletion_date_ms: None,
        },
        volumes: c
            .volumes
            .iter()
            .map(|v| VolumeStatus {
                volume: v.id.clone(),
                state: VolumeWord::Attached,
                grant_id: Some("g".to_owned()),
                grant_generation: v.grant_generation,
                cause: None,
                message: None,
            })
            .collect(),
        workload: WorkloadStatus {
            state: WorkloadWord::Ready,
            endpoint: Some("postgresql://postgres:pw@127.0.0.1:5/postgres".to_owned()),
            message: None,
        },
        buckets: c
            .buckets
            .iter()
            .map(|b| BucketStatus {
                bucket: b.id.clone(),
                state: BucketWord::Serving,
                cause: None,
                message: None,
            })
            .collect(),
        wishes: vec![],
        sync_stalled: false,
        evict_at_ms: None,
    }
}

/// A node's report at a time of the test clock.
pub(crate) fn report(clusters: Vec<ClusterStatus>, at_ms: i64) -> Report {
    Report {
        status: NodeStatus {
            region: REGION.parse().expect("a Region"),
            node: "node-eu-central-1".to_owned(),
            incarnation: "i".to_owned(),
            observed_generation: 1,
            s3_endpoint: Some("http://127.0.0.1:7490".to_owned()),
            clusters,
            preflights: Vec::new(),
            documents: Vec::new(),
        },
        at: Boot::since_boot(std::time::Duration::from_millis(at_ms.unsigned_abs())),
        wall_ms: at_ms,
    }
}

/// The same, of the backup Region's node.
pub(crate) fn far_report(clusters: Vec<ClusterStatus>, at_ms: i64) -> Report {
    let mut told = report(clusters, at_ms);
    told.status.region = BACKUP.parse().expect("a Region");
    told.status.node = "node-eu-west-1".to_owned();
    told.status.s3_endpoint = Some("http://127.0.0.1:7491".to_owned());
    told
}
