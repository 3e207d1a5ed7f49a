//! Random cases for `rules`, from few enough names that they often meet.

use super::rules::{Case, Grant, Pairs, Person};
use super::{KEY, OWNER, PROVIDER, ROLE};
use proptest::collection::{btree_map, vec};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const ADA: &str = "arn:aws:iam::111122223333:user/ada";
const WORKER: &str = "arn:aws:iam::111122223333:role/team/worker";
const NODE: &str = "arn:aws:iam::444455556666:user/node";

/// Accounts, names and sessions of everybody who may call.
const PEOPLE: &[(&str, &str, Option<&str>)] = &[
    (OWNER, ADA, None),
    (OWNER, "arn:aws:iam::111122223333:user/bob", None),
    (OWNER, "arn:aws:iam::111122223333:root", None),
    (OWNER, WORKER, Some("s-1")),
    (PROVIDER, ROLE, Some("node")),
    (PROVIDER, ROLE, Some("other")),
    (PROVIDER, NODE, None),
    (PROVIDER, "arn:aws:iam::444455556666:root", None),
];
const PRINCIPALS: &[&str] = &[
    "*",
    OWNER,
    "arn:aws:iam::111122223333:root",
    PROVIDER,
    "arn:aws:iam::444455556666:root",
    ADA,
    WORKER,
    ROLE,
    NODE,
    "arn:aws:iam::111122223333:role/worker",
    "arn:aws:sts::111122223333:assumed-role/worker/s-1",
    "arn:aws:sts::444455556666:assumed-role/keystead-cl-1/node",
    "arn:aws:sts::444455556666:federated-user/node",
];
const ACTIONS: &[&str] = &[
    "kms:Decrypt",
    "kms:ReEncryptFrom",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:DescribeKey",
    "kms:CreateGrant",
    "kms:PutKeyPolicy",
];
const ACTION_PATTERNS: &[&str] = &[
    "*",
    "kms:*",
    "KMS:decrypt",
    "kms:De*",
    "kms:ReEncrypt*",
    "kms:GenerateDataKey*",
    "kms:CreateGrant",
    "kms:*e*t",
    "kms:?ecrypt",
    "k*:Put*",
    "s3:*",
];
const RESOURCES: &[&str] = &[
    "*",
    KEY,
    "arn:aws:kms:*:111122223333:key/*",
    "arn:aws:kms:eu-central-1:${aws:PrincipalAccount}:key/*",
    "arn:aws:kms:eu-central-1:${aws:none, '111122223333'}:key/*",
    "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-????-34cd-*",
    "arn:aws:kms:eu-west-1:111122223333:key/*",
    "arn:aws:kms:eu-central-1:111122223333:alias/*",
    "arn:aws:kms:*:${aws:none}:*",
];
/// Moments as a policy or a request may write them, and their seconds.
pub(super) const DATES: &[(&str, i64)] = &[
    ("2026-11-24T00:00:00Z", 1_795_478_400),
    ("2026-11-24", 1_795_478_400),
    ("1795478400", 1_795_478_400),
    ("2026-11-24T13:30:00+01:00", 1_795_523_400),
    ("2027-01-01T00:00:00Z", 1_798_761_600),
];

/// Families: their operators, their keys, what a policy says, what a request has.
type Family = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);
const ORDERS: [&str; 6] =
    ["Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"];
const TEXTS: &[&str] = &[
    "StringEquals",
    "StringNotEquals",
    "StringEqualsIgnoreCase",
    "StringNotEqualsIgnoreCase",
    "StringLike",
    "StringNotLike",
];
const FAMILIES: &[Family] = &[
    (
        TEXTS,
        &["kms:ViaService", "KMS:viaservice", "aws:username"],
        &["ada", "ADA", "a*", "?da", "*", "${aws:username}", "a${*}a", "${aws:none, 'ada'}"],
        &["ada", "Ada", "a*a", "bob", ""],
    ),
    (
        TEXTS,
        &["kms:EncryptionContext:tenant", "kms:EncryptionContext:TENANT"],
        &["1", "a", "A", "?", "*"],
        &[],
    ),
    (
        TEXTS,
        &["kms:EncryptionContextKeys", "kms:GrantOperations"],
        &["tenant", "Tenant", "t*", "Decrypt", "decrypt", "De*"],
        &["Decrypt", "Encrypt"],
    ),
    (
        &ORDERS,
        &["kms:ScheduleKeyDeletionPendingWindowInDays"],
        &["7", "7.0", "7.5", "-1", "30"],
        &["7", "7.25", "30", "many"],
    ),
    (
        &ORDERS,
        &["aws:CurrentTime"],
        &["2026-11-24T00:00:00Z", "2026-11-24", "1795478400", "2026-11-24T13:30:00+01:00"],
        &["2026-11-24T00:00:00Z", "2027-01-01T00:00:00Z", "yesterday"],
    ),
    (&["Bool"], &["aws:SecureTransport"], &["true", "false", "TRUE"], &["true", "false"]),
    (&["BinaryEquals"], &["kms:Sealed"], &["AAAA", "AAAB"], &["AAAA", "AAAB"]),
    (
        &["IpAddress", "NotIpAddress"],
        &["aws:SourceIp"],
        &["10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "fd00::/8", "::/0", "10.1.2.0/25"],
        &["10.1.2.3", "10.1.2.200", "192.0.2.1", "fd00::1", "nowhere"],
    ),
    (
        &["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"],
        &["aws:SourceArn"],
        &["arn:aws:s3:::b", "arn:*:s3:::*", "arn:aws:*", "*", "arn:aws:s3:*:*:b/?"],
        &["arn:aws:s3:::b", "arn:aws:s3:::b/c:d", "b"],
    ),
];

fn words(from: &'static [&'static str], least: usize) -> impl Strategy<Value = Vec<String>> {
    subsequence(from, least..=from.len().min(3))
        .prop_map(|list| list.into_iter().map(str::to_owned).collect())
}

/// A single text or a list.
fn value_of(mut list: Vec<String>) -> Value {
    if list.len() == 1 { json!(list.remove(0)) } else { json!(list) }
}

/// `name` or `Not` + `name`, and a list.
fn either(
    name: &'static str,
    from: &'static [&'static str],
) -> impl Strategy<Value = (String, Value)> {
    (prop::bool::weighted(0.15), words(from, 1)).prop_map(move |(not, list)| {
        (if not { format!("Not{name}") } else { name.to_owned() }, value_of(list))
    })
}

fn principal() -> impl Strategy<Value = (String, Value)> {
    let element = prop_oneof![
        4 => words(PRINCIPALS, 1).prop_map(|list| json!({ "AWS": value_of(list) })),
        1 => Just(json!("*")),
        1 => words(PRINCIPALS, 1)
            .prop_map(|list| json!({"AWS": list, "Service": "ec2.amazonaws.com"})),
    ];
    let not = prop::bool::weighted(0.15);
    (not, element).prop_map(|(not, element)| {
        (if not { "NotPrincipal" } else { "Principal" }.to_owned(), element)
    })
}

fn condition() -> impl Strategy<Value = Value> {
    let family = select(FAMILIES).prop_flat_map(|(operators, keys, wanted, _)| {
        let numbers = operators == ORDERS;
        let kind = if keys[0].starts_with("aws:Cur") { "Date" } else { "Numeric" };
        let set = prop_oneof![3 => Just(""), 1 => Just("ForAnyValue:"), 1 => Just("ForAllValues:")];
        let exists = prop_oneof![2 => Just(""), 1 => Just("IfExists")];
        let name = (set, select(operators), exists).prop_map(move |(set, operator, exists)| {
            let kind = if numbers { kind } else { "" };
            format!("{set}{kind}{operator}{exists}")
        });
        let null = words(&["true", "false"], 1).prop_map(|list| ("Null".to_owned(), list));
        let usual = (name, words(wanted, 1));
        (prop_oneof![5 => usual, 1 => null], select(keys))
            .prop_map(|((name, wanted), key)| json!({ name: { key: value_of(wanted) } }))
    });
    vec(family, 1..3).prop_map(|all| {
        let mut joined = Map::new();
        for one in all {
            for (operator, keys) in one.as_object().expect("an object") {
                let there = joined.entry(operator).or_insert_with(|| json!({}));
                there
                    .as_object_mut()
                    .expect("an object")
                    .extend(keys.as_object().cloned().expect("keys"));
            }
        }
        Value::Object(joined)
    })
}

fn statement(of_key: bool) -> impl Strategy<Value = Value> {
    let effect = prop_oneof![5 => Just("Allow"), 1 => Just("Deny")];
    let (action, resource) = (either("Action", ACTION_PATTERNS), either("Resource", RESOURCES));
    let parts = (
        effect,
        principal(),
        // A key policy's statement may lack them, and then does nothing.
        if of_key { weighted(0.97, action).boxed() } else { action.prop_map(Some).boxed() },
        if of_key { weighted(0.97, resource).boxed() } else { resource.prop_map(Some).boxed() },
        weighted(0.4, condition()),
    );
    parts.prop_map(move |(effect, principal, action, resource, condition)| {
        let mut all = Map::from_iter([("Effect".to_owned(), json!(effect))]);
        all.extend(action.into_iter().chain(resource));
        all.extend(of_key.then_some(principal));
        all.extend(condition.map(|c| ("Condition".to_owned(), c)));
        Value::Object(all)
    })
}

fn policy(of_key: bool) -> impl Strategy<Value = Value> {
    let version = if of_key {
        select(&["2012-10-17", "2008-10-17"][..]).boxed()
    } else {
        Just("2012-10-17").boxed()
    };
    (version, vec(statement(of_key), 1..4)).prop_map(|(version, mut list)| {
        let one = list.len() == 1 && version == "2012-10-17";
        let statements = if one { list.remove(0) } else { json!(list) };
        json!({"Version": version, "Statement": statements})
    })
}

fn pairs() -> impl Strategy<Value = Pairs> {
    btree_map("[tT]enant|env", "[1aA]", 0..3)
}

fn grant() -> impl Strategy<Value = Grant> {
    const OPERATIONS: &[&str] = &[
        "Decrypt",
        "ReEncryptFrom",
        "GenerateDataKeyWithoutPlaintext",
        "DescribeKey",
        "CreateGrant",
    ];
    let parts = (
        select(&PRINCIPALS[1..]),
        words(OPERATIONS, 1),
        weighted(0.25, pairs()),
        weighted(0.25, pairs()),
    );
    parts.prop_map(|(grantee, operations, equals, subset)| Grant {
        id: String::new(),
        grantee: grantee.to_owned(),
        operations,
        equals,
        subset,
    })
}

/// Values of some condition keys.
fn keys() -> impl Strategy<Value = BTreeMap<String, Vec<String>>> {
    let families: Vec<_> = FAMILIES.iter().filter(|f| !f.3.is_empty()).collect();
    let of_family = |(_, keys, _, given): &Family| {
        let own: Vec<_> = keys.iter().copied().filter(|k| !k.starts_with("kms:Encrypt")).collect();
        let most = if own.contains(&"kms:GrantOperations") { 2 } else { 1 };
        weighted(0.6, (select(own), subsequence(*given, 1..=most)))
    };
    let each: Vec<_> = families.into_iter().map(of_family).collect();
    each.prop_map(|all| {
        let owned = |given: Vec<&str>| given.into_iter().map(str::to_owned).collect();
        all.into_iter().flatten().map(|(key, given)| (key.to_owned(), owned(given))).collect()
    })
}

pub(super) fn case() -> impl Strategy<Value = Case> {
    let who = (
        select(PEOPLE),
        select(ACTIONS),
        keys(),
        weighted(0.7, pairs()),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.1),
    );
    let rules = (
        policy(true),
        vec(policy(false), 0..3),
        weighted(0.4, policy(false)),
        vec(grant(), 0..3),
        grant(),
    );
    (who, rules).prop_map(|(who, (key_policy, identity, session, mut grants, child))| {
        let ((account, name, in_session), action, mut keys, context, cross_account, again) = who;
        let session_name = in_session.map(str::to_owned);
        let caller =
            Person { account: account.to_owned(), name: name.to_owned(), session: session_name };
        keys.insert("aws:PrincipalAccount".to_owned(), vec![caller.account.clone()]);
        for (n, grant) in grants.iter_mut().enumerate() {
            grant.id = format!("g-{n}");
        }
        // Root is never made again.
        let made_again = again && !caller.is_root();
        let action = action.to_owned();
        Case {
            caller,
            action,
            keys,
            context,
            key_policy,
            identity,
            session,
            grants,
            child,
            cross_account,
            made_again,
        }
    })
}
