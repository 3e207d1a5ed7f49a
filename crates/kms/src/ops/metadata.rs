//! A key as DescribeKey shows it.

use super::{conditions, seconds};
use crate::store::records::{Key, KeySpec, KeyState, MultiRegion};
use crate::store::state::State;
use keystead_types::KeyArn;
use serde_json::{Value, json};

/// The multi-Region keys that share one id and its materials.
pub(super) struct Family {
    pub(super) primary: KeyArn,
    pub(super) replicas: Vec<KeyArn>,
}

impl Family {
    /// The family of a stored key; none of a single-Region key.
    pub(super) fn of(state: &State, key: &Key) -> Option<Self> {
        key.multi_region?;
        let (primaries, replicas): (Vec<&Key>, Vec<&Key>) = state
            .related(&key.arn)
            .map(|key| &key.record)
            .partition(|key| key.multi_region == Some(MultiRegion::Primary));
        let primary = primaries.first()?.arn.clone();
        Some(Self { primary, replicas: replicas.iter().map(|key| key.arn.clone()).collect() })
    }

    fn show(&self, kind: MultiRegion) -> Value {
        let one = |arn: &KeyArn| json!({ "Arn": arn, "Region": arn.region() });
        json!({
            "MultiRegionKeyType": kind.as_str(),
            "PrimaryKey": one(&self.primary),
            "ReplicaKeys": self.replicas.iter().map(one).collect::<Vec<_>>(),
        })
    }
}

pub(super) fn metadata(key: &Key, family: Option<&Family>) -> Value {
    let state = key.state.as_str();
    let mut metadata = json!({
        "AWSAccountId": key.arn.account(),
        "KeyId": key.arn.key_id(),
        "Arn": key.arn,
        "CreationDate": seconds(key.created_ms),
        "Enabled": state == "Enabled",
        "Description": key.description,
        "KeyUsage": key.spec.usage(),
        "KeyState": state,
        "Origin": conditions::ORIGIN,
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": key.spec.as_str(),
        "KeySpec": key.spec.as_str(),
        "MultiRegion": key.multi_region.is_some(),
    });
    match key.spec {
        KeySpec::Symmetric => {
            metadata["EncryptionAlgorithms"] = json!(["SYMMETRIC_DEFAULT"]);
            metadata["CurrentKeyMaterialId"] = key.material.id.as_str().into();
        }
        KeySpec::Hmac256 => metadata["MacAlgorithms"] = json!(["HMAC_SHA_256"]),
    }
    match key.state {
        KeyState::PendingDeletion { date_ms, .. } => {
            metadata["DeletionDate"] = seconds(date_ms);
        }
        KeyState::PendingReplicaDeletion { window_days } => {
            metadata["PendingDeletionWindowInDays"] = window_days.into();
        }
        KeyState::Enabled | KeyState::Disabled | KeyState::Creating | KeyState::Updating => {}
    }
    if let (Some(kind), Some(family)) = (key.multi_region, family) {
        metadata["MultiRegionConfiguration"] = family.show(kind);
    }
    metadata
}

/// The same value with its members' names as the trail spells them.
pub(super) fn lower_camel(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| {
                let name = match name.as_str() {
                    "AWSAccountId" => "aWSAccountId".to_owned(),
                    other => {
                        let (first, rest) = other.split_at(1);
                        format!("{}{rest}", first.to_ascii_lowercase())
                    }
                };
                (name, lower_camel(value))
            });
            Value::Object(members.collect())
        }
        Value::Array(list) => list.iter().map(lower_camel).collect(),
        other => other.clone(),
    }
}
