//! The twin in memory.

use super::buckets::{BUCKETS, S3_KEYS};
use super::*;
use keystead_types::{BucketId, S3Role};
use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

#[derive(Default)]
struct Tables {
    organizations: BTreeMap<OrganizationId, (Organization, TokenHash)>,
    clusters: BTreeMap<ClusterId, Cluster>,
    preflights: BTreeMap<PreflightId, Preflight>,
    regions: BTreeMap<Region, u64>,
    endpoints: BTreeMap<Region, String>,
    templates: Option<String>,
}

/// Records that end with the process.
#[derive(Default)]
pub(crate) struct MemoryStore(Mutex<Tables>);

fn once<T: PartialEq + Clone>(there: &mut Option<T>, value: &T) -> Recorded {
    match there {
        None => {
            *there = Some(value.clone());
            Recorded::New
        }
        Some(t) if t == value => Recorded::Same,
        Some(_) => Recorded::Other,
    }
}

impl Tables {
    fn touched(&mut self, id: &ClusterId, spec: bool) {
        if let Some(cluster) = self.clusters.get_mut(id) {
            cluster.generation += u64::from(spec);
            for region in std::iter::once(&cluster.region).chain(&cluster.backup_region) {
                *self.regions.entry(region.clone()).or_default() += 1;
            }
        }
    }

    fn on_cluster(
        &mut self,
        id: &ClusterId,
        spec: bool,
        set: impl FnOnce(&mut Cluster) -> Recorded,
    ) -> Recorded {
        let Some(cluster) = self.clusters.get_mut(id) else { return Recorded::Absent };
        let done = set(cluster);
        if done == Recorded::New {
            self.touched(id, spec);
        }
        done
    }

    fn owner(&self, id: &VolumeId) -> Option<ClusterId> {
        let has = |c: &&Cluster| c.volumes.iter().any(|v| v.id == *id);
        self.clusters.values().find(has).map(|c| c.id.clone())
    }

    fn on_volume(
        &mut self,
        id: &VolumeId,
        spec: bool,
        set: impl FnOnce(&mut Volume) -> Recorded,
    ) -> Recorded {
        let Some(owner) = self.owner(id) else { return Recorded::Absent };
        self.on_cluster(&owner, spec, |c| {
            c.volumes.iter_mut().find(|v| v.id == *id).map_or(Recorded::Absent, set)
        })
    }
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Store for MemoryStore {
    fn add_organization(&self, new: Organization, token: TokenHash) -> Answer<'_, bool> {
        let mut t = self.lock();
        let free = t.organizations.values().all(|(o, _)| o.name != new.name);
        if free {
            t.organizations.insert(new.id.clone(), (new, token));
        }
        now(free)
    }
    fn organizations(&self) -> Answer<'_, Vec<Organization>> {
        now(self.lock().organizations.values().map(|(o, _)| o.clone()).collect())
    }
    fn organization_of(&self, token: TokenHash) -> Answer<'_, Option<Organization>> {
        let t = self.lock();
        now(t.organizations.values().find(|(_, h)| *h == token).map(|(o, _)| o.clone()))
    }
    fn add_cluster(&self, new: Cluster) -> Answer<'_, bool> {
        let mut t = self.lock();
        let same = |c: &Cluster| c.organization == new.organization && c.name == new.name;
        let free = !t.clusters.values().any(same);
        if free {
            t.clusters.insert(new.id.clone(), new);
        }
        now(free)
    }
    fn cluster<'a>(&'a self, id: &'a ClusterId) -> Answer<'a, Option<Cluster>> {
        now(self.lock().clusters.get(id).cloned())
    }
    fn cluster_of_volume<'a>(&'a self, id: &'a VolumeId) -> Answer<'a, Option<Cluster>> {
        let t = self.lock();
        now(t.owner(id).and_then(|o| t.clusters.get(&o).cloned()))
    }
    fn clusters<'a>(&'a self, which: Select<'a>) -> Answer<'a, Vec<Cluster>> {
        let wanted = |c: &&Cluster| match which {
            Select::Organization(id) => c.organization == *id,
            Select::Region(region) => c.part(region).is_some(),
            Select::WithoutRole => c.tenant_role.is_none(),
        };
        now(self.lock().clusters.values().filter(wanted).cloned().collect())
    }
    fn record_role<'a>(&'a self, id: &'a ClusterId, role: &'a RoleArn) -> Answer<'a, Recorded> {
        now(self.lock().on_cluster(id, true, |c| once(&mut c.tenant_role, role)))
    }
    fn bind<'a>(
        &'a self,
        id: &'a ClusterId,
        keys: &'a Keys,
        replicator: Option<S3Key>,
        _now_ms: i64,
    ) -> Answer<'a, Bound> {
        let mut t = self.lock();
        let Some(record) = t.clusters.get(id).cloned() else { return now(Bound::Absent) };
        if let Some(there) = record.binding {
            return now(Bound::Already(there));
        }
        let foreign = t.clusters.values().filter(|c| c.organization != record.organization);
        let theirs: Vec<_> =
            foreign.filter_map(|c| c.binding.as_ref()).flat_map(Keys::all).collect();
        if let Some(taken) = keys.all().find(|k| theirs.contains(k)) {
            return now(Bound::Elsewhere(taken.clone()));
        }
        t.on_cluster(id, true, |c| {
            c.s3_keys.extend(replicator);
            once(&mut c.binding, keys)
        });
        now(Bound::Done)
    }
    fn record_canary<'a>(
        &'a self,
        id: &'a ClusterId,
        part: Part,
        key: &'a WrappedKey,
    ) -> Answer<'a, Recorded> {
        let set = |c: &mut Cluster| match part {
            Part::Primary => once(&mut c.canary, key),
            Part::Backup => once(&mut c.second_canary, key),
        };
        now(self.lock().on_cluster(id, false, set))
    }
    fn record_wrapped<'a>(&'a self, id: &'a VolumeId, key: &'a WrappedKey) -> Answer<'a, Recorded> {
        now(self.lock().on_volume(id, false, |v| once(&mut v.wrapped, key)))
    }
    fn record_digest<'a>(&'a self, id: &'a VolumeId, digest: &'a str) -> Answer<'a, Recorded> {
        let digest = digest.to_owned();
        now(self.lock().on_volume(id, false, |v| once(&mut v.key_digest, &digest)))
    }
    fn regrant<'a>(&'a self, id: &'a VolumeId, seen: u64) -> Answer<'a, bool> {
        let done = self.lock().on_volume(id, true, |v| {
            if v.grant_generation != seen {
                return Recorded::Other;
            }
            v.grant_generation += 1;
            Recorded::New
        });
        now(done == Recorded::New)
    }
    fn add_preflight(&self, new: Preflight, limit: usize) -> Answer<'_, bool> {
        let mut t = self.lock();
        let waits = |p: &&Preflight| p.cluster == new.cluster && p.report.is_none();
        if t.preflights.values().filter(waits).count() >= limit {
            return now(false);
        }
        t.touched(&new.cluster, false);
        let finished = |p: &&Preflight| p.cluster == new.cluster && p.report.is_some();
        let old: Vec<_> = t.preflights.values().filter(finished).map(|p| p.id.clone()).collect();
        for id in &old[..old.len().saturating_sub(PREFLIGHTS_KEPT)] {
            t.preflights.remove(id);
        }
        t.preflights.insert(new.id.clone(), new);
        now(true)
    }
    fn preflight<'a>(&'a self, id: &'a PreflightId) -> Answer<'a, Option<Preflight>> {
        now(self.lock().preflights.get(id).cloned())
    }
    fn preflights_of<'a>(&'a self, cluster: &'a ClusterId) -> Answer<'a, Vec<Preflight>> {
        let of = |p: &&Preflight| p.cluster == *cluster;
        now(self.lock().preflights.values().filter(of).cloned().collect())
    }
    fn pending_preflights<'a>(&'a self, region: &'a Region) -> Answer<'a, Vec<Preflight>> {
        let t = self.lock();
        let waits = |p: &&Preflight| {
            let tries = |c: &Cluster| c.tries(&p.key) == region;
            p.report.is_none() && t.clusters.get(&p.cluster).is_some_and(tries)
        };
        now(t.preflights.values().filter(waits).cloned().collect())
    }
    fn record_report<'a>(
        &'a self,
        report: &'a PreflightReport,
        now_ms: i64,
    ) -> Answer<'a, Recorded> {
        let mut t = self.lock();
        let Some(record) = t.preflights.get_mut(&report.preflight) else {
            return now(Recorded::Absent);
        };
        if let Some((there, _)) = &record.report {
            return now(if there == report { Recorded::Same } else { Recorded::Other });
        }
        record.report = Some((report.clone(), now_ms));
        let cluster = record.cluster.clone();
        t.touched(&cluster, false);
        now(Recorded::New)
    }
    fn generation<'a>(&'a self, region: &'a Region) -> Answer<'a, u64> {
        now(self.lock().regions.get(region).copied().unwrap_or(0))
    }
    fn record_endpoint<'a>(&'a self, region: &'a Region, endpoint: &'a str) -> Answer<'a, bool> {
        let mut t = self.lock();
        let before = t.endpoints.insert(region.clone(), endpoint.to_owned());
        let changed = before.as_deref() != Some(endpoint);
        if changed {
            let others = |c: &Cluster| match (c.part(region)?, &c.backup_region) {
                (Part::Primary, other) => other.clone(),
                (Part::Backup, _) => Some(c.region.clone()),
            };
            let told: BTreeSet<_> = t.clusters.values().filter_map(others).collect();
            for other in told {
                *t.regions.entry(other).or_default() += 1;
            }
        }
        now(changed)
    }
    fn endpoints(&self) -> Answer<'_, BTreeMap<Region, String>> {
        now(self.lock().endpoints.clone())
    }
    fn adopt_templates<'a>(&'a self, digest: &'a str) -> Answer<'a, ()> {
        let mut t = self.lock();
        if t.templates.as_deref() != Some(digest) {
            t.templates = Some(digest.to_owned());
            t.regions.values_mut().for_each(|g| *g += 1);
        }
        now(())
    }
}

impl MemoryStore {
    /// A change of one cluster's record; `default` without the cluster.
    fn changed<T>(
        &self,
        id: &ClusterId,
        spec: bool,
        default: T,
        change: impl FnOnce(&mut Cluster) -> (bool, T),
    ) -> T {
        let mut t = self.lock();
        let Some(cluster) = t.clusters.get_mut(id) else { return default };
        let (changed, answer) = change(cluster);
        if changed {
            t.touched(id, spec);
        }
        answer
    }
}

impl BucketStore for MemoryStore {
    fn add_bucket<'a>(&'a self, cluster: &'a ClusterId, new: Bucket) -> Answer<'a, Added> {
        now(self.changed(cluster, true, Added::Taken, |c| {
            if c.buckets.iter().any(|b| b.name == new.name) {
                return (false, Added::Taken);
            }
            if c.buckets.len() >= BUCKETS {
                return (false, Added::Full);
            }
            c.buckets.push(new);
            (true, Added::New)
        }))
    }
    fn remove_bucket<'a>(
        &'a self,
        cluster: &'a ClusterId,
        bucket: &'a BucketId,
        _now_ms: i64,
    ) -> Answer<'a, bool> {
        now(self.changed(cluster, true, false, |c| {
            let before = c.buckets.len();
            c.buckets.retain(|b| b.id != *bucket);
            (c.buckets.len() < before, c.buckets.len() < before)
        }))
    }
    fn record_store_key<'a>(
        &'a self,
        cluster: &'a ClusterId,
        store: &'a str,
        key: &'a StoreKey,
    ) -> Answer<'a, Recorded> {
        now(self.changed(cluster, false, Recorded::Absent, |c| {
            let keys = if store == CREDENTIALS {
                &mut c.credentials
            } else {
                let of = c.buckets.iter_mut().find(|b| b.id.as_str() == store);
                let Some(bucket) = of else { return (false, Recorded::Absent) };
                &mut bucket.keys
            };
            match keys.iter().find(|k| k.ordinal == key.ordinal) {
                Some(there) if there == key => (false, Recorded::Same),
                None if key.ordinal as usize == keys.len() => {
                    keys.push(key.clone());
                    (true, Recorded::New)
                }
                _ => (false, Recorded::Other),
            }
        }))
    }
    fn add_s3_key<'a>(&'a self, cluster: &'a ClusterId, new: S3Key) -> Answer<'a, Added> {
        now(self.changed(cluster, true, Added::Taken, |c| {
            let users = c.s3_keys.iter().filter(|k| k.role != S3Role::Replicator);
            if users.count() >= S3_KEYS {
                return (false, Added::Full);
            }
            c.s3_keys.push(new);
            (true, Added::New)
        }))
    }
    fn record_sealed<'a>(
        &'a self,
        cluster: &'a ClusterId,
        access_key_id: &'a str,
        sealed: &'a str,
    ) -> Answer<'a, Recorded> {
        let sealed = sealed.to_owned();
        now(self.changed(cluster, false, Recorded::Absent, |c| {
            let key = c.s3_keys.iter_mut().find(|k| k.access_key_id == access_key_id);
            let done = key.map_or(Recorded::Absent, |k| once(&mut k.sealed, &sealed));
            (done == Recorded::New, done)
        }))
    }
    fn expire_s3_key<'a>(
        &'a self,
        cluster: &'a ClusterId,
        access_key_id: &'a str,
        at_ms: i64,
    ) -> Answer<'a, bool> {
        now(self.changed(cluster, true, false, |c| {
            let key = c.s3_keys.iter_mut().find(|k| k.access_key_id == access_key_id);
            let Some(key) = key else { return (false, false) };
            key.expires_ms = Some(key.expires_ms.map_or(at_ms, |at| at.min(at_ms)));
            (true, true)
        }))
    }
    fn remove_s3_key<'a>(
        &'a self,
        cluster: &'a ClusterId,
        access_key_id: &'a str,
    ) -> Answer<'a, bool> {
        now(self.changed(cluster, true, false, |c| {
            let before = c.s3_keys.len();
            c.s3_keys.retain(|k| k.access_key_id != access_key_id);
            (c.s3_keys.len() < before, c.s3_keys.len() < before)
        }))
    }
}
