//! Why a cluster's data is out of reach, as one closed list. Each cause has words for what
//! happened; the command that repairs it is composed by control, which knows names and ARNs.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The exact reason of a freeze, of a failed association, or of an unknown state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The key owner disabled the key.
    KeyDisabled,
    /// The key is scheduled for deletion.
    KeyPendingDeletion,
    /// The key is gone for good.
    KeyDeleted,
    /// The key policy (or the role's own policy) no longer allows what the cluster needs.
    PolicyDenies,
    /// The grant of one volume was revoked or retired.
    GrantRevoked,
    /// The grant is there, but its constraint or a condition refuses the encryption context.
    ContextDenied,
    /// The key lies in another Region than the cluster.
    WrongRegion,
    /// The key is not a symmetric ENCRYPT_DECRYPT key.
    WrongSpecOrUsage,
    /// The node may not assume the tenant role, or the role is gone.
    RoleNotAssumable,
    /// KMS does not answer.
    KmsUnreachable,
    /// The key of the cluster's other Region refuses, and one refusal is enough.
    SecondKeyUnusable,
    /// The node does not report.
    NodeSilent,
    /// KMS answered with an older state than one it gave before.
    KeyStoreRolledBack,
    /// A wrapped key does not open under the recorded key and context.
    WrappedKeyMismatch,
}

impl Cause {
    /// Every cause, in the order of the documentation.
    pub const ALL: [Self; 14] = [
        Self::KeyDisabled,
        Self::KeyPendingDeletion,
        Self::KeyDeleted,
        Self::PolicyDenies,
        Self::GrantRevoked,
        Self::ContextDenied,
        Self::WrongRegion,
        Self::WrongSpecOrUsage,
        Self::RoleNotAssumable,
        Self::KmsUnreachable,
        Self::SecondKeyUnusable,
        Self::NodeSilent,
        Self::KeyStoreRolledBack,
        Self::WrappedKeyMismatch,
    ];

    /// The cause as it stands in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeyDisabled => "key-disabled",
            Self::KeyPendingDeletion => "key-pending-deletion",
            Self::KeyDeleted => "key-deleted",
            Self::PolicyDenies => "policy-denies",
            Self::GrantRevoked => "grant-revoked",
            Self::ContextDenied => "context-denied",
            Self::WrongRegion => "wrong-region",
            Self::WrongSpecOrUsage => "wrong-spec-or-usage",
            Self::RoleNotAssumable => "role-not-assumable",
            Self::KmsUnreachable => "kms-unreachable",
            Self::SecondKeyUnusable => "second-key-unusable",
            Self::NodeSilent => "node-silent",
            Self::KeyStoreRolledBack => "key-store-rolled-back",
            Self::WrappedKeyMismatch => "wrapped-key-mismatch",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_text_agree() {
        for cause in Cause::ALL {
            let json = serde_json::to_string(&cause).expect("a cause serializes");
            assert_eq!(json, format!("\"{cause}\""));
        }
    }
}
