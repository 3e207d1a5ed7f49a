//! Provisioning: makes what the assignment still lacks (canary, wrapped keys, grants) as the
//! tenant role, and reports it. Nothing made here is used before it comes back in an assignment;
//! a grant is recorded on disk before it is used and is made once a generation.

use crate::config::NodeConfig;
use crate::grants::{Grant, Grants, name};
use crate::kms::answer::Failure;
use crate::kms::tenant::Purpose;
use crate::kms::unwrap::make_for_two;
use crate::kms::{Everywhere, Kms};
use crate::status::Board;
use crate::time::{SystemClock, boot, jittered};
use keystead_types::{
    Assignment, Binding, Boot, Clock, ClusterAssignment, ClusterId, EncryptionContext, KeyArn,
    Part, Region, RoleArn, StoreKey, VolumeAssignment, WrappedKey,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

const AGAIN: Duration = Duration::from_millis(700);
const CANARY_BYTES: i32 = 32;
const VOLUME_KEY_BYTES: i32 = 64;
const BUCKET_KEY_BYTES: i32 = 32;
/// A bucket's data key seals for so long; then the next one does.
const BUCKET_KEY_LIFE_MS: i64 = 30 * 24 * 3_600_000;
/// Whether one is due is looked at so often, and when the watch names a key.
const RENEWALS: Duration = Duration::from_secs(3_600);

#[derive(Debug, thiserror::Error)]
enum ProvisionError {
    #[error("{0}")]
    Kms(#[from] Failure),
    #[error("the grant's record: {0}")]
    Record(#[from] std::io::Error),
    #[error("waits for the node of {0}, which has not tried its own key yet")]
    Other(Region),
    #[error(
        "the node's settings name no KMS endpoint for {0} under [kms]: its key cannot be heard"
    )]
    Unheard(Region),
}

/// Clusters whose key the watch named: it may have rotated.
#[derive(Default)]
pub(crate) struct Named {
    clusters: Mutex<BTreeSet<ClusterId>>,
    came: Notify,
}

impl Named {
    pub(crate) fn say(&self, cluster: &ClusterId) {
        self.lock().insert(cluster.clone());
        self.came.notify_one();
    }
    fn lock(&self) -> MutexGuard<'_, BTreeSet<ClusterId>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When each cluster's key was asked for its material last: once an hour, and when it was named.
struct Rotations {
    named: Arc<Named>,
    asked: BTreeMap<ClusterId, Boot>,
}

impl Rotations {
    fn is_due(&self, cluster: &ClusterId) -> bool {
        let long = |at: &Boot| boot().since(*at) >= RENEWALS;
        self.named.lock().contains(cluster) || self.asked.get(cluster).is_none_or(long)
    }
    /// Answered: what was named before the question is settled by it.
    fn done(&mut self, cluster: &ClusterId) {
        self.asked.insert(cluster.clone(), boot());
    }
}

/// What provisioning is made of.
pub(crate) struct Parts {
    pub(crate) config: Arc<NodeConfig>,
    pub(crate) kms: Arc<Kms>,
    pub(crate) everywhere: Everywhere,
    pub(crate) board: Arc<Board>,
    pub(crate) grants: Grants,
    /// Told when a grant was made, so that the keeper proves with it.
    pub(crate) made: Arc<Notify>,
    pub(crate) named: Arc<Named>,
}

/// Provisions for ever.
pub(crate) async fn run(parts: Parts, mut assignment: watch::Receiver<Arc<Assignment>>) {
    let mut rotations = Rotations { named: parts.named.clone(), asked: BTreeMap::new() };
    loop {
        let current = assignment.borrow_and_update().clone();
        let mut whole = true;
        for wanted in &current.clusters {
            let Some(binding) = &wanted.binding else { continue };
            let done = async {
                cluster(&parts, wanted, binding).await?;
                other_region(&parts.everywhere, binding)?;
                if wanted.part == Part::Primary {
                    buckets(&parts, wanted, binding, &mut rotations).await?;
                }
                Ok::<_, ProvisionError>(())
            };
            match done.await {
                Ok(()) => parts.board.provision_fine(&wanted.cluster),
                Err(error) => {
                    whole = false;
                    let why = format!("provisioning: {error}");
                    parts.board.provision_stuck(&wanted.cluster, why);
                }
            }
        }
        // What failed is tried again at a fixed period; what is whole waits for a change.
        let changed = tokio::select! {
            changed = assignment.changed() => changed,
            () = tokio::time::sleep(jittered(AGAIN)), if !whole => Ok(()),
            () = tokio::time::sleep(RENEWALS) => Ok(()),
            // A key of ours changed: it may have rotated.
            () = parts.named.came.notified() => Ok(()),
        };
        if changed.is_err() {
            return;
        }
    }
}

async fn cluster(
    parts: &Parts,
    wanted: &ClusterAssignment,
    binding: &Binding,
) -> Result<(), ProvisionError> {
    let Parts { kms, board, .. } = parts;
    if wanted.canary.is_none() && board.made_canary(&wanted.cluster).is_none() {
        let context = EncryptionContext::canary(&wanted.cluster);
        let canary = kms.make(&wanted.tenant_role, &binding.key, &context, CANARY_BYTES).await?;
        board.canary(&wanted.cluster, canary);
    }
    for volume in &wanted.volumes {
        if volume.wrapped.is_none() {
            if board.made_wrapped(&volume.volume).is_none() {
                let context = EncryptionContext::volume(&wanted.cluster, &volume.volume);
                let (role, bytes) = (&wanted.tenant_role, VOLUME_KEY_BYTES);
                let wrapped = kms.make(role, &binding.key, &context, bytes).await?;
                board.wrapped(&volume.volume, wrapped);
            }
            // Its grant follows when control has recorded the key.
            continue;
        }
        grant(parts, wanted, binding, volume).await?;
    }
    Ok(())
}

/// Nothing goes on before both keys can be asked; said, so that nobody looks for the fault here.
fn other_region(everywhere: &Everywhere, binding: &Binding) -> Result<(), ProvisionError> {
    match &binding.second {
        Some(second) if !everywhere.others.contains_key(second.key.region()) => {
            Err(ProvisionError::Unheard(second.key.region().clone()))
        }
        Some(second) if second.canary.is_none() => {
            Err(ProvisionError::Other(second.key.region().clone()))
        }
        _ => Ok(()),
    }
}

/// Data keys of buckets and of the S3 credentials: the first, and a next one when its time has come.
async fn buckets(
    parts: &Parts,
    wanted: &ClusterAssignment,
    binding: &Binding,
    rotations: &mut Rotations,
) -> Result<(), ProvisionError> {
    let Parts { kms, everywhere, board, .. } = parts;
    let make = async |keys: &[StoreKey], context: EncryptionContext| {
        let role = &wanted.tenant_role;
        let wrapped = match &binding.second {
            None => vec![kms.make(role, &binding.key, &context, BUCKET_KEY_BYTES).await?],
            Some(second) => two(everywhere, role, &binding.key, &second.key, &context).await?,
        };
        let ordinal = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let created_ms = SystemClock.wall_ms();
        Ok::<_, Failure>(StoreKey { ordinal, wrapped, created_ms })
    };
    // A first key is made at once; a next one only while the lease lives, so that a cluster frozen
    // for a month does not ask the owner's KMS again and again.
    let live = board.lease_lives(&wanted.cluster);
    let own = |key: &StoreKey| key.wrapped.iter().find(|w| w.key == binding.key).cloned();
    let materials = &everywhere.own.materials;
    let material = |keys: &[StoreKey]| keys.last().and_then(own).and_then(|w| materials.of(&w));
    // Asked for only where an answer can be held against something.
    let mut stores = wanted.buckets.iter().map(|b| &b.keys).chain([&wanted.credentials]);
    let known = stores.any(|keys| material(keys).is_some());
    let current = if live && known && rotations.is_due(&wanted.cluster) {
        rotations.named.lock().remove(&wanted.cluster);
        let role = &wanted.tenant_role;
        let asked = kms.describe(role, Purpose::Provision, &binding.key).await;
        let described = asked.inspect_err(|_| {
            rotations.named.lock().insert(wanted.cluster.clone());
        })?;
        rotations.done(&wanted.cluster);
        described.material
    } else {
        None
    };
    let rotated = |keys: &[StoreKey]| {
        current.as_ref().is_some_and(|now| material(keys).is_some_and(|then| then != *now))
    };
    let due = |keys: &[StoreKey]| keys.is_empty() || (live && (is_old(keys) || rotated(keys)));
    if due(&wanted.credentials) && !board.has_credentials(&wanted.cluster, &wanted.credentials) {
        let context = EncryptionContext::credentials(&wanted.cluster);
        board.credentials(&wanted.cluster, make(&wanted.credentials, context).await?);
    }
    for bucket in &wanted.buckets {
        if due(&bucket.keys) && !board.has_bucket_key(&bucket.bucket, &bucket.keys) {
            let context = EncryptionContext::bucket(&wanted.cluster, &bucket.bucket);
            board.bucket_key(&bucket.bucket, make(&bucket.keys, context).await?);
        }
    }
    Ok(())
}

/// One data key under the keys of both Regions.
async fn two(
    everywhere: &Everywhere,
    role: &RoleArn,
    key: &KeyArn,
    second: &KeyArn,
    context: &EncryptionContext,
) -> Result<Vec<WrappedKey>, Failure> {
    let silent = |detail: String| Failure::Silent { detail };
    let other = everywhere.others.get(second.region()).cloned().ok_or_else(|| {
        silent(format!("the node's settings name no KMS endpoint for {}", second.region()))
    })?;
    let own = everywhere.own.clone();
    let (role, key, second) = (role.clone(), key.clone(), second.clone());
    let context = context.clone();
    let made = move || make_for_two((&own, &key), (&other, &second), &role, &context);
    let made = tokio::task::spawn_blocking(made).await;
    made.unwrap_or_else(|stopped| Err(silent(format!("the call did not end: {stopped}"))))
}

fn is_old(keys: &[StoreKey]) -> bool {
    let age = |key: &StoreKey| SystemClock.wall_ms().saturating_sub(key.created_ms);
    keys.last().is_some_and(|newest| age(newest) > BUCKET_KEY_LIFE_MS)
}

async fn grant(
    parts: &Parts,
    wanted: &ClusterAssignment,
    binding: &Binding,
    volume: &VolumeAssignment,
) -> Result<(), ProvisionError> {
    let Parts { config, kms, board, grants, made, .. } = parts;
    let generation = volume.grant_generation;
    if let Some(kept) = grants.get(&volume.volume, generation)? {
        board.grant(&volume.volume, (generation, kept.grant_id));
        return Ok(());
    }
    let context = EncryptionContext::volume(&wanted.cluster, &volume.volume);
    let name = name(&volume.volume, &config.name, generation);
    let (role, purpose) = (&wanted.tenant_role, Purpose::Provision);
    let given = kms.create_grant(role, purpose, &binding.key, &context, &name).await?;
    grants.keep(&Grant {
        volume: volume.volume.clone(),
        generation,
        grant_id: given.id.clone(),
        token: given.token,
        created_ms: SystemClock.wall_ms(),
    })?;
    tracing::info!(volume = %volume.volume, generation, request_id = given.request_id, "grant made");
    board.grant(&volume.volume, (generation, given.id));
    made.notify_one();
    retire_older(kms, grants, wanted, binding, volume).await;
    Ok(())
}

/// The grant of an older generation is no longer used: it is taken back, once, best effort.
async fn retire_older(
    kms: &Kms,
    grants: &Grants,
    wanted: &ClusterAssignment,
    binding: &Binding,
    volume: &VolumeAssignment,
) {
    let Some(older) = volume.grant_generation.checked_sub(1) else { return };
    if let Ok(Some(old)) = grants.get(&volume.volume, older) {
        let (role, purpose) = (&wanted.tenant_role, Purpose::Provision);
        if let Err(error) = kms.revoke_grant(role, purpose, &binding.key, &old.grant_id).await {
            tracing::debug!(volume = %volume.volume, %error, "the older grant was gone already");
        }
    }
}
