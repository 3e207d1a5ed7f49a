//! What the store keeps, and its bytes: a version byte, then JSON.

use keystead_aws::policy::{GrantConstraints, StoredPolicy};
use keystead_types::KeyArn;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version that is written. Version 1 had no rotations and no multi-Region keys; it is read as
/// it stands, because what it lacks is what a key begins with.
const VERSION: u8 = 2;
const OLDEST: u8 = 1;

/// A stored value that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer Keystead.
    #[error("a record of version {0}; this build reads versions {OLDEST} to {VERSION}")]
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
        Some((&(OLDEST..=VERSION), json)) => {
            serde_json::from_slice(json).map_err(|e| RecordError::Damaged(e.to_string()))
        }
        Some((other, _)) => Err(RecordError::Version(*other)),
        None => Err(RecordError::Damaged("empty".to_owned())),
    }
}

/// The states of a key that has its material.
///
/// ```text
///  ReplicateKey -> Creating --scheduler--> Enabled <--EnableKey/DisableKey--> Disabled
///  UpdatePrimaryRegion: Enabled -> Updating --scheduler--> Enabled      (both keys)
///  ScheduleKeyDeletion: any but Updating -> PendingDeletion --due--> gone
///     of a primary key with replicas: -> PendingReplicaDeletion --the last replica goes--> PendingDeletion
///  CancelKeyDeletion:   PendingDeletion, PendingReplicaDeletion -> Disabled
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyState {
    Enabled,
    Disabled,
    /// A new replica, until the scheduler looks at it.
    Creating,
    /// A key that became, or ceased to be, the primary key, until the scheduler looks at it.
    Updating,
    /// Falls due when the wall clock has passed `date_ms` and the server has run until
    /// `due_running_ms`: a clock that was put forward deletes nothing.
    PendingDeletion {
        date_ms: i64,
        due_running_ms: u64,
    },
    /// A primary key whose window begins when its last replica is gone.
    PendingReplicaDeletion {
        window_days: u16,
    },
}

impl KeyState {
    /// KeyState on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
            Self::Creating => "Creating",
            Self::Updating => "Updating",
            Self::PendingDeletion { .. } => "PendingDeletion",
            Self::PendingReplicaDeletion { .. } => "PendingReplicaDeletion",
        }
    }
}

/// Key material, sealed under the root key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Material {
    /// KeyMaterialId, 64 hexadecimal digits.
    pub(crate) id: String,
    /// Base64 of the sealed bytes.
    pub(crate) sealed: String,
    /// The rotation that made it; none made a key's first material.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rotated: Option<Rotated>,
}

/// When material took over, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rotated {
    pub(crate) at_ms: i64,
    pub(crate) how: Rotation,
}

/// What makes a rotation happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rotation {
    Automatic,
    OnDemand,
}

impl Rotation {
    /// RotationType on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "AUTOMATIC",
            Self::OnDemand => "ON_DEMAND",
        }
    }
}

/// Automatic rotation that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Schedule {
    pub(crate) period_days: u16,
    /// By the scheduler's clock.
    pub(crate) next_ms: i64,
}

/// What a multi-Region key is among its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MultiRegion {
    Primary,
    Replica,
}

impl MultiRegion {
    /// MultiRegionKeyType on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "PRIMARY",
            Self::Replica => "REPLICA",
        }
    }
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
    /// Seals and opens.
    pub(crate) material: Material,
    /// What rotations left, the oldest first; only opens.
    #[serde(default)]
    pub(crate) older: Vec<Material>,
    /// Shared by a family, as the materials are.
    #[serde(default)]
    pub(crate) schedule: Option<Schedule>,
    /// Single-Region keys have none, and never will.
    #[serde(default)]
    pub(crate) multi_region: Option<MultiRegion>,
    pub(crate) tags: Vec<(String, String)>,
}

impl Key {
    /// Every material, the oldest first.
    pub(crate) fn materials(&self) -> impl Iterator<Item = &Material> + Clone {
        self.older.iter().chain([&self.material])
    }

    /// The material whose id begins so, as a blob tells it.
    pub(crate) fn material_of(&self, start: &[u8; 8]) -> Option<&Material> {
        let start = hex::encode(start);
        self.materials().find(|material| material.id.starts_with(&start))
    }
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
        assert_eq!(decode::<KeyState>(b"\x01\"Disabled\"").ok(), Some(KeyState::Disabled));
        for other in [0, 3] {
            let read = decode::<KeyState>(&[other, b'1']);
            assert!(matches!(read, Err(RecordError::Version(v)) if v == other));
        }
        for bad in [&b""[..], b"\x02", b"\x02{", b"\x01\"Enable\""] {
            assert!(matches!(decode::<KeyState>(bad), Err(RecordError::Damaged(_))));
        }
    }
}
