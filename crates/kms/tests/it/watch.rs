//! `Keystead.Watch` over the wire.

use crate::rig::{NOBODY, NODE, OWNER, Rig, policy, user};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

async fn watch(rig: &Rig, since: Value, key: &str, role: &str, wait: u64) -> Value {
    let input =
        json!({"Since": since, "WaitMillis": wait, "Watched": [{"KeyArn": key, "RoleArn": role}]});
    let answer = rig.json(&user(NODE), "kms", "Keystead.Watch", &input).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_that_matters_is_told_at_once_and_the_sequence_survives() {
    let mut rig = Rig::new().await;
    let role = rig.make_role("tenant").await;
    let key = rig.make_key(Some(policy(Some(&role)))).await;
    let other = rig.make_key(None).await;
    let first = watch(&rig, Value::Null, &key, &role, 1000).await;
    assert_eq!(first["Named"], json!([key]));
    let mut since = first["Sequence"].clone();
    let quiet = watch(&rig, since.clone(), &key, &role, 50).await;
    assert_eq!((&quiet["Named"], &quiet["Sequence"]), (&json!([]), &since));
    let owner = user(OWNER);
    let grant =
        json!({"KeyId": key, "GranteePrincipal": role, "Operations": ["Decrypt"], "Name": "g"});
    let steps: Vec<(&str, Value)> = vec![
        ("DisableKey", json!({"KeyId": key})),
        ("EnableKey", json!({"KeyId": key})),
        ("PutKeyPolicy", json!({"KeyId": key, "Policy": policy(None).to_string()})),
        ("CreateGrant", grant),
        ("ScheduleKeyDeletion", json!({"KeyId": key})),
        ("CancelKeyDeletion", json!({"KeyId": key})),
        ("TagResource", json!({"KeyId": key, "Tags": [{"TagKey": "t", "TagValue": ""}]})),
        ("CreateAlias", json!({"AliasName": "alias/a", "TargetKeyId": key})),
        // Away from this key.
        ("UpdateAlias", json!({"AliasName": "alias/a", "TargetKeyId": other})),
    ];
    for (operation, input) in steps {
        let waiting = watch(&rig, since.clone(), &key, &role, 10_000);
        let changing = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            // Changes of another key wake nobody here.
            rig.kms(
                &owner,
                "PutKeyPolicy",
                json!({"KeyId": other, "Policy": policy(None).to_string()}),
            )
            .await;
            let answer = rig.kms(&owner, operation, input.clone()).await;
            assert_eq!(answer.status, 200, "{operation}: {}", answer.text);
            Instant::now()
        };
        let (told, answered) = tokio::join!(waiting, changing);
        assert!(answered.elapsed() < Duration::from_secs(3), "{operation} was told late");
        assert_eq!(told["Named"], json!([key]), "{operation}");
        assert!(told["Sequence"].as_u64() > since.as_u64());
        since = told["Sequence"].clone();
    }
    let waiting = watch(&rig, since.clone(), &key, &role, 10_000);
    let operator = user(crate::rig::OPERATOR);
    let changing = rig.query(
        &operator,
        "iam",
        &[("Action", "DeleteRolePolicy"), ("RoleName", "tenant"), ("PolicyName", "keys")],
    );
    let (told, _) = tokio::join!(waiting, changing);
    assert_eq!(told["Named"], json!([key]));
    since = told["Sequence"].clone();
    rig.restart().await;
    let after = watch(&rig, since.clone(), &key, &role, 50).await;
    assert_eq!((&after["Sequence"], &after["Epoch"]), (&since, &first["Epoch"]));
    let refused = rig
        .json(
            &user(NOBODY),
            "kms",
            "Keystead.Watch",
            &json!({"Since": null, "WaitMillis": 1, "Watched": []}),
        )
        .await;
    assert_eq!(refused.code(), "AccessDeniedException");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_looks_at_the_clock_is_named_every_time() {
    let rig = Rig::new().await;
    let role = rig.make_role("tenant").await;
    let mut timed = policy(Some(&role));
    timed["Statement"][1]["Condition"] =
        json!({"DateLessThan": {"aws:CurrentTime": "2099-01-01T00:00:00Z"}});
    let key = rig.make_key(Some(timed)).await;
    let first = watch(&rig, Value::Null, &key, &role, 1000).await;
    let again = watch(&rig, first["Sequence"].clone(), &key, &role, 30).await;
    assert_eq!(again["Named"], json!([key]));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_keys_are_watched_in_one_call() {
    let rig = Rig::new().await;
    let role = rig.make_role("tenant-of-a-cluster-with-a-long-name").await;
    let key = rig.make_key(Some(policy(Some(&role)))).await;
    let mut watched = vec![json!({"KeyArn": key, "RoleArn": role})];
    let prefix = &key[..key.len() - 12];
    watched.extend(
        (1..10_000).map(|n| json!({"KeyArn": format!("{prefix}{n:012}"), "RoleArn": role})),
    );
    let ask = async |since: Value| {
        let input = json!({"Since": since, "WaitMillis": 30, "Watched": watched});
        let answer = rig.json(&user(NODE), "kms", "Keystead.Watch", &input).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    let first = ask(Value::Null).await;
    assert_eq!(first["Named"].as_array().map(Vec::len), Some(10_000));
    for operation in ["DisableKey", "EnableKey"] {
        assert_eq!(rig.kms(&user(OWNER), operation, json!({"KeyId": key})).await.status, 200);
    }
    let started = Instant::now();
    assert_eq!(ask(first["Sequence"].clone()).await["Named"], json!([key]));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}
