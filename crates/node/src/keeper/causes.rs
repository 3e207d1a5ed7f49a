//! Why a proof was denied (DESIGN 6, "Cause of a denied proof").

use super::Subject;
use super::proofs::{Denied, Whom};
use crate::kms::Kms;
use crate::kms::answer::Failure;
use crate::kms::tenant::Purpose;
use keystead_types::Cause;

/// What is known of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    pub(crate) cause: Cause,
    pub(crate) detail: String,
    pub(crate) deletion_date_ms: Option<i64>,
}

/// What the grant of a denied store turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GrantFound {
    Present,
    Absent,
    Unknown,
}

/// Judges a denied store whose cluster's canary is good. Pure.
pub(crate) fn of_store(grant: GrantFound) -> Cause {
    match grant {
        GrantFound::Absent => Cause::GrantRevoked,
        GrantFound::Present => Cause::ContextDenied,
        // Only ListGrants tells the two apart; without it, what is sure is that policy is in the way.
        GrantFound::Unknown => Cause::PolicyDenies,
    }
}

/// Asks KMS what more is needed to name the cause. Called after the fence, never before it.
pub(super) async fn diagnose(kms: &Kms, subject: &Subject, denied: &Denied) -> Diagnosis {
    let mut found = Diagnosis {
        cause: denied.failure.cause(),
        detail: denied.failure.detail().to_owned(),
        deletion_date_ms: None,
    };
    match (found.cause, &denied.whom) {
        (Cause::KeyPendingDeletion, _) => {
            let described = kms.describe(&subject.role, Purpose::Diagnose, &subject.key).await;
            found.deletion_date_ms = described.ok().and_then(|d| d.deletion_date_ms);
        }
        (Cause::PolicyDenies, Whom::Canary) => {
            // A kept session outlives its role: only a new one tells whether the role is there.
            kms.forget(&subject.role);
            if let Err(failure @ Failure::Refused { cause: Cause::RoleNotAssumable, .. }) =
                kms.describe(&subject.role, Purpose::Diagnose, &subject.key).await
            {
                found.cause = Cause::RoleNotAssumable;
                found.detail = failure.detail().to_owned();
            }
        }
        (Cause::PolicyDenies, Whom::Store(volume)) => {
            let grant = match subject.stores.iter().find(|s| s.volume == *volume) {
                Some(store) => {
                    match kms.grant_present(&subject.role, &subject.key, &store.grant_id).await {
                        Ok(true) => GrantFound::Present,
                        Ok(false) => GrantFound::Absent,
                        Err(_) => GrantFound::Unknown,
                    }
                }
                None => GrantFound::Unknown,
            };
            found.cause = of_store(grant);
            found.detail = format!("{volume}: {}", found.detail);
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_store_is_told_by_its_grant() {
        assert_eq!(of_store(GrantFound::Absent), Cause::GrantRevoked);
        assert_eq!(of_store(GrantFound::Present), Cause::ContextDenied);
        assert_eq!(of_store(GrantFound::Unknown), Cause::PolicyDenies);
    }
}
