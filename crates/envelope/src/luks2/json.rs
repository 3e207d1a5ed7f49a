//! The JSON area: one keyslot, one digest, one segment, one token.

use super::Luks2Error;
use super::af::STRIPES;
use super::binary::JSON_BYTES;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keystead_types::{EncryptionContext, KeyArn, VolumeId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(super) const AREA_OFFSET: usize = 32 << 10;
/// 4000 stripes of 64 bytes, rounded up to whole 4096-byte blocks.
pub(super) const AREA_BYTES: usize = 258_048;
pub(super) const PAYLOAD_OFFSET: u64 = 16 << 20;
const CIPHER: &str = "aes-xts-plain64";

/// What a hole in the image file means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holes {
    /// Reads as zeroes; dm-crypt would read noise there.
    Zero,
    /// There are none: dm-crypt may open the image.
    None,
}

/// Token 0: a copy, for exit, of what our record says of the wrapped passphrase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The KMS key.
    pub key_arn: KeyArn,
    /// The wrapped passphrase, base64.
    pub wrapped_key: String,
    /// Its encryption context.
    pub encryption_context: EncryptionContext,
    /// The volume.
    pub volume_id: VolumeId,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: i64,
    /// What holes mean.
    pub holes: Holes,
}

pub(super) struct Header {
    pub(super) token: Token,
    pub(super) slot_salt: Vec<u8>,
    pub(super) digest_salt: Vec<u8>,
    pub(super) digest: Vec<u8>,
}

impl Header {
    pub(super) fn new(token: Token, slot_salt: &[u8], digest_salt: &[u8], digest: &[u8]) -> Self {
        Self {
            token,
            slot_salt: slot_salt.to_vec(),
            digest_salt: digest_salt.to_vec(),
            digest: digest.to_vec(),
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut token = serde_json::to_value(&self.token).expect("a token serializes");
        token["type"] = "keystead".into();
        token["keyslots"] = json!(["0"]);
        let all = json!({
            "keyslots": {"0": {
                "type": "luks2", "key_size": 64,
                "af": {"type": "luks1", "stripes": STRIPES, "hash": "sha256"},
                "area": {
                    "type": "raw", "offset": AREA_OFFSET.to_string(),
                    "size": AREA_BYTES.to_string(), "encryption": CIPHER, "key_size": 64
                },
                "kdf": {
                    "type": "pbkdf2", "hash": "sha256", "iterations": super::ITERATIONS.get(),
                    "salt": STANDARD.encode(&self.slot_salt)
                }
            }},
            "tokens": {"0": token},
            "segments": {"0": {
                "type": "crypt", "offset": PAYLOAD_OFFSET.to_string(), "size": "dynamic",
                "iv_tweak": "0", "encryption": CIPHER, "sector_size": 4096
            }},
            "digests": {"0": {
                "type": "pbkdf2", "keyslots": ["0"], "segments": ["0"], "hash": "sha256",
                "iterations": super::ITERATIONS.get(),
                "salt": STANDARD.encode(&self.digest_salt), "digest": STANDARD.encode(&self.digest)
            }},
            "config": {
                "json_size": JSON_BYTES.to_string(),
                "keyslots_size": (PAYLOAD_OFFSET as usize - AREA_OFFSET).to_string()
            }
        });
        all.to_string().into_bytes()
    }

    /// Accepts the layout that [`Self::to_json`] writes and no other.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Luks2Error> {
        let foreign = |what: &str| Luks2Error::Foreign(what.to_owned());
        let all: Value =
            serde_json::from_slice(text).map_err(|e| Luks2Error::Foreign(format!("JSON: {e}")))?;
        let expect = |at: &str, want: Value| {
            let found = all.pointer(at);
            if found == Some(&want) {
                Ok(())
            } else {
                Err(Luks2Error::Foreign(format!("{at} is not {want}")))
            }
        };
        for (at, entries) in [
            ("/keyslots", 1),
            ("/tokens", 1),
            ("/segments", 1),
            ("/digests", 1),
            // Neither requirements nor flags: json_size and keyslots_size.
            ("/config", 2),
            ("/segments/0", 6),
        ] {
            let found = all.pointer(at).and_then(Value::as_object).map_or(0, serde_json::Map::len);
            if found != entries {
                return Err(Luks2Error::Foreign(format!(
                    "{at} has {found} entries, not {entries}"
                )));
            }
        }
        expect("/keyslots/0/type", json!("luks2"))?;
        expect("/keyslots/0/key_size", json!(64))?;
        expect("/keyslots/0/af/type", json!("luks1"))?;
        expect("/keyslots/0/area/type", json!("raw"))?;
        expect("/keyslots/0/area/key_size", json!(64))?;
        expect("/keyslots/0/kdf/iterations", json!(super::ITERATIONS.get()))?;
        expect("/segments/0/type", json!("crypt"))?;
        expect("/segments/0/size", json!("dynamic"))?;
        expect("/digests/0/type", json!("pbkdf2"))?;
        expect("/digests/0/keyslots", json!(["0"]))?;
        expect("/digests/0/segments", json!(["0"]))?;
        expect("/digests/0/iterations", json!(super::ITERATIONS.get()))?;
        expect("/keyslots/0/af/stripes", json!(STRIPES))?;
        expect("/keyslots/0/af/hash", json!("sha256"))?;
        expect("/keyslots/0/area/offset", json!(AREA_OFFSET.to_string()))?;
        expect("/keyslots/0/area/size", json!(AREA_BYTES.to_string()))?;
        expect("/keyslots/0/area/encryption", json!(CIPHER))?;
        expect("/keyslots/0/kdf/type", json!("pbkdf2"))?;
        expect("/keyslots/0/kdf/hash", json!("sha256"))?;
        expect("/segments/0/offset", json!(PAYLOAD_OFFSET.to_string()))?;
        expect("/segments/0/encryption", json!(CIPHER))?;
        expect("/segments/0/sector_size", json!(4096))?;
        expect("/segments/0/iv_tweak", json!("0"))?;
        expect("/digests/0/hash", json!("sha256"))?;
        expect("/tokens/0/type", json!("keystead"))?;
        let bytes = |at: &str| {
            let text = all.pointer(at).and_then(Value::as_str).ok_or_else(|| foreign(at))?;
            STANDARD.decode(text).map_err(|_| foreign(at))
        };
        let token = all.pointer("/tokens/0").cloned().unwrap_or_default();
        let digest = bytes("/digests/0/digest")?;
        if digest.len() != 32 {
            return Err(foreign("/digests/0/digest has 32 bytes"));
        }
        Ok(Self {
            token: serde_json::from_value(token)
                .map_err(|e| Luks2Error::Foreign(format!("token: {e}")))?,
            slot_salt: bytes("/keyslots/0/kdf/salt")?,
            digest_salt: bytes("/digests/0/salt")?,
            digest,
        })
    }
}
