//! Preflight: tries a candidate key as the tenant role, before it is associated.
//!
//! Every check is reported, also after one that failed, so that the owner repairs all in one go.
//! No call here would change the key if it were allowed; the one grant is taken back at once.

use crate::config::NodeConfig;
use crate::kms::answer::Failure;
use crate::kms::tenant::Purpose;
use crate::kms::{Described, Kms, pairs};
use crate::status::Board;
use crate::time::SystemClock;
use aws_sdk_kms::operation::RequestId;
use aws_sdk_kms::primitives::Blob;
use keystead_types::{
    Assignment, Cause, Clock, EncryptionContext, PreflightCheck, PreflightReport, PreflightRequest,
};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Tries each preflight of the assignment once.
pub(crate) async fn run(
    config: Arc<NodeConfig>,
    kms: Arc<Kms>,
    board: Arc<Board>,
    mut assignment: watch::Receiver<Arc<Assignment>>,
) {
    loop {
        let current = assignment.borrow_and_update().clone();
        for request in &current.preflights {
            if !board.has_preflight(&request.preflight) {
                let checks = check(&config, &kms, request).await;
                let report = PreflightReport {
                    preflight: request.preflight.clone(),
                    key: request.key.clone(),
                    checks,
                    finished_ms: SystemClock.wall_ms(),
                };
                tracing::info!(key = %report.key, passed = report.passed(), "preflight");
                board.preflight(&request.preflight, report);
            }
        }
        if assignment.changed().await.is_err() {
            return;
        }
    }
}

fn good(check: &str, request_id: Option<String>) -> PreflightCheck {
    PreflightCheck { check: check.to_owned(), ok: true, cause: None, detail: None, request_id }
}

fn bad(check: &str, cause: Cause, detail: String) -> PreflightCheck {
    PreflightCheck {
        check: check.to_owned(),
        ok: false,
        cause: Some(cause),
        detail: Some(detail),
        request_id: None,
    }
}

fn outcome(check: &str, result: Result<Option<String>, Failure>) -> PreflightCheck {
    match result {
        Ok(request_id) => good(check, request_id),
        Err(failure) => PreflightCheck {
            request_id: failure.request_id(),
            ..bad(check, failure.cause(), failure.detail().to_owned())
        },
    }
}

/// The properties that need no call.
fn place(config: &NodeConfig, request: &PreflightRequest) -> Vec<PreflightCheck> {
    let key = &request.key;
    let region = if *key.region() == config.region {
        good("region", None)
    } else {
        let told = format!("the key lies in {}, the cluster in {}", key.region(), config.region);
        bad("region", Cause::WrongRegion, told)
    };
    let account = if key.account() == request.tenant_role.account() {
        let told = format!(
            "the key lies in the provider's own account {}; the provider's administrators could use and change it",
            key.account()
        );
        bad("account", Cause::PolicyDenies, told)
    } else {
        good("account", None)
    };
    vec![region, account]
}

/// What DescribeKey answers, as checks.
fn properties(found: &Described) -> Vec<PreflightCheck> {
    let id = found.request_id.clone();
    let spec = if found.symmetric && found.encrypts {
        good("key-spec", id.clone())
    } else {
        let told = "the key is not a symmetric key (SYMMETRIC_DEFAULT) for ENCRYPT_DECRYPT";
        bad("key-spec", Cause::WrongSpecOrUsage, told.to_owned())
    };
    let state = if found.enabled {
        good("key-state", id)
    } else {
        let cause = match found.state.as_str() {
            "PendingDeletion" | "PendingReplicaDeletion" => Cause::KeyPendingDeletion,
            _ => Cause::KeyDisabled,
        };
        bad("key-state", cause, format!("the key's state is {}", found.state))
    };
    vec![spec, state]
}

async fn check(config: &NodeConfig, kms: &Kms, request: &PreflightRequest) -> Vec<PreflightCheck> {
    let (role, key) = (&request.tenant_role, &request.key);
    let mut checks = place(config, request);
    // A session from before the owner's last edit would do as well; a fresh one proves the role.
    kms.forget(role);
    let described = kms.describe(role, Purpose::Preflight, key).await;
    if let Err(failure) = &described
        && failure.cause() == Cause::RoleNotAssumable
    {
        checks.push(outcome("role", Err(failure.clone())));
        return checks;
    }
    checks.push(good("role", None));
    checks.push(outcome(
        "kms:DescribeKey",
        described.as_ref().map(|d| d.request_id.clone()).map_err(Clone::clone),
    ));
    if let Ok(found) = &described {
        checks.extend(properties(found));
    }
    let context = EncryptionContext::preflight(&request.cluster, &request.preflight);
    checks.extend(crypto(kms, request, &pairs(&context)).await);
    checks.extend(grants(config, kms, request, &context).await);
    checks
}

/// The operations on data. Where one needs the ciphertext of another that failed, it is tried with
/// bytes that are none: KMS then says whether it is allowed before it says that.
async fn crypto(
    kms: &Kms,
    request: &PreflightRequest,
    context: &HashMap<String, String>,
) -> Vec<PreflightCheck> {
    let (role, key) = (&request.tenant_role, request.key.to_string());
    let mut checks = Vec::new();
    let tenant = Purpose::Preflight;

    let encrypted = kms
        .as_tenant(role, tenant, |c| {
            c.encrypt()
                .key_id(&key)
                .plaintext(Blob::new(*b"keystead preflight"))
                .set_encryption_context(Some(context.clone()))
                .send()
        })
        .await;
    let mut blob = Vec::new();
    checks.push(match encrypted {
        Ok(answer) => {
            blob = answer.ciphertext_blob().map(|b| b.as_ref().to_vec()).unwrap_or_default();
            good("kms:Encrypt", answer.request_id().map(str::to_owned))
        }
        Err(e) => outcome("kms:Encrypt", Err(e.into())),
    });

    let generated = kms
        .as_tenant(role, tenant, |c| {
            c.generate_data_key_without_plaintext()
                .key_id(&key)
                .number_of_bytes(64)
                .set_encryption_context(Some(context.clone()))
                .send()
        })
        .await;
    let without = match generated {
        Ok(answer) => {
            if blob.is_empty() {
                blob = answer.ciphertext_blob().map(|b| b.as_ref().to_vec()).unwrap_or_default();
            }
            good("kms:GenerateDataKeyWithoutPlaintext", answer.request_id().map(str::to_owned))
        }
        Err(e) => outcome("kms:GenerateDataKeyWithoutPlaintext", Err(e.into())),
    };

    let data_key = kms
        .as_tenant(role, tenant, |c| {
            // A throw-away key that protects nothing: what it answers is dropped.
            c.generate_data_key()
                .key_id(&key)
                .number_of_bytes(32)
                .set_encryption_context(Some(context.clone()))
                .send()
        })
        .await;
    let with = match data_key {
        Ok(answer) => {
            if blob.is_empty() {
                blob = answer.ciphertext_blob().map(|b| b.as_ref().to_vec()).unwrap_or_default();
            }
            good("kms:GenerateDataKey", answer.request_id().map(str::to_owned))
        }
        Err(e) => outcome("kms:GenerateDataKey", Err(e.into())),
    };

    let stand_in = blob.is_empty();
    if stand_in {
        blob = b"no ciphertext".to_vec();
    }
    let decrypted = kms
        .as_tenant(role, tenant, |c| {
            c.decrypt()
                .key_id(&key)
                .ciphertext_blob(Blob::new(blob.clone()))
                .set_encryption_context(Some(context.clone()))
                .send()
        })
        .await
        .map(|answer| answer.request_id().map(str::to_owned))
        .map_err(Failure::from);
    checks.push(outcome("kms:Decrypt", untried(decrypted, stand_in)));
    let re_encrypted = kms
        .as_tenant(role, tenant, |c| {
            c.re_encrypt()
                .source_key_id(&key)
                .destination_key_id(&key)
                .ciphertext_blob(Blob::new(blob.clone()))
                .set_source_encryption_context(Some(context.clone()))
                .set_destination_encryption_context(Some(context.clone()))
                .send()
        })
        .await
        .map(|answer| answer.request_id().map(str::to_owned))
        .map_err(Failure::from);
    checks.push(outcome("kms:ReEncrypt", untried(re_encrypted, stand_in)));
    checks.push(with);
    checks.push(without);
    checks
}

/// With stand-in bytes "not a ciphertext" tells nothing about rights: it is said as it is.
fn untried(
    result: Result<Option<String>, Failure>,
    stand_in: bool,
) -> Result<Option<String>, Failure> {
    match result {
        Err(Failure::Corrupt { request_id, .. }) if stand_in => Err(Failure::Refused {
            cause: Cause::PolicyDenies,
            detail: "not tried: no ciphertext could be made with this key".to_owned(),
            request_id,
        }),
        other => other,
    }
}

async fn grants(
    config: &NodeConfig,
    kms: &Kms,
    request: &PreflightRequest,
    context: &EncryptionContext,
) -> Vec<PreflightCheck> {
    let (role, key) = (&request.tenant_role, &request.key);
    let name = format!("{}/{}", request.preflight, config.name);
    let mut checks = Vec::new();
    let made = kms.create_grant(role, Purpose::Preflight, key, context, &name).await;
    checks.push(outcome(
        "kms:CreateGrant",
        made.as_ref().map(|g| g.request_id.clone()).map_err(Clone::clone),
    ));
    let listed = kms
        .as_tenant(role, Purpose::Preflight, |c| {
            c.list_grants().key_id(key.to_string()).limit(1).send()
        })
        .await
        .map(|answer| answer.request_id().map(str::to_owned))
        .map_err(Failure::from);
    checks.push(outcome("kms:ListGrants", listed));
    let id = match &made {
        Ok(grant) => grant.id.clone(),
        // No grant to take back: an id that no grant has shows whether the call is allowed.
        Err(_) => "0".repeat(64),
    };
    let revoked = kms
        .as_tenant(role, Purpose::Preflight, |c| {
            c.revoke_grant().key_id(key.to_string()).grant_id(&id).send()
        })
        .await;
    checks.push(match revoked {
        Ok(answer) => good("kms:RevokeGrant", answer.request_id().map(str::to_owned)),
        Err(crate::kms::CallFault::Said(said))
            if made.is_err()
                && (said.code == "NotFoundException" || said.code == "InvalidGrantIdException") =>
        {
            good("kms:RevokeGrant", said.request_id)
        }
        Err(e) => outcome("kms:RevokeGrant", Err(e.into())),
    });
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(state: &str) -> Described {
        Described {
            symmetric: true,
            encrypts: true,
            enabled: state == "Enabled",
            state: state.to_owned(),
            deletion_date_ms: None,
            material: None,
            request_id: None,
        }
    }

    #[test]
    fn properties_name_their_cause() {
        assert!(properties(&described("Enabled")).iter().all(|c| c.ok));
        let cause = |found: &Described| properties(found).iter().find_map(|c| c.cause);
        assert_eq!(cause(&described("Disabled")), Some(Cause::KeyDisabled));
        assert_eq!(cause(&described("PendingDeletion")), Some(Cause::KeyPendingDeletion));
        let rsa = Described { symmetric: false, ..described("Enabled") };
        assert_eq!(cause(&rsa), Some(Cause::WrongSpecOrUsage));
    }
}
