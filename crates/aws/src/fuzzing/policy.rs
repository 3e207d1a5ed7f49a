//! A policy document, held against a handful of callers and requests.

use crate::policy::{
    BoundPolicy, Caller, EvaluateInput, Policy, Principal, PrincipalIds, RequestContext, evaluate,
    evaluate_identity_only,
};
use serde_json::{Value, json};

const OWNER: &str = "111122223333";
const PROVIDER: &str = "444455556666";
const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const ROLE: &str = "arn:aws:iam::444455556666:role/keystead-cl-1";

/// Documents mean the same when they are printed; nothing is allowed without an Allow; a Deny taken
/// away forbids nothing and one more allows nothing; who is named by a stale id gets nothing.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        assert!(Policy::parse_key_policy(text).is_err() && Policy::parse_identity(text).is_err());
        return;
    };
    let printed = value.to_string();
    // Some decimal fractions are not read as they are printed; that is serde_json's.
    let stable = serde_json::from_str::<Value>(&printed).is_ok_and(|again| again == value);
    for parse in [Policy::parse_key_policy, Policy::parse_identity, Policy::parse_trust] {
        assert!(!stable || parse(text) == parse(&printed), "printed, it reads another way");
    }
    for (caller, request) in requests() {
        as_key_policy(&value, &caller, &request);
        as_identity(&value, &caller, &request);
    }
}

fn as_key_policy(value: &Value, caller: &Caller, request: &RequestContext) {
    let Ok(policy) = Policy::parse_key_policy(&value.to_string()) else { return };
    let all = [everything("Allow")];
    let allows = |policy: Policy, caller: &Caller, identity: &[Policy]| {
        let ids = ids(&policy, caller);
        let verdict = evaluate(&EvaluateInput {
            caller,
            request,
            key_account: OWNER,
            key_policy: &BoundPolicy::new(policy, ids),
            identity,
            session: None,
            grants: &[],
            cross_account: true,
        });
        verdict.is_allowed()
    };
    let key = |text: &Value| Policy::parse_key_policy(&text.to_string()).expect("it was one");
    let allowed = allows(policy, caller, &all);
    if let Some(rest) = without(value, "Deny") {
        assert!(!allowed || allows(key(&rest), caller, &all), "a Deny that allows: {value}");
    } else {
        assert!(!allowed, "only Deny statements, and it allows: {value}");
    }
    if without(value, "Allow").as_ref() == Some(value) {
        assert!(!allowed, "no Allow, and it allows: {value}");
    }
    let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"});
    let key_deny = with(value, deny);
    assert!(!allows(key(&key_deny), caller, &all), "a Deny of everything allows");
    assert!(!allows(key(value), caller, &[everything("Deny")]), "an identity Deny allows");
    let text = value.to_string();
    if ["NotPrincipal", "\"*\"", ":root", OWNER, "sts"].iter().all(|w| !text.contains(w)) {
        let later = Caller { unique_id: "AROALATER".to_owned(), ..caller.clone() };
        let before = BoundPolicy::new(key(value), ids(&key(value), caller));
        let input = EvaluateInput {
            caller: &later,
            request,
            key_account: OWNER,
            key_policy: &before,
            identity: &all,
            session: None,
            grants: &[],
            cross_account: true,
        };
        let named = key(value).principals().iter().any(|p| matches!(p, Principal::Account(_)));
        assert!(named || !evaluate(&input).is_allowed(), "a stale id allows: {value}");
    }
}

fn as_identity(value: &Value, caller: &Caller, request: &RequestContext) {
    let Ok(policy) = Policy::parse_identity(&value.to_string()) else { return };
    let allows = |own: &[Policy], session: Option<&Policy>| {
        evaluate_identity_only(caller, request, own, session).is_allowed()
    };
    let own = std::slice::from_ref(&policy);
    let allowed = allows(own, None);
    match without(value, "Allow") {
        Some(rest) if rest == *value => assert!(!allowed, "no Allow, and it allows: {value}"),
        _ => {}
    }
    let everything_and = [everything("Allow"), policy.clone()];
    assert!(!allowed || allows(&everything_and, None), "an Allow more forbids");
    assert!(!allows(&[everything("Deny"), policy.clone()], None), "a Deny of everything allows");
    // A session policy only takes away.
    let cut = allows(&[everything("Allow")], Some(&policy));
    assert_eq!(cut, allowed, "as session policy it decides otherwise: {value}");
    assert!(!allows(&[], Some(&policy)), "a session policy gives");
}

fn everything(effect: &str) -> Policy {
    let statement = json!({"Effect": effect, "Action": "*", "Resource": "*"});
    let text = json!({"Version": "2012-10-17", "Statement": statement}).to_string();
    Policy::parse_identity(&text).expect("an identity policy")
}

/// The document less the statements of one effect; `None` when none is left.
fn without(value: &Value, effect: &str) -> Option<Value> {
    let mut rest = value.clone();
    match &mut rest["Statement"] {
        Value::Array(list) => {
            list.retain(|s| s["Effect"] != effect);
            (!list.is_empty()).then_some(rest)
        }
        one => (one["Effect"] != effect).then_some(rest),
    }
}

fn with(value: &Value, statement: Value) -> Value {
    let mut more = value.clone();
    let list = match more["Statement"].take() {
        Value::Array(list) => list,
        one => vec![one],
    };
    more["Statement"] = list.into_iter().chain([statement]).collect();
    more
}

/// The principals as they are now: the caller under his id, everybody else under another.
fn ids(policy: &Policy, caller: &Caller) -> PrincipalIds {
    let named = policy.principals().into_iter().filter_map(|p| match p {
        Principal::User(arn) | Principal::Role(arn) => Some(arn.clone()),
        _ => None,
    });
    let id = |arn: &String| {
        if caller.principal_arn() == arn { caller.unique_id.clone() } else { "AIDAOTHER".into() }
    };
    named.map(|arn| (arn.clone(), id(&arn))).collect()
}

fn requests() -> Vec<(Caller, RequestContext)> {
    let user = |account: &str, name: &str| {
        let arn = format!("arn:aws:iam::{account}:user/{name}");
        Caller::user(account, &arn, "AIDAONE")
    };
    let callers = [
        Caller::role_session(PROVIDER, ROLE, "AROAONE", "node"),
        user(OWNER, "Alice"),
        user(PROVIDER, "admin"),
    ];
    let mut all = Vec::new();
    for caller in callers {
        for action in ["kms:Decrypt", "kms:PutKeyPolicy"] {
            let mut request = RequestContext::new(action, KEY);
            request
                .caller(&caller)
                .time(1_795_507_262_000)
                .key("aws:SourceIp", "192.0.2.7")
                .key("kms:ViaService", "ec2.eu-central-1.amazonaws.com");
            if action == "kms:Decrypt" {
                let pair = ("keystead:cluster".to_owned(), "cl-1".to_owned());
                request.encryption_context = Some([pair].into());
            }
            all.push((caller.clone(), request));
        }
    }
    all
}
