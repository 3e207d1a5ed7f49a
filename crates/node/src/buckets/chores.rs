//! What may wait for the disk: the store is opened, and brought to the buckets of the assignment.

use super::replication::role;
use super::rounds::AGAIN;
use super::shelf::{Shelf, Shop};
use super::wishes::Wishes;
use crate::time::{SystemClock, boot};
use keystead_objects::gateway::Space;
use keystead_objects::{BucketSettings, Store, StoreError, StoreRole};
use keystead_types::{BucketAssignment, BucketId, Cause, ClusterAssignment, Part};
use std::collections::BTreeSet;
use std::sync::Arc;

/// In a bucket's notes: whose the objects are. A name may be given to another bucket one day.
const ID: &str = "bucket";

/// The buckets that the store is to have. One whose key is not recorded yet is none.
pub(super) fn due(
    wanted: &ClusterAssignment,
    removals: &BTreeSet<BucketId>,
) -> Vec<(BucketId, String)> {
    let recorded = wanted.buckets.iter().filter(|b| !b.keys.is_empty());
    recorded
        .filter(|b| !removals.contains(&b.bucket))
        .map(|b| (b.bucket.clone(), b.name.clone()))
        .collect()
}

impl Shelf {
    pub(super) fn do_chores(self: &Arc<Self>, wanted: &ClusterAssignment) {
        let removals = self.lock().removals.clone();
        let done = self.open_store(wanted).and_then(|shop| {
            let due = due(wanted, &removals);
            self.register(&shop, wanted, &due).map(|taken| (shop, due, taken))
        });
        let mut s = self.end_chores();
        match done {
            Ok((shop, due, taken)) => {
                (s.shop, s.failed) = (Some(shop), None);
                // A bucket that users removed meanwhile is none.
                let stays = |(id, name): &&(BucketId, String)| {
                    !s.removals.contains(id) && !taken.contains(name)
                };
                s.registered = due.iter().filter(stays).cloned().collect();
                s.chores_again = boot();
                if wanted.part == Part::Primary {
                    s.brought = Some(due);
                    for name in taken {
                        let detail =
                            "the node holds objects of another bucket of this name".to_owned();
                        s.denied.insert(name, (Cause::WrappedKeyMismatch, detail));
                    }
                } else if taken.is_empty() {
                    s.brought = Some(due);
                } else {
                    // The primary's word that the bucket was emptied is on its way.
                    (s.brought, s.chores_again) = (None, boot().plus(AGAIN));
                }
            }
            Err(why) => {
                if s.failed.as_ref() != Some(&why) {
                    tracing::error!(cluster = %self.cluster, why, "the buckets are not served");
                }
                s.failed = Some(why);
            }
        }
        self.came.notify_one();
    }

    fn open_store(self: &Arc<Self>, wanted: &ClusterAssignment) -> Result<Shop, String> {
        if let Some(shop) = self.lock().shop.clone() {
            return Ok(shop);
        }
        let folder = self.parts.data.join("objects").join(self.cluster.as_str());
        let role = role(wanted);
        let store = Store::open_as(role, &folder, self.vault.clone(), Arc::new(SystemClock))
            .map_err(|error| format!("the objects' folder: {}", crate::kms::deepest(&error)))?;
        let port = Arc::new(Wishes::of(self));
        let owner = self.cluster.as_str();
        let space = match role {
            StoreRole::Backup => {
                let primary = wanted.peer.as_ref().map(|peer| peer.region.to_string());
                Space::backup(store.clone(), port, owner, &primary.unwrap_or_default())
            }
            StoreRole::Alone | StoreRole::Primary => Space::new(store.clone(), port, owner),
        };
        // Nothing is served before the lease lives.
        space.cut(Cause::KmsUnreachable);
        Ok(Shop { store, space })
    }

    /// One that the assignment does not name must be empty: what is in it is never deleted here, and
    /// never taken for another bucket's. Answers the names that such a one keeps from their buckets.
    fn register(
        &self,
        shop: &Shop,
        wanted: &ClusterAssignment,
        due: &[(BucketId, String)],
    ) -> Result<Vec<String>, String> {
        let mut taken = Vec::new();
        let runtime = &self.parts.runtime;
        let there = runtime
            .block_on(shop.store.list_buckets())
            .map_err(|e| format!("the objects' index: {e}"))?;
        let is = |t: &keystead_objects::BucketInfo, (id, name): &(BucketId, String)| {
            t.name == *name && t.settings.notes.get(ID).is_some_and(|i| *i == id.as_str())
        };
        for stray in there.iter().filter(|t| !due.iter().any(|d| is(t, d))) {
            match runtime.block_on(shop.store.remove_bucket(&stray.name)) {
                Ok(()) => {
                    tracing::info!(cluster = %self.cluster, bucket = stray.name, "bucket removed");
                }
                Err(StoreError::BucketNotEmpty(_)) if wanted.part == Part::Backup => {
                    taken.push(stray.name.clone());
                }
                Err(StoreError::BucketNotEmpty(_)) => {
                    self.alarm(&stray.name);
                    taken.push(stray.name.clone());
                }
                Err(error) => return Err(format!("bucket {}: {error}", stray.name)),
            }
        }
        let missing =
            |d: &&(BucketId, String)| !there.iter().any(|t| is(t, d)) && !taken.contains(&d.1);
        for new in due.iter().filter(missing) {
            let found = wanted.buckets.iter().find(|b| b.bucket == new.0);
            let settings = found.map(|b| settings(wanted, b)).unwrap_or_default();
            match runtime.block_on(shop.store.add_bucket(&new.1, settings)) {
                Ok(_) => tracing::info!(cluster = %self.cluster, bucket = new.1, "bucket made"),
                Err(error) => return Err(format!("bucket {}: {error}", new.1)),
            }
        }
        Ok(taken)
    }

    /// Objects without a record of their bucket: control's store is older than they are.
    fn alarm(&self, name: &str) {
        tracing::error!(alarm = true, cluster = %self.cluster, bucket = name,
            "a bucket that control does not know holds objects; they are kept");
    }
}

fn settings(wanted: &ClusterAssignment, bucket: &BucketAssignment) -> BucketSettings {
    // Users are told the key of the Region that they ask.
    let own = wanted.binding.as_ref().map(|binding| &binding.key);
    let wrapped = bucket.keys.last().and_then(|k| k.wrapped.iter().find(|w| Some(&w.key) == own));
    BucketSettings {
        key_arn: wrapped.map(|w| w.key.to_string()).unwrap_or_default(),
        notes: [(ID.to_owned(), bucket.bucket.to_string())].into(),
    }
}
