//! What the KMS key of a cluster's other Region says. Each foreign Region has a keeper of its own,
//! on its own thread, whose leases open nothing: only their refusals count, and freeze the cluster
//! here (`revocation = any`). Silence there changes nothing here.
//!
//! A refusal is remembered on disk until a proof takes it back: else a restart, or an outage that
//! comes after the refusal, would undo the owner's word.

use super::{Subject, run::Guarded, run::Said};
use crate::cluster::machine::LeaseView;
use crate::disk;
use crate::joint::Kept;
use crate::time::SystemClock;
use keystead_types::{
    Assignment, Cause, ClusterAssignment, ClusterId, EncryptionContext, LeaseSettings, LeaseStatus,
    LeaseWord, Region, Revocation, SecondKey,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why the other Region's key refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) cause: Cause,
    pub(crate) detail: String,
    /// It is gone for good.
    #[serde(default)]
    pub(crate) dead: bool,
}

/// The refusals that stand, in memory and in `DATA/second.json`.
pub(crate) struct Seconds {
    path: PathBuf,
    known: Mutex<Known>,
    /// Held while the file is written, so that an older state never comes after a newer one.
    file: Mutex<()>,
}

#[derive(Default)]
struct Known {
    refused: BTreeMap<ClusterId, Refusal>,
    /// Whose other key has answered since this process started.
    heard: BTreeSet<ClusterId>,
    /// The file is older than this.
    unwritten: bool,
}

impl Seconds {
    pub(crate) fn load(data: &Path) -> io::Result<Self> {
        let path = data.join("second.json");
        let refused = disk::load(&path)?.unwrap_or_default();
        let known = Mutex::new(Known { refused, ..Known::default() });
        Ok(Self { path, known, file: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other key has said yes or no since this process started.
    pub(crate) fn heard(&self, cluster: &ClusterId) -> bool {
        self.lock().heard.contains(cluster)
    }

    /// The refusal that stands for a cluster.
    pub(crate) fn refusal(&self, cluster: &ClusterId) -> Option<Refusal> {
        self.lock().refused.get(cluster).cloned()
    }

    /// What the other Region's lease has come to; said again and again. A refusal counts at once and
    /// is written until it is on disk; only a proof that held takes it back.
    pub(crate) fn saw(&self, cluster: &ClusterId, said: &LeaseStatus) {
        let now = match said.state {
            LeaseWord::Frozen | LeaseWord::Dead => Some(Refusal {
                cause: said.cause.unwrap_or(Cause::KeyDeleted),
                detail: said.detail.clone().unwrap_or_default(),
                dead: said.state == LeaseWord::Dead,
            }),
            LeaseWord::Live => None,
            LeaseWord::None | LeaseWord::Unproved | LeaseWord::Lapsed => return,
        };
        {
            let mut known = self.lock();
            known.heard.insert(cluster.clone());
            if known.refused.get(cluster) != now.as_ref() {
                known.unwritten = true;
                match now {
                    Some(refusal) => known.refused.insert(cluster.clone(), refusal),
                    None => known.refused.remove(cluster),
                };
            }
            if !known.unwritten {
                return;
            }
        }
        let _turn = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let all = {
            let mut known = self.lock();
            known.unwritten = false;
            known.refused.clone()
        };
        if let Err(error) = disk::replace(&self.path, &all) {
            self.lock().unwritten = true;
            tracing::error!(%cluster, %error, "what the other Region's key says cannot be kept yet");
        }
    }
}

/// The other Region's key, where its refusal freezes the cluster here.
pub(super) fn counts(wanted: &ClusterAssignment) -> Option<&SecondKey> {
    let binding = wanted.binding.as_ref().filter(|b| b.revocation == Revocation::Any)?;
    binding.second.as_ref()
}

/// What a foreign Region's keeper is to ask.
pub(crate) fn subjects(assignment: &Assignment, region: &Region) -> Vec<Subject> {
    let subject = |wanted: &ClusterAssignment| {
        let second = counts(wanted).filter(|s| s.key.region() == region)?;
        let canary = second.canary.clone()?;
        let known = canary.is_of(&second.key, &EncryptionContext::canary(&wanted.cluster));
        Some(Subject {
            cluster: wanted.cluster.clone(),
            version: 0,
            role: wanted.tenant_role.clone(),
            key: second.key.clone(),
            canary,
            stores: Vec::new(),
            buckets: Vec::new(),
            settings: wanted.lease,
            second: false,
            mismatch: (!known)
                .then(|| "the other Region's canary is not of its key and context".to_owned()),
        })
    };
    assignment.clusters.iter().filter_map(subject).collect()
}

/// A lease that opens nothing.
pub(crate) struct Witness(Kept);

impl Witness {
    pub(crate) fn new(settings: &LeaseSettings) -> Self {
        Self(Kept::new(settings, Arc::default(), Arc::new(SystemClock)))
    }
}

impl Guarded for Witness {
    fn on(&mut self, said: Said) {
        self.0.on(said);
    }
    fn view(&self) -> LeaseView {
        self.0.view()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(state: LeaseWord, cause: Option<Cause>) -> LeaseStatus {
        LeaseStatus { state, cause, detail: None, since_ms: 0, deletion_date_ms: None }
    }

    #[test]
    fn a_refusal_outlives_silence_and_restarts_and_ends_with_a_proof() {
        let folder = tempfile::tempdir().expect("a folder");
        let cluster = ClusterId::from_uuid(uuid::Uuid::now_v7());
        let seconds = Seconds::load(folder.path()).expect("none yet");
        for quiet in [LeaseWord::None, LeaseWord::Unproved, LeaseWord::Lapsed, LeaseWord::Live] {
            seconds.saw(&cluster, &said(quiet, None));
            assert_eq!(seconds.refusal(&cluster), None, "{quiet:?}");
        }
        seconds.saw(&cluster, &said(LeaseWord::Frozen, Some(Cause::KeyDisabled)));
        for quiet in [LeaseWord::Unproved, LeaseWord::Lapsed] {
            seconds.saw(&cluster, &said(quiet, None));
        }
        let again = Seconds::load(folder.path()).expect("kept");
        let stands = again.refusal(&cluster).expect("it stands");
        assert_eq!((stands.cause, stands.dead), (Cause::KeyDisabled, false));
        assert!(!again.heard(&cluster), "what an earlier process heard");
        again.saw(&cluster, &said(LeaseWord::Dead, None));
        assert!(again.heard(&cluster));
        assert!(again.refusal(&cluster).is_some_and(|r| r.dead));
        again.saw(&cluster, &said(LeaseWord::Live, None));
        assert_eq!(Seconds::load(folder.path()).expect("kept").refusal(&cluster), None);
    }

    #[test]
    fn what_could_not_be_written_is_written_when_the_disk_is_mended() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        std::fs::write(&data, "in the way of the folder").expect("written");
        let cluster = ClusterId::from_uuid(uuid::Uuid::now_v7());
        let path = data.join("second.json");
        let seconds = Seconds { path, known: Mutex::default(), file: Mutex::default() };
        let refused = said(LeaseWord::Frozen, Some(Cause::KeyDisabled));
        seconds.saw(&cluster, &refused);
        assert!(seconds.refusal(&cluster).is_some(), "it counts all the same");
        std::fs::remove_file(&data).expect("mended");
        seconds.saw(&cluster, &refused);
        assert!(Seconds::load(&data).expect("kept").refusal(&cluster).is_some());
    }
}
