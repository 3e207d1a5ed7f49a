//! Verdicts, documents and conditions by case.

mod conditions;
mod documents;
mod grants;
mod naive;
mod naive_conditions;
mod random;
mod rules;
mod verdicts;

use super::*;

pub(super) const OWNER: &str = "111122223333";
pub(super) const PROVIDER: &str = "444455556666";
pub(super) const KEY: &str =
    "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
pub(super) const ROLE: &str = "arn:aws:iam::444455556666:role/keystead-cl-1";
pub(super) const ROLE_ID: &str = "AROAONE";

pub(super) fn tenant() -> Caller {
    Caller::role_session(PROVIDER, ROLE, ROLE_ID, "node")
}

pub(super) fn user(account: &str, name: &str) -> Caller {
    let arn = format!("arn:aws:iam::{account}:user/{name}");
    Caller::user(account, &arn, &format!("AIDA{name}"))
}

pub(super) fn request(action: &str, caller: &Caller) -> RequestContext {
    let mut request = RequestContext::new(action, KEY);
    request.caller(caller);
    request
}

pub(super) fn key_policy(text: &str) -> BoundPolicy {
    let policy = Policy::parse_key_policy(text).expect(text);
    let ids = policy
        .principals()
        .into_iter()
        .filter_map(|p| match p {
            Principal::Role(arn) => Some((arn.clone(), ROLE_ID.to_owned())),
            Principal::User(arn) => {
                let name = arn.rsplit('/').next().expect("a name");
                Some((arn.clone(), format!("AIDA{name}")))
            }
            _ => None,
        })
        .collect();
    BoundPolicy::new(policy, ids)
}

pub(super) fn identity(action: &str) -> Vec<Policy> {
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"{action}","Resource":"*"}}}}"#
    );
    vec![Policy::parse_identity(&text).expect("an identity policy")]
}

pub(super) fn denies(action: &str) -> Policy {
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Action":"{action}","Resource":"*"}},{{"Effect":"Allow","Action":"*","Resource":"*"}}]}}"#
    );
    Policy::parse_identity(&text).expect("an identity policy")
}

/// A key policy of one statement; the default one follows when `root`.
pub(super) fn one(effect: &str, principal: &str, action: &str, root: bool) -> BoundPolicy {
    let rest = if root {
        r#",{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}"#
    } else {
        ""
    };
    key_policy(&format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Principal":{principal},"Action":"{action}","Resource":"*"}}{rest}]}}"#
    ))
}
