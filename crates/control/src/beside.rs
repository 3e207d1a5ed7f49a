//! What a cluster's backup Region adds to its judgement. The phase is the primary's; what the backup
//! Region does stands beside it, as a clause of the message, as conditions and in `why`. Pure.

use crate::board::Report;
use crate::store::Cluster;
use crate::time::rfc3339;
use crate::why::{explained, words};
use crate::wire::Phase;
use keystead_types::{Boot, Cause, ClusterStatus, LeaseStatus, LeaseWord, Region};

/// The backup Region as it is known now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beside<'a> {
    pub(crate) region: &'a Region,
    pub(crate) primary: &'a Region,
    pub(crate) report: Option<&'a Report>,
    /// The report counts.
    pub(crate) fresh: bool,
    /// What a fresh report says of the cluster.
    pub(crate) seen: Option<&'a ClusterStatus>,
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackupState {
    /// Its node does not report.
    Silent,
    /// Keys are made, or not proved yet.
    NotOpen,
    /// Replicas can be read.
    Serves,
    /// Its gates are closed.
    Frozen(Option<Cause>),
    /// Its key is gone for good.
    Dead(Cause),
}

impl<'a> Beside<'a> {
    /// Of a cluster that has one.
    pub(crate) fn of(cluster: &'a Cluster, report: Option<&'a Report>, now: Boot) -> Option<Self> {
        let fresh = report.filter(|r| r.is_fresh(now));
        Some(Self {
            region: cluster.backup_region.as_ref()?,
            primary: &cluster.region,
            report,
            fresh: fresh.is_some(),
            seen: fresh.and_then(|r| r.cluster(&cluster.id)),
        })
    }

    pub(crate) fn state(&self) -> BackupState {
        if !self.fresh {
            return BackupState::Silent;
        }
        let Some(seen) = self.seen else { return BackupState::NotOpen };
        let lease = &seen.lease;
        match lease.state {
            LeaseWord::Dead => BackupState::Dead(lease.cause.unwrap_or(Cause::KeyDeleted)),
            LeaseWord::Frozen => BackupState::Frozen(lease.cause),
            LeaseWord::Lapsed => {
                BackupState::Frozen(Some(lease.cause.unwrap_or(Cause::KmsUnreachable)))
            }
            LeaseWord::None | LeaseWord::Unproved if lease.cause.is_some() => {
                BackupState::Frozen(lease.cause)
            }
            LeaseWord::None | LeaseWord::Unproved => BackupState::NotOpen,
            LeaseWord::Live => BackupState::Serves,
        }
    }

    /// Why it does not serve.
    pub(crate) fn cause(&self) -> Option<Cause> {
        match self.state() {
            BackupState::Silent => Some(Cause::NodeSilent),
            BackupState::Frozen(cause) => cause,
            BackupState::Dead(cause) => Some(cause),
            BackupState::NotOpen | BackupState::Serves => None,
        }
    }

    /// What the message says of it in this phase of the primary; nothing where there is no news.
    pub(crate) fn clause(&self, phase: Phase) -> Option<String> {
        let state = self.state();
        let told = match phase {
            Phase::Creating | Phase::AwaitingKey => false,
            Phase::Provisioning | Phase::Starting => {
                !matches!(state, BackupState::Serves | BackupState::NotOpen)
            }
            Phase::Ready => state != BackupState::Serves,
            Phase::Frozen | Phase::Dead | Phase::Unknown => true,
        };
        let says = |cause: Option<Cause>| match (cause, self.seen) {
            (Some(cause), Some(seen)) => format!(": {}", explained(cause, seen, self.primary)),
            (Some(cause), None) => format!(": {}", words(cause)),
            (None, _) => String::new(),
        };
        let text = match state {
            BackupState::Silent => {
                "is silent: its node does not report; what it does is not known".to_owned()
            }
            BackupState::NotOpen => "is not open yet".to_owned(),
            BackupState::Serves => "serves reads".to_owned(),
            BackupState::Frozen(cause) => format!("is frozen{}", says(cause)),
            BackupState::Dead(cause) => format!("is dead{}", says(Some(cause))),
        };
        told.then(|| format!("the backup Region {} {text}", self.region))
    }
}

/// Whether the backup Region's key can be used, by whoever asked it: its own node, or the primary's.
/// A refusal heard by one of them counts; then a proof; silence says nothing.
pub(crate) fn second_key<'a>(
    seen: Option<&'a ClusterStatus>,
    beside: &Beside<'a>,
) -> (Option<bool>, Option<&'a LeaseStatus>) {
    let own = beside.seen.map(|s| &s.lease);
    // That lease is closed by the other key, and says nothing of its own.
    let own = own.filter(|lease| lease.cause != Some(Cause::SecondKeyUnusable));
    let told = || own.into_iter().chain(seen.and_then(|s| s.second.as_ref()));
    let refused = |lease: &&LeaseStatus| matches!(lease.state, LeaseWord::Frozen | LeaseWord::Dead);
    if let Some(lease) = told().find(refused) {
        return (Some(false), Some(lease));
    }
    match told().find(|lease| lease.state == LeaseWord::Live) {
        Some(lease) => (Some(true), Some(lease)),
        None => (None, told().next()),
    }
}

/// How far replication is: holds, one word, and the message.
pub(crate) fn replicated(seen: Option<&ClusterStatus>) -> (Option<bool>, &'static str, String) {
    let Some(found) = seen.and_then(|s| s.replication.as_ref()) else {
        return (None, "NoReport", String::new());
    };
    if found.pending == 0 {
        return (Some(true), "CaughtUp", String::new());
    }
    let noun = if found.pending == 1 { "change waits" } else { "changes wait" };
    let mut text = format!("{} {noun}", found.pending);
    if let Some(oldest) = found.oldest_ms.and_then(rfc3339) {
        text.push_str(&format!(", the oldest since {oldest}"));
    }
    if let Some(message) = &found.message {
        text.push_str(&format!("; {message}"));
    }
    (Some(false), "Behind", text)
}
