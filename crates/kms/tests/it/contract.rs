//! The refusals of the contract's sections 2 to 4, one by one, and the test of each. What a server
//! that lets everything pass would answer 200 to is marked by a test that fails then.
//!
//! Section 2, key states: `src/tests/states.rs` (every cell; "after deletion every id answers
//! NotFound; aliases go too"), `refusals::states_…` (the states survive a restart).
//!
//! Section 3.1
//! - [x] 1 an explicit Deny in key, identity or session policy beats Allow and grant:
//!   `an_explicit_deny_wins_wherever_it_stands`
//! - [x] 2, 3, 5 what the account is given nobody has by himself; an identity policy is void where
//!   the key policy does not hand over: `who_is_not_let_in_by_whom`
//! - [x] 4 grants: `grants.rs`
//! - [x] 6 another account needs both sides: `who_is_not_let_in_by_whom`,
//!   `refusals::a_role_of_another_account_…`
//! - [x] 7 operations without X, operations without a key: `administration.rs`
//! - [x] 8 one session's ARN covers it alone, session policies intersect:
//!   `who_is_not_let_in_by_whom`, and all of 3.1 at random: `policy::tests::rules` of `aws`
//! - [x] last line, Decrypt's resource is the blob's key: `a_blob_is_judged_by_its_own_key`
//!
//! Section 3.2: `policies::documents_that_are_refused`, `refusals::policies_are_refused_…`; a role made again
//! under its name: `refusals::a_role_of_another_account_…`; missing Action or Resource has no
//! effect, alias ARNs in identity policies: `who_is_not_let_in_by_whom`; the language's shapes:
//! `policy::tests::documents` of `aws`.
//!
//! Section 3.3: `policies::conditions_that_do_not_hold`, `disclosure::condition_keys_…`.
//! Section 3.4: `policy::tests::conditions` and `policy::tests::rules` of `aws`.
//! Section 3.5: the texts in all of these; `disclosure::guessed_names_…`.
//! Section 3.6: `policies::a_policy_that_locks_its_author_out_is_not_put`, `refusals::policies_…`; the
//! brief's policy: `administration.rs`.
//!
//! Section 4: `grants.rs`, with a list of its own.

use crate::rig::{Answer, CUSTOMER, Key, NODE, OPERATOR, OWNER, PROVIDER, REGION, Rig, user};
use serde_json::{Value, json};

/// A statement that allows.
pub(crate) fn allow(principal: &str, action: &str) -> Value {
    json!({"Effect": "Allow", "Principal": {"AWS": principal}, "Action": action, "Resource": "*"})
}

/// A key policy that leaves the key to its administrator by name, and nobody else but by `more`.
pub(crate) fn closed(more: &[Value]) -> Value {
    let admin = format!("arn:aws:iam::{CUSTOMER}:user/administrator");
    let mut statements = vec![allow(&admin, "kms:*")];
    statements.extend(more.iter().cloned());
    json!({"Version": "2012-10-17", "Statement": statements})
}

pub(crate) fn identity(statement: Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": [statement]})
}

fn may(action: &str, resource: &str) -> Value {
    identity(json!({"Effect": "Allow", "Action": action, "Resource": resource}))
}

/// Replaces the one identity policy of a role.
pub(crate) async fn give(rig: &Rig, by: u8, role: &str, policy: &Value) {
    let name = role.rsplit('/').next().expect("a name");
    let text = policy.to_string();
    let fields = [
        ("Action", "PutRolePolicy"),
        ("RoleName", name),
        ("PolicyName", "keys"),
        ("PolicyDocument", &text),
    ];
    let put = rig.query(&user(by), "iam", &fields).await;
    assert_eq!(put.status, 200, "{}", put.text);
}

/// A role of the customer's own account, which the node may assume.
async fn worker(rig: &Rig) -> String {
    let trust = identity(json!({"Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"AWS": format!("arn:aws:iam::{PROVIDER}:user/node")}}));
    let text = trust.to_string();
    let fields =
        [("Action", "CreateRole"), ("RoleName", "worker"), ("AssumeRolePolicyDocument", &text)];
    let made = rig.query(&user(OWNER), "iam", &fields).await;
    assert_eq!(made.status, 200, "{}", made.text);
    made.element("Arn")
}

pub(crate) async fn assume(rig: &Rig, role: &str, session: &str, policy: Option<&Value>) -> Key {
    let text = policy.map(Value::to_string);
    let mut fields =
        vec![("Action", "AssumeRole"), ("RoleArn", role), ("RoleSessionName", session)];
    fields.extend(text.as_deref().map(|text| ("Policy", text)));
    let answer = rig.query(&user(NODE), "sts", &fields).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    Key {
        id: answer.element("AccessKeyId"),
        secret: answer.element("SecretAccessKey"),
        token: Some(answer.element("SessionToken")),
    }
}

pub(crate) async fn put(rig: &Rig, key: &str, policy: &Value) {
    let input = json!({"KeyId": key, "Policy": policy.to_string()});
    rig.good(&user(OWNER), "PutKeyPolicy", input).await;
}

pub(crate) fn refused(answer: &Answer, tail: &str, case: &str) {
    let text = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(answer.code(), "AccessDeniedException", "{case}: {}", answer.text);
    assert!(text.starts_with("User: arn:aws:"), "{case}: {text}");
    assert!(text.ends_with(tail), "{case}: {text}");
}

const HIDDEN: &str = "because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access";
const NO_KEY_POLICY: &str = "because no resource-based policy allows the kms:Encrypt action";
const NO_IDENTITY: &str = "because no identity-based policy allows the kms:Encrypt action";
const NO_SESSION: &str = "because no session policy allows the kms:Encrypt action";

#[tokio::test(flavor = "multi_thread")]
async fn an_explicit_deny_wins_wherever_it_stands() {
    let rig = Rig::new().await;
    let all = may("kms:*", "*");
    let deny = |principal: Option<&str>| {
        let mut s = json!({"Effect": "Deny", "Action": "kms:Encr*", "Resource": "*"});
        if let Some(arn) = principal {
            s["Principal"] = json!({ "AWS": arn });
        }
        s
    };
    let split = |first: Value| {
        let both = [first, all["Statement"][0].clone()];
        json!({"Version": "2012-10-17", "Statement": both})
    };
    let (tenant, worker) = (rig.make_role("tenant").await, worker(&rig).await);
    for (by, role, in_key) in [
        (OPERATOR, &tenant, HIDDEN),
        (OWNER, &worker, "with an explicit deny in a resource-based policy"),
    ] {
        give(&rig, by, role, &all).await;
        let open = closed(&[allow(role, "kms:*")]);
        let key = rig.make_key(Some(open.clone())).await;
        let granted = json!({"KeyId": key, "GranteePrincipal": role, "Operations": ["Encrypt"]});
        rig.good(&user(OWNER), "CreateGrant", granted).await;
        let input = json!({"KeyId": key, "Plaintext": "AAAA"});
        let ask = async |session: &Key| rig.kms(session, "Encrypt", input.clone()).await;
        let session = assume(&rig, role, "s-1", None).await;
        assert_eq!(ask(&session).await.status, 200);
        let account = role.split(':').nth(4).expect("an account");
        for named in [role.as_str(), account, "*"] {
            put(&rig, &key, &closed(&[allow(role, "kms:*"), deny(Some(named))])).await;
            refused(&ask(&session).await, in_key, named);
        }
        put(&rig, &key, &open).await;
        give(&rig, by, role, &split(deny(None))).await;
        refused(&ask(&session).await, "with an explicit deny in an identity-based policy", role);
        give(&rig, by, role, &all).await;
        let narrow = assume(&rig, role, "s-2", Some(&split(deny(None)))).await;
        refused(&ask(&narrow).await, "with an explicit deny in a session policy", role);
        assert_eq!(ask(&session).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_by_whom() {
    let rig = Rig::new().await;
    let (tenant, worker) = (rig.make_role("tenant").await, worker(&rig).await);
    let key = rig.make_key(Some(closed(&[]))).await;
    let alias = format!("arn:aws:kms:{REGION}:{CUSTOMER}:alias/mine");
    let named = json!({"AliasName": "alias/mine", "TargetKeyId": key});
    assert_eq!(rig.kms(&user(OWNER), "CreateAlias", named).await.status, 200);
    let other = rig.make_key(None).await;
    let all = may("kms:*", "*");
    let (nothing, this) = (may("s3:GetObject", "*"), may("kms:Encrypt", &key));
    let (another, its_alias) = (may("kms:*", &other), may("kms:*", &alias));
    let decrypts = may("kms:Decrypt", "*");
    let but = identity(json!({"Effect": "Allow", "NotAction": "kms:encrypt", "Resource": "*"}));
    let elsewhere = identity(json!({"Effect": "Allow", "Action": "kms:*", "NotResource": key}));
    let of_session = |role: &str, account: &str, session: &str| {
        let name = role.rsplit('/').next().expect("a name");
        format!("arn:aws:sts::{account}:assumed-role/{name}/{session}")
    };
    let mine = of_session(&worker, CUSTOMER, "s-1");
    let theirs = of_session(&tenant, PROVIDER, "s-1");
    let sibling = of_session(&worker, CUSTOMER, "s-2");
    let half = |member: &str| {
        let mut statement = allow(&worker, "kms:*");
        statement.as_object_mut().expect("an object").remove(member);
        vec![statement]
    };
    let to = |principal: &str| vec![allow(principal, "kms:*")];
    // Role, the key's statements, identity policy, session policy, the end of the text or none.
    type Row<'a> = (&'a str, Vec<Value>, &'a Value, Option<&'a Value>, Option<&'a str>);
    let rows: Vec<Row<'_>> = vec![
        // The key's own account.
        (&worker, vec![], &all, None, Some(NO_KEY_POLICY)),
        (&worker, to(PROVIDER), &all, None, Some(NO_KEY_POLICY)),
        (&worker, to(CUSTOMER), &nothing, None, Some(NO_IDENTITY)),
        (&worker, to(CUSTOMER), &another, None, Some(NO_IDENTITY)),
        (&worker, to(CUSTOMER), &its_alias, None, Some(NO_IDENTITY)),
        (&worker, to(CUSTOMER), &but, None, Some(NO_IDENTITY)),
        (&worker, to(CUSTOMER), &elsewhere, None, Some(NO_IDENTITY)),
        (&worker, to(CUSTOMER), &decrypts, None, Some(NO_IDENTITY)),
        (&worker, vec![allow(CUSTOMER, "kms:Decrypt")], &all, None, Some(NO_KEY_POLICY)),
        (&worker, to(&tenant), &all, None, Some(NO_KEY_POLICY)),
        (&worker, to(&sibling), &all, None, Some(NO_KEY_POLICY)),
        (&worker, half("Action"), &all, None, Some(NO_KEY_POLICY)),
        (&worker, half("Resource"), &all, None, Some(NO_KEY_POLICY)),
        (&worker, to(&worker), &nothing, Some(&decrypts), Some(NO_SESSION)),
        (&worker, to(CUSTOMER), &all, Some(&decrypts), Some(NO_SESSION)),
        (&worker, to("*"), &all, Some(&another), Some(NO_SESSION)),
        (&worker, to(CUSTOMER), &this, Some(&this), None),
        (&worker, to(&worker), &nothing, None, None),
        (&worker, to(&mine), &nothing, Some(&decrypts), None),
        // Another account.
        (&tenant, vec![], &all, None, Some(HIDDEN)),
        (&tenant, to(CUSTOMER), &all, None, Some(HIDDEN)),
        (&tenant, to(&worker), &all, None, Some(HIDDEN)),
        (&tenant, vec![allow(&tenant, "kms:Decrypt")], &all, None, Some(HIDDEN)),
        (&tenant, to(&tenant), &nothing, None, Some(NO_IDENTITY)),
        (&tenant, to(&theirs), &nothing, None, Some(NO_IDENTITY)),
        (&tenant, to(PROVIDER), &nothing, None, Some(NO_IDENTITY)),
        (&tenant, to("*"), &nothing, None, Some(NO_IDENTITY)),
        (&tenant, to(&tenant), &another, None, Some(NO_IDENTITY)),
        (&tenant, to(&tenant), &all, Some(&decrypts), Some(NO_SESSION)),
        (&tenant, to(&theirs), &all, Some(&decrypts), Some(NO_SESSION)),
        (&tenant, to(PROVIDER), &this, None, None),
        (&tenant, to(&tenant), &this, Some(&all), None),
    ];
    let input = json!({"KeyId": key, "Plaintext": "AAAA"});
    for (number, (role, statements, own, session, wanted)) in rows.into_iter().enumerate() {
        put(&rig, &key, &closed(&statements)).await;
        give(&rig, if role == worker { OWNER } else { OPERATOR }, role, own).await;
        let session = assume(&rig, role, "s-1", session).await;
        let answer = rig.kms(&session, "Encrypt", input.clone()).await;
        match wanted {
            Some(tail) => refused(&answer, tail, &format!("row {number}")),
            None => assert_eq!(answer.status, 200, "row {number}: {}", answer.text),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_judged_by_its_own_key() {
    let rig = Rig::new().await;
    let tenant = rig.make_role("tenant").await;
    let policy = closed(&[allow(&tenant, "kms:*")]);
    let (mine, other) =
        (rig.make_key(Some(policy.clone())).await, rig.make_key(Some(policy)).await);
    give(&rig, OPERATOR, &tenant, &may("kms:*", &mine)).await;
    let session = assume(&rig, &tenant, "s-1", None).await;
    let owner = user(OWNER);
    let seal = async |key: &str| {
        let sealed = rig.good(&owner, "Encrypt", json!({"KeyId": key, "Plaintext": "AAAA"})).await;
        sealed["CiphertextBlob"].clone()
    };
    let (blob, foreign) = (seal(&mine).await, seal(&other).await);
    rig.good(&session, "Decrypt", json!({"CiphertextBlob": blob})).await;
    let refused_one = rig.kms(&session, "Decrypt", json!({"CiphertextBlob": foreign})).await;
    let tail = "because no identity-based policy allows the kms:Decrypt action";
    refused(&refused_one, tail, "the other key's blob");
    // Naming a key that he may use does not open the other's blob.
    let named = json!({"CiphertextBlob": foreign, "KeyId": mine});
    assert_eq!(rig.kms(&session, "Decrypt", named).await.code(), "IncorrectKeyException");
    for input in [
        json!({"CiphertextBlob": foreign, "DestinationKeyId": mine}),
        json!({"CiphertextBlob": blob, "DestinationKeyId": other}),
    ] {
        let answer = rig.kms(&session, "ReEncrypt", input).await;
        assert_eq!(answer.code(), "AccessDeniedException", "{}", answer.text);
    }
}
