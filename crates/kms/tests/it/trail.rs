//! What is on record, and where.

use crate::rig::{CUSTOMER, OPERATOR, OWNER, PROVIDER, REGION, Rig, policy, user};
use keystead_aws::cloudtrail::TARGET_PREFIX;
use serde_json::{Value, json};

pub(crate) async fn lookup(rig: &Rig, who: u8, name: &str) -> Vec<Value> {
    lookup_in(rig, REGION, who, name).await
}

pub(crate) async fn lookup_in(rig: &Rig, region: &str, who: u8, name: &str) -> Vec<Value> {
    let target = format!("{TARGET_PREFIX}LookupEvents");
    let mut found = Vec::new();
    let mut token = Value::Null;
    loop {
        let mut input = json!({"MaxResults": 3, "LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": name}]});
        if !token.is_null() {
            input["NextToken"] = token;
        }
        let answer = rig.json_in(region, &user(who), "cloudtrail", &target, &input).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let page = answer.json();
        for event in page["Events"].as_array().expect("events") {
            let text = event["CloudTrailEvent"].as_str().expect("a record");
            found.push(serde_json::from_str(text).expect("JSON"));
        }
        token = page["NextToken"].clone();
        if token.is_null() {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cross_account_use_and_its_refusal_stand_in_both_accounts_without_secrets() {
    let rig = Rig::new().await;
    let role = rig.make_role("tenant").await;
    let session = rig.assume(&role).await;
    let key = rig.make_key(Some(policy(Some(&role)))).await;
    let made = rig
        .kms(
            &session,
            "GenerateDataKey",
            json!({"KeyId": key, "KeySpec": "AES_256", "EncryptionContext": {"c": "x"}}),
        )
        .await;
    let id = made.headers["x-amzn-requestid"].clone();
    let denied = rig.kms(&session, "DisableKey", json!({"KeyId": key})).await;
    assert_eq!(denied.code(), "AccessDeniedException");
    for (who, account) in [(OWNER, CUSTOMER), (OPERATOR, PROVIDER)] {
        let events = lookup(&rig, who, "GenerateDataKey").await;
        let event = events.iter().find(|e| e["requestID"] == id.as_str()).expect("on record");
        assert_eq!(event["recipientAccountId"], account);
        assert_eq!(event["requestParameters"]["encryptionContext"]["c"], "x");
        assert_eq!(event["resources"][0]["ARN"], key.as_str());
        let kind = if who == OWNER { "AWSAccount" } else { "AssumedRole" };
        assert_eq!(event["userIdentity"]["type"], kind);
        let refused = lookup(&rig, who, "DisableKey").await;
        assert_eq!(refused.len(), 1, "{who}");
        assert_eq!(refused[0]["errorCode"], "AccessDenied");
    }
    let plaintext = made.json()["Plaintext"].as_str().expect("base64").to_owned();
    let blob = made.json()["CiphertextBlob"].as_str().expect("base64").to_owned();
    let folder = rig.folder.as_ref().expect("its own").path().join("kms/trail");
    for file in std::fs::read_dir(&folder).expect("listed").flatten() {
        let text = std::fs::read_to_string(file.path()).expect("text");
        assert!(text.contains(&id));
        for secret in [&plaintext, &blob, &session.secret, session.token.as_ref().expect("a token")]
        {
            assert!(!text.contains(secret.as_str()), "a secret is on record");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_do_not_shift_and_nobody_sees_anothers_events() {
    let rig = Rig::new().await;
    for _ in 0..8 {
        rig.make_key(None).await;
    }
    assert_eq!(lookup(&rig, OWNER, "CreateKey").await.len(), 8);
    assert_eq!(lookup(&rig, OPERATOR, "CreateKey").await.len(), 0);
    let target = format!("{TARGET_PREFIX}LookupEvents");
    let bad = rig.json(&user(OWNER), "cloudtrail", &target, &json!({"NextToken": "AAAA"})).await;
    assert_eq!(bad.code(), "InvalidNextTokenException");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_at_once_is_on_record_in_both_accounts_all_the_same() {
    let rig = Rig::new().await;
    let key = rig.make_key(None).await;
    let input = json!({"KeyId": key});
    for _ in 0..100 {
        rig.send_and_hang_up(&user(OPERATOR), "DescribeKey", &input).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let theirs = lookup(&rig, OPERATOR, "DescribeKey").await.len();
    let ours = lookup(&rig, OWNER, "DescribeKey").await.len();
    assert_eq!(theirs, ours);
}
