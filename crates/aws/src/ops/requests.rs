//! Typed requests; `decode.rs` reads them.

use super::{
    EnableKeyRotation, ListKeyRotations, ListRetirableGrants, ReplicateKey, UpdatePrimaryRegion,
};
use crate::policy::GrantConstraints;
use std::collections::BTreeMap;

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Key, 1 to 128 characters.
    pub key: String,
    /// Value, up to 256 characters.
    pub value: String,
}

/// CreateKey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateKey {
    /// The key policy; the default one when absent.
    pub policy: Option<String>,
    /// Description; empty when absent.
    pub description: String,
    /// Tags.
    pub tags: Vec<Tag>,
    /// `SYMMETRIC_DEFAULT` when absent.
    pub key_spec: String,
    /// As sent; a symmetric encryption key needs none.
    pub key_usage: Option<String>,
    /// `AWS_KMS` when absent.
    pub origin: String,
    /// Multi-Region primary key.
    pub multi_region: bool,
    /// Skips the lockout check.
    pub bypass_lockout_check: bool,
}

/// Operations that take a key and nothing that matters here: DescribeKey, EnableKey, DisableKey,
/// CancelKeyDeletion, GetKeyPolicy, DisableKeyRotation, GetKeyRotationStatus, RotateKeyOnDemand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOnly {
    /// The key, as sent.
    pub key_id: String,
    /// Grant tokens (DescribeKey).
    pub grant_tokens: Vec<String>,
    /// `default` when absent (GetKeyPolicy).
    pub policy_name: String,
}

/// ListKeys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListKeys {
    /// Page size.
    pub limit: usize,
    /// Where to go on.
    pub marker: Option<String>,
}

/// Encrypt. Neither Debug nor Clone: it holds the caller's plaintext.
#[derive(PartialEq, Eq)]
pub struct Encrypt {
    /// The key, as sent.
    pub key_id: String,
    /// What to encrypt; a secret of the caller's.
    pub plaintext: Vec<u8>,
    /// Encryption context.
    pub context: BTreeMap<String, String>,
    /// Grant tokens.
    pub grant_tokens: Vec<String>,
    /// As sent.
    pub algorithm: Option<String>,
    /// Check only.
    pub dry_run: bool,
}

/// Decrypt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decrypt {
    /// The blob.
    pub ciphertext: Vec<u8>,
    /// The key, as sent.
    pub key_id: Option<String>,
    /// Encryption context.
    pub context: BTreeMap<String, String>,
    /// Grant tokens.
    pub grant_tokens: Vec<String>,
    /// As sent.
    pub algorithm: Option<String>,
    /// Check only.
    pub dry_run: bool,
}

/// ReEncrypt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReEncrypt {
    /// The blob.
    pub ciphertext: Vec<u8>,
    /// The blob's key, as sent.
    pub source_key_id: Option<String>,
    /// The new key, as sent.
    pub destination_key_id: String,
    /// Context of the blob.
    pub source_context: BTreeMap<String, String>,
    /// Context of the new blob.
    pub destination_context: BTreeMap<String, String>,
    /// Grant tokens.
    pub grant_tokens: Vec<String>,
    /// As sent.
    pub source_algorithm: Option<String>,
    /// As sent.
    pub destination_algorithm: Option<String>,
    /// Check only.
    pub dry_run: bool,
}

/// GenerateDataKey and GenerateDataKeyWithoutPlaintext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateDataKey {
    /// The key, as sent.
    pub key_id: String,
    /// Length of the data key.
    pub number_of_bytes: usize,
    /// As sent: `AES_256` or `AES_128`; `None` when a number was sent.
    pub key_spec: Option<String>,
    /// Encryption context.
    pub context: BTreeMap<String, String>,
    /// Grant tokens.
    pub grant_tokens: Vec<String>,
    /// Check only.
    pub dry_run: bool,
}

/// ScheduleKeyDeletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleKeyDeletion {
    /// The key, as sent.
    pub key_id: String,
    /// 7 to 30.
    pub pending_window_in_days: u16,
}

/// PutKeyPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutKeyPolicy {
    /// The key, as sent.
    pub key_id: String,
    /// `default`.
    pub policy_name: String,
    /// The document.
    pub policy: String,
    /// Skips the lockout check.
    pub bypass_lockout_check: bool,
}

/// CreateAlias and UpdateAlias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasAndTarget {
    /// With its `alias/`.
    pub alias_name: String,
    /// The key, as sent (id or ARN).
    pub target_key_id: String,
}

/// DeleteAlias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteAlias {
    /// With its `alias/`.
    pub alias_name: String,
}

/// GenerateRandom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateRandom {
    /// 1 to 1024.
    pub number_of_bytes: usize,
}

/// UpdateKeyDescription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateKeyDescription {
    /// The key, as sent.
    pub key_id: String,
    /// The new description.
    pub description: String,
}

/// ListKeyPolicies and ListResourceTags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOfKey {
    /// The key, as sent.
    pub key_id: String,
    /// Page size.
    pub limit: usize,
    /// Where to go on.
    pub marker: Option<String>,
}

/// TagResource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagResource {
    /// The key, as sent.
    pub key_id: String,
    /// New tags, and new values of tags that are there.
    pub tags: Vec<Tag>,
}

/// UntagResource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntagResource {
    /// The key, as sent.
    pub key_id: String,
    /// Keys of tags, whether there or not.
    pub tag_keys: Vec<String>,
}

/// ListAliases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListAliases {
    /// Only aliases of this key.
    pub key_id: Option<String>,
    /// Page size.
    pub limit: usize,
    /// Where to go on.
    pub marker: Option<String>,
}

/// CreateGrant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateGrant {
    /// The key, as sent.
    pub key_id: String,
    /// Grantee's ARN.
    pub grantee_principal: String,
    /// Retiring principal's ARN.
    pub retiring_principal: Option<String>,
    /// Operations, each one of [`super::GRANT_OPERATIONS`].
    pub operations: Vec<String>,
    /// Constraints.
    pub constraints: GrantConstraints,
    /// Makes retries idempotent.
    pub name: Option<String>,
    /// Grant tokens.
    pub grant_tokens: Vec<String>,
    /// Check only.
    pub dry_run: bool,
}

/// ListGrants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListGrants {
    /// The key, as sent.
    pub key_id: String,
    /// Only this grant.
    pub grant_id: Option<String>,
    /// Only grants of this grantee.
    pub grantee_principal: Option<String>,
    /// Page size.
    pub limit: usize,
    /// Where to go on.
    pub marker: Option<String>,
}

/// RevokeGrant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeGrant {
    /// The key, as sent.
    pub key_id: String,
    /// The grant.
    pub grant_id: String,
    /// Check only.
    pub dry_run: bool,
}

/// RetireGrant: a token, or key ARN and grant id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetireGrant {
    /// The token.
    pub grant_token: Option<String>,
    /// The key's ARN, as sent.
    pub key_id: Option<String>,
    /// The grant.
    pub grant_id: Option<String>,
    /// Check only.
    pub dry_run: bool,
}

/// A decoded request.
#[derive(PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KmsRequest {
    CreateKey(CreateKey),
    DescribeKey(KeyOnly),
    ListKeys(ListKeys),
    Encrypt(Encrypt),
    Decrypt(Decrypt),
    ReEncrypt(ReEncrypt),
    GenerateDataKey(GenerateDataKey),
    GenerateDataKeyWithoutPlaintext(GenerateDataKey),
    GenerateRandom(GenerateRandom),
    EnableKey(KeyOnly),
    DisableKey(KeyOnly),
    ScheduleKeyDeletion(ScheduleKeyDeletion),
    CancelKeyDeletion(KeyOnly),
    UpdateKeyDescription(UpdateKeyDescription),
    GetKeyPolicy(KeyOnly),
    PutKeyPolicy(PutKeyPolicy),
    ListKeyPolicies(ListOfKey),
    CreateAlias(AliasAndTarget),
    UpdateAlias(AliasAndTarget),
    DeleteAlias(DeleteAlias),
    ListAliases(ListAliases),
    TagResource(TagResource),
    UntagResource(UntagResource),
    ListResourceTags(ListOfKey),
    CreateGrant(CreateGrant),
    ListGrants(ListGrants),
    RevokeGrant(RevokeGrant),
    RetireGrant(RetireGrant),
    ListRetirableGrants(ListRetirableGrants),
    EnableKeyRotation(EnableKeyRotation),
    DisableKeyRotation(KeyOnly),
    GetKeyRotationStatus(KeyOnly),
    RotateKeyOnDemand(KeyOnly),
    ListKeyRotations(ListKeyRotations),
    ReplicateKey(ReplicateKey),
    UpdatePrimaryRegion(UpdatePrimaryRegion),
}
