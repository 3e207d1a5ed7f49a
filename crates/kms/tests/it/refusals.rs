//! What a permissive server would let through.

use crate::rig::{CUSTOMER, Key, NOBODY, NODE, OPERATOR, OWNER, REGION, Rig, now_ms, policy, user};
use serde_json::{Value, json};

const HEADERS: [(&str, &str); 2] =
    [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "TrentService.ListKeys")];

#[tokio::test(flavor = "multi_thread")]
async fn signatures_that_do_not_hold_are_refused_each_by_its_name() {
    let rig = Rig::new().await;
    let owner = user(OWNER);
    let list = async |key: &Key, service: &str, at: i64, spoil: fn(String) -> String| {
        rig.send(key, service, &HEADERS, "{}", at, spoil).await
    };
    let good = list(&owner, "kms", now_ms(), |t| t).await;
    assert_eq!(good.status, 200, "{}", good.text);
    assert_eq!(good.headers["x-amzn-requestid"].len(), 36);
    let wrong = Key { secret: "not the secret at all".into(), ..owner.clone() };
    let unknown = Key { id: "AKIAZZZZZZZZZZZZZZZZ".into(), ..owner.clone() };
    let token = Key { token: Some("bad token".into()), ..owner.clone() };
    let unchanged: fn(String) -> String = |t| t;
    let cases: [(&str, crate::rig::Answer); 9] = [
        ("InvalidSignatureException", list(&wrong, "kms", now_ms(), unchanged).await),
        ("UnrecognizedClientException", list(&unknown, "kms", now_ms(), unchanged).await),
        ("UnrecognizedClientException", list(&token, "kms", now_ms(), unchanged).await),
        ("InvalidSignatureException", list(&owner, "kms", now_ms() - 301_000, unchanged).await),
        ("InvalidSignatureException", list(&owner, "kms", now_ms() + 301_000, unchanged).await),
        ("InvalidSignatureException", list(&owner, "s3", now_ms(), unchanged).await),
        // Another body, another host, no header at all.
        ("InvalidSignatureException", {
            list(&owner, "kms", now_ms(), |t| t.replace("\r\n\r\n{}", "\r\n\r\n[]")).await
        }),
        ("InvalidSignatureException", {
            list(&owner, "kms", now_ms(), |t| t.replace("host: 127.0.0.1", "host: 127.0.0.2")).await
        }),
        ("MissingAuthenticationTokenException", {
            list(&owner, "kms", now_ms(), |t| t.replace("authorization:", "x-other:")).await
        }),
    ];
    for (number, (name, answer)) in cases.into_iter().enumerate() {
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, name),
            "case {number}: {}",
            answer.text
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_or_changes_anything_without_a_policy_that_says_so() {
    let rig = Rig::new().await;
    let arn = rig.make_key(None).await;
    let context = json!({"a": "b"});
    let sealed = rig
        .good(
            &user(OWNER),
            "Encrypt",
            json!({"KeyId": arn, "Plaintext": "AAAA", "EncryptionContext": context}),
        )
        .await["CiphertextBlob"]
        .clone();
    let made = json!({"AliasName": "alias/there", "TargetKeyId": arn});
    assert_eq!(rig.kms(&user(OWNER), "CreateAlias", made.clone()).await.status, 200);
    let tags = json!([{"TagKey": "t", "TagValue": "v"}]);
    let inputs: Vec<(&str, Value)> = vec![
        ("UpdateKeyDescription", json!({"KeyId": arn, "Description": "mine"})),
        ("ListKeyPolicies", json!({"KeyId": arn})),
        ("TagResource", json!({"KeyId": arn, "Tags": tags})),
        ("UntagResource", json!({"KeyId": arn, "TagKeys": ["t"]})),
        ("ListResourceTags", json!({"KeyId": arn})),
        ("UpdateAlias", made),
        ("DeleteAlias", json!({"AliasName": "alias/there"})),
        ("GenerateRandom", json!({"NumberOfBytes": 1})),
        ("DescribeKey", json!({"KeyId": arn})),
        ("Encrypt", json!({"KeyId": arn, "Plaintext": "AAAA"})),
        ("Decrypt", json!({"CiphertextBlob": sealed, "EncryptionContext": context})),
        (
            "ReEncrypt",
            json!({"CiphertextBlob": sealed, "SourceEncryptionContext": context, "DestinationKeyId": arn}),
        ),
        ("GenerateDataKey", json!({"KeyId": arn, "KeySpec": "AES_256"})),
        ("GenerateDataKeyWithoutPlaintext", json!({"KeyId": arn, "NumberOfBytes": 64})),
        ("EnableKey", json!({"KeyId": arn})),
        ("DisableKey", json!({"KeyId": arn})),
        ("ScheduleKeyDeletion", json!({"KeyId": arn, "PendingWindowInDays": 7})),
        ("CancelKeyDeletion", json!({"KeyId": arn})),
        ("GetKeyPolicy", json!({"KeyId": arn})),
        ("PutKeyPolicy", json!({"KeyId": arn, "Policy": policy(None).to_string()})),
        ("CreateAlias", json!({"AliasName": "alias/x", "TargetKeyId": arn})),
        (
            "CreateGrant",
            json!({"KeyId": arn, "GranteePrincipal": format!("arn:aws:iam::{CUSTOMER}:user/nobody"), "Operations": ["Decrypt"]}),
        ),
        ("ListGrants", json!({"KeyId": arn})),
        ("RevokeGrant", json!({"KeyId": arn, "GrantId": "00"})),
        ("EnableKeyRotation", json!({"KeyId": arn})),
        ("DisableKeyRotation", json!({"KeyId": arn})),
        ("GetKeyRotationStatus", json!({"KeyId": arn})),
        ("RotateKeyOnDemand", json!({"KeyId": arn})),
        ("ListKeyRotations", json!({"KeyId": arn})),
        ("ReplicateKey", json!({"KeyId": arn, "ReplicaRegion": "eu-west-1"})),
        ("UpdatePrimaryRegion", json!({"KeyId": arn, "PrimaryRegion": "eu-west-1"})),
        (
            "ListRetirableGrants",
            json!({"RetiringPrincipal": format!("arn:aws:iam::{CUSTOMER}:user/nobody")}),
        ),
        ("CreateKey", json!({"MultiRegion": true})),
        ("CreateKey", json!({})),
        ("ListKeys", json!({})),
        ("ListAliases", json!({})),
    ];
    for (operation, input) in inputs {
        // The customer's own nobody, the provider's administrator, the provider's node.
        let callers: &[u8] = match operation {
            // These have no key: an administrator of another account acts on his own.
            "CreateKey" | "ListKeys" | "ListAliases" | "GenerateRandom" => &[NOBODY, NODE],
            // An administrator of another account may ask of his own principals only.
            "ListRetirableGrants" => &[NOBODY, NODE],
            // An alias of that name in the caller's own account: the operator has none.
            "DeleteAlias" | "UpdateAlias" => &[NOBODY, NODE],
            // Refused for its alias' sake in nobody's case, for the key's in the operator's.
            _ => &[NOBODY, OPERATOR, NODE],
        };
        for caller in callers {
            let answer = rig.kms(&user(*caller), operation, input.clone()).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (400, "AccessDeniedException"),
                "{operation} by {caller}: {}",
                answer.text
            );
        }
    }
    let now = rig.good(&user(OWNER), "DescribeKey", json!({"KeyId": arn})).await;
    assert_eq!(now["KeyMetadata"]["KeyState"], "Enabled");
    assert_eq!(now["KeyMetadata"]["Description"], "");
    let alias = rig.good(&user(OWNER), "DescribeKey", json!({"KeyId": "alias/there"})).await;
    assert_eq!(alias["KeyMetadata"]["Arn"], arn.as_str());
    let tags = rig.good(&user(OWNER), "ListResourceTags", json!({"KeyId": arn})).await;
    assert_eq!(tags["Tags"], json!([]));
    let grants = rig.good(&user(OWNER), "ListGrants", json!({"KeyId": arn})).await;
    assert_eq!(grants["Grants"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_of_another_account_needs_both_hands_and_loses_what_is_taken() {
    let rig = Rig::new().await;
    let role = rig.make_role("tenant").await;
    let session = rig.assume(&role).await;
    let arn = rig.make_key(Some(policy(None))).await;
    let owner = user(OWNER);
    let input = json!({"KeyId": arn, "NumberOfBytes": 64, "EncryptionContext": {"c": "1"}});
    let make = "GenerateDataKeyWithoutPlaintext";
    assert_eq!(rig.kms(&session, make, input.clone()).await.code(), "AccessDeniedException");
    let put = async |role: Option<&str>| {
        rig.good(&owner, "PutKeyPolicy", json!({"KeyId": arn, "Policy": policy(role).to_string()}))
            .await
    };
    put(Some(&role)).await;
    let made = rig.good(&session, make, input.clone()).await;
    assert!(made.get("Plaintext").is_none());
    let blob = made["CiphertextBlob"].clone();
    let open = json!({"KeyId": arn, "CiphertextBlob": blob, "EncryptionContext": {"c": "1"}});
    let opened = rig.good(&session, "Decrypt", open.clone()).await;
    assert_eq!(opened["Plaintext"].as_str().expect("base64").len(), 88);
    // Nothing that administers the key.
    for (operation, more) in [
        ("DisableKey", json!({})),
        ("ScheduleKeyDeletion", json!({})),
        ("PutKeyPolicy", json!({"Policy": policy(None).to_string()})),
        ("GetKeyPolicy", json!({})),
    ] {
        let mut input = more;
        input["KeyId"] = arn.clone().into();
        let answer = rig.kms(&session, operation, input).await;
        assert_eq!(answer.code(), "AccessDeniedException", "{operation}: {}", answer.text);
    }
    // A grant outlives the policy; revoked, it is over at once.
    let node = format!("arn:aws:iam::{}:user/node", crate::rig::PROVIDER);
    let granted = rig
        .good(&session, "CreateGrant", json!({
            "KeyId": arn, "GranteePrincipal": node, "Operations": ["Decrypt"], "Name": "vol/node",
            "Constraints": {"EncryptionContextSubset": {"c": "1"}}
        }))
        .await;
    let again = rig
        .good(&session, "CreateGrant", json!({
            "KeyId": arn, "GranteePrincipal": node, "Operations": ["Decrypt"], "Name": "vol/node",
            "Constraints": {"EncryptionContextSubset": {"c": "1"}}
        }))
        .await;
    assert_eq!(granted["GrantId"], again["GrantId"]);
    assert_ne!(granted["GrantToken"], again["GrantToken"]);
    let by_grant = json!({"KeyId": arn, "CiphertextBlob": blob, "EncryptionContext": {"c": "1"},
        "GrantTokens": [granted["GrantToken"]], "DryRun": true});
    let node_key = user(NODE);
    let dry = async || rig.kms(&node_key, "Decrypt", by_grant.clone()).await.code();
    assert_eq!(dry().await, "DryRunOperationException");
    put(None).await;
    assert_eq!(rig.kms(&session, "Decrypt", open.clone()).await.code(), "AccessDeniedException");
    assert_eq!(dry().await, "DryRunOperationException");
    let other = json!({"KeyId": arn, "CiphertextBlob": blob, "EncryptionContext": {"c": "2"}});
    assert_eq!(rig.kms(&node_key, "Decrypt", other).await.code(), "AccessDeniedException");
    let id = granted["GrantId"].clone();
    rig.good(&owner, "RevokeGrant", json!({"KeyId": arn, "GrantId": id})).await;
    assert_eq!(dry().await, "AccessDeniedException");
    // The role made again under its name is another principal.
    put(Some(&role)).await;
    assert_eq!(rig.kms(&session, "Decrypt", open.clone()).await.status, 200);
    let operator = user(OPERATOR);
    for action in [
        &[("Action", "DeleteRolePolicy"), ("RoleName", "tenant"), ("PolicyName", "keys")][..],
        &[("Action", "DeleteRole"), ("RoleName", "tenant")][..],
    ] {
        let answer = rig.query(&operator, "iam", action).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert_eq!(
        rig.kms(&session, "Decrypt", open.clone()).await.code(),
        "UnrecognizedClientException"
    );
    assert_eq!(rig.make_role("tenant").await, role);
    let session = rig.assume(&role).await;
    assert_eq!(rig.kms(&session, "Decrypt", open).await.code(), "AccessDeniedException");
}

#[tokio::test(flavor = "multi_thread")]
async fn states_contexts_and_windows_are_enforced_and_survive_a_restart() {
    let mut rig = Rig::new().await;
    let arn = rig.make_key(None).await;
    let owner = user(OWNER);
    let sealed = rig
        .good(
            &owner,
            "Encrypt",
            json!({"KeyId": arn, "Plaintext": "c2VjcmV0", "EncryptionContext": {"a": "bc"}}),
        )
        .await["CiphertextBlob"]
        .clone();
    let open = |context: Value| json!({"CiphertextBlob": sealed, "EncryptionContext": context});
    let code = async |rig: &Rig, operation: &str, input: Value| {
        rig.kms(&owner, operation, input).await.code()
    };
    assert_eq!(code(&rig, "Decrypt", open(json!({"ab": "c"}))).await, "InvalidCiphertextException");
    assert_eq!(code(&rig, "Decrypt", open(json!({}))).await, "InvalidCiphertextException");
    let key = json!({"KeyId": arn});
    rig.good(&owner, "CreateAlias", json!({"AliasName": "alias/mine", "TargetKeyId": arn})).await;
    assert_eq!(code(&rig, "CancelKeyDeletion", key.clone()).await, "KMSInvalidStateException");
    rig.kms(&owner, "DisableKey", key.clone()).await;
    rig.restart().await;
    assert_eq!(code(&rig, "Decrypt", open(json!({"a": "bc"}))).await, "DisabledException");
    assert_eq!(
        code(
            &rig,
            "CreateGrant",
            json!({"KeyId": arn, "GranteePrincipal": CUSTOMER, "Operations": ["Decrypt"]})
        )
        .await,
        "DisabledException"
    );
    rig.kms(&owner, "EnableKey", key.clone()).await;
    let alias =
        json!({"KeyId": "alias/mine", "CiphertextBlob": sealed, "EncryptionContext": {"a": "bc"}});
    assert_eq!(rig.good(&owner, "Decrypt", alias).await["Plaintext"], "c2VjcmV0");
    let short = json!({"KeyId": arn, "PendingWindowInDays": 6});
    assert_eq!(code(&rig, "ScheduleKeyDeletion", short).await, "ValidationException");
    let scheduled = rig
        .good(&owner, "ScheduleKeyDeletion", json!({"KeyId": arn, "PendingWindowInDays": 7}))
        .await;
    let date = scheduled["DeletionDate"].as_f64().expect("a date");
    assert!((date * 1000.0 - now_ms() as f64 - 7.0 * 86_400_000.0).abs() < 60_000.0);
    for operation in ["EnableKey", "DisableKey", "ScheduleKeyDeletion"] {
        assert_eq!(
            code(&rig, operation, key.clone()).await,
            "KMSInvalidStateException",
            "{operation}"
        );
    }
    rig.restart().await;
    assert_eq!(code(&rig, "Decrypt", open(json!({"a": "bc"}))).await, "KMSInvalidStateException");
    rig.good(&owner, "CancelKeyDeletion", key.clone()).await;
    assert_eq!(code(&rig, "Decrypt", open(json!({"a": "bc"}))).await, "DisabledException");
    rig.kms(&owner, "EnableKey", key).await;
    assert_eq!(
        rig.good(&owner, "Decrypt", open(json!({"a": "bc"}))).await["Plaintext"],
        "c2VjcmV0"
    );
    for (bytes, wanted) in [(1, 200), (1024, 200), (1025, 400)] {
        let input = json!({"KeyId": arn, "NumberOfBytes": bytes});
        let answer = rig.kms(&owner, "GenerateDataKey", input).await;
        assert_eq!(answer.status, wanted, "{bytes}: {}", answer.text);
    }
    // A key that is not there, one of another Region, a bare name.
    let absent = arn.replace(&arn[arn.len() - 4..], "0000");
    for (id, wanted) in [
        (absent.as_str(), "NotFoundException"),
        (&arn.replace(REGION, "eu-west-1"), "NotFoundException"),
        ("not-a-key", "NotFoundException"),
        ("alias/nowhere", "NotFoundException"),
    ] {
        assert_eq!(code(&rig, "DescribeKey", json!({"KeyId": id})).await, wanted, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_refused_that_lock_out_or_name_nobody() {
    let rig = Rig::new().await;
    let owner = user(OWNER);
    let code = async |policy: Value| {
        rig.kms(&owner, "CreateKey", json!({"Policy": policy.to_string()})).await.code()
    };
    let malformed = "MalformedPolicyDocumentException";
    let absent = policy(Some("arn:aws:iam::444455556666:role/absent"));
    assert_eq!(code(absent).await, malformed);
    let placeholder = policy(Some("<TENANT-ROLE-ARN>"));
    assert_eq!(code(placeholder).await, malformed);
    let locked = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{CUSTOMER}:root")},
        "Action": "kms:Decrypt", "Resource": "*"}]});
    assert_eq!(code(locked.clone()).await, malformed);
    let bypass = json!({"Policy": locked.to_string(), "BypassPolicyLockoutSafetyCheck": true});
    assert_eq!(rig.kms(&owner, "CreateKey", bypass).await.status, 200);
    assert_eq!(rig.kms(&owner, "CreateKey", json!({"Policy": "{"})).await.code(), malformed);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_half_requests_do_no_harm() {
    let rig = Rig::new().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
        b"POST /a?b HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        b"NONSENSE\r\n\r\n",
    ] {
        let answer = rig.raw(bytes).await;
        assert!(answer.status == 0 || (400..500).contains(&answer.status), "{answer:?}");
    }
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(tokio::net::TcpStream::connect(rig.at).await.expect("connects"));
    }
    let long = format!("{{\"Description\": \"{}\"}}", "x".repeat(5 << 20));
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "TrentService.CreateKey"),
    ];
    let answer = rig.send(&user(OWNER), "kms", &headers, &long, now_ms(), |t| t).await;
    assert!(answer.status == 413 || answer.status == 0, "{answer:?}");
    for body in ["", "[", "[]", "null", "{\"Unknown\": 1}", "{\"KeyId\": 5}"] {
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", "TrentService.DescribeKey"),
        ];
        let answer = rig.send(&user(OWNER), "kms", &headers, body, now_ms(), |t| t).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
    }
    let started = std::time::Instant::now();
    assert_eq!(rig.kms(&user(OWNER), "ListKeys", json!({})).await.status, 200);
    assert!(started.elapsed().as_millis() < 2000, "idle connections slow others down");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_chunks_is_the_body_that_was_signed() {
    let rig = Rig::new().await;
    let owner = user(OWNER);
    let send = async |chunks: &'static str| {
        let spoil = |text: String| {
            let head = text.replace("content-length: 2", "transfer-encoding: chunked");
            head.replace("\r\n\r\n{}", &format!("\r\n\r\n{chunks}"))
        };
        rig.send(&owner, "kms", &HEADERS, "{}", now_ms(), spoil).await
    };
    assert_eq!(send("1\r\n{\r\n1\r\n}\r\n0\r\n\r\n").await.status, 200);
    assert_eq!(send("2\r\n[]\r\n0\r\n\r\n").await.code(), "InvalidSignatureException");
    // A target said twice, or one that the signature does not cover.
    for (place, more) in [
        ("content-type:", "x-amz-target: TrentService.CreateKey\r\ncontent-type:"),
        ("content-type:", "x-amz-other: 1\r\ncontent-type:"),
        ("content-type:", "host: elsewhere\r\ncontent-type:"),
    ] {
        let spoil = |text: String| text.replacen(place, more, 1);
        let answer = rig.send(&owner, "kms", &HEADERS, "{}", now_ms(), spoil).await;
        assert!((400..500).contains(&answer.status), "{more}: {answer:?}");
    }
    let enclave = json!({"KeyId": rig.make_key(None).await, "KeySpec": "AES_256",
        "Recipient": {"AttestationDocument": "AAAA"}});
    let refused = rig.kms(&owner, "GenerateDataKey", enclave).await;
    assert_eq!(refused.code(), "UnsupportedOperationException");
}
