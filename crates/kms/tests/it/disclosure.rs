//! What a stranger learns.

use crate::rig::{CUSTOMER, Key, NOBODY, NODE, OPERATOR, OWNER, REGION, Rig, policy, user};
use crate::trail::lookup;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn guessed_names_tell_a_stranger_nothing() {
    let rig = Rig::new().await;
    let key = rig.make_key(None).await;
    let id = key.rsplit('/').next().expect("an id");
    let made = json!({"AliasName": "alias/there", "TargetKeyId": key});
    assert_eq!(rig.kms(&user(OWNER), "CreateAlias", made).await.status, 200);
    let ask = async |name: &str| {
        let alias = format!("arn:aws:kms:{REGION}:{CUSTOMER}:alias/{name}");
        let answer = rig.kms(&user(OPERATOR), "DescribeKey", json!({"KeyId": alias})).await;
        (answer.code(), answer.text.replace(name, "NAME"))
    };
    let (there, absent) = (ask("there").await, ask("absent").await);
    assert_eq!(there, absent);
    assert_eq!(there.0, "AccessDeniedException");
    // Nor do operations that never work across accounts tell whether there is a key.
    let other = key.replace(id, "00000000-0000-4000-8000-000000000000");
    for operation in ["DisableKey", "GetKeyPolicy", "ListAliases", "ListResourceTags"] {
        let ask = async |arn: &str| {
            let answer = rig.kms(&user(OPERATOR), operation, json!({"KeyId": arn})).await;
            (answer.code(), answer.text.replace(arn, "ARN"))
        };
        let (there, absent) = (ask(&key).await, ask(&other).await);
        assert_eq!(there, absent, "{operation}");
        assert_eq!(there.0, "AccessDeniedException", "{operation}");
    }
    // Both accounts have the refusal; the stranger's record does not name the key.
    for (who, shown) in [(OPERATOR, false), (OWNER, true)] {
        let events = lookup(&rig, who, "DescribeKey").await;
        assert_eq!(events.len(), 2, "{who}");
        let text = serde_json::to_string(&events).expect("JSON");
        assert_eq!(text.contains(id), shown, "{text}");
    }
    // The same alias opens the key to who may use it.
    let role = rig.make_role("tenant").await;
    let session = rig.assume(&role).await;
    let open = json!({"KeyId": key, "Policy": policy(Some(&role)).to_string()});
    assert_eq!(rig.kms(&user(OWNER), "PutKeyPolicy", open).await.status, 200);
    let alias = format!("arn:aws:kms:{REGION}:{CUSTOMER}:alias/there");
    let described = rig.good(&session, "DescribeKey", json!({"KeyId": alias})).await;
    assert_eq!(described["KeyMetadata"]["Arn"], key.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_watch_is_on_record_and_a_long_context_is_refused() {
    let rig = Rig::new().await;
    let watch = json!({"Since": null, "WaitMillis": 1, "Watched": []});
    let refused = rig.json(&user(NOBODY), "kms", "Keystead.Watch", &watch).await;
    assert_eq!(refused.code(), "AccessDeniedException");
    let events = lookup(&rig, OWNER, "Watch").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["errorCode"], "AccessDenied");
    let key = rig.make_key(None).await;
    for (long, status) in [(8191, 200), (8192, 400)] {
        let context = json!({"a": "x".repeat(long)});
        let input = json!({"KeyId": key, "Plaintext": "AAAA", "EncryptionContext": context});
        let answer = rig.kms(&user(OWNER), "Encrypt", input).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn role_names_know_no_case_and_the_longest_session_policy_works() {
    let rig = Rig::new().await;
    let role = rig.make_role("tenant").await;
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"444455556666"}}]}"#;
    let fields =
        [("Action", "CreateRole"), ("RoleName", "Tenant"), ("AssumeRolePolicyDocument", trust)];
    let twice = rig.query(&user(OPERATOR), "iam", &fields).await;
    assert_eq!((twice.status, twice.element("Code").as_str()), (409, "EntityAlreadyExists"));
    let head = r#"{"Version":"2012-10-17","Id":""#;
    let tail = r#"","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}"#;
    let filler = "\u{1f511}".repeat(2048 - head.len() - tail.len());
    let policy = format!("{head}{filler}{tail}");
    let fields = [
        ("Action", "AssumeRole"),
        ("RoleArn", role.as_str()),
        ("RoleSessionName", "test"),
        ("Policy", policy.as_str()),
    ];
    let assumed = rig.query(&user(NODE), "sts", &fields).await;
    assert_eq!(assumed.status, 200, "{}", assumed.text);
    let session = Key {
        id: assumed.element("AccessKeyId"),
        secret: assumed.element("SecretAccessKey"),
        token: Some(assumed.element("SessionToken")),
    };
    assert_eq!(rig.kms(&session, "ListKeys", json!({})).await.status, 200);
}
