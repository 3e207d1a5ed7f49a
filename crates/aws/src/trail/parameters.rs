//! What of a request the trail shows: never plaintext, ciphertext, grant tokens or secrets.

use crate::ops::{KmsRequest, Tag};
use crate::policy::GrantConstraints;
use crate::query::QueryRequest;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Builds an object; absent members stay away.
#[derive(Default)]
struct Shown(Map<String, Value>);

impl Shown {
    fn put(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }
    fn maybe(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.put(name, value),
            None => self,
        }
    }
    fn flag(self, name: &str, set: bool) -> Self {
        if set { self.put(name, true) } else { self }
    }
    fn context(self, name: &str, pairs: &BTreeMap<String, String>) -> Self {
        if pairs.is_empty() { self } else { self.put(name, json!(pairs)) }
    }
    fn done(self) -> Value {
        if self.0.is_empty() { Value::Null } else { Value::Object(self.0) }
    }
}

fn text(given: &Option<String>) -> Option<&str> {
    given.as_deref()
}

fn constraints(given: &GrantConstraints) -> Option<Value> {
    if given.is_empty() {
        return None;
    }
    let mut shown = Map::new();
    if let Some(pairs) = &given.encryption_context_equals {
        shown.insert("encryptionContextEquals".to_owned(), json!(pairs));
    }
    if let Some(pairs) = &given.encryption_context_subset {
        shown.insert("encryptionContextSubset".to_owned(), json!(pairs));
    }
    Some(Value::Object(shown))
}

fn tags(given: &[Tag]) -> Value {
    given.iter().map(|tag| json!({ "tagKey": tag.key, "tagValue": tag.value })).collect()
}

/// `requestParameters` of a KMS call.
pub fn kms_parameters(request: &KmsRequest) -> Value {
    let show = Shown::default;
    match request {
        KmsRequest::CreateKey(r) => show()
            .maybe("policy", text(&r.policy))
            .put("description", r.description.as_str())
            .put("keySpec", r.key_spec.as_str())
            .put("customerMasterKeySpec", r.key_spec.as_str())
            .put("keyUsage", r.key_usage.as_deref().unwrap_or("ENCRYPT_DECRYPT"))
            .put("origin", r.origin.as_str())
            .put("multiRegion", r.multi_region)
            .maybe("tags", (!r.tags.is_empty()).then(|| tags(&r.tags)))
            .put("bypassPolicyLockoutSafetyCheck", r.bypass_lockout_check),
        KmsRequest::DescribeKey(r)
        | KmsRequest::EnableKey(r)
        | KmsRequest::DisableKey(r)
        | KmsRequest::CancelKeyDeletion(r)
        | KmsRequest::DisableKeyRotation(r)
        | KmsRequest::GetKeyRotationStatus(r)
        | KmsRequest::RotateKeyOnDemand(r) => show().put("keyId", r.key_id.as_str()),
        KmsRequest::GetKeyPolicy(r) => {
            show().put("keyId", r.key_id.as_str()).put("policyName", r.policy_name.as_str())
        }
        KmsRequest::ListKeys(r) => show().put("limit", r.limit).maybe("marker", text(&r.marker)),
        KmsRequest::Encrypt(r) => show()
            .put("keyId", r.key_id.as_str())
            .context("encryptionContext", &r.context)
            .put("encryptionAlgorithm", algorithm(&r.algorithm))
            .flag("dryRun", r.dry_run),
        KmsRequest::Decrypt(r) => show()
            .maybe("keyId", text(&r.key_id))
            .context("encryptionContext", &r.context)
            .put("encryptionAlgorithm", algorithm(&r.algorithm))
            .flag("dryRun", r.dry_run),
        KmsRequest::ReEncrypt(r) => show()
            .maybe("sourceKeyId", text(&r.source_key_id))
            .put("destinationKeyId", r.destination_key_id.as_str())
            .context("sourceEncryptionContext", &r.source_context)
            .context("destinationEncryptionContext", &r.destination_context)
            .put("sourceEncryptionAlgorithm", algorithm(&r.source_algorithm))
            .put("destinationEncryptionAlgorithm", algorithm(&r.destination_algorithm))
            .flag("dryRun", r.dry_run),
        KmsRequest::GenerateDataKey(r) | KmsRequest::GenerateDataKeyWithoutPlaintext(r) => {
            let shown = show().put("keyId", r.key_id.as_str());
            match &r.key_spec {
                Some(spec) => shown.put("keySpec", spec.as_str()),
                None => shown.put("numberOfBytes", r.number_of_bytes),
            }
            .context("encryptionContext", &r.context)
            .flag("dryRun", r.dry_run)
        }
        KmsRequest::ScheduleKeyDeletion(r) => show()
            .put("keyId", r.key_id.as_str())
            .put("pendingWindowInDays", r.pending_window_in_days),
        KmsRequest::PutKeyPolicy(r) => show()
            .put("keyId", r.key_id.as_str())
            .put("policyName", r.policy_name.as_str())
            .put("policy", r.policy.as_str())
            .put("bypassPolicyLockoutSafetyCheck", r.bypass_lockout_check),
        // AWS shows nothing of it.
        KmsRequest::GenerateRandom(_) => show(),
        KmsRequest::UpdateKeyDescription(r) => {
            show().put("keyId", r.key_id.as_str()).put("description", r.description.as_str())
        }
        KmsRequest::ListKeyPolicies(r) | KmsRequest::ListResourceTags(r) => show()
            .put("keyId", r.key_id.as_str())
            .put("limit", r.limit)
            .maybe("marker", text(&r.marker)),
        KmsRequest::TagResource(r) => {
            show().put("keyId", r.key_id.as_str()).put("tags", tags(&r.tags))
        }
        KmsRequest::UntagResource(r) => {
            show().put("keyId", r.key_id.as_str()).put("tagKeys", json!(r.tag_keys))
        }
        KmsRequest::DeleteAlias(r) => show().put("aliasName", r.alias_name.as_str()),
        KmsRequest::CreateAlias(r) | KmsRequest::UpdateAlias(r) => show()
            .put("aliasName", r.alias_name.as_str())
            .put("targetKeyId", r.target_key_id.as_str()),
        KmsRequest::ListAliases(r) => show()
            .maybe("keyId", text(&r.key_id))
            .put("limit", r.limit)
            .maybe("marker", text(&r.marker)),
        KmsRequest::CreateGrant(r) => show()
            .put("keyId", r.key_id.as_str())
            .put("granteePrincipal", r.grantee_principal.as_str())
            .maybe("retiringPrincipal", text(&r.retiring_principal))
            .put("operations", json!(r.operations))
            .maybe("constraints", constraints(&r.constraints))
            .maybe("name", text(&r.name))
            .flag("dryRun", r.dry_run),
        KmsRequest::ListGrants(r) => show()
            .put("keyId", r.key_id.as_str())
            .maybe("grantId", text(&r.grant_id))
            .maybe("granteePrincipal", text(&r.grantee_principal))
            .put("limit", r.limit)
            .maybe("marker", text(&r.marker)),
        KmsRequest::RevokeGrant(r) => show()
            .put("keyId", r.key_id.as_str())
            .put("grantId", r.grant_id.as_str())
            .flag("dryRun", r.dry_run),
        KmsRequest::ListRetirableGrants(r) => show()
            .put("retiringPrincipal", r.retiring_principal.as_str())
            .put("limit", r.limit)
            .maybe("marker", text(&r.marker)),
        KmsRequest::EnableKeyRotation(r) => {
            show().put("keyId", r.key_id.as_str()).put("rotationPeriodInDays", r.period_days)
        }
        KmsRequest::ListKeyRotations(r) => show()
            .put("keyId", r.key_id.as_str())
            .maybe("includeKeyMaterial", r.all_material.then_some("ALL_KEY_MATERIAL"))
            .put("limit", r.limit)
            .maybe("marker", text(&r.marker)),
        KmsRequest::ReplicateKey(r) => show()
            .put("keyId", r.key_id.as_str())
            .put("replicaRegion", r.replica_region.as_str())
            .maybe("policy", text(&r.policy))
            .put("description", r.description.as_str())
            .maybe("tags", (!r.tags.is_empty()).then(|| tags(&r.tags)))
            .put("bypassPolicyLockoutSafetyCheck", r.bypass_lockout_check),
        KmsRequest::UpdatePrimaryRegion(r) => {
            show().put("keyId", r.key_id.as_str()).put("primaryRegion", r.primary_region.as_str())
        }
        // The grant's id goes into additionalEventData.
        KmsRequest::RetireGrant(_) => show(),
    }
    .done()
}

fn algorithm(sent: &Option<String>) -> &str {
    sent.as_deref().unwrap_or("SYMMETRIC_DEFAULT")
}

/// `requestParameters` of an STS or IAM call.
pub fn query_parameters(request: &QueryRequest) -> Value {
    let show = Shown::default;
    match request {
        QueryRequest::AssumeRole(r) => show()
            .put("roleArn", r.role_arn.as_str())
            .put("roleSessionName", r.role_session_name.as_str())
            .put("durationSeconds", r.duration_seconds)
            .maybe("externalId", text(&r.external_id))
            .maybe("policy", text(&r.policy)),
        QueryRequest::GetCallerIdentity => show(),
        QueryRequest::CreateRole(r) => show()
            .put("roleName", r.role_name.as_str())
            .put("path", r.path.as_str())
            .put("assumeRolePolicyDocument", r.assume_role_policy_document.as_str())
            .maybe("description", text(&r.description))
            .put("maxSessionDuration", r.max_session_duration),
        QueryRequest::GetRole { role_name } | QueryRequest::DeleteRole { role_name } => {
            show().put("roleName", role_name.as_str())
        }
        QueryRequest::PutRolePolicy(r) => show()
            .put("roleName", r.role_name.as_str())
            .put("policyName", r.policy_name.as_str())
            .put("policyDocument", r.policy_document.as_str()),
        QueryRequest::GetRolePolicy(r) | QueryRequest::DeleteRolePolicy(r) => {
            show().put("roleName", r.role_name.as_str()).put("policyName", r.policy_name.as_str())
        }
    }
    .done()
}
