//! The trail: CloudTrail-shaped records in hash-chained segments.
//!
//! The format is written down in `docs/formats/trail-segment.md`. A line is one JSON object whose
//! last members are `sequence` and `chain`; `chain` is SHA-256 over the previous chain value and
//! the line's own bytes without the chain. A segment begins with an opening line, which names the
//! chain that it goes on from, and ends with a closing line, which is signed. Verification works
//! on the bytes as they stand and never on JSON written anew.

mod parameters;
mod record;
#[cfg(test)]
mod tests;
mod verify;

pub use parameters::{kms_parameters, query_parameters};
pub use record::{CallRecord, Identity, Resource};
pub use verify::{Finding, Misfit, Verifier, VerifyReport, parse_heads, verify_segments};

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// A segment closes at this size …
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// … or at this age, in milliseconds.
pub const SEGMENT_AGE_MS: i64 = 60 * 60 * 1000;

/// `yyyy-mm-ddThh:mm:ssZ` of a moment.
pub fn iso_seconds(ms: i64) -> String {
    match jiff::Timestamp::from_second(ms.div_euclid(1000)) {
        Ok(t) => t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => "1970-01-01T00:00:00Z".to_owned(),
    }
}

/// The file name of the segment whose first line has this sequence: names sort by age.
pub fn segment_name(first_sequence: u64) -> String {
    format!("{first_sequence:020}.jsonl")
}

/// Where a chain stands after its last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainState {
    /// Sequence of the last line; 0 before the first.
    pub sequence: u64,
    /// Its chain value; zeros before the first.
    pub chain: [u8; 32],
}

impl ChainState {
    /// Before the first line of a trail.
    pub const START: Self = Self { sequence: 0, chain: [0; 32] };

    /// Adds a record; answers the line, without its line feed, and leaves the new state behind.
    pub fn append(&mut self, record: &Map<String, Value>) -> String {
        let sequence = self.sequence + 1;
        let mut text = Value::Object(record.clone()).to_string();
        text.pop();
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&format!("\"sequence\":{sequence}}}"));
        self.chain = chain(&self.chain, text.as_bytes());
        self.sequence = sequence;
        text.pop();
        text.push_str(&format!(",\"chain\":\"{}\"}}", hex::encode(self.chain)));
        text
    }

    /// The signed head of this state.
    pub fn head(&self, key: &TrailKey) -> crate::watch::Head {
        crate::watch::Head {
            sequence: self.sequence,
            chain: hex::encode(self.chain),
            signature: key.sign(&head_input(self.sequence, &self.chain)),
        }
    }

    /// The first line of a segment: names the chain that it goes on from.
    pub fn open_segment(&mut self, segment: &str, now_ms: i64) -> String {
        let record = json!({
            "keystead": "segment-opened",
            "segment": segment,
            "previousSequence": self.sequence,
            "previousChain": hex::encode(self.chain),
            "at": iso_seconds(now_ms),
        });
        self.append(&object(record))
    }

    /// The last line of a segment, signed.
    pub fn close_segment(&mut self, segment: &str, now_ms: i64, key: &TrailKey) -> String {
        let record = json!({
            "keystead": "segment-closed",
            "segment": segment,
            "publicKey": hex::encode(key.public_key()),
            "at": iso_seconds(now_ms),
        });
        let mut line = self.append(&object(record));
        let signature = key.sign(&close_input(segment, self.sequence, &self.chain));
        line.pop();
        line.push_str(&format!(",\"signature\":\"{signature}\"}}"));
        line
    }

    /// The line that records the cut of a torn last line after a crash.
    pub fn record_cut(&mut self, cut: &[u8], now_ms: i64) -> String {
        let record = json!({
            "keystead": "torn-line-cut",
            "bytes": cut.len(),
            "sha256": hex::encode(aws_lc_rs::digest::digest(&SHA256, cut)),
            "at": iso_seconds(now_ms),
        });
        self.append(&object(record))
    }

    /// Reads the state off a line, without verifying it: what a server goes on from.
    pub fn of_line(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let sequence = value.get("sequence")?.as_u64()?;
        let chain = hex32(value.get("chain")?.as_str()?)?;
        Some(Self { sequence, chain })
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The chain value of a record: `record_json` are the line's bytes with `sequence` and without
/// `chain`.
pub fn chain(previous: &[u8; 32], record_json: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(previous);
    context.update(record_json);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// What a signed head is signed over.
pub fn head_input(sequence: u64, chain: &[u8; 32]) -> Vec<u8> {
    format!("keystead trail head v1\n{sequence}\n{}\n", hex::encode(chain)).into_bytes()
}

/// What a closing line is signed over.
pub fn close_input(segment: &str, sequence: u64, chain: &[u8; 32]) -> Vec<u8> {
    format!("keystead trail close v1\n{segment}\n{sequence}\n{}\n", hex::encode(chain)).into_bytes()
}

/// Lower-case hexadecimal only: one value has one text.
fn hex32(text: &str) -> Option<[u8; 32]> {
    let bytes: [u8; 32] = hex::decode(text).ok()?.try_into().ok()?;
    (hex::encode(bytes) == text).then_some(bytes)
}

/// The trail's signing key is not one.
#[derive(Debug, thiserror::Error)]
#[error("the trail key is not a 32-byte Ed25519 seed")]
pub struct TrailKeyError;

/// The trail's Ed25519 key.
pub struct TrailKey(Ed25519KeyPair);

impl TrailKey {
    /// Takes the 32-byte seed.
    pub fn from_seed(seed: &[u8]) -> Result<Self, TrailKeyError> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_| TrailKeyError)
    }

    /// The public half, 32 bytes.
    pub fn public_key(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// A signature, base64.
    pub fn sign(&self, input: &[u8]) -> String {
        STANDARD.encode(self.0.sign(input))
    }
}

/// True when a base64 signature is the key's over the input.
pub fn signature_holds(public_key: &[u8], input: &[u8], signature: &str) -> bool {
    let Ok(signature) = STANDARD.decode(signature) else { return false };
    UnparsedPublicKey::new(&ED25519, public_key).verify(input, &signature).is_ok()
}
