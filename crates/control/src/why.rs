//! From cause to words and to the command lines that repair it, with the real names. Pure.

use crate::beside::BackupState;
use crate::conditions::{Judgement, closed_buckets};
use crate::store::Cluster;
use crate::time::rfc3339;
use crate::wire::{Phase, WhyView};
use keystead_types::{Cause, ClusterStatus, KeyArn, LeaseStatus, Region, VolumeId};

/// What happened, in one clause.
pub(crate) fn words(cause: Cause) -> &'static str {
    match cause {
        Cause::KeyDisabled => "the key owner disabled the key",
        Cause::KeyPendingDeletion => "the key is scheduled for deletion",
        Cause::KeyDeleted => "the key is gone for good",
        Cause::PolicyDenies => "the key policy no longer allows the tenant role what it needs",
        Cause::GrantRevoked => "the grant of a volume was revoked or retired",
        Cause::ContextDenied => "the encryption context is refused by a grant or a condition",
        Cause::WrongRegion => "the key lies in another Region than the cluster",
        Cause::WrongSpecOrUsage => "the key is not a symmetric ENCRYPT_DECRYPT key",
        Cause::RoleNotAssumable => "the node may not assume the tenant role",
        Cause::KmsUnreachable => "KMS does not answer",
        Cause::SecondKeyUnusable => "the key of the cluster's other Region refuses",
        Cause::NodeSilent => "the node does not report; what the cluster does is not known",
        Cause::KeyStoreRolledBack => "KMS answered with an older state than one it gave before",
        Cause::WrappedKeyMismatch => "a wrapped key does not open under the recorded key",
    }
}

/// The words, and what KMS said.
pub(crate) fn detailed(cause: Cause, detail: Option<&str>) -> String {
    match detail {
        Some(detail) => format!("{}: {detail}", words(cause)),
        None => words(cause).to_owned(),
    }
}

/// Why a lease is closed. Of the other Region's key it is told what that key itself suffers.
pub(crate) fn explained(cause: Cause, seen: &ClusterStatus, other: &Region) -> String {
    let detail = seen.lease.detail.as_deref();
    let of_other = seen.second.as_ref().filter(|_| cause == Cause::SecondKeyUnusable);
    match of_other.and_then(|s| Some((s, s.cause?))) {
        Some((second, own)) => {
            let detail = second.detail.as_deref().or(detail);
            format!("{} ({other}): {}", words(cause), detailed(own, detail))
        }
        None => detailed(cause, detail),
    }
}

/// One thing that is wrong, and whose key it concerns.
struct Fault<'a> {
    /// As it is told.
    cause: Cause,
    /// What is to be repaired; another one where the other Region's key is the trouble.
    root: Cause,
    key: Option<&'a KeyArn>,
    /// Volumes have grants of their own; buckets and the backup Region have none.
    volumes: bool,
    deletion_ms: Option<i64>,
}

/// The primary's comes first.
fn faults<'a>(cluster: &'a Cluster, judged: &Judgement<'a>) -> Vec<Fault<'a>> {
    let keys = cluster.binding.as_ref();
    let own = keys.map(|keys| &keys.key);
    let second = keys.and_then(|keys| keys.second.as_ref());
    let of = |cause, seen: Option<&ClusterStatus>, key, other: Option<&'a KeyArn>, volumes| {
        let date = |lease: Option<&LeaseStatus>| lease.and_then(|l| l.deletion_date_ms);
        let of_other = seen.and_then(|s| s.second.as_ref());
        if cause != Cause::SecondKeyUnusable {
            let deletion_ms = date(seen.map(|s| &s.lease));
            return Fault { cause, root: cause, key, volumes, deletion_ms };
        }
        let root = of_other.and_then(|lease| lease.cause).unwrap_or(cause);
        let key = other.or(key);
        Fault { cause, root, key, volumes: false, deletion_ms: date(of_other) }
    };
    let mut all = Vec::new();
    if let Some(cause) = judged.cause {
        all.push(of(cause, judged.seen, own, second, true));
    }
    let bound = keys.and(judged.beside);
    if let Some((cause, beside)) = bound.and_then(|b| Some((b.cause()?, b))) {
        all.push(of(cause, beside.seen, second, own, false));
    }
    if judged.phase == Phase::Ready {
        let closed = judged.seen.into_iter().flat_map(|seen| closed_buckets(cluster, seen));
        let causes = closed.filter_map(|(_, status)| status.cause);
        all.extend(causes.map(|cause| of(cause, judged.seen, own, second, false)));
    }
    all
}

/// Explains a cluster.
pub(crate) fn explain(cluster: &Cluster, judged: &Judgement<'_>) -> WhyView {
    let faults = faults(cluster, judged);
    let Some(first) = faults.first() else {
        return WhyView {
            cause: None,
            what: judged.message.clone(),
            since: judged.since_ms.and_then(rfc3339),
            who: None,
            stopped: stopped(cluster, judged),
            fix: next_step(cluster, judged.phase),
        };
    };
    let mut fixes = Vec::new();
    for line in faults.iter().flat_map(|fault| fix(cluster, judged, fault)) {
        if !fixes.contains(&line) {
            fixes.push(line);
        }
    }
    let since_ms = match judged.cause {
        Some(_) => judged.since_ms,
        None => judged.beside.and_then(|b| b.seen).map(|s| s.lease.since_ms).filter(|ms| *ms > 0),
    };
    WhyView {
        cause: Some(first.cause),
        what: what(first, judged),
        since: since_ms.and_then(rfc3339),
        who: who(first),
        stopped: stopped(cluster, judged),
        fix: fixes,
    }
}

fn what(first: &Fault<'_>, judged: &Judgement<'_>) -> String {
    // What KMS said ends with a full stop of its own.
    let mut text = judged.head.trim_end_matches('.').to_owned();
    let mut add = |clause: &str| {
        text.push_str("; ");
        text.push_str(clause.trim_end_matches('.'));
    };
    let date =
        first.deletion_ms.and_then(rfc3339).filter(|_| first.root == Cause::KeyPendingDeletion);
    let deleted = date.map(|date| format!("it will be deleted at {date}"));
    let own = judged.cause.is_some();
    deleted.iter().filter(|_| own).for_each(|clause| add(clause));
    if let Some(at) = judged.seen.and_then(|s| s.evict_at_ms).and_then(rfc3339) {
        add(&format!("the workload leaves memory at {at}"));
    }
    judged.clauses.iter().for_each(|clause| add(clause));
    deleted.iter().filter(|_| !own).for_each(|clause| add(clause));
    text
}

fn stopped(cluster: &Cluster, judged: &Judgement<'_>) -> Vec<String> {
    let mut lines = match judged.phase {
        Phase::Frozen | Phase::Dead => cluster
            .volumes
            .iter()
            .map(|v| format!("volume {} ({}): no reads, no writes", v.id, v.disk))
            .chain([format!("workload {}: its processes are held", cluster.template)])
            .collect(),
        Phase::Unknown => vec!["the view of the cluster; the cluster itself may serve".to_owned()],
        Phase::Ready => judged
            .seen
            .into_iter()
            .flat_map(|seen| closed_buckets(cluster, seen))
            .map(|(b, _)| format!("bucket {} ({}): no reads, no writes", b.id, b.name))
            .collect(),
        _ => Vec::new(),
    };
    let bound = cluster.binding.as_ref().and(judged.beside);
    lines.extend(bound.and_then(|beside| match beside.state() {
        BackupState::Silent => {
            Some(format!("the view of the backup Region {}; it may serve", beside.region))
        }
        BackupState::Frozen(_) | BackupState::Dead(_) => {
            Some(format!("backup Region {}: no reads, no replicas taken", beside.region))
        }
        BackupState::NotOpen | BackupState::Serves => None,
    }));
    lines
}

/// What a cluster that has no fault waits for.
fn next_step(cluster: &Cluster, phase: Phase) -> Vec<String> {
    match phase {
        Phase::AwaitingKey => vec![
            format!("keystead policy render {} --customer-account ACCOUNT", cluster.name),
            match cluster.backup_region {
                None => format!("keystead cluster associate {} --key-arn ARN", cluster.name),
                Some(_) => format!(
                    "keystead cluster associate {} --key-arn ARN --backup-key-arn ARN",
                    cluster.name
                ),
            },
        ],
        _ => Vec::new(),
    }
}

/// The command that asks the trail who did it; the owner runs it.
fn who(fault: &Fault<'_>) -> Option<String> {
    let event = match fault.root {
        Cause::KeyDisabled => "DisableKey",
        Cause::KeyPendingDeletion | Cause::KeyDeleted => "ScheduleKeyDeletion",
        Cause::PolicyDenies | Cause::ContextDenied => "PutKeyPolicy",
        Cause::GrantRevoked => "RevokeGrant",
        _ => return None,
    };
    let key = fault.key?;
    Some(format!(
        "aws cloudtrail lookup-events --region {} --lookup-attributes AttributeKey=EventName,AttributeValue={event} --max-results 10  # look for {key}",
        key.region()
    ))
}

/// Puts the brief's policy back on the key.
pub(crate) fn put_policy(name: &str, key: &KeyArn) -> [String; 2] {
    [
        format!(
            "keystead policy render {name} --customer-account {} > key-policy.json",
            key.account()
        ),
        format!(
            "aws kms put-key-policy --region {} --key-id {key} --policy-name default --policy file://key-policy.json",
            key.region()
        ),
    ]
}

/// The volumes whose own proof fails for this cause; all, when none is named.
fn refused(cluster: &Cluster, judged: &Judgement<'_>, cause: Cause) -> Vec<VolumeId> {
    let mut named: Vec<VolumeId> = judged
        .seen
        .iter()
        .flat_map(|s| &s.volumes)
        .filter(|v| v.cause == Some(cause))
        .map(|v| v.volume.clone())
        .collect();
    let detail = judged.seen.and_then(|s| s.lease.detail.as_deref()).unwrap_or_default();
    if named.is_empty() {
        let in_detail = |id: &VolumeId| detail.contains(id.as_str());
        named = cluster.volumes.iter().map(|v| v.id.clone()).filter(in_detail).collect();
    }
    if named.is_empty() { cluster.volumes.iter().map(|v| v.id.clone()).collect() } else { named }
}

fn fix(cluster: &Cluster, judged: &Judgement<'_>, fault: &Fault<'_>) -> Vec<String> {
    let cause = fault.root;
    let name = &cluster.name;
    let Some(key) = fault.key else { return Vec::new() };
    let region = key.region();
    let aws = |command: &str| format!("aws kms {command} --region {region} --key-id {key}");
    let regrant = || {
        let volumes = fault.volumes.then(|| refused(cluster, judged, cause));
        volumes
            .into_iter()
            .flatten()
            .map(|v| format!("keystead volume regrant {v}"))
            .collect::<Vec<_>>()
    };
    match cause {
        Cause::KeyDisabled => vec![aws("enable-key")],
        Cause::KeyPendingDeletion => vec![aws("cancel-key-deletion"), aws("enable-key")],
        // Nothing brings a deleted key back, and no command pretends to.
        Cause::KeyDeleted => vec![aws("describe-key")],
        Cause::PolicyDenies => put_policy(name, key).to_vec(),
        Cause::GrantRevoked if fault.volumes => regrant(),
        Cause::GrantRevoked => put_policy(name, key).to_vec(),
        Cause::ContextDenied => put_policy(name, key).into_iter().chain(regrant()).collect(),
        Cause::WrongRegion | Cause::WrongSpecOrUsage => vec![format!(
            "aws kms create-key --region {} --key-spec SYMMETRIC_DEFAULT --key-usage ENCRYPT_DECRYPT --policy file://key-policy.json",
            key.region()
        )],
        Cause::RoleNotAssumable => {
            let role = cluster.tenant_role.as_ref().map(|r| r.name()).unwrap_or_default();
            vec![format!("aws iam get-role --role-name {role}"), "keystead doctor".to_owned()]
        }
        // What that key suffers is not told yet.
        Cause::SecondKeyUnusable => vec![aws("describe-key")],
        Cause::KmsUnreachable => vec![aws("describe-key"), "keystead doctor".to_owned()],
        Cause::NodeSilent => {
            vec!["keystead doctor".to_owned(), "keystead node serve --config FILE".to_owned()]
        }
        Cause::KeyStoreRolledBack => {
            let forget = "keystead audit verify, then, once the KMS's older store is accepted, on the node: rm DIR/node/REGION/sequence.json and restart the node";
            let both = "on the other Region's node: rm DIR/node/OTHER/second/REGION/sequence.json and restart it, too";
            let two = cluster.backup_region.is_some();
            [forget].into_iter().chain(two.then_some(both)).map(str::to_owned).collect()
        }
        Cause::WrappedKeyMismatch if !fault.volumes => {
            vec![format!("keystead bucket list {name}"), "keystead audit verify".to_owned()]
        }
        Cause::WrappedKeyMismatch => refused(cluster, judged, cause)
            .into_iter()
            .map(|v| format!("keystead volume show {v}"))
            .chain(["keystead audit verify".to_owned()])
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::{Evidence, judge};
    use crate::testing::{bound, bound_twice, far_key, far_report, key, report, serving};
    use keystead_types::{Boot, BucketWord, LeaseWord};
    use std::time::Duration;

    fn why(cause: Cause, detail: Option<String>) -> (Cluster, WhyView) {
        let c = bound("mine");
        let mut status = serving(&c);
        status.lease = LeaseStatus {
            state: LeaseWord::Frozen,
            cause: Some(cause),
            detail: detail.map(|d| format!("{}: {d}", c.volumes[1].id)),
            since_ms: 1_000,
            deletion_date_ms: Some(2_000),
        };
        let report = report(vec![status], 1_000);
        let now = Boot::since_boot(Duration::from_millis(1_001));
        let judged = judge(Evidence {
            cluster: &c,
            role_fault: None,
            report: Some(&report),
            backup_report: None,
            now,
        });
        let view = explain(&c, &judged);
        (c, view)
    }

    #[test]
    fn each_cause_has_words_a_date_and_a_command() {
        for cause in Cause::ALL {
            let (_, view) = why(cause, None);
            assert_eq!(view.cause, Some(cause));
            assert!(view.what.starts_with(words(cause)), "{cause}");
            assert_eq!(view.since.as_deref(), Some("1970-01-01T00:00:01Z"));
            assert!(!view.fix.is_empty() && !view.stopped.is_empty(), "{cause}");
        }
    }

    fn why_of_two(
        primary: impl FnOnce(&mut ClusterStatus),
        backup: impl FnOnce(&mut ClusterStatus),
    ) -> WhyView {
        let c = bound_twice("mine");
        let (mut here, mut there) = (serving(&c), serving(&c));
        primary(&mut here);
        backup(&mut there);
        let (here, there) = (report(vec![here], 1_000), far_report(vec![there], 1_000));
        let now = Boot::since_boot(Duration::from_millis(1_001));
        let judged = judge(Evidence {
            cluster: &c,
            role_fault: None,
            report: Some(&here),
            backup_report: Some(&there),
            now,
        });
        explain(&c, &judged)
    }

    fn frozen(cause: Cause) -> LeaseStatus {
        LeaseStatus {
            state: LeaseWord::Frozen,
            cause: Some(cause),
            detail: None,
            since_ms: 1_000,
            deletion_date_ms: None,
        }
    }

    fn enable(key: &KeyArn) -> String {
        format!("aws kms enable-key --region {} --key-id {key}", key.region())
    }

    #[test]
    fn the_second_keys_own_cause_is_repaired_in_its_own_region() {
        let by_other = |s: &mut ClusterStatus| {
            s.lease = frozen(Cause::SecondKeyUnusable);
            s.second = Some(frozen(Cause::KeyDisabled));
        };
        let refused = |s: &mut ClusterStatus| s.lease = frozen(Cause::KeyDisabled);
        let view = why_of_two(by_other, refused);
        assert_eq!(view.cause, Some(Cause::SecondKeyUnusable));
        assert_eq!(view.fix, [enable(&far_key(2))]);
        let who = view.who.expect("who");
        assert!(who.contains("DisableKey") && who.contains("--region eu-west-1"), "{who}");
        assert_eq!(
            view.stopped.last().map(String::as_str),
            Some("backup Region eu-west-1: no reads, no replicas taken")
        );
        // The other way round, and both.
        assert_eq!(why_of_two(refused, by_other).fix, [enable(&key(1))]);
        assert_eq!(why_of_two(refused, refused).fix, [enable(&key(1)), enable(&far_key(2))]);
    }

    #[test]
    fn a_fault_of_the_backup_region_alone_is_explained_too() {
        let pending = |s: &mut ClusterStatus| {
            s.lease =
                LeaseStatus { deletion_date_ms: Some(2_000), ..frozen(Cause::KeyPendingDeletion) };
        };
        let view = why_of_two(|_| {}, pending);
        assert_eq!(view.cause, Some(Cause::KeyPendingDeletion));
        assert_eq!(
            view.what,
            "serves; the backup Region eu-west-1 is frozen: the key is scheduled for deletion; it will be deleted at 1970-01-01T00:00:02Z"
        );
        assert_eq!(view.since.as_deref(), Some("1970-01-01T00:00:01Z"));
        assert_eq!(view.stopped, ["backup Region eu-west-1: no reads, no replicas taken"]);
        assert_eq!(view.fix[1], enable(&far_key(2)));
        let well = why_of_two(|_| {}, |_| {});
        assert_eq!((well.cause, well.fix.len(), well.what.as_str()), (None, 0, "serves"));
    }

    #[test]
    fn a_bucket_frozen_alone_is_explained() {
        let view = why_of_two(
            |s| {
                (s.buckets[0].state, s.buckets[0].cause) =
                    (BucketWord::Frozen, Some(Cause::ContextDenied));
            },
            |_| {},
        );
        assert_eq!(view.cause, Some(Cause::ContextDenied));
        assert!(view.what.starts_with("serves; the bucket documents is frozen"), "{}", view.what);
        assert_eq!(view.fix, put_policy("mine", &key(1)), "a bucket has no grant to renew");
        assert!(view.stopped[0].contains("(documents)"), "{:?}", view.stopped);
    }

    #[test]
    fn commands_carry_the_real_names() {
        let (_, view) = why(Cause::KeyPendingDeletion, None);
        let key = key(1);
        assert_eq!(
            view.fix,
            [
                format!("aws kms cancel-key-deletion --region eu-central-1 --key-id {key}"),
                format!("aws kms enable-key --region eu-central-1 --key-id {key}"),
            ]
        );
        assert!(view.what.contains("1970-01-01T00:00:02Z"), "{}", view.what);
        assert!(view.who.expect("who").contains("ScheduleKeyDeletion"));
        let (c, view) = why(Cause::GrantRevoked, Some("gone".to_owned()));
        assert_eq!(view.fix, [format!("keystead volume regrant {}", c.volumes[1].id)]);
    }
}
