//! What the store keeps, and its bytes: a version byte, then JSON.

use keystead_aws::policy::{GrantConstraints, StoredPolicy};
use keystead_types::KeyArn;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const VERSION: u8 = 1;

/// A stored value that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer Keystead.
    #[error("a record of version {0}; this build reads version {VERSION}")]
    Version(u8),
    /// Not a record.
    #[error("a damaged record: {0}")]
    Damaged(String),
}

pub(crate) fn encode(record: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, record).expect("a record serializes");
    bytes
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    match bytes.split_first() {
        Some((&VERSION, json)) => {
            serde_json::from_slice(json).map_err(|e| RecordError::Damaged(e.to_string()))
        }
        Some((other, _)) => Err(RecordError::Version(*other)),
        None => Err(RecordError::Damaged("empty".to_owned())),
    }
}

/// The states of a key that has its material.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyState {
    Enabled,
    Disabled,
    /// Falls due when the wall clock has passed `date_ms` and the server has run until
    /// `due_running_ms`: a clock that was put forward deletes nothing.
    PendingDeletion {
        date_ms: i64,
        due_running_ms: u64,
    },
}

/// Key material, sealed under the root key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Material {
    /// KeyMaterialId, 64 hexadecimal digits.
    pub(crate) id: String,
    /// Base64 of the sealed bytes.
    pub(crate) sealed: String,
}

/// What a key is made of, and so what it is for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeySpec {
    #[default]
    #[serde(rename = "SYMMETRIC_DEFAULT")]
    Symmetric,
    #[serde(rename = "HMAC_256")]
    Hmac256,
}

impl KeySpec {
    /// KeySpec on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Symmetric => "SYMMETRIC_DEFAULT",
            Self::Hmac256 => "HMAC_256",
        }
    }

    /// KeyUsage on the wire: each spec here has one.
    pub(crate) fn usage(self) -> &'static str {
        match self {
            Self::Symmetric => "ENCRYPT_DECRYPT",
            Self::Hmac256 => "GENERATE_VERIFY_MAC",
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) arn: KeyArn,
    #[serde(default)]
    pub(crate) spec: KeySpec,
    pub(crate) description: String,
    pub(crate) created_ms: i64,
    pub(crate) state: KeyState,
    pub(crate) policy: StoredPolicy,
    pub(crate) material: Material,
    pub(crate) tags: Vec<(String, String)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Alias {
    pub(crate) arn: String,
    /// With its `alias/`.
    pub(crate) name: String,
    pub(crate) target: KeyArn,
    pub(crate) created_ms: i64,
    /// When it was pointed at another key.
    #[serde(default)]
    pub(crate) updated_ms: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) id: String,
    pub(crate) key: KeyArn,
    pub(crate) name: Option<String>,
    pub(crate) created_ms: i64,
    pub(crate) grantee: String,
    pub(crate) grantee_id: Option<String>,
    pub(crate) retiring: Option<String>,
    pub(crate) retiring_id: Option<String>,
    /// The account that made it.
    pub(crate) issuing_account: String,
    pub(crate) operations: Vec<String>,
    pub(crate) constraints: GrantConstraints,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) arn: String,
    pub(crate) account: String,
    pub(crate) path: String,
    pub(crate) name: String,
    /// `AROA…`, random: a role made again under its name is another principal.
    pub(crate) id: String,
    pub(crate) created_ms: i64,
    pub(crate) trust: StoredPolicy,
    pub(crate) description: Option<String>,
    pub(crate) max_session_seconds: u32,
    pub(crate) policies: BTreeMap<String, String>,
    pub(crate) tags: Vec<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_and_garbage_are_told_apart() {
        assert_eq!(decode::<KeyState>(&encode(&KeyState::Disabled)).ok(), Some(KeyState::Disabled));
        assert!(matches!(decode::<KeyState>(&[2, b'1']), Err(RecordError::Version(2))));
        for bad in [&b""[..], b"\x01", b"\x01{", b"\x01\"Enable\""] {
            assert!(matches!(decode::<KeyState>(bad), Err(RecordError::Damaged(_))));
        }
    }
}
