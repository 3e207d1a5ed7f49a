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
                    access_key_id: id.clone(),
                    issued_ms: None,
                };
                (who, self.key(claimed, || user.secret.to_string()))
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
                    access_key_id: id.clone(),
                    issued_ms: Some(session.issued_ms),
                };
                (who, self.key(claimed, || secret.to_string()))
            }
        };
        verify_with(claimed, request, &key, around.now_ms, around.hosts)?;
        Ok(who)
    }

    fn key(&self, claimed: &Presented, secret: impl FnOnce() -> String) -> Arc<SigningKey> {
        let Presented { access_key_id, scope_date, region, service, .. } = claimed;
        let at = format!("{access_key_id}/{scope_date}/{region}/{service}");
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = keys.get(&at) {
            return key.clone();
        }
        if keys.len() >= KEPT {
            keys.clear();
        }
        let secret = zeroize::Zeroizing::new(secret());
        let key = Arc::new(SigningKey::derive(&secret, scope_date, region, service));
        keys.insert(at, key.clone());
        key
    }
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
