//! The clusters' threads: one started for each cluster of the assignment, told what the keeper and
//! the assignment say, and what they see written on the board.

use crate::cluster::machine::{Facts, Fence, LeaseView, Machine, Stage};
use crate::cluster::runner::{Gates, Host, Inbox, Runner, Seen, Steps};
use crate::grants::Grants;
use crate::keeper::run::Guarded;
use crate::status::{Board, Running};
use crate::time::SystemClock;
use keystead_types::{
    Assignment, Clock, ClusterAssignment, ClusterId, LeaseSettings, LeaseWord, Part, VolumeWord,
    WorkloadStatus, WorkloadWord,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where the node meets envelope's lease, volumes and the holder.
pub(crate) trait Joint: Send + Sync + 'static {
    /// A new lease, with its gate.
    fn lease(&self, cluster: &ClusterId, settings: &LeaseSettings) -> Box<dyn Guarded>;
    /// The parts of a cluster's thread; the machine says what the holder still has of it.
    fn cluster(&self, wanted: Arc<Desired>) -> ClusterParts;
    /// The node ends in order, and the clusters' threads have ended. Blocks.
    fn end(&self);
}

/// A cluster's newest assignment, shared with its steps.
pub(crate) struct Desired(Mutex<ClusterAssignment>);

impl Desired {
    pub(crate) fn new(first: ClusterAssignment) -> Arc<Self> {
        Arc::new(Self(Mutex::new(first)))
    }

    pub(crate) fn get(&self) -> ClusterAssignment {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    pub(crate) fn set(&self, to: ClusterAssignment) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }
}

/// What a cluster's thread is made of.
pub(crate) struct ClusterParts {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) gates: Arc<dyn Gates>,
    pub(crate) steps: Arc<dyn Steps>,
    pub(crate) machine: Machine,
    /// libpq URI, filled in; known once the workload was started.
    pub(crate) endpoint: Arc<dyn Fn() -> Option<String> + Send + Sync>,
}

struct Member {
    desired: Arc<Desired>,
    inbox: Arc<Inbox>,
    thread: JoinHandle<()>,
}

/// The threads.
pub(crate) struct Fleet {
    joint: Arc<dyn Joint>,
    board: Arc<Board>,
    members: Mutex<BTreeMap<ClusterId, Member>>,
}

impl Fleet {
    pub(crate) fn new(joint: Arc<dyn Joint>, board: Arc<Board>) -> Self {
        Self { joint, board, members: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterId, Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keeper's word for one cluster; never blocks on its thread.
    pub(crate) fn tell(&self, cluster: &ClusterId, view: LeaseView) {
        if let Some(member) = self.lock().get(cluster) {
            member.inbox.lease(view);
        }
    }

    /// Starts threads for new clusters and hands the facts to all. A cluster that the assignment
    /// no longer names keeps its volumes: nothing here deletes.
    pub(crate) fn assign(&self, assignment: &Assignment, grants: &Grants) -> std::io::Result<()> {
        // One caller. The disk and the holder are asked without the lock: the keeper, which tells
        // the threads, must not wait for either.
        for wanted in assignment.clusters.iter().filter(|c| c.part == Part::Primary) {
            let facts = facts(wanted, grants)?;
            if let Some(member) = self.lock().get(&wanted.cluster) {
                member.desired.set(wanted.clone());
                member.inbox.facts(facts);
                continue;
            }
            let member = self.start(wanted, facts)?;
            self.lock().insert(wanted.cluster.clone(), member);
        }
        Ok(())
    }

    fn start(&self, wanted: &ClusterAssignment, facts: Facts) -> std::io::Result<Member> {
        let desired = Desired::new(wanted.clone());
        let parts = self.joint.cluster(desired.clone());
        let none = LeaseView { word: LeaseWord::None, cause: None, until: None };
        let inbox = Inbox::new(none, facts);
        let (board, seen_by, endpoint) = (self.board.clone(), desired.clone(), parts.endpoint);
        let runner = Runner {
            host: parts.host,
            gates: parts.gates,
            steps: parts.steps,
            clock: Arc::new(SystemClock),
            inbox: inbox.clone(),
            report: Box::new(move |seen| {
                let wanted = seen_by.get();
                board.running(&wanted.cluster, running(&wanted, &seen, endpoint()));
            }),
        };
        let machine = parts.machine;
        let thread = std::thread::Builder::new()
            .name(format!("cluster {}", wanted.name))
            .spawn(move || runner.run(machine))?;
        Ok(Member { desired, inbox, thread })
    }

    /// Ends the threads and waits for them; volumes and processes stay with the holder. Blocks.
    pub(crate) fn stop(&self) {
        let members = std::mem::take(&mut *self.lock());
        for member in members.values() {
            member.inbox.stop();
        }
        for (cluster, member) in members {
            if member.thread.join().is_err() {
                tracing::error!(%cluster, "a cluster's thread had panicked");
            }
        }
    }
}

fn facts(wanted: &ClusterAssignment, grants: &Grants) -> std::io::Result<Facts> {
    let mut granted = wanted.binding.is_some() && !wanted.volumes.is_empty();
    for volume in &wanted.volumes {
        granted &= volume.wrapped.is_some()
            && grants.get(&volume.volume, volume.grant_generation)?.is_some();
    }
    Ok(Facts {
        provisioned: granted,
        recorded: wanted.volumes.iter().all(|v| v.key_digest.is_some()),
        evict_after: Duration::from_millis(wanted.lease.evict_after_ms),
        silence: Duration::from_millis(wanted.lease.silence_ms),
    })
}

/// What a thread saw, in the status's words. Ready is never said while fenced.
fn running(wanted: &ClusterAssignment, seen: &Seen, endpoint: Option<String>) -> Running {
    let fenced = matches!(seen.machine.fence, Fence::Frozen { .. });
    let stage = seen.machine.stage;
    let volume = match stage {
        Stage::Down => VolumeWord::Absent,
        Stage::Formatted => VolumeWord::Detached,
        _ if fenced => VolumeWord::Frozen,
        _ => VolumeWord::Attached,
    };
    let state = match stage {
        _ if fenced && stage >= Stage::Attached => WorkloadWord::Frozen,
        Stage::Ready => WorkloadWord::Ready,
        Stage::Started => WorkloadWord::Starting,
        Stage::Prepared if seen.message.is_some() => WorkloadWord::Failed,
        Stage::Attached | Stage::Prepared => WorkloadWord::Starting,
        Stage::Down | Stage::Formatted => WorkloadWord::Stopped,
    };
    let clock = SystemClock;
    let evict_at_ms = seen.evict_at.map(|at| {
        let ahead = at.since(clock.boot()).as_millis();
        clock.wall_ms().saturating_add(i64::try_from(ahead).unwrap_or(i64::MAX))
    });
    Running {
        volumes: wanted.volumes.iter().map(|v| (v.volume.clone(), (volume, None))).collect(),
        workload: WorkloadStatus {
            state,
            endpoint: endpoint.filter(|_| stage >= Stage::Started),
            message: seen.message.clone(),
        },
        sync_stalled: seen.stalled,
        evict_at_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_types::{AccountId, Disk, OrganizationId, RoleArn, Template};

    fn wanted() -> ClusterAssignment {
        let id = uuid::Uuid::now_v7;
        let account: AccountId = "444455556666".parse().expect("an account");
        let disk = Disk { name: "data".into(), size_bytes: 1 << 30 };
        ClusterAssignment {
            cluster: ClusterId::from_uuid(id()),
            organization: OrganizationId::from_uuid(id()),
            name: "c".into(),
            generation: 1,
            part: Part::Primary,
            peer: None,
            tenant_role: RoleArn::new(account, "keystead-c").expect("a role"),
            binding: None,
            canary: None,
            volumes: vec![],
            buckets: vec![],
            credentials: vec![],
            s3_keys: vec![],
            template: Template {
                buckets: vec![],
                name: "t".into(),
                disks: vec![disk],
                prepare: vec![],
                processes: vec![],
                ready: None,
                after_ready: vec![],
                endpoint: None,
            },
            lease: LeaseSettings::default(),
        }
    }

    #[test]
    fn ready_is_never_said_while_fenced_nor_provisioned_without_a_binding() {
        let folder = tempfile::tempdir().expect("a folder");
        let facts = facts(&wanted(), &Grants::new(folder.path())).expect("read");
        assert!(!facts.provisioned);
        let now = SystemClock.boot();
        let mut machine = Machine::adopted(Stage::Ready, true, now);
        let seen = |machine: &Machine| Seen {
            machine: machine.clone(),
            evict_at: None,
            stalled: false,
            message: None,
        };
        let shown = running(&wanted(), &seen(&machine), Some("postgres://".into()));
        assert_eq!(shown.workload.state, WorkloadWord::Frozen);
        machine.fence = Fence::Open;
        let shown = running(&wanted(), &seen(&machine), Some("postgres://".into()));
        assert_eq!(shown.workload.state, WorkloadWord::Ready);
    }
}
