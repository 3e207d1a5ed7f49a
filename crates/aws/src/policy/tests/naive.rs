//! The decision a second time, straight from AWS's pages and on the documents' JSON: explicit
//! deny, key policy, identity policy behind the account, session policy, grants, other accounts.
//! Slow on purpose, and without any of the evaluator's matching code.

use super::naive_conditions::{all_hold, letters, like};
use super::rules::{Case, Grant};
use serde_json::Value;
use std::collections::BTreeMap;

/// What the policies and grants say to a case, each by itself.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) foreign: bool,
    pub(super) root: bool,
    pub(super) key_denies: bool,
    pub(super) identity_denies: bool,
    pub(super) session_denies: bool,
    /// An Allow names this very session.
    pub(super) key_names_session: bool,
    /// An Allow names the user, the role, or everybody.
    pub(super) key_names_caller: bool,
    /// An Allow names the caller's account.
    pub(super) key_names_account: bool,
    pub(super) identity_allows: bool,
    /// There is no session policy, or it allows.
    pub(super) session_allows: bool,
    /// Ids of the grants that fit, and whether they name this very session.
    pub(super) grants: Vec<(String, bool)>,
}

impl Facts {
    pub(super) fn denied(&self) -> bool {
        self.key_denies || self.identity_denies || self.session_denies
    }

    /// The caller's own account lets him; root needs no policy.
    pub(super) fn own_side(&self) -> bool {
        self.identity_allows || self.root
    }

    pub(super) fn key_says_something(&self) -> bool {
        self.key_names_session || self.key_names_caller || self.key_names_account
    }

    /// A session that is named itself is not held by its session policy, in its own account.
    fn session_fits(&self, named: bool) -> bool {
        self.session_allows || (named && !self.foreign)
    }

    pub(super) fn grant_fits(&self, id: &str) -> bool {
        self.grants.iter().any(|(g, named)| g == id && self.session_fits(*named))
    }

    pub(super) fn allowed_by_key_policy(&self) -> bool {
        let own = !self.foreign || self.own_side();
        own && ((self.key_names_session && self.session_fits(true))
            || (self.key_names_caller && self.session_allows))
    }

    pub(super) fn allowed_by_identity(&self) -> bool {
        self.key_names_account && self.own_side() && self.session_allows
    }

    /// The decision.
    pub(super) fn allowed(&self, cross_account: bool) -> bool {
        if self.denied() || (self.foreign && !cross_account) {
            return false;
        }
        self.allowed_by_key_policy()
            || self.allowed_by_identity()
            || self.grants.iter().any(|(id, _)| self.grant_fits(id))
    }
}

pub(super) fn facts(case: &Case) -> Facts {
    let says = |policy: &Value, effect: &str| {
        statements(policy).any(|s| s["Effect"] == effect && applies(s, policy, case))
    };
    let key = |effect: &str, test: &dyn Fn(&Value) -> bool| {
        statements(&case.key_policy)
            .any(|s| s["Effect"] == effect && applies(s, &case.key_policy, case) && test(s))
    };
    let listed = |s: &Value| s.get("NotPrincipal").is_none();
    let names = |s: &Value, test: &dyn Fn(&str) -> bool| principals(s).iter().any(|p| test(p));
    let session = |p: &str| is_session(p, case);
    let caller = |p: &str| is_caller(p, case);
    let account = |p: &str| is_account(p, case);
    let any = |p: &str| session(p) || caller(p) || account(p);
    let policy = case.session.as_ref().filter(|_| case.caller.session.is_some());
    Facts {
        foreign: case.caller.account != super::OWNER,
        root: case.caller.is_root(),
        // A Deny reaches whoever is named in any way; NotPrincipal spares who is named himself.
        key_denies: key("Deny", &|s| {
            if listed(s) { names(s, &any) } else { !names(s, &|p| session(p) || caller(p)) }
        }),
        identity_denies: case.identity.iter().any(|p| says(p, "Deny")),
        session_denies: policy.is_some_and(|p| says(p, "Deny")),
        key_names_session: key("Allow", &|s| listed(s) && names(s, &session)),
        // An Allow with NotPrincipal is for everybody whom the list does not reach at all.
        key_names_caller: key("Allow", &|s| {
            if listed(s) { names(s, &caller) } else { !names(s, &any) }
        }),
        key_names_account: key("Allow", &|s| listed(s) && names(s, &account)),
        identity_allows: case.identity.iter().any(|p| says(p, "Allow")),
        session_allows: policy.is_none_or(|p| says(p, "Allow")),
        grants: case
            .grants
            .iter()
            .filter(|g| permits(g, case))
            .filter_map(|g| Some((g.id.clone(), names_grantee(g, case)?)))
            .collect(),
    }
}

fn statements(policy: &Value) -> impl Iterator<Item = &Value> {
    let one = policy["Statement"].is_object().then_some(&policy["Statement"]);
    policy["Statement"].as_array().into_iter().flatten().chain(one)
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many.iter().flat_map(list).collect(),
        _ => vec![],
    }
}

fn principals(statement: &Value) -> Vec<String> {
    match statement.get("Principal").or_else(|| statement.get("NotPrincipal")) {
        Some(Value::Object(kinds)) => kinds.values().flat_map(list).collect(),
        Some(other) => list(other),
        None => vec![],
    }
}

fn is_session(principal: &str, case: &Case) -> bool {
    case.caller.session.is_some() && principal == case.caller.arn()
}

fn is_caller(principal: &str, case: &Case) -> bool {
    let caller = &case.caller;
    if principal == "*" {
        return true;
    }
    if caller.is_root() {
        return is_account(principal, case);
    }
    // A name stands for who had it when the policy was saved.
    principal == caller.name && !case.made_again
}

fn is_account(principal: &str, case: &Case) -> bool {
    let account = &case.caller.account;
    principal == account || principal == format!("arn:aws:iam::{account}:root")
}

/// Action, resource and conditions; without action or resource a statement has no effect.
fn applies(statement: &Value, policy: &Value, case: &Case) -> bool {
    let variables = policy["Version"] == "2012-10-17";
    let action = |p: &String| {
        like(&letters(&p.to_lowercase(), case, false).unwrap_or_default(), &low(&case.action))
    };
    let resource = |p: &String| {
        letters(p, case, variables)
            .is_some_and(|p| like(&p, &super::KEY.chars().collect::<Vec<_>>()))
    };
    let one_of = |name: &str, fits: &dyn Fn(&String) -> bool| {
        let not = format!("Not{name}");
        match (statement.get(name), statement.get(&not)) {
            (Some(list_of), _) => list(list_of).iter().any(fits),
            (_, Some(list_of)) => !list(list_of).iter().any(fits),
            _ => false,
        }
    };
    one_of("Action", &action)
        && one_of("Resource", &resource)
        && all_hold(&statement["Condition"], case, variables)
}

fn low(text: &str) -> Vec<char> {
    text.to_lowercase().chars().collect()
}

/// Whether the grantee is the caller, and then whether it is this very session.
fn names_grantee(grant: &Grant, case: &Case) -> Option<bool> {
    let caller = &case.caller;
    if caller.is_root() {
        return is_account(&grant.grantee, case).then_some(false);
    }
    if is_session(&grant.grantee, case) {
        return Some(true);
    }
    (grant.grantee == caller.name && !case.made_again).then_some(false)
}

fn permits(grant: &Grant, case: &Case) -> bool {
    let operation = case.action.trim_start_matches("kms:");
    if !grant.operations.iter().any(|o| o == operation) {
        return false;
    }
    match operation {
        "DescribeKey" => true,
        "CreateGrant" => gives_no_more(grant, case),
        _ => {
            let context = case.context.clone().unwrap_or_default();
            grant.equals.as_ref().is_none_or(|pairs| *pairs == context)
                && grant.subset.as_ref().is_none_or(|pairs| within(pairs, &context))
        }
    }
}

fn within(few: &BTreeMap<String, String>, many: &BTreeMap<String, String>) -> bool {
    few.iter().all(|pair| many.iter().any(|other| pair == other))
}

/// A grant made by force of a grant: its operations, and constraints that are equal or stricter.
fn gives_no_more(parent: &Grant, case: &Case) -> bool {
    let child = &case.child;
    let operations = child.operations.iter().all(|o| parent.operations.contains(o));
    let equals = match (&parent.equals, &child.equals) {
        (Some(parents), Some(childs)) => parents == childs,
        (Some(_), None) => false,
        (None, _) => true,
    };
    let subset = parent.subset.as_ref().is_none_or(|parents| {
        child.equals.as_ref().is_some_and(|c| within(parents, c))
            || child.subset.as_ref().is_some_and(|c| within(parents, c))
    });
    operations && equals && subset
}
