//! Who calls, and what is asked: the input of every evaluation.

use super::grant::NewGrant;
use std::collections::BTreeMap;

/// What sort of principal calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerKind {
    /// An IAM user.
    User,
    /// A session of an IAM role.
    RoleSession,
    /// The account's root user.
    Root,
}

/// The caller, as the signature proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What sort.
    pub kind: CallerKind,
    /// The caller's own ARN; for a session that of the session.
    pub arn: String,
    /// The account.
    pub account: String,
    /// `AIDA…` of a user, `AROA…` of a session's role, the account id of root.
    pub unique_id: String,
    /// The role of a session, with its path.
    pub role_arn: Option<String>,
    /// The name of a session.
    pub session_name: Option<String>,
}

impl Caller {
    /// A user.
    pub fn user(account: &str, arn: &str, unique_id: &str) -> Self {
        Self {
            kind: CallerKind::User,
            arn: arn.to_owned(),
            account: account.to_owned(),
            unique_id: unique_id.to_owned(),
            role_arn: None,
            session_name: None,
        }
    }

    /// A session of a role; the session's ARN drops the role's path.
    pub fn role_session(account: &str, role_arn: &str, role_id: &str, session: &str) -> Self {
        let name = role_arn.rsplit('/').next().unwrap_or_default();
        Self {
            kind: CallerKind::RoleSession,
            arn: format!("arn:aws:sts::{account}:assumed-role/{name}/{session}"),
            account: account.to_owned(),
            unique_id: role_id.to_owned(),
            role_arn: Some(role_arn.to_owned()),
            session_name: Some(session.to_owned()),
        }
    }

    /// The root user of an account.
    pub fn root(account: &str) -> Self {
        Self {
            kind: CallerKind::Root,
            arn: format!("arn:aws:iam::{account}:root"),
            account: account.to_owned(),
            unique_id: account.to_owned(),
            role_arn: None,
            session_name: None,
        }
    }

    /// `aws:PrincipalArn`: of a session the role's ARN, never the session's.
    pub fn principal_arn(&self) -> &str {
        self.role_arn.as_deref().unwrap_or(&self.arn)
    }

    /// `UserId` of GetCallerIdentity and `principalId` of the trail.
    pub fn user_id(&self) -> String {
        match &self.session_name {
            Some(session) => format!("{}:{session}", self.unique_id),
            None => self.unique_id.clone(),
        }
    }
}

/// What is asked: an action on a resource, with the condition keys that hold.
#[derive(Debug, Clone, Default)]
pub struct RequestContext {
    /// As `kms:Decrypt`.
    pub action: String,
    /// ARN of the key, role or alias; `*` for operations without a resource.
    pub resource: String,
    /// The encryption context of a symmetric crypto call, or of a new grant's constraint; `None`
    /// for operations that have none. Fills `kms:EncryptionContext:…` and `…ContextKeys`, and is
    /// what grant constraints are held against.
    pub encryption_context: Option<BTreeMap<String, String>>,
    /// The grant that CreateGrant is to make: what a parent grant is held against.
    pub new_grant: Option<NewGrant>,
    keys: Vec<(String, Vec<String>)>,
}

impl RequestContext {
    /// A request of an action on a resource, with no condition keys yet.
    pub fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { action: action.into(), resource: resource.into(), ..Self::default() }
    }

    /// Adds one value of a condition key, spelt as the server always spells it.
    pub fn key(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        match self.keys.iter_mut().find(|(n, _)| n == name) {
            Some((_, values)) => values.push(value.into()),
            None => self.keys.push((name.to_owned(), vec![value.into()])),
        }
        self
    }

    /// Adds what follows from the caller: aws:PrincipalArn, aws:PrincipalAccount, and
    /// kms:CallerAccount when the action is one of KMS.
    pub fn caller(&mut self, caller: &Caller) -> &mut Self {
        self.key("aws:PrincipalArn", caller.principal_arn())
            .key("aws:PrincipalAccount", caller.account.as_str());
        if self.action.starts_with("kms:") {
            self.key("kms:CallerAccount", caller.account.as_str());
        }
        self
    }

    /// Adds aws:CurrentTime.
    pub fn time(&mut self, now_ms: i64) -> &mut Self {
        self.key("aws:CurrentTime", crate::trail::iso_seconds(now_ms))
    }

    /// The values of a condition key; `None` when it is absent.
    pub(super) fn values(&self, name: &str) -> Option<Vec<&str>> {
        const CONTEXT: &str = "kms:EncryptionContext:";
        if let Some(context) = &self.encryption_context {
            if name.eq_ignore_ascii_case("kms:EncryptionContextKeys") {
                let keys: Vec<&str> = context.keys().map(String::as_str).collect();
                return (!keys.is_empty()).then_some(keys);
            }
            let prefixed =
                name.get(..CONTEXT.len()).is_some_and(|p| p.eq_ignore_ascii_case(CONTEXT));
            if prefixed {
                // Names of condition keys know no case. Where two pairs differ by case only, the
                // pair spelt like the policy wins, so that a second pair cannot stand in for it.
                let wanted = &name[CONTEXT.len()..];
                let exact = context.get(wanted);
                let any =
                    || context.iter().find(|(k, _)| k.eq_ignore_ascii_case(wanted)).map(|p| p.1);
                return exact.or_else(any).map(|v| vec![v.as_str()]);
            }
        }
        // As above: of tags that differ by case only, the one spelt like the policy; what stands
        // before the tag's own name knows no case.
        let own = &name[name.find('/').unwrap_or(name.len())..];
        let mut alike = self.keys.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let exact = alike.clone().find(|(n, _)| n.ends_with(own));
        let (_, values) = exact.or_else(|| alike.next())?;
        Some(values.iter().map(String::as_str).collect())
    }
}
