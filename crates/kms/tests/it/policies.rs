//! Policies that are not taken, and conditions that do not hold (contract 3.2, 3.3, 3.6).

use crate::contract::{allow, assume, closed, put, refused};
use crate::rig::{CUSTOMER, OWNER, PROVIDER, REGION, Rig, user};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_are_refused() {
    let rig = Rig::new().await;
    let role = rig.make_role("tenant").await;
    let key = rig.make_key(Some(closed(&[]))).await;
    let before = rig.good(&user(OWNER), "GetKeyPolicy", json!({"KeyId": key})).await;
    let principal = |p: Value| {
        let mut statement = allow("*", "kms:*");
        statement["Principal"] = p;
        closed(&[statement])
    };
    let with = |member: &str, value: Value| {
        let mut statement = allow("*", "kms:*");
        statement[member] = value;
        closed(&[statement])
    };
    let whole = |member: &str, value: Value| {
        let mut policy = closed(&[]);
        policy[member] = value;
        policy
    };
    let mut no_principal = allow("*", "kms:*");
    no_principal.as_object_mut().expect("an object").remove("Principal");
    let iam = |what: &str| json!({"AWS": format!("arn:aws:iam::{PROVIDER}:{what}")});
    let sts = |what: &str| json!({"AWS": format!("arn:aws:sts::{PROVIDER}:{what}")});
    let bad: Vec<Value> = vec![
        // Principals: who does not exist, who is spelt otherwise, what is no principal.
        principal(iam("role/absent")),
        principal(iam("user/absent")),
        principal(iam("role/Tenant")),
        principal(iam("role/path/tenant")),
        principal(iam("role/*")),
        principal(iam("role/ten?nt")),
        principal(iam("group/all")),
        principal(iam("*")),
        principal(json!({"AWS": "999988887777"})),
        principal(json!({"AWS": "arn:aws:iam::999988887777:root"})),
        principal(json!({"AWS": "arn:aws:iam::*:root"})),
        principal(json!({"AWS": [role, "nobody"]})),
        principal(json!({"AWS": []})),
        principal(json!({"Service": "*"})),
        principal(json!({"User": role})),
        principal(json!({})),
        principal(json!(role)),
        principal(sts("assumed-role/tenant/*")),
        principal(sts("assumed-role/tenant")),
        closed(&[no_principal]),
        with("NotPrincipal", json!("*")),
        // Statements.
        with("Effect", json!("allow")),
        with("Effect", json!(null)),
        with("Action", json!("Decrypt")),
        with("Action", json!("")),
        with("NotAction", json!("kms:*")),
        with("NotResource", json!("*")),
        with("Actions", json!("kms:*")),
        with("Condition", json!({"StringIs": {"aws:username": "a"}})),
        with("Condition", json!({"StringEquals": {"aws:username": []}})),
        with("Condition", json!({"NullIfExists": {"aws:username": "true"}})),
        with("Condition", json!({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/33"}})),
        with("Condition", json!({"DateLessThan": {"aws:CurrentTime": "tomorrow"}})),
        with("Condition", json!({"NumericLessThan": {"kms:X": "few"}})),
        with("Condition", json!({"Bool": {"aws:SecureTransport": "yes"}})),
        // Documents.
        whole("Version", json!("2012-10-18")),
        whole("Version", json!(2012)),
        whole("Statement", json!([])),
        whole("Statement", json!("all")),
        whole("Statements", json!([])),
    ];
    let long = |filler: usize| with("Sid", json!("x".repeat(filler)));
    let exact = 32_768 - long(0).to_string().len();
    let malformed = bad.into_iter().map(|p| (p.to_string(), "MalformedPolicyDocumentException"));
    let texts = [
        ("[]".to_owned(), "MalformedPolicyDocumentException"),
        ("{".to_owned(), "MalformedPolicyDocumentException"),
        (long(exact + 1).to_string(), "LimitExceededException"),
        (long(131_072).to_string(), "ValidationException"),
        (with("Sid", json!("\u{100}")).to_string(), "ValidationException"),
        (format!("{}\u{b}", closed(&[])), "ValidationException"),
        (String::new(), "ValidationException"),
    ];
    for (text, wanted) in malformed.chain(texts) {
        let shown: String = text.chars().take(300).collect();
        for (operation, mut input) in
            [("CreateKey", json!({})), ("PutKeyPolicy", json!({"KeyId": key}))]
        {
            input["Policy"] = text.as_str().into();
            // What is no policy is none for who may lock himself out either.
            input["BypassPolicyLockoutSafetyCheck"] = true.into();
            let answer = rig.kms(&user(OWNER), operation, input).await;
            assert_eq!(answer.code(), wanted, "{operation} {shown}: {}", answer.text);
        }
    }
    let after = rig.good(&user(OWNER), "GetKeyPolicy", json!({"KeyId": key})).await;
    assert_eq!(after, before);
    let listed = rig.good(&user(OWNER), "ListKeys", json!({})).await;
    assert_eq!(listed["Keys"].as_array().expect("a list").len(), 1);
    put(&rig, &key, &long(exact)).await;
    for (name, wanted) in [("AWS_RAM", "ValidationException"), ("mine", "NotFoundException")] {
        let input = json!({"KeyId": key, "Policy": closed(&[]).to_string(), "PolicyName": name});
        assert_eq!(rig.kms(&user(OWNER), "PutKeyPolicy", input).await.code(), wanted);
    }
    let input = json!({"KeyId": key, "PolicyName": "mine"});
    assert_eq!(rig.kms(&user(OWNER), "GetKeyPolicy", input).await.code(), "NotFoundException");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_that_do_not_hold() {
    let rig = Rig::new().await;
    let role = rig.make_role("tenant").await;
    let session = assume(&rig, &role, "s-1", None).await;
    let key = rig.make_key(Some(closed(&[]))).await;
    let seal = |context: Value| {
        ("Encrypt", json!({"KeyId": key, "Plaintext": "AAAA", "EncryptionContext": context}))
    };
    let grant = |operations: Value, pairs: Value| {
        (
            "CreateGrant",
            json!({"KeyId": key, "GranteePrincipal": role, "Operations": operations,
            "Constraints": {"EncryptionContextSubset": pairs}}),
        )
    };
    let plain = seal(json!({}));
    let one = seal(json!({"tenant": "1"}));
    let granted = grant(json!(["Decrypt"]), json!({"tenant": "1"}));
    // What is refused, and what is let through, if anything here can be.
    type Call = (&'static str, Value);
    let rows: Vec<(Value, Call, Option<Call>)> = vec![
        (
            json!({"StringEquals": {"kms:EncryptionContext:tenant": "1"}}),
            seal(json!({"tenant": "2"})),
            Some(one.clone()),
        ),
        (
            json!({"StringEquals": {"kms:EncryptionContext:tenant": "1"}}),
            plain.clone(),
            Some(one.clone()),
        ),
        (
            json!({"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": "tenant"}}),
            seal(json!({"tenant": "1", "more": "2"})),
            Some(one.clone()),
        ),
        (
            json!({"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "tenant"}}),
            seal(json!({"Tenant": "1"})),
            Some(one.clone()),
        ),
        (json!({"StringEquals": {"kms:CallerAccount": CUSTOMER}}), plain.clone(), None),
        (
            json!({"StringEquals": {"kms:ViaService": format!("ec2.{REGION}.amazonaws.com")}}),
            plain.clone(),
            None,
        ),
        (json!({"Bool": {"aws:SecureTransport": "true"}}), plain.clone(), None),
        (json!({"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}}), plain.clone(), None),
        (json!({"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}), plain.clone(), None),
        // Of a session the role's ARN, never the session's.
        (
            json!({"ArnLike": {"aws:PrincipalArn": format!("arn:aws:sts::{PROVIDER}:*")}}),
            plain.clone(),
            None,
        ),
        (json!({"ArnNotEquals": {"aws:PrincipalArn": role}}), plain.clone(), None),
        (json!({"Bool": {"kms:GrantIsForAWSResource": "true"}}), granted.clone(), None),
        (
            json!({"ForAllValues:StringEquals": {"kms:GrantOperations": ["Decrypt"]}}),
            grant(json!(["Decrypt", "Encrypt"]), json!({"tenant": "1"})),
            Some(granted.clone()),
        ),
        (
            json!({"StringEquals": {"kms:GrantConstraintType": "EncryptionContextEquals"}}),
            granted.clone(),
            None,
        ),
        (
            json!({"StringEquals": {"kms:EncryptionContext:tenant": "1"}}),
            grant(json!(["Decrypt"]), json!({"tenant": "2"})),
            Some(granted.clone()),
        ),
        (json!({"StringNotEquals": {"kms:GranteePrincipal": role}}), granted.clone(), None),
        // An IfExists that is there, and two conditions of which one holds.
        (json!({"StringEqualsIfExists": {"kms:CallerAccount": CUSTOMER}}), plain.clone(), None),
        (
            json!({"StringEquals": {"kms:CallerAccount": PROVIDER, "kms:EncryptionContext:tenant": "1"}}),
            plain,
            Some(one),
        ),
    ];
    for (number, (condition, no, yes)) in rows.into_iter().enumerate() {
        let mut statement = allow(&role, "kms:*");
        statement["Condition"] = condition;
        put(&rig, &key, &closed(&[statement])).await;
        let answer = rig.kms(&session, no.0, no.1).await;
        refused(&answer, "explicitly denies access", &format!("row {number}"));
        if let Some((operation, input)) = yes {
            let answer = rig.kms(&session, operation, input).await;
            assert_eq!(answer.status, 200, "row {number}: {}", answer.text);
            // What was granted on the way is not what lets the next row through.
            let id = answer.json()["GrantId"].clone();
            if id.is_string() {
                rig.good(&user(OWNER), "RevokeGrant", json!({"KeyId": key, "GrantId": id})).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_locks_its_author_out_is_not_put() {
    let rig = Rig::new().await;
    let owner = user(OWNER);
    let role = rig.make_role("tenant").await;
    let key = rig.make_key(None).await;
    let before = rig.good(&owner, "GetKeyPolicy", json!({"KeyId": key})).await;
    // A grant does not help: PutKeyPolicy is no grant operation.
    let admin = format!("arn:aws:iam::{CUSTOMER}:user/administrator");
    let granted = json!({"KeyId": key, "GranteePrincipal": admin, "Operations": ["CreateGrant"]});
    rig.good(&owner, "CreateGrant", granted).await;
    let of = |statements: Value| json!({"Version": "2012-10-17", "Statement": statements});
    let mut deny = allow("*", "kms:PutKeyPolicy");
    deny["Effect"] = "Deny".into();
    let mut from_elsewhere = allow(&admin, "kms:*");
    from_elsewhere["Condition"] = json!({"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}});
    for policy in [
        of(json!([allow(CUSTOMER, "kms:Decrypt")])),
        of(json!([allow(&role, "kms:*")])),
        of(json!([allow(PROVIDER, "kms:*")])),
        of(json!([allow(&format!("arn:aws:iam::{CUSTOMER}:user/nobody"), "kms:*")])),
        of(json!([allow(CUSTOMER, "kms:*"), deny])),
        of(json!([from_elsewhere])),
    ] {
        let mut input = json!({"KeyId": key, "Policy": policy.to_string()});
        let answer = rig.kms(&owner, "PutKeyPolicy", input.clone()).await;
        assert_eq!(answer.code(), "MalformedPolicyDocumentException", "{policy}");
        let text = "The new key policy will not allow you to update the key policy in the future.";
        assert_eq!(answer.json()["message"], text, "{policy}");
        input["BypassPolicyLockoutSafetyCheck"] = true.into();
        input.as_object_mut().expect("an object").remove("KeyId");
        assert_eq!(rig.kms(&owner, "CreateKey", input).await.status, 200, "{policy}");
    }
    assert_eq!(rig.good(&owner, "GetKeyPolicy", json!({"KeyId": key})).await, before);
}
