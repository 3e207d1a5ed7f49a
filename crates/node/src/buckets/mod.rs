//! The buckets of the node's clusters, and the S3 gateway in front of them.
//!
//! A cluster's buckets are open while its lease lives, whatever its workload is at. The keeper's
//! word shuts them at once: the gate first (an atomic), then the connections, then the keys. Their
//! keys are unwrapped again at a thaw.

mod chores;
mod credentials;
mod documents;
mod replication;
mod rounds;
mod scrub;
mod shelf;
#[cfg(test)]
mod tests;
mod unwrap;
mod wishes;

use crate::cluster::machine::LeaseView;
use crate::config::S3;
use crate::serve::{NodeError, io};
use crate::status::Board;
use crate::time::SystemClock;
use keystead_objects::gateway::{self, Gateway, Hosts, Keys, Lookup, Settings};
use keystead_types::{Assignment, BucketId, Cause, ClusterId, Region};
pub(crate) use scrub::Pace;
use shelf::Shelf;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::net::TcpListener;
pub(crate) use unwrap::OpenKeys;

/// What all shelves share.
pub(crate) struct Parts {
    pub(crate) keys: Box<dyn OpenKeys>,
    pub(crate) board: Arc<Board>,
    pub(crate) data: PathBuf,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) pace: Pace,
}

/// The buckets of all clusters.
pub(crate) struct Buckets {
    parts: Arc<Parts>,
    shelves: Mutex<BTreeMap<ClusterId, Arc<Shelf>>>,
    /// Whose each S3 access key is: asked at every request.
    owners: RwLock<HashMap<String, Arc<Shelf>>>,
}

impl Buckets {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), shelves: Mutex::default(), owners: RwLock::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterId, Arc<Shelf>>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a shelf for each new bound cluster and hands the assignment to all.
    pub(crate) fn assign(&self, assignment: &Assignment) -> std::io::Result<()> {
        let mut owners = HashMap::new();
        for wanted in assignment.clusters.iter().filter(|c| c.binding.is_some()) {
            let asks = assignment.documents.asks.iter().filter(|a| a.cluster == wanted.cluster);
            let known = self.lock().get(&wanted.cluster).cloned();
            let shelf = match known {
                Some(shelf) => {
                    shelf.assign(wanted);
                    shelf
                }
                None => {
                    let shelf = Shelf::start(self.parts.clone(), wanted)?;
                    self.lock().insert(wanted.cluster.clone(), shelf.clone());
                    shelf
                }
            };
            shelf.ask(&assignment.region, asks);
            let ids = wanted.s3_keys.iter().map(|k| k.access_key_id.clone());
            owners.extend(ids.map(|id| (id, shelf.clone())));
        }
        *self.owners.write().unwrap_or_else(PoisonError::into_inner) = owners;
        Ok(())
    }

    /// The keeper's word for one cluster; never waits.
    pub(crate) fn tell(&self, cluster: &ClusterId, view: LeaseView) {
        if let Some(shelf) = self.lock().get(cluster) {
            shelf.tell(view);
        }
    }

    /// What a bucket's own proof came to; never waits.
    pub(crate) fn tell_bucket(
        &self,
        cluster: &ClusterId,
        bucket: &BucketId,
        denied: Option<(Cause, String)>,
    ) {
        if let Some(shelf) = self.lock().get(cluster) {
            shelf.tell_bucket(bucket, denied);
        }
    }

    /// Shuts everything and waits for the shelves' threads. Blocks.
    pub(crate) fn end(&self) {
        let shelves = std::mem::take(&mut *self.lock());
        self.owners.write().unwrap_or_else(PoisonError::into_inner).clear();
        for shelf in shelves.values() {
            shelf.stop();
        }
        for shelf in shelves.into_values() {
            shelf.join();
        }
    }
}

/// The gateway's task over a listener, and the address that clients are told.
pub(crate) fn serve(
    listener: TcpListener,
    s3: &S3,
    region: &Region,
    buckets: Arc<Buckets>,
    board: &Board,
) -> Result<impl Future<Output = ()> + use<>, NodeError> {
    let address = listener.local_addr().map_err(io("read the address of S3"))?;
    board.s3_endpoint(format!("http://{address}"));
    let hosts = Hosts::new(s3.domain.as_deref(), &[]);
    let settings = Settings { hosts, region: region.to_string() };
    let gateway = Gateway::new(settings, buckets, Arc::new(SystemClock));
    Ok(gateway::serve(listener, gateway))
}

impl Keys for Buckets {
    fn find(&self, access_key_id: &str) -> Lookup {
        let owners = self.owners.read().unwrap_or_else(PoisonError::into_inner);
        let owner = owners.get(access_key_id).cloned();
        drop(owners);
        owner.map_or(Lookup::Unknown, |shelf| shelf.access_key(access_key_id))
    }
}
