//! Policy documents: read strictly, kept as statements.

use super::condition::Condition;
use super::context::{Caller, RequestContext};
use super::pattern::Pattern;
use super::principal::{Cover, Principal, PrincipalIds};
use serde_json::{Map, Value};

/// Longest key policy, in bytes; a longer one is LimitExceededException.
pub const MAX_KEY_POLICY_BYTES: usize = 32_768;
/// Longest trust policy, in characters.
pub const MAX_TRUST_POLICY_CHARS: usize = 2048;

/// Why a policy is refused; the text is what the caller sees.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub String);

fn refuse<T>(text: &str) -> Result<T, PolicyError> {
    Err(PolicyError(text.to_owned()))
}

const INVALID_JSON: &str = "This policy contains invalid Json";
const SYNTAX: &str = "Syntax errors in policy.";
const BAD_PRINCIPAL: &str = "Policy contains a statement with one or more invalid principals.";

/// Allow or deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Allow.
    Allow,
    /// Deny.
    Deny,
}

/// Where a policy hangs decides what it must and must not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Key,
    Identity,
    Trust,
}

/// A policy document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    variables: bool,
    statements: Vec<Statement>,
}

/// A list, or everything but a list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Matcher<T> {
    not: bool,
    list: Vec<T>,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) effect: Effect,
    principals: Option<Matcher<Principal>>,
    actions: Option<Matcher<Pattern>>,
    resources: Option<Matcher<String>>,
    conditions: Vec<Condition>,
}

impl Policy {
    /// Reads a key policy.
    pub fn parse_key_policy(text: &str) -> Result<Self, PolicyError> {
        Self::parse(text, Kind::Key)
    }

    /// Reads an identity policy or a session policy.
    pub fn parse_identity(text: &str) -> Result<Self, PolicyError> {
        Self::parse(text, Kind::Identity)
    }

    /// Reads a role's trust policy.
    pub fn parse_trust(text: &str) -> Result<Self, PolicyError> {
        Self::parse(text, Kind::Trust)
    }

    /// Every principal that the statements name, each once: what the server looks up when the
    /// policy is saved (users and roles for their unique ids, accounts for their existence).
    pub fn principals(&self) -> Vec<&Principal> {
        let mut found: Vec<&Principal> = Vec::new();
        for principal in
            self.statements.iter().filter_map(|s| s.principals.as_ref()).flat_map(|m| &m.list)
        {
            if !found.contains(&principal) {
                found.push(principal);
            }
        }
        found
    }

    pub(super) fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// Policy variables work in version 2012-10-17 only.
    pub(super) fn has_variables(&self) -> bool {
        self.variables
    }

    fn parse(text: &str, kind: Kind) -> Result<Self, PolicyError> {
        let document: Value =
            serde_json::from_str(text).map_err(|_| PolicyError(INVALID_JSON.to_owned()))?;
        let Value::Object(document) = document else { return refuse(INVALID_JSON) };
        known(&document, &["Version", "Id", "Statement"])?;
        let variables = match document.get("Version") {
            None => false,
            Some(Value::String(v)) if v == "2012-10-17" => true,
            Some(Value::String(v)) if v == "2008-10-17" => false,
            Some(_) => return refuse(SYNTAX),
        };
        if kind == Kind::Identity && !variables {
            return refuse("Policy document must be version 2012-10-17 or greater.");
        }
        if document.get("Id").is_some_and(|id| !id.is_string()) {
            return refuse(SYNTAX);
        }
        let statements = match document.get("Statement") {
            Some(Value::Array(list)) if !list.is_empty() => list.iter().collect(),
            Some(one @ Value::Object(_)) => vec![one],
            _ => return refuse(SYNTAX),
        };
        let statements = statements
            .into_iter()
            .map(|s| Statement::parse(s, kind, variables))
            .collect::<Result<Vec<_>, _>>()?;
        let mut sids: Vec<&str> = Vec::new();
        if let Some(Value::Array(list)) = document.get("Statement") {
            for sid in list.iter().filter_map(|s| s.get("Sid")).filter_map(Value::as_str) {
                if kind == Kind::Identity && sids.contains(&sid) {
                    return refuse("Statement IDs (SID) in a single policy must be unique.");
                }
                sids.push(sid);
            }
        }
        Ok(Self { variables, statements })
    }
}

fn known(object: &Map<String, Value>, names: &[&str]) -> Result<(), PolicyError> {
    if object.keys().all(|k| names.contains(&k.as_str())) { Ok(()) } else { refuse(SYNTAX) }
}

/// A string or a list of strings.
fn strings(value: &Value) -> Result<Vec<&str>, PolicyError> {
    match value {
        Value::String(one) => Ok(vec![one]),
        Value::Array(list) => {
            list.iter().map(|v| v.as_str().ok_or_else(|| PolicyError(SYNTAX.to_owned()))).collect()
        }
        _ => refuse(SYNTAX),
    }
}

/// The value of `name` or of `Not` + `name`; both at once are refused.
fn either<'a>(
    statement: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<(bool, &'a Value)>, PolicyError> {
    match (statement.get(name), statement.get(&format!("Not{name}"))) {
        (Some(_), Some(_)) => refuse(SYNTAX),
        (Some(value), None) => Ok(Some((false, value))),
        (None, Some(value)) => Ok(Some((true, value))),
        (None, None) => Ok(None),
    }
}

impl Statement {
    fn parse(value: &Value, kind: Kind, variables: bool) -> Result<Self, PolicyError> {
        let Value::Object(s) = value else { return refuse(SYNTAX) };
        known(
            s,
            &[
                "Sid",
                "Effect",
                "Principal",
                "NotPrincipal",
                "Action",
                "NotAction",
                "Resource",
                "NotResource",
                "Condition",
            ],
        )?;
        if s.get("Sid").is_some_and(|sid| !sid.is_string()) {
            return refuse(SYNTAX);
        }
        let effect = match s.get("Effect").and_then(Value::as_str) {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => return refuse(SYNTAX),
        };
        let principals = match either(s, "Principal")? {
            Some(_) if kind == Kind::Identity => {
                return refuse("Policy document should not specify a principal.");
            }
            Some((not, value)) => Some(Matcher { not, list: parse_principals(value)? }),
            None if kind == Kind::Identity => None,
            None => return refuse("Policy contains a statement with no principal."),
        };
        let actions = match either(s, "Action")? {
            Some((not, value)) => Some(Matcher { not, list: parse_actions(value, kind)? }),
            None if kind == Kind::Key => None,
            None => return refuse("Policy statement must contain actions."),
        };
        let resources = match either(s, "Resource")? {
            Some(_) if kind == Kind::Trust => return refuse("Has prohibited field Resource"),
            Some((not, value)) => Some(Matcher { not, list: parse_resources(value, kind)? }),
            None if kind == Kind::Identity => {
                return refuse("Policy statement must contain resources.");
            }
            None if kind == Kind::Trust => Some(Matcher { not: false, list: vec!["*".to_owned()] }),
            None => None,
        };
        let conditions = match s.get("Condition") {
            None => Vec::new(),
            Some(Value::Object(map)) => {
                Condition::parse_all(map, variables, kind == Kind::Identity)
                    .ok_or_else(|| PolicyError(SYNTAX.to_owned()))?
            }
            Some(_) => return refuse(SYNTAX),
        };
        Ok(Self { effect, principals, actions, resources, conditions })
    }

    /// How the statement's principals cover the caller.
    pub(super) fn cover(&self, caller: &Caller, ids: &PrincipalIds) -> Option<Cover> {
        let principals = self.principals.as_ref()?;
        let best = principals.list.iter().filter_map(|p| p.cover(caller, ids)).max();
        if !principals.not {
            return best;
        }
        // Everybody but the listed. A Deny spares those named themselves, not the rest of a listed
        // account; an Allow spares nobody whom the list reaches in any way.
        let spared = match self.effect {
            Effect::Deny => best >= Some(Cover::Direct),
            Effect::Allow => best.is_some(),
        };
        (!spared).then_some(Cover::Direct)
    }

    /// True when action, resource and conditions fit the request.
    pub(super) fn applies(&self, request: &RequestContext, variables: bool) -> bool {
        let variables = variables.then_some(request);
        // A key policy's statement without Action or Resource is taken and has no effect.
        let (Some(actions), Some(resources)) = (&self.actions, &self.resources) else {
            return false;
        };
        let action = actions.list.iter().any(|a| a.matches_ignoring_case(&request.action));
        let resource = resources.list.iter().any(|text| {
            Pattern::read(text, variables).is_some_and(|p| p.matches(&request.resource))
        });
        action != actions.not
            && resource != resources.not
            && self.conditions.iter().all(|c| c.holds(request, variables))
    }
}

fn parse_principals(value: &Value) -> Result<Vec<Principal>, PolicyError> {
    let bad = || PolicyError(BAD_PRINCIPAL.to_owned());
    let map = match value {
        Value::String(all) if all == "*" => return Ok(vec![Principal::Any]),
        Value::Object(map) if !map.is_empty() => map,
        _ => return Err(bad()),
    };
    let mut list = Vec::new();
    for (kind, names) in map {
        let names = strings(names).map_err(|_| bad())?;
        if names.is_empty() {
            return Err(bad());
        }
        for name in names {
            list.push(match kind.as_str() {
                "AWS" => Principal::aws(name).ok_or_else(bad)?,
                "Service" if is_service(name) => Principal::Service(name.to_owned()),
                "Federated" if !name.is_empty() => Principal::Federated(name.to_owned()),
                _ => return Err(bad()),
            });
        }
    }
    Ok(list)
}

fn is_service(name: &str) -> bool {
    name.contains('.')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
}

fn parse_actions(value: &Value, kind: Kind) -> Result<Vec<Pattern>, PolicyError> {
    let mut list = Vec::new();
    let names = strings(value)?;
    if names.is_empty() && kind != Kind::Key {
        return refuse("Policy statement must contain actions.");
    }
    for name in names {
        let named = name.split_once(':');
        let fits = |text: &str, extra: &[u8]| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
        };
        let ok = name == "*" || named.is_some_and(|(v, a)| fits(v, b"-*?") && fits(a, b"*?"));
        if !ok {
            return refuse(
                "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
            );
        }
        if kind == Kind::Trust && !named.is_some_and(|(v, _)| v.eq_ignore_ascii_case("sts")) {
            return refuse("AssumeRole policy may only specify STS AssumeRole actions.");
        }
        let pattern = Pattern::read(name, None).ok_or_else(|| PolicyError(SYNTAX.to_owned()))?;
        list.push(pattern);
    }
    Ok(list)
}

fn parse_resources(value: &Value, kind: Kind) -> Result<Vec<String>, PolicyError> {
    let names = strings(value)?;
    if names.is_empty() && kind != Kind::Key {
        return refuse("Policy statement must contain resources.");
    }
    if kind == Kind::Identity
        && let Some(bad) = names.iter().find(|n| **n != "*" && !n.starts_with("arn:"))
    {
        return Err(PolicyError(format!("Resource {bad} must be in ARN format or \"*\".")));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}
