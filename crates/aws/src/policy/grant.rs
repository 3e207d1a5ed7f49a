//! Grants as evaluation sees them.

use super::context::{Caller, CallerKind, RequestContext};
use std::collections::BTreeMap;

/// How a grant's constraint is held against an encryption context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConstraintKind {
    /// The same pairs, no more and no less.
    Equals,
    /// All listed pairs; more are fine.
    Subset,
}

/// The constraints of a grant; both may be given and both must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GrantConstraints {
    /// The context must hold exactly these pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_context_equals: Option<BTreeMap<String, String>>,
    /// The context must hold at least these pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_context_subset: Option<BTreeMap<String, String>>,
}

impl GrantConstraints {
    /// No constraint at all.
    pub fn is_empty(&self) -> bool {
        self.encryption_context_equals.is_none() && self.encryption_context_subset.is_none()
    }

    /// True when a call with this encryption context is covered.
    pub fn allow(&self, context: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &BTreeMap<String, String>| {
            wanted.iter().all(|(name, value)| context.get(name) == Some(value))
        };
        self.encryption_context_equals.as_ref().is_none_or(|c| c == context)
            && self.encryption_context_subset.as_ref().is_none_or(has)
    }

    /// The kind and the pairs of each constraint.
    pub fn each(&self) -> impl Iterator<Item = (ConstraintKind, &BTreeMap<String, String>)> {
        let equals = self.encryption_context_equals.iter().map(|c| (ConstraintKind::Equals, c));
        let subset = self.encryption_context_subset.iter().map(|c| (ConstraintKind::Subset, c));
        equals.chain(subset)
    }
}

/// A grant that CreateGrant is asked to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewGrant {
    /// Its operations, as `Decrypt`.
    pub operations: Vec<String>,
    /// Its constraints.
    pub constraints: GrantConstraints,
}

/// A grant that is in force on the key in question.
#[derive(Debug, Clone)]
pub struct GrantView<'a> {
    /// Its id.
    pub id: &'a str,
    /// ARN of the grantee, as given to CreateGrant (an account, user, role or role session).
    pub grantee: &'a str,
    /// Unique id that the grantee (user or role) had when the grant was made; `None` for an
    /// account or for a session ARN.
    pub grantee_id: Option<&'a str>,
    /// Operations, as `Decrypt`.
    pub operations: &'a [String],
    /// Constraints.
    pub constraints: &'a GrantConstraints,
}

/// How a grantee covers a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Covered {
    /// Named as the session itself.
    Session,
    /// Named as user, as the session's role, or root as the account.
    Named,
}

impl GrantView<'_> {
    /// True when the grantee is the caller: a role covers its sessions.
    pub fn covers(&self, caller: &Caller) -> bool {
        self.coverage(caller).is_some()
    }

    pub(super) fn coverage(&self, caller: &Caller) -> Option<Covered> {
        let same_id = self.grantee_id.is_some_and(|id| id == caller.unique_id);
        match caller.kind {
            CallerKind::RoleSession if self.grantee == caller.arn => Some(Covered::Session),
            CallerKind::RoleSession if caller.role_arn.as_deref() == Some(self.grantee) => {
                same_id.then_some(Covered::Named)
            }
            CallerKind::User if self.grantee == caller.arn => same_id.then_some(Covered::Named),
            CallerKind::Root if self.grantee == caller.arn || self.grantee == caller.account => {
                Some(Covered::Named)
            }
            _ => None,
        }
    }

    /// True when the grant's operations and constraints cover the request.
    pub fn permits(&self, request: &RequestContext) -> bool {
        let Some((service, op)) = request.action.split_once(':') else { return false };
        if !service.eq_ignore_ascii_case("kms") || !self.operations.iter().any(|o| o == op) {
            return false;
        }
        match op {
            // Neither has an encryption context: constraints are not held against them.
            "DescribeKey" | "RetireGrant" => true,
            "CreateGrant" => request
                .new_grant
                .as_ref()
                .is_some_and(|child| child_grant_fits(self.operations, self.constraints, child)),
            _ => {
                static NONE: BTreeMap<String, String> = BTreeMap::new();
                self.constraints.allow(request.encryption_context.as_ref().unwrap_or(&NONE))
            }
        }
    }
}

/// True when a grant made by force of a parent grant gives no more than the parent: operations are
/// among the parent's, constraints are equal or stricter.
pub fn child_grant_fits(
    parent_operations: &[String],
    parent: &GrantConstraints,
    child: &NewGrant,
) -> bool {
    let contains = |pairs: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>| {
        wanted.iter().all(|(k, v)| pairs.get(k) == Some(v))
    };
    let mine = &child.constraints;
    let operations = child.operations.iter().all(|o| parent_operations.contains(o));
    let equals = parent
        .encryption_context_equals
        .as_ref()
        .is_none_or(|p| mine.encryption_context_equals.as_ref() == Some(p));
    let subset = parent
        .encryption_context_subset
        .as_ref()
        .is_none_or(|p| mine.each().any(|(_, pairs)| contains(pairs, p)));
    operations && equals && subset
}
