//! From cause to words and to the command lines that repair it, with the real names. Pure.

use crate::conditions::Judgement;
use crate::store::Cluster;
use crate::time::rfc3339;
use crate::wire::{Phase, WhyView};
use keystead_types::{Cause, KeyArn, VolumeId};

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

/// Explains a cluster.
pub(crate) fn explain(cluster: &Cluster, judged: &Judgement<'_>) -> WhyView {
    let Some(cause) = judged.cause else {
        return WhyView {
            cause: None,
            what: judged.message.clone(),
            since: judged.since_ms.and_then(rfc3339),
            who: None,
            stopped: stopped(cluster, judged),
            fix: next_step(cluster, judged.phase),
        };
    };
    WhyView {
        cause: Some(cause),
        what: what(cause, judged),
        since: judged.since_ms.and_then(rfc3339),
        who: who(cluster, cause),
        stopped: stopped(cluster, judged),
        fix: fix(cluster, judged, cause),
    }
}

fn what(cause: Cause, judged: &Judgement<'_>) -> String {
    // What KMS said ends with a full stop of its own.
    let mut text = judged.message.trim_end_matches('.').to_owned();
    let date = judged.seen.and_then(|s| s.lease.deletion_date_ms).and_then(rfc3339);
    if let (Cause::KeyPendingDeletion, Some(date)) = (cause, date) {
        text.push_str(&format!("; it will be deleted at {date}"));
    }
    if let Some(at) = judged.seen.and_then(|s| s.evict_at_ms).and_then(rfc3339) {
        text.push_str(&format!("; the workload leaves memory at {at}"));
    }
    text
}

fn stopped(cluster: &Cluster, judged: &Judgement<'_>) -> Vec<String> {
    match judged.phase {
        Phase::Frozen | Phase::Dead => cluster
            .volumes
            .iter()
            .map(|v| format!("volume {} ({}): no reads, no writes", v.id, v.disk))
            .chain([format!("workload {}: its processes are held", cluster.template)])
            .collect(),
        Phase::Unknown => vec!["the view of the cluster; the cluster itself may serve".to_owned()],
        _ => Vec::new(),
    }
}

/// What a cluster that has no fault waits for.
fn next_step(cluster: &Cluster, phase: Phase) -> Vec<String> {
    match phase {
        Phase::AwaitingKey => vec![
            format!("keystead policy render {} --customer-account ACCOUNT", cluster.name),
            format!("keystead cluster associate {} --key-arn ARN", cluster.name),
        ],
        _ => Vec::new(),
    }
}

/// The command that asks the trail who did it; the owner runs it.
fn who(cluster: &Cluster, cause: Cause) -> Option<String> {
    let event = match cause {
        Cause::KeyDisabled => "DisableKey",
        Cause::KeyPendingDeletion | Cause::KeyDeleted => "ScheduleKeyDeletion",
        Cause::PolicyDenies | Cause::ContextDenied => "PutKeyPolicy",
        Cause::GrantRevoked => "RevokeGrant",
        _ => return None,
    };
    let key = &cluster.binding.as_ref()?.key;
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

fn fix(cluster: &Cluster, judged: &Judgement<'_>, cause: Cause) -> Vec<String> {
    let name = &cluster.name;
    let Some(key) = cluster.binding.as_ref().map(|keys| &keys.key) else { return Vec::new() };
    let region = key.region();
    let aws = |command: &str| format!("aws kms {command} --region {region} --key-id {key}");
    let regrant = || {
        let volumes = refused(cluster, judged, cause);
        volumes.into_iter().map(|v| format!("keystead volume regrant {v}")).collect::<Vec<_>>()
    };
    match cause {
        Cause::KeyDisabled => vec![aws("enable-key")],
        Cause::KeyPendingDeletion => vec![aws("cancel-key-deletion"), aws("enable-key")],
        // Nothing brings a deleted key back, and no command pretends to.
        Cause::KeyDeleted => vec![aws("describe-key")],
        Cause::PolicyDenies => put_policy(name, key).to_vec(),
        Cause::GrantRevoked => regrant(),
        Cause::ContextDenied => put_policy(name, key).into_iter().chain(regrant()).collect(),
        Cause::WrongRegion | Cause::WrongSpecOrUsage => vec![format!(
            "aws kms create-key --region {} --key-spec SYMMETRIC_DEFAULT --key-usage ENCRYPT_DECRYPT --policy file://key-policy.json",
            cluster.region
        )],
        Cause::RoleNotAssumable => {
            let role = cluster.tenant_role.as_ref().map(|r| r.name()).unwrap_or_default();
            vec![format!("aws iam get-role --role-name {role}"), "keystead doctor".to_owned()]
        }
        // Composed where both keys are on record.
        Cause::SecondKeyUnusable => vec![aws("describe-key")],
        Cause::KmsUnreachable => vec![aws("describe-key"), "keystead doctor".to_owned()],
        Cause::NodeSilent => {
            vec!["keystead doctor".to_owned(), "keystead node serve --config FILE".to_owned()]
        }
        Cause::KeyStoreRolledBack => vec![
            "keystead audit verify".to_owned(),
            "rm DIR/node/REGION/sequence.json  # on the node, once the KMS's older store is accepted; then restart the node".to_owned(),
        ],
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
    use crate::testing::{bound, key, report, serving};
    use keystead_types::{Boot, LeaseStatus, LeaseWord};
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
        let judged = judge(Evidence { cluster: &c, role_fault: None, report: Some(&report), now });
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
