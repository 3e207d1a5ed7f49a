//! Where the node meets envelope's lease, the volume servers and the holder.

mod host;
mod keys;
mod lease;
mod steps;
#[cfg(test)]
pub(crate) mod tests;
mod volumes;

use crate::cluster::machine::{Machine, Stage};
use crate::fleet::{ClusterParts, Desired, Joint};
use crate::grants::Grants;
use crate::host::{ClusterHeld, FsWord, Holder};
use crate::keeper::run::Guarded;
use crate::status::Board;
use crate::time::{SystemClock, boot};
use host::Held;
pub(crate) use keys::Unwrap;
use keystead_types::{ClusterAssignment, ClusterId, LeaseSettings, VolumeId};
use lease::Door;
pub(crate) use lease::Kept;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use steps::Work;
use volumes::Volumes;

/// An orderly end stops and detaches within this, or evicts.
const DETACH: Duration = Duration::from_secs(12);

/// What all clusters share.
pub(crate) struct Shared {
    pub(crate) holder: Arc<Holder>,
    pub(crate) keys: Box<dyn Unwrap>,
    pub(crate) grants: Grants,
    pub(crate) board: Arc<Board>,
    pub(crate) data: PathBuf,
    /// At the end of the node, take the workloads off the host.
    pub(crate) detach: bool,
    /// Held while `ports.json` is read and replaced.
    pub(crate) ports: Mutex<()>,
}

/// The joint.
pub(crate) struct Joined {
    shared: Arc<Shared>,
    doors: Mutex<BTreeMap<ClusterId, Arc<Door>>>,
    clusters: Mutex<BTreeMap<ClusterId, Arc<Volumes>>>,
}

impl Joined {
    pub(crate) fn new(shared: Shared) -> Self {
        let (doors, clusters) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(shared), doors, clusters }
    }

    fn door(&self, cluster: &ClusterId) -> Arc<Door> {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.entry(cluster.clone()).or_default().clone()
    }

    fn held(&self, cluster: &ClusterId) -> Option<ClusterHeld> {
        match self.shared.holder.inventory() {
            Ok(held) => held.clusters.into_iter().find(|c| c.cluster == *cluster),
            Err(error) => {
                // The heartbeat ends a node whose holder is gone; what is still there is found
                // again by the steps, which are all safe to repeat.
                tracing::error!(%cluster, %error, "the holder does not say what it has");
                None
            }
        }
    }
}

/// How far a cluster is up that the holder has, and whether it is frozen as a whole.
fn found(wanted: &ClusterAssignment, held: &ClusterHeld) -> (Stage, bool) {
    let mounted = |id: &VolumeId| {
        held.volumes.iter().any(|v| v.volume == *id && v.mount.is_some() && !v.busy)
    };
    let runs = |name: &str| {
        held.processes.iter().rev().find(|p| p.name == name).is_some_and(|p| p.ended.is_none())
    };
    let processes = &wanted.template.processes;
    let running = processes.iter().filter(|p| runs(&p.name)).count();
    let stage = if !wanted.volumes.iter().all(|v| mounted(&v.volume)) {
        Stage::Formatted
    } else if running == 0 {
        Stage::Attached
    } else if running < processes.len() {
        Stage::Prepared
    } else {
        Stage::Started
    };
    let still = held.volumes.iter().all(|v| v.mount.is_none() || v.fs == FsWord::Frozen);
    (stage, held.frozen && still)
}

impl Joint for Joined {
    fn lease(&self, cluster: &ClusterId, settings: &LeaseSettings) -> Box<dyn Guarded> {
        Box::new(Kept::new(settings, self.door(cluster), Arc::new(SystemClock)))
    }

    fn cluster(&self, desired: Arc<Desired>) -> ClusterParts {
        let wanted = desired.get();
        let id = wanted.cluster.clone();
        let door = self.door(&id);
        let volumes = Arc::new(Volumes::new(self.shared.clone(), desired.clone(), door));
        let machine = match self.held(&id).filter(|held| !held.volumes.is_empty()) {
            None => Machine::down(),
            Some(held) => {
                let (stage, frozen) = found(&wanted, &held);
                tracing::info!(cluster = %id, ?stage, frozen, "adopted from the holder");
                adopt(&volumes, &held);
                Machine::adopted(stage, frozen, boot())
            }
        };
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.insert(id.clone(), volumes.clone());
        let work = Work::new(self.shared.clone(), desired, volumes.clone());
        let endpoint = work.clone();
        ClusterParts {
            host: Arc::new(Held { holder: self.shared.holder.clone(), cluster: id }),
            gates: volumes,
            steps: work,
            machine,
            endpoint: Arc::new(move || endpoint.endpoint()),
        }
    }

    fn end(&self) {
        let clusters =
            std::mem::take(&mut *self.clusters.lock().unwrap_or_else(PoisonError::into_inner));
        if self.shared.detach {
            std::thread::scope(|scope| {
                for (id, volumes) in &clusters {
                    scope.spawn(|| self.take_off(id, volumes.all_open()));
                }
            });
        }
        for volumes in clusters.into_values() {
            crate::cluster::runner::Gates::drop_servers(&*volumes);
        }
    }
}

impl Joined {
    /// Detaches in order; evicts what is frozen, is at closed gates or does not detach in time.
    fn take_off(&self, id: &ClusterId, in_order: bool) {
        if in_order {
            match self.shared.holder.detach(id, DETACH) {
                Ok(()) => {
                    tracing::info!(cluster = %id, "detached");
                    return;
                }
                Err(error) => tracing::warn!(cluster = %id, %error, "evicted instead"),
            }
        }
        match self.shared.holder.evict(id) {
            Ok(report) if report.left.is_empty() => {}
            Ok(report) => tracing::error!(cluster = %id, left = ?report.left, "left behind"),
            Err(error) => tracing::error!(cluster = %id, %error, "eviction"),
        }
    }
}

/// Serves what the holder has, with closed gates, on a thread of its own: an image may be locked
/// by this node's predecessor for a moment. What fails is tried again by the first thaw.
fn adopt(volumes: &Arc<Volumes>, held: &ClusterHeld) {
    let generation = volumes.generation();
    let only: Vec<_> = held.volumes.iter().map(|v| v.volume.clone()).collect();
    let (cluster, served) = (held.cluster.clone(), volumes.clone());
    let started = std::thread::Builder::new().name("adopt".to_owned()).spawn(move || {
        if let Err(error) = served.serve(Some(&only), generation) {
            tracing::error!(%cluster, error, "an adopted volume is not served");
        }
    });
    if let Err(error) = started {
        tracing::error!(%error, "no thread to adopt volumes with");
    }
}
