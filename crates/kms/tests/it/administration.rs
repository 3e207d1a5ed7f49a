//! Who only uses the key never administers it: the tenant role with the brief's own key policy,
//! and the provider's administrator, whose account lets him do everything.

use crate::rig::{Answer, CUSTOMER, Key, NOBODY, OPERATOR, OWNER, PROVIDER, Rig, user};
use keystead_aws::ops::{Operation, TABLE};
use serde_json::{Value, json};

const BRIEF: &str = include_str!("../../../control/src/policy_of_the_brief.json");

/// A body that every operation takes; members that one does not know are ignored.
fn anything(key: &str) -> Value {
    json!({
        "KeyId": key, "TargetKeyId": key, "AliasName": "alias/mine", "Description": "mine",
        "Policy": open().to_string(), "PolicyName": "default", "PendingWindowInDays": 7,
        "Tags": [{"TagKey": "mine", "TagValue": "1"}], "TagKeys": ["theirs"],
        "RotationPeriodInDays": 90, "BypassPolicyLockoutSafetyCheck": true,
        "ReplicaRegion": "eu-west-1", "PrimaryRegion": "eu-west-1",
        "RetiringPrincipal": format!("arn:aws:iam::{CUSTOMER}:user/nobody"),
    })
}

/// A key policy that gives everything to everybody.
fn open() -> Value {
    json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}
    ]})
}

/// These name an alias of the caller's own account, where there is none.
const OF_OWN_ALIAS: [&str; 2] = ["DeleteAlias", "UpdateAlias"];

async fn refused(rig: &Rig, who: &Key, operation: &str, key: &str) {
    let Answer { status, text, .. } = rig.kms(who, operation, anything(key)).await;
    assert_eq!(status, 400, "{operation}: {text}");
    let wanted = if Operation::named(operation).is_none() {
        "UnsupportedOperationException"
    } else if OF_OWN_ALIAS.contains(&operation) && text.contains("NotFoundException") {
        "NotFoundException"
    } else {
        "AccessDeniedException"
    };
    assert!(text.contains(&format!("\"__type\":\"{wanted}\"")), "{operation}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_tenant_role_nor_the_providers_administrator_administers_the_key() {
    let rig = Rig::new().await;
    let owner = user(OWNER);
    let role = rig.make_role("tenant").await;
    let tenant = rig.assume(&role).await;
    let brief =
        BRIEF.replace("<customer-aws-account>", CUSTOMER).replace("<tenant-role-arn>", &role);
    let key = rig.make_key(Some(serde_json::from_str(&brief).expect("JSON"))).await;
    let look = async || {
        let described = rig.good(&owner, "DescribeKey", json!({"KeyId": key})).await;
        let policy = rig.good(&owner, "GetKeyPolicy", json!({"KeyId": key})).await;
        let aliases = rig.good(&owner, "ListAliases", json!({"KeyId": key})).await;
        let rotation = rig.good(&owner, "GetKeyRotationStatus", json!({"KeyId": key})).await;
        let all = json!({"KeyId": key, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"});
        let rotations = rig.good(&owner, "ListKeyRotations", all).await;
        (described, policy, aliases, rotation, rotations)
    };
    let before = look().await;
    // The tenant role does use the key; the provider's administrator does not even that.
    let use_it = json!({"KeyId": key, "Plaintext": "AAAA"});
    rig.good(&tenant, "Encrypt", use_it.clone()).await;
    let operator = rig.kms(&user(OPERATOR), "Encrypt", use_it).await;
    assert_eq!(operator.code(), "AccessDeniedException");
    // In the table or not, never let through.
    let named = [
        "RotateKeyOnDemand",
        "EnableKeyRotation",
        "DisableKeyRotation",
        "ReplicateKey",
        "UpdatePrimaryRegion",
        "DisableKey",
        "ScheduleKeyDeletion",
        "PutKeyPolicy",
    ];
    let closed = TABLE.iter().filter(|op| !op.cross_account && !op.iam_only).map(|op| op.name);
    for operation in named.into_iter().chain(closed) {
        refused(&rig, &tenant, operation, &key).await;
        refused(&rig, &user(OPERATOR), operation, &key).await;
    }
    assert_eq!(look().await, before);
    // Contract 3.1, 7: not even where the key policy gives everything to everybody.
    rig.good(&owner, "PutKeyPolicy", json!({"KeyId": key, "Policy": open().to_string()})).await;
    let before = look().await;
    for operation in TABLE.iter().filter(|op| !op.cross_account && !op.iam_only) {
        refused(&rig, &tenant, operation.name, &key).await;
        refused(&rig, &user(OPERATOR), operation.name, &key).await;
    }
    assert_eq!(look().await, before);
    // Nor do operations without a key heed such a policy.
    for operation in TABLE.iter().filter(|op| op.iam_only) {
        let mut input = anything(&key);
        input.as_object_mut().expect("an object").remove("Policy");
        input["NumberOfBytes"] = 32.into();
        let answer = rig.kms(&user(NOBODY), operation.name, input).await;
        assert_eq!(answer.code(), "AccessDeniedException", "{}: {}", operation.name, answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_administered_by_nobody_else_either() {
    let rig = Rig::new().await;
    let role = rig.make_role("tenant").await;
    let tenant = rig.assume(&role).await;
    let brief =
        BRIEF.replace("<customer-aws-account>", CUSTOMER).replace("<tenant-role-arn>", &role);
    let make = json!({"MultiRegion": true, "Policy": brief});
    let made = rig.good(&user(OWNER), "CreateKey", make).await["KeyMetadata"].clone();
    let (primary, id) = (made["Arn"].as_str().expect("an ARN"), &made["KeyId"]);
    let there = "eu-west-1";
    let replicate = json!({"KeyId": id, "ReplicaRegion": there, "Policy": brief});
    rig.good(&user(OWNER), "ReplicateKey", replicate).await;
    rig.until_enabled(there, id.as_str().expect("an id")).await;
    let replica = primary.replace(crate::rig::REGION, there);
    let rotations = async || {
        let all = json!({"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"});
        rig.good_in(there, "ListKeyRotations", all).await
    };
    let before = rotations().await;
    let sealed = json!({"KeyId": primary, "Plaintext": "AAAA"});
    let blob = rig.good(&tenant, "Encrypt", sealed).await["CiphertextBlob"].clone();
    let open = json!({"KeyId": replica, "CiphertextBlob": blob});
    let opened = rig.kms_in(there, &tenant, "Decrypt", &open).await;
    assert_eq!(opened.json()["Plaintext"], "AAAA", "{}", opened.text);
    for op in TABLE.iter().filter(|op| !op.cross_account && !op.iam_only) {
        for (region, key) in [(crate::rig::REGION, primary), (there, &*replica)] {
            for who in [&tenant, &user(OPERATOR)] {
                let answer = rig.kms_in(region, who, op.name, &anything(key)).await;
                let own_alias = OF_OWN_ALIAS.contains(&op.name);
                let wanted = if own_alias && answer.code() == "NotFoundException" {
                    "NotFoundException"
                } else {
                    "AccessDeniedException"
                };
                assert_eq!(answer.code(), wanted, "{} in {region}: {}", op.name, answer.text);
            }
        }
    }
    assert_eq!(rotations().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_grant_makes_an_administrator() {
    let rig = Rig::new().await;
    let role = rig.make_role("tenant").await;
    let tenant = rig.assume(&role).await;
    let key = rig.make_key(Some(crate::rig::policy(Some(&role)))).await;
    for operation in [
        "PutKeyPolicy",
        "DisableKey",
        "ScheduleKeyDeletion",
        "RotateKeyOnDemand",
        "EnableKeyRotation",
        "ReplicateKey",
    ] {
        for who in [&tenant, &user(OWNER)] {
            let input = json!({"KeyId": key, "Operations": [operation],
                "GranteePrincipal": format!("arn:aws:iam::{PROVIDER}:user/administrator")});
            let answer = rig.kms(who, "CreateGrant", input).await;
            assert_eq!(answer.code(), "ValidationException", "{operation}: {}", answer.text);
        }
    }
}
