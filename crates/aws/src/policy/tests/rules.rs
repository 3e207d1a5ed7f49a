//! Random policies, callers, conditions and grants: the evaluator and a second, naive decision
//! (`naive`) must agree. `KEYSTEAD_SEED` repeats a run; a failure is shrunk and shown whole.

use super::naive::{Facts, facts};
use super::random::case;
use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

const CASES: u32 = 40_000;

/// Everything that a decision rests on, as plain data.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) caller: Person,
    pub(super) action: String,
    pub(super) keys: BTreeMap<String, Vec<String>>,
    pub(super) context: Option<Pairs>,
    pub(super) key_policy: Value,
    pub(super) identity: Vec<Value>,
    /// Counts for sessions only.
    pub(super) session: Option<Value>,
    pub(super) grants: Vec<Grant>,
    /// What CreateGrant is to make.
    pub(super) child: Grant,
    pub(super) cross_account: bool,
    /// User or role were deleted and made again since policy and grants were saved.
    pub(super) made_again: bool,
}

pub(super) type Pairs = BTreeMap<String, String>;

#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) account: String,
    /// ARN of the user, of the role, or of root.
    pub(super) name: String,
    pub(super) session: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Grant {
    pub(super) id: String,
    pub(super) grantee: String,
    pub(super) operations: Vec<String>,
    pub(super) equals: Option<Pairs>,
    pub(super) subset: Option<Pairs>,
}

impl Person {
    pub(super) fn is_root(&self) -> bool {
        self.name.ends_with(":root")
    }

    pub(super) fn arn(&self) -> String {
        match (&self.session, self.name.rsplit('/').next()) {
            (Some(session), Some(role)) => {
                format!("arn:aws:sts::{}:assumed-role/{role}/{session}", self.account)
            }
            _ => self.name.clone(),
        }
    }

    fn caller(&self, id: &str) -> Caller {
        match &self.session {
            Some(session) => Caller::role_session(&self.account, &self.name, id, session),
            None if self.is_root() => Caller::root(&self.account),
            None => Caller::user(&self.account, &self.name, id),
        }
    }
}

impl Grant {
    fn constraints(&self) -> GrantConstraints {
        GrantConstraints {
            encryption_context_equals: self.equals.clone(),
            encryption_context_subset: self.subset.clone(),
        }
    }

    fn view<'a>(&'a self, constraints: &'a GrantConstraints) -> GrantView<'a> {
        let of_name = self.grantee.contains(":user/") || self.grantee.contains(":role/");
        GrantView {
            id: &self.id,
            grantee: &self.grantee,
            grantee_id: of_name.then_some(OLD),
            operations: &self.operations,
            constraints,
        }
    }
}

const OLD: &str = "OLD-ID";

/// The evaluator's verdict.
fn verdict(case: &Case) -> Verdict {
    let caller = case.caller.caller(if case.made_again { "NEW-ID" } else { OLD });
    let mut request = RequestContext::new(case.action.as_str(), KEY);
    for (name, values) in &case.keys {
        for value in values {
            request.key(name, value.as_str());
        }
    }
    request.encryption_context = case.context.clone();
    let child = &case.child;
    request.new_grant =
        Some(NewGrant { operations: child.operations.clone(), constraints: child.constraints() });
    let text = case.key_policy.to_string();
    let key_policy = Policy::parse_key_policy(&text).expect(&text);
    let named = key_policy.principals().into_iter().filter_map(|p| match p {
        Principal::User(arn) | Principal::Role(arn) => Some((arn.clone(), OLD.to_owned())),
        _ => None,
    });
    let ids = named.collect();
    let identity = |p: &Value| Policy::parse_identity(&p.to_string()).expect("an identity policy");
    let own: Vec<Policy> = case.identity.iter().map(identity).collect();
    let session = case.session.as_ref().filter(|_| case.caller.session.is_some()).map(identity);
    let held: Vec<GrantConstraints> = case.grants.iter().map(Grant::constraints).collect();
    let grants: Vec<GrantView<'_>> =
        case.grants.iter().zip(&held).map(|(grant, constraints)| grant.view(constraints)).collect();
    evaluate(&EvaluateInput {
        caller: &caller,
        request: &request,
        key_account: OWNER,
        key_policy: &BoundPolicy::new(key_policy, ids),
        identity: &own,
        session: session.as_ref(),
        grants: &grants,
        cross_account: case.cross_account,
    })
}

/// True when what the evaluator names as its ground is one.
fn grounded(verdict: &Verdict, facts: &Facts) -> bool {
    match verdict {
        Verdict::Allow(AllowedBy::KeyPolicy) => facts.allowed_by_key_policy(),
        // What an account's root does by the account's name counts as the key policy's.
        Verdict::Allow(AllowedBy::IdentityPolicy) => facts.allowed_by_identity() && !facts.root,
        Verdict::Allow(AllowedBy::Grant(id)) => facts.grant_fits(id),
        Verdict::Deny(denied) => match denied.reason {
            DenyReason::Explicit(PolicyType::Resource) => facts.key_denies,
            DenyReason::Explicit(PolicyType::Identity) => facts.identity_denies,
            DenyReason::Explicit(PolicyType::Session) => facts.session_denies,
            DenyReason::OtherAccount => facts.foreign && !facts.denied(),
            DenyReason::NoResourcePolicy => !facts.key_says_something() && !facts.denied(),
            DenyReason::NoIdentityPolicy => facts.key_says_something() && !facts.own_side(),
            DenyReason::NoSessionPolicy => !facts.session_allows,
        },
    }
}

fn kind(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow(AllowedBy::Grant(_)) => "Grant".to_owned(),
        Verdict::Allow(by) => format!("{by:?}"),
        Verdict::Deny(denied) => format!("{:?}", denied.reason),
    }
}

#[test]
fn the_evaluator_and_a_naive_reading_of_awss_pages_agree() {
    let seed = std::env::var("KEYSTEAD_SEED").ok().and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    let config = Config {
        cases: CASES,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let seen: RefCell<BTreeMap<String, usize>> = RefCell::default();
    let outcome = TestRunner::new(config).run(&case(), |case| {
        let (verdict, facts) = (verdict(&case), facts(&case));
        *seen.borrow_mut().entry(kind(&verdict)).or_default() += 1;
        let allowed = facts.allowed(case.cross_account);
        prop_assert_eq!(verdict.is_allowed(), allowed, "{:?}, but {:#?}", verdict, facts);
        prop_assert!(grounded(&verdict, &facts), "{:?} has no ground in {:#?}", verdict, facts);
        Ok(())
    });
    if let Err(fault) = outcome {
        panic!("KEYSTEAD_SEED={seed}: {fault}");
    }
    // Every sort of verdict was met often enough to mean something.
    let seen = seen.into_inner();
    for sort in [
        "KeyPolicy",
        "IdentityPolicy",
        "Grant",
        "Explicit(Resource)",
        "Explicit(Identity)",
        "Explicit(Session)",
        "OtherAccount",
        "NoResourcePolicy",
        "NoIdentityPolicy",
        "NoSessionPolicy",
    ] {
        let times = seen.get(sort).copied().unwrap_or(0);
        assert!(times >= 100, "KEYSTEAD_SEED={seed}: {sort} {times} times in {seen:?}");
    }
}
