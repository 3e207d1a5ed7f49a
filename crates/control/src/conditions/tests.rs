//! Each phase, and what may never be shown.

use super::*;
use crate::testing::{bound, bound_twice, cluster, far_report, report, serving};
use keystead_types::{LeaseStatus, ReplicationStatus, WorkloadStatus};
use std::time::Duration;

fn at(ms: u64) -> Boot {
    Boot::since_boot(Duration::from_millis(ms))
}

fn seen_as(c: &Cluster, change: impl FnOnce(&mut ClusterStatus)) -> (Phase, Option<Cause>) {
    let mut status = serving(c);
    change(&mut status);
    let report = report(vec![status], 1_000);
    let evidence = Evidence {
        cluster: c,
        role_fault: None,
        report: Some(&report),
        backup_report: None,
        now: at(1_500),
    };
    let judged = judge(evidence);
    (judged.phase, judged.cause)
}

fn lease(state: LeaseWord, cause: Option<Cause>) -> LeaseStatus {
    LeaseStatus { state, cause, detail: None, since_ms: 900, deletion_date_ms: None }
}

#[test]
fn before_the_binding_no_node_is_needed() {
    let mut c = cluster("a");
    let judged = |c: &Cluster, role_fault| {
        let evidence =
            Evidence { cluster: c, role_fault, report: None, backup_report: None, now: at(9_000) };
        let j = judge(evidence);
        (j.phase, j.message)
    };
    assert_eq!(judged(&c, None).0, Phase::Creating);
    let (phase, message) = judged(&c, Some("IAM does not answer"));
    assert_eq!(phase, Phase::Creating);
    assert!(message.contains("IAM does not answer"));
    c.tenant_role = bound("b").tenant_role;
    assert_eq!(judged(&c, None).0, Phase::AwaitingKey);
}

#[test]
fn ready_lasts_three_seconds_past_the_report() {
    let c = bound("a");
    let report = report(vec![serving(&c)], 1_000);
    let phase = |now| {
        let judged = judge(Evidence {
            cluster: &c,
            role_fault: None,
            report: Some(&report),
            backup_report: None,
            now: at(now),
        });
        (judged.phase, judged.cause, judged.seen.is_some())
    };
    assert_eq!(phase(3_999), (Phase::Ready, None, true));
    assert_eq!(phase(4_000), (Phase::Unknown, Some(Cause::NodeSilent), false));
    let never = judge(Evidence {
        cluster: &c,
        role_fault: None,
        report: None,
        backup_report: None,
        now: at(1),
    });
    assert_eq!((never.phase, never.since_ms), (Phase::Unknown, None));
}

#[test]
fn ready_needs_everything() {
    let c = bound("a");
    assert_eq!(seen_as(&c, |_| {}).0, Phase::Ready);
    let stopped = |s: &mut ClusterStatus| s.workload.state = WorkloadWord::Stopped;
    assert_eq!(seen_as(&c, stopped).0, Phase::Starting);
    let detached = |s: &mut ClusterStatus| s.volumes[1].state = VolumeWord::Detached;
    assert_eq!(seen_as(&c, detached).0, Phase::Starting);
    let missing = |s: &mut ClusterStatus| s.volumes.truncate(1);
    assert_eq!(seen_as(&c, missing).0, Phase::Starting);
    let unproved = |s: &mut ClusterStatus| s.lease = lease(LeaseWord::Unproved, None);
    assert_eq!(seen_as(&c, unproved).0, Phase::Starting);
    let thawing = |s: &mut ClusterStatus| s.workload.state = WorkloadWord::Frozen;
    assert_eq!(seen_as(&c, thawing), (Phase::Frozen, None));
    let mut young = c.clone();
    young.volumes[0].key_digest = None;
    assert_eq!(seen_as(&young, |_| {}).0, Phase::Provisioning);
}

#[test]
fn a_lease_that_is_not_live_is_never_ready() {
    let c = bound("a");
    for cause in Cause::ALL.map(Some) {
        let frozen = |s: &mut ClusterStatus| s.lease = lease(LeaseWord::Frozen, cause);
        assert_eq!(seen_as(&c, frozen), (Phase::Frozen, cause));
        let volume = |s: &mut ClusterStatus| s.volumes[0].cause = cause;
        assert_eq!(seen_as(&c, volume), (Phase::Frozen, cause));
    }
    let lapsed = |s: &mut ClusterStatus| s.lease = lease(LeaseWord::Lapsed, None);
    assert_eq!(seen_as(&c, lapsed), (Phase::Frozen, Some(Cause::KmsUnreachable)));
    let dead = |s: &mut ClusterStatus| s.lease = lease(LeaseWord::Dead, None);
    assert_eq!(seen_as(&c, dead), (Phase::Dead, Some(Cause::KeyDeleted)));
    let refused =
        |s: &mut ClusterStatus| s.lease = lease(LeaseWord::Unproved, Some(Cause::KeyDisabled));
    assert_eq!(seen_as(&c, refused), (Phase::Frozen, Some(Cause::KeyDisabled)));
}

#[test]
fn what_provisioning_is_stuck_on_is_a_cause() {
    let mut c = bound("a");
    c.canary = None;
    let stuck = |s: &mut ClusterStatus| {
        s.lease = lease(LeaseWord::None, None);
        s.workload = WorkloadStatus {
            state: WorkloadWord::Stopped,
            endpoint: None,
            message: Some("provisioning: policy-denies: AccessDeniedException: no".to_owned()),
        };
    };
    assert_eq!(seen_as(&c, stuck), (Phase::Provisioning, Some(Cause::PolicyDenies)));
}

#[test]
fn an_unknown_time_is_not_shown_as_1970() {
    let c = bound("a");
    let mut status = serving(&c);
    status.lease = LeaseStatus { since_ms: 0, ..lease(LeaseWord::None, None) };
    let report = report(vec![status], 1_000);
    let judged = judge(Evidence {
        cluster: &c,
        role_fault: None,
        report: Some(&report),
        backup_report: None,
        now: at(1_001),
    });
    assert_eq!(judged.since_ms, None);
    let lease = judged.conditions.iter().find(|c| c.kind == "LeaseLive").expect("the condition");
    assert_eq!((lease.status.as_str(), &lease.since), ("False", &None));
}

/// What is said of a cluster of two Regions by both its nodes.
fn two(
    primary: impl FnOnce(&mut ClusterStatus),
    backup: impl FnOnce(&mut ClusterStatus),
) -> (Phase, Option<Cause>, String, Vec<Condition>) {
    let c = bound_twice("a");
    let (mut here, mut there) = (serving(&c), serving(&c));
    there.volumes.clear();
    here.second = Some(lease(LeaseWord::Live, None));
    primary(&mut here);
    backup(&mut there);
    let (here, there) = (report(vec![here], 1_000), far_report(vec![there], 1_000));
    let judged = judge(Evidence {
        cluster: &c,
        role_fault: None,
        report: Some(&here),
        backup_report: Some(&there),
        now: at(1_500),
    });
    (judged.phase, judged.cause, judged.message, judged.conditions)
}

fn status_of<'a>(all: &'a [Condition], kind: &str) -> (&'a str, &'a str) {
    let found = all.iter().find(|c| c.kind == kind).expect("the condition");
    (&found.status, &found.reason)
}

#[test]
fn a_backup_region_that_serves_is_no_news() {
    let (phase, cause, message, all) = two(|_| {}, |_| {});
    assert_eq!((phase, cause, message.as_str()), (Phase::Ready, None, "serves"));
    for kind in ["BackupReporting", "BackupLeaseLive", "SecondKeyUsable", "BucketsServing"] {
        assert_eq!(status_of(&all, kind).0, "True", "{kind}");
    }
    assert_eq!(status_of(&all, "Replicated"), ("Unknown", "NoReport"));
    let alone = judge(Evidence {
        cluster: &bound("b"),
        role_fault: None,
        report: None,
        backup_report: None,
        now: at(1),
    })
    .conditions;
    assert!(alone.iter().all(|c| !c.kind.starts_with("Backup") && c.kind != "Replicated"));
}

#[test]
fn the_phase_is_the_primarys_and_the_backup_stands_beside_it() {
    let refused = |s: &mut ClusterStatus| {
        s.lease = lease(LeaseWord::Frozen, Some(Cause::KeyDisabled));
    };
    let silent = |s: &mut ClusterStatus| s.lease = lease(LeaseWord::Lapsed, None);
    let by_other = |s: &mut ClusterStatus| {
        s.lease = lease(LeaseWord::Frozen, Some(Cause::SecondKeyUnusable));
        s.second = Some(lease(LeaseWord::Frozen, Some(Cause::KeyDisabled)));
    };
    let told = |(phase, cause, message, _): (Phase, Option<Cause>, String, Vec<Condition>)| {
        (phase, cause, message)
    };
    // any: the second key refuses.
    let (phase, cause, message, all) = two(by_other, refused);
    assert_eq!((phase, cause), (Phase::Frozen, Some(Cause::SecondKeyUnusable)));
    assert_eq!(
        message,
        "the key of the cluster's other Region refuses (eu-west-1): the key owner disabled the key; the backup Region eu-west-1 is frozen: the key owner disabled the key"
    );
    assert_eq!(status_of(&all, "SecondKeyUsable"), ("False", "key-disabled"));
    // any: the first key refuses.
    let (phase, cause, message, all) = two(refused, by_other);
    assert_eq!((phase, cause), (Phase::Frozen, Some(Cause::KeyDisabled)));
    assert_eq!(
        message,
        "the key owner disabled the key; the backup Region eu-west-1 is frozen: the key of the cluster's other Region refuses (eu-central-1): the key owner disabled the key"
    );
    assert_eq!(status_of(&all, "BackupLeaseLive"), ("False", "second-key-unusable"));
    assert_eq!(status_of(&all, "SecondKeyUsable"), ("True", "live"), "the primary's node asks it");
    // each: a refusal stays in its Region.
    let each = |s: &mut ClusterStatus| s.second = None;
    assert_eq!(
        told(two(each, refused)),
        (
            Phase::Ready,
            None,
            "serves; the backup Region eu-west-1 is frozen: the key owner disabled the key"
                .to_owned()
        )
    );
    assert_eq!(
        told(two(refused, |_| {})),
        (
            Phase::Frozen,
            Some(Cause::KeyDisabled),
            "the key owner disabled the key; the backup Region eu-west-1 serves reads".to_owned()
        )
    );
    // The backup Region's KMS is silent, whatever was chosen.
    let (phase, cause, message, all) = two(each, silent);
    assert_eq!((phase, cause), (Phase::Ready, None));
    assert_eq!(message, "serves; the backup Region eu-west-1 is frozen: KMS does not answer");
    assert_eq!(status_of(&all, "SecondKeyUsable").0, "Unknown", "silence is no refusal");
    let dead = |s: &mut ClusterStatus| s.lease = lease(LeaseWord::Dead, None);
    let (phase, _, message, _) = two(each, dead);
    assert_eq!(phase, Phase::Ready);
    assert!(message.ends_with("eu-west-1 is dead: the key is gone for good"), "{message}");
    let young = |s: &mut ClusterStatus| s.lease = lease(LeaseWord::None, None);
    assert!(two(|_| {}, young).2.ends_with("the backup Region eu-west-1 is not open yet"));
}

#[test]
fn a_backup_node_that_is_silent_is_said_and_the_primary_stays_ready() {
    let c = bound_twice("a");
    let (here, there) = (report(vec![serving(&c)], 5_000), far_report(vec![serving(&c)], 1_000));
    for (backup_report, reason) in [(Some(&there), "Silent"), (None, "NeverReported")] {
        let judged = judge(Evidence {
            cluster: &c,
            role_fault: None,
            report: Some(&here),
            backup_report,
            now: at(5_500),
        });
        assert_eq!((judged.phase, judged.cause), (Phase::Ready, None));
        assert_eq!(
            judged.message,
            "serves; the backup Region eu-west-1 is silent: its node does not report; what it does is not known"
        );
        assert_eq!(status_of(&judged.conditions, "BackupReporting"), ("False", reason));
        assert_eq!(status_of(&judged.conditions, "BackupLeaseLive"), ("Unknown", "NoReport"));
    }
}

#[test]
fn replication_that_is_behind_says_how_far() {
    let behind = |pending| {
        move |s: &mut ClusterStatus| {
            s.replication = Some(ReplicationStatus {
                pending,
                oldest_ms: (pending > 0).then_some(1_000),
                confirmed_ms: None,
                message: (pending > 0).then(|| "eu-west-1 does not answer".to_owned()),
            });
        }
    };
    let all = two(behind(3), |_| {}).3;
    assert_eq!(status_of(&all, "Replicated"), ("False", "Behind"));
    let told = all.iter().find(|c| c.kind == "Replicated").expect("it");
    assert_eq!(
        told.message,
        "3 changes wait, the oldest since 1970-01-01T00:00:01Z; eu-west-1 does not answer"
    );
    assert_eq!(status_of(&two(behind(0), |_| {}).3, "Replicated"), ("True", "CaughtUp"));
}

#[test]
fn a_bucket_frozen_alone_is_said_though_the_cluster_serves() {
    let c = bound("a");
    let judged = |change: &dyn Fn(&mut ClusterStatus)| {
        let mut status = serving(&c);
        change(&mut status);
        let report = report(vec![status], 1_000);
        let evidence = Evidence {
            cluster: &c,
            role_fault: None,
            report: Some(&report),
            backup_report: None,
            now: at(1_001),
        };
        let j = judge(evidence);
        (j.phase, j.message, status_of(&j.conditions, "BucketsServing").1.to_owned())
    };
    let frozen = |s: &mut ClusterStatus| {
        (s.buckets[0].state, s.buckets[0].cause) = (BucketWord::Frozen, Some(Cause::ContextDenied));
    };
    let (phase, message, reason) = judged(&frozen);
    assert_eq!((phase, reason.as_str()), (Phase::Ready, "context-denied"));
    assert_eq!(
        message,
        "serves; the bucket documents is frozen: the encryption context is refused by a grant or a condition"
    );
    assert_eq!(judged(&|s| s.buckets.clear()).2, "opening");
    assert_eq!(judged(&|_| {}).2, "serving");
}
