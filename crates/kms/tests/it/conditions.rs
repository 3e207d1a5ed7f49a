//! Condition keys: each is there with its value where the table of `ops::conditions` says so, and
//! absent elsewhere. A Deny rests on each in turn: a server that does not know the key lets through
//! what must be refused, one that always has it refuses what must go through.

use crate::contract::give;
use crate::rig::{CUSTOMER, OPERATOR, OWNER, PROVIDER, REGION, Rig, policy, user};
use serde_json::{Value, json};

/// Puts a policy with one more statement, which denies these actions under this condition.
async fn deny(rig: &Rig, key: &str, role: &str, actions: Value, condition: Value) {
    let mut policy = policy(Some(role));
    policy["Statement"].as_array_mut().expect("statements").push(json!({
        "Effect": "Deny", "Principal": "*", "Resource": "*", "Action": actions, "Condition": condition
    }));
    let put = json!({"KeyId": key, "Policy": policy.to_string()});
    let answer = rig.kms(&user(OWNER), "PutKeyPolicy", put).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// An operation with its input.
type Input<'a> = (&'a str, Value);

const DENIED: &str = "AccessDeniedException";

#[tokio::test(flavor = "multi_thread")]
async fn each_key_of_a_call_on_a_key_is_there_where_the_table_says_so() {
    let rig = Rig::new().await;
    let owner = user(OWNER);
    let role = rig.make_role("tenant").await;
    let session = rig.assume(&role).await;
    let tags = json!([{"TagKey": "stage", "TagValue": "prod"}]);
    let made = rig.good(&owner, "CreateKey", json!({"Tags": tags})).await;
    let key = made["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned();
    let alias = json!({"AliasName": "alias/a", "TargetKeyId": key});
    assert_eq!(rig.kms(&owner, "CreateAlias", alias).await.status, 200);
    let sealed = rig.good(&owner, "Encrypt", json!({"KeyId": key, "Plaintext": "AAAA"})).await;
    let sealed = &sealed["CiphertextBlob"];
    let by = |id: &str| json!({"KeyId": id});
    let again = json!({"CiphertextBlob": sealed, "DestinationKeyId": key});
    let other = rig.make_key(None).await;
    let away = json!({"CiphertextBlob": sealed, "DestinationKeyId": other});
    let tag = |k: &str, v: &str| json!({"KeyId": key, "Tags": [{"TagKey": k, "TagValue": v}]});
    let untag = |k: &str| json!({"KeyId": key, "TagKeys": [k]});
    let window = |days: u8| json!({"KeyId": key, "PendingWindowInDays": days});
    let enc = json!({"KeyId": key, "Plaintext": "AAAA"});
    let node = format!("arn:aws:iam::{PROVIDER}:user/node");
    let grant = |retiring: &str| {
        json!({"KeyId": key, "GranteePrincipal": node, "RetiringPrincipal": retiring,
            "Operations": ["Decrypt"], "DryRun": true})
    };
    let admin = format!("arn:aws:iam::{CUSTOMER}:user/administrator");
    let bypass = json!({"KeyId": key, "Policy": "{", "BypassPolicyLockoutSafetyCheck": true});
    let no_bypass = json!({"KeyId": key, "Policy": "{"});
    // Condition key and value that refuse the first call; the second does not meet them.
    let cases: Vec<(&str, &str, &str, Input<'_>, Option<Input<'_>>)> = vec![
        ("StringEquals", "kms:KeySpec", "SYMMETRIC_DEFAULT", ("DescribeKey", by(&key)), None),
        ("StringEquals", "kms:KeyUsage", "ENCRYPT_DECRYPT", ("DescribeKey", by(&key)), None),
        ("StringEquals", "kms:KeyOrigin", "AWS_KMS", ("DisableKey", by(&key)), None),
        ("Bool", "kms:MultiRegion", "false", ("TagResource", tag("a", "b")), None),
        ("StringEquals", "aws:ResourceTag/stage", "prod", ("ListResourceTags", by(&key)), None),
        ("StringEquals", "aws:ResourceAccount", CUSTOMER, ("GetKeyPolicy", by(&key)), None),
        (
            "StringEquals",
            "kms:EncryptionAlgorithm",
            "SYMMETRIC_DEFAULT",
            ("Encrypt", enc.clone()),
            Some(("DescribeKey", by(&key))),
        ),
        (
            "StringEquals",
            "kms:RequestAlias",
            "alias/a",
            ("DescribeKey", by("alias/a")),
            Some(("DescribeKey", by(&key))),
        ),
        (
            "Bool",
            "kms:ReEncryptOnSameKey",
            "true",
            ("ReEncrypt", again.clone()),
            Some(("ReEncrypt", away.clone())),
        ),
        (
            "Bool",
            "kms:ReEncryptOnSameKey",
            "false",
            ("ReEncrypt", away),
            Some(("ReEncrypt", again)),
        ),
        (
            "StringEquals",
            "aws:RequestTag/stage",
            "dev",
            ("TagResource", tag("stage", "dev")),
            Some(("TagResource", tag("stage", "prod"))),
        ),
        (
            "ForAnyValue:StringEquals",
            "aws:TagKeys",
            "owner",
            ("TagResource", tag("owner", "x")),
            Some(("TagResource", tag("stage", "prod"))),
        ),
        (
            "ForAnyValue:StringEquals",
            "aws:TagKeys",
            "stage",
            ("UntagResource", untag("stage")),
            Some(("UntagResource", untag("other"))),
        ),
        (
            "NumericLessThan",
            "kms:ScheduleKeyDeletionPendingWindowInDays",
            "20",
            ("ScheduleKeyDeletion", window(7)),
            Some(("DescribeKey", by(&key))),
        ),
        (
            "StringEquals",
            "kms:RetiringPrincipal",
            &admin,
            ("CreateGrant", grant(&admin)),
            Some(("CreateGrant", grant(&role))),
        ),
        (
            "StringEquals",
            "kms:PolicyName",
            "default",
            ("GetKeyPolicy", by(&key)),
            Some(("DescribeKey", by(&key))),
        ),
        (
            "Bool",
            "kms:BypassPolicyLockoutSafetyCheck",
            "true",
            ("PutKeyPolicy", bypass),
            Some(("PutKeyPolicy", no_bypass)),
        ),
        ("StringEquals", "aws:username", "administrator", ("DescribeKey", by(&key)), None),
        ("StringEquals", "aws:PrincipalType", "User", ("DescribeKey", by(&key)), None),
        ("StringLike", "aws:userid", "AIDA*", ("DescribeKey", by(&key)), None),
        ("StringEquals", "aws:RequestedRegion", REGION, ("DescribeKey", by(&key)), None),
        ("Bool", "aws:ViaAWSService", "false", ("DescribeKey", by(&key)), None),
        ("DateGreaterThan", "aws:EpochTime", "1700000000", ("DescribeKey", by(&key)), None),
    ];
    for (operator, name, value, (refused, input), passes) in cases {
        let mut condition = json!({});
        condition[operator][name] = value.into();
        let actions = match refused {
            "ReEncrypt" => json!("kms:ReEncrypt*"),
            "PutKeyPolicy" => json!("kms:PutKeyPolicy"),
            _ => json!([
                "kms:Describe*",
                "kms:DisableKey",
                "kms:*Tag*",
                "kms:Encrypt",
                "kms:Schedule*",
                "kms:CreateGrant",
                "kms:GetKeyPolicy"
            ]),
        };
        deny(&rig, &key, &role, actions, condition).await;
        let answer = rig.kms(&owner, refused, input).await;
        assert_eq!(answer.code(), DENIED, "{name} {value}: {}", answer.text);
        if let Some((operation, input)) = passes {
            let answer = rig.kms(&owner, operation, input).await;
            assert_ne!(answer.code(), DENIED, "{name} {value}: {operation} {}", answer.text);
        }
    }
    // A user has no token, a session no user name; nobody is an AWS service here.
    let pairs = [
        ("aws:username", "false", "true"),
        ("aws:TokenIssueTime", "true", "false"),
        ("aws:UserAgent", "true", "true"),
        ("kms:ViaService", "true", "true"),
        ("aws:SourceArn", "true", "true"),
        ("aws:SourceVpce", "true", "true"),
        ("aws:PrincipalOrgID", "true", "true"),
        ("kms:RequestAlias", "true", "true"),
        ("kms:EncryptionContextKeys", "true", "true"),
        // Never in a key policy.
        ("kms:ResourceAliases", "true", "true"),
    ];
    for (name, of_user, of_session) in pairs {
        for (who, absent) in [(&owner, of_user), (&session, of_session)] {
            let mut condition = json!({});
            condition["Null"][name] = absent.into();
            deny(&rig, &key, &role, json!("kms:DescribeKey"), condition).await;
            let answer = rig.kms(who, "DescribeKey", by(&key)).await;
            assert_eq!(answer.code(), DENIED, "{name}: {}", answer.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_identity_and_trust_policies_are_there() {
    let rig = Rig::new().await;
    let (owner, operator) = (user(OWNER), user(OPERATOR));
    let role = rig.make_role("tenant").await;
    let session = rig.assume(&role).await;
    let key = rig.make_key(Some(policy(Some(&role)))).await;
    let own = async |condition: Value| {
        let document = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "kms:*", "Resource": "*", "Condition": condition}]});
        give(&rig, OPERATOR, "tenant", &document).await;
    };
    let describe =
        async || rig.kms(&session, "DescribeKey", json!({"KeyId": key})).await.status == 200;
    // An alias opens the key to a role that may use keys of that name, and its end shuts it.
    own(json!({"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/tenant-*"}})).await;
    assert!(!describe().await);
    let alias = json!({"AliasName": "alias/tenant-7", "TargetKeyId": key});
    assert_eq!(rig.kms(&owner, "CreateAlias", alias).await.status, 200);
    assert!(describe().await);
    let gone = json!({"AliasName": "alias/tenant-7"});
    assert_eq!(rig.kms(&owner, "DeleteAlias", gone).await.status, 200);
    assert!(!describe().await);
    // So does a tag.
    own(json!({"StringEquals": {"aws:ResourceTag/team": "a"}})).await;
    assert!(!describe().await);
    // One that differs by case is another tag and does not stand in for it.
    for (name, value, open) in [("Team", "a", true), ("team", "b", false), ("team", "a", true)] {
        let tags = json!([{"TagKey": name, "TagValue": value}]);
        let input = json!({"KeyId": key, "Tags": tags});
        assert_eq!(rig.kms(&owner, "TagResource", input).await.status, 200);
        assert_eq!(describe().await, open, "{name} {value}");
    }
    // A role's own tags, and the name of its session.
    let trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"AWS": format!("arn:aws:iam::{PROVIDER}:user/node")},
        "Condition": {"StringLike": {"sts:RoleSessionName": "te?t"}}}]});
    let made = rig
        .query(
            &operator,
            "iam",
            &[
                ("Action", "CreateRole"),
                ("RoleName", "tagged"),
                ("AssumeRolePolicyDocument", &trust.to_string()),
                ("Tags.member.1.Key", "team"),
                ("Tags.member.1.Value", "blue"),
            ],
        )
        .await;
    let tagged = made.element("Arn");
    let other = [("Action", "AssumeRole"), ("RoleArn", &*tagged), ("RoleSessionName", "other")];
    assert_eq!(rig.query(&user(crate::rig::NODE), "sts", &other).await.status, 403);
    let session = rig.assume(&tagged).await;
    for (team, open) in [("red", false), ("blue", true)] {
        let document = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "kms:*", "Resource": "*",
            "Condition": {"StringEquals": {"aws:PrincipalTag/team": team}}}]});
        give(&rig, OPERATOR, "tagged", &document).await;
        // What is made is looked at before it is made.
        let make = json!({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"});
        let made = rig.kms(&session, "CreateKey", make).await;
        assert_eq!(made.status == 200, open, "{team}: {}", made.text);
    }
    let document = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Action": "kms:CreateKey", "Resource": "*",
            "Condition": {"StringEquals": {"kms:KeySpec": "HMAC_256"}}},
        {"Effect": "Deny", "Action": "kms:TagResource", "Resource": "*",
            "Condition": {"StringNotEquals": {"aws:RequestTag/team": "blue"}}}]});
    give(&rig, OPERATOR, "tagged", &document).await;
    let hmac = json!({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"});
    for (input, wanted) in [
        (hmac, DENIED),
        (json!({"Tags": [{"TagKey": "team", "TagValue": "red"}]}), DENIED),
        (json!({"Tags": [{"TagKey": "team", "TagValue": "blue"}]}), ""),
        (json!({}), ""),
    ] {
        let answer = rig.kms(&session, "CreateKey", input.clone()).await;
        assert_eq!(answer.code(), wanted, "{input}");
    }
}
