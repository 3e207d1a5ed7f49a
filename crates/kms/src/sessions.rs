//! Temporary credentials of AssumeRole, kept by nobody: the session token carries what the server
//! needs, sealed under the root key, so that a server killed and started again goes on accepting
//! the sessions it gave out. What the role may do is looked up at each use, and so is whether the
//! role of that unique id still exists: deleting a role ends its sessions.

use crate::unique_id::spell;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keystead_envelope::random;
use keystead_envelope::root_key::{RootKey, RootKeyError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const AAD: &[u8] = b"keystead session 1";
/// The longest token that is looked at, in bytes: a session policy of 2048 characters of four bytes
/// each fits.
const MAX_TOKEN: usize = 16_384;

/// What a session token carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// `ASIA…`, the access key id that belongs to the token.
    pub access_key_id: String,
    /// The role's account.
    pub account: String,
    /// The role's ARN.
    pub role_arn: String,
    /// The role's unique id at the time.
    pub role_id: String,
    /// RoleSessionName.
    pub name: String,
    /// When it was issued, milliseconds since the epoch.
    pub issued_ms: i64,
    /// When it ends.
    pub expires_ms: i64,
    /// The session policy, as sent.
    pub policy: Option<String>,
}

/// Credentials as AssumeRole answers them.
pub(crate) struct Issued {
    /// The session, with its access key id.
    pub session: Session,
    /// The secret.
    pub secret: Zeroizing<String>,
    /// The token.
    pub token: String,
}

/// Why a presented token is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionFault {
    /// Not a token of this server, or one of another access key.
    #[error("the session token is not valid")]
    Invalid,
    /// It has ended.
    #[error("the session has expired")]
    Expired,
}

/// Issues a session; `session.access_key_id` is made here.
pub(crate) fn issue(root: &RootKey, mut session: Session) -> Result<Issued, RootKeyError> {
    let bytes = random::array::<16>().map_err(keystead_envelope::memory::MemoryError::from)?;
    session.access_key_id = spell("ASIA", &bytes);
    let text = serde_json::to_vec(&session).expect("a session serializes");
    let token = STANDARD.encode(root.seal(AAD, &text)?);
    let secret = secret(root, &token);
    Ok(Issued { session, secret, token })
}

/// Opens a presented token; answers the session and its secret.
pub(crate) fn open(
    root: &RootKey,
    access_key_id: &str,
    token: &str,
    now_ms: i64,
) -> Result<(Session, Zeroizing<String>), SessionFault> {
    if token.len() > MAX_TOKEN {
        return Err(SessionFault::Invalid);
    }
    let sealed = STANDARD.decode(token).map_err(|_| SessionFault::Invalid)?;
    let text = root.open_bytes(AAD, &sealed).map_err(|_| SessionFault::Invalid)?;
    let session: Session = serde_json::from_slice(&text).map_err(|_| SessionFault::Invalid)?;
    if session.access_key_id != access_key_id {
        return Err(SessionFault::Invalid);
    }
    if now_ms >= session.expires_ms {
        return Err(SessionFault::Expired);
    }
    let secret = secret(root, token);
    Ok((session, secret))
}

fn secret(root: &RootKey, token: &str) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(*root.derive(&format!("session secret {token}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_envelope::memory::DataKey;

    fn root() -> RootKey {
        RootKey::new(DataKey::random(32).expect("key memory")).expect("32 bytes")
    }

    fn session() -> Session {
        Session {
            access_key_id: String::new(),
            account: "444455556666".into(),
            role_arn: "arn:aws:iam::444455556666:role/keystead-cl-1".into(),
            role_id: "AROAEXAMPLE".into(),
            name: "canary".into(),
            issued_ms: 1000,
            expires_ms: 5000,
            policy: None,
        }
    }

    #[test]
    fn a_token_opens_at_the_next_server_with_the_same_root_key_and_no_other() {
        let root = root();
        let issued = issue(&root, session()).expect("issued");
        let id = issued.session.access_key_id.clone();
        let (opened, secret) = open(&root, &id, &issued.token, 4999).expect("it opens");
        assert_eq!((&opened, &*secret), (&issued.session, &*issued.secret));
        assert!(id.starts_with("ASIA") && id.len() == 20);
        assert_eq!(open(&root, &id, &issued.token, 5000).err(), Some(SessionFault::Expired));
        assert_eq!(
            open(&root, "ASIAOTHER", &issued.token, 2000).err(),
            Some(SessionFault::Invalid)
        );
        assert_eq!(
            open(&self::root(), &id, &issued.token, 2000).err(),
            Some(SessionFault::Invalid)
        );
        let again = issue(&root, session()).expect("issued");
        assert!(again.token != issued.token && *again.secret != *issued.secret);
    }

    #[test]
    fn garbage_and_changed_tokens_are_refused() {
        let root = root();
        let issued = issue(&root, session()).expect("issued");
        let id = issued.session.access_key_id.as_str();
        for at in 0..issued.token.len() {
            let mut bad = issued.token.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            let bad = String::from_utf8(bad).expect("ASCII");
            assert!(open(&root, id, &bad, 2000).is_err(), "letter {at}");
        }
        for bad in ["", "AAAA", "not base64!", &"A".repeat(MAX_TOKEN + 1)] {
            assert_eq!(open(&root, id, bad, 2000).err(), Some(SessionFault::Invalid));
        }
    }
}
