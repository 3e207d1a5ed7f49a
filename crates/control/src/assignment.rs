//! The assignment of a Region, from the records. Pure.

use crate::store::{Cluster, Keys, Preflight};
use crate::templates::Templates;
use keystead_types::{
    Assignment, Binding, BucketAssignment, ClusterAssignment, DocumentAsks, LeaseSettings, Part,
    Peer, PreflightRequest, Region, S3KeyAssignment, SecondKey, VolumeAssignment,
};
use std::collections::BTreeMap;

/// Where the nodes of the Regions serve S3, as far as that was ever said.
pub(crate) type S3Endpoints = BTreeMap<Region, String>;

/// What the Region's node is to do. A cluster enters when its tenant role is made.
pub(crate) fn assignment(
    generation: u64,
    region: &Region,
    clusters: &[Cluster],
    pending: &[Preflight],
    templates: &Templates,
    endpoints: &S3Endpoints,
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
        clusters: clusters
            .iter()
            .filter_map(|c| cluster(c, region, templates, endpoints))
            .collect(),
        preflights: preflights.collect(),
        documents: DocumentAsks::default(),
    }
}

fn cluster(
    c: &Cluster,
    region: &Region,
    templates: &Templates,
    endpoints: &S3Endpoints,
) -> Option<ClusterAssignment> {
    let part = c.part(region)?;
    let other = match part {
        Part::Primary => c.backup_region.as_ref(),
        Part::Backup => Some(&c.region),
    };
    let peer = other
        .map(|region| Peer { region: region.clone(), s3_endpoint: endpoints.get(region).cloned() });
    // Disks are the primary's alone.
    let disks = c.volumes.iter().filter(|_| part == Part::Primary);
    let volumes = disks.map(|v| VolumeAssignment {
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
        part,
        peer,
        tenant_role: c.tenant_role.clone()?,
        binding: c.binding.as_ref().and_then(|keys| binding(c, part, keys)),
        canary: match part {
            Part::Primary => c.canary.clone(),
            Part::Backup => c.second_canary.clone(),
        },
        volumes: volumes.collect(),
        buckets: buckets.collect(),
        credentials: c.credentials.clone(),
        s3_keys: s3_keys.collect(),
        template: templates.get(&c.template)?.clone(),
        lease: LeaseSettings { evict_after_ms: c.evict_after_ms, ..LeaseSettings::default() },
    })
}

/// The tie as one of the Regions meets it: its own key, and the other one beside it.
fn binding(c: &Cluster, part: Part, keys: &Keys) -> Option<Binding> {
    let Some(second) = &keys.second else { return Some(Binding::of(keys.key.clone())) };
    let (key, other, canary) = match part {
        Part::Primary => (&keys.key, second, &c.second_canary),
        Part::Backup => (second, &keys.key, &c.canary),
    };
    Some(Binding {
        key: key.clone(),
        second: Some(SecondKey { key: other.clone(), canary: canary.clone() }),
        revocation: keys.revocation,
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
        let all = assignment(7, region, &[young, made.clone()], &[], &templates, &BTreeMap::new());
        assert_eq!((all.generation, all.clusters.len()), (7, 1));
        let only = &all.clusters[0];
        assert_eq!(only.binding, made.binding.as_ref().map(|k| Binding::of(k.key.clone())));
        assert_eq!((only.part, &only.peer), (Part::Primary, &None));
        assert_eq!((only.lease.evict_after_ms, only.lease.silence_ms), (900_000, 10_000));
        assert_eq!(only.template.name, "postgres");
    }

    #[test]
    fn each_region_meets_its_own_key_and_the_other_beside_it() {
        let templates = Templates::load().expect("templates");
        let c = testing::bound_twice("two");
        let backup = c.backup_region.clone().expect("a backup Region");
        let keys = c.binding.clone().expect("keys");
        let second = keys.second.expect("a second key");
        let endpoints = BTreeMap::from([(backup.clone(), "http://b".to_owned())]);
        let of = |region: &Region| {
            let clusters = std::slice::from_ref(&c);
            assignment(1, region, clusters, &[], &templates, &endpoints).clusters.remove(0)
        };
        let (here, there) = (of(&c.region), of(&backup));
        assert_eq!((here.part, there.part), (Part::Primary, Part::Backup));
        let peer =
            |region: &Region, s3_endpoint| Some(Peer { region: region.clone(), s3_endpoint });
        assert_eq!(here.peer, peer(&backup, Some("http://b".to_owned())));
        assert_eq!(there.peer, peer(&c.region, None), "not known yet");
        assert_eq!((here.volumes.len(), there.volumes.len()), (2, 0));
        assert_eq!(here.buckets, there.buckets);
        let (a, b) = (here.binding.expect("a binding"), there.binding.expect("a binding"));
        assert_eq!((&a.key, &b.key), (&keys.key, &second));
        let other = |key: &keystead_types::KeyArn, canary: &Option<_>| {
            Some(SecondKey { key: key.clone(), canary: canary.clone() })
        };
        assert_eq!(a.second, other(&second, &c.second_canary));
        assert_eq!(b.second, other(&keys.key, &c.canary));
        assert_eq!((here.canary, there.canary), (c.canary, c.second_canary));
    }
}
