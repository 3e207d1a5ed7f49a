//! Contract, section 4: what grants do not give. What is not here:
//! - [x] Name makes retries idempotent; a revoked grant is over at once; a grant outlives the
//!   policy; its context: `refusals::a_role_of_another_account_…`
//! - [x] a child gives no more than its parent, at random: `policy::tests::grants` of `aws`
//! - [x] states: `src/tests/states.rs`; a dry run grants nothing: `a_grant_that_is_not_made`
//! - [ ] the 50,001st grant of a key (slow to make; one comparison in `ops::grants::create`)

use crate::contract::{allow, assume, closed, give, identity, put};
use crate::rig::{CUSTOMER, Key, NOBODY, NODE, OPERATOR, OWNER, PROVIDER, Rig, user};
use serde_json::{Value, json};

fn arn(account: &str, what: &str) -> String {
    format!("arn:aws:iam::{account}:{what}")
}

async fn grants(rig: &Rig, key: &str) -> usize {
    let listed = rig.good(&user(OWNER), "ListGrants", json!({"KeyId": key})).await;
    listed["Grants"].as_array().expect("a list").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_not_made() {
    let rig = Rig::new().await;
    let key = rig.make_key(None).await;
    let role = rig.make_role("tenant").await;
    let sts = |what: &str| format!("arn:aws:sts::{PROVIDER}:{what}");
    let (arn_fault, shape) = ("InvalidArnException", "ValidationException");
    let pairs = |n: usize, value: usize| {
        let all = (0..n).map(|i| (i.to_string(), json!("x".repeat(value))));
        Value::Object(all.collect())
    };
    let subset = |pairs: Value| json!({ "EncryptionContextSubset": pairs });
    let equals = |pairs: Value| json!({ "EncryptionContextEquals": pairs });
    let rows = [
        ("GranteePrincipal", json!(arn(PROVIDER, "role/absent")), arn_fault),
        ("GranteePrincipal", json!(arn(PROVIDER, "role/Tenant")), arn_fault),
        ("GranteePrincipal", json!(arn(PROVIDER, "user/absent")), arn_fault),
        ("GranteePrincipal", json!(arn(PROVIDER, "group/all")), arn_fault),
        ("GranteePrincipal", json!(arn(PROVIDER, "role/*")), arn_fault),
        ("GranteePrincipal", json!(arn("999988887777", "root")), arn_fault),
        ("GranteePrincipal", json!("999988887777"), arn_fault),
        ("GranteePrincipal", json!("*"), arn_fault),
        ("GranteePrincipal", json!("ec2.amazonaws.com"), arn_fault),
        ("GranteePrincipal", json!(sts("assumed-role/tenant/*")), arn_fault),
        ("GranteePrincipal", json!(sts("assumed-role/tenant")), arn_fault),
        ("GranteePrincipal", json!(null), shape),
        ("RetiringPrincipal", json!(arn(PROVIDER, "role/absent")), arn_fault),
        ("RetiringPrincipal", json!("*"), arn_fault),
        ("Operations", json!([]), shape),
        ("Operations", json!(["decrypt"]), shape),
        ("Operations", json!(["ReEncrypt"]), shape),
        ("Operations", json!(["Decrypt", "PutKeyPolicy"]), shape),
        ("Operations", json!(["Sign"]), "ValidationError"),
        ("Operations", json!(["Decrypt", "GenerateMac"]), "ValidationError"),
        ("Constraints", subset(pairs(9, 1)), shape),
        ("Constraints", equals(pairs(9, 1)), shape),
        ("Constraints", subset(pairs(1, 385)), shape),
        // A constraint that is not served: ignored, the grant would have none.
        ("Constraints", json!({"SourceArn": "arn:aws:s3:::b"}), "UnsupportedOperationException"),
        ("GrantTokens", json!(["AAAA"]), "InvalidGrantTokenException"),
        ("GrantTokens", json!(vec!["AAAA"; 11]), shape),
        ("DryRun", json!(true), "DryRunOperationException"),
    ];
    for (member, value, wanted) in rows {
        let mut input = json!({"KeyId": key, "GranteePrincipal": role, "Operations": ["Decrypt"]});
        input[member] = value;
        let answer = rig.kms(&user(OWNER), "CreateGrant", input.clone()).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, wanted),
            "{input}: {}",
            answer.text
        );
    }
    assert_eq!(grants(&rig, &key).await, 0);
    let most = json!({"KeyId": key, "GranteePrincipal": role, "Operations": ["Decrypt"],
        "Constraints": subset(pairs(8, 384))});
    rig.good(&user(OWNER), "CreateGrant", most).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_gives_what_it_says_and_to_whom_it_says() {
    let rig = Rig::new().await;
    let (owner, node) = (user(OWNER), user(NODE));
    let (key, other) = (rig.make_key(None).await, rig.make_key(None).await);
    let role = rig.make_role("tenant").await;
    let grant = async |grantee: &str, operations: Value, constraints: Value| {
        let input = json!({"KeyId": key, "GranteePrincipal": grantee, "Operations": operations,
            "Constraints": constraints});
        rig.good(&owner, "CreateGrant", input).await
    };
    let code = async |who: &Key, operation: &str, key: &str, context: Value| {
        let input = json!({"KeyId": key, "Plaintext": "AAAA", "NumberOfBytes": 16,
            "EncryptionContext": context, "DryRun": true});
        rig.kms(who, operation, input).await.code()
    };
    let (yes, no) = ("DryRunOperationException", "AccessDeniedException");
    let a = || json!({"a": "1"});
    let made = grant(
        &arn(PROVIDER, "user/node"),
        json!(["Encrypt", "DescribeKey"]),
        json!({"EncryptionContextSubset": {"a": "1"}}),
    )
    .await;
    assert_eq!(code(&node, "Encrypt", &key, a()).await, yes);
    assert_eq!(code(&node, "Encrypt", &key, json!({"a": "1", "b": "2"})).await, yes);
    // DescribeKey has no context to be held against.
    rig.good(&node, "DescribeKey", json!({"KeyId": key})).await;
    for context in [json!({}), json!({"a": "2"}), json!({"A": "1"}), json!({"b": "1"})] {
        assert_eq!(code(&node, "Encrypt", &key, context.clone()).await, no, "{context}");
    }
    // Other operations, another key, other people, a token in other hands.
    assert_eq!(code(&node, "GenerateDataKey", &key, a()).await, no);
    assert_eq!(code(&node, "Encrypt", &other, a()).await, no);
    for who in [NOBODY, OPERATOR] {
        let input = json!({"KeyId": key, "Plaintext": "AAAA", "EncryptionContext": a(),
            "GrantTokens": [made["GrantToken"]]});
        assert_eq!(rig.kms(&user(who), "Encrypt", input).await.code(), no, "{who}");
    }
    for operation in ["ListGrants", "GetKeyPolicy", "DisableKey"] {
        assert_eq!(rig.kms(&node, operation, json!({"KeyId": key})).await.code(), no);
    }
    rig.good(&owner, "RevokeGrant", json!({"KeyId": key, "GrantId": made["GrantId"]})).await;
    assert_eq!(code(&node, "Encrypt", &key, a()).await, no);
    grant(
        &arn(PROVIDER, "user/node"),
        json!(["Encrypt"]),
        json!({"EncryptionContextEquals": {"a": "1"}}),
    )
    .await;
    assert_eq!(code(&node, "Encrypt", &key, a()).await, yes);
    assert_eq!(code(&node, "Encrypt", &key, json!({"a": "1", "b": "2"})).await, no);
    // A session named itself: not its siblings, and in another account within its session policy.
    let nothing = identity(json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"}));
    give(&rig, OPERATOR, &role, &nothing).await;
    grant(
        &format!("arn:aws:sts::{PROVIDER}:assumed-role/tenant/s-1"),
        json!(["Encrypt"]),
        json!({}),
    )
    .await;
    let session = assume(&rig, &role, "s-1", None).await;
    let sibling = assume(&rig, &role, "s-2", None).await;
    let narrow = assume(&rig, &role, "s-1", Some(&nothing)).await;
    assert_eq!(code(&session, "Encrypt", &key, a()).await, yes);
    assert_eq!(code(&sibling, "Encrypt", &key, a()).await, no);
    assert_eq!(code(&narrow, "Encrypt", &key, a()).await, no);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_grants_by_a_grant_gives_no_more_than_he_has() {
    let rig = Rig::new().await;
    let (owner, node) = (user(OWNER), user(NODE));
    let parent = |constraints: Value| {
        json!({"GranteePrincipal": arn(PROVIDER, "user/node"),
        "Operations": ["CreateGrant", "Decrypt"], "Constraints": constraints})
    };
    let subset = |pairs: Value| json!({ "EncryptionContextSubset": pairs });
    let equals = |pairs: Value| json!({ "EncryptionContextEquals": pairs });
    let (one, two) = (json!({"a": "1"}), json!({"a": "1", "b": "2"}));
    let decrypt = json!(["Decrypt"]);
    let rows = [
        (json!({}), json!(["Decrypt", "Encrypt"]), json!({}), false),
        (json!({}), json!(["RetireGrant"]), json!({}), false),
        (json!({}), decrypt.clone(), json!({}), true),
        (subset(one.clone()), decrypt.clone(), json!({}), false),
        (subset(two.clone()), decrypt.clone(), subset(one.clone()), false),
        (subset(one.clone()), decrypt.clone(), subset(json!({"a": "2"})), false),
        (subset(one.clone()), decrypt.clone(), subset(two.clone()), true),
        (subset(one.clone()), decrypt.clone(), equals(two.clone()), true),
        (equals(one.clone()), decrypt.clone(), json!({}), false),
        (equals(one.clone()), decrypt.clone(), subset(one.clone()), false),
        (equals(one.clone()), decrypt.clone(), equals(two), false),
        (equals(one.clone()), decrypt, equals(one), true),
    ];
    for (number, (held, operations, constraints, fine)) in rows.into_iter().enumerate() {
        let key = rig.make_key(None).await;
        let mut input = parent(held);
        input["KeyId"] = key.as_str().into();
        rig.good(&owner, "CreateGrant", input).await;
        let child = json!({"KeyId": key, "GranteePrincipal": arn(PROVIDER, "user/administrator"),
            "Operations": operations, "Constraints": constraints});
        let answer = rig.kms(&node, "CreateGrant", child).await;
        let wanted = if fine { "" } else { "AccessDeniedException" };
        assert_eq!(answer.code(), wanted, "row {number}: {}", answer.text);
        assert_eq!(grants(&rig, &key).await, if fine { 2 } else { 1 }, "row {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_retire_or_revoke() {
    let rig = Rig::new().await;
    let owner = user(OWNER);
    let role = rig.make_role("tenant").await;
    let session = assume(&rig, &role, "s-1", None).await;
    let key = rig.make_key(Some(closed(&[allow(&role, "kms:*")]))).await;
    let other = rig.make_key(None).await;
    let make = async |who: &Key, operations: Value| {
        let input = json!({"KeyId": key, "GranteePrincipal": arn(PROVIDER, "user/node"),
            "RetiringPrincipal": arn(CUSTOMER, "user/nobody"), "Operations": operations});
        rig.good(who, "CreateGrant", input).await
    };
    let retire = async |who: &Key, grant: &Value| {
        let input = json!({"GrantToken": grant["GrantToken"]});
        rig.kms(who, "RetireGrant", input).await.code()
    };
    let no = "AccessDeniedException";
    let made = make(&owner, json!(["Decrypt"])).await;
    // The grantee whom nobody gave RetireGrant; another account's administrator; a role to whom
    // the key policy gives kms:RetireGrant, which is void there.
    for who in [&user(NODE), &user(OPERATOR), &session] {
        assert_eq!(retire(who, &made).await, no, "{who:?}");
        let input = json!({"KeyId": key, "GrantId": made["GrantId"]});
        assert_eq!(rig.kms(who, "RetireGrant", input).await.code(), no, "{who:?}");
    }
    for who in [NODE, OPERATOR, NOBODY] {
        let input = json!({"KeyId": key, "GrantId": made["GrantId"]});
        assert_eq!(rig.kms(&user(who), "RevokeGrant", input).await.code(), no, "{who}");
    }
    // What names no grant of this key.
    for (operation, input, wanted) in [
        ("RevokeGrant", json!({"KeyId": key, "GrantId": "00"}), "InvalidGrantIdException"),
        (
            "RevokeGrant",
            json!({"KeyId": other, "GrantId": made["GrantId"]}),
            "InvalidGrantIdException",
        ),
        (
            "RevokeGrant",
            json!({"KeyId": key, "GrantToken": made["GrantToken"]}),
            "ValidationException",
        ),
        ("RetireGrant", json!({"KeyId": key, "GrantId": "00"}), "InvalidGrantIdException"),
        (
            "RetireGrant",
            json!({"KeyId": other, "GrantId": made["GrantId"]}),
            "InvalidGrantIdException",
        ),
        ("RetireGrant", json!({"GrantToken": "AAAA"}), "InvalidGrantTokenException"),
        ("RetireGrant", json!({"KeyId": key}), "ValidationException"),
        ("RetireGrant", json!({}), "ValidationException"),
    ] {
        let answer = rig.kms(&owner, operation, input.clone()).await;
        assert_eq!(answer.code(), wanted, "{operation} {input}: {}", answer.text);
    }
    let id = key.rsplit('/').next().expect("an id");
    let bare = json!({"KeyId": id, "GrantId": made["GrantId"]});
    assert_eq!(rig.kms(&owner, "RetireGrant", bare).await.code(), "ValidationException");
    assert_eq!(grants(&rig, &key).await, 1);
    // A Deny in the key policy holds the retiring principal too.
    let mut deny = allow("*", "kms:RetireGrant");
    deny["Effect"] = "Deny".into();
    put(&rig, &key, &closed(&[allow(&role, "kms:*"), deny])).await;
    assert_eq!(retire(&user(NOBODY), &made).await, no);
    put(&rig, &key, &closed(&[allow(&role, "kms:*")])).await;
    assert_eq!(retire(&user(NOBODY), &made).await, "");
    assert_eq!(retire(&user(NOBODY), &made).await, "InvalidGrantIdException");
    // The grantee who was given it; the account that made the grant, by its own policies.
    let made = make(&owner, json!(["Decrypt", "RetireGrant"])).await;
    assert_eq!(retire(&user(NODE), &made).await, "");
    let made = make(&session, json!(["Decrypt"])).await;
    assert_eq!(retire(&owner, &made).await, no, "another account made it");
    assert_eq!(retire(&user(NODE), &made).await, no, "nobody allows it to the node");
    assert_eq!(retire(&user(OPERATOR), &made).await, "");
    assert_eq!(grants(&rig, &key).await, 0);
}
