//! `Keystead.Watch`: one long poll per node for all of its keys, on the AWS wire.
//!
//! `X-Amz-Target: Keystead.Watch`, JSON 1.1, service `kms`, signed by the node's own user, allowed
//! by the identity action `keystead:Watch`. The answer comes at once when a change after `Since`
//! touches a watched key, else after `WaitMillis` with `Named` empty.

use serde::{Deserialize, Serialize};

/// Value of `X-Amz-Target`.
pub const TARGET: &str = "Keystead.Watch";
/// The IAM action that an identity policy must allow.
pub const ACTION: &str = "keystead:Watch";
/// Longest wait that a server grants, in milliseconds.
pub const MAX_WAIT_MILLIS: u64 = 20_000;
/// Most keys in one request.
pub const MAX_WATCHED: usize = 10_000;

/// The question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WatchRequest {
    /// The sequence of the last answer; none at the start, and then everything is named.
    pub since: Option<u64>,
    /// How long to wait for a change.
    pub wait_millis: u64,
    /// The keys.
    pub watched: Vec<Watched>,
}

/// One watched key and the role that it is used with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Watched {
    /// The key.
    pub key_arn: String,
    /// The tenant role: a change of the role names every key watched with it.
    pub role_arn: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WatchResponse {
    /// The store's durable, strictly rising sequence.
    pub sequence: u64,
    /// The store's own UUID: another store counts from another start.
    pub epoch: String,
    /// ARNs of the watched keys that a change touched.
    pub named: Vec<String>,
    /// The scheduler's clock, milliseconds since the epoch.
    pub scheduler_time_ms: i64,
    /// The trail's signed head.
    pub head: Head,
}

/// A signed head of the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Head {
    /// Sequence of the last trail line.
    pub sequence: u64,
    /// Its chain value, 64 hexadecimal digits.
    pub chain: String,
    /// Ed25519 over [`crate::trail::head_input`], base64.
    pub signature: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_pascal_case_as_written_down() {
        let request: WatchRequest = serde_json::from_str(
            r#"{"Since": null, "WaitMillis": 1000, "Watched": [{"KeyArn": "k", "RoleArn": "r"}]}"#,
        )
        .expect("the documented request");
        assert_eq!(request.since, None);
        let head = Head { sequence: 1, chain: "00".into(), signature: "AA==".into() };
        let answer = WatchResponse {
            sequence: 7,
            epoch: "e".into(),
            named: vec![],
            scheduler_time_ms: 5,
            head,
        };
        let text = serde_json::to_string(&answer).expect("it serializes");
        assert_eq!(
            text,
            r#"{"Sequence":7,"Epoch":"e","Named":[],"SchedulerTimeMs":5,"Head":{"Sequence":1,"Chain":"00","Signature":"AA=="}}"#
        );
    }
}
