//! Principals: how a policy names them, and whom a name covers.

use super::context::{Caller, CallerKind};
use super::document::Policy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// ARN of a user or role -> the unique id that it had when the policy was saved.
pub type PrincipalIds = BTreeMap<String, String>;

/// A principal that a statement names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// `*`: everybody.
    Any,
    /// An account, by twelve digits or as `arn:aws:iam::<account>:root`.
    Account(String),
    /// A user; the whole ARN.
    User(String),
    /// A role; the whole ARN, with its path.
    Role(String),
    /// One session of a role; the whole ARN.
    Session(String),
    /// A federated user's ARN or an identity provider.
    Federated(String),
    /// A service, as `ec2.amazonaws.com`.
    Service(String),
}

/// How a principal covers a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cover {
    /// By the account: the account's own policies decide.
    Delegated,
    /// By user or role, or by `*`.
    Direct,
    /// As this very session.
    Session,
}

impl Principal {
    /// Reads one value of `"AWS"`; `None` when it is no principal.
    pub(super) fn aws(given: &str) -> Option<Self> {
        if given == "*" {
            return Some(Self::Any);
        }
        if is_account(given) {
            return Some(Self::Account(given.to_owned()));
        }
        let parts: Vec<&str> = given.splitn(6, ':').collect();
        let ["arn", "aws", service, "", account, resource] = parts.as_slice() else { return None };
        if !is_account(account) {
            return None;
        }
        let given = given.to_owned();
        match (*service, *resource) {
            ("iam", "root") => Some(Self::Account((*account).to_owned())),
            ("iam", r) => {
                if r.strip_prefix("user/").is_some_and(is_path_name) {
                    Some(Self::User(given))
                } else if r.strip_prefix("role/").is_some_and(is_path_name) {
                    Some(Self::Role(given))
                } else {
                    None
                }
            }
            ("sts", r) => {
                if let Some(rest) = r.strip_prefix("assumed-role/") {
                    let (role, session) = rest.split_once('/')?;
                    (is_name(role) && is_name(session)).then_some(Self::Session(given))
                } else {
                    let name = r.strip_prefix("federated-user/")?;
                    is_name(name).then_some(Self::Federated(given))
                }
            }
            _ => None,
        }
    }

    /// The account that the principal belongs to.
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::Account(account) => Some(account),
            Self::User(arn) | Self::Role(arn) | Self::Session(arn) | Self::Federated(arn) => {
                arn.split(':').nth(4)
            }
            Self::Any | Self::Service(_) => None,
        }
    }

    pub(super) fn cover(&self, caller: &Caller, ids: &PrincipalIds) -> Option<Cover> {
        let same_id = |arn: &str| ids.get(arn).is_some_and(|id| *id == caller.unique_id);
        match self {
            Self::Any => Some(Cover::Direct),
            Self::Account(account) if *account == caller.account => {
                let root = caller.kind == CallerKind::Root;
                Some(if root { Cover::Direct } else { Cover::Delegated })
            }
            Self::User(arn) if caller.kind == CallerKind::User => {
                (*arn == caller.arn && same_id(arn)).then_some(Cover::Direct)
            }
            Self::Role(arn) if caller.kind == CallerKind::RoleSession => {
                (caller.role_arn.as_ref() == Some(arn) && same_id(arn)).then_some(Cover::Direct)
            }
            Self::Session(arn) if caller.kind == CallerKind::RoleSession => {
                (*arn == caller.arn).then_some(Cover::Session)
            }
            _ => None,
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b))
}

/// A name with an optional path before it.
fn is_path_name(text: &str) -> bool {
    let (path, name) = text.rsplit_once('/').unwrap_or(("", text));
    text.len() <= 576
        && is_name(name)
        && path.bytes().all(|b| (0x21..=0x7e).contains(&b) && !b"*?".contains(&b))
}

/// A policy with the unique ids of the users and roles that it names.
#[derive(Debug, Clone)]
pub struct BoundPolicy {
    /// The document.
    pub policy: Policy,
    /// The ids, as captured when the policy was saved. A named user or role without an entry
    /// covers nobody.
    pub ids: PrincipalIds,
}

/// What the store keeps of a [`BoundPolicy`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPolicy {
    /// The document's text, as sent.
    pub text: String,
    /// The ids.
    pub ids: PrincipalIds,
}

impl BoundPolicy {
    /// Ties a document to the ids that its principals have now.
    pub fn new(policy: Policy, ids: PrincipalIds) -> Self {
        Self { policy, ids }
    }
}
