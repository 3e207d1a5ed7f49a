//! Secrets of S3 access keys: made here, sealed under the credentials' ring, kept by control as
//! ciphertext, opened here again.

use super::unwrap::CREDENTIALS;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keystead_envelope::message::{Header, open_whole, seal_whole};
use keystead_envelope::random;
use keystead_objects::Vault;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a secret; 40 characters, as AWS's have.
const SECRET_BYTES: usize = 30;

/// What is sealed: the id stands in it, so that two sealed secrets cannot change places.
#[derive(Serialize, Deserialize)]
struct Sealed {
    access_key_id: String,
    secret: String,
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// Makes a secret; answers it and its sealed form.
pub(super) fn make(
    vault: &Vault,
    access_key_id: &str,
) -> Result<(Zeroizing<String>, String), String> {
    let mut bytes: [u8; SECRET_BYTES] = random::array().map_err(|e| e.to_string())?;
    let secret = Zeroizing::new(STANDARD.encode(bytes));
    bytes.zeroize();
    let text = Sealed { access_key_id: access_key_id.to_owned(), secret: secret.to_string() };
    let text = Zeroizing::new(serde_json::to_vec(&text).map_err(|e| e.to_string())?);
    let message = vault
        .lend(CREDENTIALS, |ring| {
            let key = ring.current();
            seal_whole(key.key(), ring.context(), key.wrapped(), &text)
        })
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())?;
    Ok((secret, STANDARD.encode(message)))
}

/// Opens a sealed secret; it must be that of this access key.
pub(super) fn open(
    vault: &Vault,
    access_key_id: &str,
    sealed: &str,
) -> Result<Zeroizing<String>, String> {
    let message = STANDARD.decode(sealed).map_err(|_| "not base64".to_owned())?;
    let header = Header::parse(&message).map_err(|e| e.to_string())?;
    let text = vault
        .lend(CREDENTIALS, |ring| {
            let key = ring.of(&header).ok_or_else(|| "sealed under another key".to_owned())?;
            open_whole(key.key(), &message).map_err(|e| e.to_string())
        })
        .map_err(|e| e.to_string())??;
    let text = Zeroizing::new(text);
    let mut found: Sealed = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    if found.access_key_id != access_key_id {
        return Err("it is another access key's".to_owned());
    }
    Ok(Zeroizing::new(std::mem::take(&mut found.secret)))
}
