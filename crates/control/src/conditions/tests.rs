//! Each phase, and what may never be shown.

use super::*;
use crate::testing::{bound, cluster, report, serving};
use keystead_types::{LeaseStatus, WorkloadStatus};
use std::time::Duration;

fn at(ms: u64) -> Boot {
    Boot::since_boot(Duration::from_millis(ms))
}

fn seen_as(c: &Cluster, change: impl FnOnce(&mut ClusterStatus)) -> (Phase, Option<Cause>) {
    let mut status = serving(c);
    change(&mut status);
    let report = report(vec![status], 1_000);
    let evidence = Evidence { cluster: c, role_fault: None, report: Some(&report), now: at(1_500) };
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
        let evidence = Evidence { cluster: c, role_fault, report: None, now: at(9_000) };
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
        let judged =
            judge(Evidence { cluster: &c, role_fault: None, report: Some(&report), now: at(now) });
        (judged.phase, judged.cause, judged.seen.is_some())
    };
    assert_eq!(phase(3_999), (Phase::Ready, None, true));
    assert_eq!(phase(4_000), (Phase::Unknown, Some(Cause::NodeSilent), false));
    let never = judge(Evidence { cluster: &c, role_fault: None, report: None, now: at(1) });
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
    let judged =
        judge(Evidence { cluster: &c, role_fault: None, report: Some(&report), now: at(1_001) });
    assert_eq!(judged.since_ms, None);
    let lease = judged.conditions.iter().find(|c| c.kind == "LeaseLive").expect("the condition");
    assert_eq!((lease.status.as_str(), &lease.since), ("False", &None));
}
