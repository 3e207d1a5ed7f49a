//! The verdict: key policy, identity policies, session policy and grants together.

use super::context::{Caller, CallerKind, RequestContext};
use super::document::{Effect, Policy, Statement};
use super::grant::{Covered, GrantView};
use super::principal::{BoundPolicy, Cover};
use crate::{AwsError, error};

/// Everything that a verdict on a key rests on.
#[derive(Debug, Clone, Copy)]
pub struct EvaluateInput<'a> {
    /// Who calls.
    pub caller: &'a Caller,
    /// What is asked; `resource` is the key's ARN.
    pub request: &'a RequestContext,
    /// The account that owns the key.
    pub key_account: &'a str,
    /// The key's policy.
    pub key_policy: &'a BoundPolicy,
    /// The identity policies of the user, or of the session's role.
    pub identity: &'a [Policy],
    /// The session policy given to AssumeRole.
    pub session: Option<&'a Policy>,
    /// The grants in force on the key.
    pub grants: &'a [GrantView<'a>],
    /// The operation may be called from another account (column X of the operation table).
    pub cross_account: bool,
}

/// What let the call through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedBy {
    /// The key policy (or trust policy) names the caller.
    KeyPolicy,
    /// An identity policy, where the key policy hands over to the account.
    IdentityPolicy,
    /// The grant of this id.
    Grant(String),
}

/// Which policy an explicit deny stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyType {
    /// Key policy or trust policy.
    Resource,
    /// Identity policy.
    Identity,
    /// Session policy.
    Session,
}

/// Why a call is refused. One failing kind of policy is named, as AWS does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenyReason {
    /// A statement denies it.
    Explicit(PolicyType),
    /// The key policy gives nothing.
    NoResourcePolicy,
    /// Handed over to the account, but no identity policy allows it.
    NoIdentityPolicy,
    /// The session policy does not allow it.
    NoSessionPolicy,
    /// The operation does not work across accounts.
    OtherAccount,
}

/// A refusal, with what its text needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Why.
    pub reason: DenyReason,
    /// The key is another account's: the text must not tell whether it exists.
    pub foreign: bool,
    caller: String,
    action: String,
    resource: String,
}

/// Allowed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allow(AllowedBy),
    /// Refuse.
    Deny(Denied),
}

impl Verdict {
    /// True when the call may go on.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
    /// The refusal as an error, to be used with `?`.
    pub fn into_result(self) -> Result<AllowedBy, Denied> {
        match self {
            Self::Allow(by) => Ok(by),
            Self::Deny(denied) => Err(denied),
        }
    }
}

/// Decides a call on a key (contract 3.1): explicit deny anywhere; key policy direct; key policy
/// delegated and identity policy; grant. Another account's caller needs his own identity policy
/// beside the key policy, or a grant.
pub fn evaluate(input: &EvaluateInput<'_>) -> Verdict {
    let key = Standing::of_bound(input.key_policy, input.caller, input.request);
    let own = Standing::of_all(input.identity, input.request);
    let session = input.session.map(|p| Standing::of(p, input.request));
    let foreign = input.caller.account != input.key_account;
    let deny = |reason| Verdict::Deny(Denied::new(reason, foreign, input.caller, input.request));
    if let Some(place) = explicit_deny(key.denied, own.denied, session.as_ref()) {
        return deny(DenyReason::Explicit(place));
    }
    if foreign && !input.cross_account {
        return deny(DenyReason::OtherAccount);
    }
    let session_allows = session.is_none_or(|s| s.allowed.is_some());
    // Root needs no identity policy of its own account.
    let own_allows = own.allowed.is_some() || input.caller.kind == CallerKind::Root;
    let mut stopped_by_session = false;
    let granted = key.allowed.and_then(|cover| match cover {
        Cover::Session if !foreign => Some(AllowedBy::KeyPolicy),
        Cover::Session | Cover::Direct if !foreign || own_allows => Some(AllowedBy::KeyPolicy),
        Cover::Delegated if own_allows => Some(AllowedBy::IdentityPolicy),
        _ => None,
    });
    if let Some(by) = granted {
        if session_allows || (!foreign && key.allowed == Some(Cover::Session)) {
            return Verdict::Allow(by);
        }
        stopped_by_session = true;
    }
    for grant in input.grants.iter().filter(|g| g.permits(input.request)) {
        // Named as the session itself, his session policy does not hold him; in another account
        // it does.
        match grant.coverage(input.caller) {
            Some(covered) if session_allows || (covered == Covered::Session && !foreign) => {
                return Verdict::Allow(AllowedBy::Grant(grant.id.to_owned()));
            }
            Some(_) => stopped_by_session = true,
            None => {}
        }
    }
    deny(match key.allowed {
        _ if stopped_by_session => DenyReason::NoSessionPolicy,
        None => DenyReason::NoResourcePolicy,
        Some(_) => DenyReason::NoIdentityPolicy,
    })
}

/// Decides an operation that has no key (CreateKey, ListKeys, IAM's own): identity policies and
/// session policy only.
pub fn evaluate_identity_only(
    caller: &Caller,
    request: &RequestContext,
    identity: &[Policy],
    session: Option<&Policy>,
) -> Verdict {
    let own = Standing::of_all(identity, request);
    let session = session.map(|p| Standing::of(p, request));
    let deny = |reason| Verdict::Deny(Denied::new(reason, false, caller, request));
    if let Some(place) = explicit_deny(false, own.denied, session.as_ref()) {
        return deny(DenyReason::Explicit(place));
    }
    if own.allowed.is_none() && caller.kind != CallerKind::Root {
        return deny(DenyReason::NoIdentityPolicy);
    }
    if session.is_some_and(|s| s.allowed.is_none()) {
        return deny(DenyReason::NoSessionPolicy);
    }
    Verdict::Allow(AllowedBy::IdentityPolicy)
}

/// Decides AssumeRole: the trust policy must allow the caller; a caller of another account, or one
/// covered by the account only, needs an identity policy too. `request.action` is
/// `sts:AssumeRole`, its resource the role's ARN; `sts:ExternalId` is a condition key that the server
/// hands in when it was sent.
pub fn evaluate_trust(
    caller: &Caller,
    request: &RequestContext,
    role_account: &str,
    trust: &BoundPolicy,
    identity: &[Policy],
    session: Option<&Policy>,
) -> Verdict {
    evaluate(&EvaluateInput {
        caller,
        request,
        key_account: role_account,
        key_policy: trust,
        identity,
        session,
        grants: &[],
        cross_account: true,
    })
}

/// The lockout check: with this policy, may the calling principal still call PutKeyPolicy?
/// `request` is a kms:PutKeyPolicy request on the key, with the caller's condition keys.
pub fn lockout_safe(
    caller: &Caller,
    request: &RequestContext,
    key_account: &str,
    new_policy: &BoundPolicy,
    identity: &[Policy],
    session: Option<&Policy>,
) -> bool {
    evaluate(&EvaluateInput {
        caller,
        request,
        key_account,
        key_policy: new_policy,
        identity,
        session,
        grants: &[],
        cross_account: false,
    })
    .is_allowed()
}

fn explicit_deny(key: bool, own: bool, session: Option<&Standing>) -> Option<PolicyType> {
    if key {
        Some(PolicyType::Resource)
    } else if own {
        Some(PolicyType::Identity)
    } else {
        session.is_some_and(|s| s.denied).then_some(PolicyType::Session)
    }
}

/// What one policy, or all identity policies together, say to a request.
#[derive(Debug, Default)]
struct Standing {
    denied: bool,
    /// The strongest cover of an Allow; identity policies always say Direct.
    allowed: Option<Cover>,
}

impl Standing {
    fn of_bound(bound: &BoundPolicy, caller: &Caller, request: &RequestContext) -> Self {
        let mut standing = Self::default();
        for statement in bound.policy.statements() {
            let Some(cover) = statement.cover(caller, &bound.ids) else { continue };
            standing.add(statement, Some(cover), request, bound.policy.has_variables());
        }
        standing
    }

    fn of(policy: &Policy, request: &RequestContext) -> Self {
        let mut standing = Self::default();
        for statement in policy.statements() {
            standing.add(statement, Some(Cover::Direct), request, policy.has_variables());
        }
        standing
    }

    fn of_all(policies: &[Policy], request: &RequestContext) -> Self {
        let mut all = Self::default();
        for one in policies.iter().map(|p| Self::of(p, request)) {
            all.denied |= one.denied;
            all.allowed = all.allowed.max(one.allowed);
        }
        all
    }

    fn add(
        &mut self,
        statement: &Statement,
        cover: Option<Cover>,
        request: &RequestContext,
        variables: bool,
    ) {
        if !statement.applies(request, variables) {
            return;
        }
        match statement.effect {
            Effect::Deny => self.denied = true,
            Effect::Allow => self.allowed = self.allowed.max(cover),
        }
    }
}

impl Denied {
    fn new(reason: DenyReason, foreign: bool, caller: &Caller, request: &RequestContext) -> Self {
        Self {
            reason,
            foreign,
            caller: caller.arn.clone(),
            action: request.action.clone(),
            resource: request.resource.clone(),
        }
    }

    /// A refusal on a key that does not exist, or that must not be told apart from one.
    pub fn undisclosed(caller: &Caller, action: &str, resource: &str) -> Self {
        let request = RequestContext::new(action, resource);
        Self::new(DenyReason::NoResourcePolicy, true, caller, &request)
    }

    fn head(&self) -> String {
        format!("User: {} is not authorized to perform: {} on ", self.caller, self.action)
    }

    fn tail(&self) -> String {
        const HIDDEN: &str = "because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access";
        let action = &self.action;
        match self.reason {
            DenyReason::Explicit(PolicyType::Resource)
            | DenyReason::NoResourcePolicy
            | DenyReason::OtherAccount
                if self.foreign =>
            {
                HIDDEN.to_owned()
            }
            DenyReason::Explicit(PolicyType::Resource) => {
                "with an explicit deny in a resource-based policy".to_owned()
            }
            DenyReason::Explicit(PolicyType::Identity) => {
                "with an explicit deny in an identity-based policy".to_owned()
            }
            DenyReason::Explicit(PolicyType::Session) => {
                "with an explicit deny in a session policy".to_owned()
            }
            DenyReason::NoResourcePolicy | DenyReason::OtherAccount => {
                format!("because no resource-based policy allows the {action} action")
            }
            DenyReason::NoIdentityPolicy => {
                format!("because no identity-based policy allows the {action} action")
            }
            DenyReason::NoSessionPolicy => {
                format!("because no session policy allows the {action} action")
            }
        }
    }

    /// The text of KMS when the request named the key.
    pub fn message(&self) -> String {
        format!("{}resource: {} {}", self.head(), self.resource, self.tail())
    }

    /// The text of KMS when only the ciphertext named the key.
    pub fn message_for_ciphertext(&self) -> String {
        if self.foreign && self.tail().starts_with("because the resource does not exist") {
            format!("{}the resource associated with this ciphertext {}", self.head(), self.tail())
        } else {
            self.message()
        }
    }

    /// The text of STS, which names no kind of policy.
    pub fn short_message(&self) -> String {
        format!("{}resource: {}", self.head(), self.resource)
    }

    /// AccessDeniedException of KMS.
    pub fn kms_error(&self) -> AwsError {
        error::kms_access_denied(self.message())
    }

    /// AccessDeniedException of KMS for a call whose key only the ciphertext names.
    pub fn kms_ciphertext_error(&self) -> AwsError {
        error::kms_access_denied(self.message_for_ciphertext())
    }

    /// AccessDenied of STS and IAM.
    pub fn query_error(&self) -> AwsError {
        let sts = self.action.starts_with("sts:");
        error::query_access_denied(if sts { self.short_message() } else { self.message() })
    }
}

/// Decides RetireGrant of one grant: its retiring principal, its grantee when RetireGrant is among
/// the operations, or the account that made it (by identity policy). An Allow of kms:RetireGrant
/// in the key policy gives nothing; an explicit deny anywhere works.
pub fn evaluate_retire(
    input: &EvaluateInput<'_>,
    grant: &GrantView<'_>,
    retiring: Option<&GrantView<'_>>,
    issuing_account: &str,
) -> Verdict {
    let caller = input.caller;
    let key = Standing::of_bound(input.key_policy, caller, input.request);
    let own = Standing::of_all(input.identity, input.request);
    let session = input.session.map(|p| Standing::of(p, input.request));
    let foreign = caller.account != input.key_account;
    let deny = |reason| Verdict::Deny(Denied::new(reason, foreign, caller, input.request));
    if let Some(place) = explicit_deny(key.denied, own.denied, session.as_ref()) {
        return deny(DenyReason::Explicit(place));
    }
    if session.is_some_and(|s| s.allowed.is_none()) {
        return deny(DenyReason::NoSessionPolicy);
    }
    let as_grantee = grant.covers(caller) && grant.operations.iter().any(|o| o == "RetireGrant");
    if as_grantee || retiring.is_some_and(|r| r.covers(caller)) {
        return Verdict::Allow(AllowedBy::Grant(grant.id.to_owned()));
    }
    if issuing_account != caller.account {
        return deny(DenyReason::NoResourcePolicy);
    }
    if own.allowed.is_none() && caller.kind != CallerKind::Root {
        return deny(DenyReason::NoIdentityPolicy);
    }
    Verdict::Allow(AllowedBy::IdentityPolicy)
}
