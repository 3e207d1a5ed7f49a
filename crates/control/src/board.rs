//! What is known only while this process lives: the nodes' last reports, why a tenant role is not
//! made yet, and the bells that wake long polls. A report is worthless after three seconds, and it
//! may hold the database's password: neither belongs on disk.

use crate::desk::Desk;
use keystead_types::{Boot, ClusterId, ClusterStatus, NodeStatus, OrganizationId, Region};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, oneshot, watch};

/// A report is believed for so long.
pub(crate) const FRESH: Duration = Duration::from_secs(3);

/// An organization has so many long polls open at a time: each reads the store whenever a node
/// reports, and the store answers one question after another.
pub(crate) const WATCHES: usize = 64;

/// A node's status and when it came.
pub(crate) struct Report {
    pub(crate) status: NodeStatus,
    pub(crate) at: Boot,
    pub(crate) wall_ms: i64,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Report({}, {})", self.status.region, self.wall_ms)
    }
}

impl Report {
    /// True while it counts.
    pub(crate) fn is_fresh(&self, now: Boot) -> bool {
        now.since(self.at) < FRESH
    }
    /// What it says of one cluster.
    pub(crate) fn cluster(&self, id: &ClusterId) -> Option<&ClusterStatus> {
        self.status.clusters.iter().find(|c| c.cluster == *id)
    }
}

/// The board.
pub(crate) struct Board {
    reports: Mutex<BTreeMap<Region, Arc<Report>>>,
    role_faults: Mutex<BTreeMap<ClusterId, String>>,
    /// Who waits for the secret of an S3 access key.
    secrets: Mutex<BTreeMap<String, oneshot::Sender<String>>>,
    watches: Mutex<BTreeMap<OrganizationId, usize>>,
    /// What users of documents wait for.
    pub(crate) desk: Desk,
    records: watch::Sender<u64>,
    seen: watch::Sender<u64>,
    stopping: watch::Sender<bool>,
    /// Wakes the reconciler.
    pub(crate) nudge: Notify,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            reports: Mutex::default(),
            role_faults: Mutex::default(),
            secrets: Mutex::default(),
            watches: Mutex::default(),
            desk: Desk::default(),
            records: watch::Sender::new(0),
            seen: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            nudge: Notify::new(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// A record changed: nodes and watchers look again.
    pub(crate) fn records_changed(&self) {
        self.records.send_modify(|n| *n = n.wrapping_add(1));
        self.seen.send_modify(|n| *n = n.wrapping_add(1));
    }
    /// Ends every long poll.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }
    /// Returns when the process is to end.
    pub(crate) async fn stopped(&self) {
        let mut bell = self.stopping.subscribe();
        // The sender lives as long as the board.
        let _ = bell.wait_for(|stopping| *stopping).await;
    }
    /// Rings when a record changed.
    pub(crate) fn on_records(&self) -> watch::Receiver<u64> {
        self.records.subscribe()
    }
    /// Rings when a record changed or a report came.
    pub(crate) fn on_anything(&self) -> watch::Receiver<u64> {
        self.seen.subscribe()
    }

    /// A long poll begins, and ends with what this answers; `None` when there are too many.
    pub(crate) fn begin_watch(self: &Arc<Self>, owner: &OrganizationId) -> Option<Watching> {
        let mut watches = lock(&self.watches);
        let open = watches.entry(owner.clone()).or_default();
        if *open >= WATCHES {
            return None;
        }
        *open += 1;
        Some(Watching { board: self.clone(), owner: owner.clone() })
    }

    pub(crate) fn report(&self, region: &Region) -> Option<Arc<Report>> {
        lock(&self.reports).get(region).cloned()
    }
    pub(crate) fn put_report(&self, report: Report) {
        lock(&self.reports).insert(report.status.region.clone(), Arc::new(report));
        self.seen.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Waits for the secret of an S3 access key, which a node tells.
    pub(crate) fn await_secret(&self, access_key_id: &str) -> oneshot::Receiver<String> {
        let (told, waits) = oneshot::channel();
        lock(&self.secrets).insert(access_key_id.to_owned(), told);
        waits
    }
    /// Hands a secret to whoever waits for it; else it is forgotten.
    pub(crate) fn tell_secret(&self, access_key_id: &str, secret: &str) {
        if let Some(waits) = lock(&self.secrets).remove(access_key_id) {
            // Who asked may be gone by now.
            let _ = waits.send(secret.to_owned());
        }
    }
    /// Nobody waits any more.
    pub(crate) fn forget_secret(&self, access_key_id: &str) {
        lock(&self.secrets).remove(access_key_id);
    }

    pub(crate) fn role_fault(&self, id: &ClusterId) -> Option<String> {
        lock(&self.role_faults).get(id).cloned()
    }
    /// Says or takes back why a role is not made.
    pub(crate) fn set_role_fault(&self, id: &ClusterId, fault: Option<String>) {
        let mut faults = lock(&self.role_faults);
        match fault {
            Some(text) => faults.insert(id.clone(), text),
            None => faults.remove(id),
        };
    }
}

/// An open long poll.
pub(crate) struct Watching {
    board: Arc<Board>,
    owner: OrganizationId,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watches = lock(&self.board.watches);
        match watches.get_mut(&self.owner) {
            Some(open) if *open > 1 => *open -= 1,
            _ => drop(watches.remove(&self.owner)),
        }
    }
}
