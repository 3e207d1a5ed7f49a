//! The assignment of a Region, from the records. Pure.

use crate::store::{Cluster, Preflight};
use crate::templates::Templates;
use keystead_types::{
    Assignment, Binding, BucketAssignment, ClusterAssignment, DocumentAsks, LeaseSettings, Part,
    PreflightRequest, Region, S3KeyAssignment, VolumeAssignment,
};

/// What the Region's node is to do. A cluster enters when its tenant role is made.
pub(crate) fn assignment(
    generation: u64,
    region: &Region,
    clusters: &[Cluster],
    pending: &[Preflight],
    templates: &Templates,
) -> Assignment {
    let preflights = pending.iter().filter_map(|p| {
        let cluster = clusters.iter().find(|c| c.id == p.cluster)?;
        Some(PreflightRequest {
            preflight: p.id.clone(),
            cluster: p.cluster.clone(),
            tenant_role: cluster.tenant_role.clone()?,
            key: p.key.clone(),
        })
    });
    Assignment {
        generation,
        region: region.clone(),
        clusters: clusters.iter().filter_map(|c| cluster(c, templates)).collect(),
        preflights: preflights.collect(),
        documents: DocumentAsks::default(),
    }
}

fn cluster(c: &Cluster, templates: &Templates) -> Option<ClusterAssignment> {
    let volumes = c.volumes.iter().map(|v| VolumeAssignment {
        volume: v.id.clone(),
        disk: v.disk.clone(),
        size_bytes: v.size_bytes,
        wrapped: v.wrapped.clone(),
        key_digest: v.key_digest.clone(),
        grant_generation: v.grant_generation,
    });
    let buckets = c.buckets.iter().map(|b| BucketAssignment {
        bucket: b.id.clone(),
        name: b.name.clone(),
        keys: b.keys.clone(),
    });
    let s3_keys = c.s3_keys.iter().map(|k| S3KeyAssignment {
        access_key_id: k.access_key_id.clone(),
        role: k.role,
        sealed: k.sealed.clone(),
        expires_ms: k.expires_ms,
    });
    Some(ClusterAssignment {
        cluster: c.id.clone(),
        organization: c.organization.clone(),
        name: c.name.clone(),
        generation: c.generation,
        part: Part::Primary,
        peer: None,
        tenant_role: c.tenant_role.clone()?,
        binding: c.binding.clone().map(Binding::of),
        canary: c.canary.clone(),
        volumes: volumes.collect(),
        buckets: buckets.collect(),
        credentials: c.credentials.clone(),
        s3_keys: s3_keys.collect(),
        template: templates.get(&c.template)?.clone(),
        lease: LeaseSettings { evict_after_ms: c.evict_after_ms, ..LeaseSettings::default() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_cluster_without_a_role_is_nobodys_work_yet() {
        let templates = Templates::load().expect("templates");
        let (young, made) = (testing::cluster("young"), testing::bound("made"));
        let region = &made.region;
        let all = assignment(7, region, &[young, made.clone()], &[], &templates);
        assert_eq!((all.generation, all.clusters.len()), (7, 1));
        let only = &all.clusters[0];
        assert_eq!(only.binding.as_ref().map(|b| &b.key), made.binding.as_ref());
        assert_eq!((only.lease.evict_after_ms, only.lease.silence_ms), (900_000, 10_000));
        assert_eq!(only.template.name, "postgres");
    }
}
