//! Who calls: from a signature to a caller with his policies.

use crate::principals::Principals;
use crate::sessions::{self, SessionFault};
use crate::store::state::State;
use keystead_aws::policy::{Caller, Policy};
use keystead_aws::sigv4::{AuthFault, HttpRequest, Presented, SigningKey, verify_with};
use keystead_envelope::root_key::RootKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Signing keys kept; then the table is emptied.
const KEPT: usize = 4096;

/// A proved caller.
pub(crate) struct Who {
    pub(crate) caller: Caller,
    pub(crate) identity: Vec<Policy>,
    pub(crate) session: Option<Policy>,
    /// Tags of the session's role.
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) access_key_id: String,
    /// When the session began.
    pub(crate) issued_ms: Option<i64>,
}

/// The signature check.
#[derive(Default)]
pub(crate) struct Gatekeeper {
    /// By access key and scope; an access key never changes its secret.
    keys: Mutex<HashMap<String, Arc<SigningKey>>>,
}

impl Gatekeeper {
    /// Proves who sent a request.
    pub(crate) fn prove(
        &self,
        claimed: &Presented,
        request: &HttpRequest<'_>,
        around: Surroundings<'_>,
    ) -> Result<Who, AuthFault> {
        let id = &claimed.access_key_id;
        let (who, key) = match &claimed.session_token {
            None => {
                let user = around.principals.by_access_key(id).ok_or(AuthFault::UnknownToken)?;
                let who = Who {
                    caller: user.caller.clone(),
                    identity: vec![user.policy.clone()],
                    session: None,
                    tags: Vec::new(),
                    access_key_id: id.clone(),
                    issued_ms: None,
                };
                (who, self.key(claimed, &user.secret))
            }
            Some(token) => {
                let opened = sessions::open(around.root, id, token, around.now_ms);
                let (session, secret) = opened.map_err(|fault| match fault {
                    SessionFault::Invalid => AuthFault::UnknownToken,
                    SessionFault::Expired => AuthFault::SessionOver,
                })?;
                // Its role deleted, the session is over, even if there is a new one of the name.
                let role = around.state.roles.get(&session.role_arn);
                let role = role
                    .filter(|role| role.record.id == session.role_id)
                    .ok_or(AuthFault::UnknownToken)?;
                let caller = Caller::role_session(
                    &session.account,
                    &session.role_arn,
                    &session.role_id,
                    &session.name,
                );
                let policy = match &session.policy {
                    Some(text) => {
                        Some(Policy::parse_identity(text).map_err(|_| AuthFault::UnknownToken)?)
                    }
                    None => None,
                };
                let who = Who {
                    caller,
                    identity: role.policies.clone(),
                    session: policy,
                    tags: role.record.tags.clone(),
                    access_key_id: id.clone(),
                    issued_ms: Some(session.issued_ms),
                };
                (who, self.key(claimed, &secret))
            }
        };
        let (key, new) = key;
        verify_with(claimed, request, &key, around.now_ms, around.hosts)?;
        if new {
            self.keep(claimed, key);
        }
        Ok(who)
    }

    /// The signing key, and whether it is none of those kept.
    fn key(&self, claimed: &Presented, secret: &str) -> (Arc<SigningKey>, bool) {
        let kept = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = kept.get(&name(claimed)) {
            return (key.clone(), false);
        }
        drop(kept);
        let Presented { scope_date, region, service, .. } = claimed;
        (Arc::new(SigningKey::derive(secret, scope_date, region, service)), true)
    }

    /// Keeps the key of a signature that held: nobody else fills the table.
    fn keep(&self, claimed: &Presented, key: Arc<SigningKey>) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEPT {
            keys.clear();
        }
        keys.insert(name(claimed), key);
    }
}

fn name(claimed: &Presented) -> String {
    let Presented { access_key_id, scope_date, region, service, .. } = claimed;
    format!("{access_key_id}/{scope_date}/{region}/{service}")
}

/// What the check looks things up in.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) principals: &'a Principals,
    pub(crate) root: &'a RootKey,
    pub(crate) state: &'a State,
    pub(crate) now_ms: i64,
    pub(crate) hosts: &'a [String],
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_aws::sigv4::{Signer, parse};
    use keystead_envelope::memory::DataKey;

    const USER: &str = r#"
        [[account]]
        id = "111122223333"
        name = "c"
        [[account.user]]
        name = "a"
        access_key_id = "AKIAABCDEFGHIJKLMNOP"
        secret_access_key = "0123456789abcdef"
        policy = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
    "#;

    #[test]
    fn only_signatures_that_hold_fill_the_table_of_keys() {
        let principals = Principals::parse(USER).expect("a start file");
        let root = RootKey::new(DataKey::random(32).expect("key memory")).expect("32 bytes");
        let state = State::default();
        let hosts = ["kms:80".to_owned()];
        let around = Surroundings {
            principals: &principals,
            root: &root,
            state: &state,
            now_ms: 1_700_000_000_000,
            hosts: &hosts,
        };
        let gatekeeper = Gatekeeper::default();
        let prove = |secret: &str, region: &str| {
            let mut headers = vec![("host".to_owned(), "kms:80".to_owned())];
            let id = "AKIAABCDEFGHIJKLMNOP";
            let signer =
                Signer { access_key_id: id, secret, session_token: None, region, service: "kms" };
            headers.extend(signer.sign("POST", "/", "", &headers, b"", around.now_ms));
            let request =
                HttpRequest { method: "POST", path: "/", query: "", headers: &headers, body: b"" };
            let claimed = parse(&request).expect("well-formed");
            gatekeeper.prove(&claimed, &request, around).is_ok()
        };
        let kept = || gatekeeper.keys.lock().expect("whole").len();
        assert!(!prove("wrong", "eu-central-1"));
        assert!(!prove("wrong", &"long".repeat(1000)));
        assert!(!prove("0123456789abcdef", &"long".repeat(1000)));
        assert_eq!(kept(), 0);
        assert!(prove("0123456789abcdef", "eu-central-1"));
        assert!(prove("0123456789abcdef", "eu-central-1"));
        assert!(!prove("wrong", "eu-central-1"), "a kept key proves the right secret only");
        assert_eq!(kept(), 1);
    }
}
