//! Tags, aliases, descriptions, random bytes and HMAC keys: their rules and their records.

use crate::rig::{CUSTOMER, NOBODY, OPERATOR, OWNER, REGION, Rig, policy, user};
use crate::trail::lookup;
use serde_json::{Value, json};

async fn code(rig: &Rig, operation: &str, input: Value) -> String {
    rig.kms(&user(OWNER), operation, input).await.code()
}

async fn empty(rig: &Rig, operation: &str, input: Value) {
    let answer = rig.kms(&user(OWNER), operation, input).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{operation}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_holds_fifty_tags_in_every_state_but_a_pending_deletion() {
    let mut rig = Rig::new().await;
    let key = rig.make_key(None).await;
    let some = |from: u8, to: u8, value: &str| {
        let tags: Vec<Value> =
            (from..to).map(|n| json!({"TagKey": format!("k{n:02}"), "TagValue": value})).collect();
        json!({"KeyId": key, "Tags": tags})
    };
    empty(&rig, "TagResource", some(0, 49, "a")).await;
    assert_eq!(code(&rig, "TagResource", some(48, 51, "b")).await, "LimitExceededException");
    empty(&rig, "TagResource", some(48, 50, "b")).await;
    // New values of tags that are there are no new tags.
    empty(&rig, "TagResource", some(49, 50, "c")).await;
    rig.restart().await;
    let owner = user(OWNER);
    let mut seen = Vec::new();
    let mut marker = Value::Null;
    loop {
        let input = json!({"KeyId": key, "Limit": 20, "Marker": marker});
        let page = rig.good(&owner, "ListResourceTags", input).await;
        seen.extend(page["Tags"].as_array().expect("tags").clone());
        if page["Truncated"] == false {
            break;
        }
        marker = page["NextMarker"].clone();
    }
    assert_eq!(seen.len(), 50);
    assert_eq!(seen[47], json!({"TagKey": "k47", "TagValue": "a"}));
    assert_eq!(seen[48], json!({"TagKey": "k48", "TagValue": "b"}));
    assert_eq!(seen[49], json!({"TagKey": "k49", "TagValue": "c"}));
    let far = json!({"KeyId": key, "Limit": 51});
    assert_eq!(code(&rig, "ListResourceTags", far).await, "ValidationException");
    let bad = json!({"KeyId": key, "Marker": "?"});
    for operation in ["ListResourceTags", "ListKeyPolicies"] {
        assert_eq!(code(&rig, operation, bad.clone()).await, "InvalidMarkerException");
    }
    empty(&rig, "DisableKey", json!({"KeyId": key})).await;
    empty(&rig, "UntagResource", json!({"KeyId": key, "TagKeys": ["k00", "never"]})).await;
    let many: Vec<String> = (0..51).map(|i| format!("k{i}")).collect();
    let refused = code(&rig, "UntagResource", json!({"KeyId": key, "TagKeys": many})).await;
    assert_eq!(refused, "TagException");
    rig.good(&owner, "ScheduleKeyDeletion", json!({"KeyId": key})).await;
    for (operation, input) in [
        ("TagResource", some(0, 1, "d")),
        ("UntagResource", json!({"KeyId": key, "TagKeys": ["k01"]})),
        ("UpdateKeyDescription", json!({"KeyId": key, "Description": "x"})),
        ("CreateAlias", json!({"AliasName": "alias/late", "TargetKeyId": key})),
    ] {
        let refused = code(&rig, operation, input).await;
        assert_eq!(refused, "KMSInvalidStateException", "{operation}");
    }
    let left = rig.good(&owner, "ListResourceTags", json!({"KeyId": key})).await;
    assert_eq!(left["Tags"].as_array().map(Vec::len), Some(49));
    let named = rig.good(&owner, "ListKeyPolicies", json!({"KeyId": key})).await;
    assert_eq!(named, json!({"PolicyNames": ["default"], "Truncated": false}));
    // On record with what was asked; a refusal shows its error.
    let events = lookup(&rig, OWNER, "UntagResource").await;
    assert_eq!(events.len(), 3);
    let good = events.iter().find(|e| e["errorCode"].is_null()).expect("one that was done");
    let asked = json!({"keyId": key, "tagKeys": ["k00", "never"]});
    assert_eq!((&good["requestParameters"], &good["readOnly"]), (&asked, &json!(false)));
    assert_eq!(good["responseElements"], json!({"keyId": key}));
    let late = events
        .iter()
        .find(|e| e["errorCode"] == "KMSInvalidStateException")
        .expect("one that was refused");
    assert_eq!(late["errorCode"], "KMSInvalidStateException");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_moves_between_keys_of_its_kind_and_goes() {
    let mut rig = Rig::new().await;
    let owner = user(OWNER);
    let (one, two) = (rig.make_key(None).await, rig.make_key(None).await);
    let to = |key: &str| json!({"AliasName": "alias/a", "TargetKeyId": key});
    let points_at = async |rig: &Rig| {
        let found = rig.good(&user(OWNER), "DescribeKey", json!({"KeyId": "alias/a"})).await;
        found["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned()
    };
    assert_eq!(code(&rig, "UpdateAlias", to(&one)).await, "NotFoundException");
    assert_eq!(
        code(&rig, "DeleteAlias", json!({"AliasName": "alias/a"})).await,
        "NotFoundException"
    );
    empty(&rig, "CreateAlias", to(&one)).await;
    assert_eq!(code(&rig, "CreateAlias", to(&two)).await, "AlreadyExistsException");
    assert_eq!(code(&rig, "UpdateAlias", to("alias/a")).await, "NotFoundException");
    // The key that it leaves may be pending, the one that it comes to may not.
    rig.good(&owner, "ScheduleKeyDeletion", json!({"KeyId": one})).await;
    assert_eq!(code(&rig, "UpdateAlias", to(&one)).await, "KMSInvalidStateException");
    empty(&rig, "UpdateAlias", to(&two)).await;
    rig.restart().await;
    assert_eq!(points_at(&rig).await, two);
    let listed = rig.good(&owner, "ListAliases", json!({"KeyId": two})).await;
    let alias = &listed["Aliases"][0];
    assert!(alias["LastUpdatedDate"].as_f64() > alias["CreationDate"].as_f64(), "{alias}");
    assert_eq!(rig.good(&owner, "ListAliases", json!({"KeyId": one})).await["Aliases"], json!([]));
    // The policy of the key that it leaves has a say, and so has that of the key it comes to.
    let three = rig.make_key(None).await;
    for shut in [&two, &three] {
        let mut policy = policy(None);
        let mut deny = policy["Statement"][0].clone();
        deny["Effect"] = "Deny".into();
        deny["Action"] = json!(["kms:UpdateAlias", "kms:DeleteAlias"]);
        policy["Statement"].as_array_mut().expect("statements").push(deny);
        let put = json!({"KeyId": shut, "Policy": policy.to_string()});
        empty(&rig, "PutKeyPolicy", put).await;
        assert_eq!(code(&rig, "UpdateAlias", to(&three)).await, "AccessDeniedException");
        if *shut == two {
            let gone = json!({"AliasName": "alias/a"});
            assert_eq!(code(&rig, "DeleteAlias", gone).await, "AccessDeniedException");
        }
        let open = json!({"KeyId": two, "Policy": crate::rig::policy(None).to_string()});
        empty(&rig, "PutKeyPolicy", open).await;
    }
    assert_eq!(points_at(&rig).await, two);
    // Fifty aliases are the most.
    let full = rig.make_key(None).await;
    for n in 0..50 {
        let input = json!({"AliasName": format!("alias/n{n}"), "TargetKeyId": full});
        empty(&rig, "CreateAlias", input).await;
    }
    let more = json!({"AliasName": "alias/more", "TargetKeyId": full});
    assert_eq!(code(&rig, "CreateAlias", more).await, "LimitExceededException");
    assert_eq!(code(&rig, "UpdateAlias", to(&full)).await, "LimitExceededException");
    empty(&rig, "DeleteAlias", json!({"AliasName": "alias/n7"})).await;
    empty(&rig, "UpdateAlias", to(&full)).await;
    empty(&rig, "DeleteAlias", json!({"AliasName": "alias/a"})).await;
    rig.restart().await;
    assert_eq!(code(&rig, "DescribeKey", json!({"KeyId": "alias/a"})).await, "NotFoundException");
    let events = lookup(&rig, OWNER, "DeleteAlias").await;
    let good: Vec<_> = events.iter().filter(|e| e["errorCode"].is_null()).collect();
    assert_eq!(good.len(), 2);
    assert_eq!(good[0]["requestParameters"], json!({"aliasName": "alias/a"}));
    assert_eq!(good[0]["resources"][0]["ARN"], format!("arn:aws:kms:{REGION}:{CUSTOMER}:alias/a"));
    assert_eq!(good[0]["resources"][1]["ARN"], full.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hmac_key_is_managed_like_another_and_encrypts_nothing() {
    let mut rig = Rig::new().await;
    let owner = user(OWNER);
    let make = json!({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"});
    let made = rig.good(&owner, "CreateKey", make).await["KeyMetadata"].clone();
    let key = made["Arn"].as_str().expect("an ARN");
    assert_eq!(
        [&made["KeySpec"], &made["KeyUsage"], &made["MacAlgorithms"], &made["KeyState"]],
        [
            &json!("HMAC_256"),
            &json!("GENERATE_VERIFY_MAC"),
            &json!(["HMAC_SHA_256"]),
            &json!("Enabled")
        ]
    );
    for absent in ["EncryptionAlgorithms", "CurrentKeyMaterialId"] {
        assert!(made.get(absent).is_none(), "{absent}");
    }
    rig.restart().await;
    let described = rig.good(&owner, "DescribeKey", json!({"KeyId": key})).await;
    assert_eq!(described["KeyMetadata"], made);
    let symmetric = rig.make_key(None).await;
    let sealed =
        rig.good(&owner, "Encrypt", json!({"KeyId": symmetric, "Plaintext": "AAAA"})).await;
    let sealed = sealed["CiphertextBlob"].clone();
    let uses = [
        ("Encrypt", json!({"KeyId": key, "Plaintext": "AAAA"})),
        ("Decrypt", json!({"KeyId": key, "CiphertextBlob": sealed})),
        ("GenerateDataKey", json!({"KeyId": key, "NumberOfBytes": 32, "DryRun": true})),
        ("GenerateDataKeyWithoutPlaintext", json!({"KeyId": key, "KeySpec": "AES_256"})),
        ("ReEncrypt", json!({"CiphertextBlob": sealed, "DestinationKeyId": key})),
    ];
    for (operation, input) in &uses {
        let refused = rig.kms(&owner, operation, input.clone()).await.json();
        assert_eq!(refused["__type"], "InvalidKeyUsageException", "{operation}");
        let told =
            format!("{key} key usage is GENERATE_VERIFY_MAC which is not valid for {operation}.");
        assert_eq!(refused["message"], told);
    }
    for operation in
        ["EnableKeyRotation", "GetKeyRotationStatus", "RotateKeyOnDemand", "ListKeyRotations"]
    {
        let refused = rig.kms(&owner, operation, json!({"KeyId": key})).await.json();
        assert_eq!(refused["__type"], "UnsupportedOperationException", "{operation}");
        let told = format!("{key} key spec is HMAC_256 which is not valid for this operation.");
        assert_eq!(refused["message"], told);
    }
    for operation in ["GenerateMac", "VerifyMac", "Sign"] {
        let refused = code(&rig, operation, json!({"KeyId": key})).await;
        assert_eq!(refused, "UnsupportedOperationException", "{operation}");
    }
    let grant = |operation: &str| json!({"KeyId": key, "GranteePrincipal": CUSTOMER, "Operations": [operation]});
    assert_eq!(code(&rig, "CreateGrant", grant("Decrypt")).await, "ValidationError");
    rig.good(&owner, "CreateGrant", grant("GenerateMac")).await;
    // The state is told before the usage.
    empty(&rig, "DisableKey", json!({"KeyId": key})).await;
    assert_eq!(code(&rig, uses[0].0, uses[0].1.clone()).await, "DisabledException");
    rig.good(&owner, "ScheduleKeyDeletion", json!({"KeyId": key})).await;
    assert_eq!(code(&rig, uses[0].0, uses[0].1.clone()).await, "KMSInvalidStateException");
    for (spec, usage, wanted) in [
        ("HMAC_256", "ENCRYPT_DECRYPT", "ValidationException"),
        ("SYMMETRIC_DEFAULT", "GENERATE_VERIFY_MAC", "ValidationException"),
        ("HMAC_512", "GENERATE_VERIFY_MAC", "UnsupportedOperationException"),
        ("RSA_2048", "SIGN_VERIFY", "UnsupportedOperationException"),
    ] {
        let input = json!({"KeySpec": spec, "KeyUsage": usage});
        assert_eq!(code(&rig, "CreateKey", input).await, wanted, "{spec} {usage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_are_new_each_time_and_never_on_record() {
    let rig = Rig::new().await;
    let input = json!({"NumberOfBytes": 1024});
    let one = rig.good(&user(OPERATOR), "GenerateRandom", input.clone()).await;
    let two = rig.good(&user(OPERATOR), "GenerateRandom", input.clone()).await;
    let text = one["Plaintext"].as_str().expect("base64");
    assert_eq!(text.len(), 1368);
    assert_ne!(one, two);
    let refused = rig.kms(&user(NOBODY), "GenerateRandom", input).await;
    assert_eq!(refused.code(), "AccessDeniedException");
    let events = lookup(&rig, OPERATOR, "GenerateRandom").await;
    assert_eq!(events.len(), 2);
    assert!(!serde_json::to_string(&events).expect("JSON").contains(&text[..24]));
}
