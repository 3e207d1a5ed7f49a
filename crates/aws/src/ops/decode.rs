//! Reading requests. Shape is checked here; that a key exists, its state and permissions are not.

use super::requests::{
    AliasAndTarget, CreateGrant, CreateKey, Decrypt, DeleteAlias, Encrypt, GenerateDataKey,
    GenerateRandom, KeyOnly, KmsRequest, ListAliases, ListGrants, ListKeys, ListOfKey,
    PutKeyPolicy, ReEncrypt, RetireGrant, RevokeGrant, ScheduleKeyDeletion, TagResource,
    UntagResource, UpdateKeyDescription,
};
use super::tags::{check_tags, read_tags};
use super::{
    EnableKeyRotation, GRANT_OPERATIONS, ListKeyRotations, ListRetirableGrants, Operation,
    ReplicateKey, UpdatePrimaryRegion,
};
use crate::json::{Fields, fault};
use crate::policy::GrantConstraints;
use crate::{AwsError, error};

/// Characters that AWS takes in a policy: tab, line feed, carriage return, U+0020 to U+00FF.
const POLICY_PATTERN: &str = r"[\u0009\u000A\u000D\u0020-\u00FF]+";
/// The longest encryption context, in bytes, as AWS has it.
const MOST_CONTEXT: usize = 8192;
const ALGORITHMS: &[&str] =
    &["SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"];

impl KmsRequest {
    /// Decodes the body of an operation.
    pub fn decode(op: Operation, body: &[u8]) -> Result<Self, AwsError> {
        let mut f = Fields::read(body)?;
        let request = match op {
            Operation::CreateKey => Self::CreateKey(CreateKey::read(&mut f)?),
            Operation::DescribeKey => Self::DescribeKey(KeyOnly::read(&mut f)?),
            Operation::ListKeys => Self::ListKeys(ListKeys {
                limit: limit(&mut f, 1000, 100)?,
                marker: marker(&mut f)?,
            }),
            Operation::Encrypt => Self::Encrypt(Encrypt::read(&mut f)?),
            Operation::Decrypt => Self::Decrypt(Decrypt::read(&mut f)?),
            Operation::ReEncrypt => Self::ReEncrypt(ReEncrypt::read(&mut f)?),
            Operation::GenerateDataKey => Self::GenerateDataKey(GenerateDataKey::read(&mut f)?),
            Operation::GenerateDataKeyWithoutPlaintext => {
                Self::GenerateDataKeyWithoutPlaintext(GenerateDataKey::read(&mut f)?)
            }
            Operation::GenerateRandom => Self::GenerateRandom(GenerateRandom::read(&mut f)?),
            Operation::EnableKey => Self::EnableKey(KeyOnly::read(&mut f)?),
            Operation::DisableKey => Self::DisableKey(KeyOnly::read(&mut f)?),
            Operation::ScheduleKeyDeletion => {
                Self::ScheduleKeyDeletion(ScheduleKeyDeletion::read(&mut f)?)
            }
            Operation::CancelKeyDeletion => Self::CancelKeyDeletion(KeyOnly::read(&mut f)?),
            Operation::UpdateKeyDescription => Self::UpdateKeyDescription(UpdateKeyDescription {
                key_id: f.required("KeyId", 1, 2048)?,
                description: f.required("Description", 0, 8192)?,
            }),
            Operation::GetKeyPolicy => Self::GetKeyPolicy(KeyOnly::read(&mut f)?),
            Operation::PutKeyPolicy => Self::PutKeyPolicy(PutKeyPolicy::read(&mut f)?),
            Operation::ListKeyPolicies => {
                Self::ListKeyPolicies(ListOfKey::read(&mut f, 1000, 100)?)
            }
            Operation::CreateAlias => Self::CreateAlias(AliasAndTarget::read(&mut f)?),
            Operation::UpdateAlias => Self::UpdateAlias(AliasAndTarget::read(&mut f)?),
            Operation::DeleteAlias => {
                Self::DeleteAlias(DeleteAlias { alias_name: f.required("AliasName", 1, 256)? })
            }
            Operation::TagResource => Self::TagResource(TagResource::read(&mut f)?),
            Operation::UntagResource => Self::UntagResource(UntagResource::read(&mut f)?),
            Operation::ListResourceTags => Self::ListResourceTags(ListOfKey::read(&mut f, 50, 50)?),
            Operation::ListAliases => Self::ListAliases(ListAliases {
                key_id: f.text("KeyId", 1, 2048)?,
                limit: limit(&mut f, 100, 50)?,
                marker: marker(&mut f)?,
            }),
            Operation::CreateGrant => Self::CreateGrant(CreateGrant::read(&mut f)?),
            Operation::ListGrants => Self::ListGrants(ListGrants {
                key_id: f.required("KeyId", 1, 2048)?,
                grant_id: f.text("GrantId", 1, 128)?,
                grantee_principal: f.text("GranteePrincipal", 1, 256)?,
                limit: limit(&mut f, 100, 50)?,
                marker: marker(&mut f)?,
            }),
            Operation::RevokeGrant => Self::RevokeGrant(RevokeGrant {
                key_id: f.required("KeyId", 1, 2048)?,
                grant_id: f.required("GrantId", 1, 128)?,
                dry_run: f.flag("DryRun")?,
            }),
            Operation::RetireGrant => Self::RetireGrant(RetireGrant::read(&mut f)?),
            Operation::ListRetirableGrants => {
                Self::ListRetirableGrants(ListRetirableGrants::read(&mut f)?)
            }
            Operation::EnableKeyRotation => {
                Self::EnableKeyRotation(EnableKeyRotation::read(&mut f)?)
            }
            Operation::DisableKeyRotation => Self::DisableKeyRotation(KeyOnly::read(&mut f)?),
            Operation::GetKeyRotationStatus => Self::GetKeyRotationStatus(KeyOnly::read(&mut f)?),
            Operation::RotateKeyOnDemand => Self::RotateKeyOnDemand(KeyOnly::read(&mut f)?),
            Operation::ListKeyRotations => Self::ListKeyRotations(ListKeyRotations::read(&mut f)?),
            Operation::ReplicateKey => Self::ReplicateKey(ReplicateKey::read(&mut f)?),
            Operation::UpdatePrimaryRegion => {
                Self::UpdatePrimaryRegion(UpdatePrimaryRegion::read(&mut f)?)
            }
        };
        f.finish()?;
        request.check()?;
        Ok(request)
    }

    /// What AWS checks once every member by itself is well-formed.
    fn check(&self) -> Result<(), AwsError> {
        match self {
            Self::GenerateDataKey(r) | Self::GenerateDataKeyWithoutPlaintext(r)
                if r.number_of_bytes == 0 =>
            {
                Err(error::validation("Please specify either number of bytes or key spec."))
            }
            Self::CreateAlias(r) | Self::UpdateAlias(r) => check_alias(&r.alias_name),
            Self::DeleteAlias(r) => check_alias(&r.alias_name),
            Self::CreateKey(r) => r.check(),
            Self::ReplicateKey(r) => r.check(),
            Self::TagResource(r) => check_tags(&r.tags),
            Self::GenerateRandom(r) if r.number_of_bytes == 0 => {
                Err(error::validation("NumberOfBytes is required."))
            }
            Self::PutKeyPolicy(r) if r.policy_name == "AWS_RAM" => {
                Err(error::validation("The AWS_RAM policy can only be managed by the RAM service"))
            }
            Self::PutKeyPolicy(r) if r.policy_name != "default" => Err(error::policy_not_found()),
            Self::RetireGrant(r)
                if r.grant_token.is_none() && (r.key_id.is_none() || r.grant_id.is_none()) =>
            {
                Err(error::validation(
                    "Either a grant token, or a key ARN and a grant ID, must be specified.",
                ))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn limit(f: &mut Fields, max: i64, default: usize) -> Result<usize, AwsError> {
    let given = f.number("Limit", 1, max)?;
    Ok(given.and_then(|n| usize::try_from(n).ok()).unwrap_or(default))
}

pub(super) fn marker(f: &mut Fields) -> Result<Option<String>, AwsError> {
    f.text("Marker", 1, 1024)
}

fn tokens(f: &mut Fields) -> Result<Vec<String>, AwsError> {
    Ok(f.texts("GrantTokens", 10)?.unwrap_or_default())
}

pub(super) fn policy(f: &mut Fields, text: Option<String>) -> Option<String> {
    let fits = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}');
    if let Some(given) = text.as_deref().filter(|t| !t.chars().all(fits)) {
        let rule = format!("Member must satisfy regular expression pattern: {POLICY_PATTERN}");
        f.note(fault(given, "policy", &rule));
    }
    text
}

impl CreateKey {
    fn read(f: &mut Fields) -> Result<Self, AwsError> {
        f.unserved("CustomKeyStoreId")?;
        f.unserved("XksKeyId")?;
        let text = f.text("Policy", 1, 131_072)?;
        let policy = policy(f, text);
        let spec = f.word(
            "KeySpec",
            &[
                "RSA_2048",
                "RSA_3072",
                "RSA_4096",
                "ECC_NIST_P256",
                "ECC_NIST_P384",
                "ECC_NIST_P521",
                "ECC_SECG_P256K1",
                "SYMMETRIC_DEFAULT",
                "HMAC_224",
                "HMAC_256",
                "HMAC_384",
                "HMAC_512",
                "SM2",
                "ML_DSA_44",
                "ML_DSA_65",
                "ML_DSA_87",
                "ECC_NIST_EDWARDS25519",
            ],
        )?;
        let usage = f.word(
            "KeyUsage",
            &["SIGN_VERIFY", "ENCRYPT_DECRYPT", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"],
        )?;
        let origin =
            f.word("Origin", &["AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"])?;
        let tags = read_tags(f)?;
        Ok(Self {
            policy,
            description: f.text("Description", 0, 8192)?.unwrap_or_default(),
            tags,
            key_spec: spec.unwrap_or_else(|| "SYMMETRIC_DEFAULT".to_owned()),
            key_usage: usage,
            origin: origin.unwrap_or_else(|| "AWS_KMS".to_owned()),
            multi_region: f.flag("MultiRegion")?,
            bypass_lockout_check: f.flag("BypassPolicyLockoutSafetyCheck")?,
        })
    }

    fn check(&self) -> Result<(), AwsError> {
        if self.key_usage.is_none() && self.key_spec != "SYMMETRIC_DEFAULT" {
            return Err(error::key_usage_missing());
        }
        check_tags(&self.tags)
    }
}

impl GenerateRandom {
    fn read(f: &mut Fields) -> Result<Self, AwsError> {
        no_recipient(f)?;
        if f.text("CustomKeyStoreId", 1, 64)?.is_some() {
            return Err(error::not_served("CustomKeyStoreId"));
        }
        // Absent is told once the rest of the shape is right.
        let number = f.number("NumberOfBytes", 1, 1024)?.unwrap_or(0);
        Ok(Self { number_of_bytes: usize::try_from(number).unwrap_or(0) })
    }
}

impl ListOfKey {
    fn read(f: &mut Fields, most: i64, default: usize) -> Result<Self, AwsError> {
        Ok(Self {
            key_id: f.required("KeyId", 1, 2048)?,
            limit: limit(f, most, default)?,
            marker: marker(f)?,
        })
    }
}

impl KeyOnly {
    fn read(f: &mut Fields) -> Result<Self, AwsError> {
        Ok(Self {
            key_id: f.required("KeyId", 1, 2048)?,
            grant_tokens: tokens(f)?,
            policy_name: f.text("PolicyName", 1, 128)?.unwrap_or_else(|| "default".to_owned()),
        })
    }
}

impl Encrypt {
    fn read(f: &mut Fields) -> Result<Self, AwsError> {
        Ok(Self {
            key_id: f.required("KeyId", 1, 2048)?,
            plaintext: f.blob("Plaintext", 1, 4096)?,
            context: f.pairs("EncryptionContext", MOST_CONTEXT)?,
            grant_tokens: tokens(f)?,
            algorithm: f.word("EncryptionAlgorithm", ALGORITHMS)?,
            dry_run: f.flag("DryRun")?,
        })
    }
}

/// Who asks that the plaintext be sealed for his enclave must not get it in clear.
fn no_recipient(f: &mut Fields) -> Result<(), AwsError> {
    f.unserved("Recipient")
}

impl Decrypt {
    fn read(f: &mut Fields) -> Result<Self, AwsError> {
        no_recipient(f)?;
        Ok(Self {
            ciphertext: f.blob("CiphertextBlob", 1, 6144)?,
            key_id: f.text("KeyId", 1, 2048)?,
            context: f.pairs("EncryptionContext", MOST_CONTEXT)?,
            grant_tokens: tokens(f)?,
            algorithm: f.word("EncryptionAlgorithm", ALGORITHMS)?,
            dry_run: f.flag("DryRun")?,
        })
    }
}

impl ReEncrypt {
    fn read(f: &mut Fields) -> Result<Self, AwsError> {
        Ok(Self {
            source_algorithm: f.word("SourceEncryptionAlgorithm", ALGORITHMS)?,
            destination_algorithm: f.word("DestinationEncryptionAlgorithm", ALGORITHMS)?,
            ciphertext: f.blob("CiphertextBlob", 1, 6144)?,
            source_key_id: f.text("SourceKeyId", 1, 2048)?,
            destination_key_id: f.required("DestinationKeyId", 1, 2048)?,
            source_context: f.pairs("SourceEncryptionContext", MOST_CONTEXT)?,
            destination_context: f.pairs("DestinationEncryptionContext", MOST_CONTEXT)?,
            grant_tokens: tokens(f)?,
            dry_run: f.flag("DryRun")?,
        })
    }
}

impl GenerateDataKey {
    fn read(f: &mut Fields) -> Result<Self, AwsError> {
        no_recipient(f)?;
        let key_id = f.required("KeyId", 1, 2048)?;
        let key_spec = f.word("KeySpec", &["AES_256", "AES_128"])?;
        let number = f.number("NumberOfBytes", 1, 1024)?;
        let number_of_bytes = match (key_spec.as_deref(), number) {
            (Some("AES_256"), None) => 32,
            (Some("AES_128"), None) => 16,
            (None, Some(n)) => usize::try_from(n).unwrap_or(0),
            // Both or neither; told once the rest of the shape is right.
            _ => 0,
        };
        Ok(Self {
            key_id,
            number_of_bytes,
            key_spec,
            context: f.pairs("EncryptionContext", MOST_CONTEXT)?,
            grant_tokens: tokens(f)?,
            dry_run: f.flag("DryRun")?,
        })
    }
}

impl ScheduleKeyDeletion {
    fn read(f: &mut Fields) -> Result<Self, AwsError> {
        let key_id = f.required("KeyId", 1, 2048)?;
        // The model takes 1 to 365, the service 7 to 30.
        let days = f.number("PendingWindowInDays", 7, 30)?.unwrap_or(30);
        Ok(Self { key_id, pending_window_in_days: u16::try_from(days).unwrap_or(30) })
    }
}

impl PutKeyPolicy {
    fn read(f: &mut Fields) -> Result<Self, AwsError> {
        let key_id = f.required("KeyId", 1, 2048)?;
        let policy_name = f.text("PolicyName", 1, 128)?.unwrap_or_else(|| "default".to_owned());
        let text = f.required("Policy", 1, 131_072)?;
        let policy = policy(f, Some(text)).unwrap_or_default();
        let bypass_lockout_check = f.flag("BypassPolicyLockoutSafetyCheck")?;
        Ok(Self { key_id, policy_name, policy, bypass_lockout_check })
    }
}

impl AliasAndTarget {
    fn read(f: &mut Fields) -> Result<Self, AwsError> {
        Ok(Self {
            alias_name: f.required("AliasName", 1, 256)?,
            target_key_id: f.required("TargetKeyId", 1, 2048)?,
        })
    }
}

/// The name of an alias that is made, moved or deleted.
fn check_alias(name: &str) -> Result<(), AwsError> {
    if !name.starts_with("alias/") {
        return Err(error::alias_prefix());
    }
    if name.starts_with("alias/aws/") {
        return Err(error::alias_reserved());
    }
    if !super::key_ref::is_alias(name) {
        let rule = "Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$";
        return Err(crate::json::validation_error(&[fault(name, "aliasName", rule)]));
    }
    Ok(())
}

impl CreateGrant {
    fn read(f: &mut Fields) -> Result<Self, AwsError> {
        let key_id = f.required("KeyId", 1, 2048)?;
        let grantee_principal = f.required("GranteePrincipal", 1, 256)?;
        let operations = f.texts("Operations", GRANT_OPERATIONS.len())?;
        let null = operations.is_none();
        let operations = operations.unwrap_or_default();
        if null {
            let rule = "failed to satisfy constraint: Member must not be null";
            f.note(format!("Value null at 'operations' {rule}"));
        }
        if operations.iter().any(|o| !GRANT_OPERATIONS.contains(&o.as_str())) {
            f.note(fault(
                &format!("[{}]", operations.join(", ")),
                "operations",
                &format!(
                    "Member must satisfy constraint: [Member must satisfy enum value set: [{}]]",
                    GRANT_OPERATIONS.join(", ")
                ),
            ));
        }
        let mut constraints = GrantConstraints::default();
        if let Some(mut inner) = f.inner("Constraints")? {
            constraints.encryption_context_equals = inner.maybe_pairs("EncryptionContextEquals")?;
            constraints.encryption_context_subset = inner.maybe_pairs("EncryptionContextSubset")?;
            inner.unserved("SourceArn")?;
            f.absorb(inner);
        }
        f.unserved("GranteeServicePrincipal")?;
        f.unserved("RetiringServicePrincipal")?;
        check_constraints(f, &constraints);
        Ok(Self {
            key_id,
            grantee_principal,
            retiring_principal: f.text("RetiringPrincipal", 1, 256)?,
            operations,
            constraints,
            name: f.text("Name", 1, 256)?,
            grant_tokens: tokens(f)?,
            dry_run: f.flag("DryRun")?,
        })
    }
}

/// At most eight pairs with values of at most 384 characters.
fn check_constraints(f: &mut Fields, constraints: &GrantConstraints) {
    for (_, pairs) in constraints.each() {
        let long = pairs.iter().find(|(_, v)| v.chars().count() > 384);
        let what = if pairs.len() > 8 {
            "Member must have length less than or equal to 8".to_owned()
        } else if long.is_some() {
            "Map value must satisfy constraint: [Member must have length less than or equal to 384]"
                .to_owned()
        } else {
            continue;
        };
        f.note(format!("Value at 'constraints' failed to satisfy constraint: {what}"));
    }
}

impl RetireGrant {
    fn read(f: &mut Fields) -> Result<Self, AwsError> {
        Ok(Self {
            grant_token: f.text("GrantToken", 1, 8192)?,
            key_id: f.text("KeyId", 1, 2048)?,
            grant_id: f.text("GrantId", 1, 128)?,
            dry_run: f.flag("DryRun")?,
        })
    }
}
