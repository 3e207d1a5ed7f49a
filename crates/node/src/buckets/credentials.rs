//! Secrets of S3 access keys: made here, sealed under the credentials' ring, kept by control as
//! ciphertext, opened here again.

use super::unwrap::CREDENTIALS;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keystead_envelope::message::{Header, open_whole, seal_whole};
use keystead_envelope::random;
use keystead_objects::{Refused, Vault};
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

/// Why a secret is not made or not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretFault {
    /// The gate is closed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Not what was sealed for this access key.
    #[error("{0}")]
    Wrong(String),
}

fn wrong(error: impl ToString) -> SecretFault {
    SecretFault::Wrong(error.to_string())
}

/// Makes a secret; answers it and its sealed form.
pub(super) fn make(
    vault: &Vault,
    access_key_id: &str,
) -> Result<(Zeroizing<String>, String), SecretFault> {
    let mut bytes: [u8; SECRET_BYTES] = random::array().map_err(wrong)?;
    let secret = Zeroizing::new(STANDARD.encode(bytes));
    bytes.zeroize();
    let text = Sealed { access_key_id: access_key_id.to_owned(), secret: secret.to_string() };
    let text = Zeroizing::new(serde_json::to_vec(&text).map_err(wrong)?);
    let message = vault
        .lend(CREDENTIALS, |ring| {
            let key = ring.current();
            seal_whole(key.key(), ring.context(), key.wrapped(), &text)
        })?
        .map_err(wrong)?;
    Ok((secret, STANDARD.encode(message)))
}

/// Opens a sealed secret; it must be that of this access key.
pub(super) fn open(
    vault: &Vault,
    access_key_id: &str,
    sealed: &str,
) -> Result<Zeroizing<String>, SecretFault> {
    let message = STANDARD.decode(sealed).map_err(wrong)?;
    let header = Header::parse(&message).map_err(wrong)?;
    let text = vault.lend(CREDENTIALS, |ring| {
        let key = ring.of(&header).ok_or_else(|| wrong("sealed under another key"))?;
        open_whole(key.key(), &message).map_err(wrong)
    })??;
    let text = Zeroizing::new(text);
    let mut found: Sealed = serde_json::from_slice(&text).map_err(wrong)?;
    if found.access_key_id != access_key_id {
        return Err(wrong("it is another access key's"));
    }
    Ok(Zeroizing::new(std::mem::take(&mut found.secret)))
}
