//! The policy language and what it decides: documents, principals, conditions, grants, verdicts.
//!
//! A key policy or trust policy is kept together with the unique ids that its named principals had
//! when it was saved ([`BoundPolicy`]): a role that is deleted and made again under its old name
//! is another principal, and the old policy does not cover it.
//!
//! Nothing here looks anything up: who the caller is, which grants there are and which condition
//! keys hold is handed in. A condition key that is not handed in counts as absent.

mod condition;
mod context;
mod document;
mod evaluate;
mod grant;
mod pattern;
mod principal;
#[cfg(test)]
mod tests;

pub use context::{Caller, CallerKind, RequestContext};
pub use document::{Effect, MAX_KEY_POLICY_BYTES, MAX_TRUST_POLICY_CHARS, Policy, PolicyError};
pub use evaluate::{
    AllowedBy, Denied, DenyReason, EvaluateInput, PolicyType, Verdict, evaluate,
    evaluate_identity_only, evaluate_retire, evaluate_trust, lockout_safe,
};
pub use grant::{ConstraintKind, GrantConstraints, GrantView, NewGrant, child_grant_fits};
pub use principal::{BoundPolicy, Principal, PrincipalIds, StoredPolicy};
