//! Phase and conditions: a pure function of the record, the node's last report and the time.
//!
//! ```text
//! no role            Creating            report older than 3 s  Unknown (node-silent)
//! no binding         AwaitingKey         lease dead             Dead
//! keys to be made    Provisioning        lease refused, silent  Frozen
//! workload starting  Starting            everything serves      Ready
//! ```
//! Rows are read from the top left; a bound cluster's report comes before all that it says. Ready
//! means that the primary Region serves: a fault of the backup Region, or of one bucket alone, stands
//! in the message, in the conditions and in `why`.

use crate::beside::{BackupState, Beside, replicated, second_key};
use crate::board::Report;
use crate::store::{Bucket, Cluster, Keys};
use crate::time::rfc3339;
use crate::why::{detailed, explained, words};
use crate::wire::{Condition, Phase};
use keystead_types::{
    Boot, BucketStatus, BucketWord, Cause, ClusterStatus, LeaseWord, VolumeWord, WorkloadWord,
};

/// What is true of a cluster now.
#[derive(Debug)]
pub(crate) struct Judgement<'a> {
    pub(crate) phase: Phase,
    pub(crate) cause: Option<Cause>,
    /// All of it.
    pub(crate) message: String,
    /// What it says of the primary Region.
    pub(crate) head: String,
    /// What it says beside that: of the backup Region, of a bucket alone.
    pub(crate) clauses: Vec<String>,
    /// Since when, where it is known.
    pub(crate) since_ms: Option<i64>,
    /// What a fresh report says of the cluster.
    pub(crate) seen: Option<&'a ClusterStatus>,
    pub(crate) beside: Option<Beside<'a>>,
    pub(crate) conditions: Vec<Condition>,
}

/// What the judge looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence<'a> {
    pub(crate) cluster: &'a Cluster,
    /// Why the tenant role is not made yet.
    pub(crate) role_fault: Option<&'a str>,
    pub(crate) report: Option<&'a Report>,
    /// The backup Region's.
    pub(crate) backup_report: Option<&'a Report>,
    pub(crate) now: Boot,
}

type Verdict = (Phase, Option<Cause>, String, Option<i64>);

/// Judges.
pub(crate) fn judge(evidence: Evidence<'_>) -> Judgement<'_> {
    let Evidence { cluster, report, now, .. } = evidence;
    let fresh = report.filter(|r| r.is_fresh(now));
    let seen = fresh.and_then(|r| r.cluster(&cluster.id));
    let beside = Beside::of(cluster, evidence.backup_report, now);
    let (phase, cause, head, since_ms) = verdict(evidence, fresh.is_some(), seen);
    let mut clauses: Vec<String> = beside.and_then(|b| b.clause(phase)).into_iter().collect();
    if let (Phase::Ready, Some(seen)) = (phase, seen) {
        clauses.extend(closed_buckets(cluster, seen).map(|(b, s)| told_of_bucket(b, s)));
    }
    let message = std::iter::once(&head).chain(&clauses).map(String::as_str);
    let message = message.collect::<Vec<_>>().join("; ");
    let mut conditions = conditions(evidence, fresh.is_some(), seen);
    if let Some(beside) = &beside {
        conditions.extend(of_backup(cluster, seen, beside));
    }
    Judgement { phase, cause, message, head, clauses, since_ms, seen, beside, conditions }
}

/// Buckets that do not serve and will not by themselves.
pub(crate) fn closed_buckets<'a>(
    cluster: &'a Cluster,
    seen: &'a ClusterStatus,
) -> impl Iterator<Item = (&'a Bucket, &'a BucketStatus)> {
    cluster.buckets.iter().filter_map(|b| {
        let status = seen.buckets.iter().find(|s| s.bucket == b.id)?;
        matches!(status.state, BucketWord::Frozen | BucketWord::Failed).then_some((b, status))
    })
}

fn told_of_bucket(bucket: &Bucket, status: &BucketStatus) -> String {
    let why = match (status.cause, status.message.as_deref()) {
        (Some(cause), message) => detailed(cause, message),
        (None, Some(message)) => message.to_owned(),
        (None, None) => return format!("the bucket {} is {}", bucket.name, word(&status.state)),
    };
    format!("the bucket {} is {}: {why}", bucket.name, word(&status.state))
}

fn verdict(evidence: Evidence<'_>, fresh: bool, seen: Option<&ClusterStatus>) -> Verdict {
    let Evidence { cluster, role_fault, report, .. } = evidence;
    if cluster.tenant_role.is_none() {
        let message = match role_fault {
            Some(fault) => format!("the tenant role is not made yet: {fault}"),
            None => "the tenant role is being made".to_owned(),
        };
        return (Phase::Creating, None, message, Some(cluster.created_ms));
    }
    if cluster.binding.is_none() {
        let message =
            "waits for the owner's key: put the tenant role in its policy, then associate";
        return (Phase::AwaitingKey, None, message.to_owned(), None);
    }
    if !fresh {
        let cause = Cause::NodeSilent;
        let since = report.map(|r| r.wall_ms);
        let message = match report {
            Some(_) => words(cause).to_owned(),
            None => format!("{} (no report came since control started)", words(cause)),
        };
        return (Phase::Unknown, Some(cause), message, since);
    }
    match seen {
        Some(seen) => told(cluster, seen),
        None => (Phase::Provisioning, None, "the node takes the cluster up".to_owned(), None),
    }
}

/// A time of the node; zero stands for "not known".
fn known(ms: i64) -> Option<i64> {
    (ms > 0).then_some(ms)
}

fn told(cluster: &Cluster, seen: &ClusterStatus) -> Verdict {
    let lease = &seen.lease;
    let since = known(lease.since_ms);
    let closed = |phase, cause: Option<Cause>| {
        let message = match cause {
            Some(cause) => {
                explained(cause, seen, cluster.backup_region.as_ref().unwrap_or(&cluster.region))
            }
            None => "the gates are closed".to_owned(),
        };
        (phase, cause, message, since)
    };
    match lease.state {
        LeaseWord::Dead => return closed(Phase::Dead, lease.cause.or(Some(Cause::KeyDeleted))),
        LeaseWord::Frozen => return closed(Phase::Frozen, lease.cause),
        LeaseWord::Lapsed => {
            return closed(Phase::Frozen, lease.cause.or(Some(Cause::KmsUnreachable)));
        }
        LeaseWord::None | LeaseWord::Unproved if lease.cause.is_some() => {
            return closed(Phase::Frozen, lease.cause);
        }
        LeaseWord::None | LeaseWord::Unproved => return rising(cluster, seen, false),
        LeaseWord::Live => {}
    }
    if let Some(refused) = seen.volumes.iter().find(|v| v.cause.is_some()) {
        let message = refused.cause.map(|c| detailed(c, refused.message.as_deref()));
        return (Phase::Frozen, refused.cause, message.unwrap_or_default(), since);
    }
    let frozen = seen.volumes.iter().any(|v| v.state == VolumeWord::Frozen)
        || seen.workload.state == WorkloadWord::Frozen;
    if frozen {
        return (Phase::Frozen, None, "the key is usable again; thawing".to_owned(), since);
    }
    rising(cluster, seen, true)
}

/// Nothing is refused: how far is it?
fn rising(cluster: &Cluster, seen: &ClusterStatus, live: bool) -> Verdict {
    let whole = cluster.canary.is_some()
        && cluster.volumes.iter().all(|v| v.wrapped.is_some() && v.key_digest.is_some());
    let attached = attached(cluster, seen);
    if live && whole && attached && seen.workload.state == WorkloadWord::Ready {
        return (Phase::Ready, None, "serves".to_owned(), known(seen.lease.since_ms));
    }
    let phase = if whole { Phase::Starting } else { Phase::Provisioning };
    let failed = seen
        .volumes
        .iter()
        .filter(|v| v.state == VolumeWord::Failed)
        .find_map(|v| v.message.as_deref());
    let message = failed.or(seen.workload.message.as_deref());
    let cause = message.and_then(cause_in);
    let message = message.unwrap_or(match phase {
        Phase::Provisioning => "keys are being wrapped and disks formatted",
        _ => "the workload starts",
    });
    (phase, cause, message.to_owned(), None)
}

fn attached(cluster: &Cluster, seen: &ClusterStatus) -> bool {
    cluster
        .volumes
        .iter()
        .all(|v| seen.volumes.iter().any(|s| s.volume == v.id && s.state == VolumeWord::Attached))
}

/// The node's provisioning says its cause as the first word: `provisioning: <cause>: ...`.
fn cause_in(message: &str) -> Option<Cause> {
    let rest = message.strip_prefix("provisioning: ")?;
    let word = rest.split(':').next()?;
    Cause::ALL.into_iter().find(|c| c.as_str() == word)
}

fn condition(
    kind: &str,
    holds: Option<bool>,
    reason: &str,
    message: &str,
    since: Option<i64>,
) -> Condition {
    let status = match holds {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    Condition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        since: since.and_then(rfc3339),
    }
}

/// Every bucket on record serves; else the first that does not, and why.
fn buckets(cluster: &Cluster, seen: &ClusterStatus) -> Condition {
    const KIND: &str = "BucketsServing";
    for bucket in &cluster.buckets {
        let status = seen.buckets.iter().find(|s| s.bucket == bucket.id);
        match status.map(|s| (s, s.state)) {
            Some((_, BucketWord::Serving)) => {}
            Some((status, _)) => {
                let reason = status.cause.map_or_else(|| word(&status.state), |c| c.to_string());
                return condition(
                    KIND,
                    Some(false),
                    &reason,
                    &told_of_bucket(bucket, status),
                    None,
                );
            }
            None => {
                let text = format!("the node does not know the bucket {} yet", bucket.name);
                return condition(KIND, Some(false), "opening", &text, None);
            }
        }
    }
    condition(KIND, Some(true), "serving", "", None)
}

/// What is true of the backup Region and of its key.
fn of_backup(
    cluster: &Cluster,
    seen: Option<&ClusterStatus>,
    beside: &Beside<'_>,
) -> [Condition; 4] {
    let last = beside.report.map(|r| r.wall_ms);
    let reporting = match (beside.fresh, last) {
        (true, _) => condition("BackupReporting", Some(true), "Reporting", "", last),
        (false, Some(_)) => condition("BackupReporting", Some(false), "Silent", "", last),
        (false, None) => condition("BackupReporting", Some(false), "NeverReported", "", None),
    };
    let live = match beside.seen.map(|s| &s.lease) {
        None => condition("BackupLeaseLive", None, "NoReport", "", None),
        Some(lease) => {
            let live = beside.state() == BackupState::Serves;
            let reason = lease.cause.map_or_else(|| word(&lease.state), |c| c.to_string());
            let detail = lease.detail.as_deref().unwrap_or_default();
            condition("BackupLeaseLive", Some(live), &reason, detail, known(lease.since_ms))
        }
    };
    let usable = match second_key(seen, beside) {
        (_, None) => condition("SecondKeyUsable", None, "NoReport", "", None),
        (holds, Some(lease)) => {
            let reason = lease.cause.map_or_else(|| word(&lease.state), |c| c.to_string());
            let key = cluster.binding.as_ref().and_then(|keys: &Keys| keys.second.as_ref());
            let text = [key.map(ToString::to_string), lease.detail.clone()];
            let text = text.into_iter().flatten().collect::<Vec<_>>().join(": ");
            condition("SecondKeyUsable", holds, &reason, &text, known(lease.since_ms))
        }
    };
    let (holds, reason, text) = replicated(seen);
    [reporting, live, usable, condition("Replicated", holds, reason, &text, None)]
}

fn conditions(evidence: Evidence<'_>, fresh: bool, seen: Option<&ClusterStatus>) -> Vec<Condition> {
    let Evidence { cluster, role_fault, report, .. } = evidence;
    let role = match (cluster.tenant_role.is_some(), role_fault) {
        (true, _) => condition("RoleReady", Some(true), "Made", "", None),
        (false, Some(fault)) => condition("RoleReady", Some(false), "IamRefused", fault, None),
        (false, None) => condition("RoleReady", Some(false), "BeingMade", "", None),
    };
    let bound = match &cluster.binding {
        Some(keys) => {
            let keys: Vec<String> = keys.all().map(ToString::to_string).collect();
            condition("KeyBound", Some(true), "Associated", &keys.join(", "), None)
        }
        None => condition("KeyBound", Some(false), "NotAssociated", "", None),
    };
    let last = report.map(|r| r.wall_ms);
    let node = match (fresh, last) {
        (true, _) => condition("NodeReporting", Some(true), "Reporting", "", last),
        (false, Some(_)) => condition("NodeReporting", Some(false), "Silent", "", last),
        (false, None) => condition("NodeReporting", Some(false), "NeverReported", "", None),
    };
    let mut all = vec![role, bound, node];
    let Some(seen) = seen else {
        let unknown = |kind| condition(kind, None, "NoReport", "", None);
        all.extend(
            ["LeaseLive", "VolumesAttached", "WorkloadReady", "BucketsServing"].map(unknown),
        );
        return all;
    };
    let lease = &seen.lease;
    let live = lease.state == LeaseWord::Live;
    let detail = lease.detail.as_deref().unwrap_or_default();
    let reason = lease.cause.map_or_else(|| word(&lease.state), |c| c.to_string());
    all.push(condition("LeaseLive", Some(live), &reason, detail, known(lease.since_ms)));
    let (reason, message) = match seen.volumes.iter().find(|v| v.state != VolumeWord::Attached) {
        None => ("attached".to_owned(), String::new()),
        Some(v) => (word(&v.state), v.message.clone().unwrap_or_else(|| v.volume.to_string())),
    };
    let whole = attached(cluster, seen);
    all.push(condition("VolumesAttached", Some(whole), &reason, &message, None));
    let ready = seen.workload.state == WorkloadWord::Ready;
    let message = seen.workload.message.as_deref().unwrap_or_default();
    all.push(condition("WorkloadReady", Some(ready), &word(&seen.workload.state), message, None));
    all.push(buckets(cluster, seen));
    if seen.sync_stalled {
        let told = "sync(2) hangs on the node until the frozen file system is thawed or evicted";
        all.push(condition("SyncStalled", Some(true), "sync-stalled", told, None));
    }
    all
}

/// A word of the node as it stands in JSON.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
