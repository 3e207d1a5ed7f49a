//! The KMS operations that the server speaks: their table, their requests, key identifiers.

mod decode;
mod key_ref;
mod multi_region;
mod requests;
mod tags;
#[cfg(test)]
mod tests;

pub use key_ref::KeyRef;
pub use multi_region::{
    DEFAULT_ROTATION_DAYS, EnableKeyRotation, ListKeyRotations, ListRetirableGrants, ReplicateKey,
    UpdatePrimaryRegion,
};
pub use requests::{
    AliasAndTarget, CreateGrant, CreateKey, Decrypt, DeleteAlias, Encrypt, GenerateDataKey,
    GenerateRandom, KeyOnly, KmsRequest, ListAliases, ListGrants, ListKeys, ListOfKey,
    PutKeyPolicy, ReEncrypt, RetireGrant, RevokeGrant, ScheduleKeyDeletion, Tag, TagResource,
    UntagResource, UpdateKeyDescription,
};
pub use tags::MOST_TAGS;
pub(crate) use tags::is_reserved;

/// `X-Amz-Target` of KMS is this and the operation's name.
pub const TARGET_PREFIX: &str = "TrentService.";
/// Operations that a grant on a symmetric key may give.
pub const GRANT_OPERATIONS: &[&str] = &[
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
    "Sign",
    "Verify",
    "GetPublicKey",
    "CreateGrant",
    "RetireGrant",
    "DescribeKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateMac",
    "VerifyMac",
    "DeriveSharedSecret",
];
/// Those of [`GRANT_OPERATIONS`] that fit a symmetric encryption key.
pub const SYMMETRIC_GRANT_OPERATIONS: &[&str] = &[
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
    "CreateGrant",
    "RetireGrant",
    "DescribeKey",
];
/// Those of [`GRANT_OPERATIONS`] that fit an HMAC key.
pub const HMAC_GRANT_OPERATIONS: &[&str] =
    &["GenerateMac", "VerifyMac", "CreateGrant", "RetireGrant", "DescribeKey"];
/// Operations of KMS that this server does not do.
pub const NOT_SERVED: &[&str] = &[
    "ConnectCustomKeyStore",
    "CreateCustomKeyStore",
    "Decapsulate",
    "DeleteCustomKeyStore",
    "DeleteImportedKeyMaterial",
    "DeriveSharedSecret",
    "DescribeCustomKeyStores",
    "DisconnectCustomKeyStore",
    "Encapsulate",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateMac",
    "GetKeyLastUsage",
    "GetParametersForImport",
    "GetPublicKey",
    "ImportKeyMaterial",
    "Sign",
    "UpdateCustomKeyStore",
    "Verify",
    "VerifyMac",
];

/// One row of the operation table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpInfo {
    /// The operation.
    pub op: Operation,
    /// Its name on the wire and in the trail.
    pub name: &'static str,
    /// May be called on another account's key.
    pub cross_account: bool,
    /// `readOnly` of the trail.
    pub read_only: bool,
    /// Has no key: identity policies alone decide.
    pub iam_only: bool,
    /// Takes alias names and alias ARNs beside key ids and key ARNs.
    pub takes_alias: bool,
    /// A symmetric crypto call: has an encryption context, counts as use of the key.
    pub crypto: bool,
    /// IAM actions; ReEncrypt has one for the source and one for the destination.
    pub actions: &'static [&'static str],
}

macro_rules! operations {
    ($($name:ident $cross:literal $ro:literal $iam:literal $alias:literal $crypto:literal [$($action:literal),+],)+) => {
        /// An operation of KMS.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Operation { $($name,)+ }

        /// The operation table.
        pub const TABLE: &[OpInfo] = &[$(OpInfo {
            op: Operation::$name,
            name: stringify!($name),
            cross_account: $cross,
            read_only: $ro,
            iam_only: $iam,
            takes_alias: $alias,
            crypto: $crypto,
            actions: &[$($action),+],
        },)+];

        impl Operation {
            /// Its row.
            pub fn info(self) -> &'static OpInfo {
                &TABLE[self as usize]
            }
        }
    };
}

operations! {
    // name                          cross  ro     IAM    alias  crypto actions
    CreateKey                        false  false  true   false  false ["kms:CreateKey"],
    DescribeKey                      true   true   false  true   false ["kms:DescribeKey"],
    ListKeys                         false  true   true   false  false ["kms:ListKeys"],
    Encrypt                          true   true   false  true   true  ["kms:Encrypt"],
    Decrypt                          true   true   false  true   true  ["kms:Decrypt"],
    ReEncrypt                        true   true   false  true   true  ["kms:ReEncryptFrom", "kms:ReEncryptTo"],
    GenerateDataKey                  true   true   false  true   true  ["kms:GenerateDataKey"],
    GenerateDataKeyWithoutPlaintext  true   true   false  true   true  ["kms:GenerateDataKeyWithoutPlaintext"],
    GenerateRandom                   false  true   true   false  false ["kms:GenerateRandom"],
    EnableKey                        false  false  false  false  false ["kms:EnableKey"],
    DisableKey                       false  false  false  false  false ["kms:DisableKey"],
    ScheduleKeyDeletion              false  false  false  false  false ["kms:ScheduleKeyDeletion"],
    CancelKeyDeletion                false  false  false  false  false ["kms:CancelKeyDeletion"],
    UpdateKeyDescription             false  false  false  false  false ["kms:UpdateKeyDescription"],
    GetKeyPolicy                     false  true   false  false  false ["kms:GetKeyPolicy"],
    PutKeyPolicy                     false  false  false  false  false ["kms:PutKeyPolicy"],
    ListKeyPolicies                  false  true   false  false  false ["kms:ListKeyPolicies"],
    CreateAlias                      false  false  false  false  false ["kms:CreateAlias"],
    UpdateAlias                      false  false  false  false  false ["kms:UpdateAlias"],
    DeleteAlias                      false  false  false  false  false ["kms:DeleteAlias"],
    ListAliases                      false  true   true   false  false ["kms:ListAliases"],
    TagResource                      false  false  false  false  false ["kms:TagResource"],
    UntagResource                    false  false  false  false  false ["kms:UntagResource"],
    ListResourceTags                 false  true   false  false  false ["kms:ListResourceTags"],
    CreateGrant                      true   false  false  false  false ["kms:CreateGrant"],
    ListGrants                       true   true   false  false  false ["kms:ListGrants"],
    RevokeGrant                      true   false  false  false  false ["kms:RevokeGrant"],
    RetireGrant                      true   false  false  false  false ["kms:RetireGrant"],
    ListRetirableGrants              false  true   true   false  false ["kms:ListRetirableGrants"],
    EnableKeyRotation                false  false  false  false  false ["kms:EnableKeyRotation"],
    DisableKeyRotation               false  false  false  false  false ["kms:DisableKeyRotation"],
    GetKeyRotationStatus             true   true   false  false  false ["kms:GetKeyRotationStatus"],
    RotateKeyOnDemand                false  false  false  false  false ["kms:RotateKeyOnDemand"],
    ListKeyRotations                 false  true   false  false  false ["kms:ListKeyRotations"],
    ReplicateKey                     false  false  false  false  false ["kms:ReplicateKey"],
    UpdatePrimaryRegion              false  false  false  false  false ["kms:UpdatePrimaryRegion"],
}

impl Operation {
    /// The operation of this name.
    pub fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.op)
    }

    /// The operation of an `X-Amz-Target`.
    pub fn of_target(target: &str) -> Option<Self> {
        Self::named(target.strip_prefix(TARGET_PREFIX)?)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.info().name
    }
}
