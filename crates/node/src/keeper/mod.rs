//! The keeper: what it guards, how it asks KMS, and what a denial means.

pub(crate) mod causes;
pub(crate) mod proofs;
pub(crate) mod run;
pub(crate) mod second;
mod sequence;
mod watch;

use crate::grants::Grants;
use keystead_types::{
    Assignment, BucketId, ClusterAssignment, ClusterId, EncryptionContext, KeyArn, LeaseSettings,
    Region, RoleArn, VolumeId, WrappedKey,
};
use std::collections::BTreeSet;
use std::io;

/// One store of a cluster, with the grant it is opened by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) volume: VolumeId,
    pub(crate) wrapped: WrappedKey,
    pub(crate) token: String,
    pub(crate) grant_id: String,
}

/// One bucket of a cluster, by its newest data key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) bucket: BucketId,
    pub(crate) wrapped: WrappedKey,
}

/// What one lease is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) cluster: ClusterId,
    /// Rises when the subject changes.
    pub(crate) version: u64,
    pub(crate) role: RoleArn,
    pub(crate) key: KeyArn,
    pub(crate) canary: WrappedKey,
    pub(crate) stores: Vec<Store>,
    pub(crate) buckets: Vec<Bucket>,
    pub(crate) settings: LeaseSettings,
    /// A refusal by the other Region's key freezes it, too.
    pub(crate) second: bool,
    /// A recorded wrapped key names another key or context than the record: never used.
    pub(crate) mismatch: Option<String>,
}

/// What an assignment and the made grants give the keeper to guard; `heard`: the other Regions whose
/// KMS this node asks.
pub(crate) fn subjects(
    assignment: &Assignment,
    grants: &Grants,
    heard: &BTreeSet<Region>,
) -> io::Result<Vec<Subject>> {
    let clusters = assignment.clusters.iter();
    clusters.filter_map(|c| subject(c, grants, heard).transpose()).collect()
}

/// A cluster without binding or canary has no lease yet; nor has one that the other Region's key is
/// to freeze, too, before that key can be asked: the owner's word counts from the first byte.
fn subject(
    wanted: &ClusterAssignment,
    grants: &Grants,
    heard: &BTreeSet<Region>,
) -> io::Result<Option<Subject>> {
    let (Some(binding), Some(canary)) = (&wanted.binding, &wanted.canary) else { return Ok(None) };
    let second = second::counts(wanted);
    if second.is_some_and(|s| s.canary.is_none() || !heard.contains(s.key.region())) {
        return Ok(None);
    }
    let mut mismatch = None;
    if !canary.is_of(&binding.key, &EncryptionContext::canary(&wanted.cluster)) {
        mismatch = Some("the canary is not of the bound key and context".to_owned());
    }
    let mut stores = Vec::new();
    for volume in &wanted.volumes {
        let Some(wrapped) = &volume.wrapped else { continue };
        let context = EncryptionContext::volume(&wanted.cluster, &volume.volume);
        if !wrapped.is_of(&binding.key, &context) {
            mismatch = Some(format!("{} is not of the bound key and context", volume.volume));
        }
        // While a new generation's grant is not made yet, the last one is what the volume is open
        // by: without its proof a cluster frozen for it would thaw on its canary alone.
        if let Some(grant) = latest(grants, &volume.volume, volume.grant_generation)? {
            stores.push(Store {
                volume: volume.volume.clone(),
                wrapped: wrapped.clone(),
                token: grant.token,
                grant_id: grant.grant_id,
            });
        }
    }
    let newest = |b: &keystead_types::BucketAssignment| {
        let context = EncryptionContext::bucket(&wanted.cluster, &b.bucket);
        let wrapped = b.keys.last()?.own(&binding.key, &context)?;
        Some(Bucket { bucket: b.bucket.clone(), wrapped: wrapped.clone() })
    };
    Ok(Some(Subject {
        cluster: wanted.cluster.clone(),
        version: 0,
        role: wanted.tenant_role.clone(),
        key: binding.key.clone(),
        canary: canary.clone(),
        stores,
        buckets: wanted.buckets.iter().filter_map(newest).collect(),
        settings: wanted.lease,
        second: second.is_some(),
        mismatch,
    }))
}

pub(crate) fn latest(
    grants: &Grants,
    volume: &VolumeId,
    generation: u64,
) -> io::Result<Option<crate::grants::Grant>> {
    for g in (0..=generation).rev() {
        if let Some(found) = grants.get(volume, g)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
