//! The verdict over a preflight: what the node found, and for each check that failed the missing
//! statement, the patch and what to do. Pure.

use crate::policy::{SID_GRANTS, SID_USE, grants_statement, use_statement};
use crate::store::{Cluster, Preflight};
use crate::time::rfc3339;
use crate::why::put_policy;
use crate::wire::{CheckView, PreflightView};
use keystead_types::{Cause, KeyArn, PreflightCheck, PreflightReport};

/// A passed preflight opens the door to an association for so long.
pub(crate) const VALID_MS: i64 = 10 * 60 * 1000;

/// What a node must have checked; a shorter report proves nothing.
pub(crate) const NEEDED: [&str; 14] = [
    "region",
    "account",
    "role",
    "key-spec",
    "key-state",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:Decrypt",
    "kms:ReEncrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:CreateGrant",
    "kms:ListGrants",
    "kms:RevokeGrant",
];

/// True when every check that is needed was made and every check that was made holds.
pub(crate) fn passed(report: &PreflightReport) -> bool {
    let made = |name: &str| report.checks.iter().any(|c| c.check == name);
    report.passed() && NEEDED.into_iter().all(made)
}

/// True when one of these proves this key and is young enough.
pub(crate) fn opens(preflights: &[Preflight], key: &KeyArn, now_ms: i64) -> bool {
    preflights.iter().any(|p| {
        p.key == *key
            && p.report.as_ref().is_some_and(|(report, recorded_ms)| {
                let age = now_ms.saturating_sub(*recorded_ms);
                report.key == *key && passed(report) && (0..VALID_MS).contains(&age)
            })
    })
}

/// As the API shows it.
pub(crate) fn view(cluster: &Cluster, preflight: &Preflight) -> PreflightView {
    let (state, checks, finished) = match &preflight.report {
        None => ("pending", Vec::new(), None),
        Some((report, recorded_ms)) => {
            let state = if passed(report) { "passed" } else { "failed" };
            let mut checks: Vec<CheckView> =
                report.checks.iter().map(|c| check(cluster, &preflight.key, c)).collect();
            checks.extend(not_made(report));
            (state, checks, rfc3339(*recorded_ms))
        }
    };
    PreflightView {
        preflight: preflight.id.clone(),
        cluster: cluster.id.clone(),
        key_arn: preflight.key.clone(),
        state: state.to_owned(),
        checks,
        created: rfc3339(preflight.created_ms).unwrap_or_default(),
        finished,
    }
}

fn not_made(report: &PreflightReport) -> Vec<CheckView> {
    let absent = |name: &&str| report.checks.iter().all(|c| c.check != *name);
    let line = |name: &str| CheckView {
        check: name.to_owned(),
        ok: false,
        cause: None,
        detail: Some("not tried, because an earlier check failed".to_owned()),
        request_id: None,
        missing_statement: None,
        patch: None,
        fix: None,
    };
    NEEDED.into_iter().filter(absent).map(line).collect()
}

fn check(cluster: &Cluster, key: &KeyArn, found: &PreflightCheck) -> CheckView {
    let mut line = CheckView {
        check: found.check.clone(),
        ok: found.ok,
        cause: found.cause,
        detail: found.detail.clone(),
        request_id: found.request_id.clone(),
        missing_statement: None,
        patch: None,
        fix: None,
    };
    if found.ok {
        return line;
    }
    let denied = found.check.starts_with("kms:") && found.cause == Some(Cause::PolicyDenies);
    if let (true, Some(role)) = (denied, &cluster.tenant_role) {
        let (sid, patch) = match found.check.as_str() {
            "kms:CreateGrant" | "kms:ListGrants" | "kms:RevokeGrant" => {
                (SID_GRANTS, grants_statement(role))
            }
            _ => (SID_USE, use_statement(role)),
        };
        line.missing_statement = Some(sid.to_owned());
        line.patch = Some(patch);
    }
    line.fix = Some(fix(cluster, key, found));
    line
}

fn fix(cluster: &Cluster, key: &KeyArn, found: &PreflightCheck) -> String {
    let aws = |command: &str| format!("aws kms {command} --region {} --key-id {key}", key.region());
    match (found.check.as_str(), found.cause) {
        ("account", _) => {
            "use a key of the owner's own account; in the provider's nobody but the provider controls it"
                .to_owned()
        }
        (_, Some(Cause::WrongRegion)) => {
            format!("create the key in {}", cluster.tries(key))
        }
        (_, Some(Cause::WrongSpecOrUsage)) => {
            "create a key with --key-spec SYMMETRIC_DEFAULT --key-usage ENCRYPT_DECRYPT".to_owned()
        }
        (_, Some(Cause::KeyDisabled)) => aws("enable-key"),
        (_, Some(Cause::KeyPendingDeletion)) => {
            format!("{} && {}", aws("cancel-key-deletion"), aws("enable-key"))
        }
        (_, Some(Cause::KeyDeleted)) => {
            "check the ARN: KMS knows no such key in this Region and account".to_owned()
        }
        (_, Some(Cause::RoleNotAssumable)) => {
            "the provider repairs the tenant role's trust policy; the key owner need do nothing"
                .to_owned()
        }
        (_, Some(Cause::KmsUnreachable)) => "KMS did not answer; ask for a preflight again".to_owned(),
        (_, Some(Cause::PolicyDenies | Cause::ContextDenied)) => {
            put_policy(&cluster.name, key).join(" && ")
        }
        _ => "repair what KMS said, then ask for a preflight again".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bound, key};
    use keystead_types::PreflightId;

    fn good(name: &str) -> PreflightCheck {
        PreflightCheck {
            check: name.to_owned(),
            ok: true,
            cause: None,
            detail: None,
            request_id: None,
        }
    }

    fn finished(cluster: &Cluster, change: impl FnOnce(&mut Vec<PreflightCheck>)) -> Preflight {
        let id = PreflightId::from_uuid(uuid::Uuid::now_v7());
        let mut checks = NEEDED.map(good).to_vec();
        change(&mut checks);
        let report = PreflightReport { preflight: id.clone(), key: key(1), checks, finished_ms: 1 };
        Preflight {
            id,
            cluster: cluster.id.clone(),
            key: key(1),
            created_ms: 0,
            report: Some((report, 1_000)),
        }
    }

    #[test]
    fn only_a_whole_young_report_of_this_key_opens() {
        let c = bound("a");
        let whole = finished(&c, |_| {});
        assert!(opens(std::slice::from_ref(&whole), &key(1), 1_000 + VALID_MS - 1));
        assert!(!opens(std::slice::from_ref(&whole), &key(1), 1_000 + VALID_MS));
        assert!(!opens(std::slice::from_ref(&whole), &key(1), 999), "from the future");
        assert!(!opens(std::slice::from_ref(&whole), &key(2), 1_000));
        for lost in NEEDED {
            let short = finished(&c, |checks| checks.retain(|c| c.check != lost));
            assert!(!opens(&[short], &key(1), 1_000), "{lost}");
            let bad = finished(&c, |checks| {
                checks.iter_mut().filter(|c| c.check == lost).for_each(|c| c.ok = false);
            });
            assert!(!opens(&[bad], &key(1), 1_000), "{lost}");
        }
    }

    #[test]
    fn a_denied_operation_names_its_statement_and_carries_it() {
        let c = bound("a");
        for (name, sid) in [("kms:ReEncrypt", SID_USE), ("kms:RevokeGrant", SID_GRANTS)] {
            let denied = finished(&c, |checks| {
                for c in checks.iter_mut().filter(|c| c.check == name) {
                    (c.ok, c.cause) = (false, Some(Cause::PolicyDenies));
                }
            });
            let shown = view(&c, &denied);
            assert_eq!(shown.state, "failed");
            let line = shown.checks.iter().find(|c| !c.ok).expect("a failed check");
            assert_eq!(line.missing_statement.as_deref(), Some(sid));
            let patch = line.patch.as_ref().expect("a patch");
            assert_eq!(patch["Sid"], sid);
            let role = c.tenant_role.as_ref().expect("a role").to_string();
            assert_eq!(patch["Principal"]["AWS"], role);
            assert!(line.fix.as_deref().expect("a fix").contains("put-key-policy"));
        }
    }

    #[test]
    fn what_was_not_tried_is_said() {
        let c = bound("a");
        let short = finished(&c, |checks| {
            checks.truncate(3);
            (checks[2].ok, checks[2].cause) = (false, Some(Cause::RoleNotAssumable));
        });
        let shown = view(&c, &short);
        assert_eq!((shown.state.as_str(), shown.checks.len()), ("failed", NEEDED.len()));
    }
}
